//! The dialects of this process: the built-in ones and the user's files, read once at start.
//!
//! Wiring between configuration, `ingest` (whose registry reads telemetry) and `query` (which asks what is
//! read and what is not). A file that is wrong is an error before anything is opened, naming file, line and
//! key: telemetry that was read by a broken mapping would have to be settled again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use spanledger_ingest::dialects::{Registry, usage_like};
use spanledger_query::Dialects;

use crate::config::Config;
use crate::exit::{Kind, fail};

/// Largest dialect file, in bytes: fifty times the largest built-in one.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The built-in dialects and those of the settings.
///
/// # Errors
/// Kind invalid where a file cannot be read or used, naming it, the line and the key.
pub fn registry(config: &Config) -> anyhow::Result<Arc<Registry>> {
    let named = [&config.dialects.files, &config.dialects.folder];
    let mut files = Vec::new();
    for setting in named {
        for path in &setting.value.0 {
            let read = read(path).map_err(|error| {
                fail(
                    Kind::Invalid,
                    format!(
                        "{error}; it is named by dialects.files or dialects.folder, from {}",
                        setting.origin
                    ),
                )
            })?;
            files.extend(read);
        }
    }
    with_files(&files)
}

/// The built-in dialects and these.
///
/// # Errors
/// Kind invalid, naming file, line and key.
pub fn with_files(files: &[(String, String)]) -> anyhow::Result<Arc<Registry>> {
    if files.is_empty() {
        return Ok(Registry::builtin());
    }
    Registry::with_files(files).map_err(|error| fail(Kind::Invalid, error.message()))
}

/// A dialect's file, or every `.toml` of a folder in order of name: (name for people, text).
///
/// # Errors
/// Kind invalid where one cannot be read.
pub fn read(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| {
        fail(
            Kind::Invalid,
            format!("cannot read the dialect file {}: {error}", path.display()),
        )
    };
    let mut paths: Vec<PathBuf> = if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let paths = paths
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unreadable(path, &error))?;
        let is_toml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "toml");
        paths.into_iter().filter(is_toml).collect()
    } else {
        vec![path.to_owned()]
    };
    paths.sort();
    let text = |path: &PathBuf| {
        let size = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?.len();
        if size > FILE_BYTES_MAX {
            return Err(unreadable(
                path,
                &format!("it has {size} bytes and the limit is {FILE_BYTES_MAX}"),
            ));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        Ok((path.display().to_string(), text))
    };
    paths.iter().map(text).collect()
}

/// A registry as the query engine asks it.
pub struct Known(pub Arc<Registry>);

impl Dialects for Known {
    fn dialect_of(&self, scope: &str, service: Option<&str>) -> Option<String> {
        let dialect = self.0.recognise(scope, service);
        (!self.0.is_fallback(dialect)).then(|| dialect.name.to_string())
    }

    fn field_of(&self, scope: &str, service: Option<&str>, key: &str) -> Option<&'static str> {
        self.0.field_of(scope, service, key)
    }

    fn usage_like(&self, key: &str) -> Option<&'static str> {
        usage_like(key)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_folder_stands_for_its_toml_files_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.toml", "a.toml", "c.txt"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let names: Vec<String> = read(folder.path())
            .unwrap()
            .into_iter()
            .map(|(name, _)| name.rsplit('/').next().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["a.toml", "b.toml"]);
        assert!(
            read(&folder.path().join("no.toml"))
                .unwrap_err()
                .to_string()
                .contains("no.toml")
        );
    }

    #[test]
    fn the_engine_is_told_who_claims_a_scope_and_that_nobody_does() {
        let known = Known(Registry::builtin());
        assert_eq!(known.dialect_of("fastmcp", None).as_deref(), Some("fastmcp"));
        assert_eq!(known.dialect_of("nobody", Some("nobody")), None);
        assert_eq!(
            known.field_of("nobody", None, "gen_ai.usage.input_tokens"),
            Some("input")
        );
        assert_eq!(known.field_of("nobody", None, "acme.input_tokens"), None);
    }
}
