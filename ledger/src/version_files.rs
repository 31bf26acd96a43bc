//! A folder of immutable versions: numbered files that are written whole, and which of them is in use.
//!
//! ```text
//! <data>/<folder>/
//!   v3-1a2b3c4d5e6f.json  a version: its number and the start of the hash of its content
//!   current               the id of the version in use
//!   lock                  held while a version is written
//! ```
//!
//! Every file is written beside its name, synchronised and renamed, `current` last, so that a crash leaves the
//! version before in use. What a version holds, and that its content has the hash of its name, is its owner's.

use std::fs::{self, File};
use std::io::{ErrorKind as IoErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};

/// Name of the file that names the version in use.
pub const CURRENT: &str = "current";
const LOCK: &str = "lock";
/// Digits of a hash that name a version.
const HASH_DIGITS: usize = 12;
/// Largest file that is read, in bytes: several times the largest import.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The folder.
#[derive(Debug, Clone)]
pub struct VersionFiles {
    folder: PathBuf,
    /// What the versions are of, in messages.
    what: &'static str,
    /// The command that has them.
    command: &'static str,
}

impl VersionFiles {
    /// The folder `name` of a data folder, which need not exist yet; `what` and `command` are named in errors.
    #[must_use]
    pub fn new(data: &Path, name: &str, what: &'static str, command: &'static str) -> Self {
        Self {
            folder: data.join(name),
            what,
            command,
        }
    }

    /// Numbers and hashes of the versions, by number.
    ///
    /// # Errors
    /// Kind internal where the folder cannot be read.
    pub fn names(&self) -> Result<Vec<(u64, String)>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.failed("", &error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| self.failed("", &error))?.file_name();
            let parsed = name.to_str().and_then(|name| {
                let (number, hash) = name.strip_prefix('v')?.strip_suffix(".json")?.split_once('-')?;
                Some((number.parse().ok()?, hash.to_owned()))
            });
            names.extend(parsed);
        }
        names.sort();
        Ok(names)
    }

    /// The version that is meant by an id, a number, or `v` and a number.
    ///
    /// # Errors
    /// Kind not found where there is none.
    pub fn find(&self, id: &str) -> Result<(u64, String)> {
        let wanted = id.trim().trim_start_matches('v');
        let found = self.names()?.into_iter().find(|(number, hash)| {
            let number = number.to_string();
            wanted == number || wanted == format!("{number}-{hash}")
        });
        found.ok_or_else(|| {
            let message = format!(
                "no version {id} of {}; `spanledger {} versions` lists them",
                self.what, self.command
            );
            Error::new(ErrorKind::NotFound, message)
        })
    }

    /// A file's text; `None` where there is no such file.
    ///
    /// # Errors
    /// Kind corrupt for what is no text, internal where it cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<String>> {
        let file = match File::open(self.folder.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(name, &error)),
        };
        let mut text = String::new();
        match file.take(FILE_BYTES_MAX).read_to_string(&mut text) {
            Ok(_) => Ok(Some(text)),
            Err(error) if error.kind() == IoErrorKind::InvalidData => Err(self.corrupt(name, "is no text")),
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    /// True where there is such a file.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        self.folder.join(name).exists()
    }

    /// Writes a file whole, or not at all.
    ///
    /// # Errors
    /// Kind internal where it cannot be written, forbidden where this user may not.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.folder.join(name);
        let beside = self.folder.join(format!(".{name}.new"));
        let write = || {
            let mut file = File::create(&beside)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|error| self.failed(name, &error))
    }

    /// Makes the folder and takes its lock, which is held until the file is dropped.
    ///
    /// # Errors
    /// Kind busy where another process has it.
    pub fn lock(&self) -> Result<File> {
        let open = || {
            fs::create_dir_all(&self.folder)?;
            // The folder's own name must outlive a power loss as what is written into it does.
            if let Some(data) = self.folder.parent() {
                File::open(data)?.sync_all()?;
            }
            File::create(self.folder.join(LOCK))
        };
        let file = open().map_err(|error| self.failed(LOCK, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(Error::new(
                ErrorKind::Busy,
                format!("another process changes {}; try again when it is done", self.what),
            )),
            Err(fs::TryLockError::Error(error)) => Err(self.failed(LOCK, &error)),
        }
    }

    /// The error of a file that is not what was written.
    #[must_use]
    pub fn corrupt(&self, name: &str, what: &str) -> Error {
        let message = format!(
            "{} {what}; restore it from a backup, or take another version with `spanledger {} use`",
            self.folder.join(name).display(),
            self.command
        );
        Error::new(ErrorKind::Corrupt, message)
    }

    fn failed(&self, name: &str, error: &std::io::Error) -> Error {
        let path = self.folder.join(name);
        let kind = match error.kind() {
            IoErrorKind::PermissionDenied => ErrorKind::Forbidden,
            _ => ErrorKind::Internal,
        };
        Error::new(kind, format!("{}: {error}", path.display()))
    }
}

/// SHA-256 as hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The start of a hash that names a version.
#[must_use]
pub fn short_hash(sha256: &str) -> String {
    sha256.chars().take(HASH_DIGITS).collect()
}
