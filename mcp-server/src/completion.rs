//! Completion: what can stand in a prompt's argument or in a resource's address, from the data itself.
//!
//! Values that begin with what was typed come first, then those that hold it; each cleaned as in answers.

use rmcp::model::{CompleteRequestParams, CompletionInfo, Reference};
use serde_json::{Value, json};
use spanledger_access::Principal;
use spanledger_query::time::format_instant;
use spanledger_query::{Dimension, Result};

use crate::limits::COMPLETIONS_MAX;
use crate::shared::Shared;
use crate::tools;

/// Dimensions that shared costs are allocated by.
const ALLOCATED_BY: [&str; 4] = ["team", "project", "cost_center", "environment"];
const SPANS_BACK: [&str; 4] = ["24h", "7d", "30d", "90d"];
/// Months offered, back from this one.
const MONTHS: i64 = 12;

/// The values that fit.
///
/// # Errors
/// Those of the engine.
pub(crate) async fn complete(
    shared: &Shared,
    principal: &Principal,
    request: &CompleteRequestParams,
) -> Result<CompletionInfo> {
    let typed = request.argument.value.as_str();
    let field = request.argument.name.as_str();
    let values = match (&request.r#ref, field) {
        (Reference::Prompt(_), "team" | "server") => values(shared, principal, field, typed).await?,
        (Reference::Prompt(_), "since" | "until") => SPANS_BACK.map(str::to_owned).to_vec(),
        (Reference::Prompt(_), "month") => months(shared.now_ns()),
        (Reference::Prompt(_), "by") => ALLOCATED_BY.map(str::to_owned).to_vec(),
        (Reference::Resource(template), "name") if template.uri.starts_with("spanledger://dimensions/") => {
            Dimension::ALL.map(|dimension| dimension.name().to_owned()).to_vec()
        }
        _ => Vec::new(),
    };
    Ok(fitting(values, typed))
}

/// Values of a dimension that hold what was typed, dearest first.
async fn values(shared: &Shared, principal: &Principal, dimension: &str, typed: &str) -> Result<Vec<String>> {
    let mut arguments = json!({ "dimension": dimension });
    if !typed.trim().is_empty() {
        arguments["search"] = Value::from(typed.trim());
    }
    let answer = tools::ask(shared, principal, "describe_data", arguments).await?;
    let values = answer["values"][dimension].as_array().into_iter().flatten();
    Ok(values.filter_map(Value::as_str).map(str::to_owned).collect())
}

/// This month and those before it, newest first.
fn months(now_ns: i64) -> Vec<String> {
    let now = format_instant(now_ns);
    let part = |from: usize, to: usize| now.get(from..to).and_then(|text| text.parse::<i64>().ok());
    let (Some(year), Some(month)) = (part(0, 4), part(5, 7)) else {
        return Vec::new();
    };
    (0..MONTHS)
        .map(|back| {
            let month = year * 12 + month - 1 - back;
            format!("{}-{:02}", month / 12, month % 12 + 1)
        })
        .collect()
}

fn fitting(values: Vec<String>, typed: &str) -> CompletionInfo {
    let typed = typed.trim().to_lowercase();
    let (first, others): (Vec<_>, Vec<_>) = values
        .into_iter()
        .filter(|value| value.to_lowercase().contains(&typed))
        .partition(|value| value.to_lowercase().starts_with(&typed));
    let mut all: Vec<String> = first.into_iter().chain(others).collect();
    let total = u32::try_from(all.len()).ok();
    let more = all.len() > COMPLETIONS_MAX;
    all.truncate(COMPLETIONS_MAX);
    let mut info = CompletionInfo::new(all).unwrap_or_default();
    info.total = total;
    info.has_more = Some(more);
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_as_typed_comes_first_and_months_cross_the_year() {
        let values = ["payments", "repay", "search"].map(str::to_owned).to_vec();
        assert_eq!(fitting(values, "PAY").values, ["payments", "repay"]);
        let february_2026 = 1_770_000_000_000_000_000;
        assert_eq!(months(february_2026)[..3], ["2026-02", "2026-01", "2025-12"]);
    }
}
