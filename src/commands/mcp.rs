//! `mcp`: the ledger as MCP tools over standard input and output, for clients that start their servers.

use crate::cli::McpArgs;
use crate::config::Config;
use crate::exit::Outcome;
use crate::source;

/// Serves until the client closes the input.
pub async fn run(_args: &McpArgs, config: &Config) -> anyhow::Result<Outcome> {
    let engine = source::engine(config).await?;
    spanledger_mcp_server::serve_stdio(engine).await?;
    Ok(Outcome::Done)
}
