//! Hostile and very large components.

use proptest::prelude::*;

use super::*;
use crate::fold::fold_in;
use crate::settle::components::{Arrival, Components, Dirty, Position};

#[test]
fn a_ring_of_hostile_parents_ends() {
    let mut first = blank(1, CallKind::Llm);
    let mut second = blank(2, CallKind::Llm);
    first.parent_span_id = second.span_id;
    second.parent_span_id = first.span_id;
    first.usage = used(1, 1);
    second.usage = used(2, 2);
    let folded = fold(&[first, second]);
    assert!(!folded.calls.is_empty());
    assert_eq!(folded.parents.len(), folded.calls.len());
}

#[test]
fn times_at_the_ends_of_the_calendar_do_no_harm() {
    let mut records = Vec::new();
    for (id, start_ns, duration_ns) in [
        (1, i64::MIN, None),
        (2, i64::MAX, Some(i64::MAX)),
        (3, 0, Some(i64::MIN)),
    ] {
        for kind in [CallKind::Llm, CallKind::Agent, CallKind::Tool] {
            let mut record = blank(id * 10 + kind as u8, kind);
            (record.start_ns, record.duration_ns) = (start_ns, duration_ns);
            record.usage = used(i64::MAX, i64::MAX);
            record.usage.reasoning = Some(i64::MIN);
            record.dimensions.session_id = Some("s".into());
            record.mcp.tool = Some("Ωμέγα".into());
            record.span_kind = Some(i32::from(id));
            records.push(record);
        }
        records.push(point(
            id * 10 + 9,
            Role::CounterCumulative,
            "a",
            None,
            used(i64::MAX, 1),
        ));
    }
    assert!(!fold(&records).calls.is_empty());
}

/// A session of `n` observations in one trace: tool calls in two traces, model calls in span and log, all of
/// equal counts, below one agent run, with a counter beside them.
fn session(n: usize) -> Vec<Observation> {
    let mut records = Vec::with_capacity(n);
    let id = |n: usize| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(n as u64 + 1).to_le_bytes());
        id
    };
    let set = |record: &mut Observation, n: usize| {
        record.observation_id = ObservationId(id(n));
        record.span_id = record.span_kind.map(|_| SpanId(id(n)[..8].try_into().unwrap()));
        record.dimensions.session_id = Some("s".into());
        record.dimensions.service = Some("a".into());
        record.start_ns += n as i64 * 20_000_000;
        record.duration_ns = Some(90_000_000);
    };
    let mut agent = blank(0, CallKind::Agent);
    agent.role = Role::Rollup;
    agent.usage = used(1, 1);
    set(&mut agent, 0);
    agent.duration_ns = Some(n as i64 * 30_000_000);
    records.push(agent);
    for n in 1..n {
        let mut record = match n % 5 {
            0 => blank(0, CallKind::Llm),
            1 => event(0, "s", used(100, 20)),
            2 => tool(0, 7, Some(250), "weather_get_forecast", 1),
            3 => tool(0, 8, None, "get_forecast", 2),
            _ => point(0, Role::CounterCumulative, "a", Some("s"), used(n as i64, 1)),
        };
        if n % 5 == 0 {
            record.usage = used(100, 20);
            record.parent_span_id = Some(SpanId([250; 8]));
        }
        set(&mut record, n);
        if n % 5 == 3 {
            record.trace_id = Some(TraceId(id(n)));
            record.start_ns -= 10_000_000;
            record.duration_ns = Some(70_000_000);
        }
        records.push(record);
    }
    records
}

#[test]
fn a_long_session_folds_to_one_call_an_operation() {
    let calls = fold(&session(1_001)).calls;
    let of = |kind: CallKind| calls.iter().filter(|call| call.kind == kind).count();
    assert_eq!(
        (of(CallKind::Llm), of(CallKind::Tool), of(CallKind::Agent)),
        (201, 200, 1)
    );
}

#[test]
fn a_flood_of_records_of_one_call_folds_in_bounds() {
    // All name one span and one answer, all of equal counts: each rule sees all of them.
    let flood: Vec<Observation> = (0..3_000usize)
        .map(|n| {
            let mut record = event(0, "s", used(100, 20));
            record.observation_id.0[..8].copy_from_slice(&(n as u64).to_le_bytes());
            record.name = format!("event {n}");
            record.trace_id = Some(TraceId([7; 16]));
            record.span_id = Some(SpanId([1; 8]));
            record.model.response_id = (n % 2 == 0).then(|| "r".into());
            record.mcp.tool = Some("search".into());
            if n % 3 == 0 {
                record.kind = CallKind::Tool;
                record.tool_call_id = Some("c".into());
            }
            record
        })
        .collect();
    assert!(!fold(&flood).calls.is_empty());
}

/// Any record, with or without rings of parents, of few traces, spans, sessions, names and counts, so that much of it may be of one call.
fn any_observation(rings_too: bool) -> impl Strategy<Value = Observation> {
    let identity = (
        any::<u8>(),
        0..4u8,
        0..8u8,
        proptest::option::of(0..8u8),
        proptest::option::of(0..3u8),
    );
    let nature = (
        0..7usize,
        0..6usize,
        0..3usize,
        0..5i32,
        proptest::option::of(0..4usize),
    );
    let time = (0..2_000i64, proptest::option::of(0..1_500i64));
    let told = (
        proptest::option::of(0..3i64),
        proptest::option::of(0..2i64),
        proptest::option::of(0..3u8),
        proptest::option::of(0..3u8),
        0..5usize,
    );
    (identity, nature, time, told).prop_map(move |(identity, nature, time, told)| {
        const KINDS: [CallKind; 7] = [
            CallKind::Llm,
            CallKind::Llm,
            CallKind::Tool,
            CallKind::Tool,
            CallKind::Agent,
            CallKind::Resource,
            CallKind::Mcp,
        ];
        const ROLES: [Role; 6] = [
            Role::Leaf,
            Role::Leaf,
            Role::Rollup,
            Role::Detail,
            Role::Correction,
            Role::CounterCumulative,
        ];
        const HOPS: [Hop; 4] = [Hop::Host, Hop::Client, Hop::Gateway, Hop::Server];
        const NAMES: [&str; 4] = [
            "weather_get_forecast",
            "get_forecast",
            "mcp__weather__get_forecast",
            "crash",
        ];
        let mut record = blank(identity.0, KINDS[nature.0]);
        record.role = ROLES[nature.1];
        record.source = [Source::Span, Source::Log, Source::Metric][nature.2];
        let is_span = record.source == Source::Span && record.role != Role::CounterCumulative;
        record.span_kind = is_span.then_some(nature.3);
        record.hop = nature.4.map(|hop| HOPS[hop]);
        record.trace_id = (identity.1 < 3).then_some(TraceId([identity.1 + 1; 16]));
        record.span_id = record.trace_id.map(|_| SpanId([identity.2 + 1; 8]));
        let parent = identity.3.filter(|parent| rings_too || *parent < identity.2);
        record.parent_span_id = parent.map(|parent| SpanId([parent + 1; 8]));
        record.dimensions.session_id = identity.4.map(|session| format!("s{session}"));
        record.start_ns += time.0 * 1_000_000;
        record.duration_ns = time.1.map(|ms| ms * 1_000_000);
        record.usage.input = told.0;
        record.usage.output = told.1;
        record.model.response_id = told.2.map(|id| format!("r{id}"));
        record.tool_call_id = told.3.map(|id| format!("c{id}"));
        record.mcp.tool = NAMES.get(told.4).map(|name| (*name).into());
        record.mcp.mcp_method = Some("tools/call".into());
        record.scope = Some(if identity.0 % 2 == 0 { "agent" } else { "sdk" }.into());
        record.series = Some(format!("series {}", identity.0 % 3));
        record
    })
}

proptest! {
    #[test]
    fn any_records_in_any_order_fold_to_the_same_calls_and_each_is_of_one_call(
        records in proptest::collection::vec(any_observation(true), 1..40),
        seed in any::<u64>(),
    ) {
        let mut seen = std::collections::HashSet::new();
        let records: Vec<Observation> = records
            .into_iter()
            .filter(|record| seen.insert(record.observation_id))
            .collect();
        let folded = fold(&records);
        let twice: Vec<Observation> = records.iter().chain(&records).cloned().collect();
        prop_assert_eq!(&fold(&shuffled(&twice, seed)).calls, &folded.calls);
        let mut counted = std::collections::HashSet::new();
        for call in &folded.calls {
            for observation_id in &call.observation_ids {
                prop_assert!(counted.insert(*observation_id), "a record is of two calls");
            }
        }
        let mut ids: Vec<_> = folded.calls.iter().map(|call| call.call_id).collect();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(ids.len(), folded.calls.len(), "two calls have one identity");
        prop_assert_eq!(crate::fold::explain(&records).len(), folded.calls.len());
    }

    #[test]
    fn components_folded_one_by_one_give_the_calls_of_all_records_together(
        records in proptest::collection::vec(any_observation(false), 1..30),
        seed in any::<u64>(),
        batch in 1..10usize,
    ) {
        let mut components = Components::default();
        let dirty = Dirty { floor: Position::default(), since_ns: 0, last_ns: 0 };
        let mut seen = std::collections::HashSet::new();
        let records: Vec<Observation> = records
            .into_iter()
            .filter(|record| seen.insert(record.observation_id))
            .collect();
        for batch in shuffled(&records, seed).chunks(batch) {
            for record in batch {
                components.add(record.clone(), Some(dirty), Arrival::New);
            }
            drop(components.link_waiting(|_| true));
        }
        let mut calls: Vec<Call> = Vec::new();
        for id in components.due(|_| true) {
            calls.extend(fold_in(&components.get(id).unwrap().observations, components.context()).calls);
        }
        calls.sort_by_key(|call| (call.start_ns, call.call_id));
        prop_assert_eq!(calls, fold(&records).calls);
    }
}
