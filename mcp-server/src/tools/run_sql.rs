//! `run_sql`: one read-only statement, for questions that have no tool.

use rmcp::model::Tool;
use serde_json::{Value, json};
use spanledger_query::{Error, ErrorKind, Format, QueryOptions, Result, ResultSet, write};

use super::{Answer, Call, reading_tool};
use crate::arguments::Arguments;
use crate::confirmation::Question;
use crate::limits::{ANSWER_TOKENS, ROWS_TOKENS_MAX, SQL_ROWS_DEFAULT, SQL_ROWS_MAX, SQL_TIMEOUT};
use crate::text::{DATA_NOTE, Rows};

pub(crate) const NAME: &str = "run_sql";
const ARGUMENTS: [&str; 3] = ["query", "limit", "confirm"];

pub(crate) fn definition() -> Tool {
    reading_tool(
        NAME,
        "Run SQL",
        "One read-only SQL statement (DataFusion, PostgreSQL dialect) over calls, ledger, spans and more; aggregate in \
         SQL. describe_data {\"table\": …} lists columns.",
        json!({
            "type": "object",
            "properties": {
                "query": { "type": "string" },
                "limit": { "type": "integer", "minimum": 1, "maximum": SQL_ROWS_MAX, "default": SQL_ROWS_DEFAULT, "description": "rows returned" },
                "confirm": { "type": "boolean", "description": "the user agreed to a long scan" }
            },
            "required": ["query"],
            "additionalProperties": false
        }),
        json!({
            "type": "object",
            "properties": {
                "columns": { "type": "array" },
                "rows": { "type": "array" },
                "truncated": { "type": "boolean" },
                "notes": { "type": "array" }
            }
        }),
    )
}

pub(crate) async fn answer(call: Call<'_>) -> Result<Answer> {
    let arguments = Arguments::new(NAME, &ARGUMENTS, call.arguments.clone())?;
    let query = arguments
        .text("query")?
        .ok_or_else(|| Error::invalid("`query` is missing: one SELECT statement"))?;
    let has_limit = arguments.has("limit");
    let options = QueryOptions {
        rows_max: arguments.count("limit", SQL_ROWS_DEFAULT, SQL_ROWS_MAX)?,
        timeout: SQL_TIMEOUT,
        ..QueryOptions::default()
    };
    let result = run(&call, query, &options, arguments.flag("confirm")?).await?;
    // Who names a limit wants that many rows; anybody else a short answer.
    let n_tokens_max = if has_limit { ROWS_TOKENS_MAX } else { ANSWER_TOKENS };
    let (rows, cut) = table_within(&result, n_tokens_max)?;
    let truncated = cut || result.truncated;
    let mut notes = Vec::new();
    if cut {
        notes.push(format!(
            "only the first {} of {}{} rows fit into an answer; select fewer columns, aggregate, add WHERE{}",
            rows.len(),
            if result.truncated { "more than " } else { "" },
            result.n_rows(),
            if has_limit {
                ""
            } else {
                ", or name a limit for a longer answer"
            },
        ));
    } else if result.truncated {
        notes.push(format!(
            "the first {} rows, there are more; aggregate with GROUP BY, add WHERE, or raise limit (at most {SQL_ROWS_MAX})",
            rows.len()
        ));
    }
    if rows.len() > 0 {
        notes.push(DATA_NOTE.to_owned());
    } else {
        notes.push("no rows".to_owned());
    }
    Ok(Answer {
        links: Vec::new(),
        text: format!("{}{}", rows.tsv(0), notes.join("; ")),
        structured: json!({
            "columns": rows.columns_json(),
            "rows": rows.rows_json(),
            "truncated": truncated,
            "notes": notes,
        }),
    })
}

/// Runs a statement; a person is asked before one that may read very much.
async fn run(call: &Call<'_>, query: &str, options: &QueryOptions, confirm: bool) -> Result<ResultSet> {
    let unasked = QueryOptions {
        file_bytes_max: call.shared.unasked_file_bytes(),
        ..options.clone()
    };
    let answer = call.engine.sql(call.principal, query, &unasked).await;
    let Some(n_bytes) = answer.as_ref().err().and_then(Error::file_bytes) else {
        return answer;
    };
    call.confirmation.demand(confirm, || question(n_bytes))?;
    call.engine.sql(call.principal, query, options).await
}

fn question(n_bytes: u64) -> Question {
    Question {
        message: format!(
            "the statement may read {} MB of stored files, which can take minutes; a condition on time makes it less",
            n_bytes.div_ceil(1_000_000)
        ),
        url: None,
    }
}

/// [`table_within`] the limit of every answer.
pub(crate) fn table(result: &ResultSet) -> Result<(Rows, bool)> {
    table_within(result, ROWS_TOKENS_MAX)
}

/// The rows as far as they fit, and whether some did not. Values are those of the REST API's JSON: money as
/// exact strings, times in RFC 3339.
pub(crate) fn table_within(result: &ResultSet, n_tokens_max: usize) -> Result<(Rows, bool)> {
    let columns: Vec<&str> = result
        .schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    if let Some(twice) = columns
        .iter()
        .enumerate()
        .find(|(index, name)| columns[..*index].contains(name))
    {
        return Err(Error::invalid(format!(
            "two columns are named `{}`; give one another name with AS",
            twice.1
        )));
    }
    let mut lines = Vec::new();
    write(result, Format::Ndjson, &mut lines)?;
    let mut rows = Rows::within(columns.iter().copied(), n_tokens_max);
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut row: serde_json::Map<String, Value> = serde_json::from_slice(line)
            .map_err(|error| Error::new(ErrorKind::Internal, "a row could not be written").with_source(error))?;
        let cells = columns.iter().map(|name| row.remove(*name).unwrap_or(Value::Null));
        if !rows.push(cells.collect()) {
            return Ok((rows, true));
        }
    }
    Ok((rows, false))
}
