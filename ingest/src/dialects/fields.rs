//! Canonical fields, and the keys that emitters spell them with.
//!
//! A [`Mapping`] is data: for each [`Field`] the keys that may hold it, in order of precedence (the first
//! hit wins). [`BASE`] holds the namespaced keys that mean the same whoever sends them; a dialect adds its
//! own, bare ones (`input_tokens`, `model`), which mean something only within it. Reading a record is one
//! pass over its attributes with one hash look-up each. Source of the order: the canonical mapping of the
//! telemetry research (docs/emitters.md).

use std::collections::HashMap;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use spanledger_model::FemtoUsd;

use crate::value;

macro_rules! fields {
    ($($name:ident),* $(,)?) => {
        /// A canonical field of an observation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // The names are those of the columns they fill.
        pub enum Field { $($name),* }
        /// Number of canonical fields.
        pub const N_FIELDS: usize = [$(Field::$name),*].len();
    };
}

fields! {
    Conversation, Turn, McpMethod, Server, Tool, ToolCallId, Prompt, PromptVersion, ResourceUri, RequestId,
    Transport, ProtocolVersion, Provider, RequestModel, ResponseModel, ResponseId, ServiceTier, Processing,
    Input, CacheRead, CacheWrite, CacheWrite5m, CacheWrite1h, Output, Reasoning, AudioInput, AudioOutput,
    ImageInput, WebSearches, Cost, User, Team, Project, Environment, Agent, Client, ErrorType, RequestBytes,
    ResponseBytes, DefinitionBytes, Operation, Arguments, ResultText, Frame, Success, HttpStatus, DurationMs,
    Metadata, JsonRpcStatus,
}

/// Keys of a field in order of precedence.
pub type Mapping = &'static [(Field, &'static [&'static str])];

/// The keys that mean the same in every dialect.
pub const BASE: Mapping = &[
    (
        Field::Conversation,
        &[
            "gen_ai.conversation.id",
            "conversation.id",
            "session.id",
            "cursor.conversation.id",
            "langsmith.trace.session_id",
            "ai.telemetry.metadata.sessionId",
            "traceloop.association.properties.session_id",
        ],
    ),
    (
        Field::Turn,
        &[
            "turn.id",
            "github.copilot.interaction_id",
            "gcp.vertex.agent.invocation_id",
        ],
    ),
    (Field::McpMethod, &["mcp.method.name"]),
    (
        Field::Server,
        &[
            "mcp.server.name",
            "mcp_server_name",
            "fastmcp.server.name",
            "mcp.target",
            "mcp.backend.name",
            "mcp.backend",
        ],
    ),
    (Field::Tool, &["gen_ai.tool.name", "tool.name", "mcp.tool.name"]),
    (
        Field::ToolCallId,
        &[
            "gen_ai.tool.call.id",
            "gen_ai.tool.call_id",
            "tool_use_id",
            "tool.call_id",
            "tool.id",
        ],
    ),
    (
        Field::Prompt,
        &[
            "gen_ai.prompt.name",
            "langfuse.observation.prompt.name",
            "traceloop.prompt.key",
        ],
    ),
    (
        Field::PromptVersion,
        &[
            "gen_ai.prompt.version",
            "langfuse.observation.prompt.version",
            "traceloop.prompt.version",
            "llm.prompt_template.version",
        ],
    ),
    (Field::ResourceUri, &["mcp.resource.uri", "resource.uri"]),
    (
        Field::RequestId,
        &["jsonrpc.request.id", "mcp.request.id", "rpc.jsonrpc.request_id"],
    ),
    (Field::Transport, &["network.transport", "mcp.transport"]),
    (
        Field::ProtocolVersion,
        &["mcp.protocol.version", "mcp.protocol_version"],
    ),
    (
        Field::Provider,
        &[
            "gen_ai.provider.name",
            "gen_ai.system",
            "llm.provider",
            "llm.system",
            "ai.model.provider",
        ],
    ),
    (
        Field::RequestModel,
        &[
            "gen_ai.request.model",
            "llm.request.model_name",
            "llm.model_name",
            "embedding.model_name",
            "ai.model.id",
            "gen_ai.original.model",
        ],
    ),
    (
        Field::ResponseModel,
        &[
            "litellm.provider.model",
            "gen_ai.response.model",
            "llm.response.model_name",
            "ai.response.model",
        ],
    ),
    (Field::ResponseId, &["gen_ai.response.id", "ai.response.id"]),
    (
        Field::ServiceTier,
        &[
            "openai.response.service_tier",
            "gen_ai.openai.response.service_tier",
            "anthropic.response.service_tier",
            "gen_ai.response.service_tier",
            "spanledger.service_tier",
        ],
    ),
    (Field::Processing, &["spanledger.processing"]),
    (
        Field::Input,
        &[
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.prompt_tokens",
            "llm.token_count.prompt",
            "ai.usage.inputTokens",
            "ai.usage.promptTokens",
        ],
    ),
    (
        Field::CacheRead,
        &[
            "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.cache_read_input_tokens",
            "llm.token_count.prompt_details.cache_read",
            "llm.token_count.prompt_details.cache_input",
            "ai.usage.inputTokenDetails.cacheReadTokens",
            "ai.usage.cachedInputTokens",
            "gen_ai.usage.details.cache_read_tokens",
        ],
    ),
    (
        Field::CacheWrite,
        &[
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.cache_creation_input_tokens",
            "llm.token_count.prompt_details.cache_write",
            "gen_ai.usage.details.cache_write_tokens",
        ],
    ),
    (
        Field::CacheWrite5m,
        &[
            "anthropic.usage.cache_creation.ephemeral_5m_input_tokens",
            "gen_ai.usage.details.ephemeral_5m_input_tokens",
            "spanledger.cache_write_5m_tokens",
        ],
    ),
    (
        Field::CacheWrite1h,
        &[
            "anthropic.usage.cache_creation.ephemeral_1h_input_tokens",
            "gen_ai.usage.details.ephemeral_1h_input_tokens",
            "spanledger.cache_write_1h_tokens",
        ],
    ),
    (
        Field::Output,
        &[
            "gen_ai.usage.output_tokens",
            "gen_ai.usage.completion_tokens",
            "llm.token_count.completion",
            "ai.usage.outputTokens",
            "ai.usage.completionTokens",
        ],
    ),
    (
        Field::Reasoning,
        &[
            "gen_ai.usage.reasoning.output_tokens",
            "gen_ai.usage.reasoning_tokens",
            "llm.usage.reasoning_tokens",
            "gen_ai.usage.details.reasoning_tokens",
            "llm.token_count.completion_details.reasoning",
            "ai.usage.reasoningTokens",
        ],
    ),
    (
        Field::AudioInput,
        &["llm.token_count.prompt_details.audio", "spanledger.audio_input_tokens"],
    ),
    (
        Field::AudioOutput,
        &[
            "llm.token_count.completion_details.audio",
            "spanledger.audio_output_tokens",
        ],
    ),
    (
        Field::ImageInput,
        &["llm.token_count.prompt_details.image", "spanledger.image_input_tokens"],
    ),
    (Field::WebSearches, &["spanledger.web_searches"]),
    (
        Field::Cost,
        &[
            "agw.ai.usage.cost.total",
            "gen_ai.cost.total_cost",
            "operation.cost",
            "llm.cost.total",
            "gen_ai.usage.cost",
        ],
    ),
    (
        Field::User,
        &[
            "user.email",
            "user.id",
            "enduser.id",
            "metadata.user_api_key_end_user_id",
            "metadata.user_api_key_user_email",
            "metadata.user_api_key_user_id",
            "llm.user",
            "gen_ai.user",
            "cursor.user.id",
            "user.account_uuid",
            "ai.telemetry.metadata.userId",
            "traceloop.association.properties.user_id",
            "langfuse.user.id",
            "jwt.sub",
        ],
    ),
    (
        Field::Team,
        &[
            "team.id",
            "team",
            "spanledger.team",
            "department",
            "cost_center",
            "metadata.user_api_key_team_alias",
            "metadata.user_api_key_team_id",
            "cursor.team.id",
            "team.name",
            "traceloop.association.properties.team",
            "organization",
            "organization.id",
        ],
    ),
    (
        Field::Project,
        &[
            "project.id",
            "project",
            "spanledger.project",
            "metadata.user_api_key_project_alias",
            "openinference.project.name",
            "service.namespace",
        ],
    ),
    (
        Field::Environment,
        &[
            "deployment.environment.name",
            "deployment.environment",
            "langfuse.environment",
            "spanledger.environment",
        ],
    ),
    (
        Field::Agent,
        &["gen_ai.agent.name", "agent.name", "traceloop.workflow.name"],
    ),
    (Field::Client, &["mcp.client.name", "gen_ai.caller.name"]),
    (Field::ErrorType, &["error.type", "error_type", "mcp.error.code"]),
    (Field::JsonRpcStatus, &["rpc.response.status_code"]),
    (
        Field::RequestBytes,
        &[
            "tool_input_size_bytes",
            "spanledger.request_bytes",
            "rpc.message.sent_size",
            "http.request.body.size",
        ],
    ),
    (
        Field::ResponseBytes,
        &[
            "tool_result_size_bytes",
            "spanledger.response_bytes",
            "rpc.message.received_size",
            "http.response.body.size",
        ],
    ),
    (Field::DefinitionBytes, &["spanledger.definition_bytes"]),
    (Field::Operation, &["gen_ai.operation.name"]),
    (
        Field::Arguments,
        &[
            "gen_ai.tool.call.arguments",
            "tool.parameters",
            "traceloop.entity.input",
        ],
    ),
    (
        Field::ResultText,
        &[
            "gen_ai.tool.call.result",
            "mcp.response.value",
            "traceloop.entity.output",
        ],
    ),
    (
        Field::Frame,
        &[
            "openinference.span.kind",
            "traceloop.span.kind",
            "langsmith.span.kind",
            "gen_ai.span.kind",
        ],
    ),
    (Field::Success, &["success"]),
    (Field::HttpStatus, &["http.response.status_code"]),
    (Field::Metadata, &["metadata"]),
];

/// A mapping compiled for look-up: key → (field, rank).
#[derive(Debug)]
pub struct KeyTable(HashMap<&'static str, (Field, u8)>);

impl KeyTable {
    /// Compiles mappings; the keys of an earlier mapping win over those of a later one.
    #[must_use]
    pub fn new(mappings: &[Mapping]) -> Self {
        let mut table = HashMap::new();
        for (level, mapping) in mappings.iter().enumerate() {
            for (field, keys) in *mapping {
                for (position, key) in keys.iter().enumerate() {
                    let rank = u8::try_from(level * 64 + position).unwrap_or(u8::MAX);
                    table.entry(*key).or_insert((*field, rank));
                }
            }
        }
        Self(table)
    }

    /// The canonical field a key feeds.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<Field> {
        self.0.get(key).map(|entry| entry.0)
    }
}

/// The canonical fields of one record, each the value of the best key that was present.
#[derive(Debug, Clone)]
pub struct Fields<'r> {
    values: [Option<&'r AnyValue>; N_FIELDS],
    n_set: usize,
}

impl<'r> Fields<'r> {
    /// Reads attributes through a table. Empty values and empty strings are absent.
    #[must_use]
    pub fn read(table: &KeyTable, attributes: &'r [KeyValue]) -> Self {
        let mut values = [None; N_FIELDS];
        let mut ranks = [u8::MAX; N_FIELDS];
        let mut n_set = 0;
        for attribute in attributes {
            let Some((field, rank)) = table.0.get(attribute.key.as_str()) else {
                continue;
            };
            let Some(value) = attribute.value.as_ref().filter(|value| is_present(value)) else {
                continue;
            };
            let index = *field as usize;
            if values[index].is_none() || *rank <= ranks[index] {
                n_set += usize::from(values[index].is_none());
                values[index] = Some(value);
                ranks[index] = *rank;
            }
        }
        Self { values, n_set }
    }

    /// True where no canonical field was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_set == 0
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, field: Field) -> Option<&'r AnyValue> {
        self.values[field as usize]
    }

    /// True where the field was sent.
    #[must_use]
    pub fn has(&self, field: Field) -> bool {
        self.get(field).is_some()
    }

    /// The field as text.
    #[must_use]
    pub fn text(&self, field: Field) -> Option<String> {
        self.get(field).and_then(value::owned_text)
    }

    /// The field as borrowed text, where it was sent as a string.
    #[must_use]
    pub fn str(&self, field: Field) -> Option<&'r str> {
        use opentelemetry_proto::tonic::common::v1::any_value::Value;
        match self.get(field)?.value.as_ref()? {
            Value::StringValue(text) => Some(text),
            _ => None,
        }
    }

    /// The field as a count. Negative counts are invalid and absent.
    #[must_use]
    pub fn count(&self, field: Field) -> Option<i64> {
        self.get(field).and_then(value::int).filter(|count| *count >= 0)
    }

    /// The field as money.
    #[must_use]
    pub fn money(&self, field: Field) -> Option<FemtoUsd> {
        self.get(field).and_then(value::money)
    }

    /// True where any token count was sent.
    #[must_use]
    pub fn has_usage(&self) -> bool {
        [Field::Input, Field::Output, Field::CacheRead, Field::CacheWrite]
            .into_iter()
            .any(|field| self.has(field))
    }
}

fn is_present(value: &AnyValue) -> bool {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    match value.value.as_ref() {
        None | Some(Value::StringValueStrindex(_)) => false,
        Some(Value::StringValue(text)) => !text.is_empty(),
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    use super::*;

    fn attribute(key: &str, value: Value) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: Some(AnyValue { value: Some(value) }),
            ..Default::default()
        }
    }

    #[test]
    fn the_first_key_of_a_field_wins_in_any_order_of_arrival() {
        let table = KeyTable::new(&[BASE]);
        let old = attribute("gen_ai.usage.prompt_tokens", Value::IntValue(1));
        let new = attribute("gen_ai.usage.input_tokens", Value::IntValue(2));
        for attributes in [[old.clone(), new.clone()], [new, old]] {
            assert_eq!(Fields::read(&table, &attributes).count(Field::Input), Some(2));
        }
    }

    #[test]
    fn the_last_of_a_repeated_key_is_kept() {
        let table = KeyTable::new(&[BASE]);
        let attributes = [
            attribute("team", Value::StringValue("a".into())),
            attribute("team", Value::StringValue("b".into())),
        ];
        assert_eq!(
            Fields::read(&table, &attributes).text(Field::Team).as_deref(),
            Some("b")
        );
    }

    #[test]
    fn empty_and_negative_values_are_absent() {
        let table = KeyTable::new(&[BASE]);
        let attributes = [
            attribute("gen_ai.usage.input_tokens", Value::IntValue(-5)),
            attribute("team.id", Value::StringValue(String::new())),
            attribute("team", Value::StringValue("search".into())),
        ];
        let fields = Fields::read(&table, &attributes);
        assert_eq!(fields.count(Field::Input), None);
        assert_eq!(fields.text(Field::Team).as_deref(), Some("search"));
    }

    #[test]
    fn no_key_of_the_base_feeds_two_fields() {
        let mut seen = std::collections::HashSet::new();
        for key in BASE.iter().flat_map(|(_, keys)| keys.iter()) {
            assert!(seen.insert(*key), "{key} stands twice");
        }
    }
}
