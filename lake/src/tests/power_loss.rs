//! Power loss at every kind of moment: what was not fsynced may be gone, and what was acknowledged is not.
//!
//! [`PowerLossFiles`] works on a real folder and remembers what was fsynced: a file's length, a folder's
//! names. [`PowerLossFiles::lose_power`] then takes away what was not, some of it at random, as a disk does:
//! unsynced bytes are dropped or garbled, unsynced names vanish, and removed names come back. After the chosen operation everything fails,
//! so the crash point is exact.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tempfile::TempDir;

use super::*;
use crate::Keep;
use crate::files::{Files, LocalFiles, WritableFile};

#[derive(Debug, Default)]
struct Disk {
    /// Durable length of each file that has unsynced bytes.
    synced_len: BTreeMap<PathBuf, u64>,
    /// Names that are not durable yet.
    unsynced_names: BTreeSet<PathBuf>,
    /// Contents of removed files whose removal is not durable yet.
    unsynced_removals: BTreeMap<PathBuf, Vec<u8>>,
    n_operations: u64,
    crash_at: u64,
    /// Skips every fsync of this kind: the mutation that must be noticed.
    skip: Option<&'static str>,
}

#[derive(Debug, Clone)]
struct PowerLossFiles(Arc<Mutex<Disk>>);

struct PowerLossFile {
    inner: Box<dyn WritableFile>,
    path: PathBuf,
    disk: Arc<Mutex<Disk>>,
}

/// A small generator of the test's own: the seed is in the failure message.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}

fn step(disk: &Mutex<Disk>) -> io::Result<()> {
    let mut disk = disk.lock();
    disk.n_operations += 1;
    if disk.n_operations > disk.crash_at {
        return Err(io::Error::other("the power is gone"));
    }
    Ok(())
}

impl PowerLossFiles {
    fn new(crash_at: u64, skip: Option<&'static str>) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            crash_at,
            skip,
            ..Disk::default()
        })))
    }

    fn lose_power(&self, random: &mut Random) {
        let disk = std::mem::take(&mut *self.0.lock());
        for (path, synced_len) in disk.synced_len {
            let Ok(content) = std::fs::read(&path) else { continue };
            let unsynced = content.len() as u64 - synced_len.min(content.len() as u64);
            let keep = synced_len + random.below(unsynced + 1);
            let mut content = content[..keep as usize].to_vec();
            if keep > synced_len && random.below(3) == 0 {
                let at = synced_len + random.below(keep - synced_len);
                content[at as usize] ^= 0x5a;
            }
            std::fs::write(&path, content).unwrap();
        }
        for path in disk.unsynced_names {
            if random.below(2) == 0 {
                let _ = std::fs::remove_file(path);
            }
        }
        for (path, content) in disk.unsynced_removals {
            if random.below(2) == 0 {
                std::fs::write(path, content).unwrap();
            }
        }
    }
}

impl WritableFile for PowerLossFile {
    fn append(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let result = step(&self.disk);
        {
            let mut disk = self.disk.lock();
            let len = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
            disk.synced_len.entry(self.path.clone()).or_insert(len);
        }
        if result.is_err() {
            // Power goes while the disk is writing.
            let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            self.inner.append(&mut [IoSlice::new(&bytes[..bytes.len() / 2])])?;
            return result;
        }
        self.inner.append(parts)
    }

    fn sync(&mut self) -> io::Result<()> {
        step(&self.disk)?;
        let mut disk = self.disk.lock();
        if disk.skip != Some("sync") {
            disk.synced_len.remove(&self.path);
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        step(&self.disk)?;
        self.inner.truncate(len)
    }
}

impl Files for PowerLossFiles {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        step(&self.0)?;
        std::fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        LocalFiles.list(dir)
    }

    fn read(&self, path: &Path) -> io::Result<Bytes> {
        LocalFiles.read(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        step(&self.0)?;
        let inner = LocalFiles.create(path)?;
        let mut disk = self.0.lock();
        disk.synced_len.insert(path.to_owned(), 0);
        disk.unsynced_names.insert(path.to_owned());
        Ok(Box::new(PowerLossFile {
            inner,
            path: path.to_owned(),
            disk: Arc::clone(&self.0),
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        step(&self.0)?;
        Ok(Box::new(PowerLossFile {
            inner: LocalFiles.open(path)?,
            path: path.to_owned(),
            disk: Arc::clone(&self.0),
        }))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        step(&self.0)?;
        LocalFiles.hard_link(from, to)?;
        let mut disk = self.0.lock();
        if let Some(synced_len) = disk.synced_len.get(from).copied() {
            disk.synced_len.insert(to.to_owned(), synced_len);
        }
        disk.unsynced_names.insert(to.to_owned());
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        step(&self.0)?;
        // The old content comes back if the new name is lost; here it is written through at once, which is
        // the easier disk. Losing a rename is losing the saved window, and trimming comes after its fsync.
        LocalFiles.rename(from, to)?;
        let mut disk = self.0.lock();
        disk.unsynced_names.remove(from);
        if let Some(synced_len) = disk.synced_len.remove(from) {
            disk.synced_len.insert(to.to_owned(), synced_len);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        step(&self.0)?;
        let content = std::fs::read(path)?;
        LocalFiles.remove(path)?;
        let mut disk = self.0.lock();
        let synced_len = disk.synced_len.remove(path);
        if !disk.unsynced_names.remove(path) {
            let keep = synced_len.map_or(content.len(), |len| len as usize);
            disk.unsynced_removals.insert(path.to_owned(), content[..keep].to_vec());
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        step(&self.0)?;
        let mut disk = self.0.lock();
        if disk.skip != Some("sync_dir") {
            disk.unsynced_names.retain(|path| path.parent() != Some(dir));
            disk.unsynced_removals.retain(|path, _| path.parent() != Some(dir));
        }
        Ok(())
    }
}

/// What must be known of the log records, which expire, to judge what is there in the end.
#[derive(Default)]
struct Expiring {
    /// Sent since the clock was last moved.
    young: BTreeSet<i64>,
    /// Acknowledged since then: too young to go.
    kept: BTreeSet<i64>,
    /// Gone by a commit that was acknowledged: never to come back.
    gone: BTreeSet<i64>,
}

impl Expiring {
    /// Moves the clock on and lets expire what is older.
    async fn expire(&mut self, lake: &Lake, clock: &TestClock) {
        clock.advance_ms(3 * ONE_DAY_US / 1_000);
        self.young.clear();
        self.kept.clear();
        let files = |lake: &Lake| lake.snapshot(Table::Logs).unwrap().files;
        let before = files(lake);
        if lake.expire().await.is_ok() {
            let after: BTreeSet<String> = files(lake).iter().map(|file| file.path.clone()).collect();
            for file in before.iter().filter(|file| !after.contains(&file.path)) {
                let rows = lake.read_file(Table::Logs, file, None).await.unwrap();
                self.gone.extend(rows.iter().flat_map(numbers_of));
            }
        }
    }

    fn check(&self, found: &BTreeSet<i64>) -> std::result::Result<(), String> {
        if !found.is_superset(&self.kept) {
            return Err("an acknowledged row expired too early".to_owned());
        }
        if found.intersection(&self.gone).next().is_some() {
            return Err("an expired row came back".to_owned());
        }
        Ok(())
    }
}

/// The rows of a table, in files and in memory.
async fn found(lake: &Lake, table: Table) -> std::result::Result<Vec<i64>, String> {
    let snapshot = lake.snapshot(table).unwrap();
    let mut found: Vec<i64> = snapshot.hot.iter().flat_map(numbers_of).collect();
    for file in snapshot.files.iter() {
        let rows = lake.read_file(table, file, None).await;
        found.extend(rows.map_err(|error| error.to_string())?.iter().flat_map(numbers_of));
    }
    Ok(found)
}

/// Two lives of a lake, each ended by a power loss, then a look. Returns how many rows expired, or what
/// is wrong.
async fn run(seed: u64, skip: Option<&'static str>) -> std::result::Result<usize, String> {
    let dir = TempDir::new().unwrap();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..20 {
        random.below(2);
    }
    let mut options = quiet_options(dir.path());
    options.wal_segment_bytes = 150;
    options.group_commit_window_us = 0;
    options.compaction.files_min = 3;
    options.retention.spans = Keep::Forever;
    options.retention.logs = Keep::Days(2);
    let clock = TestClock::new();
    let mut acknowledged: BTreeSet<i64> = BTreeSet::new();
    let mut sent: BTreeSet<i64> = BTreeSet::new();
    let mut expiring = Expiring::default();
    for life in 0..2i64 {
        let files = PowerLossFiles::new(20 + random.below(260), skip);
        let opened = Lake::open_on(options.clone(), clock.clone(), Arc::new(files.clone()), &TestReplay).await;
        if let Ok(lake) = &opened {
            for number in 0..12 {
                let first = life * 100 + number * 3;
                let text = format!("spans:{first}:3 logs:{first}:1");
                sent.extend([first, first + 1, first + 2]);
                expiring.young.insert(first);
                let again = random.below(3) == 0;
                for _ in 0..=usize::from(again) {
                    if send(lake, &text).await.is_ok() {
                        acknowledged.extend([first, first + 1, first + 2]);
                        expiring.kept.extend(expiring.young.get(&first));
                    }
                }
                match random.below(5) {
                    0 => drop(lake.flush().await),
                    1 => drop(lake.compact().await),
                    2 => expiring.expire(lake, &clock).await,
                    _ => {}
                }
            }
        } else if let Err(error) = &opened
            && error.kind() == crate::ErrorKind::Corrupt
        {
            return Err(format!("life {life}: {error}"));
        }
        drop(opened);
        files.lose_power(&mut random);
    }
    let lake = Lake::open(options, clock, &TestReplay)
        .await
        .map_err(|error| format!("does not open: {error}"))?;
    for flushed in [false, true] {
        if flushed {
            lake.flush().await.map_err(|error| error.to_string())?;
        }
        expiring.check(&found(&lake, Table::Logs).await?.into_iter().collect())?;
        let found = found(&lake, Table::Spans).await?;
        let distinct: BTreeSet<i64> = found.iter().copied().collect();
        if distinct.len() != found.len() {
            return Err("a row is there twice".to_owned());
        }
        if !distinct.is_superset(&acknowledged) {
            return Err("an acknowledged row is gone".to_owned());
        }
        if !distinct.is_subset(&sent) {
            return Err("a row nobody sent is there".to_owned());
        }
    }
    Ok(expiring.gone.len())
}

/// Seeds of a CI run; more with `SPANLEDGER_POWER_LOSS_SEEDS`.
const SEEDS: u64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_records_survive_power_loss() {
    let n_seeds = std::env::var("SPANLEDGER_POWER_LOSS_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(SEEDS);
    let mut n_expired = 0;
    for seed in 0..n_seeds {
        match run(seed, None).await {
            Ok(n_rows) => n_expired += n_rows,
            Err(problem) => panic!("seed {seed}: {problem}"),
        }
    }
    assert!(n_expired > 0, "nothing expired in {n_seeds} seeds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_power_loss_test_notices_a_missing_fsync() {
    for skip in ["sync", "sync_dir"] {
        let mut noticed = false;
        for seed in 0..SEEDS {
            noticed |= run(seed, Some(skip)).await.is_err();
            if noticed {
                break;
            }
        }
        assert!(noticed, "nobody misses {skip}");
    }
}
