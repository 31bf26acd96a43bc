//! The official conformance suite of the Model Context Protocol, against the built binary.
//!
//! With the fixtures that its scenarios call, every scenario of both dates passes, tasks included. Without them, on a
//! server that requires access, those that any server can pass do; the suite cannot send a token, so a loopback
//! proxy adds it, which is what a gateway does. Check counts are printed.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};

use serde_json::Value;
use spanledger_testkit::tools;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{TestServer, run_ok};

/// Scenarios of 2026-07-28 that ask for no fixture.
const MODERN: [&str; 9] = [
    "completion-complete",
    "tools-list",
    "server-sse-multiple-streams",
    "resources-list",
    "sep-2164-resource-not-found",
    "prompts-list",
    "dns-rebinding-protection",
    "caching",
    "input-required-result-unsupported-methods",
];
/// Scenarios of 2025-11-25 that ask for no fixture.
const LEGACY: [&str; 8] = [
    "server-initialize",
    "ping",
    "completion-complete",
    "tools-list",
    "server-sse-multiple-streams",
    "resources-list",
    "prompts-list",
    "dns-rebinding-protection",
];
/// Checks of `server-stateless` that call a fixture.
const STATELESS_WITH_FIXTURES: [&str; 4] = [
    "sep-2575-server-rejects-undeclared-capability",
    "sep-2575-missing-capability-http-400",
    "sep-2575-http-server-no-independent-requests-on-stream",
    "sep-2575-server-no-log-without-loglevel",
];
/// Scenarios of the tasks extension that the suite runs.
const TASKS: [&str; 9] = [
    "tasks-lifecycle",
    "tasks-capability-negotiation",
    "tasks-wire-fields",
    "tasks-request-state-removal",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-dispatch-and-envelope",
    "tasks-required-task-error",
    "tasks-mrtr-composition",
];

/// Scenarios in which the suite checks nothing: it skips the first itself (its harness awaits a rewrite for
/// `subscriptions/listen`); the second is about sessions, and its client declares nothing that needs one here, so it
/// is served without ("lifecycle checks not applicable"). Sessions are tested in `mcp-server/src/tests/protocol.rs`.
const UNCHECKED: [&str; 2] = ["tasks-status-notifications", "server-session-lifecycle"];

/// Passed and failed checks of each scenario, and the failed ones by name.
#[derive(Debug, Default)]
struct Score {
    scenarios: BTreeMap<String, (u32, u32)>,
    failed: Vec<(String, String)>,
    all: String,
}

impl Score {
    fn failed_in(&self, scenario: &str) -> Vec<&str> {
        let of = self.failed.iter().filter(|(of, _)| of == scenario);
        of.map(|(_, check)| check.as_str()).collect()
    }

    fn total(&self) -> (u32, u32) {
        let counts = self.scenarios.values();
        counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

/// Runs the scenarios of a date against `url`.
#[allow(
    clippy::print_stdout,
    reason = "the counts are what a reader of the test's output looks for"
)]
async fn score(url: &str, date: &str) -> Score {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results");
    let mut command = tools::npm_command("conformance").unwrap();
    command
        .args(["server", "--url", url, "--requirements", date, "-o"])
        .arg(&results)
        .current_dir(folder.path())
        .stdin(Stdio::null());
    // The suite gives each request a deadline of its own. Its exit code speaks of required scenarios only.
    let output: Output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let all = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut score = Score {
        all: format!("{all}\n{}", String::from_utf8_lossy(&output.stderr)),
        ..Score::default()
    };
    for line in all.lines() {
        // "✓ ping: 2 passed, 0 failed"
        let Some((scenario, counts)) = line.trim_start_matches(['✓', '✗', ' ']).split_once(": ") else {
            continue;
        };
        let counts: Vec<&str> = counts.split([' ', ',']).filter(|part| !part.is_empty()).collect();
        if let [passed, "passed", failed, "failed"] = counts[..]
            && scenario != "Total"
        {
            let counts = (passed.parse().unwrap(), failed.parse().unwrap());
            score.scenarios.insert(scenario.to_owned(), counts);
        }
    }
    for scenario in std::fs::read_dir(&results).unwrap() {
        let scenario = scenario.unwrap();
        let checks = std::fs::read(scenario.path().join("checks.json")).unwrap();
        let checks: Vec<Value> = serde_json::from_slice(&checks).unwrap();
        let name = scenario.file_name().into_string().unwrap();
        // "server-ping-2026-11-23T02-16-51-249Z"
        let name = name.trim_start_matches("server-");
        let known = score
            .scenarios
            .keys()
            .filter(|known| name.starts_with(known.as_str()) || format!("server-{name}").starts_with(known.as_str()));
        let Some(name) = known.max_by_key(|known| known.len()).cloned() else {
            continue;
        };
        let failed = checks.iter().filter(|check| check["status"] == "FAILURE");
        score
            .failed
            .extend(failed.map(|check| (name.clone(), check["id"].as_str().unwrap_or_default().to_owned())));
    }
    let (passed, failed) = score.total();
    println!(
        "{date}: {passed} checks passed, {failed} failed, in {} scenarios",
        score.scenarios.len()
    );
    score
}

#[tokio::test(flavor = "multi_thread")]
async fn with_fixtures_every_scenario_of_both_dates_passes() {
    let server = TestServer::start_with(&["serve", "--conformance-fixtures"]).await;
    let url = format!("{}/mcp", server.addresses().http);
    for (date, at_least) in [("2026-07-28", 37), ("2025-11-25", 30)] {
        let score = score(&url, date).await;
        assert!(score.scenarios.len() >= at_least, "{}", score.all);
        assert_eq!(score.total().1, 0, "{:?}\n{}", score.failed, score.all);
        for (scenario, (passed, _)) in &score.scenarios {
            let is_unchecked = UNCHECKED.contains(&scenario.as_str());
            assert_eq!(*passed == 0, is_unchecked, "{scenario}: {passed} checks\n{}", score.all);
        }
        if date == "2026-07-28" {
            for scenario in TASKS {
                let (passed, _) = score.scenarios.get(scenario).copied().unwrap_or_default();
                assert!(passed > 0, "{scenario} did not run\n{}", score.all);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[allow(
    clippy::print_stdout,
    reason = "the counts are what a reader of the test's output looks for"
)]
async fn without_fixtures_what_any_server_can_pass_passes_behind_a_gateway() {
    let server = TestServer::start_with(&["serve", "--access", "required"]).await;
    let data = server.data().to_str().unwrap().to_owned();
    let arguments = ["keys", "create", "--role", "admin", "--format", "json", "--data", &data];
    let key: Value = serde_json::from_str(&run_ok(server.data(), &arguments)).unwrap();
    let key = key["key"].as_str().unwrap().to_owned();
    let address = server.addresses().http.trim_start_matches("http://").to_owned();
    let url = format!("http://{}/mcp", gateway(address, key).await);
    for (date, scenarios) in [("2026-07-28", &MODERN[..]), ("2025-11-25", &LEGACY[..])] {
        let score = score(&url, date).await;
        for scenario in scenarios {
            let (passed, failed) = score.scenarios.get(*scenario).copied().unwrap_or_default();
            assert!(passed > 0 && failed == 0, "{scenario}\n{}", score.all);
        }
        println!("{date}: {} general scenarios", scenarios.len());
        if date == "2026-07-28" {
            let failed = score.failed_in("server-stateless");
            assert!(score.scenarios["server-stateless"].0 >= 24, "{}", score.all);
            assert!(
                failed.iter().all(|check| STATELESS_WITH_FIXTURES.contains(check)),
                "{failed:?}\n{}",
                score.all
            );
            assert_eq!(score.scenarios["http-header-validation"], (14, 0), "{}", score.all);
        }
    }
}

/// A loopback address that hands each request on with a token. One request a connection: so every one gets it.
async fn gateway(to: String, key: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (to, key) = (to.clone(), key.clone());
            // A peer that goes away ends its own connection and no other.
            tokio::spawn(async move {
                let _ = hand_on(client, &to, &key).await;
            });
        }
    });
    address
}

async fn hand_on(mut client: TcpStream, to: &str, key: &str) -> std::io::Result<()> {
    let mut head = Vec::new();
    let end = loop {
        if let Some(at) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at;
        }
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    };
    let rest = head.split_off(end);
    let head = String::from_utf8_lossy(&head);
    let kept = head
        .split("\r\n")
        .filter(|line| !line.to_lowercase().starts_with("connection:"));
    let head = kept.collect::<Vec<_>>().join("\r\n");
    let mut server = TcpStream::connect(to).await?;
    let added = format!("{head}\r\nConnection: close\r\nAuthorization: Bearer {key}");
    server.write_all(added.as_bytes()).await?;
    server.write_all(&rest).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
