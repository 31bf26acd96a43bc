//! What both receivers do with a body once its frame is off: read it, inflate it, decode it, hand it over.
//!
//! `read → inflate → decode → accept`, each within the limits. From decoding on the work runs in a task of its
//! own: a sender that hangs up, or a request that times out, never stops a write half-way, and a panic becomes
//! an answer instead of a broken connection. The request's bytes stay reserved until that task is done.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use spanledger_access::Principal;

use crate::accept::{Accept, Accepted, Encoding, Signal};
use crate::admission::{Reservation, Ticket};
use crate::compression::{Compression, inflate};
use crate::decode::{Budget, Decoded, decode_within};
use crate::error::{Error, Result};
use crate::limits::{INLINE_DECODE_BYTES_MAX, Limits};

/// A compressed body counts as this many times its size when it is decided where to inflate it.
const COMPRESSED_WEIGHT: usize = 16;
/// A body's buffer grows by at most this much ahead of what has arrived.
const READ_AHEAD_BYTES_MAX: usize = 1024 * 1024;

/// Reads a body to its end. `check` may refuse it, given what has arrived.
///
/// # Errors
/// What `check` says; Busy where there is no room or the body takes longer than a request may.
pub(crate) async fn read_body<B>(
    body: &mut B,
    limits: &Limits,
    reservation: &mut Reservation,
    check: impl Fn(&[u8]) -> Result<()>,
) -> Result<Bytes>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let read = async {
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Error::invalid(format!("the body ended early: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            reservation.grow(data.len())?;
            if first.is_empty() {
                // Most bodies are one frame, which is not copied.
                check(&data)?;
                first = data;
                continue;
            }
            if whole.is_empty() {
                whole.reserve((first.len() + data.len()).saturating_mul(2));
                whole.extend_from_slice(&first);
            }
            if whole.capacity() - whole.len() < data.len() {
                whole.reserve(data.len().max(whole.len().min(READ_AHEAD_BYTES_MAX)));
            }
            whole.extend_from_slice(&data);
            check(&whole)?;
        }
        Ok(if whole.is_empty() { first } else { whole.freeze() })
    };
    match tokio::time::timeout(Duration::from_millis(limits.request_timeout_ms), read).await {
        Ok(read) => read,
        Err(_) => Err(Error::busy(format!(
            "the body did not arrive within {} ms; send it again",
            limits.request_timeout_ms
        ))),
    }
}

/// A body off the wire and what is known about it.
pub(crate) struct Wire {
    pub(crate) principal: Principal,
    pub(crate) signal: Signal,
    pub(crate) encoding: Encoding,
    pub(crate) compression: Compression,
    pub(crate) body: Bytes,
    pub(crate) ticket: Ticket,
}

/// Makes a body durable.
///
/// # Errors
/// As decoding and the pipeline say; Busy where it takes longer than a request may, in which case the request
/// may yet be stored: sent again, it is recognised.
pub(crate) async fn store(accept: &Arc<dyn Accept>, wire: Wire) -> Result<Accepted> {
    let timeout_ms = accept.limits().request_timeout_ms;
    let task = tokio::spawn(open_and_accept(Arc::clone(accept), wire));
    match tokio::time::timeout(Duration::from_millis(timeout_ms), task).await {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(panic)) => Err(Error::internal("the request's task panicked").caused_by(panic)),
        Err(_) => Err(Error::busy(format!(
            "the request was not stored within {timeout_ms} ms; send it again"
        ))),
    }
}

async fn open_and_accept(accept: Arc<dyn Accept>, wire: Wire) -> Result<Accepted> {
    let Wire {
        principal,
        signal,
        encoding,
        compression,
        body,
        mut ticket,
    } = wire;
    let weight = if compression == Compression::Identity {
        1
    } else {
        COMPRESSED_WEIGHT
    };
    let (decoded, body, _ticket) = if body.len().saturating_mul(weight) <= INLINE_DECODE_BYTES_MAX {
        let (decoded, body) = open(accept.limits(), signal, encoding, compression, body, &mut ticket)?;
        (decoded, body, ticket)
    } else {
        let accept = Arc::clone(&accept);
        tokio::task::spawn_blocking(move || {
            let (decoded, body) = open(accept.limits(), signal, encoding, compression, body, &mut ticket)?;
            Ok::<_, Error>((decoded, body, ticket))
        })
        .await
        .map_err(|panic| Error::internal("decoding a request panicked").caused_by(panic))??
    };
    let Decoded {
        request,
        n_rejected,
        reason,
    } = decoded;
    if n_rejected > 0 {
        accept.rejected(signal, n_rejected);
    }
    if request.n_records() == 0 {
        return Ok(Accepted::default());
    }
    let mut accepted = accept.accept(&principal, request, body, encoding).await?;
    if n_rejected > 0 {
        accepted.n_rejected += n_rejected;
        let reason = reason.unwrap_or_default();
        let left_out = format!(
            "{n_rejected} of the {}s could not be read: {reason}",
            signal.record_name()
        );
        accepted.message = Some(match accepted.message {
            Some(message) => format!("{left_out}; {message}"),
            None => left_out,
        });
    }
    Ok(accepted)
}

fn open(
    limits: &Limits,
    signal: Signal,
    encoding: Encoding,
    compression: Compression,
    wire: Bytes,
    ticket: &mut Ticket,
) -> Result<(Decoded, Bytes)> {
    let body = inflate(compression, wire, limits.body_bytes_max, &mut ticket.reservation)?;
    let mut budget = Budget::reserved(limits.decoded_bytes_max, &mut ticket.reservation);
    let decoded = decode_within(signal, encoding, &body, &mut budget)?;
    Ok((decoded, body))
}
