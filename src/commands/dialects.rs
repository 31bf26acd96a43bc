//! `dialects list`, `show` and `check`: what emitters' records mean, and whether a file of one's own is right.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use spanledger_ingest::capture::Reading;
use spanledger_ingest::dialects::{Compiled, Registry};
use spanledger_ledger::prices::PriceBook;
use spanledger_model::Call;

use crate::capture::totals::{self, Compared};
use crate::cli::{CheckArgs, DialectsCommand, ReportFormat};
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::output::{self, RowFormat};

/// Names offered where one is not known.
const OFFERED_MAX: usize = 40;
/// Characters of a name that are shown.
const NAME_CHARS_MAX: usize = 60;

/// Runs the command.
pub fn run(command: &DialectsCommand, config: &Config) -> anyhow::Result<Outcome> {
    match command {
        DialectsCommand::List { format } => list(&*crate::dialects::registry(config)?, *format),
        DialectsCommand::Show { name } => show(&*crate::dialects::registry(config)?, name),
        DialectsCommand::Check(args) => check(args, config),
    }
}

fn list(registry: &Registry, format: ReportFormat) -> anyhow::Result<Outcome> {
    let rows: Vec<Value> = registry.dialects().iter().map(|dialect| row(dialect)).collect();
    let (columns, format): (&[&str], RowFormat) = match format {
        ReportFormat::Table => (
            &["name", "emitter", "versions", "evidence", "scopes", "services", "file"],
            RowFormat::Table,
        ),
        ReportFormat::Json => (&[], RowFormat::Json),
    };
    let rows: Vec<Value> = match format {
        RowFormat::Table => rows.iter().map(one_line).collect(),
        _ => rows,
    };
    output::write_rows(&rows, columns, format, &mut output::stdout())?;
    Ok(Outcome::Done)
}

fn row(dialect: &Compiled) -> Value {
    json!({
        "name": *dialect.name,
        "emitter": dialect.emitter,
        "versions": dialect.versions,
        "evidence": dialect.evidence.as_str(),
        "scopes": dialect.scopes,
        "services": dialect.services,
        "sources": dialect.sources,
        "file": dialect.file,
    })
}

/// Lists as text, and long texts cut, for a table.
fn one_line(row: &Value) -> Value {
    let Some(row) = row.as_object() else { return Value::Null };
    let text = |value: &Value| {
        let text = match value {
            Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        cut(&text)
    };
    row.iter()
        .map(|(key, value)| (key.clone(), Value::from(text(value))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn cut(text: &str) -> String {
    if text.chars().count() <= NAME_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(NAME_CHARS_MAX - 1).chain(['…']).collect()
}

fn show(registry: &Registry, name: &str) -> anyhow::Result<Outcome> {
    let Some(dialect) = registry.dialects().iter().find(|dialect| *dialect.name == *name) else {
        let names: Vec<&str> = registry
            .dialects()
            .iter()
            .take(OFFERED_MAX)
            .map(|dialect| &*dialect.name)
            .collect();
        return Err(fail(
            Kind::Invalid,
            format!("there is no dialect {name:?}; there are {}", names.join(", ")),
        ));
    };
    output::print(&format!("{}\n", dialect.text.trim_end()))?;
    Ok(Outcome::Done)
}

fn check(args: &CheckArgs, config: &Config) -> anyhow::Result<Outcome> {
    let mut files = Vec::new();
    for path in &args.files {
        files.extend(crate::dialects::read(path)?);
    }
    // Without files, the dialects that the settings name are what a capture is read with.
    let registry = if files.is_empty() {
        crate::dialects::registry(config)?
    } else {
        crate::dialects::with_files(&files)?
    };
    let own: Vec<&Arc<Compiled>> = registry
        .dialects()
        .iter()
        .filter(|dialect| files.iter().any(|(file, _)| dialect.file.contains(file.as_str())))
        .collect();
    let checked = Checked {
        dialects: own.iter().map(|dialect| row(dialect)).collect(),
        capture: match &args.capture {
            Some(folder) => Some(CheckedCapture::read(folder, &registry)?),
            None => None,
        },
    };
    output::print(&match args.format {
        ReportFormat::Table => checked.to_text(),
        ReportFormat::Json => format!("{:#}\n", checked.to_json()),
    })?;
    Ok(if checked.differs() { Outcome::No } else { Outcome::Done })
}

/// What a check found.
struct Checked {
    dialects: Vec<Value>,
    capture: Option<CheckedCapture>,
}

struct CheckedCapture {
    reading: Reading,
    calls: Vec<Call>,
    /// `None` where the capture has no expected.json.
    compared: Option<Vec<Compared>>,
}

impl CheckedCapture {
    fn read(folder: &Path, registry: &Arc<Registry>) -> anyhow::Result<Self> {
        let reading = Reading::of(folder, registry).map_err(|error| fail(Kind::Invalid, error.message()))?;
        let calls = totals::calls(&reading, &PriceBook::embedded()?);
        let truth = folder.join("expected.json");
        let compared = match std::fs::read_to_string(&truth) {
            Ok(text) => {
                let expected: Value = serde_json::from_str(&text)
                    .map_err(|error| fail(Kind::Invalid, format!("{} is no JSON: {error}", truth.display())))?;
                Some(totals::compare(&expected, &calls))
            }
            Err(_) => None,
        };
        Ok(Self {
            reading,
            calls,
            compared,
        })
    }

    /// True where a number that we know is not what the ground truth says.
    fn differs(&self) -> bool {
        let mut compared = self.compared.iter().flatten();
        compared.any(|one| one.read.is_some() && !one.is_equal)
    }
}

impl Checked {
    fn differs(&self) -> bool {
        self.capture.as_ref().is_some_and(CheckedCapture::differs)
    }

    fn to_json(&self) -> Value {
        let capture = self.capture.as_ref().map(|capture| {
            json!({
                "records": capture.reading.n_records,
                "observations": capture.reading.observations.len(),
                "calls": capture.calls.iter().map(call_row).collect::<Vec<_>>(),
                "totals": totals::totals(&capture.calls),
                "compared": capture.compared.iter().flatten().map(|one| json!({
                    "name": one.name, "expected": one.expected, "read": one.read, "equal": one.is_equal,
                })).collect::<Vec<_>>(),
                "unread_keys": capture.reading.unread.iter().map(|(key, n_records)| json!({
                    "service": key.service, "scope": key.scope, "signal": key.signal, "key": key.key,
                    "field": key.field, "records": n_records,
                })).collect::<Vec<_>>(),
                "equal": !capture.differs(),
            })
        });
        json!({ "dialects": self.dialects, "capture": capture })
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        for dialect in &self.dialects {
            let name = dialect["name"].as_str().unwrap_or_default();
            text.push_str(&format!(
                "{name}: can be used ({})\n",
                dialect["file"].as_str().unwrap_or_default()
            ));
        }
        let Some(capture) = &self.capture else { return text };
        text.push_str(&format!(
            "\n{} records, {} observations, {} calls\n\n",
            capture.reading.n_records,
            capture.reading.observations.len(),
            capture.calls.len()
        ));
        text.push_str(&table(
            &[
                "kind",
                "status",
                "server",
                "name",
                "input",
                "cache_read",
                "output",
                "cost",
                "records",
                "rules",
                "confidence",
            ],
            capture.calls.iter().map(call_row).collect(),
        ));
        match &capture.compared {
            Some(compared) => {
                let rows = compared.iter().map(|one| {
                    let verdict = match (&one.read, one.is_equal) {
                        (None, _) => "not compared",
                        (Some(_), true) => "equal",
                        (Some(_), false) => "DIFFERS",
                    };
                    let plain = |value: &Value| value.as_str().map_or_else(|| cut(&value.to_string()), cut);
                    json!({ "total": one.name, "expected": plain(&one.expected),
                            "read": one.read.as_ref().map(plain), "verdict": verdict })
                });
                text.push('\n');
                text.push_str(&table(&["total", "expected", "read", "verdict"], rows.collect()));
            }
            None => {
                text.push_str("\nno expected.json in the capture; what was read:\n");
                for (name, total) in totals::totals(&capture.calls) {
                    text.push_str(&format!(
                        "  {name} {}\n",
                        total.as_str().map_or_else(|| total.to_string(), str::to_owned)
                    ));
                }
            }
        }
        if !capture.reading.unread.is_empty() {
            text.push_str("\nkeys nobody reads that look like something\n");
            let rows = capture.reading.unread.iter().map(|(key, n_records)| {
                json!({ "service": key.service, "scope": key.scope, "signal": key.signal, "key": cut(&key.key),
                        "looks_like": key.field, "records": n_records })
            });
            text.push_str(&table(
                &["service", "scope", "signal", "key", "looks_like", "records"],
                rows.collect(),
            ));
        }
        text
    }
}

fn call_row(call: &Call) -> Value {
    let names = [
        &call.mcp.tool,
        &call.mcp.prompt,
        &call.mcp.resource_uri,
        &call.model.response_model,
        &call.model.request_model,
        &call.mcp.mcp_method,
        &call.dimensions.agent,
    ];
    json!({
        "kind": call.kind.as_str(),
        "status": call.status.as_str(),
        "server": call.mcp.server,
        "name": names.into_iter().flatten().next().map(|name| cut(name)),
        "input": call.usage.input,
        "cache_read": call.usage.cache_read,
        "output": call.usage.output,
        "cost": call.own_cost.map(|cost| cost.to_string()),
        "records": call.observation_ids.len(),
        "rules": call.rules,
        "confidence": call.confidence.as_str(),
    })
}

fn table(columns: &[&str], rows: Vec<Value>) -> String {
    let columns: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
    let rows: Vec<_> = rows.iter().filter_map(Value::as_object).collect();
    output::table(&columns, &rows)
}
