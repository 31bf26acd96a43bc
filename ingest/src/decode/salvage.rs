//! Saves what can be read of a protobuf body in which some record cannot.
//!
//! prost fails a whole request for one string that is not UTF-8 or one value that is nested too deep. Where it
//! does, the envelope is opened by hand and each record is decoded alone: those that fail are left out and
//! counted. This is the slow path; a sound body never takes it.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message;

use super::{Decoded, explain};
use crate::accept::{Request, Signal};
use crate::error::{Error, Result};

/// The request's envelope, the same for all three signals.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    groups: Vec<Bytes>,
}

/// `Resource…` and `Scope…` alike: what it is about, what it holds, its schema.
#[derive(Clone, PartialEq, Message)]
struct Group {
    #[prost(bytes = "bytes", optional, tag = "1")]
    head: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    items: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "3")]
    schema_url: Bytes,
}

struct Scope<R> {
    scope: Option<InstrumentationScope>,
    records: Vec<R>,
    schema_url: String,
}

struct ResourceGroup<R> {
    resource: Option<Resource>,
    scopes: Vec<Scope<R>>,
    schema_url: String,
}

/// What was left out.
#[derive(Default)]
struct Loss {
    n_accepted: u64,
    n_rejected: u64,
    reason: Option<String>,
}

impl Loss {
    fn reject(&mut self, n_records: usize, error: &prost::DecodeError) {
        self.n_rejected += n_records.max(1) as u64;
        self.reason.get_or_insert_with(|| explain(error));
    }
}

/// Decodes each record alone. `None` where not even the envelope can be read.
///
/// # Errors
/// Invalid where no record at all could be read.
pub(super) fn salvage(signal: Signal, body: &[u8]) -> Option<Result<Decoded>> {
    let envelope = Envelope::decode(Bytes::copy_from_slice(body)).ok()?;
    let mut loss = Loss::default();
    let request = match signal {
        Signal::Traces => Request::Traces(ExportTraceServiceRequest {
            resource_spans: open(envelope, &mut loss)
                .map(|group| ResourceSpans {
                    resource: group.resource,
                    scope_spans: group
                        .scopes
                        .into_iter()
                        .map(|scope| ScopeSpans {
                            scope: scope.scope,
                            spans: scope.records,
                            schema_url: scope.schema_url,
                        })
                        .collect(),
                    schema_url: group.schema_url,
                })
                .collect(),
        }),
        Signal::Logs => Request::Logs(ExportLogsServiceRequest {
            resource_logs: open(envelope, &mut loss)
                .map(|group| ResourceLogs {
                    resource: group.resource,
                    scope_logs: group
                        .scopes
                        .into_iter()
                        .map(|scope| ScopeLogs {
                            scope: scope.scope,
                            log_records: scope.records,
                            schema_url: scope.schema_url,
                        })
                        .collect(),
                    schema_url: group.schema_url,
                })
                .collect(),
        }),
        Signal::Metrics => Request::Metrics(ExportMetricsServiceRequest {
            resource_metrics: open(envelope, &mut loss)
                .map(|group| ResourceMetrics {
                    resource: group.resource,
                    scope_metrics: group
                        .scopes
                        .into_iter()
                        .map(|scope| ScopeMetrics {
                            scope: scope.scope,
                            metrics: scope.records,
                            schema_url: scope.schema_url,
                        })
                        .collect(),
                    schema_url: group.schema_url,
                })
                .collect(),
        }),
    };
    if loss.n_accepted == 0 {
        let reason = loss.reason.unwrap_or_else(|| "no record".to_owned());
        return Some(Err(Error::invalid(format!(
            "the protobuf body cannot be decoded: {reason}"
        ))));
    }
    Some(Ok(Decoded {
        request,
        n_rejected: loss.n_rejected,
        reason: loss.reason,
    }))
}

fn open<R: Message + Default>(envelope: Envelope, loss: &mut Loss) -> impl Iterator<Item = ResourceGroup<R>> {
    envelope.groups.into_iter().filter_map(|bytes| {
        let group = Group::decode(bytes).map_err(|error| loss.reject(1, &error)).ok()?;
        let resource = match group.head.map(Resource::decode).transpose() {
            Ok(resource) => resource,
            Err(error) => {
                loss.reject(group.items.into_iter().map(n_records).sum(), &error);
                return None;
            }
        };
        let scopes = group
            .items
            .into_iter()
            .filter_map(|bytes| open_scope(bytes, loss))
            .collect();
        Some(ResourceGroup {
            resource,
            scopes,
            schema_url: lossy(&group.schema_url),
        })
    })
}

fn open_scope<R: Message + Default>(bytes: Bytes, loss: &mut Loss) -> Option<Scope<R>> {
    let group = Group::decode(bytes).map_err(|error| loss.reject(1, &error)).ok()?;
    let scope = match group.head.map(InstrumentationScope::decode).transpose() {
        Ok(scope) => scope,
        Err(error) => {
            loss.reject(group.items.len(), &error);
            return None;
        }
    };
    let mut records = Vec::with_capacity(group.items.len());
    for item in group.items {
        match R::decode(item) {
            Ok(record) => {
                loss.n_accepted += 1;
                records.push(record);
            }
            Err(error) => loss.reject(1, &error),
        }
    }
    Some(Scope {
        scope,
        records,
        schema_url: lossy(&group.schema_url),
    })
}

fn n_records(scope: Bytes) -> usize {
    Group::decode(scope).map_or(0, |group| group.items.len())
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
