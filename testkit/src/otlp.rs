//! OTLP requests made from data: spans with attributes, their encoding, other encodings of the same content.
//!
//! Built on the generated protobuf types alone, so that what a test sends is what any sender could.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

pub use opentelemetry_proto::tonic as proto;

/// Field 1 of every export request (`resource_spans`, `resource_logs`, `resource_metrics`), length-delimited, empty:
/// the same content in other bytes, as a re-encoding proxy or an exporter's retry could send it.
const EMPTY_RESOURCE_FIELD: [u8; 2] = [0x0a, 0x00];

/// An OTLP signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Log records.
    Logs,
    /// Metric points.
    Metrics,
}

impl Signal {
    /// The signal of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Traces, Self::Logs, Self::Metrics]
            .into_iter()
            .find(|signal| signal.name() == name)
    }

    /// Last part of its path, `/v1/NAME`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }
}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

impl Encoding {
    /// Its media type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

/// One request body, not compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// What it carries.
    pub signal: Signal,
    /// How.
    pub encoding: Encoding,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Body {
    /// The same content in other bytes: no hash of the request can tell that it was sent before.
    #[must_use]
    pub fn reencoded(&self) -> Self {
        let mut other = self.clone();
        match self.encoding {
            Encoding::Protobuf => other.bytes.extend_from_slice(&EMPTY_RESOURCE_FIELD),
            Encoding::Json => other.bytes.push(b'\n'),
        }
        other
    }

    /// The bytes under gzip.
    ///
    /// # Errors
    /// Never in practice: the sink is memory.
    pub fn gzip(&self) -> Result<Vec<u8>> {
        gzip(&self.bytes)
    }
}

/// `bytes` under gzip, at the fast level that senders use.
///
/// # Errors
/// Never in practice: the sink is memory.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish().context("gzip into memory")
}

/// A trace request of one resource and one scope.
#[must_use]
pub fn traces(resource: Vec<KeyValue>, scope: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: resource,
                ..Default::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: scope.to_owned(),
                    ..Default::default()
                }),
                spans,
                ..Default::default()
            }],
            ..Default::default()
        }],
    }
}

/// A trace request as a protobuf body.
#[must_use]
pub fn protobuf(request: &ExportTraceServiceRequest) -> Body {
    Body {
        signal: Signal::Traces,
        encoding: Encoding::Protobuf,
        bytes: request.encode_to_vec(),
    }
}

/// A trace request as a JSON body.
///
/// # Errors
/// Where it cannot be written as JSON.
pub fn json(request: &ExportTraceServiceRequest) -> Result<Body> {
    Ok(Body {
        signal: Signal::Traces,
        encoding: Encoding::Json,
        bytes: serde_json::to_vec(request)?,
    })
}

/// A client span of `duration_ns` from `start_ns`, with ids made of two numbers.
#[must_use]
pub fn span(trace: u64, id: u64, name: &str, start_ns: i64, duration_ns: i64, attributes: Vec<KeyValue>) -> Span {
    let start = u64::try_from(start_ns).unwrap_or(0);
    Span {
        trace_id: trace_id(trace).to_vec(),
        span_id: span_id(id).to_vec(),
        name: name.to_owned(),
        kind: 3,
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(u64::try_from(duration_ns).unwrap_or(0)),
        attributes,
        ..Default::default()
    }
}

/// The trace id that `number` stands for. Never all zeros.
#[must_use]
pub fn trace_id(number: u64) -> [u8; 16] {
    (u128::from(number) | 0x7e57 << 112).to_be_bytes()
}

/// The span id that `number` stands for. All zeros, and so invalid, for 0.
#[must_use]
pub fn span_id(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// A text attribute.
#[must_use]
pub fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

/// An integer attribute.
#[must_use]
pub fn int(key: &str, value: i64) -> KeyValue {
    attribute(key, any_value::Value::IntValue(value))
}

/// An attribute.
#[must_use]
pub fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reencoded_body_says_the_same_in_other_bytes() {
        let spans = vec![span(
            1,
            2,
            "chat",
            1_000,
            5,
            vec![text("gen_ai.operation.name", "chat")],
        )];
        let request = traces(vec![text("service.name", "a")], "test", spans);
        for body in [protobuf(&request), json(&request).unwrap()] {
            let other = body.reencoded();
            assert_ne!(body.bytes, other.bytes);
            let spans_of = |body: &Body| {
                let request = match body.encoding {
                    Encoding::Protobuf => ExportTraceServiceRequest::decode(body.bytes.as_slice()).unwrap(),
                    Encoding::Json => serde_json::from_slice(&body.bytes).unwrap(),
                };
                request
                    .resource_spans
                    .into_iter()
                    .flat_map(|resource| resource.scope_spans)
                    .collect::<Vec<_>>()
            };
            assert_eq!(spans_of(&body), spans_of(&other));
        }
    }
}
