//! `price(provider, model, at, input_tokens, output_tokens, …)`: the list cost of one call, for what-if
//! questions in SQL. Counts are inclusive, as in `calls`. NULL where the price book has no price: never 0.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, Decimal128Array};
use datafusion::arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use spanledger_lake::tables::codec::{MONEY_PRECISION, MONEY_SCALE, time_type};
use spanledger_ledger::prices::{PriceBook, PriceQuery};
use spanledger_ledger::rating::rate;
use spanledger_model::Usage;

/// Arguments at least: provider, model, instant, input and output tokens.
const ARGUMENTS_MIN: usize = 5;
/// Arguments at most: also cache reads, and cache writes of either lifetime.
const ARGUMENTS_MAX: usize = 8;

/// The function, over one price book.
#[derive(Debug)]
pub(super) struct Price {
    book: Arc<PriceBook>,
    signature: Signature,
}

impl Price {
    pub(super) fn new(book: Arc<PriceBook>) -> Self {
        Self {
            book,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl PartialEq for Price {
    fn eq(&self, other: &Self) -> bool {
        self.book.version() == other.book.version()
    }
}

impl Eq for Price {}

impl Hash for Price {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.book.version().hash(state);
    }
}

impl ScalarUDFImpl for Price {
    fn name(&self) -> &str {
        "price"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        if !(ARGUMENTS_MIN..=ARGUMENTS_MAX).contains(&arguments.len()) {
            return plan_err!(
                "price takes (provider, model, at, input_tokens, output_tokens[, cache_read_tokens[, cache_write_5m_tokens[, cache_write_1h_tokens]]])"
            );
        }
        let counts = std::iter::repeat_n(DataType::Int64, arguments.len() - 3);
        Ok([DataType::Utf8, DataType::Utf8, time_type()]
            .into_iter()
            .chain(counts)
            .collect())
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(MONEY_PRECISION, MONEY_SCALE))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let text = |column: usize, row: usize| {
            let values = columns.get(column)?.as_string_opt::<i32>()?;
            values.is_valid(row).then(|| values.value(row))
        };
        let count = |column: usize, row: usize| {
            let values = columns.get(column)?.as_primitive_opt::<Int64Type>()?;
            values.is_valid(row).then(|| values.value(row))
        };
        let at_us = |row: usize| {
            let values = columns.get(2)?.as_primitive_opt::<TimestampMicrosecondType>()?;
            values.is_valid(row).then(|| values.value(row))
        };
        let n_rows = columns.first().map_or(0, |column| column.len());
        let cost_of = |row: usize| {
            let price = self.book.resolve(&PriceQuery {
                provider: text(0, row),
                model: text(1, row)?,
                at_ns: at_us(row)?.saturating_mul(1_000),
                processing: None,
                service_tier: None,
            })?;
            let usage = Usage {
                input: count(3, row),
                output: count(4, row),
                cache_read: count(5, row),
                cache_write_5m: count(6, row),
                cache_write_1h: count(7, row),
                ..Usage::default()
            };
            rate(&price, &usage).ok().map(|rated| rated.total.0)
        };
        let costs: Decimal128Array = (0..n_rows).map(cost_of).collect();
        let costs = costs.with_precision_and_scale(MONEY_PRECISION, MONEY_SCALE)?;
        Ok(ColumnarValue::Array(Arc::new(costs)))
    }
}
