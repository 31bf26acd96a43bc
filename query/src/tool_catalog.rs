//! The view `tool_catalog`: every definition of a tool that was ever stated, what it is called, what it costs.
//!
//! Definitions are those of model calls and of `tools/list` results, one statement a call, as attribution takes them;
//! whose they are is said as there, by what the same conversation called. Where that tells no server, the same
//! definition (name, hash and bytes; records that tell sizes only have no hash) in another conversation does, if all
//! others agree. Each line of a definition is counted in one row: that of the newest definition of its tool that had
//! been seen by then, so that `context_tax` adds up to the ledger's lines. It measures nothing itself.

/// Bytes of a definition that are a token, by estimate: [`DEFINITION_BYTES_PER_TOKEN`] as SQL.
///
/// [`DEFINITION_BYTES_PER_TOKEN`]: spanledger_ledger::attribution::threads::DEFINITION_BYTES_PER_TOKEN
pub(crate) const BYTES_PER_TOKEN: &str = "{bytes_per_token}";

// Lists repeat from call to call, so they are grouped by their key before they are read. `until` is when the next
// definition of the same tool came; the first one also has the calls and lines from before it was stated, so that no
// calls means never called.
pub(crate) const TOOL_CATALOG: &str = r#"
WITH mentions AS (
  SELECT c.call_id, c.time, c.thread, c.list_server, c.source, MAX(definitions_key(o.context_sizes)) AS list
  FROM (
    SELECT call_id, time, COALESCE(session_id, trace_id) AS thread,
           CASE WHEN kind = 'mcp' THEN server END AS list_server,
           CASE WHEN kind = 'mcp' THEN 'listed' ELSE 'sent' END AS source,
           unnest(observation_ids) AS observation_id
    FROM calls WHERE kind IN ('llm', 'mcp')
  ) AS c
  JOIN observations AS o ON o.observation_id = c.observation_id
  WHERE definitions_key(o.context_sizes) IS NOT NULL
  GROUP BY c.call_id, c.time, c.thread, c.list_server, c.source
),
stated AS (
  SELECT list, thread, list_server, source, MIN(time) AS first_seen, MAX(time) AS last_seen, COUNT(*) AS seen
  FROM mentions GROUP BY list, thread, list_server, source
),
texts AS (
  SELECT definitions_key(context_sizes) AS list, MIN(context_sizes) AS text
  FROM observations WHERE definitions_key(context_sizes) IS NOT NULL
  GROUP BY definitions_key(context_sizes)
),
called AS (
  SELECT thread, array_agg(named_struct('server', server, 'tool', tool)) AS called
  FROM (SELECT DISTINCT COALESCE(session_id, trace_id) AS thread, server, tool
        FROM calls WHERE kind = 'tool' AND tool IS NOT NULL)
  WHERE thread IS NOT NULL GROUP BY thread
),
defined AS (
  SELECT d['server'] AS server, d['tool'] AS tool, d['name'] AS name, NULLIF(d['hash'], '') AS hash, d['bytes'] AS bytes,
         source, thread, first_seen, last_seen, seen
  FROM (
    SELECT unnest(definitions_of(texts.text, stated.list_server, called.called)) AS d,
           stated.source, stated.thread, stated.first_seen, stated.last_seen, stated.seen
    FROM stated JOIN texts ON texts.list = stated.list LEFT JOIN called ON called.thread = stated.thread
  )
),
elsewhere AS (
  SELECT *, MIN(server) OVER (PARTITION BY name, hash, bytes) AS min_server, MAX(server) OVER (PARTITION BY name, hash, bytes) AS max_server,
         MIN(CASE WHEN server IS NOT NULL THEN tool END) OVER (PARTITION BY name, hash, bytes) AS min_tool,
         MAX(CASE WHEN server IS NOT NULL THEN tool END) OVER (PARTITION BY name, hash, bytes) AS max_tool
  FROM defined
),
definitions AS (
  SELECT server, tool, source, hash, bytes, MIN(name) AS name, MIN(first_seen) AS first_seen,
         MAX(last_seen) AS last_seen, SUM(seen) AS seen, COUNT(DISTINCT thread) AS sessions
  FROM (
    SELECT CASE WHEN server IS NULL AND min_server = max_server AND min_tool = max_tool THEN min_server ELSE server END AS server,
           CASE WHEN server IS NULL AND min_server = max_server AND min_tool = max_tool THEN min_tool ELSE tool END AS tool,
           name, source, hash, bytes, thread, first_seen, last_seen, seen
    FROM elsewhere
  )
  GROUP BY server, tool, source, hash, bytes
),
ranged AS (
  SELECT *, COALESCE(server, '') AS server_key,
         LEAD(first_seen) OVER (PARTITION BY server, tool ORDER BY first_seen, source, hash, bytes) AS until,
         ROW_NUMBER() OVER (PARTITION BY server, tool ORDER BY first_seen, source, hash, bytes) AS nth,
         CASE WHEN MIN(COALESCE(server, '')) OVER (PARTITION BY name) = MAX(COALESCE(server, '')) OVER (PARTITION BY name)
               AND MIN(tool) OVER (PARTITION BY name) = MAX(tool) OVER (PARTITION BY name)
               AND server IS NOT NULL THEN name END AS bare_name
  FROM definitions
),
used AS (
  SELECT r.server, r.tool, r.hash, r.source, r.bytes, r.first_seen, r.last_seen, r.seen, r.sessions,
         r.server_key, r.until, r.nth, r.bare_name, COUNT(c.time) AS calls, MAX(c.time) AS last_call
  FROM ranged AS r
  LEFT JOIN (SELECT COALESCE(server, '') AS server_key, tool, time FROM calls WHERE kind = 'tool') AS c
    ON c.server_key = r.server_key AND c.tool = r.tool AND (r.nth = 1 OR c.time >= r.first_seen)
  GROUP BY r.server, r.tool, r.hash, r.source, r.bytes, r.first_seen, r.last_seen, r.seen, r.sessions,
           r.server_key, r.until, r.nth, r.bare_name
),
taxed AS (
  SELECT u.server, u.tool, u.hash, u.source, u.bytes, u.first_seen, u.last_seen, u.seen, u.sessions,
         u.until, u.nth, u.bare_name, u.calls, u.last_call, SUM(l.cost) AS cost
  FROM used AS u
  LEFT JOIN (SELECT COALESCE(server, '') AS server_key, tool, time, effective_cost AS cost
             FROM ledger WHERE cause = 'definition' AND tool IS NOT NULL) AS l
    ON l.server_key = u.server_key AND l.tool = u.tool
   AND (u.nth = 1 OR l.time >= u.first_seen) AND (u.until IS NULL OR l.time < u.until)
  GROUP BY u.server, u.tool, u.hash, u.source, u.bytes, u.first_seen, u.last_seen, u.seen, u.sessions,
           u.until, u.nth, u.bare_name, u.calls, u.last_call
)
SELECT t.server, t.tool, t.hash, t.source, t.bytes,
       (t.bytes + {bytes_per_token} - 1) / {bytes_per_token} AS tokens,
       t.first_seen, t.last_seen, t.seen, t.sessions, t.calls, t.last_call,
       CASE WHEN t.cost IS NOT NULL OR SUM(l.cost) IS NOT NULL
            THEN COALESCE(t.cost, CAST(0 AS DECIMAL(38,15))) + COALESCE(SUM(l.cost), CAST(0 AS DECIMAL(38,15)))
       END AS context_tax
FROM taxed AS t
LEFT JOIN (SELECT tool, time, effective_cost AS cost
           FROM ledger WHERE cause = 'definition' AND tool IS NOT NULL AND server IS NULL) AS l
  ON l.tool = t.bare_name
 AND (t.nth = 1 OR l.time >= t.first_seen) AND (t.until IS NULL OR l.time < t.until)
GROUP BY t.server, t.tool, t.hash, t.source, t.bytes, t.first_seen, t.last_seen, t.seen, t.sessions,
         t.calls, t.last_call, t.cost
"#;

/// The view's text.
pub(crate) fn with_constants(sql: &str) -> String {
    let bytes = spanledger_ledger::attribution::threads::DEFINITION_BYTES_PER_TOKEN;
    sql.replace(BYTES_PER_TOKEN, &bytes.to_string())
}
