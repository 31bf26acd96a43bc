//! The searches behind [`savings`](super): one statement or two a kind, over one session's snapshots.

use std::collections::{BTreeMap, BTreeSet};

use spanledger_ledger::prices::PriceQuery;
use spanledger_ledger::rating::rate;
use spanledger_model::{FemtoUsd, Usage};

use super::{Kind, Saving};
use crate::costs::{CostRequest, conditions, on_calls, on_ledger, quoted};
use crate::engine::{QueryOptions, ResultSet, Session};
use crate::error::{Error, Result};
use crate::limits::ROWS_MAX;
use crate::rows::{Row, rows};

/// Results of fewer tokens are never oversized: three pages of text.
const OVERSIZED_TOKENS_MIN: i64 = 1_000;
/// Failures in a row that are a loop: two are a retry.
const FAILURES_MIN: i64 = 3;
/// A call is short and simple where it reads and writes at most this many tokens.
const SHORT_INPUT_TOKENS: i64 = 4_000;
const SHORT_OUTPUT_TOKENS: i64 = 300;
/// Short calls of a model from which another one is looked at.
const SHORT_CALLS_MIN: i64 = 5;
/// Providers whose models are compared.
const PROVIDERS_MAX: usize = 8;
/// Tokens that unit prices are taken at: below every tier.
const UNIT_TOKENS: i64 = 1_000;

/// The conversation of a line or call.
const THREAD: &str = "COALESCE(session_id, trace_id)";
/// Conversations in which a tool, or any tool of a server, was called.
const USED: &str = "SELECT DISTINCT COALESCE(server, '') AS server_key, COALESCE(tool, '') AS tool_key, \
     COALESCE(session_id, trace_id) AS thread FROM calls WHERE kind = 'tool' \
     UNION SELECT DISTINCT COALESCE(server, ''), '', COALESCE(session_id, trace_id) FROM calls WHERE kind = 'tool'";
/// Lines beside the conversations that used their tool: what has no such one is idle.
const BESIDE_USED: &str = "used.server_key = COALESCE(l.server, '') AND used.tool_key = COALESCE(l.tool, '') \
     AND used.thread = COALESCE(l.session_id, l.trace_id)";
const IS_IDLE: &str =
    "(l.cause = 'definition' AND COALESCE(l.session_id, l.trace_id) IS NOT NULL AND used.server_key IS NULL)";

/// One search, over one session's snapshots.
pub(super) struct Search<'s> {
    session: &'s Session,
    /// ` WHERE …` on lines `l`.
    lines: String,
    /// ` WHERE …` on calls.
    calls: String,
    /// Tools whose results are an item: their carried lines are in no other.
    is_oversized: BTreeSet<(String, String)>,
}

impl<'s> Search<'s> {
    /// Over what a cost report of this request would be about.
    pub(super) fn new(session: &'s Session, asked: &CostRequest) -> Self {
        Self {
            session,
            lines: conditions(asked, "l.time", &on_ledger),
            calls: conditions(asked, "time", &on_calls),
            is_oversized: BTreeSet::new(),
        }
    }

    async fn ask(&self, sql: &str) -> Result<ResultSet> {
        let options = QueryOptions {
            rows_max: ROWS_MAX,
            ..QueryOptions::default()
        };
        let answer = self.session.query(sql, &options).await?;
        if answer.truncated {
            return Err(Error::invalid(
                "there is too much to look at; take a shorter time, or filter",
            ));
        }
        Ok(answer)
    }

    /// First line of the period, and what it cost.
    pub(super) async fn span(&self) -> Result<(Option<i64>, FemtoUsd)> {
        let sql = format!(
            "SELECT MIN(l.time) AS first, SUM(l.effective_cost) AS cost FROM ledger l{}",
            self.lines
        );
        let answer = self.ask(&sql).await?;
        let row = rows(&answer).next();
        Ok((
            row.and_then(|row| row.time_ns("first")),
            row.and_then(|row| row.cost("cost")).unwrap_or_default(),
        ))
    }

    pub(super) async fn find(&mut self, kind: Kind) -> Result<Vec<Saving>> {
        match kind {
            Kind::IdleTools => self.idle_tools().await,
            Kind::OversizedResults => self.oversized_results().await,
            Kind::MissedCache => self.missed_cache().await,
            Kind::IdenticalCalls => self.identical_calls().await,
            Kind::RetryLoops => self.retry_loops().await,
            Kind::CheaperModel => self.cheaper_model().await,
            Kind::UnpricedUsage => self.unpriced_usage().await,
        }
    }

    async fn idle_tools(&self) -> Result<Vec<Saving>> {
        let sql = format!(
            "SELECT t.server, t.tool, t.cost, t.tokens, t.threads, t.e1, t.e2, t.e3, COALESCE(c.calls, 0) AS calls FROM (\
             SELECT server, tool, SUM(cost) AS cost, SUM(tokens) AS tokens, COUNT(*) AS threads, {EXAMPLES} FROM (\
             SELECT server, tool, thread, cost, tokens, \
             ROW_NUMBER() OVER (PARTITION BY server, tool ORDER BY cost DESC NULLS LAST, thread) AS nth FROM (\
             SELECT l.server AS server, l.tool AS tool, COALESCE(l.session_id, l.trace_id) AS thread, \
             SUM(l.effective_cost) AS cost, SUM(l.tokens) AS tokens \
             FROM ledger l LEFT JOIN ({USED}) AS used ON {BESIDE_USED}{} AND {IS_IDLE} GROUP BY 1, 2, 3)) GROUP BY 1, 2) AS t \
             LEFT JOIN (SELECT COALESCE(server, '') AS server_key, tool, COUNT(*) AS calls FROM calls{} AND kind = 'tool' \
             GROUP BY 1, 2) AS c ON c.server_key = COALESCE(t.server, '') AND c.tool = t.tool WHERE t.cost > 0",
            self.lines, self.calls
        );
        let answer = self.ask(&sql).await?;
        let saving = |row: Row<'_>| {
            let calls = row.count("calls");
            Saving {
                detail: Some(
                    if calls == 0 {
                        "never called in the period"
                    } else {
                        "called in other conversations"
                    }
                    .to_owned(),
                ),
                ..of_tool(
                    Kind::IdleTools,
                    row,
                    row.cost("cost"),
                    vec![
                        ("sessions", row.count("threads")),
                        ("tokens", row.count("tokens")),
                        ("calls", calls),
                    ],
                )
            }
        };
        Ok(rows(&answer).map(saving).collect())
    }

    /// The size beyond which a result is oversized: the 90th percentile by nearest rank.
    fn sizes(&self) -> String {
        format!(
            "SELECT l.server AS server, l.tool AS tool, COALESCE(l.session_id, l.trace_id) AS thread, l.call_id AS call_id, \
             SUM(l.tokens) AS tokens FROM ledger l{} AND l.cause = 'result' AND l.tool IS NOT NULL AND l.call_id IS NOT NULL \
             GROUP BY 1, 2, 3, 4 HAVING SUM(l.tokens) > 0",
            self.lines
        )
    }

    async fn oversized_results(&mut self) -> Result<Vec<Saving>> {
        let sizes = self.sizes();
        let answer = self
            .ask(&format!(
                "SELECT MIN(tokens) AS tokens FROM (SELECT tokens, ROW_NUMBER() OVER (ORDER BY tokens) AS nth, \
                 COUNT(*) OVER () AS n FROM ({sizes})) WHERE nth * 10 >= n * 9"
            ))
            .await?;
        let Some(limit) = rows(&answer).next().and_then(|row| row.int("tokens")) else {
            return Ok(Vec::new());
        };
        let limit = limit.max(OVERSIZED_TOKENS_MIN);
        let sql = format!(
            "SELECT s.server AS server, s.tool AS tool, s.thread AS thread, s.tokens AS tokens, s.excess AS excess, \
             s.n AS n, s.largest AS largest, s.call_id AS call_id, c.cost AS cost FROM (\
             SELECT server, tool, thread, SUM(tokens) AS tokens, \
             SUM(CASE WHEN tokens > {limit} THEN tokens - {limit} ELSE 0 END) AS excess, \
             COUNT(*) FILTER (WHERE tokens > {limit}) AS n, MAX(tokens) AS largest, \
             MIN(CASE WHEN tokens > {limit} THEN call_id END) AS call_id FROM ({sizes}) GROUP BY 1, 2, 3) AS s \
             JOIN (SELECT COALESCE(l.server, '') AS server_key, l.tool AS tool, COALESCE(l.session_id, l.trace_id) AS thread, \
             SUM(l.effective_cost) AS cost FROM ledger l{} AND l.cause = 'result' AND l.touch = 'carry' AND l.tool IS NOT NULL \
             GROUP BY 1, 2, 3) AS c ON c.server_key = COALESCE(s.server, '') AND c.tool = s.tool AND c.thread = s.thread \
             WHERE s.excess > 0 AND c.cost > 0 ORDER BY c.cost DESC, s.thread",
            self.lines
        );
        let answer = self.ask(&sql).await?;
        let mut tools: BTreeMap<(String, String), Saving> = BTreeMap::new();
        for row in rows(&answer) {
            let tokens = i128::from(row.count("tokens").max(1));
            let carried = row.cost("cost").unwrap_or_default();
            let excess = row.count("excess");
            let cost = FemtoUsd(carried.0 * i128::from(excess) / tokens);
            let key = (
                row.text("server").unwrap_or_default(),
                row.text("tool").unwrap_or_default(),
            );
            let saving = tools.entry(key).or_insert_with(|| Saving {
                detail: Some(format!("results over {limit} tokens")),
                ..of_tool(
                    Kind::OversizedResults,
                    row,
                    None,
                    vec![("results", 0), ("tokens_over", 0), ("largest_tokens", 0)],
                )
            });
            saving.cost = Some(saving.cost.unwrap_or_default() + cost);
            for (name, count) in &mut saving.counts {
                match *name {
                    "results" => *count += row.count("n"),
                    "tokens_over" => *count += excess,
                    _ => *count = (*count).max(row.count("largest")),
                }
            }
            push_example(&mut saving.sessions, row.text("thread"));
            push_example(&mut saving.call_ids, row.text("call_id"));
        }
        self.is_oversized = tools.keys().cloned().collect();
        Ok(tools.into_values().collect())
    }

    async fn missed_cache(&self) -> Result<Vec<Saving>> {
        // A line sums an hour's calls of a conversation; each had to be written to the cache once.
        let sql = format!(
            "SELECT provider, model, server, tool, SUM(cost) AS cost, SUM(tokens) AS tokens, SUM(written) AS written, \
             SUM(n) AS n, MAX(time) AS time, COUNT(*) AS threads, {EXAMPLES} FROM (\
             SELECT provider, model, server, tool, thread, cost, tokens, written, n, time, \
             ROW_NUMBER() OVER (PARTITION BY provider, model, server, tool ORDER BY cost DESC NULLS LAST, thread) AS nth FROM (\
             SELECT provider, model, server, tool, thread, SUM(cost) AS cost, SUM(tokens) AS tokens, \
             SUM(tokens / CASE WHEN n > 0 THEN n ELSE 1 END) AS written, MAX(n) AS n, MAX(time) AS time FROM (\
             SELECT l.provider AS provider, l.model AS model, \
             CASE WHEN l.cause = 'result' THEN COALESCE(l.server, '') END AS server, \
             CASE WHEN l.cause = 'result' THEN COALESCE(l.tool, '') END AS tool, \
             COALESCE(l.session_id, l.trace_id) AS thread, l.line_id AS line_id, SUM(l.effective_cost) AS cost, \
             SUM(l.tokens) AS tokens, SUM(l.n_calls) AS n, MAX(l.time) AS time \
             FROM ledger l LEFT JOIN ({USED}) AS used ON {BESIDE_USED}{} AND l.call_id IS NULL AND l.bucket = 'input' \
             AND NOT {IS_IDLE} GROUP BY 1, 2, 3, 4, 5, 6 HAVING SUM(l.tokens) > 0) GROUP BY 1, 2, 3, 4, 5)) GROUP BY 1, 2, 3, 4 \
             ORDER BY 5 DESC NULLS LAST, 1, 2, 3, 4",
            self.lines
        );
        let answer = self.ask(&sql).await?;
        let mut models: BTreeMap<String, Saving> = BTreeMap::new();
        for row in rows(&answer) {
            let tool = (
                row.text("server").unwrap_or_default(),
                row.text("tool").unwrap_or_default(),
            );
            if row.text("tool").is_some() && self.is_oversized.contains(&tool) {
                continue;
            }
            let Some(rates) = self.rates(row) else { continue };
            let (tokens, written) = (row.count("tokens"), row.count("written"));
            let per = |rate: FemtoUsd, tokens: i64| rate.0 * i128::from(tokens) / i128::from(UNIT_TOKENS);
            let saved = per(rates.input - rates.read, tokens) - per(rates.write - rates.input, written);
            let cost = FemtoUsd(saved.min(row.cost("cost").unwrap_or_default().0));
            if cost <= FemtoUsd::ZERO {
                continue;
            }
            let subject = model_name(row);
            let saving = models.entry(subject.clone()).or_insert_with(|| Saving {
                kind: Kind::MissedCache,
                subject,
                cost: None,
                monthly: None,
                counts: vec![("tokens", 0), ("sessions", 0)],
                sessions: Vec::new(),
                call_ids: Vec::new(),
                detail: Some("sent again at the full input price".to_owned()),
            });
            saving.cost = Some(saving.cost.unwrap_or_default() + cost);
            for (name, count) in &mut saving.counts {
                match *name {
                    "tokens" => *count += tokens,
                    // Of the largest part: a conversation has several.
                    _ => *count = (*count).max(row.count("threads")),
                }
            }
            for name in ["e1", "e2", "e3"] {
                push_example(&mut saving.sessions, row.text(name));
            }
        }
        Ok(models.into_values().collect())
    }

    /// What a model's tokens cost, by the book in use.
    fn rates(&self, row: Row<'_>) -> Option<Rates> {
        let (provider, model) = (row.text("provider"), row.text("model")?);
        let book = self.session.book();
        let price = book.resolve(&PriceQuery {
            provider: provider.as_deref(),
            model: &model,
            at_ns: row.time_ns("time")?,
            processing: None,
            service_tier: None,
        })?;
        let cost = |usage: Usage| rate(&price, &usage).ok().map(|rated| rated.total);
        let input = Usage {
            input: Some(UNIT_TOKENS),
            output: Some(0),
            ..Usage::default()
        };
        Some(Rates {
            read: cost(Usage {
                cache_read: Some(UNIT_TOKENS),
                ..input
            })?,
            write: cost(Usage {
                cache_write_5m: Some(UNIT_TOKENS),
                ..input
            })?,
            input: cost(input)?,
        })
    }

    async fn identical_calls(&self) -> Result<Vec<Saving>> {
        let sql = format!(
            "SELECT r.server AS server, r.tool AS tool, r.thread AS thread, r.calls AS calls, r.repeats AS repeats, \
             r.call_id AS call_id, c.cost AS cost FROM (\
             SELECT server, tool, thread, SUM(n) AS calls, SUM(CASE WHEN hash IS NOT NULL THEN n_ok - 1 ELSE 0 END) \
             FILTER (WHERE n_ok > 1) AS repeats, MAX(CASE WHEN hash IS NOT NULL AND n_ok > 1 THEN call_id END) AS call_id FROM (\
             SELECT t.server, t.tool, t.thread, h.hash, COUNT(*) AS n, COUNT(*) FILTER (WHERE t.status = 'ok') AS n_ok, \
             MAX(t.call_id) AS call_id FROM (SELECT call_id, COALESCE(server, '') AS server, COALESCE(tool, '') AS tool, \
             {THREAD} AS thread, status FROM calls{calls} AND kind = 'tool' AND {THREAD} IS NOT NULL) AS t LEFT JOIN (\
             SELECT a.call_id AS call_id, MIN(o.arguments_hash) AS hash FROM (\
             SELECT call_id, unnest(observation_ids) AS observation_id FROM calls{calls} AND kind = 'tool') AS a \
             JOIN observations AS o ON o.observation_id = a.observation_id WHERE o.arguments_hash IS NOT NULL \
             GROUP BY 1) AS h ON h.call_id = t.call_id GROUP BY 1, 2, 3, 4) GROUP BY 1, 2, 3) AS r \
             JOIN (SELECT COALESCE(l.server, '') AS server, COALESCE(l.tool, '') AS tool, \
             COALESCE(l.session_id, l.trace_id) AS thread, SUM(l.effective_cost) AS cost FROM ledger l{lines} \
             AND l.call_id IS NOT NULL AND l.cause IN ('call', 'result', 'direct') GROUP BY 1, 2, 3) AS c \
             ON c.server = r.server AND c.tool = r.tool AND c.thread = r.thread WHERE r.repeats > 0 AND c.cost > 0 \
             ORDER BY c.cost DESC, r.thread",
            calls = self.calls,
            lines = self.lines
        );
        let answer = self.ask(&sql).await?;
        let mut tools: BTreeMap<(String, String), Saving> = BTreeMap::new();
        for row in rows(&answer) {
            let (calls, repeats) = (row.count("calls").max(1), row.count("repeats"));
            let cost = FemtoUsd(row.cost("cost").unwrap_or_default().0 * i128::from(repeats) / i128::from(calls));
            let key = (
                row.text("server").unwrap_or_default(),
                row.text("tool").unwrap_or_default(),
            );
            let counts = vec![("repeated_calls", 0), ("sessions", 0)];
            let saving = tools
                .entry(key)
                .or_insert_with(|| of_tool(Kind::IdenticalCalls, row, None, counts));
            saving.cost = Some(saving.cost.unwrap_or_default() + cost);
            for (name, count) in &mut saving.counts {
                *count += if *name == "sessions" { 1 } else { repeats };
            }
            push_example(&mut saving.sessions, row.text("thread"));
            push_example(&mut saving.call_ids, row.text("call_id"));
        }
        Ok(tools.into_values().collect())
    }

    async fn retry_loops(&self) -> Result<Vec<Saving>> {
        let sql = format!(
            "SELECT r.server AS server, r.tool AS tool, r.thread AS thread, r.n AS n, r.call_id AS call_id, \
             SUM(m.own_cost) AS cost, COUNT(*) AS llm_calls FROM (\
             SELECT server, tool, thread, nth - nth_of_status AS run, COUNT(*) AS n, MIN(time) AS first, MAX(time) AS last, \
             MIN(call_id) AS call_id FROM (\
             SELECT COALESCE(server, '') AS server, COALESCE(tool, '') AS tool, {THREAD} AS thread, call_id, time, status, \
             ROW_NUMBER() OVER (PARTITION BY server, tool, {THREAD} ORDER BY time, call_id) AS nth, \
             ROW_NUMBER() OVER (PARTITION BY server, tool, {THREAD}, status ORDER BY time, call_id) AS nth_of_status \
             FROM calls{} AND kind = 'tool' AND {THREAD} IS NOT NULL) WHERE status = 'error' \
             GROUP BY 1, 2, 3, 4 HAVING COUNT(*) >= {FAILURES_MIN}) AS r \
             JOIN (SELECT {THREAD} AS thread, time, own_cost FROM calls WHERE kind = 'llm' AND own_cost IS NOT NULL) AS m \
             ON m.thread = r.thread AND m.time > r.first AND m.time <= r.last GROUP BY 1, 2, 3, r.run, 4, 5 \
             ORDER BY 6 DESC, 3, 5",
            self.calls
        );
        let answer = self.ask(&sql).await?;
        let mut tools: BTreeMap<(String, String), Saving> = BTreeMap::new();
        for row in rows(&answer) {
            let key = (
                row.text("server").unwrap_or_default(),
                row.text("tool").unwrap_or_default(),
            );
            let counts = vec![("failed_calls", 0), ("loops", 0), ("llm_calls", 0)];
            let saving = tools
                .entry(key)
                .or_insert_with(|| of_tool(Kind::RetryLoops, row, None, counts));
            saving.cost = Some(saving.cost.unwrap_or_default() + row.cost("cost").unwrap_or_default());
            for (name, count) in &mut saving.counts {
                *count += match *name {
                    "failed_calls" => row.count("n"),
                    "loops" => 1,
                    _ => row.count("llm_calls"),
                };
            }
            push_example(&mut saving.sessions, row.text("thread"));
            push_example(&mut saving.call_ids, row.text("call_id"));
        }
        Ok(tools.into_values().collect())
    }

    async fn cheaper_model(&self) -> Result<Vec<Saving>> {
        let model = "COALESCE(response_model, request_model)";
        let sql = format!(
            "SELECT provider, model, price(provider, model, time, {UNIT_TOKENS}, {UNIT_TOKENS}) AS cost FROM (\
             SELECT provider, {model} AS model, MAX(time) AS time FROM calls{} AND kind = 'llm' AND provider IS NOT NULL \
             GROUP BY 1, 2) ORDER BY 1, 3, 2",
            self.calls
        );
        let answer = self.ask(&sql).await?;
        let mut cheapest: BTreeMap<String, String> = BTreeMap::new();
        for row in rows(&answer) {
            let is_priced = row.cost("cost").is_some_and(|cost| cost > FemtoUsd::ZERO);
            if let (Some(provider), Some(model), true) = (row.text("provider"), row.text("model"), is_priced) {
                cheapest.entry(provider).or_insert(model);
            }
        }
        let mut savings = Vec::new();
        for (provider, cheaper) in cheapest.iter().take(PROVIDERS_MAX) {
            let sql = format!(
                "SELECT provider, model, COUNT(*) AS calls, SUM(own_cost - other) AS cost, MIN(call_id) AS call_id FROM (\
                 SELECT provider, {model} AS model, own_cost, call_id, price(provider, {}, time, input_tokens, output_tokens, \
                 cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens) AS other FROM calls{} AND kind = 'llm' \
                 AND provider = {} AND {model} <> {} AND input_tokens <= {SHORT_INPUT_TOKENS} \
                 AND output_tokens <= {SHORT_OUTPUT_TOKENS} AND own_cost IS NOT NULL) WHERE other < own_cost \
                 GROUP BY 1, 2 HAVING COUNT(*) >= {SHORT_CALLS_MIN}",
                quoted(cheaper),
                self.calls,
                quoted(provider),
                quoted(cheaper)
            );
            let answer = self.ask(&sql).await?;
            savings.extend(rows(&answer).map(|row| Saving {
                kind: Kind::CheaperModel,
                subject: model_name(row),
                cost: row.cost("cost"),
                monthly: None,
                counts: vec![("short_calls", row.count("calls"))],
                sessions: Vec::new(),
                call_ids: row.text("call_id").into_iter().collect(),
                detail: Some(format!("priced as {cheaper}")),
            }));
        }
        Ok(savings)
    }

    async fn unpriced_usage(&self) -> Result<Vec<Saving>> {
        let sql = format!(
            "SELECT l.provider AS provider, l.model AS model, SUM(l.tokens) AS tokens, MIN(l.call_id) AS call_id \
             FROM ledger l{} AND l.effective_cost IS NULL GROUP BY 1, 2 HAVING SUM(l.tokens) > 0 ORDER BY 3 DESC, 1, 2",
            self.lines
        );
        let answer = self.ask(&sql).await?;
        let saving = |row: Row<'_>| Saving {
            kind: Kind::UnpricedUsage,
            subject: model_name(row),
            cost: None,
            monthly: None,
            counts: vec![("tokens", row.count("tokens"))],
            sessions: Vec::new(),
            call_ids: row.text("call_id").into_iter().collect(),
            detail: Some("cost unknown: in no figure".to_owned()),
        };
        Ok(rows(&answer).map(saving).collect())
    }
}

/// Cost of [`UNIT_TOKENS`] tokens.
struct Rates {
    input: FemtoUsd,
    read: FemtoUsd,
    write: FemtoUsd,
}

/// The first three of a partition, by their place `nth`.
const EXAMPLES: &str = "MIN(CASE WHEN nth = 1 THEN thread END) AS e1, MIN(CASE WHEN nth = 2 THEN thread END) AS e2, \
     MIN(CASE WHEN nth = 3 THEN thread END) AS e3";

fn of_tool(kind: Kind, row: Row<'_>, cost: Option<FemtoUsd>, counts: Vec<(&'static str, i64)>) -> Saving {
    let named = |name| row.text(name).filter(|text| !text.is_empty());
    let server = named("server").unwrap_or_else(|| "(host)".to_owned());
    let tool = named("tool").unwrap_or_else(|| "(unnamed)".to_owned());
    Saving {
        kind,
        subject: format!("{server}/{tool}"),
        cost,
        monthly: None,
        counts,
        sessions: ["e1", "e2", "e3"]
            .into_iter()
            .filter_map(|name| row.text(name))
            .collect(),
        call_ids: Vec::new(),
        detail: None,
    }
}

fn model_name(row: Row<'_>) -> String {
    let named = |name| row.text(name).unwrap_or_else(|| "(none)".to_owned());
    format!("{}/{}", named("provider"), named("model"))
}

fn push_example(examples: &mut Vec<String>, example: Option<String>) {
    if let Some(example) = example
        && examples.len() < 3
        && !examples.contains(&example)
    {
        examples.push(example);
    }
}
