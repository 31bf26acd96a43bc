//! [`Document`]s as XLSX: typed cells, totals as formulas, and exact digits beside what a float would round.
//!
//! A spreadsheet computes in doubles, which keep 15 digits. A column of amounts that has a longer one is followed by
//! the same amounts as text, digit by digit. Names are strings with a quote prefix: never formulas, also after an edit.

use rust_xlsxwriter::{Format, Formula, Workbook, Worksheet, XlsxError};

use super::document::{Cell, ColumnKind, Document, Section};
use super::write::labelled;
use crate::error::{Error, Result};

/// Significant digits that every double keeps.
const EXACT_DIGITS: usize = 15;
/// Widest column, in pixels.
const WIDTH_MAX: u32 = 420;

struct Formats {
    head: Format,
    name: Format,
    count: Format,
    money: Format,
    total: Format,
    total_count: Format,
    total_money: Format,
}

/// The workbook.
pub(super) fn xlsx(document: &Document) -> Result<Vec<u8>> {
    let workbook = || -> std::result::Result<Vec<u8>, XlsxError> {
        let bold = Format::new().set_bold();
        let (count, money) = ("#,##0", "#,##0.00########");
        let formats = Formats {
            head: bold.clone(),
            name: Format::new().set_quote_prefix(),
            count: Format::new().set_num_format(count),
            money: Format::new().set_num_format(money),
            total: bold.clone(),
            total_count: bold.clone().set_num_format(count),
            total_money: bold.clone().set_num_format(money),
        };
        let mut book = Workbook::new();
        for section in &document.sections {
            let sheet = book.add_worksheet();
            sheet.set_name(section.id)?;
            write_section(sheet, section, &formats)?;
            sheet.set_freeze_panes(1, 0)?;
            sheet.set_autofit_max_width(WIDTH_MAX).autofit();
        }
        let sheet = book.add_worksheet();
        sheet.set_name("about")?;
        sheet.write_string_with_format(0, 0, &document.title, &formats.head)?;
        let notes = document.notes.iter().map(|note| ("note", note));
        for (row, (name, value)) in (1..).zip(document.facts.iter().map(|(name, value)| (*name, value)).chain(notes)) {
            sheet.write_string_with_format(row, 0, name, &formats.head)?;
            sheet.write_string_with_format(row, 1, value, &formats.name)?;
        }
        sheet.set_autofit_max_width(WIDTH_MAX).autofit();
        book.save_to_buffer()
    };
    workbook().map_err(|error| Error::internal("the workbook could not be written").with_source(error))
}

fn write_section(sheet: &mut Worksheet, section: &Section, formats: &Formats) -> std::result::Result<(), XlsxError> {
    let total = section.total.as_deref().map(labelled);
    let total_row = u32::try_from(section.rows.len()).unwrap_or(u32::MAX - 1) + 1;
    let mut at = 0;
    for (index, column) in section.columns.iter().enumerate() {
        let name = if matches!(column.kind, ColumnKind::Money | ColumnKind::Rate) {
            format!("{} (USD)", column.name)
        } else {
            column.name.to_owned()
        };
        sheet.write_string_with_format(0, at, name, &formats.head)?;
        for (row, cells) in (1..).zip(&section.rows) {
            match cells.get(index) {
                Some(Cell::Text(text)) => {
                    sheet.write_string_with_format(row, at, text, &formats.name)?;
                }
                Some(Cell::Count(count)) => {
                    sheet.write_number_with_format(row, at, double(&count.to_string()), &formats.count)?;
                }
                Some(Cell::Money(cost)) => {
                    sheet.write_number_with_format(row, at, double(&cost.to_string()), &formats.money)?;
                }
                Some(Cell::Empty) | None => {}
            }
        }
        let total = total.as_ref().and_then(|total| total.get(index));
        match total {
            Some(Cell::Text(text)) => {
                sheet.write_string_with_format(total_row, at, text, &formats.total)?;
            }
            Some(cell @ (Cell::Count(_) | Cell::Money(_))) if column.kind != ColumnKind::Rate && total_row > 1 => {
                let letters = letters(at);
                // What is shown until a program computes it, and by those that do not.
                let sum = Formula::new(format!("=SUM({letters}2:{letters}{total_row})")).set_result(cell.to_text());
                let format = match cell {
                    Cell::Count(_) => &formats.total_count,
                    _ => &formats.total_money,
                };
                sheet.write_formula_with_format(total_row, at, sum, format)?;
            }
            _ => {}
        }
        at += 1;
        if needs_text(section, index) {
            sheet.write_string_with_format(0, at, format!("{} (exact)", column.name), &formats.head)?;
            let rows = section.rows.iter().map(|cells| cells.get(index)).chain([total]);
            for (row, cell) in (1..).zip(rows) {
                if let Some(Cell::Money(cost)) = cell {
                    sheet.write_string(row, at, cost.to_string())?;
                }
            }
            at += 1;
        }
    }
    Ok(())
}

/// True for a column of amounts, one of which has more digits than a double keeps.
fn needs_text(section: &Section, index: usize) -> bool {
    section
        .rows
        .iter()
        .chain(&section.total)
        .any(|row| match row.get(index) {
            Some(Cell::Money(cost)) => {
                let digits = cost.to_string();
                let digits = digits.trim_start_matches(['-', '0', '.']).bytes();
                digits.filter(u8::is_ascii_digit).count() > EXACT_DIGITS
            }
            _ => false,
        })
}

/// The double nearest to digits.
fn double(digits: &str) -> f64 {
    digits.parse().unwrap_or(0.0)
}

/// `A`, `B`, … `AA` of a column.
fn letters(column: u16) -> String {
    let mut letters = Vec::new();
    let mut rest = u32::from(column) + 1;
    while rest > 0 {
        letters.push(char::from(b'A' + u8::try_from((rest - 1) % 26).unwrap_or(0)));
        rest = (rest - 1) / 26;
    }
    letters.iter().rev().collect()
}
