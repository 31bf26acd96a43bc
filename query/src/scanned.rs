//! [`Scanned`]: how much running statements have read so far, and how much a planned one would read at most.
//!
//! Rows are those that the plans' own scans count; nothing is estimated, and a total is not known. A joined or
//! generated row counts where it is read, not again where it is made. Bytes are those of the files, or parts of
//! files, that a plan opens: statistics and columns that are not asked for make it read less.

use std::sync::Arc;

use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use parking_lot::Mutex;

/// Looks at the statements of one request; clones look at the same ones.
#[derive(Debug, Clone, Default)]
pub struct Scanned(Arc<Mutex<Vec<Arc<dyn ExecutionPlan>>>>);

impl Scanned {
    /// A statement runs by this plan.
    pub(crate) fn watch(&self, plan: &Arc<dyn ExecutionPlan>) {
        self.0.lock().push(Arc::clone(plan));
    }

    /// Rows that the scans have given; zero before anything runs. Never falls.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        let plans = self.0.lock();
        plans
            .iter()
            .map(|plan| sum_of_leaves(plan.as_ref(), rows_of_leaf))
            .fold(0, u64::saturating_add)
    }
}

/// Bytes of the files that a plan reads at most.
pub(crate) fn file_bytes(plan: &dyn ExecutionPlan) -> u64 {
    sum_of_leaves(plan, file_bytes_of_leaf)
}

fn sum_of_leaves(plan: &dyn ExecutionPlan, of_leaf: fn(&dyn ExecutionPlan) -> u64) -> u64 {
    let children = plan.children();
    if children.is_empty() {
        return of_leaf(plan);
    }
    children
        .into_iter()
        .map(|child| sum_of_leaves(child.as_ref(), of_leaf))
        .fold(0, u64::saturating_add)
}

fn rows_of_leaf(plan: &dyn ExecutionPlan) -> u64 {
    let rows = plan.metrics().and_then(|metrics| metrics.output_rows());
    rows.map_or(0, |rows| u64::try_from(rows).unwrap_or(u64::MAX))
}

fn file_bytes_of_leaf(plan: &dyn ExecutionPlan) -> u64 {
    let source = plan.downcast_ref::<DataSourceExec>().map(DataSourceExec::data_source);
    let Some(files) = source.and_then(|source| source.downcast_ref::<FileScanConfig>()) else {
        return 0;
    };
    files
        .file_groups
        .iter()
        .flat_map(|group| group.iter())
        .map(|file| file.effective_size())
        .fold(0, u64::saturating_add)
}
