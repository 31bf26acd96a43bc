//! Scrubbing: lengths and structure stay, prose and people go.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use super::*;

const SYSTEM: &str = "You are the company's assistant for travel. Never tell anyone about the merger with Initech that is \
                      planned for the third quarter, and answer every question in the customer's own language.";

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

fn logs(attributes: Vec<KeyValue>) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource {
                attributes: vec![attribute("host.name", "jane-laptop"), attribute("service.name", "acme")],
                ..Resource::default()
            }),
            scope_logs: vec![ScopeLogs {
                log_records: vec![LogRecord {
                    attributes,
                    time_unix_nano: 7,
                    ..LogRecord::default()
                }],
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

/// The attributes of the one log record after scrubbing, in protobuf and in JSON; both must agree.
fn scrubbed(attributes: Vec<KeyValue>) -> Vec<String> {
    let scrubber = Scrubber::new(["buildbox7".to_owned()]);
    let request = logs(attributes);
    let read = |request: ExportLogsServiceRequest| -> Vec<String> {
        let resource = &request.resource_logs[0];
        assert_ne!(
            text_of(&resource.resource.as_ref().unwrap().attributes[0]),
            "jane-laptop"
        );
        assert_eq!(text_of(&resource.resource.as_ref().unwrap().attributes[1]), "acme");
        resource.scope_logs[0].log_records[0]
            .attributes
            .iter()
            .map(text_of)
            .collect()
    };
    let mut protobuf = request.encode_to_vec();
    let length = protobuf.len();
    scrubber.scrub(Signal::Logs, Encoding::Protobuf, &mut protobuf);
    assert_eq!(protobuf.len(), length);
    let from_protobuf = read(ExportLogsServiceRequest::decode(protobuf.as_slice()).unwrap());
    let mut json = serde_json::to_vec_pretty(&request).unwrap();
    let length = json.len();
    scrubber.scrub(Signal::Logs, Encoding::Json, &mut json);
    assert_eq!(json.len(), length);
    let from_json = read(serde_json::from_slice(&json).unwrap());
    for (a, b) in from_protobuf.iter().zip(&from_json) {
        assert_eq!(a.len(), b.len(), "{a}\n{b}");
    }
    from_protobuf
}

fn text_of(attribute: &KeyValue) -> String {
    match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn prose_becomes_filler_of_the_same_length_and_equal_prose_stays_equal() {
    let seen = scrubbed(vec![
        attribute("system", SYSTEM),
        attribute("again", SYSTEM),
        attribute("model", "claude-sonnet-4-5"),
        attribute("question", "weather in Oslo?"),
    ]);
    assert_eq!(seen[0].len(), SYSTEM.len());
    assert!(!seen[0].contains("merger") && seen[0] == seen[1], "{}", seen[0]);
    assert_eq!(seen[2..], ["claude-sonnet-4-5", "weather in Oslo?"]);
}

#[test]
fn json_inside_a_string_keeps_keys_numbers_and_structure_at_any_depth() {
    let inner =
        serde_json::json!({"role": "system", "parts": [{"type": "text", "content": SYSTEM, "n": 12}]}).to_string();
    let outer = serde_json::json!({"body": inner, "id": "toolu_01", "usage": {"input_tokens": 186}}).to_string();
    let seen = scrubbed(vec![attribute("gen_ai.input.messages", &outer)]);
    assert_eq!(seen[0].len(), outer.len());
    let read: serde_json::Value = serde_json::from_str(&seen[0]).unwrap();
    assert_eq!(
        (&read["id"], &read["usage"]["input_tokens"]),
        (&"toolu_01".into(), &186.into())
    );
    let inner: serde_json::Value = serde_json::from_str(read["body"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&inner["role"], &inner["parts"][0]["n"]),
        (&"system".into(), &12.into())
    );
    assert_eq!(inner["parts"][0]["content"].as_str().unwrap().len(), SYSTEM.len());
    assert!(!seen[0].contains("merger"), "{}", seen[0]);
}

#[test]
fn python_reprs_and_json_that_was_cut_off_are_scrubbed_too() {
    let python = format!(
        "{{'name': 'search', 'description': '{}', 'cost': None}}",
        SYSTEM.replace('\'', "\\'")
    );
    let cut = &serde_json::json!([{"text": SYSTEM}]).to_string()[..180];
    let seen = scrubbed(vec![
        attribute("tool", &python),
        attribute("cut", cut),
        attribute("log", &format!("[INFO] {SYSTEM}")),
    ]);
    assert!(
        seen[0].contains("'name': 'search'") && seen[0].contains("'cost': None"),
        "{}",
        seen[0]
    );
    assert!(seen[1].starts_with("[{\"text\":\""), "{}", seen[1]);
    assert!(
        seen.iter()
            .all(|text| !text.contains("merger") && !text.contains("assistant")),
        "{seen:?}"
    );
}

#[test]
fn people_and_machines_are_other_letters_of_the_same_length() {
    let seen = scrubbed(vec![
        attribute("cwd", "/home/jane/src/acme"),
        attribute("root", "/root/.claude/settings.json"),
        attribute("user.email", "jane.doe@corp.example"),
        attribute("path", "C:\\Users\\jane\\x"),
        attribute("peer", "http://buildbox7:4318/v1"),
        attribute("key", "Bearer sk-ant-abcdefghijklmnop1234"),
        attribute("tool", "mcp__weather__get_forecast@v1"),
    ]);
    assert!(
        seen[0].starts_with("/home/") && seen[0].ends_with("/src/acme") && !seen[0].contains("jane"),
        "{}",
        seen[0]
    );
    assert_eq!(seen[1], "/home/.claude/settings.json");
    assert!(
        seen[2].contains('@') && !seen[2].contains("jane") && !seen[2].contains("corp"),
        "{}",
        seen[2]
    );
    assert!(!seen[3].contains("jane"), "{}", seen[3]);
    assert!(
        !seen[4].contains("buildbox7") && seen[4].ends_with(":4318/v1"),
        "{}",
        seen[4]
    );
    assert!(!seen[5].contains("abcdefghijklmnop"), "{}", seen[5]);
    assert_eq!(seen[6], "mcp__weather__get_forecast@v1");
}

#[test]
fn damaged_bodies_are_left_without_a_panic() {
    let scrubber = Scrubber::default();
    let mut body = logs(vec![attribute("system", SYSTEM)]).encode_to_vec();
    for length in 0..body.len() {
        let mut cut = body[..length].to_vec();
        scrubber.scrub(Signal::Logs, Encoding::Protobuf, &mut cut);
    }
    body.iter_mut().for_each(|byte| *byte = 0xff);
    scrubber.scrub(Signal::Traces, Encoding::Protobuf, &mut body);
    for text in [
        "{\"a\":\"\\u12",
        "\"",
        "[\"\\",
        "{'a': '\\",
        "\\ud800\\ud800",
        "{\"\u{e9}\":\"\u{e9}\\u00e9\"}",
    ] {
        let mut json = text.as_bytes().to_vec();
        scrubber.scrub(Signal::Traces, Encoding::Json, &mut json);
        assert!(std::str::from_utf8(&json).is_ok());
    }
}
