//! Reading rules and shared costs from TOML.
//!
//! Everything is checked here, with the name of what is wrong, so that settlement never meets a rule that cannot
//! be used. An amount is taken from the digits that were written, never through a float.

use std::collections::BTreeMap;

use serde::Deserialize;
use spanledger_model::{FemtoUsd, Pattern};
use toml::Spanned;

use super::Target;
use super::rules::{Condition, Field, Rule, Value};
use super::shared::{Method, Per, Period, SharedCost, Weight};
use crate::error::{Error, ErrorKind, Result};
use crate::prices::{Validity, parse_instant};

/// Largest file, in bytes: thousands of rules.
pub const FILE_BYTES_MAX: usize = 4 << 20;
/// Rules and shared costs of a file.
const ENTRIES_MAX: usize = 5_000;
/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Longest pattern or value, in bytes.
const TEXT_BYTES_MAX: usize = 512;
const DAY_NS: i64 = 86_400_000_000_000;

/// What shared costs can be split over.
pub const DIMENSIONS: [&str; 11] = [
    "team",
    "project",
    "cost_center",
    "environment",
    "user_id",
    "agent",
    "client",
    "service",
    "api_key",
    "provider",
    "model",
];
/// What the usage that weighs can be asked for: fields that money lines and calls both have.
pub const USAGE_FIELDS: [&str; 6] = ["server", "tool", "provider", "model", "service", "environment"];

/// The rules and shared costs of one file.
#[derive(Debug, Clone)]
pub struct Source {
    /// Name that it is imported under.
    pub name: String,
    /// The file, as written.
    pub text: String,
    /// Rules, in their order.
    pub rules: Vec<Rule>,
    /// Shared costs, in their order.
    pub shared: Vec<SharedCost>,
}

impl PartialEq for Source {
    /// Comments and layout make no difference.
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.rules, &self.shared) == (&other.name, &other.rules, &other.shared)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    #[serde(default)]
    rules: Vec<RuleText>,
    #[serde(default)]
    shared: Vec<SharedText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    name: String,
    #[serde(default, rename = "match")]
    matches: BTreeMap<String, OneOrMany>,
    #[serde(default)]
    unless: BTreeMap<String, OneOrMany>,
    set: BTreeMap<String, String>,
    #[serde(default, rename = "override")]
    overrides: bool,
    valid_from: Option<When>,
    valid_to: Option<When>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SharedText {
    name: String,
    what: Option<String>,
    amount: Spanned<toml::Value>,
    currency: Option<String>,
    per: Option<String>,
    period: Option<String>,
    valid_from: Option<When>,
    valid_to: Option<When>,
    by: Option<String>,
    method: Option<String>,
    weight: Option<String>,
    #[serde(default, rename = "match")]
    matches: BTreeMap<String, OneOrMany>,
    #[serde(default)]
    shares: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    among: Vec<String>,
    #[serde(default)]
    except: Vec<String>,
    without_weight: Option<String>,
    #[serde(default)]
    pools: BTreeMap<String, Spanned<toml::Value>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum When {
    Text(String),
    Date(toml::value::Datetime),
}

/// Reads a file; `name` is what it is imported under.
///
/// # Errors
/// Kind invalid with the line or the entry's name; too large over [`FILE_BYTES_MAX`].
pub fn read(name: &str, text: &str) -> Result<Source> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!(
            "{name} has {} bytes, more than {FILE_BYTES_MAX}; split it into several files",
            text.len()
        );
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    let file: FileText =
        toml::from_str(text).map_err(|error| invalid(format!("{name}: {}", error.to_string().trim_end())))?;
    if file.rules.len() + file.shared.len() > ENTRIES_MAX {
        let message =
            format!("{name} has more than {ENTRIES_MAX} rules and shared costs; match by patterns, or split it");
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    let of = |what: &str, entry: &str, error: String| invalid(format!("{name}: {what} {entry:.64}: {error}"));
    let rules = file.rules.into_iter().map(|rule| {
        let entry = rule.name.clone();
        rule_of(rule).map_err(|error| of("rule", &entry, error))
    });
    let rules = rules.collect::<Result<_>>()?;
    let shared = file.shared.into_iter().map(|cost| {
        let entry = cost.name.clone();
        shared_of(cost, text).map_err(|error| of("shared cost", &entry, error))
    });
    Ok(Source {
        name: name.to_owned(),
        text: text.to_owned(),
        rules,
        shared: shared.collect::<Result<_>>()?,
    })
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

type Read<T> = std::result::Result<T, String>;

fn rule_of(text: RuleText) -> Read<Rule> {
    check_name(&text.name)?;
    let mut sets = Vec::new();
    for (name, value) in &text.set {
        let target = Target::parse(name).ok_or_else(|| {
            let known = Target::ALL.map(Target::as_str);
            format!("`{name}` is not set by rules; set one of {}", known.join(", "))
        })?;
        sets.push((target, value_of(value)?));
    }
    if sets.is_empty() {
        return Err("it sets nothing; write set = { team = \"…\" }".to_owned());
    }
    let (from_ns, to_ns) = validity(text.valid_from, text.valid_to)?;
    Ok(Rule {
        name: text.name,
        matches: conditions(text.matches)?,
        unless: conditions(text.unless)?,
        sets,
        overrides: text.overrides,
        validity: Validity {
            from_ns,
            to_ns,
            ..Validity::ALWAYS
        },
    })
}

/// A text, or `{field}` for the call's own value.
fn value_of(text: &str) -> Read<Value> {
    match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        Some(field) => Ok(Value::Of(Field::parse(field.trim())?)),
        None if text.is_empty() => Err("it sets an empty text; leave the dimension out".to_owned()),
        None => check_text(text).map(|()| Value::Text(text.to_owned())),
    }
}

fn conditions(fields: BTreeMap<String, OneOrMany>) -> Read<Vec<Condition>> {
    let condition = |(name, patterns): (String, OneOrMany)| {
        let patterns = match patterns {
            OneOrMany::One(pattern) => vec![pattern],
            OneOrMany::Many(patterns) if patterns.is_empty() => {
                return Err(format!("{name} has no pattern; leave it out to match anything"));
            }
            OneOrMany::Many(patterns) => patterns,
        };
        patterns.iter().try_for_each(|pattern| check_text(pattern))?;
        Ok(Condition {
            field: Field::parse(&name)?,
            patterns: patterns.iter().map(|pattern| Pattern::new(pattern)).collect(),
        })
    };
    fields.into_iter().map(condition).collect()
}

fn shared_of(text: SharedText, file: &str) -> Read<SharedCost> {
    check_name(&text.name)?;
    if let Some(what) = &text.what {
        check_text(what)?;
    }
    if text.currency.as_deref().is_some_and(|currency| currency != "USD") {
        return Err("amounts are in USD".to_owned());
    }
    let amount = number(&text.amount, file)?;
    let (from_ns, to_ns) = match &text.period {
        Some(_) if text.valid_from.is_some() || text.valid_to.is_some() => {
            return Err("it has a period and dates; write one of them".to_owned());
        }
        Some(period) => {
            let period = Period::parse(period).map_err(|error| error.message().to_owned())?;
            let first = period.first_day() * DAY_NS;
            (Some(first), Some(first + period.n_days() * DAY_NS))
        }
        None => validity(text.valid_from, text.valid_to)?,
    };
    if [from_ns, to_ns]
        .into_iter()
        .flatten()
        .any(|at| at.rem_euclid(DAY_NS) != 0)
    {
        return Err("its dates are whole days, UTC".to_owned());
    }
    let per = match text.per.as_deref() {
        None | Some("month") => Per::Month,
        Some("day") => Per::Day,
        Some(other) => return Err(format!("per = {other:?}; write month or day")),
    };
    let by = text.by.map(|by| dimension(&by)).transpose()?;
    let method = method(text.method.as_deref(), text.weight.as_deref(), &text.shares, file)?;
    let matches = conditions(text.matches)?;
    let is_proportional = matches!(method, Method::Proportional(_));
    if !matches.is_empty() && !is_proportional {
        return Err("only a proportional split asks which usage counts; leave match out".to_owned());
    }
    for condition in &matches {
        if !USAGE_FIELDS.contains(&condition.field.name()) {
            let known = USAGE_FIELDS.join(", ");
            return Err(format!("match asks {}; it can ask {known}", condition.field.name()));
        }
    }
    let is_even_without_weight = match text.without_weight.as_deref() {
        None | Some("unallocated") => false,
        Some("even") => true,
        Some(other) => return Err(format!("without_weight = {other:?}; write unallocated or even")),
    };
    let pools = text
        .pools
        .iter()
        .map(|(name, percent)| Ok((name.clone(), positive(name, percent, file)?)));
    let pools = pools.collect::<Read<Vec<_>>>()?;
    text.among
        .iter()
        .chain(&text.except)
        .try_for_each(|name| check_text(name))?;
    Ok(SharedCost {
        // Names are of a certain dimension: without another, of teams.
        by: by.or_else(|| matches!(method, Method::Fixed(_)).then(|| Target::Team.as_str().to_owned())),
        name: text.name,
        what: text.what,
        amount,
        per,
        from_ns,
        to_ns,
        method,
        matches,
        among: text.among,
        except: text.except,
        is_even_without_weight,
        pools,
    })
}

fn method(
    name: Option<&str>,
    weight: Option<&str>,
    shares: &BTreeMap<String, Spanned<toml::Value>>,
    file: &str,
) -> Read<Method> {
    let name = name.unwrap_or(if shares.is_empty() { "proportional" } else { "fixed" });
    if name != "fixed" && !shares.is_empty() {
        return Err(format!(
            "a split that is {name} has no shares; leave them out or write method = \"fixed\""
        ));
    }
    if name != "proportional" && weight.is_some() {
        return Err(format!(
            "a split that is {name} has no weight; leave it out or write method = \"proportional\""
        ));
    }
    match name {
        "even" => Ok(Method::Even),
        "fixed" if shares.is_empty() => {
            Err("it has no shares; write shares = { payments = 60, growth = 40 }".to_owned())
        }
        "fixed" => {
            let shares = shares
                .iter()
                .map(|(name, share)| Ok((name.clone(), positive(name, share, file)?)));
            Ok(Method::Fixed(shares.collect::<Read<_>>()?))
        }
        "proportional" => {
            let wanted = weight.unwrap_or(Weight::Cost.as_str());
            let weight = Weight::ALL.into_iter().find(|weight| weight.as_str() == wanted);
            weight.map(Method::Proportional).ok_or_else(|| {
                let known = Weight::ALL.map(Weight::as_str);
                format!("weight = {wanted:?}; write one of {}", known.join(", "))
            })
        }
        other => Err(format!("method = {other:?}; write even, proportional or fixed")),
    }
}

/// A dimension that shared costs can be split over; `user` is taken for its column.
///
/// # Errors
/// A message with all of them.
pub fn dimension(name: &str) -> std::result::Result<String, String> {
    let wanted = if name == "user" { "user_id" } else { name };
    if DIMENSIONS.contains(&wanted) {
        return Ok(wanted.to_owned());
    }
    Err(format!("by = {name:?}; write one of {}", DIMENSIONS.join(", ")))
}

/// The digits that were written.
fn number(value: &Spanned<toml::Value>, file: &str) -> Read<FemtoUsd> {
    let written = match value.get_ref() {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(_) | toml::Value::Float(_) => file.get(value.span()).unwrap_or_default().replace('_', ""),
        _ => String::new(),
    };
    FemtoUsd::parse(&written).ok_or_else(|| "a number such as 1200.50 is missing".to_owned())
}

fn positive(name: &str, value: &Spanned<toml::Value>, file: &str) -> Read<u128> {
    check_text(name)?;
    match number(value, file) {
        Ok(number) if number.0 > 0 => Ok(number.0.unsigned_abs()),
        _ => Err(format!("{name} needs a number above 0")),
    }
}

fn validity(from: Option<When>, to: Option<When>) -> Read<(Option<i64>, Option<i64>)> {
    let instant = |when: Option<When>| {
        let text = match when {
            None => return Ok(None),
            Some(When::Text(text)) => text,
            Some(When::Date(date)) => date.to_string(),
        };
        parse_instant(&text).map(Some)
    };
    let (from, to) = (instant(from)?, instant(to)?);
    match from.zip(to) {
        Some((from, to)) if from >= to => Err("valid_from is not before valid_to".to_owned()),
        _ => Ok((from, to)),
    }
}

/// Names stand in columns, separated by signs.
fn check_name(name: &str) -> Read<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_plain) {
        return Ok(());
    }
    Err(format!("a name is 1 to {NAME_BYTES_MAX} letters, digits, - _ and ."))
}

fn check_text(text: &str) -> Read<()> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("a text has more than {TEXT_BYTES_MAX} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("a text has control characters".to_owned());
    }
    Ok(())
}
