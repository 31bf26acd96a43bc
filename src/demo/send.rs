//! Sends an outbox through a server's real OTLP ports, as the processes' own SDKs would.
//!
//! Spans and log records go over gRPC with the exporters of `opentelemetry-otlp` (which retry what the
//! server asks to retry), one exporter a process; metric requests go over OTLP/HTTP as JSON.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::try_join_all;
use indicatif::ProgressBar;
use opentelemetry_otlp::{LogExporter, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::logs::{LogBatch, LogExporter as _};
use opentelemetry_sdk::trace::SpanExporter as _;

use super::outbox::{Lane, Outbox};
use crate::exit::{Kind, fail};

/// Records a request: the default maximum of the SDKs' batch processors.
const BATCH: usize = 512;
/// Time a request may take, far above a busy machine's fsync.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What was sent.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Sent {
    /// Spans.
    pub spans: u64,
    /// Log records.
    pub logs: u64,
    /// Metric points.
    pub points: u64,
}

impl Sent {
    /// Adds another day.
    pub fn add(&mut self, other: Self) {
        self.spans += other.spans;
        self.logs += other.logs;
        self.points += other.points;
    }
}

/// Where to send to.
#[derive(Debug, Clone)]
pub struct Target {
    /// OTLP gRPC.
    pub grpc: SocketAddr,
    /// OTLP HTTP.
    pub http: SocketAddr,
    /// Client of the HTTP port.
    pub client: reqwest::Client,
}

/// Sends everything, the lanes side by side as separate processes would.
pub async fn send(outbox: Outbox, target: &Target, progress: &ProgressBar) -> anyhow::Result<Sent> {
    let lanes = outbox.lanes.into_values().map(|lane| send_lane(lane, target, progress));
    let mut sent = Sent::default();
    for lane in try_join_all(lanes).await? {
        sent.add(lane);
    }
    Ok(sent)
}

async fn send_lane(lane: Lane, target: &Target, progress: &ProgressBar) -> anyhow::Result<Sent> {
    let endpoint = format!("http://{}", target.grpc);
    let mut sent = Sent::default();
    let mut spans = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&endpoint)
        .with_timeout(TIMEOUT)
        .build()?;
    spans.set_resource(&lane.resource);
    for batch in lane.spans.chunks(BATCH) {
        spans
            .export(batch.to_vec())
            .await
            .map_err(|error| refused("spans", &error.to_string()))?;
        sent.spans += count(batch.len());
        progress.inc(count(batch.len()));
    }
    if !lane.logs.is_empty() {
        let mut logs = LogExporter::builder()
            .with_tonic()
            .with_endpoint(&endpoint)
            .with_timeout(TIMEOUT)
            .build()?;
        logs.set_resource(&lane.resource);
        for batch in lane.logs.chunks(BATCH) {
            let records: Vec<_> = batch.iter().map(|(record, scope)| (record, scope)).collect();
            logs.export(LogBatch::new(&records))
                .await
                .map_err(|error| refused("log records", &error.to_string()))?;
            sent.logs += count(batch.len());
            progress.inc(count(batch.len()));
        }
    }
    for request in &lane.metrics {
        let url = format!("http://{}/v1/metrics", target.http);
        let answer = target.client.post(url).json(request).send().await?;
        if !answer.status().is_success() {
            return Err(refused("metric points", &answer.text().await.unwrap_or_default()));
        }
    }
    sent.points += lane.n_points;
    progress.inc(lane.n_points);
    Ok(sent)
}

fn refused(what: &str, why: &str) -> anyhow::Error {
    fail(
        Kind::Busy,
        format!("the server did not take the demo's {what}: {why}; run the demo again"),
    )
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
