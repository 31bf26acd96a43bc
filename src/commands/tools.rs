//! `tools`: which tools are installed, how large their definitions are, who calls them and what they cost unused.
//!
//! It asks the view `tool_catalog` in SQL, of a folder or a server alike, and shows the newest definition of each
//! tool. Cost a month is the tool's context tax over the time its definitions were seen, stretched to thirty days:
//! a straight line, labelled as such, and absent where less than an hour was seen.

use std::io::Write as _;

use serde_json::{Map, Value, json};
use spanledger_query::{Format, QueryOptions};

use crate::cli::ToolsArgs;
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::output::{self, RowFormat, dollars, grouped};
use crate::source::Source;

/// Columns, in order. JSON has the same.
const COLUMNS: [&str; 12] = [
    "server",
    "tool",
    "bytes",
    "tokens",
    "definitions",
    "sessions",
    "calls",
    "last_call",
    "first_seen",
    "last_seen",
    "context_tax",
    "cost_a_month",
];

/// Tools that are shown at most.
const ROWS_MAX: usize = 10_000;

/// Letters of an instant in a table for people: minutes are enough.
const MINUTE_LETTERS: usize = 16;

/// Runs the command.
pub async fn run(args: &ToolsArgs, config: &Config) -> anyhow::Result<Outcome> {
    let sql = query(args)?;
    let (rows, is_truncated) = ask(&Source::open(&args.at, config).await?, &sql).await?;
    let mut out = output::stdout();
    match args.format {
        RowFormat::Table => out.write_all(table(&rows, args).as_bytes())?,
        format => output::write_rows(&rows, &COLUMNS, format, &mut out)?,
    }
    out.flush()?;
    if is_truncated {
        output::note("note: there are more tools; narrow with --since, or ask `spanledger sql` for tool_catalog");
    }
    Ok(Outcome::Done)
}

/// The statement: a row for each tool, never-called ones first, the dearest first. All numbers and names in it are ours.
fn query(args: &ToolsArgs) -> anyhow::Result<String> {
    let mut conditions = Vec::new();
    if let Some(since) = &args.since {
        let now_ns = spanledger_model::Clock::now_ns(&spanledger_model::clock::SystemClock);
        let since_ns = spanledger_query::time::parse_instant(since, now_ns)
            .map_err(|error| fail(Kind::Invalid, format!("--since: {}", error.message())))?;
        conditions.push(format!(
            "last_seen >= to_timestamp_micros({})",
            since_ns.div_euclid(1_000)
        ));
    }
    if args.never_called {
        conditions.push("calls = 0".to_owned());
    }
    let filter = match conditions.is_empty() {
        true => String::new(),
        false => format!("WHERE {}", conditions.join(" AND ")),
    };
    Ok(format!(
        "SELECT server, tool, bytes, tokens, definitions, sessions, calls, last_call, first_seen, last_seen, context_tax, \
                CASE WHEN span_us >= 3600000000 \
                     THEN CAST(CAST(context_tax AS DOUBLE) * 2592000000000.0 / CAST(span_us AS DOUBLE) AS DECIMAL(38,6)) \
                END AS cost_a_month \
         FROM (SELECT *, CAST(last_seen AS BIGINT) - CAST(first_seen AS BIGINT) AS span_us FROM ( \
           SELECT server, tool, \
                  last_value(bytes ORDER BY source = 'sent', last_seen, first_seen, bytes) AS bytes, \
                  last_value(tokens ORDER BY source = 'sent', last_seen, first_seen, bytes) AS tokens, \
                  COUNT(DISTINCT COALESCE(hash, CAST(bytes AS VARCHAR))) AS definitions, MAX(sessions) AS sessions, MAX(calls) AS calls, \
                  MAX(last_call) AS last_call, MIN(first_seen) AS first_seen, MAX(last_seen) AS last_seen, \
                  SUM(context_tax) AS context_tax \
           FROM tool_catalog GROUP BY server, tool)) {filter} \
         ORDER BY calls > 0, context_tax DESC NULLS LAST, server NULLS FIRST, tool LIMIT {ROWS_MAX}"
    ))
}

/// Rows as JSON objects, and whether there are more.
async fn ask(source: &Source, sql: &str) -> anyhow::Result<(Vec<Value>, bool)> {
    let (body, is_truncated) = match source {
        Source::Lake(engine, principal) => {
            let options = QueryOptions {
                rows_max: ROWS_MAX,
                ..QueryOptions::default()
            };
            let result = engine.sql(principal, sql, &options).await?;
            let mut body = Vec::new();
            spanledger_query::write(&result, Format::Json, &mut body)?;
            (body, result.truncated)
        }
        Source::Server(server) => {
            let question = json!({ "query": sql, "format": "json", "limit": ROWS_MAX });
            let answer = server.post("/api/v1/sql", &question).await?;
            (answer.body.to_vec(), answer.is_truncated)
        }
    };
    let answer = serde_json::from_slice(&body)
        .map_err(|_| fail(Kind::Invalid, "the answer is no JSON; is it a spanledger server?"))?;
    let rows = output::rows_of(answer)?;
    let is_full = rows.len() >= ROWS_MAX;
    Ok((rows, is_truncated || is_full))
}

/// The table for people, and what the never-called ones come to.
fn table(rows: &[Value], args: &ToolsArgs) -> String {
    if rows.is_empty() && (args.never_called || args.since.is_some()) {
        return "no such tools; see all with `spanledger tools`\n".to_owned();
    }
    if rows.is_empty() {
        return "no tool definitions; they come with model calls that state them (gen_ai.tool.definitions) and with \
                tools/list results; emitters that send neither are in docs/emitters.md\n"
            .to_owned();
    }
    let lines: Vec<Map<String, Value>> = rows.iter().map(line).collect();
    let columns: Vec<String> = COLUMNS.iter().map(|column| (*column).to_owned()).collect();
    let mut text = output::table(&columns, &lines.iter().collect::<Vec<_>>());
    let is_idle = |row: &&Value| row.get("calls").and_then(Value::as_i64) == Some(0);
    let idle: Vec<&Value> = rows.iter().filter(is_idle).collect();
    let n_idle = i64::try_from(idle.len()).unwrap_or(i64::MAX);
    let n_all = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    text.push_str(&format!(
        "\n{} of {} tools were never called",
        grouped(n_idle),
        grouped(n_all)
    ));
    let sum = |column: &str| {
        let costs = idle.iter().filter_map(|row| row.get(column)?.as_str());
        let costs: Vec<i128> = costs
            .filter_map(|cost| Some(spanledger_model::FemtoUsd::parse(cost)?.0))
            .collect();
        let sum = costs.iter().fold(0_i128, |sum, cost| sum.saturating_add(*cost));
        (!costs.is_empty()).then(|| spanledger_model::FemtoUsd(sum).to_string())
    };
    if let Some(cost) = sum("context_tax") {
        text.push_str(&format!("; their definitions cost {}", dollars(&Value::from(cost), 4)));
    }
    if let Some(cost) = sum("cost_a_month") {
        text.push_str(&format!(", about {} a month", dollars(&Value::from(cost), 2)));
    }
    text.push_str(
        "\ntokens: estimated, 3 bytes a token; cost a month: context tax over the time seen, stretched to 30 days; \
         (none) as server: a tool of the host\n",
    );
    text
}

fn line(row: &Value) -> Map<String, Value> {
    let mut line = Map::new();
    for column in COLUMNS {
        let value = row.get(column).unwrap_or(&Value::Null);
        let text = match (column, value) {
            ("server", value) => value.clone(),
            ("last_call", Value::Null) => "never".into(),
            (_, Value::Null) => "".into(),
            ("context_tax", value) => dollars(value, 4).into(),
            ("cost_a_month", value) => dollars(value, 2).into(),
            ("first_seen" | "last_seen" | "last_call", Value::String(time)) => {
                let minute = time.get(..MINUTE_LETTERS).unwrap_or(time);
                minute.replace('T', " ").into()
            }
            (_, value) => value
                .as_i64()
                .map_or_else(|| value.clone(), |count| grouped(count).into()),
        };
        line.insert(column.to_owned(), text);
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_table_says_what_never_called_tools_cost_a_month() {
        let rows = [
            json!({ "server": "jira", "tool": "create", "bytes": 5400, "tokens": 1800, "calls": 0, "last_call": null,
                    "first_seen": "2026-11-01T10:00:00Z", "context_tax": "0.25", "cost_a_month": "1.5" }),
            json!({ "server": null, "tool": "Read", "bytes": 90, "calls": 3, "last_call": "2026-11-02T10:00:00Z",
                    "context_tax": null, "cost_a_month": null }),
        ];
        let args = ToolsArgs {
            at: crate::cli::Where::default(),
            never_called: false,
            since: None,
            format: RowFormat::Table,
        };
        let text = table(&rows, &args);
        for part in [
            "never",
            "5,400",
            "(none)",
            "2026-11-02 10:00",
            "1 of 2 tools were never called",
            "cost $0.2500",
            "about $1.50 a month",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
