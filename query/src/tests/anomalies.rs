//! Episodes over a lake of five weeks: what was injected is found, with its money and its calls, and nothing else.

use spanledger_access::Principal;
use spanledger_model::call::{CallKind, McpFields, Status};
use spanledger_model::ids::hash_parts;
use spanledger_model::{Bucket, CallId, FemtoUsd};

use super::change::{add, commit};
use super::{Books, DAY_NS, Fixture, MINUTE_NS, NOW_NS, call};
use crate::anomalies::{AnomalyReport, AnomalyRequest, EpisodeKind};

const HOUR_NS: i64 = 60 * MINUTE_NS;

fn usd(text: &str) -> FemtoUsd {
    FemtoUsd::parse(text).unwrap()
}

/// Five weeks: two teams on working days from 8 to 18, with noise, and a weekly job on Mondays.
fn weeks() -> Books {
    let mut books = Books {
        calls: Vec::new(),
        lines: Vec::new(),
    };
    let (mut state, mut number) = (11_u64, 0);
    for hour in 0..35 * 24 {
        let start_ns = NOW_NS - 35 * DAY_NS + hour * HOUR_NS;
        let (of_day, weekday) = ((start_ns / HOUR_NS) % 24, (start_ns / DAY_NS + 3) % 7);
        for (team, level) in [("support", 300), ("research", 90)] {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let noise = 70 + (state >> 33) % 60;
            let busy = if weekday < 5 && (8..18).contains(&of_day) {
                10
            } else {
                1
            };
            let job = if team == "research" && weekday == 0 && of_day == 6 {
                300
            } else {
                1
            };
            let cents = level * busy * noise * job / 10_000;
            number += 1;
            let cost = format!("{}.{:02}", cents / 100, cents % 100);
            let tokens = i64::try_from(cents * 1_000).unwrap();
            add(
                &mut books,
                number,
                start_ns,
                team,
                "small",
                &[(Bucket::Input, tokens, Some(&cost))],
            );
        }
    }
    books
}

async fn found(books: &Books, request: &AnomalyRequest) -> AnomalyReport {
    let fixture = Fixture::empty().await;
    commit(&fixture, books).await;
    let report = fixture.engine.anomalies(&Principal::local(), request).await;
    report.unwrap_or_else(|error| panic!("{}", error.detail()))
}

#[tokio::test]
async fn quiet_weeks_have_no_episode_and_an_hour_that_is_not_over_never_alarms() {
    let mut books = weeks();
    // In the hour that has begun.
    add(
        &mut books,
        90_000,
        NOW_NS,
        "support",
        "small",
        &[(Bucket::Input, 5, Some("5000"))],
    );
    let report = found(&books, &AnomalyRequest::default()).await;
    assert_eq!(report.found, 0, "{:?}", report.episodes);
    assert!(report.until.as_str() <= "2026-11-22T10:00:00Z", "{}", report.until);
}

#[tokio::test]
async fn an_incident_of_two_hours_is_one_episode_with_its_money_and_its_calls() {
    let mut books = weeks();
    // Thursday at 3 and 4 in the night.
    let start_ns = NOW_NS - 3 * DAY_NS - 7 * HOUR_NS;
    add(
        &mut books,
        90_000,
        start_ns + 5,
        "support",
        "large",
        &[(Bucket::Input, 5, Some("40.5"))],
    );
    add(
        &mut books,
        90_001,
        start_ns + HOUR_NS,
        "support",
        "large",
        &[(Bucket::Input, 5, Some("60.25"))],
    );
    let report = found(&books, &AnomalyRequest::default()).await;
    let spikes: Vec<_> = report
        .episodes
        .iter()
        .filter(|episode| episode.kind == EpisodeKind::Spike)
        .collect();
    assert_eq!(spikes.len(), 1, "{:?}", report.episodes);
    let spike = spikes[0];
    assert_eq!(
        (spike.since.as_str(), spike.until.as_str()),
        ("2026-11-19T03:00:00Z", "2026-11-19T05:00:00Z")
    );
    assert_eq!(spike.scope.get("team"), Some(&Some("support".to_owned())));
    assert_eq!(spike.scope.get("model"), Some(&Some("large".to_owned())));
    // Beside 100.75 USD of the incident there is what the hours always cost, which is also what is expected.
    let impact = spike.impact.unwrap();
    assert!(impact > usd("100") && impact < usd("102"), "{impact}");
    assert_eq!(impact, spike.actual.unwrap() - spike.expected.unwrap());
    assert_eq!(spike.calls.first().and_then(|call| call.cost), Some(usd("60.25")));
    assert!(
        spike.cause.iter().any(|cause| cause.contains("rose from")),
        "{:?}",
        spike.cause
    );
    // The model was never used before.
    assert!(
        report
            .episodes
            .iter()
            .any(|episode| episode.kind == EpisodeKind::NewModel)
    );
}

#[tokio::test]
async fn a_loop_of_failing_calls_is_the_cause_of_the_spike_it_made() {
    let mut books = weeks();
    let start_ns = NOW_NS - 3 * DAY_NS - 7 * HOUR_NS;
    for number in 0..200_u32 {
        let at_ns = start_ns + i64::from(number) * 10_000_000_000;
        let mut model = call("default", 1, CallKind::Llm, at_ns, "support");
        model.call_id = CallId(hash_parts(&[b"loop", &number.to_le_bytes()]));
        model.dimensions.session_id = Some("the-loop".into());
        model.model.response_model = Some("small".into());
        books.add(model, &[(Bucket::Input, 9_000, Some("0.09"))]);
        let mut tool = call("default", 1, CallKind::Tool, at_ns + 1_000_000_000, "support");
        tool.call_id = CallId(hash_parts(&[b"tool", &number.to_le_bytes()]));
        tool.dimensions.session_id = Some("the-loop".into());
        tool.status = Status::Error;
        tool.mcp = McpFields {
            server: Some("postgres".into()),
            tool: Some("run_query".into()),
            ..McpFields::default()
        };
        books.add(tool, &[]);
    }
    let report = found(&books, &AnomalyRequest::default()).await;
    assert_eq!(report.found, 1, "{:?}", report.episodes);
    let episode = &report.episodes[0];
    assert_eq!(episode.kind, EpisodeKind::RunawayLoop);
    assert_eq!(episode.scope.get("tool"), Some(&Some("run_query".to_owned())));
    let impact = episode.impact.unwrap();
    assert!(impact > usd("17") && impact < usd("19"), "{impact}");
    assert!(episode.cause[0].contains("200 times"), "{:?}", episode.cause);
}

#[tokio::test]
async fn a_cache_that_stopped_working_and_usage_without_a_price_are_told() {
    let mut books = Books {
        calls: Vec::new(),
        lines: Vec::new(),
    };
    for day in 1..=12 {
        let at_ns = NOW_NS - day * DAY_NS - HOUR_NS;
        // On the third day back, everything is fresh input at ten times the price of a read.
        let pieces: &[(Bucket, i64, Option<&str>)] = if day == 3 {
            &[(Bucket::Input, 1_000_000, Some("30"))]
        } else {
            &[
                (Bucket::Input, 100_000, Some("3")),
                (Bucket::CacheRead, 900_000, Some("2.7")),
            ]
        };
        add(
            &mut books,
            u32::try_from(day).unwrap(),
            at_ns,
            "support",
            "small",
            pieces,
        );
    }
    add(
        &mut books,
        90_000,
        NOW_NS - 2 * DAY_NS,
        "support",
        "in-house",
        &[(Bucket::Input, 77, None)],
    );
    let report = found(&books, &AnomalyRequest::default()).await;
    let of = |kind| report.episodes.iter().find(|episode| episode.kind == kind);
    let collapse = of(EpisodeKind::CacheCollapse).unwrap_or_else(|| panic!("{:?}", report.episodes));
    let told = collapse
        .cause
        .iter()
        .any(|cause| cause.contains("0.0 %") && cause.contains("usually 90.0 %"));
    assert!(told, "{:?}", collapse.cause);
    let unpriced = of(EpisodeKind::UnpricedUsage).unwrap();
    assert_eq!(
        (unpriced.impact, unpriced.cause[0].contains("77 tokens of in-house")),
        (None, true)
    );
}
