//! `demo`: a server on a folder of its own, and a week of a fictional company sent through its OTLP ports.
//!
//! ```text
//! plan (what happened: the truth) → dialects (how it is told) → outbox → real exporters → our receivers
//!   └────────────── totals ──────────────── compared with ──────────────── SQL on the ledger ─┘
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`company`] | teams, agents, models, MCP servers |
//! | [`plan`] | sessions of model and MCP calls, by day |
//! | [`genai`], [`openinference`], [`claude_code`], [`mcp_hops`] | how each dialect tells a session |
//! | [`outbox`], [`send`] | records that wait, and the exporters |
//! | [`totals`] | the truth, and the comparison |
//! | [`report`] | what is printed at the end |

mod claude_code;
mod company;
mod folder;
mod genai;
mod mcp_hops;
mod openinference;
mod outbox;
mod plan;
mod report;
mod rng;
mod send;
mod totals;

pub use folder::is_in_use;

use chrono::{DateTime, NaiveDate, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use spanledger_access::Principal;
use spanledger_model::Clock as _;
use spanledger_model::clock::SystemClock;
use spanledger_query::Engine;

use crate::cli::DemoArgs;
use crate::config::{Config, DEMO_DATA_DEFAULT};
use crate::exit::Outcome;
use crate::output;
use crate::serve::{Server, Signals, stop_or_second_signal};
use company::Dialect;
use mcp_hops::Scopes;
use outbox::Outbox;
use plan::Session;
use report::Report;
use rng::Rng;
use send::{Sent, Target};
use totals::Totals;

/// Runs the command.
pub async fn run(args: &DemoArgs, mut config: Config) -> anyhow::Result<Outcome> {
    config.default_data(DEMO_DATA_DEFAULT);
    let mut signals = Signals::install()?;
    if !args.keep {
        folder::start_fresh(config.data())?;
    }
    folder::mark(config.data())?;
    let server = Server::start(&config).await?;
    let sent = tokio::select! {
        sent = send_week(args, &server) => sent,
        () = signals.wait() => {
            server.stop().await?;
            return Ok(Outcome::Done);
        }
    };
    let report = match sent {
        Ok(report) => report,
        Err(error) => {
            if let Err(also) = server.stop().await {
                tracing::warn!(error = %also, "the server did not stop in order");
            }
            return Err(error);
        }
    };
    let outcome = if args.exit && !report.differences().is_empty() {
        Outcome::No
    } else {
        Outcome::Done
    };
    if args.json {
        output::print(&format!("{:#}\n", report.to_json()))?;
    } else {
        output::print(&report.to_text(&server.addresses, config.data(), args.exit))?;
    }
    if args.exit {
        server.stop().await?;
        return Ok(outcome);
    }
    // The screen of `serve` would push the report off the terminal: only its machine-readable forms appear.
    server.announce_to_programs(&args.serve)?;
    signals.wait().await;
    stop_or_second_signal(server, signals).await
}

async fn send_week(args: &DemoArgs, server: &Server) -> anyhow::Result<Report> {
    let end = args.end.unwrap_or_else(today);
    let target = Target {
        grpc: server.addresses.otlp_grpc,
        http: server.addresses.otlp_http,
        client: reqwest::Client::builder().no_proxy().build()?,
    };
    let scopes = Scopes::default();
    let days = plan::days(end, args.days);
    if !args.json {
        let grpc = server.addresses.otlp_grpc;
        output::note(&format!(
            "sending {} days of Acme's telemetry to OTLP port {grpc} …",
            days.len()
        ));
    }
    let (mut truth, mut sent) = (Totals::default(), Sent::default());
    let progress = progress_bar(args.json);
    for (index, day) in days.iter().enumerate() {
        let sessions = plan::day(*day);
        sessions.iter().for_each(|session| truth.add(session));
        let outbox = render(&sessions, &scopes);
        progress.set_position(0);
        progress.set_length(outbox.n_records());
        progress.set_message(format!("{day}, day {} of {}", index + 1, days.len()));
        sent.add(send::send(outbox, &target, &progress).await?);
    }
    progress.set_message("settling");
    server.settler.settle_now().await?;
    progress.finish_and_clear();
    let measured = Totals::measured(&ask(&server.engine, totals::MEASURE_SQL).await?);
    let costs = ask(&server.engine, report::COSTS_SQL).await?;
    let tools = ask(&server.engine, report::TOOLS_SQL).await?;
    let from = days.first().copied().unwrap_or(end);
    Ok(Report {
        from,
        until: end,
        sent,
        truth,
        measured,
        costs,
        tools,
    })
}

/// Every session in the words of its agent's dialect. Session ids key the random ids, so a repeated demo
/// of the same week sends the same records and is counted once.
fn render(sessions: &[Session], scopes: &Scopes) -> Outbox {
    let mut outbox = Outbox::default();
    for session in sessions {
        let mut rng = Rng::keyed(&["ids", &session.id]);
        match session.agent.dialect {
            Dialect::GenAi | Dialect::GenAi137 | Dialect::GenAiFirst => {
                genai::render(&mut outbox, session, scopes, &mut rng);
            }
            Dialect::OpenInference => openinference::render(&mut outbox, session, scopes, &mut rng),
            Dialect::ClaudeCode => claude_code::render(&mut outbox, session, scopes, &mut rng),
        }
    }
    outbox
}

async fn ask(engine: &Engine, sql: &str) -> anyhow::Result<Vec<Value>> {
    let result = engine
        .sql(&Principal::local(), sql, &spanledger_query::QueryOptions::default())
        .await?;
    let mut json = Vec::new();
    spanledger_query::write(&result, spanledger_query::Format::Json, &mut json)?;
    output::rows_of(serde_json::from_slice(&json)?)
}

fn today() -> NaiveDate {
    DateTime::<Utc>::from_timestamp_nanos(SystemClock.now_ns()).date_naive()
}

fn progress_bar(is_quiet: bool) -> ProgressBar {
    let bar = if is_quiet {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(0)
    };
    let style = ProgressStyle::with_template("sending {msg}  {wide_bar} {human_pos}/{human_len} records");
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::collections::BTreeSet;

    fn week() -> Vec<Outbox> {
        let days = plan::days("2026-11-22".parse().unwrap(), 7);
        days.into_iter()
            .map(|day| render(&plan::day(day), &Scopes::default()))
            .collect()
    }

    #[test]
    fn the_week_has_tens_of_thousands_of_spans_with_unique_ids() {
        let mut ids = BTreeSet::new();
        let mut n_spans = 0;
        for outbox in week() {
            for span in outbox.lanes.values().flat_map(|lane| &lane.spans) {
                n_spans += 1;
                ids.insert((
                    span.span_context.trace_id().to_bytes(),
                    span.span_context.span_id().to_bytes(),
                ));
                assert!(span.end_time >= span.start_time, "{}", span.name);
            }
        }
        assert!((35_000..70_000).contains(&n_spans), "{n_spans}");
        assert_eq!(ids.len(), n_spans);
    }

    #[test]
    fn the_same_week_is_rendered_the_same() {
        let day: NaiveDate = "2026-11-19".parse().unwrap();
        let spans = || -> Vec<_> {
            let outbox = render(&plan::day(day), &Scopes::default());
            outbox.lanes.into_values().flat_map(|lane| lane.spans).collect()
        };
        assert_eq!(spans(), spans());
    }

    #[test]
    fn every_parent_was_sent() {
        let day: NaiveDate = "2026-11-18".parse().unwrap();
        let outbox = render(&plan::day(day), &Scopes::default());
        let spans: Vec<_> = outbox.lanes.values().flat_map(|lane| &lane.spans).collect();
        let ids: BTreeSet<_> = spans
            .iter()
            .map(|span| span.span_context.span_id().to_bytes())
            .collect();
        for span in &spans {
            let parent = span.parent_span_id;
            assert!(
                parent == opentelemetry::SpanId::INVALID || ids.contains(&parent.to_bytes()),
                "{}",
                span.name
            );
        }
    }
}
