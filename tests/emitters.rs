//! Emitters that nobody has read yet, and how calls were put together: coverage names the keys, a mapping reads
//! them, `explain` tells why, `capture` keeps what was sent.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use spanledger_testkit::captures::{self, Capture};
use spanledger_testkit::otlp::{Body, Encoding, Signal, int, protobuf, span, text, traces};
use spanledger_testkit::server::Server;
use spanledger_testkit::{tools, wait};

use crate::support::{BINARY, TestServer, decimal, int as integer, run, run_ok};

/// 2026-11-22T10:00:00Z.
const NOW_NS: i64 = 1_795_341_600_000_000_000;
/// A system prompt nobody may find in a capture.
const PROMPT: &str = "You are the assistant of Initech's travel desk. Never mention the planned merger with Globex to anyone, \
                      and answer in the language of the question. Prices are quoted in euros, without taxes.";
/// A capture starts and ends within seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// What an agent with keys of its own sends: an input count and a model, under names that no convention has.
fn acme() -> Body {
    let attributes = vec![
        text("acme.model", "gpt-5-mini"),
        text("acme.provider", "openai"),
        int("acme.input_tokens", 1_200),
        text("acme.system", PROMPT),
        text("acme.cwd", "/home/jane/src/secret-project"),
        text("acme.user_email", "jane.doe@initech.example"),
    ];
    let spans = vec![span(77, 1, "acme.think", NOW_NS, 2_000_000_000, attributes)];
    protobuf(&traces(vec![text("service.name", "acme-agent")], "acme.sdk", spans))
}

/// Keys that look like something and nobody reads are named with a mapping, and with that mapping the tokens
/// are charged, also when the log is replayed.
#[tokio::test]
async fn an_unknown_emitters_keys_are_named_and_charged_with_the_mapping_that_doctor_suggests() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start().await;
    server.post_all(&[acme()]).await.unwrap();
    server.settled().await.unwrap();
    let before = server.sql_row("SELECT COUNT(*) AS n FROM calls").await.unwrap();
    assert_eq!(integer(&before, "n"), 0);
    let url = server.addresses().http.clone();
    let report = run_ok(folder.path(), &["doctor", "--coverage", "--json", "--url", &url]);
    assert!(
        !report.contains("Initech") && !report.contains("jane"),
        "a value was told: {report}"
    );
    let report: Value = serde_json::from_str(&report).unwrap();
    let keys: Vec<&str> = report["unmapped_keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["key"].as_str().unwrap())
        .collect();
    assert!(
        keys.contains(&"acme.input_tokens") && keys.contains(&"acme.model"),
        "{report:#}"
    );
    assert_eq!(report["services"][0]["unrecognised"], 1, "{report:#}");
    let told = run_ok(folder.path(), &["doctor", "--coverage", "--url", &url]);
    assert!(
        told.contains("acme.input_tokens") && told.contains("services = [\"acme-agent\"]"),
        "{told}"
    );

    let mapping = folder.path().join("my_acme_agent.toml");
    std::fs::write(&mapping, report["mappings"][0]["toml"].as_str().unwrap()).unwrap();
    let checked = run_ok(folder.path(), &["dialects", "check", "my_acme_agent.toml"]);
    assert!(checked.contains("my_acme_agent: can be used"), "{checked}");
    std::fs::write(
        folder.path().join("spanledger.toml"),
        "[dialects]\nfiles = [\"my_acme_agent.toml\"]\n",
    )
    .unwrap();
    let listed = run_ok(folder.path(), &["dialects", "list"]);
    assert!(listed.contains("my_acme_agent") && listed.contains("codex"), "{listed}");

    let data = folder.path().join("data");
    let mapping = mapping.to_str().unwrap();
    let with_mapping = [("SPANLEDGER_DIALECTS", mapping)];
    let mut server = Server::start_with(BINARY, &data, &["serve"], &with_mapping)
        .await
        .unwrap();
    server.post_all(&[acme()]).await.unwrap();
    server.kill().unwrap();
    let server = Server::start_with(BINARY, &data, &["serve"], &with_mapping)
        .await
        .unwrap();
    server.settled().await.unwrap();
    let call = server
        .sql_row("SELECT kind, dialects, input_tokens, own_cost, confidence FROM calls")
        .await
        .unwrap();
    assert_eq!(
        (&call["kind"], &call["dialects"]),
        (&"llm".into(), &"my_acme_agent".into())
    );
    assert_eq!(integer(&call, "input_tokens"), 1_200);
    assert!(decimal(&call, "own_cost").is_some_and(|cost| cost != "0"), "{call:?}");
    let report = server.get("/api/v1/coverage").await.unwrap().json().unwrap();
    assert_eq!(report["services"][0]["dialect"], "my_acme_agent", "{report:#}");
    let left = report["unmapped_keys"].as_array().unwrap();
    assert!(left.iter().all(|row| row["key"] != "acme.input_tokens"), "{report:#}");
}

/// A gateway's counters beside its clients' spans are charged too, for nothing tells that they are the same tokens;
/// the mapping of docs/counting.md leaves them out.
#[tokio::test]
async fn a_gateways_counters_are_left_out_by_the_mapping_that_the_documentation_gives() {
    let page = std::fs::read_to_string(spanledger_testkit::workspace().join("docs/counting.md")).unwrap();
    let (_, example) = page.rsplit_once("```toml\n").unwrap();
    let (mapping_text, _) = example.split_once("```").unwrap();
    let client = vec![
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.provider.name", "openai"),
        text("gen_ai.request.model", "gpt-5-mini"),
        int("gen_ai.usage.input_tokens", 700),
        int("gen_ai.usage.output_tokens", 30),
    ];
    let spans = vec![span(78, 1, "chat gpt-5-mini", NOW_NS, 2_000_000_000, client)];
    let point = |kind: &str, count: i64| {
        let value = |key: &str, text: &str| serde_json::json!({ "key": key, "value": { "stringValue": text } });
        serde_json::json!({
            "startTimeUnixNano": NOW_NS.to_string(), "timeUnixNano": (NOW_NS + 60_000_000_000).to_string(),
            "count": "1", "sum": count as f64, "bucketCounts": ["1"], "explicitBounds": [],
            "attributes": [value("gen_ai.operation.name", "chat"), value("gen_ai.provider.name", "openai"),
                value("gen_ai.request.model", "gpt-5-mini"), value("gen_ai.token.type", kind)] })
    };
    let counters = Body {
        signal: Signal::Metrics,
        encoding: Encoding::Json,
        bytes: serde_json::json!({ "resourceMetrics": [{
            "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": "my-gateway" } }] },
            "scopeMetrics": [{ "scope": { "name": "envoyproxy/ai-gateway" }, "metrics": [{
                "name": "gen_ai.client.token.usage",
                "histogram": { "aggregationTemporality": 1, "dataPoints": [point("input", 700), point("output", 30)] } }] }] }] })
        .to_string()
        .into_bytes(),
    };
    let bodies = [
        protobuf(&traces(vec![text("service.name", "client")], "sdk", spans)),
        counters,
    ];
    let folder = tempfile::tempdir().unwrap();
    let mapping = folder.path().join("my_gateway.toml");
    std::fs::write(&mapping, mapping_text).unwrap();
    let environments = [vec![], vec![("SPANLEDGER_DIALECTS", mapping.to_str().unwrap())]];
    for (environment, expected) in environments.iter().zip([1_400, 700]) {
        let data = folder.path().join(format!("data-{expected}"));
        let server = Server::start_with(BINARY, &data, &["serve"], environment)
            .await
            .unwrap();
        server.post_all(&bodies).await.unwrap();
        server.settled().await.unwrap();
        let tokens = server
            .sql_row("SELECT SUM(input_tokens) AS tokens, (SELECT COUNT(*) FROM metrics) AS points FROM calls")
            .await
            .unwrap();
        assert_eq!((integer(&tokens, "tokens"), integer(&tokens, "points")), (expected, 2));
    }
}

/// An emitter that sends nothing but counters: their names become rules.
#[tokio::test]
async fn an_unknown_emitters_counters_are_charged_with_the_mapping_that_doctor_suggests() {
    let point = |name: &str, count: i64| {
        serde_json::json!({ "name": name, "sum": { "aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [{
            "startTimeUnixNano": NOW_NS.to_string(), "timeUnixNano": (NOW_NS + 60_000_000_000).to_string(), "asInt": count.to_string(),
            "attributes": [{ "key": "acme.model", "value": { "stringValue": "gpt-5-mini" } }] }] } })
    };
    let body = Body {
        signal: Signal::Metrics,
        encoding: Encoding::Json,
        bytes: serde_json::json!({ "resourceMetrics": [{
            "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": "acme-counter" } }] },
            "scopeMetrics": [{ "scope": { "name": "acme.meter" },
                "metrics": [point("acme.input_tokens", 700), point("acme.output_tokens", 30)] }] }] })
        .to_string()
        .into_bytes(),
    };
    let server = TestServer::start().await;
    server.post_all([&body]).await.unwrap();
    server.settled().await.unwrap();
    let report = server.get("/api/v1/coverage").await.unwrap().json().unwrap();
    assert_eq!(report["services"][0]["unrecognised"], 2, "{report:#}");
    let folder = tempfile::tempdir().unwrap();
    let mapping = folder.path().join("mapping.toml");
    std::fs::write(&mapping, report["mappings"][0]["toml"].as_str().unwrap()).unwrap();
    let with_mapping = [("SPANLEDGER_DIALECTS", mapping.to_str().unwrap())];
    let data = folder.path().join("data");
    let server = Server::start_with(BINARY, &data, &["serve"], &with_mapping)
        .await
        .unwrap();
    server.post_all([&body]).await.unwrap();
    server.settled().await.unwrap();
    let sums = server
        .sql_row("SELECT SUM(input_tokens) AS input, SUM(output_tokens) AS output, SUM(own_cost) AS cost FROM calls WHERE kind = 'llm'")
        .await
        .unwrap();
    assert_eq!(
        (integer(&sums, "input"), integer(&sums, "output")),
        (700, 30),
        "{report:#}"
    );
    assert!(decimal(&sums, "cost").is_some_and(|cost| cost != "0"), "{sums:?}");
}

#[test]
fn a_dialect_file_that_is_wrong_is_refused_with_its_name_and_key() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("wrong.toml"),
        "name = \"x\"\nservices = [\"x\"]\n[keys]\ninptu = [\"a\"]\n",
    )
    .unwrap();
    std::fs::write(
        folder.path().join("spanledger.toml"),
        "[dialects]\nfiles = [\"wrong.toml\"]\n",
    )
    .unwrap();
    for arguments in [
        &["dialects", "check", "wrong.toml"][..],
        &["serve", "--http", "127.0.0.1:0"],
        &["dialects", "list"],
    ] {
        let output = run(folder.path(), arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(
            said.contains("wrong.toml") && said.contains("inptu"),
            "{arguments:?}: {said}"
        );
    }
    let output = run(folder.path(), &["config", "check"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_built_in_dialect_is_shown_as_the_file_to_copy() {
    let folder = tempfile::tempdir().unwrap();
    let shown = run_ok(folder.path(), &["dialects", "show", "fastmcp"]);
    std::fs::write(folder.path().join("copy.toml"), &shown).unwrap();
    run_ok(folder.path(), &["dialects", "check", "copy.toml"]);
    let capture = captures::folder("openinference");
    run_ok(
        folder.path(),
        &["dialects", "check", "copy.toml", "--capture", capture.to_str().unwrap()],
    );
    let output = run(folder.path(), &["dialects", "show", "nothing"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_capture_that_comes_to_something_else_than_its_ground_truth_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(captures::folder("fastmcp-gateway")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    run_ok(folder.path(), &["dialects", "check", "--capture", "copy"]);
    let truth = std::fs::read_to_string(copy.join("expected.json")).unwrap();
    std::fs::write(copy.join("expected.json"), truth.replace("4300", "4301")).unwrap();
    let output = run(folder.path(), &["dialects", "check", "--capture", "copy"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("DIFFERS") && said.contains("4301"), "{said}");
}

#[tokio::test]
async fn one_call_through_a_gateway_is_explained_with_its_nine_spans() {
    let server = TestServer::start().await;
    server
        .post_all(&Capture::load("fastmcp-gateway").unwrap().bodies)
        .await
        .unwrap();
    server.settled().await.unwrap();
    let call = server
        .sql_row("SELECT call_id, tool FROM calls WHERE kind = 'tool' AND array_length(observation_ids) = 9 ORDER BY start_ns LIMIT 1")
        .await
        .unwrap();
    let id = call["call_id"].as_str().unwrap();
    let url = server.addresses().http.clone();
    let folder = tempfile::tempdir().unwrap();
    let explain = |id: &str| -> Value {
        serde_json::from_str(&run_ok(
            folder.path(),
            &["explain", id, "--format", "json", "--url", &url],
        ))
        .unwrap()
    };
    let told = explain(id);
    let records = told["calls"][0]["observations"].as_array().unwrap();
    assert_eq!(records.len(), 9, "{told:#}");
    assert!(records.iter().all(|record| record["source"] == "span"), "{told:#}");
    let services: std::collections::BTreeSet<&str> =
        records.iter().filter_map(|record| record["service"].as_str()).collect();
    assert_eq!(services.len(), 3, "{services:?}");
    assert!(
        records.iter().skip(1).all(|record| record["depth"].as_u64() > Some(0)),
        "{told:#}"
    );
    assert_eq!(told["calls"][0]["settled"], true);
    // A hop's own time leaves out the hops within it, so the own times of all come to the whole.
    let hops = server
        .sql_row(&format!(
            "SELECT COUNT(*) AS n, SUM(self_ns) AS own, MAX(duration_ns) AS whole, COUNT(hop) AS named FROM hops WHERE call_id = '{id}'"
        ))
        .await
        .unwrap();
    assert!(
        integer(&hops, "n") > 4 && integer(&hops, "n") == integer(&hops, "named"),
        "{hops:?}"
    );
    assert!(
        (integer(&hops, "own") - integer(&hops, "whole")).abs() <= integer(&hops, "whole") / 100,
        "{hops:?}"
    );
    // The same call by the first digits of its id and by one of its spans.
    assert_eq!(explain(&id[..10]), told);
    let by_span = server
        .sql_row(&format!(
            "SELECT span_id FROM observations WHERE observation_id = {}",
            quoted(&records[8]["observation_id"])
        ))
        .await
        .unwrap();
    assert_eq!(explain(by_span["span_id"].as_str().unwrap()), told);
    let text = run_ok(folder.path(), &["explain", id, "--url", &url]);
    assert!(
        text.contains("where each field is from") && text.contains("hop_ancestry"),
        "{text}"
    );
    let output = run(folder.path(), &["explain", "ffffffffffff", "--url", &url]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ffffffffffff"));
}

fn quoted(value: &Value) -> String {
    format!("'{}'", value.as_str().unwrap())
}

/// A running `spanledger capture`; killed where a test fails.
struct Capturing(Child);

impl Drop for Capturing {
    fn drop(&mut self) {
        // best effort: it has ended in a test that passes
        let _ended = self.0.kill();
    }
}

async fn capturing(folder: &Path, extra: &[&str]) -> (Capturing, Value) {
    let ready = folder.join("ready.json");
    let child = Command::new(BINARY)
        .args([
            "capture",
            "taken",
            "--otlp-grpc",
            "127.0.0.1:0",
            "--otlp-http",
            "127.0.0.1:0",
            "--ready-file",
            "ready.json",
        ])
        .args(extra)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(folder.join("said")).unwrap())
        .spawn()
        .unwrap();
    let addresses = wait::until("the capture to listen", DEADLINE, async || {
        Ok(ready
            .exists()
            .then(|| serde_json::from_str(&std::fs::read_to_string(&ready).unwrap()).unwrap()))
    })
    .await
    .unwrap();
    (Capturing(child), addresses)
}

/// Ends it as Ctrl-C does and returns what it said.
async fn ended(folder: &Path, mut capturing: Capturing) -> String {
    let signalled = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -INT {}", capturing.0.id()))
        .status()
        .unwrap();
    assert!(signalled.success());
    let status = wait::until("the capture to end", DEADLINE, async || Ok(capturing.0.try_wait()?))
        .await
        .unwrap();
    let said = std::fs::read_to_string(folder.join("said")).unwrap();
    assert!(status.success(), "{status}: {said}");
    said
}

#[tokio::test]
async fn a_capture_keeps_what_an_sdk_sends_without_prose_and_can_be_checked() {
    let folder = tempfile::tempdir().unwrap();
    let (child, addresses) = capturing(folder.path(), &[]).await;
    let http = format!("http://{}", addresses["otlp_http"].as_str().unwrap());
    let grpc = format!("http://{}", addresses["otlp_grpc"].as_str().unwrap());
    for (protocol, endpoint) in [("http", &http), ("grpc", &grpc)] {
        let mut client = tools::python("otel_sdk.py").unwrap();
        client
            .args([protocol, protocol])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        tools::run(&mut client).await.unwrap();
    }
    let body = acme();
    let client = reqwest::Client::new();
    for _twice in 0..2 {
        let answer = client
            .post(format!("{http}/v1/traces"))
            .header("content-type", "application/x-protobuf")
            .header("authorization", "Bearer not-to-be-kept")
            .body(body.bytes.clone())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), 200);
    }
    let said = ended(folder.path(), child).await;
    assert!(said.contains("acme.input_tokens"), "{said}");

    let taken = folder.path().join("taken");
    let index = std::fs::read_to_string(taken.join("index.jsonl")).unwrap();
    let lines: Vec<Value> = index.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() >= 8, "three signals twice and two more: {index}");
    assert!(
        !index.to_lowercase().contains("authorization") && !index.contains("not-to-be-kept"),
        "{index}"
    );
    assert!(
        lines.iter().any(|line| line["transport"] == "grpc") && lines.iter().any(|line| line["user_agent"].is_string()),
        "{index}"
    );
    let mut twins = Vec::new();
    for line in &lines {
        let bytes = std::fs::read(taken.join(line["file"].as_str().unwrap())).unwrap();
        assert_eq!(line["bytes"], bytes.len(), "{line}");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for private in ["Initech", "merger", "jane", "initech.example"] {
            assert!(!text.contains(private), "{private} in {line}");
        }
        if text.contains("acme.system") {
            assert_eq!(bytes.len(), body.bytes.len());
            twins.push(bytes);
        }
    }
    assert!(twins.len() == 2 && twins[0] == twins[1], "equal bodies stay equal");
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(taken.join("expected.json")).unwrap()).unwrap();
    assert_eq!(
        (&expected["llm_calls"], &expected["input_tokens_total"]),
        (&2.into(), &2_400.into()),
        "{expected:#}"
    );
    assert!(
        std::fs::read_to_string(taken.join("README.md"))
            .unwrap()
            .contains("acme-agent")
    );
    let checked = run_ok(folder.path(), &["dialects", "check", "--capture", "taken"]);
    assert!(
        checked.contains("equal") && checked.contains("acme.input_tokens"),
        "{checked}"
    );
    let again = run(
        folder.path(),
        &[
            "capture",
            "taken",
            "--otlp-http",
            "127.0.0.1:0",
            "--otlp-grpc",
            "127.0.0.1:0",
        ],
    );
    assert_eq!(again.status.code(), Some(2), "a capture is not mixed with another");
}

#[tokio::test]
async fn a_capture_that_keeps_content_keeps_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (child, addresses) = capturing(folder.path(), &["--keep-content"]).await;
    let body = acme();
    let answer = reqwest::Client::new()
        .post(format!("http://{}/v1/traces", addresses["otlp_http"].as_str().unwrap()))
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "gzip")
        .body(body.gzip().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    ended(folder.path(), child).await;
    assert_eq!(
        std::fs::read(folder.path().join("taken/001-traces.pb")).unwrap(),
        body.bytes
    );
}
