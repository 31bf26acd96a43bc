//! The machine's disk with a stopwatch: how long each fsync takes.
//!
//! Wraps the lake's own file operations at the seam they have for tests, so the lake knows no meters. The
//! time until an fsync is done is the time until a request is acknowledged.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, MeterProvider as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use spanledger_lake::files::{Files, LocalFiles, WritableFile};

/// Upper bounds of fsync times, in seconds: from a good SSD's to one that is in trouble.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];

/// File operations that measure their fsyncs.
#[derive(Debug)]
pub struct MeteredFiles {
    files: LocalFiles,
    fsyncs: Histogram<f64>,
}

impl MeteredFiles {
    /// The machine's file system, measured.
    pub fn new(provider: &SdkMeterProvider) -> Arc<Self> {
        let fsyncs = provider
            .meter("spanledger")
            .f64_histogram("spanledger.lake.fsync.duration")
            .with_unit("s")
            .with_boundaries(SECONDS.to_vec())
            .with_description("Time of an fsync of the write-ahead log or of a table's file")
            .build();
        Arc::new(Self {
            files: LocalFiles,
            fsyncs,
        })
    }

    fn metered(&self, path: &Path, file: Box<dyn WritableFile>) -> Box<dyn WritableFile> {
        let is_log = path.components().any(|part| part.as_os_str() == "wal");
        let label = KeyValue::new("file", if is_log { "wal" } else { "table" });
        Box::new(MeteredFile {
            file,
            label,
            fsyncs: self.fsyncs.clone(),
        })
    }
}

struct MeteredFile {
    file: Box<dyn WritableFile>,
    label: KeyValue,
    fsyncs: Histogram<f64>,
}

impl WritableFile for MeteredFile {
    fn append(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.file.append(parts)
    }

    fn sync(&mut self) -> io::Result<()> {
        let started = Instant::now();
        let synced = self.file.sync();
        self.fsyncs
            .record(started.elapsed().as_secs_f64(), std::slice::from_ref(&self.label));
        synced
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}

impl Files for MeteredFiles {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.files.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        self.files.list(dir)
    }

    fn read(&self, path: &Path) -> io::Result<Bytes> {
        self.files.read(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        Ok(self.metered(path, self.files.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        Ok(self.metered(path, self.files.open(path)?))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.sync_dir(dir)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn an_fsync_of_the_log_is_measured() {
        let registry = prometheus::Registry::new();
        let reader = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .build()
            .unwrap();
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        let files = MeteredFiles::new(&provider);
        let folder = tempfile::tempdir().unwrap();
        let wal = folder.path().join("wal");
        files.create_dir_all(&wal).unwrap();
        let mut file = files.create(&wal.join("0001")).unwrap();
        file.append(&mut [IoSlice::new(b"x")]).unwrap();
        file.sync().unwrap();
        let text = crate::telemetry::Telemetry::render(&registry).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("spanledger_lake_fsync_duration_seconds_count"));
        assert!(
            line.is_some_and(|line| line.contains("wal") && line.ends_with(" 1")),
            "{text}"
        );
    }
}
