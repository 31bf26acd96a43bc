//! Reading OTLP attribute values: as text, number, boolean or money, tolerant of the spellings seen on the
//! wire (integers sent as strings or doubles, booleans as text). Never fails: what cannot be read is absent.

use std::borrow::Cow;
use std::fmt::Write;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use spanledger_model::FemtoUsd;

/// How deep a nested value is rendered; below it stands `…`. prost stops decoding at 100 levels, of which
/// one nested value takes two or three.
const DEPTH_MAX: usize = 48;

/// The value as text: a string as it is, numbers and booleans in their usual form, anything nested as
/// JSON, bytes in hexadecimal. `None` for an empty value.
#[must_use]
pub fn text(value: &AnyValue) -> Option<Cow<'_, str>> {
    Some(match value.value.as_ref()? {
        Value::StringValue(text) => Cow::Borrowed(text.as_str()),
        Value::BoolValue(true) => Cow::Borrowed("true"),
        Value::BoolValue(false) => Cow::Borrowed("false"),
        Value::IntValue(number) => Cow::Owned(number.to_string()),
        Value::DoubleValue(number) => Cow::Owned(number.to_string()),
        Value::StringValueStrindex(_) => return None,
        nested => {
            let mut json = String::new();
            write_json(nested, &mut json, 0);
            Cow::Owned(json)
        }
    })
}

/// The value as text, where it is not blank.
#[must_use]
pub fn owned_text(value: &AnyValue) -> Option<String> {
    text(value).filter(|text| !text.trim().is_empty()).map(Cow::into_owned)
}

/// The value as an integer: an int, a whole double, or either as text.
#[must_use]
pub fn int(value: &AnyValue) -> Option<i64> {
    match value.value.as_ref()? {
        Value::IntValue(number) => Some(*number),
        Value::DoubleValue(number) => whole(*number),
        Value::StringValue(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| text.parse::<f64>().ok().and_then(whole))
        }
        _ => None,
    }
}

/// A token count that arrived as a double: rounded to the nearest integer where it is one in 64 bits.
fn whole(number: f64) -> Option<i64> {
    (number.is_finite() && number.abs() < 9.0e18).then(|| number.round() as i64)
}

/// The value as a float.
#[must_use]
pub fn float(value: &AnyValue) -> Option<f64> {
    match value.value.as_ref()? {
        Value::IntValue(number) => Some(*number as f64),
        Value::DoubleValue(number) => Some(*number),
        Value::StringValue(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// The value as a boolean.
#[must_use]
pub fn boolean(value: &AnyValue) -> Option<bool> {
    match value.value.as_ref()? {
        Value::BoolValue(flag) => Some(*flag),
        Value::StringValue(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::StringValue(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// The value as US dollars. A double is the shortest decimal that denotes it, text is exact.
#[must_use]
pub fn money(value: &AnyValue) -> Option<FemtoUsd> {
    match value.value.as_ref()? {
        Value::IntValue(number) => i128::from(*number).checked_mul(FemtoUsd::ONE_USD.0).map(FemtoUsd),
        Value::DoubleValue(number) => FemtoUsd::from_f64(*number),
        Value::StringValue(text) => FemtoUsd::parse(text),
        _ => None,
    }
}

/// How many bytes the value takes as text.
#[must_use]
pub fn text_bytes(value: &AnyValue) -> Option<i64> {
    text(value).and_then(|text| i64::try_from(text.len()).ok())
}

/// The attribute of that key; the last one where a key is repeated.
#[must_use]
pub fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a AnyValue> {
    attributes
        .iter()
        .rev()
        .find(|attribute| attribute.key == key)?
        .value
        .as_ref()
}

/// The attribute of that key as borrowed text, where it is a string.
#[must_use]
pub fn attribute_str<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match attribute(attributes, key)?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

fn write_json(value: &Value, out: &mut String, depth: usize) {
    if depth > DEPTH_MAX {
        out.push_str("\"…\"");
        return;
    }
    match value {
        Value::StringValue(text) => write_json_string(text, out),
        Value::BoolValue(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::IntValue(number) => {
            let _ = write!(out, "{number}");
        }
        Value::DoubleValue(number) if number.is_finite() => {
            let _ = write!(out, "{number}");
        }
        Value::DoubleValue(number) => {
            let _ = write!(out, "\"{number}\"");
        }
        Value::ArrayValue(array) => {
            out.push('[');
            for (index, item) in array.values.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json_option(item.value.as_ref(), out, depth);
            }
            out.push(']');
        }
        Value::KvlistValue(list) => {
            out.push('{');
            for (index, entry) in list.values.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json_string(&entry.key, out);
                out.push(':');
                write_json_option(entry.value.as_ref().and_then(|value| value.value.as_ref()), out, depth);
            }
            out.push('}');
        }
        Value::BytesValue(bytes) => {
            // Hexadecimal keeps the crate free of one more codec; bytes are rare in attributes.
            out.push('"');
            out.push_str(&hex::encode(bytes));
            out.push('"');
        }
        Value::StringValueStrindex(_) => out.push_str("null"),
    }
}

fn write_json_option(value: Option<&Value>, out: &mut String, depth: usize) {
    match value {
        Some(value) => write_json(value, out, depth + 1),
        None => out.push_str("null"),
    }
}

fn write_json_string(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::ArrayValue;

    use super::*;

    fn any(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    #[test]
    fn counts_are_read_however_they_were_sent() {
        for value in [
            Value::IntValue(62),
            Value::DoubleValue(62.0),
            Value::StringValue("62".into()),
            Value::StringValue("62.0".into()),
        ] {
            assert_eq!(int(&any(value)), Some(62));
        }
        for value in [
            Value::StringValue("many".into()),
            Value::DoubleValue(f64::NAN),
            Value::BoolValue(true),
        ] {
            assert_eq!(int(&any(value)), None);
        }
        assert_eq!(int(&AnyValue { value: None }), None);
    }

    #[test]
    fn nested_values_become_json() {
        let list = Value::ArrayValue(ArrayValue {
            values: vec![
                any(Value::StringValue("a\"b".into())),
                any(Value::IntValue(1)),
                AnyValue { value: None },
            ],
        });
        assert_eq!(text(&any(list)).as_deref(), Some(r#"["a\"b",1,null]"#));
    }
}
