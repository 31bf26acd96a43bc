//! `observations`: rows to and from record batches. The columns of `calls` that a record gives, plus where
//! it came from. Never edited.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use spanledger_model::call::{CallKind, Dimensions, McpFields, ModelFields, Sizes, Status};
use spanledger_model::{Hop, Observation, ObservationId, Role, Source, SpanId, TenantId, TraceId, Usage};

use super::codec::{Decoder, Encoder};

/// The schema of `observations`.
#[must_use]
pub fn schema() -> SchemaRef {
    to_batch(&[]).schema()
}

/// Encodes rows.
#[must_use]
pub fn to_batch(observations: &[Observation]) -> RecordBatch {
    let rows = observations.iter();
    let mut encoder = Encoder::with_key(rows.clone().map(|row| (&row.tenant, row.start_ns)));
    encoder.id(
        "observation_id",
        16,
        rows.clone().map(|row| Some(row.observation_id.as_bytes())),
    );
    encoder.text("source", rows.clone().map(|row| Some(row.source.as_str())));
    encoder.text("dialect", rows.clone().map(|row| Some(row.dialect.as_str())));
    encoder.text("scope", rows.clone().map(|row| row.scope.as_deref()));
    encoder.text("name", rows.clone().map(|row| Some(row.name.as_str())));
    encoder.timestamp("arrived_at", rows.clone().map(|row| Some(row.arrived_ns)));
    encoder.text("role", rows.clone().map(|row| Some(row.role.as_str())));
    encoder.text("kind", rows.clone().map(|row| Some(row.kind.as_str())));
    encoder.text("operation", rows.clone().map(|row| row.operation.as_deref()));
    encoder.int("start_ns", rows.clone().map(|row| Some(row.start_ns)));
    encoder.int("duration_ns", rows.clone().map(|row| row.duration_ns));
    encoder.text("status", rows.clone().map(|row| Some(row.status.as_str())));
    encoder.text("error_type", rows.clone().map(|row| row.error_type.as_deref()));
    encoder.text("service", rows.clone().map(|row| row.dimensions.service.as_deref()));
    encoder.text(
        "environment",
        rows.clone().map(|row| row.dimensions.environment.as_deref()),
    );
    encoder.text("team", rows.clone().map(|row| row.dimensions.team.as_deref()));
    encoder.text("project", rows.clone().map(|row| row.dimensions.project.as_deref()));
    encoder.text(
        "cost_center",
        rows.clone().map(|row| row.dimensions.cost_center.as_deref()),
    );
    encoder.text("user_id", rows.clone().map(|row| row.dimensions.user_id.as_deref()));
    encoder.text("agent", rows.clone().map(|row| row.dimensions.agent.as_deref()));
    encoder.text("client", rows.clone().map(|row| row.dimensions.client.as_deref()));
    encoder.text(
        "session_id",
        rows.clone().map(|row| row.dimensions.session_id.as_deref()),
    );
    encoder.text("api_key", rows.clone().map(|row| row.dimensions.api_key.as_deref()));
    encoder.text("turn_id", rows.clone().map(|row| row.turn_id.as_deref()));
    encoder.id(
        "trace_id",
        16,
        rows.clone().map(|row| row.trace_id.as_ref().map(TraceId::as_bytes)),
    );
    encoder.id(
        "span_id",
        8,
        rows.clone().map(|row| row.span_id.as_ref().map(SpanId::as_bytes)),
    );
    encoder.id(
        "parent_span_id",
        8,
        rows.clone()
            .map(|row| row.parent_span_id.as_ref().map(SpanId::as_bytes)),
    );
    encoder.int32("span_kind", rows.clone().map(|row| row.span_kind));
    encoder.text("hop", rows.clone().map(|row| row.hop.map(Hop::as_str)));
    encoder.text("arguments_hash", rows.clone().map(|row| row.arguments_hash.as_deref()));
    encoder.text("context_sizes", rows.clone().map(|row| row.context_sizes.as_deref()));
    encoder.text("tool_call_id", rows.clone().map(|row| row.tool_call_id.as_deref()));
    encoder.text("server", rows.clone().map(|row| row.mcp.server.as_deref()));
    encoder.text("tool", rows.clone().map(|row| row.mcp.tool.as_deref()));
    encoder.text("prompt", rows.clone().map(|row| row.mcp.prompt.as_deref()));
    encoder.text(
        "prompt_version",
        rows.clone().map(|row| row.mcp.prompt_version.as_deref()),
    );
    encoder.text("resource_uri", rows.clone().map(|row| row.mcp.resource_uri.as_deref()));
    encoder.text("mcp_method", rows.clone().map(|row| row.mcp.mcp_method.as_deref()));
    encoder.text(
        "mcp_protocol_version",
        rows.clone().map(|row| row.mcp.mcp_protocol_version.as_deref()),
    );
    encoder.text("transport", rows.clone().map(|row| row.mcp.transport.as_deref()));
    encoder.text("request_id", rows.clone().map(|row| row.mcp.request_id.as_deref()));
    encoder.text("provider", rows.clone().map(|row| row.model.provider.as_deref()));
    encoder.text(
        "request_model",
        rows.clone().map(|row| row.model.request_model.as_deref()),
    );
    encoder.text(
        "response_model",
        rows.clone().map(|row| row.model.response_model.as_deref()),
    );
    encoder.text("response_id", rows.clone().map(|row| row.model.response_id.as_deref()));
    encoder.text(
        "service_tier",
        rows.clone().map(|row| row.model.service_tier.as_deref()),
    );
    encoder.text("processing", rows.clone().map(|row| row.model.processing.as_deref()));
    encoder.int("input_tokens", rows.clone().map(|row| row.usage.input));
    encoder.int("cache_read_tokens", rows.clone().map(|row| row.usage.cache_read));
    encoder.int(
        "cache_write_5m_tokens",
        rows.clone().map(|row| row.usage.cache_write_5m),
    );
    encoder.int(
        "cache_write_1h_tokens",
        rows.clone().map(|row| row.usage.cache_write_1h),
    );
    encoder.int("output_tokens", rows.clone().map(|row| row.usage.output));
    encoder.int("reasoning_tokens", rows.clone().map(|row| row.usage.reasoning));
    encoder.int("audio_input_tokens", rows.clone().map(|row| row.usage.audio_input));
    encoder.int("audio_output_tokens", rows.clone().map(|row| row.usage.audio_output));
    encoder.int("image_input_tokens", rows.clone().map(|row| row.usage.image_input));
    encoder.int("web_searches", rows.clone().map(|row| row.usage.web_searches));
    encoder.int("request_bytes", rows.clone().map(|row| row.sizes.request_bytes));
    encoder.int("response_bytes", rows.clone().map(|row| row.sizes.response_bytes));
    encoder.int("definition_bytes", rows.clone().map(|row| row.sizes.definition_bytes));
    encoder.money("reported_cost", rows.clone().map(|row| row.reported_cost));
    encoder.text("series", rows.clone().map(|row| row.series.as_deref()));
    encoder.finish()
}

/// Decodes rows. A row without its mandatory columns is left out.
#[must_use]
pub fn from_batch(batch: &RecordBatch) -> Vec<Observation> {
    let columns = Decoder::new(batch);
    let tenant = columns.text("tenant");
    let observation_id = columns.id("observation_id");
    let source = columns.text("source");
    let dialect = columns.text("dialect");
    let scope = columns.text("scope");
    let name = columns.text("name");
    let arrived_ns = columns.timestamp_ns("arrived_at");
    let role = columns.text("role");
    let kind = columns.text("kind");
    let operation = columns.text("operation");
    let start_ns = columns.int("start_ns");
    let duration_ns = columns.int("duration_ns");
    let status = columns.text("status");
    let error_type = columns.text("error_type");
    let turn_id = columns.text("turn_id");
    let trace_id = columns.id("trace_id");
    let span_id = columns.id("span_id");
    let parent_span_id = columns.id("parent_span_id");
    let span_kind = columns.int32("span_kind");
    let hop = columns.text("hop");
    let arguments_hash = columns.text("arguments_hash");
    let context_sizes = columns.text("context_sizes");
    let tool_call_id = columns.text("tool_call_id");
    let reported_cost = columns.money("reported_cost");
    let series = columns.text("series");
    let service = columns.text("service");
    let environment = columns.text("environment");
    let team = columns.text("team");
    let project = columns.text("project");
    let cost_center = columns.text("cost_center");
    let user_id = columns.text("user_id");
    let agent = columns.text("agent");
    let client = columns.text("client");
    let session_id = columns.text("session_id");
    let api_key = columns.text("api_key");
    let server = columns.text("server");
    let tool = columns.text("tool");
    let prompt = columns.text("prompt");
    let prompt_version = columns.text("prompt_version");
    let resource_uri = columns.text("resource_uri");
    let mcp_method = columns.text("mcp_method");
    let mcp_protocol_version = columns.text("mcp_protocol_version");
    let transport = columns.text("transport");
    let request_id = columns.text("request_id");
    let provider = columns.text("provider");
    let request_model = columns.text("request_model");
    let response_model = columns.text("response_model");
    let response_id = columns.text("response_id");
    let service_tier = columns.text("service_tier");
    let processing = columns.text("processing");
    let input = columns.int("input_tokens");
    let cache_read = columns.int("cache_read_tokens");
    let cache_write_5m = columns.int("cache_write_5m_tokens");
    let cache_write_1h = columns.int("cache_write_1h_tokens");
    let output = columns.int("output_tokens");
    let reasoning = columns.int("reasoning_tokens");
    let audio_input = columns.int("audio_input_tokens");
    let audio_output = columns.int("audio_output_tokens");
    let image_input = columns.int("image_input_tokens");
    let web_searches = columns.int("web_searches");
    let request_bytes = columns.int("request_bytes");
    let response_bytes = columns.int("response_bytes");
    let definition_bytes = columns.int("definition_bytes");
    let decode = |row: usize| {
        Some(Observation {
            tenant: TenantId::from_credential(tenant.get(row)?),
            observation_id: ObservationId::from_slice(observation_id.get(row)?)?,
            source: Source::parse(source.get(row)?)?,
            dialect: dialect.owned(row)?,
            scope: scope.owned(row),
            name: name.owned(row)?,
            arrived_ns: arrived_ns(row)?,
            role: Role::parse(role.get(row)?)?,
            kind: CallKind::parse(kind.get(row)?)?,
            operation: operation.owned(row),
            start_ns: start_ns(row)?,
            duration_ns: duration_ns(row),
            status: Status::parse(status.get(row)?),
            error_type: error_type.owned(row),
            turn_id: turn_id.owned(row),
            trace_id: trace_id.get(row).and_then(TraceId::from_slice),
            span_id: span_id.get(row).and_then(SpanId::from_slice),
            parent_span_id: parent_span_id.get(row).and_then(SpanId::from_slice),
            span_kind: span_kind(row),
            hop: hop.get(row).and_then(Hop::parse),
            arguments_hash: arguments_hash.owned(row),
            context_sizes: context_sizes.owned(row),
            tool_call_id: tool_call_id.owned(row),
            reported_cost: reported_cost(row),
            series: series.owned(row),
            dimensions: Dimensions {
                service: service.owned(row),
                environment: environment.owned(row),
                team: team.owned(row),
                project: project.owned(row),
                cost_center: cost_center.owned(row),
                user_id: user_id.owned(row),
                agent: agent.owned(row),
                client: client.owned(row),
                session_id: session_id.owned(row),
                api_key: api_key.owned(row),
            },
            mcp: McpFields {
                server: server.owned(row),
                tool: tool.owned(row),
                prompt: prompt.owned(row),
                prompt_version: prompt_version.owned(row),
                resource_uri: resource_uri.owned(row),
                mcp_method: mcp_method.owned(row),
                mcp_protocol_version: mcp_protocol_version.owned(row),
                transport: transport.owned(row),
                request_id: request_id.owned(row),
            },
            model: ModelFields {
                provider: provider.owned(row),
                request_model: request_model.owned(row),
                response_model: response_model.owned(row),
                response_id: response_id.owned(row),
                service_tier: service_tier.owned(row),
                processing: processing.owned(row),
            },
            usage: Usage {
                input: input(row),
                cache_read: cache_read(row),
                cache_write_5m: cache_write_5m(row),
                cache_write_1h: cache_write_1h(row),
                output: output(row),
                reasoning: reasoning(row),
                audio_input: audio_input(row),
                audio_output: audio_output(row),
                image_input: image_input(row),
                web_searches: web_searches(row),
            },
            sizes: Sizes {
                request_bytes: request_bytes(row),
                response_bytes: response_bytes(row),
                definition_bytes: definition_bytes(row),
            },
        })
    };
    (0..batch.num_rows()).filter_map(decode).collect()
}
