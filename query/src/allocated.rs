//! The view `allocated_costs`: direct cost and shared costs, by month and value of a dimension.
//!
//! A table that is computed when it is scanned: usage of each month and dimension from `ledger` and `calls`, by
//! SQL in the same catalog, then the exact split of [`spanledger_ledger::allocation::split`]. For every month and
//! dimension the rows sum to the month's direct cost and its shared costs. Only the dimensions and months that the
//! query's conditions leave are computed; months are those with usage, and those the query names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt as _;
use spanledger_lake::tables::codec::Encoder;
use spanledger_ledger::allocation::file::{DIMENSIONS, USAGE_FIELDS};
use spanledger_ledger::allocation::split::{Usage, split};
use spanledger_ledger::allocation::{Period, RuleSet, UNALLOCATED};
use spanledger_model::FemtoUsd;

use crate::catalog::Catalog;
use crate::costs::CURRENCY;
use crate::engine::ResultSet;
use crate::limits::ALLOCATED_ROWS_MAX;
use crate::rows::{Row, rows};
use crate::sandbox;

/// Name of the view.
pub(crate) const ALLOCATED_COSTS: &str = "allocated_costs";

/// The view, for one principal and query.
#[derive(Debug)]
pub(crate) struct AllocatedCosts {
    catalog: Catalog,
    rules: Arc<RuleSet>,
    schema: SchemaRef,
}

/// One row of the view.
struct Line {
    period: String,
    dimension: &'static str,
    value: String,
    shared_cost: Option<String>,
    method: Option<String>,
    weight: Option<FemtoUsd>,
    weight_total: Option<FemtoUsd>,
    cost: FemtoUsd,
    unpriced_tokens: i64,
}

impl AllocatedCosts {
    pub(crate) fn new(catalog: Catalog, rules: Arc<RuleSet>) -> Self {
        let schema = to_batch(&[], "").schema();
        Self { catalog, rules, schema }
    }

    /// The rows of some dimensions; of all months with usage, or of the named ones.
    async fn lines(&self, dimensions: &[&'static str], periods: Option<&BTreeSet<String>>) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        for dimension in dimensions {
            let usage = self.run(&usage_sql(&self.rules, dimension, periods)).await?;
            let mut months: BTreeMap<String, Vec<(Usage, i64)>> = BTreeMap::new();
            for period in periods.into_iter().flatten() {
                months.entry(period.clone()).or_default();
            }
            for row in rows(&usage) {
                let Some(period) = row.text("period") else { continue };
                months.entry(period).or_default().push(usage_of(row));
            }
            for (month, usage) in months {
                // What a query names may be no month.
                let Ok(period) = Period::parse(&month) else { continue };
                month_lines(&self.rules, period, dimension, &usage, &mut lines);
            }
        }
        Ok(lines)
    }

    /// Runs one of our own queries in the catalog of the query that asks.
    async fn run(&self, sql: &str) -> Result<ResultSet> {
        let state = self.catalog.session();
        let statement = sandbox::parse_query(sql).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let plan = state.statement_to_plan(statement).await?;
        let physical = state.create_physical_plan(&plan).await?;
        let schema = physical.schema();
        let mut stream = execute_stream(physical, state.task_ctx())?;
        let (mut batches, mut n_rows) = (Vec::new(), 0);
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            n_rows += batch.num_rows();
            if n_rows > ALLOCATED_ROWS_MAX {
                return Err(DataFusionError::ResourcesExhausted(format!(
                    "{ALLOCATED_COSTS} would add up over {ALLOCATED_ROWS_MAX} groups; ask for one period and one dimension"
                )));
            }
            batches.push(batch);
        }
        Ok(ResultSet {
            schema,
            batches,
            truncated: false,
        })
    }
}

/// Usage by month and value, and by what the shared costs ask of it.
fn usage_sql(rules: &RuleSet, dimension: &str, periods: Option<&BTreeSet<String>>) -> String {
    let asked = |field: &&&str| {
        let mut conditions = rules.shared().iter().flat_map(|cost| &cost.matches);
        conditions.any(|condition| condition.field.name() == **field)
    };
    let fields: Vec<&str> = USAGE_FIELDS.iter().filter(asked).copied().collect();
    let on_calls = |name: &str| match name {
        "model" => "COALESCE(response_model, request_model)".to_owned(),
        other => other.to_owned(),
    };
    let columns = |of: &dyn Fn(&str) -> String| -> String {
        let fields = fields.iter().map(|field| format!(", {} AS of_{field}", of(field)));
        format!("{} AS value{}", of(dimension), fields.collect::<String>())
    };
    let months: Vec<String> = periods
        .into_iter()
        .flatten()
        .filter_map(|month| Period::parse(month).ok())
        .map(|period| {
            let day = |day: i64| {
                let date = chrono::DateTime::from_timestamp(day * 86_400, 0).unwrap_or_default();
                format!("DATE '{}'", date.format("%Y-%m-%d"))
            };
            let first = period.first_day();
            format!("(day >= {} AND day < {})", day(first), day(first + period.n_days()))
        })
        .collect();
    let condition = match (periods, months.is_empty()) {
        (None, _) => String::new(),
        (Some(_), true) => " WHERE false".to_owned(),
        (Some(_), false) => format!(" WHERE {}", months.join(" OR ")),
    };
    let names: String = fields.iter().map(|field| format!(", of_{field}")).collect();
    let group: Vec<String> = (1..=2 + fields.len()).map(|column| column.to_string()).collect();
    format!(
        "SELECT period, value{names}, SUM(cost) AS cost, SUM(tokens) AS tokens, SUM(unpriced) AS unpriced_tokens, \
         SUM(calls) AS calls, SUM(llm_calls) AS llm_calls, SUM(tool_calls) AS tool_calls FROM (\
         SELECT substr(CAST(day AS VARCHAR), 1, 7) AS period, {}, effective_cost AS cost, tokens, \
         CASE WHEN effective_cost IS NULL THEN tokens END AS unpriced, CAST(NULL AS BIGINT) AS calls, \
         CAST(NULL AS BIGINT) AS llm_calls, CAST(NULL AS BIGINT) AS tool_calls FROM ledger{condition} UNION ALL \
         SELECT substr(CAST(day AS VARCHAR), 1, 7), {}, CAST(NULL AS DECIMAL(38,15)), CAST(NULL AS BIGINT), \
         CAST(NULL AS BIGINT), 1, CASE WHEN kind = 'llm' THEN 1 ELSE 0 END, CASE WHEN kind = 'tool' THEN 1 ELSE 0 END \
         FROM calls{condition}) GROUP BY {}",
        columns(&str::to_owned),
        columns(&on_calls),
        group.join(", ")
    )
}

fn usage_of(row: Row<'_>) -> (Usage, i64) {
    let field = |name: &&'static str| Some((*name, row.text(&format!("of_{name}"))?));
    let usage = Usage {
        value: row.text("value"),
        fields: USAGE_FIELDS.iter().filter_map(field).collect(),
        cost: row.cost("cost").unwrap_or_default(),
        tokens: row.count("tokens"),
        calls: row.count("calls"),
        llm_calls: row.count("llm_calls"),
        tool_calls: row.count("tool_calls"),
    };
    (usage, row.count("unpriced_tokens"))
}

/// Direct cost by value, then each shared cost's parts.
fn month_lines(
    rules: &RuleSet,
    period: Period,
    dimension: &'static str,
    usage: &[(Usage, i64)],
    lines: &mut Vec<Line>,
) {
    let mut direct: BTreeMap<&str, (FemtoUsd, i64)> = BTreeMap::new();
    for (row, unpriced_tokens) in usage {
        let sum = direct.entry(row.value.as_deref().unwrap_or(UNALLOCATED)).or_default();
        sum.0 += row.cost;
        sum.1 += unpriced_tokens;
    }
    lines.extend(direct.into_iter().map(|(value, (cost, unpriced_tokens))| Line {
        period: period.to_string(),
        dimension,
        value: value.to_owned(),
        shared_cost: None,
        method: None,
        weight: None,
        weight_total: None,
        cost,
        unpriced_tokens,
    }));
    let usage: Vec<Usage> = usage.iter().map(|(usage, _)| usage.clone()).collect();
    for pool in split(rules.shared(), period, dimension, &usage) {
        let stated = rules.shared().iter().find(|cost| cost.name == pool.cost);
        let method = stated.map(|cost| match &cost.by {
            Some(by) if by != dimension => format!("stated by {by}, not split by {dimension}"),
            _ => cost.method_text(),
        });
        lines.extend(pool.shares.into_iter().map(|share| Line {
            period: period.to_string(),
            dimension,
            value: share.value,
            shared_cost: Some(share.cost),
            method: method.clone(),
            weight: share.weight,
            weight_total: share.weight.and(pool.weight_total),
            cost: share.amount,
            unpriced_tokens: 0,
        }));
    }
}

fn to_batch(lines: &[Line], version: &str) -> RecordBatch {
    let rows = lines.iter();
    let mut encoder = Encoder::default();
    encoder.text("period", rows.clone().map(|row| Some(row.period.as_str())));
    encoder.text("dimension", rows.clone().map(|row| Some(row.dimension)));
    encoder.text("value", rows.clone().map(|row| Some(row.value.as_str())));
    let kind = |row: &Line| if row.shared_cost.is_some() { "shared" } else { "direct" };
    encoder.text("kind", rows.clone().map(|row| Some(kind(row))));
    encoder.text("shared_cost", rows.clone().map(|row| row.shared_cost.as_deref()));
    encoder.text("method", rows.clone().map(|row| row.method.as_deref()));
    encoder.money("weight", rows.clone().map(|row| row.weight));
    encoder.money("weight_total", rows.clone().map(|row| row.weight_total));
    encoder.money("cost", rows.clone().map(|row| Some(row.cost)));
    encoder.text("currency", rows.clone().map(|_| Some(CURRENCY)));
    encoder.int("unpriced_tokens", rows.clone().map(|row| Some(row.unpriced_tokens)));
    encoder.text("rules_version", rows.map(|_| Some(version)));
    encoder.finish()
}

/// The values that the conditions of a query allow a column; `None` where they do not say.
fn allowed(filters: &[Expr], column: &str) -> Option<BTreeSet<String>> {
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(found) if found.name == column);
    let text = |expr: &Expr| match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _) => Some(text.clone()),
        _ => None,
    };
    let one = |filter: &Expr| -> Option<BTreeSet<String>> {
        match filter {
            Expr::BinaryExpr(binary) if binary.op == Operator::Eq => {
                let (left, right) = (binary.left.as_ref(), binary.right.as_ref());
                let value = if is_column(left) { right } else { left };
                (is_column(left) || is_column(right))
                    .then(|| text(value))
                    .flatten()
                    .map(|text| [text].into())
            }
            Expr::InList(list) if !list.negated && is_column(&list.expr) => list.list.iter().map(text).collect(),
            _ => None,
        }
    };
    let sets = filters.iter().filter_map(one);
    sets.reduce(|all, more| all.intersection(&more).cloned().collect())
}

#[async_trait]
impl TableProvider for AllocatedCosts {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // They say what to compute; the rows are filtered above.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted = allowed(filters, "dimension");
        let dimensions = DIMENSIONS
            .into_iter()
            .filter(|name| wanted.as_ref().is_none_or(|wanted| wanted.contains(*name)));
        let dimensions: Vec<&'static str> = dimensions.collect();
        let lines = self.lines(&dimensions, allowed(filters, "period").as_ref()).await?;
        let batch = to_batch(&lines, self.rules.version());
        Ok(MemorySourceConfig::try_new_exec(
            &[vec![batch]],
            Arc::clone(&self.schema),
            projection.cloned(),
        )?)
    }
}
