//! OTLP over HTTP: `POST …/v1/traces`, `…/v1/logs`, `…/v1/metrics` under any prefix, protobuf and JSON on one
//! port, chosen by Content-Type.
//!
//! `refuse what is not ours → authenticate → read → inflate → decode → accept → answer`. An answer has the
//! request's media type, an error is a `google.rpc.Status`, and only 429 and 503, with Retry-After, are
//! tried again by a sender. A web page of another site cannot write: its Origin is refused.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware;
use axum::response::Response;
use tokio::net::TcpListener;
use tonic::Code;
use tonic::transport::Server;

use crate::accept::{Accept, Encoding, Signal};
use crate::compression::{self, Compression};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::DISCARD_BYTES_MAX;
use crate::receive::{Wire, read_body, store};
use crate::serve::serve;
use crate::status::{Refusal, success};
use crate::unread;

/// The OTLP/HTTP receiver. Every path that ends in `/v1/traces`, `/v1/logs` or `/v1/metrics` is served; routes
/// may be added to it.
pub fn http_router(pipeline: Arc<dyn Accept>) -> Router {
    Router::new()
        .fallback(export)
        .layer(middleware::from_fn_with_state(DISCARD_BYTES_MAX, unread::discard))
        .with_state(pipeline)
}

/// Serves OTLP/HTTP on a listener until `shutdown`, then lets open requests finish for the limits' drain time.
/// HTTP/1.1 and HTTP/2 without TLS; connections are bounded as those of gRPC are.
///
/// # Errors
/// Internal where the server fails.
pub async fn serve_http(
    pipeline: Arc<dyn Accept>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let limits = pipeline.limits().clone();
    serve(
        Server::builder().accept_http1(true),
        http_router(pipeline),
        listener,
        &limits,
        shutdown,
    )
    .await
}

/// An answer that is not a success.
struct Refused {
    refusal: Refusal,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            headers: Vec::new(),
        }
    }
}

async fn export(State(accept): State<Arc<dyn Accept>>, request: Request) -> Response {
    let (parts, mut body) = request.into_parts();
    let encoding = encoding_of(&parts.headers);
    let answer = match route(&parts.method, parts.uri.path(), encoding) {
        Ok((signal, encoding)) => match receive(&accept, signal, encoding, &parts.headers, &mut body).await {
            Ok(answer) => return respond(StatusCode::OK, encoding, answer),
            Err(error) => {
                accept.refused(signal, error.kind());
                refused(&error, &accept)
            }
        },
        Err(refused) => refused,
    };
    let encoding = encoding.unwrap_or(Encoding::Json);
    let mut response = respond(answer.refusal.http, encoding, answer.refusal.to_http_body(encoding));
    let headers = response.headers_mut();
    if let Some(seconds) = answer.refusal.retry_after_s() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    headers.extend(answer.headers);
    response
}

fn route(method: &Method, path: &str, encoding: Option<Encoding>) -> Result<(Signal, Encoding), Refused> {
    let Some(signal) = signal_of(path) else {
        let message = "no such path; OTLP is served at /v1/traces, /v1/logs and /v1/metrics";
        return Err(Refusal::new(StatusCode::NOT_FOUND, Code::NotFound, message).into());
    };
    if method != Method::POST {
        let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, "use POST");
        return Err(Refused {
            refusal,
            headers: vec![(header::ALLOW, HeaderValue::from_static("POST"))],
        });
    }
    let Some(encoding) = encoding else {
        let message = "use content type application/x-protobuf or application/json";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, message).into());
    };
    Ok((signal, encoding))
}

async fn receive(
    accept: &Arc<dyn Accept>,
    signal: Signal,
    encoding: Encoding,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<Vec<u8>> {
    let limits = accept.limits();
    let principal = accept.door().admit(headers).await?;
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let compression = Compression::from_header(encodings.next().map(HeaderValue::as_bytes))?;
    if encodings.next().is_some() {
        return Err(Error::invalid("the body is compressed more than once; compress it once").in_field("encoding"));
    }
    let max = match compression {
        Compression::Identity => limits.body_bytes_max,
        _ => limits.compressed_bytes_max.min(limits.body_bytes_max),
    };
    let check = |length: usize| {
        if length <= max {
            Ok(())
        } else {
            Err(Error::too_large(format!(
                "the body is over the limit of {max} bytes; send smaller batches"
            )))
        }
    };
    let declared = body.size_hint().lower();
    check(usize::try_from(declared).unwrap_or(usize::MAX))?;
    let mut ticket = accept.admission().enter()?;
    accept
        .admission()
        .has_room(usize::try_from(declared).unwrap_or(usize::MAX))?;
    let body = read_body(body, limits, &mut ticket.reservation, |so_far| check(so_far.len())).await?;
    accept.door().take_bytes(&principal, body.len())?;
    let accepted = store(
        accept,
        Wire {
            principal,
            signal,
            encoding,
            compression,
            body,
            ticket,
        },
    )
    .await?;
    Ok(success(signal, encoding, &accepted, limits))
}

fn refused(error: &Error, accept: &Arc<dyn Accept>) -> Refused {
    let mut refusal = Refusal::of(error, accept.limits());
    let mut headers = Vec::new();
    if let Some(challenge) = error.challenge().and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.push((header::WWW_AUTHENTICATE, challenge));
    }
    if error.kind() == ErrorKind::Invalid && error.field() == "encoding" {
        refusal.http = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        headers.push((header::ACCEPT_ENCODING, HeaderValue::from_static(compression::ACCEPTED)));
    }
    Refused { refusal, headers }
}

/// The signal of a path, under any prefix.
fn signal_of(path: &str) -> Option<Signal> {
    let path = path.strip_suffix('/').unwrap_or(path);
    [Signal::Traces, Signal::Logs, Signal::Metrics]
        .into_iter()
        .find(|signal| {
            path.strip_suffix(signal.name())
                .is_some_and(|prefix| prefix.ends_with("/v1/"))
        })
}

/// The encoding that a Content-Type names. Its parameters (`; charset=utf-8`) do not matter.
fn encoding_of(headers: &HeaderMap) -> Option<Encoding> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let media_type = value.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/x-protobuf")
        || media_type.eq_ignore_ascii_case("application/protobuf")
    {
        Some(Encoding::Protobuf)
    } else if media_type.eq_ignore_ascii_case("application/json") {
        Some(Encoding::Json)
    } else {
        None
    }
}

fn respond(status: StatusCode, encoding: Encoding, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(encoding.media_type()));
    response
}

#[cfg(test)]
mod tests;
