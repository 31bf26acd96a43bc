//! What the lake's part of ingest costs: CPU a span from `append_batch` to committed Parquet, and the latency
//! of an acknowledgement beside one `fdatasync` of the same bytes. Run:
//! `cargo run --release -p spanledger-lake --example ingest_cost -- [DIR] [N_BATCHES]`
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic)]

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use spanledger_lake::tables::observations;
use spanledger_lake::tables::raw::{SpanRow, SpansBuilder};
use spanledger_lake::{Lake, LakeOptions, Replay, Table, TableRows, WalRecord};
use spanledger_model::clock::SystemClock;
use spanledger_model::observation::{Observation, Role, Source};
use spanledger_model::{CallKind, Clock, SpanId, Status, TenantId, TraceId};

const SPANS_PER_BATCH: usize = 500;
const SENDERS: usize = 4;

struct NoReplay;

impl Replay for NoReplay {
    fn rows(&self, _: &WalRecord) -> spanledger_lake::Result<TableRows> {
        Ok(Vec::new())
    }
}

fn cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10_000
}

fn hash(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn batch(n_batch: u64, now_ns: i64) -> (WalRecord, TableRows) {
    let tenant = TenantId::from_credential("default");
    let resource = vec![
        ("service.version".to_owned(), "1.4.2".to_owned()),
        ("host.name".to_owned(), "host-7".to_owned()),
        ("deployment.environment".to_owned(), "production".to_owned()),
    ];
    let mut spans = SpansBuilder::default();
    let mut seen = Vec::new();
    for n_span in 0..SPANS_PER_BATCH as u64 {
        let number = n_batch * SPANS_PER_BATCH as u64 + n_span;
        let trace = u128::from(hash(number / 5)) << 64 | u128::from(hash(number / 5 + 1));
        let (trace_id, span_id) = (trace.to_be_bytes(), hash(number).to_be_bytes());
        let start_ns = now_ns + number as i64 * 7_000;
        spans.append(&SpanRow {
            tenant: "default",
            start_ns,
            duration_ns: (hash(number) % 50_000_000) as i64,
            trace_id: &trace_id,
            span_id: &span_id,
            parent_span_id: &[],
            name: "tools/call search",
            kind: 3,
            status: "unset",
            status_message: "",
            service: Some("agent-host"),
            scope: "mcp",
            scope_version: "1.0",
            trace_state: "",
            flags: 1,
            resource: &resource,
        });
        for (key, value) in [
            ("mcp.method.name", "tools/call".to_owned()),
            ("gen_ai.tool.name", format!("tool-{}", number % 12)),
            ("mcp.session.id", format!("session-{}", number / 400)),
            ("mcp.protocol.version", "2025-06-18".to_owned()),
            ("jsonrpc.request.id", format!("{number}")),
            ("server.address", format!("mcp-{}.internal", number % 5)),
            ("server.port", "443".to_owned()),
            ("network.transport", "tcp".to_owned()),
            ("user.id", format!("user-{}", number % 40)),
            ("mcp.request.bytes", format!("{}", hash(number) % 4_000)),
        ] {
            spans.attribute(key, &value);
        }
        spans.finish_row();
        seen.push(Observation {
            tenant: tenant.clone(),
            observation_id: Default::default(),
            source: Source::Span,
            dialect: "mcp".to_owned(),
            scope: Some("mcp".to_owned()),
            name: "tools/call search".to_owned(),
            arrived_ns: now_ns,
            role: Role::Leaf,
            kind: CallKind::Tool,
            operation: None,
            start_ns,
            duration_ns: Some(1_000),
            status: Status::default(),
            error_type: None,
            dimensions: Default::default(),
            turn_id: None,
            trace_id: TraceId::from_slice(&trace_id),
            span_id: SpanId::from_slice(&span_id),
            parent_span_id: None,
            span_kind: Some(3),
            hop: None,
            arguments_hash: None,
            context_sizes: None,
            tool_call_id: None,
            mcp: Default::default(),
            model: Default::default(),
            usage: Default::default(),
            sizes: Default::default(),
            reported_cost: None,
            series: None,
        });
    }
    let mut payload = vec![0; SPANS_PER_BATCH * 460];
    payload[..8].copy_from_slice(&n_batch.to_le_bytes());
    let record = WalRecord {
        kind: 1,
        tenant,
        arrived_ns: now_ns,
        payload: Bytes::from(payload),
    };
    let rows = vec![
        (Table::Spans, spans.finish()),
        (Table::Observations, observations::to_batch(&seen)),
    ];
    (record, rows)
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().unwrap_or_else(|| "/tmp/ingest-cost".to_owned());
    let n_batches: u64 = arguments.next().map_or(400, |text| text.parse().unwrap());
    let _ = std::fs::remove_dir_all(&dir);
    let clock = Arc::new(SystemClock);
    let now_ns = clock.now_ns();
    let mut options = LakeOptions {
        data_dir: dir.clone().into(),
        hot_bytes_max: usize::MAX,
        ..LakeOptions::default()
    };
    options.compaction.enabled = false;
    let lake = Lake::open(options, clock, &NoReplay).await.unwrap();

    let batches: Vec<_> = (0..n_batches).map(|n_batch| batch(n_batch, now_ns)).collect();
    let hot_bytes: usize = batches[0].1.iter().map(|rows| rows.1.get_array_memory_size()).sum();
    let n_spans = n_batches * SPANS_PER_BATCH as u64;
    let mut queues: Vec<Vec<_>> = (0..SENDERS).map(|_| Vec::new()).collect();
    for (n_batch, batch) in batches.into_iter().enumerate() {
        queues[n_batch % SENDERS].push(batch);
    }
    let (started, cpu) = (Instant::now(), cpu_us());
    let senders: Vec<_> = queues
        .into_iter()
        .map(|queue| {
            let lake = lake.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                for (record, rows) in queue {
                    let sent = Instant::now();
                    lake.append_batch(record, rows).await.unwrap();
                    latencies.push(sent.elapsed().as_micros());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for sender in senders {
        latencies.extend(sender.await.unwrap());
    }
    latencies.sort_unstable();
    let (acknowledged, cpu_acknowledged) = (started.elapsed(), cpu_us() - cpu);
    lake.flush().await.unwrap();
    let (flushed, cpu_flushed) = (started.elapsed(), cpu_us() - cpu);
    let per_span = |us: u64| us as f64 / n_spans as f64;
    println!("{n_spans} spans, {SPANS_PER_BATCH} a batch, {SENDERS} senders, {hot_bytes} arrow bytes a batch");
    println!(
        "acknowledged: {:.0} spans/s wall, {:.2} us cpu a span; latency p50 {} us, p99 {} us",
        n_spans as f64 / acknowledged.as_secs_f64(),
        per_span(cpu_acknowledged),
        latencies[latencies.len() / 2],
        latencies[latencies.len() * 99 / 100]
    );
    println!(
        "flushed: {:.0} spans/s wall, {:.2} us cpu a span in all",
        n_spans as f64 / flushed.as_secs_f64(),
        per_span(cpu_flushed)
    );
    for table in lake.stats().tables.iter().filter(|table| table.n_rows > 0) {
        println!(
            "{}: {} files, {:.1} B a row",
            table.name,
            table.n_files,
            table.bytes as f64 / table.n_rows as f64
        );
    }
    let (started, cpu) = (Instant::now(), cpu_us());
    let report = lake.compact().await.unwrap();
    println!(
        "compact: {report:?} in {:?}, {:.2} us cpu a span",
        started.elapsed(),
        per_span(cpu_us() - cpu)
    );
    lake.shutdown().await.unwrap();

    // The limit: one fdatasync of a batch's bytes.
    let mut file = std::fs::File::create(format!("{dir}/limit")).unwrap();
    let bytes = vec![1; SPANS_PER_BATCH * 460];
    let mut limits: Vec<u128> = (0..100)
        .map(|_| {
            let sent = Instant::now();
            file.write_all(&bytes).unwrap();
            file.sync_data().unwrap();
            sent.elapsed().as_micros()
        })
        .collect();
    limits.sort_unstable();
    println!(
        "limit: one fdatasync of {} bytes, p50 {} us, p99 {} us",
        bytes.len(),
        limits[50],
        limits[98]
    );
}
