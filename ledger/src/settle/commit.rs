//! Writing what settlement found: lines first, then calls, in commits of bounded size.
//!
//! `ledger` is appended to. A row of `calls` that is not true any more is taken out by rewriting its file without
//! it, in the same commit that adds the row that takes its place, so a reader sees a call once at any time. Files
//! are rewritten a few at a time: what is in memory is the plan and the rows of the files of one commit. The last
//! commit of a table carries how far everything is settled; a crash before it leaves a difference that the next
//! settlement plans again.

use std::collections::{BTreeMap, HashMap, HashSet};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use spanledger_lake::tables::codec::{Decoder, day_of};
use spanledger_lake::tables::{Table, calls, ledger_lines};
use spanledger_lake::{Commit, DataFile, Lake};
use spanledger_model::{Call, CallId, TenantId};

use super::APP_ID;
use super::plan::{Outdated, Plan};
use super::reader::from_lake;
use crate::error::{Error, ErrorKind, Result};

/// Attempts to rewrite files of `calls` while compaction moves them.
const COMMIT_ATTEMPTS: usize = 8;
/// Rows that are rewritten in one commit, but for a file that has more by itself.
const REWRITTEN_MAX: u64 = 100_000;

/// Writes a plan. `mark` is how far everything is settled once it is written.
///
/// # Errors
/// Those of the lake; what was written before stays, and is not planned again.
pub async fn write(lake: &Lake, plan: Plan, mark: i64) -> Result<()> {
    // A commit with a version that the table already has would be taken for a repeat and left out.
    let txn = |table| {
        let is_newer = mark > lake.txn_version(table, APP_ID).unwrap_or(0);
        is_newer.then(|| (APP_ID.to_owned(), mark))
    };
    if !plan.lines.is_empty() {
        let adds = vec![ledger_lines::to_batch(&plan.lines)];
        commit(lake, Table::Ledger, adds, Vec::new(), txn(Table::Ledger)).await?;
    }
    if plan.calls.is_empty() && plan.outdated.is_empty() {
        return Ok(());
    }
    let mut calls = Calls {
        lake,
        fresh: plan.calls.into_iter().map(|call| (call.call_id, call)).collect(),
        outdated: BTreeMap::new(),
    };
    for Outdated {
        tenant,
        call_id,
        start_ns,
    } in plan.outdated
    {
        let of_day = calls.outdated.entry((tenant, day_of(start_ns))).or_default();
        of_day.insert(call_id);
    }
    calls.replace().await?;
    let fresh: Vec<Call> = calls.fresh.into_values().collect();
    let txn = txn(Table::Calls);
    if fresh.is_empty() && txn.is_none() {
        return Ok(());
    }
    commit(lake, Table::Calls, vec![calls::to_batch(&fresh)], Vec::new(), txn).await
}

async fn commit(
    lake: &Lake,
    table: Table,
    adds: Vec<RecordBatch>,
    removes: Vec<String>,
    txn: Option<(String, i64)>,
) -> Result<()> {
    let commit = Commit {
        adds,
        removes,
        txn,
        operation: "SETTLE",
    };
    lake.commit(table, commit).await.map(drop).map_err(from_lake)
}

/// Rows of `calls` to write and to take out.
struct Calls<'l> {
    lake: &'l Lake,
    fresh: HashMap<CallId, Call>,
    outdated: BTreeMap<(TenantId, i32), HashSet<CallId>>,
}

impl Calls<'_> {
    /// Takes the outdated rows out, and writes those that replace them.
    async fn replace(&mut self) -> Result<()> {
        let days: Vec<(TenantId, i32)> = self.outdated.keys().cloned().collect();
        for day in days {
            let mut attempt = 1;
            // What is written is taken off, so that another attempt begins where the last one ended.
            while let Err(error) = self.replace_in(&day).await {
                if error.kind() != ErrorKind::Busy || attempt == COMMIT_ATTEMPTS {
                    return Err(error);
                }
                // Compaction replaced a file in between: find the rows again.
                tracing::debug!(%error, attempt, "rewriting calls is tried again");
                attempt += 1;
            }
        }
        Ok(())
    }

    async fn replace_in(&mut self, day: &(TenantId, i32)) -> Result<()> {
        let snapshot = self.lake.snapshot(Table::Calls).map_err(from_lake)?;
        let is_of_day = |file: &&DataFile| file.tenant == day.0.as_str() && file.day == day.1;
        let mut rewrite = Rewrite::default();
        for file in snapshot.files.iter().filter(is_of_day) {
            let Some(wanted) = self.outdated.get(day).filter(|wanted| !wanted.is_empty()) else {
                break;
            };
            let found = calls_in(self.lake, file, wanted).await?;
            if found.is_empty() {
                continue;
            }
            if rewrite.n_rows > 0 && rewrite.n_rows + file.n_rows > REWRITTEN_MAX {
                self.finish(std::mem::take(&mut rewrite), day).await?;
            }
            let mut rows = self
                .lake
                .open_file(Table::Calls, file, None, None)
                .await
                .map_err(from_lake)?;
            while let Some(batch) = rows.next().await.map_err(from_lake)? {
                rewrite.adds.push(without(&batch, &found)?);
            }
            rewrite.n_rows += file.n_rows;
            rewrite.removes.push(file.path.clone());
            rewrite.replaced.extend(found);
        }
        self.finish(rewrite, day).await
    }

    async fn finish(&mut self, mut rewrite: Rewrite, day: &(TenantId, i32)) -> Result<()> {
        if rewrite.removes.is_empty() {
            return Ok(());
        }
        let replaced = rewrite.replaced.iter();
        let new: Vec<Call> = replaced
            .filter_map(|call_id| self.fresh.get(call_id).cloned())
            .collect();
        rewrite.adds.push(calls::to_batch(&new));
        rewrite.adds.retain(|batch| batch.num_rows() > 0);
        commit(self.lake, Table::Calls, rewrite.adds, rewrite.removes, None).await?;
        for call_id in &rewrite.replaced {
            self.fresh.remove(call_id);
            if let Some(of_day) = self.outdated.get_mut(day) {
                of_day.remove(call_id);
            }
        }
        Ok(())
    }
}

/// Files that are rewritten in one commit.
#[derive(Default)]
struct Rewrite {
    adds: Vec<RecordBatch>,
    removes: Vec<String>,
    replaced: HashSet<CallId>,
    n_rows: u64,
}

/// Which of some calls a file holds.
async fn calls_in(lake: &Lake, file: &DataFile, wanted: &HashSet<CallId>) -> Result<HashSet<CallId>> {
    let mut found = HashSet::new();
    let opened = lake.open_file(Table::Calls, file, Some(&["call_id"]), None).await;
    let mut rows = opened.map_err(from_lake)?;
    while let Some(batch) = rows.next().await.map_err(from_lake)? {
        let ids = Decoder::new(&batch).id("call_id");
        let ids = (0..batch.num_rows()).filter_map(|row| CallId::from_slice(ids.get(row)?));
        found.extend(ids.filter(|id| wanted.contains(id)));
    }
    Ok(found)
}

fn without(batch: &RecordBatch, calls: &HashSet<CallId>) -> Result<RecordBatch> {
    let ids = Decoder::new(batch).id("call_id");
    let is_kept = |row: usize| {
        let id = ids.get(row).and_then(CallId::from_slice);
        id.is_none_or(|id| !calls.contains(&id))
    };
    let kept: BooleanArray = (0..batch.num_rows()).map(|row| Some(is_kept(row))).collect();
    filter_record_batch(batch, &kept).map_err(|error| {
        let message = "rows of calls cannot be chosen".to_owned();
        Error::new(ErrorKind::Internal, message).with_source(error)
    })
}
