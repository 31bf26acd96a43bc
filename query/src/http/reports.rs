//! `/api/v1/reports`: make a report, list those that are kept, download or delete one.

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};

use super::what_if::filters;
use super::{Api, Audited, Who, json as answer};
use crate::error::{Error, ErrorKind, Result};
use crate::report::{Kept, ReportRequest, Reports};
use crate::time::format_instant;

const FIELDS: &str = "kind, period, format, team, by, filters";

fn reports(api: &Api) -> Result<&Reports> {
    api.control.reports().ok_or_else(|| {
        Error::new(
            ErrorKind::Invalid,
            "no reports are kept here; ask a server that `spanledger serve` started, or use `spanledger report`",
        )
    })
}

pub(super) async fn make(
    State(api): State<Api>,
    Extension(principal): Who,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response> {
    let body = body.map_err(|_| Error::invalid("the request body could not be read"))?;
    let request = read(&body)?;
    let reports = reports(&api)?;
    let artefact = api.engine.report(&principal, &request, &|_, _| {}).await?;
    let kept = reports.keep(&principal, &artefact, api.engine.now_ns()).await?;
    let mut told = described(&kept);
    told["total"] = Value::from(artefact.total.to_string());
    told["rows"] = Value::from(artefact.n_rows);
    told["notes"] = Value::from(artefact.notes);
    let mut response = answer(&told);
    response
        .extensions_mut()
        .insert(Audited(format!("{} {} {}", kept.kind, request.period, kept.id)));
    Ok(response)
}

pub(super) async fn list(State(api): State<Api>, Extension(principal): Who) -> Result<Response> {
    let kept = reports(&api)?.list(&principal, api.engine.now_ns()).await?;
    Ok(answer(&kept.iter().map(described).collect::<Vec<_>>()))
}

pub(super) async fn download(
    State(api): State<Api>,
    Extension(principal): Who,
    Path(id): Path<String>,
) -> Result<Response> {
    let (kept, bytes) = reports(&api)?.read(&principal, &id, api.engine.now_ns()).await?;
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    let value =
        |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let mime_type = match kept.mime_type.as_str() {
        text if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        other => other.to_owned(),
    };
    headers.insert(header::CONTENT_TYPE, value(&mime_type));
    let disposition = format!("attachment; filename=\"{}\"", kept.file_name);
    headers.insert(header::CONTENT_DISPOSITION, value(&disposition));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // A page that is opened after all runs nothing and is nobody's origin.
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    Ok(response)
}

pub(super) async fn delete(
    State(api): State<Api>,
    Extension(principal): Who,
    Path(id): Path<String>,
) -> Result<Response> {
    let kept = reports(&api)?.delete(&principal, &id, api.engine.now_ns()).await?;
    let mut response = answer(&json!({ "deleted": kept.id }));
    response
        .extensions_mut()
        .insert(Audited(format!("deleted {} {}", kept.kind, kept.id)));
    Ok(response)
}

fn described(kept: &Kept) -> Value {
    let at = |us: i64| format_instant(us.saturating_mul(1_000));
    json!({
        "id": kept.id,
        "kind": kept.kind,
        "title": kept.title,
        "mime_type": kept.mime_type,
        "file_name": kept.file_name,
        "size_bytes": kept.size_bytes,
        "sha256": kept.sha256,
        "created_at": at(kept.created_at_us),
        "expires_at": kept.expires_at_us.map(at),
        "url": format!("/api/v1/reports/{}", kept.id),
        "resource": format!("spanledger://reports/{}", kept.id),
    })
}

fn read(body: &[u8]) -> Result<ReportRequest> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| Error::invalid(format!("the body is no JSON object of {FIELDS}: {error}")))?;
    let Value::Object(fields) = body else {
        return Err(Error::invalid(format!("the body is a JSON object of {FIELDS}")));
    };
    let (mut kind, mut period, mut format, mut by, mut conditions) = (None, None, None, String::new(), Vec::new());
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let text = || {
            value
                .as_str()
                .ok_or_else(|| Error::invalid(format!("`{name}` is a text")))
        };
        match name.as_str() {
            "kind" => kind = Some(text()?),
            "period" => period = Some(text()?),
            "format" => format = Some(text()?),
            "team" => conditions.extend(filters(&json!({ "team": value }))?),
            "filters" => conditions.extend(filters(value)?),
            "by" => {
                by = match value {
                    Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
                    _ => text()?.to_owned(),
                };
            }
            unknown => {
                return Err(Error::invalid(format!(
                    "there is no field `{unknown}`; fields: {FIELDS}"
                )));
            }
        }
    }
    let missing = |name: &str| Error::invalid(format!("`{name}` is missing; fields: {FIELDS}"));
    ReportRequest::read(
        kind.ok_or_else(|| missing("kind"))?,
        period.ok_or_else(|| missing("period"))?,
        format,
        &by,
        conditions,
    )
}
