//! Answers as bytes: for a terminal, a spreadsheet, a program or another engine.
//!
//! | format | for |
//! |---|---|
//! | table | a terminal: numbers right-aligned, control characters escaped, long cells cut |
//! | csv | RFC 4180 with a header; NULL is an empty field |
//! | json, ndjson | programs: rows as objects, BIGINT as numbers, DECIMAL as exact strings, times RFC 3339 in UTC |
//! | arrow, parquet | other engines: IPC stream, or a file |
//! | markdown | issues, chats, models |
//!
//! No format rounds: money has all its digits and no trailing zeros.

mod json;
mod text;

use std::io::Write;

use datafusion::arrow::ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;

use crate::engine::ResultSet;
use crate::error::{Error, Result};

pub(crate) use text::cell_text;

/// False for what moves a terminal's cursor, is drawn as nothing, or changes the direction of text: controls, zero-width
/// and bidirectional characters, variation selectors, fillers, tags, noncharacters.
#[must_use]
pub fn is_visible(character: char) -> bool {
    !(character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fffe}' | '\u{ffff}'
            | '\u{e0000}'..='\u{e0fff}'))
}

/// The character, or a space for one that is not [visible](is_visible): text of telemetry on one line of a terminal.
#[must_use]
pub fn or_space(character: char) -> char {
    if is_visible(character) { character } else { ' ' }
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Aligned columns for a terminal.
    Table,
    /// RFC 4180.
    Csv,
    /// One array of row objects.
    Json,
    /// One row object a line.
    Ndjson,
    /// Arrow IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
    /// A Markdown table.
    Markdown,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 7] = [
        Self::Table,
        Self::Csv,
        Self::Json,
        Self::Ndjson,
        Self::Arrow,
        Self::Parquet,
        Self::Markdown,
    ];

    /// Name in options and requests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Arrow => "arrow",
            Self::Parquet => "parquet",
            Self::Markdown => "markdown",
        }
    }

    /// Reads a name.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), listing the formats.
    pub fn parse(name: &str) -> Result<Self> {
        let wanted = name.trim().to_ascii_lowercase();
        let found = Self::ALL.into_iter().find(|format| format.name() == wanted);
        found.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.into_iter().map(Self::name).collect();
            Error::invalid(format!("`{name}` is no format; formats: {}", names.join(", ")))
        })
    }

    /// Media type of a response.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Table => "text/plain; charset=utf-8",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Markdown => "text/markdown; charset=utf-8",
        }
    }

    /// Ending of a file's name.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Table => "txt",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Arrow => "arrows",
            Self::Parquet => "parquet",
            Self::Markdown => "md",
        }
    }
}

/// Writes an answer.
///
/// # Errors
/// [`Internal`](crate::ErrorKind::Internal) where `out` fails; [`Invalid`](crate::ErrorKind::Invalid)
/// where a column's type cannot be written in the format.
pub fn write(result: &ResultSet, format: Format, out: &mut dyn Write) -> Result<()> {
    match format {
        Format::Table => text::write_table(result, out),
        Format::Csv => text::write_csv(result, out),
        Format::Json => json::write_array(result, out),
        Format::Ndjson => json::write_lines(result, out),
        Format::Markdown => text::write_markdown(result, out),
        Format::Arrow => write_arrow(result, out),
        Format::Parquet => write_parquet(result, out),
    }
}

fn write_arrow(result: &ResultSet, out: &mut dyn Write) -> Result<()> {
    let mut writer = StreamWriter::try_new(out, &result.schema)?;
    for batch in &result.batches {
        writer.write(batch)?;
    }
    Ok(writer.finish()?)
}

fn write_parquet(result: &ResultSet, out: &mut dyn Write) -> Result<()> {
    let failed = |error: parquet::errors::ParquetError| {
        Error::invalid(format!("this answer cannot be written as Parquet: {error}")).with_source(error)
    };
    // The writer wants an owned, sendable sink; an answer is bounded, so it is made in memory.
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, result.schema.clone(), None).map_err(failed)?;
    for batch in &result.batches {
        writer.write(batch).map_err(failed)?;
    }
    writer.close().map_err(failed)?;
    Ok(out.write_all(&bytes)?)
}
