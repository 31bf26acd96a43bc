//! What the engine refuses or bounds, end to end.

use std::time::Duration;

use spanledger_access::Principal;

use super::Fixture;
use crate::engine::QueryOptions;
use crate::error::ErrorKind;
use crate::limits::SQL_OPERATORS_MAX;

#[tokio::test]
async fn nothing_can_be_changed_and_nothing_outside_can_be_read() {
    let fixture = Fixture::filled().await;
    for sql in [
        "CREATE TABLE t AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'lake://tables/tables/calls'",
        "CREATE VIEW v AS SELECT 1",
        "CREATE SCHEMA s",
        "DROP TABLE calls",
        "DROP VIEW unpriced",
        "INSERT INTO calls SELECT * FROM calls",
        "DELETE FROM ledger",
        "UPDATE calls SET team = 'x'",
        "COPY calls TO '/tmp/spanledger-test.csv'",
        "COPY (SELECT 1) TO 'lake://tables/x.parquet'",
        "EXPLAIN COPY calls TO '/tmp/x'",
        "SET datafusion.execution.batch_size = 1",
        "PREPARE p AS SELECT 1",
        "SELECT 1; DROP TABLE calls",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM \"/etc/passwd\"",
        "SELECT * FROM 'lake://tables/tables/calls'",
        "SELECT * FROM other.public.calls",
        "SELECT * FROM lake.calls",
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT * FROM n",
    ] {
        let error = fixture.refusal(sql).await;
        assert_eq!(error.kind(), ErrorKind::Invalid, "{sql}: {}", error.detail());
    }
    assert_eq!(fixture.answer("SELECT COUNT(*) FROM calls").await, "6");
}

#[tokio::test]
async fn functions_that_make_data_are_bounded() {
    let fixture = Fixture::filled().await;
    for sql in [
        "SELECT repeat('x', 1000000000)",
        "SELECT length(repeat(repeat('x', 1000000), 1000000))",
        "SELECT repeat(name, 100000000) FROM spans",
        "SELECT lpad('x', 1000000000)",
        "SELECT rpad(name, 1000000000, 'y') FROM spans",
        "SELECT array_repeat(1, 1000000000)",
        "SELECT array_resize([1], 1000000000)",
        "SELECT range(1, 1000000000)",
        "SELECT generate_series(1, 1000000000)",
        "SELECT COUNT(*) FROM generate_series(1, 1000000000)",
        "SELECT COUNT(*) FROM range(1000000000000)",
    ] {
        let error = fixture.refusal(sql).await;
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{sql}: {}", error.detail());
    }
}

#[tokio::test]
async fn a_sum_of_two_thousand_terms_is_refused_and_the_largest_allowed_one_is_answered() {
    let fixture = Fixture::filled().await;
    let refused = fixture.refusal(&format!("SELECT 1{}", "+1".repeat(1_999))).await;
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    assert_eq!(
        fixture
            .answer(&format!("SELECT 1{}", "+1".repeat(SQL_OPERATORS_MAX)))
            .await,
        "501"
    );
    // Over a column, so that it is planned and run row by row, not folded into a constant.
    let columns = format!("SELECT COUNT(*) FROM calls WHERE hops{} > 0", "+hops".repeat(250));
    assert_eq!(fixture.answer(&columns).await, "6");
    let conditions = format!(
        "SELECT COUNT(*) FROM calls WHERE team = 'a'{}",
        " OR team = 'support'".repeat(240)
    );
    assert_eq!(fixture.answer(&conditions).await, "4");
    let unions = format!("SELECT COUNT(*) FROM (SELECT 1{})", " UNION ALL SELECT 1".repeat(150));
    assert_eq!(fixture.answer(&unions).await, "151");
    let nested = format!("SELECT {}1{}", "(".repeat(40), ")".repeat(40));
    assert_eq!(fixture.answer(&nested).await, "1");
}

#[tokio::test]
async fn rows_and_time_are_limited() {
    let fixture = Fixture::filled().await;
    let principal = Principal::local();
    let few = QueryOptions {
        rows_max: 2,
        ..QueryOptions::default()
    };
    let result = fixture
        .engine
        .sql(&principal, "SELECT * FROM calls", &few)
        .await
        .unwrap();
    assert!(result.truncated);
    assert_eq!(result.n_rows(), 2);
    let result = fixture
        .engine
        .sql(&principal, "SELECT * FROM calls LIMIT 2", &few)
        .await
        .unwrap();
    assert!(!result.truncated);

    let short = QueryOptions {
        timeout: Duration::from_millis(50),
        ..QueryOptions::default()
    };
    let endless = "SELECT COUNT(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b, generate_series(1, 1000000) c";
    let error = fixture.engine.sql(&principal, endless, &short).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(error.message().contains("longer than"), "{error}");
    assert_eq!(fixture.answer("SELECT 1").await, "1");
}
