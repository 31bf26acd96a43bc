//! The messages of a model call, by kind and size: what was sent and what was answered.
//!
//! Their text is content and goes to `payloads`; the context ledger needs whose they are and how large. A call
//! sends its whole conversation again, so what the model had already answered to is summed by kind and tool, and
//! only what is new since its last answer is kept part by part. Read in the shapes that emitters send: the
//! conventions' parts, chat and responses of OpenAI, blocks of Anthropic, Gemini's parts, LangChain's messages,
//! the Vercel AI SDK's, and flattened ones (`llm.input_messages.0.message.role`). Other shapes give nothing.
//! The text is hostile: size, depth, number and names are bounded.

use std::collections::{BTreeMap, HashMap};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use serde_json::{Map, Value};

use super::fields::{Field, Fields};
use crate::value;

/// Longest text that is read, bytes.
const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Parts that are kept one by one, the newest.
const PARTS_MAX: usize = 256;
/// Sums of older parts, by kind and tool.
const SUMS_MAX: usize = 128;
/// Longest name that is kept, bytes.
const NAME_BYTES_MAX: usize = 256;
/// Deepest message within lists and envelopes.
const DEPTH_MAX: usize = 8;
/// Highest number of a flattened message.
const FLAT_MAX: usize = 4_096;

/// A part of a message: its kind (`system`, `user`, `text`, `reasoning`, `call`, `result`), its bytes (-1 where it
/// is no text) and, of calls and results, the tool.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct Part(pub(super) &'static str, pub(super) i64, pub(super) String);

/// The messages of a call.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Messages {
    /// Instructions that stand at the head of the messages, bytes; a record may state them apart instead.
    #[serde(skip)]
    pub(super) system: Option<i64>,
    /// What was sent before and with the model's last answer, summed by kind and tool.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    before: Vec<Part>,
    /// What came after it, the newest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    input: Vec<Part>,
    /// What was answered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    output: Vec<Part>,
}

impl Messages {
    /// True where the record tells no message.
    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty() && self.input.is_empty() && self.output.is_empty() && self.system.is_none()
    }

    /// The messages that a record tells.
    pub(super) fn read(fields: &Fields<'_>, attributes: &[KeyValue]) -> Self {
        let mut reader = Reader::default();
        let mut input = reader.field(fields, Field::InputMessages, "user");
        let mut output = reader.field(fields, Field::OutputMessages, "assistant");
        for (field, kind) in [(Field::OutputReasoning, "reasoning"), (Field::OutputText, "text")] {
            if output.iter().all(|part| part.0 != kind)
                && let Some(bytes) = fields.get(field).and_then(value::text_bytes)
            {
                output.push(Part(kind, bytes, String::new()));
            }
        }
        if output.iter().all(|part| part.0 != "call") {
            output.extend(reader.field(fields, Field::OutputCalls, "assistant"));
        }
        if input.is_empty() || output.is_empty() {
            let flat = Flat::read(attributes);
            if input.is_empty() {
                input = reader.messages(&flat.input, "user");
            }
            if output.is_empty() {
                output = reader.messages(&flat.output, "assistant");
            }
        }
        // What a dialect calls arguments and result of any operation are a model call's messages, where they are
        // messages.
        if input.is_empty() && is_json(fields, Field::Arguments) {
            input = reader.field(fields, Field::Arguments, "user");
        }
        if output.is_empty() && is_json(fields, Field::ResultText) {
            output = reader.field(fields, Field::ResultText, "assistant");
        }
        output.retain(|part| matches!(part.0, "text" | "reasoning" | "call"));
        output.truncate(PARTS_MAX);
        Self::of(input, output)
    }

    fn of(mut input: Vec<Part>, output: Vec<Part>) -> Self {
        let n_system = input.iter().take_while(|part| part.0 == "system").count();
        let head = input.drain(..n_system);
        let system = head.fold(None, |sum: Option<i64>, part| {
            Some(sum.unwrap_or(0).saturating_add(part.1.max(0)))
        });
        let is_answer = |part: &Part| matches!(part.0, "text" | "reasoning" | "call");
        let answered = input.iter().rposition(is_answer).map_or(0, |last| last + 1);
        let kept = answered.max(input.len().saturating_sub(PARTS_MAX));
        let newest = input.split_off(kept);
        Self {
            system,
            before: summed(input),
            input: newest,
            output,
        }
    }
}

/// Parts summed by kind and tool, in the order in which they first come. Beyond a number of tools these are one.
fn summed(parts: Vec<Part>) -> Vec<Part> {
    let mut sums: Vec<Part> = Vec::new();
    let mut places: HashMap<(&'static str, String), usize> = HashMap::new();
    for Part(kind, bytes, tool) in parts {
        let tool = if places.len() < SUMS_MAX { tool } else { String::new() };
        let place = *places.entry((kind, tool)).or_insert_with_key(|(kind, tool)| {
            sums.push(Part(kind, 0, tool.clone()));
            sums.len() - 1
        });
        sums[place].1 = sums[place].1.saturating_add(bytes.max(0));
    }
    sums
}

/// Reads messages; remembers which tool an id was the call of.
#[derive(Debug, Default)]
struct Reader {
    tools: HashMap<String, String>,
    /// Ids of results without a tool, by place among the parts.
    unnamed: Vec<(usize, String)>,
}

impl Reader {
    fn field(&mut self, fields: &Fields<'_>, field: Field, role: &'static str) -> Vec<Part> {
        let Some(text) = fields.get(field).and_then(value::text) else {
            return Vec::new();
        };
        if text.len() > TEXT_BYTES_MAX {
            return Vec::new();
        }
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => self.messages(&value, role),
            // A text instead of messages.
            Err(_) if !text.trim_start().starts_with(['[', '{']) => {
                vec![Part(plain_kind(role), length(&text), String::new())]
            }
            Err(_) => Vec::new(),
        }
    }

    fn messages(&mut self, value: &Value, role: &'static str) -> Vec<Part> {
        let mut parts = Vec::new();
        self.unnamed.clear();
        self.message(value, role, 0, &mut parts);
        // Results have the tools whose calls they answer.
        for (place, id) in &self.unnamed {
            if let (Some(part), Some(tool)) = (parts.get_mut(*place), self.tools.get(id)) {
                part.2.clone_from(tool);
            }
        }
        parts
    }

    /// A message, a list of them, or an envelope around them.
    fn message(&mut self, value: &Value, role: &'static str, depth: usize, parts: &mut Vec<Part>) {
        if depth > DEPTH_MAX {
            return;
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.message(item, role, depth + 1, parts)),
            Value::String(text) => self.content(text, role, parts),
            Value::Object(message) => {
                let envelope = [
                    "kwargs",
                    "messages",
                    "generations",
                    "choices",
                    "contents",
                    "message",
                    "input",
                ];
                let is_message = message.contains_key("role") || kind_of(message).is_some();
                let inner = envelope
                    .iter()
                    .find_map(|key| message.get(*key).filter(|inner| !inner.is_string()));
                if let Some(inner) = inner.filter(|_| !is_message) {
                    return self.message(inner, role, depth + 1, parts);
                }
                let said = message
                    .get("role")
                    .or_else(|| message.get("type"))
                    .and_then(Value::as_str);
                let role = said.and_then(role_of).unwrap_or(role);
                self.of_message(message, role, depth, parts);
            }
            _ => {}
        }
    }

    fn of_message(&mut self, message: &Map<String, Value>, role: &'static str, depth: usize, parts: &mut Vec<Part>) {
        if kind_of(message).is_some() && !message.contains_key("role") {
            return self.part(message, role, depth, parts);
        }
        if role == "tool"
            && let Some(content) = message.get("content").filter(|content| !holds_results(content))
        {
            self.result(message, content_bytes(content, 0), parts);
            return;
        }
        for key in ["parts", "content"] {
            match message.get(key) {
                Some(Value::String(text)) => self.content(text, role, parts),
                Some(Value::Array(items)) => {
                    for item in items {
                        match item {
                            Value::Object(part) => self.part(part, role, depth + 1, parts),
                            Value::String(text) => self.content(text, role, parts),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let calls = message.get("tool_calls").and_then(Value::as_array);
        let has_calls = parts.last().is_some_and(|part| part.0 == "call");
        for call in calls
            .into_iter()
            .flatten()
            .filter_map(Value::as_object)
            .filter(|_| !has_calls)
        {
            self.call(call, parts);
        }
    }

    fn part(&mut self, part: &Map<String, Value>, role: &'static str, depth: usize, parts: &mut Vec<Part>) {
        if depth > DEPTH_MAX {
            return;
        }
        let first = |keys: &[&str]| keys.iter().find_map(|key| part.get(*key));
        let within = |key: &str| part.get(key).and_then(Value::as_object);
        match kind_of(part) {
            Some("call") => self.call(
                within("functionCall")
                    .or_else(|| within("function_call"))
                    .unwrap_or(part),
                parts,
            ),
            Some("result") => {
                let of = within("functionResponse")
                    .or_else(|| within("function_response"))
                    .unwrap_or(part);
                let content = ["response", "result", "output", "content"]
                    .iter()
                    .find_map(|key| of.get(*key));
                self.result(of, content.map_or(0, |content| content_bytes(content, 0)), parts);
            }
            Some("reasoning") => {
                let text = first(&["content", "text", "thinking", "reasoning"]);
                parts.push(Part(
                    "reasoning",
                    text.map_or(0, |text| content_bytes(text, 0)),
                    String::new(),
                ));
            }
            _ => match first(&["content", "text"]) {
                Some(Value::String(text)) if part.get("thought").and_then(Value::as_bool) == Some(true) => {
                    parts.push(Part("reasoning", length(text), String::new()));
                }
                Some(text) if role == "tool" => self.result(part, content_bytes(text, 0), parts),
                Some(text) => parts.push(Part(plain_kind(role), content_bytes(text, 0), String::new())),
                // An image, a file: how many tokens it is no byte tells.
                None => parts.push(Part(plain_kind(role), -1, String::new())),
            },
        }
    }

    fn content(&mut self, text: &str, role: &'static str, parts: &mut Vec<Part>) {
        if !text.is_empty() {
            parts.push(Part(plain_kind(role), length(text), String::new()));
        }
    }

    fn call(&mut self, call: &Map<String, Value>, parts: &mut Vec<Part>) {
        let function = call.get("function").and_then(Value::as_object).unwrap_or(call);
        let tool = tool_of(call).or_else(|| tool_of(function)).unwrap_or_default();
        let arguments = ["arguments", "args", "input"].iter().find_map(|key| function.get(*key));
        if let Some(id) = id_of(call).filter(|_| self.tools.len() < FLAT_MAX) {
            self.tools.insert(id, tool.clone());
        }
        parts.push(Part(
            "call",
            arguments.map_or(0, |arguments| content_bytes(arguments, 0)),
            tool,
        ));
    }

    fn result(&mut self, result: &Map<String, Value>, bytes: i64, parts: &mut Vec<Part>) {
        let named = tool_of(result);
        if let (None, Some(id)) = (&named, id_of(result)) {
            self.unnamed.push((parts.len(), id));
        }
        parts.push(Part("result", bytes, named.unwrap_or_default()));
    }
}

fn is_json(fields: &Fields<'_>, field: Field) -> bool {
    fields
        .get(field)
        .and_then(value::text)
        .is_some_and(|text| text.trim_start().starts_with(['[', '{']))
}

/// The tool that a call or a result names, with its server where that is told.
fn tool_of(part: &Map<String, Value>) -> Option<String> {
    let text = |key: &str| part.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let name = match (text("mcp_server_name"), text("mcp_tool_name")) {
        (Some(server), Some(tool)) => format!("mcp__{server}__{tool}"),
        _ => text("name")
            .or_else(|| text("toolName"))
            .or_else(|| text("tool_name"))?
            .to_owned(),
    };
    (name.len() <= NAME_BYTES_MAX).then_some(name)
}

fn id_of(part: &Map<String, Value>) -> Option<String> {
    let keys = ["toolCallId", "tool_call_id", "tool_use_id", "call_id", "id"];
    let id = keys.iter().find_map(|key| part.get(*key).and_then(Value::as_str))?;
    (!id.is_empty() && id.len() <= NAME_BYTES_MAX).then(|| id.to_owned())
}

/// What a part is, where its type or its members say.
fn kind_of(part: &Map<String, Value>) -> Option<&'static str> {
    match part.get("type").and_then(Value::as_str) {
        Some("tool_call" | "tool-call" | "tool_use" | "function_call" | "mcp_call" | "server_tool_use") => {
            return Some("call");
        }
        Some(
            "tool_call_response"
            | "tool-result"
            | "tool_result"
            | "function_call_output"
            | "mcp_tool_result"
            | "web_search_tool_result",
        ) => return Some("result"),
        Some("reasoning" | "thinking" | "redacted_thinking") => return Some("reasoning"),
        Some("text" | "input_text" | "output_text") => return Some("text"),
        _ => {}
    }
    if part
        .get("functionCall")
        .or_else(|| part.get("function_call"))
        .is_some_and(Value::is_object)
    {
        return Some("call");
    }
    part.get("functionResponse")
        .or_else(|| part.get("function_response"))
        .is_some_and(Value::is_object)
        .then_some("result")
}

fn holds_results(content: &Value) -> bool {
    let is_result = |item: &Value| item.as_object().is_some_and(|item| kind_of(item) == Some("result"));
    content.as_array().is_some_and(|items| items.iter().any(is_result))
}

fn role_of(word: &str) -> Option<&'static str> {
    Some(match word {
        "system" | "developer" => "system",
        "assistant" | "ai" | "model" | "AIMessageChunk" => "assistant",
        "tool" | "function" => "tool",
        "user" | "human" => "user",
        _ => return None,
    })
}

/// The kind of a text that someone of that role said.
fn plain_kind(role: &str) -> &'static str {
    match role {
        "assistant" => "text",
        "system" => "system",
        "tool" => "result",
        _ => "user",
    }
}

/// Bytes that a content holds as text: of a list of texts their sum, of other JSON its length.
fn content_bytes(content: &Value, depth: usize) -> i64 {
    match content {
        Value::Null => 0,
        Value::String(text) => length(text),
        Value::Array(items) if depth <= DEPTH_MAX && items.iter().all(is_text) => {
            let bytes = items.iter().map(|item| content_bytes(item, depth + 1));
            bytes.fold(0, i64::saturating_add)
        }
        Value::Object(object) if depth <= DEPTH_MAX && object.contains_key("type") => {
            match ["text", "value"].iter().find_map(|key| object.get(*key)) {
                Some(inner) => content_bytes(inner, depth + 1),
                None => length(&content.to_string()),
            }
        }
        other => length(&other.to_string()),
    }
}

fn is_text(item: &Value) -> bool {
    item.is_string() || item.get("text").is_some_and(Value::is_string)
}

fn length(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

/// Messages that are spread over attributes, put together again.
#[derive(Debug)]
struct Flat {
    input: Value,
    output: Value,
}

impl Flat {
    fn read(attributes: &[KeyValue]) -> Self {
        let of = |prefixes: [&str; 2]| {
            let mut messages: BTreeMap<usize, Map<String, Value>> = BTreeMap::new();
            for attribute in attributes {
                let Some(rest) = prefixes.iter().find_map(|prefix| attribute.key.strip_prefix(prefix)) else {
                    continue;
                };
                if let Some((number, path)) = rest.split_once('.')
                    && let Some(number) = number.parse().ok().filter(|number| *number < FLAT_MAX)
                    && let Some(text) = attribute.value.as_ref().and_then(value::text)
                {
                    unflatten(messages.entry(number).or_default(), path, &text);
                }
            }
            Value::Array(messages.into_values().map(joined).collect())
        };
        Self {
            input: of(["llm.input_messages.", "gen_ai.prompt."]),
            output: of(["llm.output_messages.", "gen_ai.completion."]),
        }
    }
}

/// Puts a member of a flattened message in its place: `role`, `content`, a text of `contents`, a tool call's.
fn unflatten(message: &mut Map<String, Value>, path: &str, text: &str) {
    let path = path.strip_prefix("message.").unwrap_or(path);
    let last = path.rsplit('.').next().unwrap_or(path);
    let of_call = path
        .strip_prefix("tool_calls.")
        .and_then(|rest| rest.split_once('.'))
        .map(|(number, _)| number);
    if let Some(number) = of_call.or(path.starts_with("function_call.").then_some("0")) {
        let calls = message.entry("calls").or_insert_with(|| Value::Object(Map::new()));
        if let (Some(calls), "name" | "arguments" | "id") = (calls.as_object_mut(), last) {
            let call = calls.entry(number).or_insert_with(|| Value::Object(Map::new()));
            if let Some(call) = call.as_object_mut() {
                call.insert(last.to_owned(), text.into());
            }
        }
    } else if path.starts_with("contents.") && last == "text" {
        let texts = message.entry("texts").or_insert_with(|| Value::Array(Vec::new()));
        if let Some(texts) = texts.as_array_mut() {
            texts.push(text.into());
        }
    } else if matches!(path, "role" | "content" | "tool_call_id" | "name") {
        message.insert(path.to_owned(), text.into());
    }
}

/// A message as it was before it was spread.
fn joined(mut message: Map<String, Value>) -> Value {
    if let Some(texts) = message.remove("texts") {
        message.entry("content").or_insert(texts);
    }
    if let Some(Value::Object(calls)) = message.remove("calls") {
        message.insert(
            "tool_calls".to_owned(),
            calls.into_iter().map(|(_, call)| call).collect(),
        );
    }
    Value::Object(message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use opentelemetry_proto::tonic::common::v1::AnyValue;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Sent;

    use super::*;
    use crate::dialects::fields::KeyTable;

    fn attribute(key: &str, text: &str) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: Some(AnyValue {
                value: Some(Sent::StringValue(text.into())),
            }),
            ..Default::default()
        }
    }

    fn read(attributes: &[KeyValue]) -> Messages {
        let mut table = KeyTable::new();
        for (field, key) in [
            (Field::InputMessages, "in"),
            (Field::OutputMessages, "out"),
            (Field::OutputText, "text"),
            (Field::OutputCalls, "calls"),
        ] {
            table.feed(0, field, std::iter::once(key));
        }
        Messages::read(&Fields::read(&table, attributes), attributes)
    }

    fn part(kind: &'static str, bytes: i64, tool: &str) -> Part {
        Part(kind, bytes, tool.to_owned())
    }

    #[test]
    fn every_shape_of_messages_tells_the_same() {
        let expected = [part("result", 4, "search"), part("user", 2, "")];
        for text in [
            r#"[{"role":"system","parts":[{"type":"text","content":"sys"}]},
                {"role":"user","parts":[{"type":"text","content":"hello"}]},
                {"role":"assistant","parts":[{"type":"tool_call","id":"c1","name":"search","arguments":"{}"}]},
                {"role":"tool","parts":[{"type":"tool_call_response","id":"c1","response":"abcd"}]},
                {"role":"user","parts":[{"type":"text","content":"ok"}]}]"#,
            r#"[{"role":"developer","content":"sys"},{"role":"user","content":"hello"},
                {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"search","arguments":"{}"}}]},
                {"role":"tool","tool_call_id":"c1","content":"abcd"},{"role":"user","content":"ok"}]"#,
            r#"{"messages":[{"role":"system","content":"sys"},{"role":"user","content":[{"type":"text","text":"hello"}]},
                {"role":"assistant","content":[{"type":"tool_use","id":"c1","name":"search","input":{}}]},
                {"role":"user","content":[{"type":"tool_result","tool_use_id":"c1","content":[{"type":"text","text":"abcd"}]},{"type":"text","text":"ok"}]}]}"#,
            r#"[{"role":"system","content":"sys"},{"role":"user","content":[{"type":"text","text":"hello"}]},
                {"role":"assistant","content":[{"type":"tool-call","toolCallId":"c1","toolName":"search","input":{}}]},
                {"role":"tool","content":[{"type":"tool-result","toolCallId":"c1","toolName":"search","output":{"type":"text","value":"abcd"}}]},
                {"role":"user","content":"ok"}]"#,
            r#"{"messages":[[{"lc":1,"type":"constructor","id":["SystemMessage"],"kwargs":{"content":"sys","type":"system"}},
                {"lc":1,"type":"constructor","kwargs":{"content":"hello","type":"human"}},
                {"lc":1,"type":"constructor","kwargs":{"content":"","type":"ai","tool_calls":[{"name":"search","args":{},"id":"c1"}]}},
                {"lc":1,"type":"constructor","kwargs":{"content":"abcd","type":"tool","tool_call_id":"c1"}},
                {"lc":1,"type":"constructor","kwargs":{"content":"ok","type":"human"}}]]}"#,
            r#"[{"role":"system","content":"sys"},{"role":"user","content":"hello"},
                {"type":"function_call","call_id":"c1","name":"search","arguments":"{}"},
                {"type":"function_call_output","call_id":"c1","output":"abcd"},{"role":"user","content":[{"type":"input_text","text":"ok"}]}]"#,
            r#"[{"role":"system","parts":[{"text":"sys"}]},{"role":"user","parts":[{"text":"hello"}]},
                {"role":"model","parts":[{"functionCall":{"id":"c1","name":"search","args":{}}}]},
                {"role":"user","parts":[{"functionResponse":{"id":"c1","name":"search","response":"abcd"}},{"text":"ok"}]}]"#,
        ] {
            let messages = read(&[attribute("in", text)]);
            assert_eq!(messages.input, expected, "{text}");
            assert_eq!(messages.system, Some(3), "{text}");
            assert_eq!(
                messages.before,
                [part("user", 5, ""), part("call", 2, "search")],
                "{text}"
            );
        }
    }

    #[test]
    fn flattened_messages_are_put_together() {
        let messages = read(&[
            attribute("llm.input_messages.0.message.role", "user"),
            attribute("llm.input_messages.0.message.content", "hello"),
            attribute("llm.input_messages.1.message.role", "assistant"),
            attribute("llm.input_messages.1.message.tool_calls.0.tool_call.id", "c1"),
            attribute(
                "llm.input_messages.1.message.tool_calls.0.tool_call.function.name",
                "search",
            ),
            attribute(
                "llm.input_messages.1.message.tool_calls.0.tool_call.function.arguments",
                "{}",
            ),
            attribute("llm.input_messages.2.message.role", "tool"),
            attribute("llm.input_messages.2.message.tool_call_id", "c1"),
            attribute("llm.input_messages.2.message.content", "abcd"),
            attribute("llm.output_messages.0.message.role", "assistant"),
            attribute("llm.output_messages.0.message.contents.0.message_content.text", "done"),
        ]);
        assert_eq!(messages.input, [part("result", 4, "search")]);
        assert_eq!(messages.before, [part("user", 5, ""), part("call", 2, "search")]);
        assert_eq!(messages.output, [part("text", 4, "")]);
    }

    #[test]
    fn an_answer_may_stand_in_attributes_of_its_own() {
        let calls = r#"[{"type":"tool-call","toolCallId":"c","toolName":"search","input":{"q":1}}]"#;
        let messages = read(&[attribute("text", "Let me see."), attribute("calls", calls)]);
        assert_eq!(messages.output, [part("text", 11, ""), part("call", 7, "search")]);
    }

    #[test]
    fn what_is_no_message_gives_nothing_and_ends() {
        let deep = "[".repeat(100_000);
        for text in ["null", "7", "[]", "{}", "[1,[2]]", "{", r#"[{"role":7}]"#, &deep] {
            assert!(read(&[attribute("in", text)]).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_long_conversation_stays_short() {
        let message = |n: usize| format!(r#"{{"role":"user","content":"{n:04}"}}"#);
        let list = |range: std::ops::Range<usize>| range.map(message).collect::<Vec<_>>().join(",");
        let answer = r#"{"role":"assistant","content":"x"}"#;
        let text = format!("[{},{answer},{}]", list(0..1_000), list(0..1_000));
        let messages = read(&[attribute("in", &text)]);
        assert_eq!(messages.input.len(), PARTS_MAX);
        assert_eq!(messages.before, [part("user", 4 * 1_744, ""), part("text", 1, "")]);
    }
}
