//! OpenInference (Arize): `openinference.span.kind` says what a span is; tokens under `llm.token_count.*`
//! (the prompt count includes the cache); no response id.

use spanledger_model::call::CallKind;
use spanledger_model::{Observation, Role};

use super::fields::{Field, Mapping};
use super::record::SpanView;
use super::{Dialect, gen_ai};
use crate::value;

/// The dialect.
pub const DIALECT: Dialect = Dialect {
    name: "openinference",
    scopes: &["openinference.instrumentation.*"],
    services: &[],
    input_is_exclusive: false,
    keys: KEYS,
    span: read_span,
    log: gen_ai::read_log,
    point: gen_ai::no_point,
};

/// Content keys whose length is the size of request and answer.
const KEYS: Mapping = &[
    (Field::Arguments, &["input.value"]),
    (Field::ResultText, &["output.value"]),
];

fn read_span(view: &SpanView<'_>) -> Option<Observation> {
    if view.fields.has(Field::Frame) {
        read_framed_span(view)
    } else {
        gen_ai::read_span(view)
    }
}

/// What a span with `openinference.span.kind` is, whatever its scope: applications set it by hand too.
#[must_use]
pub fn read_framed_span(view: &SpanView<'_>) -> Option<Observation> {
    let frame = view.fields.str(Field::Frame)?;
    let kind = match frame.to_ascii_uppercase().as_str() {
        "LLM" => CallKind::Llm,
        "EMBEDDING" | "RERANKER" => CallKind::Embedding,
        "TOOL" => CallKind::Tool,
        "AGENT" => CallKind::Agent,
        _ => return None,
    };
    let role = if kind == CallKind::Agent {
        Role::Rollup
    } else {
        Role::Leaf
    };
    let mut observation = view.observation(kind, role);
    match kind {
        CallKind::Tool if observation.mcp.tool.is_none() => observation.mcp.tool = Some(view.span.name.clone()),
        CallKind::Agent if observation.dimensions.agent.is_none() => {
            observation.dimensions.agent = Some(view.span.name.clone());
        }
        _ => {}
    }
    if kind.uses_a_model() && observation.model.request_model.is_none() {
        // Failed calls carry no llm.model_name; the request's parameters still name the model.
        observation.model.request_model = value::attribute_str(&view.span.attributes, "llm.invocation_parameters")
            .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok())
            .and_then(|parameters| parameters.get("model")?.as_str().map(str::to_owned));
    }
    Some(observation)
}
