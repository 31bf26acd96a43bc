//! MCP calls: the hops of one request, from the host's tool span over client and gateway to the server.
//!
//! Records belong together by the tool call id the model gave (host span, host log, execution), and by
//! ancestry: a hop below a hop of the same method and name is the same call, whatever prefix a gateway put
//! before the name. A tool that calls another tool is two calls.

use std::collections::HashMap;

use spanledger_model::{Observation, Role};

use super::Group;
use super::index::{Index, Sets};

/// Groups the MCP calls of a component.
pub(crate) fn group(index: &Index<'_>) -> Vec<Group> {
    let hops: Vec<usize> = index.all().filter(|hop| index.get(*hop).kind.is_mcp()).collect();
    let mut sets = Sets::new(index.len());
    join_by_tool_call_id(index, &hops, &mut sets);
    join_by_ancestry(index, &hops, &mut sets);
    sets.collect(hops.into_iter())
        .into_iter()
        .filter(|members| members.iter().any(|member| index.get(*member).role == Role::Leaf))
        .map(|members| {
            let kind = members
                .iter()
                .map(|member| index.get(*member))
                .find(|observation| observation.role == Role::Leaf)
                .map_or(spanledger_model::CallKind::Mcp, |observation| observation.kind);
            Group {
                kind,
                members,
                keeps_usage: false,
            }
        })
        .collect()
}

fn join_by_tool_call_id(index: &Index<'_>, hops: &[usize], sets: &mut Sets) {
    // Ids are unique within a conversation at best: mock and local models restart them.
    let mut by_id: HashMap<(&str, &str), usize> = HashMap::new();
    let mut by_trace: HashMap<(&str, spanledger_model::TraceId), usize> = HashMap::new();
    for hop in hops {
        let observation = index.get(*hop);
        let Some(id) = observation.tool_call_id.as_deref() else {
            continue;
        };
        if let Some(session) = observation.dimensions.session_id.as_deref() {
            let first = *by_id.entry((id, session)).or_insert(*hop);
            sets.join(first, *hop);
        }
        if let Some(trace) = observation.trace_id {
            let first = *by_trace.entry((id, trace)).or_insert(*hop);
            sets.join(first, *hop);
        }
    }
}

fn join_by_ancestry(index: &Index<'_>, hops: &[usize], sets: &mut Sets) {
    for hop in hops.iter().filter(|hop| index.get(**hop).span_kind.is_some()) {
        let above = index
            .ancestors(*hop)
            .find(|ancestor| index.get(*ancestor).kind.is_mcp());
        if let Some(above) = above.filter(|above| are_hops_of_one_call(index.get(*above), index.get(*hop))) {
            sets.join(above, *hop);
        }
    }
}

fn are_hops_of_one_call(outer: &Observation, inner: &Observation) -> bool {
    let method_agrees = match (&outer.mcp.mcp_method, &inner.mcp.mcp_method) {
        (Some(outer), Some(inner)) => outer == inner,
        _ => true,
    };
    let name = |observation: &Observation| match observation.kind {
        spanledger_model::CallKind::Tool => observation.mcp.tool.clone(),
        spanledger_model::CallKind::Prompt => observation.mcp.prompt.clone(),
        // A gateway rewrites the address of a resource; ancestry and method are enough.
        _ => None,
    };
    outer.kind == inner.kind && method_agrees && names_agree(name(outer).as_deref(), name(inner).as_deref())
}

/// True where two names are one tool: equal, or one is the other with a server's prefix.
#[must_use]
pub fn names_agree(a: Option<&str>, b: Option<&str>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return true };
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    match long.strip_suffix(short) {
        Some("") => true,
        Some(prefix) => prefix.ends_with(['_', '-', '.', '/', ':']),
        None => false,
    }
}
