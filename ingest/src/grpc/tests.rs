//! The gRPC receiver over loopback, with opentelemetry-proto's clients.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use bytes::{Buf, Bytes};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic_types::StatusExt;

use super::*;
use crate::accept::{Accepted, Request as Export};
use crate::error::ErrorKind;
use crate::limits::Limits;
use crate::testing::{Fake, serve_grpc, traces};

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

async fn client(fake: &Arc<Fake>) -> TraceServiceClient<Channel> {
    let (address, _, _) = serving(fake).await;
    TraceServiceClient::connect(address).await.unwrap()
}

/// As `serve_grpc`, for tests that never stop the server.
async fn serving(fake: &Arc<Fake>) -> (String, (), ()) {
    let (address, stop, _) = serve_grpc(fake).await;
    std::mem::forget(stop);
    (address, (), ())
}

/// Sends bytes as the message of a call.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}

async fn call(
    address: &str,
    path: &'static str,
    message: Bytes,
    header: Option<(&'static str, &'static str)>,
) -> Result<Bytes, tonic::Status> {
    let channel = Channel::from_shared(address.to_owned())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(message);
    if let Some((name, value)) = header {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    client
        .unary(request, path.parse().unwrap(), Raw)
        .await
        .map(tonic::Response::into_inner)
}

#[tokio::test]
async fn all_signals_and_compressions_are_served_on_one_port() {
    let fake = Arc::new(Fake::new(Limits::default()));
    let (address, ..) = serving(&fake).await;
    let mut client = TraceServiceClient::connect(address.clone()).await.unwrap();
    let request = traces(5_000);
    assert_eq!(
        client
            .export(request.clone())
            .await
            .unwrap()
            .into_inner()
            .partial_success,
        None
    );
    for compression in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut client = client
            .clone()
            .send_compressed(compression)
            .accept_compressed(compression);
        client.export(request.clone()).await.unwrap();
    }
    for (seen, body, _) in fake.seen.lock().drain(..) {
        assert_eq!(body, request.encode_to_vec());
        assert_eq!(seen, Export::Traces(request.clone()));
    }
    let logs = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs {
                log_records: vec![LogRecord::default()],
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    };
    LogsServiceClient::connect(address.clone())
        .await
        .unwrap()
        .export(logs.clone())
        .await
        .unwrap();
    assert_eq!(fake.seen.lock()[0].0, Export::Logs(logs));
    // An empty request is a success and is not stored.
    MetricsServiceClient::connect(address)
        .await
        .unwrap()
        .export(ExportMetricsServiceRequest::default())
        .await
        .unwrap();
    assert_eq!(fake.seen.lock().len(), 1);
    assert_eq!(fake.admission().bytes_in_flight(), 0);
}

#[tokio::test]
async fn a_message_over_the_limit_is_resource_exhausted_without_a_retry_hint() {
    let fake = Arc::new(Fake::new(Limits {
        body_bytes_max: 64 << 10,
        ..Limits::default()
    }));
    let client = client(&fake).await;
    // Over it as declared, and over it only once inflated.
    for mut client in [
        client.clone(),
        client.clone().send_compressed(CompressionEncoding::Gzip),
        client.send_compressed(CompressionEncoding::Zstd),
    ] {
        let status = client.export(traces(20_000)).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(status.get_details_retry_info().is_none());
        assert!(status.message().contains("65536 bytes"), "{}", status.message());
    }
    assert_eq!(*fake.refusals.lock(), [ErrorKind::TooLarge; 3]);
    assert_eq!(fake.admission().bytes_in_flight(), 0);
}

#[tokio::test]
async fn a_bomb_holds_no_more_than_the_limit() {
    let limits = Limits {
        body_bytes_max: 1 << 20,
        bodies_in_flight_bytes_max: 4 << 20,
        ..Limits::default()
    };
    let fake = Arc::new(Fake::new(limits));
    let (address, ..) = serving(&fake).await;
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    for compression in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut client = tonic::client::Grpc::new(channel.clone()).send_compressed(compression);
        client.ready().await.unwrap();
        let request = tonic::Request::new(Bytes::from(vec![0; 16 << 20]));
        let status = client.unary(request, TRACES.parse().unwrap(), Raw).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    }
}

#[tokio::test]
async fn a_busy_pipeline_is_unavailable_with_a_retry_hint() {
    let fake = Arc::new(Fake::answering(|_| Err(Error::busy("the disk is full"))));
    let status = client(&fake).await.export(traces(1)).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "the disk is full")
    );
    assert_eq!(
        status.get_details_retry_info().unwrap().retry_delay,
        Some(Duration::from_secs(1))
    );
}

#[tokio::test]
async fn partial_success_tells_the_count_and_the_reason() {
    let fake = Arc::new(Fake::answering(|request| {
        Ok(Accepted {
            n_accepted: request.n_records(),
            n_rejected: 2,
            message: Some("two bad".into()),
            duplicate: false,
        })
    }));
    let mut request = traces(3);
    request.resource_spans[0].scope_spans[0].spans[1].name = "BAD".to_owned();
    let mut body = request.encode_to_vec();
    let at = body.windows(3).position(|window| window == b"BAD").unwrap();
    body[at] = 0xff;
    let (address, ..) = serving(&fake).await;
    let answer = call(&address, TRACES, body.into(), None).await.unwrap();
    let answer = opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse::decode(answer).unwrap();
    let partial = answer.partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 3);
    assert!(
        partial.error_message.starts_with("1 of the spans could not be read"),
        "{}",
        partial.error_message
    );
    assert!(
        partial.error_message.ends_with("; two bad"),
        "{}",
        partial.error_message
    );
    assert_eq!(fake.seen.lock()[0].0.n_records(), 2);
}

#[tokio::test]
async fn an_undecodable_message_is_an_invalid_argument_with_bad_request() {
    let fake = Arc::new(Fake::new(Limits::default()));
    let (address, ..) = serving(&fake).await;
    let status = call(&address, TRACES, Bytes::from_static(b"not protobuf"), None)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(
        status.get_details_bad_request().unwrap().field_violations[0].field,
        "body"
    );
    assert!(
        status.message().starts_with("the protobuf body cannot be decoded: "),
        "{}",
        status.message()
    );
}

#[tokio::test]
async fn unknown_services_and_encodings_are_unimplemented() {
    let fake = Arc::new(Fake::new(Limits::default()));
    let (address, ..) = serving(&fake).await;
    let profiles = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";
    assert_eq!(
        call(&address, profiles, Bytes::new(), None).await.unwrap_err().code(),
        Code::Unimplemented
    );
    let status = call(&address, TRACES, Bytes::new(), Some(("grpc-encoding", "br")))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(
        status.metadata().get("grpc-accept-encoding").unwrap(),
        "identity,gzip,zstd,deflate"
    );
}

#[tokio::test]
async fn the_credential_is_checked() {
    let fake = Arc::new(Fake::with_keys());
    let (address, ..) = serving(&fake).await;
    for (key, code) in [("", Code::Unauthenticated), ("Bearer reader", Code::PermissionDenied)] {
        let header = (!key.is_empty()).then_some(("authorization", key));
        assert_eq!(
            call(&address, TRACES, Bytes::new(), header).await.unwrap_err().code(),
            code,
            "{key}"
        );
    }
    call(&address, TRACES, Bytes::new(), Some(("authorization", "Bearer writer")))
        .await
        .unwrap();
}

#[tokio::test]
async fn open_calls_finish_at_shutdown() {
    let fake = Arc::new(Fake::gated(Limits::default()));
    let (address, stop, server) = serve_grpc(&fake).await;
    let mut client = TraceServiceClient::connect(address.clone()).await.unwrap();
    let open = tokio::spawn(async move { client.export(traces(1)).await });
    fake.started(1).await;
    stop.send(()).unwrap();
    // The listener closes at once, the call goes on.
    let address = address.strip_prefix("http://").unwrap().to_owned();
    while tokio::net::TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!server.is_finished());
    fake.open_gate();
    open.await.unwrap().unwrap();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_call_that_never_ends_does_not_hold_up_shutdown_for_ever() {
    let fake = Arc::new(Fake::gated(Limits {
        drain_ms: 20,
        ..Limits::default()
    }));
    let (address, stop, server) = serve_grpc(&fake).await;
    let mut client = TraceServiceClient::connect(address).await.unwrap();
    let open = tokio::spawn(async move { client.export(traces(1)).await });
    fake.started(1).await;
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    open.abort();
}
