//! OpenTelemetry SDKs of other languages export to us unchanged: default exporters, default settings, only the
//! address set. What they sent is in the tables, and the LLM call in it is priced.

use serde_json::Value;
use spanledger_testkit::tools;

use crate::support::{TestServer, decimal, int};

/// Runs one SDK over one protocol and looks for everything it sent.
async fn check(program: &str, protocol: &str) {
    let server = TestServer::start().await;
    let mut client = match program {
        "python" => tools::python("otel_sdk.py").unwrap(),
        _ => tools::node("otel_sdk.cjs").unwrap(),
    };
    let endpoint = match protocol {
        "grpc" => &server.addresses().otlp_grpc,
        _ => &server.addresses().otlp_http,
    };
    client
        .args([protocol, "run"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    let sent: Value = serde_json::from_str(&tools::run(&mut client).await.unwrap()).unwrap();
    let service = sent["service"].as_str().unwrap();
    let trace_id = sent["trace_id"].as_str().unwrap();
    server.settled().await.unwrap();

    let count = async |query: &str| {
        let row = server
            .sql_row(&format!("SELECT COUNT(*) AS n FROM {query}"))
            .await
            .unwrap();
        int(&row, "n")
    };
    let spans = format!("spans WHERE service = '{service}' AND trace_id = '{trace_id}'");
    assert_eq!(count(&spans).await, 3, "{program} {protocol}");
    let logs = format!("logs WHERE service = '{service}' AND event_name = 'question.answered'");
    assert_eq!(count(&logs).await, 1, "{program} {protocol}");
    // a reader exports at the flush and once more at the shutdown; JavaScript counts in doubles
    let points =
        format!("metrics WHERE service = '{service}' AND name = 'questions' AND COALESCE(value_int, value) = 3");
    assert!(count(&points).await >= 1, "{program} {protocol}");

    let call = server
        .sql_row("SELECT team, input_tokens, output_tokens, own_cost FROM calls WHERE kind = 'llm'")
        .await
        .unwrap();
    assert_eq!(call["team"], "sdk", "{program} {protocol}");
    assert_eq!(
        (int(&call, "input_tokens"), int(&call, "output_tokens")),
        (1200, 34),
        "{program} {protocol}"
    );
    assert!(decimal(&call, "own_cost").is_some(), "{program} {protocol}: {call:?}");
    assert_eq!(
        count("calls WHERE kind = 'tool' AND tool = 'search'").await,
        1,
        "{program} {protocol}"
    );
}

#[tokio::test]
async fn the_python_sdk_exports_over_grpc() {
    check("python", "grpc").await;
}

#[tokio::test]
async fn the_python_sdk_exports_over_http() {
    check("python", "http").await;
}

#[tokio::test]
async fn the_javascript_sdk_exports_over_grpc() {
    check("javascript", "grpc").await;
}

#[tokio::test]
async fn the_javascript_sdk_exports_protobuf_over_http() {
    check("javascript", "http-protobuf").await;
}

#[tokio::test]
async fn the_javascript_sdk_exports_json_over_http() {
    check("javascript", "http-json").await;
}
