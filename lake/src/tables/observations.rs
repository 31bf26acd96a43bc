//! `observations`: rows to and from record batches. The columns of `calls` that a record gives, plus where
//! it came from. Never edited.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use spanledger_model::call::{CallKind, Status};
use spanledger_model::{Hop, Observation, ObservationId, Role, Source, SpanId, TenantId, TraceId};

use super::codec::{Decoder, Encoder};
use super::groups;

/// The schema of `observations`.
#[must_use]
pub fn schema() -> SchemaRef {
    to_batch(&[]).schema()
}

/// Encodes rows.
#[must_use]
pub fn to_batch(observations: &[Observation]) -> RecordBatch {
    let rows = observations.iter();
    let mut encoder = Encoder::with_key(rows.clone().map(|row| (&row.tenant, row.start_ns)));
    encoder.id(
        "observation_id",
        16,
        rows.clone().map(|row| Some(row.observation_id.as_bytes())),
    );
    encoder.text("source", rows.clone().map(|row| Some(row.source.as_str())));
    encoder.text("dialect", rows.clone().map(|row| Some(row.dialect.as_str())));
    encoder.text("scope", rows.clone().map(|row| row.scope.as_deref()));
    encoder.text("name", rows.clone().map(|row| Some(row.name.as_str())));
    encoder.timestamp("arrived_at", rows.clone().map(|row| Some(row.arrived_ns)));
    encoder.text("role", rows.clone().map(|row| Some(row.role.as_str())));
    encoder.text("kind", rows.clone().map(|row| Some(row.kind.as_str())));
    encoder.text("operation", rows.clone().map(|row| row.operation.as_deref()));
    encoder.int("start_ns", rows.clone().map(|row| Some(row.start_ns)));
    encoder.int("duration_ns", rows.clone().map(|row| row.duration_ns));
    encoder.text("status", rows.clone().map(|row| Some(row.status.as_str())));
    encoder.text("error_type", rows.clone().map(|row| row.error_type.as_deref()));
    groups::write_dimensions(&mut encoder, rows.clone().map(|row| &row.dimensions));
    encoder.text("turn_id", rows.clone().map(|row| row.turn_id.as_deref()));
    encoder.id(
        "trace_id",
        16,
        rows.clone().map(|row| row.trace_id.as_ref().map(TraceId::as_bytes)),
    );
    encoder.id(
        "span_id",
        8,
        rows.clone().map(|row| row.span_id.as_ref().map(SpanId::as_bytes)),
    );
    encoder.id(
        "parent_span_id",
        8,
        rows.clone()
            .map(|row| row.parent_span_id.as_ref().map(SpanId::as_bytes)),
    );
    encoder.int32("span_kind", rows.clone().map(|row| row.span_kind));
    encoder.text("hop", rows.clone().map(|row| row.hop.map(Hop::as_str)));
    encoder.text("arguments_hash", rows.clone().map(|row| row.arguments_hash.as_deref()));
    encoder.text("context_sizes", rows.clone().map(|row| row.context_sizes.as_deref()));
    encoder.text("tool_call_id", rows.clone().map(|row| row.tool_call_id.as_deref()));
    groups::write_mcp(&mut encoder, rows.clone().map(|row| &row.mcp));
    groups::write_model(&mut encoder, rows.clone().map(|row| &row.model));
    groups::write_usage(&mut encoder, rows.clone().map(|row| &row.usage));
    groups::write_sizes(&mut encoder, rows.clone().map(|row| &row.sizes));
    encoder.money("reported_cost", rows.clone().map(|row| row.reported_cost));
    encoder.text("series", rows.clone().map(|row| row.series.as_deref()));
    encoder.finish()
}

/// Decodes rows. A row without its mandatory columns is left out.
#[must_use]
pub fn from_batch(batch: &RecordBatch) -> Vec<Observation> {
    let columns = Decoder::new(batch);
    let tenant = columns.text("tenant");
    let observation_id = columns.id("observation_id");
    let source = columns.text("source");
    let dialect = columns.text("dialect");
    let scope = columns.text("scope");
    let name = columns.text("name");
    let arrived_ns = columns.timestamp_ns("arrived_at");
    let role = columns.text("role");
    let kind = columns.text("kind");
    let operation = columns.text("operation");
    let start_ns = columns.int("start_ns");
    let duration_ns = columns.int("duration_ns");
    let status = columns.text("status");
    let error_type = columns.text("error_type");
    let turn_id = columns.text("turn_id");
    let trace_id = columns.id("trace_id");
    let span_id = columns.id("span_id");
    let parent_span_id = columns.id("parent_span_id");
    let span_kind = columns.int32("span_kind");
    let hop = columns.text("hop");
    let arguments_hash = columns.text("arguments_hash");
    let context_sizes = columns.text("context_sizes");
    let tool_call_id = columns.text("tool_call_id");
    let reported_cost = columns.money("reported_cost");
    let series = columns.text("series");
    let dimensions = groups::read_dimensions(&columns);
    let mcp = groups::read_mcp(&columns);
    let model = groups::read_model(&columns);
    let usage = groups::read_usage(&columns);
    let sizes = groups::read_sizes(&columns);
    let decode = |row: usize| {
        Some(Observation {
            tenant: TenantId::from_credential(tenant.get(row)?),
            observation_id: ObservationId::from_slice(observation_id.get(row)?)?,
            source: Source::parse(source.get(row)?)?,
            dialect: dialect.owned(row)?,
            scope: scope.owned(row),
            name: name.owned(row)?,
            arrived_ns: arrived_ns(row)?,
            role: Role::parse(role.get(row)?)?,
            kind: CallKind::parse(kind.get(row)?)?,
            operation: operation.owned(row),
            start_ns: start_ns(row)?,
            duration_ns: duration_ns(row),
            status: Status::parse(status.get(row)?),
            error_type: error_type.owned(row),
            turn_id: turn_id.owned(row),
            trace_id: trace_id.get(row).and_then(TraceId::from_slice),
            span_id: span_id.get(row).and_then(SpanId::from_slice),
            parent_span_id: parent_span_id.get(row).and_then(SpanId::from_slice),
            span_kind: span_kind(row),
            hop: hop.get(row).and_then(Hop::parse),
            arguments_hash: arguments_hash.owned(row),
            context_sizes: context_sizes.owned(row),
            tool_call_id: tool_call_id.owned(row),
            reported_cost: reported_cost(row),
            series: series.owned(row),
            dimensions: dimensions(row),
            mcp: mcp(row),
            model: model(row),
            usage: usage(row),
            sizes: sizes(row),
        })
    };
    (0..batch.num_rows()).filter_map(decode).collect()
}
