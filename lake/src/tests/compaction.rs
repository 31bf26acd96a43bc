//! Merging, settling beside it, vacuum and verification.

use std::sync::Arc;

use arrow::array::Int32Array;

use tempfile::TempDir;

use super::*;
use crate::Commit;

async fn open_small(dir: &TempDir, clock: Arc<TestClock>) -> Lake {
    let mut options = quiet_options(dir.path());
    options.compaction.files_min = 4;
    Lake::open(options, clock, &TestReplay).await.unwrap()
}

async fn flush_files(lake: &Lake, n_files: i64) {
    for n_file in 0..n_files {
        send(lake, &format!("spans:{}:10", n_file * 10)).await.unwrap();
        lake.flush().await.unwrap();
    }
}

#[tokio::test]
async fn compaction_keeps_every_row() {
    let dir = TempDir::new().unwrap();
    let lake = open_small(&dir, TestClock::new()).await;
    flush_files(&lake, 6).await;
    let text = "spans:60:10";
    lake.append_batch(record("other", text), parse_rows("other", text))
        .await
        .unwrap();
    lake.flush().await.unwrap();
    assert_eq!(lake.snapshot(Table::Spans).unwrap().files.len(), 7);

    let report = lake.compact().await.unwrap();
    assert_eq!(
        (report.n_merges, report.n_files_removed, report.n_files_added),
        (1, 6, 1)
    );
    let snapshot = lake.snapshot(Table::Spans).unwrap();
    assert_eq!(snapshot.files.len(), 2, "tenants are not merged with each other");
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 70));
    let merged = snapshot.files.iter().find(|file| file.n_rows == 60).unwrap();
    let rows = lake.read_file(Table::Spans, merged, None).await.unwrap();
    let in_order: Vec<i64> = rows.iter().flat_map(numbers_of).collect();
    assert_eq!(in_order, range(0, 60), "sorted");
    assert_eq!(lake.compact().await.unwrap().n_merges, 0);
    drop(lake);
    let lake = open(&dir).await;
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 70));
    assert_eq!(lake.stats().tables[0].n_rows, 70);
}

#[tokio::test]
async fn compaction_reads_no_more_than_its_memory_bound() {
    let dir = TempDir::new().unwrap();
    let mut options = quiet_options(dir.path());
    options.compaction.files_min = 4;
    options.compaction.input_bytes_max = 1;
    let lake = Lake::open(options, TestClock::new(), &TestReplay).await.unwrap();
    flush_files(&lake, 4).await;
    assert_eq!(
        lake.compact().await.unwrap().n_merges,
        0,
        "each file alone is over the bound"
    );
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 40));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settlement_and_compaction_do_not_lose_each_others_rows() {
    let dir = TempDir::new().unwrap();
    let lake = open_small(&dir, TestClock::new()).await;
    let add = |first: i64| Commit {
        adds: vec![batch(Table::Calls, "default", first, 10)],
        operation: "SETTLE",
        ..Commit::default()
    };
    let compactor = tokio::spawn({
        let lake = lake.clone();
        async move {
            while lake.snapshot(Table::Calls).unwrap().version < 60 {
                lake.compact().await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    // Settlement: adds a file, and rewrites some live file as it is; on a conflict it looks again.
    for first in 0..40 {
        lake.commit(Table::Calls, add(first * 10)).await.unwrap();
        loop {
            let snapshot = lake.snapshot(Table::Calls).unwrap();
            let file = &snapshot.files[snapshot.files.len() / 2];
            let rows = match lake.read_file(Table::Calls, file, None).await {
                Ok(rows) => rows,
                Err(error) => panic!("{error}"),
            };
            let rewrite = Commit {
                adds: rows,
                removes: vec![file.path.clone()],
                operation: "SETTLE",
                ..Commit::default()
            };
            match lake.commit(Table::Calls, rewrite).await {
                Ok(_) => break,
                Err(error) => assert_eq!(error.kind(), crate::ErrorKind::Busy, "{error}"),
            }
        }
        assert_eq!(numbers(&lake, Table::Calls).await, range(0, (first as usize + 1) * 10));
    }
    compactor.await.unwrap();
    assert_eq!(numbers(&lake, Table::Calls).await, range(0, 400));
}

#[tokio::test]
async fn vacuum_removes_what_no_version_needs_after_the_grace_period() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let lake = open_small(&dir, Arc::clone(&clock)).await;
    flush_files(&lake, 4).await;
    lake.compact().await.unwrap();
    // What a commit that never happened left behind.
    let orphan = dir
        .path()
        .join("tables/spans/tenant=default/day=2026-11-22/part-orphan.parquet");
    std::fs::write(&orphan, b"x").unwrap();
    let grace_ms = lake.options().compaction.vacuum_grace_ms as i64;
    assert_eq!(lake.vacuum().await.unwrap().n_files, 0, "too early");
    clock.advance_ms(grace_ms + 1_000);
    assert_eq!(lake.vacuum().await.unwrap().n_files, 4);
    assert!(orphan.exists() || lake.vacuum().await.unwrap().n_files == 0);
    // The orphan's age is the file system's, which is far from the test's clock.
    clock.advance_ms(100 * 365 * 86_400_000);
    lake.vacuum().await.unwrap();
    assert!(!orphan.exists());
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 40));
    assert!(lake.verify().await.unwrap().is_ok());
}

#[tokio::test]
async fn verification_finds_what_is_wrong() {
    let dir = TempDir::new().unwrap();
    let lake = open_small(&dir, TestClock::new()).await;
    flush_files(&lake, 3).await;
    send(&lake, "spans:30:10").await.unwrap();
    let report = lake.verify().await.unwrap();
    assert_eq!((report.n_files, report.n_rows, report.problems.len()), (3, 30, 0));
    assert_eq!(report.n_wal_frames, 4);

    let files = lake.snapshot(Table::Spans).unwrap().files;
    std::fs::remove_file(dir.path().join(&files[0].path)).unwrap();
    let cut = std::fs::read(dir.path().join(&files[1].path)).unwrap();
    std::fs::write(dir.path().join(&files[1].path), &cut[..cut.len() - 1]).unwrap();
    let mut damaged = std::fs::read(dir.path().join(&files[2].path)).unwrap();
    let end = damaged.len();
    damaged[end - 4..].copy_from_slice(b"????");
    std::fs::write(dir.path().join(&files[2].path), damaged).unwrap();
    let report = lake.verify().await.unwrap();
    assert_eq!(report.problems.len(), 3, "{:?}", report.problems);
    for file in files.iter() {
        assert!(report.problems.iter().any(|problem| problem.contains(&file.path)));
    }
}

#[tokio::test]
async fn the_background_task_compacts_by_itself() {
    let dir = TempDir::new().unwrap();
    let mut options = quiet_options(dir.path());
    options.compaction.enabled = true;
    options.compaction.interval_ms = 1;
    options.compaction.files_min = 4;
    let lake = Lake::open(options, TestClock::new(), &TestReplay).await.unwrap();
    flush_files(&lake, 4).await;
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while lake.snapshot(Table::Spans).unwrap().files.len() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 40));
    lake.shutdown().await.unwrap();
}

#[tokio::test]
async fn merged_files_hold_each_record_once_and_say_how_many_they_left_out() {
    let dir = TempDir::new().unwrap();
    let lake = open_small(&dir, TestClock::new()).await;
    // The same rows in other requests: overlapping, shuffled, and twice within one file.
    for text in ["spans:0:10", "spans:5:10", "spans:0:3 spans:1:3", "spans:14:1"] {
        send(&lake, text).await.unwrap();
        lake.flush().await.unwrap();
    }
    for table in [Table::Logs, Table::Metrics, Table::Payloads, Table::Observations] {
        for first in [0, 2, 4, 6] {
            send(&lake, &format!("{}:{first}:4", table.name())).await.unwrap();
            lake.flush().await.unwrap();
        }
    }
    assert_eq!(
        numbers(&lake, Table::Spans).await.len(),
        27,
        "every delivery stands there"
    );
    let report = lake.compact().await.unwrap();
    assert_eq!(report.n_rows_deduplicated, 12 + 4 * 6);
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 15));
    assert_eq!(numbers(&lake, Table::Observations).await, range(0, 10));
    assert_eq!(numbers(&lake, Table::Logs).await.len(), 10);
    let counted = |lake: &Lake| {
        let tables = lake.stats().tables;
        tables
            .into_iter()
            .map(|table| table.n_rows_deduplicated)
            .collect::<Vec<_>>()
    };
    assert_eq!(counted(&lake), [12, 6, 6, 6, 6, 0, 0]);
    assert!(lake.verify().await.unwrap().is_ok());
    drop(lake);
    let lake = open(&dir).await;
    assert_eq!(
        counted(&lake),
        [12, 6, 6, 6, 6, 0, 0],
        "the count is part of the commit"
    );
}

#[tokio::test]
async fn rows_that_settlement_writes_are_never_taken_for_repeats() {
    let dir = TempDir::new().unwrap();
    let lake = open_small(&dir, TestClock::new()).await;
    for _ in 0..4 {
        let commit = Commit {
            adds: vec![batch(Table::Calls, "default", 0, 5)],
            operation: "SETTLE",
            ..Commit::default()
        };
        lake.commit(Table::Calls, commit).await.unwrap();
    }
    let report = lake.compact_all().await.unwrap();
    assert_eq!((report.n_merges, report.n_rows_deduplicated), (1, 0));
    assert_eq!(numbers(&lake, Table::Calls).await.len(), 20);
}

#[tokio::test]
async fn a_day_that_is_quiet_is_merged_whole() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let lake = open_small(&dir, Arc::clone(&clock)).await;
    flush_files(&lake, 2).await;
    send(&lake, "spans:5:1").await.unwrap();
    lake.flush().await.unwrap();
    assert_eq!(lake.compact().await.unwrap().n_merges, 0, "more may come");
    clock.advance_ms(3_700_000);
    let report = lake.compact().await.unwrap();
    assert_eq!((report.n_merges, report.n_rows_deduplicated), (1, 1));
    assert_eq!(numbers(&lake, Table::Spans).await, range(0, 20));
    assert_eq!(lake.compact().await.unwrap().n_merges, 0);
}

#[tokio::test]
async fn of_an_observation_that_came_twice_the_first_arrival_stays() {
    let dir = TempDir::new().unwrap();
    let lake = open_small(&dir, TestClock::new()).await;
    let arrived = |seconds: i64| {
        let rows = batch(Table::Observations, "default", 0, 2);
        let index = rows.schema().index_of("arrived_at").unwrap();
        let mut columns = rows.columns().to_vec();
        let times = TimestampMicrosecondArray::from(vec![DAY_US + seconds; 2]).with_timezone("UTC");
        columns[index] = Arc::new(times);
        RecordBatch::try_new(rows.schema(), columns).unwrap()
    };
    for seconds in [3, 1, 2] {
        let rows = vec![(Table::Observations, arrived(seconds))];
        lake.append_batch(record("default", &format!("at {seconds}")), rows)
            .await
            .unwrap();
        lake.flush().await.unwrap();
    }
    assert_eq!(lake.compact_all().await.unwrap().n_rows_deduplicated, 4);
    let file = lake.snapshot(Table::Observations).unwrap().files[0].clone();
    let rows = lake
        .read_file(Table::Observations, &file, Some(&["arrived_at"]))
        .await
        .unwrap();
    let times = rows[0].column(0).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.values(), &[DAY_US + 1, DAY_US + 1]);
}

#[tokio::test]
async fn spans_that_share_an_id_are_one_only_where_kind_and_start_are_the_same() {
    let dir = TempDir::new().unwrap();
    let lake = open_small(&dir, TestClock::new()).await;
    let with = |name: &str, column: ArrayRef| {
        let rows = batch(Table::Spans, "default", 0, 2);
        let mut columns = rows.columns().to_vec();
        columns[rows.schema().index_of(name).unwrap()] = column;
        RecordBatch::try_new(rows.schema(), columns).unwrap()
    };
    let kinds = |kind: i32| with("kind", Arc::new(Int32Array::from(vec![kind; 2])));
    let later = TimestampMicrosecondArray::from(vec![DAY_US + 7, DAY_US + 8]).with_timezone("UTC");
    let named = with("name", Arc::new(StringArray::from(vec!["other"; 2])));
    let plain = batch(Table::Spans, "default", 0, 2);
    let deliveries = [
        kinds(3),
        kinds(2),
        kinds(3),
        with("time", Arc::new(later)),
        plain,
        named.clone(),
        named,
    ];
    for (number, rows) in deliveries.into_iter().enumerate() {
        let record = record("default", &format!("delivery {number}"));
        lake.append_batch(record, vec![(Table::Spans, rows)]).await.unwrap();
        lake.flush().await.unwrap();
    }
    // Left out: the second client side, and of those without a kind all but the first, whatever they are named.
    assert_eq!(lake.compact_all().await.unwrap().n_rows_deduplicated, 6);
    assert_eq!(numbers(&lake, Table::Spans).await, [0, 0, 0, 1, 1, 1, 7, 8]);
}
