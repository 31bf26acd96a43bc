//! API keys over the built binary: made and revoked beside a running server, never found anywhere but where they
//! were shown; and that one lake of two tenants is two ledgers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use spanledger_testkit::captures::{self, Capture};
use spanledger_testkit::server::Answer;
use spanledger_testkit::wait::until;

use crate::support::{BINARY, LEDGER, TestServer, run, run_ok};

/// Everything of the calls that settlement decides.
const CALLS: &str = "SELECT call_id, trace_id, span_id, kind, team, tool, input_tokens, output_tokens, own_cost, rules, hops, \
                     array_to_string(observation_ids, ',') AS records FROM calls ORDER BY call_id";

/// A key and its id.
struct Key {
    id: String,
    text: String,
}

impl Key {
    fn create(folder: &Path, data: &Path, arguments: &[&str]) -> Self {
        let data = data.to_str().unwrap();
        let made = run_ok(
            folder,
            &[&["keys", "create", "--format", "json", "--data", data], arguments].concat(),
        );
        let made: Value = serde_json::from_str(&made).unwrap();
        Self {
            id: made["id"].as_str().unwrap().to_owned(),
            text: made["key"].as_str().unwrap().to_owned(),
        }
    }

    /// What must be found nowhere.
    fn secret(&self) -> &str {
        self.text.split('_').nth(2).unwrap()
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.text)
    }
}

async fn sql(server: &TestServer, authorization: Option<&str>, query: &str) -> Answer {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(authorization.map(|value| ("authorization", value)));
    let body = json!({"query": query, "format": "json"}).to_string();
    server.post_http("/api/v1/sql", body, &headers).await.unwrap()
}

fn with_key(folder: &Path, key: &str, arguments: &[&str]) -> Output {
    Command::new(BINARY)
        .args(arguments)
        .env("SPANLEDGER_API_KEY", key)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Files below a folder that hold one of these texts.
fn holding(folder: &Path, texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, texts));
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let has = |text: &&str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        found.extend(texts.iter().any(has).then(|| path.display().to_string()));
    }
    found
}

#[tokio::test]
async fn a_key_works_at_once_and_dies_when_revoked_and_its_secret_is_found_nowhere() {
    let server = TestServer::start_with(&["serve", "--access", "required", "--log", "debug"]).await;
    until("the advice to make a key", Duration::from_secs(10), async || {
        Ok(server
            .printed()
            .contains("spanledger keys create --role admin")
            .then_some(()))
    })
    .await
    .unwrap();
    let data = server.data().to_owned();
    let home = data.parent().unwrap().to_owned();

    let analyst = Key::create(&home, &data, &["--role", "analyst", "--name", "the analyst"]);
    let ingest = Key::create(&home, &data, &["--role", "ingest", "--tenant", "acme"]);
    let keys = [&analyst, &ingest];
    let secrets: Vec<&str> = keys.iter().map(|key| key.secret()).collect();
    assert!(secrets.iter().all(|secret| secret.len() == 43));

    assert_eq!(
        sql(&server, Some(&analyst.bearer()), "SELECT 1 AS one").await.status,
        200
    );
    let url = server.addresses().http.clone();
    let by_password = reqwest::Client::new()
        .get(format!("{url}/api/v1/status"))
        .basic_auth("anyone", Some(&analyst.text))
        .send()
        .await
        .unwrap();
    assert_eq!(by_password.status().as_u16(), 200);
    let typo = analyst
        .bearer()
        .replacen(analyst.secret(), &ingest.secret().to_lowercase(), 1);
    for (authorization, status, said) in [
        (None, 401, "spanledger keys create"),
        (Some(typo.as_str()), 401, "typo"),
        (Some("Bearer sl_short"), 401, "typo"),
        (Some("Bearer eyJhbGciOiJub25lIn0.e30."), 401, "no API key"),
        (Some("Basic !!"), 401, "no API key"),
        (Some(ingest.bearer().as_str()), 403, "sql:read"),
    ] {
        let answer = sql(&server, authorization, "SELECT 1").await;
        assert_eq!(answer.status, status, "{authorization:?}: {}", answer.text());
        assert!(answer.text().contains(said), "{}", answer.text());
        assert!(!secrets.iter().any(|secret| answer.text().contains(secret)));
    }

    let capture = Capture::load("claude-code").unwrap();
    for body in &capture.bodies {
        let headers = [("content-type", body.encoding.content_type())];
        let refused = server
            .post_raw(body.signal, body.bytes.clone(), &headers)
            .await
            .unwrap();
        assert_eq!(refused.status, 401, "{}", refused.text());
        let bearer = analyst.bearer();
        let headers = [headers[0], ("authorization", bearer.as_str())];
        let refused = server
            .post_raw(body.signal, body.bytes.clone(), &headers)
            .await
            .unwrap();
        assert_eq!(refused.status, 403, "{}", refused.text());
        let headers = [headers[0], ("x-api-key", ingest.text.as_str())];
        let taken = server
            .post_raw(body.signal, body.bytes.clone(), &headers)
            .await
            .unwrap();
        assert_eq!(taken.status, 200, "{}", taken.text());
    }
    let seen = sql(
        &server,
        Some(&analyst.bearer()),
        "SELECT COUNT(*) AS n FROM observations",
    )
    .await;
    assert_eq!(
        seen.json().unwrap(),
        json!([{"n": 0}]),
        "the analyst is of another tenant"
    );

    let asked = with_key(
        &home,
        &analyst.text,
        &["sql", "SELECT 1 AS one", "--format", "ndjson", "--url", &url],
    );
    assert_eq!(String::from_utf8(asked.stdout).unwrap(), "{\"one\":1}\n");
    let file = home.join("typo.key");
    fs::write(&file, "sl_typo\n").unwrap();
    let asked = run(
        &home,
        &["costs", "--url", &url, "--api-key-file", file.to_str().unwrap()],
    );
    assert_eq!(
        asked.status.code(),
        Some(4),
        "{}",
        String::from_utf8_lossy(&asked.stderr)
    );

    let data_text = data.to_str().unwrap();
    run_ok(&home, &["keys", "revoke", &analyst.id, "--data", data_text]);
    until("the revoked key to be refused", Duration::from_secs(5), async || {
        let answer = sql(&server, Some(&analyst.bearer()), "SELECT 1").await;
        Ok((answer.status == 401).then_some(()))
    })
    .await
    .unwrap();
    let again = run(&home, &["keys", "revoke", &analyst.text, "--data", data_text]);
    assert!(again.status.success(), "a whole key names its id");
    let unknown = run(&home, &["keys", "revoke", "nothing", "--data", data_text]);
    assert_eq!(unknown.status.code(), Some(2));

    let outputs = [
        run_ok(&home, &["keys", "list", "--data", data_text]),
        run_ok(&home, &["keys", "list", "--format", "json", "--data", data_text]),
        run_ok(&home, &["audit", "--data", data_text]),
        run_ok(
            &home,
            &["audit", "--tenant", "acme", "--format", "json", "--data", data_text],
        ),
        run_ok(&home, &["config", "show"]),
        run_ok(&home, &["config", "show", "--format", "json"]),
        server.printed(),
    ];
    assert!(outputs[0].contains("revoked") && outputs[0].contains("the analyst") && outputs[0].contains(&ingest.id));
    assert!(outputs[2].contains("key.create") && outputs[2].contains("key.revoke"));
    assert!(outputs[3].contains(&ingest.id) && !outputs[3].contains("the analyst"));
    let (server, folder) = server.into_parts();
    server.stop().await.unwrap();
    let printed = fs::read_to_string(home.join("data.log")).unwrap();
    assert!(!printed.contains("panicked"), "{printed}");
    for text in outputs.iter().chain([&printed]) {
        assert!(!secrets.iter().any(|secret| text.contains(secret)), "{text}");
    }
    assert_eq!(holding(folder.path(), &secrets), Vec::<String>::new());
    assert!(
        !holding(folder.path(), &[&ingest.id]).is_empty(),
        "the search finds what is there"
    );
}

#[test]
fn one_lake_of_two_tenants_is_two_ledgers_also_where_their_trace_ids_are_equal() {
    let folder = tempfile::tempdir().unwrap();
    let names = captures::names().unwrap();
    let bodies = |name: &str| -> Vec<String> {
        let files = fs::read_dir(captures::folder(name)).unwrap();
        let files = files.map(|entry| entry.unwrap().path());
        let is_body = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().contains('-');
        let mut files: Vec<String> = files.filter(is_body).map(|path| path.display().to_string()).collect();
        files.sort();
        files
    };
    let (both, own) = (bodies(&names[0]), bodies(&names[1]));
    let import = |lake: &str, tenant: &str, files: &[String]| {
        let mut arguments = vec!["import", "--data", lake, "--tenant", tenant];
        arguments.extend(files.iter().map(String::as_str));
        run_ok(folder.path(), &arguments);
    };
    let ask = |lake: &str, tenant: &str, query: &str| -> Value {
        let rows = run_ok(
            folder.path(),
            &["sql", query, "--data", lake, "--tenant", tenant, "--format", "json"],
        );
        serde_json::from_str(&rows).unwrap()
    };
    import("shared", "a", &both);
    import("shared", "b", &own);
    import("shared", "b", &both);
    import("only-a", "a", &both);
    import("only-b", "b", &own);
    import("only-b", "b", &both);
    run_ok(folder.path(), &["settle", "--rebuild", "--data", "shared"]);
    run_ok(folder.path(), &["lake", "compact", "--data", "shared"]);

    for query in [
        CALLS,
        LEDGER,
        "SELECT COUNT(*) AS n, COUNT(DISTINCT trace_id) AS traces FROM observations",
        "SELECT COUNT(*) AS n FROM spans",
        "SELECT COUNT(*) AS n FROM logs",
    ] {
        for (tenant, alone) in [("a", "only-a"), ("b", "only-b")] {
            assert_eq!(
                ask("shared", tenant, query),
                ask(alone, tenant, query),
                "{tenant}: {query}"
            );
        }
    }
    let ids = |tenant: &str, query: &str| -> BTreeSet<String> {
        let rows = ask("shared", tenant, query);
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    let calls = "SELECT call_id AS id FROM calls";
    assert!(!ids("a", calls).is_empty() && ids("a", calls).is_disjoint(&ids("b", calls)));
    let records = "SELECT DISTINCT COALESCE(trace_id, session_id) AS id FROM observations WHERE COALESCE(trace_id, session_id) IS NOT NULL";
    assert!(
        !ids("a", records).is_disjoint(&ids("b", records)),
        "they share traces or sessions"
    );
    assert_eq!(ask("shared", "nobody", calls), json!([]));
    let refused = run(folder.path(), &["sql", calls, "--data", "shared", "--tenant", "../a"]);
    assert_eq!(refused.status.code(), Some(2));
}
