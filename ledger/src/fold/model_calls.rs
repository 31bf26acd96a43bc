//! Model calls: which records are of one call, and which only repeat others.
//!
//! Rules, each with its test: *one call in several signals* and *two instrumentations with a response id*
//! (same id, compatible model, overlapping time: ids alone are reused in the wild); *two instrumentations
//! without one* (same trace, equal counts, overlapping time, parent and child or siblings of different
//! scopes); *an event of a span* (a log record within the span of the call); *a parent that repeats or
//! replaces its children* (never charged beside them).

use std::collections::HashMap;

use spanledger_model::{CallKind, Observation, Role, Source};

use super::Group;
use super::index::{Index, Sets, overlaps};

/// Groups the model calls of a component.
pub(crate) fn group(index: &Index<'_>) -> Vec<Group> {
    let leaves: Vec<usize> = index.all().filter(|leaf| is_leaf(index.get(*leaf))).collect();
    let mut sets = Sets::new(index.len());
    join_by_response_id(index, &leaves, &mut sets);
    join_events_to_spans(index, &leaves, &mut sets);
    join_by_equal_counts(index, &leaves, &mut sets);
    let demoted = join_or_demote_parents(index, &leaves, &mut sets);
    sets.collect(leaves.into_iter().filter(|leaf| !demoted.contains(leaf)))
        .into_iter()
        .map(|members| {
            let is_llm = members.iter().any(|member| index.get(*member).kind == CallKind::Llm);
            let kind = if is_llm { CallKind::Llm } else { CallKind::Embedding };
            Group {
                kind,
                members,
                keeps_usage: true,
            }
        })
        .collect()
}

fn is_leaf(observation: &Observation) -> bool {
    observation.kind.uses_a_model() && observation.role == Role::Leaf
}

fn join_by_response_id(index: &Index<'_>, leaves: &[usize], sets: &mut Sets) {
    let mut by_id: HashMap<&str, Vec<usize>> = HashMap::new();
    for leaf in leaves {
        if let Some(id) = index.get(*leaf).model.response_id.as_deref() {
            by_id.entry(id).or_default().push(*leaf);
        }
    }
    for members in by_id.values() {
        for (position, a) in members.iter().enumerate() {
            for b in &members[position + 1..] {
                let (first, second) = (index.get(*a), index.get(*b));
                if overlaps(first, second) && models_agree(first, second) {
                    sets.join(*a, *b);
                }
            }
        }
    }
}

/// A log event of the conventions names the span of its call.
fn join_events_to_spans(index: &Index<'_>, leaves: &[usize], sets: &mut Sets) {
    for leaf in leaves.iter().filter(|leaf| index.get(**leaf).source == Source::Log) {
        if let Some(span) = index.host_span(*leaf).filter(|span| is_leaf(index.get(*span))) {
            sets.join(*leaf, span);
        }
    }
}

fn join_by_equal_counts(index: &Index<'_>, leaves: &[usize], sets: &mut Sets) {
    let mut by_counts: HashMap<_, Vec<usize>> = HashMap::new();
    for leaf in leaves {
        let observation = index.get(*leaf);
        if let (Some(trace), Some(input), Some(output)) =
            (observation.trace_id, observation.usage.input, observation.usage.output)
        {
            by_counts.entry((trace, input, output)).or_default().push(*leaf);
        }
    }
    for members in by_counts.values() {
        for (position, a) in members.iter().enumerate() {
            for b in &members[position + 1..] {
                if are_two_instrumentations(index, *a, *b) {
                    sets.join(*a, *b);
                }
            }
        }
    }
}

/// Two records with equal counts in one trace: of one call, or two calls that look alike?
fn are_two_instrumentations(index: &Index<'_>, a: usize, b: usize) -> bool {
    let (first, second) = (index.get(a), index.get(b));
    let ids_differ = matches!(
        (&first.model.response_id, &second.model.response_id),
        (Some(first), Some(second)) if first != second
    );
    if ids_differ || !overlaps(first, second) || !models_agree(first, second) {
        return false;
    }
    let is_nested = || model_ancestor(index, a) == Some(b) || model_ancestor(index, b) == Some(a);
    // Siblings of one scope are two calls; a call and its second instrumentation have different scopes.
    let are_siblings = || {
        first.span_kind.is_some()
            && second.span_kind.is_some()
            && first.parent_span_id == second.parent_span_id
            && first.scope != second.scope
            && contains_loosely(first, second)
    };
    is_nested() || are_siblings()
}

/// One interval lies within the other, give or take a millisecond of instrumentation.
fn contains_loosely(a: &Observation, b: &Observation) -> bool {
    const EDGE_NS: i64 = 1_000_000;
    let within = |inner: &Observation, outer: &Observation| {
        outer.start_ns - EDGE_NS <= inner.start_ns && inner.end_ns() <= outer.end_ns() + EDGE_NS
    };
    within(a, b) || within(b, a)
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
/// with other counts, is a summary of them and is left out. Never trust a roll-up over its leaves.
fn join_or_demote_parents(index: &Index<'_>, leaves: &[usize], sets: &mut Sets) -> Vec<usize> {
    let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
    for leaf in leaves {
        if let Some(parent) = model_ancestor(index, *leaf) {
            // Hostile parent ids may form a ring: then neither is the parent.
            let is_a_ring = index.ancestors(parent).any(|above| above == *leaf);
            if !is_a_ring && sets.find(parent) != sets.find(*leaf) {
                children.entry(parent).or_default().push(*leaf);
            }
        }
    }
    let mut demoted = Vec::new();
    let mut parents: Vec<_> = children.into_iter().collect();
    parents.sort_unstable();
    for (parent, children) in parents {
        let reporting: Vec<usize> = children
            .iter()
            .copied()
            .filter(|child| index.get(*child).usage.is_chargeable())
            .collect();
        let mut reporting_calls: Vec<usize> = reporting.iter().map(|child| sets.find(*child)).collect();
        reporting_calls.sort_unstable();
        reporting_calls.dedup();
        let parent_reports = index.get(parent).usage.is_chargeable();
        match reporting_calls.len() {
            // Attempts without counts, or an SDK span without them: details of the parent's call.
            0 => children.iter().for_each(|child| sets.join(parent, *child)),
            1 if !parent_reports => children.iter().for_each(|child| sets.join(parent, *child)),
            _ => demoted.push(parent),
        }
    }
    demoted
}

/// True where two records may name the same model: by request or response, without date and vendor prefix.
#[must_use]
pub fn models_agree(a: &Observation, b: &Observation) -> bool {
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
