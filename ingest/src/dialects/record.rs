//! The records handed to dialects, and the observation that each starts from.
//!
//! What the conventions share is done here once: fields in order of precedence, record over resource;
//! counts made inclusive; names folded; status from every place it may hide; sizes from content where no
//! size was sent. A dialect then corrects what it knows better.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use spanledger_model::call::{CallKind, Dimensions, McpFields, ModelFields, Sizes, Status};
use spanledger_model::ids::hash_parts;
use spanledger_model::{FemtoUsd, Observation, ObservationId, Role, Source, SpanId, TenantId, TraceId, Usage};

use super::catalogue;
use super::compile::Compiled;
use super::fields::{Field, Fields};
use super::names;
use crate::value;

/// What a resource says for all of its records.
#[derive(Debug, Clone, Default)]
pub struct ResourceFacts {
    /// Dimensions of the resource.
    pub dimensions: Dimensions,
    /// Hash of all its attributes: tells one process from another.
    pub identity: [u8; 16],
}

impl ResourceFacts {
    /// Reads a resource's canonical fields.
    #[must_use]
    pub fn new(fields: &Fields<'_>, service: Option<&str>, identity: [u8; 16]) -> Self {
        let dimensions = Dimensions {
            service: service.map(str::to_owned),
            environment: fields.text(Field::Environment),
            team: fields.text(Field::Team),
            project: fields.text(Field::Project),
            cost_center: fields.text(Field::CostCenter),
            user_id: fields.text(Field::User),
            agent: fields.text(Field::Agent),
            client: fields.text(Field::Client),
            session_id: fields.text(Field::Conversation),
            api_key: fields.text(Field::ApiKey),
        };
        Self { dimensions, identity }
    }
}

/// Where a record came from: what all three signals share.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'r> {
    /// Owner.
    pub tenant: &'r TenantId,
    /// Its resource.
    pub resource: &'r ResourceFacts,
    /// Instrumentation scope's name.
    pub scope: &'r str,
    /// Dialect it is read by.
    pub dialect: &'r Compiled,
    /// Server's clock at arrival, nanoseconds since the Unix epoch.
    pub arrived_ns: i64,
}

/// A span.
#[derive(Debug)]
pub struct SpanView<'r> {
    /// Where it came from.
    pub origin: Origin<'r>,
    /// The span.
    pub span: &'r Span,
    /// Start, bounded, nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// Duration, never negative.
    pub duration_ns: i64,
    /// Its canonical fields.
    pub fields: Fields<'r>,
}

/// A log record.
#[derive(Debug)]
pub struct LogRecordView<'r> {
    /// Where it came from.
    pub origin: Origin<'r>,
    /// The record.
    pub record: &'r LogRecord,
    /// Event name, resolved from field, attribute or body.
    pub event_name: Option<&'r str>,
    /// Time of the event, nanoseconds since the Unix epoch.
    pub time_ns: i64,
    /// Its canonical fields.
    pub fields: Fields<'r>,
}

/// A metric data point with one number: a sum's value or a histogram's sum.
pub struct PointView<'r> {
    /// Where it came from.
    pub origin: Origin<'r>,
    /// Metric's name.
    pub name: &'r str,
    /// The number.
    pub value: f64,
    /// Counts since `start_ns` (delta) or since a reset (cumulative); `None` for a gauge.
    pub is_delta: Option<bool>,
    /// Start of what it counts.
    pub start_ns: i64,
    /// Time of the point.
    pub time_ns: i64,
    /// Its attributes.
    pub attributes: &'r [opentelemetry_proto::tonic::common::v1::KeyValue],
    /// Gives the identity of its series since its last reset: resource, scope, name, attributes and start.
    pub series: &'r dyn Fn() -> [u8; 16],
    /// Its canonical fields.
    pub fields: Fields<'r>,
}

impl SpanView<'_> {
    /// The observation this span starts from.
    #[must_use]
    pub fn observation(&self, kind: CallKind, role: Role) -> Observation {
        let span = self.span;
        let id = hash_parts(&[
            self.origin.tenant.as_str().as_bytes(),
            b"span",
            &span.trace_id,
            &span.span_id,
            // Client and server side of one request share the id in some emitters.
            &span.kind.to_le_bytes(),
        ]);
        let mut observation = base(
            &self.origin,
            (&self.fields, &span.attributes),
            Source::Span,
            ObservationId(id),
            kind,
            role,
        );
        observation.name.clone_from(&span.name);
        observation.start_ns = self.start_ns;
        observation.duration_ns = Some(self.duration_ns);
        observation.trace_id = TraceId::from_slice(&span.trace_id);
        observation.span_id = SpanId::from_slice(&span.span_id);
        observation.parent_span_id = SpanId::from_slice(&span.parent_span_id);
        observation.span_kind = Some(span.kind);
        let reported = span.status.as_ref().map_or(0, |status| status.code);
        observation.status = match reported {
            2 => Status::Error,
            1 => observation.status.max(Status::Ok),
            _ => observation.status,
        };
        if observation.status == Status::Error && observation.error_type.is_none() {
            observation.error_type = self.exception_type();
        }
        observation
    }

    fn exception_type(&self) -> Option<String> {
        let exception = self.span.events.iter().rev().find(|event| event.name == "exception")?;
        value::attribute(&exception.attributes, "exception.type").and_then(value::owned_text)
    }

    /// The GenAI operation, lower case; empty where none was sent.
    #[must_use]
    pub fn operation(&self) -> String {
        self.fields
            .str(Field::Operation)
            .unwrap_or_default()
            .to_ascii_lowercase()
    }
}

impl LogRecordView<'_> {
    /// The observation this record starts from. Its time is the end of what it reports: the start is found
    /// by the duration it names.
    #[must_use]
    pub fn observation(&self, kind: CallKind, role: Role) -> Observation {
        let mut observation = base(
            &self.origin,
            (&self.fields, &self.record.attributes),
            Source::Log,
            self.identity(),
            kind,
            role,
        );
        self.event_name.unwrap_or_default().clone_into(&mut observation.name);
        let duration_ns = self
            .fields
            .get(Field::DurationMs)
            .and_then(value::float)
            .map(|ms| (ms.max(0.0) * 1e6) as i64);
        observation.duration_ns = duration_ns;
        observation.start_ns = self.time_ns.saturating_sub(duration_ns.unwrap_or(0));
        observation.trace_id = TraceId::from_slice(&self.record.trace_id);
        observation.span_id = SpanId::from_slice(&self.record.span_id);
        observation
    }

    /// A log record has no id of its own. Some emitters send one; else the same content from the same process
    /// is the same record.
    fn identity(&self) -> ObservationId {
        let tenant = self.origin.tenant.as_str().as_bytes();
        let sent = |key: &String| value::attribute(&self.record.attributes, key).and_then(value::owned_text);
        let id = match self.origin.dialect.record_id.iter().find_map(sent) {
            Some(id) => hash_parts(&[tenant, b"log", self.origin.dialect.name.as_bytes(), id.as_bytes()]),
            None => {
                let content = hash_parts(&[&self.origin.resource.identity, &self.record.encode_to_vec()]);
                hash_parts(&[tenant, b"log", &content])
            }
        };
        ObservationId(id)
    }
}

impl PointView<'_> {
    /// The observation this point starts from: a counter of model usage.
    #[must_use]
    pub fn observation(&self, kind: CallKind) -> Observation {
        let series = (self.series)();
        let content = hash_parts(&[&series, &self.time_ns.to_le_bytes()]);
        let id = hash_parts(&[self.origin.tenant.as_str().as_bytes(), b"metric", &content]);
        let role = if self.is_delta == Some(true) {
            Role::CounterDelta
        } else {
            Role::CounterCumulative
        };
        let mut observation = base(
            &self.origin,
            (&self.fields, &[]),
            Source::Metric,
            ObservationId(id),
            kind,
            role,
        );
        self.name.clone_into(&mut observation.name);
        observation.start_ns = if self.start_ns > 0 {
            self.start_ns.min(self.time_ns)
        } else {
            self.time_ns
        };
        observation.duration_ns = Some(self.time_ns.saturating_sub(observation.start_ns));
        observation.series = Some(hex::encode(series));
        observation
    }
}

fn base(
    origin: &Origin<'_>,
    (fields, attributes): (&Fields<'_>, &[KeyValue]),
    source: Source,
    observation_id: ObservationId,
    kind: CallKind,
    role: Role,
) -> Observation {
    let (status, error_type) = outcome(fields);
    Observation {
        tenant: origin.tenant.clone(),
        observation_id,
        source,
        dialect: origin.dialect.name.clone(),
        scope: (!origin.scope.is_empty()).then(|| origin.scope.to_owned()),
        name: String::new(),
        arrived_ns: origin.arrived_ns,
        role,
        kind,
        operation: fields.text(Field::Operation),
        start_ns: 0,
        duration_ns: None,
        status,
        error_type,
        dimensions: dimensions(origin, fields),
        turn_id: fields.text(Field::Turn),
        trace_id: None,
        span_id: None,
        parent_span_id: None,
        span_kind: None,
        hop: None,
        arguments_hash: kind.is_mcp().then(|| arguments_hash(fields)).flatten(),
        // A counter is about many calls.
        context_sizes: (source != Source::Metric)
            .then(|| catalogue::context_sizes(kind, fields, attributes))
            .flatten(),
        tool_call_id: fields.text(Field::ToolCallId),
        mcp: mcp(fields),
        model: model(fields),
        usage: usage(
            fields,
            origin.dialect.input_is_exclusive,
            origin.dialect.reasoning_is_outside,
        ),
        sizes: sizes(fields),
        reported_cost: fields.money(Field::Cost).or_else(|| micros(fields)),
        series: None,
    }
}

fn outcome(fields: &Fields<'_>) -> (Status, Option<String>) {
    let mut error_type = fields.text(Field::ErrorType);
    let failed_code = fields
        .get(Field::JsonRpcStatus)
        .and_then(value::owned_text)
        .filter(|code| {
            // JSON-RPC errors are negative; HTTP and gRPC success codes also arrive under this key.
            code.starts_with('-')
        });
    let failed_http = fields.count(Field::HttpStatus).filter(|code| *code >= 400);
    error_type = error_type
        .or(failed_code)
        .or_else(|| failed_http.map(|code| code.to_string()));
    let status = match fields.get(Field::Success).and_then(value::boolean) {
        _ if error_type.is_some() => Status::Error,
        Some(true) => Status::Ok,
        Some(false) => Status::Error,
        None => Status::Unset,
    };
    (status, error_type)
}

fn dimensions(origin: &Origin<'_>, fields: &Fields<'_>) -> Dimensions {
    let resource = &origin.resource.dimensions;
    let or = |own: Option<String>, of_resource: &Option<String>| own.or_else(|| of_resource.clone());
    Dimensions {
        service: resource.service.clone(),
        environment: or(fields.text(Field::Environment), &resource.environment),
        team: or(fields.text(Field::Team), &resource.team),
        project: or(fields.text(Field::Project), &resource.project),
        cost_center: or(fields.text(Field::CostCenter), &resource.cost_center),
        user_id: or(fields.text(Field::User), &resource.user_id),
        agent: or(fields.text(Field::Agent), &resource.agent),
        client: or(fields.text(Field::Client), &resource.client),
        session_id: if origin.dialect.ignores("session.id") {
            fields.text(Field::Conversation)
        } else {
            or(fields.text(Field::Conversation), &resource.session_id)
        },
        api_key: or(fields.text(Field::ApiKey), &resource.api_key),
    }
}

fn mcp(fields: &Fields<'_>) -> McpFields {
    McpFields {
        server: fields.text(Field::Server),
        tool: fields.text(Field::Tool),
        prompt: fields.text(Field::Prompt),
        prompt_version: fields.text(Field::PromptVersion),
        resource_uri: fields.text(Field::ResourceUri),
        mcp_method: fields.text(Field::McpMethod),
        mcp_protocol_version: fields.text(Field::ProtocolVersion),
        transport: fields.text(Field::Transport).map(|name| names::transport(&name)),
        request_id: fields.text(Field::RequestId),
    }
}

fn model(fields: &Fields<'_>) -> ModelFields {
    let mut provider = fields.text(Field::Provider).map(|name| names::provider(&name));
    let mut named = |field| {
        let model = fields.text(field)?;
        // `openai/gpt-4o`, as gateways name it, where nothing else says who the provider is.
        match names::split_provider(&model) {
            Some((prefix, bare)) if provider.as_deref().is_none_or(|provider| *provider == prefix) => {
                provider = Some(prefix);
                Some(bare.to_owned())
            }
            _ => Some(model),
        }
    };
    let response_model = named(Field::ResponseModel);
    let request_model = named(Field::RequestModel);
    ModelFields {
        provider,
        request_model,
        response_model,
        response_id: fields.text(Field::ResponseId),
        service_tier: fields.text(Field::ServiceTier),
        processing: fields.text(Field::Processing),
    }
}

/// Token counts, made inclusive where the dialect is not or the counts prove that they are not: more cached
/// than input, or a total that only holds with the reasoning beside the output.
pub(super) fn usage(fields: &Fields<'_>, input_is_exclusive: bool, reasoning_is_outside: bool) -> Usage {
    let cache_write = fields.count(Field::CacheWrite);
    let cache_write_1h = fields.count(Field::CacheWrite1h);
    let cache_write_5m = match (fields.count(Field::CacheWrite5m), cache_write, cache_write_1h) {
        (Some(short), _, _) => Some(short),
        (None, Some(whole), long) => Some(whole.saturating_sub(long.unwrap_or(0)).max(0)),
        (None, None, _) => None,
    };
    let mut usage = Usage {
        input: fields.count(Field::Input),
        cache_read: fields.count(Field::CacheRead),
        cache_write_5m,
        cache_write_1h,
        output: fields.count(Field::Output),
        reasoning: fields.count(Field::Reasoning),
        audio_input: fields.count(Field::AudioInput),
        audio_output: fields.count(Field::AudioOutput),
        image_input: fields.count(Field::ImageInput),
        web_searches: fields.count(Field::WebSearches),
    };
    let cached = usage
        .cache_read
        .unwrap_or(0)
        .saturating_add(usage.cache_write().unwrap_or(0));
    if let (Some(output), Some(reasoning)) = (usage.output, usage.reasoning)
        && (reasoning_is_outside || total_proves_reasoning_outside(fields, output, reasoning))
    {
        usage.output = Some(output.saturating_add(reasoning));
    }
    let is_proven = || usage.input.is_some_and(|input| cached > input) || total_proves_cache_outside(fields, cached);
    if input_is_exclusive || is_proven() {
        usage.input = usage
            .input
            .map(|input| input.saturating_add(cached))
            .or((cached > 0).then_some(cached));
    }
    usage
}

/// `input + cached + output = total` proves that cached tokens are not part of the input.
fn total_proves_cache_outside(fields: &Fields<'_>, cached: i64) -> bool {
    let (Some(total), Some(input)) = (fields.count(Field::Total), fields.count(Field::Input)) else {
        return false;
    };
    let output = fields.count(Field::Output).unwrap_or(0);
    cached > 0 && input.checked_add(output).and_then(|sum| sum.checked_add(cached)) == Some(total)
}

/// `input + output + reasoning = total` proves that reasoning is not part of the output.
fn total_proves_reasoning_outside(fields: &Fields<'_>, output: i64, reasoning: i64) -> bool {
    let (Some(total), Some(input)) = (fields.count(Field::Total), fields.count(Field::Input)) else {
        return false;
    };
    reasoning > 0 && input.checked_add(output).and_then(|sum| sum.checked_add(reasoning)) == Some(total)
}

/// A cost in millionths of a US dollar.
fn micros(fields: &Fields<'_>) -> Option<FemtoUsd> {
    fields
        .money(Field::CostMicros)
        .map(|millionfold| FemtoUsd(millionfold.0 / 1_000_000))
}

/// Hash of the arguments as canonical JSON (object keys sorted), hex; of text that is not JSON as it is.
fn arguments_hash(fields: &Fields<'_>) -> Option<String> {
    const BYTES_MAX: usize = 256 * 1024;
    let text = value::text(fields.get(Field::Arguments)?).filter(|text| text.len() <= BYTES_MAX)?;
    let canonical = match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(arguments) => arguments.to_string(),
        Err(_) => text.trim().to_owned(),
    };
    let hash = hash_parts(&[b"arguments", canonical.as_bytes()]);
    Some(hex::encode(&hash[..8]))
}

fn sizes(fields: &Fields<'_>) -> Sizes {
    let content = |field| fields.get(field).and_then(value::text_bytes);
    Sizes {
        request_bytes: fields.count(Field::RequestBytes).or_else(|| content(Field::Arguments)),
        response_bytes: fields
            .count(Field::ResponseBytes)
            .or_else(|| content(Field::ResultText)),
        definition_bytes: fields.get(Field::DefinitionBytes).and_then(definition_bytes),
    }
}

/// `spanledger.definition_bytes` is a number, or a JSON object tool → bytes whose values are summed.
fn definition_bytes(sent: &opentelemetry_proto::tonic::common::v1::AnyValue) -> Option<i64> {
    value::int(sent).or_else(|| {
        let text = value::text(sent)?;
        let sizes: std::collections::BTreeMap<String, i64> = serde_json::from_str(&text).ok()?;
        Some(sizes.values().sum())
    })
}
