//! Lines in force: what charges, reversals and further charges of one kind add up to.
//!
//! Lines that say the same of the same calls, their measures apart, have one [`LineKey`], and what is in force
//! under a key is the sum of all its lines. Wanted sums and those in the lake are compared key by key: new calls
//! of a carried line append what they add to it, anything else that changed is reversed and charged anew.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use spanledger_model::ids::{content_hash, hash_parts};
use spanledger_model::{FemtoUsd, LedgerLine, LineId, LineKind};

use crate::charge::reversal_of;

/// What a line says, its measures apart: for comparison within one process. The version of the price book is
/// left out: a new version that charges the same leaves the line alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LineKey([u8; 16]);

impl LineKey {
    /// The key of a line.
    #[must_use]
    pub fn of(line: &LedgerLine) -> Self {
        // Every field by name, so that a new one is not forgotten here.
        let LedgerLine {
            tenant,
            time_ns,
            line_id: _,
            line_kind: _,
            call_id,
            trace_id,
            span_id,
            dimensions,
            provider,
            model,
            server,
            tool,
            prompt,
            resource_uri,
            cause,
            history,
            touch,
            bucket,
            method,
            n_calls: _,
            tokens,
            quantity,
            list_cost,
            contracted_cost,
            effective_cost,
            price_id,
            price_version: _,
            settled_ns: _,
        } = line;
        Self(content_hash(&(
            (tenant, time_ns, call_id, trace_id, span_id, dimensions),
            (provider, model, server, tool, prompt, resource_uri),
            (cause, history, touch, bucket, method, price_id),
            (
                tokens.is_some(),
                quantity.is_some(),
                list_cost.is_some(),
                contracted_cost.is_some(),
                effective_cost.is_some(),
            ),
        )))
    }
}

/// The sums in force by key. A sum of nothing is not held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines(HashMap<LineKey, LedgerLine>);

impl Lines {
    /// The sums of some lines, reversals included.
    #[must_use]
    pub fn of(lines: impl IntoIterator<Item = LedgerLine>) -> Self {
        let mut sums = Self::default();
        sums.extend(lines);
        sums
    }

    /// Adds lines to the sums.
    pub fn extend(&mut self, lines: impl IntoIterator<Item = LedgerLine>) {
        for line in lines {
            match self.0.entry(LineKey::of(&line)) {
                Entry::Vacant(place) => {
                    if !is_nothing(&line) {
                        place.insert(LedgerLine {
                            line_kind: LineKind::Charge,
                            ..line
                        });
                    }
                }
                Entry::Occupied(mut place) => {
                    add(place.get_mut(), &line);
                    if is_nothing(place.get()) {
                        place.remove();
                    }
                }
            }
        }
    }

    /// Adds the sums of others.
    pub fn absorb(&mut self, others: Self) {
        self.extend(others.0.into_values());
    }

    /// Each sum as one line, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &LedgerLine> {
        self.0.values()
    }

    /// Number of sums.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True where nothing is in force.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lines that make these sums, the ones in the lake, equal to the wanted ones: reversals first, all in
    /// the order of their time. `owner` names the component, for the lines' ids.
    #[must_use]
    pub fn changes_to(&self, wanted: &Self, owner: &[u8], settled_ns: i64) -> Vec<LedgerLine> {
        let mut changes = Vec::new();
        for (key, line) in &self.0 {
            if !wanted.0.contains_key(key) {
                changes.push(reversal_of(line, settled_ns));
            }
        }
        for (key, line) in &wanted.0 {
            match self.0.get(key) {
                None => changes.push(line.clone()),
                Some(actual) if measures(actual) == measures(line) => {}
                Some(actual) => match added_to(actual, line) {
                    Some(added) => changes.push(added),
                    None => changes.extend([reversal_of(actual, settled_ns), line.clone()]),
                },
            }
        }
        let is_charge = |line: &LedgerLine| line.line_kind == LineKind::Charge;
        changes.sort_by_cached_key(|line| {
            (
                line.time_ns,
                line.call_id,
                is_charge(line),
                line.bucket,
                LineKey::of(line),
            )
        });
        number(&mut changes, owner, settled_ns);
        changes
    }
}

/// Gives lines their ids: when and for which component they were settled, and a running number. Lines of one
/// settlement share all but the last digits, which a column file stores in next to nothing.
fn number(lines: &mut [LedgerLine], owner: &[u8], settled_ns: i64) {
    let owner = hash_parts(&[owner]);
    let settled_us = settled_ns.div_euclid(1_000).to_be_bytes();
    for (line, number) in lines.iter_mut().zip(1_u32..) {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&settled_us);
        id[8..12].copy_from_slice(&owner[..4]);
        id[12..].copy_from_slice(&number.to_be_bytes());
        line.line_id = LineId(id);
        line.settled_ns = settled_ns.div_euclid(1_000) * 1_000;
    }
}

type Measures = (i64, Option<i64>, Option<i64>, [Option<FemtoUsd>; 3]);

fn measures(line: &LedgerLine) -> Measures {
    (
        line.n_calls,
        line.tokens,
        line.quantity,
        [line.list_cost, line.contracted_cost, line.effective_cost],
    )
}

fn is_nothing(line: &LedgerLine) -> bool {
    let (n_calls, tokens, quantity, costs) = measures(line);
    let is_zero = |cost: &Option<FemtoUsd>| cost.is_none_or(|cost| cost == FemtoUsd::ZERO);
    n_calls == 0 && tokens.unwrap_or(0) == 0 && quantity.unwrap_or(0) == 0 && costs.iter().all(is_zero)
}

fn add(sum: &mut LedgerLine, line: &LedgerLine) {
    let costs = |sum: Option<FemtoUsd>, cost: Option<FemtoUsd>| Some(sum? + cost?);
    sum.n_calls += line.n_calls;
    sum.tokens = sum
        .tokens
        .zip(line.tokens)
        .map(|(sum, tokens)| sum.saturating_add(tokens));
    sum.quantity = sum
        .quantity
        .zip(line.quantity)
        .map(|(sum, quantity)| sum.saturating_add(quantity));
    sum.list_cost = costs(sum.list_cost, line.list_cost);
    sum.contracted_cost = costs(sum.contracted_cost, line.contracted_cost);
    sum.effective_cost = costs(sum.effective_cost, line.effective_cost);
}

/// What more calls have added to a carried line: nothing of it became less.
fn added_to(actual: &LedgerLine, wanted: &LedgerLine) -> Option<LedgerLine> {
    if actual.call_id.is_some() || wanted.n_calls <= actual.n_calls {
        return None;
    }
    let mut added = wanted.clone();
    let mut taken_off = reversal_of(actual, actual.settled_ns);
    taken_off.line_kind = LineKind::Charge;
    add(&mut added, &taken_off);
    let (_, tokens, quantity, costs) = measures(&added);
    let is_less = |cost: &Option<FemtoUsd>| cost.is_some_and(|cost| cost < FemtoUsd::ZERO);
    let has_less = tokens.is_some_and(|tokens| tokens < 0) || quantity.is_some_and(|quantity| quantity < 0);
    (!has_less && !costs.iter().any(is_less)).then_some(added)
}
