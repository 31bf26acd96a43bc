//! Dimensions that a record does not state itself: from the spans above it, then from its trace where the
//! whole trace agrees on one value.

use std::collections::HashMap;

use spanledger_model::TraceId;
use spanledger_model::call::Dimensions;

use super::index::Index;
use super::names::is_hashed;

/// Reads a dimension.
pub(crate) type Get = fn(&Dimensions) -> &Option<String>;
/// A dimension, to be set.
pub(crate) type Set = fn(&mut Dimensions) -> &mut Option<String>;

/// Dimensions that are inherited. Service and environment belong to the record's own process.
pub(crate) const INHERITED: [(&str, Get, Set); 8] = [
    ("team", |of| &of.team, |of| &mut of.team),
    ("project", |of| &of.project, |of| &mut of.project),
    ("cost_center", |of| &of.cost_center, |of| &mut of.cost_center),
    ("user_id", |of| &of.user_id, |of| &mut of.user_id),
    ("agent", |of| &of.agent, |of| &mut of.agent),
    ("client", |of| &of.client, |of| &mut of.client),
    ("session_id", |of| &of.session_id, |of| &mut of.session_id),
    ("api_key", |of| &of.api_key, |of| &mut of.api_key),
];
/// Where the session stands in [`INHERITED`].
const SESSION: usize = 6;

/// What whole traces agree on.
#[derive(Debug, Default)]
pub(crate) struct Inheritance<'o> {
    traces: HashMap<TraceId, [Agreement<'o>; INHERITED.len()]>,
    servers: HashMap<TraceId, Agreement<'o>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Agreement<'o> {
    #[default]
    Unsaid,
    On(&'o str),
    Split,
}

impl<'o> Agreement<'o> {
    fn hear(&mut self, value: &'o str) {
        *self = match *self {
            Self::Unsaid => Self::On(value),
            Self::On(agreed) if agreed == value => Self::On(agreed),
            _ => Self::Split,
        };
    }
}

impl<'o> Inheritance<'o> {
    pub(crate) fn new(index: &Index<'o>) -> Self {
        let mut traces: HashMap<TraceId, [Agreement<'o>; INHERITED.len()]> = HashMap::new();
        let mut servers: HashMap<TraceId, Agreement<'o>> = HashMap::new();
        for observation in index.all().map(|position| index.get(position)) {
            let Some(trace_id) = observation.trace_id else { continue };
            let agreements = traces.entry(trace_id).or_default();
            for ((_, get, _), agreement) in INHERITED.iter().zip(agreements) {
                if let Some(value) = get(&observation.dimensions).as_deref() {
                    agreement.hear(value);
                }
            }
            if let Some(server) = observation.mcp.server.as_deref().filter(|server| !is_hashed(server)) {
                servers.entry(trace_id).or_default().hear(server);
            }
        }
        Self { traces, servers }
    }

    /// The only MCP server that the records of a trace name.
    pub(crate) fn server(&self, trace_id: TraceId) -> Option<&'o str> {
        match self.servers.get(&trace_id)? {
            Agreement::On(server) => Some(server),
            _ => None,
        }
    }

    /// Fills the dimensions that the records of a call leave open.
    pub(crate) fn fill(&self, index: &Index<'o>, members: &[usize], dimensions: &mut Dimensions) {
        for (slot, (_, get, set)) in INHERITED.iter().enumerate() {
            if get(dimensions).is_none() {
                let inherited = members.iter().find_map(|member| self.above(index, *member, *get));
                let agreed = || {
                    members
                        .iter()
                        .find_map(|member| self.agreed_in_trace(index, *member, slot))
                };
                *set(dimensions) = inherited.or_else(agreed).map(str::to_owned);
            }
        }
    }

    /// The conversation a record belongs to: its own, that of a span above it, or its trace's.
    pub(crate) fn session(&self, index: &Index<'o>, position: usize) -> Option<&'o str> {
        let own = index.get(position).dimensions.session_id.as_deref();
        own.or_else(|| self.above(index, position, INHERITED[SESSION].1))
            .or_else(|| self.agreed_in_trace(index, position, SESSION))
    }

    fn above(&self, index: &Index<'o>, position: usize, get: Get) -> Option<&'o str> {
        index
            .ancestors(position)
            .find_map(|ancestor| get(&index.get(ancestor).dimensions).as_deref())
    }

    fn agreed_in_trace(&self, index: &Index<'o>, position: usize, slot: usize) -> Option<&'o str> {
        match self.traces.get(&index.get(position).trace_id?)?.get(slot)? {
            Agreement::On(value) => Some(value),
            _ => None,
        }
    }
}
