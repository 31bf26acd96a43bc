//! What was understood and what was not, and how a call was put together.

use std::sync::Arc;

use serde_json::Value;
use spanledger_access::Principal;
use spanledger_lake::Table;
use spanledger_lake::tables::{calls, observations};
use spanledger_ledger::fold::fold;
use spanledger_model::call::{CallKind, Status};
use spanledger_model::{Observation, ObservationId, Source, TraceId};

use super::{Fixture, NOW_NS, call, seen, span_id, spans};
use crate::dialects::Dialects;
use crate::error::ErrorKind;

/// One dialect that claims the service `mine` and reads no key; routes look like tools.
struct Fake;

impl Dialects for Fake {
    fn dialect_of(&self, _scope: &str, service: Option<&str>) -> Option<String> {
        (service == Some("claimed")).then(|| "fake".to_owned())
    }

    fn field_of(&self, _scope: &str, _service: Option<&str>, key: &str) -> Option<&'static str> {
        (key == "read.tokens").then_some("input")
    }

    fn usage_like(&self, key: &str) -> Option<&'static str> {
        match key {
            "http.route" => Some("tool"),
            key if key.ends_with("tokens") => Some("input"),
            _ => None,
        }
    }
}

#[tokio::test]
async fn keys_that_nobody_reads_are_named_by_type_and_never_by_value() {
    let fixture = Fixture::knowing(Arc::new(Fake)).await;
    let company = call("default", 1, CallKind::Tool, NOW_NS, "support");
    fixture
        .append("default", vec![(Table::Spans, spans("default", &[company]))])
        .await;
    let sql = "SELECT service, scope, signal, key, field, example_type, records FROM unmapped_keys";
    let before = fixture.answer(sql).await;
    assert_eq!(before, "mine,mine,span,http.route,tool,text,2");
    fixture.lake.flush().await.unwrap();
    assert_eq!(fixture.answer(sql).await, before);
    let report = fixture.engine.coverage(&Principal::local()).await.unwrap();
    assert_eq!(report.services[0]["unrecognised"], 2, "{}", report.services);
    assert_eq!(report.unmapped_keys[0]["key"], "http.route");
    assert!(
        report.mappings[0].toml.contains("tool = [\"http.route\"]"),
        "{:?}",
        report.mappings
    );
    assert!(
        report.mappings[0]
            .toml
            .contains("[[span]]\nhas  = [\"http.route\"]\nkind = \"tool\"")
    );
}

/// A tool call seen by a client and, below it, by a server, and a stranger in the same trace.
fn hops() -> Vec<Observation> {
    let at = |n: u8, start_ns: i64, duration_ns: i64| {
        let mut record = seen("default", &[call("default", n, CallKind::Tool, start_ns, "support")]).remove(0);
        record.observation_id = ObservationId([n; 16]);
        record.duration_ns = Some(duration_ns);
        record.mcp.mcp_method = Some("tools/call".into());
        record.mcp.tool = Some("search".into());
        record
    };
    let client = at(1, NOW_NS, 9_000);
    let mut server = at(2, NOW_NS + 1_000, 5_000);
    server.parent_span_id = client.span_id;
    server.span_kind = Some(2);
    server.mcp.server = Some("tickets".into());
    server.status = Status::Error;
    let mut other = at(3, NOW_NS + 60_000_000_000, 4_000);
    other.trace_id = Some(TraceId([3; 16]));
    other.dimensions.session_id = None;
    other.mcp.tool = Some("fetch".into());
    other.mcp.server = Some("files".into());
    vec![client, server, other]
}

async fn folded() -> (Fixture, String) {
    let fixture = Fixture::empty().await;
    let records = hops();
    let folded = fold(&records);
    assert_eq!(folded.calls.len(), 2, "{:?}", folded.calls);
    fixture
        .append("default", vec![(Table::Observations, observations::to_batch(&records))])
        .await;
    fixture.commit(Table::Calls, calls::to_batch(&folded.calls)).await;
    (fixture, folded.calls[0].call_id.to_string())
}

#[tokio::test]
async fn a_call_is_explained_by_its_id_its_beginning_a_span_and_its_trace() {
    let (fixture, id) = folded().await;
    let explain = async |id: &str| fixture.engine.explain(&Principal::local(), id).await;
    let whole = explain(&id).await.unwrap();
    assert_eq!((whole.calls.len(), whole.truncated, whole.narrowed), (1, false, false));
    let told = &whole.calls[0];
    assert_eq!(
        (&told["call_id"], &told["settled"], &told["status"]),
        (&Value::from(id.as_str()), &true.into(), &"error".into())
    );
    assert_eq!(told["name"], "tickets/search");
    let records = told["observations"].as_array().unwrap();
    let shown: Vec<String> = records
        .iter()
        .map(|record| format!("{} {} {}", record["depth"], record["duration_ns"], record["self_ns"]))
        .collect();
    assert_eq!(shown, ["0 9000 4000", "1 5000 5000"]);
    assert_eq!(records[1]["rule"], "hop_ancestry");
    let server = told["fields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|field| field["field"] == "server")
        .unwrap();
    assert_eq!(
        (&server["value"], &server["observation_id"]),
        (&"tickets".into(), &records[1]["observation_id"])
    );
    for other in [
        &id[..6],
        &span_id(2).to_string(),
        &super::trace_id().to_string(),
        &id.to_uppercase(),
    ] {
        let same = explain(other).await.unwrap_or_else(|error| panic!("{other}: {error}"));
        assert_eq!(same.calls, whole.calls, "{other}");
    }
}

#[tokio::test]
async fn a_record_of_another_trace_stands_below_the_span_it_ran_within_and_never_below_a_log() {
    let fixture = Fixture::empty().await;
    let mut records = hops();
    let mut log = records[0].clone();
    log.observation_id = ObservationId([4; 16]);
    log.source = Source::Log;
    log.span_kind = None;
    log.span_id = None;
    (log.start_ns, log.duration_ns) = (NOW_NS + 500, Some(8_000));
    for record in &mut records[..2] {
        record.tool_call_id = Some("toolu_1".into());
    }
    log.tool_call_id = Some("toolu_1".into());
    records[1].parent_span_id = None;
    records[1].trace_id = Some(TraceId([5; 16]));
    records.truncate(2);
    records.push(log);
    let folded = fold(&records);
    assert_eq!(folded.calls.len(), 1, "{:?}", folded.calls);
    fixture
        .append("default", vec![(Table::Observations, observations::to_batch(&records))])
        .await;
    fixture.commit(Table::Calls, calls::to_batch(&folded.calls)).await;
    let id = folded.calls[0].call_id.to_string();
    let told = fixture.engine.explain(&Principal::local(), &id).await.unwrap();
    let told = told.calls[0]["observations"].as_array().unwrap().clone();
    let depths: Vec<String> = told
        .iter()
        .map(|record| format!("{} {}", record["source"], record["depth"]))
        .collect();
    assert_eq!(depths, ["\"span\" 0", "\"span\" 1", "\"log\" 1"]);
}

#[tokio::test]
async fn in_a_large_lake_a_call_is_explained_from_what_shares_an_id_with_it() {
    let (fixture, id) = folded().await;
    let principal = Principal::local();
    let whole = fixture.engine.explain(&principal, &id).await.unwrap();
    let narrowed = fixture.engine.explain_within(&principal, &id, 1).await.unwrap();
    assert!(narrowed.narrowed && !whole.narrowed);
    assert_eq!(narrowed.calls, whole.calls);
}

#[tokio::test]
async fn an_id_that_nothing_has_is_a_clear_error() {
    let (fixture, _) = folded().await;
    for (id, kind, part) in [
        ("00000000", ErrorKind::NotFound, "list calls with"),
        ("0000000000000000", ErrorKind::NotFound, "no call, span or trace"),
        (
            "00000000000000000000000000000001",
            ErrorKind::NotFound,
            "no call, span or trace",
        ),
        ("abc", ErrorKind::Invalid, "first 4"),
        ("' OR 1=1 --", ErrorKind::Invalid, "hexadecimal"),
    ] {
        let error = fixture.engine.explain(&Principal::local(), id).await.unwrap_err();
        assert!(error.kind() == kind && error.message().contains(part), "{id}: {error}");
    }
    let stranger = Fixture::filled().await;
    let rival = stranger.answer("SELECT call_id FROM calls LIMIT 1").await;
    assert!(
        stranger
            .engine
            .explain(&Principal::local(), &rival)
            .await
            .unwrap_err()
            .message()
            .contains("not in the lake any more")
    );
}

#[tokio::test]
async fn hops_rules_and_guesses_are_views() {
    let (fixture, id) = folded().await;
    let hops = format!(
        "SELECT position, hop, duration_ns, self_ns, status FROM hops WHERE call_id = '{id}' ORDER BY position"
    );
    assert_eq!(
        fixture.answer(&hops).await,
        "1,client,9000,4000,ok; 2,server,5000,5000,error"
    );
    assert_eq!(
        fixture
            .answer("SELECT rule, confidence, calls FROM fold_rules ORDER BY rule NULLS FIRST")
            .await,
        ",reported,1; hop_ancestry,inferred,1"
    );
    assert_eq!(fixture.answer("SELECT COUNT(*) FROM uncertain").await, "0");
    assert_eq!(
        fixture
            .answer("SELECT fold_reason('hop_ancestry,time_containment')")
            .await,
        "\"a server's call within a host's, in another trace: same tool, by time alone\""
    );
}
