//! What lasts: a body that comes slowly, and an answer that goes on as long as its client listens.
//!
//! Sits in the access layer ([`super::access`]), around every route of the HTTP port. Guarantees: the body of a request
//! is whole within [`BODY_WITHIN`] or reading it fails, so that nobody holds a connection by sending nothing; an event
//! stream ends within [`LOOK`], and the time for which a key is believed, after its credential is refused or means
//! something else than it did. It bounds no sizes. Other answers are not looked at again: they end by the limits of
//! queries.

use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::header;
use axum::response::Response;
use futures::{StreamExt as _, stream};
use spanledger_access::{AccessError, Principal, SharedAuthenticator};

/// From the first byte of a body to its last. As the receivers give a request; MCP gives less.
pub const BODY_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at the credential of an open stream: with the 250 ms for which a key is believed, a revoked one
/// hears nothing after a second.
pub const LOOK: Duration = Duration::from_millis(500);

/// The same body, which fails where it is not whole in time.
pub fn bounded(body: Body, within: Duration) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let mut frames = body.into_data_stream();
    let mut late = Box::pin(tokio::time::sleep(within));
    Body::from_stream(stream::poll_fn(move |context| match late.as_mut().poll(context) {
        // An end would pass for a whole body that is shorter.
        Poll::Ready(()) => Poll::Ready(Some(Err(axum::Error::new(std::io::Error::from(
            std::io::ErrorKind::TimedOut,
        ))))),
        Poll::Pending => frames.poll_next_unpin(context),
    }))
}

/// Whose answer it is, and how to ask again.
pub struct Listener {
    /// Asks again.
    pub authenticator: SharedAuthenticator,
    /// With this.
    pub authorization: String,
    /// Which meant this principal.
    pub principal: Principal,
}

impl Listener {
    /// The answer; an event stream only as long as the credential means the same.
    pub fn hears(self, response: Response) -> Response {
        let kind = response.headers().get(header::CONTENT_TYPE);
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
            return response;
        }
        response.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(self.refused()))))
    }

    /// Ends when the credential is refused, or means something else.
    async fn refused(self) {
        loop {
            tokio::time::sleep(LOOK).await;
            match self.authenticator.authenticate(Some(&self.authorization)).await {
                Ok(principal) if principal == self.principal => {}
                // Who cannot be asked says nothing: the next look does.
                Err(AccessError::Unavailable(_)) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use bytes::Bytes;

    #[tokio::test]
    async fn a_body_that_is_not_whole_in_time_fails_and_does_not_end() {
        let silent = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let read = axum::body::to_bytes(bounded(silent, Duration::from_millis(1)), 100).await;
        assert!(read.is_err());
        let dripping = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]).chain(stream::pending());
        let read = axum::body::to_bytes(bounded(Body::from_stream(dripping), Duration::from_millis(1)), 100).await;
        assert!(read.is_err());
        let whole = bounded(Body::from("{}"), BODY_WITHIN);
        assert_eq!(axum::body::to_bytes(whole, 100).await.unwrap(), "{}");
        assert!(bounded(Body::empty(), Duration::ZERO).is_end_stream());
    }
}
