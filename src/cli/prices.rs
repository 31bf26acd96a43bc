//! Command line of `prices …`: list, show, import, versions, diff, use, check, what-if.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use spanledger_ledger::prices::Layer;
use spanledger_ledger::prices::read::Format;

use super::admin::ReportFormat;
use super::ask::Where;
use crate::output::RowFormat;

const LIST_EXAMPLES: &str = "\
Examples:
  spanledger prices list --provider anthropic
  spanledger prices list --model sonnet --format json";

const SHOW_EXAMPLES: &str = "\
Examples:
  spanledger prices show claude-sonnet-4-5
  spanledger prices show gpt-5-mini --provider openai --format json";

const IMPORT_EXAMPLES: &str = "\
Examples:
  spanledger prices import acme-contract.csv --dry-run      what would change; writes nothing
  spanledger prices import acme-contract.csv                a new version, in use from the next start
  spanledger prices import paid-tools.toml --as tools
  spanledger prices import corrections.csv --as list
  spanledger prices import model_prices_and_context_window.json --format litellm
  spanledger prices import data.json --format genai-prices  another catalogue
  spanledger prices import --builtin                        the catalogue of this program
docs/prices.md describes the files.";

const VERSIONS_EXAMPLES: &str = "\
Examples:
  spanledger prices versions
  spanledger prices versions --data ./lake --format json";

const DIFF_EXAMPLES: &str = "\
Examples:
  spanledger prices diff v1 v2
  spanledger prices diff v0 v2 --report json     v0 is the book built into the program";

const USE_EXAMPLES: &str = "\
Examples:
  spanledger prices use v1     go back to version 1, from the next start of the server
  spanledger prices use v0     the book built into the program";

const CHECK_EXAMPLES: &str = "\
Examples:
  spanledger prices check vectors.json                 exit 0 where all agree, 1 where one differs
  spanledger prices check contract.json --as contract --report json";

const WHAT_IF_EXAMPLES: &str = "\
Examples:
  spanledger prices what-if --model claude-opus-4-5=claude-sonnet-4-5 --since 30d --by team
  spanledger prices what-if --model 'gpt-5*=gpt-5-mini' --by team,model --format csv
  spanledger prices what-if --processing batch --since 2026-11-01
  spanledger prices what-if --book v3 --by model       what another version of the price book would charge
Dimensions: team project cost_center environment user_id agent client service session_id api_key provider model kind day";

/// What prices of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileLayer {
    /// What the provider publishes.
    List,
    /// What was agreed with the provider.
    Contract,
    /// What a tool's calls cost.
    Tools,
}

impl FileLayer {
    /// As the price book has it.
    pub fn layer(self) -> Layer {
        match self {
            Self::List => Layer::List,
            Self::Contract => Layer::Contract,
            Self::Tools => Layer::Tools,
        }
    }
}

/// Formats of price files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// The v2 JSON of pydantic/genai-prices: a whole catalogue.
    GenaiPrices,
    /// LiteLLM's model_prices_and_context_window.json: fills gaps of the catalogue.
    Litellm,
    /// A header line and one record a line.
    Csv,
    /// [[prices]] and [[tools]].
    Toml,
}

impl FileFormat {
    /// As the price book has it.
    pub fn format(self) -> Format {
        match self {
            Self::GenaiPrices => Format::GenaiPrices,
            Self::Litellm => Format::Litellm,
            Self::Csv => Format::Csv,
            Self::Toml => Format::Toml,
        }
    }
}

/// `prices …`.
#[derive(Debug, Clone, Subcommand)]
pub enum PricesCommand {
    /// List prices, per million tokens
    #[command(after_help = LIST_EXAMPLES)]
    List(PricesListArgs),
    /// Show the price that a model's call would be charged with now
    #[command(after_help = SHOW_EXAMPLES)]
    Show(PricesShowArgs),
    /// Import a catalogue, list prices, a contract or prices of tools as a new version of the price book
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(PricesImportArgs),
    /// List the versions of the price book
    #[command(after_help = VERSIONS_EXAMPLES)]
    Versions(PricesVersionsArgs),
    /// Show what differs between two versions
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(PricesDiffArgs),
    /// Take a version into use
    #[command(after_help = USE_EXAMPLES)]
    Use(PricesUseArgs),
    /// Check the price book against vectors: known pairs of usage and cost
    #[command(after_help = CHECK_EXAMPLES)]
    Check(PricesCheckArgs),
    /// Show what the calls of a lake would cost with another model, provider, tier or price book
    #[command(after_help = WHAT_IF_EXAMPLES)]
    WhatIf(WhatIfArgs),
}

impl PricesCommand {
    /// The data folder that the command names.
    pub fn data(&self) -> Option<&PathBuf> {
        match self {
            Self::List(args) => args.at.data.as_ref(),
            Self::Show(args) => args.data.as_ref(),
            Self::Import(args) => args.data.as_ref(),
            Self::Versions(args) => args.data.as_ref(),
            Self::Diff(args) => args.data.as_ref(),
            Self::Use(args) => args.data.as_ref(),
            Self::Check(args) => args.data.as_ref(),
            Self::WhatIf(args) => args.data.as_ref(),
        }
    }

    /// The tenant whose calls it asks about.
    pub fn tenant(&self) -> Option<&String> {
        match self {
            Self::List(args) => args.at.tenant.as_ref(),
            Self::WhatIf(args) => args.tenant.as_ref(),
            _ => None,
        }
    }
}

/// `prices list`.
#[derive(Debug, Clone, Args)]
pub struct PricesListArgs {
    /// Only models whose name contains this
    #[arg(long)]
    pub model: Option<String>,
    /// Only this provider
    #[arg(long)]
    pub provider: Option<String>,
    /// Folder whose price book is listed, or a running server.
    #[command(flatten)]
    pub at: Where,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: RowFormat,
}

/// `prices show`.
#[derive(Debug, Clone, Args)]
pub struct PricesShowArgs {
    /// Model, as the provider names it
    pub model: String,
    /// Provider, where the model's name does not tell
    #[arg(long)]
    pub provider: Option<String>,
    /// Data folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: RowFormat,
}

/// `prices import`.
#[derive(Debug, Clone, Args)]
pub struct PricesImportArgs {
    /// File to import
    #[arg(required_unless_present = "builtin")]
    pub file: Option<PathBuf>,
    /// Import the catalogue built into this program instead of a file
    #[arg(long, conflicts_with_all = ["file", "format", "layer", "name", "wins"])]
    pub builtin: bool,
    /// Format of the file; told by its name and content where absent
    #[arg(long, value_enum)]
    pub format: Option<FileFormat>,
    /// What its prices are [default: list for catalogues, contract for CSV and TOML, tools where it names tools]
    #[arg(long = "as", value_name = "LAYER", value_enum)]
    pub layer: Option<FileLayer>,
    /// Name of the source; importing a name again replaces what it brought [default: the format or the file's name]
    #[arg(long)]
    pub name: Option<String>,
    /// LiteLLM's prices take precedence over the catalogue's instead of filling its gaps
    #[arg(long = "override")]
    pub wins: bool,
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

/// `prices versions`.
#[derive(Debug, Clone, Args)]
pub struct PricesVersionsArgs {
    /// Data folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: RowFormat,
}

/// `prices diff`.
#[derive(Debug, Clone, Args)]
pub struct PricesDiffArgs {
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

/// `prices use`.
#[derive(Debug, Clone, Args)]
pub struct PricesUseArgs {
    /// Version: its id, or v and its number
    #[arg(value_name = "VERSION")]
    pub id: String,
    /// Data folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
}

/// `prices check`.
#[derive(Debug, Clone, Args)]
pub struct PricesCheckArgs {
    /// Vectors: an array of rows with model, usage and expected cost
    pub file: PathBuf,
    /// Compare with this price: list or contract
    #[arg(long = "as", value_name = "LAYER", value_enum, default_value = "list")]
    pub layer: FileLayer,
    /// Data folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Format of the report
    #[arg(long, value_enum, default_value = "table")]
    pub report: ReportFormat,
}

/// `prices what-if`: reads the folder's calls and writes nothing.
#[derive(Debug, Clone, Args)]
pub struct WhatIfArgs {
    /// Calls of model A (a name or a pattern with *) with model B; may be repeated. Without =B only selects them
    #[arg(long = "model", value_name = "A=B")]
    pub models: Vec<String>,
    /// With this provider
    #[arg(long)]
    pub provider: Option<String>,
    /// In this region, where the price book or a contract has prices for it
    #[arg(long)]
    pub region: Option<String>,
    /// With this processing, such as batch, or standard for none
    #[arg(long)]
    pub processing: Option<String>,
    /// With this percent of the text input read from a prompt cache; 0 is without a cache
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub cache_percent: Option<u8>,
    /// With this service tier, such as flex, or standard for none
    #[arg(long)]
    pub service_tier: Option<String>,
    /// With this version of the price book
    #[arg(long, value_name = "VERSION")]
    pub book: Option<String>,
    /// Calls from: an age (7d, 12h), a date or an RFC 3339 instant
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Calls until, exclusive: an age, a date or an RFC 3339 instant
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// Dimensions to split by, comma-separated
    #[arg(long, value_name = "DIMENSIONS", value_delimiter = ',')]
    pub by: Vec<String>,
    /// Whose calls [env: SPANLEDGER_TENANT] [default: default]
    #[arg(long)]
    pub tenant: Option<String>,
    /// Data folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: RowFormat,
}
