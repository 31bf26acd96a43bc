//! The split of shared costs over the values of a dimension, exactly.
//!
//! A pure function of the shared costs, a period and the usage in it: the parts of each cost are integers of
//! 10⁻¹⁵ USD that sum to its amount, what division leaves over going to the largest remainders, the first name
//! among equals. Costs are taken in their order; one with pools gives a stated percentage to later ones, which
//! split it on with their own amount (step-down), and never gets anything back.
//!
//! Who bears: of an even split everybody who has usage in the period, of a proportional one who has weight, of a
//! fixed one who is named. Usage of nobody known keeps its proportional share as [`UNALLOCATED`], and is no party
//! to an even split. A cost that nobody bears, or that is stated for another dimension, is [`UNALLOCATED`] whole.

use std::collections::{BTreeMap, BTreeSet};

use spanledger_model::FemtoUsd;
use spanledger_model::money::split_by_largest_remainder;

use super::UNALLOCATED;
use super::shared::{HUNDRED, Method, Period, SharedCost, Weight};

/// Largest weight: sums of any number of them stay within 128 bits.
const WEIGHT_MAX: u128 = 1 << 100;

/// Usage of one value of the dimension in the period, with what conditions may ask of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Value of the dimension; absent where there is none.
    pub value: Option<String>,
    /// What conditions ask, by field name; a field that is not there has no value.
    pub fields: BTreeMap<&'static str, String>,
    /// Direct effective cost.
    pub cost: FemtoUsd,
    /// Tokens.
    pub tokens: i64,
    /// Calls.
    pub calls: i64,
    /// Calls of a model.
    pub llm_calls: i64,
    /// Calls of a tool.
    pub tool_calls: i64,
}

/// What one value bears of one shared cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Shared cost.
    pub cost: String,
    /// Value of the dimension, or [`UNALLOCATED`].
    pub value: String,
    /// Its part.
    pub amount: FemtoUsd,
    /// Its weight, in USD or in counts, as a decimal; absent where there are none.
    pub weight: Option<FemtoUsd>,
}

/// What became of one shared cost: `amount + received = passed_on + Σ shares`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Shared cost.
    pub cost: String,
    /// What falls on the period.
    pub amount: FemtoUsd,
    /// What earlier costs gave it.
    pub received: FemtoUsd,
    /// What it gave to later ones.
    pub passed_on: FemtoUsd,
    /// Sum of the weights.
    pub weight_total: Option<FemtoUsd>,
    /// The parts, by name.
    pub shares: Vec<Share>,
}

/// Splits what falls on a period over a dimension. The pools stand in the order of the costs; those that do not
/// hold in the period are left out.
#[must_use]
pub fn split(shared: &[SharedCost], period: Period, dimension: &str, usage: &[Usage]) -> Vec<Pool> {
    let held: Vec<(&SharedCost, FemtoUsd)> = shared
        .iter()
        .filter_map(|cost| Some((cost, cost.amount_in(period)?)))
        .collect();
    let mut received = vec![0i128; held.len()];
    let mut pools = Vec::with_capacity(held.len());
    for (at, (cost, amount)) in held.iter().enumerate() {
        let whole = amount.0.saturating_add(received[at]);
        // What goes to costs that do not hold in the period stays here.
        let later: Vec<(usize, u128)> = cost
            .pools
            .iter()
            .filter_map(|(name, percent)| {
                let to = held.iter().position(|(other, _)| other.name == *name)?;
                Some((to, *percent))
            })
            .collect();
        let rest = HUNDRED.saturating_sub(later.iter().map(|(_, percent)| *percent).sum());
        let weights: Vec<u128> = later.iter().map(|(_, percent)| *percent).chain([rest]).collect();
        let mut parts = split_by_largest_remainder(whole, &weights);
        let own = parts.pop().unwrap_or(whole);
        for ((to, _), part) in later.iter().zip(&parts) {
            received[*to] = received[*to].saturating_add(*part);
        }
        let bearers = bearers(cost, dimension, usage);
        pools.push(Pool {
            cost: cost.name.clone(),
            amount: *amount,
            received: FemtoUsd(received[at]),
            passed_on: FemtoUsd(parts.iter().sum()),
            weight_total: bearers.weight_total(),
            shares: bearers.shares(&cost.name, own),
        });
    }
    pools
}

/// Who bears a cost, with weights; `shown` is false where the weights mean nothing to a reader.
struct Bearers {
    weights: BTreeMap<String, u128>,
    shown: bool,
}

impl Bearers {
    fn of(weights: impl IntoIterator<Item = (String, u128)>, shown: bool) -> Self {
        Self {
            weights: weights.into_iter().collect(),
            shown,
        }
    }

    fn nobody() -> Self {
        Self::of([(UNALLOCATED.to_owned(), 1)], false)
    }

    fn is_empty(&self) -> bool {
        self.weights.values().all(|weight| *weight == 0)
    }

    fn shown(&self, weight: u128) -> Option<FemtoUsd> {
        self.shown.then(|| i128::try_from(weight).ok().map(FemtoUsd)).flatten()
    }

    fn weight_total(&self) -> Option<FemtoUsd> {
        self.shown(self.weights.values().sum())
    }

    fn shares(&self, cost: &str, amount: i128) -> Vec<Share> {
        let weights: Vec<u128> = self.weights.values().copied().collect();
        let parts = split_by_largest_remainder(amount, &weights);
        let shares = self.weights.iter().zip(parts).map(|((value, weight), part)| Share {
            cost: cost.to_owned(),
            value: value.clone(),
            amount: FemtoUsd(part),
            weight: self.shown(*weight),
        });
        shares.collect()
    }
}

fn bearers(cost: &SharedCost, dimension: &str, usage: &[Usage]) -> Bearers {
    if cost.by.as_deref().is_some_and(|by| by != dimension) {
        return Bearers::nobody();
    }
    let may = |name: &str| {
        (cost.among.is_empty() || cost.among.iter().any(|among| among == name))
            && !cost.except.iter().any(|except| except == name)
    };
    // Whoever is named bears although it has no usage.
    let known: BTreeSet<&str> = usage
        .iter()
        .filter_map(|row| row.value.as_deref())
        .chain(cost.among.iter().map(String::as_str))
        .filter(|name| may(name))
        .collect();
    let even = || Bearers::of(known.iter().map(|name| ((*name).to_owned(), 1)), false);
    let weighed = match &cost.method {
        Method::Even => even(),
        Method::Fixed(shares) => Bearers::of(
            shares
                .iter()
                .filter(|(name, _)| may(name))
                .map(|(name, weight)| (name.clone(), (*weight).min(WEIGHT_MAX))),
            true,
        ),
        Method::Proportional(weight) => {
            let mut weights: BTreeMap<String, i128> = BTreeMap::new();
            for row in usage.iter().filter(|row| counts(cost, row)) {
                let name = row.value.as_deref().unwrap_or(UNALLOCATED);
                if may(name) {
                    let sum = weights.entry(name.to_owned()).or_default();
                    *sum = sum.saturating_add(measure(row, *weight));
                }
            }
            // A sum below zero, of reversals whose charges lie in another period, is no claim to a refund.
            let weight = |sum: i128| u128::try_from(sum).unwrap_or(0).min(WEIGHT_MAX);
            let some = weights.into_iter().map(|(name, sum)| (name, weight(sum)));
            Bearers::of(some.filter(|(_, weight)| *weight > 0), true)
        }
    };
    match weighed {
        weighed if !weighed.is_empty() => weighed,
        _ if cost.is_even_without_weight && !known.is_empty() => even(),
        _ => Bearers::nobody(),
    }
}

fn counts(cost: &SharedCost, row: &Usage) -> bool {
    let value = |name: &str| row.fields.get(name).map(String::as_str);
    cost.matches
        .iter()
        .all(|condition| condition.fits_value(value(condition.field.name())))
}

/// A measure in 10⁻¹⁵ of its unit, so that USD and counts are written alike.
fn measure(row: &Usage, weight: Weight) -> i128 {
    let count = |count: i64| i128::from(count).saturating_mul(FemtoUsd::ONE_USD.0);
    match weight {
        Weight::Cost => row.cost.0,
        Weight::Tokens => count(row.tokens),
        Weight::Calls => count(row.calls),
        Weight::LlmCalls => count(row.llm_calls),
        Weight::ToolCalls => count(row.tool_calls),
    }
}
