//! Views over the ledger's causes: what each tool costs in its life, and what the money went to.
//!
//! Both only add up lines, so they agree with every other sum over `ledger`: the parts of a tool add up to its
//! `lifetime_cost`, the tools' add up to the tools' lines, and `cost_by_cause` adds up to everything. What no
//! line tells is NULL, never 0. They divide nothing: `spanledger_ledger::attribution` did.

/// SQL condition on `ledger`: the line belongs to a tool. The tool may have no name: a host that hides it, or
/// the smaller tools of a server, whose definitions share a line. Of results only those of resources are no
/// tool's.
macro_rules! is_tool_line {
    () => {
        "(tool IS NOT NULL OR cause IN ('call', 'definition', 'direct') OR (cause = 'result' AND resource_uri IS NULL))"
    };
}

/// SQL condition on `ledger`: the line belongs to a tool.
pub(crate) const IS_TOOL_LINE: &str = is_tool_line!();

// Groups that were taken back whole have nothing in force: of their lines, none of the counts is left.
//
// A definition is idle in a session (without one: in a trace) in which its tool was never called; where a line
// names a server only, in which none of the server's tools was. A line of neither session nor trace is not
// called idle: nobody knows. Whatever is no definition, result or call is direct, so the parts are all of it.
pub(crate) const TOOL_ECONOMICS: &str = concat!(
    "
SELECT server, tool,
       SUM(calls) AS calls,
       SUM(errors) AS errors,
       MAX(p50_duration_ns) AS p50_duration_ns,
       MAX(p95_duration_ns) AS p95_duration_ns,
       SUM(request_bytes) AS request_bytes,
       SUM(response_bytes) AS response_bytes,
       SUM(direct) AS direct,
       SUM(context_tax) AS context_tax,
       SUM(idle_tax) AS idle_tax,
       SUM(first_touch) AS first_touch,
       SUM(carry) AS carry,
       SUM(call_cost) AS call_cost,
       SUM(lifetime_cost) AS lifetime_cost,
       CASE WHEN SUM(calls) > SUM(errors)
            THEN CAST(SUM(lifetime_cost) / (SUM(calls) - SUM(errors)) AS DECIMAL(38,15)) END AS cost_per_success,
       SUM(tokens) AS tokens,
       SUM(unpriced_tokens) AS unpriced_tokens
FROM (
  SELECT server, tool, COUNT(*) AS calls, COUNT(*) FILTER (WHERE status = 'error') AS errors,
         CAST(approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ns) AS BIGINT) AS p50_duration_ns,
         CAST(approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ns) AS BIGINT) AS p95_duration_ns,
         SUM(request_bytes) AS request_bytes, SUM(response_bytes) AS response_bytes,
         CAST(NULL AS DECIMAL(38,15)) AS direct, CAST(NULL AS DECIMAL(38,15)) AS context_tax,
         CAST(NULL AS DECIMAL(38,15)) AS idle_tax, CAST(NULL AS DECIMAL(38,15)) AS first_touch,
         CAST(NULL AS DECIMAL(38,15)) AS carry, CAST(NULL AS DECIMAL(38,15)) AS call_cost,
         CAST(NULL AS DECIMAL(38,15)) AS lifetime_cost,
         CAST(NULL AS BIGINT) AS tokens, CAST(NULL AS BIGINT) AS unpriced_tokens, COUNT(*) AS n_rows
  FROM calls
  WHERE kind = 'tool'
  GROUP BY server, tool
  UNION ALL
  SELECT l.server, l.tool, 0, 0, NULL, NULL, NULL, NULL,
         SUM(l.cost) FILTER (WHERE l.cause NOT IN ('definition', 'result', 'call')),
         SUM(l.cost) FILTER (WHERE l.cause = 'definition'),
         SUM(CASE WHEN l.thread IS NOT NULL AND used.server_key IS NULL THEN l.cost ELSE l.nothing END)
           FILTER (WHERE l.cause = 'definition'),
         SUM(CASE WHEN l.is_carry THEN l.nothing ELSE l.cost END) FILTER (WHERE l.cause = 'result'),
         SUM(CASE WHEN l.is_carry THEN l.cost ELSE l.nothing END) FILTER (WHERE l.cause = 'result'),
         SUM(l.cost) FILTER (WHERE l.cause = 'call'),
         SUM(l.cost),
         SUM(l.tokens), SUM(l.tokens) FILTER (WHERE l.cost IS NULL), SUM(l.in_force)
  FROM (
    SELECT server, tool, cause, effective_cost AS cost, tokens, COALESCE(touch = 'carry', false) AS is_carry,
           CASE WHEN effective_cost IS NOT NULL THEN CAST(0 AS DECIMAL(38,15)) END AS nothing,
           COALESCE(tokens, 0) + COALESCE(quantity, 0) + n_calls AS in_force,
           COALESCE(server, '') AS server_key, COALESCE(tool, '') AS tool_key,
           COALESCE(session_id, trace_id) AS thread
    FROM ledger
    WHERE ",
    is_tool_line!(),
    "
  ) AS l
  LEFT JOIN (
    SELECT DISTINCT server_key, tool_key, thread FROM (
      SELECT COALESCE(server, '') AS server_key, COALESCE(tool, '') AS tool_key, COALESCE(session_id, trace_id) AS thread
      FROM calls WHERE kind = 'tool'
      UNION ALL
      SELECT COALESCE(server, '') AS server_key, '' AS tool_key, COALESCE(session_id, trace_id) AS thread
      FROM calls WHERE kind = 'tool'
    )
  ) AS used ON used.server_key = l.server_key AND used.tool_key = l.tool_key AND used.thread = l.thread
  GROUP BY l.server, l.tool
)
GROUP BY server, tool
HAVING SUM(n_rows) <> 0"
);

// A share is a ratio for people, so it is a DOUBLE; money stays exact. Groups that were taken back whole (lines
// that were divided better later) are left out.
pub(crate) const COST_BY_CAUSE: &str = "
SELECT cause, touch, bucket, method, tokens, quantity, cost,
       CASE WHEN SUM(cost) OVER () <> 0
            THEN CAST(cost AS DOUBLE) / CAST(SUM(cost) OVER () AS DOUBLE) END AS share,
       unpriced_tokens
FROM (
  SELECT cause, touch, bucket, method,
         SUM(tokens) AS tokens, SUM(quantity) AS quantity, SUM(effective_cost) AS cost,
         SUM(tokens) FILTER (WHERE effective_cost IS NULL) AS unpriced_tokens
  FROM ledger
  GROUP BY cause, touch, bucket, method
  HAVING SUM(COALESCE(tokens, 0) + COALESCE(quantity, 0) + n_calls) <> 0
)";
