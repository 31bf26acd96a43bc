//! The form of a dialect's file: what may stand in its TOML, and nothing else.
//!
//! A key that is not known is an error with its line, for a misspelt rule would silently not apply. What the
//! members mean is told in CONTRIBUTING.md; [`super::compile`] turns a file into something that reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// A dialect as its file says it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DialectFile {
    /// Name in the `dialect` column.
    pub name: Option<String>,
    /// Dialect that this file adds to, instead of a name of its own.
    pub extends: Option<String>,
    /// The emitter's name, for people.
    #[serde(default)]
    pub emitter: String,
    /// Versions of the emitter that were read.
    #[serde(default)]
    pub versions: String,
    /// Where the facts come from.
    #[serde(default)]
    pub evidence: Evidence,
    /// Captures, pages or source files behind the facts.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Instrumentation scopes it sends under; a trailing `*` matches any rest.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Values of `service.name`, asked where no dialect claims the scope.
    #[serde(default)]
    pub services: Vec<String>,
    /// An application that people use: agent and client are its service name.
    #[serde(default)]
    pub host: bool,
    /// Default hop of its records.
    pub hop: Option<String>,
    /// Whether its input count holds cached tokens.
    #[serde(default)]
    pub input: Input,
    /// Whether its output count holds reasoning tokens.
    #[serde(default)]
    pub reasoning: Reasoning,
    /// Records that no rule matches are read by the conventions.
    pub conventions: Option<bool>,
    /// Provider of its model calls where no record says.
    pub provider: Option<String>,
    /// Its tool names carry their server with a single separator.
    #[serde(default)]
    pub prefixed_tools: bool,
    /// Separator between server and tool in its tool names, where no attribute names the server.
    pub tool_separator: Option<String>,
    /// Events of spans whose attributes count where the span has none of a field's keys.
    #[serde(default)]
    pub events: Vec<String>,
    /// Attributes that identify a log record across repeated deliveries.
    #[serde(default)]
    pub record_id: Vec<String>,
    /// Keys that mean something else here than in the conventions.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Canonical field → keys, best first.
    #[serde(default)]
    pub keys: BTreeMap<String, Vec<String>>,
    /// Canonical field → keys that count on a resource only.
    #[serde(default)]
    pub resource_keys: BTreeMap<String, Vec<String>>,
    /// Attribute → notation of the object it holds as text.
    #[serde(default)]
    pub expand: BTreeMap<String, NotationName>,
    /// What spans are.
    #[serde(default)]
    pub span: Vec<RecordRule>,
    /// What log records are.
    #[serde(default)]
    pub log: Vec<RecordRule>,
    /// What metric points are.
    #[serde(default)]
    pub metric: Vec<MetricRule>,
}

/// Where a dialect's facts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// Genuine telemetry of the emitter.
    Capture,
    /// The emitter's documentation or source; its fixture is synthetic.
    Documentation,
    /// A user's own mapping.
    #[default]
    User,
}

impl Evidence {
    /// The word in a file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Documentation => "documentation",
            Self::User => "user",
        }
    }
}

/// How input tokens are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// Cached tokens are part of it.
    #[default]
    Inclusive,
    /// Cached tokens stand beside it.
    Exclusive,
}

/// How output tokens are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reasoning {
    /// Reasoning is part of the output count.
    #[default]
    Inside,
    /// Reasoning stands beside it.
    Outside,
}

/// How an object in a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotationName {
    /// JSON.
    Json,
    /// `repr` of a Python dictionary.
    Python,
}

/// What a span or log record is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordRule {
    /// Names of spans it is about.
    #[serde(deserialize_with = "one_or_many")]
    pub name: Vec<String>,
    /// Names of events it is about.
    #[serde(deserialize_with = "one_or_many")]
    pub event: Vec<String>,
    /// Attributes and the values they must have.
    #[serde(rename = "where")]
    pub conditions: BTreeMap<String, String>,
    /// Attributes that must be there.
    #[serde(deserialize_with = "one_or_many")]
    pub has: Vec<String>,
    /// Attributes that must not be there.
    #[serde(deserialize_with = "one_or_many")]
    pub lacks: Vec<String>,
    /// OTLP span kind.
    pub span_kind: Option<String>,
    /// Sort of operation, `none` or `conventions`.
    pub kind: String,
    /// Role of the record.
    pub role: Option<String>,
    /// Hop of the record.
    pub hop: Option<String>,
    /// Whether this record's input count holds cached tokens, where the dialect's own word is another.
    pub input: Option<Input>,
    /// Whether this record's output count holds reasoning tokens, likewise.
    pub reasoning: Option<Reasoning>,
    /// Field → value, where the record has none.
    pub set: BTreeMap<String, String>,
    /// Field → value, whatever the record says.
    pub force: BTreeMap<String, String>,
    /// Field → pattern over the record's name.
    pub take: BTreeMap<String, String>,
    /// Parts of the record that mean something else.
    #[serde(deserialize_with = "one_or_many")]
    pub drop: Vec<String>,
}

/// What the points of a metric are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricRule {
    /// Names of metrics it is about.
    #[serde(deserialize_with = "one_or_many")]
    pub name: Vec<String>,
    /// Attributes and the values they must have.
    #[serde(rename = "where")]
    pub conditions: BTreeMap<String, String>,
    /// Attributes that must be there.
    #[serde(deserialize_with = "one_or_many")]
    pub has: Vec<String>,
    /// Attributes that must not be there.
    #[serde(deserialize_with = "one_or_many")]
    pub lacks: Vec<String>,
    /// Sort of operation, or `none`.
    pub kind: String,
    /// Unit of the number: `tokens`, `usd`, `micro_usd`.
    pub value: String,
    /// Attribute that tells the kind of token.
    #[serde(rename = "type")]
    pub type_key: Option<String>,
    /// Value of that attribute → kind of token.
    pub types: BTreeMap<String, String>,
    /// Kind of token, where the metric's name says it.
    pub tokens: Option<String>,
    /// Field → value, where the point has none.
    pub set: BTreeMap<String, String>,
    /// Field → value, whatever the point says.
    pub force: BTreeMap<String, String>,
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    })
}
