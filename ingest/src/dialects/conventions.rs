//! The OpenTelemetry GenAI and MCP semantic conventions, three generations at once
//! (`gen_ai.system` + `prompt_tokens`; v1.37 to v1.41; the current repository), and OpenInference's frames.
//!
//! How a record is read that no rule of its dialect is about. The keys stand in `gen_ai.toml`.

use spanledger_model::call::CallKind;
use spanledger_model::{Observation, Role};

use super::fields::Field;
use super::names;
use super::record::{LogRecordView, SpanView};
use super::rules::{SPAN_KIND_SERVER, usual_role};

/// What the conventions say a span is; other dialects fall back on it.
#[must_use]
pub fn read_span(view: &SpanView<'_>) -> Option<Observation> {
    if view.fields.is_empty() || is_phantom(view) {
        return None;
    }
    if let Some(observation) = read_mcp(view) {
        return Some(observation);
    }
    if crate::value::attribute_str(&view.span.attributes, "openinference.span.kind").is_some() {
        return read_framed_span(view);
    }
    let operation = view.operation();
    let model_is_a_tool = view
        .fields
        .str(Field::RequestModel)
        .is_some_and(|model| model.starts_with("MCP: "));
    let kind = match operation.as_str() {
        _ if model_is_a_tool => CallKind::Tool,
        "chat" | "generate_content" | "text_completion" | "completion" | "acompletion" | "llm_call" | "messages"
        | "responses" => CallKind::Llm,
        "embeddings" | "embedding" | "rerank" | "moderation" => CallKind::Embedding,
        "execute_tool" | "call_mcp_tool" | "tool_call" => CallKind::Tool,
        "invoke_agent" | "create_agent" | "invoke_workflow" | "agent_step" => CallKind::Agent,
        // The first generation had no operation name: a model and its usage are the call.
        "" if view.fields.has(Field::RequestModel) && view.fields.has_usage() => CallKind::Llm,
        _ => return None,
    };
    let mut observation = view.observation(kind, usual_role(kind));
    match kind {
        CallKind::Tool => complete_tool(view, &mut observation),
        CallKind::Agent if observation.dimensions.agent.is_none() => {
            observation.dimensions.agent = agent_name(&view.span.name);
        }
        _ => {}
    }
    Some(observation)
}

/// One MCP request, seen by client, gateway or server.
#[must_use]
pub fn read_mcp(view: &SpanView<'_>) -> Option<Observation> {
    let named = names::mcp_span_name(&view.span.name);
    let method = view.fields.str(Field::McpMethod).or_else(|| {
        // The span name alone counts only where the record carries another MCP field.
        let is_mcp = view.fields.has(Field::RequestId) || view.fields.has(Field::ProtocolVersion);
        named.filter(|_| is_mcp).map(|name| name.method)
    })?;
    let kind = kind_of_method(method);
    let mut observation = view.observation(kind, Role::Leaf);
    observation.mcp.mcp_method = Some(method.to_owned());
    let target = named.and_then(|name| name.target).map(str::to_owned);
    match kind {
        CallKind::Tool => complete_tool(view, &mut observation),
        CallKind::Prompt if observation.mcp.prompt.is_none() => observation.mcp.prompt = target,
        CallKind::Resource if observation.mcp.resource_uri.is_none() => observation.mcp.resource_uri = target,
        _ => {}
    }
    // No convention names the server; on the server's own side its service name does.
    if observation.mcp.server.is_none() && view.span.kind == SPAN_KIND_SERVER {
        observation.mcp.server.clone_from(&observation.dimensions.service);
    }
    Some(observation)
}

fn kind_of_method(method: &str) -> CallKind {
    match method {
        "tools/call" => CallKind::Tool,
        "prompts/get" => CallKind::Prompt,
        "resources/read" => CallKind::Resource,
        _ => CallKind::Mcp,
    }
}

fn complete_tool(view: &SpanView<'_>, observation: &mut Observation) {
    if observation.mcp.tool.is_none() {
        let from_name = names::mcp_span_name(&view.span.name)
            .and_then(|name| name.target)
            .or_else(|| names::executed_tool(&view.span.name))
            .or_else(|| {
                view.fields
                    .str(Field::RequestModel)
                    .and_then(|model| model.strip_prefix("MCP: "))
            });
        observation.mcp.tool = from_name.map(str::to_owned);
    }
    observation.model = Default::default();
}

fn agent_name(span_name: &str) -> Option<String> {
    let name = span_name
        .strip_prefix("invoke_agent ")
        .or_else(|| span_name.strip_prefix("create_agent "))
        .or_else(|| span_name.strip_prefix("invoke_workflow "))?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Spans that repeat others or cost nothing, under the keys of real ones.
fn is_phantom(view: &SpanView<'_>) -> bool {
    let name = view.span.name.as_str();
    name.contains("(merged")
        || name.contains("ResponseStreamWriter")
        || matches!(view.operation().as_str(), "count_tokens" | "fetch_response")
}

/// The one event of the conventions that describes a call.
#[must_use]
pub fn read_log(view: &LogRecordView<'_>) -> Option<Observation> {
    let is_details = view.event_name == Some("gen_ai.client.inference.operation.details");
    // Some name no model, but the span of the call (Google ADK).
    let is_of_a_call = || view.fields.has(Field::RequestModel) || !view.record.span_id.is_empty();
    (is_details && is_of_a_call()).then(|| view.observation(CallKind::Llm, Role::Leaf))
}

/// What a span with `openinference.span.kind` is, whatever its scope: applications set it by hand too.
fn read_framed_span(view: &SpanView<'_>) -> Option<Observation> {
    let frame = view.fields.str(Field::Frame)?;
    let kind = match frame.to_ascii_uppercase().as_str() {
        "LLM" => CallKind::Llm,
        "EMBEDDING" | "RERANKER" => CallKind::Embedding,
        "TOOL" => CallKind::Tool,
        "AGENT" => CallKind::Agent,
        _ => return None,
    };
    let mut observation = view.observation(kind, usual_role(kind));
    match kind {
        CallKind::Tool if observation.mcp.tool.is_none() => observation.mcp.tool = Some(view.span.name.clone()),
        CallKind::Agent if observation.dimensions.agent.is_none() => {
            observation.dimensions.agent = Some(view.span.name.clone());
        }
        _ => {}
    }
    if kind.uses_a_model() && observation.model.request_model.is_none() {
        // Failed calls carry no llm.model_name; the request's parameters still name the model.
        observation.model.request_model =
            crate::value::attribute_str(&view.span.attributes, "llm.invocation_parameters")
                .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok())
                .and_then(|parameters| parameters.get("model")?.as_str().map(str::to_owned));
    }
    Some(observation)
}
