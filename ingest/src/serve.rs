//! Connections: how many, how they are bounded, how they end. Both receivers are served through it, and the port
//! of the faces.
//!
//! tonic's server carries them: hyper under it times out slow headers (30 s, idle connections as well), bounds
//! HTTP/2 streams and resets, and lets open requests finish at shutdown. Added here: a bound on connections, on how
//! long one may stay silent before hyper knows its protocol, on how long one may leave an answer where it is, and on
//! how long shutdown waits.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::{Request, Response};
use axum::middleware;
use bytes::Bytes;
use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Sleep;
use tonic::body::Body;
use tonic::transport::server::{Connected, Server, TcpConnectInfo};
use tower::Service;

use crate::error::{Error, Result};
use crate::limits::{CONNECTION_WINDOW_BYTES, DISCARD_FACES_BYTES_MAX, HEADER_BYTES_MAX, Limits, STREAM_WINDOW_BYTES};
use crate::unread;

/// Pause after an accept that failed (out of file handles), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A silent HTTP/2 peer is asked after this long whether it is still there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
/// A new connection that has not said which protocol it speaks is closed after this long.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that takes nothing of what is written to it is closed after this long: what it was answered is in
/// memory until then.
const TAKING_TIMEOUT: Duration = Duration::from_secs(30);
/// What every HTTP/2 connection begins with (RFC 9113 section 3.4), and no HTTP/1 request.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves any router over HTTP/1.1 and HTTP/2 on a listener until `shutdown`, with the bounds on connections of the
/// receivers, then lets open requests finish for the limits' drain time.
///
/// # Errors
/// Internal where the server fails.
pub async fn serve_router(
    router: Router,
    listener: TcpListener,
    limits: &Limits,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let router = router.layer(middleware::from_fn_with_state(DISCARD_FACES_BYTES_MAX, unread::discard));
    serve(Server::builder().accept_http1(true), router, listener, limits, shutdown).await
}

/// Serves a service on a listener until `shutdown`, then lets open requests finish for the limits' drain time.
///
/// # Errors
/// Internal where the server fails.
pub(crate) async fn serve<S, B>(
    server: Server,
    service: S,
    listener: TcpListener,
    limits: &Limits,
    shutdown: impl Future<Output = ()>,
) -> Result<()>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    B: axum::body::HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (stop, stopped) = oneshot::channel::<()>();
    let mut server = pin!(
        server
            .max_concurrent_streams(limits.streams_per_connection_max)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_max_header_list_size(HEADER_BYTES_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .serve_with_incoming_shutdown(service, incoming(listener, limits.connections_max), async {
                let _ = stopped.await;
            })
    );
    let failed = |error| Error::internal("the otlp server failed").caused_by(error);
    tokio::select! {
        ended = &mut server => return ended.map_err(failed),
        () = shutdown => {}
    }
    // The server holds the receiving end until it is done.
    let _ = stop.send(());
    match tokio::time::timeout(Duration::from_millis(limits.drain_ms), server).await {
        Ok(ended) => ended.map_err(failed),
        Err(_) => {
            tracing::warn!(drain_ms = limits.drain_ms, "open otlp requests did not finish in time");
            Ok(())
        }
    }
}

/// Accepts at most so many connections; further ones wait in the listener's backlog.
fn incoming(listener: TcpListener, connections_max: usize) -> impl Stream<Item = std::io::Result<Connection>> {
    let slots = Arc::new(Semaphore::new(connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    futures::stream::unfold((listener, slots), |(listener, slots)| async move {
        let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
        let accepted = match listener.accept().await {
            Ok((stream, _)) => stream.set_nodelay(true).map(|()| Connection {
                stream,
                greeting: Some(Greeting::new()),
                taking: None,
                _slot: slot,
            }),
            Err(error) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                Err(error)
            }
        };
        Some((accepted, (listener, slots)))
    })
}

/// A connection that gives its slot back when it is closed, and that is closed where it does not say which
/// protocol it speaks, or does not read: hyper waits for both without end.
struct Connection {
    stream: TcpStream,
    greeting: Option<Greeting>,
    /// Until when something of what waits has to be taken.
    taking: Option<Pin<Box<Sleep>>>,
    _slot: OwnedSemaphorePermit,
}

/// What is awaited of a new connection: its first bytes, which tell HTTP/1 and HTTP/2 apart.
struct Greeting {
    n_bytes: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Greeting {
    fn new() -> Self {
        Self {
            n_bytes: 0,
            deadline: Box::pin(tokio::time::sleep(GREETING_TIMEOUT)),
        }
    }

    /// True once `read`, which follows the bytes before, settles which protocol it is.
    fn ends_with(&mut self, read: &[u8]) -> bool {
        let expected = &HTTP2_PREFACE[self.n_bytes..];
        let n_compared = read.len().min(expected.len());
        self.n_bytes += n_compared;
        read[..n_compared] != expected[..n_compared] || self.n_bytes == HTTP2_PREFACE.len()
    }
}

impl Connection {
    /// What a write came to; an error where nothing was taken for too long.
    fn taken<T>(&mut self, cx: &mut Context<'_>, written: Poll<std::io::Result<T>>) -> Poll<std::io::Result<T>> {
        if written.is_ready() {
            self.taking = None;
            return written;
        }
        let deadline = self
            .taking
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(TAKING_TIMEOUT)));
        deadline
            .as_mut()
            .poll(cx)
            .map(|()| Err(std::io::ErrorKind::TimedOut.into()))
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let n_before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some(greeting) = &mut self.greeting else {
            return read;
        };
        match &read {
            Poll::Ready(Ok(())) => {
                if greeting.ends_with(&buf.filled()[n_before..]) {
                    self.greeting = None;
                }
                read
            }
            Poll::Ready(Err(_)) => read,
            Poll::Pending => greeting
                .deadline
                .as_mut()
                .poll(cx)
                .map(|()| Err(std::io::ErrorKind::TimedOut.into())),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, data);
        self.taken(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, data);
        self.taken(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_greeting_is_over_when_the_protocol_is_known() {
        for (reads, is_over) in [
            (&["GET /"][..], true),
            (&["P", "OST"], true),
            (&["PRI * HTTP/2.0\r\n"], false),
            (&["PRI * HTTP/2.0\r\n", "\r\nSM\r\n\r\n and more"], true),
            (&["", "P"], false),
        ] {
            let mut greeting = Greeting::new();
            let over = reads.iter().any(|read| greeting.ends_with(read.as_bytes()));
            assert_eq!(over, is_over, "{reads:?}");
        }
    }
}
