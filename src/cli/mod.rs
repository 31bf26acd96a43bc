//! The command line, as clap definitions: names, help and examples, no behaviour.
//!
//! Settings that the configuration file also has (`--data`, addresses) are optional here: the precedence
//! is in [`crate::config`].

mod access;
mod admin;
mod allocation;
mod ask;
mod emitters;
mod prices;
mod report;
mod run;

pub use access::{AuditArgs, KeysCommand, KeysCreateArgs, KeysListArgs, KeysRevokeArgs};
pub use admin::{
    CompletionsArgs, ConfigCommand, DoctorArgs, ImportArgs, LakeArgs, LakeCommand, ReportFormat, RetainArgs,
    SettleArgs, SignalName,
};
pub use allocation::{
    AllocationCheckArgs, AllocationCommand, AllocationDiffArgs, AllocationImportArgs, AllocationListArgs,
    AllocationShowArgs, AllocationSplitArgs, AllocationUseArgs, AllocationVersionsArgs,
};
pub use ask::{CostsArgs, ExplainArgs, McpArgs, SqlArgs, SqlFormat, ToolsArgs, TraceArgs, TraceFormat, Where};
pub use emitters::{CaptureArgs, CheckArgs, DialectsCommand};
pub use prices::{
    PricesCheckArgs, PricesCommand, PricesDiffArgs, PricesImportArgs, PricesListArgs, PricesShowArgs, PricesUseArgs,
    PricesVersionsArgs, WhatIfArgs,
};
pub use report::{Format as ReportFileFormat, Kind as ReportKind, ReportArgs};
pub use run::{DemoArgs, ServeArgs};

use std::path::PathBuf;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  spanledger demo                          a week of a fictional company, with dashboard and SQL
  spanledger serve                         receive OpenTelemetry on 4317 (gRPC) and 4318 (HTTP)
  spanledger costs --by team,model --since 7d
  spanledger sql \"SELECT tool, count(*) FROM calls WHERE kind = 'tool' GROUP BY 1 ORDER BY 2 DESC\"

Settings: flag over SPANLEDGER_* environment over TOML file over default; `spanledger config show` lists them.
Exit codes: 0 done, 1 the answer is no, 2 invalid, 4 denied, 5 busy, 6 corrupt data, 70 internal.";

/// What an MCP tool, prompt or team really costs: OpenTelemetry in, an exact ledger out.
#[derive(Debug, Parser)]
#[command(name = "spanledger", version, about, after_help = EXAMPLES, propagate_version = true)]
pub struct Cli {
    /// Configuration file [env: SPANLEDGER_CONFIG] [default: ./spanledger.toml where it exists]
    #[arg(long, global = true, value_name = "FILE", env = "SPANLEDGER_CONFIG", hide_env = true)]
    pub config: Option<PathBuf>,

    /// Log filter such as `debug` or `spanledger_lake=trace` [env: SPANLEDGER_LOG, RUST_LOG] [default: warn]
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Receive OpenTelemetry and answer: OTLP, REST, SQL, MCP and dashboard on this machine
    Serve(ServeArgs),
    /// Serve a deterministic week of a fictional company's traffic, with known totals
    Demo(DemoArgs),
    /// Read OTLP files into a lake or send them to a server
    Import(ImportArgs),
    /// Run a read-only SQL query
    Sql(SqlArgs),
    /// Show what was spent, by any dimension
    Costs(CostsArgs),
    /// Show which tools are installed, how large they are, who calls them and what they cost unused
    Tools(ToolsArgs),
    /// Show one trace as a tree with own and total cost
    Trace(TraceArgs),
    /// Show how a call was put together: its records, the rule that joined each, where every field is from
    Explain(ExplainArgs),
    /// Write a month's statement or export: chargeback, FOCUS, costs
    Report(ReportArgs),
    /// Look into the price book, import prices and contracts, ask what calls would cost otherwise
    #[command(subcommand)]
    Prices(PricesCommand),
    /// Say whose calls are by rules, and split what is shared
    #[command(subcommand)]
    Allocation(AllocationCommand),
    /// Look into a lake folder
    #[command(subcommand)]
    Lake(LakeCommand),
    /// Bring calls and ledger to what the observations demand
    Settle(SettleArgs),
    /// List, show and check dialects: what an emitter's records mean
    #[command(subcommand)]
    Dialects(DialectsCommand),
    /// Record what an emitter sends into a fixture, with prose scrubbed
    Capture(CaptureArgs),
    /// Serve the ledger as MCP tools over standard input and output
    ///
    /// Answers from what was committed when it started. A running server's /mcp answers up to the second.
    Mcp(McpArgs),
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Show who read or changed what
    Audit(AuditArgs),
    /// Check folder, ports, clock, data and prices, and say what to do about each finding
    Doctor(DoctorArgs),
    /// Show or check the settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a shell's completion script
    Completions(CompletionsArgs),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.get_name() == "help" {
                return;
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let has_children = command.get_subcommands().next().is_some();
            assert!(has_children || help.contains("Examples:"), "{path} has no examples");
            for child in command.get_subcommands() {
                check(child, &path);
            }
        }
        check(&Cli::command(), "");
    }
}
