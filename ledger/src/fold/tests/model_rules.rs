//! Model calls: the rules of telemetry.md §4.1, each by its name.

use spanledger_model::FemtoUsd;

use super::*;

fn second_of(first: &Observation, id: u8) -> Observation {
    Observation {
        observation_id: ObservationId([id; 16]),
        span_id: first.span_id.map(|_| SpanId([id; 8])),
        ..first.clone()
    }
}

fn cost(usd: &str) -> Option<FemtoUsd> {
    FemtoUsd::parse(usd)
}

#[test]
fn rule_1_one_call_in_span_log_event_and_metric_is_one_call() {
    let mut span = blank(1, CallKind::Llm);
    span.usage = used(100, 20);
    span.dimensions.session_id = Some("s".into());
    span.dimensions.service = Some("agent".into());
    let mut log = event(2, "s", used(100, 20));
    log.dimensions.service = Some("agent".into());
    log.start_ns += SECOND;
    log.duration_ns = None;
    log.reported_cost = cost("0.25");
    let metric = point(3, Role::CounterDelta, "agent", Some("s"), used(100, 20));
    let calls = calls_of(&[span, log, metric]);
    assert_eq!(llm(&calls), [(Some(100), Some(20))]);
    assert_eq!(calls[0].reported_cost, cost("0.25"), "the event knows the cost");
    assert_eq!(calls[0].rules, "session_event");
}

#[test]
fn rule_1_events_of_a_session_are_paired_one_to_one_by_nearest_end() {
    // Seven calls of equal counts, each in span and log, 90 ms apart.
    let mut records = Vec::new();
    for n in 0..7u8 {
        let mut span = blank(n, CallKind::Llm);
        span.usage = used(100, 20);
        span.dimensions.session_id = Some("s".into());
        span.start_ns += i64::from(n) * 90_000_000;
        span.duration_ns = Some(50_000_000);
        let mut log = event(100 + n, "s", used(100, 20));
        log.start_ns = span.end_ns() + 3_000_000;
        log.duration_ns = None;
        records.extend([span, log]);
    }
    let calls = calls_of(&records);
    assert_eq!(llm(&calls).len(), 7);
    assert!(calls.iter().all(|call| call.observation_ids.len() == 2));
    for call in &calls {
        let [span, log] = [call.observation_ids[0].0[0], call.observation_ids[1].0[0]];
        assert_eq!(log, span + 100, "each log with its own span");
    }
}

#[test]
fn rule_1_two_events_of_one_call_and_its_span_in_another_trace_are_one_call() {
    let thinking = Usage {
        reasoning: Some(30),
        ..used(100, 50)
    };
    let mut details = event(2, "s", used(100, 20));
    details.name = "gen_ai.client.inference.operation.details".into();
    let mut span = blank(3, CallKind::Llm);
    span.usage = used(100, 20);
    span.dimensions.session_id = Some("s".into());
    let calls = calls_of(&[event(1, "s", thinking), details, span]);
    assert_eq!(llm(&calls), [(Some(100), Some(50))], "thoughts are output");
}

#[test]
fn rule_1_a_log_whose_span_was_never_sent_is_found_by_its_trace() {
    let mut span = blank(1, CallKind::Llm);
    span.usage = used(100, 20);
    let mut log = event(2, "s", used(100, 20));
    log.dimensions = Dimensions::default();
    log.trace_id = span.trace_id;
    log.span_id = Some(SpanId([99; 8]));
    assert_eq!(llm(&calls_of(&[span, log])).len(), 1);
}

#[test]
fn rule_1_two_calls_of_one_session_with_equal_counts_stay_two() {
    let first = event(1, "s", used(100, 20));
    let mut second = event(2, "s", used(100, 20));
    second.start_ns += 100_000_000;
    assert_eq!(llm(&calls_of(&[first, second])).len(), 2);
}

#[test]
fn rule_2_a_roll_up_parent_is_charged_only_when_no_descendant_reports() {
    let mut agent = blank(1, CallKind::Agent);
    agent.role = Role::Rollup;
    agent.usage = used(30, 6);
    agent.duration_ns = Some(9 * SECOND);
    let mut leaf = blank(2, CallKind::Llm);
    leaf.parent_span_id = agent.span_id;
    leaf.usage = used(10, 2);
    assert_eq!(llm(&calls_of(&[agent.clone(), leaf])), [(Some(10), Some(2))]);
    let lone = calls_of(&[agent]);
    assert_eq!(llm(&lone), [(Some(30), Some(6))]);
    assert_eq!(lone[0].rules, "lone_rollup");
}

#[test]
fn rule_2_of_a_chain_of_roll_ups_the_innermost_that_reports_is_charged() {
    let frame = |id: u8, parent: Option<u8>, usage: Usage| {
        let mut frame = blank(id, CallKind::Agent);
        frame.role = Role::Rollup;
        frame.parent_span_id = parent.map(|parent| SpanId([parent; 8]));
        frame.usage = usage;
        frame
    };
    let workflow = frame(1, None, used(90, 9));
    let agent = frame(2, Some(1), used(60, 6));
    let step = frame(3, Some(2), Usage::default());
    assert_eq!(
        llm(&calls_of(&[workflow.clone(), agent.clone(), step.clone()])),
        [(Some(60), Some(6))]
    );
    let mut leaf = blank(4, CallKind::Llm);
    leaf.parent_span_id = step.span_id;
    leaf.usage = used(10, 2);
    assert_eq!(llm(&calls_of(&[workflow, agent, step, leaf])), [(Some(10), Some(2))]);
}

#[test]
fn rule_2_a_model_span_over_model_spans_repeats_them() {
    // ai.streamText over ai.streamText.doStream, twice, the first of which failed and was tried again.
    let mut outer = blank(1, CallKind::Llm);
    outer.role = Role::Rollup;
    outer.usage = used(30, 6);
    outer.duration_ns = Some(9 * SECOND);
    let attempt = |id: u8, usage: Usage, status: Status| {
        let mut attempt = blank(id, CallKind::Llm);
        attempt.parent_span_id = Some(SpanId([1; 8]));
        attempt.usage = usage;
        attempt.status = status;
        attempt
    };
    let failed = attempt(2, Usage::default(), Status::Error);
    let calls = calls_of(&[outer.clone(), failed, attempt(3, used(30, 6), Status::Ok)]);
    assert_eq!(llm(&calls).len(), 2, "the one that failed is a call without tokens");
    assert_eq!(calls.iter().filter_map(|call| call.usage.input).sum::<i64>(), 30);
    // Its only call tells no counts: one call, with the frame's.
    let silent = attempt(4, Usage::default(), Status::Ok);
    assert_eq!(llm(&calls_of(&[outer.clone(), silent])), [(Some(30), Some(6))]);
    assert_eq!(llm(&calls_of(&[outer])), [(Some(30), Some(6))]);
}

#[test]
fn rule_2_a_turn_repeats_the_events_of_its_session() {
    let mut turn = blank(1, CallKind::Agent);
    turn.role = Role::Rollup;
    turn.usage = used(300, 60);
    turn.duration_ns = Some(9 * SECOND);
    turn.dimensions.session_id = Some("s".into());
    let mut log = event(2, "s", used(100, 20));
    log.start_ns += SECOND;
    assert_eq!(llm(&calls_of(&[turn, log])), [(Some(100), Some(20))]);
}

#[test]
fn rule_3_two_instrumentations_with_one_response_id_are_one_call() {
    let mut framework = blank(1, CallKind::Llm);
    framework.usage = used(100, 20);
    framework.model.response_id = Some("msg_1".into());
    framework.dimensions.agent = Some("planner".into());
    let mut sdk = second_of(&framework, 2);
    sdk.scope = Some("com.anthropic.sdk.python".into());
    sdk.trace_id = Some(TraceId([8; 16]));
    sdk.dimensions = Dimensions::default();
    sdk.usage.cache_write_5m = Some(5);
    sdk.usage.cache_write_1h = Some(3);
    let calls = calls_of(&[framework, sdk]);
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].usage.cache_write_1h, Some(3), "the richer record's counts");
    assert_eq!(calls[0].dimensions.agent.as_deref(), Some("planner"));
    assert_eq!(calls[0].rules, "response_id");
    assert_eq!(calls[0].confidence.as_str(), "reported");
}

#[test]
fn rule_3_two_instrumentations_without_a_response_id_are_one_call() {
    let mut first = blank(1, CallKind::Llm);
    first.usage = used(10, 2);
    let second = second_of(&first, 2);
    assert_eq!(
        llm(&calls_of(&[first.clone(), second.clone()])).len(),
        2,
        "siblings of one scope"
    );
    let other_scope = Observation {
        scope: Some("com.anthropic.sdk.python".into()),
        ..second.clone()
    };
    let calls = calls_of(&[first.clone(), other_scope]);
    assert_eq!(llm(&calls).len(), 1);
    assert_eq!(calls[0].rules, "equal_counts");
    let nested = Observation {
        parent_span_id: first.span_id,
        ..second
    };
    assert_eq!(
        llm(&calls_of(&[first, nested])).len(),
        1,
        "parent and child of one scope"
    );
}

#[test]
fn rule_3_parallel_equal_calls_of_two_instrumentations_are_two_calls() {
    let records: Vec<Observation> = [(1, "agent", 0), (2, "agent", 10), (3, "sdk", 1), (4, "sdk", 11)]
        .into_iter()
        .map(|(id, scope, start_ms)| {
            let mut record = blank(id, CallKind::Llm);
            record.scope = Some(scope.into());
            record.usage = used(10, 2);
            record.start_ns += start_ms * 1_000_000;
            record.duration_ns = Some(if scope == "sdk" { SECOND - 2_000_000 } else { SECOND });
            record
        })
        .collect();
    let calls = calls_of(&records);
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| call.observation_ids.len() == 2));
}

#[test]
fn rule_3_a_response_id_reused_an_hour_later_is_another_call() {
    let mut first = blank(1, CallKind::Llm);
    first.usage = used(10, 2);
    first.model.response_id = Some("msg_0001".into());
    let mut second = second_of(&first, 2);
    second.start_ns += 3_600 * SECOND;
    assert_eq!(llm(&calls_of(&[first, second])).len(), 2);
}

fn host_and_gateway() -> (Observation, Observation) {
    let mut host = blank(1, CallKind::Llm);
    host.usage = used(100, 20);
    host.dimensions.service = Some("app".into());
    host.dimensions.user_id = Some("ada".into());
    let mut gateway = second_of(&host, 2);
    gateway.trace_id = Some(TraceId([8; 16]));
    gateway.scope = Some("litellm".into());
    gateway.hop = Some(Hop::Gateway);
    gateway.start_ns += 100_000_000;
    gateway.duration_ns = Some(SECOND / 2);
    gateway.dimensions = Dimensions {
        service: Some("litellm".into()),
        team: Some("payments".into()),
        api_key: Some("ci".into()),
        ..Dimensions::default()
    };
    gateway.usage.cache_read = Some(40);
    gateway.model.response_model = Some("gpt-5-mini".into());
    host.model.response_model = Some("claude-sonnet-4-5".into());
    gateway.reported_cost = cost("0.5");
    (host, gateway)
}

#[test]
fn rule_4_a_gateway_within_its_clients_call_is_the_clients_call() {
    let (host, gateway) = host_and_gateway();
    let calls = calls_of(&[host.clone(), gateway.clone()]);
    assert_eq!(llm(&calls), [(Some(100), Some(20))]);
    let call = &calls[0];
    assert_eq!(call.rules, "gateway_and_client");
    assert_eq!((call.trace_id, call.start_ns), (host.trace_id, host.start_ns));
    assert_eq!(call.dimensions.service.as_deref(), Some("app"));
    assert_eq!(call.dimensions.team.as_deref(), Some("payments"));
    assert_eq!(call.dimensions.api_key.as_deref(), Some("ci"));
    assert_eq!(call.reported_cost, cost("0.5"));
    assert_eq!(
        call.model.response_model.as_deref(),
        Some("gpt-5-mini"),
        "the client is told an alias, the gateway knows who is billed"
    );
    let mut later = gateway.clone();
    later.start_ns += 5 * SECOND;
    assert_eq!(
        llm(&calls_of(&[host.clone(), later])).len(),
        2,
        "outside the client's time"
    );
    let mut other = gateway;
    other.usage.input = Some(101);
    assert_eq!(llm(&calls_of(&[host, other])).len(), 2, "of other counts");
}

#[test]
fn rule_4_two_clients_in_the_same_traffic_do_not_share_a_gateways_record() {
    let (host, gateway) = host_and_gateway();
    let mut other = second_of(&host, 3);
    other.trace_id = Some(TraceId([9; 16]));
    let mut served = second_of(&gateway, 4);
    served.trace_id = Some(TraceId([10; 16]));
    assert_eq!(llm(&calls_of(&[host.clone(), other.clone(), gateway.clone()])).len(), 2);
    let calls = calls_of(&[host, other, gateway, served]);
    assert_eq!(llm(&calls).len(), 2);
    assert!(calls.iter().all(|call| call.observation_ids.len() == 2));
}

#[test]
fn rule_5_counters_that_leave_cached_tokens_out_of_input_prove_it() {
    let usage = Usage {
        cache_read: Some(18_250),
        cache_write_5m: Some(310),
        ..used(26, 7)
    };
    let calls = calls_of(&[point(1, Role::CounterDelta, "agent", Some("s"), usage)]);
    assert_eq!(llm(&calls), [(Some(26 + 18_250 + 310), Some(7))]);
}

#[test]
fn rule_6_output_with_and_without_thoughts_is_one_call() {
    let thinking = Usage {
        reasoning: Some(33),
        ..used(7_050, 94)
    };
    let mut span = blank(1, CallKind::Llm);
    span.usage = used(7_050, 61);
    span.dimensions.session_id = Some("s".into());
    assert_eq!(
        llm(&calls_of(&[span, event(2, "s", thinking)])),
        [(Some(7_050), Some(94))]
    );
}

#[test]
fn rule_7_a_failed_attempt_below_a_call_is_part_of_it() {
    let mut call = blank(1, CallKind::Llm);
    call.usage = used(10, 2);
    call.status = Status::Ok;
    let mut attempt = blank(2, CallKind::Llm);
    attempt.parent_span_id = call.span_id;
    attempt.status = Status::Error;
    attempt.duration_ns = Some(SECOND / 4);
    let calls = calls_of(&[call, attempt]);
    assert_eq!(llm(&calls), [(Some(10), Some(2))]);
    assert_eq!(calls[0].status, Status::Ok, "the retry succeeded");
    assert_eq!(calls[0].rules, "failed_attempt");
}

#[test]
fn rule_7_a_failed_call_without_tokens_is_a_failed_call() {
    let mut failed = blank(1, CallKind::Llm);
    failed.status = Status::Error;
    let calls = calls_of(&[failed]);
    assert_eq!(llm(&calls), [(None, None)]);
    assert_eq!(calls[0].status, Status::Error);
    assert_eq!(calls[0].duration_ns, Some(SECOND), "it has latency");
}

fn correction(id: u8, after_seconds: i64, response_id: Option<&str>, usage: Usage) -> Observation {
    let mut correction = event(id, "s", usage);
    correction.role = Role::Correction;
    correction.name = "api.correction".into();
    correction.start_ns += after_seconds * SECOND;
    correction.duration_ns = None;
    correction.model.response_id = response_id.map(str::to_owned);
    correction
}

#[test]
fn rule_13_the_newest_correction_of_a_call_holds() {
    let mut call = event(1, "s", used(100, 20));
    call.model.response_id = Some("r1".into());
    call.reported_cost = cost("1");
    let mut first = correction(2, 60, Some("r1"), used(110, 20));
    first.reported_cost = cost("1.1");
    let mut second = correction(3, 3_600, Some("r1"), used(120, 25));
    second.reported_cost = cost("1.25");
    let calls = calls_of(&[call, first, second]);
    assert_eq!(llm(&calls), [(Some(120), Some(25))]);
    assert_eq!(calls[0].reported_cost, cost("1.25"));
    assert_eq!(calls[0].observation_ids.len(), 3);
}

#[test]
fn rule_13_a_correction_without_an_id_corrects_the_nearest_earlier_call() {
    let first = event(1, "s", used(100, 20));
    let mut second = event(2, "s", used(200, 30));
    second.start_ns += 10 * SECOND;
    let mut third = event(3, "s", used(300, 40));
    third.start_ns += 30 * SECOND;
    let calls = calls_of(&[first, second, third, correction(4, 20, None, used(250, 30))]);
    let mut counted = llm(&calls);
    counted.sort_unstable();
    assert_eq!(
        counted,
        [(Some(100), Some(20)), (Some(250), Some(30)), (Some(300), Some(40))]
    );
}

#[test]
fn rule_13_a_correction_whose_call_never_arrives_is_charged_by_itself() {
    let other = event(1, "s", used(100, 20));
    let calls = calls_of(&[
        other,
        correction(2, 60, Some("r1"), used(7, 1)),
        correction(3, 70, Some("r1"), used(8, 1)),
    ]);
    let mut counted = llm(&calls);
    counted.sort_unstable();
    assert_eq!(counted, [(Some(8), Some(1)), (Some(100), Some(20))]);
}

#[test]
fn rule_14_a_call_of_which_no_counts_are_known_is_shown() {
    let mut cut = blank(1, CallKind::Llm);
    cut.status = Status::Ok;
    assert_eq!(llm(&calls_of(&[cut])), [(None, None)]);
}

#[test]
fn rule_1_counts_that_a_stream_tells_when_it_ends_are_of_the_call_before_it() {
    // Logfire: the call's span has no counts, a span without length beside it has them.
    let mut records = Vec::new();
    for n in 0..3u8 {
        let mut call = blank(n, CallKind::Llm);
        call.start_ns += i64::from(n) * 10 * SECOND;
        let mut end = second_of(&call, 100 + n);
        end.name = "streaming response took".into();
        end.start_ns += 4 * SECOND;
        end.duration_ns = Some(0);
        end.usage = used(100, 20 + i64::from(n));
        records.extend([call, end]);
    }
    let calls = calls_of(&records);
    assert_eq!(
        llm(&calls),
        [(Some(100), Some(20)), (Some(100), Some(21)), (Some(100), Some(22))]
    );
    assert!(calls.iter().all(|call| call.rules == "session_event"));
}

#[test]
fn rule_13_a_correction_without_counts_takes_the_call_off_the_bill() {
    let mut call = event(1, "s", used(100, 20));
    call.model.response_id = Some("r1".into());
    call.reported_cost = cost("1");
    let calls = calls_of(&[call, correction(2, 7_200, Some("r1"), Usage::default())]);
    assert_eq!(llm(&calls), [(Some(0), Some(0))], "it stays, and costs nothing");
    assert_eq!((calls[0].reported_cost, calls[0].rules.as_str()), (None, "correction"));
}

#[test]
fn rule_3_an_instrumentation_behind_a_span_that_nobody_reads_is_of_the_call_around_it() {
    let mut framework = blank(1, CallKind::Llm);
    framework.usage = used(10, 2);
    let mut sdk = second_of(&framework, 2);
    sdk.scope = Some("sdk".into());
    sdk.parent_span_id = Some(SpanId([99; 8]));
    sdk.start_ns += 10_000_000;
    sdk.duration_ns = Some(SECOND / 2);
    assert_eq!(llm(&calls_of(&[framework.clone(), sdk.clone()])).len(), 1);
    sdk.usage = used(10, 3);
    assert_eq!(
        llm(&calls_of(&[framework, sdk])).len(),
        2,
        "of other counts it is another call"
    );
}

#[test]
fn rule_4_a_gateway_with_a_client_span_of_its_own_and_one_behind_it_are_of_the_clients_call() {
    let (host, mut served) = host_and_gateway();
    served.hop = None;
    served.span_kind = Some(2);
    let mut upstream = second_of(&served, 3);
    upstream.span_kind = Some(3);
    upstream.parent_span_id = served.span_id;
    let mut behind = second_of(&served, 4);
    behind.trace_id = Some(TraceId([9; 16]));
    behind.dimensions.service = Some("envoy".into());
    behind.start_ns += 50_000_000;
    behind.duration_ns = Some(SECOND / 4);
    let calls = calls_of(&[host, served, upstream, behind]);
    assert_eq!(llm(&calls), [(Some(100), Some(20))]);
    assert_eq!(calls[0].dimensions.service.as_deref(), Some("app"));
}
