//! The audit log: who read or changed what, through which interface, and whether it was allowed.
//!
//! Sits beside every interface: its edge records what a principal asked for. A read is queued and costs the
//! caller a few hundred nanoseconds; where the queue is full the entry is dropped, counted, and the gap itself
//! becomes an entry. A change is on stable storage before [`Audit::record_change`] returns.
//!
//! Guarantee: entries are appended, never updated, and leave only by retention. It keeps no texts of telemetry and
//! no credentials: `target` and `detail` are names and numbers that the caller chose, cut to a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use spanledger_model::Clock;
use spanledger_state::State;
use spanledger_state::sqlx;
use tokio::sync::{mpsc, oneshot};

use crate::{AccessError, Principal, keys};

/// Entries that wait to be written: a second of very busy reading, about 4 MiB at most.
const QUEUE_MAX: usize = 8_192;
/// Entries of one transaction: one fsync for all.
const BATCH_MAX: usize = 512;
/// Longest `target`, in bytes.
const TARGET_BYTES_MAX: usize = 512;
/// Longest `detail`, in bytes.
const DETAIL_BYTES_MAX: usize = 2_048;
/// Most entries of one answer.
pub const LIST_MAX: u32 = 10_000;
/// How often entries past their days are removed.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(3_600);
/// Days an entry is kept where nothing is configured: an auditor's year and the month of looking back.
pub const RETENTION_DAYS_DEFAULT: u32 = 400;
const DAY_US: i64 = 86_400_000_000;

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// OTLP receivers.
    Otlp,
    /// REST, SQL over HTTP and exports.
    Rest,
    /// The MCP server.
    Mcp,
    /// The page: signing in and out.
    Page,
    /// The command line on a data folder.
    Cli,
    /// Whichever it was: a credential is the same in all.
    Any,
}

impl Interface {
    /// Its name in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Otlp => "otlp",
            Self::Rest => "rest",
            Self::Mcp => "mcp",
            Self::Page => "page",
            Self::Cli => "cli",
            Self::Any => "any",
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A change is about to be made; what came of it is an entry of its own.
    Asked,
    /// It was done.
    Ok,
    /// The credential was refused or did not allow it.
    Denied,
    /// It was allowed and failed.
    Failed,
}

impl Outcome {
    /// Its name in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// One entry as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// When, in microseconds since the Unix epoch, UTC.
    pub time: i64,
    /// Whose data.
    pub tenant: String,
    /// Who vouches for the subject.
    pub issuer: String,
    /// Who.
    pub subject: String,
    /// Through which OAuth client.
    pub client_id: Option<String>,
    /// By which credential: a key's id, a token's `jti`.
    pub credential: Option<String>,
    /// Through which interface.
    pub interface: String,
    /// What was done, such as `sql.query` or `key.create`.
    pub action: String,
    /// To what.
    pub target: Option<String>,
    /// How it ended: `ok`, `denied`, `failed`.
    pub outcome: String,
    /// More about it, as the interface chose.
    pub detail: Option<String>,
}

/// Which entries of a tenant are asked for. Absent conditions let everything pass.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// From this time on, in microseconds since the Unix epoch.
    pub since: Option<i64>,
    /// Before this time.
    pub until: Option<i64>,
    /// Of this subject.
    pub subject: Option<String>,
    /// With this action.
    pub action: Option<String>,
    /// Through this interface.
    pub interface: Option<String>,
    /// That ended so.
    pub outcome: Option<String>,
    /// At most this many, newest first; 0 is [`LIST_MAX`].
    pub limit: u32,
}

enum Message {
    Entry(Box<Entry>),
    Flush(oneshot::Sender<()>),
}

#[derive(Debug)]
struct Inner {
    state: State,
    clock: Arc<dyn Clock>,
    queue: mpsc::Sender<Message>,
    dropped: Arc<AtomicU64>,
}

/// The audit log. Clones share it.
#[derive(Debug, Clone)]
pub struct Audit(Option<Arc<Inner>>);

impl Audit {
    /// Opens the log and starts its writer, which ends when the last clone is gone. Needs a tokio runtime. Entries
    /// older than `retention_days` are removed, by an opener who gives no days (0) none.
    #[must_use]
    pub fn open(state: State, clock: Arc<dyn Clock>, retention_days: u32) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            state: state.clone(),
            clock: Arc::clone(&clock),
            dropped: Arc::clone(&dropped),
            reported: 0,
            retention_days,
        };
        tokio::spawn(writer.run(entries));
        Self(Some(Arc::new(Inner {
            state,
            clock,
            queue,
            dropped,
        })))
    }

    /// A log that keeps nothing: for a folder without a control state.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Records what was read. Never waits: where the queue is full, the entry is dropped and counted.
    pub fn record(
        &self,
        principal: &Principal,
        interface: Interface,
        action: &str,
        target: Option<&str>,
        outcome: Outcome,
        detail: Option<&str>,
    ) {
        let Some(inner) = &self.0 else { return };
        let entry = inner.entry(principal, interface, action, target, outcome, detail);
        if inner.queue.try_send(Message::Entry(Box::new(entry))).is_err() {
            inner.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records a change: on stable storage when it returns. Record before the change is made or in any case
    /// before it is answered, and refuse the change where this fails.
    ///
    /// # Errors
    /// [`AccessError::Unavailable`].
    pub async fn record_change(
        &self,
        principal: &Principal,
        interface: Interface,
        action: &str,
        target: Option<&str>,
        outcome: Outcome,
        detail: Option<&str>,
    ) -> Result<(), AccessError> {
        let Some(inner) = &self.0 else { return Ok(()) };
        let entry = inner.entry(principal, interface, action, target, outcome, detail);
        write(&inner.state, std::slice::from_ref(&entry))
            .await
            .map_err(|error| unavailable(&error))
    }

    /// Entries that were dropped since it was opened.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |inner| inner.dropped.load(Ordering::Relaxed))
    }

    /// Waits until everything recorded before is on stable storage.
    pub async fn flush(&self) {
        let Some(inner) = &self.0 else { return };
        let (done, written) = oneshot::channel();
        if inner.queue.send(Message::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }

    /// Entries of one tenant, newest first.
    ///
    /// # Errors
    /// [`AccessError::Unavailable`].
    pub async fn list(&self, tenant: &str, filter: &Filter) -> Result<Vec<Entry>, AccessError> {
        match &self.0 {
            Some(inner) => list(&inner.state, tenant, filter).await,
            None => Ok(Vec::new()),
        }
    }
}

impl Inner {
    fn entry(
        &self,
        principal: &Principal,
        interface: Interface,
        action: &str,
        target: Option<&str>,
        outcome: Outcome,
        detail: Option<&str>,
    ) -> Entry {
        let bounded = |text: &str| cut(text, TARGET_BYTES_MAX);
        Entry {
            time: self.clock.now_ns().div_euclid(1_000),
            tenant: principal.tenant().as_str().to_owned(),
            issuer: bounded(principal.issuer()),
            subject: bounded(principal.subject()),
            client_id: principal.client_id().map(bounded),
            credential: principal.credential().map(bounded),
            interface: interface.name().to_owned(),
            action: bounded(action),
            target: target.map(bounded),
            outcome: outcome.name().to_owned(),
            detail: detail.map(|text| cut(text, DETAIL_BYTES_MAX)),
        }
    }
}

/// Entries of one tenant of a folder's log, newest first.
///
/// # Errors
/// [`AccessError::Unavailable`].
pub async fn list(state: &State, tenant: &str, filter: &Filter) -> Result<Vec<Entry>, AccessError> {
    const SQL: &str = "
SELECT time, tenant, issuer, subject, client_id, credential, interface, action, target, outcome, detail
FROM audit_log
WHERE tenant = $1 AND time >= $2 AND time < $3
  AND ($4 IS NULL OR subject = $4) AND ($5 IS NULL OR action = $5)
  AND ($6 IS NULL OR interface = $6) AND ($7 IS NULL OR outcome = $7)
ORDER BY time DESC, id DESC LIMIT $8";
    let limit = if filter.limit == 0 {
        LIST_MAX
    } else {
        filter.limit.min(LIST_MAX)
    };
    let rows = sqlx::query(SQL)
        .bind(tenant)
        .bind(filter.since.unwrap_or(i64::MIN))
        .bind(filter.until.unwrap_or(i64::MAX))
        .bind(&filter.subject)
        .bind(&filter.action)
        .bind(&filter.interface)
        .bind(&filter.outcome)
        .bind(i64::from(limit))
        .fetch_all(state.pool())
        .await
        .map_err(|error| unavailable(&error))?;
    rows.iter()
        .map(entry_of)
        .collect::<Result<_, _>>()
        .map_err(|error| unavailable(&error))
}

fn entry_of(row: &sqlx::sqlite::SqliteRow) -> Result<Entry, sqlx::Error> {
    use sqlx::Row as _;
    Ok(Entry {
        time: row.try_get(0)?,
        tenant: row.try_get(1)?,
        issuer: row.try_get(2)?,
        subject: row.try_get(3)?,
        client_id: row.try_get(4)?,
        credential: row.try_get(5)?,
        interface: row.try_get(6)?,
        action: row.try_get(7)?,
        target: row.try_get(8)?,
        outcome: row.try_get(9)?,
        detail: row.try_get(10)?,
    })
}

async fn write(state: &State, entries: &[Entry]) -> Result<(), sqlx::Error> {
    const SQL: &str = "
INSERT INTO audit_log (time, tenant, issuer, subject, client_id, credential, interface, action, target, outcome, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    let mut transaction = state.pool().begin().await?;
    for entry in entries {
        sqlx::query(SQL)
            .bind(entry.time)
            .bind(&entry.tenant)
            .bind(&entry.issuer)
            .bind(&entry.subject)
            .bind(&entry.client_id)
            .bind(&entry.credential)
            .bind(&entry.interface)
            .bind(&entry.action)
            .bind(&entry.target)
            .bind(&entry.outcome)
            .bind(&entry.detail)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await
}

/// Takes entries from the queue and writes them, many at a time.
struct Writer {
    state: State,
    clock: Arc<dyn Clock>,
    dropped: Arc<AtomicU64>,
    reported: u64,
    retention_days: u32,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let mut messages = Vec::with_capacity(BATCH_MAX);
        let mut expiry = tokio::time::interval(EXPIRY_INTERVAL);
        loop {
            tokio::select! {
                // In this order, or a busy log would never be cleaned.
                biased;
                _ = expiry.tick() => self.expire().await,
                n = queue.recv_many(&mut messages, BATCH_MAX) => {
                    if n == 0 {
                        return;
                    }
                    self.write_all(&mut messages).await;
                }
            }
        }
    }

    async fn write_all(&mut self, messages: &mut Vec<Message>) {
        let mut entries = Vec::with_capacity(messages.len() + 1);
        let mut waiting = Vec::new();
        for message in messages.drain(..) {
            match message {
                Message::Entry(entry) => entries.push(*entry),
                Message::Flush(done) => waiting.push(done),
            }
        }
        let dropped = self.dropped.load(Ordering::Relaxed);
        if let Some(gap) = self.gap(dropped, entries.last()) {
            entries.push(gap);
        }
        if !entries.is_empty() {
            match write(&self.state, &entries).await {
                Ok(()) => self.reported = dropped,
                Err(error) => {
                    let lost = u64::try_from(entries.len()).unwrap_or(u64::MAX);
                    self.dropped.fetch_add(lost, Ordering::Relaxed);
                    tracing::warn!(%error, lost, "entries of the audit log could not be written");
                }
            }
        }
        for done in waiting {
            let _ = done.send(());
        }
    }

    /// An entry that says how many are missing, in the log of the tenant that was being recorded.
    fn gap(&self, dropped: u64, beside: Option<&Entry>) -> Option<Entry> {
        let missing = dropped.checked_sub(self.reported).filter(|missing| *missing > 0)?;
        let beside = beside?;
        Some(Entry {
            time: self.clock.now_ns().div_euclid(1_000),
            tenant: beside.tenant.clone(),
            issuer: crate::LOCAL_ISSUER.to_owned(),
            subject: crate::LOCAL_ISSUER.to_owned(),
            client_id: None,
            credential: None,
            interface: beside.interface.clone(),
            action: "audit.gap".to_owned(),
            target: None,
            outcome: Outcome::Failed.name().to_owned(),
            detail: Some(format!("{missing} entries of reads were dropped by this server")),
        })
    }

    async fn expire(&self) {
        if self.retention_days == 0 {
            return;
        }
        let kept_us = i64::from(self.retention_days).saturating_mul(DAY_US);
        let oldest = self.clock.now_ns().div_euclid(1_000).saturating_sub(kept_us);
        let removed = sqlx::query("DELETE FROM audit_log WHERE time < $1")
            .bind(oldest)
            .execute(self.state.pool())
            .await;
        if let Err(error) = removed {
            tracing::warn!(%error, "old entries of the audit log could not be removed");
        }
    }
}

fn unavailable(error: &sqlx::Error) -> AccessError {
    AccessError::Unavailable(format!("the audit log cannot be used now: {error}"))
}

/// The text up to a bound, cut between characters, without control characters and keys: what a caller named is hostile,
/// or a key that was pasted in the wrong place.
fn cut(text: &str, bytes_max: usize) -> String {
    let text = keys::without_secrets(text);
    let text = &text[..text.floor_char_boundary(bytes_max)];
    match text.chars().any(char::is_control) {
        true => text.replace(char::is_control, " "),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
