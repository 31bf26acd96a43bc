//! `audit`: who read or changed what, of one tenant of a data folder, newest first.
//!
//! What is printed was chosen by interfaces and by principals (an action, a target): names and numbers, which the
//! output writer cleans of control characters as everything else. Reading the log of a folder is not itself recorded:
//! whoever can read the folder can read the file.

use serde_json::{Value, json};
use spanledger_access::audit::{self, Filter, LIST_MAX};
use spanledger_model::Clock;
use spanledger_model::clock::SystemClock;
use spanledger_query::time::{format_instant, parse_instant};
use spanledger_state::State;

use crate::cli::AuditArgs;
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::output::{self, RowFormat};

/// Columns, in order.
const COLUMNS: [&str; 9] = [
    "time",
    "subject",
    "client_id",
    "interface",
    "action",
    "target",
    "outcome",
    "detail",
    "issuer",
];

/// Runs the command.
pub async fn run(args: &AuditArgs, config: &Config) -> anyhow::Result<Outcome> {
    let tenant = config.tenant()?;
    let now_ns = SystemClock.now_ns();
    let instant = |name: &str, text: &Option<String>| {
        let parsed = text.as_deref().map(|text| parse_instant(text, now_ns)).transpose();
        parsed
            .map(|ns| ns.map(|ns| ns.div_euclid(1_000)))
            .map_err(|error| fail(Kind::Invalid, format!("--{name}: {}", error.message())))
    };
    let filter = Filter {
        since: instant("since", &args.since)?,
        until: instant("until", &args.until)?,
        subject: args.subject.clone(),
        action: args.action.clone(),
        interface: None,
        outcome: args.outcome.clone(),
        limit: args.limit.clamp(1, LIST_MAX),
    };
    let entries = if State::exists(config.data()) {
        let state = State::open(config.data()).await?;
        let entries = audit::list(&state, tenant, &filter).await?;
        state.close().await;
        entries
    } else {
        Vec::new()
    };
    let rows: Vec<Value> = entries
        .iter()
        .map(|entry| {
            json!({
                "time": format_instant(entry.time.saturating_mul(1_000)),
                "tenant": entry.tenant,
                "issuer": entry.issuer,
                "subject": entry.subject,
                "client_id": entry.client_id,
                "credential": entry.credential,
                "interface": entry.interface,
                "action": entry.action,
                "target": entry.target,
                "outcome": entry.outcome,
                "detail": entry.detail,
            })
        })
        .collect();
    output::write_rows(&rows, &COLUMNS, args.format, &mut output::stdout())?;
    if args.format == RowFormat::Table && entries.len() == filter.limit as usize {
        output::note("note: there may be more entries; raise --limit, or narrow with --since");
    }
    Ok(Outcome::Done)
}
