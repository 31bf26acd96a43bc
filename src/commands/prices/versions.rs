//! `prices import`, `versions`, `diff`, `use` and `check`: the price book's versions in the data folder.
//!
//! Works beside a running server: a version is written whole before it is taken into use, and the server
//! goes on with the one it started with.

use std::path::Path;

use serde_json::{Value, json};
use spanledger_ledger::prices::diff::DiffReport;
use spanledger_ledger::prices::read::{self, FILE_BYTES_MAX, PriceFile};
use spanledger_ledger::prices::store::{BUILT_IN, ImportedBy};
use spanledger_ledger::prices::vectors;
use spanledger_ledger::prices::{Layer, PriceBook};
use spanledger_model::Clock as _;
use spanledger_model::clock::SystemClock;

use crate::cli::{PricesCheckArgs, PricesDiffArgs, PricesImportArgs, PricesUseArgs, PricesVersionsArgs, ReportFormat};
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::output;
use crate::prices::{book, book_of_version, store};

/// Entries of each part of a report that a person is shown.
const ENTRIES_MAX: usize = 50;

/// What every change of the version in use ends with.
const NEXT_START: &str =
    "calls settled from now on are charged by it; a server on this folder reads it when it is started again";

/// `prices import`.
pub fn import(args: &PricesImportArgs, config: &Config) -> anyhow::Result<Outcome> {
    let (imported, file) = match &args.file {
        None => (read::builtin(), "(built in)".to_owned()),
        Some(path) => {
            let text = read_text(path)?;
            let imported = read::read(&PriceFile {
                path,
                text: &text,
                format: args.format.map(|format| format.format()),
                layer: args.layer.map(|layer| layer.layer()),
                name: args.name.as_deref(),
                wins: args.wins,
            })?;
            let file = path.file_name().map(|name| name.to_string_lossy().into_owned());
            (imported, file.unwrap_or_default())
        }
    };
    let notes = imported.notes.clone();
    let user = ["USER", "LOGNAME", "USERNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok());
    let by = ImportedBy {
        user: user.filter(|user| !user.is_empty()),
        at_ns: SystemClock.now_ns(),
        file,
    };
    let report = store(config).import(imported, &by, args.dry_run)?;
    if args.report == ReportFormat::Json {
        let report = json!({
            "version": report.version, "dry_run": args.dry_run, "notes": notes, "diff": report.diff,
        });
        output::print(&format!("{report:#}\n"))?;
        return Ok(Outcome::Done);
    }
    notes.iter().for_each(|note| output::note(&format!("note: {note}")));
    let mut text = report.diff.to_text(ENTRIES_MAX);
    text.push_str(&match (&report.version, args.dry_run) {
        (None, _) => "the price book says so already; no new version\n".to_owned(),
        (Some(_), true) => "a dry run: nothing was written\n".to_owned(),
        (Some(version), false) => format!("version {version} is in use: {NEXT_START}\n"),
    });
    output::print(&text)?;
    Ok(Outcome::Done)
}

/// `prices versions`.
pub fn versions(args: &PricesVersionsArgs, config: &Config) -> anyhow::Result<Outcome> {
    let store = store(config);
    let in_use = store
        .current()?
        .map_or_else(|| BUILT_IN.to_owned(), |version| version.id());
    let built_in = json!({
        "version": BUILT_IN, "in_use": in_use == BUILT_IN, "created_at": null, "created_by": null, "file": null,
        "format": null, "layer": null, "name": PriceBook::embedded()?.version(), "parent": null, "sha256": null,
    });
    let mut rows = vec![built_in];
    for version in store.versions()? {
        let import = &version.import;
        rows.push(json!({
            "version": version.id(), "in_use": version.id() == in_use, "created_at": version.created_at,
            "created_by": version.created_by, "file": import.file, "format": import.format,
            "layer": import.layer.as_str(), "name": import.name, "parent": version.parent, "sha256": import.sha256,
        }));
    }
    let shown = match args.format {
        output::RowFormat::Json | output::RowFormat::Ndjson => rows,
        _ => rows.iter().map(marked).collect(),
    };
    let columns = [
        "in_use",
        "version",
        "created_at",
        "created_by",
        "layer",
        "name",
        "file",
        "parent",
    ];
    output::write_rows(&shown, &columns, args.format, &mut output::stdout())?;
    Ok(Outcome::Done)
}

/// A version as a line: what is not known is empty, and the one in use has a star.
fn marked(row: &Value) -> Value {
    let mut row = row.clone();
    for value in row.as_object_mut().into_iter().flat_map(|row| row.values_mut()) {
        *value = match &*value {
            Value::Null | Value::Bool(false) => "".into(),
            Value::Bool(true) => "*".into(),
            other => other.clone(),
        };
    }
    row
}

/// `prices diff`.
pub fn diff(args: &PricesDiffArgs, config: &Config) -> anyhow::Result<Outcome> {
    let (old, new) = (book_of_version(config, &args.from)?, book_of_version(config, &args.to)?);
    let report = DiffReport::between(&old, &new);
    output::print(&match args.report {
        ReportFormat::Json => format!("{:#}\n", serde_json::to_value(&report)?),
        ReportFormat::Table => format!("{} -> {}\n{}", report.from, report.to, report.to_text(ENTRIES_MAX)),
    })?;
    Ok(Outcome::Done)
}

/// `prices use`.
pub fn use_version(args: &PricesUseArgs, config: &Config) -> anyhow::Result<Outcome> {
    let old = book(config);
    let version = store(config).use_version(&args.id)?;
    let mut text = String::new();
    if let Ok(old) = old {
        text = DiffReport::between(&old, &*book(config)?).to_text(ENTRIES_MAX);
    }
    output::print(&format!("{text}version {version} is in use: {NEXT_START}\n"))?;
    Ok(Outcome::Done)
}

/// `prices check`.
pub fn check(args: &PricesCheckArgs, config: &Config) -> anyhow::Result<Outcome> {
    let contracted = match args.layer.layer() {
        Layer::List => false,
        Layer::Contract => true,
        Layer::Tools => {
            return Err(fail(
                Kind::Invalid,
                "vectors are about models; check --as list or --as contract",
            ));
        }
    };
    let text = read_text(&args.file)?;
    let report = vectors::check(&text, &*book(config)?, contracted)
        .map_err(|error| anyhow::Error::new(error).context(args.file.display().to_string()))?;
    let n_differ = report.differences.len();
    output::print(&match args.report {
        ReportFormat::Json => format!("{:#}\n", serde_json::to_value(&report)?),
        ReportFormat::Table => {
            let told = report.differences.iter().map(|it| {
                let price = it.price_id.as_deref().unwrap_or("no price");
                format!("{}: {} instead of {} ({price})\n", it.id, it.found, it.expected)
            });
            let n_agree = report.n_checked - n_differ;
            format!(
                "{}{n_agree} of {} vectors agree with {}\n",
                told.collect::<String>(),
                report.n_checked,
                report.version
            )
        }
    })?;
    Ok(if n_differ == 0 { Outcome::Done } else { Outcome::No })
}

/// A price file's text, bounded.
fn read_text(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| fail(Kind::Invalid, format!("cannot read {shown}: {error}"));
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > FILE_BYTES_MAX as u64 {
        let message =
            format!("{shown} has {size} bytes, more than {FILE_BYTES_MAX}; import its parts under names of their own");
        return Err(fail(Kind::Invalid, message));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}
