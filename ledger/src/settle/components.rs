//! Components: observations that may speak of the same operations, found by the keys they share.
//!
//! Keys are the trace, the conversation, the response id, and for counters their series and their process' day;
//! besides, [`super::links`] connects records of different traces that may be one call. A component is what is
//! folded as one; it holds its observations and what was settled for it, so that the next fold can be
//! compared. What a fold has to know beyond its component ([`Context`]) is kept here too, and what it changes
//! is folded again.
//!
//! All of it is a cache of the lake. A component is here whole or not at all: one that was evicted left its
//! tokens in the [`Memory`], and a record that meets one asks for it ([`Ask`]) before its component is folded.
//! Memory grows with the components that are here, not with those that were.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;

use spanledger_model::ids::content_hash;
use spanledger_model::{Call, CallId, LedgerLine, Observation, ObservationId, TenantId};

use super::keys::{self, COVERAGE_SLACK_NS, Key, Token, keys_of, service_key, session_key, trace_key};
use super::lines::Lines;
use super::links::{Links, Side, sides_of};
use super::memory::{Memory, hour_of, hours_of_day};
use crate::fold::Context;
use crate::fold::coverage::is_counter;
use crate::fold::mcp_calls::unjoined_servers;
use crate::fold::names::waiting_keys;

/// Number of a component.
pub type ComponentId = usize;

/// How far the lake's observations have been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Sequence of the write-ahead log: every record up to it is in a file that was read.
    pub sequence: u64,
    /// Newest file that was read, by the time in its name (see [`crate::settle::reader`]).
    pub mark: i64,
}

/// Why a component waits to be settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dirty {
    /// Everything up to here was read before its first unsettled observation came.
    pub floor: Position,
    /// When its first unsettled observation was read, nanoseconds since the Unix epoch.
    pub since_ns: i64,
    /// When its last unsettled observation was read.
    pub last_ns: i64,
}

/// What is remembered of a call that stands in the lake: enough to see a change and to find its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettledCall {
    /// Start, nanoseconds since the Unix epoch: its day is where its row is.
    pub start_ns: i64,
    /// Hash of the whole row.
    pub content: [u8; 16],
}

impl SettledCall {
    /// What is remembered of a call.
    #[must_use]
    pub fn of(call: &Call) -> Self {
        Self {
            start_ns: call.start_ns,
            content: content_hash(call),
        }
    }
}

/// Something that is to be looked for in the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Whose records.
    pub tenant: TenantId,
    /// What they hold.
    pub token: Token,
    /// The hours in which they may have started.
    pub hours: Vec<i64>,
}

/// Where an observation comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It was never read: what it tells others is news, and what it may belong to has to be asked for.
    New,
    /// It was read before, and comes back with everything it belongs to.
    Again,
}

/// One component.
#[derive(Debug, Default)]
pub struct Component {
    /// Its observations.
    pub observations: Vec<Observation>,
    /// Its calls as they stand in the lake.
    pub calls: HashMap<CallId, SettledCall>,
    /// The charges that are in force in the lake.
    pub lines: Lines,
    /// Set while it waits to be settled.
    pub dirty: Option<Dirty>,
    /// What may belong to it and is not here: until it is, the component is not folded.
    asks: Vec<Ask>,
    keys: Vec<Key>,
    /// Servers' calls whose trace may tell who called them.
    servers: Vec<ObservationId>,
    /// True once the servers that nothing here called were looked for elsewhere, until more comes.
    is_linked: bool,
    /// Servers whose callers were asked for.
    asked: HashSet<ObservationId>,
}

/// All components in memory.
#[derive(Debug, Default)]
pub struct Components {
    slots: Vec<Option<Component>>,
    /// Slots without a component.
    free: Vec<ComponentId>,
    by_key: HashMap<Key, ComponentId>,
    by_observation: HashMap<ObservationId, ComponentId>,
    links: Links,
    context: Context,
    /// Counters by tenant and service, by their end: what a newly told usage may cover.
    counters: HashMap<Key, BTreeMap<(i64, ObservationId), i64>>,
    /// Records whose names are prefixed or hashed, by what would resolve them.
    unresolved: HashMap<Key, HashSet<ObservationId>>,
    /// What was evicted.
    memory: Memory,
    /// What may be concerned by what new records told, and is not here.
    asks: Vec<Ask>,
    n_observations: usize,
}

/// Observations that a component may have to be linked to others by name and time: a link is a guess, and a
/// server that everybody calls without context must not make one component of everything.
const LINKED_MAX: usize = 50_000;
/// Spellings of names in clear that are kept, three a tool and day: beyond it the oldest day's are forgotten, and
/// records that come late for that day keep the spelling they have.
const NAMES_MAX: usize = 200_000;
/// Up to this size a component's memory grows by one observation at a time.
const SMALL_COMPONENT: usize = 8;

impl Components {
    /// What is in memory, in observations and lines in force: each takes about a kilobyte.
    #[must_use]
    pub fn n_records(&self) -> usize {
        let lines = self.slots.iter().flatten().map(|component| component.lines.len());
        self.n_observations + lines.sum::<usize>()
    }

    /// True where the record is here.
    #[must_use]
    pub fn knows(&self, observation_id: ObservationId) -> bool {
        self.by_observation.contains_key(&observation_id)
    }

    /// True where the component of a key is here.
    fn has_key(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }

    /// The component of an observation.
    #[must_use]
    pub fn home_of(&self, observation_id: ObservationId) -> Option<ComponentId> {
        self.by_observation.get(&observation_id).copied()
    }

    /// What is in the lake without being here.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Notes an observation that is in the lake and is not taken in: what it tells the folds of others, and by
    /// what it is found. With `is_news` those that it concerns are asked for.
    pub fn note(&mut self, observation: &Observation, is_news: bool) {
        self.learn(observation, None, is_news);
        self.context.coverage.forget_session(observation);
        self.remember(observation, |_| true);
    }

    /// Adds an observation; joins the components it connects. `dirty` where they have to be settled.
    pub fn add(&mut self, observation: Observation, dirty: Option<Dirty>, arrival: Arrival) {
        if self.knows(observation.observation_id) {
            return;
        }
        let is_new = arrival == Arrival::New;
        self.learn(&observation, dirty, is_new);
        self.expect_news(&observation);
        let asks = if is_new {
            self.asks_of(&observation, |_| true)
        } else {
            Vec::new()
        };
        let keys = keys_of(&observation);
        let mut joined: Vec<ComponentId> = keys.iter().filter_map(|key| self.by_key.get(key).copied()).collect();
        let sides = sides_of(&observation);
        for side in sides.iter().filter(|side| !must_wait(&observation, **side)) {
            joined.extend(self.linked(&observation, *side));
        }
        let home = self.join(joined).unwrap_or_else(|| self.new_slot());
        let Some(component) = self.slots[home].as_mut() else {
            return;
        };
        for key in keys {
            if self.by_key.insert(key, home).is_none() {
                component.keys.push(key);
            }
        }
        self.by_observation.insert(observation.observation_id, home);
        for side in sides {
            if must_wait(&observation, side) {
                component.servers.push(observation.observation_id);
            } else {
                self.links.insert(&observation, side);
            }
        }
        component.asks.extend(asks);
        // Most components stay small, and an observation is a kilobyte: grow one by one at first.
        if component.observations.len() < SMALL_COMPONENT {
            component.observations.reserve_exact(1);
        }
        component.observations.push(observation);
        component.dirty = merged(component.dirty, dirty);
        component.is_linked = false;
        self.n_observations += 1;
    }

    /// What may belong to a record's component and is not here. A key that is here speaks for its whole component,
    /// unless `is_whole` says otherwise.
    fn asks_of(&self, observation: &Observation, is_whole: impl Fn(&Key) -> bool) -> Vec<Ask> {
        let keys = keys_of(observation);
        let mut asks = Vec::new();
        if keys.is_empty() {
            self.ask(observation, &keys::own_tokens(observation), None, &mut asks);
        }
        for key in keys.iter().filter(|key| !(self.has_key(key) && is_whole(key))) {
            self.ask(observation, &[keys::token_of(key)], None, &mut asks);
        }
        for side in sides_of(observation) {
            if !must_wait(observation, side) {
                let (tokens, hours) = keys::linked_tokens(observation, side);
                self.ask(observation, &tokens, Some(hours), &mut asks);
            }
        }
        asks
    }

    /// Asks for what holds tokens: of any time, or where hours are given of these.
    fn ask(
        &self,
        observation: &Observation,
        tokens: &[Token],
        hours: Option<RangeInclusive<i64>>,
        asks: &mut Vec<Ask>,
    ) {
        let tenant = observation.tenant.as_str();
        for token in tokens {
            let hours = match &hours {
                None => self.memory.hours_with(tenant, *token),
                Some(hours) => self.memory.hours_of(tenant, *token, hours.clone()),
            };
            if !hours.is_empty() {
                asks.push(Ask {
                    tenant: observation.tenant.clone(),
                    token: *token,
                    hours,
                });
            }
        }
    }

    /// What a record in the lake may belong to, and is not here either, but for the keys whose components are whole.
    #[must_use]
    pub fn asks_beyond(&self, observation: &Observation, is_whole: impl Fn(&Key) -> bool) -> Vec<Ask> {
        self.asks_of(observation, is_whole)
    }

    /// What is asked for and not looked for yet.
    #[must_use]
    pub fn pending(&self) -> HashSet<Token> {
        let of_components = self.slots.iter().flatten().flat_map(|component| &component.asks);
        let asks = self.asks.iter().chain(of_components);
        asks.map(|ask| ask.token).collect()
    }

    /// Asks for what a record that is in the lake belongs to, itself included.
    pub fn ask_for(&mut self, observation: &Observation) {
        let mut asks = Vec::new();
        self.ask(observation, &keys::own_tokens(observation), None, &mut asks);
        self.asks.extend(asks);
    }

    /// What has to be looked for, for `n_max` components or pieces of news at most, and for how many it is.
    #[must_use]
    pub fn asks(&self, n_max: usize) -> (Vec<Ask>, usize) {
        let apart = self.asks.iter().map(std::slice::from_ref);
        let of_components = self.slots.iter().flatten().map(|component| component.asks.as_slice());
        let groups = apart.chain(of_components).filter(|asks| !asks.is_empty());
        let taken: Vec<&[Ask]> = groups.take(n_max).collect();
        (taken.concat(), taken.len())
    }

    /// Notes that everything that holds these tokens is here.
    pub fn answered(&mut self, tokens: &HashSet<Token>) {
        self.asks.retain(|ask| !tokens.contains(&ask.token));
        for component in self.slots.iter_mut().flatten() {
            component.asks.retain(|ask| !tokens.contains(&ask.token));
        }
    }

    /// What the folds have to know beyond their components.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Takes in what an observation tells other components. Where it is news, those that are here have to be
    /// folded again, and those that are not have to be looked for.
    fn learn(&mut self, observation: &Observation, dirty: Option<Dirty>, is_news: bool) {
        let service = service_key(observation);
        let end_ns = observation.end_ns();
        let mut affected: Vec<ObservationId> = Vec::new();
        let mut asks = Vec::new();
        if self.context.coverage.learn(observation) && is_news {
            if let Some(counters) = self.counters.get(&service) {
                let from = (end_ns.saturating_sub(COVERAGE_SLACK_NS), ObservationId([0; 16]));
                let points = counters.range(from..);
                affected.extend(
                    points
                        .filter(|(_, start_ns)| **start_ns <= end_ns.saturating_add(COVERAGE_SLACK_NS))
                        .map(|((_, observation_id), _)| *observation_id),
                );
            }
            self.ask(observation, &keys::covered_tokens(observation), None, &mut asks);
        }
        for (spelling, day) in self.context.names.learn(observation) {
            if is_news {
                affected.extend(self.unresolved.get(&spelling).into_iter().flatten());
                let token = keys::name_token(&spelling, day);
                self.ask(observation, &[token], Some(hours_of_day(day)), &mut asks);
            }
        }
        self.asks.extend(asks);
        if dirty.is_none() {
            return;
        }
        let homes: HashSet<ComponentId> = affected
            .iter()
            .filter_map(|observation_id| self.by_observation.get(observation_id).copied())
            .collect();
        for home in homes {
            if let Some(component) = self.slots[home].as_mut() {
                component.dirty = merged(component.dirty, dirty);
            }
        }
    }

    /// Notes a record that is here among those that later news may concern.
    fn expect_news(&mut self, observation: &Observation) {
        if is_counter(observation) {
            let points = self.counters.entry(service_key(observation)).or_default();
            points.insert((observation.end_ns(), observation.observation_id), observation.start_ns);
        }
        for spelling in waiting_keys(observation) {
            let waiting = self.unresolved.entry(spelling).or_default();
            waiting.insert(observation.observation_id);
        }
    }

    /// Links the servers' calls that nothing in their own trace called to callers elsewhere. Returns what asks for
    /// callers that are not here. A component that is not due yet may still be told who called.
    #[must_use]
    pub fn link_waiting(&mut self, is_due: impl Fn(&Dirty) -> bool) -> Vec<Ask> {
        let mut asks = Vec::new();
        let mut unjoined: Vec<Observation> = Vec::new();
        for component in self.slots.iter_mut().flatten() {
            let must_wait = component.dirty.as_ref().is_some_and(|dirty| !is_due(dirty)) || !component.asks.is_empty();
            if component.is_linked || component.servers.is_empty() || must_wait {
                continue;
            }
            component.is_linked = true;
            let not_called = unjoined_servers(&component.observations);
            let waiting: HashSet<ObservationId> = component
                .servers
                .iter()
                .copied()
                .filter(|server| not_called.contains(server))
                .collect();
            let servers = component.observations.iter();
            unjoined.extend(
                servers
                    .filter(|server| waiting.contains(&server.observation_id))
                    .cloned(),
            );
        }
        unjoined.sort_by_key(|server| (server.start_ns, server.observation_id));
        for server in unjoined {
            let mut joined = self.linked(&server, Side::Server);
            self.links.insert(&server, Side::Server);
            joined.extend(self.home_of(server.observation_id));
            let home = self.join(joined).and_then(|home| self.get_mut(home));
            if home.is_some_and(|component| component.asked.insert(server.observation_id)) {
                let (tokens, hours) = keys::linked_tokens(&server, Side::Server);
                self.ask(&server, &tokens, Some(hours), &mut asks);
            }
        }
        asks
    }

    /// Makes one component of several and returns it: the largest takes in the others, so that each observation
    /// moves at most log n times.
    fn join(&mut self, mut joined: Vec<ComponentId>) -> Option<ComponentId> {
        joined.sort_unstable();
        joined.dedup();
        joined.sort_by_key(|id| std::cmp::Reverse(self.size(*id)));
        let (home, others) = joined.split_first()?;
        for other in others {
            self.absorb(*home, *other);
        }
        Some(*home)
    }

    fn new_slot(&mut self) -> ComponentId {
        if let Some(id) = self.free.pop() {
            self.slots[id] = Some(Component::default());
            return id;
        }
        self.slots.push(Some(Component::default()));
        self.slots.len() - 1
    }

    /// Attaches a call that stands in the lake to the component of its observations, which it returns; nothing
    /// where none of them is known or the call was attached before.
    pub fn attach_call(&mut self, call: &Call) -> Option<ComponentId> {
        let homes = || call.observation_ids.iter().filter_map(|id| self.home_of(*id));
        let has_it = |home: ComponentId| self.get(home).is_some_and(|of| of.calls.contains_key(&call.call_id));
        if homes().any(has_it) {
            return None;
        }
        let home = homes().next()?;
        let component = self.get_mut(home)?;
        component.calls.insert(call.call_id, SettledCall::of(call));
        Some(home)
    }

    /// The component that a line belongs to whose call does not say: the one of its session, else of its trace.
    #[must_use]
    pub fn home_of_line(&self, line: &LedgerLine) -> Option<ComponentId> {
        let tenant = line.tenant.as_str().as_bytes();
        let session = line.dimensions.session_id.as_deref();
        let by_session = session.map(|session| session_key(tenant, session));
        let by_trace = line.trace_id.map(|id| trace_key(tenant, id.as_bytes()));
        let keys = [by_session, by_trace].into_iter().flatten();
        keys.filter_map(|key| self.by_key.get(&key).copied()).next()
    }

    /// Adds a line that stands in the lake to what is in force of a component.
    pub fn attach_line(&mut self, line: LedgerLine, home: ComponentId) {
        if let Some(component) = self.get_mut(home) {
            component.lines.extend([line]);
        }
    }

    /// Keeps the names in clear in bounds: hostile records may name a tool each.
    pub fn bound_names(&mut self) {
        self.context.names.forget_beyond(NAMES_MAX);
    }

    /// Evicts settled components until `n_records_max` observations and lines are left, those that ended first
    /// before others. What waits to be settled stays.
    pub fn evict(&mut self, n_records_max: usize) {
        let mut n_records = self.n_records();
        if n_records <= n_records_max {
            return;
        }
        let is_quiet = |component: &Component| component.dirty.is_none() && component.asks.is_empty();
        let ended = |component: &Component| component.observations.iter().map(Observation::end_ns).max();
        let mut quiet: Vec<(Option<i64>, ComponentId)> = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(id, slot)| {
                slot.as_ref()
                    .filter(|component| is_quiet(component))
                    .map(|it| (ended(it), id))
            })
            .collect();
        quiet.sort_unstable();
        for (_, id) in quiet {
            if n_records <= n_records_max {
                break;
            }
            if let Some(component) = self.slots[id].take() {
                n_records -= component.observations.len() + component.lines.len();
                self.free.push(id);
                self.forget(&component);
            }
        }
    }

    fn forget(&mut self, component: &Component) {
        for key in &component.keys {
            self.by_key.remove(key);
        }
        self.n_observations -= component.observations.len();
        for observation in &component.observations {
            self.by_observation.remove(&observation.observation_id);
            let sides = sides_of(observation).into_iter();
            let linked: Vec<Side> = sides.filter(|side| self.links.remove(observation, *side)).collect();
            self.remember(observation, |side| linked.contains(&side));
            self.context.coverage.forget_session(observation);
            if is_counter(observation)
                && let Some(points) = self.counters.get_mut(&service_key(observation))
            {
                points.remove(&(observation.end_ns(), observation.observation_id));
            }
            for spelling in waiting_keys(observation) {
                if let Some(records) = self.unresolved.get_mut(&spelling) {
                    records.remove(&observation.observation_id);
                    if records.is_empty() {
                        self.unresolved.remove(&spelling);
                    }
                }
            }
        }
        self.counters.retain(|_, points| !points.is_empty());
    }

    fn remember(&mut self, observation: &Observation, is_linkable: impl Fn(Side) -> bool) {
        let hour = hour_of(observation.start_ns);
        for token in keys::held_tokens(observation, is_linkable) {
            self.memory.insert(observation.tenant.as_str(), hour, token);
        }
    }

    /// The components that are due, and whole.
    pub fn due(&self, is_due: impl Fn(&Dirty) -> bool) -> Vec<ComponentId> {
        let due = |component: &Component| component.asks.is_empty() && component.dirty.as_ref().is_some_and(&is_due);
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.as_ref().is_some_and(due))
            .map(|(id, _)| id)
            .collect()
    }

    /// The lowest floor of the components that wait.
    #[must_use]
    pub fn lowest_floor(&self) -> Option<Position> {
        self.lowest_floor_without(&HashSet::new())
    }

    /// The lowest floor of the components that wait, but for some.
    #[must_use]
    pub fn lowest_floor_without(&self, settled: &HashSet<ComponentId>) -> Option<Position> {
        let slots = self.slots.iter().enumerate().filter(|(id, _)| !settled.contains(id));
        slots
            .filter_map(|(_, slot)| slot.as_ref()?.dirty.map(|dirty| dirty.floor))
            .min()
    }

    /// A component.
    #[must_use]
    pub fn get(&self, id: ComponentId) -> Option<&Component> {
        self.slots.get(id)?.as_ref()
    }

    /// A component, to be changed.
    pub fn get_mut(&mut self, id: ComponentId) -> Option<&mut Component> {
        self.slots.get_mut(id)?.as_mut()
    }

    /// The components of the other side's records that may be of one call with a record.
    fn linked(&self, observation: &Observation, side: Side) -> Vec<ComponentId> {
        let candidates = self.links.candidates(observation, side);
        let homes = candidates.iter().filter_map(|other| self.by_observation.get(other));
        homes.copied().filter(|home| self.size(*home) < LINKED_MAX).collect()
    }

    fn size(&self, id: ComponentId) -> usize {
        self.get(id).map_or(0, |component| component.observations.len())
    }

    fn absorb(&mut self, home: ComponentId, other: ComponentId) {
        let Some(taken) = self.slots[other].take() else { return };
        self.free.push(other);
        for key in &taken.keys {
            self.by_key.insert(*key, home);
        }
        for observation in &taken.observations {
            self.by_observation.insert(observation.observation_id, home);
        }
        let Some(component) = self.slots[home].as_mut() else {
            return;
        };
        component.keys.extend(taken.keys);
        component.servers.extend(taken.servers);
        component.asked.extend(taken.asked);
        component.asks.extend(taken.asks);
        component.is_linked = false;
        component.observations.extend(taken.observations);
        component.calls.extend(taken.calls);
        component.lines.absorb(taken.lines);
        component.dirty = merged(component.dirty, taken.dirty);
    }
}

fn merged(a: Option<Dirty>, b: Option<Dirty>) -> Option<Dirty> {
    match (a, b) {
        (Some(a), Some(b)) => Some(Dirty {
            floor: a.floor.min(b.floor),
            since_ns: a.since_ns.min(b.since_ns),
            last_ns: a.last_ns.max(b.last_ns),
        }),
        (a, b) => a.or(b),
    }
}

/// A server's call is linked only once nothing in its own trace is known to have called it.
fn must_wait(observation: &Observation, side: Side) -> bool {
    side == Side::Server && (observation.parent_span_id.is_some() || observation.span_kind.is_none())
}
