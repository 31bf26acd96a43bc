//! `query_costs`: what does it cost, by what, over which time, and beside the time before.
//!
//! The rows of an answer and its `other` sum to `total`, on every page: `other` is all that is not a row there.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rmcp::model::{JsonObject, Tool};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use spanledger_query::cost_series::{GrownReport, change};
use spanledger_query::costs::CURRENCY;
use spanledger_query::spend::Interval;
use spanledger_query::time::{format_instant, parse_instant};
use spanledger_query::{CostReport, CostRequest, CostRow, Dimension, Error, Result};

use super::{Answer, Call, meant, nullable_text, reading_tool};
use crate::arguments::Arguments;
use crate::limits::{ANSWER_TOKENS, COST_ROWS_DEFAULT, COST_ROWS_MAX, ROWS_TOKENS_MAX};
use crate::shared::hex;
use crate::text::{DATA_NOTE, Rows, clean, line};

pub(crate) const NAME: &str = "query_costs";
const ARGUMENTS: [&str; 11] = [
    "by",
    "since",
    "until",
    "filters",
    "measures",
    "interval",
    "compare",
    "limit",
    "cursor",
    "response_format",
    "detailed",
];
/// Measures of every answer; the others are added when `detailed`.
const CONCISE: [&str; 6] = ["cost", "tokens", "calls", "llm_calls", "errors", "unpriced_tokens"];
const DETAILED: [&str; 5] = [
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "unpriced_calls",
];
/// What `compare` adds to a row.
const COMPARED: [&str; 3] = ["previous_cost", "change", "change_percent"];
/// Splits and ranges that the dashboard's address can name.
const PAGE_SPLITS: [&str; 5] = ["team", "agent", "server", "tool", "model"];
const PAGE_RANGES: [&str; 3] = ["24h", "7d", "30d"];
/// Pages reach this many groups.
const GROUPS_REACHED: usize = 10_000;

pub(crate) fn definition() -> Tool {
    let dimensions = Dimension::ALL.map(Dimension::name);
    let object = json!({ "type": "object" });
    reading_tool(
        NAME,
        "Query costs",
        "Exact cost, tokens, calls and errors of LLM and MCP usage, split by dimensions, dearest first. rows and other \
         add up to total. By server, tool, prompt or resource_uri: the cost it caused (definition, calls and results in \
         model calls, own price); null: the rest. By team, project, cost_center or environment: __unallocated__ is what \
         nobody is told to pay. By method: how surely that is divided.",
        json!({
            "type": "object",
            "properties": {
                "by": {
                    "type": "array",
                    "items": { "type": "string", "enum": dimensions },
                    "description": "dimensions to split by; none for the total"
                },
                "since": { "type": "string", "description": "7d, 24h, 2026-11-01 or RFC 3339 (UTC); default: all time" },
                "until": { "type": "string", "description": "exclusive, same forms" },
                "filters": {
                    "type": "object",
                    "description": "dimension to value or values, e.g. {\"team\": \"payments\"}; null: has no value"
                },
                "measures": { "type": "array", "items": { "type": "string" }, "description": "columns; default the usual" },
                "interval": { "enum": ["hour", "day", "week", "month"], "description": "time series per group" },
                "compare": { "enum": ["previous"], "description": "adds the same length of time before since" },
                "limit": { "type": "integer", "minimum": 1, "maximum": COST_ROWS_MAX, "default": COST_ROWS_DEFAULT },
                "cursor": { "type": "string", "description": "next_cursor of the same question" },
                "response_format": { "enum": ["concise", "detailed"], "description": "detailed adds input, output, cache tokens" }
            },
            "additionalProperties": false
        }),
        json!({
            "type": "object",
            "properties": {
                "since": nullable_text(),
                "until": nullable_text(),
                "currency": { "type": "string" },
                "columns": { "type": "array" },
                "rows": { "type": "array" },
                "other": { "type": ["object", "null"], "description": "all that is no row here, summed" },
                "total": object,
                "next_cursor": nullable_text(),
                "truncated": { "type": "boolean" },
                "notes": { "type": "array" }
            }
        }),
    )
}

/// A question as it was read.
struct Question {
    request: CostRequest,
    measures: Vec<&'static str>,
    interval: Option<Interval>,
    compares: bool,
    /// Rows a page, and rows before this one.
    limit: usize,
    offset: usize,
    detailed: bool,
    /// What a cursor of this question begins with.
    digest: String,
    /// The dashboard's page of the same figures.
    page: Option<String>,
}

pub(crate) async fn answer(call: Call<'_>) -> Result<Answer> {
    let digest = digest(call.arguments.as_ref());
    let arguments = Arguments::new(NAME, &ARGUMENTS, call.arguments.clone())?;
    let question = question(&arguments, call.engine.now_ns(), digest)?;
    let grown = call
        .engine
        .costs_grown(call.principal, &question.request, question.interval, question.compares)
        .await?;
    let mut notes = Vec::new();
    if grown.report.total.calls.unwrap_or(0) == 0 && grown.report.total.tokens == 0 {
        notes.push("nothing matches; describe_data says which time and values there are".to_owned());
        notes.extend(meant(call.engine, call.principal, &question.request.filters).await?);
    }
    let link = question.page.as_ref().and_then(|page| call.shared.link(page));
    Ok(written(&grown, &question, notes, link))
}

fn question(arguments: &Arguments, now_ns: i64, digest: String) -> Result<Question> {
    let instant = |name| match arguments.text(name)? {
        Some(text) => parse_instant(text, now_ns).map(Some),
        None => Ok(None),
    };
    let limit = arguments.count("limit", COST_ROWS_DEFAULT, COST_ROWS_MAX)?;
    let interval = arguments.text("interval")?.map(Interval::parse).transpose()?;
    let mut request = CostRequest {
        by: Dimension::parse_list(&arguments.names("by")?.join(","))?,
        since_ns: instant("since")?,
        until_ns: instant("until")?,
        filters: Vec::new(),
        limit,
        measures: false,
    };
    let mut offset = 0;
    if let Some(cursor) = arguments.text("cursor")? {
        let cursor = Cursor::read(cursor, &digest)?;
        // `7d` is another time now than it was on the first page.
        (request.since_ns, request.until_ns, offset) = (cursor.since_ns, cursor.until_ns, cursor.offset);
    }
    if let (Some(since_ns), Some(until_ns)) = (request.since_ns, request.until_ns)
        && since_ns >= until_ns
    {
        return Err(Error::invalid("`since` is not before `until`: the time range is empty"));
    }
    if interval.is_none() {
        request.limit = offset.saturating_add(limit);
    }
    for (name, values) in arguments.conditions("filters")? {
        request.filters.push((Dimension::parse(&name)?, values));
    }
    let detailed = arguments.is_detailed()? || arguments.flag("detailed")?;
    let compares = match arguments.text("compare")? {
        None | Some("none") => false,
        Some("previous") => true,
        Some(_) => return Err(Error::invalid("`compare` of query_costs is previous")),
    };
    Ok(Question {
        measures: measures(arguments, detailed)?,
        page: page(arguments, &request)?,
        request,
        interval,
        compares,
        limit,
        offset,
        detailed,
        digest,
    })
}

fn measures(arguments: &Arguments, detailed: bool) -> Result<Vec<&'static str>> {
    let named = arguments.names("measures")?;
    if named.is_empty() {
        let more = if detailed { &DETAILED[..] } else { &[] };
        return Ok(CONCISE.iter().chain(more).copied().collect());
    }
    let known = || CONCISE.iter().chain(&DETAILED).copied();
    let found = named.iter().map(|name| {
        known().find(|known| known == name).ok_or_else(|| {
            Error::invalid(format!(
                "`{}` is no measure; measures: {}",
                clean(name),
                known().collect::<Vec<_>>().join(", ")
            ))
        })
    });
    found.collect()
}

/// The address of the same figures on the dashboard, where it can name them.
fn page(arguments: &Arguments, request: &CostRequest) -> Result<Option<String>> {
    let range = match arguments.text("since")? {
        None => "all",
        Some(since) if PAGE_RANGES.contains(&since) => since,
        Some(_) => return Ok(None),
    };
    let split = match request.by.as_slice() {
        [] => "team",
        [split, ..] if PAGE_SPLITS.contains(&split.name()) => split.name(),
        _ => return Ok(None),
    };
    if request.until_ns.is_some() || !request.filters.is_empty() {
        return Ok(None);
    }
    Ok(Some(format!("/?range={range}&by={split}")))
}

/// Where a page begins, for the question that it is of.
struct Cursor {
    offset: usize,
    since_ns: Option<i64>,
    until_ns: Option<i64>,
}

impl Cursor {
    fn write(&self, digest: &str) -> String {
        URL_SAFE_NO_PAD.encode(json!([digest, self.offset, self.since_ns, self.until_ns]).to_string())
    }

    fn read(text: &str, digest: &str) -> Result<Self> {
        let read = URL_SAFE_NO_PAD.decode(text).ok();
        let read =
            read.and_then(|bytes| serde_json::from_slice::<(String, usize, Option<i64>, Option<i64>)>(&bytes).ok());
        match read {
            Some((of, offset, since_ns, until_ns)) if of == digest && offset <= GROUPS_REACHED => Ok(Self {
                offset,
                since_ns,
                until_ns,
            }),
            Some(_) => Err(Error::invalid(
                "`cursor` is of another question; repeat the other arguments as they were, or leave it out",
            )),
            None => Err(Error::invalid(
                "`cursor` is no next_cursor of query_costs; leave it out for the first page",
            )),
        }
    }
}

/// What tells a question from another, whatever page of it is asked for.
fn digest(arguments: Option<&JsonObject>) -> String {
    let mut arguments = arguments.cloned().unwrap_or_default();
    for name in ["cursor", "limit", "response_format", "detailed"] {
        arguments.remove(name);
    }
    let mut digest = hex(&Sha256::digest(Value::Object(arguments).to_string()));
    digest.truncate(12);
    digest
}

/// A row of the answer before it is cut: a group, or a point of its series.
struct Shown<'r> {
    time: Option<&'r str>,
    row: &'r CostRow,
    keys: &'r [Option<String>],
    before: Option<&'r CostRow>,
}

fn shown(grown: &GrownReport) -> Vec<Shown<'_>> {
    let report = &grown.report;
    if grown.interval.is_some() {
        let groups = report.rows.iter().zip(&grown.series);
        let points = groups.flat_map(|(group, points)| {
            points.iter().map(|(time, row)| Shown {
                time: Some(time),
                row,
                keys: &group.keys,
                before: None,
            })
        });
        return points.collect();
    }
    let before = |index: usize| grown.previous.as_ref()?.rows.get(index)?.as_ref();
    let rows = report.rows.iter().enumerate().map(|(index, row)| Shown {
        time: None,
        row,
        keys: &row.keys,
        before: before(index),
    });
    rows.collect()
}

fn written(grown: &GrownReport, question: &Question, mut notes: Vec<String>, link: Option<String>) -> Answer {
    let report = &grown.report;
    // Points of a series have no point before: the comparison stands at other and total.
    let compared: &[&str] = if grown.previous.is_some() { &COMPARED } else { &[] };
    let of_rows = if grown.interval.is_some() { &[] } else { compared };
    let n_keys = report.by.len() + usize::from(grown.interval.is_some());
    let time = grown.interval.map(|_| "time");
    let columns = report.by.iter().map(|dimension| dimension.name()).chain(time);
    let columns = columns
        .chain(question.measures.iter().copied())
        .chain(of_rows.iter().copied());
    let budget = if question.detailed {
        ROWS_TOKENS_MAX
    } else {
        ANSWER_TOKENS
    };
    let mut rows = Rows::within(columns, budget);
    let all = shown(grown);
    let page_end = match grown.interval {
        Some(_) => all.len(),
        None => all.len().min(question.offset.saturating_add(question.limit)),
    };
    let mut end = question.offset.min(page_end);
    for row in all.iter().take(page_end).skip(question.offset) {
        let keys = row.keys.iter().map(|key| key.clone().map_or(Value::Null, Value::from));
        let keys = keys.chain(row.time.map(Value::from));
        let figures = question.measures.iter().map(|name| measure(row.row, name));
        let figures = keys.chain(figures).chain(comparison(row.row, row.before, of_rows));
        if !rows.push(figures.collect()) {
            break;
        }
        end += 1;
    }
    let on_page = question.offset..end;
    let hidden = all.iter().enumerate().filter(|(index, _)| !on_page.contains(index));
    let other = sum(hidden.map(|(_, hidden)| hidden.row).chain(&report.other));
    let has_more = end < all.len() || (report.other.is_some() && grown.interval.is_none());
    let next_cursor = (has_more && end > question.offset && end < GROUPS_REACHED).then(|| {
        let cursor = Cursor {
            offset: end,
            since_ns: report.since_ns,
            until_ns: report.until_ns,
        };
        cursor.write(&question.digest)
    });
    let page = Page {
        has_more,
        earlier: question.offset,
        has_other: other.is_some(),
    };
    notes.extend(self::notes(grown, &rows, &page));

    let before_total = grown.previous.as_ref().map(|previous| &previous.total);
    let before_other = before_of_other(grown, &on_page);
    let mut text = rows.tsv(n_keys);
    if n_keys > 0 {
        let mut summed = |label: &str, row: &CostRow, before: Option<&CostRow>| {
            let keys = (0..n_keys).map(|index| Value::from(if index == 0 { label } else { "" }));
            let figures = question.measures.iter().map(|name| measure(row, name));
            let figures = keys.chain(figures).chain(comparison(row, before, of_rows));
            text.push_str(&line(&figures.collect::<Vec<_>>()));
        };
        if let Some(other) = &other {
            summed("[other]", other, before_other.as_ref());
        }
        summed("[total]", &report.total, before_total);
    }
    text.push_str(&format!("{}, {CURRENCY}", period(report)));
    for note in &notes {
        text.push_str(&format!("; {note}"));
    }
    if let Some(cursor) = &next_cursor {
        text.push_str(&format!("\nnext_cursor: {cursor}"));
    }
    if let Some(link) = &link {
        text.push_str(&format!("\n{link}"));
    }

    let fields = |row: &CostRow, before: Option<&CostRow>, compared: &[&str]| -> Map<String, Value> {
        let figures = question
            .measures
            .iter()
            .map(|name| ((*name).to_owned(), measure(row, name)));
        let names = compared.iter().map(|name| (*name).to_owned());
        figures.chain(names.zip(comparison(row, before, compared))).collect()
    };
    let structured = json!({
        "since": report.since_ns.map(format_instant),
        "until": report.until_ns.map(format_instant),
        "currency": CURRENCY,
        "columns": rows.columns_json(),
        "rows": rows.rows_json(),
        "other": other.as_ref().map(|other| fields(other, before_other.as_ref(), of_rows)),
        "total": fields(&report.total, before_total, compared),
        "next_cursor": next_cursor,
        "truncated": has_more,
        "link": link,
        "notes": notes,
    });
    Answer::new(text, structured)
}

/// The period before of all that is no row of this page.
fn before_of_other(grown: &GrownReport, on_page: &std::ops::Range<usize>) -> Option<CostRow> {
    let previous = grown.previous.as_ref()?;
    let hidden = previous.rows.iter().enumerate();
    let hidden = hidden.filter(|(index, _)| grown.interval.is_some() || !on_page.contains(index));
    sum(hidden.filter_map(|(_, row)| row.as_ref()).chain([&previous.other]))
}

fn comparison(row: &CostRow, before: Option<&CostRow>, columns: &[&str]) -> Vec<Value> {
    if columns.is_empty() {
        return Vec::new();
    }
    let before = before.and_then(|before| before.cost);
    let (change, percent) = change(row.cost, before);
    vec![
        before.map_or(Value::Null, |cost| cost.to_string().into()),
        change.to_string().into(),
        percent.map_or(Value::Null, Value::from),
    ]
}

/// A measure by its name: the cost as an exact decimal in a string, counts as numbers.
fn measure(row: &CostRow, name: &str) -> Value {
    match name {
        "cost" => row.cost.map_or(Value::Null, |cost| Value::from(cost.to_string())),
        "tokens" => row.tokens.into(),
        "calls" => row.calls.into(),
        "llm_calls" => row.llm_calls.into(),
        "errors" => row.errors.into(),
        "unpriced_tokens" => row.unpriced_tokens.into(),
        "input_tokens" => row.input_tokens.into(),
        "output_tokens" => row.output_tokens.into(),
        "cache_read_tokens" => row.cache_read_tokens.into(),
        "cache_write_tokens" => row.cache_write_tokens.into(),
        "unpriced_calls" => row.unpriced_calls.into(),
        _ => Value::Null,
    }
}

/// Rows summed up; none of none.
fn sum<'r>(rows: impl Iterator<Item = &'r CostRow>) -> Option<CostRow> {
    rows.cloned().reduce(|sum, row| {
        let both = |a: Option<i64>, b: Option<i64>| a.zip(b).map(|(a, b)| a + b);
        CostRow {
            keys: Vec::new(),
            cost: match (sum.cost, row.cost) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            },
            tokens: sum.tokens + row.tokens,
            input_tokens: sum.input_tokens + row.input_tokens,
            output_tokens: sum.output_tokens + row.output_tokens,
            cache_read_tokens: sum.cache_read_tokens + row.cache_read_tokens,
            cache_write_tokens: sum.cache_write_tokens + row.cache_write_tokens,
            calls: both(sum.calls, row.calls),
            llm_calls: both(sum.llm_calls, row.llm_calls),
            errors: both(sum.errors, row.errors),
            unpriced_calls: both(sum.unpriced_calls, row.unpriced_calls),
            unpriced_tokens: sum.unpriced_tokens + row.unpriced_tokens,
            measures: sum.measures.zip(row.measures).map(|(sum, row)| sum.and(&row)),
        }
    })
}

/// How a page stands among the others.
struct Page {
    has_more: bool,
    earlier: usize,
    has_other: bool,
}

fn notes(grown: &GrownReport, rows: &Rows, page: &Page) -> Vec<String> {
    let report = &grown.report;
    let mut notes = Vec::new();
    if page.has_more {
        notes.push(format!(
            "{} rows shown, the rest is summed up as other; next_cursor gives the next, or filter, or shorten the time",
            rows.len()
        ));
    } else if grown.interval.is_some() && page.has_other {
        notes.push("groups beyond limit are summed up as other; raise limit, or filter".to_owned());
    }
    if page.earlier > 0 {
        notes.push(format!("other also has the {} rows of earlier pages", page.earlier));
    }
    if let Some(previous) = &grown.previous {
        let (change, percent) = change(report.total.cost, previous.total.cost);
        notes.push(format!(
            "compared with {} to {}: total cost changed by {change}{}",
            format_instant(previous.since_ns),
            format_instant(previous.until_ns),
            percent.map_or_else(String::new, |percent| format!(" ({percent} %)"))
        ));
        if previous.gone > 0 && !report.by.is_empty() {
            notes.push(format!(
                "{} groups of the time before are no row here; their cost is in other's previous_cost",
                previous.gone
            ));
        }
    }
    if report.total.unpriced_tokens > 0 || report.total.unpriced_calls.unwrap_or(0) > 0 {
        notes.push("cost leaves out unpriced usage: by=[\"model\"] says which models have no price".to_owned());
    }
    let undivided = report.methods.iter().find(|shares| shares.method == "undivided");
    if let Some(share) = undivided
        .and_then(|shares| shares.share)
        .filter(|_| is_by_cause(report))
    {
        notes.push(format!(
            "{:.0} % of the cost is not divided among causes",
            share * 100.0
        ));
    }
    if !report.by.is_empty() && rows.len() > 0 {
        notes.push(DATA_NOTE.to_owned());
    }
    notes
}

/// True where the split asks who caused a cost.
fn is_by_cause(report: &CostReport) -> bool {
    let causes = ["server", "tool", "prompt", "resource_uri", "cause"];
    report.by.iter().any(|dimension| causes.contains(&dimension.name()))
}

fn period(report: &CostReport) -> String {
    match (report.since_ns, report.until_ns) {
        (None, None) => "all time".to_owned(),
        (Some(since_ns), None) => format!("since {}", format_instant(since_ns)),
        (None, Some(until_ns)) => format!("until {}", format_instant(until_ns)),
        (Some(since_ns), Some(until_ns)) => format!("{} to {}", format_instant(since_ns), format_instant(until_ns)),
    }
}
