//! FastMCP and the MCP Python SDK beneath it: native MCP spans of the conventions, with the server's name in
//! FastMCP's own key. FastMCP's CLIENT span wraps the SDK's; its `delegate` spans are hops inside a gateway.

use spanledger_model::{Observation, Role};

use super::gen_ai;
use super::record::{LogRecordView, SpanView};
use super::{Dialect, fields::Field};

/// FastMCP.
pub const FASTMCP: Dialect = Dialect {
    name: "fastmcp",
    scopes: &["fastmcp"],
    services: &[],
    input_is_exclusive: false,
    keys: &[],
    span: read_fastmcp_span,
    log: no_log,
    point: gen_ai::no_point,
};

/// The MCP Python SDK.
pub const MCP_SDK: Dialect = Dialect {
    name: "mcp_python_sdk",
    scopes: &["mcp-python-sdk"],
    services: &[],
    input_is_exclusive: false,
    keys: &[],
    span: gen_ai::read_span,
    log: no_log,
    point: gen_ai::no_point,
};

fn read_fastmcp_span(view: &SpanView<'_>) -> Option<Observation> {
    let mut observation = gen_ai::read_span(view)?;
    if let Some(original) = view.span.name.strip_prefix("delegate ") {
        // A hop inside the gateway: evidence of the call, never one of its own.
        observation.role = Role::Detail;
        observation.mcp.tool = observation.mcp.tool.or_else(|| Some(original.trim().to_owned()));
    }
    let component = crate::value::attribute_str(&view.span.attributes, "fastmcp.component.key");
    if let Some(uri) = component.and_then(|key| key.strip_prefix("resource:")) {
        let uri = uri.trim_end_matches('@');
        if observation.mcp.resource_uri.is_none() && !view.fields.has(Field::ResourceUri) {
            observation.mcp.resource_uri = Some(uri.to_owned()).filter(|uri| !uri.is_empty());
        }
    }
    Some(observation)
}

fn no_log(_view: &LogRecordView<'_>) -> Option<Observation> {
    None
}
