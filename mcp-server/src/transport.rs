//! The two ways in: Streamable HTTP at `/mcp`, and standard input and output.

use axum::Router;
use axum::routing::any;
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use spanledger_access::routes::{Need, RouteRule};

use crate::error::Result;
use crate::front::{self, Front, PATH};
use crate::limits::BODY_BYTES_MAX;
use crate::shared::Shared;
use crate::stdio;

/// What the routes need. What a message needs beyond a credential, `front` demands.
pub const ROUTES: &[RouteRule] = &[RouteRule::new("*", PATH, Need::Credential)];

/// The endpoint at `/mcp`: both eras. Every request stands on its own, so nothing is lost at a restart, but for
/// legacy clients that let the server ask them: those get a session (see `front`).
///
/// Put the `Principal` of a request into its extensions before it comes here.
pub fn router(shared: impl Into<Shared>) -> Router {
    // Hosts and origins are checked in front, where public names are known.
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .disable_allowed_origins()
        .with_json_response(true)
        .with_max_request_body_bytes(2 * BODY_BYTES_MAX);
    let shared = shared.into().started();
    let front = Front::new(shared, &config);
    Router::new().route(PATH, any(front::handle)).with_state(front)
}

/// Serves one client over standard input and output until it closes the input. Nothing else may write to
/// standard output meanwhile.
///
/// # Errors
/// [`Internal`](crate::ErrorKind::Internal) where the first message is not MCP, or serving fails.
pub async fn serve_stdio(shared: impl Into<Shared>) -> Result<()> {
    let shared = shared.into().started();
    stdio::serve(shared, tokio::io::stdin(), tokio::io::stdout()).await
}
