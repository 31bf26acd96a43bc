//! Settings of a lake, and the limits of the crate in one place, each with its reason.

use std::path::PathBuf;

use crate::retention::RetentionOptions;

/// Node name in `txn` actions when none is configured.
pub const DEFAULT_NODE: &str = "node-0";
/// Time between flushes while there is data: freshness of the ledger (target 10 s) against small files.
pub const DEFAULT_FLUSH_INTERVAL_MS: u64 = 2_000;
/// Hot Arrow bytes that start a flush before its time: about 100,000 spans.
pub const DEFAULT_SEAL_BYTES_MAX: usize = 64 << 20;
/// Hot Arrow bytes at which writers are told to wait: flushing is behind, and ingest must stay under 512 MB.
pub const DEFAULT_HOT_BYTES_MAX: usize = 256 << 20;
/// Longest time a group waits for more records before its fsync, when there is more than one sender.
pub const DEFAULT_GROUP_COMMIT_WINDOW_US: u64 = 2_000;
/// Bytes accepted but not yet on stable storage: four requests of the largest size.
pub const DEFAULT_WAL_BYTES_IN_FLIGHT_MAX: usize = 256 << 20;
/// Size at which a log segment is closed: the unit of trimming and of replay reads.
pub const DEFAULT_WAL_SEGMENT_BYTES: u64 = 64 << 20;
/// Requests remembered for deduplication: over an hour of one request every 50 ms, in 1.5 MB.
pub const DEFAULT_DEDUP_WINDOW: usize = 65_536;
/// Bytes after which a commit group is written without waiting for more: fsync bandwidth is reached by then.
pub const GROUP_BYTES_MAX: usize = 4 << 20;
/// Largest WAL payload: the request limit of ingest (64 MiB) with room to spare.
pub const PAYLOAD_BYTES_MAX: usize = 256 << 20;
/// Commits between checkpoints of a table: what a reader replays from JSON at most. The library opens a JSON decoder
/// for each of them, all at once: with 50, and three tables together, they took 160 MB.
pub const COMMITS_PER_CHECKPOINT: i64 = 20;
/// Commits between clean-ups of expired log files: the clean-up lists the whole log folder.
pub const COMMITS_PER_LOG_CLEANUP: i64 = 500;
/// Time a superseded log file or tombstone is kept. Nobody travels in time through raw telemetry, and a
/// commit every two seconds would leave 1.3 million log files in Delta's default 30 days.
pub const LOG_RETENTION: &str = "interval 1 hours";
/// Attempts to commit while another writer of the table takes the versions.
pub const COMMIT_ATTEMPTS: usize = 32;
/// Rows of a Parquet row group: wide enough that a compacted day has few, narrow enough to skip.
pub const ROW_GROUP_ROWS: usize = 1 << 20;
/// Columns with statistics in the log, Delta's own default: outside readers expect no more.
pub const STATISTICS_COLUMNS: usize = 32;
/// Rows gathered at a time when sorted batches are written: bounds the copy beside the input.
pub const GATHER_ROWS: usize = 16_384;
/// Rows of one batch in a row that are written from where they are: below it, copying them together is cheaper.
pub const RUN_ROWS: usize = 128;
/// Compression of flushed and merged files.
pub const ZSTD_LEVEL: i32 = 3;

/// Merging of small files and removal of superseded ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionOptions {
    /// Whether the background task runs. [`crate::Lake::compact`] works either way.
    pub enabled: bool,
    /// Time between looks for work, milliseconds.
    pub interval_ms: u64,
    /// Files of one size class in one (table, tenant, day) that start a merge.
    pub files_min: usize,
    /// Arrow bytes read into one merge: the memory bound.
    pub input_bytes_max: usize,
    /// A file at least this large is left alone, bytes: about what one merge's input becomes.
    pub settled_bytes: u64,
    /// Time a file that no version needs stays on disk, milliseconds: a query or an outside reader that
    /// opened an older version must be done with it by then. Half an hour is far above any query's time limit.
    pub vacuum_grace_ms: u64,
}

impl Default for CompactionOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_ms: 10_000,
            files_min: 8,
            input_bytes_max: 256 << 20,
            settled_bytes: 16 << 20,
            vacuum_grace_ms: 30 * 60 * 1_000,
        }
    }
}

/// Settings of a lake: plain data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LakeOptions {
    /// Folder of the lake; created when missing.
    pub data_dir: PathBuf,
    /// Name of this writer in the `txn` actions of its commits.
    pub node: String,
    /// Time between flushes while there is data, milliseconds.
    pub flush_interval_ms: u64,
    /// Hot Arrow bytes that start a flush at once.
    pub seal_bytes_max: usize,
    /// Hot Arrow bytes at which appends are answered with Busy.
    pub hot_bytes_max: usize,
    /// Longest wait for companions before an fsync, microseconds.
    pub group_commit_window_us: u64,
    /// Bytes accepted but not yet on stable storage, beyond which appends are answered with Busy.
    pub wal_bytes_in_flight_max: usize,
    /// Size at which a log segment is closed, bytes.
    pub wal_segment_bytes: u64,
    /// Requests remembered for deduplication.
    pub dedup_window: usize,
    /// Merging of small files.
    pub compaction: CompactionOptions,
    /// How long each table is kept; the background task of [`CompactionOptions`] sees to it.
    pub retention: RetentionOptions,
}

impl Default for LakeOptions {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("spanledger-data"),
            node: DEFAULT_NODE.to_owned(),
            flush_interval_ms: DEFAULT_FLUSH_INTERVAL_MS,
            seal_bytes_max: DEFAULT_SEAL_BYTES_MAX,
            hot_bytes_max: DEFAULT_HOT_BYTES_MAX,
            group_commit_window_us: DEFAULT_GROUP_COMMIT_WINDOW_US,
            wal_bytes_in_flight_max: DEFAULT_WAL_BYTES_IN_FLIGHT_MAX,
            wal_segment_bytes: DEFAULT_WAL_SEGMENT_BYTES,
            dedup_window: DEFAULT_DEDUP_WINDOW,
            compaction: CompactionOptions::default(),
            retention: RetentionOptions::default(),
        }
    }
}
