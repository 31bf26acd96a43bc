//! `lake stats`, `lake verify`, `lake compact` and `lake retain`: what a folder holds, whether it is what its logs
//! say, its small files merged, and what is past its days removed.

use std::sync::Arc;

use serde_json::{Value, json};
use spanledger_lake::{CompactReport, ErrorKind, ExpireReport, Lake, LakeOptions, LakeStats, VerifyReport};
use spanledger_ledger::settle::{SettleOptions, Settler};
use spanledger_model::Clock;
use spanledger_model::clock::SystemClock;

use crate::cli::{LakeArgs, LakeCommand, ReportFormat, RetainArgs};
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::output::{self, grouped};
use crate::serve::lake_options;
use crate::source;

/// Runs the command.
pub async fn run(command: &LakeCommand, config: &Config) -> anyhow::Result<Outcome> {
    match command {
        LakeCommand::Stats(args) => stats(args, config).await,
        LakeCommand::Verify(args) => verify(args, config).await,
        LakeCommand::Compact(args) => compact(args, config).await,
        LakeCommand::Retain(args) => retain(args, config).await,
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

async fn compact(args: &LakeArgs, config: &Config) -> anyhow::Result<Outcome> {
    let data = source::folder(args.data.as_ref(), config);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // Also says so where there is no lake, before one would be made.
    drop(source::read_only(&data, Arc::clone(&clock)).await?);
    let mut options = lake_options(config);
    options.data_dir = data;
    let lake = open(options, &clock, config, "merges small files by itself").await?;
    let compacted = lake.compact_all().await;
    lake.shutdown().await?;
    let report = compacted?;
    output::print(&match args.format {
        ReportFormat::Json => format!("{:#}\n", serde_json::to_value(report)?),
        ReportFormat::Table => compact_text(&report),
    })?;
    Ok(Outcome::Done)
}

fn compact_text(report: &CompactReport) -> String {
    let count = |n: u64| grouped(i64::try_from(n).unwrap_or(i64::MAX));
    if report.n_merges == 0 {
        return "nothing to merge\n".to_owned();
    }
    format!(
        "merged {} files into {}, {} into {}; {} rows that repeated another were left out\n",
        count(report.n_files_removed),
        count(report.n_files_added),
        output::bytes(report.bytes_removed),
        output::bytes(report.bytes_added),
        count(report.n_rows_deduplicated),
    )
}

async fn retain(args: &RetainArgs, config: &Config) -> anyhow::Result<Outcome> {
    let retention = config.retention.options();
    retention.check()?;
    let data = source::folder(args.lake.data.as_ref(), config);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // Also says so where there is no lake, before one would be made.
    let lake = source::read_only(&data, Arc::clone(&clock)).await?;
    let report = if args.dry_run {
        lake.expiring(&retention)
    } else {
        drop(lake);
        expire(config, clock).await?
    };
    output::print(&match args.lake.format {
        ReportFormat::Json => format!("{:#}\n", serde_json::to_value(&report)?),
        ReportFormat::Table => retain_text(&report, args.dry_run),
    })?;
    Ok(Outcome::Done)
}

/// Opens a lake to change it. Its background tasks do not: they could be faster, and the report would say that
/// nothing was done.
pub(super) async fn open(
    mut options: LakeOptions,
    clock: &Arc<dyn Clock>,
    config: &Config,
    server_does: &str,
) -> anyhow::Result<Lake> {
    options.compaction.enabled = false;
    let folder = options.data_dir.clone();
    let opened = Lake::open(options, Arc::clone(clock), &crate::serve::replay(config)?).await;
    opened.map_err(|error| match error.kind() {
        ErrorKind::Busy => fail(
            Kind::Busy,
            format!(
                "{} is served by another process, which {server_does}, or stop it",
                folder.display()
            ),
        ),
        _ => error.into(),
    })
}

/// Settles what is left, so that no observation goes unread, then lets expire what is past its days.
async fn expire(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<ExpireReport> {
    let does = "removes old files by itself; look with --dry-run";
    let lake = open(lake_options(config), &clock, config, does).await?;
    let settler = Settler::spawn(
        lake.clone(),
        crate::terms::terms(config)?,
        clock,
        SettleOptions::default(),
    );
    let settled = settler.settle_now().await;
    drop(settler);
    let expired = lake.expire().await;
    lake.shutdown().await?;
    settled?;
    Ok(expired?)
}

fn retain_text(report: &ExpireReport, is_dry_run: bool) -> String {
    let rows: Vec<Value> = report
        .tables
        .iter()
        .map(|table| {
            json!({
                "table": table.table,
                "days kept": table.keep.to_string(),
                "files": table.n_files,
                "rows": grouped(i64::try_from(table.n_rows).unwrap_or(i64::MAX)),
                "size": output::bytes(table.bytes),
                "days": table.n_days,
                "from": table.first_day.as_deref().unwrap_or(""),
                "to": table.last_day.as_deref().unwrap_or(""),
            })
        })
        .collect();
    let columns = ["table", "days kept", "files", "rows", "size", "days", "from", "to"].map(str::to_owned);
    let mut text = output::table(&columns, &rows.iter().filter_map(Value::as_object).collect::<Vec<_>>());
    let n_unsettled: u64 = report.tables.iter().map(|table| table.n_files_unsettled).sum();
    if n_unsettled > 0 {
        text.push_str(&format!(
            "\n{n_unsettled} files of observations stay until they are settled\n"
        ));
    }
    let rows = grouped(i64::try_from(report.n_rows()).unwrap_or(i64::MAX));
    let what = format!(
        "{} files with {rows} rows, {}",
        report.n_files(),
        output::bytes(report.bytes())
    );
    text.push_str(&match (report.n_files(), is_dry_run) {
        (0, _) => "\nnothing is past its days\n".to_owned(),
        (_, true) => format!("\nwould remove {what}; nothing was changed\n"),
        (_, false) => format!("\nremoved {what}; a server's vacuum frees the disk half an hour after it starts\n"),
    });
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn retention_says_what_goes() {
        let table = spanledger_lake::TableExpiry {
            table: "spans",
            keep: spanledger_lake::Keep::Days(30),
            n_files: 2,
            n_rows: 1200,
            bytes: 2048,
            n_days: 2,
            first_day: Some("2026-10-01".to_owned()),
            last_day: Some("2026-10-02".to_owned()),
            n_files_unsettled: 0,
        };
        let mut report = ExpireReport { tables: vec![table] };
        let text = retain_text(&report, true);
        assert!(
            text.contains("2026-10-02") && text.contains("would remove 2 files with 1,200 rows"),
            "{text}"
        );
        assert!(retain_text(&report, false).contains("\nremoved 2 files"));
        (report.tables[0].n_files, report.tables[0].n_files_unsettled) = (0, 1);
        let text = retain_text(&report, false);
        assert!(
            text.contains("nothing is past") && text.contains("until they are settled"),
            "{text}"
        );
    }

    #[test]
    fn compaction_says_what_it_left_out() {
        let mut report = CompactReport::default();
        assert_eq!(compact_text(&report), "nothing to merge\n");
        (report.n_merges, report.n_files_removed, report.n_files_added) = (1, 1200, 1);
        report.n_rows_deduplicated = 7;
        let text = compact_text(&report);
        assert!(
            text.starts_with("merged 1,200 files into 1") && text.contains("; 7 rows"),
            "{text}"
        );
    }

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
