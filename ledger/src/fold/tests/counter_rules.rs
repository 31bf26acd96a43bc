//! Counters: delta and cumulative, beside events and alone.

use spanledger_model::FemtoUsd;

use super::*;

fn sorted(calls: &[Call]) -> Vec<(Option<i64>, Option<i64>)> {
    let mut counted = llm(calls);
    counted.sort_unstable();
    counted
}

#[test]
fn rule_1_counters_are_charged_only_for_sessions_without_events() {
    let first = point(1, Role::CounterDelta, "agent", Some("a"), input(10));
    let second = point(2, Role::CounterDelta, "agent", Some("a"), output(2));
    let alone = calls_of(&[first.clone(), second.clone()]);
    assert_eq!(llm(&alone), [(Some(10), Some(2))]);
    assert_eq!(alone[0].rules, "counter_delta");
    let mut log = event(3, "a", used(10, 2));
    log.dimensions.service = Some("agent".into());
    let other_session = point(4, Role::CounterDelta, "agent", Some("b"), used(5, 1));
    let calls = calls_of(&[first, second, log, other_session]);
    assert_eq!(sorted(&calls), [(Some(5), Some(1)), (Some(10), Some(2))]);
}

#[test]
fn rule_1_a_counter_without_a_session_is_covered_by_calls_of_its_service_and_model_in_its_window() {
    let mut span = blank(1, CallKind::Llm);
    span.usage = used(10, 2);
    span.dimensions.service = Some("copilot".into());
    span.dimensions.session_id = Some("s".into());
    let mut covered = point(2, Role::CounterCumulative, "copilot", None, used(10, 2));
    covered.duration_ns = Some(60 * SECOND);
    let mut other_service = covered.clone();
    other_service.observation_id = ObservationId([3; 16]);
    other_service.dimensions.service = Some("batch".into());
    other_service.usage = used(7, 1);
    let mut other_model = point(4, Role::CounterDelta, "copilot", None, used(8, 1));
    other_model.model.request_model = Some("gpt-5".into());
    let mut hours_later = point(5, Role::CounterDelta, "copilot", None, used(9, 1));
    hours_later.start_ns += 7_200 * SECOND;
    let calls = calls_of(&[span, covered, other_service, other_model, hours_later]);
    assert_eq!(
        sorted(&calls),
        [
            (Some(7), Some(1)),
            (Some(8), Some(1)),
            (Some(9), Some(1)),
            (Some(10), Some(2))
        ]
    );
}

#[test]
fn rule_8_of_a_cumulative_series_the_newest_point_counts() {
    let at = |id, tokens, seconds: i64| Observation {
        duration_ns: Some(seconds * SECOND),
        ..point(id, Role::CounterCumulative, "agent", None, used(tokens, 0))
    };
    let calls = calls_of(&[at(1, 10, 60), at(2, 25, 120), at(3, 25, 180)]);
    assert_eq!(llm(&calls), [(Some(25), Some(0))]);
    assert_eq!(calls[0].rules, "counter_cumulative");
    let grown = calls_of(&[at(1, 10, 60), at(2, 25, 120), at(3, 25, 180), at(4, 40, 240)]);
    assert_eq!(
        grown[0].call_id, calls[0].call_id,
        "more of a series is the same call, revised"
    );
}

#[test]
fn rule_8_a_cumulative_series_that_starts_again_is_added() {
    let at = |id, tokens, start: i64, seconds: i64| {
        let mut point = point(id, Role::CounterCumulative, "agent", None, used(tokens, 0));
        point.start_ns += start * SECOND;
        point.duration_ns = Some(seconds * SECOND);
        point
    };
    let calls = calls_of(&[at(1, 10, 0, 60), at(2, 25, 0, 120), at(3, 4, 200, 60)]);
    assert_eq!(sorted(&calls), [(Some(4), Some(0)), (Some(25), Some(0))]);
}

#[test]
fn rule_8_each_kind_of_token_of_a_series_has_a_newest_point_of_its_own() {
    let at = |id, usage, seconds: i64, start_ms: i64| {
        let mut point = point(id, Role::CounterCumulative, "gemini", Some("s"), usage);
        point.start_ns += start_ms * 1_000_000;
        point.duration_ns = Some(seconds * SECOND);
        point
    };
    let calls = calls_of(&[
        at(1, input(10), 60, 0),
        at(2, input(20), 120, 0),
        at(3, output(2), 60, 1),
        at(4, output(3), 120, 1),
    ]);
    assert_eq!(llm(&calls), [(Some(20), Some(3))]);
}

#[test]
fn rule_9_metrics_of_one_process_that_tell_the_same_tokens_are_charged_once() {
    let named = |id, name: &str, usage| Observation {
        name: name.into(),
        series: Some(name.into()),
        ..point(id, Role::CounterCumulative, "copilot", None, usage)
    };
    let histogram = named(1, "gen_ai.client.token.usage", used(4_650, 165));
    let cached = Usage {
        cache_read: Some(2_048),
        ..Usage::default()
    };
    let reasoning = Usage {
        reasoning: Some(40),
        ..Usage::default()
    };
    let calls = calls_of(&[
        histogram,
        named(2, "gen_ai.client.inference.usage.input_tokens", input(4_650)),
        named(3, "gen_ai.client.inference.usage.output_tokens", output(165)),
        named(4, "gen_ai.client.inference.usage.cache_read.input_tokens", cached),
        named(5, "gen_ai.client.inference.usage.reasoning.output_tokens", reasoning),
    ]);
    assert_eq!(llm(&calls), [(Some(4_650), Some(165))], "subsets are not added");
    assert_eq!(calls[0].usage.cache_read, Some(2_048), "the most detailed family");
}

#[test]
fn counters_of_cost_and_of_tokens_make_one_call() {
    let mut cost = point(2, Role::CounterDelta, "agent", Some("s"), Usage::default());
    cost.name = "acme.cost.usage".into();
    cost.reported_cost = FemtoUsd::parse("0.25");
    let calls = calls_of(&[
        point(1, Role::CounterDelta, "agent", Some("s"), used(10, 2)),
        cost.clone(),
    ]);
    assert_eq!(llm(&calls), [(Some(10), Some(2))]);
    assert_eq!(calls[0].reported_cost, FemtoUsd::parse("0.25"));
    let alone = calls_of(&[cost]);
    assert_eq!(alone.len(), 1, "a cost without tokens is charged");
    assert_eq!(alone[0].reported_cost, FemtoUsd::parse("0.25"));
}

#[test]
fn rule_12_the_same_point_sent_again_counts_once() {
    let delta = point(1, Role::CounterDelta, "agent", Some("s"), used(10, 2));
    assert_eq!(
        llm(&calls_of(&[delta.clone(), delta.clone(), delta])),
        [(Some(10), Some(2))]
    );
}

#[test]
fn points_of_one_metric_with_and_without_a_session_are_both_charged() {
    let with_session = point(1, Role::CounterDelta, "gateway", Some("s"), used(10, 2));
    let mut without = point(2, Role::CounterDelta, "gateway", None, used(5, 1));
    without.series = Some("another".into());
    let calls = calls_of(&[with_session.clone(), without.clone()]);
    assert_eq!(sorted(&calls), [(Some(5), Some(1)), (Some(10), Some(2))]);
    // Another metric of the process repeats those with the session.
    without.name = "gen_ai.client.token.usage".into();
    assert_eq!(sorted(&calls_of(&[with_session, without])), [(Some(10), Some(2))]);
}
