//! P1 and P2 of `docs/performance.md`: what a span costs on its way in.
//!
//! P2 times the functions (decode, normalise to Arrow) on one core against prost's decode alone of the same
//! bytes. P1 drives the built binary over loopback, gRPC and HTTP, fsync on, and divides the server's own CPU
//! time by the spans, until they are acknowledged and until they are settled; its limit is inflating and
//! decoding the same bodies in this process. The sender shares the machine's cores with the server.
//!
//! Run by `cargo xtask bench`, or `cargo bench --bench ingest -- [--requests N]`. Prints a table, asserts nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark speaks on its terminal and stops where it cannot measure"
)]

use std::hint::black_box;
use std::io::Read as _;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use futures::StreamExt as _;
use prost::Message as _;
use spanledger_ingest::dialects::Registry;
use spanledger_ingest::normalise::{Context, normalise};
use spanledger_ingest::{Encoding, Limits, Signal, decode};
use spanledger_lake::tables::{Table, observations};
use spanledger_model::{Observation, TenantId};
use spanledger_testkit::captures;
use spanledger_testkit::grpc::GrpcClient;
use spanledger_testkit::otlp::{self, int, proto, text};
use spanledger_testkit::server::Server;

/// The allocator of the binary, so that the functions are timed as they run there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Request = proto::collector::trace::v1::ExportTraceServiceRequest;

const BINARY: &str = env!("CARGO_BIN_EXE_spanledger");
/// As performance.md sets it.
const SPANS_A_REQUEST: u64 = 500;
/// Requests a protocol: 400,000 spans, a few seconds of load.
const REQUESTS_DEFAULT: u64 = 800;
/// Requests on the way at once: enough that a group commit has company.
const CONNECTIONS: usize = 16;
/// How long the functions are repeated.
const FUNCTION_TIME: Duration = Duration::from_secs(3);
/// `USER_HZ`: the unit of CPU time in /proc/PID/stat on Linux.
const TICKS_A_SECOND: f64 = 100.0;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let n_requests = arguments
        .iter()
        .position(|argument| argument == "--requests")
        .and_then(|index| arguments.get(index + 1)?.parse().ok())
        .unwrap_or(REQUESTS_DEFAULT);
    let sample = request(0);
    let bytes = sample.encode_to_vec();
    let gzipped = otlp::gzip(&bytes).unwrap();
    println!(
        "{SPANS_A_REQUEST} spans a request, {} attributes, {:.0} B a span raw, {:.0} B gzipped",
        sample.resource_spans[0].scope_spans[0].spans[0].attributes.len(),
        bytes.len() as f64 / SPANS_A_REQUEST as f64,
        gzipped.len() as f64 / SPANS_A_REQUEST as f64,
    );
    functions(&bytes, &gzipped);
    recognition();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    for protocol in [Protocol::Grpc, Protocol::Http] {
        runtime.block_on(server(protocol, n_requests));
    }
}

/// P2: the functions on one core.
fn functions(bytes: &[u8], gzipped: &[u8]) {
    let limits = Limits::default();
    let context = Context {
        tenant: TenantId::from_credential("bench"),
        arrived_ns: 1_790_000_000_000_000_000,
        dialects: Registry::builtin(),
    };
    let decoded = decode(Signal::Traces, Encoding::Protobuf, bytes).unwrap();
    let limit = ns_a_span("P2 limit: prost decode alone", None, || {
        black_box(Request::decode(black_box(bytes)).unwrap());
    });
    ns_a_span("P2 limit: gunzip + prost decode", Some(limit), || {
        let mut inflated = Vec::with_capacity(bytes.len());
        GzDecoder::new(black_box(gzipped)).read_to_end(&mut inflated).unwrap();
        black_box(Request::decode(inflated.as_slice()).unwrap());
    });
    ns_a_span("P2 decode within the memory budget", Some(limit), || {
        black_box(decode(Signal::Traces, Encoding::Protobuf, black_box(bytes)).unwrap());
    });
    ns_a_span("P2 normalise to Arrow", Some(limit), || {
        black_box(normalise(black_box(&decoded), &context, &limits));
    });
    ns_a_span("P2 decode + normalise to Arrow", Some(limit), || {
        let request = decode(Signal::Traces, Encoding::Protobuf, black_box(bytes)).unwrap();
        black_box(normalise(&request, &context, &limits));
    });
}

/// P2 on what real emitters send: all captures, one after the other, with every dialect and with none. The
/// difference, less the time that writing the observations' rows takes, is what recognition costs: finding the
/// rule, reading the fields, building the observations.
fn recognition() {
    let mut bodies = Vec::new();
    let names = captures::names().unwrap();
    for name in &names {
        bodies.extend(captures::Capture::load(name).unwrap().bodies);
    }
    let requests: Vec<_> = bodies
        .iter()
        .map(|body| {
            let signal = match body.signal {
                otlp::Signal::Traces => Signal::Traces,
                otlp::Signal::Logs => Signal::Logs,
                otlp::Signal::Metrics => Signal::Metrics,
            };
            let encoding = match body.encoding {
                otlp::Encoding::Protobuf => Encoding::Protobuf,
                otlp::Encoding::Json => Encoding::Json,
            };
            (signal, encoding, &body.bytes)
        })
        .collect();
    let none =
        Registry::from_files(&[("none".to_owned(), "name = \"gen_ai\"\nconventions = false".to_owned())]).unwrap();
    let limits = Limits::default();
    let context = |dialects| Context {
        tenant: TenantId::from_credential("bench"),
        arrived_ns: 1_795_000_000_000_000_000,
        dialects,
    };
    let read = |context: &Context| {
        let counts = requests.iter().map(|(signal, encoding, bytes)| {
            let request = decode(*signal, *encoding, black_box(bytes)).unwrap();
            black_box(normalise(&request, context, &limits)).n_accepted
        });
        counts.sum::<u64>()
    };
    let (all, none) = (context(Registry::builtin()), context(none));
    let n_records = read(&all);
    println!(
        "P2 captures: {} captures, {} requests, {n_records} records, {} bytes",
        names.len(),
        bodies.len(),
        bodies.iter().map(|body| body.bytes.len()).sum::<usize>()
    );
    let without = ns_each("P2 captures: decode + normalise, no dialect", n_records, None, || {
        black_box(read(&none));
    });
    let with = ns_each(
        "P2 captures: decode + normalise, all dialects",
        n_records,
        Some(without),
        || {
            black_box(read(&all));
        },
    );
    let observed: Vec<Vec<Observation>> = requests
        .iter()
        .map(|(signal, encoding, bytes)| {
            let request = decode(*signal, *encoding, bytes).unwrap();
            let rows = normalise(&request, &all, &limits).rows;
            let batches = rows.iter().filter(|(table, _)| *table == Table::Observations);
            batches.flat_map(|(_, batch)| observations::from_batch(batch)).collect()
        })
        .collect();
    let written = ns_each(
        "P2 captures: writing the observations' rows alone",
        n_records,
        Some(without),
        || {
            observed.iter().filter(|some| !some.is_empty()).for_each(|some| {
                black_box(observations::to_batch(some));
            });
        },
    );
    println!(
        "P2 captures: recognition is {:.0} % of decode + normalise, {:.0} % with its rows written",
        100.0 * (with - without - written) / with,
        100.0 * (with - without) / with
    );
}

/// Repeats `work`, which handles one request of the load, and prints the median time of a span.
fn ns_a_span(name: &str, limit: Option<f64>, work: impl FnMut()) -> f64 {
    ns_each(name, SPANS_A_REQUEST, limit, work)
}

/// Repeats `work`, which handles so many records, and prints the median time of one.
fn ns_each(name: &str, n_records: u64, limit: Option<f64>, mut work: impl FnMut()) -> f64 {
    let mut rounds: Vec<f64> = Vec::new();
    let started = Instant::now();
    while started.elapsed() < FUNCTION_TIME {
        let round = Instant::now();
        work();
        rounds.push(round.elapsed().as_secs_f64() * 1e9 / n_records as f64);
    }
    rounds.sort_by(f64::total_cmp);
    let median = rounds[rounds.len() / 2];
    let ratio = limit
        .map(|limit| format!(", {:.2}x the limit", median / limit))
        .unwrap_or_default();
    println!("{name}: {median:.0} ns each, {:.0} a second{ratio}", 1e9 / median);
    median
}

#[derive(Debug, Clone, Copy)]
enum Protocol {
    Grpc,
    Http,
}

/// P1: the whole server under load over one protocol.
async fn server(protocol: Protocol, n_requests: u64) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(BINARY, &folder.path().join("data")).await.unwrap();
    let grpc = GrpcClient::connect(&server.addresses().otlp_grpc)
        .await
        .unwrap()
        .gzipped();
    let http = reqwest::Client::new();
    let url = format!("{}/v1/traces", server.addresses().otlp_http);

    let idle_cpu = cpu_seconds(server.process_id());
    let started = Instant::now();
    let latencies: Vec<f64> = futures::stream::iter(0..n_requests)
        .map(|number| {
            let (grpc, http, url) = (grpc.clone(), http.clone(), url.clone());
            async move {
                let request = request(number);
                let sent;
                match protocol {
                    Protocol::Grpc => {
                        sent = Instant::now();
                        grpc.export(request).await.unwrap();
                    }
                    Protocol::Http => {
                        let body = otlp::gzip(&request.encode_to_vec()).unwrap();
                        let headers = http.post(url).header("content-type", "application/x-protobuf");
                        sent = Instant::now();
                        headers
                            .header("content-encoding", "gzip")
                            .body(body)
                            .send()
                            .await
                            .unwrap()
                            .error_for_status()
                            .unwrap();
                    }
                }
                sent.elapsed().as_secs_f64() * 1e3
            }
        })
        .buffer_unordered(CONNECTIONS)
        .collect()
        .await;
    let wall = started.elapsed().as_secs_f64();
    let acknowledged_cpu = cpu_seconds(server.process_id()) - idle_cpu;
    let settling = Instant::now();
    server.settled().await.unwrap();
    let settled_after = settling.elapsed().as_secs_f64();
    let settled_cpu = cpu_seconds(server.process_id()) - idle_cpu;

    let n_spans = (n_requests * SPANS_A_REQUEST) as f64;
    let stored = server.sql_row("SELECT COUNT(*) AS n FROM spans").await.unwrap();
    let mut latencies = latencies;
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!("P1 {protocol:?}: {n_spans} spans sent, {} in SQL", stored["n"]);
    println!(
        "P1 {protocol:?}: {:.0} spans/s acknowledged, sender on the same cores",
        n_spans / wall
    );
    println!(
        "P1 {protocol:?}: server CPU {:.2} µs a span until acknowledged, {:.2} µs until committed and settled",
        acknowledged_cpu * 1e6 / n_spans,
        settled_cpu * 1e6 / n_spans
    );
    println!(
        "P1 {protocol:?}: acknowledged after p50 {:.1} ms, p99 {:.1} ms at full load; settled {settled_after:.1} s after the last",
        at(0.5),
        at(0.99)
    );
    println!(
        "P1 {protocol:?}: {:.1} B a span on disk, resident {:.0} MiB",
        disk_bytes(folder.path()) / n_spans,
        resident_mib(&server)
    );
}

/// User and system time that a process has used.
fn cpu_seconds(process_id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process_id}/stat")).unwrap();
    // the name in parentheses may contain anything, so count from its end
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / TICKS_A_SECOND
}

fn resident_mib(server: &Server) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process_id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Bytes of the tables' Parquet files below a folder.
fn disk_bytes(folder: &std::path::Path) -> f64 {
    let mut bytes = 0.0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes += disk_bytes(&path);
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            bytes += std::fs::metadata(&path).unwrap().len() as f64;
        }
    }
    bytes
}

/// MCP-like spans: what a server's instrumentation says about tool calls, 20 attributes each.
fn request(number: u64) -> Request {
    const TOOLS: [&str; 6] = [
        "get_forecast",
        "get_alerts",
        "search_issues",
        "read_file",
        "run_query",
        "list_pages",
    ];
    let spans = (0..SPANS_A_REQUEST).map(|index| {
        let id = number * SPANS_A_REQUEST + index + 1;
        let tool = TOOLS[(id % TOOLS.len() as u64) as usize];
        let attributes = vec![
            text("mcp.method.name", "tools/call"),
            text("gen_ai.operation.name", "execute_tool"),
            text("gen_ai.tool.name", tool),
            text("gen_ai.tool.type", "function"),
            text("mcp.protocol.version", "2026-07-28"),
            text("mcp.session.id", &format!("{:016x}", id / 20)),
            text("jsonrpc.request.id", &(id % 1000).to_string()),
            text("network.transport", "tcp"),
            text("network.protocol.name", "http"),
            text("server.address", "mcp.internal"),
            int("server.port", 8443),
            text("client.address", "10.0.3.17"),
            int("client.port", 40_000 + (id % 20_000) as i64),
            int("spanledger.request_bytes", 80 + (id % 300) as i64),
            int("spanledger.response_bytes", 900 + (id % 9000) as i64),
            text("user_agent.original", "agent-runtime/2.4"),
            text("enduser.id", &format!("user-{}", id % 40)),
            text("gen_ai.conversation.id", &format!("conv-{:08x}", id / 50)),
            int("thread.id", (id % 16) as i64),
            text("code.function.name", "handle_call"),
        ];
        let start_ns = 1_790_000_000_000_000_000 + (id as i64) * 1_000_000;
        let mut span = otlp::span(
            id / 10,
            id,
            &format!("tools/call {tool}"),
            start_ns,
            7_000_000,
            attributes,
        );
        span.kind = 2;
        span
    });
    let resource = vec![text("service.name", "bench-mcp"), text("spanledger.team", "platform")];
    otlp::traces(resource, "mcp-bench", spans.collect())
}
