//! `calls`: rows to and from record batches. One logical operation is one row, always.

use std::sync::Arc;

use arrow::array::{Array, AsArray, FixedSizeBinaryBuilder, ListBuilder, RecordBatch};
use arrow::datatypes::SchemaRef;
use spanledger_model::call::{CallKind, Confidence, Status};
use spanledger_model::{Call, CallId, ObservationId, SpanId, TenantId, TraceId};

use super::codec::{Decoder, Encoder};
use super::groups;

/// The schema of `calls`.
#[must_use]
pub fn schema() -> SchemaRef {
    to_batch(&[]).schema()
}

/// Encodes rows.
#[must_use]
pub fn to_batch(calls: &[Call]) -> RecordBatch {
    let rows = calls.iter();
    let mut encoder = Encoder::with_key(rows.clone().map(|row| (&row.tenant, row.start_ns)));
    encoder.int("start_ns", rows.clone().map(|row| Some(row.start_ns)));
    encoder.int("duration_ns", rows.clone().map(|row| row.duration_ns));
    encoder.id("call_id", 16, rows.clone().map(|row| Some(row.call_id.as_bytes())));
    encoder.text("kind", rows.clone().map(|row| Some(row.kind.as_str())));
    encoder.text("operation", rows.clone().map(|row| row.operation.as_deref()));
    encoder.text("dialects", rows.clone().map(|row| Some(row.dialects.as_str())));
    let mut ids = ListBuilder::new(FixedSizeBinaryBuilder::new(16));
    for call in calls {
        for id in &call.observation_ids {
            if ids.values().append_value(id.as_bytes()).is_err() {
                ids.values().append_null();
            }
        }
        ids.append(true);
    }
    encoder.push("observation_ids", true, Arc::new(ids.finish()));
    encoder.text("rules", rows.clone().map(|row| Some(row.rules.as_str())));
    encoder.text("confidence", rows.clone().map(|row| Some(row.confidence.as_str())));
    encoder.int32("hops", rows.clone().map(|row| Some(row.hops)));
    encoder.text("status", rows.clone().map(|row| Some(row.status.as_str())));
    encoder.text("error_type", rows.clone().map(|row| row.error_type.as_deref()));
    groups::write_dimensions(&mut encoder, rows.clone().map(|row| &row.dimensions));
    encoder.text("allocated_by", rows.clone().map(|row| row.allocated_by.as_deref()));
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
    groups::write_mcp(&mut encoder, rows.clone().map(|row| &row.mcp));
    groups::write_model(&mut encoder, rows.clone().map(|row| &row.model));
    groups::write_usage(&mut encoder, rows.clone().map(|row| &row.usage));
    groups::write_sizes(&mut encoder, rows.clone().map(|row| &row.sizes));
    encoder.money("reported_cost", rows.clone().map(|row| row.reported_cost));
    encoder.money("own_cost", rows.clone().map(|row| row.own_cost));
    encoder.money("total_cost", rows.clone().map(|row| row.total_cost));
    encoder.finish()
}

/// The ids of the observations of each row's call, by row.
pub fn observation_ids(batch: &RecordBatch) -> impl Fn(usize) -> Vec<ObservationId> + use<'_> {
    let id_lists = batch
        .column_by_name("observation_ids")
        .and_then(|column| column.as_list_opt::<i32>());
    move |row| {
        let Some(list) = id_lists
            .filter(|lists| lists.is_valid(row))
            .map(|lists| lists.value(row))
        else {
            return Vec::new();
        };
        let Some(ids) = list.as_fixed_size_binary_opt() else {
            return Vec::new();
        };
        ids.iter().flatten().filter_map(ObservationId::from_slice).collect()
    }
}

/// Decodes rows. A row without its mandatory columns is left out.
#[must_use]
pub fn from_batch(batch: &RecordBatch) -> Vec<Call> {
    let columns = Decoder::new(batch);
    let tenant = columns.text("tenant");
    let call_id = columns.id("call_id");
    let kind = columns.text("kind");
    let operation = columns.text("operation");
    let start_ns = columns.int("start_ns");
    let duration_ns = columns.int("duration_ns");
    let dialects = columns.text("dialects");
    let rules = columns.text("rules");
    let confidence = columns.text("confidence");
    let hops = columns.int32("hops");
    let status = columns.text("status");
    let error_type = columns.text("error_type");
    let trace_id = columns.id("trace_id");
    let span_id = columns.id("span_id");
    let parent_span_id = columns.id("parent_span_id");
    let reported_cost = columns.money("reported_cost");
    let own_cost = columns.money("own_cost");
    let total_cost = columns.money("total_cost");
    let observation_ids = observation_ids(batch);
    let dimensions = groups::read_dimensions(&columns);
    let allocated_by = columns.text("allocated_by");
    let mcp = groups::read_mcp(&columns);
    let model = groups::read_model(&columns);
    let usage = groups::read_usage(&columns);
    let sizes = groups::read_sizes(&columns);
    let decode = |row: usize| {
        Some(Call {
            tenant: TenantId::from_credential(tenant.get(row)?),
            call_id: CallId::from_slice(call_id.get(row)?)?,
            kind: CallKind::parse(kind.get(row)?)?,
            operation: operation.owned(row),
            start_ns: start_ns(row)?,
            duration_ns: duration_ns(row),
            dialects: dialects.owned(row)?,
            observation_ids: observation_ids(row),
            rules: rules.owned(row).unwrap_or_default(),
            confidence: Confidence::parse(confidence.get(row).unwrap_or_default()),
            hops: hops(row)?,
            status: Status::parse(status.get(row)?),
            error_type: error_type.owned(row),
            allocated_by: allocated_by.owned(row),
            trace_id: trace_id.get(row).and_then(TraceId::from_slice),
            span_id: span_id.get(row).and_then(SpanId::from_slice),
            parent_span_id: parent_span_id.get(row).and_then(SpanId::from_slice),
            reported_cost: reported_cost(row),
            own_cost: own_cost(row),
            total_cost: total_cost(row),
            dimensions: dimensions(row),
            mcp: mcp(row),
            model: model(row),
            usage: usage(row),
            sizes: sizes(row),
        })
    };
    (0..batch.num_rows()).filter_map(decode).collect()
}
