//! The rules against double counting, on genuine captures (in any order, and repeated) and one by one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use spanledger_ingest::normalise::{Context, normalise};
use spanledger_ingest::{Encoding, Limits, Signal, decode};
use spanledger_lake::tables::{Table, observations};
use spanledger_model::call::{Dimensions, McpFields, ModelFields, Sizes};
use spanledger_model::{
    Call, CallKind, Observation, ObservationId, Role, Source, SpanId, Status, TenantId, TraceId, Usage,
};

use super::fold;

fn capture(name: &str) -> Vec<Observation> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../testkit/fixtures/captures")
        .join(name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut read = Vec::new();
    for (position, file) in files.iter().enumerate() {
        let file_name = file.file_name().unwrap().to_str().unwrap();
        let Some((stem, extension)) = file_name.rsplit_once('.') else {
            continue;
        };
        let signal = match stem.rsplit_once('-').map(|(_, signal)| signal) {
            Some("traces") => Signal::Traces,
            Some("logs") => Signal::Logs,
            Some("metrics") => Signal::Metrics,
            _ => continue,
        };
        let encoding = if extension == "pb" {
            Encoding::Protobuf
        } else {
            Encoding::Json
        };
        let request = decode(signal, encoding, &std::fs::read(file).unwrap()).unwrap();
        let context = Context {
            tenant: TenantId::from_credential("default"),
            arrived_ns: 1_795_000_000_000_000_000 + position as i64,
            dialects: spanledger_ingest::dialects::Registry::builtin(),
        };
        let normalised = normalise(&request, &context, &Limits::default());
        assert_eq!(normalised.n_rejected(), 0, "{file_name}");
        for (table, batch) in normalised.rows {
            if table == Table::Observations {
                read.extend(observations::from_batch(&batch));
            }
        }
    }
    read
}

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

#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    llm: usize,
    failed_llm: usize,
    embeddings: usize,
    input: i64,
    output: i64,
    cache_read: i64,
    cache_write: i64,
    cost: String,
    mcp_tools: usize,
    mcp_tool_errors: usize,
    prompts: usize,
    resources: usize,
    resource_errors: usize,
}

fn sums(calls: &[Call]) -> Sums {
    let llm: Vec<&Call> = calls.iter().filter(|call| call.kind == CallKind::Llm).collect();
    let of = |kind: CallKind| calls.iter().filter(move |call| call.kind == kind);
    let mcp_tools = || of(CallKind::Tool).filter(|call| call.mcp.server.is_some() || call.mcp.mcp_method.is_some());
    let sum = |get: fn(&Usage) -> Option<i64>| llm.iter().filter_map(|call| get(&call.usage)).sum();
    Sums {
        llm: llm.iter().filter(|call| call.status != Status::Error).count(),
        failed_llm: llm.iter().filter(|call| call.status == Status::Error).count(),
        embeddings: of(CallKind::Embedding).count(),
        input: sum(|usage| usage.input),
        output: sum(|usage| usage.output),
        cache_read: sum(|usage| usage.cache_read),
        cache_write: sum(|usage| usage.cache_write()),
        cost: llm
            .iter()
            .filter_map(|call| call.reported_cost)
            .sum::<spanledger_model::FemtoUsd>()
            .to_string(),
        mcp_tools: mcp_tools().count(),
        mcp_tool_errors: mcp_tools().filter(|call| call.status == Status::Error).count(),
        prompts: of(CallKind::Prompt).count(),
        resources: of(CallKind::Resource).count(),
        resource_errors: of(CallKind::Resource)
            .filter(|call| call.status == Status::Error)
            .count(),
    }
}

fn check_capture(name: &str, expected: &Sums) {
    let observations = capture(name);
    let in_order = fold(&observations);
    assert_eq!(
        &sums(&in_order.calls),
        expected,
        "{name} in file order: {:#?}",
        summary(&in_order.calls)
    );
    let twice: Vec<Observation> = observations.iter().chain(&observations).cloned().collect();
    assert_eq!(fold(&twice).calls, in_order.calls, "{name} twice over");
    for seed in [3, 0x9e37_79b9_7f4a_7c15, 0x1234_5678_9abc_def1] {
        assert_eq!(
            fold(&shuffled(&twice, seed)).calls,
            in_order.calls,
            "{name} shuffled with seed {seed}"
        );
    }
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

#[test]
fn claude_code_counts_each_call_once() {
    // Cached tokens are input: 261 + 93,750 + 3,650. The server's traces are not joined to the host's: its
    // four calls are found by tool and time.
    check_capture(
        "claude-code",
        &Sums {
            llm: 6,
            input: 261 + 93_750 + 3_650,
            output: 537,
            cache_read: 93_750,
            cache_write: 3_650,
            cost: "0.0513255".into(),
            mcp_tools: 4,
            mcp_tool_errors: 2,
            ..Sums::default()
        },
    );
}

#[test]
fn claude_code_over_json_counts_each_call_once() {
    check_capture(
        "claude-code-json",
        &Sums {
            llm: 6,
            input: 219 + 93_750 + 3_650,
            output: 471,
            cache_read: 93_750,
            cache_write: 3_650,
            cost: "0.0502095".into(),
            mcp_tools: 4,
            mcp_tool_errors: 2,
            ..Sums::default()
        },
    );
}

#[test]
fn a_gateway_and_its_hops_are_one_call() {
    check_capture(
        "fastmcp-gateway",
        &Sums {
            llm: 2,
            input: 4_300,
            output: 260,
            cache_read: 1_500,
            cache_write: 1_500,
            cost: "0".into(),
            mcp_tools: 6,
            mcp_tool_errors: 3,
            prompts: 1,
            resources: 3,
            resource_errors: 1,
            ..Sums::default()
        },
    );
}

#[test]
fn two_instrumentations_are_one_call() {
    check_capture(
        "openinference",
        &Sums {
            llm: 6,
            failed_llm: 1,
            embeddings: 1,
            input: 39_548 + 7_490,
            output: 186 + 195,
            // The truth names Anthropic's cache reads; OpenAI's two cached answers say 4,608 more.
            cache_read: 36_750 + 4_608,
            cache_write: 2_720,
            cost: "0".into(),
            mcp_tools: 5,
            mcp_tool_errors: 1,
            prompts: 1,
            ..Sums::default()
        },
    );
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

#[test]
fn a_response_id_reused_an_hour_later_is_another_call() {
    let mut first = blank(1, CallKind::Llm);
    first.usage = used(10, 2);
    first.model.response_id = Some("msg_0001".into());
    let mut second = Observation {
        observation_id: ObservationId([2; 16]),
        span_id: Some(SpanId([2; 8])),
        ..first.clone()
    };
    second.start_ns += 3_600_000_000_000;
    assert_eq!(llm(&fold(&[first, second]).calls).len(), 2);
}

#[test]
fn equal_siblings_of_one_scope_are_two_calls() {
    let mut first = blank(1, CallKind::Llm);
    first.usage = used(10, 2);
    let second = Observation {
        observation_id: ObservationId([2; 16]),
        span_id: Some(SpanId([2; 8])),
        ..first.clone()
    };
    assert_eq!(llm(&fold(&[first.clone(), second.clone()]).calls).len(), 2);
    let other_scope = Observation {
        scope: Some("com.anthropic.sdk.python".into()),
        ..second
    };
    assert_eq!(llm(&fold(&[first, other_scope]).calls).len(), 1);
}

#[test]
fn a_roll_up_parent_is_charged_only_when_no_descendant_reports() {
    let mut agent = blank(1, CallKind::Agent);
    agent.role = Role::Rollup;
    agent.usage = used(30, 6);
    agent.duration_ns = Some(9_000_000_000);
    let mut leaf = blank(2, CallKind::Llm);
    leaf.parent_span_id = agent.span_id;
    leaf.usage = used(10, 2);
    assert_eq!(llm(&fold(&[agent.clone(), leaf]).calls), [(Some(10), Some(2))]);
    assert_eq!(llm(&fold(&[agent]).calls), [(Some(30), Some(6))]);
}

#[test]
fn counters_are_charged_only_for_sessions_without_events() {
    let counter = |id, session: &str, usage| Observation {
        source: Source::Metric,
        role: Role::CounterDelta,
        trace_id: None,
        span_id: None,
        span_kind: None,
        usage,
        dimensions: Dimensions {
            session_id: Some(session.into()),
            ..Dimensions::default()
        },
        ..blank(id, CallKind::Llm)
    };
    let input = counter(
        1,
        "a",
        Usage {
            input: Some(10),
            ..Usage::default()
        },
    );
    let output = counter(
        2,
        "a",
        Usage {
            output: Some(2),
            ..Usage::default()
        },
    );
    assert_eq!(
        llm(&fold(&[input.clone(), output.clone()]).calls),
        [(Some(10), Some(2))]
    );
    let event = Observation {
        source: Source::Log,
        role: Role::Leaf,
        span_kind: None,
        usage: used(10, 2),
        dimensions: input.dimensions.clone(),
        ..blank(3, CallKind::Llm)
    };
    let other_session = counter(4, "b", used(5, 1));
    let calls = fold(&[input, output, event, other_session]).calls;
    let mut counted = llm(&calls);
    counted.sort_unstable();
    assert_eq!(counted, [(Some(5), Some(1)), (Some(10), Some(2))]);
}

#[test]
fn of_a_cumulative_series_the_newest_point_counts() {
    let point = |id, input, seconds: i64| Observation {
        source: Source::Metric,
        role: Role::CounterCumulative,
        trace_id: None,
        span_id: None,
        span_kind: None,
        series: Some("s".into()),
        duration_ns: Some(seconds * 1_000_000_000),
        usage: used(input, 0),
        ..blank(id, CallKind::Llm)
    };
    assert_eq!(
        llm(&fold(&[point(1, 10, 60), point(2, 25, 120), point(3, 25, 180)]).calls),
        [(Some(25), Some(0))]
    );
}

#[test]
fn a_tool_that_calls_another_tool_is_two_calls() {
    let tool = |id: u8, parent: Option<u8>, name: &str, span_kind| {
        let mut hop = blank(id, CallKind::Tool);
        hop.parent_span_id = parent.map(|parent| SpanId([parent; 8]));
        hop.mcp.tool = Some(name.into());
        hop.span_kind = Some(span_kind);
        hop
    };
    let hops = [
        tool(1, None, "files_search", 3),
        tool(2, Some(1), "search", 2),
        tool(3, Some(2), "read", 3),
    ];
    let calls = fold(&hops).calls;
    let names: Vec<_> = calls.iter().map(|call| (call.mcp.tool.as_deref(), call.hops)).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains(&(Some("read"), 1)));
}

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
