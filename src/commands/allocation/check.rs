//! `allocation check`: what rules would move, in money, over the calls of a folder. Writes nothing.
//!
//! Reads `calls` as they stand, takes back what rules set on each, and applies the rules that are checked: what
//! `settle --rebuild` would write with them, without folding or charging again. A call's whole cost moves with it.

use std::sync::Arc;

use serde_json::Value;
use spanledger_ledger::allocation::moves::Moves;
use spanledger_ledger::allocation::{RuleSet, UNALLOCATED};
use spanledger_model::clock::SystemClock;
use spanledger_model::{Clock, FemtoUsd};
use spanledger_query::finops::rules::allocation_moves;
use spanledger_query::time::parse_instant;

use crate::allocation::{read, rules, store};
use crate::cli::AllocationCheckArgs;
use crate::config::Config;
use crate::exit::Outcome;
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
    let check = allocation_moves(&lake, &config.principal()?, &set, since, until).await?;
    let rows = check.rows();
    match args.format {
        RowFormat::Json => output::print(&format!("{:#}\n", check.to_json()))?,
        RowFormat::Table => output::print(&to_text(&set, &check, &rows))?,
        format => output::write_rows(&rows, &COLUMNS, format, &mut output::stdout())?,
    }
    Ok(Outcome::Done)
}

/// The report for people.
fn to_text(set: &RuleSet, check: &Moves<'_>, moves: &[Value]) -> String {
    let money = |cost: FemtoUsd| dollars(&Value::from(cost.to_string()), 4);
    let mut text = format!(
        "{} calls, {}, by {} rules of version {}\n\n",
        grouped(check.all().n_calls),
        money(check.all().cost),
        set.rules().len(),
        set.version()
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
    for rule in set.rules() {
        let tally = check.of_rule(&rule.name);
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
    for (target, before, after) in check.unallocated() {
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
