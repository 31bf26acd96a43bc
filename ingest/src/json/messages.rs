//! The fields of the messages that all signals share, of spans and of log records.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use serde::de::MapAccess;

use super::read::{Message, Reader};
use crate::limits::JSON_VALUE_DEPTH_MAX;

/// A message's name and its fields: key, field, and the reader's method that reads it.
macro_rules! message {
    ($type:ty, $name:literal, $(n_records = $count:expr,)? { $($key:literal => |$message:ident, $reader:ident, $map:ident| $read:expr,)* }) => {
        impl Message for $type {
            const NAME: &'static str = $name;

            fn field<'de, A: MapAccess<'de>>(
                &mut self,
                key: &str,
                reader: &mut Reader<'_, '_>,
                map: &mut A,
            ) -> Result<(), A::Error> {
                match key {
                    $($key => {
                        let ($message, $reader, $map) = (self, reader, map);
                        $read;
                    })*
                    _ => reader.skip(map)?,
                }
                Ok(())
            }

            $(fn n_records(&self) -> u64 {
                let count: fn(&Self) -> u64 = $count;
                count(self)
            })?
        }
    };
}
pub(super) use message;

message!(ExportTraceServiceRequest, "resourceSpans", {
    "resourceSpans" => |request, reader, map| request.resource_spans = reader.records(map)?,
});

message!(ResourceSpans, "resourceSpans", n_records = |group| group.scope_spans.iter().map(Message::n_records).sum(), {
    "resource" => |group, reader, map| group.resource = reader.object(map)?,
    "scopeSpans" => |group, reader, map| group.scope_spans = reader.records(map)?,
    "schemaUrl" => |group, reader, map| group.schema_url = reader.string("schemaUrl", map)?,
});

message!(ScopeSpans, "scopeSpans", n_records = |scope| scope.spans.len() as u64, {
    "scope" => |scope, reader, map| scope.scope = reader.object(map)?,
    "spans" => |scope, reader, map| scope.spans = reader.records(map)?,
    "schemaUrl" => |scope, reader, map| scope.schema_url = reader.string("schemaUrl", map)?,
});

message!(Span, "span", {
    "traceId" => |span, reader, map| span.trace_id = reader.id("traceId", map)?,
    "spanId" => |span, reader, map| span.span_id = reader.id("spanId", map)?,
    "traceState" => |span, reader, map| span.trace_state = reader.string("traceState", map)?,
    "parentSpanId" => |span, reader, map| span.parent_span_id = reader.reference(map)?,
    "flags" => |span, reader, map| span.flags = reader.u32("flags", map)?,
    "name" => |span, reader, map| span.name = reader.string("name", map)?,
    "kind" => |span, reader, map| span.kind = reader.enumeration("kind", map, SpanKind::from_str_name)?,
    "startTimeUnixNano" => |span, reader, map| span.start_time_unix_nano = reader.u64("startTimeUnixNano", map)?,
    "endTimeUnixNano" => |span, reader, map| span.end_time_unix_nano = reader.u64("endTimeUnixNano", map)?,
    "attributes" => |span, reader, map| span.attributes = reader.list(map)?,
    "droppedAttributesCount" => |span, reader, map| {
        span.dropped_attributes_count = reader.u32("droppedAttributesCount", map)?;
    },
    "events" => |span, reader, map| span.events = reader.list(map)?,
    "droppedEventsCount" => |span, reader, map| span.dropped_events_count = reader.u32("droppedEventsCount", map)?,
    "links" => |span, reader, map| span.links = reader.list(map)?,
    "droppedLinksCount" => |span, reader, map| span.dropped_links_count = reader.u32("droppedLinksCount", map)?,
    "status" => |span, reader, map| span.status = reader.object(map)?,
});

message!(Event, "event", {
    "timeUnixNano" => |event, reader, map| event.time_unix_nano = reader.u64("timeUnixNano", map)?,
    "name" => |event, reader, map| event.name = reader.string("name", map)?,
    "attributes" => |event, reader, map| event.attributes = reader.list(map)?,
    "droppedAttributesCount" => |event, reader, map| {
        event.dropped_attributes_count = reader.u32("droppedAttributesCount", map)?;
    },
});

message!(Link, "link", {
    "traceId" => |link, reader, map| link.trace_id = reader.reference(map)?,
    "spanId" => |link, reader, map| link.span_id = reader.reference(map)?,
    "traceState" => |link, reader, map| link.trace_state = reader.string("traceState", map)?,
    "attributes" => |link, reader, map| link.attributes = reader.list(map)?,
    "droppedAttributesCount" => |link, reader, map| {
        link.dropped_attributes_count = reader.u32("droppedAttributesCount", map)?;
    },
    "flags" => |link, reader, map| link.flags = reader.u32("flags", map)?,
});

message!(Status, "status", {
    "message" => |status, reader, map| status.message = reader.string("message", map)?,
    "code" => |status, reader, map| status.code = reader.enumeration("code", map, StatusCode::from_str_name)?,
});

message!(ExportLogsServiceRequest, "resourceLogs", {
    "resourceLogs" => |request, reader, map| request.resource_logs = reader.records(map)?,
});

message!(ResourceLogs, "resourceLogs", n_records = |group| group.scope_logs.iter().map(Message::n_records).sum(), {
    "resource" => |group, reader, map| group.resource = reader.object(map)?,
    "scopeLogs" => |group, reader, map| group.scope_logs = reader.records(map)?,
    "schemaUrl" => |group, reader, map| group.schema_url = reader.string("schemaUrl", map)?,
});

message!(ScopeLogs, "scopeLogs", n_records = |scope| scope.log_records.len() as u64, {
    "scope" => |scope, reader, map| scope.scope = reader.object(map)?,
    "logRecords" => |scope, reader, map| scope.log_records = reader.records(map)?,
    "schemaUrl" => |scope, reader, map| scope.schema_url = reader.string("schemaUrl", map)?,
});

message!(LogRecord, "logRecord", {
    "timeUnixNano" => |log, reader, map| log.time_unix_nano = reader.u64("timeUnixNano", map)?,
    "observedTimeUnixNano" => |log, reader, map| {
        log.observed_time_unix_nano = reader.u64("observedTimeUnixNano", map)?;
    },
    "severityNumber" => |log, reader, map| {
        log.severity_number = reader.enumeration("severityNumber", map, SeverityNumber::from_str_name)?;
    },
    "severityText" => |log, reader, map| log.severity_text = reader.string("severityText", map)?,
    "body" => |log, reader, map| log.body = reader.object(map)?,
    "attributes" => |log, reader, map| log.attributes = reader.list(map)?,
    "droppedAttributesCount" => |log, reader, map| {
        log.dropped_attributes_count = reader.u32("droppedAttributesCount", map)?;
    },
    "flags" => |log, reader, map| log.flags = reader.u32("flags", map)?,
    "traceId" => |log, reader, map| log.trace_id = reader.reference(map)?,
    "spanId" => |log, reader, map| log.span_id = reader.reference(map)?,
    "eventName" => |log, reader, map| log.event_name = reader.string("eventName", map)?,
});

message!(Resource, "resource", {
    "attributes" => |resource, reader, map| resource.attributes = reader.list(map)?,
    "droppedAttributesCount" => |resource, reader, map| {
        resource.dropped_attributes_count = reader.u32("droppedAttributesCount", map)?;
    },
    "entityRefs" => |resource, reader, map| resource.entity_refs = reader.list(map)?,
});

message!(EntityRef, "entityRef", {
    "schemaUrl" => |entity, reader, map| entity.schema_url = reader.string("schemaUrl", map)?,
    "type" => |entity, reader, map| entity.r#type = reader.string("type", map)?,
    "idKeys" => |entity, reader, map| entity.id_keys = reader.scalars("idKeys", map, Reader::text)?,
    "descriptionKeys" => |entity, reader, map| {
        entity.description_keys = reader.scalars("descriptionKeys", map, Reader::text)?;
    },
});

message!(InstrumentationScope, "scope", {
    "name" => |scope, reader, map| scope.name = reader.string("name", map)?,
    "version" => |scope, reader, map| scope.version = reader.string("version", map)?,
    "attributes" => |scope, reader, map| scope.attributes = reader.list(map)?,
    "droppedAttributesCount" => |scope, reader, map| {
        scope.dropped_attributes_count = reader.u32("droppedAttributesCount", map)?;
    },
});

message!(KeyValue, "attribute", {
    "key" => |pair, reader, map| pair.key = reader.string("key", map)?,
    "value" => |pair, reader, map| pair.value = reader.object(map)?,
});

message!(ArrayValue, "arrayValue", {
    "values" => |array, reader, map| array.values = reader.list(map)?,
});

message!(KeyValueList, "kvlistValue", {
    "values" => |list, reader, map| list.values = reader.list(map)?,
});

// A key that is null leaves the value as it is; of several keys the last is kept.
message!(AnyValue, "value", {
    "stringValue" => |value, reader, map| match reader.scalar(map)? {
        super::read::Scalar::Null => {}
        scalar => value.value = Some(Value::StringValue(reader.text("stringValue", scalar))),
    },
    "boolValue" => |value, reader, map| set(value, reader.bool("boolValue", map)?.map(Value::BoolValue)),
    "intValue" => |value, reader, map| set(value, reader.i64("intValue", map)?.map(Value::IntValue)),
    "doubleValue" => |value, reader, map| set(value, reader.f64("doubleValue", map)?.map(Value::DoubleValue)),
    "bytesValue" => |value, reader, map| set(value, reader.bytes("bytesValue", map)?.map(Value::BytesValue)),
    "arrayValue" => |value, reader, map| set(value, nested(reader, map)?.map(Value::ArrayValue)),
    "kvlistValue" => |value, reader, map| set(value, nested(reader, map)?.map(Value::KvlistValue)),
});

fn set(value: &mut AnyValue, inner: Option<Value>) {
    if inner.is_some() {
        value.value = inner;
    }
}

fn nested<'de, M: Message, A: MapAccess<'de>>(reader: &mut Reader<'_, '_>, map: &mut A) -> Result<Option<M>, A::Error> {
    if reader.depth == JSON_VALUE_DEPTH_MAX {
        reader.complain(|| format!("an attribute value is nested deeper than {JSON_VALUE_DEPTH_MAX} levels"));
        reader.skip(map)?;
        return Ok(None);
    }
    reader.depth += 1;
    let message = reader.object(map);
    reader.depth -= 1;
    message
}
