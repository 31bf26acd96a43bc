//! The view `allocated_costs`: every dimension sums to the whole, and conditions change nothing but what is shown.

use std::sync::Arc;

use spanledger_ledger::allocation::{RuleSet, file};

use super::*;
use crate::rows::rows;

const SHARED: &str = "\
[[shared]]\nname = \"seats\"\namount = \"100.000000000000001\"\nmethod = \"even\"\nby = \"team\"\npools = { servers = 7.5 }\n\
[[shared]]\nname = \"servers\"\namount = 1\nper = \"day\"\nweight = \"llm_calls\"\nmatch = { provider = \"anthropic\" }\nby = \"team\"\n\
[[shared]]\nname = \"commitment\"\namount = 3\nweight = \"cost\"\n";

async fn engine() -> (Fixture, Engine) {
    let fixture = Fixture::filled().await;
    let rules = RuleSet::compose("v1-test", &[file::read("shared", SHARED).unwrap()]).unwrap();
    let engine = fixture.engine.clone().with_rules(Arc::new(rules));
    (fixture, engine)
}

/// The texts of some columns, a row a line.
async fn ask(engine: &Engine, sql: &str, columns: &[&str]) -> Vec<Vec<String>> {
    let result = engine
        .sql(&Principal::local(), sql, &QueryOptions::default())
        .await
        .unwrap();
    let line = |row: crate::rows::Row<'_>| columns.iter().map(|name| row.text(name).unwrap_or_default()).collect();
    rows(&result).map(line).collect()
}

#[tokio::test]
async fn every_dimension_sums_to_direct_and_shared_cost() {
    let (_fixture, engine) = engine().await;
    let direct = ask(&engine, "SELECT SUM(effective_cost) AS cost FROM ledger", &["cost"]).await;
    let whole = ask(
        &engine,
        "SELECT kind, CAST(SUM(cost) AS DECIMAL(38,15)) AS cost FROM allocated_costs \
         WHERE period = '2026-11' AND dimension = 'team' GROUP BY kind ORDER BY kind",
        &["kind", "cost"],
    )
    .await;
    assert_eq!(
        whole,
        [
            vec!["direct".to_owned(), direct[0][0].clone()],
            vec!["shared".into(), "133.000000000000001".into()]
        ]
    );
    let sums = ask(
        &engine,
        "SELECT dimension, CAST(SUM(cost) AS DECIMAL(38,15)) AS cost FROM allocated_costs GROUP BY dimension",
        &["cost"],
    )
    .await;
    assert_eq!(sums.len(), file::DIMENSIONS.len());
    assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
}

#[tokio::test]
async fn parts_name_their_cost_method_and_weight() {
    let (_fixture, engine) = engine().await;
    let sql = "SELECT value, method, weight, weight_total, cost, rules_version FROM allocated_costs \
               WHERE dimension IN ('team', 'agent') AND 'team' = dimension AND period IN ('2026-11') \
               AND shared_cost = 'commitment' ORDER BY value";
    let parts = ask(
        &engine,
        sql,
        &["value", "method", "weight", "weight_total", "rules_version"],
    )
    .await;
    let part = |value: &str, weight: &str| {
        let text = [value, "proportional to cost", weight, "12.607200500000001", "v1-test"];
        text.map(str::to_owned).to_vec()
    };
    assert_eq!(
        parts,
        [part("__unallocated__", "12.5"), part("support", "0.107200500000001")]
    );
}

#[tokio::test]
async fn a_month_without_usage_has_the_shared_costs_that_hold_in_it() {
    let (_fixture, engine) = engine().await;
    let of = async |period: &str| {
        let sql = format!(
            "SELECT value, shared_cost, cost FROM allocated_costs WHERE dimension = 'team' AND period = {} ORDER BY shared_cost",
            crate::costs::quoted(period)
        );
        ask(&engine, &sql, &["value", "shared_cost", "cost"]).await
    };
    let none = |cost: &str, amount: &str| ["__unallocated__", cost, amount].map(str::to_owned).to_vec();
    assert_eq!(
        of("2026-02").await,
        [
            none("commitment", "3"),
            none("seats", "92.500000000000001"),
            none("servers", "35.5")
        ]
    );
    assert!(of("someday' OR '1' = '1").await.is_empty());
}
