//! From a group of observations to one call: which observation each field is taken from.
//!
//! Tokens come from the most detailed record, cost and identity from whoever knows them, the worst status
//! wins. A dimension that no record of the call gives is inherited: from the spans above it, then from its
//! trace where the whole trace agrees on one value.

use std::collections::HashMap;

use spanledger_model::call::{Dimensions, McpFields, ModelFields, Sizes};
use spanledger_model::ids::hash_parts;
use spanledger_model::{Call, CallId, CallKind, FemtoUsd, Observation, Role, Source, Status, TraceId, Usage};

use super::Group;
use super::index::Index;

/// OTLP's number for a SERVER span.
const SPAN_KIND_SERVER: i32 = 2;

type Get = fn(&Dimensions) -> &Option<String>;
type Set = fn(&mut Dimensions) -> &mut Option<String>;

/// Dimensions that are inherited. Service and environment belong to the record's own process.
const INHERITED: [(Get, Set); 7] = [
    (|dimensions| &dimensions.team, |dimensions| &mut dimensions.team),
    (|dimensions| &dimensions.project, |dimensions| &mut dimensions.project),
    (|dimensions| &dimensions.user_id, |dimensions| &mut dimensions.user_id),
    (|dimensions| &dimensions.agent, |dimensions| &mut dimensions.agent),
    (|dimensions| &dimensions.client, |dimensions| &mut dimensions.client),
    (
        |dimensions| &dimensions.session_id,
        |dimensions| &mut dimensions.session_id,
    ),
    (|dimensions| &dimensions.api_key, |dimensions| &mut dimensions.api_key),
];

/// What whole traces agree on.
#[derive(Debug, Default)]
pub(crate) struct Inheritance(HashMap<TraceId, [Agreement; INHERITED.len()]>);

#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Agreement {
    #[default]
    Unsaid,
    On(String),
    Split,
}

impl Inheritance {
    pub(crate) fn new(index: &Index<'_>) -> Self {
        let mut traces: HashMap<TraceId, [Agreement; INHERITED.len()]> = HashMap::new();
        for observation in index.all().map(|position| index.get(position)) {
            let Some(trace_id) = observation.trace_id else { continue };
            let agreements = traces.entry(trace_id).or_default();
            for ((get, _), agreement) in INHERITED.iter().zip(agreements) {
                let Some(value) = get(&observation.dimensions) else {
                    continue;
                };
                *agreement = match std::mem::take(agreement) {
                    Agreement::Unsaid => Agreement::On(value.clone()),
                    Agreement::On(agreed) if agreed == *value => Agreement::On(agreed),
                    _ => Agreement::Split,
                };
            }
        }
        Self(traces)
    }

    fn fill(&self, index: &Index<'_>, members: &[usize], dimensions: &mut Dimensions) {
        for (slot, (get, set)) in INHERITED.iter().enumerate() {
            if get(dimensions).is_some() {
                continue;
            }
            let from_above = || {
                members.iter().find_map(|member| {
                    index
                        .ancestors(*member)
                        .find_map(|ancestor| get(&index.get(ancestor).dimensions).clone())
                })
            };
            let from_trace = || {
                members
                    .iter()
                    .find_map(|member| match self.0.get(&index.get(*member).trace_id?)?.get(slot)? {
                        Agreement::On(value) => Some(value.clone()),
                        _ => None,
                    })
            };
            *set(dimensions) = from_above().or_else(from_trace);
        }
    }
}

/// Builds the call of a group; `None` for an empty one.
pub(crate) fn build(index: &Index<'_>, group: &Group, inheritance: &Inheritance) -> Option<Call> {
    let ranked = ranked(index, group);
    let anchor = *ranked.first()?;
    let outer = index.get(anchor);
    let records: Vec<&Observation> = ranked.iter().map(|member| index.get(*member)).collect();
    let mut dimensions = Dimensions::default();
    for (get, set) in ALL_DIMENSIONS {
        *set(&mut dimensions) = records.iter().find_map(|record| get(&record.dimensions).clone());
    }
    inheritance.fill(index, &ranked, &mut dimensions);
    let status = records.iter().map(|record| record.status).max().unwrap_or_default();
    let mut observation_ids: Vec<_> = records.iter().map(|record| record.observation_id).collect();
    observation_ids.sort_unstable();
    let mut dialects: Vec<&str> = records.iter().map(|record| record.dialect.as_str()).collect();
    dialects.sort_unstable();
    dialects.dedup();
    let is_counter = matches!(outer.role, Role::CounterDelta | Role::CounterCumulative);
    let usage = usage(group, &records);
    let span = records.iter().find(|record| record.span_kind.is_some()).copied();
    Some(Call {
        tenant: outer.tenant.clone(),
        call_id: CallId(hash_parts(&[
            b"call",
            group.kind.as_str().as_bytes(),
            outer.observation_id.as_bytes(),
        ])),
        kind: group.kind,
        operation: records.iter().find_map(|record| record.operation.clone()),
        start_ns: outer.start_ns,
        duration_ns: outer.duration_ns,
        dialects: dialects.join(","),
        observation_ids,
        rules: String::new(),
        confidence: Default::default(),
        hops: hops(&records),
        status,
        error_type: (status == Status::Error)
            .then(|| records.iter().find_map(|record| record.error_type.clone()))
            .flatten(),
        dimensions,
        trace_id: outer
            .trace_id
            .or_else(|| records.iter().find_map(|record| record.trace_id)),
        span_id: span.map_or(outer.span_id, |span| span.span_id),
        parent_span_id: span.and_then(|span| span.parent_span_id),
        mcp: mcp(group.kind, &records),
        model: if group.kind.uses_a_model() || is_counter {
            model(&records)
        } else {
            ModelFields::default()
        },
        usage,
        sizes: sizes(&records),
        reported_cost: group.keeps_usage.then(|| reported_cost(&records)).flatten(),
        own_cost: None,
        total_cost: None,
    })
}

const ALL_DIMENSIONS: [(Get, Set); 9] = [
    (|dimensions| &dimensions.service, |dimensions| &mut dimensions.service),
    (
        |dimensions| &dimensions.environment,
        |dimensions| &mut dimensions.environment,
    ),
    INHERITED[0],
    INHERITED[1],
    INHERITED[2],
    INHERITED[3],
    INHERITED[4],
    INHERITED[5],
    INHERITED[6],
];

/// The members of a group, the one that stands for the call first: for a model call the span with the most
/// detailed counts, for an MCP call the outermost hop, which is whose time its caller waited.
fn ranked(index: &Index<'_>, group: &Group) -> Vec<usize> {
    let mut members = group.members.clone();
    members.sort_by_key(|member| {
        let record = index.get(*member);
        let has_no_span = record.span_kind.is_none();
        let is_detail = record.role == Role::Detail;
        let detail = std::cmp::Reverse(if group.kind.uses_a_model() {
            record.usage.detail()
        } else {
            0
        });
        let duration = std::cmp::Reverse(record.duration_ns.unwrap_or(0));
        (
            is_detail,
            has_no_span,
            detail,
            duration,
            record.start_ns,
            record.observation_id,
        )
    });
    members
}

/// Spans the call went through, evidence beside them (an execution, a delegation) not counted.
fn hops(records: &[&Observation]) -> i32 {
    let spans = records
        .iter()
        .filter(|record| record.span_kind.is_some() && record.role != Role::Detail);
    i32::try_from(spans.count().max(1)).unwrap_or(i32::MAX)
}

/// Tokens: those of the most detailed record, its gaps filled from the others. The points of a counter are
/// summed instead, for each carries one kind of token.
fn usage(group: &Group, records: &[&Observation]) -> Usage {
    if !group.keeps_usage {
        return Usage::default();
    }
    if records.iter().any(|record| record.source == Source::Metric) {
        return records
            .iter()
            .fold(Usage::default(), |sum, record| add(&sum, &record.usage));
    }
    let mut detailed: Vec<&&Observation> = records.iter().collect();
    detailed.sort_by_key(|record| {
        (
            !record.usage.is_chargeable(),
            std::cmp::Reverse(record.usage.detail()),
            record.observation_id,
        )
    });
    detailed
        .iter()
        .fold(Usage::default(), |usage, record| fill(&usage, &record.usage))
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

/// Cost: of counters the sum, else what the event says before what a span says: it is the emitter's bill.
fn reported_cost(records: &[&Observation]) -> Option<FemtoUsd> {
    if records.iter().any(|record| record.source == Source::Metric) {
        let costs: Vec<FemtoUsd> = records.iter().filter_map(|record| record.reported_cost).collect();
        return (!costs.is_empty()).then(|| costs.into_iter().sum());
    }
    let of = |source: Source| records.iter().filter(move |record| record.source == source);
    of(Source::Log)
        .chain(of(Source::Span))
        .find_map(|record| record.reported_cost)
}

/// MCP fields: names from the innermost server, which is where the tool is; the rest from whoever has it.
fn mcp(kind: CallKind, records: &[&Observation]) -> McpFields {
    if !kind.is_mcp() {
        let with_prompt = records.iter().find(|record| record.mcp.prompt.is_some());
        return with_prompt.map_or_else(McpFields::default, |record| McpFields {
            prompt: record.mcp.prompt.clone(),
            prompt_version: record.mcp.prompt_version.clone(),
            ..McpFields::default()
        });
    }
    let innermost = records
        .iter()
        .filter(|record| record.span_kind == Some(SPAN_KIND_SERVER) && record.mcp.server.is_some())
        .min_by_key(|record| (record.duration_ns, record.observation_id));
    let mut by_trust: Vec<&Observation> = innermost.into_iter().copied().collect();
    by_trust.extend(records.iter().copied());
    let first = |get: fn(&McpFields) -> &Option<String>| by_trust.iter().find_map(|record| get(&record.mcp).clone());
    McpFields {
        server: first(|mcp| &mcp.server),
        tool: first(|mcp| &mcp.tool),
        prompt: first(|mcp| &mcp.prompt),
        prompt_version: first(|mcp| &mcp.prompt_version),
        // The address as the caller knows it; a gateway's inner one differs.
        resource_uri: records.iter().find_map(|record| record.mcp.resource_uri.clone()),
        mcp_method: first(|mcp| &mcp.mcp_method),
        mcp_protocol_version: first(|mcp| &mcp.mcp_protocol_version),
        transport: first(|mcp| &mcp.transport),
        request_id: records.iter().find_map(|record| record.mcp.request_id.clone()),
    }
}

fn model(records: &[&Observation]) -> ModelFields {
    let first = |get: fn(&ModelFields) -> &Option<String>| records.iter().find_map(|record| get(&record.model).clone());
    ModelFields {
        provider: first(|model| &model.provider),
        request_model: first(|model| &model.request_model),
        response_model: first(|model| &model.response_model),
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
