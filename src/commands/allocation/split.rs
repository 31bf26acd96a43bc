//! `allocation split`: direct cost and shared costs of a month, over a dimension, from the view `allocated_costs`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use spanledger_ledger::allocation::{Period, file};
use spanledger_model::FemtoUsd;
use spanledger_query::{Format, QueryOptions};

use crate::cli::AllocationSplitArgs;
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::output::{self, RowFormat, dollars};
use crate::source::Source;

/// Rows asked for: many more values than a person reads.
const ROWS_MAX: usize = 100_000;

/// Runs the command.
pub async fn run(args: &AllocationSplitArgs, config: &Config) -> anyhow::Result<Outcome> {
    let period = Period::parse(&args.period)?;
    let dimension = file::dimension(args.by.trim()).map_err(|error| fail(Kind::Invalid, error))?;
    let sql = format!(
        "SELECT period, dimension, value, kind, shared_cost, method, weight, weight_total, cost, currency, \
         unpriced_tokens, rules_version FROM allocated_costs WHERE period = '{period}' AND dimension = '{dimension}' \
         ORDER BY kind, shared_cost, cost DESC, value"
    );
    let rows = ask(args, config, &sql).await?;
    if args.format == RowFormat::Table {
        output::print(&table(&rows, &dimension, period)?)?;
    } else {
        output::write_rows(&rows, &[], args.format, &mut output::stdout())?;
    }
    Ok(Outcome::Done)
}

async fn ask(args: &AllocationSplitArgs, config: &Config, sql: &str) -> anyhow::Result<Vec<Value>> {
    let mut json = Vec::new();
    let is_truncated = match Source::open(&args.at, config).await? {
        Source::Lake(engine, principal) => {
            let options = QueryOptions {
                rows_max: ROWS_MAX,
                ..QueryOptions::default()
            };
            let result = engine.sql(&principal, sql, &options).await?;
            spanledger_query::write(&result, Format::Json, &mut json)?;
            result.truncated
        }
        Source::Server(server) => {
            let body = json!({ "query": sql, "format": "json", "limit": ROWS_MAX });
            let answer = server.post("/api/v1/sql", &body).await?;
            json = answer.body.to_vec();
            answer.is_truncated
        }
    };
    if is_truncated {
        // Parts of a split would be missing, and the rest would not add up.
        return Err(fail(
            Kind::Invalid,
            format!("the split has over {ROWS_MAX} rows; split over a dimension with fewer values"),
        ));
    }
    output::rows_of(serde_json::from_slice(&json)?)
}

/// One line a value: direct, each shared cost, all; and the totals.
fn table(rows: &[Value], dimension: &str, period: Period) -> anyhow::Result<String> {
    let text = |row: &Value, key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut shared: Vec<(String, String)> = Vec::new();
    let mut values: BTreeMap<String, BTreeMap<String, FemtoUsd>> = BTreeMap::new();
    let mut versions: BTreeSet<String> = BTreeSet::new();
    for row in rows {
        let cost = FemtoUsd::parse(&text(row, "cost"))
            .ok_or_else(|| fail(Kind::Internal, "the answer has a row without a cost"))?;
        let column = match text(row, "shared_cost") {
            name if name.is_empty() => "direct".to_owned(),
            name => {
                if !shared.iter().any(|(known, _)| *known == name) {
                    shared.push((name.clone(), text(row, "method")));
                }
                format!("shared: {name}")
            }
        };
        *values.entry(text(row, "value")).or_default().entry(column).or_default() += cost;
        versions.insert(text(row, "rules_version"));
    }
    if values.is_empty() {
        return Ok(format!("no usage and no shared cost in {period}\n"));
    }
    let mut columns = vec![dimension.to_owned(), "direct".to_owned()];
    columns.extend(shared.iter().map(|(name, _)| format!("shared: {name}")));
    columns.push("total".to_owned());
    let mut sums: BTreeMap<String, FemtoUsd> = BTreeMap::new();
    let mut lines: Vec<(FemtoUsd, Map<String, Value>)> = Vec::new();
    for (value, costs) in values {
        let total: FemtoUsd = costs.values().copied().sum();
        for (column, cost) in costs.iter().chain([(&"total".to_owned(), &total)]) {
            *sums.entry(column.clone()).or_default() += *cost;
        }
        lines.push((total, line(&columns, &value, &costs, total)));
    }
    lines.sort_by_key(|(total, _)| std::cmp::Reverse(*total));
    let total = sums.get("total").copied().unwrap_or_default();
    let mut rows: Vec<Map<String, Value>> = lines.into_iter().map(|(_, line)| line).collect();
    if rows.len() > 1 {
        rows.push(line(&columns, "total", &sums, total));
    }
    let mut text = output::table(&columns, &rows.iter().collect::<Vec<_>>());
    text.push('\n');
    for (name, method) in &shared {
        text.push_str(&format!("{name}: {method}\n"));
    }
    let versions: Vec<String> = versions.into_iter().collect();
    text.push_str(&format!(
        "{period}, exact total {total} USD, rules {}\n",
        versions.join(", ")
    ));
    Ok(text)
}

fn line(columns: &[String], value: &str, costs: &BTreeMap<String, FemtoUsd>, total: FemtoUsd) -> Map<String, Value> {
    let money = |cost: FemtoUsd| Value::from(dollars(&Value::from(cost.to_string()), 4));
    let cell = |(at, column): (usize, &String)| {
        let cell = match column.as_str() {
            _ if at == 0 => value.into(),
            "total" => money(total),
            column => costs.get(column).map_or_else(|| "".into(), |cost| money(*cost)),
        };
        (column.clone(), cell)
    };
    columns.iter().enumerate().map(cell).collect()
}
