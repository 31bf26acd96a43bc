//! `doctor`: checks of settings, folder, ports, clock, data and prices, each with a next step.
//!
//! Reads only: a folder in use is looked at beside its server. Exit 1 where a check failed, 0 with
//! warnings: a warning is something to know, a failure something to do.

mod allocation;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use spanledger_access::Principal;
use spanledger_lake::{ErrorKind, Lake};
use spanledger_ledger::prices::store::PriceStore;
use spanledger_model::Clock;
use spanledger_model::clock::SystemClock;
use spanledger_query::{Engine, Format, QueryOptions};

use crate::cli::{DoctorArgs, ReportFormat};
use crate::config::Config;
use crate::exit::Outcome;
use crate::output::{self, grouped};
use crate::source::{Remote, read_only};

/// Free space under which a flush or a merge may soon fail: four times the largest merge input.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// The first day of 2025: a clock before it is not set, since this program is younger.
const CLOCK_MIN_NS: i64 = 1_735_689_600_000_000_000;
/// Seconds that a sender's clock may be ahead before its data looks like the future.
const AHEAD_MAX_S: i64 = 300;
/// Models named in a finding.
const NAMED_MAX: usize = 5;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Ok,
    Warn,
    Fail,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One check's result.
#[derive(Debug)]
struct Finding {
    check: &'static str,
    level: Level,
    text: String,
    next: Option<String>,
}

fn ok(check: &'static str, text: impl Into<String>) -> Finding {
    Finding {
        check,
        level: Level::Ok,
        text: text.into(),
        next: None,
    }
}

fn warn(check: &'static str, text: impl Into<String>, next: impl Into<String>) -> Finding {
    Finding {
        check,
        level: Level::Warn,
        text: text.into(),
        next: Some(next.into()),
    }
}

fn bad(check: &'static str, text: impl Into<String>, next: impl Into<String>) -> Finding {
    Finding {
        check,
        level: Level::Fail,
        text: text.into(),
        next: Some(next.into()),
    }
}

/// Runs the command.
pub async fn run(args: &DoctorArgs, config: &Config) -> anyhow::Result<Outcome> {
    if args.coverage {
        return super::coverage::run(args, config).await;
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let data = config.data();
    let is_served = crate::demo::is_in_use(data);
    let mut findings = vec![settings(config), folder(data), lock(data, is_served)];
    findings.extend(ports(config, is_served));
    findings.push(wall_clock(clock.now_ns()));
    findings.push(disk(data));
    if data.join("tables").is_dir() {
        findings.extend(lake(config, clock).await);
    } else {
        findings.push(warn(
            "lake",
            format!("no lake in {} yet", data.display()),
            "start one with `spanledger serve`, or look at another with --data",
        ));
    }
    if let Some(url) = &args.at.url {
        findings.push(server(url, args.at.api_key_file.as_deref()).await);
    }
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    let is_json = args.json || args.format == ReportFormat::Json;
    output::print(&if is_json {
        format!("{:#}\n", to_json(&findings))
    } else {
        to_text(&findings)
    })?;
    Ok(if worst == Level::Fail {
        Outcome::No
    } else {
        Outcome::Done
    })
}

fn to_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        text.push_str(&format!(
            "{:<4}  {:<9}  {}\n",
            finding.level.name(),
            finding.check,
            finding.text
        ));
        if let Some(next) = &finding.next {
            text.push_str(&format!("                 → {next}\n"));
        }
    }
    text
}

fn to_json(findings: &[Finding]) -> Value {
    findings
        .iter()
        .map(|finding| json!({ "check": finding.check, "level": finding.level.name(), "finding": finding.text, "next": finding.next }))
        .collect()
}

fn settings(config: &Config) -> Finding {
    match config.problems().into_iter().next() {
        None => ok("settings", "all settings can be used"),
        Some(problem) => bad(
            "settings",
            problem,
            "`spanledger config show` says where each value came from",
        ),
    }
}

fn folder(data: &Path) -> Finding {
    // A folder that is not there yet is made by `serve` in the nearest one that is.
    let existing = data
        .ancestors()
        .find(|folder| folder.is_dir())
        .unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() {
        Path::new(".")
    } else {
        existing
    };
    let probe = existing.join(format!(".spanledger-doctor-{}", std::process::id()));
    match std::fs::write(&probe, b"probe").and_then(|()| std::fs::remove_file(&probe)) {
        Ok(()) => ok("folder", format!("{} can be written", existing.display())),
        Err(error) => bad(
            "folder",
            format!("{} cannot be written: {error}", existing.display()),
            "give this user the folder, or choose another with --data",
        ),
    }
}

fn lock(data: &Path, is_served: bool) -> Finding {
    if is_served {
        ok(
            "lock",
            format!("a running server has {}; it is looked at read-only", data.display()),
        )
    } else {
        ok("lock", "no process has the folder")
    }
}

fn ports(config: &Config, is_served: bool) -> Vec<Finding> {
    [
        ("--http", config.http.address.value),
        ("--otlp-grpc", config.otlp.grpc.value),
        ("--otlp-http", config.otlp.http.value),
    ]
    .into_iter()
    .map(|(flag, address)| port(flag, address, is_served))
    .collect()
}

fn port(flag: &str, address: SocketAddr, is_served: bool) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) if is_served => warn(
            "port",
            format!("{address} is free although a server has the folder"),
            format!("the server listens elsewhere: its start-up screen says where ({flag})"),
        ),
        Ok(_) => ok("port", format!("{address} is free")),
        Err(_) if is_served => ok("port", format!("{address} is taken, by the running server as it seems")),
        Err(error) => bad(
            "port",
            format!("{address} cannot be used: {error}"),
            format!(
                "stop the program that has it, or choose another with {flag} {}:0",
                address.ip()
            ),
        ),
    }
}

fn wall_clock(now_ns: i64) -> Finding {
    let shown = chrono::DateTime::from_timestamp_nanos(now_ns).format("%Y-%m-%d %H:%M:%S UTC");
    if now_ns < CLOCK_MIN_NS {
        return bad(
            "clock",
            format!("it says {shown}"),
            "set the machine's clock: prices and periods depend on it",
        );
    }
    ok("clock", format!("{shown}"))
}

fn disk(data: &Path) -> Finding {
    let existing = data
        .ancestors()
        .find(|folder| folder.is_dir())
        .unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() {
        Path::new(".")
    } else {
        existing
    };
    let Ok(space) = rustix::fs::statvfs(existing) else {
        return warn(
            "disk",
            format!("cannot tell how much is free at {}", existing.display()),
            "look at it with `df`",
        );
    };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let text = format!("{} free at {}", output::bytes(free), existing.display());
    if free < FREE_BYTES_MIN {
        return bad(
            "disk",
            text,
            format!(
                "free some, or move the folder: under {} merges may fail",
                output::bytes(FREE_BYTES_MIN)
            ),
        );
    }
    ok("disk", text)
}

/// A folder's engine, and whose rows it is asked about.
struct Asked {
    engine: Engine,
    principal: Principal,
}

/// Everything that needs the lake's content.
async fn lake(config: &Config, clock: Arc<dyn Clock>) -> Vec<Finding> {
    let data = config.data();
    let lake = match read_only(data, Arc::clone(&clock)).await {
        Ok(lake) => lake,
        Err(error) => return vec![bad("lake", error.to_string(), "restore the folder from a backup")],
    };
    let mut findings = vec![sound(&lake).await, price_book(data)];
    let engine = PriceStore::new(data)
        .current_book()
        .map_err(anyhow::Error::new)
        .and_then(|book| Ok(Engine::new(lake, book, Arc::clone(&clock))?));
    let engine = engine.and_then(|engine| {
        let principal = config.principal()?;
        Ok(Asked { engine, principal })
    });
    let engine = match engine {
        Ok(engine) => engine,
        Err(error) => {
            findings.push(bad(
                "query",
                error.to_string(),
                "report it with the output of `spanledger --log debug doctor`",
            ));
            return findings;
        }
    };
    findings.push(content(&engine).await);
    findings.push(future(&engine, clock.now_ns()).await);
    findings.push(coverage(&engine).await);
    findings.push(unpriced(&engine).await);
    findings.push(teams(&engine).await);
    findings.extend(allocation::findings(config, &engine).await);
    findings
}

/// The version of the price book that the next start charges by.
fn price_book(data: &Path) -> Finding {
    match PriceStore::new(data).current() {
        Ok(None) => ok("price book", "the one built into this program"),
        Ok(Some(version)) => {
            let (id, import) = (version.id(), &version.import);
            ok(
                "price book",
                format!("{id}, made {} from {}", version.created_at, import.file),
            )
        }
        Err(error) => bad(
            "price book",
            error.to_string(),
            "`spanledger prices use v0` takes the built-in one",
        ),
    }
}

async fn sound(lake: &Lake) -> Finding {
    match lake.verify().await {
        Ok(report) if report.is_ok() => {
            let rows = grouped(i64::try_from(report.n_rows).unwrap_or(i64::MAX));
            ok(
                "lake",
                format!("{} files with {rows} rows are what the log says", report.n_files),
            )
        }
        Ok(report) => bad(
            "lake",
            format!(
                "{} problems, first: {}",
                report.problems.len(),
                report.problems.first().map_or("", String::as_str)
            ),
            "`spanledger lake verify` names all; restore those files from a backup",
        ),
        Err(error) if error.kind() == ErrorKind::Busy => warn("lake", error.to_string(), "try again"),
        Err(error) => bad("lake", error.to_string(), "restore the folder from a backup"),
    }
}

async fn content(engine: &Asked) -> Finding {
    let sql = "SELECT (SELECT COUNT(*) FROM observations) AS observations, (SELECT COUNT(*) FROM calls) AS calls, \
               (SELECT COUNT(*) FROM spans) AS spans";
    match ask(engine, sql).await {
        Err(error) => bad(
            "content",
            error.to_string(),
            "report it with the output of `spanledger --log debug doctor`",
        ),
        Ok(rows) => {
            let count = |key| integer(&rows, key);
            if count("spans") + count("observations") == 0 {
                return warn(
                    "content",
                    "nothing was received yet",
                    "`spanledger serve` prints what to paste where",
                );
            }
            let text = format!(
                "{} spans, {} observations, {} calls",
                grouped(count("spans")),
                grouped(count("observations")),
                grouped(count("calls"))
            );
            if count("observations") > 0 && count("calls") == 0 {
                return warn(
                    "content",
                    text,
                    "observations are not settled yet: start `spanledger serve` on the folder",
                );
            }
            ok("content", text)
        }
    }
}

async fn future(engine: &Asked, now_ns: i64) -> Finding {
    let limit = chrono::DateTime::from_timestamp_nanos(now_ns.saturating_add(AHEAD_MAX_S * 1_000_000_000)).to_rfc3339();
    let sql = format!("SELECT COUNT(*) AS n, MAX(service) AS service FROM calls WHERE time > TIMESTAMP '{limit}'");
    match ask(engine, &sql).await {
        Ok(rows) if integer(&rows, "n") > 0 => warn(
            "time",
            format!(
                "{} calls lie in the future, some of {}",
                grouped(integer(&rows, "n")),
                text(&rows, "service")
            ),
            "compare that machine's clock with this one's",
        ),
        Ok(_) => ok("time", "no call lies in the future"),
        Err(error) => warn(
            "time",
            error.to_string(),
            "report it with the output of `spanledger --log debug doctor`",
        ),
    }
}

async fn coverage(engine: &Asked) -> Finding {
    let sql = "SELECT dialect, COUNT(*) AS n FROM observations GROUP BY dialect ORDER BY n DESC";
    match ask(engine, sql).await {
        Ok(rows) if rows.is_empty() => ok("dialects", "nothing to recognise yet"),
        Ok(rows) => {
            let named: Vec<String> = rows
                .iter()
                .map(|row| format!("{} {}", row["dialect"].as_str().unwrap_or("unknown"), row["n"]))
                .collect();
            let is_unknown = |row: &Value| row["dialect"].as_str().is_none_or(|dialect| dialect == "guessed");
            if rows.iter().any(is_unknown) {
                return warn(
                    "dialects",
                    named.join(", "),
                    "some records follow no known convention: `spanledger doctor --coverage` names their keys and a mapping",
                );
            }
            ok("dialects", named.join(", "))
        }
        Err(error) => warn(
            "dialects",
            error.to_string(),
            "report it with the output of `spanledger --log debug doctor`",
        ),
    }
}

async fn unpriced(engine: &Asked) -> Finding {
    let sql = "SELECT COALESCE(response_model, request_model) AS model, COUNT(*) AS n FROM calls \
               WHERE kind IN ('llm', 'embedding') AND own_cost IS NULL AND COALESCE(input_tokens, output_tokens) IS NOT NULL \
               GROUP BY 1 ORDER BY n DESC";
    match ask(engine, sql).await {
        Ok(rows) if rows.is_empty() => ok("prices", "every model call with usage has a price"),
        Ok(rows) => {
            let named: Vec<String> = rows
                .iter()
                .take(NAMED_MAX)
                .map(|row| format!("{} ({} calls)", row["model"].as_str().unwrap_or("no model"), row["n"]))
                .collect();
            warn(
                "prices",
                format!("no price for {}", named.join(", ")),
                "`spanledger prices list --model …` finds spellings that have one; their usage is shown as unpriced",
            )
        }
        Err(error) => warn(
            "prices",
            error.to_string(),
            "report it with the output of `spanledger --log debug doctor`",
        ),
    }
}

async fn teams(engine: &Asked) -> Finding {
    let sql = "SELECT COUNT(*) AS n, COUNT(team) AS with_team FROM calls WHERE kind IN ('llm', 'embedding', 'tool')";
    match ask(engine, sql).await {
        Ok(rows) => {
            let (all, tagged) = (integer(&rows, "n"), integer(&rows, "with_team"));
            if all == 0 || tagged == all {
                return ok(
                    "teams",
                    format!("{} of {} calls say whose they are", grouped(tagged), grouped(all)),
                );
            }
            warn(
                "teams",
                format!("{} of {} calls have no team", grouped(all - tagged), grouped(all)),
                "set OTEL_RESOURCE_ATTRIBUTES=team=NAME where they are sent from, or write allocation rules",
            )
        }
        Err(error) => warn(
            "teams",
            error.to_string(),
            "report it with the output of `spanledger --log debug doctor`",
        ),
    }
}

async fn server(url: &str, api_key_file: Option<&Path>) -> Finding {
    let answer = match Remote::new(url, api_key_file) {
        Ok(server) => server.get("/api/v1/status", &[]).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(status) => {
            let version = status.get("version").and_then(Value::as_str).unwrap_or("?").to_owned();
            let text = format!("{url} answers, version {version}");
            if version == env!("CARGO_PKG_VERSION") {
                return ok("server", text);
            }
            warn(
                "server",
                text,
                format!("this program is {}; update one of the two", env!("CARGO_PKG_VERSION")),
            )
        }
        Err(error) => bad("server", error.to_string(), "look at the server's own output"),
    }
}

async fn ask(engine: &Asked, sql: &str) -> anyhow::Result<Vec<Value>> {
    let Asked { engine, principal } = engine;
    let result = engine.sql(principal, sql, &QueryOptions::default()).await?;
    let mut json = Vec::new();
    spanledger_query::write(&result, Format::Json, &mut json)?;
    output::rows_of(serde_json::from_slice(&json)?)
}

fn integer(rows: &[Value], key: &str) -> i64 {
    rows.first()
        .and_then(|row| row.get(key))
        .and_then(Value::as_i64)
        .unwrap_or(0)
}

fn text<'r>(rows: &'r [Value], key: &str) -> &'r str {
    rows.first()
        .and_then(|row| row.get(key))
        .and_then(Value::as_str)
        .unwrap_or("an unknown service")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_clock_before_this_program_fails() {
        assert_eq!(wall_clock(0).level, Level::Fail);
        assert_eq!(wall_clock(SystemClock.now_ns()).level, Level::Ok);
    }

    #[test]
    fn a_port_in_use_fails_unless_a_server_runs() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(port("--http", address, false).level, Level::Fail);
        assert_eq!(port("--http", address, true).level, Level::Ok);
    }

    #[test]
    fn a_folder_to_be_made_is_probed_in_its_parent() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(folder(&root.path().join("not/yet")).level, Level::Ok);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn every_finding_but_ok_says_what_to_do() {
        let findings = [ok("a", "fine"), warn("b", "hm", "do this"), bad("c", "no", "do that")];
        let text = to_text(&findings);
        assert!(text.contains("→ do this") && text.contains("→ do that"));
        assert_eq!(to_json(&findings).as_array().unwrap().len(), 3);
    }
}
