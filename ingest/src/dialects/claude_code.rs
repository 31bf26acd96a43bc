//! Claude Code: the same usage three times, as metric, log event and (in its beta) span. Its input count
//! excludes the cache; its log events carry the cost and the identity; MCP names hide in a JSON string.

use spanledger_model::call::CallKind;
use spanledger_model::{Observation, Role, Usage};

use super::fields::{Field, Mapping};
use super::record::{LogRecordView, PointView, SpanView};
use super::{Dialect, names};
use crate::value;

/// The dialect.
pub const DIALECT: Dialect = Dialect {
    name: "claude_code",
    scopes: &["com.anthropic.claude_code*"],
    services: &["claude-code"],
    input_is_exclusive: true,
    keys: KEYS,
    span: read_span,
    log: read_log,
    point: read_point,
};

const KEYS: Mapping = &[
    (Field::Conversation, &["session.id"]),
    (Field::Turn, &["prompt.id"]),
    (Field::RequestModel, &["model", "gen_ai.request.model"]),
    (Field::ResponseId, &["request_id", "gen_ai.response.id"]),
    (Field::Input, &["input_tokens"]),
    (Field::CacheRead, &["cache_read_tokens"]),
    (Field::CacheWrite, &["cache_creation_tokens"]),
    (Field::Output, &["output_tokens"]),
    (Field::Cost, &["cost_usd"]),
    (Field::Tool, &["tool_name"]),
    (Field::DurationMs, &["duration_ms"]),
    (Field::HttpStatus, &["status_code"]),
    (Field::Arguments, &["tool_input"]),
];

fn read_span(view: &SpanView<'_>) -> Option<Observation> {
    let kind = value::attribute_str(&view.span.attributes, "span.type")
        .or_else(|| view.span.name.strip_prefix("claude_code."))?;
    let mut observation = match kind {
        "llm_request" => model_call(view.observation(CallKind::Llm, Role::Leaf)),
        "interaction" => view.observation(CallKind::Agent, Role::Leaf),
        "tool" => view.observation(CallKind::Tool, Role::Leaf),
        // The execution carries the outcome that the tool span itself does not.
        "tool.execution" => view.observation(CallKind::Tool, Role::Detail),
        _ => return None,
    };
    finish(&mut observation);
    Some(observation)
}

fn read_log(view: &LogRecordView<'_>) -> Option<Observation> {
    let event = view.event_name?;
    let mut observation = match event.strip_prefix("claude_code.").unwrap_or(event) {
        "api_request" => model_call(view.observation(CallKind::Llm, Role::Leaf)),
        "api_error" => {
            let mut failed = model_call(view.observation(CallKind::Llm, Role::Leaf));
            failed.status = spanledger_model::Status::Error;
            failed.error_type = failed.error_type.or_else(|| Some("api_error".to_owned()));
            failed
        }
        "tool_result" => view.observation(CallKind::Tool, Role::Leaf),
        "tool_decision" => {
            let mut decision = view.observation(CallKind::Tool, Role::Detail);
            // Its size is that of the decision, not of the call.
            decision.sizes = Default::default();
            decision
        }
        _ => return None,
    };
    if observation.kind == CallKind::Tool {
        let parameters = value::attribute_str(&view.record.attributes, "tool_parameters");
        apply_tool_parameters(&mut observation, parameters);
    }
    finish(&mut observation);
    Some(observation)
}

/// Claude Code's name is also that of the agent and of the MCP client, unless a record says otherwise.
fn finish(observation: &mut Observation) {
    let service = observation
        .dimensions
        .service
        .clone()
        .unwrap_or_else(|| "claude-code".to_owned());
    observation.dimensions.agent.get_or_insert_with(|| service.clone());
    observation.dimensions.client.get_or_insert(service);
    if observation.kind == CallKind::Tool {
        observation.model = Default::default();
        if observation.mcp.server.is_some() {
            observation.mcp.mcp_method = Some("tools/call".to_owned());
        }
    }
}

fn model_call(mut observation: Observation) -> Observation {
    observation.model.provider.get_or_insert_with(|| "anthropic".to_owned());
    observation.operation.get_or_insert_with(|| "chat".to_owned());
    // `mcp_server.name` on a model call names the tool whose result caused it, not the call itself.
    observation.mcp = Default::default();
    observation
}

/// `tool_name` is `mcp_tool` for every MCP tool; the names are in a JSON string.
fn apply_tool_parameters(observation: &mut Observation, parameters: Option<&str>) {
    let parsed = parameters.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    let text = |key: &str| parsed.as_ref()?.get(key)?.as_str().map(str::to_owned);
    if observation.mcp.tool.as_deref() == Some("mcp_tool") {
        observation.mcp.tool = text("mcp_tool_name").or_else(|| observation.mcp.tool.take());
    }
    if let Some(server) = text("mcp_server_name") {
        observation.mcp.server = Some(server);
    } else if let Some((server, tool)) = observation.mcp.tool.as_deref().and_then(names::split_mcp_tool) {
        let (server, tool) = (server.to_owned(), tool.to_owned());
        observation.mcp.server = Some(server);
        observation.mcp.tool = Some(tool);
    }
}

fn read_point(view: &PointView<'_>) -> Option<Observation> {
    let is_cost = match view.name {
        "claude_code.token.usage" => false,
        "claude_code.cost.usage" => true,
        _ => return None,
    };
    view.is_delta?;
    let mut observation = view.observation(CallKind::Llm);
    observation.model.provider.get_or_insert_with(|| "anthropic".to_owned());
    observation.mcp = Default::default();
    observation.usage = Usage::default();
    finish(&mut observation);
    if is_cost {
        observation.reported_cost = spanledger_model::FemtoUsd::from_f64(view.value);
        return Some(observation);
    }
    let count = (view.value.is_finite() && view.value >= 0.0).then(|| view.value.round() as i64)?;
    // Each point carries one kind of token. Cached tokens are input too: the fold sums the points of a cell.
    match value::attribute_str(view.attributes, "type")? {
        "input" => observation.usage.input = Some(count),
        "output" => observation.usage.output = Some(count),
        "cacheRead" => {
            observation.usage.cache_read = Some(count);
            observation.usage.input = Some(count);
        }
        "cacheCreation" => {
            observation.usage.cache_write_5m = Some(count);
            observation.usage.input = Some(count);
        }
        _ => return None,
    }
    Some(observation)
}
