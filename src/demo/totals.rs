//! The truth about the demo: what was planned, per team, and what the ledger says about it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::company::UNPRICED_MODEL;
use super::plan::{McpTarget, Session, Step};
use crate::output::grouped;

/// The query whose rows are compared with the truth; its columns are the fields of [`TeamTotals`].
pub const MEASURE_SQL: &str = "\
SELECT team,
  COUNT(*) FILTER (WHERE kind = 'llm') AS llm_calls,
  COUNT(*) FILTER (WHERE kind = 'embedding') AS embedding_calls,
  COALESCE(SUM(input_tokens) FILTER (WHERE kind IN ('llm', 'embedding')), 0) AS input_tokens,
  COALESCE(SUM(cache_read_tokens) FILTER (WHERE kind = 'llm'), 0) AS cache_read_tokens,
  COALESCE(SUM(COALESCE(cache_write_5m_tokens, 0) + COALESCE(cache_write_1h_tokens, 0)) FILTER (WHERE kind = 'llm'), 0) AS cache_write_tokens,
  COALESCE(SUM(output_tokens) FILTER (WHERE kind = 'llm'), 0) AS output_tokens,
  COUNT(*) FILTER (WHERE kind = 'tool') AS tool_calls,
  COUNT(*) FILTER (WHERE kind = 'prompt') AS prompts_read,
  COUNT(*) FILTER (WHERE kind = 'resource') AS resources_read,
  COUNT(*) FILTER (WHERE status = 'error' AND kind IN ('llm', 'embedding', 'tool', 'prompt', 'resource')) AS errors,
  COALESCE(SUM(COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0)) FILTER (WHERE kind IN ('llm', 'embedding') AND own_cost IS NULL), 0) AS unpriced_tokens
FROM calls GROUP BY team ORDER BY team";

/// Totals of one team. Tokens are inclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TeamTotals {
    /// Model answers, failed ones included.
    pub llm_calls: i64,
    /// Embedding calls.
    pub embedding_calls: i64,
    /// Input tokens of both.
    pub input_tokens: i64,
    /// Of them, read from a cache.
    pub cache_read_tokens: i64,
    /// Of them, written to a cache.
    pub cache_write_tokens: i64,
    /// Output tokens.
    pub output_tokens: i64,
    /// MCP tool calls.
    pub tool_calls: i64,
    /// MCP prompts fetched.
    pub prompts_read: i64,
    /// MCP resources read.
    pub resources_read: i64,
    /// Calls of the kinds above that failed.
    pub errors: i64,
    /// Input and output tokens of models without a price.
    pub unpriced_tokens: i64,
}

/// Names of [`TeamTotals`]' fields, in order.
pub const MEASURES: [&str; 11] = [
    "llm_calls",
    "embedding_calls",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "tool_calls",
    "prompts_read",
    "resources_read",
    "errors",
    "unpriced_tokens",
];

impl TeamTotals {
    /// The fields in the order of [`MEASURES`].
    pub fn values(&self) -> [i64; 11] {
        [
            self.llm_calls,
            self.embedding_calls,
            self.input_tokens,
            self.cache_read_tokens,
            self.cache_write_tokens,
            self.output_tokens,
            self.tool_calls,
            self.prompts_read,
            self.resources_read,
            self.errors,
            self.unpriced_tokens,
        ]
    }

    fn from_values(values: [i64; 11]) -> Self {
        let [
            llm_calls,
            embedding_calls,
            input_tokens,
            cache_read_tokens,
            cache_write_tokens,
            output_tokens,
            tool_calls,
            prompts_read,
            resources_read,
            errors,
            unpriced_tokens,
        ] = values;
        Self {
            llm_calls,
            embedding_calls,
            input_tokens,
            cache_read_tokens,
            cache_write_tokens,
            output_tokens,
            tool_calls,
            prompts_read,
            resources_read,
            errors,
            unpriced_tokens,
        }
    }
}

/// Totals by team.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Team name to its totals.
    pub teams: BTreeMap<String, TeamTotals>,
}

impl Totals {
    /// Adds a session of the plan.
    pub fn add(&mut self, session: &Session) {
        let team = self.teams.entry(session.agent.team.to_owned()).or_default();
        for step in &session.steps {
            match step {
                Step::Model(call) => {
                    *(if call.embedding {
                        &mut team.embedding_calls
                    } else {
                        &mut team.llm_calls
                    }) += 1;
                    team.input_tokens += call.input;
                    team.cache_read_tokens += call.cache_read;
                    team.cache_write_tokens += call.cache_write;
                    team.output_tokens += call.output;
                    team.errors += i64::from(call.failure.is_some());
                    if call.model.request == UNPRICED_MODEL {
                        team.unpriced_tokens += call.input + call.output;
                    }
                }
                Step::Mcp(call) => {
                    match call.target {
                        McpTarget::Tool(_) => team.tool_calls += 1,
                        McpTarget::Prompt(_) => team.prompts_read += 1,
                        McpTarget::Resource(_) => team.resources_read += 1,
                    }
                    team.errors += i64::from(call.failure.is_some());
                }
            }
        }
    }

    /// Reads the rows of [`MEASURE_SQL`]. Calls without a team stand under `(none)`.
    pub fn measured(rows: &[Value]) -> Self {
        let mut totals = Self::default();
        for row in rows {
            let team = row
                .get("team")
                .and_then(Value::as_str)
                .unwrap_or(crate::output::NO_VALUE)
                .to_owned();
            let values = MEASURES.map(|name| row.get(name).and_then(integer).unwrap_or(0));
            let measured = TeamTotals::from_values(values);
            if measured != TeamTotals::default() {
                totals.teams.insert(team, measured);
            }
        }
        totals
    }

    /// Sum over all teams.
    pub fn sum(&self) -> TeamTotals {
        let mut sum = [0; 11];
        for team in self.teams.values() {
            for (total, value) in sum.iter_mut().zip(team.values()) {
                *total += value;
            }
        }
        TeamTotals::from_values(sum)
    }

    /// Where the ledger differs from the truth, one line each.
    pub fn differences(&self, measured: &Self) -> Vec<String> {
        let teams: std::collections::BTreeSet<&String> = self.teams.keys().chain(measured.teams.keys()).collect();
        let mut lines = Vec::new();
        for team in teams {
            let sent = self.teams.get(team).copied().unwrap_or_default().values();
            let found = measured.teams.get(team).copied().unwrap_or_default().values();
            for ((name, sent), found) in MEASURES.iter().zip(sent).zip(found) {
                if sent != found {
                    lines.push(format!(
                        "{team}: {} sent {}, the ledger says {}",
                        name.replace('_', " "),
                        grouped(sent),
                        grouped(found)
                    ));
                }
            }
        }
        lines
    }
}

fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::plan;
    use super::*;

    fn week(end: &str) -> Totals {
        let mut totals = Totals::default();
        for session in plan::days(end.parse().unwrap(), 7).into_iter().flat_map(plan::day) {
            totals.add(&session);
        }
        totals
    }

    #[test]
    fn every_full_week_has_the_same_totals() {
        assert_eq!(week("2026-11-22"), week("2026-12-25"));
        assert_eq!(week("2026-11-22").teams.len(), 3);
    }

    #[test]
    fn truth_equals_itself_read_back_from_rows() {
        let truth = week("2026-11-22");
        let rows: Vec<Value> = truth
            .teams
            .iter()
            .map(|(team, totals)| {
                let mut row = serde_json::to_value(totals).unwrap();
                row["team"] = Value::from(team.as_str());
                row
            })
            .collect();
        let measured = Totals::measured(&rows);
        assert_eq!(truth.differences(&measured), Vec::<String>::new());
    }

    #[test]
    fn a_difference_names_team_and_measure() {
        let truth = week("2026-11-22");
        let mut other = truth.clone();
        other.teams.get_mut("search").unwrap().errors += 1;
        let lines = truth.differences(&other);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("search: errors sent "), "{}", lines[0]);
    }
}
