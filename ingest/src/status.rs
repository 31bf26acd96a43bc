//! What a sender is answered: the responses and errors of OTLP over gRPC and over HTTP, in either encoding.
//!
//! | kind | gRPC | HTTP | sender |
//! |---|---|---|---|
//! | Invalid | INVALID_ARGUMENT + BadRequest | 400 | drops it |
//! | TooLarge | RESOURCE_EXHAUSTED without RetryInfo | 413 | drops it |
//! | Unauthenticated, Forbidden | UNAUTHENTICATED, PERMISSION_DENIED | 401, 403 | drops it |
//! | Busy | UNAVAILABLE + RetryInfo | 503 + Retry-After | sends it again |
//! | RateLimited | RESOURCE_EXHAUSTED + RetryInfo | 429 + Retry-After | sends it again |
//! | Corrupt, Internal | INTERNAL | 500 | drops it |
//!
//! An error over HTTP is a `google.rpc.Status` in the request's encoding. Causes stay in the log: a fault of
//! ours is answered with an id to report. Messages are bounded, and with them the answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;
use serde_json::json;
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt};

use crate::accept::{Accepted, Encoding, Signal};
use crate::error::{Error, ErrorKind};
use crate::limits::Limits;

/// A refusal, as both protocols word it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) http: StatusCode,
    pub(crate) code: Code,
    message: String,
    field: Option<&'static str>,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// The refusal of an error. A fault of ours is logged here, under the id that the sender is told.
    pub(crate) fn of(error: &Error, limits: &Limits) -> Self {
        let (http, code) = match error.kind() {
            ErrorKind::Invalid => (StatusCode::BAD_REQUEST, Code::InvalidArgument),
            ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
            ErrorKind::Unauthenticated => (StatusCode::UNAUTHORIZED, Code::Unauthenticated),
            ErrorKind::Forbidden => (StatusCode::FORBIDDEN, Code::PermissionDenied),
            ErrorKind::Busy => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
            ErrorKind::RateLimited => (StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted),
            ErrorKind::Corrupt | ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal),
        };
        let message = match error.kind() {
            ErrorKind::Corrupt | ErrorKind::Internal => report(error),
            _ => error.message().to_owned(),
        };
        Self {
            http,
            code,
            message: bounded(&message, limits),
            field: (error.kind() == ErrorKind::Invalid).then(|| error.field()),
            retry_after: matches!(error.kind(), ErrorKind::Busy | ErrorKind::RateLimited).then(|| {
                error
                    .retry_after()
                    .unwrap_or(Duration::from_millis(limits.retry_after_ms))
            }),
        }
    }

    /// A refusal that only HTTP or only gRPC knows (a wrong path, a wrong method).
    pub(crate) fn new(http: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self {
            http,
            code,
            message: message.into(),
            field: None,
            retry_after: None,
        }
    }

    /// Seconds for a `Retry-After` header, rounded up.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        self.retry_after
            .map(|delay| delay.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).max(1))
    }

    /// The status as gRPC carries it.
    pub(crate) fn to_grpc(&self) -> tonic::Status {
        let mut details = ErrorDetails::new();
        if let Some(field) = self.field {
            details.add_bad_request_violation(field, &self.message);
        }
        if let Some(delay) = self.retry_after {
            details.set_retry_info(Some(delay));
        }
        tonic::Status::with_error_details(self.code, &self.message, details)
    }

    /// The status as the body of an HTTP answer.
    pub(crate) fn to_http_body(&self, encoding: Encoding) -> Vec<u8> {
        match encoding {
            // The details of a gRPC status are an encoded google.rpc.Status.
            Encoding::Protobuf => self.to_grpc().details().to_vec(),
            Encoding::Json => {
                let mut details = Vec::new();
                if let Some(field) = self.field {
                    details.push(json!({
                        "@type": "type.googleapis.com/google.rpc.BadRequest",
                        "fieldViolations": [{ "field": field, "description": self.message }],
                    }));
                }
                if let Some(delay) = self.retry_after {
                    details.push(json!({
                        "@type": "type.googleapis.com/google.rpc.RetryInfo",
                        "retryDelay": format!("{}s", delay.as_secs_f64()),
                    }));
                }
                let mut status = json!({ "code": self.code as i32, "message": self.message });
                if !details.is_empty() {
                    status["details"] = details.into();
                }
                status.to_string().into_bytes()
            }
        }
    }
}

/// The answer to a stored request. Full success leaves `partial_success` unset.
pub(crate) fn success(signal: Signal, encoding: Encoding, accepted: &Accepted, limits: &Limits) -> Vec<u8> {
    let is_partial = accepted.n_rejected > 0 || accepted.message.is_some();
    let n_rejected = i64::try_from(accepted.n_rejected).unwrap_or(i64::MAX);
    let error_message = bounded(accepted.message.as_deref().unwrap_or_default(), limits);
    match encoding {
        Encoding::Protobuf if !is_partial => Vec::new(),
        Encoding::Protobuf => match signal {
            Signal::Traces => ExportTraceServiceResponse {
                partial_success: Some(ExportTracePartialSuccess {
                    rejected_spans: n_rejected,
                    error_message,
                }),
            }
            .encode_to_vec(),
            Signal::Logs => ExportLogsServiceResponse {
                partial_success: Some(ExportLogsPartialSuccess {
                    rejected_log_records: n_rejected,
                    error_message,
                }),
            }
            .encode_to_vec(),
            Signal::Metrics => ExportMetricsServiceResponse {
                partial_success: Some(ExportMetricsPartialSuccess {
                    rejected_data_points: n_rejected,
                    error_message,
                }),
            }
            .encode_to_vec(),
        },
        Encoding::Json if !is_partial => b"{}".to_vec(),
        Encoding::Json => {
            let rejected = match signal {
                Signal::Traces => "rejectedSpans",
                Signal::Logs => "rejectedLogRecords",
                Signal::Metrics => "rejectedDataPoints",
            };
            // 64-bit integers are strings in protobuf's JSON.
            json!({ "partialSuccess": { rejected: n_rejected.to_string(), "errorMessage": error_message } })
                .to_string()
                .into_bytes()
        }
    }
}

/// Logs a fault of ours and gives the sender an id for it.
fn report(error: &Error) -> String {
    static N_REPORTED: AtomicU64 = AtomicU64::new(1);
    let id = format!(
        "{:x}-{}",
        std::process::id(),
        N_REPORTED.fetch_add(1, Ordering::Relaxed)
    );
    let cause = std::error::Error::source(error)
        .map(ToString::to_string)
        .unwrap_or_default();
    tracing::error!(id, kind = error.kind().name(), cause, "{}", error.message());
    format!("internal error {id}; the server's log has its cause")
}

fn bounded(message: &str, limits: &Limits) -> String {
    let max = limits.response_message_bytes_max;
    if message.len() <= max {
        return message.to_owned();
    }
    let end = (0..=max.saturating_sub('…'.len_utf8()))
        .rev()
        .find(|end| message.is_char_boundary(*end))
        .unwrap_or(0);
    format!("{}…", &message[..end])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn only_a_busy_server_and_a_rate_ask_for_a_retry() {
        let limits = Limits::default();
        for (kind, http, code) in [
            (ErrorKind::Invalid, 400, Code::InvalidArgument),
            (ErrorKind::TooLarge, 413, Code::ResourceExhausted),
            (ErrorKind::Unauthenticated, 401, Code::Unauthenticated),
            (ErrorKind::Forbidden, 403, Code::PermissionDenied),
            (ErrorKind::Busy, 503, Code::Unavailable),
            (ErrorKind::RateLimited, 429, Code::ResourceExhausted),
            (ErrorKind::Corrupt, 500, Code::Internal),
            (ErrorKind::Internal, 500, Code::Internal),
        ] {
            let refusal = Refusal::of(&Error::new(kind, "why"), &limits);
            assert_eq!((refusal.http.as_u16(), refusal.code), (http, code));
            let is_retried = matches!(kind, ErrorKind::Busy | ErrorKind::RateLimited);
            assert_eq!(refusal.retry_after_s().is_some(), is_retried);
            assert_eq!(refusal.to_grpc().get_details_retry_info().is_some(), is_retried);
            assert_eq!(
                refusal.to_grpc().get_details_bad_request().is_some(),
                kind == ErrorKind::Invalid
            );
        }
    }

    #[test]
    fn a_fault_of_ours_does_not_show_its_cause() {
        let error = Error::internal("cannot write /secret/path").caused_by("disk on fire");
        let refusal = Refusal::of(&error, &Limits::default());
        assert!(
            !refusal.message.contains("secret") && !refusal.message.contains("fire"),
            "{}",
            refusal.message
        );
        assert!(refusal.message.starts_with("internal error "), "{}", refusal.message);
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let limits = Limits {
            response_message_bytes_max: 11,
            ..Limits::default()
        };
        assert_eq!(bounded("größer als erlaubt", &limits), "größer…");
        assert_eq!(bounded("kurz", &limits), "kurz");
    }
}
