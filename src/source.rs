//! Where a question goes: a lake folder, answered in this process, or a running server.
//!
//! Both give the same JSON, so that a command prints the same whichever it asked. A folder is opened
//! read-only: committed data, no lock, beside a running server or without one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue, Request};
use bytes::Bytes;
use serde_json::Value;
use spanledger_access::Principal;
use spanledger_lake::{Lake, Positions};
use spanledger_model::Clock;
use spanledger_model::clock::SystemClock;
use spanledger_query::http::TRUNCATED_HEADER;
use spanledger_query::{Control, Engine, ServerFacts};
use tower::ServiceExt as _;

use crate::cli::Where;
use crate::config::Config;
use crate::dialects::Known;
use crate::exit::{Kind, fail};

/// Longest wait for a server to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest answer of the in-process REST interface, in bytes: far above any grouping a person reads.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A lake or a server.
pub enum Source {
    /// A folder, opened read-only.
    Lake(Box<Engine>, Principal),
    /// A server.
    Server(Remote),
}

impl Source {
    /// Opens what the command line names: `--data`, `--url`, then the environment, then the default folder.
    ///
    /// # Errors
    /// Kind invalid where there is no lake, naming what to do.
    pub async fn open(at: &Where, config: &Config) -> anyhow::Result<Self> {
        match address(at) {
            Some(url) => Ok(Self::Server(Remote::new(&url, at.api_key_file.as_deref())?)),
            None => Ok(Self::Lake(Box::new(engine(config).await?), config.principal()?)),
        }
    }
}

/// The server that a command line or the environment names, if any.
pub fn address(at: &Where) -> Option<String> {
    at.url.clone().or_else(|| {
        let env = std::env::var("SPANLEDGER_URL").ok().filter(|url| !url.is_empty());
        env.filter(|_| at.data.is_none())
    })
}

impl Source {
    /// A JSON answer of the REST interface: over HTTP from a server, from the same router in this process
    /// for a folder, so that both read a question alike.
    ///
    /// # Errors
    /// The kind and message of the answer.
    pub async fn get(&self, path: &str, query: &[(String, String)]) -> anyhow::Result<Value> {
        match self {
            Self::Server(server) => server.get(path, query).await,
            Self::Lake(engine, principal) => get_in_process(engine, principal, path, query).await,
        }
    }
}

async fn get_in_process(
    engine: &Engine,
    principal: &Principal,
    path: &str,
    query: &[(String, String)],
) -> anyhow::Result<Value> {
    let mut address = reqwest::Url::parse("http://localhost")?;
    address.set_path(path);
    if !query.is_empty() {
        address.query_pairs_mut().extend_pairs(query);
    }
    let target = match address.query() {
        Some(query) => format!("{}?{query}", address.path()),
        None => address.path().to_owned(),
    };
    let request = Request::builder().uri(target).body(Body::empty())?;
    let response = spanledger_query::router(engine.clone(), Arc::new(NoServer))
        .layer(axum::Extension(principal.clone()))
        .oneshot(request)
        .await?;
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), ANSWER_BYTES_MAX).await?;
    if !status.is_success() {
        return Err(refusal(status.as_u16(), &body, "the query engine"));
    }
    Ok(serde_json::from_slice(&body)?)
}

/// The control of a folder that no server has: it answers questions and settles nothing.
struct NoServer;

#[async_trait]
impl Control for NoServer {
    async fn settle(&self) -> spanledger_query::Result<Positions> {
        Err(spanledger_query::Error::invalid(
            "a folder opened for reading settles nothing; start `spanledger serve` on it",
        ))
    }

    fn facts(&self) -> ServerFacts {
        ServerFacts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..ServerFacts::default()
        }
    }
}

/// The error of an answer: its own kind and message, else what its status says.
fn refusal(status: u16, body: &[u8], who: &str) -> anyhow::Error {
    let answer = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let error = answer.get("error").unwrap_or(&answer);
    let kind = match error.get("kind").and_then(Value::as_str) {
        Some("corrupt") => Kind::Corrupt,
        _ => Kind::of_http_status(status),
    };
    match error.get("message").and_then(Value::as_str) {
        Some(message) => fail(kind, message),
        None => fail(
            kind,
            format!("{who} answered with status {status}; is it a spanledger server?"),
        ),
    }
}

/// An engine on a folder's committed data.
///
/// # Errors
/// Kind invalid where there is no lake in the folder, or a dialect file is wrong.
pub async fn engine(config: &Config) -> anyhow::Result<Engine> {
    let dialects = crate::dialects::registry(config)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let lake = read_only(config.data(), Arc::clone(&clock)).await?;
    Ok(
        Engine::with_dialects(lake, crate::prices::book(config)?, clock, Arc::new(Known(dialects)))?
            .with_rules(crate::allocation::rules(config)?)
            .with_policy(config.cost.attribution.value),
    )
}

/// A folder's committed data.
///
/// # Errors
/// Kind invalid where there is no lake in the folder.
pub async fn read_only(data: &Path, clock: Arc<dyn Clock>) -> anyhow::Result<Lake> {
    if !data.join("tables").is_dir() {
        return Err(fail(
            Kind::Invalid,
            format!(
                "no lake in {}; start one with `spanledger serve`, or name a folder with --data or a server with --url",
                data.display()
            ),
        ));
    }
    Ok(Lake::open_read_only(data, clock).await?)
}

/// A successful answer.
#[derive(Debug)]
pub struct Answer {
    /// Its body.
    pub body: Bytes,
    /// Cut at its row limit.
    pub is_truncated: bool,
}

/// A running server's REST interface.
#[derive(Debug, Clone)]
pub struct Remote {
    base: String,
    client: reqwest::Client,
}

impl Remote {
    /// A client of the server at `url`, which sends the API key of a file, else that of `SPANLEDGER_API_KEY`, with
    /// every request.
    ///
    /// # Errors
    /// Kind invalid for anything but an http address, or a key that cannot be read or sent.
    pub fn new(url: &str, api_key_file: Option<&Path>) -> anyhow::Result<Self> {
        let base = url.trim_end_matches('/').to_owned();
        if !["http://", "https://"].iter().any(|scheme| base.starts_with(scheme)) {
            return Err(fail(
                Kind::Invalid,
                format!("--url {url} is no http:// address; name a server such as http://127.0.0.1:8080"),
            ));
        }
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .default_headers(credential(api_key_file)?)
            .no_proxy()
            .build()?;
        Ok(Self { base, client })
    }

    /// The server's address without a slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The HTTP client.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// A JSON answer.
    ///
    /// # Errors
    /// Kind busy where the server cannot be reached; else the kind and message of its answer.
    pub async fn get(&self, path: &str, query: &[(String, String)]) -> anyhow::Result<Value> {
        let request = self.client.get(format!("{}{path}", self.base)).query(query);
        let answer = self.answer(request).await?;
        serde_json::from_slice(&answer.body).map_err(|_| self.not_ours())
    }

    /// A POST with a JSON body.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.answer(self.client.post(format!("{}{path}", self.base)).json(body))
            .await
    }

    /// Sends a request and reads the body of a success, or the error of anything else.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn answer(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Answer> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let is_truncated = response.headers().contains_key(TRUNCATED_HEADER);
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            return Ok(Answer { body, is_truncated });
        }
        Err(refusal(status.as_u16(), &body, &self.base))
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        let why = if error.is_connect() {
            "nothing answers there"
        } else {
            "the connection failed"
        };
        fail(
            Kind::Busy,
            format!(
                "cannot ask {}: {why}; start it with `spanledger serve`, or use --data",
                self.base
            ),
        )
    }

    fn not_ours(&self) -> anyhow::Error {
        fail(
            Kind::Invalid,
            format!("{} answered no JSON; is it a spanledger server?", self.base),
        )
    }
}

/// The header that carries the API key, if there is one. Messages name where it was to come from, never the key.
fn credential(api_key_file: Option<&Path>) -> anyhow::Result<HeaderMap> {
    let (key, from) = match api_key_file {
        Some(path) => {
            let from = format!("--api-key-file {}", path.display());
            let text = std::fs::read_to_string(path)
                .map_err(|error| fail(Kind::Invalid, format!("{from} cannot be read: {error}")))?;
            (Some(text), from)
        }
        None => (
            std::env::var("SPANLEDGER_API_KEY").ok(),
            "SPANLEDGER_API_KEY".to_owned(),
        ),
    };
    let mut headers = HeaderMap::new();
    let key = key.as_deref().map(str::trim).filter(|key| !key.is_empty());
    if let Some(key) = key {
        let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| {
            fail(
                Kind::Invalid,
                format!("{from} holds no API key: it is one line of letters and digits"),
            )
        })?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    } else if api_key_file.is_some() {
        return Err(fail(
            Kind::Invalid,
            format!("{from} is empty; write the API key into it"),
        ));
    }
    Ok(headers)
}

/// The folder of a command that has `--data` only.
pub fn folder(flag: Option<&PathBuf>, config: &Config) -> PathBuf {
    flag.cloned().unwrap_or_else(|| config.data().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_server_has_an_http_address_and_a_key_file_is_read_and_kept_quiet() {
        assert_eq!(
            Remote::new("http://127.0.0.1:8080/", None).unwrap().base(),
            "http://127.0.0.1:8080"
        );
        assert!(Remote::new("127.0.0.1:8080", None).is_err());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(
            credential(Some(&path))
                .unwrap_err()
                .to_string()
                .contains("--api-key-file")
        );
        std::fs::write(&path, "sl_a_b_c\n").unwrap();
        let headers = credential(Some(&path)).unwrap();
        assert_eq!(headers[AUTHORIZATION], "Bearer sl_a_b_c");
        assert!(!format!("{headers:?} {:?}", Remote::new("http://[::1]", Some(&path)).unwrap()).contains("sl_a"));
        for wrong in ["", "sl_a\nsl_b"] {
            std::fs::write(&path, wrong).unwrap();
            let error = credential(Some(&path)).unwrap_err();
            assert!(!error.to_string().contains("sl_"), "{error}");
            assert_eq!(crate::exit::exit_code(&error), crate::exit::INVALID);
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_busy_and_says_what_to_do() {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let error = Remote::new(&format!("http://127.0.0.1:{port}"), None)
            .unwrap()
            .get("/api/v1/status", &[])
            .await
            .unwrap_err();
        assert_eq!(crate::exit::exit_code(&error), crate::exit::BUSY);
        assert!(error.to_string().contains("spanledger serve"), "{error}");
    }

    #[tokio::test]
    async fn a_folder_without_a_lake_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let flags = crate::config::Flags {
            data: Some(folder.path().to_owned()),
            ..crate::config::Flags::default()
        };
        let error = engine(&Config::load(flags).unwrap()).await.err().unwrap();
        assert_eq!(crate::exit::exit_code(&error), crate::exit::INVALID);
        assert!(error.to_string().contains("--data"), "{error}");
    }
}
