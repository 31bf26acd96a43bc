//! Inflates request bodies, bounded while it inflates.
//!
//! Sits between the bytes of the wire and the decoder. No more than one step over the limit is ever held,
//! whatever a few kilobytes claim to inflate to, and each step is reserved before it is made. One encoding
//! only: a body that is compressed twice is refused.

use std::io::Read;

use bytes::Bytes;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use crate::admission::Reservation;
use crate::error::{Error, Result};
use crate::limits::ZSTD_WINDOW_LOG_MAX;

/// Output is made, checked against the limit and reserved in steps of this size.
const STEP_BYTES: usize = 256 * 1024;
/// The first allocation is at most this many times the compressed size, whatever the trailer claims.
const TRUSTED_RATIO: usize = 16;
/// What the receivers accept, for the header of a refusal.
pub(crate) const ACCEPTED: &str = "gzip, zstd, deflate, identity";

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Identity,
    Gzip,
    Zstd,
    Deflate,
}

impl Compression {
    /// Reads a `Content-Encoding` or `grpc-encoding` header.
    pub(crate) fn from_header(value: Option<&[u8]>) -> Result<Self> {
        let Some(value) = value else { return Ok(Self::Identity) };
        let text = std::str::from_utf8(value).unwrap_or_default().trim();
        if text.is_empty() && value.is_empty() {
            return Ok(Self::Identity);
        }
        for (name, compression) in [
            ("gzip", Self::Gzip),
            ("identity", Self::Identity),
            ("none", Self::Identity),
            ("zstd", Self::Zstd),
            ("deflate", Self::Deflate),
            ("x-gzip", Self::Gzip),
        ] {
            if text.eq_ignore_ascii_case(name) {
                return Ok(compression);
            }
        }
        let shown: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
        Err(Error::invalid(format!(
            "content encoding \"{shown}\" is not known; use one of {ACCEPTED}"
        ))
        .in_field("encoding"))
    }
}

/// Inflates a body of at most `limit` bytes.
///
/// # Errors
/// TooLarge as soon as the limit is passed, Invalid where the compressed data is damaged or ends early,
/// Busy where the reservation finds no room.
pub(crate) fn inflate(
    compression: Compression,
    wire: Bytes,
    limit: usize,
    reservation: &mut Reservation,
) -> Result<Bytes> {
    let data: &[u8] = &wire;
    let size_hint = match compression {
        Compression::Identity => return if wire.len() > limit { Err(over(limit)) } else { Ok(wire) },
        Compression::Gzip => gzip_size(data),
        Compression::Zstd | Compression::Deflate => data.len() * 4,
    };
    if data.is_empty() {
        return Ok(wire);
    }
    let capacity = size_hint.min(data.len().saturating_mul(TRUSTED_RATIO)).min(limit) + 1;
    match compression {
        Compression::Identity => Ok(wire),
        Compression::Gzip => drain("gzip", MultiGzDecoder::new(data), capacity, limit, reservation),
        Compression::Deflate if is_zlib(data) => drain("deflate", ZlibDecoder::new(data), capacity, limit, reservation),
        Compression::Deflate => drain("deflate", DeflateDecoder::new(data), capacity, limit, reservation),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(data).map_err(|error| damaged("zstd", error))?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(|error| damaged("zstd", error))?;
            drain("zstd", decoder, capacity, limit, reservation)
        }
    }
}

fn drain(
    name: &str,
    mut reader: impl Read,
    capacity: usize,
    limit: usize,
    reservation: &mut Reservation,
) -> Result<Bytes> {
    reservation.grow(capacity)?;
    let mut out = Vec::with_capacity(capacity);
    let mut reserved = capacity;
    loop {
        // Up to the capacity first, so that a body that fits its hint is never moved.
        let step = if out.len() < out.capacity() {
            out.capacity() - out.len()
        } else {
            STEP_BYTES
        };
        let step = step.min(STEP_BYTES).min(limit + 1 - out.len());
        let wanted = out.len() + step;
        if wanted > reserved {
            reservation.grow(wanted - reserved)?;
            reserved = wanted;
        }
        let n_read = reader
            .by_ref()
            .take(step as u64)
            .read_to_end(&mut out)
            .map_err(|error| damaged(name, error))?;
        if out.len() > limit {
            return Err(over(limit));
        }
        if n_read < step {
            return Ok(Bytes::from(out));
        }
    }
}

/// The size that a gzip trailer claims, modulo 4 GiB: a hint for the first allocation, never trusted.
fn gzip_size(data: &[u8]) -> usize {
    match data.last_chunk::<4>() {
        Some(trailer) => u32::from_le_bytes(*trailer) as usize,
        None => 0,
    }
}

/// True for the two-byte header of RFC 1950. Some senders put a bare RFC 1951 stream under `deflate`.
fn is_zlib(data: &[u8]) -> bool {
    matches!(data, [method, flags, ..] if method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0)
}

fn over(limit: usize) -> Error {
    Error::too_large(format!(
        "the request is over the limit of {limit} bytes after decompression; send smaller batches"
    ))
}

fn damaged(name: &str, error: std::io::Error) -> Error {
    Error::invalid(format!("the {name} body cannot be decompressed: {error}")).in_field("body")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::io::Write;

    use super::*;
    use crate::admission::Admission;
    use crate::error::ErrorKind;
    use crate::limits::Limits;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn check(compression: Compression, wire: &[u8], limit: usize) -> Result<Vec<u8>> {
        let mut reservation = Admission::new(&Limits::default()).reserve(0).unwrap();
        inflate(compression, Bytes::copy_from_slice(wire), limit, &mut reservation).map(Vec::from)
    }

    #[test]
    fn each_encoding_inflates_to_what_was_sent() {
        let data: Vec<u8> = (0..700_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        zlib.write_all(&data).unwrap();
        let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        raw.write_all(&data).unwrap();
        let two_members: Vec<u8> = [gzip(&data[..1000]), gzip(&data[1000..])].concat();
        for (compression, wire) in [
            (Compression::Identity, data.clone()),
            (Compression::Gzip, gzip(&data)),
            (Compression::Gzip, two_members),
            (Compression::Zstd, zstd::encode_all(&data[..], 3).unwrap()),
            (Compression::Deflate, zlib.finish().unwrap()),
            (Compression::Deflate, raw.finish().unwrap()),
        ] {
            assert_eq!(check(compression, &wire, data.len()).unwrap(), data, "{compression:?}");
            let over = check(compression, &wire, data.len() - 1).unwrap_err();
            assert_eq!(over.kind(), ErrorKind::TooLarge, "{compression:?}");
        }
    }

    #[test]
    fn a_damaged_or_cut_body_is_invalid() {
        let data = vec![7u8; 100_000];
        let zstd = zstd::encode_all(&data[..], 3).unwrap();
        for (compression, wire) in [(Compression::Gzip, gzip(&data)), (Compression::Zstd, zstd)] {
            for cut in [1, 5, wire.len() / 2, wire.len() - 1] {
                let error = check(compression, &wire[..cut], 1 << 20).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Invalid, "{compression:?} cut at {cut}");
            }
            assert_eq!(
                check(compression, b"not compressed", 1 << 20).unwrap_err().kind(),
                ErrorKind::Invalid
            );
        }
    }

    #[test]
    fn a_bomb_holds_no_more_than_the_limit() {
        let limits = Limits {
            bodies_in_flight_bytes_max: 4 << 20,
            ..Limits::default()
        };
        let admission = Admission::new(&limits);
        let zeroes = vec![0u8; 16 << 20];
        let zstd = zstd::encode_all(&zeroes[..], 3).unwrap();
        for (compression, wire) in [(Compression::Gzip, gzip(&zeroes)), (Compression::Zstd, zstd)] {
            let mut reservation = admission.reserve(0).unwrap();
            let error = inflate(compression, Bytes::from(wire), 1 << 20, &mut reservation).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            assert!(
                admission.bytes_in_flight() <= 2 << 20,
                "{} bytes held",
                admission.bytes_in_flight()
            );
        }
    }

    #[test]
    fn a_body_compressed_twice_is_refused() {
        assert_eq!(
            Compression::from_header(Some(b"gzip, gzip")).unwrap_err().kind(),
            ErrorKind::Invalid
        );
        assert_eq!(
            Compression::from_header(Some(b"br")).unwrap_err().kind(),
            ErrorKind::Invalid
        );
        assert_eq!(Compression::from_header(Some(b"GZIP")).unwrap(), Compression::Gzip);
        assert_eq!(Compression::from_header(None).unwrap(), Compression::Identity);
    }
}
