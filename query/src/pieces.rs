//! The pieces of model calls, recomputed: whose definition, result, call or text each part of a call's cost was.
//!
//! The ledger sums what calls send again by the hour, so what one call carried does not stand there. Here the records
//! of the call's whole conversation are folded, charged and divided again, as settlement did ([`plan::divided`]).
//! The pieces of a call sum to its `own_cost` to the last digit; where they do not (another price book settled it,
//! records have expired, there are too many of them), the answer says so and shows no pieces. `avoidable` is not a
//! sum: what the calls would have cost without the tool ([`Repricer`]).
//!
//! [`plan::divided`]: spanledger_ledger::settle::plan::divided

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use spanledger_access::Principal;
use spanledger_ledger::attribution::Policy;
use spanledger_ledger::attribution::avoidable::Repricer;
use spanledger_ledger::fold::Context;
use spanledger_ledger::settle::plan::{Terms, divided};
use spanledger_model::{Call, FemtoUsd, LedgerLine};

use crate::costs::quoted;
use crate::engine::{Engine, QueryOptions, Session};
use crate::error::Result;
use crate::explain::{components, days_of, find, list, load, stored};
use crate::limits::{EXPLAIN_CALLS_MAX, EXPLAIN_OBSERVATIONS_MAX};
use crate::rows::rows;
use crate::time::format_instant;

impl Engine {
    /// The pieces of the model calls of an id: of a call or its first digits, of a span, or of a trace, in hex. An object
    /// with `calls` (each with `own_cost`, `is_exact`, `why` where not, `pieces` dearest first), `tools` (cost,
    /// definition, `avoidable` over these calls) and `truncated`.
    ///
    /// # Errors
    /// As [`Engine::explain`].
    pub async fn pieces(&self, principal: &Principal, id: &str) -> Result<Value> {
        let session = self.session(principal);
        let mut call_ids = find(&session, &id.trim().to_ascii_lowercase()).await?;
        let truncated = call_ids.len() > EXPLAIN_CALLS_MAX;
        call_ids.truncate(EXPLAIN_CALLS_MAX);
        let mut told = of_calls(&session, &call_ids).await?;
        told["truncated"] = json!(truncated);
        Ok(told)
    }
}

/// What a tool cost in some calls.
#[derive(Debug, Default)]
struct ToolCost {
    cost: FemtoUsd,
    definition: FemtoUsd,
    /// Absent once a call's is not known.
    avoidable: Option<FemtoUsd>,
}

/// Calls of models that were divided again.
pub(crate) struct DividedAgain {
    /// Of the ids that were asked for, those whose records are still there.
    pub(crate) calls: Vec<Again>,
    /// True where only what shares an id with them was read.
    narrowed: bool,
    policy: Policy,
}

/// A call of a model, divided again.
pub(crate) struct Again {
    pub(crate) call: Call,
    pub(crate) lines: Vec<LedgerLine>,
    /// As the ledger has it.
    own_cost: Option<String>,
    /// True where it comes to that again, and all of its conversation was read.
    pub(crate) is_exact: bool,
}

/// Divides the calls of models among these again, as settlement did.
pub(crate) async fn divided_again(session: &Session, call_ids: &[String]) -> Result<DividedAgain> {
    let (stored, (first, last)) = stored(session, call_ids).await?;
    let days = conversation_days(session, call_ids, first, last).await?;
    let seeds: BTreeSet<&String> = stored.values().flat_map(|call| &call.observation_ids).collect();
    let (observations, narrowed) = load(session, &seeds, days, EXPLAIN_OBSERVATIONS_MAX).await?;
    // A conversation without its beginning would be divided wrongly, and still sum up.
    let is_cut = narrowed && observations.len() >= EXPLAIN_OBSERVATIONS_MAX;
    let terms = Terms {
        book: session.book(),
        rules: session.shared_rules(),
        policy: session.policy(),
    };
    let context = Context::of(&observations);
    let mut calls = Vec::new();
    for component in components(observations, &seeds) {
        for (call, lines) in divided(&component, &context, &terms) {
            let is_of_model = call.kind.uses_a_model() && !lines.is_empty();
            let Some(was) = stored.get(&call.call_id.to_string()).filter(|_| is_of_model) else {
                continue;
            };
            let own_cost = call.own_cost.map(|cost| cost.to_string());
            calls.push(Again {
                is_exact: own_cost == was.own_cost && !is_cut,
                own_cost: was.own_cost.clone(),
                call,
                lines,
            });
        }
    }
    Ok(DividedAgain {
        calls,
        narrowed,
        policy: terms.policy,
    })
}

async fn of_calls(session: &Session, call_ids: &[String]) -> Result<Value> {
    let divided = divided_again(session, call_ids).await?;
    let repricer = Repricer::new(&session.book());
    let mut calls = Vec::new();
    let mut tools: BTreeMap<(Option<String>, String), ToolCost> = BTreeMap::new();
    for again in &divided.calls {
        if again.is_exact {
            count_tools(&again.call, &again.lines, &repricer, &mut tools);
        }
        calls.push((again.call.start_ns, call_json(again, divided.narrowed)));
    }
    calls.sort_by_key(|(start_ns, _)| *start_ns);
    let mut tools: Vec<((Option<String>, String), ToolCost)> = tools.into_iter().collect();
    tools.sort_by(|a, b| b.1.cost.cmp(&a.1.cost).then(a.0.cmp(&b.0)));
    let tools = tools.into_iter().map(|((server, tool), sums)| {
        json!({
            "server": server,
            "tool": tool,
            "cost": sums.cost.to_string(),
            "definition": sums.definition.to_string(),
            "avoidable": sums.avoidable.map(|cost| cost.to_string()),
        })
    });
    Ok(json!({
        "currency": crate::costs::CURRENCY,
        "attribution": divided.policy.as_str(),
        "calls": calls.into_iter().map(|(_, call)| call).collect::<Vec<_>>(),
        "tools": tools.collect::<Vec<_>>(),
    }))
}

/// The days of the conversations that these calls are of, the days around their own at least.
async fn conversation_days(
    session: &Session,
    call_ids: &[String],
    first: String,
    last: String,
) -> Result<(String, String)> {
    let options = QueryOptions::default();
    let sql = format!(
        "SELECT DISTINCT session_id FROM calls WHERE session_id IS NOT NULL AND call_id IN ({})",
        list(call_ids)
    );
    let answer = session.query(&sql, &options).await?;
    let names: Vec<String> = rows(&answer)
        .filter_map(|row| row.text("session_id"))
        .map(|name| quoted(&name))
        .collect();
    if names.is_empty() {
        return Ok((first, last));
    }
    let sql = format!(
        "SELECT MIN(start_ns) AS first_ns, MAX(start_ns) AS last_ns FROM observations WHERE session_id IN ({})",
        names.join(", ")
    );
    let answer = session.query(&sql, &options).await?;
    let Some(row) = rows(&answer).next() else {
        return Ok((first, last));
    };
    let (Some(first_ns), Some(last_ns)) = (row.int("first_ns"), row.int("last_ns")) else {
        return Ok((first, last));
    };
    let (from, to) = days_of(first_ns, last_ns);
    Ok((from.min(first), to.max(last)))
}

fn count_tools(
    call: &Call,
    lines: &[LedgerLine],
    repricer: &Repricer,
    tools: &mut BTreeMap<(Option<String>, String), ToolCost>,
) {
    let name = |line: &LedgerLine| {
        Some((
            line.server.as_deref().map(str::to_owned),
            line.tool.as_deref()?.to_owned(),
        ))
    };
    let of_call: BTreeSet<_> = lines.iter().filter_map(name).collect();
    for tool in of_call {
        let avoidable = repricer.avoidable(call, lines, |line| name(line).as_ref() == Some(&tool));
        let of_tool = lines.iter().filter(|line| name(line).as_ref() == Some(&tool));
        let (mut cost, mut definition) = (FemtoUsd::ZERO, FemtoUsd::ZERO);
        for line in of_tool {
            let part = line.effective_cost.unwrap_or_default();
            cost += part;
            if line.cause == "definition" {
                definition += part;
            }
        }
        let sums = tools.entry(tool).or_insert_with(|| ToolCost {
            avoidable: Some(FemtoUsd::ZERO),
            ..ToolCost::default()
        });
        sums.cost += cost;
        sums.definition += definition;
        sums.avoidable = sums.avoidable.zip(avoidable).map(|(sum, cost)| sum + cost);
    }
}

fn call_json(again: &Again, is_cut: bool) -> Value {
    let Again {
        call, lines, is_exact, ..
    } = again;
    let mut pieces: Vec<&LedgerLine> = lines.iter().filter(|_| *is_exact).collect();
    pieces.sort_by(|a, b| b.effective_cost.cmp(&a.effective_cost).then(b.tokens.cmp(&a.tokens)));
    let piece = |line: &&LedgerLine| {
        let cost = |cost: Option<FemtoUsd>| cost.map(|cost| cost.to_string());
        json!({
            "server": line.server,
            "tool": line.tool,
            "prompt": line.prompt,
            "resource_uri": line.resource_uri,
            "cause": line.cause,
            "history": line.history,
            "touch": line.touch,
            "bucket": line.bucket.as_str(),
            "method": line.method,
            "tokens": line.tokens,
            "quantity": line.quantity,
            "cost": cost(line.effective_cost),
            "list_cost": cost(line.list_cost),
        })
    };
    let why = match (*is_exact, is_cut) {
        (true, _) => Value::Null,
        (false, true) => json!("the conversation has more records than are read again here"),
        (false, false) => json!(
            "priced and divided again it comes to another cost: another price book or other rules settled it, or some of its records have expired; `spanledger settle --rebuild` brings the ledger up to date"
        ),
    };
    json!({
        "call_id": call.call_id.to_string(),
        "model": call.model.response_model.as_ref().or(call.model.request_model.as_ref()),
        "time": format_instant(call.start_ns),
        "start_ns": call.start_ns,
        "own_cost": again.own_cost,
        "is_exact": is_exact,
        "why": why,
        "pieces": pieces.iter().map(piece).collect::<Vec<_>>(),
    })
}
