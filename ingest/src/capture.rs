//! Captures: request bodies of an emitter kept as files, `NNN-<signal>.pb|json` in order of arrival.
//!
//! Reads them as the pipeline would, without a lake: decode, normalise, observations. For trying a dialect
//! (`spanledger dialects check --capture`), for what `spanledger capture` found, and for tests. Besides the
//! observations it tells which keys nobody reads although they look like usage.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric};
use opentelemetry_proto::tonic::resource::v1::Resource;
use spanledger_access::Principal;
use spanledger_lake::tables::{Table, observations};
use spanledger_model::Observation;

use crate::accept::{Encoding, Request, Signal};
use crate::decode::decode;
use crate::dialects::{Registry, usage_like};
use crate::error::{Error, Result};
use crate::limits::{BODY_BYTES_MAX, Limits};
use crate::normalise::{Context, normalise};
use crate::value;

/// Keys remembered that nobody reads: a hostile emitter could make up any number.
const UNREAD_MAX: usize = 10_000;

/// Fields that a resource may tell: whose it is. What else stands there describes the process.
const RESOURCE_FIELDS: [&str; 8] = [
    "user",
    "team",
    "project",
    "cost_center",
    "environment",
    "agent",
    "client",
    "conversation",
];

/// A file of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds.
    pub signal: Signal,
    /// How.
    pub encoding: Encoding,
}

/// The request bodies of a capture's folder, in order of arrival.
///
/// # Errors
/// Invalid where the folder cannot be read or holds none.
pub fn files(folder: &Path) -> Result<Vec<CaptureFile>> {
    let entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
        .map_err(|error| Error::invalid(format!("cannot read the capture {}: {error}", folder.display())))?;
    let mut files: Vec<CaptureFile> = entries.into_iter().filter_map(|entry| file_of(entry.path())).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    if files.is_empty() {
        return Err(Error::invalid(format!(
            "no request bodies in {}; a capture holds NNN-traces.pb, NNN-logs.json and the like",
            folder.display()
        )));
    }
    Ok(files)
}

fn file_of(path: PathBuf) -> Option<CaptureFile> {
    let encoding = match path.extension()?.to_str()? {
        "pb" => Encoding::Protobuf,
        "json" => Encoding::Json,
        _ => return None,
    };
    let (_, name) = path.file_stem()?.to_str()?.split_once('-')?;
    let signal = [Signal::Traces, Signal::Logs, Signal::Metrics]
        .into_iter()
        .find(|signal| signal.name() == name)?;
    Some(CaptureFile { path, signal, encoding })
}

/// A key that nobody reads although it looks like usage, cost, tool, model or identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnreadKey {
    /// `service.name` of its records.
    pub service: Option<String>,
    /// Instrumentation scope of its records.
    pub scope: String,
    /// `span`, `log`, `metric` or `resource`.
    pub signal: &'static str,
    /// The key.
    pub key: String,
    /// The canonical field it looks like.
    pub field: &'static str,
}

/// What was read of a capture.
#[derive(Debug, Default)]
pub struct Reading {
    /// Spans, log records and data points.
    pub n_records: u64,
    /// Those of them that a server would reject.
    pub n_rejected: u64,
    /// What the dialects made of them.
    pub observations: Vec<Observation>,
    /// Keys nobody reads, with the number of records that have them.
    pub unread: BTreeMap<UnreadKey, u64>,
    /// Services that sent records.
    pub services: BTreeSet<String>,
    /// Instrumentation scopes that sent records.
    pub scopes: BTreeSet<String>,
    n_bodies: i64,
}

impl Reading {
    /// Reads every body of a capture's folder.
    ///
    /// # Errors
    /// Invalid where a file cannot be read or decoded, naming it.
    pub fn of(folder: &Path, registry: &Arc<Registry>) -> Result<Self> {
        let mut reading = Self::default();
        for file in files(folder)? {
            let named = |error: &dyn std::fmt::Display| Error::invalid(format!("{}: {error}", file.path.display()));
            let size = fs::metadata(&file.path).map_err(|error| named(&error))?.len();
            if usize::try_from(size).map_or(true, |size| size > BODY_BYTES_MAX) {
                return Err(named(&format_args!(
                    "larger than a request may be ({BODY_BYTES_MAX} bytes)"
                )));
            }
            let body = fs::read(&file.path).map_err(|error| named(&error))?;
            let request = decode(file.signal, file.encoding, &body).map_err(|error| named(&error))?;
            reading.add(&request, registry);
        }
        Ok(reading)
    }

    /// Reads one request.
    pub fn add(&mut self, request: &Request, registry: &Arc<Registry>) {
        self.n_records += request.n_records();
        self.n_bodies += 1;
        self.note_unread(request, registry);
        let context = Context {
            tenant: Principal::local().tenant().clone(),
            // No clock: what is folded from a capture depends on its files alone.
            arrived_ns: self.n_bodies,
            dialects: Arc::clone(registry),
        };
        let normalised = normalise(request, &context, &Limits::default());
        self.n_rejected += normalised.n_rejected();
        for (table, batch) in normalised.rows {
            if table == Table::Observations {
                self.observations.extend(observations::from_batch(&batch));
            }
        }
    }

    fn note_unread(&mut self, request: &Request, registry: &Registry) {
        match request {
            Request::Traces(request) => {
                for group in &request.resource_spans {
                    for scope in &group.scope_spans {
                        let mut note = self.noting(registry, group.resource.as_ref(), scope.scope.as_ref());
                        scope.spans.iter().for_each(|span| note.keys("span", &span.attributes));
                    }
                }
            }
            Request::Logs(request) => {
                for group in &request.resource_logs {
                    for scope in &group.scope_logs {
                        let mut note = self.noting(registry, group.resource.as_ref(), scope.scope.as_ref());
                        scope
                            .log_records
                            .iter()
                            .for_each(|record| note.keys("log", &record.attributes));
                    }
                }
            }
            Request::Metrics(request) => {
                for group in &request.resource_metrics {
                    for scope in &group.scope_metrics {
                        let mut note = self.noting(registry, group.resource.as_ref(), scope.scope.as_ref());
                        for metric in &scope.metrics {
                            each_point(metric, &mut |attributes| note.keys("metric", attributes));
                        }
                    }
                }
            }
        }
    }

    fn noting<'n>(
        &'n mut self,
        registry: &'n Registry,
        resource: Option<&Resource>,
        scope: Option<&InstrumentationScope>,
    ) -> Noting<'n> {
        let attributes: &[KeyValue] = resource.map_or(&[], |resource| &resource.attributes);
        let service = value::attribute_str(attributes, "service.name").map(str::to_owned);
        let scope = scope.map_or("", |scope| scope.name.as_str()).to_owned();
        self.services.extend(service.clone());
        self.scopes.insert(scope.clone());
        let mut noting = Noting {
            unread: &mut self.unread,
            registry,
            service,
            scope,
        };
        noting.keys("resource", attributes);
        noting
    }
}

/// Counts the unread keys of one scope.
struct Noting<'n> {
    unread: &'n mut BTreeMap<UnreadKey, u64>,
    registry: &'n Registry,
    service: Option<String>,
    scope: String,
}

impl Noting<'_> {
    fn keys(&mut self, signal: &'static str, attributes: &[KeyValue]) {
        for attribute in attributes {
            let Some(field) = usage_like(&attribute.key) else {
                continue;
            };
            let is_read = self
                .registry
                .field_of(&self.scope, self.service.as_deref(), &attribute.key)
                .is_some();
            let is_foreign = signal == "resource" && !RESOURCE_FIELDS.contains(&field);
            if is_read || is_foreign || self.unread.len() >= UNREAD_MAX {
                continue;
            }
            let key = UnreadKey {
                service: self.service.clone(),
                scope: self.scope.clone(),
                signal,
                key: attribute.key.clone(),
                field,
            };
            *self.unread.entry(key).or_default() += 1;
        }
    }
}

fn each_point(metric: &Metric, each: &mut dyn FnMut(&[KeyValue])) {
    match &metric.data {
        None => {}
        Some(metric::Data::Gauge(data)) => data.data_points.iter().for_each(|point| each(&point.attributes)),
        Some(metric::Data::Sum(data)) => data.data_points.iter().for_each(|point| each(&point.attributes)),
        Some(metric::Data::Histogram(data)) => data.data_points.iter().for_each(|point| each(&point.attributes)),
        Some(metric::Data::ExponentialHistogram(data)) => {
            data.data_points.iter().for_each(|point| each(&point.attributes));
        }
        Some(metric::Data::Summary(data)) => data.data_points.iter().for_each(|point| each(&point.attributes)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_capture_is_read_in_order_of_its_files_and_other_files_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "002-logs.json",
            "001-traces.pb",
            "index.jsonl",
            "expected.json",
            "README.md",
        ] {
            fs::write(folder.path().join(name), if name.ends_with(".pb") { "" } else { "{}" }).unwrap();
        }
        let found: Vec<(Signal, Encoding)> = files(folder.path())
            .unwrap()
            .iter()
            .map(|file| (file.signal, file.encoding))
            .collect();
        assert_eq!(
            found,
            [(Signal::Traces, Encoding::Protobuf), (Signal::Logs, Encoding::Json)]
        );
        assert_eq!(Reading::of(folder.path(), &Registry::builtin()).unwrap().n_records, 0);
        fs::write(folder.path().join("003-traces.pb"), [0xff]).unwrap();
        let error = Reading::of(folder.path(), &Registry::builtin()).unwrap_err();
        assert!(error.message().contains("003-traces.pb"), "{error}");
    }

    #[test]
    fn keys_that_nobody_reads_are_told_with_what_they_look_like() {
        let json = br#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"acme"}}]},
            "scopeSpans":[{"scope":{"name":"acme.sdk"},"spans":[{"name":"x","attributes":[
              {"key":"acme.input_tokens","value":{"intValue":"5"}},{"key":"gen_ai.usage.input_tokens","value":{"intValue":"5"}},
              {"key":"http.route","value":{"stringValue":"/"}}]}]}]}]}"#;
        let mut reading = Reading::default();
        reading.add(
            &decode(Signal::Traces, Encoding::Json, json).unwrap(),
            &Registry::builtin(),
        );
        let unread: Vec<(&str, &str, u64)> = reading
            .unread
            .iter()
            .map(|(key, count)| (key.key.as_str(), key.field, *count))
            .collect();
        assert_eq!(unread, [("acme.input_tokens", "input", 1)]);
        assert_eq!((reading.n_records, reading.services.contains("acme")), (1, true));
    }
}
