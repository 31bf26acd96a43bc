//! What the receivers hand over and to whom: the seam between the wire and the pipeline.
//!
//! The receivers read, inflate and decode; an [`Accept`] (the pipeline) makes the request durable.

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric};
use spanledger_access::Principal;

use crate::admission::Admission;
use crate::door::Door;
use crate::error::{ErrorKind, Result};
use crate::limits::Limits;

/// A kind of telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Log records and events.
    Logs,
    /// Metric data points.
    Metrics,
}

impl Signal {
    /// The signal as a metric label and as the last part of its HTTP path.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }

    /// What a sender calls one record of it.
    #[must_use]
    pub fn record_name(self) -> &'static str {
        match self {
            Self::Traces => "span",
            Self::Logs => "log record",
            Self::Metrics => "data point",
        }
    }
}

/// How a request body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Binary protobuf.
    Protobuf,
    /// OTLP/JSON.
    Json,
}

impl Encoding {
    /// The media type, without parameters.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

/// A decoded export request.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Spans.
    Traces(ExportTraceServiceRequest),
    /// Log records.
    Logs(ExportLogsServiceRequest),
    /// Metric data points.
    Metrics(ExportMetricsServiceRequest),
}

impl Request {
    /// The kind of telemetry it carries.
    #[must_use]
    pub fn signal(&self) -> Signal {
        match self {
            Self::Traces(_) => Signal::Traces,
            Self::Logs(_) => Signal::Logs,
            Self::Metrics(_) => Signal::Metrics,
        }
    }

    /// Number of spans, log records or data points.
    #[must_use]
    pub fn n_records(&self) -> u64 {
        let count = match self {
            Self::Traces(request) => request
                .resource_spans
                .iter()
                .flat_map(|group| &group.scope_spans)
                .map(|scope| scope.spans.len())
                .sum(),
            Self::Logs(request) => request
                .resource_logs
                .iter()
                .flat_map(|group| &group.scope_logs)
                .map(|scope| scope.log_records.len())
                .sum(),
            Self::Metrics(request) => request
                .resource_metrics
                .iter()
                .flat_map(|group| &group.scope_metrics)
                .flat_map(|scope| &scope.metrics)
                .map(n_data_points)
                .sum::<usize>(),
        };
        count as u64
    }
}

/// Number of data points of a metric.
pub(crate) fn n_data_points(metric: &Metric) -> usize {
    match &metric.data {
        None => 0,
        Some(metric::Data::Gauge(data)) => data.data_points.len(),
        Some(metric::Data::Sum(data)) => data.data_points.len(),
        Some(metric::Data::Histogram(data)) => data.data_points.len(),
        Some(metric::Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(metric::Data::Summary(data)) => data.data_points.len(),
    }
}

/// A request that is on stable storage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Records stored.
    pub n_accepted: u64,
    /// Records left out, never to be sent again.
    pub n_rejected: u64,
    /// Why records were left out, or a warning.
    pub message: Option<String>,
    /// True where the same request had been stored before.
    pub duplicate: bool,
}

/// Makes requests durable. The pipeline is one; tests bring their own.
#[async_trait]
pub trait Accept: Send + Sync + 'static {
    /// Stores a request and returns once it is on stable storage. It is run to its end even when the sender
    /// hangs up or the request times out.
    ///
    /// # Errors
    /// Of kind Busy where the same request may be sent again.
    async fn accept(
        &self,
        principal: &Principal,
        request: Request,
        body: Bytes,
        encoding: Encoding,
    ) -> Result<Accepted>;

    /// The limits in force.
    fn limits(&self) -> &Limits;

    /// Who may send.
    fn door(&self) -> &Door;

    /// The bounds on what is in flight, shared by all receivers.
    fn admission(&self) -> &Admission;

    /// Told of each refused request, for the meters.
    fn refused(&self, _signal: Signal, _kind: ErrorKind) {}

    /// Told of records that decoding left out, for the meters.
    fn rejected(&self, _signal: Signal, _n_records: u64) {}
}
