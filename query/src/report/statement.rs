//! The chargeback statement of a month, and costs by dimensions, as [`Document`]s.
//!
//! Every table is asked of the same snapshots and added up here again: a statement whose parts do not sum to its
//! total, to the last digit, is not given out. Shared costs stand beside direct ones with the rule that split them.

use std::collections::BTreeMap;

use chrono::DateTime;
use sha2::{Digest as _, Sha256};
use spanledger_access::Principal;
use spanledger_ledger::allocation::UNALLOCATED;
use spanledger_model::FemtoUsd;

use super::ReportRequest;
use super::document::{Cell, Column, ColumnKind, Document, Section};
use crate::costs::{self, CURRENCY, CostRequest, CostRow, Dimension, NONE, conditions, group_by, on_ledger, quoted};
use crate::engine::{QueryOptions, Session};
use crate::error::{Error, Result};
use crate::limits::{COST_GROUPS_MAX, REPORT_TIMEOUT, ROWS_MAX};
use crate::rows::rows;
use crate::time::format_instant;

/// Tables of a statement: name, heading, dimensions.
const SECTIONS: [(&str, &str, &[&str]); 6] = [
    ("teams", "Teams", &["team"]),
    ("models", "Models", &["team", "provider", "model"]),
    ("tools", "Servers and tools", &["team", "server", "tool"]),
    ("prompts", "Prompts", &["team", "prompt"]),
    ("kinds", "Kinds of call", &["team", "kind"]),
    ("token_kinds", "Kinds of tokens", &["team", "bucket"]),
];

const fn column(name: &'static str, kind: ColumnKind) -> Column {
    Column { name, kind }
}

/// What follows the dimensions of a table.
const MEASURES: [Column; 15] = [
    column("effective_cost", ColumnKind::Money),
    column("adjustments", ColumnKind::Money),
    column("list_cost", ColumnKind::Money),
    column("contracted_cost", ColumnKind::Money),
    column("calls", ColumnKind::Count),
    column("llm_calls", ColumnKind::Count),
    column("errors", ColumnKind::Count),
    column("tokens", ColumnKind::Count),
    column("input_tokens", ColumnKind::Count),
    column("cache_read_tokens", ColumnKind::Count),
    column("cache_write_tokens", ColumnKind::Count),
    column("output_tokens", ColumnKind::Count),
    column("unpriced_tokens", ColumnKind::Count),
    column("cost_per_llm_call", ColumnKind::Rate),
    column("cost_per_million_tokens", ColumnKind::Rate),
];

/// Options of our own statements.
pub(super) fn options() -> QueryOptions {
    QueryOptions {
        rows_max: ROWS_MAX,
        timeout: REPORT_TIMEOUT,
        ..QueryOptions::default()
    }
}

/// Amounts that cost reports do not have.
#[derive(Debug, Clone, Copy, Default)]
struct Amounts {
    list: Option<FemtoUsd>,
    contracted: Option<FemtoUsd>,
    adjustments: Option<FemtoUsd>,
}

/// The statement of a month. `told` is called with tables done, and tables in all.
pub(super) async fn chargeback(
    session: &Session,
    principal: &Principal,
    request: &ReportRequest,
    now_ns: i64,
    told: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<Document> {
    let mut document = begun("Chargeback statement", session, principal, request, now_ns).await?;
    let n_steps = SECTIONS.len() as u64 + 2;
    let (shared, note) = shared_costs(session, principal, request).await?;
    told(1, n_steps);
    for (done, (id, title, names)) in (2..).zip(SECTIONS) {
        let by = Dimension::parse_list(&names.join(","))?;
        let mut section = table(session, request, id, title, by).await?;
        if id == "teams" {
            with_shared(&mut section, &shared);
        }
        document.sections.push(section);
        told(done, n_steps);
    }
    if !shared.is_empty() {
        document.sections.push(shared_section(&shared));
    }
    document.sections.extend(unpriced(session, request).await?);
    told(n_steps, n_steps);
    document.notes.extend(note);
    document.notes.extend([
        "each table adds up to its total exactly; effective_cost is what is charged, adjustments is the part of it that corrects earlier months"
            .to_owned(),
        format!("{UNALLOCATED}: nothing tells whose it is; an empty name: caused by nothing of that kind"),
        "unpriced_tokens have no price and are in no cost".to_owned(),
        "periods are not closed and bills are not reconciled by this version: late records still change the figures".to_owned(),
    ]);
    Ok(document)
}

/// Costs by the dimensions asked for. `told` as above.
pub(super) async fn costs(
    session: &Session,
    principal: &Principal,
    request: &ReportRequest,
    now_ns: i64,
    told: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<Document> {
    let mut document = begun("Costs", session, principal, request, now_ns).await?;
    told(1, 2);
    let by = match request.by.as_slice() {
        [] => Dimension::parse_list("team,model")?,
        by => by.to_vec(),
    };
    document
        .sections
        .push(table(session, request, "costs", "Costs", by).await?);
    told(2, 2);
    document
        .notes
        .push("unpriced_tokens have no price and are in no cost".to_owned());
    Ok(document)
}

/// What a report says about itself.
async fn begun(
    title: &str,
    session: &Session,
    principal: &Principal,
    request: &ReportRequest,
    now_ns: i64,
) -> Result<Document> {
    let inputs = inputs(session, request).await?;
    let is_over = request.until_ns() <= now_ns;
    let mut facts = vec![
        ("period", request.period.to_string()),
        ("from", format_instant(request.since_ns())),
        ("until", format_instant(request.until_ns())),
        ("status", if is_over { "ended, not closed" } else { "open" }.to_owned()),
        ("tenant", super::document::harmless(principal.tenant().as_str())),
        ("currency", CURRENCY.to_owned()),
    ];
    for (dimension, values) in &request.filters {
        let values: Vec<&str> = values.iter().map(|value| value.as_deref().unwrap_or(NONE)).collect();
        facts.push((dimension.name(), super::document::harmless(&values.join(", "))));
    }
    for (column, values) in principal.rows().conditions() {
        facts.push((
            column,
            format!("only {}", super::document::harmless(&values.join(", "))),
        ));
    }
    facts.extend([
        ("price book in use", session.book().version().to_owned()),
        ("price books charged by", inputs.price_versions),
        ("allocation rules", session.rules().version().to_owned()),
        ("ledger lines", inputs.n_lines.to_string()),
        ("input sha256", inputs.sha256),
        ("made at", format_instant(now_ns)),
        ("made by", format!("spanledger {}", env!("CARGO_PKG_VERSION"))),
    ]);
    Ok(Document {
        title: format!("{title} {}", request.period),
        facts,
        sections: Vec::new(),
        notes: if is_over {
            Vec::new()
        } else {
            vec!["the month is not over: its figures still grow".to_owned()]
        },
    })
}

struct Inputs {
    price_versions: String,
    n_lines: i64,
    sha256: String,
}

/// What the figures are made of: a hash of the ledger's sums by every dimension that a statement splits by, which
/// compaction does not change and any correction does.
async fn inputs(session: &Session, request: &ReportRequest) -> Result<Inputs> {
    let keys = "l.day, l.team, l.project, l.environment, l.provider, l.model, l.server, l.tool, l.prompt, l.cause, l.bucket, \
                l.line_kind, l.price_version";
    let by = (1..=13).map(|column| column.to_string()).collect::<Vec<_>>().join(", ");
    let request = request.cost_request(Vec::new());
    let sql = format!(
        "SELECT {keys}, SUM(l.tokens) AS tokens, SUM(l.quantity) AS quantity, SUM(l.list_cost) AS list_cost, \
         SUM(l.contracted_cost) AS contracted_cost, SUM(l.effective_cost) AS effective_cost, COUNT(*) AS n_lines \
         FROM ledger l{}{} GROUP BY {by} ORDER BY {by}",
        kind_join(&request, &[]),
        conditions(&request, "l.time", &on_ledger)
    );
    let answer = session.query(&sql, &options()).await?;
    let mut hash = Sha256::new();
    let mut versions = std::collections::BTreeSet::new();
    let mut n_lines = 0;
    let names: Vec<&str> = answer
        .schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    for row in rows(&answer) {
        n_lines += row.count("n_lines");
        versions.extend(row.text("price_version"));
        for name in names.iter().filter(|name| **name != "n_lines") {
            let text = row.text(name);
            hash.update(text.as_ref().map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
            hash.update(text.unwrap_or_default());
        }
    }
    let listed: Vec<String> = versions.into_iter().collect();
    Ok(Inputs {
        price_versions: if listed.is_empty() {
            "none".to_owned()
        } else {
            listed.join(", ")
        },
        n_lines,
        sha256: if answer.truncated {
            format!("none: over {ROWS_MAX} groups")
        } else {
            hex::encode(hash.finalize())
        },
    })
}

pub(super) fn kind_join(request: &CostRequest, by: &[Dimension]) -> &'static str {
    if costs::needs_kind(request, by) {
        " LEFT JOIN (SELECT call_id, kind FROM calls) c ON l.call_id = c.call_id"
    } else {
        ""
    }
}

async fn amounts(session: &Session, request: &CostRequest) -> Result<BTreeMap<Vec<Option<String>>, Amounts>> {
    let names: String = request
        .by
        .iter()
        .map(|dimension| {
            format!(
                "{} AS {}, ",
                dimension.group_name(on_ledger(dimension)),
                dimension.name()
            )
        })
        .collect();
    let sql = format!(
        "SELECT {names}SUM(l.list_cost) AS list_cost, SUM(COALESCE(l.contracted_cost, l.list_cost)) AS contracted_cost, \
         SUM(l.effective_cost) FILTER (WHERE l.line_kind = 'correction') AS adjustments FROM ledger l{}{}{}",
        kind_join(request, &request.by),
        conditions(request, "l.time", &on_ledger),
        group_by(request.by.len())
    );
    let answer = session.query(&sql, &options()).await?;
    Ok(rows(&answer)
        .map(|row| {
            let keys = request.by.iter().map(|dimension| row.text(dimension.name())).collect();
            let amounts = Amounts {
                list: row.cost("list_cost"),
                contracted: row.cost("contracted_cost"),
                adjustments: row.cost("adjustments"),
            };
            (keys, amounts)
        })
        .collect())
}

/// A table by dimensions, checked against the total of everything.
async fn table(
    session: &Session,
    request: &ReportRequest,
    id: &'static str,
    title: &'static str,
    by: Vec<Dimension>,
) -> Result<Section> {
    let request = CostRequest {
        limit: COST_GROUPS_MAX,
        ..request.cost_request(by.clone())
    };
    let report = costs::report(session, &request).await?;
    let mut amounts = amounts(session, &request).await?;
    let columns = by
        .iter()
        .map(|dimension| column(dimension.name(), ColumnKind::Text))
        .chain(MEASURES);
    let mut section = Section {
        id,
        title,
        columns: columns.collect(),
        rows: Vec::with_capacity(report.rows.len() + 1),
        total: None,
    };
    for row in &report.rows {
        let amounts = amounts.remove(&row.keys).unwrap_or_default();
        let keys = row
            .keys
            .iter()
            .map(|key| key.as_deref().map_or(Cell::Empty, Cell::text));
        section.rows.push(keys.chain(measures(row, &amounts)).collect());
    }
    if let Some(other) = &report.other {
        let sum = |pick: fn(&Amounts) -> Option<FemtoUsd>| amounts.values().filter_map(pick).reduce(|a, b| a + b);
        let rest = Amounts {
            list: sum(|amounts| amounts.list),
            contracted: sum(|amounts| amounts.contracted),
            adjustments: sum(|amounts| amounts.adjustments),
        };
        let keys = (0..by.len()).map(|at| if at == 0 { Cell::text("(other)") } else { Cell::Empty });
        section.rows.push(keys.chain(measures(other, &rest)).collect());
    }
    let mut total = section.sum();
    let whole = &report.total;
    let at = by.len();
    let adds_up = total.get(at) == Some(&Cell::Money(whole.cost.unwrap_or_default()))
        && total.get(at + 7) == Some(&Cell::Count(whole.tokens))
        && (report.rows.iter().any(|row| row.calls.is_none())
            || total.get(at + 4) == Some(&Cell::Count(whole.calls.unwrap_or(0))));
    if !adds_up {
        return Err(Error::internal(format!(
            "the table `{id}` of the report does not add up to the total; the report was not made"
        )));
    }
    // A split that only money lines have gives its rows no counts of calls; the total has them.
    for (offset, count) in [(4, whole.calls), (5, whole.llm_calls), (6, whole.errors)] {
        if let Some(cell) = total.get_mut(at + offset) {
            *cell = Cell::count(count);
        }
    }
    let rates = rates(whole);
    for (offset, rate) in [(13, rates[0]), (14, rates[1])] {
        if let Some(cell) = total.get_mut(at + offset) {
            *cell = Cell::money(rate);
        }
    }
    section.total = Some(total);
    Ok(section)
}

fn measures(row: &CostRow, amounts: &Amounts) -> impl Iterator<Item = Cell> {
    let rates = rates(row);
    [
        Cell::money(row.cost),
        Cell::money(amounts.adjustments),
        Cell::money(amounts.list),
        Cell::money(amounts.contracted),
        Cell::count(row.calls),
        Cell::count(row.llm_calls),
        Cell::count(row.errors),
        Cell::Count(row.tokens),
        Cell::Count(row.input_tokens),
        Cell::Count(row.cache_read_tokens),
        Cell::Count(row.cache_write_tokens),
        Cell::Count(row.output_tokens),
        Cell::Count(row.unpriced_tokens),
        Cell::money(rates[0]),
        Cell::money(rates[1]),
    ]
    .into_iter()
}

/// Cost of a model call and of a million tokens, rounded down to a femto-USD: quotients, which add up to nothing.
fn rates(row: &CostRow) -> [Option<FemtoUsd>; 2] {
    let per = |count: i64, of: i128| {
        let cost = row.cost.filter(|_| count > 0)?;
        Some(FemtoUsd(cost.0.checked_mul(of)? / i128::from(count)))
    };
    [
        per(row.llm_calls.unwrap_or(0), 1),
        per(row.tokens - row.unpriced_tokens, 1_000_000),
    ]
}

struct SharedLine {
    team: String,
    name: String,
    method: String,
    cost: FemtoUsd,
}

/// The month's shared costs by team, or why they are not in it.
async fn shared_costs(
    session: &Session,
    principal: &Principal,
    request: &ReportRequest,
) -> Result<(Vec<SharedLine>, Option<String>)> {
    if session.rules().shared().is_empty() {
        return Ok((Vec::new(), None));
    }
    let left_out = |why: &str| Ok((Vec::new(), Some(format!("shared costs are left out: {why}"))));
    if !principal.rows().is_empty() {
        return left_out("they are those of the whole tenant, and this role sees a part");
    }
    if request.filters.iter().any(|(dimension, _)| dimension.name() != "team") {
        return left_out("they are split by team only, and this report is filtered by more");
    }
    let mut sql = format!(
        "SELECT value, shared_cost, method, cost FROM allocated_costs WHERE period = {} AND dimension = 'team' AND kind = 'shared'",
        quoted(&request.period.to_string())
    );
    for (_, values) in &request.filters {
        let values: Vec<String> = values
            .iter()
            .map(|value| quoted(value.as_deref().unwrap_or(UNALLOCATED)))
            .collect();
        sql.push_str(&format!(" AND value IN ({})", values.join(", ")));
    }
    sql.push_str(" ORDER BY 1, 2, 3");
    let answer = session.query(&sql, &options()).await?;
    let lines = rows(&answer).filter_map(|row| {
        Some(SharedLine {
            team: row.text("value")?,
            name: row.text("shared_cost")?,
            method: row.text("method").unwrap_or_default(),
            cost: row.cost("cost")?,
        })
    });
    Ok((lines.collect(), None))
}

/// Adds to the table of teams their shared costs and the sum of both.
fn with_shared(section: &mut Section, shared: &[SharedLine]) {
    let mut by_team: BTreeMap<String, FemtoUsd> = BTreeMap::new();
    for line in shared {
        *by_team.entry(super::document::harmless(&line.team)).or_default() += line.cost;
    }
    let width = section.columns.len();
    for row in &mut section.rows {
        let team = row.first().map(Cell::to_text).unwrap_or_default();
        let shared = by_team.remove(&team).unwrap_or_default();
        let direct = row.get(1).map_or(FemtoUsd::ZERO, money_of);
        row.splice(2..2, [Cell::Money(shared), Cell::Money(direct + shared)]);
    }
    for (team, shared) in by_team {
        let mut row = vec![Cell::Empty; width];
        row[0] = Cell::Text(team);
        row[1] = Cell::Money(FemtoUsd::ZERO);
        row.splice(2..2, [Cell::Money(shared), Cell::Money(shared)]);
        section.rows.push(row);
    }
    let sum: FemtoUsd = shared.iter().map(|line| line.cost).sum();
    if let Some(total) = &mut section.total {
        let direct = total.get(1).map_or(FemtoUsd::ZERO, money_of);
        total.splice(2..2, [Cell::Money(sum), Cell::Money(direct + sum)]);
    }
    section.columns.splice(
        2..2,
        [
            column("shared_cost", ColumnKind::Money),
            column("total_cost", ColumnKind::Money),
        ],
    );
}

fn money_of(cell: &Cell) -> FemtoUsd {
    match cell {
        Cell::Money(cost) => *cost,
        _ => FemtoUsd::ZERO,
    }
}

fn shared_section(shared: &[SharedLine]) -> Section {
    let mut section = Section {
        id: "shared_costs",
        title: "Shared costs",
        columns: vec![
            column("team", ColumnKind::Text),
            column("shared_cost_name", ColumnKind::Text),
            column("rule", ColumnKind::Text),
            column("shared_cost", ColumnKind::Money),
        ],
        rows: shared
            .iter()
            .map(|line| {
                vec![
                    Cell::text(&line.team),
                    Cell::text(&line.name),
                    Cell::text(&line.method),
                    Cell::Money(line.cost),
                ]
            })
            .collect(),
        total: None,
    };
    section.total = Some(section.sum());
    section
}

/// Usage without a price, by model.
async fn unpriced(session: &Session, request: &ReportRequest) -> Result<Option<Section>> {
    let request = request.cost_request(Vec::new());
    let conditions = conditions(&request, "l.time", &on_ledger);
    let and = if conditions.is_empty() { " WHERE" } else { " AND" };
    let sql = format!(
        "SELECT COALESCE(l.team, '{UNALLOCATED}') AS team, l.provider, l.model, SUM(l.tokens) AS unpriced_tokens FROM ledger l{}{conditions}{and} \
         l.effective_cost IS NULL GROUP BY 1, 2, 3 HAVING SUM(l.tokens) <> 0 ORDER BY 4 DESC, 1, 2, 3",
        kind_join(&request, &[])
    );
    let answer = session.query(&sql, &options()).await?;
    let text = |text: Option<String>| text.as_deref().map_or(Cell::Empty, Cell::text);
    let lines: Vec<Vec<Cell>> = rows(&answer)
        .map(|row| {
            vec![
                text(row.text("team")),
                text(row.text("provider")),
                text(row.text("model")),
                Cell::Count(row.count("unpriced_tokens")),
            ]
        })
        .collect();
    if lines.is_empty() {
        return Ok(None);
    }
    let mut section = Section {
        id: "unpriced",
        title: "Usage without a price",
        columns: vec![
            column("team", ColumnKind::Text),
            column("provider", ColumnKind::Text),
            column("model", ColumnKind::Text),
            column("unpriced_tokens", ColumnKind::Count),
        ],
        rows: lines,
        total: None,
    };
    section.total = Some(section.sum());
    Ok(Some(section))
}

/// The first instant of a day since the Unix epoch, nanoseconds.
pub(super) fn day_ns(day: i64) -> i64 {
    DateTime::from_timestamp(day.saturating_mul(86_400), 0)
        .and_then(|at| at.timestamp_nanos_opt())
        .unwrap_or(i64::MAX)
}
