//! Standard input and output: the same front as HTTP has, for lines.
//!
//! ```text
//! stdin ─► a line, bounded ─┬─ about a task of 2025-11-25 ─► answered here ───────────────┐
//!                           └─ anything else ─► rmcp ─► completed where a list needs it ──┴─► stdout
//! ```
//!
//! A line that is too long ends the conversation: what follows it cannot be told apart. Scopes are checked where the
//! tool runs, and a lack of them is a tool's error: there is no HTTP status to challenge with.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{SinkExt, StreamExt as _};
use parking_lot::Mutex;
use rmcp::ServiceExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec, LinesCodecError};

use crate::error::{Error, ErrorKind, Result};
use crate::front;
use crate::legacy;
use crate::limits::BODY_BYTES_MAX;
use crate::server::LedgerServer;
use crate::shared::Shared;

/// Lines that wait to be written.
const LINES_WAITING: usize = 64;

/// Requests whose answers are completed, by id.
type Open = Arc<Mutex<HashMap<String, String>>>;

/// Serves one client until it closes the input.
pub(crate) async fn serve(
    shared: Shared,
    input: impl AsyncRead + Unpin + Send + 'static,
    output: impl AsyncWrite + Unpin + Send + 'static,
) -> Result<()> {
    let (inner, outer) = tokio::io::duplex(64 << 10);
    let (from_rmcp, to_rmcp) = tokio::io::split(outer);
    let (lines, written) = mpsc::channel(LINES_WAITING);
    let open = Open::default();
    let writing = tokio::spawn(write(written, output));
    let reading = tokio::spawn(read(shared.clone(), input, to_rmcp, lines.clone(), Arc::clone(&open)));
    let completing = tokio::spawn(complete(shared.clone(), from_rmcp, lines, open));
    let server = LedgerServer::new(shared).in_session();
    let served = match server.serve(tokio::io::split(inner)).await {
        Ok(running) => running
            .waiting()
            .await
            .map(|_| ())
            .map_err(|error| Error::new(ErrorKind::Internal, "the MCP conversation ended in an error", error)),
        Err(error) => Err(Error::new(
            ErrorKind::Internal,
            "the client did not start an MCP conversation; point an MCP client at `spanledger mcp`",
            error,
        )),
    };
    let read = reading.await;
    // The last answers are on their way out.
    let _ = completing.await;
    let _ = writing.await;
    served?;
    match read {
        Ok(Err(error)) => Err(Error::new(
            ErrorKind::TooLarge,
            format!("a message had more than {BODY_BYTES_MAX} bytes"),
            error,
        )),
        _ => Ok(()),
    }
}

/// Hands each line on, or answers it.
async fn read(
    shared: Shared,
    input: impl AsyncRead + Unpin,
    to_rmcp: impl AsyncWrite + Unpin,
    lines: mpsc::Sender<String>,
    open: Open,
) -> Result<(), LinesCodecError> {
    let mut input = FramedRead::new(input, LinesCodec::new_with_max_length(BODY_BYTES_MAX));
    let mut to_rmcp = FramedWrite::new(to_rmcp, LinesCodec::new());
    while let Some(line) = input.next().await {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                let _ = SinkExt::<String>::close(&mut to_rmcp).await;
                return Err(error);
            }
        };
        if line.trim().is_empty() {
            continue;
        }
        let read = match serde_json::from_str::<Value>(&line) {
            Ok(message) if message.is_object() => Ok(message),
            Ok(_) => Err(json!({ "code": -32600, "message": "a line is one JSON-RPC message" })),
            Err(error) => Err(json!({ "code": -32700, "message": format!("the line is not JSON: {error}") })),
        };
        let message = match read {
            Ok(message) => message,
            Err(error) => {
                let _ = lines
                    .send(json!({ "jsonrpc": "2.0", "error": error }).to_string())
                    .await;
                continue;
            }
        };
        if let Some(tasks) = shared.tasks() {
            let method = message["method"].as_str().unwrap_or_default();
            if front::is_legacy(&message) {
                if front::is_completed(method) {
                    open.lock().insert(message["id"].to_string(), method.to_owned());
                }
                if legacy::is_about_tasks(tasks, &message) {
                    let (tasks, principal, lines) = (tasks.clone(), shared.local().clone(), lines.clone());
                    tokio::spawn(async move {
                        if let Some(response) = legacy::answer(&tasks, &principal, &message).await {
                            let _ = lines.send(response.to_string()).await;
                        }
                    });
                    continue;
                }
            }
        }
        if to_rmcp.send(line).await.is_err() {
            break;
        }
    }
    // The other half of the pipe is still open, so that the last answers come out.
    let _ = SinkExt::<String>::close(&mut to_rmcp).await;
    Ok(())
}

/// Hands on what rmcp answers, completed where a legacy list says what runs as a task.
async fn complete(shared: Shared, from_rmcp: impl AsyncRead + Unpin, lines: mpsc::Sender<String>, open: Open) {
    let mut from_rmcp = FramedRead::new(from_rmcp, LinesCodec::new());
    while let Some(Ok(mut line)) = from_rmcp.next().await {
        if let Some(tasks) = shared.tasks().filter(|_| !open.lock().is_empty())
            && let Ok(mut message) = serde_json::from_str::<Value>(&line)
            && message.get("method").is_none()
            && let Some(method) = open.lock().remove(&message["id"].to_string())
        {
            legacy::decorate(tasks, &method, &mut message);
            line = message.to_string();
        }
        if lines.send(line).await.is_err() {
            break;
        }
    }
}

async fn write(mut lines: mpsc::Receiver<String>, output: impl AsyncWrite + Unpin) {
    let mut output = FramedWrite::new(output, LinesCodec::new());
    while let Some(line) = lines.recv().await {
        if output.send(line).await.is_err() {
            break;
        }
    }
}
