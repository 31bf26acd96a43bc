//! `tool_economics`: what each tool or server costs in its life, in its parts.

use rmcp::model::Tool;
use serde_json::{Map, Value, json};
use spanledger_query::costs::CURRENCY;
use spanledger_query::measures::NAMES;
use spanledger_query::time::format_instant;
use spanledger_query::{CostRow, Dimension, Error, Result};

use super::{Answer, Call, meant, nullable_text, reading_tool};
use crate::arguments::Arguments;
use crate::limits::{COST_ROWS_DEFAULT, COST_ROWS_MAX};
use crate::question;
use crate::text::{DATA_NOTE, Rows, line};

pub(crate) const NAME: &str = "tool_economics";
const ARGUMENTS: [&str; 5] = ["by", "since", "until", "filters", "limit"];

pub(crate) fn definition() -> Tool {
    let measures = json!({ "type": "object" });
    reading_tool(
        NAME,
        "Tool economics",
        "What MCP tools or servers cost: context_tax (definitions; idle_tax: never called in the session), first_touch and \
         carry (results), call_cost (calls written by models), direct (own price), lifetime_cost (all), \
         avoidable (model calls priced again without it), cost_per_success. rows and other add up to total.",
        json!({
            "type": "object",
            "properties": {
                "by": { "enum": ["tool", "server"], "default": "tool" },
                "since": question::instant_schema(),
                "until": question::instant_schema(),
                "filters": question::filters_schema(),
                "limit": { "type": "integer", "minimum": 1, "maximum": COST_ROWS_MAX, "default": COST_ROWS_DEFAULT }
            },
            "additionalProperties": false
        }),
        json!({
            "type": "object",
            "properties": {
                "since": nullable_text(),
                "until": nullable_text(),
                "columns": { "type": "array" },
                "rows": { "type": "array" },
                "other": { "type": ["object", "null"] },
                "total": measures,
                "truncated": { "type": "boolean" },
                "notes": { "type": "array" }
            }
        }),
    )
}

pub(crate) async fn answer(call: Call<'_>) -> Result<Answer> {
    let arguments = Arguments::new(NAME, &ARGUMENTS, call.arguments)?;
    let mut request = question::request(&arguments, call.engine.now_ns())?;
    let names: &[&str] = match arguments.text("by")?.unwrap_or("tool") {
        "tool" => &["server", "tool"],
        "server" => &["server"],
        other => {
            return Err(Error::invalid(format!(
                "`by` of {NAME} is tool or server, not `{other}`; query_costs splits by other dimensions"
            )));
        }
    };
    request.by = Dimension::parse_list(&names.join(","))?;
    request.limit = arguments.count("limit", COST_ROWS_DEFAULT, COST_ROWS_MAX)?;
    request.measures = true;
    let report = call.engine.costs(call.principal, &request).await?;

    let columns = names.iter().chain(&["calls", "errors"]).chain(&NAMES).copied();
    let mut rows = Rows::new(columns);
    let mut hidden: Option<CostRow> = report.other.clone();
    let mut is_full = false;
    for row in &report.rows {
        let keys = row.keys.iter().map(|key| key.clone().map_or(Value::Null, Value::from));
        is_full = is_full || !rows.push(keys.chain(values(row)).collect());
        if is_full {
            hidden = Some(hidden.map_or_else(|| row.clone(), |sum| sum.and(row)));
        }
    }
    let mut text = rows.tsv(names.len());
    let mut summed = |label: &str, row: &CostRow| {
        let keys = (0..names.len()).map(|index| Value::from(if index == 0 { label } else { "" }));
        text.push_str(&line(&keys.chain(values(row)).collect::<Vec<_>>()));
    };
    if let Some(other) = &hidden {
        summed("[other]", other);
    }
    summed("[total]", &report.total);
    let mut notes = vec![
        "(none): what no tool caused (texts, answers, prompts)".to_owned(),
        "cost_per_success is a quotient and adds up to nothing; nor does avoidable where a price has tiers".to_owned(),
    ];
    if hidden.is_some() {
        notes.push(format!(
            "cheaper ones are summed up as other; raise limit (at most {COST_ROWS_MAX})"
        ));
    }
    if report.total.calls.unwrap_or(0) == 0 && report.total.tokens == 0 {
        notes.extend(meant(call.engine, call.principal, &request.filters).await?);
    }
    notes.push(DATA_NOTE.to_owned());
    text.push_str(&format!(
        "{}, {CURRENCY}; {}",
        question::period(report.since_ns, report.until_ns),
        notes.join("; ")
    ));
    let fields = |row: &CostRow| -> Map<String, Value> {
        let names = ["calls", "errors"].into_iter().chain(NAMES).map(str::to_owned);
        names.zip(values(row)).collect()
    };
    Ok(Answer::new(
        text,
        json!({
            "since": report.since_ns.map(format_instant),
            "until": report.until_ns.map(format_instant),
            "columns": rows.columns_json(),
            "rows": rows.rows_json(),
            "other": hidden.as_ref().map(fields),
            "total": fields(&report.total),
            "truncated": hidden.is_some(),
            "notes": notes,
        }),
    ))
}

/// Calls, errors, then the measures in the order of [`NAMES`].
fn values(row: &CostRow) -> impl Iterator<Item = Value> {
    let measures = row.measures.map(|measures| measures.values()).unwrap_or_default();
    let money = measures.map(|cost| cost.map_or(Value::Null, |cost| Value::from(cost.to_string())));
    [Value::from(row.calls), Value::from(row.errors)]
        .into_iter()
        .chain(money)
}
