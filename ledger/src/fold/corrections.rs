//! Corrections: a later record that replaces what a call was said to use or to cost.
//!
//! A correction belongs to the call it names: the same response id, else the same session and model and the
//! nearest earlier end. One whose call is not known (yet) is charged by itself; once the call arrives, the
//! two are one and settlement reverses the lines. Of several corrections of a call the newest holds.

use std::collections::{BTreeMap, HashMap};

use spanledger_model::{CallKind, Role};

use super::Group;
use super::index::Index;
use super::inherit::Inheritance;
use super::joins::{Edge, Joins};
use super::model_calls::models_agree;
use super::rules::Rule;

/// Earlier calls of a session that a correction without an id is compared with, the latest first.
const EARLIER_MAX: usize = 32;

/// Gives each correction to the group of its call; those without one become groups of their own.
pub(crate) fn apply(index: &Index<'_>, inheritance: &Inheritance<'_>, groups: &mut Vec<Group>) {
    let corrections: Vec<usize> = index
        .all()
        .filter(|position| index.get(*position).role == Role::Correction && index.get(*position).kind.uses_a_model())
        .collect();
    if corrections.is_empty() {
        return;
    }
    let mut by_id: HashMap<&str, Vec<(usize, usize)>> = HashMap::new();
    let mut by_session: HashMap<&str, Vec<(i64, usize, usize)>> = HashMap::new();
    for (group, members) in groups.iter().map(|group| &group.members).enumerate() {
        for member in members {
            if let Some(id) = index.get(*member).model.response_id.as_deref() {
                by_id.entry(id).or_default().push((*member, group));
            }
            if let Some(session) = inheritance.session(index, *member) {
                by_session
                    .entry(session)
                    .or_default()
                    .push((index.get(*member).end_ns(), *member, group));
            }
        }
    }
    for calls in by_session.values_mut() {
        calls.sort_unstable();
    }
    let mut lone = Joins::new(index.len());
    let mut lone_by_id: BTreeMap<&str, usize> = BTreeMap::new();
    let mut without_call = Vec::new();
    for correction in corrections {
        let observation = index.get(correction);
        let id = observation.model.response_id.as_deref();
        let named = id.and_then(|id| {
            let calls = by_id.get(id)?;
            let earlier = calls
                .iter()
                .rev()
                .find(|(call, _)| index.get(*call).start_ns <= observation.end_ns());
            earlier.or_else(|| calls.first()).copied()
        });
        let nearest = || {
            let calls = by_session.get(inheritance.session(index, correction)?)?;
            let earlier = calls.partition_point(|(end_ns, _, _)| *end_ns <= observation.end_ns());
            let mut latest = calls[..earlier].iter().rev().take(EARLIER_MAX);
            latest
                .find(|(_, call, _)| models_agree(index.get(*call), observation))
                .map(|(_, call, group)| (*call, *group))
        };
        // An id that no call has names a call that has not arrived: the nearest one is another.
        let call = if id.is_some() { named } else { nearest() };
        if let Some((call, group)) = call {
            groups[group].members.push(correction);
            groups[group].edges.push((call, correction, Rule::Correction));
        } else {
            without_call.push(correction);
            if let Some(id) = id {
                let first = *lone_by_id.entry(id).or_insert(correction);
                if first != correction {
                    lone.join(first, correction, Rule::Correction);
                }
            }
        }
    }
    let parts: Vec<(Vec<usize>, Vec<Edge>)> = lone.parts(without_call.into_iter());
    groups.extend(parts.into_iter().map(|(members, edges)| {
        let kind = members.first().map_or(CallKind::Llm, |member| index.get(*member).kind);
        let mut group = Group::new(kind, members, edges);
        group.own_rule = Some(Rule::Correction);
        group
    }));
}
