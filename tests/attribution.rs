//! What tools cost: the ledger's lines by cause, the views over them and every report agree, end to end.

use serde_json::{Map, Value};
use spanledger_testkit::captures::Capture;

use crate::support::{TestServer, decimal, int, plain, run_ok};

/// The conditions of a tool's line, as `tool_economics` has them.
const IS_TOOL_LINE: &str = "(tool IS NOT NULL OR cause IN ('call', 'definition', 'direct') \
                            OR (cause = 'result' AND resource_uri IS NULL))";

async fn settled(capture: &str) -> TestServer {
    let server = TestServer::start().await;
    let capture = Capture::load(capture).unwrap();
    server.post_all(&capture.bodies).await.unwrap();
    server.settled().await.unwrap();
    server
}

async fn row(server: &TestServer, sql: &str) -> Map<String, Value> {
    server.sql_row(sql).await.unwrap()
}

/// `spanledger costs --by …`, as rows.
fn costs(server: &TestServer, by: &[&str]) -> Vec<Value> {
    let at = ["--format", "json", "--url", &server.addresses().http];
    let arguments = [&["costs"], by, &at[..]].concat();
    let rows: Value = serde_json::from_str(&run_ok(server.data().parent().unwrap(), &arguments)).unwrap();
    rows.as_array().unwrap().clone()
}

/// Femto-USD of an exact decimal.
fn femto(text: &str) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let sign = if whole.starts_with('-') { -1 } else { 1 };
    whole.parse::<i128>().unwrap() * 10_i128.pow(15) + sign * format!("{fraction:0<15}").parse::<i128>().unwrap()
}

fn cost_of(row: &Value) -> i128 {
    row["cost"].as_str().map_or(0, |cost| femto(&plain(cost)))
}

#[tokio::test]
async fn what_tools_cost_adds_up_to_their_lines_and_with_the_rest_to_the_total() {
    let server = settled("claude-code").await;
    let tools = row(
        &server,
        "SELECT COUNT(*) AS n, SUM(lifetime_cost) AS cost, SUM(tokens) AS tokens, SUM(calls) AS calls, \
         SUM(COALESCE(direct, 0) + COALESCE(context_tax, 0) + COALESCE(first_touch, 0) + COALESCE(carry, 0) \
             + COALESCE(call_cost, 0)) AS parts, \
         COUNT(*) FILTER (WHERE idle_tax > context_tax) AS wrong FROM tool_economics",
    )
    .await;
    let lines = row(
        &server,
        &format!("SELECT SUM(effective_cost) AS cost, SUM(tokens) AS tokens FROM ledger WHERE {IS_TOOL_LINE}"),
    )
    .await;
    let calls = row(&server, "SELECT COUNT(*) AS n FROM calls WHERE kind = 'tool'").await;
    assert!(int(&tools, "n") > 0 && decimal(&tools, "cost").is_some(), "{tools:?}");
    assert_eq!(decimal(&tools, "cost"), decimal(&lines, "cost"));
    assert_eq!(decimal(&tools, "cost"), decimal(&tools, "parts"));
    assert_eq!(int(&tools, "tokens"), int(&lines, "tokens"));
    assert_eq!((int(&tools, "calls"), int(&tools, "wrong")), (int(&calls, "n"), 0));

    let everything = row(&server, "SELECT SUM(own_cost) AS cost FROM calls").await;
    let total = decimal(&everything, "cost").unwrap();
    assert_eq!(total, "0.0513255");
    let rest = row(
        &server,
        &format!("SELECT SUM(effective_cost) AS cost FROM ledger WHERE NOT {IS_TOOL_LINE}"),
    )
    .await;
    let sum = femto(&decimal(&tools, "cost").unwrap()) + femto(&decimal(&rest, "cost").unwrap());
    assert_eq!(sum, femto(&total));
    for by in [
        "tool",
        "server",
        "server,tool",
        "prompt",
        "resource_uri",
        "cause",
        "touch",
        "bucket",
        "method",
        "kind",
    ] {
        let rows = costs(&server, &["--by", by]);
        assert_eq!(rows.iter().map(cost_of).sum::<i128>(), femto(&total), "{by}: {rows:?}");
    }
    let forecast = costs(&server, &["--by", "tool"]);
    let forecast = forecast.iter().find(|row| row["tool"] == "get_forecast").unwrap();
    let same = row(
        &server,
        "SELECT SUM(lifetime_cost) AS cost, SUM(calls) AS calls FROM tool_economics WHERE tool = 'get_forecast'",
    )
    .await;
    assert!(cost_of(forecast) > 0, "{forecast}");
    assert_eq!(cost_of(forecast), femto(&decimal(&same, "cost").unwrap()));
    assert_eq!(forecast["calls"].as_i64(), Some(int(&same, "calls")));
}

#[tokio::test]
async fn a_report_by_method_says_how_surely_everything_is_divided() {
    let server = settled("claude-code").await;
    let shares = row(
        &server,
        "SELECT SUM(cost) AS cost, SUM(tokens) AS tokens, CAST(round(SUM(share) * 1000000) AS BIGINT) AS millionths, \
         COUNT(*) FILTER (WHERE method NOT IN ('content', 'bytes', 'counts', 'undivided')) AS unknown FROM cost_by_cause",
    )
    .await;
    let lines = row(
        &server,
        "SELECT SUM(effective_cost) AS cost, SUM(tokens) AS tokens FROM ledger",
    )
    .await;
    assert_eq!(decimal(&shares, "cost"), decimal(&lines, "cost"));
    assert_eq!(int(&shares, "tokens"), int(&lines, "tokens"));
    assert_eq!((int(&shares, "millionths"), int(&shares, "unknown")), (1_000_000, 0));
    let rows = costs(&server, &["--by", "method"]);
    assert!(rows.iter().all(|row| row["calls"].is_null()), "{rows:?}");
    // Claude Code tells the size of every result.
    assert!(
        rows.iter().any(|row| row["method"] == "bytes" && cost_of(row) > 0),
        "{rows:?}"
    );
}
