//! Reads an answer's cells by column name, for the reports that are built from SQL.

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Int64Type, TimestampMicrosecondType};
use spanledger_model::FemtoUsd;

use crate::engine::ResultSet;
use crate::format::cell_text;

/// One row of an answer.
#[derive(Clone, Copy)]
pub(crate) struct Row<'b> {
    batch: &'b RecordBatch,
    index: usize,
}

/// The rows of an answer, in order.
pub(crate) fn rows(result: &ResultSet) -> impl Iterator<Item = Row<'_>> {
    result
        .batches
        .iter()
        .flat_map(|batch| (0..batch.num_rows()).map(move |index| Row { batch, index }))
}

impl Row<'_> {
    fn column(&self, name: &str) -> Option<&dyn Array> {
        let column = self.batch.column_by_name(name)?.as_ref();
        column.is_valid(self.index).then_some(column)
    }

    /// A value as text.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        cell_text(self.column(name)?, self.index)
    }

    /// A BIGINT.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        Some(self.column(name)?.as_primitive_opt::<Int64Type>()?.value(self.index))
    }

    /// A BIGINT, 0 where NULL: for sums and counts of nothing.
    pub(crate) fn count(&self, name: &str) -> i64 {
        self.int(name).unwrap_or(0)
    }

    /// A `DECIMAL(_,15)` of USD.
    pub(crate) fn cost(&self, name: &str) -> Option<FemtoUsd> {
        let column = self.column(name)?;
        debug_assert!(
            matches!(column.data_type(), DataType::Decimal128(_, 15)),
            "{name}: {}",
            column.data_type()
        );
        Some(FemtoUsd(column.as_primitive_opt::<Decimal128Type>()?.value(self.index)))
    }

    /// A time, in nanoseconds since the Unix epoch.
    pub(crate) fn time_ns(&self, name: &str) -> Option<i64> {
        let us = self
            .column(name)?
            .as_primitive_opt::<TimestampMicrosecondType>()?
            .value(self.index);
        us.checked_mul(1_000)
    }
}
