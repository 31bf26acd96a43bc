//! Sums of the ledger and of calls by hour and by day: what reports read instead of each line.
//!
//! A data file never changes under its name, so neither does its sum. The sums of a file are made once, in the
//! background, kept in memory and used by every snapshot that has the file; a file without them, and the hot rows,
//! are read as they are, put into the same columns. So `rollup_hour`, `rollup_day` and the same of calls always add
//! up to exactly what `ledger` and `calls` of the same snapshot add up to, with any number of sums at hand, also none.
//!
//! ```text
//! rollup_hour = UnionAll
//!     sums of files that have them        RecordBatches in memory
//!     lines of the other files, hot ones  LakeTable, its time cut to the hour
//! ```
//!
//! The sums of a day are those of its hours, summed once more.
//!
//! Columns with a value for nearly each line (ids, sessions) are not in them: a question about those reads the lines.
//! Users are in sums of their own, by hour too, which know no tool and no cause: with those there would be nearly as
//! many rows as lines. A group may have several rows, for files and late lines add theirs: sum them.
//!
//! Guarantee: a sum keeps apart what is priced and what is not, so that an unknown cost stays NULL. Rows of another
//! tenant are in no sum: a file that names no tenant gets none. The row filter of a principal is part of the scan.

use std::any::Any;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::{MemTable, TableType, provider_as_source};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::functions_aggregate::expr_fn::{max, min, sum};
use datafusion::logical_expr::expr_fn::cast as cast_to;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, TableProviderFilterPushDown, ident, lit,
};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, collect};
use parking_lot::Mutex;
use spanledger_lake::{DataFile, Lake, Table};

use crate::limits::{ROLLUP_BYTES_MAX, ROLLUP_FILE_ROWS_MIN, ROLLUP_GROWTH_MIN};
use crate::table::LakeTable;
use crate::views::IS_UNPRICED;

/// Sums of `ledger`, and of `calls`, by hour.
pub(crate) const HOUR: [&str; 2] = ["rollup_hour", "rollup_hour_calls"];
/// The same by UTC day.
pub(crate) const DAY: [&str; 2] = ["rollup_day", "rollup_day_calls"];
/// By hour and user, whatever caused it.
pub(crate) const USERS: [&str; 2] = ["rollup_users", "rollup_users_calls"];

/// Columns that both tables have under the same name.
const SHARED: [&str; 10] = [
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
];
/// Who used what it was: in the sums of users alone.
const USER: &str = "user_id";
/// What it was for: in all sums but those of users.
const CAUSES: [&str; 4] = ["server", "tool", "prompt", "resource_uri"];
/// What else tells lines apart.
const OF_LINES: [&str; 3] = ["model", "bucket", "method"];
/// The same but for those of users.
const CAUSES_OF_LINES: [&str; 4] = ["cause", "touch", "price_id", "price_version"];
/// Sums of lines.
const LINE_SUMS: [&str; 6] = [
    "n_calls",
    "tokens",
    "quantity",
    "list_cost",
    "contracted_cost",
    "effective_cost",
];
/// The first and the last of their times, as they are.
const EXTREMES: [&str; 2] = ["first_time", "last_time"];
/// A sum of some lines with and some without it would hide what is unknown: both kinds get rows of their own.
const KEPT_APART: [&str; 3] = ["list_cost", "contracted_cost", "effective_cost"];

/// What one row stands for. In this order sums are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grain {
    Hour,
    Day,
    /// A user's hour.
    User,
}

impl Grain {
    /// The start of it that a time is in.
    fn cut(self) -> &'static str {
        match self {
            Self::Hour | Self::User => "date_trunc('hour', time)",
            Self::Day => "date_trunc('day', time)",
        }
    }

    fn us(self) -> i64 {
        match self {
            Self::Hour | Self::User => 3_600_000_000,
            Self::Day => 86_400_000_000,
        }
    }

    fn names(self) -> [&'static str; 2] {
        match self {
            Self::Hour => HOUR,
            Self::Day => DAY,
            Self::User => USERS,
        }
    }
}

/// Columns with what each is in terms of the rows that are summed up.
#[derive(Debug)]
struct Columns {
    /// What rows are grouped by; the first is the time.
    keys: Vec<(Expr, String)>,
    /// What is summed.
    sums: Vec<(Expr, String)>,
    /// What the least, and the greatest, is kept of.
    extremes: [Expr; 2],
    /// What else rows are told apart by, without being columns.
    apart: Vec<Expr>,
}

impl Columns {
    /// In terms of the lines of a table.
    fn of_lines(state: &SessionState, of: Table, grain: Grain, lines: &DFSchema) -> Result<Self> {
        let parsed = |sql: &str| state.create_logical_expr(sql, lines);
        let mut keys = vec![(cut(parsed(grain.cut())?), "time".to_owned())];
        let mut same = |names: &[&str]| keys.extend(names.iter().map(|name| (ident(*name), (*name).to_owned())));
        same(&SHARED);
        match grain {
            Grain::User => same(&[USER]),
            Grain::Hour | Grain::Day => same(&CAUSES),
        }
        if of == Table::Ledger {
            same(&OF_LINES);
            if grain != Grain::User {
                same(&CAUSES_OF_LINES);
            }
            return Ok(Self {
                keys,
                sums: LINE_SUMS.map(|name| (ident(name), name.to_owned())).to_vec(),
                extremes: [ident("time"), ident("time")],
                apart: KEPT_APART.map(|name| ident(name).is_null()).to_vec(),
            });
        }
        keys.extend([
            (
                parsed("CASE WHEN response_model IS NOT NULL THEN response_model ELSE request_model END")?,
                "model".to_owned(),
            ),
            (ident("kind"), "kind".to_owned()),
            (ident("status"), "status".to_owned()),
            (parsed(&format!("({IS_UNPRICED}) IS TRUE"))?, "unpriced".to_owned()),
        ]);
        Ok(Self {
            keys,
            sums: vec![
                (lit(1_i64), "calls".to_owned()),
                (ident("reported_cost"), "reported_cost".to_owned()),
            ],
            extremes: [ident("time"), ident("time")],
            apart: vec![ident("reported_cost").is_null()],
        })
    }

    /// The same columns in terms of narrower sums.
    fn of_sums(&self, state: &SessionState, grain: Grain, sums: &DFSchema) -> Result<Self> {
        let same = |columns: &[(Expr, String)]| -> Vec<(Expr, String)> {
            columns.iter().map(|(_, name)| (ident(name), name.clone())).collect()
        };
        let mut keys = same(&self.keys);
        keys[0].0 = cut(state.create_logical_expr(grain.cut(), sums)?);
        Ok(Self {
            keys,
            sums: same(&self.sums),
            extremes: EXTREMES.map(ident),
            apart: self.apart.clone(),
        })
    }

    /// Each with its name, in the order in which they are columns.
    fn all(&self) -> Vec<(Expr, String)> {
        let extremes = self.extremes.iter().cloned().zip(EXTREMES.map(str::to_owned));
        let summed = self.keys.iter().chain(&self.sums).cloned();
        summed.chain(extremes).collect()
    }

    /// Rows summed up, each column of the type that `schema` says.
    fn summed(&self, rows: LogicalPlanBuilder, schema: &Schema) -> Result<LogicalPlan> {
        let apart = self.apart.iter().enumerate();
        let apart = apart.map(|(index, expression)| expression.clone().alias(format!("apart_{index}")));
        let keys = self.keys.iter();
        let keys = keys.map(|(expression, name)| expression.clone().alias(format!("key_{name}")));
        let sums = self.sums.iter();
        let sums = sums.map(|(expression, name)| sum(expression.clone()).alias(format!("sum_{name}")));
        let [first, last] = self.extremes.clone();
        let extremes = [min(first), max(last)].into_iter().zip(EXTREMES);
        let sums = sums.chain(extremes.map(|(expression, name)| expression.alias(format!("sum_{name}"))));
        let typed = schema.fields().iter().enumerate().map(|(index, field)| {
            let kind = if index < self.keys.len() { "key" } else { "sum" };
            let column = ident(format!("{kind}_{}", field.name()));
            cast_to(column, field.data_type().clone()).alias(field.name())
        });
        rows.aggregate(keys.chain(apart), sums)?
            .project(typed.collect::<Vec<_>>())?
            .build()
    }
}

/// A time of the type of all times.
fn cut(time: Expr) -> Expr {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
    cast_to(time, utc)
}

/// One of the rollups.
#[derive(Debug)]
pub(crate) struct Rollup {
    name: &'static str,
    of: Table,
    grain: Grain,
    lines: Columns,
    /// In terms of the sums by hour.
    hours: Columns,
    schema: SchemaRef,
}

impl Rollup {
    fn new(state: &SessionState, of: Table, grain: Grain) -> Result<Self> {
        let stored = DFSchema::try_from(of.schema())?;
        let lines = Columns::of_lines(state, of, grain, &stored)?;
        let fields = lines.all().into_iter();
        let fields = fields.map(|(expression, name)| Ok(Field::new(name, expression.get_type(&stored)?, true)));
        let schema = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
        Ok(Self {
            name: grain.names()[usize::from(of == Table::Calls)],
            of,
            grain,
            hours: lines.of_sums(state, grain, &DFSchema::try_from(Arc::clone(&schema))?)?,
            lines,
            schema,
        })
    }

    /// Some columns of the lines of `rows` that can pass `bounds`.
    async fn as_they_are(
        &self,
        state: &dyn Session,
        rows: &LakeTable,
        bounds: Option<Expr>,
        columns: &[usize],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = self.lines.all();
        let (stored, mut read) = (rows.schema(), BTreeSet::new());
        for column in columns.iter().flat_map(|index| all[*index].0.column_refs()) {
            read.insert(stored.index_of(&column.name)?);
        }
        let (read, bounds): (Vec<usize>, Vec<Expr>) = (read.into_iter().collect(), bounds.into_iter().collect());
        let rows = rows.scan(state, Some(&read), &bounds, None).await?;
        self.typed(state, rows, columns, |index| all[index].0.clone())
    }

    /// Some columns of sums at hand.
    fn at_hand(
        &self,
        state: &dyn Session,
        sums: Vec<RecordBatch>,
        columns: &[usize],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let sums = MemorySourceConfig::try_new_exec(&[sums], self.kept_schema(), Some(columns.to_vec()))?;
        self.typed(state, sums, columns, |index| ident(self.schema.field(index).name()))
    }

    fn typed(
        &self,
        state: &dyn Session,
        rows: Arc<dyn ExecutionPlan>,
        columns: &[usize],
        expression: impl Fn(usize) -> Expr,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let read = DFSchema::try_from(rows.schema())?;
        let typed = columns.iter().map(|index| {
            let field = self.schema.field(*index);
            let column = cast_to(expression(*index), field.data_type().clone());
            Ok((state.create_physical_expr(column, &read)?, field.name().clone()))
        });
        let typed: Vec<_> = typed.collect::<Result<_>>()?;
        Ok(Arc::new(ProjectionExec::try_new(typed, rows)?))
    }

    /// What a filter on this table's columns says of the rows that are summed up: it may let too many pass, for it is
    /// asked again of the sums.
    fn bounds(&self, filters: &[Expr]) -> Option<Expr> {
        let parts = filters.iter().flat_map(|filter| split_conjunction(filter));
        conjunction(parts.filter_map(|part| self.bound(part)))
    }

    fn bound(&self, part: &Expr) -> Option<Expr> {
        let columns = part.column_refs();
        let is_same = |name: &str| {
            self.lines
                .keys
                .iter()
                .any(|(column, key)| key == name && *column == ident(name))
        };
        if columns.iter().all(|column| is_same(&column.name)) {
            return Some(part.clone());
        }
        // Of time only `time < …` and the like: a line of an hour is up to an hour later than its start.
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
            Operator::Lt | Operator::LtEq => Some(ident("time").lt_eq(at(us.saturating_add(self.grain.us())))),
            _ => None,
        }
    }
}

/// The sums that are at hand, and who makes more.
#[derive(Debug)]
pub(crate) struct Rollups {
    /// By table, and of a table by grain.
    all: [[Arc<Rollup>; 3]; 2],
    kept: Mutex<Kept>,
    /// Wakes the thread that makes sums; there is none where nothing asks twice.
    maker: Mutex<Option<SyncSender<()>>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By path of the file and grain; `None` where its sums would hardly be fewer rows.
    sums: HashMap<String, [Option<RecordBatch>; 3]>,
    /// All of them, and of these the sums of users.
    bytes: [usize; 2],
}

impl Rollups {
    /// No sums yet. `state` knows the functions.
    pub(crate) fn new(state: &SessionState) -> Result<Self> {
        let rollup = |of, grain| Ok::<_, DataFusionError>(Arc::new(Rollup::new(state, of, grain)?));
        let of = |table| {
            let grains = [Grain::Hour, Grain::Day, Grain::User];
            let [hour, day, user] = grains.map(|grain| rollup(table, grain));
            Ok::<_, DataFusionError>([hour?, day?, user?])
        };
        Ok(Self {
            all: [of(Table::Ledger)?, of(Table::Calls)?],
            kept: Mutex::default(),
            maker: Mutex::default(),
        })
    }

    /// The rollup of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Rollup>> {
        self.all.iter().flatten().find(|rollup| rollup.name == name)
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
        let mut files: Vec<(&[Arc<Rollup>; 3], DataFile)> = Vec::new();
        for of_table in &self.all {
            let [by_hour, ..] = of_table;
            let snapshot = lake.snapshot(by_hour.of).map_err(external)?;
            let live: HashSet<&str> = snapshot.files.iter().map(|file| file.path.as_str()).collect();
            let folder = format!("/{}/", by_hour.of.name());
            self.kept
                .lock()
                .forget(|path| !path.contains(&folder) || live.contains(path));
            let worthy = snapshot.files.iter().filter(|file| worth.may_have_sums(file));
            files.extend(worthy.map(|file| (of_table, file.clone())));
        }
        // A report asks for lines and calls: of the newest days both, where there is not room for all.
        files.sort_by(|(_, a), (_, b)| b.day.cmp(&a.day).then_with(|| a.path.cmp(&b.path)));
        let mut n_made = 0;
        for ([by_hour, by_day, by_user], file) in files {
            let is_wanted = {
                let kept = self.kept.lock();
                !kept.sums.contains_key(&file.path) && kept.bytes[0] < ROLLUP_BYTES_MAX
            };
            if is_wanted {
                let hours = by_hour.sums_of_file(&file, state).await?;
                let days = by_day.sums_of_hours(&hours, state).await?;
                let users = by_user.sums_of_file(&file, state).await?;
                let sums = [
                    by_hour.to_keep(&hours)?,
                    by_day.to_keep(&days)?,
                    by_user.to_keep(&users)?,
                ];
                self.kept.lock().keep(&file, sums, worth);
                n_made += 1;
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
                let [bytes, _] = rollups.kept.lock().bytes;
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
                for (bytes, freed) in self.bytes.iter_mut().zip(bytes_of(sums)) {
                    *bytes -= freed;
                }
            }
            is_live
        });
    }

    fn keep(&mut self, file: &DataFile, sums: [RecordBatch; 3], worth: Worth) {
        let mut sums = sums.map(|sums| {
            let n_rows = u64::try_from(sums.num_rows()).unwrap_or(u64::MAX);
            (n_rows.saturating_mul(worth.growth_min) <= file.n_rows).then_some(sums)
        });
        // There are the most of users, who are asked for the least: the others keep half of the room.
        if self.bytes[1] + bytes_of(&sums)[1] > ROLLUP_BYTES_MAX / 2 {
            sums[Grain::User as usize] = None;
        }
        for (bytes, more) in self.bytes.iter_mut().zip(bytes_of(&sums)) {
            *bytes += more;
        }
        self.sums.insert(file.path.clone(), sums);
    }
}

/// Bytes of all sums of a file, and of those of users.
fn bytes_of(sums: &[Option<RecordBatch>; 3]) -> [usize; 2] {
    let bytes = sums
        .each_ref()
        .map(|sums| sums.as_ref().map_or(0, RecordBatch::get_array_memory_size));
    [bytes.iter().sum(), bytes[Grain::User as usize]]
}

impl Rollup {
    async fn sums_of_file(&self, file: &DataFile, state: &SessionState) -> Result<RecordBatch> {
        let rows = provider_as_source(Arc::new(LakeTable::of_file(self.of, file)?));
        let rows = LogicalPlanBuilder::scan(self.of.name(), rows, None)?;
        self.collected(self.lines.summed(rows, &self.schema)?, state).await
    }

    async fn sums_of_hours(&self, hours: &RecordBatch, state: &SessionState) -> Result<RecordBatch> {
        let rows = Arc::new(MemTable::try_new(hours.schema(), vec![vec![hours.clone()]])?);
        let rows = LogicalPlanBuilder::scan(self.name, provider_as_source(rows), None)?;
        self.collected(self.hours.summed(rows, &self.schema)?, state).await
    }

    async fn collected(&self, plan: LogicalPlan, state: &SessionState) -> Result<RecordBatch> {
        let physical = state.create_physical_plan(&plan).await?;
        let batches = collect(physical, state.task_ctx()).await?;
        let columns: Vec<RecordBatch> = batches
            .into_iter()
            .map(|batch| RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec()))
            .collect::<std::result::Result<_, _>>()?;
        Ok(concat_batches(&self.schema, &columns)?)
    }

    /// Sums in the form in which they are kept.
    fn to_keep(&self, sums: &RecordBatch) -> Result<RecordBatch> {
        let kept = self.kept_schema();
        let columns = sums.columns().iter().zip(kept.fields());
        let columns = columns.map(|(column, field)| Ok(cast(column, field.data_type())?));
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        Ok(RecordBatch::try_new(kept, columns)?)
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
                Some(sums) => {
                    let sums = &sums[rollup.grain as usize];
                    summed.extend(sums.iter().map(|sums| (file.clone(), sums.clone())));
                    sums.is_some()
                }
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

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
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
        let (schema, bounds) = (&self.rollup.schema, self.rollup.bounds(filters));
        let lines = lake_table(&self.lines)?;
        let filter = conjunction(filters.iter().cloned().chain(lines.row_filter()));
        let asked: Vec<usize> = projection.map_or_else(|| (0..schema.fields().len()).collect(), Clone::clone);
        let mut columns: BTreeSet<usize> = asked.iter().copied().collect();
        for column in filter.iter().flat_map(Expr::column_refs) {
            columns.insert(schema.index_of(&column.name)?);
        }
        let columns: Vec<usize> = columns.into_iter().collect();

        let files: Vec<DataFile> = self.summed.iter().map(|(file, _)| file.clone()).collect();
        let keep = match &bounds {
            Some(bounds) => lines.can_match(state, &files, bounds)?,
            None => vec![true; files.len()],
        };
        let summed = self.summed.iter().zip(keep).filter(|(_, keep)| *keep);
        let summed: Vec<RecordBatch> = summed.map(|((_, sums), _)| sums.clone()).collect();
        let mut parts = vec![self.rollup.at_hand(state, summed, &columns)?];
        if !self.rest.is_empty() {
            parts.push(self.rollup.as_they_are(state, &self.rest, bounds, &columns).await?);
        }
        let mut rows = UnionExec::try_new(parts)?;
        let read = DFSchema::try_from(rows.schema())?;
        if let Some(filter) = filter {
            let predicate = state.create_physical_expr(filter, &read)?;
            rows = Arc::new(FilterExec::try_new(predicate, rows)?);
        }
        let names = asked.iter().map(|index| schema.field(*index).name());
        let shown = names.map(|name| Ok((state.create_physical_expr(ident(name), &read)?, name.clone())));
        let shown: Vec<_> = shown.collect::<Result<_>>()?;
        Ok(Arc::new(ProjectionExec::try_new(shown, rows)?))
    }
}
