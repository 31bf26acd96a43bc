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
//! ```text
//! provider name ─ providers ─┐
//!                            ├─ locate ─ (cache) ─ model ─ record in force at the instant
//! model name ──── matching ──┘                       └──── variants of the context ── ResolvedPrice
//! ```

mod cache;
mod catalogue;
mod import;
mod json;
mod listing;
mod matching;
mod providers;
mod units;
mod validity;

use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};
use spanledger_model::{Bucket, FemtoUsd};

use crate::error::{Error, ErrorKind, Result};

pub use catalogue::{Minimum, Model, PriceRecord, Provider, Rate, Rates, Tier, UnitPrice, Variant};
pub use listing::{PriceFilter, PriceRow, RateRow, TierRow};
pub use matching::MatchRule;
pub use units::{N_UNITS, Unit, UnitId, UnitSet};
pub use validity::{Validity, Weekdays, Window, format_instant};

use cache::MatchCache;
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
#[derive(Debug)]
pub struct PriceBook {
    version: String,
    providers: Vec<Provider>,
    warnings: Vec<String>,
    cache: MatchCache<Located>,
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
    provider: &'a Provider,
    model: &'a Model,
    record: &'a PriceRecord,
    /// Variants in force that change a price, by precedence.
    variants: Vec<&'a Variant>,
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
        let mut read = import::read_catalogue(catalogue, name).map_err(invalid)?;
        if let Some(overrides) = overrides {
            import::apply_overrides(&mut read, overrides).map_err(invalid)?;
        }
        let mut hash = Sha256::new();
        for file in [catalogue, overrides.unwrap_or("")] {
            hash.update(file.len().to_le_bytes());
            hash.update(file);
        }
        let digest = hex::encode(hash.finalize());
        let version = format!("{name}-{release}+{}", &digest[..VERSION_DIGITS]);
        Ok(Self {
            version,
            providers: read.providers,
            warnings: read.warnings,
            cache: MatchCache::new(),
        })
    }

    /// Name, release and a hash of the data: `genai-prices-0.2.3+1a2b3c4d5e6f`. Every ledger line keeps it.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
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
        let provider = query.provider.map(str::trim).filter(|provider| !provider.is_empty());
        let name = query.model.trim();
        if name.is_empty() {
            return None;
        }
        let located = self.cache.get_or_find(provider, name, || self.locate(provider, name))?;
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
            provider: self.providers.get(located.called)?,
            model,
            record: model.record_at(query.at_ns)?,
            variants,
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
        _ => None,
    };
    let given = context
        .iter()
        .rev()
        .find(|(name, _)| *name == key)
        .map(|(_, given)| *given)
        .or(given);
    given.is_some_and(|given| given.trim().eq_ignore_ascii_case(value))
}

impl<'a> ResolvedPrice<'a> {
    /// Identity of the record and of the variants on top, stable and readable:
    /// `genai-prices:anthropic/claude-sonnet-5-5+processing=batch@2026-10-14`.
    #[must_use]
    pub fn price_id(&self) -> String {
        let n_bytes = self.variants.iter().map(|variant| variant.suffix.len()).sum::<usize>() + self.record.id.len();
        let mut id = String::with_capacity(n_bytes);
        id.push_str(&self.record.id);
        self.variants.iter().for_each(|variant| id.push_str(&variant.suffix));
        id
    }

    /// Version of the book it came from.
    #[must_use]
    pub fn version(&self) -> &'a str {
        &self.book.version
    }

    /// Identity of the provider that was called.
    #[must_use]
    pub fn provider(&self) -> &'a str {
        &self.provider.id
    }

    /// Identity of the model in the price book.
    #[must_use]
    pub fn model(&self) -> &'a str {
        &self.model.id
    }

    /// True where the catalogue lists the model without any price: it is offered free of charge.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.priced().is_empty()
    }

    /// The units it prices.
    #[must_use]
    pub fn priced(&self) -> UnitSet {
        self.variants
            .iter()
            .fold(self.record.rates.priced(), |priced, variant| {
                priced.or(variant.record.rates.priced())
            })
    }

    /// The price of exactly this unit.
    #[must_use]
    pub fn unit_price(&self, unit: UnitId) -> Option<&'a UnitPrice> {
        let variant = self.variants.iter().find_map(|variant| variant.record.rates.get(unit));
        variant.or_else(|| self.record.rates.get(unit))
    }

    /// The price of one token (or search, or request) of a bucket in a request with this much input, where
    /// it is known and a whole number of femto-USD. A kind without a price of its own has its parent's.
    #[must_use]
    pub fn cost_of_one(&self, bucket: Bucket, total_input_tokens: i64) -> Option<FemtoUsd> {
        if self.is_free() {
            return Some(FemtoUsd::ZERO);
        }
        let unit = UnitId::of_bucket(bucket).priced_by(self.priced())?;
        self.unit_price(unit)?.rate(total_input_tokens).of_one()
    }

    /// Minimum billing of the model.
    #[must_use]
    pub fn minimums(&self) -> &'a [Minimum] {
        &self.model.minimums
    }
}

#[cfg(test)]
mod tests;
