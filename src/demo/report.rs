//! What the demo prints at the end: what was sent, what the ledger says, what to ask next.

use std::fmt::Write as _;
use std::path::Path;

use chrono::NaiveDate;
use serde_json::{Map, Value, json};

use super::company::{RUNAWAY_AGENT, UNPRICED_MODEL};
use super::send::Sent;
use super::totals::{TeamTotals, Totals};
use crate::output::{self, grouped};
use crate::serve::Addresses;

/// Cost by team, as the ledger has it.
pub const COSTS_SQL: &str = "\
SELECT team, SUM(effective_cost) AS cost FROM ledger GROUP BY team ORDER BY team";

/// The dearest tools: what they cost and through what.
pub const TOOLS_SQL: &str = "\
SELECT server, tool, calls, lifetime_cost, first_touch, carry, call_cost, context_tax, idle_tax, cost_per_success
FROM tool_economics WHERE tool IS NOT NULL ORDER BY lifetime_cost DESC NULLS LAST, server, tool LIMIT 5";

/// The demo's end.
pub struct Report {
    /// First day.
    pub from: NaiveDate,
    /// Day after the last.
    pub until: NaiveDate,
    /// Records sent.
    pub sent: Sent,
    /// What was planned.
    pub truth: Totals,
    /// What the ledger says.
    pub measured: Totals,
    /// Rows of [`COSTS_SQL`].
    pub costs: Vec<Value>,
    /// Rows of [`TOOLS_SQL`].
    pub tools: Vec<Value>,
}

impl Report {
    /// Where the ledger differs from the truth.
    pub fn differences(&self) -> Vec<String> {
        self.truth.differences(&self.measured)
    }

    /// Everything, for tests and programs.
    pub fn to_json(&self) -> Value {
        json!({
            "from": self.from.to_string(),
            "until": self.until.to_string(),
            "sent": self.sent,
            "truth": self.truth,
            "measured": self.measured,
            "costs": self.costs,
            "tools": self.tools,
            "differences": self.differences(),
        })
    }

    /// Everything, for people.
    pub fn to_text(&self, addresses: &Addresses, data: &Path, is_over: bool) -> String {
        let Sent { spans, logs, points } = self.sent;
        let mut text = format!(
            "sent {} spans, {} log records and {} metric points of Acme's week {} to {} (exclusive); the ledger says:\n\n{}\n",
            count(spans),
            count(logs),
            count(points),
            self.from,
            self.until,
            self.table(),
        );
        let differences = self.differences();
        if differences.is_empty() {
            text.push_str("Every call is counted once: the ledger has exactly what the generator planned.\n");
        } else {
            text.push_str("The ledger differs from what the generator planned:\n");
            for line in differences {
                let _ = writeln!(text, "  {line}");
            }
        }
        if !self.tools.is_empty() {
            let _ = write!(
                text,
                "\nThe dearest tools, by what they put into model calls (results, calls, definitions):\n\n{}",
                self.tools_table()
            );
        }
        text.push_str(&self.next(addresses, data, is_over));
        text
    }

    fn tools_table(&self) -> String {
        let columns = [
            ("server", "server"),
            ("tool", "tool"),
            ("calls", "calls"),
            ("lifetime_cost", "cost"),
            ("first_touch", "results"),
            ("carry", "results_again"),
            ("call_cost", "calls_written"),
            ("context_tax", "definition"),
            ("idle_tax", "of_it_idle"),
        ];
        let shown = |column: &str, value: &Value| match value {
            Value::Null => Value::from(""),
            Value::String(_) if !matches!(column, "server" | "tool") => output::dollars(value, 3).into(),
            Value::Number(count) => grouped(count.as_i64().unwrap_or_default()).into(),
            other => other.clone(),
        };
        let rows: Vec<Map<String, Value>> = self
            .tools
            .iter()
            .map(|row| {
                let cell = |(column, title): &(&str, &str)| ((*title).to_owned(), shown(column, &row[*column]));
                columns.iter().map(cell).collect()
            })
            .collect();
        let titles = columns.map(|(_, title)| title.to_owned());
        output::table(&titles, &rows.iter().collect::<Vec<_>>())
    }

    fn table(&self) -> String {
        let mut rows: Vec<Map<String, Value>> = self
            .measured
            .teams
            .iter()
            .map(|(team, totals)| row(team, totals, self.cost(team)))
            .collect();
        rows.push(row("all", &self.measured.sum(), String::new()));
        let columns = [
            "team",
            "cost",
            "llm_calls",
            "tool_calls",
            "errors",
            "input",
            "cache_read",
            "cache_write",
            "output",
            "unpriced",
        ];
        output::table(&columns.map(str::to_owned), &rows.iter().collect::<Vec<_>>())
    }

    fn cost(&self, team: &str) -> String {
        let is_team = |row: &&Value| row.get("team").and_then(Value::as_str).unwrap_or(output::NO_VALUE) == team;
        let cost = self.costs.iter().find(is_team).and_then(|row| row.get("cost"));
        cost.filter(|cost| !cost.is_null())
            .map(|cost| output::dollars(cost, 2))
            .unwrap_or_default()
    }

    fn next(&self, addresses: &Addresses, data: &Path, is_over: bool) -> String {
        let at = if is_over {
            format!("--data {}", data.display())
        } else {
            format!("--url http://{}", addresses.http)
        };
        let from = self.from;
        let mut text = format!(
            "
Ask next:
  spanledger costs --by team,model --since {from} {at}
  spanledger costs --by server,tool --since {from} {at}
  spanledger sql \"SELECT * FROM tool_economics ORDER BY lifetime_cost DESC\" {at}   every figure of every tool
  spanledger sql \"SELECT date_trunc('hour', time) AS hour, COUNT(*) FROM calls WHERE agent = '{RUNAWAY_AGENT}' GROUP BY 1 ORDER BY 2 DESC LIMIT 3\" {at}   the runaway loop
  spanledger sql \"SELECT * FROM unpriced\" {at}   {UNPRICED_MODEL} has no price and is not free
"
        );
        if is_over {
            let _ = writeln!(text, "  spanledger serve {at}   dashboard and MCP on this data");
        } else {
            let _ = write!(
                text,
                "  http://{http}/   the dashboard
  http://{http}/mcp   MCP: ask your assistant what Acme's teams spent, and why
  OTLP gRPC {grpc}, OTLP HTTP {otlp_http}: send your own beside it (Ctrl-C stops)
",
                http = addresses.http,
                grpc = addresses.otlp_grpc,
                otlp_http = addresses.otlp_http,
            );
        }
        text
    }
}

fn row(team: &str, totals: &TeamTotals, cost: String) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("team".to_owned(), team.into());
    row.insert("cost".to_owned(), cost.into());
    for (name, value) in [
        ("llm_calls", totals.llm_calls),
        ("tool_calls", totals.tool_calls),
        ("errors", totals.errors),
        ("input", totals.input_tokens),
        ("cache_read", totals.cache_read_tokens),
        ("cache_write", totals.cache_write_tokens),
        ("output", totals.output_tokens),
        ("unpriced", totals.unpriced_tokens),
    ] {
        row.insert(name.to_owned(), grouped(value).into());
    }
    row
}

fn count(n: u64) -> String {
    grouped(i64::try_from(n).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn report(measured_calls: i64) -> Report {
        let totals = |llm_calls| {
            let mut totals = Totals::default();
            totals.teams.insert(
                "search".to_owned(),
                TeamTotals {
                    llm_calls,
                    ..TeamTotals::default()
                },
            );
            totals
        };
        Report {
            from: "2026-11-15".parse().unwrap(),
            until: "2026-11-22".parse().unwrap(),
            sent: Sent {
                spans: 12_345,
                logs: 1,
                points: 2,
            },
            truth: totals(7),
            measured: totals(measured_calls),
            costs: vec![json!({ "team": "search", "cost": "1.23" })],
            tools: vec![json!({
                "server": "postgres", "tool": "run_query", "calls": 1_228, "lifetime_cost": "0.356593375",
                "first_touch": "0.19726", "idle_tax": null,
            })],
        }
    }

    #[test]
    fn the_report_says_what_was_sent_and_what_to_ask_next() {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 8080));
        let addresses = Addresses {
            http: address,
            otlp_grpc: address,
            otlp_http: address,
        };
        let text = report(7).to_text(&addresses, Path::new("x"), false);
        for part in [
            "12,345 spans",
            "1.23",
            "1,228",
            "$0.357",
            "exactly",
            "spanledger costs --by team,model",
            "http://127.0.0.1:8080/mcp",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(
            report(8)
                .to_text(&addresses, Path::new("x"), true)
                .contains("search: llm calls sent 7, the ledger says 8")
        );
    }

    #[test]
    fn json_has_truth_measured_and_differences() {
        let value = report(8).to_json();
        assert_eq!(value["truth"]["teams"]["search"]["llm_calls"], 7);
        assert_eq!(value["measured"]["teams"]["search"]["llm_calls"], 8);
        assert_eq!(value["differences"].as_array().unwrap().len(), 1);
    }
}
