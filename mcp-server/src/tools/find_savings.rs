//! `find_savings`: ranked opportunities with money a month, and what each rests on.

use rmcp::model::Tool;
use serde_json::{Value, json};
use spanledger_query::Result;
use spanledger_query::costs::CURRENCY;
use spanledger_query::savings::{Kind, SAVINGS_DEFAULT, SAVINGS_MAX, Saving, SavingsReport, SavingsRequest};
use spanledger_query::time::format_instant;

use super::{Answer, Call, meant, reading_tool};
use crate::arguments::Arguments;
use crate::question;
use crate::text::{DATA_NOTE, Rows};

pub(crate) const NAME: &str = "find_savings";
const ARGUMENTS: [&str; 5] = ["since", "until", "filters", "kinds", "limit"];
const COLUMNS: [&str; 8] = [
    "kind",
    "subject",
    "monthly",
    "cost",
    "confidence",
    "detail",
    "evidence",
    "action",
];

pub(crate) fn definition() -> Tool {
    reading_tool(
        NAME,
        "Find savings",
        "Ranked ways to spend less, with money a month, confidence and evidence (counts, sessions, call ids): tools defined \
         and never called, oversized results, missed prompt cache, identical calls, retry loops, a cheaper model for \
         short calls, unpriced usage.",
        json!({
            "type": "object",
            "properties": {
                "since": question::instant_schema(),
                "until": question::instant_schema(),
                "filters": question::filters_schema(),
                "kinds": { "type": "array", "items": { "enum": Kind::ALL.map(Kind::as_str) } },
                "limit": { "type": "integer", "minimum": 1, "maximum": SAVINGS_MAX, "default": SAVINGS_DEFAULT }
            },
            "additionalProperties": false
        }),
        json!({
            "type": "object",
            "properties": {
                "since": { "type": "string" },
                "until": { "type": "string" },
                "columns": { "type": "array" },
                "rows": { "type": "array" },
                "totals": { "type": "object" },
                "truncated": { "type": "boolean" },
                "notes": { "type": "array" }
            }
        }),
    )
}

pub(crate) async fn answer(call: Call<'_>) -> Result<Answer> {
    let arguments = Arguments::new(NAME, &ARGUMENTS, call.arguments)?;
    let asked = question::request(&arguments, call.engine.now_ns())?;
    let kinds = arguments.names("kinds")?;
    let request = SavingsRequest {
        since_ns: asked.since_ns,
        until_ns: asked.until_ns,
        filters: asked.filters,
        kinds: kinds.iter().map(|kind| Kind::parse(kind)).collect::<Result<_>>()?,
        limit: arguments.count("limit", SAVINGS_DEFAULT, SAVINGS_MAX)?,
    };
    let told = |done, total, next: &'static str| call.progress.report(done, Some(total), next);
    let report = call.engine.savings_with(call.principal, &request, told).await?;
    let notes = match report.n_found {
        0 => meant(call.engine, call.principal, &request.filters).await?,
        _ => Vec::new(),
    };
    Ok(written(&report).with_notes(notes))
}

fn written(report: &SavingsReport) -> Answer {
    let mut rows = Rows::new(COLUMNS);
    for saving in &report.savings {
        if !rows.push(cells(saving)) {
            break;
        }
    }
    let truncated = rows.len() < report.n_found;
    let mut notes = vec![
        "monthly: 30 days at the pace of the period; monthly_disjoint adds up all but retry_loops and cheaper_model, \
         which are of whole calls and may be the same money"
            .to_owned(),
    ];
    if truncated {
        notes.push(format!(
            "{} of {} shown; raise limit (at most {SAVINGS_MAX}) or ask for kinds",
            rows.len(),
            report.n_found
        ));
    }
    if report.n_found == 0 {
        notes.push("nothing was found; describe_data says which time there is".to_owned());
    } else {
        notes.push(DATA_NOTE.to_owned());
    }
    let (since, until) = (format_instant(report.since_ns), format_instant(report.until_ns));
    let text = format!(
        "{}{since} to {until}, {CURRENCY}; cost of the period {}, monthly_disjoint {}\n{}",
        rows.tsv(0),
        report.period_cost,
        report.monthly_disjoint,
        notes.join("; ")
    );
    Answer::new(
        text,
        json!({
            "since": since,
            "until": until,
            "columns": rows.columns_json(),
            "rows": rows.rows_json(),
            "totals": {
                "period_cost": report.period_cost.to_string(),
                "monthly_disjoint": report.monthly_disjoint.to_string(),
                "found": report.n_found,
            },
            "truncated": truncated,
            "notes": notes,
        }),
    )
}

/// In the order of [`COLUMNS`].
fn cells(saving: &Saving) -> Vec<Value> {
    let money = |cost: Option<spanledger_model::FemtoUsd>| cost.map_or(Value::Null, |cost| cost.to_string().into());
    let mut evidence: Vec<String> = saving
        .counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    // One of each is enough to look at; the REST answer has three.
    evidence.extend(saving.call_ids.first().map(|id| format!("call {id}")));
    evidence.extend(saving.sessions.first().map(|id| format!("session {id}")));
    vec![
        saving.kind.as_str().into(),
        saving.subject.clone().into(),
        money(saving.monthly),
        money(saving.cost),
        saving.kind.confidence().into(),
        saving.detail.clone().into(),
        evidence.join(", ").into(),
        saving.kind.action().into(),
    ]
}
