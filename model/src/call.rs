//! One logical operation: an LLM call, an MCP call, an agent run.

use crate::ids::{CallId, ObservationId, SpanId, TenantId, TraceId};
use crate::money::FemtoUsd;
use crate::usage::Usage;

/// What sort of operation a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallKind {
    /// A model's answer.
    Llm,
    /// An embedding, rerank or moderation: charged too.
    Embedding,
    /// A tool call; `server` is absent for a host's built-in tool.
    Tool,
    /// An MCP prompt fetched.
    Prompt,
    /// An MCP resource read.
    Resource,
    /// An agent or workflow run: a frame around calls, never charged itself.
    Agent,
    /// Any other MCP method.
    Mcp,
}

impl CallKind {
    /// The name in the `kind` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Llm => "llm",
            Self::Embedding => "embedding",
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Resource => "resource",
            Self::Agent => "agent",
            Self::Mcp => "mcp",
        }
    }

    /// Reads the name in the `kind` column.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "llm" => Self::Llm,
            "embedding" => Self::Embedding,
            "tool" => Self::Tool,
            "prompt" => Self::Prompt,
            "resource" => Self::Resource,
            "agent" => Self::Agent,
            "mcp" => Self::Mcp,
            _ => return None,
        })
    }

    /// True for the kinds that a model price applies to.
    #[must_use]
    pub fn uses_a_model(self) -> bool {
        matches!(self, Self::Llm | Self::Embedding)
    }

    /// True for the kinds that are one MCP request (or a host's tool call, which may be one).
    #[must_use]
    pub fn is_mcp(self) -> bool {
        matches!(self, Self::Tool | Self::Prompt | Self::Resource | Self::Mcp)
    }
}

/// How an operation ended. Ordered from best to worst: the worst of a chain wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Status {
    /// The record says nothing: taken as success.
    #[default]
    Unset,
    /// Success.
    Ok,
    /// Failure.
    Error,
}

impl Status {
    /// The name in the `status` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "unset",
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }

    /// Reads the name in the `status` column.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        match name {
            "ok" => Self::Ok,
            "error" => Self::Error,
            _ => Self::Unset,
        }
    }
}

/// Who an operation belongs to, and where it ran: the dimensions every total can be split by.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Dimensions {
    /// `service.name` of the emitter.
    pub service: Option<String>,
    /// Deployment environment.
    pub environment: Option<String>,
    /// Team that pays.
    pub team: Option<String>,
    /// Project or service namespace.
    pub project: Option<String>,
    /// Cost centre of the books that the cost is charged to.
    pub cost_center: Option<String>,
    /// User: e-mail, hash or id, as reported.
    pub user_id: Option<String>,
    /// Agent's name.
    pub agent: Option<String>,
    /// MCP client or host application.
    pub client: Option<String>,
    /// Conversation or host session; never `mcp.session.id`.
    pub session_id: Option<String>,
    /// Alias (or hash) of the API key a gateway knows the caller by; never the key.
    pub api_key: Option<String>,
}

/// What an MCP request was about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct McpFields {
    /// MCP server's name.
    pub server: Option<String>,
    /// Tool's name on its server, without a host's prefix.
    pub tool: Option<String>,
    /// Prompt's name.
    pub prompt: Option<String>,
    /// Prompt's version.
    pub prompt_version: Option<String>,
    /// Resource read.
    pub resource_uri: Option<String>,
    /// JSON-RPC method.
    pub mcp_method: Option<String>,
    /// Negotiated protocol date.
    pub mcp_protocol_version: Option<String>,
    /// `stdio` or `http`.
    pub transport: Option<String>,
    /// JSON-RPC request id.
    pub request_id: Option<String>,
}

/// Which model answered, and how it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct ModelFields {
    /// Provider, as the GenAI conventions name it (`anthropic`, `openai`, `aws.bedrock`, …).
    pub provider: Option<String>,
    /// Model asked for.
    pub request_model: Option<String>,
    /// Model that answered: the one that is billed.
    pub response_model: Option<String>,
    /// Provider's id of the answer.
    pub response_id: Option<String>,
    /// Service tier that was billed (`flex`, `priority`, …).
    pub service_tier: Option<String>,
    /// `batch` for batch processing.
    pub processing: Option<String>,
}

/// Sizes of what travelled, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Sizes {
    /// Arguments or request.
    pub request_bytes: Option<i64>,
    /// Result or answer.
    pub response_bytes: Option<i64>,
    /// Tool definitions listed.
    pub definition_bytes: Option<i64>,
}

/// How sure the fold is that the records of a call are one call, and that no other row repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Confidence {
    /// One record, or records joined by an id that they share.
    #[default]
    Reported,
    /// Joined by ancestry, equal counts or names beyond reasonable doubt.
    Inferred,
    /// Joined or read by the best guess there was: times, a name's form, a counter's grain.
    Guessed,
}

impl Confidence {
    /// The name in the `confidence` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Inferred => "inferred",
            Self::Guessed => "guessed",
        }
    }

    /// Reads the name in the `confidence` column; of an older lake that has none, reported.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        match name {
            "inferred" => Self::Inferred,
            "guessed" => Self::Guessed,
            _ => Self::Reported,
        }
    }
}

/// One row of `calls`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Call {
    /// Owner of the row.
    pub tenant: TenantId,
    /// Identity, stable over re-settlement.
    pub call_id: CallId,
    /// Sort of operation.
    pub kind: CallKind,
    /// GenAI operation name (`chat`, `execute_tool`, …) as reported.
    pub operation: Option<String>,
    /// Start, nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// Duration in nanoseconds, where known.
    pub duration_ns: Option<i64>,
    /// Conventions it was read from, sorted, comma-separated.
    pub dialects: String,
    /// Observations it was folded from, sorted.
    pub observation_ids: Vec<ObservationId>,
    /// Rules that folded its records into one call or left repeats of it out, sorted, comma-separated
    /// (docs/counting.md names them).
    pub rules: String,
    /// The least sure of those rules.
    pub confidence: Confidence,
    /// How many hops (spans of host, client, gateway, server) the operation took.
    pub hops: i32,
    /// The worst status of the chain.
    pub status: Status,
    /// Error class of the failure.
    pub error_type: Option<String>,
    /// Who it belongs to.
    pub dimensions: Dimensions,
    /// Allocation rules that set dimensions, `team=ci-keys,project=ci-keys<growth`: dimension, rule, and what the
    /// records said where it was overridden. Absent where no rule set any.
    pub allocated_by: Option<String>,
    /// Trace of the anchor.
    pub trace_id: Option<TraceId>,
    /// Span of the anchor.
    pub span_id: Option<SpanId>,
    /// Parent of the anchor.
    pub parent_span_id: Option<SpanId>,
    /// MCP fields.
    pub mcp: McpFields,
    /// Model fields.
    pub model: ModelFields,
    /// Tokens, inclusive.
    pub usage: Usage,
    /// Bytes.
    pub sizes: Sizes,
    /// Cost that a record of the call reported.
    pub reported_cost: Option<FemtoUsd>,
    /// Effective cost of this call alone; absent where it is unpriced.
    pub own_cost: Option<FemtoUsd>,
    /// Effective cost of this call and of everything below it.
    pub total_cost: Option<FemtoUsd>,
}
