//! Plans that give their thread back: joins say now and then that others may run.
//!
//! A join makes many batches out of one, and an aggregate above it takes them all without ever waiting; such a
//! statement would hold a query thread until it ends, where neither its limit nor its caller could stop it, and as
//! many of them as there are threads would stop the engine. Each join therefore takes part in the runtime's budget.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;

use crate::error::Result;

/// The same plan, whose joins and unnestings wait when their thread's budget is used up.
pub(crate) fn yielding(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let wrapped = plan.transform_up(|node| {
        let multiplies = node.children().len() > 1 || node.name() == "UnnestExec";
        Ok(if multiplies {
            Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>)
        } else {
            Transformed::no(node)
        })
    })?;
    Ok(wrapped.data)
}
