//! The observations of a component, each record once, in a fixed order, with their ancestry.
//!
//! Spans that no dialect recognised are not observations, so a chain of parents may have gaps. A record whose
//! parent is unknown is then adopted by the shortest observed span of its trace that contains it in time and
//! can contain such an operation at all. Sorting and sweeping keep this near linear in the size of a
//! component, and every walk up a chain is bounded.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};

use spanledger_model::{CallKind, Observation, Role, SpanId, TraceId};

use super::mcp_calls::name_of;
use super::names::names_agree;

/// How far apart the clocks of two records of one operation may be, nanoseconds: log events are written when
/// the answer has arrived and their times are rounded to milliseconds.
pub const CLOCK_SLACK_NS: i64 = 2_000_000_000;
/// Longest chain of parents that is followed: a ring of hostile ids ends here.
const DEPTH_MAX: usize = 256;
/// Spans that may be open at a time before those that have ended are taken out.
const OPEN_MAX: usize = 64;
/// Open spans that are looked at to find the shortest that contains another.
const OPENED_MAX: usize = 256;
/// A log record may lie this far outside its frame, nanoseconds: its times are rounded.
const LOG_EDGE_NS: i64 = 2_000_000;
/// OTLP's number for a SERVER span.
pub const SPAN_KIND_SERVER: i32 = 2;

/// The observations of a component.
#[derive(Debug)]
pub struct Index<'o> {
    observations: Vec<&'o Observation>,
    parents: Vec<Option<usize>>,
    /// The spans by their ids; of two that share one, the caller's.
    spans: HashMap<(TraceId, SpanId), usize>,
    /// The server's of two spans that share an id: some emitters give both sides of a request the same.
    answering: HashMap<(TraceId, SpanId), usize>,
}

impl<'o> Index<'o> {
    /// Indexes observations: by time, then identity; a record that was delivered twice stands once.
    #[must_use]
    pub fn new(observations: &'o [Observation]) -> Self {
        let mut sorted: Vec<&Observation> = observations.iter().collect();
        sorted.sort_by(|a, b| {
            (a.start_ns, a.observation_id, a.arrived_ns).cmp(&(b.start_ns, b.observation_id, b.arrived_ns))
        });
        let mut seen = HashSet::with_capacity(sorted.len());
        sorted.retain(|observation| seen.insert(observation.observation_id));
        let (mut spans, mut answering) = (HashMap::new(), HashMap::new());
        for (position, observation) in sorted.iter().enumerate() {
            if let (Some(kind), Some(key)) = (observation.span_kind, span_key(observation)) {
                let of_its_side = if kind == SPAN_KIND_SERVER {
                    &mut answering
                } else {
                    &mut spans
                };
                of_its_side.entry(key).or_insert(position);
            }
        }
        answering.retain(|key, server| match spans.entry(*key) {
            Entry::Occupied(_) => true,
            Entry::Vacant(alone) => {
                alone.insert(*server);
                false
            }
        });
        let mut index = Self {
            parents: vec![None; sorted.len()],
            observations: sorted,
            spans,
            answering,
        };
        let mut orphans: HashMap<TraceId, Vec<usize>> = HashMap::new();
        for position in index.all() {
            match index.reported_parent(position) {
                Parent::Observed(parent) => index.parents[position] = Some(parent),
                Parent::Unknown(trace_id) => orphans.entry(trace_id).or_default().push(position),
                Parent::None => {}
            }
        }
        index.adopt(&orphans);
        index
    }

    /// Number of observations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.observations.len()
    }

    /// True where there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.observations.is_empty()
    }

    /// All positions, in order.
    pub fn all(&self) -> impl Iterator<Item = usize> + use<> {
        0..self.observations.len()
    }

    /// The observation at a position.
    #[must_use]
    pub fn get(&self, position: usize) -> &'o Observation {
        self.observations[position]
    }

    /// The span a log record was written in.
    #[must_use]
    pub fn host_span(&self, position: usize) -> Option<usize> {
        let observation = self.get(position);
        if observation.span_kind.is_some() {
            return None;
        }
        self.span_for(span_key(observation)?, observation)
    }

    /// The span of an id that another record names: of two that share it the one of the record's own service, else
    /// the caller's for a log record and the server's, which is within, for a span.
    fn span_for(&self, key: (TraceId, SpanId), other: &Observation) -> Option<usize> {
        let span = self.spans.get(&key).copied()?;
        let Some(server) = self.answering.get(&key).copied() else {
            return Some(span);
        };
        let is_of = |position: usize| self.get(position).dimensions.service == other.dimensions.service;
        let is_servers = !is_of(span) && (is_of(server) || other.span_kind.is_some());
        Some(if is_servers { server } else { span })
    }

    /// The observed spans above an observation, nearest first.
    pub fn ancestors(&self, position: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(self.parents[position], |ancestor| self.parents[*ancestor]).take(DEPTH_MAX)
    }

    /// True for a span whose parent was reported, but is no observation.
    #[must_use]
    pub fn has_unread_parent(&self, position: usize) -> bool {
        let observation = self.get(position);
        let parent = observation.trace_id.zip(observation.parent_span_id);
        parent.is_some_and(|parent| !self.spans.contains_key(&parent))
    }

    fn reported_parent(&self, position: usize) -> Parent {
        if let Some(span) = self.host_span(position) {
            return Parent::Observed(span);
        }
        let observation = self.get(position);
        let Some(trace_id) = observation.trace_id else {
            return Parent::None;
        };
        if observation.span_kind.is_none() {
            return Parent::Unknown(trace_id);
        }
        let own = span_key(observation);
        if own.is_some_and(|key| self.answering.get(&key) == Some(&position)) {
            // Its caller has the same id, and what is told as its parent is the caller's.
            return own
                .and_then(|key| self.spans.get(&key))
                .map_or(Parent::None, |caller| Parent::Observed(*caller));
        }
        let Some(parent_span_id) = observation.parent_span_id else {
            return Parent::None;
        };
        match self.span_for((trace_id, parent_span_id), observation) {
            Some(parent) if parent != position => Parent::Observed(parent),
            _ => Parent::Unknown(trace_id),
        }
    }

    /// Gives each orphan the shortest span of its trace that contains it and may, by a sweep over time.
    fn adopt(&mut self, orphans: &HashMap<TraceId, Vec<usize>>) {
        let mut adopters: HashMap<TraceId, Vec<usize>> = HashMap::new();
        for position in self.all() {
            let observation = self.get(position);
            if let Some(trace_id) = observation.trace_id.filter(|id| orphans.contains_key(id))
                && may_adopt(observation)
            {
                adopters.entry(trace_id).or_default().push(position);
            }
        }
        for (trace_id, orphans) in orphans {
            let Some(adopters) = adopters.get(trace_id) else {
                continue;
            };
            // Both lists are in the order of their starts.
            let mut waiting = adopters.iter().copied().peekable();
            let mut open: BTreeSet<(i64, usize)> = BTreeSet::new();
            let mut open_max = OPEN_MAX;
            for orphan in orphans {
                let inner = self.get(*orphan);
                let reach = if inner.span_kind.is_none() { LOG_EDGE_NS } else { 0 };
                while let Some(next) =
                    waiting.next_if(|next| self.get(*next).start_ns <= inner.start_ns.saturating_add(reach))
                {
                    open.insert((self.get(next).duration_ns.unwrap_or(0), next));
                }
                if open.len() > open_max {
                    open.retain(|(_, outer)| self.get(*outer).end_ns() >= inner.start_ns.saturating_sub(LOG_EDGE_NS));
                    open_max = OPEN_MAX.max(2 * open.len());
                }
                let adopter = open.iter().take(OPENED_MAX).map(|(_, outer)| *outer).find(|outer| {
                    let outer_span = self.get(*outer);
                    *outer != *orphan
                        && outer_span.start_ns <= inner.start_ns.saturating_add(reach)
                        && outer_span.end_ns().saturating_add(reach) >= inner.end_ns()
                        && outer_span.duration_ns > inner.duration_ns
                        && may_contain(outer_span, inner)
                });
                self.parents[*orphan] = adopter;
            }
        }
    }
}

enum Parent {
    Observed(usize),
    Unknown(TraceId),
    None,
}

/// An agent run may contain anything, a tool call only what an MCP request is made of.
fn may_adopt(outer: &Observation) -> bool {
    outer.span_kind.is_some()
        && (outer.kind == CallKind::Agent
            || outer.kind.uses_a_model() && outer.role == Role::Rollup
            || outer.kind.is_mcp() && outer.role == Role::Leaf)
}

fn may_contain(outer: &Observation, inner: &Observation) -> bool {
    match outer.kind {
        CallKind::Agent => true,
        kind if kind.uses_a_model() => inner.kind == kind,
        kind if inner.kind != kind || inner.span_kind.is_none() => false,
        // What a gateway does to answer is done in its own process, or by the server it called.
        _ if outer.span_kind == Some(SPAN_KIND_SERVER) => {
            let is_its_own = inner.dimensions.service == outer.dimensions.service;
            (is_its_own || inner.span_kind == Some(SPAN_KIND_SERVER)) && names_agree(name_of(outer), name_of(inner))
        }
        _ => true,
    }
}

fn span_key(observation: &Observation) -> Option<(TraceId, SpanId)> {
    Some((observation.trace_id?, observation.span_id?))
}

/// True where two records may be of one operation by their times.
#[must_use]
pub fn overlaps(a: &Observation, b: &Observation) -> bool {
    a.start_ns <= b.end_ns().saturating_add(CLOCK_SLACK_NS) && b.start_ns <= a.end_ns().saturating_add(CLOCK_SLACK_NS)
}
