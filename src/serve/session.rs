//! Signing in from the page: an API key is exchanged for a cookie, so that no script keeps the key.
//!
//! | route | does |
//! |---|---|
//! | `GET /api/v1/session` | says who asks, by whatever credential |
//! | `POST /api/v1/session` | `{"key"}`: starts a session and sets its cookie |
//! | `DELETE /api/v1/session` | ends it |
//!
//! The cookie is `HttpOnly` and `SameSite=Strict`, and `Secure` with a `__Host-` name where the public URL is https.
//! A session ends with its key ([`spanledger_access::sessions`]).

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use spanledger_access::audit::{Interface, Outcome};
use spanledger_access::rates::refusal_pause;
use spanledger_access::routes::Need;
use spanledger_access::{AccessError, KEY_ISSUER, Principal, RowFilter, routes};
use spanledger_query::{Error, ErrorKind};

use super::access::{cookies, is_own_page, over_rate, too_many};
use super::credentials::Credentials;

/// Name of the cookie over plain http, which is for loopback.
const COOKIE: &str = "spanledger_session";
/// Name of the cookie over https: browsers keep it to this host, and to https.
const HOST_COOKIE: &str = "__Host-spanledger_session";
/// A key and its quotes: nothing longer is read.
const BODY_BYTES_MAX: usize = 4 << 10;

routes! {
    /// The routes of sessions.
    pub ROUTES, table: Credentials;
    GET "/api/v1/session", Need::Credential => who;
    POST "/api/v1/session", Need::Public => start;
    DELETE "/api/v1/session", Need::Public => end;
}

/// The routes.
pub fn router(credentials: Credentials) -> axum::Router {
    table()
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(credentials)
}

/// The value of the session's cookie, if a request has one.
pub fn cookie<'r>(credentials: &Credentials, headers: &'r HeaderMap) -> Option<&'r str> {
    named(headers, cookie_name(credentials))
}

/// Over https only the name counts that no other host, nor plain http, can set.
fn cookie_name(credentials: &Credentials) -> &'static str {
    if is_https(credentials) { HOST_COOKIE } else { COOKIE }
}

fn is_https(credentials: &Credentials) -> bool {
    credentials.public_url.starts_with("https://")
}

fn named<'r>(headers: &'r HeaderMap, name: &str) -> Option<&'r str> {
    cookies(headers).find(|(own, _)| *own == name).map(|(_, value)| value)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    key: String,
}

async fn who(
    State(credentials): State<Credentials>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let is_session = credentials.is_required && cookie(&credentials, &headers).is_some();
    Ok(answer(
        StatusCode::OK,
        &shown(&credentials, &principal, is_session).await?,
    ))
}

async fn start(
    State(credentials): State<Credentials>,
    head: Parts,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Error> {
    if !credentials.is_required {
        return Err(Error::invalid(
            "this server has no login; everything is open to this machine",
        ));
    }
    if head.headers.contains_key(header::ORIGIN) && !is_own_page(&credentials, &head) {
        return Err(foreign());
    }
    let body = body.map_err(|_| Error::invalid("the body is not {\"key\": \"sl_…\"}"))?;
    // serde's message could repeat a part of the key
    let Start { key } =
        serde_json::from_slice(&body).map_err(|_| Error::invalid("the body is not {\"key\": \"sl_…\"}"))?;
    // The route is open, so the layer knows no tenant: each session is a write.
    let known = credentials.keys.authenticate(key.trim()).await;
    let principal = credentials.strangers.hold_back(known).await?;
    if let Some(wait) = over_rate(&credentials, &principal) {
        tokio::time::sleep(refusal_pause()).await;
        return Ok(too_many(wait));
    }
    let started = credentials.sessions.start(key.trim()).await?;
    record(&credentials, &started.principal, "session.start").await?;
    let body = shown(&credentials, &started.principal, true).await?;
    let mut response = answer(StatusCode::CREATED, &body);
    set_cookie(&credentials, &mut response, &started.value, started.max_age_s);
    Ok(response)
}

async fn end(State(credentials): State<Credentials>, head: Parts) -> Result<Response, Error> {
    if let Some(value) = cookie(&credentials, &head.headers) {
        if !is_own_page(&credentials, &head) {
            return Err(foreign());
        }
        if let Ok(principal) = credentials.sessions.principal(value).await {
            record(&credentials, &principal, "session.end").await?;
        }
        credentials.sessions.end(value).await?;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&credentials, &mut response, "", 0);
    Ok(response)
}

async fn record(credentials: &Credentials, principal: &Principal, action: &str) -> Result<(), AccessError> {
    credentials
        .audit
        .record_change(principal, Interface::Page, action, None, Outcome::Ok, None)
        .await
}

fn foreign() -> Error {
    let message = "only the server's own page signs in and out (its Origin header)";
    Error::new(ErrorKind::Forbidden, message)
}

/// Who asks, as the page shows it.
async fn shown(credentials: &Credentials, principal: &Principal, is_session: bool) -> Result<Value, Error> {
    let key = match principal.credential() {
        Some(id) if principal.issuer() == KEY_ISSUER => {
            let keys = credentials.keys.list(Some(principal.tenant().as_str())).await?;
            keys.into_iter().find(|key| key.id == id)
        }
        _ => None,
    };
    let scopes: Vec<_> = principal.scopes().iter().map(|scope| scope.name()).collect();
    Ok(json!({
        "login": credentials.is_required,
        "session": is_session,
        "tenant": principal.tenant().as_str(),
        "subject": principal.subject(),
        "name": key.as_ref().map(|key| key.name.as_str()),
        "role": key.as_ref().map(|key| key.role.as_str()),
        "scopes": scopes,
        "rows": rows(principal.rows()),
    }))
}

/// A row filter as JSON: column to allowed values.
pub fn rows(filter: &RowFilter) -> Value {
    let conditions = filter
        .conditions()
        .map(|(column, values)| (column.to_owned(), json!(values)));
    Value::Object(conditions.collect())
}

/// A JSON answer that nobody keeps.
pub fn answer(status: StatusCode, body: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, body.to_string()).into_response()
}

fn set_cookie(credentials: &Credentials, response: &mut Response, value: &str, max_age_s: i64) {
    let secure = if is_https(credentials) { "; Secure" } else { "" };
    let name = cookie_name(credentials);
    let cookie = format!("{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others_by_its_name() {
        let mut headers = HeaderMap::new();
        assert_eq!(named(&headers, COOKIE), None);
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("theme=dark; spanledger_session=abc"),
        );
        assert_eq!(named(&headers, COOKIE), Some("abc"));
        assert_eq!(named(&headers, HOST_COOKIE), None, "a sibling host could have set it");
        headers.clear();
        headers.append(header::COOKIE, HeaderValue::from_static("a=b"));
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("__Host-spanledger_session=x=y"),
        );
        assert_eq!(named(&headers, HOST_COOKIE), Some("x=y"));
    }
}
