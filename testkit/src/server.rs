//! One running server: the built binary on a folder of its own, ports chosen by the system.
//!
//! Starts it, waits until it says that it is ready, talks to its ports, kills it (`SIGKILL`), stops it
//! (`SIGTERM`) and starts it again on the same folder. A server that is dropped is killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::otlp::{Body, Signal};
use crate::wait;

/// A debug build starts within seconds; `demo` is ready once it has sent and settled its days.
const READY_DEADLINE: Duration = Duration::from_secs(180);
/// An orderly stop flushes; it may take a moment on a busy machine.
const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// Any one request. Longer than everything a test asks, shorter than the test runner's patience.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);

/// Where the parts of a server listen, as `http://127.0.0.1:PORT` without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Dashboard, REST, MCP, health.
    pub http: String,
    /// OTLP over gRPC.
    pub otlp_grpc: String,
    /// OTLP over HTTP.
    pub otlp_http: String,
}

/// An answer to a request, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// Where it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("status {}: {}", self.status, self.text()))
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    addresses: Addresses,
    data: PathBuf,
    log: PathBuf,
    client: reqwest::Client,
}

impl Server {
    /// Starts `BINARY serve` on `data` and waits until it is ready.
    ///
    /// # Errors
    /// Where it ends or is not ready in time, with the end of its log.
    pub async fn start(binary: &str, data: &Path) -> Result<Self> {
        Self::start_with(binary, data, &["serve"], &[]).await
    }

    /// Starts `BINARY ARGUMENTS… --data DATA` with ports of the system's choice, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(
        binary: &str,
        data: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let beside = |suffix: &str| {
            let mut name = data.file_name().unwrap_or_default().to_os_string();
            name.push(suffix);
            data.with_file_name(name)
        };
        let (ready_file, log) = (beside(".ready.json"), beside(".log"));
        if ready_file.exists() {
            fs::remove_file(&ready_file)?;
        }
        let said = fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let child = Command::new(binary)
            .args(arguments)
            .arg("--data")
            .arg(data)
            .args([
                "--http",
                "127.0.0.1:0",
                "--otlp-grpc",
                "127.0.0.1:0",
                "--otlp-http",
                "127.0.0.1:0",
            ])
            .arg("--ready-file")
            .arg(&ready_file)
            .envs(environment.iter().copied())
            .current_dir(data.parent().unwrap_or(Path::new(".")))
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .with_context(|| format!("could not start {binary}"))?;
        let client = reqwest::Client::builder().timeout(REQUEST_DEADLINE).build()?;
        let nowhere = Addresses {
            http: String::new(),
            otlp_grpc: String::new(),
            otlp_http: String::new(),
        };
        let mut server = Self {
            child,
            addresses: nowhere,
            data: data.to_owned(),
            log,
            client,
        };
        server.addresses = server.ready(&ready_file).await?;
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its process id.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far, in all its lives on this folder.
    #[must_use]
    pub fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a body to the OTLP HTTP port.
    ///
    /// # Errors
    /// Where no answer comes. Any status is an answer.
    pub async fn post(&self, body: &Body) -> Result<Answer> {
        self.post_raw(
            body.signal,
            body.bytes.clone(),
            &[("content-type", body.encoding.content_type())],
        )
        .await
    }

    /// Sends bytes with headers to the OTLP HTTP port.
    ///
    /// # Errors
    /// Where no answer comes.
    pub async fn post_raw(&self, signal: Signal, bytes: Vec<u8>, headers: &[(&str, &str)]) -> Result<Answer> {
        let url = format!("{}/v1/{}", self.addresses.otlp_http, signal.name());
        self.send(self.client.post(url).body(bytes), headers).await
    }

    /// Sends every body, gzipped, in the order given, and insists on 200.
    ///
    /// # Errors
    /// Where one is refused.
    pub async fn post_all<'b>(&self, bodies: impl IntoIterator<Item = &'b Body>) -> Result<()> {
        for body in bodies {
            let headers = [
                ("content-type", body.encoding.content_type()),
                ("content-encoding", "gzip"),
            ];
            let answer = self.post_raw(body.signal, body.gzip()?, &headers).await?;
            ensure!(
                answer.status == 200,
                "{:?} was answered {}: {}",
                body.signal,
                answer.status,
                answer.text()
            );
        }
        Ok(())
    }

    /// A GET on the HTTP port.
    ///
    /// # Errors
    /// Where no answer comes.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(self.client.get(format!("{}{path}", self.addresses.http)), &[])
            .await
    }

    /// A POST on the HTTP port.
    ///
    /// # Errors
    /// Where no answer comes.
    pub async fn post_http(&self, path: &str, body: impl Into<Vec<u8>>, headers: &[(&str, &str)]) -> Result<Answer> {
        self.send(
            self.client
                .post(format!("{}{path}", self.addresses.http))
                .body(body.into()),
            headers,
        )
        .await
    }

    /// Any request on the HTTP port.
    ///
    /// # Errors
    /// Where no answer comes, or the method is none.
    pub async fn request(&self, method: &str, path: &str, body: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        let method = reqwest::Method::from_bytes(method.as_bytes())?;
        let request = self.client.request(method, format!("{}{path}", self.addresses.http));
        self.send(request.body(body.to_owned()), headers).await
    }

    /// The rows of a query.
    ///
    /// # Errors
    /// Where it is refused, with the server's message.
    pub async fn sql(&self, query: &str) -> Result<Vec<Map<String, Value>>> {
        let body = serde_json::json!({"query": query, "format": "json"}).to_string();
        let answer = self
            .post_http("/api/v1/sql", body, &[("content-type", "application/json")])
            .await?;
        ensure!(
            answer.status == 200,
            "`{query}` was answered {}: {}",
            answer.status,
            answer.text()
        );
        let Value::Array(rows) = answer.json()? else {
            bail!("`{query}` did not give an array: {}", answer.text())
        };
        let object = |row: Value| match row {
            Value::Object(row) => Ok(row),
            other => bail!("`{query}` gave a row that is no object: {other}"),
        };
        rows.into_iter().map(object).collect()
    }

    /// The one row of a query.
    ///
    /// # Errors
    /// Where it is refused or gives another number of rows.
    pub async fn sql_row(&self, query: &str) -> Result<Map<String, Value>> {
        let mut rows = self.sql(query).await?;
        ensure!(rows.len() == 1, "`{query}` gave {} rows, not one", rows.len());
        rows.pop().context("one row")
    }

    /// Flushes and settles everything acknowledged so far; when this returns, `calls` and `ledger` hold it.
    ///
    /// # Errors
    /// Where the server does not settle.
    pub async fn settled(&self) -> Result<Value> {
        let answer = self.post_http("/api/v1/settle", "", &[]).await?;
        ensure!(
            answer.status == 200,
            "settle was answered {}: {}",
            answer.status,
            answer.text()
        );
        answer.json()
    }

    /// Ends it at once, as a crash does: `SIGKILL`, nothing is flushed.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("could not kill the server")?;
        self.child.wait().context("could not wait for the killed server")?;
        Ok(())
    }

    /// Ends it in order: `SIGTERM`, then waits.
    ///
    /// # Errors
    /// Where it does not end in time.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        let signalled = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -TERM {}", self.child.id()))
            .status()?;
        ensure!(signalled.success(), "could not signal the server");
        wait::until("the server to stop", STOP_DEADLINE, async || {
            Ok(self.child.try_wait()?)
        })
        .await
    }

    async fn send(&self, request: reqwest::RequestBuilder, headers: &[(&str, &str)]) -> Result<Answer> {
        let request = headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value));
        let response = request.send().await?;
        let status = response.status().as_u16();
        let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect();
        Ok(Answer {
            status,
            headers,
            body: response.bytes().await?.to_vec(),
        })
    }

    /// Waits for the ready file, or for the end of the process.
    async fn ready(&mut self, ready_file: &Path) -> Result<Addresses> {
        let probe = async || {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(Err(status)));
            }
            // written under another name and renamed, so what is there is whole
            Ok(if ready_file.exists() {
                Some(Ok(serde_json::from_str(&fs::read_to_string(ready_file)?)?))
            } else {
                None
            })
        };
        let outcome = wait::until("the server to be ready", READY_DEADLINE, probe).await;
        let outcome: Result<Value, ExitStatus> = outcome.with_context(|| format!("it printed:\n{}", self.printed()))?;
        let ready = match outcome {
            Ok(ready) => ready,
            Err(status) => bail!(
                "the server ended with {status} before it was ready; it printed:\n{}",
                self.printed()
            ),
        };
        let address = |key: &str| {
            let text = ready[key]
                .as_str()
                .with_context(|| format!("the ready file names no {key}: {ready}"))?;
            let text = text.trim_end_matches('/');
            Ok::<_, anyhow::Error>(if text.contains("://") {
                text.to_owned()
            } else {
                format!("http://{text}")
            })
        };
        Ok(Addresses {
            http: address("http")?,
            otlp_grpc: address("otlp_grpc")?,
            otlp_http: address("otlp_http")?,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // best effort: it may have ended already
        let _ended = self.kill();
    }
}
