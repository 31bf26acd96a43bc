//! What every module of the suite needs: the binary, a server on a fresh folder, numbers out of rows.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Map, Value};
use spanledger_testkit::server::Server;
use tempfile::TempDir;

/// The built binary.
pub const BINARY: &str = env!("CARGO_BIN_EXE_spanledger");

/// What is charged and to whom: the net of each kind of line, however many lines it took.
pub const LEDGER: &str =
    "SELECT call_id, session_id, service, model, cause, server, tool, history, touch, bucket, method,
    SUM(tokens) AS tokens, SUM(n_calls) AS n_calls, SUM(effective_cost) AS cost FROM ledger
    GROUP BY call_id, session_id, service, model, cause, server, tool, history, touch, bucket, method
    HAVING SUM(tokens) <> 0 OR SUM(effective_cost) <> 0
    ORDER BY call_id, session_id, service, model, cause, server, tool, history, touch, bucket, method";

/// A server and the folder it lives in, both gone when this is dropped.
pub struct TestServer {
    server: Server,
    folder: TempDir,
}

impl TestServer {
    /// `spanledger serve` on a fresh folder.
    pub async fn start() -> Self {
        Self::start_with(&["serve"]).await
    }

    /// `spanledger ARGUMENTS…` on a fresh folder.
    pub async fn start_with(arguments: &[&str]) -> Self {
        Self::start_in(arguments, &[]).await
    }

    /// `spanledger ARGUMENTS…` on a fresh folder, with settings in its environment.
    pub async fn start_in(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start_with(BINARY, &folder.path().join("data"), arguments, environment)
            .await
            .unwrap();
        Self { server, folder }
    }

    /// `spanledger serve` on the folder of an earlier server.
    pub async fn on(folder: TempDir) -> Self {
        let server = Server::start(BINARY, &folder.path().join("data")).await.unwrap();
        Self { server, folder }
    }

    /// The server killed (if it still runs) and started again on the same folder.
    pub async fn restarted(mut self) -> Self {
        self.server.kill().unwrap();
        self.server = Server::start(BINARY, &self.folder.path().join("data")).await.unwrap();
        self
    }

    /// The server and the folder, apart: to stop the one and look at the other.
    pub fn into_parts(self) -> (Server, TempDir) {
        (self.server, self.folder)
    }
}

impl Deref for TestServer {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for TestServer {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// The data folder of a server started by [`TestServer`].
pub fn data_of(folder: &TempDir) -> PathBuf {
    folder.path().join("data")
}

/// Runs the binary to its end in `folder`, without standard input.
pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Runs the binary, insists on exit 0 and returns its standard output.
pub fn run_ok(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{arguments:?} ended with {}: {complaint}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}

/// An integer of a row; NULL is 0, as in a sum over no rows.
pub fn int(row: &Map<String, Value>, column: &str) -> i64 {
    match &row[column] {
        Value::Null => 0,
        Value::Number(number) => number.as_i64().unwrap(),
        other => panic!("{column} is {other}, not an integer"),
    }
}

/// An exact decimal of a row, as text without trailing zeros; NULL stays `None`.
pub fn decimal(row: &Map<String, Value>, column: &str) -> Option<String> {
    match &row[column] {
        Value::Null => None,
        Value::String(text) => Some(plain(text)),
        other => panic!("{column} is {other}, not a decimal as text"),
    }
}

/// A decimal without trailing zeros: `0.05130` is `0.0513`, `-0.0` is `0`.
pub fn plain(text: &str) -> String {
    let trimmed = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    };
    match trimmed {
        "" | "-" | "-0" => "0".to_owned(),
        other => other.to_owned(),
    }
}
