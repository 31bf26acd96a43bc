//! The MCP fields of a call: whose names are believed, and where they come from when no record has them.
//!
//! The innermost server knows its tools best; hosts prefix names, hash them, or keep them to themselves. A call
//! that is one of MCP always gets a server's name, guessed where need be, so that it is not taken for one of a
//! host's own tools.

use spanledger_model::call::McpFields;
use spanledger_model::names::without_server;
use spanledger_model::{CallKind, Observation};

use super::context::Context;
use super::inherit::Inheritance;
use super::mcp_calls::is_server_side;
use super::names::{is_hashed, names_agree};
use super::rules::Rule;

/// Server of an MCP call that no record names.
const UNKNOWN_SERVER: &str = "unknown";

/// MCP fields: names from the innermost server, which is where the tool is, in clear where any record has
/// them so; the rest from whoever has it; and the rule by which names were found elsewhere.
pub(crate) fn mcp(
    kind: CallKind,
    records: &[&Observation],
    inheritance: &Inheritance<'_>,
    context: &Context,
) -> (McpFields, Option<Rule>) {
    if !kind.is_mcp() {
        let with_prompt = records.iter().find(|record| record.mcp.prompt.is_some());
        let fields = with_prompt.map_or_else(McpFields::default, |record| McpFields {
            prompt: record.mcp.prompt.clone(),
            prompt_version: record.mcp.prompt_version.clone(),
            ..McpFields::default()
        });
        return (fields, None);
    }
    // A gateway that names itself knows less than whoever names a server.
    let names_itself = |record: &Observation| record.mcp.server == record.dimensions.service;
    let innermost = records
        .iter()
        .filter(|record| is_server_side(record) && record.mcp.server.is_some())
        .min_by_key(|record| (names_itself(record), record.duration_ns, record.observation_id));
    let innermost = innermost.filter(|record| {
        !names_itself(record)
            || !records
                .iter()
                .any(|other| other.mcp.server.is_some() && !names_itself(other))
    });
    let mut by_trust: Vec<&Observation> = innermost.into_iter().copied().collect();
    by_trust.extend(records.iter().copied());
    let first = |get: fn(&McpFields) -> &Option<String>| by_trust.iter().find_map(|record| get(&record.mcp).clone());
    let names = |get: fn(&McpFields) -> &Option<String>| -> Vec<&str> {
        by_trust
            .iter()
            .filter_map(|record| get(&record.mcp).as_deref())
            .collect()
    };
    let mut fields = McpFields {
        server: clearest(&names(|mcp| &mcp.server)).map(str::to_owned),
        tool: bare_tool(innermost.is_some(), &names(|mcp| &mcp.tool)).map(str::to_owned),
        prompt: first(|mcp| &mcp.prompt),
        prompt_version: first(|mcp| &mcp.prompt_version),
        // The address as the caller knows it; a gateway's inner one differs.
        resource_uri: records.iter().find_map(|record| record.mcp.resource_uri.clone()),
        mcp_method: first(|mcp| &mcp.mcp_method),
        mcp_protocol_version: first(|mcp| &mcp.mcp_protocol_version),
        transport: first(|mcp| &mcp.transport),
        request_id: records.iter().find_map(|record| record.mcp.request_id.clone()),
    };
    let named_by = find_names(kind, &mut fields, records, inheritance, context);
    (fields, named_by)
}

/// Names that no record of the call has in clear: from the directory; for a call that is one of MCP, the server
/// is guessed where need be, so that it is not taken for a host's own tool.
fn find_names(
    kind: CallKind,
    fields: &mut McpFields,
    records: &[&Observation],
    inheritance: &Inheritance<'_>,
    context: &Context,
) -> Option<Rule> {
    let outer = records.first()?;
    let (tenant, start_ns) = (outer.tenant.as_str(), outer.start_ns);
    if kind == CallKind::Tool
        && let Some((server, tool)) = context.names.resolve(tenant, start_ns, fields)
    {
        (fields.server, fields.tool) = (Some(server.to_owned()), Some(tool.to_owned()));
        return Some(Rule::NameDirectory);
    }
    if let (Some(server), Some(tool)) = (&fields.server, &fields.tool)
        && let Some(bare) = without_server(tool, server, true)
    {
        fields.tool = Some(bare.to_owned());
    }
    if fields.server.is_some() || fields.mcp_method.is_none() {
        return None;
    }
    let by_tool = fields
        .tool
        .as_deref()
        .and_then(|tool| context.names.server_of(tenant, start_ns, tool));
    if let Some(server) = by_tool {
        fields.server = Some(server.to_owned());
        return Some(Rule::NameDirectory);
    }
    let of_trace = || records.iter().find_map(|record| inheritance.server(record.trace_id?));
    let of_process = || {
        let other = records
            .iter()
            .find(|record| is_server_side(record) && record.dimensions.service != outer.dimensions.service);
        other.and_then(|record| record.dimensions.service.as_deref())
    };
    let guessed = of_trace().or_else(of_process).unwrap_or(UNKNOWN_SERVER);
    fields.server = Some(guessed.to_owned());
    Some(Rule::NameGuess)
}

/// The first name in clear, else the first.
fn clearest<'n>(names: &[&'n str]) -> Option<&'n str> {
    names
        .iter()
        .find(|name| !is_hashed(name))
        .or_else(|| names.first())
        .copied()
}

/// The tool's name: the innermost server's; else the shortest spelling in clear, which has the fewest prefixes.
fn bare_tool<'n>(is_servers: bool, names: &[&'n str]) -> Option<&'n str> {
    let first = clearest(names)?;
    if is_servers {
        return Some(first);
    }
    let same = names
        .iter()
        .filter(|name| !is_hashed(name) && names_agree(Some(name), Some(first)));
    same.min_by_key(|name| name.len()).copied().or(Some(first))
}
