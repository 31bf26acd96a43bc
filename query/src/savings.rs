//! What could be saved: opportunities with money a month and evidence, each a formula over ledger lines.
//!
//! | kind | money is | confidence |
//! |---|---|---|
//! | `idle_tools` | definitions sent in conversations that never called the tool | high |
//! | `oversized_results` | of what it cost to carry results along: the share of tokens beyond the 90th percentile | medium |
//! | `missed_cache` | what was sent again at the full input price, less the price of reading and writing a cache | medium |
//! | `identical_calls` | first-hand cost of tool calls that repeat one of the same conversation and arguments | medium |
//! | `retry_loops` | model calls between the first and last of three or more failures of a tool in a row | medium |
//! | `cheaper_model` | short calls priced as the cheapest model of the same provider that is in use | estimate |
//! | `unpriced_usage` | none: tokens without a price, a gap in every other figure | data quality |
//!
//! The first four take disjoint lines, so they add up; the next two are of whole calls and say what they overlap with.
//! docs/savings.md has the formulas. Nothing is changed, and no advice is given that a figure does not carry.

mod search;

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap, Serializer};
use spanledger_access::Principal;
use spanledger_model::FemtoUsd;

use crate::costs::{CURRENCY, CostRequest, Dimension, whole_hours};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::time::{DAY_NS, format_instant};
use search::Search;

/// Days that are looked at where nothing else is asked.
pub const SAVINGS_DAYS_DEFAULT: i64 = 30;
/// Opportunities where the caller names no limit.
pub const SAVINGS_DEFAULT: usize = 10;
/// Opportunities that a caller may ask for.
pub const SAVINGS_MAX: usize = 200;
/// A month, for figures of other periods.
const MONTH_NS: i128 = 30 * DAY_NS as i128;
/// A month's money is told in millionths of a USD: more digits would say more than is known.
const MONTHLY_UNIT: i128 = FemtoUsd::ONE_USD.0 / 1_000_000;

/// What kind of an opportunity it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Definitions that are sent and never used.
    IdleTools,
    /// Results that are carried along.
    OversizedResults,
    /// Prefixes that are paid in full again.
    MissedCache,
    /// The same call again.
    IdenticalCalls,
    /// Failing again and again.
    RetryLoops,
    /// A dear model for small work.
    CheaperModel,
    /// Usage without a price.
    UnpricedUsage,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::IdleTools,
        Self::OversizedResults,
        Self::MissedCache,
        Self::IdenticalCalls,
        Self::RetryLoops,
        Self::CheaperModel,
        Self::UnpricedUsage,
    ];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IdleTools => "idle_tools",
            Self::OversizedResults => "oversized_results",
            Self::MissedCache => "missed_cache",
            Self::IdenticalCalls => "identical_calls",
            Self::RetryLoops => "retry_loops",
            Self::CheaperModel => "cheaper_model",
            Self::UnpricedUsage => "unpriced_usage",
        }
    }

    /// Reads a name.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), listing the kinds.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == name.trim());
        found.ok_or_else(|| {
            let kinds = Self::ALL.map(Self::as_str).join(", ");
            Error::invalid(format!("{name:.40?} is no kind of saving; kinds: {kinds}"))
        })
    }

    /// How sure its money is.
    #[must_use]
    pub fn confidence(self) -> &'static str {
        match self {
            Self::IdleTools => "high",
            Self::OversizedResults | Self::MissedCache | Self::IdenticalCalls | Self::RetryLoops => "medium",
            Self::CheaperModel => "estimate",
            Self::UnpricedUsage => "data_quality",
        }
    }

    /// Kinds whose money may be the same money.
    #[must_use]
    pub fn overlaps(self) -> &'static [&'static str] {
        match self {
            Self::RetryLoops => &[
                "cheaper_model",
                "idle_tools",
                "oversized_results",
                "missed_cache",
                "identical_calls",
            ],
            Self::CheaperModel => &[
                "retry_loops",
                "idle_tools",
                "oversized_results",
                "missed_cache",
                "identical_calls",
            ],
            _ => &[],
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn action(self) -> &'static str {
        match self {
            Self::IdleTools => "leave the tool out, or load it on demand",
            Self::OversizedResults => "page, filter or summarise the results of the tool",
            Self::MissedCache => "keep the prefix stable and cache it",
            Self::IdenticalCalls => "cache the answer, or tell the model that it has it",
            Self::RetryLoops => "stop after the second failure and tell the model why",
            Self::CheaperModel => "try the cheaper model for these calls, and measure the quality",
            Self::UnpricedUsage => "import a price for the model",
        }
    }

    fn adds_up(self) -> bool {
        self.overlaps().is_empty() && self != Self::UnpricedUsage
    }
}

/// A question for savings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavingsRequest {
    /// First instant; [`SAVINGS_DAYS_DEFAULT`] days back where absent.
    pub since_ns: Option<i64>,
    /// First instant that is no more looked at; now where absent.
    pub until_ns: Option<i64>,
    /// As in a cost report, by dimensions that calls have.
    pub filters: Vec<(Dimension, Vec<Option<String>>)>,
    /// Kinds that are looked for; none for all.
    pub kinds: Vec<Kind>,
    /// Opportunities at most; 0 takes the default.
    pub limit: usize,
}

/// One opportunity.
#[derive(Debug, Clone, PartialEq)]
pub struct Saving {
    /// Kind.
    pub kind: Kind,
    /// Whose it is: a tool as `server/tool`, a model as `provider/model`.
    pub subject: String,
    /// Money of the period in USD; absent where nobody knows it.
    pub cost: Option<FemtoUsd>,
    /// The same for 30 days.
    pub monthly: Option<FemtoUsd>,
    /// Counts that it rests on.
    pub counts: Vec<(&'static str, i64)>,
    /// Conversations with most of it, at most three.
    pub sessions: Vec<String>,
    /// Calls to look at, at most three.
    pub call_ids: Vec<String>,
    /// More in words: the model that is compared with.
    pub detail: Option<String>,
}

impl Serialize for Saving {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", self.kind.as_str())?;
        map.serialize_entry("subject", &self.subject)?;
        map.serialize_entry("monthly", &self.monthly.map(|cost| cost.to_string()))?;
        map.serialize_entry("cost", &self.cost.map(|cost| cost.to_string()))?;
        map.serialize_entry("confidence", self.kind.confidence())?;
        map.serialize_entry("action", self.kind.action())?;
        map.serialize_entry("detail", &self.detail)?;
        map.serialize_entry("counts", &self.counts.iter().copied().collect::<BTreeMap<_, _>>())?;
        map.serialize_entry("sessions", &self.sessions)?;
        map.serialize_entry("call_ids", &self.call_ids)?;
        map.serialize_entry("overlaps", self.kind.overlaps())?;
        map.end()
    }
}

/// Opportunities, those with the most money first.
#[derive(Debug, Clone, PartialEq)]
pub struct SavingsReport {
    /// First instant that was looked at: no earlier than the first day with usage.
    pub since_ns: i64,
    /// First instant that was not.
    pub until_ns: i64,
    /// What the period cost.
    pub period_cost: FemtoUsd,
    /// Opportunities.
    pub savings: Vec<Saving>,
    /// How many there are.
    pub n_found: usize,
    /// A month's money of all that were found of the kinds whose money is never the same money.
    pub monthly_disjoint: FemtoUsd,
}

impl Serialize for SavingsReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("since", &format_instant(self.since_ns))?;
        map.serialize_entry("until", &format_instant(self.until_ns))?;
        map.serialize_entry("currency", CURRENCY)?;
        map.serialize_entry("period_cost", &self.period_cost.to_string())?;
        map.serialize_entry("savings", &self.savings)?;
        map.serialize_entry("found", &self.n_found)?;
        map.serialize_entry("monthly_disjoint", &self.monthly_disjoint.to_string())?;
        map.end()
    }
}

impl Engine {
    /// What could be saved.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a filter that calls do not have; those of [`Engine::sql`].
    pub async fn savings(&self, principal: &Principal, request: &SavingsRequest) -> Result<SavingsReport> {
        self.savings_with(principal, request, |_, _, _| {}).await
    }

    /// As [`Self::savings`], telling how far it is: kinds done, kinds to do, and the one that comes.
    ///
    /// # Errors
    /// As there.
    pub async fn savings_with(
        &self,
        principal: &Principal,
        request: &SavingsRequest,
        mut told: impl FnMut(u64, u64, &'static str),
    ) -> Result<SavingsReport> {
        for (dimension, _) in &request.filters {
            if !dimension.is_of_calls() || dimension.name() == "kind" {
                return Err(Error::invalid(format!(
                    "find_savings is not filtered by {}; filter by team, service, model, server or another dimension of calls",
                    dimension.name()
                )));
            }
        }
        let session = self.session(principal);
        let until_ns = request.until_ns.unwrap_or_else(|| self.now_ns());
        let since_ns = request.since_ns.unwrap_or(until_ns - SAVINGS_DAYS_DEFAULT * DAY_NS);
        let (since_ns, until_ns) = whole_hours(Some(since_ns), Some(until_ns));
        let asked = CostRequest {
            since_ns,
            until_ns,
            filters: request.filters.clone(),
            ..CostRequest::default()
        };
        let mut search = Search::new(&session, &asked);
        let (first_ns, period_cost) = search.span().await?;
        let until_ns = until_ns.unwrap_or_default();
        let since_ns = since_ns
            .unwrap_or_default()
            .max(first_ns.map_or(i64::MIN, |first| first.div_euclid(DAY_NS) * DAY_NS));
        // Every kind is looked for: a later one leaves out what an earlier one has.
        let n = Kind::ALL.len() as u64;
        let mut savings = Vec::new();
        for (done, kind) in (0_u64..).zip(Kind::ALL) {
            told(done, n, kind.as_str());
            let is_wanted = request.kinds.is_empty() || request.kinds.contains(&kind);
            let is_needed = kind == Kind::OversizedResults && request.kinds.contains(&Kind::MissedCache);
            if first_ns.is_none() || !(is_wanted || is_needed) {
                continue;
            }
            let found = search.find(kind).await?;
            if is_wanted {
                savings.extend(found);
            }
        }
        told(n, n, "done");
        let period = i128::from((until_ns - since_ns).max(1));
        savings.retain(|saving| saving.cost.is_none_or(|cost| cost > FemtoUsd::ZERO));
        for saving in &mut savings {
            saving.monthly = saving.cost.map(|cost| {
                let monthly = cost.0.saturating_mul(MONTH_NS / 1_000_000) / (period / 1_000_000).max(1);
                FemtoUsd(monthly / MONTHLY_UNIT * MONTHLY_UNIT)
            });
        }
        let monthly_disjoint = savings
            .iter()
            .filter(|saving| saving.kind.adds_up())
            .filter_map(|saving| saving.monthly)
            .sum();
        savings.sort_by(|a, b| {
            let by_money = b.monthly.cmp(&a.monthly);
            by_money
                .then(a.kind.cmp(&b.kind))
                .then_with(|| a.subject.cmp(&b.subject))
        });
        let n_found = savings.len();
        savings.truncate(match request.limit {
            0 => SAVINGS_DEFAULT,
            limit => limit.min(SAVINGS_MAX),
        });
        Ok(SavingsReport {
            since_ns,
            until_ns,
            period_cost,
            savings,
            n_found,
            monthly_disjoint,
        })
    }
}
