//! API keys over the built binary: made and revoked beside a running server, never found anywhere but where they
//! were shown; and that one lake of two tenants is two ledgers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use spanledger_testkit::captures::{self, Capture};
use spanledger_testkit::grpc::{Code, GrpcClient};
use spanledger_testkit::otlp::Signal;
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

    // a key pasted where an id or a name belongs is in the log by its id only, refused or not
    for (method, path) in [
        ("DELETE", format!("/api/v1/keys/{}", analyst.text)),
        ("GET", format!("/api/v1/costs?key={}", analyst.text)),
    ] {
        let bearer = analyst.bearer();
        let answer = server
            .request(method, &path, "", &[("authorization", bearer.as_str())])
            .await
            .unwrap();
        assert!([400, 403].contains(&answer.status), "{method}: {}", answer.text());
        assert!(!answer.text().contains(analyst.secret()), "{}", answer.text());
    }

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
        run_ok(&home, &["audit", "--format", "json", "--data", data_text]),
        run_ok(&home, &["config", "show"]),
        run_ok(&home, &["config", "show", "--format", "json"]),
        server.printed(),
    ];
    assert!(outputs[0].contains("revoked") && outputs[0].contains("the analyst") && outputs[0].contains(&ingest.id));
    assert!(outputs[2].contains("key.create") && outputs[2].contains("key.revoke"));
    assert!(
        outputs[2].contains("key.use"),
        "the revoked key is still used: {}",
        outputs[2]
    );
    assert!(outputs[3].contains(&ingest.id) && !outputs[3].contains("the analyst"));
    let named = format!("sl_{}_…", analyst.id);
    assert_eq!(outputs[4].matches(&named).count(), 2, "{}", outputs[4]);
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

/// One request to the MCP endpoint, whose answer may be a stream.
async fn mcp(
    server: &TestServer,
    key: &Key,
    version: &str,
    more: &[(&str, &str)],
    body: Option<&Value>,
) -> reqwest::Response {
    let url = format!("{}/mcp", server.addresses().http);
    let request = match body {
        Some(body) => reqwest::Client::new().post(url).body(body.to_string()),
        None => reqwest::Client::new().get(url),
    };
    let request = request
        .header("authorization", key.bearer())
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", version);
    let request = more
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, *value));
    request.send().await.unwrap()
}

/// Reads a stream until the server ends it.
async fn heard_until_its_end(stream: reqwest::Response) -> String {
    let heard = tokio::time::timeout(Duration::from_secs(30), stream.text()).await;
    heard.expect("the stream goes on").unwrap_or_default()
}

#[tokio::test]
async fn a_revoked_key_is_dead_on_every_port_and_on_the_streams_it_holds_open() {
    const MODERN: &str = "2026-07-28";
    const LEGACY: &str = "2025-11-25";
    let server = TestServer::start_with(&["serve", "--access", "required"]).await;
    let data = server.data().to_owned();
    let home = data.parent().unwrap().to_owned();
    let key = Key::create(&home, &data, &["--role", "admin"]);
    let bystander = Key::create(&home, &data, &["--role", "admin"]);

    let listen = json!({"jsonrpc": "2.0", "id": 7, "method": "subscriptions/listen", "params": {
        "notifications": {"resourceSubscriptions": ["spanledger://budgets"]},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": "keys", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    }});
    let method = [("mcp-method", "subscriptions/listen")];
    let mut own = mcp(&server, &key, MODERN, &method, Some(&listen)).await;
    let mut others = mcp(&server, &bystander, MODERN, &method, Some(&listen)).await;
    for stream in [&mut own, &mut others] {
        assert_eq!(stream.status(), 200);
        let mut heard = String::new();
        while !heard.contains("subscriptions/acknowledged") {
            let chunk = stream.chunk().await.unwrap().expect("the stream has just begun");
            heard.push_str(&String::from_utf8_lossy(&chunk));
        }
    }
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": LEGACY, "capabilities": {"elicitation": {}}, "clientInfo": {"name": "keys", "version": "1"},
    }});
    let begun = mcp(&server, &key, LEGACY, &[], Some(&hello)).await;
    let session = begun.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    heard_until_its_end(begun).await;
    let session = [("mcp-session-id", session.as_str())];
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert!(
        mcp(&server, &key, LEGACY, &session, Some(&ready))
            .await
            .status()
            .is_success()
    );
    let told = mcp(&server, &key, LEGACY, &session, None).await;
    assert_eq!(told.status(), 200);
    let list = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}});
    assert_eq!(mcp(&server, &key, LEGACY, &session, Some(&list)).await.status(), 200);

    let bearer = key.bearer();
    let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    let grpc = GrpcClient::connect(&server.addresses().otlp_grpc)
        .await
        .unwrap()
        .with_authorization(&bearer);
    grpc.export(Default::default()).await.unwrap();
    let sent = server.post_raw(Signal::Traces, b"{}".to_vec(), &headers).await.unwrap();
    assert_eq!(sent.status, 200, "{}", sent.text());

    run_ok(&home, &["keys", "revoke", &key.id, "--data", data.to_str().unwrap()]);
    let revoked = std::time::Instant::now();
    heard_until_its_end(own).await;
    heard_until_its_end(told).await;
    println!("both streams ended {:?} after the key", revoked.elapsed());
    assert_eq!(mcp(&server, &key, LEGACY, &session, Some(&list)).await.status(), 401);
    assert_eq!(mcp(&server, &key, MODERN, &method, Some(&listen)).await.status(), 401);
    assert_eq!(sql(&server, Some(&bearer), "SELECT 1").await.status, 401);
    let sent = server.post_raw(Signal::Traces, b"{}".to_vec(), &headers).await.unwrap();
    assert_eq!(sent.status, 401, "{}", sent.text());
    let refused = grpc.export(Default::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "on the connection that it had");
    // who has another key goes on listening
    let more = tokio::time::timeout(Duration::from_secs(2), others.chunk()).await;
    assert!(!matches!(more, Ok(Ok(None) | Err(_))), "{more:?}");
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
