//! Exports over OTLP gRPC with the generated clients, plain and compressed.

use anyhow::Result;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};

use crate::records::Request;

pub use tonic::{Code, Status};

/// A connection to an OTLP gRPC port.
#[derive(Debug, Clone)]
pub struct GrpcClient {
    traces: TraceServiceClient<Channel>,
    logs: LogsServiceClient<Channel>,
    metrics: MetricsServiceClient<Channel>,
}

impl GrpcClient {
    /// Connects to `http://127.0.0.1:PORT`.
    ///
    /// # Errors
    /// Where nothing listens there.
    pub async fn connect(address: &str) -> Result<Self> {
        let channel = Endpoint::from_shared(address.to_owned())?.connect().await?;
        Ok(Self {
            traces: TraceServiceClient::new(channel.clone()),
            logs: LogsServiceClient::new(channel.clone()),
            metrics: MetricsServiceClient::new(channel),
        })
    }

    /// The same connection, with requests under gzip.
    #[must_use]
    pub fn gzipped(&self) -> Self {
        self.compressed(CompressionEncoding::Gzip)
    }

    /// The same connection, with requests under zstd.
    #[must_use]
    pub fn zstd(&self) -> Self {
        self.compressed(CompressionEncoding::Zstd)
    }

    fn compressed(&self, encoding: CompressionEncoding) -> Self {
        Self {
            traces: self.traces.clone().send_compressed(encoding),
            logs: self.logs.clone().send_compressed(encoding),
            metrics: self.metrics.clone().send_compressed(encoding),
        }
    }

    /// Exports spans.
    ///
    /// # Errors
    /// With the server's status.
    #[allow(clippy::result_large_err, reason = "the status is what a test looks at")]
    pub async fn export(&self, request: ExportTraceServiceRequest) -> Result<ExportTraceServiceResponse, Status> {
        self.traces
            .clone()
            .export(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Exports a request of any signal; gives back how many of its records were rejected.
    ///
    /// # Errors
    /// With the server's status.
    #[allow(clippy::result_large_err, reason = "the status is what a test looks at")]
    pub async fn send(&self, request: Request) -> Result<i64, Status> {
        Ok(match request {
            Request::Traces(request) => {
                let answer = self.traces.clone().export(request).await?.into_inner();
                answer.partial_success.map_or(0, |partial| partial.rejected_spans)
            }
            Request::Logs(request) => {
                let answer = self.logs.clone().export(request).await?.into_inner();
                answer.partial_success.map_or(0, |partial| partial.rejected_log_records)
            }
            Request::Metrics(request) => {
                let answer = self.metrics.clone().export(request).await?.into_inner();
                answer.partial_success.map_or(0, |partial| partial.rejected_data_points)
            }
        })
    }
}
