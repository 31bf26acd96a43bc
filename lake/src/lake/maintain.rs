//! Maintenance: let old files expire, merge small ones, remove those that no version needs.
//!
//! Files of a (table, tenant, day) are merged by size class, eight at a time or more, so that a row is
//! rewritten once a class and not with every new file. Input is bounded in memory, not in file size. A merge
//! commits with `dataChange = false`; if settlement replaced one of its files meanwhile, the merge is
//! discarded: settlement never waits for compaction. A (tenant, day) that nothing was written to for an hour is
//! merged whole, whatever the sizes: it will not grow into the next class by itself.
//!
//! A merge writes each record once: a row that repeats another (a sender's retry that the request window did not
//! know) is left out, and counted in the same commit, as the version of the application
//! [`DEDUPLICATED_APP_ID`]. So the count is exact over crashes and over processes.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::Serialize;
use tokio::sync::watch;

use super::commit::{Rows, discard};
use super::{Inner, Lake, TableSlot};
use crate::data_file::{DataFile, table_dir};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::table_log::{AddedFile, Change};
use crate::tables::{Table, carried};

/// Largest size of the smallest class, bytes; each further class is eight times larger.
const SMALLEST_CLASS_BYTES: u64 = 128 << 10;
/// Looks for work between expiries, the first look included, and between vacuums.
const EXPIRE_EVERY_TICKS: u32 = 30;
const VACUUM_EVERY_TICKS: u32 = 30;
/// Merges that are remembered by table, so that settlement does not take their files for new ones.
const MERGES_KEPT: usize = 1_024;
/// Time without new files after which a (tenant, day) is merged whole, nanoseconds: longer than senders retry.
const QUIET_NS: i64 = 3_600_000_000_000;
/// Application of the transaction whose version is the number of rows that merges left out, in all.
pub(super) const DEDUPLICATED_APP_ID: &str = "spanledger-deduplicated";

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CompactReport {
    /// Merges committed.
    pub n_merges: u64,
    /// Files replaced.
    pub n_files_removed: u64,
    /// Files written.
    pub n_files_added: u64,
    /// Bytes of the files replaced.
    pub bytes_removed: u64,
    /// Bytes of the files written.
    pub bytes_added: u64,
    /// Rows left out because they repeat another.
    pub n_rows_deduplicated: u64,
}

/// Which files are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Merge {
    /// Those of a size class with enough of them, and all of a day that is quiet.
    Due,
    /// All of a day, unless they are as large as a merge makes them.
    All,
}

/// What a vacuum did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct VacuumReport {
    /// Files removed from disk.
    pub n_files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Lake {
    /// Merges small files until no (table, tenant, day) has enough of them.
    ///
    /// # Errors
    /// `Corrupt` for a file that cannot be read, `Busy` if the store does not answer.
    pub async fn compact(&self) -> Result<CompactReport> {
        self.inner.check_writable()?;
        self.inner.compact(Merge::Due).await
    }

    /// Merges all files of each (table, tenant, day) but those that are as large as a merge makes them, however few:
    /// afterwards each record is one row, unless its copies lie in files that are not merged any more.
    ///
    /// # Errors
    /// As [`compact`](Self::compact).
    pub async fn compact_all(&self) -> Result<CompactReport> {
        self.inner.check_writable()?;
        self.inner.compact(Merge::All).await
    }

    /// Removes files that no version has needed for the grace period.
    ///
    /// # Errors
    /// `Busy` if the store does not answer.
    pub async fn vacuum(&self) -> Result<VacuumReport> {
        self.inner.check_writable()?;
        self.inner.vacuum().await
    }
}

impl Inner {
    async fn compact(&self, which: Merge) -> Result<CompactReport> {
        let _one_at_a_time = self.compact_lock.lock().await;
        let mut report = CompactReport::default();
        for slot in &self.shared.tables {
            while !*self.stop.borrow() {
                let Some(files) = self.merge_candidates(slot, which) else {
                    break;
                };
                match self.merge(slot, files, &mut report).await {
                    // Settlement was faster: its files are live now.
                    Err(error) if error.kind() == ErrorKind::Busy => {
                        tracing::debug!(table = slot.table.name(), %error, "merge discarded");
                        break;
                    }
                    result => result?,
                }
            }
        }
        Ok(report)
    }

    /// The files of one (tenant, day) that are due, oldest rows first.
    fn merge_candidates(&self, slot: &TableSlot, which: Merge) -> Option<Vec<DataFile>> {
        let options = &self.options.compaction;
        let unmergeable = slot.unmergeable.lock();
        let state = slot.state.lock();
        let mut classes: BTreeMap<(u32, &str, i32), Vec<&DataFile>> = BTreeMap::new();
        let mut days: BTreeMap<(&str, i32), Vec<&DataFile>> = BTreeMap::new();
        for file in state.files() {
            // An empty tenant is a file of another tool: its rows may not belong into one file of ours.
            if file.size_bytes < options.settled_bytes && !file.tenant.is_empty() && !unmergeable.contains(&file.path) {
                let class = size_class(file.size_bytes);
                classes
                    .entry((class, file.tenant.as_str(), file.day))
                    .or_default()
                    .push(file);
                days.entry((file.tenant.as_str(), file.day)).or_default().push(file);
            }
        }
        let quiet_since_ns = self.clock.now_ns().saturating_sub(QUIET_NS);
        let is_quiet = |file: &&DataFile| file.written_ns().is_none_or(|written_ns| written_ns < quiet_since_ns);
        let is_whole = |files: &Vec<&DataFile>| files.len() >= 2 && (which == Merge::All || files.iter().all(is_quiet));
        let mut files: Vec<DataFile> = classes
            .into_values()
            .find(|files| files.len() >= options.files_min.max(2))
            .or_else(|| days.into_values().find(is_whole))?
            .into_iter()
            .cloned()
            .collect();
        files.sort_unstable_by(|left, right| (left.min_time_us, &left.path).cmp(&(right.min_time_us, &right.path)));
        Some(files)
    }

    /// Merges as many of the files, from the first, as fit in the memory bound.
    async fn merge(&self, slot: &Arc<TableSlot>, files: Vec<DataFile>, report: &mut CompactReport) -> Result<()> {
        let bytes_max = self.options.compaction.input_bytes_max;
        let schema = slot.table.schema();
        let mut read: Vec<(DataFile, Vec<RecordBatch>)> = Vec::new();
        let mut n_bytes = 0;
        for file in files {
            if n_bytes >= bytes_max {
                break;
            }
            let store: Arc<dyn ObjectStore> = Arc::<crate::store::DurableStore>::clone(&self.store);
            let rows = crate::data_file::read(store, &schema, &file, None).await?;
            let n_file_bytes: usize = rows.iter().map(|batch| batch.get_array_memory_size()).sum();
            if n_file_bytes > bytes_max / 2 {
                // It would be read again at every look and merged with nothing.
                slot.unmergeable.lock().insert(file.path);
                continue;
            }
            n_bytes += n_file_bytes;
            read.push((file, rows));
        }
        if read.len() < 2 {
            return Ok(());
        }
        // In the order in which they were written: of rows that repeat each other the first stays.
        read.sort_by(|left, right| (left.0.written_ns(), &left.0.path).cmp(&(right.0.written_ns(), &right.0.path)));
        let (merged, batches): (Vec<DataFile>, Vec<Vec<RecordBatch>>) = read.into_iter().unzip();
        let batches: Vec<RecordBatch> = batches.into_iter().flatten().collect();
        let (batches, n_summed) = match slot.table {
            Table::Ledger => carried::sum(batches)?,
            _ => (batches, 0),
        };
        let n_rows_before: u64 = merged.iter().map(|file| file.n_rows).sum();
        // A merge makes no row younger: neither for retention nor for settlement.
        let written_ns = merged.iter().map(DataFile::written_ns).max().flatten();
        let written = self
            .write_files(slot.table, Arc::new(batches), written_ns, Rows::Once)
            .await?;
        let (adds, n_repeats) = (written.adds, written.n_repeats);
        let n_rows_after = adds.iter().map(|added| added.file.n_rows).sum::<u64>() + n_repeats + n_summed;
        if n_rows_before != n_rows_after {
            discard(self.store.as_ref(), &adds).await;
            return Err(Error::corrupt(format!(
                "files of {} hold {n_rows_after} rows where the log says {n_rows_before}: run `spanledger lake verify`",
                slot.table.name()
            )));
        }
        let deduplicated = (n_repeats > 0).then(|| {
            let before = slot.state.lock().txn_version(DEDUPLICATED_APP_ID).unwrap_or(0);
            let now = before.saturating_add(i64::try_from(n_repeats).unwrap_or(i64::MAX));
            (DEDUPLICATED_APP_ID.to_owned(), now)
        });
        let change = Change {
            adds: adds.clone(),
            txns: deduplicated.into_iter().collect(),
            // Also where rows are left out: every row of the new files was in the old ones.
            data_change: false,
            operation: "OPTIMIZE",
            ..Change::default()
        };
        let removes: Vec<String> = merged.iter().map(|file| file.path.clone()).collect();
        // Noted before anybody can see the files: who reads new files has read these rows already.
        slot.note_merge(&adds, &merged);
        self.apply_change(slot, change, &removes).await?;
        report.n_merges += 1;
        report.n_rows_deduplicated += n_repeats;
        report.n_files_removed += merged.len() as u64;
        report.n_files_added += adds.len() as u64;
        report.bytes_removed += merged.iter().map(|file| file.size_bytes).sum::<u64>();
        report.bytes_added += adds.iter().map(|added| added.file.size_bytes).sum::<u64>();
        Ok(())
    }

    /// Looks at every file on disk, so that what a crash or a failed commit left is found too.
    async fn vacuum(&self) -> Result<VacuumReport> {
        let grace_ns = i64::try_from(self.options.compaction.vacuum_grace_ms)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000);
        let mut report = VacuumReport::default();
        for slot in &self.shared.tables {
            let failed = || format!("cannot list the files of {}", slot.table.name());
            let dir = Path::from(table_dir(slot.table));
            let objects: Vec<_> = self.store.list(Some(&dir)).try_collect().await.or_busy(failed)?;
            for object in objects {
                let path = object.location.as_ref();
                if path.contains("/_delta_log/") || !path.ends_with(".parquet") {
                    continue;
                }
                let unneeded_since_ns = {
                    let state = slot.state.lock();
                    if state.file(path).is_some() {
                        continue;
                    }
                    // Removed before this process, or never committed: nobody knows when, so count from the
                    // later of the file's writing and our opening.
                    let written_ns = object.last_modified.timestamp_nanos_opt().unwrap_or(i64::MAX);
                    state
                        .removed_at_ns(path)
                        .unwrap_or_else(|| written_ns.max(self.opened_at_ns))
                };
                if unneeded_since_ns.saturating_add(grace_ns) > self.clock.now_ns() {
                    continue;
                }
                let failed = || format!("cannot remove {path}");
                self.store.delete(&object.location).await.or_busy(failed)?;
                slot.state.lock().forget_removed(path);
                slot.unmergeable.lock().remove(path);
                report.n_files += 1;
                report.bytes += object.size;
            }
        }
        Ok(report)
    }
}

impl TableSlot {
    fn note_merge(&self, adds: &[AddedFile], merged: &[DataFile]) {
        let mut merges = self.merges.lock();
        merges.extend(adds.iter().map(|added| (added.file.path.clone(), merged.to_vec())));
        let n_old = merges.len().saturating_sub(MERGES_KEPT);
        merges.drain(..n_old);
    }
}

fn size_class(size_bytes: u64) -> u32 {
    let mut class = 0;
    let mut class_bytes = SMALLEST_CLASS_BYTES;
    while size_bytes > class_bytes {
        class += 1;
        class_bytes = class_bytes.saturating_mul(8);
    }
    class
}

/// Expires, merges and vacuums in the background until told to stop.
pub(super) async fn maintenance_loop(lake: Weak<Inner>, mut stop: watch::Receiver<bool>, interval: Duration) {
    let mut n_ticks: u32 = 0;
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            () = tokio::time::sleep(interval) => {}
        }
        let Some(inner) = lake.upgrade() else { return };
        if n_ticks.is_multiple_of(EXPIRE_EVERY_TICKS)
            && let Err(error) = inner.expire().await
        {
            tracing::warn!(%error, "retention failed");
        }
        if let Err(error) = inner.compact(Merge::Due).await {
            tracing::warn!(%error, "compaction failed");
        }
        n_ticks = n_ticks.wrapping_add(1);
        if n_ticks.is_multiple_of(VACUUM_EVERY_TICKS)
            && let Err(error) = inner.vacuum().await
        {
            tracing::warn!(%error, "vacuum failed");
        }
    }
}
