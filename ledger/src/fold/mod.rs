//! Folding: from the observations of a component to logical calls. One operation, one call.
//!
//! A component is a set of observations that may speak of the same operations: they share a trace, a
//! session or a response id (see [`crate::settle`]). Folding is a pure function of that set, and of what
//! [`Context`] knows beyond it: the order of arrival, repeats and restarts cannot change its result. Every
//! rule against double counting has its place here, its name in [`rules`] and its page in the documentation
//! (docs/counting.md):
//!
//! | module | what it decides |
//! |---|---|
//! | [`index`] | repeats of a record; who is whose parent |
//! | [`model_calls`] | one call in several signals; two instrumentations; gateway and client; failed attempts |
//! | [`rollups`] | frames that repeat their descendants |
//! | [`corrections`] | later settlements of a call |
//! | [`counters`], [`coverage`] | counters beside events; delta and cumulative; metrics that repeat each other |
//! | [`mcp_calls`], [`names`] | hops of one MCP call; one tool in many spellings |
//! | [`merge`], [`mcp_fields`], [`inherit`] | which observation a field is taken from; inherited dimensions |
//! | [`explain`], [`hops`] | the same, told to people: record by record, hop by hop |
//!
//! It knows no prices: costs are filled in by [`crate::charge`].

pub mod context;
mod corrections;
mod counters;
pub mod coverage;
pub mod explain;
pub mod hops;
pub mod index;
mod inherit;
mod joins;
pub mod mcp_calls;
mod mcp_fields;
mod merge;
pub mod model_calls;
pub mod names;
mod rollups;
pub mod rules;

use std::collections::HashSet;

use spanledger_model::{Call, CallKind, Observation};

pub use context::Context;
pub use explain::{Explained, FieldSource, LeftOut, Member, explain, explain_in};
pub use hops::{HopTiming, hops_of};
pub use rules::Rule;

use index::Index;
use inherit::Inheritance;
use joins::Edge;

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
    /// The joins that hold the members together.
    pub edges: Vec<Edge>,
    /// The rule by which the group is a call at all, where it is not simply one.
    pub own_rule: Option<Rule>,
    /// Records that repeat this call.
    pub left_out: Vec<Repeat>,
    /// False where the group repeats the usage of others: it is a call, but not one that is charged.
    pub keeps_usage: bool,
}

/// A record that repeats a call, and why it is not counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Repeat {
    pub position: usize,
    pub rule: Rule,
}

impl Group {
    pub(crate) fn new(kind: CallKind, members: Vec<usize>, edges: Vec<Edge>) -> Self {
        Self {
            kind,
            members,
            edges,
            own_rule: None,
            left_out: Vec::new(),
            keeps_usage: true,
        }
    }

    /// The members that are attempts which failed before the call succeeded.
    pub(crate) fn failed_attempts(&self) -> HashSet<usize> {
        let attempts = self.edges.iter().filter(|(_, _, rule)| *rule == Rule::FailedAttempt);
        attempts.map(|(_, attempt, _)| *attempt).collect()
    }
}

/// Folds the observations of one component, which is all there is.
#[must_use]
pub fn fold(observations: &[Observation]) -> Folded {
    fold_in(observations, &Context::of(observations))
}

/// Folds the observations of one component among others.
#[must_use]
pub fn fold_in(observations: &[Observation], context: &Context) -> Folded {
    let index = Index::new(observations);
    let built = build(&index, context);
    let parents = parents(&index, &built);
    Folded {
        calls: built.into_iter().map(|(call, _)| call).collect(),
        parents,
    }
}

/// The calls by start, each with the group it was built from.
pub(crate) fn build(index: &Index<'_>, context: &Context) -> Vec<(Call, Group)> {
    let inheritance = Inheritance::new(index);
    let mut groups = model_calls::group(index, &inheritance);
    corrections::apply(index, &inheritance, &mut groups);
    rollups::add(index, &inheritance, &mut groups);
    counters::add(index, &context.coverage, &mut groups);
    groups.extend(mcp_calls::group(index, &inheritance));
    let mut built: Vec<(Call, Group)> = groups
        .into_iter()
        .filter_map(|group| merge::build(index, &group, &inheritance, context).map(|call| (call, group)))
        .collect();
    built.sort_by_key(|(call, _)| (call.start_ns, call.call_id));
    built
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
            index
                .ancestors(*member)
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
    // Each position is walked over once: 0 for unseen, else the walk that saw it.
    let mut seen_by = vec![0; parents.len()];
    for start in 0..parents.len() {
        let walk = start + 1;
        let mut current = start;
        while seen_by[current] == 0 {
            seen_by[current] = walk;
            let Some(next) = parents[current] else { break };
            if seen_by[next] == walk {
                parents[current] = None;
                break;
            }
            current = next;
        }
    }
}

#[cfg(test)]
mod tests;
