//! Resources (being written).
/// The budgets of the tenant.
pub(crate) const BUDGETS: &str = "spanledger://budgets";
