//! The pipeline with a stopwatch: a span and a duration for each request that is made durable.
//!
//! Stands between the receivers and the pipeline at the seam they have, so that ingest knows no meters.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, MeterProvider as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use spanledger_access::Principal;
use spanledger_ingest::{
    Accept, Accepted, Admission, Door, Encoding, ErrorKind, Limits, Pipeline, Request, Result, Signal,
};
use tracing::Instrument as _;

/// Upper bounds of acknowledgement times, in seconds: a group commit takes milliseconds, a busy disk more.
const SECONDS: [f64; 11] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 10.0];

/// A pipeline whose acknowledgements are measured and traced.
pub struct MeteredPipeline {
    pipeline: Arc<Pipeline>,
    acknowledgements: Histogram<f64>,
}

impl MeteredPipeline {
    /// The pipeline, measured.
    pub fn new(provider: &SdkMeterProvider, pipeline: Arc<Pipeline>) -> Arc<Self> {
        let acknowledgements = provider
            .meter("spanledger")
            .f64_histogram("spanledger.ingest.acknowledge.duration")
            .with_unit("s")
            .with_boundaries(SECONDS.to_vec())
            .with_description("Time from a decoded request to its acknowledgement, normalising and fsync included")
            .build();
        Arc::new(Self {
            pipeline,
            acknowledgements,
        })
    }
}

#[async_trait]
impl Accept for MeteredPipeline {
    async fn accept(
        &self,
        principal: &Principal,
        request: Request,
        body: Bytes,
        encoding: Encoding,
    ) -> Result<Accepted> {
        let signal = request.signal().name();
        let span = tracing::info_span!("acknowledge", signal, body_bytes = body.len());
        let started = Instant::now();
        let accepted = self
            .pipeline
            .accept(principal, request, body, encoding)
            .instrument(span)
            .await;
        self.acknowledgements
            .record(started.elapsed().as_secs_f64(), &[KeyValue::new("signal", signal)]);
        accepted
    }

    fn limits(&self) -> &Limits {
        self.pipeline.limits()
    }

    fn door(&self) -> &Door {
        self.pipeline.door()
    }

    fn admission(&self) -> &Admission {
        self.pipeline.admission()
    }

    fn refused(&self, signal: Signal, kind: ErrorKind) {
        self.pipeline.refused(signal, kind);
    }

    fn rejected(&self, signal: Signal, n_records: u64) {
        self.pipeline.rejected(signal, n_records);
    }
}
