//! `explain_change`: why did cost change between two periods.

use rmcp::model::Tool;
use serde_json::{Value, json};
use spanledger_query::change::{Change, ChangeRequest, MOVERS_DEFAULT, MOVERS_MAX, PeriodSum, PriceMove};
use spanledger_query::{Dimension, Result};

use super::{Answer, Call, meant, reading_tool};
use crate::arguments::Arguments;
use crate::limits::ROWS_TOKENS_MAX;
use crate::question;
use crate::text::{DATA_NOTE, Rows, clean};

pub(crate) const NAME: &str = "explain_change";
const ARGUMENTS: [&str; 8] = [
    "since",
    "until",
    "baseline_since",
    "baseline_until",
    "by",
    "filters",
    "limit",
    "response_format",
];
const COLUMNS: [&str; 6] = ["dimension", "value", "previous", "current", "change", "status"];
const CALL_COLUMNS: [&str; 8] = [
    "call_id",
    "time",
    "cost",
    "team",
    "agent",
    "model",
    "input_tokens",
    "trace_id",
];

pub(crate) fn definition() -> Tool {
    let instant = json!({ "type": "string" });
    let rows = json!({ "type": "array" });
    let object = json!({ "type": "object" });
    reading_tool(
        NAME,
        "Explain change",
        "Why cost rose or fell between two periods: volume, mix, context_size, token_mix (cache), price; these parts add up \
         to change. Then who moved, prices that differ and the dearest calls behind it.",
        json!({
            "type": "object",
            "properties": {
                "since": { "type": "string", "description": "default 7d; whole hours, UTC" },
                "until": instant.clone(),
                "baseline_since": { "type": "string", "description": "default: the same length before since" },
                "baseline_until": instant,
                "by": { "type": "array", "items": { "type": "string" }, "description": "dimensions whose movers are told" },
                "filters": { "type": "object" },
                "limit": { "type": "integer", "minimum": 1, "maximum": MOVERS_MAX, "default": MOVERS_DEFAULT },
                "response_format": { "enum": ["concise", "detailed"] }
            },
            "additionalProperties": false
        }),
        json!({
            "type": "object",
            "properties": {
                "previous": object.clone(), "current": object.clone(), "change": { "type": "string" },
                "change_percent": { "type": ["string", "null"] }, "parts": object.clone(),
                "columns": { "type": "array" }, "rows": rows, "prices": { "type": "array" }, "calls": object.clone(),
                "truncated": { "type": "boolean" }, "notes": { "type": "array" }
            }
        }),
    )
}

pub(crate) async fn answer(call: Call<'_>) -> Result<Answer> {
    let arguments = Arguments::new(NAME, &ARGUMENTS, call.arguments.clone())?;
    let request = request(&arguments, call.engine.now_ns())?;
    let detailed = arguments.is_detailed()?;
    let change = call.engine.explain_change(call.principal, &request).await?;
    let is_nothing = |period: &PeriodSum| period.cost.0 == 0 && period.tokens == 0 && period.model_calls == 0;
    let notes = match is_nothing(&change.previous) && is_nothing(&change.current) {
        true => meant(call.engine, call.principal, &request.filters).await?,
        false => Vec::new(),
    };
    Ok(written(&call, &change, detailed).with_notes(notes))
}

fn request(arguments: &Arguments, now_ns: i64) -> Result<ChangeRequest> {
    Ok(ChangeRequest {
        since_ns: question::instant(arguments, "since", now_ns)?,
        until_ns: question::instant(arguments, "until", now_ns)?,
        baseline_since_ns: question::instant(arguments, "baseline_since", now_ns)?,
        baseline_until_ns: question::instant(arguments, "baseline_until", now_ns)?,
        by: Dimension::parse_list(&arguments.names("by")?.join(","))?,
        filters: question::filters(arguments)?,
        limit: arguments.count("limit", MOVERS_DEFAULT, MOVERS_MAX)?,
    })
}

fn written(call: &Call<'_>, change: &Change, detailed: bool) -> Answer {
    let mut movers = Rows::within(COLUMNS, ROWS_TOKENS_MAX / 3 * 2);
    let mut truncated = change.truncated;
    for mover in &change.movers {
        let row = vec![
            Value::from(mover.dimension),
            Value::from(mover.value.clone()),
            mover.previous.to_string().into(),
            mover.current.to_string().into(),
            mover.change.to_string().into(),
            Value::from(mover.status),
        ];
        truncated |= !movers.push(row);
    }
    let calls = calls_of(change, detailed);
    let mut notes: Vec<String> = change.notes.iter().map(|note| clean_note(note)).collect();
    if change.truncated {
        notes.push(format!(
            "more moved than is shown: raise limit (at most {MOVERS_MAX}), or filter"
        ));
    }
    notes.push(DATA_NOTE.to_owned());
    let link = call.shared.link("/");
    let mut text = notes.join("\n");
    text.push_str("\n\npart\tchange\n");
    for (name, part) in change.parts.named() {
        text.push_str(&format!("{name}\t{part}\n"));
    }
    text.push_str(&format!("[change]\t{}\n\n{}", change.change, movers.tsv(2)));
    let prices: Vec<Value> = change.prices.iter().map(price).collect();
    for price in &prices {
        text.push_str(&format!("\nprice: {price}"));
    }
    if calls.len() > 0 {
        text.push_str(&format!(
            "\ncalls behind it (inspect_trace tells more)\n{}",
            calls.tsv(0)
        ));
    }
    if let Some(link) = &link {
        text.push_str(&format!("\n{link}"));
    }
    let period = |period: &spanledger_query::change::PeriodSum| serde_json::to_value(period).unwrap_or_default();
    Answer::new(
        text,
        json!({
            "previous": period(&change.previous),
            "current": period(&change.current),
            "currency": change.currency,
            "change": change.change.to_string(),
            "change_percent": change.change_percent,
            "parts": serde_json::to_value(change.parts).unwrap_or_default(),
            "columns": movers.columns_json(),
            "rows": movers.rows_json(),
            "prices": prices,
            "calls": { "columns": calls.columns_json(), "rows": calls.rows_json() },
            "truncated": truncated,
            "link": link,
            "notes": notes,
        }),
    )
}

/// A sentence longer than a value may be: each is made of our words and of at most one cleaned name.
fn clean_note(note: &str) -> String {
    let parts: Vec<String> = note.split(' ').map(clean).collect();
    parts.join(" ")
}

fn calls_of(change: &Change, detailed: bool) -> Rows {
    let mut calls = Rows::within(CALL_COLUMNS, ROWS_TOKENS_MAX / 3);
    for call in change.calls.iter().take(if detailed { usize::MAX } else { 3 }) {
        let cost = call.cost.map(|cost| cost.to_string());
        calls.push(vec![
            call.call_id.clone().into(),
            call.time.clone().into(),
            cost.into(),
            call.team.clone().into(),
            call.agent.clone().into(),
            call.model.clone().into(),
            call.input_tokens.into(),
            call.trace_id.clone().into(),
        ]);
    }
    calls
}

fn price(price: &PriceMove) -> Value {
    crate::text::clean_value(serde_json::to_value(price).unwrap_or_default())
}
