//! Data files: sorted rows to Parquet bytes with the statistics that the log wants, and back.
//!
//! Files are laid out as `tables/<table>/tenant=<tenant>/day=<day>/part-….parquet`, with tenant and day stored
//! as plain columns too. Statistics come from the Parquet writer, so no value is looked at twice.
//! Nothing here touches the disk but [`read`] and [`FileRows`].

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use chrono::{DateTime, NaiveDate};
use futures::TryStreamExt;
use object_store::ObjectStore;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::arrow::{ArrowSchemaConverter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{ParquetMetaData, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;
use serde_json::{Map, Value, json};

use crate::error::{Context, Error, Result};
use crate::object_reader::ObjectReader;
use crate::options::{ROW_GROUP_ROWS, STATISTICS_COLUMNS, ZSTD_LEVEL};
use crate::tables::Table;

/// Columns looked up by value: a Bloom filter lets a reader skip a row group.
const BLOOM_COLUMNS: [&str; 2] = ["trace_id", "session_id"];
/// Chance that a Bloom filter says yes to a value that is not there.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;
/// Columns whose values hardly repeat: a dictionary would only be built to be thrown away.
const UNIQUE_COLUMNS: [&str; 4] = ["span_id", "observation_id", "line_id", "call_id"];
/// Columns that grow with the row: stored as differences.
const GROWING_COLUMNS: [&str; 4] = ["time", "start_ns", "end_ns", "arrived_at"];
/// Rows decoded at a time.
const READ_BATCH_ROWS: usize = 8_192;

/// A live file of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Relative to the lake's root.
    pub path: String,
    /// Size, bytes.
    pub size_bytes: u64,
    /// Rows.
    pub n_rows: u64,
    /// Whose rows these are; empty if another tool wrote the file and it may hold several tenants.
    pub tenant: String,
    /// UTC day, days since the Unix epoch; 0 together with an empty tenant if unknown.
    pub day: i32,
    /// Smallest `time`, microseconds since the Unix epoch; `None` if unknown.
    pub min_time_us: Option<i64>,
    /// Largest `time` (or a bound just above it), microseconds since the Unix epoch; `None` if unknown.
    pub max_time_us: Option<i64>,
}

impl DataFile {
    /// When the newest of its rows was first written to a file, nanoseconds since the Unix epoch, from its name
    /// (`part-<16 hex digits>-…`); `None` for a file of another tool. Merging keeps it.
    #[must_use]
    pub fn written_ns(&self) -> Option<i64> {
        let name = self.path.rsplit('/').next()?.strip_prefix("part-")?;
        i64::from_str_radix(name.get(..16)?, 16).ok()
    }
}

/// A file's content, ready to be put.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) bytes: Bytes,
    pub(crate) n_rows: u64,
    pub(crate) min_time_us: Option<i64>,
    pub(crate) max_time_us: Option<i64>,
    /// Delta's statistics JSON.
    pub(crate) statistics: String,
}

/// The folder of a (table, tenant, day), relative to the lake's root.
pub(crate) fn partition_dir(table: Table, tenant: &str, day: i32) -> String {
    format!("{}/tenant={}/day={}", table_dir(table), escape(tenant), format_day(day))
}

/// The folder of a table, relative to the lake's root.
pub(crate) fn table_dir(table: Table) -> String {
    format!("tables/{}", table.name())
}

/// Tenant and day of a path made by [`partition_dir`].
pub(crate) fn parse_partition(path: &str) -> Option<(String, i32)> {
    let mut tenant = None;
    let mut day = None;
    for part in path.split('/') {
        if let Some(escaped) = part.strip_prefix("tenant=") {
            tenant = unescape(escaped);
        } else if let Some(text) = part.strip_prefix("day=") {
            day = parse_day(text);
        }
    }
    Some((tenant?, day?))
}

/// Letters that mean nothing to any file system, URL or object store; the rest as `!xx`.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => escaped.push(char::from(byte)),
            _ => {
                escaped.push('!');
                escaped.push_str(&hex::encode([byte]));
            }
        }
    }
    escaped
}

fn unescape(escaped: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'!' {
            bytes.extend_from_slice(&hex::decode(tail.get(..2)?).ok()?);
            rest = tail.get(2..)?;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

/// Days from the Common Era's first day, chrono's count, to the Unix epoch.
const EPOCH_DAYS_CE: i32 = 719_163;

/// A day as `2026-11-22`.
pub(crate) fn format_day(day: i32) -> String {
    match day
        .checked_add(EPOCH_DAYS_CE)
        .and_then(NaiveDate::from_num_days_from_ce_opt)
    {
        Some(date) => date.format("%Y-%m-%d").to_string(),
        None => format!("{day}"),
    }
}

fn parse_day(text: &str) -> Option<i32> {
    use chrono::Datelike;
    match NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        Ok(date) => Some(date.num_days_from_ce() - EPOCH_DAYS_CE),
        Err(_) => text.parse().ok(),
    }
}

fn writer_properties(schema: &Schema, sort_columns: &[&str], n_rows: usize) -> Result<WriterProperties> {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).or_internal(|| "bad compression level".to_owned())?;
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("spanledger ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for (column_idx, field) in schema.fields().iter().enumerate() {
        let name = field.name().as_str();
        let path = ColumnPath::new(vec![name.to_owned()]);
        if GROWING_COLUMNS.contains(&name) && matches!(field.data_type(), DataType::Int64 | DataType::Timestamp(..)) {
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
        } else if UNIQUE_COLUMNS.contains(&name) {
            properties = properties.set_column_dictionary_enabled(path.clone(), false);
        }
        if BLOOM_COLUMNS.contains(&name) {
            properties = properties
                .set_column_bloom_filter_enabled(path.clone(), true)
                .set_column_bloom_filter_fpp(path.clone(), BLOOM_FALSE_POSITIVES)
                .set_column_bloom_filter_max_ndv(path.clone(), n_rows.clamp(1, ROW_GROUP_ROWS) as u64);
        }
        if sort_columns.contains(&name) {
            properties = properties.set_column_statistics_enabled(path, EnabledStatistics::Page);
        }
        // The order is stated by leaf column, which counts like the fields until the first nested one.
        let leaf = !schema.fields()[..column_idx]
            .iter()
            .any(|before| before.data_type().is_nested());
        if leaf && sort_columns.first() == Some(&name) {
            properties = properties.set_sorting_columns(Some(vec![SortingColumn {
                column_idx: i32::try_from(column_idx).unwrap_or(0),
                descending: false,
                nulls_first: true,
            }]));
        }
    }
    // Bounds of map keys and values prune nothing and cost a comparison a value.
    let descriptor = ArrowSchemaConverter::new()
        .convert(schema)
        .or_internal(|| "the schema has no parquet form".to_owned())?;
    for (leaf_idx, leaf) in descriptor.columns().iter().enumerate() {
        let root_idx = descriptor.get_column_root_idx(leaf_idx);
        if schema
            .fields()
            .get(root_idx)
            .is_some_and(|root| root.data_type().is_nested())
        {
            properties = properties.set_column_statistics_enabled(leaf.path().clone(), EnabledStatistics::None);
        }
    }
    Ok(properties.build())
}

/// Writes sorted chunks of rows of one (tenant, day) as a Parquet file in memory.
///
/// # Errors
/// `Internal` if a chunk does not have the schema or cannot be encoded.
pub(crate) fn encode(
    schema: &SchemaRef,
    sort_columns: &[&str],
    n_rows: usize,
    chunks: impl Iterator<Item = Result<RecordBatch>>,
) -> Result<Encoded> {
    let options = ArrowWriterOptions::new()
        .with_properties(writer_properties(schema, sort_columns, n_rows)?)
        // Every type of ours survives without it, and it is 10 KB in each small file.
        .with_skip_arrow_metadata(true);
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new_with_options(&mut bytes, SchemaRef::clone(schema), options)
        .or_internal(|| "cannot begin a parquet file".to_owned())?;
    for chunk in chunks {
        writer
            .write(&conform(&chunk?, schema)?)
            .or_internal(|| "cannot encode rows as parquet".to_owned())?;
    }
    let metadata = writer
        .close()
        .or_internal(|| "cannot finish a parquet file".to_owned())?;
    let (statistics, time) = statistics_of(schema, &metadata);
    Ok(Encoded {
        bytes: Bytes::from(bytes),
        n_rows: u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0),
        min_time_us: time.map(|time| time.0),
        max_time_us: time.map(|time| time.1),
        statistics,
    })
}

/// A column's statistic in the log's JSON; `None` for types that Delta gives no bounds.
fn bounds(field: &Field, statistics: &Statistics) -> Option<(Value, Value)> {
    match (field.data_type(), statistics) {
        (DataType::Utf8, Statistics::ByteArray(values)) => {
            let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(Value::from);
            Some((text(values.min_opt()?.data())?, text(values.max_opt()?.data())?))
        }
        (DataType::Int32, Statistics::Int32(values)) => Some((json!(values.min_opt()?), json!(values.max_opt()?))),
        (DataType::Int64, Statistics::Int64(values)) => Some((json!(values.min_opt()?), json!(values.max_opt()?))),
        (DataType::Date32, Statistics::Int32(values)) => Some((
            json!(format_day(*values.min_opt()?)),
            json!(format_day(*values.max_opt()?)),
        )),
        (DataType::Timestamp(TimeUnit::Microsecond, _), Statistics::Int64(values)) => {
            let text = |time_us: i64| {
                Some(Value::from(
                    DateTime::from_timestamp_micros(time_us)?
                        .format("%Y-%m-%dT%H:%M:%S%.6fZ")
                        .to_string(),
                ))
            };
            Some((text(*values.min_opt()?)?, text(*values.max_opt()?)?))
        }
        _ => None,
    }
}

/// Orders two bounds of one column.
fn less(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::String(left), Value::String(right)) => left < right,
        _ => left.as_i64() < right.as_i64(),
    }
}

fn statistics_of(schema: &Schema, metadata: &ParquetMetaData) -> (String, Option<(i64, i64)>) {
    let descriptor = metadata.file_metadata().schema_descr();
    let mut min_values = Map::new();
    let mut max_values = Map::new();
    let mut null_count = Map::new();
    let mut time: Option<(i64, i64)> = None;
    for leaf_idx in 0..descriptor.num_columns() {
        let root_idx = descriptor.get_column_root_idx(leaf_idx);
        let Some(field) = schema
            .fields()
            .get(root_idx)
            .filter(|field| !field.data_type().is_nested())
        else {
            continue;
        };
        if root_idx >= STATISTICS_COLUMNS {
            break;
        }
        let of_groups: Option<Vec<&Statistics>> = metadata
            .row_groups()
            .iter()
            .map(|group| group.column(leaf_idx).statistics())
            .collect();
        let Some(of_groups) = of_groups else { continue };
        let n_nulls: Option<u64> = of_groups.iter().map(|group| group.null_count_opt()).sum();
        if let Some(n_nulls) = n_nulls {
            null_count.insert(field.name().clone(), json!(n_nulls));
        }
        // A group of nulls only has no bounds and does not take part.
        for (min, max) in of_groups.iter().filter_map(|group| bounds(field, group)) {
            let lowest = min_values.entry(field.name().clone()).or_insert_with(|| min.clone());
            if less(&min, lowest) {
                *lowest = min;
            }
            let highest = max_values.entry(field.name().clone()).or_insert_with(|| max.clone());
            if less(highest, &max) {
                *highest = max;
            }
        }
        if field.name() == "time" {
            for group in &of_groups {
                if let Statistics::Int64(values) = group
                    && let (Some(min), Some(max)) = (values.min_opt(), values.max_opt())
                {
                    time = Some(time.map_or((*min, *max), |(low, high)| (low.min(*min), high.max(*max))));
                }
            }
        }
    }
    let statistics = json!({
        "numRecords": metadata.file_metadata().num_rows(),
        "minValues": min_values,
        "maxValues": max_values,
        "nullCount": null_count,
    });
    (statistics.to_string(), time)
}

/// The batch with exactly these fields: reordered, and with nulls for columns that an older file lacks.
///
/// # Errors
/// `Internal` if a column has another type, or is required and missing.
pub(crate) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(ArrayRef::clone(column)),
            Some(column) => Err(Error::internal(format!(
                "column {} is {} where the table has {}",
                field.name(),
                column.data_type(),
                field.data_type()
            ))),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        })
        .collect::<Result<_>>()?;
    RecordBatch::try_new(SchemaRef::clone(schema), columns)
        .or_internal(|| "rows do not fit the table's schema".to_owned())
}

/// Reads a file's rows, in the file's order, with the table's columns of these names (all if `None`).
///
/// # Errors
/// `Corrupt` if the file is missing or is not what was written; `Invalid` for an unknown column.
pub(crate) async fn read(
    store: Arc<dyn ObjectStore>,
    schema: &SchemaRef,
    file: &DataFile,
    columns: Option<&[&str]>,
) -> Result<Vec<RecordBatch>> {
    let mut rows = FileRows::open(store, schema, file, columns, None).await?;
    let mut batches = Vec::new();
    while let Some(batch) = rows.next().await? {
        batches.push(batch);
    }
    Ok(batches)
}

/// The rows of a file, a batch at a time.
pub struct FileRows {
    stream: ParquetRecordBatchStream<ObjectReader>,
    schema: SchemaRef,
    path: String,
}

impl fmt::Debug for FileRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileRows")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl FileRows {
    /// Opens a file. `rows` are ranges of rows to read, in order and apart from one another; all if `None`.
    pub(crate) async fn open(
        store: Arc<dyn ObjectStore>,
        schema: &SchemaRef,
        file: &DataFile,
        columns: Option<&[&str]>,
        rows: Option<Vec<Range<usize>>>,
    ) -> Result<Self> {
        let schema = match columns {
            None => SchemaRef::clone(schema),
            Some(names) => {
                let indices: Vec<usize> = names
                    .iter()
                    .map(|name| {
                        schema
                            .index_of(name)
                            .map_err(|_| Error::invalid(format!("there is no column {name}")))
                    })
                    .collect::<Result<_>>()?;
                Arc::new(
                    schema
                        .project(&indices)
                        .or_internal(|| "cannot project the schema".to_owned())?,
                )
            }
        };
        let corrupt = || format!("cannot read the data file {}", file.path);
        let path = object_store::path::Path::from(file.path.as_str());
        let reader = ObjectReader::new(store, path, file.size_bytes);
        let mut builder = ParquetRecordBatchStreamBuilder::new(reader).await.or_corrupt(corrupt)?;
        if columns.is_some() {
            let roots: Vec<usize> = builder
                .schema()
                .fields()
                .iter()
                .enumerate()
                .filter(|(_, field)| schema.index_of(field.name()).is_ok())
                .map(|(root_idx, _)| root_idx)
                .collect();
            let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
            builder = builder.with_projection(mask);
        }
        if let Some(rows) = rows {
            let n_rows = usize::try_from(file.n_rows).unwrap_or(usize::MAX);
            let selection = RowSelection::from_consecutive_ranges(rows.into_iter(), n_rows);
            builder = builder.with_row_selection(selection);
        }
        let stream = builder.with_batch_size(READ_BATCH_ROWS).build().or_corrupt(corrupt)?;
        Ok(Self {
            stream,
            schema,
            path: file.path.clone(),
        })
    }

    /// The next batch; `None` at the end.
    ///
    /// # Errors
    /// `Corrupt` if the file is not what was written.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let corrupt = || format!("cannot read the data file {}", self.path);
        match self.stream.try_next().await.or_corrupt(corrupt)? {
            Some(batch) => Ok(Some(conform(&batch, &self.schema)?)),
            None => Ok(None),
        }
    }
}
