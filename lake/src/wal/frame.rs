//! Frames and segment headers: bytes to records and back. Pure functions; the layout is in [`super`].

use bytes::Bytes;
use spanledger_model::TenantId;

use super::WalRecord;

pub(crate) const SEGMENT_MAGIC: &[u8; 6] = b"SLWAL\0";
pub(crate) const SEGMENT_VERSION: u16 = 1;
pub(crate) const SEGMENT_HEADER_LEN: usize = 24;
const FRAME_MAGIC: &[u8; 4] = b"SLFR";
/// Magic, length and CRC.
const FRAME_PREFIX_LEN: usize = 12;
/// The fixed part of the body.
const BODY_FIXED_LEN: usize = 28;

/// A record with its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) sequence: u64,
    pub(crate) durable_through: u64,
    pub(crate) record: WalRecord,
}

/// What stands at the start of a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentHeader {
    /// A segment whose first frame has this sequence.
    Valid { first_sequence: u64 },
    /// A segment of a format this build does not know.
    NewerVersion(u16),
    /// Not a segment, or one whose creation was cut short.
    Invalid,
}

pub(crate) fn encode_segment_header(first_sequence: u64) -> [u8; SEGMENT_HEADER_LEN] {
    let mut header = [0; SEGMENT_HEADER_LEN];
    header[..6].copy_from_slice(SEGMENT_MAGIC);
    header[6..8].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
    header[8..16].copy_from_slice(&first_sequence.to_le_bytes());
    let crc = crc32fast::hash(&header[..16]);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    header
}

pub(crate) fn decode_segment_header(bytes: &[u8]) -> SegmentHeader {
    let (Some(magic), Some(version), Some(first_sequence), Some(crc)) = (
        bytes.get(..6),
        read_u16(bytes, 6),
        read_u64(bytes, 8),
        read_u32(bytes, 16),
    ) else {
        return SegmentHeader::Invalid;
    };
    if magic != SEGMENT_MAGIC || crc32fast::hash(&bytes[..16]) != crc {
        return SegmentHeader::Invalid;
    }
    if version != SEGMENT_VERSION {
        return SegmentHeader::NewerVersion(version);
    }
    SegmentHeader::Valid { first_sequence }
}

/// Everything of a frame but its payload, which is written from where it is.
pub(crate) fn encode_frame_head(sequence: u64, durable_through: u64, record: &WalRecord) -> Vec<u8> {
    // `append_batch` refuses longer tenants and payloads, so neither length saturates.
    let tenant = record.tenant.as_str().as_bytes();
    let tenant_len = u16::try_from(tenant.len()).unwrap_or(u16::MAX);
    let body_len = u32::try_from(BODY_FIXED_LEN + tenant.len() + record.payload.len()).unwrap_or(u32::MAX);
    let mut head = Vec::with_capacity(FRAME_PREFIX_LEN + BODY_FIXED_LEN + tenant.len());
    head.extend_from_slice(FRAME_MAGIC);
    head.extend_from_slice(&body_len.to_le_bytes());
    head.extend_from_slice(&[0; 4]);
    head.extend_from_slice(&sequence.to_le_bytes());
    head.extend_from_slice(&durable_through.to_le_bytes());
    head.extend_from_slice(&record.arrived_ns.to_le_bytes());
    head.push(record.kind);
    head.push(0);
    head.extend_from_slice(&tenant_len.to_le_bytes());
    head.extend_from_slice(tenant);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[FRAME_PREFIX_LEN..]);
    crc.update(&record.payload);
    head[8..12].copy_from_slice(&crc.finalize().to_le_bytes());
    head
}

/// The frame at `offset` and the offset after it; `None` where there is no whole, intact frame.
pub(crate) fn decode_frame(segment: &Bytes, offset: usize) -> Option<(Frame, usize)> {
    let prefix = segment.get(offset..offset.checked_add(FRAME_PREFIX_LEN)?)?;
    if &prefix[..4] != FRAME_MAGIC {
        return None;
    }
    let body_len = read_u32(prefix, 4)? as usize;
    let crc = read_u32(prefix, 8)?;
    let body_start = offset + FRAME_PREFIX_LEN;
    let end = body_start.checked_add(body_len)?;
    let body = segment.get(body_start..end)?;
    if crc32fast::hash(body) != crc {
        return None;
    }
    let sequence = read_u64(body, 0)?;
    let durable_through = read_u64(body, 8)?;
    let arrived_ns = i64::from_le_bytes(body.get(16..24)?.try_into().ok()?);
    let kind = *body.get(24)?;
    let tenant_len = read_u16(body, 26)? as usize;
    let tenant = std::str::from_utf8(body.get(BODY_FIXED_LEN..BODY_FIXED_LEN + tenant_len)?).ok()?;
    let record = WalRecord {
        kind,
        tenant: TenantId::from_credential(tenant),
        arrived_ns,
        payload: segment.slice(body_start + BODY_FIXED_LEN + tenant_len..end),
    };
    Some((
        Frame {
            sequence,
            durable_through,
            record,
        },
        end,
    ))
}

/// The next intact frame at or after `offset`, wherever it starts, and the offset after it.
pub(crate) fn find_frame(segment: &Bytes, mut offset: usize) -> Option<(Frame, usize)> {
    while let Some(rest) = segment.get(offset..) {
        let step = rest
            .windows(FRAME_MAGIC.len())
            .position(|window| window == FRAME_MAGIC)?;
        if let Some(found) = decode_frame(segment, offset + step) {
            return Some(found);
        }
        offset += step + 1;
    }
    None
}

pub(crate) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(crate) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
