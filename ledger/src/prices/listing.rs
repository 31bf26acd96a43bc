//! Lists the price book for people: `spanledger prices list` and `GET /api/v1/prices`.

use serde::Serialize;
use spanledger_model::{Bucket, FemtoUsd};

use super::catalogue::{PriceRecord, UnitPrice};
use super::units::{Unit, UnitId};
use super::validity::{Validity, Weekdays, format_instant};
use super::{ContractEntry, Layer, Model, PriceBook, Provider, ToolPrice};

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
    /// List price, contract or price of a tool.
    pub layer: Layer,
    /// Identity, as on ledger lines.
    pub price_id: String,
    /// Provider's identity, `*` where a contract holds for any; a tool's server.
    pub provider: String,
    /// Model's identity, or a contract's pattern; the tool.
    pub model: String,
    /// `processing=batch`, … Such a row holds only what differs from the model's standard price.
    pub context: Option<String>,
    /// Start, UTC: a date, or RFC 3339.
    pub valid_from: Option<String>,
    /// First instant after it.
    pub valid_to: Option<String>,
    /// Times of the day and days of the week, UTC: `00:30-16:30`, `sat+sun`.
    pub windows: Vec<String>,
    /// Prices by unit. Empty where the model is free of charge, or where a contract gives only a discount.
    pub rates: Vec<RateRow>,
    /// A contract's discount off the list price of what `rates` does not name, in percent.
    pub discount_percent: Option<String>,
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
        self.list_contracts(filter, wanted_model.as_deref(), &mut rows);
        self.list_tools(filter, wanted_model.as_deref(), &mut rows);
        rows
    }

    fn list_contracts(&self, filter: &PriceFilter, wanted_model: Option<&str>, rows: &mut Vec<PriceRow>) {
        let wanted_provider = filter
            .provider
            .as_deref()
            .map(|name| super::providers::identity_of(&self.providers, name));
        let is_wanted = |entry: &&ContractEntry| {
            let model = entry.model.to_lowercase();
            let of_model = wanted_model.is_none_or(|part| model.contains(part) || entry.matches(part));
            let of_provider = wanted_provider
                .as_ref()
                .is_none_or(|wanted| entry.provider.is_none() || entry.provider.as_ref() == Some(wanted));
            of_model && of_provider && filter.at_ns.is_none_or(|at_ns| entry.validity.holds_at(at_ns))
        };
        for entry in self.contracts().iter().filter(is_wanted) {
            let context = entry.context.iter().map(|(key, value)| format!("{key}={value}"));
            let context = context.collect::<Vec<_>>().join(",");
            rows.push(PriceRow {
                layer: Layer::Contract,
                price_id: entry.id.clone(),
                provider: entry.provider.clone().unwrap_or_else(|| "*".to_owned()),
                model: entry.model.clone(),
                context: Some(context).filter(|context| !context.is_empty()),
                rates: entry.rates.prices().iter().map(rate_row).collect(),
                discount_percent: entry.discount_ppm.map(percent),
                source: entry.source.clone(),
                ..self.dated(&entry.validity)
            });
        }
    }

    fn list_tools(&self, filter: &PriceFilter, wanted_model: Option<&str>, rows: &mut Vec<PriceRow>) {
        let is_wanted = |price: &&ToolPrice| {
            filter.provider.is_none()
                && wanted_model.is_none_or(|part| price.tool.to_lowercase().contains(part))
                && filter.at_ns.is_none_or(|at_ns| price.validity.holds_at(at_ns))
        };
        for price in self.tools().iter().filter(is_wanted) {
            let parts = [
                ("calls", "1 call", price.per_call),
                ("seconds", "1 second", price.per_second),
                ("result_bytes", "1 byte", price.per_byte),
            ];
            let rates = parts.into_iter().filter_map(|(unit, per, amount)| {
                Some(RateRow {
                    unit,
                    bucket: Bucket::Request.as_str(),
                    usd: amount?.to_string(),
                    per: per.to_owned(),
                    tiers: Vec::new(),
                })
            });
            rows.push(PriceRow {
                layer: Layer::Tools,
                price_id: price.id.clone(),
                provider: price.server.clone().unwrap_or_else(|| "*".to_owned()),
                model: price.tool.clone(),
                rates: rates.collect(),
                source: price.source.clone(),
                ..self.dated(&price.validity)
            });
        }
    }

    /// A row of which only version and time are known.
    fn dated(&self, validity: &Validity) -> PriceRow {
        let window = validity.window.map(|window| window.to_string());
        let weekdays = (validity.weekdays != Weekdays::ALL).then(|| validity.weekdays.to_string());
        PriceRow {
            layer: Layer::List,
            price_id: String::new(),
            provider: String::new(),
            model: String::new(),
            context: None,
            valid_from: validity.from_ns.map(format_instant),
            valid_to: validity.to_ns.map(format_instant),
            windows: window.into_iter().chain(weekdays).collect(),
            rates: Vec::new(),
            discount_percent: None,
            source: String::new(),
            version: self.version.to_string(),
        }
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
        PriceRow {
            price_id: record.id.to_string(),
            provider: provider.id.clone(),
            model: model.id.clone(),
            context,
            valid_to: ends_ns.map(format_instant),
            rates: record.rates.prices().iter().map(rate_row).collect(),
            source: record.source.clone(),
            ..self.dated(&record.validity)
        }
    }
}

/// Millionths as percent: 125,000 is 12.5.
fn percent(ppm: u32) -> String {
    FemtoUsd(i128::from(ppm) * (FemtoUsd::ONE_USD.0 / 10_000)).to_string()
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
