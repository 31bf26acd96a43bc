//! [`Finops`]: budgets and allocation rules, as they are read and changed from outside. The one part of this crate that
//! writes, and it writes control state only: never the lake.
//!
//! ```text
//! REST, MCP, CLI ─► check (scope of the principal, row filter) ─► preview ─► audit ─► state | versions of the rules
//! ```
//!
//! Guarantees: a change is in the audit log before it is made, and is refused where that fails; a principal with a row
//! filter sees and changes the budgets within its rows only, and no rules at all; a rule is of its tenant only.
//! Once a budget's change is stored, its [`Listener`] is told.
//!
//! | module | what it holds |
//! |---|---|
//! | [`budgets`] | budgets: stored, measured, compared with past periods |
//! | [`rules`] | one allocation rule: what it would move, and setting it |
//! | [`http`] | the routes |

pub mod budgets;
pub mod http;
pub mod rules;

use std::path::Path;
use std::sync::Arc;

use spanledger_access::audit::{Audit, Interface, Outcome};
use spanledger_access::{Principal, Scope, Scopes};
use spanledger_ledger::allocation::store::RuleStore;
use spanledger_model::TenantId;
use spanledger_state::State;

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};

/// Told of what changed, whichever interface changed it.
pub trait Listener: std::fmt::Debug + Send + Sync {
    /// The budgets of a tenant are others than before.
    fn budgets_changed(&self, tenant: &TenantId);
}

/// Budgets and rules of one data folder. Clones share it.
#[derive(Debug, Clone)]
pub struct Finops {
    engine: Engine,
    state: State,
    audit: Audit,
    rules: RuleStore,
    listener: Option<Arc<dyn Listener>>,
}

impl Finops {
    /// Over the control state and the data folder of the engine's lake.
    #[must_use]
    pub fn new(engine: Engine, state: State, audit: Audit, data: &Path) -> Self {
        Self {
            engine,
            state,
            audit,
            rules: RuleStore::new(data),
            listener: None,
        }
    }

    /// The same, which tells somebody of changes.
    #[must_use]
    pub fn with_listener(self, listener: Arc<dyn Listener>) -> Self {
        Self {
            listener: Some(listener),
            ..self
        }
    }

    fn tell_budgets_changed(&self, principal: &Principal) {
        if let Some(listener) = &self.listener {
            listener.budgets_changed(principal.tenant());
        }
    }

    /// Demands the scope for changes.
    fn may_change(principal: &Principal) -> Result<()> {
        Ok(principal.require(Scopes::of(&[Scope::FinopsWrite]))?)
    }

    /// Writes a change into the audit log; what is not audited is not done.
    async fn record(
        &self,
        principal: &Principal,
        interface: Interface,
        action: &str,
        target: &str,
        detail: &str,
    ) -> Result<()> {
        self.audit
            .record_change(principal, interface, action, Some(target), Outcome::Ok, Some(detail))
            .await?;
        Ok(())
    }
}

fn of_ledger(error: spanledger_ledger::Error) -> Error {
    use spanledger_ledger::ErrorKind as Ledger;
    let kind = match error.kind() {
        Ledger::Invalid => ErrorKind::Invalid,
        Ledger::TooLarge => ErrorKind::TooLarge,
        Ledger::NotFound => ErrorKind::NotFound,
        Ledger::Busy => ErrorKind::Busy,
        Ledger::Corrupt => ErrorKind::Corrupt,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, error.message().to_owned()).with_source(error)
}
