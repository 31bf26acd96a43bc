//! `cost_round(cost, digits)`: rounding for presentation, the only place where money is rounded.
//!
//! Half away from zero, as statements do; the result is still `DECIMAL(38,15)`, so sums of rounded costs
//! stay exact.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, Decimal128Array};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Int64Type};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use spanledger_lake::tables::codec::{MONEY_PRECISION, MONEY_SCALE};

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct CostRound {
    signature: Signature,
}

impl CostRound {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for CostRound {
    fn name(&self) -> &str {
        "cost_round"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match arguments {
            [cost, digits] if (cost.is_numeric() || cost.is_null()) && (digits.is_integer() || digits.is_null()) => {
                Ok(vec![
                    DataType::Decimal128(MONEY_PRECISION, MONEY_SCALE),
                    DataType::Int64,
                ])
            }
            _ => plan_err!("cost_round takes a cost and a number of digits: cost_round(SUM(effective_cost), 2)"),
        }
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(MONEY_PRECISION, MONEY_SCALE))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [costs, digits] = &arrays[..] else {
            return plan_err!("cost_round takes a cost and a number of digits");
        };
        let costs = costs.as_primitive::<Decimal128Type>();
        let digits = digits.as_primitive::<Int64Type>();
        let rounded: Decimal128Array = costs
            .iter()
            .zip(digits)
            .map(|(cost, digits)| Some(round(cost?, digits?)))
            .collect();
        let rounded = rounded.with_precision_and_scale(MONEY_PRECISION, MONEY_SCALE)?;
        Ok(ColumnarValue::Array(Arc::new(rounded)))
    }
}

/// Rounds femto-USD to `digits` decimals, half away from zero. Digits past the fifteenth change nothing;
/// negative ones round to tens, hundreds, ….
fn round(femto: i128, digits: i64) -> i128 {
    let dropped = i64::from(MONEY_SCALE).saturating_sub(digits);
    if dropped <= 0 {
        return femto;
    }
    let Some(unit) = u32::try_from(dropped)
        .ok()
        .and_then(|dropped| 10i128.checked_pow(dropped))
    else {
        return 0;
    };
    let half = unit / 2;
    let shifted = if femto < 0 { femto - half } else { femto + half };
    shifted / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_half_away_from_zero_at_any_digit() {
        const USD: i128 = 1_000_000_000_000_000;
        assert_eq!(round(USD / 2, 0), USD);
        assert_eq!(round(-USD / 2, 0), -USD);
        assert_eq!(round(USD / 2 - 1, 0), 0);
        assert_eq!(round(123_450_000_000_000, 3), 123_000_000_000_000);
        assert_eq!(round(123_500_000_000_000, 3), 124_000_000_000_000);
        assert_eq!(round(7, 15), 7);
        assert_eq!(round(7, 99), 7);
        assert_eq!(round(15 * USD, -1), 20 * USD);
        assert_eq!(round(USD, -99), 0);
    }
}
