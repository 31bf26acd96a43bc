//! Committing: put files, then make them a version of the table.
//!
//! We know the next version because we are the only writer in normal life. If it is taken all the same (an
//! outside tool, or an earlier attempt whose answer was lost), its changes are taken over and the commit is
//! tried again, unless its transaction is already in, or a file it removes is gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::{Inner, Lake, TableSlot};
use crate::data_file::{self, DataFile, Encoded};
use crate::error::{Context, Error, Result};
use crate::options::{COMMIT_ATTEMPTS, COMMITS_PER_CHECKPOINT, COMMITS_PER_LOG_CLEANUP};
use crate::sort::SortedRows;
use crate::table_log::{AddedFile, Change, CommitOutcome};
use crate::tables::Table;

/// Files of one commit written at a time: enough to hide an fsync, and few enough for a day-spanning import.
const PUTS_IN_FLIGHT: usize = 8;

/// Which of the rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// All of them.
    All,
    /// Each record once, for tables that say what makes rows one record ([`Table::identity`]).
    Once,
}

/// Files that were put, in no version yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Written {
    pub(super) adds: Vec<AddedFile>,
    /// Rows that are in none of them, because they repeat another.
    pub(super) n_repeats: u64,
}

/// A change to a table, all of it or nothing.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// Rows to add; they may belong to any tenant and day, in any order.
    pub adds: Vec<RecordBatch>,
    /// Paths of live files ([`DataFile::path`]) to remove.
    pub removes: Vec<String>,
    /// Application and version: if the table already has this version (or a higher one) of it, the commit
    /// was made before and nothing is changed.
    pub txn: Option<(String, i64)>,
    /// What the log calls it, for people.
    pub operation: &'static str,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    /// It is this version.
    Now(i64),
    /// Its transaction was in the table before.
    Before(i64),
}

impl Lake {
    /// Adds rows and removes files in one version of the table; returns the version. Rows are sorted and
    /// written as one file for each (tenant, day).
    ///
    /// # Errors
    /// `Busy` if a file to remove is not live any more (compaction replaced it: take a new snapshot and retry)
    /// or the store does not answer; `Invalid` for rows of another schema or a read-only lake.
    pub async fn commit(&self, table: Table, commit: Commit) -> Result<i64> {
        let inner = &self.inner;
        inner.check_writable()?;
        let slot = inner.shared.slot(table);
        let schema = table.schema();
        if commit
            .adds
            .iter()
            .any(|batch| batch.schema_ref().fields() != schema.fields())
        {
            return Err(Error::invalid(format!(
                "rows for {} do not have its schema",
                table.name()
            )));
        }
        if let Some((app_id, version)) = &commit.txn {
            let state = slot.state.lock();
            if state.txn_version(app_id).is_some_and(|applied| applied >= *version) {
                return Ok(state.version());
            }
        }
        let written = inner.write_files(table, Arc::new(commit.adds), None, Rows::All).await?;
        let change = Change {
            adds: written.adds,
            txns: commit.txn.into_iter().collect(),
            data_change: true,
            operation: commit.operation,
            ..Change::default()
        };
        match inner.apply_change(slot, change, &commit.removes).await? {
            Applied::Now(version) | Applied::Before(version) => Ok(version),
        }
    }
}

impl Inner {
    /// Sorts the rows and puts one file for each (tenant, day), named for the time its rows were first written,
    /// now unless told. The files are on stable storage and in no version yet; if no commit follows, vacuum
    /// removes them.
    pub(super) async fn write_files(
        &self,
        table: Table,
        batches: Arc<Vec<RecordBatch>>,
        written_ns: Option<i64>,
        rows: Rows,
    ) -> Result<Written> {
        if batches.iter().all(|batch| batch.num_rows() == 0) {
            return Ok(Written::default());
        }
        let (encoded, n_repeats) = tokio::task::spawn_blocking(move || encode_partitions(table, &batches, rows))
            .await
            .or_internal(|| "the task that writes files ended early".to_owned())??;
        let puts = encoded.into_iter().map(|(tenant, day, encoded)| async move {
            let path = self.put_file(table, &tenant, day, &encoded.bytes, written_ns).await?;
            Ok(AddedFile {
                file: DataFile {
                    path,
                    size_bytes: encoded.bytes.len() as u64,
                    n_rows: encoded.n_rows,
                    tenant,
                    day,
                    min_time_us: encoded.min_time_us,
                    max_time_us: encoded.max_time_us,
                },
                statistics: encoded.statistics,
            })
        });
        let adds = futures::stream::iter(puts)
            .buffered(PUTS_IN_FLIGHT)
            .try_collect()
            .await?;
        Ok(Written { adds, n_repeats })
    }

    /// Puts a file under a name that nobody has. Time and a counter make names unique within this writer,
    /// the node's name between writers, and put-if-absent in any case.
    async fn put_file(
        &self,
        table: Table,
        tenant: &str,
        day: i32,
        bytes: &Bytes,
        written_ns: Option<i64>,
    ) -> Result<String> {
        let dir = data_file::partition_dir(table, tenant, day);
        let node = data_file::escape(&self.options.node);
        loop {
            let n_name = self.n_names.fetch_add(1, Ordering::Relaxed);
            let written_ns = written_ns.unwrap_or_else(|| self.clock.now_ns());
            let path = format!("{dir}/part-{written_ns:016x}-{n_name:06x}-{node}.parquet");
            let options = PutOptions::from(PutMode::Create);
            match self
                .store
                .put_opts(&Path::from(path.as_str()), bytes.clone().into(), options)
                .await
            {
                Ok(_) => return Ok(path),
                Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(Error::busy(format!("cannot write {path}")).with_source(error)),
            }
        }
    }

    /// Makes a change the table's next version and applies it in memory.
    pub(super) async fn apply_change(
        &self,
        slot: &Arc<TableSlot>,
        mut change: Change,
        removes: &[String],
    ) -> Result<Applied> {
        let node = self.options.node.as_str();
        let _one_at_a_time = slot.commit_lock.lock().await;
        for _ in 0..COMMIT_ATTEMPTS {
            let version = {
                let state = slot.state.lock();
                let applied = |(app_id, version): &(String, i64)| {
                    state.txn_version(app_id).is_some_and(|applied| applied >= *version)
                };
                if !change.txns.is_empty() && change.txns.iter().all(applied) {
                    return Ok(Applied::Before(state.version()));
                }
                change.removes.clear();
                for path in removes {
                    let file = state.file(path).ok_or_else(|| {
                        Error::busy(format!(
                            "{path} is not a live file any more: take a new snapshot and retry"
                        ))
                    })?;
                    change.removes.push(file.clone());
                }
                state.version() + 1
            };
            let now_ns = self.clock.now_ns();
            change.timestamp_ms = now_ns.div_euclid(1_000_000);
            match slot.log.commit(version, &change).await? {
                CommitOutcome::Committed => {
                    slot.state.lock().apply(
                        version,
                        change.adds.into_iter().map(|added| added.file),
                        removes.iter().cloned(),
                        &change.txns,
                        node,
                        now_ns,
                    );
                    self.checkpoint_if_due(slot, version);
                    return Ok(Applied::Now(version));
                }
                CommitOutcome::Taken(foreign) => {
                    tracing::warn!(
                        table = slot.table.name(),
                        version,
                        "another writer committed to the table"
                    );
                    slot.state
                        .lock()
                        .apply(version, foreign.adds, foreign.removes, &foreign.txns, node, now_ns);
                }
            }
        }
        Err(Error::busy(format!(
            "other writers commit to {} too fast: retry",
            slot.table.name()
        )))
    }

    fn checkpoint_if_due(&self, slot: &Arc<TableSlot>, version: i64) {
        if version == 0 || version % COMMITS_PER_CHECKPOINT != 0 || slot.checkpointing.swap(true, Ordering::AcqRel) {
            return;
        }
        let slot = Arc::clone(slot);
        let lock = Arc::clone(&self.checkpoint_lock);
        let clean_up = version % COMMITS_PER_LOG_CLEANUP == 0;
        let task = tokio::spawn(async move {
            // Tables reach their checkpoints together, and each reads its log back.
            let _one_at_a_time = lock.lock().await;
            if let Err(error) = slot.log.checkpoint(clean_up).await {
                // Readers replay more of the log; the next one may work.
                tracing::warn!(table = slot.table.name(), %error, "checkpoint failed");
            }
            slot.checkpointing.store(false, Ordering::Release);
        });
        let mut tasks = self.tasks.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }
}

/// Tenant, day, and the file of their rows.
type EncodedPartition = (String, i32, Encoded);

fn encode_partitions(table: Table, batches: &[RecordBatch], rows: Rows) -> Result<(Vec<EncodedPartition>, u64)> {
    let schema = table.schema();
    let sorted = match table.identity().filter(|_| rows == Rows::Once) {
        Some(identity) => SortedRows::unique(batches, table.sort_columns(), &identity)?,
        None => SortedRows::new(batches, table.sort_columns())?,
    };
    let encoded = sorted
        .partitions()
        .iter()
        .map(|part| {
            let chunks = sorted.chunks(part.rows.clone());
            let encoded = data_file::encode(&schema, table.sort_columns(), part.rows.len(), chunks)?;
            Ok((part.tenant.clone(), part.day, encoded))
        })
        .collect::<Result<_>>()?;
    Ok((encoded, sorted.n_repeats()))
}

/// Removes files that were written for a commit that did not happen; vacuum gets what this misses.
pub(super) async fn discard(store: &dyn ObjectStore, adds: &[AddedFile]) {
    for added in adds {
        if let Err(error) = store.delete(&Path::from(added.file.path.as_str())).await {
            tracing::debug!(path = added.file.path, %error, "cannot remove an unused file");
        }
    }
}
