//! `allocation …`: here `list`, `show`, `import`, `versions`, `diff` and `use`.
//!
//! Works beside a running server: a version is written whole before it is taken into use, and the server goes on
//! with the one it started with.

mod check;
mod split;

use serde_json::{Value, json};
use spanledger_ledger::allocation::diff::{DiffReport, rule_text, shared_text};
use spanledger_ledger::allocation::rules::NO_VERSION;
use spanledger_ledger::allocation::{Rule, RuleSet, SharedCost};
use spanledger_ledger::prices::format_instant;

use crate::allocation::{rules, store};
use crate::cli::{
    AllocationCommand, AllocationDiffArgs, AllocationImportArgs, AllocationListArgs, AllocationShowArgs,
    AllocationUseArgs, AllocationVersionsArgs, ReportFormat,
};
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::output::{self, RowFormat};

/// Entries of each part of a report that a person is shown.
const ENTRIES_MAX: usize = 50;
/// What every change of the version in use ends with.
const NEXT_START: &str = "calls settled from now on are allocated by it; a server on this folder reads it when it is started again,\n\
     and `spanledger settle --rebuild` moves what was settled before, from each rule's valid_from";

/// Runs the command.
pub async fn run(command: &AllocationCommand, config: &Config) -> anyhow::Result<Outcome> {
    match command {
        AllocationCommand::List(args) => list(args, config),
        AllocationCommand::Show(args) => show(args, config),
        AllocationCommand::Import(args) => import(args, config),
        AllocationCommand::Check(args) => check::run(args, config).await,
        AllocationCommand::Diff(args) => diff(args, config),
        AllocationCommand::Versions(args) => versions(args, config),
        AllocationCommand::Use(args) => use_version(args, config),
        AllocationCommand::Split(args) => split::run(args, config).await,
    }
}

/// The rules of a version, `v0` for none.
fn rules_of_version(config: &Config, version: &str) -> anyhow::Result<RuleSet> {
    let store = store(config);
    Ok(match store.version(version)? {
        Some(version) => store.rules(&version)?,
        None => RuleSet::default(),
    })
}

fn list(args: &AllocationListArgs, config: &Config) -> anyhow::Result<Outcome> {
    let rules = rules(config)?;
    let mut rows: Vec<Value> = Vec::new();
    for (index, rule) in rules.rules().iter().enumerate() {
        let mut row = rule_json(rule);
        row["order"] = (index + 1).into();
        rows.push(row);
    }
    rows.extend(rules.shared().iter().map(shared_json));
    if rows.is_empty() {
        output::note(
            "there are no rules; `spanledger allocation import FILE` makes a version, docs/allocation.md has an example",
        );
        return Ok(Outcome::No);
    }
    let columns = ["order", "type", "name", "if", "then", "override"];
    match args.format {
        RowFormat::Json | RowFormat::Ndjson => output::write_rows(&rows, &[], args.format, &mut output::stdout())?,
        _ => {
            let rows: Vec<Value> = rows.iter().map(plain).collect();
            output::write_rows(&rows, &columns, args.format, &mut output::stdout())?;
            output::note(&format!("version {}", rules.version()));
        }
    }
    Ok(Outcome::Done)
}

/// What is not said is an empty cell.
fn plain(row: &Value) -> Value {
    let mut row = row.clone();
    for value in row.as_object_mut().into_iter().flat_map(|row| row.values_mut()) {
        *value = match &*value {
            Value::Null | Value::Bool(false) => "".into(),
            Value::Bool(true) => "yes".into(),
            other => other.clone(),
        };
    }
    if row.get("order").is_none() {
        row["order"] = "".into();
        row["override"] = "".into();
    }
    row
}

fn rule_json(rule: &Rule) -> Value {
    json!({
        "type": "rule", "name": rule.name, "if": rule.condition_text(), "then": rule.sets_text(), "override": rule.overrides,
        "valid_from": rule.validity.from_ns.map(format_instant), "valid_to": rule.validity.to_ns.map(format_instant),
    })
}

fn shared_json(cost: &SharedCost) -> Value {
    json!({
        "type": "shared", "name": cost.name, "if": cost.amount_text(), "then": cost.method_text(),
        "what": cost.what, "amount": cost.amount.to_string(), "currency": "USD", "by": cost.by,
        "valid_from": cost.from_ns.map(format_instant), "valid_to": cost.to_ns.map(format_instant),
    })
}

fn show(args: &AllocationShowArgs, config: &Config) -> anyhow::Result<Outcome> {
    let store = store(config);
    let version = match &args.id {
        Some(id) => store.version(id)?,
        None => store.current()?,
    };
    let set = match &version {
        Some(version) => store.rules(version)?,
        None => RuleSet::default(),
    };
    let rule = set.rule(&args.name);
    let cost = set.shared().iter().find(|cost| cost.name == args.name);
    let Some((entry, text)) = rule
        .map(|rule| (rule_json(rule), rule_text(rule)))
        .or_else(|| cost.map(|cost| (shared_json(cost), shared_text(cost))))
    else {
        output::note(&format!(
            "no rule or shared cost is named {}; `spanledger allocation list` names them",
            args.name
        ));
        return Ok(Outcome::No);
    };
    let made = version.as_ref().map_or_else(String::new, |version| {
        format!(", made {} from {}", version.created_at, version.import.file)
    });
    output::print(&match args.report {
        ReportFormat::Json => format!("{entry:#}\n"),
        ReportFormat::Table => {
            let place = set.rules().iter().position(|rule| rule.name == args.name);
            let place = place.map_or_else(String::new, |place| {
                format!(", {} of {} rules", place + 1, set.rules().len())
            });
            format!("{}\n  {text}\n  version {}{made}{place}\n", args.name, set.version())
        }
    })?;
    Ok(Outcome::Done)
}

fn import(args: &AllocationImportArgs, config: &Config) -> anyhow::Result<Outcome> {
    let report = crate::allocation::import(config, &args.file, args.name.as_deref(), args.dry_run)?;
    if args.report == ReportFormat::Json {
        let report = json!({ "version": report.version, "dry_run": args.dry_run, "diff": report.diff });
        output::print(&format!("{report:#}\n"))?;
        return Ok(Outcome::Done);
    }
    let mut text = match report.version {
        Some(_) => report.diff.to_text(ENTRIES_MAX),
        None => String::new(),
    };
    text.push_str(&match (&report.version, args.dry_run) {
        (None, _) => "the rules say so already; no new version\n".to_owned(),
        (Some(_), true) => "a dry run: nothing was written\n".to_owned(),
        (Some(version), false) => format!("version {version} is in use: {NEXT_START}\n"),
    });
    output::print(&text)?;
    Ok(Outcome::Done)
}

fn versions(args: &AllocationVersionsArgs, config: &Config) -> anyhow::Result<Outcome> {
    let store = store(config);
    let in_use = store
        .current()?
        .map_or_else(|| NO_VERSION.to_owned(), |version| version.id());
    let mut rows = vec![json!({
        "version": NO_VERSION, "in_use": in_use == NO_VERSION, "created_at": null, "created_by": null, "file": "(no rules)",
        "name": null, "rules": 0, "shared": 0, "parent": null, "sha256": null,
    })];
    for version in store.versions()? {
        // A version that this program cannot read is listed all the same.
        let set = store.rules(&version).ok();
        rows.push(json!({
            "version": version.id(), "in_use": version.id() == in_use, "created_at": version.created_at,
            "created_by": version.created_by, "file": version.import.file, "name": version.import.name,
            "rules": set.as_ref().map(|set| set.rules().len()), "shared": set.as_ref().map(|set| set.shared().len()),
            "parent": version.parent, "sha256": version.import.sha256,
        }));
    }
    let shown: Vec<Value> = match args.format {
        RowFormat::Json | RowFormat::Ndjson => rows,
        _ => rows.iter().map(marked).collect(),
    };
    let columns = [
        "in_use",
        "version",
        "created_at",
        "created_by",
        "name",
        "file",
        "rules",
        "shared",
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

fn diff(args: &AllocationDiffArgs, config: &Config) -> anyhow::Result<Outcome> {
    let (old, new) = (
        rules_of_version(config, &args.from)?,
        rules_of_version(config, &args.to)?,
    );
    let report = DiffReport::between(&old, &new);
    output::print(&match args.report {
        ReportFormat::Json => format!("{:#}\n", serde_json::to_value(&report)?),
        ReportFormat::Table => format!("{} -> {}\n{}", report.from, report.to, report.to_text(ENTRIES_MAX)),
    })?;
    Ok(Outcome::Done)
}

fn use_version(args: &AllocationUseArgs, config: &Config) -> anyhow::Result<Outcome> {
    if !config.allocation.files.value.0.is_empty() {
        return Err(fail(
            Kind::Invalid,
            "the files of allocation.files in the configuration would be taken in again at the next start; change them, or leave the setting out",
        ));
    }
    let old = rules(config);
    let version = store(config).use_version(&args.id)?;
    let text = match old {
        Ok(old) => DiffReport::between(&old, &*rules(config)?).to_text(ENTRIES_MAX),
        Err(_) => String::new(),
    };
    output::print(&format!("{text}version {version} is in use: {NEXT_START}\n"))?;
    Ok(Outcome::Done)
}
