//! What differs between two rule sets: rules and shared costs added, removed and changed, and their order.

use serde::Serialize;

use super::RuleSet;
use super::rules::Rule;
use super::shared::SharedCost;

/// What differs between two rule sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiffReport {
    /// Version before.
    pub from: String,
    /// Version after.
    pub to: String,
    /// Rules.
    pub rules: Changes,
    /// Shared costs.
    pub shared: Changes,
}

/// What differs among entries with names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// New ones.
    pub added: Vec<Entry>,
    /// Ones that are gone.
    pub removed: Vec<Entry>,
    /// Ones that say something else.
    pub changed: Vec<ChangedEntry>,
    /// True where those in both stand in another order.
    pub reordered: bool,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// An entry before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangedEntry {
    /// Its name.
    pub name: String,
    /// What it said.
    pub old: String,
    /// What it says.
    pub new: String,
}

/// A rule in one line.
#[must_use]
pub fn rule_text(rule: &Rule) -> String {
    let overrides = if rule.overrides { " (overrides)" } else { "" };
    format!("{} -> {}{overrides}", rule.condition_text(), rule.sets_text())
}

/// A shared cost in one line.
#[must_use]
pub fn shared_text(cost: &SharedCost) -> String {
    let mut text = format!("{}, {}", cost.amount_text(), cost.method_text());
    if let super::Method::Fixed(shares) = &cost.method {
        let shares = shares.iter().map(|(name, weight)| {
            let weight = spanledger_model::FemtoUsd(i128::try_from(*weight).unwrap_or(i128::MAX));
            format!("{name} {weight}")
        });
        text.push_str(&format!(" {}", shares.collect::<Vec<_>>().join(", ")));
    }
    for (word, names) in [("among", &cost.among), ("except", &cost.except)] {
        if !names.is_empty() {
            text.push_str(&format!(", {word} {}", names.join(", ")));
        }
    }
    if let Some(by) = &cost.by {
        text.push_str(&format!(", by {by}"));
    }
    if cost.is_even_without_weight {
        text.push_str(", even without weight");
    }
    if let Some(what) = &cost.what {
        text.push_str(&format!(" ({what})"));
    }
    text
}

impl DiffReport {
    /// Compares two rule sets.
    #[must_use]
    pub fn between(old: &RuleSet, new: &RuleSet) -> Self {
        let rules = |set: &RuleSet| entries(set.rules(), |rule| &rule.name, rule_text);
        let shared = |set: &RuleSet| entries(set.shared(), |cost| &cost.name, shared_text);
        Self {
            from: old.version().to_owned(),
            to: new.version().to_owned(),
            rules: Changes::between(rules(old), rules(new)),
            shared: Changes::between(shared(old), shared(new)),
        }
    }

    /// The report for people, with at most so many entries of each kind.
    #[must_use]
    pub fn to_text(&self, entries_max: usize) -> String {
        let mut text = String::new();
        self.rules.write("rule", entries_max, &mut text);
        self.shared.write("shared cost", entries_max, &mut text);
        if text.is_empty() {
            text.push_str("nothing differs\n");
        }
        text
    }
}

fn entries<T>(items: &[T], name: impl Fn(&T) -> &String, text: impl Fn(&T) -> String) -> Vec<Entry> {
    let entry = |item: &T| Entry {
        name: name(item).clone(),
        text: text(item),
    };
    items.iter().map(entry).collect()
}

impl Changes {
    fn between(old: Vec<Entry>, new: Vec<Entry>) -> Self {
        let has = |entries: &[Entry], name: &str| entries.iter().any(|entry| entry.name == name);
        let order = |entries: &[Entry], others: &[Entry]| -> Vec<String> {
            let both = entries.iter().filter(|entry| has(others, &entry.name));
            both.map(|entry| entry.name.clone()).collect()
        };
        let reordered = order(&old, &new) != order(&new, &old);
        let changed = old.iter().filter_map(|before| {
            let after = new
                .iter()
                .find(|after| after.name == before.name && after.text != before.text)?;
            Some(ChangedEntry {
                name: before.name.clone(),
                old: before.text.clone(),
                new: after.text.clone(),
            })
        });
        Self {
            changed: changed.collect(),
            reordered,
            removed: old.iter().filter(|entry| !has(&new, &entry.name)).cloned().collect(),
            added: new.iter().filter(|entry| !has(&old, &entry.name)).cloned().collect(),
        }
    }

    fn write(&self, what: &str, max: usize, text: &mut String) {
        let mut part = |sign: &str, lines: Vec<String>| {
            for line in lines.iter().take(max) {
                text.push_str(&format!("{sign} {what} {line}\n"));
            }
            if lines.len() > max {
                text.push_str(&format!("{sign} {} more {what}s\n", lines.len() - max));
            }
        };
        let lines = |entries: &[Entry]| {
            entries
                .iter()
                .map(|entry| format!("{}: {}", entry.name, entry.text))
                .collect()
        };
        part("+", lines(&self.added));
        part("-", lines(&self.removed));
        let changed = |entry: &ChangedEntry| format!("{}: {}\n     now: {}", entry.name, entry.old, entry.new);
        part("~", self.changed.iter().map(changed).collect());
        if self.reordered {
            text.push_str(&format!("~ the {what}s stand in another order\n"));
        }
    }
}
