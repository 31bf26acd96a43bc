//! P6, P6b and P14 of `docs/performance.md`: what pricing, dividing and writing a model call costs.
//!
//! P14 prices one usage of a dozen models, against the genai-prices crate on the same. P6 charges and divides the
//! calls of folded sessions on one core: short ones for throughput, then 10 to 1,000 calls for growth. P6b books a
//! session of 200 calls with 90 tools, once as a whole and once call by call as it happens live, into a lake on
//! disk, and divides lines and bytes by calls, before and after compaction.
//!
//! Run by `cargo xtask bench`, or `cargo bench -p spanledger-ledger --bench ledger [-- P6 P6b P14]`. Prints, asserts
//! nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark speaks on its terminal and stops where it cannot measure"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use spanledger_lake::tables::{Table, ledger_lines};
use spanledger_lake::{Commit, Lake, LakeOptions, Replay, TableRows, WalRecord};
use spanledger_ledger::attribution::{Policy, book_lines};
use spanledger_ledger::charge::{Charge, charge};
use spanledger_ledger::fold::{Folded, fold};
use spanledger_ledger::prices::{PriceBook, PriceQuery};
use spanledger_ledger::rating;
use spanledger_ledger::settle::lines::Lines;
use spanledger_model::call::{Dimensions, McpFields, ModelFields, Sizes};
use spanledger_model::clock::SystemClock;
use spanledger_model::{
    CallKind, LedgerLine, Observation, ObservationId, Role, Source, SpanId, Status, TenantId, TraceId, Usage,
};

/// The allocator of the binary, so that the functions are timed as they run there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a function is repeated.
const FUNCTION_TIME: Duration = Duration::from_secs(2);
/// 2026-11-18T09:00:00Z: sessions start on the hour.
const START_NS: i64 = 1_794_992_400_000_000_000;
/// Time between two calls of a session: a model's answer and its tools.
const CALL_NS: i64 = 10_000_000_000;

const MODELS: [(&str, &str); 12] = [
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-opus-4-1"),
    ("anthropic", "claude-haiku-4-5"),
    ("openai", "gpt-5"),
    ("openai", "gpt-5-mini"),
    ("openai", "gpt-4o"),
    ("openai", "o3"),
    ("google", "gemini-2.5-pro"),
    ("google", "gemini-2.5-flash"),
    ("mistral", "mistral-large-latest"),
    ("deepseek", "deepseek-chat"),
    ("groq", "llama-3.3-70b-versatile"),
];

fn main() {
    let wanted: Vec<String> = std::env::args().filter(|argument| argument.starts_with('P')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    if is_wanted("P14") {
        price_engine();
    }
    if is_wanted("P6") {
        throughput();
        growth();
    }
    if !is_wanted("P6b") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(volume());
}

/// Nanoseconds of CPU a repetition of `function`, which does `n` things: other load on the machine does not count.
fn time(n: usize, mut function: impl FnMut()) -> f64 {
    function();
    let (started, cpu) = (Instant::now(), cpu_ns());
    let mut n_runs = 0_usize;
    while started.elapsed() < FUNCTION_TIME {
        function();
        n_runs += 1;
    }
    (cpu_ns() - cpu) as f64 / (n_runs * n) as f64
}

/// CPU time of this thread, nanoseconds.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn price_engine() {
    let book = PriceBook::embedded().unwrap();
    let usage = Usage {
        input: Some(12_000),
        cache_read: Some(9_000),
        output: Some(400),
        ..Usage::default()
    };
    let rated = |(provider, model): (&str, &str)| {
        let query = PriceQuery {
            provider: Some(provider),
            model,
            at_ns: START_NS,
            ..PriceQuery::default()
        };
        rating::rate(&book.resolve(&query).unwrap(), &usage).unwrap()
    };
    let ours = time(MODELS.len(), || {
        MODELS.iter().for_each(|model| drop(black_box(rated(*model))))
    });
    let peer = genai_prices::Calculator::bundled();
    let mut peers_usage = genai_prices::Usage::default();
    peers_usage.insert("input_tokens", 12_000.0);
    peers_usage.insert("cache_read_tokens", 9_000.0);
    peers_usage.insert("output_tokens", 400.0);
    let at = std::time::UNIX_EPOCH + Duration::from_nanos(START_NS as u64);
    let theirs = time(MODELS.len(), || {
        for (provider, model) in MODELS {
            let request = genai_prices::PriceRequest::new(model, &peers_usage)
                .with_provider_id(provider)
                .with_timestamp(at);
            black_box(peer.calculate(&request).unwrap());
        }
    });
    println!(
        "P14 price a call, {} models in turn: {ours:.0} ns; genai-prices crate {theirs:.0} ns; ratio {:.3}",
        MODELS.len(),
        ours / theirs
    );
}

/// A session: each call but the last calls one of the tools it sends.
fn session(number: u64, n_calls: usize, n_tools: usize) -> Vec<Observation> {
    let definitions: Vec<String> = (0..n_tools)
        .map(|tool| {
            format!(
                r#"["mcp__server_{}__tool_{tool}",{},"{tool:08x}"]"#,
                tool % 5,
                700 + tool * 37 % 1_900
            )
        })
        .collect();
    let context = format!(r#"{{"system":9000,"tools":[{}]}}"#, definitions.join(","));
    let mut observations = Vec::new();
    let mut input = 20_000_i64;
    let mut before = 0;
    for call in 0..n_calls {
        let at = call as i64 * CALL_NS;
        let mut answer = observation(number, call as u64 * 2, CallKind::Llm, at, 4_000_000_000);
        answer.model = ModelFields {
            provider: Some("anthropic".to_owned()),
            request_model: Some("claude-sonnet-4-5".to_owned()),
            response_id: Some(format!("msg_{number:x}_{call:x}")),
            ..ModelFields::default()
        };
        let output = 150 + call as i64 * 7 % 200;
        answer.usage = Usage {
            input: Some(input),
            cache_read: Some(before),
            cache_write_5m: Some(input - before - 3),
            output: Some(output),
            ..Usage::default()
        };
        answer.context_sizes = (call == 0).then(|| context.clone());
        observations.push(answer);
        let result_tokens = 200 + call as i64 * 131 % 900;
        let mut tool = observation(
            number,
            call as u64 * 2 + 1,
            CallKind::Tool,
            at + 4_500_000_000,
            800_000_000,
        );
        tool.mcp = McpFields {
            server: Some(format!("server_{}", call % n_tools % 5)),
            tool: Some(format!("tool_{}", call % n_tools)),
            ..McpFields::default()
        };
        tool.sizes = Sizes {
            request_bytes: Some(120),
            response_bytes: Some(result_tokens * 4),
            ..Sizes::default()
        };
        observations.push(tool);
        before = input - 3;
        input += output + result_tokens;
    }
    observations
}

fn observation(session: u64, number: u64, kind: CallKind, at_ns: i64, duration_ns: i64) -> Observation {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(session + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    id[8..].copy_from_slice(&(number + 1).wrapping_mul(0xc2b2_ae3d_27d4_eb4f).to_be_bytes());
    let mut span = [0; 8];
    span.copy_from_slice(&id[8..]);
    let mut trace = [7; 16];
    trace[..8].copy_from_slice(&id[..8]);
    Observation {
        tenant: TenantId::from_credential("default"),
        observation_id: ObservationId(id),
        source: Source::Span,
        dialect: "gen_ai".to_owned(),
        scope: Some("agent".to_owned()),
        name: "chat".to_owned(),
        arrived_ns: START_NS,
        role: Role::Leaf,
        kind,
        operation: None,
        start_ns: START_NS + at_ns,
        duration_ns: Some(duration_ns),
        status: Status::Ok,
        error_type: None,
        dimensions: Dimensions {
            service: Some("assistant".to_owned()),
            team: Some("payments".to_owned()),
            user_id: Some("ada@example.com".to_owned()),
            session_id: Some(format!("session-{session}")),
            ..Dimensions::default()
        },
        turn_id: None,
        trace_id: Some(TraceId(trace)),
        span_id: Some(SpanId(span)),
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

struct Prepared {
    observations: Vec<Observation>,
    folded: Folded,
}

fn prepared(number: u64, n_calls: usize, n_tools: usize) -> Prepared {
    let observations = session(number, n_calls, n_tools);
    let folded = fold(&observations);
    Prepared { observations, folded }
}

fn booked(session: &Prepared, book: &PriceBook) -> Vec<LedgerLine> {
    let charges: Vec<Charge> = session
        .folded
        .calls
        .iter()
        .map(|call| charge(call, book, START_NS))
        .collect();
    book_lines(&session.folded, &session.observations, charges, Policy::Prefix)
}

fn throughput() {
    let book = PriceBook::embedded().unwrap();
    let sessions: Vec<Prepared> = (0..200).map(|number| prepared(number, 5, 3)).collect();
    let n_calls = sessions.len() * 5;
    let rating = time(n_calls, || {
        for session in &sessions {
            for call in &session.folded.calls {
                black_box(charge(call, &book, START_NS));
            }
        }
    });
    let all = time(n_calls, || {
        sessions
            .iter()
            .for_each(|session| drop(black_box(booked(session, &book))))
    });
    let folding = time(n_calls, || {
        sessions
            .iter()
            .for_each(|session| drop(black_box(fold(&session.observations))))
    });
    let limit = time(n_calls, || {
        sessions
            .iter()
            .for_each(|session| drop(black_box(session.observations.clone())))
    });
    println!(
        "P6 sessions of 5 calls, 3 tools, one core, a model call: charge {rating:.0} ns, charge + divide into lines {all:.0} ns \
         ({:.0} calls/s); folding its two records before that {folding:.0} ns; copying them {limit:.0} ns",
        1e9 / all
    );
}

fn growth() {
    let book = PriceBook::embedded().unwrap();
    let mut first = None;
    for n_calls in [10, 100, 1_000] {
        let session = prepared(0, n_calls, 10);
        let each = time(n_calls, || drop(black_box(booked(&session, &book))));
        let first = *first.get_or_insert(each);
        println!(
            "P6 session of {n_calls} calls, 10 tools: {each:.0} ns a call, {:.2} times that of 10 calls",
            each / first
        );
    }
}

#[derive(Debug)]
struct NothingToReplay;

impl Replay for NothingToReplay {
    fn rows(&self, _record: &WalRecord) -> spanledger_lake::Result<TableRows> {
        Ok(Vec::new())
    }
}

async fn volume() {
    const N_CALLS: usize = 200;
    const N_TOOLS: usize = 90;
    /// Bytes of a file that a session's lines share with those of others: footer, schema, statistics.
    const N_SESSIONS: u64 = 50;
    let book = PriceBook::embedded().unwrap();
    for is_live in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let options = LakeOptions {
            data_dir: folder.path().to_path_buf(),
            ..LakeOptions::default()
        };
        let lake = Lake::open(options, Arc::new(SystemClock), &NothingToReplay)
            .await
            .unwrap();
        let steps: Vec<usize> = if is_live {
            (1..=N_CALLS).collect()
        } else {
            vec![N_CALLS]
        };
        let mut in_force: Vec<Lines> = (0..N_SESSIONS).map(|_| Lines::default()).collect();
        let sessions: Vec<Vec<Observation>> = (0..N_SESSIONS)
            .map(|number| session(number, N_CALLS, N_TOOLS))
            .collect();
        for step in steps {
            let mut changes = Vec::new();
            for (number, observations) in sessions.iter().enumerate() {
                let observations = observations[..step * 2].to_vec();
                let folded = fold(&observations);
                let wanted = Lines::of(booked(&Prepared { observations, folded }, &book));
                let settled_ns = START_NS + step as i64 * CALL_NS;
                changes.extend(in_force[number].changes_to(&wanted, &number.to_be_bytes(), settled_ns));
                in_force[number] = wanted;
            }
            let commit = Commit {
                adds: vec![ledger_lines::to_batch(&changes)],
                removes: Vec::new(),
                txn: None,
                operation: "SETTLE",
            };
            lake.commit(Table::Ledger, commit).await.unwrap();
        }
        let size = || {
            let stats = lake.stats();
            let ledger = stats.tables.iter().find(|table| table.name == "ledger").unwrap();
            let n_calls = N_SESSIONS as f64 * N_CALLS as f64;
            (ledger.n_rows as f64 / n_calls, ledger.bytes as f64 / n_calls)
        };
        let (lines, bytes) = size();
        while lake.compact().await.unwrap().n_files_removed > 0 {}
        let (lines_after, bytes_after) = size();
        println!(
            "P6b {N_SESSIONS} sessions of {N_CALLS} calls with {N_TOOLS} tools, settled {}: {lines:.1} lines and {bytes:.0} B a model \
             call, after compaction {lines_after:.1} lines and {bytes_after:.0} B",
            if is_live { "after every call" } else { "as a whole" }
        );
        lake.shutdown().await.unwrap();
    }
}
