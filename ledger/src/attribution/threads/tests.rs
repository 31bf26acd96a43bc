//! Calls to turns: what each call of a thread sent, got and wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use hashbrown::HashMap;
use spanledger_model::call::{McpFields, Sizes};
use spanledger_model::{Call, CallId, CallKind, Confidence, ObservationId, Status, TenantId, Usage};

use super::*;
use crate::attribution::Claim;

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

fn of_model(mut call: Call, model: &str) -> Call {
    call.model.response_model = Some(model.to_owned());
    call
}

/// Calls with what a record says of their context.
fn threads_with(calls: Vec<(Call, &str)>) -> Vec<Thread> {
    let mut texts = HashMap::new();
    let mut said = |(mut call, text): (Call, &'static str)| {
        if !text.is_empty() {
            let id = ObservationId(call.call_id.0);
            call.observation_ids.push(id);
            texts.insert(id, text);
        }
        call
    };
    let calls = calls
        .into_iter()
        .map(|(call, text)| said((call, Box::leak(text.to_owned().into_boxed_str()))))
        .collect();
    threads(&folded(calls), &Sent(texts))
}

#[test]
fn a_tool_ran_for_the_larger_context_of_two_that_share_a_conversation() {
    // A small model writes a title and, between two calls of the large one, judges a command.
    let threads = threads_of(vec![
        of_model(llm(1, 0, 300), "small"),
        of_model(llm(2, 1, 9_000), "large"),
        of_model(llm(3, 15, 400), "small"),
        tool(4, 30, "get_forecast", Some(4_000)),
        of_model(llm(5, 40, 400), "small"),
        of_model(llm(6, 50, 10_100), "large"),
    ]);
    let of_large = threads.iter().find(|thread| thread.calls == [1, 5]).unwrap();
    assert_eq!(names(&of_large.turns[0].parts), ["get_forecast", "Answer"]);
    assert_eq!(names(&of_large.turns[1].arrived), ["get_forecast"]);
    let of_small = threads.iter().find(|thread| thread.calls == [0, 2, 4]).unwrap();
    let is_empty = |turn: &Turn| turn.parts.is_empty() && turn.arrived.is_empty();
    assert!(of_small.turns.iter().all(is_empty));
}

#[test]
fn another_model_that_goes_on_with_a_conversation_has_its_results_in_its_first_context() {
    let threads = threads_of(vec![
        of_model(llm(1, 0, 9_000), "one"),
        tool(2, 20, "get_forecast", Some(4_000)),
        of_model(llm(3, 40, 10_100), "two"),
    ]);
    let second = threads.iter().find(|thread| thread.calls == [2]).unwrap();
    assert!(names(&second.turns[0].base).contains(&"get_forecast".to_owned()));
}

#[test]
fn agents_of_one_conversation_are_told_apart_by_their_ids() {
    let agent = r#"{"agent":"a1"}"#;
    let threads = threads_with(vec![
        (llm(1, 0, 9_000), ""),
        (llm(2, 5, 5_000), agent),
        (tool(3, 20, "get_alerts", Some(400)), agent),
        (tool(4, 21, "get_forecast", Some(4_000)), ""),
        (llm(5, 40, 5_300), agent),
        (llm(6, 41, 10_100), ""),
    ]);
    let mut found: Vec<_> = threads
        .iter()
        .map(|thread| (thread.calls.clone(), names(&thread.turns[1].arrived)))
        .collect();
    found.sort();
    let name = |name: &str| vec![name.to_owned()];
    assert_eq!(
        found,
        [(vec![0, 5], name("get_forecast")), (vec![1, 4], name("get_alerts"))]
    );
}

#[test]
fn definitions_are_those_that_the_record_of_the_call_states() {
    let threads = threads_with(vec![
        (llm(1, 0, 1_000), r#"{"tools":[["a",300,""],["b",600,""]]}"#),
        (llm(2, 20, 1_100), r#"{"tools":[["a",300,""],["b",600,""]]}"#),
        (llm(3, 40, 1_400), r#"{"tools":[["a",300,""],["c",900,""]]}"#),
        (llm(4, 60, 1_500), ""),
    ]);
    let turns = &threads[0].turns;
    let sent: Vec<Vec<String>> = turns[1..].iter().map(|turn| names(&turn.base)).collect();
    assert_eq!(names(&turns[0].base)[..2], ["a", "b"]);
    assert_eq!(sent, [vec![], vec!["a".to_owned(), "c".to_owned()], vec![]]);
}

#[test]
fn a_list_that_is_fetched_again_replaces_the_tools_of_its_server_and_a_next_page_adds_to_them() {
    let list = |id: u8, start_ms: i64| {
        let mut list = call(id, CallKind::Mcp, start_ms, 1);
        list.mcp.server = Some("weather".to_owned());
        list
    };
    let threads = threads_with(vec![
        (list(1, 0), r#"{"tools":[["a",300,""],["b",600,""]]}"#),
        (list(2, 5), r#"{"tools":[["c",300,""]]}"#),
        (llm(3, 10, 1_000), ""),
        (list(4, 30), r#"{"tools":[["a",300,""],["d",900,""]]}"#),
        (llm(5, 40, 1_400), ""),
    ]);
    let turns = &threads[0].turns;
    assert_eq!(names(&turns[0].base)[..3], ["a", "b", "c"]);
    assert_eq!(names(&turns[1].base), ["a", "d"]);
}

#[test]
fn messages_say_what_arrived_and_answers_what_was_written() {
    let threads = threads_with(vec![
        (
            llm(1, 0, 1_000),
            r#"{"before":[["user",800,""],["text",400,""]],"input":[["user",40,""]],
                "output":[["text",80,""],["call",50,"weather_get_forecast"]]}"#,
        ),
        (tool(2, 20, "get_forecast", None), ""),
        (
            llm(3, 40, 2_500),
            r#"{"input":[["result",4000,"weather_get_forecast"],["user",120,""]]}"#,
        ),
    ]);
    let turns = &threads[0].turns;
    assert_eq!(
        names(&turns[0].base),
        ["Base", "Conversation", "Answer", "Conversation"]
    );
    assert_eq!(names(&turns[0].parts), ["Answer", "get_forecast"]);
    assert_eq!(names(&turns[1].arrived), ["get_forecast", "Conversation"]);
    let weights: Vec<u64> = turns[1].arrived.iter().map(|claim| claim.weight).collect();
    assert_eq!(weights, [1_016, 46]);
}

#[test]
fn what_a_failed_call_had_sent_does_not_arrive_again() {
    let said = r#"{"before":[["text",9,""]],"input":[["result",4000,"get_forecast"]]}"#;
    let again = r#"{"before":[["text",9,""]],"input":[["result",4000,"get_forecast"],["user",400,""]]}"#;
    let threads = threads_with(vec![
        (llm(1, 0, 1_000), ""),
        (tool(2, 20, "get_forecast", None), ""),
        (llm(3, 40, 2_100), said),
        (llm(4, 60, 2_220), again),
    ]);
    assert_eq!(names(&threads[0].turns[2].arrived), ["Conversation"]);
}
