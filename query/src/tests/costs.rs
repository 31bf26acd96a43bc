//! Cost reports: exact, complete, in a stable order.

use spanledger_access::Principal;
use spanledger_model::FemtoUsd;

use super::{DAY_NS, Fixture, NOW_NS, written};
use crate::costs::{CostReport, CostRequest, CostRow, Dimension, NONE, filter_values};
use crate::error::ErrorKind;
use crate::format::Format;
use crate::spend::Interval;

async fn report(fixture: &Fixture, request: &CostRequest) -> CostReport {
    let report = fixture.engine.costs(&Principal::local(), request).await;
    report.unwrap_or_else(|error| panic!("{request:?}: {}", error.detail()))
}

fn by(names: &str) -> CostRequest {
    CostRequest {
        by: Dimension::parse_list(names).unwrap(),
        ..CostRequest::default()
    }
}

#[tokio::test]
async fn the_groups_of_any_dimension_sum_to_the_total() {
    let fixture = Fixture::filled().await;
    let total = report(&fixture, &CostRequest::default()).await.total;
    assert_eq!(total.cost, FemtoUsd::parse("12.607200500000001"));
    assert_eq!(
        (
            total.tokens,
            total.input_tokens,
            total.output_tokens,
            total.cache_read_tokens
        ),
        (5_768, 5_510, 258, 4_000)
    );
    assert_eq!(
        (total.calls, total.llm_calls, total.errors),
        (Some(6), Some(4), Some(1))
    );
    assert_eq!((total.unpriced_calls, total.unpriced_tokens), (Some(1), 550));
    let singles = Dimension::ALL.map(|dimension| dimension.name().to_owned());
    let pairs = [
        "team,tool",
        "kind,model",
        "day,bucket",
        "team,agent,server,tool,model,kind,day,cause",
    ]
    .map(str::to_owned);
    for names in singles.into_iter().chain(pairs) {
        let report = report(&fixture, &by(&names)).await;
        assert_eq!(report.total, total, "{names}");
        assert_eq!(
            report.rows.iter().filter_map(|row| row.cost).sum::<FemtoUsd>(),
            total.cost.unwrap(),
            "{names}"
        );
        assert_eq!(
            report.rows.iter().map(|row| row.tokens).sum::<i64>(),
            total.tokens,
            "{names}"
        );
        // What only lines have has no calls by group.
        let has_calls = ["cause", "touch", "bucket", "method"]
            .iter()
            .all(|name| !names.split(',').any(|by| by == *name));
        let sum = |count: fn(&CostRow) -> Option<i64>| -> Option<i64> { report.rows.iter().map(count).sum() };
        assert_eq!(sum(|row| row.calls), has_calls.then_some(6), "{names}");
        assert_eq!(sum(|row| row.unpriced_calls), has_calls.then_some(1), "{names}");
    }
}

#[tokio::test]
async fn rows_come_dearest_first_with_the_unpriced_last() {
    let fixture = Fixture::filled().await;
    let report = report(&fixture, &by("team")).await;
    let shown: Vec<_> = report
        .rows
        .iter()
        .map(|row| (row.keys[0].as_deref(), row.cost.map(|cost| cost.to_string())))
        .collect();
    assert_eq!(
        shown,
        [
            (Some("__unallocated__"), Some("12.5".to_owned())),
            (Some("support"), Some("0.107200500000001".to_owned())),
            (Some("research"), None)
        ]
    );
    let table = written(&report.to_result_set(Some(NONE)), Format::Csv);
    assert!(table.starts_with("team,cost,tokens,"), "{table}");
    assert!(table.contains("\r\n__unallocated__,12.5,7,"), "{table}");
    let json = serde_json::to_string(&report).unwrap();
    assert!(
        json.contains(r#""rows":[{"team":"__unallocated__","cost":"12.5","tokens":7,"#),
        "{json}"
    );
    assert!(json.contains(r#"{"team":"research","cost":null,"#), "{json}");
    assert!(
        json.contains(r#""currency":"USD""#) && !json.contains("\"other\""),
        "{json}"
    );
}

#[tokio::test]
async fn a_tool_without_a_line_of_its_own_keeps_its_calls_and_costs_nothing() {
    let fixture = Fixture::filled().await;
    let report = report(&fixture, &by("server,tool")).await;
    let tool = report
        .rows
        .iter()
        .find(|row| row.keys[1].as_deref() == Some("search"))
        .unwrap();
    assert_eq!(
        (tool.cost, tool.calls, tool.errors, tool.tokens),
        (Some(FemtoUsd::ZERO), Some(1), Some(1), 0)
    );
}

#[tokio::test]
async fn what_a_limit_cuts_off_is_summed_up() {
    let fixture = Fixture::filled().await;
    let report = report(&fixture, &CostRequest { limit: 1, ..by("team") }).await;
    let other = report.other.unwrap();
    assert_eq!(report.rows.len(), 1);
    assert_eq!(
        other.cost.unwrap() + report.rows[0].cost.unwrap(),
        report.total.cost.unwrap()
    );
    assert_eq!((other.calls, other.unpriced_tokens), (Some(5), 550));
}

#[tokio::test]
async fn filters_and_periods_narrow_both_money_and_calls() {
    let fixture = Fixture::filled().await;
    let filtered = |name: &str, values: &str| CostRequest {
        filters: vec![(Dimension::parse(name).unwrap(), filter_values(values))],
        ..CostRequest::default()
    };
    for (request, cost, calls) in [
        (filtered("team", "support"), Some("0.107200500000001"), Some(4)),
        (filtered("team", "support,research"), Some("0.107200500000001"), Some(5)),
        (filtered("team", "(none)"), Some("12.5"), Some(1)),
        (filtered("team", "__unallocated__"), Some("12.5"), Some(1)),
        (filtered("team", "no'body"), Some("0"), Some(0)),
        (filtered("model", "in-house-7b"), None, Some(1)),
        (filtered("kind", "llm"), Some("12.607200500000001"), Some(4)),
        (filtered("kind", "tool"), Some("0"), Some(1)),
        (filtered("bucket", "cache_read"), Some("0.0012"), None),
        (
            CostRequest {
                since_ns: Some(NOW_NS - 2 * DAY_NS),
                ..CostRequest::default()
            },
            Some("12.607200500000001"),
            Some(5),
        ),
        (
            CostRequest {
                since_ns: Some(NOW_NS - DAY_NS),
                ..CostRequest::default()
            },
            Some("0.107200500000001"),
            Some(4),
        ),
        (
            CostRequest {
                until_ns: Some(NOW_NS - 2 * DAY_NS),
                ..CostRequest::default()
            },
            None,
            Some(1),
        ),
    ] {
        let total = report(&fixture, &request).await.total;
        assert_eq!(total.cost.map(|cost| cost.to_string()).as_deref(), cost, "{request:?}");
        assert_eq!(total.calls, calls, "{request:?}");
    }
}

#[tokio::test]
async fn spend_over_time_sums_to_the_total() {
    let fixture = Fixture::filled().await;
    for (interval, n_points) in [
        (Interval::Hour, 3),
        (Interval::Day, 3),
        (Interval::Week, 1),
        (Interval::Month, 1),
    ] {
        let points = fixture
            .engine
            .spend(&Principal::local(), interval, None, None)
            .await
            .unwrap();
        assert_eq!(points.len(), n_points, "{interval:?}: {points:?}");
        let sum: FemtoUsd = points.iter().filter_map(|point| point.cost).sum();
        assert_eq!(sum.to_string(), "12.607200500000001", "{interval:?}");
        assert_eq!(points.iter().map(|point| point.calls).sum::<i64>(), 6);
    }
    let since = fixture
        .engine
        .spend(&Principal::local(), Interval::Day, Some(NOW_NS - DAY_NS), None)
        .await
        .unwrap();
    assert_eq!(since.len(), 1);
    assert!(
        serde_json::to_string(&since)
            .unwrap()
            .contains("\"day\":\"2026-11-21\"")
    );
}

#[test]
fn a_wrong_dimension_is_answered_with_the_right_one() {
    let error = Dimension::parse_list("team,toool").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("did you mean `tool`?"), "{error}");
    assert!(Dimension::parse_list("team,team").is_err());
    assert_eq!(Dimension::parse("user").unwrap().name(), "user_id");
}

#[tokio::test]
async fn a_report_is_of_the_whole_hours_that_its_time_is_in() {
    const HOUR_NS: i64 = 3_600_000_000_000;
    let fixture = Fixture::filled().await;
    let hour = (NOW_NS - DAY_NS).div_euclid(HOUR_NS) * HOUR_NS;
    let between = async |since_ns, until_ns| {
        let request = CostRequest {
            since_ns: Some(since_ns),
            until_ns: Some(until_ns),
            ..CostRequest::default()
        };
        report(&fixture, &request).await
    };
    let whole = between(hour, hour + HOUR_NS).await;
    let part = between(hour + 1, hour + HOUR_NS - 1).await;
    assert!(whole.total.calls.unwrap() > 0);
    assert_eq!(part, whole, "and it says which hours they are");
    assert_eq!(between(hour + HOUR_NS, hour + HOUR_NS).await.total.calls, Some(0));
}
