//! Pieces of model calls, recomputed: each call's sum to its cost, all calls' to the ledger's lines, end to end.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use spanledger_testkit::captures::Capture;
use spanledger_testkit::otlp::{Body, Encoding, Signal};
use spanledger_testkit::server::Server;
use tempfile::TempDir;

use crate::support::{BINARY, TestServer, data_of, int, plain, run_ok};

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

/// A call of claude-sonnet-4-5, which costs 6 USD a million in and 22.5 out above 200,000 input tokens, else 3 and 15; it
/// sends the definitions of two tools, a large one and a small one.
fn call_of(id: &str, conversation: &str, input: i64, start_ns: u128) -> Value {
    let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let count = |key: &str, value: i64| json!({ "key": key, "value": { "intValue": value.to_string() } });
    let tool = |name: &str, n: usize| json!({ "name": name, "description": "x ".repeat(n), "parameters": {} });
    let message = json!([{ "role": "user", "parts": [{ "type": "text", "content": "word ".repeat(8_000) }] }]);
    json!({
        "traceId": format!("{id}{id}"), "spanId": id, "name": "chat", "kind": 3,
        "startTimeUnixNano": start_ns.to_string(), "endTimeUnixNano": (start_ns + 1_000_000_000).to_string(),
        "attributes": [
            text("gen_ai.operation.name", "chat"),
            text("gen_ai.provider.name", "anthropic"),
            text("gen_ai.request.model", "claude-sonnet-4-5"),
            text("gen_ai.conversation.id", conversation),
            text("gen_ai.tool.definitions", &json!([tool("search", 20_000), tool("create", 150)]).to_string()),
            text("gen_ai.input.messages", &message.to_string()),
            count("gen_ai.usage.input_tokens", input),
            count("gen_ai.usage.output_tokens", OUTPUT),
        ],
    })
}

const OUTPUT: i64 = 100;
/// Conversations of a call each: its id, its name, and its input, above the tier or below.
const CONVERSATIONS: [(&str, &str, i64); 3] = [
    ("a1a1a1a1a1a1a1a1", "large", 210_000),
    ("b2b2b2b2b2b2b2b2", "small", 100_000),
    ("c3c3c3c3c3c3c3c3", "larger", 212_000),
];

/// What such a call costs, in femto-USD.
fn price(input: i64) -> i128 {
    let (read, written) = if input > 200_000 {
        (6_000_000_000, 22_500_000_000)
    } else {
        (3_000_000_000, 15_000_000_000)
    };
    i128::from(input) * read + i128::from(OUTPUT) * written
}

#[tokio::test]
async fn what_a_tool_would_have_saved_sees_that_a_call_falls_below_a_tier() {
    let server = TestServer::start().await;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    let calls = CONVERSATIONS.map(|(id, name, input)| call_of(id, name, input, now - 5_000_000_000));
    let spans = json!(calls);
    let resource = json!({ "attributes": [{ "key": "service.name", "value": { "stringValue": "agent" } }] });
    let body = json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "scope": {}, "spans": spans }] }] });
    let body = Body {
        signal: Signal::Traces,
        encoding: Encoding::Json,
        bytes: body.to_string().into_bytes(),
    };
    assert_eq!(server.post(&body).await.unwrap().status, 200);
    server.settled().await.unwrap();

    // The tokens of each tool in each call, as the ledger has them.
    let tokens = async |tool: &str, conversation: &str| {
        let sql = format!(
            "SELECT COALESCE(SUM(tokens), 0) AS n FROM ledger WHERE tool IN ({tool}) AND session_id = '{conversation}'"
        );
        int(&server.sql_row(&sql).await.unwrap(), "n")
    };
    let saved = async |tool: &str| {
        let mut saved = 0;
        for (_, name, input) in CONVERSATIONS {
            saved += price(input) - price(input - tokens(tool, name).await);
        }
        saved
    };
    let (search, create, both) = (
        saved("'search'").await,
        saved("'create'").await,
        saved("'search', 'create'").await,
    );
    let larger = tokens("'search'", "larger").await;
    assert!(
        212_000 - larger < 200_000,
        "without {larger} tokens it is below the tier"
    );
    assert!(search > 0 && create > 0 && both != search + create);

    let answer = server
        .get("/api/v1/costs?by=tool&measures=true")
        .await
        .unwrap()
        .json()
        .unwrap();
    let avoidable = |row: &Value| femto(row["avoidable"].as_str().unwrap());
    let row = |tool: &str| {
        let rows = answer["rows"].as_array().unwrap();
        rows.iter().find(|row| row["tool"] == tool).unwrap().clone()
    };
    assert_eq!(avoidable(&row("search")), search, "{answer}");
    assert_eq!(avoidable(&row("create")), create, "{answer}");
    assert_eq!(avoidable(&answer["total"]), both, "{answer}");
    assert!(search > femto(row("search")["cost"].as_str().unwrap()));
    assert_eq!(create, femto(row("create")["cost"].as_str().unwrap()));
    // One tool's filter, one conversation below the tier, and what a limit cuts off.
    let get = async |query: &str| {
        server
            .get(&format!("/api/v1/costs?{query}"))
            .await
            .unwrap()
            .json()
            .unwrap()
    };
    let filtered = get("by=&tool=search&measures=true").await;
    assert_eq!(avoidable(&filtered["total"]), search, "{filtered}");
    let small = get("by=tool&session_id=small&measures=true").await;
    let rows = small["rows"].as_array().unwrap();
    let of_tools: Vec<&Value> = rows.iter().filter(|row| !row["tool"].is_null()).collect();
    assert_eq!(of_tools.len(), 2, "{small}");
    assert!(of_tools.iter().all(|row| row["avoidable"] == row["cost"]), "{small}");
    let cut = get("by=tool&limit=1&measures=true").await;
    assert!(cut["other"]["avoidable"].is_null(), "{cut}");
    let at = server.addresses().http.clone();
    let folder = server.data().parent().unwrap();
    let text = run_ok(folder, &["costs", "--by", "tool", "--measures", "--url", &at]);
    assert!(text.contains("avoidable"), "{text}");
}
