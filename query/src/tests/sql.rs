//! What SQL means here: names, ids, functions, views, hot and flushed rows.

use spanledger_lake::Table;
use spanledger_model::call::CallKind;

use super::{Fixture, MINUTE_NS, NOW_NS, call, spans};
use crate::error::ErrorKind;

#[tokio::test]
async fn hot_and_flushed_rows_are_one_table_and_none_is_seen_twice() {
    let fixture = Fixture::empty().await;
    assert_eq!(fixture.answer("SELECT COUNT(*) FROM spans").await, "0");
    let flushed = [call("default", 1, CallKind::Llm, NOW_NS, "a")];
    fixture
        .append("default", vec![(Table::Spans, spans("default", &flushed))])
        .await;
    assert_eq!(fixture.answer("SELECT COUNT(*) FROM spans").await, "2");
    fixture.lake.flush().await.unwrap();
    assert_eq!(fixture.answer("SELECT COUNT(*) FROM spans").await, "2");
    let hot = [call("default", 2, CallKind::Llm, NOW_NS + MINUTE_NS, "a")];
    fixture
        .append("default", vec![(Table::Spans, spans("default", &hot))])
        .await;
    assert_eq!(
        fixture
            .answer("SELECT name, COUNT(*) FROM spans GROUP BY name ORDER BY name")
            .await,
        "mine 1,1; mine 2,1; mine 9,2"
    );
    fixture.lake.flush().await.unwrap();
    assert_eq!(
        fixture
            .answer("SELECT COUNT(*), COUNT(DISTINCT span_id) FROM spans")
            .await,
        "4,3"
    );
}

#[tokio::test]
async fn ids_are_hex_and_a_hex_filter_finds_its_row_in_files_and_hot() {
    let fixture = Fixture::filled().await;
    for _ in 0..2 {
        let by_span = "SELECT name, trace_id, parent_span_id FROM spans WHERE span_id = '0000000000000003'";
        assert_eq!(
            fixture.answer(by_span).await,
            "mine 3,07070707070707070707070707070707,0000000000000001"
        );
        for (condition, expected) in [
            ("span_id IN ('0000000000000003', '0000000000000004')", "2"),
            (
                "span_id <> '0000000000000003' AND trace_id = '07070707070707070707070707070707'",
                "4",
            ),
            ("span_id LIKE '%03'", "1"),
            ("upper(span_id) = '0000000000000003'", "1"),
            ("parent_span_id IS NULL", "2"),
            ("span_id = 'nonsense'", "0"),
            ("NOT (span_id = 'nonsense')", "6"),
            ("links[1]['span_id'] = '0000000000000003'", "1"),
        ] {
            let sql = format!("SELECT COUNT(*) FROM spans WHERE {condition}");
            assert_eq!(fixture.answer(&sql).await, expected, "{condition}");
        }
        assert_eq!(
            fixture
                .answer("SELECT observation_ids FROM calls WHERE kind = 'tool'")
                .await,
            "\"[\"\"03030303030303030303030303030303\"\"]\""
        );
        fixture.lake.flush().await.unwrap();
    }
}

#[tokio::test]
async fn a_filter_on_an_id_or_a_time_reaches_the_file_scan() {
    let fixture = Fixture::filled().await;
    fixture.lake.flush().await.unwrap();
    let plan = fixture
        .answer("EXPLAIN SELECT name FROM spans WHERE span_id = '0000000000000003' AND time > '2026-11-01T00:00:00Z'")
        .await;
    assert!(plan.contains("pruning_predicate"), "{plan}");
    assert!(plan.contains("span_id_min") && plan.contains("time_max"), "{plan}");
    assert!(!plan.contains("id_hex"), "{plan}");
    let plan = fixture
        .answer("EXPLAIN SELECT name FROM spans WHERE time > '2027-01-01T00:00:00Z'")
        .await;
    assert!(plan.contains("EmptyExec"), "{plan}");
    let plan = fixture
        .answer("EXPLAIN SELECT name FROM spans WHERE time > now() - INTERVAL '7 days'")
        .await;
    assert!(plan.contains("time_max"), "{plan}");
}

#[tokio::test]
async fn attributes_are_read_by_key() {
    let fixture = Fixture::filled().await;
    let sql = "SELECT attributes['http.route'], resource['service.name'], attributes['none'] FROM spans LIMIT 1";
    assert_eq!(fixture.answer(sql).await, "mine,desk,");
    let sql = "SELECT COUNT(*) FROM spans WHERE attributes['http.route'] = 'mine'";
    assert_eq!(fixture.answer(sql).await, "6");
}

#[tokio::test]
async fn our_functions_answer() {
    let fixture = Fixture::filled().await;
    for (sql, expected) in [
        ("SELECT cost_round(0.12345, 3)", "0.123"),
        ("SELECT cost_round(SUM(effective_cost), 2) FROM ledger", "12.61"),
        (
            "SELECT cost_round(effective_cost, 2) FROM ledger WHERE bucket = 'cache_read'",
            "0",
        ),
        (
            "SELECT time_bucket('1 day', time), COUNT(*) FROM calls WHERE kind = 'tool' GROUP BY 1",
            "2026-11-21T00:00:00Z,1",
        ),
        (
            "SELECT time_bucket('1 week', time) FROM calls WHERE kind = 'tool'",
            "2026-11-16T00:00:00Z",
        ),
        (
            "SELECT time_bucket('1 month', time) FROM calls WHERE kind = 'tool'",
            "2026-11-01T00:00:00Z",
        ),
        (
            "SELECT time_bucket(INTERVAL '15 minutes', time) FROM calls WHERE kind = 'tool'",
            "2026-11-21T10:00:00Z",
        ),
        (
            "SELECT price('anthropic', 'claude-sonnet-4-5', '2026-11-01', 1000, 100)",
            "0.0045",
        ),
        (
            "SELECT price('anthropic', 'claude-sonnet-4-5', now(), 1000, 100, 1000)",
            "0.0018",
        ),
        ("SELECT price('nobody', 'in-house-7b', now(), 1000, 100)", ""),
        ("SELECT now()", "2026-11-22T10:00:00Z"),
        (
            "SELECT approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ns) FROM calls WHERE kind = 'tool'",
            "3000.0",
        ),
        (
            "SELECT 0.5 * SUM(effective_cost) FROM ledger WHERE bucket = 'cache_read'",
            "0.0006",
        ),
        (
            "SELECT SUM(effective_cost) / SUM(tokens) FROM ledger WHERE bucket = 'cache_read'",
            "0.0000003",
        ),
        ("SELECT COUNT(*) FROM generate_series(1, 1000)", "1000"),
        ("SELECT lpad('x', 3, '.')", "..x"),
    ] {
        assert_eq!(fixture.answer(sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn views_sum_what_the_tables_hold() {
    let fixture = Fixture::filled().await;
    for (sql, expected) in [
        (
            "SELECT provider, model, calls, tokens, input_tokens, output_tokens FROM unpriced",
            "anthropic,in-house-7b,1,550,500,50",
        ),
        (
            "SELECT session_id, team, agent, calls, llm_calls, tool_calls, errors, input_tokens, output_tokens, total_cost, unpriced_calls FROM sessions",
            "session-1,,triage,6,4,1,1,5510,258,12.607200500000001,1",
        ),
        (
            "SELECT trace_id, name, n_spans, calls, llm_calls, tool_calls, errors, total_cost, unpriced_calls FROM traces ORDER BY trace_id",
            "07070707070707070707070707070707,mine 1,5,4,2,1,1,0.107200500000001,0; 08080808080808080808080808080808,mine 5,1,1,1,0,0,,1",
        ),
        (
            "SELECT server, tool, calls, errors, p95_duration_ns, lifetime_cost, idle_tax FROM tool_economics",
            "tickets,search,1,1,3000,,",
        ),
        (
            "SELECT dialect, service, scope, records, recognised, unrecognised, records_with_tokens FROM coverage ORDER BY service",
            "gen_ai,desk,gen_ai,6,6,0,4; ,mine,mine,6,0,6,0",
        ),
        (
            "SELECT DISTINCT usd, per FROM prices WHERE provider = 'anthropic' AND model = 'claude-sonnet-4-5' AND unit = 'input_tokens' AND context IS NULL AND above_input_tokens IS NULL",
            "3,1M tokens",
        ),
        (
            "SELECT acknowledged_at, committed_sequence FROM freshness",
            "2026-11-22T10:00:00Z,0",
        ),
    ] {
        assert_eq!(fixture.answer(sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn the_catalog_describes_itself() {
    let fixture = Fixture::filled().await;
    let tables = fixture.answer("SHOW TABLES").await;
    for name in crate::views::table_names() {
        assert!(
            tables.contains(&format!("spanledger,public,{name},")),
            "{name} in {tables}"
        );
        let columns = fixture.answer(&format!("DESCRIBE {name}")).await;
        assert!(!columns.contains("Binary"), "{name}: {columns}");
    }
    let columns =
        "SELECT data_type FROM information_schema.columns WHERE table_name = 'calls' AND column_name = 'call_id'";
    assert_eq!(fixture.answer(columns).await, "Utf8");
    assert_eq!(
        fixture.answer("SELECT table_type FROM information_schema.tables WHERE table_name IN ('calls', 'traces') ORDER BY table_name").await,
        "BASE TABLE; VIEW"
    );
}

#[tokio::test]
async fn a_wrong_name_is_answered_with_the_right_one() {
    let fixture = Fixture::filled().await;
    for (sql, kind, part) in [
        ("SELECT * FROM cals", ErrorKind::Invalid, "did you mean `calls`?"),
        ("SELECT * FROM cals", ErrorKind::Invalid, "tables: calls, ledger"),
        ("SELECT teem FROM calls", ErrorKind::Invalid, "did you mean `team`?"),
        ("SELECT SUM(cost) FROM ledger", ErrorKind::Invalid, "effective_cost"),
        ("SELECT fooo(team) FROM calls", ErrorKind::Invalid, "fooo"),
        ("SELEC 1", ErrorKind::Invalid, "SELEC"),
        ("SELECT 1 / 0", ErrorKind::Invalid, "zero"),
        ("SELECT CAST('x' AS INT)", ErrorKind::Invalid, "x"),
        ("", ErrorKind::Invalid, "no statement"),
        ("SELECT time_bucket(1, time) FROM calls", ErrorKind::Invalid, "'1 day'"),
    ] {
        let error = fixture.refusal(sql).await;
        assert_eq!(error.kind(), kind, "{sql}: {error}");
        assert!(error.message().contains(part), "{sql}: {error}");
        assert!(!error.message().contains("DataFusion"), "{sql}: {error}");
    }
}

#[tokio::test]
async fn every_statement_of_the_guides_is_answered() {
    let guides = [
        include_str!("../../../docs/sql.md"),
        include_str!("../../../docs/attribution.md"),
    ];
    let blocks = guides
        .iter()
        .flat_map(|guide| guide.split("```sql\n").skip(1))
        .filter_map(|rest| rest.split("```").next());
    let statements: Vec<&str> = blocks
        .flat_map(|block| block.split(";\n"))
        .map(str::trim)
        .filter(|sql| !sql.is_empty())
        .collect();
    assert!(statements.len() >= 5, "{statements:?}");
    let fixture = Fixture::filled().await;
    for sql in statements {
        fixture.answer(sql).await;
    }
}
