//! The project's own commands: `cargo xtask ci|test|tidy|bench|setup`.
//!
//! `ci` is what CI runs and what a contributor runs before a push: `fmt`, `clippy`, [`tidy`], [`test`].
//! Each step is a function that fails with what is wrong and the next step; nothing is ever skipped.
//! It builds and checks the project; it is no part of the product and knows none of its types.

#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool speaks on its terminal"
)]

mod bench;
mod command;
mod setup;
mod test;
mod tidy;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::command::cargo;

const HELP: &str = "\
Usage: cargo xtask COMMAND

  ci      all that CI checks: fmt, clippy, tidy, test
  test    setup, then every test: units, the end-to-end suite (tests/main.rs), the dashboard's own checks
  tidy    the rules of the house: module headers, file lengths, architecture, licences, lock file, links
  setup   install the real peers that the tests talk to (Python and npm packages, Chromium, cargo-nextest)
  bench   the short benchmarks of docs/performance.md, on a release build

One module of the end-to-end suite:   cargo nextest run --test main captures::
One crate's unit tests:               cargo nextest run -p spanledger-ledger
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, rest) = match arguments.split_first() {
        Some((name, rest)) => (name.as_str(), rest),
        None => ("help", &[][..]),
    };
    let outcome = match name {
        "ci" => ci(),
        "test" => setup_then_test(rest),
        "tidy" => tidy::run(),
        "setup" => setup::run(),
        "bench" => bench::run(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => {
            eprint!("{HELP}");
            Err(anyhow::anyhow!("no command {other:?}"))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Everything that CI checks, the quick checks first.
fn ci() -> Result<()> {
    step("fmt", || {
        command::run(cargo().args(["fmt", "--all", "--", "--check"])).context("run `cargo fmt --all`")
    })?;
    step("tidy", tidy::run)?;
    step("setup", setup::run)?;
    step("clippy", || {
        // Its own target folder: its artifacts are separate anyway, and so a check never waits for a build.
        let target = command::target_dir().join("clippy");
        command::run(cargo().env("CARGO_TARGET_DIR", target).args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    let summary = step("test", || test::run(&[]))?;
    println!("{summary}");
    Ok(())
}

fn setup_then_test(filters: &[String]) -> Result<()> {
    step("setup", setup::run)?;
    let summary = step("test", || test::run(filters))?;
    println!("{summary}");
    Ok(())
}

/// Runs one step, telling its name before it and its seconds after it.
fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("== {name}");
    let started = Instant::now();
    let result = work().with_context(|| format!("step {name} failed"));
    println!(
        "== {name}: {} in {:.0} s",
        if result.is_ok() { "ok" } else { "FAILED" },
        started.elapsed().as_secs_f64()
    );
    result
}
