//! Decodes OTLP/JSON straight into the protobuf types.
//!
//! Strict where the specification is, tolerant elsewhere. Unknown fields and `null` are ignored; keys are
//! lowerCamelCase only; 64-bit integers are strings or numbers; enums are integers (names are read too); ids are
//! hex in either case; bytes are base64; doubles may be "NaN", "Infinity", "-Infinity"; `{}` is an empty value.
//! `opentelemetry-proto`'s own serde fails a whole request for one `null` or one bad number. Here a record that
//! cannot be read is left out and counted, and its neighbours stay: a value of the wrong type never stops the
//! reader, it marks the record ([`Reader::problem`]) and is skipped. Only JSON that is not well-formed fails
//! the request.
//!
//! | module | what it holds |
//! |---|---|
//! | `read` | the reader: values, lists, messages, and the isolation of records |
//! | `messages` | the fields of resources, spans, log records and their values |
//! | `metrics` | the fields of metrics and data points |

mod messages;
mod metrics;
mod read;

use std::borrow::Cow;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use crate::accept::{Request, Signal};
use crate::decode::{Budget, Decoded};
use crate::error::{Error, Result};
use read::{Message, Reader};

/// Decodes a JSON body within a budget.
///
/// # Errors
/// Invalid where the body is not well-formed JSON, is not an export request, or none of its records can be
/// read; TooLarge or Busy as the budget says.
pub(crate) fn decode(signal: Signal, body: &[u8], budget: &mut Budget<'_>) -> Result<Decoded> {
    budget.charge(body.len())?;
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    // Checking is many times faster than repairing, and bodies are valid but for hostile ones.
    let text = std::str::from_utf8(body).map_or_else(|_| String::from_utf8_lossy(body), Cow::Borrowed);
    let decoded = match read(signal, &text, budget) {
        Ok(decoded) => decoded,
        Err(Failure::Refused(error)) => return Err(error),
        Err(Failure::Syntax(error)) => match repair_surrogates(&text) {
            Some(repaired) => read(signal, &repaired, budget).map_err(Failure::into_error)?,
            None => return Err(Failure::Syntax(error).into_error()),
        },
    };
    if decoded.n_rejected > 0 && decoded.request.n_records() == 0 {
        let reason = decoded.reason.unwrap_or_default();
        return Err(Error::invalid(format!(
            "no {} can be read: {reason}",
            signal.record_name()
        )));
    }
    Ok(decoded)
}

enum Failure {
    Syntax(serde_json::Error),
    Refused(Error),
}

impl Failure {
    fn into_error(self) -> Error {
        match self {
            Self::Syntax(error) => Error::invalid(format!("the body is not well-formed JSON: {error}")),
            Self::Refused(error) => error,
        }
    }
}

fn read(signal: Signal, text: &str, budget: &mut Budget<'_>) -> Result<Decoded, Failure> {
    let mut reader = Reader::new(budget);
    let request = match signal {
        Signal::Traces => root::<ExportTraceServiceRequest>(&mut reader, text).map(Request::Traces),
        Signal::Logs => root::<ExportLogsServiceRequest>(&mut reader, text).map(Request::Logs),
        Signal::Metrics => root::<ExportMetricsServiceRequest>(&mut reader, text).map(Request::Metrics),
    };
    match request {
        Ok(request) => Ok(Decoded {
            request,
            n_rejected: reader.n_rejected,
            reason: reader.reason,
        }),
        Err(error) => Err(match reader.refused.take() {
            Some(refused) => Failure::Refused(refused),
            None => error,
        }),
    }
}

fn root<M: Message>(reader: &mut Reader<'_, '_>, text: &str) -> Result<M, Failure> {
    let mut json = serde_json::Deserializer::from_str(text);
    let message = reader
        .message::<M, _>(&mut json)
        .and_then(|message| json.end().map(|()| message));
    let message = message.map_err(Failure::Syntax)?;
    let field = M::NAME;
    match (message, reader.problem.take()) {
        (Some(message), None) => Ok(message),
        (None, _) => Err(Failure::Refused(Error::invalid(
            "the body is null instead of an export request",
        ))),
        (_, Some(problem)) => Err(Failure::Refused(
            Error::invalid(format!("the body is not an export request: {problem}")).in_field(field),
        )),
    }
}

/// Replaces `\uD800`-`\uDFFF` escapes that are not a pair with U+FFFD. JavaScript senders that cut a text in the
/// middle of an emoji write them, and the parser refuses the whole body. `None` where there are none.
fn repair_surrogates(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut repaired = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(offset) = text[at..].find('\\') {
        let escape = at + offset;
        if bytes.get(escape + 1) != Some(&b'u') {
            at = (escape + 2).min(bytes.len());
            while !text.is_char_boundary(at) {
                at += 1;
            }
            continue;
        }
        let unit = code_unit(text, escape);
        let next = code_unit(text, escape + 6).filter(|_| bytes.get(escape + 6..escape + 8) == Some(b"\\u"));
        let is =
            |unit: Option<u16>, range: std::ops::RangeInclusive<u16>| unit.is_some_and(|unit| range.contains(&unit));
        if is(unit, 0xd800..=0xdbff) && is(next, 0xdc00..=0xdfff) {
            at = escape + 12;
        } else if is(unit, 0xd800..=0xdfff) {
            repaired.push_str(&text[copied..escape]);
            repaired.push_str("\\ufffd");
            copied = escape + 6;
            at = copied;
        } else {
            at = escape + 2;
        }
    }
    if copied == 0 {
        return None;
    }
    repaired.push_str(&text[copied..]);
    Some(repaired)
}

/// The four hex digits of the escape at a place.
fn code_unit(text: &str, escape: usize) -> Option<u16> {
    let digits = text.get(escape + 2..escape + 6)?;
    if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        u16::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

/// A value as an error message shows it: short and without control characters.
fn shown(text: &str) -> Cow<'_, str> {
    if text.len() <= 40 && !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(40)
            .chain("…".chars())
            .collect(),
    )
}

#[cfg(test)]
mod tests;
