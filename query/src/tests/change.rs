//! Why cost changed, over a lake: the parts, the movers and the calls agree with the cost reports.

use spanledger_access::Principal;
use spanledger_lake::Table;
use spanledger_lake::tables::{calls, ledger_lines};
use spanledger_model::call::CallKind;
use spanledger_model::ids::hash_parts;
use spanledger_model::{Bucket, CallId, FemtoUsd};

use super::{Books, DAY_NS, Fixture, MINUTE_NS, NOW_NS, call};
use crate::change::{Change, ChangeRequest, filter};
use crate::costs::{CostRequest, Dimension};
use crate::error::ErrorKind;
use crate::spend::Interval;

fn usd(text: &str) -> FemtoUsd {
    FemtoUsd::parse(text).unwrap()
}

/// A model call of its own id.
pub(super) fn add(
    books: &mut Books,
    number: u32,
    at_ns: i64,
    team: &str,
    model: &str,
    pieces: &[(Bucket, i64, Option<&str>)],
) {
    let mut added = call("default", 1, CallKind::Llm, at_ns, team);
    added.call_id = CallId(hash_parts(&[b"change", &number.to_le_bytes()]));
    added.model.response_model = Some(model.to_owned());
    books.add(added, pieces);
}

pub(super) async fn commit(fixture: &Fixture, books: &Books) {
    fixture.commit(Table::Calls, calls::to_batch(&books.calls)).await;
    fixture
        .commit(Table::Ledger, ledger_lines::to_batch(&books.lines))
        .await;
}

/// Two days: support's calls double and grow, research moves to a dearer model, one team is gone, one is new.
async fn two_days() -> Fixture {
    let fixture = Fixture::empty().await;
    let mut books = Books {
        calls: Vec::new(),
        lines: Vec::new(),
    };
    let (old, new) = (NOW_NS - 2 * DAY_NS, NOW_NS - DAY_NS);
    let mut number = 0;
    let mut put = |at_ns, team, model, pieces: &[(Bucket, i64, Option<&str>)]| {
        number += 1;
        add(
            &mut books,
            number,
            at_ns + i64::from(number) * MINUTE_NS,
            team,
            model,
            pieces,
        );
    };
    for _ in 0..2 {
        put(
            old,
            "support",
            "small",
            &[
                (Bucket::Input, 1_000, Some("0.003")),
                (Bucket::Output, 7, Some("0.000000000000007")),
            ],
        );
    }
    for _ in 0..5 {
        put(
            new,
            "support",
            "small",
            &[
                (Bucket::Input, 1_700, Some("0.0051")),
                (Bucket::CacheRead, 300, Some("0.00009")),
            ],
        );
    }
    for _ in 0..3 {
        put(old, "research", "small", &[(Bucket::Input, 100, Some("0.0003"))]);
        put(new, "research", "large", &[(Bucket::Input, 100, Some("0.3"))]);
    }
    put(old, "gone", "small", &[(Bucket::Output, 3, Some("0.01"))]);
    put(new, "new", "unknown", &[(Bucket::Input, 900, None)]);
    put(new, "new", "small", &[(Bucket::Input, 9, Some("0.000000000000001"))]);
    commit(&fixture, &books).await;
    fixture
}

async fn explained(fixture: &Fixture, request: &ChangeRequest) -> Change {
    let change = fixture.engine.explain_change(&Principal::local(), request).await;
    change.unwrap_or_else(|error| panic!("{request:?}: {}", error.detail()))
}

fn days() -> ChangeRequest {
    ChangeRequest {
        since_ns: Some(NOW_NS - DAY_NS),
        until_ns: Some(NOW_NS),
        ..ChangeRequest::default()
    }
}

async fn total(fixture: &Fixture, since_ns: i64, until_ns: i64) -> FemtoUsd {
    let request = CostRequest {
        since_ns: Some(since_ns),
        until_ns: Some(until_ns),
        ..CostRequest::default()
    };
    let report = fixture.engine.costs(&Principal::local(), &request).await.unwrap();
    report.total.cost.unwrap_or_default()
}

#[tokio::test]
async fn the_parts_of_a_change_sum_to_the_difference_of_the_cost_reports() {
    let fixture = two_days().await;
    let before = total(&fixture, NOW_NS - 2 * DAY_NS, NOW_NS - DAY_NS).await;
    let now = total(&fixture, NOW_NS - DAY_NS, NOW_NS).await;
    for by in ["", "team", "model,project", "cause,bucket,kind"] {
        let request = ChangeRequest {
            by: Dimension::parse_list(by).unwrap(),
            limit: 100,
            ..days()
        };
        let change = explained(&fixture, &request).await;
        assert_eq!((change.previous.cost, change.current.cost), (before, now), "{by}");
        assert_eq!(change.change, now - before, "{by}");
        assert_eq!(change.parts.sum(), change.change, "{by}: {:?}", change.parts);
        // Whatever dimension: its movers are all that moved.
        for dimension in change.movers.iter().map(|mover| mover.dimension) {
            let movers = change.movers.iter().filter(|mover| mover.dimension == dimension);
            assert_eq!(
                movers.map(|mover| mover.change).sum::<FemtoUsd>(),
                change.change,
                "{dimension}"
            );
        }
    }
}

#[tokio::test]
async fn who_moved_and_why_is_told_with_the_calls() {
    let fixture = two_days().await;
    let change = explained(&fixture, &days()).await;
    let status = |value: &str| {
        let mover = change
            .movers
            .iter()
            .find(|mover| mover.value.as_deref() == Some(value))
            .unwrap();
        (mover.dimension, mover.status, mover.change)
    };
    assert_eq!(status("research"), ("team", "both", usd("0.8991")));
    assert_eq!(status("large"), ("model", "new", usd("0.9")));
    assert_eq!(status("gone"), ("team", "gone", usd("-0.01")));
    assert_eq!(status("new").1, "new");
    assert_eq!(
        (change.previous.unpriced_tokens, change.current.unpriced_tokens),
        (0, 900)
    );
    // The move to the large model is what cost most, and its calls are those behind the change.
    assert!(change.parts.mix > usd("0.8"), "{:?}", change.parts);
    assert_eq!(change.calls.len(), 3);
    assert!(
        change
            .calls
            .iter()
            .all(|call| call.cost == Some(usd("0.3")) && call.model.as_deref() == Some("large"))
    );
    assert!(
        change.notes.iter().any(|note| note.contains("900 tokens")),
        "{:?}",
        change.notes
    );
}

#[tokio::test]
async fn of_one_team_each_part_is_what_was_planned() {
    let fixture = two_days().await;
    let request = ChangeRequest {
        filters: vec![filter("team", "support").unwrap()],
        ..days()
    };
    let change = explained(&fixture, &request).await;
    // 2 calls of 0.003000000000007, then 5 of 0.00519: at old prices 1,700 + 300 tokens instead of 1,007.
    assert_eq!(change.previous.cost, usd("0.006000000000014"));
    assert_eq!(change.parts.volume, usd("0.009000000000021"));
    assert_eq!(change.parts.mix, FemtoUsd::ZERO);
    assert!(change.parts.context_size > usd("0.0147") && change.parts.context_size < usd("0.0149"));
    assert_eq!(change.parts.price, FemtoUsd::ZERO);
    assert_eq!(change.parts.sum(), usd("0.02595") - usd("0.006000000000014"));
}

#[tokio::test]
async fn from_nothing_is_volume_and_periods_that_cannot_be_compared_are_refused() {
    let fixture = two_days().await;
    let first = ChangeRequest {
        since_ns: Some(NOW_NS - 2 * DAY_NS),
        until_ns: Some(NOW_NS - DAY_NS),
        ..ChangeRequest::default()
    };
    let change = explained(&fixture, &first).await;
    assert_eq!((change.previous.cost, &change.change_percent), (FemtoUsd::ZERO, &None));
    assert_eq!(change.parts.volume, change.change);
    let says = |change: &Change, what: &str| change.notes.iter().any(|note| note.contains(what));
    assert!(says(&change, "all of it is new"), "{:?}", change.notes);
    let long_ago = ChangeRequest {
        since_ns: Some(NOW_NS - 9 * DAY_NS),
        until_ns: Some(NOW_NS - 8 * DAY_NS),
        ..ChangeRequest::default()
    };
    let nothing = explained(&fixture, &long_ago).await;
    assert!(says(&nothing, "no usage in either period"), "{:?}", nothing.notes);
    assert!(!says(&nothing, "new"), "{:?}", nothing.notes);
    let refused = [
        ChangeRequest {
            since_ns: Some(NOW_NS),
            ..days()
        },
        ChangeRequest {
            baseline_until_ns: Some(NOW_NS - DAY_NS + 1),
            ..days()
        },
        ChangeRequest {
            baseline_since_ns: Some(NOW_NS - DAY_NS),
            ..days()
        },
    ];
    for request in refused {
        let refused = fixture.engine.explain_change(&Principal::local(), &request).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid, "{request:?}");
    }
}

#[tokio::test]
async fn points_sum_to_their_rows_and_rows_and_other_to_the_total_now_and_before() {
    let fixture = two_days().await;
    for interval in [Interval::Hour, Interval::Day, Interval::Week, Interval::Month] {
        for (by, limit) in [("", 0), ("team", 0), ("team", 1), ("team,model", 2), ("bucket", 1)] {
            let request = CostRequest {
                by: Dimension::parse_list(by).unwrap(),
                since_ns: Some(NOW_NS - DAY_NS),
                until_ns: Some(NOW_NS),
                limit,
                ..CostRequest::default()
            };
            let grown = fixture
                .engine
                .costs_grown(&Principal::local(), &request, Some(interval), true)
                .await
                .unwrap();
            let report = &grown.report;
            let summed = report.rows.iter().chain(&report.other).chain([&report.total]);
            let summed: Vec<_> = summed.collect();
            assert_eq!(summed.len(), grown.series.len(), "{by} {limit}");
            for (row, points) in summed.into_iter().zip(&grown.series) {
                let cost: FemtoUsd = points.iter().filter_map(|(_, point)| point.cost).sum();
                assert_eq!(cost, row.cost.unwrap_or_default(), "{by} {limit} {interval:?}");
                assert_eq!(points.iter().map(|(_, point)| point.tokens).sum::<i64>(), row.tokens);
            }
            let previous = grown.previous.unwrap();
            let before: FemtoUsd = previous
                .rows
                .iter()
                .flatten()
                .chain([&previous.other])
                .filter_map(|row| row.cost)
                .sum();
            assert_eq!(before, previous.total.cost.unwrap_or_default(), "{by} {limit}");
            assert_eq!(before, total(&fixture, NOW_NS - 2 * DAY_NS, NOW_NS - DAY_NS).await);
        }
    }
}

#[tokio::test]
async fn a_value_that_matches_nothing_is_answered_with_the_nearest() {
    let fixture = two_days().await;
    let team = Dimension::parse("team").unwrap();
    let nearest = fixture
        .engine
        .nearest_values(&Principal::local(), team, "Reserch")
        .await
        .unwrap();
    assert_eq!(nearest.first().map(String::as_str), Some("research"));
}
