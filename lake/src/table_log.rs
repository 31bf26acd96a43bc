//! The Delta log of a table, behind one small trait: snapshot, commit, checkpoint.
//!
//! [`DeltaLog`] goes through `deltalake-core`: it reads snapshots and writes checkpoints with it, and puts
//! commits through its log store by put-if-absent. It does not use its commit loop, which re-reads the table
//! after every commit: here the caller knows the version it expects, so a commit costs one object whatever the
//! history. Deciding what to do when another writer took the version is the caller's ([`crate::lake`]).

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use async_trait::async_trait;
use bytes::Bytes;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::{Action, Add, EagerSnapshot, Remove, StructType, Transaction};
use deltalake_core::logstore::{CommitOrBytes, LogStoreRef, StorageConfig, default_logstore, get_actions};
use deltalake_core::table::state::DeltaTableState;
use deltalake_core::{DeltaTable, DeltaTableError, checkpoints};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use crate::data_file::{DataFile, parse_partition, table_dir};
use crate::error::{Context, Error, Result};
use crate::options::{LOG_RETENTION, STATISTICS_COLUMNS};
use crate::tables::Table;

/// A table at a version.
#[derive(Debug, Default, Clone)]
pub(crate) struct LogSnapshot {
    pub(crate) version: i64,
    pub(crate) files: Vec<DataFile>,
    pub(crate) txns: HashMap<String, i64>,
    /// Field names of the schema in the log.
    pub(crate) fields: Vec<String>,
    /// The table's id in the log.
    pub(crate) table_id: String,
}

/// A file to add to the table.
#[derive(Debug, Clone)]
pub(crate) struct AddedFile {
    pub(crate) file: DataFile,
    /// Delta's statistics JSON.
    pub(crate) statistics: String,
}

/// What one commit changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    pub(crate) adds: Vec<AddedFile>,
    pub(crate) removes: Vec<DataFile>,
    pub(crate) txns: Vec<(String, i64)>,
    /// Whether rows appear or disappear, or are only laid out differently.
    pub(crate) data_change: bool,
    pub(crate) operation: &'static str,
    /// Which rows the operation is about, as SQL, for people.
    pub(crate) predicate: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub(crate) timestamp_ms: i64,
    /// Writes the table's schema under this table id (and, in version 0, its protocol).
    pub(crate) schema_of: Option<String>,
}

/// What another writer's commit changes, as far as we keep it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ForeignChange {
    pub(crate) adds: Vec<DataFile>,
    /// Paths relative to the lake's root.
    pub(crate) removes: Vec<String>,
    pub(crate) txns: Vec<(String, i64)>,
}

/// What became of a commit.
#[derive(Debug)]
pub(crate) enum CommitOutcome {
    /// It is the version, on stable storage.
    Committed,
    /// The version belongs to this commit of another writer, or of an earlier attempt of ours.
    Taken(ForeignChange),
}

/// The log of one table.
#[async_trait]
pub(crate) trait TableLog: Send + Sync {
    /// The newest version; `None` if there is no table.
    async fn snapshot(&self) -> Result<Option<LogSnapshot>>;
    /// Tries to make `change` this version of the table.
    async fn commit(&self, version: i64, change: &Change) -> Result<CommitOutcome>;
    /// Writes a checkpoint of the newest version and, if asked, removes expired log files.
    async fn checkpoint(&self, clean_up: bool) -> Result<()>;
}

/// A Delta log in the lake's object store.
pub(crate) struct DeltaLog {
    table: Table,
    store: Arc<dyn ObjectStore>,
    log_store: LogStoreRef,
}

impl DeltaLog {
    pub(crate) fn new(table: Table, store: Arc<dyn ObjectStore>) -> Result<Self> {
        let dir = table_dir(table);
        // The store is rooted at the lake's folder, so locations are relative to it. Not `file:`, for which
        // the library would look at the real root; the price is that our store must list in order.
        let location = Url::parse(&format!("lake:///{dir}/")).or_internal(|| "cannot name the table".to_owned())?;
        let prefixed = Arc::new(PrefixStore::new(Arc::clone(&store), Path::from(dir)));
        let log_store = default_logstore(prefixed, Arc::clone(&store), &location, &StorageConfig::default());
        Ok(Self {
            table,
            store,
            log_store,
        })
    }

    fn relative(&self, path: &str) -> String {
        format!("{}/{path}", table_dir(self.table))
    }

    fn within<'p>(&self, path: &'p str) -> &'p str {
        path.strip_prefix(&table_dir(self.table))
            .and_then(|path| path.strip_prefix('/'))
            .unwrap_or(path)
    }

    fn metadata(&self, table_id: &str, timestamp_ms: i64) -> Result<Value> {
        let schema: StructType = self
            .table
            .schema()
            .as_ref()
            .try_into_kernel()
            .or_internal(|| format!("the schema of {} has no delta form", self.table.name()))?;
        let schema = serde_json::to_string(&schema).or_internal(|| "cannot write the table's schema".to_owned())?;
        Ok(json!({"metaData": {
            "id": table_id,
            "name": self.table.name(),
            "format": {"provider": "parquet", "options": {}},
            "schemaString": schema,
            "partitionColumns": [],
            "configuration": {
                "delta.logRetentionDuration": LOG_RETENTION,
                "delta.deletedFileRetentionDuration": LOG_RETENTION,
                "delta.dataSkippingNumIndexedCols": STATISTICS_COLUMNS.to_string(),
            },
            "createdTime": timestamp_ms,
        }}))
    }

    fn render(&self, version: i64, change: &Change) -> Result<Bytes> {
        // As other writers spell it: a JSON list of predicates, as text.
        let parameters = match &change.predicate {
            Some(predicate) => json!({"predicate": json!([predicate]).to_string()}),
            None => json!({}),
        };
        let mut lines: Vec<Value> = vec![json!({"commitInfo": {
            "timestamp": change.timestamp_ms,
            "operation": change.operation,
            "operationParameters": parameters,
            "isBlindAppend": change.removes.is_empty(),
            "engineInfo": concat!("spanledger/", env!("CARGO_PKG_VERSION")),
        }})];
        if let Some(table_id) = &change.schema_of {
            if version == 0 {
                lines.push(json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}));
            }
            lines.push(self.metadata(table_id, change.timestamp_ms)?);
        }
        let mut actions: Vec<Action> = Vec::new();
        for (app_id, version) in &change.txns {
            let txn = Transaction::new_with_last_update(app_id, *version, Some(change.timestamp_ms));
            actions.push(Action::Txn(txn));
        }
        for file in &change.removes {
            actions.push(Action::Remove(Remove {
                path: self.within(&file.path).to_owned(),
                data_change: change.data_change,
                deletion_timestamp: Some(change.timestamp_ms),
                extended_file_metadata: Some(true),
                partition_values: Some(HashMap::new()),
                size: Some(i64::try_from(file.size_bytes).unwrap_or(i64::MAX)),
                ..Remove::default()
            }));
        }
        for added in &change.adds {
            actions.push(Action::Add(Add {
                path: self.within(&added.file.path).to_owned(),
                size: i64::try_from(added.file.size_bytes).unwrap_or(i64::MAX),
                modification_time: change.timestamp_ms,
                data_change: change.data_change,
                stats: Some(added.statistics.clone()),
                ..Add::default()
            }));
        }
        let failed = || "cannot write a commit".to_owned();
        let mut bytes = Vec::new();
        for line in &lines {
            serde_json::to_writer(&mut bytes, line).or_internal(failed)?;
            bytes.push(b'\n');
        }
        for action in &actions {
            serde_json::to_writer(&mut bytes, action).or_internal(failed)?;
            bytes.push(b'\n');
        }
        Ok(Bytes::from(bytes))
    }

    fn foreign_change(&self, version: i64, bytes: &Bytes) -> Result<ForeignChange> {
        let mut change = ForeignChange::default();
        let corrupt = || format!("cannot read commit {version} of {}", self.table.name());
        for action in get_actions(version.unsigned_abs(), bytes).or_corrupt(corrupt)? {
            match action {
                Action::Add(add) => {
                    let statistics: Value = add
                        .stats
                        .as_deref()
                        .and_then(|text| serde_json::from_str(text).ok())
                        .unwrap_or_default();
                    let time = |bound: &str| {
                        let text = statistics.get(bound)?.get("time")?.as_str()?;
                        Some(chrono::DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros())
                    };
                    let (tenant, day) = parse_partition(&add.path).unwrap_or_default();
                    change.adds.push(DataFile {
                        path: self.relative(&add.path),
                        size_bytes: add.size.unsigned_abs(),
                        n_rows: statistics.get("numRecords").and_then(Value::as_u64).unwrap_or(0),
                        tenant,
                        day,
                        min_time_us: time("minValues"),
                        max_time_us: time("maxValues").map(round_up_to_ms),
                    });
                }
                Action::Remove(remove) => change.removes.push(self.relative(&remove.path)),
                Action::Txn(txn) => change.txns.push((txn.app_id, txn.version)),
                _ => {}
            }
        }
        Ok(change)
    }

    /// Every application's last transaction: the log keeps them, `deltalake-core` only answers for known names.
    async fn transactions(&self) -> Result<HashMap<String, i64>> {
        let failed = || format!("cannot read the log of {}", self.table.name());
        let dir = Path::from(format!("{}/_delta_log", table_dir(self.table)));
        let objects: Vec<_> = self.store.list(Some(&dir)).try_collect().await.or_internal(failed)?;
        let mut checkpoint_version = -1;
        let mut checkpoints: Vec<Path> = Vec::new();
        let mut commits: Vec<(i64, Path)> = Vec::new();
        for object in objects {
            let Some(name) = object.location.filename() else {
                continue;
            };
            let Some(version) = name.get(..20).and_then(|digits| digits.parse::<i64>().ok()) else {
                continue;
            };
            if name.len() == 25 && name.ends_with(".json") {
                commits.push((version, object.location));
            } else if name
                .get(20..)
                .is_some_and(|rest| rest.starts_with(".checkpoint") && rest.ends_with(".parquet"))
            {
                if version > checkpoint_version {
                    checkpoint_version = version;
                    checkpoints.clear();
                }
                if version == checkpoint_version {
                    checkpoints.push(object.location);
                }
            }
        }
        commits.retain(|(version, _)| *version > checkpoint_version);
        commits.sort_unstable();
        let mut txns = HashMap::new();
        for path in checkpoints {
            let bytes = self
                .store
                .get(&path)
                .await
                .or_internal(failed)?
                .bytes()
                .await
                .or_internal(failed)?;
            read_checkpoint_txns(bytes, &mut txns).ok_or_else(|| Error::corrupt(format!("cannot read {path}")))?;
        }
        for (version, path) in commits {
            let bytes = self
                .store
                .get(&path)
                .await
                .or_internal(failed)?
                .bytes()
                .await
                .or_internal(failed)?;
            txns.extend(self.foreign_change(version, &bytes)?.txns);
        }
        Ok(txns)
    }

    fn files(&self, batches: &[RecordBatch]) -> Option<Vec<DataFile>> {
        let mut files = Vec::new();
        for batch in batches {
            let paths = batch.column_by_name("path")?.as_string_opt::<i32>()?;
            let sizes = batch.column_by_name("size_bytes")?.as_primitive_opt::<Int64Type>()?;
            let n_rows = batch.column_by_name("num_records")?.as_primitive_opt::<Int64Type>()?;
            let time = |name: &str| {
                let column = batch.column_by_name(name)?;
                column.as_primitive_opt::<TimestampMicrosecondType>().cloned()
            };
            let (min_time, max_time) = (time("min.time"), time("max.time"));
            for row in 0..batch.num_rows() {
                let (tenant, day) = parse_partition(paths.value(row)).unwrap_or_default();
                let at = |column: &Option<arrow::array::TimestampMicrosecondArray>| {
                    column
                        .as_ref()
                        .filter(|column| column.is_valid(row))
                        .map(|column| column.value(row))
                };
                files.push(DataFile {
                    path: self.relative(paths.value(row)),
                    size_bytes: sizes.value(row).unsigned_abs(),
                    n_rows: if n_rows.is_valid(row) {
                        n_rows.value(row).unsigned_abs()
                    } else {
                        0
                    },
                    tenant,
                    day,
                    min_time_us: at(&min_time),
                    max_time_us: at(&max_time).map(round_up_to_ms),
                });
            }
        }
        Some(files)
    }
}

/// Delta allows bounds cut to the millisecond: an upper bound that may have been cut is moved up.
fn round_up_to_ms(time_us: i64) -> i64 {
    if time_us % 1_000 == 0 {
        time_us.saturating_add(999)
    } else {
        time_us
    }
}

fn read_checkpoint_txns(bytes: Bytes, txns: &mut HashMap<String, i64>) -> Option<()> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).ok()?;
    let Some(root_idx) = builder.schema().fields().iter().position(|field| field.name() == "txn") else {
        return Some(());
    };
    let mask = ProjectionMask::roots(builder.parquet_schema(), [root_idx]);
    for batch in builder.with_projection(mask).build().ok()? {
        let batch = batch.ok()?;
        let txn = batch.column(0).as_struct_opt()?;
        let app_ids = txn.column_by_name("appId")?.as_string_opt::<i32>()?;
        let versions = txn.column_by_name("version")?.as_primitive_opt::<Int64Type>()?;
        for row in 0..batch.num_rows() {
            if txn.is_valid(row) && app_ids.is_valid(row) {
                txns.insert(app_ids.value(row).to_owned(), versions.value(row));
            }
        }
    }
    Some(())
}

#[async_trait]
impl TableLog for DeltaLog {
    async fn snapshot(&self) -> Result<Option<LogSnapshot>> {
        let failed = || format!("cannot read the log of {}", self.table.name());
        if !self.log_store.is_delta_table_location().await.or_internal(failed)? {
            return Ok(None);
        }
        let snapshot = match EagerSnapshot::try_new(self.log_store.as_ref(), None).await {
            Ok(snapshot) => snapshot,
            Err(DeltaTableError::NotATable(_)) => return Ok(None),
            Err(error) => return Err(Error::corrupt(failed()).with_source(error)),
        };
        let version = i64::try_from(snapshot.version()).unwrap_or(i64::MAX);
        let fields = snapshot.schema().fields().map(|field| field.name().clone()).collect();
        let table_id = snapshot.metadata().id().to_owned();
        let batches = DeltaTableState::new(snapshot)
            .add_actions_batches(true)
            .or_corrupt(failed)?;
        let files = self.files(&batches).ok_or_else(|| Error::corrupt(failed()))?;
        Ok(Some(LogSnapshot {
            version,
            files,
            txns: self.transactions().await?,
            fields,
            table_id,
        }))
    }

    async fn commit(&self, version: i64, change: &Change) -> Result<CommitOutcome> {
        let bytes = self.render(version, change)?;
        let entry = CommitOrBytes::LogBytes(bytes.clone());
        let number = version.unsigned_abs();
        let name = || format!("commit {version} of {}", self.table.name());
        match self.log_store.write_commit_entry(number, entry, Uuid::nil()).await {
            Ok(()) => Ok(CommitOutcome::Committed),
            Err(error) => match DeltaTableError::from(error) {
                DeltaTableError::VersionAlreadyExists(_) => {
                    let existing = self.log_store.read_commit_entry(number).await;
                    let existing = existing.or_busy(|| format!("cannot read {}", name()))?;
                    match existing {
                        // An earlier attempt of ours whose answer was lost.
                        Some(existing) if existing == bytes => Ok(CommitOutcome::Committed),
                        Some(existing) => Ok(CommitOutcome::Taken(self.foreign_change(version, &existing)?)),
                        None => Err(Error::busy(format!("{} disappeared: retry", name()))),
                    }
                }
                error => Err(Error::busy(format!("cannot write {}", name())).with_source(error)),
            },
        }
    }

    async fn checkpoint(&self, clean_up: bool) -> Result<()> {
        let failed = || format!("cannot write a checkpoint of {}", self.table.name());
        let mut table = DeltaTable::new(Arc::clone(&self.log_store));
        table.load().await.or_internal(failed)?;
        checkpoints::create_checkpoint(&table, None).await.or_internal(failed)?;
        if clean_up {
            checkpoints::cleanup_metadata(&table, None).await.or_internal(failed)?;
        }
        Ok(())
    }
}
