//! TOML: `[[prices]]` and `[[tools]]`, with `source` and `currency` for all of them at the top.
//!
//! A number is taken from the digits that were written, never through a float.

use std::borrow::Cow;

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};

use super::super::json::Json;
use super::Row;

/// Nesting of a record: a price, its tiers, a tier. More is not a price.
const DEPTH_MAX: usize = 8;
/// Members at the top that hold for every record.
const COMMON: [&str; 2] = ["source", "currency"];

type At<T> = Result<T, (usize, String)>;

/// The records with the lines they start on.
pub(super) fn rows(text: &str) -> At<Vec<Row<'static>>> {
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let line_of = |byte: usize| 1 + ends.partition_point(|end| *end < byte);
    let document = DeTable::parse(text).map_err(|error| {
        let line = line_of(error.span().map_or(0, |span| span.start));
        (line, error.message().to_owned())
    })?;
    let mut common = Vec::new();
    let mut rows = Vec::new();
    for (key, value) in document.get_ref() {
        let line = line_of(key.span().start);
        let name = key.get_ref().as_ref();
        match (name, value.get_ref()) {
            (name, DeValue::String(text)) if COMMON.contains(&name) => {
                common.push((Cow::Owned(name.to_owned()), Json::Text(Cow::Owned(text.to_string()))));
            }
            ("prices" | "tools", DeValue::Array(items)) => {
                for item in items {
                    let line = line_of(item.span().start);
                    rows.push(Row {
                        line,
                        record: record(item, name).map_err(|error| (line, error))?,
                    });
                }
            }
            _ => {
                let error = format!("unknown member {name:?}; write [[prices]], [[tools]], source and currency");
                return Err((line, error));
            }
        }
    }
    // What a record says itself comes last, and the last counts.
    for row in &mut rows {
        if let Json::Object(fields) = &mut row.record {
            fields.splice(0..0, common.iter().cloned());
        }
    }
    Ok(rows)
}

fn record(item: &Spanned<DeValue<'_>>, kind: &str) -> Result<Json<'static>, String> {
    let record = json(item.get_ref(), 0)?;
    let is_kind = record.get("tool").is_some() && record.get("model").is_none();
    match record {
        Json::Object(_) if is_kind == (kind == "tools") => Ok(record),
        Json::Object(_) if kind == "tools" => {
            Err("a record of [[tools]] names server and tool, and no model".to_owned())
        }
        Json::Object(_) => Err("a record of [[prices]] names provider and model".to_owned()),
        _ => Err(format!("[[{kind}]] holds tables")),
    }
}

fn json(value: &DeValue<'_>, depth: usize) -> Result<Json<'static>, String> {
    if depth > DEPTH_MAX {
        return Err("nested too deeply".to_owned());
    }
    let text = |text: &str| Json::Text(Cow::Owned(text.to_owned()));
    Ok(match value {
        DeValue::String(string) => text(string),
        DeValue::Integer(integer) if integer.radix() == 10 => text(&integer.as_str().replace('_', "")),
        DeValue::Integer(_) => return Err("a price is written in decimal digits".to_owned()),
        DeValue::Float(float) => text(&float.as_str().replace('_', "")),
        DeValue::Boolean(flag) => Json::Bool(*flag),
        DeValue::Datetime(time) => text(&time.to_string()),
        DeValue::Array(items) => Json::Array(
            items
                .iter()
                .map(|item| json(item.get_ref(), depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(fields) => Json::Object(
            fields
                .iter()
                .map(|(key, value)| Ok((Cow::Owned(key.get_ref().to_string()), json(value.get_ref(), depth + 1)?)))
                .collect::<Result<_, String>>()?,
        ),
    })
}
