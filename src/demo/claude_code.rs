//! Claude Code: spans, events and metrics that tell the same calls three times, as captured from 2.1.197.
//!
//! `input_tokens` excludes the cache; `cost_usd` is the host's own price; events point to the interaction
//! span. Most of Acme sets `CLAUDE_CODE_PROPAGATE_TRACEPARENT=1` and instruments its servers' HTTP, so that their
//! spans stand below the host's tool execution.

use std::collections::BTreeMap;

use opentelemetry::KeyValue;
use opentelemetry::logs::{AnyValue, LogRecord as _};
use opentelemetry::trace::{Event, SpanKind, Status, TraceFlags};
use serde_json::{Value, json};

use super::company::{Agent, Model, Server};
use super::mcp_hops::{Scopes, http_server_span, list_tools, server_span};
use super::outbox::{Ids, Outbox, SpanSpec, kv, scope, status, time};
use super::plan::{MS, McpCall, McpTarget, ModelCall, Session, Step};
use super::rng::Rng;

const VERSION: &str = "2.1.197";
const EVENTS_SCOPE: &str = "com.anthropic.claude_code.events";
const TRACING_SCOPE: &str = "com.anthropic.claude_code.tracing";
const METRICS_SCOPE: &str = "com.anthropic.claude_code";

/// The colleague who runs the host's defaults: his servers' spans stand in traces of their own.
const WITHOUT_PROPAGATION: &str = "sven@acme.test";

/// Writes a session's telemetry.
pub fn render(outbox: &mut Outbox, session: &Session, scopes: &Scopes, rng: &mut Rng) {
    outbox.lane(session.agent.name, || resource(session.agent));
    for server in &session.servers {
        list_tools(outbox, None, server, session.start_ns, scopes, rng);
    }
    let mut host = Host::new(session, rng);
    for server in &session.servers {
        host.server_connected(outbox, server);
    }
    host.user_prompt(outbox);
    for step in &session.steps {
        match step {
            Step::Model(call) => host.model_call(outbox, call, rng),
            Step::Mcp(call) => {
                if let McpTarget::Tool(tool) = call.target {
                    let execution = host.tool_call(outbox, call, tool.name, tool.arguments, rng);
                    // The server sees the call inside the host's time.
                    let within = (call.start_ns + 2 * MS, call.duration_ns - 3 * MS);
                    if session.user == WITHOUT_PROPAGATION {
                        server_span(outbox, None, call, within, scopes, rng);
                    } else {
                        let request = http_server_span(outbox, &execution, call.server, within, scopes, rng);
                        server_span(outbox, Some(&request), call, within, scopes, rng);
                    }
                }
            }
        }
    }
    host.finish(outbox);
}

struct Host<'a> {
    session: &'a Session,
    root: Ids,
    prompt_id: String,
    sequence: i64,
    scope: opentelemetry::InstrumentationScope,
    events_scope: opentelemetry::InstrumentationScope,
    after_tool: bool,
    usage: BTreeMap<(&'static str, bool), Cell>,
}

/// What the counters of one model add up to within a session.
#[derive(Default)]
struct Cell {
    input: i64,
    output: i64,
    cache_read: i64,
    cache_write: i64,
    cost_nano_usd: i64,
    start_ns: i64,
}

impl<'a> Host<'a> {
    fn new(session: &'a Session, rng: &mut Rng) -> Self {
        Self {
            session,
            root: Ids::root(rng),
            prompt_id: super::plan::uuid_like(rng),
            sequence: 0,
            scope: scope(TRACING_SCOPE, Some("1.0.0")),
            events_scope: scope(EVENTS_SCOPE, Some(VERSION)),
            after_tool: false,
            usage: BTreeMap::new(),
        }
    }

    /// What stands on every record: resource attributes are copied by the host.
    fn identity(&self) -> Vec<KeyValue> {
        vec![
            kv("department", "engineering"),
            kv("team.id", self.session.agent.team),
            kv("cost_center", "eng-123"),
            kv("deployment.environment.name", "production"),
            kv("user.id", Rng::keyed(&["user", self.session.user]).hex(64)),
            kv("user.email", self.session.user),
            kv("session.id", self.session.id.clone()),
            kv("terminal.type", "xterm"),
        ]
    }

    fn event(
        &mut self,
        outbox: &mut Outbox,
        name: &'static str,
        body: &'static str,
        time_ns: i64,
        attributes: Vec<KeyValue>,
    ) {
        let mut record = outbox.log_record(time_ns);
        record.set_body(AnyValue::String(body.into()));
        record.set_trace_context(self.root.trace, self.root.span, Some(TraceFlags::SAMPLED));
        let fixed = [
            kv("event.name", name),
            kv("event.timestamp", rfc3339(time_ns)),
            kv("event.sequence", self.sequence),
            kv("prompt.id", self.prompt_id.clone()),
        ];
        for attribute in self.identity().into_iter().chain(fixed).chain(attributes) {
            record.add_attribute(attribute.key, any_value(attribute.value));
        }
        self.sequence += 1;
        let scope = self.events_scope.clone();
        outbox
            .lane(self.session.agent.name, Vec::new)
            .logs
            .push((record, scope));
    }

    fn server_connected(&mut self, outbox: &mut Outbox, server: &Server) {
        let attributes = vec![
            kv("status", "connected"),
            kv("transport_type", "http"),
            kv("server_scope", "project"),
            kv("duration_ms", "66"),
            kv("server_name", server.name),
        ];
        self.event(
            outbox,
            "mcp_server_connection",
            "claude_code.mcp_server_connection",
            self.session.start_ns,
            attributes,
        );
    }

    fn user_prompt(&mut self, outbox: &mut Outbox) {
        let attributes = vec![kv("prompt_length", "48")];
        self.event(
            outbox,
            "user_prompt",
            "claude_code.user_prompt",
            self.session.start_ns + 20 * MS,
            attributes,
        );
    }

    fn model_call(&mut self, outbox: &mut Outbox, call: &ModelCall, rng: &mut Rng) {
        let fresh = call.input - call.cache_read - call.cache_write;
        let cost_nano_usd = host_cost_nano_usd(call.model, fresh, call);
        let request_id = format!("req_{}", call.response_id);
        let end_ns = call.start_ns + call.duration_ns;
        let ids = self.root.child(rng);
        let mut attributes = self.identity();
        attributes.extend([
            kv("span.type", "llm_request"),
            kv("model", call.model.request),
            kv("gen_ai.system", "anthropic"),
            kv("gen_ai.request.model", call.model.request),
            kv("llm_request.context", "interaction"),
            kv("duration_ms", (call.duration_ns / MS).to_string()),
            kv("input_tokens", fresh),
            kv("output_tokens", call.output),
            kv("cache_read_tokens", call.cache_read),
            kv("cache_creation_tokens", call.cache_write),
            kv("success", true),
            kv("attempt", call.attempts),
            kv("request_id", request_id.clone()),
            kv("gen_ai.response.id", request_id.clone()),
            kv("stop_reason", if call.last { "end_turn" } else { "tool_use" }),
        ]);
        let mut span = SpanSpec {
            ids,
            scope: &self.scope,
            name: "claude_code.llm_request".into(),
            kind: SpanKind::Internal,
            start_ns: call.start_ns,
            duration_ns: call.duration_ns,
            attributes,
            status: Status::Unset,
        }
        .build();
        span.events.events = (1..=call.attempts)
            .map(|attempt| {
                let attribute = kv("attempt", attempt.to_string());
                Event::new(
                    "gen_ai.request.attempt",
                    time(call.start_ns + attempt * MS),
                    vec![attribute],
                    0,
                )
            })
            .collect();
        outbox.lane(self.session.agent.name, Vec::new).spans.push(span);
        let mut attributes = vec![
            kv("model", call.model.request),
            kv("input_tokens", fresh.to_string()),
            kv("output_tokens", call.output.to_string()),
            kv("cache_read_tokens", call.cache_read.to_string()),
            kv("cache_creation_tokens", call.cache_write.to_string()),
            kv("cost_usd", usd(cost_nano_usd)),
            kv("cost_usd_micros", (cost_nano_usd / 1000).to_string()),
            kv("duration_ms", (call.duration_ns / MS).to_string()),
            kv("request_id", request_id),
            kv("speed", "normal"),
            kv("query_source", "repl_main_thread"),
        ];
        if self.after_tool {
            attributes.extend([kv("mcp_server.name", "custom"), kv("mcp_tool.name", "custom")]);
        }
        self.event(
            outbox,
            "api_request",
            "claude_code.api_request",
            end_ns + MS,
            attributes,
        );
        let cell = self.usage.entry((call.model.request, self.after_tool)).or_default();
        if cell.start_ns == 0 {
            cell.start_ns = end_ns;
        }
        cell.input += fresh;
        cell.output += call.output;
        cell.cache_read += call.cache_read;
        cell.cache_write += call.cache_write;
        cell.cost_nano_usd += cost_nano_usd;
        self.after_tool = false;
    }

    /// The host's side of a tool call; answers the span that the server's spans stand below.
    fn tool_call(
        &mut self,
        outbox: &mut Outbox,
        call: &McpCall,
        tool: &str,
        arguments: &'static str,
        rng: &mut Rng,
    ) -> Ids {
        let ids = self.root.child(rng);
        let end_ns = call.start_ns + call.duration_ns;
        let duration_ms = (call.duration_ns / MS).to_string();
        let execution = ids.child(rng);
        let mut inner = self.identity();
        inner.extend([
            kv("span.type", "tool.execution"),
            kv("tool_use_id", call.tool_call_id.clone()),
            kv("gen_ai.tool.call.id", call.tool_call_id.clone()),
            kv("duration_ms", duration_ms.clone()),
            kv("success", call.failure.is_none()),
        ]);
        if let Some(failure) = call.failure {
            inner.push(kv("error", failure));
        }
        let mut outer = self.identity();
        outer.extend([
            kv("span.type", "tool"),
            kv("tool_name", format!("mcp__{}__{tool}", call.server.name)),
            kv("tool_use_id", call.tool_call_id.clone()),
            kv("gen_ai.tool.call.id", call.tool_call_id.clone()),
            kv("duration_ms", duration_ms.clone()),
        ]);
        let mut waiting = self.identity();
        waiting.extend([
            kv("span.type", "tool.blocked_on_user"),
            kv("duration_ms", "1"),
            kv("decision", "accept"),
            kv("source", "config"),
        ]);
        let spans = [
            (
                ids.child(rng),
                "claude_code.tool.blocked_on_user",
                call.start_ns,
                MS,
                waiting,
                Status::Unset,
            ),
            (
                execution,
                "claude_code.tool.execution",
                call.start_ns + MS,
                call.duration_ns - MS,
                inner,
                status(call.failure),
            ),
            (
                ids,
                "claude_code.tool",
                call.start_ns,
                call.duration_ns,
                outer,
                Status::Unset,
            ),
        ];
        for (ids, name, start_ns, duration_ns, attributes, status) in spans {
            let kind = SpanKind::Internal;
            let span = SpanSpec {
                ids,
                scope: &self.scope,
                name: name.into(),
                kind,
                start_ns,
                duration_ns,
                attributes,
                status,
            };
            let span = span.build();
            outbox.lane(self.session.agent.name, Vec::new).spans.push(span);
        }
        let parameters = format!(
            "{{\"mcp_server_name\":\"{}\",\"mcp_tool_name\":\"{tool}\"}}",
            call.server.name
        );
        let decision = vec![
            kv("decision", "accept"),
            kv("source", "config"),
            kv("tool_name", "mcp_tool"),
            kv("tool_use_id", call.tool_call_id.clone()),
            kv("tool_parameters", parameters.clone()),
        ];
        self.event(
            outbox,
            "tool_decision",
            "claude_code.tool_decision",
            call.start_ns,
            decision,
        );
        let mut result = vec![
            kv("tool_name", "mcp_tool"),
            kv("tool_use_id", call.tool_call_id.clone()),
            kv("success", if call.failure.is_none() { "true" } else { "false" }),
            kv("duration_ms", duration_ms),
            kv("tool_parameters", parameters),
            kv("tool_input", arguments),
            kv("tool_input_size_bytes", arguments.len().to_string()),
            kv("mcp_server_scope", "project"),
        ];
        match call.failure {
            None => result.push(kv("tool_result_size_bytes", call.result_bytes.to_string())),
            Some(failure) => result.extend([kv("error_type", "McpToolCallError"), kv("error", failure)]),
        }
        self.event(outbox, "tool_result", "claude_code.tool_result", end_ns, result);
        self.after_tool = true;
        execution
    }

    /// The interaction span comes last, and the counters with the last interval.
    fn finish(self, outbox: &mut Outbox) {
        let mut attributes = self.identity();
        attributes.extend([
            kv("span.type", "interaction"),
            kv("user_prompt_length", "48"),
            kv("interaction.sequence", 1),
        ]);
        let span = SpanSpec {
            ids: self.root,
            scope: &self.scope,
            name: "claude_code.interaction".into(),
            kind: SpanKind::Internal,
            start_ns: self.session.start_ns,
            duration_ns: self.session.end_ns - self.session.start_ns,
            attributes,
            status: Status::Unset,
        }
        .build();
        let (metrics, n_points) = self.metrics();
        let lane = outbox.lane(self.session.agent.name, Vec::new);
        lane.spans.push(span);
        lane.metrics.push(metrics);
        lane.n_points += n_points;
    }

    /// Delta counters with double values, as OTLP/JSON: the SDK for Rust cannot date points.
    fn metrics(&self) -> (Value, u64) {
        let identity: Vec<Value> = self.identity().iter().map(json_attribute).collect();
        let (mut tokens, mut costs) = (Vec::new(), Vec::new());
        for ((model, after_tool), cell) in &self.usage {
            let mut common = identity.clone();
            common.push(json_string("model", model));
            common.push(json_string("query_source", "main"));
            if *after_tool {
                common.push(json_string("mcp_server.name", "custom"));
                common.push(json_string("mcp_tool.name", "custom"));
            }
            let point = |value: f64, attributes: Vec<Value>| {
                json!({
                    "attributes": attributes,
                    "startTimeUnixNano": cell.start_ns.to_string(),
                    "timeUnixNano": self.session.end_ns.to_string(),
                    "asDouble": value,
                })
            };
            costs.push(point(usd(cell.cost_nano_usd), common.clone()));
            for (kind, count) in [
                ("input", cell.input),
                ("output", cell.output),
                ("cacheRead", cell.cache_read),
                ("cacheCreation", cell.cache_write),
            ] {
                let mut attributes = common.clone();
                attributes.push(json_string("type", kind));
                tokens.push(point(count as f64, attributes));
            }
        }
        let n_points = u64::try_from(tokens.len() + costs.len()).unwrap_or(0);
        let sum = |name: &str, unit: &str, points: Vec<Value>| {
            json!({
                "name": name,
                "unit": unit,
                "sum": { "aggregationTemporality": 1, "isMonotonic": true, "dataPoints": points },
            })
        };
        let resource: Vec<Value> = resource(self.session.agent).iter().map(json_attribute).collect();
        let request = json!({ "resourceMetrics": [{
            "resource": { "attributes": resource },
            "scopeMetrics": [{
                "scope": { "name": METRICS_SCOPE, "version": VERSION },
                "metrics": [
                    sum("claude_code.cost.usage", "USD", costs),
                    sum("claude_code.token.usage", "tokens", tokens),
                ],
            }],
        }]});
        (request, n_points)
    }
}

/// What the host charges for a call, in 10⁻⁹ USD: its built-in list prices, in USD per million tokens.
fn host_cost_nano_usd(model: &Model, fresh: i64, call: &ModelCall) -> i64 {
    let (input, output, read, write) = if model.request.contains("haiku") {
        (1_000, 5_000, 100, 1_250)
    } else {
        (3_000, 15_000, 300, 3_750)
    };
    fresh * input + call.output * output + call.cache_read * read + call.cache_write * write
}

fn usd(nano_usd: i64) -> f64 {
    nano_usd as f64 / 1e9
}

fn rfc3339(time_ns: i64) -> String {
    chrono::DateTime::from_timestamp_nanos(time_ns).to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

fn any_value(value: opentelemetry::Value) -> AnyValue {
    match value {
        opentelemetry::Value::Bool(value) => AnyValue::Boolean(value),
        opentelemetry::Value::I64(value) => AnyValue::Int(value),
        opentelemetry::Value::F64(value) => AnyValue::Double(value),
        other => AnyValue::String(other.as_str().into_owned().into()),
    }
}

fn json_attribute(attribute: &KeyValue) -> Value {
    let key = attribute.key.as_str();
    match &attribute.value {
        opentelemetry::Value::Bool(value) => json!({ "key": key, "value": { "boolValue": value } }),
        opentelemetry::Value::I64(value) => json!({ "key": key, "value": { "intValue": value } }),
        opentelemetry::Value::F64(value) => json!({ "key": key, "value": { "doubleValue": value } }),
        other => json_string(key, &other.as_str()),
    }
}

fn json_string(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn resource(agent: &Agent) -> Vec<KeyValue> {
    vec![
        kv("department", "engineering"),
        kv("team.id", agent.team),
        kv("cost_center", "eng-123"),
        kv("deployment.environment.name", "production"),
        kv("host.arch", "amd64"),
        kv("os.type", "linux"),
        kv("service.name", agent.name),
        kv("service.version", VERSION),
    ]
}
