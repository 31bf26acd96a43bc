//! A running server takes up the versions of the price book and of the allocation rules that are in use: `prices import`,
//! `allocation use` and the like beside it need no restart.
//!
//! Looks at the one line that names the version in use, and reads the version only where it changed. It is exchanged
//! between two passes of settlement, so one pass charges by one book and one set of rules; a query has those that were
//! in use when it began. What is settled stays as it is until it is settled again. A version that cannot be read is told
//! once, and the server goes on with the one it has.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use spanledger_ledger::settle::Settler;
use spanledger_query::Engine;
use tokio::sync::watch;

use crate::config::Config;

/// Between two looks: a version is made by a person, who sees it done before he has turned to the next thing.
const LOOK: Duration = Duration::from_secs(1);

/// What has versions.
#[derive(Debug, Clone, Copy)]
pub enum Versioned {
    /// What tokens and calls cost.
    PriceBook,
    /// Who pays.
    AllocationRules,
}

impl Versioned {
    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::PriceBook => "price book",
            Self::AllocationRules => "allocation rules",
        }
    }

    fn current(self, config: &Config) -> spanledger_ledger::Result<String> {
        match self {
            Self::PriceBook => crate::prices::store(config).current_id(),
            Self::AllocationRules => crate::allocation::store(config).current_id(),
        }
    }

    fn is_known(self, id: &str, engine: &Engine) -> bool {
        match self {
            Self::PriceBook => engine.book().version() == id,
            Self::AllocationRules => engine.rules().version() == id,
        }
    }

    /// Reads what is in use and charges by it: settlement first, so that who sees it in a query can rely on it.
    async fn take_up(self, config: &Config, settler: &Settler, engine: &Engine) -> anyhow::Result<()> {
        let config = config.clone();
        match self {
            Self::PriceBook => {
                let book = read(move || crate::prices::book(&config)).await?;
                settler.charge_by(Arc::clone(&book)).await?;
                engine.charge_by(book)?;
            }
            Self::AllocationRules => {
                let rules = read(move || crate::allocation::rules(&config)).await?;
                settler.allocate_by(Arc::clone(&rules)).await?;
                engine.allocate_by(rules);
            }
        }
        Ok(())
    }
}

/// Follows the version in use until told to stop.
///
/// # Errors
/// Never: what cannot be read is told, and looked at again once it changes.
pub async fn follow(
    what: Versioned,
    config: Config,
    settler: Arc<Settler>,
    engine: Engine,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let name = what.name();
    let mut seen = String::new();
    loop {
        match what.current(&config) {
            Ok(id) if id != seen => {
                if !what.is_known(&id, &engine) {
                    match what.take_up(&config, &settler, &engine).await {
                        Ok(()) => tracing::info!(version = id, "another version of the {name} is in use from now on"),
                        Err(error) => {
                            tracing::warn!(version = id, %error, "the {name} in use cannot be read; the version before stays");
                        }
                    }
                }
                seen = id;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "cannot tell which version of the {name} is in use"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
        }
    }
}

async fn read<T: Send + 'static>(read: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    let read = tokio::task::spawn_blocking(read);
    read.await.context("the task that reads the version ended early")?
}
