//! `ledger`: rows to record batches and back. Append-only; all measures carry sign.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use spanledger_model::{Bucket, CallId, LedgerLine, LineId, LineKind, SpanId, TenantId, TraceId};

use super::codec::{Decoder, Encoder};
use super::groups;

/// Currency of every cost column.
pub const CURRENCY: &str = "USD";

/// The schema of `ledger`.
#[must_use]
pub fn schema() -> SchemaRef {
    to_batch(&[]).schema()
}

/// The accounting period of an instant: its UTC month, `2026-11`.
#[must_use]
pub fn period_of(time_ns: i64) -> String {
    let time = chrono::DateTime::from_timestamp_nanos(time_ns);
    time.format("%Y-%m").to_string()
}

/// Encodes rows.
#[must_use]
pub fn to_batch(lines: &[LedgerLine]) -> RecordBatch {
    let rows = lines.iter();
    let periods: Vec<String> = rows.clone().map(|row| period_of(row.time_ns)).collect();
    let mut encoder = Encoder::with_key(rows.clone().map(|row| (&row.tenant, row.time_ns)));
    encoder.text("period", periods.iter().map(|period| Some(period.as_str())));
    encoder.id("line_id", 16, rows.clone().map(|row| Some(row.line_id.as_bytes())));
    encoder.text("line_kind", rows.clone().map(|row| Some(row.line_kind.as_str())));
    encoder.id(
        "call_id",
        16,
        rows.clone().map(|row| row.call_id.as_ref().map(CallId::as_bytes)),
    );
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
    groups::write_dimensions(&mut encoder, rows.clone().map(|row| row.dimensions.as_ref()));
    encoder.text("provider", rows.clone().map(|row| row.provider.as_deref()));
    encoder.text("model", rows.clone().map(|row| row.model.as_deref()));
    encoder.text("server", rows.clone().map(|row| row.server.as_deref()));
    encoder.text("tool", rows.clone().map(|row| row.tool.as_deref()));
    encoder.text("prompt", rows.clone().map(|row| row.prompt.as_deref()));
    encoder.text("resource_uri", rows.clone().map(|row| row.resource_uri.as_deref()));
    encoder.text("cause", rows.clone().map(|row| Some(row.cause)));
    encoder.boolean("history", rows.clone().map(|row| Some(row.history)));
    encoder.text("touch", rows.clone().map(|row| row.touch));
    encoder.text("bucket", rows.clone().map(|row| Some(row.bucket.as_str())));
    encoder.text("method", rows.clone().map(|row| Some(row.method)));
    encoder.int("n_calls", rows.clone().map(|row| Some(row.n_calls)));
    encoder.int("tokens", rows.clone().map(|row| row.tokens));
    encoder.int("quantity", rows.clone().map(|row| row.quantity));
    encoder.money("list_cost", rows.clone().map(|row| row.list_cost));
    encoder.money("contracted_cost", rows.clone().map(|row| row.contracted_cost));
    encoder.money("effective_cost", rows.clone().map(|row| row.effective_cost));
    encoder.text("currency", rows.clone().map(|_| Some(CURRENCY)));
    encoder.text("price_id", rows.clone().map(|row| row.price_id.as_deref()));
    encoder.text("price_version", rows.clone().map(|row| row.price_version.as_deref()));
    encoder.timestamp("settled_at", rows.clone().map(|row| Some(row.settled_ns)));
    encoder.finish()
}

/// Decodes rows. A row without its mandatory columns is left out.
#[must_use]
pub fn from_batch(batch: &RecordBatch) -> Vec<LedgerLine> {
    let columns = Decoder::new(batch);
    let tenant = columns.text("tenant");
    let time_ns = columns.timestamp_ns("time");
    let line_id = columns.id("line_id");
    let line_kind = columns.text("line_kind");
    let call_id = columns.id("call_id");
    let trace_id = columns.id("trace_id");
    let span_id = columns.id("span_id");
    let dimensions = groups::read_dimensions(&columns);
    let provider = columns.text("provider");
    let model = columns.text("model");
    let server = columns.text("server");
    let tool = columns.text("tool");
    let prompt = columns.text("prompt");
    let resource_uri = columns.text("resource_uri");
    let cause = columns.text("cause");
    let touch = columns.text("touch");
    let bucket = columns.text("bucket");
    let method = columns.text("method");
    let price_id = columns.text("price_id");
    let price_version = columns.text("price_version");
    let history = columns.boolean("history");
    let n_calls = columns.int("n_calls");
    let tokens = columns.int("tokens");
    let quantity = columns.int("quantity");
    let list_cost = columns.money("list_cost");
    let contracted_cost = columns.money("contracted_cost");
    let effective_cost = columns.money("effective_cost");
    let settled_ns = columns.timestamp_ns("settled_at");
    let decode = |row: usize| {
        Some(LedgerLine {
            tenant: TenantId::from_credential(tenant.get(row)?),
            time_ns: time_ns(row)?,
            line_id: LineId::from_slice(line_id.get(row)?)?,
            line_kind: LineKind::parse(line_kind.get(row)?)?,
            call_id: call_id.get(row).and_then(CallId::from_slice),
            trace_id: trace_id.get(row).and_then(TraceId::from_slice),
            span_id: span_id.get(row).and_then(SpanId::from_slice),
            dimensions: Arc::new(dimensions(row)),
            provider: provider.shared(row),
            model: model.shared(row),
            server: server.shared(row),
            tool: tool.shared(row),
            prompt: prompt.shared(row),
            resource_uri: resource_uri.shared(row),
            cause: known_word(cause.get(row)?),
            history: history(row)?,
            touch: touch.get(row).map(known_word),
            bucket: Bucket::parse(bucket.get(row)?)?,
            method: known_word(method.get(row)?),
            n_calls: n_calls(row)?,
            tokens: tokens(row),
            quantity: quantity(row),
            list_cost: list_cost(row),
            contracted_cost: contracted_cost(row),
            effective_cost: effective_cost(row),
            price_id: price_id.shared(row),
            price_version: price_version.shared(row),
            settled_ns: settled_ns(row)?,
        })
    };
    (0..batch.num_rows()).filter_map(decode).collect()
}

/// The closed vocabularies of `cause`, `touch` and `method`; a word of a newer version reads as `undivided`.
fn known_word(word: &str) -> &'static str {
    const WORDS: [&str; 16] = [
        "definition",
        "system",
        "user",
        "result",
        "call",
        "text",
        "reasoning",
        "fee",
        "direct",
        "sampling",
        "undivided",
        "first",
        "carry",
        "content",
        "bytes",
        "counts",
    ];
    WORDS.into_iter().find(|known| *known == word).unwrap_or("undivided")
}
