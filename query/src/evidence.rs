//! Views of what was understood and what was not: SQL over raw records, observations and calls.
//!
//! `coverage` counts, `unmapped_keys` names what nobody reads, `fold_rules` and `uncertain` tell how calls
//! were put together, `hops` what each hop of a call took. They show keys, names and types, never the value
//! of a text. A view that reads attributes looks at the newest records only: [`RECENT`] stands in its SQL
//! for the instant from which on there are at most [`RECENT_ROWS_MAX`] records of each table.

use spanledger_lake::TableSnapshot;

use crate::limits::RECENT_ROWS_MAX;

/// Stands in a view's SQL for an instant.
pub(crate) const RECENT: &str = "{recent}";

/// Per service and scope: records, and how many of them gave an observation. A raw record may have been
/// dropped as noise or aged out while its observation stays, so there are at least as many records.
pub(crate) const COVERAGE: &str = "
SELECT service, scope, COALESCE(dialect_of(scope, service), dialect) AS dialect,
       CASE WHEN spans > read_spans THEN spans ELSE read_spans END AS spans,
       CASE WHEN logs > read_logs THEN logs ELSE read_logs END AS logs,
       CASE WHEN points > read_points THEN points ELSE read_points END AS points,
       CASE WHEN spans > read_spans THEN spans ELSE read_spans END
         + CASE WHEN logs > read_logs THEN logs ELSE read_logs END
         + CASE WHEN points > read_points THEN points ELSE read_points END AS records,
       read_spans + read_logs + read_points AS recognised,
       CASE WHEN spans > read_spans THEN spans - read_spans ELSE 0 END
         + CASE WHEN logs > read_logs THEN logs - read_logs ELSE 0 END
         + CASE WHEN points > read_points THEN points - read_points ELSE 0 END AS unrecognised,
       guessed, records_with_tokens, records_with_cost, first_seen, last_seen
FROM (
  SELECT service, scope, MAX(dialect) AS dialect,
         SUM(spans) AS spans, SUM(logs) AS logs, SUM(points) AS points,
         SUM(read_spans) AS read_spans, SUM(read_logs) AS read_logs, SUM(read_points) AS read_points,
         SUM(guessed) AS guessed, SUM(with_tokens) AS records_with_tokens, SUM(with_cost) AS records_with_cost,
         MIN(first_seen) AS first_seen, MAX(last_seen) AS last_seen
  FROM (
    SELECT service, NULLIF(scope, '') AS scope, CAST(NULL AS VARCHAR) AS dialect,
           COUNT(*) AS spans, 0 AS logs, 0 AS points, 0 AS read_spans, 0 AS read_logs, 0 AS read_points,
           0 AS guessed, 0 AS with_tokens, 0 AS with_cost, MIN(time) AS first_seen, MAX(time) AS last_seen
    FROM spans GROUP BY service, NULLIF(scope, '')
    UNION ALL
    SELECT service, NULLIF(scope, ''), NULL, 0, COUNT(*), 0, 0, 0, 0, 0, 0, 0, MIN(time), MAX(time)
    FROM logs GROUP BY service, NULLIF(scope, '')
    UNION ALL
    SELECT service, NULLIF(scope, ''), NULL, 0, 0, COUNT(*), 0, 0, 0, 0, 0, 0, MIN(time), MAX(time)
    FROM metrics GROUP BY service, NULLIF(scope, '')
    UNION ALL
    SELECT service, NULLIF(scope, ''), dialect, 0, 0, 0,
           COUNT(*) FILTER (WHERE source = 'span'),
           COUNT(*) FILTER (WHERE source = 'log'),
           COUNT(*) FILTER (WHERE source = 'metric'),
           COUNT(*) FILTER (WHERE dialect = 'guessed'),
           COUNT(*) FILTER (WHERE input_tokens IS NOT NULL OR output_tokens IS NOT NULL),
           COUNT(reported_cost), MIN(time), MAX(time)
    FROM observations GROUP BY service, NULLIF(scope, ''), dialect
  )
  GROUP BY service, scope
)";

/// One source of attribute keys: a table, its name in the `signal` column, the map that is looked into.
macro_rules! keys_of {
    ($table:literal, $signal:literal, $map:literal) => {
        concat!(
            "SELECT service, scope, time, ",
            $signal,
            " AS signal, unnest(map_keys(",
            $map,
            ")) AS key, unnest(map_values(",
            $map,
            ")) AS value FROM ",
            $table,
            " WHERE time >= {recent}"
        )
    };
}

/// Keys that nobody reads although they look like something that is counted. A metric's name is one where
/// nobody claims it. Of a resource only those about whose it is: what else stands there describes the process.
pub(crate) const UNMAPPED_KEYS: &str = concat!(
    "
SELECT service, scope, dialect_of(scope, service) AS dialect, signal, key, usage_like(key) AS field,
       MAX(text_type(value)) AS example_type, COUNT(*) AS records, MAX(time) AS last_seen
FROM (SELECT service, NULLIF(scope, '') AS scope, time, signal, key, value FROM (
  ",
    keys_of!("spans", "'span'", "attributes"),
    " UNION ALL ",
    keys_of!("logs", "'log'", "attributes"),
    " UNION ALL ",
    keys_of!("metrics", "'metric'", "attributes"),
    " UNION ALL ",
    keys_of!("spans", "'resource'", "resource"),
    " UNION ALL ",
    keys_of!("logs", "'resource'", "resource"),
    " UNION ALL ",
    keys_of!("metrics", "'resource'", "resource"),
    "
  UNION ALL
  SELECT service, scope, time, 'metric name' AS signal, name AS key, '0' AS value FROM metrics
  WHERE time >= {recent} AND dialect_of(scope, service) IS NULL AND name NOT LIKE 'gen_ai.%'
    AND usage_like(name) IN ('input', 'output', 'cache_read', 'cache_write', 'reasoning', 'cost')
    AND name NOT IN (SELECT DISTINCT name FROM observations WHERE source = 'metric')
))
WHERE usage_like(key) IS NOT NULL AND dialect_field(scope, service, key) IS NULL
  AND (signal <> 'resource' OR usage_like(key) IN ('user', 'team', 'project', 'cost_center', 'environment', 'agent', 'client', 'conversation'))
GROUP BY service, scope, signal, key"
);

/// Calls by the rules that put them together; rule NULL: calls that one record tells.
pub(crate) const FOLD_RULES: &str = "
SELECT rule, confidence, COUNT(*) AS calls, SUM(tokens) AS tokens, SUM(own_cost) AS cost
FROM (
  SELECT unnest(string_to_array(rules, ',')) AS rule, confidence, own_cost,
         COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0) AS tokens
  FROM calls WHERE rules <> ''
  UNION ALL
  SELECT NULL, confidence, own_cost, COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0)
  FROM calls WHERE rules IS NULL OR rules = ''
)
GROUP BY rule, confidence";

/// Calls that rest on a guess, and why.
pub(crate) const UNCERTAIN: &str = "
SELECT time, call_id, kind, service, agent, server, tool, provider, COALESCE(response_model, request_model) AS model,
       COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0) AS tokens, own_cost, trace_id, dialects, rules,
       CASE WHEN dialects LIKE '%guessed%'
            THEN concat_ws('; ', fold_reason(rules), 'its keys follow no known convention, so they were read by their names')
            ELSE fold_reason(rules) END AS why
FROM calls
WHERE confidence = 'guessed'";

/// The hops of every call that is one request: spans, outermost first. Delivered twice is one hop.
pub(crate) const HOPS: &str = "
SELECT time, call_id, kind, server, tool, hop['position'] AS position, hop['observation_id'] AS observation_id,
       hop['hop'] AS hop, hop['service'] AS service, hop['name'] AS name, hop['dialect'] AS dialect,
       hop['start_ns'] AS start_ns, hop['duration_ns'] AS duration_ns, hop['self_ns'] AS self_ns, hop['status'] AS status
FROM (
  SELECT time, call_id, kind, server, tool, unnest(call_hops(records)) AS hop
  FROM (
    SELECT c.time, c.call_id, c.kind, c.server, c.tool,
           array_agg(named_struct(
             'tenant', o.tenant, 'observation_id', o.observation_id, 'source', o.source, 'dialect', o.dialect,
             'scope', o.scope, 'name', o.name, 'arrived_at', o.arrived_at, 'role', o.role, 'kind', o.kind,
             'start_ns', o.start_ns, 'duration_ns', o.duration_ns, 'status', o.status, 'service', o.service,
             'trace_id', o.trace_id, 'span_id', o.span_id, 'parent_span_id', o.parent_span_id,
             'span_kind', o.span_kind, 'hop', o.hop, 'server', o.server, 'tool', o.tool, 'mcp_method', o.mcp_method
           )) AS records
    FROM (SELECT time, call_id, kind, server, tool, unnest(observation_ids) AS observation_id
          FROM calls WHERE kind IN ('tool', 'prompt', 'resource', 'mcp')) AS c
    JOIN observations AS o ON o.observation_id = c.observation_id
    WHERE o.source = 'span'
    GROUP BY c.time, c.call_id, c.kind, c.server, c.tool
  )
)";

/// The instant that [`RECENT`] stands for, as SQL: from it on each of these tables has about
/// [`RECENT_ROWS_MAX`] rows of the tenant at most. Files are left out whole, oldest first.
pub(crate) fn recent<'s>(snapshots: impl IntoIterator<Item = &'s TableSnapshot>, tenant: &str) -> String {
    let since_us = snapshots
        .into_iter()
        .filter_map(|snapshot| {
            let mut files: Vec<(i64, u64)> = snapshot
                .files
                .iter()
                .filter(|file| file.tenant == tenant || file.tenant.is_empty())
                .map(|file| (file.max_time_us.unwrap_or(i64::MAX), file.n_rows))
                .collect();
            files.sort_unstable_by_key(|(newest_us, _)| std::cmp::Reverse(*newest_us));
            let mut n_rows = 0_u64;
            files.into_iter().find_map(|(newest_us, rows)| {
                // The newest file is looked at whatever its size.
                let is_over = n_rows > 0 && n_rows.saturating_add(rows) > RECENT_ROWS_MAX;
                n_rows = n_rows.saturating_add(rows);
                is_over.then_some(newest_us)
            })
        })
        .max()
        .unwrap_or(0);
    format!("to_timestamp_micros({since_us})")
}
