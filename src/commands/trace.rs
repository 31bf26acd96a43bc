//! `trace`: one trace as a tree, with own and total cost of every node.

mod pieces;

use serde_json::Value;

use crate::cli::{TraceArgs, TraceFormat};
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::output::{self, dollars, grouped};
use crate::source::Source;

/// Columns a name may take before the figures stand beside it; a longer one moves them.
const NAME_WIDTH_MAX: usize = 64;

/// Runs the command.
pub async fn run(args: &TraceArgs, config: &Config) -> anyhow::Result<Outcome> {
    let id = args.id.to_ascii_lowercase();
    if id.len() != 32 || !id.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(fail(
            Kind::Invalid,
            format!(
                "{} is no trace id of 32 hexadecimal digits; find one with: spanledger sql \"SELECT trace_id FROM calls LIMIT 5\"",
                args.id
            ),
        ));
    }
    let source = Source::open(&args.at, config).await?;
    let tree = source.get(&format!("/api/v1/traces/{id}"), &[]).await?;
    let mut tree = tree;
    if args.pieces {
        tree["pieces"] = source.get(&format!("/api/v1/calls/{id}/pieces"), &[]).await?;
    }
    output::print(&match args.format {
        TraceFormat::Json => format!("{tree:#}\n"),
        TraceFormat::Table => match tree.get("pieces") {
            Some(pieces) => format!("{}{}", render(&tree), pieces::render(pieces)),
            None => render(&tree),
        },
    })?;
    Ok(Outcome::Done)
}

/// The tree as text: one line a node.
fn render(tree: &Value) -> String {
    let empty = Vec::new();
    let nodes = tree.get("nodes").and_then(Value::as_array).unwrap_or(&empty);
    let names: Vec<String> = nodes.iter().map(label).collect();
    let width = names
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0)
        .min(NAME_WIDTH_MAX);
    let mut text = format!(
        "trace {}   {}   {}   total {}\n\n{:<width$}  {:>9}  {:>9}  {:>8}  {:>12}  {:>12}\n",
        string(tree, "trace_id"),
        string(tree, "time"),
        duration(tree),
        cost(tree, "total_cost").unwrap_or_else(|| "unpriced".to_owned()),
        "",
        "duration",
        "input",
        "output",
        "own cost",
        "total cost",
    );
    for (node, name) in nodes.iter().zip(&names) {
        let own = match (string(node, "kind"), cost(node, "own_cost")) {
            (_, Some(cost)) => cost,
            ("llm" | "embedding", None) if string(node, "status") != "error" => "unpriced".to_owned(),
            _ => String::new(),
        };
        let line = format!(
            "{name:<width$}  {:>9}  {:>9}  {:>8}  {own:>12}  {:>12}",
            duration(node),
            tokens(node, "input_tokens"),
            tokens(node, "output_tokens"),
            cost(node, "total_cost").unwrap_or_default(),
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if tree.get("truncated").and_then(Value::as_bool) == Some(true) {
        text.push_str(
            "\nthe trace has more spans than are shown; ask SQL for them: SELECT * FROM spans WHERE trace_id = …\n",
        );
    }
    text
}

/// Name, indented by depth, with the kind where it is a call and the failure where there is one.
fn label(node: &Value) -> String {
    let depth = node
        .get("depth")
        .and_then(Value::as_u64)
        .and_then(|depth| usize::try_from(depth).ok())
        .unwrap_or(0);
    let kind = string(node, "kind");
    let kind = if kind.is_empty() || kind == "span" {
        String::new()
    } else {
        format!(" [{kind}]")
    };
    let failure = match (string(node, "status"), string(node, "error_type")) {
        ("error", "") => " ✗".to_owned(),
        ("error", class) => format!(" ✗ {class}"),
        _ => String::new(),
    };
    let name: String = string(node, "name")
        .chars()
        .map(spanledger_query::format::or_space)
        .collect();
    format!("{}{name}{kind}{failure}", "  ".repeat(depth))
}

fn string<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

fn cost(value: &Value, key: &str) -> Option<String> {
    value
        .get(key)
        .filter(|cost| !cost.is_null())
        .map(|cost| dollars(cost, 4))
}

fn tokens(node: &Value, key: &str) -> String {
    node.get(key).and_then(Value::as_i64).map(grouped).unwrap_or_default()
}

fn duration(value: &Value) -> String {
    let Some(ns) = value.get("duration_ns").and_then(Value::as_i64) else {
        return String::new();
    };
    let ms = ns / 1_000_000;
    match ms {
        0..=9_999 => format!("{ms} ms"),
        10_000..=599_999 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min", ms / 60_000),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_tree_shows_depth_failure_and_cost() {
        let tree = json!({
            "trace_id": "ab", "time": "2026-11-22T10:00:00Z", "duration_ns": 12_300_000_000_i64, "total_cost": "0.0123",
            "nodes": [
                { "depth": 0, "kind": "agent", "name": "invoke_agent x", "status": "unset", "duration_ns": 12_300_000_000_i64, "total_cost": "0.0123" },
                { "depth": 1, "kind": "llm", "name": "chat", "status": "ok", "input_tokens": 1200, "own_cost": "0.0123", "total_cost": "0.0123" },
                { "depth": 1, "kind": "tool", "name": "run\u{1b}query", "status": "error", "error_type": "tool_error" },
                { "depth": 1, "kind": "llm", "name": "chat 7b", "status": "ok", "input_tokens": 5, "own_cost": null },
            ],
        });
        let text = render(&tree);
        for part in [
            "12.3 s",
            "  chat [llm]",
            "1,200",
            "$0.0123",
            "run query [tool] ✗ tool_error",
            "unpriced",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
