//! What was acknowledged is there after a crash, once.

use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::ErrorKind;
use crate::files::LocalFiles;

#[tokio::test]
async fn acknowledged_records_survive_reopening() {
    let dir = TempDir::new().unwrap();
    let lake = open(&dir).await;
    let first = send(&lake, "spans:0:10 observations:0:3").await.unwrap();
    let second = send(&lake, "spans:10:5").await.unwrap();
    assert_eq!((first.sequence, second.sequence, second.duplicate), (1, 2, false));
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 15));
    drop(lake);

    let lake = open(&dir).await;
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 15));
    assert_eq!(numbers(&lake, Table::Observations).await, range(0, 3));
    let positions = lake.positions();
    assert_eq!((positions.acknowledged, positions.flushed), (2, 0));
    assert_eq!(send(&lake, "spans:15:1").await.unwrap().sequence, 3);
}

#[tokio::test]
async fn acknowledged_records_survive_an_orderly_stop() {
    let dir = TempDir::new().unwrap();
    let lake = open(&dir).await;
    send(&lake, "spans:0:10 logs:0:4").await.unwrap();
    lake.shutdown().await.unwrap();
    let refused = send(&lake, "spans:10:1").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy);
    assert_eq!(
        lake.flush().await.unwrap_err().kind(),
        ErrorKind::Busy,
        "the folder is not ours any more"
    );
    let segments = std::fs::read_dir(dir.path().join("wal")).unwrap();
    assert_eq!(segments.count(), 1, "only the window is left");

    let lake = open(&dir).await;
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 10));
    assert_eq!(numbers(&lake, Table::Logs).await, range(0, 4));
    assert_eq!(lake.snapshot(Table::Spans).unwrap().hot.len(), 0);
    assert_eq!(lake.positions().flushed, 1);
    let again = send(&lake, "spans:0:10 logs:0:4").await.unwrap();
    assert!(again.duplicate);
    assert_eq!(again.sequence, 1);
    assert_eq!(send(&lake, "spans:10:1").await.unwrap().sequence, 2);
}

#[tokio::test]
async fn a_retried_batch_is_stored_once() {
    let dir = TempDir::new().unwrap();
    let lake = open(&dir).await;
    let text = "spans:0:10";
    let (first, second) = tokio::join!(send(&lake, text), send(&lake, text));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.sequence, second.sequence);
    assert_eq!([first.duplicate, second.duplicate].iter().filter(|it| **it).count(), 1);
    assert!(send(&lake, text).await.unwrap().duplicate);
    let other = lake
        .append_batch(record("other", text), parse_rows("other", text))
        .await;
    assert!(!other.unwrap().duplicate, "another tenant's request is another request");
    assert_eq!(
        lake.snapshot(Table::Spans)
            .unwrap()
            .hot
            .iter()
            .map(RecordBatch::num_rows)
            .sum::<usize>(),
        20
    );
    drop(lake);

    let lake = open(&dir).await;
    assert!(send(&lake, text).await.unwrap().duplicate, "remembered from the log");
    lake.flush().await.unwrap();
    lake.shutdown().await.unwrap();
    let lake = open(&dir).await;
    assert!(
        send(&lake, text).await.unwrap().duplicate,
        "remembered from the window's file"
    );
    assert_eq!(
        lake.snapshot(Table::Spans)
            .unwrap()
            .files
            .iter()
            .map(|file| file.n_rows)
            .sum::<u64>(),
        20
    );
    assert_eq!(lake.stats().n_duplicates, 1);
}

#[tokio::test]
async fn replay_skips_what_a_table_already_covers() {
    let dir = TempDir::new().unwrap();
    let files = Arc::new(files::FaultyFiles::new(LocalFiles));
    let lake = Lake::open_on(quiet_options(dir.path()), TestClock::new(), files.clone(), &TestReplay)
        .await
        .unwrap();
    send(&lake, "spans:0:10 logs:0:4 observations:0:2").await.unwrap();
    // The flush gets through for spans and observations, and not for logs.
    files.fail_when(|operation, path| operation == "hard_link" && path.contains("tables/logs/_delta_log"));
    assert_eq!(lake.flush().await.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(lake.txn_version(Table::Spans, "node-0"), Some(1));
    assert_eq!(lake.txn_version(Table::Logs, "node-0"), None);
    for (table, n_rows) in [(Table::Spans, 10), (Table::Logs, 4), (Table::Observations, 2)] {
        assert_eq!(
            numbers(&lake, table).await,
            range(0, n_rows),
            "{table:?} while the flush hangs"
        );
    }
    drop(lake);

    let lake = open(&dir).await;
    assert_eq!(lake.snapshot(Table::Spans).unwrap().hot.len(), 0);
    for (table, n_rows) in [(Table::Spans, 10), (Table::Logs, 4), (Table::Observations, 2)] {
        assert_eq!(numbers(&lake, table).await, range(0, n_rows), "{table:?} after replay");
    }
    lake.flush().await.unwrap();
    for (table, n_rows) in [(Table::Spans, 10), (Table::Logs, 4), (Table::Observations, 2)] {
        assert_eq!(
            numbers(&lake, table).await,
            range(0, n_rows),
            "{table:?} after the next flush"
        );
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_not_made_twice() {
    let dir = TempDir::new().unwrap();
    let files = Arc::new(files::FaultyFiles::new(LocalFiles));
    let lake = Lake::open_on(quiet_options(dir.path()), TestClock::new(), files.clone(), &TestReplay)
        .await
        .unwrap();
    send(&lake, "spans:0:10").await.unwrap();
    // The commit is linked into place, and then its folder's fsync fails.
    files.fail_when(|operation, path| operation == "sync_dir" && path.ends_with("tables/spans/_delta_log"));
    lake.flush().await.unwrap_err();
    files.fail_when(|_, _| false);
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 10));
    send(&lake, "spans:10:10").await.unwrap();
    lake.flush().await.unwrap();
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 20));
    assert_eq!(lake.snapshot(Table::Spans).unwrap().version, 2);
    lake.shutdown().await.unwrap();
    let lake = open(&dir).await;
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 20));
}

#[tokio::test]
async fn a_failed_fsync_is_never_acknowledged_and_stops_all_writing() {
    let dir = TempDir::new().unwrap();
    let files = Arc::new(files::FaultyFiles::new(LocalFiles));
    let lake = Lake::open_on(quiet_options(dir.path()), TestClock::new(), files.clone(), &TestReplay)
        .await
        .unwrap();
    send(&lake, "spans:0:10").await.unwrap();
    files.fail_when(|operation, path| operation == "sync" && path.ends_with(".wal"));
    let lost = send(&lake, "spans:10:10").await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Busy);
    files.fail_when(|_, _| false);
    let refused = send(&lake, "spans:20:10").await.unwrap_err();
    assert!(refused.message().contains("restart"), "{refused}");
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 10), "reading goes on");
}

#[tokio::test]
async fn a_full_disk_is_busy_and_recovers_without_restart() {
    let dir = TempDir::new().unwrap();
    let files = Arc::new(files::FaultyFiles::new(LocalFiles));
    let lake = Lake::open_on(quiet_options(dir.path()), TestClock::new(), files.clone(), &TestReplay)
        .await
        .unwrap();
    send(&lake, "spans:0:10").await.unwrap();
    files.fail_when(|operation, _| operation == "append");
    assert_eq!(send(&lake, "spans:10:10").await.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(lake.flush().await.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 10));
    files.fail_when(|_, _| false);
    let retried = send(&lake, "spans:10:10").await.unwrap();
    assert_eq!((retried.sequence, retried.duplicate), (2, false));
    lake.flush().await.unwrap();
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 20));
    drop(lake);
    assert_eq!(numbers(&open(&dir).await, Table::Spans).await, range(0, 20));
}

#[tokio::test]
async fn too_many_bytes_in_flight_is_busy() {
    let dir = TempDir::new().unwrap();
    let mut options = quiet_options(dir.path());
    options.hot_bytes_max = 1;
    let lake = Lake::open(options, TestClock::new(), &TestReplay).await.unwrap();
    send(&lake, "spans:0:10").await.unwrap();
    let refused = send(&lake, "spans:10:10").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy);
    lake.flush().await.unwrap();
    assert!(
        !send(&lake, "spans:10:10").await.unwrap().duplicate,
        "a refused request is not remembered"
    );
}

#[tokio::test]
async fn a_folder_has_one_writer_and_any_number_of_readers() {
    let dir = TempDir::new().unwrap();
    let lake = open(&dir).await;
    send(&lake, "spans:0:10").await.unwrap();
    lake.flush().await.unwrap();
    send(&lake, "spans:10:10").await.unwrap();
    let second = Lake::open(quiet_options(dir.path()), TestClock::new(), &TestReplay).await;
    assert_eq!(second.unwrap_err().kind(), ErrorKind::Busy);
    let reader = Lake::open_read_only(dir.path(), TestClock::new()).await.unwrap();
    assert_eq!(
        numbers(&reader, Table::Spans).await,
        range(0, 10),
        "committed rows only"
    );
    assert_eq!(
        send(&reader, "spans:20:1").await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
    let missing = Lake::open_read_only(&dir.path().join("nothing"), TestClock::new()).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    lake.shutdown().await.unwrap();
    open(&dir).await;
}

#[tokio::test]
async fn rows_of_another_schema_are_refused_before_they_are_logged() {
    let dir = TempDir::new().unwrap();
    let lake = open(&dir).await;
    let rows = vec![(Table::Logs, batch(Table::Spans, "default", 0, 1))];
    let refused = lake
        .append_batch(record("default", "logs:0:1"), rows)
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let rows = vec![(Table::Ledger, batch(Table::Ledger, "default", 0, 1))];
    let refused = lake
        .append_batch(record("default", "ledger:0:1"), rows)
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert_eq!(lake.positions().acknowledged, 0);
}
