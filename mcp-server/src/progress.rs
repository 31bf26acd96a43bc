//! [`Progress`]: how a running tool tells how far it is. The reader is a client's progress notification or a
//! task's status; where nobody listens, telling costs nothing.
//!
//! Steps may be dropped when the reader is slow: only the newest matters.

use std::time::Duration;

use spanledger_query::Scanned;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

/// Steps that wait for the reader.
const STEPS_WAITING: usize = 16;
/// The rows read are told as often: a person sees them move, and a task's record is not written all the time.
const ROWS_STEP: Duration = Duration::from_secs(1);

/// How far a tool is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// What is done, in the tool's own unit (rows, bytes, calls).
    pub(crate) done: f64,
    /// What is to be done, where known.
    pub(crate) total: Option<f64>,
    /// What is going on, for a person.
    pub(crate) message: Option<String>,
}

/// Tells progress. Clones tell the same reader.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    sender: Option<mpsc::Sender<Step>>,
}

impl Progress {
    /// Nobody listens.
    pub(crate) fn unheard() -> Self {
        Self::default()
    }

    /// A progress and its reader.
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Step>) {
        let (sender, receiver) = mpsc::channel(STEPS_WAITING);
        (Self { sender: Some(sender) }, receiver)
    }

    /// Tells on what another progress told.
    pub(crate) fn forward(&self, step: Step) {
        if let Some(sender) = &self.sender {
            let _ = sender.try_send(step);
        }
    }

    /// Waits for an answer, and tells meanwhile how many rows its statements have read.
    pub(crate) async fn of_rows<T>(&self, scanned: &Scanned, answer: impl Future<Output = T>) -> T {
        let mut answer = std::pin::pin!(answer);
        let start = Instant::now() + ROWS_STEP;
        let mut steps = tokio::time::interval_at(start, ROWS_STEP);
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                _ = steps.tick() => self.report(scanned.n_rows(), None, "rows read"),
            }
        }
    }

    /// Tells a step: what is done of what, in the tool's own unit.
    pub(crate) fn report(&self, done: u64, total: Option<u64>, message: &str) {
        if let Some(sender) = &self.sender {
            let step = Step {
                done: as_number(done),
                total: total.map(as_number),
                message: (!message.is_empty()).then(|| message.to_owned()),
            };
            // Full: the reader is slow, and the next step says more than this one.
            let _ = sender.try_send(step);
        }
    }
}

/// Counts of this size are told as JSON numbers; a rounded one is still progress.
#[allow(clippy::cast_precision_loss)]
fn as_number(count: u64) -> f64 {
    count as f64
}
