//! Which usage records of calls have told, so that counters do not tell it again.
//!
//! Counters and calls of one process often share no trace and no session, so they are not in one component.
//! What a counter is compared with is therefore kept beside the components: per tenant, service and model
//! the sessions and minutes in which a record of a call reported usage. It is a pure function of the
//! observations known.

use std::collections::{BTreeSet, HashMap};

use spanledger_model::ids::hash_parts;
use spanledger_model::{CallKind, Observation, Role};

use super::model_calls::bare_model;

/// Nanoseconds of a minute: the grain of coverage.
const MINUTE_NS: i64 = 60_000_000_000;
/// Stands for "the record names no model".
const NO_MODEL: &str = "?";
/// Stands for "any model of the service".
const ANY_MODEL: &str = "*";

type Key = [u8; 16];

/// What records of calls have told.
#[derive(Debug, Default)]
pub struct Coverage(HashMap<Key, Told>);

#[derive(Debug, Default)]
struct Told {
    /// Sessions, and the last minute they were heard of.
    sessions: HashMap<Key, i64>,
    minutes: BTreeSet<i64>,
    minutes_without_session: BTreeSet<i64>,
    /// Minutes in which a metric told usage of a session, by family of metrics.
    counter_minutes: HashMap<Key, BTreeSet<i64>>,
}

impl Coverage {
    /// Learns from an observation. True where a counter may be covered now that was not before.
    pub fn learn(&mut self, observation: &Observation) -> bool {
        let is_session_counter = is_counter(observation) && observation.dimensions.session_id.is_some();
        if !is_session_counter && !tells_usage(observation) {
            return false;
        }
        let mut is_new = false;
        let minute = minute_of(observation.end_ns());
        for model in told_models(observation) {
            let told = self.0.entry(key_of(observation, &model)).or_default();
            if is_session_counter {
                let minutes = told.counter_minutes.entry(family_key(observation)).or_default();
                is_new |= minutes.insert(minute);
                continue;
            }
            is_new |= told.minutes.insert(minute);
            match observation.dimensions.session_id.as_deref() {
                Some(session) => {
                    let last = told
                        .sessions
                        .entry(hash_parts(&[session.as_bytes()]))
                        .or_insert_with(|| {
                            is_new = true;
                            minute
                        });
                    *last = minute.max(*last);
                }
                None => is_new |= told.minutes_without_session.insert(minute),
            }
        }
        is_new
    }

    /// Forgets the session that an observation tells usage of: counters of it are in its component, which tells
    /// it again when it is folded.
    pub fn forget_session(&mut self, observation: &Observation) {
        let Some(session) = observation.dimensions.session_id.as_deref() else {
            return;
        };
        if !tells_usage(observation) {
            return;
        }
        for model in told_models(observation) {
            if let Some(told) = self.0.get_mut(&key_of(observation, &model)) {
                told.sessions.remove(&hash_parts(&[session.as_bytes()]));
            }
        }
    }

    /// Forgets what was told before a time, nanoseconds since the Unix epoch.
    pub fn forget_before(&mut self, time_ns: i64) {
        let first = minute_of(time_ns);
        self.0.retain(|_, told| {
            let without_session = &mut told.minutes_without_session;
            let of_calls = [&mut told.minutes, without_session].into_iter();
            for minutes in of_calls.chain(told.counter_minutes.values_mut()) {
                *minutes = minutes.split_off(&first);
            }
            told.counter_minutes.retain(|_, minutes| !minutes.is_empty());
            told.sessions.retain(|_, minute| *minute >= first);
            !(told.minutes.is_empty() && told.counter_minutes.is_empty())
        });
    }

    /// True where records of calls have told what a counter's point tells: the same service and model, in the
    /// same session, or where either names none, in the point's window.
    #[must_use]
    pub fn covers(&self, point: &Observation) -> bool {
        let models = match models(point).as_slice() {
            [] => vec![ANY_MODEL.to_owned()],
            named => named.iter().cloned().chain([NO_MODEL.to_owned()]).collect(),
        };
        let from = minute_of(point.start_ns).saturating_sub(1);
        let to = minute_of(point.end_ns()).saturating_add(1).max(from);
        let in_window = |minutes: &BTreeSet<i64>| minutes.range(from..=to).next().is_some();
        models.iter().any(|model| {
            let Some(told) = self.0.get(&key_of(point, model)) else {
                return false;
            };
            match point.dimensions.session_id.as_deref() {
                Some(session) => {
                    told.sessions.contains_key(&hash_parts(&[session.as_bytes()]))
                        || in_window(&told.minutes_without_session)
                }
                None => {
                    // Points of one family are disjoint series: they never repeat each other.
                    let own = family_key(point);
                    let mut others = told.counter_minutes.iter().filter(|(family, _)| **family != own);
                    in_window(&told.minutes) || others.any(|(_, minutes)| in_window(minutes))
                }
            }
        })
    }
}

/// True for a point of a counter.
#[must_use]
pub fn is_counter(observation: &Observation) -> bool {
    matches!(observation.role, Role::CounterDelta | Role::CounterCumulative)
}

fn tells_usage(observation: &Observation) -> bool {
    matches!(observation.role, Role::Leaf | Role::Rollup | Role::Correction)
        && (observation.kind.uses_a_model() || observation.kind == CallKind::Agent)
        && observation.usage.is_chargeable()
}

fn minute_of(time_ns: i64) -> i64 {
    time_ns.div_euclid(MINUTE_NS)
}

fn key_of(observation: &Observation, model: &str) -> Key {
    let service = observation.dimensions.service.as_deref().unwrap_or_default();
    hash_parts(&[
        observation.tenant.as_str().as_bytes(),
        service.as_bytes(),
        model.as_bytes(),
    ])
}

/// The metrics that tell the parts of one truth: an emitter's own, or one generation of the conventions.
#[must_use]
pub fn family(name: &str) -> &str {
    const USAGE: &str = "gen_ai.client.inference.usage";
    if name.starts_with(USAGE) {
        return USAGE;
    }
    if name.starts_with("gen_ai.") {
        return name;
    }
    name.split('.').next().unwrap_or(name)
}

fn family_key(observation: &Observation) -> Key {
    hash_parts(&[family(&observation.name).as_bytes()])
}

fn told_models(observation: &Observation) -> Vec<String> {
    let mut names = models(observation);
    if names.is_empty() {
        names.push(NO_MODEL.to_owned());
    }
    names.push(ANY_MODEL.to_owned());
    names
}

/// The bare names of the models a record may be about.
#[must_use]
pub fn models(observation: &Observation) -> Vec<String> {
    let mut names: Vec<String> = [&observation.model.request_model, &observation.model.response_model]
        .into_iter()
        .flatten()
        .map(|name| bare_model(name))
        .collect();
    names.dedup();
    names
}
