//! The catalogue of definitions: what changed, what is never called, what a broken record cannot do.

use spanledger_lake::Table;
use spanledger_lake::tables::{calls, ledger_lines, observations};
use spanledger_model::call::{CallKind, McpFields};
use spanledger_model::{Bucket, FemtoUsd, LineId, Observation};

use super::{Books, DAY_NS, Fixture, NOW_NS, call, seen};

const WEEK_NS: i64 = 7 * DAY_NS;

/// A model call of a session and the record that states what was sent with it.
fn model_call(n: u8, start_ns: i64, session: &str, stated: &str) -> (spanledger_model::Call, Observation) {
    let mut call = call("default", n, CallKind::Llm, start_ns, "support");
    call.dimensions.session_id = Some(session.to_owned());
    let mut record = seen("default", &[call.clone()]).remove(0);
    record.observation_id = call.observation_ids[0];
    record.context_sizes = Some(stated.to_owned());
    (call, record)
}

fn tool_call(n: u8, start_ns: i64, session: &str, server: Option<&str>, tool: &str) -> spanledger_model::Call {
    let mut call = call("default", n, CallKind::Tool, start_ns, "support");
    call.dimensions.session_id = Some(session.to_owned());
    call.mcp = McpFields {
        server: server.map(str::to_owned),
        tool: Some(tool.to_owned()),
        ..McpFields::default()
    };
    call
}

/// `search` is called by name in one session and grows a week later; `create` is spelled with its server and never
/// called; the second session calls nothing.
async fn filled() -> Fixture {
    let fixture = Fixture::empty().await;
    let (early, late) = (NOW_NS - WEEK_NS, NOW_NS);
    let first = r#"{"agent":"a","tools":[["search",300,"h1"],["mcp__tickets__create",90,"h2"]]}"#;
    let second = r#"{"tools":[["search",600,"h3"],["mcp__tickets__create",90,"h2"]]}"#;
    let model = [
        model_call(1, early, "one", first),
        model_call(2, early + 1_000_000, "one", first),
        model_call(3, early + 2_000_000, "two", first),
        model_call(4, late, "three", second),
        model_call(5, late, "four", r#"{"tools":[["search",1]]}"#),
        model_call(6, late, "five", r#"{"tools":[["#),
    ];
    let (mut all, records): (Vec<_>, Vec<_>) = model.into_iter().unzip();
    all.push(tool_call(7, early + 500_000, "one", Some("tickets"), "search"));
    all.push(tool_call(8, late + 1_000_000, "three", Some("tickets"), "search"));
    let mut books = Books {
        calls: Vec::new(),
        lines: Vec::new(),
    };
    books.add(all[0].clone(), &[(Bucket::Input, 100, Some("0.1"))]);
    let plain = books.lines[0].clone();
    let of = [
        (Some("tickets"), "search", early, "0.3"),
        (None, "search", early + 2_000_000, "0.03"),
        (Some("tickets"), "search", late, "0.6"),
        (Some("tickets"), "create", early, "0.09"),
        (Some("tickets"), "create", late, "0.01"),
    ];
    let lines = (0_u8..).zip(of).map(|(n, (server, tool, time_ns, cost))| {
        let mut line = plain.clone();
        line.line_id = LineId([n + 1; 16]);
        (line.server, line.tool) = (server.map(Into::into), Some(tool.into()));
        (line.time_ns, line.cause) = (time_ns, "definition");
        line.effective_cost = FemtoUsd::parse(cost);
        line
    });
    let lines: Vec<_> = lines.collect();
    fixture.commit(Table::Calls, calls::to_batch(&all)).await;
    fixture.commit(Table::Ledger, ledger_lines::to_batch(&lines)).await;
    fixture
        .append("default", vec![(Table::Observations, observations::to_batch(&records))])
        .await;
    fixture
}

#[tokio::test]
async fn a_changed_definition_is_a_row_of_its_own_and_what_is_never_called_has_no_calls() {
    let fixture = filled().await;
    let sql = "SELECT server, tool, hash, source, bytes, tokens, seen, sessions, calls, \
               last_call IS NULL AS never FROM tool_catalog ORDER BY tool, first_seen";
    assert_eq!(
        fixture.answer(sql).await,
        "tickets,create,h2,sent,90,30,4,3,0,true; tickets,search,h1,sent,300,100,3,2,2,false; \
         tickets,search,h3,sent,600,200,1,1,1,false"
    );
}

#[tokio::test]
async fn the_taxes_of_the_catalogue_add_up_to_the_lines_of_definitions() {
    let fixture = filled().await;
    let by_tool = "SELECT tool, bytes, context_tax FROM tool_catalog ORDER BY tool, bytes";
    assert_eq!(
        fixture.answer(by_tool).await,
        "create,90,0.1; search,300,0.33; search,600,0.6"
    );
    let sums = "SELECT (SELECT SUM(context_tax) FROM tool_catalog) = \
                (SELECT SUM(effective_cost) FROM ledger WHERE cause = 'definition')";
    assert_eq!(fixture.answer(sums).await, "true");
}

#[tokio::test]
async fn text_that_states_no_definitions_gives_none() {
    let fixture = Fixture::empty().await;
    for text in [
        "",
        "no",
        "{}",
        r#"{"tools":[["#,
        r#"{"tools":[[1,2,3]]}"#,
        r#"{"tools":[["",1,"h"]]}"#,
    ] {
        let sql = format!("SELECT COALESCE(array_length(definitions_of('{text}', NULL, NULL)), 0)");
        assert_eq!(fixture.answer(&sql).await, "0", "{text}");
    }
    assert_eq!(
        fixture
            .answer("SELECT definitions_key('{}') IS NULL, definitions_key(NULL) IS NULL")
            .await,
        "true,true"
    );
}

/// The statement of docs/sql.md that stands under a comment that begins so.
fn of_the_guide(comment: &str) -> &'static str {
    let guide = include_str!("../../../docs/sql.md");
    let from = guide.find(comment).unwrap();
    guide[from..].split_once('\n').unwrap().1.split(";\n").next().unwrap()
}

#[tokio::test]
async fn the_guide_finds_what_is_never_called_what_grew_and_what_came_when_cost_rose() {
    let fixture = filled().await;
    let asked = async |columns: &str, comment: &str| {
        let sql = format!("SELECT {columns} FROM ({})", of_the_guide(comment));
        fixture.answer(&sql).await
    };
    let idle = asked(
        "server, tool, tokens, CAST(cost AS DOUBLE)",
        "-- tools that are installed",
    )
    .await;
    assert_eq!(idle, "tickets,create,30,0.1");
    let grown = asked("server, tool, bytes_before, bytes", "-- what grew").await;
    assert_eq!(grown, "tickets,search,300,600");
    let risen = asked("tool, bytes, CAST(rise AS DOUBLE)", "-- what changed on the day").await;
    assert_eq!(risen, "search,600,0.19");
}
