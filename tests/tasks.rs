//! Tasks of the MCP server, driven by the clients that people have, over the built binary.
//!
//! Each client calls real tools so that the call takes longer than the inline window, and gets the answer that the
//! same statement has over REST. Restart, expiry and cancellation are asked for with the Rust client.

use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, ClientCapabilities, ClientConfig, GetTaskParams,
    Implementation, JsonObject, ProtocolVersion, TaskPayload, UpdateTaskParams,
};
use rmcp::service::{ClientLifecycleMode, RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ServiceError, serve_client_with_lifecycle};
use serde_json::{Value, json};
use spanledger_testkit::server::Server;
use spanledger_testkit::{captures, tools, wait};

use crate::support::{BINARY, TestServer, data_of, run_ok};

/// Takes seconds: the rows of a product of two series, counted one by one.
const SLOW: &str = "SELECT count(*) AS n FROM generate_series(1, 6000) AS a(x), generate_series(1, 6000) AS b(y) \
    WHERE (a.x * b.y) % 7 = 3";
/// What [`SLOW`] counts: x * y = 3 (mod 7) has one y for each x that is no multiple of 7.
const SLOW_ROWS: i64 = 4_408_408;
/// Does not end before anybody loses patience.
const ENDLESS: &str = "SELECT count(*) AS n FROM generate_series(1, 1000000) AS a(x), generate_series(1, 1000000) AS b(y) \
    WHERE (a.x * b.y) % 7 = 3";
/// Longer than a task of these tests takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(150);

type Client = RunningService<RoleClient, ClientConfig>;

fn endpoint(server: &TestServer) -> String {
    format!("{}/mcp", server.addresses().http)
}

/// The Rust client of the modern era that declares tasks.
async fn client(server: &TestServer) -> Client {
    client_by(server, None).await
}

/// The same, with an API key.
async fn client_by(server: &TestServer, key: Option<String>) -> Client {
    client_at(endpoint(server), key).await
}

async fn client_at(url: String, key: Option<String>) -> Client {
    let capabilities = ClientCapabilities::builder()
        .enable_elicitation()
        .enable_tasks()
        .build();
    let info = ClientConfig::new(capabilities, Implementation::new("tasks-test", "1"));
    let mut config = StreamableHttpClientTransportConfig::with_uri(url);
    config.auth_header = key;
    let transport = StreamableHttpClientTransport::from_config(config);
    let modern = ClientLifecycleMode::Discover {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
    };
    serve_client_with_lifecycle(info, transport, modern).await.unwrap()
}

/// A key of a tenant that may ask anything.
fn key(server: &TestServer, tenant: &str) -> String {
    let arguments = [
        "--tenant", tenant, "--role", "admin", "--name", "tasks", "--format", "json",
    ];
    let data = ["keys", "create", "--data", server.data().to_str().unwrap()];
    let said = run_ok(server.data().parent().unwrap(), &[&data[..], &arguments].concat());
    let said: Value = serde_json::from_str(&said).unwrap();
    said["key"].as_str().unwrap().to_owned()
}

fn sql(query: &str) -> CallToolRequestParams {
    let mut arguments = JsonObject::new();
    arguments.insert("query".to_owned(), Value::from(query));
    CallToolRequestParams::new("run_sql").with_arguments(arguments)
}

/// Starts a statement that becomes a task.
async fn start(client: &Client, query: &str) -> String {
    match client.call_tool_once(sql(query)).await.unwrap() {
        CallToolResponse::Task(created) => created.task.task_id,
        other => panic!("no task: {other:?}"),
    }
}

async fn state(client: &Client, id: &str) -> TaskPayload {
    client.get_task(GetTaskParams::new(id)).await.unwrap().task.payload
}

/// Polls until a task ends.
async fn ended(client: &Client, id: &str) -> TaskPayload {
    let mut last = TaskPayload::Working;
    wait::until("the task to end", PATIENCE, async || {
        last = state(client, id).await;
        Ok(last.status().is_terminal().then_some(()))
    })
    .await
    .unwrap();
    last
}

fn count(result: &Value) -> i64 {
    result["rows"][0][0].as_i64().unwrap_or_else(|| panic!("{result}"))
}

fn counted(payload: &TaskPayload) -> i64 {
    let TaskPayload::Completed { result } = payload else {
        panic!("{payload:?}");
    };
    count(&result["structuredContent"])
}

fn code(error: &ServiceError) -> i32 {
    match error {
        ServiceError::McpError(error) => error.code.0,
        other => panic!("{other:?}"),
    }
}

/// Runs a script of `tests/clients/` and reads the JSON that it prints.
async fn peer(mut command: std::process::Command, arguments: &[&str]) -> Value {
    let said = tools::run(command.args(arguments)).await.unwrap();
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[tokio::test]
async fn the_rust_client_gets_a_task_polls_it_and_cancels_another() {
    let server = TestServer::start().await;
    let client = client(&server).await;
    let id = start(&client, SLOW).await;
    assert_eq!(counted(&ended(&client, &id).await), SLOW_ROWS);
    // kept, and the same again
    assert_eq!(counted(&state(&client, &id).await), SLOW_ROWS);
    let quick = inline(&client, "SELECT 1 AS n").await;
    assert_eq!(count(&quick["structuredContent"]), 1);

    let unwanted = start(&client, ENDLESS).await;
    client.cancel_task(CancelTaskParams::new(&unwanted)).await.unwrap();
    client.cancel_task(CancelTaskParams::new(&unwanted)).await.unwrap();
    assert_eq!(state(&client, &unwanted).await, TaskPayload::Cancelled);
    client.cancel_task(CancelTaskParams::new(&id)).await.unwrap();
    assert_eq!(counted(&state(&client, &id).await), SLOW_ROWS);

    let unknown = client
        .get_task(GetTaskParams::new("0123456789abcdef"))
        .await
        .unwrap_err();
    assert_eq!(code(&unknown), -32602);
    let wrong = inline(&client, "SELECT teem FROM calls").await["content"][0]["text"].to_string();
    assert!(wrong.contains("did you mean `team`"), "{wrong}");
}

/// The answer that a short statement has at once. On a machine where even that takes longer than the window, it is
/// asked again.
async fn inline(client: &Client, query: &str) -> Value {
    let mut answer = Value::Null;
    wait::until("an answer without a task", PATIENCE, async || {
        let said = client.call_tool_once(sql(query)).await?;
        if let CallToolResponse::Complete(result) = said {
            answer = serde_json::to_value(result)?;
        }
        Ok((!answer.is_null()).then_some(()))
    })
    .await
    .unwrap();
    answer
}

#[tokio::test]
async fn a_task_tells_how_many_rows_it_has_read() {
    let server = TestServer::start().await;
    let client = client(&server).await;
    let id = start(&client, ENDLESS).await;
    // both series have a million rows; the first one is read at once, the other as far as the join has come
    wait::until("a task that has read rows", PATIENCE, async || {
        let task = client.get_task(GetTaskParams::new(&id)).await?.task.task;
        let said = task.status_message.unwrap_or_default();
        let rows = said.strip_prefix("rows read (").and_then(|said| said.strip_suffix(')'));
        let rows: u64 = rows.unwrap_or("0").parse()?;
        assert!(rows <= 2_000_000, "{said}");
        Ok((rows > 0).then_some(()))
    })
    .await
    .unwrap();
    client.cancel_task(CancelTaskParams::new(&id)).await.unwrap();
}

#[tokio::test]
async fn cancelled_tasks_leave_the_query_threads_to_others() {
    let server = TestServer::start().await;
    let client = client(&server).await;
    // more of them than statements can run at a time
    for _ in 0..12 {
        let id = start(&client, ENDLESS).await;
        client.cancel_task(CancelTaskParams::new(&id)).await.unwrap();
        assert_eq!(state(&client, &id).await, TaskPayload::Cancelled);
    }
    let quick = inline(&client, "SELECT 1 AS n").await;
    assert_eq!(count(&quick["structuredContent"]), 1);
}

#[tokio::test]
async fn a_task_asks_its_client_and_goes_on_with_the_answer_or_is_interrupted() {
    let server = TestServer::start_with(&["serve", "--conformance-fixtures"]).await;
    let before = client(&server).await;
    for (said, expected) in [("accept", "deleted a.txt"), ("decline", "nothing was deleted")] {
        let (id, question) = asked(&before).await;
        let result = told(&before, &id, question, said).await;
        assert_eq!(result["content"][0]["text"], expected);
    }
    // what is no mere reading is not done twice: it cannot be known how far it was
    let (open, _) = asked(&before).await;
    drop(before);
    let server = server.restarted().await;
    let after = client(&server).await;
    let TaskPayload::Failed { error } = ended(&after, &open).await else {
        panic!("{open} did not fail");
    };
    assert!(
        error["message"].as_str().unwrap().starts_with("interrupted"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_statement_that_reads_very_much_asks_through_its_task() {
    const COUNT: &str = "SELECT count(*) AS n FROM spans";
    let folder = tempfile::tempdir().unwrap();
    let sent = captures::folder("openinference").join("003-traces.pb");
    run_ok(folder.path(), &["import", sent.to_str().unwrap(), "--data", "data"]);
    let rows = run_ok(folder.path(), &["sql", COUNT, "--data", "data", "--format", "json"]);
    let rows: Value = serde_json::from_str(&rows).unwrap();
    let data = data_of(&folder);
    let environment = [
        ("SPANLEDGER_MCP_UNASKED_FILE_BYTES", "1"),
        ("SPANLEDGER_MCP_METER", "false"),
    ];
    let server = Server::start_with(BINARY, &data, &["serve"], &environment)
        .await
        .unwrap();
    let client = client_at(format!("{}/mcp", server.addresses().http), None).await;
    for (said, expected) in [("accept", true), ("decline", false)] {
        let id = start(&client, COUNT).await;
        let question = question_of(&client, &id).await;
        let result = told(&client, &id, question, said).await;
        match expected {
            true => assert_eq!(count(&result["structuredContent"]), rows[0]["n"].as_i64().unwrap()),
            false => assert_eq!(result["isError"], true, "{result:?}"),
        }
    }
}

/// What a task comes to once its question is answered like that.
async fn told(client: &Client, id: &str, question: String, said: &str) -> Value {
    let answers = [(question, json!({ "action": said, "content": { "confirm": true } }))];
    client
        .update_task(UpdateTaskParams::new(id, answers.into()))
        .await
        .unwrap();
    match ended(client, id).await {
        TaskPayload::Completed { result } => result.into(),
        other => panic!("{said}: {other:?}"),
    }
}

/// A task that waits for its client, and the key of its question.
async fn asked(client: &Client) -> (String, String) {
    let mut arguments = JsonObject::new();
    arguments.insert("filename".to_owned(), Value::from("a.txt"));
    let call = CallToolRequestParams::new("confirm_delete").with_arguments(arguments);
    let id = match client.call_tool_once(call).await.unwrap() {
        CallToolResponse::Task(created) => created.task.task_id,
        other => panic!("no task: {other:?}"),
    };
    let question = question_of(client, &id).await;
    (id, question)
}

/// The key of a task's question, once it asks.
async fn question_of(client: &Client, id: &str) -> String {
    let question = wait::until("the task's question", PATIENCE, async || {
        Ok(match state(client, id).await {
            TaskPayload::InputRequired { input_requests } => input_requests.into_keys().next(),
            _ => None,
        })
    });
    question.await.unwrap()
}

#[tokio::test]
async fn the_task_of_another_key_is_as_unknown_as_none() {
    let server = TestServer::start_with(&["serve", "--access", "required"]).await;
    let mine = key(&server, "default");
    let owner = client_by(&server, Some(mine.clone())).await;
    let id = start(&owner, ENDLESS).await;
    let unknown = "f".repeat(id.len());
    for other in [key(&server, "default"), key(&server, "other")] {
        let other = client_by(&server, Some(other)).await;
        let mut answers = Vec::new();
        for id in [&id, &unknown] {
            let got = other.get_task(GetTaskParams::new(id)).await.unwrap_err();
            let cancelled = other.cancel_task(CancelTaskParams::new(id)).await.unwrap_err();
            answers.push((code(&got), got.to_string(), code(&cancelled), cancelled.to_string()));
        }
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[0].0, -32602);
    }
    // the same key over another connection is the same owner
    let again = client_by(&server, Some(mine)).await;
    assert_eq!(state(&again, &id).await, TaskPayload::Working);
    again.cancel_task(CancelTaskParams::new(&id)).await.unwrap();
    assert_eq!(state(&owner, &id).await, TaskPayload::Cancelled);
}

#[tokio::test]
async fn a_killed_server_resumes_what_it_read_and_keeps_what_it_answered() {
    let server = TestServer::start().await;
    let before = client(&server).await;
    let done = start(&before, SLOW).await;
    assert_eq!(counted(&ended(&before, &done).await), SLOW_ROWS);
    let running = start(&before, SLOW).await;
    drop(before);
    let server = server.restarted().await;
    let after = client(&server).await;
    assert_eq!(counted(&state(&after, &done).await), SLOW_ROWS);
    assert_eq!(counted(&ended(&after, &running).await), SLOW_ROWS);
}

#[tokio::test]
async fn a_task_is_forgotten_when_its_time_is_over() {
    let environment = [
        ("SPANLEDGER_MCP_TASK_TTL_S", "1"),
        ("SPANLEDGER_MCP_TASK_RETENTION_S", "1"),
    ];
    let server = TestServer::start_in(&["serve"], &environment).await;
    let client = client(&server).await;
    let id = start(&client, ENDLESS).await;
    let mut answers = Vec::new();
    wait::until("the task to be forgotten", PATIENCE, async || {
        match client.get_task(GetTaskParams::new(&id)).await {
            Ok(found) => answers.push(found.task.payload.status()),
            Err(error) => {
                assert_eq!(code(&error), -32602);
                return Ok(Some(()));
            }
        }
        Ok(None)
    })
    .await
    .unwrap();
    // it never looked finished
    assert!(!answers.contains(&rmcp::model::TaskStatus::Completed), "{answers:?}");
}

#[tokio::test]
async fn the_inspector_drives_tasks_of_both_eras() {
    let server = TestServer::start().await;
    let folder = server.data().parent().unwrap().to_owned();
    let inspect = async |era: &str, arguments: &[&str]| {
        let mut inspector = tools::npm_command("mcp-inspector").unwrap();
        inspector
            .env("MCP_CATALOG_PATH", folder.join("inspector.json"))
            .args([
                "--cli",
                &endpoint(&server),
                "--transport",
                "http",
                "--protocol-era",
                era,
            ])
            .args(["--format", "json"]);
        peer(inspector, arguments).await["result"].clone()
    };
    for era in ["modern", "legacy"] {
        let listed = inspect(era, &["--method", "tools/list", "--strict"]).await;
        let listed = listed["tools"].as_array().unwrap();
        let run_sql = listed.iter().find(|tool| tool["name"] == "run_sql").unwrap();
        let support = (era == "legacy").then_some("optional");
        assert_eq!(run_sql["execution"]["taskSupport"].as_str(), support, "{era}");
        let arguments = json!({ "query": SLOW }).to_string();
        let call = [
            "--method",
            "tools/call",
            "--tool-name",
            "run_sql",
            "--tool-args-json",
            &arguments,
        ];
        let answer = inspect(era, &call).await;
        assert_eq!(count(&answer["structuredContent"]), SLOW_ROWS, "{era}: {answer}");
    }
    // Over stdio it declares the extension in the legacy handshake too, where no call is answered with a task unasked.
    let arguments = ["mcp", "--data", server.data().to_str().unwrap()];
    let config = json!({ "mcpServers": { "spanledger": { "command": crate::support::BINARY, "args": arguments } } });
    std::fs::write(folder.join("inspector.json"), config.to_string()).unwrap();
    for era in ["modern", "legacy"] {
        let mut inspector = tools::npm_command("mcp-inspector").unwrap();
        inspector.env("MCP_CATALOG_PATH", folder.join("inspector.json")).args([
            "--cli",
            "--server",
            "spanledger",
            "--protocol-era",
            era,
            "--format",
            "json",
        ]);
        let slow = json!({ "query": SLOW }).to_string();
        let call = [
            "--method",
            "tools/call",
            "--tool-name",
            "run_sql",
            "--tool-args-json",
            &slow,
        ];
        let answer = peer(inspector, &call).await["result"].clone();
        assert_eq!(count(&answer["structuredContent"]), SLOW_ROWS, "stdio, {era}: {answer}");
    }
}

#[tokio::test]
async fn fastmcp_drives_tasks_by_itself_and_by_handle() {
    let server = TestServer::start().await;
    let arguments = json!({ "query": SLOW }).to_string();
    let script = tools::python("tasks_fastmcp.py").unwrap();
    let seen = peer(script, &[&endpoint(&server), "run_sql", &arguments, ENDLESS]).await;
    assert_eq!(count(&seen["transparent"]), SLOW_ROWS);
    assert_eq!(count(&seen["result"]), SLOW_ROWS);
    for (moment, state) in [
        ("created", "working"),
        ("first", "working"),
        ("waited", "completed"),
        ("running", "working"),
        ("cancelled", "cancelled"),
    ] {
        assert_eq!(seen[moment], state, "{moment}");
    }
}

#[tokio::test]
async fn a_python_client_without_tasks_waits_or_calls_again() {
    let environment = [("SPANLEDGER_MCP_WAIT_S", "1")];
    let server = TestServer::start_in(&["serve"], &environment).await;
    let arguments = json!({ "query": SLOW }).to_string();
    let url = endpoint(&server);
    let call = async || {
        let script = tools::python("tasks_python.py").unwrap();
        peer(script, &[&url, "run_sql", &arguments]).await
    };
    let first = call().await;
    assert_eq!(first["is_error"], true, "{first}");
    let text = first["text"].as_str().unwrap();
    assert!(
        text.contains("call it again with the same arguments") && text.contains("spanledger://tasks/"),
        "{text}"
    );
    let mut last = Value::Null;
    wait::until("the answer", PATIENCE, async || {
        last = call().await;
        Ok((last["is_error"] == false).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(count(&last["structured"]), SLOW_ROWS);
}

#[tokio::test]
async fn the_typescript_client_of_2025_drives_its_tasks() {
    let server = TestServer::start().await;
    let arguments = json!({ "query": SLOW }).to_string();
    let script = tools::node("tasks_v1.cjs").unwrap();
    let seen = peer(script, &[&endpoint(&server), "run_sql", &arguments, ENDLESS]).await;
    assert_eq!(
        seen["capability"],
        json!({ "list": {}, "cancel": {}, "requests": { "tools": { "call": {} } } })
    );
    assert_eq!(seen["support"], "optional");
    let messages: Vec<&str> = seen["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(
        (messages.first(), messages.last()),
        (Some(&"taskCreated"), Some(&"result")),
        "{messages:?}"
    );
    assert_eq!(count(&seen["result"]["structuredContent"]), SLOW_ROWS);
    assert_eq!(count(&seen["again"]["structuredContent"]), SLOW_ROWS);
    assert_eq!(
        seen["result"]["_meta"]["io.modelcontextprotocol/related-task"]["taskId"],
        seen["task"]["taskId"]
    );
    assert_eq!(
        (&seen["running"], &seen["cancelled"]),
        (&json!("working"), &json!("cancelled"))
    );
    assert_eq!(seen["listed"], json!(["cancelled", "completed"]));
}

#[tokio::test]
async fn the_typescript_client_2_drives_tasks_of_both_eras() {
    let server = TestServer::start().await;
    let arguments = json!({ "query": SLOW }).to_string();
    for era in ["modern", "legacy"] {
        let script = tools::node("tasks_v2.cjs").unwrap();
        let seen = peer(script, &[&endpoint(&server), era, "run_sql", &arguments]).await;
        assert_eq!(seen["era"], era);
        assert_eq!(seen["kind"], "task", "{era}: {seen}");
        assert_eq!(count(&seen["result"]["structuredContent"]), SLOW_ROWS, "{era}: {seen}");
    }
}
