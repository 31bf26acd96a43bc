//! Agents instrumented with OpenInference over the Anthropic SDK, whose own spans double every call.
//!
//! As captured: the OpenInference span has session, user and team but no response id; the SDK's span
//! below it has the response id and the split of cache writes; the MCP spans are those of the Python SDK.

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, Status};

use super::company::Agent;
use super::mcp_hops::{Scopes, client_and_server, list_tools};
use super::outbox::{Ids, Outbox, SpanSpec, exception, kv, scope, with_events};
use super::plan::{MS, ModelCall, Session, Step, uuid_like};
use super::rng::Rng;

/// Writes a session's telemetry.
pub fn render(outbox: &mut Outbox, session: &Session, scopes: &Scopes, rng: &mut Rng) {
    let agent = session.agent;
    let instrumentation = scope("openinference.instrumentation.anthropic", Some("3.1.0"));
    let sdk = scope("com.anthropic.sdk.python", Some("2.12.0"));
    outbox.lane(agent.name, || resource(agent));
    let root = Ids::root(rng);
    for server in &session.servers {
        list_tools(outbox, Some((agent.name, &root)), server, session.start_ns, scopes, rng);
    }
    for step in &session.steps {
        match step {
            Step::Model(call) => {
                let outer = root.child(rng);
                let inner = outer.child(rng);
                let mut span = SpanSpec {
                    ids: outer,
                    scope: &instrumentation,
                    name: "messages.create".into(),
                    kind: SpanKind::Internal,
                    start_ns: call.start_ns,
                    duration_ns: call.duration_ns,
                    attributes: outer_attributes(session, call),
                    status: call.failure.map_or(Status::Ok, Status::error),
                }
                .build();
                if let Some(failure) = call.failure {
                    let time_ns = call.start_ns + call.duration_ns;
                    span = with_events(span, vec![exception(time_ns, "anthropic.OverloadedError", failure)]);
                }
                let native = SpanSpec {
                    ids: inner,
                    scope: &sdk,
                    name: "anthropic.messages.create".into(),
                    kind: SpanKind::Client,
                    start_ns: call.start_ns + 2 * MS,
                    duration_ns: call.duration_ns - 4 * MS,
                    attributes: inner_attributes(call),
                    status: call.failure.map_or(Status::Ok, Status::error),
                }
                .build();
                outbox.lane(agent.name, Vec::new).spans.extend([native, span]);
            }
            Step::Mcp(call) => client_and_server(outbox, agent.name, &root, call, scopes, rng),
        }
    }
    let span = SpanSpec {
        ids: root,
        scope: &scope(agent.name, None),
        name: agent.name.into(),
        kind: SpanKind::Internal,
        start_ns: session.start_ns,
        duration_ns: session.end_ns - session.start_ns,
        attributes: [
            common(session),
            vec![
                kv("openinference.span.kind", "AGENT"),
                kv("input.value", "triage"),
                kv("agent.name", agent.name),
            ],
        ]
        .concat(),
        status: Status::Unset,
    }
    .build();
    outbox.lane(agent.name, Vec::new).spans.push(span);
}

fn common(session: &Session) -> Vec<KeyValue> {
    vec![
        kv("session.id", session.id.clone()),
        kv("user.id", session.user),
        kv(
            "metadata",
            format!("{{\"team\": \"{}\", \"cost_center\": \"pay-7\"}}", session.agent.team),
        ),
    ]
}

fn outer_attributes(session: &Session, call: &ModelCall) -> Vec<KeyValue> {
    let mut attributes = common(session);
    attributes.extend([
        kv("openinference.span.kind", "LLM"),
        kv("llm.provider", call.model.provider),
        kv("llm.system", call.model.provider),
        kv("llm.request.model_name", call.model.request),
        kv("llm.model_name", call.model.request),
        kv("llm.invocation_parameters", "{\"max_tokens\": 1024}"),
        kv("llm.input_messages.0.message.role", "user"),
        kv("llm.input_messages.0.message.content", "Is this charge fraudulent?"),
    ]);
    if call.failure.is_none() {
        attributes.extend([
            kv("llm.response.model_name", call.model.response),
            kv("llm.finish_reason", if call.last { "end_turn" } else { "tool_use" }),
            kv("llm.token_count.prompt", call.input),
            kv("llm.token_count.completion", call.output),
            kv("llm.token_count.total", call.input + call.output),
        ]);
        if call.cache_read > 0 {
            attributes.push(kv("llm.token_count.prompt_details.cache_read", call.cache_read));
        }
        if call.cache_write > 0 {
            attributes.push(kv("llm.token_count.prompt_details.cache_write", call.cache_write));
        }
    }
    attributes
}

fn inner_attributes(call: &ModelCall) -> Vec<KeyValue> {
    let mut attributes = vec![
        kv("server.address", "api.anthropic.com"),
        kv("server.port", 443),
        kv("gen_ai.provider.name", "anthropic"),
        kv("gen_ai.operation.name", "chat"),
        kv("gen_ai.request.model", call.model.request),
        kv("gen_ai.request.max_tokens", 1024),
        kv("http.request.method", "POST"),
        kv("http.route", "/v1/messages"),
        kv("url.full", "https://api.anthropic.com/v1/messages"),
    ];
    if call.failure.is_some() {
        attributes.extend([kv("http.response.status_code", 529), kv("error.type", "529")]);
        return attributes;
    }
    attributes.extend([
        kv("http.response.status_code", 200),
        kv("anthropic.request.id", format!("req_{}", &call.response_id)),
        kv("gen_ai.response.id", call.response_id.clone()),
        kv("gen_ai.response.model", call.model.response),
        kv("gen_ai.usage.input_tokens", call.input),
        kv("gen_ai.usage.output_tokens", call.output),
        kv("gen_ai.usage.cache_read.input_tokens", call.cache_read),
        kv("gen_ai.usage.cache_write.input_tokens", call.cache_write),
        kv(
            "anthropic.usage.cache_creation.ephemeral_5m_input_tokens",
            call.cache_write,
        ),
        kv("anthropic.usage.cache_creation.ephemeral_1h_input_tokens", 0),
        kv("anthropic.response.service_tier", "standard"),
    ]);
    attributes
}

fn resource(agent: &Agent) -> Vec<KeyValue> {
    vec![
        kv("telemetry.sdk.language", "python"),
        kv("telemetry.sdk.name", "opentelemetry"),
        kv("telemetry.sdk.version", "1.45.2"),
        kv("service.name", agent.name),
        kv("service.version", "0.9.1"),
        kv(
            "service.instance.id",
            uuid_like(&mut Rng::keyed(&["instance", agent.name])),
        ),
        kv("deployment.environment.name", "production"),
        kv("team", agent.team),
    ]
}
