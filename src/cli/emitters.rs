//! Command lines of the commands about emitters: `dialects` and `capture`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ReportFormat;

const LIST_EXAMPLES: &str = "\
Examples:
  spanledger dialects list
  spanledger dialects list --format json
  SPANLEDGER_DIALECTS=my.toml spanledger dialects list    with a file of your own";

const SHOW_EXAMPLES: &str = "\
Examples:
  spanledger dialects show codex                          its file: the example for your own
  spanledger dialects show claude_code > my_host.toml";

const CHECK_EXAMPLES: &str = "\
Examples:
  spanledger dialects check my.toml                       exit 2 where it cannot be used, naming line and key
  spanledger dialects check my.toml --capture ./capture   read a capture with it; exit 1 where expected.json differs
  spanledger dialects check --capture testkit/fixtures/captures/codex     with the built-in dialects alone";

const CAPTURE_EXAMPLES: &str = "\
Examples:
  spanledger capture ./my-capture                         then run the emitter against 4317 or 4318; Ctrl-C ends it
  spanledger capture ./my-capture --otlp-http 127.0.0.1:9318 --otlp-grpc 127.0.0.1:9317
  spanledger capture ./private --keep-content             nothing is scrubbed: do not publish it";

/// `dialects …`.
#[derive(Debug, Clone, Subcommand)]
pub enum DialectsCommand {
    /// Name, emitter, versions, evidence, scopes and services of every dialect, and the file it is from
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: ReportFormat,
    },
    /// Print a dialect's file
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Name, as `list` has it
        name: String,
    },
    /// Check files, and read a capture with them
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
}

/// `dialects check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Dialect files, or folders of them
    #[arg(value_name = "FILE", required_unless_present = "capture")]
    pub files: Vec<PathBuf>,
    /// Read this capture with them: calls, totals beside its expected.json, keys nobody reads
    #[arg(long, value_name = "FOLDER")]
    pub capture: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: ReportFormat,
}

/// `capture`.
#[derive(Debug, Clone, Args)]
#[command(after_help = CAPTURE_EXAMPLES)]
pub struct CaptureArgs {
    /// New or empty folder to write into
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Address of the OTLP gRPC receiver [env: SPANLEDGER_OTLP_GRPC] [default: 127.0.0.1:4317]
    #[arg(long, value_name = "ADDRESS")]
    pub otlp_grpc: Option<SocketAddr>,
    /// Address of the OTLP HTTP receiver [env: SPANLEDGER_OTLP_HTTP] [default: 127.0.0.1:4318]
    #[arg(long, value_name = "ADDRESS")]
    pub otlp_http: Option<SocketAddr>,
    /// Keep everything as it is sent: prompts, paths, names. Such a capture is not fit to publish
    #[arg(long)]
    pub keep_content: bool,
    /// Write the addresses as JSON into FILE once both receivers answer
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}
