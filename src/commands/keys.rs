//! `keys …`: make, list and revoke API keys in a data folder, beside a running server or without one.
//!
//! A new key is printed once, to standard output, and is kept nowhere. Making and revoking are written to the audit
//! log of the key's tenant: a key without its entry is taken back before anyone has it, a revoked one stays revoked.

use std::sync::Arc;

use serde_json::{Value, json};
use spanledger_access::Principal;
use spanledger_access::audit::{Audit, Interface, Outcome as Done};
use spanledger_access::keys::{KeyInfo, Keys, NewKey};
use spanledger_access::roles::row_filter;
use spanledger_model::Clock;
use spanledger_model::clock::SystemClock;
use spanledger_query::time::{format_instant, parse_instant};
use spanledger_state::State;

use crate::cli::{KeysCommand, KeysCreateArgs, KeysListArgs, KeysRevokeArgs, ReportFormat};
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::output::{self, RowFormat};

/// Columns, in order.
const COLUMNS: [&str; 9] = [
    "id",
    "name",
    "tenant",
    "role",
    "rows",
    "status",
    "created",
    "expires",
    "last_used",
];

/// Runs the command.
pub async fn run(command: &KeysCommand, config: &Config) -> anyhow::Result<Outcome> {
    match command {
        KeysCommand::Create(args) => create(args, config).await,
        KeysCommand::List(args) => list(args, config).await,
        KeysCommand::Revoke(args) => revoke(args, config).await,
    }
}

/// The keys and the audit log of a folder, which are made where they are not there yet.
struct Store {
    state: State,
    keys: Keys,
    audit: Audit,
}

impl Store {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let state = State::open(config.data()).await?;
        // How long entries are kept is the server's business, whose settings may be others than this command's.
        let audit = Audit::open(state.clone(), Arc::clone(&clock), 0);
        Ok(Self {
            keys: Keys::new(state.clone(), config.access.roles()?, clock),
            state,
            audit,
        })
    }

    async fn record(&self, tenant: &str, action: &str, target: &str, detail: Option<&str>) -> anyhow::Result<()> {
        let principal = Principal::local_of(tenant);
        self.audit
            .record_change(&principal, Interface::Cli, action, Some(target), Done::Ok, detail)
            .await?;
        Ok(())
    }
}

async fn create(args: &KeysCreateArgs, config: &Config) -> anyhow::Result<Outcome> {
    let some = |values: &Vec<String>| (!values.is_empty()).then(|| values.clone());
    let (teams, projects, environments) = (some(&args.teams), some(&args.projects), some(&args.environments));
    let new = NewKey {
        tenant: config.tenant()?.to_owned(),
        name: args.name.clone().unwrap_or_else(|| args.role.clone()),
        role: args.role.clone(),
        rows: row_filter(teams.as_ref(), projects.as_ref(), environments.as_ref()),
        expires_at: args
            .expires
            .as_deref()
            .map(|text| expiry_us(text, SystemClock.now_ns()))
            .transpose()?,
        created_by: spanledger_access::LOCAL_ISSUER.to_owned(),
    };
    let store = Store::open(config).await?;
    let (info, key) = store.keys.create(&new).await?;
    let detail = format!("role {}, rows {}", info.role, rows_text(&info));
    // Nobody has the key yet: without its entry it is taken back.
    if let Err(error) = store.record(&info.tenant, "key.create", &info.id, Some(&detail)).await {
        store.keys.revoke(None, &info.id).await?;
        return Err(error);
    }
    store.state.close().await;
    match args.format {
        ReportFormat::Json => {
            let mut row = row(&info, store.keys.now_us());
            row["key"] = key.expose().into();
            output::print(&format!("{row:#}\n"))?;
        }
        ReportFormat::Table => {
            output::print(&format!("{}\n", key.expose()))?;
            output::note(&format!(
                "key {} of tenant {} with the role {}; it is shown this once. Send it as `Authorization: Bearer <key>`",
                info.id, info.tenant, info.role
            ));
        }
    }
    Ok(Outcome::Done)
}

async fn list(args: &KeysListArgs, config: &Config) -> anyhow::Result<Outcome> {
    if !State::exists(config.data()) {
        return nothing(args.format);
    }
    let store = Store::open(config).await?;
    let keys = store.keys.list(args.tenant.as_deref()).await?;
    store.state.close().await;
    if keys.is_empty() {
        return nothing(args.format);
    }
    let now = store.keys.now_us();
    let rows: Vec<Value> = keys.iter().map(|key| row(key, now)).collect();
    output::write_rows(&rows, &COLUMNS, args.format, &mut output::stdout())?;
    Ok(Outcome::Done)
}

fn nothing(format: RowFormat) -> anyhow::Result<Outcome> {
    output::write_rows(&[], &COLUMNS, format, &mut output::stdout())?;
    output::note("there are no keys; `spanledger keys create --role admin` makes one");
    Ok(Outcome::Done)
}

async fn revoke(args: &KeysRevokeArgs, config: &Config) -> anyhow::Result<Outcome> {
    if !State::exists(config.data()) {
        return Err(fail(
            Kind::Invalid,
            format!("{} has no keys; name the folder with --data", config.data().display()),
        ));
    }
    let store = Store::open(config).await?;
    let info = store.keys.revoke(None, &args.id).await?;
    let recorded = store.record(&info.tenant, "key.revoke", &info.id, None).await;
    store.state.close().await;
    recorded?;
    match args.format {
        ReportFormat::Json => output::print(&format!("{:#}\n", row(&info, store.keys.now_us())))?,
        ReportFormat::Table => output::print(&format!(
            "revoked {} ({}, role {}); running servers refuse it within a second\n",
            info.id, info.name, info.role
        ))?,
    }
    Ok(Outcome::Done)
}

fn row(key: &KeyInfo, now_us: i64) -> Value {
    let instant = |us: Option<i64>| us.map(|us| format_instant(us.saturating_mul(1_000)));
    json!({
        "id": key.id,
        "name": key.name,
        "tenant": key.tenant,
        "role": key.role,
        "rows": rows_text(key),
        "status": key.status(now_us).name(),
        "created": instant(Some(key.created_at)),
        "expires": instant(key.expires_at),
        "last_used": instant(key.last_used_at),
        "revoked": instant(key.revoked_at),
    })
}

/// The row filter in a few words.
fn rows_text(key: &KeyInfo) -> String {
    let conditions = key.rows.conditions();
    let conditions: Vec<String> = conditions
        .map(|(column, values)| format!("{column} {}", values.join(", ")))
        .collect();
    if conditions.is_empty() {
        return "all".to_owned();
    }
    conditions.join("; ")
}

/// A time from now (`90d`, `12h`) or an instant, in microseconds since the Unix epoch.
fn expiry_us(text: &str, now_ns: i64) -> anyhow::Result<i64> {
    let parsed =
        parse_instant(text, now_ns).map_err(|error| fail(Kind::Invalid, format!("--expires: {}", error.message())))?;
    // A span is read as one back from now; an expiry lies as far ahead.
    let at_ns = if text.trim().ends_with(['s', 'm', 'h', 'd', 'w']) {
        now_ns.saturating_add(now_ns.saturating_sub(parsed))
    } else {
        parsed
    };
    Ok(at_ns.div_euclid(1_000))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn an_expiry_is_an_age_ahead_or_an_instant() {
        let now_ns = 1_795_341_600_000_000_000;
        let day_us = 86_400_000_000_i64;
        assert_eq!(expiry_us("90d", now_ns).unwrap(), now_ns / 1_000 + 90 * day_us);
        assert_eq!(expiry_us("12h", now_ns).unwrap(), now_ns / 1_000 + day_us / 2);
        assert_eq!(
            expiry_us("2026-11-23T00:00:00Z", now_ns).unwrap(),
            1_795_392_000_000_000
        );
        assert!(expiry_us("soon", now_ns).is_err());
    }
}
