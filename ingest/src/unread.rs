//! Answers that are given before the request's body was read: most refusals.
//!
//! hyper closes an HTTP/1 connection whose request was not read to its end. A sender that still writes then loses the
//! answer to a reset, and one that has read it may already be sending its next request over the same connection (an
//! OAuth client's, with the token that the refusal asked for). So what is left of a body is taken off the wire before
//! the answer goes out, within bounds; where that cannot be, the answer says that the connection closes. HTTP/2 needs
//! none of this: its streams end one by one.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;

/// How long what is left of a body is read and thrown away.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads what an answer left unread, `bytes_max` at most.
pub(crate) async fn discard(State(bytes_max): State<usize>, request: Request, next: Next) -> Response {
    if request.version() >= Version::HTTP_2 || request.body().is_end_stream() {
        return next.run(request).await;
    }
    // Nothing is sent before it is asked for, and an answer in its place ends the exchange.
    let is_waiting = request.headers().contains_key(header::EXPECT);
    let (back, mut left) = oneshot::channel();
    let lend = |body| Body::new(Lent { body, back: Some(back) });
    let mut response = next.run(request.map(lend)).await;
    let Ok(body) = left.try_recv() else {
        return response;
    };
    // Who is told to come back later is not listened to now.
    let is_later = response.headers().contains_key(header::RETRY_AFTER);
    if is_waiting || is_later || !ends(body, bytes_max).await {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// True where the body was read to its end in time.
async fn ends(mut body: Body, bytes_max: usize) -> bool {
    let read = async {
        let mut n_bytes = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            n_bytes += frame.data_ref().map_or(0, Bytes::len);
            if n_bytes > bytes_max {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(DISCARD_TIMEOUT, read).await.unwrap_or(false)
}

/// A body that comes back when it is dropped before its end.
struct Lent {
    body: Body,
    back: Option<oneshot::Sender<Body>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.back = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(back) = self.back.take()
            && !self.body.is_end_stream()
        {
            // Nobody waits for it once the answer is under way.
            let _ = back.send(std::mem::take(&mut self.body));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use axum::http::StatusCode;
    use axum::response::IntoResponse as _;
    use axum::routing::post;
    use axum::{Router, middleware};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::limits::Limits;

    const BYTES_MAX: usize = 1000;

    /// A connection to a server that reads the bodies of `/read` only.
    async fn connect() -> TcpStream {
        let router = Router::new()
            .route("/read", post(async |body: Bytes| body.len().to_string()))
            .route("/refuse", post(async || StatusCode::UNAUTHORIZED))
            .route(
                "/later",
                post(async || (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response()),
            )
            .layer(middleware::from_fn_with_state(BYTES_MAX, discard));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let limits = Limits::default();
            crate::serve_router(router, listener, &limits, std::future::pending()).await
        });
        TcpStream::connect(address).await.unwrap()
    }

    /// Sends a head, its body after a while, and reads the answer's head.
    async fn ask(stream: &mut TcpStream, path: &str, header: &str, n_bytes: usize) -> String {
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {n_bytes}\r\n{header}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        // A server that has closed may say so here.
        let _ = stream.write_all(&vec![b'x'; n_bytes]).await;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn a_refused_sender_reads_its_answer_and_asks_again_over_the_same_connection() {
        let mut stream = connect().await;
        for _ in 0..2 {
            let answer = ask(&mut stream, "/refuse", "", BYTES_MAX).await;
            assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
            assert!(!answer.contains("connection: close"), "{answer}");
        }
        let answer = ask(&mut stream, "/read", "", BYTES_MAX).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[tokio::test]
    async fn an_answer_that_ends_its_connection_says_so() {
        for (path, header, n_bytes) in [
            ("/refuse", "", 100 * BYTES_MAX),
            ("/refuse", "expect: 100-continue\r\n", 10),
            ("/later", "", 10),
        ] {
            let answer = ask(&mut connect().await, path, header, n_bytes).await;
            assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
            assert!(
                answer.contains("connection: close"),
                "{path} {header} {n_bytes}: {answer}"
            );
        }
    }
}
