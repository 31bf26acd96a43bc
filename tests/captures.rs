//! Captures of real emitters, posted to a running server: every total equals the ground truth, whatever the
//! order, however often each request is sent, also where the bytes of a repeat differ.

use serde_json::Value;
use spanledger_testkit::captures::{self, Capture};
use spanledger_testkit::otlp::Body;
use spanledger_testkit::random::Rng;

use crate::support::{TestServer, decimal, int, plain};

/// Orders that a shuffled delivery is tried in.
const SEEDS: [u64; 3] = [1, 2, 3];

/// How the bodies of a capture are sent.
#[derive(Debug, Clone, Copy)]
enum Delivery {
    /// As they arrived.
    InOrder,
    /// In an order that the seed decides.
    Shuffled(u64),
    /// Everything, then everything again.
    TwiceOver,
    /// Everything, then everything again in other bytes, shuffled.
    TwiceOverReencoded,
}

impl Delivery {
    fn of(self, bodies: &[Body]) -> Vec<Body> {
        let mut sent = bodies.to_vec();
        match self {
            Self::InOrder => {}
            Self::Shuffled(seed) => Rng::new(seed).shuffle(&mut sent),
            Self::TwiceOver => sent.extend_from_slice(bodies),
            Self::TwiceOverReencoded => {
                sent.extend(bodies.iter().map(Body::reencoded));
                Rng::new(7).shuffle(&mut sent);
            }
        }
        sent
    }
}

/// What the ledger must come to, in the words of the ground truth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Totals {
    llm_calls: i64,
    failed_llm_calls: i64,
    input: i64,
    output: i64,
    cache_read: i64,
    cache_write: i64,
    embeddings: i64,
    mcp_tool_calls: i64,
    mcp_tool_errors: i64,
    /// `None` where the ground truth does not give one.
    cost: Option<String>,
    tool_calls: Option<i64>,
    prompts: Option<i64>,
    resources: Option<i64>,
    resource_errors: Option<i64>,
}

impl Totals {
    /// Reads `expected.json`, whose fields depend on what its emitter reports.
    fn expected(capture: &Capture) -> Self {
        let truth = |pointer: &str| capture.truth(pointer);
        let given = |name: &str| capture.expected.get(name).and_then(Value::as_i64);
        let (cache_read, cache_write) = match capture.expected.get("anthropic") {
            Some(_) => (truth("/anthropic/cache_read"), truth("/anthropic/cache_write")),
            None => (truth("/cache_read"), truth("/cache_write")),
        };
        let input = match given("input_tokens_uncached") {
            Some(uncached) => uncached + cache_read + cache_write,
            None => truth("/input_tokens_total") + truth("/anthropic/input_total") + truth("/openai/input_total"),
        };
        Self {
            llm_calls: truth("/llm_calls"),
            failed_llm_calls: truth("/failed_calls"),
            input,
            output: truth("/output_tokens") + truth("/anthropic/output") + truth("/openai/output"),
            cache_read,
            cache_write,
            embeddings: truth("/embeddings_calls"),
            mcp_tool_calls: truth("/mcp_tool_calls"),
            mcp_tool_errors: truth("/mcp_tool_errors"),
            cost: capture.expected.get("cost_usd").map(|cost| plain(&cost.to_string())),
            tool_calls: given("tool_calls"),
            prompts: given("prompts_get"),
            resources: given("resources_read"),
            resource_errors: given("resource_errors"),
        }
    }

    /// Asks the server, over SQL; gives a field as `None` where `expected` has none. Cache reads leave OpenAI out, as
    /// the ground truth does: it names them for Anthropic only, and the mock OpenAI also reports some.
    async fn measured(server: &TestServer, expected: &Self) -> Self {
        let row = server
            .sql_row(
                "SELECT
                   SUM(CASE WHEN kind = 'llm' AND status <> 'error' THEN 1 ELSE 0 END) AS llm_calls,
                   SUM(CASE WHEN kind = 'llm' AND status = 'error' THEN 1 ELSE 0 END) AS failed_llm_calls,
                   SUM(CASE WHEN kind = 'llm' THEN input_tokens END) AS input,
                   SUM(CASE WHEN kind = 'llm' THEN output_tokens END) AS output,
                   SUM(CASE WHEN kind = 'llm' AND provider <> 'openai' THEN cache_read_tokens END) AS cache_read,
                   SUM(CASE WHEN kind = 'llm' THEN COALESCE(cache_write_5m_tokens, 0)
                                                 + COALESCE(cache_write_1h_tokens, 0) END) AS cache_write,
                   SUM(CASE WHEN kind = 'llm' THEN own_cost END) AS cost,
                   SUM(CASE WHEN kind = 'embedding' THEN 1 ELSE 0 END) AS embeddings,
                   SUM(CASE WHEN kind = 'tool' THEN 1 ELSE 0 END) AS tool_calls,
                   SUM(CASE WHEN kind = 'tool' AND server IS NOT NULL THEN 1 ELSE 0 END) AS mcp_tool_calls,
                   SUM(CASE WHEN kind = 'tool' AND server IS NOT NULL AND status = 'error' THEN 1 ELSE 0 END)
                     AS mcp_tool_errors,
                   SUM(CASE WHEN kind = 'prompt' THEN 1 ELSE 0 END) AS prompts,
                   SUM(CASE WHEN kind = 'resource' THEN 1 ELSE 0 END) AS resources,
                   SUM(CASE WHEN kind = 'resource' AND status = 'error' THEN 1 ELSE 0 END) AS resource_errors
                 FROM calls",
            )
            .await
            .unwrap();
        Self {
            llm_calls: int(&row, "llm_calls"),
            failed_llm_calls: int(&row, "failed_llm_calls"),
            input: int(&row, "input"),
            output: int(&row, "output"),
            cache_read: int(&row, "cache_read"),
            cache_write: int(&row, "cache_write"),
            embeddings: int(&row, "embeddings"),
            mcp_tool_calls: int(&row, "mcp_tool_calls"),
            mcp_tool_errors: int(&row, "mcp_tool_errors"),
            cost: expected.cost.as_ref().and_then(|_| decimal(&row, "cost")),
            tool_calls: expected.tool_calls.map(|_| int(&row, "tool_calls")),
            prompts: expected.prompts.map(|_| int(&row, "prompts")),
            resources: expected.resources.map(|_| int(&row, "resources")),
            resource_errors: expected.resource_errors.map(|_| int(&row, "resource_errors")),
        }
    }
}

/// Every way of sending one capture, each to a server of its own.
async fn check_every_delivery(name: &str) {
    let capture = Capture::load(name).unwrap();
    let expected = Totals::expected(&capture);
    let deliveries = [Delivery::InOrder, Delivery::TwiceOver, Delivery::TwiceOverReencoded]
        .into_iter()
        .chain(SEEDS.map(Delivery::Shuffled));
    for delivery in deliveries {
        let server = TestServer::start().await;
        server.post_all(&delivery.of(&capture.bodies)).await.unwrap();
        server.settled().await.unwrap();
        let measured = Totals::measured(&server, &expected).await;
        assert_eq!(measured, expected, "{name}, {delivery:?}");
        the_ledger_adds_up_to_the_calls(&server, &format!("{name}, {delivery:?}")).await;
    }
}

/// Promise 2: the money on the lines is the money on the calls, and their tokens are the calls' tokens.
async fn the_ledger_adds_up_to_the_calls(server: &TestServer, context: &str) {
    let calls = server.sql_row("SELECT SUM(own_cost) AS cost FROM calls").await.unwrap();
    let lines = server
        .sql_row("SELECT SUM(effective_cost) AS cost FROM ledger")
        .await
        .unwrap();
    assert_eq!(decimal(&calls, "cost"), decimal(&lines, "cost"), "{context}");
}

#[tokio::test]
async fn claude_code_equals_its_ground_truth_in_every_delivery() {
    check_every_delivery("claude-code").await;
}

#[tokio::test]
async fn claude_code_over_json_equals_its_ground_truth_in_every_delivery() {
    check_every_delivery("claude-code-json").await;
}

#[tokio::test]
async fn a_fastmcp_gateway_equals_its_ground_truth_in_every_delivery() {
    check_every_delivery("fastmcp-gateway").await;
}

#[tokio::test]
async fn openinference_equals_its_ground_truth_in_every_delivery() {
    check_every_delivery("openinference").await;
}

#[tokio::test]
async fn openinference_splits_exactly_by_provider() {
    let capture = Capture::load("openinference").unwrap();
    let server = TestServer::start().await;
    server.post_all(&capture.bodies).await.unwrap();
    server.settled().await.unwrap();
    for provider in ["anthropic", "openai"] {
        let row = server
            .sql_row(&format!(
                "SELECT COUNT(*) AS calls, SUM(input_tokens) AS input_total, SUM(output_tokens) AS output
                 FROM calls WHERE kind = 'llm' AND status <> 'error' AND provider = '{provider}'"
            ))
            .await
            .unwrap();
        for field in ["calls", "input_total", "output"] {
            let expected = capture.truth(&format!("/{provider}/{field}"));
            assert_eq!(int(&row, field), expected, "{provider} {field}");
        }
    }
}

#[tokio::test]
async fn all_captures_in_one_lake_are_the_sum_of_their_ground_truths() {
    let captures: Vec<Capture> = captures::NAMES
        .iter()
        .map(|name| Capture::load(name).unwrap())
        .collect();
    let mut bodies: Vec<Body> = captures.iter().flat_map(|capture| capture.bodies.clone()).collect();
    Rng::new(SEEDS[0]).shuffle(&mut bodies);
    let server = TestServer::start().await;
    server.post_all(&bodies).await.unwrap();
    server.settled().await.unwrap();

    let mut expected = Totals::default();
    for totals in captures.iter().map(Totals::expected) {
        expected.llm_calls += totals.llm_calls;
        expected.failed_llm_calls += totals.failed_llm_calls;
        expected.input += totals.input;
        expected.output += totals.output;
        expected.cache_read += totals.cache_read;
        expected.cache_write += totals.cache_write;
        expected.embeddings += totals.embeddings;
        expected.mcp_tool_calls += totals.mcp_tool_calls;
        expected.mcp_tool_errors += totals.mcp_tool_errors;
    }
    assert_eq!(Totals::measured(&server, &expected).await, expected);
    the_ledger_adds_up_to_the_calls(&server, "all captures").await;
}

#[tokio::test]
async fn a_capture_settled_after_every_request_comes_to_the_same() {
    let capture = Capture::load("claude-code").unwrap();
    let expected = Totals::expected(&capture);
    let server = TestServer::start().await;
    for body in &capture.bodies {
        server.post_all([body]).await.unwrap();
        server.settled().await.unwrap();
    }
    assert_eq!(Totals::measured(&server, &expected).await, expected);
    the_ledger_adds_up_to_the_calls(&server, "settled after every request").await;
}

#[tokio::test]
async fn a_capture_survives_a_kill_and_a_repeat_of_all_its_requests() {
    let capture = Capture::load("openinference").unwrap();
    let expected = Totals::expected(&capture);
    let server = TestServer::start().await;
    server.post_all(&capture.bodies).await.unwrap();
    let server = server.restarted().await;
    server.post_all(&capture.bodies).await.unwrap();
    server.settled().await.unwrap();
    assert_eq!(Totals::measured(&server, &expected).await, expected);
}
