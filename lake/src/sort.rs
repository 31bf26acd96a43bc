//! Sorting batches into files: which rows go to which (tenant, day), and in what order.
//!
//! Only the key columns are copied to sort; the rows themselves are gathered a chunk at a time while they
//! are written, so the memory beside the input is one chunk. Long runs of the input are not copied at all.

use std::cmp::Ordering;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, DynComparator, RecordBatch, UInt32Array, make_comparator};
use arrow::compute::{SortOptions, concat, interleave_record_batch, partition, take};
use arrow::datatypes::{Date32Type, TimestampMicrosecondType};

use crate::error::{Context, Error, Result};
use crate::options::{GATHER_ROWS, RUN_ROWS};
use crate::repeats;
use crate::tables::Identity;

/// Rows of one (tenant, day), in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionRows {
    pub(crate) tenant: String,
    /// Days since the Unix epoch.
    pub(crate) day: i32,
    /// Positions in the sorted order.
    pub(crate) rows: Range<usize>,
}

/// Batches with the order in which their rows are to be written.
pub(crate) struct SortedRows<'b> {
    batches: &'b [RecordBatch],
    /// Position of each batch's first row.
    starts: Vec<usize>,
    /// Row at each position; `None` where the input is in order.
    permutation: Option<Vec<u32>>,
    partitions: Vec<PartitionRows>,
    n_repeats: u64,
}

impl<'b> SortedRows<'b> {
    /// Finds the order by tenant, day and `sort_columns`.
    ///
    /// # Errors
    /// `Internal` if a batch lacks a key column or Arrow cannot sort it.
    pub(crate) fn new(batches: &'b [RecordBatch], sort_columns: &[&str]) -> Result<Self> {
        Self::build(batches, sort_columns, None)
    }

    /// The same, each record once: of rows that `identity` makes one record, only the first is written.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn unique(batches: &'b [RecordBatch], sort_columns: &[&str], identity: &Identity) -> Result<Self> {
        Self::build(batches, sort_columns, Some(identity))
    }

    fn build(batches: &'b [RecordBatch], sort_columns: &[&str], identity: Option<&Identity>) -> Result<Self> {
        let mut starts = Vec::with_capacity(batches.len());
        let mut n_rows = 0;
        for batch in batches {
            starts.push(n_rows);
            n_rows += batch.num_rows();
        }
        let mut sorted = Self {
            batches,
            starts,
            permutation: None,
            partitions: Vec::new(),
            n_repeats: 0,
        };
        if n_rows == 0 {
            return Ok(sorted);
        }
        let tenant = sorted.column("tenant")?;
        let day = sorted.column("day")?;
        let partitioned = !(all_equal(&tenant) && all_equal(&day));
        let mut keys: Vec<ArrayRef> = Vec::with_capacity(2 + sort_columns.len());
        if partitioned {
            keys.push(ArrayRef::clone(&tenant));
            keys.push(ArrayRef::clone(&day));
        }
        for name in sort_columns {
            keys.push(sorted.column(name)?);
        }
        let by_key = RowOrder::new(&keys)?;
        let mut order = by_key.sort(n_rows)?;
        if let Some(identity) = identity {
            let locate = |row: u32| sorted.locate(row as usize);
            let same_key = |left, right| by_key.compare(left, right) == Ordering::Equal;
            let is_repeat = repeats::find(batches, &order, locate, same_key, identity)?;
            let mut repeats = is_repeat.into_iter();
            order.retain(|_| !repeats.next().unwrap_or(false));
        }
        sorted.n_repeats = (n_rows - order.len()) as u64;
        let in_order = order
            .iter()
            .enumerate()
            .all(|(position, row)| position == *row as usize);
        let n_kept = order.len();
        sorted.permutation = (!in_order || n_kept < n_rows).then_some(order);
        sorted.partitions = sorted.find_partitions(&tenant, &day, partitioned, n_kept)?;
        Ok(sorted)
    }

    /// The (tenant, day) groups, each of which becomes a file.
    pub(crate) fn partitions(&self) -> &[PartitionRows] {
        &self.partitions
    }

    /// Rows that are left out because they repeat another.
    pub(crate) fn n_repeats(&self) -> u64 {
        self.n_repeats
    }

    /// The rows at these positions, in order, a chunk at a time.
    pub(crate) fn chunks(&self, rows: Range<usize>) -> impl Iterator<Item = Result<RecordBatch>> + '_ {
        let mut position = rows.start;
        std::iter::from_fn(move || {
            if position >= rows.end {
                return None;
            }
            match &self.permutation {
                None => {
                    let (batch_idx, row) = self.locate(position);
                    let batch = &self.batches[batch_idx];
                    let n_rows = (batch.num_rows() - row).min(rows.end - position);
                    position += n_rows;
                    Some(Ok(batch.slice(row, n_rows)))
                }
                Some(permutation) => {
                    let (chunk, n_rows) = self.gather(&permutation[position..rows.end]);
                    position += n_rows;
                    Some(chunk)
                }
            }
        })
    }

    /// The next rows of a part of the permutation, and how many: a slice where the input has a long run,
    /// else a copy of the rows up to the next one.
    fn gather(&self, order: &[u32]) -> (Result<RecordBatch>, usize) {
        let n_run = self.run_len(order);
        if n_run >= RUN_ROWS {
            let (batch_idx, row) = self.locate(order[0] as usize);
            return (Ok(self.batches[batch_idx].slice(row, n_run)), n_run);
        }
        let mut n_rows = n_run;
        while n_rows < order.len().min(GATHER_ROWS) {
            let n_run = self.run_len(&order[n_rows..]);
            if n_run >= RUN_ROWS {
                break;
            }
            n_rows += n_run;
        }
        let indices: Vec<(usize, usize)> = order[..n_rows].iter().map(|row| self.locate(*row as usize)).collect();
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let chunk = interleave_record_batch(&batches, &indices).or_internal(|| "cannot gather sorted rows".to_owned());
        (chunk, n_rows)
    }

    /// How many rows from the first follow each other in one batch.
    fn run_len(&self, order: &[u32]) -> usize {
        let Some(first) = order.first() else { return 0 };
        let (batch_idx, row) = self.locate(*first as usize);
        let n_left = self.batches[batch_idx].num_rows() - row;
        let n_run = order
            .windows(2)
            .take(n_left.saturating_sub(1))
            .take_while(|pair| pair[0].checked_add(1) == Some(pair[1]))
            .count();
        n_run + 1
    }

    fn locate(&self, row: usize) -> (usize, usize) {
        let batch_idx = self.starts.partition_point(|start| *start <= row) - 1;
        (batch_idx, row - self.starts[batch_idx])
    }

    fn column(&self, name: &str) -> Result<ArrayRef> {
        let parts: Vec<&dyn Array> = self
            .batches
            .iter()
            .map(|batch| batch.column_by_name(name).map(AsRef::as_ref))
            .collect::<Option<_>>()
            .ok_or_else(|| Error::internal(format!("a batch has no column {name}")))?;
        match self.batches {
            [only] => Ok(ArrayRef::clone(
                &only.columns()[only.schema_ref().index_of(name).unwrap_or(0)],
            )),
            _ => concat(&parts).or_internal(|| format!("cannot join the column {name}")),
        }
    }

    fn find_partitions(
        &self,
        tenant: &ArrayRef,
        day: &ArrayRef,
        partitioned: bool,
        n_rows: usize,
    ) -> Result<Vec<PartitionRows>> {
        let (tenant, day) = match (&self.permutation, partitioned) {
            (Some(permutation), true) => {
                let indices = UInt32Array::from(permutation.clone());
                let sorted = |column: &ArrayRef| {
                    take(column, &indices, None).or_internal(|| "cannot gather sorted keys".to_owned())
                };
                (sorted(tenant)?, sorted(day)?)
            }
            _ => (ArrayRef::clone(tenant), ArrayRef::clone(day)),
        };
        let ranges = if partitioned {
            partition(&[ArrayRef::clone(&tenant), ArrayRef::clone(&day)])
                .or_internal(|| "cannot partition rows".to_owned())?
                .ranges()
        } else {
            std::iter::once(0..n_rows).collect()
        };
        let (Some(tenants), Some(days)) = (tenant.as_string_opt::<i32>(), day.as_primitive_opt::<Date32Type>()) else {
            return Err(Error::internal("tenant must be Utf8 and day must be Date32"));
        };
        Ok(ranges
            .into_iter()
            .map(|rows| PartitionRows {
                tenant: tenants.value(rows.start).to_owned(),
                day: days.value(rows.start),
                rows,
            })
            .collect())
    }
}

fn all_equal(column: &ArrayRef) -> bool {
    if let Some(strings) = column.as_string_opt::<i32>() {
        let first = strings.value(0);
        return (1..strings.len()).all(|row| strings.value(row) == first);
    }
    match column.as_primitive_opt::<Date32Type>() {
        Some(days) => days.values().iter().all(|day| *day == days.values()[0]),
        None => false,
    }
}

/// The rows' order by the keys.
struct RowOrder<'k> {
    /// The first key is nearly always the time: compared without a call.
    times: Option<&'k [i64]>,
    comparators: Vec<DynComparator>,
}

impl<'k> RowOrder<'k> {
    fn new(keys: &'k [ArrayRef]) -> Result<Self> {
        let times: Option<&[i64]> = keys
            .first()
            .filter(|key| key.null_count() == 0)
            .and_then(|key| key.as_primitive_opt::<TimestampMicrosecondType>())
            .map(|times| &**times.values());
        let comparators = keys
            .iter()
            .skip(usize::from(times.is_some()))
            .map(|key| make_comparator(key, key, SortOptions::default()))
            .collect::<Result<_, _>>()
            .or_internal(|| "cannot compare rows".to_owned())?;
        Ok(Self { times, comparators })
    }

    fn compare(&self, left: u32, right: u32) -> Ordering {
        match self.times {
            Some(times) => times[left as usize]
                .cmp(&times[right as usize])
                .then_with(|| self.compare_others(left, right)),
            None => self.compare_others(left, right),
        }
    }

    fn compare_others(&self, left: u32, right: u32) -> Ordering {
        self.comparators
            .iter()
            .map(|compare| compare(left as usize, right as usize))
            .find(|ordering| *ordering != Ordering::Equal)
            .unwrap_or(Ordering::Equal)
    }

    /// A stable sort that merges the runs it finds, for the rows arrive as runs.
    fn sort(&self, n_rows: usize) -> Result<Vec<u32>> {
        let n_rows = u32::try_from(n_rows).map_err(|_| Error::internal("too many rows to sort at once"))?;
        let mut order: Vec<u32> = (0..n_rows).collect();
        order.sort_by(|left, right| self.compare(*left, *right));
        Ok(order)
    }
}
