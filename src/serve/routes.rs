//! The routes of the HTTP port: REST, MCP, dashboard, health and metrics, behind one Host and Origin check and one
//! layer that demands what each route's rule says ([`super::access`]).
//!
//! Both are layers over everything, so a route added later is behind them as well.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use spanledger_access::challenge::{self, Challenges};
use spanledger_access::origin::Names;
use spanledger_access::routes::{Need, RouteRule};
use spanledger_access::{Scope, routes};
use tracing::Instrument as _;

use super::access::{self, Access, host_of};
use super::admin::{self, Admin};
use super::credentials::Credentials;
use super::session;
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

routes! {
    /// What a machine asks. Figures of the whole server are no tenant's, so that they need its administrator.
    pub ROUTES, table: Shared;
    GET "/healthz", Need::Public => healthy;
    GET "/readyz", Need::Public => ready;
    GET "/metrics", Need::Scope(Scope::Admin) => metrics;
}

/// The rules of the whole port.
pub fn rules() -> Vec<RouteRule> {
    [
        ROUTES,
        session::ROUTES,
        admin::ROUTES,
        challenge::ROUTES,
        spanledger_query::http::ROUTES,
        spanledger_query::finops::http::ROUTES,
        spanledger_mcp_server::ROUTES,
        spanledger_dashboards::ROUTES,
    ]
    .concat()
}

/// The whole HTTP port. `faces` are REST, MCP and dashboard.
pub fn router(faces: Router, shared: Shared, credentials: Credentials) -> Router {
    let access = Access::new(credentials.clone(), rules());
    let names = credentials.names.clone();
    let admin = Admin {
        credentials: credentials.clone(),
        rules: access.rules().into(),
    };
    table()
        .with_state(shared.clone())
        .merge(metadata(&credentials.challenges))
        .merge(session::router(credentials))
        .merge(admin::router(admin))
        .merge(faces)
        .layer(middleware::from_fn_with_state(access, access::enforce))
        .layer(middleware::from_fn_with_state(shared, observe))
        .layer(middleware::from_fn_with_state(names, only_known_names))
}

/// Where OAuth clients read who gives tokens for this server (RFC 9728).
fn metadata(challenges: &Challenges) -> Router {
    challenge::ROUTES.iter().fold(Router::new(), |router, rule| {
        let document = challenges.metadata(rule.path);
        router.route(
            rule.path,
            get(async move || match document {
                Some(document) => session::answer(StatusCode::OK, &document),
                None => StatusCode::NOT_FOUND.into_response(),
            }),
        )
    })
}

async fn healthy() -> &'static str {
    "ok\n"
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
async fn only_known_names(State(names): State<Names>, request: Request, next: Next) -> Response {
    // A header that is not text counts as foreign.
    let origin = request.headers().get(header::ORIGIN);
    let origin = origin.map(|origin| origin.to_str().unwrap_or("?"));
    if names.allow(host_of(request.headers(), request.uri()), origin) {
        return next.run(request).await;
    }
    let message = if names == Names::local() {
        "this server answers pages and hosts of this machine only; use http://127.0.0.1 or http://localhost"
    } else {
        "this server does not answer to this host or to pages of this origin; use the address in http.public_url"
    };
    let body = serde_json::json!({ "error": { "kind": "forbidden", "message": message } });
    (
        StatusCode::FORBIDDEN,
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
        .into_response()
}

async fn observe(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = route_of(request.uri().path());
    let span = tracing::info_span!(
        "http request",
        otel.kind = "server",
        http.request.method = known(&method),
        http.route = route
    );
    let started = std::time::Instant::now();
    let response = next.run(request).instrument(span).await;
    shared
        .instruments
        .request(known(&method), route, response.status().as_u16(), started.elapsed());
    response
}

/// A method of HTTP, or `_OTHER`: a client may make up any, and each would be a label of its own.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|name| method == name).unwrap_or("_OTHER")
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
        let folder = tempfile::tempdir().unwrap();
        let flags = crate::config::Flags {
            data: Some(folder.path().to_owned()),
            ..crate::config::Flags::default()
        };
        let config = crate::config::Config::load(flags).unwrap();
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 8080));
        let addresses = crate::serve::Addresses {
            http: address,
            otlp_grpc: address,
            otlp_http: address,
        };
        let clock: std::sync::Arc<dyn spanledger_model::Clock> =
            std::sync::Arc::new(spanledger_model::clock::SystemClock);
        let credentials = Credentials::open(&config, &addresses, &clock).await.unwrap();
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
        let faces = Router::new()
            .route("/api/v1/status", get(async || "{}"))
            .route("/api/v2/new", get(async || "{}"));
        router(faces, shared, credentials)
            .oneshot(request)
            .await
            .unwrap()
            .status()
    }

    #[tokio::test]
    async fn a_route_that_has_no_rule_is_refused_even_where_there_is_no_login() {
        assert_eq!(status("localhost", None, "/api/v2/new").await, StatusCode::FORBIDDEN);
        assert_eq!(status("localhost", None, "/nothing").await, StatusCode::NOT_FOUND);
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
    fn routes_and_methods_in_metrics_are_few() {
        let made_up = Method::from_bytes(b"CANARY").unwrap();
        assert_eq!((known(&Method::GET), known(&made_up)), ("GET", "_OTHER"));
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
