//! Hostile and very large components.

use super::*;

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

/// Not part of the suite: prints what a fold of a component of 20,000 observations takes.
/// `cargo test --release -p spanledger-ledger -- --ignored --nocapture fold_of_20_000`
#[test]
#[ignore = "a measurement"]
fn a_fold_of_20_000_observations_is_measured() {
    for n in [5_000, 10_000, 20_000] {
        let records = session(n);
        let start = std::time::Instant::now();
        let n_calls = fold(&records).calls.len();
        eprintln!("{n} observations, {n_calls} calls: {} ms", start.elapsed().as_millis());
    }
}
