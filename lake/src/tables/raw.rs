//! `spans`, `logs`, `metrics`, `payloads`: what arrived, faithful to OTLP.
//!
//! Written row by row from borrowed data, because this is the hot path of ingest: nothing is copied but
//! into the Arrow buffers. The most used MCP and GenAI attribute keys are promoted to columns; the maps
//! hold the residual, so that a promoted value is stored once.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, BooleanBuilder, FixedSizeBinaryBuilder, Float64Builder, Int32Builder, Int64Builder, ListBuilder,
    MapBuilder, MapFieldNames, RecordBatch, StringBuilder, StructBuilder,
};
use arrow::array::{ArrayRef, Date32Builder, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};

use super::codec::day_of;

type AttributeBuilder = MapBuilder<StringBuilder, StringBuilder>;

/// Attribute keys of spans that are columns of their own, with the column's name.
pub const PROMOTED_SPAN_KEYS: [(&str, &str); 8] = [
    ("gen_ai.operation.name", "operation"),
    ("mcp.method.name", "mcp_method"),
    ("gen_ai.tool.name", "tool"),
    ("gen_ai.prompt.name", "prompt"),
    ("mcp.resource.uri", "resource_uri"),
    ("gen_ai.provider.name", "provider"),
    ("gen_ai.request.model", "request_model"),
    ("gen_ai.response.model", "response_model"),
];

fn attribute_builder() -> AttributeBuilder {
    let names = MapFieldNames {
        entry: "key_value".into(),
        key: "key".into(),
        value: "value".into(),
    };
    MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
}

/// Collects columns and their fields at the end of a builder's life.
#[derive(Default)]
struct Columns(Vec<(Field, ArrayRef)>);

impl Columns {
    fn add(&mut self, name: &str, nullable: bool, builder: &mut dyn ArrayBuilder) {
        let column = builder.finish();
        self.0
            .push((Field::new(name, column.data_type().clone(), nullable), column));
    }

    fn finish(self) -> RecordBatch {
        let (fields, columns): (Vec<_>, Vec<_>) = self.0.into_iter().unzip();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        RecordBatch::try_new(SchemaRef::clone(&schema), columns).unwrap_or_else(|_| RecordBatch::new_empty(schema))
    }
}

/// The columns every raw table opens with.
struct KeyBuilder {
    tenant: StringBuilder,
    day: Date32Builder,
    time: TimestampMicrosecondBuilder,
}

impl KeyBuilder {
    fn new() -> Self {
        Self {
            tenant: StringBuilder::new(),
            day: Date32Builder::new(),
            time: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
        }
    }

    fn append(&mut self, tenant: &str, time_ns: i64) {
        self.tenant.append_value(tenant);
        self.day.append_value(day_of(time_ns));
        self.time.append_value(time_ns.div_euclid(1_000));
    }

    fn finish(&mut self, columns: &mut Columns) {
        columns.add("tenant", false, &mut self.tenant);
        columns.add("day", false, &mut self.day);
        columns.add("time", false, &mut self.time);
    }
}

/// The two maps every record carries besides its own attributes.
pub trait Attributes {
    /// Calls `each` with every attribute as text.
    fn for_each(&self, each: &mut dyn FnMut(&str, &str));
}

impl Attributes for [(String, String)] {
    fn for_each(&self, each: &mut dyn FnMut(&str, &str)) {
        for (key, value) in self {
            each(key, value);
        }
    }
}

impl Attributes for Vec<(String, String)> {
    fn for_each(&self, each: &mut dyn FnMut(&str, &str)) {
        self.as_slice().for_each(each);
    }
}

fn append_attributes(builder: &mut AttributeBuilder, attributes: &dyn Attributes) {
    attributes.for_each(&mut |key, value| {
        builder.keys().append_value(key);
        builder.values().append_value(value);
    });
    // Keys and values were appended pairwise, so the offsets always agree.
    let _ = builder.append(true);
}

fn append_id(builder: &mut FixedSizeBinaryBuilder, id: &[u8]) {
    // All-zero and wrongly sized ids are absent, as OTLP says.
    if id.iter().all(|byte| *byte == 0) || builder.append_value(id).is_err() {
        builder.append_null();
    }
}

/// One span, borrowed from the request.
pub struct SpanRow<'r> {
    /// Owner.
    pub tenant: &'r str,
    /// Start, nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// Duration, nanoseconds.
    pub duration_ns: i64,
    /// Trace id bytes.
    pub trace_id: &'r [u8],
    /// Span id bytes.
    pub span_id: &'r [u8],
    /// Parent span id bytes, empty for a root.
    pub parent_span_id: &'r [u8],
    /// Name.
    pub name: &'r str,
    /// OTLP span kind.
    pub kind: i32,
    /// `unset`, `ok`, `error`.
    pub status: &'static str,
    /// Status message, may be empty.
    pub status_message: &'r str,
    /// `service.name`.
    pub service: Option<&'r str>,
    /// Scope name.
    pub scope: &'r str,
    /// Scope version.
    pub scope_version: &'r str,
    /// W3C trace state.
    pub trace_state: &'r str,
    /// W3C trace flags and the OTLP bits above them.
    pub flags: u32,
    /// Resource attributes.
    pub resource: &'r dyn Attributes,
}

/// Builds a batch of `spans`. Call order for a row: [`append`](Self::append), then
/// [`attribute`](Self::attribute) for each attribute, [`event`](Self::event) and [`link`](Self::link), then
/// [`finish_row`](Self::finish_row).
pub struct SpansBuilder {
    key: KeyBuilder,
    start_ns: Int64Builder,
    duration_ns: Int64Builder,
    trace_id: FixedSizeBinaryBuilder,
    span_id: FixedSizeBinaryBuilder,
    parent_span_id: FixedSizeBinaryBuilder,
    name: StringBuilder,
    kind: Int32Builder,
    status: StringBuilder,
    status_message: StringBuilder,
    service: StringBuilder,
    scope: StringBuilder,
    scope_version: StringBuilder,
    trace_state: StringBuilder,
    flags: Int64Builder,
    promoted: [StringBuilder; PROMOTED_SPAN_KEYS.len()],
    promoted_set: [bool; PROMOTED_SPAN_KEYS.len()],
    resource: AttributeBuilder,
    attributes: AttributeBuilder,
    events: ListBuilder<StructBuilder>,
    links: ListBuilder<StructBuilder>,
    n_rows: usize,
}

impl Default for SpansBuilder {
    fn default() -> Self {
        let map = attribute_builder().finish();
        let event_fields = Fields::from(vec![
            Field::new("time_ns", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
            Field::new("attributes", arrow::array::Array::data_type(&map).clone(), true),
        ]);
        let link_fields = Fields::from(vec![
            Field::new("trace_id", DataType::FixedSizeBinary(16), true),
            Field::new("span_id", DataType::FixedSizeBinary(8), true),
            Field::new("attributes", arrow::array::Array::data_type(&map).clone(), true),
        ]);
        let events = StructBuilder::new(
            event_fields,
            vec![
                Box::new(Int64Builder::new()),
                Box::new(StringBuilder::new()),
                Box::new(attribute_builder()),
            ],
        );
        let links = StructBuilder::new(
            link_fields,
            vec![
                Box::new(FixedSizeBinaryBuilder::new(16)),
                Box::new(FixedSizeBinaryBuilder::new(8)),
                Box::new(attribute_builder()),
            ],
        );
        Self {
            key: KeyBuilder::new(),
            start_ns: Int64Builder::new(),
            duration_ns: Int64Builder::new(),
            trace_id: FixedSizeBinaryBuilder::new(16),
            span_id: FixedSizeBinaryBuilder::new(8),
            parent_span_id: FixedSizeBinaryBuilder::new(8),
            name: StringBuilder::new(),
            kind: Int32Builder::new(),
            status: StringBuilder::new(),
            status_message: StringBuilder::new(),
            service: StringBuilder::new(),
            scope: StringBuilder::new(),
            scope_version: StringBuilder::new(),
            trace_state: StringBuilder::new(),
            flags: Int64Builder::new(),
            promoted: std::array::from_fn(|_| StringBuilder::new()),
            promoted_set: [false; PROMOTED_SPAN_KEYS.len()],
            resource: attribute_builder(),
            attributes: attribute_builder(),
            events: ListBuilder::new(events),
            links: ListBuilder::new(links),
            n_rows: 0,
        }
    }
}

impl SpansBuilder {
    /// Number of finished rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Opens a row.
    pub fn append(&mut self, row: &SpanRow<'_>) {
        self.key.append(row.tenant, row.start_ns);
        self.start_ns.append_value(row.start_ns);
        self.duration_ns.append_value(row.duration_ns);
        append_id(&mut self.trace_id, row.trace_id);
        append_id(&mut self.span_id, row.span_id);
        append_id(&mut self.parent_span_id, row.parent_span_id);
        self.name.append_value(row.name);
        self.kind.append_value(row.kind);
        self.status.append_value(row.status);
        self.status_message.append_option(non_empty(row.status_message));
        self.service.append_option(row.service);
        self.scope.append_option(non_empty(row.scope));
        self.scope_version.append_option(non_empty(row.scope_version));
        self.trace_state.append_option(non_empty(row.trace_state));
        self.flags.append_value(i64::from(row.flags));
        append_attributes(&mut self.resource, row.resource);
    }

    /// Adds an attribute to the open row: to its own column where the key is promoted, else to the map.
    pub fn attribute(&mut self, key: &str, value: &str) {
        // Every promoted key starts so; anything else skips the search.
        let may_be_promoted = key.starts_with("gen_ai.") || key.starts_with("mcp.");
        let position = || PROMOTED_SPAN_KEYS.iter().position(|promoted| promoted.0 == key);
        if let Some(index) = may_be_promoted.then(position).flatten() {
            if !std::mem::replace(&mut self.promoted_set[index], true) {
                self.promoted[index].append_value(value);
            }
            return;
        }
        self.attributes.keys().append_value(key);
        self.attributes.values().append_value(value);
    }

    /// Adds an event to the open row.
    pub fn event(&mut self, time_ns: i64, name: &str, attributes: &dyn Attributes) {
        let row = self.events.values();
        if let Some(column) = row.field_builder::<Int64Builder>(0) {
            column.append_value(time_ns);
        }
        if let Some(column) = row.field_builder::<StringBuilder>(1) {
            column.append_value(name);
        }
        if let Some(column) = row.field_builder::<AttributeBuilder>(2) {
            append_attributes(column, attributes);
        }
        row.append(true);
    }

    /// Adds a link to the open row.
    pub fn link(&mut self, trace_id: &[u8], span_id: &[u8], attributes: &dyn Attributes) {
        let row = self.links.values();
        if let Some(column) = row.field_builder::<FixedSizeBinaryBuilder>(0) {
            append_id(column, trace_id);
        }
        if let Some(column) = row.field_builder::<FixedSizeBinaryBuilder>(1) {
            append_id(column, span_id);
        }
        if let Some(column) = row.field_builder::<AttributeBuilder>(2) {
            append_attributes(column, attributes);
        }
        row.append(true);
    }

    /// Closes the row.
    pub fn finish_row(&mut self) {
        for (builder, set) in self.promoted.iter_mut().zip(&mut self.promoted_set) {
            if !std::mem::take(set) {
                builder.append_null();
            }
        }
        let _ = self.attributes.append(true);
        self.events.append(true);
        self.links.append(true);
        self.n_rows += 1;
    }

    /// The batch.
    #[must_use]
    pub fn finish(mut self) -> RecordBatch {
        let mut columns = Columns::default();
        self.key.finish(&mut columns);
        columns.add("start_ns", true, &mut self.start_ns);
        columns.add("duration_ns", true, &mut self.duration_ns);
        columns.add("trace_id", true, &mut self.trace_id);
        columns.add("span_id", true, &mut self.span_id);
        columns.add("parent_span_id", true, &mut self.parent_span_id);
        columns.add("name", true, &mut self.name);
        columns.add("kind", true, &mut self.kind);
        columns.add("status", true, &mut self.status);
        columns.add("status_message", true, &mut self.status_message);
        columns.add("service", true, &mut self.service);
        columns.add("scope", true, &mut self.scope);
        columns.add("scope_version", true, &mut self.scope_version);
        columns.add("trace_state", true, &mut self.trace_state);
        columns.add("flags", true, &mut self.flags);
        for (builder, (_, name)) in self.promoted.iter_mut().zip(PROMOTED_SPAN_KEYS) {
            columns.add(name, true, builder);
        }
        columns.add("resource", true, &mut self.resource);
        columns.add("attributes", true, &mut self.attributes);
        columns.add("events", true, &mut self.events);
        columns.add("links", true, &mut self.links);
        columns.finish()
    }
}

fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// One log record, borrowed from the request.
pub struct LogRow<'r> {
    /// Owner.
    pub tenant: &'r str,
    /// Time of the event (observed time where the emitter gave none), nanoseconds since the Unix epoch.
    pub time_ns: i64,
    /// Time the collector saw it, 0 where absent.
    pub observed_ns: i64,
    /// OTLP severity number.
    pub severity_number: i32,
    /// Severity text, may be empty.
    pub severity_text: &'r str,
    /// Event name, resolved from field, attribute or body.
    pub event_name: Option<&'r str>,
    /// Body: text as it is, anything else as JSON.
    pub body: Option<&'r str>,
    /// Trace id bytes, may be empty.
    pub trace_id: &'r [u8],
    /// Span id bytes, may be empty.
    pub span_id: &'r [u8],
    /// `service.name`.
    pub service: Option<&'r str>,
    /// Scope name.
    pub scope: &'r str,
    /// Resource attributes.
    pub resource: &'r dyn Attributes,
    /// Attributes.
    pub attributes: &'r dyn Attributes,
}

/// Builds a batch of `logs`.
pub struct LogsBuilder {
    key: KeyBuilder,
    time_ns: Int64Builder,
    observed_ns: Int64Builder,
    severity_number: Int32Builder,
    severity: StringBuilder,
    event_name: StringBuilder,
    body: StringBuilder,
    trace_id: FixedSizeBinaryBuilder,
    span_id: FixedSizeBinaryBuilder,
    service: StringBuilder,
    scope: StringBuilder,
    resource: AttributeBuilder,
    attributes: AttributeBuilder,
    n_rows: usize,
}

impl Default for LogsBuilder {
    fn default() -> Self {
        Self {
            key: KeyBuilder::new(),
            time_ns: Int64Builder::new(),
            observed_ns: Int64Builder::new(),
            severity_number: Int32Builder::new(),
            severity: StringBuilder::new(),
            event_name: StringBuilder::new(),
            body: StringBuilder::new(),
            trace_id: FixedSizeBinaryBuilder::new(16),
            span_id: FixedSizeBinaryBuilder::new(8),
            service: StringBuilder::new(),
            scope: StringBuilder::new(),
            resource: attribute_builder(),
            attributes: attribute_builder(),
            n_rows: 0,
        }
    }
}

impl LogsBuilder {
    /// Number of rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Adds a row.
    pub fn append(&mut self, row: &LogRow<'_>) {
        self.key.append(row.tenant, row.time_ns);
        self.time_ns.append_value(row.time_ns);
        self.observed_ns
            .append_option((row.observed_ns != 0).then_some(row.observed_ns));
        self.severity_number
            .append_option((row.severity_number != 0).then_some(row.severity_number));
        self.severity.append_option(non_empty(row.severity_text));
        self.event_name.append_option(row.event_name);
        self.body.append_option(row.body);
        append_id(&mut self.trace_id, row.trace_id);
        append_id(&mut self.span_id, row.span_id);
        self.service.append_option(row.service);
        self.scope.append_option(non_empty(row.scope));
        append_attributes(&mut self.resource, row.resource);
        append_attributes(&mut self.attributes, row.attributes);
        self.n_rows += 1;
    }

    /// The batch.
    #[must_use]
    pub fn finish(mut self) -> RecordBatch {
        let mut columns = Columns::default();
        self.key.finish(&mut columns);
        columns.add("time_ns", true, &mut self.time_ns);
        columns.add("observed_ns", true, &mut self.observed_ns);
        columns.add("severity_number", true, &mut self.severity_number);
        columns.add("severity", true, &mut self.severity);
        columns.add("event_name", true, &mut self.event_name);
        columns.add("body", true, &mut self.body);
        columns.add("trace_id", true, &mut self.trace_id);
        columns.add("span_id", true, &mut self.span_id);
        columns.add("service", true, &mut self.service);
        columns.add("scope", true, &mut self.scope);
        columns.add("resource", true, &mut self.resource);
        columns.add("attributes", true, &mut self.attributes);
        columns.finish()
    }
}

/// One metric data point, borrowed from the request.
pub struct MetricRow<'r> {
    /// Owner.
    pub tenant: &'r str,
    /// Time of the point, nanoseconds since the Unix epoch.
    pub time_ns: i64,
    /// Start of what it counts, 0 where absent.
    pub start_ns: i64,
    /// Metric's name.
    pub name: &'r str,
    /// Unit, may be empty.
    pub unit: &'r str,
    /// `sum`, `gauge`, `histogram`, `exponential_histogram`, `summary`.
    pub kind: &'static str,
    /// `delta`, `cumulative`, absent for gauges.
    pub temporality: Option<&'static str>,
    /// Whether a sum only grows.
    pub is_monotonic: Option<bool>,
    /// Value of a sum or gauge.
    pub value: Option<f64>,
    /// Value of a sum or gauge that was sent as an integer.
    pub value_int: Option<i64>,
    /// Count of a histogram.
    pub count: Option<i64>,
    /// Sum of a histogram.
    pub sum: Option<f64>,
    /// Smallest value of a histogram.
    pub min: Option<f64>,
    /// Largest value of a histogram.
    pub max: Option<f64>,
    /// Histogram counts by bucket.
    pub bucket_counts: &'r [u64],
    /// Histogram bucket boundaries.
    pub explicit_bounds: &'r [f64],
    /// `service.name`.
    pub service: Option<&'r str>,
    /// Scope name.
    pub scope: &'r str,
    /// Resource attributes.
    pub resource: &'r dyn Attributes,
    /// Attributes.
    pub attributes: &'r dyn Attributes,
}

/// Builds a batch of `metrics`.
pub struct MetricsBuilder {
    key: KeyBuilder,
    time_ns: Int64Builder,
    start_ns: Int64Builder,
    name: StringBuilder,
    unit: StringBuilder,
    kind: StringBuilder,
    temporality: StringBuilder,
    is_monotonic: BooleanBuilder,
    value: Float64Builder,
    value_int: Int64Builder,
    count: Int64Builder,
    sum: Float64Builder,
    min: Float64Builder,
    max: Float64Builder,
    bucket_counts: ListBuilder<Int64Builder>,
    explicit_bounds: ListBuilder<Float64Builder>,
    service: StringBuilder,
    scope: StringBuilder,
    resource: AttributeBuilder,
    attributes: AttributeBuilder,
    n_rows: usize,
}

impl Default for MetricsBuilder {
    fn default() -> Self {
        Self {
            key: KeyBuilder::new(),
            time_ns: Int64Builder::new(),
            start_ns: Int64Builder::new(),
            name: StringBuilder::new(),
            unit: StringBuilder::new(),
            kind: StringBuilder::new(),
            temporality: StringBuilder::new(),
            is_monotonic: BooleanBuilder::new(),
            value: Float64Builder::new(),
            value_int: Int64Builder::new(),
            count: Int64Builder::new(),
            sum: Float64Builder::new(),
            min: Float64Builder::new(),
            max: Float64Builder::new(),
            bucket_counts: ListBuilder::new(Int64Builder::new()),
            explicit_bounds: ListBuilder::new(Float64Builder::new()),
            service: StringBuilder::new(),
            scope: StringBuilder::new(),
            resource: attribute_builder(),
            attributes: attribute_builder(),
            n_rows: 0,
        }
    }
}

impl MetricsBuilder {
    /// Number of rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Adds a row.
    pub fn append(&mut self, row: &MetricRow<'_>) {
        self.key.append(row.tenant, row.time_ns);
        self.time_ns.append_value(row.time_ns);
        self.start_ns.append_option((row.start_ns != 0).then_some(row.start_ns));
        self.name.append_value(row.name);
        self.unit.append_option(non_empty(row.unit));
        self.kind.append_value(row.kind);
        self.temporality.append_option(row.temporality);
        self.is_monotonic.append_option(row.is_monotonic);
        self.value.append_option(row.value);
        self.value_int.append_option(row.value_int);
        self.count.append_option(row.count);
        self.sum.append_option(row.sum);
        self.min.append_option(row.min);
        self.max.append_option(row.max);
        for count in row.bucket_counts {
            self.bucket_counts
                .values()
                .append_value(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        self.bucket_counts.append(!row.bucket_counts.is_empty());
        self.explicit_bounds.values().append_slice(row.explicit_bounds);
        self.explicit_bounds.append(!row.explicit_bounds.is_empty());
        self.service.append_option(row.service);
        self.scope.append_option(non_empty(row.scope));
        append_attributes(&mut self.resource, row.resource);
        append_attributes(&mut self.attributes, row.attributes);
        self.n_rows += 1;
    }

    /// The batch.
    #[must_use]
    pub fn finish(mut self) -> RecordBatch {
        let mut columns = Columns::default();
        self.key.finish(&mut columns);
        columns.add("time_ns", true, &mut self.time_ns);
        columns.add("start_ns", true, &mut self.start_ns);
        columns.add("name", true, &mut self.name);
        columns.add("unit", true, &mut self.unit);
        columns.add("kind", true, &mut self.kind);
        columns.add("temporality", true, &mut self.temporality);
        columns.add("is_monotonic", true, &mut self.is_monotonic);
        columns.add("value", true, &mut self.value);
        columns.add("value_int", true, &mut self.value_int);
        columns.add("count", true, &mut self.count);
        columns.add("sum", true, &mut self.sum);
        columns.add("min", true, &mut self.min);
        columns.add("max", true, &mut self.max);
        columns.add("bucket_counts", true, &mut self.bucket_counts);
        columns.add("explicit_bounds", true, &mut self.explicit_bounds);
        columns.add("service", true, &mut self.service);
        columns.add("scope", true, &mut self.scope);
        columns.add("resource", true, &mut self.resource);
        columns.add("attributes", true, &mut self.attributes);
        columns.finish()
    }
}

/// Builds a batch of `payloads`: one large text of a span or log record a row.
pub struct PayloadsBuilder {
    key: KeyBuilder,
    trace_id: FixedSizeBinaryBuilder,
    span_id: FixedSizeBinaryBuilder,
    role: StringBuilder,
    attribute: StringBuilder,
    mime: StringBuilder,
    n_bytes: Int64Builder,
    text: StringBuilder,
    n_rows: usize,
}

impl Default for PayloadsBuilder {
    fn default() -> Self {
        Self {
            key: KeyBuilder::new(),
            trace_id: FixedSizeBinaryBuilder::new(16),
            span_id: FixedSizeBinaryBuilder::new(8),
            role: StringBuilder::new(),
            attribute: StringBuilder::new(),
            mime: StringBuilder::new(),
            n_bytes: Int64Builder::new(),
            text: StringBuilder::new(),
            n_rows: 0,
        }
    }
}

/// One large text, borrowed from the request.
pub struct PayloadRow<'r> {
    /// Owner.
    pub tenant: &'r str,
    /// Start of its span or time of its log record, nanoseconds since the Unix epoch.
    pub time_ns: i64,
    /// Trace id bytes, may be empty.
    pub trace_id: &'r [u8],
    /// Span id bytes, may be empty.
    pub span_id: &'r [u8],
    /// `input`, `output`, `arguments`, `result`, `definitions`, `system`, `other`.
    pub role: &'static str,
    /// Attribute key it was sent under.
    pub attribute: &'r str,
    /// `application/json` or `text/plain`.
    pub mime: &'static str,
    /// The text, bounded by the ingest limits.
    pub text: &'r str,
    /// Its length as sent, in bytes.
    pub n_bytes: i64,
}

impl PayloadsBuilder {
    /// Number of rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Adds a row.
    pub fn append(&mut self, row: &PayloadRow<'_>) {
        self.key.append(row.tenant, row.time_ns);
        append_id(&mut self.trace_id, row.trace_id);
        append_id(&mut self.span_id, row.span_id);
        self.role.append_value(row.role);
        self.attribute.append_value(row.attribute);
        self.mime.append_value(row.mime);
        self.n_bytes.append_value(row.n_bytes);
        self.text.append_value(row.text);
        self.n_rows += 1;
    }

    /// The batch.
    #[must_use]
    pub fn finish(mut self) -> RecordBatch {
        let mut columns = Columns::default();
        self.key.finish(&mut columns);
        columns.add("trace_id", true, &mut self.trace_id);
        columns.add("span_id", true, &mut self.span_id);
        columns.add("role", true, &mut self.role);
        columns.add("attribute", true, &mut self.attribute);
        columns.add("mime", true, &mut self.mime);
        columns.add("n_bytes", true, &mut self.n_bytes);
        columns.add("text", true, &mut self.text);
        columns.finish()
    }
}

/// The schema of `spans`.
#[must_use]
pub fn spans_schema() -> SchemaRef {
    SpansBuilder::default().finish().schema()
}

/// The schema of `logs`.
#[must_use]
pub fn logs_schema() -> SchemaRef {
    LogsBuilder::default().finish().schema()
}

/// The schema of `metrics`.
#[must_use]
pub fn metrics_schema() -> SchemaRef {
    MetricsBuilder::default().finish().schema()
}

/// The schema of `payloads`.
#[must_use]
pub fn payloads_schema() -> SchemaRef {
    PayloadsBuilder::default().finish().schema()
}
