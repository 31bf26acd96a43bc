//! A cost report grown: each row over time, beside the period before, and the values that a filter may have meant.
//!
//! Built on [`crate::costs`]: the points of a row sum to the row, the rows and *other* of each point to the point of
//! the total, and the period before is split and cut as the period itself is. One session answers it all, so that
//! the figures agree.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};
use spanledger_access::Principal;
use spanledger_model::FemtoUsd;

use crate::change::percent;
use crate::costs::{self, CostReport, CostRequest, CostRow, Dimension, grouped_sql};
use crate::engine::{Engine, QueryOptions, Session};
use crate::error::{Error, Result, edit_distance};
use crate::limits::{COST_GROUPS_MAX, SPEND_POINTS_MAX};
use crate::rows::rows;
use crate::spend::Interval;
use crate::time::format_instant;

/// Values that a filter without a match is answered with.
const NEAREST_MAX: usize = 5;
/// Values that are looked through for them.
const VALUES_MAX: usize = 2_000;

/// A report, and what was asked for beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct GrownReport {
    /// The report.
    pub report: CostReport,
    /// The interval of the series.
    pub interval: Option<Interval>,
    /// Points of each row, of *other* where there is one, and of the total: in this order. Empty without an interval.
    pub series: Vec<Vec<(String, CostRow)>>,
    /// The period of the same length before.
    pub previous: Option<PreviousPeriod>,
}

/// The same groups in the period before.
#[derive(Debug, Clone, PartialEq)]
pub struct PreviousPeriod {
    /// First instant, nanoseconds since the Unix epoch.
    pub since_ns: i64,
    /// First instant that is no more in it.
    pub until_ns: i64,
    /// Of each row, in the order of the report's; none where the group was not there.
    pub rows: Vec<Option<CostRow>>,
    /// Everything else, groups that are gone included.
    pub other: CostRow,
    /// Everything.
    pub total: CostRow,
    /// Groups that were there and are in the report no more, cut off or not.
    pub gone: usize,
}

impl Engine {
    /// A report with its rows over time (`interval`) and beside the period of the same length before (`compare`).
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) to compare a period without a start, and for too many points; those of
    /// [`Engine::costs`].
    pub async fn costs_grown(
        &self,
        principal: &Principal,
        request: &CostRequest,
        interval: Option<Interval>,
        compare: bool,
    ) -> Result<GrownReport> {
        let session = self.session(principal);
        let report = costs::report(&session, request).await?;
        let series = match interval {
            Some(interval) => series(&session, request, &report, interval).await?,
            None => Vec::new(),
        };
        let previous = if compare {
            Some(previous(&session, request, &report, self.now_ns()).await?)
        } else {
            None
        };
        Ok(GrownReport {
            report,
            interval,
            series,
            previous,
        })
    }

    /// The values of a dimension nearest to one that matched nothing: those it is a part of, then those spelled
    /// most like it.
    ///
    /// # Errors
    /// Those of [`Engine::costs`].
    pub async fn nearest_values(
        &self,
        principal: &Principal,
        dimension: Dimension,
        wrong: &str,
    ) -> Result<Vec<String>> {
        let request = CostRequest {
            by: vec![dimension],
            limit: VALUES_MAX,
            ..CostRequest::default()
        };
        let report = self.costs(principal, &request).await?;
        let wrong = wrong.to_lowercase();
        let mut values: Vec<(bool, usize, String)> = report
            .rows
            .into_iter()
            .filter_map(|row| row.keys.into_iter().next().flatten())
            .filter(|value| value.len() <= 256)
            .map(|value| {
                let name = value.to_lowercase();
                let is_apart = wrong.is_empty() || !(name.contains(&wrong) || wrong.contains(&name));
                (is_apart, edit_distance(&wrong, &name), value)
            })
            .collect();
        // Beyond half of its letters a value is no nearer than any other.
        values.retain(|(is_apart, distance, value)| !is_apart || distance * 2 <= value.len().max(wrong.len()));
        // The sort is stable: among equals the dearest comes first.
        values.sort_by_key(|(is_apart, distance, _)| (*is_apart, *distance));
        Ok(values.into_iter().take(NEAREST_MAX).map(|(.., value)| value).collect())
    }
}

/// The period of the same length before one; the end is now where none is told.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid) where the period has no start.
pub fn period_before(since_ns: Option<i64>, until_ns: Option<i64>, now_ns: i64) -> Result<(i64, i64)> {
    let (since_ns, until_ns) = costs::whole_hours(since_ns, Some(until_ns.unwrap_or(now_ns)));
    let since_ns =
        since_ns.ok_or_else(|| Error::invalid("to compare with the period before, say `since`, such as 7d"))?;
    let length_ns = until_ns.unwrap_or(now_ns).saturating_sub(since_ns).max(0);
    Ok((since_ns.saturating_sub(length_ns), since_ns))
}

async fn previous(
    session: &Session,
    request: &CostRequest,
    report: &CostReport,
    now_ns: i64,
) -> Result<PreviousPeriod> {
    let (since_ns, until_ns) = period_before(report.since_ns, report.until_ns, now_ns)?;
    let request = CostRequest {
        since_ns: Some(since_ns),
        until_ns: Some(until_ns),
        limit: COST_GROUPS_MAX,
        measures: false,
        ..request.clone()
    };
    let before = costs::report(session, &request).await?;
    let mut groups: HashMap<Vec<Option<String>>, CostRow> = if request.by.is_empty() {
        HashMap::from([(Vec::new(), before.total.clone())])
    } else {
        before.rows.into_iter().map(|row| (row.keys.clone(), row)).collect()
    };
    let rows: Vec<Option<CostRow>> = report.rows.iter().map(|row| groups.remove(&row.keys)).collect();
    let other = CostRow {
        keys: Vec::new(),
        ..before.total.without(rows.iter().flatten())
    };
    Ok(PreviousPeriod {
        since_ns,
        until_ns,
        gone: groups.len(),
        other,
        total: before.total,
        rows,
    })
}

/// Rows, *other* and total by interval.
async fn series(
    session: &Session,
    request: &CostRequest,
    report: &CostReport,
    interval: Interval,
) -> Result<Vec<Vec<(String, CostRow)>>> {
    let bounded = CostRequest {
        since_ns: report.since_ns,
        until_ns: report.until_ns,
        ..request.clone()
    };
    let total = points(session, &bounded, &[], interval).await?;
    let mut totals: BTreeMap<String, CostRow> = BTreeMap::new();
    for (time, _, row) in total {
        totals.insert(time, row);
    }
    if request.by.is_empty() {
        let total: Vec<_> = totals.into_iter().collect();
        return Ok(vec![total.clone(), total]);
    }
    let place: HashMap<&[Option<String>], usize> = report
        .rows
        .iter()
        .enumerate()
        .map(|(index, row)| (row.keys.as_slice(), index))
        .collect();
    let mut series: Vec<Vec<(String, CostRow)>> = vec![Vec::new(); report.rows.len()];
    let mut named: BTreeMap<String, Vec<CostRow>> = BTreeMap::new();
    for (time, keys, row) in points(session, &bounded, &request.by, interval).await? {
        if let Some(index) = place.get(keys.as_slice()) {
            named.entry(time.clone()).or_default().push(row.clone());
            series[*index].push((time, row));
        }
    }
    if report.other.is_some() {
        let others = totals.iter().map(|(time, total)| {
            let rows = named.get(time).into_iter().flatten();
            (time.clone(), total.without(rows))
        });
        series.push(others.filter(|(_, row)| !row.is_nothing()).collect());
    }
    series.push(totals.into_iter().collect());
    Ok(series)
}

/// Every group's points, oldest first.
async fn points(
    session: &Session,
    request: &CostRequest,
    by: &[Dimension],
    interval: Interval,
) -> Result<Vec<(String, Vec<Option<String>>, CostRow)>> {
    let point = interval.dimension();
    let by_point: Vec<Dimension> = by.iter().copied().chain([point]).collect();
    let sql = format!(
        "{} HAVING SUM(n_rows) <> 0 ORDER BY {}",
        grouped_sql(request, &by_point),
        by_point.len()
    );
    let options = QueryOptions {
        rows_max: SPEND_POINTS_MAX,
        ..QueryOptions::default()
    };
    let result = session.query(&sql, &options).await?;
    if result.truncated {
        return Err(Error::invalid(format!(
            "the series have over {SPEND_POINTS_MAX} points; take a wider interval, a shorter time, or fewer dimensions"
        )));
    }
    let counts_calls = costs::counts_calls(request) && costs::has_calls(by);
    let points = rows(&result).filter_map(|row| {
        let time_ns = row.time_ns(point.name())?;
        let mut read = CostRow::read(row, by, counts_calls);
        let keys = std::mem::take(&mut read.keys);
        Some((interval.label(time_ns), keys, read))
    });
    Ok(points.collect())
}

/// Change of a cost against the period before: absolute, and in percent where there was one.
#[must_use]
pub fn change(now: Option<FemtoUsd>, before: Option<FemtoUsd>) -> (FemtoUsd, Option<String>) {
    let before = before.unwrap_or_default();
    let change = now.unwrap_or_default() - before;
    (change, percent(change, before))
}

impl GrownReport {
    /// As the REST API tells it: the report's JSON with `interval`, `series`, `previous` and each row's `previous`.
    ///
    /// # Errors
    /// None in practice: rows are always JSON.
    pub fn to_json(&self) -> Result<Value> {
        let unwritable = |error| Error::internal("the report could not be written").with_source(error);
        let mut told = serde_json::to_value(&self.report).map_err(unwritable)?;
        if let Some(previous) = &self.previous {
            told["previous"] = json!({
                "since": format_instant(previous.since_ns),
                "until": format_instant(previous.until_ns),
                "total": compared(&previous.total),
                "gone": previous.gone,
            });
            let before = previous.rows.iter().map(Option::as_ref);
            for (index, (row, before)) in self.report.rows.iter().zip(before).enumerate() {
                compare(&mut told["rows"][index], row, before);
            }
            if let Some(other) = &self.report.other {
                compare(&mut told["other"], other, Some(&previous.other));
            }
            compare(&mut told["total"], &self.report.total, Some(&previous.total));
        }
        if let Some(interval) = self.interval {
            told["interval"] = Value::from(interval.name());
            let points = |points: &[(String, CostRow)]| -> Value {
                let points = points.iter().map(|(time, row)| {
                    let mut point = compared(row);
                    point["time"] = Value::from(time.as_str());
                    point
                });
                points.collect::<Vec<_>>().into()
            };
            for (index, series) in self.series.iter().enumerate().take(self.report.rows.len()) {
                told["rows"][index]["series"] = points(series);
            }
            if let (Some(_), Some(series)) = (&self.report.other, self.series.get(self.report.rows.len())) {
                told["other"]["series"] = points(series);
            }
            if let Some(series) = self.series.last() {
                told["total"]["series"] = points(series);
            }
        }
        Ok(told)
    }
}

/// The measures that are compared.
fn compared(row: &CostRow) -> Value {
    json!({
        "cost": row.cost.map(|cost| cost.to_string()),
        "tokens": row.tokens,
        "calls": row.calls,
        "errors": row.errors,
        "unpriced_tokens": row.unpriced_tokens,
    })
}

fn compare(told: &mut Value, row: &CostRow, before: Option<&CostRow>) {
    let (change, percent) = change(row.cost, before.and_then(|before| before.cost));
    let fields = Map::from_iter([
        ("previous".to_owned(), before.map_or(Value::Null, compared)),
        ("change".to_owned(), Value::from(change.to_string())),
        ("change_percent".to_owned(), Value::from(percent)),
    ]);
    if let Value::Object(object) = told {
        object.extend(fields);
    }
}
