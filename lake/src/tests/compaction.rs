//! Merging, settling beside it, vacuum and verification.

use std::sync::Arc;

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
