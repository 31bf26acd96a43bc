//! What records say was sent with a call and came back: sizes, never texts.
//!
//! Ingest writes it as JSON beside the observation (`context_sizes`); it is read when the walk reaches the call
//! and let go after it. The text is ours, its names are the emitter's: what cannot be read is absent.

use std::borrow::Cow;

use hashbrown::HashMap;
use serde::Deserialize;
use spanledger_model::{Call, Observation, ObservationId};

/// What records say was sent with calls, by call.
#[derive(Debug, Default)]
pub struct Sent<'o>(pub(super) HashMap<ObservationId, &'o str>);

/// A name, borrowed where it can be.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Name<'t>(#[serde(borrow)] pub(super) Cow<'t, str>);

/// A part of a message: its kind (`system`, `user`, `text`, `reasoning`, `call`, `result`), bytes (-1 where it is
/// no text), the tool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Part<'t>(
    #[serde(borrow)] pub(super) Name<'t>,
    pub(super) i64,
    #[serde(borrow)] pub(super) Name<'t>,
);

impl Part<'_> {
    pub(super) fn kind(&self) -> &str {
        &self.0.0
    }

    /// Bytes, where it is a text.
    pub(super) fn bytes(&self) -> Option<i64> {
        (self.1 >= 0).then_some(self.1)
    }

    pub(super) fn tool(&self) -> &str {
        &self.2.0
    }
}

/// What the records of a call say of its context.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ContextSizes<'t> {
    /// The tool whose result a host says the call was for: server and name.
    #[serde(borrow, default)]
    pub(super) hint: Option<(Name<'t>, Name<'t>)>,
    /// Instructions in bytes.
    #[serde(default)]
    pub(super) system: Option<i64>,
    /// Definitions: name, bytes, hash.
    #[serde(borrow, default)]
    pub(super) tools: Vec<(Name<'t>, i64, Name<'t>)>,
    /// What was sent before and with the model's last answer, summed by kind and tool.
    #[serde(borrow, default)]
    pub(super) before: Vec<Part<'t>>,
    /// Parts of the messages that came after it, the newest last.
    #[serde(borrow, default)]
    pub(super) input: Vec<Part<'t>>,
    /// Parts of the answer.
    #[serde(borrow, default)]
    pub(super) output: Vec<Part<'t>>,
    /// The text that told the definitions.
    #[serde(skip)]
    pub(super) tools_text: &'t str,
    /// The definitions are those known before, and were not read.
    #[serde(skip)]
    pub(super) has_known_tools: bool,
}

#[derive(Deserialize)]
struct OfAgent<'t> {
    #[serde(borrow)]
    agent: Name<'t>,
}

/// How the text of records that name an agent begins.
const AGENT_FIRST: &str = "{\"agent\":";

impl<'o> Sent<'o> {
    /// What the observations of a component say.
    #[must_use]
    pub fn of_all(observations: &'o [Observation]) -> Self {
        let stated = observations
            .iter()
            .filter_map(|observation| Some((observation.observation_id, observation.context_sizes.as_deref()?)));
        Self(stated.collect())
    }

    fn texts<'s>(&'s self, call: &'s Call) -> impl Iterator<Item = &'o str> + 's {
        let ids = if self.0.is_empty() {
            &[]
        } else {
            call.observation_ids.as_slice()
        };
        ids.iter().filter_map(|id| self.0.get(id).copied())
    }

    /// What the records of a call say; of several, for each thing the one that says most.
    pub(super) fn of(&self, call: &Call) -> Option<ContextSizes<'o>> {
        self.beyond(call, "")
    }

    /// The same, for the call after one whose definitions were told by the text `known`: while that is the same,
    /// which it is for nearly all calls, it is not read again.
    pub(super) fn beyond(&self, call: &Call, known: &str) -> Option<ContextSizes<'o>> {
        let mut texts: Vec<&'o str> = self.texts(call).collect();
        texts.sort_by_key(|text| std::cmp::Reverse((text.len(), *text)));
        let mut stated = texts.iter().filter_map(|text| read(text, known));
        let mut most = stated.next()?;
        for other in stated {
            most.hint = most.hint.or(other.hint);
            most.system = most.system.or(other.system);
            if most.input.is_empty() && most.before.is_empty() {
                (most.before, most.input) = (other.before, other.input);
            }
            if most.output.is_empty() {
                most.output = other.output;
            }
            if most.tools.len() < other.tools.len() && !most.has_known_tools {
                (most.tools, most.tools_text) = (other.tools, other.tools_text);
                most.has_known_tools = other.has_known_tools;
            }
        }
        Some(most)
    }

    /// The id of the agent that a call is of.
    pub(super) fn agent_of(&self, call: &Call) -> Option<Cow<'o, str>> {
        let mut naming = self.texts(call).filter(|text| text.starts_with(AGENT_FIRST));
        naming.find_map(|text| Some(serde_json::from_str::<OfAgent<'o>>(text).ok()?.agent.0))
    }
}

/// How definitions begin. In a name these signs would be escaped.
const TOOLS: &str = "\"tools\":[[";

/// The part of a record's `context_sizes` that tells the definitions; absent where it tells none.
#[must_use]
pub fn definitions_text(context_sizes: &str) -> Option<&str> {
    context_sizes.find(TOOLS).map(|at| &context_sizes[at..])
}

/// The definitions of a text of [`definitions_text`]: name, bytes, hash. Empty where it cannot be read.
#[must_use]
pub fn definitions_of(definitions_text: &str) -> Vec<(String, i64, String)> {
    let text = format!("{{{definitions_text}");
    let read = serde_json::from_str::<ContextSizes<'_>>(&text).ok();
    read.map(ContextSizes::into_tools).unwrap_or_default()
}

/// Reads a text; its definitions, which are last, only where they are others than those known.
fn read<'t>(text: &'t str, known: &str) -> Option<ContextSizes<'t>> {
    let at = text.find(TOOLS);
    let tools_text = at.map_or("", |at| &text[at..]);
    if let Some(at) = at.filter(|_| tools_text == known) {
        let head = text[..at].trim_end_matches(',');
        let mut read = if head == "{" {
            ContextSizes::default()
        } else {
            serde_json::from_str::<ContextSizes<'_>>(&format!("{head}}}"))
                .ok()?
                .into_owned()
        };
        (read.tools_text, read.has_known_tools) = (tools_text, true);
        return Some(read);
    }
    let mut read: ContextSizes<'t> = serde_json::from_str(text).ok()?;
    read.tools_text = tools_text;
    Some(read)
}

impl Name<'_> {
    fn into_owned<'o>(self) -> Name<'o> {
        Name(Cow::Owned(self.0.into_owned()))
    }
}

impl ContextSizes<'_> {
    fn into_tools(self) -> Vec<(String, i64, String)> {
        let tools = self.tools.into_iter();
        tools
            .map(|(name, bytes, hash)| (name.0.into_owned(), bytes, hash.0.into_owned()))
            .collect()
    }

    fn into_owned<'o>(self) -> ContextSizes<'o> {
        let parts = |parts: Vec<Part<'_>>| {
            let owned = parts
                .into_iter()
                .map(|Part(kind, bytes, tool)| Part(kind.into_owned(), bytes, tool.into_owned()));
            owned.collect()
        };
        ContextSizes {
            hint: self.hint.map(|(server, tool)| (server.into_owned(), tool.into_owned())),
            system: self.system,
            before: parts(self.before),
            input: parts(self.input),
            output: parts(self.output),
            ..ContextSizes::default()
        }
    }
}
