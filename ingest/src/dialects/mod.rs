//! Dialects: what an emitter's records mean, in the words of `observations`.
//!
//! A dialect is a [`Dialect`] value: the scopes and services it recognises, the keys of its own
//! ([`fields::Mapping`], data), and three functions that say what a span, a log record or a metric point is
//! (an LLM call, a tool call, a roll-up, a counter, or nothing). Everything that the conventions share is
//! done once, in [`record`]: reading fields in order of precedence, inclusive token counts, providers'
//! names, status, sizes. To add one: write `dialects/<name>.rs`, list it in [`ALL`], and put a capture under
//! `testkit/fixtures/captures/` with its `expected.json`.
//!
//! Guarantees: reading never fails and never panics; a record that no dialect knows gives no observation
//! but stands whole in `spans`, `logs` or `metrics`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`fields`] | canonical fields and the keys that spell them |
//! | [`record`] | the records handed to dialects, and the observation they start from |
//! | [`names`] | providers, tool names with a host's prefix, MCP span names |
//! | [`gen_ai`] | the OpenTelemetry GenAI and MCP conventions, three generations; the fallback |
//! | [`mcp_python`] | FastMCP and the MCP Python SDK |
//! | [`claude_code`] | Claude Code: logs, metrics, traces |
//! | [`openinference`] | OpenInference |
//! | [`anthropic_sdk`] | the Anthropic SDK's own spans |

pub mod anthropic_sdk;
pub mod claude_code;
pub mod fields;
pub mod gen_ai;
pub mod mcp_python;
pub mod names;
pub mod openinference;
pub mod record;

use std::sync::OnceLock;

use spanledger_model::Observation;

use fields::{BASE, KeyTable, Mapping};
use record::{LogRecordView, PointView, SpanView};

/// What an emitter's records mean.
#[derive(Debug)]
pub struct Dialect {
    /// Name in the `dialect` column.
    pub name: &'static str,
    /// Instrumentation scopes it sends under; a trailing `*` matches any rest.
    pub scopes: &'static [&'static str],
    /// Values of `service.name` it is known by where its scope says nothing.
    pub services: &'static [&'static str],
    /// True where its input count leaves out cached tokens. A property of the dialect, not of the provider.
    pub input_is_exclusive: bool,
    /// Keys that mean something only in this dialect; they win over the common ones.
    pub keys: Mapping,
    /// What a span is.
    pub span: fn(&SpanView<'_>) -> Option<Observation>,
    /// What a log record is.
    pub log: fn(&LogRecordView<'_>) -> Option<Observation>,
    /// What a metric point is.
    pub point: fn(&PointView<'_>) -> Option<Observation>,
}

/// All dialects, the most specific first. The last one is the fallback for any scope.
pub const ALL: [&Dialect; 6] = [
    &claude_code::DIALECT,
    &anthropic_sdk::DIALECT,
    &openinference::DIALECT,
    &mcp_python::FASTMCP,
    &mcp_python::MCP_SDK,
    &gen_ai::DIALECT,
];

/// A dialect with its compiled key table.
#[derive(Debug)]
pub struct Compiled {
    /// The dialect.
    pub dialect: &'static Dialect,
    /// Its keys over the common ones.
    pub keys: KeyTable,
}

/// The dialect of a scope and service.
#[must_use]
pub fn recognise(scope: &str, service: Option<&str>) -> &'static Compiled {
    let compiled = compiled();
    let by_scope = compiled
        .iter()
        .find(|candidate| candidate.dialect.scopes.iter().any(|known| matches(known, scope)));
    let by_service = || {
        let service = service?;
        compiled
            .iter()
            .find(|candidate| candidate.dialect.services.iter().any(|known| matches(known, service)))
    };
    by_scope.or_else(by_service).unwrap_or(&compiled[ALL.len() - 1])
}

fn compiled() -> &'static [Compiled; ALL.len()] {
    static COMPILED: OnceLock<[Compiled; ALL.len()]> = OnceLock::new();
    COMPILED.get_or_init(|| {
        ALL.map(|dialect| Compiled {
            dialect,
            keys: KeyTable::new(&[dialect.keys, BASE]),
        })
    })
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialect_is_recognised_by_its_scope_then_by_its_service() {
        for (scope, service, expected) in [
            ("com.anthropic.claude_code.tracing", None, "claude_code"),
            ("com.anthropic.sdk.python", Some("trip-agent"), "anthropic_sdk"),
            ("openinference.instrumentation.openai", None, "openinference"),
            ("fastmcp", Some("weather-mcp"), "fastmcp"),
            ("mcp-python-sdk", None, "mcp_python_sdk"),
            ("", Some("claude-code"), "claude_code"),
            ("my.agent", Some("trip-agent"), "gen_ai"),
        ] {
            assert_eq!(recognise(scope, service).dialect.name, expected, "{scope} {service:?}");
        }
    }
}
