//! Makes a request body fit to keep as a fixture: prose becomes filler, what names a person or a machine
//! becomes other letters, and every length, id, number, name and structure stays as received.
//!
//! Bytes are exchanged in place, in protobuf and in JSON alike, and each piece by one of the same length: no
//! frame, offset or size changes, unknown fields stay, and nothing is encoded again. The replacement depends
//! on what is replaced alone, so equal strings stay equal. JSON and Python `repr` inside strings keep their
//! structure, at any depth; their values are looked at one by one.
//!
//! | module | what it holds |
//! |---|---|
//! | `wire` | the texts of a protobuf request |
//! | `literals` | the string literals of JSON-like text |
//! | `words` | home folders, e-mail addresses, host names, secrets within a text |
//!
//! What it does not do: short texts (a question of a line, a city) stay, and so do names of tools, models and
//! users' ids. Read a capture before you publish it.

mod literals;
mod wire;
mod words;

use std::ops::Range;

use crate::accept::{Encoding, Signal};

/// Text over this many bytes is filler where it is prose.
pub const PROSE_BYTES_MIN: usize = 160;
/// A word over this many bytes is no id: an image, an encrypted thought, a key.
const WORD_BYTES_MAX: usize = 512;
/// JSON in JSON in JSON …: deeper texts are filler as a whole.
const DEPTH_MAX: usize = 8;
/// Attributes whose value names a machine or a person's account.
const HOST_KEYS: [&str; 6] = [
    "host.name",
    "host.id",
    "net.host.name",
    "hostname",
    "k8s.node.name",
    "process.owner",
];
const LOREM: &[u8] = b"lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna aliqua ";

/// What replaces a piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filler {
    /// Words, beginning where the hash says.
    Prose(u64),
    /// Letters in place of letters, digits in place of digits; the rest stays.
    Letters(u64),
    /// One constant text of the same length.
    Constant(&'static str),
}

/// A piece to be replaced, and by what.
type Edit = (Range<usize>, Filler);

/// Scrubs request bodies.
#[derive(Debug, Clone, Default)]
pub struct Scrubber {
    /// This machine's names: replaced wherever they stand.
    hosts: Vec<String>,
}

impl Scrubber {
    /// A scrubber that knows these host and account names. Names of under four letters are too common to be
    /// replaced wherever they stand.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let is_known =
            |name: &String| name.len() >= 4 && !matches!(name.as_str(), "localhost" | "root" | "user" | "home");
        Self {
            hosts: names.into_iter().filter(is_known).collect(),
        }
    }

    /// Scrubs a request body, not compressed. Returns the number of pieces that were replaced.
    pub fn scrub(&self, signal: Signal, encoding: Encoding, body: &mut [u8]) -> usize {
        let edits = match encoding {
            Encoding::Protobuf => wire::texts(signal, body)
                .into_iter()
                .flat_map(|(range, key)| match std::str::from_utf8(&body[range.clone()]) {
                    Ok(text) => shifted(self.edits(text, key.as_deref(), 0), range.start),
                    Err(_) => Vec::new(),
                })
                .collect(),
            Encoding::Json => match std::str::from_utf8(body) {
                Ok(text) => self.literal_edits(text, 0),
                Err(_) => Vec::new(),
            },
        };
        for (range, filler) in &edits {
            fill(&mut body[range.clone()], *filler);
        }
        edits.len()
    }

    /// What is to be replaced in a text that is the value of `key`.
    fn edits(&self, text: &str, key: Option<&str>, depth: usize) -> Vec<Edit> {
        if text.is_empty() {
            return Vec::new();
        }
        if key.is_some_and(|key| HOST_KEYS.contains(&key)) {
            return vec![(0..text.len(), Filler::Letters(hash(text)))];
        }
        let looks_like_json = matches!(text.trim_start().as_bytes().first(), Some(b'{' | b'['));
        if looks_like_json && depth < DEPTH_MAX {
            let (outside, _) = literals::scan(text);
            if !is_prose_outside(&outside) {
                return self.literal_edits(text, depth + 1);
            }
        }
        if is_prose(text) {
            return vec![(0..text.len(), Filler::Prose(hash(text)))];
        }
        if text.len() > WORD_BYTES_MAX && !text.bytes().any(|byte| byte.is_ascii_whitespace()) {
            return vec![(0..text.len(), Filler::Letters(hash(text)))];
        }
        words::edits(text, &self.hosts)
    }

    /// What is to be replaced in the string literals of JSON-like text; keys stay.
    fn literal_edits(&self, text: &str, depth: usize) -> Vec<Edit> {
        let (_, literals) = literals::scan(text);
        let mut edits = Vec::new();
        for literal in literals {
            let raw = &text[literal.range.clone()];
            let decoded = literals::decode(raw);
            for (range, filler) in self.edits(&decoded.text, literal.attribute.as_deref(), depth) {
                // Escapes stay, so that the text has its length inside the literal as well.
                let runs = decoded.plain_runs(range).into_iter();
                edits.extend(shifted(runs.map(|run| (run, filler)).collect(), literal.range.start));
            }
        }
        edits
    }
}

fn shifted(edits: Vec<Edit>, by: usize) -> Vec<Edit> {
    edits
        .into_iter()
        .map(|(range, filler)| (range.start + by..range.end + by, filler))
        .collect()
}

/// Long text with spaces, lines or other alphabets.
fn is_prose(text: &str) -> bool {
    if text.len() <= PROSE_BYTES_MIN {
        return false;
    }
    let n_spaces = text.bytes().filter(u8::is_ascii_whitespace).count();
    n_spaces * 40 > text.len() || text.contains('\n') || !text.is_ascii()
}

/// True where the text between the literals of what began like JSON is prose itself.
fn is_prose_outside(outside: &str) -> bool {
    let words = outside.split(|c: char| !c.is_alphabetic());
    let told = words.filter(|word| {
        !matches!(
            *word,
            "" | "true" | "false" | "null" | "True" | "False" | "None" | "e" | "E"
        )
    });
    told.map(str::len).sum::<usize>() > PROSE_BYTES_MIN / 2
}

/// FNV-1a: small, and the same in every run.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn fill(bytes: &mut [u8], filler: Filler) {
    match filler {
        Filler::Prose(seed) => {
            // Start at a word, so that different texts differ from their first letter on.
            let starts: Vec<usize> = (0..LOREM.len())
                .filter(|at| *at == 0 || LOREM[at - 1] == b' ')
                .collect();
            let n_starts = u64::try_from(starts.len()).unwrap_or(1).max(1);
            let start = usize::try_from(seed % n_starts)
                .ok()
                .and_then(|at| starts.get(at).copied())
                .unwrap_or(0);
            let words = LOREM.iter().cycle().skip(start);
            bytes.iter_mut().zip(words).for_each(|(byte, filler)| *byte = *filler);
        }
        Filler::Letters(seed) => {
            let mut state = seed | 1;
            for byte in bytes.iter_mut() {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let pick = u8::try_from(state >> 59).unwrap_or(0);
                *byte = match *byte {
                    b'0'..=b'9' => b'0' + pick % 10,
                    b'A'..=b'Z' => b'A' + pick % 26,
                    b'a'..=b'z' | 0x80.. => b'a' + pick % 26,
                    other => other,
                };
            }
        }
        Filler::Constant(text) => bytes
            .iter_mut()
            .zip(text.bytes())
            .for_each(|(byte, filler)| *byte = filler),
    }
}

#[cfg(test)]
mod tests;
