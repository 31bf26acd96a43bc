//! `POST /api/v1/what-if`: what calls would have cost otherwise.

use axum::Extension;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use bytes::Bytes;
use serde_json::Value;

use super::{Api, Who, json};
use crate::costs::{Dimension, NONE};
use crate::error::{Error, Result};
use crate::time::parse_instant;
use crate::what_if::{Scenario, WhatIfRequest};

const FIELDS: &str = "scenarios, by, since, until, filters, limit";

pub(super) async fn what_if(
    State(api): State<Api>,
    Extension(principal): Who,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response> {
    let body = body.map_err(|_| Error::invalid("the request body could not be read"))?;
    let request = read(&body, api.engine.now_ns())?;
    Ok(json(&api.engine.what_if(&principal, request, &|_, _| {}).await?))
}

fn read(body: &[u8], now_ns: i64) -> Result<WhatIfRequest> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| Error::invalid(format!("the body is no JSON object of {FIELDS}: {error}")))?;
    let Value::Object(fields) = body else {
        return Err(Error::invalid(format!("the body is a JSON object of {FIELDS}")));
    };
    let mut request = WhatIfRequest::default();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let text = || {
            value
                .as_str()
                .ok_or_else(|| Error::invalid(format!("`{name}` is a text")))
        };
        match name.as_str() {
            "scenarios" => {
                let scenarios = value
                    .as_array()
                    .ok_or_else(|| Error::invalid("`scenarios` is a list of scenarios"))?;
                request.scenarios = scenarios.iter().map(Scenario::read).collect::<Result<_>>()?;
            }
            "by" => {
                let names = match value {
                    Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
                    _ => text()?.to_owned(),
                };
                request.by = Dimension::parse_list(&names)?;
            }
            "since" => request.since_ns = Some(parse_instant(text()?, now_ns)?),
            "until" => request.until_ns = Some(parse_instant(text()?, now_ns)?),
            "filters" => request.filters = filters(value)?,
            "limit" => {
                let limit = value.as_u64().and_then(|limit| usize::try_from(limit).ok());
                request.limit = limit.ok_or_else(|| Error::invalid("`limit` is a whole number"))?;
            }
            unknown => {
                return Err(Error::invalid(format!(
                    "there is no field `{unknown}`; fields: {FIELDS}"
                )));
            }
        }
    }
    Ok(request)
}

/// `{"team": "a", "model": ["b", null]}`.
pub(super) fn filters(value: &Value) -> Result<Vec<(Dimension, Vec<Option<String>>)>> {
    let expected =
        || Error::invalid("`filters` is an object such as {\"team\": \"payments\", \"model\": [\"a\", null]}");
    let one = |value: &Value| match value {
        Value::Null => Ok(None),
        Value::String(text) if text == NONE => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        _ => Err(expected()),
    };
    let fields = value.as_object().ok_or_else(expected)?;
    let of_field = |(name, value): (&String, &Value)| {
        let values = match value {
            Value::Array(values) => values.iter().map(one).collect::<Result<Vec<_>>>()?,
            value => vec![one(value)?],
        };
        Ok((Dimension::parse(name)?, values))
    };
    fields.iter().map(of_field).collect()
}
