//! Savings: each kind by hand-made lines whose figure can be told by hand, and none of them twice.

use spanledger_access::Principal;
use spanledger_lake::Table;
use spanledger_lake::tables::{calls, ledger_lines, observations};
use spanledger_model::call::{CallKind, McpFields, Status};
use spanledger_model::ids::hash_parts;
use spanledger_model::{Bucket, Call, FemtoUsd, LineId, ObservationId};

use super::{Books, DAY_NS, Fixture, MINUTE_NS, NOW_NS, call, seen};
use crate::savings::{Kind, Saving, SavingsReport, SavingsRequest};

/// Books in which a model call begins each conversation.
struct Made {
    books: Books,
    n: u8,
}

impl Made {
    fn new() -> Self {
        Self {
            books: Books {
                calls: Vec::new(),
                lines: Vec::new(),
            },
            n: 0,
        }
    }

    fn model_call(&mut self, session: &str, model: &str, pieces: &[(Bucket, i64, Option<&str>)]) {
        self.n += 1;
        let mut made = call(
            "default",
            self.n,
            CallKind::Llm,
            NOW_NS + i64::from(self.n) * 1_000_000,
            "support",
        );
        made.dimensions.session_id = Some(session.to_owned());
        made.model.response_model = Some(model.to_owned());
        self.books.add(made, pieces);
    }

    fn tool_call(&mut self, session: &str, tool: &str, status: Status) -> &mut Call {
        self.n += 1;
        let mut made = call(
            "default",
            self.n,
            CallKind::Tool,
            NOW_NS + i64::from(self.n) * 1_000_000,
            "support",
        );
        made.dimensions.session_id = Some(session.to_owned());
        made.status = status;
        made.mcp = McpFields {
            server: Some("tickets".to_owned()),
            tool: Some(tool.to_owned()),
            ..McpFields::default()
        };
        self.books.calls.push(made);
        self.books.calls.last_mut().unwrap()
    }

    /// A line of the last model call of a conversation; carried where it is of no call.
    fn line(
        &mut self,
        session: &str,
        tool: Option<&str>,
        cause: &'static str,
        touch: Option<&'static str>,
        tokens: i64,
        cost: &str,
    ) {
        let of = |call: &&Call| call.kind == CallKind::Llm && call.dimensions.session_id.as_deref() == Some(session);
        let call = self.books.calls.iter().rev().find(of).unwrap().clone();
        let mut line = self.books.lines[0].clone();
        let n = u8::try_from(self.books.lines.len()).unwrap();
        line.line_id = LineId(hash_parts(&[b"saving", &[n]]));
        line.time_ns = call.start_ns;
        line.call_id = (touch != Some("carry")).then_some(call.call_id);
        line.dimensions = call.dimensions.clone().into();
        line.model = call.model.response_model.as_deref().map(Into::into);
        line.server = tool.map(|_| "tickets".into());
        line.tool = tool.map(Into::into);
        line.cause = cause;
        line.touch = touch.filter(|_| cause == "result");
        line.bucket = Bucket::Input;
        line.n_calls = if touch == Some("carry") { 2 } else { 0 };
        line.tokens = Some(tokens);
        line.effective_cost = FemtoUsd::parse(cost);
        line.list_cost = line.effective_cost;
        self.books.lines.push(line);
    }

    async fn report(self, kinds: &[Kind]) -> SavingsReport {
        let fixture = Fixture::empty().await;
        fixture.commit(Table::Calls, calls::to_batch(&self.books.calls)).await;
        fixture
            .commit(Table::Ledger, ledger_lines::to_batch(&self.books.lines))
            .await;
        let mut records = seen("default", &self.books.calls);
        for (record, call) in records.iter_mut().zip(&self.books.calls) {
            record.observation_id = call.observation_ids[0];
            record.arguments_hash = call.mcp.request_id.clone();
        }
        fixture
            .append("default", vec![(Table::Observations, observations::to_batch(&records))])
            .await;
        let request = SavingsRequest {
            since_ns: Some(NOW_NS - 10 * DAY_NS),
            // The end of the day of the first usage: a month is thirty times that.
            until_ns: Some((NOW_NS / DAY_NS + 1) * DAY_NS),
            kinds: kinds.to_vec(),
            ..SavingsRequest::default()
        };
        fixture
            .engine
            .savings(&Principal::local(), &request)
            .await
            .unwrap_or_else(|error| panic!("{}", error.detail()))
    }
}

fn told(savings: &[Saving]) -> Vec<(&'static str, &str, Option<String>)> {
    savings
        .iter()
        .map(|saving| {
            (
                saving.kind.as_str(),
                saving.subject.as_str(),
                saving.cost.map(|cost| cost.to_string()),
            )
        })
        .collect()
}

const SONNET: &str = "claude-sonnet-4-5";

#[tokio::test]
async fn a_definition_is_idle_where_its_tool_was_never_called_and_a_month_is_thirty_days() {
    let mut made = Made::new();
    made.model_call("one", SONNET, &[(Bucket::Input, 9_000, Some("1"))]);
    made.line("one", Some("create"), "definition", None, 180, "0.18");
    made.line("one", Some("search"), "definition", None, 70, "0.07");
    made.tool_call("one", "search", Status::Ok);
    made.model_call("two", SONNET, &[(Bucket::Input, 9_000, Some("1"))]);
    made.line("two", Some("search"), "definition", None, 70, "0.05");
    let report = made.report(&[Kind::IdleTools]).await;
    assert_eq!(
        told(&report.savings),
        [
            ("idle_tools", "tickets/create", Some("0.18".to_owned())),
            ("idle_tools", "tickets/search", Some("0.05".to_owned())),
        ]
    );
    let first = &report.savings[0];
    assert_eq!(first.monthly.map(|cost| cost.to_string()).as_deref(), Some("5.4"));
    assert_eq!(
        (first.sessions.clone(), first.detail.as_deref()),
        (vec!["one".to_owned()], Some("never called in the period"))
    );
    assert_eq!(report.monthly_disjoint.to_string(), "6.9");
    assert_eq!(report.period_cost.to_string(), "2.3");
}

#[tokio::test]
async fn an_oversized_result_pays_for_what_is_beyond_the_ninetieth_percentile_only() {
    let mut made = Made::new();
    made.model_call("big", SONNET, &[(Bucket::Input, 9_000, Some("1"))]);
    made.line("big", Some("export"), "result", Some("first"), 4_000, "0.5");
    // Carried twice: 0.4 USD, of which 3,000 of 4,000 tokens are too much.
    made.line("big", Some("export"), "result", Some("carry"), 8_000, "0.4");
    for n in 0..9 {
        let session = format!("small-{n}");
        made.model_call(&session, SONNET, &[(Bucket::Input, 9_000, Some("1"))]);
        made.line(&session, Some("search"), "result", Some("first"), 100, "0.1");
        made.line(&session, Some("search"), "result", Some("carry"), 100, "0.1");
    }
    let report = made.report(&[Kind::OversizedResults]).await;
    assert_eq!(
        told(&report.savings),
        [("oversized_results", "tickets/export", Some("0.3".to_owned()))]
    );
    assert_eq!(
        report.savings[0].counts,
        [("results", 1), ("tokens_over", 3_000), ("largest_tokens", 4_000)]
    );
    assert_eq!(report.savings[0].call_ids.len(), 1);
}

#[tokio::test]
async fn a_missed_cache_is_what_a_read_would_have_saved_less_the_write_and_is_in_no_other_item() {
    let mut made = Made::new();
    made.model_call("one", SONNET, &[(Bucket::Input, 9_000, Some("1"))]);
    // 1,000,000 tokens in two calls at 3 USD: read at 0.3, written once (500,000) at 3.75.
    made.line("one", None, "system", Some("carry"), 1_000_000, "3");
    // Idle: of the definitions' item, whatever its bucket.
    made.line("one", Some("create"), "definition", Some("carry"), 1_000_000, "3");
    // First-hand: nobody could have cached it.
    made.line("one", None, "user", None, 1_000_000, "3");
    let report = made.report(&[Kind::MissedCache, Kind::IdleTools]).await;
    assert_eq!(
        told(&report.savings),
        [
            ("idle_tools", "tickets/create", Some("3".to_owned())),
            ("missed_cache", "anthropic/claude-sonnet-4-5", Some("2.325".to_owned())),
        ]
    );
}

#[tokio::test]
async fn identical_calls_are_those_of_one_conversation_with_the_same_arguments_that_succeeded() {
    let mut made = Made::new();
    made.model_call("one", SONNET, &[(Bucket::Input, 9_000, Some("1"))]);
    for arguments in ["a", "a", "a", "b"] {
        made.tool_call("one", "search", Status::Ok).mcp.request_id = Some(arguments.to_owned());
    }
    made.line("one", Some("search"), "call", None, 40, "0.08");
    made.line("one", Some("search"), "result", Some("first"), 400, "0.32");
    // Elsewhere the same arguments are another question; a failure may be tried again.
    made.model_call("two", SONNET, &[(Bucket::Input, 9_000, Some("1"))]);
    made.tool_call("two", "search", Status::Ok).mcp.request_id = Some("a".to_owned());
    made.tool_call("two", "search", Status::Error).mcp.request_id = Some("a".to_owned());
    made.line("two", Some("search"), "result", Some("first"), 400, "0.32");
    for call in &mut made.books.calls {
        call.observation_ids = vec![ObservationId(call.call_id.0)];
    }
    let report = made.report(&[Kind::IdenticalCalls]).await;
    // Two of the four calls repeat: half of 0.40.
    assert_eq!(
        told(&report.savings),
        [("identical_calls", "tickets/search", Some("0.2".to_owned()))]
    );
    assert_eq!(report.savings[0].counts, [("repeated_calls", 2), ("sessions", 1)]);
}

#[tokio::test]
async fn a_retry_loop_costs_the_model_calls_between_its_failures() {
    let mut made = Made::new();
    made.model_call("one", SONNET, &[(Bucket::Input, 9_000, Some("100"))]);
    made.tool_call("one", "search", Status::Error);
    made.model_call("one", SONNET, &[(Bucket::Input, 9_000, Some("2"))]);
    made.tool_call("one", "search", Status::Error);
    made.model_call("one", SONNET, &[(Bucket::Input, 9_000, Some("3"))]);
    made.tool_call("one", "search", Status::Error);
    made.model_call("one", SONNET, &[(Bucket::Input, 9_000, Some("100"))]);
    // Two failures are a retry; a success between them ends a run.
    for status in [Status::Error, Status::Error, Status::Ok, Status::Error] {
        made.tool_call("two", "search", status);
        made.model_call("two", SONNET, &[(Bucket::Input, 9_000, Some("7"))]);
    }
    let report = made.report(&[Kind::RetryLoops]).await;
    assert_eq!(
        told(&report.savings),
        [("retry_loops", "tickets/search", Some("5".to_owned()))]
    );
    assert_eq!(
        report.savings[0].counts,
        [("failed_calls", 3), ("loops", 1), ("llm_calls", 2)]
    );
    assert_eq!(report.monthly_disjoint, FemtoUsd::ZERO);
}

#[tokio::test]
async fn short_calls_are_priced_as_the_cheapest_model_in_use_and_unpriced_usage_has_no_money() {
    let mut made = Made::new();
    let short = [
        (Bucket::Input, 1_000, Some("0.003")),
        (Bucket::Output, 100, Some("0.0015")),
    ];
    for _ in 0..5 {
        made.model_call("one", SONNET, &short);
    }
    made.model_call("one", "claude-haiku-4-5", &[(Bucket::Input, 1_000, Some("0.001"))]);
    made.model_call("one", SONNET, &[(Bucket::Input, 50_000, Some("0.15"))]);
    made.model_call("one", "in-house-7b", &[(Bucket::Input, 500, None)]);
    let report = made.report(&[Kind::CheaperModel, Kind::UnpricedUsage]).await;
    // As Haiku 4.5 (1 and 5 USD): 0.0015 instead of 0.0045, five times.
    assert_eq!(
        told(&report.savings),
        [
            ("cheaper_model", "anthropic/claude-sonnet-4-5", Some("0.015".to_owned())),
            ("unpriced_usage", "anthropic/in-house-7b", None),
        ]
    );
    assert_eq!(report.savings[0].detail.as_deref(), Some("priced as claude-haiku-4-5"));
    assert_eq!(report.savings[0].kind.confidence(), "estimate");
}

#[tokio::test]
async fn an_empty_lake_saves_nothing_and_another_tenants_lines_are_not_seen() {
    let report = Made::new().report(&[]).await;
    assert_eq!((report.n_found, report.period_cost), (0, FemtoUsd::ZERO));
    let fixture = Fixture::filled().await;
    let request = SavingsRequest {
        since_ns: Some(NOW_NS - 30 * DAY_NS),
        until_ns: Some(NOW_NS + 60 * MINUTE_NS),
        ..SavingsRequest::default()
    };
    let report = fixture.engine.savings(&Principal::local(), &request).await.unwrap();
    let text = serde_json::to_string(&report).unwrap();
    assert!(text.contains("in-house-7b") && !text.contains(super::CANARY), "{text}");
}
