//! The catalogue of tools on real traffic: it names tools as the ledger does, adds up to it, and the command of a
//! folder and of a server print the same.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use spanledger_testkit::captures::Capture;

use crate::support::{TestServer, data_of, run, run_ok};

async fn settled(capture: &str) -> TestServer {
    let server = TestServer::start().await;
    let capture = Capture::load(capture).unwrap();
    server.post_all(&capture.bodies).await.unwrap();
    server.settled().await.unwrap();
    server
}

fn pairs(rows: &[Map<String, Value>]) -> BTreeSet<(String, String)> {
    let text = |row: &Map<String, Value>, column: &str| row[column].as_str().unwrap_or_default().to_owned();
    rows.iter()
        .map(|row| (text(row, "server"), text(row, "tool")))
        .collect()
}

/// The catalogue's tools are the ledger's, but for one thing: what a conversation that shows no server calls by a bare
/// name has the server of the same definition elsewhere.
async fn check(capture: &str) {
    let server = settled(capture).await;
    let catalog = server
        .sql("SELECT DISTINCT server, tool FROM tool_catalog")
        .await
        .unwrap();
    let lines = "SELECT server, tool FROM ledger WHERE cause = 'definition' AND tool IS NOT NULL \
                 GROUP BY server, tool HAVING SUM(tokens) <> 0";
    let catalog = pairs(&catalog);
    let is_known_elsewhere = |(server, tool): &(String, String)| {
        server.is_empty() && catalog.iter().filter(|(_, known)| known == tool).count() == 1
    };
    let mut ledger = pairs(&server.sql(lines).await.unwrap());
    ledger.retain(|pair| catalog.contains(pair) || !is_known_elsewhere(pair));
    assert!(!catalog.is_empty(), "{capture}");
    assert_eq!(catalog, ledger, "{capture}");
    let sums = "SELECT COALESCE((SELECT SUM(context_tax) FROM tool_catalog), 0) = \
                COALESCE((SELECT SUM(effective_cost) FROM ledger WHERE cause = 'definition' AND tool IS NOT NULL), 0) AS same, \
                (SELECT COUNT(*) FROM tool_catalog WHERE bytes <= 0 OR seen < 1 OR first_seen > last_seen) AS wrong";
    let row = server.sql_row(sums).await.unwrap();
    assert_eq!(
        (&row["same"], &row["wrong"]),
        (&Value::from(true), &Value::from(0)),
        "{capture}"
    );
}

/// OpenCode states definitions from its second call on, whose made-up usage leaves them no tokens: the names are
/// compared with those of the calls.
#[tokio::test]
async fn the_catalogue_names_the_tools_of_opencode_as_they_are_called() {
    let server = settled("opencode").await;
    let catalog = pairs(&server.sql("SELECT server, tool FROM tool_catalog").await.unwrap());
    let called = "SELECT DISTINCT server, tool FROM calls WHERE kind = 'tool'";
    let called = pairs(&server.sql(called).await.unwrap());
    assert!(
        called.len() > 2 && called.is_subset(&catalog),
        "{called:?}, {catalog:?}"
    );
    let of_server = catalog.iter().filter(|(server, _)| server == "weather");
    let tools: Vec<&str> = of_server.map(|(_, tool)| tool.as_str()).collect();
    assert_eq!(tools, ["big_report", "crash", "get_alerts", "get_forecast"]);
    assert!(catalog.contains(&(String::new(), "bash".to_owned())), "{catalog:?}");
}

#[tokio::test]
async fn the_catalogue_names_the_tools_of_gemini_cli_as_the_ledger_does() {
    check("gemini-cli").await;
}

#[tokio::test]
async fn the_catalogue_names_the_tools_of_pydantic_ai_as_the_ledger_does() {
    check("pydantic-ai").await;
}

#[tokio::test]
async fn the_catalogue_names_the_tools_of_logfire_as_the_ledger_does() {
    check("logfire").await;
}

#[tokio::test]
async fn the_command_lists_never_called_tools_first_and_the_same_of_a_folder_and_a_server() {
    let server = settled("opencode").await;
    let url = server.addresses().http.clone();
    let (stopping, folder) = server.into_parts();
    let of_server = run_ok(folder.path(), &["tools", "--format", "json", "--url", &url]);
    let table = run_ok(folder.path(), &["tools", "--url", &url]);
    stopping.stop().await.unwrap();
    let data = data_of(&folder);
    let at = ["--data", data.to_str().unwrap()];
    let of_folder = run_ok(folder.path(), &[&["tools", "--format", "json"], &at[..]].concat());
    assert_eq!(of_server, of_folder);
    let rows: Vec<Value> = serde_json::from_str(&of_folder).unwrap();
    let calls: Vec<i64> = rows.iter().map(|row| row["calls"].as_i64().unwrap()).collect();
    let n_idle = calls.iter().filter(|calls| **calls == 0).count();
    assert!(n_idle > 0 && n_idle < calls.len(), "{calls:?}");
    assert!(calls[..n_idle].iter().all(|calls| *calls == 0), "{calls:?}");
    assert!(
        table.contains(&format!("{n_idle} of {} tools were never called", calls.len())),
        "{table}"
    );
    let idle = run_ok(
        folder.path(),
        &[&["tools", "--never-called", "--format", "json"], &at[..]].concat(),
    );
    assert_eq!(serde_json::from_str::<Vec<Value>>(&idle).unwrap().len(), n_idle);
    let later = run_ok(folder.path(), &[&["tools", "--since", "2100-01-01"], &at[..]].concat());
    assert!(later.contains("no such tools"), "{later}");
    let refused = run(folder.path(), &[&["tools", "--since", "someday"], &at[..]].concat());
    assert_eq!(refused.status.code(), Some(2));
}
