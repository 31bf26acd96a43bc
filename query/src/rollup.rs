//! Sums of the ledger and of calls by hour: what reports read instead of each line.
//!
//! A data file never changes under its name, so neither does its sum. The sums of a file are made once, in the
//! background, kept in memory and used by every snapshot that has the file; a file without them, and the hot rows,
//! are read as they are, put into the same columns. So `rollup_hour` and `rollup_hour_calls` always add up to
//! exactly what `ledger` and `calls` of the same snapshot add up to, with any number of sums at hand, also none.
//!
//! ```text
//! rollup_hour = UnionAll
//!     sums of files that have them        RecordBatches in memory
//!     lines of the other files, hot ones  LakeTable, its time cut to the hour
//! ```
//!
//! Columns with a value for nearly each line (ids, sessions, users) are not in them: a question about those reads
//! the lines. A group may have several rows, for files and late lines add theirs: sum them.
//!
//! Guarantee: a sum keeps apart what is priced and what is not, so that an unknown cost stays NULL. Rows of another
//! tenant are in no sum: a file that names no tenant gets none. The row filter of a principal is part of the scan.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::datasource::{MemTable, TableType, provider_as_source};
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::expr_fn::cast as cast_to;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, LogicalPlan, LogicalPlanBuilder, Operator, TableProviderFilterPushDown, ident, lit,
};
use datafusion::physical_plan::{ExecutionPlan, collect};
use parking_lot::Mutex;
use spanledger_lake::{DataFile, Lake, Table};

use crate::limits::{ROLLUP_BYTES_MAX, ROLLUP_FILE_ROWS_MIN, ROLLUP_GROWTH_MIN};
use crate::table::LakeTable;
use crate::views::IS_UNPRICED;

/// Sums of `ledger`.
pub(crate) const LEDGER_HOUR: &str = "rollup_hour";
/// Sums of `calls`.
pub(crate) const CALLS_HOUR: &str = "rollup_hour_calls";

/// Columns that both tables have under the same name.
const SHARED: [&str; 14] = [
    "day",
    "service",
    "environment",
    "team",
    "project",
    "cost_center",
    "agent",
    "client",
    "api_key",
    "provider",
    "server",
    "tool",
    "prompt",
    "resource_uri",
];
/// What else tells lines apart.
const OF_LINES: [&str; 5] = ["model", "cause", "touch", "bucket", "method"];
/// Sums of lines.
const LINE_SUMS: [&str; 6] = [
    "n_calls",
    "tokens",
    "quantity",
    "list_cost",
    "contracted_cost",
    "effective_cost",
];
/// A sum of some lines with and some without it would hide what is unknown: both kinds get rows of their own.
const KEPT_APART: [&str; 3] = ["list_cost", "contracted_cost", "effective_cost"];

/// One of the two: what its columns are in terms of the table that it sums up.
#[derive(Debug)]
pub(crate) struct Rollup {
    pub(crate) name: &'static str,
    of: Table,
    /// Columns that rows are grouped by; the first is the hour.
    keys: Vec<(Expr, String)>,
    /// Columns that are summed.
    sums: Vec<(Expr, String)>,
    /// What else rows are told apart by, without being columns.
    apart: Vec<Expr>,
    schema: SchemaRef,
}

impl Rollup {
    fn new(state: &SessionState, of: Table) -> Result<Self> {
        let stored = of.schema();
        let columns = DFSchema::try_from(Arc::clone(&stored))?;
        let hour = DataType::Timestamp(
            datafusion::arrow::datatypes::TimeUnit::Microsecond,
            Some(Arc::from("UTC")),
        );
        let parsed = |sql: &str| state.create_logical_expr(sql, &columns);
        let mut keys = vec![(cast_to(parsed("date_trunc('hour', time)")?, hour), "time".to_owned())];
        keys.extend(SHARED.map(|name| (ident(name), name.to_owned())));
        let (name, sums, apart) = if of == Table::Ledger {
            keys.extend(OF_LINES.map(|name| (ident(name), name.to_owned())));
            let sums = LINE_SUMS.map(|name| (ident(name), name.to_owned())).to_vec();
            (LEDGER_HOUR, sums, KEPT_APART.map(|name| ident(name).is_null()).to_vec())
        } else {
            let model = parsed("COALESCE(response_model, request_model)")?;
            let is_unpriced = parsed(&format!("COALESCE({IS_UNPRICED}, false)"))?;
            keys.extend([
                (model, "model".to_owned()),
                (ident("kind"), "kind".to_owned()),
                (ident("status"), "status".to_owned()),
                (is_unpriced, "unpriced".to_owned()),
            ]);
            let sums = vec![
                (lit(1_i64), "calls".to_owned()),
                (ident("reported_cost"), "reported_cost".to_owned()),
            ];
            (CALLS_HOUR, sums, vec![ident("reported_cost").is_null()])
        };
        let fields = keys.iter().chain(&sums).map(|(expression, name)| {
            use datafusion::logical_expr::ExprSchemable;
            Ok(Field::new(name, expression.get_type(&columns)?, true))
        });
        Ok(Self {
            name,
            of,
            schema: Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?)),
            keys,
            sums,
            apart,
        })
    }

    /// The rows of a table in the columns of this one.
    fn as_they_are(&self, rows: Arc<dyn TableProvider>, bounds: Option<Expr>) -> Result<LogicalPlanBuilder> {
        let plan = LogicalPlanBuilder::scan(self.of.name(), provider_as_source(rows), None)?;
        let plan = match bounds {
            Some(bounds) => plan.filter(bounds)?,
            None => plan,
        };
        let columns = self.keys.iter().chain(&self.sums);
        plan.project(columns.map(|(expression, name)| expression.clone().alias(name)))
    }

    /// The rows of a table summed up.
    fn summed(&self, rows: Arc<dyn TableProvider>) -> Result<LogicalPlan> {
        let apart = self.apart.iter().enumerate();
        let apart = apart.map(|(index, expression)| expression.clone().alias(format!("apart_{index}")));
        let groups = self
            .keys
            .iter()
            .map(|(expression, name)| expression.clone().alias(name));
        let sums = self
            .sums
            .iter()
            .map(|(expression, name)| sum(expression.clone()).alias(format!("sum_{name}")));
        let typed = self.schema.fields().iter().enumerate().map(|(index, field)| {
            let name = field.name();
            let column = if index < self.keys.len() {
                ident(name)
            } else {
                ident(format!("sum_{name}"))
            };
            cast_to(column, field.data_type().clone()).alias(name)
        });
        LogicalPlanBuilder::scan(self.of.name(), provider_as_source(rows), None)?
            .aggregate(groups.chain(apart), sums)?
            .project(typed.collect::<Vec<_>>())?
            .build()
    }

    /// What a filter on this table's columns says of the rows that are summed up: it may let too many pass, for it is
    /// asked again of the sums.
    fn bounds(&self, filters: &[Expr]) -> Option<Expr> {
        let parts = filters.iter().flat_map(|filter| split_conjunction(filter));
        conjunction(parts.filter_map(|part| self.bound(part)))
    }

    fn bound(&self, part: &Expr) -> Option<Expr> {
        const HOUR_US: i64 = 3_600_000_000;
        let columns = part.column_refs();
        let is_same = |name: &str| {
            self.keys
                .iter()
                .any(|(column, key)| key == name && *column == ident(name))
        };
        if columns.iter().all(|column| is_same(&column.name)) {
            return Some(part.clone());
        }
        // Of time only `time < …` and the like: a line of the hour is up to an hour later than its start.
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = part else {
            return None;
        };
        let (Expr::Column(column), Expr::Literal(ScalarValue::TimestampMicrosecond(Some(us), zone), _)) =
            (left.as_ref(), right.as_ref())
        else {
            return None;
        };
        let at = |us: i64| lit(ScalarValue::TimestampMicrosecond(Some(us), zone.clone()));
        match op {
            _ if column.name != "time" => None,
            Operator::GtEq | Operator::Gt => Some(ident("time").gt_eq(at(*us))),
            Operator::Lt | Operator::LtEq => Some(ident("time").lt_eq(at(us.saturating_add(HOUR_US)))),
            _ => None,
        }
    }
}

/// The sums that are at hand, and who makes more.
#[derive(Debug)]
pub(crate) struct Rollups {
    ledger: Arc<Rollup>,
    calls: Arc<Rollup>,
    kept: Mutex<Kept>,
    /// Wakes the thread that makes sums; there is none where nothing asks twice.
    maker: Mutex<Option<SyncSender<()>>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By path of the file; `None` where its sums would hardly be fewer rows.
    sums: HashMap<String, Option<RecordBatch>>,
    bytes: usize,
}

impl Rollups {
    /// No sums yet. `state` knows the functions.
    pub(crate) fn new(state: &SessionState) -> Result<Self> {
        Ok(Self {
            ledger: Arc::new(Rollup::new(state, Table::Ledger)?),
            calls: Arc::new(Rollup::new(state, Table::Calls)?),
            kept: Mutex::default(),
            maker: Mutex::default(),
        })
    }

    /// The rollup of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Rollup>> {
        [&self.ledger, &self.calls]
            .into_iter()
            .find(|rollup| rollup.name == name)
    }

    /// Makes sums from now on, on a thread of its own, newest days first: those of all files at once, then those of a
    /// file that a question found without.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub(crate) fn keep(self: &Arc<Self>, lake: Lake, state: SessionState) -> std::io::Result<()> {
        let (wake, woken) = sync_channel(1);
        let rollups = Arc::downgrade(self);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("rollup".to_owned())
            .stack_size(crate::limits::QUERY_STACK_BYTES)
            .spawn(move || make(&rollups, &lake, &state, &runtime, &woken))?;
        *self.maker.lock() = Some(wake);
        Ok(())
    }

    fn wake(&self) {
        if let Some(maker) = &*self.maker.lock() {
            // Awake already, or gone: both are fine.
            let _ = maker.try_send(());
        }
    }

    /// Forgets files that are no more, and sums up those that have no sums and are `worth` it. How many it made.
    pub(crate) async fn make_all(&self, lake: &Lake, state: &SessionState, worth: Worth) -> Result<usize> {
        let mut n_made = 0;
        for rollup in [&self.ledger, &self.calls] {
            let snapshot = lake.snapshot(rollup.of).map_err(external)?;
            let live: HashSet<&str> = snapshot.files.iter().map(|file| file.path.as_str()).collect();
            let folder = format!("/{}/", rollup.of.name());
            self.kept
                .lock()
                .forget(|path| !path.contains(&folder) || live.contains(path));
            let mut files: Vec<&DataFile> = snapshot.files.iter().filter(|file| worth.may_have_sums(file)).collect();
            files.sort_by(|a, b| b.day.cmp(&a.day).then_with(|| a.path.cmp(&b.path)));
            for file in files {
                let is_wanted = {
                    let kept = self.kept.lock();
                    !kept.sums.contains_key(&file.path) && kept.bytes < ROLLUP_BYTES_MAX
                };
                if is_wanted {
                    let sums = rollup.sums_of(file, state).await?;
                    self.kept.lock().keep(file, sums, worth);
                    n_made += 1;
                }
            }
        }
        Ok(n_made)
    }
}

/// Which files get sums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Worth {
    /// Rows of the file at least.
    pub(crate) file_rows_min: u64,
    /// Rows of the file for each row of its sums, at least.
    pub(crate) growth_min: u64,
}

impl Default for Worth {
    fn default() -> Self {
        Self {
            file_rows_min: ROLLUP_FILE_ROWS_MIN,
            growth_min: ROLLUP_GROWTH_MIN,
        }
    }
}

impl Worth {
    /// A small file is soon merged, and quickly read; one that names no tenant may hold several.
    fn may_have_sums(self, file: &DataFile) -> bool {
        !file.tenant.is_empty() && file.n_rows >= self.file_rows_min
    }
}

fn make(
    rollups: &Weak<Rollups>,
    lake: &Lake,
    state: &SessionState,
    runtime: &tokio::runtime::Runtime,
    woken: &Receiver<()>,
) {
    loop {
        let Some(rollups) = rollups.upgrade() else { return };
        match runtime.block_on(rollups.make_all(lake, state, Worth::default())) {
            Ok(0) => {}
            Ok(n_files) => {
                let bytes = rollups.kept.lock().bytes;
                tracing::debug!(n_files, bytes, "summed up data files by hour");
            }
            // A file that was merged away meanwhile, or no memory: questions read the lines.
            Err(error) => tracing::debug!(%error, "data files could not be summed up"),
        }
        drop(rollups);
        if woken.recv().is_err() {
            return;
        }
    }
}

impl Kept {
    fn forget(&mut self, is_live: impl Fn(&str) -> bool) {
        self.sums.retain(|path, sums| {
            let is_live = is_live(path);
            if !is_live {
                self.bytes -= sums.as_ref().map_or(0, RecordBatch::get_array_memory_size);
            }
            is_live
        });
    }

    fn keep(&mut self, file: &DataFile, sums: RecordBatch, worth: Worth) {
        let n_rows = u64::try_from(sums.num_rows()).unwrap_or(u64::MAX);
        let sums = (n_rows.saturating_mul(worth.growth_min) <= file.n_rows).then_some(sums);
        self.bytes += sums.as_ref().map_or(0, RecordBatch::get_array_memory_size);
        self.sums.insert(file.path.clone(), sums);
    }
}

impl Rollup {
    /// The sums of one file, in the form in which they are kept.
    async fn sums_of(&self, file: &DataFile, state: &SessionState) -> Result<RecordBatch> {
        let rows = Arc::new(LakeTable::of_file(self.of, file)?);
        let physical = state.create_physical_plan(&self.summed(rows)?).await?;
        let batches = collect(physical, state.task_ctx()).await?;
        let sums = concat_batches(&self.schema, &batches)?;
        let kept = self.kept_schema();
        let columns = sums.columns().iter().zip(kept.fields());
        let columns = columns.map(|(column, field)| Ok(cast(column, field.data_type())?));
        Ok(RecordBatch::try_new(
            Arc::clone(&kept),
            columns.collect::<Result<Vec<ArrayRef>>>()?,
        )?)
    }

    /// As the columns, but a text that many rows have is kept once.
    fn kept_schema(&self) -> SchemaRef {
        let fields = self.schema.fields().iter().map(|field| match field.data_type() {
            DataType::Utf8 => {
                let type_kept = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
                Field::new(field.name(), type_kept, true)
            }
            other => Field::new(field.name(), other.clone(), true),
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Sums at hand in the columns of this table.
    fn at_hand(&self, sums: Vec<RecordBatch>, rows: Option<Expr>) -> Result<LogicalPlanBuilder> {
        let table = Arc::new(MemTable::try_new(self.kept_schema(), vec![sums])?);
        let typed = self
            .schema
            .fields()
            .iter()
            .map(|field| cast_to(ident(field.name()), field.data_type().clone()).alias(field.name()));
        let plan = LogicalPlanBuilder::scan(self.name, provider_as_source(table), None)?.project(typed)?;
        match rows {
            Some(rows) => plan.filter(rows),
            None => Ok(plan),
        }
    }
}

/// A rollup of one principal's rows of one snapshot.
#[derive(Debug)]
pub(crate) struct RollupTable {
    rollup: Arc<Rollup>,
    /// All of the rows: for pruning, and for what a role may see.
    lines: Arc<dyn TableProvider>,
    summed: Vec<(DataFile, RecordBatch)>,
    rest: Arc<LakeTable>,
}

impl RollupTable {
    /// The rollup called `name` over `lines`, the table that it sums up.
    ///
    /// # Errors
    /// Where `lines` is not that table.
    pub(crate) fn new(rollups: &Rollups, rollup: &Arc<Rollup>, lines: Arc<dyn TableProvider>) -> Result<Self> {
        let table = lake_table(&lines)?;
        let (mut summed, mut is_missing) = (Vec::new(), false);
        let rest = {
            let kept = rollups.kept.lock();
            table.without_files(|file| match kept.sums.get(&file.path) {
                Some(Some(sums)) => {
                    summed.push((file.clone(), sums.clone()));
                    true
                }
                Some(None) => false,
                None => {
                    is_missing |= Worth::default().may_have_sums(file);
                    false
                }
            })
        };
        if is_missing {
            rollups.wake();
        }
        Ok(Self {
            rollup: Arc::clone(rollup),
            summed,
            rest: Arc::new(rest),
            lines,
        })
    }

    /// The table that a rollup of this name is over.
    pub(crate) fn base(rollup: &Rollup) -> Table {
        rollup.of
    }
}

fn lake_table(table: &Arc<dyn TableProvider>) -> Result<&LakeTable> {
    let any: &dyn Any = table.as_ref();
    any.downcast_ref::<LakeTable>()
        .ok_or_else(|| datafusion::common::internal_datafusion_err!("a rollup is over a table of the lake"))
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> datafusion::error::DataFusionError {
    datafusion::error::DataFusionError::External(Box::new(error))
}

#[async_trait]
impl TableProvider for RollupTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.rollup.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
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
        let bounds = self.rollup.bounds(filters);
        let lines = lake_table(&self.lines)?;
        let files: Vec<DataFile> = self.summed.iter().map(|(file, _)| file.clone()).collect();
        let keep = match &bounds {
            Some(bounds) => lines.can_match(state, &files, bounds)?,
            None => vec![true; files.len()],
        };
        let summed = self.summed.iter().zip(keep).filter(|(_, keep)| *keep);
        let summed: Vec<RecordBatch> = summed.map(|((_, sums), _)| sums.clone()).collect();

        let mut plan = self.rollup.at_hand(summed, lines.row_filter())?;
        if !self.rest.is_empty() {
            let rest = Arc::clone(&self.rest) as Arc<dyn TableProvider>;
            plan = plan.union(self.rollup.as_they_are(rest, bounds)?.build()?)?;
        }
        if let Some(filter) = conjunction(filters.to_vec()) {
            plan = plan.filter(filter)?;
        }
        if let Some(projection) = projection {
            let asked = projection
                .iter()
                .map(|index| ident(self.rollup.schema.field(*index).name()));
            plan = plan.project(asked)?;
        }
        state.create_physical_plan(&plan.build()?).await
    }
}
