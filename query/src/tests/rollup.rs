//! Sums by hour: with some, all or none of them, every question has the same answer.

use spanledger_access::{Principal, RowFilter};
use spanledger_lake::Table;
use spanledger_lake::tables::{calls, ledger_lines};
use spanledger_model::{Bucket, CallKind};

use super::{Books, DAY_NS, Fixture, MINUTE_NS, NOW_NS, RIVAL, call};
use crate::change::{Change, ChangeRequest};
use crate::costs::{CostReport, CostRequest, Dimension};
use crate::spend::{Interval, SpendPoint};

/// Everything that is read from the sums, for several principals, splits, filters and times.
async fn answers(fixture: &Fixture) -> (Vec<CostReport>, Vec<Vec<SpendPoint>>, Vec<Change>, Vec<String>) {
    let confined = RowFilter::new([("team".to_owned(), vec!["research".to_owned()])]).unwrap();
    let principals = [
        Principal::local(),
        Principal::local().with_rows(confined),
        Principal::local_of(RIVAL),
    ];
    let splits = [
        "",
        "team",
        "model,bucket",
        "day,tool",
        "method,cause,touch",
        "provider,environment,agent",
        "user_id,model",
        "user_id,tool",
    ];
    let times = [
        (None, None),
        (Some(NOW_NS / DAY_NS * DAY_NS - DAY_NS), None),
        (Some(NOW_NS - 2 * DAY_NS), Some(NOW_NS - DAY_NS)),
        (Some(NOW_NS - DAY_NS), Some(NOW_NS - DAY_NS + MINUTE_NS)),
    ];
    let filters = [
        Vec::new(),
        vec![(
            Dimension::parse("team").unwrap(),
            vec![Some("support".to_owned()), None],
        )],
        vec![(Dimension::parse("bucket").unwrap(), vec![Some("output".to_owned())])],
        vec![(Dimension::parse("model").unwrap(), vec![Some("in-house-7b".to_owned())])],
        vec![(Dimension::parse("user_id").unwrap(), vec![Some("ada".to_owned()), None])],
    ];
    let (mut reports, mut series, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    for principal in &principals {
        // Each filter with several splits and times, not each with each: a debug build is slow.
        for (n, filter) in filters.iter().enumerate() {
            for (m, split) in splits.iter().enumerate() {
                if (n + m) % 2 == 1 {
                    continue;
                }
                let (since_ns, until_ns) = times[(n + m / 2) % times.len()];
                let request = CostRequest {
                    by: Dimension::parse_list(split).unwrap(),
                    since_ns,
                    until_ns,
                    filters: filter.clone(),
                    ..CostRequest::default()
                };
                reports.push(fixture.engine.costs(principal, &request).await.unwrap());
            }
        }
        for interval in [Interval::Hour, Interval::Month] {
            series.push(
                fixture
                    .engine
                    .spend(principal, interval, None, Some(NOW_NS))
                    .await
                    .unwrap(),
            );
        }
    }
    for by in ["", "user_id", "tool"] {
        let request = ChangeRequest {
            since_ns: Some(NOW_NS - DAY_NS - DAY_NS / 2),
            until_ns: Some(NOW_NS),
            by: Dimension::parse_list(by).unwrap(),
            ..ChangeRequest::default()
        };
        let change = fixture.engine.explain_change(&Principal::local(), &request).await;
        changes.push(change.unwrap());
    }
    let mut sums = Vec::new();
    for sql in [
        "SELECT time, team, SUM(effective_cost), SUM(list_cost), SUM(tokens), SUM(n_calls) FROM rollup_hour GROUP BY time, team ORDER BY 1, 2",
        "SELECT time, kind, status, unpriced, SUM(calls) FROM rollup_hour_calls WHERE time < now() GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
        "SELECT time, user_id, method, SUM(effective_cost), SUM(tokens) FROM rollup_users GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        "SELECT user_id, unpriced, SUM(calls) FROM rollup_users_calls GROUP BY 1, 2 ORDER BY 1, 2",
        "SELECT SUM(tokens) FROM rollup_hour WHERE day = DATE '2026-11-21' AND effective_cost IS NULL",
    ] {
        sums.push(fixture.answer(sql).await);
    }
    (reports, series, changes, sums)
}

/// Late lines of the same hours: one takes a line back, one is unpriced.
async fn commit_late(fixture: &Fixture) {
    let mut books = Books {
        calls: Vec::new(),
        lines: Vec::new(),
    };
    for n in 20..24_u8 {
        let call = call("default", n, CallKind::Llm, NOW_NS - DAY_NS + i64::from(n), "support");
        books.add(
            call,
            &[
                (Bucket::Input, 30, (n != 20).then_some("0.25")),
                (Bucket::Output, 4, Some("0.000000000000007")),
            ],
        );
    }
    let mut taken_back = books.lines[2].clone();
    taken_back.tokens = taken_back.tokens.map(|tokens| -tokens);
    taken_back.effective_cost = taken_back.effective_cost.map(|cost| -cost);
    taken_back.n_calls = -taken_back.n_calls;
    books.lines.push(taken_back);
    fixture.commit(Table::Calls, calls::to_batch(&books.calls)).await;
    fixture
        .commit(Table::Ledger, ledger_lines::to_batch(&books.lines))
        .await;
}

#[tokio::test]
async fn sums_by_hour_change_no_answer() {
    let fixture = Fixture::filled().await;
    let without = answers(&fixture).await;
    let n_files: usize = [Table::Ledger, Table::Calls]
        .map(|table| fixture.lake.snapshot(table).unwrap().files.len())
        .iter()
        .sum();
    assert_eq!(fixture.engine.make_rollups().await, n_files);
    assert_eq!(answers(&fixture).await, without);

    commit_late(&fixture).await;
    let some = answers(&fixture).await;
    assert!(some != without);
    assert_eq!(fixture.engine.make_rollups().await, 2);
    assert_eq!(answers(&fixture).await, some);
    assert_eq!(fixture.engine.make_rollups().await, 0);
}

#[tokio::test]
async fn sums_by_hour_add_up_to_the_lines() {
    let fixture = Fixture::filled().await;
    fixture.engine.make_rollups().await;
    commit_late(&fixture).await;
    let columns =
        "SUM(effective_cost), SUM(tokens), SUM(n_calls), SUM(CASE WHEN effective_cost IS NULL THEN tokens END)";
    for group in [
        "team",
        "date_trunc('hour', time)",
        "model, bucket",
        "cause, method, day",
    ] {
        let ask = async |table: &str| {
            let sql = format!("SELECT {group}, {columns} FROM {table} GROUP BY {group} ORDER BY {group}");
            fixture.answer(&sql).await
        };
        assert_eq!(ask("rollup_hour").await, ask("ledger").await, "{group}");
        if !group.contains("cause") {
            assert_eq!(ask("rollup_users").await, ask("ledger").await, "{group}");
        }
    }
}

#[tokio::test]
async fn a_question_for_an_hour_reads_the_sums_of_no_other_day() {
    let fixture = Fixture::filled().await;
    fixture.engine.make_rollups().await;
    assert_eq!(fixture.answer("SELECT COUNT(*) > 2 FROM rollup_day").await, "true");
    let plan = async |bounds: &str| {
        let sql = format!("EXPLAIN SELECT SUM(tokens) FROM rollup_hour{bounds}");
        fixture.answer(&sql).await
    };
    let all = plan("").await;
    assert!(
        all.contains("partition_sizes=[3]") && !all.contains("file_groups"),
        "{all}"
    );
    let hour =
        plan(" WHERE time >= TIMESTAMP '2026-11-21T10:00:00Z' AND time < TIMESTAMP '2026-11-21T11:00:00Z'").await;
    assert!(
        hour.contains("partition_sizes=[1]") && !hour.contains("file_groups"),
        "{hour}"
    );
}
