//! What settlement has to join or to know across traces: corrections, gateways, counters, servers, names.

use sha2::{Digest, Sha256};
use spanledger_model::Hop;

use super::*;

/// Settles what a lake has, and checks that a rebuild from nothing finds nothing to change.
async fn settle(lake: &Lake, settler: &Settler) -> (Vec<Call>, Vec<LedgerLine>) {
    settler.settle_now().await.unwrap();
    let calls = stored_calls(lake).await;
    let lines = stored_lines(lake).await;
    let report = settler.rebuild().await.unwrap();
    assert_eq!(
        (report.n_calls_written, report.n_calls_outdated, report.n_lines),
        (0, 0, 0),
        "a rebuild gives the same calls and ledger"
    );
    (calls, lines)
}

fn in_trace(mut observation: Observation, trace: u8) -> Observation {
    observation.trace_id = Some(TraceId([trace; 16]));
    observation
}

fn named(mut observation: Observation, service: &str) -> Observation {
    observation.dimensions.service = Some(service.into());
    observation
}

fn tool_call(id: u8, trace: u8, server: Option<&str>, tool: &str, span_kind: i32) -> Observation {
    let mut call = in_trace(model_call(id, 0, 0), trace);
    call.kind = CallKind::Tool;
    call.usage = Usage::default();
    call.model = ModelFields::default();
    call.span_kind = Some(span_kind);
    call.start_ns = model_call(0, 0, 0).start_ns;
    call.mcp.server = server.map(str::to_owned);
    call.mcp.tool = Some(tool.into());
    call
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_reverses_the_lines_of_its_call_and_writes_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let settler = settler(&lake);
    let call = model_call(1, 1_000, 100);
    append(&lake, std::slice::from_ref(&call)).await;
    let (before, first) = settle(&lake, &settler).await;
    let mut correction = model_call(2, 2_000, 100);
    correction.role = Role::Correction;
    correction.source = Source::Log;
    correction.trace_id = None;
    correction.model.response_id.clone_from(&call.model.response_id);
    append(&lake, &[correction]).await;
    let (after, lines) = settle(&lake, &settler).await;
    assert_eq!((after.len(), after[0].call_id), (1, before[0].call_id));
    assert_eq!(after[0].usage.input, Some(2_000));
    assert_eq!(after[0].rules, "correction");
    let charged = |lines: &[LedgerLine], kind| {
        let of_kind = lines.iter().filter(|line| line.line_kind == kind);
        of_kind.filter_map(|line| line.tokens).sum::<i64>()
    };
    assert_eq!(charged(&lines, LineKind::Charge), 1_100 + 2_000);
    assert_eq!(charged(&lines, LineKind::Reversal), -1_000);
    assert_eq!(tokens(&lines), 2_100);
    assert_eq!(&lines[..first.len()], first, "lines are only ever added");
    assert_eq!(after[0].own_cost, Some(cost(&lines)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_that_comes_before_its_call_is_the_call_until_it_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let settler = settler(&lake);
    let call = model_call(1, 1_000, 100);
    let mut correction = model_call(2, 2_000, 100);
    correction.role = Role::Correction;
    correction.trace_id = None;
    correction.model.response_id.clone_from(&call.model.response_id);
    append(&lake, &[correction]).await;
    let (calls, lines) = settle(&lake, &settler).await;
    assert_eq!((calls.len(), tokens(&lines)), (1, 2_100));
    append(&lake, &[call]).await;
    let (calls, lines) = settle(&lake, &settler).await;
    assert_eq!((calls.len(), tokens(&lines)), (1, 2_100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_record_that_comes_later_in_another_trace_is_part_of_the_hosts_call() {
    for gateway_first in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let lake = open(folder.path()).await;
        let settler = settler(&lake);
        let mut host = named(in_trace(model_call(1, 1_000, 100), 1), "app");
        host.model.response_id = None;
        let mut gateway = named(in_trace(model_call(2, 1_000, 100), 2), "gateway");
        gateway.model.response_id = Some("its-own".into());
        gateway.hop = Some(Hop::Gateway);
        gateway.scope = Some("gateway".into());
        gateway.start_ns = host.start_ns + 100_000_000;
        gateway.duration_ns = Some(300_000_000);
        gateway.reported_cost = FemtoUsd::parse("0.5");
        let (first, second) = if gateway_first {
            (gateway, host)
        } else {
            (host, gateway)
        };
        append(&lake, &[first]).await;
        settle(&lake, &settler).await;
        append(&lake, &[second]).await;
        let (calls, lines) = settle(&lake, &settler).await;
        assert_eq!(calls.len(), 1, "gateway first: {gateway_first}");
        assert_eq!(calls[0].dimensions.service.as_deref(), Some("app"));
        assert_eq!(tokens(&lines), 1_100);
        assert_eq!(cost(&lines).to_string(), "0.5");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_without_a_session_are_reversed_once_calls_cover_them() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let settler = settler(&lake);
    let point = |id: u8, tokens: i64, seconds: i64| {
        let mut point = named(model_call(1, tokens, 0), "app");
        point.observation_id = ObservationId([id; 16]);
        point.source = Source::Metric;
        point.role = Role::CounterCumulative;
        point.name = "gen_ai.client.token.usage".into();
        (point.trace_id, point.span_id, point.span_kind) = (None, None, None);
        point.model.response_id = None;
        point.series = Some("s".into());
        point.duration_ns = Some(seconds * 1_000_000_000);
        point
    };
    append(&lake, &[point(10, 500, 60)]).await;
    let (calls, lines) = settle(&lake, &settler).await;
    assert_eq!((calls.len(), tokens(&lines)), (1, 500));
    assert_eq!(calls[0].confidence.as_str(), "guessed");
    append(&lake, &[point(11, 1_000, 120)]).await;
    let (revised, lines) = settle(&lake, &settler).await;
    assert_eq!((revised.len(), tokens(&lines)), (1, 1_000));
    assert_eq!(revised[0].call_id, calls[0].call_id);
    // Now the spans come, in a trace that shares nothing with the metric.
    append(&lake, &[named(model_call(1, 1_000, 0), "app")]).await;
    let (calls, lines) = settle(&lake, &settler).await;
    assert_eq!((calls.len(), tokens(&lines)), (1, 1_000));
    assert_eq!(calls[0].trace_id, Some(TraceId([9; 16])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_below_an_unread_http_span_is_joined_to_a_host_of_another_trace() {
    for host_first in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let lake = open(folder.path()).await;
        let settler = settler(&lake);
        let host = tool_call(1, 1, None, "weather_get_forecast", 1);
        let mut server = tool_call(2, 2, Some("weather"), "get_forecast", 2);
        server.start_ns += 100_000_000;
        server.duration_ns = Some(200_000_000);
        server.parent_span_id = Some(SpanId([77; 8]));
        let (first, second) = if host_first { (host, server) } else { (server, host) };
        append(&lake, &[first]).await;
        settle(&lake, &settler).await;
        append(&lake, &[second]).await;
        let (calls, _) = settle(&lake, &settler).await;
        assert_eq!(calls.len(), 1, "host first: {host_first}");
        assert_eq!(calls[0].hops, 2);
        assert_eq!(calls[0].mcp.server.as_deref(), Some("weather"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_learnt_later_resolves_the_hashed_calls_that_were_settled_before() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let settler = settler(&lake);
    let hash = |name: &str| hex::encode(Sha256::digest(name.as_bytes()));
    let hashed = tool_call(1, 1, Some(&hash("weather")), &hash("get_forecast"), 1);
    append(&lake, &[hashed]).await;
    let (calls, _) = settle(&lake, &settler).await;
    assert_eq!(calls[0].mcp.tool, Some(hash("get_forecast")));
    let mut clear = tool_call(2, 2, Some("weather"), "get_forecast", 1);
    clear.start_ns += 60_000_000_000;
    append(&lake, &[clear]).await;
    let (calls, _) = settle(&lake, &settler).await;
    let names: Vec<_> = calls
        .iter()
        .map(|call| {
            (
                call.mcp.server.as_deref(),
                call.mcp.tool.as_deref(),
                call.rules.as_str(),
            )
        })
        .collect();
    assert_eq!(
        names,
        [
            (Some("weather"), Some("get_forecast"), "name_directory"),
            (Some("weather"), Some("get_forecast"), "")
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_beyond_a_component_is_loaded_again_with_its_day() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let settler = forgetful_settler(&lake);
    // Long before the days that stay in memory.
    let old = |mut observation: Observation| {
        observation.start_ns -= 5 * 365 * 86_400_000_000_000;
        observation
    };
    let hash = |name: &str| hex::encode(Sha256::digest(name.as_bytes()));
    let hashed = old(tool_call(1, 1, Some(&hash("weather")), &hash("get_forecast"), 1));
    let mut clear = old(tool_call(2, 2, Some("weather"), "get_forecast", 1));
    clear.start_ns += 60_000_000_000;
    let span = old(named(in_trace(model_call(3, 1_000, 0), 3), "app"));
    let mut counter = span.clone();
    counter.observation_id = ObservationId([4; 16]);
    counter.source = Source::Metric;
    counter.role = Role::CounterDelta;
    (counter.trace_id, counter.span_id, counter.span_kind) = (None, None, None);
    counter.model.response_id = None;
    append(&lake, &[hashed.clone(), clear, span, counter.clone()]).await;
    let (before, _) = settle(&lake, &settler).await;
    assert_eq!(before.len(), 3);
    // Late records for the two that depend on others, once the day is out of memory.
    let mut log = hashed;
    log.observation_id = ObservationId([5; 16]);
    log.source = Source::Log;
    log.span_kind = None;
    log.role = Role::Detail;
    counter.observation_id = ObservationId([6; 16]);
    counter.start_ns += 1_000_000_000;
    append(&lake, &[log, counter]).await;
    let (after, lines) = settle(&lake, &settler).await;
    assert_eq!(after.len(), 3);
    assert!(
        after
            .iter()
            .all(|call| call.mcp.tool.as_deref() != Some(&hash("get_forecast")))
    );
    assert_eq!(tokens(&lines), 1_000);
}
