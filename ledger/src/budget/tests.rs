//! Budgets on given sums: calendar periods, standings and breach dates, what is refused, scopes within a filter.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

/// 2026-11-22T10:00:00Z, a Sunday.
const NOW_NS: i64 = 1_795_341_600_000_000_000;

fn budget(amount: &str) -> Budget {
    Budget {
        name: "support".to_owned(),
        scope: Scope::from([("team".to_owned(), vec![Some("support".to_owned())])]),
        amount: FemtoUsd::parse(amount).unwrap(),
        period: Period::Month,
        thresholds: Thresholds::default(),
    }
}

fn usd(days: &[i128]) -> Vec<FemtoUsd> {
    days.iter().map(|day| FemtoUsd(day * FemtoUsd::ONE_USD.0)).collect()
}

#[test]
fn periods_are_those_of_the_calendar_in_utc() {
    let day = |ns: i64| DateTime::from_timestamp_nanos(ns).date_naive().to_string();
    for (period, first, next, before) in [
        (Period::Day, "2026-11-22", "2026-11-23", "2026-11-21"),
        (Period::Week, "2026-11-16", "2026-11-23", "2026-11-09"),
        (Period::Month, "2026-11-01", "2026-12-01", "2026-10-01"),
        (Period::Quarter, "2026-10-01", "2027-01-01", "2026-07-01"),
    ] {
        let (start, end) = period.around(NOW_NS);
        assert_eq!(
            (day(start), day(end), day(period.before(start))),
            (first.to_owned(), next.to_owned(), before.to_owned())
        );
    }
}

#[test]
fn a_budget_is_at_risk_before_it_is_exceeded_and_says_when_it_breaks() {
    // Two days known, two to come (and the rest of today).
    let spending = Spending {
        days: usd(&[10, 20]),
        ahead: usd(&[5, 30, 30]),
        interval: Some((FemtoUsd::ZERO, FemtoUsd::ONE_USD)),
        last_hour: FemtoUsd::ONE_USD,
        last_day: usd(&[24])[0],
    };
    for (amount, state, breach) in [
        ("200", State::Ok, None),
        ("95", State::AtRisk, Some(3)),
        ("65", State::AtRisk, Some(2)),
        ("35", State::Warning, Some(1)),
        ("30", State::Exceeded, Some(1)),
        ("10", State::Exceeded, Some(0)),
    ] {
        let standing = measure(&budget(amount), NOW_NS, &spending);
        assert_eq!((standing.state, standing.breach_day), (state, breach), "{amount}");
        assert_eq!(standing.spent + spending.ahead.iter().copied().sum(), standing.forecast);
    }
    // 1 USD an hour is 720 a month of 30 days.
    let standing = measure(&budget("72"), NOW_NS, &spending);
    assert_eq!((standing.burn_1h_percent, standing.burn_24h_percent), (1_000, 1_000));
    assert_eq!(standing.burning(), Some("slow"));
    assert_eq!(measure(&budget("50"), NOW_NS, &spending).burning(), Some("fast"));
}

#[test]
fn what_cannot_be_a_budget_is_refused_with_what_is_wrong() {
    assert!(budget("5").checked().is_ok());
    for (change, says) in [
        (
            Box::new(|budget: &mut Budget| budget.name = "a b".to_owned()) as Box<dyn Fn(&mut Budget)>,
            "name",
        ),
        (Box::new(|budget| budget.amount = FemtoUsd::ZERO), "above 0"),
        (Box::new(|budget| budget.thresholds.actual = vec![0]), "percentages"),
        (
            Box::new(|budget| drop(budget.scope.insert("tool".to_owned(), Vec::new()))),
            "tool",
        ),
    ] {
        let mut wrong = budget("5");
        change(&mut wrong);
        let error = wrong.checked().unwrap_err();
        assert!(error.message().contains(says), "{}", error.message());
    }
}

#[test]
fn a_scope_is_within_a_filter_only_where_all_of_it_is() {
    let allowed = ["support".to_owned(), "sales".to_owned()];
    let mut budget = budget("5");
    assert!(budget.is_within("team", &allowed) && !budget.is_within("environment", &allowed));
    budget
        .scope
        .insert("team".to_owned(), vec![Some("support".to_owned()), None]);
    assert!(!budget.is_within("team", &allowed));
    budget.scope.clear();
    assert!(!budget.is_within("team", &allowed));
}
