//! The REST routes, through the router.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use spanledger_lake::{Lake, Positions};
use tower::ServiceExt;

use super::{CANARY, Fixture, NOW_NS};
use crate::http::{Control, Endpoints, ServerFacts, TRUNCATED_HEADER, router};
use crate::limits::BODY_BYTES_MAX;

struct TestControl(Lake);

#[async_trait]
impl Control for TestControl {
    async fn settle(&self) -> crate::Result<Positions> {
        Ok(self.0.flush().await?)
    }

    fn facts(&self) -> ServerFacts {
        ServerFacts {
            version: "1.2.3".into(),
            started_ns: NOW_NS,
            endpoints: Endpoints {
                http: Some("http://127.0.0.1:8080".into()),
                ..Endpoints::default()
            },
        }
    }
}

/// The routes, asked by the local principal.
fn routes(fixture: &Fixture) -> Router {
    router(fixture.engine.clone(), Arc::new(TestControl(fixture.lake.clone())))
        .layer(axum::Extension(spanledger_access::Principal::local()))
}

async fn send(routes: &Router, request: Request<Body>) -> (Response<()>, Vec<u8>) {
    let (parts, body) = routes.clone().oneshot(request).await.unwrap().into_parts();
    (
        Response::from_parts(parts, ()),
        body.collect().await.unwrap().to_bytes().to_vec(),
    )
}

async fn get(routes: &Router, path: &str) -> (StatusCode, Value) {
    let (response, body) = send(routes, Request::get(path).body(Body::empty()).unwrap()).await;
    (
        response.status(),
        serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{path}: {}", String::from_utf8_lossy(&body))),
    )
}

fn sql(body: &Value) -> Request<Body> {
    let request = Request::post("/api/v1/sql").header(header::CONTENT_TYPE, "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}

#[tokio::test]
async fn sql_is_answered_in_the_format_asked_for() {
    let fixture = Fixture::filled().await;
    let routes = routes(&fixture);
    let query = "SELECT team, COUNT(*) AS n FROM calls GROUP BY team ORDER BY n DESC";
    let (response, body) = send(&routes, sql(&json!({ "query": query }))).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    assert!(!response.headers().contains_key(TRUNCATED_HEADER));
    let rows: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(rows[0], json!({ "team": "support", "n": 4 }));

    let (response, body) = send(&routes, sql(&json!({ "query": query, "format": "csv", "limit": 1 }))).await;
    assert!(
        response.headers()[header::CONTENT_DISPOSITION]
            .to_str()
            .unwrap()
            .contains("spanledger.csv")
    );
    assert_eq!(response.headers()[TRUNCATED_HEADER], "true");
    assert_eq!(String::from_utf8(body).unwrap(), "team,n\r\nsupport,4\r\n");

    let text = Request::post("/api/v1/sql?format=markdown").header(header::CONTENT_TYPE, "text/plain");
    let (_, body) = send(&routes, text.body(Body::from("SELECT 1 AS one")).unwrap()).await;
    assert_eq!(String::from_utf8(body).unwrap(), "| one |\n| ---: |\n| 1 |\n");
}

#[tokio::test]
async fn errors_carry_kind_message_id_and_status() {
    let fixture = Fixture::filled().await;
    let routes = routes(&fixture);
    for (request, status, kind, part) in [
        (
            sql(&json!({ "query": "DROP TABLE calls" })),
            400,
            "invalid",
            "read-only",
        ),
        (
            sql(&json!({ "query": "SELECT * FROM cals" })),
            400,
            "invalid",
            "did you mean `calls`?",
        ),
        (
            sql(&json!({ "query": "SELECT 1", "format": "xlsx" })),
            400,
            "invalid",
            "formats: table",
        ),
        (sql(&json!({ "sql": "SELECT 1" })), 400, "invalid", "query"),
        (
            sql(&json!({ "query": format!("SELECT 1{}", "+1".repeat(2_000)) })),
            413,
            "too_large",
            "operators",
        ),
        (
            Request::post("/api/v1/sql")
                .body(Body::from(vec![b'x'; BODY_BYTES_MAX + 1]))
                .unwrap(),
            413,
            "too_large",
            "bytes",
        ),
        (
            Request::get("/api/v1/costs?by=tools").body(Body::empty()).unwrap(),
            400,
            "invalid",
            "did you mean `tool`?",
        ),
        (
            Request::get("/api/v1/costs?since=soon").body(Body::empty()).unwrap(),
            400,
            "invalid",
            "7d",
        ),
        (
            Request::get("/api/v1/spend?interval=year").body(Body::empty()).unwrap(),
            400,
            "invalid",
            "hour, day",
        ),
        (
            Request::get("/api/v1/traces/xyz").body(Body::empty()).unwrap(),
            400,
            "invalid",
            "32 hexadecimal",
        ),
        (
            Request::get("/api/v1/traces/01010101010101010101010101010101")
                .body(Body::empty())
                .unwrap(),
            404,
            "not_found",
            "no trace",
        ),
        (
            Request::get("/api/v1/calls/xyz/explain").body(Body::empty()).unwrap(),
            400,
            "invalid",
            "its first 4",
        ),
        (
            Request::get("/api/v1/calls/01010101/explain")
                .body(Body::empty())
                .unwrap(),
            404,
            "not_found",
            "list calls with",
        ),
        (
            Request::get("/api/v1/nothing").body(Body::empty()).unwrap(),
            404,
            "not_found",
            "routes",
        ),
    ] {
        let (response, body) = send(&routes, request).await;
        let body: Value =
            serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&body)));
        assert_eq!(response.status().as_u16(), status, "{body}");
        assert_eq!(body["error"]["kind"], kind, "{body}");
        assert!(body["error"]["message"].as_str().unwrap().contains(part), "{body}");
        assert!(body["error"]["id"].as_str().is_some_and(|id| !id.is_empty()), "{body}");
    }
}

#[tokio::test]
async fn every_route_answers_of_the_own_tenant_only() {
    let fixture = Fixture::filled().await;
    let routes = routes(&fixture);
    for path in [
        "/api/v1/costs?by=team,tool,model&since=30d",
        "/api/v1/costs?by=kind&team=support&until=now",
        "/api/v1/spend?interval=day&since=7d",
        "/api/v1/overview?since=7d",
        "/api/v1/calls?limit=50",
        "/api/v1/coverage",
        "/api/v1/traces/07070707070707070707070707070707",
        "/api/v1/prices?model=claude-sonnet-4-5&provider=anthropic&at=now",
        "/api/v1/status",
    ] {
        let (status, body) = get(&routes, path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        assert!(!body.to_string().contains(CANARY), "{path} shows the rival: {body}");
    }
    let (_, costs) = get(&routes, "/api/v1/costs?by=team&since=7d").await;
    assert_eq!(costs["since"], "2026-11-15T10:00:00Z");
    assert_eq!(costs["total"]["cost"], "12.607200500000001");
    let (_, teams) = get(&routes, "/api/v1/costs?by=team").await;
    let team = |row: usize| teams["rows"][row]["team"].as_str().unwrap().to_owned();
    let (first, second) = (team(0), team(1));
    let (_, listed) = get(&routes, &format!("/api/v1/costs?by=team&team={first},{second}")).await;
    let (_, repeated) = get(
        &routes,
        &format!("/api/v1/costs?by=team&team={first}&team=&team={second}"),
    )
    .await;
    assert_eq!(repeated, listed, "a repeated filter asks for either value");
    assert_eq!(listed["rows"].as_array().unwrap().len(), 2);
    let (_, calls) = get(&routes, "/api/v1/calls?limit=2").await;
    assert_eq!(calls.as_array().unwrap().len(), 2);
    assert_eq!(calls[0]["own_cost"], "0.100000000000001");
    let (_, status) = get(&routes, "/api/v1/status").await;
    assert_eq!(
        (
            &status["version"],
            &status["n_calls"],
            &status["waiting_for_first_span"]
        ),
        (&json!("1.2.3"), &json!(6), &json!(false))
    );
    assert_eq!(status["endpoints"]["http"], "http://127.0.0.1:8080");
    let (_, overview) = get(&routes, "/api/v1/overview?since=1d").await;
    assert_eq!(overview["period"]["total"]["cost"], "0.107200500000001");
    assert_eq!(overview["previous"]["total"]["cost"], "12.5");
    assert_eq!(overview["unpriced"][0]["model"], "in-house-7b");
}

#[tokio::test]
async fn settle_answers_the_positions() {
    let fixture = Fixture::filled().await;
    let (response, body) = send(
        &routes(&fixture),
        Request::post("/api/v1/settle").body(Body::empty()).unwrap(),
    )
    .await;
    assert_eq!(response.status(), StatusCode::OK);
    let positions: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(positions["acknowledged"], positions["flushed"]);
}
