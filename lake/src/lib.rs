//! The lake: open Delta tables of Parquet on an object store, with a write-ahead log before them.
//!
//! ```text
//! append_batch ─► write-ahead log (group fsync) ─► hot buffer ─► acknowledge
//!                                                      │ every 2 s, or at 64 MiB
//!                                    sort ─► Parquet ─► one Delta commit per table ─► trim the log
//! ```
//!
//! Guarantees: an acknowledged batch is on stable storage and visible to [`Lake::snapshot`]; a batch that is
//! sent again is stored once; a snapshot shows every row exactly once, also while a flush commits; after a
//! crash each table gets exactly the rows it lacks (its commits carry the log position they cover).
//! Only this crate writes bytes and builds object paths. It knows neither OTLP (ingest replays its own
//! records through [`Replay`]) nor SQL.
//!
//! | module | what it holds |
//! |---|---|
//! | [`tables`] | the tables' names, schemas, and rows to and from record batches |
//! | [`lake`] | [`Lake`]: open, append, flush, commit, compaction, verification |
//! | `wal`, `window` | the log, and the window that answers repeated requests |
//! | `table_log`, `table_state`, `hot` | a table in the Delta log and in memory |
//! | [`data_file`], `sort`, `object_reader` | rows to Parquet files and back |
//! | [`retention`] | how long each table is kept |
//! | [`files`], `store` | the disk: the seam for fault injection, and an object store that fsyncs |

#![forbid(unsafe_code)]

pub mod data_file;
pub mod error;
pub mod files;
mod hot;
pub mod lake;
mod object_reader;
pub mod options;
mod repeats;
pub mod retention;
mod sort;
mod store;
mod table_log;
mod table_state;
pub mod tables;
mod wal;
mod window;

#[cfg(test)]
mod tests;

use arrow::array::RecordBatch;

pub use data_file::{DataFile, FileRows};
pub use error::{Error, ErrorKind, Result};
pub use lake::{
    AcknowledgedBatch, Commit, CompactReport, Lake, LakeStats, Positions, Replay, TableStats, VacuumReport,
    VerifyReport,
};
pub use options::{CompactionOptions, LakeOptions};
pub use retention::{ExpireReport, Keep, RetentionOptions, TableExpiry};
pub use table_state::TableSnapshot;
pub use tables::Table;
pub use wal::WalRecord;

/// Rows of one request, by table.
pub type TableRows = Vec<(Table, RecordBatch)>;
