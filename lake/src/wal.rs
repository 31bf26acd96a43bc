//! The write-ahead log: an acknowledged request is in it, on stable storage, until its rows are in the tables.
//!
//! A folder of segments named by their first sequence number. A segment is a header and frames; a frame is
//! one request as it arrived (its bytes are opaque here), with a CRC. One thread writes: it collects what
//! is waiting, writes it with one call, calls `fdatasync` once, and only then answers ([`writer`]).
//!
//! ```text
//! segment  = "SLWAL\0" version:u16 first_sequence:u64 crc32:u32 reserved:u32           (24 bytes, little endian)
//! frame    = "SLFR" body_len:u32 crc32:u32 | sequence:u64 durable_through:u64 arrived_ns:i64
//!            kind:u8 reserved:u8 tenant_len:u16 tenant payload                         (crc over all after it)
//! ```
//!
//! `durable_through` is the highest sequence that was on stable storage when the frame was written. It tells
//! a torn tail from damage: after a power loss any frame of the last, unacknowledged group may be missing,
//! even one before a frame that survived. A bad frame is damage only if a later frame says it was durable.
//!
//! What this does not do: it does not know what a payload means, and it does not decide what may be trimmed.

pub(crate) mod frame;
pub(crate) mod segment;
pub(crate) mod writer;

use bytes::Bytes;
use spanledger_model::TenantId;

/// One request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalRecord {
    /// What the payload is; the meaning belongs to ingest.
    pub kind: u8,
    /// Whose rows these are.
    pub tenant: TenantId,
    /// When the request arrived, nanoseconds since the Unix epoch.
    pub arrived_ns: i64,
    /// The request's body, after decompression.
    pub payload: Bytes,
}

/// Identity of a request for deduplication: xxh3-128 of tenant, kind and payload.
pub(crate) type RecordHash = [u8; 16];

impl WalRecord {
    pub(crate) fn hash(&self) -> RecordHash {
        spanledger_model::ids::hash_parts(&[self.tenant.as_str().as_bytes(), &[self.kind], &self.payload])
    }
}
