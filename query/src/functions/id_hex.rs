//! `id_hex(id)`: identifiers as people and other systems write them.
//!
//! Ids are stored as fixed-size binary (half the bytes of hex) and shown as lower-case hex. Works on a
//! column of ids and on ids inside lists and structs; other types pass through.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, ListArray, StringBuilder, StructArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// The function.
pub(crate) fn id_hex() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::from(IdHex::new())));
    Arc::clone(&FUNCTION)
}

/// The type that a column of `stored` type is shown as.
pub(crate) fn shown_type(stored: &DataType) -> DataType {
    match stored {
        DataType::FixedSizeBinary(_) => DataType::Utf8,
        DataType::List(field) => DataType::List(shown_field(field)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(shown_field).collect()),
        other => other.clone(),
    }
}

fn shown_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(
        field.name(),
        shown_type(field.data_type()),
        field.is_nullable(),
    ))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IdHex {
    signature: Signature,
}

impl IdHex {
    fn new() -> Self {
        Self {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for IdHex {
    fn name(&self) -> &str {
        "id_hex"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments.first().map_or(DataType::Null, shown_type))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.into_iter().next() {
            Some(ColumnarValue::Array(array)) => Ok(ColumnarValue::Array(shown(&array)?)),
            Some(ColumnarValue::Scalar(scalar)) => {
                let array = shown(&scalar.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
            }
            None => Ok(ColumnarValue::Scalar(ScalarValue::Null)),
        }
    }
}

fn shown(array: &ArrayRef) -> Result<ArrayRef> {
    if shown_type(array.data_type()) == *array.data_type() {
        return Ok(Arc::clone(array));
    }
    if let Some(ids) = array.as_fixed_size_binary_opt() {
        return Ok(hex_of(ids));
    }
    if let Some(list) = array.as_list_opt::<i32>() {
        let DataType::List(field) = shown_type(array.data_type()) else {
            return Ok(Arc::clone(array));
        };
        let values = shown(list.values())?;
        let list = ListArray::try_new(field, list.offsets().clone(), values, list.nulls().cloned())?;
        return Ok(Arc::new(list));
    }
    if let Some(structs) = array.as_struct_opt() {
        let DataType::Struct(fields) = shown_type(array.data_type()) else {
            return Ok(Arc::clone(array));
        };
        let columns = structs.columns().iter().map(shown).collect::<Result<Vec<_>>>()?;
        let structs = StructArray::try_new_with_length(fields, columns, structs.nulls().cloned(), structs.len())?;
        return Ok(Arc::new(structs));
    }
    Ok(Arc::clone(array))
}

fn hex_of(ids: &FixedSizeBinaryArray) -> ArrayRef {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let width = usize::try_from(ids.value_length()).unwrap_or(0) * 2;
    let mut builder = StringBuilder::with_capacity(ids.len(), ids.len() * width);
    let mut text = String::with_capacity(width);
    for id in ids {
        let Some(id) = id else {
            builder.append_null();
            continue;
        };
        text.clear();
        for byte in id {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        builder.append_value(&text);
    }
    Arc::new(builder.finish())
}
