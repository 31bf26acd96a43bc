//! What is refused runs nothing (S6): a foreign page or host, headers that say something else than the body, a body that
//! is too large or not whole, at every face of the running server.
//!
//! The audit log tells what ran. Beside it: the same at the protocol's own router, with counted tool runs
//! (`mcp-server/src/tests/envelope.rs`), tokens for another audience and tasks of others ([`crate::oauth`]), bodies that
//! never end ([`crate::floods`]).

use serde_json::{Value, json};
use spanledger_testkit::otlp::Signal;

use crate::support::{TestServer, run_ok};

/// A call of a tool as the current protocol has it.
fn call(tool: &str) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": tool, "arguments": {"query": "SELECT 1 AS ran"},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "refusals", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    }})
    .to_string()
}

/// The headers of such a call, with one of them as given.
fn headers<'h>(key: &'h str, tool: &'h str, other: (&'h str, &'h str)) -> Vec<(&'h str, &'h str)> {
    let own = [
        ("authorization", key),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", tool),
    ];
    let kept = own.into_iter().filter(|(name, _)| *name != other.0);
    kept.chain([other]).filter(|(name, _)| !name.is_empty()).collect()
}

#[tokio::test]
async fn what_is_refused_at_a_face_runs_nothing_and_stores_nothing() {
    let server = TestServer::start_with(&["serve", "--access", "required"]).await;
    let (data, home) = (server.data().to_str().unwrap(), server.data().parent().unwrap());
    let made = run_ok(
        home,
        &["keys", "create", "--role", "admin", "--format", "json", "--data", data],
    );
    let made: Value = serde_json::from_str(&made).unwrap();
    let key = format!("Bearer {}", made["key"].as_str().unwrap());
    let key = key.as_str();

    let tool = "run_sql";
    let (body, long) = (call(tool), format!("{}{}", call(tool), " ".repeat(1 << 20)));
    for (header, value, body, status) in [
        ("origin", "https://evil.example", &body, 403),
        ("origin", "null", &body, 403),
        ("host", "rebound.example", &body, 403),
        ("mcp-name", "query_costs", &body, 400),
        ("mcp-method", "tools/list", &body, 400),
        ("mcp-protocol-version", "2025-11-25", &body, 400),
        ("authorization", "Bearer eyJhbGciOiJub25lIn0.e30.", &body, 401),
        ("", "", &long, 413),
        ("", "", &"{\"jsonrpc\":".to_owned(), 400),
    ] {
        let answer = server
            .request("POST", "/mcp", body, &headers(key, tool, (header, value)))
            .await;
        // who has had enough may hang up before all of a long body is written
        let Ok(answer) = answer else {
            assert_eq!(status, 413, "{header}: {value}");
            continue;
        };
        assert_eq!(answer.status, status, "{header}: {value}: {}", answer.text());
    }
    let statement = json!({"query": "SELECT 1 AS ran"}).to_string();
    let long = json!({"query": "x".repeat(2 << 20)}).to_string();
    for (header, value, body, status) in [
        ("origin", "https://evil.example", &statement, 403),
        ("host", "rebound.example", &statement, 403),
        ("authorization", "Bearer sl_wrong", &statement, 401),
        ("", "", &long, 413),
    ] {
        let answer = server
            .request("POST", "/api/v1/sql", body, &headers(key, "", (header, value)))
            .await;
        let Ok(answer) = answer else {
            assert_eq!(status, 413, "{header}: {value}");
            continue;
        };
        assert_eq!(answer.status, status, "{header}: {value}: {}", answer.text());
    }
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos()
        .to_string();
    let span = json!({
        "traceId": "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1", "spanId": "a1a1a1a1a1a1a1a1", "name": "ran", "kind": 3,
        "startTimeUnixNano": now, "endTimeUnixNano": now,
    });
    let spans = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).to_string();
    for (header, value, status) in [
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("authorization", "Bearer sl_wrong", 401),
        ("content-encoding", "br", 415),
    ] {
        let answer = server
            .post_raw(
                Signal::Traces,
                spans.clone().into_bytes(),
                &headers(key, "", (header, value)),
            )
            .await
            .unwrap();
        assert_eq!(answer.status, status, "{header}: {value}: {}", answer.text());
    }

    // one of each that is taken, so that the search below can find something
    let answer = server
        .request("POST", "/mcp", &body, &headers(key, tool, ("", "")))
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = server
        .post_raw(Signal::Traces, spans.into_bytes(), &headers(key, "", ("", "")))
        .await
        .unwrap();
    assert_eq!(sent.status, 200, "{}", sent.text());
    let stored = json!({"query": "SELECT count(*) AS n FROM spans WHERE name = 'ran'", "format": "json"}).to_string();
    let stored = server
        .request("POST", "/api/v1/sql", &stored, &headers(key, "", ("", "")))
        .await
        .unwrap();
    assert_eq!(stored.json().unwrap(), json!([{"n": 1}]));
    let log = server
        .request("GET", "/api/v1/audit?limit=1000", "", &[("authorization", key)])
        .await
        .unwrap();
    let log = log.json().unwrap();
    let n_of = |action: &str| {
        let entries = log["entries"].as_array().unwrap().iter();
        entries
            .filter(|entry| entry["action"] == action && entry["outcome"] == "ok")
            .count()
    };
    assert_eq!((n_of("tools/call"), n_of("sql.query")), (1, 1), "{log}");
}
