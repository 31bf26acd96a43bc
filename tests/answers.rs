//! What the tools of the MCP server answer on a demo lake: as long as a context can take, in both forms, and as their
//! output schemas say. Tokens are those of `o200k_base`; the judge of the schemas is ajv, which clients use too.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use spanledger_testkit::tools;

use crate::evaluations::{DEMO, ask};
use crate::support::TestServer;

/// Tokens of an answer that nobody asked to be long.
const DEFAULT_TOKENS_MAX: u64 = 2_000;
/// Tokens of any answer.
const TOKENS_MAX: u64 = 8_000;
/// Tokens of the list of tools.
const LIST_TOKENS_MAX: u64 = 4_000;

/// Calls whose answers are of the default length: what each tool has to be told and no more.
fn plain(trace: &str, session: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("query_costs", json!({})),
        ("query_costs", json!({ "by": ["team", "model", "tool"] })),
        ("query_costs", json!({ "by": ["team"], "interval": "hour" })),
        (
            "query_costs",
            json!({ "by": ["session_id"], "compare": "previous", "since": "2026-06-28" }),
        ),
        ("explain_change", json!({ "since": "2026-06-28" })),
        ("find_anomalies", json!({})),
        ("describe_data", json!({})),
        ("describe_data", json!({ "table": "calls" })),
        ("describe_data", json!({ "dimension": "session_id" })),
        ("tool_economics", json!({})),
        ("inspect_trace", json!({ "id": trace })),
        ("inspect_trace", json!({ "id": session })),
        ("find_savings", json!({})),
        ("forecast_spend", json!({})),
        ("run_sql", json!({ "query": "SELECT * FROM calls" })),
        (
            "run_sql",
            json!({ "query": "SELECT trace_id, span_id, parent_span_id FROM spans" }),
        ),
        ("create_report", json!({ "kind": "chargeback", "period": "2026-06" })),
        (
            "simulate_prices",
            json!({ "scenarios": [{ "name": "batch", "processing": "batch" }] }),
        ),
        (
            "set_budget",
            json!({ "name": "platform", "amount": "40", "confirm": true }),
        ),
        (
            "set_allocation_rule",
            json!({ "name": "search", "match": { "agent": "search-assistant" }, "set": { "team": "search" }, "confirm": true }),
        ),
    ]
}

/// The longest that can be asked for.
fn longest(trace: &str) -> Vec<(&'static str, Value)> {
    let detailed = "detailed";
    vec![
        (
            "query_costs",
            json!({ "by": ["session_id"], "limit": 500, "response_format": detailed }),
        ),
        (
            "query_costs",
            json!({ "by": ["team", "model"], "interval": "hour", "limit": 500, "response_format": detailed }),
        ),
        (
            "explain_change",
            json!({ "since": "2026-06-28", "by": ["session_id", "tool", "model"], "limit": 50, "response_format": detailed }),
        ),
        (
            "find_anomalies",
            json!({ "since": "2026-06-24", "until": "2026-06-30", "response_format": detailed }),
        ),
        ("tool_economics", json!({ "limit": 500 })),
        (
            "inspect_trace",
            json!({ "id": trace, "limit": 200, "payloads": true, "pieces": true }),
        ),
        ("run_sql", json!({ "query": "SELECT * FROM calls", "limit": 1000 })),
        (
            "run_sql",
            json!({ "query": "SELECT trace_id, span_id, parent_span_id FROM spans", "limit": 1000 }),
        ),
        ("run_sql", json!({ "query": "SELECT * FROM prices", "limit": 1000 })),
        (
            "simulate_prices",
            json!({ "scenarios": [{ "name": "batch", "processing": "batch" }], "by": ["session_id"], "limit": 500 }),
        ),
    ]
}

async fn first(server: &TestServer, sql: &str, column: &str) -> String {
    let rows = server.sql(sql).await.unwrap();
    rows[0][column].as_str().unwrap().to_owned()
}

#[tokio::test]
#[allow(
    clippy::print_stdout,
    reason = "the sizes are what a reader of the test's output looks for"
)]
async fn every_tool_answers_within_its_tokens_and_as_its_schema_says() {
    let server = TestServer::start_with(&DEMO).await;
    server.settled().await.unwrap();
    let by_size = "SELECT trace_id, count(*) AS n FROM spans GROUP BY trace_id ORDER BY n DESC LIMIT 1";
    let trace = first(&server, by_size, "trace_id").await;
    let by_size = "SELECT session_id, count(*) AS n FROM calls WHERE session_id IS NOT NULL GROUP BY session_id ORDER BY n DESC LIMIT 1";
    let session = first(&server, by_size, "session_id").await;

    let listed = ask(&server, "tools/list", None, json!({})).await;
    let listed = listed["tools"].as_array().unwrap();
    let schemas: BTreeMap<&str, &Value> = listed
        .iter()
        .map(|tool| (tool["name"].as_str().unwrap(), &tool["outputSchema"]))
        .collect();
    let (mut wrong, mut answers, mut limits) = (String::new(), Vec::new(), Vec::new());
    let calls = plain(&trace, &session)
        .into_iter()
        .map(|call| (call, DEFAULT_TOKENS_MAX));
    let calls = calls.chain(longest(&trace).into_iter().map(|call| (call, TOKENS_MAX)));
    for ((tool, arguments), tokens_max) in calls {
        let name = format!("{tool} {arguments}");
        let params = json!({ "name": tool, "arguments": arguments });
        let answer = ask(&server, "tools/call", Some(tool), params).await;
        let text = &answer["content"][0]["text"];
        if answer["isError"] == true {
            writeln!(wrong, "{name} failed: {text}").unwrap();
            continue;
        }
        let value = &answer["structuredContent"];
        answers.push(json!({ "name": name, "schema": schemas[tool], "text": text, "value": value }));
        limits.push(tokens_max);
    }
    for tool in schemas.keys() {
        let is_asked = answers
            .iter()
            .any(|one| one["name"].as_str().unwrap().starts_with(tool));
        assert!(is_asked, "{tool} was not asked: {wrong}");
    }
    // The list, and what shows that the judge judges.
    let list = Value::from(listed.clone()).to_string();
    answers.push(json!({ "name": "tools/list", "schema": { "type": "string" }, "text": list, "value": 1 }));
    limits.push(LIST_TOKENS_MAX);

    let file = server.data().join("answers.json");
    std::fs::write(&file, Value::from(answers).to_string()).unwrap();
    let judged = tools::run(tools::node("answers.cjs").unwrap().arg(&file))
        .await
        .unwrap();
    let judged: Vec<Value> = serde_json::from_str(&judged).unwrap();
    assert_eq!(judged.len(), limits.len());
    for (one, tokens_max) in judged.iter().zip(limits) {
        let (text, structured) = (one["text"].as_u64().unwrap(), one["structured"].as_u64().unwrap());
        let (name, errors) = (one["name"].as_str().unwrap(), one["errors"].as_str().unwrap());
        println!("{text:>5} {structured:>5} of {tokens_max}: {name}");
        assert!(text > 10, "{name} says nothing");
        if text.max(structured) > tokens_max {
            writeln!(
                wrong,
                "{name}: {text} tokens of text, {structured} structured, over {tokens_max}"
            )
            .unwrap();
        }
        if name == "tools/list" {
            assert!(errors.contains("must be string"), "{errors}");
        } else if !errors.is_empty() {
            writeln!(wrong, "{name}: {errors}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[tokio::test]
async fn the_cost_explorer_shows_an_answer_in_a_sandbox_and_loads_nothing() {
    let server = TestServer::start().await;
    let page = "ui://spanledger/cost-explorer";
    let read = ask(&server, "resources/read", Some(page), json!({ "uri": page })).await;
    assert_eq!(read["contents"][0]["mimeType"], "text/html;profile=mcp-app");
    let file = server.data().join("page.html");
    std::fs::write(&file, read["contents"][0]["text"].as_str().unwrap()).unwrap();
    let seen = tools::run(tools::node("cost_explorer.cjs").unwrap().arg(&file))
        .await
        .unwrap();
    let seen: Value = serde_json::from_str(&seen).unwrap();
    let told: Vec<&str> = seen["told"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(told[..2], ["ui/initialize", "ui/notifications/initialized"], "{seen}");
    assert!(told.contains(&"ui/notifications/size-changed"), "{seen}");
    assert_eq!(
        seen["cells"],
        json!([
            ["<img src=x onerror=alert(1)>", "5.25", "", "40672135"],
            ["(none)", "1.5", "", "2"],
            ["(total)", "6.75", "", "40672137"]
        ]),
        "{seen}"
    );
    assert_eq!(seen["widths"], json!(["100%", "28.57%"]), "{seen}");
    assert!(seen["narrowest"].as_u64().unwrap() > 60, "{seen}");
    assert!(seen["notes"].to_string().contains("<b>a note</b>"), "{seen}");
    assert_eq!((&seen["loaded"], &seen["images"]), (&json!([]), &json!(0)), "{seen}");
}
