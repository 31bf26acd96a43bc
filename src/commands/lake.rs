//! `lake stats` and `lake verify`: what a folder holds, and whether it is what its logs say.

use std::sync::Arc;

use serde_json::{Value, json};
use spanledger_lake::{LakeStats, VerifyReport};
use spanledger_model::clock::SystemClock;

use crate::cli::{LakeArgs, LakeCommand, ReportFormat};
use crate::config::Config;
use crate::exit::Outcome;
use crate::output::{self, grouped};
use crate::source;

/// Runs the command.
pub async fn run(command: &LakeCommand, config: &Config) -> anyhow::Result<Outcome> {
    match command {
        LakeCommand::Stats(args) => stats(args, config).await,
        LakeCommand::Verify(args) => verify(args, config).await,
    }
}

async fn stats(args: &LakeArgs, config: &Config) -> anyhow::Result<Outcome> {
    let data = source::folder(args.data.as_ref(), config);
    let stats = source::read_only(&data, Arc::new(SystemClock)).await?.stats();
    output::print(&match args.format {
        ReportFormat::Json => format!("{:#}\n", serde_json::to_value(&stats)?),
        ReportFormat::Table => stats_text(&stats),
    })?;
    Ok(Outcome::Done)
}

fn stats_text(stats: &LakeStats) -> String {
    let rows: Vec<Value> = stats
        .tables
        .iter()
        .map(|table| {
            json!({
                "table": table.name,
                "rows": grouped(i64::try_from(table.n_rows).unwrap_or(i64::MAX)),
                "files": table.n_files,
                "size": output::bytes(table.bytes),
                "version": table.version,
            })
        })
        .collect();
    let columns = ["table", "rows", "files", "size", "version"].map(str::to_owned);
    let mut text = output::table(&columns, &rows.iter().filter_map(Value::as_object).collect::<Vec<_>>());
    text.push_str("\ncommitted rows; what a running server still holds in memory is not in them\n");
    text
}

async fn verify(args: &LakeArgs, config: &Config) -> anyhow::Result<Outcome> {
    let data = source::folder(args.data.as_ref(), config);
    let report = source::read_only(&data, Arc::new(SystemClock)).await?.verify().await?;
    output::print(&match args.format {
        ReportFormat::Json => format!("{:#}\n", serde_json::to_value(&report)?),
        ReportFormat::Table => verify_text(&report),
    })?;
    Ok(if report.is_ok() { Outcome::Done } else { Outcome::No })
}

fn verify_text(report: &VerifyReport) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        text.push_str(&format!("damaged: {problem}\n"));
    }
    let verdict = if report.is_ok() {
        "sound"
    } else {
        "not sound; restore the named files from a backup"
    };
    text.push_str(&format!(
        "{} files with {} rows and {} log frames read: the lake is {verdict}\n",
        report.n_files,
        grouped(i64::try_from(report.n_rows).unwrap_or(i64::MAX)),
        report.n_wal_frames,
    ));
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn verification_says_what_is_damaged() {
        let mut report = VerifyReport {
            n_files: 3,
            n_rows: 1200,
            ..VerifyReport::default()
        };
        assert!(verify_text(&report).contains("1,200 rows") && verify_text(&report).contains("is sound"));
        report.problems.push("tables/spans/x.parquet: missing".to_owned());
        assert!(verify_text(&report).starts_with("damaged: tables/spans/x.parquet"));
    }
}
