//! The walk along one thread: what is known of each of its calls.

use std::sync::Arc;

use spanledger_model::{Call, CallKind};

use super::Thread;
use super::around::Around;
use super::claims::{
    CALL_TOKENS, FRAMING_TOKENS, JSON, PROSE, TEXT_TOKENS, complete, is_known, plain, rest, weight_of,
};
use super::groups::Group;
use super::learn::Learner;
use super::sent::{ContextSizes, Name, Part};
use crate::attribution::{Cause, Claim, Owner, Turn};

/// Definitions as records name them: name, bytes, hash.
type Tools<'t> = Vec<(Name<'t>, i64, Name<'t>)>;

/// A call that stands in no growing context.
pub(super) fn alone(around: &Around<'_>, member: usize) -> Thread {
    Thread {
        calls: vec![member],
        turns: vec![counts(&around.calls[member])],
        asked_by: around.asked_by(member).map(|asked_by| around.asker(asked_by)),
    }
}

/// The turns of a thread.
pub(super) fn thread(around: &Around<'_>, group: &Group) -> Thread {
    let mut walk = Walk {
        around,
        group,
        learner: Learner::default(),
        told: Vec::new(),
        told_text: "",
        n_lists: 0,
        last: Default::default(),
    };
    let mut turns = Vec::with_capacity(group.members.len());
    let mut before: Option<&Call> = None;
    for (place, member) in group.members.iter().enumerate() {
        let call = &around.calls[*member];
        turns.push(walk.turn(place, call, before));
        before = Some(call);
    }
    Thread {
        calls: group.members.clone(),
        turns,
        asked_by: group.asked_by.map(|asked_by| around.asker(asked_by)),
    }
}

fn counts(call: &Call) -> Turn {
    Turn {
        input: call.usage.input.unwrap_or(0),
        output: call.usage.output.unwrap_or(0),
        reasoning: call.usage.reasoning.unwrap_or(0),
        ..Turn::default()
    }
}

/// Something that arrived in a context.
struct Arrival {
    owner: Arc<Owner>,
    cause: Cause,
    bytes: Option<i64>,
}

struct Walk<'w, 'f> {
    around: &'w Around<'f>,
    group: &'w Group,
    learner: Learner,
    /// The definitions that records told last, and the text that told them.
    told: Tools<'f>,
    told_text: &'f str,
    /// How many of the component's lists of tools began before the last call.
    n_lists: usize,
    /// The messages that the call before told.
    last: (Vec<Part<'f>>, Vec<Part<'f>>),
}

impl<'f> Walk<'_, 'f> {
    fn turn(&mut self, place: usize, call: &Call, before: Option<&Call>) -> Turn {
        let mut context = self.around.sent.beyond(call, self.told_text).unwrap_or_default();
        let mut turn = counts(call);
        let told = self.without_known(&mut context);
        let arrivals = self.arrivals(place, &context);
        if let (Some(before), [only]) = (before, arrivals.as_slice()) {
            let count = |count: Option<i64>| count.unwrap_or(0);
            let visible = count(before.usage.output).saturating_sub(count(before.usage.reasoning));
            let grown = turn
                .input
                .saturating_sub(count(before.usage.input))
                .saturating_sub(visible);
            // The first result that grew a context beyond it teaches what the others of it may be.
            if only.cause == Cause::Result || matches!(&*only.owner, Owner::Prompt { .. }) {
                self.learner.see(&only.owner, only.bytes, grown);
            }
        }
        let mut arrived: Vec<Claim> = arrivals.into_iter().map(|arrival| self.claim(arrival)).collect();
        if place == 0 {
            turn.base = self.base(call, &context);
            turn.base.append(&mut arrived);
            complete(&mut turn.base, 1, &self.learner);
            self.complete_base(&mut turn, &context);
        } else {
            complete(&mut arrived, self.learner.mean(), &self.learner);
            turn.arrived = arrived;
            turn.base = self.redefined(call, &mut context);
        }
        turn.parts = self.parts(place, &turn, &context.output);
        self.last = told;
        turn
    }

    /// Takes out the messages that the call before sent as well, because it failed or gave no answer that was
    /// kept. Gives all that the record tells, for the next call.
    fn without_known(&self, context: &mut ContextSizes<'f>) -> (Vec<Part<'f>>, Vec<Part<'f>>) {
        let told = (context.before.clone(), context.input.clone());
        let (before, input) = &self.last;
        if *before == context.before && context.input.starts_with(input) {
            context.input.drain(..input.len());
        }
        told
    }

    fn claim(&self, arrival: Arrival) -> Claim {
        let Arrival { owner, cause, bytes } = arrival;
        match cause {
            Cause::Call => JSON.claim(owner, cause, bytes, FRAMING_TOKENS),
            Cause::Text | Cause::Reasoning | Cause::System => PROSE.claim(owner, cause, bytes, 0),
            // A message may hold what is no text, and hosts add to it: it has no most.
            Cause::User if !matches!(&*owner, Owner::Prompt { .. }) => Claim {
                tokens_max: None,
                ..PROSE.claim(owner, cause, bytes, FRAMING_TOKENS)
            },
            _ => self.learner.ratio(&owner).claim(owner, cause, bytes, FRAMING_TOKENS),
        }
    }

    // --- what arrived

    /// What came into the context since the call before; for the first call its messages. As the messages of
    /// the record say, where it says them; else what its tools returned.
    fn arrivals(&self, place: usize, context: &ContextSizes<'_>) -> Vec<Arrival> {
        let read: Vec<usize> = self.group.read(place).collect();
        let earlier = if place == 0 { context.before.as_slice() } else { &[] };
        if earlier.is_empty() && context.input.is_empty() {
            return self.returned(&read, context);
        }
        let mut unmatched = read;
        let mut arrivals: Vec<Arrival> = Vec::with_capacity(earlier.len() + context.input.len());
        let mut n_results = 0;
        let common = &self.around.common;
        for part in earlier.iter().chain(&context.input) {
            let (owner, cause) = match part.kind() {
                "result" => {
                    n_results += 1;
                    (self.result(part, &mut unmatched, context), Cause::Result)
                }
                "call" => (self.around.defined(part.tool(), None), Cause::Call),
                "reasoning" => (Arc::clone(&common.reasoning), Cause::Reasoning),
                "text" => (Arc::clone(&common.answer), Cause::Text),
                "system" => (Arc::clone(&common.system), Cause::System),
                _ => (Arc::clone(&common.conversation), Cause::User),
            };
            let bytes = if cause == Cause::Call {
                with_name(part)
            } else {
                part.bytes()
            };
            let arrival = Arrival { owner, cause, bytes };
            arrivals.push(arrival);
        }
        // A prompt and a resource that a host puts into a message are part of its text. Tools that ran without a
        // result in the messages were not read by the model.
        unmatched.retain(|other| self.around.calls[*other].kind != CallKind::Tool || n_results == 0);
        for arrival in self.returned(&unmatched, context) {
            if !matches!(&*arrival.owner, Owner::Tool { .. }) {
                take_from_messages(&mut arrivals, arrival.bytes.unwrap_or(0));
            }
            arrivals.push(arrival);
        }
        arrivals
    }

    /// What tools, prompts and resources returned.
    fn returned(&self, read: &[usize], context: &ContextSizes<'_>) -> Vec<Arrival> {
        let calls = self.around.calls;
        let is_unnamed = |at: &usize| calls[*at].kind == CallKind::Tool && calls[*at].mcp.tool.is_none();
        let n_unnamed = read.iter().filter(|at| is_unnamed(at)).count();
        let returned = read.iter().map(|at| {
            let call = &calls[*at];
            let hinted = || self.hinted(context).filter(|_| n_unnamed == 1);
            let owner = Some(at).filter(|at| is_unnamed(at)).and_then(|_| hinted());
            let cause = if call.kind == CallKind::Prompt {
                Cause::User
            } else {
                Cause::Result
            };
            let owner = owner.unwrap_or_else(|| self.around.owner(*at));
            let bytes = call.sizes.response_bytes;
            Arrival { owner, cause, bytes }
        });
        returned.collect()
    }

    /// The tool that the host says the call was for. `custom` stands for names that a host keeps to itself.
    fn hinted(&self, context: &ContextSizes<'_>) -> Option<Arc<Owner>> {
        let (server, tool) = context.hint.as_ref()?;
        let is_told = |name: &&str| !name.is_empty() && *name != "custom";
        let tool = Some(&*tool.0).filter(is_told)?;
        Some(self.around.defined(tool, Some(&*server.0).filter(is_told)))
    }

    /// Whose a result of the messages is: the tool it names, as it ran; without a name the one that ran, in order.
    fn result(&self, part: &Part<'_>, unmatched: &mut Vec<usize>, context: &ContextSizes<'_>) -> Arc<Owner> {
        let named = Some(part.tool())
            .filter(|name| !name.is_empty())
            .map(|name| self.around.defined(name, None));
        let ran = unmatched.iter().position(|at| {
            self.around.calls[*at].kind == CallKind::Tool
                && named.as_ref().is_none_or(|named| *named == self.around.owner(*at))
        });
        match (ran, named) {
            (Some(place), _) => self.around.owner(unmatched.remove(place)),
            (None, Some(named)) => named,
            (None, None) => self.hinted(context).unwrap_or_else(|| self.around.defined("", None)),
        }
    }

    // --- definitions and instructions

    /// What the first call sent before its conversation, as far as some record of the thread tells its size:
    /// definitions, then instructions. Where no model call tells, the tool lists that were fetched do.
    fn base(&mut self, first: &Call, context: &ContextSizes<'f>) -> Vec<Claim> {
        let says = |context: &ContextSizes<'_>| !context.tools.is_empty() || context.system.is_some();
        let later = || {
            let members = self.group.members.iter().skip(1);
            let mut stated = members.filter_map(|member| self.around.sent.of(&self.around.calls[*member]));
            stated.find(|context| says(context))
        };
        let told_later = if says(context) { None } else { later() };
        let stated = told_later.as_ref().unwrap_or(context);
        let (tools, system) = (stated.tools.clone(), stated.system);
        self.told_text = stated.tools_text;
        self.n_lists = self.lists_before(first);
        let mut claims = if tools.is_empty() {
            self.listed()
        } else {
            self.definitions(&tools)
        };
        self.told = tools;
        if let Some(bytes) = system {
            claims.push(PROSE.claim(Arc::clone(&self.around.common.system), Cause::System, Some(bytes), 0));
        }
        claims
    }

    fn definitions(&self, tools: &Tools<'_>) -> Vec<Claim> {
        let mut claims: Vec<Claim> = Vec::with_capacity(tools.len());
        for (name, bytes, _) in tools {
            define(&mut claims, self.around.defined(&name.0, None), *bytes);
        }
        claims
    }

    fn lists_before(&self, call: &Call) -> usize {
        let calls = self.around.calls;
        self.around
            .lists
            .partition_point(|(list, _)| calls[*list].start_ns <= call.start_ns)
    }

    /// The definitions that the lists fetched so far leave. A list adds to those before it (a next page); one that
    /// names a tool again is fetched anew, and what it does not name has left the server.
    fn listed(&self) -> Vec<Claim> {
        let mut claims: Vec<Claim> = Vec::new();
        for (list, listed) in &self.around.lists[..self.n_lists] {
            let call = &self.around.calls[*list];
            if !self.group.is_near(call) {
                continue;
            }
            let server = call.mcp.server.as_deref();
            let owners = listed
                .tools
                .iter()
                .map(|(name, bytes, _)| (self.around.defined(&name.0, server), *bytes));
            let owners: Vec<(Arc<Owner>, i64)> = owners.collect();
            let is_named = |claim: &Claim| owners.iter().any(|(owner, _)| *owner == claim.owner);
            if server.is_some() && claims.iter().any(is_named) {
                let is_servers =
                    |claim: &Claim| matches!(&*claim.owner, Owner::Tool { server: of, .. } if of.as_deref() == server);
                claims.retain(|claim| !is_servers(claim) || is_named(claim));
            }
            for (owner, bytes) in owners {
                define(&mut claims, owner, bytes);
            }
        }
        claims
    }

    /// All definitions as of a later call, where they are others than before: a server was connected, tools were
    /// searched for, a list changed. Empty where nothing changed or nobody tells.
    fn redefined(&mut self, call: &Call, context: &mut ContextSizes<'f>) -> Vec<Claim> {
        if context.has_known_tools {
            return Vec::new();
        }
        let tools = std::mem::take(&mut context.tools);
        if !tools.is_empty() {
            self.told_text = context.tools_text;
            let names = |(name, ..): &(Name<'f>, i64, Name<'f>)| name.clone();
            if tools.iter().map(names).eq(self.told.iter().map(names)) {
                return Vec::new();
            }
            let claims = self.definitions(&tools);
            self.told = tools;
            return claims;
        }
        let n_lists = self.lists_before(call);
        if !self.told.is_empty() || n_lists == self.n_lists {
            return Vec::new();
        }
        self.n_lists = n_lists;
        self.listed()
    }

    /// What no claim of the first context explains: a message, where its instructions are known and its messages
    /// are not. Where messages are told the rest is how far sizes in bytes are off, unless that cannot be: with
    /// definitions and from the first message on, what is told is all there was, and a token is a byte at least;
    /// else what is more than all that is told is definitions nobody tells, or a history the record leaves out.
    fn complete_base(&self, turn: &mut Turn, context: &ContextSizes<'_>) {
        if turn.base.is_empty() {
            return;
        }
        let weight = rest(turn.input, &turn.base);
        let common = &self.around.common;
        let is_told = |cause: Cause| turn.base.iter().any(|claim| claim.cause == cause);
        let is_prefix = |claim: &&Claim| matches!(claim.cause, Cause::Definition | Cause::System);
        let after = turn.base.iter().take_while(is_prefix).count();
        if let Some(first) = context.before.first().or(context.input.first()) {
            let is_whole = is_told(Cause::Definition) && matches!(first.kind(), "user" | "system");
            let told = weight_of(&turn.base).saturating_mul(if is_whole { 3 } else { 1 });
            if weight > told {
                let at = if is_told(Cause::Definition) { after } else { 0 };
                turn.base.insert(at, plain(&common.base, Cause::Undivided, weight));
            }
            return;
        }
        // After known instructions only messages are left.
        let rest = if is_told(Cause::System) {
            plain(&common.conversation, Cause::User, weight)
        } else {
            plain(&common.base, Cause::Undivided, weight)
        };
        turn.base.insert(after, rest);
    }

    // --- the output

    /// What the model wrote, as the record of its answer says; else the calls that ran after it.
    fn parts(&self, place: usize, turn: &Turn, output: &[Part<'_>]) -> Vec<Claim> {
        let common = &self.around.common;
        let written = self.group.written(place);
        let has_calls = output.iter().any(|part| part.kind() == "call");
        if has_calls || (!output.is_empty() && written.len() == 0) {
            let told = output.iter().filter_map(|part| {
                Some(match part.kind() {
                    "call" => {
                        let owner = self.around.defined(part.tool(), None);
                        JSON.claim(owner, Cause::Call, with_name(part), FRAMING_TOKENS)
                    }
                    // Counted by the provider, where it counts it.
                    "reasoning" if turn.reasoning > 0 => return None,
                    "reasoning" => PROSE.claim(Arc::clone(&common.reasoning), Cause::Reasoning, part.bytes(), 0),
                    _ => PROSE.claim(Arc::clone(&common.answer), Cause::Text, part.bytes(), 0),
                })
            });
            let mut told: Vec<Claim> = told.collect();
            complete(&mut told, CALL_TOKENS, &self.learner);
            return told;
        }
        if written.len() == 0 {
            return Vec::new();
        }
        let mut parts: Vec<Claim> = Vec::with_capacity(written.len() + 1);
        parts.extend(written.map(|tool| {
            let call = &self.around.calls[tool];
            let name = call.mcp.tool.as_deref().map_or(0, str::len);
            let bytes = call
                .sizes
                .request_bytes
                .map(|bytes| bytes.saturating_add(i64::try_from(name).unwrap_or(0)));
            JSON.claim(self.around.owner(tool), Cause::Call, bytes, FRAMING_TOKENS)
        }));
        let are_known = parts.iter().all(is_known);
        complete(&mut parts, CALL_TOKENS, &self.learner);
        let mut text = plain(&common.answer, Cause::Text, TEXT_TOKENS);
        if are_known {
            text.weight = rest(turn.output.saturating_sub(turn.reasoning), &parts);
        } else {
            text.method = crate::attribution::Method::Counts;
        }
        parts.push(text);
        parts
    }
}

/// Bytes of a call's arguments and name.
fn with_name(part: &Part<'_>) -> Option<i64> {
    let name = i64::try_from(part.tool().len()).unwrap_or(0);
    part.bytes().map(|bytes| bytes.saturating_add(name))
}

fn define(claims: &mut Vec<Claim>, owner: Arc<Owner>, bytes: i64) {
    if claims.iter().all(|claim| claim.owner != owner) {
        claims.push(JSON.claim(owner, Cause::Definition, Some(bytes), 0));
    }
}

/// Takes the bytes of a prompt or a resource from the messages that hold it.
fn take_from_messages(arrivals: &mut [Arrival], mut bytes: i64) {
    for message in arrivals.iter_mut().filter(|arrival| arrival.cause == Cause::User) {
        if !matches!(&*message.owner, Owner::Conversation) {
            continue;
        }
        if let Some(held) = &mut message.bytes {
            let taken = bytes.clamp(0, *held);
            *held -= taken;
            bytes -= taken;
        }
    }
}
