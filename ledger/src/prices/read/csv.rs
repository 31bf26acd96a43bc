//! CSV after RFC 4180: a header line that names the fields, then one record a line.
//!
//! Quoted cells may hold commas, quotes and line ends; lines end with LF or CRLF. A line that is empty or
//! starts with `#` is passed over. Everything is text here; what it means, the reader of records says.

use std::borrow::Cow;

use super::super::json::Json;
use super::Row;

/// Most columns of a file.
const COLUMNS_MAX: usize = 256;

type At<T> = Result<T, (usize, String)>;

/// The records with the lines they start on.
pub(super) fn rows(text: &str) -> At<Vec<Row<'static>>> {
    let mut reader = Reader { text, at: 0, line: 1 };
    let (line, header) = reader
        .record()?
        .ok_or((1, "the file is empty; its first line names the fields".to_owned()))?;
    let names: Vec<String> = header.iter().map(|name| name.trim().to_lowercase()).collect();
    if names.len() == 1 && names.iter().any(|name| name.contains([';', '\t'])) {
        return Err((
            line,
            "the fields are not separated by commas; export the file with commas".to_owned(),
        ));
    }
    if names.len() > COLUMNS_MAX {
        return Err((line, format!("more than {COLUMNS_MAX} fields")));
    }
    for (index, name) in names.iter().enumerate() {
        if name.is_empty() || names.iter().take(index).any(|earlier| earlier == name) {
            return Err((
                line,
                format!("field {} is named {name:?}, which is empty or stands twice", index + 1),
            ));
        }
    }
    let mut rows = Vec::new();
    while let Some((line, cells)) = reader.record()? {
        if cells.len() != names.len() {
            let (n_cells, n_names) = (cells.len(), names.len());
            return Err((line, format!("{n_cells} cells where the header names {n_names} fields")));
        }
        let fields = names.iter().cloned().map(Cow::Owned);
        let cells = cells.into_iter().map(|cell| Json::Text(Cow::Owned(cell)));
        rows.push(Row {
            line,
            record: Json::Object(fields.zip(cells).collect()),
        });
    }
    Ok(rows)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    line: usize,
}

impl Reader<'_> {
    /// The next record that is neither empty nor a comment.
    fn record(&mut self) -> At<Option<(usize, Vec<String>)>> {
        loop {
            let rest = &self.text[self.at..];
            if rest.is_empty() {
                return Ok(None);
            }
            let end = rest.find('\n').map_or(rest.len(), |end| end + 1);
            let first = &rest[..end];
            if !first.trim().is_empty() && !first.starts_with('#') {
                let line = self.line;
                return Ok(Some((line, self.cells()?)));
            }
            self.at += end;
            self.line += 1;
        }
    }

    fn cells(&mut self) -> At<Vec<String>> {
        let mut cells = Vec::new();
        loop {
            let (cell, is_last) = self.cell()?;
            cells.push(cell);
            if is_last {
                return Ok(cells);
            }
        }
    }

    /// One cell, and whether it ends the record.
    fn cell(&mut self) -> At<(String, bool)> {
        let rest = &self.text[self.at..];
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find([',', '\n']).unwrap_or(rest.len());
            let cell = rest[..end].trim_end_matches('\r').to_owned();
            self.at += end;
            return Ok((cell, self.separator()));
        };
        let start_line = self.line;
        let (mut cell, mut from) = (String::new(), 0);
        loop {
            let Some(quote) = quoted[from..].find('"') else {
                return Err((start_line, "a quoted cell does not end".to_owned()));
            };
            let part = &quoted[from..from + quote];
            self.line += part.bytes().filter(|byte| *byte == b'\n').count();
            cell.push_str(part);
            from += quote + 1;
            if quoted[from..].starts_with('"') {
                cell.push('"');
                from += 1;
                continue;
            }
            break;
        }
        self.at += 1 + from;
        let rest = &self.text[self.at..];
        if rest.starts_with('\r') {
            self.at += 1;
        } else if !rest.is_empty() && !rest.starts_with([',', '\n']) {
            return Err((self.line, "text after a quoted cell".to_owned()));
        }
        Ok((cell, self.separator()))
    }

    /// Passes what ends a cell; true where that ends the record.
    fn separator(&mut self) -> bool {
        match self.text.as_bytes().get(self.at) {
            Some(b',') => {
                self.at += 1;
                false
            }
            Some(b'\n') => {
                self.at += 1;
                self.line += 1;
                true
            }
            _ => true,
        }
    }
}
