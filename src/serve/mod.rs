//! `serve`: ports, lake, settlement, receivers and faces in one process, until a signal ends it.
//!
//! Order of start: sockets (so that a port in use is told first), lake (lock, recovery, replay), settler,
//! receivers, faces, screen. Order of stop: not ready, no new requests, open ones drained, flush, settle,
//! release the lock. A second signal ends the process at once; what was acknowledged is in the log.

mod access;
mod admin;
mod credentials;
mod faces;
mod lasting;
mod ports;
mod routes;
mod screen;
mod session;
mod signals;
mod versions;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use spanledger_ingest::Accept as _;
use spanledger_ingest::{Limits, OtlpReplay, Pipeline};
use spanledger_lake::files::Files;
use spanledger_lake::{Lake, LakeOptions};
use spanledger_ledger::settle::{SettleOptions, Settler};
use spanledger_model::Clock;
use spanledger_model::clock::SystemClock;
use spanledger_query::Engine;
use spanledger_query::format::or_space;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use ports::{Addresses, listen};
pub use screen::write_ready_file;
pub use signals::Signals;

use crate::cli::ServeArgs;
use crate::config::Config;
use crate::dialects::Known;
use crate::exit::Outcome;
use crate::output;
use crate::telemetry::{self, MeteredFiles, MeteredPipeline, Telemetry};
use credentials::Credentials;
use ports::Ports;
use versions::Versioned;

/// Time that open requests of the HTTP port get at shutdown. An event stream of an MCP client stays open
/// for as long as it likes, so it is cut off here.
const DRAIN: Duration = Duration::from_secs(3);
/// From the signal to the end, as far as settlement may use it: what supervisors wait for before they kill.
const STOP: Duration = Duration::from_secs(8);
/// The last settlement gets this at least. What it does not finish, the next start does.
const LAST_SETTLEMENT: Duration = Duration::from_secs(2);
/// Characters of a service's name on the screen.
const SERVICE_CHARS_MAX: usize = 100;
/// How often the counters are looked at while the first span is awaited.
const FIRST_SPAN_LOOK: Duration = Duration::from_millis(250);

/// Runs the command.
pub async fn run(args: &ServeArgs, config: Config) -> anyhow::Result<Outcome> {
    let mut signals = Signals::install()?;
    let server = Server::start(&config).await?;
    server.announce(args)?;
    server.advise(&config).await?;
    // With a login the names of senders are their tenants' business.
    let shows_senders = args.print_ports.is_none() && !server.credentials.is_required;
    let first_span = tokio::spawn(first_span(Arc::clone(&server.pipeline), shows_senders));
    signals.wait().await;
    first_span.abort();
    stop_or_second_signal(server, signals).await
}

/// Stops a server in order, unless a second signal comes first.
pub async fn stop_or_second_signal(server: Server, mut signals: Signals) -> anyhow::Result<Outcome> {
    output::note("stopping: writing what was received (a second signal ends at once)");
    tokio::select! {
        stopped = server.stop() => stopped.map(|()| Outcome::Done),
        () = signals.wait() => Ok(Outcome::Done),
    }
}

/// A running server.
pub struct Server {
    /// Where it listens.
    pub addresses: Addresses,
    /// Its lake.
    pub lake: Lake,
    /// Its settlement.
    pub settler: Arc<Settler>,
    /// Its query engine.
    pub engine: Engine,
    /// Its receivers' pipeline.
    pub pipeline: Arc<Pipeline>,
    credentials: Credentials,
    mcp: spanledger_mcp_server::Shared,
    data: std::path::PathBuf,
    telemetry: Telemetry,
    stop: watch::Sender<bool>,
    ready: watch::Sender<bool>,
    tasks: Vec<Task>,
}

/// A receiver or face, and how long its open requests may take once the server stops.
struct Task {
    name: &'static str,
    drain: Duration,
    handle: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    /// Starts everything.
    ///
    /// # Errors
    /// Kind denied for a public address, busy for a port or folder in use, corrupt for a damaged lake.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let config = config.clone().usable()?;
        let dialects = crate::dialects::registry(&config)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ports = Ports::open(&config).await?;
        let addresses = ports.addresses()?;
        let own = [addresses.http, addresses.otlp_grpc, addresses.otlp_http];
        let telemetry = telemetry::start(&config.log.filter.value, &own)?;
        let terms = crate::terms::terms(&config)?;
        let files = MeteredFiles::new(telemetry.meter_provider());
        let lake = open_lake(&config, files, Arc::clone(&clock)).await?;
        let settler = Arc::new(Settler::spawn(
            lake.clone(),
            terms.clone(),
            Arc::clone(&clock),
            SettleOptions::default(),
        ));
        let credentials = Credentials::open(&config, &addresses, &clock).await?;
        let limits = config.ingest_limits()?;
        let pipeline = Pipeline::new(
            lake.clone(),
            credentials.door(),
            limits,
            Arc::clone(&clock),
            Arc::clone(&dialects),
        );
        let reports = faces::reports(&credentials, &config);
        let control =
            faces::ServerControl::new(Arc::clone(&settler), &addresses, clock.now_ns()).with_reports(reports.clone());
        let engine = Engine::with_dialects(lake.clone(), terms.book, clock, Arc::new(Known(dialects)))?
            .with_rules(terms.rules)
            .with_policy(terms.policy);
        engine.keep_rollups()?;
        let (stop, stopped) = watch::channel(false);
        let (own_calls, writing) = telemetry::meter(Arc::clone(&pipeline), stopped.clone());
        let own_calls = Some(own_calls).filter(|_| config.mcp.meter.value);
        let mcp = faces::mcp(&engine, &credentials, &config, own_calls);
        let faces = faces::router(&engine, Arc::new(control), mcp.clone());
        let instruments = telemetry::observe(telemetry.meter_provider(), &lake, &pipeline);
        let (ready, readiness) = watch::channel(true);
        let shared = routes::Shared {
            registry: telemetry.registry(),
            instruments,
            readiness,
        };
        let routes = routes::router(faces, shared, credentials.clone());
        let mut server = Self {
            credentials,
            mcp,
            addresses,
            lake,
            settler,
            engine,
            pipeline,
            data: config.data().to_owned(),
            telemetry,
            stop,
            ready,
            tasks: Vec::new(),
        };
        server.listen(ports, routes, &stopped);
        for what in [Versioned::AllocationRules, Versioned::PriceBook] {
            let (settler, engine) = (Arc::clone(&server.settler), server.engine.clone());
            let followed = versions::follow(what, config.clone(), settler, engine, stopped.clone());
            server.spawn(what.name(), DRAIN, followed);
        }
        server.spawn("own MCP calls", DRAIN, writing);
        let cleared = faces::clear_reports(reports, server.engine.clone(), stopped);
        server.spawn("reports", DRAIN, cleared);
        Ok(server)
    }

    fn listen(&mut self, ports: Ports, faces: axum::Router, stopped: &watch::Receiver<bool>) {
        let drain = Duration::from_millis(self.pipeline.limits().drain_ms);
        let metered = MeteredPipeline::new(self.telemetry.meter_provider(), Arc::clone(&self.pipeline));
        let grpc = spanledger_ingest::serve_grpc(metered.clone(), ports.otlp_grpc, on(stopped));
        self.spawn("OTLP gRPC", drain + DRAIN, async { Ok(grpc.await?) });
        let otlp_http = spanledger_ingest::serve_http(metered, ports.otlp_http, on(stopped));
        self.spawn("OTLP HTTP", drain + DRAIN, async { Ok(otlp_http.await?) });
        let (limits, stopped) = (http_limits(), on(stopped));
        self.spawn("HTTP", DRAIN, async move {
            Ok(spanledger_ingest::serve_router(faces, ports.http, &limits, stopped).await?)
        });
    }

    fn spawn(
        &mut self,
        name: &'static str,
        drain: Duration,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.tasks.push(Task {
            name,
            drain,
            handle: tokio::spawn(task),
        });
    }

    /// Tells where it listens: the ready file, and the screen or its machine-readable form.
    ///
    /// # Errors
    /// Where the ready file or standard output cannot be written.
    pub fn announce(&self, args: &ServeArgs) -> anyhow::Result<()> {
        if args.print_ports.is_none() {
            let is_waiting = self.lake.positions().acknowledged == 0;
            output::print(&screen::render(
                &self.addresses,
                &self.data,
                is_waiting,
                self.credentials.is_required,
            ))?;
        }
        self.announce_to_programs(args)
    }

    /// Says what to do first where credentials are required and nobody has one that makes others.
    async fn advise(&self, config: &Config) -> anyhow::Result<()> {
        let is_open = !self.credentials.is_required || !config.access.oauth.value.is_empty();
        if is_open || self.credentials.keys.has_admin().await? {
            return Ok(());
        }
        output::note(&screen::first_key(&self.data));
        Ok(())
    }

    /// The machine-readable part of [`Self::announce`].
    ///
    /// # Errors
    /// As there.
    pub fn announce_to_programs(&self, args: &ServeArgs) -> anyhow::Result<()> {
        let ports = screen::ports(&self.addresses, &self.data);
        if args.print_ports.is_some() {
            output::print(&format!("{ports}\n"))?;
        }
        if let Some(path) = &args.ready_file {
            screen::write_ready_file(path, &ports)?;
        }
        Ok(())
    }

    /// Stops in order: nothing acknowledged is lost, and what is complete is settled.
    ///
    /// # Errors
    /// Where the lake cannot be written; what was acknowledged is still in its log.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.ready.send_replace(false);
        self.stop.send_replace(true);
        let stopping = Instant::now();
        for Task {
            name,
            drain,
            mut handle,
        } in self.tasks
        {
            match tokio::time::timeout(drain.saturating_sub(stopping.elapsed()), &mut handle).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => tracing::warn!(%error, "{name} ended with an error"),
                Ok(Err(error)) => tracing::error!(%error, "{name} failed"),
                Err(_) => {
                    tracing::info!("{name} still had open requests");
                    handle.abort();
                }
            }
        }
        self.mcp.stop().await;
        self.credentials.audit.flush().await;
        let left = STOP.saturating_sub(stopping.elapsed()).max(LAST_SETTLEMENT);
        match tokio::time::timeout(left, self.settler.settle_now()).await {
            Ok(settled) => settled
                .map(drop)
                .context("the last settlement failed; the next start makes up for it")?,
            Err(_) => {
                self.settler.abort();
                tracing::info!("the last settlement was not finished; the next start goes on with it");
            }
        }
        drop((self.engine, self.settler));
        self.lake.shutdown().await?;
        self.telemetry.stop();
        Ok(())
    }
}

/// The bounds on connections of the HTTP port: those of the receivers.
fn http_limits() -> Limits {
    Limits {
        drain_ms: u64::try_from(DRAIN.as_millis()).unwrap_or(u64::MAX),
        ..Limits::default()
    }
}

/// Opens the lake of a server or of an import: takes its lock, recovers, replays.
///
/// # Errors
/// Kind busy where another process has it.
pub async fn open_lake(config: &Config, files: Arc<dyn Files>, clock: Arc<dyn Clock>) -> anyhow::Result<Lake> {
    Ok(Lake::open_on(lake_options(config), clock, files, &replay(config)?).await?)
}

/// The settings of the lake.
pub fn lake_options(config: &Config) -> LakeOptions {
    LakeOptions {
        data_dir: config.data().to_owned(),
        flush_interval_ms: config.lake.flush_interval_ms.value,
        seal_bytes_max: config.lake.seal_bytes_max.value,
        group_commit_window_us: config.lake.group_commit_window_us.value,
        retention: config.retention.options(),
        ..LakeOptions::default()
    }
}

/// Reads the log as new requests are read.
///
/// # Errors
/// Kind invalid for a dialect or a noise rule that cannot be used.
pub fn replay(config: &Config) -> anyhow::Result<OtlpReplay> {
    Ok(OtlpReplay::new(
        config.ingest_limits()?,
        crate::dialects::registry(config)?,
    ))
}

/// Resolves when the server is to stop.
fn on(stopped: &watch::Receiver<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut stopped = stopped.clone();
    async move {
        // An error means that the sender is gone, which is a stop as well.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }
}

/// Says when the first telemetry came, and from whom.
async fn first_span(pipeline: Arc<Pipeline>, is_shown: bool) {
    let started = Instant::now();
    let mut look = tokio::time::interval(FIRST_SPAN_LOOK);
    loop {
        look.tick().await;
        if let Some(service) = pipeline.meters().read().first_service {
            if is_shown {
                // Anybody who can send a span chooses it.
                let service: String = service.chars().take(SERVICE_CHARS_MAX).map(or_space).collect();
                let line = format!("first span after {} s from {service}\n", started.elapsed().as_secs());
                if output::print(&line).is_err() {
                    tracing::debug!("standard output is closed");
                }
            }
            return;
        }
    }
}
