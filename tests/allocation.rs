//! Allocation rules over the whole way: attributes and rules in, restart with other rules, history moved by a
//! rebuild, sums unchanged, and every report naming the same groups.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use spanledger_testkit::otlp::{self, int, text};

use crate::support::{TestServer, data_of, decimal, plain, run, run_ok};

/// 2026-11-18T12:00:00Z: a Wednesday of an ordinary month.
const NOON_NS: i64 = 1_795_003_200_000_000_000;
const DAY_NS: i64 = 86_400_000_000_000;

const FIRST: &str = r#"
[[rules]]
name = "ci-keys"
match = { api_key = "ci-*" }
set = { team = "platform" }

[[rules]]
name = "books"
match = { team = "platform" }
set = { cost_center = "CC-100" }
"#;

/// The desk of growth is support's, from the 19th on; what CI spends is the tools team's.
const SECOND: &str = r#"
[[rules]]
name = "desk-moved"
match = { service = "desk", team = "growth" }
set = { team = "support" }
override = true
valid_from = 2026-11-19

[[rules]]
name = "ci-keys"
match = { api_key = "ci-*" }
set = { team = "tools" }

[[shared]]
name = "seats"
amount = 100
method = "even"
by = "team"

[[shared]]
name = "servers"
amount = "0.10"
per = "day"
weight = "llm_calls"
"#;

/// A model call of a service at a time, with whatever else its record says.
fn model_call(
    number: u64,
    start_ns: i64,
    more: Vec<otlp::proto::common::v1::KeyValue>,
) -> otlp::proto::trace::v1::Span {
    let mut attributes = vec![
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.provider.name", "openai"),
        text("gen_ai.request.model", "gpt-4o"),
        text("gen_ai.response.id", &format!("answer-{number}")),
        int("gen_ai.usage.input_tokens", 1_000 * i64::try_from(number).unwrap()),
        int("gen_ai.usage.output_tokens", 100),
    ];
    attributes.extend(more);
    otlp::span(number, number, "chat", start_ns, 1_000_000, attributes)
}

/// A server with six calls: growth before and after the 19th, CI's key, a cost centre, nobody's.
async fn filled() -> TestServer {
    let server = TestServer::start().await;
    let key = |name: &str| text("metadata.user_api_key_alias", name);
    let spans = vec![
        model_call(1, NOON_NS, vec![text("team.id", "growth")]),
        model_call(2, NOON_NS + DAY_NS, vec![text("team.id", "growth")]),
        model_call(3, NOON_NS, vec![key("ci-nightly")]),
        model_call(4, NOON_NS + DAY_NS, vec![key("ci-release")]),
        model_call(
            5,
            NOON_NS,
            vec![text("team.id", "payments"), text("spanledger.cost_center", "CC-7")],
        ),
        model_call(6, NOON_NS, vec![]),
    ];
    let request = otlp::traces(vec![text("service.name", "desk")], "test", spans);
    server.post_all([&otlp::protobuf(&request)]).await.unwrap();
    server.settled().await.unwrap();
    server
}

/// Cost by a column of a table.
async fn by(server: &TestServer, table: &str, column: &str) -> BTreeMap<String, String> {
    let sql = format!(
        "SELECT {column} AS value, SUM({}) AS cost FROM {table} GROUP BY 1",
        match table {
            "calls" => "own_cost",
            _ => "effective_cost",
        }
    );
    let rows = server.sql(&sql).await.unwrap();
    let value = |row: &Map<String, Value>| row["value"].as_str().unwrap_or("NULL").to_owned();
    rows.iter()
        .map(|row| (value(row), decimal(row, "cost").unwrap()))
        .filter(|(_, cost)| cost != "0")
        .collect()
}

fn costs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(value, cost)| ((*value).to_owned(), (*cost).to_owned()))
        .collect()
}

fn write(folder: &Path, text: &str) {
    std::fs::write(folder.join("allocation.toml"), text).unwrap();
}

/// gpt-4o: 2.5 in, 10 out per million; so call n costs n × 0.0025 + 0.001.
#[tokio::test]
async fn rules_move_cost_between_teams_and_never_change_its_sum() {
    let (mut server, folder) = filled().await.into_parts();
    server.kill().unwrap();
    let (data, at) = (data_of(&folder), folder.path());
    let data = data.to_str().unwrap();
    let sql = |query: &str| -> Vec<Map<String, Value>> {
        serde_json::from_str(&run_ok(at, &["sql", query, "--data", data, "--format", "json"])).unwrap()
    };
    let teams = |table: &str, cost: &str| -> BTreeMap<String, String> {
        let rows = sql(&format!("SELECT team, SUM({cost}) AS cost FROM {table} GROUP BY team"));
        let team = |row: &Map<String, Value>| row["team"].as_str().unwrap_or("NULL").to_owned();
        rows.iter()
            .map(|row| (team(row), decimal(row, "cost").unwrap()))
            .filter(|(_, cost)| cost != "0")
            .collect()
    };
    let both = |expected: &[(&str, &str)], when: &str| {
        assert_eq!(teams("ledger", "effective_cost"), costs(expected), "lines {when}");
        assert_eq!(teams("calls", "own_cost"), costs(expected), "calls {when}");
    };
    let as_said = [("growth", "0.0095"), ("payments", "0.0135"), ("NULL", "0.0355")];
    both(&as_said, "as the records say");

    // What would move is told before it moves, and nothing is written by asking.
    write(at, FIRST);
    let told: Value = serde_json::from_str(&run_ok(
        at,
        &[
            "allocation",
            "check",
            "allocation.toml",
            "--data",
            data,
            "--format",
            "json",
        ],
    ))
    .unwrap();
    assert_eq!(told["moves"][0]["from"], "__unallocated__", "{told}");
    assert_eq!(
        (&told["moves"][0]["to"], &told["moves"][0]["rule"]),
        (&"platform".into(), &"ci-keys".into())
    );
    assert_eq!(plain(told["moves"][0]["cost"].as_str().unwrap()), "0.0195");
    both(&as_said, "after a check");

    // Imported rules hold for what is settled from then on; a rebuild moves the rest.
    let printed = run_ok(at, &["allocation", "import", "allocation.toml", "--data", data]);
    assert!(
        printed.contains("+ rule ci-keys") && printed.contains("version v1-"),
        "{printed}"
    );
    run_ok(at, &["settle", "--rebuild", "--data", data]);
    both(
        &[
            ("growth", "0.0095"),
            ("payments", "0.0135"),
            ("platform", "0.0195"),
            ("NULL", "0.016"),
        ],
        "by the first version",
    );
    let rows = sql("SELECT cost_center, SUM(effective_cost) AS cost FROM ledger GROUP BY 1 ORDER BY 1 NULLS LAST");
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (row["cost_center"].as_str(), decimal(row, "cost").unwrap()))
        .collect();
    assert_eq!(
        shown,
        [
            (Some("CC-100"), "0.0195".into()),
            (Some("CC-7"), "0.0135".into()),
            (None, "0.0255".into())
        ]
    );

    // The second version: from its date, against the records, and a rule that says something else.
    write(at, SECOND);
    let printed = run_ok(at, &["allocation", "import", "allocation.toml", "--data", data]);
    assert!(
        printed.contains("~ rule ci-keys") && printed.contains("- rule books"),
        "{printed}"
    );
    run_ok(at, &["settle", "--rebuild", "--data", data]);
    both(
        &[
            ("growth", "0.0035"),
            ("payments", "0.0135"),
            ("support", "0.006"),
            ("tools", "0.0195"),
            ("NULL", "0.016"),
        ],
        "by the second version",
    );
    let reversed = sql("SELECT COUNT(*) AS n FROM ledger WHERE line_kind = 'reversal' AND team = 'platform'");
    assert!(reversed[0]["n"].as_i64().unwrap() > 0, "history moved by reversals");

    // Again changes nothing, and going back is as it was.
    let lines = sql("SELECT COUNT(*) AS n FROM ledger")[0]["n"].clone();
    run_ok(at, &["settle", "--rebuild", "--data", data]);
    assert_eq!(sql("SELECT COUNT(*) AS n FROM ledger")[0]["n"], lines);
    run_ok(at, &["allocation", "use", "v0", "--data", data]);
    run_ok(at, &["settle", "--rebuild", "--data", data]);
    both(&as_said, "without rules");
}

#[tokio::test]
async fn a_server_started_with_rules_allocates_by_them_and_every_report_names_the_same_groups() {
    let (mut server, folder) = filled().await.into_parts();
    server.kill().unwrap();
    let (data, at) = (data_of(&folder), folder.path().to_owned());
    write(&at, SECOND);
    run_ok(
        &at,
        &[
            "allocation",
            "import",
            "allocation.toml",
            "--data",
            data.to_str().unwrap(),
        ],
    );
    run_ok(&at, &["settle", "--rebuild", "--data", data.to_str().unwrap()]);
    let server = TestServer::on(folder).await;
    // A late record of a call that is new to the server.
    let late = model_call(7, NOON_NS, vec![text("metadata.user_api_key_alias", "ci-late")]);
    let request = otlp::traces(vec![text("service.name", "desk")], "test", vec![late]);
    server.post_all([&otlp::protobuf(&request)]).await.unwrap();
    server.settled().await.unwrap();
    let expected = costs(&[
        ("growth", "0.0035"),
        ("payments", "0.0135"),
        ("support", "0.006"),
        ("tools", "0.038"),
        ("__unallocated__", "0.016"),
    ]);

    assert_eq!(
        by(&server, "calls", "COALESCE(team, '__unallocated__')").await,
        expected
    );
    let url = server.addresses().http.clone();
    let of = |rows: &Value| -> BTreeMap<String, String> {
        let row = |row: &Value| {
            (
                row["team"].as_str().unwrap().to_owned(),
                plain(row["cost"].as_str().unwrap()),
            )
        };
        rows.as_array().unwrap().iter().map(row).collect()
    };
    let answer: Value = serde_json::from_str(&run_ok(
        &at,
        &["costs", "--by", "team", "--url", &url, "--format", "json"],
    ))
    .unwrap();
    assert_eq!(of(answer.get("rows").unwrap_or(&answer)), expected, "costs");
    let shown = run_ok(&at, &["costs", "--by", "team", "--url", &url]);
    assert!(
        shown.contains("__unallocated__") && !shown.contains("(none)"),
        "{shown}"
    );
    let nobody = run_ok(
        &at,
        &[
            "costs",
            "--where",
            "team=__unallocated__",
            "--by",
            "team",
            "--url",
            &url,
            "--format",
            "csv",
        ],
    );
    assert!(
        nobody.lines().nth(1).unwrap().starts_with("__unallocated__,0.016"),
        "{nobody}"
    );

    // Direct and shared cost of the month sum to both, exactly.
    let split = "SELECT kind, shared_cost, SUM(cost) AS cost FROM allocated_costs \
                 WHERE period = '2026-11' AND dimension = 'team' GROUP BY 1, 2 ORDER BY 1, 2";
    let rows = server.sql(split).await.unwrap();
    let sums: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["shared_cost"].as_str().unwrap_or("direct"),
                decimal(row, "cost").unwrap(),
            )
        })
        .collect();
    assert_eq!(
        sums,
        [
            ("direct", "0.077".into()),
            ("seats", "100".into()),
            ("servers", "3".into())
        ]
    );
    let printed = run_ok(&at, &["allocation", "split", "--period", "2026-11", "--url", &url]);
    // Four known teams share the seats; two of seven calls are growth's or support's, one each.
    for part in [
        "$25.0000",
        "exact total 103.077 USD",
        "servers: proportional to llm_calls",
        "seats: even",
        "rules v1-",
    ] {
        assert!(printed.contains(part), "{part} in\n{printed}");
    }

    // Which rule, how often, why; and what none matched.
    let told = run(&at, &["doctor", "--data", data.to_str().unwrap()]);
    let told = String::from_utf8(told.stdout).unwrap();
    for part in [
        "ci-keys decided 3 calls, $0.0380: api_key ci-* -> team=tools",
        "desk-moved decided 1 calls, $0.0060: service desk, team growth, from 2026-11-19 -> team=support",
        "1 calls, $0.0160, have team __unallocated__",
        "service=desk (1 calls",
    ] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
    let calls = server
        .sql("SELECT call_id FROM calls WHERE allocated_by = 'team=desk-moved<growth'")
        .await
        .unwrap();
    let id = calls[0]["call_id"].as_str().unwrap();
    let told = run_ok(&at, &["explain", id, "--url", &url]);
    assert!(
        told.contains("rule desk-moved, instead of growth: service is \"desk\", team is \"growth\""),
        "{told}"
    );
}

#[tokio::test]
async fn files_of_the_configuration_are_taken_in_at_start() {
    let (mut server, folder) = filled().await.into_parts();
    server.kill().unwrap();
    let data = data_of(&folder);
    let file = folder.path().join("allocation.toml");
    write(folder.path(), FIRST);
    let environment = [("SPANLEDGER_ALLOCATION", file.to_str().unwrap())];
    let start =
        || spanledger_testkit::server::Server::start_with(crate::support::BINARY, &data, &["serve"], &environment);
    for _ in 0..2 {
        let mut server = start().await.unwrap();
        server.kill().unwrap();
    }
    let versions = run_ok(
        folder.path(),
        &[
            "allocation",
            "versions",
            "--data",
            data.to_str().unwrap(),
            "--format",
            "json",
        ],
    );
    let versions: Vec<Value> = serde_json::from_str(&versions).unwrap();
    assert_eq!(
        versions.len(),
        2,
        "v0 and one version, however often it starts: {versions:?}"
    );
    assert_eq!(
        (&versions[1]["file"], &versions[1]["in_use"]),
        (&"allocation.toml".into(), &true.into())
    );
    std::fs::write(&file, "[[rules]]\nname = \"broken\"\n").unwrap();
    let refused = start().await;
    assert!(refused.is_err(), "a file that cannot be used is told at start");
}

#[tokio::test]
async fn rules_that_cannot_be_used_end_with_2_and_say_where() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "[[rules]]\nname = \"x\"\nmatch = { colour = \"red\" }\nset = { team = \"a\" }\n",
    );
    let output = run(folder.path(), &["allocation", "import", "allocation.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(
        complaint.contains("rule x: `colour` is no field of a call; fields: service"),
        "{complaint}"
    );
    assert!(!folder.path().join("spanledger-data").exists(), "nothing is written");
}
