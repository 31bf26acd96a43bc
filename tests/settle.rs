//! `spanledger settle`: in a folder and through a server, nothing where all is right, corrections where prices changed.

use serde_json::Value;
use spanledger_testkit::captures::Capture;
use spanledger_testkit::server::Server;

use crate::support::{BINARY, TestServer, data_of, decimal, run, run_ok};

const CONTRACT: &str = "provider,model,input,output\nanthropic,claude-*,1,5\n";
const RIGHT: &str = "nothing to write: calls and ledger are what the observations demand";

/// What `settle … --format json` did, as its numbers of calls, lines and reversals.
fn did(folder: &std::path::Path, arguments: &[&str]) -> [i64; 3] {
    let arguments = [&["settle", "--format", "json"], arguments].concat();
    let report: Value = serde_json::from_str(&run_ok(folder, &arguments)).unwrap();
    assert!(report["seconds"].is_f64() && report["settled"].is_u64(), "{report}");
    ["n_calls_written", "n_lines", "n_reversals"].map(|name| report[name].as_i64().unwrap())
}

#[tokio::test]
async fn a_rebuild_writes_nothing_where_all_is_right_and_corrections_where_prices_changed() {
    let server = TestServer::start().await;
    let capture = Capture::load("claude-code").unwrap();
    server.post_all(&capture.bodies).await.unwrap();
    let url = server.addresses().http.clone();
    let here = server.data().parent().unwrap().to_owned();
    let [n_calls, n_lines, _] = did(&here, &["--url", &url]);
    assert!(n_calls > 0 && n_lines > 0, "{n_calls} calls, {n_lines} lines");
    let through = run_ok(&here, &["settle", "--rebuild", "--url", &url]);
    assert!(through.starts_with(RIGHT), "{through}");
    let total = "SELECT SUM(effective_cost) AS cost, COUNT(*) AS n FROM ledger";
    let before = server.sql_row(total).await.unwrap();
    let busy = run(&here, &["settle", "--data", server.data().to_str().unwrap()]);
    assert_eq!(busy.status.code(), Some(5), "a folder that is served is the server's");
    assert!(String::from_utf8_lossy(&busy.stderr).contains("--url"));

    let (server, folder) = server.into_parts();
    server.stop().await.unwrap();
    let data = data_of(&folder);
    let at = ["--data", data.to_str().unwrap()];
    let offline = run_ok(folder.path(), &[&["settle", "--rebuild"], &at[..]].concat());
    assert!(offline.starts_with(RIGHT), "{offline}");
    std::fs::write(folder.path().join("contract.csv"), CONTRACT).unwrap();
    run_ok(
        folder.path(),
        &[&["prices", "import", "contract.csv"], &at[..]].concat(),
    );
    let rebuild = [&["--rebuild"], &at[..]].concat();
    let [n_calls, n_lines, n_reversals] = did(folder.path(), &rebuild);
    assert!(n_calls > 0 && n_reversals > 0 && n_lines > n_reversals);
    assert_eq!(did(folder.path(), &rebuild), [0, 0, 0], "the second time all is right");

    let server = Server::start(BINARY, &data).await.unwrap();
    let after = server.sql_row(total).await.unwrap();
    assert_ne!(decimal(&before, "cost"), decimal(&after, "cost"));
    let calls = server.sql_row("SELECT SUM(own_cost) AS cost FROM calls").await.unwrap();
    assert_eq!(decimal(&calls, "cost"), decimal(&after, "cost"));
}

#[tokio::test]
async fn settling_where_there_is_no_lake_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["settle", "--data", "nothing-here"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!folder.path().join("nothing-here").exists());
    let help = run_ok(folder.path(), &["settle", "--help"]);
    assert!(help.contains("Examples:") && help.contains("--rebuild"), "{help}");
}
