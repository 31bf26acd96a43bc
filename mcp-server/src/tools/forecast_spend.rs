//! `forecast_spend`: what the period will cost by its end, and how the budgets stand to it.

use rmcp::model::Tool;
use serde_json::{Value, json};
use spanledger_ledger::budget::Period;
use spanledger_ledger::forecast::{INTERVAL_PERCENT_DEFAULT, Method};
use spanledger_query::Result;
use spanledger_query::costs::CURRENCY;
use spanledger_query::finops::budgets::Measured;
use spanledger_query::forecast::{
    FORECAST_ROWS_DEFAULT, FORECAST_ROWS_MAX, ForecastReport, ForecastRequest, ForecastRow,
};
use spanledger_query::time::format_instant;
use spanledger_query::{Dimension, Error};

use super::{Answer, Call, meant, reading_tool};
use crate::arguments::Arguments;
use crate::question;
use crate::text::{DATA_NOTE, Rows, line};

pub(crate) const NAME: &str = "forecast_spend";
const ARGUMENTS: [&str; 6] = ["by", "filters", "period", "as_of", "interval_percent", "limit"];
const FIGURES: [&str; 5] = ["actual", "forecast", "low", "high", "previous"];
/// Budgets of an answer: the worst; more are for the resource.
const BUDGETS_SHOWN: usize = 20;

pub(crate) fn definition() -> Tool {
    reading_tool(
        NAME,
        "Forecast spend",
        "What the current month (week, quarter) will cost by its end: actual so far (exact), forecast, low and high of an \
         80 % interval, previous period; and the budgets with state, forecast and breach date. Under 3 weeks of data: \
         linear run rate, no interval.",
        json!({
            "type": "object",
            "properties": {
                "by": { "type": "string", "description": "one dimension" },
                "filters": question::filters_schema(),
                "period": { "enum": Period::ALL.map(Period::as_str), "default": "month" },
                "as_of": { "type": "string", "description": "look from this instant, e.g. 2026-11-15; default now" },
                "interval_percent": { "type": "integer", "minimum": 1, "maximum": 99, "default": INTERVAL_PERCENT_DEFAULT },
                "limit": { "type": "integer", "minimum": 1, "maximum": FORECAST_ROWS_MAX, "default": FORECAST_ROWS_DEFAULT }
            },
            "additionalProperties": false
        }),
        json!({
            "type": "object",
            "properties": {
                "since": { "type": "string" },
                "until": { "type": "string" },
                "as_of": { "type": "string" },
                "columns": { "type": "array" },
                "rows": { "type": "array" },
                "other": { "type": ["object", "null"] },
                "total": { "type": "object" },
                "method": { "type": "string" },
                "budgets": { "type": "array", "items": { "type": "object" } },
                "truncated": { "type": "boolean" },
                "notes": { "type": "array" }
            }
        }),
    )
}

pub(crate) async fn answer(call: Call<'_>) -> Result<Answer> {
    let arguments = Arguments::new(NAME, &ARGUMENTS, call.arguments)?;
    let now_ns = call.engine.now_ns();
    let period = arguments.text("period")?.unwrap_or("month");
    let as_of_ns = question::instant(&arguments, "as_of", now_ns)?;
    let mut by = Dimension::parse_list(&arguments.names("by")?.join(","))?;
    if by.len() > 1 {
        return Err(Error::invalid(
            "`by` of forecast_spend is one dimension; filter by the others",
        ));
    }
    let request = ForecastRequest {
        by: by.pop(),
        filters: question::filters(&arguments)?,
        period: Period::parse(period).map_err(|error| Error::invalid(error.message().to_owned()))?,
        as_of_ns,
        interval_percent: u32::try_from(arguments.count("interval_percent", 80, 99)?)
            .unwrap_or(INTERVAL_PERCENT_DEFAULT),
        limit: arguments.count("limit", FORECAST_ROWS_DEFAULT, FORECAST_ROWS_MAX)?,
    };
    let report = call.engine.forecast(call.principal, &request).await?;
    // Budgets are of the whole ledger: beside a filtered forecast they would be read as its own.
    let mut budgets = match call.shared.finops() {
        Ok(finops) if request.filters.is_empty() => finops.budgets(call.principal, as_of_ns).await?,
        _ => Vec::new(),
    };
    budgets.sort_by(|a, b| {
        b.standing
            .state
            .cmp(&a.standing.state)
            .then_with(|| a.budget.name.cmp(&b.budget.name))
    });
    let mut notes = Vec::new();
    if !request.filters.is_empty() {
        notes.push("budgets are of the whole ledger, so a filtered forecast shows none".to_owned());
        if report.total.method == Method::NoData {
            notes.extend(meant(call.engine, call.principal, &request.filters).await?);
        }
    }
    Ok(written(&report, &budgets).with_notes(notes))
}

fn written(report: &ForecastReport, budgets: &[Measured]) -> Answer {
    let by = report.by.map_or("what", Dimension::name);
    let columns = std::iter::once(by).chain(FIGURES).chain(["method"]);
    let mut rows = Rows::new(columns);
    let mut shown = 0;
    for row in &report.rows {
        let key = row.key.clone().map_or(Value::Null, Value::from);
        let cells = std::iter::once(key)
            .chain(figures(row))
            .chain([Value::from(row.method.as_str())]);
        if !rows.push(cells.collect()) {
            break;
        }
        shown += 1;
    }
    let truncated = report.other.is_some() || shown < report.rows.len();
    let notes = notes(report, truncated, budgets.len());
    let mut text = rows.tsv(1);
    let mut summed = |label: &str, row: &ForecastRow| {
        let cells = std::iter::once(Value::from(label))
            .chain(figures(row))
            .chain([Value::from(row.method.as_str())]);
        text.push_str(&line(&cells.collect::<Vec<_>>()));
    };
    if let Some(other) = &report.other {
        summed("[other]", other);
    }
    summed("[total]", &report.total);
    text.push_str(&format!(
        "{} {} to {}, as of {}, {CURRENCY}\n",
        report.period.as_str(),
        format_instant(report.since_ns),
        format_instant(report.until_ns),
        format_instant(report.as_of_ns)
    ));
    for budget in budgets.iter().take(BUDGETS_SHOWN) {
        text.push_str(&crate::tools::set_budget::in_words(budget));
        text.push('\n');
    }
    text.push_str(&notes.join("; "));
    let fields = |row: &ForecastRow| {
        let names = FIGURES.into_iter().map(str::to_owned);
        Value::from(names.zip(figures(row)).collect::<serde_json::Map<_, _>>())
    };
    let budgets: Vec<Value> = budgets
        .iter()
        .take(BUDGETS_SHOWN)
        .map(crate::tools::set_budget::in_fields)
        .collect();
    Answer::new(
        text,
        json!({
            "since": format_instant(report.since_ns),
            "until": format_instant(report.until_ns),
            "as_of": format_instant(report.as_of_ns),
            "columns": rows.columns_json(),
            "rows": rows.rows_json(),
            "other": report.other.as_ref().map(fields),
            "total": fields(&report.total),
            "method": report.total.method.as_str(),
            "budgets": budgets,
            "truncated": truncated,
            "notes": notes,
        }),
    )
}

/// In the order of [`FIGURES`].
fn figures(row: &ForecastRow) -> impl Iterator<Item = Value> {
    let money = |cost: Option<spanledger_model::FemtoUsd>| cost.map_or(Value::Null, |cost| cost.to_string().into());
    [
        money(Some(row.actual)),
        money(Some(row.forecast)),
        money(row.interval.map(|(low, _)| low)),
        money(row.interval.map(|(_, high)| high)),
        money(row.previous),
    ]
    .into_iter()
}

fn notes(report: &ForecastReport, truncated: bool, n_budgets: usize) -> Vec<String> {
    let mut notes = Vec::new();
    match report.total.method {
        Method::Seasonal => notes.push(format!(
            "forecast: weekday means with drift of {} days; the interval holds about {} % of outcomes",
            report.total.n_history_days, report.interval_percent
        )),
        Method::RunRate => notes.push(format!(
            "forecast: linear run rate, only {} whole days of data: no interval",
            report.total.n_history_days
        )),
        Method::NoData => notes.push("no usage to go by; describe_data says which time there is".to_owned()),
    }
    if report.by.is_some() {
        notes.push("actuals add up to the total; each forecast is made by itself".to_owned());
    }
    if truncated {
        notes.push(format!(
            "raise limit (at most {FORECAST_ROWS_MAX}) or filter for more rows"
        ));
    }
    if n_budgets > BUDGETS_SHOWN {
        notes.push(format!("{BUDGETS_SHOWN} of {n_budgets} budgets shown, the worst first"));
    }
    if report.unpriced_tokens > 0 {
        notes.push(format!(
            "{} tokens without a price are in no figure",
            report.unpriced_tokens
        ));
    }
    if report.by.is_some() && !report.rows.is_empty() {
        notes.push(DATA_NOTE.to_owned());
    }
    notes
}
