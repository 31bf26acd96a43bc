//! Command lines of the commands that ask: `sql`, `costs`, `tools`, `trace`, `mcp`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::output::RowFormat;

const SQL_EXAMPLES: &str = "\
Examples:
  spanledger sql \"SHOW TABLES\"
  spanledger sql \"SELECT model, SUM(tokens) AS tokens, SUM(effective_cost) AS cost FROM ledger GROUP BY model ORDER BY cost DESC\"
  spanledger sql --format parquet \"SELECT * FROM calls\" > calls.parquet
  spanledger sql --url http://127.0.0.1:8080 \"SELECT * FROM unpriced\"
  echo \"SELECT 1\" | spanledger sql -";

const COSTS_EXAMPLES: &str = "\
Examples:
  spanledger costs                                  total of everything
  spanledger costs --by team,agent --since 7d
  spanledger costs --by server,tool --team payments --since 2026-11-01 --until 2026-12-01
  spanledger costs --by method                      how surely costs are divided among tools and prompts
  spanledger costs --by day,model --format csv --url http://127.0.0.1:8080
Dimensions: team project cost_center environment user_id agent client service session_id api_key provider model server tool prompt
  resource_uri kind day cause touch bucket method
The cost of a tool is what its definition, its calls and its results added to model calls, and its own price; its
calls are its own. What each cause and method means: docs/attribution.md";

const TOOLS_EXAMPLES: &str = "\
Examples:
  spanledger tools                                  what is installed, never-called tools first
  spanledger tools --never-called --since 7d
  spanledger tools --format json --url http://127.0.0.1:8080
  spanledger sql \"SELECT * FROM tool_catalog\"       every definition, with its hash
A tool is known by its definition, in model calls or in tools/list results. Context tax is what sending it cost; a month
of it is a straight line from the time it was seen.";

const TRACE_EXAMPLES: &str = "\
Examples:
  spanledger trace 4bf92f3577b34da6a3ce929d0e0e4736
  spanledger trace 4bf92f3577b34da6a3ce929d0e0e4736 --format json
  spanledger sql \"SELECT trace_id, sum(own_cost) FROM calls GROUP BY 1 ORDER BY 2 DESC LIMIT 5\"   find expensive ones";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  spanledger explain 3f2a9c                          a call, by the first digits of its id
  spanledger explain 00f067aa0ba902b7                the call that a span is part of
  spanledger explain 4bf92f3577b34da6a3ce929d0e0e4736 --format json   every call of a trace
  spanledger sql \"SELECT call_id, why FROM uncertain ORDER BY time DESC LIMIT 5\"   find doubtful ones";

const MCP_EXAMPLES: &str = "\
Examples:
  spanledger mcp --data ./spanledger-data
  claude mcp add spanledger -- spanledger mcp --data /var/lib/spanledger";

/// Where the question goes.
#[derive(Debug, Clone, Default, Args)]
pub struct Where {
    /// Ask this lake folder, no server needed [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER", conflicts_with = "url")]
    pub data: Option<PathBuf>,
    /// Ask a running server, such as http://127.0.0.1:8080 [env: SPANLEDGER_URL]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Whose rows of the folder; a server knows it from the credential [env: SPANLEDGER_TENANT] [default: default]
    #[arg(long, conflicts_with = "url")]
    pub tenant: Option<String>,
    /// File that holds the API key for a server with --access required [env: SPANLEDGER_API_KEY, the key itself]
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub api_key_file: Option<PathBuf>,
}

/// Formats of SQL results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SqlFormat {
    /// Aligned columns for people (the default).
    Table,
    /// RFC 4180 with a header line.
    Csv,
    /// One array of objects; BIGINT as numbers, DECIMAL as exact strings.
    Json,
    /// One object a line.
    Ndjson,
    /// Arrow IPC stream.
    Arrow,
    /// One Parquet file.
    Parquet,
    /// A Markdown table.
    Markdown,
}

/// `sql`.
#[derive(Debug, Clone, Args)]
#[command(after_help = SQL_EXAMPLES)]
pub struct SqlArgs {
    /// One read-only statement; `-` reads it from standard input
    pub query: String,
    /// Lake or server.
    #[command(flatten)]
    pub at: Where,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: SqlFormat,
    /// Rows at most
    #[arg(long, value_name = "ROWS")]
    pub limit: Option<usize>,
}

/// `costs`.
#[derive(Debug, Clone, Args)]
#[command(after_help = COSTS_EXAMPLES)]
pub struct CostsArgs {
    /// Lake or server.
    #[command(flatten)]
    pub at: Where,
    /// Dimensions to split by, comma-separated
    #[arg(long, value_name = "DIMENSIONS", value_delimiter = ',')]
    pub by: Vec<String>,
    /// From: an age (7d, 12h), a date or an RFC 3339 instant
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Until, exclusive: an age, a date or an RFC 3339 instant
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// Only this team
    #[arg(long)]
    pub team: Option<String>,
    /// Only this agent
    #[arg(long)]
    pub agent: Option<String>,
    /// Only this model
    #[arg(long)]
    pub model: Option<String>,
    /// Only where DIMENSION=VALUE; may be repeated
    #[arg(long = "where", value_name = "DIMENSION=VALUE")]
    pub filters: Vec<String>,
    /// Show what tools cost: context tax, of it idle, results read first and again, calls written, own price
    #[arg(long)]
    pub measures: bool,
    /// Each row over time: hour, day, week or month
    #[arg(long, value_name = "INTERVAL", value_parser = ["hour", "day", "week", "month"])]
    pub interval: Option<String>,
    /// Beside the same length of time before --since
    #[arg(long, requires = "since")]
    pub compare: bool,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: RowFormat,
}

/// `tools`.
#[derive(Debug, Clone, Args)]
#[command(after_help = TOOLS_EXAMPLES)]
pub struct ToolsArgs {
    /// Lake or server.
    #[command(flatten)]
    pub at: Where,
    /// Only tools that nobody ever called
    #[arg(long)]
    pub never_called: bool,
    /// Only tools whose definition was seen since: an age (7d, 12h), a date or an RFC 3339 instant
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: RowFormat,
}

/// Format of `trace`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TraceFormat {
    /// A tree for people (the default).
    Table,
    /// The tree as one object.
    Json,
}

/// `trace`.
#[derive(Debug, Clone, Args)]
#[command(after_help = TRACE_EXAMPLES)]
pub struct TraceArgs {
    /// Trace id, 32 hexadecimal digits
    pub id: String,
    /// Also whose each part of a model call's cost was: definitions, results, calls, texts; and what each tool could save
    #[arg(long)]
    pub pieces: bool,
    /// Lake or server.
    #[command(flatten)]
    pub at: Where,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: TraceFormat,
}

/// `explain`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXPLAIN_EXAMPLES)]
pub struct ExplainArgs {
    /// Call id or its first four digits or more, a span id, or a trace id
    #[arg(value_name = "ID")]
    pub id: String,
    /// Lake or server.
    #[command(flatten)]
    pub at: Where,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: TraceFormat,
}

/// `mcp`: answers from what was committed when it started; a server's `/mcp` answers up to the second.
#[derive(Debug, Clone, Args)]
#[command(after_help = MCP_EXAMPLES)]
pub struct McpArgs {
    /// Lake folder to answer from [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Whose rows [env: SPANLEDGER_TENANT] [default: default]
    #[arg(long)]
    pub tenant: Option<String>,
}
