//! [`Engine`]: SQL over one lake, read-only, bounded, for one principal at a time.
//!
//! ```text
//! sql ─► sandbox (text, statement) ─► plan ─► verify (nothing changes) ─► run ─► ResultSet
//!                                        │                                 │
//!                                 catalog of the principal       time, rows, bytes, memory
//! ```
//!
//! Queries run on threads of their own: with a stack that the largest allowed statement fits in, and away
//! from the threads that acknowledge telemetry. A caller that goes away, or a limit, stops its query.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::{ObjectStoreRegistry, ObjectStoreUrl};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::object_store::ObjectStore;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use futures::StreamExt;
use parking_lot::RwLock;
use spanledger_access::Principal;
use spanledger_lake::Lake;
use spanledger_ledger::allocation::RuleSet;
use spanledger_ledger::attribution::Policy;
use spanledger_ledger::prices::PriceBook;
use spanledger_model::Clock;
use tokio::sync::Semaphore;
use url::Url;

use crate::catalog::{CATALOG, Catalog, SCHEMA};
use crate::dialects::{Dialects, NoDialects};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{
    CONCURRENT_QUERIES_MAX, MEMORY_BYTES_MAX, METADATA_CACHE_BYTES, QUERY_STACK_BYTES, RESULT_BYTES_MAX, ROWS_DEFAULT,
    SPILL_BYTES_MAX, TIMEOUT_DEFAULT,
};
use crate::rollup::Rollups;
use crate::scanned::{Scanned, file_bytes};
use crate::table::STORE_URL;
use crate::views::PriceTable;
use crate::{functions, sandbox, sight};

/// Bounds of one query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryOptions {
    /// Rows of the answer; more are cut off and the answer says so.
    pub rows_max: usize,
    /// Time it may take, waiting for its turn included.
    pub timeout: Duration,
    /// Bytes of files that it may have to read; a statement that may need more is refused before it runs.
    pub file_bytes_max: u64,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self {
            rows_max: ROWS_DEFAULT,
            timeout: TIMEOUT_DEFAULT,
            file_bytes_max: u64::MAX,
        }
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct ResultSet {
    /// Columns.
    pub schema: SchemaRef,
    /// Rows.
    pub batches: Vec<RecordBatch>,
    /// True where there were more rows than were asked for.
    pub truncated: bool,
}

impl ResultSet {
    /// Number of rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// The query engine of a lake. Clones share it.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    rules: Arc<RwLock<Arc<RuleSet>>>,
    policy: Policy,
    scanned: Option<Scanned>,
}

struct Shared {
    lake: Lake,
    priced: RwLock<Priced>,
    rollups: Arc<Rollups>,
    clock: Arc<dyn Clock>,
    turns: Arc<Semaphore>,
    threads: Threads,
}

/// What depends on the price book. A session has the one that was in use when it began.
#[derive(Clone)]
struct Priced {
    book: Arc<PriceBook>,
    base: SessionState,
    prices: Arc<PriceTable>,
}

impl Priced {
    fn new(mut base: SessionState, book: Arc<PriceBook>, dialects: &Arc<dyn Dialects>) -> Result<Self> {
        functions::register(&mut base, &book, dialects)?;
        Ok(Self {
            prices: Arc::new(PriceTable::new(Arc::clone(&book))),
            book,
            base,
        })
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("lake", &self.shared.lake)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine over a lake, with its own threads, that knows no dialects.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) where threads or the session cannot be made.
    pub fn new(lake: Lake, book: Arc<PriceBook>, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::with_dialects(lake, book, clock, Arc::new(NoDialects))
    }

    /// An engine over a lake, with its own threads, that can say which dialect reads what.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_dialects(
        lake: Lake,
        book: Arc<PriceBook>,
        clock: Arc<dyn Clock>,
        dialects: Arc<dyn Dialects>,
    ) -> Result<Self> {
        let n_threads = std::thread::available_parallelism().map_or(2, usize::from);
        let base = SessionStateBuilder::new()
            .with_config(session_config(n_threads))
            .with_runtime_env(runtime_env(&lake)?)
            .with_default_features()
            .build();
        Ok(Self {
            rules: Arc::default(),
            policy: Policy::default(),
            scanned: None,
            shared: Arc::new(Shared {
                lake,
                rollups: Arc::new(Rollups::new(&base)?),
                priced: RwLock::new(Priced::new(base, book, &dialects)?),
                clock,
                turns: Arc::new(Semaphore::new(CONCURRENT_QUERIES_MAX)),
                threads: Threads::start(n_threads)?,
            }),
        })
    }

    /// The same engine with these allocation rules: what explains who pays, and the shared costs.
    #[must_use]
    pub fn with_rules(self, rules: Arc<RuleSet>) -> Self {
        let rules = Arc::new(RwLock::new(rules));
        Self { rules, ..self }
    }

    /// The same engine for a ledger whose costs were divided like this: what recomputes the parts of a call.
    #[must_use]
    pub fn with_policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// The same engine, whose statements `scanned` looks at.
    #[must_use]
    pub fn watched_by(&self, scanned: &Scanned) -> Self {
        Self {
            scanned: Some(scanned.clone()),
            ..self.clone()
        }
    }

    /// Makes sums by hour from now on, in the background: for a server, which is asked more than once.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) where the thread cannot be started.
    pub fn keep_rollups(&self) -> Result<()> {
        let base = self.shared.priced.read().base.clone();
        let one_at_a_time = base.config().clone().with_target_partitions(1);
        let state = SessionStateBuilder::new_from_existing(base)
            .with_config(one_at_a_time)
            .build();
        let kept = self.shared.rollups.keep(self.shared.lake.clone(), state);
        kept.map_err(|error| Error::internal("the thread that sums up files could not be started").with_source(error))
    }

    /// Makes the sums by hour of all files that have none, however small, and says how many.
    #[cfg(test)]
    pub(crate) async fn make_rollups(&self) -> usize {
        let base = self.shared.priced.read().base.clone();
        let worth = crate::rollup::Worth {
            file_rows_min: 1,
            growth_min: 0,
        };
        self.shared
            .rollups
            .make_all(&self.shared.lake, &base, worth)
            .await
            .unwrap_or(0)
    }

    /// The allocation rules.
    #[must_use]
    pub fn rules(&self) -> Arc<RuleSet> {
        Arc::clone(&self.rules.read())
    }

    /// Explains and splits by other rules from the next query on, in every clone.
    pub fn allocate_by(&self, rules: Arc<RuleSet>) {
        *self.rules.write() = rules;
    }

    /// The lake that is asked.
    #[must_use]
    pub fn lake(&self) -> &Lake {
        &self.shared.lake
    }

    /// The price book.
    #[must_use]
    pub fn book(&self) -> Arc<PriceBook> {
        Arc::clone(&self.shared.priced.read().book)
    }

    /// Prices by another book from the next query on.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) where the session cannot be made.
    pub fn charge_by(&self, book: Arc<PriceBook>) -> Result<()> {
        let mut priced = self.shared.priced.write();
        let mut base = priced.base.clone();
        functions::register_price(&mut base, &book)?;
        *priced = Priced {
            prices: Arc::new(PriceTable::new(Arc::clone(&book))),
            book,
            base,
        };
        Ok(())
    }

    /// How many more queries can run at this moment before one has to wait.
    #[must_use]
    pub fn free_turns(&self) -> usize {
        self.shared.turns.available_permits()
    }

    /// Pieces of work that its threads have not let go of: a query that ended or was given up leaves none.
    #[must_use]
    pub fn n_working(&self) -> usize {
        self.shared.threads.n_working()
    }

    /// Now, in nanoseconds since the Unix epoch.
    #[must_use]
    pub fn now_ns(&self) -> i64 {
        self.shared.clock.now_ns()
    }

    /// Runs one read-only statement as `principal`, who sees rows of its own tenant only, of these only what its
    /// row filter leaves, and texts only with `payloads:read`.
    ///
    /// # Errors
    /// [`Forbidden`](ErrorKind::Forbidden) for a table or column that its rows or scopes do not allow;
    /// [`Invalid`](ErrorKind::Invalid) where the statement is wrong or would change something, with the
    /// nearest valid names; [`TooLarge`](ErrorKind::TooLarge) where it or its answer is over a limit;
    /// [`Busy`](ErrorKind::Busy) where it ran out of time or memory.
    pub async fn sql(&self, principal: &Principal, sql: &str, options: &QueryOptions) -> Result<ResultSet> {
        self.session(principal).query(sql, options).await
    }

    /// Several queries of one principal over the same snapshots, so that their answers agree.
    pub(crate) fn session(&self, principal: &Principal) -> Session {
        let Priced { mut base, prices, .. } = self.shared.priced.read().clone();
        let now = DateTime::from_timestamp_micros(self.now_ns().div_euclid(1_000));
        base.mark_start_execution();
        base.execution_props_mut().query_execution_start_time = now;
        let rules = self.rules();
        let catalog = Catalog::new(
            self.shared.lake.clone(),
            principal.clone(),
            base,
            prices,
            Arc::clone(&rules),
            Arc::clone(&self.shared.rollups),
        );
        Session {
            catalog,
            rules,
            policy: self.policy,
            scanned: self.scanned.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

/// One principal's catalog with the engine's threads: the unit within which snapshots are the same.
pub(crate) struct Session {
    catalog: Catalog,
    rules: Arc<RuleSet>,
    policy: Policy,
    scanned: Option<Scanned>,
    shared: Arc<Shared>,
}

impl Session {
    /// The allocation rules.
    pub(crate) fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// The allocation rules, to be shared.
    pub(crate) fn shared_rules(&self) -> Arc<RuleSet> {
        Arc::clone(&self.rules)
    }

    /// The price book in use.
    pub(crate) fn book(&self) -> Arc<PriceBook> {
        Arc::clone(&self.shared.priced.read().book)
    }

    /// How the costs of the ledger were divided.
    pub(crate) fn policy(&self) -> Policy {
        self.policy
    }

    /// Runs one statement.
    pub(crate) async fn query(&self, sql: &str, options: &QueryOptions) -> Result<ResultSet> {
        sandbox::check_text(sql)?;
        let (sql, catalog, bounds) = (sql.to_owned(), self.catalog.clone(), options.clone());
        let scanned = self.scanned.clone();
        let turns = Arc::clone(&self.shared.turns);
        let timeout = options.timeout;
        let work = async move {
            let _turn = turns.acquire_owned().await.map_err(|_| shutting_down())?;
            let answer = run(&catalog.session(), &sql, &bounds, scanned.as_ref()).await;
            answer.map_err(|error| sight::of_hidden_column(&error, catalog.principal()).unwrap_or(error))
        };
        // The work is a task of its own, so that one stuck between two awaits cannot keep the limit from
        // being told; dropping its handle stops it at its next await.
        let bounded = async move {
            let mut task = AbortOnDrop(tokio::spawn(work));
            match tokio::time::timeout(timeout, &mut task.0).await {
                Ok(Ok(result)) => result,
                Ok(Err(join)) => Err(Error::internal("the query failed inside the engine").with_source(join)),
                Err(_elapsed) => Err(Error::new(
                    ErrorKind::Busy,
                    format!(
                        "the query took longer than {} s; narrow the time range or group less",
                        timeout.as_secs_f64()
                    ),
                )),
            }
        };
        let mut task = AbortOnDrop(self.shared.threads.spawn(bounded)?);
        match (&mut task.0).await {
            Ok(result) => result,
            Err(join) => Err(Error::internal("the query failed inside the engine").with_source(join)),
        }
    }
}

/// Plans, verifies and runs a statement, on a query thread.
async fn run(state: &SessionState, sql: &str, bounds: &QueryOptions, scanned: Option<&Scanned>) -> Result<ResultSet> {
    let rows_max = bounds.rows_max;
    let statement = sandbox::parse_query(sql)?;
    let plan = state.statement_to_plan(statement).await?;
    verify(&plan)?;
    let physical = crate::yielding::yielding(state.create_physical_plan(&plan).await?)?;
    if let Some(scanned) = scanned {
        scanned.watch(&physical);
    }
    let n_file_bytes = file_bytes(physical.as_ref());
    if n_file_bytes > bounds.file_bytes_max {
        return Err(Error::too_many_file_bytes(n_file_bytes, bounds.file_bytes_max));
    }
    let schema = physical.schema();
    let mut stream = execute_stream(physical, state.task_ctx())?;
    let (mut batches, mut n_rows, mut n_bytes, mut truncated) = (Vec::new(), 0, 0, false);
    while let Some(batch) = stream.next().await {
        let mut batch = batch?;
        if n_rows + batch.num_rows() > rows_max {
            batch = batch.slice(0, rows_max - n_rows);
            truncated = true;
        }
        n_rows += batch.num_rows();
        n_bytes += bytes_of(&batch);
        if n_bytes > RESULT_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("the answer is over {RESULT_BYTES_MAX} bytes; add a LIMIT, or select fewer columns"),
            ));
        }
        if batch.num_rows() > 0 {
            batches.push(batch);
        }
        if truncated {
            break;
        }
    }
    Ok(ResultSet {
        schema,
        batches,
        truncated,
    })
}

/// Bytes of a batch's own rows: a slice of a large hot batch counts as what it shows.
fn bytes_of(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns
        .map(|column| {
            column
                .to_data()
                .get_slice_memory_size()
                .unwrap_or_else(|_| column.get_array_memory_size())
        })
        .sum()
}

/// The last gate: whatever the parser let through, a plan that would change something is refused.
fn verify(plan: &LogicalPlan) -> Result<()> {
    let read_only = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    Ok(read_only.verify_plan(plan)?)
}

fn session_config(n_threads: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_target_partitions(n_threads)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true);
    let options = config.options_mut();
    options.execution.enable_recursive_ctes = false;
    options.execution.time_zone = Some("+00:00".to_owned());
    // `0.5` times a cost is an exact decimal, not a float.
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.explain.logical_plan_only = false;
    config
}

fn runtime_env(lake: &Lake) -> Result<Arc<RuntimeEnv>> {
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::OsTmpDirectory)
        .with_max_temp_directory_size(SPILL_BYTES_MAX);
    Ok(RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(MEMORY_BYTES_MAX)))
        .with_disk_manager_builder(disk)
        .with_metadata_cache_limit(METADATA_CACHE_BYTES)
        .with_object_store_registry(Arc::new(LakeOnly(lake.object_store())))
        .build_arc()?)
}

/// The only store a plan can read from: no local file, no other bucket.
#[derive(Debug)]
struct LakeOnly(Arc<dyn ObjectStore>);

impl ObjectStoreRegistry for LakeOnly {
    fn register_store(&self, _url: &Url, _store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> datafusion::error::Result<Arc<dyn ObjectStore>> {
        if url.as_str().starts_with(ObjectStoreUrl::parse(STORE_URL)?.as_str()) {
            return Ok(Arc::clone(&self.0));
        }
        datafusion::common::plan_err!("only the tables of this lake can be read")
    }
}

/// The threads queries run on.
struct Threads(Option<tokio::runtime::Runtime>);

impl Threads {
    fn start(n_threads: usize) -> Result<Self> {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(n_threads)
            .thread_name("query")
            .thread_stack_size(QUERY_STACK_BYTES)
            .enable_all()
            .build()
            .map(|runtime| Self(Some(runtime)))
            .map_err(|error| Error::internal("the query threads could not be started").with_source(error))
    }

    fn spawn<F>(&self, work: F) -> Result<tokio::task::JoinHandle<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let runtime = self.0.as_ref().ok_or_else(shutting_down)?;
        Ok(runtime.spawn(work))
    }

    fn n_working(&self) -> usize {
        let alive = |runtime: &tokio::runtime::Runtime| runtime.metrics().num_alive_tasks();
        self.0.as_ref().map_or(0, alive)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A runtime may not be waited for inside another one's task, where the last clone is often dropped.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn shutting_down() -> Error {
    Error::new(ErrorKind::Busy, "the server is shutting down")
}

/// Stops a task when nobody waits for it any more.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
