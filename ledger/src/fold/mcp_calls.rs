//! MCP calls: the hops of one request, from the host's tool span over client and gateway to the server.
//!
//! Records belong together by the *tool call id* the model gave; by *ancestry*: a hop below a hop of the same
//! method and name is the same call, whatever prefix a gateway put before the name; a *log record* with the
//! span of the same tool that ended nearest. A tool that calls another tool is two calls. Where no trace
//! context joins caller and server, a server's call belongs to the caller's of the same tool that contains it
//! in time: same arguments first, then same server, same size of the result, nearest times; each is paired
//! once, so the totals are right even where parallel equal calls are swapped.

use std::collections::{BTreeMap, HashMap, HashSet};

use spanledger_model::{CallKind, Hop, Observation, ObservationId, Role, Source, Status, TraceId};

use super::Group;
use super::index::{CLOCK_SLACK_NS, Index, SPAN_KIND_SERVER};
use super::inherit::Inheritance;
use super::joins::Joins;
use super::names::{names_agree, tail_keys};
use super::rules::Rule;

/// How far the clocks of a host and of an MCP server may differ, nanoseconds: machines under NTP stay within
/// tens of milliseconds; a wider window only makes wrong pairs.
pub const SKEW_NS: i64 = 100_000_000;
/// OTLP's number for a CLIENT span.
const SPAN_KIND_CLIENT: i32 = 3;
/// Callers that a server's call is compared with, the latest first.
const CALLERS_MAX: usize = 128;
/// Hops of a call among which the last one is looked for; longer chains are hostile.
const HOPS_MAX: usize = 256;
/// Records of a session or trace that a log record is compared with, the next to end first.
const NEIGHBOURS_MAX: usize = 32;

/// Groups the MCP calls of a component.
pub(crate) fn group(index: &Index<'_>, inheritance: &Inheritance<'_>) -> Vec<Group> {
    let (hops, mut joins) = join_within_traces(index, inheritance);
    join_by_containment(index, &hops, &mut joins);
    joins
        .parts(hops.into_iter())
        .into_iter()
        .filter_map(|(members, edges)| {
            let leaf = members.iter().find(|member| index.get(**member).role == Role::Leaf)?;
            let mut group = Group::new(index.get(*leaf).kind, members, edges);
            group.keeps_usage = false;
            Some(group)
        })
        .collect()
}

/// Joins what ids, ancestry and sessions tell: all but what is only found by name and time in another trace.
fn join_within_traces(index: &Index<'_>, inheritance: &Inheritance<'_>) -> (Vec<usize>, Joins) {
    let hops: Vec<usize> = index.all().filter(|hop| is_hop(index.get(*hop))).collect();
    let mut joins = Joins::new(index.len());
    join_by_tool_call_id(index, &hops, inheritance, &mut joins);
    join_by_ancestry(index, &hops, &mut joins);
    join_events(index, &hops, inheritance, &mut joins);
    (hops, joins)
}

/// The servers' calls among some observations whose caller is not among them.
#[must_use]
pub fn unjoined_servers(observations: &[Observation]) -> HashSet<ObservationId> {
    let index = Index::new(observations);
    let (hops, mut joins) = join_within_traces(&index, &Inheritance::new(&index));
    sets_of(&hops, &mut joins)
        .values()
        .filter_map(|members| Ends::of(&index, members).unjoined_server)
        .map(|server| index.get(server).observation_id)
        .collect()
}

fn sets_of(hops: &[usize], joins: &mut Joins) -> BTreeMap<usize, Vec<usize>> {
    let mut sets: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for hop in hops {
        sets.entry(joins.find(*hop)).or_default().push(*hop);
    }
    sets
}

fn is_hop(observation: &Observation) -> bool {
    observation.kind.is_mcp() && matches!(observation.role, Role::Leaf | Role::Detail | Role::Rollup)
}

fn join_by_tool_call_id(index: &Index<'_>, hops: &[usize], inheritance: &Inheritance<'_>, joins: &mut Joins) {
    // Ids are unique within a conversation at best: mock and local models restart them.
    let mut by_session: HashMap<(&str, &str), usize> = HashMap::new();
    let mut by_trace: HashMap<(&str, TraceId), usize> = HashMap::new();
    for hop in hops {
        let observation = index.get(*hop);
        let Some(id) = observation.tool_call_id.as_deref() else {
            continue;
        };
        let mut join = |first: usize| {
            if first != *hop && names_agree(name_of(index.get(first)), name_of(observation)) {
                joins.join(first, *hop, Rule::ToolCallId);
            }
        };
        if let Some(session) = inheritance.session(index, *hop) {
            join(*by_session.entry((id, session)).or_insert(*hop));
        }
        if let Some(trace) = observation.trace_id {
            join(*by_trace.entry((id, trace)).or_insert(*hop));
        }
    }
}

fn join_by_ancestry(index: &Index<'_>, hops: &[usize], joins: &mut Joins) {
    for hop in hops
        .iter()
        .filter(|hop| index.get(**hop).span_kind.is_some() || index.host_span(**hop).is_some())
    {
        let above = index
            .ancestors(*hop)
            .find(|ancestor| index.get(*ancestor).kind.is_mcp());
        if let Some(above) = above.filter(|above| are_hops_of_one_call(index.get(*above), index.get(*hop))) {
            let rule = if index.get(*hop).source == Source::Log {
                Rule::EventOfSpan
            } else {
                Rule::HopAncestry
            };
            joins.join(above, *hop, rule);
        }
    }
}

fn are_hops_of_one_call(outer: &Observation, inner: &Observation) -> bool {
    let method_agrees = match (&outer.mcp.mcp_method, &inner.mcp.mcp_method) {
        (Some(outer), Some(inner)) => outer == inner,
        _ => true,
    };
    // A gateway rewrites the address of a resource; ancestry and method are enough.
    outer.kind == inner.kind
        && method_agrees
        && !call_ids_differ(outer, inner)
        && (outer.kind == CallKind::Resource || names_agree(name_of(outer), name_of(inner)))
}

fn call_ids_differ(a: &Observation, b: &Observation) -> bool {
    matches!((&a.tool_call_id, &b.tool_call_id), (Some(a), Some(b)) if a != b)
}

/// What a request asks for, by name: tool, prompt, address, or else its method.
#[must_use]
pub fn name_of(observation: &Observation) -> Option<&str> {
    match observation.kind {
        CallKind::Tool => observation.mcp.tool.as_deref(),
        CallKind::Prompt => observation.mcp.prompt.as_deref(),
        CallKind::Resource => observation.mcp.resource_uri.as_deref(),
        CallKind::Mcp => observation.mcp.mcp_method.as_deref(),
        _ => None,
    }
}

/// Pairs log records that no id joins with the record of the same tool in their session or trace that ended
/// nearest; each record of a call tells it once.
fn join_events(index: &Index<'_>, hops: &[usize], inheritance: &Inheritance<'_>, joins: &mut Joins) {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Bond<'o> {
        Trace(TraceId),
        Session(&'o str),
    }
    let mut buckets: BTreeMap<(Bond<'_>, CallKind), Vec<usize>> = BTreeMap::new();
    for hop in hops {
        let observation = index.get(*hop);
        if name_of(observation).is_none() {
            continue;
        }
        if let Some(trace_id) = observation.trace_id {
            buckets
                .entry((Bond::Trace(trace_id), observation.kind))
                .or_default()
                .push(*hop);
        }
        if let Some(session) = inheritance.session(index, *hop) {
            buckets
                .entry((Bond::Session(session), observation.kind))
                .or_default()
                .push(*hop);
        }
    }
    let mut pairs = Vec::new();
    for members in buckets.values_mut() {
        if members.iter().all(|member| index.get(*member).source != Source::Log) {
            continue;
        }
        members.sort_by_key(|member| (index.get(*member).end_ns(), *member));
        for (position, a) in members.iter().enumerate() {
            for b in members[position + 1..].iter().take(NEIGHBOURS_MAX) {
                let (first, second) = (index.get(*a), index.get(*b));
                let apart_ns = first.end_ns().abs_diff(second.end_ns());
                if apart_ns > CLOCK_SLACK_NS as u64 {
                    break;
                }
                let has_an_event = first.source == Source::Log || second.source == Source::Log;
                let agree = !call_ids_differ(first, second) && names_agree(name_of(first), name_of(second));
                if has_an_event && agree {
                    pairs.push((hashes_of(first, second), apart_ns, (*a).min(*b), (*a).max(*b)));
                }
            }
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    for (_, _, a, b) in pairs {
        if joins.find(a) != joins.find(b) && !says_twice(index, joins, a, b) {
            joins.join(a, b, Rule::ToolEvent);
        }
    }
}

/// True where both sets have a log record of one event, or both have spans, which their ancestry would join.
fn says_twice(index: &Index<'_>, joins: &mut Joins, a: usize, b: usize) -> bool {
    let slot = |position: usize| {
        let observation = index.get(position);
        (observation.source == Source::Log).then_some((observation.scope.as_deref(), observation.name.as_str()))
    };
    if joins.members_of(a).len().max(joins.members_of(b).len()) > HOPS_MAX {
        return true;
    }
    let first: Vec<_> = joins.members_of(a).iter().map(|member| slot(*member)).collect();
    joins.members_of(b).iter().any(|member| first.contains(&slot(*member)))
}

/// How the hashes of two records' arguments compare, the best first: a dialect may wrap its arguments, so
/// different ones speak against a pair but do not forbid it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hashes {
    Equal,
    Unknown,
    Different,
}

fn hashes_of(a: &Observation, b: &Observation) -> Hashes {
    match (&a.arguments_hash, &b.arguments_hash) {
        (Some(a), Some(b)) if a == b => Hashes::Equal,
        (Some(_), Some(_)) => Hashes::Different,
        _ => Hashes::Unknown,
    }
}

/// Pairs servers' calls that nothing in their own trace called with calls that no server answered in theirs.
fn join_by_containment(index: &Index<'_>, hops: &[usize], joins: &mut Joins) {
    let sets = sets_of(hops, joins);
    let mut callers: HashMap<[u8; 16], Vec<usize>> = HashMap::new();
    let mut servers = Vec::new();
    for members in sets.values() {
        let ends = Ends::of(index, members);
        if let Some(server) = ends.unjoined_server {
            servers.push(server);
        }
        if let Some(caller) = ends.unanswered_caller {
            let observation = index.get(caller);
            for key in tail_keys(observation.kind, name_of(observation), false) {
                callers.entry(key).or_default().push(caller);
            }
        }
    }
    for callers in callers.values_mut() {
        callers.sort_unstable_by_key(|caller| (index.get(*caller).start_ns, *caller));
    }
    let mut pairs = Vec::new();
    for server in servers {
        let inner = index.get(server);
        for key in tail_keys(inner.kind, name_of(inner), true) {
            let Some(callers) = callers.get(&key) else { continue };
            let until = |time_ns: i64| callers.partition_point(|caller| index.get(*caller).start_ns <= time_ns);
            let started = until(inner.start_ns.saturating_add(SKEW_NS));
            let told = until(inner.end_ns().saturating_add(CLOCK_SLACK_NS)).max(started);
            // Those that began before the server's call, and events that were written soon after it.
            let near = callers[..started].iter().rev().take(CALLERS_MAX);
            for caller in near.chain(callers[started..told].iter().take(CALLERS_MAX)) {
                let outer = index.get(*caller);
                if may_be_one_call(outer, inner) && joins.find(*caller) != joins.find(server) {
                    pairs.push((likeness(outer, inner), server, *caller));
                }
            }
        }
    }
    pairs.sort_unstable();
    let mut taken = HashSet::new();
    for ((hashes, ..), server, caller) in pairs {
        if !taken.contains(&(server, true)) && !taken.contains(&(caller, false)) {
            taken.extend([(server, true), (caller, false)]);
            let rule = match hashes {
                Hashes::Equal => Rule::ArgumentsHash,
                Hashes::Unknown | Hashes::Different => Rule::TimeContainment,
            };
            joins.join(caller, server, rule);
        }
    }
}

/// Arguments, then what is not known or differs: name, server, size of the result, outcome; then the distance.
type Likeness = (Hashes, bool, bool, bool, bool, u64);

/// How well a server's call fits a caller's, the best first. Both ends of the time count: among parallel
/// calls of one tool the next start may be another call's. An event has only its end.
fn likeness(outer: &Observation, inner: &Observation) -> Likeness {
    let is_other_server = !names_agree(outer.mcp.server.as_deref(), inner.mcp.server.as_deref());
    let sizes_differ = matches!(
        (outer.sizes.response_bytes, inner.sizes.response_bytes),
        (Some(outer), Some(inner)) if outer != inner
    );
    let at_start_ns = if outer.duration_ns.is_some() {
        inner.start_ns.abs_diff(outer.start_ns)
    } else {
        0
    };
    let distance_ns = at_start_ns.saturating_add(inner.end_ns().abs_diff(outer.end_ns()));
    let outcomes_differ = (outer.status == Status::Error) != (inner.status == Status::Error);
    (
        hashes_of(outer, inner),
        name_of(outer).is_none(),
        is_other_server,
        sizes_differ,
        outcomes_differ && name_of(outer).is_none(),
        distance_ns,
    )
}

/// The open ends of a set of hops.
struct Ends {
    /// The outermost hop, where it is a server's: what called it is not in the set.
    unjoined_server: Option<usize>,
    /// The innermost caller, where no server's hop follows it.
    unanswered_caller: Option<usize>,
}

impl Ends {
    fn of(index: &Index<'_>, members: &[usize]) -> Self {
        let answers = |hop: usize| may_answer(index.get(hop));
        let asks = |hop: usize| index.get(hop).role == Role::Leaf && is_request(index.get(hop));
        let is_server = |hop: usize| is_server_call(index.get(hop));
        let length = |hop: usize| (index.get(hop).duration_ns, std::cmp::Reverse(hop));
        let is_below = |hop: usize, frame: usize| index.ancestors(hop).any(|above| above == frame);
        let servers = members.iter().copied().filter(|hop| is_server(*hop));
        let callers = members.iter().copied().filter(|hop| is_caller(index.get(*hop)));
        let Some(server) = servers.max_by_key(|hop| length(*hop)) else {
            let caller = callers.max_by_key(|hop| (index.get(*hop).span_kind.is_some(), length(*hop)));
            return Self {
                unjoined_server: None,
                unanswered_caller: caller,
            };
        };
        let is_called = members
            .iter()
            .any(|hop| !answers(*hop) && asks(*hop) && !is_below(*hop, server));
        // Of a gateway: its client's span, else any of its own, that no server's hop is below.
        let calls_on = |hop: usize| {
            let observation = index.get(hop);
            observation.span_kind == Some(SPAN_KIND_CLIENT) || observation.hop == Some(Hop::Gateway)
        };
        let last_client = callers
            .take_while(|_| members.len() <= HOPS_MAX)
            .filter(|hop| calls_on(*hop) && (*hop == server || is_below(*hop, server)))
            .filter(|hop| !members.iter().any(|other| answers(*other) && is_below(*other, *hop)))
            .min_by_key(|hop| length(*hop));
        Self {
            unjoined_server: (!is_called).then_some(server),
            unanswered_caller: last_client,
        }
    }
}

/// True for a record that may be of whoever was called: a server, or a gateway, which calls on.
fn may_answer(observation: &Observation) -> bool {
    is_server_side(observation) || observation.hop == Some(Hop::Gateway)
}

/// True for the record of whoever answers a request: a SERVER span, or a record that says so.
#[must_use]
pub fn is_server_side(observation: &Observation) -> bool {
    match observation.hop {
        Some(Hop::Server | Hop::Backend) => true,
        Some(Hop::Gateway) => observation.span_kind != Some(SPAN_KIND_CLIENT),
        Some(Hop::Host | Hop::Client) => false,
        None => observation.span_kind == Some(SPAN_KIND_SERVER),
    }
}

/// True for a server's record of a call by name, which may belong to a caller in another trace.
#[must_use]
pub fn is_server_call(observation: &Observation) -> bool {
    observation.kind.is_mcp()
        && may_answer(observation)
        && observation.source != Source::Metric
        && observation.role == Role::Leaf
        && name_of(observation).is_some()
}

/// A host's or client's record of a call by name: one that took time, or an event written after it.
#[must_use]
pub fn is_caller(observation: &Observation) -> bool {
    observation.kind.is_mcp()
        && (!is_server_side(observation) || observation.hop == Some(Hop::Gateway))
        && observation.role == Role::Leaf
        && (observation.duration_ns.is_some() || observation.source == Source::Log)
        && is_request(observation)
}

/// True for a record of a request by name, or of one of MCP whose name its host keeps to itself.
fn is_request(observation: &Observation) -> bool {
    name_of(observation).is_some() || observation.mcp.mcp_method.is_some()
}

/// True where a server's call may be what a caller waited for: same tool, and inside it in time.
#[must_use]
pub fn may_be_one_call(caller: &Observation, server: &Observation) -> bool {
    let times = |observation: &Observation| (observation.start_ns, observation.end_ns());
    let method_agrees = match (&caller.mcp.mcp_method, &server.mcp.mcp_method) {
        (Some(caller), Some(server)) => caller == server,
        _ => true,
    };
    caller.kind == server.kind
        && method_agrees
        && contains(times(caller), times(server))
        && names_agree(name_of(caller), name_of(server))
}

/// True where a caller's time, as start and end in nanoseconds, is that of a server's call: around it, or for
/// an event without length soon after its end.
#[must_use]
pub fn contains(caller: (i64, i64), server: (i64, i64)) -> bool {
    if caller.0 < caller.1 {
        return is_within(caller, server);
    }
    server.1 <= caller.1.saturating_add(SKEW_NS) && caller.1.saturating_sub(server.1) <= CLOCK_SLACK_NS
}

/// True where a server's time lies within a host's, each as start and end in nanoseconds, but for the clocks.
#[must_use]
pub fn is_within(host: (i64, i64), server: (i64, i64)) -> bool {
    host.0.saturating_sub(SKEW_NS) <= server.0 && server.1 <= host.1.saturating_add(SKEW_NS)
}
