//! A month as a file: what the command line, REST and MCP hand over opens in the programs of its readers, adds up to
//! what `costs` tells, and is gone when it is deleted.

use std::path::Path;

use serde_json::{Value, json};
use spanledger_testkit::tools;

use crate::support::{TestServer, decimal, plain, run, run_ok};

const DEMO: [&str; 5] = ["demo", "--days", "2", "--end", "2026-06-30"];
const MONTH: &str = "2026-06";

/// What Python's csv, openpyxl, pypdf, pyarrow and html.parser read.
async fn read(file: &Path) -> Value {
    let mut reader = tools::python("read_report.py").unwrap();
    let said = tools::run(reader.arg(file)).await.unwrap();
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// One request of the 2026-07-28 protocol, and its answer with an error where it has one.
async fn mcp(server: &TestServer, method: &str, name: &str, mut parameters: Value) -> Value {
    parameters["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": parameters });
    let headers = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", method),
        ("mcp-name", name),
    ];
    let answer = server.post_http("/mcp", body.to_string(), &headers).await.unwrap();
    let text = answer.text();
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .map(str::trim);
    let message = lines.rev().find(|line| line.contains("\"id\":1")).unwrap_or(&text);
    serde_json::from_str(message).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Base 64 of RFC 4648.
fn decoded(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters: Vec<u8> = text.trim_end_matches('=').bytes().collect();
    let four = |letters: &[u8]| -> Vec<u8> {
        let value = |letter: &u8| u32::try_from(LETTERS.iter().position(|known| known == letter).unwrap()).unwrap();
        let bits = letters.iter().fold(0, |bits, letter| bits << 6 | value(letter)) << (6 * (4 - letters.len()));
        bits.to_be_bytes()[1..letters.len()].to_vec()
    };
    letters.chunks(4).flat_map(four).collect()
}

#[tokio::test]
async fn a_month_as_a_file_opens_in_every_format_and_adds_up_to_the_costs() {
    let server = TestServer::start_with(&DEMO).await;
    server.settled().await.unwrap();
    let sql = "SELECT SUM(effective_cost) AS cost FROM ledger WHERE time >= '2026-06-01' AND time < '2026-07-01'";
    let expected = decimal(&server.sql_row(sql).await.unwrap(), "cost").unwrap();
    assert!(
        expected.starts_with(|digit: char| ('1'..='9').contains(&digit)),
        "{expected}"
    );
    let folder = tempfile::tempdir().unwrap();
    let url = &server.addresses().http;
    for (kind, format, extension) in [
        ("chargeback", "xlsx", "xlsx"),
        ("chargeback", "pdf", "pdf"),
        ("chargeback", "csv", "csv"),
        ("chargeback", "html", "html"),
        ("chargeback", "markdown", "md"),
        ("chargeback", "json", "json"),
        ("focus", "csv", "csv"),
        ("focus", "parquet", "parquet"),
    ] {
        let file = folder.path().join(format!("{kind}.{extension}"));
        let name = file.to_str().unwrap();
        let arguments = [
            "report", kind, "--period", MONTH, "--format", format, "-o", name, "--url", url,
        ];
        run_ok(folder.path(), &arguments);
        let told = read(&file).await;
        assert_eq!(
            (plain(told["sum"].as_str().unwrap()), &told["total"]),
            (expected.clone(), &told["sum"]),
            "{file:?}"
        );
        for team in ["payments", "platform", "search"] {
            assert!(
                told["teams"].as_array().unwrap().iter().any(|told| told == team),
                "{told}"
            );
        }
    }
    // The folder itself gives the same statement, once the server has left it.
    let told = |text: String| {
        let mut told: Value = serde_json::from_str(&text).unwrap();
        told["facts"]["made at"].take();
        told
    };
    let arguments = ["report", "chargeback", "--period", MONTH, "--format", "json"];
    let by_server = told(run_ok(folder.path(), &[&arguments[..], &["--url", url]].concat()));
    let (server, data) = server.into_parts();
    server.stop().await.unwrap();
    let lake = crate::support::data_of(&data);
    let by_folder = told(run_ok(
        folder.path(),
        &[&arguments[..], &["--data", lake.to_str().unwrap()]].concat(),
    ));
    assert_eq!(by_server, by_folder);
    let refused = run(
        folder.path(),
        &[
            "report",
            "focus",
            "--period",
            MONTH,
            "--format",
            "pdf",
            "--data",
            lake.to_str().unwrap(),
        ],
    );
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("formats: csv, parquet"));
}

#[tokio::test]
async fn a_report_that_an_ai_client_made_is_the_same_file_over_mcp_and_rest_until_it_is_deleted() {
    let server = TestServer::start_with(&DEMO).await;
    server.settled().await.unwrap();
    let arguments = json!({ "kind": "chargeback", "period": MONTH, "format": "pdf", "team": "payments" });
    let made = mcp(
        &server,
        "tools/call",
        "create_report",
        json!({ "name": "create_report", "arguments": arguments }),
    )
    .await;
    let content = &made["result"]["structuredContent"];
    let sql = "SELECT SUM(effective_cost) AS cost FROM ledger WHERE team = 'payments'";
    let expected = decimal(&server.sql_row(sql).await.unwrap(), "cost");
    assert_eq!(content["total"].as_str().map(plain), expected, "{made}");
    let link = made["result"]["content"].as_array().unwrap().iter();
    let link = link.clone().find(|block| block["type"] == "resource_link").unwrap();
    assert_eq!(
        (&link["uri"], &link["mimeType"]),
        (&content["uri"], &json!("application/pdf"))
    );

    let uri = link["uri"].as_str().unwrap();
    let id = uri.strip_prefix("spanledger://reports/").unwrap();
    let read_by_mcp = mcp(&server, "resources/read", uri, json!({ "uri": uri })).await;
    let blob = read_by_mcp["result"]["contents"][0]["blob"].as_str().unwrap();
    let by_mcp = decoded(blob);
    let path = format!("/api/v1/reports/{id}");
    let by_rest = server.get(&path).await.unwrap();
    assert_eq!(by_rest.header("content-type"), Some("application/pdf"));
    assert_eq!(
        by_rest.header("content-disposition"),
        Some("attachment; filename=\"chargeback-2026-06.pdf\"")
    );
    assert_eq!(by_rest.body, by_mcp);
    let listed = server.get("/api/v1/reports").await.unwrap().json().unwrap();
    assert_eq!(link["size"], listed[0]["size_bytes"]);
    let file = server.data().parent().unwrap().join("payments.pdf");
    std::fs::write(&file, &by_mcp).unwrap();
    let told = read(&file).await;
    assert_eq!(told["teams"], json!(["payments"]));
    assert_eq!(told["sha256"], listed[0]["sha256"], "{listed}");
    assert_eq!(Some(plain(told["sum"].as_str().unwrap())), expected);

    let deleted = server.request("DELETE", &path, "", &[]).await.unwrap();
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    assert_eq!(server.get(&path).await.unwrap().status, 404);
    let gone = mcp(&server, "resources/read", uri, json!({ "uri": uri })).await;
    let unknown_uri = format!("spanledger://reports/{}", "0".repeat(32));
    let unknown = mcp(&server, "resources/read", &unknown_uri, json!({ "uri": unknown_uri })).await;
    assert_eq!(gone["error"]["message"], unknown["error"]["message"], "{gone}");
    let folder = server.data().join("reports").join(id);
    assert!(!folder.exists(), "the file is gone too");
}
