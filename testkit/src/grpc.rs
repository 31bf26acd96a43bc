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
    authorization: Option<String>,
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
            authorization: None,
        })
    }

    /// The same connection, with this `authorization` on every request.
    #[must_use]
    pub fn with_authorization(&self, authorization: &str) -> Self {
        Self {
            authorization: Some(authorization.to_owned()),
            ..self.clone()
        }
    }

    fn with_metadata<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(value) = self.authorization.as_ref().and_then(|value| value.parse().ok()) {
            request.metadata_mut().insert("authorization", value);
        }
        request
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
            authorization: self.authorization.clone(),
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
            .export(self.with_metadata(request))
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
                let answer = self
                    .traces
                    .clone()
                    .export(self.with_metadata(request))
                    .await?
                    .into_inner();
                answer.partial_success.map_or(0, |partial| partial.rejected_spans)
            }
            Request::Logs(request) => {
                let answer = self
                    .logs
                    .clone()
                    .export(self.with_metadata(request))
                    .await?
                    .into_inner();
                answer.partial_success.map_or(0, |partial| partial.rejected_log_records)
            }
            Request::Metrics(request) => {
                let answer = self
                    .metrics
                    .clone()
                    .export(self.with_metadata(request))
                    .await?
                    .into_inner();
                answer.partial_success.map_or(0, |partial| partial.rejected_data_points)
            }
        })
    }
}
