//! From the calls of a component to the turns of its threads.
//!
//! A thread is one conversation of one agent with one model: what it sends grows from call to call. A
//! sub-agent, which is one whose calls run within a tool call, has a thread of its own for each such call.
//! Between two model calls of a thread its tools ran: what they returned arrived before the second, and what
//! the first wrote called them. A short call between two of a growing context (a title, a classification) is
//! not part of it and stands alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Deserialize;
use spanledger_model::names::without_server;
use spanledger_model::{Call, CallKind, Observation, ObservationId};

use super::{Cause, Claim, Method, Owner, Turn};
use crate::fold::Folded;
use crate::fold::model_calls::bare_model;
use crate::fold::names::names_agree;

/// Bytes a token is in prose, and in results where the thread does not tell: the usual figure for English.
const PROSE: Ratio = Ratio { bytes: 4, tokens: 1 };
/// Bytes a token is in JSON, which definitions and arguments are: a usual figure, not measured here.
const JSON: Ratio = Ratio { bytes: 3, tokens: 1 };
/// Tokens of a tool call whose arguments are not known, and of the text that stands beside one: guesses.
const CALL_TOKENS: u64 = 60;
/// See [`CALL_TOKENS`].
const TEXT_TOKENS: u64 = 40;
/// Tokens that a provider adds to a message around its text: 12 to 20 were measured (reference/finops.md §4.1).
const FRAMING_TOKENS: i64 = 32;
/// How many later calls of a thread are looked at to tell a side call from a compaction.
const LOOK_AHEAD: usize = 8;
/// Clocks of host and model records of one process differ by rounding at most, nanoseconds.
const SLACK_NS: i64 = 2_000_000;

/// One thread: its model calls in order, as positions in the component, and what is known of each.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Positions of its calls.
    pub calls: Vec<usize>,
    /// What is known of each.
    pub turns: Vec<Turn>,
}

type Key<'c> = (Option<&'c str>, Option<usize>, Option<&'c str>, String);

/// The threads of a component. Calls without an input count are in none: they cannot be divided.
#[must_use]
pub fn threads(folded: &Folded, sent: &Sent<'_>) -> Vec<Thread> {
    let around = Around::new(folded, sent);
    let calls = &folded.calls;
    let mut groups: BTreeMap<Key<'_>, Vec<usize>> = BTreeMap::new();
    for (position, call) in calls.iter().enumerate() {
        if is_divisible(call) {
            groups.entry(around.key(position)).or_default().push(position);
        }
    }
    let mut threads = Vec::new();
    for ((session, within, ..), mut members) in groups {
        members.sort_by_key(|member| (calls[*member].start_ns, calls[*member].call_id));
        let returned = |from: usize, to: usize| around.n_returned(within, calls[from].start_ns, calls[to].start_ns) > 0;
        let (main, side) = without_side_calls(calls, members, &returned);
        threads.extend(side.into_iter().map(|member| Thread {
            calls: vec![member],
            turns: vec![counts(&calls[member])],
        }));
        threads.push(thread(&around, main, session, within));
    }
    threads
}

/// What surrounds the model calls of a component, gathered once.
struct Around<'f> {
    calls: &'f [Call],
    /// For each call the tool call it ran within.
    above: Vec<Option<usize>>,
    /// Tool, resource and prompt calls by the tool call they ran within, by end.
    tools: HashMap<Option<usize>, Vec<usize>>,
    /// The tools that were called, each once.
    owners: Vec<(Owner, &'f str)>,
    /// Lists of tools that were fetched.
    lists: Vec<(usize, ContextSizes)>,
    sent: &'f Sent<'f>,
}

impl<'f> Around<'f> {
    fn new(folded: &'f Folded, sent: &'f Sent<'f>) -> Self {
        let calls = &folded.calls;
        let above: Vec<Option<usize>> = (0..calls.len()).map(|position| tool_above(folded, position)).collect();
        let mut tools: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
        let mut owners = BTreeMap::new();
        let mut lists = Vec::new();
        for (position, call) in calls.iter().enumerate() {
            match call.kind {
                CallKind::Tool | CallKind::Resource | CallKind::Prompt => {
                    tools.entry(above[position]).or_default().push(position);
                    if let Some(name) = call.mcp.tool.as_deref().filter(|_| call.kind == CallKind::Tool) {
                        owners.entry(owner(call)).or_insert(name);
                    }
                }
                CallKind::Mcp => lists.extend(sent.of(call).map(|listed| (position, listed))),
                _ => {}
            }
        }
        for tools in tools.values_mut() {
            tools.sort_by_key(|tool| (end_ns(&calls[*tool]), calls[*tool].call_id));
        }
        Self {
            calls,
            above,
            tools,
            owners: owners.into_iter().collect(),
            lists,
            sent,
        }
    }

    /// How many tool calls within the same tool call ended between two times.
    fn n_returned(&self, within: Option<usize>, from_ns: i64, to_ns: i64) -> usize {
        let Some(tools) = self.tools.get(&within) else { return 0 };
        let before = |time_ns: i64| tools.partition_point(|tool| end_ns(&self.calls[*tool]) <= time_ns);
        before(to_ns).saturating_sub(before(from_ns))
    }

    fn key(&self, position: usize) -> Key<'f> {
        let call = &self.calls[position];
        let model = call
            .model
            .response_model
            .as_deref()
            .or(call.model.request_model.as_deref());
        (
            session(call),
            self.above[position],
            call.dimensions.agent.as_deref(),
            model.map(bare_model).unwrap_or_default(),
        )
    }
}

fn is_divisible(call: &Call) -> bool {
    // A counter's call is a sum over many: there is no context in it.
    call.kind == CallKind::Llm && call.usage.input.is_some_and(|input| input > 0) && !call.rules.contains("counter")
}

fn session(call: &Call) -> Option<&str> {
    call.dimensions.session_id.as_deref()
}

/// The tool call that a call ran within.
fn tool_above(folded: &Folded, position: usize) -> Option<usize> {
    let above = std::iter::successors(folded.parents[position], |at| folded.parents[*at]);
    above
        .take(folded.calls.len())
        .find(|at| folded.calls[*at].kind == CallKind::Tool)
}

/// Takes out the calls that do not stand in the growing context: much smaller than the one before, while a
/// later one continues that; or first, and much smaller than the next although nothing was returned between.
fn without_side_calls(
    calls: &[Call],
    members: Vec<usize>,
    returned: &dyn Fn(usize, usize) -> bool,
) -> (Vec<usize>, Vec<usize>) {
    let input = |position: usize| calls[position].usage.input.unwrap_or(0);
    let output = |position: usize| calls[position].usage.output.unwrap_or(0);
    let (mut main, mut side): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    for (at, member) in members.iter().enumerate() {
        let before = main.last().map_or(0, |last| input(*last));
        let is_smaller = input(*member) < before / 2;
        let continues = || {
            members[at + 1..]
                .iter()
                .take(LOOK_AHEAD)
                .any(|later| input(*later) >= before)
        };
        let is_a_preface = main.is_empty()
            && members.get(at + 1).is_some_and(|next| {
                input(*member).saturating_add(output(*member)) < input(*next) / 2 && !returned(*member, *next)
            });
        if (is_smaller && continues()) || is_a_preface {
            side.push(*member);
        } else {
            main.push(*member);
        }
    }
    (main, side)
}

fn thread(around: &Around<'_>, members: Vec<usize>, session_id: Option<&str>, within: Option<usize>) -> Thread {
    let calls = around.calls;
    let first_trace = members.first().and_then(|first| calls[*first].trace_id);
    let is_near = |call: &Call| match (session_id, session(call)) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => call.trace_id.is_some() && call.trace_id == first_trace,
    };
    let starts: Vec<i64> = members.iter().map(|member| calls[*member].start_ns).collect();
    let mut read: Vec<Vec<&Call>> = vec![Vec::new(); members.len()];
    let mut written: Vec<Vec<&Call>> = vec![Vec::new(); members.len()];
    let tools = around.tools.get(&within).into_iter().flatten();
    for call in tools.map(|tool| &calls[*tool]).filter(|call| is_near(call)) {
        // Written by the last model call that had begun, read by the first that began after it ended.
        let n_begun = starts.partition_point(|start| *start <= call.start_ns);
        if n_begun > 0 && call.kind == CallKind::Tool {
            written[n_begun - 1].push(call);
        }
        let ended = end_ns(call).saturating_sub(SLACK_NS);
        if let Some(read) = read.get_mut(starts.partition_point(|start| *start < ended)) {
            read.push(call);
        }
    }
    let (ratio, results) = learnt(members.iter().map(|member| &calls[*member]).zip(&read));
    let mut turns: Vec<Turn> = members.iter().map(|member| counts(&calls[*member])).collect();
    for (position, turn) in turns.iter_mut().enumerate() {
        turn.parts = written[position].iter().map(|call| part(call)).collect();
        let arrived = read[position].iter().map(|call| arrived(call, ratio));
        if position == 0 {
            turn.base = base(around, &members, &is_near);
            turn.base.extend(arrived);
        } else {
            turn.arrived = arrived.collect();
        }
        complete(turn, &results);
    }
    Thread { calls: members, turns }
}

/// What the first call sent before its conversation, as far as some record of the thread tells its size:
/// definitions, then instructions. Where no model call tells, the tool lists that were fetched do.
fn base(around: &Around<'_>, members: &[usize], is_near: &dyn Fn(&Call) -> bool) -> Vec<Claim> {
    let stated = members.iter().find_map(|member| around.sent.of(&around.calls[*member]));
    let mut claims = Vec::new();
    let mut define = |context: &ContextSizes, server: Option<&str>| {
        for (name, bytes, _) in &context.tools {
            let owner = defined(around, name, server);
            if claims.iter().all(|claim: &Claim| *claim.owner != owner) {
                claims.push(JSON.claim(owner, Cause::Definition, Some(*bytes), 0));
            }
        }
    };
    match &stated {
        Some(context) if !context.tools.is_empty() => define(context, None),
        _ => {
            let first_ns = members.first().map_or(i64::MIN, |first| around.calls[*first].start_ns);
            for (list, listed) in &around.lists {
                let call = &around.calls[*list];
                if call.start_ns <= first_ns && is_near(call) {
                    define(listed, call.mcp.server.as_deref());
                }
            }
        }
    }
    if let Some(bytes) = stated.and_then(|context| context.system) {
        claims.push(PROSE.claim(Owner::System, Cause::System, Some(bytes), 0));
    }
    claims
}

/// Whose definition a name is: as called in this component, else with the server its spelling shows.
fn defined(around: &Around<'_>, name: &str, server: Option<&str>) -> Owner {
    let server_of = |owner: &Owner| match owner {
        Owner::Tool { server, .. } => server.clone(),
        _ => None,
    };
    let called = around.owners.iter().find(|(owner, tool)| {
        let same_server = server.is_none() || server_of(owner).as_deref() == server;
        same_server && names_agree(Some(name), Some(tool))
    });
    if let Some((owner, _)) = called {
        return owner.clone();
    }
    let named = |server: Option<&str>, tool: &str| Owner::Tool {
        server: server.map(str::to_owned),
        tool: tool.to_owned(),
    };
    if let Some((server, tool)) = name.strip_prefix("mcp__").and_then(|rest| rest.split_once("__")) {
        return named(Some(server), tool);
    }
    for known in around.owners.iter().filter_map(|(owner, _)| server_of(owner)) {
        if let Some(bare) = without_server(name, &known, true) {
            return named(Some(&known), bare);
        }
    }
    named(server, name)
}

fn counts(call: &Call) -> Turn {
    Turn {
        input: call.usage.input.unwrap_or(0),
        output: call.usage.output.unwrap_or(0),
        reasoning: call.usage.reasoning.unwrap_or(0),
        ..Turn::default()
    }
}

fn end_ns(call: &Call) -> i64 {
    call.start_ns.saturating_add(call.duration_ns.unwrap_or(0))
}

/// Who a tool, resource or prompt call belongs to.
fn owner(call: &Call) -> Owner {
    let mcp = &call.mcp;
    match call.kind {
        CallKind::Resource => Owner::Resource {
            server: mcp.server.clone(),
            uri: mcp.resource_uri.clone().unwrap_or_default(),
        },
        CallKind::Prompt => Owner::Prompt {
            name: mcp.prompt.clone().unwrap_or_default(),
            version: mcp.prompt_version.clone(),
        },
        _ => Owner::Tool {
            server: mcp.server.clone(),
            tool: mcp.tool.clone().unwrap_or_default(),
        },
    }
}

/// What a call put into the context: its result.
fn arrived(call: &Call, ratio: Ratio) -> Claim {
    let cause = if call.kind == CallKind::Prompt {
        Cause::User
    } else {
        Cause::Result
    };
    ratio.claim(owner(call), cause, call.sizes.response_bytes, FRAMING_TOKENS)
}

/// What the model wrote to make a call: its name and arguments.
fn part(call: &Call) -> Claim {
    let name = call.mcp.tool.as_deref().map_or(0, str::len);
    let bytes = call
        .sizes
        .request_bytes
        .map(|bytes| bytes.saturating_add(i64::try_from(name).unwrap_or(0)));
    JSON.claim(owner(call), Cause::Call, bytes, FRAMING_TOKENS)
}

/// Bytes a token is in a thread: tokens and the bytes they were, summed.
#[derive(Debug, Clone, Copy)]
struct Ratio {
    bytes: u64,
    tokens: u64,
}

/// Tokens of a tool's results that arrived alone, and how many they were.
type Results = HashMap<Owner, (u64, u64)>;

/// What the thread itself tells where a single result is all that arrived between two calls: how many bytes a
/// token is, if the size of the result is known, and how large the results of a tool are.
fn learnt<'c>(turns: impl Iterator<Item = (&'c Call, &'c Vec<&'c Call>)>) -> (Ratio, Results) {
    let (mut bytes, mut tokens) = (0_u64, 0_u64);
    let mut results = Results::new();
    let mut before: Option<&Call> = None;
    for (call, read) in turns {
        let grown = before.map(|before| {
            let count = |count: Option<i64>| count.unwrap_or(0);
            let visible = count(before.usage.output).saturating_sub(count(before.usage.reasoning));
            let grown = count(call.usage.input).saturating_sub(count(before.usage.input));
            grown.saturating_sub(visible).saturating_sub(FRAMING_TOKENS / 2)
        });
        if let (Some(Ok(grown @ 1..)), [only]) = (grown.map(u64::try_from), read.as_slice()) {
            let (sum, n_seen) = results.entry(owner(only)).or_default();
            *sum = sum.saturating_add(grown);
            *n_seen += 1;
            if let Some(Ok(sent)) = only.sizes.response_bytes.map(u64::try_from) {
                bytes = bytes.saturating_add(sent);
                tokens = tokens.saturating_add(grown);
            }
        }
        before = Some(call);
    }
    // Outside of this the growth held more than the result: a mean of all text is the better guess.
    let is_plausible = tokens > 0 && bytes / 2 >= tokens && bytes / 6 <= tokens;
    let ratio = if is_plausible { Ratio { bytes, tokens } } else { PROSE };
    (ratio, results)
}

impl Ratio {
    /// A claim by its bytes, weighed in tokens; where they are not known its weight is 0 until [`complete`]
    /// gives it one.
    fn claim(self, owner: Owner, cause: Cause, bytes: Option<i64>, framing: i64) -> Claim {
        let known = bytes.and_then(|bytes| u64::try_from(bytes).ok());
        let in_tokens = |bytes: u64| bytes.saturating_mul(self.tokens) / self.bytes.max(1);
        Claim {
            owner: Arc::new(owner),
            cause,
            // Framing included, so that an empty result still weighs something.
            weight: known.map_or(0, |bytes| in_tokens(bytes).saturating_add(framing.unsigned_abs() / 2)),
            tokens_max: known.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX).saturating_add(FRAMING_TOKENS)),
            method: if known.is_some() { Method::Bytes } else { Method::Counts },
        }
    }
}

/// What records say was sent with calls, by call.
#[derive(Debug, Default)]
pub struct Sent<'o>(HashMap<ObservationId, &'o str>);

#[derive(Debug, Default, Deserialize)]
struct ContextSizes {
    system: Option<i64>,
    #[serde(default)]
    tools: Vec<(String, i64, String)>,
}

impl<'o> Sent<'o> {
    /// What the observations of a component say.
    #[must_use]
    pub fn of_all(observations: &'o [Observation]) -> Self {
        let stated = observations
            .iter()
            .filter_map(|observation| Some((observation.observation_id, observation.context_sizes.as_deref()?)));
        Self(stated.collect())
    }

    /// What the records of a call say; of several the most.
    fn of(&self, call: &Call) -> Option<ContextSizes> {
        let stated = call.observation_ids.iter().filter_map(|id| self.0.get(id));
        let most = stated.max_by_key(|text| (text.len(), **text))?;
        serde_json::from_str(most).ok()
    }
}

/// Gives claims of unknown size the mean of those known, results of unknown size the mean of their tool's where it
/// was seen, and what no claim explains to where it belongs: the rest of a first context to its base, the rest of
/// an output to the answer's text.
fn complete(turn: &mut Turn, results: &Results) {
    let sum = |values: &[u64]| values.iter().fold(0_u64, |sum, value| sum.saturating_add(*value));
    let mean = |values: &[u64], usual: u64| match u64::try_from(values.len()) {
        Ok(n_values @ 1..) => (sum(values) / n_values).max(1),
        _ => usual,
    };
    let of_tools: Vec<u64> = results.values().map(|(sum, n_seen)| sum / n_seen.max(&1)).collect();
    let of_tools = mean(&of_tools, 1);
    let is_known = |claim: &Claim| claim.method == Method::Bytes;
    let are_parts_known = turn.parts.iter().all(is_known);
    for (claims, usual) in [
        (&mut turn.base, 1),
        (&mut turn.arrived, of_tools),
        (&mut turn.parts, CALL_TOKENS),
    ] {
        let known: Vec<u64> = claims
            .iter()
            .filter(|claim| is_known(claim))
            .map(|claim| claim.weight)
            .collect();
        let mean = mean(&known, usual);
        for claim in claims.iter_mut().filter(|claim| !is_known(claim)) {
            let of_tool = results.get(&claim.owner).filter(|_| claim.cause == Cause::Result);
            claim.weight = of_tool.map_or(mean, |(sum, n_seen)| (sum / n_seen.max(&1)).max(1));
        }
    }
    let of_claims = |claims: &[Claim]| claims.iter().fold(0_u64, |sum, claim| sum.saturating_add(claim.weight));
    let rest = |whole: i64, claims: &[Claim]| u64::try_from(whole).unwrap_or(0).saturating_sub(of_claims(claims));
    if !turn.base.is_empty() {
        let weight = rest(turn.input, &turn.base);
        // After known instructions only messages are left.
        let is_told = turn.base.iter().any(|claim| claim.cause == Cause::System);
        let rest = if is_told {
            plain(Owner::Conversation, Cause::User, weight)
        } else {
            plain(Owner::Base, Cause::Undivided, weight)
        };
        let is_prefix = |claim: &&Claim| matches!(claim.cause, Cause::Definition | Cause::System);
        let after = turn.base.iter().take_while(is_prefix).count();
        turn.base.insert(after, rest);
    }
    if !turn.parts.is_empty() {
        let visible = turn.output.saturating_sub(turn.reasoning);
        let mut text = plain(Owner::Answer, Cause::Text, TEXT_TOKENS);
        if are_parts_known {
            text.weight = rest(visible, &turn.parts);
        } else {
            text.method = Method::Counts;
        }
        turn.parts.push(text);
    }
}

fn plain(owner: Owner, cause: Cause, weight: u64) -> Claim {
    let method = if cause == Cause::Undivided {
        Method::Undivided
    } else {
        Method::Bytes
    };
    Claim {
        owner: Arc::new(owner),
        cause,
        weight,
        tokens_max: None,
        method,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use spanledger_model::call::{McpFields, Sizes};
    use spanledger_model::{CallId, Confidence, Status, TenantId, Usage};

    use super::*;

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
        let text = r#"{"system":800,"tools":[["mcp_weather_get_forecast",400,"x"],["weather_idle",600,"y"],["Bash",200,"z"]]}"#;
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
}
