//! [`Scanned`]: how many rows a running statement has read so far, for whoever waits for it.
//!
//! The figures are those that the plan's own scans count; nothing is estimated, and a total is not known. A joined
//! or generated row counts where it is read, not again where it is made.

use std::sync::{Arc, OnceLock};

use datafusion::physical_plan::ExecutionPlan;

/// Looks at one statement; clones look at the same one.
#[derive(Debug, Clone, Default)]
pub struct Scanned(Arc<OnceLock<Arc<dyn ExecutionPlan>>>);

impl Scanned {
    /// The statement runs by this plan; only the first one is looked at.
    pub(crate) fn watch(&self, plan: &Arc<dyn ExecutionPlan>) {
        self.0.get_or_init(|| Arc::clone(plan));
    }

    /// Rows that its scans have given; zero before it runs.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.0.get().map_or(0, rows_of_leaves)
    }
}

fn rows_of_leaves(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let children = plan.children();
    if children.is_empty() {
        let rows = plan.metrics().and_then(|metrics| metrics.output_rows());
        return rows.map_or(0, |rows| u64::try_from(rows).unwrap_or(u64::MAX));
    }
    children.into_iter().map(rows_of_leaves).fold(0, u64::saturating_add)
}
