//! From a dialect's file to something that reads: key table, rules with compiled patterns, defaults.
//!
//! Everything that can be wrong in a file is found here, once, with the file, the rule and the key named;
//! reading a record afterwards cannot fail.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::trace::v1::Span;
use spanledger_model::{CallKind, Hop, Observation, Pattern, Role, Status};

use super::expand::Notation;
use super::fields::{Field, Fields, KeyTable};
use super::file::{DialectFile, Evidence, Input, MetricRule, NotationName, Reasoning, RecordRule};
use crate::error::{Error, ErrorKind, Result};

/// What an emitter's records mean.
#[derive(Debug)]
pub struct Compiled {
    /// Name in the `dialect` column.
    pub name: String,
    /// The emitter's name, for people.
    pub emitter: String,
    /// Versions of the emitter that were read.
    pub versions: String,
    /// Where its facts come from.
    pub evidence: Evidence,
    /// Captures, pages or source files behind the facts.
    pub sources: Vec<String>,
    /// Instrumentation scopes it claims.
    pub scopes: Vec<String>,
    /// Services it claims where no dialect claims the scope.
    pub services: Vec<String>,
    /// File it was read from, as shown to people.
    pub file: String,
    /// The file's text.
    pub text: String,
    /// An application that people use: agent and client are its service name.
    pub host: bool,
    /// Default hop of its records.
    pub hop: Option<Hop>,
    /// True where its input count leaves cached tokens out. A property of the dialect, not of the provider.
    pub input_is_exclusive: bool,
    /// True where its output count leaves reasoning tokens out.
    pub reasoning_is_outside: bool,
    /// True where records that no rule matches are read by the conventions.
    pub conventions: bool,
    /// Provider of its model calls where no record says.
    pub provider: Option<String>,
    /// True where its tool names carry their server with a single separator.
    pub prefixed_tools: bool,
    /// Separator between server and tool in its tool names, where no attribute names the server.
    pub tool_separator: Option<String>,
    /// Attributes that identify a log record across repeated deliveries.
    pub record_id: Vec<String>,
    /// Its keys over the common ones.
    pub keys: KeyTable,
    pub(super) events: Vec<Pattern>,
    pub(super) scope_patterns: Vec<Pattern>,
    pub(super) service_patterns: Vec<Pattern>,
    pub(super) spans: Vec<Rule>,
    pub(super) logs: Vec<Rule>,
    pub(super) points: Vec<PointRule>,
}

/// What a rule makes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Nothing: a phantom.
    Nothing,
    /// What the conventions say.
    Conventions,
    /// An operation of this sort.
    Kind(CallKind),
}

/// What a record must look like.
#[derive(Debug, Clone)]
pub struct Condition {
    names: Vec<Pattern>,
    equals: Vec<(String, Pattern)>,
    has: Vec<String>,
    lacks: Vec<String>,
    span_kind: Option<i32>,
}

/// A part of an observation that a rule may drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Token counts.
    Usage,
    /// Byte sizes.
    Sizes,
    /// Model fields.
    Model,
    /// MCP fields.
    Mcp,
    /// Reported cost.
    Cost,
    /// Duration.
    Duration,
}

/// A field that a rule may assign.
#[derive(Clone, Copy)]
pub enum Slot {
    /// A text of the observation.
    Text(fn(&mut Observation) -> &mut Option<String>),
    /// Its status.
    Status,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text",
            Self::Status => "Status",
        })
    }
}

/// A rule about spans or log records.
#[derive(Debug, Clone)]
pub struct Rule {
    pub(super) condition: Condition,
    pub(super) reading: Reading,
    pub(super) role: Option<Role>,
    pub(super) hop: Option<Hop>,
    pub(super) input: Option<Input>,
    pub(super) reasoning: Option<Reasoning>,
    pub(super) set: Vec<(Slot, String)>,
    pub(super) force: Vec<(Slot, String)>,
    pub(super) take: Vec<(Slot, Pattern)>,
    pub(super) drop: Vec<Part>,
}

/// What the number of a metric point counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Tokens.
    Tokens,
    /// US dollars.
    Usd,
    /// Millionths of a US dollar.
    MicroUsd,
}

/// A rule about metric points.
#[derive(Debug, Clone)]
pub struct PointRule {
    pub(super) condition: Condition,
    pub(super) kind: Option<CallKind>,
    pub(super) unit: Unit,
    pub(super) type_key: Option<String>,
    pub(super) types: Vec<(String, Field)>,
    pub(super) tokens: Option<Field>,
    pub(super) set: Vec<(Slot, String)>,
    pub(super) force: Vec<(Slot, String)>,
}

impl Compiled {
    /// True where a key means something else here than in the conventions.
    #[must_use]
    pub fn ignores(&self, key: &str) -> bool {
        self.keys.ignores(key)
    }

    /// The canonical fields of a span: its attributes, and those of the events that the dialect names.
    #[must_use]
    pub fn fields_of<'s>(&self, span: &'s Span) -> Fields<'s> {
        let fields = Fields::read(&self.keys, &span.attributes);
        if self.events.is_empty() {
            return fields;
        }
        let named = |name: &str| self.events.iter().any(|pattern| pattern.matches(name));
        let events = span.events.iter().filter(|event| named(&event.name));
        events.fold(fields, |fields, event| fields.and_event(&self.keys, &event.attributes))
    }
}

impl Condition {
    /// True where a record matches: its name, what its attributes say, and its span kind.
    pub fn matches<'v>(
        &self,
        name: &str,
        text_of: impl Fn(&str) -> Option<std::borrow::Cow<'v, str>>,
        kind: i32,
    ) -> bool {
        (self.names.is_empty() || self.names.iter().any(|pattern| pattern.matches(name)))
            && self.span_kind.is_none_or(|expected| expected == kind)
            && self
                .equals
                .iter()
                .all(|(key, pattern)| text_of(key).is_some_and(|text| pattern.matches(&text)))
            && self.has.iter().all(|key| text_of(key).is_some())
            && self.lacks.iter().all(|key| text_of(key).is_none())
    }

    /// The attributes it looks at.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let equals = self.equals.iter().map(|(key, _)| key);
        equals.chain(&self.has).chain(&self.lacks).map(String::as_str)
    }
}

/// Reads a dialect's file. `file` is its name for people.
///
/// # Errors
/// Kind Invalid, naming file, line and key.
pub fn parse(file: &str, text: &str) -> Result<DialectFile> {
    toml::from_str(text).map_err(|error| {
        let message = error.to_string();
        invalid(file, message.trim_end())
    })
}

/// Compiles a dialect over the common keys and rules.
///
/// # Errors
/// Kind Invalid, naming file, rule and key.
pub fn compile(file: &str, text: &str, said: &DialectFile, common: Option<&DialectFile>) -> Result<Compiled> {
    let name = said
        .name
        .clone()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| invalid(file, "it has neither `name` nor `extends`; add `name = \"my_emitter\"`"))?;
    let conventions = said.conventions.unwrap_or(true);
    let mut compiled = Compiled {
        name,
        emitter: said.emitter.clone(),
        versions: said.versions.clone(),
        evidence: said.evidence,
        sources: said.sources.clone(),
        scopes: said.scopes.clone(),
        services: said.services.clone(),
        file: file.to_owned(),
        text: text.to_owned(),
        host: said.host,
        hop: hop(file, said.hop.as_deref())?,
        input_is_exclusive: said.input == Input::Exclusive,
        reasoning_is_outside: said.reasoning == Reasoning::Outside,
        conventions,
        provider: said.provider.clone(),
        prefixed_tools: said.prefixed_tools,
        tool_separator: said.tool_separator.clone().filter(|separator| !separator.is_empty()),
        events: said.events.iter().map(|pattern| Pattern::new(pattern)).collect(),
        record_id: said.record_id.clone(),
        keys: KeyTable::new(),
        scope_patterns: said.scopes.iter().map(|pattern| Pattern::new(pattern)).collect(),
        service_patterns: said.services.iter().map(|pattern| Pattern::new(pattern)).collect(),
        spans: Vec::new(),
        logs: Vec::new(),
        points: Vec::new(),
    };
    add_keys(&mut compiled.keys, file, 0, said)?;
    let rules = std::iter::once(said).chain(common.filter(|_| conventions));
    for source in rules {
        for (position, rule) in source.span.iter().enumerate() {
            compiled
                .spans
                .push(record_rule(&at(file, "span", position), rule, &rule.name)?);
        }
        for (position, rule) in source.log.iter().enumerate() {
            compiled
                .logs
                .push(record_rule(&at(file, "log", position), rule, &rule.event)?);
        }
        for (position, rule) in source.metric.iter().enumerate() {
            compiled.points.push(point_rule(&at(file, "metric", position), rule)?);
        }
    }
    if let Some(common) = common {
        add_keys(&mut compiled.keys, file, 1, common)?;
    }
    Ok(compiled)
}

/// The keys that count on a resource: those of the conventions and, after them, those that do so only there.
///
/// # Errors
/// Kind Invalid, naming file and key.
pub fn resource_keys(file: &str, common: &DialectFile) -> Result<KeyTable> {
    let mut table = KeyTable::new();
    add_keys(&mut table, file, 0, common)?;
    feed(&mut table, file, 1, &common.resource_keys)?;
    Ok(table)
}

/// What an extension adds to the file it extends: its keys and rules come first, its settings win.
#[must_use]
pub fn extend(base: &DialectFile, extension: DialectFile) -> DialectFile {
    let mut extended = base.clone();
    extended.host |= extension.host;
    extended.prefixed_tools |= extension.prefixed_tools;
    if extension.input != Input::default() {
        extended.input = extension.input;
    }
    if extension.reasoning != Reasoning::default() {
        extended.reasoning = extension.reasoning;
    }
    extended.hop = extension.hop.or(extended.hop);
    extended.tool_separator = extension.tool_separator.or(extended.tool_separator);
    extended.events.extend(extension.events);
    extended.provider = extension.provider.or(extended.provider);
    extended.conventions = extension.conventions.or(extended.conventions);
    extended.scopes.extend(extension.scopes);
    extended.services.extend(extension.services);
    extended.ignore.extend(extension.ignore);
    extended.record_id.splice(0..0, extension.record_id);
    extended.expand.extend(extension.expand);
    for (field, keys) in extension.keys {
        extended.keys.entry(field).or_default().splice(0..0, keys);
    }
    extended.span.splice(0..0, extension.span);
    extended.log.splice(0..0, extension.log);
    extended.metric.splice(0..0, extension.metric);
    extended
}

fn add_keys(table: &mut KeyTable, file: &str, level: u16, said: &DialectFile) -> Result<()> {
    table.ignore(said.ignore.iter().map(String::as_str));
    // An attribute that is opened may also be a field itself: opening wins, for its members say more.
    table.open(said.expand.iter().map(|(key, notation)| {
        let notation = match notation {
            NotationName::Json => Notation::Json,
            NotationName::Python => Notation::Python,
        };
        (key.as_str(), notation)
    }));
    feed(table, file, level, &said.keys)
}

fn feed(table: &mut KeyTable, file: &str, level: u16, keys: &BTreeMap<String, Vec<String>>) -> Result<()> {
    for (name, keys) in keys {
        let field = Field::parse(name).ok_or_else(|| {
            let known: Vec<&str> = Field::ALL.iter().map(|field| field.as_str()).collect();
            invalid(
                file,
                &format!("[keys] has no field {name:?}; the fields are {}", known.join(" ")),
            )
        })?;
        table.feed(level, field, keys.iter().map(String::as_str));
    }
    Ok(())
}

fn record_rule(place: &str, said: &RecordRule, names: &[String]) -> Result<Rule> {
    let reading = match said.kind.as_str() {
        "none" => Reading::Nothing,
        "conventions" => Reading::Conventions,
        name => Reading::Kind(kind(place, name)?),
    };
    let role = match said.role.as_deref() {
        None => None,
        Some(name) => Some(
            [Role::Leaf, Role::Rollup, Role::Detail, Role::Correction]
                .into_iter()
                .find(|role| role.as_str() == name)
                .ok_or_else(|| {
                    invalid(
                        place,
                        &format!("role {name:?} is none of leaf, rollup, detail, correction"),
                    )
                })?,
        ),
    };
    let take = said.take.iter().map(|(field, pattern)| {
        let pattern_has_one_star = pattern.matches('*').count() == 1;
        if !pattern_has_one_star {
            return Err(invalid(
                place,
                &format!("take.{field} needs a pattern with one `*`, not {pattern:?}"),
            ));
        }
        Ok((slot(place, field)?, Pattern::new(pattern)))
    });
    let drop = said.drop.iter().map(|name| match name.as_str() {
        "usage" => Ok(Part::Usage),
        "sizes" => Ok(Part::Sizes),
        "model" => Ok(Part::Model),
        "mcp" => Ok(Part::Mcp),
        "cost" => Ok(Part::Cost),
        "duration" => Ok(Part::Duration),
        _ => Err(invalid(
            place,
            &format!("drop {name:?} is none of usage, sizes, model, mcp, cost, duration"),
        )),
    });
    Ok(Rule {
        condition: Condition {
            span_kind: span_kind(place, said.span_kind.as_deref())?,
            ..condition(names, &said.conditions, &said.has, &said.lacks)
        },
        reading,
        role,
        hop: hop(place, said.hop.as_deref())?,
        input: said.input,
        reasoning: said.reasoning,
        set: assignments(place, &said.set)?,
        force: assignments(place, &said.force)?,
        take: take.collect::<Result<_>>()?,
        drop: drop.collect::<Result<_>>()?,
    })
}

fn point_rule(place: &str, said: &MetricRule) -> Result<PointRule> {
    let unit = match said.value.as_str() {
        "tokens" | "" => Unit::Tokens,
        "usd" => Unit::Usd,
        "micro_usd" => Unit::MicroUsd,
        other => {
            return Err(invalid(
                place,
                &format!("value {other:?} is none of tokens, usd, micro_usd"),
            ));
        }
    };
    let types: Result<Vec<(String, Field)>> = said
        .types
        .iter()
        .map(|(word, field)| Ok((word.clone(), token_field(place, field)?)))
        .collect();
    let tokens = said
        .tokens
        .as_deref()
        .map(|field| token_field(place, field))
        .transpose()?;
    let kind = match said.kind.as_str() {
        "none" => None,
        name => Some(kind(place, name)?),
    };
    if kind.is_some() && unit == Unit::Tokens && tokens.is_none() && (said.type_key.is_none() || said.types.is_empty())
    {
        return Err(invalid(
            place,
            "a metric of tokens needs `tokens`, or `type` and `types`",
        ));
    }
    Ok(PointRule {
        condition: condition(&said.name, &said.conditions, &said.has, &said.lacks),
        kind,
        unit,
        type_key: said.type_key.clone(),
        types: types?,
        tokens,
        set: assignments(place, &said.set)?,
        force: assignments(place, &said.force)?,
    })
}

fn token_field(place: &str, name: &str) -> Result<Field> {
    Field::parse(name)
        .filter(|field| {
            matches!(
                field,
                Field::Input
                    | Field::Output
                    | Field::CacheRead
                    | Field::CacheWrite
                    | Field::CacheWrite5m
                    | Field::CacheWrite1h
                    | Field::Reasoning
                    | Field::AudioInput
                    | Field::AudioOutput
                    | Field::ImageInput
            )
        })
        .ok_or_else(|| invalid(place, &format!("{name:?} is no kind of token")))
}

fn kind(place: &str, name: &str) -> Result<CallKind> {
    CallKind::parse(name).ok_or_else(|| {
        let known = "llm, embedding, tool, prompt, resource, agent, mcp, none, conventions";
        invalid(place, &format!("kind {name:?} is none of {known}"))
    })
}

fn hop(place: &str, name: Option<&str>) -> Result<Option<Hop>> {
    let Some(name) = name else { return Ok(None) };
    let hop = Hop::parse(name).ok_or_else(|| {
        invalid(
            place,
            &format!("hop {name:?} is none of host, client, gateway, server, backend"),
        )
    })?;
    Ok(Some(hop))
}

fn span_kind(place: &str, name: Option<&str>) -> Result<Option<i32>> {
    Ok(Some(match name {
        None => return Ok(None),
        Some("internal") => 1,
        Some("server") => 2,
        Some("client") => 3,
        Some("producer") => 4,
        Some("consumer") => 5,
        Some(other) => {
            let known = "internal, server, client, producer, consumer";
            return Err(invalid(place, &format!("span_kind {other:?} is none of {known}")));
        }
    }))
}

fn condition(names: &[String], equals: &BTreeMap<String, String>, has: &[String], lacks: &[String]) -> Condition {
    let compiled = equals.iter().map(|(key, pattern)| (key.clone(), Pattern::new(pattern)));
    Condition {
        names: names.iter().map(|name| Pattern::new(name)).collect(),
        equals: compiled.collect(),
        has: has.to_vec(),
        lacks: lacks.to_vec(),
        span_kind: None,
    }
}

fn assignments(place: &str, said: &BTreeMap<String, String>) -> Result<Vec<(Slot, String)>> {
    said.iter()
        .map(|(name, value)| {
            let slot = slot(place, name)?;
            if matches!(slot, Slot::Status) && Status::parse(value).as_str() != value {
                return Err(invalid(place, &format!("status {value:?} is none of ok, error, unset")));
            }
            Ok((slot, value.clone()))
        })
        .collect()
}

/// The place of a field in an observation. Counts cannot be assigned by a rule: they come from records.
fn slot(place: &str, name: &str) -> Result<Slot> {
    let text: fn(&mut Observation) -> &mut Option<String> = match name {
        "status" => return Ok(Slot::Status),
        "conversation" => |o| &mut o.dimensions.session_id,
        "turn" => |o| &mut o.turn_id,
        "mcp_method" => |o| &mut o.mcp.mcp_method,
        "server" => |o| &mut o.mcp.server,
        "tool" => |o| &mut o.mcp.tool,
        "tool_call_id" => |o| &mut o.tool_call_id,
        "prompt" => |o| &mut o.mcp.prompt,
        "prompt_version" => |o| &mut o.mcp.prompt_version,
        "resource_uri" => |o| &mut o.mcp.resource_uri,
        "request_id" => |o| &mut o.mcp.request_id,
        "transport" => |o| &mut o.mcp.transport,
        "protocol_version" => |o| &mut o.mcp.mcp_protocol_version,
        "provider" => |o| &mut o.model.provider,
        "request_model" => |o| &mut o.model.request_model,
        "response_model" => |o| &mut o.model.response_model,
        "response_id" => |o| &mut o.model.response_id,
        "service_tier" => |o| &mut o.model.service_tier,
        "processing" => |o| &mut o.model.processing,
        "user" => |o| &mut o.dimensions.user_id,
        "team" => |o| &mut o.dimensions.team,
        "project" => |o| &mut o.dimensions.project,
        "cost_center" => |o| &mut o.dimensions.cost_center,
        "environment" => |o| &mut o.dimensions.environment,
        "agent" => |o| &mut o.dimensions.agent,
        "client" => |o| &mut o.dimensions.client,
        "api_key" => |o| &mut o.dimensions.api_key,
        "error_type" => |o| &mut o.error_type,
        "operation" => |o| &mut o.operation,
        _ => return Err(invalid(place, &format!("a rule cannot assign {name:?}"))),
    };
    Ok(Slot::Text(text))
}

fn at(file: &str, table: &str, position: usize) -> String {
    format!("{file}, [[{table}]] number {}", position + 1)
}

fn invalid(place: &str, message: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("dialect {place}: {message}"))
}
