//! What one span, log record or metric point says about an operation, as its dialect tells it.
//!
//! Written at ingest, never edited, never charged by itself: settlement folds observations into calls.
//! The identity is a hash of what makes the record the same record: (tenant, `span`, trace id, span id, kind),
//! (tenant, `log`, content), (tenant, `metric`, series, start, time). So a repeated delivery of the same
//! record is the same observation.

use crate::call::{CallKind, Dimensions, McpFields, ModelFields, Sizes, Status};
use crate::ids::{ObservationId, SpanId, TenantId, TraceId};
use crate::money::FemtoUsd;
use crate::usage::Usage;

/// The OTLP signal an observation was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A span.
    Span,
    /// A log record or event.
    Log,
    /// A metric data point.
    Metric,
}

impl Source {
    /// The name in the `source` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Span => "span",
            Self::Log => "log",
            Self::Metric => "metric",
        }
    }

    /// Reads the name in the `source` column.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "span" => Self::Span,
            "log" => Self::Log,
            "metric" => Self::Metric,
            _ => return None,
        })
    }
}

/// What settlement may do with an observation. Its dialect decides, for the dialect alone knows
/// whether a record is the call, a summary of others, or a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The record is the operation.
    Leaf,
    /// A frame that repeats its descendants' usage under the same keys: charged only where no
    /// descendant reports any.
    Rollup,
    /// A delta counter: its value is usage since its start time.
    CounterDelta,
    /// A cumulative counter: its value is usage since its (resettable) start time.
    CounterCumulative,
    /// Evidence about an operation that another record reports (a decision, a sub-span, a size):
    /// gives fields, never makes a call by itself.
    Detail,
    /// Replaces what an earlier record of the same operation said of its usage and cost (a provider's later
    /// settlement of an estimate). Of several, the newest holds.
    Correction,
}

impl Role {
    /// The name in the `role` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leaf => "leaf",
            Self::Rollup => "rollup",
            Self::CounterDelta => "counter_delta",
            Self::CounterCumulative => "counter_cumulative",
            Self::Detail => "detail",
            Self::Correction => "correction",
        }
    }

    /// Reads the name in the `role` column.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "leaf" => Self::Leaf,
            "rollup" => Self::Rollup,
            "counter_delta" => Self::CounterDelta,
            "counter_cumulative" => Self::CounterCumulative,
            "detail" => Self::Detail,
            "correction" => Self::Correction,
            _ => return None,
        })
    }
}

/// Where on the way of a request a record was made. A caller sees it as the hops of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hop {
    /// The application that decided on the call: an agent, an IDE, a framework.
    Host,
    /// The client library that sent the request.
    Client,
    /// Something in between that passed it on.
    Gateway,
    /// The server that answered.
    Server,
    /// What the server called in turn to answer.
    Backend,
}

impl Hop {
    /// The name in the `hop` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Client => "client",
            Self::Gateway => "gateway",
            Self::Server => "server",
            Self::Backend => "backend",
        }
    }

    /// Reads the name in the `hop` column.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "host" => Self::Host,
            "client" => Self::Client,
            "gateway" => Self::Gateway,
            "server" => Self::Server,
            "backend" => Self::Backend,
            _ => return None,
        })
    }
}

/// One row of `observations`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Owner of the row.
    pub tenant: TenantId,
    /// Identity: a hash of the record.
    pub observation_id: ObservationId,
    /// Signal it was read from.
    pub source: Source,
    /// Convention it was read by (`claude_code`, `gen_ai`, `openinference`, …).
    pub dialect: String,
    /// Instrumentation scope's name.
    pub scope: Option<String>,
    /// Record's own name: span name, event name or metric name.
    pub name: String,
    /// Server's clock when it arrived, nanoseconds since the Unix epoch.
    pub arrived_ns: i64,
    /// What settlement may do with it.
    pub role: Role,
    /// Sort of operation it is about.
    pub kind: CallKind,
    /// GenAI operation name, as reported.
    pub operation: Option<String>,
    /// Start of the operation, nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// Duration in nanoseconds, where known.
    pub duration_ns: Option<i64>,
    /// How it ended.
    pub status: Status,
    /// Error class of the failure.
    pub error_type: Option<String>,
    /// Who it belongs to.
    pub dimensions: Dimensions,
    /// Turn of the conversation (`prompt.id`, `turn.id`, …).
    pub turn_id: Option<String>,
    /// Trace it belongs to.
    pub trace_id: Option<TraceId>,
    /// Span it is, or for a log the span it was written in.
    pub span_id: Option<SpanId>,
    /// Parent span.
    pub parent_span_id: Option<SpanId>,
    /// OTLP span kind (1 internal, 2 server, 3 client); absent for logs and metrics.
    pub span_kind: Option<i32>,
    /// Where on the way of the request it was made; absent where the record does not tell.
    pub hop: Option<Hop>,
    /// Hash of the call's arguments as canonical JSON (object keys sorted), hex: joins records of one call
    /// that share no trace. Absent where arguments were not captured.
    pub arguments_hash: Option<String>,
    /// What the record tells of the call's context, as JSON, sizes and never texts: `agent` (its id), `hint` (server
    /// and tool whose result the call was for), `system` (bytes), `before`, `input`, `output` (parts of messages,
    /// `[kind, bytes, tool]`: before the model's last answer summed, since then one by one, the answer), `tools`
    /// (`[name, bytes, hash of the definition]`). Of a `tools/list`, what it listed.
    pub context_sizes: Option<String>,
    /// Id of the tool call as the model issued it: joins host span, host log and message parts.
    pub tool_call_id: Option<String>,
    /// MCP fields. `tool` is the name as called, before a host's prefix is removed.
    pub mcp: McpFields,
    /// Model fields.
    pub model: ModelFields,
    /// Tokens, inclusive.
    pub usage: Usage,
    /// Bytes.
    pub sizes: Sizes,
    /// Cost the record reports.
    pub reported_cost: Option<FemtoUsd>,
    /// Metric series (hash of resource, scope, name and attributes without the token type), for counters.
    pub series: Option<String>,
}

impl Observation {
    /// End of the operation where its duration is known, else its start.
    #[must_use]
    pub fn end_ns(&self) -> i64 {
        self.start_ns.saturating_add(self.duration_ns.unwrap_or(0))
    }
}
