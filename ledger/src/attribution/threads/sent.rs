//! What records say was sent with a call and came back: sizes, never texts.
//!
//! Ingest writes it as JSON beside the observation (`context_sizes`); it is read when the walk reaches the call
//! and let go after it. The text is ours, its names are the emitter's: what cannot be read is absent.

use std::borrow::Cow;
use std::collections::HashMap;

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
}

impl ContextSizes<'_> {
    /// True where a record tells the messages that were sent.
    pub(super) fn tells_messages(&self) -> bool {
        !self.input.is_empty() || !self.before.is_empty()
    }
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
        let mut texts: Vec<&'o str> = self.texts(call).collect();
        texts.sort_by_key(|text| std::cmp::Reverse((text.len(), *text)));
        let mut stated = texts
            .iter()
            .filter_map(|text| serde_json::from_str::<ContextSizes<'o>>(text).ok());
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
            if most.tools.len() < other.tools.len() {
                most.tools = other.tools;
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
