//! What each request and each list of the modern era has to bring, and the exact code where it does not.

use super::protocol::{Full, modern};
use super::*;
use spanledger_access::Principal;
use std::time::Duration;

#[tokio::test]
async fn what_an_envelope_lacks_has_its_own_code() {
    let server = Full::start().await;
    const META: &str = "io.modelcontextprotocol/";
    let send = async |method: &str, drop: &[&str], change: &dyn Fn(&mut Value)| {
        let mut request = modern(method, json!({}), &[]);
        for header in drop {
            request.headers_mut().remove(*header);
        }
        let body = std::mem::take(request.body_mut()).collect().await.unwrap().to_bytes();
        let mut message: Value = serde_json::from_slice(&body).unwrap();
        change(&mut message);
        if let Some(version) = message["params"]["_meta"][format!("{META}protocolVersion")].as_str() {
            let headers = request.headers_mut();
            if headers.contains_key("mcp-protocol-version") {
                headers.insert("mcp-protocol-version", version.parse().unwrap());
            }
        }
        *request.body_mut() = Body::from(message.to_string());
        let response = server.send(Some(Principal::local()), request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let without = |name: &'static str| {
        move |message: &mut Value| {
            let meta = message["params"]["_meta"].as_object_mut().unwrap();
            meta.remove(&format!("{META}{name}"));
        }
    };
    let same = |_: &mut Value| {};
    let future = |message: &mut Value| {
        message["params"]["_meta"][format!("{META}protocolVersion")] = json!("2099-01-01");
    };
    for name in ["protocolVersion", "clientCapabilities"] {
        let (status, answer) = send("tools/list", &[], &without(name)).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (400, &json!(-32602)),
            "{name}: {answer}"
        );
    }
    for header in ["mcp-protocol-version", "mcp-method"] {
        let (status, answer) = send("tools/list", &[header], &same).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (400, &json!(-32020)),
            "{header}: {answer}"
        );
    }
    let (status, answer) = send("tools/list", &[], &future).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32022)), "{answer}");
    let supported = answer["error"]["data"]["supported"].to_string();
    assert!(
        supported.contains("2026-07-28") && supported.contains("2025-11-25"),
        "{answer}"
    );
    for gone in [
        "initialize",
        "ping",
        "logging/setLevel",
        "tasks/list",
        "tasks/result",
        "no/such",
    ] {
        let (status, answer) = send(gone, &[], &same).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (404, &json!(-32601)),
            "{gone}: {answer}"
        );
    }
    let (status, _, answer) = server
        .ask(Principal::local(), "tasks/get", json!({ "taskId": "x" }))
        .await;
    assert_eq!(
        (status.as_u16(), &answer["error"]["code"]),
        (400, &json!(-32021)),
        "{answer}"
    );
    assert!(
        answer["error"]["data"]["requiredCapabilities"]["extensions"]["io.modelcontextprotocol/tasks"].is_object(),
        "{answer}"
    );

    let (_, answer) = send("server/discover", &[], &same).await;
    let found = &answer["result"];
    assert_eq!(
        (&found["resultType"], &found["cacheScope"]),
        (&json!("complete"), &json!("public")),
        "{answer}"
    );
    assert!(found["ttlMs"].is_u64() && found["instructions"].is_string(), "{answer}");
    let icon = &found["_meta"]["io.modelcontextprotocol/serverInfo"]["icons"][0]["src"];
    assert!(icon.as_str().unwrap().starts_with("data:image/svg+xml"), "{answer}");
    for extension in ["io.modelcontextprotocol/tasks", "io.modelcontextprotocol/ui"] {
        assert!(found["capabilities"]["extensions"][extension].is_object(), "{answer}");
    }
    for (list, scope) in [
        ("tools/list", "public"),
        ("prompts/list", "public"),
        ("resources/templates/list", "public"),
        ("resources/list", "private"),
    ] {
        let (_, answer) = send(list, &[], &same).await;
        let result = &answer["result"];
        assert_eq!(
            (&result["resultType"], &result["cacheScope"]),
            (&json!("complete"), &json!(scope)),
            "{list}"
        );
        assert!(result["ttlMs"].is_u64(), "{list}: {answer}");
        let (_, _, answer) = server
            .ask(Principal::local(), list, json!({ "cursor": "made-up" }))
            .await;
        assert_eq!(answer["error"]["code"], -32602, "{list}: {answer}");
    }
}

#[tokio::test]
async fn artefacts_are_listed_in_pages_that_hold_each_once() {
    let server = Full::start().await;
    let n_reports = limits::REPORTS_LISTED * 2 + 3;
    for n in 0..n_reports {
        spanledger_state::sqlx::query(
            "INSERT INTO reports (id, owner, tenant, kind, title, mime_type, file, size_bytes, sha256, created_at) \
             VALUES ($1, $2, 'default', 'chargeback', 'October', 'text/csv', 'x/report.csv', 21, '', 1)",
        )
        .bind(format!("r{n}"))
        .bind(owner_digest(&Principal::local()))
        .execute(server.shared.state().unwrap().pool())
        .await
        .unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    let (mut cursor, mut n_pages) = (None, 0);
    loop {
        let params = cursor.map_or_else(|| json!({}), |cursor: Value| json!({ "cursor": cursor }));
        let (_, _, answer) = server.ask(Principal::local(), "resources/list", params).await;
        for resource in answer["result"]["resources"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"))
        {
            assert!(
                seen.insert(resource["uri"].as_str().unwrap().to_owned()),
                "{resource} twice"
            );
        }
        n_pages += 1;
        if answer["result"]["nextCursor"].is_null() {
            break;
        }
        cursor = Some(answer["result"]["nextCursor"].clone());
    }
    assert_eq!((n_pages, seen.len()), (3, n_reports + 4));
    let foreign = json!({ "cursor": "cjE" });
    let (_, _, answer) = server
        .ask(Principal::local_of("other"), "resources/list", foreign)
        .await;
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
}

#[tokio::test]
async fn what_is_refused_runs_no_tool() {
    let server = Full::start().await;
    let call = || json!({ "name": "query_costs", "arguments": {} });
    let refused: [(&'static str, &str, StatusCode, Option<i64>); 8] = [
        ("origin", "https://evil.example", StatusCode::FORBIDDEN, None),
        ("origin", "null", StatusCode::FORBIDDEN, None),
        ("host", "rebound.example", StatusCode::FORBIDDEN, None),
        ("mcp-name", "run_sql", StatusCode::BAD_REQUEST, Some(-32020)),
        ("mcp-method", "tools/list", StatusCode::BAD_REQUEST, Some(-32020)),
        (
            "mcp-protocol-version",
            "2025-11-25",
            StatusCode::BAD_REQUEST,
            Some(-32020),
        ),
        ("content-type", "text/plain", StatusCode::UNSUPPORTED_MEDIA_TYPE, None),
        ("mcp-session-id", "not-a-session", StatusCode::NOT_FOUND, None),
    ];
    for (header, value, status, code) in refused {
        let request = modern("tools/call", call(), &[(header, value)]);
        let response = server.send(Some(Principal::local()), request).await;
        assert_eq!(response.status(), status, "{header}: {value}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if let Some(code) = code {
            assert_eq!(answer["error"]["code"], code, "{header}: {answer}");
        }
    }
    let unreadable = [
        ("{nope", -32700),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1}"#, -32600),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":5}}"#,
            -32602,
        ),
    ];
    for (body, code) in unreadable {
        let mut request = modern("tools/call", call(), &[]);
        *request.body_mut() = Body::from(body);
        let response = server.send(Some(Principal::local()), request).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body}");
        let answer = response.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["error"]["code"], code, "{body}: {answer}");
    }
    let mut long = modern("tools/call", call(), &[]);
    *long.body_mut() = Body::from(vec![b' '; limits::BODY_BYTES_MAX + 1]);
    let response = server.send(Some(Principal::local()), long).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    // Without a length, in pieces, for ever.
    let mut endless = modern("tools/call", call(), &[]);
    let piece = || Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[b' '; 8_192]));
    *endless.body_mut() = Body::from_stream(futures::stream::repeat_with(piece));
    let response = server.send(Some(Principal::local()), endless).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(server.noted.calls().is_empty(), "{:?}", server.noted.calls());
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let server = Full::start().await;
    let mut slow = modern("tools/call", json!({ "name": "query_costs", "arguments": {} }), &[]);
    *slow.body_mut() = Body::from_stream(futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let shared = server.shared.clone().with_body_within(Duration::from_millis(1));
    let impatient = router(shared).layer(axum::Extension(Principal::local()));
    let response = impatient.oneshot(slow).await.unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    assert!(server.noted.calls().is_empty());
}
