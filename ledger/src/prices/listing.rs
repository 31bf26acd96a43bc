//! Lists the price book for people: `spanledger prices list` and `GET /api/v1/prices`.

use serde::Serialize;

use super::catalogue::{PriceRecord, UnitPrice};
use super::units::{Unit, UnitId};
use super::validity::{Weekdays, format_instant};
use super::{Model, PriceBook, Provider};

/// Which prices to list; what is absent does not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriceFilter {
    /// Provider, by its identity or any spelling that [`PriceBook::resolve`] takes.
    pub provider: Option<String>,
    /// Part of the model's identity, or a name it is matched by.
    pub model: Option<String>,
    /// Only what is in force at this instant, nanoseconds since the Unix epoch.
    pub at_ns: Option<i64>,
}

/// One price record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PriceRow {
    /// Identity, as on ledger lines.
    pub price_id: String,
    /// Provider's identity.
    pub provider: String,
    /// Model's identity.
    pub model: String,
    /// `processing=batch`, … Such a row holds only what differs from the model's standard price.
    pub context: Option<String>,
    /// Start, UTC: a date, or RFC 3339.
    pub valid_from: Option<String>,
    /// First instant after it.
    pub valid_to: Option<String>,
    /// Times of the day and days of the week, UTC: `00:30-16:30`, `sat+sun`.
    pub windows: Vec<String>,
    /// Prices by unit. Empty where the model is free of charge.
    pub rates: Vec<RateRow>,
    /// Name of the price list.
    pub source: String,
    /// Version of the book.
    pub version: String,
}

/// The price of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RateRow {
    /// Quantity that is priced, `input_tokens`.
    pub unit: &'static str,
    /// The ledger's bucket for it.
    pub bucket: &'static str,
    /// Exact decimal.
    pub usd: String,
    /// What that buys: `1M tokens`, `1K requests`, `hour`.
    pub per: String,
    /// Prices of larger requests.
    pub tiers: Vec<TierRow>,
}

/// The price of requests with more than so much input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TierRow {
    /// All input tokens of the request, cached ones included, must be more.
    pub above_input_tokens: i64,
    /// Exact decimal, for all tokens of the request.
    pub usd: String,
}

impl PriceBook {
    /// The records that a filter lets through, by provider and model in order of precedence.
    #[must_use]
    pub fn list(&self, filter: &PriceFilter) -> Vec<PriceRow> {
        let wanted_model = filter.model.as_deref().map(str::to_lowercase);
        let mut rows = Vec::new();
        for provider in self
            .providers
            .iter()
            .filter(|provider| self.is_wanted(provider, filter))
        {
            for model in &provider.models {
                let is_wanted = |part: &str| model.id.to_lowercase().contains(part) || model.rule.matches(part);
                if wanted_model.as_deref().is_none_or(is_wanted) {
                    self.list_model(provider, model, filter.at_ns, &mut rows);
                }
            }
        }
        rows
    }

    fn is_wanted(&self, provider: &Provider, filter: &PriceFilter) -> bool {
        let Some(wanted) = filter.provider.as_deref().map(|wanted| wanted.trim().to_lowercase()) else {
            return true;
        };
        match super::providers::find_provider(&self.providers, &wanted) {
            super::Named::Known { index, .. } => self.providers.get(index).is_some_and(|known| known.id == provider.id),
            _ => false,
        }
    }

    fn list_model(&self, provider: &Provider, model: &Model, at_ns: Option<i64>, rows: &mut Vec<PriceRow>) {
        let in_force = at_ns.and_then(|at_ns| model.record_at(at_ns));
        for (index, record) in model.records.iter().enumerate() {
            if at_ns.is_some() && !in_force.is_some_and(|in_force| std::ptr::eq(in_force, record)) {
                continue;
            }
            rows.push(self.row(provider, model, record, None, model.record_ends_ns(index)));
        }
        for variant in model
            .variants
            .iter()
            .filter(|variant| !variant.record.rates.priced().is_empty())
        {
            if at_ns.is_none_or(|at_ns| variant.record.validity.holds_at(at_ns)) {
                let context = variant
                    .context
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect::<Vec<_>>();
                let (context, ends_ns) = (context.join(","), variant.record.validity.to_ns);
                rows.push(self.row(provider, model, &variant.record, Some(context), ends_ns));
            }
        }
    }

    fn row(
        &self,
        provider: &Provider,
        model: &Model,
        record: &PriceRecord,
        context: Option<String>,
        ends_ns: Option<i64>,
    ) -> PriceRow {
        let validity = &record.validity;
        let window = validity.window.map(|window| window.to_string());
        let weekdays = (validity.weekdays != Weekdays::ALL).then(|| validity.weekdays.to_string());
        PriceRow {
            price_id: record.id.clone(),
            provider: provider.id.clone(),
            model: model.id.clone(),
            context,
            valid_from: validity.from_ns.map(format_instant),
            valid_to: ends_ns.map(format_instant),
            windows: window.into_iter().chain(weekdays).collect(),
            rates: record.rates.prices().iter().map(rate_row).collect(),
            source: record.source.clone(),
            version: self.version.clone(),
        }
    }
}

fn rate_row(price: &UnitPrice) -> RateRow {
    let unit = price.unit.unit();
    let tiers = price.tiers.iter().map(|tier| TierRow {
        above_input_tokens: tier.start,
        usd: tier.rate.of_block().to_string(),
    });
    RateRow {
        unit: unit.usage_key,
        bucket: price.unit.bucket().as_str(),
        usd: price.base.of_block().to_string(),
        per: block_name(price.unit, unit),
        tiers: tiers.collect(),
    }
}

fn block_name(id: UnitId, unit: &Unit) -> String {
    let noun = match unit.usage_key {
        _ if id.counts_tokens() => "tokens",
        key if key.ends_with("_seconds") => return "hour".to_owned(),
        key => key.trim_start_matches("input_").trim_start_matches("output_"),
    };
    let count = match unit.per {
        1_000 => "1K",
        1_000_000 => "1M",
        1_000_000_000 => "1G",
        _ => "1",
    };
    format!("{count} {}", noun.replace('_', " "))
}
