//! The lake is open: the Python `deltalake` package, which knows nothing of us, reads every table, and finds the
//! rows and the sums that our own SQL gives.

use std::sync::Arc;

use serde_json::Value;
use spanledger_lake::tables::Table;
use spanledger_lake::tables::raw::{SpanRow, SpansBuilder};
use spanledger_lake::{Commit, Lake, LakeOptions, Replay, TableRows, WalRecord};
use spanledger_model::Clock;
use spanledger_model::clock::SystemClock;
use spanledger_testkit::captures::{self, Capture};
use spanledger_testkit::tools;

use crate::support::{TestServer, data_of, int, plain, run_ok};

/// Tables that the captures fill.
const FILLED: [&str; 6] = ["spans", "logs", "metrics", "observations", "calls", "ledger"];

#[tokio::test]
async fn the_deltalake_package_reads_the_same_rows_and_sums() {
    let server = TestServer::start().await;
    for name in captures::names().unwrap() {
        let capture = Capture::load(&name).unwrap();
        server.post_all(&capture.bodies).await.unwrap();
    }
    server.settled().await.unwrap();
    let (server, folder) = server.into_parts();
    assert!(server.stop().await.unwrap().success());

    let mut reader = tools::python("read_lake.py").unwrap();
    let read = tools::run(reader.arg(data_of(&folder))).await.unwrap();
    let tables: Value = serde_json::from_str(&read).unwrap();
    for table in FILLED {
        assert!(
            tables[table]["rows"].as_i64().unwrap_or(0) > 0,
            "{table} has no rows for an outside reader: {read}"
        );
    }
    for (table, outside) in tables.as_object().unwrap() {
        let sums = outside["sums"].as_object().unwrap();
        // exact on both sides: integers are summed as decimals, for start_ns alone overflows a BIGINT
        let columns: String = sums
            .keys()
            .map(|name| format!(", SUM({}) AS {name}", exact(name)))
            .collect();
        let query = format!("SELECT COUNT(*) AS n_rows{columns} FROM {table}");
        let ours = run_ok(folder.path(), &["sql", &query, "--data", "data", "--format", "json"]);
        let ours: Value = serde_json::from_str(&ours).unwrap();
        let ours = ours[0].as_object().unwrap();
        assert_eq!(int(ours, "n_rows"), outside["rows"].as_i64().unwrap(), "{table}");
        for (name, sum) in sums {
            let text = |value: &Value| value.as_str().map(plain);
            assert_eq!(text(&ours[name]), text(sum), "SUM({table}.{name})");
        }
    }
}

/// A column as an exact decimal: money already is one.
fn exact(column: &str) -> String {
    match column.ends_with("_cost") {
        true => column.to_owned(),
        false => format!("CAST({column} AS DECIMAL(38, 0))"),
    }
}

/// Nanoseconds of sixty days, twice what raw spans are kept.
const LONG_AGO_NS: i64 = 60 * 86_400_000_000_000;

/// A clock that is sixty days behind.
#[derive(Debug)]
struct LongAgo;

impl Clock for LongAgo {
    fn now_ns(&self) -> i64 {
        SystemClock.now_ns() - LONG_AGO_NS
    }
}

/// A lake that was never written through its log.
struct NoReplay;

impl Replay for NoReplay {
    fn rows(&self, _: &WalRecord) -> spanledger_lake::Result<TableRows> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn what_is_past_its_days_is_gone_for_an_outside_reader() {
    let folder = tempfile::tempdir().unwrap();
    let options = LakeOptions {
        data_dir: folder.path().join("data"),
        ..LakeOptions::default()
    };
    let lake = Lake::open(options, Arc::new(LongAgo), &NoReplay).await.unwrap();
    let mut spans = SpansBuilder::default();
    let no_attributes: Vec<(String, String)> = Vec::new();
    let now_ns = SystemClock.now_ns();
    for (id, start_ns) in [(1, now_ns - LONG_AGO_NS), (2, now_ns - LONG_AGO_NS), (3, now_ns)] {
        spans.append(&SpanRow {
            tenant: "default",
            start_ns,
            duration_ns: 1,
            trace_id: &[id; 16],
            span_id: &[id; 8],
            parent_span_id: &[],
            name: "tools/call",
            kind: 1,
            status: "unset",
            status_message: "",
            service: None,
            scope: "",
            scope_version: "",
            trace_state: "",
            flags: 0,
            resource: &no_attributes,
        });
        spans.finish_row();
    }
    let commit = Commit {
        adds: vec![spans.finish()],
        operation: "WRITE",
        ..Commit::default()
    };
    lake.commit(Table::Spans, commit).await.unwrap();
    lake.shutdown().await.unwrap();
    drop(lake);

    let retain = |arguments: &[&str]| {
        let arguments = [&["lake", "retain", "--data", "data"], arguments].concat();
        run_ok(folder.path(), &arguments)
    };
    let planned = retain(&["--dry-run"]);
    assert!(planned.contains("would remove 1 files with 2 rows"), "{planned}");
    let report: Value = serde_json::from_str(&retain(&["--format", "json"])).unwrap();
    let of_spans = &report["tables"][0];
    assert_eq!((&of_spans["table"], &of_spans["keep"]), (&"spans".into(), &30.into()));
    assert_eq!((&of_spans["n_files"], &of_spans["n_rows"]), (&1.into(), &2.into()));
    assert!(retain(&[]).contains("nothing is past its days"));

    let mut reader = tools::python("read_lake.py").unwrap();
    let read = tools::run(reader.arg(data_of(&folder))).await.unwrap();
    let tables: Value = serde_json::from_str(&read).unwrap();
    assert_eq!(tables["spans"]["rows"], 1, "{read}");
}
