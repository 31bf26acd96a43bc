//! `trace --pieces`: whose each part of a model call's cost was, as text.

use serde_json::{Map, Value};

use crate::output::{self, dollars, grouped};

/// Pieces of a call that have a line of their own; the rest is one line. JSON has all of them.
const PIECES_SHOWN: usize = 8;

/// The calls with their dearest pieces, then the tools.
pub fn render(answer: &Value) -> String {
    let empty = Vec::new();
    let list = |key: &str| answer.get(key).and_then(Value::as_array).unwrap_or(&empty);
    let mut text = String::from("\nwhat each model call paid for\n");
    for call in list("calls") {
        text.push_str(&of_call(call));
    }
    if list("calls").is_empty() {
        text.push_str("\nno model call of it has a cost\n");
    }
    if !list("tools").is_empty() {
        let columns = ["server", "tool", "cost", "definition", "avoidable"].map(str::to_owned);
        let lines: Vec<Map<String, Value>> = list("tools").iter().map(tool).collect();
        text.push_str(
            "\ntools in it; avoidable: what the calls would have cost less without the tool (not to be added up)\n\n",
        );
        text.push_str(&output::table(&columns, &lines.iter().collect::<Vec<_>>()));
    }
    if answer.get("truncated").and_then(Value::as_bool) == Some(true) {
        text.push_str("\nit has more calls than are shown; ask for one of them by its call id\n");
    }
    text
}

fn of_call(call: &Value) -> String {
    let word = |key: &str| call.get(key).and_then(Value::as_str).unwrap_or("");
    let mut text = format!(
        "\n{}  {}  {}  {}\n",
        word("time"),
        plain(word("model")),
        call.get("own_cost")
            .filter(|cost| !cost.is_null())
            .map_or_else(|| "unpriced".to_owned(), |cost| dollars(cost, 6)),
        word("call_id"),
    );
    if call.get("is_exact").and_then(Value::as_bool) != Some(true) {
        text.push_str(&format!("  no pieces: {}\n", word("why")));
        return text;
    }
    let empty = Vec::new();
    let pieces = call.get("pieces").and_then(Value::as_array).unwrap_or(&empty);
    let mut lines: Vec<Map<String, Value>> = pieces.iter().take(PIECES_SHOWN).map(piece).collect();
    if pieces.len() > PIECES_SHOWN {
        let rest = &pieces[PIECES_SHOWN..];
        let cost: spanledger_model::FemtoUsd = rest
            .iter()
            .filter_map(|piece| spanledger_model::FemtoUsd::parse(piece.get("cost")?.as_str()?))
            .sum();
        let tokens: i64 = rest.iter().filter_map(|piece| piece.get("tokens")?.as_i64()).sum();
        let mut line = Map::new();
        line.insert("of".to_owned(), Value::from(format!("{} more", rest.len())));
        line.insert("tokens".to_owned(), Value::from(grouped(tokens)));
        line.insert(
            "cost".to_owned(),
            Value::from(dollars(&Value::from(cost.to_string()), 6)),
        );
        lines.push(line);
    }
    let columns = ["of", "what", "bucket", "tokens", "cost"].map(str::to_owned);
    text.push_str(&output::table(&columns, &lines.iter().collect::<Vec<_>>()));
    text
}

fn piece(piece: &Value) -> Map<String, Value> {
    let word = |key: &str| piece.get(key).and_then(Value::as_str);
    let of = match (word("server"), word("tool"), word("prompt"), word("resource_uri")) {
        (Some(server), Some(tool), ..) => format!("{server}/{tool}"),
        (None, Some(tool), ..) => tool.to_owned(),
        (_, None, Some(prompt), _) => format!("prompt {prompt}"),
        (_, None, None, Some(uri)) => uri.to_owned(),
        (Some(server), ..) => server.to_owned(),
        _ => String::new(),
    };
    let again = piece.get("history").and_then(Value::as_bool) == Some(true) || word("touch") == Some("carry");
    let what = format!("{}{}", word("cause").unwrap_or(""), if again { ", again" } else { "" });
    let mut line = Map::new();
    line.insert("of".to_owned(), Value::from(plain(&of)));
    line.insert("what".to_owned(), Value::from(what));
    line.insert("bucket".to_owned(), Value::from(word("bucket").unwrap_or("")));
    let tokens = piece.get("tokens").and_then(Value::as_i64).map(grouped);
    line.insert("tokens".to_owned(), Value::from(tokens.unwrap_or_default()));
    let cost = piece.get("cost").filter(|cost| !cost.is_null());
    line.insert(
        "cost".to_owned(),
        Value::from(cost.map(|cost| dollars(cost, 6)).unwrap_or_default()),
    );
    line
}

fn tool(tool: &Value) -> Map<String, Value> {
    let mut line = Map::new();
    for name in ["server", "tool"] {
        line.insert(
            name.to_owned(),
            Value::from(plain(tool.get(name).and_then(Value::as_str).unwrap_or(""))),
        );
    }
    for name in ["cost", "definition", "avoidable"] {
        let cost = tool.get(name).filter(|cost| !cost.is_null());
        line.insert(
            name.to_owned(),
            Value::from(cost.map(|cost| dollars(cost, 6)).unwrap_or_default()),
        );
    }
    line
}

/// Text of telemetry without what a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().map(spanledger_query::format::or_space).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pieces_are_named_and_the_rest_is_summed() {
        let piece = |n: i64| json!({ "server": "s", "tool": format!("t{n}"), "cause": "result", "touch": "carry", "bucket": "input", "tokens": n, "cost": "0.001" });
        let pieces: Vec<Value> = (0..10).map(piece).collect();
        let answer = json!({
            "calls": [
                { "call_id": "ab", "model": "m\u{1b}", "time": "2026-11-22T10:00:00Z", "own_cost": "0.01", "is_exact": true, "pieces": pieces },
                { "call_id": "cd", "model": "m", "time": "2026-11-22T10:00:00Z", "own_cost": "0.01", "is_exact": false, "why": "expired", "pieces": [] },
            ],
            "tools": [{ "server": "s", "tool": "t0", "cost": "0.001", "definition": "0", "avoidable": null }],
        });
        let text = render(&answer);
        for part in [
            "s/t0",
            "result, again",
            "2 more",
            "$0.002000",
            "no pieces: expired",
            "avoidable",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }
}
