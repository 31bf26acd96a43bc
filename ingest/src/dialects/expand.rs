//! Attributes that hold an object as text, opened into attributes of their own.
//!
//! Emitters hide fields in JSON (Claude Code's `tool_parameters`, Langfuse's `usage_details`) and in the
//! `repr` of a Python dictionary (LiteLLM). The members become keys `<attribute>.<member>`, nested ones too.
//! The text is hostile: its size, depth and number of members are bounded, and what cannot be read is absent.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use serde_json::Value as Json;

use crate::value;

/// Longest text that is opened, bytes: identities and counts are short, what is longer is content.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Deepest member that becomes a key: `a.b.c.d`.
const DEPTH_MAX: usize = 4;
/// Most members of one attribute that become keys.
const MEMBERS_MAX: usize = 256;
/// Deepest nesting of a Python literal that is read.
const PYTHON_DEPTH_MAX: usize = 32;

/// How the object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notation {
    /// JSON.
    Json,
    /// `repr` of a Python dictionary.
    Python,
}

/// Opens an attribute: its members are appended as keys `<key>.<member>`. True where it holds a quoted text
/// instead, which is appended under the attribute's own key and stands for it.
pub fn open(key: &str, sent: &AnyValue, notation: Notation, members: &mut Vec<KeyValue>) -> bool {
    let Some(text) = value::text(sent).filter(|text| text.len() <= TEXT_BYTES_MAX) else {
        return false;
    };
    let object = match notation {
        Notation::Json => serde_json::from_str(&text).ok(),
        Notation::Python => Python::read(&text),
    };
    match object {
        Some(Json::Object(object)) => {
            let limit = members.len() + MEMBERS_MAX;
            append(key, object, 1, limit, members);
            false
        }
        Some(Json::String(text)) => {
            members.push(KeyValue {
                key: key.to_owned(),
                value: Some(AnyValue {
                    value: Some(Value::StringValue(text)),
                }),
                ..Default::default()
            });
            true
        }
        _ => false,
    }
}

fn append(prefix: &str, object: serde_json::Map<String, Json>, depth: usize, limit: usize, out: &mut Vec<KeyValue>) {
    for (name, member) in object {
        if out.len() >= limit {
            return;
        }
        let key = format!("{prefix}.{name}");
        let value = match member {
            // A nested object is readable whole, and by its members.
            Json::Object(inner) if depth < DEPTH_MAX => {
                let whole = Value::StringValue(Json::Object(inner.clone()).to_string());
                append(&key, inner, depth + 1, limit, out);
                whole
            }
            Json::Null => continue,
            Json::Bool(flag) => Value::BoolValue(flag),
            Json::String(text) => Value::StringValue(text),
            Json::Number(number) => match number.as_i64() {
                Some(integer) => Value::IntValue(integer),
                // As text, so that money keeps its digits.
                None => Value::StringValue(number.to_string()),
            },
            nested => Value::StringValue(nested.to_string()),
        };
        out.push(KeyValue {
            key,
            value: Some(AnyValue { value: Some(value) }),
            ..Default::default()
        });
    }
}

/// A reader of Python literals, as `repr` writes them, and of the JSON that some emitters write in their place
/// on other signals. Anything else in a value's place (an object's own
/// `repr`) is skipped up to the next comma and absent.
struct Python<'t> {
    text: &'t str,
    position: usize,
}

impl<'t> Python<'t> {
    fn read(text: &'t str) -> Option<Json> {
        Self { text, position: 0 }.value(0)
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn peek(&mut self) -> Option<char> {
        let rest = self.rest();
        self.position += rest.len() - rest.trim_start().len();
        self.rest().chars().next()
    }

    fn take(&mut self, expected: char) -> bool {
        let is_next = self.peek() == Some(expected);
        if is_next {
            self.position += expected.len_utf8();
        }
        is_next
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > PYTHON_DEPTH_MAX {
            return None;
        }
        match self.peek()? {
            '{' => self.dictionary(depth),
            '[' => self.sequence(depth, '[', ']'),
            '(' => self.sequence(depth, '(', ')'),
            '\'' | '"' => self.string().map(Json::String),
            _ => Some(self.word()),
        }
    }

    fn dictionary(&mut self, depth: usize) -> Option<Json> {
        let mut object = serde_json::Map::new();
        self.take('{');
        while !self.take('}') {
            let key = match self.value(depth + 1)? {
                Json::String(key) => key,
                other => other.to_string(),
            };
            if !self.take(':') {
                return None;
            }
            let member = self.value(depth + 1)?;
            object.insert(key, member);
            if !self.take(',') && self.peek() != Some('}') {
                return None;
            }
        }
        Some(Json::Object(object))
    }

    fn sequence(&mut self, depth: usize, open: char, close: char) -> Option<Json> {
        let mut items = Vec::new();
        self.take(open);
        while !self.take(close) {
            items.push(self.value(depth + 1)?);
            if !self.take(',') && self.peek() != Some(close) {
                return None;
            }
        }
        Some(Json::Array(items))
    }

    fn string(&mut self) -> Option<String> {
        let quote = self.peek()?;
        self.position += 1;
        let mut text = String::new();
        let mut characters = self.rest().char_indices();
        while let Some((offset, character)) = characters.next() {
            match character {
                '\\' => match characters.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    other => text.push(other),
                },
                _ if character == quote => {
                    self.position += offset + quote.len_utf8();
                    return Some(text);
                }
                _ => text.push(character),
            }
        }
        None
    }

    /// A number, `None`, `True`, `False`, or something that is skipped: brackets within it are balanced.
    fn word(&mut self) -> Json {
        let mut depth = 0_usize;
        let rest = self.rest();
        let length = rest
            .char_indices()
            .find(|(_, character)| match character {
                '(' | '<' | '[' | '{' => {
                    depth += 1;
                    false
                }
                ')' | '>' | ']' | '}' if depth > 0 => {
                    depth -= 1;
                    false
                }
                ',' | ':' | ')' | ']' | '}' => depth == 0,
                _ => false,
            })
            .map_or(rest.len(), |(offset, _)| offset);
        let word = rest[..length].trim();
        self.position += length;
        match word {
            "True" | "true" => Json::Bool(true),
            "False" | "false" => Json::Bool(false),
            _ => match serde_json::from_str::<serde_json::Number>(word) {
                Ok(number) => Json::Number(number),
                Err(_) => Json::Null,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(text: &str, notation: Notation) -> Vec<(String, String)> {
        let mut members = Vec::new();
        let sent = AnyValue {
            value: Some(Value::StringValue(text.into())),
        };
        open("m", &sent, notation, &mut members);
        members
            .into_iter()
            .map(|member| {
                let text = member.value.as_ref().and_then(value::owned_text).unwrap_or_default();
                (member.key, text)
            })
            .collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        expected.iter().map(owned).collect()
    }

    #[test]
    fn a_python_attribute_may_hold_json() {
        let read = opened(r#"{"a": null, "b": true, "c": "it's"}"#, Notation::Python);
        assert_eq!(read, pairs(&[("m.b", "true"), ("m.c", "it's")]));
    }

    #[test]
    fn members_of_json_become_keys() {
        let text = r#"{"team":"ads","usage":{"input":12,"cost":0.1000000000000000055},"none":null}"#;
        let expected = pairs(&[
            ("m.team", "ads"),
            ("m.usage.input", "12"),
            ("m.usage.cost", "0.1"),
            ("m.usage", r#"{"cost":0.1,"input":12}"#),
        ]);
        let mut read = opened(text, Notation::Json);
        read.sort();
        let mut wanted = expected;
        wanted.sort();
        assert_eq!(read, wanted);
    }

    #[test]
    fn members_of_a_python_dictionary_become_keys() {
        let text = "{'name': 'it\\'s', 'n': 3, 'x': None, 'ok': True, 'd': {'a': 1.5}, \
                    'obj': <Key object at 0x7f, (1, 2)>, 'list': ['a', (1,)], \"q\": \"v\"}";
        let mut read = opened(text, Notation::Python);
        read.sort();
        let mut wanted = pairs(&[
            ("m.name", "it's"),
            ("m.n", "3"),
            ("m.ok", "true"),
            ("m.d.a", "1.5"),
            ("m.d", r#"{"a":1.5}"#),
            ("m.list", "[\"a\",[1]]"),
            ("m.q", "v"),
        ]);
        wanted.sort();
        assert_eq!(read, wanted);
    }

    #[test]
    fn broken_and_hostile_texts_give_nothing_and_end() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "{",
            "{'a'",
            "{'a': ",
            "{'a': 'b",
            "{'a' 1}",
            "{1: 2, }}}",
            "[1]",
            "null",
            &deep,
        ] {
            for notation in [Notation::Json, Notation::Python] {
                let members = opened(text, notation);
                assert!(members.len() <= 1, "{text}");
            }
        }
        let many = format!("{{{}}}", (0..2_000).map(|n| format!("'k{n}': 1,")).collect::<String>());
        assert_eq!(opened(&many, Notation::Python).len(), MEMBERS_MAX);
    }
}
