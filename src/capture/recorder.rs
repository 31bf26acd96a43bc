//! What receives: writes each request body as a file of the capture, in order of arrival.
//!
//! Behind the receivers in place of the pipeline. A body is kept as it was after content-decoding, scrubbed
//! unless content is kept; of its headers the index names media types, sizes and the sender's user agent,
//! never an authorization. gRPC's headers do not reach here, so the index has fewer members for it.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt as _;
use serde::Serialize;
use spanledger_access::{LocalOnly, Principal, SharedAuthenticator};
use spanledger_ingest::capture::Reading;
use spanledger_ingest::dialects::Registry;
use spanledger_ingest::scrub::Scrubber;
use spanledger_ingest::{
    Accept, Accepted, Admission, Door, Encoding, Error, ErrorKind, Limits, Request, Result, Signal, http_router,
};
use std::sync::atomic::{AtomicU64, Ordering};
use tower::ServiceExt as _;

/// Headers whose values the index keeps besides those that have members of their own.
const EXTRA_HEADERS: [header::HeaderName; 3] = [header::ACCEPT, header::ACCEPT_ENCODING, header::CONNECTION];
/// Longest header value that is kept, in bytes.
const HEADER_BYTES_MAX: usize = 256;

/// Writes a capture.
pub struct Recorder {
    folder: PathBuf,
    scrubber: Option<Scrubber>,
    registry: Arc<Registry>,
    limits: Limits,
    admission: Admission,
    door: Door,
    state: Mutex<Recorded>,
}

/// What was recorded so far.
pub struct Recorded {
    index: File,
    /// Files written.
    pub n_files: u64,
    /// Bytes of them.
    pub n_bytes: u64,
    /// Pieces of text that were replaced.
    pub n_scrubbed: usize,
    /// Requests that were refused, so that they are no part of the capture.
    pub n_refused: u64,
    /// What our dialects read in it.
    pub reading: Reading,
}

/// A line of `index.jsonl`.
#[derive(Debug, Serialize)]
struct IndexLine<'i> {
    file: &'i str,
    signal: &'static str,
    bytes: usize,
    #[serde(flatten)]
    wire: &'i Wire,
}

/// What the index keeps of how a request came.
#[derive(Debug, Default, Serialize)]
struct Wire {
    transport: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wire_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunked: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    extra_headers: serde_json::Map<String, serde_json::Value>,
}

impl Recorder {
    /// A recorder into an empty folder.
    ///
    /// # Errors
    /// Where the index cannot be written.
    pub fn new(
        folder: &Path,
        scrubber: Option<Scrubber>,
        registry: Arc<Registry>,
        limits: Limits,
    ) -> std::io::Result<Arc<Self>> {
        let index = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(folder.join("index.jsonl"))?;
        Ok(Arc::new(Self {
            folder: folder.to_owned(),
            scrubber,
            registry,
            admission: Admission::new(&limits),
            limits,
            door: Door::from(Arc::new(LocalOnly) as SharedAuthenticator),
            state: Mutex::new(Recorded {
                index,
                n_files: 0,
                n_bytes: 0,
                n_scrubbed: 0,
                n_refused: 0,
                reading: Reading::default(),
            }),
        }))
    }

    /// What was recorded so far.
    pub fn recorded(&self) -> MutexGuard<'_, Recorded> {
        // A panic while a file was written leaves a whole state: the count rises last.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, request: &Request, body: Bytes, encoding: Encoding, wire: &Wire) -> Result<Accepted> {
        let signal = request.signal();
        let mut body = body.to_vec();
        let mut recorded = self.recorded();
        let number = recorded.n_files + 1;
        let extension = match encoding {
            Encoding::Protobuf => "pb",
            Encoding::Json => "json",
        };
        let file = format!("{number:03}-{}.{extension}", signal.name());
        if let Some(scrubber) = &self.scrubber {
            recorded.n_scrubbed += scrubber.scrub(signal, encoding, &mut body);
        }
        let line = IndexLine {
            file: &file,
            signal: signal.name(),
            bytes: body.len(),
            wire,
        };
        let failed = |error: &dyn std::fmt::Display| {
            Error::new(
                ErrorKind::Busy,
                format!("the capture's file {file} cannot be written: {error}"),
            )
        };
        let mut text = serde_json::to_string(&line).map_err(|error| failed(&error))?;
        text.push('\n');
        std::fs::write(self.folder.join(&file), &body).map_err(|error| failed(&error))?;
        recorded
            .index
            .write_all(text.as_bytes())
            .map_err(|error| failed(&error))?;
        recorded.n_files = number;
        recorded.n_bytes += u64::try_from(body.len()).unwrap_or(0);
        // What is read is what was written: a capture with scrubbed content must come to the same.
        let written = spanledger_ingest::decode(signal, encoding, &body)?;
        recorded.reading.add(&written, &self.registry);
        Ok(Accepted {
            n_accepted: request.n_records(),
            ..Accepted::default()
        })
    }
}

#[async_trait]
impl Accept for Recorder {
    async fn accept(&self, _: &Principal, request: Request, body: Bytes, encoding: Encoding) -> Result<Accepted> {
        let service = match request.signal() {
            Signal::Traces => "trace.v1.TraceService",
            Signal::Logs => "logs.v1.LogsService",
            Signal::Metrics => "metrics.v1.MetricsService",
        };
        let wire = Wire {
            transport: "grpc",
            path: format!("/opentelemetry.proto.collector.{service}/Export"),
            ..Wire::default()
        };
        self.record(&request, body, encoding, &wire)
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn door(&self) -> &Door {
        &self.door
    }

    fn admission(&self) -> &Admission {
        &self.admission
    }

    fn refused(&self, _signal: Signal, _kind: ErrorKind) {
        self.recorded().n_refused += 1;
    }
}

/// The recorder as one HTTP request sees it: with how the request came.
struct OfRequest {
    recorder: Arc<Recorder>,
    wire: Wire,
    n_wire_bytes: Arc<AtomicU64>,
}

#[async_trait]
impl Accept for OfRequest {
    async fn accept(&self, _: &Principal, request: Request, body: Bytes, encoding: Encoding) -> Result<Accepted> {
        let wire = Wire {
            transport: self.wire.transport,
            path: self.wire.path.clone(),
            content_type: self.wire.content_type.clone(),
            content_encoding: self.wire.content_encoding.clone(),
            wire_bytes: Some(self.n_wire_bytes.load(Ordering::Relaxed)),
            chunked: self.wire.chunked,
            user_agent: self.wire.user_agent.clone(),
            extra_headers: self.wire.extra_headers.clone(),
        };
        self.recorder.record(&request, body, encoding, &wire)
    }

    fn limits(&self) -> &Limits {
        self.recorder.limits()
    }

    fn door(&self) -> &Door {
        self.recorder.door()
    }

    fn admission(&self) -> &Admission {
        self.recorder.admission()
    }

    fn refused(&self, signal: Signal, kind: ErrorKind) {
        self.recorder.refused(signal, kind);
    }
}

/// The OTLP/HTTP receiver of a recorder. Each request gets the real receiver with a recorder that knows how
/// it came.
pub fn http(recorder: Arc<Recorder>) -> Router {
    Router::new().fallback(receive).with_state(recorder)
}

async fn receive(State(recorder): State<Arc<Recorder>>, request: HttpRequest) -> Response {
    let (parts, body) = request.into_parts();
    let n_wire_bytes = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&n_wire_bytes);
    let body = body.into_data_stream().inspect(move |data| {
        if let Ok(data) = data {
            counted.fetch_add(u64::try_from(data.len()).unwrap_or(0), Ordering::Relaxed);
        }
    });
    let of_request = OfRequest {
        recorder,
        wire: Wire {
            transport: "http",
            path: parts.uri.path().to_owned(),
            content_type: text(&parts.headers, &header::CONTENT_TYPE),
            content_encoding: text(&parts.headers, &header::CONTENT_ENCODING),
            wire_bytes: None,
            chunked: Some(!parts.headers.contains_key(header::CONTENT_LENGTH)),
            user_agent: text(&parts.headers, &header::USER_AGENT),
            extra_headers: EXTRA_HEADERS
                .iter()
                .filter_map(|name| Some((name.as_str().to_owned(), text(&parts.headers, name)?.into())))
                .collect(),
        },
        n_wire_bytes,
    };
    let request = HttpRequest::from_parts(parts, Body::from_stream(body));
    match http_router(Arc::new(of_request)).oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
    .into_response()
}

fn text(headers: &HeaderMap, name: &header::HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.chars().take(HEADER_BYTES_MAX).collect())
}
