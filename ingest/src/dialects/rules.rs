//! Reading a record: the dialect's rules first, then the conventions, then what is common to all.
//!
//! The first rule that matches decides what the record is; its assignments then fill or replace fields. What
//! no rule and no convention knows is guessed from its keys where nobody claims its scope ([`super::guess`]).

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use spanledger_model::names::without_server;
use spanledger_model::{CallKind, FemtoUsd, Hop, Observation, Role, Status, Usage};

use super::compile::{Compiled, Part, PointRule, Reading, Rule, Slot, Unit};
use super::fields::{Field, Fields};
use super::file::{Input, Reasoning};
use super::record::{self, LogRecordView, PointView, SpanView};
use super::{conventions, guess, names};
use crate::value;

/// OTLP's number for a SERVER span.
pub const SPAN_KIND_SERVER: i32 = 2;
/// OTLP's number for a CLIENT span.
pub const SPAN_KIND_CLIENT: i32 = 3;

/// What a span says about an operation; `None` where it is about none.
#[must_use]
pub fn read_span(view: &SpanView<'_>) -> Option<Observation> {
    let record = Record {
        dialect: view.origin.dialect,
        name: &view.span.name,
        span_kind: view.span.kind,
        attributes: &view.span.attributes,
        fields: &view.fields,
    };
    record.read(
        &record.dialect.spans,
        |kind, role| view.observation(kind, role),
        || conventions::read_span(view),
        || guess::read_span(view),
    )
}

/// What a log record says about an operation; `None` where it is about none.
#[must_use]
pub fn read_log(view: &LogRecordView<'_>) -> Option<Observation> {
    let record = Record {
        dialect: view.origin.dialect,
        name: view.event_name.unwrap_or_default(),
        span_kind: 0,
        attributes: &view.record.attributes,
        fields: &view.fields,
    };
    record.read(
        &record.dialect.logs,
        |kind, role| view.observation(kind, role),
        || conventions::read_log(view),
        || guess::read_log(view),
    )
}

/// What rules look at in a span or log record.
struct Record<'r> {
    dialect: &'r Compiled,
    name: &'r str,
    /// OTLP's number; 0 for a log record.
    span_kind: i32,
    attributes: &'r [KeyValue],
    fields: &'r Fields<'r>,
}

impl Record<'_> {
    /// Reads the record by the first rule that matches, else by the conventions, else by a guess.
    fn read(
        &self,
        rules: &[Rule],
        observe: impl Fn(CallKind, Role) -> Observation,
        by_convention: impl Fn() -> Option<Observation>,
        guessed: impl Fn() -> Option<Observation>,
    ) -> Option<Observation> {
        let text_of = |key: &str| attribute_text(self.attributes, self.fields, key);
        let matches = |rule: &&Rule| rule.condition.matches(self.name, text_of, self.span_kind);
        let rule = rules.iter().find(matches);
        let mut observation = match rule.map(|rule| (rule, rule.reading)) {
            Some((_, Reading::Nothing)) => return None,
            Some((rule, Reading::Kind(kind))) => observe(kind, rule.role.unwrap_or(usual_role(kind))),
            Some((_, Reading::Conventions)) => by_convention()?,
            None if self.dialect.conventions => by_convention().or_else(guessed)?,
            None => return None,
        };
        if let Some(rule) = rule {
            recount(rule, self.dialect, self.fields, &mut observation);
            apply(rule, self.name, &mut observation);
        }
        finish(self.dialect, self.span_kind, &mut observation);
        Some(observation)
    }
}

/// The role of a record whose dialect says nothing else: a frame around calls repeats them.
pub(super) fn usual_role(kind: CallKind) -> Role {
    if kind == CallKind::Agent {
        Role::Rollup
    } else {
        Role::Leaf
    }
}

/// What a metric point says about usage; `None` where it says nothing. Gauges count nothing.
#[must_use]
pub fn read_point(view: &PointView<'_>) -> Option<Observation> {
    view.is_delta?;
    let dialect = view.origin.dialect;
    let rule = dialect.points.iter().find(|rule| {
        let text_of = |key: &str| attribute_text(view.attributes, &view.fields, key);
        rule.condition.matches(view.name, text_of, 0)
    })?;
    let kind = rule.kind?;
    let (usage, cost) = match rule.unit {
        Unit::Tokens => (tokens(view, rule)?, None),
        Unit::Usd => (Usage::default(), Some(FemtoUsd::from_f64(view.value)?)),
        Unit::MicroUsd => (Usage::default(), Some(FemtoUsd::from_f64(view.value / 1e6)?)),
    };
    let mut observation = view.observation(kind);
    // A point is a sum over calls: nothing in it is about one of them.
    observation.mcp = Default::default();
    observation.usage = usage;
    observation.reported_cost = cost;
    assign(&rule.set, &rule.force, &mut observation);
    finish(dialect, 0, &mut observation);
    Some(observation)
}

/// A point carries one kind of token. Where the dialect counts cached tokens beside the input, or reasoning
/// beside the output, they are input and output too: the fold sums the points of a cell.
fn tokens(view: &PointView<'_>, rule: &PointRule) -> Option<Usage> {
    let field = rule.tokens.or_else(|| {
        let text = attribute_text(view.attributes, &view.fields, rule.type_key.as_deref()?)?;
        rule.types
            .iter()
            .find(|(word, _)| **word == *text)
            .map(|(_, field)| *field)
    })?;
    let count = (view.value.is_finite() && view.value >= 0.0 && view.value < 9.0e18).then(|| view.value.round() as i64);
    let mut usage = Usage::default();
    let dialect = view.origin.dialect;
    match field {
        Field::Input => usage.input = count,
        Field::Output => usage.output = count,
        Field::CacheRead => usage.cache_read = count,
        Field::CacheWrite | Field::CacheWrite5m => usage.cache_write_5m = count,
        Field::CacheWrite1h => usage.cache_write_1h = count,
        Field::Reasoning => usage.reasoning = count,
        Field::AudioInput => usage.audio_input = count,
        Field::AudioOutput => usage.audio_output = count,
        Field::ImageInput => usage.image_input = count,
        _ => return None,
    }
    if dialect.input_is_exclusive
        && matches!(
            field,
            Field::CacheRead | Field::CacheWrite | Field::CacheWrite5m | Field::CacheWrite1h
        )
    {
        usage.input = count;
    }
    if dialect.reasoning_is_outside && field == Field::Reasoning {
        usage.output = count;
    }
    count.map(|_| usage)
}

/// The attribute of a record, or a member of one that holds an object, as text.
pub(super) fn attribute_text<'a>(
    attributes: &'a [KeyValue],
    fields: &'a Fields<'_>,
    key: &str,
) -> Option<Cow<'a, str>> {
    value::attribute(attributes, key)
        .or_else(|| value::attribute(fields.expanded(), key))
        .and_then(value::text)
        .filter(|text| !text.is_empty())
}

/// Counts of a record that its rule says are made otherwise than the dialect's.
fn recount(rule: &Rule, dialect: &Compiled, fields: &Fields<'_>, observation: &mut Observation) {
    if rule.input.is_none() && rule.reasoning.is_none() {
        return;
    }
    let input_is_exclusive = rule
        .input
        .map_or(dialect.input_is_exclusive, |input| input == Input::Exclusive);
    let reasoning_is_outside = rule.reasoning.map_or(dialect.reasoning_is_outside, |reasoning| {
        reasoning == Reasoning::Outside
    });
    observation.usage = record::usage(fields, input_is_exclusive, reasoning_is_outside);
}

fn apply(rule: &Rule, name: &str, observation: &mut Observation) {
    if let Some(role) = rule.role {
        observation.role = role;
    }
    if rule.hop.is_some() {
        observation.hop = rule.hop;
    }
    for part in &rule.drop {
        match part {
            Part::Usage => observation.usage = Usage::default(),
            Part::Sizes => observation.sizes = Default::default(),
            Part::Model => observation.model = Default::default(),
            Part::Mcp => observation.mcp = Default::default(),
            Part::Cost => observation.reported_cost = None,
            Part::Duration => observation.duration_ns = None,
        }
    }
    for (slot, pattern) in &rule.take {
        if let Slot::Text(place) = slot
            && place(observation).is_none()
        {
            *place(observation) = pattern.capture(name).map(str::to_owned);
        }
    }
    assign(&rule.set, &rule.force, observation);
}

fn assign(set: &[(Slot, String)], force: &[(Slot, String)], observation: &mut Observation) {
    let assignments = set.iter().map(|assignment| (assignment, false));
    for ((slot, text), is_forced) in assignments.chain(force.iter().map(|assignment| (assignment, true))) {
        match slot {
            Slot::Status => observation.status = Status::parse(text),
            Slot::Text(place) if is_forced || place(observation).is_none() => *place(observation) = Some(text.clone()),
            Slot::Text(_) => {}
        }
    }
}

/// What is the same for every dialect, after its rules have spoken.
fn finish(dialect: &Compiled, span_kind: i32, observation: &mut Observation) {
    if observation.hop.is_none() {
        observation.hop = match span_kind {
            _ if dialect.hop.is_some() => dialect.hop,
            SPAN_KIND_SERVER => Some(Hop::Server),
            _ if dialect.host => Some(Hop::Host),
            SPAN_KIND_CLIENT => Some(Hop::Client),
            _ => None,
        };
    }
    if dialect.host
        && let Some(service) = observation.dimensions.service.clone()
    {
        observation.dimensions.agent.get_or_insert_with(|| service.clone());
        observation.dimensions.client.get_or_insert(service);
    }
    if observation.kind.uses_a_model() {
        if observation.model.provider.is_none() {
            observation.model.provider.clone_from(&dialect.provider);
        }
        // On a model call these name the tool whose result caused it, not the call itself.
        observation.mcp.server = None;
        observation.mcp.tool = None;
        observation.mcp.mcp_method = None;
    }
    if observation.kind.is_mcp() {
        observation.model = Default::default();
        observation.usage = Usage::default();
    }
    if observation.kind == CallKind::Tool {
        finish_tool(dialect, observation);
    }
}

fn finish_tool(dialect: &Compiled, observation: &mut Observation) {
    let Some(called) = observation.mcp.tool.take() else {
        return;
    };
    let by_separator = || {
        let separator = dialect.tool_separator.as_deref()?;
        let (server, tool) = called.split_once(separator)?;
        (!server.is_empty() && !tool.is_empty()).then_some((server, tool))
    };
    let (server, tool) = match names::split_mcp_tool(&called).or_else(by_separator) {
        Some((server, tool)) => (Some(server), tool),
        None => (None, called.as_str()),
    };
    if observation.mcp.server.is_none() {
        observation.mcp.server = server.map(str::to_owned);
    }
    let bare = observation
        .mcp
        .server
        .as_deref()
        .and_then(|server| without_server(tool, server, dialect.prefixed_tools));
    observation.mcp.tool = Some(bare.unwrap_or(tool).to_owned());
    if observation.mcp.server.is_some() {
        observation
            .mcp
            .mcp_method
            .get_or_insert_with(|| "tools/call".to_owned());
    }
}
