//! The log over a real control state: nothing of a change is lost, what is lost of reads is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use spanledger_model::clock::SystemClock;

use super::*;

async fn open(folder: &tempfile::TempDir) -> (State, Audit) {
    let state = State::open(folder.path()).await.unwrap();
    let audit = Audit::open(state.clone(), Arc::new(SystemClock), RETENTION_DAYS_DEFAULT);
    (state, audit)
}

#[tokio::test]
async fn entries_are_listed_by_tenant_and_filter_newest_first() {
    let folder = tempfile::tempdir().unwrap();
    let (_, audit) = open(&folder).await;
    let (here, there) = (Principal::local(), Principal::local_of("other"));
    audit.record(
        &here,
        Interface::Rest,
        "costs.read",
        Some("/api/v1/costs"),
        Outcome::Ok,
        None,
    );
    audit.record(&there, Interface::Rest, "costs.read", None, Outcome::Ok, None);
    audit.flush().await;
    audit
        .record_change(
            &here,
            Interface::Cli,
            "key.create",
            Some("k1"),
            Outcome::Ok,
            Some("role viewer"),
        )
        .await
        .unwrap();
    audit.record(
        &here,
        Interface::Mcp,
        "run_sql",
        Some("\u{1b}[31mred"),
        Outcome::Denied,
        Some(&"ä".repeat(9_000)),
    );
    audit.flush().await;

    let actions = async |filter: Filter| -> Vec<String> {
        let entries = audit.list("default", &filter).await.unwrap();
        entries.into_iter().map(|entry| entry.action).collect()
    };
    assert_eq!(
        actions(Filter::default()).await,
        ["run_sql", "key.create", "costs.read"]
    );
    let denied = Filter {
        outcome: Some("denied".to_owned()),
        ..Filter::default()
    };
    assert_eq!(actions(denied).await, ["run_sql"]);
    let newest = Filter {
        limit: 1,
        ..Filter::default()
    };
    let newest = audit.list("default", &newest).await.unwrap();
    assert_eq!(newest[0].target.as_deref(), Some(" [31mred"));
    assert_eq!(newest[0].detail.as_ref().unwrap().len(), DETAIL_BYTES_MAX);
    let before = Filter {
        until: Some(newest[0].time),
        since: Some(0),
        interface: Some("cli".to_owned()),
        ..Filter::default()
    };
    assert_eq!(actions(before).await, ["key.create"]);
    assert_eq!(audit.list("other", &Filter::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_change_is_stored_when_it_returns_and_a_full_queue_tells_of_its_gap() {
    let folder = tempfile::tempdir().unwrap();
    let (state, audit) = open(&folder).await;
    let principal = Principal::local();
    // The writer has no turn on this one thread until something is awaited.
    let n_recorded = QUEUE_MAX + 7;
    for _ in 0..n_recorded {
        audit.record(&principal, Interface::Rest, "costs.read", None, Outcome::Ok, None);
    }
    assert_eq!(audit.dropped(), 7);
    audit
        .record_change(&principal, Interface::Rest, "budget.set", Some("b"), Outcome::Ok, None)
        .await
        .unwrap();
    let beside = State::open(folder.path()).await.unwrap();
    let changed = Filter {
        action: Some("budget.set".to_owned()),
        ..Filter::default()
    };
    assert_eq!(list(&beside, "default", &changed).await.unwrap().len(), 1);

    audit.flush().await;
    let gap = Filter {
        action: Some("audit.gap".to_owned()),
        ..Filter::default()
    };
    let gap = audit.list("default", &gap).await.unwrap();
    assert!(gap[0].detail.as_ref().unwrap().starts_with("7 entries"), "{gap:?}");
    let (written,): (i64,) = sqlx::query_as("SELECT count(*) FROM audit_log WHERE action = 'costs.read'")
        .fetch_one(state.pool())
        .await
        .unwrap();
    assert_eq!(written, i64::try_from(QUEUE_MAX).unwrap());
}

#[tokio::test]
async fn entries_past_their_days_are_removed_and_no_others() {
    #[derive(Debug)]
    struct DaysAgo(i64);
    impl Clock for DaysAgo {
        fn now_ns(&self) -> i64 {
            SystemClock.now_ns() - self.0 * DAY_US * 1_000
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path()).await.unwrap();
    for days in [31, 29] {
        let audit = Audit::open(state.clone(), Arc::new(DaysAgo(days)), RETENTION_DAYS_DEFAULT);
        let action = format!("{days} days ago");
        audit
            .record_change(&Principal::local(), Interface::Cli, &action, None, Outcome::Ok, None)
            .await
            .unwrap();
    }
    let audit = Audit::open(state, Arc::new(SystemClock), 30);
    loop {
        let left = audit.list("default", &Filter::default()).await.unwrap();
        if left.len() == 1 {
            assert_eq!(left[0].action, "29 days ago");
            break;
        }
        tokio::task::yield_now().await;
    }
}
