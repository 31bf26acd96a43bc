//! Two tenants in one lake: one sees nothing of the other through any name, plan or message.

use super::{CANARY, Fixture, RIVAL, written};
use crate::format::Format;
use crate::views;

#[tokio::test]
async fn no_table_view_or_plan_shows_another_tenant() {
    let fixture = Fixture::filled().await;
    for flushed in [false, true] {
        let mut statements: Vec<String> = vec![
            "SHOW TABLES".into(),
            "SELECT * FROM information_schema.tables".into(),
            "SELECT * FROM information_schema.columns".into(),
            "SELECT * FROM information_schema.views".into(),
            "SELECT * FROM information_schema.schemata".into(),
            "SELECT DISTINCT tenant FROM calls UNION SELECT DISTINCT tenant FROM spans".into(),
            format!("SELECT * FROM calls WHERE tenant = '{RIVAL}'"),
            "SELECT * FROM calls WHERE tenant <> 'default' OR true".into(),
            "SELECT a.* FROM spans a FULL JOIN spans b ON a.tenant <> b.tenant".into(),
            "SELECT * FROM calls WHERE tenant IN (SELECT tenant FROM ledger)".into(),
            "SELECT MIN(tenant), MAX(tenant), MIN(team), MAX(team), array_agg(tool) FROM calls".into(),
            "SELECT * FROM spans ORDER BY tenant DESC LIMIT 100".into(),
        ];
        for name in views::table_names() {
            statements.push(format!("SELECT * FROM {name}"));
            statements.push(format!("EXPLAIN VERBOSE SELECT * FROM {name}"));
            statements.push(format!("EXPLAIN ANALYZE SELECT COUNT(*) FROM {name}"));
            statements.push(format!("DESCRIBE {name}"));
        }
        for sql in statements {
            let text = match fixture.ask(&sql).await {
                Ok(result) => written(&result, Format::Csv),
                Err(error) => panic!("{sql}: {}", error.detail()),
            };
            let text = text
                .replace(&format!("tenant = Utf8(\"{RIVAL}\")"), "")
                .replace(&format!("tenant = {RIVAL}"), "");
            assert!(
                !text.contains(CANARY),
                "{sql} (flushed: {flushed}) shows the rival: {text:.2000}"
            );
            assert!(
                !text.contains("tenant=rival"),
                "{sql} names the rival's files: {text:.2000}"
            );
        }
        fixture.lake.flush().await.unwrap();
    }
}

#[tokio::test]
async fn sums_and_counts_are_of_the_own_tenant() {
    let fixture = Fixture::filled().await;
    assert_eq!(
        fixture.answer("SELECT SUM(effective_cost), COUNT(*) FROM ledger").await,
        "12.607200500000001,8"
    );
    assert_eq!(fixture.answer("SELECT COUNT(*) FROM calls").await, "6");
    assert_eq!(fixture.answer("SELECT COUNT(DISTINCT tenant) FROM spans").await, "1");
    let status = fixture
        .engine
        .status(&spanledger_access::Principal::local())
        .await
        .unwrap();
    assert_eq!(
        (
            status.n_calls,
            status.n_spans,
            status.n_ledger_lines,
            status.n_observations
        ),
        (6, 6, 8, 6)
    );
}

#[tokio::test]
async fn every_scan_carries_the_tenant_filter() {
    let fixture = Fixture::filled().await;
    let plan = fixture
        .answer("EXPLAIN SELECT COUNT(*) FROM calls WHERE true OR tenant = 'rival'")
        .await;
    assert!(
        plan.contains("FilterExec: tenant@") && plan.contains("= default"),
        "{plan}"
    );
}
