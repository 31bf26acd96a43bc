//! Opening: lock the folder, load the tables, recover the log, replay what the tables lack, start the tasks.
//! And the way out: [`Inner::shutdown`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Duration;

use object_store::ObjectStore;
use parking_lot::{Mutex, RwLock};
use spanledger_model::Clock;
use spanledger_model::ids::hash_parts;
use tokio::sync::{Notify, watch};
use url::Url;
use uuid::Uuid;

use super::append::check_rows;
use super::flush::flush_loop;
use super::maintain::maintenance_loop;
use super::{Gate, Inner, Lake, Positions, Replay, Shared, TableSlot, Writing};
use crate::TableRows;
use crate::error::{Context, Error, Result};
use crate::files::{Files, LocalFiles};
use crate::options::LakeOptions;
use crate::store::DurableStore;
use crate::table_log::{Change, CommitOutcome, DeltaLog, LogSnapshot, TableLog};
use crate::table_state::TableState;
use crate::tables::Table;
use crate::wal::frame::Frame;
use crate::wal::segment::{self, Segment};
use crate::wal::writer::{Sink, WalWriter, WriterOptions};
use crate::window::{self, Watermark, Window};

const LOCK_FILE: &str = "LOCK";
const WAL_DIR: &str = "wal";
/// Records that one thread replays at a time.
const REPLAY_RECORDS: usize = 16;
/// Threads of a replay: start-up has the machine to itself, but not more than this is useful.
const REPLAY_THREADS_MAX: usize = 8;

impl Lake {
    /// Opens the lake for writing, creating it if there is none: takes the folder's lock, recovers the log,
    /// replays what the tables lack into the hot buffer, and starts flushing and compaction in the background.
    ///
    /// # Errors
    /// `Busy` if another process holds the folder; `Corrupt` if acknowledged data is damaged; `Invalid` for a
    /// lake of a newer format, or a retention below what settlement needs.
    pub async fn open(options: LakeOptions, clock: Arc<dyn Clock>, replay: &dyn Replay) -> Result<Self> {
        Self::open_on(options, clock, Arc::new(LocalFiles), replay).await
    }

    /// As [`Lake::open`], on other file operations: the seam for tests that lose power.
    ///
    /// # Errors
    /// Those of [`Lake::open`].
    pub async fn open_on(
        mut options: LakeOptions,
        clock: Arc<dyn Clock>,
        files: Arc<dyn Files>,
        replay: &dyn Replay,
    ) -> Result<Self> {
        options.retention.check()?;
        let named = options.data_dir.display().to_string();
        let failed = || format!("cannot create the lake's folder {named}");
        files.create_dir_all(&options.data_dir).or_internal(failed)?;
        options.data_dir = std::fs::canonicalize(&options.data_dir).or_internal(failed)?;
        let wal_dir = options.data_dir.join(WAL_DIR);
        files.create_dir_all(&wal_dir).or_internal(failed)?;
        let lock = lock_dir(&options.data_dir)?;
        let store = DurableStore::new(&options.data_dir, Arc::clone(&files)).or_internal(failed)?;
        store.prepare().or_internal(failed)?;

        let slots = load_tables(Arc::new(store.clone()), Some(clock.as_ref())).await?;
        let (window, watermark) = window::load(files.as_ref(), &wal_dir, options.dedup_window)?;
        let (frames, segments) = recover_log(files.as_ref(), &wal_dir, watermark)?;

        let inner = Inner::new(options, clock, files, store, wal_dir, false, slots, window)?;
        inner.writing.write().lock = Some(lock);
        let next_sequence = inner.replay(frames, watermark, replay).await?;
        inner.start(segments, next_sequence)
    }

    /// Opens the lake for looking at what is committed, beside a server that holds the lock. Rows that are
    /// only in the log are not shown; the view does not advance.
    ///
    /// # Errors
    /// `NotFound` class (`Invalid`) if there is no lake; `Corrupt` if a table's log cannot be read.
    pub async fn open_read_only(data_dir: &FilePath, clock: Arc<dyn Clock>) -> Result<Self> {
        let data_dir = std::fs::canonicalize(data_dir).map_err(|source| {
            let message = format!("there is no lake at {}", data_dir.display());
            Error::new(crate::ErrorKind::NotFound, message).with_source(source)
        })?;
        let files: Arc<dyn Files> = Arc::new(LocalFiles);
        let store = DurableStore::new(&data_dir, Arc::clone(&files))
            .or_internal(|| format!("cannot open {}", data_dir.display()))?;
        let slots = load_tables(Arc::new(store.clone()), None).await?;
        let wal_dir = data_dir.join(WAL_DIR);
        let options = LakeOptions {
            data_dir,
            ..LakeOptions::default()
        };
        let window = Window::new(0);
        let inner = Inner::new(options, clock, files, store, wal_dir, true, slots, window)?;
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Inner {
    #[allow(clippy::too_many_arguments)] // the parts of a lake, each made in its own way by the two openings
    fn new(
        options: LakeOptions,
        clock: Arc<dyn Clock>,
        files: Arc<dyn Files>,
        store: DurableStore,
        wal_dir: std::path::PathBuf,
        read_only: bool,
        tables: Vec<Arc<TableSlot>>,
        window: Window,
    ) -> Result<Self> {
        let shared = Shared {
            tables,
            gate: Mutex::new(Gate::default()),
            window: Mutex::new(window),
            positions: watch::Sender::new(Positions::default()),
            bytes_in_flight: AtomicUsize::new(0),
            hot_bytes: AtomicUsize::new(0),
            seal_bytes_max: options.seal_bytes_max,
            flush_now: Notify::new(),
            n_batches: AtomicU64::new(0),
            n_duplicates: AtomicU64::new(0),
        };
        Ok(Self {
            opened_at_ns: clock.now_ns(),
            options,
            clock,
            files,
            store: Arc::new(store),
            store_url: Url::parse("file:///").or_internal(|| "cannot name the store".to_owned())?,
            wal_dir,
            read_only,
            shared: Arc::new(shared),
            writing: RwLock::new(Writing { wal: None, lock: None }),
            flush_lock: tokio::sync::Mutex::new(()),
            compact_lock: tokio::sync::Mutex::new(()),
            checkpoint_lock: Arc::default(),
            stop: watch::Sender::new(false),
            tasks: Mutex::new(Vec::new()),
            n_names: AtomicU64::new(0),
        })
    }

    /// Brings the rows of frames that a table does not cover into the hot buffer, and all hashes into the
    /// window. Returns the next sequence to give.
    async fn replay(&self, frames: Vec<Frame>, watermark: Watermark, replay: &dyn Replay) -> Result<u64> {
        let covered: HashMap<Table, u64> = Table::RAW
            .into_iter()
            .map(|table| {
                let txn = self.shared.slot(table).state.lock().txn_version(&self.options.node);
                let txn = txn.and_then(|txn| u64::try_from(txn).ok()).unwrap_or(0);
                (table, txn.max(watermark.flushed))
            })
            .collect();
        let lowest = covered.values().copied().min().unwrap_or(0);
        let highest = covered.values().copied().max().unwrap_or(0);
        {
            let mut window = self.shared.window.lock();
            for frame in &frames {
                let hash = frame.record.hash();
                if !window.contains(&hash) {
                    window.stored(hash, frame.sequence);
                }
            }
        }
        let last_sequence = frames
            .last()
            .map_or(0, |frame| frame.sequence)
            .max(watermark.last_sequence)
            .max(highest);
        {
            let mut gate = self.shared.gate.lock();
            gate.last_sequence = lowest;
            gate.sealed_through = lowest;
            gate.last_arrived_ns = watermark.last_arrived_ns;
            gate.sealed_arrived_ns = watermark.last_arrived_ns;
        }
        self.shared.positions.send_modify(|positions| {
            positions.flushed = lowest;
            positions.flushed_ns = watermark.last_arrived_ns;
        });
        let pending: Vec<Frame> = frames.into_iter().filter(|frame| frame.sequence > lowest).collect();
        let n_threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(REPLAY_THREADS_MAX);
        let mut unflushed = false;
        for part in pending.chunks(n_threads * REPLAY_RECORDS) {
            for (frame, rows) in part.iter().zip(replay_parallel(part, replay)?) {
                let rows: TableRows = rows
                    .into_iter()
                    .filter(|(table, _)| covered.get(table).is_none_or(|covered| frame.sequence > *covered))
                    .collect();
                unflushed |= !rows.is_empty();
                let mut gate = self.shared.gate.lock();
                self.shared
                    .push_rows(&mut gate, frame.sequence, frame.record.arrived_ns, rows);
                Shared::mark_arrival(&mut gate);
            }
            if self.shared.count_hot_bytes() >= self.options.seal_bytes_max {
                self.flush().await?;
                unflushed = false;
            }
        }
        let arrived_ns = {
            let mut gate = self.shared.gate.lock();
            gate.last_sequence = last_sequence;
            if !unflushed {
                gate.sealed_through = last_sequence;
                gate.sealed_arrived_ns = gate.last_arrived_ns;
            }
            gate.last_arrived_ns
        };
        self.shared.positions.send_modify(|positions| {
            positions.acknowledged = last_sequence;
            positions.acknowledged_ns = arrived_ns;
            if !unflushed {
                positions.flushed = last_sequence;
                positions.flushed_ns = arrived_ns;
            }
        });
        Ok(last_sequence + 1)
    }

    fn start(self, segments: VecDeque<Segment>, next_sequence: u64) -> Result<Lake> {
        let writer_options = WriterOptions {
            dir: self.wal_dir.clone(),
            group_commit_window: Duration::from_micros(self.options.group_commit_window_us),
            segment_bytes: self.options.wal_segment_bytes,
        };
        let sink: Arc<dyn Sink> = Arc::<Shared>::clone(&self.shared);
        let wal = WalWriter::spawn(Arc::clone(&self.files), writer_options, segments, next_sequence, sink)?;
        self.writing.write().wal = Some(wal);
        let inner = Arc::new(self);
        let mut tasks = vec![tokio::spawn(flush_loop(
            Arc::downgrade(&inner),
            inner.stop.subscribe(),
            Duration::from_millis(inner.options.flush_interval_ms),
        ))];
        if inner.options.compaction.enabled {
            tasks.push(tokio::spawn(maintenance_loop(
                Arc::downgrade(&inner),
                inner.stop.subscribe(),
                Duration::from_millis(inner.options.compaction.interval_ms),
            )));
        }
        inner.tasks.lock().extend(tasks);
        Ok(Lake { inner })
    }

    pub(super) async fn shutdown(&self) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.stop.send_replace(true);
        // Taking the writer ends its thread once everything submitted is answered.
        let wal = self.writing.write().wal.take();
        let segments = match wal {
            None => None,
            Some(wal) => Some(
                tokio::task::spawn_blocking(move || wal.close())
                    .await
                    .or_internal(|| "the write-ahead log's thread ended early".to_owned())?,
            ),
        };
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            // A task that panicked has said so; its work is in the log.
            let _ = task.await;
        }
        let Some(segments) = segments else { return Ok(()) };
        let flushed = self.flush().await;
        if flushed.is_ok() {
            self.save_window().await?;
            for segment in segments {
                self.files
                    .remove(&segment.path)
                    .or_internal(|| format!("cannot remove the log segment {}", segment.path.display()))?;
            }
            self.files
                .sync_dir(&self.wal_dir)
                .or_internal(|| format!("cannot sync the folder {}", self.wal_dir.display()))?;
        }
        self.writing.write().lock = None;
        flushed.map(|_| ())
    }
}

fn lock_dir(data_dir: &FilePath) -> Result<File> {
    let path = data_dir.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .or_internal(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::busy(format!(
            "the lake {} is held by another process: stop it, or ask it with --url",
            data_dir.display()
        ))),
        Err(TryLockError::Error(source)) => {
            Err(Error::internal(format!("cannot lock {}", path.display())).with_source(source))
        }
    }
}

/// Loads every table; with a clock, makes those that are missing and widens those with an older schema.
async fn load_tables(store: Arc<dyn ObjectStore>, writer: Option<&dyn Clock>) -> Result<Vec<Arc<TableSlot>>> {
    let loads = Table::ALL.into_iter().map(|table| {
        let store = Arc::clone(&store);
        async move {
            let log = DeltaLog::new(table, store)?;
            let mut snapshot = log.snapshot().await?;
            if let Some(clock) = writer {
                snapshot = Some(ensure_table(table, &log, snapshot, clock).await?);
            }
            Ok(Arc::new(TableSlot {
                table,
                state: Mutex::new(TableState::new(snapshot)),
                log: Box::new(log),
                commit_lock: tokio::sync::Mutex::new(()),
                checkpointing: AtomicBool::new(false),
                unmergeable: Mutex::new(HashSet::new()),
                merges: Mutex::new(VecDeque::new()),
                expired: Mutex::default(),
            }))
        }
    });
    futures::future::try_join_all(loads).await
}

async fn ensure_table(
    table: Table,
    log: &DeltaLog,
    snapshot: Option<LogSnapshot>,
    clock: &dyn Clock,
) -> Result<LogSnapshot> {
    let now_ns = clock.now_ns();
    let schema = table.schema();
    let (version, table_id, operation) = match &snapshot {
        None => {
            let id = hash_parts(&[table.name().as_bytes(), &now_ns.to_le_bytes()]);
            (0, Uuid::from_bytes(id).to_string(), "CREATE TABLE")
        }
        Some(found) => {
            if let Some(unknown) = found.fields.iter().find(|name| schema.index_of(name).is_err()) {
                return Err(Error::invalid(format!(
                    "the table {} has a column {unknown} that this build does not know: upgrade to open this lake",
                    table.name()
                )));
            }
            if found.fields.len() == schema.fields().len() {
                return Ok(found.clone());
            }
            (found.version + 1, found.table_id.clone(), "ADD COLUMNS")
        }
    };
    let change = Change {
        operation,
        timestamp_ms: now_ns.div_euclid(1_000_000),
        schema_of: Some(table_id),
        ..Change::default()
    };
    match log.commit(version, &change).await? {
        CommitOutcome::Committed => Ok(LogSnapshot {
            version,
            ..snapshot.unwrap_or_default()
        }),
        CommitOutcome::Taken(_) => Err(Error::busy(format!(
            "another writer changed the table {} while it was opened: retry",
            table.name()
        ))),
    }
}

fn recover_log(files: &dyn Files, dir: &FilePath, watermark: Watermark) -> Result<(Vec<Frame>, VecDeque<Segment>)> {
    let mut frames = Vec::new();
    let scan = segment::scan(files, dir, watermark.flushed, |frame| {
        frames.push(frame);
        Ok(())
    })?;
    if scan.last_sequence.unwrap_or(0).max(watermark.flushed) < watermark.last_sequence {
        return Err(Error::corrupt(format!(
            "the write-ahead log in {} ends before sequence {}, which was acknowledged: restore its segments, or remove the folder to open the lake without its requests",
            dir.display(),
            watermark.last_sequence
        )));
    }
    segment::recover(files, dir, &scan)?;
    Ok((frames, scan.segments))
}

fn replay_parallel(frames: &[Frame], replay: &dyn Replay) -> Result<Vec<TableRows>> {
    let rows_of = |frame: &Frame| {
        let rows = replay.rows(&frame.record)?;
        check_rows(&rows)?;
        Ok(rows)
    };
    let results: Vec<Result<Vec<TableRows>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = frames
            .chunks(REPLAY_RECORDS)
            .map(|part| scope.spawn(move || part.iter().map(rows_of).collect()))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(Error::internal("replaying the write-ahead log panicked")))
            })
            .collect()
    });
    let mut rows = Vec::with_capacity(frames.len());
    for result in results {
        rows.extend(result?);
    }
    Ok(rows)
}
