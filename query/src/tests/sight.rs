//! Row filters and texts: what a role leaves is all that any statement, view or question shows.

use spanledger_access::{RowFilter, Scopes};

use super::*;
use crate::views;
use crate::{CostRequest, Dimension};

/// Text that stands in every field of the other team's rows.
const HIDDEN: &str = "canary-of-the-other-team";
/// Text that only `payloads:read` shows.
const TEXT: &str = "a prompt somebody wrote";

/// Two teams of one tenant, in files and hot, whose calls share a trace and a session.
async fn two_teams() -> Fixture {
    let fixture = Fixture::empty().await;
    let mut books = Books {
        calls: Vec::new(),
        lines: Vec::new(),
    };
    for n in 1..=4u8 {
        let kind = if n % 2 == 0 { CallKind::Tool } else { CallKind::Llm };
        let mut call = call(
            "default",
            n,
            kind,
            NOW_NS - DAY_NS,
            if n <= 2 { "search" } else { HIDDEN },
        );
        call.observation_ids = vec![ObservationId(call.call_id.0)];
        call.dimensions.environment = Some("prod".into());
        if n > 2 {
            call.dimensions.agent = Some(HIDDEN.into());
            call.dimensions.service = Some(HIDDEN.into());
            call.error_type = Some(HIDDEN.into());
            call.mcp.tool = Some(HIDDEN.into());
            call.model.response_model = Some(HIDDEN.into());
        }
        let pieces = [(Bucket::Input, 100, (n % 2 == 1).then_some("1.5"))];
        books.add(call, &pieces);
    }
    // Who reads a record cannot tell: its own team is not that of its call.
    let mut seen = seen("default", &books.calls);
    for record in &mut seen {
        record.name = record.dimensions.team.take().unwrap_or_default();
    }
    let spans = spans_of(&books.calls);
    for half in [0, 2] {
        fixture
            .commit(Table::Calls, calls::to_batch(&books.calls[half..half + 2]))
            .await;
        fixture
            .commit(Table::Ledger, ledger_lines::to_batch(&books.lines[half..half + 2]))
            .await;
        let rows = vec![
            (Table::Observations, observations::to_batch(&seen[half..half + 2])),
            (Table::Spans, spans[half / 2].clone()),
        ];
        fixture.append("default", rows).await;
        if half == 0 {
            fixture.lake.flush().await.unwrap();
        }
    }
    fixture
}

/// Spans of the first two calls, and of the others with one that is no call.
fn spans_of(calls: &[Call]) -> [RecordBatch; 2] {
    let batch = |spans: &[(SpanId, &str)]| {
        let mut builder = SpansBuilder::default();
        let resource: Vec<(String, String)> = vec![("service.name".into(), "desk".into())];
        for (span, name) in spans {
            builder.append(&SpanRow {
                tenant: "default",
                start_ns: NOW_NS - DAY_NS,
                duration_ns: 5_000,
                trace_id: trace_id().as_bytes(),
                span_id: span.as_bytes(),
                parent_span_id: &[],
                name,
                kind: 3,
                status: "ok",
                status_message: TEXT,
                service: Some(name),
                scope: name,
                scope_version: "",
                trace_state: "",
                flags: 0,
                resource: &resource,
            });
            builder.attribute("my.prompt", TEXT);
            builder.event(NOW_NS, TEXT, &resource);
            builder.finish_row();
        }
        builder.finish()
    };
    let id = |n: usize| calls[n].span_id.unwrap();
    let nobody = SpanId([9; 8]);
    [
        batch(&[(id(0), "search"), (id(1), "search")]),
        batch(&[(id(2), HIDDEN), (id(3), HIDDEN), (nobody, HIDDEN)]),
    ]
}

fn teams(values: &[&str]) -> RowFilter {
    RowFilter::new([(
        "team".to_owned(),
        values.iter().map(|value| (*value).to_owned()).collect(),
    )])
    .unwrap()
}

fn lead() -> Principal {
    Principal::local().with_rows(teams(&["search"]))
}

async fn ask(fixture: &Fixture, principal: &Principal, sql: &str) -> Result<String> {
    let result = fixture.engine.sql(principal, sql, &QueryOptions::default()).await?;
    let text = written(&result, Format::Csv);
    Ok(text.lines().skip(1).collect::<Vec<_>>().join("; "))
}

#[tokio::test]
async fn no_statement_takes_a_row_filter_off() {
    let fixture = two_teams().await;
    let all = fixture
        .answer("SELECT COUNT(*) FROM calls UNION ALL SELECT COUNT(*) FROM spans")
        .await;
    assert!(all.contains('4') && all.contains('5'), "{all}");
    let mut statements: Vec<String> = [
        "SELECT * FROM calls WHERE true OR team IS NOT NULL",
        "SELECT * FROM calls WHERE team <> 'search'",
        "SELECT * FROM calls UNION ALL SELECT * FROM calls",
        "WITH calls AS (SELECT * FROM spanledger.public.calls) SELECT * FROM calls",
        "SELECT * FROM (SELECT team FROM ledger) WHERE team NOT IN (SELECT 'search')",
        "SELECT a.*, b.* FROM calls a FULL JOIN ledger b ON a.team <> b.team",
        "SELECT * FROM calls c WHERE EXISTS (SELECT 1 FROM ledger l WHERE l.call_id = c.call_id OR true)",
        "SELECT MIN(team), MAX(team), array_agg(DISTINCT agent), string_agg(tool, ',') FROM calls",
        "SELECT DISTINCT team FROM calls ORDER BY team DESC LIMIT 10",
        "SELECT team, SUM(effective_cost) FROM ledger GROUP BY ROLLUP (team)",
        "SELECT * FROM observations o LEFT JOIN calls c ON true",
        "SELECT * FROM observations WHERE observation_id NOT IN (SELECT unnest(observation_ids) FROM calls)",
        "SELECT * FROM spans WHERE span_id NOT IN (SELECT span_id FROM calls)",
        "SELECT * FROM information_schema.columns",
        "SELECT * FROM information_schema.views",
        "SHOW TABLES",
    ]
    .map(str::to_owned)
    .into();
    for name in views::table_names() {
        statements.push(format!("SELECT * FROM {name}"));
        statements.push(format!("SELECT * FROM public.{name} LIMIT 1000"));
        statements.push(format!("EXPLAIN VERBOSE SELECT * FROM {name}"));
        statements.push(format!("EXPLAIN ANALYZE SELECT COUNT(*) FROM {name}"));
        statements.push(format!("DESCRIBE {name}"));
    }
    let mut n_refused = 0;
    for sql in statements {
        match ask(&fixture, &lead(), &sql).await {
            Ok(text) => assert!(!text.contains(HIDDEN), "{sql}: {text:.2000}"),
            Err(error) => {
                assert_eq!(error.kind(), crate::ErrorKind::Forbidden, "{sql}: {}", error.detail());
                assert!(error.message().contains("confined to some rows (by team)"), "{error}");
                n_refused += 1;
            }
        }
    }
    assert_eq!(n_refused, 6 * 5);
}

#[tokio::test]
async fn a_row_filter_shows_exactly_the_rows_of_its_calls() {
    let fixture = two_teams().await;
    let counts = "SELECT (SELECT COUNT(*) FROM calls) AS a, (SELECT COUNT(*) FROM ledger) AS b, \
                  (SELECT SUM(effective_cost) FROM ledger) AS c, (SELECT COUNT(*) FROM observations) AS d, \
                  (SELECT COUNT(*) FROM spans) AS e, (SELECT SUM(n_spans) FROM traces) AS f, \
                  (SELECT SUM(calls) FROM sessions) AS g";
    for (rows, expected) in [
        (RowFilter::default(), "4,4,3,4,5,5,4"),
        (teams(&["search"]), "2,2,1.5,2,2,2,2"),
        (teams(&["search", HIDDEN]), "4,4,3,4,4,4,4"),
        (teams(&["nobody"]), "0,0,,0,0,,"),
        (teams(&[]), "0,0,,0,0,,"),
        (
            teams(&["search"]).and(&RowFilter::new([("project".to_owned(), vec!["x".to_owned()])]).unwrap()),
            "0,0,,0,0,,",
        ),
        (
            teams(&["search"]).and(&RowFilter::new([("environment".to_owned(), vec!["prod".to_owned()])]).unwrap()),
            "2,2,1.5,2,2,2,2",
        ),
    ] {
        let principal = Principal::local().with_rows(rows.clone());
        assert_eq!(ask(&fixture, &principal, counts).await.unwrap(), expected, "{rows:?}");
        let n_calls: u64 = expected.split(',').next().unwrap().parse().unwrap();
        let status = fixture.engine.status(&principal).await.unwrap();
        assert_eq!((status.n_calls, status.n_ledger_lines), (n_calls, n_calls), "{rows:?}");
        let report = fixture.engine.costs(&principal, &CostRequest::default()).await.unwrap();
        assert_eq!(
            report.total.calls.unwrap_or_default(),
            i64::try_from(n_calls).unwrap(),
            "{rows:?}"
        );
    }
}

#[tokio::test]
async fn every_question_of_the_engine_keeps_the_row_filter() {
    let fixture = two_teams().await;
    let (engine, lead) = (&fixture.engine, lead());
    let hidden = CallId(hash_parts(&[b"default", &[3]])).to_string();
    let own = CallId(hash_parts(&[b"default", &[1]])).to_string();
    let trace = engine.trace(&lead, trace_id()).await.unwrap();
    assert_eq!((trace.n_spans, trace.nodes.len()), (2, 2));
    let by_team = CostRequest {
        by: vec![Dimension::parse("team").unwrap()],
        ..CostRequest::default()
    };
    let told = [
        serde_json::to_string(&trace.nodes).unwrap(),
        serde_json::to_string(&engine.costs(&lead, &by_team).await.unwrap()).unwrap(),
        serde_json::to_string(&engine.overview(&lead, None, None).await.unwrap()).unwrap(),
        written(&engine.latest_calls(&lead, 100).await.unwrap(), Format::Csv),
        serde_json::to_string(&engine.explain(&lead, &own).await.unwrap()).unwrap(),
        serde_json::to_string(&engine.explain(&lead, &trace_id().to_string()).await.unwrap()).unwrap(),
        engine.pieces(&lead, &trace_id().to_string()).await.unwrap().to_string(),
    ];
    for text in told {
        assert!(!text.is_empty());
        assert!(!text.contains(HIDDEN) && !text.contains(&hidden), "{text:.2000}");
    }
    for error in [
        engine.explain(&lead, &hidden).await.unwrap_err(),
        engine.pieces(&lead, &hidden).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), crate::ErrorKind::NotFound, "{error}");
    }
    assert_eq!(
        engine.coverage(&lead).await.unwrap_err().kind(),
        crate::ErrorKind::Forbidden
    );
}

#[tokio::test]
async fn texts_need_their_scope_and_everything_else_does_not() {
    let fixture = two_teams().await;
    let analyst = Principal::local().narrowed_to(Scopes::parse("sql:read"));
    let auditor = Principal::local().narrowed_to(Scopes::parse("sql:read payloads:read"));
    for sql in [
        "SELECT * FROM payloads",
        "SELECT (SELECT MAX(text) FROM payloads) FROM calls",
        "WITH p AS (SELECT * FROM spanledger.public.payloads) SELECT COUNT(*) FROM p",
        "SELECT status_message FROM spans",
        "SELECT attributes['my.prompt'] FROM spans",
        "SELECT name FROM spans s WHERE s.attributes['my.prompt'] LIKE 'a%'",
        "SELECT events FROM spans",
        "SELECT body FROM logs",
        "EXPLAIN SELECT attributes FROM logs",
    ] {
        let error = ask(&fixture, &analyst, sql).await.unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Forbidden, "{sql}: {}", error.detail());
        assert!(error.message().contains("payloads:read"), "{error}");
        ask(&fixture, &auditor, sql).await.unwrap();
    }
    for sql in [
        "SELECT * FROM spans",
        "SELECT * FROM logs",
        "SELECT resource['service.name'] FROM spans",
        "SELECT * FROM unmapped_keys",
        "SELECT * FROM coverage",
        "SELECT * FROM information_schema.columns",
        "SELECT * FROM traces",
        "EXPLAIN VERBOSE SELECT * FROM spans",
    ] {
        let text = ask(&fixture, &analyst, sql).await.unwrap();
        assert!(
            !text.is_empty() || sql.ends_with("logs") || sql.ends_with("unmapped_keys"),
            "{sql}"
        );
        assert!(!text.contains(TEXT), "{sql}: {text:.1000}");
    }
    let tables = ask(&fixture, &analyst, "SHOW TABLES").await.unwrap();
    assert!(tables.contains("spans") && !tables.contains("payloads"), "{tables}");
    let shown = ask(&fixture, &auditor, "SELECT DISTINCT attributes['my.prompt'] FROM spans").await;
    assert_eq!(shown.unwrap(), TEXT);
}
