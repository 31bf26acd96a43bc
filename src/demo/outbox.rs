//! Telemetry that waits to be sent: one lane per emitting process, holding what its SDK would export.
//!
//! Spans and log records are the OpenTelemetry SDK's own types with chosen times and ids, so that they go
//! out through the real exporters. The SDK cannot date metric points, so those are OTLP/JSON requests.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::logs::{LogRecord as _, Logger as _, LoggerProvider as _};
use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{SdkLogRecord, SdkLogger, SdkLoggerProvider};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::rng::Rng;

/// One emitting process.
#[derive(Debug)]
pub struct Lane {
    /// Its resource.
    pub resource: Resource,
    /// Spans, in the order in which they end.
    pub spans: Vec<SpanData>,
    /// Log records and their scopes.
    pub logs: Vec<(SdkLogRecord, InstrumentationScope)>,
    /// Metric requests as OTLP/JSON.
    pub metrics: Vec<serde_json::Value>,
    /// Points in `metrics`.
    pub n_points: u64,
}

/// Everything that one day's processes export.
pub struct Outbox {
    /// Lanes by a name of the process.
    pub lanes: BTreeMap<String, Lane>,
    logger: SdkLogger,
}

impl Default for Outbox {
    fn default() -> Self {
        // The provider exports nothing: it is the SDK's only way to an empty log record.
        Self {
            lanes: BTreeMap::new(),
            logger: SdkLoggerProvider::builder().build().logger("spanledger.demo"),
        }
    }
}

impl Outbox {
    /// The lane of a process, made with `resource` where it is new.
    pub fn lane(&mut self, name: &str, resource: impl FnOnce() -> Vec<KeyValue>) -> &mut Lane {
        self.lanes.entry(name.to_owned()).or_insert_with(|| Lane {
            resource: Resource::builder_empty().with_attributes(resource()).build(),
            spans: Vec::new(),
            logs: Vec::new(),
            metrics: Vec::new(),
            n_points: 0,
        })
    }

    /// Records that wait, of all signals.
    pub fn n_records(&self) -> u64 {
        let count = |lane: &Lane| u64::try_from(lane.spans.len() + lane.logs.len()).unwrap_or(0) + lane.n_points;
        self.lanes.values().map(count).sum()
    }

    /// An empty log record.
    pub fn log_record(&self, time_ns: i64) -> SdkLogRecord {
        let mut record = self.logger.create_log_record();
        record.set_timestamp(time(time_ns));
        record.set_observed_timestamp(time(time_ns));
        record
    }
}

/// Ids of a span.
#[derive(Debug, Clone, Copy)]
pub struct Ids {
    /// Trace.
    pub trace: TraceId,
    /// Span.
    pub span: SpanId,
    /// Parent; invalid for a root.
    pub parent: SpanId,
}

impl Ids {
    /// A root span of a new trace.
    pub fn root(rng: &mut Rng) -> Self {
        let trace = (u128::from(rng.bits()) << 64) | u128::from(rng.bits() | 1);
        Self {
            trace: TraceId::from(trace),
            span: span_id(rng),
            parent: SpanId::INVALID,
        }
    }

    /// A span below this one.
    pub fn child(&self, rng: &mut Rng) -> Self {
        Self {
            trace: self.trace,
            span: span_id(rng),
            parent: self.span,
        }
    }
}

fn span_id(rng: &mut Rng) -> SpanId {
    SpanId::from(rng.bits() | 1)
}

/// A span to be built.
pub struct SpanSpec<'a> {
    /// Ids.
    pub ids: Ids,
    /// Instrumentation scope.
    pub scope: &'a InstrumentationScope,
    /// Name.
    pub name: Cow<'static, str>,
    /// Kind.
    pub kind: SpanKind,
    /// Start, nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// Duration in nanoseconds.
    pub duration_ns: i64,
    /// Attributes.
    pub attributes: Vec<KeyValue>,
    /// Status.
    pub status: Status,
}

impl SpanSpec<'_> {
    /// The SDK's span.
    pub fn build(self) -> SpanData {
        SpanData {
            span_context: SpanContext::new(
                self.ids.trace,
                self.ids.span,
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: self.ids.parent,
            parent_span_is_remote: self.kind == SpanKind::Server,
            span_kind: self.kind,
            name: self.name,
            start_time: time(self.start_ns),
            end_time: time(self.start_ns + self.duration_ns),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: self.status,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// Adds events to a built span.
pub fn with_events(mut span: SpanData, events: Vec<Event>) -> SpanData {
    span.events.events = events;
    span
}

/// The exception event that an SDK records on a failed span.
pub fn exception(time_ns: i64, class: &'static str, message: &'static str) -> Event {
    Event::new(
        "exception",
        time(time_ns),
        vec![
            kv("exception.type", class),
            kv("exception.message", message),
            kv("exception.escaped", "False"),
        ],
        0,
    )
}

/// Nanoseconds since the Unix epoch as the SDK's time.
pub fn time(ns: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}

/// An attribute.
pub fn kv(key: &'static str, value: impl Into<Value>) -> KeyValue {
    KeyValue::new(key, value)
}

/// Error status with a text, or unset.
pub fn status(failure: Option<&'static str>) -> Status {
    failure.map_or(Status::Unset, Status::error)
}

/// A scope with an optional version.
pub fn scope(name: &'static str, version: Option<&'static str>) -> InstrumentationScope {
    let builder = InstrumentationScope::builder(name);
    match version {
        Some(version) => builder.with_version(version).build(),
        None => builder.build(),
    }
}
