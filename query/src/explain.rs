//! How one call was put together: its observations as a tree, the rule that joined each, the record every
//! field was taken from, and what was left out as a repeat.
//!
//! ```text
//! id (call, its beginning, span, trace) ─► calls ─► observations of their component ─► pure fold ─► JSON
//! ```
//!
//! Nothing of this is stored: folding is a pure function of a component's observations
//! ([`spanledger_ledger::fold`]), so it is run again on them. Observations are read through SQL, as any
//! query, so they are the principal's own. In a lake with more observations around the call than
//! [`EXPLAIN_OBSERVATIONS_MAX`] only those that share a trace, session or response id are read; the answer
//! then says that it is narrowed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::DateTime;
use serde::Serialize;
use serde_json::{Value, json};
use spanledger_access::Principal;
use spanledger_ledger::fold::{Context, Explained, HopTiming, Member, explain_in};
use spanledger_ledger::settle::components::{Arrival, Components};
use spanledger_model::{Call, CallId, Hop, Observation, ObservationId, Source};

use crate::costs::quoted;
use crate::engine::{Engine, QueryOptions, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{
    CALL_ID_PREFIX_MIN, EXPLAIN_CALLS_MAX, EXPLAIN_KEYS_MAX, EXPLAIN_OBSERVATIONS_MAX, EXPLAIN_ROUNDS_MAX,
};
use crate::rows::rows;
use crate::time::{DAY_NS, format_instant};

/// Calls named in a message about an id that fits several.
const NAMED_MAX: usize = 5;
/// Longest key of a session or response that is looked for, in bytes.
const KEY_BYTES_MAX: usize = 256;

/// How calls were put together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The calls, by start: `call_id, kind, name, …, observations, fields, left_out`.
    pub calls: Vec<Value>,
    /// True where the id stands for more calls than are told.
    pub truncated: bool,
    /// True where only observations that share an id were read: a counter or an unjoined hop may be missing.
    pub narrowed: bool,
}

/// A call as it stands in the lake.
pub(crate) struct Stored {
    pub(crate) own_cost: Option<String>,
    pub(crate) observation_ids: BTreeSet<String>,
}

impl Engine {
    /// How the calls of an id were put together: the id of a call or its first digits, of a span, or of a
    /// trace, in hex.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for what is no id, or the beginning of several;
    /// [`NotFound`](ErrorKind::NotFound) where nothing has it, saying what was looked for; and those of
    /// [`Engine::sql`].
    pub async fn explain(&self, principal: &Principal, id: &str) -> Result<Explanation> {
        self.explain_within(principal, id, EXPLAIN_OBSERVATIONS_MAX).await
    }

    /// [`Self::explain`], reading at most about so many observations.
    pub(crate) async fn explain_within(&self, principal: &Principal, id: &str, max: usize) -> Result<Explanation> {
        let session = self.session(principal);
        let id = id.trim().to_ascii_lowercase();
        let mut call_ids = find(&session, &id).await?;
        let truncated = call_ids.len() > EXPLAIN_CALLS_MAX;
        call_ids.truncate(EXPLAIN_CALLS_MAX);
        tell(&session, &call_ids, truncated, max).await
    }
}

/// The calls that an id stands for.
pub(crate) async fn find(session: &Session, id: &str) -> Result<Vec<String>> {
    if !(CALL_ID_PREFIX_MIN..=32).contains(&id.len()) || !id.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(Error::invalid(format!(
            "`{id:.64}` is no id: give a call id of 32 hexadecimal digits or its first {CALL_ID_PREFIX_MIN} or more, a span id or a trace id"
        )));
    }
    let condition = match id.len() {
        32 => format!("call_id = '{id}'"),
        _ => format!("call_id LIKE '{id}%'"),
    };
    let calls = ids(
        session,
        &format!(
            "SELECT call_id FROM calls WHERE {condition} ORDER BY call_id LIMIT {}",
            NAMED_MAX + 1
        ),
    )
    .await?;
    match calls.len() {
        0 => {}
        1 => return Ok(calls),
        _ => {
            return Err(Error::invalid(format!(
                "several calls begin with {id}: {}; give more digits",
                calls[..calls.len().min(NAMED_MAX)].join(", ")
            )));
        }
    }
    match id.len() {
        16 => of_span(session, id).await,
        32 => of_trace(session, id).await,
        _ => Err(unknown(id)),
    }
}

fn unknown(id: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!(
            "no call, span or trace has the id {id}; list calls with: SELECT call_id, time, kind, tool FROM calls ORDER BY time DESC LIMIT 20"
        ),
    )
}

async fn of_span(session: &Session, id: &str) -> Result<Vec<String>> {
    let seen = ids(
        session,
        &format!("SELECT DISTINCT observation_id FROM observations WHERE span_id = '{id}' LIMIT {EXPLAIN_CALLS_MAX}"),
    )
    .await?;
    if seen.is_empty() {
        let raw = ids(
            session,
            &format!("SELECT span_id FROM spans WHERE span_id = '{id}' LIMIT 1"),
        )
        .await?;
        return Err(match raw.is_empty() {
            true => unknown(id),
            false => Error::new(
                ErrorKind::NotFound,
                format!(
                    "the span {id} is stored, but no dialect reads it as an operation, so it is part of no call; `spanledger doctor --coverage` tells what is not read"
                ),
            ),
        });
    }
    let calls = ids(
        session,
        &format!(
            "SELECT call_id FROM calls WHERE array_has_any(observation_ids, [{}]) ORDER BY start_ns, call_id LIMIT {}",
            list(&seen),
            EXPLAIN_CALLS_MAX + 1
        ),
    )
    .await?;
    if calls.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "the span {id} was read, but it is part of no call: it repeats what other records of its trace tell, or is not settled yet; explain its trace instead"
            ),
        ));
    }
    Ok(calls)
}

async fn of_trace(session: &Session, id: &str) -> Result<Vec<String>> {
    let limit = EXPLAIN_CALLS_MAX + 1;
    let sql = format!("SELECT call_id FROM calls WHERE trace_id = '{id}' ORDER BY start_ns, call_id LIMIT {limit}");
    let calls = ids(session, &sql).await?;
    if !calls.is_empty() {
        return Ok(calls);
    }
    let raw = ids(
        session,
        &format!("SELECT trace_id FROM spans WHERE trace_id = '{id}' LIMIT 1"),
    )
    .await?;
    Err(match raw.is_empty() {
        true => unknown(id),
        false => Error::new(
            ErrorKind::NotFound,
            format!(
                "the trace {id} has no call of its own: its spans are hops of calls of other traces, or no dialect reads them; explain one of its spans"
            ),
        ),
    })
}

/// Folds the component of these calls again and tells how each came about.
async fn tell(session: &Session, call_ids: &[String], truncated: bool, max: usize) -> Result<Explanation> {
    let (stored, days) = stored(session, call_ids).await?;
    let seeds: BTreeSet<&String> = stored.values().flat_map(|call| &call.observation_ids).collect();
    let (observations, narrowed) = load(session, &seeds, days, max).await?;
    let mut calls = Vec::with_capacity(call_ids.len());
    let mut told: HashSet<CallId> = HashSet::new();
    let context = Context::of(&observations);
    for component in components(observations, &seeds) {
        let by_id: HashMap<ObservationId, &Observation> =
            component.iter().map(|record| (record.observation_id, record)).collect();
        for explained in explain_in(&component, &context) {
            let members: BTreeSet<String> = explained
                .members
                .iter()
                .map(|member| member.observation_id.to_string())
                .collect();
            let id = explained.call.call_id.to_string();
            // A call that later records changed has another id in the lake until it is settled again.
            let was = stored
                .get(&id)
                .or_else(|| stored.values().find(|call| !call.observation_ids.is_disjoint(&members)));
            let Some(was) = was else { continue };
            if told.insert(explained.call.call_id) {
                let settled = was.observation_ids == members;
                let mut call = call_json(&explained, &by_id, was, settled);
                call["allocation"] = json!(session.rules().explain(&explained.call));
                calls.push((explained.call.start_ns, call));
            }
        }
    }
    if calls.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "the call {} is settled, but the observations it was folded from are not in the lake any more",
                call_ids.first().map_or("", String::as_str)
            ),
        ));
    }
    calls.sort_by_key(|(start_ns, _)| *start_ns);
    Ok(Explanation {
        calls: calls.into_iter().map(|(_, call)| call).collect(),
        truncated,
        narrowed,
    })
}

/// The calls' rows, and the days around them as SQL dates.
pub(crate) async fn stored(
    session: &Session,
    call_ids: &[String],
) -> Result<(BTreeMap<String, Stored>, (String, String))> {
    let mut stored: BTreeMap<String, Stored> = BTreeMap::new();
    let (mut first_ns, mut last_ns) = (i64::MAX, i64::MIN);
    let result = session
        .query(
            &format!(
                "SELECT call_id, start_ns, own_cost, unnest(observation_ids) AS observation_id FROM calls WHERE call_id IN ({})",
                list(call_ids)
            ),
            &QueryOptions::default(),
        )
        .await?;
    for row in rows(&result) {
        let (Some(call_id), Some(observation_id)) = (row.text("call_id"), row.text("observation_id")) else {
            continue;
        };
        let start_ns = row.count("start_ns");
        (first_ns, last_ns) = (first_ns.min(start_ns), last_ns.max(start_ns));
        let call = stored.entry(call_id).or_insert_with(|| Stored {
            own_cost: row.cost("own_cost").map(|cost| cost.to_string()),
            observation_ids: BTreeSet::new(),
        });
        call.observation_ids.insert(observation_id);
    }
    Ok((stored, days_of(first_ns, last_ns)))
}

/// The day before the first and the day after the last instant, as SQL dates.
pub(crate) fn days_of(first_ns: i64, last_ns: i64) -> (String, String) {
    let day = |ns: i64| DateTime::from_timestamp_nanos(ns).format("%Y-%m-%d").to_string();
    (
        day(first_ns.saturating_sub(DAY_NS)),
        day(last_ns.saturating_add(DAY_NS)),
    )
}

/// The observations that settlement folded these with: everything of the days around, or, where that is too
/// much, what shares an id with them. True where it is the latter.
pub(crate) async fn load(
    session: &Session,
    seeds: &BTreeSet<&String>,
    (first, last): (String, String),
    max: usize,
) -> Result<(Vec<Observation>, bool)> {
    let days = format!("day BETWEEN DATE '{first}' AND DATE '{last}'");
    let count = session
        .query(
            &format!("SELECT COUNT(*) AS n FROM observations WHERE {days}"),
            &QueryOptions::default(),
        )
        .await?;
    let n_rows = rows(&count).next().map_or(0, |row| row.count("n"));
    if usize::try_from(n_rows).is_ok_and(|n_rows| n_rows <= max) {
        return Ok((observations(session, &days).await?, false));
    }
    let mut known: HashMap<ObservationId, Observation> = HashMap::new();
    let mut asked: HashSet<(&'static str, String)> = HashSet::new();
    let mut conditions: Vec<String> = seeds
        .iter()
        .collect::<Vec<_>>()
        .chunks(EXPLAIN_KEYS_MAX)
        .map(|ids| format!("observation_id IN ({})", list(ids)))
        .collect();
    for _round in 0..EXPLAIN_ROUNDS_MAX {
        for condition in conditions.drain(..) {
            for record in observations(session, &format!("{days} AND {condition}")).await? {
                known.insert(record.observation_id, record);
            }
        }
        let mut keys: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for (column, key) in known.values().flat_map(keys_of) {
            if asked.insert((column, key.clone())) {
                keys.entry(column).or_default().push(key);
            }
        }
        if keys.is_empty() || known.len() > EXPLAIN_OBSERVATIONS_MAX {
            break;
        }
        conditions = keys
            .iter()
            .flat_map(|(column, keys)| {
                let lists = keys.chunks(EXPLAIN_KEYS_MAX);
                lists.map(move |keys| format!("{column} IN ({})", keys.join(", ")))
            })
            .collect();
    }
    Ok((known.into_values().collect(), true))
}

/// What the records of one trace, session or response share: a column and its value as SQL.
fn keys_of(record: &Observation) -> Vec<(&'static str, String)> {
    let text = |column: &'static str, key: Option<&String>| {
        let key = key.filter(|key| key.len() <= KEY_BYTES_MAX)?;
        Some((column, quoted(key)))
    };
    [
        record.trace_id.map(|id| ("trace_id", format!("'{id}'"))),
        text("session_id", record.dimensions.session_id.as_ref()),
        text("response_id", record.model.response_id.as_ref()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

async fn observations(session: &Session, condition: &str) -> Result<Vec<Observation>> {
    let options = QueryOptions {
        rows_max: EXPLAIN_OBSERVATIONS_MAX,
        ..QueryOptions::default()
    };
    let result = session
        .query(&format!("SELECT * FROM observations WHERE {condition}"), &options)
        .await?;
    let mut observations = Vec::with_capacity(result.n_rows());
    for batch in &result.batches {
        let stored = crate::table::stored_form(batch, spanledger_lake::Table::Observations)?;
        observations.extend(spanledger_lake::tables::observations::from_batch(&stored));
    }
    Ok(observations)
}

/// The components that hold the seeds, as settlement makes them.
pub(crate) fn components(observations: Vec<Observation>, seeds: &BTreeSet<&String>) -> Vec<Vec<Observation>> {
    let n_slots = observations.len();
    let mut components = Components::default();
    for observation in observations {
        components.add(observation, None, Arrival::New);
    }
    (0..n_slots)
        .filter_map(|id| components.get(id))
        .filter(|component| {
            let mut records = component.observations.iter();
            records.any(|record| seeds.contains(&record.observation_id.to_string()))
        })
        .map(|component| component.observations.clone())
        .collect()
}

fn call_json(
    explained: &Explained,
    by_id: &HashMap<ObservationId, &Observation>,
    stored: &Stored,
    settled: bool,
) -> Value {
    let call = &explained.call;
    let hops: HashMap<ObservationId, &HopTiming> = explained.hops.iter().map(|hop| (hop.observation_id, hop)).collect();
    let observations = tree(&explained.members, by_id).into_iter().map(|(member, depth)| {
        let hop = hops.get(&member.observation_id);
        json!({
            "depth": depth,
            "observation_id": member.observation_id.to_string(),
            "hop": hop.map(|hop| hop.hop).or(member.hop).map(Hop::as_str),
            "source": member.source.as_str(),
            "role": member.role.as_str(),
            "dialect": member.dialect,
            "scope": member.scope,
            "service": member.service,
            "name": member.name,
            "time": format_instant(member.start_ns),
            "start_ns": member.start_ns,
            "duration_ns": member.duration_ns,
            "self_ns": hop.map(|hop| hop.own_ns),
            "rule": member.rule.map(|rule| rule.as_str()),
            "why": member.rule.map_or("the record that the call stands on", |rule| rule.meaning()),
        })
    });
    let fields = explained.fields.iter().map(|field| {
        json!({
            "field": field.field,
            "value": field.value,
            "observation_id": field.observation_id.map(|id| id.to_string()),
            "why": field.why,
        })
    });
    let left_out = explained.left_out.iter().map(|record| {
        json!({
            "observation_id": record.observation_id.to_string(),
            "source": record.source.as_str(),
            "dialect": record.dialect,
            "name": record.name,
            "rule": record.rule.as_str(),
            "why": record.rule.meaning(),
        })
    });
    json!({
        "call_id": call.call_id.to_string(),
        "kind": call.kind.as_str(),
        "name": name_of(call),
        "service": call.dimensions.service,
        "status": call.status.as_str(),
        "error_type": call.error_type,
        "time": format_instant(call.start_ns),
        "start_ns": call.start_ns,
        "duration_ns": call.duration_ns,
        "trace_id": call.trace_id.map(|id| id.to_string()),
        "input_tokens": call.usage.input,
        "output_tokens": call.usage.output,
        "own_cost": stored.own_cost,
        "hops": call.hops,
        "dialects": call.dialects,
        "rules": call.rules,
        "confidence": call.confidence.as_str(),
        "settled": settled,
        "observations": observations.collect::<Vec<_>>(),
        "fields": fields.collect::<Vec<_>>(),
        "left_out": left_out.collect::<Vec<_>>(),
    })
}

/// What a call was about, in a few words.
fn name_of(call: &Call) -> String {
    let mcp = &call.mcp;
    let what = [
        mcp.tool.as_ref(),
        mcp.prompt.as_ref(),
        mcp.resource_uri.as_ref(),
        call.model.response_model.as_ref(),
        call.model.request_model.as_ref(),
        mcp.mcp_method.as_ref(),
        call.operation.as_ref(),
        call.dimensions.agent.as_ref(),
    ];
    let what = what
        .into_iter()
        .flatten()
        .next()
        .map_or(call.kind.as_str(), String::as_str);
    match &mcp.server {
        Some(server) => format!("{server}/{what}"),
        None => what.to_owned(),
    }
}

/// The records of a call, parents before children, each with its depth. A record lies below the span it
/// names as its parent, a log below the span it was written in, anything else below the shortest span of the
/// call that contains it.
fn tree<'m>(members: &'m [Member], by_id: &HashMap<ObservationId, &Observation>) -> Vec<(&'m Member, usize)> {
    let is_span = |member: &Member| member.source == Source::Span;
    let mut sorted: Vec<&Member> = members.iter().collect();
    sorted.sort_by_key(|member| {
        let duration = std::cmp::Reverse(member.duration_ns.unwrap_or(0));
        (!is_span(member), member.start_ns, duration, member.observation_id)
    });
    let record = |position: usize| by_id.get(&sorted[position].observation_id).copied();
    let times: Vec<(i64, i64)> = sorted
        .iter()
        .map(|member| (member.start_ns, member.duration_ns.unwrap_or(0)))
        .collect();
    let named = |position: usize| {
        let own = record(position)?;
        let parent = if is_span(sorted[position]) {
            own.parent_span_id
        } else {
            own.span_id
        }?;
        (0..sorted.len()).find(|other| {
            *other != position
                && is_span(sorted[*other])
                && record(*other).is_some_and(|other| other.trace_id == own.trace_id && other.span_id == Some(parent))
        })
    };
    // Spans stand first: a log of the same call contains nothing.
    let n_spans = sorted.iter().filter(|member| is_span(member)).count();
    let around = |position: usize| container(&times[..n_spans], times[position], position);
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); sorted.len()];
    let mut roots = Vec::new();
    for position in 0..sorted.len() {
        match named(position).or_else(|| around(position)) {
            Some(parent) => children[parent].push(position),
            None => roots.push(position),
        }
    }
    let mut read = Vec::with_capacity(sorted.len());
    let mut visited = vec![false; sorted.len()];
    // Parents that form a ring are cut at their first record.
    for start in roots.into_iter().chain(0..sorted.len()) {
        let mut stack = vec![(start, 0)];
        while let Some((position, depth)) = stack.pop() {
            if std::mem::replace(&mut visited[position], true) {
                continue;
            }
            read.push((sorted[position], depth));
            stack.extend(children[position].iter().rev().map(|child| (*child, depth + 1)));
        }
    }
    read
}

/// The shortest of some (start, duration) that contains the one at `position`, which may lie behind them; of
/// equal ones the earlier contains the later.
fn container(spans: &[(i64, i64)], inner: (i64, i64), position: usize) -> Option<usize> {
    let end = |(start, duration): (i64, i64)| start.saturating_add(duration);
    let contains = |other: usize, outer: (i64, i64)| {
        outer.0 <= inner.0 && end(inner) <= end(outer) && (outer.1 > inner.1 || (outer == inner && other < position))
    };
    let others = spans.iter().enumerate().filter(|(other, _)| *other != position);
    let outer = others.filter(|(other, outer)| contains(*other, **outer));
    outer
        .min_by_key(|(other, outer)| (outer.1, std::cmp::Reverse(*other)))
        .map(|(other, _)| other)
}

/// The first column of every row.
async fn ids(session: &Session, sql: &str) -> Result<Vec<String>> {
    let result = session.query(sql, &QueryOptions::default()).await?;
    let name = result
        .schema
        .fields()
        .first()
        .map(|field| field.name().clone())
        .unwrap_or_default();
    Ok(rows(&result).filter_map(|row| row.text(&name)).collect())
}

/// Ids as an SQL list. They are hex, ours or checked.
pub(crate) fn list(ids: &[impl AsRef<str>]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| format!("'{}'", id.as_ref())).collect();
    ids.join(", ")
}
