//! Rules in settlement: a rebuild by other rules moves history by reversals, and never changes a sum.

use std::collections::BTreeMap;

use super::*;
use crate::allocation::{RuleSet, file};

const HOUR_NS: i64 = 3_600_000_000_000;
/// The rules: one that holds from between the second and the third call, and one that sees what it sets.
const MOVES: &str = "\
[[rules]]\nname = \"moved\"\nmatch = { service = \"desk\" }\nset = { team = \"support\" }\noverride = true\n\
valid_from = 2026-11-18T13:30:00Z\n\
[[rules]]\nname = \"books\"\nmatch = { team = \"support\" }\nset = { cost_center = \"CC-9\" }\n";

/// Six calls of one session, an hour apart: what the first ones sent is sent again by the later ones.
fn session() -> Vec<Observation> {
    let call = |id: u8| {
        let mut call = model_call(id, 1_000 * i64::from(id), 100);
        call.start_ns = 1_795_000_000_000_000_000 + i64::from(id) * HOUR_NS;
        call.dimensions.session_id = Some("s".into());
        call.dimensions.service = Some("desk".into());
        call
    };
    (1..=6).map(call).collect()
}

/// A settler that settles only when told to.
fn by_rules(lake: &Lake, text: &str) -> Settler {
    let rules = RuleSet::compose("v1", &[file::read("rules", text).unwrap()]).unwrap();
    let options = SettleOptions {
        quiet_ms: i64::MAX / 2_000_000,
        wait_max_ms: i64::MAX / 2_000_000,
        ..SettleOptions::default()
    };
    let terms = (PriceBook::embedded().unwrap(), Arc::new(rules));
    Settler::spawn(lake.clone(), terms, Arc::new(SystemClock), options)
}

/// Effective cost by team and cost centre, of the lines and of the calls.
async fn by_owner(lake: &Lake) -> BTreeMap<(Option<String>, Option<String>), FemtoUsd> {
    let mut of_lines: BTreeMap<_, FemtoUsd> = BTreeMap::new();
    for line in stored_lines(lake).await {
        let key = (line.dimensions.team.clone(), line.dimensions.cost_center.clone());
        *of_lines.entry(key).or_default() += line.effective_cost.unwrap();
    }
    of_lines.retain(|_, cost| *cost != FemtoUsd::ZERO);
    let mut of_calls: BTreeMap<_, FemtoUsd> = BTreeMap::new();
    for call in stored_calls(lake).await {
        let key = (call.dimensions.team, call.dimensions.cost_center);
        *of_calls.entry(key).or_default() += call.own_cost.unwrap();
    }
    assert_eq!(of_lines, of_calls, "the lines have the dimensions of their calls");
    of_lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_by_other_rules_moves_history_from_their_date_and_changes_no_sum() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    append(&lake, &session()).await;
    settler(&lake).settle_now().await.unwrap();
    let before = by_owner(&lake).await;
    let total = cost(&stored_lines(&lake).await);
    assert_eq!(before.len(), 1);

    let report = by_rules(&lake, MOVES).rebuild().await.unwrap();
    let moved = by_owner(&lake).await;
    let owner = |team: &str, center: Option<&str>| (Some(team.to_owned()), center.map(str::to_owned));
    assert_eq!(
        moved.keys().cloned().collect::<Vec<_>>(),
        [owner("payments", None), owner("support", Some("CC-9"))]
    );
    assert_eq!(cost(&stored_lines(&lake).await), total);
    let ruled: Vec<Option<String>> = stored_calls(&lake)
        .await
        .into_iter()
        .map(|call| call.allocated_by)
        .collect();
    let n_ruled = ruled.iter().flatten().count();
    assert_eq!(n_ruled, 4, "{ruled:?}");
    assert_eq!(
        ruled.iter().flatten().next().unwrap(),
        "team=moved<payments,cost_center=books"
    );
    assert_eq!(
        report.n_calls_written, n_ruled as u64,
        "calls before the date stay as they are"
    );
    let reversed = stored_lines(&lake)
        .await
        .into_iter()
        .filter(|line| line.line_kind == LineKind::Reversal);
    assert!(reversed.count() > 0);

    // Fresh by the same rules is the same, and again changes nothing.
    let again = by_rules(&lake, MOVES).rebuild().await.unwrap();
    assert_eq!((again.n_lines, again.n_calls_written), (0, 0));
    let fresh_folder = tempfile::tempdir().unwrap();
    let fresh = open(fresh_folder.path()).await;
    append(&fresh, &session()).await;
    by_rules(&fresh, MOVES).settle_now().await.unwrap();
    assert_eq!(by_owner(&fresh).await, moved);

    // Without rules it is as it was.
    by_rules(&lake, "").rebuild().await.unwrap();
    assert_eq!(by_owner(&lake).await, before);
    assert!(stored_calls(&lake).await.iter().all(|call| call.allocated_by.is_none()));
}
