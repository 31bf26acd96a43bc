//! `definitions_key(context_sizes)` and `definitions_of(context_sizes, server, called)`: the definitions of tools that
//! a record states, read as attribution reads them.
//!
//! The key is one text for one list of definitions, the longer list sorting after the shorter, so that lists which are
//! sent again and again are read once. Whose a definition is, is the ledger's to say ([`owner_of_definition`]). The
//! text is ours, its names are the emitter's: what cannot be read is empty, and lists are bounded.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int64Builder, ListArray, StringArray, StringBuilder, StructArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use spanledger_ledger::attribution::threads::{definitions_of, definitions_text, owner_of_definition};
use spanledger_model::ids::hash_parts;

/// Most definitions of a list: what ingest keeps of one.
const DEFINITIONS_MAX: usize = 1_024;

/// Texts of a definition.
const TEXTS: [&str; 4] = ["name", "server", "tool", "hash"];

static DEFINITION: LazyLock<Fields> = LazyLock::new(|| {
    let texts = TEXTS.iter().map(|name| Field::new(*name, DataType::Utf8, true));
    texts.chain([Field::new("bytes", DataType::Int64, true)]).collect()
});

/// The two functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Gives {
    Key,
    Definitions,
}

/// One of the two functions.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Definitions {
    gives: Gives,
    signature: Signature,
}

impl Definitions {
    /// `definitions_key`.
    pub(super) fn key() -> Self {
        Self {
            gives: Gives::Key,
            signature: Signature::any(1, Volatility::Immutable),
        }
    }

    /// `definitions_of`.
    pub(super) fn list() -> Self {
        Self {
            gives: Gives::Definitions,
            signature: Signature::any(3, Volatility::Immutable),
        }
    }
}

fn definition_field() -> Arc<Field> {
    Arc::new(Field::new_list_field(DataType::Struct(DEFINITION.clone()), true))
}

fn texts_of(column: &ArrayRef) -> Result<StringArray> {
    Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn text(texts: &StringArray, row: usize) -> Option<&str> {
    (row < texts.len() && texts.is_valid(row)).then(|| texts.value(row))
}

impl ScalarUDFImpl for Definitions {
    fn name(&self) -> &str {
        match self.gives {
            Gives::Key => "definitions_key",
            Gives::Definitions => "definitions_of",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.gives {
            Gives::Key => DataType::Utf8,
            Gives::Definitions => DataType::List(definition_field()),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let Some(stated) = columns.first() else {
            return datafusion::common::plan_err!("{} takes the column context_sizes", self.name());
        };
        let stated = texts_of(stated)?;
        let array: ArrayRef = match (self.gives, columns.as_slice()) {
            (Gives::Definitions, [_, servers, called, ..]) => lists(&stated, &texts_of(servers)?, called)?,
            _ => Arc::new(
                stated
                    .iter()
                    .map(|stated| stated.and_then(key))
                    .collect::<StringArray>(),
            ),
        };
        Ok(ColumnarValue::Array(array))
    }
}

/// One text for one list of definitions.
fn key(context_sizes: &str) -> Option<String> {
    let definitions = definitions_text(context_sizes)?;
    let hash = hash_parts(&[b"definitions", definitions.as_bytes()]);
    Some(format!("{:08x}{:032x}", definitions.len(), u128::from_be_bytes(hash)))
}

/// The servers and tools of a list of structs, in the order in which attribution looks at them.
fn pairs(called: &ArrayRef, row: usize) -> Result<Vec<(Option<String>, String)>> {
    let mut pairs = Vec::new();
    let Some(called) = called.as_list_opt::<i32>().filter(|called| called.is_valid(row)) else {
        return Ok(pairs);
    };
    let called = called.value(row);
    let Some(called) = called.as_struct_opt() else {
        return Ok(pairs);
    };
    let (Some(servers), Some(tools)) = (called.column_by_name("server"), called.column_by_name("tool")) else {
        return Ok(pairs);
    };
    let (servers, tools) = (texts_of(servers)?, texts_of(tools)?);
    for at in 0..tools.len() {
        if let Some(tool) = text(&tools, at) {
            pairs.push((text(&servers, at).map(str::to_owned), tool.to_owned()));
        }
    }
    pairs.sort();
    Ok(pairs)
}

fn lists(stated: &StringArray, servers: &StringArray, called: &ArrayRef) -> Result<ArrayRef> {
    let mut texts: [StringBuilder; TEXTS.len()] = Default::default();
    let mut bytes = Int64Builder::new();
    let mut lengths = Vec::with_capacity(stated.len());
    for row in 0..stated.len() {
        let definitions = text(stated, row).and_then(definitions_text).map(definitions_of);
        let pairs = pairs(called, row)?;
        let called = pairs.iter().map(|(server, tool)| (server.as_deref(), tool.as_str()));
        let mut n = 0;
        let named = definitions.iter().flatten().filter(|(name, ..)| !name.is_empty());
        for (name, size, hash) in named.take(DEFINITIONS_MAX) {
            let (server, tool) = owner_of_definition(name, text(servers, row), called.clone());
            for (builder, text) in texts
                .iter_mut()
                .zip([Some(name.as_str()), server, Some(tool), Some(hash)])
            {
                builder.append_option(text);
            }
            bytes.append_value(*size);
            n += 1;
        }
        lengths.push(n);
    }
    let columns = texts.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef);
    let columns = columns.chain([Arc::new(bytes.finish()) as ArrayRef]).collect();
    let values = StructArray::try_new(DEFINITION.clone(), columns, None)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(
        definition_field(),
        offsets,
        Arc::new(values),
        None,
    )?))
}
