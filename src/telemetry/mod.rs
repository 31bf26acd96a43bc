//! Our own traces, metrics and logs, through the OpenTelemetry SDK.
//!
//! Logs go to standard error. Metrics are read at `/metrics` ([`instruments`]). Traces leave the process
//! only where `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector, and never into ourselves: every export
//! would cause the next. What our MCP server was asked does go into our own ledger, as calls of an MCP server:
//! that is a figure people ask for, and writing it asks nothing. Nothing secret is logged: no bodies, no headers, no credentials.

mod disk;
mod instruments;
mod own_calls;
mod receive;

use std::net::SocketAddr;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

pub use disk::MeteredFiles;
pub use instruments::{Instruments, observe};
pub use own_calls::{OwnCalls, meter};
pub use receive::MeteredPipeline;

use crate::exit::{Kind, fail};
use crate::output;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";

/// What has to be ended at shutdown.
pub struct Telemetry {
    registry: prometheus::Registry,
    meters: SdkMeterProvider,
    tracers: Option<SdkTracerProvider>,
}

/// Starts logs, and traces where a collector is configured. Called once, within the runtime.
///
/// # Errors
/// Kind invalid for a log filter that cannot be read.
pub fn start(filter: &str, own_addresses: &[SocketAddr]) -> anyhow::Result<Telemetry> {
    let resource = Resource::builder().with_service_name("spanledger").build();
    let registry = prometheus::Registry::new();
    let reader = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .build()?;
    let meters = SdkMeterProvider::builder()
        .with_reader(reader)
        .with_resource(resource.clone())
        .build();
    let tracers = match std::env::var(ENDPOINT) {
        Ok(endpoint) if !endpoint.is_empty() => trace_export(&endpoint, own_addresses, resource)?,
        _ => None,
    };
    let traces = tracers.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("spanledger"))
            .with_location(false)
            .with_threads(false)
            .with_filter(Targets::new().with_target("spanledger", tracing::Level::INFO))
    });
    let installed = tracing_subscriber::registry()
        .with(log_layer(filter)?)
        .with(traces)
        .try_init();
    if installed.is_err() {
        tracing::debug!("telemetry was started before");
    }
    Ok(Telemetry {
        registry,
        meters,
        tracers,
    })
}

/// Logs alone, for commands that run no server.
///
/// # Errors
/// Kind invalid for a log filter that cannot be read.
pub fn start_logs(filter: &str) -> anyhow::Result<()> {
    let installed = tracing_subscriber::registry().with(log_layer(filter)?).try_init();
    if installed.is_err() {
        tracing::debug!("telemetry was started before");
    }
    Ok(())
}

fn log_layer<S>(filter: &str) -> anyhow::Result<impl tracing_subscriber::Layer<S>>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        fail(
            Kind::Invalid,
            format!("cannot read the log filter {filter:?}: {error}; try info or spanledger_lake=debug"),
        )
    })?;
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    Ok(fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .with_filter(filter))
}

fn trace_export(
    endpoint: &str,
    own_addresses: &[SocketAddr],
    resource: Resource,
) -> anyhow::Result<Option<SdkTracerProvider>> {
    if is_own(endpoint, own_addresses) {
        output::note(&format!(
            "note: {ENDPOINT}={endpoint} is this server; its own traces are not exported into itself"
        ));
        return Ok(None);
    }
    if std::env::var(PROTOCOL).is_ok_and(|protocol| protocol.starts_with("http")) {
        output::note(&format!(
            "note: own traces are exported over gRPC only; unset {PROTOCOL} to export them"
        ));
        return Ok(None);
    }
    let exporter = SpanExporter::builder().with_tonic().build().map_err(|error| {
        fail(
            Kind::Invalid,
            format!("cannot export own traces to {ENDPOINT}={endpoint}: {error}"),
        )
    })?;
    Ok(Some(
        SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build(),
    ))
}

/// True where an endpoint is one of our own receivers.
fn is_own(endpoint: &str, own_addresses: &[SocketAddr]) -> bool {
    let authority = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or(authority);
    let Some((host, port)) = authority.rsplit_once(':') else {
        return false;
    };
    spanledger_access::origin::host_is_loopback(host)
        && port
            .parse::<u16>()
            .is_ok_and(|port| own_addresses.iter().any(|address| address.port() == port))
}

impl Telemetry {
    /// The meters of the process.
    pub fn meter_provider(&self) -> &SdkMeterProvider {
        &self.meters
    }

    /// The metrics in the text format of Prometheus.
    ///
    /// # Errors
    /// Where a metric cannot be encoded.
    pub fn render(registry: &prometheus::Registry) -> anyhow::Result<String> {
        Ok(prometheus::TextEncoder::new().encode_to_string(&registry.gather())?)
    }

    /// The registry behind `/metrics`.
    pub fn registry(&self) -> prometheus::Registry {
        self.registry.clone()
    }

    /// Sends what waits and stops.
    pub fn stop(self) {
        if let Some(tracers) = self.tracers
            && let Err(error) = tracers.shutdown()
        {
            tracing::warn!(%error, "own traces were not all exported");
        }
        if let Err(error) = self.meters.shutdown() {
            tracing::debug!(%error, "the meters did not stop");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_traces_never_go_into_this_server() {
        let own = [
            SocketAddr::from(([127, 0, 0, 1], 4317)),
            SocketAddr::from(([127, 0, 0, 1], 4318)),
        ];
        for endpoint in [
            "http://localhost:4317",
            "http://127.0.0.1:4318/",
            "127.0.0.1:4317",
            "http://[::1]:4318/v1",
        ] {
            assert!(is_own(endpoint, &own), "{endpoint}");
        }
        for endpoint in ["http://collector:4317", "http://localhost:4319", "http://localhost"] {
            assert!(!is_own(endpoint, &own), "{endpoint}");
        }
    }

    #[test]
    fn a_bad_log_filter_is_invalid() {
        let error = start_logs("spanledger=loud").map_err(|error| crate::exit::exit_code(&error));
        assert_eq!(error, Err(crate::exit::INVALID));
    }
}
