//! Reads price files into records: the genai-prices v2 catalogue and our own overrides.
//!
//! Every number is taken from its digits ([`super::json`]). A record that prices a unit without its
//! ancestors, so that tokens could go unpriced unnoticed, is refused with its place in the file.
//!
//! A token's price must be a whole number of femto-USD: nine decimals for a million tokens. What we state
//! ourselves and has more is refused. In a catalogue it is rounded with a warning: some records hold the
//! residue of a computation in doubles (`0.18000000000000002`) or a fraction (1/24) that no list states.
//! A unit that we do not know is a warning too.
//!
//! ```text
//! catalogue   [{id, model_match?, provider_match?, fallback_model_providers?, models: [
//!                {id, match, prices: {input_mtok: 3 | {base, tiers: [{start, price}]}, …}
//!                            | [{constraint?: {start_date} | {start_time, end_time}, prices}],
//!                 price_variants?: [{when: {processing: "batch"}, constraint?, prices}]}]}]
//! overrides   {prices: [{provider, model, match?, context?, valid_from?, valid_to?, start_time?, end_time?,
//!                        weekdays?, prices, source}],
//!              minimums: [{provider, models, units, at_least, source}]}
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use super::catalogue::{Minimum, Model, PriceRecord, Provider, Rate, Rates, Tier, UnitPrice, Variant};
use super::json::Json;
use super::matching::MatchRule;
use super::units::{UnitId, UnitSet};
use super::validity::{Validity, Weekdays, Window, parse_instant};

type Import<T> = Result<T, String>;

/// Prefix of the identity of a price that an override states without a `name`.
pub(super) const OVERRIDES: &str = "spanledger";

/// What was read, and what in it we could not use.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    pub(super) providers: Vec<Provider>,
    pub(super) warnings: Vec<String>,
}

/// Reads a genai-prices v2 catalogue; `source` is the prefix of its records' identities.
pub(super) fn read_catalogue(json: &Json<'_>, source: &str) -> Import<Catalogue> {
    let Json::Array(items) = json else {
        return Err("expected an array of providers".to_owned());
    };
    let mut catalogue = Catalogue::default();
    let mut ids = HashSet::new();
    for item in items {
        let id = required_text(item, "id")?;
        let provider = read_provider(item, id, source, &mut catalogue.warnings)
            .map_err(|error| format!("provider {id}: {error}"))?;
        if !ids.insert(id) {
            return Err(format!("provider {id} stands twice"));
        }
        catalogue.providers.push(provider);
    }
    Ok(catalogue)
}

/// Applies overrides on top: a dated price after the model's others, a price in a context before them,
/// so that either takes precedence.
pub(super) fn apply_overrides(catalogue: &mut Catalogue, json: &Json<'_>) -> Import<()> {
    for (index, item) in json.get("prices").map_or(&[][..], Json::items).iter().enumerate() {
        apply_price(catalogue, item).map_err(|error| format!("override {index}: {error}"))?;
    }
    for (index, item) in json.get("minimums").map_or(&[][..], Json::items).iter().enumerate() {
        apply_minimum(catalogue, item).map_err(|error| format!("minimum {index}: {error}"))?;
    }
    Ok(())
}

fn read_provider(item: &Json<'_>, id: &str, source: &str, warnings: &mut Vec<String>) -> Import<Provider> {
    if id != id.trim().to_lowercase() || id.is_empty() {
        return Err("the id must be lowercase, without space around it".to_owned());
    }
    let rule = |key| item.get(key).map(MatchRule::import).transpose();
    let fallbacks = item.get("fallback_model_providers").map_or(&[][..], Json::items);
    let mut models: Vec<Model> = Vec::new();
    let mut ids = HashSet::new();
    for model in item.get("models").map_or(&[][..], Json::items) {
        let model_id = required_text(model, "id")?;
        let place = Place {
            source,
            provider: id,
            model: model_id,
        };
        let model = read_model(model, place, warnings).map_err(|error| format!("model {model_id}: {error}"))?;
        if !ids.insert(model_id) {
            return Err(format!("model {model_id} stands twice"));
        }
        models.push(model);
    }
    Ok(Provider {
        id: id.to_owned(),
        model_rule: rule("model_match")?,
        provider_rule: rule("provider_match")?,
        fallbacks: fallbacks
            .iter()
            .filter_map(|fallback| fallback.text().map(str::to_owned))
            .collect(),
        models,
    })
}

/// Where a record stands, for its identity.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    pub(super) source: &'p str,
    pub(super) provider: &'p str,
    pub(super) model: &'p str,
}

impl Place<'_> {
    pub(super) fn record(self, validity: Validity, rates: Rates) -> PriceRecord {
        let id = format!("{}:{}/{}{}", self.source, self.provider, self.model, validity.suffix());
        PriceRecord {
            id: Arc::from(id),
            source: self.source.to_owned(),
            validity,
            rates,
        }
    }

    pub(super) fn variant(self, context: Vec<(String, String)>, validity: Validity, rates: Rates) -> Variant {
        let context_suffix: String = context.iter().map(|(key, value)| format!("+{key}={value}")).collect();
        let suffix = format!("{context_suffix}{}", validity.suffix());
        let mut record = self.record(Validity::ALWAYS, rates);
        record.id = Arc::from(format!("{}{suffix}", record.id));
        record.validity = validity;
        Variant {
            suffix,
            context: context.into(),
            record,
        }
    }
}

fn read_model(item: &Json<'_>, place: Place<'_>, warnings: &mut Vec<String>) -> Import<Model> {
    let mut rates = |prices: &Json<'_>| read_rates(prices, place, warnings);
    let mut records = Vec::new();
    match item.get("prices") {
        Some(Json::Array(dated)) => {
            for entry in dated {
                let validity = entry.get("constraint").map_or(Ok(Validity::ALWAYS), read_constraint)?;
                let prices = entry.get("prices").ok_or("a dated price lacks prices")?;
                records.push(place.record(validity, rates(prices)?));
            }
        }
        Some(prices) => records.push(place.record(Validity::ALWAYS, rates(prices)?)),
        None => {}
    }
    if records.is_empty() {
        return Err("no prices".to_owned());
    }
    let mut variants = Vec::new();
    for entry in item.get("price_variants").map_or(&[][..], Json::items) {
        let context = read_context(entry.get("when"))?;
        if context.is_empty() {
            return Err("a price variant lacks its context".to_owned());
        }
        let validity = entry.get("constraint").map_or(Ok(Validity::ALWAYS), read_constraint)?;
        let prices = entry.get("prices").ok_or("a price variant lacks prices")?;
        variants.push(place.variant(context, validity, rates(prices)?));
    }
    let rule = MatchRule::import(item.get("match").ok_or("no match rule")?)?;
    let model = Model {
        id: place.model.to_owned(),
        rule,
        stated_by: None,
        records,
        variants,
        minimums: Vec::new(),
    };
    check_complete(&model)?;
    Ok(model)
}

fn read_constraint(item: &Json<'_>) -> Import<Validity> {
    let text = |key| item.get(key).and_then(Json::text);
    match (text("start_date"), text("start_time"), text("end_time")) {
        (Some(date), None, None) => Ok(Validity {
            from_ns: Some(parse_instant(date)?),
            ..Validity::ALWAYS
        }),
        (None, Some(start), Some(end)) => Ok(Validity {
            window: Some(Window::parse(start, end)?),
            ..Validity::ALWAYS
        }),
        _ => Err("a constraint must hold start_date, or start_time and end_time".to_owned()),
    }
}

fn read_context(item: Option<&Json<'_>>) -> Import<Vec<(String, String)>> {
    let fields = item.map_or(&[][..], Json::fields).iter();
    fields
        .map(|(key, value)| {
            let value = value.text().ok_or_else(|| format!("context {key:?} must be a text"))?;
            Ok((key.to_string(), value.to_owned()))
        })
        .collect()
}

fn read_rates(prices: &Json<'_>, place: Place<'_>, warnings: &mut Vec<String>) -> Import<Rates> {
    let Json::Object(fields) = prices else {
        return Err("prices must be an object".to_owned());
    };
    let mut read = Vec::with_capacity(fields.len());
    for (key, value) in fields {
        let Some(unit) = UnitId::of_price_key(key) else {
            warnings.push(format!(
                "{}/{}: unknown unit {key:?} is not priced",
                place.provider, place.model
            ));
            continue;
        };
        if *value != Json::Null {
            let mut rounded = Vec::new();
            read.push(read_unit_price(unit, value, &mut rounded).map_err(|error| format!("{key}: {error}"))?);
            let place = format!("{}/{}: {key}", place.provider, place.model);
            warnings.extend(
                rounded
                    .iter()
                    .map(|digits| format!("{place} {digits} has too many decimals and is rounded")),
            );
        }
    }
    Ok(Rates::new(read))
}

/// Reads a price with its tiers, and notes the digits of what had to be rounded.
fn read_unit_price(unit: UnitId, value: &Json<'_>, rounded: &mut Vec<String>) -> Import<UnitPrice> {
    let mut rate = |json: Option<&Json<'_>>| {
        let digits = json.and_then(Json::digits).ok_or("expected a number")?;
        let (rate, was_rounded) = Rate::parse_rounded(digits, unit.unit())?;
        rounded.extend(was_rounded.then(|| digits.to_owned()));
        Ok::<Rate, String>(rate)
    };
    if !matches!(value, Json::Object(_)) {
        return Ok(UnitPrice {
            unit,
            base: rate(Some(value))?,
            tiers: Box::default(),
        });
    }
    let mut tiers = Vec::new();
    for tier in value.get("tiers").map_or(&[][..], Json::items) {
        let start = tier
            .get("start")
            .and_then(Json::digits)
            .and_then(|digits| digits.parse::<i64>().ok());
        let start = start
            .filter(|start| *start >= 0)
            .ok_or("a tier's start must be a whole number ≥ 0")?;
        tiers.push(Tier {
            start,
            rate: rate(tier.get("price"))?,
        });
    }
    tiers.sort_by_key(|tier| tier.start);
    Ok(UnitPrice {
        unit,
        base: rate(value.get("base"))?,
        tiers: tiers.into(),
    })
}

/// Checks that whatever is counted in a priced unit is priced too: its ancestors, and the join of any two.
fn check_complete(model: &Model) -> Import<()> {
    for record in &model.records {
        let standard = record.rates.priced();
        let variants = model
            .variants
            .iter()
            .map(|variant| standard.or(variant.record.rates.priced()));
        for priced in std::iter::once(standard).chain(variants) {
            check_complete_set(priced).map_err(|error| format!("{}: {error}", record.id))?;
        }
    }
    Ok(())
}

fn check_complete_set(priced: UnitSet) -> Import<()> {
    let name = |unit: UnitId| unit.unit().price_key;
    for unit in priced.iter() {
        if let Some(missing) = unit.ancestors().iter().find(|ancestor| !priced.contains(*ancestor)) {
            return Err(format!(
                "{} is priced and {}, which it is counted in, is not",
                name(unit),
                name(missing)
            ));
        }
        for other in priced
            .iter()
            .filter(|other| *other > unit && unit.is_compatible(*other))
        {
            if unit.join(other).is_none_or(|join| !priced.contains(join)) {
                return Err(format!(
                    "{} and {} are priced and what is both is not",
                    name(unit),
                    name(other)
                ));
            }
        }
    }
    Ok(())
}

fn apply_price(catalogue: &mut Catalogue, item: &Json<'_>) -> Import<()> {
    let (provider_id, model_id) = (required_text(item, "provider")?, required_text(item, "model")?);
    required_text(item, "source")?;
    let source = item.get("name").and_then(Json::text).unwrap_or(OVERRIDES);
    let place = Place {
        source,
        provider: provider_id,
        model: model_id,
    };
    let instant = |key| item.get(key).and_then(Json::text).map(parse_instant).transpose();
    let time = |key| item.get(key).and_then(Json::text);
    let validity = Validity {
        from_ns: instant("valid_from")?,
        to_ns: instant("valid_to")?,
        window: match (time("start_time"), time("end_time")) {
            (Some(start), Some(end)) => Some(Window::parse(start, end)?),
            (None, None) => None,
            _ => return Err("start_time and end_time belong together".to_owned()),
        },
        weekdays: match item.get("weekdays") {
            Some(days) => Weekdays::parse(days.items().iter().filter_map(Json::text))?,
            None => Weekdays::ALL,
        },
    };
    let n_warnings = catalogue.warnings.len();
    let rates = read_rates(item.get("prices").ok_or("no prices")?, place, &mut catalogue.warnings)?;
    if let Some(warning) = catalogue.warnings.drain(n_warnings..).next() {
        return Err(warning);
    }
    let context = read_context(item.get("context"))?;

    let provider = catalogue
        .providers
        .iter_mut()
        .find(|provider| provider.id == provider_id);
    let provider = provider.ok_or_else(|| format!("unknown provider {provider_id:?}"))?;
    match provider.models.iter_mut().find(|model| model.id == model_id) {
        Some(model) => {
            if context.is_empty() {
                model.records.push(place.record(validity, rates));
            } else {
                model.variants.insert(0, place.variant(context, validity, rates));
            }
            check_complete(model)
        }
        None if context.is_empty() => {
            let rule = item.get("match").map(MatchRule::import).transpose()?;
            let rule = rule.unwrap_or_else(|| MatchRule::Equals(model_id.to_lowercase()));
            let records = vec![place.record(validity, rates)];
            let model = Model {
                id: model_id.to_owned(),
                rule,
                stated_by: None,
                records,
                variants: Vec::new(),
                minimums: Vec::new(),
            };
            check_complete(&model)?;
            provider.models.insert(0, model);
            Ok(())
        }
        None => Err(format!(
            "{provider_id}/{model_id} is not known; state its standard price before one in a context"
        )),
    }
}

fn apply_minimum(catalogue: &mut Catalogue, item: &Json<'_>) -> Import<()> {
    let provider_id = required_text(item, "provider")?;
    required_text(item, "source")?;
    let units: Option<Vec<UnitId>> = item
        .get("units")
        .map_or(&[][..], Json::items)
        .iter()
        .map(|unit| unit.text().and_then(UnitId::of_usage_key))
        .collect();
    let units = units
        .filter(|units| !units.is_empty())
        .ok_or("units must name usage keys")?;
    let at_least = item
        .get("at_least")
        .and_then(Json::digits)
        .and_then(|digits| digits.parse::<i64>().ok());
    let at_least = at_least
        .filter(|least| *least > 0)
        .ok_or("at_least must be a whole number > 0")?;
    let provider = catalogue
        .providers
        .iter_mut()
        .find(|provider| provider.id == provider_id);
    let provider = provider.ok_or_else(|| format!("unknown provider {provider_id:?}"))?;
    for name in item
        .get("models")
        .map_or(&[][..], Json::items)
        .iter()
        .filter_map(Json::text)
    {
        let model = provider.models.iter_mut().find(|model| model.id == name);
        let model = model.ok_or_else(|| format!("unknown model {name:?}"))?;
        model.minimums.push(Minimum {
            units: units.clone().into(),
            at_least,
        });
    }
    Ok(())
}

fn required_text<'j>(item: &'j Json<'_>, key: &str) -> Import<&'j str> {
    item.get(key)
        .and_then(Json::text)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| format!("{key} is missing"))
}
