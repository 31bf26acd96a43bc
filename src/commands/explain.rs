//! `explain`: how calls were put together, record by record and field by field.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::{ExplainArgs, TraceFormat};
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::output::{self, dollars, grouped};
use crate::source::Source;

/// Characters of a value that are shown; the JSON form has all of it.
const VALUE_CHARS_MAX: usize = 72;
/// Digits of an observation's id by which fields name it.
const SHORT_ID: usize = 8;

/// Runs the command.
pub async fn run(args: &ExplainArgs, config: &Config) -> anyhow::Result<Outcome> {
    let id = args.id.trim().to_ascii_lowercase();
    // The id becomes part of a path: what is none is told here.
    if id.is_empty() || id.len() > 32 || !id.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(fail(
            Kind::Invalid,
            format!(
                "{} is no id; give a call id of 32 hexadecimal digits or its first 4 or more, a span id or a trace id",
                shown(&args.id)
            ),
        ));
    }
    let source = Source::open(&args.at, config).await?;
    let explanation = source.get(&format!("/api/v1/calls/{id}/explain"), &[]).await?;
    output::print(&match args.format {
        TraceFormat::Json => format!("{explanation:#}\n"),
        TraceFormat::Table => render(&explanation),
    })?;
    Ok(Outcome::Done)
}

fn render(explanation: &Value) -> String {
    let calls = array(explanation, "calls");
    let mut text = String::new();
    for call in calls {
        if !text.is_empty() {
            text.push_str("\n────────\n\n");
        }
        text.push_str(&render_call(call));
    }
    for (flag, note) in [
        (
            "truncated",
            "the trace has more calls than are told; explain one of them by its id",
        ),
        (
            "narrowed",
            "only records that share a trace, session or response id were looked at: there are too many around this call",
        ),
    ] {
        if explanation.get(flag).and_then(Value::as_bool) == Some(true) {
            text.push_str(&format!("\nnote: {note}\n"));
        }
    }
    text
}

fn render_call(call: &Value) -> String {
    let failure = match (string(call, "status"), string(call, "error_type")) {
        ("error", "") => "  ✗".to_owned(),
        ("error", class) => format!("  ✗ {}", shown(class)),
        _ => String::new(),
    };
    let mut text = format!(
        "{} {}{failure}\ncall {}   {}   {}\n",
        string(call, "kind"),
        shown(string(call, "name")),
        string(call, "call_id"),
        string(call, "time"),
        duration(call, "duration_ns"),
    );
    let tokens = |key: &str| call.get(key).and_then(Value::as_i64).map(grouped);
    if let Some(input) = tokens("input_tokens") {
        let output = tokens("output_tokens").unwrap_or_else(|| "?".to_owned());
        let cost = call.get("own_cost").filter(|cost| !cost.is_null());
        let cost = cost.map_or_else(|| "unpriced".to_owned(), |cost| dollars(cost, 6));
        text.push_str(&format!("{input} tokens in, {output} out, {cost}\n"));
    }
    let records = array(call, "observations");
    let rules = match string(call, "rules") {
        "" => "no rule was needed".to_owned(),
        rules => rules.replace(',', ", "),
    };
    text.push_str(&format!(
        "{} of {} records by: {rules}\n",
        string(call, "confidence"),
        records.len()
    ));
    if call.get("settled").and_then(Value::as_bool) == Some(false) {
        text.push_str("not settled yet: `calls` will have it like this after the next settlement\n");
    }
    text.push_str(&render_records(records));
    text.push_str(&render_fields(array(call, "fields")));
    text.push_str(&render_allocation(array(call, "allocation")));
    let left_out = array(call, "left_out");
    if !left_out.is_empty() {
        text.push_str("\nleft out, because it repeats this call\n");
        for record in left_out {
            text.push_str(&format!(
                "  {}  {} {} {}: {}\n",
                short(record, "observation_id"),
                string(record, "source"),
                shown(string(record, "dialect")),
                shown(string(record, "name")),
                string(record, "why"),
            ));
        }
    }
    text
}

/// The records as a tree: id, hop, signal and dialect, durations, and the rule that brought each in.
fn render_records(records: &[Value]) -> String {
    let label = |record: &Value| {
        let depth = record
            .get("depth")
            .and_then(Value::as_u64)
            .and_then(|depth| usize::try_from(depth).ok())
            .unwrap_or(0);
        let service = match string(record, "service") {
            "" => String::new(),
            service => format!("  [{}]", shown(service)),
        };
        format!(
            "{}{}{service}",
            "  ".repeat(depth.min(40)),
            shown(string(record, "name"))
        )
    };
    let width = records
        .iter()
        .map(|record| label(record).chars().count())
        .max()
        .unwrap_or(0)
        .min(VALUE_CHARS_MAX);
    let mut text = format!(
        "\n  {:<SHORT_ID$}  {:<width$}  {:<8}  {:<7}  {:<16}  {:>10}  {:>10}  why it is here\n",
        "record", "", "hop", "signal", "dialect", "duration", "self"
    );
    for record in records {
        let line = format!(
            "  {}  {:<width$}  {:<8}  {:<7}  {:<16}  {:>10}  {:>10}  {}",
            short(record, "observation_id"),
            label(record),
            string(record, "hop"),
            string(record, "source"),
            shown(string(record, "dialect")),
            duration(record, "duration_ns"),
            duration(record, "self_ns"),
            match string(record, "rule") {
                "" => string(record, "why"),
                rule => rule,
            },
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let rules: BTreeMap<&str, &str> = records
        .iter()
        .map(|record| (string(record, "rule"), string(record, "why")))
        .filter(|(rule, _)| !rule.is_empty())
        .collect();
    for (rule, meaning) in rules {
        text.push_str(&format!("  {rule}: {meaning}\n"));
    }
    text
}

fn render_fields(fields: &[Value]) -> String {
    let width = fields
        .iter()
        .map(|field| string(field, "field").len())
        .max()
        .unwrap_or(0);
    let value = |field: &Value| shown(string(field, "value"));
    let values = fields
        .iter()
        .map(|field| value(field).chars().count())
        .max()
        .unwrap_or(0);
    let mut text = "\n  where each field is from\n".to_owned();
    for field in fields {
        let record = match string(field, "observation_id") {
            "" => " ".repeat(SHORT_ID),
            _ => short(field, "observation_id"),
        };
        let line = format!(
            "  {:<width$}  {:<values$}  {record}  {}",
            string(field, "field"),
            value(field),
            string(field, "why")
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Who pays, and which allocation rule says so.
fn render_allocation(decisions: &[Value]) -> String {
    if decisions.is_empty() {
        return String::new();
    }
    let mut text = "\n  whose it is\n".to_owned();
    for decision in decisions {
        let value = match string(decision, "value") {
            "" => "__unallocated__".to_owned(),
            value => shown(value),
        };
        let rule = match (string(decision, "rule"), string(decision, "was")) {
            ("", _) => String::new(),
            (rule, "") => format!("rule {rule}: "),
            (rule, was) => format!("rule {rule}, instead of {}: ", shown(was)),
        };
        text.push_str(&format!(
            "  {:<11}  {value:<16}  {rule}{}\n",
            string(decision, "dimension"),
            shown(string(decision, "why"))
        ));
    }
    text
}

fn array<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn string<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

fn short(value: &Value, key: &str) -> String {
    string(value, key).chars().take(SHORT_ID).collect()
}

/// Text from telemetry on one line, cut.
fn shown(text: &str) -> String {
    let line = text.chars().map(spanledger_query::format::or_space);
    let mut line: String = line.take(VALUE_CHARS_MAX + 1).collect();
    if line.chars().count() > VALUE_CHARS_MAX {
        line = line.chars().take(VALUE_CHARS_MAX - 1).chain(['…']).collect();
    }
    line
}

/// Microseconds below ten milliseconds: hops of one machine are that short.
fn duration(value: &Value, key: &str) -> String {
    let Some(ns) = value.get(key).and_then(Value::as_i64) else {
        return String::new();
    };
    match ns / 1_000 {
        us @ 0..=9_999 => format!("{us} µs"),
        us @ 10_000..=9_999_999 => format!("{} ms", us / 1_000),
        us => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn records_rules_fields_and_repeats_are_told_and_nothing_moves_the_cursor() {
        let text = render(&json!({ "truncated": true, "calls": [{
            "kind": "tool", "name": "weather/get_\u{1b}forecast", "call_id": "ab12", "status": "error", "error_type": "tool_error",
            "time": "2026-11-22T10:00:00Z", "duration_ns": 12_000_000, "confidence": "inferred", "rules": "hop_ancestry", "settled": false,
            "observations": [
                { "depth": 0, "observation_id": "aaaaaaaabbbb", "source": "span", "dialect": "fastmcp", "name": "client", "why": "the record that the call stands on", "duration_ns": 12_000_000, "self_ns": 3_000 },
                { "depth": 1, "observation_id": "ccccccccdddd", "source": "span", "dialect": "fastmcp", "hop": "server", "name": "server", "rule": "hop_ancestry", "why": "spans of one MCP request" },
            ],
            "fields": [{ "field": "server", "value": "weather", "observation_id": "ccccccccdddd", "why": "the innermost server" }],
            "left_out": [{ "observation_id": "eeeeeeeeffff", "source": "metric", "dialect": "fastmcp", "name": "calls", "why": "a counter" }],
        }]}));
        for part in [
            "tool weather/get_ forecast  ✗ tool_error",
            "inferred of 2 records by: hop_ancestry",
            "not settled yet",
            "    server",
            "hop_ancestry: spans of one MCP request",
            "12 ms",
            "3 µs",
            "weather  cccccccc  the innermost server",
            "eeeeeeee  metric fastmcp calls: a counter",
            "more calls than are told",
        ] {
            assert!(
                text.replace("        ", " ").contains(part) || text.contains(part),
                "{part} in\n{text}"
            );
        }
        assert!(!text.contains('\u{1b}'));
    }
}
