//! Exit codes: what a caller of the program can tell from how it ended.
//!
//! Last step of every command. One table maps the error kinds of every crate to the codes of the house
//! style; exit 1 is kept for "ran, and the answer is no" and is never used for an error.

use std::fmt;
use std::process::ExitCode;

/// Ran, and the answer is no: `lake verify` found damage, `import` skipped lines.
pub const ANSWER_IS_NO: u8 = 1;
/// Invalid or too large: the caller changes the request.
pub const INVALID: u8 = 2;
/// No credential, or one that does not allow it.
pub const DENIED: u8 = 4;
/// Busy or not there yet: the caller tries again.
pub const BUSY: u8 = 5;
/// Stored bytes are damaged.
pub const CORRUPT: u8 = 6;
/// A defect of ours (`EX_SOFTWARE` of sysexits.h).
pub const INTERNAL: u8 = 70;

/// How a command that ran without error ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Did what was asked.
    Done,
    /// Ran, and the answer is no.
    No,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::No => Self::from(ANSWER_IS_NO),
        }
    }
}

/// What the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Change the command.
    Invalid,
    /// Get a credential or use another address.
    Denied,
    /// Try again, or stop what holds the resource.
    Busy,
    /// Restore or repair the data.
    Corrupt,
    /// Report it.
    Internal,
}

impl Kind {
    /// The exit code of the kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Invalid => INVALID,
            Self::Denied => DENIED,
            Self::Busy => BUSY,
            Self::Corrupt => CORRUPT,
            Self::Internal => INTERNAL,
        }
    }

    /// The kind of an HTTP answer's status, by the same table read backwards.
    pub fn of_http_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Denied,
            429 | 502 | 503 | 504 => Self::Busy,
            400..=499 => Self::Invalid,
            _ => Self::Internal,
        }
    }
}

/// An error made in this package. The message is lowercase, names the thing and the next step.
#[derive(Debug)]
pub struct CliError {
    /// What the caller does next.
    pub kind: Kind,
    /// Text for the caller.
    pub message: String,
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

/// An error of `kind` with a message.
pub fn fail(kind: Kind, message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(CliError {
        kind,
        message: message.into(),
    })
}

/// The reader of our output went away (`spanledger sql … | head`): not an error.
#[derive(Debug)]
pub struct OutputClosed;

impl fmt::Display for OutputClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reader of the output went away")
    }
}

impl std::error::Error for OutputClosed {}

/// True where the error is only that nobody reads our output any more.
pub fn is_output_closed(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<OutputClosed>()
            || cause
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref)
                .is_some_and(|inner| inner.is::<OutputClosed>())
    })
}

/// The exit code of an error: that of the first cause whose kind is known.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if is_output_closed(error) {
        return 0;
    }
    error.chain().find_map(kind_of).unwrap_or(Kind::Internal).exit_code()
}

fn kind_of(cause: &(dyn std::error::Error + 'static)) -> Option<Kind> {
    if let Some(error) = cause.downcast_ref::<CliError>() {
        return Some(error.kind);
    }
    if let Some(error) = cause.downcast_ref::<spanledger_access::AccessError>() {
        return Some(match error {
            spanledger_access::AccessError::Invalid(_) => Kind::Invalid,
            spanledger_access::AccessError::Unavailable(_) => Kind::Busy,
            _ => Kind::Denied,
        });
    }
    if cause.is::<spanledger_state::Error>() {
        return Some(Kind::Busy);
    }
    if let Some(error) = cause.downcast_ref::<spanledger_lake::Error>() {
        return Some(crate_kind(&format!("{:?}", error.kind())));
    }
    if let Some(error) = cause.downcast_ref::<spanledger_ledger::Error>() {
        return Some(crate_kind(&format!("{:?}", error.kind())));
    }
    if let Some(error) = cause.downcast_ref::<spanledger_ingest::Error>() {
        return Some(crate_kind(&format!("{:?}", error.kind())));
    }
    if let Some(error) = cause.downcast_ref::<spanledger_mcp_server::Error>() {
        return Some(crate_kind(&format!("{:?}", error.kind())));
    }
    cause
        .downcast_ref::<spanledger_query::Error>()
        .map(|error| crate_kind(&format!("{:?}", error.kind())))
}

/// Every crate's `ErrorKind` uses the same names; a kind unknown here is a defect, hence internal.
fn crate_kind(name: &str) -> Kind {
    match name {
        "Invalid" | "TooLarge" | "NotFound" => Kind::Invalid,
        "Unauthenticated" | "Forbidden" => Kind::Denied,
        "Busy" => Kind::Busy,
        "Corrupt" => Kind::Corrupt,
        _ => Kind::Internal,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn each_kind_has_the_code_of_the_house_style() {
        for (kind, code) in [
            (Kind::Invalid, 2),
            (Kind::Denied, 4),
            (Kind::Busy, 5),
            (Kind::Corrupt, 6),
            (Kind::Internal, 70),
        ] {
            assert_eq!(exit_code(&fail(kind, "x")), code);
            assert_eq!(exit_code(&fail(kind, "x").context("while doing y")), code);
        }
    }

    #[test]
    fn a_closed_output_ends_with_zero() {
        let error = std::io::Error::new(std::io::ErrorKind::BrokenPipe, OutputClosed);
        assert_eq!(exit_code(&anyhow::Error::new(error).context("writing the result")), 0);
        let network = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(exit_code(&anyhow::Error::new(network)), INTERNAL);
    }

    #[test]
    fn a_public_address_is_denied() {
        let refused = spanledger_access::require_loopback("http", std::net::SocketAddr::from(([0, 0, 0, 0], 1)));
        assert_eq!(exit_code(&anyhow::Error::new(refused.unwrap_err())), DENIED);
    }

    #[test]
    fn http_statuses_map_back_to_kinds() {
        for (status, kind) in [
            (400, Kind::Invalid),
            (404, Kind::Invalid),
            (403, Kind::Denied),
            (503, Kind::Busy),
            (500, Kind::Internal),
        ] {
            assert_eq!(Kind::of_http_status(status), kind);
        }
    }
}
