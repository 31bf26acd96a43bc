//! Agents that emit the OpenTelemetry GenAI conventions, in their three generations, and MCP spans.

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, Status};

use super::company::{Agent, Dialect};
use super::mcp_hops::{Scopes, client_and_server, http_client_span, list_tools};
use super::outbox::{Ids, Outbox, SpanSpec, kv, scope, status};
use super::plan::{MS, McpCall, McpTarget, ModelCall, Session, Step, uuid_like};
use super::rng::Rng;

/// Writes a session's telemetry.
pub fn render(outbox: &mut Outbox, session: &Session, scopes: &Scopes, rng: &mut Rng) {
    let agent = session.agent;
    let agent_scope = scope(agent.name, Some("3.2.0"));
    outbox.lane(agent.name, || resource(agent));
    let root = Ids::root(rng);
    for (index, server) in session.servers.iter().enumerate() {
        let start_ns = session.start_ns + i64::try_from(index).unwrap_or(0) * 150 * MS;
        list_tools(outbox, Some((agent.name, &root)), server, start_ns, scopes, rng);
    }
    for step in &session.steps {
        match step {
            Step::Model(call) => {
                let ids = root.child(rng);
                let operation = if call.embedding { "embeddings" } else { "chat" };
                let span = SpanSpec {
                    ids,
                    scope: &agent_scope,
                    name: format!("{operation} {}", call.model.request).into(),
                    kind: SpanKind::Client,
                    start_ns: call.start_ns,
                    duration_ns: call.duration_ns,
                    attributes: model_attributes(session, call, operation),
                    status: status(call.failure),
                }
                .build();
                outbox.lane(agent.name, Vec::new).spans.push(span);
                http_client_span(outbox, agent.name, &ids, call, scopes, rng);
            }
            Step::Mcp(call) => mcp_call(outbox, session, &root, call, &agent_scope, scopes, rng),
        }
    }
    let span = SpanSpec {
        ids: root,
        scope: &agent_scope,
        name: format!("invoke_agent {}", agent.name).into(),
        kind: SpanKind::Internal,
        start_ns: session.start_ns,
        duration_ns: session.end_ns - session.start_ns,
        attributes: frame_attributes(session),
        status: Status::Unset,
    }
    .build();
    outbox.lane(agent.name, Vec::new).spans.push(span);
}

fn mcp_call(
    outbox: &mut Outbox,
    session: &Session,
    root: &Ids,
    call: &McpCall,
    agent_scope: &opentelemetry::InstrumentationScope,
    scopes: &Scopes,
    rng: &mut Rng,
) {
    let agent = session.agent;
    let McpTarget::Tool(tool) = call.target else {
        client_and_server(outbox, agent.name, root, call, scopes, rng);
        return;
    };
    let ids = root.child(rng);
    let mut attributes = vec![
        kv("gen_ai.operation.name", "execute_tool"),
        kv("gen_ai.tool.name", tool.name),
        kv("gen_ai.tool.call.id", call.tool_call_id.clone()),
        kv("gen_ai.tool.type", "extension"),
        kv("gen_ai.agent.name", agent.name),
        kv("gen_ai.conversation.id", session.id.clone()),
        kv("gen_ai.tool.call.arguments", tool.arguments),
        kv("user.id", session.user),
    ];
    if call.failure.is_some() {
        attributes.push(kv("error.type", "tool_error"));
    }
    let span = SpanSpec {
        ids,
        scope: agent_scope,
        name: format!("execute_tool {}", tool.name).into(),
        kind: SpanKind::Internal,
        start_ns: call.start_ns - MS / 2,
        duration_ns: call.duration_ns + MS,
        attributes,
        status: status(call.failure),
    }
    .build();
    client_and_server(outbox, agent.name, &ids, call, scopes, rng);
    outbox.lane(agent.name, Vec::new).spans.push(span);
}

fn model_attributes(session: &Session, call: &ModelCall, operation: &'static str) -> Vec<KeyValue> {
    let model = call.model;
    let mut attributes = vec![
        kv("gen_ai.operation.name", operation),
        kv("gen_ai.request.model", model.request),
        kv("gen_ai.agent.name", session.agent.name),
        kv("gen_ai.conversation.id", session.id.clone()),
        kv("user.id", session.user),
        kv("server.port", 443),
    ];
    let first = session.agent.dialect == Dialect::GenAiFirst;
    attributes.push(if first {
        kv("gen_ai.system", model.provider)
    } else {
        kv("gen_ai.provider.name", model.provider)
    });
    if call.failure.is_some() {
        attributes.push(kv("error.type", "529"));
        return attributes;
    }
    attributes.push(kv("gen_ai.response.model", model.response));
    attributes.push(kv("gen_ai.response.id", call.response_id.clone()));
    let (input, output, write) = match session.agent.dialect {
        Dialect::GenAiFirst => ("gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens", None),
        Dialect::GenAi137 => (
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.output_tokens",
            Some("gen_ai.usage.cache_creation.input_tokens"),
        ),
        _ => (
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.output_tokens",
            Some("gen_ai.usage.cache_write.input_tokens"),
        ),
    };
    attributes.push(kv(input, call.input));
    if call.embedding {
        return attributes;
    }
    attributes.push(kv(output, call.output));
    if let Some(write) = write {
        attributes.push(kv("gen_ai.usage.cache_read.input_tokens", call.cache_read));
        if call.cache_write > 0 {
            attributes.push(kv(write, call.cache_write));
        }
    }
    attributes
}

/// The frame around a session. Frameworks of the second generation repeat their children's usage on it
/// under the very same keys.
fn frame_attributes(session: &Session) -> Vec<KeyValue> {
    let mut attributes = vec![
        kv("gen_ai.operation.name", "invoke_agent"),
        kv("gen_ai.agent.name", session.agent.name),
        kv("gen_ai.conversation.id", session.id.clone()),
        kv("user.id", session.user),
    ];
    if session.agent.dialect == Dialect::GenAi137 {
        let answers = || {
            session.steps.iter().filter_map(|step| match step {
                Step::Model(call) if !call.embedding && call.failure.is_none() => Some(call),
                _ => None,
            })
        };
        if let Some(call) = answers().next() {
            attributes.push(kv("gen_ai.provider.name", call.model.provider));
            attributes.push(kv("gen_ai.request.model", call.model.request));
        }
        attributes.push(kv(
            "gen_ai.usage.input_tokens",
            answers().map(|call| call.input).sum::<i64>(),
        ));
        attributes.push(kv(
            "gen_ai.usage.output_tokens",
            answers().map(|call| call.output).sum::<i64>(),
        ));
    }
    attributes
}

fn resource(agent: &Agent) -> Vec<KeyValue> {
    vec![
        kv("telemetry.sdk.language", "python"),
        kv("telemetry.sdk.name", "opentelemetry"),
        kv("telemetry.sdk.version", "1.45.2"),
        kv("service.name", agent.name),
        kv("service.namespace", "acme"),
        kv("service.version", "3.2.0"),
        kv(
            "service.instance.id",
            uuid_like(&mut Rng::keyed(&["instance", agent.name])),
        ),
        kv("deployment.environment.name", "production"),
        kv("team", agent.team),
    ]
}
