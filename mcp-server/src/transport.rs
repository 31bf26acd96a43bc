//! The two ways in: Streamable HTTP at `/mcp`, and standard input and output.

use std::sync::Arc;

use axum::Router;
use rmcp::ServiceExt;
use rmcp::transport::stdio;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use crate::error::{Error, ErrorKind, Result};
use crate::limits::BODY_BYTES_MAX;
use crate::server::LedgerServer;
use crate::shared::Shared;

/// Path of the endpoint.
const PATH: &str = "/mcp";
/// Names under which this machine may be asked: anything else is DNS rebinding.
const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Pages that may ask: those of this machine. A request without Origin is a program, and allowed.
const ORIGINS: [&str; 6] = [
    "http://localhost:*",
    "http://127.0.0.1:*",
    "http://[::1]:*",
    "https://localhost:*",
    "https://127.0.0.1:*",
    "https://[::1]:*",
];

/// The endpoint at `/mcp`: both eras, each request on its own. Clients of 2025-11-25 get no session id,
/// which their specification leaves to the server, so nothing is lost when it restarts.
pub fn router(shared: impl Into<Shared>) -> Router {
    let config = StreamableHttpServerConfig::default()
        .with_allowed_hosts(HOSTS)
        .with_allowed_origins(ORIGINS)
        .enforce_origin_validation()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(BODY_BYTES_MAX);
    let server = LedgerServer::new(shared);
    let service = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(NeverSessionManager::default()),
        config,
    );
    Router::new().route_service(PATH, service)
}

/// Serves one client over standard input and output until it closes the input. Nothing else may write to
/// standard output meanwhile.
///
/// # Errors
/// [`Internal`](ErrorKind::Internal) where the first message is not MCP, or serving fails.
pub async fn serve_stdio(shared: impl Into<Shared>) -> Result<()> {
    let running = LedgerServer::new(shared).serve(stdio()).await.map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            "the client did not start an MCP conversation; point an MCP client at `spanledger mcp`",
            error,
        )
    })?;
    running
        .waiting()
        .await
        .map(|_| ())
        .map_err(|error| Error::new(ErrorKind::Internal, "the MCP conversation ended in an error", error))
}
