//! A retry storm: every batch sent one to ten times, over new connections, restarts and compaction, shuffled, in other
//! requests and other bytes. Each (tenant, trace, span, kind) is counted once, and what was sent again is counted as that.
//!
//! What is sent: genuine captures (spans, log records, metric points), and generated spans with known totals, among
//! them MCP calls whose client and server side share one span id. What it must come to: the same as on a server that
//! got everything once, row for row of `calls` and sum for sum of `ledger`, and for the generated part what its
//! generator knows.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde_json::Value;
use spanledger_testkit::captures::Capture;
use spanledger_testkit::grpc::GrpcClient;
use spanledger_testkit::otlp::{self, Body, Encoding, Signal, int as int_attribute, proto, text};
use spanledger_testkit::random::Rng;
use spanledger_testkit::records::Request;
use spanledger_testkit::server::{Addresses, Server};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::{BINARY, LEDGER, data_of, decimal, int, run_ok};

const SEED: u64 = 20_261_123;
/// Emitters of all signals and of both sides of MCP calls.
const CAPTURES: [&str; 7] = [
    "claude-code",
    "claude-code-grpc-subagent",
    "fastmcp-gateway",
    "google-adk",
    "openinference",
    "pydantic-ai",
    "qwen-code",
];
/// A batch is sent at most so often.
const SENT_MAX: u64 = 10;
/// Records of a request that was put together anew.
const REBATCHED_MAX: u64 = 40;
/// Requests on their way at a time.
const SENDERS: usize = 4;
/// Many files, so that compaction in the background has work while the storm lasts.
const ENVIRONMENT: [(&str, &str); 1] = [("SPANLEDGER_LAKE_FLUSH_INTERVAL_MS", "100")];
const DEADLINE: Duration = Duration::from_secs(60);
const SIGNALS: [Signal; 3] = [Signal::Traces, Signal::Logs, Signal::Metrics];

/// Calls that are generated, of each sort.
const GENERATED: u64 = 60;
const GENERATED_SERVICE: &str = "storm-host";
/// 2026-11-21T10:00:00Z, nanoseconds.
const GENERATED_NS: i64 = 1_795_255_200_000_000_000;

/// How a request travels.
#[derive(Debug, Clone, Copy)]
enum Way {
    Http(Compression),
    Grpc(Compression),
}

#[derive(Debug, Clone, Copy)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

/// The ways of JSON first, then those of protobuf alone.
const WAYS: [Way; 6] = [
    Way::Http(Compression::None),
    Way::Http(Compression::Gzip),
    Way::Http(Compression::Zstd),
    Way::Grpc(Compression::None),
    Way::Grpc(Compression::Gzip),
    Way::Grpc(Compression::Zstd),
];
const JSON_WAYS: u64 = 3;

/// Sends a body over a connection of its own; every record must be taken.
async fn send(addresses: &Addresses, body: Body, way: Way) {
    match way {
        Way::Http(compression) => {
            let (bytes, encoding) = match compression {
                Compression::None => (body.bytes.clone(), "identity"),
                Compression::Gzip => (body.gzip().unwrap(), "gzip"),
                Compression::Zstd => (zstd::encode_all(body.bytes.as_slice(), 1).unwrap(), "zstd"),
            };
            let client = reqwest::Client::builder().timeout(DEADLINE).build().unwrap();
            let answer = client
                .post(format!("{}/v1/{}", addresses.otlp_http, body.signal.name()))
                .header("content-type", body.encoding.content_type())
                .header("content-encoding", encoding)
                .body(bytes)
                .send()
                .await
                .unwrap();
            let status = answer.status().as_u16();
            let said = answer.bytes().await.unwrap();
            assert_eq!(status, 200, "{way:?} {}", String::from_utf8_lossy(&said));
        }
        Way::Grpc(compression) => {
            let connection = GrpcClient::connect(&addresses.otlp_grpc).await.unwrap();
            let connection = match compression {
                Compression::None => connection,
                Compression::Gzip => connection.gzipped(),
                Compression::Zstd => connection.zstd(),
            };
            let n_rejected = connection.send(Request::read(&body).unwrap()).await.unwrap();
            assert_eq!(n_rejected, 0, "{way:?}");
        }
    }
}

/// Sends requests, a few at a time.
async fn send_all(server: &Server, deliveries: Vec<(Body, Way)>) {
    let mut waiting = deliveries.into_iter();
    let mut sending = JoinSet::new();
    loop {
        while sending.len() < SENDERS
            && let Some((body, way)) = waiting.next()
        {
            let addresses = server.addresses().clone();
            sending.spawn(async move { send(&addresses, body, way).await });
        }
        match sending.join_next().await {
            Some(sent) => sent.unwrap(),
            None => return,
        }
    }
}

/// Generated telemetry: model calls of one to `GENERATED` tokens each, and MCP calls whose two sides share a span id.
fn generated() -> Vec<Request> {
    let (mut host, mut server) = (Vec::new(), Vec::new());
    for number in 1..=GENERATED {
        let start_ns = GENERATED_NS + i64::try_from(number).unwrap() * 10_000_000_000;
        let model = [
            text("gen_ai.operation.name", "chat"),
            text("gen_ai.provider.name", "openai"),
            text("gen_ai.request.model", "gpt-5-mini"),
            text("gen_ai.response.id", &format!("storm-{number}")),
            int_attribute("gen_ai.usage.input_tokens", i64::try_from(number).unwrap()),
            int_attribute("gen_ai.usage.output_tokens", 2),
        ];
        host.push(otlp::span(
            number,
            number,
            "chat gpt-5-mini",
            start_ns,
            1_000_000_000,
            model.to_vec(),
        ));
        let tool = [
            text("mcp.method.name", "tools/call"),
            text("gen_ai.tool.name", "get_forecast"),
        ];
        let id = GENERATED + number;
        let client = otlp::span(
            number,
            id,
            "tools/call get_forecast",
            start_ns + 2_000_000_000,
            1_000_000_000,
            tool.to_vec(),
        );
        let mut served = otlp::span(
            number,
            id,
            "tools/call get_forecast",
            start_ns + 2_100_000_000,
            800_000_000,
            tool.to_vec(),
        );
        served.kind = proto::trace::v1::span::SpanKind::Server as i32;
        host.push(client);
        server.push(served);
    }
    [(GENERATED_SERVICE, host), ("storm-weather", server)]
        .into_iter()
        .map(|(service, spans)| Request::Traces(otlp::traces(vec![text("service.name", service)], "storm", spans)))
        .collect()
}

/// Everything that is sent once.
fn batches() -> Vec<Request> {
    let of_captures = CAPTURES
        .iter()
        .flat_map(|name| Capture::load(name).unwrap().bodies)
        .map(|body| Request::read(&body).unwrap());
    of_captures.chain(generated()).collect()
}

/// Every batch one to ten times: to the letter, as JSON or protobuf in other bytes, or its records shuffled among
/// those of the other batches. The first time of each is in it.
fn storm(batches: &[Request], rng: &mut Rng) -> Vec<(Body, Way)> {
    let mut bodies = Vec::new();
    let mut rebatched: BTreeMap<&str, Vec<Request>> = BTreeMap::new();
    for batch in batches {
        for _ in 0..=rng.below(SENT_MAX) {
            match rng.below(4) {
                0 => bodies.push(batch.write(Encoding::Protobuf).unwrap()),
                1 => bodies.push(batch.write(Encoding::Json).unwrap()),
                2 => bodies.push(batch.write(Encoding::Protobuf).unwrap().reencoded()),
                _ => rebatched
                    .entry(batch.signal().name())
                    .or_default()
                    .extend(batch.records()),
            }
        }
    }
    for signal in SIGNALS {
        let mut records = rebatched.remove(signal.name()).unwrap_or_default();
        rng.shuffle(&mut records);
        while !records.is_empty() {
            let n_records = records.len().min(1 + rng.below(REBATCHED_MAX) as usize);
            let request = Request::together(signal, &records.split_off(records.len() - n_records));
            let encoding = [Encoding::Protobuf, Encoding::Json][rng.below(2) as usize];
            bodies.push(request.write(encoding).unwrap());
        }
    }
    rng.shuffle(&mut bodies);
    bodies
        .into_iter()
        .map(|body| {
            let n_ways = match body.encoding {
                Encoding::Protobuf => WAYS.len() as u64,
                Encoding::Json => JSON_WAYS,
            };
            (body, WAYS[rng.below(n_ways) as usize])
        })
        .collect()
}

/// Records by signal.
type Counts = BTreeMap<&'static str, u64>;

fn counts<'b>(bodies: impl Iterator<Item = &'b Body>) -> Counts {
    let mut counts = Counts::new();
    for body in bodies {
        *counts.entry(body.signal.name()).or_default() += Request::read(body).unwrap().records().len() as u64;
    }
    counts
}

/// What `spanledger_{spans,logs,metrics}_deduplicated_total` say, of one way of recognising.
async fn deduplicated(server: &Server, by: &str) -> Counts {
    let metrics = server.get("/metrics").await.unwrap().text();
    let read = |name: &str| {
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(&format!("by=\"{by}\"")));
        let values: Vec<f64> = lines
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(values.len(), 1, "{name} of {by}:\n{metrics}");
        values[0] as u64
    };
    BTreeMap::from([
        ("traces", read("spanledger_spans_deduplicated_total{")),
        ("logs", read("spanledger_logs_deduplicated_total{")),
        ("metrics", read("spanledger_metrics_deduplicated_total{")),
    ])
}

fn add(sum: &mut Counts, counts: &Counts) {
    for (signal, count) in counts {
        *sum.entry(signal).or_default() += count;
    }
}

/// A server on a folder, under rules that leave no span out as noise: what is stored is what was sent.
async fn start(folder: &TempDir) -> Server {
    let rules = folder.path().join("all.toml");
    std::fs::write(&rules, "[[noise]]\nrule = \"all\"\nkeep = 1.0\n").unwrap();
    let arguments = ["serve", "--config", rules.to_str().unwrap()];
    Server::start_with(BINARY, &data_of(folder), &arguments, &ENVIRONMENT)
        .await
        .unwrap()
}

/// `lake compact`: rows of the raw tables that repeated another.
fn compact(folder: &TempDir) -> u64 {
    let data = data_of(folder);
    let arguments = ["lake", "compact", "--data", data.to_str().unwrap(), "--format", "json"];
    let report: Value = serde_json::from_str(&run_ok(folder.path(), &arguments)).unwrap();
    report["n_rows_deduplicated"].as_u64().unwrap()
}

const CALLS: &str = "SELECT * FROM calls ORDER BY call_id";

/// Rows of the raw tables.
async fn stored(server: &Server) -> Counts {
    let mut counts = Counts::new();
    for (signal, table) in [("traces", "spans"), ("logs", "logs"), ("metrics", "metrics")] {
        let row = server
            .sql_row(&format!("SELECT COUNT(*) AS n FROM {table}"))
            .await
            .unwrap();
        counts.insert(signal, int(&row, "n").unsigned_abs());
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_storm_is_counted_once_and_what_was_sent_again_is_counted_as_that() {
    let batches = batches();
    let mut identities: BTreeMap<&str, HashSet<Vec<u8>>> = BTreeMap::new();
    for record in batches.iter().flat_map(Request::records) {
        identities
            .entry(record.signal().name())
            .or_default()
            .insert(record.identity());
    }
    let distinct: Counts = SIGNALS
        .iter()
        .map(|signal| (signal.name(), identities[signal.name()].len() as u64))
        .collect();

    // once
    let calm = TempDir::new().unwrap();
    let reference = start(&calm).await;
    let once: Vec<(Body, Way)> = batches
        .iter()
        .map(|batch| (batch.write(Encoding::Protobuf).unwrap(), WAYS[0]))
        .collect();
    send_all(&reference, once).await;
    reference.settled().await.unwrap();
    let expected_calls = reference.sql(CALLS).await.unwrap();
    let expected_ledger = reference.sql(LEDGER).await.unwrap();
    drop(reference);

    // the storm, in four lives
    let mut rng = Rng::new(SEED);
    let mut deliveries = storm(&batches, &mut rng);
    let n_sent = counts(deliveries.iter().map(|(body, _)| body));
    let n_requests = deliveries.len();
    let part = n_requests.div_ceil(3);
    let folder = TempDir::new().unwrap();
    let mut by_request = Counts::new();

    let server = start(&folder).await;
    send_all(&server, deliveries.split_off(n_requests - part)).await;
    server.settled().await.unwrap();
    add(&mut by_request, &deduplicated(&server, "request").await);
    assert!(server.stop().await.unwrap().success());
    let n_first_compaction = compact(&folder);

    let mut server = start(&folder).await;
    send_all(&server, deliveries.split_off(deliveries.len() - part)).await;
    add(&mut by_request, &deduplicated(&server, "request").await);
    server.kill().unwrap();

    let server = start(&folder).await;
    send_all(&server, deliveries).await;
    server.settled().await.unwrap();
    add(&mut by_request, &deduplicated(&server, "request").await);
    let before = (server.sql(CALLS).await.unwrap(), server.sql(LEDGER).await.unwrap());
    let rows_before = stored(&server).await;
    assert!(server.stop().await.unwrap().success());
    compact(&folder);

    let server = start(&folder).await;
    server.settled().await.unwrap();
    let context = format!("seed {SEED}, {n_requests} requests of {n_sent:?}, {distinct:?} of them distinct");

    // counted once, in calls and ledger, before and after compaction
    let after = (server.sql(CALLS).await.unwrap(), server.sql(LEDGER).await.unwrap());
    for (calls, ledger) in [before, after] {
        assert_eq!(calls.len(), expected_calls.len(), "calls: {context}");
        for (call, expected) in calls.iter().zip(&expected_calls) {
            assert_eq!(call, expected, "{context}");
        }
        assert_eq!(ledger.len(), expected_ledger.len(), "ledger: {context}");
        for (line, expected) in ledger.iter().zip(&expected_ledger) {
            assert_eq!(line, expected, "{context}");
        }
    }
    let generated = server
        .sql_row(
            "SELECT COUNT(*) FILTER (WHERE kind = 'llm') AS llm, SUM(input_tokens) AS input, SUM(output_tokens) AS output,
                    COUNT(*) FILTER (WHERE kind = 'tool') AS tools, SUM(hops) FILTER (WHERE kind = 'tool') AS hops
             FROM calls WHERE service = 'storm-host'",
        )
        .await
        .unwrap();
    let n = i64::try_from(GENERATED).unwrap();
    let truth = [
        ("llm", n),
        ("input", n * (n + 1) / 2),
        ("output", 2 * n),
        ("tools", n),
        ("hops", 2 * n),
    ];
    for (column, expected) in truth {
        assert_eq!(
            int(&generated, column),
            expected,
            "{column} of the generated calls: {context}"
        );
    }
    let totals = server
        .sql_row("SELECT (SELECT SUM(own_cost) FROM calls) AS calls, (SELECT SUM(effective_cost) FROM ledger) AS lines")
        .await
        .unwrap();
    assert_eq!(decimal(&totals, "calls"), decimal(&totals, "lines"), "{context}");

    // what is stored is each record once
    assert_eq!(stored(&server).await, distinct, "stored: {context}");
    let repeated = server
        .sql(
            "SELECT source, observation_id FROM observations GROUP BY source, observation_id HAVING COUNT(*) > 1
             UNION ALL SELECT 'spans', span_id FROM spans GROUP BY trace_id, span_id, kind HAVING COUNT(*) > 1",
        )
        .await
        .unwrap();
    assert_eq!(repeated.len(), 0, "{repeated:?} {context}");

    // and what was sent again is counted, once, where it was recognised
    let by_compaction = deduplicated(&server, "compaction").await;
    for signal in SIGNALS.map(Signal::name) {
        let sent_again = n_sent[signal] - distinct[signal];
        assert!(
            by_request[signal] > 0 && by_compaction[signal] > 0,
            "{signal}: {context}"
        );
        assert_eq!(
            by_request[signal] + by_compaction[signal],
            sent_again,
            "{signal}: {by_request:?} by request, {by_compaction:?} by compaction; {context}"
        );
    }
    assert!(
        n_first_compaction > 0,
        "nothing was sent again before the first compaction: {context}"
    );
    assert!(rows_before["traces"] >= distinct["traces"], "{rows_before:?} {context}");
}
