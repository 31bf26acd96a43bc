//! Sorting batches into files: which rows go to which (tenant, day), and in what order.
//!
//! Only the key columns are copied to sort; the rows themselves are gathered a chunk at a time while they
//! are written, so the memory beside the input is one chunk. Input that is already in order is not copied.

use std::cmp::Ordering;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, DynComparator, RecordBatch, make_comparator};
use arrow::compute::{SortColumn, SortOptions, concat, interleave_record_batch, lexsort_to_indices, partition, take};
use arrow::datatypes::Date32Type;

use crate::error::{Context, Error, Result};
use crate::options::GATHER_ROWS;

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
}

impl<'b> SortedRows<'b> {
    /// Finds the order by tenant, day and `sort_columns`.
    ///
    /// # Errors
    /// `Internal` if a batch lacks a key column or Arrow cannot sort it.
    pub(crate) fn new(batches: &'b [RecordBatch], sort_columns: &[&str]) -> Result<Self> {
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
        if !is_sorted(&keys, n_rows)? {
            let columns: Vec<SortColumn> = keys
                .into_iter()
                .map(|values| SortColumn {
                    values,
                    options: Some(SortOptions::default()),
                })
                .collect();
            let indices = lexsort_to_indices(&columns, None).or_internal(|| "cannot sort rows".to_owned())?;
            sorted.permutation = Some(indices.values().to_vec());
        }
        sorted.partitions = sorted.find_partitions(&tenant, &day, partitioned, n_rows)?;
        Ok(sorted)
    }

    /// The (tenant, day) groups, each of which becomes a file.
    pub(crate) fn partitions(&self) -> &[PartitionRows] {
        &self.partitions
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
                    let end = rows.end.min(position + GATHER_ROWS);
                    let indices: Vec<(usize, usize)> = permutation[position..end]
                        .iter()
                        .map(|row| self.locate(*row as usize))
                        .collect();
                    position = end;
                    let batches: Vec<&RecordBatch> = self.batches.iter().collect();
                    Some(
                        interleave_record_batch(&batches, &indices)
                            .or_internal(|| "cannot gather sorted rows".to_owned()),
                    )
                }
            }
        })
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
                let indices = arrow::array::UInt32Array::from(permutation.clone());
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
            vec![0..n_rows]
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

fn is_sorted(keys: &[ArrayRef], n_rows: usize) -> Result<bool> {
    let comparators: Vec<DynComparator> = keys
        .iter()
        .map(|key| make_comparator(key, key, SortOptions::default()))
        .collect::<Result<_, _>>()
        .or_internal(|| "cannot compare rows".to_owned())?;
    Ok((1..n_rows).all(|row| {
        comparators
            .iter()
            .map(|compare| compare(row - 1, row))
            .find(|ordering| *ordering != Ordering::Equal)
            != Some(Ordering::Greater)
    }))
}
