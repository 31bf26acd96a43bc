//! The coverage report: what was understood of what arrived, what was not, and the mapping that is missing.
//!
//! One report for `spanledger doctor --coverage` and `GET /api/v1/coverage`: the views of
//! [`crate::evidence`] over the same snapshots, and a TOML mapping a group of unmapped keys
//! ([`crate::mapping`]). It names keys and types, never the value of a text. It changes nothing.

use serde::Serialize;
use serde_json::Value;
use spanledger_access::Principal;

use crate::engine::{Engine, QueryOptions, ResultSet, Session};
use crate::error::{Error, Result};
use crate::format::{Format, write};
use crate::limits::{COVERAGE_CALLS_MAX, COVERAGE_ROWS_MAX};
use crate::mapping::{self, Mapping, Served, Unmapped};
use crate::rows::rows;

/// What was understood and what was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CoverageReport {
    /// Rows of the view `coverage`, what is not recognised first.
    pub services: Value,
    /// Rows of the view `unmapped_keys`, the most frequent first.
    pub unmapped_keys: Value,
    /// Mappings that would read those keys, one a group of services or scopes.
    pub mappings: Vec<Mapping>,
    /// Rows of the view `fold_rules`, with what each rule does.
    pub fold_rules: Value,
    /// Calls by how sure they are: `confidence`, `calls`, `tokens`, `cost`.
    pub confidence: Value,
    /// The newest calls that rest on a guess, and why.
    pub uncertain: Value,
    /// True where a part has more rows than are shown; SQL on the views gives all.
    pub truncated: bool,
}

impl Engine {
    /// The coverage report of the principal's tenant.
    ///
    /// # Errors
    /// Those of [`Engine::sql`].
    pub async fn coverage(&self, principal: &Principal) -> Result<CoverageReport> {
        report(&self.session(principal)).await
    }
}

async fn report(session: &Session) -> Result<CoverageReport> {
    let ask = async |sql: &str, rows_max: usize| {
        let options = QueryOptions {
            rows_max,
            ..QueryOptions::default()
        };
        session.query(sql, &options).await
    };
    let services = ask(
        "SELECT service, scope, dialect, spans, logs, points, records, recognised, unrecognised, guessed, \
         records_with_tokens, records_with_cost, last_seen FROM coverage \
         ORDER BY recognised = 0, service NULLS LAST, unrecognised DESC, scope NULLS FIRST",
        COVERAGE_ROWS_MAX,
    )
    .await?;
    let unmapped = ask(
        "SELECT service, scope, dialect, signal, key, field, example_type, records FROM unmapped_keys \
         ORDER BY records DESC, service NULLS LAST, scope NULLS FIRST, signal, key",
        COVERAGE_ROWS_MAX,
    )
    .await?;
    let rules = ask(
        "SELECT rule, confidence, fold_meaning(rule) AS meaning, calls, tokens, cost FROM fold_rules \
         ORDER BY calls DESC, rule NULLS FIRST, confidence",
        COVERAGE_ROWS_MAX,
    )
    .await?;
    let confidence = ask(
        "SELECT confidence, COUNT(*) AS calls, SUM(COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0)) AS tokens, \
         SUM(own_cost) AS cost FROM calls GROUP BY confidence ORDER BY calls DESC",
        COVERAGE_ROWS_MAX,
    )
    .await?;
    let uncertain = ask(
        &format!(
            "SELECT time, call_id, kind, service, server, tool, model, tokens, own_cost, rules, why FROM uncertain \
             ORDER BY time DESC, call_id LIMIT {COVERAGE_CALLS_MAX}"
        ),
        COVERAGE_CALLS_MAX,
    )
    .await?;
    Ok(CoverageReport {
        mappings: mappings(&services, &unmapped),
        truncated: services.truncated || unmapped.truncated || rules.truncated,
        services: json_rows(&services)?,
        unmapped_keys: json_rows(&unmapped)?,
        fold_rules: json_rows(&rules)?,
        confidence: json_rows(&confidence)?,
        uncertain: json_rows(&uncertain)?,
    })
}

fn mappings(services: &ResultSet, unmapped: &ResultSet) -> Vec<Mapping> {
    let served: Vec<Served> = rows(services)
        .map(|row| Served {
            service: row.text("service"),
            scope: row.text("scope"),
            // A guess is no reading: a mapping has to say it for certain.
            recognised: row.count("recognised").saturating_sub(row.count("guessed")),
            unrecognised: row.count("unrecognised").saturating_add(row.count("guessed")),
        })
        .collect();
    let keys: Vec<Unmapped> = rows(unmapped)
        .filter_map(|row| {
            Some(Unmapped {
                service: row.text("service"),
                scope: row.text("scope"),
                dialect: row.text("dialect"),
                signal: row.text("signal")?,
                key: row.text("key")?,
                field: row.text("field")?,
                example_type: row.text("example_type").unwrap_or_default(),
                records: row.count("records"),
            })
        })
        .collect();
    mapping::suggest(&served, &keys)
}

/// The rows of an answer as a JSON array.
pub(crate) fn json_rows(result: &ResultSet) -> Result<Value> {
    let mut json = Vec::new();
    write(result, Format::Json, &mut json)?;
    serde_json::from_slice(&json).map_err(|error| Error::internal("the rows are no JSON").with_source(error))
}
