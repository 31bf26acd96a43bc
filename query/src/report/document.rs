//! [`Document`]: a report as every writer takes it: facts about it, tables with exact totals, notes.
//!
//! Names come from telemetry, which anybody who can send a span can write: they are made harmless once, here, and
//! escaped by each writer for its own format.

use spanledger_model::FemtoUsd;

use crate::format::is_visible;

/// Characters of a name in a report; more are cut and marked.
const NAME_CHARS_MAX: usize = 500;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// A name.
    Text,
    /// A whole number that can be summed.
    Count,
    /// An amount in USD that can be summed.
    Money,
    /// An amount in USD that adds up to nothing, such as a price.
    Rate,
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Name, the same in every format.
    pub name: &'static str,
    /// What it holds.
    pub kind: ColumnKind,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// Nothing, or not known.
    Empty,
    /// A name, made harmless.
    Text(String),
    /// A whole number.
    Count(i64),
    /// An exact amount in USD.
    Money(FemtoUsd),
}

impl Cell {
    /// A text of telemetry.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(harmless(text))
    }

    /// An amount, nothing where it is not known.
    #[must_use]
    pub fn money(cost: Option<FemtoUsd>) -> Self {
        cost.map_or(Self::Empty, Self::Money)
    }

    /// A count, nothing where it is not known.
    #[must_use]
    pub fn count(count: Option<i64>) -> Self {
        count.map_or(Self::Empty, Self::Count)
    }

    /// As text: amounts and counts as exact digits.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(text) => text.clone(),
            Self::Count(count) => count.to_string(),
            Self::Money(cost) => cost.to_string(),
        }
    }
}

/// A table whose rows sum to its total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name in data formats and of its sheet: at most 31 letters.
    pub id: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows.
    pub rows: Vec<Vec<Cell>>,
    /// What the rows sum to; absent where they are no parts of anything.
    pub total: Option<Vec<Cell>>,
}

impl Section {
    /// The sum of the rows: of counts and amounts; names are left out.
    #[must_use]
    pub fn sum(&self) -> Vec<Cell> {
        let sum = |(at, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            match column.kind {
                ColumnKind::Text | ColumnKind::Rate => Cell::Empty,
                ColumnKind::Count => Cell::Count(
                    cells
                        .map(|cell| if let Cell::Count(count) = cell { *count } else { 0 })
                        .sum(),
                ),
                ColumnKind::Money => Cell::Money(
                    cells
                        .map(|cell| {
                            if let Cell::Money(cost) = cell {
                                *cost
                            } else {
                                FemtoUsd::ZERO
                            }
                        })
                        .sum(),
                ),
            }
        };
        self.columns.iter().enumerate().map(sum).collect()
    }
}

/// A report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its title.
    pub title: String,
    /// What it is about and what it was made of, in order.
    pub facts: Vec<(&'static str, String)>,
    /// Its tables.
    pub sections: Vec<Section>,
    /// What a reader has to know.
    pub notes: Vec<String>,
}

/// A text without controls and without what Unicode draws as nothing or as a change of direction.
#[must_use]
pub fn harmless(text: &str) -> String {
    let mut harmless: String = text
        .chars()
        .take(NAME_CHARS_MAX)
        .map(|character| if is_visible(character) { character } else { '\u{fffd}' })
        .collect();
    if text.chars().nth(NAME_CHARS_MAX).is_some() {
        harmless.push('…');
    }
    harmless
}
