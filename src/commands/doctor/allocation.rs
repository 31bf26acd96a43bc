//! What `doctor` says of the allocation rules: which are in use, how many calls each decided and why, and which
//! calls none did.

use std::collections::BTreeMap;

use serde_json::Value;
use spanledger_ledger::allocation::{Assignment, RuleSet, UNALLOCATED};
use spanledger_model::FemtoUsd;

use super::{Asked, Finding, ask, bad, integer, ok, warn};
use crate::config::Config;
use crate::output::{dollars, grouped};

/// Rules that are told one by one.
const RULES_MAX: usize = 30;
/// Kinds of calls that no rule decides, which are told.
const UNTOLD_MAX: usize = 3;
const REPORT: &str = "report it with the output of `spanledger --log debug doctor`";

/// The findings.
pub(super) async fn findings(config: &Config, engine: &Asked) -> Vec<Finding> {
    let mut findings = vec![version(config)];
    let rules = match crate::allocation::rules(config) {
        Ok(rules) => rules,
        // The version's finding says why.
        Err(_) => return findings,
    };
    findings.extend(not_taken_in(config));
    match by_rule(engine).await {
        Ok(tallies) => {
            findings.extend(decided(&rules, &tallies));
            findings.extend(left_behind(&rules, &tallies));
        }
        Err(error) => findings.push(warn("rules", error.to_string(), REPORT)),
    }
    match undecided(engine).await {
        Ok(finding) => findings.extend(finding),
        Err(error) => findings.push(warn("rules", error.to_string(), REPORT)),
    }
    findings
}

/// The version that the next start allocates by.
fn version(config: &Config) -> Finding {
    let store = crate::allocation::store(config);
    let current = store.current().and_then(|version| match version {
        Some(version) => store.rules(&version).map(|rules| Some((version, rules))),
        None => Ok(None),
    });
    match current {
        Ok(None) => ok("rules", "no allocation rules: calls are whose their records say"),
        Ok(Some((version, rules))) => ok(
            "rules",
            format!(
                "{}, made {} from {}: {} rules, {} shared costs",
                version.id(),
                version.created_at,
                version.import.file,
                rules.rules().len(),
                rules.shared().len()
            ),
        ),
        Err(error) => bad(
            "rules",
            error.to_string(),
            "`spanledger allocation use v0` takes no rules",
        ),
    }
}

/// Files of the configuration that say something else than the version in use.
fn not_taken_in(config: &Config) -> Vec<Finding> {
    let files = config.allocation.files.value.0.iter();
    let found = files.filter_map(|path| match crate::allocation::import(config, path, None, true) {
        Ok(report) if report.version.is_none() => None,
        Ok(_) => Some(warn(
            "rules",
            format!("{} differs from the version in use", path.display()),
            "it is taken in when the server is started again; `spanledger allocation import --dry-run` shows what differs",
        )),
        Err(error) => Some(bad("rules", error.to_string(), "correct the file")),
    });
    found.collect()
}

/// Calls and cost that a rule decided a dimension of.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    n_calls: i64,
    cost: FemtoUsd,
}

async fn by_rule(engine: &Asked) -> anyhow::Result<BTreeMap<String, Tally>> {
    let sql = "SELECT allocated_by, COUNT(*) AS n, SUM(own_cost) AS cost FROM calls WHERE allocated_by IS NOT NULL GROUP BY 1";
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for row in ask(engine, sql).await? {
        let text = row.get("allocated_by").and_then(Value::as_str).unwrap_or_default();
        let mut rules: Vec<String> = Assignment::parse_list(text).into_iter().map(|done| done.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        for rule in rules {
            let tally = tallies.entry(rule).or_default();
            tally.n_calls += row.get("n").and_then(Value::as_i64).unwrap_or(0);
            tally.cost += row
                .get("cost")
                .and_then(Value::as_str)
                .and_then(FemtoUsd::parse)
                .unwrap_or_default();
        }
    }
    Ok(tallies)
}

fn decided(rules: &RuleSet, tallies: &BTreeMap<String, Tally>) -> Vec<Finding> {
    let finding = |rule: &spanledger_ledger::allocation::Rule| {
        let says = format!("{} -> {}", rule.condition_text(), rule.sets_text());
        match tallies.get(&rule.name) {
            Some(tally) => ok(
                "rule",
                format!(
                    "{} decided {} calls, {}: {says}",
                    rule.name,
                    grouped(tally.n_calls),
                    money(tally.cost)
                ),
            ),
            None => warn(
                "rule",
                format!("{} decided no call that is settled: {says}", rule.name),
                "`spanledger allocation check` shows what it would move by `spanledger settle --rebuild`",
            ),
        }
    };
    let mut findings: Vec<Finding> = rules.rules().iter().take(RULES_MAX).map(finding).collect();
    if rules.rules().len() > RULES_MAX {
        let n_more = rules.rules().len() - RULES_MAX;
        findings.push(ok(
            "rule",
            format!("and {n_more} more: `spanledger allocation check` counts them all"),
        ));
    }
    findings
}

/// Rules that are not in use and still stand on calls.
fn left_behind(rules: &RuleSet, tallies: &BTreeMap<String, Tally>) -> Vec<Finding> {
    let gone = tallies.iter().filter(|(name, _)| rules.rule(name).is_none());
    let named: Vec<String> = gone
        .map(|(name, tally)| format!("{name} ({} calls)", grouped(tally.n_calls)))
        .collect();
    if named.is_empty() {
        return Vec::new();
    }
    vec![warn(
        "rules",
        format!("calls stand as rules of another version decided: {}", named.join(", ")),
        "`spanledger allocation check` shows what `spanledger settle --rebuild` would move",
    )]
}

/// Where the calls come from that neither records nor rules give a team.
async fn undecided(engine: &Asked) -> anyhow::Result<Option<Finding>> {
    let of = "FROM calls WHERE team IS NULL AND kind IN ('llm', 'embedding', 'tool')";
    let all = ask(engine, &format!("SELECT COUNT(*) AS n, SUM(own_cost) AS cost {of}")).await?;
    if integer(&all, "n") == 0 {
        return Ok(None);
    }
    let sql = format!(
        "SELECT service, agent, api_key, user_id, COUNT(*) AS n, SUM(own_cost) AS cost {of} \
         GROUP BY 1, 2, 3, 4 ORDER BY cost DESC NULLS LAST, n DESC, 1, 2, 3, 4 LIMIT {UNTOLD_MAX}"
    );
    let named = ask(engine, &sql).await?.into_iter().map(|row| {
        let of = |key: &str| {
            let value = row.get(key).and_then(Value::as_str)?;
            Some(format!("{key}={}", shown(value)))
        };
        let who: Vec<String> = ["service", "agent", "api_key", "user_id"]
            .into_iter()
            .filter_map(of)
            .collect();
        let who = if who.is_empty() {
            "of nobody known".to_owned()
        } else {
            who.join(" ")
        };
        format!(
            "{who} ({} calls, {})",
            grouped(integer(std::slice::from_ref(&row), "n")),
            money_of(&row)
        )
    });
    let named: Vec<String> = named.collect();
    Ok(Some(warn(
        "rules",
        format!(
            "{} calls, {}, have team {UNALLOCATED}: no record and no rule tells; dearest: {}",
            grouped(integer(&all, "n")),
            all.first().map_or_else(String::new, money_of),
            named.join("; ")
        ),
        "write a rule that matches them (docs/allocation.md); `spanledger allocation check FILE` shows what it moves",
    )))
}

fn money_of(row: &Value) -> String {
    let cost = row.get("cost").and_then(Value::as_str).and_then(FemtoUsd::parse);
    money(cost.unwrap_or_default())
}

fn money(cost: FemtoUsd) -> String {
    dollars(&Value::from(cost.to_string()), 4)
}

/// Text from telemetry on one line, cut.
fn shown(text: &str) -> String {
    text.chars().map(spanledger_query::format::or_space).take(60).collect()
}
