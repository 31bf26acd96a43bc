//! One allocation rule: what it would move, and setting it as a new version of the rules.
//!
//! The preview reads the calls of a time as they are settled and applies the rules that would be in use. Setting writes
//! a version; a running server takes it up within a second (`serve` follows the version in use), for calls that are
//! settled from then on. History moves when it is settled again, as ADR 0008 has it.

use serde_json::{Value, json};
use spanledger_access::Principal;
use spanledger_access::audit::Interface;
use spanledger_lake::Lake;
use spanledger_lake::tables::{Table, calls};
use spanledger_ledger::allocation::RuleSet;
use spanledger_ledger::allocation::diff::rule_text;
use spanledger_ledger::allocation::edit::{NewRule, with_rule};
use spanledger_ledger::allocation::file::Source;
use spanledger_ledger::allocation::moves::Moves;
use spanledger_ledger::allocation::store::ImportedBy;

use super::{Finops, of_ledger};
use crate::costs::CURRENCY;
use crate::error::{Error, ErrorKind, Result};
use crate::time::{DAY_NS, format_instant};

/// Days that a preview looks back at.
pub const PREVIEW_DAYS: i64 = 30;
/// Moves that a preview tells, of each dimension together; the rest is summed up in its counts.
const MOVES_MAX: usize = 20;

/// What a rule set would move of a principal's calls between two instants.
///
/// # Errors
/// [`Forbidden`](ErrorKind::Forbidden) for a principal with a row filter; those of the lake.
pub async fn allocation_moves<'r>(
    lake: &Lake,
    principal: &Principal,
    set: &'r RuleSet,
    since_ns: Option<i64>,
    until_ns: Option<i64>,
) -> Result<Moves<'r>> {
    whole_tenant(principal)?;
    let tenant = principal.tenant();
    let snapshot = lake.snapshot(Table::Calls)?;
    let mut moves = Moves::new(set);
    for file in snapshot.files.iter().filter(|file| file.tenant == tenant.as_str()) {
        for batch in lake.read_file(Table::Calls, file, None).await? {
            for call in calls::from_batch(&batch) {
                let is_within = since_ns.is_none_or(|since| call.start_ns >= since)
                    && until_ns.is_none_or(|until| call.start_ns < until);
                if is_within && call.tenant == *tenant {
                    moves.add(&call).map_err(of_ledger)?;
                }
            }
        }
    }
    Ok(moves)
}

impl Finops {
    /// What a rule would move of the last [`PREVIEW_DAYS`] days: `rule`, what it replaces, calls, cost, moves between
    /// values of each dimension.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for what is no rule; [`Forbidden`](ErrorKind::Forbidden) for a principal with a
    /// row filter.
    pub async fn preview_rule(&self, principal: &Principal, rule: NewRule) -> Result<Value> {
        let (source, name) = self.source(principal, rule)?;
        let old = self.rules.current_rules().map_err(of_ledger)?;
        let new = self.rules.with(source).map_err(of_ledger)?;
        let until_ns = self.engine.now_ns();
        let since_ns = until_ns - PREVIEW_DAYS * DAY_NS;
        // What stands in the lake may be of older versions: what changes is what differs from the rules in use.
        let lake = self.engine.lake();
        let moves = allocation_moves(lake, principal, &new, Some(since_ns), Some(until_ns)).await?;
        let mut rows = moves.rows();
        let by_this = |row: &Value| row["rule"] == name.as_str();
        let others = rows.iter().filter(|row| !by_this(row)).count();
        rows.retain(by_this);
        let n_moves = rows.len();
        rows.truncate(MOVES_MAX);
        let tally = moves.of_rule(&name);
        Ok(json!({
            "rule": name,
            "text": new.rule(&name).map(rule_text),
            "replaces": old.rule(&name).map(rule_text),
            "since": format_instant(since_ns),
            "until": format_instant(until_ns),
            "currency": CURRENCY,
            "calls_seen": moves.all().n_calls,
            "cost_seen": moves.all().cost.to_string(),
            "calls": tally.n_calls,
            "cost": tally.cost.to_string(),
            "moves": rows,
            "moves_total": n_moves,
            "moves_of_other_rules": others,
        }))
    }

    /// Sets a rule as a new version, and answers its id; `None` where the rules say it already.
    ///
    /// # Errors
    /// As [`Self::preview_rule`]; [`Busy`](ErrorKind::Busy) while another process changes the rules; where the change
    /// cannot be audited, and then it is not made.
    pub async fn set_rule(&self, principal: &Principal, interface: Interface, rule: NewRule) -> Result<Option<String>> {
        Self::may_change(principal)?;
        let (source, name) = self.source(principal, rule)?;
        let checked = self.rules.with(source.clone()).map_err(of_ledger)?;
        let text = checked.rule(&name).map(rule_text).unwrap_or_default();
        self.record(principal, interface, "allocation.set_rule", &name, &text)
            .await?;
        let by = ImportedBy {
            user: Some(format!("{} {}", principal.issuer(), principal.subject())),
            at_ns: self.engine.now_ns(),
            file: String::new(),
        };
        let rules = self.rules.clone();
        let imported = tokio::task::spawn_blocking(move || rules.import(source, &by, false))
            .await
            .map_err(|error| Error::internal("writing the rules ended early").with_source(error))?;
        Ok(imported.map_err(of_ledger)?.version)
    }

    /// The version in use and its rules, as far as they are this tenant's or everybody's.
    ///
    /// # Errors
    /// [`Forbidden`](ErrorKind::Forbidden) for a principal with a row filter.
    pub fn rules(&self, principal: &Principal) -> Result<Value> {
        whole_tenant(principal)?;
        let set = self.rules.current_rules().map_err(of_ledger)?;
        let tenant = principal.tenant().as_str();
        let is_own = |rule: &&spanledger_ledger::allocation::Rule| {
            let mut of_tenant = rule
                .matches
                .iter()
                .filter(|condition| condition.field.name() == "tenant");
            of_tenant.all(|condition| condition.fits_value(Some(tenant)))
        };
        let rules: Vec<Value> = set
            .rules()
            .iter()
            .filter(is_own)
            .map(|rule| json!({ "name": rule.name, "text": rule_text(rule), "override": rule.overrides }))
            .collect();
        Ok(json!({ "version": set.version(), "rules": rules }))
    }

    fn source(&self, principal: &Principal, rule: NewRule) -> Result<(Source, String)> {
        whole_tenant(principal)?;
        let name = rule.name.clone();
        let version = self.rules.current().map_err(of_ledger)?;
        let source = with_rule(version.as_ref(), principal.tenant(), rule).map_err(of_ledger)?;
        Ok((source, name))
    }
}

/// Rules say whose a row is, so who sees a part of the rows could move others into it.
fn whole_tenant(principal: &Principal) -> Result<()> {
    if principal.rows().is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Forbidden,
        "allocation rules are for who sees the whole tenant, and you see some of its rows only",
    ))
}
