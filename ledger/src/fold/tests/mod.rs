//! The rules against double counting, one by one on hand-made records, and all of them on genuine captures.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod bounds;
mod captures;
mod counter_rules;
mod mcp_rules;
mod model_rules;
mod names_and_explain;

use spanledger_model::call::{Dimensions, McpFields, ModelFields, Sizes};
use spanledger_model::{
    Call, CallKind, Hop, Observation, ObservationId, Role, Source, SpanId, Status, TenantId, TraceId, Usage,
};

use super::fold;

/// A second, in nanoseconds.
const SECOND: i64 = 1_000_000_000;

/// A deterministic shuffle: multiplicative hashing of the position by an odd seed.
fn shuffled(observations: &[Observation], seed: u64) -> Vec<Observation> {
    let mut keyed: Vec<(u64, &Observation)> = observations
        .iter()
        .enumerate()
        .map(|(position, observation)| {
            (
                (position as u64 + 1).wrapping_mul(seed | 1).rotate_left(17),
                observation,
            )
        })
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, observation)| observation.clone()).collect()
}

fn summary(calls: &[Call]) -> Vec<String> {
    calls
        .iter()
        .map(|call| {
            format!(
                "{} {:?}/{:?} {:?} in {:?} out {:?} {:?} hops {} by {} dims {:?}",
                call.kind.as_str(),
                call.mcp.server,
                call.mcp.tool,
                call.model.request_model,
                call.usage.input,
                call.usage.output,
                call.status,
                call.hops,
                call.dialects,
                call.dimensions
            )
        })
        .collect()
}

fn blank(id: u8, kind: CallKind) -> Observation {
    Observation {
        tenant: TenantId::from_credential("default"),
        observation_id: ObservationId([id; 16]),
        source: Source::Span,
        dialect: "gen_ai".into(),
        scope: Some("agent".into()),
        name: String::new(),
        arrived_ns: 0,
        role: Role::Leaf,
        kind,
        operation: None,
        start_ns: 1_795_000_000_000_000_000,
        duration_ns: Some(1_000_000_000),
        status: Status::Unset,
        error_type: None,
        dimensions: Dimensions::default(),
        turn_id: None,
        trace_id: Some(TraceId([7; 16])),
        span_id: Some(SpanId([id; 8])),
        parent_span_id: None,
        span_kind: Some(3),
        hop: None,
        arguments_hash: None,
        context_sizes: None,
        tool_call_id: None,
        mcp: McpFields::default(),
        model: ModelFields {
            request_model: Some("claude-sonnet-4-5".into()),
            ..ModelFields::default()
        },
        usage: Usage::default(),
        sizes: Sizes::default(),
        reported_cost: None,
        series: None,
    }
}

fn used(input: i64, output: i64) -> Usage {
    Usage {
        input: Some(input),
        output: Some(output),
        ..Usage::default()
    }
}

fn llm(calls: &[Call]) -> Vec<(Option<i64>, Option<i64>)> {
    calls
        .iter()
        .filter(|call| call.kind == CallKind::Llm)
        .map(|call| (call.usage.input, call.usage.output))
        .collect()
}

/// A log record in place of a span: no trace, a session.
fn event(id: u8, session: &str, usage: Usage) -> Observation {
    Observation {
        source: Source::Log,
        name: "api_response".into(),
        trace_id: None,
        span_id: None,
        span_kind: None,
        usage,
        dimensions: Dimensions {
            session_id: Some(session.into()),
            ..Dimensions::default()
        },
        ..blank(id, CallKind::Llm)
    }
}

/// A point of a counter.
fn point(id: u8, role: Role, service: &str, session: Option<&str>, usage: Usage) -> Observation {
    Observation {
        source: Source::Metric,
        role,
        name: "acme.token.usage".into(),
        trace_id: None,
        span_id: None,
        span_kind: None,
        usage,
        series: Some("series".into()),
        dimensions: Dimensions {
            service: Some(service.into()),
            session_id: session.map(str::to_owned),
            ..Dimensions::default()
        },
        ..blank(id, CallKind::Llm)
    }
}

fn input(tokens: i64) -> Usage {
    Usage {
        input: Some(tokens),
        ..Usage::default()
    }
}

fn output(tokens: i64) -> Usage {
    Usage {
        output: Some(tokens),
        ..Usage::default()
    }
}

/// A tool call's span: 2 for SERVER, 3 for CLIENT, 1 for INTERNAL.
fn tool(id: u8, trace: u8, parent: Option<u8>, name: &str, span_kind: i32) -> Observation {
    let mut hop = blank(id, CallKind::Tool);
    hop.trace_id = Some(TraceId([trace; 16]));
    hop.parent_span_id = parent.map(|parent| SpanId([parent; 8]));
    hop.mcp.tool = Some(name.into());
    hop.mcp.mcp_method = Some("tools/call".into());
    hop.span_kind = Some(span_kind);
    hop.model = ModelFields::default();
    hop
}

/// The calls of some records, which must not depend on their order or on repeats.
fn calls_of(observations: &[Observation]) -> Vec<Call> {
    let calls = fold(observations).calls;
    let twice: Vec<Observation> = observations.iter().chain(observations).cloned().collect();
    for seed in [3, 0x9e37_79b9_7f4a_7c15] {
        assert_eq!(fold(&shuffled(&twice, seed)).calls, calls, "shuffled, twice over");
    }
    calls
}
