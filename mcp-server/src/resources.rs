//! Resources: what a client may attach to a conversation without asking a tool.
//!
//! Each is the answer of a tool or of the engine under an address, so it agrees with them, is bounded as they are,
//! and sees the rows that its reader may see. A resource of somebody else is answered as one that does not exist.
//!
//! | address | what it holds |
//! |---|---|
//! | `spanledger://schema` | tables and their columns |
//! | `spanledger://dimensions/{name}` | values of a dimension, dearest first |
//! | `spanledger://budgets` | budgets and what is spent of them; can be subscribed to |
//! | `spanledger://price-book` | the rates of the models in use |
//! | `spanledger://traces/{id}` | the tree of a trace |
//! | `spanledger://reports/{id}` | an artefact, for who made it |
//! | `spanledger://tasks/{id}` | a task, for who started it |
//! | `ui://spanledger/cost-explorer` | the page that shows the answers of `query_costs` |

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rmcp::model::{ErrorCode, ErrorData, MetaObject, Resource, ResourceContents, ResourceTemplate};
use serde_json::{Map, Value, json};
use spanledger_access::Principal;
use spanledger_model::TraceId;
use spanledger_query::report::{Kept, Reports};
use spanledger_query::views::TABLES;
use spanledger_query::{Dimension, Error, ErrorKind, QueryOptions};

use crate::limits::{REPORT_BYTES_MAX, REPORTS_LISTED, ROWS_TOKENS_MAX, SQL_ROWS_MAX};
use crate::shared::Shared;
use crate::tasks;
use crate::text::{DATA_NOTE, clean_value, tokens_at_most};
use crate::tools::{self, table};

/// The budgets of the tenant.
pub(crate) const BUDGETS: &str = "spanledger://budgets";
const SCHEMA: &str = "spanledger://schema";
const PRICE_BOOK: &str = "spanledger://price-book";
const DIMENSIONS: &str = "spanledger://dimensions/";
const TRACES: &str = "spanledger://traces/";
const REPORTS: &str = "spanledger://reports/";
/// The page of `query_costs`.
pub(crate) const APP: &str = "ui://spanledger/cost-explorer";
/// What hosts show as a page of its own.
pub(crate) const APP_MIME_TYPE: &str = "text/html;profile=mcp-app";
const APP_HTML: &str = include_str!("../app/cost-explorer.html");
const JSON: &str = "application/json";

/// What can be read at once, and artefacts of this principal, newest first, in pages: with the cursor of the next.
///
/// # Errors
/// `-32602` for a cursor that is none of ours, or whose artefact is gone; otherwise those of the control state.
pub(crate) async fn listed(
    shared: &Shared,
    principal: &Principal,
    cursor: Option<&str>,
) -> Result<(Vec<Resource>, Option<String>), ErrorData> {
    let reports = own_reports(shared, principal).await?;
    let from = match cursor {
        None => 0,
        Some(cursor) => {
            let last = URL_SAFE_NO_PAD
                .decode(cursor)
                .ok()
                .and_then(|id| String::from_utf8(id).ok());
            let at = last.and_then(|last| reports.iter().position(|report| report.id == last));
            at.map(|at| at + 1).ok_or_else(|| {
                ErrorData::invalid_params("the cursor is none of this list; leave it out for the first page", None)
            })?
        }
    };
    let mut resources = if cursor.is_none() { fixed() } else { Vec::new() };
    let page = &reports[from..reports.len().min(from + REPORTS_LISTED)];
    resources.extend(page.iter().map(|report| {
        Resource::new(format!("{REPORTS}{}", report.id), report.file_name.clone())
            .with_title(report.title.clone())
            .with_mime_type(report.mime_type.clone())
            .with_size(u64::try_from(report.size_bytes).unwrap_or_default())
    }));
    let next = page.last().filter(|_| from + page.len() < reports.len());
    Ok((resources, next.map(|last| URL_SAFE_NO_PAD.encode(&last.id))))
}

/// The resources that are there for everybody.
fn fixed() -> Vec<Resource> {
    let fixed = |uri: &str, name: &str, title: &str, description: &str| {
        Resource::new(uri, name)
            .with_title(title)
            .with_description(description)
            .with_mime_type(JSON)
    };
    vec![
        fixed(
            SCHEMA,
            "schema",
            "Schema",
            "Tables and columns for run_sql, dimensions for query_costs",
        ),
        fixed(BUDGETS, "budgets", "Budgets", "Budgets and what is spent of them"),
        fixed(PRICE_BOOK, "price-book", "Price book", "Rates of the models in use"),
        app(),
    ]
}

/// The page of `query_costs` as a resource: it loads nothing from anywhere.
fn app() -> Resource {
    Resource::new(APP, "cost-explorer")
        .with_title("Cost explorer")
        .with_description("Table and bars of an answer of query_costs")
        .with_mime_type(APP_MIME_TYPE)
        .with_meta(app_meta())
}

fn app_meta() -> MetaObject {
    let mut meta = MetaObject::new();
    meta.0.insert(
        "ui".to_owned(),
        json!({ "csp": { "connectDomains": [], "resourceDomains": [], "frameDomains": [] }, "prefersBorder": true }),
    );
    meta
}

/// Addresses with a part to fill in.
pub(crate) fn templates() -> Vec<ResourceTemplate> {
    let template = |uri: String, name: &str, title: &str, description: &str| {
        ResourceTemplate::new(uri, name)
            .with_title(title)
            .with_description(description)
    };
    vec![
        template(
            format!("{DIMENSIONS}{{name}}"),
            "dimension",
            "Values of a dimension",
            "Values of a dimension, dearest first",
        )
        .with_mime_type(JSON),
        template(
            format!("{TRACES}{{id}}"),
            "trace",
            "Trace",
            "The tree of a trace, with own and total cost",
        )
        .with_mime_type(JSON),
        template(
            format!("{REPORTS}{{id}}"),
            "report",
            "Report",
            "An artefact of create_report, for who made it",
        ),
        template(
            format!("{}{{id}}", tasks::URI),
            "task",
            "Task",
            "State and result of a call that runs in the background",
        )
        .with_mime_type(JSON),
    ]
}

/// What lies at an address.
///
/// # Errors
/// "not found", the same for what does not exist and what belongs to somebody else; otherwise what the engine says.
pub(crate) async fn read(shared: &Shared, principal: &Principal, uri: &str) -> Result<ResourceContents, ErrorData> {
    let json = |value: Value| ResourceContents::text(value.to_string(), uri).with_mime_type(JSON);
    match uri {
        SCHEMA => return schema(shared, principal).await.map(json).map_err(failed),
        BUDGETS => return budgets(shared, principal).await.map(json).map_err(failed),
        PRICE_BOOK => return price_book(shared, principal).await.map(json).map_err(failed),
        APP => {
            return Ok(ResourceContents::text(APP_HTML, uri)
                .with_mime_type(APP_MIME_TYPE)
                .with_meta(app_meta()));
        }
        _ => {}
    }
    if let Some(name) = uri.strip_prefix(DIMENSIONS) {
        let dimension = Dimension::parse(name).map_err(|_| unknown(uri))?;
        let answer = tools::ask(
            shared,
            principal,
            "describe_data",
            json!({ "dimension": dimension.name() }),
        );
        return answer.await.map(json).map_err(failed);
    }
    if let Some(id) = uri.strip_prefix(TRACES) {
        let id = TraceId::from_hex(id).ok_or_else(|| unknown(uri))?;
        return match shared.engine().trace(principal, id).await {
            Ok(tree) => Ok(json(json!({ "trace": bounded(&tree), "notes": [DATA_NOTE] }))),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(unknown(uri)),
            Err(error) => Err(failed(error)),
        };
    }
    if let Some(id) = uri.strip_prefix(REPORTS) {
        return report(shared, principal, uri, id).await;
    }
    if let (Some(id), Some(tasks)) = (uri.strip_prefix(tasks::URI), shared.tasks()) {
        return tasks.resource(principal, id).await.map(json).map_err(|_| unknown(uri));
    }
    Err(unknown(uri))
}

async fn schema(shared: &Shared, principal: &Principal) -> Result<Value, Error> {
    let mut tables = Map::new();
    for table in TABLES {
        let described = tools::ask(shared, principal, "describe_data", json!({ "table": table.name })).await?;
        tables.insert(
            table.name.to_owned(),
            json!({ "description": table.description, "columns": described["columns"] }),
        );
    }
    Ok(json!({
        "tables": tables,
        "dimensions": Dimension::ALL.map(Dimension::name),
        "notes": ["NULL means not reported, never 0", "costs are exact decimals in USD", "times are UTC"],
    }))
}

/// Budgets and what is spent of them.
///
/// # Errors
/// Those of the engine, and where this server keeps no state.
pub(crate) async fn budgets(shared: &Shared, principal: &Principal) -> Result<Value, Error> {
    let budgets = shared.finops()?.budgets(principal, None).await?;
    let budgets = serde_json::to_value(budgets)
        .map_err(|error| Error::new(ErrorKind::Internal, "the budgets cannot be written").with_source(error))?;
    Ok(json!({ "budgets": clean_value(budgets), "currency": "USD" }))
}

/// The rates of the models that this tenant's calls used.
async fn price_book(shared: &Shared, principal: &Principal) -> Result<Value, Error> {
    const SQL: &str = "SELECT layer, provider, model, bucket, unit, above_input_tokens, usd, per, valid_from, valid_to \
         FROM prices WHERE model IN (SELECT model FROM ledger GROUP BY model) \
         ORDER BY provider, model, bucket, valid_from, above_input_tokens";
    let options = QueryOptions {
        rows_max: SQL_ROWS_MAX,
        ..QueryOptions::default()
    };
    let result = shared.engine().sql(principal, SQL, &options).await?;
    let (rows, cut) = table(&result)?;
    Ok(json!({
        "version": shared.engine().book().version(),
        "currency": "USD",
        "columns": rows.columns_json(),
        "rows": rows.rows_json(),
        "truncated": cut || result.truncated,
        "notes": ["rates of the models in use; run_sql on the table prices for all others"],
    }))
}

/// A trace as JSON, harmless, and cut to what a context takes.
fn bounded(tree: &spanledger_query::TraceTree) -> Value {
    let mut value = clean_value(serde_json::to_value(tree).unwrap_or_default());
    if let Some(nodes) = value.get_mut("nodes").and_then(Value::as_array_mut) {
        let mut n_tokens = 0;
        let kept = nodes
            .iter()
            .take_while(|node| {
                n_tokens += tokens_at_most(&node.to_string());
                n_tokens <= ROWS_TOKENS_MAX
            })
            .count();
        if kept < nodes.len() {
            let total = nodes.len();
            nodes.truncate(kept);
            value["shown"] = json!(format!(
                "{kept} of {total} nodes; run_sql on spans and calls for the others"
            ));
        }
    }
    value
}

/// The reports of this server, where it keeps any.
fn reports(shared: &Shared) -> Option<Reports> {
    let (state, folder) = shared.state().ok().zip(shared.artefacts().ok())?;
    Some(Reports::new(state.clone(), folder))
}

/// Artefacts of this principal, newest first.
async fn own_reports(shared: &Shared, principal: &Principal) -> Result<Vec<Kept>, ErrorData> {
    let Some(reports) = reports(shared) else {
        return Ok(Vec::new());
    };
    reports.list(principal, shared.now_ns()).await.map_err(failed)
}

/// An artefact, for who made it and who keeps the tenant's books.
async fn report(shared: &Shared, principal: &Principal, uri: &str, id: &str) -> Result<ResourceContents, ErrorData> {
    let refused = |error: Error| match error.kind() {
        ErrorKind::NotFound => unknown(uri),
        _ => failed(error),
    };
    let reports = reports(shared).ok_or_else(|| unknown(uri))?;
    let kept = reports.find(principal, id, shared.now_ns()).await.map_err(refused)?;
    let size = kept.size_bytes;
    if size > REPORT_BYTES_MAX {
        let message = match shared.link(&format!("/api/v1/reports/{id}")) {
            Some(link) => format!("the report has {size} bytes, too many for a message; download it from {link}"),
            None => format!("the report has {size} bytes, too many for a message"),
        };
        return Err(ErrorData::invalid_params(message, None));
    }
    let (kept, bytes) = reports.read(principal, id, shared.now_ns()).await.map_err(refused)?;
    let is_text = kept.mime_type.starts_with("text/") || kept.mime_type == JSON;
    let contents = match String::from_utf8(bytes) {
        Ok(text) if is_text => ResourceContents::text(text, uri),
        Ok(text) => ResourceContents::blob(STANDARD.encode(text), uri),
        Err(error) => ResourceContents::blob(STANDARD.encode(error.as_bytes()), uri),
    };
    Ok(contents.with_mime_type(kept.mime_type))
}

/// The one answer for what does not exist and what belongs to somebody else.
pub(crate) fn unknown(uri: &str) -> ErrorData {
    ErrorData::resource_not_found(
        "there is no such resource; resources/list and resources/templates/list name what there is",
        Some(json!({ "uri": uri })),
    )
}

/// An error of the engine: its kind decides whether the caller can mend it.
fn failed(error: Error) -> ErrorData {
    let code = match error.kind() {
        ErrorKind::Corrupt | ErrorKind::Internal => {
            tracing::error!(kind = error.kind().as_str(), detail = %error.detail(), "resource failed");
            ErrorCode::INTERNAL_ERROR
        }
        _ => ErrorCode::INVALID_PARAMS,
    };
    ErrorData::new(code, format!("{}: {}", error.kind().as_str(), error.message()), None)
}
