//! Functions about dialects and folding, for the views of [`crate::evidence`]: they give names and types,
//! never the value of a text.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use spanledger_ledger::fold::Rule;
use spanledger_model::call::Confidence;

use crate::dialects::Dialects;

/// Which of the functions over texts it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Which {
    DialectOf,
    DialectField,
    UsageLike,
    TextType,
    FoldReason,
    FoldMeaning,
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Self::DialectOf => "dialect_of",
            Self::DialectField => "dialect_field",
            Self::UsageLike => "usage_like",
            Self::TextType => "text_type",
            Self::FoldReason => "fold_reason",
            Self::FoldMeaning => "fold_meaning",
        }
    }

    fn n_arguments(self) -> usize {
        match self {
            Self::DialectOf => 2,
            Self::DialectField => 3,
            Self::UsageLike | Self::TextType | Self::FoldReason | Self::FoldMeaning => 1,
        }
    }
}

/// A function from texts to a text.
pub(super) struct TextFunction {
    which: Which,
    dialects: Arc<dyn Dialects>,
    signature: Signature,
}

/// All of them.
pub(super) fn text_functions(dialects: &Arc<dyn Dialects>) -> impl Iterator<Item = TextFunction> + use<> {
    let dialects = Arc::clone(dialects);
    [
        Which::DialectOf,
        Which::DialectField,
        Which::UsageLike,
        Which::TextType,
        Which::FoldReason,
        Which::FoldMeaning,
    ]
    .into_iter()
    .map(move |which| TextFunction {
        which,
        dialects: Arc::clone(&dialects),
        signature: Signature::exact(vec![DataType::Utf8; which.n_arguments()], Volatility::Immutable),
    })
}

impl std::fmt::Debug for TextFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TextFunction").field(&self.which).finish()
    }
}

// One engine has one set of dialects, so within a plan the name tells the function.
impl PartialEq for TextFunction {
    fn eq(&self, other: &Self) -> bool {
        self.which == other.which
    }
}

impl Eq for TextFunction {}

impl Hash for TextFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.which.hash(state);
    }
}

impl ScalarUDFImpl for TextFunction {
    fn name(&self) -> &str {
        self.which.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let columns: Vec<&StringArray> = columns
            .iter()
            .filter_map(|column| column.as_string_opt::<i32>())
            .collect();
        if columns.len() != self.which.n_arguments() {
            return plan_err!("{} takes {} texts", self.which.name(), self.which.n_arguments());
        }
        Ok(ColumnarValue::Array(self.evaluate(&columns)))
    }
}

impl TextFunction {
    fn evaluate(&self, columns: &[&StringArray]) -> ArrayRef {
        let n_rows = columns.first().map_or(0, |column| column.len());
        let get = |column: usize, row: usize| {
            let values = columns.get(column)?;
            values.is_valid(row).then(|| values.value(row))
        };
        let mut builder = StringBuilder::with_capacity(n_rows, n_rows * 8);
        // Rows of a batch repeat a few scopes, services and keys.
        let mut known: HashMap<[Option<&str>; 3], Option<String>> = HashMap::new();
        for row in 0..n_rows {
            if self.which == Which::TextType {
                builder.append_option(get(0, row).map(text_type));
                continue;
            }
            let arguments = [get(0, row), get(1, row), get(2, row)];
            let answer = known.entry(arguments).or_insert_with(|| self.answer(arguments));
            builder.append_option(answer.as_deref());
        }
        Arc::new(builder.finish())
    }

    fn answer(&self, [first, second, third]: [Option<&str>; 3]) -> Option<String> {
        match self.which {
            Which::DialectOf => self.dialects.dialect_of(first.unwrap_or(""), second),
            Which::DialectField => {
                let field = self.dialects.field_of(first.unwrap_or(""), second, third?);
                field.map(str::to_owned)
            }
            Which::UsageLike => self.dialects.usage_like(first?).map(str::to_owned),
            Which::FoldReason => fold_reason(first?),
            Which::FoldMeaning => rule_named(first?).map(|rule| rule.meaning().to_owned()),
            Which::TextType => None,
        }
    }
}

/// The type that a value written as text seems to have.
pub(crate) fn text_type(text: &str) -> &'static str {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.len() <= 19 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return "int";
    }
    if matches!(text, "true" | "false") {
        return "bool";
    }
    if text.len() <= 32 && digits.starts_with(|first: char| first.is_ascii_digit()) && text.parse::<f64>().is_ok() {
        return "double";
    }
    match text.as_bytes().first() {
        Some(b'{' | b'[') => "json",
        _ => "text",
    }
}

fn rule_named(name: &str) -> Option<Rule> {
    Rule::ALL.iter().copied().find(|rule| rule.as_str() == name.trim())
}

/// Why a call is not sure: what its guessed rules do, else what its inferred ones do.
fn fold_reason(rules: &str) -> Option<String> {
    let rules: Vec<Rule> = rules.split(',').filter_map(rule_named).collect();
    let of = |confidence: Confidence| {
        let meanings = rules.iter().filter(|rule| rule.confidence() == confidence);
        meanings.map(|rule| rule.meaning()).collect::<Vec<_>>().join("; ")
    };
    [Confidence::Guessed, Confidence::Inferred]
        .into_iter()
        .map(of)
        .find(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_told_and_never_the_text() {
        for (text, expected) in [
            ("12", "int"),
            ("-7", "int"),
            ("0.25", "double"),
            ("1e3", "double"),
            ("true", "bool"),
            ("{\"a\":1}", "json"),
            ("[1]", "json"),
            ("hello", "text"),
            ("", "text"),
            ("inf", "text"),
            ("12345678901234567890123", "double"),
        ] {
            assert_eq!(text_type(text), expected, "{text}");
        }
    }
}
