//! Model calls: which records are of one call, and which only repeat others.
//!
//! Each join is under its rule ([`super::rules`]): by *response id* (with compatible model and overlapping
//! time: ids alone are reused in the wild); *event of a span*; *equal counts* of two instrumentations in one
//! trace; *session events*, paired one to one with the records of the other signals by counts and end;
//! *gateway and client*; *nested spans* and *failed attempts* below a call. A span over several reporting
//! calls only repeats them and is left out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use spanledger_model::{CallKind, Hop, Observation, Role, Source, Status};

use super::index::{CLOCK_SLACK_NS, Index, SPAN_KIND_SERVER, overlaps};
use super::inherit::Inheritance;
use super::joins::Joins;
use super::mcp_calls::{SKEW_NS, is_within};
use super::rules::Rule;
use super::{Group, Repeat};

/// Records of like counts that one record is compared with, nearest in time first.
const NEIGHBOURS_MAX: usize = 32;

/// Records of a call beyond which no more are looked for; more are hostile.
const RECORDS_MAX: usize = 64;

/// Groups the model calls of a component.
pub(crate) fn group(index: &Index<'_>, inheritance: &Inheritance<'_>) -> Vec<Group> {
    let leaves: Vec<usize> = index.all().filter(|leaf| is_leaf(index.get(*leaf))).collect();
    let mut joins = Joins::new(index.len());
    join_by_response_id(index, &leaves, &mut joins);
    join_events_to_spans(index, &leaves, &mut joins);
    join_by_equal_counts(index, &leaves, &mut joins);
    join_session_events(index, &leaves, inheritance, &mut joins);
    join_gateways(index, &leaves, &mut joins);
    let demoted = join_or_demote_parents(index, &leaves, &mut joins);
    join_stream_ends(index, &leaves, &mut joins);
    let mut groups: Vec<Group> = joins
        .parts(leaves.into_iter().filter(|leaf| !demoted.contains_key(leaf)))
        .into_iter()
        .map(|(members, edges)| {
            let is_llm = members.iter().any(|member| index.get(*member).kind == CallKind::Llm);
            let kind = if is_llm { CallKind::Llm } else { CallKind::Embedding };
            Group::new(kind, members, edges)
        })
        .collect();
    note_demoted(&mut groups, &demoted);
    groups
}

fn note_demoted(groups: &mut [Group], demoted: &BTreeMap<usize, usize>) {
    let by_child: HashMap<usize, usize> = demoted.iter().map(|(parent, child)| (*child, *parent)).collect();
    for group in groups {
        let over: Vec<usize> = group
            .members
            .iter()
            .filter_map(|member| by_child.get(member).copied())
            .collect();
        group.left_out.extend(over.into_iter().map(|position| Repeat {
            position,
            rule: Rule::RollupParent,
        }));
    }
}

/// True for a record that is a model call.
pub(crate) fn is_leaf(observation: &Observation) -> bool {
    observation.kind.uses_a_model() && observation.role == Role::Leaf
}

fn is_gateway(observation: &Observation) -> bool {
    observation.hop == Some(Hop::Gateway) || observation.span_kind == Some(SPAN_KIND_SERVER)
}

fn join_by_response_id(index: &Index<'_>, leaves: &[usize], joins: &mut Joins) {
    let mut by_id: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for leaf in leaves {
        if let Some(id) = index.get(*leaf).model.response_id.as_deref() {
            by_id.entry(id).or_default().push(*leaf);
        }
    }
    for members in by_id.values() {
        for (position, a) in members.iter().enumerate() {
            for b in members[position + 1..].iter().take(NEIGHBOURS_MAX) {
                let (first, second) = (index.get(*a), index.get(*b));
                if overlaps(first, second) && (models_agree(first, second) || counts_agree(first, second)) {
                    joins.join(*a, *b, Rule::ResponseId);
                }
            }
        }
    }
}

/// A log event of the conventions names the span of its call.
fn join_events_to_spans(index: &Index<'_>, leaves: &[usize], joins: &mut Joins) {
    for leaf in leaves.iter().filter(|leaf| index.get(**leaf).source == Source::Log) {
        let Some(span) = index.host_span(*leaf).filter(|span| is_leaf(index.get(*span))) else {
            continue;
        };
        let (event, call) = (index.get(*leaf), index.get(span));
        let is_an_attempt = event.status == Status::Error && !event.usage.is_chargeable();
        let tells_another = event.usage.input.is_some() && call.usage.input.is_some() && !counts_agree(event, call);
        if !tells_another {
            let rule = if is_an_attempt && call.status != Status::Error {
                Rule::FailedAttempt
            } else {
                Rule::EventOfSpan
            };
            joins.join(span, *leaf, rule);
        }
    }
}

fn join_by_equal_counts(index: &Index<'_>, leaves: &[usize], joins: &mut Joins) {
    let mut by_counts: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for leaf in leaves {
        let observation = index.get(*leaf);
        if let (Some(trace), Some(input), Some(output)) =
            (observation.trace_id, observation.usage.input, observation.usage.output)
        {
            by_counts.entry((trace, input, output)).or_default().push(*leaf);
        }
    }
    let (mut nested, mut siblings) = (Vec::new(), Vec::new());
    for members in by_counts.values() {
        for (position, a) in members.iter().enumerate() {
            for b in members[position + 1..].iter().take(NEIGHBOURS_MAX) {
                match instrumentations(index, *a, *b) {
                    Some(Nearness::Nested) => nested.push((*a, *b)),
                    Some(Nearness::Siblings(distance)) => siblings.push((distance, *a, *b)),
                    None => {}
                }
            }
        }
    }
    for (a, b) in nested {
        joins.join(a, b, Rule::EqualCounts);
    }
    // Of several calls side by side, each takes the nearest record of the other instrumentation.
    siblings.sort_unstable();
    for (_, a, b) in siblings {
        if joins.find(a) != joins.find(b) && !says_twice(index, joins, a, b) {
            joins.join(a, b, Rule::EqualCounts);
        }
    }
}

enum Nearness {
    Nested,
    Siblings(u64),
}

/// Two records with equal counts in one trace: of one call, or two calls that look alike?
fn instrumentations(index: &Index<'_>, a: usize, b: usize) -> Option<Nearness> {
    let (first, second) = (index.get(a), index.get(b));
    if ids_differ(first, second) || !overlaps(first, second) || !models_agree(first, second) {
        return None;
    }
    if model_ancestor(index, a) == Some(b) || model_ancestor(index, b) == Some(a) {
        return Some(Nearness::Nested);
    }
    // Siblings of one scope are two calls; a call and its second instrumentation have different scopes. Where
    // there is a span between the two that nobody reads, neither parent tells.
    let parents_allow =
        first.parent_span_id == second.parent_span_id || index.has_unread_parent(a) || index.has_unread_parent(b);
    let are_siblings = first.span_kind.is_some()
        && second.span_kind.is_some()
        && parents_allow
        && first.scope != second.scope
        && contains_loosely(first, second);
    are_siblings.then(|| Nearness::Siblings(distance_ns(first, second)))
}

fn ids_differ(a: &Observation, b: &Observation) -> bool {
    matches!((&a.model.response_id, &b.model.response_id), (Some(a), Some(b)) if a != b)
}

fn distance_ns(a: &Observation, b: &Observation) -> u64 {
    a.start_ns
        .abs_diff(b.start_ns)
        .saturating_add(a.end_ns().abs_diff(b.end_ns()))
}

/// One interval lies within the other, give or take a millisecond of instrumentation.
fn contains_loosely(a: &Observation, b: &Observation) -> bool {
    const EDGE_NS: i64 = 1_000_000;
    let within = |inner: &Observation, outer: &Observation| {
        outer.start_ns.saturating_sub(EDGE_NS) <= inner.start_ns
            && inner.end_ns() <= outer.end_ns().saturating_add(EDGE_NS)
    };
    within(a, b) || within(b, a)
}

/// True where joining two sets would give a call two records of one sort: of one instrumentation (unless one
/// is nested in the other), or two log records of one event.
fn says_twice(index: &Index<'_>, joins: &mut Joins, a: usize, b: usize) -> bool {
    let slot = |position: usize| {
        let observation = index.get(position);
        let name = is_event(observation).then_some(observation.name.as_str());
        (observation.source, observation.scope.as_deref(), name)
    };
    if joins.members_of(a).len().max(joins.members_of(b).len()) > RECORDS_MAX {
        return true;
    }
    let first: Vec<_> = joins.members_of(a).iter().map(|member| slot(*member)).collect();
    joins.members_of(b).iter().any(|member| first.contains(&slot(*member)))
}

/// Pairs records of one call that no id joins: a log record with a span, or with a record of another event.
/// Of calls that look alike, those that ended nearest to each other are paired, each once.
fn join_session_events(index: &Index<'_>, leaves: &[usize], inheritance: &Inheritance<'_>, joins: &mut Joins) {
    let mut buckets: BTreeMap<(Bond<'_>, i64), Vec<usize>> = BTreeMap::new();
    for leaf in leaves {
        let observation = index.get(*leaf);
        let Some(input) = observation.usage.input.filter(|_| observation.usage.is_chargeable()) else {
            continue;
        };
        if let Some(trace_id) = observation.trace_id {
            buckets.entry((Bond::Trace(trace_id), input)).or_default().push(*leaf);
        }
        if let Some(session) = inheritance.session(index, *leaf) {
            buckets.entry((Bond::Session(session), input)).or_default().push(*leaf);
        }
    }
    let mut pairs = Vec::new();
    for members in buckets.values_mut() {
        members.sort_by_key(|member| (index.get(*member).end_ns(), *member));
        for (position, a) in members.iter().enumerate() {
            let near = members[position + 1..].iter().take(NEIGHBOURS_MAX);
            for b in
                near.take_while(|b| index.get(**b).end_ns().abs_diff(index.get(*a).end_ns()) <= CLOCK_SLACK_NS as u64)
            {
                let (first, second) = (index.get(*a), index.get(*b));
                let may_be_one = (is_event(first) || is_event(second))
                    && counts_agree(first, second)
                    && models_agree(first, second)
                    && !(first.dialect == second.dialect && ids_differ(first, second));
                if may_be_one {
                    let distance = first.end_ns().abs_diff(second.end_ns());
                    pairs.push((distance, (*a).min(*b), (*a).max(*b)));
                }
            }
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    for (_, a, b) in pairs {
        if joins.find(a) != joins.find(b) && !says_twice(index, joins, a, b) {
            joins.join(a, b, Rule::SessionEvent);
        }
    }
}

/// A log record, or a span without length that is one by nature.
fn is_event(observation: &Observation) -> bool {
    observation.source == Source::Log || observation.duration_ns.unwrap_or(0) <= 0
}

/// A streamed call whose span ended before its counts were known: they stand in an event beside it, after it.
fn join_stream_ends(index: &Index<'_>, leaves: &[usize], joins: &mut Joins) {
    let place = |position: usize| {
        let observation = index.get(position);
        Some((
            observation.trace_id?,
            observation.parent_span_id,
            observation.scope.as_deref(),
        ))
    };
    let mut silent: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    let mut ends = Vec::new();
    for leaf in leaves.iter().filter(|leaf| index.get(**leaf).span_kind.is_some()) {
        let observation = index.get(*leaf);
        let is_told = joins
            .members_of(*leaf)
            .iter()
            .any(|member| index.get(*member).usage.is_chargeable());
        let Some(place) = place(*leaf) else { continue };
        if is_event(observation) && observation.usage.is_chargeable() && joins.members_of(*leaf).len() == 1 {
            ends.push((place, *leaf));
        } else if !is_event(observation) && !is_told && observation.status != Status::Error {
            silent.entry(place).or_default().push(*leaf);
        }
    }
    let mut pairs = Vec::new();
    for (place, end) in ends {
        let Some(silent) = silent.get(&place) else { continue };
        let told = index.get(end);
        let before = silent.partition_point(|call| index.get(*call).start_ns <= told.start_ns);
        for call in silent[..before].iter().rev().take(NEIGHBOURS_MAX) {
            if models_agree(index.get(*call), told) {
                pairs.push((told.start_ns.abs_diff(index.get(*call).start_ns), *call, end));
            }
        }
    }
    pairs.sort_unstable();
    let mut taken = BTreeSet::new();
    for (_, call, end) in pairs {
        if !taken.contains(&call) && !taken.contains(&end) {
            taken.extend([call, end]);
            joins.join(call, end, Rule::SessionEvent);
        }
    }
}

/// What two records of one call share where neither names the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Bond<'o> {
    Trace(spanledger_model::TraceId),
    Session(&'o str),
}

/// A gateway's record belongs to the client's call that contains it, whatever their traces.
fn join_gateways(index: &Index<'_>, leaves: &[usize], joins: &mut Joins) {
    let mut clients: BTreeMap<(i64, i64), Vec<usize>> = BTreeMap::new();
    let mut gateways = Vec::new();
    for leaf in leaves {
        let Some(counts) = gateway_counts(index.get(*leaf)) else {
            continue;
        };
        if is_gateway(index.get(*leaf)) {
            gateways.push((counts, *leaf));
        } else {
            clients.entry(counts).or_default().push(*leaf);
        }
    }
    let times = |observation: &Observation| (observation.start_ns, observation.end_ns());
    let mut pairs = Vec::new();
    for (counts, gateway) in gateways {
        let Some(clients) = clients.get(&counts) else { continue };
        let inner = index.get(gateway);
        let after =
            clients.partition_point(|client| index.get(*client).start_ns <= inner.start_ns.saturating_add(SKEW_NS));
        for client in clients[..after].iter().rev().take(NEIGHBOURS_MAX) {
            let outer = index.get(*client);
            if is_within(times(outer), times(inner)) && models_agree(outer, inner) {
                // A gateway may give its answers ids of its own: no veto, but equal ones are joined before.
                pairs.push((ids_differ(outer, inner), distance_ns(outer, inner), *client, gateway));
            }
        }
    }
    pairs.sort_unstable();
    for (_, _, client, gateway) in pairs {
        let service = &index.get(gateway).dimensions.service;
        let is_of_gateway = |member: &usize| index.get(*member).dimensions.service == *service;
        // A gateway passes a call on once; behind it there may be another.
        let has_this = joins
            .members_of(client)
            .iter()
            .any(|member| is_gateway(index.get(*member)) && is_of_gateway(member));
        let has_client = joins
            .members_of(gateway)
            .iter()
            .any(|member| !is_gateway(index.get(*member)) && !is_of_gateway(member));
        if !has_this && !has_client {
            joins.join(client, gateway, Rule::GatewayAndClient);
        }
    }
}

/// The counts by which a gateway's record and a client's are found, where the record can be either.
#[must_use]
pub fn gateway_counts(observation: &Observation) -> Option<(i64, i64)> {
    let is_timed = observation.duration_ns.is_some_and(|duration| duration > 0);
    if !is_leaf(observation) || !is_timed || !observation.usage.is_chargeable() {
        return None;
    }
    Some((observation.usage.input?, observation.usage.output?))
}

/// True for a gateway's record of a model call.
#[must_use]
pub fn is_gateway_record(observation: &Observation) -> bool {
    is_leaf(observation) && is_gateway(observation)
}

/// The model call a record ran directly within: nothing but model calls in between, for a call below a tool
/// or an agent is one of its own.
fn model_ancestor(index: &Index<'_>, position: usize) -> Option<usize> {
    index
        .ancestors(position)
        .next()
        .filter(|ancestor| is_leaf(index.get(*ancestor)))
}

/// Parents: one without counts over one reporting child is the same call; one over several children, or
/// with other counts, is a summary of them and is left out. Never trust a roll-up over its leaves. Returns
/// each parent that is left out with a child it repeats.
fn join_or_demote_parents(index: &Index<'_>, leaves: &[usize], joins: &mut Joins) -> BTreeMap<usize, usize> {
    let mut children: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for leaf in leaves {
        if let Some(parent) = model_ancestor(index, *leaf) {
            // Hostile parent ids may form a ring: then neither is the parent.
            let is_a_ring = index.ancestors(parent).any(|above| above == *leaf);
            if !is_a_ring && joins.find(parent) != joins.find(*leaf) {
                children.entry(parent).or_default().push(*leaf);
            }
        }
    }
    let mut demoted = BTreeMap::new();
    for (parent, children) in children {
        let reporting: Vec<usize> = children
            .iter()
            .copied()
            .filter(|child| index.get(*child).usage.is_chargeable())
            .collect();
        let mut reporting_calls: Vec<usize> = reporting.iter().map(|child| joins.find(*child)).collect();
        reporting_calls.sort_unstable();
        reporting_calls.dedup();
        let outer = index.get(parent);
        let parent_reports = outer.usage.is_chargeable();
        if reporting_calls.is_empty() || reporting_calls.len() == 1 && !parent_reports {
            for child in children {
                let has_failed = index.get(child).status == Status::Error && !index.get(child).usage.is_chargeable();
                let rule = if has_failed && outer.status != Status::Error {
                    Rule::FailedAttempt
                } else {
                    Rule::NestedSpan
                };
                joins.join(parent, child, rule);
            }
        } else if let Some(child) = reporting.first() {
            demoted.insert(parent, *child);
        }
    }
    demoted
}

/// True where two records tell the same input and output, reasoning ("thoughts") counted in or not.
#[must_use]
pub fn counts_agree(a: &Observation, b: &Observation) -> bool {
    let (a, b) = (&a.usage, &b.usage);
    if a.input.is_none() || a.input != b.input {
        return false;
    }
    match (a.output, b.output) {
        (Some(first), Some(second)) => {
            first == second
                || a.reasoning
                    .is_some_and(|reasoning| first.saturating_sub(reasoning) == second)
                || b.reasoning
                    .is_some_and(|reasoning| second.saturating_sub(reasoning) == first)
        }
        _ => false,
    }
}

/// True where two records may name the same model: by request or response, without date and vendor prefix.
#[must_use]
pub fn models_agree(a: &Observation, b: &Observation) -> bool {
    if a.model.request_model.is_some() && a.model.request_model == b.model.request_model {
        return true;
    }
    let names = |observation: &Observation| -> Vec<String> {
        [&observation.model.request_model, &observation.model.response_model]
            .into_iter()
            .flatten()
            .map(|name| bare_model(name))
            .collect()
    };
    let (first, second) = (names(a), names(b));
    first.is_empty() || second.is_empty() || first.iter().any(|name| second.contains(name))
}

/// A model's name without vendor prefix and date: `anthropic/claude-sonnet-4-5-20250929` → `claude-sonnet-4-5`.
#[must_use]
pub fn bare_model(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let is_digits = |text: &str, length: usize| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((bare, date)) = name.rsplit_once(['-', '@'])
        && is_digits(date, 8)
    {
        return bare.to_owned();
    }
    let mut parts: Vec<&str> = name.split('-').collect();
    if let [.., year, month, day] = parts.as_slice()
        && is_digits(year, 4)
        && is_digits(month, 2)
        && is_digits(day, 2)
        && parts.len() > 3
    {
        parts.truncate(parts.len() - 3);
        return parts.join("-");
    }
    name
}
