//! The routes of the HTTP port: REST, MCP, dashboard, health and metrics, behind one Host and Origin check.
//!
//! The check is one layer over everything, so a route added later is behind it as well.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use spanledger_access::origin::request_is_local;
use tracing::Instrument as _;

use crate::telemetry::{Instruments, Telemetry};

/// Whether the server takes requests.
pub type Readiness = tokio::sync::watch::Receiver<bool>;

/// What the routes of this package need.
#[derive(Clone)]
pub struct Shared {
    /// Registry behind `/metrics`.
    pub registry: prometheus::Registry,
    /// Request instruments.
    pub instruments: Instruments,
    /// Turns false when the server stops.
    pub readiness: Readiness,
}

/// The whole HTTP port. `faces` are REST, MCP and dashboard.
pub fn router(faces: Router, shared: Shared) -> Router {
    let own = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shared.clone());
    own.merge(faces)
        .layer(middleware::from_fn_with_state(shared, observe))
        .layer(middleware::from_fn(only_local))
}

async fn ready(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    if *shared.readiness.borrow() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    match Telemetry::render(&shared.registry) {
        Ok(text) => (
            [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
            text,
        )
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "metrics cannot be encoded; see the log\n",
            )
                .into_response()
        }
    }
}

/// Refuses what another site's page could have sent (DNS rebinding).
async fn only_local(request: Request, next: Next) -> Response {
    // HTTP/2 has no Host header: its authority stands in the address.
    let host = text(request.headers(), header::HOST).or_else(|| request.uri().authority().map(|name| name.as_str()));
    if request_is_local(host, text(request.headers(), header::ORIGIN)) {
        return next.run(request).await;
    }
    let body = serde_json::json!({ "error": {
        "kind": "forbidden",
        "message": "this server answers pages and hosts of this machine only; use http://127.0.0.1 or http://localhost",
    }});
    (
        StatusCode::FORBIDDEN,
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
        .into_response()
}

/// A header as text; one that is not text counts as foreign.
fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

async fn observe(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = route_of(request.uri().path());
    let span =
        tracing::info_span!("http request", otel.kind = "server", http.request.method = %method, http.route = route);
    let started = std::time::Instant::now();
    let response = next.run(request).instrument(span).await;
    shared
        .instruments
        .request(method.as_str(), route, response.status().as_u16(), started.elapsed());
    response
}

/// The first parts of a path: few values, so that metrics stay small whatever is asked for.
fn route_of(path: &str) -> &'static str {
    const KNOWN: [&str; 10] = [
        "/api/v1/sql",
        "/api/v1/costs",
        "/api/v1/spend",
        "/api/v1/calls",
        "/api/v1/traces",
        "/api/v1/prices",
        "/api/v1/status",
        "/mcp",
        "/metrics",
        "/healthz",
    ];
    KNOWN
        .into_iter()
        .find(|known| {
            path.strip_prefix(known)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
        .unwrap_or(if path.starts_with("/api/") { "/api/…" } else { "/…" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use axum::body::Body;
    use tower::ServiceExt as _;

    async fn status(host: &str, origin: Option<&str>, path: &str) -> StatusCode {
        let (_sender, readiness) = tokio::sync::watch::channel(true);
        let provider = opentelemetry_sdk::metrics::SdkMeterProvider::builder().build();
        let shared = Shared {
            registry: prometheus::Registry::new(),
            instruments: Instruments::new(&provider),
            readiness,
        };
        let mut request = Request::builder().uri(path).header(header::HOST, host);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        let request = request.body(Body::empty()).unwrap();
        router(Router::new().route("/api/v1/status", get(async || "{}")), shared)
            .oneshot(request)
            .await
            .unwrap()
            .status()
    }

    #[tokio::test]
    async fn a_rebound_host_or_foreign_origin_is_refused_on_every_route() {
        for path in ["/healthz", "/readyz", "/metrics", "/api/v1/status", "/nothing"] {
            assert_eq!(
                status("evil.example", None, path).await,
                StatusCode::FORBIDDEN,
                "{path}"
            );
            assert_eq!(
                status("127.0.0.1:8080", Some("https://evil.example"), path).await,
                StatusCode::FORBIDDEN
            );
        }
    }

    #[tokio::test]
    async fn this_machine_is_answered() {
        for path in ["/healthz", "/readyz", "/metrics", "/api/v1/status"] {
            assert_eq!(
                status("localhost:8080", Some("http://localhost:8080"), path).await,
                StatusCode::OK,
                "{path}"
            );
        }
    }

    #[test]
    fn routes_in_metrics_are_few() {
        for (path, route) in [
            ("/api/v1/traces/abc", "/api/v1/traces"),
            ("/api/v1/sqlx", "/api/…"),
            ("/x/y", "/…"),
            ("/mcp", "/mcp"),
        ] {
            assert_eq!(route_of(path), route);
        }
    }
}
