//! Fifty questions an analyst would ask, each with the tool calls that answer it and the exact answer.
//!
//! `tests/evaluations/questions.toml` is the data; this module asks a demo server's MCP endpoint, without a
//! model: the calls are those a good client would make. Every answer is compared to the last digit, and,
//! where the question has a `sql`, also with what plain SQL over the open tables says: an answer that a tool
//! and the file agree on by mistake is caught there. `tests/evaluations/with_model.py` asks a model the same.
//!
//! ```toml
//! [[question]]
//! ask = "What did the payments team spend?"
//! calls = [{ tool = "query_costs", arguments = { filters = { team = "payments" } } }]
//! answers = [{ at = "/total/cost", is = "12.27", sql = "SELECT SUM(own_cost) FROM calls WHERE team = 'payments'" }]
//! ```
//! An answer is found in the last call's structured content: `at`, a JSON pointer; or `column` of the row that
//! has the values of `row` (the first row without them). An argument `"$1/rows/0/0"` is that place of the first
//! call's content. `error` says what a question that cannot be answered must be told.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use spanledger_testkit::tools;

use crate::support::{TestServer, plain};

/// The week that the answers are about. Long past, so that retention has done its work whenever this runs.
pub(crate) const DEMO: [&str; 5] = ["demo", "--days", "7", "--end", "2026-06-30"];
/// Questions there must be at least.
const QUESTIONS_MIN: usize = 50;
const QUESTIONS: &str = include_str!("evaluations/questions.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    question: Vec<Question>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    ask: String,
    calls: Vec<Call>,
    #[serde(default)]
    answers: Vec<Answer>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    tool: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    at: Option<String>,
    row: Option<Map<String, Value>>,
    column: Option<String>,
    is: Value,
    sql: Option<String>,
}

/// One request of the 2026-07-28 protocol.
pub(crate) async fn ask(server: &TestServer, method: &str, name: Option<&str>, mut parameters: Value) -> Value {
    parameters["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": parameters });
    let mut headers = vec![
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", method),
    ];
    headers.extend(name.map(|name| ("mcp-name", name)));
    let answer = server.post_http("/mcp", body.to_string(), &headers).await.unwrap();
    let text = answer.text();
    // The answer may come as an event stream, with progress before it.
    let message = text
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .map(str::trim)
        .rfind(|line| line.contains("\"id\":1"))
        .unwrap_or(&text);
    let message: Value = serde_json::from_str(message).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(message.get("error").is_none(), "{method} {name:?}: {message}");
    message["result"].clone()
}

/// Replaces `"$1/rows/0/0"` by that place of the first call's content, anywhere in the arguments.
fn filled(arguments: &Value, contents: &[Value]) -> Value {
    match arguments {
        Value::String(text) if text.starts_with('$') => {
            let (number, pointer) = text[1..].split_at(text[1..].find('/').expect("a place after the number"));
            let content = &contents[number.parse::<usize>().expect("the number of a call") - 1];
            content
                .pointer(pointer)
                .unwrap_or_else(|| panic!("{text} is not in {content}"))
                .clone()
        }
        Value::Array(values) => values.iter().map(|value| filled(value, contents)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), filled(value, contents)))
            .collect(),
        other => other.clone(),
    }
}

/// The value an answer is about.
fn found(answer: &Answer, content: &Value) -> Option<Value> {
    if let Some(pointer) = &answer.at {
        return content.pointer(pointer).cloned();
    }
    let columns = content["columns"].as_array()?;
    let index = |name: &str| columns.iter().position(|column| column == name);
    let wanted = answer.row.clone().unwrap_or_default();
    let row = content["rows"].as_array()?.iter().find(|row| {
        wanted
            .iter()
            .all(|(name, value)| index(name).is_some_and(|at| same(&row[at], value)))
    })?;
    Some(row[index(answer.column.as_deref()?)?].clone())
}

/// Equal values: exact decimals whatever their trailing zeros and whether they are numbers or text.
fn same(left: &Value, right: &Value) -> bool {
    shown(left) == shown(right)
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.parse::<f64>().is_ok() => plain(text),
        Value::String(text) => text.clone(),
        Value::Number(number) => plain(&number.to_string()),
        other => other.to_string(),
    }
}

/// What is wrong with the answers to a question; nothing where all are right.
async fn differences(server: &TestServer, question: &Question) -> Vec<String> {
    let mut contents = Vec::new();
    let mut last = Value::Null;
    for call in &question.calls {
        let arguments = filled(&Value::Object(call.arguments.clone()), &contents);
        let parameters = json!({ "name": call.tool, "arguments": arguments });
        last = ask(server, "tools/call", Some(&call.tool), parameters).await;
        contents.push(last["structuredContent"].clone());
    }
    let text = last["content"][0]["text"].as_str().unwrap_or_default();
    if let Some(expected) = &question.error {
        let is_told = last["isError"] == true && text.contains(expected.as_str());
        return if is_told {
            Vec::new()
        } else {
            vec![format!("not refused with {expected:?}: {text}")]
        };
    }
    if last["isError"] == true {
        return vec![format!("refused: {text}")];
    }
    let content = contents.last().cloned().unwrap_or_default();
    let mut wrong = Vec::new();
    for answer in &question.answers {
        let value = found(answer, &content);
        if !value.as_ref().is_some_and(|value| same(value, &answer.is)) {
            let place = answer
                .at
                .clone()
                .unwrap_or_else(|| format!("{:?} of {:?}", answer.column, answer.row));
            wrong.push(format!("{place} is {value:?}, not {}", answer.is));
        }
        if let Some(sql) = &answer.sql {
            let row = server.sql_row(sql).await.unwrap();
            let by_sql = row.values().next().cloned().unwrap_or_default();
            if !same(&by_sql, &answer.is) {
                wrong.push(format!("SQL says {by_sql}, not {}: {sql}", answer.is));
            }
        }
        let is_told = answer.is.is_boolean() || answer.is.is_null() || text.contains(&shown(&answer.is));
        if !is_told {
            wrong.push(format!("the text alone does not say {}", answer.is));
        }
    }
    if wrong.is_empty() {
        wrong
    } else {
        [wrong, vec![format!("the text: {text}")]].concat()
    }
}

#[tokio::test]
async fn every_question_of_an_analyst_has_its_exact_answer() {
    let server = TestServer::start_with(&DEMO).await;
    server.settled().await.unwrap();
    let questions: File = toml::from_str(QUESTIONS).unwrap();
    let mut report = String::new();
    for question in &questions.question {
        for difference in differences(&server, question).await {
            writeln!(report, "{}\n    {difference}", question.ask).unwrap();
        }
    }
    assert!(report.is_empty(), "{report}");
}

#[tokio::test]
async fn the_questions_are_fifty_and_use_every_tool() {
    let questions: File = toml::from_str(QUESTIONS).unwrap();
    assert!(
        questions.question.len() >= QUESTIONS_MIN,
        "{}",
        questions.question.len()
    );
    for (index, question) in questions.question.iter().enumerate() {
        assert!(!question.calls.is_empty(), "{}", question.ask);
        assert!(
            question.answers.is_empty() == question.error.is_some(),
            "{}",
            question.ask
        );
        let again = questions.question[..index]
            .iter()
            .any(|other| other.ask == question.ask);
        assert!(!again, "asked twice: {}", question.ask);
    }
    let server = TestServer::start().await;
    let listed = ask(&server, "tools/list", None, json!({})).await;
    for tool in listed["tools"].as_array().unwrap() {
        let name = tool["name"].as_str().unwrap();
        let is_used = questions
            .question
            .iter()
            .any(|question| question.calls.iter().any(|call| call.tool == name));
        assert!(is_used, "no question uses {name}");
    }
}

/// A scripted model behind a chat completions interface, gone when this is dropped.
struct ScriptedModel {
    child: Child,
    base: String,
}

impl ScriptedModel {
    fn start(arguments: &[&str]) -> Self {
        let mut child = tools::python("scripted_model.py")
            .unwrap()
            .arg(spanledger_testkit::workspace().join("tests/evaluations/questions.toml"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut port)
            .unwrap();
        let base = format!("http://127.0.0.1:{}/v1", port.trim());
        Self { child, base }
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_harness_counts_what_a_model_gets_right() {
    let server = TestServer::start().await;
    let url = format!("{}/mcp", server.addresses().http);
    for (script, share) in [(&[][..], "(100 %)"), (&["wrong"][..], "(")] {
        let model = ScriptedModel::start(script);
        let mut harness = tools::python("../evaluations/with_model.py").unwrap();
        harness.args(["--url", &url, "--api-base", &model.base, "--model", "scripted"]);
        let said = tools::run(&mut harness).await.unwrap();
        let last = said.lines().last().unwrap();
        assert!(last.contains(share), "{said}");
        assert_eq!(said.contains("WRONG"), !script.is_empty(), "{said}");
    }
    let model = ScriptedModel::start(&["wrong"]);
    let mut harness = tools::python("../evaluations/with_model.py").unwrap();
    harness.args([
        "--url",
        &url,
        "--api-base",
        &model.base,
        "--model",
        "x",
        "--at-least",
        "90",
    ]);
    assert!(
        tools::run(&mut harness).await.is_err(),
        "a failed evaluation ends with 1"
    );
}
