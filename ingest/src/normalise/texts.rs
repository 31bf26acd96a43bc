//! Attributes as text. What is large, or is a prompt or a result, goes to `payloads`: such texts were 86 % of
//! the bytes of peers' attribute maps, and they have their own retention and their own right to read.

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use spanledger_lake::tables::raw::{PayloadRow, PayloadsBuilder};

use crate::limits::Limits;
use crate::value;

/// Any value over this many bytes goes to `payloads`: beyond it a map entry outweighs its span.
pub const PAYLOAD_BYTES_MIN: usize = 2 * 1024;
/// A prompt, argument or result over this many bytes goes to `payloads`, however short the rest is.
pub const CONTENT_BYTES_MIN: usize = 256;

/// Keys whose value is a prompt, an argument or a result, by the prefix they start with, and their role.
const CONTENT_KEYS: [(&str, &str); 18] = [
    ("gen_ai.input.messages", "input"),
    ("gen_ai.output.messages", "output"),
    ("gen_ai.system_instructions", "system"),
    ("gen_ai.tool.definitions", "definitions"),
    ("gen_ai.tool.call.arguments", "arguments"),
    ("gen_ai.tool.call.result", "result"),
    ("gen_ai.prompt", "input"),
    ("gen_ai.completion", "output"),
    ("input.value", "input"),
    ("output.value", "output"),
    ("llm.input_messages.", "input"),
    ("llm.output_messages.", "output"),
    ("llm.tools.", "definitions"),
    ("traceloop.entity.input", "input"),
    ("traceloop.entity.output", "output"),
    ("ai.prompt", "input"),
    ("ai.response", "output"),
    ("mcp.response.value", "result"),
];

/// Where a payload belongs.
pub(crate) struct PayloadOwner<'r> {
    pub tenant: &'r str,
    pub time_ns: i64,
    pub trace_id: &'r [u8],
    pub span_id: &'r [u8],
}

/// The text that stands in the attribute map: the value itself, or a marker where it went to `payloads`.
pub(crate) fn map_text<'v>(
    attribute: &'v KeyValue,
    owner: &PayloadOwner<'_>,
    payloads: &mut PayloadsBuilder,
    limits: &Limits,
) -> Option<Cow<'v, str>> {
    let text = value::text(attribute.value.as_ref()?)?;
    if text.len() <= CONTENT_BYTES_MIN {
        return Some(text);
    }
    let role = CONTENT_KEYS
        .iter()
        .find(|(prefix, _)| attribute.key.starts_with(prefix))
        .map(|(_, role)| *role);
    if role.is_none() && text.len() <= PAYLOAD_BYTES_MIN {
        return Some(text);
    }
    let kept = truncated(&text, limits.payload_text_bytes_max);
    payloads.append(&PayloadRow {
        tenant: owner.tenant,
        time_ns: owner.time_ns,
        trace_id: owner.trace_id,
        span_id: owner.span_id,
        role: role.unwrap_or("other"),
        attribute: &attribute.key,
        mime: mime_of(kept),
        text: kept,
        n_bytes: i64::try_from(text.len()).unwrap_or(i64::MAX),
    });
    Some(Cow::Owned(format!("[payload: {} bytes]", text.len())))
}

/// Attributes of a resource, an event or a link: short by nature, truncated and marked where they are not.
pub(crate) fn bounded_attributes(attributes: &[KeyValue], n_max: usize, limits: &Limits) -> Vec<(String, String)> {
    attributes
        .iter()
        .take(n_max)
        .filter_map(|attribute| {
            let text = value::text(attribute.value.as_ref()?)?;
            Some((
                bounded_key(&attribute.key, limits).to_owned(),
                bounded_text(text, limits).into_owned(),
            ))
        })
        .collect()
}

/// The key, cut at the limit.
pub(crate) fn bounded_key<'k>(key: &'k str, limits: &Limits) -> &'k str {
    truncated(key, limits.attribute_key_bytes_max)
}

/// The text, cut at the limit and marked.
pub(crate) fn bounded_text<'t>(text: Cow<'t, str>, limits: &Limits) -> Cow<'t, str> {
    if text.len() <= limits.attribute_value_bytes_max {
        return text;
    }
    let kept = truncated(&text, limits.attribute_value_bytes_max);
    Cow::Owned(format!("{kept}… [{} bytes]", text.len()))
}

/// The longest prefix of at most `n_bytes` that ends between characters.
pub(crate) fn truncated(text: &str, n_bytes: usize) -> &str {
    if text.len() <= n_bytes {
        return text;
    }
    let end = (0..=n_bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

fn mime_of(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'{' | b'[') => "application/json",
        _ => "text/plain",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(truncated("héllo", 2), "h");
        assert_eq!(truncated("héllo", 3), "hé");
        assert_eq!(truncated("abc", 9), "abc");
    }
}
