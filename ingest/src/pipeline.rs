//! The way of a request after it was decoded: normalise, append to the write-ahead log, acknowledge.
//!
//! Guarantee: [`Pipeline::accept`] returns only when the request is on stable storage (or was there
//! already); what it rejects is counted and named. The log holds the request's own bytes, so a replay
//! normalises them again, with whatever dialects the newer version knows.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use spanledger_access::Principal;
use spanledger_lake::{Lake, Replay, WalRecord};
use spanledger_model::Clock;

use crate::accept::{Accept, Accepted, Encoding, Request, Signal};
use crate::admission::Admission;
use crate::decode::decode;
use crate::dialects::Registry;
use crate::door::Door;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::meters::Meters;
use crate::normalise::{Context, Normalised, normalise};

/// Makes requests durable.
pub struct Pipeline {
    lake: Lake,
    door: Door,
    limits: Limits,
    admission: Admission,
    meters: Meters,
    clock: Arc<dyn Clock>,
    dialects: Arc<Registry>,
}

impl Pipeline {
    /// A pipeline into `lake`, for those whom `door` lets in: at least an authenticator.
    #[must_use]
    pub fn new(
        lake: Lake,
        door: impl Into<Door>,
        limits: Limits,
        clock: Arc<dyn Clock>,
        dialects: Arc<Registry>,
    ) -> Arc<Self> {
        let admission = Admission::new(&limits);
        Arc::new(Self {
            lake,
            door: door.into(),
            limits,
            admission,
            meters: Meters::default(),
            clock,
            dialects,
        })
    }

    /// What was received so far.
    #[must_use]
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    fn note(&self, signal: Signal, accepted: &Accepted, normalised: &Normalised) {
        self.meters.note_accepted(
            signal,
            accepted,
            &normalised.recognised,
            &normalised.noise,
            normalised.first_service.as_deref(),
        );
    }
}

#[async_trait]
impl Accept for Pipeline {
    async fn accept(
        &self,
        principal: &Principal,
        request: Request,
        body: Bytes,
        encoding: Encoding,
    ) -> Result<Accepted> {
        let signal = request.signal();
        let context = Context {
            tenant: principal.tenant().clone(),
            arrived_ns: self.clock.now_ns(),
            dialects: Arc::clone(&self.dialects),
        };
        let mut normalised = normalise(&request, &context, &self.limits);
        // What was decoded is up to five times the body: let it go before waiting for the disk.
        drop(request);
        let mut accepted = Accepted {
            n_accepted: normalised.n_accepted,
            n_rejected: normalised.n_rejected(),
            message: normalised.message(signal.record_name()),
            duplicate: false,
        };
        self.meters.note_rejected(signal, accepted.n_rejected);
        if normalised.rows.is_empty() {
            if !normalised.noise.is_empty() {
                self.note(signal, &accepted, &normalised);
            }
            return Ok(accepted);
        }
        let record = WalRecord {
            kind: wal_kind(signal, encoding),
            tenant: context.tenant,
            arrived_ns: context.arrived_ns,
            payload: body,
        };
        let rows = std::mem::take(&mut normalised.rows);
        let acknowledged = self.lake.append_batch(record, rows).await.map_err(from_lake)?;
        accepted.duplicate = acknowledged.duplicate;
        self.note(signal, &accepted, &normalised);
        Ok(accepted)
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn door(&self) -> &Door {
        &self.door
    }

    fn admission(&self) -> &Admission {
        &self.admission
    }

    fn refused(&self, signal: Signal, kind: ErrorKind) {
        self.meters.note_refused(signal, kind);
    }

    fn rejected(&self, signal: Signal, n_records: u64) {
        self.meters.note_rejected(signal, n_records);
    }
}

/// Reads log records back into rows, when a lake is opened after a crash.
#[derive(Debug, Clone)]
pub struct OtlpReplay {
    limits: Limits,
    dialects: Arc<Registry>,
}

impl OtlpReplay {
    /// A reader with the dialects that new requests are read with.
    #[must_use]
    pub fn new(limits: Limits, dialects: Arc<Registry>) -> Self {
        Self { limits, dialects }
    }
}

impl Replay for OtlpReplay {
    fn rows(&self, record: &WalRecord) -> spanledger_lake::Result<spanledger_lake::TableRows> {
        let corrupt = |message: String| spanledger_lake::Error::new(spanledger_lake::ErrorKind::Corrupt, message);
        let (signal, encoding) = signal_of(record.kind)
            .ok_or_else(|| corrupt(format!("write-ahead log record of unknown kind {}", record.kind)))?;
        let request = decode(signal, encoding, &record.payload)
            .map_err(|error| corrupt(format!("acknowledged request cannot be decoded again: {error}")))?;
        let context = Context {
            tenant: record.tenant.clone(),
            arrived_ns: record.arrived_ns,
            dialects: Arc::clone(&self.dialects),
        };
        Ok(normalise(&request, &context, &self.limits).rows)
    }
}

/// The log's kind byte: signal in the low bits, encoding in bit 4.
fn wal_kind(signal: Signal, encoding: Encoding) -> u8 {
    let signal = match signal {
        Signal::Traces => 1,
        Signal::Logs => 2,
        Signal::Metrics => 3,
    };
    match encoding {
        Encoding::Protobuf => signal,
        Encoding::Json => signal | 0x10,
    }
}

fn signal_of(kind: u8) -> Option<(Signal, Encoding)> {
    let signal = match kind & 0x0f {
        1 => Signal::Traces,
        2 => Signal::Logs,
        3 => Signal::Metrics,
        _ => return None,
    };
    match kind & 0xf0 {
        0x00 => Some((signal, Encoding::Protobuf)),
        0x10 => Some((signal, Encoding::Json)),
        _ => None,
    }
}

fn from_lake(error: spanledger_lake::Error) -> Error {
    use spanledger_lake::ErrorKind as Lake;
    let kind = match error.kind() {
        Lake::Invalid | Lake::NotFound => ErrorKind::Invalid,
        Lake::TooLarge => ErrorKind::TooLarge,
        Lake::Unauthenticated => ErrorKind::Unauthenticated,
        Lake::Forbidden => ErrorKind::Forbidden,
        Lake::Busy => ErrorKind::Busy,
        Lake::Corrupt => ErrorKind::Corrupt,
        Lake::Internal => ErrorKind::Internal,
    };
    Error::new(kind, error.message().to_owned()).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_byte_reads_back() {
        for signal in [Signal::Traces, Signal::Logs, Signal::Metrics] {
            for encoding in [Encoding::Protobuf, Encoding::Json] {
                assert_eq!(signal_of(wal_kind(signal, encoding)), Some((signal, encoding)));
            }
        }
        assert_eq!(signal_of(0), None);
        assert_eq!(signal_of(0x21), None);
    }
}
