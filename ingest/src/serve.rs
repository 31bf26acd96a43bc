//! Connections: how many, how they are bounded, how they end. Both receivers are served through it.
//!
//! tonic's server carries both: hyper under it times out slow headers, bounds HTTP/2 streams and resets, and lets
//! open requests finish at shutdown. Added here: a bound on connections and on how long shutdown waits.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{Request, Response};
use bytes::Bytes;
use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tonic::body::Body;
use tonic::transport::server::{Connected, Server, TcpConnectInfo};
use tower::Service;

use crate::error::{Error, Result};
use crate::limits::{CONNECTION_WINDOW_BYTES, HEADER_BYTES_MAX, Limits, STREAM_WINDOW_BYTES};

/// Pause after an accept that failed (out of file handles), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A silent HTTP/2 peer is asked after this long whether it is still there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);

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
            Ok((stream, _)) => stream.set_nodelay(true).map(|()| Connection { stream, _slot: slot }),
            Err(error) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                Err(error)
            }
        };
        Some((accepted, (listener, slots)))
    })
}

/// A connection that gives its slot back when it is closed.
struct Connection {
    stream: TcpStream,
    _slot: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, data)
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
