//! What an id in somebody's hand is: a trace, a session of several traces, or a call within one.
//!
//! Ids are copied from tables, links and logs, often cut short. A trace's id gives its tree; a session's id gives
//! its traces with their costs, or the tree where it has one trace only; the first digits of a call's id give the
//! tree of its trace. The own costs of a tree, and the costs of a session's traces, sum to the total.

use spanledger_access::Principal;
use spanledger_model::{FemtoUsd, TraceId};

use crate::costs::quoted;
use crate::engine::{Engine, QueryOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{CALL_ID_PREFIX_MIN, TRACE_SPANS_MAX};
use crate::rows::{Row, rows};
use crate::trace::TraceTree;
use crate::views::IS_UNPRICED;

/// Longest id that is looked up, in bytes: sessions are named by their hosts.
const ID_BYTES_MAX: usize = 256;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspected {
    /// The tree of one trace.
    Trace(TraceTree),
    /// A session of several traces.
    Session(SessionTraces),
}

/// A session and its traces, dearest first. Calls without a trace are one row without an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTraces {
    /// The session's id.
    pub session_id: String,
    /// Sums over all traces.
    pub total: TraceSum,
    /// Each trace.
    pub traces: Vec<TraceSum>,
    /// True where there are more traces than are read.
    pub truncated: bool,
}

/// Sums over the calls of a trace or a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceSum {
    /// Trace id, hex.
    pub trace_id: Option<String>,
    /// First start, nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// Calls of any kind.
    pub calls: i64,
    /// Model answers.
    pub llm_calls: i64,
    /// Calls that failed.
    pub errors: i64,
    /// Input tokens.
    pub input_tokens: i64,
    /// Output tokens.
    pub output_tokens: i64,
    /// Cost; zero where nothing in it is priced.
    pub cost: FemtoUsd,
    /// Calls whose cost is not known.
    pub unpriced_calls: i64,
}

impl TraceSum {
    fn read(row: Row<'_>) -> Self {
        Self {
            trace_id: row.text("trace_id"),
            start_ns: row.count("first_ns"),
            calls: row.count("calls"),
            llm_calls: row.count("llm_calls"),
            errors: row.count("errors"),
            input_tokens: row.count("input_tokens"),
            output_tokens: row.count("output_tokens"),
            cost: row.cost("cost").unwrap_or(FemtoUsd::ZERO),
            unpriced_calls: row.count("unpriced_calls"),
        }
    }

    fn add(&mut self, other: &Self) {
        self.start_ns = match self.calls {
            0 => other.start_ns,
            _ => self.start_ns.min(other.start_ns),
        };
        self.calls += other.calls;
        self.llm_calls += other.llm_calls;
        self.errors += other.errors;
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.cost += other.cost;
        self.unpriced_calls += other.unpriced_calls;
    }
}

impl Engine {
    /// What `id` is: a trace id, a session id, or the first digits of a call's id.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) where the principal sees nothing of that id, [`Invalid`](ErrorKind::Invalid)
    /// where several calls begin with it, and those of [`Engine::sql`].
    pub async fn inspect(&self, principal: &Principal, id: &str) -> Result<Inspected> {
        let id = id.trim();
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(Error::invalid(format!(
                "an id has 1 to {ID_BYTES_MAX} bytes: of a trace, a session, or the first digits of a call's"
            )));
        }
        if let Some(trace_id) = TraceId::from_hex(&id.to_ascii_lowercase()) {
            match self.trace(principal, trace_id).await {
                Ok(tree) => return Ok(Inspected::Trace(tree)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(session) = self.session_traces(principal, id).await? {
            if let ([only], false) = (session.traces.as_slice(), session.truncated)
                && let Some(trace_id) = only.trace_id.as_deref().and_then(TraceId::from_hex)
            {
                return Ok(Inspected::Trace(self.trace(principal, trace_id).await?));
            }
            return Ok(Inspected::Session(session));
        }
        let trace_id = self.trace_of_call(principal, &id.to_ascii_lowercase()).await?;
        Ok(Inspected::Trace(self.trace(principal, trace_id).await?))
    }

    async fn session_traces(&self, principal: &Principal, id: &str) -> Result<Option<SessionTraces>> {
        let sql = format!(
            "SELECT trace_id, MIN(start_ns) AS first_ns, COUNT(*) AS calls, \
             COUNT(*) FILTER (WHERE kind IN ('llm', 'embedding')) AS llm_calls, \
             COUNT(*) FILTER (WHERE status = 'error') AS errors, \
             COALESCE(SUM(input_tokens), 0) AS input_tokens, COALESCE(SUM(output_tokens), 0) AS output_tokens, \
             SUM(own_cost) AS cost, COUNT(*) FILTER (WHERE {IS_UNPRICED}) AS unpriced_calls \
             FROM calls WHERE session_id = {} GROUP BY trace_id ORDER BY cost DESC NULLS LAST, first_ns, trace_id",
            quoted(id)
        );
        let options = QueryOptions {
            rows_max: TRACE_SPANS_MAX,
            ..QueryOptions::default()
        };
        let found = self.sql(principal, &sql, &options).await?;
        let traces: Vec<TraceSum> = rows(&found).map(TraceSum::read).collect();
        if traces.is_empty() {
            return Ok(None);
        }
        let mut total = TraceSum::default();
        for trace in &traces {
            total.add(trace);
        }
        Ok(Some(SessionTraces {
            session_id: id.to_owned(),
            total,
            traces,
            truncated: found.truncated,
        }))
    }

    async fn trace_of_call(&self, principal: &Principal, prefix: &str) -> Result<TraceId> {
        let unknown = || {
            Error::new(
                ErrorKind::NotFound,
                format!(
                    "there is no trace, session or call `{prefix}`; query_costs by session_id or trace_id in calls name some"
                ),
            )
        };
        let is_prefix = prefix.len() >= CALL_ID_PREFIX_MIN && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_prefix {
            return Err(unknown());
        }
        let sql = format!(
            "SELECT DISTINCT trace_id FROM calls WHERE call_id LIKE {} AND trace_id IS NOT NULL LIMIT 2",
            quoted(&format!("{prefix}%"))
        );
        let found = self.sql(principal, &sql, &QueryOptions::default()).await?;
        let mut ids = rows(&found).filter_map(|row| row.text("trace_id"));
        match (ids.next(), ids.next()) {
            (Some(one), None) => TraceId::from_hex(&one).ok_or_else(unknown),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "several calls begin with `{prefix}`; give more digits"
            ))),
            _ => Err(unknown()),
        }
    }
}
