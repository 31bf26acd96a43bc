//! The crate's one error. Its kind says what the sender does next; [`crate::status`] turns it into the
//! status of OTLP over gRPC and over HTTP.
//!
//! The message is for the sender: lowercase, it names the thing and the next step. What must not leave the
//! server (paths, causes) stays in `source`, which only the log shows.

use std::time::Duration;

use spanledger_access::AccessError;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the sender does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong and will be wrong again: not to be retried.
    Invalid,
    /// The request is over a limit and will be over it again: not to be retried.
    TooLarge,
    /// There is no credential, or it is not known.
    Unauthenticated,
    /// The credential does not allow this.
    Forbidden,
    /// The server cannot take it now: send it again later.
    Busy,
    /// The tenant sends more than it may: send it again later.
    RateLimited,
    /// Stored data is damaged.
    Corrupt,
    /// A fault of ours.
    Internal,
}

impl ErrorKind {
    /// The kind as a metric label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Busy => "busy",
            Self::RateLimited => "rate_limited",
            Self::Corrupt => "corrupt",
            Self::Internal => "internal",
        }
    }
}

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    field: &'static str,
    retry_after: Option<Duration>,
    challenge: Option<String>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of a kind.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            field: "body",
            retry_after: None,
            challenge: None,
            source: None,
        }
    }

    /// A request that cannot be read.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// A request over a limit.
    #[must_use]
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::TooLarge, message)
    }

    /// A server that cannot take the request now.
    #[must_use]
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Busy, message)
    }

    /// A tenant that is over its rate, and when the same request is taken.
    #[must_use]
    pub fn rate_limited(retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(
                ErrorKind::RateLimited,
                "this tenant sends more than it may; send this request again later, in larger batches",
            )
        }
    }

    /// A fault of ours.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// What the sender does next.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The text for the sender.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The part of the request that is at fault, as OTLP names it (`body`, `resourceSpans`).
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// When the same request will be taken, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// `WWW-Authenticate` of the answer.
    #[must_use]
    pub fn challenge(&self) -> Option<&str> {
        self.challenge.as_deref()
    }

    /// Adds what a sender is told about credentials.
    #[must_use]
    pub fn with_challenge(mut self, challenge: Option<String>) -> Self {
        self.challenge = challenge;
        self
    }

    /// Names the part of the request that is at fault.
    #[must_use]
    pub fn in_field(mut self, field: &'static str) -> Self {
        self.field = field;
        self
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl From<AccessError> for Error {
    fn from(error: AccessError) -> Self {
        let kind = match error {
            AccessError::Unauthenticated(_) => ErrorKind::Unauthenticated,
            AccessError::Forbidden(_) | AccessError::InsufficientScope { .. } => ErrorKind::Forbidden,
            AccessError::Unavailable(_) => ErrorKind::Busy,
            AccessError::Invalid(_) => ErrorKind::Invalid,
        };
        Self::new(kind, error.to_string())
    }
}
