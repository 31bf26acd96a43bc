//! Filters on shown ids, rewritten to the stored ones.
//!
//! A user writes `trace_id = '00f0…'`; the file has 16 bytes, with statistics and a bloom filter over
//! them. So a comparison of an id with a constant becomes one of bytes, and only what cannot be said in
//! bytes (`trace_id LIKE '00%'`) compares the hex text. Either way the answer is the same.

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use crate::functions::id_hex::{id_hex, shown_type};

/// `filter`, which is about shown columns, as the same condition on the stored ones.
pub(crate) fn on_stored_columns(filter: &Expr, stored: &Schema) -> Result<Expr> {
    let rewritten = filter.clone().transform_down(|node| {
        if let Some(bytes) = as_bytes(&node, stored) {
            return Ok(Transformed::new(bytes, true, TreeNodeRecursion::Jump));
        }
        match &node {
            Expr::Column(column) => match stored.field_with_name(&column.name) {
                Ok(field) if shown_type(field.data_type()) != *field.data_type() => {
                    let hex = Expr::ScalarFunction(ScalarFunction::new_udf(id_hex(), vec![node]));
                    Ok(Transformed::new(hex, true, TreeNodeRecursion::Jump))
                }
                _ => Ok(Transformed::no(node)),
            },
            _ => Ok(Transformed::no(node)),
        }
    })?;
    Ok(rewritten.data)
}

/// The node as a condition on bytes, where it compares an id with constants.
fn as_bytes(node: &Expr, stored: &Schema) -> Option<Expr> {
    match node {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => {
            let (column, constant) = match (left.as_ref(), right.as_ref()) {
                (Expr::Column(_), constant) => (left, constant),
                (constant, Expr::Column(_)) => (right, constant),
                _ => return None,
            };
            let bytes = bytes_of(constant, id_width(column, stored)?)?;
            let (left, right) = if std::ptr::eq(column, left) {
                (left.clone(), Box::new(bytes))
            } else {
                (Box::new(bytes), right.clone())
            };
            Some(Expr::BinaryExpr(BinaryExpr { left, op: *op, right }))
        }
        Expr::InList(InList { expr, list, negated }) => {
            let width = id_width(expr, stored)?;
            let list = list
                .iter()
                .map(|item| bytes_of(item, width))
                .collect::<Option<Vec<_>>>()?;
            Some(Expr::InList(InList {
                expr: expr.clone(),
                list,
                negated: *negated,
            }))
        }
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => {
            id_width(inner, stored)?;
            Some(node.clone())
        }
        _ => None,
    }
}

/// Bytes order as their hex does, so every comparison carries over.
fn is_comparison(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

/// Width of an id column in bytes.
fn id_width(expr: &Expr, stored: &Schema) -> Option<i32> {
    let Expr::Column(column) = expr else { return None };
    match stored.field_with_name(&column.name).ok()?.data_type() {
        DataType::FixedSizeBinary(width) => Some(*width),
        _ => None,
    }
}

/// A constant as an id of `width` bytes: only full, lower-case hex denotes one.
fn bytes_of(constant: &Expr, width: i32) -> Option<Expr> {
    let Expr::Literal(value, metadata) = constant else {
        return None;
    };
    let text = value.try_as_str()??;
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let bytes = hex::decode(text).ok()?;
    (bytes.len() == usize::try_from(width).ok()?)
        .then(|| Expr::Literal(ScalarValue::FixedSizeBinary(width, Some(bytes)), metadata.clone()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::arrow::datatypes::Field;
    use datafusion::logical_expr::{ident, lit};

    use super::*;

    fn stored() -> Schema {
        Schema::new(vec![
            Field::new("span_id", DataType::FixedSizeBinary(8), true),
            Field::new("name", DataType::Utf8, true),
        ])
    }

    fn check(filter: Expr, expected: &str) {
        assert_eq!(on_stored_columns(&filter, &stored()).unwrap().to_string(), expected);
    }

    #[test]
    fn an_id_compared_with_hex_becomes_a_comparison_of_bytes() {
        let rewritten = on_stored_columns(&ident("span_id").eq(lit("00f067aa0ba902b7")), &stored()).unwrap();
        let bytes = ScalarValue::FixedSizeBinary(8, Some(vec![0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 2, 0xb7]));
        assert_eq!(rewritten, ident("span_id").eq(Expr::Literal(bytes.clone(), None)));
        let list = ident("span_id").in_list(vec![lit("00f067aa0ba902b7")], false);
        let rewritten = on_stored_columns(&list, &stored()).unwrap();
        assert_eq!(
            rewritten,
            ident("span_id").in_list(vec![Expr::Literal(bytes, None)], false)
        );
    }

    #[test]
    fn what_is_no_full_id_compares_text() {
        check(
            ident("span_id").eq(lit("00F067AA0BA902B7")),
            "id_hex(span_id) = Utf8(\"00F067AA0BA902B7\")",
        );
        check(ident("span_id").eq(lit("00f0")), "id_hex(span_id) = Utf8(\"00f0\")");
        check(
            ident("name").eq(lit("00f067aa0ba902b7")),
            "name = Utf8(\"00f067aa0ba902b7\")",
        );
        check(ident("span_id").is_null(), "span_id IS NULL");
    }
}
