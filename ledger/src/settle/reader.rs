//! Reading the lake for settlement: what is new, and what new records belong to.
//!
//! Files are read a batch at a time. [`Load`] brings back whole components: it looks at the key columns of the
//! files of the hours that are asked for, follows what the rows it finds belong to in turn until nothing is left,
//! and only then reads those rows, their calls and their lines in force. One look answers any number of asks, so a
//! pass costs a few scans of some hours, whatever came late in it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use arrow::array::RecordBatch;
use spanledger_lake::tables::codec::Decoder;
use spanledger_lake::tables::{Table, calls, ledger_lines, observations};
use spanledger_lake::{DataFile, Lake};
use spanledger_model::{CallId, Observation, ObservationId, TenantId, TraceId};

use super::components::{Arrival, Ask, ComponentId, Components, Dirty};
use super::keys::{self, KEY_COLUMNS, Key, Token, session_key, trace_key};
use super::memory::hour_of;
use crate::error::{Error, ErrorKind, Result};

/// How much older than the last settled file a file may be and still be looked at again after a restart,
/// nanoseconds: names are given when a file is written, a little before it is committed, by a clock that
/// may be set back.
pub const MARK_SLACK_NS: i64 = 600_000_000_000;
/// A file with fewer rows is read whole.
const RANGED_ROWS_MIN: u64 = 16_384;
/// Bits of a word.
const WORD_BITS: usize = 64;
/// Microseconds of an hour.
const HOUR_US: i64 = 3_600_000_000;
/// Merges of merges that are followed to the files that were read.
const MERGES_MAX: usize = 64;

/// Which files were read.
#[derive(Debug, Default)]
pub struct Reader {
    known: HashSet<String>,
}

/// The observation files of one pass, by time, and how many rows of each were read before.
#[derive(Debug)]
pub struct Files {
    files: Vec<DataFile>,
    n_read: HashMap<String, usize>,
    /// As the lake lists them: a merge of files that were read with such that were not stands in `files` as what it
    /// was made from.
    listed: HashSet<String>,
}

impl Files {
    /// Notes how many rows of a file were read.
    pub fn set_read(&mut self, path: &str, n_rows: usize) {
        self.n_read.insert(path.to_owned(), n_rows);
    }

    /// Notes that every file was read to its end.
    pub fn set_all_read(&mut self) {
        self.n_read = self.files.iter().map(|file| (file.path.clone(), usize::MAX)).collect();
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &DataFile> {
        self.files.iter()
    }
}

impl Reader {
    /// Forgets everything, so that it is read again.
    pub fn reset(&mut self) {
        self.known.clear();
    }

    /// The files there are, and which of them are new: neither read before, nor merged from such, and not older than
    /// `since`.
    ///
    /// # Errors
    /// Those of reading the lake.
    pub fn look(&self, lake: &Lake, since: i64) -> Result<(Files, Vec<DataFile>)> {
        let snapshot = lake.snapshot(Table::Observations).map_err(from_lake)?;
        let (mut files, mut new) = (Vec::new(), Vec::new());
        for file in snapshot.files.iter() {
            let is_settled = mark_of(&file.path).is_some_and(|mark| mark <= since);
            if is_settled || self.known.contains(&file.path) {
                files.push(file.clone());
                continue;
            }
            let (mut read, unread) = self.parts_of(lake, file);
            if unread.is_empty() {
                files.push(file.clone());
            } else {
                files.append(&mut read);
                new.extend(unread);
            }
        }
        let n_read = files.iter().map(|file| (file.path.clone(), usize::MAX)).collect();
        files.extend(new.iter().cloned());
        for files in [&mut files, &mut new] {
            files.sort_by(|a, b| (a.min_time_us, &a.path).cmp(&(b.min_time_us, &b.path)));
        }
        let listed = snapshot.files.iter().map(|file| file.path.clone()).collect();
        Ok((Files { files, n_read, listed }, new))
    }

    /// Notes that every file of a pass was read.
    pub fn finish(&mut self, files: Files) {
        self.known = files.listed;
    }

    /// What a file was merged from: files that were read, and such that were not. One that is no merge, or where
    /// nobody knows, is one file that was not read.
    fn parts_of(&self, lake: &Lake, file: &DataFile) -> (Vec<DataFile>, Vec<DataFile>) {
        let (mut read, mut unread, mut n_merges) = (Vec::new(), Vec::new(), 0);
        let mut open = vec![file.clone()];
        while let Some(part) = open.pop() {
            if self.known.contains(&part.path) {
                read.push(part);
                continue;
            }
            match lake.merged_from(Table::Observations, &part.path) {
                Some(inputs) if n_merges < MERGES_MAX => {
                    n_merges += 1;
                    open.extend(inputs);
                }
                _ => unread.push(part),
            }
        }
        (read, unread)
    }
}

/// Reads an observation file's rows from one on, in order, with all columns or those that keys are made of.
#[derive(Debug)]
pub struct Rows {
    rows: spanledger_lake::FileRows,
    next: usize,
}

impl Rows {
    /// Opens a file.
    ///
    /// # Errors
    /// Those of reading the lake.
    pub async fn open(lake: &Lake, file: &DataFile, columns: Option<&[&str]>) -> Result<Self> {
        Self::open_range(lake, file, columns, None).await
    }

    /// Opens some rows of a file.
    async fn open_range(
        lake: &Lake,
        file: &DataFile,
        columns: Option<&[&str]>,
        range: Option<Range<usize>>,
    ) -> Result<Self> {
        let next = range.as_ref().map_or(0, |range| range.start);
        let ranges = range.map(|range| vec![range]);
        let rows = lake.open_file(Table::Observations, file, columns, ranges).await;
        Ok(Self {
            rows: rows.map_err(from_lake)?,
            next,
        })
    }

    /// The next batch's observations, each with its row in the file; nothing at the end.
    ///
    /// # Errors
    /// Those of reading the lake.
    pub async fn next(&mut self) -> Result<Option<Vec<(usize, Observation)>>> {
        let Some(batch) = self.rows.next().await.map_err(from_lake)? else {
            return Ok(None);
        };
        let first = self.next;
        self.next += batch.num_rows();
        // A row that cannot be read is left out by the decoder: the ids tell which.
        let ids = Decoder::new(&batch).id("observation_id");
        let mut row = 0;
        let mut found = Vec::with_capacity(batch.num_rows());
        for observation in observations::from_batch(&batch) {
            while row < batch.num_rows() && ids.get(row) != Some(observation.observation_id.as_bytes()) {
                row += 1;
            }
            found.push((first + row, observation));
            row += 1;
        }
        Ok(Some(found))
    }
}

/// Which rows of a file are surely settled, as bits: those of a call that stands in the lake, for its lines were
/// written before it, if they arrived before `since_ns`. Whatever else they changed was written in the same settlement;
/// one that a crash cut short is looked at again, for its records had arrived lately.
///
/// # Errors
/// Those of reading the lake.
pub async fn settled_rows(lake: &Lake, file: &DataFile, since_ns: i64) -> Result<Vec<u64>> {
    let n_words = usize::try_from(file.n_rows).unwrap_or(0).div_ceil(WORD_BITS);
    let mut settled = vec![0; n_words];
    if since_ns <= 0 {
        return Ok(settled);
    }
    let mut of_calls: HashSet<ObservationId> = HashSet::new();
    let snapshot = lake.snapshot(Table::Calls).map_err(from_lake)?;
    for calls in snapshot.files.iter().filter(|calls| overlap(calls, file)) {
        let mut batches = Batches::columns(lake, Table::Calls, calls, &["observation_ids"], None).await?;
        while let Some(batch) = batches.next().await? {
            let members = calls::observation_ids(&batch);
            (0..batch.num_rows()).for_each(|row| of_calls.extend(members(row)));
        }
    }
    let columns = ["observation_id", "arrived_at"];
    let mut batches = Batches::columns(lake, Table::Observations, file, &columns, None).await?;
    while let Some(batch) = batches.next().await? {
        let decoder = Decoder::new(&batch);
        let (id, arrived_ns) = (decoder.id("observation_id"), decoder.timestamp_ns("arrived_at"));
        for row in 0..batch.num_rows() {
            let is_of_call = || {
                id.get(row)
                    .and_then(ObservationId::from_slice)
                    .is_some_and(|id| of_calls.contains(&id))
            };
            if arrived_ns(row).is_some_and(|arrived_ns| arrived_ns < since_ns) && is_of_call() {
                set_bit(&mut settled, batches.first + row);
            }
        }
    }
    Ok(settled)
}

/// True where both may hold rows of one tenant and time.
fn overlap(one: &DataFile, other: &DataFile) -> bool {
    let is_of_same = one.tenant.is_empty() || other.tenant.is_empty() || one.tenant == other.tenant;
    let begins_by = |one: &DataFile, other: &DataFile| match (one.min_time_us, other.max_time_us) {
        (Some(min), Some(max)) => min <= max,
        _ => true,
    };
    is_of_same && begins_by(one, other) && begins_by(other, one)
}

/// Sets a bit.
pub fn set_bit(bits: &mut [u64], at: usize) {
    if let Some(word) = bits.get_mut(at / WORD_BITS) {
        *word |= 1 << (at % WORD_BITS);
    }
}

/// True where a bit is set.
#[must_use]
pub fn is_set(bits: &[u64], at: usize) -> bool {
    bits.get(at / WORD_BITS)
        .is_some_and(|word| word & (1 << (at % WORD_BITS)) != 0)
}

/// What a [`Load`] may do, and what it has to know.
#[derive(Debug)]
pub struct Loading<'l> {
    /// The lake.
    pub lake: &'l Lake,
    /// The files to look in.
    pub files: &'l Files,
    /// With what the components that are loaded are to be settled.
    pub dirty: Dirty,
    /// Rows beyond which nothing is loaded.
    pub n_rows_max: usize,
}

/// A load: what was found, until what stands in the lake for it is attached.
#[derive(Debug, Default)]
pub struct Load {
    search: Search,
    loaded: Loaded,
}

impl Load {
    /// Adds everything that holds a token asked for, and whatever belongs to that. `fresh` are new records that were
    /// added and not yet looked for. Returns the rows by file; nothing, and nothing is added, where they are too many.
    ///
    /// # Errors
    /// Those of reading the lake.
    pub async fn find(
        &mut self,
        loading: &Loading<'_>,
        components: &mut Components,
        asks: Vec<Ask>,
        fresh: &mut HashSet<ObservationId>,
    ) -> Result<Option<BTreeMap<String, Vec<usize>>>> {
        self.search.want(asks);
        if !self.search.run(loading, components, fresh).await? {
            return Ok(None);
        }
        components.answered(&self.search.tokens);
        let mut found = std::mem::take(&mut self.search.rows);
        found.values_mut().for_each(|rows| rows.sort_unstable());
        for file in loading.files.iter() {
            let Some(rows) = found.get(&file.path) else { continue };
            let mut batches = Batches::open(loading.lake, Table::Observations, file, rows).await?;
            while let Some(batch) = batches.next().await? {
                for observation in observations::from_batch(&batch) {
                    self.loaded.note(&observation);
                    components.add(observation, Some(loading.dirty), Arrival::Again);
                }
            }
        }
        fresh.retain(|id| !self.search.ids.contains(id));
        Ok(Some(found))
    }

    /// Attaches the calls and the lines in force of what was found.
    ///
    /// # Errors
    /// Those of reading the lake.
    pub async fn attach(self, lake: &Lake, components: &mut Components) -> Result<()> {
        self.loaded.attach(lake, components, &self.search.ids).await
    }
}

/// What is looked for, and what was found.
#[derive(Debug, Default)]
struct Search {
    n_wants: usize,
    n_searched: usize,
    /// For each hour that something is wanted of, the number of the last such want.
    hours: HashMap<(TenantId, i64), usize>,
    tokens: HashSet<Token>,
    ids: HashSet<ObservationId>,
    rows: BTreeMap<String, Vec<usize>>,
}

impl Search {
    fn want(&mut self, asks: Vec<Ask>) {
        for ask in asks {
            if !self.tokens.insert(ask.token) {
                continue;
            }
            self.n_wants += 1;
            for hour in ask.hours {
                self.hours.insert((ask.tenant.clone(), hour), self.n_wants);
            }
        }
    }

    /// Looks until nothing that was found belongs to anything that was not looked for. False where it is too much.
    async fn run(
        &mut self,
        loading: &Loading<'_>,
        components: &Components,
        fresh: &HashSet<ObservationId>,
    ) -> Result<bool> {
        // How many wants each file was looked through for.
        let mut n_done: HashMap<&str, usize> = HashMap::new();
        let n_before = self.n_searched;
        let pending = components.pending();
        loop {
            let mut is_done = true;
            for file in loading.files.iter() {
                let n_read = loading.files.n_read.get(&file.path).copied().unwrap_or(0);
                let done = n_done.get(file.path.as_str()).copied().unwrap_or(n_before);
                let is_wanted = |((tenant, hour), number): (&(TenantId, i64), &usize)| {
                    *number > done && has_hour(file, tenant.as_str(), *hour)
                };
                if n_read == 0 || !self.hours.iter().any(is_wanted) {
                    continue;
                }
                is_done = false;
                n_done.insert(&file.path, self.n_wants);
                let is_wanted = |hour: i64| {
                    let mut wanted = self.hours.iter().filter(|((_, wanted), _)| *wanted == hour);
                    wanted.any(|((tenant, hour), number)| *number > done && has_hour(file, tenant.as_str(), *hour))
                };
                let range = range_of_hours(loading.lake, Table::Observations, file, is_wanted).await?;
                let mut rows = Rows::open_range(loading.lake, file, Some(&KEY_COLUMNS), range).await?;
                while let Some(batch) = rows.next().await? {
                    for (row, observation) in batch.into_iter().take_while(|(row, _)| *row < n_read) {
                        self.see(&file.path, row, &observation, (components, &pending), fresh);
                    }
                    if self.ids.len() > loading.n_rows_max {
                        return Ok(false);
                    }
                }
            }
            if is_done {
                self.n_searched = self.n_wants;
                return Ok(true);
            }
        }
    }

    fn see(
        &mut self,
        path: &str,
        row: usize,
        observation: &Observation,
        (components, pending): (&Components, &HashSet<Token>),
        fresh: &HashSet<ObservationId>,
    ) {
        let id = observation.observation_id;
        let is_fresh = fresh.contains(&id);
        if components.knows(id) && !is_fresh || self.ids.contains(&id) {
            return;
        }
        let held = keys::held_tokens(observation, |_| true);
        if !held.iter().any(|held| self.tokens.contains(&held.token())) {
            return;
        }
        self.ids.insert(id);
        self.rows.entry(path.to_owned()).or_default().push(row);
        self.want(components.asks_beyond(observation, |key| !is_fresh && !pending.contains(&keys::token_of(key))));
    }
}

/// What was loaded, as far as it tells which calls and lines belong to it.
#[derive(Debug, Default)]
struct Loaded {
    hours: BTreeSet<(String, i64)>,
    /// Keys of conversations and traces.
    keys: HashSet<Key>,
    starts: Vec<(ObservationId, i64)>,
}

impl Loaded {
    fn note(&mut self, observation: &Observation) {
        let tenant = observation.tenant.as_str();
        let hour = hour_of(observation.start_ns);
        self.starts.push((observation.observation_id, hour));
        if !self.hours.contains(&(tenant.to_owned(), hour)) {
            self.hours.insert((tenant.to_owned(), hour));
        }
        let session = observation.dimensions.session_id.as_deref();
        let keys = [
            session.map(|session| session_key(tenant.as_bytes(), session)),
            observation
                .trace_id
                .map(|trace_id| trace_key(tenant.as_bytes(), trace_id.as_bytes())),
        ];
        self.keys.extend(keys.into_iter().flatten());
    }

    fn files_of(&self, lake: &Lake, table: Table) -> Result<Vec<DataFile>> {
        let snapshot = lake.snapshot(table).map_err(from_lake)?;
        let has_any = |file: &&DataFile| self.hours.iter().any(|(tenant, hour)| has_hour(file, tenant, *hour));
        Ok(snapshot.files.iter().filter(has_any).cloned().collect())
    }

    fn has_hour(&self, hour: i64) -> bool {
        self.hours.iter().any(|(_, of)| *of == hour)
    }

    /// Attaches what stands in the lake for the observations that were loaded: calls by their observations, lines by
    /// their call, else by their conversation or trace.
    async fn attach(self, lake: &Lake, components: &mut Components, ids: &HashSet<ObservationId>) -> Result<()> {
        let mut standing: HashSet<CallId> = HashSet::new();
        let mut homes: HashMap<CallId, ComponentId> = HashMap::new();
        for file in self.files_of(lake, Table::Calls)? {
            let mut rows = Vec::new();
            let columns = ["call_id", "observation_ids"];
            let range = range_of_hours(lake, Table::Calls, &file, |hour| self.has_hour(hour)).await?;
            let mut batches = Batches::columns(lake, Table::Calls, &file, &columns, range).await?;
            while let Some(batch) = batches.next().await? {
                let members = calls::observation_ids(&batch);
                let call_id = Decoder::new(&batch).id("call_id");
                for row in 0..batch.num_rows() {
                    standing.extend(call_id.get(row).and_then(CallId::from_slice));
                    if members(row).iter().any(|id| ids.contains(id)) {
                        rows.push(batches.first + row);
                    }
                }
            }
            let mut batches = Batches::open(lake, Table::Calls, &file, &rows).await?;
            while let Some(batch) = batches.next().await? {
                for call in calls::from_batch(&batch) {
                    homes.extend(components.attach_call(&call).map(|home| (call.call_id, home)));
                }
            }
        }
        let hours_here: HashSet<(ComponentId, i64)> = self
            .starts
            .iter()
            .filter_map(|(id, hour)| Some((components.home_of(*id)?, *hour)))
            .collect();
        let mut n_orphans = 0_u64;
        for file in self.files_of(lake, Table::Ledger)? {
            let rows = self.rows_of_lines(lake, &file, &standing, &homes).await?;
            let mut batches = Batches::open(lake, Table::Ledger, &file, &rows).await?;
            while let Some(batch) = batches.next().await? {
                for line in ledger_lines::from_batch(&batch) {
                    if let Some(home) = line.call_id.and_then(|call_id| homes.get(&call_id)) {
                        components.attach_line(line, *home);
                        continue;
                    }
                    // After the records of an hour have expired, what they were charged stays as it is.
                    let home = components.home_of_line(&line);
                    let is_here = |home: &ComponentId| hours_here.contains(&(*home, hour_of(line.time_ns)));
                    if let Some(home) = home.filter(is_here) {
                        n_orphans += u64::from(line.call_id.is_some());
                        components.attach_line(line, home);
                    }
                }
            }
        }
        if n_orphans > 0 {
            // Replaced calls, or a crash between the two commits of a settlement: the call was not written yet.
            tracing::debug!(n_lines = n_orphans, "lines without a call were attached");
        }
        Ok(())
    }

    async fn rows_of_lines(
        &self,
        lake: &Lake,
        file: &DataFile,
        standing: &HashSet<CallId>,
        homes: &HashMap<CallId, ComponentId>,
    ) -> Result<Vec<usize>> {
        let mut rows = Vec::new();
        let columns = ["tenant", "call_id", "trace_id", "session_id"];
        let range = range_of_hours(lake, Table::Ledger, file, |hour| self.has_hour(hour)).await?;
        let mut batches = Batches::columns(lake, Table::Ledger, file, &columns, range).await?;
        while let Some(batch) = batches.next().await? {
            let columns = Decoder::new(&batch);
            let (tenant, session) = (columns.text("tenant"), columns.text("session_id"));
            let (call_id, trace_id) = (columns.id("call_id"), columns.id("trace_id"));
            let by_key = |row: usize| {
                let tenant = tenant.get(row)?.as_bytes();
                let key = match session.get(row) {
                    Some(session) => session_key(tenant, session),
                    None => trace_key(tenant, TraceId::from_slice(trace_id.get(row)?)?.as_bytes()),
                };
                self.keys.contains(&key).then_some(())
            };
            for row in 0..batch.num_rows() {
                let is_ours = match call_id.get(row).and_then(CallId::from_slice) {
                    Some(call_id) if homes.contains_key(&call_id) => true,
                    // The call's observations are gone, or it is another component's.
                    Some(call_id) if standing.contains(&call_id) => false,
                    _ => by_key(row).is_some(),
                };
                if is_ours {
                    rows.push(batches.first + row);
                }
            }
        }
        Ok(rows)
    }
}

/// Batches of a file, with the row that each begins at where all rows are read.
struct Batches {
    rows: Option<spanledger_lake::FileRows>,
    first: usize,
    next: usize,
}

impl Batches {
    /// Some rows, in order, with all columns.
    async fn open(lake: &Lake, table: Table, file: &DataFile, rows: &[usize]) -> Result<Self> {
        let rows = match rows {
            [] => None,
            rows => Some(
                lake.open_file(table, file, None, Some(ranges(rows)))
                    .await
                    .map_err(from_lake)?,
            ),
        };
        Ok(Self {
            rows,
            first: 0,
            next: 0,
        })
    }

    /// A range of rows, or all, with some columns.
    async fn columns(
        lake: &Lake,
        table: Table,
        file: &DataFile,
        columns: &[&str],
        range: Option<Range<usize>>,
    ) -> Result<Self> {
        let next = range.as_ref().map_or(0, |range| range.start);
        let ranges = range.map(|range| vec![range]);
        let rows = lake
            .open_file(table, file, Some(columns), ranges)
            .await
            .map_err(from_lake)?;
        Ok(Self {
            rows: Some(rows),
            first: next,
            next,
        })
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(rows) = self.rows.as_mut() else {
            return Ok(None);
        };
        let batch = rows.next().await.map_err(from_lake)?;
        self.first = self.next;
        self.next += batch.as_ref().map_or(0, RecordBatch::num_rows);
        Ok(batch)
    }
}

/// The rows of a file from the first to the last of some hours, for its rows are in the order of time; nothing
/// where the file is too small for that to be worth a look.
async fn range_of_hours(
    lake: &Lake,
    table: Table,
    file: &DataFile,
    is_wanted: impl Fn(i64) -> bool,
) -> Result<Option<Range<usize>>> {
    if file.n_rows < RANGED_ROWS_MIN {
        return Ok(None);
    }
    let opened = lake.open_file(table, file, Some(&["time"]), None).await;
    let mut rows = opened.map_err(from_lake)?;
    let (mut range, mut row, mut last): (Option<Range<usize>>, usize, Option<(i64, bool)>) = (None, 0, None);
    while let Some(batch) = rows.next().await.map_err(from_lake)? {
        let time_ns = Decoder::new(&batch).timestamp_ns("time");
        for time_ns in (0..batch.num_rows()).map(time_ns) {
            let hour = hour_of(time_ns.unwrap_or(0));
            let wanted = match last {
                Some((same, wanted)) if same == hour => wanted,
                _ => time_ns.is_none() || is_wanted(hour),
            };
            last = Some((hour, wanted));
            if wanted {
                range = Some(range.map_or(row, |range| range.start)..row + 1);
            }
            row += 1;
        }
    }
    Ok(Some(range.unwrap_or(0..0)))
}

/// Rows in order as ranges.
fn ranges(rows: &[usize]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for row in rows {
        match ranges.last_mut() {
            Some(last) if last.end == *row => last.end += 1,
            _ => ranges.push(*row..row + 1),
        }
    }
    ranges
}

/// True where a file may hold rows of a tenant that started in an hour.
fn has_hour(file: &DataFile, tenant: &str, hour: i64) -> bool {
    let from = hour.saturating_mul(HOUR_US);
    let to = from.saturating_add(HOUR_US);
    (file.tenant.is_empty() || file.tenant == tenant)
        && file.min_time_us.is_none_or(|min| min < to)
        && file.max_time_us.is_none_or(|max| max >= from)
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
