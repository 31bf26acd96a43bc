//! The allocation rules that this process goes by: the version in use of the data folder, and the files that the
//! configuration names.
//!
//! Wiring between configuration and `ledger`, whose [`RuleStore`] keeps the versions. A process that settles takes
//! the files of `allocation.files` in when it starts, as an import would: where one says something new, that is a
//! new version. Others read the version in use.

use std::path::Path;
use std::sync::Arc;

use spanledger_ledger::allocation::RuleSet;
use spanledger_ledger::allocation::file::{self, FILE_BYTES_MAX, Source};
use spanledger_ledger::allocation::store::{ImportReport, ImportedBy, RuleStore};
use spanledger_model::Clock as _;
use spanledger_model::clock::SystemClock;

use crate::config::Config;
use crate::exit::{Kind, fail};

/// The versions of the data folder.
pub fn store(config: &Config) -> RuleStore {
    RuleStore::new(config.data())
}

/// The rules in use.
///
/// # Errors
/// Kind corrupt for a version that was changed, internal for one that cannot be read.
pub fn rules(config: &Config) -> anyhow::Result<Arc<RuleSet>> {
    Ok(store(config).current_rules()?)
}

/// The rules to settle by, with the files of the configuration taken in.
///
/// # Errors
/// As [`rules`]; kind invalid for a file that cannot be used.
pub fn rules_for_settlement(config: &Config) -> anyhow::Result<Arc<RuleSet>> {
    for path in &config.allocation.files.value.0 {
        import(config, path, None, false)?;
    }
    rules(config)
}

/// Imports a file under a name, its own where none is given; where `is_dry_run`, only says what would change.
///
/// # Errors
/// Kind invalid where it cannot be read or used, busy while another process imports.
pub fn import(config: &Config, path: &Path, name: Option<&str>, is_dry_run: bool) -> anyhow::Result<ImportReport> {
    let source = read(path, name)?;
    let user = ["USER", "LOGNAME", "USERNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok());
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let by = ImportedBy {
        user: user.filter(|user| !user.is_empty()),
        at_ns: SystemClock.now_ns(),
        file: file.unwrap_or_default(),
    };
    Ok(store(config).import(source, &by, is_dry_run)?)
}

/// Reads a file.
///
/// # Errors
/// Kind invalid where it cannot be read or used.
pub fn read(path: &Path, name: Option<&str>) -> anyhow::Result<Source> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| fail(Kind::Invalid, format!("cannot read {shown}: {error}"));
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > FILE_BYTES_MAX as u64 {
        let message = format!("{shown} has {size} bytes, more than {FILE_BYTES_MAX}; split it into several files");
        return Err(fail(Kind::Invalid, message));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = name.map(str::to_owned).or(stem).unwrap_or_default();
    Ok(file::read(&name, &text)?)
}
