//! `simulate_prices`: what calls would have cost otherwise, several scenarios beside each other.

use rmcp::model::Tool;
use serde_json::{Map, Value, json};
use spanledger_query::costs::CURRENCY;
use spanledger_query::time::format_instant;
use spanledger_query::what_if::{Scenario, Tally, WhatIfRequest};
use spanledger_query::{Dimension, Error, Result};

use super::{Answer, Call, meant, nullable_text, reading_tool};
use crate::arguments::Arguments;
use crate::limits::{COST_ROWS_DEFAULT, COST_ROWS_MAX};
use crate::question;
use crate::text::{DATA_NOTE, Rows, clean, line};

pub(crate) const NAME: &str = "simulate_prices";
const ARGUMENTS: [&str; 6] = ["scenarios", "by", "since", "until", "filters", "limit"];
const COLUMNS: [&str; 6] = ["calls", "repriced", "old", "new", "difference", "not_comparable"];
/// Models without a price that are named in the text, of each scenario.
const UNPRICED_SHOWN: usize = 5;

pub(crate) fn definition() -> Tool {
    let text = json!({ "type": "string" });
    reading_tool(
        NAME,
        "Simulate prices",
        "What past calls would have cost otherwise, re-rated call by call. models: pattern to model ({\"claude-opus*\": \
         \"gpt-5\"}); other model, provider, region, batch, cache or own prices (USD per million tokens); several \
         scenarios compare clouds.",
        json!({
            "type": "object",
            "properties": {
                "scenarios": { "type": "array", "items": { "type": "object", "properties": {
                    "name": text,
                    "models": { "type": "object" },
                    "provider": text,
                    "region": text,
                    "processing": { "type": "string", "description": "batch or standard" },
                    "service_tier": text,
                    "cache_percent": { "type": "integer", "description": "of input read from cache; 0: none" },
                    "prices": { "type": "object", "description": "{\"input\": \"2.5\", \"cache_read\": …, \"output\": …}" },
                    "discount_percent": text,
                    "only_provider": text
                } } },
                "by": { "type": "array", "items": text },
                "since": question::instant_schema(),
                "until": question::instant_schema(),
                "filters": question::filters_schema(),
                "limit": { "type": "integer" }
            },
            "required": ["scenarios"],
            "additionalProperties": false
        }),
        json!({
            "type": "object",
            "properties": {
                "since": nullable_text(),
                "until": nullable_text(),
                "columns": { "type": "array" },
                "rows": { "type": "array" },
                "totals": { "type": "array", "items": { "type": "object" } },
                "truncated": { "type": "boolean" },
                "notes": { "type": "array" }
            }
        }),
    )
}

pub(crate) async fn answer(call: Call<'_>) -> Result<Answer> {
    let arguments = Arguments::new(NAME, &ARGUMENTS, call.arguments)?;
    let costs = question::request(&arguments, call.engine.now_ns())?;
    let scenarios = arguments.objects("scenarios")?;
    if scenarios.is_empty() {
        return Err(Error::invalid(
            "`scenarios` is missing: a list such as [{\"models\": {\"claude-opus*\": \"claude-sonnet-4-5\"}}, {\"processing\": \"batch\"}]",
        ));
    }
    let by = Dimension::parse_list(&arguments.names("by")?.join(","))?;
    let request = WhatIfRequest {
        scenarios: scenarios.iter().map(Scenario::read).collect::<Result<_>>()?,
        by: by.clone(),
        since_ns: costs.since_ns,
        until_ns: costs.until_ns,
        filters: costs.filters,
        limit: arguments.count("limit", COST_ROWS_DEFAULT, COST_ROWS_MAX)?,
    };
    let progress = call.progress.clone();
    let tell = move |done, total| progress.report(done, Some(total), "calls priced");
    let filters = request.filters.clone();
    let report = call.engine.what_if(call.principal, request, &tell).await?;

    let names = by.iter().map(|dimension| dimension.name());
    let columns: Vec<&str> = std::iter::once("scenario").chain(names).chain(COLUMNS).collect();
    let mut rows = Rows::new(columns.iter().copied());
    let mut notes = vec![
        "old is what the ledger charged; not_comparable calls have no price on one side and are in neither sum"
            .to_owned(),
    ];
    let (mut totals, mut summed, mut truncated) = (Vec::new(), String::new(), false);
    for scenario in &report.scenarios {
        let key = || std::iter::once(Value::from(scenario.name.as_str()));
        let (mut hidden, mut is_full) = (scenario.other, false);
        for row in scenario.rows.iter().filter(|_| !by.is_empty()) {
            let keys = row.keys.iter().map(|key| key.clone().map_or(Value::Null, Value::from));
            is_full = is_full || !rows.push(key().chain(keys).chain(values(&row.tally)).collect());
            if is_full {
                hidden = Some(together(hidden.unwrap_or_default(), row.tally));
            }
        }
        truncated = truncated || hidden.is_some();
        for (label, tally) in [("[other]", hidden), ("[total]", Some(scenario.total))] {
            let Some(tally) = tally else { continue };
            let keys = (0..by.len()).map(|index| Value::from(if index == 0 { label } else { "" }));
            let cells: Vec<Value> = key()
                .map(|name| Value::from(clean(name.as_str().unwrap_or_default())))
                .chain(keys)
                .chain(values(&tally))
                .collect();
            summed.push_str(&line(&cells));
        }
        let mut total = fields(&scenario.total);
        total.insert("scenario".to_owned(), Value::from(clean(&scenario.name)));
        total.insert(
            "other".to_owned(),
            hidden.map_or(Value::Null, |tally| Value::Object(fields(&tally))),
        );
        let unpriced = scenario.unpriced.iter().take(UNPRICED_SHOWN).map(|row| {
            json!({
                "provider": row.provider.as_deref().map(clean),
                "model": row.model.as_deref().map(clean),
                "calls": row.calls,
                "tokens": row.tokens,
            })
        });
        let unpriced: Vec<Value> = unpriced.collect();
        if !unpriced.is_empty() {
            let named: Vec<String> = scenario
                .unpriced
                .iter()
                .take(UNPRICED_SHOWN)
                .map(|row| {
                    let model = row.model.as_deref().map_or_else(|| "(none)".to_owned(), clean);
                    format!("{model} ({} calls, {} tokens)", row.calls, row.tokens)
                })
                .collect();
            notes.push(format!("{}: no price for {}", clean(&scenario.name), named.join(", ")));
        }
        total.insert("unpriced".to_owned(), Value::from(unpriced));
        totals.push(Value::Object(total));
        for note in scenario.notes(clean) {
            let note = match report.scenarios.len() {
                1 => note,
                _ => format!("{}: {note}", clean(&scenario.name)),
            };
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    if truncated {
        notes.push("the smaller groups are summed up as other; split by less, or filter".to_owned());
    }
    if report.scenarios.iter().all(|scenario| scenario.total.calls == 0) {
        notes.extend(meant(call.engine, call.principal, &filters).await?);
    }
    notes.push(DATA_NOTE.to_owned());
    let mut text = rows.tsv(1 + by.len());
    text.push_str(&summed);
    text.push_str(&format!(
        "{}, {CURRENCY}; {}",
        question::period(report.since_ns, report.until_ns),
        notes.join("; ")
    ));
    Ok(Answer::new(
        text,
        json!({
            "since": report.since_ns.map(format_instant),
            "until": report.until_ns.map(format_instant),
            "columns": rows.columns_json(),
            "rows": rows.rows_json(),
            "totals": totals,
            "truncated": truncated,
            "notes": notes,
        }),
    ))
}

fn values(tally: &Tally) -> impl Iterator<Item = Value> {
    [
        Value::from(tally.calls),
        Value::from(tally.repriced),
        Value::from(tally.old.to_string()),
        Value::from(tally.new.to_string()),
        Value::from(tally.difference().to_string()),
        Value::from(tally.not_comparable),
    ]
    .into_iter()
}

fn fields(tally: &Tally) -> Map<String, Value> {
    COLUMNS.map(str::to_owned).into_iter().zip(values(tally)).collect()
}

fn together(a: Tally, b: Tally) -> Tally {
    Tally {
        calls: a.calls + b.calls,
        repriced: a.repriced + b.repriced,
        not_comparable: a.not_comparable + b.not_comparable,
        old: a.old + b.old,
        new: a.new + b.new,
    }
}
