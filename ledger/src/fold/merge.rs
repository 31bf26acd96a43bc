//! From a group of observations to one call: which observation each field is taken from.
//!
//! Tokens come from the most detailed record, cost and identity from whoever knows them, the worst status
//! wins. A dimension that no record of the call gives is inherited: from the spans above it, then from its
//! trace where the whole trace agrees on one value.

use std::collections::HashSet;

use spanledger_model::call::{Dimensions, ModelFields, Sizes};
use spanledger_model::ids::hash_parts;
use spanledger_model::{Call, CallId, FemtoUsd, Hop, Observation, Role, Source, Status, Usage};

use super::context::Context;
use super::coverage::{is_counter, models};
use super::index::{Index, SPAN_KIND_SERVER};
use super::inherit::{Get, INHERITED, Inheritance, Set};
use super::mcp_calls::is_server_side;
use super::mcp_fields::mcp;
use super::rules::Rule;
use super::{Group, Repeat};

/// The dialect of records that follow no known convention.
const GUESSED: &str = "guessed";

/// All dimensions, by name.
pub(crate) const ALL_DIMENSIONS: [(&str, Get, Set); 10] = [
    ("service", |of| &of.service, |of| &mut of.service),
    ("environment", |of| &of.environment, |of| &mut of.environment),
    INHERITED[0],
    INHERITED[1],
    INHERITED[2],
    INHERITED[3],
    INHERITED[4],
    INHERITED[5],
    INHERITED[6],
    INHERITED[7],
];

/// Builds the call of a group; `None` for an empty one.
pub(crate) fn build(
    index: &Index<'_>,
    group: &Group,
    inheritance: &Inheritance<'_>,
    context: &Context,
) -> Option<Call> {
    let ranked = ranked(index, group);
    let anchor = *ranked.first()?;
    let outer = index.get(anchor);
    let records: Vec<&Observation> = ranked.iter().map(|member| index.get(*member)).collect();
    let mut dimensions = Dimensions::default();
    for (_, get, set) in ALL_DIMENSIONS {
        *set(&mut dimensions) = records.iter().find_map(|record| get(&record.dimensions).clone());
    }
    inheritance.fill(index, &ranked, &mut dimensions);
    let status = status(index, group, &ranked);
    let mut observation_ids: Vec<_> = records.iter().map(|record| record.observation_id).collect();
    observation_ids.sort_unstable();
    let mut dialects: Vec<&str> = records.iter().map(|record| record.dialect.as_str()).collect();
    dialects.sort_unstable();
    dialects.dedup();
    let (mcp, named_by) = mcp(group.kind, &records, inheritance, context);
    let mut rules = rules_of(group);
    rules.extend(named_by);
    rules.extend(
        records
            .iter()
            .any(|record| record.dialect == GUESSED)
            .then_some(Rule::NameGuess),
    );
    rules.sort_unstable_by_key(|rule| rule.as_str());
    rules.dedup();
    let span = records.iter().find(|record| record.span_kind.is_some()).copied();
    Some(Call {
        tenant: outer.tenant.clone(),
        call_id: call_id(group, outer),
        kind: group.kind,
        operation: records.iter().find_map(|record| record.operation.clone()),
        start_ns: outer.start_ns,
        duration_ns: outer.duration_ns,
        dialects: dialects.join(","),
        observation_ids,
        confidence: rules.iter().map(|rule| rule.confidence()).max().unwrap_or_default(),
        rules: rules.iter().map(|rule| rule.as_str()).collect::<Vec<_>>().join(","),
        hops: hops(&records),
        status,
        error_type: (status == Status::Error)
            .then(|| records.iter().find_map(|record| record.error_type.clone()))
            .flatten(),
        dimensions,
        allocated_by: None,
        trace_id: outer
            .trace_id
            .or_else(|| records.iter().find_map(|record| record.trace_id)),
        span_id: span.map_or(outer.span_id, |span| span.span_id),
        parent_span_id: span.and_then(|span| span.parent_span_id),
        mcp,
        model: if group.kind.uses_a_model() || is_counter(outer) {
            model(&records)
        } else {
            ModelFields::default()
        },
        usage: usage(group, &records),
        sizes: sizes(&records),
        reported_cost: group.keeps_usage.then(|| reported_cost(&records)).flatten(),
        own_cost: None,
        total_cost: None,
    })
}

/// Rules that made the call what it is. That a counter repeats it is left to [`super::explain`]: it says
/// nothing about the call, and would change its row with each export.
fn rules_of(group: &Group) -> Vec<Rule> {
    let is_told = |left_out: &&Repeat| left_out.rule == Rule::RollupParent;
    group
        .edges
        .iter()
        .map(|(_, _, rule)| *rule)
        .chain(group.own_rule)
        .chain(group.left_out.iter().filter(is_told).map(|left_out| left_out.rule))
        .collect()
}

/// A call is known by the record that stands for it; one of a cumulative counter by its cell and start, for
/// its record changes with each export.
fn call_id(group: &Group, outer: &Observation) -> CallId {
    let kind = group.kind.as_str().as_bytes();
    if group.own_rule == Some(Rule::CounterCumulative) {
        let model = models(outer).into_iter().next();
        let of = |text: Option<&str>| text.unwrap_or_default().as_bytes().to_vec();
        return CallId(hash_parts(&[
            b"counter",
            outer.tenant.as_str().as_bytes(),
            kind,
            &of(outer.dimensions.service.as_deref()),
            &of(outer.dimensions.session_id.as_deref()),
            &of(model.as_deref()),
            &outer.start_ns.to_le_bytes(),
        ]));
    }
    CallId(hash_parts(&[b"call", kind, outer.observation_id.as_bytes()]))
}

/// The worst of the chain: a gateway often calls a failed result fine. An attempt that was retried is no
/// failure of the call.
fn status(index: &Index<'_>, group: &Group, ranked: &[usize]) -> Status {
    let failed = group.failed_attempts();
    ranked
        .iter()
        .filter(|member| !failed.contains(*member))
        .map(|member| index.get(*member).status)
        .max()
        .unwrap_or_default()
}

fn is_gateway(record: &Observation) -> bool {
    record.hop == Some(Hop::Gateway) || record.span_kind == Some(SPAN_KIND_SERVER)
}

/// The members of a group, the one that stands for the call first: for a model call the host's span with the
/// most detailed counts, for an MCP call the outermost hop, which is whose time its caller waited.
pub(crate) fn ranked(index: &Index<'_>, group: &Group) -> Vec<usize> {
    let aside = Aside::of(index, group);
    let mut members: Vec<_> = group
        .members
        .iter()
        .map(|member| (rank(index, group, &aside, *member), *member))
        .collect();
    members.sort();
    members.into_iter().map(|(_, member)| member).collect()
}

/// The members that do not stand for a call while there are others.
struct Aside<'o> {
    failed: HashSet<usize>,
    /// Services that are gateways of a model call: their client's spans are theirs too.
    gateways: HashSet<&'o str>,
}

impl<'o> Aside<'o> {
    fn of(index: &Index<'o>, group: &Group) -> Self {
        let records = group.members.iter().map(|member| index.get(*member));
        let gateways = records.filter(|record| group.kind.uses_a_model() && is_gateway(record));
        Self {
            failed: group.failed_attempts(),
            gateways: gateways
                .filter_map(|record| record.dimensions.service.as_deref())
                .collect(),
        }
    }

    fn is_gateways(&self, record: &Observation) -> bool {
        let service = record.dimensions.service.as_deref();
        is_gateway(record) || service.is_some_and(|service| self.gateways.contains(service))
    }
}

/// Ranks a member: what stands for the call has the lowest.
fn rank(index: &Index<'_>, group: &Group, aside: &Aside<'_>, member: usize) -> impl Ord + use<> {
    let record = index.get(member);
    let uses_a_model = group.kind.uses_a_model();
    let is_aside = record.role == Role::Correction || aside.failed.contains(&member);
    let is_further = uses_a_model && aside.is_gateways(record);
    let depth = if uses_a_model || group.members.len() > RANKED_MAX {
        0
    } else {
        index
            .ancestors(member)
            .filter(|above| group.members.contains(above))
            .count()
    };
    let detail = std::cmp::Reverse(if uses_a_model { record.usage.detail() } else { 0 });
    (
        is_aside,
        is_further,
        record.role == Role::Detail,
        record.span_kind.is_none(),
        (depth, !uses_a_model && is_server_side(record)),
        detail,
        // Of the points of a counter the earliest start is the call's.
        std::cmp::Reverse(if is_counter(record) {
            0
        } else {
            record.duration_ns.unwrap_or(0)
        }),
        record.start_ns,
        record.observation_id,
    )
}

/// Members among which ancestry is looked at; larger calls are hostile.
const RANKED_MAX: usize = 256;

/// Spans the call went through, evidence beside them (an execution, a delegation) not counted.
fn hops(records: &[&Observation]) -> i32 {
    let spans = records
        .iter()
        .filter(|record| record.span_kind.is_some() && record.role != Role::Detail);
    i32::try_from(spans.count().max(1)).unwrap_or(i32::MAX)
}

/// Tokens: those of the newest correction, else of the most detailed record (an event's before a span's), gaps
/// filled from the others. The points of a counter are summed instead, for each carries one kind of token.
fn usage(group: &Group, records: &[&Observation]) -> Usage {
    if !group.keeps_usage {
        return Usage::default();
    }
    if records.iter().any(|record| record.source == Source::Metric) {
        let sum = records
            .iter()
            .fold(Usage::default(), |sum, record| add(&sum, &record.usage));
        return inclusive(sum);
    }
    if is_void(records) {
        return Usage {
            input: Some(0),
            output: Some(0),
            ..Usage::default()
        };
    }
    let mut detailed: Vec<&&Observation> = records.iter().collect();
    detailed.sort_by_key(|record| {
        let is_correction = record.role == Role::Correction && !record.usage.is_empty();
        (
            !is_correction,
            std::cmp::Reverse(if is_correction { newness(record) } else { (0, 0) }),
            !record.usage.is_chargeable(),
            std::cmp::Reverse(record.usage.detail()),
            is_gateway(record),
            record.source != Source::Log,
            record.observation_id,
        )
    });
    detailed
        .iter()
        .fold(Usage::default(), |usage, record| fill(&usage, &record.usage))
}

/// True where the newest correction tells neither counts nor a cost: the call is not billed after all.
fn is_void(records: &[&Observation]) -> bool {
    let corrections = records.iter().filter(|record| record.role == Role::Correction);
    corrections
        .max_by_key(|record| newness(record))
        .is_some_and(|record| record.usage.is_empty() && record.reported_cost.is_none())
}

/// When a correction was made: by its own time, then by its arrival.
fn newness(record: &Observation) -> (i64, i64) {
    (record.end_ns(), record.arrived_ns)
}

/// More cached tokens than input prove that the counters leave them out of it.
fn inclusive(mut sum: Usage) -> Usage {
    let cached = sum
        .cache_read
        .unwrap_or(0)
        .saturating_add(sum.cache_write().unwrap_or(0));
    if let Some(input) = sum.input.filter(|input| *input < cached) {
        sum.input = Some(input.saturating_add(cached));
    }
    sum
}

/// Fills gaps, but takes a cache write whole or not at all: a split and an unsplit count do not mix.
fn fill(usage: &Usage, other: &Usage) -> Usage {
    let mut filled = usage.or(other);
    if usage.cache_write().is_some() {
        filled.cache_write_5m = usage.cache_write_5m;
        filled.cache_write_1h = usage.cache_write_1h;
    }
    filled
}

fn add(a: &Usage, b: &Usage) -> Usage {
    let sum = |a: Option<i64>, b: Option<i64>| match (a, b) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
    };
    Usage {
        input: sum(a.input, b.input),
        cache_read: sum(a.cache_read, b.cache_read),
        cache_write_5m: sum(a.cache_write_5m, b.cache_write_5m),
        cache_write_1h: sum(a.cache_write_1h, b.cache_write_1h),
        output: sum(a.output, b.output),
        reasoning: sum(a.reasoning, b.reasoning),
        audio_input: sum(a.audio_input, b.audio_input),
        audio_output: sum(a.audio_output, b.audio_output),
        image_input: sum(a.image_input, b.image_input),
        web_searches: sum(a.web_searches, b.web_searches),
    }
}

/// Cost: of counters the sum; else the newest correction's; else what the host's event says, then its span,
/// then the gateway: it is the emitter's bill. A correction of the tokens alone makes an older bill void.
fn reported_cost(records: &[&Observation]) -> Option<FemtoUsd> {
    if records.iter().any(|record| record.source == Source::Metric) {
        let costs: Vec<FemtoUsd> = records.iter().filter_map(|record| record.reported_cost).collect();
        return (!costs.is_empty()).then(|| costs.into_iter().sum());
    }
    if is_void(records) {
        return None;
    }
    let corrections = || records.iter().filter(|record| record.role == Role::Correction);
    let of_cost = corrections()
        .filter(|record| record.reported_cost.is_some())
        .max_by_key(|record| newness(record));
    let of_usage = corrections()
        .filter(|record| !record.usage.is_empty())
        .max_by_key(|record| newness(record));
    match (of_cost, of_usage) {
        (Some(cost), Some(usage)) if newness(usage) > newness(cost) => return None,
        (Some(cost), _) => return cost.reported_cost,
        (None, Some(_)) => return None,
        (None, None) => {}
    }
    let mut reporting: Vec<&&Observation> = records.iter().filter(|record| record.reported_cost.is_some()).collect();
    reporting.sort_by_key(|record| (is_gateway(record), record.source != Source::Log));
    reporting.first().and_then(|record| record.reported_cost)
}

/// Model fields. What was asked for is the client's; who answered, and is billed, a gateway knows better: its
/// clients are told an alias.
fn model(records: &[&Observation]) -> ModelFields {
    let first = |get: fn(&ModelFields) -> &Option<String>| records.iter().find_map(|record| get(&record.model).clone());
    let billed = |get: fn(&ModelFields) -> &Option<String>| {
        let mut gateways = records.iter().filter(|record| record.hop == Some(Hop::Gateway));
        gateways
            .find_map(|record| get(&record.model).clone())
            .or_else(|| first(get))
    };
    ModelFields {
        provider: billed(|model| &model.provider),
        request_model: first(|model| &model.request_model),
        response_model: billed(|model| &model.response_model),
        response_id: first(|model| &model.response_id),
        service_tier: first(|model| &model.service_tier),
        processing: first(|model| &model.processing),
    }
}

fn sizes(records: &[&Observation]) -> Sizes {
    let largest = |get: fn(&Sizes) -> Option<i64>| records.iter().filter_map(|record| get(&record.sizes)).max();
    Sizes {
        request_bytes: largest(|sizes| sizes.request_bytes),
        response_bytes: largest(|sizes| sizes.response_bytes),
        definition_bytes: largest(|sizes| sizes.definition_bytes),
    }
}
