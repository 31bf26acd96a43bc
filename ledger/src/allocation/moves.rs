//! What a rule set would move, in money, over calls as they stand: the preview of a change.
//!
//! Takes back what rules set on each call and applies the rules that are looked at: what `settle --rebuild` would
//! write with them, without folding or charging again. A call's whole cost moves with it. Reads nothing itself:
//! whoever asks adds the calls.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use spanledger_model::{Call, FemtoUsd};

use super::{Assignment, RuleSet, Target, UNALLOCATED};
use crate::error::{Error, Result};

/// Calls and what they cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls.
    pub n_calls: i64,
    /// Their own cost in USD.
    pub cost: FemtoUsd,
}

impl Tally {
    fn add(&mut self, call: &Call) -> Result<()> {
        self.n_calls += 1;
        self.cost = self
            .cost
            .checked_add(call.own_cost.unwrap_or_default())
            .ok_or_else(|| Error::internal("the sum of the costs is out of range"))?;
        Ok(())
    }
}

/// One move: calls whose dimension would have another value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// Dimension.
    pub target: Target,
    /// Value that stands there.
    pub from: Option<String>,
    /// Value that would.
    pub to: Option<String>,
    /// Rule that decides; absent where the records do.
    pub rule: Option<String>,
}

/// What a rule set would move.
#[derive(Debug)]
pub struct Moves<'r> {
    set: &'r RuleSet,
    all: Tally,
    moves: BTreeMap<Move, Tally>,
    by_rule: BTreeMap<String, Tally>,
    /// What no record and no rule tells: before and after.
    unallocated: BTreeMap<Target, (Tally, Tally)>,
}

impl<'r> Moves<'r> {
    /// Nothing looked at yet.
    #[must_use]
    pub fn new(set: &'r RuleSet) -> Self {
        Self {
            set,
            all: Tally::default(),
            moves: BTreeMap::new(),
            by_rule: BTreeMap::new(),
            unallocated: BTreeMap::new(),
        }
    }

    /// Adds a call as it is settled.
    ///
    /// # Errors
    /// Kind internal where a sum is out of range.
    pub fn add(&mut self, before: &Call) -> Result<()> {
        let mut after = before.clone();
        self.set.apply(&mut after);
        self.all.add(before)?;
        let assignments = Assignment::parse_list(after.allocated_by.as_deref().unwrap_or_default());
        let mut rules: Vec<&str> = assignments.iter().map(|done| done.rule.as_str()).collect();
        rules.sort_unstable();
        rules.dedup();
        for rule in rules {
            self.by_rule.entry(rule.to_owned()).or_default().add(before)?;
        }
        for target in Target::ALL {
            let (from, to) = (target.of(&before.dimensions), target.of(&after.dimensions));
            let unallocated = self.unallocated.entry(target).or_default();
            if from.is_none() {
                unallocated.0.add(before)?;
            }
            if to.is_none() {
                unallocated.1.add(before)?;
            }
            if from != to {
                let rule = assignments.iter().find(|done| done.target == target);
                let key = Move {
                    target,
                    from: from.map(str::to_owned),
                    to: to.map(str::to_owned),
                    rule: rule.map(|done| done.rule.clone()),
                };
                self.moves.entry(key).or_default().add(before)?;
            }
        }
        Ok(())
    }

    /// Everything that was looked at.
    #[must_use]
    pub fn all(&self) -> Tally {
        self.all
    }

    /// What a rule decides.
    #[must_use]
    pub fn of_rule(&self, name: &str) -> Tally {
        self.by_rule.get(name).copied().unwrap_or_default()
    }

    /// What no record and no rule tells, by dimension: before and after.
    pub fn unallocated(&self) -> impl Iterator<Item = (Target, Tally, Tally)> + '_ {
        self.unallocated
            .iter()
            .map(|(target, (before, after))| (*target, *before, *after))
    }

    /// What moves, by dimension, dearest first, as rows of `dimension, from, to, rule, calls, cost`.
    #[must_use]
    pub fn rows(&self) -> Vec<Value> {
        let mut moves: Vec<(&Move, &Tally)> = self.moves.iter().collect();
        moves.sort_by(|a, b| {
            let by_cost = b.1.cost.cmp(&a.1.cost);
            a.0.target.cmp(&b.0.target).then(by_cost).then(a.0.cmp(b.0))
        });
        let name = |value: &Option<String>| value.clone().unwrap_or_else(|| UNALLOCATED.to_owned());
        let row = |(moved, tally): (&Move, &Tally)| {
            json!({
                "dimension": moved.target.as_str(), "from": name(&moved.from), "to": name(&moved.to),
                "rule": moved.rule.as_deref().unwrap_or("(the records)"),
                "calls": tally.n_calls, "cost": tally.cost.to_string(),
            })
        };
        moves.into_iter().map(row).collect()
    }

    /// Everything, for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let tally = |tally: &Tally| json!({ "calls": tally.n_calls, "cost": tally.cost.to_string() });
        let rules = self.set.rules().iter().map(|rule| {
            let mut row = tally(&self.of_rule(&rule.name));
            row["rule"] = rule.name.clone().into();
            row
        });
        let unallocated = self.unallocated().map(
            |(target, before, after)| json!({ "dimension": target.as_str(), "before": tally(&before), "after": tally(&after) }),
        );
        json!({
            "version": self.set.version(), "calls": self.all.n_calls, "cost": self.all.cost.to_string(), "currency": "USD",
            "moves": self.rows(), "rules": rules.collect::<Vec<_>>(), "unallocated": unallocated.collect::<Vec<_>>(),
        })
    }
}
