//! Requests into rows: what is kept, what is rejected, what goes to payloads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use spanledger_lake::tables::{Table, observations};
use spanledger_model::{CallKind, Observation, Role, TenantId};

use super::{Context, Normalised, normalise};
use crate::accept::Request;
use crate::limits::Limits;

const NOW: u64 = 1_795_000_000_000_000_000;

fn text(key: &str, value: &str) -> KeyValue {
    any(key, Value::StringValue(value.into()))
}

fn int(key: &str, value: i64) -> KeyValue {
    any(key, Value::IntValue(value))
}

fn any(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..Default::default()
    }
}

fn span(id: u8, name: &str, attributes: Vec<KeyValue>) -> Span {
    Span {
        trace_id: vec![1; 16],
        span_id: vec![id; 8],
        name: name.into(),
        kind: 3,
        start_time_unix_nano: NOW,
        end_time_unix_nano: NOW + 1_000,
        attributes,
        ..Span::default()
    }
}

fn context() -> Context {
    Context {
        tenant: TenantId::from_credential("default"),
        arrived_ns: NOW as i64,
        dialects: crate::dialects::Registry::builtin(),
    }
}

fn read_spans(scope: &str, spans: Vec<Span>) -> Normalised {
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![text("service.name", "trip-agent")],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: scope.into(),
                    ..InstrumentationScope::default()
                }),
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    normalise(&Request::Traces(request), &context(), &Limits::default())
}

fn observed(normalised: &Normalised) -> Vec<Observation> {
    let batches = normalised
        .rows
        .iter()
        .filter(|(table, _)| *table == Table::Observations);
    batches.flat_map(|(_, batch)| observations::from_batch(batch)).collect()
}

fn n_rows(normalised: &Normalised, table: Table) -> usize {
    normalised
        .rows
        .iter()
        .filter(|(found, _)| *found == table)
        .map(|(_, batch)| batch.num_rows())
        .sum()
}

#[test]
fn one_bad_span_does_not_drop_its_neighbours() {
    let mut no_trace = span(2, "x", Vec::new());
    no_trace.trace_id = vec![0; 16];
    let mut never_set_clock = span(3, "x", Vec::new());
    never_set_clock.start_time_unix_nano = 1;
    let normalised = read_spans(
        "a",
        vec![
            span(1, "x", Vec::new()),
            no_trace,
            never_set_clock,
            span(4, "x", Vec::new()),
        ],
    );
    assert_eq!((normalised.n_accepted, normalised.n_rejected()), (2, 2));
    assert_eq!(n_rows(&normalised, Table::Spans), 2);
    let message = normalised.message("span").unwrap();
    assert!(message.contains("trace_id") && message.contains("2000"), "{message}");
}

#[test]
fn every_batch_has_the_schema_of_its_table() {
    let attributes = vec![
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.input.messages", &"x".repeat(5_000)),
    ];
    let normalised = read_spans("a", vec![span(1, "chat", attributes)]);
    assert_eq!(normalised.rows.len(), 3);
    for (table, batch) in &normalised.rows {
        assert_eq!(batch.schema(), table.schema(), "{}", table.name());
    }
}

#[test]
fn three_generations_of_the_conventions_read_alike() {
    let generations = [
        vec![
            text("gen_ai.system", "vertex_ai"),
            text("gen_ai.request.model", "gemini-2.5-pro"),
            int("gen_ai.usage.prompt_tokens", 20),
            int("gen_ai.usage.completion_tokens", 3),
        ],
        vec![
            text("gen_ai.operation.name", "chat"),
            text("gen_ai.system", "vertex_ai"),
            text("gen_ai.request.model", "gemini-2.5-pro"),
            int("gen_ai.usage.input_tokens", 20),
            int("gen_ai.usage.output_tokens", 3),
        ],
        vec![
            text("gen_ai.operation.name", "chat"),
            text("gen_ai.provider.name", "gcp.vertex_ai"),
            text("gen_ai.request.model", "gemini-2.5-pro"),
            int("gen_ai.usage.input_tokens", 20),
            int("gen_ai.usage.output_tokens", 3),
        ],
    ];
    for attributes in generations {
        let read = observed(&read_spans("my.agent", vec![span(1, "chat", attributes)]));
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].kind, read[0].role), (CallKind::Llm, Role::Leaf));
        assert_eq!(read[0].model.provider.as_deref(), Some("gcp.vertex_ai"));
        assert_eq!((read[0].usage.input, read[0].usage.output), (Some(20), Some(3)));
    }
}

#[test]
fn counts_that_prove_themselves_exclusive_are_made_inclusive() {
    let attributes = vec![
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.request.model", "m"),
        int("gen_ai.usage.input_tokens", 26),
        int("gen_ai.usage.cache_read.input_tokens", 18_250),
        int("gen_ai.usage.cache_creation.input_tokens", 310),
    ];
    let read = observed(&read_spans("a", vec![span(1, "chat", attributes)]));
    assert_eq!(read[0].usage.input, Some(18_586));
    assert_eq!(
        (read[0].usage.cache_write_5m, read[0].usage.cache_write_1h),
        (Some(310), None)
    );
}

#[test]
fn phantoms_give_no_observation_but_are_stored() {
    let execute = vec![text("gen_ai.operation.name", "execute_tool")];
    let count = vec![
        text("gen_ai.operation.name", "count_tokens"),
        int("gen_ai.usage.input_tokens", 5),
    ];
    let normalised = read_spans(
        "a",
        vec![
            span(1, "execute_tool (merged tools)", execute),
            span(2, "count_tokens", count),
            span(3, "http send", Vec::new()),
        ],
    );
    assert!(observed(&normalised).is_empty());
    assert_eq!(n_rows(&normalised, Table::Spans), 3);
}

#[test]
fn large_texts_go_to_payloads_and_leave_a_marker() {
    let attributes = vec![
        text("gen_ai.tool.call.result", &"r".repeat(300)),
        text("note", &"n".repeat(3_000)),
        text("short", "s"),
    ];
    let normalised = read_spans("a", vec![span(1, "x", attributes)]);
    assert_eq!(n_rows(&normalised, Table::Payloads), 2);
}

#[test]
fn the_same_log_record_is_the_same_observation_and_another_is_not() {
    let record = |request_id: &str| LogRecord {
        time_unix_nano: NOW,
        event_name: "api_request".into(),
        attributes: vec![
            text("model", "claude-sonnet-4-5"),
            text("request_id", request_id),
            text("input_tokens", "26"),
        ],
        ..LogRecord::default()
    };
    let read = |record: LogRecord| {
        let request = ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(Resource {
                    attributes: vec![text("service.name", "claude-code")],
                    ..Resource::default()
                }),
                scope_logs: vec![ScopeLogs {
                    log_records: vec![record],
                    ..ScopeLogs::default()
                }],
                ..ResourceLogs::default()
            }],
        };
        observed(&normalise(&Request::Logs(request), &context(), &Limits::default())).remove(0)
    };
    assert_eq!(read(record("a")).observation_id, read(record("a")).observation_id);
    assert_ne!(read(record("a")).observation_id, read(record("b")).observation_id);
    assert_eq!(read(record("a")).dimensions.client.as_deref(), Some("claude-code"));
}
