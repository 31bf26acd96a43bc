//! [`Work`]: one running tool, first while its client waits, then in the background under a task's name.
//!
//! The future moves; it is never started twice, and dropping it stops its query. What it tells goes to the waiting
//! client first and to the record later, there at most once a second. What it asks makes it a task at once, because
//! only a task can be asked for its questions.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rmcp::model::{CallToolResult, ContentBlock, ErrorData, InputRequest, InputRequests, InputResponses, JsonObject};
use serde_json::Value;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::record::Ending;
use super::store::TaskStore;
use super::{Answered, HEARTBEAT, Inner, Job, RESULT_BYTES_MAX, protocol};
use crate::progress::{Progress, Step};

/// Between two writes of a task's progress: each is a disk's flush.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// A task whose work runs in this process.
#[derive(Debug)]
pub(super) struct Running {
    /// Ends the work.
    pub(super) stop: CancellationToken,
    /// Told when the task changed: it ended, or answers came.
    pub(super) changed: Arc<Notify>,
}

/// Asks a task's client. Clones ask through the same task.
#[derive(Debug, Clone, Default)]
pub(crate) struct Questions {
    asking: Option<Arc<Asking>>,
    answers: Arc<InputResponses>,
}

/// How a client can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// Not at all.
    Never,
    /// Through the task.
    ByTask,
    /// By an `InputRequiredResult`, after which it sends the whole call again with the answers.
    ByRetry,
}

#[derive(Debug)]
struct Asking {
    store: TaskStore,
    /// The work wants to be a task.
    wish: Notify,
    /// Id of the task, once it is one.
    task: watch::Sender<Option<String>>,
    changed: Arc<Notify>,
    used: Mutex<HashSet<String>>,
    by: Asks,
    /// What a client that retries is to be asked.
    to_retry: Mutex<Option<InputRequests>>,
}

impl Questions {
    /// Nobody can be asked.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// Asks all of these at once and waits for all answers, in their order, as the client sent them: read them as
    /// what a stranger says. `None` where nobody can be asked. The task is `input_required` meanwhile.
    ///
    /// # Errors
    /// `-32603` where a key was used before in this run, or the task cannot be written.
    pub(crate) async fn ask(&self, questions: Vec<(String, InputRequest)>) -> Result<Option<Vec<Value>>, ErrorData> {
        let given = |(key, _): &(String, InputRequest)| self.answers.get(key).cloned();
        if let Some(answers) = questions.iter().map(given).collect::<Option<Vec<Value>>>() {
            return Ok(Some(answers));
        }
        let Some(asking) = &self.asking else {
            return Ok(None);
        };
        let keys: Vec<String> = questions.iter().map(|(key, _)| key.clone()).collect();
        if !keys.iter().all(|key| asking.used.lock().insert(key.clone())) {
            return Err(ErrorData::internal_error("a question's key was used twice", None));
        }
        if asking.by == Asks::ByRetry {
            *asking.to_retry.lock() = Some(questions.into_iter().collect());
            asking.wish.notify_one();
            // the call is dropped here, and comes again with the answers
            return std::future::pending().await;
        }
        asking.wish.notify_one();
        let mut named = asking.task.subscribe();
        let named = named.wait_for(Option::is_some).await.ok().and_then(|id| id.clone());
        let Some(id) = named else {
            return Ok(None);
        };
        asking.store.ask(&id, &questions).await.map_err(protocol)?;
        loop {
            let changed = asking.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if let Some(answers) = asking.store.answers(&id, &keys).await.map_err(protocol)? {
                return Ok(Some(answers));
            }
            // answers may come in by another process, which cannot tell this one
            let _ = tokio::time::timeout(HEARTBEAT, changed).await;
        }
    }
}

/// A tool that runs.
pub(super) struct Work {
    answer: BoxFuture<'static, Answered>,
    tool: String,
    arguments: Option<JsonObject>,
    steps: mpsc::Receiver<Step>,
    listener: Progress,
    newest: Option<Step>,
    asking: Arc<Asking>,
    stop: CancellationToken,
    /// Work that runs elsewhere ends with this.
    guard: DropGuard,
}

impl Work {
    /// Begins a call; it goes on only while this is polled.
    pub(super) fn begin(tasks: &Inner, mut job: Job, by: Asks) -> Self {
        let (progress, steps) = Progress::channel();
        let listener = std::mem::replace(&mut job.progress, progress);
        let asking = Arc::new(Asking {
            store: tasks.store.clone(),
            wish: Notify::new(),
            task: watch::Sender::new(None),
            changed: Arc::default(),
            used: Mutex::default(),
            by,
            to_retry: Mutex::default(),
        });
        job.questions = Questions {
            asking: (by != Asks::Never).then(|| Arc::clone(&asking)),
            answers: Arc::new(job.answers.clone()),
        };
        let stop = CancellationToken::new();
        let (tool, arguments) = (job.tool.clone(), job.arguments.clone());
        let answer = AssertUnwindSafe(tasks.runner.run(job)).catch_unwind();
        Self {
            answer: Box::pin(answer.map(|answer| {
                answer.unwrap_or_else(|_panic| {
                    tracing::error!("a tool panicked");
                    Err(ErrorData::internal_error(
                        "the tool failed; the operator finds the cause in the server's log",
                        None,
                    ))
                })
            })),
            tool,
            arguments,
            steps,
            listener,
            newest: None,
            asking,
            guard: stop.clone().drop_guard(),
            stop,
        }
    }

    pub(super) fn tool(&self) -> &str {
        &self.tool
    }

    pub(super) fn arguments(&self) -> Option<&JsonObject> {
        self.arguments.as_ref()
    }

    /// What a client that retries is to be asked, where the work waits for that.
    pub(super) fn asks(&self) -> Option<InputRequests> {
        self.asking.to_retry.lock().take()
    }

    pub(super) fn step(&self) -> Option<&Step> {
        self.newest.as_ref()
    }

    /// The answer, if it comes within the window and asks nothing before. A window of zero is none.
    pub(super) async fn within(&mut self, window: Duration) -> Option<Answered> {
        if window.is_zero() {
            return None;
        }
        let end = tokio::time::sleep(window);
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                biased;
                answer = &mut self.answer => return Some(answer),
                Some(step) = self.steps.recv() => {
                    self.listener.forward(step.clone());
                    self.newest = Some(step);
                }
                () = self.asking.wish.notified() => return None,
                () = &mut end => return None,
            }
        }
    }

    /// Runs on in the background as the task `id`, which is on record.
    pub(super) fn run_on(mut self, tasks: &Arc<Inner>, id: String) {
        self.asking.task.send_replace(Some(id.clone()));
        let running = Running {
            stop: self.stop.clone(),
            changed: Arc::clone(&self.asking.changed),
        };
        tasks.running.lock().insert(id.clone(), running);
        let tasks = Arc::clone(tasks);
        tokio::spawn(async move {
            let answer = self.until_end(&tasks.store, &id).await;
            if let Some(answer) = answer {
                let ending = bounded(Ending::of(answer));
                if let Err(error) = tasks.store.finish(&id, &ending, tasks.settings.retention).await {
                    // its lease ends, and it is resumed or fails
                    tracing::error!(task = id, %error, "a task's answer could not be kept");
                }
            }
            tasks.running.lock().remove(&id);
            self.asking.changed.notify_waiters();
            drop(self.guard);
        });
    }

    /// The answer; `None` where the task was stopped. Progress goes to the record.
    async fn until_end(&mut self, store: &TaskStore, id: &str) -> Option<Answered> {
        let mut ticks = tokio::time::interval(PROGRESS_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.newest = None;
        let mut is_telling = true;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    // the work is dropped before the task's waiters hear of its end
                    self.answer = Box::pin(std::future::pending());
                    return None;
                }
                answer = &mut self.answer => return Some(answer),
                step = self.steps.recv(), if is_telling => match step {
                    Some(step) => self.newest = Some(step),
                    None => is_telling = false,
                },
                _ = ticks.tick(), if self.newest.is_some() => {
                    if let Some(step) = self.newest.take()
                        && let Err(error) = store.progress(id, &step).await
                    {
                        tracing::warn!(task = id, %error, "a task's progress could not be kept");
                    }
                }
            }
        }
    }
}

/// An answer that fits into the store.
fn bounded(ending: Ending) -> Ending {
    let fields = match &ending {
        Ending::Completed(fields) | Ending::Failed(fields) => fields,
        Ending::Cancelled => return ending,
    };
    let n_bytes = serde_json::to_vec(fields).map_or(usize::MAX, |text| text.len());
    if n_bytes <= RESULT_BYTES_MAX {
        return ending;
    }
    let text = format!(
        "too_large: the answer has {n_bytes} bytes, a task keeps {RESULT_BYTES_MAX}; ask for fewer rows or an artefact"
    );
    Ending::of(Ok(CallToolResult::error(vec![ContentBlock::text(text)])))
}
