//! `sql`: one read-only statement on a folder or a server.
//!
//! On a folder the result is written as it is; from a server, everything but the table for people passes
//! through unchanged, and the table is made here from Arrow, so that both look alike.

use std::io::{Cursor, Read as _, Write as _};

use arrow::ipc::reader::StreamReader;
use serde_json::json;
use spanledger_query::{Format, QueryOptions, ResultSet};

use crate::cli::{SqlArgs, SqlFormat};
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::output;
use crate::source::{Remote, Source};

/// Runs the command.
pub async fn run(args: &SqlArgs, config: &Config) -> anyhow::Result<Outcome> {
    let query = query_text(&args.query)?;
    if matches!(args.format, SqlFormat::Parquet | SqlFormat::Arrow) && output::stdout_is_terminal() {
        return Err(fail(
            Kind::Invalid,
            "this format is binary and would garble the terminal; send it to a file: spanledger sql … > result.parquet",
        ));
    }
    match Source::open(&args.at, config).await? {
        Source::Lake(engine, principal) => {
            let options = options(args.limit);
            let result = engine.sql(&principal, &query, &options).await?;
            show(&result, args.format)?;
        }
        Source::Server(server) => ask(&server, &query, args).await?,
    }
    Ok(Outcome::Done)
}

/// The statement, from standard input where it is `-`.
fn query_text(argument: &str) -> anyhow::Result<String> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| {
        fail(
            Kind::Invalid,
            format!("cannot read the statement from standard input: {error}"),
        )
    })?;
    Ok(text)
}

fn options(limit: Option<usize>) -> QueryOptions {
    match limit {
        Some(rows) => QueryOptions {
            rows_max: rows,
            ..QueryOptions::default()
        },
        None => QueryOptions::default(),
    }
}

fn show(result: &ResultSet, format: SqlFormat) -> anyhow::Result<()> {
    let mut out = output::stdout();
    spanledger_query::write(result, format_of(format), &mut out)?;
    out.flush()?;
    note_truncated(result.truncated);
    Ok(())
}

fn note_truncated(is_truncated: bool) {
    if is_truncated {
        output::note("note: there are more rows; raise --limit, or aggregate in SQL");
    }
}

async fn ask(server: &Remote, query: &str, args: &SqlArgs) -> anyhow::Result<()> {
    let wire = if args.format == SqlFormat::Table {
        SqlFormat::Arrow
    } else {
        args.format
    };
    let mut body = json!({ "query": query, "format": name_of(wire) });
    if let Some(limit) = args.limit {
        body["limit"] = limit.into();
    }
    let answer = server.post("/api/v1/sql", &body).await?;
    if args.format != SqlFormat::Table {
        let mut out = output::stdout();
        out.write_all(&answer.body)?;
        out.flush()?;
        note_truncated(answer.is_truncated);
        return Ok(());
    }
    let unreadable = |error| {
        fail(
            Kind::Internal,
            format!("the server's Arrow answer cannot be read: {error}"),
        )
    };
    let reader = StreamReader::try_new(Cursor::new(answer.body), None).map_err(unreadable)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    show(
        &ResultSet {
            schema,
            batches,
            truncated: answer.is_truncated,
        },
        SqlFormat::Table,
    )
}

fn format_of(format: SqlFormat) -> Format {
    match format {
        SqlFormat::Table => Format::Table,
        SqlFormat::Csv => Format::Csv,
        SqlFormat::Json => Format::Json,
        SqlFormat::Ndjson => Format::Ndjson,
        SqlFormat::Arrow => Format::Arrow,
        SqlFormat::Parquet => Format::Parquet,
        SqlFormat::Markdown => Format::Markdown,
    }
}

fn name_of(format: SqlFormat) -> &'static str {
    match format {
        SqlFormat::Table => "table",
        SqlFormat::Csv => "csv",
        SqlFormat::Json => "json",
        SqlFormat::Ndjson => "ndjson",
        SqlFormat::Arrow => "arrow",
        SqlFormat::Parquet => "parquet",
        SqlFormat::Markdown => "markdown",
    }
}
