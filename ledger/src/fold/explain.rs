//! Why a call is what it is: the records it was folded from, the rule that brought each in, the record each
//! field was taken from, and what was left out because it repeats the call.
//!
//! It runs the same fold as settlement and looks at its joins; it decides nothing itself. `spanledger explain`
//! prints it.

use std::collections::{BTreeMap, VecDeque};

use spanledger_model::{Call, Hop, Observation, ObservationId, Role, Source, Usage};

use super::context::Context;
use super::hops::{HopTiming, hops_in};
use super::index::Index;
use super::merge::{ALL_DIMENSIONS, ranked};
use super::rules::Rule;
use super::{Group, build};

/// One call, explained.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The call as settlement has it, but for its costs.
    pub call: Call,
    /// Its records, the one it stands on first.
    pub members: Vec<Member>,
    /// Its fields that have a value, and where each is from.
    pub fields: Vec<FieldSource>,
    /// Records that repeat it and are not counted.
    pub left_out: Vec<LeftOut>,
    /// Its hops, outermost first; empty for what is no request.
    pub hops: Vec<HopTiming>,
}

/// A record of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its identity.
    pub observation_id: ObservationId,
    /// Signal it came in.
    pub source: Source,
    /// What settlement may do with it.
    pub role: Role,
    /// Convention it was read by.
    pub dialect: String,
    /// Instrumentation scope.
    pub scope: Option<String>,
    /// Its own name.
    pub name: String,
    /// Service that made it.
    pub service: Option<String>,
    /// Where on the way of the request it was made, as it says itself.
    pub hop: Option<Hop>,
    /// Start, nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// Duration in nanoseconds, where known.
    pub duration_ns: Option<i64>,
    /// The rule that brought it in; `None` for the record the call stands on, where that is simply one.
    pub rule: Option<Rule>,
}

/// Where a field of a call is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldSource {
    /// Column of `calls`.
    pub field: &'static str,
    /// Its value, as text.
    pub value: String,
    /// The record that gave it; `None` where it is a sum, inherited, or of the directory of names.
    pub observation_id: Option<ObservationId>,
    /// Why that record.
    pub why: &'static str,
}

/// A record that repeats a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its identity.
    pub observation_id: ObservationId,
    /// Signal it came in.
    pub source: Source,
    /// Convention it was read by.
    pub dialect: String,
    /// Its own name.
    pub name: String,
    /// Why it is left out.
    pub rule: Rule,
}

/// Explains the calls of a component, in their order, as far as the component itself tells.
#[must_use]
pub fn explain(observations: &[Observation]) -> Vec<Explained> {
    explain_in(observations, &Context::of(observations))
}

/// Explains the calls of a component among others.
#[must_use]
pub fn explain_in(observations: &[Observation], context: &Context) -> Vec<Explained> {
    let index = Index::new(observations);
    build(&index, context)
        .into_iter()
        .map(|(call, group)| explained(&index, call, &group))
        .collect()
}

fn explained(index: &Index<'_>, call: Call, group: &Group) -> Explained {
    let order = ranked(index, group);
    let rules = rules_by_member(group, order.first().copied());
    let member = |position: &usize| {
        let record = index.get(*position);
        Member {
            observation_id: record.observation_id,
            source: record.source,
            role: record.role,
            dialect: record.dialect.clone(),
            scope: record.scope.clone(),
            name: record.name.clone(),
            service: record.dimensions.service.clone(),
            hop: record.hop,
            start_ns: record.start_ns,
            duration_ns: record.duration_ns,
            rule: rules.get(position).copied().or(group.own_rule),
        }
    };
    let left_out = |repeat: &super::Repeat| {
        let record = index.get(repeat.position);
        LeftOut {
            observation_id: record.observation_id,
            source: record.source,
            dialect: record.dialect.clone(),
            name: record.name.clone(),
            rule: repeat.rule,
        }
    };
    Explained {
        members: order.iter().map(member).collect(),
        fields: fields(index, &call, &order),
        left_out: group.left_out.iter().map(left_out).collect(),
        hops: if call.kind.is_mcp() {
            hops_in(index, &group.members)
        } else {
            Vec::new()
        },
        call,
    }
}

/// The rule by which each member is reached from the one that the call stands on.
fn rules_by_member(group: &Group, anchor: Option<usize>) -> BTreeMap<usize, Rule> {
    let mut neighbours: BTreeMap<usize, Vec<(usize, Rule)>> = BTreeMap::new();
    for (a, b, rule) in &group.edges {
        neighbours.entry(*a).or_default().push((*b, *rule));
        neighbours.entry(*b).or_default().push((*a, *rule));
    }
    let mut rules = BTreeMap::new();
    let mut reached: VecDeque<usize> = anchor.into_iter().collect();
    while let Some(position) = reached.pop_front() {
        for (next, rule) in neighbours.get(&position).into_iter().flatten() {
            if Some(*next) != anchor && !rules.contains_key(next) {
                rules.insert(*next, *rule);
                reached.push_back(*next);
            }
        }
    }
    rules
}

type Count = fn(&Usage) -> Option<i64>;
type Text = fn(&Observation) -> Option<String>;

const COUNTS: [(&str, Count); 7] = [
    ("input_tokens", |usage| usage.input),
    ("cache_read_tokens", |usage| usage.cache_read),
    ("cache_write_5m_tokens", |usage| usage.cache_write_5m),
    ("cache_write_1h_tokens", |usage| usage.cache_write_1h),
    ("output_tokens", |usage| usage.output),
    ("reasoning_tokens", |usage| usage.reasoning),
    ("web_searches", |usage| usage.web_searches),
];

const NAMES: [(&str, Text); 10] = [
    ("provider", |record| record.model.provider.clone()),
    ("request_model", |record| record.model.request_model.clone()),
    ("response_model", |record| record.model.response_model.clone()),
    ("response_id", |record| record.model.response_id.clone()),
    ("server", |record| record.mcp.server.clone()),
    ("tool", |record| record.mcp.tool.clone()),
    ("prompt", |record| record.mcp.prompt.clone()),
    ("resource_uri", |record| record.mcp.resource_uri.clone()),
    ("mcp_method", |record| record.mcp.mcp_method.clone()),
    ("operation", |record| record.operation.clone()),
];

fn fields(index: &Index<'_>, call: &Call, order: &[usize]) -> Vec<FieldSource> {
    let records: Vec<&Observation> = order.iter().map(|position| index.get(*position)).collect();
    let is_sum = records.iter().any(|record| record.source == Source::Metric);
    let giver = |gives: &dyn Fn(&Observation) -> bool| {
        records
            .iter()
            .find(|record| gives(record))
            .map(|record| record.observation_id)
    };
    let mut fields = vec![FieldSource {
        field: "status",
        value: call.status.as_str().to_owned(),
        observation_id: giver(&|record| record.status == call.status),
        why: "the worst of the chain",
    }];
    for (field, count) in COUNTS {
        let Some(value) = count(&call.usage) else { continue };
        fields.push(FieldSource {
            field,
            value: value.to_string(),
            observation_id: giver(&|record| count(&record.usage) == Some(value)).filter(|_| !is_sum),
            why: if is_sum {
                "the sum of the counter's points"
            } else if records.iter().any(|record| record.role == Role::Correction) {
                "the newest correction, gaps filled from the others"
            } else {
                "the most detailed record, gaps filled from the others"
            },
        });
    }
    if let Some(cost) = call.reported_cost {
        fields.push(FieldSource {
            field: "reported_cost",
            value: cost.to_string(),
            observation_id: giver(&|record| record.reported_cost == Some(cost)).filter(|_| !is_sum),
            why: "the host's event, else its span, else the gateway",
        });
    }
    for (field, get, _) in ALL_DIMENSIONS {
        let Some(value) = get(&call.dimensions) else { continue };
        let from = giver(&|record| get(&record.dimensions).as_ref() == Some(value));
        fields.push(FieldSource {
            field,
            value: value.clone(),
            observation_id: from,
            why: if from.is_some() {
                "the first record that knows it, the host's before a gateway's and a server's"
            } else {
                "inherited from the spans above, else from the whole trace"
            },
        });
    }
    let of_call: [&Option<String>; 10] = [
        &call.model.provider,
        &call.model.request_model,
        &call.model.response_model,
        &call.model.response_id,
        &call.mcp.server,
        &call.mcp.tool,
        &call.mcp.prompt,
        &call.mcp.resource_uri,
        &call.mcp.mcp_method,
        &call.operation,
    ];
    for ((field, text), value) in NAMES.iter().zip(of_call) {
        let Some(value) = value else { continue };
        let from = giver(&|record| text(record).as_ref() == Some(value));
        let is_name = matches!(*field, "server" | "tool");
        fields.push(FieldSource {
            field,
            value: value.clone(),
            observation_id: from,
            why: match (is_name, from) {
                (true, Some(_)) => "the innermost server's name, else the shortest in clear",
                (true, None) => "a prefix taken off, or found in the names that other records state",
                (false, _) => "the first record that knows it",
            },
        });
    }
    fields
}
