//! The lake is open: the Python `deltalake` package, which knows nothing of us, reads every table, and finds the
//! rows and the sums that our own SQL gives.

use serde_json::Value;
use spanledger_testkit::captures::{self, Capture};
use spanledger_testkit::tools;

use crate::support::{TestServer, data_of, int, plain, run_ok};

/// Tables that the captures fill.
const FILLED: [&str; 6] = ["spans", "logs", "metrics", "observations", "calls", "ledger"];

#[tokio::test]
async fn the_deltalake_package_reads_the_same_rows_and_sums() {
    let server = TestServer::start().await;
    for name in captures::NAMES {
        let capture = Capture::load(name).unwrap();
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
