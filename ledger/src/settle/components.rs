//! Components: observations that may speak of the same operations, found by the keys they share.
//!
//! Keys are the trace, the conversation and the response id; besides, a server's tool call that no trace
//! context joins to its host is linked to the hosts' calls of that tool that contain it in time. A component is what is folded as one; it holds
//! its observations and what was settled for it, so that the next fold can be compared. All of it is a cache
//! of the lake: it can be dropped and loaded again.

use std::collections::{BTreeMap, HashMap};

use spanledger_lake::tables::codec::day_of;
use spanledger_model::ids::{content_hash, hash_parts};
use spanledger_model::{Call, CallId, LedgerLine, Observation, ObservationId};

use crate::fold::mcp_calls::{SKEW_NS, is_host_call, is_unjoined_server, is_within, names_agree};

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
    /// The charges that are in force in the lake, by call.
    pub lines: HashMap<CallId, Vec<LedgerLine>>,
    /// Set while it waits to be settled.
    pub dirty: Option<Dirty>,
    keys: Vec<[u8; 16]>,
}

/// All components in memory.
#[derive(Debug, Default)]
pub struct Components {
    slots: Vec<Option<Component>>,
    by_key: HashMap<[u8; 16], ComponentId>,
    by_observation: HashMap<ObservationId, ComponentId>,
    hosts: ToolCalls,
    servers: ToolCalls,
    n_observations: usize,
}

/// Tool calls by tenant and the last letters of the tool's name, in time: candidates to be one call.
type ToolCalls = HashMap<[u8; 16], BTreeMap<(i64, ObservationId), ToolCall>>;

/// What is compared of a tool call.
#[derive(Debug)]
struct ToolCall {
    end_ns: i64,
    tool: Box<str>,
}

/// A tool call that takes longer is not looked for, nanoseconds: it would be compared with all others.
const TOOL_CALL_NS_MAX: i64 = 3_600_000_000_000;
/// Up to this size a component's memory grows by one observation at a time.
const SMALL_COMPONENT: usize = 8;
/// Letters of a tool's name that candidates must share at its end; a prefix may differ.
const NAME_TAIL: usize = 3;

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
        let keys = keys_of(&observation);
        let mut joined: Vec<ComponentId> = keys.iter().filter_map(|key| self.by_key.get(key).copied()).collect();
        joined.extend(self.linked(&observation));
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
        let calls = match tool_call_side(&observation) {
            Some(Side::Server) => Some(&mut self.servers),
            Some(Side::Host) => Some(&mut self.hosts),
            None => None,
        };
        if let Some(calls) = calls {
            let key = (observation.start_ns, observation.observation_id);
            calls.entry(tool_key(&observation)).or_default().insert(
                key,
                ToolCall {
                    end_ns: observation.end_ns(),
                    tool: observation.mcp.tool.as_deref().unwrap_or_default().into(),
                },
            );
        }
        // Most components stay small, and an observation is a kilobyte: grow one by one at first.
        if component.observations.len() < SMALL_COMPONENT {
            component.observations.reserve_exact(1);
        }
        component.observations.push(observation);
        component.dirty = merged(component.dirty, dirty);
        self.n_observations += 1;
    }

    /// Attaches a call that stands in the lake to the component of its observations. False where none of
    /// them is known.
    pub fn attach_call(&mut self, call: &Call) -> bool {
        let home = call
            .observation_ids
            .iter()
            .find_map(|id| self.by_observation.get(id).copied());
        let Some(component) = home.and_then(|home| self.slots[home].as_mut()) else {
            return false;
        };
        component.calls.insert(call.call_id, SettledCall::of(call));
        true
    }

    /// Attaches charges in force to the component that holds their call.
    pub fn attach_lines(&mut self, mut by_call: HashMap<CallId, Vec<LedgerLine>>) -> HashMap<CallId, Vec<LedgerLine>> {
        for component in self.slots.iter_mut().flatten() {
            for call_id in component.calls.keys() {
                if let Some(lines) = by_call.remove(call_id) {
                    component.lines.insert(*call_id, lines);
                }
            }
        }
        by_call
    }

    /// Attaches charges whose call is not in the lake to the component whose next fold decides on them: the
    /// one of the same trace, else any of the same session. What none claims stays out of memory.
    pub fn attach_orphans(&mut self, orphans: HashMap<CallId, Vec<LedgerLine>>) {
        for (call_id, lines) in orphans {
            let Some(line) = lines.first() else { continue };
            let tenant = line.tenant.as_str().as_bytes();
            let by_trace = line.trace_id.map(|id| hash_parts(&[tenant, b"trace", id.as_bytes()]));
            let session = line.dimensions.session_id.as_deref();
            let by_session = session.map(|id| hash_parts(&[tenant, b"session", id.as_bytes()]));
            let home = [by_trace, by_session]
                .into_iter()
                .flatten()
                .find_map(|key| self.by_key.get(&key).copied());
            if let Some(component) = home.and_then(|home| self.slots[home].as_mut()) {
                component.lines.insert(call_id, lines);
            }
        }
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
        for calls in [&mut self.hosts, &mut self.servers] {
            calls.retain(|_, calls| {
                calls.retain(|(_, observation_id), _| by_observation.contains_key(observation_id));
                !calls.is_empty()
            });
        }
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

    /// The components of the other side's calls that may be the same call.
    fn linked(&self, observation: &Observation) -> Vec<ComponentId> {
        let first = ObservationId([0; 16]);
        let (candidates, from, to) = match tool_call_side(observation) {
            Some(Side::Server) => (
                &self.hosts,
                observation.start_ns - TOOL_CALL_NS_MAX,
                observation.start_ns + SKEW_NS,
            ),
            Some(Side::Host) => (
                &self.servers,
                observation.start_ns - SKEW_NS,
                observation.end_ns() + SKEW_NS,
            ),
            None => return Vec::new(),
        };
        let Some(candidates) = candidates.get(&tool_key(observation)) else {
            return Vec::new();
        };
        let is_server = is_unjoined_server(observation);
        let (start_ns, end_ns) = (observation.start_ns, observation.end_ns());
        let may_be_one_call = |other_start_ns: i64, other: &ToolCall| {
            let (host, server) = if is_server {
                ((other_start_ns, other.end_ns), (start_ns, end_ns))
            } else {
                ((start_ns, end_ns), (other_start_ns, other.end_ns))
            };
            names_agree(observation.mcp.tool.as_deref(), Some(&other.tool)) && is_within(host, server)
        };
        candidates
            .range((from, first)..=(to.max(from), first))
            .filter(|((other_start_ns, _), other)| may_be_one_call(*other_start_ns, other))
            .filter_map(|((_, other), _)| self.by_observation.get(other).copied())
            .collect()
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
        component.observations.extend(taken.observations);
        component.calls.extend(taken.calls);
        component.lines.extend(taken.lines);
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

/// Which end of a tool call a record is of.
enum Side {
    Host,
    Server,
}

fn tool_call_side(observation: &Observation) -> Option<Side> {
    if is_unjoined_server(observation) {
        return Some(Side::Server);
    }
    let is_short = observation
        .duration_ns
        .is_some_and(|duration| duration < TOOL_CALL_NS_MAX);
    (is_host_call(observation) && is_short).then_some(Side::Host)
}

fn tool_key(observation: &Observation) -> [u8; 16] {
    let name = observation.mcp.tool.as_deref().unwrap_or_default().as_bytes();
    let tail = &name[name.len().saturating_sub(NAME_TAIL)..];
    hash_parts(&[observation.tenant.as_str().as_bytes(), b"tool", tail])
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
    keys
}
