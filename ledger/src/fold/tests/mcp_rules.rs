//! MCP calls: the hops of one request, with and without trace context.

use super::*;
use crate::fold::hops_of;

fn tools(calls: &[Call]) -> Vec<&Call> {
    calls.iter().filter(|call| call.kind == CallKind::Tool).collect()
}

#[test]
fn rule_10_host_client_gateway_and_server_of_one_trace_are_one_call() {
    let mut host = tool(1, 7, None, "mcp__weather__get_forecast", 1);
    host.duration_ns = Some(10 * SECOND);
    host.hop = Some(Hop::Host);
    let mut client = tool(2, 7, Some(1), "weather_get_forecast", 3);
    client.duration_ns = Some(9 * SECOND);
    let mut gateway = tool(3, 7, Some(2), "weather_get_forecast", 2);
    gateway.duration_ns = Some(8 * SECOND);
    let mut onward = tool(4, 7, Some(3), "get_forecast", 3);
    onward.duration_ns = Some(6 * SECOND);
    let mut server = tool(5, 7, Some(4), "get_forecast", 2);
    server.duration_ns = Some(5 * SECOND);
    server.mcp.server = Some("weather".into());
    server.status = Status::Error;
    gateway.status = Status::Ok;
    let records = [host, client, gateway, onward, server];
    let calls = calls_of(&records);
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].hops, 5);
    assert_eq!(calls[0].status, Status::Error, "the worst of the chain");
    assert_eq!(calls[0].duration_ns, Some(10 * SECOND), "what the host waited");
    assert_eq!(calls[0].mcp.tool.as_deref(), Some("get_forecast"));
    let own: Vec<_> = hops_of(&records)
        .iter()
        .map(|hop| (hop.hop.as_str(), hop.own_ns / SECOND))
        .collect();
    assert_eq!(
        own,
        [
            ("host", 1),
            ("client", 1),
            ("gateway", 2),
            ("gateway", 1),
            ("server", 5)
        ]
    );
}

#[test]
fn rule_10_two_sides_that_share_a_span_id_are_one_call_and_keep_what_is_below_each() {
    let of = |service: &str, mut record: Observation| {
        record.dimensions.service = Some(service.into());
        record
    };
    let mut host = of("host", tool(1, 7, None, "mcp__weather__get_forecast", 1));
    host.duration_ns = Some(10 * SECOND);
    // Both sides name the host's span as their parent, as B3 propagation does.
    let mut client = of("host", tool(2, 7, Some(1), "get_forecast", 3));
    client.duration_ns = Some(9 * SECOND);
    let mut server = of("weather", tool(3, 7, Some(1), "get_forecast", 2));
    server.span_id = client.span_id;
    server.mcp.server = Some("weather".into());
    server.duration_ns = Some(8 * SECOND);
    // Within the server: another tool's call, and that it has the span above is what tells.
    let mut backend = of("weather", tool(4, 7, Some(2), "get_forecast", 3));
    backend.duration_ns = Some(5 * SECOND);
    let records = [host, client, server, backend];
    for seed in [1, 5, 9] {
        let calls = calls_of(&shuffled(&records, seed));
        assert_eq!(calls.len(), 1, "{calls:?}");
        assert_eq!((calls[0].hops, calls[0].observation_ids.len()), (4, 4));
    }
    let own: Vec<_> = hops_of(&records)
        .iter()
        .map(|hop| (hop.service.clone().unwrap_or_default(), hop.own_ns / SECOND))
        .collect();
    let expected = [("host", 1), ("host", 1), ("weather", 3), ("weather", 5)];
    assert_eq!(own, expected.map(|(service, own)| (service.to_owned(), own)));
}

#[test]
fn rule_10_a_server_that_started_first_by_its_clock_is_still_within_its_caller() {
    let mut client = tool(2, 7, None, "get_forecast", 3);
    let mut server = tool(3, 7, None, "get_forecast", 2);
    server.span_id = client.span_id;
    (client.start_ns, client.duration_ns) = (server.start_ns + 1_000, Some(SECOND));
    server.duration_ns = Some(SECOND / 2);
    let calls = calls_of(&[server, client]);
    assert_eq!((calls.len(), calls[0].duration_ns), (1, Some(SECOND)));
}

#[test]
fn rule_10_a_tool_call_id_joins_host_span_and_log() {
    let mut host = tool(1, 7, None, "get_forecast", 1);
    host.tool_call_id = Some("call_1".into());
    host.mcp.server = Some("weather".into());
    host.dimensions.session_id = Some("s".into());
    let mut log = Observation {
        source: Source::Log,
        name: "tool_result".into(),
        trace_id: None,
        span_id: None,
        span_kind: None,
        ..host.clone()
    };
    log.observation_id = ObservationId([2; 16]);
    log.status = Status::Error;
    let calls = calls_of(&[host.clone(), log.clone()]);
    assert_eq!(calls.len(), 1);
    assert_eq!(
        (calls[0].rules.as_str(), calls[0].status),
        ("tool_call_id", Status::Error)
    );
    log.dimensions.session_id = Some("other".into());
    assert_eq!(calls_of(&[host, log]).len(), 2, "ids are unique within a session only");
}

#[test]
fn rule_10_a_tool_log_without_an_id_is_paired_with_the_span_that_ended_nearest() {
    let mut records = Vec::new();
    for n in 0..3u8 {
        let mut span = tool(n, n + 1, None, "mcp_weather_get_alerts", 1);
        span.mcp.server = Some("weather".into());
        span.dimensions.session_id = Some("s".into());
        span.start_ns += i64::from(n) * 300_000_000;
        span.duration_ns = Some(200_000_000);
        let mut log = Observation {
            source: Source::Log,
            name: "tool_call".into(),
            observation_id: ObservationId([100 + n; 16]),
            span_kind: None,
            span_id: None,
            trace_id: None,
            ..span.clone()
        };
        log.start_ns += 5_000_000;
        records.extend([span, log]);
    }
    let calls = calls_of(&records);
    assert_eq!(calls.len(), 3);
    assert!(
        calls
            .iter()
            .all(|call| call.rules == "tool_event" && call.observation_ids.len() == 2)
    );
}

#[test]
fn a_tool_that_calls_another_tool_is_two_calls() {
    let calls = calls_of(&[
        tool(1, 7, None, "files_search", 3),
        tool(2, 7, Some(1), "search", 2),
        tool(3, 7, Some(2), "read", 3),
    ]);
    let names: Vec<_> = calls.iter().map(|call| (call.mcp.tool.as_deref(), call.hops)).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains(&(Some("read"), 1)));
}

#[test]
fn a_retried_request_below_one_host_call_is_one_call() {
    let mut host = tool(1, 7, None, "search", 1);
    host.duration_ns = Some(9 * SECOND);
    let mut first = tool(2, 7, Some(1), "search", 3);
    first.status = Status::Error;
    let mut second = tool(3, 7, Some(1), "search", 3);
    second.start_ns += 2 * SECOND;
    assert_eq!(calls_of(&[host, first, second]).len(), 1);
}

fn caller(id: u8, name: &str, start_ms: i64, duration_ms: i64) -> Observation {
    let mut caller = tool(id, id, None, name, 1);
    caller.start_ns += start_ms * 1_000_000;
    caller.duration_ns = Some(duration_ms * 1_000_000);
    caller.hop = Some(Hop::Host);
    caller
}

fn server(id: u8, parent: Option<u8>, name: &str, start_ms: i64, duration_ms: i64) -> Observation {
    let mut server = tool(id, id, parent, name, 2);
    server.start_ns += start_ms * 1_000_000;
    server.duration_ns = Some(duration_ms * 1_000_000);
    server.mcp.server = Some("weather".into());
    server
}

#[test]
fn a_server_in_another_trace_is_joined_by_name_and_time() {
    let calls = calls_of(&[
        caller(1, "weather_get_forecast", 0, 300),
        server(11, None, "get_forecast", 50, 100),
    ]);
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].rules, "time_containment");
    assert_eq!(calls[0].confidence.as_str(), "guessed");
    assert_eq!(calls[0].mcp.server.as_deref(), Some("weather"));
    assert_eq!(calls[0].mcp.tool.as_deref(), Some("get_forecast"));
    let later = server(11, None, "get_forecast", 900, 100);
    assert_eq!(calls_of(&[caller(1, "weather_get_forecast", 0, 300), later]).len(), 2);
}

#[test]
fn a_hosts_event_without_length_is_joined_with_the_server_that_ended_just_before() {
    let event_at = |id: u8, ms: i64| {
        let mut event = caller(id, "weather__get_forecast", ms, 0);
        event.source = Source::Log;
        event.name = "task.tool_used".into();
        event.duration_ns = None;
        (event.trace_id, event.span_id, event.span_kind) = (None, None, None);
        event.dimensions.session_id = Some("s".into());
        event
    };
    let calls = calls_of(&[
        event_at(1, 340),
        event_at(2, 742),
        server(11, None, "get_forecast", 0, 335),
        server(12, None, "get_forecast", 400, 331),
    ]);
    assert_eq!(calls.len(), 2);
    for call in &calls {
        assert_eq!(call.dimensions.session_id.as_deref(), Some("s"));
        assert_eq!(call.observation_ids[1].0[0], call.observation_ids[0].0[0] + 10);
    }
}

#[test]
fn a_server_below_an_http_span_that_nobody_reads_is_joined_too() {
    // Its parent is an ASGI span, which is no observation.
    let calls = calls_of(&[
        caller(1, "weather_get_forecast", 0, 300),
        server(11, Some(99), "get_forecast", 50, 100),
    ]);
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].hops, 2);
}

#[test]
fn a_server_that_its_own_trace_called_is_not_joined_to_another_host() {
    let mut client = tool(11, 12, None, "get_forecast", 3);
    client.start_ns += 40_000_000;
    client.duration_ns = Some(120_000_000);
    let mut served = server(12, Some(11), "get_forecast", 50, 100);
    served.trace_id = client.trace_id;
    let calls = calls_of(&[caller(1, "weather_get_forecast", 0, 300), client, served]);
    assert_eq!(calls.len(), 2);
}

#[test]
fn equal_arguments_pair_parallel_calls_of_one_tool() {
    let with = |mut record: Observation, hash: &str| {
        record.arguments_hash = Some(hash.into());
        record
    };
    // By time alone the two would be swapped.
    let calls = calls_of(&[
        with(caller(1, "weather_get_forecast", 0, 300), "oslo"),
        with(caller(2, "weather_get_forecast", 10, 280), "paris"),
        with(server(11, None, "get_forecast", 11, 278), "oslo"),
        with(server(12, None, "get_forecast", 1, 280), "paris"),
    ]);
    assert_eq!(calls.len(), 2);
    for call in &calls {
        assert_eq!(call.rules, "arguments_hash");
        assert_eq!(call.observation_ids[1].0[0], call.observation_ids[0].0[0] + 10);
    }
}

#[test]
fn different_arguments_speak_against_a_pair_but_do_not_forbid_it() {
    let mut host = caller(1, "weather_get_forecast", 0, 300);
    host.arguments_hash = Some("wrapped".into());
    let mut served = server(11, None, "get_forecast", 50, 100);
    served.arguments_hash = Some("plain".into());
    let calls = calls_of(&[host, served]);
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].rules, "time_containment");
}

#[test]
fn parallel_calls_and_servers_are_paired_once_each() {
    let mut records = Vec::new();
    for n in 0..6u8 {
        records.push(caller(n, "weather_get_forecast", i64::from(n), 300));
        records.push(server(100 + n, None, "get_forecast", i64::from(n) + 2, 290));
    }
    let calls = calls_of(&records);
    assert_eq!(calls.len(), 6);
    assert!(calls.iter().all(|call| call.hops == 2));
}

#[test]
fn a_gateway_of_another_trace_joins_host_and_server_of_others() {
    let host = caller(1, "gw_weather_get_forecast", 0, 400);
    let mut gateway = server(11, None, "weather_get_forecast", 20, 300);
    gateway.mcp.server = Some("gw".into());
    let mut onward = tool(12, 11, Some(11), "get_forecast", 3);
    onward.start_ns += 40_000_000;
    onward.duration_ns = Some(200_000_000);
    let served = server(21, None, "get_forecast", 60, 100);
    let calls = calls_of(&[host, gateway, onward, served]);
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].hops, 4);
    assert_eq!(calls[0].mcp.server.as_deref(), Some("weather"), "the innermost server");
}

#[test]
fn prompts_and_resources_are_joined_across_traces_like_tools() {
    for kind in [CallKind::Prompt, CallKind::Resource] {
        let mut host = caller(1, "x", 0, 300);
        let mut served = server(11, None, "x", 50, 100);
        for record in [&mut host, &mut served] {
            record.kind = kind;
            record.mcp.tool = None;
            record.mcp.mcp_method = None;
            record.mcp.prompt = (kind == CallKind::Prompt).then(|| "triage".into());
            record.mcp.resource_uri = (kind == CallKind::Resource).then(|| "file:///notes".into());
        }
        assert_eq!(calls_of(&[host, served]).len(), 1, "{}", kind.as_str());
    }
}

#[test]
fn rule_11_evidence_alone_makes_no_call() {
    let mut detail = tool(1, 7, None, "get_forecast", 1);
    detail.role = Role::Detail;
    assert!(tools(&calls_of(&[detail])).is_empty());
    let mut detail = blank(2, CallKind::Llm);
    detail.role = Role::Detail;
    detail.usage = used(10, 2);
    assert!(calls_of(&[detail]).is_empty());
}

#[test]
fn a_conversation_is_never_made_of_a_transports_session() {
    // Dialects leave mcp.session.id out; the fold takes conversations from dimensions only.
    let mut host = caller(1, "weather_get_forecast", 0, 300);
    host.dimensions.session_id = Some("conversation".into());
    let calls = calls_of(&[host, server(11, None, "get_forecast", 50, 100)]);
    assert_eq!(calls[0].dimensions.session_id.as_deref(), Some("conversation"));
}

#[test]
fn a_gateways_client_span_is_called_by_the_host_and_calls_the_server() {
    // Three traces: nothing propagates context.
    let host = caller(1, "get_forecast", 0, 215);
    let mut gateway = tool(11, 11, None, "get_forecast", 3);
    gateway.hop = Some(Hop::Gateway);
    gateway.start_ns += 10_000_000;
    gateway.duration_ns = Some(200_000_000);
    let calls = calls_of(&[host, gateway, server(21, None, "get_forecast", 20, 150)]);
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].hops, 3);
}

#[test]
fn a_gateways_own_span_beside_its_server_span_is_a_hop_of_the_call() {
    let of_gateway = |mut record: Observation| {
        record.trace_id = Some(TraceId([50; 16]));
        record.dimensions.service = Some("litellm".into());
        record
    };
    let mut served = of_gateway(server(11, Some(90), "weather-get_forecast", 0, 101));
    served.mcp.server = Some("litellm".into());
    let mut own = of_gateway(tool(12, 50, Some(91), "get_forecast", 1));
    own.hop = Some(Hop::Gateway);
    own.mcp.server = Some("weather".into());
    own.start_ns += 4_000_000;
    own.duration_ns = Some(81_000_000);
    let mut onward = of_gateway(tool(13, 50, Some(11), "get_forecast", 3));
    onward.start_ns += 20_000_000;
    onward.duration_ns = Some(43_000_000);
    let calls = calls_of(&[
        served.clone(),
        own.clone(),
        onward,
        server(21, None, "get_forecast", 31, 20),
    ]);
    assert_eq!((calls.len(), calls[0].hops), (1, 4));
    let without_server = calls_of(&[served, own]);
    assert_eq!(
        without_server[0].mcp.server.as_deref(),
        Some("weather"),
        "not its own name"
    );
}

#[test]
fn a_call_of_mcp_is_never_without_a_server() {
    let calls = calls_of(&[tool(1, 1, None, "get_forecast", 1)]);
    assert_eq!(calls[0].mcp.server.as_deref(), Some("unknown"));
    assert_eq!(calls[0].rules, "name_guess");
    let mut elsewhere = tool(2, 2, None, "get_forecast", 1);
    elsewhere.mcp.server = Some("weather".into());
    elsewhere.start_ns += 60 * SECOND;
    let calls = calls_of(&[tool(1, 1, None, "get_forecast", 1), elsewhere]);
    assert_eq!(
        calls[0].mcp.server.as_deref(),
        Some("weather"),
        "the only one that has the tool"
    );
    assert_eq!(calls[0].rules, "name_directory");
    let mut initialize = blank(3, CallKind::Mcp);
    initialize.trace_id = Some(TraceId([1; 16]));
    initialize.mcp.mcp_method = Some("initialize".into());
    initialize.mcp.server = Some("maps".into());
    let calls = calls_of(&[tool(1, 1, None, "route", 1), initialize]);
    assert!(calls.iter().all(|call| call.mcp.server.as_deref() == Some("maps")));
    let mut builtin = tool(4, 4, None, "bash", 1);
    builtin.mcp.mcp_method = None;
    assert_eq!(calls_of(&[builtin])[0].mcp.server, None, "a host's own tool has none");
}

#[test]
fn a_host_that_hides_the_tools_name_is_joined_by_time_and_outcome() {
    let hidden = |id: u8, start_ms: i64, status| {
        let mut host = caller(id, "x", start_ms, 100);
        host.mcp.tool = None;
        host.status = status;
        host
    };
    let mut failed = server(12, None, "get_alerts", 12, 50);
    failed.status = Status::Error;
    let calls = calls_of(&[
        hidden(1, 0, Status::Ok),
        hidden(2, 2, Status::Error),
        server(11, None, "get_forecast", 13, 50),
        failed,
        caller(3, "weather_get_forecast", 5, 90),
        server(13, None, "get_forecast", 20, 50),
    ]);
    let names: Vec<_> = calls
        .iter()
        .map(|call| (call.mcp.tool.as_deref(), call.hops, call.status))
        .collect();
    assert_eq!(calls.len(), 3, "{names:?}");
    assert!(names.contains(&(Some("get_alerts"), 2, Status::Error)), "{names:?}");
    assert!(
        calls
            .iter()
            .all(|call| call.mcp.server.as_deref() == Some("weather") && call.hops == 2)
    );
}

#[test]
fn a_gateway_without_client_spans_joins_host_and_server_all_the_same() {
    let mut gateway = server(11, Some(90), "weather-get_forecast", 10, 200);
    gateway.hop = Some(Hop::Gateway);
    let calls = calls_of(&[
        caller(1, "gw_weather-get_forecast", 0, 300),
        gateway,
        server(21, None, "get_forecast", 40, 100),
    ]);
    assert_eq!((calls.len(), calls[0].hops), (1, 3));
}

#[test]
fn a_server_below_a_gateway_whose_client_span_was_lost_is_a_hop_of_the_call() {
    let mut gateway = server(11, None, "weather_get_forecast", 0, 200);
    gateway.dimensions.service = Some("gateway".into());
    let mut served = server(12, Some(99), "get_forecast", 20, 100);
    served.trace_id = gateway.trace_id;
    served.dimensions.service = Some("weather".into());
    let calls = calls_of(&[gateway, served]);
    assert_eq!((calls.len(), calls[0].hops), (1, 2));
}
