//! Which model calls are one thread, and which tool calls ran for it.

use std::borrow::Cow;
use std::hash::Hash;

use hashbrown::HashMap;
use spanledger_model::{Call, CallKind, TraceId};

use super::around::{Around, end_ns};
use super::side::{Questions, without_side_calls};
use crate::fold::model_calls::bare_model;

/// Clocks of host and model records of one process differ by rounding at most, nanoseconds.
const SLACK_NS: i64 = 2_000_000;

/// The calls of a thread and what ran between them.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) session: Option<String>,
    pub(super) trace: Option<TraceId>,
    /// Its model calls by start.
    pub(super) members: Vec<usize>,
    pub(super) asked_by: Option<usize>,
    starts: Vec<i64>,
    /// Tool, resource and prompt calls by the place of the member that read them first.
    read: Vec<(usize, usize)>,
    /// Tool calls by the place of the member that wrote them.
    written: Vec<(usize, usize)>,
    /// It goes on with the context of another thread: it changed the model.
    continues: bool,
}

/// Whose conversation a call is part of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Scope<'c> {
    session: Option<&'c str>,
    /// Only where no session is known.
    trace: Option<TraceId>,
    within: Option<usize>,
    agent_id: Option<Cow<'c, str>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key<'c> {
    scope: Scope<'c>,
    agent: Option<&'c str>,
    model: usize,
    asked_by: Option<usize>,
}

/// The threads of a component in the order of their first calls, and the calls that stand alone.
pub(super) fn groups(around: &Around<'_>) -> (Vec<Group>, Vec<usize>) {
    let calls = around.calls;
    let mut places: HashMap<Key<'_>, usize> = HashMap::new();
    let mut members: Vec<(Scope<'_>, Option<usize>, Vec<usize>)> = Vec::new();
    let mut models = Models::default();
    for (position, call) in calls.iter().enumerate().filter(|(_, call)| is_divisible(call)) {
        let key = Key {
            scope: scope(around, position),
            agent: call.dimensions.agent.as_deref(),
            model: models.number(call),
            asked_by: around.asked_by(position),
        };
        let place = match places.get(&key) {
            Some(place) => *place,
            None => {
                members.push((key.scope.clone(), key.asked_by, Vec::new()));
                places.insert(key, members.len() - 1);
                members.len() - 1
            }
        };
        members[place].2.push(position);
    }
    let mut groups = Vec::with_capacity(members.len());
    let mut side = Vec::new();
    let mut scopes = Scopes::default();
    for (scope, asked_by, mut members) in members {
        members.sort_by_key(|member| (calls[*member].start_ns, calls[*member].call_id));
        let questions = Questions {
            returned: &|from, to| around.n_returned(scope.within, calls[from].start_ns, calls[to].start_ns) > 0,
            is_apart: &|last, member| is_apart(around, last, member),
        };
        let (members, apart) = without_side_calls(calls, members, &questions);
        side.extend(apart);
        scopes.add(groups.len(), scope.clone(), &members, calls);
        groups.push(Group {
            session: scope.session.map(str::to_owned),
            trace: members.first().and_then(|first| calls[*first].trace_id),
            starts: members.iter().map(|member| calls[*member].start_ns).collect(),
            members,
            asked_by,
            read: Vec::new(),
            written: Vec::new(),
            continues: false,
        });
    }
    for of_scope in scopes.of_agents.values() {
        tell_continuations(calls, &mut groups, of_scope);
    }
    for tool in &around.tools {
        let candidates = scopes.of_tool(around, *tool);
        assign(calls, &mut groups, candidates, *tool);
    }
    for group in &mut groups {
        group.read.sort_by_key(|(member, _)| *member);
        group.written.sort_by_key(|(member, _)| *member);
    }
    (groups, side)
}

impl Group {
    /// What the member at a place read first, by end.
    pub(super) fn read(&self, place: usize) -> impl ExactSizeIterator<Item = usize> + Clone + '_ {
        of_place(&self.read, place)
    }

    /// The tool calls that the member at a place wrote, by end.
    pub(super) fn written(&self, place: usize) -> impl ExactSizeIterator<Item = usize> + Clone + '_ {
        of_place(&self.written, place)
    }

    /// True where a call is of the same conversation.
    pub(super) fn is_near(&self, call: &Call) -> bool {
        match (self.session.as_deref(), session(call)) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => call.trace_id.is_some() && call.trace_id == self.trace,
        }
    }

    /// The member that had begun last at a time: its place.
    fn begun(&self, time_ns: i64) -> Option<usize> {
        self.starts.partition_point(|start| *start <= time_ns).checked_sub(1)
    }

    fn input(&self, calls: &[Call], place: usize) -> i64 {
        self.members
            .get(place)
            .map_or(0, |member| calls[*member].usage.input.unwrap_or(0))
    }
}

fn of_place(pairs: &[(usize, usize)], place: usize) -> impl ExactSizeIterator<Item = usize> + Clone + '_ {
    let from = pairs.partition_point(|(member, _)| *member < place);
    let n_pairs = pairs[from..].partition_point(|(member, _)| *member == place);
    pairs[from..from + n_pairs].iter().map(|(_, tool)| *tool)
}

/// Bare names of models, numbered: most calls spell them alike.
#[derive(Default)]
struct Models<'c> {
    spelt: HashMap<&'c str, usize>,
    bare: HashMap<String, usize>,
}

impl<'c> Models<'c> {
    fn number(&mut self, call: &'c Call) -> usize {
        let model = &call.model;
        let spelling = model
            .response_model
            .as_deref()
            .or(model.request_model.as_deref())
            .unwrap_or_default();
        if let Some(number) = self.spelt.get(spelling) {
            return *number;
        }
        let next = self.bare.len();
        let number = *self.bare.entry(bare_model(spelling)).or_insert(next);
        self.spelt.insert(spelling, number);
        number
    }
}

/// Threads by what a tool call can be of.
#[derive(Default)]
struct Scopes<'c> {
    of_agents: HashMap<Scope<'c>, Vec<usize>>,
    of_sessions: HashMap<(&'c str, Option<usize>), Vec<usize>>,
    of_traces: HashMap<(TraceId, Option<usize>), Vec<usize>>,
}

impl<'c> Scopes<'c> {
    fn add(&mut self, group: usize, scope: Scope<'c>, members: &[usize], calls: &[Call]) {
        if let Some(session) = scope.session {
            self.of_sessions.entry((session, scope.within)).or_default().push(group);
        }
        let mut traces: Vec<TraceId> = members.iter().filter_map(|member| calls[*member].trace_id).collect();
        traces.sort_unstable();
        traces.dedup();
        for trace in traces {
            self.of_traces.entry((trace, scope.within)).or_default().push(group);
        }
        self.of_agents.entry(scope).or_default().push(group);
    }

    /// The threads that a tool call can be of: those of its agent, else of its session, else of its trace.
    fn of_tool(&self, around: &Around<'c>, tool: usize) -> &[usize] {
        let call = &around.calls[tool];
        let scope = scope(around, tool);
        let of_session = |session| self.of_sessions.get(&(session, scope.within));
        let of_trace = || self.of_traces.get(&(call.trace_id?, scope.within));
        let candidates = self
            .of_agents
            .get(&scope)
            .or_else(|| scope.session.and_then(of_session));
        candidates.or_else(of_trace).map_or(&[], Vec::as_slice)
    }
}

fn scope<'c>(around: &Around<'c>, position: usize) -> Scope<'c> {
    let call = &around.calls[position];
    let session = session(call);
    Scope {
        session,
        trace: call.trace_id.filter(|_| session.is_none()),
        within: around.above[position],
        agent_id: around.agent_id(position),
    }
}

fn session(call: &Call) -> Option<&str> {
    call.dimensions.session_id.as_deref()
}

fn is_divisible(call: &Call) -> bool {
    // A counter's call is a sum over many: there is no context in it.
    call.kind == CallKind::Llm && call.usage.input.is_some_and(|input| input > 0) && !call.rules.contains("counter")
}

/// True where records say that the second call sends neither the tools nor the instructions of the first.
fn is_apart(around: &Around<'_>, last: usize, member: usize) -> bool {
    let stated = |position: usize| around.sent.of(&around.calls[position]);
    let (Some(last), Some(member)) = (stated(last), stated(member)) else {
        return false;
    };
    let other_system = member.system.is_some() && last.system.is_some() && member.system != last.system;
    other_system && member.tools.is_empty() && !last.tools.is_empty()
}

/// A thread whose first call sends at least half of what another of its agent sent last goes on with that one's
/// context. A smaller one has a context of its own.
fn tell_continuations(calls: &[Call], groups: &mut [Group], of_scope: &[usize]) {
    for group in of_scope {
        let Some(first_ns) = groups[*group].starts.first().copied() else {
            continue;
        };
        let others = of_scope.iter().filter(|other| *other != group);
        let before = others.filter_map(|other| {
            let other = &groups[*other];
            Some(other.input(calls, other.begun(first_ns)?))
        });
        let largest = before.max().unwrap_or(i64::MAX);
        groups[*group].continues = groups[*group].input(calls, 0) >= largest / 2;
    }
}

/// A tool call was written by the thread that had begun a call last, calls of a much smaller context aside, and
/// is read by the next call of that; threads that go on with its context later read it with their first.
fn assign(calls: &[Call], groups: &mut [Group], candidates: &[usize], tool: usize) {
    let call = &calls[tool];
    let ended = end_ns(call).saturating_sub(SLACK_NS);
    let is_of_agent = |group: &Group| {
        let agent = group
            .members
            .first()
            .and_then(|first| calls[*first].dimensions.agent.as_deref());
        agent == call.dimensions.agent.as_deref()
    };
    let by_agent = candidates.iter().any(|group| is_of_agent(&groups[*group]));
    let begun = candidates.iter().filter_map(|group| {
        let of = &groups[*group];
        let place = of.begun(call.start_ns).filter(|_| !by_agent || is_of_agent(of))?;
        Some((*group, place, of.input(calls, place)))
    });
    let largest = begun.clone().map(|(.., input)| input).max().unwrap_or(0);
    let writer = begun
        .filter(|(.., input)| *input >= largest / 2)
        .max_by_key(|(group, place, _)| (groups[*group].starts[*place], std::cmp::Reverse(*group)));
    let Some((writer, place, _)) = writer else {
        // Before everything: each that begins reads it.
        for group in candidates {
            groups[*group].read_from(ended, tool);
        }
        return;
    };
    if call.kind == CallKind::Tool {
        groups[writer].written.push((place, tool));
    }
    groups[writer].read_from(ended, tool);
    for group in candidates.iter().filter(|group| **group != writer) {
        let group = &mut groups[*group];
        if group.continues && group.begun(call.start_ns).is_none() {
            group.read_from(ended, tool);
        }
    }
}

impl Group {
    /// The first member that begins at a time or later reads it.
    fn read_from(&mut self, time_ns: i64, tool: usize) {
        let place = self.starts.partition_point(|start| *start < time_ns);
        if place < self.starts.len() {
            self.read.push((place, tool));
        }
    }
}
