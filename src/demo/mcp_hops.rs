//! The spans of one MCP call: client side of the caller, server side of the MCP server.
//!
//! Shapes as captured from FastMCP 4.1 and the MCP Python SDK 2.3 under protocol 2026-07-28: the Python
//! SDK's client span tells the tool in its name only, FastMCP's client span wraps it, the server span
//! carries the error. The trace context travels in `_meta`, or in the HTTP headers of hosts that know no other
//! way; a server that gets none starts a trace of its own.

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{InstrumentationScope, KeyValue};

use super::company::{Server, ServerSdk};
use super::outbox::{Ids, Outbox, SpanSpec, exception, kv, scope, status, with_events};
use super::plan::{MS, McpCall, McpTarget, ModelCall, uuid_like};
use super::rng::Rng;

const PROTOCOL: &str = "2026-07-28";

/// Scopes of the two SDKs.
pub struct Scopes {
    python: InstrumentationScope,
    fastmcp: InstrumentationScope,
    database: InstrumentationScope,
    http_server: InstrumentationScope,
    http_client: InstrumentationScope,
}

impl Default for Scopes {
    fn default() -> Self {
        Self {
            python: scope("mcp-python-sdk", None),
            fastmcp: scope("fastmcp", None),
            database: scope("opentelemetry.instrumentation.psycopg", Some("0.59b0")),
            http_server: scope("opentelemetry.instrumentation.starlette", Some("0.59b0")),
            http_client: scope("opentelemetry.instrumentation.httpx", Some("0.59b0")),
        }
    }
}

/// JSON-RPC method and the name behind it.
fn method(target: &McpTarget) -> (&'static str, &'static str) {
    match target {
        McpTarget::Tool(tool) => ("tools/call", tool.name),
        McpTarget::Prompt(prompt) => ("prompts/get", prompt),
        McpTarget::Resource(uri) => ("resources/read", uri),
    }
}

/// The attribute that carries the target's name in the conventions.
fn target_attribute(target: &McpTarget) -> KeyValue {
    match target {
        McpTarget::Tool(tool) => kv("gen_ai.tool.name", tool.name),
        McpTarget::Prompt(prompt) => kv("gen_ai.prompt.name", *prompt),
        McpTarget::Resource(uri) => kv("mcp.resource.uri", *uri),
    }
}

/// Client spans in the lane of the caller, below `parent`, then the server's span.
pub fn client_and_server(
    outbox: &mut Outbox,
    caller: &str,
    parent: &Ids,
    call: &McpCall,
    scopes: &Scopes,
    rng: &mut Rng,
) {
    let (method, target) = method(&call.target);
    let mut parent = *parent;
    let (mut start_ns, mut duration_ns) = (call.start_ns, call.duration_ns);
    let mut spans = Vec::new();
    if call.server.sdk == ServerSdk::FastMcp {
        let ids = parent.child(rng);
        let name = if matches!(call.target, McpTarget::Resource(_)) {
            method.to_owned()
        } else {
            format!("{method} {target}")
        };
        spans.push(
            SpanSpec {
                ids,
                scope: &scopes.fastmcp,
                name: name.into(),
                kind: SpanKind::Client,
                start_ns,
                duration_ns,
                attributes: vec![
                    kv("mcp.method.name", method),
                    kv("fastmcp.component.key", target),
                    target_attribute(&call.target),
                ],
                status: Status::Unset,
            }
            .build(),
        );
        parent = ids;
        (start_ns, duration_ns) = (start_ns + MS / 2, (duration_ns - MS).max(MS));
    }
    let ids = parent.child(rng);
    spans.push(
        SpanSpec {
            ids,
            scope: &scopes.python,
            name: if matches!(call.target, McpTarget::Resource(_)) {
                format!("MCP send {method}")
            } else {
                format!("MCP send {method} {target}")
            }
            .into(),
            kind: SpanKind::Client,
            start_ns,
            duration_ns,
            attributes: vec![
                kv("mcp.method.name", method),
                kv("jsonrpc.request.id", call.request_id.to_string()),
            ],
            status: Status::Unset,
        }
        .build(),
    );
    if let Some(lane) = outbox.lanes.get_mut(caller) {
        lane.spans.extend(spans);
    }
    server_span(outbox, Some(&ids), call, (start_ns, duration_ns), scopes, rng);
}

/// The server's span, a little inside the client's time.
pub fn server_span(
    outbox: &mut Outbox,
    parent: Option<&Ids>,
    call: &McpCall,
    (start_ns, duration_ns): (i64, i64),
    scopes: &Scopes,
    rng: &mut Rng,
) {
    let (method, target) = method(&call.target);
    let ids = below(parent, rng);
    let (start_ns, duration_ns) = (start_ns + MS, (duration_ns - 2 * MS).max(MS / 2));
    let mut attributes = vec![kv("mcp.method.name", method), kv("mcp.protocol.version", PROTOCOL)];
    let is_tool = matches!(call.target, McpTarget::Tool(_));
    match call.server.sdk {
        ServerSdk::FastMcp => {
            let component = match call.target {
                McpTarget::Tool(_) => "tool",
                McpTarget::Prompt(_) => "prompt",
                McpTarget::Resource(_) => "resource",
            };
            attributes.extend([
                kv("fastmcp.span.seam", true),
                kv("fastmcp.server.name", call.server.name),
                // Stateless protocol: a new random session id with each request.
                kv("mcp.session.id", uuid_like(rng)),
                kv("fastmcp.component.key", format!("{component}:{target}@")),
                kv("fastmcp.component.type", component),
                kv("fastmcp.provider.type", "LocalProvider"),
            ]);
        }
        ServerSdk::Python => {
            attributes.push(kv("jsonrpc.request.id", call.request_id.to_string()));
            if is_tool {
                attributes.push(kv("gen_ai.operation.name", "execute_tool"));
            }
        }
    }
    attributes.push(target_attribute(&call.target));
    if call.failure.is_some() {
        attributes.push(kv("error.type", "tool_error"));
    }
    let name = if matches!(call.target, McpTarget::Resource(_)) {
        method.to_owned()
    } else {
        format!("{method} {target}")
    };
    let scope = if call.server.sdk == ServerSdk::FastMcp {
        &scopes.fastmcp
    } else {
        &scopes.python
    };
    let mut span = SpanSpec {
        ids,
        scope,
        name: name.into(),
        kind: SpanKind::Server,
        start_ns,
        duration_ns,
        attributes,
        status: status(call.failure),
    }
    .build();
    if let (Some(message), ServerSdk::FastMcp) = (call.failure, call.server.sdk) {
        span = with_events(
            span,
            vec![exception(
                start_ns + duration_ns,
                "fastmcp.exceptions.ToolError",
                message,
            )],
        );
    }
    let lane = outbox.lane(call.server.service, || server_resource(call.server));
    if call.server.name == "postgres" && is_tool {
        lane.spans.push(
            SpanSpec {
                ids: ids.child(rng),
                scope: &scopes.database,
                name: "SELECT".into(),
                kind: SpanKind::Client,
                start_ns: start_ns + MS / 4,
                duration_ns: (duration_ns - MS / 2).max(MS / 8),
                attributes: vec![kv("db.system.name", "postgresql"), kv("db.operation.name", "SELECT")],
                status: status(call.failure),
            }
            .build(),
        );
    }
    lane.spans.push(span);
}

/// A span below `parent`, or the root of a trace of its own.
fn below(parent: Option<&Ids>, rng: &mut Rng) -> Ids {
    match parent {
        Some(parent) => parent.child(rng),
        None => Ids::root(rng),
    }
}

/// The request that carried a call to the server of a host that propagates over HTTP only.
pub fn http_server_span(
    outbox: &mut Outbox,
    parent: &Ids,
    server: &'static Server,
    (start_ns, duration_ns): (i64, i64),
    scopes: &Scopes,
    rng: &mut Rng,
) -> Ids {
    let ids = parent.child(rng);
    let span = SpanSpec {
        ids,
        scope: &scopes.http_server,
        name: "POST /mcp".into(),
        kind: SpanKind::Server,
        start_ns,
        duration_ns,
        attributes: vec![
            kv("http.request.method", "POST"),
            kv("http.route", "/mcp"),
            kv("http.response.status_code", 200),
            kv("url.scheme", "http"),
        ],
        status: Status::Unset,
    }
    .build();
    outbox.lane(server.service, || server_resource(server)).spans.push(span);
    ids
}

/// The request under a model call, as an HTTP client's instrumentation sees it.
pub fn http_client_span(
    outbox: &mut Outbox,
    caller: &str,
    parent: &Ids,
    call: &ModelCall,
    scopes: &Scopes,
    rng: &mut Rng,
) {
    let span = SpanSpec {
        ids: parent.child(rng),
        scope: &scopes.http_client,
        name: "POST".into(),
        kind: SpanKind::Client,
        start_ns: call.start_ns + MS,
        duration_ns: call.duration_ns - 2 * MS,
        attributes: vec![
            kv("http.request.method", "POST"),
            kv(
                "http.response.status_code",
                if call.failure.is_some() { 529 } else { 200 },
            ),
            kv("server.address", "llm-gateway.acme.test"),
        ],
        status: status(call.failure),
    }
    .build();
    if let Some(lane) = outbox.lanes.get_mut(caller) {
        lane.spans.push(span);
    }
}

/// Bytes of each tool's definition, as JSON: a description, and a schema that grows with its arguments.
fn definition_bytes(server: &Server) -> String {
    let sizes = server
        .tools
        .iter()
        .map(|tool| format!("\"{}\":{}", tool.name, 280 + 14 * tool.arguments.len()));
    format!("{{{}}}", sizes.collect::<Vec<_>>().join(","))
}

/// `tools/list` at the start of a session: client span below `parent` where there is one, server span.
pub fn list_tools(
    outbox: &mut Outbox,
    caller: Option<(&str, &Ids)>,
    server: &'static Server,
    start_ns: i64,
    scopes: &Scopes,
    rng: &mut Rng,
) {
    let duration_ns = rng.between((12, 90)) * MS;
    let mut parent = None;
    if let Some((caller, ids)) = caller {
        let ids = ids.child(rng);
        if let Some(lane) = outbox.lanes.get_mut(caller) {
            lane.spans.push(
                SpanSpec {
                    ids,
                    scope: &scopes.python,
                    name: "MCP send tools/list".into(),
                    kind: SpanKind::Client,
                    start_ns,
                    duration_ns,
                    attributes: vec![kv("mcp.method.name", "tools/list"), kv("jsonrpc.request.id", "2")],
                    status: Status::Unset,
                }
                .build(),
            );
        }
        parent = Some(ids);
    }
    let ids = below(parent.as_ref(), rng);
    let mut attributes = vec![
        kv("mcp.method.name", "tools/list"),
        kv("mcp.protocol.version", PROTOCOL),
        // How large each definition is that every request of the session then sends.
        kv("spanledger.definition_bytes", definition_bytes(server)),
    ];
    match server.sdk {
        ServerSdk::FastMcp => attributes.extend([
            kv("fastmcp.span.seam", true),
            kv("fastmcp.server.name", server.name),
            kv("fastmcp.component.type", "tool"),
            kv("fastmcp.component.key", ""),
            kv("mcp.session.id", uuid_like(rng)),
        ]),
        ServerSdk::Python => attributes.push(kv("jsonrpc.request.id", "2")),
    }
    let scope = if server.sdk == ServerSdk::FastMcp {
        &scopes.fastmcp
    } else {
        &scopes.python
    };
    let span = SpanSpec {
        ids,
        scope,
        name: "tools/list".into(),
        kind: SpanKind::Server,
        start_ns: start_ns + MS,
        duration_ns: duration_ns - 2 * MS,
        attributes,
        status: Status::Unset,
    }
    .build();
    outbox.lane(server.service, || server_resource(server)).spans.push(span);
}

fn server_resource(server: &Server) -> Vec<KeyValue> {
    vec![
        kv("telemetry.sdk.language", "python"),
        kv("telemetry.sdk.name", "opentelemetry"),
        kv("telemetry.sdk.version", "1.45.2"),
        kv("service.name", server.service),
        kv("service.version", "1.2.0"),
        kv(
            "service.instance.id",
            uuid_like(&mut Rng::keyed(&["instance", server.service])),
        ),
        kv("deployment.environment.name", "production"),
    ]
}
