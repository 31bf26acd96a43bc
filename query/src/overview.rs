//! What the first page shows: the period's total beside the one before, what is unpriced, the latest
//! calls, and how much there is.

use datafusion::arrow::array::AsArray;
use serde::Serialize;
use spanledger_access::Principal;
use spanledger_lake::{Positions, Table, TableSnapshot};

use crate::costs::{self, CostReport, CostRequest};
use crate::engine::{Engine, QueryOptions, ResultSet};
use crate::error::Result;
use crate::limits::CALLS_MAX;
use crate::rows::rows;

/// Unpriced models listed.
const UNPRICED_MODELS_MAX: usize = 20;

/// A model without a price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnpricedModel {
    /// Provider, as reported.
    pub provider: Option<String>,
    /// Model, as reported.
    pub model: Option<String>,
    /// Calls.
    pub calls: i64,
    /// Tokens.
    pub tokens: i64,
}

/// The first page.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overview {
    /// The period; its total is the report's.
    pub period: CostReport,
    /// The period of the same length before it; absent where the period has no start.
    pub previous: Option<CostReport>,
    /// Models without a price, of all time, most tokens first.
    pub unpriced: Vec<UnpricedModel>,
    /// How far each step has come.
    pub freshness: Positions,
}

/// How much there is, of one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ServerStatus {
    /// True until the first record arrives.
    pub waiting_for_first_span: bool,
    /// Spans.
    pub n_spans: u64,
    /// Log records.
    pub n_logs: u64,
    /// Metric points.
    pub n_metrics: u64,
    /// Observations.
    pub n_observations: u64,
    /// Calls.
    pub n_calls: u64,
    /// Ledger lines.
    pub n_ledger_lines: u64,
    /// How far each step has come.
    pub positions: Positions,
}

impl Engine {
    /// The first page for a period.
    ///
    /// # Errors
    /// Those of [`Engine::sql`].
    pub async fn overview(
        &self,
        principal: &Principal,
        since_ns: Option<i64>,
        until_ns: Option<i64>,
    ) -> Result<Overview> {
        let session = self.session(principal);
        let (since_ns, until_ns) = costs::whole_hours(since_ns, until_ns);
        let request = CostRequest {
            since_ns,
            until_ns,
            ..CostRequest::default()
        };
        let period = costs::report(&session, &request).await?;
        let previous = match since_ns {
            Some(since_ns) => {
                let length_ns = until_ns
                    .unwrap_or_else(|| self.now_ns())
                    .saturating_sub(since_ns)
                    .max(0);
                let request = CostRequest {
                    since_ns: Some(since_ns.saturating_sub(length_ns)),
                    until_ns: Some(since_ns),
                    ..CostRequest::default()
                };
                Some(costs::report(&session, &request).await?)
            }
            None => None,
        };
        let sql = format!(
            "SELECT provider, model, calls, tokens FROM unpriced ORDER BY tokens DESC NULLS LAST, model, provider LIMIT {UNPRICED_MODELS_MAX}"
        );
        let unpriced = session.query(&sql, &QueryOptions::default()).await?;
        let unpriced = rows(&unpriced).map(|row| UnpricedModel {
            provider: row.text("provider"),
            model: row.text("model"),
            calls: row.count("calls"),
            tokens: row.count("tokens"),
        });
        Ok(Overview {
            period,
            previous,
            unpriced: unpriced.collect(),
            freshness: self.lake().positions(),
        })
    }

    /// The newest calls, newest first.
    ///
    /// # Errors
    /// Those of [`Engine::sql`].
    pub async fn latest_calls(&self, principal: &Principal, limit: usize) -> Result<ResultSet> {
        let sql = format!(
            "SELECT time, call_id, kind, status, error_type, duration_ns, team, project, cost_center, environment, user_id, agent, client, \
             service, session_id, server, tool, prompt, resource_uri, mcp_method, provider, \
             COALESCE(response_model, request_model) AS model, input_tokens, cache_read_tokens, output_tokens, \
             own_cost, total_cost, {} AS unpriced, trace_id, span_id, dialects \
             FROM calls ORDER BY calls.time DESC, calls.start_ns DESC, call_id LIMIT {}",
            format_args!("COALESCE({}, false)", crate::views::IS_UNPRICED),
            limit.min(CALLS_MAX)
        );
        self.sql(principal, &sql, &QueryOptions::default()).await
    }

    /// How much there is: without reading a file where the principal sees all rows of its tenant.
    ///
    /// # Errors
    /// Those of [`Lake::snapshot`](spanledger_lake::Lake::snapshot); with a row filter, those of [`Engine::sql`].
    pub async fn status(&self, principal: &Principal) -> Result<ServerStatus> {
        if !principal.rows().is_empty() {
            return self.status_in_sight(principal).await;
        }
        let tenant = principal.tenant().as_str();
        let count = |table| Ok::<_, crate::Error>(n_rows(&self.lake().snapshot(table)?, tenant));
        let (n_spans, n_logs, n_metrics) = (count(Table::Spans)?, count(Table::Logs)?, count(Table::Metrics)?);
        Ok(ServerStatus {
            waiting_for_first_span: n_spans + n_logs + n_metrics == 0,
            n_spans,
            n_logs,
            n_metrics,
            n_observations: count(Table::Observations)?,
            n_calls: count(Table::Calls)?,
            n_ledger_lines: count(Table::Ledger)?,
            positions: self.lake().positions(),
        })
    }

    /// The counts of what a row filter leaves. Logs and metric points are not shown with one, so they are 0.
    async fn status_in_sight(&self, principal: &Principal) -> Result<ServerStatus> {
        let session = self.session(principal);
        let count = async |table: Table| {
            let sql = format!("SELECT COUNT(*) AS n FROM {}", table.name());
            let answer = session.query(&sql, &QueryOptions::default()).await?;
            let n_rows = rows(&answer).next().map_or(0, |row| row.count("n"));
            Ok::<_, crate::Error>(u64::try_from(n_rows).unwrap_or_default())
        };
        let n_calls = count(Table::Calls).await?;
        Ok(ServerStatus {
            waiting_for_first_span: n_calls == 0,
            n_spans: count(Table::Spans).await?,
            n_logs: 0,
            n_metrics: 0,
            n_observations: count(Table::Observations).await?,
            n_calls,
            n_ledger_lines: count(Table::Ledger).await?,
            positions: self.lake().positions(),
        })
    }
}

fn n_rows(snapshot: &TableSnapshot, tenant: &str) -> u64 {
    let in_files = snapshot
        .files
        .iter()
        .filter(|file| file.tenant == tenant)
        .map(|file| file.n_rows);
    let hot = snapshot.hot.iter().map(|batch| {
        let tenants = batch
            .column_by_name("tenant")
            .and_then(|column| column.as_string_opt::<i32>());
        tenants.map_or(0, |tenants| {
            tenants.iter().flatten().filter(|owner| *owner == tenant).count() as u64
        })
    });
    in_files.sum::<u64>() + hot.sum::<u64>()
}
