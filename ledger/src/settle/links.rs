//! Links: records of different traces that may be of one call, found by name or counts and time.
//!
//! A server's call belongs to a caller's of the same name that contains it in time; a gateway's model call to
//! a client's of the same counts. Components that such a pair connects are folded as one; whether the two are
//! one call is the fold's decision, so a link too many costs time, never money. Every lookup is bounded.

use std::collections::{BTreeMap, HashMap};

use spanledger_model::ids::hash_parts;
use spanledger_model::{Observation, ObservationId};

use crate::fold::index::CLOCK_SLACK_NS;
use crate::fold::mcp_calls::{SKEW_NS, contains, is_caller, is_server_call, name_of};
use crate::fold::model_calls::{gateway_counts, is_gateway_record};
use crate::fold::names::{names_agree, tail_keys};

/// A call that takes longer is not looked for, nanoseconds: it would be compared with all others.
pub const CALL_NS_MAX: i64 = 3_600_000_000_000;
/// Candidates that a record is compared with, the latest first.
const CANDIDATES_MAX: usize = 1_024;

/// Which end of a call a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Whoever called a tool, prompt or resource.
    Caller,
    /// The server that answered it.
    Server,
    /// Whoever called a model.
    Client,
    /// The gateway that passed the call on.
    Gateway,
}

/// Records by tenant and name (or counts), in time.
type Times = HashMap<[u8; 16], BTreeMap<(i64, ObservationId), End>>;

#[derive(Debug)]
struct End {
    end_ns: i64,
    name: Box<str>,
}

/// Records that may be linked.
#[derive(Debug, Default)]
pub struct Links {
    callers: Times,
    servers: Times,
    clients: Times,
    gateways: Times,
}

/// The ends of a call that a record may be of: a gateway's is of both.
#[must_use]
pub fn sides_of(observation: &Observation) -> Vec<Side> {
    let mut sides = Vec::new();
    if is_server_call(observation) {
        sides.push(Side::Server);
    }
    if observation.duration_ns.unwrap_or(0) >= CALL_NS_MAX {
        return sides;
    }
    if is_caller(observation) {
        sides.push(Side::Caller);
    }
    if gateway_counts(observation).is_some() {
        sides.push(if is_gateway_record(observation) {
            Side::Gateway
        } else {
            Side::Client
        });
    }
    sides
}

/// Keys under which a record is found by the other side.
#[must_use]
pub fn link_keys(observation: &Observation, side: Side) -> Vec<[u8; 16]> {
    let tenant = observation.tenant.as_str().as_bytes();
    match side {
        Side::Caller | Side::Server => tail_keys(observation.kind, name_of(observation), side == Side::Server)
            .iter()
            .map(|key| hash_parts(&[tenant, key]))
            .collect(),
        Side::Client | Side::Gateway => gateway_counts(observation)
            .map(|(input, output)| hash_parts(&[tenant, &input.to_le_bytes(), &output.to_le_bytes()]))
            .into_iter()
            .collect(),
    }
}

impl Links {
    /// Notes a record, so that others find it.
    pub fn insert(&mut self, observation: &Observation, side: Side) {
        let times = self.times_of(side);
        for key in link_keys(observation, side) {
            let end = End {
                end_ns: observation.end_ns(),
                name: name_of(observation).unwrap_or_default().into(),
            };
            times
                .entry(key)
                .or_default()
                .insert((observation.start_ns, observation.observation_id), end);
        }
    }

    /// The records of the other side that may be of one call with a record.
    #[must_use]
    pub fn candidates(&self, observation: &Observation, side: Side) -> Vec<ObservationId> {
        let (others, is_inner) = match side {
            Side::Caller => (&self.servers, false),
            Side::Server => (&self.callers, true),
            Side::Client => (&self.gateways, false),
            Side::Gateway => (&self.clients, true),
        };
        let own = (observation.start_ns, observation.end_ns());
        // A record without length is an event after a call that may have been long.
        let is_event = own.0 >= own.1;
        let reach = if is_inner || is_event { CALL_NS_MAX } else { SKEW_NS };
        let from = own.0.saturating_sub(reach);
        let to = own.1.saturating_add(CLOCK_SLACK_NS).max(from);
        let name = name_of(observation);
        let range = (from, ObservationId([0; 16]))..=(to, ObservationId([u8::MAX; 16]));
        link_keys(observation, side)
            .iter()
            .filter_map(|key| others.get(key))
            .flat_map(|others| others.range(range.clone()).rev().take(CANDIDATES_MAX))
            .filter(|((start_ns, _), other)| {
                let its = (*start_ns, other.end_ns);
                let (outer, inner) = if is_inner { (its, own) } else { (own, its) };
                contains(outer, inner) && names_agree(name, name.map(|_| &*other.name))
            })
            .map(|((_, observation_id), _)| *observation_id)
            .collect()
    }

    /// Forgets a record; true where it could be found under this side.
    pub fn remove(&mut self, observation: &Observation, side: Side) -> bool {
        let times = self.times_of(side);
        let place = (observation.start_ns, observation.observation_id);
        let mut was_there = false;
        for key in link_keys(observation, side) {
            let Some(records) = times.get_mut(&key) else { continue };
            was_there |= records.remove(&place).is_some();
            if records.is_empty() {
                times.remove(&key);
            }
        }
        was_there
    }

    fn times_of(&mut self, side: Side) -> &mut Times {
        match side {
            Side::Caller => &mut self.callers,
            Side::Server => &mut self.servers,
            Side::Client => &mut self.clients,
            Side::Gateway => &mut self.gateways,
        }
    }
}
