//! Statements that read very much: a person is asked first, whoever the client is.

use serde_json::{Value, json};
use spanledger_access::Principal;

use super::protocol::Full;

const STATEMENT: &str = "SELECT count(*) AS n FROM calls";

async fn ask(server: &Full, query: &str, more: Value) -> Value {
    let mut params = json!({ "name": "run_sql", "arguments": { "query": query }, "capabilities": {} });
    for (name, value) in more.as_object().unwrap() {
        match value.as_object() {
            Some(fields) if name == "arguments" => params[name].as_object_mut().unwrap().extend(fields.clone()),
            _ => params[name] = value.clone(),
        }
    }
    let (_, _, answer) = server.ask(Principal::local(), "tools/call", params).await;
    answer["result"].clone()
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("{result}"))
}

#[tokio::test]
async fn a_statement_that_reads_too_much_runs_after_a_yes() {
    let server = Full::start_as(|shared| shared.with_unasked_file_bytes(1)).await;
    // A client that cannot be asked is told what it would cost, and how to go on.
    let told = ask(&server, STATEMENT, json!({})).await;
    assert_eq!(told["isError"], true, "{told}");
    assert!(
        text(&told).contains("1 MB of stored files") && text(&told).contains("\"confirm\": true"),
        "{told}"
    );
    let agreed = ask(&server, STATEMENT, json!({ "arguments": { "confirm": true } })).await;
    assert_eq!(agreed["structuredContent"]["rows"], json!([[4]]), "{agreed}");
    // One that can ask its user does.
    let form = json!({ "elicitation": { "form": {} } });
    let asked = ask(&server, STATEMENT, json!({ "capabilities": form })).await;
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let question = &asked["inputRequests"]["confirm"]["params"]["message"];
    assert!(question.as_str().unwrap().contains("stored files"), "{asked}");
    for (action, rows) in [("accept", json!([[4]])), ("decline", Value::Null)] {
        let said = json!({ "confirm": { "action": action, "content": { "confirm": true } } });
        let more = json!({ "capabilities": form, "requestState": asked["requestState"], "inputResponses": said });
        let answer = ask(&server, STATEMENT, more).await;
        assert_eq!(answer["structuredContent"]["rows"], rows, "{action}: {answer}");
    }
    // What reads no file is not asked about, and what is wrong is told as ever.
    let free = ask(&server, "SELECT 1 AS n", json!({})).await;
    assert_eq!(free["structuredContent"]["rows"], json!([[1]]), "{free}");
    let wrong = ask(&server, "SELECT teem FROM calls", json!({})).await;
    assert!(text(&wrong).contains("did you mean `team`"), "{wrong}");
}

#[tokio::test]
async fn a_statement_of_a_common_size_is_not_asked_about() {
    let server = Full::start().await;
    let answer = ask(&server, STATEMENT, json!({})).await;
    assert_eq!(answer["structuredContent"]["rows"], json!([[4]]), "{answer}");
}
