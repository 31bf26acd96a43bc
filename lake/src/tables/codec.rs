//! Column builders and readers shared by the row tables: one `Encoder` call a column states its name, type
//! and value, so that schema and encoding cannot drift apart; the `Decoder` reads columns back by name.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, FixedSizeBinaryBuilder,
    Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit,
    TimestampMicrosecondType,
};
use spanledger_model::{FemtoUsd, TenantId};

/// Precision of money columns.
pub const MONEY_PRECISION: u8 = 38;
/// Scale of money columns: [`spanledger_model::money::FEMTO_DIGITS`].
pub const MONEY_SCALE: i8 = 15;
/// Nanoseconds of a UTC day.
pub const DAY_NS: i64 = 86_400_000_000_000;

/// The UTC day of an instant, as days since the Unix epoch.
#[must_use]
pub fn day_of(time_ns: i64) -> i32 {
    i32::try_from(time_ns.div_euclid(DAY_NS)).unwrap_or(i32::MAX)
}

/// Builds the columns of a batch in order.
#[derive(Default)]
pub struct Encoder {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl Encoder {
    /// The three columns every table opens with.
    #[must_use]
    pub fn with_key<'r>(rows: impl Iterator<Item = (&'r TenantId, i64)> + Clone) -> Self {
        let mut encoder = Self::default();
        encoder.push(
            "tenant",
            false,
            Arc::new(StringArray::from_iter_values(rows.clone().map(|row| row.0.as_str()))),
        );
        encoder.push(
            "day",
            false,
            Arc::new(Date32Array::from_iter_values(rows.clone().map(|row| day_of(row.1)))),
        );
        let time = TimestampMicrosecondArray::from_iter_values(rows.map(|row| row.1.div_euclid(1_000)));
        encoder.push("time", false, Arc::new(time.with_timezone("UTC")));
        encoder
    }

    /// Adds a finished column.
    pub fn push(&mut self, name: &str, nullable: bool, column: ArrayRef) {
        self.fields.push(Field::new(name, column.data_type().clone(), nullable));
        self.columns.push(column);
    }

    /// Adds a nullable text column.
    pub fn text<'r>(&mut self, name: &str, values: impl Iterator<Item = Option<&'r str>>) {
        self.push(name, true, Arc::new(values.collect::<StringArray>()));
    }

    /// Adds a nullable BIGINT column.
    pub fn int(&mut self, name: &str, values: impl Iterator<Item = Option<i64>>) {
        self.push(name, true, Arc::new(values.collect::<Int64Array>()));
    }

    /// Adds a nullable INT column.
    pub fn int32(&mut self, name: &str, values: impl Iterator<Item = Option<i32>>) {
        self.push(name, true, Arc::new(values.collect::<Int32Array>()));
    }

    /// Adds a nullable BOOLEAN column.
    pub fn boolean(&mut self, name: &str, values: impl Iterator<Item = Option<bool>>) {
        self.push(name, true, Arc::new(values.collect::<BooleanArray>()));
    }

    /// Adds a nullable column of identifiers of `width` bytes.
    pub fn id<'r>(&mut self, name: &str, width: i32, values: impl Iterator<Item = Option<&'r [u8]>>) {
        let mut builder = FixedSizeBinaryBuilder::new(width);
        for value in values {
            match value.map(|value| builder.append_value(value)) {
                Some(Ok(())) => {}
                _ => builder.append_null(),
            }
        }
        self.push(name, true, Arc::new(builder.finish()));
    }

    /// Adds a nullable DECIMAL(38,15) column of USD.
    pub fn money(&mut self, name: &str, values: impl Iterator<Item = Option<FemtoUsd>>) {
        let column = values.map(|cost| cost.map(|cost| cost.0)).collect::<Decimal128Array>();
        let column = column.with_data_type(DataType::Decimal128(MONEY_PRECISION, MONEY_SCALE));
        self.push(name, true, Arc::new(column));
    }

    /// Adds a nullable timestamp column (µs, UTC) from nanoseconds.
    pub fn timestamp(&mut self, name: &str, values_ns: impl Iterator<Item = Option<i64>>) {
        let column = values_ns
            .map(|ns| ns.map(|ns| ns.div_euclid(1_000)))
            .collect::<TimestampMicrosecondArray>();
        self.push(name, true, Arc::new(column.with_timezone("UTC")));
    }

    /// The batch. Columns of unequal length cannot happen when each was built from the same rows; were it
    /// to, the batch is empty rather than wrong.
    #[must_use]
    pub fn finish(self) -> RecordBatch {
        let schema: SchemaRef = Arc::new(Schema::new(self.fields));
        RecordBatch::try_new(SchemaRef::clone(&schema), self.columns).unwrap_or_else(|_| RecordBatch::new_empty(schema))
    }
}

/// The type of the `time` column.
#[must_use]
pub fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Reads the columns of a batch by name. An absent column reads as all NULL, so that older files stay
/// readable when a column is added.
pub struct Decoder<'b> {
    batch: &'b RecordBatch,
}

impl<'b> Decoder<'b> {
    /// A reader of `batch`.
    #[must_use]
    pub fn new(batch: &'b RecordBatch) -> Self {
        Self { batch }
    }

    /// A text column; dictionary and view encodings are cast by the file reader before.
    #[must_use]
    pub fn text(&self, name: &str) -> TextColumn<'b> {
        TextColumn(
            self.batch
                .column_by_name(name)
                .and_then(|column| column.as_string_opt::<i32>()),
        )
    }

    /// A BIGINT column.
    pub fn int(&self, name: &str) -> impl Fn(usize) -> Option<i64> + use<'b> {
        let column = self
            .batch
            .column_by_name(name)
            .and_then(|column| column.as_primitive_opt::<Int64Type>());
        move |row| {
            column
                .filter(|column| column.is_valid(row))
                .map(|column| column.value(row))
        }
    }

    /// An INT column.
    pub fn int32(&self, name: &str) -> impl Fn(usize) -> Option<i32> + use<'b> {
        let column = self
            .batch
            .column_by_name(name)
            .and_then(|column| column.as_primitive_opt::<Int32Type>());
        move |row| {
            column
                .filter(|column| column.is_valid(row))
                .map(|column| column.value(row))
        }
    }

    /// A DATE column, as days since the Unix epoch.
    pub fn date(&self, name: &str) -> impl Fn(usize) -> Option<i32> + use<'b> {
        let column = self
            .batch
            .column_by_name(name)
            .and_then(|column| column.as_primitive_opt::<Date32Type>());
        move |row| {
            column
                .filter(|column| column.is_valid(row))
                .map(|column| column.value(row))
        }
    }

    /// A timestamp column, in nanoseconds.
    pub fn timestamp_ns(&self, name: &str) -> impl Fn(usize) -> Option<i64> + use<'b> {
        let column = self
            .batch
            .column_by_name(name)
            .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
        move |row| {
            column
                .filter(|column| column.is_valid(row))
                .map(|column| column.value(row).saturating_mul(1_000))
        }
    }

    /// A money column.
    pub fn money(&self, name: &str) -> impl Fn(usize) -> Option<FemtoUsd> + use<'b> {
        let column = self
            .batch
            .column_by_name(name)
            .and_then(|column| column.as_primitive_opt::<Decimal128Type>());
        move |row| {
            column
                .filter(|column| column.is_valid(row))
                .map(|column| FemtoUsd(column.value(row)))
        }
    }

    /// A BOOLEAN column.
    pub fn boolean(&self, name: &str) -> impl Fn(usize) -> Option<bool> + use<'b> {
        let column = self
            .batch
            .column_by_name(name)
            .and_then(|column| column.as_boolean_opt());
        move |row| {
            column
                .filter(|column| column.is_valid(row))
                .map(|column| column.value(row))
        }
    }

    /// An identifier column.
    #[must_use]
    pub fn id(&self, name: &str) -> IdColumn<'b> {
        IdColumn(
            self.batch
                .column_by_name(name)
                .and_then(|column| column.as_fixed_size_binary_opt()),
        )
    }
}

/// A text column of a batch.
pub struct TextColumn<'b>(Option<&'b StringArray>);

impl<'b> TextColumn<'b> {
    /// The value in a row.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&'b str> {
        self.0
            .filter(|column| column.is_valid(row))
            .map(|column| column.value(row))
    }

    /// The value in a row, owned.
    #[must_use]
    pub fn owned(&self, row: usize) -> Option<String> {
        self.get(row).map(str::to_owned)
    }

    /// The value in a row, to be shared.
    #[must_use]
    pub fn shared(&self, row: usize) -> Option<Arc<str>> {
        self.get(row).map(Arc::from)
    }
}

/// An identifier column of a batch.
pub struct IdColumn<'b>(Option<&'b FixedSizeBinaryArray>);

impl<'b> IdColumn<'b> {
    /// The bytes in a row.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&'b [u8]> {
        self.0
            .filter(|column| column.is_valid(row))
            .map(|column| column.value(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_the_utc_date_before_and_after_the_epoch() {
        assert_eq!(day_of(0), 0);
        assert_eq!(day_of(DAY_NS - 1), 0);
        assert_eq!(day_of(DAY_NS), 1);
        assert_eq!(day_of(-1), -1);
    }
}
