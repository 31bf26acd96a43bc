//! Frames: agent and workflow runs, turns, and model spans that only repeat the calls they contain.
//!
//! A frame's usage is left out where anything below it reports, whatever its keys are called: a roll-up is
//! never trusted over its leaves. Where nothing below reports, the emitter dropped its leaves, and the
//! innermost frame's usage is the only record there is: it is charged as one call.

use std::collections::HashMap;

use spanledger_model::{CallKind, Observation, Role, Status};

use super::index::{CLOCK_SLACK_NS, Index};
use super::inherit::Inheritance;
use super::model_calls::models_agree;
use super::rules::Rule;
use super::{Group, Repeat};

/// Calls of a session that a frame is compared with.
const CALLS_MAX: usize = 256;

/// Adds the frames to the groups of model calls.
pub(crate) fn add(index: &Index<'_>, inheritance: &Inheritance<'_>, groups: &mut Vec<Group>) {
    let frames: Vec<usize> = index.all().filter(|frame| is_frame(index.get(*frame))).collect();
    if frames.is_empty() {
        return;
    }
    let below = Below::new(index, inheritance, groups, &frames);
    for frame in frames {
        let observation = index.get(frame);
        let reports = observation.usage.is_chargeable();
        let covered_by = below.call_of(index, inheritance, frame);
        let is_lone = reports && covered_by.is_none() && !below.frame_reports[frame];
        if observation.kind == CallKind::Agent {
            let kind = if is_lone { CallKind::Llm } else { CallKind::Agent };
            let mut run = Group::new(kind, vec![frame], Vec::new());
            run.keeps_usage = is_lone;
            run.own_rule = match (is_lone, reports) {
                (true, _) => Some(Rule::LoneRollup),
                (false, true) => Some(Rule::RollupParent),
                (false, false) => None,
            };
            groups.push(run);
        } else if is_lone {
            charge_alone(index, groups, frame, &below);
        } else if let Some(call) = covered_by.filter(|_| reports) {
            groups[call].left_out.push(Repeat {
                position: frame,
                rule: Rule::RollupParent,
            });
        } else if !reports && !below.has_leaves[frame] {
            // Not even a failed call below: the frame is all that is known of one.
            groups.push(Group::new(observation.kind, vec![frame], Vec::new()));
        }
    }
}

fn is_frame(observation: &Observation) -> bool {
    match observation.role {
        Role::Detail | Role::CounterDelta | Role::CounterCumulative | Role::Correction => false,
        Role::Rollup => observation.kind == CallKind::Agent || observation.kind.uses_a_model(),
        Role::Leaf => observation.kind == CallKind::Agent,
    }
}

/// A model span whose only call below tells no counts is that call; else it is one by itself.
fn charge_alone(index: &Index<'_>, groups: &mut Vec<Group>, frame: usize, below: &Below<'_>) {
    if let Some([call]) = below.silent.get(&frame).map(Vec::as_slice)
        && let Some(first) = groups[*call].members.first().copied()
    {
        groups[*call].edges.push((first, frame, Rule::LoneRollup));
        groups[*call].members.push(frame);
        return;
    }
    let mut lone = Group::new(index.get(frame).kind, vec![frame], Vec::new());
    lone.own_rule = Some(Rule::LoneRollup);
    groups.push(lone);
}

/// What reports below each frame.
struct Below<'o> {
    /// For each position the group of a charged call below it.
    call: Vec<Option<usize>>,
    /// True where a frame below reports.
    frame_reports: Vec<bool>,
    /// True where there is any record of a model call below.
    has_leaves: Vec<bool>,
    /// For each model frame the groups of calls below it that tell neither counts nor a failure.
    silent: HashMap<usize, Vec<usize>>,
    /// Charged records by session, in time, with their groups.
    sessions: HashMap<&'o str, Vec<(i64, usize, usize)>>,
}

impl<'o> Below<'o> {
    fn new(index: &Index<'o>, inheritance: &Inheritance<'o>, groups: &[Group], frames: &[usize]) -> Self {
        let mut below = Self {
            call: vec![None; index.len()],
            frame_reports: vec![false; index.len()],
            has_leaves: vec![false; index.len()],
            silent: HashMap::new(),
            sessions: HashMap::new(),
        };
        for (position, group) in groups.iter().enumerate() {
            let is_charged = group.keeps_usage
                && group
                    .members
                    .iter()
                    .any(|member| index.get(*member).usage.is_chargeable());
            let is_silent = group.members.iter().all(|member| {
                let record = index.get(*member);
                !record.usage.is_chargeable() && record.status != Status::Error
            });
            if let Some(first) = group.members.first().filter(|_| is_silent) {
                let is_model_frame =
                    |above: &usize| is_frame(index.get(*above)) && index.get(*above).kind.uses_a_model();
                if let Some(frame) = index.ancestors(*first).find(is_model_frame) {
                    below.silent.entry(frame).or_default().push(position);
                }
            }
            for member in &group.members {
                for above in index.ancestors(*member) {
                    if below.has_leaves[above] && (!is_charged || below.call[above].is_some()) {
                        break;
                    }
                    below.has_leaves[above] = true;
                    if is_charged && below.call[above].is_none() {
                        below.call[above] = Some(position);
                    }
                }
                if is_charged && let Some(session) = inheritance.session(index, *member) {
                    let calls = below.sessions.entry(session).or_default();
                    calls.push((index.get(*member).end_ns(), *member, position));
                }
            }
        }
        for calls in below.sessions.values_mut() {
            calls.sort_unstable();
        }
        for frame in frames.iter().filter(|frame| index.get(**frame).usage.is_chargeable()) {
            for above in index.ancestors(*frame) {
                if above == *frame || std::mem::replace(&mut below.frame_reports[above], true) {
                    break;
                }
            }
        }
        below
    }

    /// The group of a charged call that a frame repeats: below it, or for records of another trace or none,
    /// in its session and time.
    fn call_of(&self, index: &Index<'o>, inheritance: &Inheritance<'o>, frame: usize) -> Option<usize> {
        if self.call[frame].is_some() {
            return self.call[frame];
        }
        let outer = index.get(frame);
        let calls = self.sessions.get(inheritance.session(index, frame)?)?;
        let from = calls.partition_point(|(end_ns, _, _)| *end_ns < outer.start_ns);
        calls[from..]
            .iter()
            .take(CALLS_MAX)
            .take_while(|(end_ns, _, _)| *end_ns <= outer.end_ns().saturating_add(CLOCK_SLACK_NS))
            .find(|(_, member, _)| {
                let inner = index.get(*member);
                inner.trace_id != outer.trace_id && models_agree(inner, outer)
            })
            .map(|(_, _, group)| *group)
    }
}
