//! Prices that somebody states: list prices beside the catalogue, contracts, prices of tools.
//!
//! The one record that CSV, TOML and LiteLLM files are read into, that a version of the price book is stored
//! as, and that is compiled into what settlement asks. Rates stay the decimal digits that were written.
//!
//! Reading checks everything that can be wrong with a single record, so that a stored version always loads.
//! What a record means together with others is [`super::contract`]'s, [`super::tools`]'s and
//! [`apply_list`]'s to say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::catalogue::{Model, PPM, Provider, Rate, Rates, Tier, UnitPrice};
use super::import::{Catalogue, Place};
use super::json::Json;
use super::matching::{MatchRule, lowercase};
use super::providers::{self, Named};
use super::units::{Unit, UnitId, UnitSet};
use super::validity::{Validity, Weekdays, Window, parse_instant};
use spanledger_model::FemtoUsd;

/// Longest text of a field; a model's ARN has about 150 bytes.
const TEXT_BYTES_MAX: usize = 512;
/// Names that people use for the units that they price most, and the catalogue's.
const SHORT_UNITS: [(&str, &str); 13] = [
    ("input", "input_mtok"),
    ("cache_read", "cache_read_mtok"),
    ("cache_write", "cache_write_mtok"),
    ("cache_write_5m", "cache_write_5m_mtok"),
    ("cache_write_1h", "cache_write_1h_mtok"),
    ("output", "output_mtok"),
    ("reasoning", "output_reasoning_mtok"),
    ("audio_input", "input_audio_mtok"),
    ("audio_output", "output_audio_mtok"),
    ("image_input", "input_image_mtok"),
    ("image_output", "output_image_mtok"),
    ("web_search", "web_searches_kcount"),
    ("request", "requests_kcount"),
];
/// Context that has a column of its own.
const CONTEXTS: [&str; 3] = ["processing", "service_tier", "region"];

/// What prices are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// What the provider publishes.
    List,
    /// What was agreed.
    Contract,
    /// What a tool's calls cost.
    Tools,
}

impl Layer {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Contract => "contract",
            Self::Tools => "tools",
        }
    }
}

/// The records of one file, under one name: importing the name again replaces them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its name, the prefix of its prices' identities.
    pub name: String,
    /// What `prices` are: list prices or contract prices.
    pub layer: Layer,
    /// List prices only: false where they fill gaps, so that a model the catalogue prices keeps that price.
    pub wins: bool,
    /// What the file says of its own version, or the start of its SHA-256.
    pub release: String,
    /// Prices of models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<StatedPrice>,
    /// Prices of tools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<StatedTool>,
}

/// When a stated price holds; everything UTC, half-open, and all of it must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedTime {
    /// First instant: a date or RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<String>,
    /// First instant after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<String>,
    /// Time of day, `16:30:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    /// First time of day after it; it may be before the start and then is of the next day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<String>,
    /// `mon` … `sun`; none are all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weekdays: Vec<String>,
}

/// A stated price of a model, or a discount off its list price.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedPrice {
    /// Provider; any, where a contract does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model's identity in the catalogue, its name as sent, or a pattern with `*` and `?`.
    pub model: String,
    /// `processing`, `service_tier`, `region`, …: all must hold.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
    /// When it holds.
    #[serde(flatten)]
    pub time: StatedTime,
    /// USD by the catalogue's price key, `input_mtok`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prices: BTreeMap<String, StatedRate>,
    /// Percent off the list price of whatever `prices` does not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discount_percent: Option<String>,
    /// Where it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A rate as digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedRate {
    /// Below every tier.
    pub base: String,
    /// Input tokens of the request that must be exceeded, and the rate then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<(i64, String)>,
}

/// A stated price of a tool's calls. At least one of the three is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedTool {
    /// MCP server, or a pattern; without it any server, and a host's built-in tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Tool, or a pattern.
    pub tool: String,
    /// USD for a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_call: Option<String>,
    /// USD for a second of its duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<String>,
    /// USD for a byte of its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_byte: Option<String>,
    /// True where a failed call costs nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub errors_free: bool,
    /// When it holds.
    #[serde(flatten)]
    pub time: StatedTime,
    /// Where it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

type Read<T> = Result<T, String>;

impl StatedTime {
    /// What it says.
    pub(super) fn validity(&self) -> Read<Validity> {
        let instant = |text: &Option<String>| text.as_deref().map(parse_instant).transpose();
        let validity = Validity {
            from_ns: instant(&self.valid_from)?,
            to_ns: instant(&self.valid_to)?,
            window: match (&self.start_time, &self.end_time) {
                (Some(start), Some(end)) if start == end => {
                    return Err(format!(
                        "start_time and end_time are both {start}: leave both out for all day"
                    ));
                }
                (Some(start), Some(end)) => Some(Window::parse(start, end)?),
                (None, None) => None,
                _ => return Err("start_time and end_time belong together".to_owned()),
            },
            weekdays: match self.weekdays.as_slice() {
                [] => Weekdays::ALL,
                days => Weekdays::parse(days.iter().map(String::as_str))?,
            },
        };
        match (validity.from_ns, validity.to_ns) {
            (Some(from), Some(to)) if from >= to => Err("valid_to must be after valid_from".to_owned()),
            _ => Ok(validity),
        }
    }
}

impl StatedPrice {
    /// Its rates.
    pub(super) fn rates(&self) -> Read<Rates> {
        let mut prices = Vec::with_capacity(self.prices.len());
        for (key, stated) in &self.prices {
            let unit = UnitId::of_price_key(key).ok_or_else(|| format!("unknown unit {key:?}"))?;
            let rate = |digits: &str| Rate::parse(digits, unit.unit()).map_err(|error| format!("{key}: {error}"));
            let mut tiers = Vec::with_capacity(stated.tiers.len());
            for (start, digits) in &stated.tiers {
                tiers.push(Tier {
                    start: *start,
                    rate: rate(digits)?,
                });
            }
            tiers.sort_by_key(|tier| tier.start);
            prices.push(UnitPrice {
                unit,
                base: rate(&stated.base)?,
                tiers: tiers.into(),
            });
        }
        Ok(Rates::new(prices))
    }

    /// Its discount, in millionths.
    pub(super) fn discount_ppm(&self) -> Read<Option<u32>> {
        let Some(text) = &self.discount_percent else {
            return Ok(None);
        };
        let invalid = || format!("discount_percent {text:?} is not between 0 and 100 with at most four decimals");
        let percent = FemtoUsd::parse(text).ok_or_else(invalid)?.0;
        // A percent is ten thousand millionths.
        let step = FemtoUsd::ONE_USD.0 / 10_000;
        let ppm = u32::try_from(percent / step).ok().filter(|ppm| *ppm <= PPM);
        Ok(Some(
            ppm.filter(|_| percent % step == 0 && percent >= 0)
                .ok_or_else(invalid)?,
        ))
    }

    /// Its context as pairs.
    pub(super) fn context(&self) -> Vec<(String, String)> {
        let pairs = self.context.iter();
        pairs.map(|(key, value)| (key.clone(), value.to_lowercase())).collect()
    }
}

/// Reads the price of a model from a row of a file; a field that nobody reads is named in `unknown`.
pub(super) fn read_price(row: &Json<'_>, layer: Layer, unknown: &mut Vec<String>) -> Read<StatedPrice> {
    let mut price = StatedPrice::default();
    for (key, value) in row.fields().iter().filter(|(_, value)| is_given(value)) {
        match key.as_ref() {
            "provider" => price.provider = Some(text_of(key, value)?.to_lowercase()),
            "model" => text_of(key, value)?.clone_into(&mut price.model),
            "discount_percent" => price.discount_percent = Some(digits_of(key, value)?.to_owned()),
            "source" => price.source = Some(text_of(key, value)?.to_owned()),
            "currency" => is_usd(text_of(key, value)?)?,
            "context" => {
                for (name, value) in value.fields() {
                    price.context.insert(name.to_string(), text_of(name, value)?.to_owned());
                }
            }
            "prices" => {
                for (name, value) in value.fields() {
                    read_rate(name, value, &mut price.prices)?
                        .then_some(())
                        .ok_or_else(|| format!("unknown unit {name:?} in prices"))?;
                }
            }
            name if CONTEXTS.contains(&name) => {
                price.context.insert(name.to_owned(), text_of(key, value)?.to_owned());
            }
            _ if read_time(key, value, &mut price.time)? || read_rate(key, value, &mut price.prices)? => {}
            _ => unknown.push(key.to_string()),
        }
    }
    if price.model.is_empty() {
        return Err("model is missing".to_owned());
    }
    if price.prices.values().any(|rate| rate.base.is_empty()) {
        return Err("a tier is stated without the price below it".to_owned());
    }
    match layer {
        Layer::List if price.provider.is_none() => return Err("provider is missing".to_owned()),
        Layer::List if price.discount_percent.is_some() => {
            return Err("a list price has no discount; import it with --as contract".to_owned());
        }
        Layer::List if price.prices.is_empty() => return Err("no price is stated".to_owned()),
        Layer::List if price.context.is_empty() && !is_complete(&price.prices) => {
            return Err(
                "a part is priced and the whole it is counted in is not; state input and output too".to_owned(),
            );
        }
        Layer::Contract if price.prices.is_empty() && price.discount_percent.is_none() => {
            return Err("neither a price nor a discount_percent is stated".to_owned());
        }
        Layer::Tools => return Err("a price of a model among prices of tools; name server and tool".to_owned()),
        _ => {}
    }
    price.time.validity()?;
    price.rates()?;
    price.discount_ppm()?;
    Ok(price)
}

/// Reads the price of a tool, likewise.
pub(super) fn read_tool(row: &Json<'_>, unknown: &mut Vec<String>) -> Read<StatedTool> {
    let mut tool = StatedTool::default();
    for (key, value) in row.fields().iter().filter(|(_, value)| is_given(value)) {
        match key.as_ref() {
            "server" => tool.server = Some(text_of(key, value)?.to_owned()),
            "tool" => text_of(key, value)?.clone_into(&mut tool.tool),
            "per_call" => tool.per_call = Some(amount_of(key, value)?),
            "per_second" => tool.per_second = Some(amount_of(key, value)?),
            "per_byte" => tool.per_byte = Some(amount_of(key, value)?),
            "errors_free" => {
                tool.errors_free = match value {
                    Json::Bool(flag) => *flag,
                    value => match value.text().map(str::trim) {
                        Some("true" | "yes" | "1") => true,
                        Some("false" | "no" | "0") => false,
                        _ => return Err("errors_free must be true or false".to_owned()),
                    },
                }
            }
            "source" => tool.source = Some(text_of(key, value)?.to_owned()),
            "currency" => is_usd(text_of(key, value)?)?,
            _ if read_time(key, value, &mut tool.time)? => {}
            _ => unknown.push(key.to_string()),
        }
    }
    if tool.tool.is_empty() {
        return Err("tool is missing; write * for every tool of the server".to_owned());
    }
    if tool.per_call.is_none() && tool.per_second.is_none() && tool.per_byte.is_none() {
        return Err("no price is stated; give per_call, per_second or per_byte".to_owned());
    }
    tool.time.validity()?;
    Ok(tool)
}

/// True for a field that says something: an empty cell does not.
fn is_given(value: &Json<'_>) -> bool {
    *value != Json::Null && value.text().is_none_or(|text| !text.trim().is_empty())
}

fn text_of<'j>(key: &str, value: &'j Json<'_>) -> Read<&'j str> {
    let text = value
        .text()
        .map(str::trim)
        .ok_or_else(|| format!("{key} must be a text"))?;
    if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(format!(
            "{key} is longer than {TEXT_BYTES_MAX} bytes or has control characters"
        ));
    }
    Ok(text)
}

fn digits_of<'j>(key: &str, value: &'j Json<'_>) -> Read<&'j str> {
    let digits = value.digits().map(str::trim);
    digits
        .filter(|digits| digits.len() <= TEXT_BYTES_MAX)
        .ok_or_else(|| format!("{key} must be a number"))
}

/// An amount of USD that is kept exactly.
fn amount_of(key: &str, value: &Json<'_>) -> Read<String> {
    // Per one of something, so the check of a rate for one applies.
    const ONE: Unit = Unit::of_one();
    let digits = digits_of(key, value)?;
    Rate::parse(digits, &ONE).map_err(|error| format!("{key}: {error}"))?;
    Ok(digits.to_owned())
}

fn is_usd(currency: &str) -> Read<()> {
    if currency.eq_ignore_ascii_case("usd") {
        Ok(())
    } else {
        Err(format!(
            "currency {currency:?} is not USD; the ledger counts in USD, state the price in it"
        ))
    }
}

/// Reads a field about time; false where it is none.
fn read_time(key: &str, value: &Json<'_>, time: &mut StatedTime) -> Read<bool> {
    let field = match key {
        "valid_from" => &mut time.valid_from,
        "valid_to" => &mut time.valid_to,
        "start_time" => &mut time.start_time,
        "end_time" => &mut time.end_time,
        "weekdays" => {
            let split = |text: &str| -> Vec<String> {
                let days = text.split(['+', ',', ' ', '|']).filter(|day| !day.is_empty());
                days.map(str::to_lowercase).collect()
            };
            time.weekdays = match value {
                Json::Array(days) => {
                    let days: Option<Vec<&str>> = days.iter().map(Json::text).collect();
                    days.ok_or("weekdays must be texts")?
                        .into_iter()
                        .flat_map(split)
                        .collect()
                }
                value => split(text_of(key, value)?),
            };
            return Ok(true);
        }
        _ => return Ok(false),
    };
    *field = Some(text_of(key, value)?.to_owned());
    Ok(true)
}

/// Reads a price by its unit, or one of its tiers (`input>200000`); false where the key names no unit.
fn read_rate(key: &str, value: &Json<'_>, prices: &mut BTreeMap<String, StatedRate>) -> Read<bool> {
    let (name, above) = match key.split_once('>') {
        Some((name, above)) => (name.trim(), Some(above.trim())),
        None => (key, None),
    };
    let short = SHORT_UNITS.iter().find(|(short, _)| *short == name);
    let name = short.map_or(name, |(_, price_key)| price_key);
    if UnitId::of_price_key(name).is_none() {
        return Ok(false);
    }
    let start = |text: &str| {
        let start = text.parse::<i64>().ok().filter(|start| *start >= 0);
        start.ok_or_else(|| format!("{key}: a tier starts above a whole number of tokens, not {text:?}"))
    };
    let empty = || StatedRate {
        base: String::new(),
        tiers: Vec::new(),
    };
    let rate = prices.entry(name.to_owned()).or_insert_with(empty);
    if let Some(above) = above {
        rate.tiers.push((start(above)?, digits_of(key, value)?.to_owned()));
        return Ok(true);
    }
    if !matches!(value, Json::Object(_)) {
        digits_of(key, value)?.clone_into(&mut rate.base);
        return Ok(true);
    }
    let member = |item: &Json<'_>, name: &str| {
        let value = item.get(name).ok_or_else(|| format!("{key}: {name} is missing"))?;
        digits_of(name, value).map(str::to_owned)
    };
    rate.base = member(value, "base")?;
    for tier in value.get("tiers").map_or(&[][..], Json::items) {
        rate.tiers
            .push((start(&member(tier, "start")?)?, member(tier, "price")?));
    }
    Ok(true)
}

/// Adds a source's list prices to a catalogue. Where the source wins, its standard price comes after the
/// model's others and its price in a context before them, so that either takes precedence; where it does
/// not, only models that the catalogue lacks are added.
pub(super) fn apply_list(catalogue: &mut Catalogue, source: &Source) -> Read<()> {
    for stated in &source.prices {
        let provider_name = stated.provider.as_deref().unwrap_or_default();
        let place = |what: String| format!("{provider_name}/{}: {what}", stated.model);
        let provider_name = lowercase(provider_name);
        let index = match providers::find_provider(&catalogue.providers, &provider_name) {
            Named::Known { index, .. } => index,
            Named::Proxy | Named::Unknown => {
                catalogue.providers.push(providers::new_provider(&provider_name));
                catalogue.providers.len() - 1
            }
        };
        let name = stated.model.to_lowercase();
        if !source.wins && is_priced_by_others(&catalogue.providers, index, &name, &source.name) {
            continue;
        }
        let Some(provider) = catalogue.providers.get_mut(index) else {
            continue;
        };
        let known = provider.models.iter().position(|model| model.id.to_lowercase() == name);
        let at = match known {
            Some(at) => at,
            None => {
                let model = Model {
                    id: stated.model.clone(),
                    rule: MatchRule::of_name(&stated.model),
                    stated_by: Some(source.name.clone()),
                    records: Vec::new(),
                    variants: Vec::new(),
                    minimums: Vec::new(),
                };
                let at = if source.wins { 0 } else { provider.models.len() };
                provider.models.insert(at, model);
                at
            }
        };
        let provider_id = provider.id.clone();
        let Some(model) = provider.models.get_mut(at) else {
            continue;
        };
        let model_id = model.id.clone();
        let identity = Place {
            source: &source.name,
            provider: &provider_id,
            model: &model_id,
        };
        let validity = stated.time.validity().map_err(place)?;
        let rates = stated.rates().map_err(place)?;
        let context = stated.context();
        if context.is_empty() {
            model.records.push(identity.record(validity, rates));
        } else {
            model.variants.insert(0, identity.variant(context, validity, rates));
        }
    }
    Ok(())
}

/// True where a provider's list has the model, or that of a provider whose models it resells, from any other
/// source than this one.
fn is_priced_by_others(providers: &[Provider], index: usize, name: &str, source: &str) -> bool {
    let Some(called) = providers.get(index) else {
        return false;
    };
    let fallbacks = called.fallbacks.iter();
    let fallbacks = fallbacks.filter_map(|id| providers.iter().find(|provider| provider.id == *id));
    std::iter::once(called).chain(fallbacks).any(|provider| {
        let mut models = provider.models.iter();
        models.any(|model| model.stated_by.as_deref() != Some(source) && model.rule.matches(name))
    })
}

/// True where whatever is counted in a priced unit is priced too, so that no token of it goes unpriced.
/// Kinds that may overlap (cached audio) need no price of their own: no convention reports an overlap.
pub(super) fn is_complete(prices: &BTreeMap<String, StatedRate>) -> bool {
    let priced = prices
        .keys()
        .filter_map(|key| UnitId::of_price_key(key))
        .collect::<UnitSet>();
    priced
        .iter()
        .all(|unit| unit.ancestors().iter().all(|ancestor| priced.contains(ancestor)))
}
