//! Settlement: committed observations to calls and ledger lines, continuously and exactly.
//!
//! Sits behind the lake's flush. Each pass reads the observation files that are new, adds them to their
//! components, and for each component that has been quiet for a moment brings `calls` and `ledger` to the
//! state its observations demand. Guarantees: the result depends on the set of observations only, never on
//! their order, their repeats or a restart; the ledger is append-only, a correction is a reversal plus a new
//! line; a call is one row (changed rows are rewritten in the same commit that adds the new ones). A crash
//! between the two commits is repaired by the next pass, which plans what is still missing.
//!
//! | module | what it does |
//! |---|---|
//! | [`reader`] | finds and loads observations, calls and lines |
//! | [`components`], [`links`] | which observations belong together |
//! | [`plan`] | desired state against actual state |
//! | [`lines`] | what lines add up to, and what has to be appended |

pub mod components;
pub mod lines;
pub mod links;
pub mod plan;
pub mod reader;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use spanledger_lake::tables::codec::day_of;
use spanledger_lake::tables::{Table, calls, ledger_lines};
use spanledger_lake::{Commit, Lake, Positions};
use spanledger_model::{CallId, Clock, TenantId};
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};
use components::{Components, Dirty, Position};
use plan::{Outdated, Plan, Settled, Terms};
use reader::{MARK_SLACK_NS, Reader, from_lake};

/// Application id of settlement's commits: its version is the mark of the newest file settled.
pub const APP_ID: &str = "settle";
/// Days that stay in memory beyond the limit: today, and yesterday for what reaches over midnight.
const DAYS_KEPT: i32 = 2;
/// Attempts to rewrite files of `calls` while compaction moves them.
const COMMIT_ATTEMPTS: usize = 8;

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
    /// Observations kept in memory (about 1.5 kB each) before all days but today and yesterday are dropped.
    pub observations_max: usize,
}

impl Default for SettleOptions {
    fn default() -> Self {
        Self {
            quiet_ms: 2_000,
            wait_max_ms: 8_000,
            tick_ms: 500,
            observations_max: 250_000,
        }
    }
}

/// What a settlement did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettleReport {
    /// Components folded.
    pub n_components: u64,
    /// Calls written, new and revised.
    pub n_calls_written: u64,
    /// Calls revised or taken out.
    pub n_calls_outdated: u64,
    /// Ledger lines appended.
    pub n_lines: u64,
    /// How far each step has come.
    pub positions: Positions,
}

enum Order {
    SettleNow(oneshot::Sender<Result<SettleReport>>),
    Rebuild(oneshot::Sender<Result<SettleReport>>),
}

/// A handle to the settlement task. The task ends when the last handle is dropped.
#[derive(Clone)]
pub struct Settler {
    orders: mpsc::Sender<Order>,
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
        tokio::spawn(run(Worker::new(lake, terms.into(), clock, options), inbox));
        Self { orders }
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

    async fn order(&self, order: fn(oneshot::Sender<Result<SettleReport>>) -> Order) -> Result<SettleReport> {
        let (reply, answer) = oneshot::channel();
        let stopped = || {
            Error::new(
                crate::error::ErrorKind::Busy,
                "settlement has stopped; restart the server",
            )
        };
        self.orders.send(order(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
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
    /// How far files were read.
    read: Position,
    /// Newest mark that a commit carried.
    committed_mark: i64,
    /// Files older than this were settled before the process started.
    since: i64,
    must_retry: bool,
}

impl Worker {
    fn new(lake: Lake, terms: Terms, clock: Arc<dyn Clock>, options: SettleOptions) -> Self {
        let mark = |table| lake.txn_version(table, APP_ID).unwrap_or(0);
        let committed_mark = mark(Table::Calls).min(mark(Table::Ledger));
        Self {
            terms,
            clock,
            options,
            components: Components::default(),
            reader: Reader::default(),
            read: Position {
                sequence: 0,
                mark: committed_mark,
            },
            committed_mark,
            since: committed_mark.saturating_sub(MARK_SLACK_NS),
            // What was flushed before the process started is looked at once, whether or not more comes.
            must_retry: true,
            lake,
        }
    }

    async fn settle_now(&mut self) -> Result<SettleReport> {
        self.lake.flush().await.map_err(from_lake)?;
        self.pass(true).await
    }

    async fn rebuild(&mut self) -> Result<SettleReport> {
        self.lake.flush().await.map_err(from_lake)?;
        self.forget();
        self.since = i64::MIN;
        self.pass(true).await
    }

    async fn pass_or_log(&mut self) {
        self.must_retry = false;
        if let Err(error) = self.pass(false).await {
            // Nothing is lost: what was not committed is planned again from the lake.
            tracing::error!(%error, "settlement failed and will be tried again");
            self.forget();
            self.since = self.committed_mark.saturating_sub(MARK_SLACK_NS);
            self.read = Position {
                sequence: self.lake.positions().settled,
                mark: self.committed_mark,
            };
            self.must_retry = true;
        }
    }

    fn forget(&mut self) {
        self.components = Components::default();
        self.reader.reset();
    }

    /// One pass: read what is new, settle what is due.
    async fn pass(&mut self, is_forced: bool) -> Result<SettleReport> {
        self.forget_old_days();
        let flushed = self.lake.positions().flushed;
        let now_ns = self.clock.now_ns();
        let dirty = Dirty {
            floor: self.read,
            since_ns: now_ns,
            last_ns: now_ns,
        };
        let newest = self
            .reader
            .read_new(&self.lake, &mut self.components, self.since, dirty)
            .await?;
        self.read = Position {
            sequence: flushed,
            mark: self.read.mark.max(newest.unwrap_or(0)),
        };
        let quiet_ns = self.options.quiet_ms * 1_000_000;
        let wait_max_ns = self.options.wait_max_ms * 1_000_000;
        let is_due =
            |dirty: &Dirty| is_forced || now_ns - dirty.last_ns >= quiet_ns || now_ns - dirty.since_ns >= wait_max_ns;
        self.components.link_waiting(is_due);
        let due = self.components.due(is_due);
        let mut report = SettleReport {
            n_components: due.len() as u64,
            ..SettleReport::default()
        };
        let mut plan = Plan::default();
        let mut settled: Vec<(usize, Settled)> = Vec::with_capacity(due.len());
        for id in due {
            let Some(component) = self.components.get(id) else {
                continue;
            };
            let desired = plan::desired(component, self.components.context(), &self.terms, now_ns);
            let (changes, remembered) = plan::difference(component, desired, now_ns);
            plan.extend(changes);
            settled.push((id, remembered));
        }
        report.n_calls_written = plan.calls.len() as u64;
        report.n_calls_outdated = plan.outdated.len() as u64;
        report.n_lines = plan.lines.len() as u64;
        self.commit(&plan, self.floor_without(&settled)).await?;
        for (id, remembered) in settled {
            if let Some(component) = self.components.get_mut(id) {
                component.calls = remembered.calls;
                component.lines = remembered.lines;
                component.dirty = None;
            }
        }
        let floor = self.components.lowest_floor().unwrap_or(self.read);
        self.lake.set_settled(floor.sequence);
        report.positions = self.lake.positions();
        Ok(report)
    }

    /// Keeps memory in bounds: beyond the limit, only today and yesterday stay; other days are loaded again when
    /// something late arrives for them. A day is never split, so a busy one may exceed the limit.
    fn forget_old_days(&mut self) {
        if self.components.n_observations() <= self.options.observations_max {
            return;
        }
        let first_kept = day_of(self.clock.now_ns()) - DAYS_KEPT + 1;
        self.components.forget_before(first_kept);
        self.reader.forget_before(first_kept);
    }

    /// How far everything will be settled once the given components are.
    fn floor_without(&self, settled: &[(usize, Settled)]) -> Position {
        let done: HashSet<usize> = settled.iter().map(|(id, _)| *id).collect();
        let waiting = self
            .components
            .due(|_| true)
            .into_iter()
            .filter(|id| !done.contains(id));
        waiting
            .filter_map(|id| self.components.get(id)?.dirty.map(|dirty| dirty.floor))
            .min()
            .unwrap_or(self.read)
    }

    async fn commit(&mut self, plan: &Plan, floor: Position) -> Result<()> {
        if plan.is_empty() {
            return Ok(());
        }
        // A commit with a version that the table already has would be taken for a repeat and left out.
        let txn = |table| {
            let is_newer = floor.mark > self.lake.txn_version(table, APP_ID).unwrap_or(0);
            is_newer.then(|| (APP_ID.to_owned(), floor.mark))
        };
        if !plan.lines.is_empty() {
            let commit = Commit {
                adds: vec![ledger_lines::to_batch(&plan.lines)],
                removes: Vec::new(),
                txn: txn(Table::Ledger),
                operation: "SETTLE",
            };
            self.lake.commit(Table::Ledger, commit).await.map_err(from_lake)?;
        }
        if !plan.calls.is_empty() || !plan.outdated.is_empty() {
            self.commit_calls(plan, txn(Table::Calls)).await?;
        }
        self.committed_mark = self.committed_mark.max(floor.mark);
        Ok(())
    }

    /// Writes new calls and, in the same commit, the files of outdated ones without them.
    async fn commit_calls(&self, plan: &Plan, txn: Option<(String, i64)>) -> Result<()> {
        for attempt in 1.. {
            let (mut adds, removes) = self.without_outdated(&plan.outdated).await?;
            if !plan.calls.is_empty() {
                adds.push(calls::to_batch(&plan.calls));
            }
            let commit = Commit {
                adds,
                removes,
                txn: txn.clone(),
                operation: "SETTLE",
            };
            match self.lake.commit(Table::Calls, commit).await {
                Ok(_) => return Ok(()),
                // Compaction replaced a file in between: find the rows again.
                Err(error) if attempt < COMMIT_ATTEMPTS => {
                    tracing::debug!(%error, attempt, "rewriting calls is tried again");
                }
                Err(error) => return Err(from_lake(error)),
            }
        }
        Ok(())
    }

    async fn without_outdated(&self, outdated: &[Outdated]) -> Result<(Vec<arrow::array::RecordBatch>, Vec<String>)> {
        let mut by_day: BTreeMap<(TenantId, i32), HashSet<CallId>> = BTreeMap::new();
        for call in outdated {
            by_day
                .entry((call.tenant.clone(), day_of(call.start_ns)))
                .or_default()
                .insert(call.call_id);
        }
        let (mut adds, mut removes) = (Vec::new(), Vec::new());
        for ((tenant, day), call_ids) in by_day {
            for file in reader::files_with_calls(&self.lake, &tenant, day, &call_ids).await? {
                let mut kept = Vec::new();
                for batch in self
                    .lake
                    .read_file(Table::Calls, &file, None)
                    .await
                    .map_err(from_lake)?
                {
                    kept.extend(
                        calls::from_batch(&batch)
                            .into_iter()
                            .filter(|call| !call_ids.contains(&call.call_id)),
                    );
                }
                if !kept.is_empty() {
                    adds.push(calls::to_batch(&kept));
                }
                removes.push(file.path);
            }
        }
        Ok((adds, removes))
    }
}

#[cfg(test)]
mod tests;
