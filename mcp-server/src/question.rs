//! The part of a question that most tools share: the period, and the filters by dimension.

use serde_json::{Value, json};
use spanledger_query::time::{format_instant, parse_instant};
use spanledger_query::{CostRequest, Dimension, Error, Result};

use crate::arguments::Arguments;

/// Schema of `since` and `until`, short: it is in every client's context.
pub(crate) fn instant_schema() -> Value {
    json!({ "type": "string", "description": "7d, 2026-11-01 or RFC 3339 (UTC)" })
}

/// Schema of `filters`.
pub(crate) fn filters_schema() -> Value {
    json!({ "type": "object", "description": "dimension to value or values" })
}

/// Reads `since`, `until` and `filters` into a request for costs.
///
/// # Errors
/// [`Invalid`](spanledger_query::ErrorKind::Invalid), naming the argument.
pub(crate) fn request(arguments: &Arguments, now_ns: i64) -> Result<CostRequest> {
    let request = CostRequest {
        since_ns: instant(arguments, "since", now_ns)?,
        until_ns: instant(arguments, "until", now_ns)?,
        filters: filters(arguments)?,
        ..CostRequest::default()
    };
    if let (Some(since_ns), Some(until_ns)) = (request.since_ns, request.until_ns)
        && since_ns >= until_ns
    {
        return Err(Error::invalid("`since` is not before `until`: the time range is empty"));
    }
    Ok(request)
}

/// Reads an instant.
pub(crate) fn instant(arguments: &Arguments, name: &str, now_ns: i64) -> Result<Option<i64>> {
    match arguments.text(name)? {
        Some(text) => parse_instant(text, now_ns).map(Some),
        None => Ok(None),
    }
}

/// Reads `filters`.
pub(crate) fn filters(arguments: &Arguments) -> Result<Vec<(Dimension, Vec<Option<String>>)>> {
    let conditions = arguments.conditions("filters")?;
    conditions
        .into_iter()
        .map(|(name, values)| Ok((Dimension::parse(&name)?, values)))
        .collect()
}

/// A period in words.
pub(crate) fn period(since_ns: Option<i64>, until_ns: Option<i64>) -> String {
    match (since_ns, until_ns) {
        (None, None) => "all time".to_owned(),
        (Some(since_ns), None) => format!("since {}", format_instant(since_ns)),
        (None, Some(until_ns)) => format!("until {}", format_instant(until_ns)),
        (Some(since_ns), Some(until_ns)) => format!("{} to {}", format_instant(since_ns), format_instant(until_ns)),
    }
}
