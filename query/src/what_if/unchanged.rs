//! What a scenario asked for and no price tells apart: a batch, a tier, a region, a provider, a model, a cache.
//!
//! A call whose price stays would come to a difference of 0 that looks like an answer. Each part of a scenario is held
//! against the call without it: where both find the same prices, the part is named with the model and its calls.
//!
//! A model without any price is not here: such calls are not comparable, and are named as unpriced.

use std::collections::HashMap;

use serde::Serialize;
use spanledger_ledger::charge::{billed_model, prices_of};
use spanledger_ledger::prices::{ResolvedPrice, UnitId};
use spanledger_model::Call;

use super::scenario::Change;

/// Models that one note names.
const NAMED_MAX: usize = 5;
/// Models that are told apart; those of more calls than this are a flood, and are counted with the first.
const TOLD_MAX: usize = 1_000;
/// What a price without a region, a tier, a batch is asked for with.
const STANDARD: &str = "standard";

/// A part of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// Another processing, such as a batch.
    Processing,
    /// Another service tier.
    ServiceTier,
    /// Another region.
    Region,
    /// Another provider.
    Provider,
    /// Another model.
    Model,
    /// Input read from a cache.
    Cache,
}

/// Calls of a model whose price stays although something was to be otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unchanged {
    /// What was to be otherwise.
    pub asked: Asked,
    /// What it was to be, such as `batch`.
    pub value: String,
    /// Provider as it would be called.
    pub provider: Option<String>,
    /// Model as it would be called.
    pub model: Option<String>,
    /// Its calls.
    pub calls: i64,
    /// True where there is such a price today, and was none when the calls were made.
    pub is_known_today: bool,
}

type Key = (Asked, Option<String>, Option<String>);

/// What was met so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    models: HashMap<Key, Unchanged>,
}

impl Seen {
    /// Counts what of a change does not change the price of a call.
    pub(super) fn add(&mut self, change: &Change, call: &Call, changed: &Call, now_ns: i64) {
        if !call.usage.is_chargeable() {
            return;
        }
        for (asked, value) in parts_without_price(change, call, changed) {
            let key = (
                asked,
                changed.model.provider.clone(),
                billed_model(changed).map(str::to_owned),
            );
            if let Some(met) = self.models.get_mut(&key) {
                met.calls += 1;
                continue;
            }
            if self.models.len() >= TOLD_MAX {
                continue;
            }
            let today = Call {
                start_ns: now_ns,
                ..call.clone()
            };
            let changed_today = Call {
                start_ns: now_ns,
                ..changed.clone()
            };
            let stays_today = parts_without_price(change, &today, &changed_today);
            let (_, provider, model) = key.clone();
            let met = Unchanged {
                asked,
                value,
                provider,
                model,
                calls: 1,
                is_known_today: !stays_today.iter().any(|(stays, _)| *stays == asked),
            };
            self.models.insert(key, met);
        }
    }

    /// All of it, most calls first.
    pub(super) fn named(self) -> Vec<Unchanged> {
        let mut named: Vec<Unchanged> = self.models.into_values().collect();
        named.sort_by(|a, b| (a.asked, b.calls, &a.model, &a.provider).cmp(&(b.asked, a.calls, &b.model, &b.provider)));
        named
    }
}

/// The parts of a change that leave the prices of a call as they are, and what they ask for.
fn parts_without_price(change: &Change, call: &Call, changed: &Call) -> Vec<(Asked, String)> {
    let (scenario, book) = (&change.scenario, change.book.as_ref());
    let region: Vec<(&str, &str)> = scenario
        .region
        .iter()
        .map(|region| ("region", region.as_str()))
        .collect();
    let prices = prices_of(changed, book, &region);
    let stays_in = |key: &str| {
        let mut context = region.clone();
        context.push((key, STANDARD));
        are_same(&prices, &prices_of(changed, book, &context))
    };
    let is_other = |was: Option<&str>, is: &str| !was.is_some_and(|was| was.eq_ignore_ascii_case(is));
    let is_special = |name: &str| !name.eq_ignore_ascii_case(STANDARD);
    let mut parts = Vec::new();
    if let Some(processing) = scenario.processing.as_deref().filter(|name| is_special(name)) {
        let was = call.model.processing.as_deref().or(call.model.service_tier.as_deref());
        if is_other(was, processing) && stays_in("processing") {
            parts.push((Asked::Processing, processing.to_owned()));
        }
    }
    if let Some(tier) = scenario.service_tier.as_deref().filter(|name| is_special(name))
        && is_other(call.model.service_tier.as_deref(), tier)
        && stays_in("service_tier")
    {
        parts.push((Asked::ServiceTier, tier.to_owned()));
    }
    if let Some(region) = &scenario.region
        && are_same(&prices, &prices_of(changed, book, &[]))
    {
        parts.push((Asked::Region, region.clone()));
    }
    if let Some(provider) = &scenario.provider
        && is_other(call.model.provider.as_deref(), provider)
    {
        let mut without = changed.clone();
        without.model.provider.clone_from(&call.model.provider);
        let others = prices_of(&without, book, &region);
        let called = |prices: &Prices<'_>| prices.iter().flatten().next().map(|price| price.provider().to_owned());
        if called(&prices) != called(&others) && are_same(&prices, &others) {
            parts.push((Asked::Provider, provider.clone()));
        }
    }
    if let (Some(model), Some(was)) = (billed_model(changed), billed_model(call))
        && !model.eq_ignore_ascii_case(was)
    {
        let mut without = changed.clone();
        without.model.response_model.clone_from(&call.model.response_model);
        without.model.request_model.clone_from(&call.model.request_model);
        if are_same(&prices, &prices_of(&without, book, &region)) {
            parts.push((Asked::Model, was.to_owned()));
        }
    }
    if scenario.cache_percent.is_some_and(|percent| percent > 0)
        && changed.usage.cache_read.is_some_and(|read| read > 0)
    {
        let [list, contracted] = &prices;
        let price = contracted.as_ref().or(list.as_ref());
        if price.is_some_and(|price| !price.is_free() && !price.priced().contains(UnitId::CACHE_READ)) {
            parts.push((Asked::Cache, "cache_read".to_owned()));
        }
    }
    parts
}

type Prices<'b> = [Option<ResolvedPrice<'b>>; 2];

fn are_same(one: &Prices<'_>, other: &Prices<'_>) -> bool {
    one.iter().zip(other).all(|pair| match pair {
        (Some(one), Some(other)) => one.is_same_as(other),
        (None, None) => true,
        _ => false,
    })
}

/// Notes on what stays, one for each part of a scenario.
pub(super) fn notes(unchanged: &[Unchanged], shown: &impl Fn(&str) -> String) -> Vec<String> {
    let mut notes = Vec::new();
    let same = |a: &Unchanged, b: &Unchanged| (a.asked, a.is_known_today) == (b.asked, b.is_known_today);
    let mut sorted: Vec<&Unchanged> = unchanged.iter().collect();
    // Stable: of a part, most calls stay first.
    sorted.sort_by_key(|met| (met.asked, met.is_known_today));
    for group in sorted.chunk_by(|a, b| same(a, b)) {
        let Some(first) = group.first() else { continue };
        let name = |met: &&Unchanged| {
            let model = met.model.as_deref().map_or_else(|| "(none)".to_owned(), shown);
            let calls = met.calls;
            match met.asked {
                Asked::Model => format!("{model} as {} ({calls} calls)", shown(&met.value)),
                _ => format!("{model} ({calls} calls)"),
            }
        };
        let mut names: Vec<String> = group.iter().take(NAMED_MAX).map(name).collect();
        if group.len() > NAMED_MAX {
            names.push(format!("{} more", group.len() - NAMED_MAX));
        }
        let (names, value) = (names.join(", "), shown(&first.value));
        let (then, today) = match first.is_known_today {
            true => (" at the time", ", though there is one today (`prices` can state it)"),
            false => ("", ""),
        };
        notes.push(match first.asked {
            Asked::Processing | Asked::ServiceTier => {
                format!("no {value} price known{then} for {names}{today}: unchanged")
            }
            Asked::Region => format!("no price of region {value} known{then} for {names}{today}: unchanged"),
            Asked::Provider => format!("{value} has no price of its own{then} for {names}{today}: unchanged"),
            Asked::Model => format!("one price holds{then} for {names}: unchanged"),
            Asked::Cache => {
                format!("no cache price known{then} for {names}{today}: cached input costs as much as other input")
            }
        });
    }
    notes
}
