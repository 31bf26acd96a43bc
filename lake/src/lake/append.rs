//! Appending: check limits, look for a repeat, hand the request to the log, wait for its fsync.

use std::sync::atomic::Ordering;

use super::{Inner, Lake, Shared};
use crate::TableRows;
use crate::error::{Error, ErrorKind, Result};
use crate::options::PAYLOAD_BYTES_MAX;
use crate::tables::Table;
use crate::wal::WalRecord;
use crate::wal::writer::{Pending, Sink};
use crate::window::Lookup;

/// A request that is on stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcknowledgedBatch {
    /// The request's place in the log.
    pub sequence: u64,
    /// Whether it had been stored before; its rows were not added again.
    pub duplicate: bool,
}

impl Lake {
    /// Logs a request and makes its rows visible. Returns once it is on stable storage; a repeat of a request
    /// in the deduplication window returns the first copy's sequence. If the caller goes away, the request
    /// is stored all the same.
    ///
    /// # Errors
    /// `Busy` while too many bytes are waiting, when flushing is behind, when the disk is full, after a failed
    /// fsync, and after shutdown; `TooLarge` for a payload over 256 MiB; `Invalid` for rows of another schema.
    pub async fn append_batch(&self, record: WalRecord, rows: TableRows) -> Result<AcknowledgedBatch> {
        let inner = &self.inner;
        inner.check_writable()?;
        check_record(&record)?;
        check_rows(&rows)?;
        let hash = record.hash();
        let (answer, duplicate) = match inner.shared.window.lock().look_up(hash) {
            Lookup::Stored(sequence) => {
                inner.shared.n_duplicates.fetch_add(1, Ordering::Relaxed);
                return Ok(AcknowledgedBatch {
                    sequence,
                    duplicate: true,
                });
            }
            Lookup::Waiting(answer) => (answer, true),
            Lookup::New(answer) => (answer, false),
        };
        if !duplicate {
            // No await before this: a caller that goes away must not leave others waiting for nobody.
            inner.submit(Pending {
                n_bytes: record.payload.len() + rows.iter().map(|rows| rows.1.get_array_memory_size()).sum::<usize>(),
                record,
                rows,
                hash,
            });
        }
        let sequence = answer
            .await
            .map_err(|_| Error::busy("the lake is shutting down: retry"))??;
        if duplicate {
            inner.shared.n_duplicates.fetch_add(1, Ordering::Relaxed);
        }
        Ok(AcknowledgedBatch { sequence, duplicate })
    }
}

impl Inner {
    /// Hands a request to the log, or fails it; the answer goes to those who wait in the window.
    fn submit(&self, pending: Pending) {
        let n_bytes = pending.n_bytes;
        let before = self.shared.bytes_in_flight.fetch_add(n_bytes, Ordering::AcqRel);
        let refusal = if before > 0 && before + n_bytes > self.options.wal_bytes_in_flight_max {
            Some("too many bytes wait for the write-ahead log: retry later")
        } else if self.shared.hot_bytes.load(Ordering::Relaxed) > self.options.hot_bytes_max {
            Some("flushing to the tables is behind: retry later")
        } else {
            None
        };
        if let Some(reason) = refusal {
            self.shared.failed(vec![pending], &Error::busy(reason));
            return;
        }
        let writing = self.writing.read();
        let refused = match &writing.wal {
            Some(wal) => wal.submit(pending).err(),
            None => Some(pending),
        };
        if let Some(pending) = refused {
            self.shared
                .failed(vec![pending], &Error::busy("the lake is shutting down: retry"));
        }
    }
}

fn check_record(record: &WalRecord) -> Result<()> {
    if record.payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "a request of {} bytes is over the log's limit of {PAYLOAD_BYTES_MAX}",
                record.payload.len()
            ),
        ));
    }
    if record.tenant.as_str().len() > usize::from(u16::MAX) {
        return Err(Error::invalid("the tenant's name is over 65,535 bytes"));
    }
    Ok(())
}

/// Refuses rows that a flush could not write: acknowledged, they would be stuck.
pub(super) fn check_rows(rows: &TableRows) -> Result<()> {
    for (table, batch) in rows {
        if !Table::RAW.contains(table) {
            return Err(Error::invalid(format!(
                "{} is not written through the log",
                table.name()
            )));
        }
        if batch.schema_ref().fields() != table.schema().fields() {
            return Err(Error::invalid(format!(
                "rows for {} do not have its schema",
                table.name()
            )));
        }
    }
    Ok(())
}

impl Sink for Shared {
    fn durable(&self, group: Vec<(u64, Pending)>) {
        let mut n_bytes = 0;
        let mut answers = Vec::with_capacity(group.len());
        {
            let mut gate = self.gate.lock();
            // Under the gate, so that a saved window knows every request that its log position covers.
            let mut window = self.window.lock();
            for (sequence, pending) in group {
                n_bytes += pending.n_bytes;
                answers.push((window.stored(pending.hash, sequence), sequence));
                self.push_rows(&mut gate, sequence, pending.record.arrived_ns, pending.rows);
            }
            Self::mark_arrival(&mut gate);
            self.positions.send_modify(|positions| {
                positions.acknowledged = gate.last_sequence;
                positions.acknowledged_ns = gate.last_arrived_ns;
            });
        }
        self.n_batches.fetch_add(answers.len() as u64, Ordering::Relaxed);
        self.bytes_in_flight.fetch_sub(n_bytes, Ordering::AcqRel);
        if self.count_hot_bytes() >= self.seal_bytes_max {
            self.flush_now.notify_one();
        }
        for (waiting, sequence) in answers {
            for answer in waiting {
                // A caller that went away does not need its answer.
                let _ = answer.send(Ok(sequence));
            }
        }
    }

    fn failed(&self, group: Vec<Pending>, error: &Error) {
        for pending in group {
            self.bytes_in_flight.fetch_sub(pending.n_bytes, Ordering::AcqRel);
            let waiting = self.window.lock().failed(&pending.hash);
            for answer in waiting {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}
