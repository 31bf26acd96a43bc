//! A running server takes up the version of the allocation rules that is in use: `allocation import`, `allocation use` and
//! `set_allocation_rule` need no restart.
//!
//! As [`super::prices`] does for the price book: looks at the one line that names the version in use, reads the version
//! only where it changed, and exchanges it between two passes of settlement. What is settled stays as it is until it is
//! settled again. A version that cannot be read is told once, and the server goes on with the one it has.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use spanledger_ledger::settle::Settler;
use spanledger_query::Engine;
use tokio::sync::watch;

use crate::config::Config;

/// Between two looks: rules are set by people, who see it done before they have turned to the next thing.
const LOOK: Duration = Duration::from_secs(1);

/// Follows the version in use until told to stop.
///
/// # Errors
/// Where settlement has stopped.
pub async fn follow(
    config: Config,
    settler: Arc<Settler>,
    engine: Engine,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let store = crate::allocation::store(&config);
    let mut seen = String::new();
    loop {
        match store.current_id() {
            Ok(id) if id != seen => {
                if id != engine.rules().version()
                    && let Err(error) = take_up(&config, &settler, &engine).await
                {
                    tracing::warn!(version = id, %error, "the allocation rules in use cannot be read; those before stay");
                }
                seen = id;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "cannot tell the allocation rules in use"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
        }
    }
}

async fn take_up(config: &Config, settler: &Settler, engine: &Engine) -> anyhow::Result<()> {
    let config = config.clone();
    let read = tokio::task::spawn_blocking(move || crate::allocation::rules(&config));
    let rules = read
        .await
        .context("the task that reads the allocation rules ended early")??;
    let version = rules.version().to_owned();
    // Settlement first: who sees a rule in a query can rely on it.
    settler.allocate_by(Arc::clone(&rules)).await?;
    engine.allocate_by(rules);
    tracing::info!(version, "allocating by other rules from now on");
    Ok(())
}
