//! Command line of `allocation …`: list, show, import, check, diff, versions, use, split.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::admin::ReportFormat;
use super::ask::Where;
use crate::output::RowFormat;

const LIST_EXAMPLES: &str = "\
Examples:
  spanledger allocation list                     the rules in the order in which they are asked, then shared costs
  spanledger allocation list --format json";

const SHOW_EXAMPLES: &str = "\
Examples:
  spanledger allocation show ci-keys             what a rule or a shared cost says, and where it is from
  spanledger allocation show ci-keys --in v2";

const IMPORT_EXAMPLES: &str = "\
Examples:
  spanledger allocation import allocation.toml --dry-run   what would change; writes nothing
  spanledger allocation import allocation.toml             a new version, taken up by a running server
  spanledger allocation import data-team.toml --name data  beside other files, under a name of its own
docs/allocation.md describes the file.";

const CHECK_EXAMPLES: &str = "\
Examples:
  spanledger allocation check allocation.toml    what importing it and settling again would move, in money
  spanledger allocation check                    what settling again by the version in use would move
  spanledger allocation check allocation.toml --since 30d --format json";

const DIFF_EXAMPLES: &str = "\
Examples:
  spanledger allocation diff v1 v2
  spanledger allocation diff v0 v2 --report json     v0 has no rules";

const VERSIONS_EXAMPLES: &str = "\
Examples:
  spanledger allocation versions
  spanledger allocation versions --data ./lake --format json";

const USE_EXAMPLES: &str = "\
Examples:
  spanledger allocation use v1     go back to version 1; a running server takes it up
  spanledger allocation use v0     no rules";

const SPLIT_EXAMPLES: &str = "\
Examples:
  spanledger allocation split --period 2026-11
  spanledger allocation split --period 2026-11 --by project --format csv
  spanledger allocation split --period 2026-11 --url http://127.0.0.1:8080 --format json
Dimensions: team project cost_center environment user_id agent client service api_key provider model";

/// `allocation …`.
#[derive(Debug, Clone, Subcommand)]
pub enum AllocationCommand {
    /// List the rules and shared costs in use
    #[command(after_help = LIST_EXAMPLES)]
    List(AllocationListArgs),
    /// Show one rule or shared cost
    #[command(after_help = SHOW_EXAMPLES)]
    Show(AllocationShowArgs),
    /// Import a file of rules and shared costs as a new version
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(AllocationImportArgs),
    /// Show what rules would move, in money, without writing anything
    #[command(after_help = CHECK_EXAMPLES)]
    Check(AllocationCheckArgs),
    /// Show what differs between two versions
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(AllocationDiffArgs),
    /// List the versions of the rules
    #[command(after_help = VERSIONS_EXAMPLES)]
    Versions(AllocationVersionsArgs),
    /// Take a version into use
    #[command(after_help = USE_EXAMPLES)]
    Use(AllocationUseArgs),
    /// Show direct cost and the split of shared costs of a month
    #[command(after_help = SPLIT_EXAMPLES)]
    Split(AllocationSplitArgs),
}

impl AllocationCommand {
    /// The data folder that the command names.
    pub fn data(&self) -> Option<&PathBuf> {
        match self {
            Self::List(args) => args.data.as_ref(),
            Self::Show(args) => args.data.as_ref(),
            Self::Import(args) => args.data.as_ref(),
            Self::Check(args) => args.data.as_ref(),
            Self::Diff(args) => args.data.as_ref(),
            Self::Versions(args) => args.data.as_ref(),
            Self::Use(args) => args.data.as_ref(),
            Self::Split(args) => args.at.data.as_ref(),
        }
    }

    /// The tenant whose calls it asks about.
    pub fn tenant(&self) -> Option<&String> {
        match self {
            Self::Check(args) => args.tenant.as_ref(),
            Self::Split(args) => args.at.tenant.as_ref(),
            _ => None,
        }
    }
}

/// `allocation list`.
#[derive(Debug, Clone, Args)]
pub struct AllocationListArgs {
    /// Data folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: RowFormat,
}

/// `allocation show`.
#[derive(Debug, Clone, Args)]
pub struct AllocationShowArgs {
    /// Name of a rule or a shared cost
    pub name: String,
    /// Version to look at: its id, or v and its number [default: the one in use]
    #[arg(long = "in", value_name = "VERSION")]
    pub id: Option<String>,
    /// Data folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Format of the report
    #[arg(long, value_enum, default_value = "table")]
    pub report: ReportFormat,
}

/// `allocation import`.
#[derive(Debug, Clone, Args)]
pub struct AllocationImportArgs {
    /// File to import
    pub file: PathBuf,
    /// Name of the source; importing a name again replaces what it brought [default: the file's name]
    #[arg(long)]
    pub name: Option<String>,
    /// Say what would change, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Data folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Format of the report
    #[arg(long, value_enum, default_value = "table")]
    pub report: ReportFormat,
}

/// `allocation check`: reads the folder's calls and writes nothing.
#[derive(Debug, Clone, Args)]
pub struct AllocationCheckArgs {
    /// File to check, in the place of what was imported under its name [default: the version in use]
    pub file: Option<PathBuf>,
    /// Name of the source, where it was imported under another than the file's
    #[arg(long)]
    pub name: Option<String>,
    /// Calls from: an age (7d, 12h), a date or an RFC 3339 instant
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Calls until, exclusive: an age, a date or an RFC 3339 instant
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// Whose calls [env: SPANLEDGER_TENANT] [default: default]
    #[arg(long)]
    pub tenant: Option<String>,
    /// Data folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Output format: the rows are what moves
    #[arg(long, value_enum, default_value = "table")]
    pub format: RowFormat,
}

/// `allocation diff`.
#[derive(Debug, Clone, Args)]
pub struct AllocationDiffArgs {
    /// Version before: its id, or v and its number
    pub from: String,
    /// Version after
    pub to: String,
    /// Data folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Format of the report
    #[arg(long, value_enum, default_value = "table")]
    pub report: ReportFormat,
}

/// `allocation versions`.
#[derive(Debug, Clone, Args)]
pub struct AllocationVersionsArgs {
    /// Data folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: RowFormat,
}

/// `allocation use`.
#[derive(Debug, Clone, Args)]
pub struct AllocationUseArgs {
    /// Version: its id, or v and its number
    #[arg(value_name = "VERSION")]
    pub id: String,
    /// Data folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
}

/// `allocation split`.
#[derive(Debug, Clone, Args)]
pub struct AllocationSplitArgs {
    /// Month, such as 2026-11
    #[arg(long, value_name = "MONTH")]
    pub period: String,
    /// Dimension to split over
    #[arg(long, value_name = "DIMENSION", default_value = "team")]
    pub by: String,
    /// Folder whose rules and costs are split, or a running server.
    #[command(flatten)]
    pub at: Where,
    /// Output format: a table has one line a value, the others one row a value and shared cost
    #[arg(long, value_enum, default_value = "table")]
    pub format: RowFormat,
}
