//! The command line as programs and people use it: exit codes, help, formats, import, settings.

use serde_json::Value;
use spanledger_testkit::captures;
use tempfile::TempDir;

use crate::support::{TestServer, plain, run, run_ok};

/// A folder with the capture `name` imported into `lake`.
fn imported(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = vec!["import".to_owned(), "--data".to_owned(), "lake".to_owned()];
    let mut files: Vec<_> = std::fs::read_dir(captures::folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let is_body = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().contains('-');
    arguments.extend(
        files
            .iter()
            .filter(|path| is_body(path))
            .map(|path| path.to_str().unwrap().to_owned()),
    );
    run_ok(folder.path(), &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    folder
}

#[test]
fn every_command_has_help_with_examples() {
    let folder = tempfile::tempdir().unwrap();
    let commands: [&[&str]; 24] = [
        &[],
        &["serve"],
        &["demo"],
        &["import"],
        &["sql"],
        &["costs"],
        &["trace"],
        &["explain"],
        &["dialects", "list"],
        &["dialects", "show"],
        &["dialects", "check"],
        &["capture"],
        &["prices", "list"],
        &["prices", "show"],
        &["lake", "stats"],
        &["lake", "verify"],
        &["doctor"],
        &["config", "show"],
        &["completions"],
        &["mcp"],
        &["keys", "create"],
        &["keys", "list"],
        &["keys", "revoke"],
        &["audit"],
    ];
    for command in commands {
        let help = run_ok(folder.path(), &[command, &["--help"]].concat());
        assert!(
            help.contains("Examples:") && help.contains("spanledger "),
            "{command:?}: {help}"
        );
    }
}

#[test]
fn exit_codes_tell_what_to_do_next() {
    let folder = tempfile::tempdir().unwrap();
    let check = |arguments: &[&str], expected: i32, said: &str| {
        let output = run(folder.path(), arguments);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(expected), "{arguments:?}: {complaint}");
        assert!(
            complaint.contains(said),
            "{arguments:?} does not name {said:?}: {complaint}"
        );
        assert!(
            output.stdout.is_empty(),
            "{arguments:?}: a failure prints nothing on standard output"
        );
    };
    check(&["nonsense"], 2, "nonsense");
    check(&["sql", "SELECT 1", "--data", "nowhere"], 2, "nowhere");
    check(&["costs", "--by", "colour", "--data", "nowhere"], 2, "");
    check(&["serve", "--http", "0.0.0.0:0"], 4, "--http");
    check(&["sql", "SELECT 1", "--url", "http://127.0.0.1:1"], 5, "127.0.0.1:1");
    std::fs::write(folder.path().join("bad.toml"), "[lake]\nflush_intervall_ms = 1\n").unwrap();
    check(&["--config", "bad.toml", "config", "check"], 2, "flush_intervall_ms");
}

#[test]
fn an_imported_capture_is_answered_in_every_format() {
    let folder = imported("claude-code");
    let sql = |format: &str| {
        let query = "SELECT kind, COUNT(*) AS n, SUM(own_cost) AS cost FROM calls WHERE kind = 'llm' GROUP BY kind";
        run(folder.path(), &["sql", query, "--data", "lake", "--format", format])
    };
    let text = |format: &str| String::from_utf8(sql(format).stdout).unwrap();
    let rows: Value = serde_json::from_str(&text("json")).unwrap();
    assert_eq!(
        (rows[0]["kind"].as_str(), rows[0]["n"].as_i64()),
        (Some("llm"), Some(6)),
        "{rows}"
    );
    assert_eq!(plain(rows[0]["cost"].as_str().unwrap()), "0.0513255");
    let line: Value = serde_json::from_str(text("ndjson").trim()).unwrap();
    assert_eq!(line, rows[0]);
    assert!(text("csv").starts_with("kind,n,cost"), "{}", text("csv"));
    assert!(text("markdown").contains("| llm"), "{}", text("markdown"));
    assert!(text("table").contains("0.0513255"), "{}", text("table"));
    assert_eq!(&sql("parquet").stdout[..4], b"PAR1");
    assert!(!sql("arrow").stdout.is_empty());
}

#[test]
fn a_lake_can_be_looked_into_without_a_server() {
    let folder = imported("fastmcp-gateway");
    let json = |arguments: &[&str]| -> Value {
        let arguments = [arguments, &["--data", "lake", "--format", "json"]].concat();
        serde_json::from_str(&run_ok(folder.path(), &arguments)).unwrap()
    };
    let costs = json(&["costs", "--by", "server,tool"]);
    assert!(costs.as_array().is_some_and(|rows| rows.len() > 1), "{costs}");
    let traces = json(&["sql", "SELECT trace_id FROM calls WHERE kind = 'llm' LIMIT 1"]);
    let trace = json(&["trace", traces[0]["trace_id"].as_str().unwrap()]);
    assert!(trace.to_string().contains("get_forecast"), "{trace}");
    let stats = json(&["lake", "stats"]);
    assert!(stats.to_string().contains("observations"), "{stats}");
    json(&["lake", "verify"]);
    let prices: Value = serde_json::from_str(&run_ok(
        folder.path(),
        &["prices", "show", "claude-sonnet-4-5", "--format", "json"],
    ))
    .unwrap();
    assert!(prices.to_string().contains("claude-sonnet-4-5"), "{prices}");
}

#[test]
fn an_import_repeated_changes_nothing() {
    let folder = imported("openinference");
    let totals = || {
        let query = "SELECT COUNT(*) AS n, SUM(input_tokens) AS input, SUM(own_cost) AS cost FROM calls";
        run_ok(folder.path(), &["sql", query, "--data", "lake", "--format", "json"])
    };
    let before = totals();
    let file = captures::folder("openinference").join("003-traces.pb");
    run_ok(folder.path(), &["import", file.to_str().unwrap(), "--data", "lake"]);
    assert_eq!(totals(), before);
}

#[test]
fn a_lake_is_never_changed_by_sql() {
    let folder = imported("claude-code");
    for statement in [
        "DELETE FROM calls",
        "CREATE TABLE t AS SELECT 1",
        "INSERT INTO calls SELECT * FROM calls",
        "COPY calls TO 'calls.csv'",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "SET datafusion.execution.batch_size = 1",
    ] {
        let output = run(folder.path(), &["sql", statement, "--data", "lake"]);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{statement}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn settings_say_where_they_come_from() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("spanledger.toml"),
        "[lake]\nflush_interval_ms = 777\n",
    )
    .unwrap();
    let shown: Value = serde_json::from_str(&run_ok(folder.path(), &["config", "show", "--format", "json"])).unwrap();
    let text = shown.to_string();
    assert!(text.contains("777") && text.contains("spanledger.toml"), "{text}");
    run_ok(folder.path(), &["config", "check"]);
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            run_ok(folder.path(), &["completions", shell]).contains("spanledger"),
            "{shell}"
        );
    }
}

#[tokio::test]
async fn the_doctor_finds_a_running_server_well() {
    let server = TestServer::start().await;
    let folder = server.data().parent().unwrap();
    let arguments = [
        "doctor",
        "--data",
        "data",
        "--url",
        &server.addresses().http,
        "--format",
        "json",
    ];
    let found: Value = serde_json::from_str(&run_ok(folder, &arguments)).unwrap();
    assert!(!found.to_string().is_empty());
}

#[tokio::test]
async fn a_folder_serves_one_process_at_a_time() {
    let server = TestServer::start().await;
    let folder = server.data().parent().unwrap();
    let ports = [
        "--http",
        "127.0.0.1:0",
        "--otlp-grpc",
        "127.0.0.1:0",
        "--otlp-http",
        "127.0.0.1:0",
    ];
    let output = run(folder, &[&["serve", "--data", "data"], &ports[..]].concat());
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{complaint}");
}

#[tokio::test]
async fn an_orderly_stop_loses_nothing_and_exits_with_0() {
    let server = TestServer::start().await;
    let capture = captures::Capture::load("claude-code").unwrap();
    server.post_all(&capture.bodies).await.unwrap();
    let (server, folder) = server.into_parts();
    assert!(server.stop().await.unwrap().success());
    let query = "SELECT COUNT(*) AS n FROM calls WHERE kind = 'llm'";
    let rows = run_ok(folder.path(), &["sql", query, "--data", "data", "--format", "json"]);
    let rows: Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(rows[0]["n"].as_i64(), Some(6), "{rows}");
}

#[tokio::test]
async fn a_server_and_its_folder_give_the_same_answer() {
    let server = TestServer::start().await;
    let capture = captures::Capture::load("openinference").unwrap();
    server.post_all(&capture.bodies).await.unwrap();
    server.settled().await.unwrap();
    let folder = server.data().parent().unwrap();
    let costs = |at: &[&str]| {
        let arguments = [&["costs", "--by", "provider,model", "--format", "json"], at].concat();
        serde_json::from_str::<Value>(&run_ok(folder, &arguments)).unwrap()
    };
    assert_eq!(costs(&["--url", &server.addresses().http]), costs(&["--data", "data"]));
}

#[test]
fn the_demo_comes_to_its_known_totals() {
    let folder = tempfile::tempdir().unwrap();
    let ports = [
        "--http",
        "127.0.0.1:0",
        "--otlp-grpc",
        "127.0.0.1:0",
        "--otlp-http",
        "127.0.0.1:0",
    ];
    let demo = [
        "demo",
        "--exit",
        "--json",
        "--days",
        "1",
        "--end",
        "2026-11-22",
        "--data",
        "demo",
    ];
    // exit 1 is its way to say that the ledger differs from what the generator planned
    let report: Value = serde_json::from_str(&run_ok(folder.path(), &[&demo, &ports[..]].concat())).unwrap();
    assert!(report.is_object(), "{report}");
}
