//! What a group of tools could have saved in a cost report: the model calls priced again without their lines.
//!
//! Where a token costs the same however large the request is, that is what the lines cost, and [`crate::measures`] has
//! summed it up. Where a price has tiers, a call above one may fall below it: such calls are divided again
//! ([`crate::pieces`]) and priced without the group's lines ([`Repricer`]), and what that saves beyond the lines is added.
//! Savings of that kind overlap, so rows then no longer add up to the total, and *other* has none. Unknown, never
//! guessed, where there are too many such calls or their records have expired.

use std::collections::BTreeMap;

use spanledger_ledger::attribution::avoidable::Repricer;
use spanledger_ledger::prices::PriceQuery;
use spanledger_model::{Call, FemtoUsd, LedgerLine};

use crate::costs::{CostRequest, CostRow, Dimension, conditions, on_calls, quoted};
use crate::engine::{QueryOptions, Session};
use crate::error::Result;
use crate::limits::{AVOIDABLE_CALLS_MAX, AVOIDABLE_SESSIONS_MAX};
use crate::pieces::{Again, divided_again};
use crate::rows::rows;
use crate::source::Source;

/// Calls of the conversations that are read at once.
const TOGETHER_CALLS_MAX: usize = 100;
/// SQL condition on calls: a model was asked.
const IS_MODEL: &str = "kind IN ('llm', 'embedding')";

/// Corrects what the sums say for calls above a tier. `shown` have their measures, and `total`.
pub(crate) async fn correct(
    session: &Session,
    request: &CostRequest,
    shown: &mut [CostRow],
    other: Option<&mut CostRow>,
    total: &mut CostRow,
) -> Result<()> {
    let tiered = calls_above_a_tier(session, request).await?;
    if tiered.is_empty() {
        return Ok(());
    }
    let n_calls: usize = tiered.values().map(Vec::len).sum();
    let mut more = match n_calls > AVOIDABLE_CALLS_MAX || tiered.len() > AVOIDABLE_SESSIONS_MAX {
        true => None,
        false => saved_beyond_lines(session, request, &tiered).await?,
    };
    let mut add = |row: &mut CostRow, keys: &[Option<String>]| {
        let more = more.as_mut().map(|more| more.remove(keys).unwrap_or_default());
        if let Some(measures) = &mut row.measures {
            measures.save_more(more);
        }
    };
    add(total, &[]);
    for row in shown {
        if request.by.is_empty() {
            row.measures = total.measures;
        } else {
            let keys = row.keys.clone();
            add(row, &keys);
        }
    }
    if let Some(measures) = other.and_then(|other| other.measures.as_mut()) {
        measures.save_more(None);
    }
    Ok(())
}

/// Calls whose input is above the first tier of their model's price, by conversation.
async fn calls_above_a_tier(session: &Session, request: &CostRequest) -> Result<BTreeMap<Option<String>, Vec<String>>> {
    // A model call has no tool: filters on what only lines have are asked of the lines.
    let mut asked = request.clone();
    asked
        .filters
        .retain(|(dimension, _)| dimension.is_of_calls() && !dimension.is_cause() && dimension.name() != "kind");
    let source = Source::of(&asked, &[]);
    let bounds = |column: &dyn Fn(&Dimension) -> String| match conditions(&asked, "time", column) {
        none if none.is_empty() => " WHERE".to_owned(),
        some => format!("{some} AND"),
    };
    let [first, last] = source.times();
    let model = source.on_calls(&Dimension::parse("model")?);
    let sql = format!(
        "SELECT provider, {model} AS model, MIN({first}) AS first, MAX({last}) AS last FROM {}{} {IS_MODEL} GROUP BY 1, 2",
        source.calls(),
        bounds(&|dimension| source.on_calls(dimension)),
    );
    let options = QueryOptions::default();
    let book = session.book();
    let mut above = Vec::new();
    for row in rows(&session.query(&sql, &options).await?) {
        let (provider, Some(model)) = (row.text("provider"), row.text("model")) else {
            continue;
        };
        let at = |name| {
            let query = PriceQuery {
                provider: provider.as_deref(),
                model: &model,
                at_ns: row.time_ns(name)?,
                ..PriceQuery::default()
            };
            let prices = [book.resolve(&query), book.resolve_contracted(&query, &[])];
            prices.iter().flatten().filter_map(|price| price.first_tier()).min()
        };
        if let Some(start) = [at("first"), at("last")].into_iter().flatten().min() {
            let provider = match &provider {
                Some(provider) => format!("provider = {}", quoted(provider)),
                None => "provider IS NULL".to_owned(),
            };
            let model = format!("COALESCE(response_model, request_model) = {}", quoted(&model));
            above.push(format!("({provider} AND {model} AND input_tokens > {start})"));
        }
    }
    if above.is_empty() {
        return Ok(BTreeMap::new());
    }
    let sql = format!(
        "SELECT call_id, session_id FROM calls{} {IS_MODEL} AND own_cost IS NOT NULL AND ({}) LIMIT {}",
        bounds(&on_calls),
        above.join(" OR "),
        AVOIDABLE_CALLS_MAX + 1
    );
    let mut tiered: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
    for row in rows(&session.query(&sql, &options).await?) {
        let call_ids = tiered.entry(row.text("session_id")).or_default();
        call_ids.extend(row.text("call_id"));
    }
    Ok(tiered)
}

/// What these calls would have cost less without a group's lines, beyond what the lines cost: by the group's values, and
/// for all groups together under no value. `None` where that of some call cannot be known.
async fn saved_beyond_lines(
    session: &Session,
    request: &CostRequest,
    tiered: &BTreeMap<Option<String>, Vec<String>>,
) -> Result<Option<BTreeMap<Vec<Option<String>>, FemtoUsd>>> {
    let repricer = Repricer::new(&session.book());
    let mut more: BTreeMap<Vec<Option<String>>, FemtoUsd> = BTreeMap::new();
    for together in together(tiered) {
        let Some(divided) = exactly_again(session, &together).await? else {
            return Ok(None);
        };
        for again in &divided {
            let (call, lines) = (&again.call, &again.lines);
            let is_asked = |line: &LedgerLine| is_tool_line(line) && passes(request, call, line);
            let key = |line: &LedgerLine| -> Vec<Option<String>> {
                request
                    .by
                    .iter()
                    .map(|dimension| value(*dimension, call, line))
                    .collect()
            };
            let mut keys: Vec<Vec<Option<String>>> = lines.iter().filter(|line| is_asked(line)).map(key).collect();
            keys.push(Vec::new());
            keys.sort();
            keys.dedup();
            for of in keys {
                let is_part = |line: &LedgerLine| is_asked(line) && (of.is_empty() || key(line) == of);
                let parts = lines.iter().filter(|line| is_part(line));
                let cost: FemtoUsd = parts.filter_map(|line| line.effective_cost).sum();
                let Some(saved) = repricer.avoidable(call, lines, is_part) else {
                    return Ok(None);
                };
                *more.entry(of).or_default() += saved - cost;
            }
        }
    }
    Ok(Some(more))
}

/// Conversations that are read at once: what is around them is read once, and it is not too much to be divided.
fn together(tiered: &BTreeMap<Option<String>, Vec<String>>) -> Vec<Vec<&[String]>> {
    let mut batches: Vec<Vec<&[String]>> = Vec::new();
    for call_ids in tiered.values() {
        match batches.last_mut() {
            Some(batch) if batch.iter().map(|of| of.len()).sum::<usize>() + call_ids.len() <= TOGETHER_CALLS_MAX => {
                batch.push(call_ids);
            }
            _ => batches.push(vec![call_ids]),
        }
    }
    batches
}

/// The calls of these conversations, divided as they were; `None` where that of some is not known.
async fn exactly_again(session: &Session, together: &[&[String]]) -> Result<Option<Vec<Again>>> {
    let divided = exactly(session, &together.concat()).await?;
    if divided.is_some() || together.len() == 1 {
        return Ok(divided);
    }
    // At once it may have been too much.
    let mut all = Vec::new();
    for call_ids in together {
        match exactly(session, call_ids).await? {
            Some(divided) => all.extend(divided),
            None => return Ok(None),
        }
    }
    Ok(Some(all))
}

async fn exactly(session: &Session, call_ids: &[String]) -> Result<Option<Vec<Again>>> {
    let mut calls = divided_again(session, call_ids).await?.calls;
    calls.retain(|again| again.is_exact);
    Ok((calls.len() >= call_ids.len()).then_some(calls))
}

/// [`crate::economics::IS_TOOL_LINE`] of a line; the tool's own price is none of a model call.
fn is_tool_line(line: &LedgerLine) -> bool {
    let is_of_tools = line.tool.is_some() || matches!(line.cause, "call" | "definition");
    is_of_tools || (line.cause == "result" && line.resource_uri.is_none())
}

/// True where a line has what the filters ask for, as [`conditions`] says it in SQL.
fn passes(request: &CostRequest, call: &Call, line: &LedgerLine) -> bool {
    request.filters.iter().all(|(dimension, values)| {
        let value = value(*dimension, call, line);
        let missing = dimension.group_of(None);
        values.is_empty() || values.contains(&value) || (value == missing && values.contains(&None))
    })
}

/// The value of a dimension as a report names it.
fn value(dimension: Dimension, call: &Call, line: &LedgerLine) -> Option<String> {
    let of = &line.dimensions;
    let shared = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
    let value = match dimension.name() {
        "team" => of.team.clone(),
        "project" => of.project.clone(),
        "cost_center" => of.cost_center.clone(),
        "environment" => of.environment.clone(),
        "user_id" => of.user_id.clone(),
        "agent" => of.agent.clone(),
        "client" => of.client.clone(),
        "service" => of.service.clone(),
        "session_id" => of.session_id.clone(),
        "api_key" => of.api_key.clone(),
        "provider" => shared(&line.provider),
        "model" => shared(&line.model),
        "server" => shared(&line.server),
        "tool" => shared(&line.tool),
        "prompt" => shared(&line.prompt),
        "resource_uri" => shared(&line.resource_uri),
        "kind" => Some(call.kind.as_str().to_owned()),
        "day" => crate::time::format_instant(line.time_ns).get(..10).map(str::to_owned),
        "cause" => Some(line.cause.to_owned()),
        "touch" => line.touch.map(str::to_owned),
        "bucket" => Some(line.bucket.as_str().to_owned()),
        "method" => Some(line.method.to_owned()),
        _ => None,
    };
    dimension.group_of(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_are_read_together_until_they_are_a_hundred_calls() {
        let of = |n_calls: usize| vec![String::new(); n_calls];
        let sizes = [60, 40, 1, 250, 3, 4];
        let tiered = sizes.iter().enumerate();
        let tiered = tiered
            .map(|(at, n_calls)| (Some(at.to_string()), of(*n_calls)))
            .collect();
        let together: Vec<Vec<usize>> = together(&tiered)
            .iter()
            .map(|batch| batch.iter().map(|of| of.len()).collect())
            .collect();
        assert_eq!(together, [vec![60, 40], vec![1], vec![250], vec![3, 4]]);
    }
}
