//! Pieces of model calls, recomputed: each call's sum to its cost, all calls' to the ledger's lines, end to end.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use spanledger_testkit::captures::Capture;
use spanledger_testkit::server::Server;
use tempfile::TempDir;

use crate::support::{BINARY, TestServer, data_of, plain, run_ok};

/// Emitters that tell definitions, messages, or sizes of results, in one conversation of several calls.
const CAPTURES: [&str; 5] = [
    "opencode",
    "pydantic-ai",
    "claude-code",
    "gemini-cli",
    "vercel-ai-sdk-7",
];

/// Femto-USD of an exact decimal.
fn femto(text: &str) -> i128 {
    let text = plain(text);
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    whole.parse::<i128>().unwrap() * 10_i128.pow(15) + format!("{fraction:0<15}").parse::<i128>().unwrap()
}

fn cost_of(row: &Map<String, Value>, column: &str) -> i128 {
    row.get(column).and_then(Value::as_str).map_or(0, femto)
}

const SAYS: [&str; 9] = [
    "server",
    "tool",
    "prompt",
    "resource_uri",
    "cause",
    "history",
    "touch",
    "bucket",
    "method",
];

/// Tokens and cost by all that a line says of its cause.
fn add(sums: &mut BTreeMap<String, (i64, i128)>, row: &Map<String, Value>, cost: &str) {
    let says: Vec<Value> = SAYS
        .iter()
        .map(|name| row.get(*name).cloned().unwrap_or_default())
        .collect();
    let sum = sums.entry(Value::from(says).to_string()).or_default();
    sum.0 += row.get("tokens").and_then(Value::as_i64).unwrap_or(0);
    sum.1 += cost_of(row, cost);
}

async fn check(server: &Server, context: &str) {
    let calls = server
        .sql("SELECT call_id, own_cost FROM calls WHERE kind IN ('llm', 'embedding') AND input_tokens > 0")
        .await
        .unwrap();
    assert!(!calls.is_empty(), "{context}");
    let mut sums = BTreeMap::new();
    for call in &calls {
        let id = call["call_id"].as_str().unwrap();
        let answer = server.get(&format!("/api/v1/calls/{id}/pieces")).await.unwrap();
        let told = answer.json().unwrap();
        let told = &told["calls"][0];
        assert_eq!(told["is_exact"], true, "{context}: {told}");
        let pieces = told["pieces"].as_array().unwrap();
        let cost: i128 = pieces
            .iter()
            .map(|piece| cost_of(piece.as_object().unwrap(), "cost"))
            .sum();
        assert_eq!(cost, cost_of(call, "own_cost"), "{context}: {id}");
        for piece in pieces {
            add(&mut sums, piece.as_object().unwrap(), "cost");
        }
    }
    let mut lines = BTreeMap::new();
    let of_models = "SELECT * FROM ledger WHERE cause <> 'direct'";
    for line in server.sql(of_models).await.unwrap() {
        add(&mut lines, &line, "effective_cost");
    }
    lines.retain(|_, sum| *sum != (0, 0));
    sums.retain(|_, sum| *sum != (0, 0));
    assert_eq!(sums, lines, "{context}");
}

#[tokio::test]
async fn the_pieces_of_all_calls_are_the_lines_of_the_ledger() {
    for name in CAPTURES {
        let server = TestServer::start().await;
        server.post_all(&Capture::load(name).unwrap().bodies).await.unwrap();
        server.settled().await.unwrap();
        check(&server, name).await;
    }
}

#[tokio::test]
async fn divided_by_tokens_alone_they_are_too_and_trace_shows_them() {
    let folder = TempDir::new().unwrap();
    let environment = [("SPANLEDGER_COST_ATTRIBUTION", "blended")];
    let server = Server::start_with(BINARY, &data_of(&folder), &["serve"], &environment)
        .await
        .unwrap();
    server
        .post_all(&Capture::load("claude-code").unwrap().bodies)
        .await
        .unwrap();
    server.settled().await.unwrap();
    check(&server, "blended").await;
    let trace = server
        .sql_row("SELECT trace_id FROM calls WHERE kind = 'llm' AND own_cost > 0 LIMIT 1")
        .await
        .unwrap();
    let id = trace["trace_id"].as_str().unwrap();
    let at = server.addresses().http.clone();
    let text = run_ok(folder.path(), &["trace", id, "--pieces", "--url", &at]);
    for part in ["what each model call paid for", "again", "avoidable"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}
