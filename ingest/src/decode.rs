//! Decodes an export request, protobuf or JSON, within a memory budget.
//!
//! Sits between inflating and normalising, and again in the replay of the WAL: the same body always decodes to
//! the same request. A record that cannot be read is left out and counted; its neighbours stay. A body whose
//! envelope cannot be read fails as a whole.
//!
//! What a body weighs once decoded is known before it is decoded ([`weigh`]): a megabyte of empty spans would
//! otherwise become 150.

mod salvage;
mod weigh;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use crate::accept::{Encoding, Request, Signal};
use crate::admission::Reservation;
use crate::error::{Error, Result};
use crate::json;
use crate::limits::DECODED_BYTES_MAX;

/// A decoded request and what was left out of it.
#[derive(Debug)]
pub struct Decoded {
    /// The records that could be read.
    pub request: Request,
    /// Records that could not.
    pub n_rejected: u64,
    /// Why the first of them could not.
    pub reason: Option<String>,
}

/// Decodes a request body as it was before compression. Records that cannot be read are left out.
///
/// # Errors
/// Invalid where the body as a whole, or each of its records, cannot be read; TooLarge where it would decode
/// to more than [`DECODED_BYTES_MAX`].
pub fn decode(signal: Signal, encoding: Encoding, body: &[u8]) -> Result<Request> {
    decode_within(signal, encoding, body, &mut Budget::new(DECODED_BYTES_MAX)).map(|decoded| decoded.request)
}

/// Decodes a request body within a budget and says what was left out.
///
/// # Errors
/// As [`decode`]; Busy where the budget's reservation finds no room.
pub(crate) fn decode_within(
    signal: Signal,
    encoding: Encoding,
    body: &[u8],
    budget: &mut Budget<'_>,
) -> Result<Decoded> {
    match encoding {
        Encoding::Protobuf => {
            weigh::weigh(signal, body, budget)?;
            match decode_protobuf(signal, body) {
                Ok(request) => Ok(Decoded {
                    request,
                    n_rejected: 0,
                    reason: None,
                }),
                Err(error) => salvage::salvage(signal, body).unwrap_or_else(|| Err(undecodable(&error))),
            }
        }
        Encoding::Json => json::decode(signal, body, budget),
    }
}

fn decode_protobuf(signal: Signal, body: &[u8]) -> Result<Request, prost::DecodeError> {
    Ok(match signal {
        Signal::Traces => Request::Traces(ExportTraceServiceRequest::decode(body)?),
        Signal::Logs => Request::Logs(ExportLogsServiceRequest::decode(body)?),
        Signal::Metrics => Request::Metrics(ExportMetricsServiceRequest::decode(body)?),
    })
}

fn undecodable(error: &prost::DecodeError) -> Error {
    Error::invalid(format!("the protobuf body cannot be decoded: {}", explain(error)))
}

/// prost's message without the hundred names of an over-deep path.
fn explain(error: &prost::DecodeError) -> String {
    let text = error.to_string();
    let parts: Vec<&str> = text.split(": ").skip(1).collect();
    let n_path = parts
        .iter()
        .take_while(|part| part.contains('.') && !part.contains(' '))
        .count();
    let (path, cause) = parts.split_at(n_path);
    let mut cause = cause.join(": ");
    if cause == "recursion limit reached" {
        cause = "recursion limit reached: values are nested deeper than 100 protobuf messages".to_owned();
    }
    match path {
        [] => cause,
        [first, ..] => format!("{first}: {cause}"),
    }
}

/// How much memory a decoded request may take, reserved as it grows.
pub(crate) struct Budget<'r> {
    left: usize,
    max: usize,
    unreserved: usize,
    reservation: Option<&'r mut Reservation>,
}

/// Charges are passed on to the reservation in steps of this size.
const CHARGE_STEP_BYTES: usize = 64 * 1024;

impl<'r> Budget<'r> {
    /// A budget of its own.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            left: max,
            max,
            unreserved: 0,
            reservation: None,
        }
    }

    /// A budget out of a request's reservation.
    pub(crate) fn reserved(max: usize, reservation: &'r mut Reservation) -> Self {
        Self {
            reservation: Some(reservation),
            ..Self::new(max)
        }
    }

    /// Takes bytes.
    #[inline]
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<()> {
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => return Err(self.exhausted()),
        }
        self.unreserved += bytes;
        if self.unreserved < CHARGE_STEP_BYTES {
            Ok(())
        } else {
            self.settle()
        }
    }

    #[cold]
    fn settle(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.unreserved);
        self.reservation
            .as_deref_mut()
            .map_or(Ok(()), |reservation| reservation.grow(bytes))
    }

    #[cold]
    fn exhausted(&self) -> Error {
        Error::too_large(format!(
            "the request would take more than {} bytes once decoded; send smaller batches",
            self.max
        ))
    }
}

#[cfg(test)]
mod tests;
