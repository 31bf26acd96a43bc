//! Exports over OTLP gRPC with the generated client, plain and gzipped.

use anyhow::Result;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;

pub use tonic::{Code, Status};

/// A connection to an OTLP gRPC port.
#[derive(Debug, Clone)]
pub struct GrpcClient {
    traces: TraceServiceClient<Channel>,
}

impl GrpcClient {
    /// Connects to `http://127.0.0.1:PORT`.
    ///
    /// # Errors
    /// Where nothing listens there.
    pub async fn connect(address: &str) -> Result<Self> {
        Ok(Self {
            traces: TraceServiceClient::connect(address.to_owned()).await?,
        })
    }

    /// The same connection, with requests under gzip.
    #[must_use]
    pub fn gzipped(&self) -> Self {
        Self {
            traces: self.traces.clone().send_compressed(CompressionEncoding::Gzip),
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
}
