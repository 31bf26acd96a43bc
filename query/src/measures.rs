//! The measures of tools, for cost reports: what a definition, a result, a call cost, by any dimension.
//!
//! All but the last two are sums of ledger lines, so groups add up to the total as costs do; the definitions are those
//! of `tool_economics`. A definition is idle in a conversation in which its tool was never called. `avoidable` is one too
//! where no price has tiers ([`crate::avoidable`]); `cost_per_success` is a quotient and adds up to nothing. Also how surely the cost of a report is divided, by method.

use std::collections::HashMap;

use serde::Serialize;
use serde::ser::SerializeMap;
use spanledger_model::FemtoUsd;

use crate::costs::{CostRequest, CostRow, Dimension, conditions, group_by, on_ledger};
use crate::economics::IS_TOOL_LINE;
use crate::engine::{QueryOptions, Session};
use crate::error::Result;
use crate::rows::{Row, rows};
use crate::source::Source;

/// Names of the measures, in the order of an answer.
pub const NAMES: [&str; 9] = [
    "context_tax",
    "idle_tax",
    "first_touch",
    "carry",
    "call_cost",
    "direct",
    "lifetime_cost",
    "avoidable",
    "cost_per_success",
];

/// Place of what is avoidable.
const AVOIDABLE: usize = 7;

/// What tools cost in a group; `None` where no priced line tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measures {
    /// The sums, in the order of [`NAMES`] without the last.
    sums: [Option<FemtoUsd>; 8],
    /// Calls of tools that did not fail.
    successes: i64,
    /// True where what is avoidable is more than its lines: then it adds up to nothing.
    saves_more: bool,
}

impl Measures {
    /// The measures in the order of [`NAMES`].
    #[must_use]
    pub fn values(&self) -> [Option<FemtoUsd>; 9] {
        let [
            context_tax,
            idle_tax,
            first_touch,
            carry,
            call_cost,
            direct,
            lifetime_cost,
            avoidable,
        ] = self.sums;
        let per_success = lifetime_cost
            .filter(|_| self.successes > 0)
            .map(|cost| FemtoUsd(rounded(cost.0, i128::from(self.successes))));
        [
            context_tax,
            idle_tax,
            first_touch,
            carry,
            call_cost,
            direct,
            lifetime_cost,
            avoidable,
            per_success,
        ]
    }

    fn read(row: Row<'_>) -> Self {
        Self {
            sums: std::array::from_fn(|at| row.cost(NAMES[at])),
            successes: row.count("successes"),
            saves_more: false,
        }
    }

    /// With what is avoidable beyond the lines, or without where that is not known.
    pub(crate) fn save_more(&mut self, more: Option<FemtoUsd>) {
        let avoidable = &mut self.sums[AVOIDABLE];
        *avoidable = avoidable.zip(more).map(|(lines, more)| lines + more);
        self.saves_more |= more != Some(FemtoUsd::ZERO);
    }

    /// What is left when `part` is taken out.
    fn without(mut self, part: &Self) -> Self {
        for (sum, part) in self.sums.iter_mut().zip(part.sums) {
            if let (Some(sum), Some(part)) = (sum, part) {
                *sum = *sum - part;
            }
        }
        self.successes -= part.successes;
        self
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        for (sum, other) in self.sums.iter_mut().zip(other.sums) {
            *sum = match (*sum, other) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            };
        }
        self.successes += other.successes;
        self.saves_more |= other.saves_more;
        if self.saves_more {
            self.sums[AVOIDABLE] = None;
        }
        self
    }

    pub(crate) fn serialize_to<M: SerializeMap>(&self, map: &mut M) -> std::result::Result<(), M::Error> {
        for (name, value) in NAMES.iter().zip(self.values()) {
            map.serialize_entry(name, &value.map(|cost| cost.to_string()))?;
        }
        Ok(())
    }
}

/// A quotient by a positive divisor, rounded half away from zero, as SQL rounds `cost_per_success`.
fn rounded(dividend: i128, divisor: i128) -> i128 {
    (dividend + dividend.signum() * (divisor / 2)) / divisor
}

/// How much of a report's cost was divided by a method.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MethodShare {
    /// `content`, `bytes`, `counts`, `undivided`.
    pub method: String,
    /// Its cost in USD, an exact decimal.
    pub cost: String,
    /// Its part of all priced cost, 0 to 1; absent where that is nothing.
    pub share: Option<f64>,
}

/// The shares by method, the surest first.
pub(crate) async fn method_shares(session: &Session, request: &CostRequest) -> Result<Vec<MethodShare>> {
    let sql = format!(
        "SELECT l.method AS method, SUM(l.effective_cost) AS cost FROM {} l{}{} GROUP BY 1 HAVING SUM(l.effective_cost) IS NOT NULL",
        Source::of(request, &[]).lines(),
        kind_join(request, &[]),
        conditions(request, "l.time", &on_ledger)
    );
    let answer = session.query(&sql, &QueryOptions::default()).await?;
    let mut costs: Vec<(String, FemtoUsd)> = rows(&answer)
        .filter_map(|row| Some((row.text("method")?, row.cost("cost")?)))
        .collect();
    let order = ["content", "bytes", "counts", "undivided"];
    costs.sort_by_key(|(method, _)| order.iter().position(|known| known == method));
    let total: FemtoUsd = costs.iter().map(|(_, cost)| *cost).sum();
    let share = |cost: FemtoUsd| (total != FemtoUsd::ZERO).then(|| cost.to_f64_lossy() / total.to_f64_lossy());
    let shares = costs.into_iter().map(|(method, cost)| MethodShare {
        method,
        cost: cost.to_string(),
        share: share(cost),
    });
    Ok(shares.collect())
}

/// Adds the measures to the rows of a report, to what its limit cut off, and to its total.
pub(crate) async fn add(
    session: &Session,
    request: &CostRequest,
    shown: &mut [CostRow],
    other: Option<&mut CostRow>,
    total: &mut CostRow,
) -> Result<()> {
    let options = QueryOptions {
        rows_max: crate::limits::ROWS_MAX,
        ..QueryOptions::default()
    };
    let grouped = session.query(&sql(request, &request.by), &options).await?;
    let groups = rows(&grouped).map(Measures::read);
    // Groups are all of it, but where they cannot count the calls that succeeded.
    let all = if !grouped.truncated && crate::costs::has_calls(&request.by) {
        groups.reduce(|a, b| a.and(&b))
    } else {
        let answer = session.query(&sql(request, &[]), &options).await?;
        rows(&answer).next().map(Measures::read)
    };
    let all = all.unwrap_or_default();
    total.measures = Some(all);
    if request.by.is_empty() {
        shown.iter_mut().for_each(|row| row.measures = Some(all));
        return crate::avoidable::correct(session, request, shown, None, total).await;
    }
    let by_keys: HashMap<Vec<Option<String>>, Measures> = rows(&grouped)
        .map(|row| {
            (
                request.by.iter().map(|dimension| row.text(dimension.name())).collect(),
                Measures::read(row),
            )
        })
        .collect();
    let mut rest = all;
    for row in shown.iter_mut() {
        let measures = by_keys.get(&row.keys).copied().unwrap_or_default();
        rest = rest.without(&measures);
        row.measures = Some(measures);
    }
    let mut other = other;
    if let Some(other) = &mut other {
        other.measures = Some(rest);
    }
    crate::avoidable::correct(session, request, shown, other, total).await
}

fn kind_join(request: &CostRequest, by: &[Dimension]) -> &'static str {
    let needs_kind = crate::costs::needs_kind(request, by);
    if needs_kind {
        " LEFT JOIN (SELECT call_id, kind FROM calls) c ON l.call_id = c.call_id"
    } else {
        ""
    }
}

fn sql(request: &CostRequest, by: &[Dimension]) -> String {
    let names = |expression: &dyn Fn(&Dimension) -> String| -> String {
        let named = |dimension: &Dimension| {
            format!(
                "{} AS {}, ",
                dimension.group_name(expression(dimension)),
                dimension.name()
            )
        };
        by.iter().map(named).collect()
    };
    let group = group_by(by.len());
    let nothing = "CASE WHEN l.effective_cost IS NOT NULL THEN CAST(0 AS DECIMAL(38,15)) END";
    let is_carry = "COALESCE(l.touch = 'carry', false)";
    let sums: String = NAMES[..=AVOIDABLE]
        .iter()
        .map(|name| format!("SUM({name}) AS {name}, "))
        .collect();
    let keys: String = by.iter().map(|dimension| format!("{}, ", dimension.name())).collect();
    let has_successes = by.iter().all(|dimension| dimension.is_of_calls())
        && request.filters.iter().all(|(dimension, _)| dimension.is_of_calls());
    let of_lines = conditions(request, "l.time", &on_ledger);
    let where_also = |condition: &str| match of_lines.as_str() {
        "" => format!(" WHERE {condition}"),
        conditions => format!("{conditions} AND {condition}"),
    };
    let is_tool = IS_TOOL_LINE
        .replace("(tool ", "(l.tool ")
        .replace("cause ", "l.cause ")
        .replace("resource_uri ", "l.resource_uri ");
    let source = Source::with_causes(request, by);
    let on_calls = |dimension: &Dimension| source.on_calls(dimension);
    let (of_each, names) = (names(&on_calls), names(&on_ledger));
    let (lines, kinds) = (source.lines(), kind_join(request, by));
    let absent = |n: usize| "CAST(NULL AS DECIMAL(38,15)), ".repeat(n);
    let mut sql = format!(
        "SELECT {keys}{sums}SUM(successes) AS successes FROM (SELECT {names}\
         SUM(l.effective_cost) FILTER (WHERE l.cause = 'definition') AS context_tax, \
         SUM({nothing}) FILTER (WHERE l.cause = 'definition') AS idle_tax, \
         SUM(CASE WHEN {is_carry} THEN {nothing} ELSE l.effective_cost END) FILTER (WHERE l.cause = 'result') AS first_touch, \
         SUM(CASE WHEN {is_carry} THEN l.effective_cost ELSE {nothing} END) FILTER (WHERE l.cause = 'result') AS carry, \
         SUM(l.effective_cost) FILTER (WHERE l.cause = 'call') AS call_cost, \
         SUM(l.effective_cost) FILTER (WHERE l.cause NOT IN ('definition', 'result', 'call')) AS direct, \
         SUM(l.effective_cost) AS lifetime_cost, \
         SUM(l.effective_cost) FILTER (WHERE l.cause <> 'direct') AS avoidable, CAST(0 AS BIGINT) AS successes \
         FROM {lines} l{kinds}{}{group}",
        where_also(&is_tool),
    );
    // Which definitions are idle only lines and calls can tell: they know the conversation.
    let used = "SELECT COALESCE(server, '') AS server_key, COALESCE(tool, '') AS tool_key, \
                COALESCE(session_id, trace_id) AS thread FROM calls WHERE kind = 'tool' \
                UNION ALL SELECT COALESCE(server, ''), '', COALESCE(session_id, trace_id) FROM calls WHERE kind = 'tool'";
    sql.push_str(&format!(
        " UNION ALL SELECT {names}{}SUM(l.effective_cost), {}CAST(0 AS BIGINT) FROM ledger l{kinds} \
         LEFT ANTI JOIN ({used}) AS used ON used.server_key = COALESCE(l.server, '') \
         AND used.tool_key = COALESCE(l.tool, '') AND used.thread = COALESCE(l.session_id, l.trace_id){}{group}",
        absent(1),
        absent(6),
        where_also("l.cause = 'definition' AND COALESCE(l.session_id, l.trace_id) IS NOT NULL"),
    ));
    if has_successes {
        let of_calls = conditions(request, "time", &on_calls);
        let and = if of_calls.is_empty() { " WHERE" } else { " AND" };
        sql.push_str(&format!(
            " UNION ALL SELECT {of_each}{}{} FROM {}{of_calls}{and} kind = 'tool' AND status <> 'error'{group}",
            absent(8),
            source.count(),
            source.calls()
        ));
    }
    sql.push(')');
    sql.push_str(&group);
    sql
}
