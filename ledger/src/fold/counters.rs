//! Counters: metrics of usage, for emitters that send nothing better.
//!
//! A counter repeats what events already said, so it is charged only for the cells (service, session,
//! model) that no call-level record covers ([`super::coverage`]). Of the metrics of one cell that tell the
//! same tokens (an emitter's own and those of the conventions) one family is charged, the most detailed.
//! A delta point is usage; of a cumulative series only the newest point since each start counts, for it holds
//! all since then, and a new start after a restart is added. Subsets (cache, reasoning) are never added to
//! the totals they are part of. The points of one time make one call, at the grain they have.

use std::collections::{BTreeMap, HashMap, HashSet};

use spanledger_model::{CallKind, Observation, Role, Usage};

use super::coverage::{Coverage, family, is_counter, models};
use super::index::Index;
use super::rules::Rule;
use super::{Group, Repeat};

/// Starts of the series of one process that are this near are one start, nanoseconds: each token type is
/// counted from its own first value.
const START_SLACK_NS: i64 = 10_000_000_000;

/// Service, session, sort of call and model.
type Cell<'o> = (Option<&'o str>, Option<&'o str>, CallKind, Option<String>);

/// What is known of the points of a cell.
#[derive(Debug, Default)]
struct Points {
    delta: BTreeMap<i64, Vec<usize>>,
    cumulative: Vec<usize>,
    older: Vec<usize>,
}

/// Adds the counter points that no call covers to the groups; notes the others as left out.
pub(crate) fn add(index: &Index<'_>, coverage: &Coverage, groups: &mut Vec<Group>) {
    let points: Vec<usize> = index.all().filter(|point| is_counter(index.get(*point))).collect();
    if points.is_empty() {
        return;
    }
    let newest = newest_points(index, &points);
    let mut cells: BTreeMap<Cell<'_>, Points> = BTreeMap::new();
    let mut covered: BTreeMap<Cell<'_>, Vec<usize>> = BTreeMap::new();
    for point in points {
        let observation = index.get(point);
        let cell = cell_of(observation);
        if coverage.covers(observation) {
            covered.entry(cell).or_default().push(point);
            continue;
        }
        let points = cells.entry(cell).or_default();
        match observation.role {
            Role::CounterDelta => points.delta.entry(observation.end_ns()).or_default().push(point),
            _ if newest.contains(&point) => points.cumulative.push(point),
            _ => points.older.push(point),
        }
    }
    note_covered(index, groups, covered);
    for points in cells.into_values() {
        let choice = Choice::new(index, &points);
        let mut calls: Vec<(Rule, Vec<usize>)> = Vec::new();
        for members in points.delta.into_values() {
            calls.push((Rule::CounterDelta, members));
        }
        for members in by_start(index, points.cumulative) {
            calls.push((Rule::CounterCumulative, members));
        }
        let mut older = points.older;
        for (rule, members) in calls {
            let (charged, repeated): (Vec<usize>, Vec<usize>) =
                members.into_iter().partition(|point| choice.takes(index.get(*point)));
            let Some(first) = charged.first().copied() else {
                continue;
            };
            let kind = kind_of(index.get(first));
            let mut group = Group::new(kind, charged, Vec::new());
            group.own_rule = Some(rule);
            group.left_out = repeated
                .into_iter()
                .chain(std::mem::take(&mut older))
                .map(|position| Repeat {
                    position,
                    rule: Rule::CounterRepeated,
                })
                .collect();
            groups.push(group);
        }
    }
}

/// The newest point of each cumulative series since each start, by kind of token.
fn newest_points(index: &Index<'_>, points: &[usize]) -> HashSet<usize> {
    let mut newest: HashMap<(&str, i64, u16), usize> = HashMap::new();
    for point in points {
        let observation = index.get(*point);
        if observation.role != Role::CounterCumulative {
            continue;
        }
        let series = observation.series.as_deref().unwrap_or_default();
        let key = (series, observation.start_ns, told(observation));
        let order = |point: usize| (index.get(point).end_ns(), index.get(point).observation_id);
        let held = newest.entry(key).or_insert(*point);
        if order(*point) > order(*held) {
            *held = *point;
        }
    }
    newest.into_values().collect()
}

/// Which counts a point tells, as bits: the points of a series differ by kind of token.
fn told(observation: &Observation) -> u16 {
    let usage = &observation.usage;
    [
        usage.input.is_some(),
        usage.cache_read.is_some(),
        usage.cache_write_5m.is_some(),
        usage.cache_write_1h.is_some(),
        usage.output.is_some(),
        usage.reasoning.is_some(),
        usage.audio_input.is_some(),
        usage.audio_output.is_some(),
        usage.image_input.is_some(),
        usage.web_searches.is_some(),
        observation.reported_cost.is_some(),
    ]
    .iter()
    .fold(0, |bits, is_told| (bits << 1) | u16::from(*is_told))
}

/// Cumulative points in runs of near starts: one run a process.
fn by_start(index: &Index<'_>, mut points: Vec<usize>) -> Vec<Vec<usize>> {
    points.sort_by_key(|point| (index.get(*point).start_ns, *point));
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut last_ns = i64::MIN;
    for point in points {
        let start_ns = index.get(point).start_ns;
        match runs.last_mut() {
            Some(run) if start_ns.saturating_sub(last_ns) <= START_SLACK_NS => run.push(point),
            _ => runs.push(vec![point]),
        }
        last_ns = start_ns;
    }
    runs
}

/// Which metrics of a cell are charged: one family for tokens and one for cost.
struct Choice<'o> {
    tokens: Option<&'o str>,
    cost: Option<&'o str>,
}

impl<'o> Choice<'o> {
    fn new(index: &Index<'o>, points: &Points) -> Self {
        let mut details: BTreeMap<&'o str, (u16, bool)> = BTreeMap::new();
        let all = points.delta.values().flatten().chain(&points.cumulative);
        for observation in all.map(|point| index.get(*point)) {
            let (bits, has_cost) = details.entry(family(&observation.name)).or_default();
            *bits |= told(observation) >> 1;
            *has_cost |= observation.reported_cost.is_some();
        }
        // The most detailed, then the emitter's own (they stand behind `gen_ai` in no order of their own).
        let rank = |(name, (bits, _)): &(&&'o str, &(u16, bool))| {
            (
                bits.count_ones(),
                !name.starts_with("gen_ai"),
                std::cmp::Reverse(**name),
            )
        };
        let tokens = details
            .iter()
            .filter(|(_, (bits, _))| *bits > 0)
            .max_by_key(rank)
            .map(|(name, _)| *name);
        let has_cost = |name: &&str| details.get(name).is_some_and(|(_, has_cost)| *has_cost);
        let cost = tokens
            .filter(has_cost)
            .or_else(|| details.keys().copied().find(has_cost));
        Self { tokens, cost }
    }

    fn takes(&self, observation: &Observation) -> bool {
        let name = Some(family(&observation.name));
        if observation.usage == Usage::default() {
            name == self.cost
        } else {
            name == self.tokens
        }
    }
}

/// Shows a covered counter with the first call of its cell.
fn note_covered<'o>(index: &Index<'o>, groups: &mut [Group], mut covered: BTreeMap<Cell<'o>, Vec<usize>>) {
    for group in groups
        .iter_mut()
        .filter(|group| group.kind.uses_a_model() && group.keeps_usage)
    {
        if covered.is_empty() {
            return;
        }
        let mut left_out = Vec::new();
        for member in &group.members {
            let observation = index.get(*member);
            let service = observation.dimensions.service.as_deref();
            let session = observation.dimensions.session_id.as_deref();
            for model in models(observation).into_iter().map(Some).chain([None]) {
                for session in [session, None] {
                    let points = covered
                        .remove(&(service, session, group.kind, model.clone()))
                        .into_iter()
                        .flatten();
                    left_out.extend(points.map(|position| Repeat {
                        position,
                        rule: Rule::CounterCovered,
                    }));
                }
            }
        }
        group.left_out.extend(left_out);
    }
}

fn cell_of(observation: &Observation) -> Cell<'_> {
    (
        observation.dimensions.service.as_deref(),
        observation.dimensions.session_id.as_deref(),
        kind_of(observation),
        models(observation).into_iter().next(),
    )
}

/// One metric tells the tokens of several sorts of calls, by an attribute of its points.
fn kind_of(point: &Observation) -> CallKind {
    let embeds = point
        .operation
        .as_deref()
        .is_some_and(|operation| operation.starts_with("embed"));
    if embeds || point.kind == CallKind::Embedding {
        CallKind::Embedding
    } else {
        CallKind::Llm
    }
}
