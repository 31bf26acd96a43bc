//! Columns that several tables have, in groups that stand together: written and read here, once.

use spanledger_model::Usage;
use spanledger_model::call::{Dimensions, McpFields, ModelFields, Sizes};

use super::codec::{Decoder, Encoder};

/// What a call is counted under.
pub(super) fn write_dimensions<'r>(encoder: &mut Encoder, rows: impl Iterator<Item = &'r Dimensions> + Clone) {
    encoder.text("service", rows.clone().map(|of| of.service.as_deref()));
    encoder.text("environment", rows.clone().map(|of| of.environment.as_deref()));
    encoder.text("team", rows.clone().map(|of| of.team.as_deref()));
    encoder.text("project", rows.clone().map(|of| of.project.as_deref()));
    encoder.text("cost_center", rows.clone().map(|of| of.cost_center.as_deref()));
    encoder.text("user_id", rows.clone().map(|of| of.user_id.as_deref()));
    encoder.text("agent", rows.clone().map(|of| of.agent.as_deref()));
    encoder.text("client", rows.clone().map(|of| of.client.as_deref()));
    encoder.text("session_id", rows.clone().map(|of| of.session_id.as_deref()));
    encoder.text("api_key", rows.clone().map(|of| of.api_key.as_deref()));
}

/// Dimensions by row.
pub(super) fn read_dimensions<'b>(columns: &Decoder<'b>) -> impl Fn(usize) -> Dimensions + use<'b> {
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
    move |row| Dimensions {
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
    }
}

/// What a call is in MCP.
pub(super) fn write_mcp<'r>(encoder: &mut Encoder, rows: impl Iterator<Item = &'r McpFields> + Clone) {
    encoder.text("server", rows.clone().map(|of| of.server.as_deref()));
    encoder.text("tool", rows.clone().map(|of| of.tool.as_deref()));
    encoder.text("prompt", rows.clone().map(|of| of.prompt.as_deref()));
    encoder.text("prompt_version", rows.clone().map(|of| of.prompt_version.as_deref()));
    encoder.text("resource_uri", rows.clone().map(|of| of.resource_uri.as_deref()));
    encoder.text("mcp_method", rows.clone().map(|of| of.mcp_method.as_deref()));
    encoder.text(
        "mcp_protocol_version",
        rows.clone().map(|of| of.mcp_protocol_version.as_deref()),
    );
    encoder.text("transport", rows.clone().map(|of| of.transport.as_deref()));
    encoder.text("request_id", rows.clone().map(|of| of.request_id.as_deref()));
}

/// McpFields by row.
pub(super) fn read_mcp<'b>(columns: &Decoder<'b>) -> impl Fn(usize) -> McpFields + use<'b> {
    let server = columns.text("server");
    let tool = columns.text("tool");
    let prompt = columns.text("prompt");
    let prompt_version = columns.text("prompt_version");
    let resource_uri = columns.text("resource_uri");
    let mcp_method = columns.text("mcp_method");
    let mcp_protocol_version = columns.text("mcp_protocol_version");
    let transport = columns.text("transport");
    let request_id = columns.text("request_id");
    move |row| McpFields {
        server: server.owned(row),
        tool: tool.owned(row),
        prompt: prompt.owned(row),
        prompt_version: prompt_version.owned(row),
        resource_uri: resource_uri.owned(row),
        mcp_method: mcp_method.owned(row),
        mcp_protocol_version: mcp_protocol_version.owned(row),
        transport: transport.owned(row),
        request_id: request_id.owned(row),
    }
}

/// Which model answered, and how.
pub(super) fn write_model<'r>(encoder: &mut Encoder, rows: impl Iterator<Item = &'r ModelFields> + Clone) {
    encoder.text("provider", rows.clone().map(|of| of.provider.as_deref()));
    encoder.text("request_model", rows.clone().map(|of| of.request_model.as_deref()));
    encoder.text("response_model", rows.clone().map(|of| of.response_model.as_deref()));
    encoder.text("response_id", rows.clone().map(|of| of.response_id.as_deref()));
    encoder.text("service_tier", rows.clone().map(|of| of.service_tier.as_deref()));
    encoder.text("processing", rows.clone().map(|of| of.processing.as_deref()));
}

/// ModelFields by row.
pub(super) fn read_model<'b>(columns: &Decoder<'b>) -> impl Fn(usize) -> ModelFields + use<'b> {
    let provider = columns.text("provider");
    let request_model = columns.text("request_model");
    let response_model = columns.text("response_model");
    let response_id = columns.text("response_id");
    let service_tier = columns.text("service_tier");
    let processing = columns.text("processing");
    move |row| ModelFields {
        provider: provider.owned(row),
        request_model: request_model.owned(row),
        response_model: response_model.owned(row),
        response_id: response_id.owned(row),
        service_tier: service_tier.owned(row),
        processing: processing.owned(row),
    }
}

/// What was used, in tokens and searches.
pub(super) fn write_usage<'r>(encoder: &mut Encoder, rows: impl Iterator<Item = &'r Usage> + Clone) {
    encoder.int("input_tokens", rows.clone().map(|of| of.input));
    encoder.int("cache_read_tokens", rows.clone().map(|of| of.cache_read));
    encoder.int("cache_write_5m_tokens", rows.clone().map(|of| of.cache_write_5m));
    encoder.int("cache_write_1h_tokens", rows.clone().map(|of| of.cache_write_1h));
    encoder.int("output_tokens", rows.clone().map(|of| of.output));
    encoder.int("reasoning_tokens", rows.clone().map(|of| of.reasoning));
    encoder.int("audio_input_tokens", rows.clone().map(|of| of.audio_input));
    encoder.int("audio_output_tokens", rows.clone().map(|of| of.audio_output));
    encoder.int("image_input_tokens", rows.clone().map(|of| of.image_input));
    encoder.int("web_searches", rows.clone().map(|of| of.web_searches));
}

/// Usage by row.
pub(super) fn read_usage<'b>(columns: &Decoder<'b>) -> impl Fn(usize) -> Usage + use<'b> {
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
    move |row| Usage {
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
    }
}

/// Sizes, in bytes.
pub(super) fn write_sizes<'r>(encoder: &mut Encoder, rows: impl Iterator<Item = &'r Sizes> + Clone) {
    encoder.int("request_bytes", rows.clone().map(|of| of.request_bytes));
    encoder.int("response_bytes", rows.clone().map(|of| of.response_bytes));
    encoder.int("definition_bytes", rows.clone().map(|of| of.definition_bytes));
}

/// Sizes by row.
pub(super) fn read_sizes<'b>(columns: &Decoder<'b>) -> impl Fn(usize) -> Sizes + use<'b> {
    let request_bytes = columns.int("request_bytes");
    let response_bytes = columns.int("response_bytes");
    let definition_bytes = columns.int("definition_bytes");
    move |row| Sizes {
        request_bytes: request_bytes(row),
        response_bytes: response_bytes(row),
        definition_bytes: definition_bytes(row),
    }
}
