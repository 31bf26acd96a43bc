//! Contracts: which agreed price or discount holds for a call.
//!
//! Of the entries that hold for a call the most specific one wins: a model named in full before a pattern, a
//! provider before none, more context before less, then the later `valid_from`, then the later line. The
//! price and the discount are chosen apart: a price replaces the list price of the units it names, a
//! discount is off the list price of all others. Discounts do not add up.
//!
//! A price that says nothing about processing or service tier is one of the standard service: where the list
//! has another price for the call's (half of it for a batch), it does not hold. A discount holds for all.

use std::collections::HashMap;

use super::catalogue::{Rates, Variant};
use super::matching::{MatchRule, lowercase};
use super::providers;
use super::stated::{Source, StatedPrice};
use super::validity::Validity;
use super::{PriceQuery, Provider, ResolvedPrice, is_in_context};

/// Context that tells one service of a model from another.
const SERVICE: [&str; 2] = ["processing", "service_tier"];

/// One line of a contract.
#[derive(Debug, Clone)]
pub struct ContractEntry {
    /// Stable, readable identity, `acme-2026:anthropic/claude-*@2026-10-01`.
    pub id: String,
    /// File it was imported from.
    pub source: String,
    /// Provider's identity; any where absent.
    pub provider: Option<String>,
    /// Model or pattern as written.
    pub model: String,
    /// All must hold.
    pub context: Box<[(String, String)]>,
    /// When it holds.
    pub validity: Validity,
    /// Agreed rates; the list's hold for what is not there.
    pub rates: Rates,
    /// Discount off the list price, in millionths.
    pub discount_ppm: Option<u32>,
    rule: MatchRule,
}

/// Every line of every contract, found by the model's name.
#[derive(Debug, Default)]
pub(super) struct Contracts {
    pub(super) entries: Vec<ContractEntry>,
    /// Places of the entries that name a model in full, by its lowercase name.
    by_name: HashMap<String, Vec<usize>>,
    /// Places of the others.
    patterns: Vec<usize>,
}

impl Contracts {
    pub(super) fn new(entries: Vec<ContractEntry>) -> Self {
        let mut contracts = Self::default();
        for (at, entry) in entries.iter().enumerate() {
            match &entry.rule {
                MatchRule::Equals(name) => contracts.by_name.entry(name.clone()).or_default().push(at),
                _ => contracts.patterns.push(at),
            }
        }
        contracts.entries = entries;
        contracts
    }

    /// The entries that may be about a model of one of these names, in the order of import.
    fn about(&self, names: &[Option<&str>]) -> Vec<&ContractEntry> {
        let named = names
            .iter()
            .flatten()
            .filter_map(|name| self.by_name.get(*name))
            .flatten();
        let mut places: Vec<usize> = named.chain(&self.patterns).copied().collect();
        places.sort_unstable();
        places.dedup();
        places.into_iter().filter_map(|at| self.entries.get(at)).collect()
    }
}

/// The entries that hold for a call.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Agreed<'a> {
    pub(super) price: Option<&'a ContractEntry>,
    pub(super) discount: Option<&'a ContractEntry>,
}

impl ContractEntry {
    /// Compiles a stated price.
    pub(super) fn compile(stated: &StatedPrice, source: &Source, providers: &[Provider]) -> Result<Self, String> {
        let validity = stated.time.validity()?;
        let provider = stated
            .provider
            .as_deref()
            .map(|name| providers::identity_of(providers, name));
        let context = stated.context();
        let mut id = format!(
            "{}:{}/{}",
            source.name,
            provider.as_deref().unwrap_or("*"),
            stated.model
        );
        context
            .iter()
            .for_each(|(key, value)| id.push_str(&format!("+{key}={value}")));
        id.push_str(&validity.suffix());
        Ok(Self {
            id,
            source: source.name.clone(),
            provider,
            model: stated.model.clone(),
            context: context.into(),
            validity,
            rates: stated.rates()?,
            discount_ppm: stated.discount_ppm()?,
            rule: MatchRule::of_name(&stated.model),
        })
    }

    /// True where it is about a model of this name, in lowercase.
    pub(super) fn matches(&self, model: &str) -> bool {
        self.rule.matches(model)
    }

    fn holds(&self, query: &PriceQuery<'_>, context: &[(&str, &str)], called: &Called<'_>) -> bool {
        self.validity.holds_at(query.at_ns)
            && (self.provider.is_none() || self.provider.as_deref() == called.provider)
            && called.models.iter().flatten().any(|model| self.rule.matches(model))
            && self
                .context
                .iter()
                .all(|(key, value)| is_in_context(query, context, key, value))
    }

    /// True where it names what makes these prices other than the standard one.
    fn names_service(&self, variants: &[&Variant]) -> bool {
        let named = |key: &str| self.context.iter().any(|(name, _)| name == key);
        let keys = variants.iter().flat_map(|variant| variant.context.iter());
        keys.filter(|(key, _)| SERVICE.contains(&key.as_str()))
            .all(|(key, _)| named(key))
    }

    fn specificity(&self) -> (bool, bool, usize, i64) {
        let is_exact = matches!(self.rule, MatchRule::Equals(_));
        let from_ns = self.validity.from_ns.unwrap_or(i64::MIN);
        (is_exact, self.provider.is_some(), self.context.len(), from_ns)
    }
}

/// Who was called, under the names a contract may have for it.
pub(super) struct Called<'c> {
    /// Provider's identity.
    pub(super) provider: Option<&'c str>,
    /// Lowercase: the name as sent, and the catalogue's.
    pub(super) models: [Option<&'c str>; 2],
}

/// The entries that hold for a call.
pub(super) fn agreed<'a>(
    contracts: &'a Contracts,
    query: &PriceQuery<'_>,
    context: &[(&str, &str)],
    provider: Option<&str>,
    list: Option<&ResolvedPrice<'_>>,
) -> Agreed<'a> {
    let model_id = list.map(|list| list.model);
    let (sent, id) = (lowercase(query.model.trim()), model_id.map(lowercase));
    let called = Called {
        provider,
        models: [Some(sent.as_ref()), id.as_deref()],
    };
    let mut agreed = Agreed::default();
    let is_better = |entry: &ContractEntry, than: Option<&ContractEntry>| {
        than.is_none_or(|than| entry.specificity() >= than.specificity())
    };
    let entries = contracts.about(&called.models).into_iter();
    for entry in entries.filter(|entry| entry.holds(query, context, &called)) {
        let is_of_service = || list.is_none_or(|list| entry.names_service(&list.variants));
        if !entry.rates.priced().is_empty() && is_better(entry, agreed.price) && is_of_service() {
            agreed.price = Some(entry);
        }
        if entry.discount_ppm.is_some() && is_better(entry, agreed.discount) {
            agreed.discount = Some(entry);
        }
    }
    agreed
}
