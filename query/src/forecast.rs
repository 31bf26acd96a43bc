//! The forecast of a period: what it cost so far, exactly, and what it is expected to cost by its end.
//!
//! Takes daily sums from the ledger, in total and by one dimension, and gives them to
//! [`spanledger_ledger::forecast`]. What has happened is a sum of lines to the last digit; what is to come is an
//! estimate with its method and interval. Each row is forecast by itself, so the rows' forecasts need not add up to
//! the total's; what they cost so far does. As other reports, it is of whole hours.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;
use spanledger_access::Principal;
use spanledger_ledger::budget::Period;
use spanledger_ledger::forecast::{Forecast, HISTORY_DAYS_MAX, INTERVAL_PERCENT_DEFAULT, Method, Series, forecast};
use spanledger_model::FemtoUsd;

use crate::costs::{CURRENCY, CostRequest, Dimension, conditions, group_by, needs_kind, on_ledger, whole_hours};
use crate::engine::{Engine, QueryOptions, Session};
use crate::error::{Error, Result};
use crate::limits::ROWS_MAX;
use crate::rows::rows;
use crate::source::Source;
use crate::time::{DAY_NS, format_instant};

/// Rows of a forecast where the caller names no limit.
pub const FORECAST_ROWS_DEFAULT: usize = 10;
/// Rows that a caller may ask for.
pub const FORECAST_ROWS_MAX: usize = 100;
const HOUR_NS: i64 = 3_600_000_000_000;

/// A question for a forecast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForecastRequest {
    /// Dimension to split by.
    pub by: Option<Dimension>,
    /// As in a cost report.
    pub filters: Vec<(Dimension, Vec<Option<String>>)>,
    /// The period whose end is forecast.
    pub period: Period,
    /// The instant from which it is looked ahead; what came after it is not looked at. Now, where absent.
    pub as_of_ns: Option<i64>,
    /// The share of outcomes that intervals are meant to hold, in percent, 1 to 99; 0 takes the default.
    pub interval_percent: u32,
    /// Rows at most; the rest is one row. 0 takes the default.
    pub limit: usize,
}

impl Default for ForecastRequest {
    fn default() -> Self {
        Self {
            by: None,
            filters: Vec::new(),
            period: Period::Month,
            as_of_ns: None,
            interval_percent: INTERVAL_PERCENT_DEFAULT,
            limit: 0,
        }
    }
}

/// What something cost so far, and will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForecastRow {
    /// Value of the dimension; `None` where there is none.
    pub key: Option<String>,
    /// Cost of the period so far in USD: a sum of ledger lines.
    pub actual: FemtoUsd,
    /// Expected at its end.
    pub forecast: FemtoUsd,
    /// Interval of that; absent where too little is known.
    pub interval: Option<(FemtoUsd, FemtoUsd)>,
    /// How it was made.
    pub method: Method,
    /// Whole days that it rests on.
    pub n_history_days: usize,
    /// Cost of the whole period before.
    pub previous: Option<FemtoUsd>,
}

impl Serialize for ForecastRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("key", &self.key)?;
        map.serialize_entry("actual", &self.actual.to_string())?;
        map.serialize_entry("forecast", &self.forecast.to_string())?;
        map.serialize_entry("low", &self.interval.map(|(low, _)| low.to_string()))?;
        map.serialize_entry("high", &self.interval.map(|(_, high)| high.to_string()))?;
        map.serialize_entry("previous", &self.previous.map(|cost| cost.to_string()))?;
        map.serialize_entry("method", self.method.as_str())?;
        map.serialize_entry("history_days", &self.n_history_days)?;
        map.end()
    }
}

/// A forecast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForecastReport {
    /// Dimension it is split by.
    pub by: Option<Dimension>,
    /// The period.
    pub period: Period,
    /// Its first instant.
    pub since_ns: i64,
    /// First instant after it.
    pub until_ns: i64,
    /// What is looked ahead from: a whole hour.
    pub as_of_ns: i64,
    /// Share that the intervals are meant to hold, in percent.
    pub interval_percent: u32,
    /// Dearest first.
    pub rows: Vec<ForecastRow>,
    /// What the limit cut off, as one.
    pub other: Option<ForecastRow>,
    /// Everything.
    pub total: ForecastRow,
    /// Tokens of the period whose cost is not known: in no figure.
    pub unpriced_tokens: i64,
}

impl Serialize for ForecastReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("period", self.period.as_str())?;
        map.serialize_entry("since", &format_instant(self.since_ns))?;
        map.serialize_entry("until", &format_instant(self.until_ns))?;
        map.serialize_entry("as_of", &format_instant(self.as_of_ns))?;
        map.serialize_entry("currency", CURRENCY)?;
        map.serialize_entry("by", &self.by.map(Dimension::name))?;
        map.serialize_entry("interval_percent", &self.interval_percent)?;
        map.serialize_entry("rows", &self.rows)?;
        map.serialize_entry("other", &self.other)?;
        map.serialize_entry("total", &self.total)?;
        map.serialize_entry("unpriced_tokens", &self.unpriced_tokens)?;
        map.end()
    }
}

/// Cost by UTC day of one thing, by days since the epoch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Daily(BTreeMap<i64, FemtoUsd>);

impl Daily {
    pub(crate) fn add(&mut self, day: i64, cost: FemtoUsd) {
        *self.0.entry(day).or_default() += cost;
    }

    fn add_all(&mut self, other: &Self) {
        other.0.iter().for_each(|(day, cost)| self.add(*day, *cost));
    }

    /// Sum of the days of a half-open range.
    pub(crate) fn sum(&self, from: i64, to: i64) -> FemtoUsd {
        self.0.range(from..to.max(from)).map(|(_, cost)| *cost).sum()
    }

    /// Each day of a half-open range.
    pub(crate) fn days(&self, from: i64, to: i64) -> Vec<FemtoUsd> {
        (from..to)
            .map(|day| self.0.get(&day).copied().unwrap_or_default())
            .collect()
    }
}

/// Where a period and the instant in it lie, in days since the epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Horizon {
    pub(crate) since_ns: i64,
    pub(crate) until_ns: i64,
    pub(crate) as_of_ns: i64,
}

impl Horizon {
    /// The period around an instant, which is moved to the end of its hour.
    pub(crate) fn around(period: Period, at_ns: i64) -> Self {
        let (since_ns, until_ns) = period.around(at_ns);
        let as_of_ns = whole_hours(None, Some(at_ns)).1.unwrap_or(at_ns);
        Self {
            since_ns,
            until_ns,
            as_of_ns,
        }
    }

    pub(crate) fn first_day(&self) -> i64 {
        self.since_ns.div_euclid(DAY_NS)
    }

    /// The day that is still going on. At the end of a day's last hour it is that day, with nothing left of it.
    pub(crate) fn today(&self) -> i64 {
        (self.as_of_ns - 1).div_euclid(DAY_NS).max(self.first_day())
    }

    /// First day whose cost is asked for: the history, or the period before the last.
    fn history_first(&self, period: Period) -> i64 {
        let previous = period.before(self.since_ns).div_euclid(DAY_NS);
        previous.min(self.today() - i64::try_from(HISTORY_DAYS_MAX).unwrap_or(0))
    }

    /// First instant whose cost is asked for.
    pub(crate) fn history_since_ns(&self, period: Period) -> i64 {
        self.history_first(period) * DAY_NS
    }

    /// What is still to come of one thing.
    pub(crate) fn look_ahead(&self, daily: &Daily, interval_percent: u32) -> Forecast {
        let today = self.today();
        let oldest = today - i64::try_from(HISTORY_DAYS_MAX).unwrap_or(0);
        let first = daily.0.range(oldest..today).next().map_or(today, |(day, _)| *day);
        let days = daily.days(first, today);
        let left_ns = ((today + 1) * DAY_NS - self.as_of_ns).clamp(0, DAY_NS);
        let last = self.until_ns.div_euclid(DAY_NS);
        forecast(&Series {
            days: &days,
            today: daily.sum(today, today + 1),
            today_left_ppm: u32::try_from(left_ns / (DAY_NS / 1_000_000)).unwrap_or(0),
            n_days_ahead: usize::try_from(last - today - 1).unwrap_or(0),
            interval_percent,
        })
    }

    fn row(&self, key: Option<String>, daily: &Daily, period: Period, interval_percent: u32) -> ForecastRow {
        let ahead = self.look_ahead(daily, interval_percent);
        let actual = daily.sum(self.first_day(), self.today() + 1);
        let previous_first = period.before(self.since_ns).div_euclid(DAY_NS);
        let has_previous = daily.0.range(..self.first_day()).next().is_some();
        ForecastRow {
            key,
            actual,
            forecast: actual + ahead.expected,
            interval: ahead.interval.map(|(low, high)| (actual + low, actual + high)),
            method: ahead.method,
            n_history_days: ahead.n_history_days,
            previous: has_previous.then(|| daily.sum(previous_first, self.first_day())),
        }
    }
}

/// Daily cost by one dimension or none, and the tokens without a price from `since_ns` on.
pub(crate) async fn daily_costs(
    session: &Session,
    request: &CostRequest,
    since_ns: i64,
) -> Result<(Vec<(Option<String>, Daily)>, i64)> {
    let by = request.by.first();
    let key = by.map_or_else(
        || "CAST(NULL AS VARCHAR)".to_owned(),
        |dimension| dimension.group_name(on_ledger(dimension)),
    );
    let join = if needs_kind(request, &request.by) {
        " LEFT JOIN (SELECT call_id, kind FROM calls) c ON l.call_id = c.call_id"
    } else {
        ""
    };
    let sql = format!(
        "SELECT time_bucket('1 day', l.time) AS point, {key} AS key, SUM(l.effective_cost) AS cost, \
         SUM(CASE WHEN l.effective_cost IS NULL THEN l.tokens END) AS unpriced_tokens \
         FROM {} l{join}{}{} ORDER BY 2, 1",
        Source::of(request, &request.by).lines(),
        conditions(request, "l.time", &on_ledger),
        group_by(2)
    );
    let options = QueryOptions {
        rows_max: ROWS_MAX,
        ..QueryOptions::default()
    };
    let answer = session.query(&sql, &options).await?;
    if answer.truncated {
        return Err(Error::invalid(
            "the dimension has too many values to forecast each; filter, or split by another one",
        ));
    }
    let mut series: Vec<(Option<String>, Daily)> = Vec::new();
    let mut unpriced_tokens = 0;
    for row in rows(&answer) {
        let (key, Some(time_ns)) = (row.text("key"), row.time_ns("point")) else {
            continue;
        };
        if time_ns >= since_ns {
            unpriced_tokens += row.count("unpriced_tokens");
        }
        let Some(cost) = row.cost("cost") else { continue };
        if series.last().is_none_or(|(last, _)| *last != key) {
            series.push((key, Daily::default()));
        }
        if let Some((_, daily)) = series.last_mut() {
            daily.add(time_ns.div_euclid(DAY_NS), cost);
        }
    }
    Ok((series, unpriced_tokens))
}

/// Exact cost of the last whole hour and of the last 24 of them.
pub(crate) async fn pace(session: &Session, request: &CostRequest, as_of_ns: i64) -> Result<(FemtoUsd, FemtoUsd)> {
    let hour_ago = crate::costs::instant_sql(as_of_ns - HOUR_NS);
    let request = CostRequest {
        since_ns: Some(as_of_ns - DAY_NS),
        until_ns: Some(as_of_ns),
        ..request.clone()
    };
    let join = if needs_kind(&request, &[]) {
        " LEFT JOIN (SELECT call_id, kind FROM calls) c ON l.call_id = c.call_id"
    } else {
        ""
    };
    let sql = format!(
        "SELECT SUM(l.effective_cost) FILTER (WHERE l.time >= {hour_ago}) AS hour, SUM(l.effective_cost) AS day \
         FROM ledger l{join}{}",
        conditions(&request, "l.time", &on_ledger)
    );
    let answer = session.query(&sql, &QueryOptions::default()).await?;
    let row = rows(&answer).next();
    let cost = |name| row.and_then(|row| row.cost(name)).unwrap_or_default();
    Ok((cost("hour"), cost("day")))
}

impl Engine {
    /// Forecasts the end of a period.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a dimension with too many values; those of [`Engine::sql`].
    pub async fn forecast(&self, principal: &Principal, request: &ForecastRequest) -> Result<ForecastReport> {
        let session = self.session(principal);
        let horizon = Horizon::around(request.period, request.as_of_ns.unwrap_or_else(|| self.now_ns()));
        let interval_percent = match request.interval_percent {
            0 => INTERVAL_PERCENT_DEFAULT,
            percent => percent.min(99),
        };
        let limit = match request.limit {
            0 => FORECAST_ROWS_DEFAULT,
            limit => limit.min(FORECAST_ROWS_MAX),
        };
        let asked = CostRequest {
            by: request.by.into_iter().collect(),
            filters: request.filters.clone(),
            since_ns: Some(horizon.history_since_ns(request.period)),
            until_ns: Some(horizon.as_of_ns),
            ..CostRequest::default()
        };
        let (series, unpriced_tokens) = daily_costs(&session, &asked, horizon.since_ns).await?;
        let mut all = Daily::default();
        series.iter().for_each(|(_, daily)| all.add_all(daily));
        let row = |key, daily: &Daily| horizon.row(key, daily, request.period, interval_percent);
        let total = row(None, &all);
        let (mut rows, mut other) = (Vec::new(), None);
        if request.by.is_some() {
            let mut series: Vec<(ForecastRow, Daily)> = series
                .into_iter()
                .map(|(key, daily)| (row(key, &daily), daily))
                .collect();
            series.sort_by(|(a, _), (b, _)| {
                let dearer = (b.forecast, b.actual).cmp(&(a.forecast, a.actual));
                dearer.then_with(|| a.key.is_none().cmp(&b.key.is_none()).then_with(|| a.key.cmp(&b.key)))
            });
            if series.len() > limit {
                let mut rest = Daily::default();
                series[limit..].iter().for_each(|(_, daily)| rest.add_all(daily));
                other = Some(row(None, &rest));
                series.truncate(limit);
            }
            rows = series.into_iter().map(|(row, _)| row).collect();
        }
        Ok(ForecastReport {
            by: request.by,
            period: request.period,
            since_ns: horizon.since_ns,
            until_ns: horizon.until_ns,
            as_of_ns: horizon.as_of_ns,
            interval_percent,
            rows,
            other,
            total,
            unpriced_tokens,
        })
    }
}

/// A standing in words that programs read: shared by budgets.
pub(crate) fn interval_json(interval: Option<(FemtoUsd, FemtoUsd)>) -> serde_json::Value {
    interval.map_or(serde_json::Value::Null, |(low, high)| {
        json!([low.to_string(), high.to_string()])
    })
}
