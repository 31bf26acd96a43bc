//! The versions of the rules in the data folder (`<data>/allocation/`), and which of them is in use.
//!
//! A version holds the files it was put together from, as written; its id has the hash of them, which is checked
//! whenever it is read. Without a version, or with `v0` in use, there are no rules. A server takes up
//! the version in use as it runs.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::RuleSet;
use super::diff::DiffReport;
use super::file::{self, Source};
use super::rules::NO_VERSION;
use crate::error::{Error, ErrorKind, Result};
use crate::prices::format_instant;
use crate::version_files::{CURRENT, VersionFiles, sha256, short_hash};

/// Folder within the data folder.
const FOLDER: &str = "allocation";
/// Format of a version's file.
const FORMAT: u32 = 1;

/// The versions in a data folder.
#[derive(Debug, Clone)]
pub struct RuleStore {
    files: VersionFiles,
}

/// One version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    format: u32,
    /// Counts up from 1.
    pub number: u64,
    /// The start of the SHA-256 of its content.
    pub hash: String,
    /// Version it was made from.
    pub parent: String,
    /// When, UTC.
    pub created_at: String,
    /// User of the operating system who did it, where it tells.
    pub created_by: Option<String>,
    /// What was imported.
    pub import: ImportNote,
    /// The files, in the order in which their rules are asked.
    pub sources: Vec<SourceText>,
}

/// What was imported to make a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportNote {
    /// Name of the file, without its folder.
    pub file: String,
    /// Name of the source.
    pub name: String,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// A file of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceText {
    /// Name of the source.
    pub name: String,
    /// The file, as written.
    pub text: String,
}

/// Who imports, and when.
#[derive(Debug, Clone, Default)]
pub struct ImportedBy {
    /// User, where known.
    pub user: Option<String>,
    /// Nanoseconds since the Unix epoch.
    pub at_ns: i64,
    /// Name of the file.
    pub file: String,
}

/// What an import did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportReport {
    /// The new version; absent where the file says what is in use already.
    pub version: Option<String>,
    /// What differs from the version before.
    pub diff: DiffReport,
}

impl Version {
    /// Its id, `v3-1a2b3c4d5e6f`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("v{}-{}", self.number, self.hash)
    }
}

impl RuleStore {
    /// The store of a data folder, which need not exist yet.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        Self {
            files: VersionFiles::new(data, FOLDER, "the allocation rules", "allocation"),
        }
    }

    /// The rules in use; none where there is no version.
    ///
    /// # Errors
    /// Kind corrupt for a file that was changed, internal for one that cannot be read.
    pub fn current_rules(&self) -> Result<Arc<RuleSet>> {
        match self.current()? {
            Some(version) => self.rules(&version).map(Arc::new),
            None => Ok(Arc::default()),
        }
    }

    /// The version in use; `None` where there are no rules.
    ///
    /// # Errors
    /// As [`current_rules`](Self::current_rules).
    pub fn current(&self) -> Result<Option<Version>> {
        let Some(id) = self.files.read(CURRENT)? else {
            return Ok(None);
        };
        match id.trim() {
            "" | NO_VERSION => Ok(None),
            id => self.version(id),
        }
    }

    /// The id of the version in use, `v0` where there are no rules, without reading the version.
    ///
    /// # Errors
    /// Kind internal where it cannot be told.
    pub fn current_id(&self) -> Result<String> {
        let id = self.files.read(CURRENT)?.unwrap_or_default();
        Ok(match id.trim() {
            "" => NO_VERSION.to_owned(),
            id => id.to_owned(),
        })
    }

    /// A version by its id, its number or `v` and its number; `None` for `v0`, which has no rules.
    ///
    /// # Errors
    /// Kind not found where there is none; else as [`current_rules`](Self::current_rules).
    pub fn version(&self, id: &str) -> Result<Option<Version>> {
        if id.trim().trim_start_matches('v') == "0" {
            return Ok(None);
        }
        let (number, hash) = self.files.find(id)?;
        self.load(number, &hash).map(Some)
    }

    /// Every version, oldest first.
    ///
    /// # Errors
    /// As [`current_rules`](Self::current_rules).
    pub fn versions(&self) -> Result<Vec<Version>> {
        let names = self.files.names()?;
        names.iter().map(|(number, hash)| self.load(*number, hash)).collect()
    }

    /// The rules of a version.
    ///
    /// # Errors
    /// Kind corrupt where this program cannot use them.
    pub fn rules(&self, version: &Version) -> Result<RuleSet> {
        RuleSet::compose(&version.id(), &sources_of(version)?)
    }

    /// The rules as they would be with a file imported.
    ///
    /// # Errors
    /// Kind invalid where the files do not fit together; else as [`current_rules`](Self::current_rules).
    pub fn with(&self, source: Source) -> Result<RuleSet> {
        RuleSet::compose("(not imported)", &self.sources_with(source)?)
    }

    /// The sources in use with one put in the place of its earlier self, or last. Without rules it is taken out.
    fn sources_with(&self, source: Source) -> Result<Vec<Source>> {
        let mut sources = match self.current()? {
            Some(version) => sources_of(&version)?,
            None => Vec::new(),
        };
        match sources.iter_mut().find(|earlier| earlier.name == source.name) {
            Some(earlier) => *earlier = source,
            None => sources.push(source),
        }
        sources.retain(|source| !source.rules.is_empty() || !source.shared.is_empty());
        Ok(sources)
    }

    /// Imports a file as a new version and takes it into use; where `is_dry_run`, only says what would change.
    ///
    /// # Errors
    /// Kind invalid where the files do not fit together; busy while another process imports.
    pub fn import(&self, source: Source, by: &ImportedBy, is_dry_run: bool) -> Result<ImportReport> {
        let _lock = match is_dry_run {
            true => None,
            false => Some(self.files.lock()?),
        };
        let parent = self.current()?;
        let old_sources = parent.as_ref().map(sources_of).transpose()?.unwrap_or_default();
        let import = ImportNote {
            file: by.file.clone(),
            name: source.name.clone(),
            sha256: sha256(source.text.as_bytes()),
        };
        let new_sources = self.sources_with(source)?;
        let texts: Vec<SourceText> = new_sources
            .iter()
            .map(|source| SourceText {
                name: source.name.clone(),
                text: source.text.clone(),
            })
            .collect();
        let version = Version {
            format: FORMAT,
            number: self.files.names()?.last().map_or(1, |(number, _)| number + 1),
            hash: hash_of(&texts)?,
            parent: parent.as_ref().map_or_else(|| NO_VERSION.to_owned(), Version::id),
            created_at: format_instant(by.at_ns),
            created_by: by.user.clone(),
            import,
            sources: texts,
        };
        let old = RuleSet::compose(&version.parent, &old_sources)?;
        let new = RuleSet::compose(&version.id(), &new_sources)?;
        let diff = DiffReport::between(&old, &new);
        if old_sources == new_sources {
            return Ok(ImportReport { version: None, diff });
        }
        if !is_dry_run {
            let mut json = serde_json::to_vec_pretty(&version).map_err(|error| Error::internal(error.to_string()))?;
            json.push(b'\n');
            self.files.write(&format!("{}.json", version.id()), &json)?;
            self.files.write(CURRENT, format!("{}\n", version.id()).as_bytes())?;
        }
        Ok(ImportReport {
            version: Some(version.id()),
            diff,
        })
    }

    /// Takes a version into use, `v0` for no rules; gives back its id.
    ///
    /// # Errors
    /// Kind not found where there is none, corrupt where it cannot be used.
    pub fn use_version(&self, id: &str) -> Result<String> {
        let _lock = self.files.lock()?;
        let id = match self.version(id)? {
            Some(version) => {
                self.rules(&version)?;
                version.id()
            }
            None => NO_VERSION.to_owned(),
        };
        self.files.write(CURRENT, format!("{id}\n").as_bytes())?;
        Ok(id)
    }

    fn load(&self, number: u64, hash: &str) -> Result<Version> {
        let name = format!("v{number}-{hash}.json");
        let text = self
            .files
            .read(&name)?
            .ok_or_else(|| self.files.corrupt(&name, "is missing"))?;
        let unreadable = |error| self.files.corrupt(&name, &format!("cannot be read: {error}"));
        let version: Version = serde_json::from_str(&text).map_err(unreadable)?;
        if version.format != FORMAT {
            return Err(self
                .files
                .corrupt(&name, "is of a newer format; use a newer spanledger"));
        }
        if version.number != number || version.hash != hash || hash_of(&version.sources)? != hash {
            return Err(self.files.corrupt(&name, "was changed after it was written"));
        }
        Ok(version)
    }
}

fn sources_of(version: &Version) -> Result<Vec<Source>> {
    let read = |source: &SourceText| {
        file::read(&source.name, &source.text).map_err(|error| {
            let message = format!(
                "version {} of the allocation rules cannot be used by this program: {}; take another with `spanledger allocation use`",
                version.id(),
                error.message()
            );
            Error::new(ErrorKind::Corrupt, message)
        })
    };
    version.sources.iter().map(read).collect()
}

fn hash_of(sources: &[SourceText]) -> Result<String> {
    let content = serde_json::to_vec(sources).map_err(|error| Error::internal(error.to_string()))?;
    Ok(short_hash(&sha256(&content)))
}
