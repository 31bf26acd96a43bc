//! Published price vectors, through the whole way: each (model, usage) pair is sent as a GenAI span at the
//! vector's own time, and the cost of the call that comes out equals the reference digit for digit.
//!
//! Every row is sent under the provider's name as the price data spell it, and where the GenAI conventions
//! spell it otherwise, under that name as well.

use serde_json::Value;
use spanledger_testkit::otlp::{self, int, text};

use crate::support::{TestServer, decimal, plain};

/// Spans a request: as a batching SDK would send them.
const SPANS_A_REQUEST: usize = 100;
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
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("ledger/tests-data")
        .join(file);
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
