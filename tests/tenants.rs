//! No byte of one tenant reaches another (S4): every route of the running server, by every kind of credential.
//!
//! The routes are those that the server lists itself, from the tables its routers are built of, so a new one is in
//! the matrix by itself. Two tenants send telemetry in which every text holds their canary; whatever comes back, in
//! bodies, headers, errors and metrics, may hold the canary of the asker's tenant only, and of a team-filtered key the
//! canary of its team only.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use spanledger_testkit::otlp::{Body, Encoding, Signal};
use spanledger_testkit::server::Answer;
use spanledger_testkit::{tools, wait};

use crate::support::{TestServer, data_of, run_ok};

/// Whom a credential stands for, and what it may do.
struct Class {
    name: &'static str,
    authorization: Option<String>,
    scopes: &'static [&'static str],
    /// Canaries that this credential may never see.
    hidden: &'static [&'static str],
}

const ADMIN: &[&str] = &[
    "telemetry:write",
    "costs:read",
    "payloads:read",
    "sql:read",
    "finops:write",
    "admin",
];
const ALL: &[&str] = &["canary-alfa", "canary-bravo"];
/// Telemetry, but not the names of its own tenant and key.
const OF_TEAMS: &[&str] = &["canary-bravo", "canary-alfa-one", "canary-alfa-two"];
const OF_BRAVO: &[&str] = &["canary-bravo"];
const OF_ALFA: &[&str] = &["canary-alfa"];
const OF_OTHERS: &[&str] = &["canary-bravo", "canary-alfa-two"];

/// Traces of the three teams.
const TRACES: [(&str, &str, &str); 3] = [
    ("alfa", "one", "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"),
    ("alfa", "two", "a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2"),
    ("bravo", "one", "b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1"),
];

/// A server that asks who everybody is, its keys, and two tenants' telemetry in it.
struct Tenants {
    server: TestServer,
    classes: Vec<Class>,
    /// Things that have an id, of both tenants: traces, calls, reports, a key.
    ids: Vec<String>,
    /// The month that it all was in.
    period: Value,
}

/// Makes a key on the command line and gives back its id and itself.
fn key(folder: &Path, tenant: &str, role: &str, team: Option<&str>) -> (String, String) {
    let (data, tenant) = (folder.to_str().unwrap(), format!("canary-{tenant}"));
    let name = format!("{tenant}-key-{role}");
    let mut arguments = vec!["keys", "create", "--data", data, "--tenant", &tenant, "--role", role];
    arguments.extend(["--name", &name, "--format", "json"]);
    arguments.extend(team.iter().flat_map(|team| ["--team", team]));
    let said: Value = serde_json::from_str(&run_ok(folder.parent().unwrap(), &arguments)).unwrap();
    let text = |key: &str| said[key].as_str().unwrap().to_owned();
    (text("id"), text("key"))
}

fn attribute(key: &str, value: impl Into<Value>) -> Value {
    json!({ "key": key, "value": value.into() })
}

fn text(key: &str, value: &str) -> Value {
    attribute(key, json!({ "stringValue": value }))
}

/// One model call and one tool call of a team, with its canary in every text, and a log record.
fn telemetry(tenant: &str, team: &str, trace: &str) -> [Body; 2] {
    let canary = |what: &str| format!("canary-{tenant}-{team}-{what}");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    // longer than an attribute may be, so it is a row of `payloads`
    let prompt = format!("{} {}", canary("prompt"), "x".repeat(40_000));
    let message = json!([{"role": "user", "parts": [{"type": "text", "content": prompt}]}]).to_string();
    let span = |id: &str, name: &str, attributes: Value| {
        json!({
            "traceId": trace, "spanId": id, "name": name, "kind": 3,
            "startTimeUnixNano": (now - 2_000_000_000).to_string(), "endTimeUnixNano": now.to_string(),
            "attributes": attributes,
            "status": {"code": 2, "message": canary("failure")},
            "events": [{"name": canary("event"), "timeUnixNano": now.to_string()}],
        })
    };
    let resource = json!({"attributes": [
        text("service.name", &canary("service")),
        text("team", &format!("canary-{tenant}-{team}")),
        text("project", &canary("project")),
        text("host.name", &canary("host")),
    ]});
    let model = json!([
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.provider.name", "openai"),
        text("gen_ai.request.model", "gpt-5-mini"),
        text("gen_ai.conversation.id", &canary("session")),
        text("gen_ai.agent.name", &canary("agent")),
        text("gen_ai.input.messages", &message),
        text("user.id", &canary("user")),
        text("error.type", &canary("error")),
        attribute("gen_ai.usage.input_tokens", json!({"intValue": "1200"})),
        attribute("gen_ai.usage.output_tokens", json!({"intValue": "80"})),
    ]);
    let tool = json!([
        text("mcp.method.name", "tools/call"),
        text("gen_ai.tool.name", &canary("tool")),
        text("mcp.session.id", &canary("mcp-session")),
        text("server.address", &canary("server")),
        text("gen_ai.tool.call.result", &canary("result")),
    ]);
    let spans = json!([
        span("c0c0c0c0c0c0c0c0", &canary("span"), model),
        span("d0d0d0d0d0d0d0d0", &format!("tools/call {}", canary("tool")), tool),
    ]);
    let log = json!({
        "timeUnixNano": now.to_string(), "traceId": trace, "spanId": "c0c0c0c0c0c0c0c0",
        "severityText": "ERROR", "body": {"stringValue": canary("log")},
    });
    let traces = json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]});
    let logs = json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [log]}]}]});
    [(Signal::Traces, traces), (Signal::Logs, logs)].map(|(signal, body)| Body {
        signal,
        encoding: Encoding::Json,
        bytes: body.to_string().into_bytes(),
    })
}

impl Tenants {
    async fn start() -> Self {
        let server = TestServer::start_with(&["serve", "--access", "required"]).await;
        let data = server.data().to_owned();
        let make = |tenant, role, team| key(&data, tenant, role, team);
        let (revoked_id, revoked) = make("alfa", "admin", None);
        let revoke = ["keys", "revoke", &revoked_id, "--data", data.to_str().unwrap()];
        run_ok(data.parent().unwrap(), &revoke);
        let (_, ingest) = make("alfa", "ingest", None);
        let (_, ingest_bravo) = make("bravo", "ingest", None);
        let (_, viewer) = make("alfa", "viewer", None);
        let (_, analyst) = make("alfa", "analyst", None);
        let (_, filtered) = make("alfa", "viewer", Some("canary-alfa-one"));
        let (_, filtered_analyst) = make("alfa", "analyst", Some("canary-alfa-one"));
        let (_, alfa) = make("alfa", "admin", None);
        let (bravo_id, bravo) = make("bravo", "admin", None);
        let class = |name, key: Option<&str>, scopes, hidden| Class {
            name,
            authorization: key.map(|key| format!("Bearer {key}")),
            scopes,
            hidden,
        };
        let mut broken = analyst.clone();
        broken.replace_range(20..21, if &analyst[20..21] == "x" { "y" } else { "x" });
        let classes = vec![
            class("none", None, &[], ALL),
            class("garbage", Some("not-a-token"), &[], ALL),
            class("a key with a typo", Some(&broken), &[], ALL),
            class("a revoked key", Some(&revoked), &[], ALL),
            class("ingest", Some(&ingest), &["telemetry:write"], OF_TEAMS),
            class("viewer", Some(&viewer), &["costs:read"], OF_BRAVO),
            class("analyst", Some(&analyst), &["costs:read", "sql:read"], OF_BRAVO),
            class("viewer of a team", Some(&filtered), &["costs:read"], OF_OTHERS),
            class(
                "analyst of a team",
                Some(&filtered_analyst),
                &["costs:read", "sql:read"],
                OF_OTHERS,
            ),
            class("admin", Some(&alfa), ADMIN, OF_BRAVO),
            class("admin of the other tenant", Some(&bravo), ADMIN, OF_ALFA),
        ];
        for (tenant, team, trace) in TRACES {
            let key = if tenant == "alfa" { &ingest } else { &ingest_bravo };
            for body in telemetry(tenant, team, trace) {
                let bearer = format!("Bearer {key}");
                let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
                let answer = server.post_raw(body.signal, body.bytes, &headers).await.unwrap();
                assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
            }
        }
        let mut tenants = Self {
            server,
            classes,
            ids: TRACES.iter().map(|(_, _, trace)| (*trace).to_owned()).collect(),
            period: Value::Null,
        };
        let settled = tenants.ask("admin", "POST", "/api/v1/settle", "").await;
        assert_eq!(settled.status, 200, "{}", settled.text());
        for admin in ["admin", "admin of the other tenant"] {
            let calls = tenants.sql(admin, "SELECT call_id FROM calls").await;
            assert_eq!(calls.status, 200, "{}", calls.text());
            let calls = calls.json().unwrap();
            let calls = calls.as_array().unwrap();
            assert!(calls.len() >= 2, "{calls:?}");
            tenants.ids.push(calls[0]["call_id"].as_str().unwrap().to_owned());
            let period = tenants.sql(admin, "SELECT MIN(period) AS period FROM ledger").await;
            tenants.period = period.json().unwrap()[0]["period"].clone();
            let report = body_of("POST", "/api/v1/reports", &tenants.period);
            let report = tenants.ask(admin, "POST", "/api/v1/reports", &report).await;
            assert!(report.status < 300, "{}", report.text());
            tenants
                .ids
                .push(report.json().unwrap()["id"].as_str().unwrap().to_owned());
        }
        tenants.ids.push(bravo_id);
        tenants
    }

    fn class(&self, name: &str) -> &Class {
        self.classes.iter().find(|class| class.name == name).unwrap()
    }

    async fn ask(&self, class: &str, method: &str, path: &str, body: &str) -> Answer {
        self.ask_as(self.class(class), method, path, body, &[]).await
    }

    /// Asks, and looks for what the asker may not see in whatever comes back.
    async fn ask_as(&self, class: &Class, method: &str, path: &str, body: &str, more: &[(&str, &str)]) -> Answer {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(class.authorization.as_deref().map(|value| ("authorization", value)));
        headers.extend(more);
        let answer = self.server.request(method, path, body, &headers).await.unwrap();
        for canary in class.hidden {
            let in_body = answer.body.windows(canary.len()).any(|part| part == canary.as_bytes());
            let in_headers = answer.headers.iter().any(|(_, value)| value.contains(canary));
            assert!(
                !in_body && !in_headers,
                "{} was shown {canary} by {method} {path} {body}: {} {:?} {}",
                class.name,
                answer.status,
                answer.headers,
                answer.text()
            );
        }
        answer
    }

    async fn sql(&self, class: &str, query: &str) -> Answer {
        let body = json!({"query": query, "format": "json"}).to_string();
        self.ask(class, "POST", "/api/v1/sql", &body).await
    }

    /// One message of the 2026-07-28 protocol.
    async fn mcp(&self, class: &Class, method: &str, mut parameters: Value) -> Answer {
        let name = ["name", "uri"]
            .iter()
            .find_map(|key| parameters[*key].as_str().map(str::to_owned));
        parameters["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "tenants", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).to_string();
        let mut headers = vec![
            ("accept", "application/json, text/event-stream"),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", method),
        ];
        headers.extend(name.as_deref().map(|name| ("mcp-name", name)));
        self.ask_as(class, "POST", "/mcp", &body, &headers).await
    }
}

/// The pattern of a path with `id` for each of its parameters.
fn filled(path: &str, id: &str) -> String {
    let part = |part| if str::starts_with(part, '{') { id } else { part };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// What a route takes. One that takes something has to be here, so that it is asked for more than an error.
fn body_of(method: &str, path: &str, period: &Value) -> String {
    let body = match path {
        "/api/v1/sql" => json!({"query": "SELECT * FROM calls"}),
        "/api/v1/keys" => json!({"name": "another", "role": "viewer"}),
        "/api/v1/what-if" => json!({"scenarios": [{"processing": "batch"}], "by": ["team", "tool"]}),
        "/api/v1/reports" => json!({"kind": "costs", "period": period, "by": "team,tool", "format": "csv"}),
        "/api/v1/budgets/{name}" => json!({"amount": "1"}),
        "/api/v1/allocation/rules/{name}" => json!({"match": {"service": "*"}, "set": {"team": "x"}}),
        "/mcp" | "/api/v1/session" | "/api/v1/settle" => return String::new(),
        _ => {
            assert!(
                !["POST", "PUT"].contains(&method),
                "no body for {method} {path} here: add one"
            );
            return String::new();
        }
    };
    body.to_string()
}

/// What a route answers to a credential: its rule, read independently of the server.
fn check_status(class: &Class, method: &str, path: &str, needs: &str, answer: &Answer) {
    let place = format!(
        "{} asks {method} {path} ({needs}): {} {}",
        class.name,
        answer.status,
        answer.text()
    );
    let is_known = !class.scopes.is_empty();
    match needs {
        "public" => assert!(![401, 403, 500].contains(&answer.status), "{place}"),
        _ if !is_known => {
            assert_eq!(answer.status, 401, "{place}");
            let challenge = answer.header("www-authenticate").unwrap_or_default();
            assert!(challenge.starts_with("Bearer "), "{place}: {challenge}");
            let is_told = challenge.contains("error=\"invalid_token\"");
            assert_eq!(is_told, class.authorization.is_some(), "{place}: {challenge}");
            assert_eq!(answer.json().unwrap()["error"]["kind"], "unauthenticated", "{place}");
        }
        scope if scope != "credential" && !class.scopes.contains(&scope) => {
            assert_eq!(answer.status, 403, "{place}");
            let challenge = answer.header("www-authenticate").unwrap_or_default();
            let names_scope = challenge.contains("error=\"insufficient_scope\"") && challenge.contains(scope);
            assert!(names_scope, "{place}: {challenge}");
            assert_eq!(answer.json().unwrap()["error"]["kind"], "forbidden", "{place}");
        }
        // what is about the whole tenant is not for those who see a part of it, and no other scope would help
        _ if answer.status == 403 && class.name.ends_with("of a team") => {
            assert!(answer.header("www-authenticate").is_none(), "{place}");
        }
        _ => assert!(![401, 403, 500].contains(&answer.status), "{place}"),
    }
}

#[tokio::test]
async fn every_route_answers_every_credential_by_its_rule_and_with_no_other_tenants_bytes() {
    let tenants = Tenants::start().await;
    let index = tenants.ask("admin", "GET", "/api/v1", "").await.json().unwrap();
    let routes = index["routes"].as_array().unwrap();
    assert!(routes.len() >= 30, "{index}");
    let mut n_asked = 0;
    for route in routes {
        let [method, path, needs] = ["method", "path", "needs"].map(|key| route[key].as_str().unwrap());
        let methods = if method == "*" {
            vec!["GET", "POST", "DELETE"]
        } else {
            vec![method]
        };
        let paths: Vec<_> = match path.contains('{') {
            true => tenants.ids.iter().map(|id| filled(path, id)).collect(),
            false => vec![path.to_owned()],
        };
        let body = body_of(method, path, &tenants.period);
        for (method, path) in methods
            .iter()
            .flat_map(|method| paths.iter().map(move |path| (*method, path)))
        {
            // the one route that would end a credential of this test
            let is_own_key = method == "DELETE" && path.starts_with("/api/v1/keys/");
            for class in &tenants.classes {
                // who is nobody is refused before the path matters
                if class.scopes.is_empty() && *path != paths[0] {
                    continue;
                }
                if is_own_key && class.name == "admin of the other tenant" {
                    continue;
                }
                let answer = tenants.ask_as(class, method, path, &body, &[]).await;
                check_status(class, method, path, needs, &answer);
                if is_own_key && class.name == "admin" {
                    assert_eq!(
                        answer.status,
                        404,
                        "another tenant's key is not there: {}",
                        answer.text()
                    );
                }
                n_asked += 1;
            }
        }
        // a method without a rule is no way around it
        for class in &tenants.classes {
            let answer = tenants.ask_as(class, "PATCH", &paths[0], "", &[]).await;
            assert!(answer.status >= 400, "{}: PATCH {path}: {}", class.name, answer.status);
        }
    }
    assert!(n_asked > 300, "{n_asked}");
}

#[tokio::test]
async fn questions_exports_and_errors_show_the_askers_tenant_and_team_only() {
    let tenants = Tenants::start().await;
    let readers: Vec<_> = tenants
        .classes
        .iter()
        .filter(|class| class.scopes.contains(&"costs:read"))
        .collect();
    let dimensions = "team,project,tool,server,agent,session,user,service,model";
    let mut seen = std::collections::BTreeMap::<&str, usize>::new();
    for class in readers {
        let mut paths: Vec<String> = dimensions
            .split(',')
            .map(|dimension| format!("/api/v1/costs?by={dimension}"))
            .collect();
        for format in ["json", "csv", "ndjson", "arrow"] {
            paths.push(format!("/api/v1/costs?by=team&format={format}"));
            paths.push(format!("/api/v1/calls?limit=50&format={format}"));
        }
        paths.extend(["overview", "coverage", "spend", "status", "prices"].map(|path| format!("/api/v1/{path}")));
        for path in paths {
            let answer = tenants.ask_as(class, "GET", &path, "", &[]).await;
            assert!(answer.status < 500, "{path}: {}", answer.text());
            *seen.entry(class.name).or_default() += answer.text().matches("canary-").count();
        }
        if !class.scopes.contains(&"sql:read") {
            continue;
        }
        let tables = tenants
            .sql(class.name, "SELECT table_name FROM information_schema.tables")
            .await;
        let tables = tables.json().unwrap();
        let tables: Vec<&str> = tables
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|row| row["table_name"].as_str())
            .collect();
        assert!(tables.contains(&"calls") && tables.contains(&"spans"), "{tables:?}");
        let mut queries: Vec<String> = tables.iter().map(|table| format!("SELECT * FROM {table}")).collect();
        let other = if class.name == "admin of the other tenant" {
            "alfa"
        } else {
            "bravo"
        };
        queries.extend([
            format!("SELECT count(*) AS n FROM spans WHERE tenant = concat('canary', '-{other}')"),
            format!("SELECT * FROM calls WHERE tenant = concat('canary', '-{other}') OR true"),
            "SELECT tenant, team, count(*) AS n FROM calls GROUP BY tenant, team".to_owned(),
            "SELECT a.* FROM calls a CROSS JOIN calls b".to_owned(),
            "SELECT nothing FROM calls".to_owned(),
            "SELECT CAST(team AS BIGINT) FROM calls".to_owned(),
            "EXPLAIN SELECT * FROM spans".to_owned(),
            "EXPLAIN ANALYZE SELECT * FROM spans".to_owned(),
        ]);
        let exports = ["csv", "arrow", "parquet"].map(|format| ("SELECT * FROM calls", format));
        for (query, format) in queries.iter().map(|query| (query.as_str(), "json")).chain(exports) {
            let body = json!({"query": query, "format": format}).to_string();
            let answer = tenants.ask_as(class, "POST", "/api/v1/sql", &body, &[]).await;
            assert!(answer.status < 500, "{query}: {}", answer.text());
            *seen.entry(class.name).or_default() += answer.text().matches("canary-").count();
        }
        let n = tenants.sql(class.name, &queries[tables.len()]).await.json().unwrap();
        assert_eq!(n[0]["n"], 0, "{}: {n}", class.name);
    }
    // each reader sees its own, or the search above proves nothing
    assert_eq!(seen.len(), 6, "{seen:?}");
    assert!(seen.values().all(|n| *n > 20), "{seen:?}");
    let metrics = tenants.ask("admin", "GET", "/metrics", "").await;
    assert_eq!(metrics.status, 200);
    assert!(
        !metrics.text().contains("canary"),
        "a tenant's text is a label: {}",
        metrics.text()
    );
    assert!(
        !tenants.server.printed().contains("canary"),
        "the log: {}",
        tenants.server.printed()
    );
    // texts of prompts need their own scope, in SQL as well
    let texts = "SELECT * FROM payloads";
    assert!(
        tenants
            .sql("admin", texts)
            .await
            .text()
            .contains("canary-alfa-two-prompt")
    );
    assert!(!tenants.sql("analyst", texts).await.text().contains("-prompt"));
}

#[tokio::test]
async fn tools_resources_and_prompts_show_the_askers_tenant_and_team_only() {
    let tenants = Tenants::start().await;
    let arguments = |tool: &str, id: &str| match tool {
        "query_costs" => json!({"by": ["team", "tool"]}),
        "describe_data" => json!({"dimension": "team"}),
        "run_sql" => json!({"query": "SELECT team, service FROM calls"}),
        "inspect_trace" => json!({"id": id}),
        "create_report" => json!({"format": "csv"}),
        _ => json!({}),
    };
    let readers: Vec<_> = tenants
        .classes
        .iter()
        .filter(|class| class.scopes.contains(&"costs:read"))
        .collect();
    for class in readers {
        let listed = tenants.mcp(class, "tools/list", json!({})).await.json().unwrap();
        let tools: Vec<_> = listed["result"]["tools"]
            .as_array()
            .unwrap_or_else(|| panic!("{listed}"))
            .clone();
        assert!(tools.len() >= 3, "{listed}");
        let mut n_own = 0;
        for tool in tools.iter().filter_map(|tool| tool["name"].as_str()) {
            for id in &tenants.ids {
                let call = json!({"name": tool, "arguments": arguments(tool, id)});
                let answer = tenants.mcp(class, "tools/call", call).await;
                assert!(answer.status < 500, "{tool}: {}", answer.text());
                n_own += answer.text().matches("canary-").count();
                let is_refused = tool == "run_sql" && !class.scopes.contains(&"sql:read");
                assert_eq!(
                    answer.status == 403,
                    is_refused || is_write(tool, class),
                    "{}: {tool}",
                    class.name
                );
                if tool != "inspect_trace" {
                    break;
                }
            }
        }
        assert!(n_own > 0, "{} saw nothing of its own", class.name);
        let listed = tenants.mcp(class, "resources/list", json!({})).await.json().unwrap();
        let listed = listed["result"]["resources"].as_array().cloned().unwrap_or_default();
        let uris = listed
            .iter()
            .filter_map(|resource| resource["uri"].as_str().map(str::to_owned));
        let made = ["traces", "reports", "tasks"]
            .iter()
            .flat_map(|kind| tenants.ids.iter().map(move |id| format!("spanledger://{kind}/{id}")));
        let dimensions = ["team", "tool", "session"].map(|name| format!("spanledger://dimensions/{name}"));
        for uri in uris.chain(made).chain(dimensions) {
            let answer = tenants.mcp(class, "resources/read", json!({"uri": uri})).await;
            assert!(answer.status < 500, "{uri}: {}", answer.text());
        }
        let prompts = tenants.mcp(class, "prompts/list", json!({})).await.json().unwrap();
        for prompt in prompts["result"]["prompts"].as_array().cloned().unwrap_or_default() {
            let request = json!({"name": prompt["name"], "arguments": {}});
            tenants.mcp(class, "prompts/get", request).await;
        }
        let completion = json!({
            "ref": {"type": "ref/resource", "uri": "spanledger://dimensions/{name}"},
            "argument": {"name": "name", "value": ""},
        });
        tenants.mcp(class, "completion/complete", completion).await;
    }
    for class in tenants.classes.iter().filter(|class| class.scopes.is_empty()) {
        let answer = tenants.mcp(class, "tools/list", json!({})).await;
        assert_eq!(answer.status, 401, "{}: {}", class.name, answer.text());
        assert!(answer.header("www-authenticate").is_some(), "{}", class.name);
    }
}

/// Tools that change something, which readers may not.
fn is_write(tool: &str, class: &Class) -> bool {
    ["set_budget", "set_allocation_rule"].contains(&tool) && !class.scopes.contains(&"finops:write")
}

#[tokio::test]
async fn only_a_key_that_may_write_sends_telemetry_and_only_into_its_own_tenant() {
    let tenants = Tenants::start().await;
    let trace = "e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5";
    for class in &tenants.classes {
        let [body, _] = telemetry("nobody", "none", trace);
        let mut headers = vec![("content-type", "application/json"), ("x-tenant", "canary-bravo")];
        headers.extend(class.authorization.as_deref().map(|value| ("authorization", value)));
        let answer = tenants
            .server
            .post_raw(body.signal, body.bytes, &headers)
            .await
            .unwrap();
        let expected = match class.scopes {
            [] => 401,
            scopes if scopes.contains(&"telemetry:write") => 200,
            _ => 403,
        };
        assert_eq!(answer.status, expected, "{}: {}", class.name, answer.text());
        if expected != 200 {
            let status = answer.json().unwrap();
            assert_eq!(status["code"], if expected == 401 { 16 } else { 7 }, "{status}");
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(challenge.contains("telemetry:write"), "{challenge}");
        }
        // over gRPC alike
        let grpc = spanledger_testkit::grpc::GrpcClient::connect(&tenants.server.addresses().otlp_grpc)
            .await
            .unwrap();
        let grpc = match &class.authorization {
            Some(value) => grpc.with_authorization(value),
            None => grpc,
        };
        let code = grpc.export(Default::default()).await.err().map(|status| status.code());
        let expected = match expected {
            401 => Some(spanledger_testkit::grpc::Code::Unauthenticated),
            403 => Some(spanledger_testkit::grpc::Code::PermissionDenied),
            _ => None,
        };
        assert_eq!(code, expected, "{}", class.name);
    }
    // a page of another site writes nothing, whatever it knows
    let [body, _] = telemetry("nobody", "none", trace);
    let ingest = tenants.class("ingest").authorization.clone().unwrap();
    let headers = [
        ("content-type", "application/json"),
        ("authorization", ingest.as_str()),
        ("origin", "https://evil.example"),
    ];
    let answer = tenants
        .server
        .post_raw(body.signal, body.bytes, &headers)
        .await
        .unwrap();
    assert_eq!(answer.status, 403, "{}", answer.text());
}

#[tokio::test]
async fn a_session_lives_as_long_as_its_key_and_changes_nothing_for_another_site() {
    let server = TestServer::start_with(&["serve", "--access", "required"]).await;
    let data = server.data().to_owned();
    let (id, key) = key(&data, "alfa", "admin", None);
    let origin = server.addresses().http.clone();
    let page = ("origin", origin.as_str());
    let start = |key: &str| json!({ "key": key }).to_string();
    let refused = server
        .post_http("/api/v1/session", start("sl_wrong"), &[page])
        .await
        .unwrap();
    assert_eq!(refused.status, 401, "{}", refused.text());
    let foreign = [("origin", "http://127.0.0.1:1")];
    let refused = server
        .post_http("/api/v1/session", start(&key), &foreign)
        .await
        .unwrap();
    assert_eq!(
        refused.status, 403,
        "another program's page on this machine signs nobody in"
    );
    let started = server.post_http("/api/v1/session", start(&key), &[page]).await.unwrap();
    assert_eq!(started.status, 201, "{}", started.text());
    assert_eq!(started.json().unwrap()["role"], "admin");
    let cookie = started.header("set-cookie").unwrap().to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    assert!(!started.text().contains(&key) && !cookie.contains(&key));
    let cookie = ("cookie", cookie.split(';').next().unwrap());
    let who = server.request("GET", "/api/v1/session", "", &[cookie]).await.unwrap();
    assert_eq!(who.json().unwrap()["tenant"], "canary-alfa");
    // reading needs the cookie alone, a change the server's own page
    let settle = async |headers: &[(&str, &str)]| {
        server
            .request("POST", "/api/v1/settle", "", headers)
            .await
            .unwrap()
            .status
    };
    assert_eq!(settle(&[cookie]).await, 403);
    assert_eq!(settle(&[cookie, foreign[0]]).await, 403);
    assert_eq!(settle(&[cookie, page]).await, 200);
    // a cookie is no credential of other programs' endpoints
    let mcp = server.request("POST", "/mcp", "{}", &[cookie, page]).await.unwrap();
    assert_eq!(mcp.status, 401, "{}", mcp.text());
    run_ok(
        data.parent().unwrap(),
        &["keys", "revoke", &id, "--data", data.to_str().unwrap()],
    );
    wait::until("the session to end with its key", Duration::from_secs(10), async || {
        let answer = server.request("GET", "/api/v1/costs", "", &[cookie]).await?;
        Ok((answer.status == 401).then_some(()))
    })
    .await
    .unwrap();
    let written = std::fs::read(data.join("state/spanledger.db")).unwrap();
    let secret = key.split('_').nth(2).unwrap();
    assert!(!written.windows(secret.len()).any(|part| part == secret.as_bytes()));
}

#[tokio::test]
async fn a_browser_signs_in_with_a_key_and_out_again() {
    let tenants = Tenants::start().await;
    let key = tenants.class("viewer").authorization.clone().unwrap();
    let key = key.trim_start_matches("Bearer ");
    let mut browser = tools::node("sign_in.cjs").unwrap();
    browser
        .arg(format!("{}/?range=all", tenants.server.addresses().http))
        .arg(tools::CHROMIUM)
        .arg(key);
    let said: Value = serde_json::from_str(&tools::run(&mut browser).await.unwrap()).unwrap();
    let shown = |part: &str| said[part].as_str().unwrap().to_owned();
    for outside in ["before", "after"] {
        assert!(
            shown(outside).contains("Sign in") && !shown(outside).contains("canary"),
            "{said}"
        );
    }
    assert!(shown("refused").contains("API key"), "{said}");
    assert!(
        shown("inside").contains("canary-alfa-one") && !shown("inside").contains("canary-bravo"),
        "{said}"
    );
    assert!(
        shown("who").contains("canary-alfa") && shown("who").contains("viewer"),
        "{said}"
    );
    assert_eq!(said["keepsKey"], false, "{said}");
}

#[tokio::test]
async fn what_was_read_changed_and_denied_is_in_the_tenants_own_audit_log() {
    let tenants = Tenants::start().await;
    let query = "SELECT count(*) AS audited FROM calls";
    tenants.sql("analyst", query).await;
    tenants.ask("viewer", "POST", "/api/v1/settle", "").await;
    tenants
        .ask("admin", "POST", "/api/v1/keys", r#"{"name": "made", "role": "viewer"}"#)
        .await;
    let entries = |answer: Answer| answer.json().unwrap()["entries"].as_array().unwrap().clone();
    let alfa = entries(tenants.ask("admin", "GET", "/api/v1/audit?limit=1000", "").await);
    let find = |action: &str, outcome: &str| {
        alfa.iter()
            .find(|entry| entry["action"] == action && entry["outcome"] == outcome)
    };
    assert!(
        find("sql.query", "ok").is_some_and(|entry| entry["detail"] == query),
        "{alfa:?}"
    );
    assert!(find("settle.write", "denied").is_some(), "{alfa:?}");
    // a change leaves its trace before it is made, and what came of it after
    assert!(find("reports.write", "asked").is_some(), "{alfa:?}");
    let made = find("reports.write", "ok");
    assert!(
        made.is_some_and(|entry| entry["detail"]
            .as_str()
            .is_some_and(|detail| detail.starts_with("costs"))),
        "{alfa:?}"
    );
    assert!(find("key.created", "ok").is_some(), "{alfa:?}");
    assert!(alfa.iter().all(|entry| entry["tenant"] == "canary-alfa"), "{alfa:?}");
    let bravo = entries(
        tenants
            .ask("admin of the other tenant", "GET", "/api/v1/audit", "")
            .await,
    );
    assert!(bravo.iter().all(|entry| entry["tenant"] == "canary-bravo"), "{bravo:?}");
}

#[tokio::test]
async fn without_a_login_this_machine_may_do_everything_and_no_other_may_reach_it() {
    let server = TestServer::start().await;
    let index = server.get("/api/v1").await.unwrap().json().unwrap();
    for route in index["routes"].as_array().unwrap() {
        let [method, path] = ["method", "path"].map(|key| route[key].as_str().unwrap());
        let method = if method == "*" { "POST" } else { method };
        let path = filled(path, TRACES[0].2);
        let answer = server.request(method, &path, "", &[]).await.unwrap();
        assert!(
            ![401, 403].contains(&answer.status),
            "{method} {path}: {} {}",
            answer.status,
            answer.text()
        );
    }
    let who = server.get("/api/v1/session").await.unwrap().json().unwrap();
    assert_eq!(
        (who["login"].clone(), who["tenant"].clone()),
        (json!(false), json!("default"))
    );
    let (server, folder) = server.into_parts();
    server.stop().await.unwrap();
    let refused = crate::support::run(
        folder.path(),
        &[
            "serve",
            "--http",
            "0.0.0.0:0",
            "--data",
            data_of(&folder).to_str().unwrap(),
        ],
    );
    assert_eq!(refused.status.code(), Some(4));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("--access required"), "{said}");
}
