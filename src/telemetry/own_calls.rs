//! The calls of our own MCP server, into our own ingest: `spanledger serve` is a row in the ledger like any other.
//!
//! A queue takes what the MCP server did and drops it where it is full; one task writes what waited as one OTLP
//! request a tenant, through the pipeline that every emitter's goes through. Writing causes no MCP call, so there is
//! no loop. A span is the server's side of a call: where the caller's telemetry is here too, both are one call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use spanledger_access::Principal;
use spanledger_ingest::{Accept as _, Encoding, Pipeline, Signal, decode};
use spanledger_mcp_server::telemetry::{Meter, OwnSpan, TargetKind};
use tokio::sync::{mpsc, watch};

/// Calls that wait to be written.
const WAITING_MAX: usize = 4_096;
/// Calls of one request.
const BATCH_MAX: usize = 512;
/// How long the first waits for others: its row is there within a few seconds of the call.
const WAIT: Duration = Duration::from_millis(1_000);
/// Name of the server, and of the instrumentation.
const NAME: &str = "spanledger";

/// The queue.
#[derive(Debug, Clone)]
pub struct OwnCalls {
    queue: mpsc::Sender<(Principal, OwnSpan)>,
}

impl Meter for OwnCalls {
    fn note(&self, principal: &Principal, span: OwnSpan) {
        if self.queue.try_send((principal.clone(), span)).is_err() {
            tracing::debug!("too many calls wait to be metered; one was dropped");
        }
    }
}

/// A queue, and what writes it until told to stop.
pub fn meter(
    pipeline: Arc<Pipeline>,
    stopped: watch::Receiver<bool>,
) -> (OwnCalls, impl Future<Output = anyhow::Result<()>>) {
    let (queue, waiting) = mpsc::channel(WAITING_MAX);
    (OwnCalls { queue }, write(pipeline, waiting, stopped))
}

async fn write(
    pipeline: Arc<Pipeline>,
    mut waiting: mpsc::Receiver<(Principal, OwnSpan)>,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            n = waiting.recv_many(&mut batch, BATCH_MAX) => {
                if n == 0 {
                    return Ok(());
                }
            }
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        // The first waits for others, unless the server stops.
        let _ = tokio::time::timeout(WAIT, stopped.wait_for(|stopped| *stopped)).await;
        while let Ok(call) = waiting.try_recv() {
            batch.push(call);
            if batch.len() >= BATCH_MAX {
                put(&pipeline, std::mem::take(&mut batch)).await;
            }
        }
        put(&pipeline, batch).await;
        if *stopped.borrow() {
            return Ok(());
        }
    }
}

/// One request a tenant.
async fn put(pipeline: &Pipeline, batch: Vec<(Principal, OwnSpan)>) {
    let mut tenants: BTreeMap<String, (Principal, Vec<Value>)> = BTreeMap::new();
    for (principal, span) in batch {
        let tenant = principal.tenant().as_str().to_owned();
        let spans = tenants.entry(tenant).or_insert_with(|| (principal, Vec::new()));
        spans.1.push(otlp(&span));
    }
    for (principal, spans) in tenants.into_values() {
        let request = json!({ "resourceSpans": [{
            "resource": { "attributes": [text("service.name", NAME), text("service.version", env!("CARGO_PKG_VERSION"))] },
            "scopeSpans": [{ "scope": { "name": NAME, "version": env!("CARGO_PKG_VERSION") }, "spans": spans }],
        }]});
        let body = Bytes::from(request.to_string());
        let accepted = match decode(Signal::Traces, Encoding::Json, &body) {
            Ok(request) => pipeline
                .accept(&principal, request, body, Encoding::Json)
                .await
                .map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "own MCP calls were not metered");
        }
    }
}

/// A span of the MCP semantic conventions in OTLP's JSON.
fn otlp(span: &OwnSpan) -> Value {
    let parent = span.traceparent.as_deref().and_then(parse_traceparent);
    let (trace_id, parent_id) = match parent {
        Some((trace_id, parent_id)) => (trace_id.to_owned(), Some(parent_id)),
        None => (format!("{:032x}", span.new_trace_id), None),
    };
    let name = if span.target.is_empty() || span.target_kind == TargetKind::Resource {
        span.method.to_owned()
    } else {
        format!("{} {}", span.method, span.target)
    };
    let mut attributes = vec![
        text("mcp.method.name", span.method),
        text("mcp.server.name", NAME),
        text("jsonrpc.request.id", &span.request_id),
        text("network.transport", span.transport),
    ];
    match span.target_kind {
        TargetKind::Tool => {
            attributes.push(text("gen_ai.operation.name", "execute_tool"));
            attributes.push(text("gen_ai.tool.name", &span.target));
        }
        TargetKind::Prompt => attributes.push(text("gen_ai.prompt.name", &span.target)),
        TargetKind::Resource => attributes.push(text("mcp.resource.uri", &span.target)),
        TargetKind::None => {}
    }
    let optional = [
        ("mcp.protocol.version", &span.protocol_version),
        ("mcp.client.name", &span.client),
        ("error.type", &span.error_type),
    ];
    attributes.extend(
        optional
            .into_iter()
            .filter_map(|(key, value)| Some(text(key, value.as_deref()?))),
    );
    let sizes = [
        ("spanledger.request_bytes", span.request_bytes),
        ("spanledger.response_bytes", span.response_bytes),
    ];
    attributes.extend(
        sizes
            .into_iter()
            .filter_map(|(key, size)| Some(json!({ "key": key, "value": { "intValue": size?.to_string() } }))),
    );
    if let Some(sizes) = &span.definition_bytes {
        attributes.push(text(
            "spanledger.definition_bytes",
            &Value::from(sizes.clone()).to_string(),
        ));
    }
    let mut written = json!({
        "traceId": trace_id,
        "spanId": format!("{:016x}", span.span_id),
        "name": name,
        "kind": 2,
        "startTimeUnixNano": span.start_ns.to_string(),
        "endTimeUnixNano": span.start_ns.saturating_add(span.duration_ns).to_string(),
        "attributes": attributes,
        "status": { "code": if span.error_type.is_some() { 2 } else { 0 } },
    });
    if let Some(parent_id) = parent_id {
        written["parentSpanId"] = Value::from(parent_id);
    }
    written
}

/// Trace and parent of a W3C trace context; `None` for one that is not valid.
fn parse_traceparent(context: &str) -> Option<(&str, &str)> {
    let mut parts = context.trim().split('-');
    let (version, trace_id, parent_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex =
        |text: &str, n: usize| text.len() == n && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let is_valid = is_hex(version, 2)
        && version != "ff"
        && (version != "00" || parts.next().is_none())
        && is_hex(trace_id, 32)
        && is_hex(parent_id, 16)
        && is_hex(flags, 2)
        && !is_zero(trace_id)
        && !is_zero(parent_id);
    is_valid.then_some((trace_id, parent_id))
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn only_a_valid_trace_context_becomes_a_parent() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(
            parse_traceparent(good),
            Some(("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"))
        );
        assert!(parse_traceparent("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more").is_some());
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333z-01",
        ] {
            assert_eq!(parse_traceparent(bad), None, "{bad}");
        }
    }
}
