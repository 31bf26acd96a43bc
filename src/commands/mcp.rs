//! `mcp`: the ledger as MCP tools over standard input and output, for clients that start their servers.
//!
//! Who can read the files of the folder is its local reader. Where the configuration requires access, the key in
//! `SPANLEDGER_API_KEY` says who asks, as the protocol wants it of this way in: there is no OAuth over a pipe.

use std::sync::Arc;

use spanledger_access::Principal;
use spanledger_access::audit::Audit;
use spanledger_access::keys::Keys;
use spanledger_mcp_server::Shared;
use spanledger_model::Clock;
use spanledger_model::clock::SystemClock;
use spanledger_state::State;

use crate::cli::McpArgs;
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::source;

/// The environment variable of the key.
const API_KEY: &str = "SPANLEDGER_API_KEY";

/// Serves until the client closes the input.
pub async fn run(_args: &McpArgs, config: &Config) -> anyhow::Result<Outcome> {
    let engine = source::engine(config).await?;
    let state = State::open(config.data()).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let principal = principal(config, &state, &clock).await?;
    // How long entries are kept is the server's business, whose settings may be others.
    let audit = Audit::open(state.clone(), clock, 0);
    let mut shared = Shared::new(engine)
        .with_state(state)
        .with_data(config.data())
        .with_audit(audit.clone())
        .with_local(principal)
        .with_task_settings(config.mcp.tasks())
        .with_unasked_file_bytes(config.mcp.unasked_file_bytes.value);
    if let Some(url) = config.public_url() {
        shared = shared.with_public_url(url);
    }
    let shared = shared.started();
    let served = spanledger_mcp_server::serve_stdio(shared.clone()).await;
    shared.stop().await;
    audit.flush().await;
    served?;
    Ok(Outcome::Done)
}

async fn principal(config: &Config, state: &State, clock: &Arc<dyn Clock>) -> anyhow::Result<Principal> {
    if !config.access.is_required() {
        return config.principal();
    }
    let Some(key) = std::env::var(API_KEY).ok().filter(|key| !key.is_empty()) else {
        let message = format!("access is required: set {API_KEY} to a key of `spanledger keys create`");
        return Err(fail(Kind::Denied, message));
    };
    let keys = Keys::new(state.clone(), config.access.roles()?, Arc::clone(clock));
    keys.authenticate(key.trim())
        .await
        .map_err(|error| fail(Kind::Denied, format!("{API_KEY}: {error}")))
}
