//! File operations that fail when told.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::files::{Files, WritableFile};

type Rule = Box<dyn Fn(&str, &str) -> bool + Send>;

/// Passes everything on, unless the rule says that this operation on this path fails.
pub(crate) struct FaultyFiles<F> {
    inner: F,
    rule: Arc<Mutex<Rule>>,
}

impl<F> FaultyFiles<F> {
    pub(crate) fn new(inner: F) -> Self {
        Self {
            inner,
            rule: Arc::new(Mutex::new(Box::new(|_, _| false))),
        }
    }

    pub(crate) fn fail_when(&self, rule: impl Fn(&str, &str) -> bool + Send + 'static) {
        *self.rule.lock() = Box::new(rule);
    }

    fn check(&self, operation: &str, path: &Path) -> io::Result<()> {
        check(&self.rule, operation, &path.to_string_lossy())
    }

    fn wrap(&self, path: &Path, file: Box<dyn WritableFile>) -> Box<dyn WritableFile> {
        Box::new(FaultyFile {
            inner: file,
            path: path.to_string_lossy().into_owned(),
            rule: Arc::clone(&self.rule),
        })
    }
}

fn check(rule: &Mutex<Rule>, operation: &str, path: &str) -> io::Result<()> {
    if rule.lock()(operation, path) {
        return Err(io::Error::other(format!("{operation} was told to fail")));
    }
    Ok(())
}

impl<F> fmt::Debug for FaultyFiles<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyFiles")
    }
}

struct FaultyFile {
    inner: Box<dyn WritableFile>,
    path: String,
    rule: Arc<Mutex<Rule>>,
}

impl WritableFile for FaultyFile {
    fn append(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        if let Err(error) = check(&self.rule, "append", &self.path) {
            // A full disk takes some of it.
            let part: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).take(20).collect();
            self.inner.append(&mut [IoSlice::new(&part)])?;
            return Err(error);
        }
        self.inner.append(parts)
    }

    fn sync(&mut self) -> io::Result<()> {
        check(&self.rule, "sync", &self.path)?;
        self.inner.sync()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        check(&self.rule, "truncate", &self.path)?;
        self.inner.truncate(len)
    }
}

impl<F: Files> Files for FaultyFiles<F> {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.check("create_dir_all", dir)?;
        self.inner.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        self.inner.list(dir)
    }

    fn read(&self, path: &Path) -> io::Result<Bytes> {
        self.inner.read(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        self.check("create", path)?;
        Ok(self.wrap(path, self.inner.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        self.check("open", path)?;
        Ok(self.wrap(path, self.inner.open(path)?))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check("hard_link", to)?;
        self.inner.hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check("rename", to)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check("remove", path)?;
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.check("sync_dir", dir)?;
        self.inner.sync_dir(dir)
    }
}
