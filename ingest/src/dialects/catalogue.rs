//! What records tell the context ledger of a call: the sizes of definitions, instructions and messages that were
//! sent with it, the agent it is of, the tool a host says it was for.
//!
//! Texts are content and go to `payloads`; the context ledger needs who they are and how large. Definitions
//! repeat from call to call, tens of kilobytes each time, so a text that was measured is not parsed again.
//! The text is hostile: size, number and names are bounded, and what cannot be read is absent.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use parking_lot::Mutex;
use serde_json::Value;
use spanledger_model::CallKind;
use spanledger_model::ids::hash_parts;

use super::fields::{Field, Fields};
use super::messages::Messages;
use crate::value;

/// Longest text that is measured, bytes: 90 definitions of a large server are about 200 kB.
const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most tools of one call that are kept.
const TOOLS_MAX: usize = 1_024;
/// Longest name that is kept, bytes.
const NAME_BYTES_MAX: usize = 256;
/// Texts whose measure is remembered.
const REMEMBERED_MAX: usize = 1_024;
/// Deepest list of definitions within lists (Gemini nests one).
const DEPTH_MAX: usize = 3;

type Measures = Mutex<HashMap<[u8; 16], Option<Arc<[Tool]>>>>;

/// One definition: its name, its size in bytes as JSON, and the hash of that.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
struct Tool(String, usize, String);

/// The evidence, as it is written. `agent` comes first and `tools` last: settlement looks for the one without
/// reading the rest, and does not read the other again while it is the same text.
#[derive(serde::Serialize)]
struct ContextSizes<'s> {
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'s str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<(&'s str, &'s str)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<i64>,
    #[serde(flatten)]
    messages: Messages,
    #[serde(skip_serializing_if = "<[Tool]>::is_empty")]
    tools: &'s [Tool],
}

/// What a record tells of the context of its call, or lists, as JSON; `None` where it tells nothing.
#[must_use]
pub fn context_sizes(kind: CallKind, fields: &Fields<'_>, attributes: &[KeyValue]) -> Option<String> {
    let is_list = || fields.str(Field::McpMethod).is_none_or(|method| method == "tools/list");
    let mut messages = Messages::default();
    let mut system = None;
    let tools = match kind {
        CallKind::Llm => {
            messages = Messages::read(fields, attributes);
            system = fields
                .get(Field::System)
                .and_then(value::text_bytes)
                .or(messages.system);
            let sent = fields.get(Field::Definitions).and_then(value::text);
            sent.and_then(|text| measured(&text))
                .or_else(|| flattened(attributes))
                .or_else(|| beside_messages(fields))
        }
        CallKind::Mcp if is_list() => {
            let listed = || {
                fields
                    .get(Field::ResultText)
                    .and_then(value::text)
                    .and_then(|text| measured(&text))
            };
            let sized = fields.get(Field::DefinitionBytes).and_then(value::text);
            sized.and_then(|text| stated(&text)).or_else(listed)
        }
        CallKind::Tool | CallKind::Prompt | CallKind::Resource => None,
        _ => return None,
    };
    let tools = tools.as_deref().unwrap_or_default();
    let name = |field| fields.str(field).filter(|name| is_name(name));
    let agent = name(Field::AgentId);
    let hint = name(Field::CausedByTool)
        .filter(|_| kind == CallKind::Llm)
        .map(|tool| (name(Field::CausedByServer).unwrap_or_default(), tool));
    if tools.is_empty() && system.is_none() && agent.is_none() && hint.is_none() && messages.is_empty() {
        return None;
    }
    let stated = ContextSizes {
        agent,
        hint,
        system,
        messages,
        tools,
    };
    serde_json::to_string(&stated).ok()
}

/// Definitions that stand in attributes of their own (`llm.tools.0.tool.json_schema`, OpenInference).
fn flattened(attributes: &[KeyValue]) -> Option<Arc<[Tool]>> {
    let mut tools = Vec::new();
    for attribute in attributes
        .iter()
        .filter(|attribute| attribute.key.starts_with("llm.tools."))
    {
        if let Some(text) = attribute.value.as_ref().and_then(value::text)
            && attribute.key.ends_with(".json_schema")
            && tools.len() < TOOLS_MAX
        {
            tools.extend(measured(&text).into_iter().flat_map(|measured| measured.to_vec()));
        }
    }
    (!tools.is_empty()).then(|| tools.into())
}

/// Definitions in the object that also holds the messages (Langfuse: the request as the SDK was given it).
fn beside_messages(fields: &Fields<'_>) -> Option<Arc<[Tool]>> {
    let sent = fields
        .get(Field::InputMessages)
        .or_else(|| fields.get(Field::Arguments))?;
    let text = value::text(sent)?;
    if text.len() > TEXT_BYTES_MAX || !text.starts_with('{') || !text.contains("\"tools\"") {
        return None;
    }
    let request: Value = serde_json::from_str(&text).ok()?;
    let mut tools = Vec::new();
    collect(request.get("tools")?, 0, &mut tools);
    (!tools.is_empty()).then(|| tools.into())
}

/// The definitions in a text, remembered.
fn measured(text: &str) -> Option<Arc<[Tool]>> {
    static MEASURES: OnceLock<Measures> = OnceLock::new();
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let key = hash_parts(&[text.as_bytes()]);
    let measures = MEASURES.get_or_init(Measures::default);
    if let Some(known) = measures.lock().get(&key) {
        return known.clone();
    }
    let mut tools = Vec::new();
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        collect(&value, 0, &mut tools);
    }
    let measure: Option<Arc<[Tool]>> = (!tools.is_empty()).then(|| tools.into());
    let mut measures = measures.lock();
    if measures.len() >= REMEMBERED_MAX {
        measures.clear();
    }
    measures.insert(key, measure.clone());
    measure
}

/// `{"tool": bytes}`, as `spanledger.definition_bytes` states it.
fn stated(text: &str) -> Option<Arc<[Tool]>> {
    let sizes: std::collections::BTreeMap<String, usize> = serde_json::from_str(text).ok()?;
    let tools = sizes.into_iter().take(TOOLS_MAX).filter(|(name, _)| is_name(name));
    Some(tools.map(|(name, bytes)| Tool(name, bytes, String::new())).collect())
}

/// Definitions in the shapes that are sent: a list of them, each with a name or a `function` that has one; a
/// list of texts that hold them; lists within (`functionDeclarations`, `tools`).
fn collect(value: &Value, depth: usize, tools: &mut Vec<Tool>) {
    if depth > DEPTH_MAX || tools.len() >= TOOLS_MAX {
        return;
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, depth, tools)),
        Value::String(text) => {
            if let Ok(inner @ Value::Object(_)) = serde_json::from_str::<Value>(text) {
                collect(&inner, depth + 1, tools);
            }
        }
        Value::Object(object) => {
            let named = |value: &Value| value.get("name").and_then(Value::as_str).map(str::to_owned);
            let name = named(value).or_else(|| object.get("function").and_then(named));
            if let Some(name) = name.filter(|name| is_name(name)) {
                let text = value.to_string();
                let hash = hash_parts(&[text.as_bytes()]);
                tools.push(Tool(name, text.len(), hex::encode(&hash[..8])));
                return;
            }
            for key in ["functionDeclarations", "function_declarations", "tools"] {
                if let Some(inner) = object.get(key) {
                    collect(inner, depth + 1, tools);
                }
            }
        }
        _ => {}
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let tools = measured(text);
        tools
            .iter()
            .flat_map(|tools| tools.iter().map(|tool| tool.0.clone()))
            .collect()
    }

    #[test]
    fn definitions_are_found_in_every_shape_that_is_sent() {
        for text in [
            r#"[{"name":"a","description":"d"},{"name":"b"}]"#,
            r#"[{"type":"function","function":{"name":"a"}},{"type":"function","name":"b"}]"#,
            r#"["{\"name\":\"a\"}","{\"type\":\"function\",\"name\":\"b\"}"]"#,
            r#"[{"functionDeclarations":[{"name":"a"},{"name":"b"}]}]"#,
            r#"{"tools":[{"name":"a","inputSchema":{}},{"name":"b"}]}"#,
        ] {
            assert_eq!(names(text), ["a", "b"], "{text}");
        }
    }

    #[test]
    fn a_definition_has_its_size_and_a_hash_that_changes_with_it() {
        let one = measured(r#"[{"name":"a","description":"one"}]"#).unwrap();
        let two = measured(r#"[{"name":"a","description":"two"}]"#).unwrap();
        assert_eq!(one[0].1, r#"{"description":"one","name":"a"}"#.len());
        assert_eq!(one[0].1, two[0].1);
        assert_ne!(one[0].2, two[0].2);
        assert_eq!(measured(r#"[{"name":"a","description":"one"}]"#), Some(one));
    }

    #[test]
    fn what_is_no_list_of_definitions_gives_nothing() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "null",
            "7",
            "[]",
            "{}",
            "[1,2]",
            "not json",
            r#"[{"name":""}]"#,
            &deep,
        ] {
            assert!(measured(text).is_none(), "{text}");
        }
        let many: Vec<String> = (0..2_000).map(|n| format!(r#"{{"name":"t{n}"}}"#)).collect();
        assert_eq!(names(&format!("[{}]", many.join(","))).len(), TOOLS_MAX);
    }

    #[test]
    fn stated_sizes_are_taken_as_they_are() {
        let tools = stated(r#"{"search":700,"get_file":500}"#).unwrap();
        assert_eq!(tools[1], Tool("search".to_owned(), 700, String::new()));
    }
}
