//! OAuth against a real authorization server (`oidc-provider`) and a real client (the Python `mcp` package):
//! each flow that MCP asks for ends in a tool call and a REST call, and nothing else does.
//!
//! The matrix of single tokens is in `access` as well, where it is quick; here it is shown at the doors.

mod peers;

use std::time::Duration;

use serde_json::{Value, json};
use spanledger_testkit::captures::Capture;
use spanledger_testkit::otlp::{Body, Signal};
use spanledger_testkit::server::Answer;
use spanledger_testkit::wait;

use crate::support::run_ok;
use peers::{CAPTURE, Guarded, IdJagServer, Issuer, REST, client, n_calls, parameter, peers};

/// A key set that could not be fetched is asked for again after two seconds.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(30);

/// An empty OTLP request with a bearer token.
async fn written_with(server: &Guarded, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [
        ("content-type", "application/x-protobuf"),
        ("authorization", bearer.as_str()),
    ];
    server
        .server
        .post_raw(Signal::Traces, Vec::new(), &headers)
        .await
        .unwrap()
}

/// An API key of this server that worked until it was revoked.
async fn revoked_key(server: &Guarded) -> String {
    let data = server.folder.path().join("data");
    let home = server.folder.path();
    let keys = |arguments: &[&str]| {
        run_ok(
            home,
            &[&["keys"], arguments, &["--data", data.to_str().unwrap()]].concat(),
        )
    };
    let made = keys(&[
        "create", "--tenant", "acme", "--role", "admin", "--name", "gone", "--format", "json",
    ]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let key = made["key"].as_str().unwrap().to_owned();
    assert_eq!(server.rest(Some(&key)).await.status, 200);
    keys(&["revoke", made["id"].as_str().unwrap()]);
    let refused = wait::until("the revoked key to be refused", RECOVERY_DEADLINE, async || {
        Ok((server.rest(Some(&key)).await.status == 401).then_some(()))
    });
    refused.await.unwrap();
    key
}

#[tokio::test]
async fn every_flow_ends_in_a_tool_call_and_a_rest_call() {
    let (_folder, issuer, server) = peers().await;
    server.fill(&issuer).await;
    let question = json!(["query_costs", {"by": ["model"]}]);
    for (flow, subject_is_user) in [
        ("code", true),
        ("cimd", true),
        ("client-credentials", false),
        ("private-key-jwt", false),
        ("id-jag", true),
    ] {
        let said = client(flow, &issuer, &server, json!({"calls": [question]})).await;
        assert_eq!(said["results"][0]["is_error"], false, "{flow}: {said}");
        assert_eq!(said["rest"]["status"], 200, "{flow}: {said}");
        let by_rest = said["rest"]["body"]["rows"].as_array().unwrap();
        let by_rest: i64 = by_rest.iter().map(|row| row["calls"].as_i64().unwrap()).sum();
        let by_mcp = n_calls(&said["results"][0]["content"]);
        assert!(by_mcp > 0 && by_mcp == by_rest, "{flow}: {by_rest} by REST: {said}");
        // it began without a token, and the challenge led it here
        assert_eq!(said["challenges"][0][0], 401, "{flow}: {said}");
        assert_eq!(said["challenges"].as_array().unwrap().len(), 1, "{flow}: {said}");
        let other = json!({"calls": [question], "user": "other-bob", "client": "other-robot"});
        if subject_is_user || flow == "client-credentials" {
            let said = client(flow, &issuer, &server, other).await;
            assert_eq!(
                n_calls(&said["results"][0]["content"]),
                0,
                "{flow}: another company sees nothing: {said}"
            );
        }
    }
}

#[tokio::test]
async fn a_code_is_given_and_redeemed_with_a_proof_key_of_s256_only() {
    let (_folder, issuer, server) = peers().await;
    let said = client("unproven", &issuer, &server, json!({})).await;
    let expected = json!({
        "no challenge": "invalid_request",
        "plain": "invalid_request",
        "no verifier": "invalid_grant",
        "wrong verifier": "invalid_grant",
        "right": "Bearer",
    });
    assert_eq!(said, expected);
}

#[tokio::test]
async fn an_id_jag_is_exchanged_at_an_authorization_server_of_another_code_base() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::start(folder.path(), None).await;
    let python = IdJagServer::start(folder.path(), &issuer).await;
    let config = format!(
        "[access]\nmode = \"required\"\n\n[[access.oauth.issuers]]\nissuer = \"{}\"\ntenant_claim = \"tenant\"\n\n\
         [[access.oauth.issuers]]\nissuer = \"{}\"\njwks_url = \"{}\"\ntenant_claim = \"tenant\"\n",
        issuer.text("issuer"),
        python.text("issuer"),
        python.text("jwks"),
    );
    let server = Guarded::start_with(&issuer, tempfile::tempdir().unwrap(), &config).await;
    server.fill(&issuer).await;
    let at_python =
        json!({"issuer": python.text("issuer"), "idp": issuer.text("idp"), "secrets": {"agent": python.secret}});
    let calls = json!([["query_costs", {"by": ["model"]}], ["run_sql", {"query": "SELECT 1 AS one"}]]);
    let said = client("id-jag", &issuer, &server, json!({"as": at_python, "calls": calls})).await;
    let answers = said["results"].as_array().unwrap();
    assert!(answers.iter().all(|answer| answer["is_error"] == false), "{said}");
    assert!(n_calls(&answers[0]["content"]) > 0, "{said}");
    assert_eq!(said["rest"]["status"], 200, "{said}");
    // a second assertion for the scope that the first token had not
    assert_eq!(said["challenges"].as_array().unwrap().len(), 2, "{said}");
    let token = said["token"].as_str().unwrap();
    assert_eq!(server.rest(Some(token)).await.status, 200);
    assert_eq!(written_with(&server, token).await.status, 403, "it may not write");
    let other = json!({"as": at_python, "calls": [["query_costs", {"by": ["model"]}]], "user": "other-bob"});
    let said = client("id-jag", &issuer, &server, other).await;
    assert_eq!(n_calls(&said["results"][0]["content"]), 0, "another company: {said}");
}

#[tokio::test]
async fn a_client_that_lacks_a_scope_steps_up_by_itself() {
    let (_folder, issuer, server) = peers().await;
    let calls =
        json!([["query_costs", {"by": ["model"]}], ["run_sql", {"query": "SELECT 1 AS one"}], ["query_costs", {}]]);
    for flow in ["code", "id-jag"] {
        let said = client(flow, &issuer, &server, json!({"calls": calls, "rest": null})).await;
        let answers = said["results"].as_array().unwrap();
        assert!(
            answers.iter().all(|answer| answer["is_error"] == false),
            "{flow}: {said}"
        );
        let challenges = said["challenges"].as_array().unwrap();
        assert_eq!(
            challenges.len(),
            2,
            "{flow}: one for the first token, one for the scope: {said}"
        );
        let (status, challenge) = (&challenges[1][0], challenges[1][1].as_str().unwrap());
        assert_eq!(
            (status, parameter(challenge, "error")),
            (&json!(403), Some("insufficient_scope")),
            "{challenge}"
        );
        // all that the call needs, what the token had already included
        assert_eq!(
            parameter(challenge, "scope"),
            Some("costs:read sql:read"),
            "{challenge}"
        );
        assert!(said["scope"].as_str().unwrap().contains("sql:read"), "{flow}: {said}");
    }
}

#[tokio::test]
async fn a_request_without_a_token_learns_where_to_get_one() {
    let (_folder, issuer, server) = peers().await;
    for (answer, resource, place) in [
        (
            server.mcp(None, "tools/list", json!({})).await,
            server.mcp_url(),
            "/mcp",
        ),
        (server.rest(None).await, server.url().to_owned(), ""),
    ] {
        assert_eq!(answer.status, 401, "{}", answer.text());
        let challenge = answer.header("www-authenticate").unwrap();
        assert_eq!(
            parameter(challenge, "error"),
            None,
            "nothing was wrong with a token: {challenge}"
        );
        assert_eq!(parameter(challenge, "scope"), Some("costs:read"), "{challenge}");
        let metadata = parameter(challenge, "resource_metadata").unwrap();
        assert_eq!(
            metadata,
            format!("{}/.well-known/oauth-protected-resource{place}", server.url())
        );
        let metadata: Value = reqwest::get(metadata).await.unwrap().json().await.unwrap();
        assert_eq!(metadata["resource"], resource);
        assert_eq!(metadata["authorization_servers"], json!([issuer.text("issuer")]));
        assert_eq!(metadata["bearer_methods_supported"], json!(["header"]));
        assert!(
            metadata["scopes_supported"]
                .as_array()
                .unwrap()
                .contains(&json!("costs:read"))
        );
    }
    // a token in the address is none
    let token = issuer.token("robot", &server.mcp_url(), "costs:read").await;
    let answer = server
        .server
        .get(&format!("{REST}&access_token={token}"))
        .await
        .unwrap();
    assert_eq!(answer.status, 401, "{}", answer.text());
}

#[tokio::test]
async fn only_a_good_token_for_this_server_opens_it() {
    let (_folder, issuer, server) = peers().await;
    let mcp = server.mcp_url();
    let good = issuer.token("robot", &mcp, "costs:read").await;
    assert_eq!(server.rest(Some(&good)).await.status, 200);
    let for_base = issuer.token("robot", server.url(), "costs:read").await;
    assert_eq!(server.call(&for_base, "describe_data", json!({})).await.status, 200);

    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let claims = |changes: Value| {
        let mut claims = json!({"aud": mcp, "scope": "costs:read sql:read admin"});
        claims
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        claims
    };
    let as_signed = issuer.forged(json!({}), claims(json!({})), "own").await;
    assert_eq!(
        server.rest(Some(&as_signed)).await.status,
        200,
        "the forger's good token is good"
    );
    let mut payload: Vec<char> = good.chars().collect();
    let middle = good.find('.').unwrap() + 10;
    payload[middle] = if payload[middle] == 'A' { 'B' } else { 'A' };
    let opaque = issuer.token("opaque", &mcp, "costs:read").await;
    issuer.revoke("opaque", &opaque).await;
    for (what, token) in [
        (
            "wrong audience",
            issuer.token("robot", "http://127.0.0.1:9/mcp", "costs:read").await,
        ),
        (
            "expired",
            issuer.forged(json!({}), claims(json!({"exp": now - 120})), "own").await,
        ),
        (
            "not valid yet",
            issuer.forged(json!({}), claims(json!({"nbf": now + 600})), "own").await,
        ),
        (
            "wrong issuer",
            issuer
                .forged(json!({}), claims(json!({"iss": "https://evil.example"})), "own")
                .await,
        ),
        (
            "identity provider's",
            issuer
                .forged(json!({}), claims(json!({"iss": issuer.text("idp")})), "own")
                .await,
        ),
        (
            "bad signature",
            issuer.forged(json!({}), claims(json!({})), "other").await,
        ),
        (
            "key that the issuer does not have",
            issuer
                .forged(json!({"kid": "never-published"}), claims(json!({})), "own")
                .await,
        ),
        ("another payload", payload.into_iter().collect()),
        (
            "alg none",
            issuer.forged(json!({"alg": "none"}), claims(json!({})), "none").await,
        ),
        (
            "HS256 with the public key",
            issuer
                .forged(json!({"alg": "HS256"}), claims(json!({})), "public")
                .await,
        ),
        (
            "ID-JAG",
            issuer
                .forged(json!({"typ": "oauth-id-jag+jwt"}), claims(json!({})), "own")
                .await,
        ),
        (
            "ID token",
            issuer
                .forged(
                    json!({"typ": "JWT"}),
                    claims(json!({"nonce": "n", "at_hash": "h"})),
                    "own",
                )
                .await,
        ),
        ("revoked opaque", opaque),
        ("revoked API key", revoked_key(&server).await),
        ("guess", "guess".to_owned()),
        (
            "API key that never was",
            "sl_AAAAAAAAAAAA_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA_AAAAAA".to_owned(),
        ),
    ] {
        let answers = [
            server.rest(Some(&token)).await,
            server.call(&token, "describe_data", json!({})).await,
            server.mcp(Some(&token), "tools/list", json!({})).await,
        ];
        for answer in answers {
            assert_eq!(answer.status, 401, "{what}: {}", answer.text());
            let challenge = answer.header("www-authenticate").unwrap();
            assert_eq!(
                parameter(challenge, "error"),
                Some("invalid_token"),
                "{what}: {challenge}"
            );
            assert!(
                parameter(challenge, "resource_metadata").is_some(),
                "{what}: {challenge}"
            );
            assert!(!answer.text().contains(&token), "{what}: {}", answer.text());
        }
        let written = written_with(&server, &token).await;
        assert_eq!(written.status, 401, "{what}");
        let challenge = written.header("www-authenticate").unwrap();
        assert_eq!(
            parameter(challenge, "error"),
            Some("invalid_token"),
            "{what}: {challenge}"
        );
    }
    let written = written_with(&server, &good).await;
    let challenge = written.header("www-authenticate").unwrap();
    assert_eq!(
        (written.status, parameter(challenge, "scope")),
        (403, Some("telemetry:write")),
        "{challenge}"
    );
    assert_eq!(parameter(challenge, "error"), Some("insufficient_scope"), "{challenge}");
    let unsigned = server
        .server
        .post_raw(
            Signal::Traces,
            Vec::new(),
            &[("content-type", "application/x-protobuf")],
        )
        .await
        .unwrap();
    assert_eq!(unsigned.status, 401, "{}", unsigned.text());
    assert_eq!(parameter(unsigned.header("www-authenticate").unwrap(), "error"), None);
    // good ones that may not do this
    for (tool, needed) in [
        ("run_sql", "costs:read sql:read"),
        ("set_budget", "costs:read finops:write"),
    ] {
        let answer = server.call(&good, tool, json!({"query": "SELECT 1"})).await;
        let challenge = answer
            .header("www-authenticate")
            .unwrap_or_else(|| panic!("{tool}: {}", answer.text()));
        assert_eq!(
            (answer.status, parameter(challenge, "scope")),
            (403, Some(needed)),
            "{challenge}"
        );
    }
    let wrong_scope = issuer.token("robot", &mcp, "telemetry:write").await;
    let refused = server.rest(Some(&wrong_scope)).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    let challenge = refused.header("www-authenticate").unwrap();
    assert_eq!(parameter(challenge, "error"), Some("insufficient_scope"), "{challenge}");
    let forbidden = issuer
        .forged(json!({}), claims(json!({"tenant": "../acme"})), "own")
        .await;
    assert_eq!(server.rest(Some(&forbidden)).await.status, 403);
    let printed = server.server.printed();
    assert!(
        !printed.contains(&good) && !printed.contains(issuer.secret("spanledger")),
        "{printed}"
    );
}

#[tokio::test]
async fn an_opaque_token_is_introspected() {
    let (_folder, issuer, server) = peers().await;
    let opaque = issuer.token("opaque", &server.mcp_url(), "costs:read").await;
    assert!(!opaque.contains('.'), "{opaque}");
    assert_eq!(server.call(&opaque, "describe_data", json!({})).await.status, 200);
    assert_eq!(
        server
            .call(&opaque, "run_sql", json!({"query": "SELECT 1"}))
            .await
            .status,
        403
    );
    let foreign = issuer.token("opaque", "http://127.0.0.1:9/mcp", "costs:read").await;
    assert_eq!(server.rest(Some(&foreign)).await.status, 401);
    // a yes is kept for seconds: then the revocation is known here
    issuer.revoke("opaque", &opaque).await;
    let refused = wait::until("the revocation to be known", RECOVERY_DEADLINE, async || {
        Ok((server.rest(Some(&opaque)).await.status == 401).then_some(()))
    });
    refused.await.unwrap();
}

#[tokio::test]
async fn another_principals_task_is_as_unknown() {
    let (_folder, issuer, server) = peers().await;
    let ours = issuer.token("robot", &server.mcp_url(), "costs:read sql:read").await;
    let other_tenant = issuer
        .token("other-robot", &server.mcp_url(), "costs:read sql:read admin")
        .await;
    let claims = json!({"aud": server.mcp_url(), "scope": "admin", "sub": "eve", "client_id": "robot"});
    let same_tenant = issuer.forged(json!({}), claims, "own").await;
    let statement =
        json!({"name": "run_sql", "arguments": {"query": "SELECT 'canary' AS word"}, "task": {"ttl": 60_000}});
    let made = server.legacy(&ours, "tools/call", statement).await;
    let id = made["result"]["task"]["taskId"]
        .as_str()
        .unwrap_or_else(|| panic!("{made}"));
    let result = server.legacy(&ours, "tasks/result", json!({"taskId": id})).await;
    assert!(result["result"].to_string().contains("canary"), "{result}");
    let unknown = "0".repeat(id.len());
    for stranger in [&other_tenant, &same_tenant] {
        for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
            let said = server.legacy(stranger, method, json!({"taskId": id})).await;
            let as_unknown = server.legacy(stranger, method, json!({"taskId": unknown})).await;
            let error = |answer: &Value, id: &str| answer["error"].to_string().replace(id, "ID");
            assert!(said["error"]["code"].is_i64(), "{method}: {said}");
            assert_eq!(error(&said, id), error(&as_unknown, &unknown), "{method}");
        }
        let listed = server.legacy(stranger, "tasks/list", json!({})).await;
        assert!(!listed.to_string().contains(id), "{listed}");
        let by_new_protocol = server.mcp(Some(stranger), "tasks/get", json!({"taskId": id})).await;
        assert!(by_new_protocol.json().unwrap()["error"].is_object());
    }
    // and it was cancelled by none of them
    let state = server.legacy(&ours, "tasks/get", json!({"taskId": id})).await;
    assert_eq!(state["result"]["status"], "completed", "{state}");
}

#[tokio::test]
async fn keys_rotate_and_an_issuer_that_is_down_is_not_a_yes() {
    let folder = tempfile::tempdir().unwrap();
    let mut issuer = Issuer::start(folder.path(), None).await;
    let server = Guarded::start(&issuer).await;
    let old = issuer.token("robot", &server.mcp_url(), "costs:read").await;
    let unseen = issuer
        .forged(
            json!({"kid": "never-published"}),
            json!({"aud": server.mcp_url()}),
            "own",
        )
        .await;
    assert_eq!(server.rest(Some(&old)).await.status, 200);

    // the keys are known, so an outage is not noticed by tokens of known keys, and by no other
    issuer.stop();
    assert_eq!(server.rest(Some(&old)).await.status, 200);
    for answer in [
        server.rest(Some(&unseen)).await,
        server.call(&unseen, "describe_data", json!({})).await,
    ] {
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.header("retry-after").is_some() && answer.header("www-authenticate").is_none());
    }

    // it comes back with new keys: the old one is gone with the first new token
    let port = issuer.text("port").to_owned();
    let issuer = Issuer::start(folder.path(), Some(&port)).await;
    let new = issuer.token("robot", &server.mcp_url(), "costs:read").await;
    let known = wait::until("the new keys to be known", RECOVERY_DEADLINE, async || {
        Ok((server.rest(Some(&new)).await.status == 200).then_some(()))
    });
    known.await.unwrap();
    assert_eq!(server.rest(Some(&old)).await.status, 401);

    // a server that has no keys yet believes nothing
    drop(issuer);
    let Guarded {
        server: running,
        folder: data,
    } = server;
    running.stop().await.unwrap();
    let cold = Guarded::restarted(data).await;
    assert_eq!(cold.rest(Some(&new)).await.status, 503);
    assert_eq!(cold.call(&new, "describe_data", json!({})).await.status, 503);
    assert_eq!(
        written_with(&cold, &new).await.status,
        503,
        "an exporter keeps its spans and tries again"
    );
}

#[tokio::test]
async fn groups_give_roles_with_rows_and_a_person_without_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::start(folder.path(), None).await;
    let config = format!(
        "[access]\nmode = \"required\"\n\n[roles.lead]\nscopes = [\"costs:read\", \"sql:read\"]\nteams = [\"search\"]\n\n\
         [[access.oauth.issuers]]\nissuer = \"{}\"\ntenant = \"acme\"\ngroups_claim = \"groups\"\n\
         roles = [{{ value = \"search-leads\", role = \"lead\" }}, {{ value = \"admins\", role = \"admin\" }}]\n",
        issuer.text("issuer")
    );
    let server = Guarded::start_with(&issuer, tempfile::tempdir().unwrap(), &config).await;
    let as_admin = json!({"aud": server.mcp_url(), "sub": "root", "groups": ["admins"], "scope": "admin"});
    let admin = format!("Bearer {}", issuer.forged(json!({}), as_admin, "own").await);
    for Body {
        signal,
        encoding,
        bytes,
    } in Capture::load(CAPTURE).unwrap().bodies
    {
        let headers = [
            ("content-type", encoding.content_type()),
            ("authorization", admin.as_str()),
        ];
        assert_eq!(
            server.server.post_raw(signal, bytes, &headers).await.unwrap().status,
            200
        );
    }
    server
        .server
        .post_http("/api/v1/settle", "", &[("authorization", &admin)])
        .await
        .unwrap();
    let question = json!(["query_costs", {"by": ["model"]}]);
    let lead = json!({"calls": [question], "user": "lead"});
    let said = client("code", &issuer, &server, lead).await;
    assert_eq!(
        n_calls(&said["results"][0]["content"]),
        0,
        "no call is of the team search: {said}"
    );
    // a good token of somebody who has no role here: another token would not help, so no challenge asks for one
    let nobody = json!({"aud": server.mcp_url(), "sub": "alice", "groups": ["everyone"], "scope": "costs:read"});
    let refused = server.rest(Some(&issuer.forged(json!({}), nobody, "own").await)).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.header("www-authenticate").is_none());
}
