//! What-if: exact, additive, in sight of the principal only.

use spanledger_access::{Principal, RowFilter};
use spanledger_lake::Table;
use spanledger_lake::tables::calls;
use spanledger_model::{Bucket, CallKind, FemtoUsd};

use super::{Books, DAY_NS, Fixture, NOW_NS, call};
use crate::costs::Dimension;
use crate::error::ErrorKind;
use crate::what_if::{Scenario, WhatIfReport, WhatIfRequest};

fn usd(text: &str) -> FemtoUsd {
    FemtoUsd::parse(text).unwrap()
}

/// A million tokens in and out of each of two teams, by models of two providers, and one that nobody prices.
async fn fixture() -> Fixture {
    let fixture = Fixture::empty().await;
    let mut books = Books {
        calls: Vec::new(),
        lines: Vec::new(),
    };
    for (n, team, provider, model, cost) in [
        (1, "payments", "openai", "gpt-4o", Some("12.5")),
        (2, "search", "openai", "gpt-4o", Some("12.5")),
        (3, "search", "nobody", "in-house-7b", None),
    ] {
        let mut call = call("default", n, CallKind::Llm, NOW_NS - DAY_NS, team);
        call.model.provider = Some(provider.into());
        call.model.request_model = None;
        call.model.response_model = Some(model.into());
        books.add(
            call,
            &[(Bucket::Input, 1_000_000, cost), (Bucket::Output, 1_000_000, None)],
        );
    }
    fixture.commit(Table::Calls, calls::to_batch(&books.calls)).await;
    fixture
}

async fn ask(fixture: &Fixture, principal: &Principal, scenarios: &[serde_json::Value]) -> WhatIfReport {
    let request = WhatIfRequest {
        scenarios: scenarios.iter().map(|value| Scenario::read(value).unwrap()).collect(),
        by: Dimension::parse_list("team").unwrap(),
        ..WhatIfRequest::default()
    };
    fixture.engine.what_if(principal, request, &|_, _| {}).await.unwrap()
}

#[tokio::test]
async fn scenarios_are_rated_exactly_and_their_rows_sum_to_their_totals() {
    let fixture = fixture().await;
    let report = ask(
        &fixture,
        &Principal::local(),
        &[
            serde_json::json!({ "name": "mini", "models": { "gpt-4o": "gpt-4o-mini" } }),
            serde_json::json!({ "models": { "gpt-4o": null }, "prices": { "input": 1, "output": "2.000000001" } }),
            serde_json::json!({ "models": { "gpt-4o": null }, "discount_percent": "10" }),
            serde_json::json!({ "models": { "gpt-4o": null }, "cache_percent": 50 }),
        ],
    )
    .await;
    // List prices of gpt-4o: 2.5 in, 1.25 cached, 10 out; of gpt-4o-mini: 0.15 and 0.6.
    let expected = ["1.5", "6.000000002", "22.5", "23.75"];
    for (scenario, new) in report.scenarios.iter().zip(expected) {
        assert_eq!(scenario.total.new, usd(new), "{scenario:?}");
        assert_eq!(scenario.total.old, usd("25"), "{scenario:?}");
        let sum: FemtoUsd = scenario.rows.iter().map(|row| row.tally.new).sum();
        assert_eq!(sum, scenario.total.new);
        assert_eq!((scenario.total.repriced, scenario.total.not_comparable), (2, 1));
        assert_eq!(scenario.unpriced[0].model.as_deref(), Some("in-house-7b"));
        assert_eq!(scenario.unpriced[0].tokens, 2_000_000);
    }
    assert_eq!(report.scenarios[0].name, "mini");
    assert!(report.scenarios[0].notes(str::to_owned)[0].contains("tokenizer"));
}

#[tokio::test]
async fn a_principal_simulates_the_calls_in_its_sight_and_no_others() {
    let fixture = fixture().await;
    let scenario = [serde_json::json!({ "processing": "batch" })];
    let rows = RowFilter::new([("team".to_owned(), vec!["payments".to_owned()])]).unwrap();
    let report = ask(&fixture, &Principal::local().with_rows(rows), &scenario).await;
    let seen: Vec<_> = report.scenarios[0]
        .rows
        .iter()
        .map(|row| row.keys[0].as_deref().unwrap())
        .collect();
    assert_eq!(seen, ["payments"]);
    let report = ask(&fixture, &Principal::local_of("rival"), &scenario).await;
    assert_eq!(report.scenarios[0].total.calls, 0);
}

#[tokio::test]
async fn a_difference_of_nothing_is_said_and_never_silent() {
    let fixture = fixture().await;
    let notes = async |scenario: serde_json::Value| {
        let report = ask(&fixture, &Principal::local(), &[scenario]).await;
        let scenario = report.scenarios.into_iter().next().unwrap();
        (scenario.total.difference(), scenario.notes(str::to_owned).join("; "))
    };
    // The embedded book has a batch price for gpt-4o since 2026-10-14, and none by region, none of Azure's own.
    let (difference, batch) = notes(serde_json::json!({ "processing": "batch" })).await;
    assert_eq!((difference, batch.as_str()), (usd("-12.5"), ""));
    for (scenario, expected) in [
        (
            serde_json::json!({ "region": "eu-west-1" }),
            "no price of region eu-west-1 known for gpt-4o (2 calls): unchanged",
        ),
        (
            serde_json::json!({ "service_tier": "flex" }),
            "no flex price known for gpt-4o (2 calls): unchanged",
        ),
        (
            serde_json::json!({ "processing": "overnight" }),
            "no overnight price known for gpt-4o (2 calls): unchanged",
        ),
        (
            serde_json::json!({ "models": { "gpt-4o": "gpt-4o-2024-08-06" } }),
            "one price holds for gpt-4o-2024-08-06 as gpt-4o (2 calls): unchanged",
        ),
        (
            serde_json::json!({ "models": { "no-such*": "gpt-4o-mini" } }),
            "no call is of a model like no-such*",
        ),
        (
            serde_json::json!({ "only_provider": "mistral", "processing": "batch" }),
            "the scenario is about none of these calls: nothing is otherwise",
        ),
    ] {
        let (difference, notes) = notes(scenario.clone()).await;
        assert_eq!(difference, FemtoUsd::ZERO, "{scenario}");
        assert!(notes.contains(expected), "{scenario}: {notes}");
    }
    // A model that nobody prices is not comparable, and named: neither 0 nor unchanged.
    let report = ask(
        &fixture,
        &Principal::local(),
        &[serde_json::json!({ "models": { "gpt-4o": "gpt-99" } })],
    )
    .await;
    let total = report.scenarios[0].total;
    assert_eq!((total.not_comparable, total.old), (3, FemtoUsd::ZERO));
    assert_eq!(report.scenarios[0].unpriced[0].model.as_deref(), Some("gpt-99"));
    assert!(report.scenarios[0].unchanged.is_empty());
}

#[tokio::test]
async fn a_price_that_came_later_is_said_to_be_there_today() {
    let fixture = Fixture::empty().await;
    let mut early = call("default", 1, CallKind::Llm, NOW_NS - 150 * DAY_NS, "payments");
    early.model.provider = Some("openai".into());
    early.model.request_model = None;
    early.model.response_model = Some("gpt-4o".into());
    let mut books = Books {
        calls: Vec::new(),
        lines: Vec::new(),
    };
    books.add(early, &[(Bucket::Input, 1_000_000, Some("2.5"))]);
    fixture.commit(Table::Calls, calls::to_batch(&books.calls)).await;
    let scenarios = [
        serde_json::json!({ "processing": "batch" }),
        serde_json::json!({ "cache_percent": 50, "models": { "gpt-4o": "gpt-4" } }),
    ];
    let report = ask(&fixture, &Principal::local(), &scenarios).await;
    let notes = report.scenarios[0].notes(str::to_owned);
    assert_eq!(
        notes,
        [
            "no batch price known at the time for gpt-4o (1 calls), though there is one today (`prices` can state it): unchanged"
        ]
    );
    assert!(report.scenarios[0].unchanged[0].is_known_today);
    let notes = report.scenarios[1].notes(str::to_owned).join("; ");
    assert!(notes.contains("no cache price known for gpt-4 (1 calls)"), "{notes}");
}

#[tokio::test]
async fn a_scenario_that_changes_nothing_or_cannot_be_read_is_refused() {
    let fixture = fixture().await;
    let request = WhatIfRequest {
        scenarios: vec![Scenario::default()],
        ..WhatIfRequest::default()
    };
    let error = fixture
        .engine
        .what_if(&Principal::local(), request, &|_, _| {})
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    for wrong in [
        serde_json::json!("gpt-4o"),
        serde_json::json!({ "model": { "a": "b" } }),
        serde_json::json!({ "models": { "": "b" } }),
        serde_json::json!({ "cache_percent": 101 }),
        serde_json::json!({ "provider": { "a": 1 } }),
    ] {
        assert!(Scenario::read(&wrong).is_err(), "{wrong}");
    }
}
