//! What a principal may see besides its tenant's rows: which of them, and whether texts.
//!
//! Sits between [`crate::catalog`] and the tables. `calls` and `ledger` carry `team`, `project` and `environment`, so a
//! row filter is part of their scan ([`crate::table`]). Everything else is filtered by them or not shown:
//!
//! | table | with a row filter |
//! |---|---|
//! | `observations` | the records that calls in sight were put together from |
//! | `spans` | the spans among those records |
//! | `logs`, `metrics`, `payloads`, `coverage`, `unmapped_keys` | refused: nothing says for certain whose a row is |
//! | `allocated_costs` | refused: shares of a part would not be those of the whole |
//!
//! Without `payloads:read`, `payloads` is refused and the columns that emitters write texts into are absent.
//!
//! Guarantee: the filter is in the plan of the table itself, below anything a statement can say. A table is refused
//! rather than shown with too many rows or with wrong sums.

use spanledger_access::{Principal, Scope};
use spanledger_lake::Table;

use crate::allocated::ALLOCATED_COSTS;
use crate::error::{Error, ErrorKind};

/// Columns that can hold texts of prompts, arguments and results: what emitters may write anything into. What
/// `resource` holds describes a process, what the attributes of `metrics` hold are labels.
const TEXT_COLUMNS: [(&str, &[&str]); 2] = [
    ("spans", &["status_message", "attributes", "events", "links"]),
    ("logs", &["body", "attributes"]),
];

/// Tables and views that cannot be filtered by rows, and why.
const UNFILTERED: [(&str, &str); 6] = [
    ("logs", "its rows do not say whose they are"),
    ("metrics", "its rows do not say whose they are"),
    ("payloads", "its rows do not say whose they are"),
    ("coverage", "it counts records that do not say whose they are"),
    ("unmapped_keys", "it counts records that do not say whose they are"),
    (ALLOCATED_COSTS, "shares of shared costs are those of the whole"),
];

/// The observations in sight, in a catalog whose `observations` are the tenant's and whose `calls` are filtered.
const OBSERVATIONS: &str = "SELECT * FROM observations WHERE observation_id IN (\
    SELECT id FROM (SELECT unnest(observation_ids) AS id FROM calls))";

/// The spans in sight, in the same catalog.
const SPANS: &str = "SELECT s.* FROM spans AS s LEFT SEMI JOIN (\
    SELECT trace_id, span_id FROM observations WHERE source = 'span' AND observation_id IN (\
    SELECT id FROM (SELECT unnest(observation_ids) AS id FROM calls))) AS o \
    ON s.trace_id = o.trace_id AND s.span_id = o.span_id";

/// True for tables whose own columns a row filter looks at.
pub(crate) fn filters_itself(table: Table) -> bool {
    matches!(table, Table::Calls | Table::Ledger)
}

/// The statement that gives the rows of a raw table in sight of a row filter.
pub(crate) fn filtered(table: Table) -> Option<&'static str> {
    match table {
        Table::Observations => Some(OBSERVATIONS),
        Table::Spans => Some(SPANS),
        _ => None,
    }
}

/// Columns of a table that are not shown to this principal.
pub(crate) fn hidden_columns(name: &str, principal: &Principal) -> &'static [&'static str] {
    if principal.can(Scope::PayloadsRead) {
        return &[];
    }
    let of_table = TEXT_COLUMNS.iter().find(|(table, _)| *table == name);
    of_table.map_or(&[], |(_, columns)| columns)
}

/// Why a table or view is not for this principal; `None` where it is.
pub(crate) fn refusal(name: &str, principal: &Principal) -> Option<Error> {
    if !principal.rows().is_empty()
        && let Some((_, why)) = UNFILTERED.iter().find(|(table, _)| *table == name)
    {
        let seen: Vec<&str> = principal.rows().conditions().map(|(column, _)| column).collect();
        return Some(Error::new(
            ErrorKind::Forbidden,
            format!(
                "`{name}` is not shown to a role that is confined to some rows (by {}): {why}; ask calls, ledger and the views over them",
                seen.join(", ")
            ),
        ));
    }
    if name == Table::Payloads.name() && !principal.can(Scope::PayloadsRead) {
        return Some(text_refusal(&format!("`{name}` holds")));
    }
    None
}

/// The refusal that a column's absence means, where an error speaks of one that is hidden from this principal.
pub(crate) fn of_hidden_column(error: &Error, principal: &Principal) -> Option<Error> {
    if error.kind() != ErrorKind::Invalid || principal.can(Scope::PayloadsRead) {
        return None;
    }
    let rest = error.message().strip_prefix("there is no column `")?;
    let (column, _) = rest.split_once('`')?;
    let is_text = TEXT_COLUMNS.iter().any(|(_, columns)| columns.contains(&column));
    is_text.then(|| text_refusal(&format!("the column `{column}` of spans and logs can hold")))
}

fn text_refusal(what_holds: &str) -> Error {
    Error::new(
        ErrorKind::Forbidden,
        format!("{what_holds} texts of prompts, arguments and results, which need the scope payloads:read"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_filtered_or_refused() {
        for table in Table::ALL {
            let is_refused = UNFILTERED.iter().any(|(name, _)| *name == table.name());
            let ways = [filters_itself(table), filtered(table).is_some(), is_refused];
            assert_eq!(ways.iter().filter(|way| **way).count(), 1, "{}", table.name());
        }
        for (name, columns) in TEXT_COLUMNS {
            let schema = Table::parse(name).map(Table::schema);
            for column in columns {
                let is_there = schema.as_ref().is_some_and(|schema| schema.index_of(column).is_ok());
                assert!(is_there, "{name}.{column}");
            }
        }
    }
}
