//! What a protobuf body will weigh once decoded: a walk over its frames that decodes nothing.
//!
//! prost makes a struct of 100-300 bytes for a repeated message of two, so the size of a body does not bound
//! the size of the request. The walk adds up the structs before any is made. It follows damaged input as far
//! as it can and leaves the complaint to the decoder.

use std::mem::size_of;

use opentelemetry_proto::tonic::common::v1::{AnyValue, EntityRef, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::{
    self,
    v1::{
        ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
        SummaryDataPoint, summary_data_point::ValueAtQuantile,
    },
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, span};

use super::Budget;
use crate::accept::Signal;
use crate::error::Result;

/// prost's own limit: below it, it decodes nothing.
const DEPTH_MAX: u32 = 100;

/// A message of which lists are made, or which leads to one.
#[derive(Clone, Copy)]
enum Shape {
    Export(Signal),
    Group(Signal),
    Resource,
    ScopeGroup(Signal),
    Scope,
    Span,
    Event,
    Link,
    Log,
    Metric,
    Numbers,
    Histograms,
    Exponentials,
    Summaries,
    Number,
    Histogram,
    Exponential,
    Buckets,
    Summary,
    Exemplar,
    KeyValue,
    Any,
    Array,
    KeyValues,
    Leaf,
}

/// What a field of wire type 2 holds: the shape inside, and what one occurrence adds in memory beside its bytes.
#[inline]
fn field(shape: Shape, number: u64) -> Option<(Shape, usize)> {
    use Shape::{
        Any, Array, Buckets, Event, Exemplar, Exponential, Exponentials, Export, Group, Histogram, Histograms, Leaf,
        Link, Log, Number, Numbers, Resource, Scope, ScopeGroup, Summaries, Summary,
    };
    const STRING: usize = size_of::<String>();
    let attribute = Some((Shape::KeyValue, size_of::<KeyValue>()));
    match (shape, number) {
        (Shape::KeyValue, 2) => Some((Any, 0)),
        (Any, 5) => Some((Array, 0)),
        (Any, 6) => Some((Shape::KeyValues, 0)),
        (Shape::Span, 9) | (Link, 4) | (Event, 3) | (Log, 6) | (Resource, 1) | (Scope, 3) | (Shape::KeyValues, 1) => {
            attribute
        }
        (Number | Exemplar | Summary, 7) | (Histogram, 9) | (Exponential, 1) | (Shape::Metric, 12) => attribute,
        (Array, 1) => Some((Any, size_of::<AnyValue>())),
        (Shape::Span, 11) => Some((Event, size_of::<span::Event>())),
        (Shape::Span, 13) => Some((Link, size_of::<span::Link>())),
        (Log, 5) => Some((Any, 0)),
        (Export(signal), 1) => Some((
            Group(signal),
            match signal {
                Signal::Traces => size_of::<ResourceSpans>(),
                Signal::Logs => size_of::<ResourceLogs>(),
                Signal::Metrics => size_of::<ResourceMetrics>(),
            },
        )),
        (Group(_), 1) => Some((Resource, 0)),
        (Group(signal), 2) => Some((
            ScopeGroup(signal),
            match signal {
                Signal::Traces => size_of::<ScopeSpans>(),
                Signal::Logs => size_of::<ScopeLogs>(),
                Signal::Metrics => size_of::<ScopeMetrics>(),
            },
        )),
        (Resource, 3) => Some((Leaf, size_of::<EntityRef>())),
        (ScopeGroup(_), 1) => Some((Scope, 0)),
        (ScopeGroup(signal), 2) => Some(match signal {
            Signal::Traces => (Shape::Span, size_of::<Span>()),
            Signal::Logs => (Log, size_of::<LogRecord>()),
            Signal::Metrics => (Shape::Metric, size_of::<Metric>()),
        }),
        (Shape::Metric, 5 | 7) => Some((Numbers, 0)),
        (Shape::Metric, 9) => Some((Histograms, 0)),
        (Shape::Metric, 10) => Some((Exponentials, 0)),
        (Shape::Metric, 11) => Some((Summaries, 0)),
        (Numbers, 1) => Some((Number, size_of::<NumberDataPoint>())),
        (Histograms, 1) => Some((Histogram, size_of::<HistogramDataPoint>())),
        (Exponentials, 1) => Some((Exponential, size_of::<ExponentialHistogramDataPoint>())),
        (Summaries, 1) => Some((Summary, size_of::<SummaryDataPoint>())),
        (Number, 5) | (Histogram, 8) | (Exponential, 11) => Some((Exemplar, size_of::<metrics::v1::Exemplar>())),
        (Exponential, 8 | 9) => Some((Buckets, 0)),
        (Summary, 6) => Some((Leaf, size_of::<ValueAtQuantile>())),
        // The strings of an EntityRef.
        (Leaf, 3 | 4) => Some((Leaf, STRING)),
        _ => None,
    }
}

/// Charges a body, and all that decoding it will add, to a budget.
///
/// # Errors
/// TooLarge or Busy, as the budget says.
pub(super) fn weigh(signal: Signal, body: &[u8], budget: &mut Budget<'_>) -> Result<()> {
    budget.charge(body.len())?;
    walk(Shape::Export(signal), body, 0, budget)
}

fn walk(shape: Shape, message: &[u8], depth: u32, budget: &mut Budget<'_>) -> Result<()> {
    let mut rest = message;
    while let Some(tag) = varint(&mut rest) {
        let skipped = match tag & 7 {
            0 => varint(&mut rest).map(|_| ()),
            1 => skip(&mut rest, 8),
            5 => skip(&mut rest, 4),
            2 => {
                let Some(length) = varint(&mut rest).and_then(|length| usize::try_from(length).ok()) else {
                    return Ok(());
                };
                let Some((inside, after)) = rest.split_at_checked(length) else {
                    return Ok(());
                };
                rest = after;
                if let Some((shape, bytes)) = field(shape, tag >> 3) {
                    budget.charge(bytes)?;
                    let is_walked = depth < DEPTH_MAX && !(matches!(shape, Shape::KeyValue) && is_plain(inside));
                    if is_walked && !inside.is_empty() {
                        walk(shape, inside, depth + 1, budget)?;
                    }
                } else if matches!(shape, Shape::Buckets) {
                    budget.charge(length.saturating_mul(size_of::<u64>()))?;
                }
                Some(())
            }
            // The start or end of a group: an unknown field, whose content is walked as if it were ours.
            3 | 4 => Some(()),
            _ => None,
        };
        if skipped.is_none() {
            return Ok(());
        }
    }
    Ok(())
}

/// True for what nearly every attribute is: a short key and a short scalar, and nothing else.
#[inline]
fn is_plain(attribute: &[u8]) -> bool {
    let [0x0a, key_length @ 0..0x80, rest @ ..] = attribute else {
        return false;
    };
    let Some([0x12, length @ 0..0x80, value @ ..]) = rest.get(usize::from(*key_length)..) else {
        return false;
    };
    value.len() == usize::from(*length)
        && match value {
            [0x0a, length @ 0..0x80, text @ ..] => text.len() == usize::from(*length),
            [0x10 | 0x18, integer @ .., 0..0x80] => integer.iter().all(|byte| *byte >= 0x80),
            [0x21, double @ ..] => double.len() == 8,
            _ => false,
        }
}

#[inline]
fn skip(rest: &mut &[u8], n_bytes: usize) -> Option<()> {
    *rest = rest.get(n_bytes..)?;
    Some(())
}

#[inline]
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let (&first, after) = rest.split_first()?;
    *rest = after;
    if first < 0x80 {
        return Some(u64::from(first));
    }
    let mut value = u64::from(first & 0x7f);
    for shift in (7..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
