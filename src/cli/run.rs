//! Command lines of the commands that run a server: `serve` and `demo`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::config::AccessMode;

const SERVE_EXAMPLES: &str = "\
Examples:
  spanledger serve                                   everything on loopback, data in ./spanledger-data
  spanledger serve --data /var/lib/spanledger --http 127.0.0.1:9000
  spanledger serve --access required --http 0.0.0.0:8080 --public-url https://costs.example.com
                                                     every request needs a key (spanledger keys create) or a token
  spanledger serve --http 127.0.0.1:0 --otlp-grpc 127.0.0.1:0 --otlp-http 127.0.0.1:0 --ready-file ports.json";

const DEMO_EXAMPLES: &str = "\
Examples:
  spanledger demo                     serve a fresh demo lake in ./spanledger-demo-data
  spanledger demo --keep              keep what is there (a repeated send is counted once)
  spanledger demo --exit              send, settle, compare with the known totals, end (exit 1 where they differ)
  spanledger demo --exit --json --days 1 --end 2026-11-22";

/// A machine-readable form of the start-up output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PortsFormat {
    /// One JSON object on one line instead of the start-up screen.
    Json,
}

/// `serve`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub struct ServeArgs {
    /// Data folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Address of dashboard, REST, MCP, health and metrics; port 0 picks one [env: SPANLEDGER_HTTP] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<SocketAddr>,
    /// Address of the OTLP gRPC receiver [env: SPANLEDGER_OTLP_GRPC] [default: 127.0.0.1:4317]
    #[arg(long, value_name = "ADDRESS")]
    pub otlp_grpc: Option<SocketAddr>,
    /// Address of the OTLP HTTP receiver [env: SPANLEDGER_OTLP_HTTP] [default: 127.0.0.1:4318]
    #[arg(long, value_name = "ADDRESS")]
    pub otlp_http: Option<SocketAddr>,
    /// Whether every request needs an API key or a token [env: SPANLEDGER_ACCESS] [default: none]
    #[arg(long, value_name = "MODE", value_enum)]
    pub access: Option<AccessMode>,
    /// URL of this server as its clients see it, behind a proxy [env: SPANLEDGER_PUBLIC_URL]
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// Serve the fixtures of the MCP conformance suite as well (loopback only)
    #[arg(long, hide = true)]
    pub conformance_fixtures: bool,
    /// Write the addresses as JSON into FILE once everything answers
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Print the addresses for a program instead of the start-up screen
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub print_ports: Option<PortsFormat>,
}

/// `demo`.
#[derive(Debug, Clone, Args)]
#[command(after_help = DEMO_EXAMPLES)]
pub struct DemoArgs {
    /// Addresses and start-up output, as for `serve` (the data folder defaults to ./spanledger-demo-data)
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Keep the data folder's content instead of starting fresh
    #[arg(long)]
    pub keep: bool,
    /// End after sending and settling
    #[arg(long)]
    pub exit: bool,
    /// Print the known and the measured totals as JSON
    #[arg(long)]
    pub json: bool,
    /// Day the week ends before, UTC, as YYYY-MM-DD [default: today]
    #[arg(long, value_name = "DATE")]
    pub end: Option<chrono::NaiveDate>,
    /// Number of days to send
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=7))]
    pub days: u32,
}
