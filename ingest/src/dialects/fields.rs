//! Canonical fields, and the keys that emitters spell them with.
//!
//! A dialect's file names, for each [`Field`], the keys that may hold it in order of precedence (the first
//! hit wins); its own keys win over the common ones of `gen_ai.toml`. Compiled into a [`KeyTable`], reading a
//! record is one pass over its attributes with one hash look-up each. Attributes that hold an object as text
//! are opened on the way ([`super::expand`]), so that their members are keys like any other.

use hashbrown::HashMap;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use spanledger_model::FemtoUsd;

use super::expand::{self, Notation};
use crate::value;

macro_rules! fields {
    ($($name:ident = $text:literal),* $(,)?) => {
        /// A canonical field of an observation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)] // The names are those of the columns they fill.
        pub enum Field { $($name),* }
        /// Number of canonical fields.
        pub const N_FIELDS: usize = [$(Field::$name),*].len();
        impl Field {
            /// All fields.
            pub const ALL: [Self; N_FIELDS] = [$(Self::$name),*];

            /// Its name in a dialect's file.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

fields! {
    Conversation = "conversation", Turn = "turn", McpMethod = "mcp_method", Server = "server", Tool = "tool",
    ToolCallId = "tool_call_id", Prompt = "prompt", PromptVersion = "prompt_version",
    ResourceUri = "resource_uri", RequestId = "request_id", Transport = "transport",
    ProtocolVersion = "protocol_version", Provider = "provider", RequestModel = "request_model",
    ResponseModel = "response_model", ResponseId = "response_id", ServiceTier = "service_tier",
    Processing = "processing", Input = "input", CacheRead = "cache_read", CacheWrite = "cache_write",
    CacheWrite5m = "cache_write_5m", CacheWrite1h = "cache_write_1h", Output = "output",
    Reasoning = "reasoning", Total = "total", AudioInput = "audio_input", AudioOutput = "audio_output",
    ImageInput = "image_input", WebSearches = "web_searches", Cost = "cost", CostMicros = "cost_micros",
    User = "user", Team = "team", Project = "project", CostCenter = "cost_center", Environment = "environment", Agent = "agent",
    Client = "client", ApiKey = "api_key", ErrorType = "error_type", RequestBytes = "request_bytes",
    ResponseBytes = "response_bytes", DefinitionBytes = "definition_bytes", Definitions = "definitions", System = "system",
    Operation = "operation", InputMessages = "input_messages", OutputMessages = "output_messages",
    OutputText = "output_text", OutputReasoning = "output_reasoning", OutputCalls = "output_calls",
    AgentId = "agent_id", CausedByServer = "caused_by_server", CausedByTool = "caused_by_tool",
    Arguments = "arguments", ResultText = "result", Frame = "frame", Success = "success",
    HttpStatus = "http_status", DurationMs = "duration_ms", JsonRpcStatus = "json_rpc_status",
}

impl Field {
    /// Reads the name in a dialect's file.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.as_str() == name)
    }
}

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Meaning {
    /// It may hold a field, at this rank among the field's keys.
    feeds: Option<(Field, u16)>,
    /// It holds an object whose members are keys.
    opens: Option<Notation>,
    /// It is not what the common keys say.
    is_ignored: bool,
}

/// The keys of one dialect, compiled for look-up: every attribute of every record is looked up here. The keys are
/// those of files, so a fast hash is safe: hostile keys are asked for and never put in.
#[derive(Debug, Default)]
pub struct KeyTable(HashMap<Box<str>, Meaning>);

impl KeyTable {
    /// An empty table. Keys that are added first win over those added later.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds keys that mean nothing here, whatever they mean elsewhere.
    pub fn ignore<'k>(&mut self, keys: impl Iterator<Item = &'k str>) {
        for key in keys {
            self.0.entry(key.into()).or_default().is_ignored = true;
        }
    }

    /// Adds attributes that hold an object as text.
    pub fn open<'k>(&mut self, keys: impl Iterator<Item = (&'k str, Notation)>) {
        for (key, notation) in keys {
            self.0.entry(key.into()).or_default().opens.get_or_insert(notation);
        }
    }

    /// Adds the keys of a field, best first. A later `level` ranks behind all keys of an earlier one.
    pub fn feed<'k>(&mut self, level: u16, field: Field, keys: impl Iterator<Item = &'k str>) {
        for (position, key) in (0_u16..).zip(keys) {
            let rank = level.saturating_mul(256).saturating_add(position);
            let meaning = self.0.entry(key.into()).or_default();
            if !meaning.is_ignored {
                meaning.feeds.get_or_insert((field, rank));
            }
        }
    }

    /// The canonical field a key feeds.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<Field> {
        self.0.get(key)?.feeds.map(|(field, _)| field)
    }

    /// True where the table says that a key means nothing here.
    #[must_use]
    pub fn ignores(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|meaning| meaning.is_ignored)
    }

    /// True where the table says anything of a key.
    #[must_use]
    pub fn knows(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}

#[derive(Debug, Clone, Copy)]
enum Found<'r> {
    Nothing,
    Sent(&'r AnyValue),
    Expanded(usize),
}

/// The canonical fields of one record, each the value of the best key that was present.
#[derive(Debug, Clone)]
pub struct Fields<'r> {
    found: [Found<'r>; N_FIELDS],
    expanded: Vec<KeyValue>,
    n_set: usize,
}

impl<'r> Fields<'r> {
    /// Reads attributes through a table. Empty values and empty strings are absent.
    #[must_use]
    pub fn read(table: &KeyTable, attributes: &'r [KeyValue]) -> Self {
        let mut fields = Self {
            found: [Found::Nothing; N_FIELDS],
            expanded: Vec::new(),
            n_set: 0,
        };
        let mut ranks = [u16::MAX; N_FIELDS];
        fields.take(table, attributes, 0, &mut ranks);
        fields.take_expanded(table, &mut ranks);
        fields
    }

    /// Adds the attributes of a span's event: they count where the span itself has none of the field's keys.
    #[must_use]
    pub fn and_event(mut self, table: &KeyTable, attributes: &'r [KeyValue]) -> Self {
        let mut ranks = [0; N_FIELDS];
        self.take(table, attributes, 1, &mut ranks);
        self
    }

    fn take(&mut self, table: &KeyTable, attributes: &'r [KeyValue], behind: u16, ranks: &mut [u16; N_FIELDS]) {
        for attribute in attributes {
            let Some(meaning) = table.0.get(attribute.key.as_str()) else {
                continue;
            };
            let Some(value) = attribute.value.as_ref().filter(|value| is_present(value)) else {
                continue;
            };
            let is_replaced = meaning
                .opens
                .is_some_and(|notation| expand::open(&attribute.key, value, notation, &mut self.expanded));
            if let Some((field, rank)) = meaning.feeds.filter(|_| !is_replaced) {
                self.offer(ranks, field, rank.saturating_add(behind), Found::Sent(value));
            }
        }
    }

    fn take_expanded(&mut self, table: &KeyTable, ranks: &mut [u16; N_FIELDS]) {
        let fields = self;
        for position in 0..fields.expanded.len() {
            let member = &fields.expanded[position];
            if let Some((field, rank)) = table.0.get(member.key.as_str()).and_then(|meaning| meaning.feeds)
                && member.value.as_ref().is_some_and(is_present)
            {
                fields.offer(ranks, field, rank, Found::Expanded(position));
            }
        }
    }

    fn offer(&mut self, ranks: &mut [u16; N_FIELDS], field: Field, rank: u16, found: Found<'r>) {
        let index = field as usize;
        let is_first = matches!(self.found[index], Found::Nothing);
        // The last of a repeated key holds, as the OTLP specification advises.
        if is_first || rank <= ranks[index] {
            self.n_set += usize::from(is_first);
            self.found[index] = found;
            ranks[index] = rank;
        }
    }

    /// True where no canonical field was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_set == 0
    }

    /// The members of attributes that held an object as text.
    #[must_use]
    pub fn expanded(&self) -> &[KeyValue] {
        &self.expanded
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, field: Field) -> Option<&AnyValue> {
        match self.found[field as usize] {
            Found::Nothing => None,
            Found::Sent(value) => Some(value),
            Found::Expanded(position) => self.expanded[position].value.as_ref(),
        }
    }

    /// True where the field was sent.
    #[must_use]
    pub fn has(&self, field: Field) -> bool {
        self.get(field).is_some()
    }

    /// The field as text.
    #[must_use]
    pub fn text(&self, field: Field) -> Option<String> {
        self.get(field).and_then(value::owned_text)
    }

    /// The field as borrowed text, where it was sent as a string.
    #[must_use]
    pub fn str(&self, field: Field) -> Option<&str> {
        match self.get(field)?.value.as_ref()? {
            Value::StringValue(text) => Some(text),
            _ => None,
        }
    }

    /// The field as a count. Negative counts are invalid and absent.
    #[must_use]
    pub fn count(&self, field: Field) -> Option<i64> {
        self.get(field).and_then(value::int).filter(|count| *count >= 0)
    }

    /// The field as money.
    #[must_use]
    pub fn money(&self, field: Field) -> Option<FemtoUsd> {
        self.get(field).and_then(value::money)
    }

    /// True where any token count was sent.
    #[must_use]
    pub fn has_usage(&self) -> bool {
        [Field::Input, Field::Output, Field::CacheRead, Field::CacheWrite]
            .into_iter()
            .any(|field| self.has(field))
    }
}

fn is_present(value: &AnyValue) -> bool {
    match value.value.as_ref() {
        None | Some(Value::StringValueStrindex(_)) => false,
        Some(Value::StringValue(text)) => !text.is_empty(),
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(key: &str, value: Value) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: Some(AnyValue { value: Some(value) }),
            ..Default::default()
        }
    }

    fn table() -> KeyTable {
        let mut table = KeyTable::new();
        table.open([("metadata", Notation::Json)].into_iter());
        table.feed(0, Field::Input, ["new.input", "old.input"].into_iter());
        table.feed(0, Field::Team, ["team.id", "team", "metadata.team"].into_iter());
        table
    }

    #[test]
    fn the_first_key_of_a_field_wins_in_any_order_of_arrival() {
        let old = attribute("old.input", Value::IntValue(1));
        let new = attribute("new.input", Value::IntValue(2));
        for attributes in [[old.clone(), new.clone()], [new, old]] {
            assert_eq!(Fields::read(&table(), &attributes).count(Field::Input), Some(2));
        }
    }

    #[test]
    fn the_last_of_a_repeated_key_is_kept() {
        let attributes = [
            attribute("team", Value::StringValue("a".into())),
            attribute("team", Value::StringValue("b".into())),
        ];
        let fields = Fields::read(&table(), &attributes);
        assert_eq!(fields.text(Field::Team).as_deref(), Some("b"));
    }

    #[test]
    fn empty_and_negative_values_are_absent() {
        let attributes = [
            attribute("new.input", Value::IntValue(-5)),
            attribute("team.id", Value::StringValue(String::new())),
            attribute("team", Value::StringValue("search".into())),
        ];
        let fields = Fields::read(&table(), &attributes);
        assert_eq!(fields.count(Field::Input), None);
        assert_eq!(fields.text(Field::Team).as_deref(), Some("search"));
    }

    #[test]
    fn members_of_an_object_in_a_text_are_keys_of_their_own_rank() {
        let metadata = attribute("metadata", Value::StringValue(r#"{"team":"ads"}"#.into()));
        let fields = Fields::read(&table(), std::slice::from_ref(&metadata));
        assert_eq!(fields.text(Field::Team).as_deref(), Some("ads"));
        let both = [metadata, attribute("team.id", Value::StringValue("search".into()))];
        let fields = Fields::read(&table(), &both);
        assert_eq!(fields.text(Field::Team).as_deref(), Some("search"));
    }

    #[test]
    fn a_text_in_json_is_read_without_its_quotes() {
        let mut table = KeyTable::new();
        table.open([("team", Notation::Json)].into_iter());
        table.feed(0, Field::Team, ["team"].into_iter());
        for (sent, expected) in [("\"ads\"", "ads"), ("ads", "ads"), ("7", "7")] {
            let attributes = [attribute("team", Value::StringValue(sent.into()))];
            let fields = Fields::read(&table, &attributes);
            assert_eq!(fields.text(Field::Team).as_deref(), Some(expected));
        }
    }

    #[test]
    fn an_events_attributes_count_where_the_span_has_none() {
        let span = [attribute("team", Value::StringValue("ads".into()))];
        let event = [
            attribute("team.id", Value::StringValue("event".into())),
            attribute("new.input", Value::IntValue(3)),
        ];
        let fields = Fields::read(&table(), &span).and_event(&table(), &event);
        assert_eq!(fields.text(Field::Team).as_deref(), Some("ads"));
        assert_eq!(fields.count(Field::Input), Some(3));
    }

    #[test]
    fn an_ignored_key_feeds_nothing() {
        let mut table = KeyTable::new();
        table.ignore(["team"].into_iter());
        table.feed(1, Field::Team, ["team"].into_iter());
        let attributes = [attribute("team", Value::StringValue("a".into()))];
        assert!(Fields::read(&table, &attributes).is_empty());
    }
}
