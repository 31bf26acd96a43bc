//! `costs`: what was spent, by any dimension, with the total of everything and nothing left out.

use std::io::Write as _;

use serde_json::{Map, Value};

use crate::cli::CostsArgs;
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::output::{self, RowFormat, dollars, grouped};
use crate::source::Source;

/// Columns of CSV and Markdown, after the dimensions. JSON has all that the answer has.
const COLUMNS: [&str; 11] = [
    "cost",
    "tokens",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "calls",
    "llm_calls",
    "errors",
    "unpriced_calls",
    "unpriced_tokens",
];

/// Measures of the table for people.
const MEASURES: [&str; 9] = [
    "cost",
    "llm_calls",
    "calls",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "errors",
    "unpriced_tokens",
];

/// Dimensions that name who caused a cost.
const CAUSES: [&str; 5] = ["server", "tool", "prompt", "resource_uri", "cause"];

/// Columns that `--measures` adds.
const TOOL_MEASURES: [&str; 9] = [
    "context_tax",
    "idle_tax",
    "first_touch",
    "carry",
    "call_cost",
    "direct",
    "lifetime_cost",
    "avoidable",
    "cost_per_success",
];

/// Measures of the table for people with `--measures`.
const TOOL_TABLE: [&str; 12] = [
    "cost",
    "calls",
    "errors",
    "context_tax",
    "idle_tax",
    "first_touch",
    "carry",
    "call_cost",
    "direct",
    "lifetime_cost",
    "avoidable",
    "cost_per_success",
];

/// Columns that `--compare` adds.
const COMPARED: [&str; 2] = ["change", "change_percent"];

/// Runs the command.
pub async fn run(args: &CostsArgs, config: &Config) -> anyhow::Result<Outcome> {
    let source = Source::open(&args.at, config).await?;
    let answer = source.get("/api/v1/costs", &query(args)?).await?;
    let (answer, by) = match (&args.interval, args.format) {
        // JSON is the answer as it came.
        (None, _) | (_, RowFormat::Json) => (answer, args.by.clone()),
        (Some(_), _) => points(answer, &args.by),
    };
    let compared = if args.compare && args.interval.is_none() {
        &COMPARED[..]
    } else {
        &[]
    };
    let mut out = output::stdout();
    match args.format {
        RowFormat::Table => {
            let measures = if args.measures { &TOOL_TABLE[..] } else { &MEASURES[..] };
            let (cost, rest) = measures.split_at(1);
            let measures: Vec<&str> = [cost, compared, rest].concat();
            out.write_all(table(&by, &measures, &answer).as_bytes())?;
        }
        format => {
            let measures = if args.measures { &TOOL_MEASURES[..] } else { &[] };
            let columns = by.iter().map(String::as_str).chain(COLUMNS);
            let columns: Vec<&str> = columns.chain(measures.iter().chain(compared).copied()).collect();
            output::write_rows(&output::rows_of(answer)?, &columns, format, &mut out)?;
        }
    }
    out.flush()?;
    Ok(Outcome::Done)
}

/// The answer with a row for each point of its series, and the name of the time as the first dimension.
fn points(mut answer: Value, by: &[String]) -> (Value, Vec<String>) {
    let mut points = Vec::new();
    let rows = answer.get("rows").and_then(Value::as_array).into_iter().flatten();
    for row in rows.chain(answer.get("other")) {
        for point in row.get("series").and_then(Value::as_array).into_iter().flatten() {
            let mut point = point.clone();
            for dimension in by {
                // What the limit cut off has no names.
                let value = row.get(dimension).cloned().unwrap_or_else(|| Value::from("(other)"));
                if let Value::Object(fields) = &mut point {
                    fields.insert(dimension.clone(), value);
                }
            }
            points.push(point);
        }
    }
    if let Value::Object(fields) = &mut answer {
        fields.insert("rows".to_owned(), Value::from(points));
    }
    let time = std::iter::once("time".to_owned());
    (answer, time.chain(by.iter().cloned()).collect())
}

/// The query of `GET /api/v1/costs`.
fn query(args: &CostsArgs) -> anyhow::Result<Vec<(String, String)>> {
    let mut query = Vec::new();
    let mut add = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            query.push((key.to_owned(), value.to_owned()));
        }
    };
    let by = args.by.join(",");
    add("by", Some(by.as_str()).filter(|by| !by.is_empty()));
    add("since", args.since.as_deref());
    add("until", args.until.as_deref());
    add("team", args.team.as_deref());
    add("agent", args.agent.as_deref());
    add("model", args.model.as_deref());
    add("measures", args.measures.then_some("true"));
    add("interval", args.interval.as_deref());
    add("compare", args.compare.then_some("previous"));
    for filter in &args.filters {
        let (dimension, value) = filter.split_once('=').ok_or_else(|| {
            fail(
                Kind::Invalid,
                format!("cannot read --where {filter}; write DIMENSION=VALUE, such as server=github"),
            )
        })?;
        add(dimension, Some(value));
    }
    Ok(query)
}

/// Rows and a total line, with costs to the hundredth of a cent and counts grouped.
fn table(by: &[String], measures: &[&str], answer: &Value) -> String {
    let empty = Vec::new();
    let rows = answer.get("rows").and_then(Value::as_array).unwrap_or(&empty);
    let mut lines: Vec<Map<String, Value>> = rows.iter().map(|row| line(by, measures, row)).collect();
    if let Some(total) = answer.get("total").filter(|_| !by.is_empty() && rows.len() > 1) {
        let mut line = line(by, measures, total);
        for (index, dimension) in by.iter().enumerate() {
            line.insert(dimension.clone(), Value::from(if index == 0 { "total" } else { "" }));
        }
        lines.push(line);
    }
    let measures = measures
        .iter()
        .filter(|measure| lines.iter().any(|line| line.contains_key(**measure)));
    let columns: Vec<String> = by
        .iter()
        .cloned()
        .chain(measures.map(|measure| (*measure).to_owned()))
        .collect();
    let mut text = output::table(&columns, &lines.iter().collect::<Vec<_>>());
    if lines.is_empty() {
        text = "no costs in this span of time; widen --since, or look at `spanledger doctor`\n".to_owned();
    }
    let is_by_cause = by.iter().any(|dimension| CAUSES.contains(&dimension.as_str()));
    if is_by_cause && !lines.is_empty() {
        text.push_str(&methods(answer));
    }
    let unpriced = answer
        .pointer("/total/unpriced_tokens")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    if unpriced > 0 {
        text.push_str(&format!(
            "\n{} tokens have no price and are not in the cost; see: spanledger sql \"SELECT * FROM unpriced\"\n",
            grouped(unpriced)
        ));
    }
    text
}

/// How surely the cost is divided, in a sentence.
fn methods(answer: &Value) -> String {
    let shares = answer.get("methods").and_then(Value::as_array);
    let share = |entry: &Value| {
        let share = entry.get("share").and_then(Value::as_f64)?;
        let method = match entry.get("method")?.as_str()? {
            "content" => "by counts of the provider",
            "bytes" => "by sizes",
            "counts" => "by number",
            _ => "not divided",
        };
        Some(format!("{:.1} % {method}", share * 100.0))
    };
    let told: Vec<String> = shares.into_iter().flatten().filter_map(share).collect();
    match told.is_empty() {
        true => String::new(),
        false => format!("\nhow surely it is divided among causes: {}\n", told.join(", ")),
    }
}

fn line(by: &[String], measures: &[&str], row: &Value) -> Map<String, Value> {
    let mut line = Map::new();
    for dimension in by {
        line.insert(dimension.clone(), row.get(dimension).cloned().unwrap_or(Value::Null));
    }
    for measure in measures {
        let is_money = ["cost", "change"].contains(measure) || TOOL_MEASURES.contains(measure);
        let text = match row.get(*measure) {
            None => continue,
            Some(Value::Null) => if *measure == "cost" { "unpriced" } else { "" }.to_owned(),
            Some(value) if is_money => dollars(value, 4),
            Some(Value::String(percent)) => format!("{percent} %"),
            Some(value) => value.as_i64().map_or_else(|| value.to_string(), grouped),
        };
        line.insert((*measure).to_owned(), Value::from(text));
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_has_groups_total_and_unpriced_usage() {
        let answer = json!({
            "rows": [
                { "team": "payments", "cost": "1.25", "llm_calls": 1200, "unpriced_tokens": 0 },
                { "team": null, "cost": null, "llm_calls": 1, "unpriced_tokens": 5000 },
            ],
            "total": { "cost": "1.25", "llm_calls": 1201, "unpriced_tokens": 5000 },
        });
        let text = table(&["team".to_owned()], &MEASURES, &answer);
        for part in [
            "payments",
            "$1.2500",
            "(none)",
            "unpriced",
            "total",
            "1,201",
            "5,000 tokens have no price",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn every_point_of_a_series_is_a_row_that_says_of_what() {
        let answer = json!({
            "rows": [{ "team": "a", "cost": "3", "series": [{ "time": "2026-06-01", "cost": "1" }, { "time": "2026-06-02", "cost": "2" }] }],
            "other": { "cost": "4", "series": [{ "time": "2026-06-02", "cost": "4" }] },
            "total": { "cost": "7" },
        });
        let (answer, by) = points(answer, &["team".to_owned()]);
        assert_eq!(by, ["time", "team"]);
        let rows: Vec<String> = answer["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(Value::to_string)
            .collect();
        assert_eq!(rows.len(), 3);
        assert!(
            rows[2].contains("(other)") && rows[2].contains("2026-06-02"),
            "{}",
            rows[2]
        );
        assert!(table(&by, &MEASURES, &answer).contains("$7.0000"));
    }

    #[test]
    fn a_filter_without_a_value_is_refused() {
        let args = CostsArgs {
            at: crate::cli::Where::default(),
            by: vec!["team".to_owned(), "tool".to_owned()],
            since: Some("7d".to_owned()),
            until: None,
            team: None,
            agent: None,
            model: None,
            filters: vec!["server=github".to_owned()],
            measures: false,
            interval: Some("day".to_owned()),
            compare: true,
            format: RowFormat::Table,
        };
        let pairs = query(&args).unwrap();
        assert!(pairs.contains(&("by".to_owned(), "team,tool".to_owned())));
        assert!(pairs.contains(&("server".to_owned(), "github".to_owned())));
        assert!(pairs.contains(&("interval".to_owned(), "day".to_owned())));
        assert!(pairs.contains(&("compare".to_owned(), "previous".to_owned())));
        assert!(
            query(&CostsArgs {
                filters: vec!["server".to_owned()],
                ..args
            })
            .is_err()
        );
    }
}
