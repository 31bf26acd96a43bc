//! Questions to the lake: SQL, cost reports, traces, and the REST API over them.
//!
//! Reads what `lake` stores and `ledger` settles, as one tenant sees it: Delta files ∪ hot rows, under the
//! names of the data model. Everything that answers a number (REST, MCP, the dashboard, the CLI) asks
//! through [`Engine`], so that they agree. Only this crate plans SQL; it writes nothing.
//!
//! | module | what it holds |
//! |---|---|
//! | [`engine`] | [`Engine`]: sessions, limits, execution |
//! | [`sandbox`] | what a statement may be |
//! | [`catalog`], [`views`] | the names, and the views' SQL |
//! | `allocated` | the view `allocated_costs`: direct and shared cost by month |
//! | `economics` | the views over causes: tools, shares by cause |
//! | `table`, `ids` | a snapshot as a DataFusion table, with tenant filter and pruning |
//! | `rollup`, `source` | sums by hour of lines and calls, made once a file; what a report is read from |
//! | `scanned` | how much running statements have read, and a planned one would |
//! | `sight` | which rows and columns a principal's role and scopes leave |
//! | `functions` | SQL functions of our own |
//! | [`format`] | answers as text table, CSV, JSON, Arrow, Parquet, Markdown |
//! | [`costs`], [`measures`], `avoidable` | cost by dimension, and what of it tools cost and could have saved; [`spend`] over time |
//! | [`anomalies`] | spend out of the ordinary, with its money and its cause |
//! | [`cost_series`] | a cost report over time and beside the period before |
//! | [`change`] | why cost changed between two periods: parts that sum to it |
//! | [`forecast`] | what a period will cost by its end |
//! | [`finops`] | budgets and allocation rules, read and changed |
//! | [`savings`] | what could be saved, with evidence |
//! | [`trace`] | the tree of a trace, with own and total cost |
//! | [`overview`] | the dashboard's first page, latest calls, counts |
//! | [`coverage`] | what was understood and what was not, with the mapping that is missing |
//! | [`explain`] | how one call was put together, field by field |
//! | [`pieces`] | whose each part of a model call's cost was, recomputed |
//! | [`dialects`] | what is asked about dialects, answered by the binary |
//! | [`report`] | statements and exports as files, and those that are kept |
//! | [`what_if`] | what calls would have cost otherwise |
//! | [`http`] | the routes under `/api/v1` |
//! | [`limits`] | every limit, with its reason |

#![forbid(unsafe_code)]

mod allocated;
pub mod anomalies;
mod avoidable;
pub mod catalog;
pub mod change;
pub mod cost_series;
pub mod costs;
pub mod coverage;
pub mod dialects;
mod economics;
pub mod engine;
pub mod error;
mod evidence;
pub mod explain;
pub mod finops;
pub mod forecast;
pub mod format;
mod functions;
pub mod http;
mod ids;
pub mod inspect;
pub mod limits;
mod mapping;
pub mod measures;
pub mod overview;
pub mod pieces;
pub mod report;
mod rollup;
mod rows;
pub mod sandbox;
pub mod savings;
mod scanned;
mod sight;
mod source;
pub mod spend;
mod table;
pub mod time;
mod tool_catalog;
pub mod trace;
pub mod views;
pub mod what_if;
mod yielding;

#[cfg(test)]
mod tests;

pub use costs::{CostReport, CostRequest, CostRow, Dimension};
pub use coverage::CoverageReport;
pub use dialects::{Dialects, NoDialects};
pub use engine::{Engine, QueryOptions, ResultSet};
pub use error::{Error, ErrorKind, Result};
pub use explain::Explanation;
pub use format::{Format, write};
pub use http::{Control, ServerFacts, router};
pub use overview::{Overview, ServerStatus};
pub use scanned::Scanned;
pub use trace::{TraceNode, TraceTree};
