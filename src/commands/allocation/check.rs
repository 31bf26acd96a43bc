//! `allocation check`: what rules would move, in money, over the calls of a folder. Writes nothing.
//!
//! Reads `calls` as they stand, takes back what rules set on each, and applies the rules that are checked: what
//! `settle --rebuild` would write with them, without folding or charging again. A call's whole cost moves with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use spanledger_lake::tables::{Table, calls};
use spanledger_ledger::allocation::{Assignment, RuleSet, Target, UNALLOCATED};
use spanledger_model::clock::SystemClock;
use spanledger_model::{Call, Clock, FemtoUsd};
use spanledger_query::time::parse_instant;

use crate::allocation::{read, rules, store};
use crate::cli::AllocationCheckArgs;
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::output::{self, RowFormat, dollars, grouped};

/// What a table shows of a move.
const COLUMNS: [&str; 6] = ["dimension", "from", "to", "rule", "calls", "cost"];

/// Runs the command.
pub async fn run(args: &AllocationCheckArgs, config: &Config) -> anyhow::Result<Outcome> {
    let set = match &args.file {
        Some(path) => Arc::new(store(config).with(read(path, args.name.as_deref())?)?),
        None => rules(config)?,
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let now_ns = clock.now_ns();
    let instant = |text: &Option<String>| text.as_deref().map(|text| parse_instant(text, now_ns)).transpose();
    let (since, until) = (instant(&args.since)?, instant(&args.until)?);
    let lake = crate::source::read_only(config.data(), clock).await?;
    let snapshot = lake.snapshot(Table::Calls)?;
    let tenant = config.principal()?.tenant().clone();
    let mut check = Check::new(&set);
    for file in snapshot.files.iter().filter(|file| file.tenant == tenant.as_str()) {
        for batch in lake.read_file(Table::Calls, file, None).await? {
            for call in calls::from_batch(&batch) {
                let is_within =
                    since.is_none_or(|since| call.start_ns >= since) && until.is_none_or(|until| call.start_ns < until);
                if is_within && call.tenant == tenant {
                    check.add(call)?;
                }
            }
        }
    }
    let rows = check.moves();
    match args.format {
        RowFormat::Json => output::print(&format!("{:#}\n", check.to_json(&rows)))?,
        RowFormat::Table => output::print(&check.to_text(&rows))?,
        format => output::write_rows(&rows, &COLUMNS, format, &mut output::stdout())?,
    }
    Ok(Outcome::Done)
}

/// Calls and what they cost.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    n_calls: i64,
    cost: FemtoUsd,
}

impl Tally {
    fn add(&mut self, call: &Call) -> anyhow::Result<()> {
        self.n_calls += 1;
        self.cost = self
            .cost
            .checked_add(call.own_cost.unwrap_or_default())
            .ok_or_else(|| fail(Kind::Internal, "the sum of the costs is out of range"))?;
        Ok(())
    }
}

/// Dimension, value before and after, and the rule that decides.
type Move = (Target, Option<String>, Option<String>, Option<String>);

struct Check<'r> {
    set: &'r RuleSet,
    all: Tally,
    moves: BTreeMap<Move, Tally>,
    by_rule: BTreeMap<String, Tally>,
    /// What no record and no rule tells: before and after.
    unallocated: BTreeMap<Target, (Tally, Tally)>,
}

impl<'r> Check<'r> {
    fn new(set: &'r RuleSet) -> Self {
        Self {
            set,
            all: Tally::default(),
            moves: BTreeMap::new(),
            by_rule: BTreeMap::new(),
            unallocated: BTreeMap::new(),
        }
    }

    fn add(&mut self, before: Call) -> anyhow::Result<()> {
        let mut after = before.clone();
        self.set.apply(&mut after);
        self.all.add(&before)?;
        let assignments = Assignment::parse_list(after.allocated_by.as_deref().unwrap_or_default());
        let mut rules: Vec<&str> = assignments.iter().map(|done| done.rule.as_str()).collect();
        rules.sort_unstable();
        rules.dedup();
        for rule in rules {
            self.by_rule.entry(rule.to_owned()).or_default().add(&before)?;
        }
        for target in Target::ALL {
            let (from, to) = (target.of(&before.dimensions), target.of(&after.dimensions));
            let unallocated = self.unallocated.entry(target).or_default();
            if from.is_none() {
                unallocated.0.add(&before)?;
            }
            if to.is_none() {
                unallocated.1.add(&before)?;
            }
            if from != to {
                let rule = assignments.iter().find(|done| done.target == target);
                let key = (
                    target,
                    from.map(str::to_owned),
                    to.map(str::to_owned),
                    rule.map(|done| done.rule.clone()),
                );
                self.moves.entry(key).or_default().add(&before)?;
            }
        }
        Ok(())
    }

    /// What moves, by dimension, dearest first.
    fn moves(&self) -> Vec<Value> {
        let mut moves: Vec<(&Move, &Tally)> = self.moves.iter().collect();
        moves.sort_by(|a, b| a.0.0.cmp(&b.0.0).then(b.1.cost.cmp(&a.1.cost)).then(a.0.cmp(b.0)));
        let name = |value: &Option<String>| value.clone().unwrap_or_else(|| UNALLOCATED.to_owned());
        let row = |((target, from, to, rule), tally): (&Move, &Tally)| {
            json!({
                "dimension": target.as_str(), "from": name(from), "to": name(to),
                "rule": rule.as_deref().unwrap_or("(the records)"),
                "calls": tally.n_calls, "cost": tally.cost.to_string(),
            })
        };
        moves.into_iter().map(row).collect()
    }

    fn to_json(&self, moves: &[Value]) -> Value {
        let tally = |tally: &Tally| json!({ "calls": tally.n_calls, "cost": tally.cost.to_string() });
        let rules = self.set.rules().iter().map(|rule| {
            let mut row = tally(&self.by_rule.get(&rule.name).copied().unwrap_or_default());
            row["rule"] = rule.name.clone().into();
            row
        });
        let unallocated = self.unallocated.iter().map(|(target, (before, after))| {
            json!({ "dimension": target.as_str(), "before": tally(before), "after": tally(after) })
        });
        json!({
            "version": self.set.version(), "calls": self.all.n_calls, "cost": self.all.cost.to_string(), "currency": "USD",
            "moves": moves, "rules": rules.collect::<Vec<_>>(), "unallocated": unallocated.collect::<Vec<_>>(),
        })
    }

    fn to_text(&self, moves: &[Value]) -> String {
        let money = |cost: FemtoUsd| dollars(&Value::from(cost.to_string()), 4);
        let mut text = format!(
            "{} calls, {}, by {} rules of version {}\n\n",
            grouped(self.all.n_calls),
            money(self.all.cost),
            self.set.rules().len(),
            self.set.version()
        );
        if moves.is_empty() {
            text.push_str("nothing moves\n");
        } else {
            let shown: Vec<Value> = moves
                .iter()
                .map(|row| {
                    let mut row = row.clone();
                    row["calls"] = grouped(row["calls"].as_i64().unwrap_or(0)).into();
                    row["cost"] = dollars(&row["cost"], 4).into();
                    row
                })
                .collect();
            let columns = COLUMNS.map(str::to_owned);
            let rows: Vec<_> = shown.iter().filter_map(Value::as_object).collect();
            text.push_str(&output::table(&columns, &rows));
        }
        text.push('\n');
        for rule in self.set.rules() {
            let tally = self.by_rule.get(&rule.name).copied().unwrap_or_default();
            text.push_str(&match tally.n_calls {
                0 => format!(
                    "rule {} sets nothing on these calls: {}\n",
                    rule.name,
                    rule.condition_text()
                ),
                n => format!(
                    "rule {} decides {} calls, {}\n",
                    rule.name,
                    grouped(n),
                    money(tally.cost)
                ),
            });
        }
        for (target, (before, after)) in &self.unallocated {
            text.push_str(&format!(
                "{}: {} calls, {} are {UNALLOCATED}, before {} calls, {}\n",
                target.as_str(),
                grouped(after.n_calls),
                money(after.cost),
                grouped(before.n_calls),
                money(before.cost),
            ));
        }
        text.push_str("nothing was written\n");
        text
    }
}
