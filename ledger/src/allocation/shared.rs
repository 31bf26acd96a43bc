//! Shared costs: what nobody's call caused, stated with an amount, and how much of it falls on a month.

use std::fmt;

use chrono::{Datelike, NaiveDate};
use spanledger_model::FemtoUsd;
use spanledger_model::money::split_by_largest_remainder;

use super::rules::Condition;
use crate::error::{Error, ErrorKind, Result};

const DAY_NS: i64 = 86_400_000_000_000;

/// A calendar month, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Period {
    first: NaiveDate,
}

impl Period {
    /// Reads `2026-11`.
    ///
    /// # Errors
    /// Kind invalid for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let is_in_place = |(at, byte): (usize, u8)| if at == 4 { byte == b'-' } else { byte.is_ascii_digit() };
        let is_plain = text.len() == 7 && text.bytes().enumerate().all(is_in_place);
        let first = is_plain
            .then(|| format!("{text}-01").parse::<NaiveDate>().ok())
            .flatten();
        first.map(|first| Self { first }).ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                format!("`{text:.32}` is no period; write a month such as 2026-11"),
            )
        })
    }

    /// The month of an instant, nanoseconds since the Unix epoch.
    #[must_use]
    pub fn of(at_ns: i64) -> Self {
        let date = chrono::DateTime::from_timestamp_nanos(at_ns).date_naive();
        Self {
            first: date.with_day(1).unwrap_or(date),
        }
    }

    /// Days since the Unix epoch of its first day.
    #[must_use]
    pub fn first_day(self) -> i64 {
        self.first.signed_duration_since(NaiveDate::default()).num_days()
    }

    /// Number of its days.
    #[must_use]
    pub fn n_days(self) -> i64 {
        let (year, month) = (self.first.year(), self.first.month());
        let next = match month {
            12 => NaiveDate::from_ymd_opt(year + 1, 1, 1),
            _ => NaiveDate::from_ymd_opt(year, month + 1, 1),
        };
        next.map_or(31, |next| next.signed_duration_since(self.first).num_days())
    }

    /// How many of its days lie from one instant (midnight UTC) to before another.
    fn days_within(self, from_ns: Option<i64>, to_ns: Option<i64>) -> i64 {
        let (first, end) = (self.first_day(), self.first_day() + self.n_days());
        let from = from_ns.map_or(first, |from| from.div_euclid(DAY_NS).max(first));
        let to = to_ns.map_or(end, |to| to.div_euclid(DAY_NS).min(end));
        (to - from).max(0)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.first.year(), self.first.month())
    }
}

/// What an amount is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// A whole month.
    Month,
    /// A day.
    Day,
}

/// What proportional shares are in proportion to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Direct effective cost.
    Cost,
    /// Tokens.
    Tokens,
    /// Calls of any kind.
    Calls,
    /// Calls of a model.
    LlmCalls,
    /// Calls of a tool.
    ToolCalls,
}

impl Weight {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Cost, Self::Tokens, Self::Calls, Self::LlmCalls, Self::ToolCalls];

    /// Its name in a file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cost => "cost",
            Self::Tokens => "tokens",
            Self::Calls => "calls",
            Self::LlmCalls => "llm_calls",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// How a shared cost is divided.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// The same for everybody who has usage in the period, or is named.
    Even,
    /// In proportion to what was used.
    Proportional(Weight),
    /// By stated shares: relative weights in 10⁻¹⁵, by name.
    Fixed(Vec<(String, u128)>),
}

/// One shared cost.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedCost {
    /// Its name, unique in the set.
    pub name: String,
    /// What it is for.
    pub what: Option<String>,
    /// Amount.
    pub amount: FemtoUsd,
    /// What the amount is for.
    pub per: Per,
    /// First instant, midnight UTC.
    pub from_ns: Option<i64>,
    /// First instant that is no more in it, midnight UTC.
    pub to_ns: Option<i64>,
    /// Dimension that it is split over; absent: whichever is asked for.
    pub by: Option<String>,
    /// How.
    pub method: Method,
    /// Usage that counts for a proportional split; empty for all.
    pub matches: Vec<Condition>,
    /// Only these bear it; empty for all.
    pub among: Vec<String>,
    /// These do not.
    pub except: Vec<String>,
    /// True where it is split evenly if nobody has any weight; else it is then unallocated.
    pub is_even_without_weight: bool,
    /// Later shared costs that bear a part of it, in percent, in 10⁻¹⁵.
    pub pools: Vec<(String, u128)>,
}

/// A hundred percent, in 10⁻¹⁵.
pub(super) const HUNDRED: u128 = 100_000_000_000_000_000;

impl SharedCost {
    /// What falls on a period: of a monthly amount the part for the days that it holds on, of a daily one as many
    /// times the amount. `None` where it holds on no day.
    #[must_use]
    pub fn amount_in(&self, period: Period) -> Option<FemtoUsd> {
        let n_days = period.days_within(self.from_ns, self.to_ns);
        if n_days == 0 {
            return None;
        }
        let amount = match self.per {
            Per::Day => self.amount.0.saturating_mul(i128::from(n_days)),
            Per::Month => {
                let days = [n_days, period.n_days() - n_days].map(|days| days.unsigned_abs().into());
                split_by_largest_remainder(self.amount.0, &days)
                    .first()
                    .copied()
                    .unwrap_or(0)
            }
        };
        Some(FemtoUsd(amount))
    }

    /// How it is divided, in words: `proportional to tool_calls of server github*`.
    #[must_use]
    pub fn method_text(&self) -> String {
        let mut text = match &self.method {
            Method::Even => "even".to_owned(),
            Method::Fixed(_) => "fixed shares".to_owned(),
            Method::Proportional(weight) => format!("proportional to {}", weight.as_str()),
        };
        for (index, condition) in self.matches.iter().enumerate() {
            let patterns: Vec<&str> = condition
                .patterns
                .iter()
                .map(spanledger_model::Pattern::as_str)
                .collect();
            let word = if index == 0 { " of" } else { " and" };
            text.push_str(&format!("{word} {} {}", condition.field.name(), patterns.join(" | ")));
        }
        if !self.pools.is_empty() {
            let pools: Vec<String> = self
                .pools
                .iter()
                .map(|(name, percent)| format!("{} % to {name}", FemtoUsd(i128::try_from(*percent).unwrap_or(0))))
                .collect();
            text.push_str(&format!(", stepping down {}", pools.join(" and ")));
        }
        text
    }

    /// Its amount, in words: `1200 USD per month, from 2026-11-01`.
    #[must_use]
    pub fn amount_text(&self) -> String {
        let per = match self.per {
            Per::Month => "month",
            Per::Day => "day",
        };
        let mut text = format!("{} USD per {per}", self.amount);
        if let Some(from) = self.from_ns {
            text.push_str(&format!(", from {}", crate::prices::format_instant(from)));
        }
        if let Some(to) = self.to_ns {
            text.push_str(&format!(", before {}", crate::prices::format_instant(to)));
        }
        text
    }
}

/// Refuses pools that do not step down: to one that is not there, not later, or of another dimension, and more
/// than the whole.
pub(super) fn check_pools(shared: &[SharedCost]) -> Result<()> {
    let invalid = |message: String| Err(Error::new(ErrorKind::Invalid, message));
    for (at, cost) in shared.iter().enumerate() {
        let mut sum = 0u128;
        for (name, percent) in &cost.pools {
            let Some(to) = shared.iter().position(|other| other.name == *name) else {
                return invalid(format!("shared cost {}: no shared cost is named {name}", cost.name));
            };
            if to <= at {
                return invalid(format!(
                    "shared cost {}: {name} stands before it; costs step down in their order, so put {name} after it",
                    cost.name
                ));
            }
            if shared[to].by != cost.by {
                return invalid(format!(
                    "shared cost {}: {name} is split over another dimension; give both the same `by`",
                    cost.name
                ));
            }
            sum = sum.saturating_add(*percent);
        }
        if sum > HUNDRED {
            return invalid(format!(
                "shared cost {}: its pools bear more than 100 % of it",
                cost.name
            ));
        }
    }
    Ok(())
}
