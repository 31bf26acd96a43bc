//! Rows as text: terminal table, CSV, Markdown.
//!
//! Cells come from telemetry, which is hostile text: on a terminal, control characters and the invisible
//! ones that reorder text are written as escapes.

use std::io::Write;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Date64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use super::is_visible;
use super::json::json_value;
use crate::engine::ResultSet;
use crate::error::Result;
use crate::limits::CELL_CHARS_MAX;
use crate::time::format_instant;

/// What a NULL looks like on a terminal.
const NULL: &str = "NULL";

/// A value as text without quotes; lists, structs and maps as JSON. `None` for NULL.
pub(crate) fn cell_text(array: &dyn Array, row: usize) -> Option<String> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).to_owned(),
        DataType::Utf8View => array.as_string_view().value(row).to_owned(),
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            without_trailing_zeros(displayed(array, row))
        }
        DataType::Timestamp(unit, _) => {
            let ns = match unit {
                TimeUnit::Second => array
                    .as_primitive::<TimestampSecondType>()
                    .value(row)
                    .checked_mul(1_000_000_000),
                TimeUnit::Millisecond => array
                    .as_primitive::<TimestampMillisecondType>()
                    .value(row)
                    .checked_mul(1_000_000),
                TimeUnit::Microsecond => array
                    .as_primitive::<TimestampMicrosecondType>()
                    .value(row)
                    .checked_mul(1_000),
                TimeUnit::Nanosecond => Some(array.as_primitive::<TimestampNanosecondType>().value(row)),
            };
            ns.map_or_else(|| displayed(array, row), format_instant)
        }
        DataType::Date32 => date(array.as_primitive::<Date32Type>().value_as_date(row), array, row),
        DataType::Date64 => date(array.as_primitive::<Date64Type>().value_as_date(row), array, row),
        DataType::Binary => hex::encode(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => hex::encode(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => hex::encode(array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => hex::encode(array.as_fixed_size_binary().value(row)),
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::Struct(_)
        | DataType::Map(..)
        | DataType::Float32
        | DataType::Float64 => {
            let mut json = Vec::new();
            json_value(&mut json, array, row);
            String::from_utf8_lossy(&json).into_owned()
        }
        _ => displayed(array, row),
    })
}

fn date(date: Option<chrono::NaiveDate>, array: &dyn Array, row: usize) -> String {
    date.map_or_else(|| displayed(array, row), |date| date.format("%Y-%m-%d").to_string())
}

fn displayed(array: &dyn Array, row: usize) -> String {
    match ArrayFormatter::try_new(array, &FormatOptions::default()) {
        Ok(formatter) => formatter.value(row).try_to_string().unwrap_or_default(),
        Err(_) => String::new(),
    }
}

fn without_trailing_zeros(mut decimal: String) -> String {
    if decimal.contains('.') {
        decimal.truncate(decimal.trim_end_matches('0').trim_end_matches('.').len());
    }
    decimal
}

pub(super) fn write_csv(result: &ResultSet, out: &mut dyn Write) -> Result<()> {
    let mut line = String::new();
    for (index, field) in result.schema.fields().iter().enumerate() {
        csv_field(&mut line, index, field.name());
    }
    line.push_str("\r\n");
    out.write_all(line.as_bytes())?;
    for batch in &result.batches {
        for row in 0..batch.num_rows() {
            line.clear();
            for (index, column) in batch.columns().iter().enumerate() {
                csv_field(&mut line, index, &cell_text(column.as_ref(), row).unwrap_or_default());
            }
            line.push_str("\r\n");
            out.write_all(line.as_bytes())?;
        }
    }
    Ok(())
}

fn csv_field(line: &mut String, index: usize, text: &str) {
    if index > 0 {
        line.push(',');
    }
    if text.contains([',', '"', '\n', '\r']) || text.starts_with(' ') || text.ends_with(' ') {
        line.push('"');
        line.push_str(&text.replace('"', "\"\""));
        line.push('"');
    } else {
        line.push_str(text);
    }
}

/// All cells of an answer as shown, with the columns that hold numbers.
struct Grid {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    is_number: Vec<bool>,
}

impl Grid {
    fn new(result: &ResultSet, cell: impl Fn(Option<String>) -> String) -> Self {
        let rows = result.batches.iter().flat_map(|batch| {
            let cell = &cell;
            (0..batch.num_rows()).map(move |row| {
                let columns = batch.columns().iter();
                columns.map(|column| cell(cell_text(column.as_ref(), row))).collect()
            })
        });
        Self {
            header: result
                .schema
                .fields()
                .iter()
                .map(|field| cell(Some(field.name().clone())))
                .collect(),
            rows: rows.collect(),
            is_number: result
                .schema
                .fields()
                .iter()
                .map(|field| field.data_type().is_numeric())
                .collect(),
        }
    }
}

pub(super) fn write_table(result: &ResultSet, out: &mut dyn Write) -> Result<()> {
    let grid = Grid::new(result, |text| {
        text.map_or_else(|| NULL.to_owned(), |text| printable(&text))
    });
    let mut widths: Vec<usize> = grid.header.iter().map(|name| width(name)).collect();
    for row in &grid.rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    let line = |cells: &[String]| {
        let mut line = String::new();
        for (index, (cell, widest)) in cells.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(widest - width(cell));
            let separator = if index == 0 { "" } else { "  " };
            let (left, right) = if grid.is_number[index] {
                (padding, String::new())
            } else {
                (String::new(), padding)
            };
            line.extend([separator, &left, cell, &right]);
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    };
    out.write_all(line(&grid.header).as_bytes())?;
    let rules: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    out.write_all(line(&rules).as_bytes())?;
    for row in &grid.rows {
        out.write_all(line(row).as_bytes())?;
    }
    Ok(())
}

pub(super) fn write_markdown(result: &ResultSet, out: &mut dyn Write) -> Result<()> {
    let grid = Grid::new(result, |text| {
        printable(&text.unwrap_or_default())
            .replace('\\', "\\\\")
            .replace('|', "\\|")
    });
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    out.write_all(line(&grid.header).as_bytes())?;
    let rules = grid
        .is_number
        .iter()
        .map(|is_number| if *is_number { "---:" } else { "---" }.to_owned());
    out.write_all(line(&rules.collect::<Vec<_>>()).as_bytes())?;
    for row in &grid.rows {
        out.write_all(line(row).as_bytes())?;
    }
    Ok(())
}

/// Characters a cell takes on a terminal; wide scripts are counted as one column, as most tables do.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// Text that cannot move the cursor, hide or reorder anything, cut to a cell.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (n_chars, character) in text.chars().enumerate() {
        if n_chars >= CELL_CHARS_MAX {
            shown.push('…');
            break;
        }
        match character {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            character if !is_visible(character) => {
                shown.push_str(&format!("\\u{{{:x}}}", u32::from(character)));
            }
            character => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_lose_zeros_only_behind_the_point() {
        for (decimal, shown) in [
            ("10.500", "10.5"),
            ("10.000", "10"),
            ("100", "100"),
            ("-0.010", "-0.01"),
        ] {
            assert_eq!(without_trailing_zeros(decimal.to_owned()), shown);
        }
    }

    #[test]
    fn hostile_text_moves_no_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb\\nc\\u{202e}d");
        assert_eq!(printable(&"x".repeat(500)).chars().count(), CELL_CHARS_MAX + 1);
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let mut line = String::new();
        for (index, text) in ["a", "b,c", "d\"e", "f\ng", ""].into_iter().enumerate() {
            csv_field(&mut line, index, text);
        }
        assert_eq!(line, "a,\"b,c\",\"d\"\"e\",\"f\ng\",");
    }
}
