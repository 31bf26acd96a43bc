//! `import`: OTLP files into a lake folder, or through a server's OTLP HTTP port.
//!
//! Files are read by [`files`] into request bodies; each body takes the way of a received request, so an
//! import that is repeated counts once. A line that cannot be read is reported, skipped and counted, and
//! the command then ends with exit code 1.

mod files;

use std::path::Path;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use spanledger_access::{LocalOnly, Principal, SharedAuthenticator};
use spanledger_ingest::Pipeline;
use spanledger_ingest::{Accept as _, Encoding, Signal};
use spanledger_lake::Lake;
use spanledger_lake::files::LocalFiles;
use spanledger_ledger::settle::{SettleOptions, Settler};
use spanledger_model::Clock;
use spanledger_model::clock::SystemClock;

use crate::cli::{ImportArgs, SignalName};
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::output::{self, grouped};
use crate::serve::open_lake;
use crate::source::Remote;
use files::{Item, expand, read};

/// Problems that are named one by one; the rest is counted.
const NAMED_PROBLEMS_MAX: u64 = 20;

/// Runs the command.
pub async fn run(args: &ImportArgs, config: &Config) -> anyhow::Result<Outcome> {
    let signal = args.signal.map(|signal| match signal {
        SignalName::Traces => Signal::Traces,
        SignalName::Logs => Signal::Logs,
        SignalName::Metrics => Signal::Metrics,
    });
    let files = expand(&args.files)?;
    let mut sink = Sink::open(args, config).await?;
    let mut tally = Tally::default();
    let progress = progress_bar(&files);
    let mut ended = Ok(());
    for file in &files {
        ended = import_file(file, signal, &mut sink, &mut tally, &progress).await;
        if ended.is_err() {
            break;
        }
    }
    progress.finish_and_clear();
    // The folder is flushed and released whatever happened to a file.
    let closed = sink.close().await;
    ended?;
    closed?;
    output::print(&tally.to_text())?;
    Ok(if tally.n_problems == 0 {
        Outcome::Done
    } else {
        Outcome::No
    })
}

async fn import_file(
    file: &Path,
    signal: Option<Signal>,
    sink: &mut Sink,
    tally: &mut Tally,
    progress: &ProgressBar,
) -> anyhow::Result<()> {
    progress.set_message(file.display().to_string());
    for item in read(file, signal)? {
        let (place, item) = item?;
        let n_bytes = item
            .as_ref()
            .map_or(0, |item| u64::try_from(item.body.len()).unwrap_or(0));
        match item {
            Err(problem) => tally.problem(progress, &place, &problem),
            Ok(item) => match sink.put(item).await {
                Ok(put) => tally.add(&put),
                Err(error) if is_of_the_record(&error) => tally.problem(progress, &place, &error.to_string()),
                Err(error) => return Err(error.context(place)),
            },
        }
        progress.inc(n_bytes);
    }
    tally.n_files += 1;
    Ok(())
}

/// True where the record is at fault, and the next one may be fine.
fn is_of_the_record(error: &anyhow::Error) -> bool {
    crate::exit::exit_code(error) == crate::exit::INVALID
}

/// What became of one request body.
#[derive(Debug, Default)]
struct Put {
    n_accepted: u64,
    n_rejected: u64,
    is_duplicate: bool,
}

/// Where requests go.
enum Sink {
    Folder {
        lake: Lake,
        pipeline: Arc<Pipeline>,
        settler: Settler,
        principal: Principal,
    },
    Server {
        server: Remote,
        base: String,
    },
}

impl Sink {
    async fn open(args: &ImportArgs, config: &Config) -> anyhow::Result<Self> {
        if let Some(url) = &args.at.url {
            let server = Remote::new(url, args.at.api_key_file.as_deref())?;
            let base = otlp_base(&server).await;
            return Ok(Self::Server { server, base });
        }
        let dialects = crate::dialects::registry(config)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let lake = open_lake(config, Arc::new(LocalFiles), Arc::clone(&clock)).await.map_err(|error| match crate::exit::exit_code(&error) {
            crate::exit::BUSY => fail(
                Kind::Busy,
                format!(
                    "{} is served by another process; send the files to it with --url http://127.0.0.1:4318, or stop it",
                    config.data().display()
                ),
            ),
            _ => error,
        })?;
        let settler = Settler::spawn(
            lake.clone(),
            crate::terms::terms(config)?,
            Arc::clone(&clock),
            SettleOptions::default(),
        );
        let limits = config.ingest_limits()?;
        let pipeline = Pipeline::new(
            lake.clone(),
            Arc::new(LocalOnly) as SharedAuthenticator,
            limits,
            clock,
            dialects,
        );
        Ok(Self::Folder {
            lake,
            pipeline,
            settler,
            principal: config.principal()?,
        })
    }

    async fn put(&self, item: Item) -> anyhow::Result<Put> {
        match self {
            Self::Folder {
                pipeline, principal, ..
            } => {
                let request = spanledger_ingest::decode(item.signal, item.encoding, &item.body)?;
                let accepted = pipeline.accept(principal, request, item.body, item.encoding).await?;
                Ok(Put {
                    n_accepted: accepted.n_accepted,
                    n_rejected: accepted.n_rejected,
                    is_duplicate: accepted.duplicate,
                })
            }
            Self::Server { server, base } => {
                let content_type = match item.encoding {
                    Encoding::Protobuf => "application/x-protobuf",
                    Encoding::Json => "application/json",
                };
                let request = server
                    .client()
                    .post(format!("{base}/v1/{}", item.signal.name()))
                    .header("content-type", content_type)
                    .body(item.body);
                server.answer(request).await?;
                Ok(Put::default())
            }
        }
    }

    async fn close(self) -> anyhow::Result<()> {
        if let Self::Folder { lake, settler, .. } = self {
            let settled = settler.settle_now().await;
            drop(settler);
            lake.shutdown().await?;
            settled?;
        }
        Ok(())
    }
}

/// The OTLP HTTP address behind a server's dashboard address; the address itself where it is none.
async fn otlp_base(server: &Remote) -> String {
    let status = server.get("/api/v1/status", &[]).await.unwrap_or_default();
    match status.pointer("/endpoints/otlp_http").and_then(Value::as_str) {
        Some(address) if address.contains("://") => address.trim_end_matches('/').to_owned(),
        Some(address) => format!("http://{address}"),
        None => server.base().to_owned(),
    }
}

/// Counts of an import.
#[derive(Debug, Default)]
struct Tally {
    n_files: u64,
    n_requests: u64,
    n_duplicates: u64,
    n_accepted: u64,
    n_rejected: u64,
    n_problems: u64,
}

impl Tally {
    fn add(&mut self, put: &Put) {
        self.n_requests += 1;
        self.n_duplicates += u64::from(put.is_duplicate);
        self.n_accepted += if put.is_duplicate { 0 } else { put.n_accepted };
        self.n_rejected += put.n_rejected;
    }

    fn problem(&mut self, progress: &ProgressBar, place: &str, problem: &str) {
        self.n_problems += 1;
        if self.n_problems <= NAMED_PROBLEMS_MAX {
            progress.suspend(|| output::note(&format!("skipped {place}: {problem}")));
        }
    }

    fn to_text(&self) -> String {
        let count = |n: u64| grouped(i64::try_from(n).unwrap_or(i64::MAX));
        let mut text = format!("{} files, {} requests", count(self.n_files), count(self.n_requests));
        for (n, what) in [
            (self.n_accepted, "records stored"),
            (self.n_duplicates, "requests stored before"),
            (self.n_rejected, "records left out"),
            (self.n_problems, "lines or files skipped"),
        ] {
            if n > 0 {
                text.push_str(&format!(", {} {what}", count(n)));
            }
        }
        text.push('\n');
        text
    }
}

fn progress_bar(files: &[std::path::PathBuf]) -> ProgressBar {
    let bytes = files
        .iter()
        .filter_map(|file| file.metadata().ok())
        .map(|file| file.len())
        .sum();
    let bar = ProgressBar::new(bytes);
    let style = ProgressStyle::with_template("{msg}  {wide_bar} {bytes} {elapsed}");
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tally_leaves_nothing_out() {
        let mut tally = Tally {
            n_files: 1,
            ..Tally::default()
        };
        tally.add(&Put {
            n_accepted: 1200,
            n_rejected: 1,
            is_duplicate: false,
        });
        tally.add(&Put {
            n_accepted: 1200,
            n_rejected: 0,
            is_duplicate: true,
        });
        tally.problem(&ProgressBar::hidden(), "x.jsonl:3", "no JSON");
        assert_eq!(
            tally.to_text(),
            "1 files, 2 requests, 1,200 records stored, 1 requests stored before, 1 records left out, 1 lines or files skipped\n"
        );
    }
}
