//! What differs between two books: models that came, went, or cost something else, and from when.
//!
//! Compares what the books charge, rate by rate, and no identities or versions: a catalogue that only names
//! its records otherwise does not differ.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::listing::{PriceFilter, PriceRow};
use super::{Layer, PriceBook};

/// How two books differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DiffReport {
    /// Version before.
    pub from: String,
    /// Version after.
    pub to: String,
    /// Models and tools that only the new book prices.
    pub added: Vec<DiffEntry>,
    /// Models and tools that only the old book prices.
    pub removed: Vec<DiffEntry>,
    /// Models and tools that cost something else.
    pub changed: Vec<DiffEntry>,
}

/// A model (or tool) and what of it differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiffEntry {
    /// List price, contract or tool.
    pub layer: &'static str,
    /// Provider's identity; a tool's server.
    pub provider: String,
    /// Model's identity or pattern; the tool.
    pub model: String,
    /// Its rates that came, went or changed.
    pub changes: Vec<Change>,
}

/// A rate that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// When and in which context the rate applies; empty for always.
    pub applies: String,
    /// Quantity that is priced, `input_tokens`; `discount`, `valid_to`.
    pub unit: String,
    /// Rate before, USD with its tiers and block.
    pub old: Option<String>,
    /// Rate after.
    pub new: Option<String>,
}

type Key = (Layer, String, String);
/// Rates by (applies, unit).
type Rates = BTreeMap<(String, String), String>;

impl DiffReport {
    /// Compares two books.
    #[must_use]
    pub fn between(old: &PriceBook, new: &PriceBook) -> Self {
        let (before, after) = (flat(old), flat(new));
        let empty = Rates::new();
        let entry = |key: &Key, old: &Rates, new: &Rates| DiffEntry {
            layer: key.0.as_str(),
            provider: key.1.clone(),
            model: key.2.clone(),
            changes: changes(old, new),
        };
        let mut report = Self {
            from: old.version().to_owned(),
            to: new.version().to_owned(),
            ..Self::default()
        };
        for (key, rates) in &after {
            match before.get(key) {
                None => report.added.push(entry(key, &empty, rates)),
                Some(earlier) if earlier != rates => report.changed.push(entry(key, earlier, rates)),
                Some(_) => {}
            }
        }
        let gone = before.iter().filter(|(key, _)| !after.contains_key(*key));
        report.removed = gone.map(|(key, rates)| entry(key, rates, &empty)).collect();
        report
    }

    /// True where both charge the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// The report for people; of each part at most `entries_max` entries are written out.
    #[must_use]
    pub fn to_text(&self, entries_max: usize) -> String {
        let mut text = String::new();
        for (sign, what, entries) in [
            ("+", "added", &self.added),
            ("-", "removed", &self.removed),
            ("~", "changed", &self.changed),
        ] {
            for entry in entries.iter().take(entries_max) {
                let _ = writeln!(text, "{sign} {} {}/{}", entry.layer, entry.provider, entry.model);
                for change in &entry.changes {
                    let rate = match (&change.old, &change.new) {
                        (Some(old), Some(new)) => format!("{old} -> {new}"),
                        (Some(old), None) => format!("{old} -> (none)"),
                        (None, Some(new)) => new.clone(),
                        (None, None) => continue,
                    };
                    let applies = match change.applies.as_str() {
                        "" => String::new(),
                        applies => format!("  [{applies}]"),
                    };
                    let _ = writeln!(text, "    {:<28}{rate}{applies}", change.unit);
                }
            }
            if entries.len() > entries_max {
                let n_more = entries.len() - entries_max;
                let _ = writeln!(text, "{sign} … and {n_more} more {what}; --format json has all");
            }
        }
        let _ = writeln!(
            text,
            "{} added, {} removed, {} changed",
            self.added.len(),
            self.removed.len(),
            self.changed.len()
        );
        text
    }
}

fn flat(book: &PriceBook) -> BTreeMap<Key, Rates> {
    let mut models: BTreeMap<Key, Rates> = BTreeMap::new();
    for row in book.list(&PriceFilter::default()) {
        let applies = applies(&row);
        let rates = models
            .entry((row.layer, row.provider.clone(), row.model.clone()))
            .or_default();
        let mut add = |unit: &str, rate: String| {
            rates.insert((applies.clone(), unit.to_owned()), rate);
        };
        if let Some(discount) = &row.discount_percent {
            add("discount", format!("{discount} %"));
        }
        if let Some(end) = &row.valid_to {
            add("valid_to", end.clone());
        }
        if row.rates.is_empty() && row.discount_percent.is_none() {
            add("free", "0".to_owned());
        }
        for rate in &row.rates {
            let tiers: String = rate
                .tiers
                .iter()
                .map(|tier| format!(", {} above {}", tier.usd, tier.above_input_tokens))
                .collect();
            add(rate.unit, format!("{}{tiers} per {}", rate.usd, rate.per));
        }
    }
    models
}

/// `processing=batch, from 2026-10-14, sat+sun`.
fn applies(row: &PriceRow) -> String {
    let context = row.context.clone();
    let from = row.valid_from.as_ref().map(|from| format!("from {from}"));
    let parts = context.into_iter().chain(from).chain(row.windows.iter().cloned());
    parts.collect::<Vec<_>>().join(", ")
}

fn changes(old: &Rates, new: &Rates) -> Vec<Change> {
    let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| Change {
            applies: key.0.clone(),
            unit: key.1.clone(),
            old: old.get(key).cloned(),
            new: new.get(key).cloned(),
        })
        .collect()
}
