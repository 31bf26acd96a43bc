//! Records that follow no known convention: what their keys look like they mean.
//!
//! Only where nobody claims the scope or service, and only where the keys say so plainly: counts of input and
//! of output tokens beside a model's name are a model call. The observation's dialect is [`GUESSED`], so that
//! settlement marks the call and the coverage view shows it; a mapping in TOML then says it for certain.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use spanledger_model::{CallKind, Observation, Role, Usage};

use super::record::{LogRecordView, SpanView};
use super::{CONVENTIONS, names};
use crate::value;

/// The dialect of guessed observations.
pub const GUESSED: &str = "guessed";

/// What is guessed from a record's keys.
#[derive(Debug, Default)]
struct Guess {
    usage: Usage,
    model: Option<String>,
    provider: Option<String>,
}

/// A span of nobody's, guessed.
#[must_use]
pub fn read_span(view: &SpanView<'_>) -> Option<Observation> {
    let guess = guess(&view.origin.dialect.name, &view.span.attributes)?;
    Some(guess.fill(view.observation(CallKind::Llm, Role::Leaf)))
}

/// A log record of nobody's, guessed.
#[must_use]
pub fn read_log(view: &LogRecordView<'_>) -> Option<Observation> {
    let guess = guess(&view.origin.dialect.name, &view.record.attributes)?;
    Some(guess.fill(view.observation(CallKind::Llm, Role::Leaf)))
}

impl Guess {
    fn fill(self, mut observation: Observation) -> Observation {
        GUESSED.clone_into(&mut observation.dialect);
        let cached = self
            .usage
            .cache_read
            .unwrap_or(0)
            .saturating_add(self.usage.cache_write().unwrap_or(0));
        observation.usage = self.usage;
        if let Some(input) = observation.usage.input.filter(|input| cached > *input) {
            observation.usage.input = Some(input.saturating_add(cached));
        }
        observation.model.request_model = observation.model.request_model.take().or(self.model);
        observation.model.provider = observation.model.provider.take().or(self.provider);
        observation
    }
}

fn guess(dialect: &str, attributes: &[KeyValue]) -> Option<Guess> {
    // Most spans of nobody's are of web servers and databases: nothing in them counts tokens.
    if dialect != CONVENTIONS || !attributes.iter().any(|attribute| attribute.key.contains("oken")) {
        return None;
    }
    let mut guess = Guess::default();
    for attribute in attributes {
        let Some(field) = usage_like(&attribute.key) else {
            continue;
        };
        let Some(sent) = attribute.value.as_ref() else { continue };
        let count = || value::int(sent).filter(|count| *count >= 0);
        match field {
            "input" => guess.usage.input = guess.usage.input.or_else(count),
            "output" => guess.usage.output = guess.usage.output.or_else(count),
            "cache_read" => guess.usage.cache_read = guess.usage.cache_read.or_else(count),
            "cache_write" => guess.usage.cache_write_5m = guess.usage.cache_write_5m.or_else(count),
            "reasoning" => guess.usage.reasoning = guess.usage.reasoning.or_else(count),
            "request_model" => guess.model = guess.model.take().or_else(|| value::owned_text(sent)),
            "provider" => {
                let named = || value::owned_text(sent).map(|name| names::provider(&name));
                guess.provider = guess.provider.take().or_else(named);
            }
            _ => {}
        }
    }
    let is_a_model_call = guess.model.is_some() && guess.usage.input.is_some() && guess.usage.output.is_some();
    is_a_model_call.then_some(guess)
}

/// The canonical field that a key nobody reads looks like, by how it ends.
#[must_use]
pub fn usage_like(key: &str) -> Option<&'static str> {
    // The shortest words first: most keys of most spans end here.
    const LAST: [&str; 21] = [
        "tokens",
        "token",
        "count",
        "model",
        "model_name",
        "provider",
        "cost",
        "usd",
        "tool",
        "name",
        "server",
        "user",
        "email",
        "team",
        "project",
        "cost_center",
        "session",
        "conversation",
        "id",
        "tool_name",
        "server_name",
    ];
    let lower = key.to_ascii_lowercase();
    let is_any = |endings: &[&str]| endings.iter().any(|ending| lower.ends_with(ending));
    if !is_any(&LAST) {
        return None;
    }
    let words = lower.replace(['-', '.', ':', '/'], "_");
    let ends = |endings: &[&str]| {
        endings
            .iter()
            .any(|ending| words == *ending || words.strip_suffix(ending).is_some_and(|rest| rest.ends_with('_')))
    };
    let is_tokens = words.ends_with("tokens") || words.ends_with("token_count") || words.ends_with("tokencount");
    Some(match () {
        () if is_tokens && words.contains("cach") && (words.contains("read") || words.contains("cached")) => {
            "cache_read"
        }
        () if is_tokens && words.contains("cach") && (words.contains("writ") || words.contains("creat")) => {
            "cache_write"
        }
        () if is_tokens && (words.contains("reasoning") || words.contains("thought") || words.contains("thinking")) => {
            "reasoning"
        }
        () if ends(&[
            "input_tokens",
            "prompt_tokens",
            "inputtokens",
            "prompttokens",
            "tokens_in",
            "input_token_count",
            "prompt_token_count",
        ]) =>
        {
            "input"
        }
        () if ends(&[
            "output_tokens",
            "completion_tokens",
            "outputtokens",
            "completiontokens",
            "tokens_out",
            "output_token_count",
            "completion_token_count",
        ]) =>
        {
            "output"
        }
        () if ends(&["cost", "cost_usd", "usd"]) => "cost",
        () if ends(&["tool_name", "tool"]) => "tool",
        () if ends(&["mcp_server", "mcp_server_name", "server_name"]) && words.contains("mcp") => "server",
        () if ends(&["model", "model_name", "model_id", "request_model", "response_model"]) => "request_model",
        () if ends(&["provider", "provider_name"]) => "provider",
        () if ends(&["user", "user_id", "user_email"]) => "user",
        () if ends(&["team", "team_id", "team_name"]) => "team",
        () if ends(&["project", "project_id", "project_name"]) => "project",
        () if ends(&["cost_center"]) => "cost_center",
        () if ends(&["session_id", "conversation_id"]) && !words.starts_with("mcp") => "conversation",
        () => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::usage_like;

    #[test]
    fn keys_are_guessed_by_how_they_end() {
        for (key, expected) in [
            ("acme.llm.input_tokens", Some("input")),
            ("acme.completionTokens", Some("output")),
            ("usage.cache-read.tokens", Some("cache_read")),
            ("x.cache_creation_tokens", Some("cache_write")),
            ("x.thinking_tokens", Some("reasoning")),
            ("acme.model", Some("request_model")),
            ("acme.total_cost", Some("cost")),
            ("acme.tool.name", Some("tool")),
            ("mcp.server_name", Some("server")),
            ("acme.team.id", Some("team")),
            ("acme.user_id", Some("user")),
            ("http.server.name", None),
            ("thread.name", None),
            ("thread.id", None),
            ("remodel", None),
            ("mcp.session_id", None),
        ] {
            assert_eq!(usage_like(key), expected, "{key}");
        }
    }
}
