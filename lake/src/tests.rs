//! Tests of the lake as a whole, and what they share: rows made from a description, a replay that reads the
//! description back from the record, and a lake in a temporary folder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod compaction;
mod durability;
mod files;
mod flushing;
mod log;
mod power_loss;
mod retention;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, FixedSizeBinaryArray, RecordBatch, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::datatypes::TimestampMicrosecondType;
use bytes::Bytes;
use spanledger_model::{Clock, TenantId};
use tempfile::TempDir;

use crate::{Error, Lake, LakeOptions, Replay, Result, Table, TableRows, WalRecord};

/// 2026-11-22T00:00:00Z, microseconds.
pub(crate) const DAY_US: i64 = 1_795_305_600_000_000;
/// Microseconds of a day.
pub(crate) const ONE_DAY_US: i64 = 86_400_000_000;

/// A clock that only moves when told.
#[derive(Debug)]
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(DAY_US * 1_000)))
    }

    pub(crate) fn advance_ms(&self, by: i64) {
        self.0.fetch_add(by * 1_000_000, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now_ns(&self) -> i64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// Rows `first..first + n` of a table: row `i` has time `DAY_US + i` and ids made of `i`.
pub(crate) fn batch(table: Table, tenant: &str, first: i64, n_rows: usize) -> RecordBatch {
    let numbers: Vec<i64> = (first..).take(n_rows).collect();
    let schema = table.schema();
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| -> ArrayRef {
            match field.name().as_str() {
                "tenant" => Arc::new(StringArray::from(vec![tenant; n_rows])),
                "day" => Arc::new(Date32Array::from_iter_values(
                    numbers
                        .iter()
                        .map(|number| ((DAY_US + number).div_euclid(ONE_DAY_US)) as i32),
                )),
                "time" => Arc::new(
                    TimestampMicrosecondArray::from_iter_values(numbers.iter().map(|number| DAY_US + number))
                        .with_timezone("UTC"),
                ),
                "trace_id" => Arc::new(
                    FixedSizeBinaryArray::try_from_iter(numbers.iter().map(|number| i128::from(*number).to_be_bytes()))
                        .unwrap(),
                ),
                "span_id" => Arc::new(
                    FixedSizeBinaryArray::try_from_iter(numbers.iter().map(|number| number.to_be_bytes())).unwrap(),
                ),
                "observation_id" => Arc::new(
                    FixedSizeBinaryArray::try_from_iter(numbers.iter().map(|number| i128::from(*number).to_be_bytes()))
                        .unwrap(),
                ),
                "name" => Arc::new(StringArray::from_iter_values(
                    numbers.iter().map(|number| format!("name-{}", number % 7)),
                )),
                _ => new_null_array(field.data_type(), n_rows),
            }
        })
        .collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

/// What a test record says: `table:first:rows`, separated by spaces.
pub(crate) fn parse_rows(tenant: &str, text: &str) -> TableRows {
    text.split_whitespace()
        .map(|part| {
            let parts: Vec<&str> = part.split(':').collect();
            let table = Table::ALL.into_iter().find(|table| table.name() == parts[0]).unwrap();
            let batch = batch(table, tenant, parts[1].parse().unwrap(), parts[2].parse().unwrap());
            (table, batch)
        })
        .collect()
}

pub(crate) fn record(tenant: &str, text: &str) -> WalRecord {
    WalRecord {
        kind: 1,
        tenant: TenantId::from_credential(tenant),
        arrived_ns: DAY_US * 1_000,
        payload: Bytes::from(text.to_owned()),
    }
}

/// Makes the rows of a record again from its description.
pub(crate) struct TestReplay;

impl Replay for TestReplay {
    fn rows(&self, record: &WalRecord) -> Result<TableRows> {
        let text = std::str::from_utf8(&record.payload).map_err(|_| Error::corrupt("not a test record"))?;
        Ok(parse_rows(record.tenant.as_str(), text))
    }
}

/// Settings with which nothing happens by itself.
pub(crate) fn quiet_options(dir: &Path) -> LakeOptions {
    let mut options = LakeOptions {
        data_dir: dir.to_owned(),
        flush_interval_ms: 3_600_000,
        group_commit_window_us: 200,
        ..LakeOptions::default()
    };
    options.compaction.enabled = false;
    options
}

pub(crate) async fn open(dir: &TempDir) -> Lake {
    Lake::open(quiet_options(dir.path()), TestClock::new(), &TestReplay)
        .await
        .unwrap()
}

/// Sends a described record of the default tenant.
pub(crate) async fn send(lake: &Lake, text: &str) -> Result<crate::AcknowledgedBatch> {
    lake.append_batch(record("default", text), parse_rows("default", text))
        .await
}

fn numbers_of(batch: &RecordBatch) -> Vec<i64> {
    let time = batch.column_by_name("time").unwrap();
    time.as_primitive::<TimestampMicrosecondType>()
        .values()
        .iter()
        .map(|time| time - DAY_US)
        .collect()
}

/// The row numbers a snapshot of the table shows, in order.
pub(crate) async fn numbers(lake: &Lake, table: Table) -> Vec<i64> {
    let snapshot = lake.snapshot(table).unwrap();
    let mut numbers: Vec<i64> = snapshot.hot.iter().flat_map(numbers_of).collect();
    for file in snapshot.files.iter() {
        for rows in lake.read_file(table, file, Some(&["time"])).await.unwrap() {
            assert_eq!(rows.num_columns(), 1);
            numbers.extend(numbers_of(&rows));
        }
    }
    numbers.sort_unstable();
    numbers
}

/// The numbers of the rows `first..first + n`.
pub(crate) fn range(first: i64, n_rows: usize) -> Vec<i64> {
    (first..).take(n_rows).collect()
}

pub(crate) fn null_count(batch: &RecordBatch, name: &str) -> usize {
    batch.column_by_name(name).unwrap().null_count()
}
