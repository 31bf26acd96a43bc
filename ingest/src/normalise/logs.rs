//! Logs: records to rows of `logs`, `payloads` and `observations`.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ScopeLogs};
use spanledger_lake::tables::Table;
use spanledger_lake::tables::raw::{LogRow, LogsBuilder, PayloadRow, PayloadsBuilder};
use spanledger_model::Observation;

use super::texts::{self, PayloadOwner};
use super::{Context, Normalised, ResourceView, is_plausible, sent_time};
use crate::dialects::fields::Fields;
use crate::dialects::record::{LogRecordView, Origin};
use crate::dialects::{Compiled, rules};
use crate::limits::Limits;
use crate::value;

/// What a logs request becomes.
pub(super) fn normalise(request: &ExportLogsServiceRequest, context: &Context, limits: &Limits) -> Normalised {
    let mut batch = Batch::default();
    for resource_logs in &request.resource_logs {
        let resource = ResourceView::new(resource_logs.resource.as_ref(), context, limits);
        if batch.result.first_service.is_none() {
            batch.result.first_service.clone_from(&resource.service);
        }
        for scope_logs in &resource_logs.scope_logs {
            batch.append_scope(scope_logs, &resource, context, limits);
        }
    }
    batch.finish()
}

#[derive(Default)]
struct Batch {
    logs: LogsBuilder,
    payloads: PayloadsBuilder,
    observations: Vec<Observation>,
    result: Normalised,
}

impl Batch {
    fn append_scope(&mut self, group: &ScopeLogs, resource: &ResourceView, context: &Context, limits: &Limits) {
        let scope = group.scope.as_ref().map_or("", |scope| scope.name.as_str());
        let compiled = context.dialects.recognise(scope, resource.service.as_deref());
        for record in &group.log_records {
            let time_ns = sent_time(record.time_unix_nano)
                .or_else(|| sent_time(record.observed_time_unix_nano))
                .unwrap_or(context.arrived_ns);
            if !is_plausible(time_ns) {
                self.result.reject("time is before 2000 or after 2100");
                continue;
            }
            self.append_record(record, time_ns, scope, resource, context, limits);
            self.observe(record, time_ns, scope, compiled, resource, context);
            self.result.n_accepted += 1;
        }
    }

    fn append_record(
        &mut self,
        record: &LogRecord,
        time_ns: i64,
        scope: &str,
        resource: &ResourceView,
        context: &Context,
        limits: &Limits,
    ) {
        let tenant = context.tenant.as_str();
        let owner = PayloadOwner {
            tenant,
            time_ns,
            trace_id: &record.trace_id,
            span_id: &record.span_id,
        };
        let attributes: Vec<(String, String)> = record
            .attributes
            .iter()
            .take(limits.attributes_max)
            .filter_map(|attribute| {
                let text = texts::map_text(attribute, &owner, &mut self.payloads, limits)?;
                Some((texts::bounded_key(&attribute.key, limits).to_owned(), text.into_owned()))
            })
            .collect();
        let mut body = record.body.as_ref().and_then(value::text);
        if let Some(text) = body.as_ref().filter(|text| text.len() > texts::PAYLOAD_BYTES_MIN) {
            let marker = format!("[payload: {} bytes]", text.len());
            self.payloads.append(&PayloadRow {
                tenant,
                time_ns,
                trace_id: &record.trace_id,
                span_id: &record.span_id,
                role: "body",
                attribute: "body",
                mime: if text.starts_with(['{', '[']) {
                    "application/json"
                } else {
                    "text/plain"
                },
                text: texts::truncated(text, limits.payload_text_bytes_max),
                n_bytes: i64::try_from(text.len()).unwrap_or(i64::MAX),
            });
            body = Some(marker.into());
        }
        self.logs.append(&LogRow {
            tenant,
            time_ns,
            observed_ns: sent_time(record.observed_time_unix_nano).unwrap_or(0),
            severity_number: record.severity_number,
            severity_text: texts::truncated(&record.severity_text, limits.name_bytes_max),
            event_name: event_name(record).map(|name| texts::truncated(name, limits.name_bytes_max)),
            body: body.as_deref(),
            trace_id: &record.trace_id,
            span_id: &record.span_id,
            service: resource.service.as_deref(),
            scope: texts::truncated(scope, limits.name_bytes_max),
            resource: &resource.attributes,
            attributes: &attributes,
        });
    }

    fn observe(
        &mut self,
        record: &LogRecord,
        time_ns: i64,
        scope: &str,
        compiled: &Compiled,
        resource: &ResourceView,
        context: &Context,
    ) {
        let fields = Fields::read(&compiled.keys, &record.attributes);
        if fields.is_empty() {
            return;
        }
        let view = LogRecordView {
            origin: Origin {
                tenant: &context.tenant,
                resource: &resource.facts,
                scope,
                dialect: compiled,
                arrived_ns: context.arrived_ns,
            },
            record,
            event_name: event_name(record),
            time_ns,
            fields,
        };
        self.observations.extend(rules::read_log(&view));
    }

    fn finish(mut self) -> Normalised {
        if self.logs.n_rows() > 0 {
            self.result.rows.push((Table::Logs, self.logs.finish()));
        }
        if self.payloads.n_rows() > 0 {
            self.result.rows.push((Table::Payloads, self.payloads.finish()));
        }
        self.result.push_observations(&self.observations);
        self.result
    }
}

/// The event's name: the field, unless it is a source location (`event otel/src/x.rs:1089`), else the
/// attribute, else a body that reads like a name.
fn event_name(record: &LogRecord) -> Option<&str> {
    let is_location = |name: &str| name.starts_with("event ") && name.contains(".rs:");
    let field = Some(record.event_name.as_str()).filter(|name| !name.is_empty() && !is_location(name));
    let body = || match record.body.as_ref()?.value.as_ref()? {
        Value::StringValue(text) if text.len() <= 128 && !text.contains(char::is_whitespace) => Some(text.as_str()),
        _ => None,
    };
    field
        .or_else(|| value::attribute_str(&record.attributes, "event.name"))
        .or_else(|| value::attribute_str(&record.attributes, "event_name"))
        .or_else(body)
}
