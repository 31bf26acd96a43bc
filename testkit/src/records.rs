//! OTLP requests taken apart into records, and records put together into other requests: what an exporter's retry
//! queue, a Collector's batch processor or a proxy between two of them makes of the same telemetry.
//!
//! A record is kept as a request that holds nothing else, so its resource and scope stay with it to the letter.

use anyhow::Result;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric};
use prost::Message as _;

use crate::otlp::{Body, Encoding, Signal};

/// A request of any signal.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Spans.
    Traces(ExportTraceServiceRequest),
    /// Log records.
    Logs(ExportLogsServiceRequest),
    /// Metric points.
    Metrics(ExportMetricsServiceRequest),
}

impl Request {
    /// Reads a body.
    ///
    /// # Errors
    /// Where it is no request of its signal.
    pub fn read(body: &Body) -> Result<Self> {
        let bytes = body.bytes.as_slice();
        Ok(match (body.signal, body.encoding) {
            (Signal::Traces, Encoding::Protobuf) => Self::Traces(ExportTraceServiceRequest::decode(bytes)?),
            (Signal::Logs, Encoding::Protobuf) => Self::Logs(ExportLogsServiceRequest::decode(bytes)?),
            (Signal::Metrics, Encoding::Protobuf) => Self::Metrics(ExportMetricsServiceRequest::decode(bytes)?),
            (Signal::Traces, Encoding::Json) => Self::Traces(serde_json::from_slice(bytes)?),
            (Signal::Logs, Encoding::Json) => Self::Logs(serde_json::from_slice(bytes)?),
            (Signal::Metrics, Encoding::Json) => Self::Metrics(serde_json::from_slice(bytes)?),
        })
    }

    /// Writes it.
    ///
    /// # Errors
    /// Where it cannot be written as JSON.
    pub fn write(&self, encoding: Encoding) -> Result<Body> {
        let bytes = match (self, encoding) {
            (Self::Traces(request), Encoding::Protobuf) => request.encode_to_vec(),
            (Self::Logs(request), Encoding::Protobuf) => request.encode_to_vec(),
            (Self::Metrics(request), Encoding::Protobuf) => request.encode_to_vec(),
            (Self::Traces(request), Encoding::Json) => serde_json::to_vec(request)?,
            (Self::Logs(request), Encoding::Json) => serde_json::to_vec(request)?,
            (Self::Metrics(request), Encoding::Json) => serde_json::to_vec(request)?,
        };
        Ok(Body {
            signal: self.signal(),
            encoding,
            bytes,
        })
    }

    /// What it carries.
    #[must_use]
    pub fn signal(&self) -> Signal {
        match self {
            Self::Traces(_) => Signal::Traces,
            Self::Logs(_) => Signal::Logs,
            Self::Metrics(_) => Signal::Metrics,
        }
    }

    /// Its records, each as a request of its own.
    #[must_use]
    pub fn records(&self) -> Vec<Self> {
        let mut records = Vec::new();
        match self {
            Self::Traces(request) => {
                for resource in &request.resource_spans {
                    for scope in &resource.scope_spans {
                        for span in &scope.spans {
                            let (mut resource, mut scope) = (resource.clone(), scope.clone());
                            scope.spans = vec![span.clone()];
                            resource.scope_spans = vec![scope];
                            records.push(Self::Traces(ExportTraceServiceRequest {
                                resource_spans: vec![resource],
                            }));
                        }
                    }
                }
            }
            Self::Logs(request) => {
                for resource in &request.resource_logs {
                    for scope in &resource.scope_logs {
                        for record in &scope.log_records {
                            let (mut resource, mut scope) = (resource.clone(), scope.clone());
                            scope.log_records = vec![record.clone()];
                            resource.scope_logs = vec![scope];
                            records.push(Self::Logs(ExportLogsServiceRequest {
                                resource_logs: vec![resource],
                            }));
                        }
                    }
                }
            }
            Self::Metrics(request) => {
                for resource in &request.resource_metrics {
                    for scope in &resource.scope_metrics {
                        for point in scope.metrics.iter().flat_map(points) {
                            let (mut resource, mut scope) = (resource.clone(), scope.clone());
                            scope.metrics = vec![point];
                            resource.scope_metrics = vec![scope];
                            records.push(Self::Metrics(ExportMetricsServiceRequest {
                                resource_metrics: vec![resource],
                            }));
                        }
                    }
                }
            }
        }
        records
    }

    /// One request of the records of several of one signal, in their order; those of another signal are left out.
    #[must_use]
    pub fn together<'r>(signal: Signal, requests: impl IntoIterator<Item = &'r Self>) -> Self {
        let mut whole = match signal {
            Signal::Traces => Self::Traces(ExportTraceServiceRequest::default()),
            Signal::Logs => Self::Logs(ExportLogsServiceRequest::default()),
            Signal::Metrics => Self::Metrics(ExportMetricsServiceRequest::default()),
        };
        for request in requests {
            match (&mut whole, request) {
                (Self::Traces(whole), Self::Traces(part)) => {
                    whole.resource_spans.extend(part.resource_spans.iter().cloned());
                }
                (Self::Logs(whole), Self::Logs(part)) => whole.resource_logs.extend(part.resource_logs.iter().cloned()),
                (Self::Metrics(whole), Self::Metrics(part)) => {
                    whole.resource_metrics.extend(part.resource_metrics.iter().cloned());
                }
                _ => {}
            }
        }
        whole
    }

    /// What makes a record the same record, of a request that holds one: of a span its trace, id and kind, of others
    /// all they say. Empty for an empty request.
    #[must_use]
    pub fn identity(&self) -> Vec<u8> {
        match self {
            Self::Traces(request) => {
                let mut scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
                let span = scopes.find_map(|scope| scope.spans.first());
                span.map_or_else(Vec::new, |span| {
                    [&span.trace_id[..], &span.span_id, &span.kind.to_be_bytes()].concat()
                })
            }
            Self::Logs(request) => request.encode_to_vec(),
            Self::Metrics(request) => request.encode_to_vec(),
        }
    }
}

/// A metric's points, each as a metric of its own.
fn points(metric: &Metric) -> Vec<Metric> {
    let with = |data: metric::Data| Metric {
        data: Some(data),
        ..metric.clone()
    };
    macro_rules! each {
        ($variant:ident, $data:expr) => {
            $data
                .data_points
                .iter()
                .map(|point| {
                    let mut data = $data.clone();
                    data.data_points = vec![point.clone()];
                    with(metric::Data::$variant(data))
                })
                .collect()
        };
    }
    match &metric.data {
        None => Vec::new(),
        Some(metric::Data::Sum(data)) => each!(Sum, data),
        Some(metric::Data::Gauge(data)) => each!(Gauge, data),
        Some(metric::Data::Histogram(data)) => each!(Histogram, data),
        Some(metric::Data::ExponentialHistogram(data)) => each!(ExponentialHistogram, data),
        Some(metric::Data::Summary(data)) => each!(Summary, data),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::captures::Capture;

    #[test]
    fn records_put_together_in_another_encoding_are_the_same_records() {
        for body in Capture::load("claude-code").unwrap().bodies {
            let request = Request::read(&body).unwrap();
            let records = request.records();
            let whole = Request::together(request.signal(), &records);
            let read = Request::read(&whole.write(Encoding::Json).unwrap()).unwrap();
            assert_eq!(read.records(), records);
            assert!(records.iter().all(|record| !record.identity().is_empty()));
        }
    }
}
