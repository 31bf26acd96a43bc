//! LiteLLM's `model_prices_and_context_window.json`: one object, a model a member, USD for one token.
//!
//! Its map has no dates, so its prices hold always; models that were retired are deleted from it. What it
//! writes as 0 may be free or unknown, so an entry that states nothing else is left out, with a note: an
//! unknown model must never cost 0. Prices in doubles with a tail (`1.5000000000000002e-07`) are rounded to
//! whole femto-USD for a token, with a note.
//!
//! | field | becomes |
//! |---|---|
//! | `…_above_200k_tokens` | a tier above 200,000 input tokens |
//! | `…_batches` | context `processing=batch` |
//! | `…_flex`, `…_priority` | context `service_tier=…` |
//! | `regional_processing_uplift_multiplier_eu` | context `region=eu` with every rate times it |
//! | `off_peak_pricing` | prices in a window of the day, or on some weekdays |
//! | `azure/eu/…`, `bedrock/us-east-1/…` | context `region=…` |

use std::collections::BTreeMap;

use spanledger_model::FemtoUsd;

use super::super::catalogue::Rate;
use super::super::json::Json;
use super::super::providers;
use super::super::stated::{Layer, StatedPrice, StatedRate, StatedTime, is_complete};
use super::super::units::UnitId;
use super::{Notes, RECORDS_MAX};

/// LiteLLM's field, our unit, and the power of ten between their blocks.
const FIELDS: [(&str, &str, i32); 12] = [
    ("input_cost_per_token", "input_mtok", 6),
    ("output_cost_per_token", "output_mtok", 6),
    ("cache_read_input_token_cost", "cache_read_mtok", 6),
    ("cache_creation_input_token_cost", "cache_write_mtok", 6),
    ("cache_creation_input_token_cost_above_1hr", "cache_write_1h_mtok", 6),
    ("input_cost_per_audio_token", "input_audio_mtok", 6),
    ("output_cost_per_audio_token", "output_audio_mtok", 6),
    ("output_cost_per_reasoning_token", "output_reasoning_mtok", 6),
    ("input_cost_per_image_token", "input_image_mtok", 6),
    ("output_cost_per_image_token", "output_image_mtok", 6),
    ("cache_read_input_audio_token_cost", "cache_audio_read_mtok", 6),
    ("input_cost_per_request", "requests_kcount", 3),
];
/// Ends of a field's name that stand for a context.
const CONTEXTS: [(&str, &str, &str); 3] = [
    ("_batches", "processing", "batch"),
    ("_flex", "service_tier", "flex"),
    ("_priority", "service_tier", "priority"),
];
const UPLIFT: &str = "regional_processing_uplift_multiplier_";

/// Reads the map.
pub(super) fn read(text: &str, layer: Layer, notes: &mut Notes) -> Result<Vec<StatedPrice>, String> {
    let json = Json::parse(text)?;
    let Json::Object(entries) = &json else {
        return Err("expected an object with a member for each model".to_owned());
    };
    if entries.len() > RECORDS_MAX {
        return Err(format!("more than {RECORDS_MAX} models"));
    }
    if layer == Layer::Tools {
        return Err("LiteLLM's map has no prices of tools".to_owned());
    }
    let mut prices = Vec::new();
    for (key, entry) in entries.iter().filter(|(key, _)| key != "sample_spec") {
        let read = read_entry(key, entry, notes).map_err(|error| format!("{key}: {error}"))?;
        prices.extend(read);
    }
    Ok(prices)
}

/// What an entry states, by context.
type ByContext = BTreeMap<Option<(&'static str, String)>, Rates>;
/// Rates by price key.
type Rates = BTreeMap<String, StatedRate>;

fn read_entry(key: &str, entry: &Json<'_>, notes: &mut Notes) -> Result<Vec<StatedPrice>, String> {
    if !matches!(entry, Json::Object(_)) {
        return Err("expected an object".to_owned());
    }
    let Some(sent_provider) = entry.get("litellm_provider").and_then(Json::text) else {
        notes.add(
            "(no provider)",
            format!("{key} names no litellm_provider and is left out"),
        );
        return Ok(Vec::new());
    };
    let (provider, model, region) = identity(sent_provider, key);
    let mut by_context = ByContext::new();
    let mut uplifts = Vec::new();
    let mut off_peak = None;
    for (name, value) in entry.fields() {
        match (name.as_ref(), value) {
            (_, Json::Null) | ("input_cost_per_token_cache_hit", _) => {}
            ("search_context_cost_per_query", sizes) => read_searches(key, sizes, &mut by_context, notes)?,
            ("off_peak_pricing", stated) => off_peak = Some(read_off_peak(key, stated, notes)?),
            (name, value) => match name.strip_prefix(UPLIFT) {
                Some(region) => uplifts.push((region.to_owned(), digits(name, value)?.to_owned())),
                None => {
                    let is_known = read_field(key, name, value, &mut by_context, notes)?;
                    let is_about_money = name.contains("cost") || name.contains("pric") || name.contains("peak");
                    if !is_known && is_about_money {
                        notes.unknown(&format!("field {name:?}"));
                    }
                }
            },
        }
    }
    for rates in by_context.values_mut() {
        let n_rates = rates.len();
        rates.retain(|_, rate| !rate.base.is_empty());
        if rates.len() < n_rates {
            notes.add(
                "(tiers)",
                format!("{key} states a tier without the price below it, which is left out"),
            );
        }
    }
    by_context.retain(|_, rates| !rates.is_empty());
    let says_something = |rates: &Rates| {
        rates
            .values()
            .any(|rate| FemtoUsd::parse(&rate.base).is_some_and(|amount| amount.0 != 0))
    };
    let Some(standard) = by_context.get(&None).filter(|rates| says_something(rates)) else {
        notes.add(
            "(no price)",
            format!("{key} has no price above 0 in a unit that calls are counted in, and is left out"),
        );
        return Ok(Vec::new());
    };
    if !is_complete(standard) {
        notes.add(
            "(parts)",
            format!("{key} prices a part and not the whole it is counted in, and is left out"),
        );
        return Ok(Vec::new());
    }
    // Off the peak, what is not named costs what it costs at other times.
    let (times, cheaper) = off_peak.unwrap_or_default();
    let mut off_peak_rates = standard.clone();
    off_peak_rates.extend(cheaper);
    let standard = standard.clone();
    for (region, factor) in uplifts {
        let rates = multiplied(&standard, &factor).ok_or_else(|| format!("cannot multiply by {factor:?}"))?;
        by_context.insert(Some(("region", region)), rates);
    }
    let price = |context: Option<(&str, String)>, time: StatedTime, prices| StatedPrice {
        provider: Some(provider.clone()),
        model: model.clone(),
        context: region
            .iter()
            .map(|region| ("region".to_owned(), region.clone()))
            .chain(context.map(|(key, value)| (key.to_owned(), value)))
            .collect(),
        time,
        prices,
        discount_percent: None,
        source: None,
    };
    let mut prices: Vec<StatedPrice> = by_context
        .into_iter()
        .map(|(context, rates)| price(context, StatedTime::default(), rates))
        .collect();
    prices.extend(times.into_iter().map(|time| price(None, time, off_peak_rates.clone())));
    Ok(prices)
}

/// Provider, model and region of an entry: the first part of `azure/eu/gpt-5` repeats the provider.
fn identity(provider: &str, key: &str) -> (String, String, Option<String>) {
    let provider = provider.to_lowercase();
    // `vertex_ai-anthropic_models`, `text-completion-openai`: a provider and what is bought of it.
    let provider = match provider.as_str() {
        name if name.starts_with("vertex_ai") => "vertex_ai".to_owned(),
        name if name.ends_with("-openai") => "openai".to_owned(),
        name if name.starts_with("fireworks_ai") => "fireworks_ai".to_owned(),
        _ => provider,
    };
    let names_provider = |first: &str| {
        let same = |name: &str| name.replace(['_', '.'], "-");
        let first = first.to_lowercase();
        same(&provider).starts_with(&same(&first)) || first == "bedrock" && provider.starts_with("bedrock")
    };
    let rest = match key.split_once('/') {
        Some((first, rest)) if names_provider(first) && !rest.is_empty() => rest,
        _ => key,
    };
    match rest.split_once('/') {
        Some((region, rest)) if providers::is_region(region) && !rest.is_empty() => {
            (provider, rest.to_owned(), Some(region.to_owned()))
        }
        _ => (provider, rest.to_owned(), None),
    }
}

/// Reads a field that states a rate; false where it does not.
fn read_field(
    key: &str,
    name: &str,
    value: &Json<'_>,
    by_context: &mut ByContext,
    notes: &mut Notes,
) -> Result<bool, String> {
    let context = CONTEXTS
        .iter()
        .find_map(|(end, key, value)| Some((name.strip_suffix(end)?, (*key, *value))));
    let (name, context) = match context {
        Some((name, (key, value))) => (name, Some((key, value.to_owned()))),
        None => (name, None),
    };
    let (name, above) = match split_tier(name) {
        Some((name, thousands)) => (name, Some(thousands * 1_000)),
        None => (name, None),
    };
    let Some((_, price_key, power)) = FIELDS.iter().find(|(field, _, _)| *field == name) else {
        return Ok(false);
    };
    let amount = rounded(key, name, price_key, digits(name, value)?, *power, notes)?;
    let rates = by_context.entry(context).or_default();
    let rate = rates.entry((*price_key).to_owned()).or_insert_with(|| StatedRate {
        base: String::new(),
        tiers: Vec::new(),
    });
    match above {
        Some(start) => rate.tiers.push((start, amount)),
        None => rate.base = amount,
    }
    Ok(true)
}

/// `input_cost_per_token_above_200k_tokens` as the field and 200.
fn split_tier(name: &str) -> Option<(&str, i64)> {
    let (field, thousands) = name.strip_suffix("k_tokens")?.rsplit_once("_above_")?;
    let thousands = thousands.parse::<i64>().ok()?;
    (0..=1_000_000_000).contains(&thousands).then_some((field, thousands))
}

/// A search costs the same whatever its size, or cannot be told: calls do not say how large it was.
fn read_searches(key: &str, sizes: &Json<'_>, by_context: &mut ByContext, notes: &mut Notes) -> Result<(), String> {
    let mut stated: Vec<&str> = Vec::new();
    for (name, value) in sizes.fields() {
        stated.push(digits(name, value)?);
    }
    let amounts: Vec<Option<FemtoUsd>> = stated.iter().map(|digits| FemtoUsd::parse(digits)).collect();
    let Some(first) = stated.first() else { return Ok(()) };
    if amounts.windows(2).any(|pair| pair[0] != pair[1]) {
        notes.add(
            "(searches)",
            format!("{key} prices a web search by its size, which calls do not tell; its searches have no price"),
        );
        return Ok(());
    }
    let price_key = "web_searches_kcount";
    let amount = rounded(key, "search_context_cost_per_query", price_key, first, 3, notes)?;
    let rate = StatedRate {
        base: amount,
        tiers: Vec::new(),
    };
    by_context.entry(None).or_default().insert(price_key.to_owned(), rate);
    Ok(())
}

/// Times with prices of their own: `windows` of `hours_utc` (one or several `10:00-16:00`) and ISO weekdays.
fn read_off_peak(key: &str, off_peak: &Json<'_>, notes: &mut Notes) -> Result<(Vec<StatedTime>, Rates), String> {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let mut by_context = ByContext::new();
    for (name, value) in off_peak.fields().iter().filter(|(name, _)| name != "windows") {
        if !read_field(key, name, value, &mut by_context, notes)? {
            notes.unknown(&format!("field \"off_peak_pricing.{name}\""));
        }
    }
    let mut times = Vec::new();
    for window in off_peak.get("windows").map_or(&[][..], Json::items) {
        let invalid = || "off_peak_pricing has a window that cannot be read".to_owned();
        let days = window.get("weekdays").map_or(&[][..], Json::items).iter();
        let days: Option<Vec<String>> = days
            .map(|day| {
                let number: usize = day.digits()?.parse().ok()?;
                DAYS.get(number.checked_sub(1)?).map(|day| (*day).to_owned())
            })
            .collect();
        let weekdays = days.ok_or_else(invalid)?;
        let hours = match window.get("hours_utc") {
            Some(Json::Array(hours)) => hours.as_slice(),
            Some(hours) => std::slice::from_ref(hours),
            None => return Err(invalid()),
        };
        for hours in hours {
            let (start, end) = hours
                .text()
                .and_then(|hours| hours.split_once('-'))
                .ok_or_else(invalid)?;
            // From midnight to midnight is all day.
            let is_all_day = start == end;
            let of_day = |text: &str| (!is_all_day).then(|| format!("{}:00Z", text.trim()));
            let time = StatedTime {
                start_time: of_day(start),
                end_time: of_day(end),
                weekdays: weekdays.clone(),
                ..StatedTime::default()
            };
            time.validity()?;
            times.push(time);
        }
    }
    Ok((times, by_context.remove(&None).unwrap_or_default()))
}

fn digits<'j>(name: &str, value: &'j Json<'_>) -> Result<&'j str, String> {
    let digits = value.digits().map(str::trim);
    digits
        .filter(|digits| digits.len() <= 64 && FemtoUsd::parse(digits).is_some())
        .ok_or_else(|| format!("{name} must be a number"))
}

/// Digits for one as digits for a block of ten to the `power`, rounded where it has too many decimals.
fn rounded(
    key: &str,
    name: &str,
    price_key: &str,
    digits: &str,
    power: i32,
    notes: &mut Notes,
) -> Result<String, String> {
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let exponent: i32 = exponent
        .parse()
        .map_err(|_| format!("{name} has no readable exponent"))?;
    let block = format!("{mantissa}e{}", exponent.saturating_add(power));
    let unit = UnitId::of_price_key(price_key).ok_or_else(|| format!("unknown unit {price_key}"))?;
    let (rate, was_rounded) = Rate::parse_rounded(&block, unit.unit()).map_err(|error| format!("{name}: {error}"))?;
    if was_rounded {
        notes.add(
            "(rounded)",
            format!("{key}: {name} {digits} has too many decimals and is rounded"),
        );
    }
    Ok(rate.of_block().to_string())
}

/// Rates times a factor, rounded half to even to whole femto-USD for a token.
fn multiplied(rates: &Rates, factor: &str) -> Option<Rates> {
    let factor = FemtoUsd::parse(factor)?.0;
    // Millionths are finer than any factor published, and keep the product in range.
    let ppm = factor / (FemtoUsd::ONE_USD.0 / 1_000_000);
    if !(0..=100_000_000).contains(&ppm) {
        return None;
    }
    let times = |digits: &str, price_key: &str| {
        let amount = FemtoUsd::parse(digits)?.0.checked_mul(ppm)? / 1_000_000;
        let unit = UnitId::of_price_key(price_key)?.unit();
        let (rate, _) = Rate::parse_rounded(&FemtoUsd(amount).to_string(), unit).ok()?;
        Some(rate.of_block().to_string())
    };
    rates
        .iter()
        .map(|(price_key, rate)| {
            let tiers = rate
                .tiers
                .iter()
                .map(|(start, digits)| Some((*start, times(digits, price_key)?)));
            let base = times(&rate.base, price_key)?;
            Some((
                price_key.clone(),
                StatedRate {
                    base,
                    tiers: tiers.collect::<Option<_>>()?,
                },
            ))
        })
        .collect()
}
