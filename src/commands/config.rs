//! `config show` and `config check`: every setting and where it came from; what cannot be used.

use serde_json::{Value, json};

use crate::cli::{ConfigCommand, ReportFormat};
use crate::config::Config;
use crate::exit::Outcome;
use crate::output::{self, RowFormat};

/// Runs the command.
pub fn run(command: &ConfigCommand, config: &Config) -> anyhow::Result<Outcome> {
    match command {
        ConfigCommand::Show { format } => show(config, *format),
        ConfigCommand::Check => check(config),
    }
}

fn show(config: &Config, format: ReportFormat) -> anyhow::Result<Outcome> {
    let rows: Vec<Value> = config
        .show()
        .iter()
        .map(|line| json!({ "setting": line.key, "value": line.value, "from": line.origin.to_string(), "environment": line.env }))
        .collect();
    let format = match format {
        ReportFormat::Table => RowFormat::Table,
        ReportFormat::Json => RowFormat::Json,
    };
    output::write_rows(
        &rows,
        &["setting", "value", "from", "environment"],
        format,
        &mut output::stdout(),
    )?;
    Ok(Outcome::Done)
}

fn check(config: &Config) -> anyhow::Result<Outcome> {
    let problems = config.problems();
    for problem in &problems {
        output::print(&format!("{problem}\n"))?;
    }
    if problems.is_empty() {
        output::print("the settings can be used\n")?;
        return Ok(Outcome::Done);
    }
    Ok(Outcome::No)
}
