//! What stands before the protocol layer: limits on a body, whose page and host may ask, whether the principal has
//! the scopes of the call, whose session it is.
//!
//! A request that lacks a scope is told so by HTTP (403 with a challenge, so that the client can ask its user for
//! more), before rmcp runs. Then one of two protocol services answers: the stateless one for every request of
//! 2026-07-28 and for legacy clients that only ask; and one with sessions for legacy clients that said at
//! `initialize` that the server may ask *them* something, which 2025-11-25 can carry in no other way. A session is
//! good for the principal that began it: for any other it does not exist.
//!
//! The protocol layer gets the message that was read and checked here, written anew: both see the same request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use parking_lot::Mutex;
use rmcp::model::ProtocolVersion;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::{Value, json};
use spanledger_access::audit::Outcome;
use spanledger_access::{AccessError, Principal, Scope, Scopes};

use crate::legacy;
use crate::limits::{BODY_BYTES_MAX, SESSIONS_MAX};
use crate::server::LedgerServer;
use crate::shared::{Shared, owner_digest};

/// Path of the endpoint.
pub(crate) const PATH: &str = "/mcp";
const SESSION_ID: &str = "mcp-session-id";

/// All scopes that a call of this tool with these arguments needs, so that one challenge names them all.
pub(crate) fn needs(tool: &str, arguments: &Value) -> Scopes {
    match tool {
        "run_sql" => Scopes::of(&[Scope::SqlRead]),
        "set_budget" | "set_allocation_rule" => Scopes::of(&[Scope::FinopsWrite]),
        "inspect_trace" if is_set(&arguments["payloads"]) => Scopes::of(&[Scope::CostsRead, Scope::PayloadsRead]),
        _ => Scopes::of(&[Scope::CostsRead]),
    }
}

/// Names the task in the header as the body does, where a client left the header out (FastMCP 4.1). One that says
/// something else is refused by the protocol layer, as it must be.
fn name_task(headers: &mut HeaderMap, message: &Value) {
    let is_task = matches!(
        message["method"].as_str(),
        Some("tasks/get" | "tasks/update" | "tasks/cancel")
    );
    let id = message["params"]["taskId"].as_str().filter(|_| is_task);
    if let Some(Ok(id)) = id.map(HeaderValue::from_str) {
        headers.entry("mcp-name").or_insert(id);
    }
}

/// True for an argument that is given as true, in any of the forms that clients send.
fn is_set(argument: &Value) -> bool {
    argument == &Value::Bool(true) || argument == "true"
}

/// All scopes that a message needs: lists and metadata are the same for all, data is not.
fn needs_of_message(message: &Value) -> Scopes {
    let params = &message["params"];
    match message["method"].as_str().unwrap_or_default() {
        "tools/call" => needs(params["name"].as_str().unwrap_or_default(), &params["arguments"]),
        "resources/read" | "resources/subscribe" | "subscriptions/listen" | "completion/complete" => {
            Scopes::of(&[Scope::CostsRead])
        }
        _ => Scopes::NONE,
    }
}

/// The endpoint. Clones share it.
#[derive(Clone)]
pub(crate) struct Front {
    shared: Shared,
    stateless: StreamableHttpService<LedgerServer, NeverSessionManager>,
    sessions: Sessions,
}

/// The service with sessions, and whose they are.
#[derive(Clone)]
struct Sessions {
    service: StreamableHttpService<LedgerServer, LocalSessionManager>,
    manager: Arc<LocalSessionManager>,
    owners: Arc<Mutex<HashMap<String, String>>>,
}

impl Front {
    /// An endpoint that answers from `shared`; `config` is that of both services.
    pub(crate) fn new(shared: Shared, config: &StreamableHttpServerConfig) -> Self {
        let (asking, answering) = (shared.clone(), shared.clone());
        let manager = Arc::new(LocalSessionManager::default());
        Self {
            stateless: StreamableHttpService::new(
                move || Ok(LedgerServer::new(answering.clone())),
                Arc::new(NeverSessionManager::default()),
                config.clone().with_legacy_session_mode(false),
            ),
            sessions: Sessions {
                service: StreamableHttpService::new(
                    move || Ok(LedgerServer::new(asking.clone()).in_session()),
                    Arc::clone(&manager),
                    config.clone().with_legacy_session_mode(true),
                ),
                manager,
                owners: Arc::default(),
            },
            shared,
        }
    }

    async fn answer(&self, request: Request) -> Result<Response, Response> {
        let (parts, body) = request.into_parts();
        if !self.is_allowed(&parts) {
            return Err(refusal(
                StatusCode::FORBIDDEN,
                "forbidden",
                "this host or page may not ask here",
            ));
        }
        let Some(principal) = parts.extensions.get::<Principal>().cloned() else {
            let mut response = refusal(
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "this request needs an API key or a token",
            );
            let challenge = self.shared.challenges().unauthenticated(PATH, false);
            if let Ok(value) = HeaderValue::from_str(&challenge) {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
            }
            return Err(response);
        };
        let session = text(&parts.headers, SESSION_ID).map(str::to_owned);
        if let Some(id) = &session
            && !self.sessions.is_of(id, &principal)
        {
            // The same for a session of somebody else and for none: the client begins anew.
            return Err(refusal(StatusCode::NOT_FOUND, "not_found", "session not found"));
        }
        if parts.method != Method::POST {
            let request = Request::from_parts(parts, Body::empty());
            return Ok(match session {
                Some(_) => self.sessions.service.handle(request).await.map(Body::new),
                None => self.stateless.handle(request).await.map(Body::new),
            });
        }
        let bytes = read(&parts.headers, body, self.shared.body_within()).await?;
        let message = match serde_json::from_slice::<Value>(&bytes) {
            // A body that is not even said to be JSON: rmcp refuses its type.
            _ if !is_json(&parts.headers) => {
                let request = Request::from_parts(parts, Body::from(bytes));
                return Ok(self.stateless.handle(request).await.map(Body::new));
            }
            Ok(message) if message.is_object() => message,
            Ok(_) => return Err(unreadable(&Value::Null, -32600, "a request is one JSON-RPC message")),
            Err(error) => {
                return Err(unreadable(
                    &Value::Null,
                    -32700,
                    &format!("the body is not JSON: {error}"),
                ));
            }
        };
        if let Err(error) = principal.require(needs_of_message(&message)) {
            self.shared
                .audit(&principal, method(&message), target(&message), Outcome::Denied);
            return Err(self.challenge(&message, &error));
        }
        if is_legacy(&message)
            && let Some(tasks) = self.shared.tasks()
            && let Some(response) = legacy::answer(tasks, &principal, &message).await
        {
            return Ok(([(header::CONTENT_TYPE, "application/json")], response.to_string()).into_response());
        }
        let response = self.protocol(parts, &message, session.is_some(), &principal).await;
        if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            // Its type was right, its shape is not.
            let (code, wrong) = match &message["method"] {
                Value::String(_) => (-32602, "the parameters are not those of this method"),
                _ => (-32600, "the body is no JSON-RPC message"),
            };
            return Err(unreadable(&message["id"], code, wrong));
        }
        Ok(self.completed(&message, response).await)
    }

    /// What the protocol layer says.
    async fn protocol(&self, mut parts: Parts, message: &Value, in_session: bool, principal: &Principal) -> Response {
        let body = message.to_string();
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        name_task(&mut parts.headers, message);
        let request = Request::from_parts(parts, Body::from(body));
        if in_session {
            return self.sessions.service.handle(request).await.map(Body::new);
        }
        if may_be_asked(message) && self.sessions.has_room().await {
            let response = self.sessions.service.handle(request).await.map(Body::new);
            if let Some(id) = text(response.headers(), SESSION_ID).map(str::to_owned) {
                self.sessions.begun(id, principal).await;
            }
            return response;
        }
        self.stateless.handle(request).await.map(Body::new)
    }

    /// Says of a legacy list what runs as a task: rmcp does not know.
    async fn completed(&self, message: &Value, response: Response) -> Response {
        let Some(tasks) = self.shared.tasks() else {
            return response;
        };
        if !is_legacy(message) || !is_completed(method(message)) || !response.status().is_success() {
            return response;
        }
        let is_stream = text(response.headers(), header::CONTENT_TYPE.as_str())
            .is_some_and(|kind| kind.starts_with("text/event-stream"));
        let (mut parts, body) = response.into_parts();
        // Such an answer is one message, also as a stream: it ends with it.
        let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
            return refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the answer could not be written",
            );
        };
        let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        let asked = method(message);
        let complete = |json: &str| {
            let mut message: Value = serde_json::from_str(json).ok()?;
            legacy::decorate(tasks, asked, &mut message);
            Some(message.to_string())
        };
        let body = if is_stream {
            let lines = body.lines().map(|line| {
                let data = line.strip_prefix("data:").map(str::trim).and_then(complete);
                data.map_or_else(|| line.to_owned(), |data| format!("data: {data}"))
            });
            lines.map(|line| line + "\n").collect()
        } else {
            complete(&body).unwrap_or(body)
        };
        parts.headers.remove(header::CONTENT_LENGTH);
        Response::from_parts(parts, Body::from(body))
    }

    /// True where the host is ours and the page, if one asks, is too: what keeps DNS rebinding out.
    fn is_allowed(&self, parts: &Parts) -> bool {
        // HTTP/2 has no Host header: its authority stands in the address.
        let host = header_text(&parts.headers, header::HOST.as_str())
            .or_else(|| parts.uri.authority().map(|authority| authority.as_str()));
        let origin = header_text(&parts.headers, header::ORIGIN.as_str());
        self.shared.names().allow(host, origin)
    }

    /// 403 with all scopes that the request needs (step-up).
    fn challenge(&self, message: &Value, error: &AccessError) -> Response {
        let needed = match error {
            AccessError::InsufficientScope { needed } => *needed,
            _ => Scopes::NONE,
        };
        let challenge = self.shared.challenges().insufficient(PATH, needed);
        let body = json!({ "jsonrpc": "2.0", "id": message["id"], "error": {
            "code": -32600,
            "message": error.to_string(),
            "data": { "scope": needed.to_string() },
        }});
        let mut response = (
            StatusCode::FORBIDDEN,
            [(header::CONTENT_TYPE, "application/json")],
            body.to_string(),
        )
            .into_response();
        if let Ok(value) = HeaderValue::from_str(&challenge) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
        response
    }
}

impl Sessions {
    fn is_of(&self, id: &str, principal: &Principal) -> bool {
        self.owners.lock().get(id) == Some(&owner_digest(principal))
    }

    async fn has_room(&self) -> bool {
        self.manager.sessions.read().await.len() < SESSIONS_MAX
    }

    /// Notes whose session began, and forgets those that ended.
    async fn begun(&self, id: String, principal: &Principal) {
        let open = self.manager.sessions.read().await;
        let mut owners = self.owners.lock();
        owners.retain(|id, _| open.contains_key(id.as_str()));
        owners.insert(id, owner_digest(principal));
    }
}

/// The handler of the route.
pub(crate) async fn handle(State(front): State<Front>, request: Request) -> Response {
    match front.answer(request).await {
        Ok(response) | Err(response) => response,
    }
}

/// True for a message of the era with a handshake: a later one names its version itself.
pub(crate) fn is_legacy(message: &Value) -> bool {
    let version = message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].as_str();
    version.is_none_or(|version| version < ProtocolVersion::V_2026_07_28.as_str())
}

/// True for a method whose legacy answer is completed.
pub(crate) fn is_completed(method: &str) -> bool {
    matches!(method, "initialize" | "tools/list")
}

/// True for the `initialize` of a client that the server may ask something.
fn may_be_asked(message: &Value) -> bool {
    let capabilities = &message["params"]["capabilities"];
    message["method"] == "initialize"
        && ["elicitation", "sampling"]
            .iter()
            .any(|kind| capabilities[kind].is_object())
}

/// Reads a body, bounded in size and time.
async fn read(headers: &HeaderMap, body: Body, within: Duration) -> Result<bytes::Bytes, Response> {
    let too_large = || {
        refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            &format!("a request may have {BODY_BYTES_MAX} bytes"),
        )
    };
    let announced = text(headers, header::CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    let read = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(within, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(refusal(
            StatusCode::BAD_REQUEST,
            "invalid",
            "the request's body ended early",
        )),
        Err(_) => Err(refusal(
            StatusCode::REQUEST_TIMEOUT,
            "busy",
            "the request's body came too slowly",
        )),
    }
}

fn refusal(status: StatusCode, kind: &str, message: &str) -> Response {
    let body = json!({ "error": { "kind": kind, "message": message } });
    let close = (header::CONNECTION, "close");
    let content_type = (header::CONTENT_TYPE, "application/json");
    match status {
        // The rest of the body is not read, so the connection is of no more use.
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
            (status, [content_type, close], body.to_string()).into_response()
        }
        _ => (status, [content_type], body.to_string()).into_response(),
    }
}

/// 400 with a JSON-RPC error; without an id where the body has none, as MCP writes it.
fn unreadable(id: &Value, code: i32, message: &str) -> Response {
    let mut body = json!({ "jsonrpc": "2.0", "error": { "code": code, "message": message } });
    if id.is_string() || id.is_number() {
        body["id"] = id.clone();
    }
    let content_type = (header::CONTENT_TYPE, "application/json");
    (StatusCode::BAD_REQUEST, [content_type], body.to_string()).into_response()
}

fn is_json(headers: &HeaderMap) -> bool {
    text(headers, header::CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with("application/json"))
}

fn method(message: &Value) -> &str {
    message["method"].as_str().unwrap_or_default()
}

/// What a message is about: a tool, a prompt, a resource.
fn target(message: &Value) -> &str {
    let params = &message["params"];
    params["name"].as_str().or(params["uri"].as_str()).unwrap_or_default()
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A header as text; one that is not text counts as foreign.
fn header_text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}
