//! The string literals of JSON-like text: JSON, JSON that was cut off, `repr` of a Python object.
//!
//! A scan, not a parser: it never fails, and text that is damaged still gives the literals it has. Literals
//! that are keys are left out.

use std::ops::Range;

/// A string literal that is a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Literal {
    /// Its place, quotes left out.
    pub(super) range: Range<usize>,
    /// In OTLP/JSON the attribute it is the value of.
    pub(super) attribute: Option<String>,
}

/// The text outside of all literals, and the literals that are values.
pub(super) fn scan(text: &str) -> (String, Vec<Literal>) {
    let bytes = text.as_bytes();
    let mut outside = String::new();
    let mut found: Vec<Literal> = Vec::new();
    // `"key": "host.name", "value": {"stringValue": "…"}`: the last key, and the last value of a key `key`.
    let (mut last_key, mut attribute) = (String::new(), None);
    let mut at = 0;
    let mut outside_from = 0;
    while at < bytes.len() {
        let quote = bytes[at];
        let opens = quote == b'"' || (quote == b'\'' && opens_after(bytes, at));
        if !opens {
            at += 1;
            continue;
        }
        let start = at + 1;
        let end = end_of(bytes, start, quote);
        outside.push_str(&text[outside_from..at]);
        at = (end + 1).min(bytes.len());
        outside_from = at;
        let next = bytes[at..].iter().find(|byte| !byte.is_ascii_whitespace());
        if next == Some(&b':') {
            text[start..end].clone_into(&mut last_key);
            continue;
        }
        if last_key == "key" {
            attribute = Some(text[start..end].to_owned());
            // The name of an attribute stays as keys do.
            last_key.clear();
            continue;
        }
        let of_value = if last_key == "stringValue" {
            attribute.take()
        } else {
            None
        };
        found.push(Literal {
            range: start..end,
            attribute: of_value.or_else(|| (last_key != "stringValue").then(|| last_key.clone())),
        });
    }
    outside.push_str(&text[outside_from..]);
    (outside, found)
}

/// A single quote opens a literal only where a value or key can stand: it is an apostrophe elsewhere.
fn opens_after(bytes: &[u8], at: usize) -> bool {
    let before = bytes[..at].iter().rev().find(|byte| **byte != b' ');
    before.is_some_and(|byte| b":,[{(=".contains(byte))
}

/// Where the literal ends; the end of the text where it was cut off.
fn end_of(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// A literal's text and where each of its bytes came from.
pub(super) struct Decoded {
    pub(super) text: String,
    /// For each byte of the text what it was written with.
    raw: Vec<Unit>,
}

/// How one character was written.
#[derive(Debug, Clone, Copy)]
struct Unit {
    start: usize,
    end: usize,
    is_escape: bool,
}

impl Decoded {
    /// The raw bytes that wrote a piece of the text, without those of escapes: runs, in order.
    pub(super) fn plain_runs(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for unit in self.raw.get(range).unwrap_or_default() {
            if unit.is_escape {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end >= unit.start => run.end = run.end.max(unit.end),
                _ => runs.push(unit.start..unit.end),
            }
        }
        runs
    }
}

/// Reads the escapes of a literal. What is no escape stands for itself.
pub(super) fn decode(raw: &str) -> Decoded {
    let mut decoded = Decoded {
        text: String::with_capacity(raw.len()),
        raw: Vec::with_capacity(raw.len()),
    };
    let bytes = raw.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &raw[at..];
        let (character, length, is_escape) = match escape(rest) {
            Some((character, length)) => (character, length, true),
            None => match rest.chars().next() {
                // A backslash that escapes nothing known stays as escapes do.
                Some(character) => (character, character.len_utf8(), character == '\\'),
                None => break,
            },
        };
        decoded.text.push(character);
        let unit = Unit {
            start: at,
            end: at + length,
            is_escape,
        };
        decoded.raw.extend(std::iter::repeat_n(unit, character.len_utf8()));
        at += length;
    }
    decoded
}

/// The character of an escape at the beginning of a text, and the escape's length.
fn escape(text: &str) -> Option<(char, usize)> {
    let kind = text.strip_prefix('\\')?.chars().next()?;
    let simple = match kind {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'b' => '\u{8}',
        'f' => '\u{c}',
        '"' | '\\' | '/' | '\'' => kind,
        'u' => return unicode_escape(text),
        _ => return None,
    };
    Some((simple, 2))
}

fn unicode_escape(text: &str) -> Option<(char, usize)> {
    let unit = |text: &str| u32::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok();
    let high = unit(text)?;
    if let Some(character) = char::from_u32(high) {
        return Some((character, 6));
    }
    let low = text
        .get(6..)
        .and_then(unit)
        .filter(|low| (0xdc00..0xe000).contains(low));
    let pair = low.filter(|_| (0xd800..0xdc00).contains(&high));
    match pair {
        Some(low) => Some((char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))?, 12)),
        None => Some((char::REPLACEMENT_CHARACTER, 6)),
    }
}
