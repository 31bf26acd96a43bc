//! Every limit of the crate, each with its reason.

/// Tokens of rows in one answer, counted from above: with what stands around them an answer has at most 8,000, in
/// either form, well under the 25,000 at which Claude Code cuts.
pub const ROWS_TOKENS_MAX: usize = 6_800;
/// Tokens of rows in an answer that nobody asked to be long: with what stands around them at most 2,000.
pub const ANSWER_TOKENS: usize = 1_500;
/// Characters of an error's message: the engine may quote what it was asked.
pub const MESSAGE_CHARS_MAX: usize = 2_000;
/// Characters of one value in an answer: a name is shorter, a prompt text belongs to a narrower question.
pub const VALUE_CHARS_MAX: usize = 200;
/// Rows of `query_costs` where the client names no limit: about 1,000 tokens.
pub const COST_ROWS_DEFAULT: usize = 25;
/// Rows of `query_costs` that a client may ask for.
pub const COST_ROWS_MAX: usize = 500;
/// Rows of `run_sql` where the client names no limit.
pub const SQL_ROWS_DEFAULT: usize = 50;
/// Rows of `run_sql` that a client may ask for.
pub const SQL_ROWS_MAX: usize = 1_000;
/// Time of one statement: longer than a client waits, because it becomes a task then.
pub const SQL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(300);
/// Bytes of files that a statement may read without a person being asked, where nothing is configured: seconds on two
/// slow cores (12 million ledger lines are about a fifth of it).
pub const UNASKED_FILE_BYTES: u64 = 1 << 30;
/// Nodes of a trace shown where the client names no limit: about 1,500 tokens.
pub const TRACE_ROWS_DEFAULT: usize = 30;
/// Nodes of a trace that a client may ask for.
pub const TRACE_ROWS_MAX: usize = 200;
/// Stored texts of a trace shown.
pub const TRACE_PAYLOADS_MAX: usize = 20;
/// Values named for each dimension of the overview.
pub const OVERVIEW_VALUES: usize = 8;
/// Values listed for one dimension.
pub const DIMENSION_VALUES: usize = 50;
/// How long a client may keep the list of tools: it changes with a release only.
pub const TOOLS_TTL_MS: u64 = 300_000;
/// Body of one MCP request, in bytes: a statement of the longest allowed length, JSON-escaped.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Time in which the body of a request has to come: a megabyte over a slow line takes seconds.
pub const BODY_WITHIN_MS: u64 = 10_000;
/// Sessions of legacy clients at a time, each a task and some kilobytes; beyond, such a client is served without.
pub const SESSIONS_MAX: usize = 256;
/// How long a client may keep what it read: prices and budgets change by hand, spend by the minute.
pub const READ_TTL_MS: u64 = 30_000;
/// Values offered for completion, as the protocol allows.
pub const COMPLETIONS_MAX: usize = 100;
/// Updates of resources that wait for a slow listener.
pub const UPDATES_WAITING: usize = 64;
/// How often a listener's budgets are looked at: spend moves by the minute.
pub const BUDGETS_LOOK_MS: u64 = 30_000;
/// Artefacts on a page of the list of resources.
pub const REPORTS_LISTED: usize = 50;
/// Bytes of an artefact that goes out as a resource; a larger one is downloaded.
pub const REPORT_BYTES_MAX: i64 = 4 << 20;
/// Addresses that one client listens to.
pub const SUBSCRIPTIONS_MAX: usize = 16;
