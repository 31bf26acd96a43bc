//! [`Shared`]: what every request of the MCP server works with, whichever way it came in.
//!
//! Made once by `serve` or `spanledger mcp` and cloned into each conversation. It holds components and plain
//! settings; it keeps nothing of a request. What is absent is absent honestly: without control state there are no
//! tasks, budgets or stored reports, and the tools say so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use spanledger_access::Principal;
use spanledger_access::audit::{Audit, Interface, Outcome};
use spanledger_access::challenge::Challenges;
use spanledger_access::origin::Names;
use spanledger_model::TenantId;
use spanledger_model::clock::SystemClock;
use spanledger_query::finops::{Finops, Listener};
use spanledger_query::{Engine, Error, ErrorKind, Result};
use spanledger_state::State;
use tokio::sync::broadcast;

use crate::asking::Seal;
use crate::limits::{BODY_WITHIN_MS, UNASKED_FILE_BYTES, UPDATES_WAITING};
use crate::resources;
use crate::runner::ToolRunner;
use crate::tasks::{TaskSettings, Tasks};
use crate::telemetry::Meter;

/// Folder of artefacts inside the data folder.
const ARTEFACTS: &str = "reports";

/// Components and settings of the MCP server. Clones share them.
#[derive(Clone, Debug)]
pub struct Shared {
    engine: Engine,
    state: Option<State>,
    data: Option<Arc<Path>>,
    public_url: Option<Arc<str>>,
    local: Principal,
    seal: Seal,
    names: Names,
    updates: broadcast::Sender<Update>,
    tasks: Option<Tasks>,
    task_settings: TaskSettings,
    audit: Audit,
    challenges: Challenges,
    meter: Option<Arc<dyn Meter>>,
    body_within: Duration,
    unasked_file_bytes: u64,
    has_fixtures: bool,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Changed {
    /// The resource of this address.
    Resource(&'static str),
    /// The list of tools: the conformance fixtures do that, we never.
    Tools,
    /// The list of prompts, likewise.
    Prompts,
}

/// A change, and who is told: one tenant, or all.
#[derive(Debug, Clone)]
pub(crate) struct Update {
    pub(crate) tenant: Option<TenantId>,
    pub(crate) changed: Changed,
}

impl From<Engine> for Shared {
    fn from(engine: Engine) -> Self {
        Self::new(engine)
    }
}

impl Shared {
    /// A server that only answers questions: no control state, no data folder, no page to link to.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            state: None,
            data: None,
            public_url: None,
            local: Principal::local(),
            seal: Seal::new(),
            names: Names::local(),
            updates: broadcast::Sender::new(UPDATES_WAITING),
            tasks: None,
            task_settings: TaskSettings::default(),
            audit: Audit::none(),
            challenges: Challenges::none(),
            meter: None,
            body_within: Duration::from_millis(BODY_WITHIN_MS),
            unasked_file_bytes: UNASKED_FILE_BYTES,
            has_fixtures: false,
        }
    }

    /// With control state: tasks, budgets, stored reports.
    #[must_use]
    pub fn with_state(self, state: State) -> Self {
        Self {
            state: Some(state),
            ..self
        }
    }

    /// With the data folder, below which artefacts are written.
    #[must_use]
    pub fn with_data(self, data: &Path) -> Self {
        Self {
            data: Some(Arc::from(data)),
            ..self
        }
    }

    /// With the address under which people and clients reach this server, without a slash at its end.
    #[must_use]
    pub fn with_public_url(self, url: &str) -> Self {
        Self {
            public_url: Some(Arc::from(url.trim_end_matches('/'))),
            ..self
        }
    }

    /// With the principal of a way in that brings no credential of its own: standard input.
    #[must_use]
    pub fn with_local(self, local: Principal) -> Self {
        Self { local, ..self }
    }

    /// With the names by which this server is reached, beside those of this machine.
    #[must_use]
    pub fn with_names(self, names: Names) -> Self {
        Self { names, ..self }
    }

    /// With the tools, resources and prompts of the official conformance suite. For a loopback address only.
    #[must_use]
    pub fn with_conformance_fixtures(self, has_fixtures: bool) -> Self {
        Self { has_fixtures, ..self }
    }

    /// With the times of tasks.
    #[must_use]
    pub fn with_task_settings(self, task_settings: TaskSettings) -> Self {
        Self { task_settings, ..self }
    }

    /// With the audit log.
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Self {
        Self { audit, ..self }
    }

    /// With what a client that lacks scopes is told.
    #[must_use]
    pub fn with_challenges(self, challenges: Challenges) -> Self {
        Self { challenges, ..self }
    }

    /// With who takes what the server did.
    #[must_use]
    pub fn with_meter(self, meter: Arc<dyn Meter>) -> Self {
        Self {
            meter: Some(meter),
            ..self
        }
    }

    /// With the time in which the body of a request has to come.
    #[must_use]
    pub fn with_body_within(self, body_within: Duration) -> Self {
        Self { body_within, ..self }
    }

    /// With the bytes of files that a statement may read without a person being asked.
    #[must_use]
    pub fn with_unasked_file_bytes(self, unasked_file_bytes: u64) -> Self {
        Self {
            unasked_file_bytes,
            ..self
        }
    }

    /// Ready to serve: with tasks, where there is control state. Call it last, within a runtime; whoever clones
    /// this shares the tasks. [`crate::router`] calls it where it was not.
    #[must_use]
    pub fn started(self) -> Self {
        let Some(state) = self.state.clone().filter(|_| self.tasks.is_none()) else {
            return self;
        };
        // Without the tasks, which hold it.
        let runner = Arc::new(ToolRunner { shared: self.clone() });
        let tasks = Tasks::open(&state, Arc::new(SystemClock), runner, self.task_settings);
        Self {
            tasks: Some(tasks),
            ..self
        }
    }

    /// Gives up the running tasks, so that another process may take them at once.
    pub async fn stop(&self) {
        if let Some(tasks) = &self.tasks {
            tasks.release().await;
        }
    }

    /// The time in which the body of a request has to come.
    pub(crate) fn body_within(&self) -> Duration {
        self.body_within
    }

    /// Bytes of files that a statement may read without a person being asked.
    pub(crate) fn unasked_file_bytes(&self) -> u64 {
        self.unasked_file_bytes
    }

    /// Who takes what the server did.
    pub(crate) fn meter(&self) -> Option<&dyn Meter> {
        self.meter.as_deref()
    }

    /// What a client that lacks scopes is told.
    pub(crate) fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    /// The tasks, where there is control state.
    pub(crate) fn tasks(&self) -> Option<&Tasks> {
        self.tasks.as_ref()
    }

    /// True where the conformance fixtures are served.
    pub(crate) fn has_fixtures(&self) -> bool {
        self.has_fixtures
    }

    /// The query engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The control state.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) where this server has none, with the next step.
    pub fn state(&self) -> Result<&State> {
        self.state.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                "this server keeps no state (tasks, budgets, reports): ask one that `spanledger serve` started",
            )
        })
    }

    /// Budgets and allocation rules.
    ///
    /// # Errors
    /// As [`Self::state`], and where there is no data folder.
    pub fn finops(&self) -> Result<Finops> {
        let data = self.data.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                "this server keeps no budgets and rules: ask one that `spanledger serve` started",
            )
        })?;
        Ok(
            Finops::new(self.engine.clone(), self.state()?.clone(), self.audit.clone(), data)
                .with_listener(Arc::new(self.clone())),
        )
    }

    /// Folder of artefacts; whoever writes there makes it.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) where this server has no data folder.
    pub fn artefacts(&self) -> Result<PathBuf> {
        let data = self.data.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                "this server has no data folder to write to: ask one that `spanledger serve` started",
            )
        })?;
        Ok(data.join(ARTEFACTS))
    }

    /// A page of the dashboard, as a link; `path` starts with a slash. `None` where the server has no address.
    #[must_use]
    pub fn link(&self, path: &str) -> Option<String> {
        self.public_url.as_ref().map(|url| format!("{url}{path}"))
    }

    /// Who asks where a request brings no credential.
    pub(crate) fn local(&self) -> &Principal {
        &self.local
    }

    /// The seal of `requestState`.
    pub(crate) fn seal(&self) -> &Seal {
        &self.seal
    }

    /// The names by which this server is reached.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Tells everybody who listens of a change.
    pub(crate) fn changed(&self, changed: Changed) {
        self.tell(Update { tenant: None, changed });
    }

    fn tell(&self, update: Update) {
        // An error means that nobody listens.
        let _ = self.updates.send(update);
    }

    /// The updates from now on.
    pub(crate) fn updates(&self) -> broadcast::Receiver<Update> {
        self.updates.subscribe()
    }

    /// Notes who read what, for the audit log.
    pub(crate) fn audit(&self, principal: &Principal, action: &str, target: &str, outcome: Outcome) {
        self.audit
            .record(principal, Interface::Mcp, action, Some(target), outcome, None);
    }

    /// Notes who called a tool with what.
    pub(crate) fn audit_call(&self, principal: &Principal, tool: &str, outcome: Outcome, asked: &str) {
        let (mcp, asked) = (Interface::Mcp, Some(asked).filter(|asked| !asked.is_empty()));
        self.audit
            .record(principal, mcp, "tools/call", Some(tool), outcome, asked);
    }

    /// Notes a change that is about to be made. Where that fails, do not make it.
    ///
    /// # Errors
    /// Those of the audit log.
    #[allow(dead_code, reason = "tools of later steps")]
    pub(crate) async fn audit_change(
        &self,
        principal: &Principal,
        action: &str,
        target: &str,
        detail: Option<&str>,
    ) -> Result<()> {
        let noted = self
            .audit
            .record_change(principal, Interface::Mcp, action, Some(target), Outcome::Ok, detail)
            .await;
        noted.map_err(|error| {
            Error::new(
                ErrorKind::Internal,
                "the change could not be noted in the audit log, so it was not made",
            )
            .with_source(error)
        })
    }

    /// Now, in nanoseconds since 1970.
    #[must_use]
    pub fn now_ns(&self) -> i64 {
        self.engine.now_ns()
    }
}

impl Listener for Shared {
    fn budgets_changed(&self, tenant: &TenantId) {
        self.tell(Update {
            tenant: Some(tenant.clone()),
            changed: Changed::Resource(resources::BUDGETS),
        });
    }
}

/// Who owns a task or an artefact, as the control state's `owner` columns hold it: SHA-256 of
/// [`Principal::owner`], in hex.
#[must_use]
pub fn owner_digest(principal: &Principal) -> String {
    hex(&Sha256::digest(principal.owner().as_bytes()))
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
