//! Settling a million model calls: how fast, in how much memory, and the same for a start and for a rebuild.
//!
//! Sessions of an agent over one simulated day: most short, some of 200 calls over half an hour, each call with its
//! cache and a tool call, a correction of one session in a hundred an hour later. They are written into a lake on disk
//! in slices of simulated time and settled after each, as a server does; then, each in a process of its own, a settler
//! starts on the whole lake, and one rebuilds it. Peak resident memory is that of the whole process, the lake's buffers and its compaction included.
//!
//! Run: `cargo bench -p spanledger-ledger --bench settlement -- 1000000 [FOLDER]` (10,000 calls by default). Prints,
//! and stops where the rebuild finds anything to write.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark speaks on its terminal and stops where it cannot measure"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use spanledger_lake::tables::{Table, observations};
use spanledger_lake::{Lake, LakeOptions, Replay, TableRows, WalRecord};
use spanledger_ledger::prices::PriceBook;
use spanledger_ledger::settle::{SettleOptions, SettleReport, Settler};
use spanledger_model::call::{Dimensions, McpFields, ModelFields, Sizes};
use spanledger_model::clock::SystemClock;
use spanledger_model::{CallKind, Observation, ObservationId, Role, Source, SpanId, Status, TenantId, TraceId, Usage};
use spanledger_testkit::random::Rng;

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SECOND_NS: i64 = 1_000_000_000;
/// 2026-11-18T00:00:00Z.
const START_NS: i64 = 1_794_960_000 * SECOND_NS;
/// Sessions start within this time; half an hour later the last has ended.
const STARTS_NS: i64 = 23 * 3_600 * SECOND_NS;
/// Simulated time of a slice, and slices of the day.
const SLICE_NS: i64 = 300 * SECOND_NS;
const SLICES: usize = 290;
/// Time between two calls of a session.
const CALL_NS: i64 = 10 * SECOND_NS;
/// Observations of a request.
const REQUEST: usize = 1_000;

#[derive(Debug)]
struct NothingToReplay;

impl Replay for NothingToReplay {
    fn rows(&self, _record: &WalRecord) -> spanledger_lake::Result<TableRows> {
        Ok(Vec::new())
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let n_calls = arguments.next().map_or(10_000, |text| text.parse().unwrap());
    let scratch = tempfile::tempdir().unwrap();
    let folder: PathBuf = arguments.next().map_or(scratch.path().to_owned(), Into::into);
    let phase = arguments.next();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    match phase.as_deref() {
        Some(phase) => runtime.block_on(settle_again(&folder, phase == "rebuild")),
        None => runtime.block_on(run(n_calls, &folder)),
    }
    if phase.is_none() {
        // Each in a process of its own, so that its memory is its own.
        for phase in ["restart", "rebuild"] {
            let program = std::env::current_exe().unwrap();
            let folder = folder.to_str().unwrap();
            let arguments = [n_calls.to_string(), folder.to_owned(), phase.to_owned()];
            let status = std::process::Command::new(program).args(arguments).status().unwrap();
            assert!(status.success(), "{phase} failed");
        }
    }
}

/// What a server does when it starts on the lake, or the rebuild of all of it.
async fn settle_again(folder: &Path, is_rebuild: bool) {
    let mut options = LakeOptions {
        data_dir: folder.to_owned(),
        ..LakeOptions::default()
    };
    options.compaction.enabled = false;
    let lake = Lake::open(options, Arc::new(SystemClock), &NothingToReplay)
        .await
        .unwrap();
    let (name, opened_mib, started) = (
        if is_rebuild { "rebuild" } else { "restart" },
        peak_mib(),
        Instant::now(),
    );
    let settler = settler(&lake);
    let report = if is_rebuild {
        settler.rebuild().await.unwrap()
    } else {
        settler.settle_now().await.unwrap()
    };
    println!(
        "{name}: {:.0} s, {} components folded, {} calls and {} lines written; peak resident memory {} MiB, {opened_mib} MiB \
         when the lake was open",
        started.elapsed().as_secs_f64(),
        report.n_components,
        report.n_calls_written,
        report.n_lines,
        peak_mib()
    );
    assert_eq!(
        (report.n_calls_written, report.n_calls_outdated, report.n_lines),
        (0, 0, 0)
    );
    drop(settler);
    lake.shutdown().await.unwrap();
}

async fn run(n_calls: usize, folder: &Path) {
    let mut options = LakeOptions {
        data_dir: folder.to_owned(),
        ..LakeOptions::default()
    };
    // To tell settlement's memory from that of compaction.
    options.compaction.enabled = std::env::var_os("NO_COMPACTION").is_none();
    let lake = Lake::open(options, Arc::new(SystemClock), &NothingToReplay)
        .await
        .unwrap();
    println!(
        "{n_calls} model calls: resident memory before anything {} MiB",
        peak_mib()
    );
    let started = Instant::now();
    let (n_observations, live, settling) = settle_live(&lake, n_calls).await;
    println!(
        "live: {n_observations} observations in {:.0} s, of which settling {:.0} s ({:.0} calls/s); peak resident memory {} MiB; \
         {} lines appended, {} of them reversals",
        started.elapsed().as_secs_f64(),
        settling.as_secs_f64(),
        n_calls as f64 / settling.as_secs_f64(),
        peak_mib(),
        live.n_lines,
        live.n_reversals,
    );
    let started = Instant::now();
    lake.compact_all().await.unwrap();
    let stats = lake.stats();
    for name in ["observations", "calls", "ledger"] {
        let table = stats.tables.iter().find(|table| table.name == name).unwrap();
        println!(
            "{name}: {} rows in {} files, {:.2} rows and {:.0} bytes a model call",
            table.n_rows,
            table.n_files,
            table.n_rows as f64 / n_calls as f64,
            table.bytes as f64 / n_calls as f64
        );
    }
    println!(
        "compaction took {:.0} s; peak resident memory since the start {} MiB",
        started.elapsed().as_secs_f64(),
        peak_mib()
    );
    lake.shutdown().await.unwrap();
}

fn settler(lake: &Lake) -> Settler {
    let book = PriceBook::embedded().unwrap();
    Settler::spawn(lake.clone(), book, Arc::new(SystemClock), SettleOptions::default())
}

/// Writes and settles slice by slice; only the sessions of a slice are held.
async fn settle_live(lake: &Lake, n_calls: usize) -> (usize, SettleReport, Duration) {
    let settler = settler(lake);
    let mut slices: Vec<Vec<Observation>> = (0..SLICES).map(|_| Vec::new()).collect();
    let mut starts = Vec::new();
    let (mut rng, mut n_planned) = (Rng::new(4), 0);
    while n_planned < n_calls {
        let length = match rng.below(20) {
            0 => 200,
            1..=4 => 40,
            _ => 1 + rng.below(15) as usize,
        }
        .min(n_calls - n_planned);
        let start_ns = START_NS + rng.below(STARTS_NS as u64) as i64;
        starts.push((start_ns, starts.len() as u64, length));
        n_planned += length;
    }
    starts.sort_unstable();
    let mut starts = starts.into_iter().peekable();
    let (mut n_observations, mut settling, mut total) = (0, Duration::ZERO, SettleReport::default());
    for slice in 0..SLICES {
        let until_ns = START_NS + (slice as i64 + 1) * SLICE_NS;
        while let Some((start_ns, number, length)) = starts.next_if(|start| start.0 < until_ns) {
            for observation in session(number, start_ns, length) {
                let place = (observation.end_ns() - START_NS).div_euclid(SLICE_NS) as usize;
                let place = if observation.role == Role::Correction {
                    place + 12
                } else {
                    place
                };
                slices[place.min(SLICES - 1)].push(observation);
            }
        }
        let records = std::mem::take(&mut slices[slice]);
        n_observations += records.len();
        for (number, rows) in records.chunks(REQUEST).enumerate() {
            let record = WalRecord {
                kind: 1,
                tenant: TenantId::from_credential("default"),
                arrived_ns: until_ns,
                payload: Bytes::from(format!("{slice} {number}")),
            };
            let rows = vec![(Table::Observations, observations::to_batch(rows))];
            lake.append_batch(record, rows).await.unwrap();
        }
        drop(records);
        lake.flush().await.unwrap();
        let started = Instant::now();
        let report = settler.settle_now().await.unwrap();
        settling += started.elapsed();
        total.n_lines += report.n_lines;
        total.n_reversals += report.n_reversals;
        if slice % 29 == 28 {
            println!(
                "  {:>3} % of the day: {n_observations} observations, settling {:.0} s, peak resident memory {} MiB",
                (slice + 1) * 100 / SLICES,
                settling.as_secs_f64(),
                peak_mib()
            );
        }
    }
    (n_observations, total, settling)
}

/// A session: each call but the last calls one of twenty tools.
fn session(number: u64, start_ns: i64, n_calls: usize) -> Vec<Observation> {
    let mut observations = Vec::with_capacity(n_calls * 2);
    let (mut input, mut before) = (12_000_i64, 0);
    for call in 0..n_calls {
        let at_ns = start_ns + call as i64 * CALL_NS;
        let mut answer = observation(number, call as u64 * 2, CallKind::Llm, at_ns, 4 * SECOND_NS);
        answer.model = ModelFields {
            provider: Some("anthropic".to_owned()),
            request_model: Some("claude-sonnet-4-5".to_owned()),
            response_id: Some(format!("msg_{number:x}_{call:x}")),
            ..ModelFields::default()
        };
        let output = 150 + (number as i64 + call as i64 * 7) % 200;
        answer.usage = Usage {
            input: Some(input),
            cache_read: Some(before),
            cache_write_5m: Some(input - before - 3),
            output: Some(output),
            ..Usage::default()
        };
        if call == 0 && number.is_multiple_of(100) {
            let mut correction = answer.clone();
            correction.role = Role::Correction;
            correction.observation_id.0[15] ^= 0xff;
            correction.usage.output = Some(output + 50);
            observations.push(correction);
        }
        observations.push(answer);
        before = input - 3;
        if call + 1 < n_calls {
            let tool = (number + call as u64) % 20;
            let result_tokens = 200 + (call as i64 * 131 + number as i64) % 900;
            let mut called = observation(
                number,
                call as u64 * 2 + 1,
                CallKind::Tool,
                at_ns + 4 * SECOND_NS,
                SECOND_NS,
            );
            called.mcp = McpFields {
                server: Some(format!("server_{}", tool % 4)),
                tool: Some(format!("tool_{tool}")),
                ..McpFields::default()
            };
            called.sizes = Sizes {
                request_bytes: Some(120),
                response_bytes: Some(result_tokens * 4),
                ..Sizes::default()
            };
            observations.push(called);
            input += output + result_tokens;
        }
    }
    observations
}

fn observation(session: u64, number: u64, kind: CallKind, start_ns: i64, duration_ns: i64) -> Observation {
    let mut rng = Rng::new(session << 20 | number);
    let trace = Rng::new(session ^ 0x7ace).next_u64();
    let mut id = [0; 16];
    id[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
    id[8..].copy_from_slice(&rng.next_u64().to_be_bytes());
    let mut trace_id = [7; 16];
    trace_id[..8].copy_from_slice(&trace.to_be_bytes());
    Observation {
        tenant: TenantId::from_credential("default"),
        observation_id: ObservationId(id),
        source: Source::Span,
        dialect: "gen_ai".to_owned(),
        scope: Some("agent".to_owned()),
        name: "chat".to_owned(),
        arrived_ns: start_ns + duration_ns,
        role: Role::Leaf,
        kind,
        operation: None,
        start_ns,
        duration_ns: Some(duration_ns),
        status: Status::Ok,
        error_type: None,
        dimensions: Dimensions {
            service: Some("assistant".to_owned()),
            team: Some(format!("team-{}", session % 12)),
            user_id: Some(format!("user-{}@example.com", session % 400)),
            session_id: Some(format!("session-{session}")),
            ..Dimensions::default()
        },
        turn_id: None,
        trace_id: Some(TraceId(trace_id)),
        span_id: Some(SpanId(rng.next_u64().to_be_bytes())),
        parent_span_id: None,
        span_kind: Some(3),
        hop: None,
        arguments_hash: None,
        context_sizes: None,
        tool_call_id: None,
        mcp: McpFields::default(),
        model: ModelFields::default(),
        usage: Usage::default(),
        sizes: Sizes::default(),
        reported_cost: None,
        series: None,
    }
}

/// Peak resident memory of the process, MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    kib / 1024
}
