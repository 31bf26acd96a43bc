//! Where the texts of a protobuf request stand: a walk over the wire format by OTLP's field numbers
//! (opentelemetry-proto v1.11.0). Unknown fields are passed over; what is damaged ends the walk of its
//! message, and the texts before it are still found.

use std::ops::Range;

use crate::accept::Signal;

/// Messages inside messages: prost stops at 100.
const DEPTH_MAX: usize = 100;

/// The messages that hold texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Request(Signal),
    ResourceGroup(Signal),
    ScopeGroup(Signal),
    /// Resource, scope and every other message whose attributes are in this field.
    Attributes(u64),
    Span,
    Event,
    Status,
    LogRecord,
    Metric,
    Points {
        attributes: u64,
        exemplars: u64,
    },
    Point {
        attributes: u64,
        exemplars: u64,
    },
    KeyValue,
    AnyValue,
    ArrayValue,
    KeyValueList,
}

/// What a field is.
enum Field {
    Message(Message),
    Text,
    Other,
}

impl Message {
    fn field(self, number: u64) -> Field {
        use Message as M;
        let inner = match (self, number) {
            (M::Request(signal), 1) => M::ResourceGroup(signal),
            (M::ResourceGroup(_), 1) => M::Attributes(1),
            (M::ResourceGroup(signal), 2) => M::ScopeGroup(signal),
            (M::ScopeGroup(_), 1) => M::Attributes(3),
            (M::ScopeGroup(Signal::Traces), 2) => M::Span,
            (M::ScopeGroup(Signal::Logs), 2) => M::LogRecord,
            (M::ScopeGroup(Signal::Metrics), 2) => M::Metric,
            (M::Span, 9) => M::KeyValue,
            (M::Span, 11) => M::Event,
            (M::Span, 13) => M::Attributes(4),
            (M::Span, 15) => M::Status,
            (M::Event, 3) => M::KeyValue,
            (M::LogRecord, 5) => M::AnyValue,
            (M::LogRecord, 6) => M::KeyValue,
            (M::Metric, 5 | 7) => M::Points {
                attributes: 7,
                exemplars: 5,
            },
            (M::Metric, 9) => M::Points {
                attributes: 9,
                exemplars: 8,
            },
            (M::Metric, 10) => M::Points {
                attributes: 1,
                exemplars: 11,
            },
            (M::Metric, 11) => M::Points {
                attributes: 7,
                exemplars: 0,
            },
            (M::Metric, 12) => M::KeyValue,
            (M::Points { attributes, exemplars }, 1) => M::Point { attributes, exemplars },
            (M::Point { attributes, .. }, number) if number == attributes => M::KeyValue,
            (M::Point { exemplars, .. }, number) if number == exemplars => M::Attributes(7),
            (M::Attributes(attributes), number) if number == attributes => M::KeyValue,
            (M::KeyValue, 2) => M::AnyValue,
            (M::AnyValue, 5) => M::ArrayValue,
            (M::AnyValue, 6) => M::KeyValueList,
            (M::ArrayValue, 1) => M::AnyValue,
            (M::KeyValueList, 1) => M::KeyValue,
            // Names of spans and events are chosen by callers of some emitters; a value may be bytes.
            (M::Span, 5) | (M::Event | M::Status, 2) | (M::Metric, 2) | (M::AnyValue, 1 | 7) => return Field::Text,
            _ => return Field::Other,
        };
        Field::Message(inner)
    }
}

/// The place of every text that may hold content, and the attribute it is the value of.
pub(super) fn texts(signal: Signal, body: &[u8]) -> Vec<(Range<usize>, Option<String>)> {
    let mut found = Vec::new();
    walk(body, 0..body.len(), Message::Request(signal), None, 0, &mut found);
    found
}

fn walk(
    body: &[u8],
    range: Range<usize>,
    message: Message,
    key: Option<&str>,
    depth: usize,
    found: &mut Vec<(Range<usize>, Option<String>)>,
) {
    if depth > DEPTH_MAX {
        return;
    }
    let own_key = (message == Message::KeyValue)
        .then(|| key_of(body, range.clone()))
        .flatten();
    let key = own_key.or(key);
    for (number, inner) in fields(body, range) {
        match message.field(number) {
            Field::Message(kind) => walk(body, inner, kind, key, depth + 1, found),
            Field::Text => found.push((inner, key.map(str::to_owned))),
            Field::Other => {}
        }
    }
}

/// The key of a KeyValue.
fn key_of(body: &[u8], range: Range<usize>) -> Option<&str> {
    let (_, key) = fields(body, range).find(|(number, _)| *number == 1)?;
    std::str::from_utf8(&body[key]).ok()
}

/// The length-delimited fields of a message.
fn fields(body: &[u8], range: Range<usize>) -> impl Iterator<Item = (u64, Range<usize>)> + '_ {
    let (mut at, end) = (range.start, range.end.min(body.len()));
    std::iter::from_fn(move || {
        while at < end {
            let tag = varint(body, &mut at, end)?;
            match tag & 7 {
                0 => {
                    varint(body, &mut at, end)?;
                }
                1 => at = at.checked_add(8)?,
                5 => at = at.checked_add(4)?,
                2 => {
                    let length = usize::try_from(varint(body, &mut at, end)?).ok()?;
                    let inner = at..at.checked_add(length).filter(|inner_end| *inner_end <= end)?;
                    at = inner.end;
                    return Some((tag >> 3, inner));
                }
                _ => return None,
            }
        }
        None
    })
}

fn varint(body: &[u8], at: &mut usize, end: usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *body[..end].get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
