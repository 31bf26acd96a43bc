//! [`Scenario`]: what would be otherwise, and the call as it would be then.

use std::sync::Arc;

use serde_json::{Map, Value};
use spanledger_ledger::charge::{charge, cost_in};
use spanledger_ledger::prices::{PriceBook, PriceQuery};
use spanledger_model::pattern::{Wildcards, fits};
use spanledger_model::{Call, FemtoUsd};

use crate::error::{Error, ErrorKind, Result, did_you_mean};
use crate::limits::{WHAT_IF_MODELS_MAX, WHAT_IF_TEXT_BYTES_MAX};

/// Fields of a scenario in JSON.
const FIELDS: [&str; 10] = [
    "name",
    "models",
    "provider",
    "region",
    "processing",
    "service_tier",
    "cache_percent",
    "prices",
    "discount_percent",
    "only_provider",
];

/// What would be otherwise. Whatever is absent stays as it was.
#[derive(Debug, Clone, Default)]
pub struct Scenario {
    /// Its name in the answer.
    pub name: String,
    /// Patterns of models, and the model instead; `None` only selects. Empty selects every model.
    pub models: Vec<(String, Option<String>)>,
    /// Only calls of this provider.
    pub only_provider: Option<String>,
    /// The provider instead.
    pub provider: Option<String>,
    /// The region instead, where prices differ by region.
    pub region: Option<String>,
    /// `batch`, or `standard` for none.
    pub processing: Option<String>,
    /// `flex`, `priority`, …, or `standard` for none.
    pub service_tier: Option<String>,
    /// Percent of the text input that is read from a prompt cache; 0 is without a cache.
    pub cache_percent: Option<u8>,
    /// An own price as a contract would state it: USD per million tokens by bucket.
    pub prices: Map<String, Value>,
    /// Percent off the list price of what `prices` does not name.
    pub discount_percent: Option<String>,
    /// Another version of the price book.
    pub book: Option<Arc<PriceBook>>,
}

impl Scenario {
    /// Reads `{"name", "models": {"gpt-5*": "gpt-5-mini"}, "provider", "region", "processing", "service_tier",
    /// "cache_percent", "prices": {"input": "2.5"}, "discount_percent", "only_provider"}`.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the field.
    pub fn read(value: &Value) -> Result<Self> {
        let Value::Object(fields) = value else {
            return Err(Error::invalid(
                "a scenario is an object such as {\"models\": {\"claude-opus*\": \"claude-sonnet-4-5\"}}",
            ));
        };
        let mut scenario = Self::default();
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            let text = || -> Result<String> {
                let text = match value {
                    Value::String(text) => text.trim().to_owned(),
                    Value::Number(number) => number.to_string(),
                    _ => return Err(Error::invalid(format!("`{name}` of a scenario is a text"))),
                };
                if text.is_empty() || text.len() > WHAT_IF_TEXT_BYTES_MAX {
                    return Err(Error::invalid(format!(
                        "`{name}` of a scenario has 1 to {WHAT_IF_TEXT_BYTES_MAX} bytes"
                    )));
                }
                Ok(text)
            };
            match name.as_str() {
                "name" => scenario.name = text()?,
                "models" => scenario.models = models(value)?,
                "only_provider" => scenario.only_provider = Some(text()?),
                "provider" => scenario.provider = Some(text()?),
                "region" => scenario.region = Some(text()?),
                "processing" => scenario.processing = Some(text()?),
                "service_tier" => scenario.service_tier = Some(text()?),
                "cache_percent" => {
                    let percent = text()?.parse().ok().filter(|percent| *percent <= 100);
                    scenario.cache_percent =
                        Some(percent.ok_or_else(|| Error::invalid("`cache_percent` is a whole number from 0 to 100"))?);
                }
                "prices" => {
                    let Value::Object(prices) = value else {
                        return Err(Error::invalid(
                            "`prices` is an object of USD per million tokens: {\"input\": \"2.5\", \"output\": \"10\"}",
                        ));
                    };
                    scenario.prices = prices.clone();
                }
                "discount_percent" => scenario.discount_percent = Some(text()?),
                unknown => {
                    return Err(Error::invalid(format!(
                        "a scenario has no `{unknown}`{}; it has {}",
                        did_you_mean(unknown, FIELDS.into_iter()),
                        FIELDS.join(", ")
                    )));
                }
            }
        }
        Ok(scenario)
    }

    /// True where something about the call itself would be otherwise, and not only the price book.
    fn changes_calls(&self) -> bool {
        self.models.iter().any(|(_, to)| to.is_some())
            || self.provider.is_some()
            || self.region.is_some()
            || self.processing.is_some()
            || self.service_tier.is_some()
            || self.cache_percent.is_some()
            || self.has_own_price()
    }

    fn has_own_price(&self) -> bool {
        !self.prices.is_empty() || self.discount_percent.is_some()
    }

    /// What its figures rest on, for whoever reads them.
    pub(super) fn caveats(&self) -> Vec<&'static str> {
        let mut caveats = Vec::new();
        if self.models.iter().any(|(_, to)| to.is_some()) {
            caveats.push(
                "tokens are those that the former model's tokenizer counted; another model counts, and answers, differently",
            );
        }
        if self.cache_percent.is_some_and(|percent| percent > 0) {
            caveats.push("cache writes stay as they were, within what is not read; a cache that a call did not write is not charged for");
        }
        caveats
    }
}

fn models(value: &Value) -> Result<Vec<(String, Option<String>)>> {
    let expected = || {
        Error::invalid(
            "`models` is an object of pattern to model: {\"claude-opus*\": \"claude-sonnet-4-5\"}; null keeps the model",
        )
    };
    let Value::Object(rules) = value else {
        return Err(expected());
    };
    if rules.len() > WHAT_IF_MODELS_MAX {
        return Err(Error::invalid(format!(
            "`models` has at most {WHAT_IF_MODELS_MAX} rules"
        )));
    }
    let rule = |(from, to): (&String, &Value)| {
        let to = match to {
            Value::Null => None,
            Value::String(to) if !to.trim().is_empty() => Some(to.trim().to_owned()),
            _ => return Err(expected()),
        };
        let from = from.trim().to_lowercase();
        let is_long = |text: &str| text.len() > WHAT_IF_TEXT_BYTES_MAX;
        if from.is_empty() || is_long(&from) || to.as_deref().is_some_and(is_long) {
            return Err(expected());
        }
        Ok((from, to))
    };
    rules.iter().map(rule).collect()
}

/// A scenario with the book that it charges by.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) scenario: Scenario,
    is_book_only: bool,
    is_other_book: bool,
    pub(super) book: Arc<PriceBook>,
}

impl Change {
    pub(super) fn new(scenario: Scenario, current: &Arc<PriceBook>) -> Result<Self> {
        let changes_calls = scenario.changes_calls();
        if !changes_calls && scenario.book.is_none() {
            return Err(Error::invalid(
                "nothing is to be otherwise; state models, provider, region, processing, service_tier, cache_percent, prices or discount_percent",
            ));
        }
        let mut book = scenario.book.clone().unwrap_or_else(|| Arc::clone(current));
        if scenario.has_own_price() {
            let mut record = Map::from_iter([("model".to_owned(), Value::from("*"))]);
            if !scenario.prices.is_empty() {
                record.insert("prices".to_owned(), Value::Object(scenario.prices.clone()));
            }
            if let Some(percent) = &scenario.discount_percent {
                record.insert("discount_percent".to_owned(), Value::from(percent.as_str()));
            }
            let proposed = book.with_proposal(&Value::Object(record).to_string());
            book = Arc::new(proposed.map_err(|error| Error::new(ErrorKind::Invalid, error.message().to_owned()))?);
        }
        Ok(Self {
            is_book_only: !changes_calls,
            is_other_book: scenario.book.is_some(),
            scenario,
            book,
        })
    }

    /// Calls that are charged, or would be by another book.
    pub(super) fn is_about(&self, call: &Call) -> bool {
        call.kind.uses_a_model() || call.own_cost.is_some() || self.is_other_book && call.mcp.tool.is_some()
    }

    /// What the call would cost; `None` where it would be the same call.
    pub(super) fn reprice(&self, call: &Call) -> Option<Repriced> {
        let (changed, rule) = self.apply(call)?;
        let cost = match &self.scenario.region {
            Some(region) => {
                let cost = cost_in(&changed, &self.book, &[("region", region)]);
                let parts = cost.parts.iter().filter_map(|part| part.effective);
                cost.is_priced.then(|| parts.sum())
            }
            None => charge(&changed, &self.book, 0).own_cost,
        };
        Some(Repriced {
            call: changed,
            cost,
            rule,
        })
    }

    /// The call as it would be, and the place of the rule on models that fits it.
    fn apply(&self, call: &Call) -> Option<(Call, Option<usize>)> {
        let scenario = &self.scenario;
        let names = [&call.model.response_model, &call.model.request_model];
        let names: Vec<String> = names.into_iter().flatten().map(|name| name.to_lowercase()).collect();
        let rule = scenario
            .models
            .iter()
            .position(|(from, _)| names.iter().any(|name| fits(from, name, Wildcards::StarAndMark)));
        if !scenario.models.is_empty() && rule.is_none() || !self.is_book_only && !call.kind.uses_a_model() {
            return None;
        }
        let is_other = |wanted: &String| {
            !call
                .model
                .provider
                .as_deref()
                .is_some_and(|name| name.eq_ignore_ascii_case(wanted))
        };
        if scenario.only_provider.as_ref().is_some_and(is_other) {
            return None;
        }
        let mut call = call.clone();
        if self.is_book_only {
            return Some((call, rule));
        }
        call.reported_cost = None;
        if let Some(provider) = &scenario.provider {
            call.model.provider = Some(provider.clone());
        }
        let model = rule.and_then(|at| scenario.models.get(at));
        if let Some(model) = model.and_then(|(_, to)| to.clone()) {
            call.model.response_model = Some(model.clone());
            call.model.request_model = None;
            let query = PriceQuery {
                provider: call.model.provider.as_deref(),
                model: &model,
                at_ns: call.start_ns,
                ..PriceQuery::default()
            };
            let is_known = self.book.resolve(&query).is_some() || self.book.resolve_contracted(&query, &[]).is_some();
            // Its own provider does not have the model: the model's name says who does.
            if !is_known && scenario.provider.is_none() {
                call.model.provider = None;
            }
        }
        let standard = |name: &String| Some(name.clone()).filter(|name| !name.eq_ignore_ascii_case("standard"));
        if let Some(processing) = &scenario.processing {
            call.model.processing = standard(processing);
            // Anthropic reports a batch as a service tier.
            call.model.service_tier = call
                .model
                .service_tier
                .filter(|tier| !tier.eq_ignore_ascii_case("batch"));
        }
        if let Some(tier) = &scenario.service_tier {
            call.model.service_tier = standard(tier);
        }
        if let Some(percent) = scenario.cache_percent {
            cache(&mut call, i64::from(percent));
        }
        Some((call, rule))
    }
}

/// A call as it would be, and what it would cost.
pub(super) struct Repriced {
    pub(super) call: Call,
    pub(super) cost: Option<FemtoUsd>,
    /// Place of the rule on models that fits it.
    pub(super) rule: Option<usize>,
}

/// Reads `percent` of the text input from a cache. What is written shrinks to what is left, the 1-hour part last;
/// without a cache nothing is written.
fn cache(call: &mut Call, percent: i64) {
    let usage = &mut call.usage;
    let Some(input) = usage.input else {
        return;
    };
    let other = usage
        .audio_input
        .unwrap_or(0)
        .saturating_add(usage.image_input.unwrap_or(0));
    let text = input.saturating_sub(other).max(0);
    let read = i64::try_from(i128::from(text) * i128::from(percent) / 100).unwrap_or(0);
    usage.cache_read = Some(read);
    let mut left = if percent == 0 { 0 } else { text - read };
    for written in [&mut usage.cache_write_1h, &mut usage.cache_write_5m] {
        *written = written.map(|tokens| tokens.min(left));
        left -= written.unwrap_or(0);
    }
}
