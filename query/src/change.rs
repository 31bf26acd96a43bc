//! Why cost changed between two periods: parts that sum to the change, who moved, and the calls behind it.
//!
//! Reads lines and calls of both periods from one session, so that the figures agree with each other and with
//! [`crate::costs`]. The parts come from [`parts`]: exact, by the formulas of docs/cost-change.md. Periods are of
//! whole hours, because carried lines sum the calls of an hour. It explains what happened; it does not judge it.

pub mod parts;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use spanledger_access::Principal;
use spanledger_model::FemtoUsd;

use crate::costs::{
    CURRENCY, CostRequest, Dimension, conditions, filter_values, instant_sql, needs_kind, on_calls, on_ledger,
    whole_hours,
};
use crate::engine::{Engine, QueryOptions, Session};
use crate::error::{Error, Result};
use crate::rows::{Row, rows};
use crate::source::Source;
use crate::spend::Interval;
use crate::time::{DAY_NS, format_instant};
use parts::{Cell, Charge, Parts, per_million};

/// Movers told of each dimension, where the caller names no other limit.
pub const MOVERS_DEFAULT: usize = 5;
/// Movers told of each dimension at most.
pub const MOVERS_MAX: usize = 100;
/// Calls shown behind a change.
const CALLS_SHOWN: usize = 5;
/// Prices told that changed.
const PRICES_SHOWN: usize = 10;
/// Dimensions whose movers are told where the caller names none.
const BY_DEFAULT: [&str; 5] = ["team", "agent", "model", "server", "tool"];
/// What groups the calls of models, beside what the caller asks for.
const MODEL_CELL: [&str; 4] = ["team", "agent", "provider", "model"];
/// What groups the calls of tools with a price of their own.
const DIRECT_CELL: [&str; 4] = ["team", "agent", "server", "tool"];
/// Dimensions that name who caused a line: a model call itself has none of them.
const CAUSES: [&str; 4] = ["server", "tool", "prompt", "resource_uri"];
/// SQL condition on `calls`: a model was asked.
const IS_MODEL: &str = "kind IN ('llm', 'embedding')";

/// A question for the reasons of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeRequest {
    /// First instant of the period, nanoseconds since the Unix epoch; seven days before its end where absent.
    pub since_ns: Option<i64>,
    /// First instant after it; the begun hour's start where absent.
    pub until_ns: Option<i64>,
    /// First instant of the period it is compared with; as long before its end as the period is where absent.
    pub baseline_since_ns: Option<i64>,
    /// First instant after that; the period's start where absent.
    pub baseline_until_ns: Option<i64>,
    /// Dimensions whose movers are told; some of them where empty.
    pub by: Vec<Dimension>,
    /// As of a cost report.
    pub filters: Vec<(Dimension, Vec<Option<String>>)>,
    /// Movers of each dimension; 0 takes the default.
    pub limit: usize,
}

/// One period's sums.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeriodSum {
    /// First instant.
    pub since: String,
    /// First instant after it.
    pub until: String,
    /// Cost.
    #[serde(serialize_with = "exact")]
    pub cost: FemtoUsd,
    /// Calls of models in groups that have lines.
    pub model_calls: i64,
    /// Tokens.
    pub tokens: i64,
    /// Tokens without a price; they are in no cost.
    pub unpriced_tokens: i64,
}

/// A value of a dimension and its change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mover {
    /// Dimension.
    pub dimension: &'static str,
    /// Its value.
    pub value: Option<String>,
    /// Cost before.
    #[serde(serialize_with = "exact")]
    pub previous: FemtoUsd,
    /// Cost now.
    #[serde(serialize_with = "exact")]
    pub current: FemtoUsd,
    /// The difference.
    #[serde(serialize_with = "exact")]
    pub change: FemtoUsd,
    /// `new`, `gone`, or `both`.
    pub status: &'static str,
}

/// A unit price that differs between the periods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PriceMove {
    /// Provider.
    pub provider: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Bucket.
    pub bucket: String,
    /// USD a million units before.
    #[serde(serialize_with = "exact_or_null")]
    pub previous_per_million: Option<FemtoUsd>,
    /// USD a million units now.
    #[serde(serialize_with = "exact_or_null")]
    pub current_per_million: Option<FemtoUsd>,
    /// What that did to the cost: these sum to the part `price`.
    #[serde(serialize_with = "exact")]
    pub change: FemtoUsd,
    /// Prices of the book before.
    pub previous_prices: Vec<String>,
    /// Prices of the book now: where they are the same, another tier, processing or report made the difference.
    pub current_prices: Vec<String>,
}

/// A call behind the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallBehind {
    /// Id.
    pub call_id: Option<String>,
    /// Start.
    pub time: Option<String>,
    /// What it cost, of what the filters ask for.
    #[serde(serialize_with = "exact_or_null")]
    pub cost: Option<FemtoUsd>,
    /// Team.
    pub team: Option<String>,
    /// Agent.
    pub agent: Option<String>,
    /// Model, or server and tool.
    pub model: Option<String>,
    /// Input tokens.
    pub input_tokens: Option<i64>,
    /// Output tokens.
    pub output_tokens: Option<i64>,
    /// Session.
    pub session_id: Option<String>,
    /// Trace.
    pub trace_id: Option<String>,
}

/// The reasons of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The period before.
    pub previous: PeriodSum,
    /// The period.
    pub current: PeriodSum,
    /// Always US dollars.
    pub currency: &'static str,
    /// Cost now less cost before.
    #[serde(serialize_with = "exact")]
    pub change: FemtoUsd,
    /// The same in percent, one decimal; null where there was no cost before.
    pub change_percent: Option<String>,
    /// What made it; they sum to `change`.
    pub parts: Parts,
    /// Who moved, by dimension, largest first.
    pub movers: Vec<Mover>,
    /// True where a dimension has more movers.
    pub truncated: bool,
    /// Unit prices that differ.
    pub prices: Vec<PriceMove>,
    /// The dearest calls of the group that moved most in the direction of the change: of this period where cost rose,
    /// of the one before where it fell.
    pub calls: Vec<CallBehind>,
    /// The same in sentences.
    pub notes: Vec<String>,
}

fn exact<S: serde::Serializer>(cost: &FemtoUsd, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(cost)
}

fn exact_or_null<S: serde::Serializer>(cost: &Option<FemtoUsd>, serializer: S) -> Result<S::Ok, S::Error> {
    match cost {
        Some(cost) => serializer.collect_str(cost),
        None => serializer.serialize_none(),
    }
}

impl Engine {
    /// Why cost changed between two periods.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for periods that are empty or overlap; those of [`Engine::sql`].
    pub async fn explain_change(&self, principal: &Principal, request: &ChangeRequest) -> Result<Change> {
        let periods = Periods::of(request, self.now_ns())?;
        explain(&self.session(principal), request, &periods).await
    }
}

impl Session {
    /// Why cost changed between two periods that are both told.
    pub(crate) async fn explain_change(&self, request: &ChangeRequest) -> Result<Change> {
        let periods = Periods::of(request, request.until_ns.unwrap_or_default())?;
        explain(self, request, &periods).await
    }
}

/// Two periods of whole hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Periods {
    before: (i64, i64),
    now: (i64, i64),
}

impl Periods {
    fn of(request: &ChangeRequest, now_ns: i64) -> Result<Self> {
        let begun = |ns: i64| whole_hours(Some(ns), None).0.unwrap_or(ns);
        let ended = |ns: i64| whole_hours(None, Some(ns)).1.unwrap_or(ns);
        let until = request.until_ns.map_or_else(|| begun(now_ns), ended);
        let since = request.since_ns.map_or(until.saturating_sub(7 * DAY_NS), begun);
        if since >= until {
            return Err(Error::invalid("`since` is not before `until`: the period is empty"));
        }
        let baseline_until = request.baseline_until_ns.map_or(since, ended);
        let length = until.saturating_sub(since);
        let baseline_since = request
            .baseline_since_ns
            .map_or(baseline_until.saturating_sub(length), begun);
        if baseline_since >= baseline_until {
            return Err(Error::invalid(
                "`baseline_since` is not before `baseline_until`: the period to compare with is empty",
            ));
        }
        if baseline_until > since && baseline_since < until {
            return Err(Error::invalid(
                "the period to compare with overlaps the period; whole hours (UTC) are compared, so leave an hour between them",
            ));
        }
        Ok(Self {
            before: (baseline_since, baseline_until),
            now: (since, until),
        })
    }
}

/// A group whose calls can be counted: its class and the values of its dimensions.
type CellKey = Vec<Option<String>>;

/// What one period has.
#[derive(Debug, Default)]
struct Period {
    /// By class: calls of models, and of tools with a price.
    cells: [BTreeMap<CellKey, Cell>; 2],
    tokens: i64,
    unpriced_tokens: i64,
    /// Prices used, by provider, model and bucket.
    prices: BTreeMap<PriceKey, BTreeSet<String>>,
}

type PriceKey = (Option<String>, Option<String>, String);

impl Period {
    fn cost(&self) -> FemtoUsd {
        self.cells.iter().flat_map(BTreeMap::values).map(Cell::cost).sum()
    }

    fn model_calls(&self) -> i64 {
        self.cells[0].values().map(|cell| cell.calls).sum()
    }

    fn sum(&self, (since_ns, until_ns): (i64, i64)) -> PeriodSum {
        PeriodSum {
            since: format_instant(since_ns),
            until: format_instant(until_ns),
            cost: self.cost(),
            model_calls: self.model_calls(),
            tokens: self.tokens,
            unpriced_tokens: self.unpriced_tokens,
        }
    }
}

/// The dimensions of the two classes of cells.
struct Cells {
    classes: [Vec<Dimension>; 2],
}

impl Cells {
    fn of(by: &[Dimension]) -> Result<Self> {
        let named = |names: [&str; 4]| -> Result<Vec<Dimension>> { names.into_iter().map(Dimension::parse).collect() };
        let mut classes = [named(MODEL_CELL)?, named(DIRECT_CELL)?];
        for dimension in by {
            // A call has a team, a project or a service, but no cause; days and sessions would make all of it mix.
            let is_grain = dimension.is_of_calls()
                && !CAUSES.contains(&dimension.name())
                && !["kind", "day", "session_id"].contains(&dimension.name());
            for class in &mut classes {
                if is_grain && !class.contains(dimension) {
                    class.push(*dimension);
                }
            }
        }
        Ok(Self { classes })
    }
}

async fn explain(session: &Session, request: &ChangeRequest, periods: &Periods) -> Result<Change> {
    let cells = Cells::of(&request.by)?;
    let mut before = lines_of(session, request, periods.before, &cells).await?;
    let mut now = lines_of(session, request, periods.now, &cells).await?;
    // A group counts where it has lines in one of the periods: its calls in the other are then none, or free.
    for class in 0..2 {
        let keys: BTreeSet<CellKey> = before.cells[class]
            .keys()
            .chain(now.cells[class].keys())
            .cloned()
            .collect();
        for key in keys {
            before.cells[class].entry(key.clone()).or_default();
            now.cells[class].entry(key).or_default();
        }
    }
    count_calls(session, request, periods.before, &cells, &mut before).await?;
    count_calls(session, request, periods.now, &cells, &mut now).await?;

    let change = now.cost() - before.cost();
    let mut sum = Parts::default();
    let mut most: Option<(FemtoUsd, usize, CellKey)> = None;
    let mut prices: BTreeMap<PriceKey, (FemtoUsd, Charge, Charge)> = BTreeMap::new();
    for class in 0..2 {
        for (key, parts) in parts::parts(&before.cells[class], &now.cells[class]) {
            sum += parts;
            let moved = if change.0 < 0 { -parts.sum() } else { parts.sum() };
            if moved.0 > 0 && most.as_ref().is_none_or(|(most, ..)| moved > *most) {
                most = Some((moved, class, key.clone()));
            }
            let (Some(old), Some(new)) = (before.cells[class].get(&key), now.cells[class].get(&key)) else {
                continue;
            };
            for (bucket, part) in parts::prices(old, new) {
                let entry = prices
                    .entry((key[2].clone(), key[3].clone(), bucket.clone()))
                    .or_default();
                let add = |sum: &mut Charge, cell: &Cell| {
                    let charge = cell.charges.get(&bucket).copied().unwrap_or_default();
                    sum.cost += charge.cost;
                    sum.units += charge.units;
                };
                entry.0 += part;
                add(&mut entry.1, old);
                add(&mut entry.2, new);
            }
        }
    }
    let (movers, truncated) = movers(session, request, periods).await?;
    let calls = match most {
        Some((_, class, key)) => {
            let period = if change.0 < 0 { periods.before } else { periods.now };
            calls_behind(session, request, period, class, &cells.classes[class], &key).await?
        }
        None => Vec::new(),
    };
    let prices = price_moves(prices, &before, &now);
    let mut told = Change {
        previous: before.sum(periods.before),
        current: now.sum(periods.now),
        currency: CURRENCY,
        change,
        change_percent: percent(change, before.cost()),
        parts: sum,
        movers,
        truncated,
        prices,
        calls,
        notes: Vec::new(),
    };
    told.notes = notes(&told, periods);
    Ok(told)
}

/// The request as one for costs of a period.
fn as_costs(request: &ChangeRequest, (since_ns, until_ns): (i64, i64)) -> CostRequest {
    CostRequest {
        since_ns: Some(since_ns),
        until_ns: Some(until_ns),
        filters: request.filters.clone(),
        ..CostRequest::default()
    }
}

fn kind_join(request: &CostRequest, by: &[Dimension]) -> &'static str {
    if needs_kind(request, by) {
        " LEFT JOIN (SELECT call_id, kind FROM calls) c ON l.call_id = c.call_id"
    } else {
        ""
    }
}

async fn lines_of(session: &Session, request: &ChangeRequest, period: (i64, i64), cells: &Cells) -> Result<Period> {
    let costs = as_costs(request, period);
    let mut told = Period::default();
    for (class, dimensions) in cells.classes.iter().enumerate() {
        let columns: Vec<String> = dimensions
            .iter()
            .map(|dimension| format!("{} AS {}", dimension.group_name(on_ledger(dimension)), dimension.name()))
            .collect();
        let group: Vec<String> = (1..=dimensions.len() + 1).map(|column| column.to_string()).collect();
        let sql = format!(
            "SELECT {}, l.bucket AS bucket, SUM(l.effective_cost) AS cost, \
             SUM(COALESCE(l.tokens, 0) + COALESCE(l.quantity, 0)) AS units, SUM(l.tokens) AS tokens, \
             SUM(CASE WHEN l.effective_cost IS NULL THEN l.tokens END) AS unpriced_tokens, \
             MIN(l.price_id || ' (' || l.price_version || ')') AS price, \
             MAX(l.price_id || ' (' || l.price_version || ')') AS last_price \
             FROM {} l{}{} AND l.cause {} 'direct' GROUP BY {}",
            columns.join(", "),
            Source::with_causes(&costs, dimensions).lines(),
            kind_join(&costs, &[]),
            conditions(&costs, "l.time", &on_ledger),
            if class == 0 { "<>" } else { "=" },
            group.join(", "),
        );
        let answer = session.query(&sql, &QueryOptions::default()).await?;
        complete(&answer)?;
        for row in rows(&answer) {
            let key = key_of(row, dimensions);
            let bucket = row.text("bucket").unwrap_or_default();
            told.tokens += row.count("tokens");
            told.unpriced_tokens += row.count("unpriced_tokens");
            if class == 0 {
                let prices = told
                    .prices
                    .entry((key[2].clone(), key[3].clone(), bucket.clone()))
                    .or_default();
                prices.extend(row.text("price"));
                prices.extend(row.text("last_price"));
            }
            let charge = Charge {
                cost: row.cost("cost").unwrap_or_default(),
                units: row.count("units"),
            };
            if charge != Charge::default() {
                let cell = told.cells[class].entry(key).or_default();
                cell.charges.insert(bucket, charge);
            }
        }
    }
    Ok(told)
}

fn complete(answer: &crate::ResultSet) -> Result<()> {
    if answer.truncated {
        return Err(Error::invalid(
            "there are more groups than can be compared; name fewer dimensions in `by`, or filter",
        ));
    }
    Ok(())
}

fn key_of(row: Row<'_>, dimensions: &[Dimension]) -> CellKey {
    dimensions.iter().map(|dimension| row.text(dimension.name())).collect()
}

/// Counts the calls of the groups that have lines.
async fn count_calls(
    session: &Session,
    request: &ChangeRequest,
    period: (i64, i64),
    cells: &Cells,
    told: &mut Period,
) -> Result<()> {
    for (class, dimensions) in cells.classes.iter().enumerate() {
        if told.cells[class].is_empty() {
            continue;
        }
        let mut costs = as_costs(request, period);
        // A model call names no tool: of a tool's cost in model calls, the volume is the model calls of its groups.
        costs
            .filters
            .retain(|(dimension, _)| dimension.is_of_calls() && (class == 1 || !CAUSES.contains(&dimension.name())));
        let source = Source::of(&costs, dimensions);
        let on_calls = |dimension: &Dimension| source.on_calls(dimension);
        let columns: Vec<String> = dimensions
            .iter()
            .map(|dimension| format!("{} AS {}", dimension.group_name(on_calls(dimension)), dimension.name()))
            .collect();
        let group: Vec<String> = (1..=dimensions.len()).map(|column| column.to_string()).collect();
        let sql = format!(
            "SELECT {}, {} AS calls FROM {}{} AND {}{IS_MODEL} GROUP BY {}",
            columns.join(", "),
            source.count(),
            source.calls(),
            conditions(&costs, "time", &on_calls),
            if class == 0 { "" } else { "NOT " },
            group.join(", "),
        );
        let answer = session.query(&sql, &QueryOptions::default()).await?;
        for row in rows(&answer) {
            if let Some(cell) = told.cells[class].get_mut(&key_of(row, dimensions)) {
                cell.calls = row.count("calls");
            }
        }
    }
    Ok(())
}

/// Who moved: by each dimension, the largest changes first.
async fn movers(session: &Session, request: &ChangeRequest, periods: &Periods) -> Result<(Vec<Mover>, bool)> {
    let defaults: Vec<Dimension> = BY_DEFAULT.into_iter().map(Dimension::parse).collect::<Result<_>>()?;
    let is_filtered = |dimension: &Dimension| request.filters.iter().any(|(filtered, _)| filtered == dimension);
    let by: Vec<Dimension> = if request.by.is_empty() {
        defaults
            .into_iter()
            .filter(|dimension| !is_filtered(dimension))
            .collect()
    } else {
        request.by.clone()
    };
    let limit = match request.limit {
        0 => MOVERS_DEFAULT,
        limit => limit.min(MOVERS_MAX),
    };
    let within = |(since_ns, until_ns): (i64, i64)| {
        format!(
            "(l.time >= {} AND l.time < {})",
            instant_sql(since_ns),
            instant_sql(until_ns)
        )
    };
    let (old, new) = (within(periods.before), within(periods.now));
    let span = (periods.before.0.min(periods.now.0), periods.before.1.max(periods.now.1));
    let (mut movers, mut truncated) = (Vec::new(), false);
    for dimension in by {
        let costs = as_costs(request, span);
        let none = "CAST(0 AS DECIMAL(38,15))";
        let sql = format!(
            "SELECT value, previous, current, n_old, n_new FROM (SELECT {} AS value, \
             COALESCE(SUM(CASE WHEN {old} THEN l.effective_cost END), {none}) AS previous, \
             COALESCE(SUM(CASE WHEN {new} THEN l.effective_cost END), {none}) AS current, \
             COUNT(CASE WHEN {old} THEN 1 END) AS n_old, COUNT(CASE WHEN {new} THEN 1 END) AS n_new \
             FROM {} l{}{} AND ({old} OR {new}) GROUP BY 1) WHERE previous <> current \
             ORDER BY ABS(current - previous) DESC, value NULLS LAST LIMIT {}",
            dimension.group_name(on_ledger(&dimension)),
            Source::of(&costs, &[dimension, Interval::Hour.dimension()]).lines(),
            kind_join(&costs, &[dimension]),
            conditions(&costs, "l.time", &on_ledger),
            limit + 1,
        );
        let answer = session.query(&sql, &QueryOptions::default()).await?;
        let found: Vec<Mover> = rows(&answer)
            .map(|row| {
                let cost = |name| row.cost(name).unwrap_or_default();
                let (previous, current) = (cost("previous"), cost("current"));
                Mover {
                    dimension: dimension.name(),
                    value: row.text("value"),
                    previous,
                    current,
                    change: current - previous,
                    status: match (row.count("n_old"), row.count("n_new")) {
                        (0, _) => "new",
                        (_, 0) => "gone",
                        _ => "both",
                    },
                }
            })
            .collect();
        truncated |= found.len() > limit;
        movers.extend(found.into_iter().take(limit));
    }
    Ok((movers, truncated))
}

/// The dearest calls of a group.
async fn calls_behind(
    session: &Session,
    request: &ChangeRequest,
    period: (i64, i64),
    class: usize,
    dimensions: &[Dimension],
    key: &CellKey,
) -> Result<Vec<CallBehind>> {
    let mut costs = as_costs(request, period);
    let group = dimensions
        .iter()
        .zip(key)
        .map(|(dimension, value)| (*dimension, vec![value.clone()]));
    costs.filters.extend(group);
    let is_model = format!("{}{IS_MODEL}", if class == 0 { "" } else { "NOT " });
    let columns = "c.call_id, c.time, c.team, c.agent, c.session_id, c.trace_id, c.input_tokens, c.output_tokens, \
                   COALESCE(c.response_model, c.request_model, c.server || '/' || c.tool, c.tool) AS model";
    let is_of_calls =
        |dimension: &Dimension| dimension.is_of_calls() && (class == 1 || !CAUSES.contains(&dimension.name()));
    let sql = if costs.filters.iter().all(|(dimension, _)| is_of_calls(dimension)) {
        format!(
            "SELECT {columns}, c.own_cost AS cost FROM calls c{} AND {is_model} AND own_cost IS NOT NULL \
             ORDER BY cost DESC, c.call_id LIMIT {CALLS_SHOWN}",
            conditions(&costs, "c.time", &on_calls),
        )
    } else {
        format!(
            "SELECT {columns}, x.cost AS cost FROM (SELECT l.call_id AS id, SUM(l.effective_cost) AS cost FROM ledger l{}{} \
             AND l.call_id IS NOT NULL GROUP BY 1 ORDER BY cost DESC NULLS LAST, id LIMIT {CALLS_SHOWN}) x \
             JOIN calls c ON c.call_id = x.id ORDER BY cost DESC NULLS LAST, c.call_id",
            kind_join(&costs, &[]),
            conditions(&costs, "l.time", &on_ledger),
        )
    };
    let answer = session.query(&sql, &QueryOptions::default()).await?;
    let calls = rows(&answer).map(|row| CallBehind {
        call_id: row.text("call_id"),
        time: row.text("time"),
        cost: row.cost("cost"),
        team: row.text("team"),
        agent: row.text("agent"),
        model: row.text("model"),
        input_tokens: row.int("input_tokens"),
        output_tokens: row.int("output_tokens"),
        session_id: row.text("session_id"),
        trace_id: row.text("trace_id"),
    });
    Ok(calls.collect())
}

fn price_moves(moves: BTreeMap<PriceKey, (FemtoUsd, Charge, Charge)>, before: &Period, now: &Period) -> Vec<PriceMove> {
    let used = |period: &Period, key: &PriceKey| -> Vec<String> {
        let prices = period.prices.get(key).into_iter().flatten();
        prices.cloned().collect()
    };
    let mut told: Vec<PriceMove> = moves
        .into_iter()
        // A unit price is a quotient: below a billionth of a dollar the difference is its rounding.
        .filter(|(_, (part, ..))| part.0.abs() > 1_000_000)
        .map(|(key, (change, old, new))| PriceMove {
            previous_prices: used(before, &key),
            current_prices: used(now, &key),
            provider: key.0,
            model: key.1,
            bucket: key.2,
            previous_per_million: per_million(old),
            current_per_million: per_million(new),
            change,
        })
        .collect();
    told.sort_by_key(|price| std::cmp::Reverse(price.change.0.abs()));
    told.truncate(PRICES_SHOWN);
    told
}

/// A share in percent with one decimal, rounded half away from zero; `None` of nothing.
#[must_use]
pub fn percent(part: FemtoUsd, whole: FemtoUsd) -> Option<String> {
    if whole.0 == 0 {
        return None;
    }
    // Ten times half a percent step: exact integers, so that the figure never depends on a float.
    let doubled = part.0.checked_mul(2_000)?.checked_div(whole.0.abs())?;
    let tenths = (doubled + doubled.signum()) / 2;
    let sign = if tenths < 0 { "-" } else { "" };
    Some(format!("{sign}{}.{}", tenths.abs() / 10, tenths.abs() % 10))
}

/// The change in sentences, the largest part first.
fn notes(change: &Change, periods: &Periods) -> Vec<String> {
    let (old, new) = (&change.previous, &change.current);
    let mut notes = Vec::new();
    let verb = match change.change.0.signum() {
        1 => "rose",
        -1 => "fell",
        _ => "did not change",
    };
    let percent_told = change
        .change_percent
        .as_ref()
        .map_or_else(String::new, |percent| format!(" ({percent} %)"));
    notes.push(match change.change.0 {
        0 => format!("cost did not change: {} USD", new.cost),
        _ => format!(
            "cost {verb} from {} to {} USD: by {}{percent_told}",
            old.cost, new.cost, change.change
        ),
    });
    let mut parts: Vec<(&str, FemtoUsd)> = change
        .parts
        .named()
        .into_iter()
        .filter(|(_, part)| part.0 != 0)
        .collect();
    let (size, spread) = (change.parts.context_size, change.parts.token_mix);
    if size.0.signum() * spread.0.signum() < 0 {
        // More context that came from a cache: two large figures that say little apart.
        parts.retain(|(name, _)| !["context_size", "token_mix"].contains(name));
        parts.push(("context", size + spread));
    }
    parts.sort_by_key(|(_, part)| std::cmp::Reverse(part.0.abs()));
    for (name, part) in parts {
        // Below a tenth of a percent of what moved, a part is no reason.
        if part.0.abs().saturating_mul(1_000) < change.change.0.abs() {
            continue;
        }
        notes.push(match name {
            "volume" => format!(
                "volume {part}: {} model calls, {} before",
                new.model_calls, old.model_calls
            ),
            "mix" => format!("mix {part}: calls moved between teams, agents and models, new and gone ones included"),
            "context_size" => format!(
                "context size {part}: {} tokens a model call, {} before",
                per_call(new),
                per_call(old)
            ),
            "context" => format!(
                "context {part} in sum: context size {size} ({} tokens a model call, {} before) and token mix {spread} \
                 (another share from the cache or of output)",
                per_call(new),
                per_call(old)
            ),
            "token_mix" => {
                format!("token mix {part}: tokens moved between fresh input, cache reads, cache writes and output")
            }
            "price" => format!("price {part}: the same usage at other unit prices"),
            _ => format!("{part} is cost without calls to count"),
        });
    }
    if let Some(mover) = change.movers.first() {
        notes.push(format!(
            "largest mover: {} {} {}{}",
            mover.dimension,
            mover.value.as_deref().unwrap_or(crate::costs::NONE),
            mover.change,
            match mover.status {
                "new" => ", new",
                "gone" => ", gone",
                _ => "",
            }
        ));
    }
    if let Some(price) = change.prices.first() {
        let same = price.previous_prices == price.current_prices;
        notes.push(format!(
            "unit price of {} {}: {} USD a million, {} before{}",
            price.model.as_deref().unwrap_or(crate::costs::NONE),
            price.bucket,
            price.current_per_million.unwrap_or_default(),
            price.previous_per_million.unwrap_or_default(),
            if same {
                "; the price book's price is the same, so tier, processing or reported cost made it"
            } else {
                ""
            },
        ));
    }
    if old.unpriced_tokens != 0 || new.unpriced_tokens != 0 {
        notes.push(format!(
            "unpriced and in no cost: {} tokens, {} before",
            new.unpriced_tokens, old.unpriced_tokens
        ));
    }
    let empty = |period: &PeriodSum| period.cost.0 == 0 && period.tokens == 0 && period.model_calls == 0;
    match (empty(old), empty(new)) {
        (true, true) => notes.push("no usage in either period, under these filters".to_owned()),
        (true, false) => notes.push("there is nothing in the period before: all of it is new".to_owned()),
        (false, true) => notes.push("there is nothing in the period: all of it is gone".to_owned()),
        (false, false) => {}
    }
    let length = |(since, until): (i64, i64)| until - since;
    if length(periods.before) != length(periods.now) {
        notes.push("the periods differ in length: volume includes that".to_owned());
    }
    notes
}

fn per_call(period: &PeriodSum) -> i64 {
    period.tokens.checked_div(period.model_calls).unwrap_or(0)
}

/// Reads a filter written as text, as [`filter_values`] does, for callers that have pairs of text.
///
/// # Errors
/// Those of [`Dimension::parse`].
pub fn filter(name: &str, values: &str) -> Result<(Dimension, Vec<Option<String>>)> {
    Ok((Dimension::parse(name)?, filter_values(values)))
}
