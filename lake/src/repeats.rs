//! Rows that are one record, delivered several times: found while files are merged.
//!
//! A sender that lost an answer sends its records again, maybe in other requests and other bytes, so that the
//! window of request hashes does not know them. What makes a record the same record is stated by table
//! ([`Table::identity`]). Rows with equal sort keys stand together once they are sorted; only those are compared,
//! a bounded number at a time, so the memory beside the input is one chunk. Of equal rows the first stays: the
//! one that arrived first, where the table knows, else the one of the file that was written first.
//!
//! It does not look beyond the files of one merge: two copies in files that are never merged stay two rows.
//! Calls and ledger do not depend on it; settlement counts an observation once wherever it stands.
//!
//! [`Table::identity`]: crate::tables::Table::identity

use std::cmp::Ordering;
use std::ops::Range;

use arrow::array::{ArrayRef, DynComparator, RecordBatch, make_comparator};
use arrow::compute::{SortOptions, interleave_record_batch};

use crate::error::{Context, Result};
use crate::options::GATHER_ROWS;
use crate::tables::Identity;

/// Rows of one sort key that are compared with each other at most: among more, copies that are further apart
/// are not found. A record's copies have the same time, so they are neighbours in any honest table.
const RUN_ROWS_MAX: usize = 65_536;

/// Finds the rows that repeat an earlier one of `order`, which is sorted: `true` for each that does.
///
/// `locate` gives a row's batch and its place there; `same_key` tells whether two rows have equal sort keys.
///
/// # Errors
/// `Internal` if a batch lacks a column of the identity, or Arrow cannot compare it.
pub(crate) fn find(
    batches: &[RecordBatch],
    order: &[u32],
    locate: impl Fn(u32) -> (usize, usize),
    same_key: impl Fn(u32, u32) -> bool,
    identity: &Identity,
) -> Result<Vec<bool>> {
    let mut is_repeat = vec![false; order.len()];
    let Some(first) = batches.first() else {
        return Ok(is_repeat);
    };
    let columns = columns_of(first, identity)?;
    let projected: Vec<RecordBatch> = batches
        .iter()
        .map(|batch| batch.project(&columns))
        .collect::<std::result::Result<_, _>>()
        .or_internal(|| "cannot read the columns that tell records apart".to_owned())?;
    let projected: Vec<&RecordBatch> = projected.iter().collect();
    let mut mark = |runs: &[Range<usize>]| -> Result<()> {
        let positions: Vec<usize> = runs.iter().cloned().flatten().collect();
        let places: Vec<(usize, usize)> = positions.iter().map(|position| locate(order[*position])).collect();
        let rows = interleave_record_batch(&projected, &places)
            .or_internal(|| "cannot gather rows that may be one record".to_owned())?;
        let compared = Compared::new(&rows, identity)?;
        let mut start = 0;
        for run in runs {
            for repeat in compared.repeats(start..start + run.len()) {
                is_repeat[positions[repeat]] = true;
            }
            start += run.len();
        }
        Ok(())
    };
    let (mut runs, mut n_waiting, mut start) = (Vec::new(), 0, 0);
    for end in 1..=order.len() {
        let is_last = end == order.len();
        if !is_last && end - start < RUN_ROWS_MAX && same_key(order[end - 1], order[end]) {
            continue;
        }
        if end - start > 1 {
            runs.push(start..end);
            n_waiting += end - start;
        }
        if n_waiting >= GATHER_ROWS || is_last && !runs.is_empty() {
            mark(&runs)?;
            runs.clear();
            n_waiting = 0;
        }
        start = end;
    }
    Ok(is_repeat)
}

/// The columns of the identity, the one that tells which came first at the end.
fn columns_of(batch: &RecordBatch, identity: &Identity) -> Result<Vec<usize>> {
    let schema = batch.schema_ref();
    let Identity::Columns { names, first_by } = identity else {
        return Ok((0..schema.fields().len()).collect());
    };
    let names = names.iter().chain(first_by.iter());
    names
        .map(|name| schema.index_of(name))
        .collect::<std::result::Result<_, _>>()
        .or_internal(|| "a batch lacks a column that tells records apart".to_owned())
}

/// Rows to be compared.
struct Compared {
    same: Vec<DynComparator>,
    first_by: Option<DynComparator>,
}

impl Compared {
    fn new(rows: &RecordBatch, identity: &Identity) -> Result<Self> {
        let comparator = |column: &ArrayRef| {
            make_comparator(column, column, SortOptions::default())
                .or_internal(|| "cannot compare rows that may be one record".to_owned())
        };
        let mut same: Vec<DynComparator> = rows.columns().iter().map(comparator).collect::<Result<_>>()?;
        let has_first_by = matches!(identity, Identity::Columns { first_by: Some(_), .. });
        let first_by = if has_first_by { same.pop() } else { None };
        Ok(Self { same, first_by })
    }

    fn order(&self, left: usize, right: usize) -> Ordering {
        let mut comparisons = self.same.iter().map(|compare| compare(left, right));
        comparisons
            .find(|ordering| *ordering != Ordering::Equal)
            .unwrap_or(Ordering::Equal)
    }

    /// The rows of a run that repeat another of it.
    fn repeats(&self, run: Range<usize>) -> Vec<usize> {
        let mut rows: Vec<usize> = run.collect();
        rows.sort_by(|left, right| {
            let earlier = || match &self.first_by {
                Some(compare) => compare(*left, *right),
                None => Ordering::Equal,
            };
            self.order(*left, *right)
                .then_with(earlier)
                .then_with(|| left.cmp(right))
        });
        let pairs = rows.windows(2);
        pairs
            .filter(|pair| self.order(pair[0], pair[1]) == Ordering::Equal)
            .map(|pair| pair[1])
            .collect()
    }
}
