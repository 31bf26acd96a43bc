//! A pipeline that only remembers, for the tests of the receivers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use parking_lot::Mutex;
use spanledger_access::{AccessError, Authenticator, LocalOnly, Principal, SharedAuthenticator};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use crate::accept::{Accept, Accepted, Encoding, Request, Signal};
use crate::admission::Admission;
use crate::door::Door;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

type Answer = Box<dyn Fn(&Request) -> Result<Accepted> + Send + Sync>;

/// Remembers what it was handed and answers what it was told to.
pub(crate) struct Fake {
    limits: Limits,
    admission: Admission,
    door: Door,
    answer: Answer,
    /// Requests wait here until it is given permits.
    pub(crate) gate: Option<Semaphore>,
    pub(crate) seen: Mutex<Vec<(Request, Bytes, Encoding)>>,
    pub(crate) n_started: AtomicU64,
    pub(crate) n_rejected: AtomicU64,
    pub(crate) refusals: Mutex<Vec<ErrorKind>>,
}

impl Fake {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            admission: Admission::new(&limits),
            limits,
            door: Door::from(Arc::new(LocalOnly) as SharedAuthenticator),
            answer: Box::new(|request| {
                Ok(Accepted {
                    n_accepted: request.n_records(),
                    ..Accepted::default()
                })
            }),
            gate: None,
            seen: Mutex::default(),
            n_started: AtomicU64::default(),
            n_rejected: AtomicU64::default(),
            refusals: Mutex::default(),
        }
    }

    pub(crate) fn answering(answer: impl Fn(&Request) -> Result<Accepted> + Send + Sync + 'static) -> Self {
        Self {
            answer: Box::new(answer),
            ..Self::new(Limits::default())
        }
    }

    pub(crate) fn gated(limits: Limits) -> Self {
        Self {
            gate: Some(Semaphore::new(0)),
            ..Self::new(limits)
        }
    }

    pub(crate) fn with_keys() -> Self {
        Self {
            door: Door::from(Arc::new(Keys) as SharedAuthenticator),
            ..Self::new(Limits::default())
        }
    }

    pub(crate) fn open_gate(&self) {
        self.gate.as_ref().unwrap().add_permits(1000);
    }

    /// Waits until so many requests have reached the pipeline.
    pub(crate) async fn started(&self, n_requests: u64) {
        while self.n_started.load(Ordering::SeqCst) < n_requests {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until so many requests have been stored.
    pub(crate) async fn stored(&self, n_requests: usize) {
        while self.seen.lock().len() < n_requests {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Accept for Fake {
    async fn accept(&self, _: &Principal, request: Request, body: Bytes, encoding: Encoding) -> Result<Accepted> {
        self.n_started.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        let accepted = (self.answer)(&request)?;
        self.seen.lock().push((request, body, encoding));
        Ok(accepted)
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

    fn refused(&self, _: Signal, kind: ErrorKind) {
        self.refusals.lock().push(kind);
    }

    fn rejected(&self, _: Signal, n_records: u64) {
        self.n_rejected.fetch_add(n_records, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct Keys;

#[async_trait::async_trait]
impl Authenticator for Keys {
    async fn authenticate(&self, authorization: Option<&str>) -> Result<Principal, AccessError> {
        match authorization {
            Some("Bearer writer") => Ok(Principal::local()),
            Some("Bearer reader") => Err(AccessError::Forbidden("this key may not write".to_owned())),
            _ => Err(AccessError::Unauthenticated("no key".to_owned())),
        }
    }
}

/// Serves HTTP on a free port and gives its base address.
pub(crate) async fn serve_http(fake: &Arc<Fake>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(crate::serve_http(
        Arc::clone(fake) as Arc<dyn Accept>,
        listener,
        std::future::pending(),
    ));
    format!("http://{address}")
}

/// Serves gRPC on a free port and gives its address, what stops it, and its end.
pub(crate) async fn serve_grpc(fake: &Arc<Fake>) -> (String, oneshot::Sender<()>, JoinHandle<Result<(), Error>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let fake = Arc::clone(fake);
    let server = tokio::spawn(async move {
        crate::serve_grpc(fake, listener, async {
            let _ = stopped.await;
        })
        .await
    });
    (format!("http://{address}"), stop, server)
}

/// A request of so many spans with a few attributes.
pub(crate) fn traces(n_spans: usize) -> ExportTraceServiceRequest {
    let spans = (0..n_spans)
        .map(|n| Span {
            trace_id: vec![7; 16],
            span_id: (n as u64 + 1).to_be_bytes().to_vec(),
            name: format!("tools/call {n}"),
            start_time_unix_nano: 1_700_000_000_000_000_000 + n as u64,
            attributes: vec![KeyValue {
                key: "mcp.tool.name".to_owned(),
                value: Some(AnyValue {
                    value: Some(Value::StringValue("get_forecast".to_owned())),
                }),
                ..KeyValue::default()
            }],
            ..Span::default()
        })
        .collect();
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}
