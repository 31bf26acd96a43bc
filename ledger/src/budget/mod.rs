//! Budgets: an amount of money for a scope and a period, and how what was spent stands to it.
//!
//! A scope is dimensions and their values, as a cost report filters. Everything here is arithmetic on sums that
//! `query` takes from the ledger: what is spent is exact, what is to come is [`forecast`](crate::forecast)'s. It
//! stores nothing and tells nobody.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike as _, Days, Months, NaiveDate};
use serde::{Deserialize, Serialize};
use spanledger_model::FemtoUsd;

use crate::error::{Error, ErrorKind, Result};

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Dimensions of a scope.
const SCOPE_DIMENSIONS_MAX: usize = 8;
/// Values of one dimension.
const SCOPE_VALUES_MAX: usize = 100;
/// Longest value, in bytes.
const VALUE_BYTES_MAX: usize = 512;
/// Thresholds of one kind.
const THRESHOLDS_MAX: usize = 8;
/// Largest threshold, in percent.
const THRESHOLD_PERCENT_MAX: u32 = 1_000;
const HOUR_NS: i64 = 3_600_000_000_000;
/// Pace of the last hour, in percent of the budget's own, from which it burns fast: 2 % of a month in an hour, as the
/// Site Reliability Workbook has it (chapter 5).
pub const FAST_BURN_PERCENT: i128 = 1_440;
/// Pace of the last day, in percent, from which it burns slowly: 10 % of a month in a day, likewise.
pub const SLOW_BURN_PERCENT: i128 = 300;

/// How long an amount is for, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// A day.
    Day,
    /// A week from Monday.
    Week,
    /// A calendar month.
    Month,
    /// Three calendar months.
    Quarter,
}

impl Period {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::Quarter];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Quarter => "quarter",
        }
    }

    /// Reads a name.
    ///
    /// # Errors
    /// Kind invalid, listing the periods.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|period| period.as_str() == name.trim());
        found.ok_or_else(|| {
            invalid(format!(
                "{name:.40?} is no period; write {}",
                Self::ALL.map(Self::as_str).join(", ")
            ))
        })
    }

    /// First instant, and the first one after it, of the period that an instant is in; nanoseconds since the epoch.
    #[must_use]
    pub fn around(self, at_ns: i64) -> (i64, i64) {
        let day = DateTime::from_timestamp_nanos(at_ns).date_naive();
        let first = match self {
            Self::Day => Some(day),
            Self::Week => day.checked_sub_days(Days::new(u64::from(day.weekday().num_days_from_monday()))),
            Self::Month => day.with_day(1),
            Self::Quarter => day.with_day(1).and_then(|day| day.with_month(day.month0() / 3 * 3 + 1)),
        }
        .unwrap_or(day);
        (ns_of(first), ns_of(self.next(first)))
    }

    /// First instant of the period before the one that begins at `start_ns`.
    #[must_use]
    pub fn before(self, start_ns: i64) -> i64 {
        self.around(start_ns - 1).0
    }

    fn next(self, first: NaiveDate) -> NaiveDate {
        match self {
            Self::Day => first.checked_add_days(Days::new(1)),
            Self::Week => first.checked_add_days(Days::new(7)),
            Self::Month => first.checked_add_months(Months::new(1)),
            Self::Quarter => first.checked_add_months(Months::new(3)),
        }
        .unwrap_or(first)
    }
}

fn ns_of(day: NaiveDate) -> i64 {
    day.and_time(chrono::NaiveTime::MIN)
        .and_utc()
        .timestamp_nanos_opt()
        .unwrap_or(i64::MAX)
}

/// When somebody is to be told, in percent of the amount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Of what is spent.
    #[serde(default)]
    pub actual: Vec<u32>,
    /// Of what will be spent by the end of the period.
    #[serde(default)]
    pub forecast: Vec<u32>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            actual: vec![80, 100],
            forecast: vec![100],
        }
    }
}

/// Dimension to values; `None` is what has no value.
pub type Scope = BTreeMap<String, Vec<Option<String>>>;

/// A budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Its name: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Whose cost counts; empty for everything.
    pub scope: Scope,
    /// USD a period.
    pub amount: FemtoUsd,
    /// Period.
    pub period: Period,
    /// Thresholds.
    pub thresholds: Thresholds,
}

impl Budget {
    /// The budget with its lists in order, where it can be one. Whether the dimensions exist is `query`'s to say.
    ///
    /// # Errors
    /// Kind invalid, naming what is wrong.
    pub fn checked(mut self) -> Result<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || !self.name.bytes().all(is_plain) {
            return Err(invalid(format!(
                "a budget's name is 1 to {NAME_BYTES_MAX} letters, digits, - _ and ."
            )));
        }
        if self.amount <= FemtoUsd::ZERO {
            return Err(invalid("the amount of a budget is above 0 USD, such as 1200.50"));
        }
        if self.scope.len() > SCOPE_DIMENSIONS_MAX {
            return Err(invalid(format!(
                "a scope has at most {SCOPE_DIMENSIONS_MAX} dimensions"
            )));
        }
        for (dimension, values) in &mut self.scope {
            if values.is_empty() || values.len() > SCOPE_VALUES_MAX {
                return Err(invalid(format!(
                    "{dimension:.64} of the scope has 1 to {SCOPE_VALUES_MAX} values; leave it out for all"
                )));
            }
            let is_bad = |value: &String| value.len() > VALUE_BYTES_MAX || value.chars().any(char::is_control);
            if values.iter().flatten().any(is_bad) {
                return Err(invalid(format!(
                    "a value of {dimension:.64} is over {VALUE_BYTES_MAX} bytes or has control characters"
                )));
            }
            values.sort();
            values.dedup();
        }
        for list in [&mut self.thresholds.actual, &mut self.thresholds.forecast] {
            list.sort_unstable();
            list.dedup();
            if list.len() > THRESHOLDS_MAX
                || list
                    .iter()
                    .any(|percent| !(1..=THRESHOLD_PERCENT_MAX).contains(percent))
            {
                return Err(invalid(format!(
                    "thresholds are at most {THRESHOLDS_MAX} percentages from 1 to {THRESHOLD_PERCENT_MAX}"
                )));
            }
        }
        Ok(self)
    }

    /// True where everything in its scope has one of these values of a dimension.
    #[must_use]
    pub fn is_within(&self, dimension: &str, allowed: &[String]) -> bool {
        self.scope.get(dimension).is_some_and(|values| {
            values
                .iter()
                .all(|value| value.as_ref().is_some_and(|value| allowed.contains(value)))
        })
    }

    /// Its scope in words: `team payments | growth, tool search`.
    #[must_use]
    pub fn scope_text(&self) -> String {
        if self.scope.is_empty() {
            return "everything".to_owned();
        }
        let part = |(dimension, values): (&String, &Vec<Option<String>>)| {
            let values: Vec<&str> = values
                .iter()
                .map(|value| value.as_deref().unwrap_or("(none)"))
                .collect();
            format!("{dimension} {}", values.join(" | "))
        };
        self.scope.iter().map(part).collect::<Vec<_>>().join(", ")
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message.into())
}

/// What is known of a budget's period: sums of ledger lines, and the forecast of the rest.
#[derive(Debug, Clone, Default)]
pub struct Spending {
    /// By whole day from the start of the period; the last one is today, as far as it is.
    pub days: Vec<FemtoUsd>,
    /// Expected of the rest of today, then of each day to the end of the period.
    pub ahead: Vec<FemtoUsd>,
    /// Interval of what is still expected.
    pub interval: Option<(FemtoUsd, FemtoUsd)>,
    /// Of the last whole hour.
    pub last_hour: FemtoUsd,
    /// Of the last 24 whole hours.
    pub last_day: FemtoUsd,
}

/// How a budget stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nothing to tell.
    Ok,
    /// A threshold of the forecast is reached.
    AtRisk,
    /// A threshold of what is spent is reached.
    Warning,
    /// The amount is spent.
    Exceeded,
}

impl State {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::AtRisk => "at_risk",
            Self::Warning => "warning",
            Self::Exceeded => "exceeded",
        }
    }
}

/// A budget measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How it stands.
    pub state: State,
    /// Spent in the period so far.
    pub spent: FemtoUsd,
    /// Amount less spent; below zero where it is exceeded.
    pub remaining: FemtoUsd,
    /// Expected at the end of the period.
    pub forecast: FemtoUsd,
    /// Interval of that.
    pub interval: Option<(FemtoUsd, FemtoUsd)>,
    /// Days after the first one of the period at which the amount is, or is expected to be, spent.
    pub breach_day: Option<usize>,
    /// Highest threshold of what is spent that is reached, in percent.
    pub reached_actual: Option<u32>,
    /// Highest threshold of the forecast that is reached.
    pub reached_forecast: Option<u32>,
    /// Pace of the last hour in percent of an even one: 100 spends the amount in just the period.
    pub burn_1h_percent: i128,
    /// Pace of the last 24 hours likewise.
    pub burn_24h_percent: i128,
}

impl Standing {
    /// `fast` where the last hour burns at [`FAST_BURN_PERCENT`], `slow` where the last day does at
    /// [`SLOW_BURN_PERCENT`].
    #[must_use]
    pub fn burning(&self) -> Option<&'static str> {
        if self.burn_1h_percent >= FAST_BURN_PERCENT {
            Some("fast")
        } else if self.burn_24h_percent >= SLOW_BURN_PERCENT {
            Some("slow")
        } else {
            None
        }
    }
}

/// Measures a budget in the period that `at_ns` is in.
#[must_use]
pub fn measure(budget: &Budget, at_ns: i64, spending: &Spending) -> Standing {
    let spent: FemtoUsd = spending.days.iter().copied().sum();
    let ahead: FemtoUsd = spending.ahead.iter().copied().sum();
    let forecast = spent + ahead;
    let (start_ns, end_ns) = budget.period.around(at_ns);
    let hours = i128::from(((end_ns - start_ns) / HOUR_NS).max(1));
    let pace = |cost: FemtoUsd, over: i128| cost.0.saturating_mul(hours * 100) / (budget.amount.0 * over).max(1);
    let reached = |thresholds: &[u32], cost: FemtoUsd| {
        let is_reached =
            |percent: &&u32| cost.0.saturating_mul(100) >= budget.amount.0.saturating_mul(i128::from(**percent));
        thresholds.iter().filter(is_reached).max().copied()
    };
    let (reached_actual, reached_forecast) = (
        reached(&budget.thresholds.actual, spent),
        reached(&budget.thresholds.forecast, forecast),
    );
    let state = if spent >= budget.amount {
        State::Exceeded
    } else if reached_actual.is_some() {
        State::Warning
    } else if reached_forecast.is_some() {
        State::AtRisk
    } else {
        State::Ok
    };
    Standing {
        state,
        spent,
        remaining: budget.amount - spent,
        forecast,
        interval: spending.interval.map(|(low, high)| (spent + low, spent + high)),
        breach_day: breach_day(budget.amount, spending),
        reached_actual,
        reached_forecast,
        burn_1h_percent: pace(spending.last_hour, 1),
        burn_24h_percent: pace(spending.last_day, 24),
    }
}

/// The first day at whose end the amount is spent.
fn breach_day(amount: FemtoUsd, spending: &Spending) -> Option<usize> {
    let mut by_day = spending.days.clone();
    let today = by_day.len().saturating_sub(1);
    for (after, cost) in spending.ahead.iter().enumerate() {
        match by_day.get_mut(today + after) {
            Some(day) => *day += *cost,
            None => by_day.push(*cost),
        }
    }
    let mut sum = FemtoUsd::ZERO;
    by_day.into_iter().position(|cost| {
        sum += cost;
        sum >= amount
    })
}

#[cfg(test)]
mod tests;
