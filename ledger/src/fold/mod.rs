//! Folding: from the observations of a component to logical calls. One operation, one call.
//!
//! A component is a set of observations that may speak of the same operations: they share a trace, a
//! session or a response id (see [`crate::settle`]). Folding is a pure function of that set: the order of
//! arrival, repeats and restarts cannot change its result. Every rule against double counting has its place
//! here and its name in the documentation (docs/counting.md):
//!
//! | module | rules |
//! |---|---|
//! | [`index`] | repeats of a record; who is whose parent |
//! | [`model_calls`] | one call in several signals; two instrumentations; roll-up parents; failed attempts |
//! | [`counters`] | counters beside events; delta and cumulative |
//! | [`mcp_calls`] | hops of one MCP call |
//! | [`merge`] | which observation a field is taken from; inherited dimensions |
//!
//! It knows no prices: costs are filled in by [`crate::charge`].

pub mod counters;
pub mod index;
pub mod mcp_calls;
pub mod merge;
pub mod model_calls;

use spanledger_model::{Call, CallKind, Observation, Role};

use index::Index;
use merge::Inheritance;

/// What a component folds to.
#[derive(Debug, Default)]
pub struct Folded {
    /// Calls by start, costs still absent.
    pub calls: Vec<Call>,
    /// For each call the index of the call it ran within, where there is one.
    pub parents: Vec<Option<usize>>,
}

/// Observations that make one call, and what sort it is. Indexes are those of an [`Index`].
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub kind: CallKind,
    pub members: Vec<usize>,
    /// False where the group repeats the usage of others: it is a call, but not one that is charged.
    pub keeps_usage: bool,
}

/// Folds the observations of one component.
#[must_use]
pub fn fold(observations: &[Observation]) -> Folded {
    let index = Index::new(observations);
    let mut groups = model_calls::group(&index);
    groups.extend(counters::group(&index, &groups));
    groups.extend(mcp_calls::group(&index));
    groups.extend(agent_runs(&index, &groups));
    let inheritance = Inheritance::new(&index);
    let mut built: Vec<(Call, Group)> = groups
        .into_iter()
        .filter_map(|group| merge::build(&index, &group, &inheritance).map(|call| (call, group)))
        .collect();
    built.sort_by_key(|(call, _)| (call.start_ns, call.call_id));
    let parents = parents(&index, &built);
    Folded {
        calls: built.into_iter().map(|(call, _)| call).collect(),
        parents,
    }
}

/// Agent runs: a frame around calls. Usage it repeats is dropped; usage that no descendant reports is the
/// only record there is of calls the host left out, and is charged as one.
fn agent_runs(index: &Index<'_>, groups: &[Group]) -> Vec<Group> {
    let mut charged = vec![false; index.len()];
    for group in groups
        .iter()
        .filter(|group| group.kind.uses_a_model() && group.keeps_usage)
    {
        let has_usage = group
            .members
            .iter()
            .any(|member| index.get(*member).usage.is_chargeable());
        for member in group.members.iter().filter(|_| has_usage) {
            charged[*member] = true;
        }
    }
    let mut runs = Vec::new();
    for frame in index.all().filter(|frame| index.get(*frame).kind == CallKind::Agent) {
        let observation = index.get(frame);
        if observation.role == Role::Detail {
            continue;
        }
        let is_lone = observation.usage.is_chargeable()
            && !index.all().any(|other| charged[other] && index.is_within(other, frame))
            && !frames_below_report(index, frame);
        let kind = if is_lone { CallKind::Llm } else { CallKind::Agent };
        runs.push(Group {
            kind,
            members: vec![frame],
            keeps_usage: is_lone,
        });
    }
    runs
}

/// True where a nested frame reports usage too: the innermost one is charged.
fn frames_below_report(index: &Index<'_>, frame: usize) -> bool {
    index.all().any(|other| {
        other != frame
            && index.get(other).kind == CallKind::Agent
            && index.get(other).usage.is_chargeable()
            && index.is_within(other, frame)
    })
}

/// The call each call ran within: that of the nearest ancestor span of its anchor in another call.
fn parents(index: &Index<'_>, built: &[(Call, Group)]) -> Vec<Option<usize>> {
    let mut owner = vec![None; index.len()];
    for (position, (_, group)) in built.iter().enumerate() {
        for member in &group.members {
            owner[*member] = Some(position);
        }
    }
    let parent_of = |position: usize, group: &Group| {
        group.members.iter().find_map(|member| {
            let of_log = index.host_span(*member).into_iter();
            let candidates = of_log.chain(index.ancestors(*member));
            candidates
                .filter_map(|ancestor| owner[ancestor])
                .find(|other| *other != position)
        })
    };
    let mut parents: Vec<Option<usize>> = built
        .iter()
        .enumerate()
        .map(|(position, (_, group))| parent_of(position, group))
        .collect();
    break_cycles(&mut parents);
    parents
}

/// Hostile or broken parent ids may form a ring; a total must not run around it.
fn break_cycles(parents: &mut [Option<usize>]) {
    for start in 0..parents.len() {
        let mut steps = 0;
        let mut current = start;
        while let Some(next) = parents[current] {
            steps += 1;
            if next == start || steps > parents.len() {
                parents[current] = None;
                break;
            }
            current = next;
        }
    }
}

#[cfg(test)]
mod tests;
