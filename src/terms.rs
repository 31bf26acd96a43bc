//! What this process charges by: prices, allocation rules, and how costs are divided.

use spanledger_ledger::settle::plan::Terms;

use crate::config::Config;

/// The terms to settle by, with the allocation files of the configuration taken in.
///
/// # Errors
/// Those of [`crate::prices::book`] and [`crate::allocation::rules_for_settlement`].
pub fn terms(config: &Config) -> anyhow::Result<Terms> {
    Ok(Terms {
        book: crate::prices::book(config)?,
        rules: crate::allocation::rules_for_settlement(config)?,
        policy: config.cost.attribution.value,
    })
}
