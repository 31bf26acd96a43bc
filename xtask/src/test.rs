//! `cargo xtask test`: every test there is, against real peers.
//!
//! Cargo's tests first (units of every crate and `tests/main.rs`, which starts the built binary), then the
//! dashboard's own checks. The caller has run `setup`. Gives back the closing line that CI reads.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{self, cargo, in_root, on_path, root};

/// Runs the tests whose names contain one of `filters`, or all; returns `N passed, N failed, N skipped`.
pub fn run(filters: &[String]) -> Result<String> {
    let nextest = ["nextest", "run", "--workspace", "--locked", "--no-fail-fast"];
    let (passed, kept) = command::run_and_keep(cargo().args(nextest).args(filters), |line| {
        line.trim_start().starts_with("Summary [")
    })?;
    let summary = kept
        .last()
        .context("cargo nextest printed no summary: it could not build or list the tests")?;
    let summary = summary.trim().to_owned();
    let counts = Counts::read(&summary).with_context(|| format!("could not read nextest's summary {summary:?}"))?;
    println!("{summary}");
    if filters.is_empty() {
        dashboards()?;
    }
    if !passed {
        bail!("{counts}; nextest lists the failures above");
    }
    ensure!(counts.passed > 0, "no test ran");
    Ok(counts.to_string())
}

/// Type check, unit tests and a rebuild of the committed page.
fn dashboards() -> Result<()> {
    let web = root().join("dashboards/web");
    ensure!(
        Path::new(&web).join("package.json").exists(),
        "dashboards/web/package.json is missing"
    );
    ensure!(
        on_path("npm"),
        "npm is not on the PATH; install Node.js 20 or newer with npm"
    );
    command::run(
        in_root("npm")
            .args(["ci", "--no-fund", "--no-audit", "--loglevel", "error"])
            .current_dir(&web),
    )?;
    command::run(in_root("npm").args(["run", "check"]).current_dir(&web))
}

/// What a test run counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Counts {
    /// Reads `Summary [ 1.2s] 12 tests run: 10 passed (1 slow), 1 failed, 1 timed out, 3 skipped`.
    fn read(summary: &str) -> Option<Self> {
        let (_, parts) = summary.split_once("run:")?;
        let mut counts = Self::default();
        for part in parts.split(',') {
            let mut words = part.split_whitespace();
            let (Some(number), Some(word)) = (words.next().and_then(|word| word.parse::<u64>().ok()), words.next())
            else {
                continue;
            };
            match word {
                "passed" => counts.passed += number,
                "skipped" => counts.skipped += number,
                _ => counts.failed += number,
            }
        }
        Some(counts)
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nextests_summary_is_read() {
        let check = |summary: &str, expected: &str| {
            assert_eq!(
                Counts::read(summary).map(|counts| counts.to_string()).as_deref(),
                Some(expected)
            );
        };
        check(
            "Summary [   3.104s] 42 tests run: 42 passed, 0 skipped",
            "42 passed, 0 failed, 0 skipped",
        );
        check(
            "Summary [  60.2s] 5/9 tests run: 2 passed (1 slow), 2 failed, 1 timed out, 4 skipped",
            "2 passed, 3 failed, 4 skipped",
        );
        assert_eq!(Counts::read("error: could not compile"), None);
    }
}
