//! The log's one writing thread: collect, write once, fsync once, answer.
//!
//! Sequence numbers are given here, so they follow the order in the file. A group goes wholly into one
//! segment, and a new segment is begun only when the one before is on stable storage; [`super::segment`]
//! relies on both. A failed write is undone by cutting the file and answered with Busy; after a failed
//! fsync the file's state is unknown, so the thread refuses everything until the process starts again.
//! It does not know what becomes of a record: the [`Sink`] does.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::segment::{Segment, segment_path};
use super::{RecordHash, WalRecord, frame};
use crate::TableRows;
use crate::error::{Context, Error, Result};
use crate::files::{Files, WritableFile};
use crate::options::GROUP_BYTES_MAX;

/// A request on its way to the log.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) record: WalRecord,
    pub(crate) rows: TableRows,
    pub(crate) hash: RecordHash,
    /// Bytes counted against the limit of bytes in flight.
    pub(crate) n_bytes: usize,
}

/// Where a request goes once its fate is known. Called on the log's thread.
pub(crate) trait Sink: Send + Sync {
    /// These are on stable storage, in this order.
    fn durable(&self, group: Vec<(u64, Pending)>);
    /// These are not, and will not be.
    fn failed(&self, group: Vec<Pending>, error: &Error);
}

/// Settings of the writer.
#[derive(Debug, Clone)]
pub(crate) struct WriterOptions {
    pub(crate) dir: PathBuf,
    pub(crate) group_commit_window: Duration,
    pub(crate) segment_bytes: u64,
}

/// The segments on disk, oldest first; shared between the thread that adds and the flush that trims.
pub(crate) type Segments = Arc<Mutex<VecDeque<Segment>>>;

/// Handle of the writing thread. Dropping it writes what is waiting and ends the thread.
pub(crate) struct WalWriter {
    sender: Option<Sender<Pending>>,
    thread: Option<JoinHandle<()>>,
    segments: Segments,
    files: Arc<dyn Files>,
    dir: PathBuf,
}

impl WalWriter {
    /// Starts the thread; the first record gets `next_sequence`.
    ///
    /// # Errors
    /// `Internal` if the thread cannot be started.
    pub(crate) fn spawn(
        files: Arc<dyn Files>,
        options: WriterOptions,
        segments: VecDeque<Segment>,
        next_sequence: u64,
        sink: Arc<dyn Sink>,
    ) -> Result<Self> {
        let (sender, receiver) = channel();
        let segments: Segments = Arc::new(Mutex::new(segments));
        let dir = options.dir.clone();
        let worker = Worker {
            files: Arc::clone(&files),
            options,
            segments: Arc::clone(&segments),
            next_sequence,
            sink,
            open: None,
            refusing: None,
        };
        let thread = std::thread::Builder::new()
            .name("wal".to_owned())
            .spawn(move || worker.run(&receiver))
            .or_internal(|| "cannot start the write-ahead log's thread".to_owned())?;
        Ok(Self {
            sender: Some(sender),
            thread: Some(thread),
            segments,
            files,
            dir,
        })
    }

    /// Hands a record to the thread; its sink answers. Gives it back if the thread has ended.
    pub(crate) fn submit(&self, pending: Pending) -> std::result::Result<(), Pending> {
        match &self.sender {
            Some(sender) => sender.send(pending).map_err(|refused| refused.0),
            None => Err(pending),
        }
    }

    /// Ends the thread once everything submitted is answered, and returns the segments on disk.
    pub(crate) fn close(mut self) -> Vec<Segment> {
        self.end();
        self.segments.lock().drain(..).collect()
    }

    /// Segments and bytes on disk.
    pub(crate) fn size(&self) -> (usize, u64) {
        let segments = self.segments.lock();
        (segments.len(), segments.iter().map(|segment| segment.size_bytes).sum())
    }

    /// How many segments hold nothing above `flushed`. The segment being written is never one of them.
    pub(crate) fn n_trimmable(&self, flushed: u64) -> usize {
        let segments = self.segments.lock();
        segments
            .iter()
            .skip(1)
            .take_while(|next| next.first_sequence <= flushed + 1)
            .count()
    }

    /// Removes the segments that hold nothing above `flushed`. Returns how many.
    ///
    /// # Errors
    /// `Internal`, the file system's; what is left is removed the next time.
    pub(crate) fn trim(&self, flushed: u64) -> Result<usize> {
        let n_segments = self.n_trimmable(flushed);
        for _ in 0..n_segments {
            let Some(path) = self.segments.lock().front().map(|segment| segment.path.clone()) else {
                break;
            };
            match self.files.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(
                        Error::internal(format!("cannot remove the log segment {}", path.display())).with_source(error),
                    );
                }
                _ => {}
            }
            self.segments.lock().pop_front();
        }
        if n_segments > 0 {
            self.files
                .sync_dir(&self.dir)
                .or_internal(|| format!("cannot sync the folder {}", self.dir.display()))?;
        }
        Ok(n_segments)
    }

    fn end(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // A panicked thread has answered nobody; its waiters see their channel close.
            let _ = thread.join();
        }
    }
}

impl Drop for WalWriter {
    fn drop(&mut self) {
        self.end();
    }
}

/// The segment being written.
struct OpenSegment {
    file: Box<dyn WritableFile>,
    path: PathBuf,
    len: u64,
}

struct Worker {
    files: Arc<dyn Files>,
    options: WriterOptions,
    segments: Segments,
    next_sequence: u64,
    sink: Arc<dyn Sink>,
    open: Option<OpenSegment>,
    /// Set for good by a failed fsync.
    refusing: Option<Error>,
}

/// How a group failed.
enum WriteFailure {
    /// Nothing of it is in the file; the next group may work.
    Undone(io::Error),
    /// The file's state is unknown.
    Unknown(io::Error),
}

impl Worker {
    fn run(mut self, receiver: &Receiver<Pending>) {
        let mut n_last_group = 0;
        while let Ok(first) = receiver.recv() {
            let group = self.collect(first, receiver, n_last_group);
            n_last_group = group.len();
            self.commit(group);
        }
    }

    /// Takes what is waiting. Waits for more only if the last group had more than one record: a lone sender
    /// would wait for nobody.
    fn collect(&self, first: Pending, receiver: &Receiver<Pending>, n_last_group: usize) -> Vec<Pending> {
        let mut n_bytes = first.record.payload.len();
        let mut group = vec![first];
        let deadline = Instant::now() + self.options.group_commit_window;
        while n_bytes < GROUP_BYTES_MAX {
            let next = match receiver.try_recv() {
                Ok(next) => next,
                Err(_) if group.len() >= n_last_group => break,
                Err(_) => match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(next) => next,
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                },
            };
            n_bytes += next.record.payload.len();
            group.push(next);
        }
        group
    }

    fn commit(&mut self, group: Vec<Pending>) {
        if let Some(error) = &self.refusing {
            self.sink.failed(group, error);
            return;
        }
        match self.write(&group) {
            Ok(()) => {
                let first_sequence = self.next_sequence;
                self.next_sequence += group.len() as u64;
                self.sink.durable((first_sequence..).zip(group).collect());
            }
            Err(WriteFailure::Undone(source)) => {
                let error =
                    Error::busy("cannot write to the write-ahead log: free disk space, then retry").with_source(source);
                tracing::warn!(%error, "write-ahead log");
                self.sink.failed(group, &error);
            }
            Err(WriteFailure::Unknown(source)) => {
                let error = Error::busy(
                    "the write-ahead log lost its disk and takes no more requests: check the disk, then restart",
                )
                .with_source(source);
                tracing::error!(%error, "write-ahead log");
                self.sink.failed(group, &error);
                self.refusing = Some(error);
            }
        }
    }

    fn write(&mut self, group: &[Pending]) -> std::result::Result<(), WriteFailure> {
        let durable_through = self.next_sequence.saturating_sub(1);
        let heads: Vec<Vec<u8>> = (self.next_sequence..)
            .zip(group)
            .map(|(sequence, pending)| frame::encode_frame_head(sequence, durable_through, &pending.record))
            .collect();
        let n_bytes: usize = heads.iter().map(Vec::len).sum::<usize>()
            + group.iter().map(|pending| pending.record.payload.len()).sum::<usize>();
        let mut open = match self.open.take() {
            Some(open) if open.len < self.options.segment_bytes => open,
            _ => self.begin_segment().map_err(WriteFailure::Undone)?,
        };
        let mut parts: Vec<IoSlice<'_>> = Vec::with_capacity(2 * group.len());
        for (head, pending) in heads.iter().zip(group) {
            parts.push(IoSlice::new(head));
            parts.push(IoSlice::new(&pending.record.payload));
        }
        if let Err(error) = open.file.append(&mut parts) {
            return match open.file.truncate(open.len) {
                Ok(()) => {
                    self.open = Some(open);
                    Err(WriteFailure::Undone(error))
                }
                Err(_) => Err(WriteFailure::Unknown(error)),
            };
        }
        open.file.sync().map_err(WriteFailure::Unknown)?;
        open.len += n_bytes as u64;
        if let Some(last) = self.segments.lock().back_mut().filter(|last| last.path == open.path) {
            last.size_bytes = open.len;
        }
        self.open = Some(open);
        Ok(())
    }

    fn begin_segment(&mut self) -> io::Result<OpenSegment> {
        let path = segment_path(&self.options.dir, self.next_sequence);
        let begin = || {
            let mut file = self.files.create(&path)?;
            let header = frame::encode_segment_header(self.next_sequence);
            file.append(&mut [IoSlice::new(&header)])?;
            // The name must be on stable storage before the first frame is acknowledged.
            self.files.sync_dir(&self.options.dir)?;
            Ok(OpenSegment {
                file,
                path: path.clone(),
                len: header.len() as u64,
            })
        };
        match begin() {
            Ok(open) => {
                self.segments.lock().push_back(Segment {
                    path,
                    first_sequence: self.next_sequence,
                    size_bytes: open.len,
                });
                Ok(open)
            }
            Err(error) => {
                // So that the next attempt can use the name.
                let _ = self.files.remove(&path);
                Err(error)
            }
        }
    }
}
