//! `doctor --coverage`: what was understood of what arrived, what was not, and the mapping that is missing.
//!
//! Prints the report of `GET /api/v1/coverage`. What it finds are warnings, to know and to decide on, so it
//! ends with 0 as `doctor` does with warnings.

use serde_json::Value;

use crate::cli::{DoctorArgs, ReportFormat, Where};
use crate::config::Config;
use crate::exit::Outcome;
use crate::output::{self, dollars, grouped};
use crate::source::Source;

/// Characters of a name that are shown.
const NAME_CHARS_MAX: usize = 48;

/// Runs the command.
pub async fn run(args: &DoctorArgs, config: &Config) -> anyhow::Result<Outcome> {
    let at = Where {
        data: args.at.data.clone(),
        url: args.at.url.clone(),
        tenant: args.at.tenant.clone(),
        api_key_file: args.at.api_key_file.clone(),
    };
    let source = Source::open(&at, config).await?;
    let report = source.get("/api/v1/coverage", &[]).await?;
    let is_json = args.json || args.format == ReportFormat::Json;
    output::print(&if is_json {
        format!("{report:#}\n")
    } else {
        render(&report)
    })?;
    Ok(Outcome::Done)
}

fn render(report: &Value) -> String {
    let services = array(report, "services");
    if services.is_empty() {
        return "nothing was received yet: `spanledger serve` prints what to paste where\n".to_owned();
    }
    let mut text = "What is stored, by service and scope, and how much of it is about an operation\n\n".to_owned();
    text.push_str(&table(
        &[
            "service",
            "scope",
            "read_by",
            "spans",
            "logs",
            "points",
            "recognised",
            "not",
            "with_tokens",
            "with_cost",
        ],
        services.iter().map(|row| {
            let dialect = match string(row, "dialect") {
                "" => "nobody",
                dialect => dialect,
            };
            vec![
                name(row, "service"),
                name(row, "scope"),
                cut(dialect),
                count(row, "spans"),
                count(row, "logs"),
                count(row, "points"),
                count(row, "recognised"),
                count(row, "unrecognised"),
                count(row, "records_with_tokens"),
                count(row, "records_with_cost"),
            ]
        }),
    ));
    text.push_str(
        "Most spans of a coding agent are internal and about no operation: `not` alone is no fault.\n\
         (Of noise only a share is stored: `spanledger config show` has the rules.)\n",
    );
    text.push_str(&keys(report));
    text.push_str(&rules(report));
    text.push_str(&uncertain(report));
    if report.get("truncated").and_then(Value::as_bool) == Some(true) {
        text.push_str("\nnote: there is more; ask SQL: SELECT * FROM coverage, unmapped_keys, fold_rules\n");
    }
    text
}

fn keys(report: &Value) -> String {
    let unmapped = array(report, "unmapped_keys");
    if unmapped.is_empty() {
        return "\nEvery key of the newest records that looks like usage, cost, tool, model or identity is read.\n"
            .to_owned();
    }
    let mut text = "\nKeys that nobody reads although they look like something\n\n".to_owned();
    text.push_str(&table(
        &["service", "scope", "in", "key", "type", "looks_like", "records"],
        unmapped.iter().map(|row| {
            let texts = ["service", "scope", "signal", "key", "example_type", "field"];
            texts
                .iter()
                .map(|key| name(row, key))
                .chain([count(row, "records")])
                .collect()
        }),
    ));
    for mapping in array(report, "mappings") {
        text.push_str(&format!(
            "\nA mapping to paste into {}.toml\n\n",
            cut(string(mapping, "name"))
        ));
        for line in string(mapping, "toml").lines() {
            text.push_str(&format!("    {}\n", one_line(line)));
        }
    }
    text
}

fn rules(report: &Value) -> String {
    let rules = array(report, "fold_rules");
    if rules.is_empty() {
        return "\nNo call is settled yet.\n".to_owned();
    }
    let mut text = "\nHow records became calls\n\n".to_owned();
    text.push_str(&table(
        &["rule", "confidence", "calls", "tokens", "cost", "what_it_says"],
        rules.iter().map(|row| {
            let (rule, meaning) = match string(row, "rule") {
                "" => ("(one record)", "a call that one record tells"),
                rule => (rule, string(row, "meaning")),
            };
            vec![
                cut(rule),
                name(row, "confidence"),
                count(row, "calls"),
                count(row, "tokens"),
                cost(row, "cost"),
                one_line(meaning),
            ]
        }),
    ));
    text
}

fn uncertain(report: &Value) -> String {
    let all = array(report, "confidence");
    let guessed = all.iter().find(|row| string(row, "confidence") == "guessed");
    let Some(guessed) = guessed else {
        return "\nNo call rests on a guess.\n".to_owned();
    };
    let mut text = format!(
        "\n{} calls rest on a guess ({} tokens, {}); the newest\n\n",
        count(guessed, "calls"),
        count(guessed, "tokens"),
        match cost(guessed, "cost") {
            cost if cost.is_empty() => "unpriced".to_owned(),
            cost => cost,
        }
    );
    text.push_str(&table(
        &["call", "time", "kind", "service", "what", "tokens", "cost", "why"],
        array(report, "uncertain").iter().map(|row| {
            let what = match (string(row, "tool"), string(row, "model")) {
                ("", model) => model,
                (tool, _) => tool,
            };
            vec![
                string(row, "call_id").chars().take(8).collect(),
                string(row, "time").chars().take(19).collect(),
                name(row, "kind"),
                name(row, "service"),
                cut(what),
                count(row, "tokens"),
                cost(row, "own_cost"),
                one_line(string(row, "why")),
            ]
        }),
    ));
    text.push_str("`spanledger explain CALL` tells how one was put together.\n");
    text
}

fn table(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let names: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
    let rows: Vec<serde_json::Map<String, Value>> = rows
        .map(|cells| names.iter().cloned().zip(cells.into_iter().map(Value::from)).collect())
        .collect();
    output::table(&names, &rows.iter().collect::<Vec<_>>())
}

fn array<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn string<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

fn name(row: &Value, key: &str) -> String {
    cut(string(row, key))
}

fn count(row: &Value, key: &str) -> String {
    row.get(key).and_then(Value::as_i64).map(grouped).unwrap_or_default()
}

fn cost(row: &Value, key: &str) -> String {
    row.get(key)
        .filter(|cost| !cost.is_null())
        .map(|cost| dollars(cost, 4))
        .unwrap_or_default()
}

fn one_line(text: &str) -> String {
    text.chars().map(spanledger_query::format::or_space).collect()
}

fn cut(text: &str) -> String {
    if text.chars().count() <= NAME_CHARS_MAX {
        return one_line(text);
    }
    one_line(&text.chars().take(NAME_CHARS_MAX - 1).chain(['…']).collect::<String>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_report_names_services_keys_mapping_rules_and_guesses() {
        let text = render(&json!({
            "services": [{ "service": "acme", "scope": "acme.sdk", "dialect": null, "spans": 1200, "recognised": 0, "unrecognised": 1200 }],
            "unmapped_keys": [{ "service": "acme", "signal": "span", "key": "acme.input_tokens", "field": "input", "example_type": "int", "records": 7 }],
            "mappings": [{ "name": "my_acme", "toml": "name = \"my_acme\"\n[keys]\n" }],
            "fold_rules": [{ "rule": null, "confidence": "reported", "calls": 3, "cost": "0.5" }],
            "confidence": [{ "confidence": "guessed", "calls": 2, "tokens": 10, "cost": null }],
            "uncertain": [{ "call_id": "0123456789abcdef", "why": "by time alone", "kind": "tool", "tool": "search" }],
        }));
        for part in [
            "nobody",
            "1,200",
            "acme.input_tokens",
            "    name = \"my_acme\"",
            "(one record)",
            "$0.5000",
            "2 calls rest on a guess (10 tokens, unpriced)",
            "01234567",
            "by time alone",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(render(&json!({ "services": [] })).contains("nothing was received"));
    }
}
