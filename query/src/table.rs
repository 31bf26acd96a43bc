//! A lake table as DataFusion sees it: one snapshot's Delta files ∪ hot batches, of one tenant.
//!
//! Built for a principal, once a query, from one [`TableSnapshot`]: a query never sees two states of a
//! table. [`LakeTable::scan`] prunes files (tenant, day, time), reads them with plain
//! `DataSourceExec`/`ParquetSource` (which prune row groups by statistics and blooms), adds the hot rows,
//! and shows ids as hex.
//!
//! ```text
//! ProjectionExec            ids as hex, only the columns asked for
//!   UnionExec
//!     FilterExec            tenant = '…' AND team IN (…) AND pushed-down filters
//!       DataSourceExec      files that can hold such rows
//!     FilterExec
//!       DataSourceExec      hot batches
//! ```
//!
//! Guarantee: rows of another tenant are never read where files tell them apart, and never pass the
//! filter where they do not; no query can remove that filter, for it is part of the scan. So is the row filter
//! of a principal, where the table has its columns ([`crate::sight`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::DateTime;
use datafusion::arrow::array::new_null_array;
use datafusion::arrow::array::{
    ArrayRef, AsArray, BooleanArray, Date32Array, FixedSizeBinaryArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, ident, lit};
use datafusion::object_store::ObjectMeta;
use datafusion::object_store::path::Path;
use datafusion::physical_optimizer::pruning::{PruningPredicateBuilder, PruningStatistics};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use spanledger_access::{Principal, RowFilter};
use spanledger_lake::{DataFile, Table, TableSnapshot};

use crate::functions::id_hex::{id_hex, shown_type};
use crate::{ids, sight};

/// Address of the lake's object store inside a session. Not a path: plans show it to users.
pub(crate) const STORE_URL: &str = "lake://tables/";

/// One tenant's rows of one snapshot of one table.
#[derive(Debug)]
pub(crate) struct LakeTable {
    table: Table,
    tenant: String,
    rows: RowFilter,
    files: Vec<DataFile>,
    hot: Vec<RecordBatch>,
    stored: SchemaRef,
    shown: SchemaRef,
}

impl LakeTable {
    /// The rows of `snapshot` that `principal` may see.
    ///
    /// # Errors
    /// Where a hot batch cannot be read with the table's schema.
    pub(crate) fn new(table: Table, snapshot: &TableSnapshot, principal: &Principal) -> Result<Self> {
        let tenant = principal.tenant().as_str().to_owned();
        let stored = table.schema();
        // A file of another tool names no tenant and may hold several: the filter of the scan decides.
        let files = snapshot
            .files
            .iter()
            .filter(|file| file.tenant == tenant || file.tenant.is_empty());
        let hot = snapshot.hot.iter().filter(|batch| batch.num_rows() > 0);
        Ok(Self {
            files: files.cloned().collect(),
            hot: hot.map(|batch| conform(batch, &stored)).collect::<Result<_>>()?,
            shown: shown_schema(&stored),
            rows: match sight::filters_itself(table) {
                true => principal.rows().clone(),
                false => RowFilter::default(),
            },
            table,
            tenant,
            stored,
        })
    }

    /// All rows of one file, which names its tenant.
    ///
    /// # Errors
    /// Where it does not.
    pub(crate) fn of_file(table: Table, file: &DataFile) -> Result<Self> {
        if file.tenant.is_empty() {
            return datafusion::common::internal_err!("{} names no tenant", file.path);
        }
        let stored = table.schema();
        Ok(Self {
            table,
            tenant: file.tenant.clone(),
            rows: RowFilter::default(),
            files: vec![file.clone()],
            hot: Vec::new(),
            shown: shown_schema(&stored),
            stored,
        })
    }

    /// The same rows without those of some files.
    pub(crate) fn without_files(&self, mut is_out: impl FnMut(&DataFile) -> bool) -> Self {
        Self {
            table: self.table,
            tenant: self.tenant.clone(),
            rows: self.rows.clone(),
            files: self.files.iter().filter(|file| !is_out(file)).cloned().collect(),
            hot: self.hot.clone(),
            stored: Arc::clone(&self.stored),
            shown: Arc::clone(&self.shown),
        }
    }

    /// True where there is nothing to read.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.hot.is_empty()
    }

    /// What a row must be to be seen, whatever the query says.
    fn own_rows(&self) -> impl Iterator<Item = Expr> {
        let tenant = ident("tenant").eq(lit(self.tenant.as_str()));
        std::iter::once(tenant).chain(self.row_filter())
    }

    /// What a row of the tenant must be to be seen; `None` where all are.
    pub(crate) fn row_filter(&self) -> Option<Expr> {
        conjunction(self.rows.conditions().map(|(column, values)| match values {
            [] => lit(false),
            values => ident(column).in_list(values.iter().map(|value| lit(value.as_str())).collect(), false),
        }))
    }

    /// Files that can hold a row that passes `filter`.
    fn matching_files(&self, state: &dyn Session, filter: &Expr) -> Result<Vec<DataFile>> {
        let keep = self.can_match(state, &self.files, filter)?;
        let kept = self.files.iter().zip(keep).filter(|(_, keep)| *keep);
        Ok(kept.map(|(file, _)| file.clone()).collect())
    }

    /// Which of the files can hold a row that passes `filter`, a condition on stored columns.
    pub(crate) fn can_match(&self, state: &dyn Session, files: &[DataFile], filter: &Expr) -> Result<Vec<bool>> {
        let schema = DFSchema::try_from(Arc::clone(&self.stored))?;
        let predicate = state.create_physical_expr(filter.clone(), &schema)?;
        let pruning = PruningPredicateBuilder::new()
            .with_file_schema(Arc::clone(&self.stored))
            .build(predicate);
        match pruning {
            Some(pruning) => pruning.prune(&FileStatistics(files)),
            None => Ok(vec![true; files.len()]),
        }
    }

    fn scan_files(&self, state: &dyn Session, files: &[DataFile], columns: &[usize]) -> Result<Arc<dyn ExecutionPlan>> {
        let url = ObjectStoreUrl::parse(STORE_URL)?;
        let runtime = state.runtime_env();
        let readers = CachedParquetFileReaderFactory::new(
            runtime.object_store(&url)?,
            runtime.cache_manager.get_file_metadata_cache(),
        );
        let options = TableParquetOptions {
            global: state.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let source = ParquetSource::new(Arc::clone(&self.stored))
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(readers));
        let files = files.iter().map(partitioned_file).collect::<Result<Vec<_>>>()?;
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(Some(columns.to_vec()))?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.shown)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Exact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let asked: Vec<usize> = projection.map_or_else(|| (0..self.stored.fields().len()).collect(), Clone::clone);
        let filters = filters
            .iter()
            .map(|filter| ids::on_stored_columns(filter, &self.stored));
        let filters = self.own_rows().map(Ok).chain(filters).collect::<Result<Vec<_>>>()?;
        let Some(filter) = conjunction(filters) else {
            return datafusion::common::internal_err!("a scan of {} has no tenant filter", self.table.name());
        };

        let mut columns: BTreeSet<usize> = asked.iter().copied().collect();
        for column in filter.column_refs() {
            columns.insert(self.stored.index_of(&column.name)?);
        }
        let columns: Vec<usize> = columns.into_iter().collect();
        let read = Arc::new(self.stored.project(&columns)?);
        let read_schema = DFSchema::try_from(Arc::clone(&read))?;

        let mut sources: Vec<Arc<dyn ExecutionPlan>> = Vec::with_capacity(2);
        let files = self.matching_files(state, &filter)?;
        if !files.is_empty() {
            sources.push(self.scan_files(state, &files, &columns)?);
        }
        if !self.hot.is_empty() {
            let hot = std::slice::from_ref(&self.hot);
            let hot = MemorySourceConfig::try_new_exec(hot, Arc::clone(&self.stored), Some(columns))?;
            sources.push(hot);
        }
        if sources.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(self.shown.project(&asked)?))));
        }
        let predicate = state.create_physical_expr(filter, &read_schema)?;
        let filtered = sources.into_iter().map(|source| {
            let filter = FilterExec::try_new(Arc::clone(&predicate), source)?;
            Ok(Arc::new(filter) as Arc<dyn ExecutionPlan>)
        });
        let rows = UnionExec::try_new(filtered.collect::<Result<_>>()?)?;

        let shown = asked.iter().map(|index| {
            let name = self.stored.field(*index).name();
            let expression = shown_column(self.stored.field(*index));
            Ok((state.create_physical_expr(expression, &read_schema)?, name.clone()))
        });
        Ok(Arc::new(ProjectionExec::try_new(
            shown.collect::<Result<Vec<_>>>()?,
            rows,
        )?))
    }
}

fn partitioned_file(file: &DataFile) -> Result<PartitionedFile> {
    Ok(PartitionedFile::new_from_meta(ObjectMeta {
        location: Path::parse(&file.path).map_err(datafusion::object_store::Error::from)?,
        // Files are never changed under their name, so a constant keeps cached footers valid.
        last_modified: DateTime::UNIX_EPOCH,
        size: file.size_bytes,
        e_tag: None,
        version: None,
    }))
}

/// How a stored column is shown: ids as hex, anything else as it is.
fn shown_column(field: &Field) -> Expr {
    if shown_type(field.data_type()) == *field.data_type() {
        ident(field.name())
    } else {
        Expr::ScalarFunction(ScalarFunction::new_udf(id_hex(), vec![ident(field.name())]))
    }
}

/// The schema users see: the stored one with ids as text.
pub(crate) fn shown_schema(stored: &Schema) -> SchemaRef {
    let fields = stored
        .fields()
        .iter()
        .map(|field| Field::new(field.name(), shown_type(field.data_type()), field.is_nullable()));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A batch with exactly the table's columns: by name, absent ones NULL.
fn conform(batch: &RecordBatch, stored: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema().fields() == stored.fields() {
        return Ok(RecordBatch::try_new(Arc::clone(stored), batch.columns().to_vec())?);
    }
    let columns = stored
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => Ok(cast(column, field.data_type())?),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        });
    Ok(RecordBatch::try_new(
        Arc::clone(stored),
        columns.collect::<Result<_>>()?,
    )?)
}

/// Shown rows in the form they are stored in: ids as bytes again. What is no id stays as it is.
pub(crate) fn stored_form(batch: &RecordBatch, table: Table) -> Result<RecordBatch> {
    let stored = table.schema();
    let shown = batch.schema();
    let columns = shown.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let width = match stored.field_with_name(field.name()).map(Field::data_type) {
            Ok(DataType::FixedSizeBinary(width)) => *width,
            _ => return Ok((field.name().clone(), Arc::clone(column))),
        };
        let Some(texts) = column.as_string_opt::<i32>() else {
            return Ok((field.name().clone(), Arc::clone(column)));
        };
        let ids = texts.iter().map(|text| text.and_then(|text| hex::decode(text).ok()));
        let ids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids, width)?;
        Ok((field.name().clone(), Arc::new(ids) as ArrayRef))
    });
    Ok(RecordBatch::try_from_iter(columns.collect::<Result<Vec<_>>>()?)?)
}

/// What the log knows of each file, for pruning.
struct FileStatistics<'f>(&'f [DataFile]);

impl FileStatistics<'_> {
    fn bounds(&self, column: &Column, time: impl Fn(&DataFile) -> Option<i64>) -> Option<ArrayRef> {
        let files = self.0.iter();
        Some(match column.name.as_str() {
            "tenant" => {
                let tenants = files.map(|file| Some(file.tenant.as_str()).filter(|tenant| !tenant.is_empty()));
                Arc::new(tenants.collect::<StringArray>())
            }
            "day" => {
                let days = files.map(|file| (!file.tenant.is_empty()).then_some(file.day));
                Arc::new(days.collect::<Date32Array>())
            }
            "time" => {
                let times: TimestampMicrosecondArray = files.map(time).collect();
                Arc::new(times.with_timezone("UTC"))
            }
            _ => return None,
        })
    }
}

impl PruningStatistics for FileStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |file| file.min_time_us)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |file| file.max_time_us)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _column: &Column, _values: &std::collections::HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
