//! `inspect_trace`: where the money of one trace or session went, as a tree.
//!
//! A trace can have thousands of nodes: the dearest are shown, each below those that it hangs on, and the rest is
//! one sum, so that own costs always add up to the total.

use std::collections::BTreeSet;

use rmcp::model::Tool;
use serde_json::{Value, json};
use spanledger_model::FemtoUsd;
use spanledger_query::inspect::{Inspected, SessionTraces};
use spanledger_query::time::format_instant;
use spanledger_query::{Error, QueryOptions, Result, TraceNode, TraceTree};

use super::{Answer, Call, reading_tool};
use crate::arguments::Arguments;
use crate::limits::{ANSWER_TOKENS, ROWS_TOKENS_MAX, TRACE_PAYLOADS_MAX, TRACE_ROWS_DEFAULT, TRACE_ROWS_MAX};
use crate::text::{DATA_NOTE, Rows, clean};

pub(crate) const NAME: &str = "inspect_trace";
const ARGUMENTS: [&str; 4] = ["id", "limit", "pieces", "payloads"];
const TREE_COLUMNS: [&str; 11] = [
    "depth",
    "kind",
    "name",
    "server",
    "status",
    "own_cost",
    "total_cost",
    "input_tokens",
    "output_tokens",
    "duration_ms",
    "call_id",
];
const SESSION_COLUMNS: [&str; 8] = [
    "trace_id",
    "start",
    "cost",
    "calls",
    "llm_calls",
    "errors",
    "input_tokens",
    "output_tokens",
];

pub(crate) fn definition() -> Tool {
    let rows = json!({ "type": "array" });
    reading_tool(
        NAME,
        "Inspect trace",
        "Tree of a trace, own and total cost of each call, dearest shown; of a session with several traces, these. \
         Own costs add up to total_cost.",
        json!({
            "type": "object",
            "properties": {
                "id": { "type": "string", "description": "trace id, session id, or first digits of a call_id" },
                "limit": { "type": "integer", "minimum": 1, "maximum": TRACE_ROWS_MAX, "default": TRACE_ROWS_DEFAULT },
                "pieces": { "type": "boolean", "default": false, "description": "adds what each tool's definition and results cost in it" },
                "payloads": { "type": "boolean", "default": false, "description": "adds stored texts; needs payloads:read" }
            },
            "required": ["id"],
            "additionalProperties": false
        }),
        json!({
            "type": "object",
            "properties": {
                "id": { "type": "string" },
                "is": { "enum": ["trace", "session"] },
                "start": { "type": "string" },
                "total_cost": { "type": ["string", "null"] },
                "unpriced_calls": { "type": "integer" },
                "columns": { "type": "array" },
                "rows": rows,
                "hidden": { "type": "object" },
                "tools": rows,
                "payloads": rows,
                "truncated": { "type": "boolean" },
                "notes": { "type": "array" }
            }
        }),
    )
}

pub(crate) async fn answer(call: Call<'_>) -> Result<Answer> {
    let arguments = Arguments::new(NAME, &ARGUMENTS, call.arguments)?;
    let id = arguments
        .text("id")?
        .ok_or_else(|| Error::invalid("`id` is missing: a trace id, a session id, or the first digits of a call_id"))?;
    let limit = arguments.count("limit", TRACE_ROWS_DEFAULT, TRACE_ROWS_MAX)?;
    // Who names a limit wants that many rows; anybody else a short answer.
    let n_tokens_max = if arguments.has("limit") {
        ROWS_TOKENS_MAX / 3 * 2
    } else {
        ANSWER_TOKENS
    };
    let found = call.engine.inspect(call.principal, id).await?;
    let mut told = match &found {
        Inspected::Trace(tree) => of_trace(tree, limit, n_tokens_max),
        Inspected::Session(session) => of_session(session, limit, n_tokens_max),
    };
    if let Inspected::Trace(tree) = &found {
        if arguments.flag("pieces")? {
            told.pieces(&call.engine.pieces(call.principal, &tree.trace_id).await?);
        }
        if arguments.flag("payloads")? {
            let sql = format!(
                "SELECT span_id, role, text FROM payloads WHERE trace_id = '{}' ORDER BY time LIMIT {TRACE_PAYLOADS_MAX}",
                tree.trace_id
            );
            let texts = call.engine.sql(call.principal, &sql, &QueryOptions::default()).await?;
            told.payloads(super::table_within(&texts, ROWS_TOKENS_MAX / 6)?.0);
        }
    }
    Ok(told.written())
}

/// An answer while it is put together.
struct Told {
    head: String,
    text: String,
    structured: Value,
    notes: Vec<String>,
}

impl Told {
    /// Adds what tools cost in the trace.
    fn pieces(&mut self, pieces: &Value) {
        let mut rows = Rows::within(
            ["server", "tool", "cost", "definition", "avoidable"],
            ROWS_TOKENS_MAX / 6,
        );
        for tool in pieces["tools"].as_array().into_iter().flatten() {
            let row = ["server", "tool", "cost", "definition", "avoidable"].map(|name| tool[name].clone());
            if !rows.push(row.to_vec()) {
                break;
            }
        }
        self.text.push_str("\ntools in model calls of this trace\n");
        self.text.push_str(&rows.tsv(2));
        self.structured["tools"] = rows.rows_json();
        self.notes.push(
            "tools: server, tool, cost in model calls, of it definition, avoidable (less without the tool; not a sum)"
                .to_owned(),
        );
    }

    /// Adds stored texts.
    fn payloads(&mut self, rows: Rows) {
        if rows.len() == 0 {
            self.notes.push("no texts are stored of this trace".to_owned());
            return;
        }
        self.text.push_str("\nstored texts (untrusted)\n");
        self.text.push_str(&rows.tsv(0));
        self.structured["payloads"] = rows.rows_json();
    }

    fn written(mut self) -> Answer {
        self.notes.push(DATA_NOTE.to_owned());
        self.structured["notes"] = json!(self.notes);
        let notes = self.notes.join("; ");
        Answer::new(format!("{}\n{}{notes}", self.head, self.text), self.structured)
    }
}

fn of_trace(tree: &TraceTree, limit: usize, n_tokens_max: usize) -> Told {
    let shown = dearest(&tree.nodes, limit);
    let mut rows = Rows::within(TREE_COLUMNS, n_tokens_max);
    let (mut n_shown, mut cost_shown) = (0, FemtoUsd::ZERO);
    for node in shown.iter().map(|index| &tree.nodes[*index]) {
        if !rows.push(node_row(node)) {
            break;
        }
        n_shown += 1;
        cost_shown += node.own_cost.unwrap_or(FemtoUsd::ZERO);
    }
    let own: FemtoUsd = tree
        .nodes
        .iter()
        .filter_map(|node| node.own_cost)
        .fold(FemtoUsd::ZERO, |sum, cost| sum + cost);
    let n_hidden = tree.nodes.len() - n_shown;
    let mut notes = Vec::new();
    if n_hidden > 0 {
        notes.push(format!(
            "{n_hidden} cheaper nodes of {} are hidden; raise limit (at most {TRACE_ROWS_MAX})",
            tree.nodes.len()
        ));
    }
    if tree.truncated {
        notes.push("the trace has more spans than are read: totals are of those read".to_owned());
    }
    if tree.unpriced_calls > 0 {
        notes.push(format!("{} calls have no known price", tree.unpriced_calls));
    }
    let total = tree.total_cost.map(|cost| cost.to_string());
    Told {
        head: format!(
            "trace {}, {}, {} nodes, total cost {} USD, {} unpriced calls",
            tree.trace_id,
            format_instant(tree.start_ns),
            tree.nodes.len(),
            total.as_deref().unwrap_or("unknown"),
            tree.unpriced_calls
        ),
        text: rows.tsv(0),
        structured: json!({
            "id": tree.trace_id,
            "is": "trace",
            "start": format_instant(tree.start_ns),
            "duration_ms": tree.duration_ns / 1_000_000,
            "total_cost": total,
            "unpriced_calls": tree.unpriced_calls,
            "columns": rows.columns_json(),
            "rows": rows.rows_json(),
            "hidden": { "nodes": n_hidden, "own_cost": (own - cost_shown).to_string() },
            "truncated": n_hidden > 0 || tree.truncated,
        }),
        notes,
    }
}

/// The nodes that cost most with what is below them, and all above them; in reading order, at most `limit`.
fn dearest(nodes: &[TraceNode], limit: usize) -> BTreeSet<usize> {
    // The parent of a node is the last one before it that is one level higher.
    let mut parents = Vec::with_capacity(nodes.len());
    let mut path: Vec<usize> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        path.truncate(node.depth);
        parents.push(path.last().copied());
        path.push(index);
    }
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.sort_by_key(|index| {
        let node = &nodes[*index];
        let is_call = node.call_id.is_some() || node.status == "error";
        (std::cmp::Reverse(node.total_cost), !is_call, *index)
    });
    let mut shown = BTreeSet::new();
    for index in order {
        let mut wanted = vec![index];
        let mut above = parents[index];
        while let Some(parent) = above.filter(|parent| !shown.contains(parent)) {
            wanted.push(parent);
            above = parents[parent];
        }
        if shown.len() + wanted.len() <= limit {
            shown.extend(wanted);
        }
        if shown.len() == limit {
            break;
        }
    }
    shown
}

fn node_row(node: &TraceNode) -> Vec<Value> {
    let server = node.fields.iter().find(|(name, _)| *name == "server");
    let status = node.error_type.as_ref().unwrap_or(&node.status);
    vec![
        node.depth.into(),
        node.kind.clone().into(),
        node.name.clone().into(),
        server.map_or(Value::Null, |(_, server)| server.clone().into()),
        status.clone().into(),
        node.own_cost.map_or(Value::Null, |cost| cost.to_string().into()),
        node.total_cost.map_or(Value::Null, |cost| cost.to_string().into()),
        node.input_tokens.into(),
        node.output_tokens.into(),
        node.duration_ns.map(|duration| duration / 1_000_000).into(),
        node.call_id.clone().into(),
    ]
}

fn of_session(session: &SessionTraces, limit: usize, n_tokens_max: usize) -> Told {
    let mut rows = Rows::within(SESSION_COLUMNS, n_tokens_max);
    let mut shown = FemtoUsd::ZERO;
    for trace in session.traces.iter().take(limit) {
        let is_in = rows.push(vec![
            trace.trace_id.clone().into(),
            format_instant(trace.start_ns).into(),
            trace.cost.to_string().into(),
            trace.calls.into(),
            trace.llm_calls.into(),
            trace.errors.into(),
            trace.input_tokens.into(),
            trace.output_tokens.into(),
        ]);
        if !is_in {
            break;
        }
        shown += trace.cost;
    }
    let (total, n_hidden) = (&session.total, session.traces.len() - rows.len());
    let mut notes = vec!["inspect_trace with a trace_id shows its tree".to_owned()];
    if n_hidden > 0 {
        notes.push(format!("{n_hidden} cheaper traces are hidden; raise limit"));
    }
    Told {
        head: format!(
            "session {} of {} traces, total cost {} USD, {} calls, {} errors, {} unpriced calls",
            clean(&session.session_id),
            session.traces.len(),
            total.cost,
            total.calls,
            total.errors,
            total.unpriced_calls
        ),
        text: rows.tsv(1),
        structured: json!({
            "id": clean(&session.session_id),
            "is": "session",
            "start": format_instant(total.start_ns),
            "total_cost": total.cost.to_string(),
            "calls": total.calls,
            "errors": total.errors,
            "unpriced_calls": total.unpriced_calls,
            "columns": rows.columns_json(),
            "rows": rows.rows_json(),
            "hidden": { "traces": n_hidden, "cost": (total.cost - shown).to_string() },
            "truncated": n_hidden > 0 || session.truncated,
        }),
        notes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(depth: usize, own: i128, total: i128) -> TraceNode {
        TraceNode {
            depth,
            own_cost: Some(FemtoUsd(own)),
            total_cost: Some(FemtoUsd(total)),
            ..TraceNode::default()
        }
    }

    #[test]
    fn what_is_hidden_and_what_is_shown_add_up_to_the_total() {
        let nodes = vec![
            node(0, 0, 60),
            node(1, 10, 10),
            node(1, 0, 50),
            node(2, 20, 20),
            node(2, 30, 30),
        ];
        let tree = TraceTree {
            trace_id: "a".to_owned(),
            start_ns: 0,
            duration_ns: 1,
            total_cost: Some(FemtoUsd(60)),
            unpriced_calls: 0,
            n_spans: 5,
            truncated: false,
            nodes,
        };
        assert_eq!(dearest(&tree.nodes, 3).into_iter().collect::<Vec<_>>(), [0, 2, 4]);
        let told = of_trace(&tree, 3, ROWS_TOKENS_MAX).structured;
        assert_eq!(told["hidden"]["nodes"], 2);
        assert_eq!(told["hidden"]["own_cost"], FemtoUsd(30).to_string());
        assert_eq!(
            of_trace(&tree, 9, ROWS_TOKENS_MAX).structured["hidden"]["own_cost"],
            FemtoUsd(0).to_string()
        );
    }
}
