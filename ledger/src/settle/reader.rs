//! Reading the lake for settlement: new observation files, and whole days of what stands there.
//!
//! Work is found by file, loaded by day: an observation is folded with everything of its day and of the days
//! beside it, which is wider than any operation lasts.

use std::collections::{BTreeSet, HashMap, HashSet};

use spanledger_lake::tables::{Table, calls, ledger_lines, observations};
use spanledger_lake::{DataFile, Lake};
use spanledger_model::{CallId, TenantId};

use super::components::{ComponentId, Components, Dirty};
use crate::error::{Error, ErrorKind, Result};

/// A tenant's day: the unit of loading.
pub type TenantDay = (String, i32);

/// How much older than the last settled file a file may be and still be looked at again after a restart,
/// nanoseconds: names are given when a file is written, a little before it is committed, by a clock that
/// may be set back.
pub const MARK_SLACK_NS: i64 = 600_000_000_000;

/// Reads the lake into components.
#[derive(Debug, Default)]
pub struct Reader {
    loaded: HashSet<TenantDay>,
    /// Files whose observations are in memory, and the day of each.
    read: HashMap<String, i32>,
    /// Files that were read at some time: they are not new, even if their day was forgotten.
    seen: HashSet<String>,
}

impl Reader {
    /// Forgets everything, so that it is loaded again.
    pub fn reset(&mut self) {
        self.loaded.clear();
        self.read.clear();
        self.seen.clear();
    }

    /// Forgets the days before a day, so that they are loaded again when something late arrives for them.
    pub fn forget_before(&mut self, day: i32) {
        self.loaded.retain(|(_, loaded)| *loaded >= day);
        self.read.retain(|_, read| *read >= day);
    }

    /// Reads the observation files that were not read yet and are newer than `since`, with the days they
    /// belong to. Returns the newest mark read.
    ///
    /// # Errors
    /// Those of reading the lake.
    pub async fn read_new(
        &mut self,
        lake: &Lake,
        components: &mut Components,
        since: i64,
        dirty: Dirty,
    ) -> Result<Option<i64>> {
        let snapshot = lake.snapshot(Table::Observations).map_err(from_lake)?;
        let live: HashSet<&str> = snapshot.files.iter().map(|file| file.path.as_str()).collect();
        self.read.retain(|path, _| live.contains(path.as_str()));
        self.seen.retain(|path| live.contains(path.as_str()));
        let is_new = |file: &&DataFile| {
            !self.read.contains_key(&file.path) && mark_of(&file.path).is_none_or(|mark| mark > since)
        };
        let new: Vec<DataFile> = snapshot.files.iter().filter(is_new).cloned().collect();
        let newest = new.iter().filter_map(|file| mark_of(&file.path)).max();
        let mut days: BTreeSet<TenantDay> = BTreeSet::new();
        for file in &new {
            for day in file.day - 1..=file.day + 1 {
                days.insert((file.tenant.clone(), day));
            }
        }
        days.retain(|day| !self.loaded.contains(day));
        // What was settled before is loaded first, without a mark; then what is new is marked.
        let new_paths: HashSet<&str> = new.iter().map(|file| file.path.as_str()).collect();
        for file in snapshot.files.iter() {
            let is_of_a_day = days.contains(&(file.tenant.clone(), file.day));
            if is_of_a_day && !new_paths.contains(file.path.as_str()) && !self.read.contains_key(&file.path) {
                self.add_observations(lake, components, file, None).await?;
            }
        }
        for file in &new {
            self.add_observations(lake, components, file, Some(dirty)).await?;
        }
        load_settled(lake, components, &days).await?;
        self.loaded.extend(days);
        Ok(newest)
    }

    async fn add_observations(
        &mut self,
        lake: &Lake,
        components: &mut Components,
        file: &DataFile,
        dirty: Option<Dirty>,
    ) -> Result<()> {
        for batch in lake
            .read_file(Table::Observations, file, None)
            .await
            .map_err(from_lake)?
        {
            for observation in observations::from_batch(&batch) {
                components.add(observation, dirty);
            }
        }
        self.read.insert(file.path.clone(), file.day);
        self.seen.insert(file.path.clone());
        Ok(())
    }
}

/// Loads the calls and the charges in force of some days.
async fn load_settled(lake: &Lake, components: &mut Components, days: &BTreeSet<TenantDay>) -> Result<()> {
    if days.is_empty() {
        return Ok(());
    }
    let mut homes: HashMap<CallId, Option<ComponentId>> = HashMap::new();
    for file in files_of(lake, Table::Calls, days)? {
        for batch in lake.read_file(Table::Calls, &file, None).await.map_err(from_lake)? {
            for call in calls::from_batch(&batch) {
                let home = components.attach_call(&call);
                if home.is_none() {
                    tracing::warn!(file = %file.path, "a settled call has no observations, and is left as it is");
                }
                homes.insert(call.call_id, home);
            }
        }
    }
    let mut n_orphans = 0_u64;
    for file in files_of(lake, Table::Ledger, days)? {
        for batch in lake.read_file(Table::Ledger, &file, None).await.map_err(from_lake)? {
            for line in ledger_lines::from_batch(&batch) {
                match line.call_id.map(|call_id| homes.get(&call_id).copied()) {
                    // The call's observations are gone: it stays, and so do its lines.
                    Some(Some(None)) => {}
                    Some(Some(home)) => drop(components.attach_line(line, home)),
                    // A crash between the two commits of a settlement: the call was not written yet.
                    Some(None) => n_orphans += u64::from(components.attach_line(line, None)),
                    None => drop(components.attach_line(line, None)),
                }
            }
        }
    }
    if n_orphans > 0 {
        tracing::info!(n_lines = n_orphans, "charges without a call are being completed");
    }
    Ok(())
}

fn files_of(lake: &Lake, table: Table, days: &BTreeSet<TenantDay>) -> Result<Vec<DataFile>> {
    let snapshot = lake.snapshot(table).map_err(from_lake)?;
    Ok(snapshot
        .files
        .iter()
        .filter(|file| days.contains(&(file.tenant.clone(), file.day)))
        .cloned()
        .collect())
}

/// The files of a tenant's day in `calls` that hold any of these calls.
///
/// # Errors
/// Those of reading the lake.
pub async fn files_with_calls(
    lake: &Lake,
    tenant: &TenantId,
    day: i32,
    call_ids: &HashSet<CallId>,
) -> Result<Vec<DataFile>> {
    let days = BTreeSet::from([(tenant.as_str().to_owned(), day)]);
    let mut found = Vec::new();
    for file in files_of(lake, Table::Calls, &days)? {
        let batches = lake
            .read_file(Table::Calls, &file, Some(&["call_id"]))
            .await
            .map_err(from_lake)?;
        let holds = batches.iter().any(|batch| {
            let ids = spanledger_lake::tables::codec::Decoder::new(batch).id("call_id");
            (0..batch.num_rows()).any(|row| {
                ids.get(row)
                    .and_then(CallId::from_slice)
                    .is_some_and(|id| call_ids.contains(&id))
            })
        });
        if holds {
            found.push(file);
        }
    }
    Ok(found)
}

/// The time in a data file's name: `part-<nanoseconds as 16 hex digits>-…`.
#[must_use]
pub fn mark_of(path: &str) -> Option<i64> {
    let name = path.rsplit('/').next()?.strip_prefix("part-")?;
    i64::from_str_radix(name.get(..16)?, 16).ok()
}

/// An error of the lake, as one of ours.
pub(crate) fn from_lake(error: spanledger_lake::Error) -> Error {
    use spanledger_lake::ErrorKind as Lake;
    let kind = match error.kind() {
        Lake::Invalid => ErrorKind::Invalid,
        Lake::NotFound => ErrorKind::NotFound,
        Lake::TooLarge => ErrorKind::TooLarge,
        Lake::Unauthenticated => ErrorKind::Unauthenticated,
        Lake::Forbidden => ErrorKind::Forbidden,
        Lake::Busy => ErrorKind::Busy,
        Lake::Corrupt => ErrorKind::Corrupt,
        Lake::Internal => ErrorKind::Internal,
    };
    Error::new(kind, error.message().to_owned()).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_tells_when_it_was_written() {
        let path = "tables/observations/tenant=default/day=2026-11-22/part-18e9c0ffee000000-000001-node-0.parquet";
        assert_eq!(mark_of(path), Some(0x18e9_c0ff_ee00_0000));
        assert_eq!(mark_of("tables/observations/x.parquet"), None);
    }
}
