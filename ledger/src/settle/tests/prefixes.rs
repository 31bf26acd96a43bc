//! Settled after every prefix of what arrives, late, out of order, twice, corrected, over restarts and evictions,
//! a lake holds what a settlement from scratch gives (R10 of the reliability rows).
//!
//! From scratch means here: all records that arrived, in memory at once, folded and charged without a lake.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};
use spanledger_model::Hop;
use spanledger_testkit::random::Rng;

use super::*;
use crate::settle::components::{Arrival, Components, Dirty, Position};
use crate::settle::lines::{LineKey, Lines};
use crate::settle::plan::{self, Terms};

const SECOND_NS: i64 = 1_000_000_000;
const HOUR_NS: i64 = 3_600 * SECOND_NS;
/// 2026-11-18T22:00:00Z: sessions go on over midnight.
const BASE_NS: i64 = 1_795_039_200 * SECOND_NS;
const TOOLS: [(&str, &str); 3] = [("weather", "get_forecast"), ("jira", "create"), ("files", "read_file")];
const MODELS: [&str; 2] = ["claude-sonnet-4-5", "gpt-5"];

/// Makes the records of some sessions, with everything that has to be joined across them.
struct World {
    rng: Rng,
    n_made: u64,
    made: Vec<Observation>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: Rng::new(seed),
            n_made: seed << 16,
            made: Vec::new(),
        };
        for number in 0..=world.rng.below(2) {
            world.session(number);
        }
        if world.one_in(2) {
            world.counters();
        }
        world
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.rng.below(n) == 0
    }

    fn next_id(&mut self) -> u64 {
        self.n_made += 1;
        self.n_made
    }

    fn record(&mut self, kind: CallKind, start_ns: i64, duration_ns: i64) -> Observation {
        let id = self.next_id();
        let mut observation = model_call(1, 0, 0);
        observation.observation_id = ObservationId(u128::from(id).to_be_bytes());
        observation.kind = kind;
        observation.start_ns = start_ns;
        observation.duration_ns = Some(duration_ns);
        observation.span_id = SpanId::from_slice(&id.to_be_bytes());
        observation.trace_id = None;
        observation.model = ModelFields::default();
        observation.usage = Usage::default();
        observation.dimensions.service = Some("host".into());
        observation
    }

    fn session(&mut self, number: u64) {
        let session = (!self.one_in(3)).then(|| format!("session-{number}"));
        let mut now_ns = BASE_NS + i64::try_from(self.rng.below(3)).unwrap() * HOUR_NS;
        let mut input = 1_000;
        for turn in 0..=self.rng.below(2) {
            let trace = TraceId::from_slice(&[u8::try_from(number * 16 + turn + 1).unwrap(); 16]);
            let mut agent = self.record(CallKind::Agent, now_ns, 60 * SECOND_NS);
            agent.role = Role::Rollup;
            agent.trace_id = trace;
            agent.dimensions.session_id.clone_from(&session);
            agent.dimensions.agent = Some("triage".into());
            let root = agent.span_id;
            let is_rolled_up = self.one_in(3);
            let has_agent = self.one_in(2);
            for _ in 0..=self.rng.below(2) {
                let output = 20 + i64::try_from(self.rng.below(200)).unwrap();
                input += output + i64::try_from(self.rng.below(3_000)).unwrap();
                let model = MODELS[usize::try_from(self.rng.below(2)).unwrap()];
                self.model_call(&session, trace, root, (now_ns, input, output), model);
                if is_rolled_up {
                    agent.usage.input = Some(agent.usage.input.unwrap_or(0) + input);
                    agent.usage.output = Some(agent.usage.output.unwrap_or(0) + output);
                }
                now_ns += 2 * SECOND_NS;
                if self.one_in(2) {
                    self.tool_call(&session, trace, root, now_ns);
                }
                now_ns += 3 * SECOND_NS;
            }
            if has_agent {
                self.made.push(agent);
            }
            // Some go on after a break, some on another day.
            now_ns += [SECOND_NS, HOUR_NS, 30 * HOUR_NS][usize::try_from(self.rng.below(3)).unwrap()];
        }
    }

    fn model_call(
        &mut self,
        session: &Option<String>,
        trace: Option<TraceId>,
        parent: Option<SpanId>,
        (start_ns, input, output): (i64, i64, i64),
        model: &str,
    ) {
        let mut span = self.record(CallKind::Llm, start_ns, SECOND_NS);
        span.trace_id = trace;
        span.parent_span_id = parent;
        span.model.provider = Some(if model == MODELS[0] { "anthropic" } else { "openai" }.into());
        span.model.request_model = Some(model.into());
        span.usage.input = Some(input);
        span.usage.output = Some(output);
        span.usage.cache_read = self.one_in(2).then_some(input / 2);
        if !self.one_in(3) {
            span.dimensions.session_id.clone_from(session);
        }
        if self.one_in(2) {
            span.model.response_id = Some(format!("msg_{}", self.next_id()));
        }
        if session.is_some() && self.one_in(3) {
            let mut event = span.clone();
            event.observation_id = ObservationId(u128::from(self.next_id()).to_be_bytes());
            event.source = Source::Log;
            event.span_kind = None;
            event.span_id = None;
            event.parent_span_id = None;
            event.trace_id = None;
            event.dimensions.session_id.clone_from(session);
            event.start_ns = span.end_ns();
            event.duration_ns = None;
            event.name = "api_request".into();
            event.reported_cost = FemtoUsd::parse("0.0123");
            self.made.push(event);
        }
        if self.one_in(4) {
            let mut gateway = span.clone();
            gateway.observation_id = ObservationId(u128::from(self.next_id()).to_be_bytes());
            gateway.trace_id = TraceId::from_slice(&u128::from(self.next_id()).to_be_bytes());
            gateway.parent_span_id = None;
            gateway.hop = Some(Hop::Gateway);
            gateway.scope = Some("gateway".into());
            gateway.dimensions = Dimensions {
                service: Some("gateway".into()),
                api_key: Some("key-1".into()),
                ..Dimensions::default()
            };
            gateway.start_ns += 100_000_000;
            gateway.duration_ns = Some(700_000_000);
            gateway.model.response_id = None;
            self.made.push(gateway);
        }
        if self.one_in(3) {
            let mut correction = span.clone();
            correction.observation_id = ObservationId(u128::from(self.next_id()).to_be_bytes());
            correction.role = Role::Correction;
            correction.source = Source::Log;
            correction.span_kind = None;
            correction.trace_id = None;
            correction.span_id = None;
            correction.parent_span_id = None;
            correction.dimensions.session_id.clone_from(session);
            // Hours after its call.
            correction.start_ns = span.end_ns() + i64::try_from(self.rng.below(30)).unwrap() * HOUR_NS;
            correction.duration_ns = None;
            correction.usage.input = Some(input + 500);
            correction.usage.cache_read = None;
            if session.is_some() || correction.model.response_id.is_some() {
                self.made.push(correction);
            }
        }
        self.made.push(span);
    }

    fn tool_call(&mut self, session: &Option<String>, trace: Option<TraceId>, parent: Option<SpanId>, start_ns: i64) {
        let (server, tool) = TOOLS[usize::try_from(self.rng.below(3)).unwrap()];
        let mut host = self.record(CallKind::Tool, start_ns, 2 * SECOND_NS);
        host.name = "execute_tool".into();
        host.trace_id = trace;
        host.parent_span_id = parent;
        host.dimensions.session_id.clone_from(session);
        host.mcp.mcp_method = Some("tools/call".into());
        host.sizes.response_bytes = Some(4_000);
        host.mcp.tool = Some(match self.rng.below(3) {
            0 => tool.into(),
            1 => format!("mcp__{server}__{tool}"),
            _ => hex::encode(Sha256::digest(tool.as_bytes())),
        });
        // The server's span, below the host's or without context.
        let with = self.rng.below(3);
        if with <= 1 {
            let mut answer = self.record(CallKind::Tool, start_ns + 200_000_000, SECOND_NS);
            answer.span_kind = Some(2);
            answer.name = "tools/call".into();
            answer.dimensions = Dimensions {
                service: Some(server.into()),
                ..Dimensions::default()
            };
            answer.mcp.server = Some(server.into());
            answer.mcp.tool = Some(tool.into());
            answer.mcp.mcp_method = Some("tools/call".into());
            if with == 0 {
                answer.trace_id = trace;
                answer.parent_span_id = host.span_id;
            } else {
                answer.trace_id = TraceId::from_slice(&u128::from(self.next_id()).to_be_bytes());
                // Its own process has a span above it that is no observation, or none.
                answer.parent_span_id = self.one_in(2).then_some(SpanId([9; 8]));
            }
            self.made.push(answer);
        }
        self.made.push(host);
    }

    /// Metrics of the host: beside its records, of its sessions or of none, or of a time without records.
    fn counters(&mut self) {
        for _ in 0..=self.rng.below(3) {
            let hours = i64::try_from(self.rng.below(4)).unwrap();
            let mut point = self.record(
                CallKind::Llm,
                BASE_NS + hours * HOUR_NS - 20 * SECOND_NS,
                60 * SECOND_NS,
            );
            point.source = Source::Metric;
            point.name = "claude_code.token.usage".into();
            point.span_kind = None;
            point.span_id = None;
            point.model.request_model = Some(MODELS[0].into());
            point.model.provider = Some("anthropic".into());
            point.usage.input = Some(5_000);
            point.dimensions.session_id = self.one_in(2).then(|| "session-0".into());
            let is_delta = self.one_in(2);
            point.role = if is_delta {
                Role::CounterDelta
            } else {
                Role::CounterCumulative
            };
            point.series = Some(format!("series-{is_delta}"));
            self.made.push(point);
        }
    }
}

/// What a settlement of some records gives that has them all in memory at once.
fn from_scratch(records: &[Observation], terms: &Terms) -> (Vec<Call>, Lines) {
    let mut components = Components::default();
    let dirty = Dirty {
        floor: Position::default(),
        since_ns: 0,
        last_ns: 0,
    };
    for record in records {
        components.add(record.clone(), Some(dirty), Arrival::New);
    }
    assert!(components.link_waiting(|_| true).is_empty());
    let (mut calls, mut lines) = (Vec::new(), Lines::default());
    for id in components.due(|_| true) {
        let desired = plan::desired(components.get(id).unwrap(), components.context(), terms, 0);
        calls.extend(desired.calls.into_values());
        lines.absorb(desired.lines);
    }
    calls.sort_by_key(|call: &Call| (call.start_ns, call.call_id));
    (calls, lines)
}

type Sum = (i64, Option<i64>, Option<i64>, [Option<FemtoUsd>; 3]);

fn sum_of(line: &LedgerLine) -> Sum {
    let costs = [line.list_cost, line.contracted_cost, line.effective_cost];
    (line.n_calls, line.tokens, line.quantity, costs)
}

fn sums(lines: &Lines) -> BTreeMap<LineKey, Sum> {
    lines.iter().map(|line| (LineKey::of(line), sum_of(line))).collect()
}

/// Every change of what is in force takes back the whole sum and says the new one, or adds to a carried line.
fn assert_reversed_and_charged(seed: u64, before: &Lines, appended: &[LedgerLine]) {
    let before: BTreeMap<LineKey, &LedgerLine> = before.iter().map(|line| (LineKey::of(line), line)).collect();
    let mut by_key: BTreeMap<LineKey, Vec<&LedgerLine>> = BTreeMap::new();
    for line in appended {
        by_key.entry(LineKey::of(line)).or_default().push(line);
    }
    for (key, lines) in by_key {
        let (reversals, charges): (Vec<&LedgerLine>, Vec<&LedgerLine>) =
            lines.iter().partition(|line| line.line_kind == LineKind::Reversal);
        let Some(before) = before.get(&key) else {
            assert_eq!(
                (reversals.len(), charges.len()),
                (0, 1),
                "seed {seed}: a first charge is one line"
            );
            continue;
        };
        match reversals.as_slice() {
            [] => assert!(
                charges.len() == 1 && charges[0].call_id.is_none() && charges[0].n_calls > 0,
                "seed {seed}: only a carried line is added to"
            ),
            [reversal] => {
                let tokens = reversal.tokens.map(|tokens| -tokens);
                assert_eq!(
                    (tokens, reversal.n_calls, charges.len().min(1)),
                    (before.tokens, -before.n_calls, charges.len()),
                    "seed {seed}: a correction takes back the whole line"
                );
            }
            _ => panic!("seed {seed}: a line is reversed once"),
        }
    }
}

/// What a lake holds, each file read once.
#[derive(Default)]
struct Stored {
    calls: HashMap<String, Vec<Call>>,
    lines: HashMap<String, Vec<LedgerLine>>,
}

impl Stored {
    async fn read(&mut self, lake: &Lake) -> (Vec<Call>, Vec<LedgerLine>) {
        let (mut all_calls, mut all_lines) = (Vec::new(), Vec::new());
        for file in lake.snapshot(Table::Calls).unwrap().files.iter() {
            if !self.calls.contains_key(&file.path) {
                let batches = lake.read_file(Table::Calls, file, None).await.unwrap();
                let rows = batches.iter().flat_map(calls::from_batch).collect();
                self.calls.insert(file.path.clone(), rows);
            }
            all_calls.extend(self.calls[&file.path].iter().cloned());
        }
        for file in lake.snapshot(Table::Ledger).unwrap().files.iter() {
            if !self.lines.contains_key(&file.path) {
                let batches = lake.read_file(Table::Ledger, file, None).await.unwrap();
                let rows = batches.iter().flat_map(ledger_lines::from_batch).collect();
                self.lines.insert(file.path.clone(), rows);
            }
            all_lines.extend(self.lines[&file.path].iter().cloned());
        }
        all_calls.sort_by_key(|call| (call.start_ns, call.call_id));
        (all_calls, all_lines)
    }
}

/// How a seed's settler remembers and forgets.
fn options(rng: &mut Rng) -> SettleOptions {
    SettleOptions {
        observations_max: [1, 8, 40, 100_000][usize::try_from(rng.below(4)).unwrap()],
        quiet_ms: i64::MAX / 2_000_000,
        wait_max_ms: i64::MAX / 2_000_000,
        ..SettleOptions::default()
    }
}

async fn settle_every_prefix(seed: u64, terms: &Terms) {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let mut records = World::new(seed).made;
    rng.shuffle(&mut records);
    // The disk is not what is tested.
    let shm = Path::new("/dev/shm");
    let folder = if shm.is_dir() {
        tempfile::tempdir_in(shm)
    } else {
        tempfile::tempdir()
    }
    .unwrap();
    let mut lake_options = LakeOptions {
        data_dir: folder.path().to_path_buf(),
        flush_interval_ms: 3_600_000,
        ..LakeOptions::default()
    };
    lake_options.compaction.enabled = false;
    lake_options.compaction.files_min = 2;
    let lake = Lake::open(lake_options, Arc::new(SystemClock), &NothingToReplay)
        .await
        .unwrap();
    let spawn = |options| Settler::spawn(lake.clone(), terms.clone(), Arc::new(SystemClock), options);
    let first = options(&mut rng);
    let mut is_whole = first.observations_max > records.len() * 20;
    let mut settler = spawn(first);
    let mut in_lake = Stored::default();
    let (mut n_arrived, mut n_lines, mut in_force) = (0, 0, Lines::default());
    while n_arrived < records.len() {
        let n_new = (1 + usize::try_from(rng.below(5)).unwrap()).min(records.len() - n_arrived);
        let mut batch = records[n_arrived..n_arrived + n_new].to_vec();
        n_arrived += n_new;
        // Some of what arrived before comes again, in another request.
        for _ in 0..rng.below(3) {
            let again = usize::try_from(rng.below(n_arrived as u64)).unwrap();
            batch.push(records[again].clone());
        }
        append(&lake, &batch).await;
        if rng.below(4) == 0 {
            let next = options(&mut rng);
            is_whole = next.observations_max > records.len() * 20;
            settler = spawn(next);
        }
        if rng.below(5) == 0 {
            lake.flush().await.unwrap();
            lake.compact_all().await.unwrap();
        }
        settler.settle_now().await.unwrap();
        let (calls, lines) = from_scratch(&records[..n_arrived], terms);
        let (stored_calls, stored) = in_lake.read(&lake).await;
        assert_eq!(stored_calls, calls, "seed {seed}: calls after {n_arrived} records");
        let now_in_force = Lines::of(stored.iter().cloned());
        assert_eq!(
            sums(&now_in_force),
            sums(&lines),
            "seed {seed}: lines after {n_arrived} records"
        );
        let own: FemtoUsd = calls.iter().filter_map(|call| call.own_cost).sum();
        assert_eq!(cost(&stored), own, "seed {seed}: the lines sum to the calls");
        // Where memory is short a component may be settled twice in a pass, before and after more of it was read.
        if is_whole && let Some(appended) = stored_since(&stored, n_lines) {
            assert_reversed_and_charged(seed, &in_force, &appended);
        }
        n_lines = stored.iter().map(|line| line.settled_ns).max().unwrap_or(0);
        in_force = now_in_force;
    }
    let report = settler.rebuild().await.unwrap();
    assert_eq!(
        (report.n_calls_written, report.n_calls_outdated, report.n_lines),
        (0, 0, 0),
        "seed {seed}: a rebuild finds nothing to write"
    );
}

/// The lines settled after a time, where there are any.
fn stored_since(stored: &[LedgerLine], settled_ns: i64) -> Option<Vec<LedgerLine>> {
    let new: Vec<LedgerLine> = stored
        .iter()
        .filter(|line| line.settled_ns > settled_ns)
        .cloned()
        .collect();
    (!new.is_empty()).then_some(new)
}

fn settle_seeds(seeds: std::ops::Range<u64>) {
    let terms = Terms::from(PriceBook::embedded().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    for seed in seeds {
        runtime.block_on(settle_every_prefix(seed, &terms));
    }
}

#[test]
fn settled_after_every_prefix_the_ledger_is_that_of_a_settlement_from_scratch() {
    settle_seeds(0..30);
}

#[test]
fn more_sessions_settled_after_every_prefix_are_those_of_a_settlement_from_scratch() {
    settle_seeds(30..60);
}

#[test]
fn yet_more_sessions_settled_after_every_prefix_are_those_of_a_settlement_from_scratch() {
    settle_seeds(60..90);
}

#[test]
fn still_more_sessions_settled_after_every_prefix_are_those_of_a_settlement_from_scratch() {
    settle_seeds(90..120);
}
