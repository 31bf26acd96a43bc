//! The receivers' answers, as the OTLP specification has them: media types, compression, partial success,
//! errors that a client may or must not retry.

use spanledger_testkit::grpc::{Code, GrpcClient};
use spanledger_testkit::otlp::{self, Body, Encoding, Signal, gzip, proto, text};

use crate::support::{TestServer, int};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
/// Above the limit of 64 MiB after decompression, and a few KiB under gzip.
const TOO_LARGE_BYTES: usize = (64 << 20) + 1024;

fn one_span(number: u64) -> proto::collector::trace::v1::ExportTraceServiceRequest {
    let span = otlp::span(
        number,
        number,
        "work",
        1_790_000_000_000_000_000,
        1_000,
        vec![text("key", "value")],
    );
    otlp::traces(vec![text("service.name", "otlp-test")], "otlp-test", vec![span])
}

async fn n_spans(server: &TestServer) -> i64 {
    int(&server.sql_row("SELECT COUNT(*) AS n FROM spans").await.unwrap(), "n")
}

#[tokio::test]
async fn an_accepted_request_is_answered_in_its_own_media_type() {
    let server = TestServer::start().await;
    let check = async |body: Body, content_type: &str, expected_type: &str, expected_body: &str| {
        let answer = server
            .post_raw(body.signal, body.bytes, &[("content-type", content_type)])
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{content_type}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some(expected_type), "{content_type}");
        assert_eq!(answer.text(), expected_body, "{content_type}");
    };
    check(otlp::protobuf(&one_span(1)), PROTOBUF, PROTOBUF, "").await;
    check(otlp::json(&one_span(2)).unwrap(), JSON, JSON, "{}").await;
    check(
        otlp::json(&one_span(3)).unwrap(),
        "application/json; charset=utf-8",
        JSON,
        "{}",
    )
    .await;
    for signal in [Signal::Traces, Signal::Logs, Signal::Metrics] {
        let empty = |encoding, bytes: &[u8]| Body {
            signal,
            encoding,
            bytes: bytes.to_vec(),
        };
        check(empty(Encoding::Protobuf, b""), PROTOBUF, PROTOBUF, "").await;
        check(empty(Encoding::Json, b"{}"), JSON, JSON, "{}").await;
    }
    assert_eq!(n_spans(&server).await, 3, "acknowledged spans are visible to SQL");
}

#[tokio::test]
async fn compressed_and_chunked_bodies_and_path_prefixes_are_accepted() {
    let server = TestServer::start().await;
    let body = otlp::protobuf(&one_span(1));
    let headers = [("content-type", PROTOBUF), ("content-encoding", "gzip")];
    let answer = server
        .post_raw(Signal::Traces, body.gzip().unwrap(), &headers)
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "gzip: {}", answer.text());

    let url = format!("{}/any/prefix/v1/traces", server.addresses().otlp_http);
    let bytes = otlp::protobuf(&one_span(2)).bytes;
    let chunks: Vec<_> = bytes
        .chunks(10)
        .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
        .collect();
    let request = reqwest::Client::new().post(url).header("content-type", PROTOBUF);
    let answer = request
        .body(reqwest::Body::wrap_stream(futures::stream::iter(chunks)))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 200, "chunked, under a prefix");
    assert_eq!(n_spans(&server).await, 2);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_a_status_in_its_own_encoding() {
    let server = TestServer::start().await;
    let check = async |bytes: &[u8], headers: &[(&str, &str)], expected: u16| {
        let answer = server.post_raw(Signal::Traces, bytes.to_vec(), headers).await.unwrap();
        assert_eq!(answer.status, expected, "{headers:?}: {}", answer.text());
        answer
    };
    let answer = check(b"{\"resourceSpans\": [", &[("content-type", JSON)], 400).await;
    assert_eq!(answer.header("content-type"), Some(JSON));
    let status = answer.json().unwrap();
    assert_eq!(status["code"], 3, "INVALID_ARGUMENT: {status}");
    assert!(
        status["message"].as_str().is_some_and(|message| !message.is_empty()),
        "{status}"
    );

    let answer = check(b"\xff\xff\xff", &[("content-type", PROTOBUF)], 400).await;
    assert_eq!(answer.header("content-type"), Some(PROTOBUF));
    assert_eq!(
        &answer.body[..2],
        &[0x08, 0x03],
        "google.rpc.Status with code 3: {:?}",
        answer.body
    );

    check(
        b"plain bytes",
        &[("content-type", PROTOBUF), ("content-encoding", "gzip")],
        400,
    )
    .await;
    check(b"", &[("content-type", "text/html")], 415).await;
    check(b"", &[("content-type", PROTOBUF), ("content-encoding", "br")], 415).await;
    let answer = reqwest::get(format!("{}/v1/traces", server.addresses().otlp_http))
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 405);
    assert_eq!(n_spans(&server).await, 0);
}

#[tokio::test]
async fn one_bad_span_never_drops_its_neighbours() {
    let server = TestServer::start().await;
    let mut request = one_span(1);
    let spans = &mut request.resource_spans[0].scope_spans[0].spans;
    let mut bad = spans[0].clone();
    bad.trace_id = vec![1, 2, 3];
    spans.insert(0, bad);
    spans.push(one_span(2).resource_spans[0].scope_spans[0].spans[0].clone());

    let answer = server.post(&otlp::json(&request).unwrap()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let partial = answer.json().unwrap()["partialSuccess"].clone();
    let rejected = partial["rejectedSpans"]
        .as_str()
        .map(str::to_owned)
        .unwrap_or(partial["rejectedSpans"].to_string());
    assert_eq!(rejected, "1", "{partial}");
    assert!(
        partial["errorMessage"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{partial}"
    );
    assert_eq!(n_spans(&server).await, 2);

    let client = GrpcClient::connect(&server.addresses().otlp_grpc).await.unwrap();
    let partial = client.export(request).await.unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_for_good() {
    let server = TestServer::start().await;
    let bomb = gzip(&vec![b' '; TOO_LARGE_BYTES]).unwrap();
    assert!(bomb.len() < 1 << 20, "small on the wire");
    for content_type in [JSON, PROTOBUF] {
        let headers = [("content-type", content_type), ("content-encoding", "gzip")];
        let answer = server.post_raw(Signal::Traces, bomb.clone(), &headers).await.unwrap();
        assert_eq!(answer.status, 413, "{content_type}: {}", answer.text());
        assert_eq!(answer.header("retry-after"), None);
    }
    let mut large = one_span(1);
    let attribute = text("text", &" ".repeat(TOO_LARGE_BYTES));
    large.resource_spans[0].scope_spans[0].spans[0]
        .attributes
        .push(attribute);
    let client = GrpcClient::connect(&server.addresses().otlp_grpc).await.unwrap();
    let status = client.gzipped().export(large).await.unwrap_err();
    // a client repeats OUT_OF_RANGE, which is what tonic itself would answer
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.details().is_empty() || !String::from_utf8_lossy(status.details()).contains("RetryInfo"));
    assert_eq!(server.get("/healthz").await.unwrap().status, 200);
}

#[tokio::test]
async fn grpc_takes_plain_and_gzipped_requests() {
    let server = TestServer::start().await;
    let client = GrpcClient::connect(&server.addresses().otlp_grpc).await.unwrap();
    for (client, number) in [(client.clone(), 1), (client.gzipped(), 2)] {
        let response = client.export(one_span(number)).await.unwrap();
        assert_eq!(response.partial_success, None, "unset after a full success");
    }
    assert_eq!(n_spans(&server).await, 2);
}

#[tokio::test]
async fn a_repeated_request_is_answered_like_the_first_and_stored_once() {
    let server = TestServer::start().await;
    for body in [otlp::protobuf(&one_span(1)), otlp::protobuf(&one_span(1))] {
        assert_eq!(server.post(&body).await.unwrap().status, 200);
    }
    assert_eq!(n_spans(&server).await, 1);
}
