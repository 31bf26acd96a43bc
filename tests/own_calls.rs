//! `serve` meters its own MCP calls: rows of `calls` below the caller's trace, for the caller's tenant, without loops.

use std::time::Duration;

use serde_json::json;
use spanledger_testkit::wait;

use crate::support::TestServer;

/// Longer than a batch of own calls waits on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const CALLS: &str = "SELECT kind, server, tool, mcp_method, client, trace_id, parent_span_id, status, error_type, \
    request_bytes, response_bytes FROM calls ORDER BY tool";

async fn call(server: &TestServer, tool: &str, arguments: &str) {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": tool,
        "arguments": serde_json::from_str::<serde_json::Value>(arguments).unwrap(),
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": { "name": "agent", "version": "1" },
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        },
    }});
    let headers = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", tool),
    ];
    let answer = server.post_http("/mcp", body.to_string(), &headers).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_call_of_our_mcp_server_is_a_row_of_calls_and_causes_no_other() {
    let server = TestServer::start().await;
    call(&server, "describe_data", "{}").await;
    call(&server, "run_sql", r#"{"query":"SELECT secret_word FROM calls"}"#).await;
    let rows = wait::until("both calls to be rows", PATIENCE, async || {
        server.settled().await?;
        let rows = server.sql(CALLS).await?;
        Ok((rows.len() >= 2).then_some(rows))
    })
    .await
    .unwrap();
    assert_eq!(rows.len(), 2, "{rows:?}");
    for (row, tool) in rows.iter().zip(["describe_data", "run_sql"]) {
        assert_eq!(row["kind"], "tool");
        assert_eq!(row["server"], "spanledger");
        assert_eq!(row["tool"], tool);
        assert_eq!(row["mcp_method"], "tools/call");
        assert_eq!(row["client"], "agent");
        assert_eq!(row["trace_id"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(row["parent_span_id"], "b7ad6b7169203331");
        assert!(row["response_bytes"].as_i64().unwrap() > 50, "{row:?}");
    }
    assert_eq!(rows[1]["status"], "error");
    assert_eq!(rows[1]["error_type"], "tool_error");
    let kept = server.sql("SELECT name, attributes FROM spans").await.unwrap();
    assert!(!format!("{kept:?}").contains("secret_word"), "{kept:?}");

    // What was written asked nothing: the log has what it had.
    let before = server.settled().await.unwrap()["acknowledged"].clone();
    call(&server, "describe_data", "{}").await;
    wait::until("the third call to be a row", PATIENCE, async || {
        server.settled().await?;
        Ok((server.sql(CALLS).await?.len() == 3).then_some(()))
    })
    .await
    .unwrap();
    let after = server.settled().await.unwrap()["acknowledged"].clone();
    assert_eq!(after.as_i64(), before.as_i64().map(|before| before + 1));
}

#[tokio::test]
async fn a_server_that_is_not_to_meter_itself_does_not() {
    let server = TestServer::start_in(&["serve"], &[("SPANLEDGER_MCP_METER", "false")]).await;
    call(&server, "describe_data", "{}").await;
    let (server, folder) = server.into_parts();
    assert!(server.stop().await.unwrap().success());
    let server = TestServer::on(folder).await;
    server.settled().await.unwrap();
    assert!(server.sql(CALLS).await.unwrap().is_empty());
}
