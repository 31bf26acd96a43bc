//! A table as it is known in memory: live files, transactions, and rows that are not in a file yet.
//!
//! The one place where a flush's rows change from hot to stored: [`TableState::apply`] adds the files and
//! drops the sealed rows under one lock, so a snapshot shows every row exactly once. Kept up to date from our
//! own commits; the log is read when the lake opens and when another writer took a version.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::data_file::DataFile;
use crate::hot::HotRows;
use crate::table_log::LogSnapshot;

/// A consistent look at one table.
#[derive(Debug, Clone)]
pub struct TableSnapshot {
    /// Version of the table in the log; -1 if it does not exist yet.
    pub version: i64,
    /// Live files.
    pub files: Arc<[DataFile]>,
    /// Acknowledged rows that are in none of the files.
    pub hot: Vec<RecordBatch>,
}

/// Rows on their way into files.
#[derive(Debug, Clone)]
pub(crate) struct SealedRows {
    pub(crate) batches: Arc<Vec<RecordBatch>>,
    /// Every row of this table up to this sequence is here or in a file.
    pub(crate) through: u64,
    pub(crate) n_rows: usize,
    pub(crate) n_bytes: usize,
}

/// Size and content of one table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TableSize {
    pub(crate) version: i64,
    pub(crate) n_files: usize,
    pub(crate) n_rows: u64,
    pub(crate) n_bytes: u64,
    pub(crate) n_hot_rows: usize,
    pub(crate) n_hot_bytes: usize,
}

/// A table in memory.
#[derive(Debug)]
pub(crate) struct TableState {
    version: i64,
    files: BTreeMap<String, DataFile>,
    n_rows: u64,
    n_bytes: u64,
    /// Built when asked for: a commit must not cost time for every live file.
    listing: Option<Arc<[DataFile]>>,
    txns: HashMap<String, i64>,
    hot: HotRows,
    sealed: Option<SealedRows>,
    /// Files that no version needs any more, with the time they were removed, nanoseconds since the epoch.
    removed: HashMap<String, i64>,
}

impl TableState {
    pub(crate) fn new(snapshot: Option<LogSnapshot>) -> Self {
        let snapshot = snapshot.unwrap_or(LogSnapshot {
            version: -1,
            ..LogSnapshot::default()
        });
        Self {
            version: snapshot.version,
            n_rows: snapshot.files.iter().map(|file| file.n_rows).sum(),
            n_bytes: snapshot.files.iter().map(|file| file.size_bytes).sum(),
            files: snapshot
                .files
                .into_iter()
                .map(|file| (file.path.clone(), file))
                .collect(),
            listing: None,
            txns: snapshot.txns,
            hot: HotRows::default(),
            sealed: None,
            removed: HashMap::new(),
        }
    }

    pub(crate) fn version(&self) -> i64 {
        self.version
    }

    pub(crate) fn txn_version(&self, app_id: &str) -> Option<i64> {
        self.txns.get(app_id).copied()
    }

    pub(crate) fn file(&self, path: &str) -> Option<&DataFile> {
        self.files.get(path)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &DataFile> {
        self.files.values()
    }

    pub(crate) fn removed_at_ns(&self, path: &str) -> Option<i64> {
        self.removed.get(path).copied()
    }

    pub(crate) fn forget_removed(&mut self, path: &str) {
        self.removed.remove(path);
    }

    pub(crate) fn snapshot(&mut self) -> TableSnapshot {
        let files = self
            .listing
            .get_or_insert_with(|| self.files.values().cloned().collect());
        let sealed = self.sealed.iter().flat_map(|sealed| sealed.batches.iter());
        TableSnapshot {
            version: self.version,
            files: Arc::clone(files),
            hot: sealed.chain(self.hot.batches()).cloned().collect(),
        }
    }

    /// Adds acknowledged rows.
    pub(crate) fn push_hot(&mut self, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.hot.push(batch);
        }
    }

    /// Sets the hot rows, which reach to sequence `through`, aside for a flush. The caller has seen to it
    /// that no earlier rows are still set aside.
    pub(crate) fn seal(&mut self, through: u64) {
        if self.sealed.is_some() || self.hot.is_empty() {
            return;
        }
        let hot = std::mem::take(&mut self.hot);
        self.sealed = Some(SealedRows {
            n_rows: hot.n_rows(),
            n_bytes: hot.n_bytes(),
            batches: Arc::new(hot.into_batches()),
            through,
        });
    }

    pub(crate) fn sealed(&self) -> Option<&SealedRows> {
        self.sealed.as_ref()
    }

    pub(crate) fn n_hot_bytes(&self) -> usize {
        self.hot.n_bytes() + self.sealed.as_ref().map_or(0, |sealed| sealed.n_bytes)
    }

    /// Makes the table what a commit says, in one step: files come and go, and sealed rows that the commit's
    /// transaction of `node` covers are dropped.
    pub(crate) fn apply(
        &mut self,
        version: i64,
        adds: impl IntoIterator<Item = DataFile>,
        removes: impl IntoIterator<Item = String>,
        txns: &[(String, i64)],
        node: &str,
        now_ns: i64,
    ) {
        self.version = version;
        self.listing = None;
        for path in removes {
            if let Some(file) = self.files.remove(&path) {
                self.n_rows = self.n_rows.saturating_sub(file.n_rows);
                self.n_bytes = self.n_bytes.saturating_sub(file.size_bytes);
                self.removed.insert(path, now_ns);
            }
        }
        for file in adds {
            self.n_rows += file.n_rows;
            self.n_bytes += file.size_bytes;
            self.removed.remove(&file.path);
            if let Some(before) = self.files.insert(file.path.clone(), file) {
                self.n_rows = self.n_rows.saturating_sub(before.n_rows);
                self.n_bytes = self.n_bytes.saturating_sub(before.size_bytes);
            }
        }
        for (app_id, txn_version) in txns {
            self.txns.insert(app_id.clone(), *txn_version);
            let covers =
                |sealed: &SealedRows| i64::try_from(sealed.through).is_ok_and(|through| through <= *txn_version);
            if app_id == node && self.sealed.as_ref().is_some_and(covers) {
                self.sealed = None;
            }
        }
    }

    pub(crate) fn size(&self) -> TableSize {
        TableSize {
            version: self.version,
            n_files: self.files.len(),
            n_rows: self.n_rows,
            n_bytes: self.n_bytes,
            n_hot_rows: self.hot.n_rows() + self.sealed.as_ref().map_or(0, |sealed| sealed.n_rows),
            n_hot_bytes: self.n_hot_bytes(),
        }
    }
}
