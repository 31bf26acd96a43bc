//! Planning: what has to change in `calls` and `ledger` for a component.
//!
//! The desired state is a pure function of the component's observations (fold, charge); the actual state is
//! what the lake holds. The plan is their difference, so making it again after a crash between two commits
//! gives exactly what is still missing.

use std::collections::HashMap;
use std::sync::Arc;

use spanledger_model::{Call, CallId, FemtoUsd, LedgerLine, Observation, TenantId};

use super::components::{Component, SettledCall};
use super::lines::Lines;
use crate::allocation::RuleSet;
use crate::attribution::{Policy, book_lines, divide_charges};
use crate::charge::{Charge, charge};
use crate::fold::{Context, Folded, fold_in};
use crate::prices::PriceBook;

/// What calls are charged by.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The prices.
    pub book: Arc<PriceBook>,
    /// Whose calls are where their records do not say.
    pub rules: Arc<RuleSet>,
    /// How input cost is divided.
    pub policy: Policy,
}

impl From<Arc<PriceBook>> for Terms {
    fn from(book: Arc<PriceBook>) -> Self {
        Self {
            book,
            rules: Arc::default(),
            policy: Policy::default(),
        }
    }
}

impl From<(Arc<PriceBook>, Arc<RuleSet>)> for Terms {
    fn from((book, rules): (Arc<PriceBook>, Arc<RuleSet>)) -> Self {
        Self {
            rules,
            ..Self::from(book)
        }
    }
}

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
    /// Its charges.
    pub lines: Lines,
}

/// Folds and charges a component: its calls with their costs, and the charge of each as a whole.
fn charged(observations: &[Observation], context: &Context, terms: &Terms, settled_ns: i64) -> (Folded, Vec<Charge>) {
    let mut folded = fold_in(observations, context);
    folded.calls.iter_mut().for_each(|call| terms.rules.apply(call));
    let charges: Vec<Charge> = folded
        .calls
        .iter()
        .map(|call| charge(call, &terms.book, settled_ns))
        .collect();
    let totals = totals(&charges, &folded.parents);
    for ((call, charge), total) in folded.calls.iter_mut().zip(&charges).zip(totals) {
        call.own_cost = charge.own_cost;
        call.total_cost = total;
    }
    (folded, charges)
}

/// The calls of a component, each with its lines divided call by call: what it cost, and who caused it. The ledger
/// holds the same amounts, what calls send again by the hour ([`desired`]).
#[must_use]
pub fn divided(observations: &[Observation], context: &Context, terms: &Terms) -> Vec<(Call, Vec<LedgerLine>)> {
    let (folded, mut charges) = charged(observations, context, terms, 0);
    divide_charges(&folded, observations, &mut charges, terms.policy);
    let lines = charges.into_iter().map(|charge| charge.lines);
    folded.calls.into_iter().zip(lines).collect()
}

/// What a component demands of the lake.
#[must_use]
pub fn desired(component: &Component, context: &Context, terms: &Terms, settled_ns: i64) -> Desired {
    let (folded, charges) = charged(&component.observations, context, terms, settled_ns);
    let lines = book_lines(&folded, &component.observations, charges, terms.policy);
    Desired {
        calls: folded.calls.into_iter().map(|call| (call.call_id, call)).collect(),
        lines: Lines::of(lines),
    }
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
    /// Its charges in force.
    pub lines: Lines,
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
    // Any call's identity will do: it only has to tell the components of one settlement apart.
    let owner = calls
        .keys()
        .min()
        .or(component.calls.keys().min())
        .copied()
        .unwrap_or_default();
    plan.lines = component.lines.changes_to(&desired.lines, owner.as_bytes(), settled_ns);
    let lines = desired.lines;
    (plan, Settled { calls, lines })
}
