//! Every limit of the crate, each with its reason.
//!
//! The sandbox does not trust one of them alone: text is bounded before it is parsed, plans before they
//! run, and answers while they come.

use std::time::Duration;

/// Longest statement, in bytes. The longest query of a BI tool's start-up replay is about 12 KB.
pub const SQL_BYTES_MAX: usize = 128 << 10;
/// Largest body of a REST request: a statement, JSON-escaped at worst six-fold.
pub const BODY_BYTES_MAX: usize = 6 * SQL_BYTES_MAX + (64 << 10);
/// Operators and operator words in a statement. Each can add one level to an expression tree: DataFusion
/// has aborted the process on a sum of 2,000 terms (apache/datafusion#22229), and its optimizer's time grows
/// with the square of the depth.
pub const SQL_OPERATORS_MAX: usize = 500;
/// Nested parentheses and brackets in a statement.
pub const SQL_NESTING_MAX: usize = 64;
/// `SELECT`s in a statement: each union arm or subquery adds one level to the plan.
pub const SQL_SELECTS_MAX: usize = 200;
/// Joins in a statement: the optimizer's work grows faster than their number.
pub const SQL_JOINS_MAX: usize = 32;
/// Stack of a query thread, in bytes: parsing, planning and dropping the largest statement allowed above
/// needs under a quarter of it in a debug build.
pub const QUERY_STACK_BYTES: usize = 16 << 20;
/// Rows of an answer, where the caller names no other limit.
pub const ROWS_DEFAULT: usize = 100_000;
/// Rows of an answer that a caller may ask for.
pub const ROWS_MAX: usize = 1_000_000;
/// Arrow bytes of an answer: it is held in memory once, and once more as text.
pub const RESULT_BYTES_MAX: usize = 256 << 20;
/// Time a query may take. Vacuum leaves replaced files in place far longer than this.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Memory that all running queries share, in bytes; sorts and aggregations spill beyond it.
pub const MEMORY_BYTES_MAX: usize = 512 << 20;
/// Disk that all running queries may spill to, in bytes.
pub const SPILL_BYTES_MAX: u64 = 4 << 30;
/// Parquet footers kept in memory, in bytes: a footer of `spans` is about 10 KB, so thousands of files.
pub const METADATA_CACHE_BYTES: usize = 64 << 20;
/// Queries that run at once; more wait for their turn within their own time limit.
pub const CONCURRENT_QUERIES_MAX: usize = 16;
/// Values that `generate_series` and `range` make: they do not ask the memory pool
/// (apache/datafusion#12919).
pub const GENERATED_MAX: i64 = 1_000_000;
/// Bytes that `array_repeat`, `array_resize`, `repeat`, `lpad` and `rpad` make from one batch: neither do they.
pub const GENERATED_BYTES_MAX: usize = 64 << 20;
/// Spans of one trace that are read.
pub const TRACE_SPANS_MAX: usize = 10_000;
/// Groups of a cost report, where the caller names no other limit.
pub const COST_GROUPS_DEFAULT: usize = 1_000;
/// Groups of a cost report that a caller may ask for.
pub const COST_GROUPS_MAX: usize = 100_000;
/// Dimensions of a cost report.
pub const COST_DIMENSIONS_MAX: usize = 8;
/// Points of a spend series: ten years of days, or a year of hours.
pub const SPEND_POINTS_MAX: usize = 10_000;
/// Calls listed, where the caller names no other limit.
pub const CALLS_DEFAULT: usize = 50;
/// Calls listed at most.
pub const CALLS_MAX: usize = 1_000;
/// Characters of a cell in a text table; more are cut and marked.
pub const CELL_CHARS_MAX: usize = 120;
/// Records of each raw table whose attribute keys `unmapped_keys` looks at: a second's work, and more than
/// a day of one coding agent.
pub const RECENT_ROWS_MAX: u64 = 50_000;
/// Rows of each part of a coverage report: more services, keys or rules are for SQL.
pub const COVERAGE_ROWS_MAX: usize = 500;
/// Uncertain calls that a coverage report shows.
pub const COVERAGE_CALLS_MAX: usize = 20;
/// Calls that one explanation tells: those of a short trace.
pub const EXPLAIN_CALLS_MAX: usize = 50;
/// Calls above a price tier that one cost report divides and prices again, to tell what was avoidable: seconds of work.
pub const AVOIDABLE_CALLS_MAX: usize = 2_000;
/// Conversations that these calls may be of.
pub const AVOIDABLE_SESSIONS_MAX: usize = 200;
/// Observations that an explanation folds again: days of a team's coding agents, or a session of thousands of
/// calls; a second's work.
pub const EXPLAIN_OBSERVATIONS_MAX: usize = 20_000;
/// Rounds in which an explanation follows the keys of what it found: trace to session to trace settles in three.
pub const EXPLAIN_ROUNDS_MAX: usize = 6;
/// Keys that one such round asks for.
pub const EXPLAIN_KEYS_MAX: usize = 400;
/// Shortest part of a call's id that is looked up.
pub const CALL_ID_PREFIX_MIN: usize = 4;
/// Groups of usage that `allocated_costs` adds up for a dimension: every user of a large company in every month.
pub(crate) const ALLOCATED_ROWS_MAX: usize = 500_000;
/// Scenarios of one what-if: each prices every call once more.
pub const WHAT_IF_SCENARIOS_MAX: usize = 12;
/// Rules for models of one scenario.
pub const WHAT_IF_MODELS_MAX: usize = 32;
/// Bytes of a name in a scenario: a model's ARN has about 150.
pub const WHAT_IF_TEXT_BYTES_MAX: usize = 256;
/// Time of one statement of a report: it may read a month of a large company.
pub const REPORT_TIMEOUT: Duration = Duration::from_secs(300);
/// Arrow bytes of the sums by hour that are kept in memory; files of older days are then read line by line.
pub(crate) const ROLLUP_BYTES_MAX: usize = 128 << 20;
/// Rows of a file that is worth sums: fewer are read in a few milliseconds, and soon merged into a larger file.
pub(crate) const ROLLUP_FILE_ROWS_MIN: u64 = 1_000;
/// Lines a row of the sums must stand for on average, or reading the lines is as fast.
pub(crate) const ROLLUP_GROWTH_MIN: u64 = 4;
