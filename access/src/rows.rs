//! Row filters: which rows of its tenant a principal sees.
//!
//! A lead of one team sees that team's rows in every interface. The tenant is always filtered by; these
//! are narrower. The filter is part of each table's scan in `query`, where no statement can remove it.

use std::sync::Arc;

/// Columns that rows can be filtered by: those that calls, lines, observations and raw records all have.
pub const COLUMNS: [&str; 3] = ["team", "project", "environment"];

/// Values that a row must have. An empty filter lets every row of the tenant pass.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct RowFilter {
    conditions: Arc<[Condition]>,
}

/// A column, and the values that pass.
type Condition = (&'static str, Arc<[String]>);

impl RowFilter {
    /// A filter of column to allowed values; a column that is absent is not looked at, one with no values
    /// lets nothing pass. Returns `None` where a column is not one of [`COLUMNS`].
    #[must_use]
    pub fn new(conditions: impl IntoIterator<Item = (String, Vec<String>)>) -> Option<Self> {
        let mut known = Vec::new();
        for (column, mut values) in conditions {
            let column = COLUMNS.into_iter().find(|name| *name == column)?;
            values.sort();
            values.dedup();
            known.push((column, Arc::from(values)));
        }
        known.sort();
        Some(Self {
            conditions: known.into(),
        })
    }

    /// True where every row of the tenant passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// What passes both filters.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut both: Vec<Condition> = self.conditions.to_vec();
        for (column, values) in other.conditions.iter() {
            match both.iter_mut().find(|(name, _)| name == column) {
                Some((_, held)) => *held = held.iter().filter(|value| values.contains(value)).cloned().collect(),
                None => both.push((column, Arc::clone(values))),
            }
        }
        both.sort();
        Self {
            conditions: both.into(),
        }
    }

    /// Column and allowed values of each condition; all must hold.
    pub fn conditions(&self) -> impl Iterator<Item = (&'static str, &[String])> {
        self.conditions
            .iter()
            .map(|(column, values)| (*column, values.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_known_columns_filter() {
        let filter = RowFilter::new([("team".to_owned(), vec!["b".to_owned(), "a".to_owned()])]).unwrap();
        assert_eq!(
            filter.conditions().collect::<Vec<_>>(),
            [("team", &["a".to_owned(), "b".to_owned()][..])]
        );
        assert!(RowFilter::default().is_empty() && !filter.is_empty());
        assert!(RowFilter::new([("tenant".to_owned(), Vec::new())]).is_none());
    }

    #[test]
    fn two_filters_together_pass_what_both_pass() {
        let of = |column: &str, values: &[&str]| {
            RowFilter::new([(
                column.to_owned(),
                values.iter().map(|value| (*value).to_owned()).collect(),
            )])
            .unwrap()
        };
        let teams = of("team", &["a", "b"]);
        assert_eq!(teams.and(&of("team", &["b", "c"])), of("team", &["b"]));
        assert_eq!(teams.and(&of("team", &["c"])), of("team", &[]));
        assert!(!teams.and(&of("team", &["c"])).is_empty());
        assert_eq!(teams.and(&RowFilter::default()), teams);
        let both = teams.and(&of("environment", &["prod"]));
        assert_eq!(
            both.conditions().map(|(column, _)| column).collect::<Vec<_>>(),
            ["environment", "team"]
        );
    }
}
