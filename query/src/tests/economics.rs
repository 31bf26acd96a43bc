//! The views over causes: parts that add up, idle tax by session, takings back.

use spanledger_access::Principal;
use spanledger_lake::Table;
use spanledger_lake::tables::{calls, ledger_lines};
use spanledger_ledger::charge::reversal_of;
use spanledger_model::call::{CallKind, McpFields, Status};
use spanledger_model::ids::hash_parts;
use spanledger_model::{Bucket, Call, CallId, FemtoUsd, LedgerLine, LineId};

use super::{Books, Fixture, NOW_NS, call};
use crate::costs::{CostRequest, Dimension};
use crate::economics::IS_TOOL_LINE;

/// A line's cause: server, tool, cause, touch, bucket, method.
type Cause = (
    Option<&'static str>,
    Option<&'static str>,
    &'static str,
    Option<&'static str>,
    Bucket,
    &'static str,
);

impl Books {
    /// One line of the last call.
    fn line(&mut self, cause: Cause, tokens: i64, cost: Option<&str>) -> &mut LedgerLine {
        let plain = self.lines[0].clone();
        let call = self.calls.last().unwrap();
        let (server, tool, word, touch, bucket, method) = cause;
        let n = u8::try_from(self.lines.len()).unwrap();
        self.lines.push(LedgerLine {
            line_id: LineId(hash_parts(&[b"line", &[n]])),
            time_ns: call.start_ns,
            call_id: Some(call.call_id),
            trace_id: call.trace_id,
            dimensions: call.dimensions.clone().into(),
            model: Some("claude-sonnet-4-5".into()),
            server: server.map(Into::into),
            tool: tool.map(Into::into),
            cause: word,
            touch,
            bucket,
            method,
            n_calls: 0,
            tokens: Some(tokens),
            list_cost: cost.and_then(FemtoUsd::parse),
            effective_cost: cost.and_then(FemtoUsd::parse),
            ..plain
        });
        self.lines.last_mut().unwrap()
    }
}

fn tool(n: u8, server: Option<&str>, name: &str, session: &str, status: Status) -> Call {
    let mut call = call("default", n, CallKind::Tool, NOW_NS, "support");
    call.mcp = McpFields {
        server: server.map(str::to_owned),
        tool: Some(name.to_owned()),
        ..McpFields::default()
    };
    call.dimensions.session_id = Some(session.to_owned());
    call.status = status;
    call
}

fn model_call(n: u8, session: &str) -> Call {
    let mut call = call("default", n, CallKind::Llm, NOW_NS, "support");
    call.dimensions.session_id = Some(session.to_owned());
    call
}

/// Two sessions: `search` is called in the first, twice, once in vain; `create` never; a host's `Read` once.
fn books() -> Books {
    const SEARCH: (Option<&str>, Option<&str>) = (Some("tickets"), Some("search"));
    const CREATE: (Option<&str>, Option<&str>) = (Some("tickets"), Some("create"));
    let mut books = Books {
        calls: Vec::new(),
        lines: Vec::new(),
    };
    // The rest of the first model call: 100 base, 30 answer.
    books.add(
        model_call(1, "one"),
        &[(Bucket::Input, 100, Some("0.1")), (Bucket::Output, 30, Some("0.3"))],
    );
    let cause = |of: (Option<&'static str>, Option<&'static str>), cause, touch, bucket| {
        (of.0, of.1, cause, touch, bucket, "bytes")
    };
    books.line(cause(SEARCH, "definition", None, Bucket::Input), 70, Some("0.07"));
    books.line(cause(CREATE, "definition", None, Bucket::Input), 180, Some("0.18"));
    books.line(cause(SEARCH, "call", None, Bucket::Output), 9, Some("0.09"));
    books.calls.push(tool(2, SEARCH.0, "search", "one", Status::Ok));
    books.calls.push(tool(3, SEARCH.0, "search", "one", Status::Error));
    books.calls.push(tool(4, None, "Read", "one", Status::Ok));
    books.calls.push(model_call(5, "one"));
    books.line(cause(SEARCH, "result", Some("first"), Bucket::Input), 240, Some("0.24"));
    books
        .line(cause(SEARCH, "call", None, Bucket::CacheRead), 9, Some("0.001"))
        .history = true;
    books.line(
        cause((None, Some("Read")), "result", Some("first"), Bucket::Input),
        50,
        None,
    );
    // The tools of the server that are too small for a line each.
    books.line(
        cause((Some("tickets"), None), "definition", None, Bucket::Input),
        20,
        Some("0.02"),
    );
    books.calls.push(model_call(6, "one"));
    books.line(
        cause(SEARCH, "result", Some("carry"), Bucket::CacheRead),
        240,
        Some("0.024"),
    );
    // A session that calls nothing, and lines that were divided better later.
    books.calls.push(model_call(7, "two"));
    books.line(cause(SEARCH, "definition", None, Bucket::CacheRead), 70, Some("0.007"));
    books.line(
        cause((Some("tickets"), None), "definition", None, Bucket::CacheRead),
        20,
        Some("0.002"),
    );
    let counted = (SEARCH.0, Some("gone"), "result", Some("first"), Bucket::Input, "counts");
    let taken_back = books.line(counted, 7, Some("0.5")).clone();
    books.lines.push(reversal_of(&taken_back, NOW_NS));
    // A price of its own.
    books.calls.push(tool(8, SEARCH.0, "search", "one", Status::Ok));
    let direct = (SEARCH.0, SEARCH.1, "direct", None, Bucket::Request, "content");
    let line = books.line(direct, 0, Some("0.005"));
    (line.tokens, line.quantity) = (None, Some(1));
    // A resource is no tool.
    books.calls.push(model_call(9, "two"));
    books
        .line(
            (SEARCH.0, None, "result", Some("first"), Bucket::Input, "bytes"),
            11,
            Some("0.011"),
        )
        .resource_uri = Some("tickets://1".into());
    for (call, n) in books.calls.iter_mut().zip(1_u8..) {
        call.call_id = CallId([n; 16]);
    }
    books
}

async fn fixture() -> Fixture {
    let fixture = Fixture::empty().await;
    let books = books();
    fixture.commit(Table::Calls, calls::to_batch(&books.calls)).await;
    fixture
        .commit(Table::Ledger, ledger_lines::to_batch(&books.lines))
        .await;
    fixture
}

#[tokio::test]
async fn the_parts_of_a_tool_add_up_to_what_it_cost_in_its_life() {
    let fixture = fixture().await;
    let parts = "SELECT server, tool, calls, errors, direct, context_tax, idle_tax, first_touch, carry, call_cost, \
                 lifetime_cost, cost_per_success, tokens, unpriced_tokens FROM tool_economics \
                 ORDER BY server NULLS LAST, tool NULLS LAST";
    assert_eq!(
        fixture.answer(parts).await,
        "tickets,create,0,0,,0.18,0.18,,,,0.18,,180,; \
         tickets,search,3,1,0.005,0.077,0.007,0.24,0.024,0.091,0.437,0.2185,638,; \
         tickets,,0,0,,0.022,0.002,,,,0.022,,40,; \
         ,Read,1,0,,,,,,,,,50,50"
    );
    let differing = "SELECT COUNT(*) FROM tool_economics WHERE lifetime_cost <> COALESCE(direct, 0) + \
                     COALESCE(context_tax, 0) + COALESCE(first_touch, 0) + COALESCE(carry, 0) + COALESCE(call_cost, 0)";
    assert_eq!(fixture.answer(differing).await, "0");
    let tools = fixture.answer("SELECT SUM(lifetime_cost) FROM tool_economics").await;
    let lines = format!("SELECT SUM(effective_cost) FROM ledger WHERE {IS_TOOL_LINE}");
    assert_eq!(tools, fixture.answer(&lines).await);
    assert_eq!(
        fixture
            .answer("SELECT DISTINCT arrow_typeof(cost_per_success) FROM tool_economics")
            .await,
        fixture
            .answer("SELECT DISTINCT arrow_typeof(lifetime_cost) FROM tool_economics")
            .await
    );
}

#[tokio::test]
async fn shares_by_cause_add_up_to_everything_and_say_how_they_were_found() {
    let fixture = fixture().await;
    assert_eq!(
        fixture
            .answer("SELECT cause, bucket, tokens, cost, unpriced_tokens FROM cost_by_cause WHERE cause IN ('result', 'call') ORDER BY cause, touch, bucket")
            .await,
        "call,cache_read,9,0.001,; call,output,9,0.09,; result,cache_read,240,0.024,; result,input,301,0.251,50"
    );
    let sums = "SELECT SUM(cost) = (SELECT SUM(effective_cost) FROM ledger), SUM(tokens) = (SELECT SUM(tokens) FROM ledger), \
                round(SUM(share), 9) FROM cost_by_cause";
    assert_eq!(fixture.answer(sums).await, "true,true,1.0");
    // What was taken back whole is no share of anything.
    assert_eq!(
        fixture
            .answer("SELECT COUNT(*) FROM cost_by_cause WHERE method = 'counts'")
            .await,
        "0"
    );
}

#[tokio::test]
async fn a_report_by_what_only_lines_have_counts_no_calls_but_in_total() {
    let fixture = fixture().await;
    let by = |names: &str| CostRequest {
        by: Dimension::parse_list(names).unwrap(),
        ..CostRequest::default()
    };
    let report = async |names: &str| {
        let report = fixture.engine.costs(&Principal::local(), &by(names)).await;
        report.unwrap_or_else(|error| panic!("{names}: {}", error.detail()))
    };
    for names in ["cause", "touch", "method", "team,bucket"] {
        let report = report(names).await;
        assert!(
            report
                .rows
                .iter()
                .all(|row| row.calls.is_none() && row.errors.is_none()),
            "{names}"
        );
        assert_eq!(
            (report.total.calls, report.total.llm_calls),
            (Some(9), Some(5)),
            "{names}"
        );
        let sum: FemtoUsd = report.rows.iter().filter_map(|row| row.cost).sum();
        assert_eq!(Some(sum), report.total.cost, "{names}");
    }
    assert!(
        report("method")
            .await
            .rows
            .iter()
            .all(|row| row.keys[0].as_deref() != Some("counts")),
        "a group whose lines were all taken back is none"
    );
    // A tool's calls are its own; the model's stand where no tool is named.
    let tools: Vec<_> = report("tool")
        .await
        .rows
        .into_iter()
        .map(|row| {
            (
                row.keys[0].clone(),
                row.cost.map(|cost| cost.to_string()),
                row.calls,
                row.llm_calls,
            )
        })
        .collect();
    let row = |tool: Option<&str>, cost: Option<&str>, calls, llm_calls| {
        (
            tool.map(str::to_owned),
            cost.map(str::to_owned),
            Some(calls),
            Some(llm_calls),
        )
    };
    assert_eq!(
        tools,
        [
            row(Some("search"), Some("0.437"), 3, 0),
            row(None, Some("0.433"), 5, 5),
            row(Some("create"), Some("0.18"), 0, 0),
            row(Some("Read"), None, 1, 0),
        ]
    );
}

#[tokio::test]
async fn measures_of_a_report_by_tool_are_those_of_tool_economics_and_add_up_by_any_dimension() {
    let fixture = fixture().await;
    let measured = async |by: &str| {
        let request = CostRequest {
            by: Dimension::parse_list(by).unwrap(),
            measures: true,
            ..CostRequest::default()
        };
        fixture.engine.costs(&Principal::local(), &request).await.unwrap()
    };
    let by_tool = measured("server,tool").await;
    let view = fixture
        .answer("SELECT COALESCE(server, '-'), COALESCE(tool, '-'), context_tax, idle_tax, first_touch, carry, call_cost, direct, lifetime_cost FROM tool_economics")
        .await;
    let mut n_compared = 0;
    for expected in view.split("; ") {
        let expected: Vec<&str> = expected.split(',').collect();
        let keys = [0, 1].map(|at| Some(expected[at].to_owned()).filter(|text| text != "-"));
        let row = by_tool.rows.iter().find(|row| row.keys == keys);
        let values = row.and_then(|row| row.measures).unwrap_or_default().values();
        for (value, expected) in values.iter().zip(&expected[2..]) {
            assert_eq!(*value, FemtoUsd::parse(expected), "{keys:?}");
            n_compared += usize::from(!expected.is_empty());
        }
    }
    assert!(n_compared > 8, "{n_compared}");
    let total = by_tool.total.measures.unwrap().values();
    assert_eq!(
        total[1],
        FemtoUsd::parse("0.189"),
        "idle: create, and everything of the session that calls nothing"
    );
    for by in ["server,tool", "team", "session_id", "cause,bucket", "kind"] {
        let report = measured(by).await;
        for (at, total) in total.iter().take(8).enumerate() {
            let parts = report.rows.iter().filter_map(|row| row.measures?.values()[at]);
            assert_eq!(parts.sum::<FemtoUsd>(), total.unwrap_or_default(), "{by}, measure {at}");
        }
    }
    let per_success = by_tool.rows.iter().find(|row| row.keys[1].as_deref() == Some("search"));
    let values = per_success.unwrap().measures.unwrap().values();
    // Two of the three calls did not fail.
    assert_eq!(values[8].unwrap().0, values[6].unwrap().0 / 2);
    // Its own price is none of a model call, which no price makes dearer above a size here.
    let own = FemtoUsd::parse("0.005").unwrap();
    assert_eq!(values[7].unwrap(), values[6].unwrap() - own);
}

#[tokio::test]
async fn shares_by_method_are_of_all_priced_cost() {
    let fixture = fixture().await;
    let report = fixture
        .engine
        .costs(&Principal::local(), &CostRequest::default())
        .await
        .unwrap();
    let costs: FemtoUsd = report
        .methods
        .iter()
        .filter_map(|share| FemtoUsd::parse(&share.cost))
        .sum();
    assert_eq!(Some(costs), report.total.cost);
    assert!((report.methods.iter().filter_map(|share| share.share).sum::<f64>() - 1.0).abs() < 1e-9);
    assert!(report.methods.len() > 2, "{:?}", report.methods);
}

#[tokio::test]
async fn sums_of_carried_lines_that_a_merge_made_one_of_stay_in_reports() {
    let fixture = Fixture::empty().await;
    let mut books = books();
    let mut carried = books.lines[2].clone();
    (carried.call_id, carried.n_calls) = (None, 3);
    // Charged, taken back, charged again: the charges in one line, as a merge of files leaves them.
    let taken_back = reversal_of(&carried, NOW_NS);
    let mut charges = carried.clone();
    charges.tokens = carried.tokens.map(|tokens| tokens * 2 + 5);
    charges.n_calls = 6;
    charges.effective_cost = carried.effective_cost.map(|cost| FemtoUsd(cost.0 * 2 + 7));
    books.lines = vec![charges, taken_back];
    let lines = books.lines.clone();
    fixture.commit(Table::Ledger, ledger_lines::to_batch(&lines)).await;
    let request = CostRequest {
        by: Dimension::parse_list("tool").unwrap(),
        ..CostRequest::default()
    };
    let report = fixture.engine.costs(&Principal::local(), &request).await.unwrap();
    assert_eq!(report.rows.len(), 1, "one charge and one reversal are not nothing");
    assert_eq!(report.rows[0].cost, report.total.cost);
    assert_eq!(fixture.answer("SELECT COUNT(*) FROM tool_economics").await, "1");
    assert_eq!(fixture.answer("SELECT COUNT(*) FROM cost_by_cause").await, "1");
}
