//! `GET /api/v1/change`: why cost changed between two periods.

use axum::Extension;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::response::Response;

use super::{Api, Parameters, Who, instant, json, named_once, number};
use crate::change::{ChangeRequest, filter};
use crate::costs::Dimension;
use crate::error::Result;

pub(super) async fn change(
    State(api): State<Api>,
    Extension(principal): Who,
    parameters: Result<Parameters, QueryRejection>,
) -> Result<Response> {
    let parameters = named_once(parameters)?;
    let now_ns = api.engine.now_ns();
    let mut request = ChangeRequest::default();
    for (name, value) in parameters {
        match name.as_str() {
            "since" => request.since_ns = instant(&value, now_ns)?,
            "until" => request.until_ns = instant(&value, now_ns)?,
            "baseline_since" => request.baseline_since_ns = instant(&value, now_ns)?,
            "baseline_until" => request.baseline_until_ns = instant(&value, now_ns)?,
            "by" => request.by = Dimension::parse_list(&value)?,
            "limit" => request.limit = number("limit", &value)?,
            // A form sends its empty fields too.
            _ if value.is_empty() => {}
            name => request.filters.push(filter(name, &value)?),
        }
    }
    Ok(json(&api.engine.explain_change(&principal, &request).await?))
}
