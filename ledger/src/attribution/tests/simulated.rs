//! How much cost attribution puts on the wrong owner, against simulated sessions whose truth is known; and the
//! invariants over tens of thousands of them.
//!
//! Levels of evidence, each what an emitter can report: the size of every part (`content`), sizes of results and
//! arguments with the fetched tool lists (`bytes`), the tool lists alone (`counts`). These two take the way of the
//! product: calls, [`threads`], [`Context`], [`divide`]. So do `messages`, which is all that is read of captured
//! contents (definitions, instructions, messages, answers), and `stated`, the same without messages. `content`
//! hands the context its turns.
//!
//! The wrong share of a session is half the sum of |attributed − true| by owner, over its cost. Instructions and
//! messages of people are one owner in it, because an undivided base stands for both; `strict` keeps them apart
//! and counts the undivided as wrong. Simulated: real sessions can be worse.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::json;
use spanledger_model::call::{Dimensions, McpFields, ModelFields, Sizes};
use spanledger_model::{
    Bucket, Call, CallId, CallKind, Confidence, FemtoUsd, Observation, ObservationId, Role, Source, Status, TenantId,
    Usage,
};
use spanledger_testkit::simulator::{self, Action, ModelCall, Part, Segment, Session, Shape, session};

use super::super::atoms::Charged;
use super::super::threads::{Sent, Thread, threads};
use super::super::{Atom, Cause, Claim, Context, Method, Owner, Policy, Turn, divide};
use crate::fold::Folded;

const MS: i64 = 1_000_000;
/// What a reader of contents adds to a message for its framing, tokens.
const FRAMING_TOKENS: u64 = 16;
/// The most that the median session may have wrong, in percent, by [`Evidence`]; the acceptance of the work on
/// attribution.
const LIMITS: [(Evidence, f64); 6] = [
    (Evidence::Content, 3.0),
    (Evidence::Messages, 3.0),
    (Evidence::PlainContent, 3.6),
    (Evidence::Stated, 3.0),
    (Evidence::Bytes, 4.0),
    (Evidence::Counts, 8.0),
];

/// What is known of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// The size of every part, three bytes of JSON a token and four of anything else.
    Content,
    /// The size of every part, four bytes a token whatever it is.
    PlainContent,
    /// Definitions, instructions and messages as sent, answers as given.
    Messages,
    /// Definitions and instructions as sent, sizes of results and arguments.
    Stated,
    /// Fetched tool lists, sizes of results and arguments.
    Bytes,
    /// Fetched tool lists.
    Counts,
}

type Costs = BTreeMap<(Owner, Cause), i128>;

fn owner(session: &Session, of: simulator::Owner) -> Owner {
    match of {
        simulator::Owner::Tool(tool) => Owner::Tool {
            server: session.tools[tool].server.clone(),
            tool: session.tools[tool].name.clone(),
        },
        simulator::Owner::System => Owner::System,
        simulator::Owner::User => Owner::Conversation,
        simulator::Owner::Prompt => Owner::Prompt {
            name: "triage".to_owned(),
            version: None,
        },
        simulator::Owner::Resource(number) => Owner::Resource {
            server: Some("server0".to_owned()),
            uri: format!("file:///{number}"),
        },
        simulator::Owner::Answer => Owner::Answer,
        simulator::Owner::Reasoning => Owner::Reasoning,
    }
}

fn cause(part: Part) -> Cause {
    match part {
        Part::Definition => Cause::Definition,
        Part::System => Cause::System,
        Part::User => Cause::User,
        Part::Result => Cause::Result,
        Part::Call => Cause::Call,
        Part::Text => Cause::Text,
        Part::Reasoning => Cause::Reasoning,
    }
}

fn truth(session: &Session) -> Costs {
    let mut costs = Costs::new();
    for (of, part, cost) in session.calls.iter().flat_map(ModelCall::costs) {
        *costs.entry((owner(session, of), cause(part))).or_default() += cost;
    }
    costs
}

fn charged(call: &ModelCall) -> Vec<Charged> {
    let (counts, rates) = (call.counts, call.rates);
    let write = rates.cache_write.unwrap_or(rates.input);
    let fresh = counts.input - counts.cache_read - counts.cache_write;
    [
        (Bucket::Input, fresh, rates.input),
        (Bucket::CacheRead, counts.cache_read, rates.cache_read),
        (Bucket::CacheWrite5m, counts.cache_write, write),
        (Bucket::Output, counts.output - counts.reasoning, rates.output),
        (Bucket::Reasoning, counts.reasoning, rates.output),
    ]
    .into_iter()
    .filter(|(_, tokens, _)| *tokens > 0)
    .map(|(bucket, tokens, rate)| Charged {
        bucket,
        tokens: Some(tokens),
        quantity: None,
        cost: Some(FemtoUsd(i128::from(tokens) * rate)),
    })
    .collect()
}

// --- what an emitter reports

fn call(id: usize, kind: CallKind, start_ms: i64, duration_ms: i64, is_failed: bool) -> Call {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(id as u64 + 1).to_be_bytes());
    Call {
        tenant: TenantId::from_credential("default"),
        call_id: CallId(bytes),
        kind,
        operation: None,
        start_ns: start_ms * MS,
        duration_ns: Some(duration_ms * MS),
        dialects: String::new(),
        observation_ids: vec![ObservationId(bytes)],
        rules: String::new(),
        confidence: Confidence::Reported,
        hops: 1,
        status: if is_failed { Status::Error } else { Status::Ok },
        error_type: None,
        dimensions: Dimensions {
            session_id: Some("s".to_owned()),
            ..Dimensions::default()
        },
        allocated_by: None,
        trace_id: None,
        span_id: None,
        parent_span_id: None,
        mcp: McpFields::default(),
        model: ModelFields::default(),
        usage: Usage::default(),
        sizes: Sizes::default(),
        reported_cost: None,
        own_cost: None,
        total_cost: None,
    }
}

fn model_call(id: usize, of: &ModelCall) -> Call {
    let mut call = call(id, CallKind::Llm, of.start_ms, of.duration_ms, of.is_failed);
    call.model.response_model = Some(of.rates.model.to_owned());
    call.usage = Usage {
        input: Some(of.counts.input),
        cache_read: Some(of.counts.cache_read),
        cache_write_5m: Some(of.counts.cache_write),
        output: Some(of.counts.output),
        reasoning: Some(of.counts.reasoning),
        ..Usage::default()
    };
    call
}

fn action_call(session: &Session, id: usize, of: &Action, evidence: Evidence) -> Call {
    let kind = match of.owner {
        simulator::Owner::Prompt => CallKind::Prompt,
        simulator::Owner::Resource(_) => CallKind::Resource,
        _ => CallKind::Tool,
    };
    let mut call = call(id, kind, of.start_ms, of.duration_ms, of.is_failed);
    match owner(session, of.owner) {
        Owner::Tool { server, tool } => (call.mcp.server, call.mcp.tool) = (server, Some(tool)),
        Owner::Prompt { name, .. } => call.mcp.prompt = Some(name),
        Owner::Resource { server, uri } => (call.mcp.server, call.mcp.resource_uri) = (server, Some(uri)),
        other => panic!("{other:?} acts"),
    }
    if !matches!(evidence, Evidence::Counts | Evidence::Messages) {
        call.sizes.request_bytes = Some(of.request_bytes);
        call.sizes.response_bytes = Some(of.response_bytes);
    }
    call
}

fn observation(of: &Call, context_sizes: String) -> Observation {
    Observation {
        tenant: of.tenant.clone(),
        observation_id: of.observation_ids[0],
        source: Source::Span,
        dialect: String::new(),
        scope: None,
        name: String::new(),
        arrived_ns: 0,
        role: Role::Leaf,
        kind: of.kind,
        operation: None,
        start_ns: of.start_ns,
        duration_ns: of.duration_ns,
        status: of.status,
        error_type: None,
        dimensions: Dimensions::default(),
        turn_id: None,
        trace_id: None,
        span_id: None,
        parent_span_id: None,
        span_kind: None,
        hop: None,
        arguments_hash: None,
        context_sizes: Some(context_sizes),
        tool_call_id: None,
        mcp: McpFields::default(),
        model: ModelFields::default(),
        usage: Usage::default(),
        sizes: Sizes::default(),
        reported_cost: None,
        series: None,
    }
}

/// The calls of a session as the fold gives them, model calls first, and what records say of contexts.
pub(super) fn reported(session: &Session, evidence: Evidence) -> (Folded, Vec<Observation>) {
    let n_models = session.calls.len();
    let mut folded = Folded::default();
    let mut observations = Vec::new();
    for (id, of) in session.calls.iter().enumerate() {
        let call = model_call(id, of);
        if matches!(evidence, Evidence::Stated | Evidence::Messages) {
            let mut context = stated(session, of);
            if evidence == Evidence::Messages {
                tell_messages(session, of, &mut context);
            }
            observations.push(observation(&call, context.to_string()));
        }
        folded.calls.push(call);
        folded.parents.push(of.within.map(|action| n_models + action));
    }
    for (id, of) in session.actions.iter().enumerate() {
        folded.calls.push(action_call(session, n_models + id, of, evidence));
        folded.parents.push(of.within.map(|action| n_models + action));
    }
    if matches!(evidence, Evidence::Stated | Evidence::Messages) {
        return (folded, observations);
    }
    let mut servers: BTreeMap<Option<&str>, Vec<serde_json::Value>> = BTreeMap::new();
    for tool in &session.tools {
        let definitions = servers.entry(tool.server.as_deref()).or_default();
        definitions.push(json!([tool.name, tool.definition_bytes, ""]));
    }
    for (server, tools) in servers {
        // Before everything else: hosts list the tools when they connect.
        let mut list = call(folded.calls.len(), CallKind::Mcp, -1_000, 5, false);
        list.mcp.server = server.map(str::to_owned);
        observations.push(observation(&list, json!({ "tools": tools }).to_string()));
        folded.calls.push(list);
        folded.parents.push(None);
    }
    (folded, observations)
}

/// A tool's name as hosts send it to the model.
fn prefixed(session: &Session, tool: usize) -> String {
    let tool = &session.tools[tool];
    match &tool.server {
        Some(server) => format!("mcp__{server}__{}", tool.name),
        None => tool.name.clone(),
    }
}

fn stated(session: &Session, of: &ModelCall) -> serde_json::Value {
    let mut tools = Vec::new();
    let mut system = None;
    for segment in &of.context {
        match (segment.owner, segment.part) {
            (simulator::Owner::Tool(tool), Part::Definition) => {
                tools.push(json!([prefixed(session, tool), segment.bytes, ""]));
            }
            (_, Part::System) => system = Some(segment.bytes),
            _ => {}
        }
    }
    json!({ "system": system, "tools": tools })
}

/// Adds the messages and the answer of a call, as ingest sums them.
fn tell_messages(session: &Session, of: &ModelCall, context: &mut serde_json::Value) {
    let part = |segment: &Segment| {
        let tool = match segment.owner {
            simulator::Owner::Tool(tool) => prefixed(session, tool),
            _ => String::new(),
        };
        let kind = match (segment.owner, segment.part) {
            (simulator::Owner::Tool(_), Part::Result) => "result",
            (_, Part::Call) => "call",
            (_, Part::Text) => "text",
            // A prompt and a resource stand in a message.
            _ => "user",
        };
        (kind, segment.bytes, tool)
    };
    let sent = of
        .context
        .iter()
        .filter(|segment| !matches!(segment.part, Part::Definition | Part::System));
    let mut before: Vec<_> = sent.map(part).collect();
    let answered = before.iter().rposition(|(kind, ..)| matches!(*kind, "call" | "text"));
    let input = before.split_off(answered.map_or(0, |last| last + 1));
    let output = of.output.iter().filter(|segment| segment.part != Part::Reasoning);
    context["before"] = json!(before);
    context["input"] = json!(input);
    context["output"] = json!(output.map(part).collect::<Vec<_>>());
}

/// Turns from the size of every part.
fn turns_of_contents(session: &Session, json_bytes_a_token: u64) -> Vec<Thread> {
    let mut by_thread: BTreeMap<usize, Thread> = BTreeMap::new();
    for (position, call) in session.calls.iter().enumerate() {
        let thread = by_thread.entry(call.thread).or_default();
        let claim = |segment: &Segment| {
            let (bytes_a_token, framing) = match segment.part {
                Part::Definition | Part::Call => (json_bytes_a_token, 0),
                Part::User | Part::Result => (4, FRAMING_TOKENS),
                _ => (4, 0),
            };
            Claim {
                owner: Arc::new(owner(session, segment.owner)),
                cause: cause(segment.part),
                weight: segment.bytes.unsigned_abs() / bytes_a_token + framing,
                tokens_max: None,
                method: Method::Content,
            }
        };
        let new = call.new.iter().map(claim).collect();
        let is_first = thread.calls.is_empty();
        let (base, arrived) = if is_first { (new, Vec::new()) } else { (Vec::new(), new) };
        let parts = call.output.iter().filter(|part| part.part != Part::Reasoning);
        thread.turns.push(Turn {
            input: call.counts.input,
            output: call.counts.output,
            reasoning: call.counts.reasoning,
            base,
            arrived,
            parts: parts.map(claim).collect(),
        });
        thread.calls.push(position);
    }
    by_thread.into_values().collect()
}

fn threads_of(session: &Session, evidence: Evidence) -> Vec<Thread> {
    match evidence {
        Evidence::Content => return turns_of_contents(session, 3),
        Evidence::PlainContent => return turns_of_contents(session, 4),
        _ => {}
    }
    let (folded, observations) = reported(session, evidence);
    threads(&folded, &Sent::of_all(&observations))
}

/// The atoms of every model call; checks the invariants on the way.
fn attributed(session: &Session, evidence: Evidence, policy: Policy) -> Vec<Vec<Atom>> {
    let mut atoms: Vec<Vec<Atom>> = vec![Vec::new(); session.calls.len()];
    let mut n_calls = 0;
    for thread in threads_of(session, evidence) {
        let mut context = Context::new();
        for (position, (call, turn)) in thread.calls.iter().zip(&thread.turns).enumerate() {
            let charged = charged(&session.calls[*call]);
            let (segments, parts) = context.next(turn);
            let held: i64 = segments.iter().map(|segment| segment.tokens).sum();
            assert_eq!(held, turn.input, "invariant A: seed {}, call {call}", session.seed);
            let of_call = divide(segments, parts, &charged, position, policy);
            let billed: i128 = charged.iter().filter_map(|piece| piece.cost).map(|cost| cost.0).sum();
            let divided: i128 = of_call.iter().filter_map(|atom| atom.cost).map(|cost| cost.0).sum();
            assert_eq!(divided, billed, "invariant B: seed {}, call {call}", session.seed);
            atoms[*call] = of_call;
            n_calls += 1;
        }
    }
    assert_eq!(
        n_calls,
        session.calls.len(),
        "every call in one thread: seed {}",
        session.seed
    );
    atoms
}

fn costs(atoms: &[Vec<Atom>]) -> Costs {
    // By address first: a session has a hundred thousand atoms and some hundred owners.
    let mut by_address: HashMap<(*const Owner, Cause), (&Owner, i128)> = HashMap::new();
    for atom in atoms.iter().flatten() {
        let key = (Arc::as_ptr(&atom.owner), atom.cause);
        let (_, cost) = by_address.entry(key).or_insert((&*atom.owner, 0));
        *cost += atom.cost.map_or(0, |cost| cost.0);
    }
    let mut costs = Costs::new();
    for ((_, cause), (owner, cost)) in by_address {
        *costs.entry((owner.clone(), cause)).or_default() += cost;
    }
    costs
}

// --- how far off

/// Half the sum of the differences, over the total.
fn wrong<K: Ord>(attributed: &Costs, truth: &Costs, key: impl Fn(&(Owner, Cause)) -> K) -> f64 {
    let mut differences: BTreeMap<K, i128> = BTreeMap::new();
    for (of, cost) in attributed {
        *differences.entry(key(of)).or_default() += cost;
    }
    for (of, cost) in truth {
        *differences.entry(key(of)).or_default() -= cost;
    }
    let total: i128 = truth.values().sum();
    let off: u128 = differences.values().map(|difference| difference.unsigned_abs()).sum();
    off as f64 / 2.0 / total as f64
}

/// By owner; what an undivided base stands in for is one owner.
fn by_owner((owner, _): &(Owner, Cause)) -> Owner {
    match owner {
        Owner::System | Owner::Conversation | Owner::Base => Owner::Base,
        other => other.clone(),
    }
}

fn strictly_by_owner((owner, _): &(Owner, Cause)) -> Owner {
    owner.clone()
}

fn by_cause((owner, cause): &(Owner, Cause)) -> (Owner, Cause) {
    match owner {
        Owner::System | Owner::Conversation | Owner::Base => (Owner::Base, Cause::Undivided),
        other => (other.clone(), *cause),
    }
}

/// What peers do: the whole cost of a call to the tool that ran last before it.
fn to_the_last_tool(session: &Session) -> Costs {
    let mut costs = Costs::new();
    for call in &session.calls {
        let ran = |action: &&Action| action.within == call.within && action.start_ms < call.start_ms;
        let last = session.actions.iter().filter(ran).max_by_key(|action| action.start_ms);
        let owner = last.map_or(Owner::Conversation, |action| owner(session, action.owner));
        *costs.entry((owner, Cause::Undivided)).or_default() += cost_of(call);
    }
    costs
}

/// What peers do: the session's cost in equal parts to its tool calls.
fn by_number_of_calls(session: &Session) -> Costs {
    let total: i128 = session.calls.iter().map(cost_of).sum();
    let mut costs = Costs::new();
    if session.actions.is_empty() {
        costs.insert((Owner::Conversation, Cause::Undivided), total);
    }
    for action in &session.actions {
        let share = total / session.actions.len() as i128;
        *costs
            .entry((owner(session, action.owner), Cause::Undivided))
            .or_default() += share;
    }
    costs
}

fn cost_of(call: &ModelCall) -> i128 {
    call.costs().map(|(_, _, cost)| cost).sum()
}

/// Of sorted shares the one below which `percent` of them lie, in percent.
fn quantile(shares: &[f64], percent: usize) -> f64 {
    shares[(shares.len() - 1) * percent / 100] * 100.0
}

fn report(name: &str, mut shares: Vec<f64>) -> f64 {
    shares.sort_by(f64::total_cmp);
    let (median, p90) = (quantile(&shares, 50), quantile(&shares, 90));
    println!("{name:<34} median {median:5.1} %   p90 {p90:5.1} %");
    median
}

#[test]
fn simulated_cost_lands_on_its_owner_within_the_limits() {
    let sessions: Vec<Session> = (0..200).map(|seed| session(seed, Shape::REALISTIC)).collect();
    let truths: Vec<Costs> = sessions.iter().map(truth).collect();
    let each = |of: &dyn Fn(&Session) -> Costs| sessions.iter().map(of).collect::<Vec<_>>();
    let share = |found: &[Costs], compare: &dyn Fn(&Costs, &Costs) -> f64| -> Vec<f64> {
        found
            .iter()
            .zip(&truths)
            .map(|(found, truth)| compare(found, truth))
            .collect()
    };
    for (evidence, limit) in LIMITS {
        let found = each(&|session| costs(&attributed(session, evidence, Policy::Prefix)));
        let name = format!("{evidence:?}").to_lowercase();
        let median = report(&name, share(&found, &|a, b| wrong(a, b, by_owner)));
        report("  strict", share(&found, &|a, b| wrong(a, b, strictly_by_owner)));
        report("  by owner and cause", share(&found, &|a, b| wrong(a, b, by_cause)));
        assert!(median <= limit, "{name}: {median:.1} % is more than {limit} %");
    }
    for (name, method) in [
        (
            "peers: all to the last tool",
            &to_the_last_tool as &dyn Fn(&Session) -> Costs,
        ),
        ("peers: equal parts to tool calls", &by_number_of_calls),
    ] {
        let median = report(name, share(&each(method), &|a, b| wrong(a, b, by_owner)));
        assert!(median > 20.0, "{name} should be far off: {median:.1} %");
    }
}

#[test]
fn the_invariants_hold_over_20_000_simulated_sessions() {
    let policies = [Policy::Prefix, Policy::Blended];
    for seed in 0..20_000_usize {
        let session = session(1_000_000 + seed as u64, Shape::SHORT);
        let billed: i128 = session.calls.iter().map(cost_of).sum();
        let (evidence, _) = LIMITS[seed % LIMITS.len()];
        let atoms = attributed(&session, evidence, policies[seed / LIMITS.len() % 2]);
        assert_eq!(costs(&atoms).values().sum::<i128>(), billed, "seed {}", session.seed);
    }
}
