//! [`Lake`]: the handle that everything else holds. The verbs are in the submodules, in the order of a row's
//! life: `open`, `append`, `flush`, `commit`, `maintain`, `expire`, `inspect`.

mod append;
mod commit;
mod expire;
mod flush;
mod inspect;
mod maintain;
mod open;

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use object_store::ObjectStore;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use spanledger_model::Clock;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use url::Url;

pub use self::append::AcknowledgedBatch;
pub use self::commit::Commit;
pub use self::inspect::{LakeStats, TableStats, VerifyReport};
pub use self::maintain::{CompactReport, VacuumReport};
use crate::TableRows;
use crate::data_file::{self, DataFile, FileRows};
use crate::error::{Error, Result};
use crate::files::Files;
use crate::options::LakeOptions;
use crate::store::DurableStore;
use crate::table_log::TableLog;
use crate::table_state::{TableSnapshot, TableState};
use crate::tables::Table;
use crate::wal::WalRecord;
use crate::wal::writer::WalWriter;
use crate::window::{Watermark, Window};

/// Turns a logged request into rows again, exactly as it was turned into rows when it arrived.
pub trait Replay: Send + Sync {
    /// The rows of a record.
    ///
    /// # Errors
    /// Any error stops the opening of the lake, for the record was acknowledged.
    fn rows(&self, record: &WalRecord) -> Result<TableRows>;
}

/// How far each step has come, as log sequence numbers (0: nothing yet) and as the arrival time of the
/// newest request that got there (nanoseconds since the Unix epoch; 0: unknown).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Positions {
    /// On stable storage and visible.
    pub acknowledged: u64,
    /// In the tables.
    pub flushed: u64,
    /// In calls and ledger.
    pub settled: u64,
    /// Arrival of the newest acknowledged request.
    pub acknowledged_ns: i64,
    /// Arrival of the newest flushed request.
    pub flushed_ns: i64,
    /// Arrival of the newest settled request.
    pub settled_ns: i64,
}

/// Marks kept to tell the arrival time of a settled sequence; beyond it the answer is coarser.
const ARRIVAL_MARKS: usize = 16_384;

/// The hot buffer's end. Held while a group's rows are added and while they are sealed, so that what is
/// sealed is exactly what the sequence says.
#[derive(Debug, Default)]
struct Gate {
    last_sequence: u64,
    last_arrived_ns: i64,
    sealed_through: u64,
    sealed_arrived_ns: i64,
    /// (last sequence, arrival time) of each group, oldest first.
    arrivals: VecDeque<(u64, i64)>,
}

/// One table: its state in memory and its log.
struct TableSlot {
    table: Table,
    state: Mutex<TableState>,
    log: Box<dyn TableLog>,
    /// One commit at a time, whoever makes it.
    commit_lock: tokio::sync::Mutex<()>,
    checkpointing: AtomicBool,
    /// Files that proved too large to merge with another in bounded memory.
    unmergeable: Mutex<HashSet<String>>,
    /// The latest merges: the file written, and those it replaced.
    merges: Mutex<VecDeque<(String, Vec<DataFile>)>>,
    expired: Mutex<expire::ExpiredTotal>,
}

/// What the log's thread shares with everybody.
pub(crate) struct Shared {
    tables: Vec<Arc<TableSlot>>,
    gate: Mutex<Gate>,
    window: Mutex<Window>,
    positions: watch::Sender<Positions>,
    bytes_in_flight: AtomicUsize,
    hot_bytes: AtomicUsize,
    seal_bytes_max: usize,
    flush_now: Notify,
    n_batches: AtomicU64,
    n_duplicates: AtomicU64,
}

impl Shared {
    fn slot(&self, table: Table) -> &Arc<TableSlot> {
        // `open` makes one slot for each of `Table::ALL`, in the order of the enum.
        &self.tables[table as usize]
    }

    fn count_hot_bytes(&self) -> usize {
        let n_bytes = self.tables.iter().map(|slot| slot.state.lock().n_hot_bytes()).sum();
        self.hot_bytes.store(n_bytes, Ordering::Relaxed);
        n_bytes
    }

    /// Adds the rows of acknowledged records to the hot buffer. The caller holds the gate.
    fn push_rows(&self, gate: &mut Gate, sequence: u64, arrived_ns: i64, rows: TableRows) {
        for (table, batch) in rows {
            self.slot(table).state.lock().push_hot(batch);
        }
        gate.last_sequence = sequence;
        gate.last_arrived_ns = arrived_ns;
    }

    fn mark_arrival(gate: &mut Gate) {
        gate.arrivals.push_back((gate.last_sequence, gate.last_arrived_ns));
        if gate.arrivals.len() > ARRIVAL_MARKS {
            gate.arrivals.pop_front();
        }
    }
}

/// The log's folder and writer; gone once the lake is shut down, never there when it is read-only.
struct Writing {
    wal: Option<WalWriter>,
    /// Held for the exclusive lock on the folder.
    lock: Option<File>,
}

pub(crate) struct Inner {
    options: LakeOptions,
    clock: Arc<dyn Clock>,
    files: Arc<dyn Files>,
    store: Arc<DurableStore>,
    store_url: Url,
    wal_dir: PathBuf,
    read_only: bool,
    pub(crate) shared: Arc<Shared>,
    writing: RwLock<Writing>,
    flush_lock: tokio::sync::Mutex<()>,
    /// One compaction at a time, so that what it leaves out is counted exactly.
    compact_lock: tokio::sync::Mutex<()>,
    /// One checkpoint at a time, for what one takes in memory.
    checkpoint_lock: Arc<tokio::sync::Mutex<()>>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    n_names: AtomicU64,
    opened_at_ns: i64,
}

/// A lake. Clones share it.
///
/// Without [`Lake::shutdown`], dropping the last clone stops the tasks and leaves the unflushed rows in the
/// log, as a crash would; the next opening finds them there.
#[derive(Clone)]
pub struct Lake {
    pub(crate) inner: Arc<Inner>,
}

impl fmt::Debug for Lake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lake")
            .field("data_dir", &self.inner.options.data_dir)
            .field("read_only", &self.inner.read_only)
            .finish_non_exhaustive()
    }
}

impl Lake {
    /// A consistent look at a table: its live files and the acknowledged rows that are in none of them.
    ///
    /// # Errors
    /// None today; a remote table log may have some.
    pub fn snapshot(&self, table: Table) -> Result<TableSnapshot> {
        Ok(self.inner.shared.slot(table).state.lock().snapshot())
    }

    /// The version that the application's last commit to the table carried.
    #[must_use]
    pub fn txn_version(&self, table: Table, app_id: &str) -> Option<i64> {
        self.inner.shared.slot(table).state.lock().txn_version(app_id)
    }

    /// The rows of a file in the file's order, with the table's columns of these names (all if `None`).
    ///
    /// # Errors
    /// `Corrupt` if the file is missing or is not what was written; `Invalid` for an unknown column.
    pub async fn read_file(&self, table: Table, file: &DataFile, columns: Option<&[&str]>) -> Result<Vec<RecordBatch>> {
        let store: Arc<dyn ObjectStore> = Arc::<DurableStore>::clone(&self.inner.store);
        data_file::read(store, &table.schema(), file, columns).await
    }

    /// The rows of a file as [`Lake::read_file`] gives them, a batch at a time, so that memory does not depend on the
    /// size of the file. `rows` are ranges of rows, in order and apart from one another; all if `None`.
    ///
    /// # Errors
    /// As [`Lake::read_file`].
    pub async fn open_file(
        &self,
        table: Table,
        file: &DataFile,
        columns: Option<&[&str]>,
        rows: Option<Vec<Range<usize>>>,
    ) -> Result<FileRows> {
        let store: Arc<dyn ObjectStore> = Arc::<DurableStore>::clone(&self.inner.store);
        FileRows::open(store, &table.schema(), file, columns, rows).await
    }

    /// The files whose rows a file holds, where this process made it by merging them lately; `None` where it is not
    /// known to be a merge. They stay readable for [`CompactionOptions::vacuum_grace_ms`](crate::CompactionOptions).
    #[must_use]
    pub fn merged_from(&self, table: Table, path: &str) -> Option<Vec<DataFile>> {
        let merges = self.inner.shared.slot(table).merges.lock();
        let merge = merges.iter().rev().find(|(added, _)| added == path)?;
        Some(merge.1.clone())
    }

    /// How far each step has come.
    #[must_use]
    pub fn positions(&self) -> Positions {
        *self.inner.shared.positions.borrow()
    }

    /// Tells of every change of the positions.
    #[must_use]
    pub fn watch_positions(&self) -> watch::Receiver<Positions> {
        self.inner.shared.positions.subscribe()
    }

    /// Settlement reports that every observation up to this sequence is in calls and ledger.
    pub fn set_settled(&self, sequence: u64) {
        let settled_ns = {
            let mut gate = self.inner.shared.gate.lock();
            let mut settled_ns = None;
            while let Some((last_sequence, arrived_ns)) = gate.arrivals.front().copied() {
                if last_sequence > sequence {
                    break;
                }
                settled_ns = Some(arrived_ns);
                gate.arrivals.pop_front();
            }
            match settled_ns {
                None if sequence >= gate.last_sequence => Some(gate.last_arrived_ns),
                found => found,
            }
        };
        self.inner.shared.positions.send_if_modified(|positions| {
            if sequence < positions.settled {
                return false;
            }
            let before = *positions;
            positions.settled = sequence;
            positions.settled_ns = settled_ns.unwrap_or(positions.settled_ns);
            before != *positions
        });
    }

    /// The store that holds the lake's files; its root is the lake's folder, as in [`DataFile::path`].
    #[must_use]
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::<DurableStore>::clone(&self.inner.store)
    }

    /// The URL under which a query engine registers [`Lake::object_store`]: `file:///`, whose root is then
    /// the lake's folder.
    #[must_use]
    pub fn object_store_url(&self) -> Url {
        self.inner.store_url.clone()
    }

    /// The settings the lake was opened with.
    #[must_use]
    pub fn options(&self) -> &LakeOptions {
        &self.inner.options
    }

    /// Whether the lake was opened without the right to write.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.inner.read_only
    }

    /// Stops the tasks, waits for requests that are being logged, flushes, and gives up the folder's lock.
    /// Appends are answered with Busy from now on; reading goes on working.
    ///
    /// # Errors
    /// Those of [`Lake::flush`]; nothing acknowledged is lost, it is still in the log.
    pub async fn shutdown(&self) -> Result<()> {
        self.inner.shutdown().await
    }
}

impl Inner {
    fn check_writable(&self) -> Result<()> {
        if self.read_only {
            return Err(Error::invalid(
                "this lake is open for reading only: send writes to the server that holds it",
            ));
        }
        if self.writing.read().lock.is_none() {
            return Err(Error::busy(
                "the lake is shut down: another process may hold its folder now",
            ));
        }
        Ok(())
    }

    fn watermark(&self) -> Watermark {
        let gate = self.shared.gate.lock();
        Watermark {
            last_sequence: gate.last_sequence,
            flushed: self.shared.positions.borrow().flushed,
            last_arrived_ns: gate.last_arrived_ns,
        }
    }
}
