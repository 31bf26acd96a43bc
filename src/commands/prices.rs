//! `prices …`: here `list` and `show`, the price book in USD per million tokens.

mod versions;
mod what_if;

use std::path::Path;

use serde_json::{Map, Value};
use spanledger_ledger::prices::{Layer, PriceBook, PriceFilter, PriceQuery};
use spanledger_model::Clock as _;
use spanledger_model::clock::SystemClock;

use crate::cli::{PricesCommand, PricesListArgs, PricesShowArgs};
use crate::config::Config;
use crate::exit::Outcome;
use crate::output::{self, RowFormat};
use crate::prices::book;
use crate::source::Remote;

/// What a table shows of a price.
const COLUMNS: [&str; 10] = [
    "layer",
    "provider",
    "model",
    "input",
    "cache_read",
    "cache_write",
    "output",
    "other",
    "for",
    "valid_from",
];
/// Columns that are rates, and the ledger's buckets they stand for.
const RATES: [(&str, &str); 4] = [
    ("input", "input"),
    ("cache_read", "cache_read"),
    ("cache_write", "cache_write_5m"),
    ("output", "output"),
];

/// Runs the command.
pub async fn run(command: &PricesCommand, config: &Config) -> anyhow::Result<Outcome> {
    match command {
        PricesCommand::List(args) => list(args, config).await,
        PricesCommand::Show(args) => show(args, &*book(config)?),
        PricesCommand::Import(args) => versions::import(args, config),
        PricesCommand::Versions(args) => versions::versions(args, config),
        PricesCommand::Diff(args) => versions::diff(args, config),
        PricesCommand::Use(args) => versions::use_version(args, config),
        PricesCommand::Check(args) => versions::check(args, config),
        PricesCommand::WhatIf(args) => what_if::run(args, config).await,
    }
}

async fn list(args: &PricesListArgs, config: &Config) -> anyhow::Result<Outcome> {
    let (model, provider) = (args.model.clone(), args.provider.clone());
    let env = std::env::var("SPANLEDGER_URL").ok().filter(|url| !url.is_empty());
    let url = args.at.url.clone().or_else(|| env.filter(|_| args.at.data.is_none()));
    let rows = match url {
        Some(url) => {
            remote(
                &url,
                args.at.api_key_file.as_deref(),
                model.as_deref(),
                provider.as_deref(),
            )
            .await?
        }
        None => rows_of(
            &*book(config)?,
            &PriceFilter {
                provider,
                model,
                at_ns: Some(SystemClock.now_ns()),
            },
        )?,
    };
    if rows.is_empty() {
        output::note("no price matches; `spanledger prices list` shows all, --model takes a part of a name");
        return Ok(Outcome::No);
    }
    write(&rows, args.format)?;
    Ok(Outcome::Done)
}

fn show(args: &PricesShowArgs, book: &PriceBook) -> anyhow::Result<Outcome> {
    let at_ns = SystemClock.now_ns();
    let model = args.model.as_str();
    let query = PriceQuery {
        provider: args.provider.as_deref(),
        model,
        at_ns,
        ..PriceQuery::default()
    };
    let (list, contracted) = (book.resolve(&query), book.resolve_contracted(&query, &[]));
    let Some(price) = contracted.as_ref().or(list.as_ref()) else {
        output::note(&format!(
            "no price for {model}: its usage is counted as unpriced, never as 0; `spanledger prices list --model …` finds other spellings"
        ));
        return Ok(Outcome::No);
    };
    let filter = PriceFilter {
        provider: Some(price.provider().to_owned()).filter(|provider| !provider.is_empty()),
        model: Some(price.model().to_lowercase()),
        at_ns: Some(at_ns),
    };
    let is_shown = |row: &Value| {
        let is_contract = row.get("layer").and_then(Value::as_str) == Some(Layer::Contract.as_str());
        let is_of_model = row.get("model").and_then(Value::as_str) == Some(price.model());
        is_of_model || is_contract
    };
    let rows: Vec<Value> = rows_of(book, &filter)?.into_iter().filter(is_shown).collect();
    write(&rows, args.format)?;
    if args.format == RowFormat::Table {
        output::print(&format!("\nprice {} of {}\n", price.price_id(), book.version()))?;
    }
    Ok(Outcome::Done)
}

fn rows_of(book: &PriceBook, filter: &PriceFilter) -> anyhow::Result<Vec<Value>> {
    let rows = book.list(filter);
    Ok(rows.iter().map(serde_json::to_value).collect::<Result<_, _>>()?)
}

async fn remote(
    url: &str,
    api_key_file: Option<&Path>,
    model: Option<&str>,
    provider: Option<&str>,
) -> anyhow::Result<Vec<Value>> {
    let mut query = Vec::new();
    query.extend(model.map(|model| ("model".to_owned(), model.to_owned())));
    query.extend(provider.map(|provider| ("provider".to_owned(), provider.to_owned())));
    output::rows_of(Remote::new(url, api_key_file)?.get("/api/v1/prices", &query).await?)
}

fn write(rows: &[Value], format: RowFormat) -> anyhow::Result<()> {
    let mut out = output::stdout();
    match format {
        RowFormat::Json | RowFormat::Ndjson => output::write_rows(rows, &[], format, &mut out),
        _ => output::write_rows(&rows.iter().map(flat).collect::<Vec<_>>(), &COLUMNS, format, &mut out),
    }
}

/// A price record as one line: the four rates that every call has.
fn flat(row: &Value) -> Value {
    let mut line = Map::new();
    for key in ["layer", "provider", "model", "valid_from"] {
        line.insert(
            key.to_owned(),
            row.get(key)
                .filter(|value| !value.is_null())
                .cloned()
                .unwrap_or_else(|| "".into()),
        );
    }
    line.insert(
        "for".to_owned(),
        row.get("context").and_then(Value::as_str).unwrap_or("").into(),
    );
    let empty = Vec::new();
    let rates = row.get("rates").and_then(Value::as_array).unwrap_or(&empty);
    for (column, bucket) in RATES {
        line.insert(column.to_owned(), rate(rates, bucket).into());
    }
    // A tool's price, and a contract's discount, have columns of nobody else.
    let of_tool = rates
        .iter()
        .filter(|rate| rate.get("unit").and_then(Value::as_str).is_some_and(is_of_tool));
    let of_tool = of_tool.map(|rate| format!("{} per {}", text_of(rate, "usd"), text_of(rate, "per")));
    let discount = row
        .get("discount_percent")
        .and_then(Value::as_str)
        .map(|percent| format!("{percent} % off"));
    let other: Vec<String> = of_tool.chain(discount).collect();
    line.insert("other".to_owned(), other.join(" + ").into());
    Value::Object(line)
}

fn is_of_tool(unit: &str) -> bool {
    ["calls", "seconds", "result_bytes"].contains(&unit)
}

fn text_of<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

fn rate(rates: &[Value], bucket: &str) -> String {
    let text = |rate: &Value, key: &str| rate.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let Some(rate) = rates
        .iter()
        .find(|rate| text(rate, "bucket") == bucket && text(rate, "per") == "1M tokens")
    else {
        return String::new();
    };
    let tier = rate.pointer("/tiers/0").map_or_else(String::new, |tier| {
        let above = tier.get("above_input_tokens").and_then(Value::as_i64).unwrap_or(0);
        format!(" ({} above {above})", text(tier, "usd"))
    });
    format!("{}{tier}", text(rate, "usd"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_becomes_one_line_with_its_tier() {
        let row = json!({
            "provider": "anthropic", "model": "claude-x", "context": null, "valid_from": null,
            "rates": [
                { "bucket": "input", "usd": "3", "per": "1M tokens", "tiers": [{ "above_input_tokens": 200_000, "usd": "6" }] },
                { "bucket": "output", "usd": "15", "per": "1M tokens", "tiers": [] },
                { "bucket": "web_search", "usd": "10", "per": "1K requests", "tiers": [] },
            ],
        });
        let line = flat(&row);
        assert_eq!(line["input"], "3 (6 above 200000)");
        assert_eq!(line["output"], "15");
        assert_eq!(line["cache_read"], "");
    }

    #[test]
    fn the_embedded_book_lists_and_shows_a_known_model() {
        let filter = PriceFilter {
            model: Some("claude-sonnet-4-5".to_owned()),
            ..PriceFilter::default()
        };
        assert!(
            rows_of(&PriceBook::embedded().unwrap(), &filter)
                .unwrap()
                .iter()
                .any(|row| flat(row)["input"].as_str().unwrap().starts_with('3'))
        );
    }

    #[test]
    fn a_model_without_a_price_is_a_no() {
        let args = PricesShowArgs {
            model: "acme-internal-7b".to_owned(),
            provider: None,
            data: None,
            format: RowFormat::Table,
        };
        assert_eq!(show(&args, &PriceBook::embedded().unwrap()).unwrap(), Outcome::No);
    }
}
