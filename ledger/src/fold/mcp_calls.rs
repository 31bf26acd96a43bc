//! MCP calls: the hops of one request, from the host's tool span over client and gateway to the server.
//!
//! Records belong together by the tool call id the model gave (host span, host log, execution), and by
//! ancestry: a hop below a hop of the same method and name is the same call, whatever prefix a gateway put
//! before the name. A tool that calls another tool is two calls. Where no trace context joins host and server,
//! a server's root span belongs to the host's call of the same tool that contains it in time; among parallel
//! equal calls the pairing is a guess, but each is paired once, so the totals are right.

use std::collections::HashMap;

use spanledger_model::{Observation, Role};

use super::Group;
use super::index::{Index, Sets};

/// OTLP's number for a SERVER span.
const SPAN_KIND_SERVER: i32 = 2;
/// How far the clocks of a host and of an MCP server may differ, nanoseconds: machines under NTP stay within
/// tens of milliseconds; a wider window only makes wrong pairs.
pub const SKEW_NS: i64 = 100_000_000;

/// Groups the MCP calls of a component.
pub(crate) fn group(index: &Index<'_>) -> Vec<Group> {
    let hops: Vec<usize> = index.all().filter(|hop| index.get(*hop).kind.is_mcp()).collect();
    let mut sets = Sets::new(index.len());
    join_by_tool_call_id(index, &hops, &mut sets);
    join_by_ancestry(index, &hops, &mut sets);
    join_by_containment(index, &hops, &mut sets);
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

/// Pairs servers' calls whose trace no host joined with hosts' calls that no server joined.
fn join_by_containment(index: &Index<'_>, hops: &[usize], sets: &mut Sets) {
    let groups = sets.collect(hops.iter().copied());
    let has_server = |group: &Vec<usize>| {
        group
            .iter()
            .any(|hop| index.get(*hop).span_kind == Some(SPAN_KIND_SERVER))
    };
    let servers: Vec<usize> = groups
        .iter()
        .filter(|group| {
            group
                .iter()
                .all(|hop| index.get(*hop).trace_id == index.get(group[0]).trace_id)
        })
        .filter_map(|group| group.iter().copied().find(|hop| is_unjoined_server(index.get(*hop))))
        .collect();
    let hosts: Vec<usize> = groups
        .iter()
        .filter(|group| !has_server(group))
        .filter_map(|group| {
            let hosts = group.iter().copied().filter(|hop| is_host_call(index.get(*hop)));
            hosts.max_by_key(|hop| (index.get(*hop).span_kind.is_some(), index.get(*hop).duration_ns))
        })
        .collect();
    let mut pairs = Vec::new();
    for server in &servers {
        for host in &hosts {
            let (outer, inner) = (index.get(*host), index.get(*server));
            if may_be_one_call(outer, inner) {
                let is_other_server = !names_agree(outer.mcp.server.as_deref(), inner.mcp.server.as_deref());
                // Both ends count: among parallel calls of one tool the next start may be another call's.
                let distance_ns = inner.start_ns.abs_diff(outer.start_ns) + inner.end_ns().abs_diff(outer.end_ns());
                pairs.push((is_other_server, distance_ns, *server, *host));
            }
        }
    }
    pairs.sort_unstable();
    let mut taken = std::collections::HashSet::new();
    for (_, _, server, host) in pairs {
        if !taken.contains(&server) && !taken.contains(&host) {
            taken.extend([server, host]);
            sets.join(server, host);
        }
    }
}

/// A server's span of a tool call that nothing in its own trace called.
#[must_use]
pub fn is_unjoined_server(observation: &Observation) -> bool {
    observation.kind == spanledger_model::CallKind::Tool
        && observation.span_kind == Some(SPAN_KIND_SERVER)
        && observation.parent_span_id.is_none()
        && observation.mcp.tool.is_some()
}

/// A host's or client's record of a tool call that took time.
#[must_use]
pub fn is_host_call(observation: &Observation) -> bool {
    observation.kind == spanledger_model::CallKind::Tool
        && observation.span_kind != Some(SPAN_KIND_SERVER)
        && observation.role == Role::Leaf
        && observation.duration_ns.is_some()
        && observation.mcp.tool.is_some()
}

/// True where a server's call may be what a host's call waited for: same tool, and inside it in time.
#[must_use]
pub fn may_be_one_call(host: &Observation, server: &Observation) -> bool {
    let times = |observation: &Observation| (observation.start_ns, observation.end_ns());
    names_agree(host.mcp.tool.as_deref(), server.mcp.tool.as_deref()) && is_within(times(host), times(server))
}

/// True where a server's time lies within a host's, each as start and end in nanoseconds, but for the clocks.
#[must_use]
pub fn is_within(host: (i64, i64), server: (i64, i64)) -> bool {
    host.0.saturating_sub(SKEW_NS) <= server.0 && server.1 <= host.1.saturating_add(SKEW_NS)
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
