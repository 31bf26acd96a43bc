//! `spanledger`: the one binary. Reads the command line, runs a command, turns its end into an exit code.
//!
//! Everything here is wiring: what a command computes lives in the crates below (see ARCHITECTURE.md).
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`config`] | settings: flag over environment over file over default |
//! | [`dialects`] | the built-in dialects and the user's |
//! | [`serve`] | the server: ports, routes, start-up screen, shutdown |
//! | [`demo`] | a fictional company's week, sent through the real OTLP port |
//! | [`import`] | OTLP files into a lake or a server |
//! | [`capture`] | an emitter's telemetry into a fixture, and what a capture comes to |
//! | [`commands`] | the small commands, one file each |
//! | [`allocation`] | the allocation rules of the data folder |
//! | [`prices`] | the price book of the data folder |
//! | [`source`] | where a question goes: a lake folder or a server |
//! | [`telemetry`] | our own traces, metrics and logs |
//! | [`output`], [`exit`] | results on standard output, exit codes |

#![forbid(unsafe_code)]

mod allocation;
mod capture;
mod cli;
mod commands;
mod config;
mod demo;
mod dialects;
mod exit;
mod import;
mod output;
mod prices;
mod serve;
mod source;
mod telemetry;
mod terms;

use std::process::ExitCode;

use clap::Parser;
use spanledger_query::format::or_space;

/// glibc's allocator took a quarter of the CPU of ingest and held twice the memory it had in use.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match commands::run(cli) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            let code = exit::exit_code(&error);
            if !exit::is_output_closed(&error) {
                output::note(&format!("error: {}", describe(&error)));
            }
            ExitCode::from(code)
        }
    }
}

/// The error and its causes on one line, each once.
fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    // A cause may tell a value of telemetry, or an answer of a server: neither may move the cursor.
    let is_kept = |character: &char| matches!(character, '\n' | '\t');
    let shown = text.chars().map(|character| {
        if is_kept(&character) {
            character
        } else {
            or_space(character)
        }
    });
    shown.collect()
}
