//! The routes of budgets and allocation rules, beside those of [`crate::http`].
//!
//! | route | does |
//! |---|---|
//! | `GET /api/v1/budgets` | all budgets as they stand; `?as_of=` |
//! | `GET /api/v1/budgets/{name}` | one |
//! | `PUT /api/v1/budgets/{name}` | sets it: `{"amount": "1200", "period": "month", "filters": {"team": ["a"]}, "thresholds": {"actual": [80, 100], "forecast": [100]}}`; `?preview=true` only says what would change |
//! | `DELETE /api/v1/budgets/{name}` | deletes it |
//! | `GET /api/v1/allocation/rules` | the rules in use |
//! | `PUT /api/v1/allocation/rules/{name}` | sets a rule: `{"match": {"api_key": ["ci-*"]}, "set": {"team": "platform"}}`; `?preview=true` likewise |

use std::collections::BTreeMap;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use spanledger_access::audit::Interface;
use spanledger_access::routes::Need;
use spanledger_access::{Principal, Scope, routes};
use spanledger_ledger::allocation::edit::NewRule;
use spanledger_ledger::budget::Thresholds;

use super::Finops;
use super::budgets::budget_from;
use crate::costs::CURRENCY;
use crate::error::{Error, Result};
use crate::time::parse_instant;

routes! {
    /// Every route here and what it needs.
    pub ROUTES, table: Finops;
    GET "/api/v1/budgets", Need::Scope(Scope::CostsRead) => list;
    GET "/api/v1/budgets/{name}", Need::Scope(Scope::CostsRead) => one;
    PUT "/api/v1/budgets/{name}", Need::Scope(Scope::FinopsWrite) => set;
    DELETE "/api/v1/budgets/{name}", Need::Scope(Scope::FinopsWrite) => delete;
    GET "/api/v1/allocation/rules", Need::Scope(Scope::CostsRead) => rules;
    PUT "/api/v1/allocation/rules/{name}", Need::Scope(Scope::FinopsWrite) => set_rule;
}

/// The routes, with their prefix; like those of [`crate::http`] they trust the [`Principal`] in the extensions.
pub fn router(finops: Finops) -> Router {
    table().with_state(finops)
}

type Who = Extension<Principal>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(default)]
    preview: bool,
    as_of: Option<String>,
}

type Asked = std::result::Result<Query<Parameters>, axum::extract::rejection::QueryRejection>;

fn asked(parameters: Asked) -> Result<Parameters> {
    parameters
        .map(|Query(parameters)| parameters)
        .map_err(|_| Error::invalid("the parameters here are `preview` (true or false) and `as_of`"))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Option<String>),
    Many(Vec<Option<String>>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Amount {
    Text(String),
    Number(serde_json::Number),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetBody {
    amount: Amount,
    period: Option<String>,
    #[serde(default)]
    filters: BTreeMap<String, OneOrMany>,
    thresholds: Option<Thresholds>,
}

async fn list(State(finops): State<Finops>, Extension(principal): Who, parameters: Asked) -> Result<Response> {
    let now_ns = finops.engine.now_ns();
    let as_of = asked(parameters)?.as_of.filter(|text| !text.is_empty());
    let as_of_ns = as_of.map(|text| parse_instant(&text, now_ns)).transpose()?;
    let budgets = finops.budgets(&principal, as_of_ns).await?;
    Ok(Json(json!({ "budgets": budgets, "currency": CURRENCY })).into_response())
}

async fn one(State(finops): State<Finops>, Extension(principal): Who, Path(name): Path<String>) -> Result<Response> {
    Ok(Json(finops.budget(&principal, &name).await?).into_response())
}

async fn set(
    State(finops): State<Finops>,
    Extension(principal): Who,
    Path(name): Path<String>,
    parameters: Asked,
    body: std::result::Result<Json<BudgetBody>, axum::extract::rejection::JsonRejection>,
) -> Result<Response> {
    let Json(body) = body.map_err(|rejection| {
        Error::invalid(format!(
            "the body is not {{\"amount\": \"1200\", \"period\": \"month\", \"filters\": {{\"team\": [\"a\"]}}}}: {}",
            rejection.body_text()
        ))
    })?;
    let filters = body.filters.into_iter().map(|(dimension, values)| {
        let values = match values {
            OneOrMany::One(value) => vec![value],
            OneOrMany::Many(values) => values,
        };
        (dimension, values)
    });
    // A number's digits, never its float.
    let amount = match body.amount {
        Amount::Text(text) => text,
        Amount::Number(number) => number.to_string(),
    };
    let budget = budget_from(
        &name,
        &amount,
        body.period.as_deref(),
        filters.collect(),
        body.thresholds,
    )?;
    if asked(parameters)?.preview {
        return Ok(Json(finops.preview_budget(&principal, budget).await?).into_response());
    }
    let measured = finops.set_budget(&principal, Interface::Rest, budget).await?;
    Ok(Json(measured).into_response())
}

async fn delete(State(finops): State<Finops>, Extension(principal): Who, Path(name): Path<String>) -> Result<Response> {
    let budget = finops.delete_budget(&principal, Interface::Rest, &name).await?;
    Ok(Json(json!({ "deleted": budget.name })).into_response())
}

async fn rules(State(finops): State<Finops>, Extension(principal): Who) -> Result<Response> {
    Ok(Json(finops.rules(&principal)?).into_response())
}

async fn set_rule(
    State(finops): State<Finops>,
    Extension(principal): Who,
    Path(name): Path<String>,
    parameters: Asked,
    body: std::result::Result<Json<Value>, axum::extract::rejection::JsonRejection>,
) -> Result<Response> {
    let teach = |error: String| {
        Error::invalid(format!(
            "the body is not {{\"match\": {{\"api_key\": [\"ci-*\"]}}, \"set\": {{\"team\": \"platform\"}}}}: {error}"
        ))
    };
    let Json(mut body) = body.map_err(|rejection| teach(rejection.body_text()))?;
    if let Some(fields) = body.as_object_mut() {
        fields.insert("name".to_owned(), name.into());
    }
    let rule: NewRule = serde_json::from_value(body).map_err(|error| teach(error.to_string()))?;
    if asked(parameters)?.preview {
        return Ok(Json(finops.preview_rule(&principal, rule).await?).into_response());
    }
    let preview = finops.preview_rule(&principal, rule.clone()).await?;
    let version = finops.set_rule(&principal, Interface::Rest, rule).await?;
    Ok(Json(json!({ "version": version, "changed": version.is_some(), "preview": preview })).into_response())
}
