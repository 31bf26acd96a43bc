//! Cost by any dimension, exactly: the parts of a report sum to its total, whatever the split.
//!
//! Money and tokens come from `ledger`, counts of calls from `calls`; both are grouped by the same
//! dimensions, put under each other and grouped once more, so that a tool without a cost line and a cost
//! without a call both keep their row. What has no value in a dimension is a group of its own, of team, project,
//! cost centre and environment with the name `__unallocated__`, and what a limit cuts off is the row *other*:
//! nothing is dropped.
//! A report is of whole hours, because what calls send again is one line an hour.
//!
//! A model call has lines of many tools, but it is one call: so `calls` of a tool are the calls *of* that tool,
//! the model's calls stand where no tool is named, and no call is counted twice or lost. Split by what only
//! lines have (`cause`, `touch`, `bucket`, `method`) there is no such place, and the rows have no counts of
//! calls at all; the total has.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{Field, Schema};
use serde::ser::{Serialize, SerializeMap, Serializer};
use spanledger_access::Principal;
use spanledger_lake::tables::codec::Encoder;
use spanledger_ledger::allocation::{Target, UNALLOCATED};
use spanledger_model::FemtoUsd;

use crate::engine::{Engine, QueryOptions, ResultSet, Session};
use crate::error::{Error, ErrorKind, Result, did_you_mean};
use crate::limits::{COST_DIMENSIONS_MAX, COST_GROUPS_DEFAULT, COST_GROUPS_MAX};
use crate::measures::{self, Measures, MethodShare};
use crate::rows::{Row, rows};
use crate::source::Source;
use crate::time::format_instant;
use crate::views::{IS_INPUT, IS_OUTPUT};

/// The currency of all costs.
pub const CURRENCY: &str = "USD";
/// How a missing value is written in filters, and shown in tables.
pub const NONE: &str = "(none)";

/// What a report can be split and filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dimension {
    name: &'static str,
    /// SQL on `ledger`; `None` where its lines do not have it themselves.
    on_ledger: Option<&'static str>,
    /// SQL on `calls`; `None` where a call has no such thing.
    on_calls: Option<&'static str>,
}

const fn both(name: &'static str) -> Dimension {
    Dimension {
        name,
        on_ledger: Some(name),
        on_calls: Some(name),
    }
}

const fn ledger_only(name: &'static str) -> Dimension {
    Dimension {
        name,
        on_ledger: Some(name),
        on_calls: None,
    }
}

/// The interval that something happened in, as a dimension of its own: its SQL is the same on both tables.
pub(crate) const fn point(sql: &'static str) -> Dimension {
    Dimension {
        name: "point",
        on_ledger: Some(sql),
        on_calls: Some(sql),
    }
}

/// The one dimension that a line takes from its call.
const KIND: Dimension = Dimension {
    name: "kind",
    on_ledger: None,
    on_calls: Some("kind"),
};

impl Dimension {
    /// All dimensions.
    pub const ALL: [Self; 22] = [
        both("team"),
        both("project"),
        both("cost_center"),
        both("environment"),
        both("user_id"),
        both("agent"),
        both("client"),
        both("service"),
        both("session_id"),
        both("api_key"),
        both("provider"),
        Self {
            name: "model",
            on_ledger: Some("model"),
            on_calls: Some("COALESCE(response_model, request_model)"),
        },
        both("server"),
        both("tool"),
        both("prompt"),
        both("resource_uri"),
        KIND,
        both("day"),
        ledger_only("cause"),
        ledger_only("touch"),
        ledger_only("bucket"),
        ledger_only("method"),
    ];

    /// Name in requests and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }

    /// True where rules allocate it: then what nothing tells is the group [`UNALLOCATED`].
    fn is_allocated(self) -> bool {
        Target::parse(self.name).is_some()
    }

    /// The group of a value, as [`group_name`](Self::group_name) has it in SQL.
    pub(crate) fn group_of(self, value: Option<String>) -> Option<String> {
        value.or_else(|| self.is_allocated().then(|| UNALLOCATED.to_owned()))
    }

    /// The name of its groups, by its column.
    pub(crate) fn group_name(self, column: String) -> String {
        if self.is_allocated() {
            format!("COALESCE({column}, '{UNALLOCATED}')")
        } else {
            column
        }
    }

    /// True for a column of lines or calls that no sums have.
    pub(crate) fn is_of_lines(self) -> bool {
        matches!(self.name, "session_id" | "kind")
    }

    /// True for what a use was for: sums of users do not have it.
    pub(crate) fn is_cause(self) -> bool {
        matches!(
            self.name,
            "server" | "tool" | "prompt" | "resource_uri" | "cause" | "touch"
        )
    }

    /// True for what a call has itself, and not only its money lines.
    pub(crate) fn is_of_calls(self) -> bool {
        self.on_calls.is_some()
    }

    /// Reads a name; `user` and `session` are taken for their columns.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) with the nearest name and all of them.
    pub fn parse(name: &str) -> Result<Self> {
        let wanted = match name.trim() {
            "user" => "user_id",
            "session" => "session_id",
            "resource" => "resource_uri",
            other => other,
        };
        let found = Self::ALL.into_iter().find(|dimension| dimension.name == wanted);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            Error::invalid(format!(
                "`{name}` is no dimension{}; dimensions: {}",
                did_you_mean(wanted, names.into_iter()),
                names.join(", ")
            ))
        })
    }

    /// Reads a comma-separated list.
    ///
    /// # Errors
    /// Those of [`Dimension::parse`], and [`Invalid`](ErrorKind::Invalid) for one named twice.
    pub fn parse_list(names: &str) -> Result<Vec<Self>> {
        let mut dimensions = Vec::new();
        for name in names.split(',').filter(|name| !name.trim().is_empty()) {
            let dimension = Self::parse(name)?;
            if dimensions.contains(&dimension) {
                return Err(Error::invalid(format!("`{}` is named twice", dimension.name)));
            }
            dimensions.push(dimension);
        }
        Ok(dimensions)
    }
}

/// A carried line sums the calls of an hour, so costs are told by whole hours.
pub(crate) const HOUR_NS: i64 = 3_600_000_000_000;

/// The whole hours (UTC) that a span of time is in: what the ledger can tell to the last digit.
#[must_use]
pub fn whole_hours(since_ns: Option<i64>, until_ns: Option<i64>) -> (Option<i64>, Option<i64>) {
    let begun = |ns: i64| ns.div_euclid(HOUR_NS).saturating_mul(HOUR_NS);
    let ended = |ns: i64| begun(ns.saturating_add(HOUR_NS - 1));
    (since_ns.map(begun), until_ns.map(ended))
}

/// A question for costs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CostRequest {
    /// Dimensions to split by; none for one row.
    pub by: Vec<Dimension>,
    /// First instant, nanoseconds since the Unix epoch; the report begins with its hour.
    pub since_ns: Option<i64>,
    /// First instant that is no more in it; the report ends with the hour that it is in.
    pub until_ns: Option<i64>,
    /// Only rows whose dimension has one of the values; `None` stands for rows without a value.
    pub filters: Vec<(Dimension, Vec<Option<String>>)>,
    /// Rows at most; the rest is summed up in *other*. 0 takes the default.
    pub limit: usize,
    /// Also the measures of tools.
    pub measures: bool,
}

/// One row of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CostRow {
    /// Values of the dimensions, in their order; `None` where there is none.
    pub keys: Vec<Option<String>>,
    /// Effective cost in USD; `None` where nothing is priced and something is unpriced.
    pub cost: Option<FemtoUsd>,
    /// All tokens.
    pub tokens: i64,
    /// Tokens that went in, cached ones included.
    pub input_tokens: i64,
    /// Tokens that came out, reasoning included.
    pub output_tokens: i64,
    /// Of the input: read from a cache.
    pub cache_read_tokens: i64,
    /// Of the input: written to a cache.
    pub cache_write_tokens: i64,
    /// Operations of any kind that are of this group themselves: of a tool its own calls, not the model calls it
    /// added to. `None` where the split or the filter is about something only money lines have.
    pub calls: Option<i64>,
    /// Calls of a model, `None` as above.
    pub llm_calls: Option<i64>,
    /// Operations that failed, `None` as above.
    pub errors: Option<i64>,
    /// Calls whose cost is not known, `None` as above.
    pub unpriced_calls: Option<i64>,
    /// Tokens whose cost is not known.
    pub unpriced_tokens: i64,
    /// What tools cost in it, where the request asks for that.
    pub measures: Option<Measures>,
}

/// Names of the measures, in the order of an answer.
const MEASURES: [&str; 11] = [
    "cost",
    "tokens",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "calls",
    "llm_calls",
    "errors",
    "unpriced_calls",
    "unpriced_tokens",
];

impl CostRow {
    pub(crate) fn read(row: Row<'_>, by: &[Dimension], counts_calls: bool) -> Self {
        let count = |name| counts_calls.then(|| row.count(name));
        let (unpriced_calls, unpriced_tokens) = (count("unpriced_calls"), row.count("unpriced_tokens"));
        let is_unpriced = unpriced_tokens != 0 || unpriced_calls.unwrap_or(0) != 0;
        Self {
            keys: by.iter().map(|dimension| row.text(dimension.name)).collect(),
            cost: row.cost("cost").or((!is_unpriced).then_some(FemtoUsd::ZERO)),
            tokens: row.count("tokens"),
            input_tokens: row.count("input_tokens"),
            output_tokens: row.count("output_tokens"),
            cache_read_tokens: row.count("cache_read_tokens"),
            cache_write_tokens: row.count("cache_write_tokens"),
            calls: count("calls"),
            llm_calls: count("llm_calls"),
            errors: count("errors"),
            unpriced_calls,
            unpriced_tokens,
            measures: None,
        }
    }

    /// The counts in the order of [`MEASURES`], without the cost.
    fn counts(&self) -> [Option<i64>; 10] {
        [
            Some(self.tokens),
            Some(self.input_tokens),
            Some(self.output_tokens),
            Some(self.cache_read_tokens),
            Some(self.cache_write_tokens),
            self.calls,
            self.llm_calls,
            self.errors,
            self.unpriced_calls,
            Some(self.unpriced_tokens),
        ]
    }

    /// What is left of this row when `rows` are taken out of it.
    pub(crate) fn without<'r>(&self, rows: impl Iterator<Item = &'r Self>) -> Self {
        let mut rest = self.clone();
        let mut cost = self.cost.unwrap_or_default();
        let less = |total: &mut Option<i64>, part: Option<i64>| {
            *total = total.zip(part).map(|(total, part)| total - part);
        };
        for row in rows {
            cost = cost - row.cost.unwrap_or_default();
            rest.tokens -= row.tokens;
            rest.input_tokens -= row.input_tokens;
            rest.output_tokens -= row.output_tokens;
            rest.cache_read_tokens -= row.cache_read_tokens;
            rest.cache_write_tokens -= row.cache_write_tokens;
            rest.unpriced_tokens -= row.unpriced_tokens;
            less(&mut rest.calls, row.calls);
            less(&mut rest.llm_calls, row.llm_calls);
            less(&mut rest.errors, row.errors);
            less(&mut rest.unpriced_calls, row.unpriced_calls);
        }
        let is_unpriced = rest.unpriced_tokens != 0 || rest.unpriced_calls.unwrap_or(0) != 0;
        rest.cost = (cost != FemtoUsd::ZERO || !is_unpriced).then_some(cost);
        rest
    }

    /// Both together, without keys.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let both = |a: Option<i64>, b: Option<i64>| a.zip(b).map(|(a, b)| a + b);
        Self {
            keys: Vec::new(),
            cost: match (self.cost, other.cost) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            },
            tokens: self.tokens + other.tokens,
            input_tokens: self.input_tokens + other.input_tokens,
            output_tokens: self.output_tokens + other.output_tokens,
            cache_read_tokens: self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens: self.cache_write_tokens + other.cache_write_tokens,
            calls: both(self.calls, other.calls),
            llm_calls: both(self.llm_calls, other.llm_calls),
            errors: both(self.errors, other.errors),
            unpriced_calls: both(self.unpriced_calls, other.unpriced_calls),
            unpriced_tokens: self.unpriced_tokens + other.unpriced_tokens,
            measures: self.measures.zip(other.measures).map(|(a, b)| a.and(&b)),
        }
    }

    /// True where nothing is left of it.
    pub(crate) fn is_nothing(&self) -> bool {
        self.cost.unwrap_or_default() == FemtoUsd::ZERO && self.counts().iter().all(|count| count.unwrap_or(0) == 0)
    }

    fn serialize_measures<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("cost", &self.cost.map(|cost| cost.to_string()))?;
        for (name, count) in MEASURES[1..].iter().zip(self.counts()) {
            map.serialize_entry(name, &count)?;
        }
        if let Some(measures) = &self.measures {
            measures.serialize_to(map)?;
        }
        Ok(())
    }
}

/// A cost report.
#[derive(Debug, Clone, PartialEq)]
pub struct CostReport {
    /// Dimensions it is split by.
    pub by: Vec<Dimension>,
    /// First instant.
    pub since_ns: Option<i64>,
    /// First instant that is no more in it.
    pub until_ns: Option<i64>,
    /// Rows, dearest first.
    pub rows: Vec<CostRow>,
    /// What the limit cut off, summed up.
    pub other: Option<CostRow>,
    /// Everything. The rows and *other* sum to it.
    pub total: CostRow,
    /// How surely the cost is divided among who caused it.
    pub methods: Vec<MethodShare>,
}

impl CostReport {
    /// The rows as an answer that [`crate::format::write`] takes: dimensions, then measures. With
    /// `none`, a missing value is shown as that text; the row *other* comes last where there is one.
    #[must_use]
    pub fn to_result_set(&self, none: Option<&str>) -> ResultSet {
        let rows: Vec<&CostRow> = self.rows.iter().chain(&self.other).collect();
        let n_named = self.rows.len();
        let mut columns: Vec<(Field, ArrayRef)> = Vec::new();
        for (index, dimension) in self.by.iter().enumerate() {
            let values = rows
                .iter()
                .enumerate()
                .map(|(position, row)| match row.keys.get(index) {
                    _ if position >= n_named => (index == 0).then_some("(other)"),
                    Some(Some(value)) => Some(value.as_str()),
                    _ => none,
                });
            let values: StringArray = values.collect();
            columns.push((
                Field::new(dimension.name, datafusion::arrow::datatypes::DataType::Utf8, true),
                Arc::new(values),
            ));
        }
        let mut measures = Encoder::default();
        measures.money("cost", rows.iter().map(|row| row.cost));
        for (index, name) in MEASURES[1..].iter().enumerate() {
            measures.int(name, rows.iter().map(|row| row.counts()[index]));
        }
        if self.total.measures.is_some() {
            for (index, name) in measures::NAMES.iter().enumerate() {
                measures.money(
                    name,
                    rows.iter().map(|row| row.measures.and_then(|row| row.values()[index])),
                );
            }
        }
        let measures = measures.finish();
        for (field, column) in measures.schema().fields().iter().zip(measures.columns()) {
            columns.push((field.as_ref().clone(), Arc::clone(column)));
        }
        let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns);
        ResultSet {
            batches: batch.into_iter().collect(),
            schema,
            truncated: self.other.is_some(),
        }
    }
}

struct NamedRow<'r> {
    by: &'r [Dimension],
    row: &'r CostRow,
}

impl Serialize for NamedRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (dimension, value) in self.by.iter().zip(&self.row.keys) {
            map.serialize_entry(dimension.name, value)?;
        }
        self.row.serialize_measures(&mut map)?;
        map.end()
    }
}

impl Serialize for CostReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = |row| NamedRow { by: &self.by, row };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("since", &self.since_ns.map(format_instant))?;
        map.serialize_entry("until", &self.until_ns.map(format_instant))?;
        map.serialize_entry("currency", CURRENCY)?;
        map.serialize_entry(
            "by",
            &self.by.iter().map(|dimension| dimension.name).collect::<Vec<_>>(),
        )?;
        map.serialize_entry("rows", &self.rows.iter().map(named).collect::<Vec<_>>())?;
        if let Some(other) = &self.other {
            map.serialize_entry("other", &NamedRow { by: &[], row: other })?;
        }
        map.serialize_entry(
            "total",
            &NamedRow {
                by: &[],
                row: &self.total,
            },
        )?;
        map.serialize_entry("methods", &self.methods)?;
        map.end()
    }
}

impl Engine {
    /// Costs by dimension.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for more dimensions than can be split by, and those of
    /// [`Engine::sql`].
    pub async fn costs(&self, principal: &Principal, request: &CostRequest) -> Result<CostReport> {
        report(&self.session(principal), request).await
    }

    /// The dearest values of each of these dimensions, of all time, and whether there are more than `limit`.
    ///
    /// # Errors
    /// Those of [`Engine::sql`].
    pub async fn dearest_values(
        &self,
        principal: &Principal,
        dimensions: &[Dimension],
        limit: usize,
    ) -> Result<Vec<(Vec<Option<String>>, bool)>> {
        let session = self.session(principal);
        let values = dimensions.iter().map(async |dimension| {
            let request = CostRequest {
                by: vec![*dimension],
                ..CostRequest::default()
            };
            let options = QueryOptions {
                rows_max: limit,
                ..QueryOptions::default()
            };
            let split = session.query(&split_sql(&request, limit), &options).await?;
            let values = rows(&split).map(|row| row.text(dimension.name)).collect();
            Ok((values, split.truncated))
        });
        futures::future::try_join_all(values).await
    }
}

/// The report, over a session's snapshots.
pub(crate) async fn report(session: &Session, request: &CostRequest) -> Result<CostReport> {
    if request.by.len() > COST_DIMENSIONS_MAX {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("a report is split by at most {COST_DIMENSIONS_MAX} dimensions"),
        ));
    }
    let (since_ns, until_ns) = whole_hours(request.since_ns, request.until_ns);
    let request = &CostRequest {
        since_ns,
        until_ns,
        ..request.clone()
    };
    let limit = match request.limit {
        0 => COST_GROUPS_DEFAULT,
        limit => limit.min(COST_GROUPS_MAX),
    };
    let options = QueryOptions {
        rows_max: limit,
        ..QueryOptions::default()
    };
    let counts_calls = counts_calls(request);
    let methods = measures::method_shares(session, request).await?;
    let total = session.query(&grouped_sql(request, &[]), &options).await?;
    let mut total = rows(&total)
        .next()
        .map(|row| CostRow::read(row, &[], counts_calls))
        .unwrap_or_default();
    if request.by.is_empty() {
        let mut rows = vec![total.clone()];
        if request.measures {
            measures::add(session, request, &mut rows, None, &mut total).await?;
        }
        return Ok(finish(request, rows, None, total, methods));
    }
    let split = session.query(&split_sql(request, limit), &options).await?;
    let counts_calls = counts_calls && has_calls(&request.by);
    let mut rows: Vec<CostRow> = rows(&split)
        .map(|row| CostRow::read(row, &request.by, counts_calls))
        .collect();
    let mut other = split.truncated.then(|| CostRow {
        keys: Vec::new(),
        ..total.without(rows.iter())
    });
    if request.measures {
        measures::add(session, request, &mut rows, other.as_mut(), &mut total).await?;
    }
    Ok(finish(request, rows, other, total, methods))
}

fn finish(
    request: &CostRequest,
    rows: Vec<CostRow>,
    other: Option<CostRow>,
    total: CostRow,
    methods: Vec<MethodShare>,
) -> CostReport {
    CostReport {
        by: request.by.clone(),
        since_ns: request.since_ns,
        until_ns: request.until_ns,
        rows,
        other,
        total,
        methods,
    }
}

/// The split in a deterministic order: dearest first, unpriced last, then by names.
fn split_sql(request: &CostRequest, limit: usize) -> String {
    let order: Vec<String> = (1..=request.by.len())
        .map(|column| format!("{column} NULLS LAST"))
        .collect();
    // A group whose lines were all taken back, and that no call is of, is none.
    format!(
        "{} HAVING SUM(n_rows) <> 0 ORDER BY cost DESC NULLS LAST, calls DESC NULLS LAST, {} LIMIT {}",
        grouped_sql(request, &request.by),
        order.join(", "),
        limit + 1
    )
}

/// False where a filter is about something only money lines have: then there are no calls to count.
pub(crate) fn counts_calls(request: &CostRequest) -> bool {
    request
        .filters
        .iter()
        .all(|(dimension, _)| dimension.on_calls.is_some())
}

/// False where a split is by something only money lines have: then no call is of one group.
pub(crate) fn has_calls(by: &[Dimension]) -> bool {
    by.iter().all(|dimension| dimension.on_calls.is_some())
}

/// The grouped union of money lines and calls.
pub(crate) fn grouped_sql(request: &CostRequest, by: &[Dimension]) -> String {
    let needs_kind = needs_kind(request, by);
    let names = |expression: &dyn Fn(&Dimension) -> String| -> String {
        by.iter()
            .map(|dimension| {
                format!(
                    "{} AS {}, ",
                    dimension.group_name(expression(dimension)),
                    dimension.name
                )
            })
            .collect()
    };
    let group = group_by(by.len());
    let source = Source::of(request, by);

    let mut sql = format!(
        "SELECT {}SUM(cost) AS cost, SUM(tokens) AS tokens, SUM(input_tokens) AS input_tokens, \
         SUM(output_tokens) AS output_tokens, SUM(cache_read_tokens) AS cache_read_tokens, \
         SUM(cache_write_tokens) AS cache_write_tokens, SUM(calls) AS calls, SUM(llm_calls) AS llm_calls, \
         SUM(errors) AS errors, SUM(unpriced_calls) AS unpriced_calls, SUM(unpriced_tokens) AS unpriced_tokens FROM (",
        by.iter()
            .map(|dimension| format!("{}, ", dimension.name))
            .collect::<String>()
    );
    sql.push_str(&format!(
        "SELECT {}SUM(l.effective_cost) AS cost, SUM(l.tokens) AS tokens, \
         SUM(CASE WHEN {IS_INPUT} THEN l.tokens END) AS input_tokens, \
         SUM(CASE WHEN {IS_OUTPUT} THEN l.tokens END) AS output_tokens, \
         SUM(CASE WHEN bucket = 'cache_read' THEN l.tokens END) AS cache_read_tokens, \
         SUM(CASE WHEN bucket IN ('cache_write_5m', 'cache_write_1h') THEN l.tokens END) AS cache_write_tokens, \
         CAST(NULL AS BIGINT) AS calls, CAST(NULL AS BIGINT) AS llm_calls, CAST(NULL AS BIGINT) AS errors, \
         CAST(NULL AS BIGINT) AS unpriced_calls, \
         SUM(CASE WHEN l.effective_cost IS NULL THEN l.tokens END) AS unpriced_tokens, \
         SUM(COALESCE(l.tokens, 0) + COALESCE(l.quantity, 0) + l.n_calls) AS n_rows FROM {} l",
        names(&on_ledger),
        source.lines()
    ));
    if needs_kind {
        sql.push_str(" LEFT JOIN (SELECT call_id, kind FROM calls) c ON l.call_id = c.call_id");
    }
    sql.push_str(&conditions(request, "l.time", &on_ledger));
    sql.push_str(&group);
    if counts_calls(request) && has_calls(by) {
        let (count, is_unpriced, calls) = (source.count(), source.is_unpriced(), source.calls());
        let on_calls = |dimension: &Dimension| source.on_calls(dimension);
        sql.push_str(&format!(
            " UNION ALL SELECT {}CAST(NULL AS DECIMAL(38,15)), NULL, NULL, NULL, NULL, NULL, {count}, \
             {count} FILTER (WHERE kind = 'llm'), {count} FILTER (WHERE status = 'error'), \
             {count} FILTER (WHERE {is_unpriced}), NULL, {count} AS n_rows FROM {calls}",
            names(&on_calls)
        ));
        sql.push_str(&conditions(request, "time", &on_calls));
        sql.push_str(&group);
    }
    sql.push(')');
    sql.push_str(&group);
    sql
}

/// True where lines have to be asked for the kind of their call, as `c.kind`.
pub(crate) fn needs_kind(request: &CostRequest, by: &[Dimension]) -> bool {
    by.contains(&KIND) || request.filters.iter().any(|(dimension, _)| *dimension == KIND)
}

/// A dimension of the ledger's lines `l`.
pub(crate) fn on_ledger(dimension: &Dimension) -> String {
    match dimension.on_ledger {
        Some(expression) if expression.contains('(') => expression.to_owned(),
        Some(column) => format!("l.{column}"),
        // A line that carries the cost of several calls together is one of model calls.
        None => "CASE WHEN l.call_id IS NULL THEN 'llm' ELSE c.kind END".to_owned(),
    }
}

/// A dimension of calls.
pub(crate) fn on_calls(dimension: &Dimension) -> String {
    dimension.on_calls.unwrap_or("CAST(NULL AS VARCHAR)").to_owned()
}

pub(crate) fn group_by(n_columns: usize) -> String {
    if n_columns == 0 {
        return String::new();
    }
    let columns: Vec<String> = (1..=n_columns).map(|column| column.to_string()).collect();
    format!(" GROUP BY {}", columns.join(", "))
}

pub(crate) fn conditions(request: &CostRequest, time: &str, column: &dyn Fn(&Dimension) -> String) -> String {
    let mut all = Vec::new();
    if let Some(since_ns) = request.since_ns {
        all.push(format!("{time} >= {}", instant_sql(since_ns)));
    }
    if let Some(until_ns) = request.until_ns {
        all.push(format!("{time} < {}", instant_sql(until_ns)));
    }
    for (dimension, values) in &request.filters {
        let column = column(dimension);
        let mut any = Vec::new();
        let named: Vec<String> = values.iter().flatten().map(|value| quoted(value)).collect();
        if !named.is_empty() {
            any.push(format!("{column} IN ({})", named.join(", ")));
        }
        let is_missing = |value: &Option<String>| match value {
            None => true,
            Some(name) => dimension.is_allocated() && name == UNALLOCATED,
        };
        if values.iter().any(is_missing) {
            any.push(format!("{column} IS NULL"));
        }
        if !any.is_empty() {
            all.push(format!("({})", any.join(" OR ")));
        }
    }
    if all.is_empty() {
        return String::new();
    }
    format!(" WHERE {}", all.join(" AND "))
}

/// An instant as SQL of the type of the `time` columns, so that files and row groups are pruned by it.
pub(crate) fn instant_sql(ns: i64) -> String {
    format!(
        "arrow_cast({}, 'Timestamp(Microsecond, Some(\"UTC\"))')",
        ns.div_euclid(1_000)
    )
}

/// A string literal.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Reads a filter's values: comma-separated, `(none)` for rows without a value.
#[must_use]
pub fn filter_values(text: &str) -> Vec<Option<String>> {
    let values = text.split(',').map(str::trim);
    values.map(|value| (value != NONE).then(|| value.to_owned())).collect()
}
