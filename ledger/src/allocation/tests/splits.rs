//! Splits of shared costs: sums, methods, steps down, and what nobody bears.

use std::collections::BTreeMap;

use proptest::prelude::*;
use spanledger_model::FemtoUsd;

use super::super::split::{Pool, Usage, split};
use super::super::{Period, RuleSet, UNALLOCATED};
use super::rules::set;

fn usage(value: Option<&str>, server: &str, cost: &str, calls: i64) -> Usage {
    Usage {
        value: value.map(str::to_owned),
        fields: BTreeMap::from([("server", server.to_owned())]),
        cost: FemtoUsd::parse(cost).unwrap(),
        tokens: calls * 10,
        calls,
        llm_calls: 0,
        tool_calls: calls,
    }
}

fn november() -> Period {
    Period::parse("2026-11").unwrap()
}

/// The parts of a pool as text.
fn parts(pool: &Pool) -> Vec<(&str, String)> {
    let part = |share: &'_ super::super::split::Share| share.amount.to_string();
    pool.shares
        .iter()
        .map(|share| (share.value.as_str(), part(share)))
        .collect()
}

fn pools(rules: &RuleSet, usage: &[Usage]) -> Vec<Pool> {
    split(rules.shared(), november(), "team", usage)
}

fn of(text: &str) -> Vec<(String, String)> {
    let usage = [
        usage(Some("payments"), "github", "3", 2),
        usage(Some("growth"), "github", "1", 6),
        usage(Some("growth"), "jira", "2", 100),
        usage(None, "github", "6", 1),
    ];
    let pools = pools(&set(text), &usage);
    parts(&pools[0])
        .into_iter()
        .map(|(name, part)| (name.to_owned(), part))
        .collect()
}

fn expected(parts: &[(&str, &str)]) -> Vec<(String, String)> {
    parts
        .iter()
        .map(|(name, part)| ((*name).to_owned(), (*part).to_owned()))
        .collect()
}

#[test]
fn each_method_splits_as_it_says() {
    let cost = |more: &str| format!("[[shared]]\nname = \"s\"\namount = \"12\"\n{more}");
    for (more, parts) in [
        ("method = \"even\"", &[("growth", "6"), ("payments", "6")][..]),
        (
            "method = \"even\"\namong = [\"payments\", \"growth\", \"sales\"]",
            &[("growth", "4"), ("payments", "4"), ("sales", "4")],
        ),
        ("method = \"even\"\nexcept = [\"growth\"]", &[("payments", "12")]),
        // Direct cost: 6 of nobody, 3 of each team.
        ("", &[(UNALLOCATED, "6"), ("growth", "3"), ("payments", "3")]),
        ("except = [\"__unallocated__\"]", &[("growth", "6"), ("payments", "6")]),
        (
            "weight = \"tool_calls\"\nmatch = { server = \"git*\" }\nexcept = [\"__unallocated__\"]",
            &[("growth", "9"), ("payments", "3")],
        ),
        (
            "shares = { payments = 2, growth = 1.0 }",
            &[("growth", "4"), ("payments", "8")],
        ),
        ("weight = \"llm_calls\"", &[(UNALLOCATED, "12")]),
        (
            "weight = \"llm_calls\"\nwithout_weight = \"even\"",
            &[("growth", "6"), ("payments", "6")],
        ),
        // Stated for another dimension.
        ("by = \"project\"\nmethod = \"even\"", &[(UNALLOCATED, "12")]),
    ] {
        assert_eq!(of(&cost(more)), expected(parts), "{more}");
    }
}

#[test]
fn what_division_leaves_over_goes_to_the_first_names() {
    let rules = set(
        "[[shared]]\nname = \"s\"\namount = \"0.000000000000005\"\nmethod = \"even\"\namong = [\"a\", \"b\", \"c\"]\n",
    );
    let pools = pools(&rules, &[]);
    assert_eq!(
        parts(&pools[0]),
        [
            ("a", "0.000000000000002".to_owned()),
            ("b", "0.000000000000002".to_owned()),
            ("c", "0.000000000000001".to_owned())
        ]
    );
}

#[test]
fn pools_step_down_in_their_order() {
    let rules = set(r#"
        [[shared]]
        name = "seats"
        amount = 100
        method = "even"
        among = ["a", "b"]
        pools = { servers = 20 }
        [[shared]]
        name = "servers"
        amount = 30
        shares = { a = 4, b = 1 }
        by = "team"
    "#
    .replace("method = \"even\"\n", "method = \"even\"\nby = \"team\"\n")
    .as_str());
    let pools = pools(&rules, &[]);
    assert_eq!(parts(&pools[0]), [("a", "40".to_owned()), ("b", "40".to_owned())]);
    assert_eq!(pools[0].passed_on.to_string(), "20");
    assert_eq!(
        (pools[1].amount.to_string(), pools[1].received.to_string()),
        ("30".into(), "20".into())
    );
    assert_eq!(parts(&pools[1]), [("a", "40".to_owned()), ("b", "10".to_owned())]);
}

#[test]
fn a_pool_that_does_not_hold_in_the_period_bears_nothing() {
    let rules = set(
        "[[shared]]\nname = \"x\"\namount = 10\nmethod = \"even\"\namong = [\"a\"]\npools = { y = 50 }\n\
                     [[shared]]\nname = \"y\"\namount = 10\nmethod = \"even\"\nperiod = \"2026-10\"\n",
    );
    let pools = pools(&rules, &[]);
    assert_eq!((pools.len(), parts(&pools[0])), (1, vec![("a", "10".to_owned())]));
}

#[test]
fn an_amount_falls_on_the_days_that_it_holds_on() {
    for (text, period, amount) in [
        ("per = \"month\"", "2026-11", Some("90")),
        ("per = \"day\"", "2026-11", Some("2700")),
        ("per = \"day\"", "2028-02", Some("2610")),
        ("valid_from = 2026-11-11", "2026-11", Some("60")),
        ("valid_from = 2026-11-11\nvalid_to = 2026-11-12", "2026-11", Some("3")),
        ("per = \"day\"\nvalid_to = 2026-11-03", "2026-11", Some("180")),
        ("valid_from = 2026-12-01", "2026-11", None),
        ("period = \"2026-11\"", "2026-11", Some("90")),
        ("period = \"2026-11\"", "2026-12", None),
    ] {
        let rules = set(&format!("[[shared]]\nname = \"s\"\namount = \"90\"\n{text}\n"));
        let found = rules.shared()[0].amount_in(Period::parse(period).unwrap());
        assert_eq!(
            found.map(|amount| amount.to_string()).as_deref(),
            amount,
            "{text} in {period}"
        );
    }
}

#[test]
fn a_period_is_a_month() {
    assert_eq!(Period::of(1_795_003_200_000_000_000).to_string(), "2026-11");
    for text in [
        "2026",
        "2026-13",
        "2026-1",
        "+2026-1",
        "2026-11-01",
        "november",
        "",
        "-026-11",
    ] {
        assert!(Period::parse(text).is_err(), "{text}");
    }
}

/// Any usage of up to six teams, with refunds and nobody's among it.
fn any_usage() -> impl Strategy<Value = Vec<Usage>> {
    let row = (
        0..7usize,
        0..3usize,
        -1_000_000_000_000_000i128..i128::from(i64::MAX),
        0..1_000_000i64,
    );
    prop::collection::vec(row, 0..30).prop_map(|rows| {
        let row = |(team, server, cost, calls): (usize, usize, i128, i64)| Usage {
            value: (team > 0).then(|| format!("team-{team}")),
            fields: BTreeMap::from([("server", ["github", "jira", "files"][server].to_owned())]),
            cost: FemtoUsd(cost),
            tokens: calls.saturating_mul(977),
            calls,
            llm_calls: calls / 3,
            tool_calls: calls / 2,
        };
        rows.into_iter().map(row).collect()
    })
}

/// A split of any kind.
fn any_method() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("method = \"even\"".to_owned()),
        Just("method = \"even\"\namong = [\"team-1\", \"nobody\"]".to_owned()),
        Just("weight = \"cost\"".to_owned()),
        Just("weight = \"cost\"\nexcept = [\"team-1\", \"team-2\"]\nwithout_weight = \"even\"".to_owned()),
        Just("weight = \"tokens\"\nmatch = { server = \"j*\" }".to_owned()),
        Just("weight = \"tool_calls\"\nwithout_weight = \"even\"".to_owned()),
        (1..1000u32, 1..1000u32).prop_map(|(a, b)| format!("shares = {{ team-1 = {a}, other = {b}.125 }}")),
    ]
}

proptest! {
    #[test]
    fn the_parts_of_every_split_sum_to_its_amount(
        usage in any_usage(),
        first in any_method(), second in any_method(), third in any_method(),
        amounts in prop::array::uniform3(-1_000_000_000_000i64..1_000_000_000_000),
        percents in prop::array::uniform3(1..33u32),
    ) {
        let amount = |index: usize| format!("amount = \"{}\"\nby = \"team\"", FemtoUsd(i128::from(amounts[index]) * 997));
        let text = format!(
            "[[shared]]\nname = \"x\"\n{}\n{first}\npools = {{ y = {}, z = {} }}\n\
             [[shared]]\nname = \"y\"\n{}\n{second}\npools = {{ z = {} }}\n\
             [[shared]]\nname = \"z\"\nper = \"day\"\n{}\n{third}\n",
            amount(0), percents[0], percents[1], amount(1), percents[2], amount(2),
        );
        let rules = set(&text);
        for dimension in ["team", "project"] {
            let pools = split(rules.shared(), november(), dimension, &usage);
            let stated: FemtoUsd = rules.shared().iter().filter_map(|cost| cost.amount_in(november())).sum();
            let mut all = FemtoUsd::ZERO;
            for pool in &pools {
                let parts: FemtoUsd = pool.shares.iter().map(|share| share.amount).sum();
                prop_assert_eq!(pool.amount + pool.received, pool.passed_on + parts);
                all += parts;
            }
            prop_assert_eq!(all, stated);
            // The order in which usage is read changes nothing.
            let mut reversed = usage.clone();
            reversed.reverse();
            prop_assert_eq!(&split(rules.shared(), november(), dimension, &reversed), &pools);
        }
    }

    #[test]
    fn splitting_a_team_splits_its_share(
        usage in any_usage(), part in 0..1_000_000i64, weight in prop::sample::select(vec!["cost", "tokens", "calls"]),
    ) {
        let rules = set(&format!("[[shared]]\nname = \"x\"\namount = \"1234.5\"\nweight = \"{weight}\"\n"));
        // Refunds aside: a part below zero would be no part.
        let mut whole: Vec<Usage> = usage.into_iter().filter(|row| row.cost.0 >= 0).collect();
        whole.push(super::splits::usage(Some("team-1"), "github", "5", 3_000_000));
        let mut divided = whole.clone();
        let last = divided.last_mut().unwrap();
        let (cost, calls) = (FemtoUsd(last.cost.0 / 3), part);
        let mut half = last.clone();
        half.value = Some("team-1b".to_owned());
        (half.cost, half.calls, half.tokens) = (cost, calls, calls);
        (last.cost, last.calls, last.tokens) = (last.cost - cost, last.calls - calls, last.tokens - calls);
        divided.push(half);
        let share = |rows: &[Usage], names: &[&str]| -> i128 {
            let pools = split(rules.shared(), november(), "team", rows);
            pools[0].shares.iter().filter(|share| names.contains(&share.value.as_str())).map(|share| share.amount.0).sum()
        };
        let difference = share(&whole, &["team-1"]) - share(&divided, &["team-1", "team-1b"]);
        prop_assert!(difference.abs() <= 2, "a part of a unit each, not {}", difference);
    }
}
