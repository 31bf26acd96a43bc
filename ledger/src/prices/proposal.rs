//! A price that nobody agreed to yet, laid over a book: what a what-if asks.
//!
//! It is read and compiled as a contract's line is, so that it means what it would mean once imported. It takes the
//! place of every contract of the book. Nothing is stored.

use std::sync::Arc;

use super::contract::{ContractEntry, Contracts};
use super::json::Json;
use super::stated::{Layer, Source, read_price};
use super::{CostOrder, PriceBook};
use crate::error::{Error, Result};

/// Name of its source, in price ids and versions.
const NAME: &str = "proposal";

impl PriceBook {
    /// The same list prices with one proposed price instead of all contracts, charged before the list's. `record` is
    /// a contract's line as JSON: `{"model": "*", "prices": {"input": "2.5", "output": "10"}, "discount_percent": "5"}`,
    /// USD per million tokens, percent off what it does not name.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) naming what cannot be read.
    pub fn with_proposal(&self, record: &str) -> Result<Self> {
        let invalid = |error: String| Error::invalid(format!("proposed price: {error}"));
        let json = Json::parse(record).map_err(invalid)?;
        let mut unknown = Vec::new();
        let stated = read_price(&json, Layer::Contract, &mut unknown).map_err(invalid)?;
        if let Some(field) = unknown.first() {
            return Err(invalid(format!("unknown field {field:?}")));
        }
        let source = Source {
            name: NAME.to_owned(),
            layer: Layer::Contract,
            wins: true,
            release: String::new(),
            prices: Vec::new(),
            tools: Vec::new(),
        };
        let entry = ContractEntry::compile(&stated, &source, &self.providers).map_err(invalid)?;
        Ok(Self {
            version: Arc::from(format!("{}+{NAME}", self.version)),
            contracts: Arc::new(Contracts::new(vec![entry])),
            order: CostOrder::default(),
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::prices::PriceQuery;
    use spanledger_model::{Bucket, FemtoUsd};

    #[test]
    fn a_proposed_price_holds_for_what_it_names_and_the_list_for_the_rest() {
        let book = PriceBook::embedded().unwrap();
        let proposed = book
            .with_proposal(r#"{"model": "*", "prices": {"input": "1"}}"#)
            .unwrap();
        let query = PriceQuery {
            model: "gpt-4o",
            provider: Some("openai"),
            at_ns: 1_790_000_000_000_000_000,
            ..PriceQuery::default()
        };
        let price = proposed.resolve_contracted(&query, &[]).unwrap();
        assert_eq!(price.cost_of_one(Bucket::Input, 1), FemtoUsd::parse("0.000001"));
        let listed = book.resolve(&query).unwrap();
        assert_eq!(
            price.cost_of_one(Bucket::Output, 1),
            listed.cost_of_one(Bucket::Output, 1)
        );
        for wrong in [
            "[]",
            "{",
            r#"{"model": "*"}"#,
            r#"{"model": "*", "prices": {"input": "-1"}}"#,
            r#"{"model": "*", "prices": {"inptu": "1"}}"#,
            r#"{"model": "*", "discount_percent": "101"}"#,
        ] {
            assert!(book.with_proposal(wrong).is_err(), "{wrong}");
        }
    }
}
