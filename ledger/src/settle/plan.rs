//! Planning: what has to change in `calls` and `ledger` for a component.
//!
//! The desired state is a pure function of the component's observations (fold, charge); the actual state is
//! what the lake holds. The plan is their difference, so making it again after a crash between two commits
//! gives exactly what is still missing.

use std::collections::{BTreeMap, HashMap};

use spanledger_model::{Call, CallId, FemtoUsd, LedgerLine, LineKind, TenantId};

use super::components::{Component, SettledCall};
use crate::attribution::{Policy, divide_charges};
use crate::charge::{Charge, charge, content_of, reversal_of};
use crate::fold::{Context, fold_in};
use crate::prices::PriceBook;

/// Changes to the lake.
#[derive(Debug, Default)]
pub struct Plan {
    /// Rows to write: new calls and changed ones.
    pub calls: Vec<Call>,
    /// Rows to take out: changed calls and ones that are part of others now.
    pub outdated: Vec<Outdated>,
    /// Lines to append: charges and reversals.
    pub lines: Vec<LedgerLine>,
}

/// A row of `calls` that is not true any more, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outdated {
    /// Its owner.
    pub tenant: TenantId,
    /// Its identity.
    pub call_id: CallId,
    /// Its start, nanoseconds since the Unix epoch.
    pub start_ns: i64,
}

impl Plan {
    /// True where nothing has to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.outdated.is_empty() && self.lines.is_empty()
    }

    /// Adds another plan.
    pub fn extend(&mut self, other: Self) {
        self.calls.extend(other.calls);
        self.outdated.extend(other.outdated);
        self.lines.extend(other.lines);
    }
}

/// What a component should look like in the lake.
#[derive(Debug, Default)]
pub struct Desired {
    /// Its calls, with costs.
    pub calls: HashMap<CallId, Call>,
    /// Its charges, by call.
    pub lines: HashMap<CallId, Vec<LedgerLine>>,
}

/// Folds and charges a component.
#[must_use]
pub fn desired(component: &Component, context: &Context, book: &PriceBook, settled_ns: i64) -> Desired {
    let mut folded = fold_in(&component.observations, context);
    let mut charges: Vec<Charge> = folded.calls.iter().map(|call| charge(call, book, settled_ns)).collect();
    divide_charges(&folded, &component.observations, &mut charges, Policy::Prefix);
    let totals = totals(&charges, &folded.parents);
    let mut desired = Desired::default();
    for ((call, charge), total) in folded.calls.iter_mut().zip(charges).zip(totals) {
        call.own_cost = charge.own_cost;
        call.total_cost = total;
        if !charge.lines.is_empty() {
            desired.lines.insert(call.call_id, charge.lines);
        }
    }
    desired.calls = folded.calls.into_iter().map(|call| (call.call_id, call)).collect();
    desired
}

/// Own cost and that of everything below; absent where none of it has a cost.
fn totals(charges: &[Charge], parents: &[Option<usize>]) -> Vec<Option<FemtoUsd>> {
    let mut totals: Vec<Option<FemtoUsd>> = vec![None; charges.len()];
    for (position, charge) in charges.iter().enumerate() {
        let Some(cost) = charge.own_cost else { continue };
        let mut current = Some(position);
        while let Some(at) = current {
            totals[at] = Some(totals[at].unwrap_or_default() + cost);
            current = parents[at];
        }
    }
    totals
}

/// What is remembered of a component once its plan is in the lake.
#[derive(Debug, Default)]
pub struct Settled {
    /// Its calls.
    pub calls: HashMap<CallId, SettledCall>,
    /// Its charges in force, by call.
    pub lines: HashMap<CallId, Vec<LedgerLine>>,
}

/// The difference between what should be and what is, and what to remember once it is made.
#[must_use]
pub fn difference(component: &Component, desired: Desired, settled_ns: i64) -> (Plan, Settled) {
    let mut plan = Plan::default();
    let tenant = component.observations.first().map(|observation| &observation.tenant);
    let outdated = |call_id: &CallId, settled: &SettledCall| {
        Some(Outdated {
            tenant: tenant?.clone(),
            call_id: *call_id,
            start_ns: settled.start_ns,
        })
    };
    let gone = component
        .calls
        .iter()
        .filter(|(call_id, _)| !desired.calls.contains_key(call_id));
    plan.outdated
        .extend(gone.filter_map(|(call_id, settled)| outdated(call_id, settled)));
    let mut calls = HashMap::with_capacity(desired.calls.len());
    for (call_id, call) in desired.calls {
        let wanted = SettledCall::of(&call);
        let actual = component.calls.get(&call_id);
        if actual.is_none_or(|actual| *actual != wanted) {
            plan.outdated
                .extend(actual.and_then(|actual| outdated(&call_id, actual)));
            plan.calls.push(call);
        }
        calls.insert(call_id, wanted);
    }
    let empty = Vec::new();
    let mut call_ids: Vec<&CallId> = desired.lines.keys().chain(component.lines.keys()).collect();
    call_ids.sort_unstable();
    call_ids.dedup();
    for call_id in call_ids {
        let wanted = desired.lines.get(call_id).unwrap_or(&empty);
        let actual = component.lines.get(call_id).unwrap_or(&empty);
        plan.lines.extend(line_changes(wanted, actual, settled_ns));
    }
    let lines = desired.lines;
    (plan, Settled { calls, lines })
}

/// Reversals of the charges that are no longer wanted, then the charges that are missing.
fn line_changes(wanted: &[LedgerLine], actual: &[LedgerLine], settled_ns: i64) -> Vec<LedgerLine> {
    let mut missing: BTreeMap<[u8; 16], Vec<&LedgerLine>> = BTreeMap::new();
    for line in wanted {
        missing.entry(content_of(line)).or_default().push(line);
    }
    let mut changes = Vec::new();
    for line in actual {
        let is_kept = missing
            .get_mut(&content_of(line))
            .is_some_and(|same| same.pop().is_some());
        if !is_kept {
            changes.push(reversal_of(line, settled_ns));
        }
    }
    changes.extend(missing.into_values().flatten().cloned());
    changes
}

/// The charges in force among all lines of a call: those that no reversal takes back.
#[must_use]
pub fn in_force(lines: Vec<LedgerLine>) -> Vec<LedgerLine> {
    let mut reversed: HashMap<[u8; 16], usize> = HashMap::new();
    for line in lines.iter().filter(|line| line.line_kind == LineKind::Reversal) {
        *reversed.entry(content_of(line)).or_default() += 1;
    }
    let mut charges: Vec<LedgerLine> = lines
        .into_iter()
        .filter(|line| line.line_kind == LineKind::Charge)
        .collect();
    charges.sort_by_key(|line| line.settled_ns);
    charges.retain(|line| match reversed.get_mut(&content_of(line)) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
    charges
}
