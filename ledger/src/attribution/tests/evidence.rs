//! Evidence, kind by kind: what the genuine captures tell of messages, agents and tools; definitions that change;
//! model calls that a server asked for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use serde_json::Value;
use spanledger_ingest::capture::Reading;
use spanledger_ingest::dialects::Registry;
use spanledger_model::{CallKind, Observation, Role, Source};

use super::super::threads::{Sent, Thread, threads};
use super::super::{Cause, Claim, Context, Method, Owner, Policy, Segment, Turn, divide_charges};
use crate::charge::{Charge, charge};
use crate::fold::{Folded, fold};
use crate::prices::PriceBook;

fn observations(capture: &str) -> Vec<Observation> {
    let fixtures = spanledger_testkit::workspace().join("testkit/fixtures");
    Reading::of(&fixtures.join(capture), &Registry::builtin())
        .unwrap()
        .observations
}

/// Input tokens of all divided calls, and how many of them are not divided.
fn undivided(folded: &Folded, observations: &[Observation]) -> (i64, i64) {
    let (mut all, mut nobodys) = (0, 0);
    for thread in threads(folded, &Sent::of_all(observations)) {
        let mut context = Context::new();
        for turn in &thread.turns {
            let (segments, _) = context.next(turn);
            let tokens = |of: &dyn Fn(&Segment) -> bool| -> i64 {
                segments
                    .iter()
                    .filter(|segment| of(segment))
                    .map(|segment| segment.tokens)
                    .sum()
            };
            assert_eq!(tokens(&|_| true), turn.input, "invariant A");
            all += turn.input;
            nobodys += tokens(&|segment| segment.method == Method::Undivided);
        }
    }
    (all, nobodys)
}

/// The observations without the messages that they tell.
fn without_messages(observations: &[Observation]) -> Vec<Observation> {
    let mut stripped = observations.to_vec();
    for text in stripped
        .iter_mut()
        .filter_map(|observation| observation.context_sizes.as_mut())
    {
        let mut context: Value = serde_json::from_str(text).unwrap();
        for key in ["before", "input", "output"] {
            context.as_object_mut().unwrap().remove(key);
        }
        *text = context.to_string();
    }
    stripped
}

/// Gives model calls the counts that their contents would have: the captures' are those of a mock model, up to a
/// hundred times what was sent. Four bytes a token; calls whose record tells no messages keep theirs.
fn count_contents(folded: &mut Folded, observations: &[Observation]) {
    let bytes = |part: &Value| part[1].as_i64().unwrap_or(0).max(0);
    for call in folded.calls.iter_mut().filter(|call| call.kind == CallKind::Llm) {
        let of_call = observations
            .iter()
            .filter(|observation| call.observation_ids.contains(&observation.observation_id));
        let contexts =
            of_call.filter_map(|observation| serde_json::from_str::<Value>(observation.context_sizes.as_ref()?).ok());
        let sum = |context: &Value, key: &str| context[key].as_array().into_iter().flatten().map(bytes).sum::<i64>();
        let sent = |context: &Value| {
            let messages = sum(context, "before") + sum(context, "input");
            (messages > 0).then(|| messages + sum(context, "tools") + context["system"].as_i64().unwrap_or(0))
        };
        let counted = contexts.filter_map(|context| Some((sent(&context)?, sum(&context, "output"))));
        if let Some((sent, answered)) = counted.max() {
            (call.usage.input, call.usage.output, call.usage.reasoning) =
                (Some(sent / 4 + 1), Some(answered / 4 + 1), None);
        }
    }
}

#[test]
fn messages_divide_what_was_not_divided_in_the_captures_that_tell_them() {
    // What is undivided of the input, in percent, without messages and with them: by the counts as captured, and by
    // those that the contents would have. The former were made up, and what no content explains is rightly nobody's.
    let captures = [
        ("agent-framework", (98, 98), (98, 98)),
        ("copilot-cli-content", (0, 0), (0, 0)),
        ("gemini-cli", (0, 0), (0, 0)),
        // Its last call tells no messages.
        ("langfuse", (73, 23), (50, 50)),
        ("langsmith", (66, 0), (0, 0)),
        ("litellm-proxy", (45, 42), (100, 0)),
        ("logfire", (90, 71), (0, 0)),
        ("mastra", (97, 97), (97, 97)),
        ("openai-agents-openinference", (0, 92), (0, 0)),
        ("opencode", (0, 0), (1, 1)),
        ("openinference", (27, 96), (0, 0)),
        ("openllmetry", (95, 95), (0, 0)),
        ("otel-openai-v2", (98, 95), (23, 0)),
        ("pydantic-ai", (57, 94), (0, 0)),
        ("vercel-ai-sdk-6", (68, 0), (0, 0)),
        ("vercel-ai-sdk-7", (68, 0), (0, 0)),
    ];
    let mut wrong = Vec::new();
    for (name, by_mock, by_content) in captures {
        let observations = observations(&format!("captures/{name}"));
        let mut folded = fold(&observations);
        let shares = |folded: &Folded| {
            let percent = |observations: &[Observation]| {
                let (all, nobodys) = undivided(folded, observations);
                nobodys * 100 / all.max(1)
            };
            (percent(&without_messages(&observations)), percent(&observations))
        };
        let as_captured = shares(&folded);
        count_contents(&mut folded, &observations);
        let as_sent = shares(&folded);
        if (as_captured, as_sent) != (by_mock, by_content) {
            wrong.push((name, as_captured, as_sent));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

fn tool(server: Option<&str>, tool: &str) -> Owner {
    Owner::Tool {
        server: server.map(str::to_owned),
        tool: tool.to_owned(),
    }
}

#[test]
fn what_a_server_asks_a_model_for_is_its_tools() {
    let observations = observations("synthetic/mcp-sampling");
    let folded = fold(&observations);
    let threads = threads(&folded, &Sent::of_all(&observations));
    let inputs = |thread: &Thread| thread.turns.iter().map(|turn| turn.input).collect::<Vec<_>>();
    let mut found: Vec<_> = threads
        .iter()
        .map(|thread| (inputs(thread), thread.asked_by.as_deref().cloned()))
        .collect();
    found.sort();
    let weather = Some("weather");
    assert_eq!(
        found,
        [
            (vec![2_000, 2_500, 3_000], None),
            (vec![3_000], Some(tool(weather, "plan_trip"))),
            (vec![5_000], Some(tool(weather, "summarise"))),
        ]
    );
}

#[test]
fn all_that_a_call_costs_is_of_the_tool_that_asked_for_it() {
    let observations = observations("synthetic/mcp-sampling");
    let folded = fold(&observations);
    let book = PriceBook::embedded().unwrap();
    let whole: Vec<Charge> = folded.calls.iter().map(|call| charge(call, &book, 0)).collect();
    let mut divided = whole.clone();
    divide_charges(&folded, &observations, &mut divided, Policy::Prefix);
    let cost = |charge: &Charge| {
        charge
            .lines
            .iter()
            .filter_map(|line| line.effective_cost)
            .map(|cost| cost.0)
            .sum::<i128>()
    };
    let mut n_asked = 0;
    for (at, call) in folded.calls.iter().enumerate() {
        assert_eq!(cost(&divided[at]), cost(&whole[at]));
        let asker = match call.usage.input {
            Some(5_000) => "summarise",
            Some(3_000) if call.usage.output == Some(200) => "plan_trip",
            _ => continue,
        };
        n_asked += 1;
        // Input, output and, where it reasoned, reasoning.
        assert!(divided[at].lines.len() >= 2);
        for line in &divided[at].lines {
            let says = (line.server.as_deref(), line.tool.as_deref(), line.cause, line.method);
            assert_eq!(says, (Some("weather"), Some(asker), "sampling", "content"));
        }
    }
    assert_eq!(n_asked, 2);
}

#[test]
fn what_a_record_leaves_out_of_a_first_context_is_nobodys() {
    let base = |input: i64, text: &str| {
        let mut observations = observations("captures/vercel-ai-sdk-6");
        observations.retain(|observation| observation.kind == CallKind::Llm && observation.role == Role::Leaf);
        observations.truncate(1);
        observations[0].usage.input = Some(input);
        observations[0].context_sizes = Some(text.to_owned());
        let folded = fold(&observations);
        let base = &threads(&folded, &Sent::of_all(&observations))[0].turns[0].base;
        base.iter().map(|claim| claim.cause).collect::<Vec<_>>()
    };
    let (definition, user, result, nobodys) = (Cause::Definition, Cause::User, Cause::Result, Cause::Undivided);
    // 100 tokens of a definition, about 100 of a message: a conversation from its beginning.
    let whole = r#"{"input":[["user",400,""]],"tools":[["a",300,""]]}"#;
    assert_eq!(base(500, whole), [definition, user]);
    assert_eq!(base(5_000, whole), [definition, nobodys, user]);
    // One that goes on: what was said before is not told.
    let later = r#"{"input":[["result",400,"a"]],"tools":[["a",300,""]]}"#;
    assert_eq!(base(250, later), [definition, result]);
    assert_eq!(base(500, later), [definition, nobodys, result]);
    // Nobody tells the definitions.
    assert_eq!(base(500, r#"{"input":[["user",400,""]]}"#), [nobodys, user]);
}

#[test]
fn sub_agents_and_hosts_ask_for_their_model_calls_themselves() {
    let captures = spanledger_testkit::workspace().join("testkit/fixtures/captures");
    let mut n_threads = 0;
    for entry in std::fs::read_dir(captures).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name == "_tools" {
            continue;
        }
        let observations = observations(&format!("captures/{name}"));
        for thread in threads(&fold(&observations), &Sent::of_all(&observations)) {
            assert_eq!(thread.asked_by, None, "{name}");
            n_threads += 1;
        }
    }
    assert!(n_threads > 40, "{n_threads}");
}

#[test]
fn prompts_and_resources_that_are_read_have_their_share() {
    let observations = observations("synthetic/mcp-sampling");
    let folded = fold(&observations);
    let threads = threads(&folded, &Sent::of_all(&observations));
    let main = threads.iter().find(|thread| thread.asked_by.is_none()).unwrap();
    let of = |wanted: Owner| {
        let mut claims = main.turns[0].base.iter().filter(|claim| *claim.owner == wanted);
        claims.next().map(|claim| (claim.cause, claim.method))
    };
    let prompt = Owner::Prompt {
        name: "triage".to_owned(),
        version: Some("v3".to_owned()),
    };
    let resource = Owner::Resource {
        server: Some("weather".to_owned()),
        uri: "weather://stations".to_owned(),
    };
    assert_eq!(of(prompt), Some((Cause::User, Method::Bytes)));
    assert_eq!(of(resource), Some((Cause::Result, Method::Bytes)));
}

#[test]
fn a_sub_agent_that_only_its_id_tells_has_a_thread_of_its_own() {
    // Logs alone: no span says what ran within what.
    let observations = observations("captures/claude-code-defaults");
    let logs: Vec<Observation> = observations
        .into_iter()
        .filter(|observation| observation.source == Source::Log)
        .collect();
    let folded = fold(&logs);
    let agent_of = |call: usize| {
        let ids = &folded.calls[call].observation_ids;
        let of_call = logs
            .iter()
            .filter(|observation| ids.contains(&observation.observation_id));
        let mut texts = of_call.filter_map(|observation| observation.context_sizes.as_deref());
        texts.find_map(|text| {
            let context: Value = serde_json::from_str(text).unwrap();
            context["agent"].as_str().map(str::to_owned)
        })
    };
    let threads = threads(&folded, &Sent::of_all(&logs));
    let mut n_of_agents = 0;
    for thread in &threads {
        let mut agents: Vec<_> = thread.calls.iter().map(|call| agent_of(*call)).collect();
        agents.dedup();
        assert_eq!(agents.len(), 1, "{agents:?}");
        n_of_agents += usize::from(agents[0].is_some());
    }
    assert!(n_of_agents > 0 && threads.len() > n_of_agents);
}

#[test]
fn a_host_that_hides_a_tools_name_in_its_event_may_tell_it_with_the_model_call() {
    // As a host without spans and without tool details sends it: which tool ran is in no record of it.
    let observations = observations("captures/claude-code-grpc-subagent");
    let logs = observations
        .into_iter()
        .filter(|observation| observation.source == Source::Log);
    let mut logs: Vec<Observation> = logs.collect();
    let is_hidden = |observation: &Observation| observation.kind == CallKind::Tool && observation.mcp.server.is_some();
    for observation in logs.iter_mut().filter(|observation| is_hidden(observation)) {
        (observation.mcp.tool, observation.mcp.server) = (None, None);
    }
    let folded = fold(&logs);
    let threads = threads(&folded, &Sent::of_all(&logs));
    let arrived = threads
        .iter()
        .flat_map(|thread| &thread.turns)
        .flat_map(|turn| &turn.arrived);
    let mut owners: Vec<Owner> = arrived.map(|claim| (*claim.owner).clone()).collect();
    owners.sort();
    let weather = Some("weather");
    let named = ["crash", "get_alerts", "get_forecast", "get_forecast"].map(|name| tool(weather, name));
    let found: Vec<Owner> = owners
        .into_iter()
        .filter(|owner| matches!(owner, Owner::Tool { server: Some(_), .. }))
        .collect();
    assert_eq!(found, named);
}

// --- definitions that change

fn definition(name: &str, weight: u64) -> Claim {
    Claim {
        owner: Arc::new(tool(Some("s"), name)),
        cause: Cause::Definition,
        weight,
        tokens_max: None,
        method: Method::Bytes,
    }
}

fn turn(input: i64, base: Vec<Claim>) -> Turn {
    Turn {
        input,
        output: 10,
        base,
        ..Turn::default()
    }
}

fn names(segments: &[Segment]) -> Vec<(String, i64)> {
    let name = |segment: &Segment| match &*segment.owner {
        Owner::Tool { tool, .. } => tool.clone(),
        other => format!("{other:?}"),
    };
    segments.iter().map(|segment| (name(segment), segment.tokens)).collect()
}

#[test]
fn definitions_that_come_claim_growth_and_stand_in_the_prefix_and_those_that_leave_take_theirs() {
    let mut context = Context::new();
    let system = Claim {
        owner: Arc::new(Owner::System),
        cause: Cause::System,
        ..definition("", 100)
    };
    context.next(&turn(400, vec![definition("a", 100), definition("b", 200), system]));
    // 10 tokens of answer, 300 of the definition that came; `b` took its 200 with it.
    let (segments, _) = context.next(&turn(510, vec![definition("a", 100), definition("c", 300)]));
    let found = names(segments);
    let at = |name: &str| {
        (
            name.to_owned(),
            match name {
                "a" | "System" => 100,
                "c" => 300,
                _ => 10,
            },
        )
    };
    assert_eq!(found, [at("a"), at("c"), at("System"), at("Answer")]);
    // The same set again, not told anew: nothing changes.
    let (segments, _) = context.next(&turn(520, Vec::new()));
    let held: i64 = segments.iter().map(|segment| segment.tokens).sum();
    assert_eq!((held, names(segments)[1].clone()), (520, at("c")));
    // All leave, and the context is smaller than what is left of it.
    let (segments, _) = context.next(&turn(50, vec![definition("d", 20)]));
    let held: i64 = segments.iter().map(|segment| segment.tokens).sum();
    assert_eq!(held, 50);
    assert!(names(segments).iter().all(|(name, _)| name != "a" && name != "c"));
}
