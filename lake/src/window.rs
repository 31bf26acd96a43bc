//! The deduplication window: a repeated request is answered, not stored.
//!
//! A sender that lost an answer sends the request again. The window remembers the hashes of the last
//! requests: a repeat of a stored one is answered at once, a repeat of one whose fsync is still running
//! waits for that fsync. It is written beside the log before segments are trimmed and rebuilt from that file
//! plus the frames still in the log. A repeat older than the window is stored again; settlement counts it once.
//!
//! ```text
//! file = "SLDEDUP\0" version:u32 n:u32 last_sequence:u64 flushed:u64 last_arrived_ns:i64
//!        n × (hash:[u8;16] sequence:u64) crc32:u32                                    (little endian)
//! ```

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::error::{Context, Error, Result};
use crate::files::{Files, write_atomically};
use crate::wal::RecordHash;
use crate::wal::frame::{read_u32, read_u64};

const MAGIC: &[u8; 8] = b"SLDEDUP\0";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 40;
const ENTRY_LEN: usize = 24;
const FILE_NAME: &str = "window";

/// The answer to one waiting request.
pub(crate) type Answer = Result<u64>;

enum Slot {
    Waiting(Vec<oneshot::Sender<Answer>>),
    Stored(u64),
}

/// What is known of a request when it arrives.
pub(crate) enum Lookup {
    /// Never seen: it must be submitted to the log; the receiver gets the answer.
    New(oneshot::Receiver<Answer>),
    /// Being stored: the receiver gets the first copy's answer.
    Waiting(oneshot::Receiver<Answer>),
    /// Stored under this sequence.
    Stored(u64),
}

/// Where the log stood when the window was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Watermark {
    /// Highest sequence ever given.
    pub(crate) last_sequence: u64,
    /// Every sequence up to this one is in the tables.
    pub(crate) flushed: u64,
    /// Arrival time of the last record, nanoseconds since the Unix epoch.
    pub(crate) last_arrived_ns: i64,
}

/// Hashes of the last requests.
pub(crate) struct Window {
    slots: HashMap<RecordHash, Slot>,
    order: VecDeque<(RecordHash, u64)>,
    capacity: usize,
}

impl Window {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            slots: HashMap::new(),
            order: VecDeque::new(),
            capacity,
        }
    }

    /// Looks a request up and, if it is new or waiting, registers for its answer.
    pub(crate) fn look_up(&mut self, hash: RecordHash) -> Lookup {
        match self.slots.get_mut(&hash) {
            Some(Slot::Stored(sequence)) => Lookup::Stored(*sequence),
            Some(Slot::Waiting(waiting)) => {
                let (sender, receiver) = oneshot::channel();
                waiting.push(sender);
                Lookup::Waiting(receiver)
            }
            None => {
                let (sender, receiver) = oneshot::channel();
                self.slots.insert(hash, Slot::Waiting(vec![sender]));
                Lookup::New(receiver)
            }
        }
    }

    /// Remembers a stored request. Returns those who wait for it.
    pub(crate) fn stored(&mut self, hash: RecordHash, sequence: u64) -> Vec<oneshot::Sender<Answer>> {
        let before = self.slots.insert(hash, Slot::Stored(sequence));
        self.order.push_back((hash, sequence));
        while self.order.len() > self.capacity {
            if let Some((oldest, sequence)) = self.order.pop_front()
                && matches!(self.slots.get(&oldest), Some(Slot::Stored(stored)) if *stored == sequence)
            {
                self.slots.remove(&oldest);
            }
        }
        match before {
            Some(Slot::Waiting(waiting)) => waiting,
            _ => Vec::new(),
        }
    }

    /// Forgets a request that could not be stored. Returns those who wait for it.
    pub(crate) fn failed(&mut self, hash: &RecordHash) -> Vec<oneshot::Sender<Answer>> {
        match self.slots.remove(hash) {
            Some(Slot::Waiting(waiting)) => waiting,
            _ => Vec::new(),
        }
    }

    /// Whether the request is remembered as stored.
    pub(crate) fn contains(&self, hash: &RecordHash) -> bool {
        matches!(self.slots.get(hash), Some(Slot::Stored(_)))
    }

    /// The window's file content.
    pub(crate) fn encode(&self, watermark: Watermark) -> Vec<u8> {
        let n_entries = u32::try_from(self.order.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER_LEN + self.order.len() * ENTRY_LEN + 4);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&n_entries.to_le_bytes());
        bytes.extend_from_slice(&watermark.last_sequence.to_le_bytes());
        bytes.extend_from_slice(&watermark.flushed.to_le_bytes());
        bytes.extend_from_slice(&watermark.last_arrived_ns.to_le_bytes());
        for (hash, sequence) in &self.order {
            bytes.extend_from_slice(hash);
            bytes.extend_from_slice(&sequence.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &Bytes, capacity: usize) -> Option<(Self, Watermark)> {
        let content = bytes.get(..bytes.len().checked_sub(4)?)?;
        if content.get(..8)? != MAGIC || read_u32(bytes, content.len())? != crc32fast::hash(content) {
            return None;
        }
        let watermark = Watermark {
            last_sequence: read_u64(content, 16)?,
            flushed: read_u64(content, 24)?,
            last_arrived_ns: i64::from_le_bytes(content.get(32..40)?.try_into().ok()?),
        };
        let mut window = Self::new(capacity);
        for entry in content.get(HEADER_LEN..)?.chunks_exact(ENTRY_LEN) {
            window.stored(entry.get(..16)?.try_into().ok()?, read_u64(entry, 16)?);
        }
        Some((window, watermark))
    }
}

/// Writes the window's content so that it is there entirely or not at all.
///
/// # Errors
/// `Internal`, the file system's.
pub(crate) fn save(files: &dyn Files, dir: &Path, content: &[u8]) -> Result<()> {
    let path = dir.join(FILE_NAME);
    write_atomically(files, &dir.join("window.tmp"), &path, content)
        .or_internal(|| format!("cannot write the deduplication window {}", path.display()))
}

/// Reads the window back; an empty one if none was ever written.
///
/// # Errors
/// `Corrupt` if the file is damaged, `Invalid` if a newer build wrote it.
pub(crate) fn load(files: &dyn Files, dir: &Path, capacity: usize) -> Result<(Window, Watermark)> {
    let path = dir.join(FILE_NAME);
    let bytes = match files.read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((Window::new(capacity), Watermark::default()));
        }
        Err(error) => {
            return Err(Error::internal(format!("cannot read {}", path.display())).with_source(error));
        }
    };
    if bytes.get(..8) == Some(MAGIC.as_slice()) && read_u32(&bytes, 8).is_some_and(|version| version > VERSION) {
        return Err(Error::invalid(format!(
            "{} was written by a newer spanledger: upgrade to open this lake",
            path.display()
        )));
    }
    Window::decode(&bytes, capacity).ok_or_else(|| {
        Error::corrupt(format!(
            "the deduplication window {} is damaged: restore it, or remove it to accept that a request retried right now may be stored twice",
            path.display()
        ))
    })
}
