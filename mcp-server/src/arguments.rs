//! A tool's arguments, read leniently: clients send lists as JSON in a string, numbers as text, one value
//! where a list is meant. What is wrong is answered so that the model's next call is right.

use rmcp::model::JsonObject;
use serde_json::Value;
use spanledger_query::costs::NONE;
use spanledger_query::{Error, Result};

/// The arguments of one call.
#[derive(Debug)]
pub(crate) struct Arguments {
    tool: &'static str,
    values: JsonObject,
}

impl Arguments {
    /// Takes the arguments of `tool`; those that are null count as absent.
    ///
    /// # Errors
    /// [`Invalid`](spanledger_query::ErrorKind::Invalid) for an argument that the tool does not have.
    pub(crate) fn new(tool: &'static str, known: &[&str], values: Option<JsonObject>) -> Result<Self> {
        let mut values = values.unwrap_or_default();
        values.retain(|_, value| !value.is_null());
        if let Some(unknown) = values.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(Error::invalid(format!(
                "{tool} has no argument `{unknown}`; its arguments: {}",
                known.join(", ")
            )));
        }
        Ok(Self { tool, values })
    }

    /// True where the argument was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// A text; one that is empty counts as absent.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.values.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
            Some(_) => Err(self.wrong(name, "a string")),
        }
    }

    /// A count from 1 to `max`, `default` where absent.
    pub(crate) fn count(&self, name: &str, default: usize, max: usize) -> Result<usize> {
        let count = match self.values.get(name) {
            None => return Ok(default),
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        let count = count.and_then(|count| usize::try_from(count).ok());
        count
            .filter(|count| (1..=max).contains(count))
            .ok_or_else(|| self.wrong(name, &format!("a whole number from 1 to {max}")))
    }

    /// An amount as its digits were written: a text, or a JSON number.
    pub(crate) fn digits(&self, name: &str) -> Result<Option<String>> {
        match self.values.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(self.wrong(name, "an amount, such as 1200.50")),
        }
    }

    /// Percentages: numbers, or texts of them, with or without a sign.
    pub(crate) fn percents(&self, name: &str) -> Result<Option<Vec<u32>>> {
        let Some(value) = self.values.get(name) else {
            return Ok(None);
        };
        let unwrapped = unwrap_json(value);
        let values = match unwrapped.as_ref().unwrap_or(value) {
            Value::Array(values) => values.clone(),
            value => vec![value.clone()],
        };
        let percent = |value: &Value| match value {
            Value::Number(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
            Value::String(text) => text.trim().trim_end_matches('%').trim_end().parse().ok(),
            _ => None,
        };
        let percents: Option<Vec<u32>> = values.iter().map(percent).collect();
        percents
            .map(Some)
            .ok_or_else(|| self.wrong(name, "a list of percentages, such as [80, 100]"))
    }

    /// A yes or no, no where absent.
    pub(crate) fn flag(&self, name: &str) -> Result<bool> {
        match self.values.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text == "true" || text == "false" => Ok(text == "true"),
            Some(_) => Err(self.wrong(name, "true or false")),
        }
    }

    /// True where `response_format` is `detailed`, false for `concise` and where absent.
    pub(crate) fn is_detailed(&self) -> Result<bool> {
        match self.text("response_format")? {
            None | Some("concise") => Ok(false),
            Some("detailed") => Ok(true),
            Some(_) => Err(self.wrong("response_format", "concise or detailed")),
        }
    }

    /// A list of names: an array, a JSON array in a string, or names with commas.
    pub(crate) fn names(&self, name: &str) -> Result<Vec<String>> {
        let Some(value) = self.values.get(name) else {
            return Ok(Vec::new());
        };
        let unwrapped = unwrap_json(value);
        let list = match unwrapped.as_ref().unwrap_or(value) {
            Value::Array(values) => values.iter().map(|value| value.as_str().map(str::to_owned)).collect(),
            Value::String(text) => Some(
                text.split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(str::to_owned)
                    .collect(),
            ),
            _ => None,
        };
        list.ok_or_else(|| self.wrong(name, "a list of names, such as [\"team\", \"tool\"]"))
    }

    /// A list of objects: an array, one object, or either as JSON in a string, also within the array.
    pub(crate) fn objects(&self, name: &str) -> Result<Vec<Value>> {
        let Some(value) = self.values.get(name) else {
            return Ok(Vec::new());
        };
        let read = |value: &Value| unwrap_json(value).unwrap_or_else(|| value.clone());
        match read(value) {
            Value::Array(values) => Ok(values.iter().map(read).collect()),
            Value::Object(fields) => Ok(vec![Value::Object(fields)]),
            _ => Err(self.wrong(name, "a list of objects")),
        }
    }

    /// Conditions by name: `{"team": "a", "tool": ["b", null]}`; null and `(none)` stand for no value.
    pub(crate) fn conditions(&self, name: &str) -> Result<Vec<(String, Vec<Option<String>>)>> {
        let expected = "an object such as {\"team\": \"payments\", \"model\": [\"a\", \"b\"]}";
        let Some(value) = self.values.get(name) else {
            return Ok(Vec::new());
        };
        let unwrapped = unwrap_json(value);
        let Value::Object(fields) = unwrapped.as_ref().unwrap_or(value) else {
            return Err(self.wrong(name, expected));
        };
        let mut conditions = Vec::new();
        for (dimension, wanted) in fields {
            let wanted = match wanted {
                Value::Array(values) => values.iter().map(wanted_value).collect(),
                value => wanted_value(value).map(|value| vec![value]),
            };
            let wanted: Vec<_> = wanted.ok_or_else(|| self.wrong(name, expected))?;
            if wanted.is_empty() {
                // It would be no filter, and the answer that of everything.
                return Err(self.wrong(name, &format!("{expected}, with at least one value of each")));
            }
            conditions.push((dimension.clone(), wanted));
        }
        Ok(conditions)
    }

    fn wrong(&self, name: &str, expected: &str) -> Error {
        Error::invalid(format!("`{name}` of {} is {expected}", self.tool))
    }
}

fn wanted_value(value: &Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        Value::String(text) if text == NONE => Some(None),
        Value::String(text) => Some(Some(text.clone())),
        _ => None,
    }
}

/// What a string holds, where that is a JSON array or object.
fn unwrap_json(value: &Value) -> Option<Value> {
    let text = value.as_str()?.trim();
    if !text.starts_with(['[', '{']) {
        return None;
    }
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> Arguments {
        let known = ["by", "filters", "limit", "since", "detailed"];
        Arguments::new("query_costs", &known, value.as_object().cloned()).unwrap()
    }

    #[test]
    fn lists_are_read_in_every_form_that_clients_send() {
        for by in [
            json!(["team", "tool"]),
            json!("team,tool"),
            json!(" team , tool,"),
            json!("[\"team\",\"tool\"]"),
        ] {
            assert_eq!(
                read(&json!({ "by": by })).names("by").unwrap(),
                ["team", "tool"],
                "{by}"
            );
        }
        assert!(read(&json!({})).names("by").unwrap().is_empty());
        assert!(read(&json!({ "by": [1] })).names("by").is_err());
    }

    #[test]
    fn conditions_are_read_in_every_form_that_clients_send() {
        let expected = vec![
            ("team".to_owned(), vec![Some("a".to_owned())]),
            ("tool".to_owned(), vec![Some("b,c".to_owned()), None, None]),
        ];
        let filters = json!({ "team": "a", "tool": ["b,c", null, "(none)"] });
        for filters in [filters.clone(), json!(filters.to_string())] {
            assert_eq!(
                read(&json!({ "filters": filters })).conditions("filters").unwrap(),
                expected
            );
        }
        assert!(read(&json!({ "filters": ["team"] })).conditions("filters").is_err());
        assert!(
            read(&json!({ "filters": { "team": [] } }))
                .conditions("filters")
                .is_err()
        );
        assert!(
            read(&json!({ "filters": { "team": 5 } }))
                .conditions("filters")
                .is_err()
        );
    }

    #[test]
    fn numbers_and_flags_may_be_text_and_have_bounds() {
        assert_eq!(read(&json!({ "limit": "7" })).count("limit", 5, 10).unwrap(), 7);
        assert_eq!(read(&json!({ "limit": null })).count("limit", 5, 10).unwrap(), 5);
        assert!(read(&json!({ "detailed": "true" })).flag("detailed").unwrap());
        for limit in [json!(0), json!(11), json!(-1), json!(1.5), json!("many"), json!([1])] {
            let error = read(&json!({ "limit": limit })).count("limit", 5, 10).unwrap_err();
            assert_eq!(error.message(), "`limit` of query_costs is a whole number from 1 to 10");
        }
    }

    #[test]
    fn an_unknown_argument_is_answered_with_the_known_ones() {
        let arguments = json!({ "group_by": "team" }).as_object().cloned();
        let error = Arguments::new("query_costs", &["by", "since"], arguments).unwrap_err();
        assert_eq!(
            error.message(),
            "query_costs has no argument `group_by`; its arguments: by, since"
        );
    }
}
