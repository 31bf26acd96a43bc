//! The tables of the lake: names, Arrow schemas, sort orders, and rows to and from record batches.
//!
//! Every table carries `tenant`, `day` (UTC date) and `time` (µs, UTC); files are laid out by tenant and
//! day, and both are stored as plain columns too, so that any reader of the Parquet sees them.
//! Ids are fixed-size binary here (half the bytes of hex); the SQL views show lower-case hex.
//!
//! | module | tables |
//! |---|---|
//! | [`raw`] | `spans`, `logs`, `metrics`, `payloads`: what arrived, faithful to OTLP |
//! | [`observations`] | `observations` |
//! | [`calls`] | `calls` |
//! | [`ledger_lines`], [`carried`] | `ledger`; its carried lines in a merge |
//! | `groups` | columns that several of these have |
//! | [`codec`] | column builders and readers that the others share |

pub mod calls;
pub(crate) mod carried;
pub mod codec;
mod groups;
pub mod ledger_lines;
pub mod observations;
pub mod raw;

use std::sync::OnceLock;

use arrow::datatypes::SchemaRef;

/// What makes two rows of a table, with equal sort keys, one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// These columns are equal. Of several rows the one with the least value of `first_by` is the record.
    Columns {
        /// Columns besides the sort keys.
        names: &'static [&'static str],
        /// Column that tells which came first.
        first_by: Option<&'static str>,
    },
    /// All columns are equal.
    WholeRow,
}

/// A table of the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Spans, faithful to OTLP.
    Spans,
    /// Log records and events.
    Logs,
    /// Metric data points.
    Metrics,
    /// Large texts: prompts, arguments, results.
    Payloads,
    /// What one record says about an operation.
    Observations,
    /// One logical operation a row.
    Calls,
    /// One money line a row.
    Ledger,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 7] = [
        Self::Spans,
        Self::Logs,
        Self::Metrics,
        Self::Payloads,
        Self::Observations,
        Self::Calls,
        Self::Ledger,
    ];
    /// The tables that ingest writes through the write-ahead log.
    pub const RAW: [Self; 5] = [
        Self::Spans,
        Self::Logs,
        Self::Metrics,
        Self::Payloads,
        Self::Observations,
    ];

    /// The table's name in SQL and in the folder layout.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Spans => "spans",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Payloads => "payloads",
            Self::Observations => "observations",
            Self::Calls => "calls",
            Self::Ledger => "ledger",
        }
    }

    /// The table of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// The table's schema. Adding a nullable column is free; renaming one is a migration.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        static SCHEMAS: OnceLock<[SchemaRef; 7]> = OnceLock::new();
        let schemas = SCHEMAS.get_or_init(|| {
            [
                raw::spans_schema(),
                raw::logs_schema(),
                raw::metrics_schema(),
                raw::payloads_schema(),
                observations::schema(),
                calls::schema(),
                ledger_lines::schema(),
            ]
        });
        SchemaRef::clone(&schemas[self as usize])
    }

    /// What makes two rows one record that was delivered twice; `None` for the tables that settlement writes, whose
    /// rows are never repeated. A span is its trace, span id and kind (client and server side of one request share the
    /// id in some emitters) at one start; records without an id are their content.
    #[must_use]
    pub fn identity(self) -> Option<Identity> {
        let columns = |names, first_by| Some(Identity::Columns { names, first_by });
        match self {
            Self::Spans => columns(&["trace_id", "span_id", "kind"], None),
            Self::Observations => columns(&["observation_id"], Some("arrived_at")),
            Self::Logs | Self::Metrics | Self::Payloads => Some(Identity::WholeRow),
            Self::Calls | Self::Ledger => None,
        }
    }

    /// The order of rows within a file: time, so that ids and neighbours compress and scans prune.
    #[must_use]
    pub fn sort_columns(self) -> &'static [&'static str] {
        match self {
            Self::Spans | Self::Logs | Self::Payloads | Self::Observations | Self::Calls => &["time", "trace_id"],
            Self::Metrics => &["name", "time"],
            Self::Ledger => &["time", "call_id"],
        }
    }
}
