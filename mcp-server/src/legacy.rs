//! Tasks as 2025-11-25 had them: a thin layer in front of rmcp, which dropped them.
//!
//! There the client decides, by `params.task` of a `tools/call`; a tool says `execution.taskSupport`; the answer is
//! fetched by `tasks/result`, which waits. Each message that means a task is answered here from the same store as
//! the extension's; every other one goes on to rmcp ([`answer`] gives `None`), and what rmcp says of capabilities
//! and tools is completed by [`decorate`]. Messages of 2026-07-28 never come here.

use std::time::Duration;

use rmcp::model::{ErrorCode, ErrorData, JsonObject};
use serde_json::{Value, json};
use spanledger_access::Principal;

use crate::tasks::record::Record;
use crate::tasks::{Job, TaskSupport, Tasks};

/// The `_meta` key that ties an answer to its task.
const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

/// True for a request that [`answer`] answers.
pub(crate) fn is_about_tasks(tasks: &Tasks, message: &Value) -> bool {
    let params = &message["params"];
    match message["method"].as_str().unwrap_or_default() {
        "tools/call" => {
            params.get("task").is_some_and(Value::is_object)
                || tasks.support(params["name"].as_str().unwrap_or_default()) == TaskSupport::Required
        }
        "tasks/get" | "tasks/result" | "tasks/list" | "tasks/cancel" => true,
        _ => false,
    }
}

/// The whole JSON-RPC response of a request that is about tasks; `None` for any other message. `tasks/result` waits
/// for the task's end: dropping the future ends the waiting, not the task.
pub(crate) async fn answer(tasks: &Tasks, principal: &Principal, message: &Value) -> Option<Value> {
    let id = message.get("id").filter(|id| id.is_string() || id.is_number())?;
    let params = &message["params"];
    let result = match message["method"].as_str()? {
        "tools/call" if params.get("task").is_some_and(Value::is_object) => start(tasks, principal, params).await,
        "tools/call" => {
            let tool = params["name"].as_str().unwrap_or_default();
            if tasks.support(tool) != TaskSupport::Required {
                return None;
            }
            Err(not_found(format!(
                "{tool} runs as a task only: send `task` with the call"
            )))
        }
        "tasks/get" => found(tasks, principal, params).await.map(|record| record.legacy()),
        "tasks/result" => result(tasks, principal, params).await,
        "tasks/list" => list(tasks, principal, params).await,
        "tasks/cancel" => cancel(tasks, principal, params).await,
        _ => return None,
    };
    Some(match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error }),
    })
}

/// Completes rmcp's response to `initialize` (the capability `tasks`) and `tools/list` (`execution.taskSupport`).
pub(crate) fn decorate(tasks: &Tasks, method: &str, response: &mut Value) {
    let Some(result) = response.get_mut("result").filter(|result| result.is_object()) else {
        return;
    };
    match method {
        "initialize" if is_of_tasks(result["protocolVersion"].as_str()) => {
            result["capabilities"]["tasks"] =
                json!({ "list": {}, "cancel": {}, "requests": { "tools": { "call": {} } } });
        }
        "tools/list" => {
            for tool in result["tools"].as_array_mut().into_iter().flatten() {
                let support = match tasks.support(tool["name"].as_str().unwrap_or_default()) {
                    TaskSupport::Forbidden => continue,
                    TaskSupport::Optional => "optional",
                    TaskSupport::Required => "required",
                };
                tool["execution"] = json!({ "taskSupport": support });
            }
        }
        _ => {}
    }
}

/// Tasks came with this revision; older clients know nothing of them.
fn is_of_tasks(version: Option<&str>) -> bool {
    version == Some("2025-11-25")
}

async fn start(tasks: &Tasks, principal: &Principal, params: &Value) -> Result<Value, ErrorData> {
    let tool = params["name"].as_str().unwrap_or_default();
    if tasks.support(tool) == TaskSupport::Forbidden {
        return Err(not_found(format!("{tool} does not run as a task: leave out `task`")));
    }
    let ttl = match &params["task"]["ttl"] {
        Value::Null => None,
        ttl => Some(
            ttl.as_u64()
                .filter(|ms| *ms > 0)
                .map(Duration::from_millis)
                .ok_or_else(|| {
                    ErrorData::invalid_params("`task.ttl` is a whole number of milliseconds above 0, or absent", None)
                })?,
        ),
    };
    let arguments: Option<JsonObject> = params["arguments"].as_object().cloned();
    let record = tasks.start(Job::new(principal.clone(), tool, arguments), ttl).await?;
    Ok(json!({ "task": record.legacy(), "_meta": related(&record) }))
}

async fn result(tasks: &Tasks, principal: &Principal, params: &Value) -> Result<Value, ErrorData> {
    let (record, ending) = tasks.ended(principal, task_id(params)?).await?;
    let mut result = ending.answer()?;
    // a field of the later era
    result.remove("resultType");
    let meta = result.entry("_meta").or_insert_with(|| json!({}));
    if let (Value::Object(meta), Value::Object(related)) = (meta, related(&record)) {
        meta.extend(related);
    }
    Ok(Value::Object(result))
}

async fn list(tasks: &Tasks, principal: &Principal, params: &Value) -> Result<Value, ErrorData> {
    let (records, next) = tasks.list(principal, params["cursor"].as_str()).await?;
    let mut page = json!({ "tasks": records.iter().map(Record::legacy).collect::<Vec<_>>() });
    if let Some(next) = next {
        page["nextCursor"] = Value::from(next);
    }
    Ok(page)
}

async fn cancel(tasks: &Tasks, principal: &Principal, params: &Value) -> Result<Value, ErrorData> {
    let id = task_id(params)?;
    let before = tasks.find(principal, id).await?;
    if before.ending.is_some() {
        return Err(ErrorData::invalid_params(
            "the task has ended; there is nothing to cancel",
            None,
        ));
    }
    Ok(tasks.cancel(principal, id).await?.legacy())
}

async fn found(tasks: &Tasks, principal: &Principal, params: &Value) -> Result<Record, ErrorData> {
    tasks.find(principal, task_id(params)?).await
}

fn task_id(params: &Value) -> Result<&str, ErrorData> {
    params["taskId"]
        .as_str()
        .ok_or_else(|| ErrorData::invalid_params("`taskId` is missing", None))
}

fn related(record: &Record) -> Value {
    json!({ RELATED_TASK: { "taskId": record.id } })
}

fn not_found(message: String) -> ErrorData {
    ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None)
}
