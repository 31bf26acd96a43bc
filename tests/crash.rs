//! `kill -9` under load, twenty times: what was acknowledged is there, and what was sent again is counted once.
//!
//! Four clients send batches of LLM spans, two over HTTP, two over gRPC, each repeating a batch until it is
//! acknowledged, as an OTLP exporter does. The server is killed after a number of acknowledgements that the
//! seed decides, and started again on the same folder. (A killed process leaves the page cache behind, so
//! this does not test fsync: power loss is another test.)

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use spanledger_testkit::grpc::GrpcClient;
use spanledger_testkit::otlp::{self, Encoding, int as int_attribute, proto, text};
use spanledger_testkit::random::Rng;
use spanledger_testkit::server::{Addresses, Server};
use spanledger_testkit::wait;
use tokio::runtime::Handle;

use crate::support::{BINARY, int};

const KILLS: usize = 20;
const CLIENTS: u64 = 4;
const SPANS_A_BATCH: u64 = 20;
/// A kill comes after at most so many acknowledgements of one life: sometimes before the first flush, sometimes
/// after several.
const ACKNOWLEDGED_A_LIFE_MAX: u64 = 60;
/// Seals and commits many times in each life, so that kills fall into them.
const FLUSH_INTERVAL_MS: &str = "40";
const SEED: u64 = 20_261_122;
const DEADLINE: Duration = Duration::from_secs(60);

type Request = proto::collector::trace::v1::ExportTraceServiceRequest;

/// What the clients share: where the server lives now, when to stop, what is done.
struct Load {
    addresses: Mutex<Addresses>,
    stop: AtomicBool,
    acknowledged: AtomicU64,
    repeated: AtomicU64,
    http: reqwest::Client,
}

/// Batch `number` of `client`: LLM spans that are all different, with tokens that their numbers decide.
fn batch(client: u64, number: u64) -> Request {
    let spans = (0..SPANS_A_BATCH).map(|index| {
        let id = (client << 40) | (number * SPANS_A_BATCH + index + 1);
        let attributes = vec![
            text("gen_ai.operation.name", "chat"),
            text("gen_ai.provider.name", "openai"),
            text("gen_ai.request.model", "gpt-5-mini"),
            text("gen_ai.response.id", &format!("resp-{id}")),
            int_attribute("gen_ai.usage.input_tokens", input_tokens(number, index)),
            int_attribute("gen_ai.usage.output_tokens", 1),
        ];
        let start_ns = 1_790_000_000_000_000_000 + i64::try_from(id % (1 << 40)).unwrap() * 1_000_000;
        otlp::span(id, id, "chat gpt-5-mini", start_ns, 500_000, attributes)
    });
    otlp::traces(
        vec![text("service.name", &format!("client-{client}"))],
        "crash-test",
        spans.collect(),
    )
}

fn input_tokens(number: u64, index: u64) -> i64 {
    i64::try_from(number % 1000 + index + 1).unwrap()
}

/// Sends batches until told to stop; gives back how many. Each is repeated until it is acknowledged.
async fn send(load: Arc<Load>, client: u64) -> u64 {
    let mut number = 0;
    while !load.stop.load(Ordering::SeqCst) {
        let request = batch(client, number);
        let mut tries = 0;
        wait::until("an acknowledgement", DEADLINE, async || {
            tries += 1;
            let addresses = load.addresses.lock().unwrap().clone();
            match client % 2 {
                0 => over_http(&load.http, &addresses, &request).await.map(Some),
                _ => {
                    let connection = GrpcClient::connect(&addresses.otlp_grpc).await?;
                    Ok(Some(connection.export(request.clone()).await.map(|_| ())?))
                }
            }
        })
        .await
        .unwrap();
        load.repeated.fetch_add(u64::from(tries > 1), Ordering::SeqCst);
        load.acknowledged.fetch_add(1, Ordering::SeqCst);
        number += 1;
    }
    number
}

async fn over_http(http: &reqwest::Client, addresses: &Addresses, request: &Request) -> anyhow::Result<()> {
    let body = otlp::protobuf(request);
    let url = format!("{}/v1/traces", addresses.otlp_http);
    let request = http
        .post(url)
        .header("content-type", Encoding::Protobuf.content_type())
        .body(body.bytes);
    request.send().await?.error_for_status()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_twenty_kills_and_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let environment = [("SPANLEDGER_LAKE_FLUSH_INTERVAL_MS", FLUSH_INTERVAL_MS)];
    let start = async || {
        Server::start_with(BINARY, &data, &["serve"], &environment)
            .await
            .unwrap()
    };
    let mut server = start().await;
    let load = Arc::new(Load {
        addresses: Mutex::new(server.addresses().clone()),
        stop: AtomicBool::new(false),
        acknowledged: AtomicU64::new(0),
        repeated: AtomicU64::new(0),
        http: reqwest::Client::builder().timeout(DEADLINE).build().unwrap(),
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let load = load.clone();
            tokio::task::spawn_blocking(move || Handle::current().block_on(send(load, client)))
        })
        .collect();

    let mut rng = Rng::new(SEED);
    for kill in 0..KILLS {
        let goal = load.acknowledged.load(Ordering::SeqCst) + rng.below(ACKNOWLEDGED_A_LIFE_MAX);
        wait::until(
            &format!("{goal} acknowledgements before kill {kill}"),
            DEADLINE,
            async || Ok((load.acknowledged.load(Ordering::SeqCst) >= goal).then_some(())),
        )
        .await
        .unwrap();
        server.kill().unwrap();
        server = start().await;
        *load.addresses.lock().unwrap() = server.addresses().clone();
    }
    load.stop.store(true, Ordering::SeqCst);
    let mut sent = Vec::new();
    for client in clients {
        sent.push(client.await.unwrap());
    }
    server.settled().await.unwrap();

    // every batch that was begun was repeated until it was acknowledged: exactly these must be there
    let n_spans = i64::try_from(sent.iter().sum::<u64>() * SPANS_A_BATCH).unwrap();
    let n_tokens: i64 = sent
        .iter()
        .flat_map(|n_batches| 0..*n_batches)
        .flat_map(|number| (0..SPANS_A_BATCH).map(move |index| input_tokens(number, index)))
        .sum();
    let context = format!(
        "seed {SEED}, {sent:?} batches, {} repeated",
        load.repeated.load(Ordering::SeqCst)
    );
    let repeated = load.repeated.load(Ordering::SeqCst);
    assert!(repeated > 0, "no kill met a request on its way: {context}");
    let spans = server
        .sql_row("SELECT COUNT(*) AS n, COUNT(DISTINCT span_id) AS ids FROM spans")
        .await
        .unwrap();
    assert_eq!(int(&spans, "ids"), n_spans, "acknowledged spans were lost: {context}");
    let calls = server
        .sql_row("SELECT COUNT(*) AS n, SUM(input_tokens) AS input, SUM(output_tokens) AS output FROM calls")
        .await
        .unwrap();
    assert_eq!(int(&calls, "n"), n_spans, "calls: {context}");
    assert_eq!(
        (int(&calls, "input"), int(&calls, "output")),
        (n_tokens, n_spans),
        "tokens: {context}"
    );
    let lines = "SELECT SUM(tokens) AS tokens, COUNT(DISTINCT call_id) AS calls FROM ledger";
    let lines = server.sql_row(lines).await.unwrap();
    assert_eq!(
        (int(&lines, "tokens"), int(&lines, "calls")),
        (n_tokens + n_spans, n_spans),
        "ledger: {context}"
    );
    assert_eq!(int(&spans, "n"), n_spans, "spans were counted twice: {context}");
}
