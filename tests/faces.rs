//! Every face shows the same figures: the MCP Inspector, a browser and the command line, on the demo's data.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use spanledger_testkit::tools;

use crate::support::{BINARY, TestServer, plain, run_ok};

/// Enough of the demo for every team and tool to appear; the whole week only takes longer.
const DEMO: [&str; 3] = ["demo", "--days", "2"];

/// Where the Inspector keeps its list of servers.
const INSPECTOR_CONFIG: &str = "inspector.json";

/// Cost by team; a row without a team is `None`. Exact, without trailing zeros.
type CostByTeam = BTreeMap<Option<String>, String>;

/// The demo, sent and settled.
async fn demo() -> TestServer {
    let server = TestServer::start_with(&DEMO).await;
    server.settled().await.unwrap();
    server
}

/// What `spanledger costs --by team` says, and its total.
fn costs(server: &TestServer) -> (CostByTeam, String) {
    let arguments = [
        "costs",
        "--by",
        "team",
        "--format",
        "json",
        "--url",
        &server.addresses().http,
    ];
    let rows: Value = serde_json::from_str(&run_ok(server.data().parent().unwrap(), &arguments)).unwrap();
    let rows: CostByTeam = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["team"].as_str().map(str::to_owned),
                plain(row["cost"].as_str().unwrap()),
            )
        })
        .collect();
    let report: Value = serde_json::from_str(&run_ok(
        server.data().parent().unwrap(),
        &["costs", "--format", "json", "--url", &server.addresses().http],
    ))
    .unwrap();
    (rows, plain(report[0]["cost"].as_str().unwrap()))
}

/// Runs the Inspector's command line against an MCP server, `arguments` naming it and the method.
async fn inspect(folder: &Path, arguments: &[&str]) -> Value {
    let mut inspector = tools::npm_command("mcp-inspector").unwrap();
    inspector
        .env("MCP_CATALOG_PATH", folder.join(INSPECTOR_CONFIG))
        .args(["--cli", "--format", "json"])
        .args(arguments);
    let said = tools::run(&mut inspector).await.unwrap();
    let said: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    said["result"].clone()
}

/// The tools are listed, and `query_costs` by team gives the figures of the command line.
async fn check_mcp(folder: &Path, server: &[&str], expected: &CostByTeam, total: &str) {
    let listed = inspect(folder, &[server, &["--method", "tools/list"]].concat()).await;
    let names: Vec<&str> = listed["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    for name in ["describe_data", "query_costs", "run_sql"] {
        assert!(names.contains(&name), "{server:?}: {name} is not among {names:?}");
    }
    let call = [
        "--method",
        "tools/call",
        "--tool-name",
        "query_costs",
        "--tool-arg",
        r#"by=["team"]"#,
    ];
    let answer = inspect(folder, &[server, &call].concat()).await;
    let content = &answer["structuredContent"];
    assert_eq!(&cost_by_team(content), expected, "{server:?}: {answer}");
    assert_eq!(
        plain(content["total"]["cost"].as_str().unwrap()),
        total,
        "{server:?}: {answer}"
    );
    // some hosts forward the text alone
    assert!(
        answer["content"][0]["text"].as_str().unwrap().contains(total),
        "{server:?}: {answer}"
    );
}

/// Reads `{columns, rows}` as MCP answers have it.
fn cost_by_team(content: &Value) -> CostByTeam {
    let columns: Vec<&str> = content["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let place = |name: &str| columns.iter().position(|column| *column == name).unwrap();
    let (team, cost) = (place("team"), place("cost"));
    let rows = content["rows"].as_array().unwrap();
    rows.iter()
        .map(|row| {
            (
                row[team].as_str().map(str::to_owned),
                plain(row[cost].as_str().unwrap()),
            )
        })
        .collect()
}

#[tokio::test]
async fn the_inspector_lists_the_tools_and_gets_the_cost_by_team() {
    let server = demo().await;
    let folder = server.data().parent().unwrap();
    let (expected, total) = costs(&server);
    assert!(expected.len() >= 3, "the demo has three teams: {expected:?}");
    let url = format!("{}/mcp", server.addresses().http);
    for era in ["modern", "legacy"] {
        let over_http = [url.as_str(), "--transport", "http", "--protocol-era", era];
        check_mcp(folder, &over_http, &expected, &total).await;
    }
    // over stdio as a host starts it: by its entry in a configuration file
    let arguments = ["mcp", "--data", server.data().to_str().unwrap()];
    let config = serde_json::json!({"mcpServers": {"spanledger": {"command": BINARY, "args": arguments}}});
    std::fs::write(folder.join(INSPECTOR_CONFIG), config.to_string()).unwrap();
    let over_stdio = ["--server", "spanledger"];
    check_mcp(folder, &over_stdio, &expected, &total).await;
}

#[tokio::test]
async fn a_browser_shows_the_figures_of_the_command_line() {
    let server = demo().await;
    let (expected, total) = costs(&server);
    let mut browser = tools::node("dashboard.cjs").unwrap();
    browser
        .arg(format!("{}/?range=all&rows=all", server.addresses().http))
        .arg(tools::CHROMIUM);
    let shown: Value = serde_json::from_str(&tools::run(&mut browser).await.unwrap()).unwrap();
    let amount = |title: &Value| title.as_str().unwrap_or("").trim_end_matches(" USD").to_owned();
    assert_eq!(amount(&shown["spend"]), total, "{shown}");
    assert_eq!(amount(&shown["total"]), total, "{shown}");
    let rows: CostByTeam = shown["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["name"].as_str().map(str::to_owned).filter(|name| name != "(none)"),
                amount(&row["cost"]),
            )
        })
        .collect();
    assert_eq!(rows, expected, "{shown}");
}

#[tokio::test]
async fn an_empty_server_tells_the_browser_how_to_send_the_first_span() {
    let server = TestServer::start().await;
    let mut browser = tools::node("dashboard.cjs").unwrap();
    browser
        .arg(format!("{}/", server.addresses().http))
        .arg(tools::CHROMIUM);
    let shown: Value = serde_json::from_str(&tools::run(&mut browser).await.unwrap()).unwrap();
    let text = shown["text"].as_str().unwrap();
    assert!(text.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{text}");
}

#[tokio::test]
async fn a_page_of_another_site_is_refused_on_every_face() {
    let server = TestServer::start().await;
    for path in ["/", "/api/v1/status", "/mcp", "/healthz", "/metrics"] {
        for headers in [[("origin", "https://evil.example")], [("host", "evil.example")]] {
            let answer = server.post_http(path, "", &headers).await.unwrap();
            assert_eq!(answer.status, 403, "{path} {headers:?}");
        }
    }
}
