//! The matrix of tokens against a small issuer of this process: real signatures, real HTTP, a clock that the
//! test owns. The flows of real authorization servers are in the end-to-end suite (`tests/oauth.rs`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use spanledger_model::Clock;

use super::*;
use crate::Scope;

const PUBLIC: &str = "https://us.example";
const AUDIENCE: &str = "https://us.example/mcp";
const SECOND_NS: i64 = 1_000_000_000;

/// A clock that stands still until it is moved.
#[derive(Debug)]
struct Hand(AtomicI64);

impl Hand {
    fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds * SECOND_NS, Ordering::SeqCst);
    }
    fn now_s(&self) -> i64 {
        self.now_ns() / SECOND_NS
    }
}

impl Clock for Hand {
    fn now_ns(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// An Ed25519 key made of a number, so that a test has as many as it wants.
fn key(seed: u8) -> EncodingKey {
    // RFC 8410: PKCS#8 of Ed25519 is these sixteen bytes and the seed
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend([seed; 32]);
    EncodingKey::from_ed_der(&der)
}

fn public(seed: u8, kid: &str) -> Value {
    let mut jwk = Jwk::from_encoding_key(&key(seed), Algorithm::EdDSA).unwrap();
    jwk.common.key_id = Some(kid.to_owned());
    serde_json::to_value(jwk).unwrap()
}

#[derive(Debug, Default)]
struct Published {
    url: Mutex<String>,
    keys: Mutex<Vec<Value>>,
    active: Mutex<Vec<(String, Value)>>,
    is_down: Mutex<bool>,
    n_keys_asked: AtomicU32,
    n_introspected: AtomicU32,
}

/// An issuer on a loopback port.
struct Issuer {
    url: String,
    published: Arc<Published>,
    clock: Arc<Hand>,
}

impl Issuer {
    async fn start() -> Self {
        let published = Arc::new(Published::default());
        published.keys.lock().push(public(1, "one"));
        let router = Router::new()
            .route("/.well-known/oauth-authorization-server", get(metadata))
            .route("/keys", get(keys))
            .route("/introspect", post(introspect))
            .with_state(Arc::clone(&published));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        published.url.lock().clone_from(&url);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let clock = Arc::new(Hand(AtomicI64::new(1_800_000_000 * SECOND_NS)));
        Self { url, published, clock }
    }

    fn server_with(&self, settings: IssuerSettings) -> OAuth {
        let settings = OAuthSettings {
            issuers: vec![settings],
            ..OAuthSettings::default()
        };
        OAuth::new(
            &settings,
            Roles::built_in(),
            PUBLIC,
            Arc::clone(&self.clock) as Arc<dyn Clock>,
        )
        .unwrap()
    }

    fn server(&self) -> OAuth {
        self.server_with(IssuerSettings::of_tenant(&self.url, "acme"))
    }

    fn claims(&self) -> Value {
        json!({"iss": self.url, "aud": AUDIENCE, "sub": "alice", "client_id": "claude", "jti": "t-1",
            "exp": self.clock.now_s() + 300, "scope": "costs:read"})
    }

    /// A token signed with the key of `seed`, named `kid`.
    fn token(&self, seed: u8, kid: &str, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        (header.kid, header.typ) = (Some(kid.to_owned()), Some("at+jwt".to_owned()));
        jsonwebtoken::encode(&header, claims, &key(seed)).unwrap()
    }

    fn n_keys_asked(&self) -> u32 {
        self.published.n_keys_asked.load(Ordering::SeqCst)
    }
}

async fn metadata(State(published): State<Arc<Published>>) -> Result<Json<Value>, StatusCode> {
    if *published.is_down.lock() {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let url = published.url.lock().clone();
    Ok(Json(
        json!({"issuer": url, "jwks_uri": format!("{url}/keys"), "introspection_endpoint": format!("{url}/introspect")}),
    ))
}

async fn keys(State(published): State<Arc<Published>>) -> Json<Value> {
    published.n_keys_asked.fetch_add(1, Ordering::SeqCst);
    Json(json!({"keys": *published.keys.lock()}))
}

async fn introspect(
    State(published): State<Arc<Published>>,
    headers: HeaderMap,
    Form(form): Form<Vec<(String, String)>>,
) -> Result<Json<Value>, StatusCode> {
    let credentials = format!("Basic {}", STANDARD.encode("us+too:s%25cret"));
    if headers["authorization"] != credentials.as_str() {
        return Err(StatusCode::UNAUTHORIZED);
    }
    published.n_introspected.fetch_add(1, Ordering::SeqCst);
    let token = form.into_iter().find(|(name, _)| name == "token").unwrap().1;
    let known = published
        .active
        .lock()
        .iter()
        .find(|(active, _)| *active == token)
        .map(|(_, claims)| claims.clone());
    Ok(Json(known.unwrap_or_else(|| json!({"active": false}))))
}

fn said(outcome: Result<Principal, AccessError>) -> String {
    match outcome {
        Err(AccessError::Unauthenticated(said)) => said,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn only_a_token_of_the_issuer_for_this_server_and_now_is_believed() {
    let issuer = Issuer::start().await;
    let server = issuer.server();
    let good = issuer.token(1, "one", &issuer.claims());
    let who = server.verify(&good).await.unwrap();
    assert_eq!(
        (who.tenant().as_str(), who.subject(), who.issuer()),
        ("acme", "alice", issuer.url.as_str())
    );
    assert!(who.can(Scope::CostsRead) && !who.can(Scope::SqlRead));

    let with = |changes: Value| {
        let mut claims = issuer.claims();
        claims
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        issuer.token(1, "one", &claims)
    };
    for (token, why) in [
        (with(json!({"aud": "https://other.example/mcp"})), "audience"),
        (with(json!({"exp": issuer.clock.now_s() - 60})), "expired"),
        (with(json!({"nbf": issuer.clock.now_s() + 60})), "not valid yet"),
        (
            with(json!({"iss": "https://other.example"})),
            "issuer is not one of this server",
        ),
        (issuer.token(2, "one", &issuer.claims()), "signature is wrong"),
        (issuer.token(2, "two", &issuer.claims()), "no key for its signature"),
    ] {
        let said = said(server.verify(&token).await);
        assert!(said.contains(why), "{why}: {said}");
        assert!(!said.contains(&token[..20]) && !said.contains("alice"), "{said}");
    }

    // what an attacker makes of a good token: another payload, no signature, a public key as a secret
    let parts: Vec<&str> = good.split('.').collect();
    let payload = URL_SAFE_NO_PAD.encode(json!({"iss": issuer.url, "aud": AUDIENCE, "sub": "admin", "exp": i64::MAX, "scope": "admin", "client_id": "x"}).to_string());
    assert!(said(server.verify(&format!("{}.{payload}.{}", parts[0], parts[2])).await).contains("signature"));
    for algorithm in ["none", "NONE", "HS256"] {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": algorithm, "typ": "at+jwt", "kid": "one"}).to_string());
        for signature in ["", parts[2]] {
            let said = said(server.verify(&format!("{header}.{payload}.{signature}")).await);
            assert!(said.contains("algorithm"), "{said}");
        }
    }
    let public_key = public(1, "one")["x"].as_str().unwrap().to_owned();
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("one".to_owned());
    for secret in [
        public_key.clone().into_bytes(),
        URL_SAFE_NO_PAD.decode(public_key).unwrap(),
    ] {
        let token = jsonwebtoken::encode(&header, &issuer.claims(), &EncodingKey::from_secret(&secret)).unwrap();
        assert!(said(server.verify(&token).await).contains("algorithm"));
    }
    for garbage in [
        "",
        "ey..",
        "ey.ey.ey",
        "eyJ.e30.",
        &"a".repeat(TOKEN_BYTES_MAX + 1),
        "opaque",
    ] {
        said(server.verify(garbage).await);
    }
}

#[tokio::test]
async fn a_rotated_key_is_known_with_its_first_token_and_the_old_one_is_gone() {
    let issuer = Issuer::start().await;
    let server = issuer.server();
    let old = issuer.token(1, "one", &issuer.claims());
    server.verify(&old).await.unwrap();
    *issuer.published.keys.lock() = vec![public(2, "two")];
    // nothing tells us yet; the old key is believed until the set is fetched again
    server.verify(&old).await.unwrap();
    server.verify(&issuer.token(2, "two", &issuer.claims())).await.unwrap();
    assert!(said(server.verify(&old).await).contains("no key"));
    assert!(issuer.n_keys_asked() <= 3, "{}", issuer.n_keys_asked());
}

#[tokio::test]
async fn a_rotation_is_seen_where_tokens_name_no_key() {
    let issuer = Issuer::start().await;
    let server = issuer.server();
    let token = |seed: u8| {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some("at+jwt".to_owned());
        jsonwebtoken::encode(&header, &issuer.claims(), &key(seed)).unwrap()
    };
    server.verify(&token(1)).await.unwrap();
    said(server.verify(&token(2)).await);
    *issuer.published.keys.lock() = vec![public(2, "two")];
    server.verify(&token(2)).await.unwrap();
    said(server.verify(&token(1)).await);
    for _ in 0..20 {
        said(server.verify(&token(3)).await);
    }
    assert!(
        issuer.n_keys_asked() <= 1 + jwks::ALLOWANCE,
        "{}",
        issuer.n_keys_asked()
    );
}

#[tokio::test]
async fn unknown_keys_make_few_fetches() {
    let issuer = Issuer::start().await;
    let server = issuer.server();
    for n in 0..50 {
        let token = issuer.token(9, &format!("guess-{n}"), &issuer.claims());
        said(server.verify(&token).await);
    }
    assert_eq!(issuer.n_keys_asked(), 1 + jwks::ALLOWANCE);
    // a minute later a real rotation is seen again
    issuer.clock.forward(61);
    issuer.published.keys.lock().push(public(3, "three"));
    server
        .verify(&issuer.token(3, "three", &issuer.claims()))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_not_a_yes() {
    let issuer = Issuer::start().await;
    let server = issuer.server();
    *issuer.published.is_down.lock() = true;
    let token = issuer.token(1, "one", &issuer.claims());
    assert!(matches!(server.verify(&token).await, Err(AccessError::Unavailable(_))));
    // and is asked again a moment later
    *issuer.published.is_down.lock() = false;
    assert!(matches!(server.verify(&token).await, Err(AccessError::Unavailable(_))));
    issuer.clock.forward(3);
    server.verify(&token).await.unwrap();
    // kept keys last for a while, and not longer
    *issuer.published.is_down.lock() = true;
    issuer.clock.forward(60);
    server.verify(&token).await.unwrap();
    issuer.clock.forward(i64::try_from(jwks::FRESH.as_secs()).unwrap());
    let later = issuer.token(1, "one", &issuer.claims());
    assert!(matches!(server.verify(&later).await, Err(AccessError::Unavailable(_))));
    let closed = IssuerSettings::of_tenant("http://127.0.0.1:9", "acme");
    let claims = json!({"iss": "http://127.0.0.1:9", "aud": AUDIENCE, "exp": i64::MAX});
    let token = issuer.token(1, "one", &claims);
    let outcome = issuer.server_with(closed).verify(&token).await;
    assert!(matches!(outcome, Err(AccessError::Unavailable(_))), "{outcome:?}");
}

#[tokio::test]
async fn opaque_tokens_are_introspected_and_only_a_yes_is_kept_for_a_moment() {
    let issuer = Issuer::start().await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "s%cret\n").unwrap();
    let server = issuer.server_with(IssuerSettings {
        introspection: Some(IntrospectionSettings {
            url: None,
            client_id: "us too".to_owned(),
            client_secret_env: None,
            client_secret_file: Some(secret.path().to_owned()),
        }),
        ..IssuerSettings::of_tenant(&issuer.url, "acme")
    });
    let asked = || issuer.published.n_introspected.load(Ordering::SeqCst);
    assert!(said(server.verify("opaque-1").await).contains("not active"));
    let mut answer = issuer.claims();
    answer["active"] = json!(true);
    issuer
        .published
        .active
        .lock()
        .push(("opaque-1".to_owned(), answer.clone()));
    let who = server.verify("opaque-1").await.unwrap();
    assert_eq!((who.subject(), who.tenant().as_str(), asked()), ("alice", "acme", 2));
    // revoked: kept for a moment, then dead
    issuer.published.active.lock().clear();
    server.verify("opaque-1").await.unwrap();
    assert_eq!(asked(), 2);
    issuer
        .clock
        .forward(i64::try_from(introspection::KEPT.as_secs()).unwrap());
    said(server.verify("opaque-1").await);
    for bad in [
        json!({"active": true, "sub": "x", "scope": "admin"}),
        json!({"active": "true", "aud": AUDIENCE, "sub": "x"}),
        json!({"active": true, "aud": AUDIENCE, "sub": "x", "token_type": "DPoP"}),
        json!({"active": true, "aud": AUDIENCE, "sub": "x", "iss": "https://other.example"}),
    ] {
        issuer.published.active.lock().push(("opaque-2".to_owned(), bad));
        said(server.verify("opaque-2").await);
        issuer.published.active.lock().clear();
        issuer.clock.forward(60);
    }
    // an expired token is dead although its answer is kept
    answer["exp"] = json!(issuer.clock.now_s() + 2);
    issuer.published.active.lock().push(("opaque-3".to_owned(), answer));
    server.verify("opaque-3").await.unwrap();
    issuer.clock.forward(2 + claims::LEEWAY_S);
    said(server.verify("opaque-3").await);
}
