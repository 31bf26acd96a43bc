//! The server meters itself: each call of a tool, prompt or resource becomes a SERVER span of the MCP semantic
//! conventions, below the caller's trace context.
//!
//! A span tells names, sizes, times and how it ended, never an argument or a result. Who takes it decides where it
//! goes ([`Meter`]): `serve` puts it into its own ingest, for the tenant of the caller. Taking a span causes no MCP
//! call, so there is no loop. Rounds that only asked the client, and polls of tasks, are no calls: a call that asks
//! twice is counted once.

use std::fmt::Debug;
use std::time::Instant;

use rmcp::model::{CallToolResponse, ErrorData, ListToolsResult};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Map, Value};
use spanledger_access::Principal;

use crate::client::Client;
use crate::shared::Shared;
use crate::text::clean;

/// Longest trace context of a caller: the format has 55 characters and may grow.
const TRACE_CONTEXT_CHARS_MAX: usize = 128;

/// What kind of thing a request was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// A tool, `gen_ai.tool.name`.
    Tool,
    /// A prompt, `gen_ai.prompt.name`.
    Prompt,
    /// A resource, `mcp.resource.uri`.
    Resource,
    /// Nothing of its own: a list.
    None,
}

/// One answered request.
#[derive(Debug, Clone)]
pub struct OwnSpan {
    /// JSON-RPC method.
    pub method: &'static str,
    /// What [`Self::target`] names.
    pub target_kind: TargetKind,
    /// Tool, prompt or resource; one of ours, so it is safe to show.
    pub target: String,
    /// Start, nanoseconds since 1970.
    pub start_ns: i64,
    /// Duration, nanoseconds.
    pub duration_ns: i64,
    /// Id of the trace that it begins, where it has no parent; never 0.
    pub new_trace_id: u128,
    /// Id of the span; never 0.
    pub span_id: u64,
    /// The caller's trace context, as it sent it.
    pub traceparent: Option<String>,
    /// JSON-RPC id.
    pub request_id: String,
    /// Version of the protocol.
    pub protocol_version: Option<String>,
    /// Name of the client's program, as it says.
    pub client: Option<String>,
    /// `tcp` or `pipe`.
    pub transport: &'static str,
    /// `tool_error`, or the code of a JSON-RPC error.
    pub error_type: Option<String>,
    /// Bytes of the arguments.
    pub request_bytes: Option<usize>,
    /// Bytes of the result.
    pub response_bytes: Option<usize>,
    /// Of a list of tools: bytes of each definition.
    pub definition_bytes: Option<Map<String, Value>>,
}

/// Takes what the server did. Must be quick, and may drop what it cannot take.
pub trait Meter: Send + Sync + Debug {
    /// Takes a span of a request by `principal`.
    fn note(&self, principal: &Principal, span: OwnSpan);
}

/// A request while it runs.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    started: Instant,
    span: OwnSpan,
}

/// How a request ended.
pub(crate) struct Ended {
    error_type: Option<String>,
    response_bytes: Option<usize>,
    is_call: bool,
}

impl Stopwatch {
    pub(crate) fn start(
        shared: &Shared,
        context: &RequestContext<RoleServer>,
        method: &'static str,
        target_kind: TargetKind,
        target: &str,
    ) -> Self {
        let parts = context.extensions.get::<axum::http::request::Parts>();
        // Without a session nobody introduced itself before: what rmcp puts in the place is its own name.
        let is_introduced = parts.is_none_or(|parts| parts.headers.contains_key("mcp-session-id"));
        let client = context.meta.client_info();
        let client = client.or_else(|| context.client_info().filter(|_| is_introduced));
        let traceparent = context.meta.get_traceparent().map(str::to_owned);
        Self {
            started: Instant::now(),
            span: OwnSpan {
                method,
                target_kind,
                target: target.to_owned(),
                start_ns: shared.now_ns(),
                duration_ns: 0,
                new_trace_id: rand::random::<u128>() | 1,
                span_id: rand::random::<u64>() | 1,
                traceparent: traceparent.filter(|context| context.len() <= TRACE_CONTEXT_CHARS_MAX),
                request_id: clean(&context.id.to_string()),
                protocol_version: Client::of(context).version,
                client: client.map(|client| clean(&client.name)),
                transport: if parts.is_some() { "tcp" } else { "pipe" },
                error_type: None,
                request_bytes: None,
                response_bytes: None,
                definition_bytes: None,
            },
        }
    }

    pub(crate) fn with_request_bytes(mut self, request: Option<&impl serde::Serialize>) -> Self {
        self.span.request_bytes = request.and_then(n_bytes);
        self
    }

    pub(crate) fn stop(self, shared: &Shared, principal: &Principal, ended: Ended) {
        let Some(meter) = shared.meter().filter(|_| ended.is_call) else {
            return;
        };
        let duration_ns = i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX);
        let span = OwnSpan {
            duration_ns,
            error_type: ended.error_type,
            response_bytes: ended.response_bytes,
            ..self.span
        };
        meter.note(principal, span);
    }

    /// As [`Self::stop`], for a list of tools: what each definition takes of a context.
    pub(crate) fn stop_list(mut self, shared: &Shared, principal: &Principal, list: &ListToolsResult) {
        if shared.meter().is_none() {
            return;
        }
        let sizes = list.tools.iter().filter_map(|tool| {
            let n_bytes = n_bytes(tool)?;
            Some((tool.name.to_string(), Value::from(n_bytes)))
        });
        self.span.definition_bytes = Some(sizes.collect());
        let ended = Ended {
            error_type: None,
            response_bytes: n_bytes(list),
            is_call: true,
        };
        self.stop(shared, principal, ended);
    }
}

impl Ended {
    /// How a call of a tool ended.
    pub(crate) fn of_call(response: &Result<CallToolResponse, ErrorData>) -> Self {
        match response {
            Ok(CallToolResponse::Complete(result)) => Self {
                error_type: (result.is_error == Some(true)).then(|| "tool_error".to_owned()),
                response_bytes: n_bytes(result),
                is_call: true,
            },
            Ok(CallToolResponse::Task(task)) => Self {
                error_type: None,
                response_bytes: n_bytes(task),
                is_call: true,
            },
            // The client was asked; the call comes again.
            Ok(_) => Self {
                error_type: None,
                response_bytes: None,
                is_call: false,
            },
            Err(error) => Self::of_error(error),
        }
    }

    /// How anything else ended.
    pub(crate) fn of<R: serde::Serialize>(response: Result<&R, &ErrorData>) -> Self {
        match response {
            Ok(result) => Self {
                error_type: None,
                response_bytes: n_bytes(result),
                is_call: true,
            },
            Err(error) => Self::of_error(error),
        }
    }

    fn of_error(error: &ErrorData) -> Self {
        Self {
            error_type: Some(error.code.0.to_string()),
            response_bytes: None,
            is_call: true,
        }
    }
}

fn n_bytes(value: &(impl serde::Serialize + ?Sized)) -> Option<usize> {
    serde_json::to_vec(value).ok().map(|json| json.len())
}
