//! Settlement against a real lake: late, repeated and corrected records, restarts, rebuilds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod allocated;
mod beyond_a_component;
mod prefixes;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use spanledger_lake::tables::{Table, calls, ledger_lines, observations};
use spanledger_lake::{Lake, LakeOptions, Replay, TableRows, WalRecord};
use spanledger_model::call::{Dimensions, McpFields, ModelFields, Sizes};
use spanledger_model::clock::SystemClock;
use spanledger_model::{
    Call, CallKind, FemtoUsd, LedgerLine, LineKind, Observation, ObservationId, Role, Source, SpanId, Status, TenantId,
    TraceId, Usage,
};

use super::{SettleOptions, Settler};
use crate::prices::PriceBook;

#[derive(Debug)]
struct NothingToReplay;

impl Replay for NothingToReplay {
    fn rows(&self, _record: &WalRecord) -> spanledger_lake::Result<TableRows> {
        Ok(Vec::new())
    }
}

async fn open(folder: &Path) -> Lake {
    let options = LakeOptions {
        data_dir: folder.to_path_buf(),
        ..LakeOptions::default()
    };
    Lake::open(options, Arc::new(SystemClock), &NothingToReplay)
        .await
        .unwrap()
}

/// Settles only when told to.
fn settler(lake: &Lake) -> Settler {
    spawn(
        lake,
        SettleOptions {
            quiet_ms: i64::MAX / 2_000_000,
            wait_max_ms: i64::MAX / 2_000_000,
            ..SettleOptions::default()
        },
    )
}

/// Evicts everything that is settled.
fn forgetful_settler(lake: &Lake) -> Settler {
    spawn(
        lake,
        SettleOptions {
            observations_max: 1,
            ..SettleOptions::default()
        },
    )
}

fn spawn(lake: &Lake, options: SettleOptions) -> Settler {
    Settler::spawn(
        lake.clone(),
        PriceBook::embedded().unwrap(),
        Arc::new(SystemClock),
        options,
    )
}

async fn append(lake: &Lake, rows: &[Observation]) {
    let record = WalRecord {
        kind: 1,
        tenant: TenantId::from_credential("default"),
        arrived_ns: 1,
        payload: Bytes::from(format!("{rows:?}")),
    };
    lake.append_batch(record, vec![(Table::Observations, observations::to_batch(rows))])
        .await
        .unwrap();
}

async fn stored_calls(lake: &Lake) -> Vec<Call> {
    let mut stored = Vec::new();
    for file in lake.snapshot(Table::Calls).unwrap().files.iter() {
        for batch in lake.read_file(Table::Calls, file, None).await.unwrap() {
            stored.extend(calls::from_batch(&batch));
        }
    }
    stored.sort_by_key(|call| (call.start_ns, call.call_id));
    stored
}

async fn stored_lines(lake: &Lake) -> Vec<LedgerLine> {
    let mut stored = Vec::new();
    for file in lake.snapshot(Table::Ledger).unwrap().files.iter() {
        for batch in lake.read_file(Table::Ledger, file, None).await.unwrap() {
            stored.extend(ledger_lines::from_batch(&batch));
        }
    }
    stored
}

fn cost(lines: &[LedgerLine]) -> FemtoUsd {
    lines.iter().filter_map(|line| line.effective_cost).sum()
}

fn tokens(lines: &[LedgerLine]) -> i64 {
    lines.iter().filter_map(|line| line.tokens).sum()
}

fn model_call(id: u8, input: i64, output: i64) -> Observation {
    Observation {
        tenant: TenantId::from_credential("default"),
        observation_id: ObservationId([id; 16]),
        source: Source::Span,
        dialect: "gen_ai".into(),
        scope: Some("agent".into()),
        name: "chat".into(),
        arrived_ns: 1,
        role: Role::Leaf,
        kind: CallKind::Llm,
        operation: Some("chat".into()),
        start_ns: 1_795_000_000_000_000_000 + i64::from(id) * 1_000_000_000,
        duration_ns: Some(500_000_000),
        status: Status::Ok,
        error_type: None,
        dimensions: Dimensions {
            team: Some("payments".into()),
            ..Dimensions::default()
        },
        turn_id: None,
        trace_id: Some(TraceId([9; 16])),
        span_id: Some(SpanId([id; 8])),
        parent_span_id: None,
        span_kind: Some(3),
        hop: None,
        arguments_hash: None,
        context_sizes: None,
        tool_call_id: None,
        mcp: McpFields::default(),
        model: ModelFields {
            provider: Some("anthropic".into()),
            request_model: Some("claude-sonnet-4-5".into()),
            response_id: Some(format!("msg_{id}")),
            ..ModelFields::default()
        },
        usage: Usage {
            input: Some(input),
            output: Some(output),
            ..Usage::default()
        },
        sizes: Sizes::default(),
        reported_cost: None,
        series: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_priced_and_its_lines_sum_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let settler = settler(&lake);
    append(&lake, &[model_call(1, 1_000_000, 1_000)]).await;
    settler.settle_now().await.unwrap();
    let stored = stored_calls(&lake).await;
    let lines = stored_lines(&lake).await;
    // claude-sonnet-4-5: above 200,000 input tokens 6 USD in and 22.5 USD out per million.
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].own_cost, Some(cost(&lines)));
    assert_eq!(cost(&lines).to_string(), "6.0225");
    assert_eq!(tokens(&lines), 1_001_000);
    assert_eq!(lines.iter().map(|line| line.n_calls).sum::<i64>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_model_is_unpriced_never_free() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let settler = settler(&lake);
    let mut unknown = model_call(1, 700, 30);
    unknown.model.request_model = Some("acme-internal-7b".into());
    unknown.model.provider = Some("acme".into());
    append(&lake, &[unknown]).await;
    settler.settle_now().await.unwrap();
    let lines = stored_lines(&lake).await;
    assert_eq!(stored_calls(&lake).await[0].own_cost, None);
    assert!(
        lines
            .iter()
            .all(|line| line.effective_cost.is_none() && line.list_cost.is_none())
    );
    assert_eq!(tokens(&lines), 730);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_record_revises_the_call_and_reverses_its_lines() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let settler = settler(&lake);
    let span = model_call(1, 1_000, 100);
    append(&lake, std::slice::from_ref(&span)).await;
    settler.settle_now().await.unwrap();
    let before = stored_calls(&lake).await;
    // The event of the same call knows the cost.
    let mut event = model_call(2, 1_000, 100);
    event.source = Source::Log;
    event.span_kind = None;
    event.start_ns = span.start_ns;
    event.model.response_id.clone_from(&span.model.response_id);
    event.reported_cost = FemtoUsd::parse("0.005");
    append(&lake, &[event]).await;
    let report = settler.settle_now().await.unwrap();
    let stored = stored_calls(&lake).await;
    let lines = stored_lines(&lake).await;
    assert_eq!(report.n_calls_outdated, 1);
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].call_id, before[0].call_id, "a call keeps its identity");
    assert_eq!(stored[0].own_cost, FemtoUsd::parse("0.005"));
    assert_eq!(cost(&lines).to_string(), "0.005");
    assert_eq!(tokens(&lines), 1_100);
    assert!(lines.iter().any(|line| line.line_kind == LineKind::Reversal));
}

#[tokio::test(flavor = "multi_thread")]
async fn settling_again_after_a_restart_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let rows: Vec<Observation> = (1..=20).map(|id| model_call(id, 1_000 * i64::from(id), 10)).collect();
    append(&lake, &rows[..12]).await;
    settler(&lake).settle_now().await.unwrap();
    append(&lake, &rows[8..]).await;
    settler(&lake).settle_now().await.unwrap();
    let (calls, lines) = (stored_calls(&lake).await, stored_lines(&lake).await);
    assert_eq!(calls.len(), 20);
    assert_eq!(tokens(&lines), (1..=20).map(|id| 1_000 * id + 10).sum::<i64>());
    lake.shutdown().await.unwrap();
    let lake = open(folder.path()).await;
    let again = settler(&lake);
    let report = again.settle_now().await.unwrap();
    assert_eq!((report.n_calls_written, report.n_lines), (0, 0));
    let report = again.rebuild().await.unwrap();
    assert_eq!(
        (report.n_calls_written, report.n_calls_outdated, report.n_lines),
        (0, 0, 0)
    );
    assert_eq!(stored_calls(&lake).await, calls);
}

/// What a crash between the two commits of a settlement leaves undone: the calls. Their files are taken out again.
async fn take_calls_out(lake: &Lake) {
    let snapshot = lake.snapshot(Table::Calls).unwrap();
    let commit = spanledger_lake::Commit {
        adds: Vec::new(),
        removes: snapshot.files.iter().map(|file| file.path.clone()).collect(),
        txn: None,
        operation: "TEST",
    };
    lake.commit(Table::Calls, commit).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_looks_only_at_what_may_not_be_settled() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let mut rows: Vec<Observation> = (1..=4).map(|id| model_call(id, 1_000, 10)).collect();
    for (row, id) in rows.iter_mut().zip(1..) {
        row.trace_id = Some(TraceId([id; 16]));
    }
    // One came just now, the others long ago, into files that are as young.
    rows[3].arrived_ns = spanledger_model::Clock::now_ns(&SystemClock);
    append(&lake, &rows).await;
    assert_eq!(settler(&lake).settle_now().await.unwrap().n_components, 4);
    let again = settler(&lake).settle_now().await.unwrap();
    assert_eq!((again.n_components, again.n_calls_written, again.n_lines), (1, 0, 0));
    take_calls_out(&lake).await;
    let repaired = settler(&lake).settle_now().await.unwrap();
    assert_eq!(
        (repaired.n_components, repaired.n_calls_written, repaired.n_lines),
        (4, 4, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_that_is_ended_is_gone_on_with_after_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    append(&lake, &[model_call(1, 1_000, 100)]).await;
    let ended = settler(&lake);
    ended.abort();
    assert!(ended.settle_now().await.is_err());
    assert_eq!(settler(&lake).settle_now().await.unwrap().n_calls_written, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_ledger_and_calls_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    append(&lake, &[model_call(1, 1_000, 100)]).await;
    settler(&lake).settle_now().await.unwrap();
    let lines = stored_lines(&lake).await;
    take_calls_out(&lake).await;
    let report = settler(&lake).rebuild().await.unwrap();
    assert_eq!((report.n_calls_written, report.n_lines), (1, 0));
    assert_eq!(cost(&stored_lines(&lake).await), cost(&lines));
    assert_eq!(stored_calls(&lake).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn late_data_for_a_forgotten_day_settles_as_if_it_had_been_kept() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let settler = forgetful_settler(&lake);
    // All of 2020: long before the days that stay in memory.
    let old = |id: u8| {
        let mut call = model_call(id, 1_000, 100);
        call.start_ns -= 5 * 365 * 86_400_000_000_000;
        call
    };
    append(&lake, &[old(1), old(2), old(3)]).await;
    settler.settle_now().await.unwrap();
    let mut event = old(4);
    event.source = Source::Log;
    event.span_kind = None;
    event.start_ns = old(1).start_ns;
    event.model.response_id = old(1).model.response_id;
    event.reported_cost = FemtoUsd::parse("0.005");
    append(&lake, &[event]).await;
    let report = settler.settle_now().await.unwrap();
    let stored = stored_calls(&lake).await;
    assert_eq!(
        (stored.len(), report.n_calls_written, report.n_calls_outdated),
        (3, 1, 1)
    );
    assert_eq!(tokens(&stored_lines(&lake).await), 3 * 1_100);
    let report = settler.rebuild().await.unwrap();
    assert_eq!(
        (report.n_calls_written, report.n_calls_outdated, report.n_lines),
        (0, 0, 0)
    );
}
