//! Keys over a real control state: what opens, what does not, and how soon a revoked one is dead.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::sessions::Sessions;

#[derive(Debug)]
struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now_ns(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl TestClock {
    fn advance_ms(&self, ms: i64) {
        self.0.fetch_add(ms * 1_000_000, Ordering::Relaxed);
    }
}

struct Fixture {
    keys: Keys,
    clock: Arc<TestClock>,
    folder: tempfile::TempDir,
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock(AtomicI64::new(1_800_000_000_000_000_000)));
    let keys = another(&folder, &clock, Roles::built_in()).await;
    Fixture { keys, clock, folder }
}

/// Keys as a second process of the folder has them.
async fn another(folder: &tempfile::TempDir, clock: &Arc<TestClock>, roles: Roles) -> Keys {
    let state = State::open(folder.path()).await.unwrap();
    Keys::new(state, roles, Arc::clone(clock) as Arc<dyn Clock>)
}

fn new(role: &str) -> NewKey {
    NewKey {
        tenant: "acme".to_owned(),
        name: "ci".to_owned(),
        role: role.to_owned(),
        created_by: "test".to_owned(),
        ..NewKey::default()
    }
}

async fn refusal(keys: &Keys, key: &str) -> String {
    keys.authenticate(key).await.unwrap_err().to_string()
}

#[test]
fn base_62_keeps_every_bit() {
    assert_eq!(base_62(&[0; 32], SECRET_CHARS), "0".repeat(SECRET_CHARS));
    assert_eq!(base_62(&[61], 2), "0z");
    assert_eq!(base_62(&u32::MAX.to_be_bytes(), CHECKSUM_CHARS), "4gfFC3");
    // 2^256 - 1 < 62^43: the highest digit of the largest number is not cut off.
    let largest = base_62(&[255; 32], SECRET_CHARS + 2);
    assert!(largest.starts_with("00") && !largest.starts_with("000"), "{largest}");
}

#[tokio::test]
async fn a_key_opens_its_tenant_with_its_role_and_a_wrong_one_opens_nothing() {
    let Fixture {
        keys, folder: _folder, ..
    } = fixture().await;
    let (info, key) = keys.create(&new("analyst")).await.unwrap();
    let principal = keys.authenticate(key.expose()).await.unwrap();
    assert_eq!(principal.tenant().as_str(), "acme");
    assert_eq!(
        (principal.issuer(), principal.subject()),
        (KEY_ISSUER, info.id.as_str())
    );
    assert_eq!(principal.scopes().to_string(), "costs:read sql:read");

    let text = key.expose();
    assert!(
        text.starts_with(PREFIX) && text.len() == 3 + 12 + 1 + 43 + 1 + 6,
        "{}",
        text.len()
    );
    // Every single wrong character is a typo, told from an unknown key.
    for at in PREFIX.len()..text.len() {
        let mut wrong = text.as_bytes().to_vec();
        wrong[at] = if wrong[at] == b'x' { b'y' } else { b'x' };
        let error = refusal(&keys, std::str::from_utf8(&wrong).unwrap()).await;
        assert!(error.contains("typo"), "{at}: {error}");
    }
    for wrong in [
        "",
        "sl_",
        "sl__",
        "sl_a_b_c",
        "ä",
        &text[..text.len() - 1],
        &format!("{text}_"),
    ] {
        assert!(refusal(&keys, wrong).await.contains("typo"), "{wrong}");
    }
    let (_, other) = keys.create(&new("admin")).await.unwrap();
    let other_secret = parse(other.expose()).unwrap().1;
    for forged in [
        assemble(&info.id, &"0".repeat(SECRET_CHARS)),
        assemble(&info.id, other_secret),
        assemble("000000000000", other_secret),
    ] {
        let error = refusal(&keys, forged.expose()).await;
        assert!(error.contains("not known") && !error.contains(other_secret), "{error}");
    }
}

#[tokio::test]
async fn the_use_of_a_key_that_works_no_more_is_recorded_once_a_minute() {
    let Fixture { keys, clock, folder } = fixture().await;
    let state = State::open(folder.path()).await.unwrap();
    let audit = Audit::open(state, Arc::clone(&clock) as Arc<dyn Clock>, 0);
    let keys = keys.with_audit(audit.clone());
    let (info, key) = keys.create(&new("viewer")).await.unwrap();
    keys.authenticate(key.expose()).await.unwrap();
    keys.revoke(None, &info.id).await.unwrap();
    let recorded = async || {
        audit.flush().await;
        audit.list("acme", &crate::audit::Filter::default()).await.unwrap()
    };
    for (wait_ms, expected) in [(0, 1), (500, 1), (58_000, 1), (2_000, 2)] {
        clock.advance_ms(wait_ms);
        refusal(&keys, key.expose()).await;
        assert_eq!(recorded().await.len(), expected, "after {wait_ms} ms more");
    }
    let entry = &recorded().await[0];
    let said = (entry.action.as_str(), entry.outcome.as_str(), entry.detail.as_deref());
    assert_eq!(said, ("key.use", "denied", Some("revoked")));
    assert_eq!((&entry.subject, entry.interface.as_str()), (&info.id, "any"));
    // Who does not know the secret says nothing about the key.
    clock.advance_ms(120_000);
    refusal(&keys, assemble(&info.id, &"0".repeat(SECRET_CHARS)).expose()).await;
    assert_eq!(recorded().await.len(), 2);
}

#[tokio::test]
async fn a_key_revoked_by_another_process_is_dead_within_a_second() {
    let Fixture { keys, clock, folder } = fixture().await;
    let (info, key) = keys.create(&new("viewer")).await.unwrap();
    keys.authenticate(key.expose()).await.unwrap();

    let beside = another(&folder, &clock, Roles::built_in()).await;
    let revoked = beside.revoke(None, &info.id).await.unwrap();
    assert_eq!(revoked.status(0), KeyStatus::Revoked);
    clock.advance_ms(999);
    assert!(refusal(&keys, key.expose()).await.contains("revoked"));

    // Revoking again keeps the first time; a key of another tenant is not found.
    let again = beside.revoke(Some("acme"), key.expose()).await.unwrap();
    assert_eq!(again.revoked_at, revoked.revoked_at);
    for (tenant, id) in [(Some("other"), info.id.as_str()), (None, "nothing")] {
        let error = beside.revoke(tenant, id).await.unwrap_err();
        assert!(matches!(error, AccessError::Invalid(_)), "{error}");
    }
}

#[tokio::test]
async fn a_key_ends_at_its_time_and_is_refused_where_its_role_is_gone() {
    let Fixture { keys, clock, folder } = fixture().await;
    let ends = NewKey {
        expires_at: Some(keys.now_us() + 1_000_000),
        ..new("viewer")
    };
    let (info, key) = keys.create(&ends).await.unwrap();
    keys.authenticate(key.expose()).await.unwrap();
    clock.advance_ms(1_000);
    assert!(refusal(&keys, key.expose()).await.contains("expired"));
    assert_eq!(info.status(keys.now_us()), KeyStatus::Expired);
    assert!(keys.create(&ends).await.is_err());

    let settings = std::collections::BTreeMap::from([(
        "lead".to_owned(),
        crate::roles::RoleSettings {
            scopes: vec!["costs:read".to_owned()],
            teams: Some(vec!["search".to_owned(), "ads".to_owned()]),
            ..Default::default()
        },
    )]);
    let with_lead = another(&folder, &clock, Roles::with(&settings).unwrap()).await;
    let rows = RowFilter::new([
        ("team".to_owned(), vec!["ads".to_owned(), "hr".to_owned()]),
        ("environment".to_owned(), vec!["prod".to_owned()]),
    ])
    .unwrap();
    let (_, lead) = with_lead.create(&NewKey { rows, ..new("lead") }).await.unwrap();
    let principal = with_lead.authenticate(lead.expose()).await.unwrap();
    let seen: Vec<_> = principal.rows().conditions().collect();
    assert_eq!(
        seen,
        [
            ("environment", &["prod".to_owned()][..]),
            ("team", &["ads".to_owned()][..])
        ]
    );
    let error = keys.authenticate(lead.expose()).await.unwrap_err();
    assert!(matches!(error, AccessError::Forbidden(_)), "{error}");
}

#[tokio::test]
async fn what_cannot_be_a_key_is_not_made() {
    let Fixture {
        keys, folder: _folder, ..
    } = fixture().await;
    let team = |values: &[&str]| {
        RowFilter::new([(
            "team".to_owned(),
            values.iter().map(|value| (*value).to_owned()).collect(),
        )])
        .unwrap()
    };
    for (wrong, expected) in [
        (
            NewKey {
                tenant: "../x".to_owned(),
                ..new("viewer")
            },
            "tenant",
        ),
        (
            NewKey {
                tenant: String::new(),
                ..new("viewer")
            },
            "tenant",
        ),
        (
            NewKey {
                name: "a\u{1b}b".to_owned(),
                ..new("viewer")
            },
            "name",
        ),
        (new("root"), "root"),
        (
            NewKey {
                rows: team(&["a"]),
                ..new("admin")
            },
            "cannot be confined",
        ),
        (
            NewKey {
                rows: team(&[]),
                ..new("viewer")
            },
            "values",
        ),
    ] {
        let error = keys.create(&wrong).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(keys.list(None).await.unwrap().is_empty() && !keys.has_admin().await.unwrap());
    keys.create(&new("admin")).await.unwrap();
    assert!(keys.has_admin().await.unwrap());
    assert_eq!(keys.list(Some("acme")).await.unwrap().len(), 1);
    assert!(keys.list(Some("other")).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_use_of_a_key_is_noted_at_most_once_a_minute() {
    let Fixture {
        keys,
        clock,
        folder: _folder,
    } = fixture().await;
    let (_, key) = keys.create(&new("viewer")).await.unwrap();
    let used = async |expected: i64| {
        // Written in the background: the state says when.
        while keys.list(None).await.unwrap()[0].last_used_at != Some(expected) {
            tokio::task::yield_now().await;
        }
    };
    let first = keys.now_us();
    keys.authenticate(key.expose()).await.unwrap();
    used(first).await;
    clock.advance_ms(59_000);
    keys.authenticate(key.expose()).await.unwrap();
    clock.advance_ms(1_000);
    let second = keys.now_us();
    keys.authenticate(key.expose()).await.unwrap();
    used(second).await;
}

#[test]
fn a_key_in_a_text_is_cut_down_to_its_id() {
    let key = assemble("0123456789ab", &"s".repeat(SECRET_CHARS));
    let key = key.expose();
    let check = |text: &str, expected: &str| assert_eq!(without_secrets(text), expected, "{text}");
    check(key, "sl_0123456789ab_…");
    check(&format!("/api/v1/keys/{key}?x=1"), "/api/v1/keys/sl_0123456789ab_…?x=1");
    check(
        &format!("'{key}', sl_{key}"),
        "'sl_0123456789ab_…', sl_sl_0123456789ab_…",
    );
    // half of a secret is no less of one
    check(&key[..40], "sl_0123456789ab_…");
    for harmless in [
        "",
        "SELECT 1",
        "sl_",
        "sl_0123456789ab",
        "sl_0123456789ab_",
        "tool sl_run_now",
    ] {
        check(harmless, harmless);
    }
}

#[tokio::test]
async fn sessions_of_a_key_are_bounded_and_the_oldest_end() {
    let Fixture {
        keys,
        clock,
        folder: _folder,
    } = fixture().await;
    let sessions = Sessions::new(keys.clone());
    let (_, key) = keys.create(&new("viewer")).await.unwrap();
    let (_, other) = keys.create(&new("viewer")).await.unwrap();
    let others = sessions.start(other.expose()).await.unwrap();
    let mut started = Vec::new();
    for _ in 0..=crate::sessions::PER_KEY_MAX {
        clock.advance_ms(1);
        started.push(sessions.start(key.expose()).await.unwrap().value);
    }
    assert!(sessions.principal(&started[0]).await.is_err(), "the oldest is over");
    for value in [&started[1], &started[started.len() - 1], &others.value] {
        assert!(sessions.principal(value).await.is_ok());
    }
}

#[tokio::test]
async fn the_files_of_the_state_hold_no_secret() {
    let Fixture { keys, folder, .. } = fixture().await;
    let (_, key) = keys.create(&new("admin")).await.unwrap();
    let session = Sessions::new(keys.clone()).start(key.expose()).await.unwrap();
    let secret = parse(key.expose()).unwrap().1;
    assert!(!format!("{key:?} {keys:?}").contains(secret));
    let mut n_files = 0;
    for entry in std::fs::read_dir(folder.path().join("state")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for text in [secret, &session.value] {
            assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()));
        }
        n_files += 1;
    }
    assert!(n_files > 0);
}

#[tokio::test]
async fn a_session_ends_with_its_key_its_time_or_its_user() {
    let Fixture {
        keys,
        clock,
        folder: _folder,
    } = fixture().await;
    let sessions = Sessions::new(keys.clone());
    let (info, key) = keys.create(&new("viewer")).await.unwrap();
    assert!(sessions.start("sl_wrong").await.is_err());
    let first = sessions.start(key.expose()).await.unwrap();
    let second = sessions.start(key.expose()).await.unwrap();
    assert_eq!(sessions.principal(&first.value).await.unwrap(), first.principal);
    sessions.end(&first.value).await.unwrap();
    assert!(sessions.principal(&first.value).await.is_err());
    clock.advance_ms(crate::sessions::SESSION_LIFE_US / 1_000 - 1);
    assert!(sessions.principal(&second.value).await.is_ok());
    clock.advance_ms(1);
    assert!(sessions.principal(&second.value).await.is_err());
    let third = sessions.start(key.expose()).await.unwrap();
    keys.revoke(None, &info.id).await.unwrap();
    let error = sessions.principal(&third.value).await.unwrap_err();
    assert!(error.to_string().contains("revoked"), "{error}");
    assert!(sessions.principal(key.expose()).await.is_err());
}
