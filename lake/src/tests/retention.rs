//! Expiry: whole old files leave a table for good, and nothing else does.

use tempfile::TempDir;

use super::*;
use crate::{ExpireReport, Keep, TableExpiry};

const DAY_MS: i64 = ONE_DAY_US / 1_000;

/// A lake whose spans, logs and observations are kept 30 days.
async fn open_expiring(dir: &TempDir, clock: Arc<TestClock>) -> Lake {
    let mut options = quiet_options(dir.path());
    options.compaction.files_min = 4;
    (options.retention.calls, options.retention.ledger) = (Keep::Days(28), Keep::Days(28));
    options.retention.observations = Keep::Days(30);
    Lake::open(options, clock, &TestReplay).await.unwrap()
}

/// Sends ten rows of a day so many days after the first, and flushes them.
async fn send_day(lake: &Lake, table: Table, day: i64) {
    send(lake, &format!("{}:{}:10", table.name(), day * ONE_DAY_US))
        .await
        .unwrap();
    lake.flush().await.unwrap();
}

fn of(report: &ExpireReport, table: Table) -> &TableExpiry {
    report
        .tables
        .iter()
        .find(|expiry| expiry.table == table.name())
        .unwrap()
}

#[tokio::test]
async fn expiry_removes_whole_old_files_and_keeps_the_rest() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let lake = open_expiring(&dir, Arc::clone(&clock)).await;
    for day in [0, 1, 2] {
        send_day(&lake, Table::Spans, day).await;
        clock.advance_ms(DAY_MS);
    }
    let text = "spans:5:5 metrics:0:5";
    lake.append_batch(record("other", text), parse_rows("other", text))
        .await
        .unwrap();
    lake.flush().await.unwrap();
    assert_eq!(lake.expire().await.unwrap().n_files(), 0, "nothing is old yet");

    // Day 32: days 0 and 1 are past, but what `other` sent late, on day 3, is kept 30 days from then.
    clock.advance_ms(29 * DAY_MS);
    let planned = lake.expiring(&lake.options().retention);
    assert_eq!(numbers(&lake, Table::Spans).await.len(), 35, "a look changes nothing");
    let report = lake.expire().await.unwrap();
    assert_eq!(report, planned);
    let spans = of(&report, Table::Spans);
    assert_eq!((spans.n_files, spans.n_rows, spans.n_days), (2, 20, 2));
    assert_eq!(
        (spans.first_day.as_deref(), spans.last_day.as_deref()),
        (Some("2026-11-22"), Some("2026-11-23"))
    );
    let kept = [range(5, 5), range(2 * ONE_DAY_US, 10)].concat();
    assert_eq!(numbers(&lake, Table::Spans).await, kept);
    assert_eq!(numbers(&lake, Table::Metrics).await, range(0, 5));
    let stats = &lake.stats().tables[Table::Spans as usize];
    assert_eq!((stats.n_files_expired, stats.n_rows_expired), (2, 20));
    assert_eq!((stats.n_rows, stats.bytes_expired), (15, spans.bytes));
    assert_eq!(lake.expire().await.unwrap().n_files(), 0);
    assert!(lake.verify().await.unwrap().is_ok());

    lake.shutdown().await.unwrap();
    drop(lake);
    let lake = open_expiring(&dir, clock).await;
    assert_eq!(numbers(&lake, Table::Spans).await, kept, "gone for good");
}

#[tokio::test]
async fn an_expiry_is_a_delete_in_the_log_and_vacuum_frees_the_disk() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let lake = open_expiring(&dir, Arc::clone(&clock)).await;
    send_day(&lake, Table::Spans, 0).await;
    let path = lake.snapshot(Table::Spans).unwrap().files[0].path.clone();
    clock.advance_ms(31 * DAY_MS);
    lake.expire().await.unwrap();
    let version = lake.snapshot(Table::Spans).unwrap().version;
    let log = std::fs::read_to_string(dir.path().join(format!("tables/spans/_delta_log/{version:020}.json"))).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["commitInfo"]["operation"], "DELETE");
    assert_eq!(
        lines[0]["commitInfo"]["operationParameters"]["predicate"],
        r#"["day < '2026-11-23'"]"#
    );
    assert!(path.ends_with(lines[1]["remove"]["path"].as_str().unwrap()));
    assert_eq!(lines[1]["remove"]["dataChange"], true);
    assert_eq!(lines.len(), 2);

    assert!(dir.path().join(&path).exists(), "for readers of an older version");
    clock.advance_ms(lake.options().compaction.vacuum_grace_ms as i64 + 1_000);
    assert_eq!(lake.vacuum().await.unwrap().n_files, 1);
    assert!(!dir.path().join(&path).exists());
}

#[tokio::test]
async fn observations_expire_only_once_they_are_settled() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let lake = open_expiring(&dir, Arc::clone(&clock)).await;
    send_day(&lake, Table::Observations, 0).await;
    clock.advance_ms(40 * DAY_MS);
    let report = lake.expire().await.unwrap();
    let observations = of(&report, Table::Observations);
    assert_eq!((observations.n_files, observations.n_files_unsettled), (0, 1));
    assert_eq!(numbers(&lake, Table::Observations).await, range(0, 10));

    lake.set_settled(lake.positions().flushed);
    let report = lake.expire().await.unwrap();
    let observations = of(&report, Table::Observations);
    assert_eq!((observations.n_files, observations.n_files_unsettled), (1, 0));
    assert_eq!(numbers(&lake, Table::Observations).await, range(0, 0));
}

#[tokio::test]
async fn a_merge_makes_no_row_younger() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let lake = open_expiring(&dir, Arc::clone(&clock)).await;
    for n_file in 0..4 {
        send(&lake, &format!("spans:{}:10", n_file * 10)).await.unwrap();
        lake.flush().await.unwrap();
    }
    let newest = |lake: &Lake| {
        let files = lake.snapshot(Table::Spans).unwrap().files;
        files.iter().filter_map(crate::DataFile::written_ns).max()
    };
    let written_ns = newest(&lake);
    clock.advance_ms(29 * DAY_MS);
    assert_eq!(lake.compact().await.unwrap().n_merges, 1);
    assert_eq!(newest(&lake), written_ns);
    send(&lake, "spans:40:10").await.unwrap();
    lake.flush().await.unwrap();
    clock.advance_ms(2 * DAY_MS);
    lake.expire().await.unwrap();
    assert_eq!(
        numbers(&lake, Table::Spans).await,
        range(40, 10),
        "30 days from its arrival"
    );
    clock.advance_ms(29 * DAY_MS);
    lake.expire().await.unwrap();
    assert!(numbers(&lake, Table::Spans).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expiry_takes_turns_with_who_rewrites_the_files() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let lake = open_expiring(&dir, Arc::clone(&clock)).await;
    let old = crate::Commit {
        adds: vec![batch(Table::Calls, "default", 0, 10)],
        operation: "SETTLE",
        ..crate::Commit::default()
    };
    lake.commit(Table::Calls, old).await.unwrap();
    clock.advance_ms(60 * DAY_MS);
    let writer = tokio::spawn({
        let lake = lake.clone();
        async move {
            for n_row in 0..40 {
                let add = crate::Commit {
                    adds: vec![batch(Table::Calls, "default", 60 * ONE_DAY_US + n_row, 1)],
                    operation: "SETTLE",
                    ..crate::Commit::default()
                };
                lake.commit(Table::Calls, add).await.unwrap();
                lake.compact().await.unwrap();
            }
        }
    });
    let report = lake.expire().await.unwrap();
    assert_eq!(of(&report, Table::Calls).n_rows, 10);
    writer.await.unwrap();
    lake.expire().await.unwrap();
    assert_eq!(numbers(&lake, Table::Calls).await, range(60 * ONE_DAY_US, 40));
}

#[tokio::test]
async fn the_background_task_lets_old_files_expire() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let lake = open_expiring(&dir, Arc::clone(&clock)).await;
    send_day(&lake, Table::Spans, 0).await;
    lake.shutdown().await.unwrap();
    drop(lake);
    clock.advance_ms(31 * DAY_MS);
    let mut options = quiet_options(dir.path());
    options.compaction.enabled = true;
    options.compaction.interval_ms = 1;
    let lake = Lake::open(options, clock, &TestReplay).await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while !lake.snapshot(Table::Spans).unwrap().files.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    lake.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_lake_is_not_opened_with_a_retention_that_harms_settlement() {
    let dir = TempDir::new().unwrap();
    let mut options = quiet_options(dir.path());
    options.retention.spans = Keep::Days(1);
    let error = Lake::open(options, TestClock::new(), &TestReplay).await.unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Invalid);
    assert!(error.to_string().contains("retention.spans_days = 1"), "{error}");
}
