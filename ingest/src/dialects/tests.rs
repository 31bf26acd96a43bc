//! The registry: who reads a scope, what users' files may do, what is wrong with a file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::{BUILT_IN, CONVENTIONS, Registry, builtin_files};

fn own(text: &str) -> Vec<(String, String)> {
    vec![("my.toml".to_owned(), text.to_owned())]
}

#[test]
fn every_built_in_file_compiles_and_says_where_its_facts_come_from() {
    let files = builtin_files();
    assert!(files.len() >= 6);
    let registry = Registry::from_files(&files).unwrap();
    for dialect in registry.dialects() {
        assert!(!dialect.emitter.is_empty(), "{}", dialect.name);
        assert!(!dialect.versions.is_empty(), "{}", dialect.name);
        assert!(!dialect.sources.is_empty(), "{}", dialect.name);
        assert_ne!(dialect.evidence, super::Evidence::User, "{}", dialect.name);
    }
}

#[test]
fn a_dialect_is_recognised_by_its_scope_then_by_its_service() {
    let registry = Registry::builtin();
    for (scope, service, expected) in [
        ("com.anthropic.claude_code.tracing", None, "claude_code"),
        ("com.anthropic.sdk.python", Some("trip-agent"), "anthropic_sdk"),
        ("openinference.instrumentation.openai", None, "openinference"),
        ("fastmcp", Some("weather-mcp"), "fastmcp"),
        ("mcp-python-sdk", None, "mcp_python_sdk"),
        ("", Some("claude-code"), "claude_code"),
        ("my.agent", Some("trip-agent"), CONVENTIONS),
    ] {
        assert_eq!(registry.recognise(scope, service).name, expected, "{scope} {service:?}");
    }
}

#[test]
fn a_users_file_adds_a_dialect() {
    let registry = Registry::with_files(&own(
        "name = \"acme\"\nservices = [\"acme-*\"]\n[keys]\ninput = [\"in\"]",
    ))
    .unwrap();
    let dialect = registry.recognise("acme.llm", Some("acme-agent"));
    assert_eq!((dialect.name.as_str(), dialect.file.as_str()), ("acme", "my.toml"));
    assert_eq!(registry.field_of("acme.llm", Some("acme-agent"), "in"), Some("input"));
    assert_eq!(
        registry.field_of("acme.llm", Some("acme-agent"), "gen_ai.usage.input_tokens"),
        Some("input")
    );
    assert_eq!(registry.field_of("acme.llm", Some("other"), "in"), None);
}

#[test]
fn a_users_file_replaces_or_extends_a_built_in_one() {
    let replaced = Registry::with_files(&own(
        "name = \"claude_code\"\nscopes = [\"com.anthropic.claude_code*\"]",
    ))
    .unwrap();
    let dialect = replaced.recognise("com.anthropic.claude_code.events", None);
    assert_eq!((dialect.file.as_str(), dialect.input_is_exclusive), ("my.toml", false));
    let extended = Registry::with_files(&own("extends = \"claude_code\"\n[keys]\nteam = [\"squad\"]")).unwrap();
    let dialect = extended.recognise("com.anthropic.claude_code.events", None);
    assert!(dialect.input_is_exclusive && dialect.file.contains(BUILT_IN) && dialect.file.contains("my.toml"));
    let field = |key| extended.field_of("com.anthropic.claude_code.events", None, key);
    assert_eq!((field("squad"), field("input_tokens")), (Some("team"), Some("input")));
    assert_eq!(extended.field_of("x", None, "squad"), None);
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    for (text, expected) in [
        ("nam = \"x\"", "nam"),
        ("name = \"x\"\n[keys]\ninputs = [\"a\"]", "inputs"),
        ("name = \"x\"\n[[span]]\nkind = \"lllm\"", "[[span]] number 1"),
        ("name = \"x\"\n[[span]]\nkind = \"llm\"\nrole = \"boss\"", "boss"),
        (
            "name = \"x\"\n[[span]]\nkind = \"llm\"\nset = { input = \"3\" }",
            "input",
        ),
        (
            "name = \"x\"\n[[log]]\nkind = \"tool\"\ntake = { tool = \"x\" }",
            "take.tool",
        ),
        ("name = \"x\"\n[[metric]]\nname = \"t\"\nkind = \"llm\"", "types"),
        ("scopes = [\"x\"]", "name"),
        ("extends = \"nobody\"", "nobody"),
        ("name = ", "my.toml"),
    ] {
        let error = Registry::with_files(&own(text)).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Invalid);
        let message = error.to_string();
        assert!(
            message.contains("my.toml") && message.contains(expected),
            "{text}: {message}"
        );
    }
}
