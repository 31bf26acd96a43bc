//! Bounds for built-in functions that make more data than they read.
//!
//! `repeat('x', 1000000000)` and its like allocate without asking the memory pool, so no limit of the
//! engine stops them. Each is wrapped: same name, same types, but its size argument is checked first.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{DataType, FieldRef, Float64Type, Int64Type};
use datafusion::catalog::{TableFunction, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use crate::error::{Error, ErrorKind};
use crate::limits::{GENERATED_BYTES_MAX, GENERATED_MAX};

/// Functions whose output is an argument's size times a count: the position of both. For padding the
/// repeated thing is a character, whatever the arguments are.
const REPEATING: [(&str, Repeated, usize); 5] = [
    ("repeat", Repeated::Argument(0), 1),
    ("lpad", Repeated::Character, 1),
    ("rpad", Repeated::Character, 1),
    ("array_repeat", Repeated::Argument(0), 1),
    ("array_resize", Repeated::Argument(2), 1),
];
/// Functions that make a list between two values.
const SERIES: [&str; 2] = ["range", "generate_series"];

/// Wraps the functions that are there.
pub(super) fn register(state: &mut SessionState) -> Result<()> {
    let sized = REPEATING
        .into_iter()
        .map(|(name, repeated, count)| (name, Size::Product(repeated, count)));
    let series = SERIES.into_iter().map(|name| (name, Size::Span));
    for (name, size) in sized.chain(series) {
        if let Some(inner) = state.scalar_functions().get(name).cloned() {
            state.register_udf(Arc::new(ScalarUDF::from(Bounded { inner, size })))?;
        }
    }
    let tables: Vec<Arc<TableFunction>> = state.table_functions().values().cloned().collect();
    for table in tables {
        let name = table.name().to_owned();
        state.register_udtf(&name, Arc::new(BoundedTable(table)));
    }
    Ok(())
}

fn too_many(name: &str) -> DataFusionError {
    DataFusionError::External(Box::new(Error::new(
        ErrorKind::TooLarge,
        format!("{name} would make too much: at most {GENERATED_MAX} values or {GENERATED_BYTES_MAX} bytes at a time"),
    )))
}

/// What a repeating function repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Repeated {
    /// The argument at this position.
    Argument(usize),
    /// A character of up to four bytes.
    Character,
}

/// Where a function's output size is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Size {
    /// The size of the repeated thing times the integer argument at this position.
    Product(Repeated, usize),
    /// The distance between the first two arguments in steps of the third.
    Span,
}

/// A built-in function behind a check of its size argument.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    size: Size,
}

impl Bounded {
    fn check(&self, args: &[ColumnarValue], n_rows: usize) -> Result<()> {
        let fits = match self.size {
            Size::Product(repeated, count) => product_fits(args, repeated, count, n_rows)?,
            Size::Span => span_fits(args)?,
        };
        if fits { Ok(()) } else { Err(too_many(self.inner.name())) }
    }
}

/// Compares an upper bound of the output: all repeated bytes of the batch times the largest count.
fn product_fits(args: &[ColumnarValue], repeated: Repeated, count: usize, n_rows: usize) -> Result<bool> {
    let bytes = match repeated {
        Repeated::Character => n_rows.saturating_mul(4),
        Repeated::Argument(index) => match args.get(index) {
            Some(ColumnarValue::Array(array)) => array.to_data().get_slice_memory_size()?,
            Some(ColumnarValue::Scalar(scalar)) => scalar
                .to_array()?
                .to_data()
                .get_slice_memory_size()?
                .saturating_mul(n_rows),
            None => n_rows.saturating_mul(8),
        },
    };
    let Some(counts) = args.get(count) else { return Ok(true) };
    let counts = datafusion::arrow::compute::cast(&counts.to_array(1)?, &DataType::Int64)?;
    let largest = datafusion::arrow::compute::max(counts.as_primitive::<Int64Type>()).unwrap_or(0);
    let output = bytes.max(1).saturating_mul(usize::try_from(largest).unwrap_or(0));
    Ok(output <= GENERATED_BYTES_MAX)
}

/// For integers the exact count; for dates and times only a constant step of at least a second is sure to
/// be small, so finer ones are refused over more than a day.
fn span_fits(args: &[ColumnarValue]) -> Result<bool> {
    let numbers = args
        .iter()
        .all(|arg| arg.data_type().is_integer() || arg.data_type().is_null());
    let n_rows = args
        .iter()
        .map(|arg| match arg {
            ColumnarValue::Array(array) => array.len(),
            ColumnarValue::Scalar(_) => 1,
        })
        .max()
        .unwrap_or(1);
    if !numbers {
        return times_fit(args, n_rows);
    }
    let columns = args
        .iter()
        .map(|arg| {
            let array = arg.to_array(n_rows)?;
            Ok(datafusion::arrow::compute::cast(&array, &DataType::Int64)?)
        })
        .collect::<Result<Vec<_>>>()?;
    let value = |column: usize, row: usize| {
        let values = columns.get(column)?.as_primitive_opt::<Int64Type>()?;
        values.is_valid(row).then(|| i128::from(values.value(row)))
    };
    let mut sum: i128 = 0;
    for row in 0..n_rows {
        let (start, stop) = match columns.len() {
            1 => (Some(0), value(0, row)),
            _ => (value(0, row), value(1, row)),
        };
        let (Some(start), Some(stop)) = (start, stop) else {
            continue;
        };
        let step = if columns.len() > 2 {
            value(2, row).unwrap_or(1)
        } else {
            1
        };
        if step == 0 {
            continue;
        }
        sum += ((stop - start) / step).max(0);
    }
    Ok(sum <= i128::from(GENERATED_MAX))
}

fn times_fit(args: &[ColumnarValue], n_rows: usize) -> Result<bool> {
    let [start, stop, step] = args else { return Ok(true) };
    let ColumnarValue::Scalar(step) = step else {
        return Ok(false);
    };
    let ScalarValue::IntervalMonthDayNano(Some(step)) = step.cast_to(&DataType::Interval(
        datafusion::arrow::datatypes::IntervalUnit::MonthDayNano,
    ))?
    else {
        return Ok(true);
    };
    // A month is at least 28 days.
    let step_ns =
        (i128::from(step.months) * 28 + i128::from(step.days)) * 86_400_000_000_000 + i128::from(step.nanoseconds);
    let step_ns = step_ns.abs().max(1) as f64;
    let instants = |value: &ColumnarValue| -> Result<_> {
        let ns = DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Nanosecond, None);
        let array = datafusion::arrow::compute::cast(&value.to_array(n_rows)?, &ns)?;
        Ok(datafusion::arrow::compute::cast(
            &datafusion::arrow::compute::cast(&array, &DataType::Int64)?,
            &DataType::Float64,
        )?)
    };
    let (starts, stops) = (instants(start)?, instants(stop)?);
    let (starts, stops) = (
        starts.as_primitive::<Float64Type>(),
        stops.as_primitive::<Float64Type>(),
    );
    let sum: f64 = starts
        .iter()
        .zip(stops)
        .filter_map(|(start, stop)| Some((stop? - start?).abs() / step_ns))
        .sum();
    Ok(sum <= GENERATED_MAX as f64)
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args.args, args.number_rows)?;
        self.inner.invoke_with_args(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// `generate_series` and `range` as tables, behind a check of their constant arguments.
#[derive(Debug)]
struct BoundedTable(Arc<TableFunction>);

impl TableFunctionImpl for BoundedTable {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let constants: Vec<ColumnarValue> = args
            .exprs()
            .iter()
            .filter_map(|argument| match argument {
                Expr::Literal(value, _) => Some(ColumnarValue::Scalar(value.clone())),
                _ => None,
            })
            .collect();
        if constants.len() != args.exprs().len() {
            return plan_err!("the arguments of {} must be constants", self.0.name());
        }
        let types: HashSet<bool> = constants.iter().map(|value| value.data_type().is_null()).collect();
        if !types.contains(&true) && !span_fits(&constants)? {
            return Err(too_many(self.0.name()));
        }
        self.0.create_table_provider_with_args(args)
    }
}
