//! [`Document`]s as CSV, HTML, Markdown and JSON; XLSX is [`super::xlsx`].
//!
//! Every amount is written with all its digits. A name never becomes a formula, a tag, a column or a line of its own.

use serde_json::{Map, Value, json};

use super::document::{Cell, Column, ColumnKind, Document, Section};

/// Characters with which a spreadsheet begins a formula, also in their wide forms.
const FORMULA_STARTS: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// What a row is in formats that put everything under one another.
const LINE: &str = "line";
const TOTAL: &str = "total";

/// RFC 4180: one header for all sections; each row says its section and what it is (`line`, `total`, `fact`, `note`).
pub(super) fn csv(document: &Document) -> Vec<u8> {
    let mut columns: Vec<&str> = Vec::new();
    for column in document.sections.iter().flat_map(|section| &section.columns) {
        if !columns.contains(&column.name) {
            columns.push(column.name);
        }
    }
    let mut text = String::new();
    let header = ["section", "row"].into_iter().chain(columns.iter().copied());
    push_line(&mut text, header.chain(["fact", "value"]).map(str::to_owned));
    for section in &document.sections {
        let rows = section.rows.iter().map(|row| (LINE, row));
        for (what, row) in rows.chain(section.total.iter().map(|total| (TOTAL, total))) {
            let value = |name: &&str| {
                let at = section.columns.iter().position(|column| column.name == *name);
                at.and_then(|at| row.get(at)).map_or_else(String::new, csv_value)
            };
            let cells = [section.id.to_owned(), what.to_owned()].into_iter();
            push_line(
                &mut text,
                cells
                    .chain(columns.iter().map(value))
                    .chain([String::new(), String::new()]),
            );
        }
    }
    let facts = document
        .facts
        .iter()
        .map(|(name, value)| ("fact", *name, value.as_str()));
    let notes = document.notes.iter().map(|note| ("note", "", note.as_str()));
    for (what, name, value) in facts.chain(notes) {
        let empty = columns.iter().map(|_| String::new());
        let cells = ["about".to_owned(), what.to_owned()].into_iter().chain(empty);
        push_line(&mut text, cells.chain([name.to_owned(), neutral(value)]));
    }
    text.into_bytes()
}

/// A cell of CSV; a name cannot be read as a formula.
pub(super) fn csv_value(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => neutral(text),
        other => other.to_text(),
    }
}

fn neutral(text: &str) -> String {
    if text.trim_start().starts_with(FORMULA_STARTS) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

/// One line of CSV, its cells as they are to be read.
pub(super) fn push_line(text: &mut String, cells: impl Iterator<Item = String>) {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            text.push(',');
        }
        if cell.contains([',', '"', '\n', '\r']) || cell.starts_with(' ') || cell.ends_with(' ') {
            text.push('"');
            text.push_str(&cell.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(&cell);
        }
    }
    text.push_str("\r\n");
}

/// One page that loads nothing from anywhere and runs nothing.
pub(super) fn html(document: &Document) -> Vec<u8> {
    let mut text = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>",
    );
    text.push_str(&escaped(&document.title));
    text.push_str(
        "</title><style>body{font:14px system-ui,sans-serif;margin:2em;color:#111;background:#fff}\
         table{border-collapse:collapse;margin:0 0 2em}th,td{padding:.25em .7em;text-align:left;border-bottom:1px solid #ccc}\
         td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}tfoot td{font-weight:600;border-top:2px solid #333}\
         dt{font-weight:600}dd{margin:0 0 .4em}</style></head><body>\n<h1>",
    );
    text.push_str(&escaped(&document.title));
    text.push_str("</h1>\n<dl>\n");
    for (name, value) in &document.facts {
        text.push_str(&format!("<dt>{}</dt><dd>{}</dd>\n", escaped(name), escaped(value)));
    }
    text.push_str("</dl>\n");
    for section in &document.sections {
        text.push_str(&format!(
            "<h2>{}</h2>\n<table id=\"{}\"><thead><tr>",
            escaped(section.title),
            section.id
        ));
        for column in &section.columns {
            let class = if is_number(column) { " class=\"n\"" } else { "" };
            text.push_str(&format!("<th{class}>{}</th>", escaped(&column.name.replace('_', " "))));
        }
        text.push_str("</tr></thead><tbody>\n");
        section.rows.iter().for_each(|row| html_row(&mut text, section, row));
        text.push_str("</tbody>");
        if let Some(total) = &section.total {
            text.push_str("<tfoot>\n");
            html_row(&mut text, section, &labelled(total));
            text.push_str("</tfoot>");
        }
        text.push_str("</table>\n");
    }
    for note in &document.notes {
        text.push_str(&format!("<p>{}</p>\n", escaped(note)));
    }
    text.push_str("</body></html>\n");
    text.into_bytes()
}

fn html_row(text: &mut String, section: &Section, row: &[Cell]) {
    text.push_str("<tr>");
    for (column, cell) in section.columns.iter().zip(row) {
        let class = if is_number(column) { " class=\"n\"" } else { "" };
        text.push_str(&format!("<td{class}>{}</td>", escaped(&cell.to_text())));
    }
    text.push_str("</tr>\n");
}

/// A total whose first cell says so, where that is a name.
pub(super) fn labelled(total: &[Cell]) -> Vec<Cell> {
    let mut cells = total.to_vec();
    if let Some(first) = cells.first_mut().filter(|cell| **cell == Cell::Empty) {
        *first = Cell::Text("Total".to_owned());
    }
    cells
}

fn is_number(column: &Column) -> bool {
    column.kind != ColumnKind::Text
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Markdown tables.
pub(super) fn markdown(document: &Document) -> Vec<u8> {
    let mut text = format!("# {}\n\n", plain(&document.title));
    for (name, value) in &document.facts {
        text.push_str(&format!("- {}: {}\n", plain(name), plain(value)));
    }
    for section in &document.sections {
        text.push_str(&format!("\n## {}\n\n|", plain(section.title)));
        for column in &section.columns {
            text.push_str(&format!(" {} |", column.name.replace('_', " ")));
        }
        text.push_str("\n|");
        for column in &section.columns {
            text.push_str(if is_number(column) { " ---: |" } else { " --- |" });
        }
        text.push('\n');
        for row in section.rows.iter().chain(&section.total.as_deref().map(labelled)) {
            text.push('|');
            for cell in row {
                text.push_str(&format!(" {} |", plain(&cell.to_text())));
            }
            text.push('\n');
        }
    }
    text.push('\n');
    for note in &document.notes {
        text.push_str(&format!("{}\n\n", plain(note)));
    }
    text.into_bytes()
}

/// Text that Markdown shows as it is.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => plain.push_str("&lt;"),
            '>' => plain.push_str("&gt;"),
            '&' => plain.push_str("&amp;"),
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '#' | '!' | '~' => {
                plain.push('\\');
                plain.push(character);
            }
            other => plain.push(other),
        }
    }
    plain
}

/// One object; amounts are exact decimals in strings.
pub(super) fn json(document: &Document) -> Vec<u8> {
    let value = |cell: &Cell| match cell {
        Cell::Empty => Value::Null,
        Cell::Text(text) => Value::from(text.as_str()),
        Cell::Count(count) => Value::from(*count),
        Cell::Money(cost) => Value::from(cost.to_string()),
    };
    let object = |section: &Section, row: &[Cell]| -> Value {
        let fields = section.columns.iter().zip(row);
        Value::Object(
            fields
                .map(|(column, cell)| (column.name.to_owned(), value(cell)))
                .collect(),
        )
    };
    let sections: Map<String, Value> = document
        .sections
        .iter()
        .map(|section| {
            let rows: Vec<Value> = section.rows.iter().map(|row| object(section, row)).collect();
            let total = section.total.as_ref().map(|total| object(section, total));
            (section.id.to_owned(), json!({ "rows": rows, "total": total }))
        })
        .collect();
    let facts: Map<String, Value> = document
        .facts
        .iter()
        .map(|(name, fact)| ((*name).to_owned(), Value::from(fact.as_str())))
        .collect();
    let mut text = json!({ "title": document.title, "facts": facts, "sections": sections, "notes": document.notes })
        .to_string()
        .into_bytes();
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_is_never_a_formula_a_tag_or_a_column() {
        for name in ["=1+1", " =1+1", "+1", "-1", "@SUM(A1)", "＝1", "\t=1"] {
            let cell = csv_value(&Cell::text(name));
            assert!(
                !cell.trim_start().starts_with(FORMULA_STARTS),
                "{name:?} became {cell:?}"
            );
        }
        assert_eq!(
            csv_value(&Cell::Money(spanledger_model::FemtoUsd(-1))),
            "-0.000000000000001"
        );
        let mut line = String::new();
        push_line(&mut line, ["a,\"b\"".to_owned(), "c".to_owned()].into_iter());
        assert_eq!(line, "\"a,\"\"b\"\"\",c\r\n");
        assert_eq!(escaped("<script>'\"&"), "&lt;script&gt;&#39;&quot;&amp;");
        assert_eq!(plain("a|b\\[x](y)<i>"), "a\\|b\\\\\\[x\\](y)&lt;i&gt;");
        assert_eq!(
            Cell::text("a\u{202e}b\nc"),
            Cell::Text("a\u{fffd}b\u{fffd}c".to_owned())
        );
    }
}
