//! The peers of the OAuth tests: the authorization server, a server of ours that believes it, the Python client.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use spanledger_testkit::captures::Capture;
use spanledger_testkit::otlp::Body;
use spanledger_testkit::server::{Answer, Server};
use spanledger_testkit::{tools, wait};
use tempfile::TempDir;

use crate::support::BINARY;

/// Node.js and two providers start within seconds; a busy machine takes longer.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// Where the server finds its secret for introspection.
const SECRET_VARIABLE: &str = "SPANLEDGER_TEST_INTROSPECTION_SECRET";
/// The server's calls of itself are not what is counted here.
const UNMETERED: (&str, &str) = ("SPANLEDGER_MCP_METER", "false");
/// What the matrix asks over REST.
pub const REST: &str = "/api/v1/costs?by=model";
/// Content of a capture that only the tenant `acme` has.
pub const CAPTURE: &str = "claude-code";

/// `oauth-server.mjs`, gone when this is dropped.
pub struct Issuer {
    child: Child,
    pub facts: Value,
    client: reqwest::Client,
}

impl Issuer {
    /// Starts one; with `port` where an earlier one was, with new keys.
    pub async fn start(folder: &Path, port: Option<&str>) -> Self {
        let ready = folder.join("server.json");
        if ready.exists() {
            std::fs::remove_file(&ready).unwrap();
        }
        let log = std::fs::File::create(folder.join("issuer.log")).unwrap();
        let mut command = tools::node("oauth-server.mjs").unwrap();
        command
            .arg(folder)
            .args(port)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut child = command.spawn().unwrap();
        let facts = wait::until("the authorization server", READY_DEADLINE, async || {
            let ended = child.try_wait()?;
            assert!(
                ended.is_none(),
                "{}",
                std::fs::read_to_string(folder.join("issuer.log"))?
            );
            Ok(ready.exists().then(|| std::fs::read_to_string(&ready)).transpose()?)
        });
        let facts = serde_json::from_str(&facts.await.unwrap()).unwrap();
        Self {
            child,
            facts,
            client: reqwest::Client::new(),
        }
    }

    pub fn text(&self, name: &str) -> &str {
        self.facts[name].as_str().unwrap()
    }

    pub fn secret(&self, client: &str) -> &str {
        self.facts["secrets"][client].as_str().unwrap()
    }

    /// An access token by client credentials.
    pub async fn token(&self, client: &str, resource: &str, scope: &str) -> String {
        let form = format!(
            "grant_type=client_credentials&resource={resource}&scope={}",
            scope.replace(' ', "+")
        );
        let answer = self.post("/token", client, form).await;
        answer["access_token"]
            .as_str()
            .unwrap_or_else(|| panic!("{answer}"))
            .to_owned()
    }

    pub async fn revoke(&self, client: &str, token: &str) {
        self.post("/token/revocation", client, format!("token={token}")).await;
    }

    pub async fn post(&self, path: &str, client: &str, form: String) -> Value {
        let request = self
            .client
            .post(format!("{}{path}", self.text("issuer")))
            .basic_auth(client, Some(self.secret(client)))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let response = request.send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{path} of {client}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// A token as the issuer would never make it.
    pub async fn forged(&self, header: Value, claims: Value, with: &str) -> String {
        let body = json!({"header": header, "claims": claims, "with": with}).to_string();
        let request = self
            .client
            .post(format!("{}/test/sign", self.text("issuer")))
            .body(body);
        request.send().await.unwrap().text().await.unwrap()
    }

    pub fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        // best effort: it may have been stopped already
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// `oauth_id_jag_server.py`: an authorization server of another code base that takes ID-JAGs, gone when dropped.
pub struct IdJagServer {
    child: Child,
    pub facts: Value,
    /// Of its client `agent`.
    pub secret: &'static str,
}

impl IdJagServer {
    /// Starts one that believes the identity provider of `issuer`.
    pub async fn start(folder: &Path, issuer: &Issuer) -> Self {
        let secret = "of-the-agent-at-the-python-server";
        let ready = folder.join("id-jag.json");
        let log = std::fs::File::create(folder.join("id-jag.log")).unwrap();
        let task = json!({"idp": issuer.text("idp"), "secrets": {"agent": secret}}).to_string();
        let mut command = tools::python("oauth_id_jag_server.py").unwrap();
        command
            .arg(folder)
            .arg(task)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut child = command.spawn().unwrap();
        let facts = wait::until("the Python authorization server", READY_DEADLINE, async || {
            let ended = child.try_wait()?;
            assert!(
                ended.is_none(),
                "{}",
                std::fs::read_to_string(folder.join("id-jag.log"))?
            );
            Ok(ready.exists().then(|| std::fs::read_to_string(&ready)).transpose()?)
        });
        let facts = serde_json::from_str(&facts.await.unwrap()).unwrap();
        Self { child, facts, secret }
    }

    pub fn text(&self, name: &str) -> &str {
        self.facts[name].as_str().unwrap()
    }
}

impl Drop for IdJagServer {
    fn drop(&mut self) {
        // best effort, as for the issuer
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// `spanledger serve` with access by the tokens of one issuer.
pub struct Guarded {
    pub server: Server,
    pub folder: TempDir,
}

impl Guarded {
    pub async fn start(issuer: &Issuer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "[access]\nmode = \"required\"\n\n[[access.oauth.issuers]]\nissuer = \"{}\"\ntenant_claim = \"tenant\"\n\
             introspection = {{ client_id = \"spanledger\", client_secret_env = \"{SECRET_VARIABLE}\" }}\n",
            issuer.text("issuer")
        );
        Self::start_with(issuer, folder, &config).await
    }

    pub async fn start_with(issuer: &Issuer, folder: TempDir, config: &str) -> Self {
        let path = folder.path().join("access.toml");
        std::fs::write(&path, config).unwrap();
        let arguments = ["serve", "--config", path.to_str().unwrap()];
        let environment = [(SECRET_VARIABLE, issuer.secret("spanledger")), UNMETERED];
        let server = Server::start_with(BINARY, &folder.path().join("data"), &arguments, &environment)
            .await
            .unwrap();
        Self { server, folder }
    }

    pub fn url(&self) -> &str {
        &self.server.addresses().http
    }

    pub fn mcp_url(&self) -> String {
        format!("{}/mcp", self.url())
    }

    /// A GET with a bearer token.
    pub async fn rest(&self, token: Option<&str>) -> Answer {
        let request = reqwest::Client::new().get(format!("{}{REST}", self.url()));
        answer(
            token
                .into_iter()
                .fold(request, |request, token| request.bearer_auth(token)),
        )
        .await
    }

    /// A JSON-RPC request of the present era with a bearer token.
    pub async fn mcp(&self, token: Option<&str>, method: &str, mut parameters: Value) -> Answer {
        parameters["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
        });
        let name = parameters["name"]
            .as_str()
            .or(parameters["uri"].as_str())
            .or(parameters["taskId"].as_str());
        let name = name.unwrap_or_default().to_owned();
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).to_string();
        let mut request = reqwest::Client::new()
            .post(self.mcp_url())
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", method)
            .body(body);
        if !name.is_empty() {
            request = request.header("mcp-name", name);
        }
        answer(
            token
                .into_iter()
                .fold(request, |request, token| request.bearer_auth(token)),
        )
        .await
    }

    /// A JSON-RPC request of the 2025-11-25 era, without a session, and the answer's message.
    pub async fn legacy(&self, token: &str, method: &str, parameters: Value) -> Value {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).to_string();
        let request = reqwest::Client::new()
            .post(self.mcp_url())
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-11-25")
            .bearer_auth(token)
            .body(body);
        let answer = answer(request).await;
        let text = answer.text();
        let message = text
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .next_back()
            .unwrap_or(&text);
        serde_json::from_str(message).unwrap_or_else(|error| panic!("{error}: {} {text}", answer.status))
    }

    pub async fn call(&self, token: &str, tool: &str, arguments: Value) -> Answer {
        self.mcp(Some(token), "tools/call", json!({"name": tool, "arguments": arguments}))
            .await
    }

    /// Gives the tenant `acme` the calls of a capture, by a token that may write.
    pub async fn fill(&self, issuer: &Issuer) {
        let token = issuer.token("robot", self.url(), "telemetry:write admin").await;
        let bearer = format!("Bearer {token}");
        for Body {
            signal,
            encoding,
            bytes,
        } in Capture::load(CAPTURE).unwrap().bodies
        {
            let headers = [
                ("content-type", encoding.content_type()),
                ("authorization", bearer.as_str()),
            ];
            let answer = self.server.post_raw(signal, bytes, &headers).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        let settled = self
            .server
            .post_http("/api/v1/settle", "", &[("authorization", &bearer)])
            .await
            .unwrap();
        assert_eq!(settled.status, 200, "{}", settled.text());
    }
}

pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap().to_owned();
    Answer {
        status: response.status().as_u16(),
        headers: response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body: response.bytes().await.unwrap().to_vec(),
    }
}

/// Runs the Python client to its end.
pub async fn client(flow: &str, issuer: &Issuer, server: &Guarded, more: Value) -> Value {
    let mut task =
        json!({"server": server.url(), "as": issuer.facts, "user": "alice", "scope": "costs:read", "rest": REST});
    task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut python = tools::python("oauth_client.py").unwrap();
    let said = tools::run(python.args([flow, &task.to_string()])).await.unwrap();
    serde_json::from_str(said.lines().last().unwrap()).unwrap_or_else(|error| panic!("{flow}: {error}: {said}"))
}

/// Parameters of a challenge: `name="value"`.
pub fn parameter<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = challenge.split_once(&format!(" {name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

pub async fn peers() -> (TempDir, Issuer, Guarded) {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::start(folder.path(), None).await;
    let server = Guarded::start(&issuer).await;
    (folder, issuer, server)
}

/// The number of calls that an answer of `query_costs` has in sum.
pub fn n_calls(content: &Value) -> i64 {
    let columns: Vec<&str> = content["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let place = columns
        .iter()
        .position(|name| *name == "calls")
        .unwrap_or_else(|| panic!("{content}"));
    content["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row[place].as_i64().unwrap())
        .sum()
}

impl Guarded {
    /// The server again, on the settings and data of an earlier one.
    pub async fn restarted(folder: TempDir) -> Self {
        let path: PathBuf = folder.path().join("access.toml");
        let arguments = ["serve", "--config", path.to_str().unwrap()];
        let environment = [(SECRET_VARIABLE, "any"), UNMETERED];
        let server = Server::start_with(BINARY, &folder.path().join("data"), &arguments, &environment)
            .await
            .unwrap();
        Self { server, folder }
    }
}
