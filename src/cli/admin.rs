//! Command lines of the commands that keep house: `import`, `lake`, `doctor`, `config`, `completions`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::ask::Where;

const IMPORT_EXAMPLES: &str = "\
Examples:
  spanledger import traces.jsonl                       the Collector's file exporter, into ./spanledger-data
  spanledger import captures/*.pb --data ./lake        request bodies; the signal is in the file name, or tried
  spanledger import captures/codex                     a folder of them
  spanledger import body.bin --signal logs
  spanledger import big.jsonl.zst --url http://127.0.0.1:4318   through a server's OTLP HTTP port";

const STATS_EXAMPLES: &str = "\
Examples:
  spanledger lake stats
  spanledger lake stats --data ./spanledger-demo-data --format json";

const VERIFY_EXAMPLES: &str = "\
Examples:
  spanledger lake verify                               exit 0 sound, 1 damaged
  spanledger lake verify --data ./spanledger-demo-data --format json";

const COMPACT_EXAMPLES: &str = "\
Examples:
  spanledger lake compact                              merge small files now; a running server does so by itself
  spanledger lake compact --data ./lake --format json";

const RETAIN_EXAMPLES: &str = "\
Examples:
  spanledger lake retain --dry-run                     what is past its days, table by table
  spanledger lake retain --data ./lake                 remove it; a running server does so by itself
  SPANLEDGER_RETENTION_SPANS_DAYS=7 spanledger lake retain --dry-run --format json";

const SETTLE_EXAMPLES: &str = "\
Examples:
  spanledger settle                                    what was not settled yet; a running server does so by itself
  spanledger settle --rebuild --data ./lake            after new prices or rules, or to be sure
  spanledger settle --rebuild --url http://127.0.0.1:8080 --format json";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  spanledger doctor
  spanledger doctor --url http://127.0.0.1:8080        check a running server as well
  spanledger doctor --coverage                         what was read of each service, and which keys to map
  spanledger doctor --coverage --json --url http://127.0.0.1:8080
  spanledger doctor --format json";

const CONFIG_SHOW_EXAMPLES: &str = "\
Examples:
  spanledger config show
  SPANLEDGER_HTTP=127.0.0.1:9000 spanledger config show --format json";

const CONFIG_CHECK_EXAMPLES: &str = "\
Examples:
  spanledger config check
  spanledger --config /etc/spanledger.toml config check";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  spanledger completions bash > ~/.local/share/bash-completion/completions/spanledger
  spanledger completions zsh > ~/.zfunc/_spanledger";

/// An OTLP signal, as named on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SignalName {
    /// Spans.
    Traces,
    /// Log records.
    Logs,
    /// Metric points.
    Metrics,
}

/// `import`.
#[derive(Debug, Clone, Args)]
#[command(after_help = IMPORT_EXAMPLES)]
pub struct ImportArgs {
    /// .pb or .bin request bodies, .json, or .jsonl with one request a line; .gz and .zst of each
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Lake folder, or a server's OTLP HTTP address.
    #[command(flatten)]
    pub at: Where,
    /// Signal of request bodies whose file name does not tell it
    #[arg(long, value_enum)]
    pub signal: Option<SignalName>,
}

/// `lake …`.
#[derive(Debug, Clone, Subcommand)]
pub enum LakeCommand {
    /// Files, rows and bytes of each table, and how far each stage has come
    #[command(after_help = STATS_EXAMPLES)]
    Stats(LakeArgs),
    /// Read everything and compare it with the commit log
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(LakeArgs),
    /// Merge the small files of each day, each record once
    ///
    /// A running server merges in the background, when enough files have come or a day has been quiet for an hour.
    #[command(after_help = COMPACT_EXAMPLES)]
    Compact(LakeArgs),
    /// Remove what is past its table's days, as `[retention]` says
    ///
    /// Whole files go, by tenant and day, in one commit a table. The disk is freed half an hour later, by the vacuum
    /// of a running server.
    #[command(after_help = RETAIN_EXAMPLES)]
    Retain(RetainArgs),
}

/// `lake retain`.
#[derive(Debug, Clone, Args)]
pub struct RetainArgs {
    /// Folder and format.
    #[command(flatten)]
    pub lake: LakeArgs,
    /// Say what would go, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Folder and format of a `lake` command.
#[derive(Debug, Clone, Args)]
pub struct LakeArgs {
    /// Lake folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: ReportFormat,
}

/// Table or JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people (the default).
    Table,
    /// For programs.
    Json,
}

/// `settle`.
#[derive(Debug, Clone, Args)]
#[command(after_help = SETTLE_EXAMPLES)]
pub struct SettleArgs {
    /// Lake folder, or a running server.
    #[command(flatten)]
    pub at: Where,
    /// Compare everything with what the observations demand, and write the difference
    #[arg(long)]
    pub rebuild: bool,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: ReportFormat,
}

/// `doctor`.
#[derive(Debug, Clone, Args)]
#[command(after_help = DOCTOR_EXAMPLES)]
pub struct DoctorArgs {
    /// Lake folder and server.
    #[command(flatten)]
    pub at: DoctorWhere,
    /// Tell what was recognised, what was not, which keys to map, which rule folded what, and what is uncertain
    #[arg(long)]
    pub coverage: bool,
    /// The same as --format json
    #[arg(long)]
    pub json: bool,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: ReportFormat,
}

/// What `doctor` looks at: a folder, and a server where there is one.
#[derive(Debug, Clone, Args)]
pub struct DoctorWhere {
    /// Lake folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// A running server to check as well [env: SPANLEDGER_URL]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Whose rows of the folder [env: SPANLEDGER_TENANT] [default: default]
    #[arg(long)]
    pub tenant: Option<String>,
    /// File that holds the API key for a server with --access required [env: SPANLEDGER_API_KEY, the key itself]
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
}

/// `config …`.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Every setting, its value and where the value came from
    #[command(after_help = CONFIG_SHOW_EXAMPLES)]
    Show {
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: ReportFormat,
    },
    /// Check that every setting can be read and used
    #[command(after_help = CONFIG_CHECK_EXAMPLES)]
    Check,
}

/// `completions`.
#[derive(Debug, Clone, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub struct CompletionsArgs {
    /// Shell to complete for
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}
