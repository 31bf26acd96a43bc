//! The price book that this process charges by: the version in use of the data folder, and `cost.source`.
//!
//! Wiring between configuration and `ledger`, whose [`PriceStore`] keeps the versions. A server that runs takes up
//! another version when it is taken into use ([`crate::serve`]).

use std::sync::Arc;

use spanledger_ledger::prices::store::PriceStore;
use spanledger_ledger::prices::{CostOrder, PriceBook};

use crate::config::Config;

/// The versions of the data folder.
pub fn store(config: &Config) -> PriceStore {
    PriceStore::new(config.data())
}

/// The book in use.
///
/// # Errors
/// Kind corrupt for a version that was changed, internal for one that cannot be read.
pub fn book(config: &Config) -> anyhow::Result<Arc<PriceBook>> {
    let book = store(config).current_book()?;
    Ok(ordered(book, config))
}

/// The book of a version, `v0` for the built-in one.
///
/// # Errors
/// As [`book`]; kind invalid where there is no such version.
pub fn book_of_version(config: &Config, version: &str) -> anyhow::Result<Arc<PriceBook>> {
    let store = store(config);
    let book = match store.version(version)? {
        Some(version) => Arc::new(store.book(&version)?),
        None => PriceBook::embedded()?,
    };
    Ok(ordered(book, config))
}

fn ordered(book: Arc<PriceBook>, config: &Config) -> Arc<PriceBook> {
    match &config.cost.source.value {
        order if *order == CostOrder::default() => book,
        order => Arc::new(book.with_cost_order(order.clone())),
    }
}
