//! The hot buffer of one table: acknowledged rows that are not in a file yet, as they arrived.
//!
//! Small batches are joined as they pile up, sixteen at a time, so that a stream of one-row requests does
//! not become thousands of batches of eighty columns; a row is copied at most twice for it.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

/// Batches below this many rows are joined.
const SMALL_ROWS: usize = 256;
/// Small batches of one level that become one of the next.
const JOIN_BATCHES: usize = 16;
/// Level of a batch that is large enough to stay.
const SETTLED_LEVEL: u8 = u8::MAX;

/// Rows in memory, oldest first.
#[derive(Debug, Default)]
pub(crate) struct HotRows {
    batches: Vec<(RecordBatch, u8)>,
    n_rows: usize,
    n_bytes: usize,
}

impl HotRows {
    pub(crate) fn push(&mut self, batch: RecordBatch) {
        self.n_rows += batch.num_rows();
        self.n_bytes += batch.get_array_memory_size();
        let level = if batch.num_rows() < SMALL_ROWS {
            0
        } else {
            SETTLED_LEVEL
        };
        self.batches.push((batch, level));
        while self.join_tail() {}
    }

    fn join_tail(&mut self) -> bool {
        let Some(level) = self
            .batches
            .last()
            .map(|last| last.1)
            .filter(|level| *level != SETTLED_LEVEL)
        else {
            return false;
        };
        let Some(start) = self.batches.len().checked_sub(JOIN_BATCHES) else {
            return false;
        };
        let tail = &self.batches[start..];
        if tail.iter().any(|batch| batch.1 != level) {
            return false;
        }
        // A failure to join costs speed only: the batches stay as they are.
        let Ok(joined) = concat_batches(tail[0].0.schema_ref(), tail.iter().map(|batch| &batch.0)) else {
            return false;
        };
        let n_bytes_before: usize = tail.iter().map(|batch| batch.0.get_array_memory_size()).sum();
        self.n_bytes = (self.n_bytes + joined.get_array_memory_size()).saturating_sub(n_bytes_before);
        let level = if joined.num_rows() < SMALL_ROWS {
            level + 1
        } else {
            SETTLED_LEVEL
        };
        self.batches.truncate(start);
        self.batches.push((joined, level));
        true
    }

    pub(crate) fn batches(&self) -> impl Iterator<Item = &RecordBatch> {
        self.batches.iter().map(|batch| &batch.0)
    }

    pub(crate) fn into_batches(self) -> Vec<RecordBatch> {
        self.batches.into_iter().map(|batch| batch.0).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.n_rows
    }

    pub(crate) fn n_bytes(&self) -> usize {
        self.n_bytes
    }
}
