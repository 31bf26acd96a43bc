//! Cost over time: the series behind the spend chart.

use serde::ser::{Serialize, SerializeMap, Serializer};
use spanledger_access::Principal;
use spanledger_model::FemtoUsd;

use crate::costs::{CostRequest, Dimension, instant_sql, point, whole_hours};
use crate::engine::{Engine, QueryOptions, Session};
use crate::error::{Error, Result};
use crate::limits::SPEND_POINTS_MAX;
use crate::rows::rows;
use crate::source::Source;
use crate::time::format_instant;

/// Width of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interval {
    /// An hour.
    Hour,
    /// A UTC day.
    #[default]
    Day,
    /// A week from Monday.
    Week,
    /// A calendar month.
    Month,
}

impl Interval {
    const ALL: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::Month];

    /// Name in requests and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// The start of the interval as a dimension.
    pub(crate) fn dimension(self) -> Dimension {
        // The type is said, because the planner takes another one for what the function gives.
        macro_rules! bucket {
            ($width:literal) => {
                concat!(
                    "arrow_cast(time_bucket('1 ",
                    $width,
                    "', time), 'Timestamp(Microsecond, Some(\"UTC\"))')"
                )
            };
        }
        point(match self {
            Self::Hour => bucket!("hour"),
            Self::Day => bucket!("day"),
            Self::Week => bucket!("week"),
            Self::Month => bucket!("month"),
        })
    }

    /// How the start of an interval is written: an hour with its time, else the date.
    #[must_use]
    pub fn label(self, time_ns: i64) -> String {
        let mut time = format_instant(time_ns);
        if self != Self::Hour {
            time.truncate(10);
        }
        time
    }

    /// Reads a name.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), listing the intervals.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|interval| interval.name() == name);
        found.ok_or_else(|| Error::invalid(format!("`{name}` is no interval; intervals: hour, day, week, month")))
    }
}

/// One point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpendPoint {
    /// Width of the interval.
    pub interval: Interval,
    /// Start of the interval, nanoseconds since the Unix epoch.
    pub time_ns: i64,
    /// Cost in USD; `None` where nothing is priced and something is unpriced.
    pub cost: Option<FemtoUsd>,
    /// Operations of any kind.
    pub calls: i64,
    /// Operations that failed.
    pub errors: i64,
    /// Tokens.
    pub tokens: i64,
    /// Tokens whose cost is not known.
    pub unpriced_tokens: i64,
}

impl Serialize for SpendPoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = format_instant(self.time_ns);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &time)?;
        let day = if self.interval == Interval::Hour {
            &time
        } else {
            time.get(..10).unwrap_or(&time)
        };
        map.serialize_entry("day", day)?;
        map.serialize_entry("cost", &self.cost.map(|cost| cost.to_string()))?;
        map.serialize_entry("calls", &self.calls)?;
        map.serialize_entry("errors", &self.errors)?;
        map.serialize_entry("tokens", &self.tokens)?;
        map.serialize_entry("unpriced_tokens", &self.unpriced_tokens)?;
        map.end()
    }
}

impl Engine {
    /// Cost over time between two instants (their whole hours), oldest first; an interval in which nothing happened has no point.
    ///
    /// # Errors
    /// Those of [`Engine::sql`]; [`Invalid`](crate::ErrorKind::Invalid) for a series of too many points.
    pub async fn spend(
        &self,
        principal: &Principal,
        interval: Interval,
        since_ns: Option<i64>,
        until_ns: Option<i64>,
    ) -> Result<Vec<SpendPoint>> {
        series(&self.session(principal), interval, since_ns, until_ns).await
    }
}

async fn series(
    session: &Session,
    interval: Interval,
    since_ns: Option<i64>,
    until_ns: Option<i64>,
) -> Result<Vec<SpendPoint>> {
    let (since_ns, until_ns) = whole_hours(since_ns, until_ns);
    let mut bounds = String::new();
    if let Some(since_ns) = since_ns {
        bounds.push_str(&format!(" AND time >= {}", instant_sql(since_ns)));
    }
    if let Some(until_ns) = until_ns {
        bounds.push_str(&format!(" AND time < {}", instant_sql(until_ns)));
    }
    let bucket = format!("time_bucket('1 {}', time)", interval.name());
    let request = CostRequest {
        since_ns,
        until_ns,
        ..CostRequest::default()
    };
    let source = Source::of(&request, &[interval.dimension()]);
    let (lines, calls) = (source.lines(), source.calls());
    let sql = format!(
        "SELECT point, SUM(cost) AS cost, SUM(calls) AS calls, SUM(errors) AS errors, SUM(tokens) AS tokens, \
         SUM(unpriced_tokens) AS unpriced_tokens, SUM(unpriced_calls) AS unpriced_calls FROM (\
         SELECT {bucket} AS point, SUM(effective_cost) AS cost, CAST(NULL AS BIGINT) AS calls, CAST(NULL AS BIGINT) AS errors, \
         SUM(tokens) AS tokens, SUM(CASE WHEN effective_cost IS NULL THEN tokens END) AS unpriced_tokens, \
         CAST(NULL AS BIGINT) AS unpriced_calls FROM {lines} WHERE true{bounds} GROUP BY 1 UNION ALL \
         SELECT {bucket}, CAST(NULL AS DECIMAL(38,15)), SUM(calls), SUM(calls) FILTER (WHERE status = 'error'), NULL, NULL, \
         SUM(calls) FILTER (WHERE unpriced) FROM {calls} WHERE true{bounds} GROUP BY 1) GROUP BY 1 ORDER BY 1"
    );
    let options = QueryOptions {
        rows_max: SPEND_POINTS_MAX,
        ..QueryOptions::default()
    };
    let result = session.query(&sql, &options).await?;
    if result.truncated {
        return Err(Error::invalid(format!(
            "the series has over {SPEND_POINTS_MAX} points; take a wider interval or a shorter time"
        )));
    }
    let points = rows(&result).filter_map(|row| {
        let is_unpriced = row.count("unpriced_tokens") != 0 || row.count("unpriced_calls") != 0;
        Some(SpendPoint {
            interval,
            time_ns: row.time_ns("point")?,
            cost: row.cost("cost").or((!is_unpriced).then_some(FemtoUsd::ZERO)),
            calls: row.count("calls"),
            errors: row.count("errors"),
            tokens: row.count("tokens"),
            unpriced_tokens: row.count("unpriced_tokens"),
        })
    });
    Ok(points.collect())
}
