//! The layer in front of every route of the HTTP port: who asks, and whether the route's rule lets them.
//!
//! `find the rule → credential or session → principal → scope → rate → route → audit log`; a body is bounded in time, and
//! an event stream ends with its credential ([`super::lasting`]). The rules come from the
//! tables that the routers are built of; a route without one is refused, whoever asks. The principal goes into the
//! request's extensions, where the routes find it; no route looks at a credential.
//!
//! A session's cookie is taken on `/api/` only, and for a change only from the server's own page (`Origin`), so that
//! no other site can make a browser change anything (CSRF).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use spanledger_access::audit::{Interface, Outcome};
use spanledger_access::rates::refusal_pause;
use spanledger_access::routes::{Need, RouteRule, need_of};
use spanledger_access::{AccessError, Principal, Scopes, chain};
use spanledger_query::http::Audited;
use spanledger_query::{Error, ErrorKind};

use super::credentials::Credentials;
use super::lasting::{self, Listener};
use super::session;

/// A key where a client cannot set `Authorization`.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Routes that are asked for every few seconds and show no costs: they would fill the audit log.
const NOT_AUDITED: [&str; 3] = ["/api/v1", "/api/v1/status", "/api/v1/session"];
/// Changes that write their own entries, with more than the address.
const OWN_ENTRIES: [&str; 3] = ["/api/v1/session", "/api/v1/keys", "/api/v1/keys/{id}"];

/// What the layer needs.
#[derive(Clone)]
pub struct Access {
    credentials: Credentials,
    rules: Arc<[RouteRule]>,
}

impl Access {
    /// A layer that enforces these rules.
    pub fn new(credentials: Credentials, rules: impl Into<Arc<[RouteRule]>>) -> Self {
        Self {
            credentials,
            rules: rules.into(),
        }
    }

    /// All rules.
    pub fn rules(&self) -> &[RouteRule] {
        &self.rules
    }
}

/// Enforces the rule of the matched route. What matches no route goes on to its 404.
pub async fn enforce(State(access): State<Access>, request: Request, next: Next) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else {
        return next.run(request).await;
    };
    let path = path.as_str();
    let request = request.map(|body| lasting::bounded(body, lasting::BODY_WITHIN));
    let need = match need_of(&access.rules, request.method().as_str(), path) {
        Some(Need::Public) => return next.run(request).await,
        Some(need) => need,
        None => return without_rule(&access.rules, path),
    };
    let credentials = &access.credentials;
    let (mut head, body) = request.into_parts();
    let principal = match identify(credentials, &head, need).await {
        Ok(principal) => principal,
        Err(response) => return *response,
    };
    let entry = Entry::of(credentials, &principal, path, &head);
    if let Err(error) = need.check(&principal) {
        entry.record(Outcome::Denied, None);
        return refuse(credentials, &head, true, need, error);
    }
    if let Some(wait) = over_rate(credentials, &principal) {
        tokio::time::sleep(refusal_pause()).await;
        return too_many(wait);
    }
    if let Err(error) = entry.record_change().await {
        return Error::from(error).into_response();
    }
    let authorization = authorization_of(&head.headers).filter(|_| credentials.is_required);
    let listener = authorization.map(|authorization| Listener {
        authenticator: Arc::clone(&credentials.authenticator),
        authorization: authorization.into_owned(),
        principal: principal.clone(),
    });
    head.extensions.insert(principal);
    let mut response = next.run(Request::from_parts(head, body)).await;
    let detail = response.extensions_mut().remove::<Audited>().map(|Audited(text)| text);
    entry.record(outcome_of(response.status()), detail.as_deref());
    match listener {
        Some(listener) => listener.hears(response),
        None => response,
    }
}

/// What a request brings as its credential, but for a cookie.
fn authorization_of(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    chain::authorization(text(&header::AUTHORIZATION), text(&API_KEY))
}

/// The principal of a request's credential, or the answer that refuses it.
async fn identify(credentials: &Credentials, head: &Parts, need: Need) -> Result<Principal, Box<Response>> {
    let headers = &head.headers;
    let authorization = authorization_of(headers);
    let cookie = match &authorization {
        None if head.uri.path().starts_with("/api/") => session::cookie(credentials, headers),
        _ => None,
    };
    let had_credential = authorization.is_some() || cookie.is_some();
    let identified = match cookie {
        Some(cookie) if credentials.is_required => {
            if !matches!(head.method, Method::GET | Method::HEAD) && !is_own_page(credentials, head) {
                let error = AccessError::Forbidden(
                    "a change by a session must come from the server's own page (its Origin header)".to_owned(),
                );
                return Err(Box::new(Error::from(error).into_response()));
            }
            credentials.sessions.principal(cookie).await
        }
        _ => credentials.authenticator.authenticate(authorization.as_deref()).await,
    };
    let identified = credentials.strangers.hold_back(identified).await;
    identified.map_err(|error| Box::new(refuse(credentials, head, had_credential, need, error)))
}

/// True where the request comes from the page that this server serves.
pub fn is_own_page(credentials: &Credentials, head: &Parts) -> bool {
    let origin = head.headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let host = host_of(&head.headers, &head.uri);
    origin.is_some_and(|origin| credentials.names.is_own_page(host, origin))
}

/// The host that a request names: HTTP/2 has no Host header, its authority stands in the address.
pub fn host_of<'r>(headers: &'r HeaderMap, uri: &'r Uri) -> Option<&'r str> {
    let of_header = headers.get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    of_header.or_else(|| uri.authority().map(|name| name.as_str()))
}

/// 401, 403 or 503 in the words of the REST interface, with what the client can do about it.
fn refuse(credentials: &Credentials, head: &Parts, had_credential: bool, need: Need, error: AccessError) -> Response {
    let path = head.uri.path();
    let challenge = match (&error, need) {
        (AccessError::Unauthenticated(_), Need::Scope(scope)) => {
            let needed = Scopes::of(&[scope]);
            Some(credentials.challenges.unauthenticated_for(path, had_credential, needed))
        }
        (error, _) => credentials.challenges.of(path, had_credential, error),
    };
    let mut response = Error::from(error).into_response();
    if let Some(challenge) = challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// A path with rules, but none for the method, is answered as HTTP knows it; one without any is closed.
fn without_rule(rules: &[RouteRule], path: &str) -> Response {
    let methods: Vec<_> = rules
        .iter()
        .filter(|rule| rule.path == path)
        .map(|rule| rule.method)
        .collect();
    if methods.is_empty() {
        tracing::error!(path, "a route without a rule was asked for, and refused");
        let error = AccessError::Forbidden("this route is closed: it has no rule of access".to_owned());
        return Error::from(error).into_response();
    }
    let allow = methods.join(", ");
    let message = format!("this address takes {allow}");
    let mut response = Error::new(ErrorKind::Invalid, message).into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    if let Ok(allow) = HeaderValue::from_str(&allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

/// How long a tenant has to wait before it may ask again, where it has to.
pub fn over_rate(credentials: &Credentials, principal: &Principal) -> Option<Duration> {
    credentials.requests.as_ref()?.take(principal.tenant(), 1).err()
}

/// 429, and when to come back.
pub fn too_many(wait: Duration) -> Response {
    let seconds = wait.as_millis().div_ceil(1_000).max(1);
    let message = format!("this tenant asks more than it may; ask again in {seconds} s");
    let mut response = Error::new(ErrorKind::Busy, message).into_response();
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    if let Ok(seconds) = HeaderValue::from_str(&seconds.to_string()) {
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

fn outcome_of(status: StatusCode) -> Outcome {
    match status.as_u16() {
        401 | 403 => Outcome::Denied,
        200..=399 => Outcome::Ok,
        _ => Outcome::Failed,
    }
}

/// What the audit log will say of a request.
struct Entry<'c> {
    credentials: &'c Credentials,
    principal: Principal,
    action: Cow<'static, str>,
    target: String,
    kind: Kind,
}

#[derive(PartialEq, Eq)]
enum Kind {
    /// Not of interest, or recorded elsewhere.
    Unrecorded,
    Read,
    Change,
}

impl<'c> Entry<'c> {
    fn of(credentials: &'c Credentials, principal: &Principal, path: &str, head: &Parts) -> Self {
        let is_read = matches!(head.method, Method::GET | Method::HEAD) || path == "/api/v1/sql";
        let kind = match is_read {
            _ if !path.starts_with("/api/v1") || NOT_AUDITED.contains(&path) => Kind::Unrecorded,
            // Without credentials there is one reader, and nothing to tell apart.
            true if credentials.is_required => Kind::Read,
            true => Kind::Unrecorded,
            false if OWN_ENTRIES.contains(&path) => Kind::Unrecorded,
            false => Kind::Change,
        };
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        Self {
            credentials,
            principal: principal.clone(),
            action: action_of(&head.method, path),
            target: target.to_owned(),
            kind,
        }
    }

    /// A change is recorded before it is made: it leaves a trace whatever happens.
    async fn record_change(&self) -> Result<(), AccessError> {
        if self.kind != Kind::Change {
            return Ok(());
        }
        let audit = &self.credentials.audit;
        let (action, target) = (self.action.as_ref(), Some(self.target.as_str()));
        audit
            .record_change(&self.principal, Interface::Rest, action, target, Outcome::Asked, None)
            .await
    }

    fn record(&self, outcome: Outcome, detail: Option<&str>) {
        let is_recorded = match self.kind {
            Kind::Unrecorded => outcome == Outcome::Denied,
            Kind::Read | Kind::Change => true,
        };
        if is_recorded {
            let (action, target) = (self.action.as_ref(), Some(self.target.as_str()));
            self.credentials
                .audit
                .record(&self.principal, Interface::Rest, action, target, outcome, detail);
        }
    }
}

/// `/api/v1/calls/{id}/pieces` asked for is `calls.pieces.read`.
fn action_of(method: &Method, path: &str) -> Cow<'static, str> {
    if path == "/api/v1/sql" {
        return Cow::Borrowed("sql.query");
    }
    let noun: Vec<_> = path
        .trim_start_matches("/api/v1")
        .split('/')
        .filter(|part| !part.is_empty() && !part.starts_with('{'))
        .collect();
    let verb = match *method {
        Method::GET | Method::HEAD => "read",
        Method::DELETE => "delete",
        _ => "write",
    };
    Cow::Owned(format!(
        "{}.{verb}",
        if noun.is_empty() {
            "rest".to_owned()
        } else {
            noun.join(".")
        }
    ))
}

/// Name and value of each cookie of a request.
pub fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn actions_are_named_by_what_is_read_or_changed() {
        for (method, path, expected) in [
            (Method::GET, "/api/v1/costs", "costs.read"),
            (Method::GET, "/api/v1/calls/{id}/pieces", "calls.pieces.read"),
            (Method::POST, "/api/v1/sql", "sql.query"),
            (Method::POST, "/api/v1/settle", "settle.write"),
            (Method::DELETE, "/api/v1/keys/{id}", "keys.delete"),
            (Method::GET, "/api/v1/{*rest}", "rest.read"),
        ] {
            assert_eq!(action_of(&method, path), expected);
        }
    }

    #[test]
    fn a_route_without_a_rule_is_closed_and_a_wrong_method_is_told() {
        let rules = [RouteRule::new("GET", "/api/v1/costs", Need::Public)];
        assert_eq!(without_rule(&rules, "/new").status(), StatusCode::FORBIDDEN);
        let wrong = without_rule(&rules, "/api/v1/costs");
        assert_eq!(wrong.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(wrong.headers()[header::ALLOW], "GET");
    }

    #[test]
    fn a_refused_tenant_is_told_when_to_come_back() {
        let response = too_many(Duration::from_millis(1_200));
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    }
}
