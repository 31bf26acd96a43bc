//! Carried ledger lines in a merge: lines that say the same are summed into one.
//!
//! Settlement appends what new calls add to a carried line (`call_id` NULL) as a further line. A merge of files
//! writes the sum of them instead: of every column but `line_id`, `settled_at` and the measures the lines are
//! equal, so every sum by any of them stays what it was. Charges and reversals stay apart; the sum keeps the id of
//! the line that was settled first and the time of the one settled last.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Decimal128Type, Int64Type, TimestampMicrosecondType};
use arrow::row::{RowConverter, SortField};
use hashbrown::HashMap;

use crate::error::{Context, Error, Result};

const COUNTS: [&str; 3] = ["n_calls", "tokens", "quantity"];
const COSTS: [&str; 3] = ["list_cost", "contracted_cost", "effective_cost"];
/// Columns in which lines that are summed may differ.
const APART: [&str; 2] = ["line_id", "settled_at"];

/// What a line's measures add up to; which of them it has is part of what it says.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    counts: [Option<i64>; 3],
    costs: [Option<i128>; 3],
    settled_us: i64,
}

/// Where the first line of a sum stands: batch and row.
type Place = (usize, usize);

/// Sums the carried lines of some batches, in the order in which they were written. Also how many rows went into
/// others.
///
/// # Errors
/// `Corrupt` if a batch lacks a column of the ledger; `Internal` if Arrow cannot compare them.
pub(crate) fn sum(batches: Vec<RecordBatch>) -> Result<(Vec<RecordBatch>, u64)> {
    let Some(first) = batches.first() else {
        return Ok((batches, 0));
    };
    let schema = first.schema();
    let is_said = |name: &str| !COUNTS.contains(&name) && !COSTS.contains(&name) && !APART.contains(&name);
    let said: Vec<usize> = (0..schema.fields().len())
        .filter(|at| is_said(schema.field(*at).name()))
        .collect();
    let fields = said
        .iter()
        .map(|at| SortField::new(schema.field(*at).data_type().clone()))
        .collect();
    let comparable = || "cannot compare ledger lines".to_owned();
    let converter = RowConverter::new(fields).or_internal(comparable)?;
    let mut firsts: HashMap<(Box<[u8]>, u8), Place> = HashMap::new();
    let mut sums: HashMap<Place, Sum> = HashMap::new();
    let mut kept: Vec<Vec<bool>> = Vec::with_capacity(batches.len());
    let mut n_summed = 0;
    for (at, batch) in batches.iter().enumerate() {
        let call_id = column(batch, "call_id")?;
        let mut keep = vec![true; batch.num_rows()];
        if call_id.null_count() > 0 {
            let measures = Measures::of(batch)?;
            let columns: Vec<ArrayRef> = said.iter().map(|column| Arc::clone(batch.column(*column))).collect();
            let rows = converter.convert_columns(&columns).or_internal(comparable)?;
            for row in (0..batch.num_rows()).filter(|row| call_id.is_null(*row)) {
                let sum = measures.get(row);
                let key = (Box::from(rows.row(row).as_ref()), sum.present());
                match firsts.get(&key).copied() {
                    None => {
                        firsts.insert(key, (at, row));
                    }
                    Some(place) => {
                        let first = match sums.get(&place) {
                            Some(first) => *first,
                            None => Measures::of(&batches[place.0])?.get(place.1),
                        };
                        let Some(added) = first.and(&sum) else { continue };
                        sums.insert(place, added);
                        keep[row] = false;
                        n_summed += 1;
                    }
                }
            }
        }
        kept.push(keep);
    }
    if n_summed == 0 {
        return Ok((batches, 0));
    }
    let written = batches.into_iter().zip(kept).enumerate().map(|(at, (batch, keep))| {
        let batch = with_sums(&batch, |row| sums.get(&(at, row)).copied())?;
        filter_record_batch(&batch, &BooleanArray::from(keep)).or_internal(comparable)
    });
    Ok((written.collect::<Result<_>>()?, n_summed))
}

impl Sum {
    /// Which measures there are, a bit each.
    fn present(&self) -> u8 {
        let there = self
            .counts
            .iter()
            .map(Option::is_some)
            .chain(self.costs.iter().map(Option::is_some));
        there
            .enumerate()
            .fold(0, |bits, (at, there)| bits | u8::from(there) << at)
    }

    /// The sum of two that have the same measures; nothing where it leaves their range.
    fn and(&self, other: &Self) -> Option<Self> {
        let mut sum = Self {
            settled_us: self.settled_us.max(other.settled_us),
            ..*self
        };
        for (sum, other) in sum.counts.iter_mut().zip(other.counts) {
            if let (Some(sum), Some(other)) = (sum, other) {
                *sum = sum.checked_add(other)?;
            }
        }
        for (sum, other) in sum.costs.iter_mut().zip(other.costs) {
            if let (Some(sum), Some(other)) = (sum, other) {
                *sum = sum.checked_add(other)?;
            }
        }
        Some(sum)
    }
}

/// The measures of a batch.
struct Measures<'b> {
    counts: [&'b Int64Array; 3],
    costs: [&'b Decimal128Array; 3],
    settled: &'b TimestampMicrosecondArray,
}

impl<'b> Measures<'b> {
    fn of(batch: &'b RecordBatch) -> Result<Self> {
        let count = |name| {
            let typed = column(batch, name)?.as_primitive_opt::<Int64Type>();
            typed.ok_or_else(|| mistyped(name))
        };
        let cost = |name| {
            let typed = column(batch, name)?.as_primitive_opt::<Decimal128Type>();
            typed.ok_or_else(|| mistyped(name))
        };
        let settled = column(batch, "settled_at")?.as_primitive_opt::<TimestampMicrosecondType>();
        Ok::<_, Error>(Self {
            counts: [count(COUNTS[0])?, count(COUNTS[1])?, count(COUNTS[2])?],
            costs: [cost(COSTS[0])?, cost(COSTS[1])?, cost(COSTS[2])?],
            settled: settled.ok_or_else(|| mistyped("settled_at"))?,
        })
    }

    fn get(&self, row: usize) -> Sum {
        Sum {
            counts: self
                .counts
                .map(|column| column.is_valid(row).then(|| column.value(row))),
            costs: self.costs.map(|column| column.is_valid(row).then(|| column.value(row))),
            settled_us: self.settled.value(row),
        }
    }
}

/// The batch with other measures in some rows.
fn with_sums(batch: &RecordBatch, sum_of: impl Fn(usize) -> Option<Sum>) -> Result<RecordBatch> {
    let measures = Measures::of(batch)?;
    let rows: Vec<Sum> = (0..batch.num_rows())
        .map(|row| sum_of(row).unwrap_or_else(|| measures.get(row)))
        .collect();
    let mut columns = batch.columns().to_vec();
    let mut replace = |name: &str, array: ArrayRef| {
        if let Ok(at) = batch.schema_ref().index_of(name) {
            columns[at] = array;
        }
    };
    for (at, name) in COUNTS.into_iter().enumerate() {
        replace(
            name,
            Arc::new(rows.iter().map(|row| row.counts[at]).collect::<Int64Array>()),
        );
    }
    for (at, name) in COSTS.into_iter().enumerate() {
        let costs: Decimal128Array = rows.iter().map(|row| row.costs[at]).collect();
        replace(
            name,
            Arc::new(costs.with_data_type(measures.costs[at].data_type().clone())),
        );
    }
    let settled: TimestampMicrosecondArray = rows.iter().map(|row| Some(row.settled_us)).collect();
    replace(
        "settled_at",
        Arc::new(settled.with_data_type(measures.settled.data_type().clone())),
    );
    RecordBatch::try_new(batch.schema(), columns).or_internal(|| "cannot write summed ledger lines".to_owned())
}

fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef> {
    let found = batch.column_by_name(name);
    found.ok_or_else(|| Error::corrupt(format!("ledger has no column {name}: run `spanledger lake verify`")))
}

fn mistyped(name: &str) -> Error {
    Error::corrupt(format!(
        "column {name} of ledger has another type: run `spanledger lake verify`"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use spanledger_model::call::Dimensions;
    use spanledger_model::{Bucket, CallId, FemtoUsd, LedgerLine, LineId, LineKind, TenantId};

    use super::*;
    use crate::tables::ledger_lines::{from_batch, to_batch};

    fn line(id: u8, tool: &str, tokens: i64) -> LedgerLine {
        LedgerLine {
            tenant: TenantId::from_credential("default"),
            time_ns: 1_795_000_000_000_000_000,
            line_id: LineId([id; 16]),
            line_kind: LineKind::Charge,
            call_id: None,
            trace_id: None,
            span_id: None,
            dimensions: Arc::new(Dimensions::default()),
            provider: None,
            model: Some("m".into()),
            server: None,
            tool: Some(tool.into()),
            prompt: None,
            resource_uri: None,
            cause: "definition",
            history: false,
            touch: None,
            bucket: Bucket::CacheRead,
            method: "bytes",
            n_calls: 1,
            tokens: Some(tokens),
            quantity: None,
            list_cost: Some(FemtoUsd(i128::from(tokens) * 3)),
            contracted_cost: None,
            effective_cost: Some(FemtoUsd(i128::from(tokens) * 2)),
            price_id: None,
            price_version: None,
            settled_ns: i64::from(id) * 1_000_000,
        }
    }

    #[test]
    fn carried_lines_that_say_the_same_become_one_and_all_others_stay() {
        let of_a_call = LedgerLine {
            call_id: Some(CallId([1; 16])),
            ..line(4, "a", 100)
        };
        let reversal = LedgerLine {
            line_kind: LineKind::Reversal,
            tokens: Some(-100),
            ..line(5, "a", 100)
        };
        let unpriced = LedgerLine {
            effective_cost: None,
            ..line(6, "a", 100)
        };
        let batches = vec![
            to_batch(&[line(1, "a", 100), of_a_call.clone(), line(2, "b", 7)]),
            to_batch(&[reversal.clone(), line(3, "a", 11), of_a_call.clone(), unpriced.clone()]),
        ];
        let (summed, n_summed) = sum(batches).unwrap();
        let lines: Vec<LedgerLine> = summed.iter().flat_map(from_batch).collect();
        let one = LedgerLine {
            n_calls: 2,
            settled_ns: 3_000_000,
            ..line(1, "a", 111)
        };
        assert_eq!(n_summed, 1);
        assert_eq!(
            lines,
            [one, of_a_call.clone(), line(2, "b", 7), reversal, of_a_call, unpriced]
        );
    }

    #[test]
    fn a_sum_out_of_range_is_not_made() {
        let (summed, n_summed) = sum(vec![to_batch(&[
            line(1, "a", 1),
            line(2, "a", i64::MAX / 2),
            line(3, "a", i64::MAX / 2 + 9),
        ])])
        .unwrap();
        assert_eq!((n_summed, summed[0].num_rows()), (1, 2));
    }
}
