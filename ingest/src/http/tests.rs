//! The HTTP receiver over loopback, with a real client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic_types::RpcStatusExt;

use super::*;
use crate::accept::Accepted;
use crate::limits::Limits;
use crate::testing::{Fake, serve_http, traces};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const ONE_SPAN: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a","traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174"}]}]}]}"#;

async fn post(url: &str, content_type: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
    Client::new()
        .post(url)
        .header("content-type", content_type)
        .body(body)
        .send()
        .await
        .unwrap()
}

/// Status, media type and body of an answer.
async fn read(response: reqwest::Response) -> (u16, String, Vec<u8>) {
    let status = response.status().as_u16();
    let media_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    (status, media_type, response.bytes().await.unwrap().to_vec())
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// `n_bytes` zero bytes under gzip, without ever holding them.
fn gzip_bomb(n_bytes: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let block = vec![0; 1 << 20];
    for _ in 0..n_bytes >> 20 {
        encoder.write_all(&block).unwrap();
    }
    encoder.finish().unwrap()
}

#[tokio::test]
async fn the_content_type_chooses_the_encoding_and_is_answered() {
    let fake = Arc::new(Fake::new(Limits::default()));
    let base = serve_http(&fake).await;
    let protobuf = traces(2).encode_to_vec();
    for (content_type, body, media_type, answer) in [
        (PROTOBUF, protobuf.clone(), PROTOBUF, &b""[..]),
        ("Application/X-Protobuf; proto=x", protobuf, PROTOBUF, b""),
        (JSON, ONE_SPAN.into(), JSON, b"{}"),
        ("application/json;charset=UTF-8", ONE_SPAN.into(), JSON, b"{}"),
        // An empty request is a success.
        (PROTOBUF, Vec::new(), PROTOBUF, b""),
        (JSON, b"{}".to_vec(), JSON, b"{}"),
    ] {
        let got = read(post(&format!("{base}/v1/traces"), content_type, body).await).await;
        assert_eq!(got, (200, media_type.to_owned(), answer.to_vec()), "{content_type}");
    }
    let seen: Vec<_> = fake
        .seen
        .lock()
        .iter()
        .map(|(request, _, encoding)| (request.n_records(), *encoding))
        .collect();
    assert_eq!(
        seen,
        [
            (2, Encoding::Protobuf),
            (2, Encoding::Protobuf),
            (1, Encoding::Json),
            (1, Encoding::Json)
        ],
        "empty requests are not stored"
    );
    for content_type in ["text/plain", "", "application/grpc"] {
        let (status, media_type, body) = read(post(&format!("{base}/v1/traces"), content_type, "{}").await).await;
        assert_eq!((status, media_type.as_str()), (415, JSON), "{content_type}");
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["code"], 3);
    }
    assert_eq!(fake.admission().bytes_in_flight(), 0);
    assert_eq!(fake.admission().requests_in_flight(), 0);
}

#[tokio::test]
async fn the_stored_body_is_what_was_sent_before_compression() {
    let fake = Arc::new(Fake::new(Limits::default()));
    let base = serve_http(&fake).await;
    let body = traces(3_000).encode_to_vec();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zlib.write_all(&body).unwrap();
    for (encoding, wire) in [
        (None, body.clone()),
        (Some("identity"), body.clone()),
        (Some("gzip"), gzip(&body)),
        (Some("zstd"), zstd::encode_all(&body[..], 3).unwrap()),
        (Some("deflate"), zlib.finish().unwrap()),
    ] {
        let mut request = Client::new()
            .post(format!("{base}/v1/traces"))
            .header("content-type", PROTOBUF)
            .body(wire);
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        assert_eq!(request.send().await.unwrap().status(), 200, "{encoding:?}");
        assert_eq!(fake.seen.lock().pop().unwrap().1, body, "{encoding:?}");
    }
    for encoding in ["br", "gzip, gzip", "compress"] {
        let request = Client::new()
            .post(format!("{base}/v1/traces"))
            .header("content-type", JSON)
            .body("{}");
        let response = request.header("content-encoding", encoding).send().await.unwrap();
        assert_eq!(response.headers()["accept-encoding"], "gzip, zstd, deflate, identity");
        assert_eq!(read(response).await.0, 415, "{encoding}");
    }
}

#[tokio::test]
async fn chunked_bodies_are_read_to_their_end() {
    let fake = Arc::new(Fake::new(Limits::default()));
    let base = serve_http(&fake).await;
    let body = traces(2_000).encode_to_vec();
    let chunks: Vec<_> = body
        .chunks(10_000)
        .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
        .collect();
    let stream = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    assert_eq!(post(&format!("{base}/v1/traces"), PROTOBUF, stream).await.status(), 200);
    assert_eq!(fake.seen.lock()[0].1, body);
}

#[tokio::test]
async fn each_path_is_one_signal_under_any_prefix() {
    let fake = Arc::new(Fake::new(Limits::default()));
    let base = serve_http(&fake).await;
    for (path, status) in [
        ("/v1/traces", 200),
        ("/v1/traces/", 200),
        ("/otlp/v1/logs", 200),
        ("/a/b/c/v1/metrics", 200),
        ("/v1/traces/x", 404),
        ("/v1development/profiles", 404),
        ("/xv1/traces", 404),
        ("/", 404),
    ] {
        assert_eq!(
            read(post(&format!("{base}{path}"), JSON, "{}").await).await.0,
            status,
            "{path}"
        );
    }
    let logs = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]}"#;
    assert_eq!(post(&format!("{base}/p/v1/logs"), JSON, logs).await.status(), 200);
    assert_eq!(fake.seen.lock()[0].0.signal(), Signal::Logs);
    for method in [reqwest::Method::GET, reqwest::Method::PUT, reqwest::Method::OPTIONS] {
        let response = Client::new()
            .request(method, format!("{base}/v1/traces"))
            .send()
            .await
            .unwrap();
        assert_eq!(
            (
                response.status().as_u16(),
                response.headers()["allow"].to_str().unwrap()
            ),
            (405, "POST")
        );
    }
}

#[tokio::test]
async fn a_malformed_body_is_a_400_with_bad_request_in_its_encoding() {
    let fake = Arc::new(Fake::new(Limits::default()));
    let base = serve_http(&fake).await;
    let (status, media_type, body) = read(post(&format!("{base}/v1/traces"), JSON, "{").await).await;
    assert_eq!((status, media_type.as_str()), (400, JSON));
    let message = "the body is not well-formed JSON: EOF while parsing an object at line 1 column 1";
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap(),
        json!({
            "code": 3,
            "message": message,
            "details": [{
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{ "field": "body", "description": message }],
            }],
        })
    );
    let (status, media_type, body) = read(post(&format!("{base}/v1/traces"), PROTOBUF, "not protobuf").await).await;
    assert_eq!((status, media_type.as_str()), (400, PROTOBUF));
    let answer = tonic_types::Status::decode(&body[..]).unwrap();
    assert_eq!(answer.code, 3);
    assert_eq!(
        answer.get_details_bad_request().unwrap().field_violations[0].field,
        "body"
    );
    let request = Client::new()
        .post(format!("{base}/v1/traces"))
        .header("content-type", JSON)
        .body("not gzip");
    assert_eq!(
        request
            .header("content-encoding", "gzip")
            .send()
            .await
            .unwrap()
            .status(),
        400
    );
    assert!(fake.refusals.lock().iter().all(|kind| *kind == ErrorKind::Invalid));
}

#[tokio::test]
async fn a_bomb_is_a_413_and_holds_no_more_than_the_limit() {
    let limits = Limits {
        body_bytes_max: 1 << 20,
        bodies_in_flight_bytes_max: 4 << 20,
        ..Limits::default()
    };
    let fake = Arc::new(Fake::new(limits));
    let base = serve_http(&fake).await;
    let zeroes = vec![0; 32 << 20];
    for (encoding, wire) in [
        ("gzip", gzip_bomb(32 << 20)),
        ("zstd", zstd::encode_all(&zeroes[..], 3).unwrap()),
    ] {
        assert!(wire.len() < 1 << 20);
        // The budget of 4 MiB would make it Busy if more than the limit were held.
        let request = Client::new()
            .post(format!("{base}/v1/traces"))
            .header("content-type", JSON)
            .body(wire);
        let (status, _, body) = read(request.header("content-encoding", encoding).send().await.unwrap()).await;
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (status, &answer["code"], &answer["details"]),
            (413, &json!(8), &Value::Null),
            "{encoding}"
        );
    }
    assert_eq!(fake.admission().bytes_in_flight(), 0);
}

#[tokio::test]
async fn a_body_over_the_limit_is_a_413_that_its_sender_can_read() {
    let fake = Arc::new(Fake::new(Limits {
        body_bytes_max: 64 << 10,
        ..Limits::default()
    }));
    let base = serve_http(&fake).await;
    let response = post(&format!("{base}/v1/traces"), PROTOBUF, vec![0x0a; 8 << 20]).await;
    assert_eq!(response.status(), 413);
    assert!(response.headers().get("retry-after").is_none());
    let chunks = (0..128).map(|_| Ok::<_, std::io::Error>(vec![0x0a; 64 << 10]));
    let chunked = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    assert_eq!(post(&format!("{base}/v1/traces"), JSON, chunked).await.status(), 413);
    assert_eq!(*fake.refusals.lock(), [ErrorKind::TooLarge, ErrorKind::TooLarge]);
}

#[tokio::test]
async fn partial_success_tells_the_count_and_the_reason_in_both_encodings() {
    let fake = Arc::new(Fake::answering(|request| {
        Ok(Accepted {
            n_accepted: request.n_records() - 1,
            n_rejected: 1,
            message: Some("x".repeat(100_000)),
            duplicate: false,
        })
    }));
    let base = serve_http(&fake).await;
    let (status, _, body) = read(post(&format!("{base}/v1/traces"), PROTOBUF, traces(2).encode_to_vec()).await).await;
    let partial = ExportTraceServiceResponse::decode(&body[..])
        .unwrap()
        .partial_success
        .unwrap();
    assert_eq!(
        (status, partial.rejected_spans, partial.error_message.len()),
        (200, 1, 1024)
    );
    let one_bad = ONE_SPAN.replace("[{\"name\"", "[{\"traceId\":\"zz\"},{\"name\"");
    let (status, _, body) = read(post(&format!("{base}/v1/traces"), JSON, one_bad).await).await;
    let partial = &serde_json::from_slice::<Value>(&body).unwrap()["partialSuccess"];
    assert_eq!((status, &partial["rejectedSpans"]), (200, &json!("2")));
    let message = partial["errorMessage"].as_str().unwrap();
    assert!(
        message.starts_with(r#"1 of the spans could not be read: traceId is "zz" instead of hex digits; xx"#),
        "{message}"
    );
    assert_eq!(fake.n_rejected.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_busy_pipeline_is_a_503_with_a_retry_hint() {
    let fake = Arc::new(Fake::answering(|_| Err(Error::busy("the disk is full"))));
    let base = serve_http(&fake).await;
    let response = post(&format!("{base}/v1/traces"), JSON, ONE_SPAN).await;
    assert_eq!(response.headers()["retry-after"], "1");
    let (status, _, body) = read(response).await;
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, &answer["code"], &answer["details"][0]["retryDelay"]),
        (503, &json!(14), &json!("1s"))
    );
    let (_, _, body) = read(post(&format!("{base}/v1/traces"), PROTOBUF, traces(1).encode_to_vec()).await).await;
    let answer = tonic_types::Status::decode(&body[..]).unwrap();
    assert_eq!(
        answer.get_details_retry_info().unwrap().retry_delay,
        Some(Duration::from_secs(1))
    );
}

#[tokio::test]
async fn requests_beyond_what_may_be_in_flight_are_busy_and_recover() {
    let fake = Arc::new(Fake::gated(Limits {
        requests_in_flight_max: 2,
        ..Limits::default()
    }));
    let url = format!("{}/v1/traces", serve_http(&fake).await);
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            tokio::spawn({
                let url = url.clone();
                async move { post(&url, JSON, ONE_SPAN).await.status() }
            })
        })
        .collect();
    fake.started(2).await;
    assert_eq!(post(&url, JSON, ONE_SPAN).await.status(), 503);
    fake.open_gate();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), 200);
    }
    assert_eq!(post(&url, JSON, ONE_SPAN).await.status(), 200);
}

#[tokio::test]
async fn bodies_beyond_the_memory_in_flight_are_busy() {
    let limits = Limits {
        bodies_in_flight_bytes_max: 256 << 10,
        ..Limits::default()
    };
    let fake = Arc::new(Fake::gated(limits));
    let url = format!("{}/v1/traces", serve_http(&fake).await);
    let held = tokio::spawn({
        let url = url.clone();
        async move { post(&url, PROTOBUF, traces(600).encode_to_vec()).await.status() }
    });
    fake.started(1).await;
    assert_eq!(post(&url, PROTOBUF, traces(600).encode_to_vec()).await.status(), 503);
    fake.open_gate();
    assert_eq!(held.await.unwrap(), 200);
    assert_eq!(post(&url, PROTOBUF, traces(600).encode_to_vec()).await.status(), 200);
}

#[tokio::test]
async fn a_sender_that_hangs_up_does_not_stop_the_write() {
    let fake = Arc::new(Fake::gated(Limits::default()));
    let url = format!("{}/v1/traces", serve_http(&fake).await);
    let sender = tokio::spawn(async move { post(&url, JSON, ONE_SPAN).await });
    fake.started(1).await;
    sender.abort();
    assert!(sender.await.unwrap_err().is_cancelled());
    fake.open_gate();
    fake.stored(1).await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_busy() {
    let fake = Arc::new(Fake::gated(Limits {
        request_timeout_ms: 30,
        ..Limits::default()
    }));
    let base = serve_http(&fake).await;
    assert_eq!(post(&format!("{base}/v1/traces"), JSON, ONE_SPAN).await.status(), 503);
    // A body that never ends.
    let mut slow = tokio::net::TcpStream::connect(base.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    slow.write_all(
        b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    )
    .await
    .unwrap();
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 503");
}

#[tokio::test]
async fn a_panic_is_a_500_with_an_id() {
    let fake = Arc::new(Fake::answering(|_| panic!("a defect")));
    let base = serve_http(&fake).await;
    let (status, _, body) = read(post(&format!("{base}/v1/traces"), JSON, ONE_SPAN).await).await;
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &answer["code"]), (500, &json!(13)));
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.starts_with("internal error ") && !message.contains("defect"),
        "{message}"
    );
    assert_eq!(fake.admission().requests_in_flight(), 0);
}

#[tokio::test]
async fn the_credential_decides_before_the_body_is_read() {
    let fake = Arc::new(Fake::with_keys());
    let url = format!("{}/v1/traces", serve_http(&fake).await);
    for (key, status, code) in [
        (None, 401, 16),
        (Some("Bearer x"), 401, 16),
        (Some("Bearer reader"), 403, 7),
    ] {
        let mut request = Client::new().post(&url).header("content-type", JSON).body("not json");
        if let Some(key) = key {
            request = request.header("authorization", key);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
        let (got, _, body) = read(response).await;
        assert_eq!(
            (got, &serde_json::from_slice::<Value>(&body).unwrap()["code"]),
            (status, &json!(code))
        );
    }
    let request = Client::new().post(&url).header("content-type", JSON).body(ONE_SPAN);
    assert_eq!(
        request
            .header("authorization", "Bearer writer")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn a_page_of_another_site_cannot_write() {
    let fake = Arc::new(Fake::new(Limits::default()));
    let url = format!("{}/v1/traces", serve_http(&fake).await);
    for (origin, status) in [
        ("https://evil.example", 403),
        ("null", 403),
        ("http://localhost:3000", 200),
    ] {
        let request = Client::new().post(&url).header("content-type", JSON).body(ONE_SPAN);
        assert_eq!(
            request.header("origin", origin).send().await.unwrap().status(),
            status,
            "{origin}"
        );
    }
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_one_to_close() {
    let fake = Arc::new(Fake::new(Limits {
        connections_max: 1,
        ..Limits::default()
    }));
    let base = serve_http(&fake).await;
    let client = Client::new();
    let first = client
        .post(format!("{base}/v1/traces"))
        .header("content-type", JSON)
        .body(ONE_SPAN);
    assert_eq!(first.send().await.unwrap().status(), 200);
    // The client keeps its connection open; another's waits in the backlog.
    let second = tokio::spawn(async move { post(&format!("{base}/v1/traces"), JSON, ONE_SPAN).await.status() });
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    drop(client);
    assert_eq!(second.await.unwrap(), 200);
}

#[tokio::test]
async fn open_requests_finish_at_shutdown() {
    let fake = Arc::new(Fake::gated(Limits::default()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(crate::serve_http(
        Arc::clone(&fake) as Arc<dyn Accept>,
        listener,
        async {
            let _ = stopped.await;
        },
    ));
    let open = tokio::spawn(async move { post(&url, JSON, ONE_SPAN).await.status() });
    fake.started(1).await;
    stop.send(()).unwrap();
    fake.open_gate();
    assert_eq!(open.await.unwrap(), 200);
    server.await.unwrap().unwrap();
}
