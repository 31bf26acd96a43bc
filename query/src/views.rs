//! The names of the catalog: the lake's tables, and what is computed from them.
//!
//! A view is SQL over the tables, or rows that come from memory (`prices`, `freshness`). A column that
//! cannot be known yet is NULL, never 0. Adding is free; renaming is a migration.

use std::sync::{Arc, LazyLock, OnceLock};

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use spanledger_lake::Positions;
use spanledger_ledger::prices::{PriceBook, PriceFilter, PriceRow, RateRow};
use spanledger_model::FemtoUsd;

use crate::{economics, evidence, tool_catalog};

/// The view of the price book.
pub(crate) const PRICES: &str = "prices";
/// The view of how far each step has come.
pub(crate) const FRESHNESS: &str = "freshness";

/// The condition behind [`IS_UNPRICED`], as a literal that view texts are put together from. It is what
/// settlement charges: an answered LLM call, or whatever reports usage; a failed call without usage is free.
macro_rules! is_unpriced {
    () => {
        "own_cost IS NULL AND ((kind = 'llm' AND status <> 'error') OR input_tokens > 0 OR output_tokens > 0 \
         OR cache_read_tokens > 0 OR cache_write_5m_tokens > 0 OR web_searches > 0)"
    };
}

/// SQL condition on `calls`: it cost something that nobody knows.
pub(crate) const IS_UNPRICED: &str = is_unpriced!();
/// SQL condition on `ledger`: tokens that went in.
pub(crate) const IS_INPUT: &str =
    "bucket IN ('input', 'cache_read', 'cache_write_5m', 'cache_write_1h', 'audio_input', 'image_input')";
/// SQL condition on `ledger`: tokens that came out.
pub(crate) const IS_OUTPUT: &str = "bucket IN ('output', 'reasoning', 'audio_output')";

/// A table or view, for people and models that ask what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableInfo {
    /// Name in SQL.
    pub name: &'static str,
    /// One row is …
    pub description: &'static str,
}

/// Everything that can be named in a FROM clause, most useful first.
pub const TABLES: [TableInfo; 29] = [
    TableInfo {
        name: "calls",
        description: "one logical operation: an LLM call, an MCP call (tool, prompt, resource, other), an agent run",
    },
    TableInfo {
        name: "ledger",
        description: "one money line: cause, bucket, tokens, exact cost; measures carry sign, so a plain SUM is right. call_id is NULL where it sums what the calls of an hour sent again: never join on call_id, and bound time by whole hours; a call's cost is calls.own_cost",
    },
    TableInfo {
        name: "rollup_hour",
        description: "sums of ledger by hour (time: its start) and all dimensions but user, session, trace and call; also first_time, last_time: far faster; a group may have several rows, so sum them",
    },
    TableInfo {
        name: "rollup_hour_calls",
        description: "sums of calls likewise: calls, reported_cost; also kind, status, unpriced (cost unknown)",
    },
    TableInfo {
        name: "rollup_day",
        description: "as rollup_hour, by UTC day",
    },
    TableInfo {
        name: "rollup_day_calls",
        description: "as rollup_hour_calls, by UTC day",
    },
    TableInfo {
        name: "rollup_users",
        description: "as rollup_hour, with user_id, without server, tool, prompt, resource and cause",
    },
    TableInfo {
        name: "rollup_users_calls",
        description: "as rollup_hour_calls, likewise",
    },
    TableInfo {
        name: "sessions",
        description: "one conversation: calls, errors, tokens and total cost",
    },
    TableInfo {
        name: "traces",
        description: "one trace: spans, calls, errors, tokens, own and total cost",
    },
    TableInfo {
        name: "tool_economics",
        description: "one tool of one server: calls, errors, latency, bytes and what it cost: direct, context_tax (definition), idle_tax (of it: where never called), first_touch and carry (results), call_cost; lifetime_cost is their sum",
    },
    TableInfo {
        name: "tool_catalog",
        description: "one definition of a tool ever stated (server, tool, source sent or listed, hash): bytes, tokens (estimate: 3 bytes a token), first_seen, last_seen, seen (statements), sessions, calls and last_call since first_seen, context_tax (cost of the tool's definition lines from this definition on until the next one came)",
    },
    TableInfo {
        name: "cost_by_cause",
        description: "one cause, touch, bucket and method of ledger lines: tokens, cost, share of all cost; method says how surely it is divided",
    },
    TableInfo {
        name: "unpriced",
        description: "one model without a price: calls and tokens whose cost is not known, from and up to which hour",
    },
    TableInfo {
        name: "prices",
        description: "one rate of the price book: list price, contract or tool; provider, model, unit, USD, validity",
    },
    TableInfo {
        name: "cost_comparison",
        description: "one day, team, provider and model: list, contracted, reported and effective cost side by side",
    },
    TableInfo {
        name: "allocated_costs",
        description: "one month, dimension and value of it (team, …): its direct cost, and its part of each shared cost; filter by period ('2026-11') and dimension, which sums to the whole",
    },
    TableInfo {
        name: "coverage",
        description: "one scope of one service: the dialect that reads it, records, recognised, unrecognised, with tokens, with cost",
    },
    TableInfo {
        name: "unmapped_keys",
        description: "one attribute key that no dialect reads although it looks like usage, cost, tool, model or identity; newest records only",
    },
    TableInfo {
        name: "fold_rules",
        description: "one rule that put records together into calls: calls, tokens and cost, by confidence; rule NULL: calls of one record",
    },
    TableInfo {
        name: "uncertain",
        description: "one call that rests on a guess, and why",
    },
    TableInfo {
        name: "hops",
        description: "one hop (host, client, gateway, server, backend) of one call: its own and its whole duration, status",
    },
    TableInfo {
        name: "freshness",
        description: "one row: newest acknowledged, committed and settled request",
    },
    TableInfo {
        name: "observations",
        description: "what one span, log record or metric point says about an operation",
    },
    TableInfo {
        name: "spans",
        description: "one span, faithful to OTLP; attributes['key'] reads a residual attribute",
    },
    TableInfo {
        name: "logs",
        description: "one log record or event, faithful to OTLP",
    },
    TableInfo {
        name: "metrics",
        description: "one metric data point, faithful to OTLP",
    },
    TableInfo {
        name: "payloads",
        description: "one large text: prompt, tool arguments, tool result",
    },
    TableInfo {
        name: "information_schema",
        description: "the schema of tables, columns, views and functions of this catalog",
    },
];

/// Names of tables and views, without `information_schema`, which is a schema.
pub(crate) fn table_names() -> &'static [&'static str] {
    static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
        let names = TABLES.iter().map(|table| table.name);
        names.filter(|name| *name != "information_schema").collect()
    });
    &NAMES
}

/// A view defined by SQL.
pub(crate) struct View {
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

/// The views, each over tables or earlier views.
pub(crate) const VIEWS: [View; 12] = [
    View {
        name: "unpriced",
        sql: UNPRICED,
    },
    View {
        name: "sessions",
        sql: SESSIONS,
    },
    View {
        name: "traces",
        sql: TRACES,
    },
    View {
        name: "tool_economics",
        sql: economics::TOOL_ECONOMICS,
    },
    View {
        name: "tool_catalog",
        sql: tool_catalog::TOOL_CATALOG,
    },
    View {
        name: "cost_by_cause",
        sql: economics::COST_BY_CAUSE,
    },
    View {
        name: "cost_comparison",
        sql: COST_COMPARISON,
    },
    View {
        name: "coverage",
        sql: evidence::COVERAGE,
    },
    View {
        name: "unmapped_keys",
        sql: evidence::UNMAPPED_KEYS,
    },
    View {
        name: "fold_rules",
        sql: evidence::FOLD_RULES,
    },
    View {
        name: "uncertain",
        sql: evidence::UNCERTAIN,
    },
    View {
        name: "hops",
        sql: evidence::HOPS,
    },
];

// Calls are counted where they are one row each: a line that sums what several calls sent again is none of them.
const UNPRICED: &str = "
SELECT provider, model,
       SUM(n) AS calls,
       SUM(t) AS tokens,
       SUM(i) AS input_tokens,
       SUM(o) AS output_tokens,
       MIN(first_time) AS first_seen,
       MAX(last_time) AS last_seen
FROM (
  SELECT provider, model, CAST(0 AS BIGINT) AS n, tokens AS t,
         CASE WHEN bucket IN ('input', 'cache_read', 'cache_write_5m', 'cache_write_1h', 'audio_input', 'image_input') THEN tokens END AS i,
         CASE WHEN bucket IN ('output', 'reasoning', 'audio_output') THEN tokens END AS o,
         first_time, last_time
  FROM rollup_hour
  WHERE effective_cost IS NULL
  UNION ALL
  SELECT provider, model, calls, NULL, NULL, NULL, first_time, last_time
  FROM rollup_hour_calls
  WHERE unpriced
)
GROUP BY provider, model
HAVING SUM(n) <> 0 OR SUM(t) <> 0";

// What was reported stands on the call, the rest on its lines. Without a contract the contracted cost is the
// list cost, as FOCUS has it; the ledger itself says NULL.
const COST_COMPARISON: &str = "
SELECT day, team, provider, model,
       SUM(list_cost) AS list_cost,
       SUM(COALESCE(contracted_cost, list_cost)) AS contracted_cost,
       SUM(reported_cost) AS reported_cost,
       SUM(effective_cost) AS effective_cost
FROM (
  SELECT day, team, provider, model, list_cost, contracted_cost,
         CAST(NULL AS DECIMAL(38,15)) AS reported_cost, effective_cost
  FROM ledger
  UNION ALL
  SELECT day, team, provider, COALESCE(response_model, request_model),
         CAST(NULL AS DECIMAL(38,15)), CAST(NULL AS DECIMAL(38,15)), reported_cost, CAST(NULL AS DECIMAL(38,15))
  FROM calls
  WHERE reported_cost IS NOT NULL
)
GROUP BY day, team, provider, model";

// A dimension that differs within the group has no one value, so it is NULL.
const SESSIONS: &str = concat!(
    "
SELECT session_id,
       MIN(time) AS time,
       MAX(start_ns + COALESCE(duration_ns, 0)) - MIN(start_ns) AS duration_ns,
       CASE WHEN MIN(team) = MAX(team) THEN MIN(team) END AS team,
       CASE WHEN MIN(project) = MAX(project) THEN MIN(project) END AS project,
       CASE WHEN MIN(cost_center) = MAX(cost_center) THEN MIN(cost_center) END AS cost_center,
       CASE WHEN MIN(environment) = MAX(environment) THEN MIN(environment) END AS environment,
       CASE WHEN MIN(user_id) = MAX(user_id) THEN MIN(user_id) END AS user_id,
       CASE WHEN MIN(agent) = MAX(agent) THEN MIN(agent) END AS agent,
       CASE WHEN MIN(client) = MAX(client) THEN MIN(client) END AS client,
       CASE WHEN MIN(service) = MAX(service) THEN MIN(service) END AS service,
       COUNT(*) AS calls,
       COUNT(*) FILTER (WHERE kind = 'llm') AS llm_calls,
       COUNT(*) FILTER (WHERE kind = 'tool') AS tool_calls,
       COUNT(*) FILTER (WHERE status = 'error') AS errors,
       SUM(input_tokens) FILTER (WHERE kind IN ('llm', 'embedding')) AS input_tokens,
       SUM(cache_read_tokens) FILTER (WHERE kind IN ('llm', 'embedding')) AS cache_read_tokens,
       SUM(output_tokens) FILTER (WHERE kind IN ('llm', 'embedding')) AS output_tokens,
       SUM(own_cost) AS total_cost,
       COUNT(*) FILTER (WHERE ",
    is_unpriced!(),
    ") AS unpriced_calls
FROM calls
WHERE session_id IS NOT NULL
GROUP BY session_id"
);

// Calls read from logs alone have a trace without spans, and most spans are no calls: hence the union.
const TRACES: &str = concat!(
    "
SELECT trace_id,
       MIN(time) AS time,
       MAX(end_ns) - MIN(start_ns) AS duration_ns,
       MAX(name) AS name,
       MAX(service) AS service,
       SUM(n_spans) AS n_spans,
       SUM(calls) AS calls,
       SUM(llm_calls) AS llm_calls,
       SUM(tool_calls) AS tool_calls,
       SUM(errors) AS errors,
       SUM(input_tokens) AS input_tokens,
       SUM(cache_read_tokens) AS cache_read_tokens,
       SUM(output_tokens) AS output_tokens,
       SUM(own_cost) AS own_cost,
       SUM(total_cost) AS total_cost,
       SUM(unpriced_calls) AS unpriced_calls
FROM (
  SELECT trace_id, time, start_ns, start_ns + duration_ns AS end_ns,
         CASE WHEN parent_span_id IS NULL THEN name END AS name,
         CASE WHEN parent_span_id IS NULL THEN service END AS service,
         1 AS n_spans, 0 AS calls, 0 AS llm_calls, 0 AS tool_calls, 0 AS errors,
         CAST(NULL AS BIGINT) AS input_tokens, CAST(NULL AS BIGINT) AS cache_read_tokens, CAST(NULL AS BIGINT) AS output_tokens,
         CAST(NULL AS DECIMAL(38,15)) AS own_cost, CAST(NULL AS DECIMAL(38,15)) AS total_cost, 0 AS unpriced_calls
  FROM spans
  UNION ALL
  SELECT trace_id, time, start_ns, start_ns + COALESCE(duration_ns, 0) AS end_ns,
         NULL AS name, NULL AS service,
         0 AS n_spans, 1 AS calls,
         CASE WHEN kind = 'llm' THEN 1 ELSE 0 END AS llm_calls,
         CASE WHEN kind = 'tool' THEN 1 ELSE 0 END AS tool_calls,
         CASE WHEN status = 'error' THEN 1 ELSE 0 END AS errors,
         CASE WHEN kind IN ('llm', 'embedding') THEN input_tokens END AS input_tokens,
         CASE WHEN kind IN ('llm', 'embedding') THEN cache_read_tokens END AS cache_read_tokens,
         CASE WHEN kind IN ('llm', 'embedding') THEN output_tokens END AS output_tokens,
         CASE WHEN parent_span_id IS NULL THEN own_cost END AS own_cost,
         own_cost AS total_cost,
         CASE WHEN ",
    is_unpriced!(),
    " THEN 1 ELSE 0 END AS unpriced_calls
  FROM calls
)
WHERE trace_id IS NOT NULL
GROUP BY trace_id"
);

/// How far each step has come, as one row. It is about the whole lake, and names nothing in it.
pub(crate) fn freshness(positions: &Positions) -> Result<RecordBatch> {
    let time = |ns: i64| -> ArrayRef {
        let us = (ns != 0).then_some(ns.div_euclid(1_000));
        Arc::new(TimestampMicrosecondArray::from(vec![us]).with_timezone("UTC"))
    };
    let sequence =
        |sequence: u64| -> ArrayRef { Arc::new(Int64Array::from(vec![i64::try_from(sequence).unwrap_or(i64::MAX)])) };
    Ok(RecordBatch::try_from_iter([
        ("acknowledged_at", time(positions.acknowledged_ns)),
        ("committed_at", time(positions.flushed_ns)),
        ("settled_at", time(positions.settled_ns)),
        ("acknowledged_sequence", sequence(positions.acknowledged)),
        ("committed_sequence", sequence(positions.flushed)),
        ("settled_sequence", sequence(positions.settled)),
    ])?)
}

/// The price book as a table, made when it is first asked for.
#[derive(Debug)]
pub(crate) struct PriceTable {
    book: Arc<PriceBook>,
    table: OnceLock<Arc<MemTable>>,
}

impl PriceTable {
    pub(crate) fn new(book: Arc<PriceBook>) -> Self {
        Self {
            book,
            table: OnceLock::new(),
        }
    }

    pub(crate) fn table(&self) -> Result<Arc<MemTable>> {
        if let Some(table) = self.table.get() {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(prices(&self.book)?);
        Ok(Arc::clone(self.table.get_or_init(|| table)))
    }
}

/// The price book, one row a rate; a model free of charge has one row without a rate.
fn prices(book: &PriceBook) -> Result<MemTable> {
    // A price, one of its rates, the start of one of the rate's tiers, the rate there.
    type PriceLine<'p> = (&'p PriceRow, Option<&'p RateRow>, Option<i64>, Option<&'p str>);
    let listed = book.list(&PriceFilter::default());
    let mut rows: Vec<PriceLine<'_>> = Vec::with_capacity(listed.len() * 4);
    for price in &listed {
        if price.rates.is_empty() {
            rows.push((price, None, None, None));
        }
        for rate in &price.rates {
            rows.push((price, Some(rate), None, Some(&rate.usd)));
            for tier in &rate.tiers {
                rows.push((price, Some(rate), Some(tier.above_input_tokens), Some(&tier.usd)));
            }
        }
    }
    let windows: Vec<String> = rows.iter().map(|row| row.0.windows.join(" ")).collect();
    let rows = rows.iter();
    let mut encoder = spanledger_lake::tables::codec::Encoder::default();
    encoder.text("layer", rows.clone().map(|row| Some(row.0.layer.as_str())));
    encoder.text("provider", rows.clone().map(|row| Some(row.0.provider.as_str())));
    encoder.text("model", rows.clone().map(|row| Some(row.0.model.as_str())));
    encoder.text("context", rows.clone().map(|row| row.0.context.as_deref()));
    encoder.text("bucket", rows.clone().map(|row| row.1.map(|rate| rate.bucket)));
    encoder.text("unit", rows.clone().map(|row| row.1.map(|rate| rate.unit)));
    encoder.int("above_input_tokens", rows.clone().map(|row| row.2));
    encoder.money("usd", rows.clone().map(|row| row.3.and_then(FemtoUsd::parse)));
    encoder.text("per", rows.clone().map(|row| row.1.map(|rate| rate.per.as_str())));
    encoder.text(
        "discount_percent",
        rows.clone().map(|row| row.0.discount_percent.as_deref()),
    );
    encoder.text("valid_from", rows.clone().map(|row| row.0.valid_from.as_deref()));
    encoder.text("valid_to", rows.clone().map(|row| row.0.valid_to.as_deref()));
    let windows: StringArray = windows
        .iter()
        .map(|text| Some(text.as_str()).filter(|text| !text.is_empty()))
        .collect();
    encoder.push("windows", true, Arc::new(windows));
    encoder.text("price_id", rows.clone().map(|row| Some(row.0.price_id.as_str())));
    encoder.text("source", rows.clone().map(|row| Some(row.0.source.as_str())));
    encoder.text("version", rows.clone().map(|row| Some(row.0.version.as_str())));
    let batch = encoder.finish();
    MemTable::try_new(batch.schema(), vec![vec![batch]])
}

#[cfg(test)]
mod tests {
    use spanledger_lake::Table;

    use super::*;

    #[test]
    fn every_table_of_the_lake_and_every_view_is_listed() {
        for table in Table::ALL {
            assert!(table_names().contains(&table.name()), "{}", table.name());
        }
        for view in &VIEWS {
            assert!(table_names().contains(&view.name), "{}", view.name);
        }
        assert_eq!(table_names().len(), Table::ALL.len() + VIEWS.len() + 9);
    }
}
