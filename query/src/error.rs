//! The one error type of the crate, and how the engine's errors become messages that teach.
//!
//! A planner's error is a caller's error: it is answered with what was wrong and the nearest valid names.
//! What only an operator should see (paths, causes) stays in [`Error::detail`], for the log.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

use crate::views;

/// Result of the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Names listed in a message at most: enough for any of our tables' nearest columns, short enough to read.
const NAMES_LISTED_MAX: usize = 80;

/// What the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong: change it.
    Invalid,
    /// The request or its answer is over a limit: make it smaller.
    TooLarge,
    /// No credential, or one that is not known.
    Unauthenticated,
    /// The credential does not allow this.
    Forbidden,
    /// Out of time or memory: ask for less, or later.
    Busy,
    /// Stored bytes are not what was written: call a person.
    Corrupt,
    /// A defect or an environment that does not work.
    Internal,
    /// The thing asked for is not there; of the class of [`ErrorKind::Invalid`].
    NotFound,
}

impl ErrorKind {
    /// The name in JSON error bodies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Busy => "busy",
            Self::Corrupt => "corrupt",
            Self::Internal => "internal",
            Self::NotFound => "not_found",
        }
    }
}

/// Why a question was not answered.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    file_bytes: Option<u64>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error with a message for the caller: lower case, names the thing and the next step.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            file_bytes: None,
            source: None,
        }
    }

    /// A statement that may read more bytes of files than it may.
    #[must_use]
    pub(crate) fn too_many_file_bytes(file_bytes: u64, file_bytes_max: u64) -> Self {
        let message = format!(
            "the statement may read {file_bytes} bytes of files and may read {file_bytes_max}; add a condition on time"
        );
        Self {
            file_bytes: Some(file_bytes),
            ..Self::new(ErrorKind::TooLarge, message)
        }
    }

    /// The request is wrong.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// A defect, or an environment that does not work.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Adds the cause, for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// What the caller does next.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What the caller may see.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Bytes of files that the statement may read, where it was refused for them.
    #[must_use]
    pub fn file_bytes(&self) -> Option<u64> {
        self.file_bytes
    }

    /// What the log keeps: the message with all causes.
    #[must_use]
    pub fn detail(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = StdError::source(self);
        while let Some(source) = cause {
            text.push_str(": ");
            text.push_str(&source.to_string());
            cause = source.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_ref()
            .map(|source| source.as_ref() as &(dyn StdError + 'static))
    }
}

impl From<spanledger_lake::Error> for Error {
    fn from(error: spanledger_lake::Error) -> Self {
        use spanledger_lake::ErrorKind as Lake;
        let kind = match error.kind() {
            Lake::Invalid => ErrorKind::Invalid,
            Lake::TooLarge => ErrorKind::TooLarge,
            Lake::Unauthenticated => ErrorKind::Unauthenticated,
            Lake::Forbidden => ErrorKind::Forbidden,
            Lake::Busy => ErrorKind::Busy,
            Lake::Corrupt => ErrorKind::Corrupt,
            Lake::Internal => ErrorKind::Internal,
            Lake::NotFound => ErrorKind::NotFound,
        };
        Self::new(kind, error.message().to_owned()).with_source(error)
    }
}

impl From<spanledger_access::AccessError> for Error {
    fn from(error: spanledger_access::AccessError) -> Self {
        let kind = match &error {
            spanledger_access::AccessError::Unauthenticated(_) => ErrorKind::Unauthenticated,
            spanledger_access::AccessError::Forbidden(_) | spanledger_access::AccessError::InsufficientScope { .. } => {
                ErrorKind::Forbidden
            }
            spanledger_access::AccessError::Unavailable(_) => ErrorKind::Busy,
            spanledger_access::AccessError::Invalid(_) => ErrorKind::Invalid,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::internal("the answer could not be written").with_source(error)
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        DataFusionError::from(error).into()
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        // A limit of ours raised inside a plan comes back as it went in.
        if let DataFusionError::External(source) = error.find_root()
            && let Some(ours) = source.downcast_ref::<Self>()
        {
            return ours.clone();
        }
        let (kind, message) = explain(error.find_root());
        let message = tidy(&message);
        match kind {
            ErrorKind::Internal | ErrorKind::Corrupt => Self::new(kind, message).with_source(error),
            _ => Self::new(kind, message),
        }
    }
}

/// Kind and message of an engine's error.
fn explain(error: &DataFusionError) -> (ErrorKind, String) {
    use ErrorKind::{Busy, Corrupt, Internal, Invalid};
    match error {
        DataFusionError::SQL(error, _) => (Invalid, error.to_string()),
        DataFusionError::Plan(message) => (Invalid, teach_table(message)),
        DataFusionError::SchemaError(error, _) => (Invalid, teach_column(error)),
        DataFusionError::NotImplemented(message) => (Invalid, format!("not supported: {message}")),
        DataFusionError::Execution(message) | DataFusionError::Configuration(message) => (Invalid, message.clone()),
        DataFusionError::ResourcesExhausted(message) => (
            Busy,
            format!(
                "the query needs more memory than is free; group less, narrow the time range or try again: {message}"
            ),
        ),
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::IoError(..) | ArrowError::ExternalError(_) | ArrowError::MemoryError(_) => {
                (Internal, "reading the data failed".to_owned())
            }
            ArrowError::ParquetError(_) | ArrowError::IpcError(_) => (
                Corrupt,
                "a data file could not be read; run `spanledger lake verify`".to_owned(),
            ),
            other => (Invalid, other.to_string()),
        },
        DataFusionError::ParquetError(_) => (
            Corrupt,
            "a data file could not be read; run `spanledger lake verify`".to_owned(),
        ),
        DataFusionError::ObjectStore(error)
            if matches!(error.as_ref(), datafusion::object_store::Error::NotFound { .. }) =>
        {
            (
                Busy,
                "a data file was replaced while the query ran; ask again".to_owned(),
            )
        }
        _ => (Internal, "the query failed inside the engine".to_owned()),
    }
}

/// `table 'spanledger.public.cals' not found` names the nearest table and lists them all.
fn teach_table(message: &str) -> String {
    let Some(name) = message
        .strip_prefix("table '")
        .and_then(|rest| rest.strip_suffix("' not found"))
    else {
        return message.to_owned();
    };
    let short = name.rsplit('.').next().unwrap_or(name);
    let names = views::table_names();
    format!(
        "there is no table `{short}`{}; tables: {}",
        did_you_mean(short, names.iter().copied()),
        names.join(", ")
    )
}

fn teach_column(error: &SchemaError) -> String {
    let SchemaError::FieldNotFound { field, valid_fields } = error else {
        return error.to_string();
    };
    let mut names: Vec<&str> = Vec::new();
    for column in valid_fields {
        if !names.contains(&column.name.as_str()) {
            names.push(&column.name);
        }
    }
    let more = names.len().saturating_sub(NAMES_LISTED_MAX);
    let suggestion = did_you_mean(&field.name, names.iter().copied());
    names.truncate(NAMES_LISTED_MAX);
    let mut message = format!("there is no column `{}`{suggestion}", field.name);
    if !names.is_empty() {
        message.push_str("; columns: ");
        message.push_str(&names.join(", "));
    }
    if more > 0 {
        message.push_str(&format!(" and {more} more"));
    }
    message
}

/// `, did you mean `x`?` for the nearest name within a third of its length, else nothing.
#[must_use]
pub(crate) fn did_you_mean<'n>(wrong: &str, names: impl Iterator<Item = &'n str>) -> String {
    let wrong = wrong.to_lowercase();
    let nearest = names
        .map(|name| (edit_distance(&wrong, name), name))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((distance, name)) if distance <= (wrong.len().max(name.len()) / 3).max(1) => {
            format!(", did you mean `{name}`?")
        }
        _ => String::new(),
    }
}

/// Levenshtein distance in bytes; names are short.
pub(crate) fn edit_distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, b) in right.bytes().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

/// House style: no backtrace, lower case first letter, no full stop at the end.
fn tidy(message: &str) -> String {
    let message = message.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or(message);
    let message = message.trim().trim_end_matches('.');
    let mut chars = message.chars();
    match (chars.next(), chars.next()) {
        // An acronym or a type's name keeps its capital.
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            let mut text = first.to_lowercase().to_string();
            text.push_str(&message[first.len_utf8()..]);
            text
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        let names = ["calls", "ledger", "spans"];
        assert_eq!(did_you_mean("cals", names.into_iter()), ", did you mean `calls`?");
        assert_eq!(did_you_mean("LEDGERS", names.into_iter()), ", did you mean `ledger`?");
        assert_eq!(did_you_mean("customers", names.into_iter()), "");
    }

    #[test]
    fn messages_start_lower_case_and_end_without_a_stop() {
        assert_eq!(
            tidy("Invalid function 'foo'.\nDid you mean 'bar'?"),
            "invalid function 'foo'.\nDid you mean 'bar'?"
        );
        assert_eq!(tidy("SQL error."), "SQL error");
    }
}
