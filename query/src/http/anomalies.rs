//! `GET /api/v1/anomalies`: episodes of spend out of the ordinary.

use axum::Extension;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::response::Response;
use spanledger_model::FemtoUsd;

use super::{Api, Parameters, Who, instant, json, named_once, number};
use crate::anomalies::AnomalyRequest;
use crate::change::filter;
use crate::error::{Error, Result};

pub(super) async fn anomalies(
    State(api): State<Api>,
    Extension(principal): Who,
    parameters: Result<Parameters, QueryRejection>,
) -> Result<Response> {
    let parameters = named_once(parameters)?;
    let now_ns = api.engine.now_ns();
    let mut request = AnomalyRequest::default();
    for (name, value) in parameters {
        match name.as_str() {
            "since" => request.since_ns = instant(&value, now_ns)?,
            "until" => request.until_ns = instant(&value, now_ns)?,
            "limit" => request.limit = number("limit", &value)?,
            // A form sends its empty fields too.
            _ if value.is_empty() => {}
            "min_impact" => {
                let amount = FemtoUsd::parse(&value).filter(|amount| amount.0 > 0);
                let wrong = || Error::invalid(format!("min_impact is an amount of USD such as 0.5, not `{value}`"));
                request.impact_min = Some(amount.ok_or_else(wrong)?);
            }
            name => request.filters.push(filter(name, &value)?),
        }
    }
    Ok(json(&api.engine.anomalies(&principal, &request).await?))
}
