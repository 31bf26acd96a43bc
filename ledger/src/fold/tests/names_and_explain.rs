//! Names across spellings, and the explanation of calls.

use sha2::{Digest, Sha256};

use super::*;
use crate::fold::{Rule, explain};

fn hash(name: &str) -> String {
    hex::encode(Sha256::digest(name.as_bytes()))
}

fn named(id: u8, server: Option<&str>, name: &str) -> Observation {
    let mut call = tool(id, id, None, name, 1);
    call.start_ns += i64::from(id) * 10 * SECOND;
    call.mcp.server = server.map(str::to_owned);
    call
}

#[test]
fn a_hashed_tool_is_joined_with_the_server_that_has_it_in_clear() {
    let mut host = named(1, Some(&hash("weather")), &hash("get_forecast"));
    host.duration_ns = Some(2 * SECOND);
    let mut served = tool(2, 2, None, "get_forecast", 2);
    served.start_ns = host.start_ns + SECOND / 2;
    served.mcp.server = Some("weather".into());
    let calls = calls_of(&[host, served]);
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].mcp.server.as_deref(), Some("weather"));
    assert_eq!(calls[0].mcp.tool.as_deref(), Some("get_forecast"));
}

#[test]
fn names_seen_in_clear_resolve_hashed_and_prefixed_ones_of_other_calls() {
    let mut builtin = named(6, None, "bash");
    builtin.mcp.mcp_method = None;
    let calls = calls_of(&[
        named(1, Some("weather"), "get_forecast"),
        named(2, Some(&hash("weather")), &hash("get_forecast")),
        named(3, None, &format!("{}/{}", hash("weather"), hash("get_forecast"))),
        named(4, None, "weather-get_forecast"),
        named(5, None, "mcp__weatherget_forecast"),
        builtin,
        named(7, Some("weather"), "weather_get_forecast"),
    ]);
    let names: Vec<_> = calls
        .iter()
        .map(|call| {
            (
                call.mcp.server.as_deref(),
                call.mcp.tool.as_deref(),
                call.rules.as_str(),
            )
        })
        .collect();
    let clear = (Some("weather"), Some("get_forecast"));
    assert_eq!(
        names,
        [
            (clear.0, clear.1, ""),
            (clear.0, clear.1, "name_directory"),
            (clear.0, clear.1, "name_directory"),
            (clear.0, clear.1, "name_directory"),
            (clear.0, clear.1, "name_directory"),
            (None, Some("bash"), ""),
            (clear.0, clear.1, ""),
        ]
    );
}

#[test]
fn an_explanation_names_each_record_its_rule_and_where_each_field_is_from() {
    let mut span = blank(1, CallKind::Llm);
    span.usage = used(100, 20);
    span.usage.cache_read = Some(50);
    span.dimensions.service = Some("agent".into());
    span.model.response_id = Some("r".into());
    let mut log = event(2, "s", used(100, 20));
    log.reported_cost = spanledger_model::FemtoUsd::parse("0.25");
    log.model.response_id = Some("r".into());
    log.dimensions.service = Some("agent".into());
    let counter = point(3, Role::CounterDelta, "agent", Some("s"), used(100, 20));
    let explained = explain(&[span, log, counter]);
    assert_eq!(explained.len(), 1);
    let call = &explained[0];
    let rules: Vec<_> = call.members.iter().map(|member| (member.source, member.rule)).collect();
    assert_eq!(rules, [(Source::Span, None), (Source::Log, Some(Rule::ResponseId))]);
    let from = |field: &str| {
        let source = call.fields.iter().find(|source| source.field == field).unwrap();
        (source.value.as_str(), source.observation_id.map(|id| id.0[0]))
    };
    assert_eq!(from("cache_read_tokens"), ("50", Some(1)));
    assert_eq!(from("reported_cost"), ("0.25", Some(2)));
    assert_eq!(from("session_id"), ("s", Some(2)));
    assert_eq!(call.left_out.len(), 1);
    assert_eq!(call.left_out[0].rule, Rule::CounterCovered);
    assert!(call.fields.iter().all(|source| !source.why.is_empty()));
}

#[test]
fn every_rule_has_a_name_and_a_meaning_of_its_own() {
    let names: std::collections::BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
    let meanings: std::collections::BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.meaning()).collect();
    assert_eq!((names.len(), meanings.len()), (Rule::ALL.len(), Rule::ALL.len()));
}
