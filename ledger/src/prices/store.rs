//! The versions of the price book in the data folder, and which of them is in use.
//!
//! ```text
//! <data>/prices/
//!   v3-1a2b3c4d5e6f.json         a version: what it was imported from, its contracts, list prices, tools
//!   catalogue-9e6672553cdc.json  the catalogue of one or more versions, byte for byte as imported
//!   overrides-0f1e2d3c4b5a.json  our corrections to it
//!   current                      the id of the version in use
//!   lock                         held while a version is written
//! ```
//!
//! A version never changes: its id has the hash of its content, which is checked whenever it is read, as are
//! the hashes of the files it names. Without a version, or with `v0` in use, the book is the one built into
//! the program. Every file is written beside its name, synchronised and renamed, `current` last, so that a
//! crash leaves the version before in use. A server takes up another version while it runs.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::diff::DiffReport;
use super::read::Imported;
use super::stated::{Layer, Source};
use super::validity::format_instant;
use super::{CatalogueFiles, PriceBook};
use crate::error::{Error, Result};
use crate::version_files::{CURRENT, VersionFiles, sha256, short_hash};

/// Id of the book built into the program.
pub const BUILT_IN: &str = "v0";
/// Folder within the data folder.
const FOLDER: &str = "prices";
/// Format of a version's file.
const FORMAT: u32 = 1;

/// The versions in a data folder.
#[derive(Debug, Clone)]
pub struct PriceStore {
    files: VersionFiles,
}

/// One version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// Format of the file.
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
    /// Its catalogue.
    pub catalogue: CatalogueRef,
    /// Everything else.
    pub sources: Vec<Source>,
}

/// What was imported to make a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportNote {
    /// Name of the file, without its folder.
    pub file: String,
    /// `genai-prices`, `litellm`, `csv`, `toml`.
    pub format: String,
    /// Name of the source.
    pub name: String,
    /// What its prices are.
    pub layer: Layer,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// The catalogue of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueRef {
    /// Prefix of its records' identities.
    pub name: String,
    /// What it says of its own version.
    pub release: String,
    /// SHA-256 of the catalogue.
    pub sha256: String,
    /// SHA-256 of the overrides.
    pub overrides_sha256: String,
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
    /// The new version; absent where the file says what the book says already.
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

impl PriceStore {
    /// The store of a data folder, which need not exist yet.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        Self {
            files: VersionFiles::new(data, FOLDER, "the price book", "prices"),
        }
    }

    /// The book in use: that of the version in use, or the built-in one.
    ///
    /// # Errors
    /// Kind corrupt for a file that was changed, internal for one that cannot be read.
    pub fn current_book(&self) -> Result<Arc<PriceBook>> {
        match self.current()? {
            Some(version) => self.book(&version).map(Arc::new),
            None => PriceBook::embedded(),
        }
    }

    /// The id of the version in use, without a look at what it holds: cheap enough to be asked every second.
    ///
    /// # Errors
    /// Kind internal where it cannot be read.
    pub fn current_id(&self) -> Result<String> {
        let id = self.files.read(CURRENT)?.unwrap_or_default();
        Ok(match id.trim() {
            "" => BUILT_IN.to_owned(),
            id => id.to_owned(),
        })
    }

    /// The version in use; `None` for the built-in book.
    ///
    /// # Errors
    /// As [`current_book`](Self::current_book).
    pub fn current(&self) -> Result<Option<Version>> {
        let Some(id) = self.files.read(CURRENT)? else {
            return Ok(None);
        };
        match id.trim() {
            "" | BUILT_IN => Ok(None),
            id => self.version(id),
        }
    }

    /// A version by its id, its number or `v` and its number; `None` for the built-in one, `v0`.
    ///
    /// # Errors
    /// Kind not found where there is none; else as [`current_book`](Self::current_book).
    pub fn version(&self, id: &str) -> Result<Option<Version>> {
        if id.trim().trim_start_matches('v') == "0" {
            return Ok(None);
        }
        let (number, hash) = self.files.find(id)?;
        self.load(number, &hash).map(Some)
    }

    /// Every version, oldest first, without the built-in one.
    ///
    /// # Errors
    /// As [`current_book`](Self::current_book).
    pub fn versions(&self) -> Result<Vec<Version>> {
        let names = self.files.names()?;
        names.iter().map(|(number, hash)| self.load(*number, hash)).collect()
    }

    /// The book of a version.
    ///
    /// # Errors
    /// As [`current_book`](Self::current_book).
    pub fn book(&self, version: &Version) -> Result<PriceBook> {
        PriceBook::compose(&version.id(), &self.files_of(&version.catalogue)?, &version.sources)
    }

    /// Imports a file as a new version and takes it into use; where `is_dry_run`, only says what would change.
    /// A file that says what the book says already makes no version.
    ///
    /// # Errors
    /// Kind invalid where the records do not fit together; busy while another process imports.
    pub fn import(&self, imported: Imported, by: &ImportedBy, is_dry_run: bool) -> Result<ImportReport> {
        let _lock = match is_dry_run {
            true => None,
            false => Some(self.files.lock()?),
        };
        let parent = self.current()?;
        let (mut files, mut sources) = match &parent {
            Some(parent) => (self.files_of(&parent.catalogue)?, parent.sources.clone()),
            None => (CatalogueFiles::embedded(), Vec::new()),
        };
        let layer = imported.source.as_ref().map_or(Layer::List, |source| source.layer);
        if let Some(catalogue) = imported.catalogue {
            files = catalogue;
        }
        if let Some(source) = imported.source {
            sources.retain(|earlier| earlier.name != source.name);
            // A file without records takes its source out of the book.
            if !source.prices.is_empty() || !source.tools.is_empty() {
                sources.push(source);
            }
        }
        let catalogue = CatalogueRef {
            name: files.name.clone(),
            release: files.release.clone(),
            sha256: sha256(files.catalogue.as_bytes()),
            overrides_sha256: sha256(files.overrides.as_bytes()),
        };
        let hash = hash_of(&catalogue, &sources)?;
        let version = Version {
            format: FORMAT,
            number: self.files.names()?.last().map_or(1, |(number, _)| number + 1),
            hash,
            parent: parent.as_ref().map_or_else(|| BUILT_IN.to_owned(), Version::id),
            created_at: format_instant(by.at_ns),
            created_by: by.user.clone(),
            import: ImportNote {
                file: by.file.clone(),
                format: imported.format.as_str().to_owned(),
                name: imported.name,
                layer,
                sha256: imported.sha256,
            },
            catalogue,
            sources,
        };
        let old = self.current_book()?;
        let new = PriceBook::compose(&version.id(), &files, &version.sources)?;
        let diff = DiffReport::between(&old, &new);
        let is_same = match &parent {
            Some(parent) => parent.hash == version.hash,
            None => version.sources.is_empty() && files == CatalogueFiles::embedded(),
        };
        if is_same {
            return Ok(ImportReport { version: None, diff });
        }
        if !is_dry_run {
            self.write(&version, &files)?;
        }
        Ok(ImportReport {
            version: Some(version.id()),
            diff,
        })
    }

    /// Takes a version into use, `v0` for the built-in one; gives back its id.
    ///
    /// # Errors
    /// Kind not found where there is none, corrupt where it cannot be used.
    pub fn use_version(&self, id: &str) -> Result<String> {
        let _lock = self.files.lock()?;
        let id = match self.version(id)? {
            Some(version) => {
                self.book(&version)?;
                version.id()
            }
            None => BUILT_IN.to_owned(),
        };
        self.files.write(CURRENT, format!("{id}\n").as_bytes())?;
        Ok(id)
    }

    fn write(&self, version: &Version, files: &CatalogueFiles) -> Result<()> {
        for (name, text) in [
            (catalogue_name(&version.catalogue), &files.catalogue),
            (overrides_name(&version.catalogue), &files.overrides),
        ] {
            if !self.files.holds(&name) {
                self.files.write(&name, text.as_bytes())?;
            }
        }
        let mut json = serde_json::to_vec_pretty(version).map_err(|error| Error::internal(error.to_string()))?;
        json.push(b'\n');
        self.files.write(&format!("{}.json", version.id()), &json)?;
        self.files.write(CURRENT, format!("{}\n", version.id()).as_bytes())
    }

    fn files_of(&self, catalogue: &CatalogueRef) -> Result<CatalogueFiles> {
        let read = |name: String, wanted: &str| {
            let text = self
                .files
                .read(&name)?
                .ok_or_else(|| self.files.corrupt(&name, "is missing"))?;
            if sha256(text.as_bytes()) == *wanted {
                Ok(text)
            } else {
                Err(self.files.corrupt(&name, "was changed after it was written"))
            }
        };
        Ok(CatalogueFiles {
            name: catalogue.name.clone(),
            release: catalogue.release.clone(),
            catalogue: read(catalogue_name(catalogue), &catalogue.sha256)?,
            overrides: read(overrides_name(catalogue), &catalogue.overrides_sha256)?,
        })
    }

    fn load(&self, number: u64, hash: &str) -> Result<Version> {
        let name = format!("v{number}-{hash}.json");
        let text = self
            .files
            .read(&name)?
            .ok_or_else(|| self.files.corrupt(&name, "is missing"))?;
        let version: Version = serde_json::from_str(&text)
            .map_err(|error| self.files.corrupt(&name, &format!("cannot be read: {error}")))?;
        if version.format != FORMAT {
            return Err(self
                .files
                .corrupt(&name, "is of a newer format; use a newer spanledger"));
        }
        if version.number != number || version.hash != hash || hash_of(&version.catalogue, &version.sources)? != hash {
            return Err(self.files.corrupt(&name, "was changed after it was written"));
        }
        Ok(version)
    }
}

fn catalogue_name(catalogue: &CatalogueRef) -> String {
    format!("catalogue-{}.json", short_hash(&catalogue.sha256))
}

fn overrides_name(catalogue: &CatalogueRef) -> String {
    format!("overrides-{}.json", short_hash(&catalogue.overrides_sha256))
}

fn hash_of(catalogue: &CatalogueRef, sources: &[Source]) -> Result<String> {
    let content = serde_json::to_vec(&(catalogue, sources)).map_err(|error| Error::internal(error.to_string()))?;
    Ok(short_hash(&sha256(&content)))
}

#[cfg(test)]
mod tests;
