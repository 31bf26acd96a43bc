//! `settle`: brings calls and ledger to what the observations demand, in a folder or through a running server.
//!
//! A server settles by itself all the time; the command is for folders without one, and for `--rebuild`: after a
//! change of prices or rules, or to be sure. It changes nothing where nothing has to change, so it may be run at
//! any time, again and after an interruption.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use spanledger_ledger::settle::{SettleOptions, Settler};
use spanledger_model::Clock;
use spanledger_model::clock::SystemClock;

use super::lake::open;
use crate::cli::{ReportFormat, SettleArgs};
use crate::config::Config;
use crate::exit::Outcome;
use crate::output::{self, grouped};
use crate::serve::lake_options;
use crate::source::{self, Remote};

/// Runs the command.
pub async fn run(args: &SettleArgs, config: &Config) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let mut report = match source::address(&args.at) {
        Some(url) => through_server(&url, args.at.api_key_file.as_deref(), args.rebuild).await?,
        None => in_folder(config, args.rebuild).await?,
    };
    if let Some(report) = report.as_object_mut() {
        report.insert("seconds".to_owned(), json!(started.elapsed().as_secs_f64()));
    }
    output::print(&match args.format {
        ReportFormat::Json => format!("{report:#}\n"),
        ReportFormat::Table => text(&report, args.rebuild, started.elapsed()),
    })?;
    Ok(Outcome::Done)
}

async fn through_server(url: &str, api_key_file: Option<&Path>, is_rebuild: bool) -> anyhow::Result<Value> {
    let server = Remote::new(url, api_key_file)?;
    let path = if is_rebuild {
        "/api/v1/settle?rebuild=true"
    } else {
        "/api/v1/settle"
    };
    let answer = server.post(path, &json!({})).await?;
    Ok(serde_json::from_slice(&answer.body)?)
}

async fn in_folder(config: &Config, is_rebuild: bool) -> anyhow::Result<Value> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // Also says so where there is no lake, before one would be made.
    drop(source::read_only(config.data(), Arc::clone(&clock)).await?);
    let does = "settles by itself; name it with --url";
    let lake = open(lake_options(config), &clock, config, does).await?;
    let terms = crate::terms::terms(config)?;
    let settler = Settler::spawn(lake.clone(), terms, clock, SettleOptions::default());
    let watching = tokio::spawn(show_progress(settler.clone()));
    let settled = if is_rebuild {
        settler.rebuild().await
    } else {
        settler.settle_now().await
    };
    watching.abort();
    drop(settler);
    lake.shutdown().await?;
    Ok(serde_json::to_value(settled?)?)
}

/// Shows on standard error how far it is, as long as it takes.
async fn show_progress(settler: Settler) {
    let mut progress = settler.watch_progress();
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("observations  {wide_bar} {human_pos}/{human_len} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    while progress.changed().await.is_ok() {
        let now = *progress.borrow_and_update();
        bar.set_length(now.n_total);
        bar.set_position(now.n_read);
    }
}

fn text(report: &Value, is_rebuild: bool, took: Duration) -> String {
    let number = |name: &str| report.get(name).and_then(Value::as_i64).unwrap_or(0);
    let names = ["n_calls_written", "n_calls_outdated", "n_lines"];
    let is_right = names.iter().all(|name| number(name) == 0);
    let did = match (is_right, is_rebuild) {
        (true, true) => "nothing to write: calls and ledger are what the observations demand".to_owned(),
        (true, false) => "nothing to settle".to_owned(),
        (false, _) => format!(
            "wrote {} calls ({} revised or taken out) and {} ledger lines ({} of them reversals)",
            grouped(number("n_calls_written")),
            grouped(number("n_calls_outdated")),
            grouped(number("n_lines")),
            grouped(number("n_reversals")),
        ),
    };
    format!(
        "{did}\n{} groups of records folded in {:.1} s\n",
        grouped(number("n_components")),
        took.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_what_was_done_or_that_nothing_was() {
        let took = Duration::from_millis(1_500);
        let nothing = text(&json!({ "n_components": 1200 }), true, took);
        assert_eq!(
            nothing,
            "nothing to write: calls and ledger are what the observations demand\n1,200 groups of records folded in 1.5 s\n"
        );
        assert!(text(&json!({}), false, took).starts_with("nothing to settle"));
        let report = json!({
            "n_components": 2, "n_calls_written": 3, "n_calls_outdated": 1, "n_lines": 9, "n_reversals": 4,
        });
        assert!(text(&report, true, took).starts_with("wrote 3 calls (1 revised or taken out) and 9 ledger lines (4"));
    }
}
