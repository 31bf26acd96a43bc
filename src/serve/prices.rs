//! A running server takes up the version of the price book that is in use: `prices import` and `prices use` beside it
//! need no restart.
//!
//! Looks at the one line that names the version in use, and reads the version only where it changed. The book is
//! exchanged between two passes of settlement, so one pass charges by one book; a query has the book that was in
//! use when it began. A version that cannot be read is told once, and the server goes on with the one it has.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use spanledger_ledger::settle::Settler;
use spanledger_query::Engine;
use tokio::sync::watch;

use crate::config::Config;

/// Between two looks: prices are imported by people, who see it done before they have turned to the next thing.
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
    let store = crate::prices::store(&config);
    let mut seen = String::new();
    loop {
        match store.current_id() {
            Ok(id) if id != seen => {
                if id != engine.book().version()
                    && let Err(error) = take_up(&config, &settler, &engine).await
                {
                    tracing::warn!(version = id, %error, "the price book in use cannot be read; the one before stays");
                }
                seen = id;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "cannot tell the price book in use"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
        }
    }
}

async fn take_up(config: &Config, settler: &Settler, engine: &Engine) -> anyhow::Result<()> {
    let config = config.clone();
    let read = tokio::task::spawn_blocking(move || crate::prices::book(&config));
    let book = read.await.context("the task that reads the price book ended early")??;
    let version = book.version().to_owned();
    if version == engine.book().version() {
        return Ok(());
    }
    // Settlement first: who sees a price in a query can rely on it.
    settler.charge_by(Arc::clone(&book)).await?;
    engine.charge_by(book)?;
    tracing::info!(version, "charging by another price book from now on");
    Ok(())
}
