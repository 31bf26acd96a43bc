//! Captures of real emitters, posted to a running server: every total equals the ground truth, whatever the
//! order, however often each request is sent, also where the bytes of a repeat differ.

use spanledger_testkit::captures::{self, Capture, Truth};
use spanledger_testkit::otlp::Body;
use spanledger_testkit::random::Rng;

use crate::support::{LEDGER, TestServer, decimal, int, plain};

/// Orders that deliveries are shuffled in.
const SEEDS: [u64; 2] = [1, 2];

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

/// What the server's calls come to, over SQL; a field is `None` where the ground truth does not say it.
async fn measured(server: &TestServer, truth: &Truth) -> Truth {
    let of_provider = truth
        .cache_of
        .map_or_else(String::new, |provider| format!(" AND provider = '{provider}'"));
    let row = server
        .sql_row(&format!(
            "SELECT
               SUM(CASE WHEN kind = 'llm' AND status <> 'error' THEN 1 ELSE 0 END) AS llm_calls,
               SUM(CASE WHEN kind = 'llm' AND status = 'error' THEN 1 ELSE 0 END) AS failed_llm_calls,
               SUM(CASE WHEN kind = 'llm' THEN input_tokens END) AS input,
               SUM(CASE WHEN kind = 'llm' THEN output_tokens END) AS output,
               SUM(CASE WHEN kind = 'llm'{of_provider} THEN cache_read_tokens END) AS cache_read,
               SUM(CASE WHEN kind = 'llm'{of_provider} THEN COALESCE(cache_write_5m_tokens, 0)
                                                          + COALESCE(cache_write_1h_tokens, 0) END) AS cache_write,
               SUM(CASE WHEN kind = 'llm' THEN reported_cost END) AS cost,
               SUM(CASE WHEN kind = 'embedding' THEN 1 ELSE 0 END) AS embeddings,
               SUM(CASE WHEN kind = 'tool' THEN 1 ELSE 0 END) AS tool_calls,
               SUM(CASE WHEN kind = 'tool' AND server IS NOT NULL THEN 1 ELSE 0 END) AS mcp_tool_calls,
               SUM(CASE WHEN kind = 'tool' AND server IS NOT NULL AND status = 'error' THEN 1 ELSE 0 END)
                 AS mcp_tool_errors,
               SUM(CASE WHEN kind = 'prompt' THEN 1 ELSE 0 END) AS prompts,
               SUM(CASE WHEN kind = 'resource' THEN 1 ELSE 0 END) AS resources,
               SUM(CASE WHEN kind = 'resource' AND status = 'error' THEN 1 ELSE 0 END) AS resource_errors
             FROM calls"
        ))
        .await
        .unwrap();
    let of = |said: Option<i64>, field: &str| said.map(|_| int(&row, field));
    Truth {
        llm_calls: of(truth.llm_calls, "llm_calls"),
        failed_llm_calls: of(truth.failed_llm_calls, "failed_llm_calls"),
        embeddings: of(truth.embeddings, "embeddings"),
        input: of(truth.input, "input"),
        output: of(truth.output, "output"),
        cache_read: of(truth.cache_read, "cache_read"),
        cache_write: of(truth.cache_write, "cache_write"),
        cache_of: truth.cache_of,
        cost: truth.cost.as_ref().and_then(|_| decimal(&row, "cost")),
        tool_calls: of(truth.tool_calls, "tool_calls"),
        mcp_tool_calls: of(truth.mcp_tool_calls, "mcp_tool_calls"),
        mcp_tool_errors: of(truth.mcp_tool_errors, "mcp_tool_errors"),
        prompts: of(truth.prompts, "prompts"),
        resources: of(truth.resources, "resources"),
        resource_errors: of(truth.resource_errors, "resource_errors"),
    }
}

/// Sends captures, each to a server of its own, and compares; all differences are told at once.
async fn check(captures: &[Capture], delivery: Delivery) {
    let mut wrong = Vec::new();
    for capture in captures {
        let expected = truth_of(capture);
        let server = TestServer::start().await;
        server.post_all(&delivery.of(&capture.bodies)).await.unwrap();
        server.settled().await.unwrap();
        let measured = measured(&server, &expected).await;
        if measured != expected {
            wrong.push(format!(
                "{}:\n expected {expected:?}\n measured {measured:?}",
                capture.name
            ));
        }
        the_ledger_adds_up_to_the_calls(&server, &format!("{}, {delivery:?}", capture.name)).await;
    }
    assert!(wrong.is_empty(), "{delivery:?}\n{}", wrong.join("\n"));
}

fn truth_of(capture: &Capture) -> Truth {
    let mut truth = capture.totals();
    truth.cost = truth.cost.map(|cost| plain(&cost));
    truth
}

fn genuine() -> Vec<Capture> {
    let names = captures::names().unwrap();
    assert!(names.len() >= 12, "captures are missing: {names:?}");
    names.iter().map(|name| Capture::load(name).unwrap()).collect()
}

#[tokio::test]
async fn every_capture_in_order_of_arrival_equals_its_ground_truth() {
    check(&genuine(), Delivery::InOrder).await;
}

#[tokio::test]
async fn every_capture_shuffled_equals_its_ground_truth() {
    check(&genuine(), Delivery::Shuffled(SEEDS[0])).await;
}

#[tokio::test]
async fn every_capture_twice_over_equals_its_ground_truth() {
    check(&genuine(), Delivery::TwiceOver).await;
}

#[tokio::test]
async fn every_capture_twice_over_in_other_bytes_and_shuffled_equals_its_ground_truth() {
    check(&genuine(), Delivery::TwiceOverReencoded).await;
}

#[tokio::test]
async fn every_synthetic_fixture_comes_to_what_its_documentation_says() {
    let names = captures::synthetic_names().unwrap();
    assert!(!names.is_empty());
    let fixtures: Vec<Capture> = names
        .iter()
        .map(|name| Capture::load_synthetic(name).unwrap())
        .collect();
    check(&fixtures, Delivery::TwiceOver).await;
}

/// The money on the lines is the money on the calls, and their tokens are the calls' tokens, hour by hour and
/// conversation by conversation: who caused a cost divides it and never changes it. (What is sent again is one line an
/// hour, for all calls that sent it.)
async fn the_ledger_adds_up_to_the_calls(server: &TestServer, context: &str) {
    let calls = server.sql_row("SELECT SUM(own_cost) AS cost FROM calls").await.unwrap();
    let lines = server
        .sql_row("SELECT SUM(effective_cost) AS cost FROM ledger")
        .await
        .unwrap();
    assert_eq!(decimal(&calls, "cost"), decimal(&lines, "cost"), "{context}");
    let differing = server
        .sql_row(
            "SELECT COUNT(*) AS n FROM (
               SELECT hour, session_id, service, provider, SUM(cost) AS cost, SUM(tokens) AS tokens FROM (
                 SELECT date_trunc('hour', time) AS hour, session_id, service, provider,
                        COALESCE(effective_cost, 0) AS cost, tokens FROM ledger
                 UNION ALL
                 SELECT date_trunc('hour', time), session_id, service, provider, -COALESCE(own_cost, 0),
                        -(COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0)) FROM calls
               ) AS told GROUP BY hour, session_id, service, provider
             ) AS summed WHERE cost <> 0 OR tokens <> 0",
        )
        .await
        .unwrap();
    assert_eq!(int(&differing, "n"), 0, "{context}");
}

#[tokio::test]
async fn a_tool_costs_what_its_results_and_calls_put_into_the_context() {
    let server = TestServer::start().await;
    server
        .post_all(&Capture::load("claude-code").unwrap().bodies)
        .await
        .unwrap();
    server.settled().await.unwrap();
    let of = |clause: &'static str| {
        let server = &server;
        async move {
            let query = format!(
                "SELECT COALESCE(SUM(tokens), 0) AS tokens, SUM(effective_cost) AS cost FROM ledger WHERE {clause}"
            );
            server.sql_row(&query).await.unwrap()
        }
    };
    let forecast = of("server = 'weather' AND tool = 'get_forecast' AND cause = 'result'").await;
    assert!(
        int(&forecast, "tokens") > 0 && decimal(&forecast, "cost").is_some(),
        "{forecast:?}"
    );
    let written = of("server = 'weather' AND cause = 'call' AND NOT history").await;
    assert!(int(&written, "tokens") > 0, "{written:?}");
    let carried = of("cause = 'result' AND touch = 'carry'").await;
    assert!(int(&carried, "tokens") > 0, "{carried:?}");
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
async fn all_captures_in_one_lake_are_the_sum_of_what_each_comes_to_alone() {
    let captures = genuine();
    let everything = Truth {
        llm_calls: Some(0),
        embeddings: Some(0),
        input: Some(0),
        output: Some(0),
        cache_read: Some(0),
        cache_write: Some(0),
        cost: Some(String::new()),
        tool_calls: Some(0),
        mcp_tool_calls: Some(0),
        mcp_tool_errors: Some(0),
        prompts: Some(0),
        resources: Some(0),
        resource_errors: Some(0),
        ..Truth::default()
    };
    let mut sum = vec![0; 12];
    for capture in &captures {
        let server = TestServer::start().await;
        server.post_all(&capture.bodies).await.unwrap();
        server.settled().await.unwrap();
        for (sum, number) in sum.iter_mut().zip(numbers(&measured(&server, &everything).await)) {
            *sum += number;
        }
    }
    let mut bodies: Vec<Body> = captures.iter().flat_map(|capture| capture.bodies.clone()).collect();
    Rng::new(SEEDS[1]).shuffle(&mut bodies);
    let server = TestServer::start().await;
    server.post_all(&bodies).await.unwrap();
    server.settled().await.unwrap();
    assert_eq!(numbers(&measured(&server, &everything).await), sum);
    the_ledger_adds_up_to_the_calls(&server, "all captures").await;
}

fn numbers(truth: &Truth) -> Vec<i64> {
    let fields = [
        truth.llm_calls,
        truth.embeddings,
        truth.input,
        truth.output,
        truth.cache_read,
        truth.cache_write,
        truth.tool_calls,
        truth.mcp_tool_calls,
        truth.mcp_tool_errors,
        truth.prompts,
        truth.resources,
        truth.resource_errors,
    ];
    fields.into_iter().map(Option::unwrap_or_default).collect()
}

#[tokio::test]
async fn a_capture_settled_after_every_request_comes_to_the_same() {
    let capture = Capture::load("claude-code").unwrap();
    let expected = truth_of(&capture);
    let server = TestServer::start().await;
    for body in &capture.bodies {
        server.post_all([body]).await.unwrap();
        server.settled().await.unwrap();
    }
    assert_eq!(measured(&server, &expected).await, expected);
    the_ledger_adds_up_to_the_calls(&server, "settled after every request").await;
}

#[tokio::test]
async fn a_capture_survives_a_kill_and_a_repeat_of_all_its_requests() {
    let capture = Capture::load("openinference").unwrap();
    let expected = truth_of(&capture);
    let server = TestServer::start().await;
    server.post_all(&capture.bodies).await.unwrap();
    let server = server.restarted().await;
    server.post_all(&capture.bodies).await.unwrap();
    server.settled().await.unwrap();
    assert_eq!(measured(&server, &expected).await, expected);
}

#[tokio::test]
async fn noise_rules_change_neither_calls_nor_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let all = folder.path().join("all.toml");
    std::fs::write(&all, "[[noise]]\nrule = \"all\"\nkeep = 1.0\n").unwrap();
    let complete = TestServer::start_with(&["serve", "--config", all.to_str().unwrap()]).await;
    let thinned = TestServer::start().await;
    for name in ["codex", "opencode"] {
        let capture = Capture::load(name).unwrap();
        for server in [&complete, &thinned] {
            server.post_all(&capture.bodies).await.unwrap();
        }
    }
    for server in [&complete, &thinned] {
        server.settled().await.unwrap();
    }
    for query in ["SELECT * FROM calls ORDER BY call_id", LEDGER] {
        let rows = complete.sql(query).await.unwrap();
        assert!(!rows.is_empty());
        assert_eq!(thinned.sql(query).await.unwrap(), rows, "{query}");
    }
    let mut n_spans = [0; 2];
    for (n, server) in n_spans.iter_mut().zip([&complete, &thinned]) {
        *n = int(&server.sql_row("SELECT COUNT(*) AS n FROM spans").await.unwrap(), "n");
    }
    assert!(n_spans[1] * 5 < n_spans[0], "stored spans: {n_spans:?}");
    let metrics = thinned.get("/metrics").await.unwrap().text();
    let left_out: f64 = metrics
        .lines()
        .filter(|line| line.starts_with("spanledger_ingest_noise_spans"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert_eq!(left_out as i64, n_spans[0] - n_spans[1], "what is left out is counted");
}
