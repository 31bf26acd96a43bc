//! Looking at a lake: sizes for people, and a check that what the log says is what the disk holds.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use serde::Serialize;

use super::maintain::DEDUPLICATED_APP_ID;
use super::{Lake, Positions};
use crate::data_file::DataFile;
use crate::error::Result;
use crate::object_reader::ObjectReader;
use crate::store::DurableStore;
use crate::tables::Table;
use crate::wal::segment;

/// Size and content of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TableStats {
    /// The table's name.
    pub name: &'static str,
    /// Version in the log; -1 if the table does not exist yet.
    pub version: i64,
    /// Live files.
    pub n_files: usize,
    /// Rows in live files.
    pub n_rows: u64,
    /// Bytes of live files.
    pub bytes: u64,
    /// Acknowledged rows that are in no file yet.
    pub n_hot_rows: usize,
    /// Their Arrow bytes in memory.
    pub hot_bytes: usize,
    /// Files that retention removed since the lake was opened.
    pub n_files_expired: u64,
    /// Their rows.
    pub n_rows_expired: u64,
    /// Their bytes.
    pub bytes_expired: u64,
    /// Rows that compaction left out since the table exists, because they repeat another.
    pub n_rows_deduplicated: u64,
}

/// Size and content of a lake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LakeStats {
    /// Each table.
    pub tables: Vec<TableStats>,
    /// How far each step has come.
    pub positions: Positions,
    /// Segments of the write-ahead log.
    pub wal_segments: usize,
    /// Their bytes.
    pub wal_bytes: u64,
    /// Bytes accepted but not yet on stable storage.
    pub bytes_in_flight: usize,
    /// Batches stored since the lake was opened.
    pub n_batches: u64,
    /// Repeated batches answered without storing since the lake was opened.
    pub n_duplicates: u64,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Live files looked at.
    pub n_files: u64,
    /// Rows that the log says they hold.
    pub n_rows: u64,
    /// Intact frames of the write-ahead log.
    pub n_wal_frames: u64,
    /// What is wrong, one line each; empty if the lake is what its logs say.
    pub problems: Vec<String>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Lake {
    /// Sizes and positions, from memory.
    #[must_use]
    pub fn stats(&self) -> LakeStats {
        let shared = &self.inner.shared;
        let tables = shared
            .tables
            .iter()
            .map(|slot| {
                let (size, n_deduplicated) = {
                    let state = slot.state.lock();
                    (state.size(), state.txn_version(DEDUPLICATED_APP_ID).unwrap_or(0))
                };
                let expired = *slot.expired.lock();
                TableStats {
                    name: slot.table.name(),
                    version: size.version,
                    n_files: size.n_files,
                    n_rows: size.n_rows,
                    bytes: size.n_bytes,
                    n_hot_rows: size.n_hot_rows,
                    hot_bytes: size.n_hot_bytes,
                    n_files_expired: expired.n_files,
                    n_rows_expired: expired.n_rows,
                    bytes_expired: expired.bytes,
                    n_rows_deduplicated: u64::try_from(n_deduplicated).unwrap_or(0),
                }
            })
            .collect();
        let (wal_segments, wal_bytes) = self.inner.writing.read().wal.as_ref().map_or((0, 0), |wal| wal.size());
        LakeStats {
            tables,
            positions: self.positions(),
            wal_segments,
            wal_bytes,
            bytes_in_flight: shared.bytes_in_flight.load(Ordering::Relaxed),
            n_batches: shared.n_batches.load(Ordering::Relaxed),
            n_duplicates: shared.n_duplicates.load(Ordering::Relaxed),
        }
    }

    /// Checks that every live file exists with the size and the rows that the log says and opens as Parquet,
    /// and that the write-ahead log's frames are intact. Problems are in the report, not errors.
    ///
    /// # Errors
    /// None today.
    pub async fn verify(&self) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        for table in Table::ALL {
            for file in self.snapshot(table)?.files.iter() {
                report.n_files += 1;
                report.n_rows += file.n_rows;
                if let Err(problem) = self.verify_file(file).await {
                    report.problems.push(format!("{}: {problem}", file.path));
                }
            }
        }
        let files = Arc::clone(&self.inner.files);
        let dir = self.inner.wal_dir.clone();
        let covered = self.positions().flushed;
        let scan = tokio::task::spawn_blocking(move || {
            if dir.is_dir() {
                segment::scan(files.as_ref(), &dir, covered, |_| Ok(()))
            } else {
                Ok(segment::Scan::default())
            }
        })
        .await;
        match scan {
            Ok(Ok(scan)) => report.n_wal_frames = scan.n_frames,
            Ok(Err(error)) => report.problems.push(error.to_string()),
            Err(error) => report.problems.push(error.to_string()),
        }
        Ok(report)
    }

    async fn verify_file(&self, file: &DataFile) -> std::result::Result<(), String> {
        let path = Path::from(file.path.as_str());
        let meta = self.inner.store.head(&path).await.map_err(|error| error.to_string())?;
        if meta.size != file.size_bytes {
            return Err(format!("{} bytes on disk, {} in the log", meta.size, file.size_bytes));
        }
        let store: Arc<dyn ObjectStore> = Arc::<DurableStore>::clone(&self.inner.store);
        let reader = ObjectReader::new(store, path, file.size_bytes);
        let builder = ParquetRecordBatchStreamBuilder::new(reader)
            .await
            .map_err(|error| format!("does not open as parquet: {error}"))?;
        let n_rows = builder.metadata().file_metadata().num_rows();
        if u64::try_from(n_rows).ok() != Some(file.n_rows) {
            return Err(format!("{n_rows} rows in the file, {} in the log", file.n_rows));
        }
        Ok(())
    }
}
