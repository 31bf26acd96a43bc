//! Tasks: calls that take longer than a client waits, run in the background and answered when asked for.
//!
//! ```text
//! tools/call ─► run ─┬─ ends within the inline window ─────────────► the answer, no task
//!                    ├─ client knows tasks ─► record (durable) ────► CreateTaskResult, then tasks/get
//!                    └─ client does not ─► waits longer ─► record ─► "busy" with a link, spanledger://tasks/{id}
//! ```
//!
//! One durable store ([`store`]) answers both eras: the 2026-07-28 extension through rmcp's hooks, the 2025-11-25
//! core through [`legacy`](crate::legacy). A task's process holds a lease on it; when that ends with the process, the
//! task is an orphan. An orphan of a tool that only reads is **resumed when its owner asks for it**: run again from
//! the stored arguments as the principal of that request, whose credential, scopes and row filter were checked a
//! moment ago. So no stored credential exists, a revoked one runs nothing, and what nobody asks for costs nothing.
//! An orphan of a tool that changes something fails with "interrupted".
//!
//! | module | what it holds |
//! |---|---|
//! | `record` | one task, and how each era shows it |
//! | `store` | the tables: durable, owned, terminal states immutable |
//! | `run` | the background work: progress, questions, cancellation |
//!
//! What a tool does is not known here: a [`Runner`] runs it.

pub(crate) mod record;
mod run;
pub(crate) mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rmcp::model::{
    CallToolResult, ClientCapabilities, ContentBlock, CreateTaskResult, ErrorCode, ErrorData, GetTaskResult,
    InputRequests, InputResponses, JsonObject, Resource,
};
use serde_json::{Value, json};
use spanledger_access::{Principal, Scopes};
use spanledger_model::Clock;
use spanledger_state::State;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind};
use crate::progress::Progress;
use record::{Ending, MadeFor, Record};
pub(crate) use run::Questions;
use run::{Asks, Running, Work};
use store::{NewTask, Owner, TaskLimits, TaskStore};

/// How long a process may be silent before its tasks are orphans: three heartbeats, and a busy disk.
const LEASE: Duration = Duration::from_secs(10);
/// How often a process says that it lives, and looks for tasks that another process cancelled.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// Heartbeats from one sweep to the next.
const SWEEP_EVERY: u32 = 20;
/// Running tasks of one owner: a quarter of the engine's turns, so that nobody waits for one who asks a lot.
const RUNNING_PER_OWNER: i64 = 4;
/// Tasks of one owner, finished ones included.
const KEPT_PER_OWNER: i64 = 500;
/// Tasks of everybody: with results of 256 KiB at most 5 GiB, in practice a few MiB.
const KEPT: i64 = 20_000;
/// A tool's answer is far smaller; what is larger belongs into an artefact.
const RESULT_BYTES_MAX: usize = 256 << 10;
/// Address of a task as a resource.
pub(crate) const URI: &str = "spanledger://tasks/";

/// Times of tasks, for the operator to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskSettings {
    /// From a task's making until it is forgotten, where the client asks for nothing else.
    pub ttl: Duration,
    /// The longest that a client may ask for.
    pub ttl_max: Duration,
    /// How long an answer is kept at least, counted from the end of the work.
    pub retention: Duration,
    /// How long a client that knows tasks waits for an answer before it gets a task.
    pub inline_window: Duration,
    /// How long a client that knows no tasks waits: most give up after a minute.
    pub wait_window: Duration,
}

impl Default for TaskSettings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(3_600),
            ttl_max: Duration::from_secs(24 * 3_600),
            retention: Duration::from_secs(900),
            inline_window: Duration::from_millis(750),
            wait_window: Duration::from_secs(50),
        }
    }
}

/// Whether a tool runs as a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskSupport {
    /// Never.
    Forbidden,
    /// Where the client can, and it takes long.
    Optional,
    /// Always: a client that cannot is refused.
    #[allow(dead_code, reason = "the conformance fixtures' kind")]
    Required,
}

/// One call of a tool, to be run now or in the background.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) principal: Principal,
    pub(crate) tool: String,
    pub(crate) arguments: Option<JsonObject>,
    /// The one who hears of progress while the client waits; afterwards the record does.
    pub(crate) progress: Progress,
    /// What the client answered already: the retry of a call that had questions.
    pub(crate) answers: InputResponses,
    /// Asks the client.
    pub(crate) questions: Questions,
    /// What the client declared.
    pub(crate) client: crate::client::Client,
}

impl Job {
    /// A call of `tool` by `principal`.
    pub(crate) fn new(principal: Principal, tool: &str, arguments: Option<JsonObject>) -> Self {
        Self {
            principal,
            tool: tool.to_owned(),
            arguments,
            progress: Progress::unheard(),
            answers: InputResponses::new(),
            questions: Questions::none(),
            client: crate::client::Client::default(),
        }
    }
}

/// What an answer of a tool's run is.
pub(crate) type Answered = Result<CallToolResult, ErrorData>;

/// Runs tools: what tasks know of them.
pub(crate) trait Runner: Send + Sync + std::fmt::Debug {
    /// Runs a tool to its end. Dropping the future stops it.
    fn run(&self, job: Job) -> BoxFuture<'static, Answered>;
    /// Whether it runs as a task.
    fn support(&self, tool: &str) -> TaskSupport;
    /// True where it only reads, so that it may be run twice.
    fn only_reads(&self, tool: &str) -> bool;
    /// The scopes it needs.
    fn needs(&self, tool: &str, arguments: Option<&JsonObject>) -> Scopes;
}

/// The client of a call, as far as tasks are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    /// Declared the extension for this request.
    pub(crate) knows_tasks: bool,
    /// Can show its user a form or a page, asked through a task or, where it knows none, by a retry.
    pub(crate) can_be_asked: bool,
    /// Understands an `InputRequiredResult`.
    pub(crate) can_retry: bool,
}

/// How a call is answered.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is done, or the client is told how to wait.
    Done(CallToolResult),
    /// It goes on.
    Task(CreateTaskResult),
    /// It was dropped: the client answers these and calls again.
    Asks(InputRequests),
}

/// The tasks of one process. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    shared: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: TaskStore,
    runner: Arc<dyn Runner>,
    settings: TaskSettings,
    limits: TaskLimits,
    running: Mutex<HashMap<String, Running>>,
}

impl Tasks {
    /// The tasks of a control state; those that an earlier process left are resumed when they are asked for.
    pub(crate) fn open(state: &State, clock: Arc<dyn Clock>, runner: Arc<dyn Runner>, settings: TaskSettings) -> Self {
        let shared = Arc::new(Inner {
            store: TaskStore::new(state, clock, LEASE),
            runner,
            settings,
            limits: TaskLimits {
                running_per_owner: RUNNING_PER_OWNER,
                kept_per_owner: KEPT_PER_OWNER,
                kept: KEPT,
            },
            running: Mutex::default(),
        });
        tokio::spawn(heartbeat(Arc::downgrade(&shared)));
        Self { shared }
    }

    /// Whether a tool runs as a task.
    pub(crate) fn support(&self, tool: &str) -> TaskSupport {
        self.shared.runner.support(tool)
    }

    /// Runs a call as its client can take the answer. Dropping this future, or `gone`, ends the call unless it has
    /// become a task.
    ///
    /// # Errors
    /// The call's own protocol error; `-32021` where the tool runs as a task only and the client knows none.
    pub(crate) async fn call(&self, job: Job, asker: Asker, gone: &CancellationToken) -> Result<Outcome, ErrorData> {
        let support = self.support(&job.tool);
        if support == TaskSupport::Required && !asker.knows_tasks {
            return Err(ErrorData::missing_required_client_capability(
                ClientCapabilities::builder().enable_tasks().build(),
            ));
        }
        let owner = Owner::of(&job.principal);
        let settings = self.shared.settings;
        let (made_for, window) = match (support, asker.knows_tasks) {
            (TaskSupport::Required, _) => (MadeFor::Modern, Duration::ZERO),
            (TaskSupport::Optional, true) => (MadeFor::Modern, settings.inline_window),
            (TaskSupport::Optional, false) => (MadeFor::Waiting, settings.wait_window),
            // nothing becomes a task: the call takes what it takes
            (TaskSupport::Forbidden, _) => (MadeFor::Waiting, Duration::MAX),
        };
        if made_for == MadeFor::Waiting && support == TaskSupport::Optional {
            let waiting = self
                .shared
                .store
                .find_waiting(&owner, &job.tool, job.arguments.as_ref());
            if let Some(id) = waiting.await.map_err(protocol)? {
                return self.wait_again(&job, &owner, &id, gone).await.map(Outcome::Done);
            }
        }
        let asks = match asker {
            Asker {
                can_be_asked: false, ..
            } => Asks::Never,
            Asker { knows_tasks: true, .. } if support != TaskSupport::Forbidden => Asks::ByTask,
            Asker { can_retry: true, .. } => Asks::ByRetry,
            _ => Asks::Never,
        };
        let mut work = Work::begin(&self.shared, job, asks);
        let now = tokio::select! {
            answer = work.within(window) => answer,
            () = gone.cancelled() => return Err(ErrorData::internal_error("cancelled", None)),
        };
        if let Some(answer) = now {
            return answer.map(Outcome::Done);
        }
        if let Some(questions) = work.asks() {
            return Ok(Outcome::Asks(questions));
        }
        let record = self.keep(work, &owner, made_for, settings.ttl).await?;
        Ok(match made_for {
            MadeFor::Modern | MadeFor::Legacy => Outcome::Task(CreateTaskResult::new(record.task())),
            MadeFor::Waiting => Outcome::Done(told_to_wait(&record, window)),
        })
    }

    /// Starts a call as a task at once, as `params.task` of 2025-11-25 asks.
    ///
    /// # Errors
    /// `-32603` where there are too many tasks, or they cannot be kept.
    pub(crate) async fn start(&self, job: Job, ttl: Option<Duration>) -> Result<Record, ErrorData> {
        let owner = Owner::of(&job.principal);
        let settings = self.shared.settings;
        let ttl = ttl.map_or(settings.ttl, |ttl| ttl.min(settings.ttl_max));
        let work = Work::begin(&self.shared, job, Asks::Never);
        self.keep(work, &owner, MadeFor::Legacy, ttl).await
    }

    /// A task of this principal. An orphan is resumed, or ends as interrupted.
    ///
    /// # Errors
    /// `-32602`, the same for an unknown task, an expired one and another principal's.
    pub(crate) async fn find(&self, principal: &Principal, id: &str) -> Result<Record, ErrorData> {
        let owner = Owner::of(principal);
        let record = self.shared.store.get(&owner, id).await.map_err(protocol)?;
        let record = record.ok_or_else(unknown_task)?;
        // what a scope was needed for is not shown without it
        let needed = self.shared.runner.needs(&record.tool, record.arguments.as_ref());
        if principal.require(needed).is_err() {
            return Err(unknown_task());
        }
        // what runs here is no orphan, even where the clock jumped over its lease
        if !record.is_orphan || self.shared.running.lock().contains_key(id) {
            return Ok(record);
        }
        self.adopt(principal, &record).await?;
        let record = self.shared.store.get(&owner, id).await.map_err(protocol)?;
        record.ok_or_else(unknown_task)
    }

    /// `tasks/get` of 2026-07-28.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub(crate) async fn get(&self, principal: &Principal, id: &str) -> Result<GetTaskResult, ErrorData> {
        let record = self.find(principal, id).await?;
        Ok(GetTaskResult::new(record.detailed()))
    }

    /// `tasks/update`: answers to a task's questions; those of other keys are ignored.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub(crate) async fn update(
        &self,
        principal: &Principal,
        id: &str,
        responses: &InputResponses,
    ) -> Result<(), ErrorData> {
        self.find(principal, id).await?;
        let responses: Vec<(&str, &Value)> = responses.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let known = self.shared.store.update(&Owner::of(principal), id, &responses).await;
        if !known.map_err(protocol)? {
            return Err(unknown_task());
        }
        if let Some(running) = self.shared.running.lock().get(id) {
            running.changed.notify_waiters();
        }
        Ok(())
    }

    /// `tasks/cancel`: stops the work. Nothing happens to a task that ended.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub(crate) async fn cancel(&self, principal: &Principal, id: &str) -> Result<Record, ErrorData> {
        let owner = Owner::of(principal);
        let known = self.shared.store.get(&owner, id).await.map_err(protocol)?;
        if known.is_none() {
            return Err(unknown_task());
        }
        let retention = self.shared.settings.retention;
        let ended = self.shared.store.finish(id, &Ending::Cancelled, retention).await;
        if ended.map_err(protocol)? {
            self.shared.stop(id);
        }
        let record = self.shared.store.get(&owner, id).await.map_err(protocol)?;
        record.ok_or_else(unknown_task)
    }

    /// A page of this principal's tasks, newest first, and where the next one begins.
    ///
    /// # Errors
    /// `-32602` for a cursor that is none.
    pub(crate) async fn list(
        &self,
        principal: &Principal,
        cursor: Option<&str>,
    ) -> Result<(Vec<Record>, Option<String>), ErrorData> {
        let bad_cursor = || ErrorData::invalid_params("the cursor is not one of tasks/list; leave it out", None);
        let after = match cursor {
            None => None,
            Some(cursor) => {
                let (time, id) = cursor.split_once('.').ok_or_else(bad_cursor)?;
                Some((time.parse().map_err(|_| bad_cursor())?, id))
            }
        };
        let records = self
            .shared
            .store
            .list(&Owner::of(principal), after)
            .await
            .map_err(protocol)?;
        let next = records
            .last()
            .filter(|_| TaskStore::is_full_page(records.len()))
            .map(|last| format!("{}.{}", last.created_at_us, last.id));
        Ok((records, next))
    }

    /// Waits until a task has ended.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub(crate) async fn ended(&self, principal: &Principal, id: &str) -> Result<(Record, Ending), ErrorData> {
        loop {
            // listen first: an end between reading and listening would be missed
            let changed = self
                .shared
                .running
                .lock()
                .get(id)
                .map(|running| Arc::clone(&running.changed));
            let listening = changed.as_ref().map(|changed| changed.notified());
            let mut listening = std::pin::pin!(listening);
            if let Some(listening) = listening.as_mut().as_pin_mut() {
                listening.enable();
            }
            let record = self.find(principal, id).await?;
            if let Some(ending) = record.ending.clone() {
                return Ok((record, ending));
            }
            match listening.as_mut().as_pin_mut() {
                Some(changed) => {
                    let _ = tokio::time::timeout(HEARTBEAT, changed).await;
                }
                // it runs in another process
                None => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }

    /// A task as the resource `spanledger://tasks/{id}`: its state, and its answer once it has one.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub(crate) async fn resource(&self, principal: &Principal, id: &str) -> Result<Value, ErrorData> {
        let record = self.find(principal, id).await?;
        let mut shown = json!(record.detailed());
        shown["tool"] = Value::from(record.tool.as_str());
        if record.ending.is_some() {
            let told = self.shared.store.told(&Owner::of(principal), id).await;
            told.map_err(protocol)?;
        }
        Ok(shown)
    }

    /// Gives this process's tasks to the next one. The last thing before it ends.
    pub(crate) async fn release(&self) {
        let stopped: Vec<Running> = self.shared.running.lock().drain().map(|(_, running)| running).collect();
        for running in stopped {
            running.stop.cancel();
        }
        if let Err(error) = self.shared.store.release().await {
            tracing::warn!(%error, "tasks were not released; they are resumed a little later");
        }
    }

    /// Puts begun work on record and runs it on in the background.
    async fn keep(&self, work: Work, owner: &Owner, made_for: MadeFor, ttl: Duration) -> Result<Record, ErrorData> {
        let new = NewTask {
            owner,
            tool: work.tool(),
            arguments: work.arguments(),
            made_for,
            ttl,
            step: work.step(),
        };
        let record = self
            .shared
            .store
            .create(new, self.shared.limits)
            .await
            .map_err(protocol)?;
        work.run_on(&self.shared, record.id.clone());
        Ok(record)
    }

    /// Resumes an orphan that only reads, and fails any other.
    async fn adopt(&self, principal: &Principal, orphan: &Record) -> Result<(), ErrorData> {
        let store = &self.shared.store;
        if !store.take_over(&orphan.id).await.map_err(protocol)? {
            return Ok(());
        }
        if !self.shared.runner.only_reads(&orphan.tool) {
            let ended = store
                .finish(&orphan.id, &interrupted(), self.shared.settings.retention)
                .await;
            return ended.map(|_| ()).map_err(protocol);
        }
        tracing::info!(task = orphan.id, tool = orphan.tool, "an interrupted task is resumed");
        let job = Job::new(principal.clone(), &orphan.tool, orphan.arguments.clone());
        Work::begin(&self.shared, job, Asks::ByTask).run_on(&self.shared, orphan.id.clone());
        Ok(())
    }

    /// The same call again, of a client that knows no tasks: waits for the work that goes on already.
    async fn wait_again(&self, job: &Job, owner: &Owner, id: &str, gone: &CancellationToken) -> Answered {
        let window = self.shared.settings.wait_window;
        let ended = tokio::select! {
            ended = tokio::time::timeout(window, self.ended(&job.principal, id)) => ended,
            () = gone.cancelled() => return Err(ErrorData::internal_error("cancelled", None)),
        };
        match ended {
            Ok(ended) => {
                let (_, ending) = ended?;
                self.shared.store.told(owner, id).await.map_err(protocol)?;
                let result = ending.answer()?;
                serde_json::from_value(Value::Object(result))
                    .map_err(|_| ErrorData::internal_error("the kept answer cannot be read", None))
            }
            Err(_elapsed) => {
                let record = self.find(&job.principal, id).await?;
                Ok(told_to_wait(&record, window))
            }
        }
    }
}

impl Inner {
    /// Stops a task's work here, if it runs here.
    fn stop(&self, id: &str) {
        let stopped = self.running.lock().remove(id);
        if let Some(running) = stopped {
            running.stop.cancel();
            running.changed.notify_waiters();
        }
    }

    /// One beat: leases are moved on, what another process ended is stopped, what is late is ended.
    async fn beat(&self, is_sweep: bool) -> crate::error::Result<()> {
        let running: Vec<String> = self.running.lock().keys().cloned().collect();
        if !running.is_empty() || is_sweep {
            self.store.expire(&expired(), self.settings.retention).await?;
        }
        if !running.is_empty() {
            let live = self.store.renew().await?;
            for id in running.iter().filter(|id| !live.contains(id)) {
                self.stop(id);
            }
            // answers that came in by another process
            for running in self.running.lock().values() {
                running.changed.notify_waiters();
            }
        }
        if is_sweep {
            for (id, tool) in self.store.orphans().await? {
                if !self.runner.only_reads(&tool) && self.store.take_over(&id).await? {
                    self.store.finish(&id, &interrupted(), self.settings.retention).await?;
                }
            }
        }
        Ok(())
    }
}

async fn heartbeat(tasks: Weak<Inner>) {
    let mut beats = 0_u32;
    loop {
        let Some(inner) = tasks.upgrade() else { return };
        if let Err(error) = inner.beat(beats.is_multiple_of(SWEEP_EVERY)).await {
            tracing::warn!(%error, "the tasks' leases could not be renewed");
        }
        drop(inner);
        beats = beats.wrapping_add(1);
        tokio::time::sleep(HEARTBEAT).await;
    }
}

fn unknown_task() -> ErrorData {
    ErrorData::invalid_params("there is no such task, or it has expired", None)
}

fn interrupted() -> Ending {
    Ending::of(Err(ErrorData::internal_error(
        "interrupted: the server restarted while the task ran; call the tool again",
        None,
    )))
}

fn expired() -> Ending {
    Ending::of(Err(ErrorData::internal_error(
        "expired: the task took longer than its ttl; ask for less, or for a longer ttl",
        None,
    )))
}

/// A failure of the store, as the protocol has it. What a client may not see stays in the log.
fn protocol(error: Error) -> ErrorData {
    if error.kind() == ErrorKind::Internal {
        use std::error::Error as _;
        let source = error.source().map(ToString::to_string).unwrap_or_default();
        tracing::error!(%error, source, "tasks");
    }
    ErrorData::new(ErrorCode::INTERNAL_ERROR, error.to_string(), None)
}

/// What a client without tasks is told when it has waited long enough. Marked as an error, so that nobody takes it
/// for the tool's answer, whose schema it has not.
fn told_to_wait(record: &Record, window: Duration) -> CallToolResult {
    let uri = format!("{URI}{}", record.id);
    let text = format!(
        "busy: {} still works after {} s{}; call it again with the same arguments to wait for this answer, or read {uri}",
        record.tool,
        window.as_secs(),
        record
            .status_message
            .as_deref()
            .map(|message| format!(", {message}"))
            .unwrap_or_default(),
    );
    let link = Resource::new(uri, format!("task of {}", record.tool)).with_mime_type("application/json");
    CallToolResult::error(vec![ContentBlock::text(text), ContentBlock::resource_link(link)])
}
