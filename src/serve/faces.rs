//! REST, MCP and dashboard: the faces of the engine, as one router.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use spanledger_lake::Positions;
use spanledger_ledger::settle::{SettleReport, Settler};
use spanledger_mcp_server::Shared as McpShared;
use spanledger_query::http::Endpoints;
use spanledger_query::report::Reports;
use spanledger_query::{Control, Engine, Error, ErrorKind, Result, ServerFacts};
use tokio::sync::watch;
use tracing::Instrument as _;

use super::Addresses;
use super::credentials::Credentials;
use crate::config::Config;
use crate::telemetry::OwnCalls;

/// Reports are kept for days: an hour more is nothing.
const REPORTS_CLEARED_EVERY: Duration = Duration::from_secs(3_600);

/// What the REST interface needs of the server around it.
pub struct ServerControl {
    settler: Arc<Settler>,
    facts: ServerFacts,
    reports: Option<Reports>,
}

impl ServerControl {
    /// The control of a server that listens at `addresses` since `started_ns`.
    pub fn new(settler: Arc<Settler>, addresses: &Addresses, started_ns: i64) -> Self {
        let url = |address: std::net::SocketAddr| Some(format!("http://{address}"));
        let endpoints = Endpoints {
            otlp_grpc: url(addresses.otlp_grpc),
            otlp_http: url(addresses.otlp_http),
            http: url(addresses.http),
        };
        let facts = ServerFacts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ns,
            endpoints,
        };
        Self {
            settler,
            facts,
            reports: None,
        }
    }

    /// The same control of a server that keeps reports.
    pub fn with_reports(self, reports: Reports) -> Self {
        Self {
            reports: Some(reports),
            ..self
        }
    }
}

#[async_trait]
impl Control for ServerControl {
    async fn settle(&self) -> Result<Positions> {
        Ok(self.settle_with(false).await?.positions)
    }

    async fn settle_with(&self, is_rebuild: bool) -> Result<SettleReport> {
        let span = tracing::info_span!("settle", is_rebuild);
        let settled = if is_rebuild {
            self.settler.rebuild().instrument(span).await
        } else {
            self.settler.settle_now().instrument(span).await
        };
        settled.map_err(|error| {
            let kind = match error.kind() {
                spanledger_ledger::ErrorKind::Busy => ErrorKind::Busy,
                spanledger_ledger::ErrorKind::Corrupt => ErrorKind::Corrupt,
                _ => ErrorKind::Internal,
            };
            Error::new(kind, error.message().to_owned()).with_source(error)
        })
    }

    fn facts(&self) -> ServerFacts {
        self.facts.clone()
    }

    fn reports(&self) -> Option<&Reports> {
        self.reports.as_ref()
    }
}

/// The reports of the data folder, where the MCP server keeps its own too.
pub fn reports(credentials: &Credentials, config: &Config) -> Reports {
    Reports::new(credentials.state.clone(), config.data().join("reports"))
}

/// Removes reports that are over, now and then, until the server stops.
pub async fn clear_reports(reports: Reports, engine: Engine, mut stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(REPORTS_CLEARED_EVERY);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            _ = ticks.tick() => {}
        }
        match reports.clear(engine.now_ns()).await {
            Ok(0) => {}
            Ok(n_removed) => tracing::info!(n_removed, "expired reports were removed"),
            Err(error) => tracing::warn!(%error, "expired reports cannot be removed"),
        }
    }
}

/// What the MCP server works with.
pub fn mcp(engine: &Engine, credentials: &Credentials, config: &Config, meter: Option<OwnCalls>) -> McpShared {
    let mcp = McpShared::new(engine.clone())
        .with_state(credentials.state.clone())
        .with_data(config.data())
        .with_public_url(&credentials.public_url)
        .with_audit(credentials.audit.clone())
        .with_challenges(credentials.challenges.clone())
        .with_names(credentials.names.clone())
        .with_task_settings(config.mcp.tasks())
        .with_unasked_file_bytes(config.mcp.unasked_file_bytes.value)
        .with_conformance_fixtures(config.mcp.conformance_fixtures);
    match meter {
        Some(meter) => mcp.with_meter(Arc::new(meter)),
        None => mcp,
    }
    .started()
}

/// All faces. They trust the principal in a request's extensions: put the layer of access around them.
pub fn router(engine: &Engine, control: Arc<dyn Control>, mcp: McpShared) -> Router {
    // Only a server without control state, which there is none of here, has no budgets.
    let finops = mcp
        .finops()
        .map(spanledger_query::finops::http::router)
        .unwrap_or_default();
    spanledger_query::router(engine.clone(), control)
        .merge(finops)
        .merge(spanledger_mcp_server::router(mcp))
        .merge(spanledger_dashboards::router())
}
