//! `calls`: rows to and from record batches. One logical operation is one row, always.

use std::sync::Arc;

use arrow::array::{Array, AsArray, FixedSizeBinaryBuilder, ListBuilder, RecordBatch};
use arrow::datatypes::SchemaRef;
use spanledger_model::call::{CallKind, Confidence, Dimensions, McpFields, ModelFields, Sizes, Status};
use spanledger_model::{Call, CallId, ObservationId, SpanId, TenantId, TraceId, Usage};

use super::codec::{Decoder, Encoder};

/// The schema of `calls`.
#[must_use]
pub fn schema() -> SchemaRef {
    to_batch(&[]).schema()
}

/// Encodes rows.
#[must_use]
pub fn to_batch(calls: &[Call]) -> RecordBatch {
    let rows = calls.iter();
    let mut encoder = Encoder::with_key(rows.clone().map(|row| (&row.tenant, row.start_ns)));
    encoder.int("start_ns", rows.clone().map(|row| Some(row.start_ns)));
    encoder.int("duration_ns", rows.clone().map(|row| row.duration_ns));
    encoder.id("call_id", 16, rows.clone().map(|row| Some(row.call_id.as_bytes())));
    encoder.text("kind", rows.clone().map(|row| Some(row.kind.as_str())));
    encoder.text("operation", rows.clone().map(|row| row.operation.as_deref()));
    encoder.text("dialects", rows.clone().map(|row| Some(row.dialects.as_str())));
    let mut ids = ListBuilder::new(FixedSizeBinaryBuilder::new(16));
    for call in calls {
        for id in &call.observation_ids {
            if ids.values().append_value(id.as_bytes()).is_err() {
                ids.values().append_null();
            }
        }
        ids.append(true);
    }
    encoder.push("observation_ids", true, Arc::new(ids.finish()));
    encoder.text("rules", rows.clone().map(|row| Some(row.rules.as_str())));
    encoder.text("confidence", rows.clone().map(|row| Some(row.confidence.as_str())));
    encoder.int32("hops", rows.clone().map(|row| Some(row.hops)));
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
    encoder.text("allocated_by", rows.clone().map(|row| row.allocated_by.as_deref()));
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
    encoder.money("own_cost", rows.clone().map(|row| row.own_cost));
    encoder.money("total_cost", rows.clone().map(|row| row.total_cost));
    encoder.finish()
}

/// The ids of the observations of each row's call, by row.
pub fn observation_ids(batch: &RecordBatch) -> impl Fn(usize) -> Vec<ObservationId> + use<'_> {
    let id_lists = batch
        .column_by_name("observation_ids")
        .and_then(|column| column.as_list_opt::<i32>());
    move |row| {
        let Some(list) = id_lists
            .filter(|lists| lists.is_valid(row))
            .map(|lists| lists.value(row))
        else {
            return Vec::new();
        };
        let Some(ids) = list.as_fixed_size_binary_opt() else {
            return Vec::new();
        };
        ids.iter().flatten().filter_map(ObservationId::from_slice).collect()
    }
}

/// Decodes rows. A row without its mandatory columns is left out.
#[must_use]
pub fn from_batch(batch: &RecordBatch) -> Vec<Call> {
    let columns = Decoder::new(batch);
    let tenant = columns.text("tenant");
    let call_id = columns.id("call_id");
    let kind = columns.text("kind");
    let operation = columns.text("operation");
    let start_ns = columns.int("start_ns");
    let duration_ns = columns.int("duration_ns");
    let dialects = columns.text("dialects");
    let rules = columns.text("rules");
    let confidence = columns.text("confidence");
    let hops = columns.int32("hops");
    let status = columns.text("status");
    let error_type = columns.text("error_type");
    let trace_id = columns.id("trace_id");
    let span_id = columns.id("span_id");
    let parent_span_id = columns.id("parent_span_id");
    let reported_cost = columns.money("reported_cost");
    let own_cost = columns.money("own_cost");
    let total_cost = columns.money("total_cost");
    let observation_ids = observation_ids(batch);
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
    let allocated_by = columns.text("allocated_by");
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
        Some(Call {
            tenant: TenantId::from_credential(tenant.get(row)?),
            call_id: CallId::from_slice(call_id.get(row)?)?,
            kind: CallKind::parse(kind.get(row)?)?,
            operation: operation.owned(row),
            start_ns: start_ns(row)?,
            duration_ns: duration_ns(row),
            dialects: dialects.owned(row)?,
            observation_ids: observation_ids(row),
            rules: rules.owned(row).unwrap_or_default(),
            confidence: Confidence::parse(confidence.get(row).unwrap_or_default()),
            hops: hops(row)?,
            status: Status::parse(status.get(row)?),
            error_type: error_type.owned(row),
            allocated_by: allocated_by.owned(row),
            trace_id: trace_id.get(row).and_then(TraceId::from_slice),
            span_id: span_id.get(row).and_then(SpanId::from_slice),
            parent_span_id: parent_span_id.get(row).and_then(SpanId::from_slice),
            reported_cost: reported_cost(row),
            own_cost: own_cost(row),
            total_cost: total_cost(row),
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
