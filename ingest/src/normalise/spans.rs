//! Traces: spans to rows of `spans`, `payloads` and `observations`.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use spanledger_lake::tables::Table;
use spanledger_lake::tables::raw::{PayloadsBuilder, SpanRow, SpansBuilder};
use spanledger_model::Observation;

use super::texts::{self, PayloadOwner};
use super::{Context, Normalised, ResourceView, is_plausible, sent_time};
use crate::dialects::record::{Origin, SpanView};
use crate::dialects::{Compiled, rules};
use crate::limits::Limits;

/// What a traces request becomes.
pub(super) fn normalise(request: &ExportTraceServiceRequest, context: &Context, limits: &Limits) -> Normalised {
    let mut batch = Batch::default();
    for resource_spans in &request.resource_spans {
        let resource = ResourceView::new(resource_spans.resource.as_ref(), context, limits);
        if batch.result.first_service.is_none() {
            batch.result.first_service.clone_from(&resource.service);
        }
        for scope_spans in &resource_spans.scope_spans {
            batch.append_scope(scope_spans, &resource, context, limits);
        }
    }
    batch.finish()
}

#[derive(Default)]
struct Batch {
    spans: SpansBuilder,
    payloads: PayloadsBuilder,
    observations: Vec<Observation>,
    result: Normalised,
}

/// The times of a span: start and duration in nanoseconds.
struct Times {
    start_ns: i64,
    duration_ns: i64,
}

impl Batch {
    fn append_scope(&mut self, group: &ScopeSpans, resource: &ResourceView, context: &Context, limits: &Limits) {
        let (scope, version) = group
            .scope
            .as_ref()
            .map_or(("", ""), |scope| (scope.name.as_str(), scope.version.as_str()));
        let compiled = context.dialects.recognise(scope, resource.service.as_deref());
        let noise = limits.noise.of_scope(resource.service.as_deref(), scope);
        for span in &group.spans {
            match check(span, context) {
                Ok(times) => {
                    let is_fact = self.observe(span, &times, scope, compiled, resource, context);
                    match noise.left_out(span, times.duration_ns).filter(|_| !is_fact) {
                        Some(rule) => self.result.leave_out(rule),
                        None => self.append_span(span, &times, scope, version, resource, context, limits),
                    }
                    self.result.n_accepted += 1;
                }
                Err(reason) => self.result.reject(reason),
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one OTLP span, all borrowed")]
    fn append_span(
        &mut self,
        span: &Span,
        times: &Times,
        scope: &str,
        scope_version: &str,
        resource: &ResourceView,
        context: &Context,
        limits: &Limits,
    ) {
        let tenant = context.tenant.as_str();
        let (code, message) = span
            .status
            .as_ref()
            .map_or((0, ""), |status| (status.code, status.message.as_str()));
        self.spans.append(&SpanRow {
            tenant,
            start_ns: times.start_ns,
            duration_ns: times.duration_ns,
            trace_id: &span.trace_id,
            span_id: &span.span_id,
            parent_span_id: &span.parent_span_id,
            name: texts::truncated(&span.name, limits.name_bytes_max),
            kind: span.kind,
            status: match code {
                1 => "ok",
                2 => "error",
                _ => "unset",
            },
            status_message: texts::truncated(message, limits.attribute_value_bytes_max),
            service: resource.service.as_deref(),
            scope: texts::truncated(scope, limits.name_bytes_max),
            scope_version: texts::truncated(scope_version, limits.name_bytes_max),
            trace_state: texts::truncated(&span.trace_state, limits.attribute_value_bytes_max),
            flags: span.flags,
            resource: &resource.attributes,
        });
        let owner = PayloadOwner {
            tenant,
            time_ns: times.start_ns,
            trace_id: &span.trace_id,
            span_id: &span.span_id,
        };
        for attribute in span.attributes.iter().take(limits.attributes_max) {
            if let Some(text) = texts::map_text(attribute, &owner, &mut self.payloads, limits) {
                self.spans.attribute(texts::bounded_key(&attribute.key, limits), &text);
            }
        }
        for event in span.events.iter().take(limits.events_max) {
            let attributes = texts::bounded_attributes(&event.attributes, limits.attributes_max, limits);
            let time_ns = sent_time(event.time_unix_nano).unwrap_or(times.start_ns);
            self.spans.event(
                time_ns,
                texts::truncated(&event.name, limits.name_bytes_max),
                &attributes,
            );
        }
        for link in span.links.iter().take(limits.links_max) {
            let attributes = texts::bounded_attributes(&link.attributes, limits.attributes_max, limits);
            self.spans.link(&link.trace_id, &link.span_id, &attributes);
        }
        self.spans.finish_row();
    }

    /// Reads a span; true where it gives an observation.
    fn observe(
        &mut self,
        span: &Span,
        times: &Times,
        scope: &str,
        compiled: &Compiled,
        resource: &ResourceView,
        context: &Context,
    ) -> bool {
        let view = SpanView {
            origin: Origin {
                tenant: &context.tenant,
                resource: &resource.facts,
                scope,
                dialect: compiled,
                arrived_ns: context.arrived_ns,
            },
            span,
            start_ns: times.start_ns,
            duration_ns: times.duration_ns,
            fields: compiled.fields_of(span),
        };
        let observation = rules::read_span(&view);
        let is_fact = observation.is_some();
        self.observations.extend(observation);
        is_fact
    }

    fn finish(mut self) -> Normalised {
        if self.spans.n_rows() > 0 {
            self.result.rows.push((Table::Spans, self.spans.finish()));
        }
        if self.payloads.n_rows() > 0 {
            self.result.rows.push((Table::Payloads, self.payloads.finish()));
        }
        self.result.push_observations(&self.observations);
        self.result
    }
}

/// The times of a valid span, or why it is rejected.
fn check(span: &Span, context: &Context) -> Result<Times, &'static str> {
    let is_id = |id: &[u8], length: usize| id.len() == length && id.iter().any(|byte| *byte != 0);
    if !is_id(&span.trace_id, 16) {
        return Err("trace_id is not 16 bytes, or all zero");
    }
    if !is_id(&span.span_id, 8) {
        return Err("span_id is not 8 bytes, or all zero");
    }
    let end = sent_time(span.end_time_unix_nano);
    let start_ns = sent_time(span.start_time_unix_nano)
        .or(end)
        .unwrap_or(context.arrived_ns);
    if !is_plausible(start_ns) {
        return Err("start time is before 2000 or after 2100");
    }
    let duration_ns = end.map_or(0, |end| end.saturating_sub(start_ns).max(0));
    Ok(Times { start_ns, duration_ns })
}
