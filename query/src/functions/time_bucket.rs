//! `time_bucket(interval, time)`: the start of the interval that a time falls in.
//!
//! A name analysts know, planned as DataFusion's `date_bin`. Intervals of days and weeks count from a
//! Monday (2000-01-03), months and years from January; all in UTC.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, IntervalUnit};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::functions::datetime::date_bin;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// Monday, 3 January 2000, 00:00 UTC, in nanoseconds since the Unix epoch.
const MONDAY_NS: i64 = 946_857_600_000_000_000;

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TimeBucket {
    signature: Signature,
}

impl TimeBucket {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &str {
        "time_bucket"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [interval, time] = arguments else {
            return plan_err!("time_bucket takes an interval and a time: time_bucket('1 day', time)");
        };
        let interval_is_readable = matches!(
            interval,
            DataType::Interval(_) | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        );
        if !interval_is_readable {
            return plan_err!("the first argument of time_bucket is an interval such as '1 day', not {interval}");
        }
        let time = match time {
            DataType::Timestamp(..) => time.clone(),
            DataType::Date32 | DataType::Date64 | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                spanledger_lake::tables::codec::time_type()
            }
            other => return plan_err!("the second argument of time_bucket is a time, not {other}"),
        };
        Ok(vec![DataType::Interval(IntervalUnit::MonthDayNano), time])
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [_, time] => Ok(time.clone()),
            _ => plan_err!("time_bucket takes an interval and a time"),
        }
    }

    fn simplify(&self, arguments: Vec<Expr>, _info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let [interval, time] = &arguments[..] else {
            return Ok(ExprSimplifyResult::Original(arguments));
        };
        // Only a constant interval has a known origin; it is a constant once its cast has been evaluated.
        let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(span)), _) = interval else {
            return Ok(ExprSimplifyResult::Original(arguments));
        };
        let mut binned = vec![interval.clone(), time.clone()];
        if span.months == 0 {
            let origin = ScalarValue::TimestampNanosecond(Some(MONDAY_NS), Some("+00:00".into()));
            binned.push(Expr::Literal(origin, None));
        }
        Ok(ExprSimplifyResult::Simplified(Expr::ScalarFunction(
            ScalarFunction::new_udf(date_bin(), binned),
        )))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ScalarFunctionArgs {
            mut args,
            mut arg_fields,
            number_rows,
            return_field,
            config_options,
        } = args;
        let Some(ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(span)))) = args.first() else {
            return plan_err!("the interval of time_bucket must be a constant such as '1 day'");
        };
        if span.months == 0 {
            let origin = ScalarValue::TimestampNanosecond(Some(MONDAY_NS), Some("+00:00".into()));
            arg_fields.push(Arc::new(datafusion::arrow::datatypes::Field::new(
                "origin",
                origin.data_type(),
                true,
            )));
            args.push(ColumnarValue::Scalar(origin));
        }
        date_bin().invoke_with_args(ScalarFunctionArgs {
            args,
            arg_fields,
            number_rows,
            return_field,
            config_options,
        })
    }
}
