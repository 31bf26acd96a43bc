//! [`Record`]: one task as the control state holds it, and how both eras of the protocol show it.
//!
//! The 2026-07-28 extension and the 2025-11-25 core name the same states and put their fields in other places; the
//! record is neither, so that one store answers both. What a client sees of time is RFC 3339 and milliseconds.

use rmcp::model::{
    CallToolResult, DetailedTask, ErrorCode, ErrorData, InputRequest, InputRequests, JsonObject, Task, TaskPayload,
    TaskStatus,
};
use serde_json::{Value, json};
use spanledger_query::time::format_instant;

/// First poll, and the ones of a task's first seconds: most work ends there.
const POLL_FIRST_MS: u64 = 500;
/// Polls of a task older than [`POLL_LATER_AFTER_US`].
const POLL_LATER_MS: u64 = 2_000;
/// Polls of a task older than [`POLL_LATE_AFTER_US`]: a client that waits for minutes need not ask every second.
const POLL_LATE_MS: u64 = 5_000;
const POLL_LATER_AFTER_US: i64 = 15_000_000;
const POLL_LATE_AFTER_US: i64 = 120_000_000;

/// Which kind of client a task was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MadeFor {
    /// Declares the extension `io.modelcontextprotocol/tasks`.
    Modern,
    /// Sent `params.task`, as 2025-11-25 has it.
    Legacy,
    /// Knows no tasks: the call took longer than it would have waited. Becomes `told` when the answer was seen.
    Waiting,
}

impl MadeFor {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Modern => "modern",
            Self::Legacy => "legacy",
            Self::Waiting => "waiting",
        }
    }
}

/// One task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) tool: String,
    pub(crate) arguments: Option<JsonObject>,
    pub(crate) status: TaskStatus,
    pub(crate) status_message: Option<String>,
    /// What a terminal task ended with.
    pub(crate) ending: Option<Ending>,
    /// Questions that are not answered yet.
    pub(crate) open_inputs: Vec<(String, Value)>,
    /// True where no process runs it any more.
    pub(crate) is_orphan: bool,
    pub(crate) created_at_us: i64,
    pub(crate) updated_at_us: i64,
    pub(crate) expires_at_us: i64,
    /// When this was read.
    pub(crate) read_at_us: i64,
}

/// How a task ends, as it is stored: terminal states are never left.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ending {
    /// The tool answered, be it with an error of its own.
    Completed(JsonObject),
    /// The request failed as a JSON-RPC error.
    Failed(JsonObject),
    /// The client wanted no more.
    Cancelled,
}

impl Ending {
    pub(crate) fn status(&self) -> TaskStatus {
        match self {
            Self::Completed(_) => TaskStatus::Completed,
            Self::Failed(_) => TaskStatus::Failed,
            Self::Cancelled => TaskStatus::Cancelled,
        }
    }

    /// What the call itself would have been answered.
    pub(crate) fn of(answer: Result<CallToolResult, ErrorData>) -> Self {
        match answer {
            Ok(result) => Self::Completed(object(&result)),
            Err(error) => Self::Failed(object(&error)),
        }
    }

    /// The answer of the call; a cancelled one is an error.
    pub(crate) fn answer(&self) -> Result<JsonObject, ErrorData> {
        match self {
            Self::Completed(result) => Ok(result.clone()),
            Self::Failed(error) => Err(serde_json::from_value(Value::Object(error.clone()))
                .unwrap_or_else(|_| ErrorData::internal_error("the task failed", None))),
            Self::Cancelled => Err(ErrorData::new(
                ErrorCode::INTERNAL_ERROR,
                "the task was cancelled",
                None,
            )),
        }
    }
}

impl Record {
    /// The 2026-07-28 form without result.
    pub(crate) fn task(&self) -> Task {
        let mut task = Task::new(
            self.id.clone(),
            self.status,
            format_instant(self.created_at_us.saturating_mul(1_000)),
            format_instant(self.updated_at_us.saturating_mul(1_000)),
        );
        task.status_message.clone_from(&self.status_message);
        task.ttl_ms = Some(self.ttl_ms());
        task.poll_interval_ms = Some(self.poll_interval_ms());
        task
    }

    /// The 2026-07-28 form with what belongs to its state.
    pub(crate) fn detailed(&self) -> DetailedTask {
        let payload = match (&self.ending, self.open_inputs.is_empty()) {
            (Some(Ending::Completed(result)), _) => TaskPayload::Completed { result: result.clone() },
            (Some(Ending::Failed(error)), _) => TaskPayload::Failed { error: error.clone() },
            (Some(Ending::Cancelled), _) => TaskPayload::Cancelled,
            (None, true) => TaskPayload::Working,
            (None, false) => TaskPayload::InputRequired {
                input_requests: self.input_requests(),
            },
        };
        DetailedTask::new(self.task(), payload)
    }

    /// The 2025-11-25 form. There an answer with `isError` counts as failed.
    pub(crate) fn legacy(&self) -> Value {
        let status = match &self.ending {
            Some(Ending::Completed(result)) if result.get("isError") == Some(&Value::Bool(true)) => TaskStatus::Failed,
            _ => self.status,
        };
        let mut task = json!({
            "taskId": self.id,
            "status": status,
            "createdAt": format_instant(self.created_at_us.saturating_mul(1_000)),
            "lastUpdatedAt": format_instant(self.updated_at_us.saturating_mul(1_000)),
            "ttl": self.ttl_ms(),
            "pollInterval": self.poll_interval_ms(),
        });
        if let Some(message) = &self.status_message {
            task["statusMessage"] = Value::from(message.as_str());
        }
        task
    }

    fn input_requests(&self) -> InputRequests {
        let read = |(key, request): &(String, Value)| {
            let request: InputRequest = serde_json::from_value(request.clone()).ok()?;
            Some((key.clone(), request))
        };
        self.open_inputs.iter().filter_map(read).collect()
    }

    fn ttl_ms(&self) -> u64 {
        u64::try_from((self.expires_at_us - self.created_at_us) / 1_000).unwrap_or(0)
    }

    fn poll_interval_ms(&self) -> u64 {
        match self.read_at_us - self.created_at_us {
            age if age > POLL_LATE_AFTER_US => POLL_LATE_MS,
            age if age > POLL_LATER_AFTER_US => POLL_LATER_MS,
            _ => POLL_FIRST_MS,
        }
    }
}

/// The state of this name; one that a newer version wrote counts as failed.
pub(crate) fn status_of(name: &str) -> TaskStatus {
    match name {
        "working" => TaskStatus::Working,
        "input_required" => TaskStatus::InputRequired,
        "completed" => TaskStatus::Completed,
        "cancelled" => TaskStatus::Cancelled,
        _ => TaskStatus::Failed,
    }
}

/// The name of a state, in messages and in the control state.
pub(crate) const fn status_name(status: TaskStatus) -> &'static str {
    match status {
        TaskStatus::Working => "working",
        TaskStatus::InputRequired => "input_required",
        TaskStatus::Completed => "completed",
        TaskStatus::Cancelled => "cancelled",
        _ => "failed",
    }
}

/// A value's JSON object; what is none has no fields.
pub(crate) fn object(value: &impl serde::Serialize) -> JsonObject {
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => fields,
        _ => JsonObject::new(),
    }
}
