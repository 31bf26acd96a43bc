//! The one error type of the crate: a kind that says what the caller does next, a message for people, and
//! the cause.
//!
//! Errors are `Clone` because one failed fsync is answered to every request that waited for it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// Result of the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong: change it.
    Invalid,
    /// The request is over a limit: make it smaller.
    TooLarge,
    /// No credential, or one that is not known.
    Unauthenticated,
    /// The credential does not allow this.
    Forbidden,
    /// Not now: try again later.
    Busy,
    /// Stored bytes are not what was written: call a person.
    Corrupt,
    /// A defect or an environment that does not work.
    Internal,
    /// The thing asked for is not there; of the class of [`ErrorKind::Invalid`].
    NotFound,
}

/// Why the lake could not do what it was asked.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error without an underlying cause. The message is lower case, names the thing and the next step.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The request is wrong.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Try again later.
    #[must_use]
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Busy, message)
    }

    /// Stored bytes are not what was written.
    #[must_use]
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// A defect, or an environment that does not work, with its cause.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// What the caller does next.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message without its causes.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_ref()
            .map(|source| source.as_ref() as &(dyn StdError + 'static))
    }
}

/// Gives a foreign error the crate's kind and a message that names what was being done.
pub(crate) trait Context<T> {
    /// A defect or an environment that does not work.
    fn or_internal(self, message: impl FnOnce() -> String) -> Result<T>;
    /// Something that may work later: a full disk, a slow store.
    fn or_busy(self, message: impl FnOnce() -> String) -> Result<T>;
    /// Stored bytes that cannot be read.
    fn or_corrupt(self, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: StdError + Send + Sync + 'static> Context<T> for std::result::Result<T, E> {
    fn or_internal(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::internal(message()).with_source(source))
    }

    fn or_busy(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::busy(message()).with_source(source))
    }

    fn or_corrupt(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::corrupt(message()).with_source(source))
    }
}
