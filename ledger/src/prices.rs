//! The price book: what a provider charges for a model at an instant and in a context.
//!
//! Settlement asks [`PriceBook::resolve`] for the price of each call and gives it to
//! [`rate`](crate::rating::rate). The embedded book is the genai-prices v2 catalogue with our overrides
//! (`ledger/prices/README.md` says where both come from); both are read once, digit by digit, so that no
//! price passes through a float. A book never changes: a newer one is another book with another version.
//!
//! A model that is not found is `None` and never a price of 0. This module neither adds up costs
//! ([`crate::rating`] does) nor fetches anything.
//!
//! Three layers stand side by side: list prices (the catalogue and what was imported beside it), contract
//! prices and discounts ([`contract`]) that [`PriceBook::resolve_contracted`] lays over them, and prices of
//! tools ([`tools`]). Versions of the book are kept in the data folder ([`store`]), read from files by
//! [`read`] and compared by [`diff`].
//!
//! ```text
//! provider name ─ providers ─┐
//!                            ├─ locate ─ (cache) ─ model ─ record in force at the instant
//! model name ──── matching ──┘                       └──── variants of the context ── ResolvedPrice
//! ```

mod cache;
mod catalogue;
mod contract;
pub mod diff;
mod import;
mod json;
mod listing;
mod matching;
mod order;
mod proposal;
mod providers;
pub mod read;
mod stated;
pub mod store;
mod tools;
mod units;
mod validity;
pub mod vectors;

use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};
use spanledger_model::pattern::fits;
use spanledger_model::{Bucket, FemtoUsd, Wildcards};

use crate::error::{Error, ErrorKind, Result};

pub use contract::ContractEntry;
pub use order::{CostBasis, CostOrder};
pub use stated::{Layer, Source, StatedPrice, StatedRate, StatedTime, StatedTool};
pub use tools::ToolPrice;

pub use catalogue::{Minimum, Model, PriceRecord, Provider, Rate, Rates, Tier, UnitPrice, Variant};
pub use listing::{PriceFilter, PriceRow, RateRow, TierRow};
pub use matching::MatchRule;
pub use units::{N_UNITS, Unit, UnitId, UnitSet};
pub(crate) use validity::parse_instant;
pub use validity::{Validity, Weekdays, Window, format_instant};

use cache::MatchCache;
use contract::Contracts;
use import::Catalogue;
use json::Json;
use matching::lowercase;
use providers::Named;

/// The catalogue: genai-prices v2, MIT, as published on PyPI in this version.
const GENAI_PRICES: &str = include_str!("../prices/genai-prices.json");
const GENAI_PRICES_VERSION: &str = "0.2.3";
/// Our corrections to it, each with its source.
const OVERRIDES: &str = include_str!("../prices/overrides.json");

/// Prefixes read off a name such as `litellm/openrouter/anthropic/claude` before giving up.
const N_PREFIXES_MAX: usize = 3;

/// Hexadecimal digits of the data's SHA-256 in a version.
const VERSION_DIGITS: usize = 12;

/// An immutable set of prices.
#[derive(Debug, Clone)]
pub struct PriceBook {
    version: Arc<str>,
    providers: Arc<Vec<Provider>>,
    contracts: Arc<Contracts>,
    tools: Arc<Vec<ToolPrice>>,
    warnings: Arc<Vec<String>>,
    order: CostOrder,
    cache: Arc<MatchCache<Located>>,
}

/// The text of a catalogue, and of our overrides of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueFiles {
    /// Prefix of its records' identities.
    pub name: String,
    /// What it says of its own version.
    pub release: String,
    /// genai-prices v2 JSON.
    pub catalogue: String,
    /// Our overrides, in the format of `ledger/prices/README.md`.
    pub overrides: String,
}

impl CatalogueFiles {
    /// Those built into this program.
    #[must_use]
    pub fn embedded() -> Self {
        Self {
            name: "genai-prices".to_owned(),
            release: GENAI_PRICES_VERSION.to_owned(),
            catalogue: GENAI_PRICES.to_owned(),
            overrides: OVERRIDES.to_owned(),
        }
    }
}

/// What to price: who was called, with which model, when, in which context.
#[derive(Debug, Clone, Copy, Default)]
pub struct PriceQuery<'q> {
    /// Provider as the sender names it; without one it is guessed from the model's name.
    pub provider: Option<&'q str>,
    /// Model as the sender names it.
    pub model: &'q str,
    /// Start of the call, nanoseconds since the Unix epoch.
    pub at_ns: i64,
    /// `batch`, where it was one.
    pub processing: Option<&'q str>,
    /// `flex`, `priority`, `default`, … where the sender says so.
    pub service_tier: Option<&'q str>,
}

/// The prices that apply to one call.
#[derive(Debug, Clone)]
pub struct ResolvedPrice<'a> {
    book: &'a PriceBook,
    provider: &'a str,
    model: &'a str,
    minimums: &'a [Minimum],
    /// Standard list price; absent where only a context or a contract has one.
    record: Option<&'a PriceRecord>,
    /// Variants in force that change a price, by precedence.
    variants: Vec<&'a Variant>,
    /// Agreed price that replaces the list's where it names a unit.
    agreed: Option<&'a ContractEntry>,
    /// Discount off the list price of everything else.
    discount: Option<&'a ContractEntry>,
}

/// Where a model stands: the provider that was called and the one whose price list has the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Located {
    called: usize,
    provider: usize,
    model: usize,
}

impl PriceBook {
    /// The book built into the program, read on first use.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] where the vendored data cannot be read; a test keeps that from happening.
    pub fn embedded() -> Result<Arc<Self>> {
        static EMBEDDED: OnceLock<std::result::Result<Arc<PriceBook>, String>> = OnceLock::new();
        let book = EMBEDDED.get_or_init(|| {
            let book = PriceBook::import("genai-prices", GENAI_PRICES_VERSION, GENAI_PRICES, Some(OVERRIDES));
            book.map(Arc::new).map_err(|error| error.to_string())
        });
        book.clone()
            .map_err(|message| Error::new(ErrorKind::Internal, format!("embedded {message}")))
    }

    /// A book from a genai-prices v2 catalogue, named `name` in its records' identities, and overrides.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] naming the place, where a file is malformed, where a price has more decimals
    /// than can be kept exactly, and where a unit is priced whose ancestor is not.
    pub fn import(name: &str, release: &str, catalogue: &str, overrides: Option<&str>) -> Result<Self> {
        let invalid = |error: String| Error::invalid(format!("price book {name}: {error}"));
        let json = Json::parse(catalogue).map_err(invalid)?;
        let mut read = import::read_catalogue(&json, name).map_err(invalid)?;
        if let Some(overrides) = overrides {
            let json = Json::parse(overrides).map_err(invalid)?;
            import::apply_overrides(&mut read, &json).map_err(invalid)?;
        }
        let mut hash = Sha256::new();
        for file in [catalogue, overrides.unwrap_or("")] {
            hash.update(file.len().to_le_bytes());
            hash.update(file);
        }
        let digest = hex::encode(hash.finalize());
        let version = format!("{name}-{release}+{}", &digest[..VERSION_DIGITS]);
        Ok(Self::of(&version, read, Vec::new(), Vec::new()))
    }

    fn of(version: &str, read: Catalogue, contracts: Vec<ContractEntry>, tools: Vec<ToolPrice>) -> Self {
        Self {
            version: Arc::from(version),
            providers: Arc::new(read.providers),
            contracts: Arc::new(Contracts::new(contracts)),
            tools: Arc::new(tools),
            warnings: Arc::new(read.warnings),
            order: CostOrder::default(),
            cache: Arc::new(MatchCache::new()),
        }
    }

    /// A book of a catalogue and what was imported beside it, in the order of import.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] naming the record, where a catalogue or a source cannot be used.
    pub fn compose(version: &str, catalogue: &CatalogueFiles, sources: &[Source]) -> Result<Self> {
        let invalid = |error: String| Error::invalid(format!("price book {version}: {error}"));
        let json = Json::parse(&catalogue.catalogue).map_err(invalid)?;
        let mut read = import::read_catalogue(&json, &catalogue.name).map_err(invalid)?;
        let overrides = Json::parse(&catalogue.overrides).map_err(invalid)?;
        import::apply_overrides(&mut read, &overrides).map_err(invalid)?;
        for source in sources.iter().filter(|source| source.layer == Layer::List) {
            stated::apply_list(&mut read, source).map_err(invalid)?;
        }
        let (mut contracts, mut tools) = (Vec::new(), Vec::new());
        for source in sources {
            for stated in source.prices.iter().filter(|_| source.layer == Layer::Contract) {
                contracts.push(ContractEntry::compile(stated, source, &read.providers).map_err(invalid)?);
            }
            for stated in &source.tools {
                tools.push(ToolPrice::compile(stated, source).map_err(invalid)?);
            }
        }
        Ok(Self::of(version, read, contracts, tools))
    }

    /// The same prices, of which another one is charged first.
    #[must_use]
    pub fn with_cost_order(&self, order: CostOrder) -> Self {
        Self { order, ..self.clone() }
    }

    /// Which of contract price, reported cost and list price is charged.
    #[must_use]
    pub fn cost_order(&self) -> &CostOrder {
        &self.order
    }

    /// What was agreed, in the order of import.
    #[must_use]
    pub fn contracts(&self) -> &[ContractEntry] {
        &self.contracts.entries
    }

    /// Prices of tools, in the order of import.
    #[must_use]
    pub fn tools(&self) -> &[ToolPrice] {
        &self.tools
    }

    /// The price of a call of a tool, where it has one.
    #[must_use]
    pub fn tool_price(&self, server: Option<&str>, tool: &str, at_ns: i64) -> Option<&ToolPrice> {
        tools::find(&self.tools, server, tool, at_ns)
    }

    /// Name, release and a hash of the data: `genai-prices-0.2.3+1a2b3c4d5e6f`. Every ledger line keeps it.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// [`version`](Self::version), to be shared.
    #[must_use]
    pub fn shared_version(&self) -> Arc<str> {
        Arc::clone(&self.version)
    }

    /// What stands in the data that this release cannot price.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The providers, in order of precedence.
    #[must_use]
    pub fn providers(&self) -> &[Provider] {
        &self.providers
    }

    /// The prices for a call, or `None` where the provider or the model is not known: such a call is
    /// unpriced, and must never be taken to cost 0.
    #[must_use]
    pub fn resolve<'a>(&'a self, query: &PriceQuery<'_>) -> Option<ResolvedPrice<'a>> {
        self.resolve_with(query, &[])
    }

    /// As [`resolve`](Self::resolve), with further context that a catalogue may distinguish, such as
    /// `("search_type", "fast")` or `("route", "mistral/eu")`.
    #[must_use]
    pub fn resolve_with<'a>(&'a self, query: &PriceQuery<'_>, context: &[(&str, &str)]) -> Option<ResolvedPrice<'a>> {
        let located = self.located(query)?;
        let price = self.list_price(query, context, located)?;
        (price.record.is_some() || !price.variants.is_empty()).then_some(price)
    }

    /// The price that was agreed for a call: contract rates laid over the list price, a discount taken off
    /// what they leave. `None` where no contract holds for the call, and where one gives a discount off a
    /// list price that is not known.
    #[must_use]
    pub fn resolve_contracted<'a>(
        &'a self,
        query: &PriceQuery<'_>,
        context: &[(&str, &str)],
    ) -> Option<ResolvedPrice<'a>> {
        if self.contracts.entries.is_empty() || query.model.trim().is_empty() {
            return None;
        }
        let list = self
            .located(query)
            .and_then(|located| self.list_price(query, context, located));
        let provider = match (&list, query.provider) {
            (Some(list), _) => Some(list.provider.to_owned()),
            (None, Some(name)) => Some(providers::identity_of(&self.providers, name)),
            (None, None) => None,
        };
        let found = contract::agreed(&self.contracts, query, context, provider.as_deref(), list.as_ref());
        let list = list.filter(|list| list.record.is_some() || !list.variants.is_empty());
        let base = match (list, found.price) {
            (Some(list), _) => list,
            (None, Some(entry)) => ResolvedPrice {
                book: self,
                provider: entry.provider.as_deref().unwrap_or_default(),
                model: &entry.model,
                minimums: &[],
                record: None,
                variants: Vec::new(),
                agreed: None,
                discount: None,
            },
            (None, None) => return None,
        };
        let holds = found.price.is_some() || found.discount.is_some();
        holds.then_some(ResolvedPrice {
            agreed: found.price,
            discount: found.discount,
            ..base
        })
    }

    fn located(&self, query: &PriceQuery<'_>) -> Option<Located> {
        let provider = query.provider.map(str::trim).filter(|provider| !provider.is_empty());
        let name = query.model.trim();
        if name.is_empty() {
            return None;
        }
        self.cache.get_or_find(provider, name, || self.locate(provider, name))
    }

    /// The list price in force, which may have neither a record nor a variant.
    fn list_price<'a>(
        &'a self,
        query: &PriceQuery<'_>,
        context: &[(&str, &str)],
        located: Located,
    ) -> Option<ResolvedPrice<'a>> {
        let model = self.providers.get(located.provider)?.models.get(located.model)?;
        let mut variants = Vec::new();
        // A variant belongs to the provider that defines it: who resells the model may not offer it.
        if located.called == located.provider {
            let mut changed = UnitSet::EMPTY;
            for variant in &model.variants {
                let priced = variant.record.rates.priced();
                if changed.or(priced) != changed
                    && variant.record.validity.holds_at(query.at_ns)
                    && variant
                        .context
                        .iter()
                        .all(|(key, value)| is_in_context(query, context, key, value))
                {
                    changed = changed.or(priced);
                    variants.push(variant);
                }
            }
        }
        Some(ResolvedPrice {
            book: self,
            provider: &self.providers.get(located.called)?.id,
            model: &model.id,
            minimums: &model.minimums,
            record: model.record_at(query.at_ns),
            variants,
            agreed: None,
            discount: None,
        })
    }

    /// Finds the model that names mean. The order is that of genai-prices; what it does not find is tried
    /// once more with a provider's prefix read off the name (`openai/gpt-5` sent to OpenAI).
    fn locate(&self, provider: Option<&str>, model: &str) -> Option<Located> {
        let model = lowercase(model);
        let Some(provider) = provider else {
            return self.locate_by_model(&model, N_PREFIXES_MAX);
        };
        match providers::find_provider(&self.providers, &lowercase(provider)) {
            Named::Known { index, own_id } => self
                .find_model(index, &model)
                .or_else(|| self.locate_by_prefix(&model, N_PREFIXES_MAX))
                // Google's own SDKs write `models/…` and `publishers/google/models/…`. The catalogue's
                // authors do not match them under its own identity, and our price vectors hold us to that.
                .or_else(|| self.find_model(index, model.rsplit_once("models/").filter(|_| !own_id)?.1)),
            Named::Proxy => self.locate_by_model(&model, N_PREFIXES_MAX),
            Named::Unknown => None,
        }
    }

    fn locate_by_model(&self, model: &str, n_prefixes: usize) -> Option<Located> {
        let bedrock = || {
            let aws = self.providers.iter().position(|provider| provider.id == "aws");
            self.find_model(aws.filter(|_| providers::is_bedrock_model(model))?, model)
        };
        let by_rule = || {
            let matches = |provider: &Provider| provider.model_rule.as_ref().is_some_and(|rule| rule.matches(model));
            self.find_model(self.providers.iter().position(matches)?, model)
        };
        let fine_tuned = || {
            let openai = self.providers.iter().position(|provider| provider.id == "openai");
            self.find_model(openai.filter(|_| model.starts_with("ft:"))?, model)
        };
        self.locate_by_prefix(model, n_prefixes)
            .or_else(bedrock)
            .or_else(by_rule)
            .or_else(fine_tuned)
    }

    /// Reads a provider off the front of the name. What follows may be a prefix again.
    fn locate_by_prefix(&self, model: &str, n_prefixes: usize) -> Option<Located> {
        let n_left = n_prefixes.checked_sub(1)?;
        if let Some((first, rest)) = model.split_once('/')
            && providers::find_provider(&self.providers, first) == Named::Proxy
        {
            return self.locate_by_model(rest, n_left);
        }
        let (index, rest) = providers::find_prefix(&self.providers, model)?;
        self.find_model(index, rest)
            .or_else(|| self.locate_by_prefix(rest, n_left))
    }

    /// The model in a provider's list or in those it falls back to; once more with compact dates expanded.
    fn find_model(&self, called: usize, name: &str) -> Option<Located> {
        let find = |name: &str| {
            let fallbacks = self.providers.get(called)?.fallbacks.iter();
            let fallbacks = fallbacks.filter_map(|id| self.providers.iter().position(|provider| provider.id == *id));
            std::iter::once(called).chain(fallbacks).find_map(|provider| {
                let model = self
                    .providers
                    .get(provider)?
                    .models
                    .iter()
                    .position(|model| model.rule.matches(name))?;
                Some(Located {
                    called,
                    provider,
                    model,
                })
            })
        };
        find(name).or_else(|| find(&matching::expand_compact_date(name)?))
    }
}

/// True where the call is in the context `key=value`. Anthropic reports a batch as a service tier.
fn is_in_context(query: &PriceQuery<'_>, context: &[(&str, &str)], key: &str, value: &str) -> bool {
    let given = match key {
        "processing" => {
            let tier = query
                .service_tier
                .filter(|tier| tier.trim().eq_ignore_ascii_case("batch"));
            query.processing.or(tier)
        }
        "service_tier" => query.service_tier,
        "region" => {
            let model = matching::lowercase(query.model.trim());
            let region = providers::region_of(&model).map(str::to_owned);
            return context_value(context, key)
                .map(str::to_owned)
                .or(region)
                .is_some_and(|region| is_value(value, &region));
        }
        _ => None,
    };
    context_value(context, key)
        .or(given)
        .is_some_and(|given| is_value(value, given))
}

fn context_value<'c>(context: &[(&str, &'c str)], key: &str) -> Option<&'c str> {
    let mut given = context.iter().rev();
    given.find(|(name, _)| *name == key).map(|(_, value)| *value)
}

/// True where a call's context is what a price asks for; a price may ask for a pattern, `us-*`.
fn is_value(wanted: &str, given: &str) -> bool {
    let given = given.trim();
    given.eq_ignore_ascii_case(wanted)
        || wanted.contains('*') && fits(wanted, &given.to_lowercase(), Wildcards::StarAndMark)
}

impl<'a> ResolvedPrice<'a> {
    /// Identity of the record and of the variants on top, stable and readable:
    /// `genai-prices:anthropic/claude-sonnet-5-5+processing=batch@2026-10-14`. Of an agreed price it is the
    /// contract's entry; a discount stands after what it is off.
    #[must_use]
    pub fn price_id(&self) -> Arc<str> {
        if let (Some(record), true, None, None) = (self.record, self.variants.is_empty(), self.agreed, self.discount) {
            return Arc::clone(&record.id);
        }
        let mut id = match (self.agreed, self.record) {
            (Some(agreed), _) => agreed.id.clone(),
            (None, Some(record)) => record.id.to_string(),
            (None, None) => format!("{}/{}", self.provider, self.model),
        };
        if self.agreed.is_none() {
            self.variants.iter().for_each(|variant| id.push_str(&variant.suffix));
        }
        if let Some(discount) = self.discount {
            id.push_str(" less ");
            id.push_str(&discount.id);
        }
        Arc::from(id)
    }

    /// Version of the book it came from.
    #[must_use]
    pub fn version(&self) -> &'a str {
        &self.book.version
    }

    /// Identity of the provider that was called.
    #[must_use]
    pub fn provider(&self) -> &'a str {
        self.provider
    }

    /// Identity of the model in the price book.
    #[must_use]
    pub fn model(&self) -> &'a str {
        self.model
    }

    /// True where both are the same prices, whoever was called: nothing tells one call's price from the other's.
    #[must_use]
    pub fn is_same_as(&self, other: &ResolvedPrice<'_>) -> bool {
        fn same<T>(one: Option<&T>, other: Option<&T>) -> bool {
            one.map(std::ptr::from_ref) == other.map(std::ptr::from_ref)
        }
        same(self.record, other.record)
            && same(self.agreed, other.agreed)
            && same(self.discount, other.discount)
            && self.variants.len() == other.variants.len()
            && self
                .variants
                .iter()
                .zip(&other.variants)
                .all(|(one, other)| std::ptr::eq(*one, *other))
    }

    /// True where the catalogue lists the model without any price: it is offered free of charge.
    #[must_use]
    #[inline]
    pub fn is_free(&self) -> bool {
        self.priced().is_empty()
    }

    /// The units it prices.
    #[must_use]
    #[inline]
    pub fn priced(&self) -> UnitSet {
        let rates = self.all_rates();
        rates.fold(UnitSet::EMPTY, |priced, rates| priced.or(rates.priced()))
    }

    /// The rates, by precedence.
    fn all_rates(&self) -> impl Iterator<Item = &'a Rates> {
        let agreed = self.agreed.map(|entry| &entry.rates).into_iter();
        let record = self.record.map(|record| &record.rates);
        let variants = self.variants.iter().map(|variant| &variant.record.rates);
        agreed.chain(variants).chain(record)
    }

    /// The price of exactly this unit, before a discount.
    #[must_use]
    #[inline]
    pub fn unit_price(&self, unit: UnitId) -> Option<&'a UnitPrice> {
        self.all_rates().find_map(|rates| rates.get(unit))
    }

    /// The rate of exactly this unit in a request with this much input: what is charged.
    #[must_use]
    #[inline]
    pub fn rate(&self, unit: UnitId, total_input_tokens: i64) -> Option<Rate> {
        let rate = self.unit_price(unit)?.rate(total_input_tokens);
        let is_agreed = self.agreed.is_some_and(|entry| entry.rates.get(unit).is_some());
        let discount = self
            .discount
            .and_then(|entry| entry.discount_ppm)
            .filter(|_| !is_agreed);
        Some(discount.map_or(rate, |ppm| rate.less(ppm)))
    }

    /// The price of one token (or search, or request) of a bucket in a request with this much input, where
    /// it is known and a whole number of femto-USD. A kind without a price of its own has its parent's.
    #[must_use]
    pub fn cost_of_one(&self, bucket: Bucket, total_input_tokens: i64) -> Option<FemtoUsd> {
        if self.is_free() {
            return Some(FemtoUsd::ZERO);
        }
        let unit = UnitId::of_bucket(bucket).priced_by(self.priced())?;
        self.rate(unit, total_input_tokens)?.of_one()
    }

    /// The input tokens of a request above which some token costs another price than below, or is billed a minimum.
    /// `None` where what a token costs does not depend on the request.
    #[must_use]
    pub fn first_tier(&self) -> Option<i64> {
        let minimum = (!self.minimums.is_empty()).then_some(0);
        let tiers = self.priced().iter().filter_map(|unit| self.unit_price(unit));
        let starts = tiers.flat_map(|price| price.tiers.iter().map(|tier| tier.start));
        starts.chain(minimum).min()
    }

    /// Minimum billing of the model.
    #[must_use]
    pub fn minimums(&self) -> &'a [Minimum] {
        self.minimums
    }
}

#[cfg(test)]
mod tests;
