//! `capture`: what an emitter sends, as a fixture: request bodies in order, an index, and skeletons of the
//! ground truth and of the README.
//!
//! ```text
//! emitter → the receivers of `serve` → recorder → scrub → NNN-signal.pb|json, index.jsonl
//!                                          └→ dialects → fold ─ at the end ─→ expected.json, README.md
//! ```
//!
//! It has no lake: a capture is files. What the dialects made of it is the first draft of `expected.json`,
//! to be corrected by hand: a ground truth that its own reader wrote proves nothing.

mod recorder;
pub mod totals;

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use spanledger_ingest::scrub::Scrubber;
use spanledger_ledger::prices::PriceBook;
use tokio::sync::watch;

use crate::cli::CaptureArgs;
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::output::{self, grouped};
use crate::serve::{Signals, listen, write_ready_file};
use recorder::{Recorded, Recorder};

/// Time that open requests get once the capture ends.
const DRAIN: Duration = Duration::from_secs(3);
/// Unread keys that the summary names.
const KEYS_SHOWN_MAX: usize = 20;

/// Runs the command.
pub async fn run(args: &CaptureArgs, config: Config) -> anyhow::Result<Outcome> {
    let config = config.usable()?;
    let registry = crate::dialects::registry(&config)?;
    let mut signals = Signals::install()?;
    let grpc = listen("--otlp-grpc", config.otlp.grpc.value).await?;
    let http = listen("--otlp-http", config.otlp.http.value).await?;
    let (grpc_address, http_address) = (grpc.local_addr()?, http.local_addr()?);
    prepare(&args.folder)?;
    let scrubber = (!args.keep_content).then(|| Scrubber::new(own_names()));
    let recorder = Recorder::new(&args.folder, scrubber, registry, config.ingest_limits()?)
        .map_err(|error| unwritable(&args.folder, &error))?;
    let (stop, stopped) = watch::channel(false);
    let on_stop = || {
        let mut stopped = stopped.clone();
        async move {
            // An error means that the sender is gone, which is a stop as well.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }
    };
    let mut grpc = tokio::spawn(spanledger_ingest::serve_grpc(
        Arc::<Recorder>::clone(&recorder),
        grpc,
        on_stop(),
    ));
    let served = axum::serve(http, recorder::http(Arc::clone(&recorder))).with_graceful_shutdown(on_stop());
    let mut http = tokio::spawn(served.into_future());
    announce(args, grpc_address, http_address)?;
    signals.wait().await;
    stop.send_replace(true);
    // What is still being sent gets a moment; what is not done then is not part of the capture.
    let _ = tokio::time::timeout(DRAIN, &mut grpc).await;
    let _ = tokio::time::timeout(DRAIN, &mut http).await;
    grpc.abort();
    http.abort();
    finish(args, &recorder.recorded())
}

/// A new or empty folder: a capture is never mixed with another.
fn prepare(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
    let mut entries = std::fs::read_dir(folder).map_err(|error| unwritable(folder, &error))?;
    if entries.next().is_some() {
        return Err(fail(
            Kind::Invalid,
            format!("{} is not empty; give a new folder for the capture", folder.display()),
        ));
    }
    Ok(())
}

fn unwritable(folder: &Path, error: &std::io::Error) -> anyhow::Error {
    fail(
        Kind::Invalid,
        format!(
            "cannot write the capture into {}: {error}; choose another folder",
            folder.display()
        ),
    )
}

/// What this machine and account are called, to be replaced wherever it stands.
fn own_names() -> Vec<String> {
    let node = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::env::var("HOSTNAME").map_err(std::io::Error::other))
        .unwrap_or_default();
    let node = node.trim().to_owned();
    let short = node.split('.').next().unwrap_or_default().to_owned();
    let account = std::env::var("USER").unwrap_or_default();
    vec![node, short, account]
}

fn announce(args: &CaptureArgs, grpc: SocketAddr, http: SocketAddr) -> anyhow::Result<()> {
    let scrubbed = if args.keep_content {
        "content is kept as it is sent: do not publish this capture"
    } else {
        "prose, paths, host names and addresses are replaced; read the files before you publish them"
    };
    output::print(&format!(
        "capturing into {}\n  OTLP gRPC  {grpc}\n  OTLP HTTP  http://{http}\n  {scrubbed}\n\
         point the emitter here, e.g. OTEL_EXPORTER_OTLP_ENDPOINT=http://{http}; Ctrl-C ends the capture\n",
        args.folder.display()
    ))?;
    if let Some(path) = &args.ready_file {
        write_ready_file(
            path,
            &json!({ "otlp_grpc": grpc.to_string(), "otlp_http": http.to_string() }),
        )?;
    }
    Ok(())
}

/// Writes the skeletons and tells what was captured.
fn finish(args: &CaptureArgs, recorded: &Recorded) -> anyhow::Result<Outcome> {
    let calls = totals::calls(&recorded.reading, &PriceBook::embedded()?);
    let expected = format!("{:#}\n", totals::skeleton(&calls));
    let write = |name: &str, text: &str| {
        std::fs::write(args.folder.join(name), text).map_err(|error| unwritable(&args.folder, &error))
    };
    write("expected.json", &expected)?;
    write("README.md", &readme(args, recorded))?;
    let count = |n: u64| grouped(i64::try_from(n).unwrap_or(i64::MAX));
    let mut text = format!(
        "\n{} requests with {} records, {}, in {}\n",
        count(recorded.n_files),
        count(recorded.reading.n_records),
        output::bytes(recorded.n_bytes),
        args.folder.display()
    );
    if !args.keep_content {
        text.push_str(&format!("{} pieces of text were replaced\n", recorded.n_scrubbed));
    }
    if recorded.n_refused > 0 {
        text.push_str(&format!(
            "{} requests were refused and are not in it\n",
            count(recorded.n_refused)
        ));
    }
    let mut dialects: Vec<&str> = recorded
        .reading
        .observations
        .iter()
        .map(|record| record.dialect.as_str())
        .collect();
    dialects.sort_unstable();
    dialects.dedup();
    text.push_str(&format!(
        "{} observations ({}), {} calls\n",
        recorded.reading.observations.len(),
        if dialects.is_empty() {
            "no dialect".to_owned()
        } else {
            dialects.join(", ")
        },
        calls.len()
    ));
    for (key, n_records) in recorded.reading.unread.iter().take(KEYS_SHOWN_MAX) {
        text.push_str(&format!(
            "nobody reads {} ({}, {n_records} records)\n",
            shown(&key.key),
            key.field
        ));
    }
    text.push_str(&format!(
        "next: correct expected.json by hand, then: spanledger dialects check --capture {}\n",
        args.folder.display()
    ));
    output::print(&text)?;
    Ok(if recorded.n_files == 0 {
        Outcome::No
    } else {
        Outcome::Done
    })
}

fn readme(args: &CaptureArgs, recorded: &Recorded) -> String {
    let reading = &recorded.reading;
    let list = |names: &mut dyn Iterator<Item = &String>| {
        let names: Vec<String> = names.filter(|name| !name.is_empty()).map(|name| shown(name)).collect();
        names.join(", ")
    };
    let name = args
        .folder
        .file_name()
        .map_or_else(|| "capture".to_owned(), |name| name.to_string_lossy().into_owned());
    let scrubbed = if args.keep_content {
        "Nothing was replaced: this capture holds what was sent."
    } else {
        "Prose over 160 bytes was replaced by filler of the same length; home folders, host names, e-mail addresses and keys \
         by other letters. Structure, names, ids, numbers, times and sizes are as received."
    };
    format!(
        "# {name}\n\
         Emitter: TODO name and version, and the packages it was installed from\n\
         Made: TODO date, operating system, how it was run (settings, prompts, which calls were made to fail)\n\
         Services: {}\n\
         Scopes: {}\n\
         Files: NNN-<signal>.pb = the OTLP/protobuf request body as received (after content-decoding); .json = an OTLP/JSON body; \
         index.jsonl = path, headers and wire size of each; expected.json = the ground truth.\n\
         {scrubbed}\n\
         Notes:\n\
         - TODO what is special: repeated counts, retries, what is missing\n",
        list(&mut reading.services.iter()),
        list(&mut reading.scopes.iter()),
    )
}

/// A name from telemetry on one line of a terminal or document.
fn shown(name: &str) -> String {
    name.chars().take(200).map(spanledger_query::format::or_space).collect()
}
