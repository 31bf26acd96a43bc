//! Standard output: the only place that writes results, and tables of JSON rows.
//!
//! Results go to standard output, everything else (progress, warnings, logs) to standard error, so that
//! a pipe sees only data. A reader that goes away ends the command quietly. Rows come as JSON objects,
//! the shape that REST answers have, so that `--data` and `--url` print the same.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use serde_json::{Map, Value};
use spanledger_model::FemtoUsd;
use spanledger_model::money::FEMTO_DIGITS;

use crate::exit::{Kind, OutputClosed, fail};

/// What a table shows for a group without a name: untagged cost stays visible.
pub const NO_VALUE: &str = "(none)";

/// Standard output that turns a broken pipe into [`OutputClosed`].
pub struct Out(io::StdoutLock<'static>);

/// Locks standard output for a command's result.
pub fn stdout() -> Out {
    Out(io::stdout().lock())
}

/// True where a person looks at the output.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(closed)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(closed)
    }
}

fn closed(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        io::Error::new(error.kind(), OutputClosed)
    } else {
        error
    }
}

/// Writes one text to standard output.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes one line to standard error: a warning or progress, never a result. Nothing can be done where
/// standard error is closed, so a failure is dropped.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RowFormat {
    /// Aligned columns for people (the default).
    Table,
    /// RFC 4180 with a header line.
    Csv,
    /// One array of objects.
    Json,
    /// One object a line.
    Ndjson,
    /// A Markdown table.
    Markdown,
}

/// Writes rows. `columns` fixes the order and leaves out what is not named; without it, the keys of the
/// first row stand in their own order.
pub fn write_rows(rows: &[Value], columns: &[&str], format: RowFormat, out: &mut dyn Write) -> anyhow::Result<()> {
    let empty = Map::new();
    let objects: Vec<&Map<String, Value>> = rows.iter().map(|row| row.as_object().unwrap_or(&empty)).collect();
    let columns: Vec<String> = if columns.is_empty() {
        objects
            .first()
            .map(|row| row.keys().cloned().collect())
            .unwrap_or_default()
    } else {
        columns.iter().map(|column| (*column).to_owned()).collect()
    };
    let text = match format {
        RowFormat::Table => table(&columns, &objects),
        RowFormat::Markdown => markdown(&columns, &objects),
        RowFormat::Csv => csv(&columns, &objects),
        RowFormat::Json => format!("{}\n", serde_json::to_string_pretty(rows)?),
        RowFormat::Ndjson => rows.iter().fold(String::new(), |mut text, row| {
            let _ = writeln!(text, "{row}");
            text
        }),
    };
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// The rows of an answer: the array itself, or its `rows`.
pub fn rows_of(answer: Value) -> anyhow::Result<Vec<Value>> {
    match answer {
        Value::Array(rows) => Ok(rows),
        Value::Object(mut object) => match object.remove("rows") {
            Some(Value::Array(rows)) => Ok(rows),
            _ => Err(fail(
                Kind::Internal,
                "the answer has no rows; the server may be of another version",
            )),
        },
        _ => Err(fail(
            Kind::Internal,
            "the answer is no object; the server may be of another version",
        )),
    }
}

/// A cell as text: strings bare, nothing as empty.
fn cell(row: &Map<String, Value>, column: &str) -> String {
    match row.get(column) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

fn shown(row: &Map<String, Value>, column: &str) -> String {
    let text = cell(row, column);
    if text.is_empty() && matches!(row.get(column), Some(Value::Null)) {
        NO_VALUE.to_owned()
    } else {
        one_line(&text)
    }
}

/// Control characters could move a terminal's cursor, so a table shows them as spaces.
fn one_line(text: &str) -> String {
    text.chars().map(spanledger_query::format::or_space).collect()
}

/// True for text that is a number, so that its column is set flush right.
fn is_numeric(text: &str) -> bool {
    text.is_empty()
        || text == NO_VALUE
        || text
            .trim_start_matches(['-', '$'])
            .chars()
            .all(|c| c.is_ascii_digit() || c == '.' || c == ',')
}

/// Aligned text columns with a rule under the header.
pub fn table(columns: &[String], rows: &[&Map<String, Value>]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| columns.iter().map(|column| shown(row, column)).collect())
        .collect();
    let headers: Vec<String> = columns.iter().map(|column| column.replace('_', " ")).collect();
    let widths: Vec<usize> = headers
        .iter()
        .enumerate()
        .map(|(index, header)| {
            cells
                .iter()
                .map(|row| row[index].chars().count())
                .max()
                .unwrap_or(0)
                .max(header.chars().count())
        })
        .collect();
    let right: Vec<bool> = (0..columns.len())
        .map(|index| cells.iter().all(|row| is_numeric(&row[index])))
        .collect();
    let mut text = line(&headers, &widths, &right);
    text.push_str(&line(
        &widths.iter().map(|width| "─".repeat(*width)).collect::<Vec<_>>(),
        &widths,
        &right,
    ));
    for row in &cells {
        text.push_str(&line(row, &widths, &right));
    }
    text
}

fn line(cells: &[String], widths: &[usize], right: &[bool]) -> String {
    let mut text = String::new();
    for ((cell, width), right) in cells.iter().zip(widths).zip(right) {
        if !text.is_empty() {
            text.push_str("  ");
        }
        let _ = if *right {
            write!(text, "{cell:>width$}")
        } else {
            write!(text, "{cell:<width$}")
        };
    }
    format!("{}\n", text.trim_end())
}

fn markdown(columns: &[String], rows: &[&Map<String, Value>]) -> String {
    let mut text = format!("| {} |\n|{}\n", columns.join(" | "), " --- |".repeat(columns.len()));
    for row in rows {
        let cells: Vec<String> = columns
            .iter()
            .map(|column| shown(row, column).replace('|', "\\|"))
            .collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

fn csv(columns: &[String], rows: &[&Map<String, Value>]) -> String {
    let mut text = format!("{}\r\n", columns.join(","));
    for row in rows {
        let cells: Vec<String> = columns.iter().map(|column| csv_cell(&cell(row, column))).collect();
        let _ = write!(text, "{}\r\n", cells.join(","));
    }
    text
}

/// Quotes as RFC 4180 asks, and keeps a spreadsheet from reading a name as a formula.
fn csv_cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '@', '\t']) || (text.starts_with(['+', '-']) && !is_numeric(text));
    let text = if is_formula {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

/// An exact decimal amount as dollars, rounded half to even to `decimals` places (15 at most). Rounding
/// happens here, at presentation, and nowhere before.
pub fn dollars(amount: &Value, decimals: u32) -> String {
    let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
    let Some(FemtoUsd(femto_usd)) = FemtoUsd::parse(&text) else {
        return text;
    };
    let per_unit = 10_i128.pow(decimals.min(FEMTO_DIGITS));
    let per_step = FemtoUsd::ONE_USD.0 / per_unit;
    let magnitude = femto_usd.abs();
    let (mut steps, rest) = (magnitude / per_step, magnitude % per_step);
    steps += i128::from(rest * 2 > per_step || (rest * 2 == per_step && steps % 2 == 1));
    let whole = grouped(i64::try_from(steps / per_unit).unwrap_or(i64::MAX));
    let sign = if femto_usd < 0 { "-" } else { "" };
    let width = usize::try_from(decimals).unwrap_or(0);
    format!("{sign}${whole}.{:0width$}", steps % per_unit)
}

/// A count with thousands separators.
pub fn grouped(count: i64) -> String {
    let digits = count.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if count < 0 { format!("-{text}") } else { text }
}

/// Bytes with a binary unit, for people.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    fn check(format: RowFormat, expected: &str) {
        let rows = [
            json!({"team": "payments", "cost": "1.25", "calls": 12}),
            json!({"team": null, "cost": "=1+1", "calls": 3, "hidden": 1}),
        ];
        let mut out = Vec::new();
        write_rows(&rows, &["team", "calls", "cost"], format, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn tables_align_and_show_untagged_groups() {
        check(
            RowFormat::Table,
            "team      calls  cost\n────────  ─────  ────\npayments     12  1.25\n(none)        3  =1+1\n",
        );
    }

    #[test]
    fn csv_is_rfc_4180_and_neutralises_formulas() {
        check(RowFormat::Csv, "team,calls,cost\r\npayments,12,1.25\r\n,3,'=1+1\r\n");
        assert_eq!(csv_cell("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(csv_cell("-12.5"), "-12.5");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(one_line("a\u{1b}[2Jb\n"), "a [2Jb ");
    }

    #[test]
    fn costs_round_half_to_even_at_presentation_only() {
        for (text, decimals, shown) in [
            ("0.00005", 4, "$0.0000"),
            ("0.00015", 4, "$0.0002"),
            ("0.000050000000001", 4, "$0.0001"),
            ("1234.5", 4, "$1,234.5000"),
            ("-0.0123", 4, "-$0.0123"),
            ("1.8", 2, "$1.80"),
        ] {
            assert_eq!(dollars(&Value::from(text), decimals), shown, "{text}");
        }
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        for (count, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(grouped(count), text);
        }
    }

    #[test]
    fn byte_counts_have_units() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(5 * 1024 * 1024), "5.0 MiB");
    }

    #[test]
    fn rows_are_found_in_either_shape() {
        assert_eq!(rows_of(json!([{"a": 1}])).unwrap().len(), 1);
        assert_eq!(rows_of(json!({"rows": [{"a": 1}, {"a": 2}]})).unwrap().len(), 2);
        assert!(rows_of(json!("no")).is_err());
    }
}
