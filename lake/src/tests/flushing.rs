//! From the hot buffer into the tables, and what readers see meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use deltalake_core::DeltaTable;
use object_store::ObjectStoreExt;
use tempfile::TempDir;
use url::Url;

use super::*;
use crate::{Commit, ErrorKind};

/// Opens a table with nothing of ours.
async fn open_outside(dir: &TempDir, table: Table) -> DeltaTable {
    let path = dir.path().canonicalize().unwrap().join("tables").join(table.name());
    deltalake_core::open_table(Url::from_directory_path(path).unwrap())
        .await
        .unwrap()
}

fn outside_rows(table: &DeltaTable) -> i64 {
    let snapshot = table.snapshot().unwrap();
    let actions = snapshot.add_actions_table(true).unwrap();
    let n_records = actions.column_by_name("num_records").unwrap();
    n_records
        .as_primitive::<arrow::datatypes::Int64Type>()
        .iter()
        .flatten()
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_delta_reader_sees_every_flushed_row() {
    let dir = TempDir::new().unwrap();
    let lake = open(&dir).await;
    send(&lake, "spans:0:1000 observations:0:10").await.unwrap();
    // Two days and two tenants in one flush.
    let text = format!("spans:{}:100", ONE_DAY_US - 50);
    lake.append_batch(record("a/b c", &text), parse_rows("a/b c", &text))
        .await
        .unwrap();
    lake.flush().await.unwrap();
    let table = open_outside(&dir, Table::Spans).await;
    assert_eq!(outside_rows(&table), 1_100);
    assert_eq!(table.version(), Some(1));
    let files = lake.snapshot(Table::Spans).unwrap().files;
    let keys: BTreeSet<(&str, i64)> = files
        .iter()
        .map(|file| (file.tenant.as_str(), i64::from(file.day) * ONE_DAY_US - DAY_US))
        .collect();
    assert_eq!(
        keys,
        BTreeSet::from([("default", 0), ("a/b c", 0), ("a/b c", ONE_DAY_US)])
    );
    let mut uris: Vec<String> = table.get_file_uris().unwrap().collect();
    uris.sort();
    let mut ours: Vec<String> = files
        .iter()
        .map(|file| {
            dir.path()
                .canonicalize()
                .unwrap()
                .join(&file.path)
                .display()
                .to_string()
        })
        .collect();
    ours.sort();
    assert_eq!(uris, ours);
    assert!(uris.iter().all(|uri| std::fs::metadata(uri).is_ok()));
    let actions = table.snapshot().unwrap().add_actions_table(true).unwrap();
    for column in ["min.time", "max.time", "min.tenant", "min.day", "null_count.time"] {
        assert_eq!(null_count(&actions, column), 0, "{column} has statistics");
    }
    let empty = open_outside(&dir, Table::Ledger).await;
    assert_eq!(empty.version(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_during_a_flush_shows_every_row_once() {
    let dir = TempDir::new().unwrap();
    let lake = open(&dir).await;
    let writer = tokio::spawn({
        let lake = lake.clone();
        async move {
            for n_batch in 0..60 {
                send(&lake, &format!("spans:{}:5", n_batch * 5)).await.unwrap();
            }
        }
    });
    let flusher = tokio::spawn({
        let lake = lake.clone();
        async move {
            while lake.positions().flushed < 60 {
                lake.flush().await.unwrap();
            }
        }
    });
    let mut seen = 0;
    while seen < 300 {
        let acknowledged = lake.positions().acknowledged as usize * 5;
        let rows = numbers(&lake, Table::Spans).await;
        assert_eq!(rows, range(0, rows.len()), "no row twice, none missing");
        assert!(rows.len() >= acknowledged.max(seen), "acknowledged rows stay visible");
        seen = rows.len();
    }
    writer.await.unwrap();
    flusher.await.unwrap();
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 300));
    assert_eq!(lake.snapshot(Table::Spans).unwrap().hot.len(), 0);
}

#[tokio::test]
async fn files_are_sorted_and_come_back_as_they_were_written() {
    let dir = TempDir::new().unwrap();
    let lake = open(&dir).await;
    for table in Table::RAW {
        let later = batch(table, "default", 100, 50);
        let earlier = batch(table, "default", 0, 50);
        let text = format!("{0}:100:50 {0}:0:50", table.name());
        lake.append_batch(record("default", &text), vec![(table, later), (table, earlier)])
            .await
            .unwrap();
    }
    lake.flush().await.unwrap();
    for table in Table::RAW {
        let snapshot = lake.snapshot(table).unwrap();
        let [file] = snapshot.files.as_ref() else {
            panic!("one file of {table:?}")
        };
        assert_eq!((file.n_rows, file.tenant.as_str()), (100, "default"));
        assert_eq!((file.min_time_us, file.max_time_us), (Some(DAY_US), Some(DAY_US + 149)));
        let rows = lake.read_file(table, file, None).await.unwrap();
        let rows = arrow::compute::concat_batches(&table.schema(), &rows).unwrap();
        let written = [batch(table, "default", 0, 50), batch(table, "default", 100, 50)];
        let mut written = arrow::compute::concat_batches(&table.schema(), &written).unwrap();
        if table == Table::Metrics {
            let indices = arrow::compute::sort_to_indices(written.column_by_name("name").unwrap(), None, None).unwrap();
            written = arrow::compute::take_record_batch(&written, &indices).unwrap();
            assert_eq!(rows.column_by_name("name"), written.column_by_name("name"));
        } else {
            assert_eq!(rows, written, "{table:?}");
        }
        let columns = ["tenant", "time"];
        let some = lake.read_file(table, file, Some(&columns)).await.unwrap();
        let names: Vec<String> = some[0]
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        assert_eq!(names, columns);
        let unknown = lake.read_file(table, file, Some(&["nothing"])).await.unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn parquet_keeps_every_type_of_every_schema() {
    let dir = TempDir::new().unwrap();
    let lake = open(&dir).await;
    for table in Table::ALL {
        let commit = Commit {
            adds: vec![batch(table, "default", 0, 3)],
            operation: "WRITE",
            ..Commit::default()
        };
        lake.commit(table, commit).await.unwrap();
        let snapshot = lake.snapshot(table).unwrap();
        let bytes = std::fs::read(dir.path().join(&snapshot.files[0].path)).unwrap();
        let reader =
            parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap();
        for (stored, wanted) in reader.schema().fields().iter().zip(table.schema().fields()) {
            assert_eq!(stored.data_type(), wanted.data_type(), "{table:?} {}", wanted.name());
        }
    }
}

#[tokio::test]
async fn a_commit_adds_and_removes_files_in_one_version() {
    let dir = TempDir::new().unwrap();
    let lake = open(&dir).await;
    let rows = |first, n_rows| vec![batch(Table::Calls, "default", first, n_rows)];
    let added = Commit {
        adds: rows(0, 10),
        txn: Some(("settle".to_owned(), 7)),
        operation: "SETTLE",
        ..Commit::default()
    };
    assert_eq!(lake.commit(Table::Calls, added.clone()).await.unwrap(), 1);
    assert_eq!(lake.txn_version(Table::Calls, "settle"), Some(7));
    assert_eq!(
        lake.commit(Table::Calls, added).await.unwrap(),
        1,
        "the same transaction changes nothing"
    );
    let path = lake.snapshot(Table::Calls).unwrap().files[0].path.clone();
    let replaced = Commit {
        adds: rows(100, 5),
        removes: vec![path.clone()],
        operation: "SETTLE",
        ..Commit::default()
    };
    assert_eq!(lake.commit(Table::Calls, replaced.clone()).await.unwrap(), 2);
    assert_eq!(numbers(&lake, Table::Calls).await, range(100, 5));
    let conflict = lake.commit(Table::Calls, replaced).await.unwrap_err();
    assert_eq!(conflict.kind(), ErrorKind::Busy, "the file is not live any more");
    lake.shutdown().await.unwrap();
    let lake = open(&dir).await;
    assert_eq!(numbers(&lake, Table::Calls).await, range(100, 5));
    assert_eq!(lake.txn_version(Table::Calls, "settle"), Some(7));
    assert!(
        std::fs::metadata(dir.path().join(path)).is_ok(),
        "kept for the grace period"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commits_are_checkpointed_and_reopen_to_the_same_table() {
    let dir = TempDir::new().unwrap();
    let lake = open(&dir).await;
    for n_commit in 0..110 {
        let commit = Commit {
            adds: vec![batch(Table::Ledger, "default", n_commit * 2, 2)],
            txn: Some((format!("app-{}", n_commit % 3), n_commit)),
            operation: "SETTLE",
            ..Commit::default()
        };
        lake.commit(Table::Ledger, commit).await.unwrap();
    }
    let before = lake.snapshot(Table::Ledger).unwrap();
    lake.shutdown().await.unwrap();
    let log = dir.path().join("tables/ledger/_delta_log");
    assert!(log.join("_last_checkpoint").exists());
    let lake = open(&dir).await;
    let after = lake.snapshot(Table::Ledger).unwrap();
    assert_eq!(before.version, after.version);
    assert_eq!(before.files.len(), after.files.len());
    for (before, after) in before.files.iter().zip(after.files.iter()) {
        let bound = after.max_time_us.unwrap() - before.max_time_us.unwrap();
        assert!(
            (0..1_000).contains(&bound),
            "an upper bound may be rounded up, never down"
        );
        assert_eq!(
            (&before.path, before.size_bytes, before.n_rows, before.min_time_us),
            (&after.path, after.size_bytes, after.n_rows, after.min_time_us)
        );
    }
    for (app_id, version) in [("app-0", 108), ("app-1", 109), ("app-2", 107)] {
        assert_eq!(lake.txn_version(Table::Ledger, app_id), Some(version), "{app_id}");
    }
    let table = open_outside(&dir, Table::Ledger).await;
    assert_eq!(outside_rows(&table), 220);
    let retention = table.snapshot().unwrap().table_config().log_retention_duration;
    assert_eq!(retention, Some(std::time::Duration::from_secs(3_600)));
}

#[tokio::test]
async fn another_writers_commit_is_taken_over() {
    let dir = TempDir::new().unwrap();
    let lake = open(&dir).await;
    send(&lake, "spans:0:10").await.unwrap();
    lake.flush().await.unwrap();
    // An outside tool removes our file in the version that we would take next.
    let path = lake.snapshot(Table::Spans).unwrap().files[0].path.clone();
    let relative = path.strip_prefix("tables/spans/").unwrap();
    let line = format!(r#"{{"remove":{{"path":"{relative}","dataChange":true,"deletionTimestamp":1}}}}"#);
    let location = object_store::path::Path::from("tables/spans/_delta_log/00000000000000000002.json");
    lake.object_store()
        .put(&location, line.into_bytes().into())
        .await
        .unwrap();
    send(&lake, "spans:10:10").await.unwrap();
    lake.flush().await.unwrap();
    assert_eq!(lake.snapshot(Table::Spans).unwrap().version, 3);
    assert_eq!(numbers(&lake, Table::Spans).await, range(10, 10));
}

#[tokio::test]
async fn small_hot_batches_are_joined() {
    let dir = TempDir::new().unwrap();
    let lake = open(&dir).await;
    for number in 0..40 {
        send(&lake, &format!("spans:{number}:1")).await.unwrap();
    }
    let snapshot = lake.snapshot(Table::Spans).unwrap();
    assert_eq!(
        snapshot.hot.len(),
        2 + 8,
        "two joined batches of sixteen and eight single ones"
    );
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 40));
}

#[tokio::test]
async fn positions_tell_how_far_each_step_has_come() {
    let dir = TempDir::new().unwrap();
    let lake = open(&dir).await;
    let mut watch = lake.watch_positions();
    send(&lake, "spans:0:1").await.unwrap();
    send(&lake, "spans:1:1").await.unwrap();
    watch.wait_for(|positions| positions.acknowledged == 2).await.unwrap();
    let positions = lake.flush().await.unwrap();
    assert_eq!(
        (positions.acknowledged, positions.flushed, positions.settled),
        (2, 2, 0)
    );
    assert_eq!(positions.flushed_ns, DAY_US * 1_000);
    lake.set_settled(2);
    lake.set_settled(1);
    assert_eq!(
        (lake.positions().settled, lake.positions().settled_ns),
        (2, DAY_US * 1_000)
    );
}

#[tokio::test]
async fn a_full_hot_buffer_flushes_by_itself() {
    let dir = TempDir::new().unwrap();
    let mut options = quiet_options(dir.path());
    options.seal_bytes_max = 1;
    let lake = Lake::open(options, TestClock::new(), &TestReplay).await.unwrap();
    let mut watch = lake.watch_positions();
    send(&lake, "spans:0:10").await.unwrap();
    watch.wait_for(|positions| positions.flushed == 1).await.unwrap();
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 10));
    // A lake that is dropped stops its tasks, which do not hold it.
    let shared = Arc::downgrade(&lake.inner.shared);
    drop(lake);
    drop(watch);
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while shared.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

/// Rewrites the schema of a table's first commit.
fn edit_schema(dir: &TempDir, edit: impl Fn(&mut Vec<serde_json::Value>)) {
    let path = dir.path().join("tables/spans/_delta_log/00000000000000000000.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            let mut action: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(metadata) = action.get_mut("metaData") {
                let mut schema: serde_json::Value =
                    serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
                edit(schema["fields"].as_array_mut().unwrap());
                metadata["schemaString"] = schema.to_string().into();
            }
            action.to_string()
        })
        .collect();
    std::fs::write(path, lines.join("\n")).unwrap();
}

#[tokio::test]
async fn a_lake_of_an_older_schema_gets_the_new_columns() {
    let dir = TempDir::new().unwrap();
    open(&dir).await.shutdown().await.unwrap();
    edit_schema(&dir, |fields| drop(fields.pop()));
    let lake = open(&dir).await;
    assert_eq!(lake.snapshot(Table::Spans).unwrap().version, 1);
    send(&lake, "spans:0:10").await.unwrap();
    lake.shutdown().await.unwrap();
    let table = open_outside(&dir, Table::Spans).await;
    let n_fields = table.snapshot().unwrap().schema().fields().count();
    assert_eq!(n_fields, Table::Spans.schema().fields().len());
    let lake = open(&dir).await;
    assert_eq!(lake.snapshot(Table::Spans).unwrap().version, 2, "widened once");
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 10));
}

#[tokio::test]
async fn a_lake_of_a_newer_schema_is_refused() {
    let dir = TempDir::new().unwrap();
    open(&dir).await.shutdown().await.unwrap();
    edit_schema(&dir, |fields| {
        fields.push(serde_json::json!({"name": "future", "type": "string", "nullable": true, "metadata": {}}));
    });
    let refused = Lake::open(quiet_options(dir.path()), TestClock::new(), &TestReplay)
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.message().contains("future"), "{refused}");
}
