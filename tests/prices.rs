//! Published price vectors, through the whole way: each (model, usage) pair is sent as a GenAI span at the
//! vector's own time, and the cost of the call that comes out equals the reference digit for digit.
//!
//! Every row is sent under the provider's name as the price data spell it, and where the GenAI conventions
//! spell it otherwise, under that name as well.

use serde_json::Value;
use spanledger_testkit::otlp::{self, int, text};
use spanledger_testkit::server::Server;
use spanledger_testkit::wait;

use crate::support::{BINARY, TestServer, data_of, decimal, int as int_of, plain, run, run_ok};

/// Spans a request: as a batching SDK would send them.
const SPANS_A_REQUEST: usize = 100;
/// A server looks at the version in use every second.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);
/// How the GenAI conventions spell a provider that the price data spell otherwise.
const CONVENTION_NAMES: [(&str, &str); 6] = [
    ("aws", "aws.bedrock"),
    ("azure", "azure.ai.openai"),
    ("google", "gcp.gemini"),
    ("mistral", "mistral_ai"),
    ("moonshotai", "moonshot_ai"),
    ("x-ai", "x_ai"),
];

/// One vector under one spelling of its provider.
struct Row {
    /// Unique: it becomes the response id.
    id: String,
    provider: String,
    vector: Value,
}

impl Row {
    fn expected(&self) -> Option<String> {
        self.vector["g"]["total"].as_str().map(plain)
    }

    /// The vector as the span of an application that follows the GenAI conventions, with our own attributes
    /// where they have none. `None` where a quantity has no attribute at all.
    fn span(&self, number: u64) -> Option<otlp::proto::trace::v1::Span> {
        let mut attributes = vec![
            text("gen_ai.operation.name", "chat"),
            text("gen_ai.provider.name", &self.provider),
            text("gen_ai.request.model", self.vector["m"].as_str()?),
            text("gen_ai.response.id", &self.id),
        ];
        let usage = self.vector.get("u").or(self.vector.get("raw"))?.as_object()?;
        for (name, count) in usage {
            attributes.push(int(attribute_of(name)?, count.as_i64()?));
        }
        for (name, value) in self.vector.get("ctx").and_then(Value::as_object).into_iter().flatten() {
            let key = match name.as_str() {
                "processing" => "spanledger.processing",
                "service_tier" => "spanledger.service_tier",
                _ => return None,
            };
            attributes.push(text(key, value.as_str()?));
        }
        let start_ns = nanoseconds(self.vector["ts"].as_str()?);
        Some(otlp::span(number, number, "chat", start_ns, 1_000_000, attributes))
    }
}

/// The attribute of a usage key of the vectors; the keys of `extras.json` are the raw ones of the price data.
fn attribute_of(usage_key: &str) -> Option<&'static str> {
    Some(match usage_key {
        "input" | "input_tokens" => "gen_ai.usage.input_tokens",
        "output" | "output_tokens" => "gen_ai.usage.output_tokens",
        "cache_read" | "cache_read_tokens" => "gen_ai.usage.cache_read.input_tokens",
        "cache_write_5m" => "spanledger.cache_write_5m_tokens",
        "cache_write_1h" => "spanledger.cache_write_1h_tokens",
        "reasoning" => "gen_ai.usage.reasoning.output_tokens",
        "input_audio" => "spanledger.audio_input_tokens",
        "input_image" => "spanledger.image_input_tokens",
        "web_searches" => "spanledger.web_searches",
        _ => return None,
    })
}

/// `2026-11-18T12:00:00Z` as nanoseconds since the Unix epoch.
fn nanoseconds(instant: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(instant)
        .unwrap()
        .timestamp_nanos_opt()
        .unwrap()
}

fn vectors(file: &str) -> Vec<Value> {
    let path = spanledger_testkit::workspace().join("ledger/tests-data").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Every vector under each spelling of its provider.
fn rows(file: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for vector in vectors(file) {
        let (id, provider) = (
            vector["id"].as_str().unwrap().to_owned(),
            vector["p"].as_str().unwrap().to_owned(),
        );
        if let Some((_, convention)) = CONVENTION_NAMES.iter().find(|(name, _)| *name == provider) {
            let id = format!("{id} as {convention}");
            rows.push(Row {
                id,
                provider: (*convention).to_owned(),
                vector: vector.clone(),
            });
        }
        rows.push(Row { id, provider, vector });
    }
    rows
}

/// Sends the rows and gives back the cost of each call by its row's id; the rows that no attribute can carry
/// are left out.
async fn costs_of(rows: &[Row]) -> Vec<(&Row, Option<String>)> {
    let server = TestServer::start().await;
    let sent: Vec<(&Row, _)> = rows
        .iter()
        .zip(1..)
        .filter_map(|(row, number)| Some((row, row.span(number)?)))
        .collect();
    for batch in sent.chunks(SPANS_A_REQUEST) {
        let spans = batch.iter().map(|(_, span)| span.clone()).collect();
        let request = otlp::traces(vec![text("service.name", "price-vectors")], "price-vectors", spans);
        server.post_all([&otlp::protobuf(&request)]).await.unwrap();
    }
    server.settled().await.unwrap();
    let calls = server
        .sql("SELECT response_id, own_cost FROM calls WHERE kind = 'llm'")
        .await
        .unwrap();
    assert_eq!(calls.len(), sent.len(), "each span is one call");
    let cost_of = |row: &Row| {
        let found = calls.iter().find(|call| call["response_id"] == row.id.as_str());
        decimal(found.unwrap_or_else(|| panic!("no call for {}", row.id)), "own_cost")
    };
    sent.into_iter().map(|(row, _)| (row, cost_of(row))).collect()
}

/// Checks a file whose every row has a price; gives back how many rows it compared.
async fn check(file: &str) -> usize {
    let rows = rows(file);
    let costs = costs_of(&rows).await;
    let wrong: Vec<String> = costs
        .iter()
        .filter(|(row, cost)| *cost != row.expected())
        .map(|(row, cost)| format!("{}: {cost:?}, not {:?}", row.id, row.expected()))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        costs.len(),
        wrong.join("\n")
    );
    costs.len()
}

#[tokio::test]
async fn every_model_and_usage_is_priced_digit_for_digit() {
    assert!(check("vectors.json").await >= 269);
}

#[tokio::test]
async fn prices_change_on_the_second_that_they_change() {
    assert!(check("effective-dated.json").await >= 72);
}

/// Rows of `extras.json` whose quantity no attribute carries: seconds of audio, images made, the size of a search.
const NOT_SENT: usize = 4;

#[tokio::test]
async fn web_searches_and_model_names_of_many_spellings_are_priced() {
    let rows: Vec<Row> = rows("extras.json")
        .into_iter()
        .filter(|row| row.vector["g"].get("error").is_none())
        .collect();
    let costs = costs_of(&rows).await;
    assert_eq!(costs.len() + NOT_SENT, rows.len());
    for (row, cost) in costs {
        assert_eq!(cost, row.expected(), "{}", row.id);
    }
}

#[tokio::test]
async fn what_has_no_price_is_unpriced_and_never_zero() {
    let mut rows: Vec<Row> = Vec::new();
    for (provider, model) in [
        ("nosuch", "no-such-model"),
        ("openai", "no-such-model"),
        ("", "no-such-model"),
    ] {
        let vector = serde_json::json!({
            "m": model, "ts": "2026-11-18T12:00:00Z", "u": {"input": 1000, "output": 10}, "g": {"error": "unknown"}});
        rows.push(Row {
            id: format!("{provider}/{model}"),
            provider: provider.to_owned(),
            vector,
        });
    }
    for (row, cost) in costs_of(&rows).await {
        assert_eq!(cost, None, "{}", row.id);
    }
}

/// A chat of one million input tokens (four tenths of them from the cache) and a hundred thousand of output.
fn chat(number: u64, model: &str, response_id: &str, at: &str, extra: &[(&str, &str)]) -> otlp::proto::trace::v1::Span {
    let mut attributes = vec![
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.provider.name", "openai"),
        text("gen_ai.request.model", model),
        text("gen_ai.response.id", response_id),
        int("gen_ai.usage.input_tokens", 1_000_000),
        int("gen_ai.usage.cache_read.input_tokens", 400_000),
        int("gen_ai.usage.output_tokens", 100_000),
    ];
    attributes.extend(extra.iter().map(|(key, value)| text(key, value)));
    otlp::span(number, number, "chat", nanoseconds(at), 1_000_000, attributes)
}

/// A call of a tool of a server, two seconds long.
fn tool_call(number: u64, server: &str, tool: &str) -> otlp::proto::trace::v1::Span {
    let attributes = vec![
        text("gen_ai.operation.name", "execute_tool"),
        text("gen_ai.tool.name", tool),
        text("mcp.method.name", "tools/call"),
        text("mcp.server.name", server),
    ];
    let at_ns = nanoseconds("2026-11-18T12:00:00Z");
    otlp::span(
        number,
        number,
        &format!("tools/call {tool}"),
        at_ns,
        2_000_000_000,
        attributes,
    )
}

async fn send(server: &TestServer, spans: Vec<otlp::proto::trace::v1::Span>) {
    let request = otlp::traces(vec![text("service.name", "prices")], "prices", spans);
    server.post_all([&otlp::protobuf(&request)]).await.unwrap();
    server.settled().await.unwrap();
}

const CONTRACT: &str = "\
provider,model,input,output,discount_percent,valid_from,note
openai,gpt-4o,2,8,,2026-11-01,agreed
openai,gpt-4o-mini,,,10,2026-12-01,
";
const TOOLS: &str = "server,tool,per_call,per_second\nwebsearch,*,0.005,0.001\n";

#[tokio::test]
async fn a_contract_and_prices_of_tools_are_charged_from_the_next_start() {
    let server = TestServer::start().await;
    send(&server, vec![chat(1, "gpt-4o", "before", "2026-11-18T12:00:00Z", &[])]).await;
    let (server, folder) = server.into_parts();
    server.stop().await.unwrap();
    let data = data_of(&folder);
    let data = data.to_str().unwrap();
    std::fs::write(folder.path().join("acme.csv"), CONTRACT).unwrap();
    std::fs::write(folder.path().join("tools.csv"), TOOLS).unwrap();

    let dry = run_ok(
        folder.path(),
        &["prices", "import", "acme.csv", "--dry-run", "--data", data],
    );
    assert!(
        dry.contains("+ contract openai/gpt-4o") && dry.contains("nothing was written"),
        "{dry}"
    );
    let imported = run(folder.path(), &["prices", "import", "acme.csv", "--data", data]);
    let (shown, noted) = (
        String::from_utf8_lossy(&imported.stdout),
        String::from_utf8_lossy(&imported.stderr),
    );
    assert!(
        shown.contains("2 added, 0 removed, 0 changed") && shown.contains("version v1-"),
        "{shown}"
    );
    assert!(noted.contains("unknown field \"note\""), "{noted}");
    run_ok(folder.path(), &["prices", "import", "tools.csv", "--data", data]);
    let versions = run_ok(
        folder.path(),
        &["prices", "versions", "--data", data, "--format", "json"],
    );
    let versions: Vec<Value> = serde_json::from_str(&versions).unwrap();
    assert_eq!(
        versions.iter().map(|row| row["in_use"] == true).collect::<Vec<_>>(),
        [false, false, true]
    );

    let server = Server::start(BINARY, &data_of(&folder)).await.unwrap();
    let spans = vec![
        chat(2, "gpt-4o", "contracted", "2026-11-18T12:00:00Z", &[]),
        chat(3, "gpt-4o-mini", "listed", "2026-11-18T12:00:00Z", &[]),
        chat(4, "gpt-4o", "early", "2026-10-31T23:59:59Z", &[]),
        tool_call(5, "websearch", "search"),
        tool_call(6, "github", "search"),
    ];
    let request = otlp::traces(vec![text("service.name", "prices")], "prices", spans);
    server.post_all([&otlp::protobuf(&request)]).await.unwrap();
    server.settled().await.unwrap();
    let rows = server
        .sql("SELECT c.response_id, SUM(l.list_cost) AS list_cost, SUM(l.contracted_cost) AS contracted_cost, SUM(l.effective_cost) AS effective_cost \
              FROM ledger l JOIN calls c ON c.call_id = l.call_id WHERE c.kind = 'llm' GROUP BY 1 ORDER BY 1")
        .await
        .unwrap();
    let found: Vec<[Option<String>; 3]> = rows
        .iter()
        .map(|row| ["list_cost", "contracted_cost", "effective_cost"].map(|column| decimal(row, column)))
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(rows[0]["response_id"], "before");
    assert_eq!(found[1], [some("3"), some("2.5"), some("2.5")], "contracted: {rows:?}");
    assert_eq!(found[2], [some("3"), None, some("3")], "early: before the contract");
    assert_eq!(
        found[3],
        [some("0.18"), None, some("0.18")],
        "listed: the discount comes later"
    );

    let direct = server
        .sql("SELECT server, tool, quantity, effective_cost, price_id FROM ledger WHERE cause = 'direct'")
        .await
        .unwrap();
    assert_eq!(direct.len(), 1, "{direct:?}");
    assert_eq!(
        (&direct[0]["server"], int_of(&direct[0], "quantity")),
        (&Value::from("websearch"), 1)
    );
    assert_eq!(decimal(&direct[0], "effective_cost"), some("0.007"));
    let own = server
        .sql("SELECT server, own_cost FROM calls WHERE kind = 'tool' ORDER BY server")
        .await
        .unwrap();
    assert_eq!(
        (decimal(&own[0], "own_cost"), decimal(&own[1], "own_cost")),
        (None, some("0.007"))
    );
    let economics = server
        .sql("SELECT direct FROM tool_economics WHERE server = 'websearch'")
        .await
        .unwrap();
    assert_eq!(decimal(&economics[0], "direct"), some("0.007"));
    let layers = server
        .sql("SELECT layer, COUNT(*) AS n FROM prices WHERE layer <> 'list' GROUP BY 1 ORDER BY 1")
        .await
        .unwrap();
    assert_eq!(layers.iter().map(|row| int_of(row, "n")).collect::<Vec<_>>(), [3, 2]);
    server.stop().await.unwrap();

    let shown = run_ok(
        folder.path(),
        &["prices", "show", "gpt-4o", "--provider", "openai", "--data", data],
    );
    assert!(
        shown.contains("contract") && shown.contains("price acme:openai/gpt-4o@2026-11-01"),
        "{shown}"
    );
    let used = run_ok(folder.path(), &["prices", "use", "v0", "--data", data]);
    assert!(used.contains("0 added, 3 removed"), "{used}");
}

/// The same beside a running server: what is settled stays, what comes is charged by the version in use, also when an
/// earlier one is taken into use again. A version that was damaged changes nothing.
#[tokio::test]
async fn a_running_server_charges_by_the_version_that_is_taken_into_use() {
    let server = TestServer::start().await;
    let folder = server.data().parent().unwrap().to_owned();
    let prices = |arguments: &[&str]| {
        let data = server.data().to_str().unwrap();
        run_ok(&folder, &[&["prices"], arguments, &["--data", data]].concat())
    };
    let is_in_use = async |version: &str| {
        wait::until(&format!("version {version}"), DEADLINE, async || {
            let status = server.get("/api/v1/status").await?.json()?;
            let is_it = status["price_book"]
                .as_str()
                .is_some_and(|name| name.starts_with(version));
            Ok(is_it.then_some(()))
        })
        .await
        .unwrap();
    };
    let list_price = async || {
        let query = "SELECT price('openai', 'gpt-4o', TIMESTAMP '2026-11-18T12:00:00', 1000000, 0) AS usd";
        decimal(&server.sql_row(query).await.unwrap(), "usd").unwrap()
    };
    let mut number = 0;
    let mut charged = async || {
        number += 1;
        let id = format!("call-{number}");
        send(&server, vec![chat(number, "gpt-4o", &id, "2026-11-18T12:00:00Z", &[])]).await;
        let row = server
            .sql_row(&format!("SELECT own_cost FROM calls WHERE response_id = '{id}'"))
            .await
            .unwrap();
        decimal(&row, "own_cost").unwrap()
    };
    let listed = charged().await;
    assert_eq!(list_price().await, "2.5");

    std::fs::write(folder.join("acme.csv"), CONTRACT).unwrap();
    prices(&["import", "acme.csv"]);
    is_in_use("v1-").await;
    let contracted = charged().await;
    assert_ne!(contracted, listed);
    std::fs::write(
        folder.join("list.csv"),
        "provider,model,input,output\nopenai,gpt-4o,3,9\n",
    )
    .unwrap();
    prices(&["import", "list.csv", "--as", "list"]);
    is_in_use("v2-").await;
    assert_eq!(list_price().await, "3");

    prices(&["use", "v0"]);
    is_in_use("genai-prices").await;
    assert_eq!(charged().await, listed);
    assert_eq!(list_price().await, "2.5");

    // Not a version: the one before stays, and a good one is taken up again.
    let current = server.data().join("prices/current");
    std::fs::write(&current, "v9-000000000000\n").unwrap();
    wait::until("a word of the version that cannot be read", DEADLINE, async || {
        Ok(server.printed().contains("v9-000000000000").then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(charged().await, listed);
    prices(&["use", "1"]);
    is_in_use("v1-").await;
    assert_eq!(charged().await, contracted);

    let stays = server
        .sql("SELECT own_cost FROM calls ORDER BY response_id")
        .await
        .unwrap();
    let costs: Vec<_> = stays.iter().map(|row| decimal(row, "own_cost").unwrap()).collect();
    assert_eq!(costs, [&*listed, &contracted, &listed, &listed, &contracted]);
}

#[tokio::test]
async fn what_if_prices_the_calls_of_a_lake_otherwise_and_changes_nothing() {
    let server = TestServer::start().await;
    let team = |team| vec![("team", team)];
    send(
        &server,
        vec![
            chat(1, "gpt-4o", "a", "2026-11-18T12:00:00Z", &team("payments")),
            chat(2, "gpt-4o", "b", "2026-11-18T13:00:00Z", &team("search")),
            chat(3, "gpt-4o-mini", "c", "2026-11-18T13:00:00Z", &team("search")),
            chat(4, "no-such-model", "d", "2026-11-18T13:00:00Z", &team("search")),
        ],
    )
    .await;
    let (server, folder) = server.into_parts();
    server.stop().await.unwrap();
    let data = data_of(&folder);
    let data = data.to_str().unwrap();
    let rows = |arguments: &[&str]| -> Vec<Value> {
        let all = [&["prices", "what-if", "--data", data, "--format", "json"], arguments].concat();
        serde_json::from_str(&run_ok(folder.path(), &all)).unwrap()
    };
    let by_model = rows(&["--model", "gpt-4o=gpt-4o-mini", "--by", "model"]);
    let told = |row: &Value| ["old", "new", "difference"].map(|column| row[column].as_str().unwrap().to_owned());
    assert_eq!(told(&by_model[0]), ["6", "0.36", "-5.64"], "{by_model:?}");
    assert_eq!(told(&by_model[1]), ["0.18", "0.18", "0"], "{by_model:?}");
    assert_eq!(by_model[2]["not_comparable"], 1, "{by_model:?}");
    let all = rows(&[
        "--model",
        "gpt-4o*",
        "--processing",
        "batch",
        "--since",
        "2026-11-18T12:30:00Z",
    ]);
    assert_eq!(all[0]["repriced"], 2, "{all:?}");
    assert_eq!(all[0]["old"], "3.18", "{all:?}");

    std::fs::write(folder.path().join("acme.csv"), CONTRACT).unwrap();
    run_ok(folder.path(), &["prices", "import", "acme.csv", "--data", data]);
    let book = rows(&["--book", "v1", "--by", "model"]);
    assert_eq!(told(&book[0]), ["6", "5", "-1"], "{book:?}");
    let nothing = run(folder.path(), &["prices", "what-if", "--data", data]);
    assert_eq!(nothing.status.code(), Some(2));
    // Nothing was charged anew.
    let sum = run_ok(
        folder.path(),
        &[
            "sql",
            "--data",
            data,
            "--format",
            "json",
            "SELECT SUM(effective_cost) AS cost, COUNT(*) AS n FROM ledger",
        ],
    );
    let sum: Vec<serde_json::Map<String, Value>> = serde_json::from_str(&sum).unwrap();
    assert_eq!(decimal(&sum[0], "cost").as_deref(), Some("6.18"));
}

#[test]
fn check_compares_the_book_in_use_with_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let file = spanledger_testkit::workspace().join("ledger/tests-data/vectors.json");
    let file = file.to_str().unwrap();
    let agreed = run_ok(folder.path(), &["prices", "check", file]);
    assert!(
        agreed.contains("269 of 269 vectors agree with genai-prices-"),
        "{agreed}"
    );
    std::fs::write(
        folder.path().join("list.csv"),
        "provider,model,input,output\nopenai,gpt-4o,2,8\n",
    )
    .unwrap();
    run_ok(folder.path(), &["prices", "import", "list.csv", "--as", "list"]);
    let differing = run(folder.path(), &["prices", "check", file]);
    let told = String::from_utf8_lossy(&differing.stdout);
    assert_eq!(differing.status.code(), Some(1), "{told}");
    assert!(
        told.contains("openai/gpt-4o/one_token: 0.00001 instead of 0.0000125") && told.contains("list:openai/gpt-4o"),
        "{told}"
    );
    let diff = run_ok(folder.path(), &["prices", "diff", "v0", "v1"]);
    assert!(
        diff.contains("~ list openai/gpt-4o") && diff.contains("0 added, 0 removed, 1 changed"),
        "{diff}"
    );
    let broken = run(folder.path(), &["prices", "import", "list.csv", "--as", "tools"]);
    let told = String::from_utf8_lossy(&broken.stderr);
    assert_eq!(broken.status.code(), Some(2));
    assert!(told.contains("list.csv:2: "), "{told}");
}

#[tokio::test]
async fn list_contracted_reported_and_effective_cost_stand_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let data = data_of(&folder);
    let path = data.to_str().unwrap();
    std::fs::write(folder.path().join("acme.csv"), CONTRACT).unwrap();
    run_ok(folder.path(), &["prices", "import", "acme.csv", "--data", path]);
    for (order, effective) in [("reported,contract,list", ["2.9", "0.18"]), ("list", ["3", "0.18"])] {
        let env = [("SPANLEDGER_COST_SOURCE", order)];
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        copy(&data.join("prices"), &data_of(&folder).join("prices"));
        let server = Server::start_with(BINARY, &data_of(&folder), &["serve"], &env)
            .await
            .unwrap();
        let mut reported = chat(1, "gpt-4o", "a", "2026-11-18T12:00:00Z", &[]);
        reported.attributes.push(otlp::attribute(
            "gen_ai.cost.total_cost",
            otlp::proto::common::v1::any_value::Value::DoubleValue(2.9),
        ));
        let listed = chat(2, "gpt-4o-mini", "b", "2026-11-18T12:00:00Z", &[]);
        let request = otlp::traces(vec![text("service.name", "prices")], "prices", vec![reported, listed]);
        server.post_all([&otlp::protobuf(&request)]).await.unwrap();
        server.settled().await.unwrap();
        let rows = server
            .sql("SELECT * FROM cost_comparison ORDER BY model")
            .await
            .unwrap();
        let told = |row: &serde_json::Map<String, Value>| {
            ["list_cost", "contracted_cost", "reported_cost", "effective_cost"].map(|column| decimal(row, column))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            told(&rows[0]),
            [some("3"), some("2.5"), some("2.9"), some(effective[0])],
            "{order}"
        );
        assert_eq!(
            told(&rows[1]),
            [some("0.18"), some("0.18"), None, some(effective[1])],
            "{order}"
        );
        server.stop().await.unwrap();
    }
    let refused = std::process::Command::new(BINARY)
        .args(["config", "check"])
        .env("SPANLEDGER_COST_SOURCE", "cheapest")
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
}

/// Copies the files of a folder.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
