//! Settlement: committed observations to calls and ledger lines, continuously and exactly.
//!
//! Sits behind the lake's flush. Each pass reads the observation files that are new, adds them to their
//! components, and for each component that has been quiet for a moment brings `calls` and `ledger` to the
//! state its observations demand. Guarantees: the result depends on the set of observations only, never on
//! their order, their repeats or a restart; the ledger is append-only, a correction is a reversal plus a new
//! line; a call is one row (changed rows are rewritten in the same commit that adds the new ones). A crash
//! between the two commits is repaired by the next pass, which plans what is still missing.
//!
//!
//! Memory is bounded by [`SettleOptions::observations_max`], not by the lake: settled components are evicted, those
//! that ended first before others, and what they can be found by is remembered ([`memory`]). What a later record
//! belongs to is loaded again before it is folded, so the result is that of a settlement which forgets nothing.
//! After a start, and for a rebuild, the key columns of all observations are read once to fill that memory; the
//! records that may not be settled (after a start: those of files written lately that stand in no call or arrived
//! lately) are then visited in the order of time, with what belongs to them. The bound does not hold against a single
//! component that is larger, for a component is folded as a whole, nor for the ids of the calls of one file's time.
//!
//! | module | what it does |
//! |---|---|
//! | [`reader`] | finds and loads observations, calls and lines |
//! | [`components`], [`links`] | which observations belong together |
//! | [`keys`], [`memory`] | by what observations are found that are not in memory |
//! | [`plan`] | desired state against actual state |
//! | [`lines`] | what lines add up to, and what has to be appended |
//! | [`commit`] | writes the difference |

pub mod commit;
pub mod components;
pub mod keys;
pub mod lines;
pub mod links;
pub mod memory;
pub mod plan;
pub mod reader;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;
use spanledger_lake::tables::Table;
use spanledger_lake::{DataFile, Lake, Positions};
use spanledger_model::{Clock, LineKind, ObservationId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::allocation::RuleSet;
use crate::error::{Error, Result};
use crate::prices::PriceBook;
use components::{Arrival, Ask, ComponentId, Components, Dirty, Position};
use keys::KEY_COLUMNS;
use plan::{Plan, Settled, Terms};
use reader::{Files, Load, Loading, MARK_SLACK_NS, Reader, Rows, from_lake, is_set, mark_of, set_bit};

/// Application id of settlement's commits: its version is the mark of the newest file settled.
pub const APP_ID: &str = "settle";
/// Calls and lines that are planned before they are written: a commit's size, and a few ten megabytes.
const PLAN_MAX: usize = 20_000;
/// Components that are looked for at a time, to begin with and at most.
const ASKED_FIRST: usize = 4_096;
const ASKED_MAX: usize = 65_536;
/// The share of the bound that is taken in at a time: records bring their lines, and are held beside what is there.
const PARTS: usize = 8;

/// Settings of settlement.
#[derive(Debug, Clone)]
pub struct SettleOptions {
    /// A component is settled when nothing came for this long: host spans, events and server spans of one
    /// call arrive within an exporter's interval (1-5 s); settling earlier only means a correction later.
    pub quiet_ms: i64,
    /// A component that never falls quiet is settled after this long, so that the ledger is fresh (10 s).
    pub wait_max_ms: i64,
    /// How often a waiting component is looked at.
    pub tick_ms: u64,
    /// Observations and lines in force that are kept in memory; beyond it settled components are evicted. It bounds
    /// records, not bytes: what the process takes for 100,000 of them is measured in docs/performance.md.
    pub observations_max: usize,
}

impl Default for SettleOptions {
    fn default() -> Self {
        Self {
            quiet_ms: 2_000,
            wait_max_ms: 8_000,
            tick_ms: 500,
            observations_max: 100_000,
        }
    }
}

/// What a settlement did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SettleReport {
    /// Components folded.
    pub n_components: u64,
    /// Calls written, new and revised.
    pub n_calls_written: u64,
    /// Calls revised or taken out.
    pub n_calls_outdated: u64,
    /// Ledger lines appended.
    pub n_lines: u64,
    /// Of these, reversals.
    pub n_reversals: u64,
    /// How far each step has come.
    #[serde(flatten)]
    pub positions: Positions,
}

/// How far a long settlement has come, in rows of observations to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows read.
    pub n_read: u64,
    /// Rows there are to read.
    pub n_total: u64,
}

enum Order {
    SettleNow(oneshot::Sender<Result<SettleReport>>),
    Rebuild(oneshot::Sender<Result<SettleReport>>),
    ChargeBy(Arc<PriceBook>),
    AllocateBy(Arc<RuleSet>),
}

/// A handle to the settlement task. The task ends when the last handle is dropped.
#[derive(Clone)]
pub struct Settler {
    orders: mpsc::Sender<Order>,
    progress: watch::Receiver<Progress>,
    task: AbortHandle,
}

impl std::fmt::Debug for Settler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Settler")
    }
}

impl Settler {
    /// Starts settling a lake.
    #[must_use]
    pub fn spawn(lake: Lake, terms: impl Into<Terms>, clock: Arc<dyn Clock>, options: SettleOptions) -> Self {
        let (orders, inbox) = mpsc::channel(16);
        let (told, progress) = watch::channel(Progress::default());
        let task = tokio::spawn(run(Worker::new(lake, terms.into(), clock, options, told), inbox)).abort_handle();
        Self { orders, progress, task }
    }

    /// Ends the task where it is, in the middle of a settlement too: as after a crash, the next start goes on.
    pub fn abort(&self) {
        self.task.abort();
    }

    /// Flushes and settles everything acknowledged so far, without waiting for quiet.
    ///
    /// # Errors
    /// Those of the lake; Busy where settlement has stopped.
    pub async fn settle_now(&self) -> Result<SettleReport> {
        self.order(Order::SettleNow).await
    }

    /// Compares the whole lake with what its observations demand, and writes the difference.
    ///
    /// # Errors
    /// As [`settle_now`](Self::settle_now).
    pub async fn rebuild(&self) -> Result<SettleReport> {
        self.order(Order::Rebuild).await
    }

    /// Charges by another book from the next pass on, as after a restart: what is settled stays as it is until its
    /// calls are settled again.
    ///
    /// # Errors
    /// Busy where settlement has stopped.
    pub async fn charge_by(&self, book: Arc<PriceBook>) -> Result<()> {
        self.orders.send(Order::ChargeBy(book)).await.map_err(|_| stopped())
    }

    /// Allocates by other rules from the next pass on, likewise.
    ///
    /// # Errors
    /// Busy where settlement has stopped.
    pub async fn allocate_by(&self, rules: Arc<RuleSet>) -> Result<()> {
        self.orders.send(Order::AllocateBy(rules)).await.map_err(|_| stopped())
    }

    /// Tells how far a start or a rebuild has come.
    #[must_use]
    pub fn watch_progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    async fn order(&self, order: fn(oneshot::Sender<Result<SettleReport>>) -> Order) -> Result<SettleReport> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(order(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

fn stopped() -> Error {
    Error::new(
        crate::error::ErrorKind::Busy,
        "settlement has stopped; restart the server",
    )
}

async fn run(mut worker: Worker, mut inbox: mpsc::Receiver<Order>) {
    let mut positions = worker.lake.watch_positions();
    let tick = std::time::Duration::from_millis(worker.options.tick_ms);
    loop {
        let is_waiting = worker.must_retry || worker.components.lowest_floor().is_some();
        tokio::select! {
            order = inbox.recv() => match order {
                Some(Order::SettleNow(reply)) => drop(reply.send(worker.settle_now().await)),
                Some(Order::Rebuild(reply)) => drop(reply.send(worker.rebuild().await)),
                // Between passes: one pass charges by one book.
                Some(Order::ChargeBy(book)) => worker.terms.book = book,
                Some(Order::AllocateBy(rules)) => worker.terms.rules = rules,
                None => return,
            },
            changed = positions.changed() => {
                if changed.is_err() {
                    return;
                }
                // Its own progress changes the positions too: only a flush brings work.
                let flushed = positions.borrow_and_update().flushed;
                if flushed > worker.read.sequence {
                    worker.pass_or_log().await;
                }
            }
            () = tokio::time::sleep(tick), if is_waiting => worker.pass_or_log().await,
        }
    }
}

/// The state of the settlement task.
struct Worker {
    lake: Lake,
    terms: Terms,
    clock: Arc<dyn Clock>,
    options: SettleOptions,
    components: Components,
    reader: Reader,
    /// True once the memory knows every observation that was read.
    is_started: bool,
    /// Components that are looked for at a time, fewer where they proved large.
    asked_max: usize,
    /// How far files were read.
    read: Position,
    /// Newest mark that a commit carried.
    committed_mark: i64,
    /// Files older than this were settled before the process started.
    since: i64,
    must_retry: bool,
    progress: watch::Sender<Progress>,
}

/// One pass over what is new.
struct Pass {
    files: Files,
    dirty: Dirty,
    is_forced: bool,
    /// New records that were not looked for yet.
    fresh: HashSet<ObservationId>,
    /// Rows that were visited, as bits, by file.
    visited: HashMap<String, Vec<u64>>,
    report: SettleReport,
}

impl Pass {
    fn visit(&mut self, path: &str, rows: &[usize]) {
        let Some(bits) = self.visited.get_mut(path) else { return };
        rows.iter().for_each(|row| set_bit(bits, *row));
    }

    fn is_visited(&self, path: &str, row: usize) -> bool {
        self.visited.get(path).is_some_and(|bits| is_set(bits, row))
    }
}

impl Worker {
    fn new(
        lake: Lake,
        terms: Terms,
        clock: Arc<dyn Clock>,
        options: SettleOptions,
        progress: watch::Sender<Progress>,
    ) -> Self {
        let mark = |table| lake.txn_version(table, APP_ID).unwrap_or(0);
        let committed_mark = mark(Table::Calls).min(mark(Table::Ledger));
        Self {
            terms,
            clock,
            options,
            components: Components::default(),
            reader: Reader::default(),
            is_started: false,
            asked_max: ASKED_FIRST,
            read: Position {
                sequence: 0,
                mark: committed_mark,
            },
            committed_mark,
            since: committed_mark.saturating_sub(MARK_SLACK_NS),
            // What was flushed before the process started is looked at once, whether or not more comes.
            must_retry: true,
            progress,
            lake,
        }
    }

    async fn settle_now(&mut self) -> Result<SettleReport> {
        self.lake.flush().await.map_err(from_lake)?;
        self.pass_or_forget(true).await
    }

    async fn rebuild(&mut self) -> Result<SettleReport> {
        self.lake.flush().await.map_err(from_lake)?;
        self.forget();
        self.since = i64::MIN;
        self.pass_or_forget(true).await
    }

    async fn pass_or_log(&mut self) {
        self.must_retry = false;
        if let Err(error) = self.pass_or_forget(false).await {
            tracing::error!(%error, "settlement failed and will be tried again");
        }
    }

    /// A pass. Where it fails nothing is lost: what was not committed is planned again from the lake.
    async fn pass_or_forget(&mut self, is_forced: bool) -> Result<SettleReport> {
        let result = self.pass(is_forced).await;
        if result.is_err() {
            self.forget();
            self.since = self.committed_mark.saturating_sub(MARK_SLACK_NS);
            self.read = Position {
                sequence: self.lake.positions().settled,
                mark: self.committed_mark,
            };
            self.must_retry = true;
        }
        result
    }

    fn forget(&mut self) {
        self.components = Components::default();
        self.reader.reset();
        self.is_started = false;
    }

    /// One pass: read what is new, settle what is due.
    async fn pass(&mut self, is_forced: bool) -> Result<SettleReport> {
        let flushed = self.lake.positions().flushed;
        let now_ns = self.clock.now_ns();
        let (files, new) = self.reader.look(&self.lake, self.since)?;
        let mut pass = Pass {
            files,
            dirty: Dirty {
                floor: self.read,
                since_ns: now_ns,
                last_ns: now_ns,
            },
            is_forced,
            fresh: HashSet::new(),
            visited: HashMap::new(),
            report: SettleReport::default(),
        };
        if self.is_started {
            self.read_new(&mut pass, &new).await?;
        } else if !new.is_empty() {
            self.catch_up(&mut pass, &new).await?;
            self.is_started = true;
            pass.is_forced = true;
        }
        let newest = new.iter().filter_map(|file| mark_of(&file.path)).max();
        self.read = Position {
            sequence: flushed,
            mark: self.read.mark.max(newest.unwrap_or(0)),
        };
        self.complete(&mut pass).await?;
        self.settle(&mut pass).await?;
        self.relieve(&mut pass).await?;
        if self.is_started {
            self.reader.finish(pass.files);
        }
        let floor = self.components.lowest_floor().unwrap_or(self.read);
        self.lake.set_settled(floor.sequence);
        pass.report.positions = self.lake.positions();
        Ok(pass.report)
    }

    /// Takes in new files, a bounded number of records at a time.
    async fn read_new(&mut self, pass: &mut Pass, new: &[DataFile]) -> Result<()> {
        let mut n_read: Vec<(&str, usize)> = Vec::new();
        for file in new {
            let mut rows = Rows::open(&self.lake, file, None).await?;
            while let Some(batch) = rows.next().await? {
                let next = batch.last().map_or(0, |(row, _)| row + 1);
                for (_, observation) in batch {
                    if !self.components.knows(observation.observation_id) {
                        pass.fresh.insert(observation.observation_id);
                        self.components.add(observation, Some(pass.dirty), Arrival::New);
                    }
                }
                n_read.push((&file.path, next));
                if pass.fresh.len() > self.options.observations_max / PARTS {
                    self.complete(pass).await?;
                    // Only now may they be found in the lake: before, they would be taken for settled ones.
                    pass.fresh.clear();
                    n_read
                        .drain(..)
                        .for_each(|(path, n_rows)| pass.files.set_read(path, n_rows));
                    self.relieve(pass).await?;
                }
            }
        }
        self.complete(pass).await?;
        pass.fresh.clear();
        pass.files.set_all_read();
        self.relieve(pass).await
    }

    /// Begins with an empty memory: notes all observations, then settles those of new files with what belongs to
    /// them.
    async fn catch_up(&mut self, pass: &mut Pass, new: &[DataFile]) -> Result<()> {
        let is_new: HashSet<&str> = new.iter().map(|file| file.path.as_str()).collect();
        let n_rows = |files: &mut dyn Iterator<Item = &DataFile>| files.map(|file| file.n_rows).sum::<u64>();
        let mut progress = Progress {
            n_read: 0,
            n_total: n_rows(&mut pass.files.iter()) + n_rows(&mut new.iter()),
        };
        // What is all visited anyway concerns nobody else.
        let is_rebuild = self.since == i64::MIN;
        let old = pass.files.iter().filter(|file| !is_new.contains(file.path.as_str()));
        let files = old.map(|file| (file, false));
        for (file, is_news) in files.chain(new.iter().map(|file| (file, !is_rebuild))) {
            let mut rows = Rows::open(&self.lake, file, Some(&KEY_COLUMNS)).await?;
            while let Some(batch) = rows.next().await? {
                progress.n_read += batch.len() as u64;
                for (_, observation) in batch {
                    self.components.note(&observation, is_news);
                }
                self.progress.send_replace(progress);
            }
        }
        pass.files.set_all_read();
        // A file that was merged lately is new, most of its rows are not.
        let settled_ns = self.since.saturating_sub(MARK_SLACK_NS);
        for file in new {
            let settled = reader::settled_rows(&self.lake, file, settled_ns).await?;
            pass.visited.insert(file.path.clone(), settled);
        }
        let mut n_asked = 0;
        for file in new {
            let is_settled = |row| pass.is_visited(&file.path, row);
            if (0..usize::try_from(file.n_rows).unwrap_or(usize::MAX)).all(is_settled) {
                progress.n_read += file.n_rows;
                self.progress.send_replace(progress);
                continue;
            }
            let mut rows = Rows::open(&self.lake, file, Some(&KEY_COLUMNS)).await?;
            while let Some(batch) = rows.next().await? {
                progress.n_read += batch.len() as u64;
                for (row, observation) in batch {
                    if !pass.is_visited(&file.path, row) && !self.components.knows(observation.observation_id) {
                        self.components.ask_for(&observation);
                        n_asked += 1;
                    }
                }
                self.progress.send_replace(progress);
                if n_asked > self.options.observations_max / PARTS {
                    self.complete(pass).await?;
                    self.relieve(pass).await?;
                    n_asked = 0;
                }
            }
        }
        self.complete(pass).await?;
        pass.visited.clear();
        Ok(())
    }

    /// Loads what is asked for, until every component is whole.
    async fn complete(&mut self, pass: &mut Pass) -> Result<()> {
        loop {
            let (asks, n_asking) = self.components.asks(self.asked_max);
            // What is asked for by one alone has to be loaded, however large it is.
            let n_rows_max = match n_asking {
                0..=1 => usize::MAX,
                // Lines in force come with them.
                _ => self.options.observations_max / PARTS,
            };
            let is_loaded = match n_asking {
                0 if !self.link_waiting(pass).await? => return Ok(()),
                0 => true,
                _ => self.load(pass, asks, n_rows_max).await?,
            };
            self.asked_max = if is_loaded {
                (self.asked_max * 2).min(ASKED_MAX)
            } else {
                (n_asking / 2).max(1)
            };
            self.relieve(pass).await?;
        }
    }

    /// Links servers to callers, also to such as are not here. False where none was missing.
    async fn link_waiting(&mut self, pass: &mut Pass) -> Result<bool> {
        let asks = self.components.link_waiting(self.is_due(pass));
        Ok(!asks.is_empty() && self.load(pass, asks, usize::MAX).await?)
    }

    /// Loads what is asked for, with everything that belongs to it and stands in the lake for it. False, and nothing
    /// is loaded, where it has too many rows.
    async fn load(&mut self, pass: &mut Pass, mut asks: Vec<Ask>, n_rows_max: usize) -> Result<bool> {
        let is_due = self.is_due(pass);
        let mut load = Load::default();
        let mut loading = Loading {
            lake: &self.lake,
            files: &pass.files,
            dirty: pass.dirty,
            n_rows_max,
        };
        let mut found = Vec::new();
        // Servers among what is loaded have callers elsewhere: nothing is settled before they are here, too.
        while !asks.is_empty() {
            let rows = load.find(&loading, &mut self.components, asks, &mut pass.fresh).await?;
            let Some(rows) = rows else { return Ok(false) };
            found.push(rows);
            loading.n_rows_max = usize::MAX;
            asks = self.components.link_waiting(&is_due);
        }
        load.attach(&self.lake, &mut self.components).await?;
        for (path, rows) in found.iter().flatten() {
            pass.visit(path, rows);
        }
        Ok(true)
    }

    fn is_due(&self, pass: &Pass) -> impl Fn(&Dirty) -> bool + use<> {
        let quiet_ns = self.options.quiet_ms * 1_000_000;
        let wait_max_ns = self.options.wait_max_ms * 1_000_000;
        let (is_forced, now_ns) = (pass.is_forced, pass.dirty.last_ns);
        move |dirty| is_forced || now_ns - dirty.last_ns >= quiet_ns || now_ns - dirty.since_ns >= wait_max_ns
    }

    /// Keeps memory in bounds: evicts what is settled, and where that is not enough settles what is not due yet.
    async fn relieve(&mut self, pass: &mut Pass) -> Result<()> {
        self.components.bound_names();
        let n_max = self.options.observations_max;
        if self.components.n_records() <= n_max {
            return Ok(());
        }
        let n_left = n_max / 4 * 3;
        self.components.evict(n_left);
        if self.components.n_records() > n_max {
            pass.is_forced = true;
            self.link_waiting(pass).await?;
            self.settle(pass).await?;
            self.components.evict(n_left);
        }
        Ok(())
    }

    async fn settle(&mut self, pass: &mut Pass) -> Result<()> {
        let due = self.components.due(self.is_due(pass));
        self.settle_these(pass, due).await
    }

    /// Brings the lake to what components demand, in commits of bounded size.
    async fn settle_these(&mut self, pass: &mut Pass, ids: Vec<ComponentId>) -> Result<()> {
        let now_ns = pass.dirty.last_ns;
        pass.report.n_components += ids.len() as u64;
        let mut plan = Plan::default();
        let mut settled: Vec<(ComponentId, Settled)> = Vec::new();
        let mut n_held = 0;
        for id in ids {
            let Some(component) = self.components.get(id) else {
                continue;
            };
            let desired = plan::desired(component, self.components.context(), &self.terms, now_ns);
            let (changes, remembered) = plan::difference(component, desired, now_ns);
            // A plan is written when more comes, so that the last one, which carries the position, is never empty
            // where there was anything to write.
            let is_large = plan.calls.len() + plan.lines.len() > PLAN_MAX;
            if is_large && !changes.is_empty() || n_held > PLAN_MAX {
                let plan = std::mem::take(&mut plan);
                self.write(pass, plan, std::mem::take(&mut settled)).await?;
                n_held = 0;
            }
            n_held += remembered.lines.len();
            plan.extend(changes);
            settled.push((id, remembered));
        }
        self.write(pass, plan, settled).await
    }

    /// Writes a plan; once it is in the lake, its components are settled.
    async fn write(&mut self, pass: &mut Pass, plan: Plan, settled: Vec<(ComponentId, Settled)>) -> Result<()> {
        let report = &mut pass.report;
        report.n_calls_written += plan.calls.len() as u64;
        report.n_calls_outdated += plan.outdated.len() as u64;
        report.n_lines += plan.lines.len() as u64;
        let is_reversal = |line: &&spanledger_model::LedgerLine| line.line_kind == LineKind::Reversal;
        report.n_reversals += plan.lines.iter().filter(is_reversal).count() as u64;
        if !plan.is_empty() {
            let done: HashSet<ComponentId> = settled.iter().map(|(id, _)| *id).collect();
            let floor = self.components.lowest_floor_without(&done).unwrap_or(self.read);
            commit::write(&self.lake, plan, floor.mark).await?;
            self.committed_mark = self.committed_mark.max(floor.mark);
        }
        for (id, remembered) in settled {
            if let Some(component) = self.components.get_mut(id) {
                component.calls = remembered.calls;
                component.lines = remembered.lines;
                component.dirty = None;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
