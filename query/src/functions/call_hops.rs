//! `call_hops(records)`: the hops of one call, outermost first, from a list of its observations.
//!
//! The list is what `array_agg(named_struct(…))` gives over rows of `observations`; what a hop is and how much of
//! its time is its own is the ledger's to say ([`hops_of`]), so that SQL and `explain` tell the same.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int64Builder, ListArray, RecordBatch, StringBuilder, StructArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use spanledger_lake::Table;
use spanledger_lake::tables::observations;
use spanledger_ledger::fold::hops_of;
use spanledger_model::{Hop, Observation, ObservationId};

use crate::table::stored_form;

/// Texts of a hop.
const TEXTS: [&str; 6] = ["observation_id", "hop", "service", "name", "dialect", "status"];
/// Numbers of a hop.
const NUMBERS: [&str; 4] = ["position", "start_ns", "duration_ns", "self_ns"];

static HOP: LazyLock<Fields> = LazyLock::new(|| {
    let texts = TEXTS.iter().map(|name| Field::new(*name, DataType::Utf8, true));
    let numbers = NUMBERS.iter().map(|name| Field::new(*name, DataType::Int64, true));
    texts.chain(numbers).collect()
});

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct CallHops {
    signature: Signature,
}

impl CallHops {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

fn hop_field() -> Arc<Field> {
    Arc::new(Field::new_list_field(DataType::Struct(HOP.clone()), true))
}

impl ScalarUDFImpl for CallHops {
    fn name(&self) -> &str {
        "call_hops"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(hop_field()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let Some(lists) = columns.first().and_then(|column| column.as_list_opt::<i32>()) else {
            return plan_err!("call_hops takes a list of observations; the view `hops` has its answer");
        };
        let mut hops = Hops::default();
        for row in 0..lists.len() {
            hops.add(lists.is_valid(row).then(|| lists.value(row)).as_ref())?;
        }
        Ok(ColumnarValue::Array(hops.finish()?))
    }
}

/// The answer, list by list.
#[derive(Default)]
struct Hops {
    texts: [StringBuilder; TEXTS.len()],
    numbers: [Int64Builder; NUMBERS.len()],
    lengths: Vec<usize>,
}

impl Hops {
    /// Adds the hops of one call.
    fn add(&mut self, records: Option<&ArrayRef>) -> Result<()> {
        let Some(records) = records.and_then(|records| records.as_struct_opt()) else {
            self.lengths.push(0);
            return Ok(());
        };
        let stored = stored_form(&RecordBatch::from(records), Table::Observations)?;
        let observations = observations::from_batch(&stored);
        let by_id: HashMap<ObservationId, &Observation> = observations
            .iter()
            .map(|record| (record.observation_id, record))
            .collect();
        let timings = hops_of(&observations);
        self.lengths.push(timings.len());
        for (position, timing) in (1_i64..).zip(&timings) {
            let record = by_id.get(&timing.observation_id);
            let id = timing.observation_id.to_string();
            let texts = [
                Some(id.as_str()),
                Some(Hop::as_str(timing.hop)),
                timing.service.as_deref(),
                Some(timing.name.as_str()),
                record.map(|record| record.dialect.as_str()),
                record.map(|record| record.status.as_str()),
            ];
            for (builder, text) in self.texts.iter_mut().zip(texts) {
                builder.append_option(text);
            }
            let numbers = [position, timing.start_ns, timing.duration_ns, timing.own_ns];
            for (builder, number) in self.numbers.iter_mut().zip(numbers) {
                builder.append_value(number);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<ArrayRef> {
        let texts = self
            .texts
            .iter_mut()
            .map(|builder| Arc::new(builder.finish()) as ArrayRef);
        let numbers = self
            .numbers
            .iter_mut()
            .map(|builder| Arc::new(builder.finish()) as ArrayRef);
        let values = StructArray::try_new(HOP.clone(), texts.chain(numbers).collect(), None)?;
        let offsets = OffsetBuffer::from_lengths(self.lengths);
        Ok(Arc::new(ListArray::try_new(
            hop_field(),
            offsets,
            Arc::new(values),
            None,
        )?))
    }
}
