//! The observations of a component, each record once, in a fixed order, with their ancestry.
//!
//! Spans that no dialect recognised are not observations, so a chain of parents may have gaps. A span whose
//! parent is unknown is then adopted by the shortest observed span of its trace that contains it in time and
//! can contain such an operation at all.

use std::collections::HashMap;

use spanledger_model::{CallKind, Observation, SpanId, TraceId};

/// How far apart the clocks of two records of one operation may be, nanoseconds: log events are written when
/// the answer has arrived and their times are rounded to milliseconds.
pub const CLOCK_SLACK_NS: i64 = 2_000_000_000;
/// Longest chain of parents that is followed: a ring of hostile ids ends here.
const DEPTH_MAX: usize = 256;

/// The observations of a component.
#[derive(Debug)]
pub struct Index<'o> {
    observations: Vec<&'o Observation>,
    parents: Vec<Option<usize>>,
    spans: HashMap<(TraceId, SpanId), usize>,
}

impl<'o> Index<'o> {
    /// Indexes observations: by time, then identity; a record that was delivered twice stands once.
    #[must_use]
    pub fn new(observations: &'o [Observation]) -> Self {
        let mut sorted: Vec<&Observation> = observations.iter().collect();
        sorted.sort_by(|a, b| {
            (a.start_ns, a.observation_id, a.arrived_ns).cmp(&(b.start_ns, b.observation_id, b.arrived_ns))
        });
        let mut seen = std::collections::HashSet::with_capacity(sorted.len());
        sorted.retain(|observation| seen.insert(observation.observation_id));
        let mut spans = HashMap::new();
        for (position, observation) in sorted.iter().enumerate() {
            if let (Some(_), Some(key)) = (observation.span_kind, span_key(observation)) {
                spans.entry(key).or_insert(position);
            }
        }
        let mut index = Self {
            parents: vec![None; sorted.len()],
            observations: sorted,
            spans,
        };
        index.parents = (0..index.observations.len())
            .map(|position| index.find_parent(position))
            .collect();
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
        self.spans.get(&span_key(observation)?).copied()
    }

    /// The observed spans above an observation, nearest first.
    pub fn ancestors(&self, position: usize) -> impl Iterator<Item = usize> + '_ {
        let first = self.host_span(position).or_else(|| self.parents[position]);
        std::iter::successors(first, |ancestor| self.parents[*ancestor]).take(DEPTH_MAX)
    }

    /// True where an observation ran within a span: below it, or for lack of a chain, in its trace and time.
    #[must_use]
    pub fn is_within(&self, position: usize, frame: usize) -> bool {
        if position == frame {
            return false;
        }
        if self.ancestors(position).any(|ancestor| ancestor == frame) {
            return true;
        }
        let (inner, outer) = (self.get(position), self.get(frame));
        // A log or a chain with a gap: time decides, but never against a known chain to the root.
        let chain_is_known = inner.span_kind.is_some() && self.root_is_observed(position);
        !chain_is_known && inner.trace_id.is_some() && inner.trace_id == outer.trace_id && contains(outer, inner)
    }

    fn root_is_observed(&self, position: usize) -> bool {
        let top = self.ancestors(position).last().unwrap_or(position);
        self.get(top).parent_span_id.is_none()
    }

    fn find_parent(&self, position: usize) -> Option<usize> {
        let observation = self.observations[position];
        observation.span_kind?;
        let trace_id = observation.trace_id?;
        let parent_span_id = observation.parent_span_id?;
        let parent = self.spans.get(&(trace_id, parent_span_id)).copied();
        parent
            .filter(|parent| *parent != position)
            .or_else(|| self.find_adopter(position))
    }

    /// The shortest span of the trace that contains the observation and may: an agent run may contain
    /// anything, a tool call only what an MCP request is made of.
    fn find_adopter(&self, position: usize) -> Option<usize> {
        let inner = self.observations[position];
        let may_contain = |outer: &Observation| match outer.kind {
            CallKind::Agent => true,
            kind => {
                kind == inner.kind
                    && inner.kind.is_mcp()
                    && outer.span_kind != Some(2)
                    && outer.role == spanledger_model::Role::Leaf
            }
        };
        self.observations
            .iter()
            .enumerate()
            .filter(|(other, outer)| {
                *other != position
                    && outer.span_kind.is_some()
                    && outer.trace_id == inner.trace_id
                    && outer.duration_ns > inner.duration_ns
                    && may_contain(outer)
                    && contains(outer, inner)
            })
            .min_by_key(|(other, outer)| (outer.duration_ns, *other))
            .map(|(other, _)| other)
    }
}

fn span_key(observation: &Observation) -> Option<(TraceId, SpanId)> {
    Some((observation.trace_id?, observation.span_id?))
}

fn contains(outer: &Observation, inner: &Observation) -> bool {
    outer.start_ns <= inner.start_ns && inner.end_ns() <= outer.end_ns()
}

/// True where two records may be of one operation by their times.
#[must_use]
pub fn overlaps(a: &Observation, b: &Observation) -> bool {
    a.start_ns <= b.end_ns().saturating_add(CLOCK_SLACK_NS) && b.start_ns <= a.end_ns().saturating_add(CLOCK_SLACK_NS)
}

/// Disjoint sets of positions.
#[derive(Debug)]
pub struct Sets(Vec<usize>);

impl Sets {
    /// Each position by itself.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    /// The representative of a position's set.
    pub fn find(&mut self, position: usize) -> usize {
        let mut root = position;
        while self.0[root] != root {
            self.0[root] = self.0[self.0[root]];
            root = self.0[root];
        }
        root
    }

    /// Joins two sets; the lower representative stays.
    pub fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a.max(b)] = a.min(b);
    }

    /// The sets of the given positions, each in order, by their first member.
    pub fn collect(&mut self, positions: impl Iterator<Item = usize>) -> Vec<Vec<usize>> {
        let mut sets: std::collections::BTreeMap<usize, Vec<usize>> = std::collections::BTreeMap::new();
        for position in positions {
            sets.entry(self.find(position)).or_default().push(position);
        }
        sets.into_values().collect()
    }
}
