//! `prices what-if`: the calls of a lake, priced otherwise. Reads only; nothing is charged anew.
//!
//! The figures are those of [`spanledger_query::what_if`], which REST and MCP answer from too; here the command line
//! becomes one scenario, and its answer a table.

use std::io::Write as _;

use serde_json::Value;
use spanledger_query::Dimension;
use spanledger_query::time::parse_instant;
use spanledger_query::what_if::{Scenario, WhatIfRequest};

use crate::cli::WhatIfArgs;
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::output::{self, RowFormat, grouped};
use crate::prices::book_of_version;

const MEASURES: [&str; 6] = ["calls", "repriced", "old", "new", "difference", "not_comparable"];

/// Runs the command.
pub async fn run(args: &WhatIfArgs, config: &Config) -> anyhow::Result<Outcome> {
    let scenario = scenario(args, config)?;
    let by = Dimension::parse_list(&args.by.join(","))?;
    let engine = crate::source::engine(config).await?;
    let now_ns = engine.now_ns();
    let instant = |text: &Option<String>| text.as_deref().map(|text| parse_instant(text, now_ns)).transpose();
    let request = WhatIfRequest {
        scenarios: vec![scenario],
        by,
        since_ns: instant(&args.since)?,
        until_ns: instant(&args.until)?,
        ..WhatIfRequest::default()
    };
    let report = engine.what_if(&config.principal()?, request, &|_, _| {}).await?;
    let answer = serde_json::to_value(&report)?;
    write(args, answer.pointer("/scenarios/0").unwrap_or(&Value::Null))?;
    Ok(Outcome::Done)
}

fn scenario(args: &WhatIfArgs, config: &Config) -> anyhow::Result<Scenario> {
    let models: Vec<(String, Option<String>)> = args
        .models
        .iter()
        .map(|rule| match rule.split_once('=') {
            Some((from, to)) => (from.trim().to_lowercase(), Some(to.trim().to_owned())),
            None => (rule.trim().to_lowercase(), None),
        })
        .collect();
    if models
        .iter()
        .any(|(from, to)| from.is_empty() || to.as_deref() == Some(""))
    {
        return Err(fail(
            Kind::Invalid,
            "cannot read --model; write A=B, such as claude-opus-4-5=claude-sonnet-4-5",
        ));
    }
    let is_changed = models.iter().any(|(_, to)| to.is_some())
        || args.provider.is_some()
        || args.region.is_some()
        || args.processing.is_some()
        || args.service_tier.is_some()
        || args.cache_percent.is_some()
        || args.book.is_some();
    if !is_changed {
        return Err(fail(
            Kind::Invalid,
            "nothing is to be otherwise; give --model A=B, --provider, --region, --processing, --service-tier, --cache-percent or --book",
        ));
    }
    Ok(Scenario {
        models,
        provider: args.provider.clone(),
        region: args.region.clone(),
        processing: args.processing.clone(),
        service_tier: args.service_tier.clone(),
        cache_percent: args.cache_percent,
        book: args
            .book
            .as_deref()
            .map(|version| book_of_version(config, version))
            .transpose()?,
        ..Scenario::default()
    })
}

fn write(args: &WhatIfArgs, answer: &Value) -> anyhow::Result<()> {
    let mut rows = answer
        .get("rows")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let total = answer.get("total").cloned().unwrap_or_default();
    if rows.is_empty() && args.by.is_empty() {
        rows.push(total.clone());
    }
    let columns: Vec<&str> = args.by.iter().map(String::as_str).chain(MEASURES).collect();
    let summed = |label: &str, row: &Value, rows: &mut Vec<Value>| {
        let mut row = row.clone();
        for (index, dimension) in args.by.iter().enumerate() {
            row[dimension.as_str()] = Value::from(if index == 0 { label } else { "" });
        }
        rows.push(row);
    };
    if let Some(other) = answer.get("other").filter(|other| !other.is_null()) {
        summed("(other)", other, &mut rows);
    }
    let mut out = output::stdout();
    if args.format != RowFormat::Table {
        return output::write_rows(&rows, &columns, args.format, &mut out);
    }
    if rows.len() > 1 {
        summed("total", &total, &mut rows);
    }
    output::write_rows(&rows, &columns, RowFormat::Table, &mut out)?;
    writeln!(
        out,
        "\nUSD, exact. Nothing was changed; old is what the ledger charged."
    )?;
    let notes = answer.get("notes").and_then(Value::as_array);
    for note in notes.into_iter().flatten().filter_map(Value::as_str) {
        writeln!(out, "Note: {note}.")?;
    }
    let n_left = total.get("not_comparable").and_then(Value::as_i64).unwrap_or(0);
    if n_left > 0 {
        let n_calls = grouped(n_left);
        writeln!(
            out,
            "{n_calls} calls have no price on one side or both and are in neither sum:"
        )?;
        let unpriced = answer
            .get("unpriced")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let columns = ["provider", "model", "calls", "tokens"];
        output::write_rows(&unpriced, &columns, RowFormat::Table, &mut out)?;
    }
    Ok(())
}
