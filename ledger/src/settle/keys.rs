//! Keys and tokens: by what an observation is found again once it is no longer in memory.
//!
//! A *key* makes observations one component: trace, conversation, response id, and for counters their series and
//! their process' day. A *token* is a 64-bit hash of anything by which new records may concern a record that was
//! forgotten: each of its keys, the places in time where it may be linked to records of other traces, the usage
//! that a counter's point may repeat, the spelling of a name that is not resolved. A record *holds* tokens and
//! *asks* for those of others; both ends are computed here, from [`KEY_COLUMNS`] alone. Two records that belong
//! together always share a token; sharing one says nothing but "look".

use std::ops::RangeInclusive;

use spanledger_lake::tables::codec::day_of;
use spanledger_model::Observation;
use spanledger_model::ids::hash_parts;

use super::links::{CALL_NS_MAX, Side, link_keys, sides_of};
use super::memory::hour_of;
use crate::fold::coverage::{is_counter, models};
use crate::fold::index::CLOCK_SLACK_NS;
use crate::fold::mcp_calls::SKEW_NS;
use crate::fold::names::waiting_keys;

/// What connects observations to one component.
pub type Key = [u8; 16];
/// A hash of what a record can be found by.
pub type Token = u64;

/// A token that a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Records of any time may ask for it.
    AtAnyTime(Token),
    /// Who asks for it knows about when its holder started.
    InTime(Token),
}

impl Held {
    /// The token.
    #[must_use]
    pub fn token(self) -> Token {
        match self {
            Self::AtAnyTime(token) | Self::InTime(token) => token,
        }
    }
}

/// The columns that keys, tokens and the context of folds are made from, and those that a row must have.
pub const KEY_COLUMNS: [&str; 39] = [
    "tenant",
    "observation_id",
    "source",
    "dialect",
    "name",
    "arrived_at",
    "role",
    "kind",
    "operation",
    "start_ns",
    "duration_ns",
    "status",
    "service",
    "session_id",
    "trace_id",
    "span_id",
    "parent_span_id",
    "span_kind",
    "hop",
    "server",
    "tool",
    "prompt",
    "resource_uri",
    "mcp_method",
    "request_model",
    "response_model",
    "response_id",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "image_input_tokens",
    "web_searches",
    "reported_cost",
    "series",
];

/// Nanoseconds of a day: counters that share no session are folded together by day.
const DAY_NS: i64 = 86_400_000_000_000;
/// Counters this far from a newly told usage may be covered by it, nanoseconds: coverage is kept in minutes.
pub const COVERAGE_SLACK_NS: i64 = 180_000_000_000;
/// Length of the shortest time slot; each further level's slots are four times as long.
const SLOT_NS: i64 = 1_000_000_000;
/// Levels of slots for links: the longest is above an hour, the longest call that is linked.
const LINK_LEVELS: u32 = 7;
/// Levels of slots for counters: the longest is above two years; what is longer has one slot of its own.
const COUNTER_LEVELS: u32 = 14;

/// The keys of an observation.
#[must_use]
pub fn keys_of(observation: &Observation) -> Vec<Key> {
    let tenant = observation.tenant.as_str().as_bytes();
    let mut keys = Vec::with_capacity(3);
    if let Some(trace_id) = observation.trace_id {
        keys.push(trace_key(tenant, trace_id.as_bytes()));
    }
    if let Some(session) = observation.dimensions.session_id.as_deref() {
        keys.push(session_key(tenant, session));
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
            let service = service_key(observation);
            keys.push(hash_parts(&[&service, b"counters", model.as_bytes(), &day]));
        }
    }
    keys
}

/// The key of a trace.
#[must_use]
pub fn trace_key(tenant: &[u8], trace_id: &[u8]) -> Key {
    hash_parts(&[tenant, b"trace", trace_id])
}

/// The key of a conversation.
#[must_use]
pub fn session_key(tenant: &[u8], session: &str) -> Key {
    hash_parts(&[tenant, b"session", session.as_bytes()])
}

/// The key of a tenant's service.
#[must_use]
pub fn service_key(observation: &Observation) -> Key {
    let service = observation.dimensions.service.as_deref().unwrap_or_default();
    hash_parts(&[observation.tenant.as_str().as_bytes(), b"service", service.as_bytes()])
}

/// The token of a key.
#[must_use]
pub fn token_of(key: &Key) -> Token {
    key.iter()
        .take(8)
        .fold(0, |token, byte| (token << 8) | Token::from(*byte))
}

/// The tokens by which an observation's component is found: its keys', or where it has none its own.
#[must_use]
pub fn own_tokens(observation: &Observation) -> Vec<Token> {
    let keys = keys_of(observation);
    if keys.is_empty() {
        return vec![token_of(&hash_parts(&[
            b"observation",
            observation.observation_id.as_bytes(),
        ]))];
    }
    keys.iter().map(token_of).collect()
}

/// Every token that an observation holds. `is_linkable` tells the ends under which others may be linked to it.
#[must_use]
pub fn held_tokens(observation: &Observation, is_linkable: impl Fn(Side) -> bool) -> Vec<Held> {
    let mut tokens = own_tokens(observation);
    if is_counter(observation) {
        let from = observation.start_ns.saturating_sub(COVERAGE_SLACK_NS);
        let to = observation.end_ns().saturating_add(COVERAGE_SLACK_NS);
        let service = service_key(observation);
        during(b"counter", &service, (from, to), COUNTER_LEVELS, &mut tokens);
    }
    let mut in_time = Vec::new();
    for side in sides_of(observation).into_iter().filter(|side| is_linkable(*side)) {
        link_tokens(observation, side, side, &mut in_time);
    }
    let day = i64::from(day_of(observation.start_ns));
    in_time.extend(
        waiting_keys(observation)
            .iter()
            .map(|spelling| name_token(spelling, day)),
    );
    let at_any_time = tokens.into_iter().map(Held::AtAnyTime);
    at_any_time.chain(in_time.into_iter().map(Held::InTime)).collect()
}

/// The tokens of records that an observation may have to be linked to, as one end of a call, and the hours in
/// which they may have started: a longer call is not linked.
#[must_use]
pub fn linked_tokens(observation: &Observation, side: Side) -> (Vec<Token>, RangeInclusive<i64>) {
    let other = match side {
        Side::Caller => Side::Server,
        Side::Server => Side::Caller,
        Side::Client => Side::Gateway,
        Side::Gateway => Side::Client,
    };
    let mut tokens = Vec::new();
    link_tokens(observation, side, other, &mut tokens);
    let from = observation.start_ns.saturating_sub(CALL_NS_MAX + CLOCK_SLACK_NS);
    let to = observation.end_ns().saturating_add(CLOCK_SLACK_NS);
    // A server's call may be of any length, its caller is not: it starts before the end, not long before the start.
    let hours = hour_of(from)..=hour_of(to);
    (tokens, hours)
}

/// The tokens of counters' points that a newly told usage may cover.
#[must_use]
pub fn covered_tokens(observation: &Observation) -> Vec<Token> {
    let mut tokens = Vec::new();
    at(
        b"counter",
        &service_key(observation),
        observation.end_ns(),
        COUNTER_LEVELS,
        &mut tokens,
    );
    tokens
}

/// The token of a record of a day whose name waits to be resolved.
#[must_use]
pub fn name_token(spelling: &Key, day: i64) -> Token {
    token_of(&hash_parts(&[b"name", spelling, &day.to_le_bytes()]))
}

/// The places in time of one end of a call, under the name of the end that holds them. The outer end is there as
/// long as it lasts, the inner one when it ends: where [`crate::fold::mcp_calls::contains`] holds, they meet.
fn link_tokens(observation: &Observation, side: Side, holder: Side, tokens: &mut Vec<Token>) {
    let (start_ns, end_ns) = (observation.start_ns, observation.end_ns());
    let name: &[u8] = match holder {
        Side::Caller => b"caller",
        Side::Server => b"server",
        Side::Client => b"client",
        Side::Gateway => b"gateway",
    };
    for key in link_keys(observation, side) {
        match side {
            Side::Caller | Side::Client => {
                let slack_ns = if start_ns < end_ns {
                    end_ns.saturating_sub(start_ns).saturating_add(SKEW_NS)
                } else {
                    CLOCK_SLACK_NS
                };
                let time = (end_ns.saturating_sub(slack_ns), end_ns.saturating_add(SKEW_NS));
                during(name, &key, time, LINK_LEVELS, tokens);
            }
            Side::Server | Side::Gateway => at(name, &key, end_ns, LINK_LEVELS, tokens),
        }
    }
}

/// The slots that a stretch of time lies in: those of the first level whose slots are as long, two at most.
fn during(what: &[u8], key: &Key, (from, to): (i64, i64), levels: u32, tokens: &mut Vec<Token>) {
    let length_ns = to.saturating_sub(from);
    match (0..levels).find(|level| slot_ns(*level) >= length_ns) {
        Some(level) => {
            let slot = |time_ns: i64| time_ns.div_euclid(slot_ns(level));
            tokens.extend((slot(from)..=slot(to)).map(|slot| slot_token(what, key, level, slot)));
        }
        None => tokens.push(slot_token(what, key, levels, 0)),
    }
}

/// The slots that an instant lies in: one of each level.
fn at(what: &[u8], key: &Key, time_ns: i64, levels: u32, tokens: &mut Vec<Token>) {
    let slots = (0..levels).map(|level| slot_token(what, key, level, time_ns.div_euclid(slot_ns(level))));
    tokens.extend(slots.chain([slot_token(what, key, levels, 0)]));
}

fn slot_ns(level: u32) -> i64 {
    SLOT_NS << (2 * level)
}

fn slot_token(what: &[u8], key: &Key, level: u32, slot: i64) -> Token {
    token_of(&hash_parts(&[what, key, &level.to_le_bytes(), &slot.to_le_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_of_time_meets_every_instant_within_it() {
        let key = [7; 16];
        let second = 1_000_000_000;
        for length in [0, 1, second, 7 * second, 3_600 * second, 90_000 * second, i64::MAX / 4] {
            let from = 1_795_000_000 * second + 123_456_789;
            let mut stretch = Vec::new();
            during(b"x", &key, (from, from + length), COUNTER_LEVELS, &mut stretch);
            assert!(stretch.len() <= 2, "{length}: {}", stretch.len());
            for instant in [from, from + length / 3, from + length] {
                let mut instants = Vec::new();
                at(b"x", &key, instant, COUNTER_LEVELS, &mut instants);
                assert!(instants.iter().any(|token| stretch.contains(token)), "{length}");
            }
            let mut later = Vec::new();
            at(
                b"x",
                &key,
                from.saturating_add(length.saturating_mul(5).saturating_add(5 * second)),
                COUNTER_LEVELS,
                &mut later,
            );
            let meets = later.iter().any(|token| stretch.contains(token));
            assert!(
                !meets || length > slot_ns(COUNTER_LEVELS - 1),
                "{length} meets what is far away"
            );
        }
    }
}
