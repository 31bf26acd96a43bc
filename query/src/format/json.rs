//! Rows as JSON: what the REST API, the CLI and the MCP server answer with.

use std::io::Write;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use datafusion::arrow::record_batch::RecordBatch;

use super::text::cell_text;
use crate::engine::ResultSet;
use crate::error::Result;

pub(super) fn write_array(result: &ResultSet, out: &mut dyn Write) -> Result<()> {
    let mut separator: &[u8] = b"[\n";
    let mut line = Vec::new();
    each_row(result, |batch, names, row| {
        line.clear();
        line.extend_from_slice(separator);
        separator = b",\n";
        write_row(&mut line, batch, names, row);
        Ok(out.write_all(&line)?)
    })?;
    let end: &[u8] = if separator == b"[\n" { b"[]\n" } else { b"\n]\n" };
    Ok(out.write_all(end)?)
}

pub(super) fn write_lines(result: &ResultSet, out: &mut dyn Write) -> Result<()> {
    let mut line = Vec::new();
    each_row(result, |batch, names, row| {
        line.clear();
        write_row(&mut line, batch, names, row);
        line.push(b'\n');
        Ok(out.write_all(&line)?)
    })
}

fn each_row(result: &ResultSet, mut each: impl FnMut(&RecordBatch, &[String], usize) -> Result<()>) -> Result<()> {
    let names: Vec<String> = unique_names(&result.schema).iter().map(|name| quoted(name)).collect();
    for batch in &result.batches {
        for row in 0..batch.num_rows() {
            each(batch, &names, row)?;
        }
    }
    Ok(())
}

fn write_row(line: &mut Vec<u8>, batch: &RecordBatch, names: &[String], row: usize) {
    line.push(b'{');
    for (index, (name, column)) in names.iter().zip(batch.columns()).enumerate() {
        if index > 0 {
            line.push(b',');
        }
        line.extend_from_slice(name.as_bytes());
        line.push(b':');
        json_value(line, column.as_ref(), row);
    }
    line.push(b'}');
}

/// Column names as object keys: one that repeats gets a number, so that no value is lost.
fn unique_names(schema: &Schema) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let mut name = field.name().clone();
        let mut n_same = 1;
        while names.contains(&name) {
            n_same += 1;
            name = format!("{}_{n_same}", field.name());
        }
        names.push(name);
    }
    names
}

fn quoted(text: &str) -> String {
    // A string always serialises.
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}

/// Appends one value.
pub(super) fn json_value(out: &mut Vec<u8>, array: &dyn Array, row: usize) {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return;
    }
    macro_rules! number {
        ($type:ty) => {
            out.extend_from_slice(array.as_primitive::<$type>().value(row).to_string().as_bytes())
        };
    }
    match array.data_type() {
        DataType::Boolean => out.extend_from_slice(if array.as_boolean().value(row) {
            b"true"
        } else {
            b"false"
        }),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float32 => float(out, f64::from(array.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => float(out, array.as_primitive::<Float64Type>().value(row)),
        DataType::List(_) => list(out, array.as_list::<i32>().value(row).as_ref()),
        DataType::LargeList(_) => list(out, array.as_list::<i64>().value(row).as_ref()),
        DataType::FixedSizeList(..) => list(out, array.as_fixed_size_list().value(row).as_ref()),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            object(
                out,
                fields.iter().map(|field| field.name().clone()).zip(columns),
                |out, column| {
                    json_value(out, column.as_ref(), row);
                },
            );
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let pairs = (0..entries.len()).map(|entry| (cell_text(keys.as_ref(), entry).unwrap_or_default(), entry));
            object(out, pairs, |out, entry| json_value(out, values.as_ref(), entry));
        }
        DataType::Dictionary(..) => match array.as_any_dictionary_opt() {
            Some(dictionary) => match dictionary.normalized_keys().get(row) {
                Some(key) => json_value(out, dictionary.values().as_ref(), *key),
                None => out.extend_from_slice(b"null"),
            },
            None => out.extend_from_slice(b"null"),
        },
        _ => match cell_text(array, row) {
            Some(text) => out.extend_from_slice(quoted(&text).as_bytes()),
            None => out.extend_from_slice(b"null"),
        },
    }
}

/// JSON has no NaN and no infinity: they are null.
fn float(out: &mut Vec<u8>, value: f64) {
    match serde_json::Number::from_f64(value) {
        Some(number) => out.extend_from_slice(number.to_string().as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
}

fn list(out: &mut Vec<u8>, values: &dyn Array) {
    out.push(b'[');
    for index in 0..values.len() {
        if index > 0 {
            out.push(b',');
        }
        json_value(out, values, index);
    }
    out.push(b']');
}

fn object<V>(out: &mut Vec<u8>, pairs: impl Iterator<Item = (String, V)>, mut value: impl FnMut(&mut Vec<u8>, V)) {
    out.push(b'{');
    for (index, (name, content)) in pairs.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(quoted(&name).as_bytes());
        out.push(b':');
        value(out, content);
    }
    out.push(b'}');
}
