//! Allocation: whose a call is where its records do not say, and who bears what is shared.
//!
//! [`RuleSet::apply`] runs when settlement makes a call, between fold and charge: rules of the user's TOML files
//! fill or override team, project, cost centre and environment. Shared costs stated in the same files are split
//! over a dimension by [`split`](split::split), when a report asks. Rule sets are versions in the data folder that
//! never change ([`store`]), as the price book's are.
//!
//! ```text
//! allocation.toml ─ file ─► Source ─ store ─► version ─► RuleSet ─ apply ─► calls, ledger
//!                                                            └── shared ─ split ─► allocated_costs
//! ```
//!
//! Guarantees: a rule set is a pure function of the call, so a rebuild gives the same; every part of a split sums
//! to the stated amount exactly. Nothing here writes ledger lines: closing a period does.
//!
//! | module | what it holds |
//! |---|---|
//! | [`rules`] | rules, what they match and set, and how an assignment is recorded on the call |
//! | [`file`] | reading TOML |
//! | [`shared`], [`split`] | shared costs of a period, and their exact split |
//! | [`store`], [`diff`] | versions and what differs between them |
//! | [`moves`], [`edit`] | what a rule set would move; one rule set from outside a file |

pub mod diff;
pub mod edit;
pub mod file;
pub mod moves;
pub mod rules;
pub mod shared;
pub mod split;
pub mod store;

use spanledger_model::call::Dimensions;

pub use file::Source;
pub use rules::{Assignment, Decision, Rule, RuleSet};
pub use shared::{Method, Period, SharedCost, Weight};

/// The name of the group that no attribute and no rule tells, as `OpenCost` has it. In the lake it is NULL.
pub const UNALLOCATED: &str = "__unallocated__";

/// A dimension that rules set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// Team that pays.
    Team,
    /// Project.
    Project,
    /// Cost centre.
    CostCenter,
    /// Deployment environment.
    Environment,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Team, Self::Project, Self::CostCenter, Self::Environment];

    /// Its column's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Team => "team",
            Self::Project => "project",
            Self::CostCenter => "cost_center",
            Self::Environment => "environment",
        }
    }

    /// Reads a column's name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.as_str() == name)
    }

    /// Its value.
    #[must_use]
    pub fn of(self, dimensions: &Dimensions) -> Option<&str> {
        match self {
            Self::Team => dimensions.team.as_deref(),
            Self::Project => dimensions.project.as_deref(),
            Self::CostCenter => dimensions.cost_center.as_deref(),
            Self::Environment => dimensions.environment.as_deref(),
        }
    }

    fn set(self, dimensions: &mut Dimensions, value: Option<String>) {
        *match self {
            Self::Team => &mut dimensions.team,
            Self::Project => &mut dimensions.project,
            Self::CostCenter => &mut dimensions.cost_center,
            Self::Environment => &mut dimensions.environment,
        } = value;
    }
}

#[cfg(test)]
mod tests;
