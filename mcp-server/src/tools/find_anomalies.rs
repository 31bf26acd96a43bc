//! `find_anomalies`: what cost far more than usual, since when, why, and by which calls.

use rmcp::model::Tool;
use serde_json::{Value, json};
use spanledger_model::FemtoUsd;
use spanledger_query::anomalies::{AnomalyReport, AnomalyRequest, EPISODES_DEFAULT, EPISODES_MAX, Episode};
use spanledger_query::{Error, Result};

use super::{Answer, Call, meant, reading_tool};
use crate::arguments::Arguments;
use crate::limits::{ANSWER_TOKENS, ROWS_TOKENS_MAX};
use crate::question;
use crate::text::{DATA_NOTE, Rows, clean};

pub(crate) const NAME: &str = "find_anomalies";
const ARGUMENTS: [&str; 6] = ["since", "until", "filters", "min_impact", "limit", "response_format"];
const COLUMNS: [&str; 8] = [
    "kind", "since", "until", "scope", "impact", "actual", "expected", "cause",
];
/// Calls told of each episode.
const CALLS_CONCISE: usize = 1;

pub(crate) fn definition() -> Tool {
    reading_tool(
        NAME,
        "Find anomalies",
        "Episodes of spend far above its season (complete hours and days, by team, model, server, tool) and special ones: \
         runaway loop, cache collapse, new model, unpriced usage, price change. Each with money, cause, calls.",
        json!({
            "type": "object",
            "properties": {
                "since": { "type": "string", "description": "default 7d" },
                "until": { "type": "string" },
                "filters": { "type": "object" },
                "min_impact": { "type": "string", "description": "USD above the usual, default 1" },
                "limit": { "type": "integer", "minimum": 1, "maximum": EPISODES_MAX, "default": EPISODES_DEFAULT },
                "response_format": { "enum": ["concise", "detailed"] }
            },
            "additionalProperties": false
        }),
        json!({
            "type": "object",
            "properties": {
                "since": { "type": "string" }, "until": { "type": "string" },
                "columns": { "type": "array" }, "rows": { "type": "array" },
                "calls": { "type": "array" }, "found": { "type": "integer" },
                "truncated": { "type": "boolean" }, "notes": { "type": "array" }
            }
        }),
    )
}

pub(crate) async fn answer(call: Call<'_>) -> Result<Answer> {
    let arguments = Arguments::new(NAME, &ARGUMENTS, with_text(call.arguments.clone()))?;
    let request = request(&arguments, call.engine.now_ns())?;
    let detailed = arguments.is_detailed()?;
    let report = call.engine.anomalies(call.principal, &request).await?;
    let notes = match report.found {
        0 => meant(call.engine, call.principal, &request.filters).await?,
        _ => Vec::new(),
    };
    Ok(written(&report, detailed, call.shared.link("/")).with_notes(notes))
}

/// An amount may come as a number: its digits as they were written.
fn with_text(arguments: Option<rmcp::model::JsonObject>) -> Option<rmcp::model::JsonObject> {
    let mut arguments = arguments?;
    if let Some(amount) = arguments.get_mut("min_impact").filter(|amount| amount.is_number()) {
        *amount = Value::from(amount.to_string());
    }
    Some(arguments)
}

fn request(arguments: &Arguments, now_ns: i64) -> Result<AnomalyRequest> {
    let impact_min = match arguments.text("min_impact")? {
        None => None,
        Some(text) => {
            let amount = FemtoUsd::parse(text).filter(|amount| amount.0 > 0);
            let wrong = || Error::invalid("`min_impact` of find_anomalies is an amount of USD above 0, such as 0.5");
            Some(amount.ok_or_else(wrong)?)
        }
    };
    Ok(AnomalyRequest {
        since_ns: question::instant(arguments, "since", now_ns)?,
        until_ns: question::instant(arguments, "until", now_ns)?,
        impact_min,
        filters: question::filters(arguments)?,
        limit: arguments.count("limit", EPISODES_DEFAULT, EPISODES_MAX)?,
    })
}

fn written(report: &AnomalyReport, detailed: bool, link: Option<String>) -> Answer {
    let budget = if detailed { ROWS_TOKENS_MAX } else { ANSWER_TOKENS };
    let mut rows = Rows::within(COLUMNS, budget);
    let mut calls = Vec::new();
    let mut lines = String::new();
    let (mut truncated, mut notes) = (report.truncated, report.notes.clone());
    for (index, episode) in report.episodes.iter().enumerate() {
        // A cause is sentences of ours with cleaned names in them: longer than a value may be, so it is pushed whole.
        let told = cause(episode, detailed);
        if !rows.push_with_sentence(cells(episode), told) {
            truncated = true;
            break;
        }
        let shown = if detailed { usize::MAX } else { CALLS_CONCISE };
        for call in episode.calls.iter().take(shown) {
            lines.push_str(&format!(
                "episode {}: call {} of {} cost {}, trace {}\n",
                index + 1,
                call.call_id.as_deref().unwrap_or("(none)"),
                clean(call.model.as_deref().unwrap_or("(none)")),
                call.cost.unwrap_or_default(),
                call.trace_id.as_deref().unwrap_or("(none)"),
            ));
            calls.push(json!({
                "episode": index + 1,
                "call_id": call.call_id,
                "cost": call.cost.map(|cost| cost.to_string()),
                "model": call.model.as_deref().map(clean),
                "session_id": call.session_id.as_deref().map(clean),
                "trace_id": call.trace_id,
            }));
        }
    }
    if report.found == 0 {
        notes.push("nothing out of the ordinary".to_owned());
    }
    if truncated {
        notes.push(format!(
            "{} of {} episodes shown; raise limit or min_impact, filter, or ask for detailed",
            rows.len(),
            report.found
        ));
    }
    if rows.len() > 0 {
        notes.push("explain_change with an episode's since, until and scope tells more".to_owned());
        notes.push(DATA_NOTE.to_owned());
    }
    let mut text = format!("{}{lines}judged {} to {}", rows.tsv(0), report.since, report.until);
    for note in &notes {
        text.push_str(&format!("; {note}"));
    }
    if let Some(link) = &link {
        text.push_str(&format!("\n{link}"));
    }
    let structured = json!({
        "since": report.since,
        "until": report.until,
        "currency": report.currency,
        "impact_min": report.impact_min.map(|amount| amount.to_string()),
        "columns": rows.columns_json(),
        "rows": rows.rows_json(),
        "calls": calls,
        "found": report.found,
        "truncated": truncated,
        "link": link,
        "notes": notes,
    });
    Answer::new(text, structured)
}

/// The cells of an episode, without its cause.
fn cells(episode: &Episode) -> Vec<Value> {
    let amount = |amount: Option<FemtoUsd>| amount.map_or(Value::Null, |amount| amount.to_string().into());
    let scope = episode.scope.iter().map(|(name, value)| {
        let value = value.as_deref().unwrap_or(spanledger_query::costs::NONE);
        format!("{name}={}", clean(value))
    });
    vec![
        episode.kind.name().into(),
        episode.since.clone().into(),
        episode.until.clone().into(),
        scope.collect::<Vec<_>>().join(" ").into(),
        amount(episode.impact),
        amount(episode.actual),
        amount(episode.expected),
    ]
}

/// The sentences of an episode: the first ones where the answer is concise.
fn cause(episode: &Episode, detailed: bool) -> String {
    let sentences: Vec<&str> = episode.cause.iter().flat_map(|cause| cause.split("; ")).collect();
    let shown = if detailed {
        sentences.len()
    } else {
        sentences.len().min(4)
    };
    let told = sentences.get(..shown).unwrap_or_default().join("; ");
    told.split(' ').map(clean).collect::<Vec<_>>().join(" ")
}
