//! The REST API under `/api/v1`: what the dashboard, the CLI with `--url`, and scripts use.
//!
//! | route | answers |
//! |---|---|
//! | `POST /sql` | rows of one read-only statement: `{"query", "format", "limit"}`, or SQL as text with `?format=` |
//! | `GET /costs` | `?by=team,tool&since=7d&until=&limit=` and any dimension as a filter, `team=a,b` |
//! | | with `interval=hour`, `day`, `week` or `month` each row over time; with `compare=previous` beside the period before |
//! | `GET /change` | `?since=&until=&baseline_since=&baseline_until=&by=&limit=` and filters: why cost changed |
//! | `GET /anomalies` | `?since=&until=&min_impact=&limit=` and filters: episodes of spend out of the ordinary |
//! | `GET /spend` | `?interval=day&since=&until=` |
//! | `GET /forecast` | `?by=team&period=month&as_of=&interval_percent=80&limit=` and filters as for costs |
//! | `GET /savings` | `?since=30d&until=&kinds=idle_tools,…&limit=` and filters as for costs |
//! | `GET /overview` | `?since=&until=` |
//! | `GET /calls` | `?limit=50`, the newest first |
//! | `GET /calls/{id}/pieces` | whose each part of the cost of its model calls was; ids as below |
//! | `GET /calls/{id}/explain` | how a call was put together; also by the first digits of its id, a span's or a trace's id |
//! | `GET /coverage` | what was understood of what arrived, what was not, and the mapping that is missing |
//! | `GET /traces/{id}` | the tree of a trace |
//! | `GET /prices` | `?model=&provider=&at=` |
//! | `POST /what-if` | what calls would have cost otherwise: `{"scenarios": [{"models": {"a*": "b"}, …}], "by", "since", "until", "filters", "limit"}` |
//! | `POST /reports` | makes a report and keeps it: `{"kind", "period", "format", "team", "by", "filters"}`; `GET` lists, `GET /reports/{id}` downloads, `DELETE` deletes |
//! | `GET /status` | version, addresses, counts, freshness |
//! | `POST /settle` | settles everything acknowledged so far (`?rebuild=true`: compares the whole lake with its observations), then answers the positions and what was written |
//!
//! Errors are `{"error": {"kind", "message", "id"}}` with the status of the kind. Host, Origin, credentials and
//! scopes are checked before these routes, by whoever serves them and by the rules in [`ROUTES`]; the
//! [`Principal`] of a request is in its extensions.

mod anomalies;
mod change;
mod reports;
mod what_if;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use spanledger_access::routes::Need;
use spanledger_access::{Principal, Scope, routes};
use spanledger_lake::Positions;
use spanledger_ledger::budget::Period;
use spanledger_ledger::prices::PriceFilter;
use spanledger_ledger::settle::SettleReport;
use spanledger_model::TraceId;

use crate::costs::{CostRequest, Dimension, filter_values};
use crate::engine::{Engine, QueryOptions, ResultSet};
use crate::error::{Error, ErrorKind, Result};
use crate::forecast::ForecastRequest;
use crate::format::{Format, write};
use crate::limits::{BODY_BYTES_MAX, CALLS_DEFAULT, CALLS_MAX, ROWS_MAX};
use crate::overview::ServerStatus;
use crate::report::Reports;
use crate::savings::{Kind, SavingsRequest};
use crate::spend::Interval;
use crate::time::{format_instant, parse_instant};

/// Header of an answer that was cut at its row limit; absent from a whole one.
pub const TRUNCATED_HEADER: &str = "x-spanledger-truncated";
/// Seconds after which a busy server may be asked again.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

/// What the routes need of the server around them.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// Flushes and settles everything acknowledged so far.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) where nothing settles here (a lake opened for reading).
    async fn settle(&self) -> Result<Positions>;

    /// As [`settle`](Self::settle), and tells what was done; a rebuild compares the whole lake with what its
    /// observations demand.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) where nothing can be rebuilt.
    async fn settle_with(&self, is_rebuild: bool) -> Result<SettleReport> {
        if is_rebuild {
            return Err(Error::invalid("nothing is rebuilt here; ask a server that settles"));
        }
        let positions = self.settle().await?;
        Ok(SettleReport {
            positions,
            ..SettleReport::default()
        })
    }

    /// What the server says about itself.
    fn facts(&self) -> ServerFacts;

    /// The reports that are kept, where some are.
    fn reports(&self) -> Option<&Reports> {
        None
    }
}

/// What a server says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// Version of the program.
    pub version: String,
    /// Start, nanoseconds since the Unix epoch.
    pub started_ns: i64,
    /// Addresses by service.
    pub endpoints: Endpoints,
}

/// Addresses a server listens on, as URLs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Endpoints {
    /// OTLP over gRPC.
    pub otlp_grpc: Option<String>,
    /// OTLP over HTTP.
    pub otlp_http: Option<String>,
    /// Dashboard, REST and MCP.
    pub http: Option<String>,
}

#[derive(Clone)]
struct Api {
    engine: Engine,
    control: Arc<dyn Control>,
}

routes! {
    /// Every route and what it needs. The router is built of it, so that no route is without a rule.
    pub ROUTES, table: Api;
    POST "/api/v1/sql", Need::Scope(Scope::SqlRead) => sql;
    GET "/api/v1/costs", Need::Scope(Scope::CostsRead) => costs;
    GET "/api/v1/anomalies", Need::Scope(Scope::CostsRead) => anomalies::anomalies;
    GET "/api/v1/change", Need::Scope(Scope::CostsRead) => change::change;
    GET "/api/v1/savings", Need::Scope(Scope::CostsRead) => savings;
    GET "/api/v1/spend", Need::Scope(Scope::CostsRead) => spend;
    GET "/api/v1/forecast", Need::Scope(Scope::CostsRead) => forecast;
    GET "/api/v1/overview", Need::Scope(Scope::CostsRead) => overview;
    GET "/api/v1/calls", Need::Scope(Scope::CostsRead) => calls;
    GET "/api/v1/calls/{id}/explain", Need::Scope(Scope::CostsRead) => explain;
    GET "/api/v1/calls/{id}/pieces", Need::Scope(Scope::CostsRead) => pieces;
    GET "/api/v1/coverage", Need::Scope(Scope::CostsRead) => coverage;
    GET "/api/v1/traces/{id}", Need::Scope(Scope::CostsRead) => trace;
    GET "/api/v1/prices", Need::Scope(Scope::CostsRead) => prices;
    GET "/api/v1/status", Need::Scope(Scope::CostsRead) => status;
    POST "/api/v1/what-if", Need::Scope(Scope::CostsRead) => what_if::what_if;
    POST "/api/v1/reports", Need::Scope(Scope::CostsRead) => reports::make;
    GET "/api/v1/reports", Need::Scope(Scope::CostsRead) => reports::list;
    GET "/api/v1/reports/{id}", Need::Scope(Scope::CostsRead) => reports::download;
    DELETE "/api/v1/reports/{id}", Need::Scope(Scope::CostsRead) => reports::delete;
    POST "/api/v1/settle", Need::Scope(Scope::Admin) => settle;
    ANY "/api/v1/{*rest}", Need::Credential => unknown;
}

/// The routes, with their `/api/v1` prefix. They trust the [`Principal`] in a request's extensions and check no
/// rule of [`ROUTES`]: that is the layer's around them.
pub fn router(engine: Engine, control: Arc<dyn Control>) -> Router {
    table()
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Api { engine, control })
}

type Parameters = Query<Vec<(String, String)>>;

type Who = Extension<Principal>;

/// In the extensions of an answer: what the audit log keeps of its request beside the address, here the statement.
#[derive(Debug, Clone)]
pub struct Audited(pub String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlRequest {
    query: String,
    format: Option<String>,
    limit: Option<usize>,
}

async fn sql(
    State(api): State<Api>,
    Extension(principal): Who,
    parameters: Result<Parameters, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Error::new(
            ErrorKind::TooLarge,
            format!("a request is at most {BODY_BYTES_MAX} bytes"),
        ),
        _ => Error::invalid("the request body could not be read"),
    })?;
    let parameters = known_parameters(parameters, &["format", "limit"])?;
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    let mut request = if content_type.starts_with("application/json") {
        serde_json::from_slice::<SqlRequest>(&body)
            .map_err(|error| Error::invalid(format!("the body is not {{\"query\": …, \"format\": …}}: {error}")))?
    } else {
        let query = std::str::from_utf8(&body).map_err(|_| Error::invalid("the statement is not UTF-8"))?;
        SqlRequest {
            query: query.to_owned(),
            format: None,
            limit: None,
        }
    };
    if let Some(format) = parameters.get("format") {
        request.format.get_or_insert_with(|| format.clone());
    }
    let limit = match parameters.get("limit") {
        Some(limit) => Some(number("limit", limit)?),
        None => request.limit,
    };
    let format = request.format.as_deref().map_or(Ok(Format::Json), Format::parse)?;
    let mut options = QueryOptions::default();
    if let Some(limit) = limit {
        options.rows_max = limit.min(ROWS_MAX);
    }
    let result = api.engine.sql(&principal, &request.query, &options).await;
    let mut response = result.and_then(|result| answer(&result, format)).into_response();
    response.extensions_mut().insert(Audited(request.query));
    Ok(response)
}

async fn costs(
    State(api): State<Api>,
    Extension(principal): Who,
    parameters: Result<Parameters, axum::extract::rejection::QueryRejection>,
) -> Result<Response> {
    let CostQuestion {
        request,
        format,
        interval,
        compare,
    } = cost_request(parameters, api.engine.now_ns())?;
    if interval.is_some() || compare {
        if format != Format::Json {
            return Err(Error::invalid(
                "interval and compare are answered as JSON; leave out format",
            ));
        }
        let grown = api.engine.costs_grown(&principal, &request, interval, compare).await?;
        return Ok(json(&grown.to_json()?));
    }
    let report = api.engine.costs(&principal, &request).await?;
    match format {
        Format::Json => Ok(json(&report)),
        Format::Ndjson | Format::Arrow | Format::Parquet => answer(&report.to_result_set(None), format),
        Format::Table | Format::Csv | Format::Markdown => {
            answer(&report.to_result_set(Some(crate::costs::NONE)), format)
        }
    }
}

struct CostQuestion {
    request: CostRequest,
    format: Format,
    interval: Option<Interval>,
    compare: bool,
}

/// Reads `by`, `since`, `until`, `limit`, `format`, `measures`, `interval`, `compare`; every other parameter is a
/// dimension's filter.
fn cost_request(
    parameters: Result<Parameters, axum::extract::rejection::QueryRejection>,
    now_ns: i64,
) -> Result<CostQuestion> {
    let parameters = named_once(parameters)?;
    let mut request = CostRequest::default();
    let (mut format, mut interval, mut compare) = (Format::Json, None, false);
    for (name, value) in parameters {
        match name.as_str() {
            "by" => request.by = Dimension::parse_list(&value)?,
            "format" => format = Format::parse(&value)?,
            "since" => request.since_ns = instant(&value, now_ns)?,
            "until" => request.until_ns = instant(&value, now_ns)?,
            "limit" => request.limit = number("limit", &value)?,
            "measures" => request.measures = flag("measures", &value)?,
            "interval" if !value.is_empty() => interval = Some(Interval::parse(&value)?),
            "compare" if !value.is_empty() => compare = compares(&value)?,
            // A form sends its empty fields too.
            _ if value.is_empty() => {}
            name => {
                let dimension = Dimension::parse(name)?;
                request.filters.push((dimension, filter_values(&value)));
            }
        }
    }
    Ok(CostQuestion {
        request,
        format,
        interval,
        compare,
    })
}

/// What a report is compared with: only the period before.
fn compares(value: &str) -> Result<bool> {
    match value {
        "previous" => Ok(true),
        "none" => Ok(false),
        other => Err(Error::invalid(format!("compare is previous or none, not `{other}`"))),
    }
}

async fn spend(
    State(api): State<Api>,
    Extension(principal): Who,
    parameters: Result<Parameters, axum::extract::rejection::QueryRejection>,
) -> Result<Response> {
    let parameters = known_parameters(parameters, &["interval", "since", "until"])?;
    let interval = parameters
        .get("interval")
        .map_or(Ok(Interval::Day), |name| Interval::parse(name))?;
    let (since_ns, until_ns) = period(&parameters, api.engine.now_ns())?;
    let points = api.engine.spend(&principal, interval, since_ns, until_ns).await?;
    Ok(json(&points))
}

async fn forecast(
    State(api): State<Api>,
    Extension(principal): Who,
    parameters: Result<Parameters, axum::extract::rejection::QueryRejection>,
) -> Result<Response> {
    let parameters = named_once(parameters)?;
    let mut request = ForecastRequest::default();
    for (name, value) in parameters {
        match name.as_str() {
            _ if value.is_empty() => {}
            "by" => request.by = Some(Dimension::parse(&value)?),
            "period" => {
                request.period = Period::parse(&value).map_err(|error| Error::invalid(error.message().to_owned()))?;
            }
            "as_of" => request.as_of_ns = instant(&value, api.engine.now_ns())?,
            "interval_percent" => {
                let percent = number("interval_percent", &value)?;
                request.interval_percent = u32::try_from(percent)
                    .ok()
                    .filter(|percent| (1..=99).contains(percent))
                    .ok_or_else(|| Error::invalid("interval_percent is from 1 to 99"))?;
            }
            "limit" => request.limit = number("limit", &value)?,
            name => request.filters.push((Dimension::parse(name)?, filter_values(&value))),
        }
    }
    Ok(json(&api.engine.forecast(&principal, &request).await?))
}

async fn savings(
    State(api): State<Api>,
    Extension(principal): Who,
    parameters: Result<Parameters, axum::extract::rejection::QueryRejection>,
) -> Result<Response> {
    let parameters = named_once(parameters)?;
    let mut request = SavingsRequest::default();
    for (name, value) in parameters {
        match name.as_str() {
            _ if value.is_empty() => {}
            "since" => request.since_ns = instant(&value, api.engine.now_ns())?,
            "until" => request.until_ns = instant(&value, api.engine.now_ns())?,
            "kinds" => request.kinds = value.split(',').map(Kind::parse).collect::<Result<_>>()?,
            "limit" => request.limit = number("limit", &value)?,
            name => request.filters.push((Dimension::parse(name)?, filter_values(&value))),
        }
    }
    Ok(json(&api.engine.savings(&principal, &request).await?))
}

async fn overview(
    State(api): State<Api>,
    Extension(principal): Who,
    parameters: Result<Parameters, axum::extract::rejection::QueryRejection>,
) -> Result<Response> {
    let parameters = known_parameters(parameters, &["since", "until"])?;
    let (since_ns, until_ns) = period(&parameters, api.engine.now_ns())?;
    Ok(json(&api.engine.overview(&principal, since_ns, until_ns).await?))
}

async fn calls(
    State(api): State<Api>,
    Extension(principal): Who,
    parameters: Result<Parameters, axum::extract::rejection::QueryRejection>,
) -> Result<Response> {
    let parameters = known_parameters(parameters, &["limit", "format"])?;
    let limit = parameters
        .get("limit")
        .map_or(Ok(CALLS_DEFAULT), |limit| number("limit", limit))?;
    if limit > CALLS_MAX {
        return Err(Error::invalid(format!(
            "limit is at most {CALLS_MAX}; use POST /api/v1/sql for more"
        )));
    }
    let format = parameters
        .get("format")
        .map_or(Ok(Format::Json), |format| Format::parse(format))?;
    answer(&api.engine.latest_calls(&principal, limit).await?, format)
}

async fn trace(State(api): State<Api>, Extension(principal): Who, Path(id): Path<String>) -> Result<Response> {
    let trace_id = TraceId::from_hex(&id)
        .ok_or_else(|| Error::invalid(format!("`{id}` is no trace id: 32 hexadecimal digits")))?;
    Ok(json(&api.engine.trace(&principal, trace_id).await?))
}

async fn pieces(State(api): State<Api>, Extension(principal): Who, Path(id): Path<String>) -> Result<Response> {
    Ok(json(&api.engine.pieces(&principal, &id).await?))
}

async fn explain(State(api): State<Api>, Extension(principal): Who, Path(id): Path<String>) -> Result<Response> {
    Ok(json(&api.engine.explain(&principal, &id).await?))
}

async fn coverage(State(api): State<Api>, Extension(principal): Who) -> Result<Response> {
    Ok(json(&api.engine.coverage(&principal).await?))
}

async fn prices(
    State(api): State<Api>,
    parameters: Result<Parameters, axum::extract::rejection::QueryRejection>,
) -> Result<Response> {
    let parameters = known_parameters(parameters, &["model", "provider", "at"])?;
    let named = |name: &str| parameters.get(name).filter(|value| !value.is_empty()).cloned();
    let at_ns = match named("at") {
        Some(at) => Some(parse_instant(&at, api.engine.now_ns())?),
        None => None,
    };
    let filter = PriceFilter {
        provider: named("provider"),
        model: named("model"),
        at_ns,
    };
    Ok(json(&api.engine.book().list(&filter)))
}

#[derive(Serialize)]
struct StatusBody {
    version: String,
    started_at: String,
    #[serde(flatten)]
    counts: ServerStatus,
    freshness: Freshness,
    endpoints: Endpoints,
    price_book: String,
}

#[derive(Serialize)]
struct Freshness {
    acknowledged_at: Option<String>,
    committed_at: Option<String>,
    settled_at: Option<String>,
}

async fn status(State(api): State<Api>, Extension(principal): Who) -> Result<Response> {
    let facts = api.control.facts();
    let counts = api.engine.status(&principal).await?;
    let at = |ns: i64| (ns != 0).then(|| format_instant(ns));
    Ok(json(&StatusBody {
        version: facts.version,
        started_at: format_instant(facts.started_ns),
        freshness: Freshness {
            acknowledged_at: at(counts.positions.acknowledged_ns),
            committed_at: at(counts.positions.flushed_ns),
            settled_at: at(counts.positions.settled_ns),
        },
        counts,
        endpoints: facts.endpoints,
        price_book: api.engine.book().version().to_owned(),
    }))
}

#[derive(Deserialize)]
struct SettleQuery {
    #[serde(default)]
    rebuild: bool,
}

async fn settle(
    State(api): State<Api>,
    query: Result<Query<SettleQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response> {
    let Query(query) = query.map_err(unreadable)?;
    Ok(json(&api.control.settle_with(query.rebuild).await?))
}

async fn unknown(Path(rest): Path<String>) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!(
            "there is no /api/v1/{rest}; routes: sql, anomalies, costs, change, spend, overview, calls, calls/{{id}}/explain, calls/{{id}}/pieces, coverage, traces/{{id}}, prices, what-if, reports, reports/{{id}}, status, settle"
        ),
    )
}

fn known_parameters(
    parameters: Result<Parameters, axum::extract::rejection::QueryRejection>,
    known: &[&str],
) -> Result<HashMap<String, String>> {
    let Query(parameters) = parameters.map_err(unreadable)?;
    if let Some((unknown, _)) = parameters.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        return Err(Error::invalid(format!(
            "`{unknown}` is no parameter here; parameters: {}",
            known.join(", ")
        )));
    }
    Ok(parameters.into_iter().collect())
}

/// Parameters by name: `team=a&team=b` asks for `team=a,b`, not for what is of both teams, which nothing is.
fn named_once(
    parameters: Result<Parameters, axum::extract::rejection::QueryRejection>,
) -> Result<Vec<(String, String)>> {
    let Query(parameters) = parameters.map_err(unreadable)?;
    let mut merged: Vec<(String, String)> = Vec::with_capacity(parameters.len());
    for (name, value) in parameters {
        match merged.iter_mut().find(|(known, _)| *known == name) {
            // A form sends its empty fields too.
            Some(_) if value.is_empty() => {}
            Some((_, values)) if values.is_empty() => *values = value,
            Some((_, values)) => *values = format!("{values},{value}"),
            None => merged.push((name, value)),
        }
    }
    Ok(merged)
}

fn unreadable(_rejection: axum::extract::rejection::QueryRejection) -> Error {
    Error::invalid("the query string could not be read")
}

fn period(parameters: &HashMap<String, String>, now_ns: i64) -> Result<(Option<i64>, Option<i64>)> {
    let read = |name: &str| parameters.get(name).map_or(Ok(None), |text| instant(text, now_ns));
    Ok((read("since")?, read("until")?))
}

/// An instant, none where the parameter is empty.
fn instant(text: &str, now_ns: i64) -> Result<Option<i64>> {
    if text.is_empty() {
        Ok(None)
    } else {
        parse_instant(text, now_ns).map(Some)
    }
}

fn number(name: &str, text: &str) -> Result<usize> {
    text.parse()
        .map_err(|_| Error::invalid(format!("{name} is a whole number, not `{text}`")))
}

fn flag(name: &str, text: &str) -> Result<bool> {
    text.parse()
        .map_err(|_| Error::invalid(format!("{name} is true or false, not `{text}`")))
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => respond(Format::Json, body),
        Err(error) => Error::internal("the answer could not be written")
            .with_source(error)
            .into_response(),
    }
}

/// An answer in a format, with a file name for those that are saved.
fn answer(result: &ResultSet, format: Format) -> Result<Response> {
    let mut body = Vec::new();
    write(result, format, &mut body)?;
    let mut response = respond(format, body);
    let headers = response.headers_mut();
    if matches!(format, Format::Csv | Format::Parquet | Format::Arrow) {
        let disposition = format!("attachment; filename=\"spanledger.{}\"", format.extension());
        if let Ok(disposition) = HeaderValue::from_str(&disposition) {
            headers.insert(header::CONTENT_DISPOSITION, disposition);
        }
    }
    if result.truncated {
        headers.insert(TRUNCATED_HEADER, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn respond(format: Format, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[derive(Serialize)]
struct ErrorBody<'e> {
    error: ErrorFields<'e>,
}

#[derive(Serialize)]
struct ErrorFields<'e> {
    kind: &'static str,
    message: &'e str,
    id: String,
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match self.kind() {
            ErrorKind::Invalid => StatusCode::BAD_REQUEST,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::Busy => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Corrupt | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let id = next_error_id();
        if status.is_server_error() {
            tracing::error!(%id, kind = self.kind().as_str(), detail = %self.detail(), "request failed");
        } else {
            tracing::debug!(%id, kind = self.kind().as_str(), detail = %self.detail(), "request refused");
        }
        let body = ErrorBody {
            error: ErrorFields {
                kind: self.kind().as_str(),
                message: self.message(),
                id,
            },
        };
        let mut response = respond(Format::Json, serde_json::to_vec(&body).unwrap_or_default());
        *response.status_mut() = status;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_S);
        }
        response
    }
}

/// An id by which the log line of an error is found; it counts within the process.
fn next_error_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("q-{:08x}", NEXT.fetch_add(1, Ordering::Relaxed))
}
