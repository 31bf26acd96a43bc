//! [`TaskStore`]: tasks in the control state. Every change is one statement or one transaction, on stable storage
//! when it returns.
//!
//! Guarantees: a terminal task never changes (each update names the live states in its WHERE); another owner's task
//! is not found, as an unknown one is not; a live task is run by one process at a time, which holds a lease on it
//! and loses it with its life. It does not run anything: that is [`Tasks`](super::Tasks).

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{InputRequest, JsonObject};
use serde_json::Value;
use spanledger_access::Principal;
use spanledger_model::Clock;
use spanledger_state::{SqlitePool, State, sqlx};

use super::record::{Ending, MadeFor, Record, object, status_name, status_of};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Step;
use crate::shared::{hex, owner_digest};

/// Random bytes of an id: 160 bits, so that none is ever guessed.
const ID_BYTES: usize = 20;
/// Tasks on one page of a list.
const PAGE: i64 = 50;
/// States in which a task may still change.
const LIVE: &str = "status IN ('working', 'input_required')";

/// How many tasks there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskLimits {
    /// Running ones of one owner.
    pub(crate) running_per_owner: i64,
    /// Kept ones of one owner, finished ones included.
    pub(crate) kept_per_owner: i64,
    /// Kept ones of everybody.
    pub(crate) kept: i64,
}

/// Who owns tasks: a digest of [`Principal::owner`], and the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    digest: String,
    tenant: String,
}

impl Owner {
    pub(crate) fn of(principal: &Principal) -> Self {
        Self {
            digest: owner_digest(principal),
            tenant: principal.tenant().as_str().to_owned(),
        }
    }
}

/// A task to be made.
#[derive(Debug)]
pub(crate) struct NewTask<'t> {
    pub(crate) owner: &'t Owner,
    pub(crate) tool: &'t str,
    pub(crate) arguments: Option<&'t JsonObject>,
    pub(crate) made_for: MadeFor,
    pub(crate) ttl: Duration,
    pub(crate) step: Option<&'t Step>,
}

/// The table of tasks. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct TaskStore {
    pool: SqlitePool,
    clock: Arc<dyn Clock>,
    instance: Arc<str>,
    lease: Duration,
}

type Row = (
    String,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    i64,
    i64,
    i64,
    i64,
);
const COLUMNS: &str =
    "id, tool, arguments, status, status_message, result, error, lease_until, created_at, updated_at, expires_at";

impl TaskStore {
    /// The tasks of a control state, as one process of it.
    pub(crate) fn new(state: &State, clock: Arc<dyn Clock>, lease: Duration) -> Self {
        Self {
            pool: state.pool().clone(),
            clock,
            instance: random_id().into(),
            lease,
        }
    }

    /// Makes a task that this process runs. On stable storage when it returns.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) where a limit is reached.
    pub(crate) async fn create(&self, new: NewTask<'_>, limits: TaskLimits) -> Result<Record> {
        let (id, now) = (random_id(), self.now_us());
        let made = sqlx::query(sqlx::AssertSqlSafe(format!(
            "INSERT INTO tasks (id, owner, tenant, tool, arguments, era, status, status_message, progress,
                progress_total, instance, lease_until, created_at, updated_at, expires_at)
             SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT),
                CAST($6 AS TEXT), 'working', CAST($7 AS TEXT), CAST($8 AS DOUBLE PRECISION),
                CAST($9 AS DOUBLE PRECISION), CAST($10 AS TEXT), CAST($11 AS BIGINT), CAST($12 AS BIGINT),
                CAST($12 AS BIGINT), CAST($13 AS BIGINT)
             WHERE (SELECT count(*) FROM tasks WHERE owner = $2 AND {LIVE}) < $14
               AND (SELECT count(*) FROM tasks WHERE owner = $2 AND expires_at > $12) < $15
               AND (SELECT count(*) FROM tasks) < $16"
        )))
        .bind(&id)
        .bind(&new.owner.digest)
        .bind(&new.owner.tenant)
        .bind(new.tool)
        .bind(arguments_text(new.arguments))
        .bind(new.made_for.as_str())
        .bind(new.step.and_then(status_message))
        .bind(new.step.map(|step| step.done))
        .bind(new.step.and_then(|step| step.total))
        .bind(&*self.instance)
        .bind(now + micros(self.lease))
        .bind(now)
        .bind(now.saturating_add(micros(new.ttl)))
        .bind(limits.running_per_owner)
        .bind(limits.kept_per_owner)
        .bind(limits.kept)
        .execute(&self.pool)
        .await
        .map_err(unreachable_store)?;
        if made.rows_affected() == 0 {
            return Err(Error::refused(
                ErrorKind::Busy,
                format!(
                    "too many tasks: at most {} run at once and {} are kept; cancel one or wait",
                    limits.running_per_owner, limits.kept_per_owner
                ),
            ));
        }
        let record = self.get(new.owner, &id).await?;
        record.ok_or_else(|| Error::refused(ErrorKind::Internal, "the task was not kept"))
    }

    /// A task of this owner. `None` where there is none, where it is another's, and where it expired.
    pub(crate) async fn get(&self, owner: &Owner, id: &str) -> Result<Option<Record>> {
        let now = self.now_us();
        let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM tasks WHERE id = $1 AND owner = $2 AND (expires_at > $3 OR {LIVE})"
        )))
        .bind(id)
        .bind(&owner.digest)
        .bind(now)
        .fetch_optional(&self.pool)
        .await
        .map_err(unreachable_store)?;
        let Some(row) = row else { return Ok(None) };
        let mut record = record_of(row, now);
        if record.ending.is_none() {
            let open: Vec<(String, String)> = sqlx::query_as(
                "SELECT key, request FROM task_inputs WHERE task_id = $1 AND response IS NULL ORDER BY key",
            )
            .bind(id)
            .fetch_all(&self.pool)
            .await
            .map_err(unreachable_store)?;
            let read = |(key, request): (String, String)| Some((key, serde_json::from_str(&request).ok()?));
            record.open_inputs = open.into_iter().filter_map(read).collect();
        }
        Ok(Some(record))
    }

    /// A page of this owner's tasks, newest first, without results, and where the next page begins.
    pub(crate) async fn list(&self, owner: &Owner, after: Option<(i64, &str)>) -> Result<Vec<Record>> {
        let now = self.now_us();
        let (before, before_id) = after.unwrap_or((i64::MAX, ""));
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM tasks WHERE owner = $1 AND (expires_at > $2 OR {LIVE})
               AND (created_at < $3 OR (created_at = $3 AND id > $4))
             ORDER BY created_at DESC, id LIMIT {PAGE}"
        )))
        .bind(&owner.digest)
        .bind(now)
        .bind(before)
        .bind(before_id)
        .fetch_all(&self.pool)
        .await
        .map_err(unreachable_store)?;
        Ok(rows.into_iter().map(|row| record_of(row, now)).collect())
    }

    /// True where a page of this length may be followed by another.
    pub(crate) fn is_full_page(n: usize) -> bool {
        i64::try_from(n).is_ok_and(|n| n >= PAGE)
    }

    /// The newest task of the same call that this owner, who knows no tasks, has not had an answer of.
    pub(crate) async fn find_waiting(
        &self,
        owner: &Owner,
        tool: &str,
        arguments: Option<&JsonObject>,
    ) -> Result<Option<String>> {
        let found: Option<(String,)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT id FROM tasks WHERE owner = $1 AND era = 'waiting' AND tool = $2 AND arguments = $3
               AND status <> 'cancelled' AND (expires_at > $4 OR {LIVE}) ORDER BY created_at DESC LIMIT 1"
        )))
        .bind(&owner.digest)
        .bind(tool)
        .bind(arguments_text(arguments))
        .bind(self.now_us())
        .fetch_optional(&self.pool)
        .await
        .map_err(unreachable_store)?;
        Ok(found.map(|(id,)| id))
    }

    /// The answer of a waiting call was given: the next call of the same kind is a new one.
    pub(crate) async fn told(&self, owner: &Owner, id: &str) -> Result<()> {
        sqlx::query("UPDATE tasks SET era = 'told' WHERE id = $1 AND owner = $2 AND era = 'waiting'")
            .bind(id)
            .bind(&owner.digest)
            .execute(&self.pool)
            .await
            .map_err(unreachable_store)?;
        Ok(())
    }

    /// How far a task is. Nothing happens to one that ended.
    pub(crate) async fn progress(&self, id: &str, step: &Step) -> Result<()> {
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE tasks SET status_message = $1, progress = $2, progress_total = $3, updated_at = $4
             WHERE id = $5 AND {LIVE}"
        )))
        .bind(status_message(step))
        .bind(step.done)
        .bind(step.total)
        .bind(self.now_us())
        .bind(id)
        .execute(&self.pool)
        .await
        .map_err(unreachable_store)?;
        Ok(())
    }

    /// Puts questions to the client. A task that is run again asks the same ones, which may be answered already.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) where a key was used for another question, or the task ended.
    pub(crate) async fn ask(&self, id: &str, questions: &[(String, InputRequest)]) -> Result<()> {
        let mut change = self.pool.begin().await.map_err(unreachable_store)?;
        let asked = sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE tasks SET status = 'input_required', updated_at = $1 WHERE id = $2 AND {LIVE}"
        )))
        .bind(self.now_us())
        .bind(id)
        .execute(&mut *change)
        .await
        .map_err(unreachable_store)?;
        if asked.rows_affected() == 0 {
            return Err(Error::refused(ErrorKind::Internal, "the task has ended"));
        }
        for (key, request) in questions {
            let request = Value::Object(object(request)).to_string();
            sqlx::query(
                "INSERT INTO task_inputs (task_id, key, request) VALUES ($1, $2, $3) ON CONFLICT (task_id, key) DO NOTHING",
            )
            .bind(id)
            .bind(key)
            .bind(&request)
            .execute(&mut *change)
            .await
            .map_err(unreachable_store)?;
            let (kept,): (String,) = sqlx::query_as("SELECT request FROM task_inputs WHERE task_id = $1 AND key = $2")
                .bind(id)
                .bind(key)
                .fetch_one(&mut *change)
                .await
                .map_err(unreachable_store)?;
            if kept != request {
                return Err(Error::refused(
                    ErrorKind::Internal,
                    "a key of inputRequests was used for another question",
                ));
            }
        }
        settle_inputs(&mut change, id).await?;
        change.commit().await.map_err(unreachable_store)
    }

    /// What was answered to these questions; `None` while one is open.
    pub(crate) async fn answers(&self, id: &str, keys: &[String]) -> Result<Option<Vec<Value>>> {
        let mut answers = Vec::new();
        for key in keys {
            let row: Option<(Option<String>,)> =
                sqlx::query_as("SELECT response FROM task_inputs WHERE task_id = $1 AND key = $2")
                    .bind(id)
                    .bind(key)
                    .fetch_optional(&self.pool)
                    .await
                    .map_err(unreachable_store)?;
            let Some((Some(response),)) = row else { return Ok(None) };
            answers.push(serde_json::from_str(&response).unwrap_or_default());
        }
        Ok(Some(answers))
    }

    /// Takes a client's answers: those of open questions count, others are ignored. False where there is no such task.
    pub(crate) async fn update(&self, owner: &Owner, id: &str, responses: &[(&str, &Value)]) -> Result<bool> {
        let Some(record) = self.get(owner, id).await? else {
            return Ok(false);
        };
        if record.ending.is_some() {
            return Ok(true);
        }
        let mut change = self.pool.begin().await.map_err(unreachable_store)?;
        for (key, response) in responses {
            sqlx::query("UPDATE task_inputs SET response = $1 WHERE task_id = $2 AND key = $3 AND response IS NULL")
                .bind(response.to_string())
                .bind(id)
                .bind(key)
                .execute(&mut *change)
                .await
                .map_err(unreachable_store)?;
        }
        settle_inputs(&mut change, id).await?;
        change.commit().await.map_err(unreachable_store)?;
        Ok(true)
    }

    /// Ends a live task; false where it had ended already, which stands. It is kept for `retention` at least.
    pub(crate) async fn finish(&self, id: &str, ending: &Ending, retention: Duration) -> Result<bool> {
        let now = self.now_us();
        let (result, error) = match ending {
            Ending::Completed(result) => (Some(text_of(result)), None),
            Ending::Failed(error) => (None, Some(text_of(error))),
            Ending::Cancelled => (None, None),
        };
        let ended = sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE tasks SET status = $1, result = $2, error = $3, updated_at = $4, status_message = NULL,
                expires_at = CASE WHEN expires_at > $5 THEN expires_at ELSE $5 END
             WHERE id = $6 AND {LIVE}"
        )))
        .bind(status_name(ending.status()))
        .bind(result)
        .bind(error)
        .bind(now)
        .bind(now.saturating_add(micros(retention)))
        .bind(id)
        .execute(&self.pool)
        .await
        .map_err(unreachable_store)?;
        Ok(ended.rows_affected() > 0)
    }

    /// Makes this process the one that runs an orphan; false where another was faster or it ended.
    pub(crate) async fn take_over(&self, id: &str) -> Result<bool> {
        let now = self.now_us();
        let taken = sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE tasks SET instance = $1, lease_until = $2, updated_at = $3
             WHERE id = $4 AND lease_until <= $3 AND {LIVE}"
        )))
        .bind(&*self.instance)
        .bind(now + micros(self.lease))
        .bind(now)
        .bind(id)
        .execute(&self.pool)
        .await
        .map_err(unreachable_store)?;
        Ok(taken.rows_affected() > 0)
    }

    /// Moves this process's leases on, and names its tasks that are still live.
    pub(crate) async fn renew(&self) -> Result<Vec<String>> {
        let live: Vec<(String,)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "UPDATE tasks SET lease_until = $1 WHERE instance = $2 AND {LIVE} RETURNING id"
        )))
        .bind(self.now_us() + micros(self.lease))
        .bind(&*self.instance)
        .fetch_all(&self.pool)
        .await
        .map_err(unreachable_store)?;
        Ok(live.into_iter().map(|(id,)| id).collect())
    }

    /// Gives this process's tasks back, so that the next process need not wait for the leases to end.
    pub(crate) async fn release(&self) -> Result<()> {
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE tasks SET lease_until = 0 WHERE instance = $1 AND {LIVE}"
        )))
        .bind(&*self.instance)
        .execute(&self.pool)
        .await
        .map_err(unreachable_store)?;
        Ok(())
    }

    /// Id and tool of live tasks that no process runs.
    pub(crate) async fn orphans(&self) -> Result<Vec<(String, String)>> {
        sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT id, tool FROM tasks WHERE lease_until <= $1 AND {LIVE} LIMIT {PAGE}"
        )))
        .bind(self.now_us())
        .fetch_all(&self.pool)
        .await
        .map_err(unreachable_store)
    }

    /// Fails live tasks whose time is over, and forgets ended ones whose time is over.
    pub(crate) async fn expire(&self, ending: &Ending, retention: Duration) -> Result<()> {
        let now = self.now_us();
        let late: Vec<(String,)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT id FROM tasks WHERE expires_at <= $1 AND {LIVE} LIMIT {PAGE}"
        )))
        .bind(now)
        .fetch_all(&self.pool)
        .await
        .map_err(unreachable_store)?;
        for (id,) in late {
            self.finish(&id, ending, retention).await?;
        }
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "DELETE FROM tasks WHERE expires_at <= $1 AND NOT ({LIVE})"
        )))
        .bind(now)
        .execute(&self.pool)
        .await
        .map_err(unreachable_store)?;
        Ok(())
    }

    pub(crate) fn now_us(&self) -> i64 {
        self.clock.now_ns().div_euclid(1_000)
    }
}

/// A task without open questions works on.
async fn settle_inputs(change: &mut sqlx::SqliteConnection, id: &str) -> Result<()> {
    sqlx::query(
        "UPDATE tasks SET status = 'working' WHERE id = $1 AND status = 'input_required'
           AND NOT EXISTS (SELECT 1 FROM task_inputs WHERE task_id = $1 AND response IS NULL)",
    )
    .bind(id)
    .execute(change)
    .await
    .map_err(unreachable_store)?;
    Ok(())
}

fn record_of(row: Row, now: i64) -> Record {
    let (id, tool, arguments, status, message, result, error, lease_until, created_at, updated_at, expires_at) = row;
    let read = |text: Option<String>| text.and_then(|text| serde_json::from_str::<JsonObject>(&text).ok());
    let status = status_of(&status);
    let ending = match status {
        rmcp::model::TaskStatus::Completed => Some(Ending::Completed(read(result).unwrap_or_default())),
        rmcp::model::TaskStatus::Failed => Some(Ending::Failed(read(error).unwrap_or_default())),
        rmcp::model::TaskStatus::Cancelled => Some(Ending::Cancelled),
        _ => None,
    };
    Record {
        id,
        tool,
        arguments: read(Some(arguments)),
        status,
        status_message: message,
        is_orphan: ending.is_none() && lease_until <= now,
        ending,
        open_inputs: Vec::new(),
        created_at_us: created_at,
        updated_at_us: updated_at,
        expires_at_us: expires_at,
        read_at_us: now,
    }
}

/// How far, for a person: "reads lines (1200 of 5000)".
fn status_message(step: &Step) -> Option<String> {
    let message = crate::text::clean(step.message.as_deref().unwrap_or_default());
    let counts = match step.total {
        Some(total) => format!("{} of {total}", step.done),
        None if step.done > 0.0 => step.done.to_string(),
        None => return (!message.is_empty()).then_some(message),
    };
    if message.is_empty() {
        return Some(counts);
    }
    Some(format!("{message} ({counts})"))
}

fn random_id() -> String {
    hex(&rand::random::<[u8; ID_BYTES]>())
}

fn arguments_text(arguments: Option<&JsonObject>) -> String {
    arguments.map_or_else(|| "null".to_owned(), text_of)
}

fn text_of(object: &JsonObject) -> String {
    Value::Object(object.clone()).to_string()
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn unreachable_store(source: sqlx::Error) -> Error {
    Error::new(
        ErrorKind::Internal,
        "tasks cannot be read or written now; the operator finds the cause in the server's log",
        source,
    )
}
