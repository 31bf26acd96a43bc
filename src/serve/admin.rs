//! Keys and the audit log over REST, for administrators of a tenant: its own keys, its own entries.
//!
//! | route | does |
//! |---|---|
//! | `GET /api/v1/keys` | the tenant's keys, without secrets |
//! | `POST /api/v1/keys` | `{"name", "role", "teams", "projects", "environments", "expires_at"}`: makes a key and shows it once |
//! | `DELETE /api/v1/keys/{id}` | revokes one |
//! | `GET /api/v1/audit` | `?since=&until=&subject=&action=&interface=&outcome=&limit=`, the newest first |
//! | `GET /api/v1` | every route of the server and what it needs |

use std::collections::HashMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use spanledger_access::audit::{Entry, Filter, Interface, Outcome};
use spanledger_access::keys::{KeyInfo, NewKey};
use spanledger_access::roles::row_filter;
use spanledger_access::routes::{Need, RouteRule};
use spanledger_access::{Principal, Scope, routes};
use spanledger_query::time::{format_instant, parse_instant};
use spanledger_query::{Error, ErrorKind};

use super::credentials::Credentials;
use super::session::{answer, rows};

/// Entries of the audit log in one answer, where none is asked for.
const ENTRIES_DEFAULT: u32 = 100;
/// A new key's settings: lists of names at most.
const BODY_BYTES_MAX: usize = 64 << 10;

/// What the routes need.
#[derive(Clone)]
pub struct Admin {
    /// Keys and the log.
    pub credentials: Credentials,
    /// All rules of the server.
    pub rules: Arc<[RouteRule]>,
}

routes! {
    /// The routes of administrators, and the list of all.
    pub ROUTES, table: Admin;
    GET "/api/v1/keys", Need::Scope(Scope::Admin) => keys;
    POST "/api/v1/keys", Need::Scope(Scope::Admin) => create;
    DELETE "/api/v1/keys/{id}", Need::Scope(Scope::Admin) => revoke;
    GET "/api/v1/audit", Need::Scope(Scope::Admin) => audit;
    GET "/api/v1", Need::Credential => index;
}

/// The routes.
pub fn router(admin: Admin) -> axum::Router {
    table().layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(admin)
}

type Who = Extension<Principal>;

async fn index(State(admin): State<Admin>) -> Response {
    let routes: Vec<_> = admin
        .rules
        .iter()
        .map(|rule| {
            let needs = match rule.need {
                Need::Public => "public",
                Need::Credential => "credential",
                Need::Scope(scope) => scope.name(),
            };
            json!({ "method": rule.method, "path": rule.path, "needs": needs })
        })
        .collect();
    answer(StatusCode::OK, &json!({ "routes": routes }))
}

async fn keys(State(admin): State<Admin>, Extension(principal): Who) -> Result<Response, Error> {
    let keys = &admin.credentials.keys;
    let now = keys.now_us();
    let listed = keys.list(Some(principal.tenant().as_str())).await?;
    let listed: Vec<_> = listed.iter().map(|key| key_shown(key, now)).collect();
    Ok(answer(StatusCode::OK, &json!({ "keys": listed })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    role: String,
    teams: Option<Vec<String>>,
    projects: Option<Vec<String>>,
    environments: Option<Vec<String>>,
    expires_at: Option<String>,
}

async fn create(
    State(admin): State<Admin>,
    Extension(principal): Who,
    body: axum::body::Bytes,
) -> Result<Response, Error> {
    let Credentials { keys, audit, .. } = &admin.credentials;
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|error| {
        Error::invalid(format!(
            "the body is not {{\"name\": …, \"role\": …, \"teams\": [], \"expires_at\": …}}: {error}"
        ))
    })?;
    if !principal.rows().is_empty() {
        // A key could otherwise show what its maker does not see.
        let message = "a principal that sees a part of its tenant makes no keys; ask an administrator of all of it";
        return Err(Error::new(ErrorKind::Forbidden, message));
    }
    let now = keys.now_us();
    let expires_at = match &wanted.expires_at {
        Some(text) => Some(parse_instant(text, now.saturating_mul(1_000))?.div_euclid(1_000)),
        None => None,
    };
    let new = NewKey {
        tenant: principal.tenant().as_str().to_owned(),
        name: wanted.name,
        role: wanted.role,
        rows: row_filter(
            wanted.teams.as_ref(),
            wanted.projects.as_ref(),
            wanted.environments.as_ref(),
        ),
        expires_at,
        created_by: principal.subject().to_owned(),
    };
    let detail = format!("role {}", new.role);
    let (rest, action) = (Interface::Rest, "key.create");
    audit
        .record_change(&principal, rest, action, Some(&new.name), Outcome::Ok, Some(&detail))
        .await?;
    match keys.create(&new).await {
        Ok((info, secret)) => {
            let made = format!("{} role {}", info.name, info.role);
            audit.record(
                &principal,
                rest,
                "key.created",
                Some(&info.id),
                Outcome::Ok,
                Some(&made),
            );
            let mut body = key_shown(&info, now);
            body["key"] = json!(secret.expose());
            Ok(answer(StatusCode::CREATED, &body))
        }
        Err(error) => {
            audit.record(
                &principal,
                rest,
                action,
                Some(&new.name),
                Outcome::Failed,
                Some(&detail),
            );
            Err(error.into())
        }
    }
}

async fn revoke(
    State(admin): State<Admin>,
    Extension(principal): Who,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let Credentials { keys, audit, .. } = &admin.credentials;
    let own = keys.list(Some(principal.tenant().as_str())).await?;
    let Some(key) = own.iter().find(|key| key.id == id) else {
        // What was given may be a whole key, so it is not repeated.
        let message = "there is no API key with this id; GET /api/v1/keys lists the ids";
        return Err(Error::new(ErrorKind::NotFound, message));
    };
    audit
        .record_change(
            &principal,
            Interface::Rest,
            "key.revoke",
            Some(&key.id),
            Outcome::Ok,
            None,
        )
        .await?;
    let revoked = keys.revoke(Some(principal.tenant().as_str()), &key.id).await?;
    Ok(answer(StatusCode::OK, &key_shown(&revoked, keys.now_us())))
}

async fn audit(
    State(admin): State<Admin>,
    Extension(principal): Who,
    Query(parameters): Query<HashMap<String, String>>,
) -> Result<Response, Error> {
    let now_ns = admin.credentials.keys.now_us().saturating_mul(1_000);
    let filter = filter(parameters, now_ns)?;
    let audit = &admin.credentials.audit;
    // What was asked a moment ago is to be seen.
    audit.flush().await;
    let entries = audit.list(principal.tenant().as_str(), &filter).await?;
    let entries: Vec<_> = entries.iter().map(entry_shown).collect();
    Ok(answer(StatusCode::OK, &json!({ "entries": entries })))
}

fn filter(parameters: HashMap<String, String>, now_ns: i64) -> Result<Filter, Error> {
    let mut filter = Filter {
        limit: ENTRIES_DEFAULT,
        ..Filter::default()
    };
    let instant = |text: &str| parse_instant(text, now_ns).map(|ns| Some(ns.div_euclid(1_000)));
    for (name, value) in parameters {
        match name.as_str() {
            _ if value.is_empty() => {}
            "since" => filter.since = instant(&value)?,
            "until" => filter.until = instant(&value)?,
            "subject" => filter.subject = Some(value),
            "action" => filter.action = Some(value),
            "interface" => filter.interface = Some(value),
            "outcome" => filter.outcome = Some(value),
            "limit" => {
                filter.limit = value
                    .parse()
                    .map_err(|_| Error::invalid(format!("limit is a whole number, not `{value}`")))?;
            }
            _ => {
                return Err(Error::invalid(format!(
                    "`{name}` is no parameter here; parameters: since, until, subject, action, interface, outcome, limit"
                )));
            }
        }
    }
    Ok(filter)
}

fn instant(us: i64) -> String {
    format_instant(us.saturating_mul(1_000))
}

fn key_shown(key: &KeyInfo, now_us: i64) -> Value {
    json!({
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "role": key.role,
        "rows": rows(&key.rows),
        "status": key.status(now_us).name(),
        "created_at": instant(key.created_at),
        "created_by": key.created_by,
        "expires_at": key.expires_at.map(instant),
        "revoked_at": key.revoked_at.map(instant),
        "last_used_at": key.last_used_at.map(instant),
    })
}

fn entry_shown(entry: &Entry) -> Value {
    let mut shown = json!(entry);
    shown["time"] = json!(instant(entry.time));
    shown
}
