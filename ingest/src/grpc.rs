//! OTLP over gRPC: the three `Export` services on one port.
//!
//! tonic carries the connections; the calls are answered here, below its codec. That keeps the request's bytes
//! for the WAL without encoding them again, bounds them before and while they are read, and words every error
//! ourselves: tonic would answer a message over the limit with OUT_OF_RANGE, which OTLP senders repeat for ever.
//!
//! A unary gRPC body is one frame: a byte that says whether it is compressed, the length (4 bytes, big endian),
//! the message.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use bytes::{BufMut, BytesMut};
use http_body_util::{BodyExt as _, Full};
use tokio::net::TcpListener;
use tonic::Code;
use tonic::body::Body;
use tonic::transport::Server;
use tower::Service;

use crate::accept::{Accept, Encoding, Signal};
use crate::compression::Compression;
use crate::error::{Error, Result};
use crate::receive::{Wire, read_body, store};
use crate::serve::serve;
use crate::status::{Refusal, success};

/// A frame's head: the compressed flag and the length.
const FRAME_HEAD_BYTES: usize = 5;
const ACCEPTED_ENCODINGS: HeaderValue = HeaderValue::from_static("identity,gzip,zstd,deflate");

/// Serves OTLP/gRPC on a listener until `shutdown`, then lets open calls finish for the limits' drain time.
///
/// # Errors
/// Internal where the server fails.
pub async fn serve_grpc(
    pipeline: Arc<dyn Accept>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let limits = pipeline.limits().clone();
    let service = ExportService { accept: pipeline };
    serve(Server::builder(), service, listener, &limits, shutdown).await
}

/// The three export services.
#[derive(Clone)]
struct ExportService {
    accept: Arc<dyn Accept>,
}

impl Service<Request<Body>> for ExportService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let accept = Arc::clone(&self.accept);
        Box::pin(async move { Ok(export(&accept, request).await) })
    }
}

async fn export(accept: &Arc<dyn Accept>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let content_type = parts
        .headers
        .get(header::CONTENT_TYPE)
        .map_or(&b""[..], HeaderValue::as_bytes);
    if !content_type.starts_with(b"application/grpc") {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    let Some(signal) = signal_of(parts.uri.path()) else {
        return refuse(tonic::Status::unimplemented(
            "this port serves the OTLP trace, logs and metrics services",
        ));
    };
    match receive(accept, signal, &parts.headers, body).await {
        Ok(answer) => respond(&answer),
        Err(Refused::Error(error)) => {
            accept.refused(signal, error.kind());
            refuse(Refusal::of(&error, accept.limits()).to_grpc())
        }
        Err(Refused::Protocol(status)) => refuse(status),
    }
}

/// A call that failed, in the pipeline's words or in gRPC's.
enum Refused {
    Error(Error),
    Protocol(tonic::Status),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

async fn receive(
    accept: &Arc<dyn Accept>,
    signal: Signal,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<Vec<u8>, Refused> {
    let limits = accept.limits();
    let principal = accept.door().admit(headers).await?;
    let grpc_encoding = headers.get("grpc-encoding").map(HeaderValue::as_bytes);
    let declared = Compression::from_header(grpc_encoding).map_err(|error| {
        Refused::Protocol(Refusal::new(StatusCode::OK, Code::Unimplemented, error.message()).to_grpc())
    })?;
    let mut ticket = accept.admission().enter()?;
    let frame = read_body(&mut body, limits, &mut ticket.reservation, |so_far| {
        let Some(head) = so_far.first_chunk::<FRAME_HEAD_BYTES>() else {
            return Ok(());
        };
        let length = frame_length(head);
        let max = if head[0] == 0 {
            limits.body_bytes_max
        } else {
            limits.compressed_bytes_max.min(limits.body_bytes_max)
        };
        if length > max {
            return Err(Error::too_large(format!(
                "the message of {length} bytes is over the limit of {max} bytes; send smaller batches"
            )));
        }
        if so_far.len() - FRAME_HEAD_BYTES > length {
            return Err(Error::invalid(
                "a unary call carries one message; this one carries more",
            ));
        }
        Ok(())
    })
    .await?;
    let Some(head) = frame.first_chunk::<FRAME_HEAD_BYTES>() else {
        return Err(Error::invalid("the call carries no message").into());
    };
    if frame.len() - FRAME_HEAD_BYTES < frame_length(head) {
        return Err(Error::invalid("the message ends before the length that it declares").into());
    }
    accept.door().take_bytes(&principal, frame.len())?;
    let compression = match (head[0], declared) {
        (0, _) => Compression::Identity,
        (1, Compression::Identity) => {
            return Err(Refused::Protocol(tonic::Status::internal(
                "protocol error: the message is flagged as compressed but grpc-encoding names no encoding",
            )));
        }
        (1, compression) => compression,
        (flag, _) => {
            return Err(Refused::Protocol(tonic::Status::internal(format!(
                "protocol error: {flag} is not a compressed flag"
            ))));
        }
    };
    let body = frame.slice(FRAME_HEAD_BYTES..);
    let wire = Wire {
        principal,
        signal,
        encoding: Encoding::Protobuf,
        compression,
        body,
        ticket,
    };
    let accepted = store(accept, wire).await?;
    Ok(success(signal, Encoding::Protobuf, &accepted, limits))
}

fn frame_length(head: &[u8; FRAME_HEAD_BYTES]) -> usize {
    u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize
}

fn signal_of(path: &str) -> Option<Signal> {
    match path {
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Some(Signal::Traces),
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Some(Signal::Logs),
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Some(Signal::Metrics),
        _ => None,
    }
}

fn respond(message: &[u8]) -> Response<Body> {
    let mut frame = BytesMut::with_capacity(FRAME_HEAD_BYTES + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(tonic::Status::GRPC_STATUS, HeaderValue::from_static("0"));
    let body = Full::new(frame.freeze()).with_trailers(std::future::ready(Some(Ok::<_, Infallible>(trailers))));
    let mut response = Response::new(Body::new(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
        .headers_mut()
        .insert("grpc-accept-encoding", ACCEPTED_ENCODINGS);
    response
}

fn refuse(status: tonic::Status) -> Response<Body> {
    let mut response = status.into_http::<Body>();
    response
        .headers_mut()
        .insert("grpc-accept-encoding", ACCEPTED_ENCODINGS);
    response
}

#[cfg(test)]
mod tests;
