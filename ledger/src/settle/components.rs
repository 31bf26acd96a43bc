//! Components: observations that may speak of the same operations, found by the keys they share.
//!
//! Keys are the trace, the conversation, the response id, and for counters their series and their process' day;
//! besides, [`super::links`] connects records of different traces that may be one call. A component is what is
//! folded as one; it holds its observations and what was settled for it, so that the next fold can be
//! compared. What a fold has to know beyond its component ([`Context`]) is kept here too, and what it changes
//! is folded again. All of it is a cache of the lake: it can be dropped and loaded again.

use std::collections::{BTreeMap, HashMap, HashSet};

use spanledger_lake::tables::codec::day_of;
use spanledger_model::ids::{content_hash, hash_parts};
use spanledger_model::{Call, CallId, LedgerLine, Observation, ObservationId};

use super::lines::Lines;
use super::links::{Links, Side, sides_of};
use crate::fold::Context;
use crate::fold::coverage::{is_counter, models};
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
    keys: Vec<[u8; 16]>,
    /// Servers' calls whose trace may tell who called them.
    servers: Vec<ObservationId>,
    /// True once the servers that nothing here called were looked for elsewhere, until more comes.
    is_linked: bool,
}

/// All components in memory.
#[derive(Debug, Default)]
pub struct Components {
    slots: Vec<Option<Component>>,
    by_key: HashMap<[u8; 16], ComponentId>,
    by_observation: HashMap<ObservationId, ComponentId>,
    links: Links,
    context: Context,
    /// Counters by tenant and service, by their end: what a newly told usage may cover.
    counters: HashMap<[u8; 16], BTreeMap<(i64, ObservationId), i64>>,
    /// Records whose names are prefixed or hashed, by what would resolve them.
    unresolved: HashMap<[u8; 16], Vec<ObservationId>>,
    n_observations: usize,
}

/// Observations that a component may have to be linked to others by name and time: a link is a guess, and a
/// server that everybody calls without context must not make one component of everything.
const LINKED_MAX: usize = 50_000;
/// Counters this far from a newly told usage may be covered by it, nanoseconds: coverage is kept in minutes.
const COVERAGE_SLACK_NS: i64 = 180_000_000_000;
/// Nanoseconds of a day: counters that share no session are folded together by day.
const DAY_NS: i64 = 86_400_000_000_000;
/// Nanoseconds of an hour: carried lines are of one.
const HOUR_NS: i64 = 3_600_000_000_000;
/// Up to this size a component's memory grows by one observation at a time.
const SMALL_COMPONENT: usize = 8;

impl Components {
    /// Number of observations in memory.
    #[must_use]
    pub fn n_observations(&self) -> usize {
        self.n_observations
    }

    /// True where the record is already known.
    #[must_use]
    pub fn knows(&self, observation_id: ObservationId) -> bool {
        self.by_observation.contains_key(&observation_id)
    }

    /// Adds an observation; joins the components it connects. `dirty` where it was not settled before.
    pub fn add(&mut self, observation: Observation, dirty: Option<Dirty>) {
        if self.knows(observation.observation_id) {
            return;
        }
        self.learn(&observation, dirty);
        let keys = keys_of(&observation);
        let mut joined: Vec<ComponentId> = keys.iter().filter_map(|key| self.by_key.get(key).copied()).collect();
        let sides = sides_of(&observation);
        let may_be_called = observation.parent_span_id.is_some() || observation.span_kind.is_none();
        let must_wait = |side: Side| side == Side::Server && may_be_called;
        for side in sides.iter().filter(|side| !must_wait(**side)) {
            joined.extend(self.linked(&observation, *side));
        }
        joined.sort_unstable();
        joined.dedup();
        // The largest takes in the others, so that each observation moves at most log n times.
        joined.sort_by_key(|id| std::cmp::Reverse(self.size(*id)));
        let home = match joined.first() {
            Some(home) => *home,
            None => {
                self.slots.push(Some(Component::default()));
                self.slots.len() - 1
            }
        };
        for other in joined.into_iter().skip(1) {
            self.absorb(home, other);
        }
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
            if must_wait(side) {
                component.servers.push(observation.observation_id);
            } else {
                self.links.insert(&observation, side);
            }
        }
        // Most components stay small, and an observation is a kilobyte: grow one by one at first.
        if component.observations.len() < SMALL_COMPONENT {
            component.observations.reserve_exact(1);
        }
        component.observations.push(observation);
        component.dirty = merged(component.dirty, dirty);
        component.is_linked = false;
        self.n_observations += 1;
    }

    /// What the folds have to know beyond their components.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Takes in what an observation tells other components; where it is new, they have to be folded again.
    fn learn(&mut self, observation: &Observation, dirty: Option<Dirty>) {
        let service = service_key(observation);
        let end_ns = observation.end_ns();
        let mut affected: Vec<ObservationId> = Vec::new();
        if self.context.coverage.learn(observation)
            && let Some(counters) = self.counters.get(&service)
        {
            let from = (end_ns.saturating_sub(COVERAGE_SLACK_NS), ObservationId([0; 16]));
            let points = counters.range(from..);
            affected.extend(
                points
                    .filter(|(_, start_ns)| **start_ns <= end_ns.saturating_add(COVERAGE_SLACK_NS))
                    .map(|((_, observation_id), _)| *observation_id),
            );
        }
        for spelling in self.context.names.learn(observation) {
            affected.extend(self.unresolved.get(&spelling).into_iter().flatten());
        }
        if is_counter(observation) {
            let points = self.counters.entry(service).or_default();
            points.insert((end_ns, observation.observation_id), observation.start_ns);
        }
        for spelling in waiting_keys(observation) {
            let waiting = self.unresolved.entry(spelling).or_default();
            waiting.push(observation.observation_id);
        }
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

    /// Links the servers' calls that nothing in their own trace called to callers elsewhere. A component that
    /// is not due yet may still be told who called.
    pub fn link_waiting(&mut self, is_due: impl Fn(&Dirty) -> bool) {
        let mut unjoined: Vec<Observation> = Vec::new();
        for component in self.slots.iter_mut().flatten() {
            let must_wait = component.dirty.as_ref().is_some_and(|dirty| !is_due(dirty));
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
            joined.extend(self.by_observation.get(&server.observation_id));
            joined.sort_unstable();
            joined.dedup();
            joined.sort_by_key(|id| std::cmp::Reverse(self.size(*id)));
            if let Some((home, others)) = joined.split_first() {
                for other in others {
                    self.absorb(*home, *other);
                }
            }
        }
    }

    /// Attaches a call that stands in the lake to the component of its observations, which it returns; nothing
    /// where none of them is known.
    pub fn attach_call(&mut self, call: &Call) -> Option<ComponentId> {
        let home = call
            .observation_ids
            .iter()
            .find_map(|id| self.by_observation.get(id).copied())?;
        let component = self.slots[home].as_mut()?;
        component.calls.insert(call.call_id, SettledCall::of(call));
        Some(home)
    }

    /// Adds a line that stands in the lake to what is in force of its component: the one of its call, else of its
    /// session, else of its trace. False where none claims it; it then stays out of memory.
    ///
    /// A line without a call (a carried one, or one whose call a crash left unwritten) is claimed only where the
    /// component knows records of its hour: after they have expired, what they were charged stays as it is.
    pub fn attach_line(&mut self, line: LedgerLine, home: Option<ComponentId>) -> bool {
        let tenant = line.tenant.as_str().as_bytes();
        let session = line.dimensions.session_id.as_deref();
        let by_session = session.map(|id| hash_parts(&[tenant, b"session", id.as_bytes()]));
        let by_trace = line.trace_id.map(|id| hash_parts(&[tenant, b"trace", id.as_bytes()]));
        let by_key = || {
            let keys = [by_session, by_trace].into_iter().flatten();
            keys.filter_map(|key| self.by_key.get(&key).copied()).next()
        };
        let Some(component) = home.or_else(by_key).and_then(|home| self.slots[home].as_mut()) else {
            return false;
        };
        let hour = line.time_ns.div_euclid(HOUR_NS);
        let has_records = home.is_some()
            || component
                .observations
                .iter()
                .any(|seen| seen.start_ns.div_euclid(HOUR_NS) == hour);
        if has_records {
            component.lines.extend([line]);
        }
        has_records
    }

    /// Drops what is settled and ended before a day.
    pub fn forget_before(&mut self, day: i32) {
        let ended = |component: &Component| {
            component.dirty.is_none()
                && component
                    .observations
                    .iter()
                    .all(|observation| day_of(observation.end_ns()) < day)
        };
        for slot in &mut self.slots {
            let Some(component) = slot.take_if(|component| ended(component)) else {
                continue;
            };
            for key in &component.keys {
                self.by_key.remove(key);
            }
            self.n_observations -= component.observations.len();
            for observation in &component.observations {
                self.by_observation.remove(&observation.observation_id);
            }
        }
        let by_observation = &self.by_observation;
        self.links
            .retain(|observation_id| by_observation.contains_key(observation_id));
        self.counters.retain(|_, points| {
            points.retain(|(_, observation_id), _| by_observation.contains_key(observation_id));
            !points.is_empty()
        });
        self.unresolved.retain(|_, records| {
            records.retain(|observation_id| by_observation.contains_key(observation_id));
            !records.is_empty()
        });
    }

    /// The components that are due.
    pub fn due(&self, is_due: impl Fn(&Dirty) -> bool) -> Vec<ComponentId> {
        let due = |component: &Component| component.dirty.as_ref().is_some_and(&is_due);
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
        self.slots
            .iter()
            .flatten()
            .filter_map(|component| component.dirty)
            .map(|dirty| dirty.floor)
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

fn service_key(observation: &Observation) -> [u8; 16] {
    let service = observation.dimensions.service.as_deref().unwrap_or_default();
    hash_parts(&[observation.tenant.as_str().as_bytes(), b"service", service.as_bytes()])
}

fn keys_of(observation: &Observation) -> Vec<[u8; 16]> {
    let tenant = observation.tenant.as_str().as_bytes();
    let mut keys = Vec::with_capacity(3);
    if let Some(trace_id) = observation.trace_id {
        keys.push(hash_parts(&[tenant, b"trace", trace_id.as_bytes()]));
    }
    if let Some(session) = observation.dimensions.session_id.as_deref() {
        keys.push(hash_parts(&[tenant, b"session", session.as_bytes()]));
    }
    if let Some(response_id) = observation.model.response_id.as_deref() {
        keys.push(hash_parts(&[tenant, b"response", response_id.as_bytes()]));
    }
    if is_counter(observation) {
        if let Some(series) = observation.series.as_deref() {
            keys.push(hash_parts(&[tenant, b"series", series.as_bytes()]));
        }
        if observation.dimensions.session_id.is_none() {
            // The metrics of one process that may tell the same tokens.
            let model = models(observation).into_iter().next().unwrap_or_default();
            let day = observation.start_ns.div_euclid(DAY_NS).to_le_bytes();
            keys.push(hash_parts(&[
                &service_key(observation),
                b"counters",
                model.as_bytes(),
                &day,
            ]));
        }
    }
    keys
}
