//! `describe_data`: what can be asked, and what is in the lake. Without arguments an overview; with `table`
//! its columns; with `dimension` its values.

use rmcp::model::Tool;
use serde_json::{Map, Value, json};
use spanledger_query::views::TABLES;
use spanledger_query::{Dimension, Error, QueryOptions, Result, ResultSet};

use super::run_sql::table;
use super::{Answer, Call, reading_tool};
use crate::arguments::Arguments;
use crate::limits::{DIMENSION_VALUES, OVERVIEW_VALUES};
use crate::text::{DATA_NOTE, clean};

pub(crate) const NAME: &str = "describe_data";
const ARGUMENTS: [&str; 3] = ["table", "dimension", "search"];
/// Dimensions whose values the overview names.
const SHOWN: [&str; 5] = ["team", "agent", "server", "tool", "model"];
/// Values of a dimension that are looked through.
const SEARCHED_VALUES: usize = 1_000;
const MEASURES: [&str; 11] = [
    "cost",
    "tokens",
    "calls",
    "llm_calls",
    "errors",
    "unpriced_tokens",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "unpriced_calls",
];

pub(crate) fn definition() -> Tool {
    reading_tool(
        NAME,
        "Describe data",
        "What can be asked: time range, counts, freshness, dimensions and their dearest values, models without a price, \
         tables. With table: its columns. With dimension: its values.",
        json!({
            "type": "object",
            "properties": {
                "table": { "type": "string", "description": "or view, of run_sql" },
                "dimension": { "type": "string" },
                "search": { "type": "string", "description": "part of a dimension's value, its beginning first" }
            },
            "additionalProperties": false
        }),
        json!({
            "type": "object",
            "properties": {
                "time_range": { "type": "object" },
                "counts": { "type": "object" },
                "dimensions": { "type": "array" },
                "measures": { "type": "array" },
                "values": { "type": "object" },
                "unpriced_models": { "type": "array" },
                "tables": { "type": "object" },
                "columns": { "type": "object" },
                "truncated": { "type": "boolean" },
                "notes": { "type": "array" }
            }
        }),
    )
}

pub(crate) async fn answer(call: Call<'_>) -> Result<Answer> {
    let arguments = Arguments::new(NAME, &ARGUMENTS, call.arguments.clone())?;
    match (arguments.text("table")?, arguments.text("dimension")?) {
        (Some(_), Some(_)) => Err(Error::invalid("ask for a table or for a dimension, not for both")),
        (Some(name), None) => columns(&call, name).await,
        (None, Some(name)) => values(&call, Dimension::parse(name)?, arguments.text("search")?).await,
        (None, None) if arguments.text("search")?.is_some() => {
            Err(Error::invalid("`search` needs a `dimension` whose values it searches"))
        }
        (None, None) => overview(&call).await,
    }
}

/// The columns of a table, with their types.
async fn columns(call: &Call<'_>, name: &str) -> Result<Answer> {
    let Some(table) = TABLES.iter().find(|table| table.name == name) else {
        let names: Vec<_> = TABLES.iter().map(|table| table.name).collect();
        return Err(Error::invalid(format!(
            "there is no table of that name; tables: {}",
            names.join(", ")
        )));
    };
    // The name is one of ours: never text of the caller.
    let from = match table.name {
        "information_schema" => "information_schema.columns",
        name => name,
    };
    let none = ask(call, &format!("SELECT * FROM {from} LIMIT 0")).await?;
    let columns: Map<String, Value> = none
        .schema
        .fields()
        .iter()
        .map(|field| {
            (
                field.name().clone(),
                Value::from(sql_type(&field.data_type().to_string())),
            )
        })
        .collect();
    let fields = none.schema.fields().iter();
    let listed: Vec<String> = fields
        .map(|field| format!("{} {}", field.name(), sql_type(&field.data_type().to_string())))
        .collect();
    Ok(Answer {
        links: Vec::new(),
        text: format!("{}: {}\ncolumns: {}", table.name, table.description, listed.join(", ")),
        structured: json!({
            "tables": { table.name: table.description },
            "columns": columns,
            "notes": ["NULL means not reported, never 0"],
        }),
    })
}

/// An Arrow type in SQL's words.
fn sql_type(arrow: &str) -> String {
    match arrow {
        "Utf8" | "Utf8View" | "LargeUtf8" => "text".to_owned(),
        "Int64" | "UInt64" => "bigint".to_owned(),
        "Int32" => "integer".to_owned(),
        "Float64" => "double".to_owned(),
        "Boolean" => "boolean".to_owned(),
        "Date32" => "date".to_owned(),
        arrow if arrow.starts_with("Decimal128") => arrow.replacen("Decimal128", "decimal", 1),
        arrow if arrow.starts_with("Timestamp") => "timestamp".to_owned(),
        arrow if arrow.starts_with("Map") => "map(text, text)".to_owned(),
        arrow if arrow.starts_with("List") => "list".to_owned(),
        arrow => arrow.to_lowercase(),
    }
}

/// The values of a dimension, dearest first.
async fn values(call: &Call<'_>, dimension: Dimension, search: Option<&str>) -> Result<Answer> {
    let dimensions = [dimension];
    let dearest = call.engine.dearest_values(call.principal, &dimensions, SEARCHED_VALUES);
    let (dearest, has_more) = dearest.await?.into_iter().next().unwrap_or_default();
    let wanted = search.map(str::to_lowercase);
    let mut matching: Vec<_> = dearest
        .iter()
        .filter(|key| match (&wanted, key) {
            (Some(wanted), Some(key)) => key.to_lowercase().contains(wanted),
            (Some(_), None) => false,
            (None, _) => true,
        })
        .map(|key| key.as_deref().map(clean))
        .collect();
    // The sort is stable: among those that begin alike the dearest comes first.
    if let Some(wanted) = &wanted {
        matching.sort_by_key(|key| !key.as_ref().is_some_and(|key| key.to_lowercase().starts_with(wanted)));
    }
    let truncated = matching.len() > DIMENSION_VALUES || has_more;
    let shown = &matching[..matching.len().min(DIMENSION_VALUES)];
    let mut notes = Vec::new();
    if truncated {
        notes.push(format!(
            "the {} dearest of {}{} values; narrow with search",
            shown.len(),
            matching.len(),
            if has_more { " or more" } else { "" }
        ));
    }
    if shown.is_empty() {
        let nearest = match search {
            Some(search) => call.engine.nearest_values(call.principal, dimension, search).await?,
            None => Vec::new(),
        };
        let nearest: Vec<String> = nearest.iter().map(|value| clean(value)).collect();
        notes.push(match nearest.is_empty() {
            true => "no such value".to_owned(),
            false => format!("no such value; the nearest: {}", nearest.join(", ")),
        });
    } else {
        notes.push(DATA_NOTE.to_owned());
    }
    let listed: Vec<&str> = shown.iter().map(|value| value.as_deref().unwrap_or("(none)")).collect();
    Ok(Answer {
        links: Vec::new(),
        text: format!("{}:\n{}\n{}", dimension.name(), listed.join("\n"), notes.join("; ")),
        structured: json!({
            "values": { dimension.name(): shown },
            "truncated": truncated,
            "notes": notes,
        }),
    })
}

/// Everything at a glance.
async fn overview(call: &Call<'_>) -> Result<Answer> {
    let range = ask(
        call,
        "SELECT MIN(first_time) AS first, MAX(last_time) AS last FROM rollup_day_calls",
    )
    .await?;
    let range = table(&range)?.0.rows_json();
    let bound = |index: usize| range.pointer(&format!("/0/{index}")).cloned().unwrap_or(Value::Null);
    let (first, last) = (bound(0), bound(1));
    let status = call.engine.status(call.principal).await?;
    let counts = json!({
        "calls": status.n_calls, "ledger_lines": status.n_ledger_lines, "spans": status.n_spans,
        "logs": status.n_logs, "metrics": status.n_metrics,
    });
    let settled =
        (status.positions.settled_ns != 0).then(|| spanledger_query::time::format_instant(status.positions.settled_ns));

    let mut values = Map::new();
    let mut listed = String::new();
    let dimensions: Vec<Dimension> = SHOWN
        .into_iter()
        .map(Dimension::parse)
        .collect::<std::result::Result<_, _>>()?;
    let dearest = call.engine.dearest_values(call.principal, &dimensions, OVERVIEW_VALUES);
    for (name, (dearest, has_more)) in SHOWN.into_iter().zip(dearest.await?) {
        let names: Vec<String> = dearest.iter().flatten().map(|value| clean(value)).collect();
        let more = if has_more { ", …" } else { "" };
        listed.push_str(&format!("{name}: {}{more}\n", names.join(", ")));
        values.insert(name.to_owned(), Value::from(names));
    }
    let unpriced = unpriced_models(call).await?;

    let mut notes = vec![
        DATA_NOTE.to_owned(),
        "values are the dearest first; more with dimension".to_owned(),
    ];
    if status.waiting_for_first_span {
        notes.push("the lake is empty: no telemetry has arrived yet".to_owned());
    }
    let tables: Map<String, Value> = TABLES
        .iter()
        .map(|table| (table.name.to_owned(), Value::from(table.description)))
        .collect();
    let dimensions: Vec<_> = Dimension::ALL.into_iter().map(Dimension::name).collect();
    let table_lines: Vec<_> = TABLES
        .iter()
        .map(|table| format!("{}: {}", table.name, table.description))
        .collect();
    let unpriced_names: Vec<&str> = unpriced
        .iter()
        .map(|model| model.as_deref().unwrap_or("(none)"))
        .collect();
    let text = format!(
        "calls from {} to {} (UTC){}; {counts}\ndimensions: {}\nmeasures: {}\ndearest values:\n{listed}models without a price: {}\n\
         tables (run_sql), one row is:\n{}\n{}",
        shown(&first),
        shown(&last),
        settled
            .as_ref()
            .map_or_else(String::new, |at| format!(", settled up to {at}")),
        dimensions.join(", "),
        MEASURES.join(", "),
        if unpriced_names.is_empty() {
            "none".to_owned()
        } else {
            unpriced_names.join(", ")
        },
        table_lines.join("\n"),
        notes.join("; ")
    );
    Ok(Answer {
        links: Vec::new(),
        text,
        structured: json!({
            "time_range": { "first": first, "last": last, "settled_at": settled },
            "counts": counts,
            "dimensions": dimensions,
            "measures": MEASURES,
            "values": values,
            "unpriced_models": unpriced,
            "tables": tables,
            "notes": notes,
        }),
    })
}

fn shown(value: &Value) -> &str {
    value.as_str().unwrap_or("never")
}

async fn unpriced_models(call: &Call<'_>) -> Result<Vec<Option<String>>> {
    let sql = format!("SELECT model FROM unpriced ORDER BY tokens DESC NULLS LAST, model LIMIT {OVERVIEW_VALUES}");
    let models = table(&ask(call, &sql).await?)?.0.rows_json();
    let models = models.as_array().into_iter().flatten();
    Ok(models
        .map(|row| row.get(0).and_then(Value::as_str).map(str::to_owned))
        .collect())
}

async fn ask(call: &Call<'_>, sql: &str) -> Result<ResultSet> {
    call.engine.sql(call.principal, sql, &QueryOptions::default()).await
}
