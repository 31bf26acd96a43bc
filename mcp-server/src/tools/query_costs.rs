//! `query_costs`: what does it cost, by what, over which time.

use rmcp::model::Tool;
use serde_json::{Map, Value, json};
use spanledger_query::costs::CURRENCY;
use spanledger_query::time::{format_instant, parse_instant};
use spanledger_query::{CostReport, CostRequest, CostRow, Dimension, Error, Result};

use super::{Answer, Call, nullable_text, reading_tool};
use crate::arguments::Arguments;
use crate::limits::{COST_ROWS_DEFAULT, COST_ROWS_MAX};
use crate::text::{DATA_NOTE, Rows, line};

pub(crate) const NAME: &str = "query_costs";
const ARGUMENTS: [&str; 6] = ["by", "since", "until", "filters", "limit", "detailed"];
/// Measures of every answer; the others are added when `detailed`.
const CONCISE: [&str; 6] = ["cost", "tokens", "calls", "llm_calls", "errors", "unpriced_tokens"];
const DETAILED: [&str; 5] = [
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "unpriced_calls",
];

pub(crate) fn definition() -> Tool {
    let dimensions = Dimension::ALL.map(Dimension::name);
    let measures = json!({ "type": "object", "description": "measure to value; cost is an exact decimal or null" });
    reading_tool(
        NAME,
        "Query costs",
        "Exact cost, tokens, calls and errors of LLM and MCP usage, split by dimensions, dearest first. rows and other \
         add up to total. By server, tool, prompt or resource_uri: the cost it caused (definition, calls and results in \
         model calls, own price); null: the rest. By team, project, cost_center or environment: __unallocated__ is what \
         nobody is told to pay. By method: how surely that is divided.",
        json!({
            "type": "object",
            "properties": {
                "by": {
                    "type": "array",
                    "items": { "type": "string", "enum": dimensions },
                    "description": "dimensions to split by; none for the total"
                },
                "since": { "type": "string", "description": "7d, 24h, 2026-11-01 or RFC 3339 (UTC); default: all time" },
                "until": { "type": "string", "description": "exclusive, same forms" },
                "filters": {
                    "type": "object",
                    "description": "dimension to value or values, e.g. {\"team\": \"payments\"}; null: has no value"
                },
                "limit": { "type": "integer", "minimum": 1, "maximum": COST_ROWS_MAX, "default": COST_ROWS_DEFAULT },
                "detailed": { "type": "boolean", "default": false, "description": "adds input, output and cache tokens" }
            },
            "additionalProperties": false
        }),
        json!({
            "type": "object",
            "properties": {
                "since": nullable_text(),
                "until": nullable_text(),
                "currency": { "type": "string" },
                "columns": { "type": "array", "items": { "type": "string" } },
                "rows": { "type": "array", "items": { "type": "array" } },
                "other": { "anyOf": [measures.clone(), { "type": "null" }], "description": "rows beyond limit, summed" },
                "total": measures,
                "truncated": { "type": "boolean" },
                "notes": { "type": "array", "items": { "type": "string" } }
            },
            "required": ["since", "until", "currency", "columns", "rows", "other", "total", "truncated", "notes"]
        }),
    )
}

pub(crate) async fn answer(call: Call<'_>) -> Result<Answer> {
    let arguments = Arguments::new(NAME, &ARGUMENTS, call.arguments)?;
    let request = request(&arguments, call.engine.now_ns())?;
    let detailed = arguments.flag("detailed")?;
    let report = call.engine.costs(call.principal, &request).await?;
    Ok(written(&report, detailed))
}

fn request(arguments: &Arguments, now_ns: i64) -> Result<CostRequest> {
    let instant = |name| match arguments.text(name)? {
        Some(text) => parse_instant(text, now_ns).map(Some),
        None => Ok(None),
    };
    let mut request = CostRequest {
        by: Dimension::parse_list(&arguments.names("by")?.join(","))?,
        since_ns: instant("since")?,
        until_ns: instant("until")?,
        filters: Vec::new(),
        limit: arguments.count("limit", COST_ROWS_DEFAULT, COST_ROWS_MAX)?,
        measures: false,
    };
    if let (Some(since_ns), Some(until_ns)) = (request.since_ns, request.until_ns)
        && since_ns >= until_ns
    {
        return Err(Error::invalid("`since` is not before `until`: the time range is empty"));
    }
    for (name, values) in arguments.conditions("filters")? {
        request.filters.push((Dimension::parse(&name)?, values));
    }
    Ok(request)
}

fn written(report: &CostReport, detailed: bool) -> Answer {
    let measures: Vec<&str> = CONCISE
        .iter()
        .chain(if detailed { &DETAILED[..] } else { &[] })
        .copied()
        .collect();
    let dimensions = report.by.iter().map(|dimension| dimension.name());
    let mut rows = Rows::new(dimensions.chain(measures.iter().copied()));
    let mut shown = 0;
    for row in &report.rows {
        let keys = row.keys.iter().map(|key| key.clone().map_or(Value::Null, Value::from));
        if !rows.push(keys.chain(measures.iter().map(|name| measure(row, name))).collect()) {
            break;
        }
        shown += 1;
    }
    let other = rest(report, shown);
    let notes = notes(report, &rows, other.is_some());

    let mut text = rows.tsv(report.by.len());
    if !report.by.is_empty() {
        let summed = |label: &str, row: &CostRow| {
            let keys = (0..report.by.len()).map(|index| Value::from(if index == 0 { label } else { "" }));
            line(
                &keys
                    .chain(measures.iter().map(|name| measure(row, name)))
                    .collect::<Vec<_>>(),
            )
        };
        if let Some(other) = &other {
            text.push_str(&summed("[other]", other));
        }
        text.push_str(&summed("[total]", &report.total));
    }
    text.push_str(&format!("{}, {CURRENCY}", period(report)));
    for note in &notes {
        text.push_str(&format!("; {note}"));
    }

    let fields = |row: &CostRow| -> Map<String, Value> {
        measures
            .iter()
            .map(|name| ((*name).to_owned(), measure(row, name)))
            .collect()
    };
    Answer {
        links: Vec::new(),
        text,
        structured: json!({
            "since": report.since_ns.map(format_instant),
            "until": report.until_ns.map(format_instant),
            "currency": CURRENCY,
            "columns": rows.columns_json(),
            "rows": rows.rows_json(),
            "other": other.as_ref().map(&fields),
            "total": fields(&report.total),
            "truncated": other.is_some(),
            "notes": notes,
        }),
    }
}

/// A measure by its name: the cost as an exact decimal in a string, counts as numbers.
fn measure(row: &CostRow, name: &str) -> Value {
    match name {
        "cost" => row.cost.map_or(Value::Null, |cost| Value::from(cost.to_string())),
        "tokens" => row.tokens.into(),
        "calls" => row.calls.into(),
        "llm_calls" => row.llm_calls.into(),
        "errors" => row.errors.into(),
        "unpriced_tokens" => row.unpriced_tokens.into(),
        "input_tokens" => row.input_tokens.into(),
        "output_tokens" => row.output_tokens.into(),
        "cache_read_tokens" => row.cache_read_tokens.into(),
        "cache_write_tokens" => row.cache_write_tokens.into(),
        "unpriced_calls" => row.unpriced_calls.into(),
        _ => Value::Null,
    }
}

/// What is not shown as a row of its own, summed up: the report's *other*, and rows that did not fit.
fn rest(report: &CostReport, shown: usize) -> Option<CostRow> {
    let hidden = report.rows.iter().skip(shown).chain(&report.other);
    hidden.cloned().reduce(|sum, row| sum.and(&row))
}

fn notes(report: &CostReport, rows: &Rows, cut: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if cut {
        notes.push(format!(
            "{} rows shown, the rest is summed up as other; raise limit (at most {COST_ROWS_MAX}), filter, or shorten the time",
            rows.len()
        ));
    }
    if report.total.calls == Some(0) && report.total.tokens == 0 {
        notes.push("nothing matches; describe_data says which time and values there are".to_owned());
    }
    if report.total.unpriced_tokens > 0 || report.total.unpriced_calls.unwrap_or(0) > 0 {
        notes.push("cost leaves out unpriced usage: by=[\"model\"] says which models have no price".to_owned());
    }
    let undivided = report.methods.iter().find(|shares| shares.method == "undivided");
    if let Some(share) = undivided
        .and_then(|shares| shares.share)
        .filter(|_| is_by_cause(report))
    {
        notes.push(format!(
            "{:.0} % of the cost is not divided among causes",
            share * 100.0
        ));
    }
    if !report.by.is_empty() && rows.len() > 0 {
        notes.push(DATA_NOTE.to_owned());
    }
    notes
}

/// True where the split asks who caused a cost.
fn is_by_cause(report: &CostReport) -> bool {
    let causes = ["server", "tool", "prompt", "resource_uri", "cause"];
    report.by.iter().any(|dimension| causes.contains(&dimension.name()))
}

fn period(report: &CostReport) -> String {
    match (report.since_ns, report.until_ns) {
        (None, None) => "all time".to_owned(),
        (Some(since_ns), None) => format!("since {}", format_instant(since_ns)),
        (None, Some(until_ns)) => format!("until {}", format_instant(until_ns)),
        (Some(since_ns), Some(until_ns)) => format!("{} to {}", format_instant(since_ns), format_instant(until_ns)),
    }
}
