//! Calls to turns: what each call of a thread sent, got and wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use spanledger_model::call::{McpFields, Sizes};
use std::collections::HashMap;

use spanledger_model::{Call, CallId, CallKind, Confidence, ObservationId, Status, TenantId, Usage};

use super::*;
use crate::attribution::{Cause, Claim, Method};

const MS: i64 = 1_000_000;

fn call(id: u8, kind: CallKind, start_ms: i64, duration_ms: i64) -> Call {
    Call {
        tenant: TenantId::from_credential("default"),
        call_id: CallId([id; 16]),
        kind,
        operation: None,
        start_ns: start_ms * MS,
        duration_ns: Some(duration_ms * MS),
        dialects: String::new(),
        observation_ids: Vec::new(),
        rules: String::new(),
        confidence: Confidence::Reported,
        hops: 1,
        status: Status::Ok,
        error_type: None,
        dimensions: spanledger_model::call::Dimensions {
            session_id: Some("s".to_owned()),
            ..Default::default()
        },
        allocated_by: None,
        trace_id: None,
        span_id: None,
        parent_span_id: None,
        mcp: McpFields::default(),
        model: Default::default(),
        usage: Usage::default(),
        sizes: Sizes::default(),
        reported_cost: None,
        own_cost: None,
        total_cost: None,
    }
}

fn llm(id: u8, start_ms: i64, input: i64) -> Call {
    let mut call = call(id, CallKind::Llm, start_ms, 10);
    call.usage = Usage {
        input: Some(input),
        output: Some(100),
        ..Usage::default()
    };
    call
}

fn tool(id: u8, start_ms: i64, name: &str, result_bytes: Option<i64>) -> Call {
    let mut call = call(id, CallKind::Tool, start_ms, 5);
    call.mcp.tool = Some(name.to_owned());
    call.mcp.server = Some("weather".to_owned());
    call.sizes.response_bytes = result_bytes;
    call.sizes.request_bytes = Some(40);
    call
}

fn folded(calls: Vec<Call>) -> Folded {
    Folded {
        parents: vec![None; calls.len()],
        calls,
    }
}

fn threads_of(calls: Vec<Call>) -> Vec<Thread> {
    threads(&folded(calls), &Sent::default())
}

fn names(claims: &[Claim]) -> Vec<String> {
    let name = |claim: &Claim| match &*claim.owner {
        Owner::Tool { tool, .. } => tool.clone(),
        other => format!("{other:?}"),
    };
    claims.iter().map(name).collect()
}

#[test]
fn what_ran_between_two_calls_was_written_by_the_first_and_read_by_the_second() {
    let threads = threads_of(vec![
        llm(1, 0, 1_000),
        tool(2, 20, "get_forecast", Some(4_000)),
        tool(3, 21, "get_alerts", None),
        llm(4, 40, 2_500),
    ]);
    assert_eq!(threads.len(), 1);
    assert_eq!(threads[0].calls, [0, 3]);
    assert_eq!(
        names(&threads[0].turns[0].parts),
        ["get_forecast", "get_alerts", "Answer"]
    );
    let arrived = &threads[0].turns[1].arrived;
    assert_eq!(names(arrived), ["get_forecast", "get_alerts"]);
    assert_eq!((arrived[0].method, arrived[0].tokens_max), (Method::Bytes, Some(4_032)));
    assert_eq!(
        (arrived[1].method, arrived[1].weight),
        (Method::Counts, arrived[0].weight)
    );
}

#[test]
fn definitions_and_instructions_come_first_and_go_to_the_tools_that_were_called() {
    let mut first = llm(1, 0, 2_000);
    first.observation_ids = vec![ObservationId([9; 16])];
    let folded = folded(vec![first, tool(2, 20, "get_forecast", Some(4_000)), llm(3, 40, 3_116)]);
    let text =
        r#"{"system":800,"tools":[["mcp_weather_get_forecast",400,"x"],["weather_idle",600,"y"],["Bash",200,"z"]]}"#;
    let sent = Sent(HashMap::from([(ObservationId([9; 16]), text)]));
    let base = &threads(&folded, &sent)[0].turns[0].base;
    let of = |tool: &str, server: Option<&str>| Owner::Tool {
        server: server.map(str::to_owned),
        tool: tool.to_owned(),
    };
    let owners: Vec<Owner> = base.iter().map(|claim| (*claim.owner).clone()).collect();
    let weather = Some("weather");
    let expected = [
        of("get_forecast", weather),
        of("idle", weather),
        of("Bash", None),
        Owner::System,
        Owner::Conversation,
    ];
    assert_eq!(owners, expected);
    // One result of 4,000 bytes was all that arrived: 1,000 tokens, four bytes each.
    assert_eq!(
        base.iter().map(|claim| claim.weight).collect::<Vec<_>>(),
        [133, 200, 66, 200, 1_401]
    );
}

#[test]
fn a_sub_agent_has_a_thread_of_its_own() {
    let mut folded = folded(vec![
        llm(1, 0, 1_000),
        tool(2, 20, "Agent", None),
        llm(3, 21, 400),
        llm(4, 40, 1_200),
    ]);
    folded.parents[2] = Some(1);
    let mut threads = threads(&folded, &Sent::default());
    threads.sort_by_key(|thread| thread.calls.clone());
    assert_eq!(
        threads.iter().map(|thread| thread.calls.clone()).collect::<Vec<_>>(),
        [vec![0, 3], vec![2]]
    );
}

#[test]
fn a_short_call_between_two_of_a_growing_context_stands_alone() {
    let threads = threads_of(vec![
        llm(1, 0, 10_000),
        llm(2, 20, 300),
        llm(3, 40, 11_000),
        llm(4, 60, 3_000),
    ]);
    let mut calls: Vec<Vec<usize>> = threads.into_iter().map(|thread| thread.calls).collect();
    calls.sort();
    // The last one shrinks and nothing continues the larger context: it was compacted.
    assert_eq!(calls, [vec![0, 2, 3], vec![1]]);
}

#[test]
fn what_was_read_before_the_first_call_is_part_of_its_base() {
    let mut prompt = call(1, CallKind::Prompt, 0, 1);
    prompt.mcp.prompt = Some("triage".to_owned());
    prompt.sizes.response_bytes = Some(800);
    let threads = threads_of(vec![prompt, llm(2, 10, 1_000)]);
    let base = &threads[0].turns[0].base;
    assert_eq!(base.len(), 2);
    assert_eq!(
        (base[0].cause, base[0].weight + base[1].weight),
        (Cause::Undivided, 1_000)
    );
    assert!(matches!(&*base[1].owner, Owner::Prompt { name, .. } if name == "triage"));
}
