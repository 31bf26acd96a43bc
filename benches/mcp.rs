//! P9 of `docs/performance.md`: how long an analyst's client waits for a tool of the MCP server.
//!
//! Starts the built binary on a lake and calls its tools over loopback, one at a time, as one client does. The
//! limit, in the same run, is `server/discover`, which reads no data: the protocol, HTTP and JSON alone. The lake
//! is one that `benches/settlement.rs` has made (a million model calls are about six million ledger lines).
//!
//! Run: `cargo bench -p spanledger --bench mcp -- FOLDER [--calls N]`. Prints a table, asserts nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark speaks on its terminal and stops where it cannot measure"
)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use spanledger_testkit::server::Server;

const BINARY: &str = env!("CARGO_BIN_EXE_spanledger");
/// Calls of each tool that are timed, after one that is not.
const CALLS_DEFAULT: usize = 100;
/// How long sums are waited for.
const SUMS_TIME: Duration = Duration::from_secs(20);
/// A question that takes longer is asked [`SLOW_CALLS`] times only.
const SLOW: Duration = Duration::from_secs(1);
const SLOW_CALLS: usize = 5;
const PROTOCOL: &str = "2026-07-28";

/// What is asked: a name for the table, the tool, its arguments.
fn questions() -> Vec<(&'static str, &'static str, Value)> {
    let (since, until) = ("2026-11-18", "2026-11-19");
    vec![
        ("total of all time", "query_costs", json!({})),
        (
            "total of six hours",
            "query_costs",
            json!({ "since": "2026-11-18T06:00:00Z", "until": "2026-11-18T12:00:00Z" }),
        ),
        (
            "by model, a day",
            "query_costs",
            json!({ "by": ["model"], "since": since, "until": until }),
        ),
        (
            "by team, tool and model, a day",
            "query_costs",
            json!({ "by": ["team", "tool", "model"], "since": since, "until": until }),
        ),
        (
            "by team, a day, hour by hour",
            "query_costs",
            json!({ "by": ["team"], "since": since, "until": until, "interval": "hour" }),
        ),
        (
            "by user, a day",
            "query_costs",
            json!({ "by": ["user_id"], "since": since, "until": until }),
        ),
        (
            "why half a day differs from the other",
            "explain_change",
            json!({ "since": "2026-11-18T12:00:00Z", "until": until, "baseline_since": since,
                    "baseline_until": "2026-11-18T12:00:00Z", "by": ["team"] }),
        ),
        (
            "tools of a day",
            "tool_economics",
            json!({ "since": since, "until": until }),
        ),
        ("what can be asked", "describe_data", json!({})),
        (
            "SQL over sums: cost by tool",
            "run_sql",
            json!({ "query": "SELECT tool, SUM(effective_cost) AS cost FROM rollup_hour GROUP BY tool ORDER BY cost DESC LIMIT 10" }),
        ),
        (
            "SQL: cost by tool",
            "run_sql",
            json!({ "query": "SELECT tool, SUM(effective_cost) AS cost FROM ledger GROUP BY tool ORDER BY cost DESC LIMIT 10" }),
        ),
    ]
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let n_calls = arguments
        .iter()
        .position(|argument| argument == "--calls")
        .and_then(|index| arguments.get(index + 1)?.parse().ok())
        .unwrap_or(CALLS_DEFAULT);
    let Some(folder) = arguments.first().filter(|argument| !argument.starts_with('-')) else {
        println!("P9 needs a lake: cargo bench -p spanledger-ledger --bench settlement -- 1000000 FOLDER");
        return;
    };
    let started = Instant::now();
    let server = Server::start(BINARY, &PathBuf::from(folder)).await.unwrap();
    println!("ready after {:.1} s", started.elapsed().as_secs_f64());
    let rows = server.sql_row("SELECT COUNT(*) AS n FROM ledger").await.unwrap();
    println!("{} ledger lines; {n_calls} calls each, one at a time", rows["n"]);
    // A server makes the sums of its files once it is asked for them: not a part of what is timed.
    let parameters = json!({ "name": "query_costs", "arguments": {} });
    let first = timed(&server, "tools/call", Some("query_costs"), &parameters, 1).await;
    println!("{:.0} ms before there are sums by hour", first[0].as_secs_f64() * 1e3);
    tokio::time::sleep(SUMS_TIME).await;
    let limit = timed(&server, "server/discover", None, &json!({}), n_calls).await;
    print("(limit) server/discover", &limit, &limit);
    for (label, tool, arguments) in questions() {
        let parameters = json!({ "name": tool, "arguments": arguments });
        let times = timed(&server, "tools/call", Some(tool), &parameters, n_calls).await;
        print(&format!("{tool}: {label}"), &times, &limit);
    }
}

/// Times of `n_calls` requests, shortest first.
async fn timed(server: &Server, method: &str, tool: Option<&str>, parameters: &Value, n_calls: usize) -> Vec<Duration> {
    let mut parameters = parameters.clone();
    parameters["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": PROTOCOL,
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": parameters }).to_string();
    let mut headers = vec![
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", PROTOCOL),
        ("mcp-method", method),
    ];
    headers.extend(tool.map(|tool| ("mcp-name", tool)));
    let mut times = Vec::with_capacity(n_calls);
    for turn in 0..=n_calls {
        let started = Instant::now();
        let answer = server.post_http("/mcp", body.clone(), &headers).await.unwrap();
        let took = started.elapsed();
        let text = answer.text();
        assert!(
            answer.status == 200 && !text.contains("\"isError\":true"),
            "{method} {tool:?}: {text}"
        );
        if turn > 0 {
            times.push(took);
        }
        if took > SLOW && turn >= SLOW_CALLS {
            break;
        }
    }
    times.sort_unstable();
    times
}

/// Median and 99th percentile, and the median's ratio to the limit's.
fn print(label: &str, times: &[Duration], limit: &[Duration]) {
    let at = |times: &[Duration], share: f64| {
        let index = ((times.len() - 1) as f64 * share).round() as usize;
        times[index].as_secs_f64() * 1e3
    };
    println!(
        "{label:50} p50 {:8.2} ms   p99 {:8.2} ms   {:6.1} x the limit",
        at(times, 0.5),
        at(times, 0.99),
        at(times, 0.5) / at(limit, 0.5)
    );
}
