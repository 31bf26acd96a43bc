//! Tests over a real lake in a temporary folder: hand-made rows of two tenants, in files and hot.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod allocated;
mod anomalies;
mod answers;
mod change;
mod costs;
mod economics;
mod evidence;
mod finops;
mod http;
mod isolation;
mod report;
mod rollup;
mod sandbox;
mod savings;
mod sight;
mod sql;
mod tool_catalog;
mod trace;
mod what_if;

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use spanledger_access::Principal;
use spanledger_lake::tables::raw::{SpanRow, SpansBuilder};
use spanledger_lake::tables::{calls, ledger_lines, observations};
use spanledger_lake::{Commit, Lake, LakeOptions, Replay, Table, TableRows, WalRecord};
use spanledger_ledger::prices::PriceBook;
use spanledger_model::call::{CallKind, Dimensions, McpFields, ModelFields, Sizes, Status};
use spanledger_model::ids::hash_parts;
use spanledger_model::{
    Bucket, Call, CallId, Clock, FemtoUsd, LedgerLine, LineId, LineKind, Observation, ObservationId, Role, Source,
    SpanId, TenantId, TraceId, Usage,
};
use tempfile::TempDir;

use crate::engine::{Engine, QueryOptions, ResultSet};
use crate::error::{Error, Result};
use crate::format::{Format, write};

/// 2026-11-22T10:00:00Z: what these tests take for now.
pub(crate) const NOW_NS: i64 = 1_795_341_600_000_000_000;
/// A minute.
pub(crate) const MINUTE_NS: i64 = 60_000_000_000;
/// A day.
pub(crate) const DAY_NS: i64 = 86_400_000_000_000;
/// Text that stands in every field of the other tenant's rows, and must never be seen.
pub(crate) const CANARY: &str = "canary-of-the-rival";
/// The other tenant.
pub(crate) const RIVAL: &str = "rival";

#[derive(Debug)]
struct FixedClock;

impl Clock for FixedClock {
    fn now_ns(&self) -> i64 {
        NOW_NS
    }
}

struct NoReplay;

impl Replay for NoReplay {
    fn rows(&self, _record: &WalRecord) -> spanledger_lake::Result<TableRows> {
        Ok(Vec::new())
    }
}

/// A lake with an engine over it.
pub(crate) struct Fixture {
    _folder: TempDir,
    pub(crate) lake: Lake,
    pub(crate) engine: Engine,
}

impl Fixture {
    pub(crate) async fn empty() -> Self {
        Self::knowing(Arc::new(crate::NoDialects)).await
    }

    /// An empty lake whose engine knows these dialects.
    pub(crate) async fn knowing(dialects: Arc<dyn crate::Dialects>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = LakeOptions {
            data_dir: folder.path().join("lake"),
            // Rows stay hot until a test flushes them.
            flush_interval_ms: 3_600_000,
            ..LakeOptions::default()
        };
        options.compaction.enabled = false;
        let clock: Arc<dyn Clock> = Arc::new(FixedClock);
        let lake = Lake::open(options, Arc::clone(&clock), &NoReplay).await.unwrap();
        let engine = Engine::with_dialects(lake.clone(), PriceBook::embedded().unwrap(), clock, dialects).unwrap();
        Self {
            _folder: folder,
            lake,
            engine,
        }
    }

    /// The company's week and the rival's canaries, in every table.
    pub(crate) async fn filled() -> Self {
        let fixture = Self::empty().await;
        let company = company();
        fixture.commit(Table::Calls, calls::to_batch(&company.calls)).await;
        fixture
            .commit(Table::Ledger, ledger_lines::to_batch(&company.lines))
            .await;
        fixture
            .append("default", vec![(Table::Spans, spans("default", &company.calls))])
            .await;
        fixture
            .append(
                "default",
                vec![(
                    Table::Observations,
                    observations::to_batch(&seen("default", &company.calls)),
                )],
            )
            .await;
        let rival = rival();
        fixture.commit(Table::Calls, calls::to_batch(&rival.calls)).await;
        fixture
            .commit(Table::Ledger, ledger_lines::to_batch(&rival.lines))
            .await;
        fixture
            .append(RIVAL, vec![(Table::Spans, spans(RIVAL, &rival.calls))])
            .await;
        fixture
            .append(
                RIVAL,
                vec![(Table::Observations, observations::to_batch(&seen(RIVAL, &rival.calls)))],
            )
            .await;
        fixture
    }

    pub(crate) async fn commit(&self, table: Table, rows: RecordBatch) {
        let commit = Commit {
            adds: vec![rows],
            removes: Vec::new(),
            txn: None,
            operation: "TEST",
        };
        self.lake.commit(table, commit).await.unwrap();
    }

    pub(crate) async fn append(&self, tenant: &str, rows: TableRows) {
        let payload = format!(
            "{tenant} {:?}",
            rows.iter()
                .map(|(table, batch)| (table.name(), format!("{batch:?}")))
                .collect::<Vec<_>>()
        );
        let record = WalRecord {
            kind: 0,
            tenant: TenantId::from_credential(tenant),
            arrived_ns: NOW_NS,
            payload: Bytes::from(payload),
        };
        self.lake.append_batch(record, rows).await.unwrap();
    }

    pub(crate) async fn ask(&self, sql: &str) -> Result<ResultSet> {
        self.engine
            .sql(&Principal::local(), sql, &QueryOptions::default())
            .await
    }

    /// The answer as CSV without its header, lines joined with `; `.
    pub(crate) async fn answer(&self, sql: &str) -> String {
        let result = self
            .ask(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql:.300}: {}", error.detail()));
        let text = written(&result, Format::Csv);
        text.lines().skip(1).collect::<Vec<_>>().join("; ")
    }

    pub(crate) async fn refusal(&self, sql: &str) -> Error {
        match self.ask(sql).await {
            Ok(result) => panic!("{sql:.200} was answered: {}", written(&result, Format::Csv)),
            Err(error) => error,
        }
    }
}

pub(crate) fn written(result: &ResultSet, format: Format) -> String {
    let mut bytes = Vec::new();
    write(result, format, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Calls and lines of one tenant.
pub(crate) struct Books {
    pub(crate) calls: Vec<Call>,
    pub(crate) lines: Vec<LedgerLine>,
}

/// Trace of the company's first agent run.
pub(crate) fn trace_id() -> TraceId {
    TraceId([7; 16])
}

pub(crate) fn span_id(n: u8) -> SpanId {
    SpanId([0, 0, 0, 0, 0, 0, 0, n])
}

fn company() -> Books {
    let mut books = Books {
        calls: Vec::new(),
        lines: Vec::new(),
    };
    // An agent run with two model calls around a tool call that failed.
    books.add(call("default", 1, CallKind::Agent, NOW_NS - DAY_NS, "support"), &[]);
    let mut first = call("default", 2, CallKind::Llm, NOW_NS - DAY_NS + 1_000, "support");
    first.parent_span_id = Some(span_id(1));
    books.add(
        first,
        &[
            (Bucket::Input, 1_000, Some("0.003")),
            (Bucket::CacheRead, 4_000, Some("0.0012")),
            (Bucket::Output, 200, Some("0.0030005")),
        ],
    );
    let mut tool = call("default", 3, CallKind::Tool, NOW_NS - DAY_NS + 2_000, "support");
    tool.parent_span_id = Some(span_id(1));
    tool.mcp = McpFields {
        server: Some("tickets".into()),
        tool: Some("search".into()),
        mcp_method: Some("tools/call".into()),
        ..McpFields::default()
    };
    tool.status = Status::Error;
    tool.error_type = Some("tool_error".into());
    books.add(tool, &[]);
    let mut second = call("default", 4, CallKind::Llm, NOW_NS - DAY_NS + 3_000, "support");
    second.parent_span_id = Some(span_id(3));
    books.add(
        second,
        &[
            (Bucket::Input, 10, Some("0.000000000000001")),
            (Bucket::Output, 1, Some("0.1")),
        ],
    );
    // Another team, a week ago, with a model that has no price.
    let mut unpriced = call("default", 5, CallKind::Llm, NOW_NS - 6 * DAY_NS, "research");
    unpriced.model.response_model = Some("in-house-7b".into());
    unpriced.trace_id = Some(TraceId([8; 16]));
    books.add(unpriced, &[(Bucket::Input, 500, None), (Bucket::Output, 50, None)]);
    // Nobody's.
    let mut nobody = call("default", 6, CallKind::Llm, NOW_NS - 2 * DAY_NS, "");
    nobody.dimensions.team = None;
    nobody.trace_id = None;
    nobody.span_id = None;
    books.add(nobody, &[(Bucket::Output, 7, Some("12.5"))]);
    books
}

fn rival() -> Books {
    let mut books = Books {
        calls: Vec::new(),
        lines: Vec::new(),
    };
    for n in 1..=3u8 {
        let mut call = call(
            RIVAL,
            n,
            if n == 3 { CallKind::Tool } else { CallKind::Llm },
            NOW_NS - DAY_NS,
            CANARY,
        );
        call.operation = Some(CANARY.into());
        call.error_type = Some(CANARY.into());
        call.mcp.server = Some(CANARY.into());
        call.mcp.tool = Some(CANARY.into());
        call.model.response_model = Some(CANARY.into());
        call.dimensions.session_id = Some(CANARY.into());
        books.add(call, &[(Bucket::Input, 1_000_000, (n == 1).then_some("777"))]);
    }
    books
}

impl Books {
    /// Adds a call and its lines: bucket, tokens, cost.
    fn add(&mut self, mut call: Call, pieces: &[(Bucket, i64, Option<&str>)]) {
        let sum_of = |wanted: &dyn Fn(Bucket) -> bool| {
            let counts = pieces.iter().filter(|piece| wanted(piece.0)).map(|piece| piece.1);
            (!pieces.is_empty()).then(|| counts.sum())
        };
        call.usage = Usage {
            input: sum_of(&|bucket| matches!(bucket, Bucket::Input | Bucket::CacheRead)),
            cache_read: sum_of(&|bucket| bucket == Bucket::CacheRead),
            output: sum_of(&|bucket| bucket == Bucket::Output),
            ..Usage::default()
        };
        call.own_cost = pieces
            .iter()
            .filter_map(|piece| FemtoUsd::parse(piece.2?))
            .reduce(|a, b| a + b);
        call.total_cost = call.own_cost;
        for (index, (bucket, tokens, cost)) in pieces.iter().enumerate() {
            let cost = cost.and_then(FemtoUsd::parse);
            self.lines.push(LedgerLine {
                tenant: call.tenant.clone(),
                time_ns: call.start_ns,
                line_id: LineId(hash_parts(&[call.call_id.as_bytes(), &[index as u8]])),
                line_kind: LineKind::Charge,
                call_id: Some(call.call_id),
                trace_id: call.trace_id,
                span_id: call.span_id,
                dimensions: Arc::new(call.dimensions.clone()),
                provider: call.model.provider.as_deref().map(Arc::from),
                model: call.model.response_model.as_deref().map(Arc::from),
                server: None,
                tool: None,
                prompt: None,
                resource_uri: None,
                cause: "undivided",
                history: false,
                touch: None,
                bucket: *bucket,
                method: "undivided",
                n_calls: i64::from(index == 0),
                tokens: Some(*tokens),
                quantity: None,
                list_cost: cost,
                contracted_cost: None,
                effective_cost: cost,
                price_id: None,
                price_version: None,
                settled_ns: NOW_NS,
            });
        }
        self.calls.push(call);
    }
}

pub(crate) fn call(tenant: &str, n: u8, kind: CallKind, start_ns: i64, team: &str) -> Call {
    let uses_a_model = kind.uses_a_model();
    Call {
        tenant: TenantId::from_credential(tenant),
        call_id: CallId(hash_parts(&[tenant.as_bytes(), &[n]])),
        kind,
        operation: None,
        start_ns,
        duration_ns: Some(i64::from(n) * 1_000),
        dialects: "gen_ai".into(),
        observation_ids: vec![ObservationId([n; 16])],
        rules: String::new(),
        confidence: Default::default(),
        hops: 1,
        status: Status::Ok,
        error_type: None,
        dimensions: Dimensions {
            service: Some(if team == CANARY { CANARY.into() } else { "desk".into() }),
            team: Some(team.to_owned()),
            agent: Some(if team == CANARY { CANARY.into() } else { "triage".into() }),
            user_id: (n % 2 == 1).then(|| if team == CANARY { CANARY.into() } else { "ada".into() }),
            session_id: Some("session-1".into()),
            ..Dimensions::default()
        },
        allocated_by: None,
        trace_id: Some(trace_id()),
        span_id: Some(span_id(n)),
        parent_span_id: None,
        mcp: McpFields::default(),
        model: ModelFields {
            provider: uses_a_model.then(|| "anthropic".into()),
            request_model: uses_a_model.then(|| "claude-sonnet".into()),
            response_model: uses_a_model.then(|| "claude-sonnet-4-5".into()),
            ..ModelFields::default()
        },
        usage: Usage::default(),
        sizes: Sizes::default(),
        reported_cost: None,
        own_cost: None,
        total_cost: None,
    }
}

/// A span for each call that has one, and one more that is no call.
pub(crate) fn spans(tenant: &str, calls: &[Call]) -> RecordBatch {
    let mut builder = SpansBuilder::default();
    let resource: Vec<(String, String)> = vec![("service.name".into(), "desk".into())];
    let text = if tenant == RIVAL { CANARY } else { "mine" };
    let plain = SpanId([9; 8]);
    let rows = calls
        .iter()
        .filter_map(|call| Some((call.trace_id?, call.span_id?, call.parent_span_id, call.start_ns)));
    for (trace, span, parent, start_ns) in rows.chain([(trace_id(), plain, Some(span_id(1)), NOW_NS - DAY_NS + 4_000)])
    {
        builder.append(&SpanRow {
            tenant,
            start_ns,
            duration_ns: 5_000,
            trace_id: trace.as_bytes(),
            span_id: span.as_bytes(),
            parent_span_id: parent.as_ref().map_or(&[], |parent| parent.as_bytes()),
            name: &format!("{text} {}", span.0[7]),
            kind: 3,
            status: "ok",
            status_message: "",
            service: Some(text),
            scope: text,
            scope_version: "",
            trace_state: "",
            flags: 0,
            resource: &resource,
        });
        builder.attribute("http.route", text);
        builder.attribute("gen_ai.tool.name", text);
        builder.event(start_ns, text, &resource);
        builder.link(trace.as_bytes(), span.as_bytes(), &resource);
        builder.finish_row();
    }
    builder.finish()
}

pub(crate) fn seen(tenant: &str, calls: &[Call]) -> Vec<Observation> {
    let text = if tenant == RIVAL { CANARY } else { "gen_ai" };
    let observation = |call: &Call| Observation {
        tenant: call.tenant.clone(),
        observation_id: ObservationId(call.call_id.0),
        source: Source::Span,
        dialect: text.into(),
        scope: Some(text.into()),
        name: text.into(),
        arrived_ns: NOW_NS,
        role: Role::Leaf,
        kind: call.kind,
        operation: call.operation.clone(),
        start_ns: call.start_ns,
        duration_ns: call.duration_ns,
        status: call.status,
        error_type: call.error_type.clone(),
        dimensions: call.dimensions.clone(),
        turn_id: None,
        trace_id: call.trace_id,
        span_id: call.span_id,
        parent_span_id: call.parent_span_id,
        span_kind: Some(3),
        hop: None,
        arguments_hash: None,
        context_sizes: None,
        tool_call_id: None,
        mcp: call.mcp.clone(),
        model: call.model.clone(),
        usage: call.usage,
        sizes: call.sizes,
        reported_cost: None,
        series: None,
    };
    calls.iter().map(observation).collect()
}
