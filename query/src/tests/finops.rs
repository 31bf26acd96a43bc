//! Forecasts and budgets against the ledger: exact actuals, row filters, the audit before the change; rules.

use std::collections::BTreeMap;

use spanledger_access::audit::{Audit, Filter, Interface};
use spanledger_access::{Principal, RowFilter};
use spanledger_ledger::allocation::edit::NewRule;
use spanledger_ledger::allocation::store::RuleStore;
use spanledger_ledger::budget::Period;
use spanledger_ledger::forecast::Method;
use spanledger_model::FemtoUsd;
use spanledger_state::State;
use tempfile::TempDir;

use super::{DAY_NS, Fixture, NOW_NS};
use crate::error::ErrorKind;
use crate::finops::Finops;
use crate::finops::budgets::budget_from;
use crate::forecast::ForecastRequest;
use crate::{CostRequest, Dimension};

struct Office {
    fixture: Fixture,
    finops: Finops,
    audit: Audit,
    state: State,
    folder: TempDir,
}

async fn office() -> Office {
    let fixture = Fixture::filled().await;
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path()).await.unwrap();
    let audit = Audit::open(state.clone(), std::sync::Arc::new(super::FixedClock), 400);
    let finops = Finops::new(fixture.engine.clone(), state.clone(), audit.clone(), folder.path());
    Office {
        fixture,
        finops,
        audit,
        state,
        folder,
    }
}

fn lead(team: &str) -> Principal {
    Principal::local().with_rows(RowFilter::new([("team".to_owned(), vec![team.to_owned()])]).unwrap())
}

fn of_team(name: &str, amount: &str, team: &str) -> crate::Result<spanledger_ledger::budget::Budget> {
    budget_from(
        name,
        amount,
        None,
        vec![("team".to_owned(), vec![Some(team.to_owned())])],
        None,
    )
}

#[tokio::test]
async fn a_forecast_begins_with_what_a_cost_report_says_to_the_last_digit() {
    let fixture = Fixture::filled().await;
    let request = ForecastRequest {
        by: Some(Dimension::parse("team").unwrap()),
        ..ForecastRequest::default()
    };
    let report = fixture.engine.forecast(&Principal::local(), &request).await.unwrap();
    let costs = CostRequest {
        by: vec![Dimension::parse("team").unwrap()],
        since_ns: Some(report.since_ns),
        until_ns: Some(NOW_NS),
        ..CostRequest::default()
    };
    let costs = fixture.engine.costs(&Principal::local(), &costs).await.unwrap();
    assert_eq!(report.total.actual, costs.total.cost.unwrap());
    let actuals: FemtoUsd = report.rows.iter().map(|row| row.actual).sum();
    assert_eq!(actuals, report.total.actual);
    for row in &report.rows {
        let same = costs.rows.iter().find(|cost| cost.keys[0] == row.key).unwrap();
        assert_eq!(row.actual, same.cost.unwrap_or_default(), "{:?}", row.key);
        assert!(row.forecast >= row.actual && row.interval.is_none());
    }
    // Two days with usage: a run rate, and no month that anybody could forecast by weekday.
    assert_eq!((report.total.method, report.unpriced_tokens), (Method::RunRate, 550));
    // Nothing after the instant is looked at.
    let earlier = ForecastRequest {
        as_of_ns: Some(NOW_NS - 3 * DAY_NS),
        ..ForecastRequest::default()
    };
    let earlier = fixture.engine.forecast(&Principal::local(), &earlier).await.unwrap();
    assert_eq!(earlier.total.actual, FemtoUsd::ZERO);
}

#[tokio::test]
async fn a_budget_is_previewed_set_measured_and_deleted_and_the_audit_log_has_it() {
    let office = office().await;
    let (finops, local) = (&office.finops, Principal::local());
    let budget = || of_team("support", "0.10", "support").unwrap();
    let preview = finops.preview_budget(&local, budget()).await.unwrap();
    assert!(preview.replaces.is_none() && finops.budgets(&local, None).await.unwrap().is_empty());
    let set = finops.set_budget(&local, Interface::Rest, budget()).await.unwrap();
    assert_eq!(set, preview.measured);
    // 0.003 + 0.0012 + 0.0030005 + 0.000000000000001 + 0.1, over the amount since yesterday.
    assert_eq!(set.standing.spent.to_string(), "0.107200500000001");
    assert_eq!(
        (set.standing.state.as_str(), set.breach_date().as_deref()),
        ("exceeded", Some("2026-11-21"))
    );
    assert_eq!(set.standing.remaining, set.budget.amount - set.standing.spent);
    let again = of_team("support", "5", "support").unwrap();
    let preview = finops.preview_budget(&local, again.clone()).await.unwrap();
    assert_eq!(preview.replaces.unwrap().amount, FemtoUsd::parse("0.10").unwrap());
    let set = finops.set_budget(&local, Interface::Mcp, again).await.unwrap();
    assert_eq!(set.standing.state.as_str(), "ok");
    assert_eq!(finops.budgets(&local, None).await.unwrap(), [set]);
    finops.delete_budget(&local, Interface::Cli, "support").await.unwrap();
    let error = finops
        .delete_budget(&local, Interface::Cli, "support")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let log = office
        .audit
        .list(local.tenant().as_str(), &Filter::default())
        .await
        .unwrap();
    let actions: Vec<(&str, &str)> = log
        .iter()
        .rev()
        .map(|entry| (entry.action.as_str(), entry.interface.as_str()))
        .collect();
    assert_eq!(
        actions,
        [("budget.set", "rest"), ("budget.set", "mcp"), ("budget.delete", "cli")]
    );
    // What cannot be audited is not done.
    office.state.close().await;
    assert!(finops.set_budget(&local, Interface::Rest, budget()).await.is_err());
}

#[tokio::test]
async fn who_sees_some_rows_budgets_within_them_and_sets_no_rules() {
    let office = office().await;
    let finops = &office.finops;
    let (local, support) = (Principal::local(), lead("support"));
    finops
        .set_budget(&local, Interface::Rest, of_team("theirs", "9", "research").unwrap())
        .await
        .unwrap();
    let own = of_team("own", "9", "support").unwrap();
    finops.set_budget(&support, Interface::Rest, own).await.unwrap();
    let names: Vec<String> = finops
        .budgets(&support, None)
        .await
        .unwrap()
        .into_iter()
        .map(|measured| measured.budget.name)
        .collect();
    assert_eq!(names, ["own"]);
    let everything = budget_from("all", "9", Some("week"), Vec::new(), None).unwrap();
    let over = of_team("theirs", "1", "support").unwrap();
    for budget in [everything, of_team("other", "9", "research").unwrap(), over] {
        let error = finops.set_budget(&support, Interface::Rest, budget).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{}", error.message());
    }
    assert!(finops.delete_budget(&support, Interface::Rest, "theirs").await.is_err());
    assert_eq!(
        finops.preview_rule(&support, rule()).await.unwrap_err().kind(),
        ErrorKind::Forbidden
    );
    assert_eq!(finops.rules(&support).unwrap_err().kind(), ErrorKind::Forbidden);
    assert_eq!(Period::parse("week").unwrap(), Period::Week);
}

fn rule() -> NewRule {
    NewRule {
        name: "desk".to_owned(),
        matches: BTreeMap::from([("service".to_owned(), vec!["desk".to_owned()])]),
        unless: BTreeMap::new(),
        set: BTreeMap::from([("team".to_owned(), "helpdesk".to_owned())]),
        overrides: false,
        valid_from: None,
        valid_to: None,
    }
}

#[tokio::test]
async fn a_rule_is_previewed_in_money_and_set_as_a_version() {
    let office = office().await;
    let (finops, local) = (&office.finops, Principal::local());
    let preview = finops.preview_rule(&local, rule()).await.unwrap();
    // Only the call of nobody's team is moved: the others are told by their records.
    assert_eq!(
        preview["moves"],
        serde_json::json!([{
            "dimension": "team", "from": "__unallocated__", "to": "helpdesk", "rule": "desk", "calls": 1, "cost": "12.5",
        }])
    );
    assert_eq!(preview["replaces"], serde_json::Value::Null);
    let store = RuleStore::new(office.folder.path());
    assert!(store.current().unwrap().is_none(), "a preview writes nothing");
    let version = finops.set_rule(&local, Interface::Mcp, rule()).await.unwrap().unwrap();
    assert_eq!(store.current_id().unwrap(), version);
    assert!(finops.set_rule(&local, Interface::Mcp, rule()).await.unwrap().is_none());
    let rules = finops.rules(&local).unwrap();
    assert_eq!(rules["rules"][0]["name"], "desk");
    // The engine explains by it once it is told.
    office.fixture.engine.allocate_by(store.current_rules().unwrap());
    assert_eq!(office.fixture.engine.clone().rules().version(), version);
    let mut dearer = rule();
    dearer.overrides = true;
    let preview = finops.preview_rule(&local, dearer).await.unwrap();
    assert!(preview["moves"].as_array().unwrap().len() > 1 && preview["replaces"].is_string());
}
