//! From a decoded request to rows: raw tables faithful to OTLP, and observations through dialects.
//!
//! Sits between decoding and the write-ahead log, and runs again, on the same bytes, when the log is
//! replayed: it is a pure function of (request, tenant, arrival time), so a replay gives the same rows and
//! the same ids. One bad record is rejected and counted; its neighbours are kept. It does no I/O.
//!
//! | module | signal |
//! |---|---|
//! | [`spans`] | traces |
//! | [`logs`] | logs |
//! | [`metrics`] | metrics |
//! | [`texts`] | attributes as text; what is large goes to `payloads` |

pub mod logs;
pub mod metrics;
pub mod spans;
pub mod texts;

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use spanledger_lake::tables::{Table, observations};
use spanledger_model::{Observation, TenantId};

use crate::accept::Request;
use crate::dialects::Registry;
use crate::dialects::fields::Fields;
use crate::dialects::record::ResourceFacts;
use crate::limits::Limits;
use crate::value;

/// Rows of a request, by table.
pub type TableRows = Vec<(Table, arrow::array::RecordBatch)>;

/// Earliest time a record may have, nanoseconds: 2000-01-01. Older ones are clocks that were never set, and
/// each stray day would be a partition of its own.
pub const TIME_NS_MIN: i64 = 946_684_800_000_000_000;
/// Latest time a record may have, nanoseconds: 2100-01-01, for the same reason.
pub const TIME_NS_MAX: i64 = 4_102_444_800_000_000_000;

/// Who sent a request, and when it came.
#[derive(Debug, Clone)]
pub struct Context {
    /// Owner of the rows.
    pub tenant: TenantId,
    /// Server's clock at arrival, nanoseconds since the Unix epoch.
    pub arrived_ns: i64,
    /// What emitters' records mean.
    pub dialects: Arc<Registry>,
}

/// What became of a request.
#[derive(Debug, Default)]
pub struct Normalised {
    /// Rows to store.
    pub rows: TableRows,
    /// Records accepted.
    pub n_accepted: u64,
    /// Records left out, with the reason and how many.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Accepted spans that are not stored, by noise rule (see [`crate::noise`]).
    pub noise: BTreeMap<Arc<str>, u64>,
    /// Observations read, by dialect.
    pub recognised: BTreeMap<String, u64>,
    /// `service.name` of the first record, for the log.
    pub first_service: Option<String>,
}

impl Normalised {
    /// Records left out.
    #[must_use]
    pub fn n_rejected(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Why records were left out, for the sender.
    #[must_use]
    pub fn message(&self, record_name: &str) -> Option<String> {
        if self.rejected.is_empty() {
            return None;
        }
        let reasons: Vec<String> = self
            .rejected
            .iter()
            .map(|(reason, count)| format!("{count} {record_name}(s): {reason}"))
            .collect();
        Some(reasons.join("; "))
    }

    pub(crate) fn reject(&mut self, reason: &'static str) {
        *self.rejected.entry(reason).or_default() += 1;
    }

    pub(crate) fn leave_out(&mut self, rule: &Arc<str>) {
        match self.noise.get_mut(rule) {
            Some(count) => *count += 1,
            None => drop(self.noise.insert(Arc::clone(rule), 1)),
        }
    }

    pub(crate) fn push_observations(&mut self, observations: &[Observation]) {
        for observation in observations {
            match self.recognised.get_mut(&observation.dialect) {
                Some(count) => *count += 1,
                None => drop(self.recognised.insert(observation.dialect.clone(), 1)),
            }
        }
        if !observations.is_empty() {
            self.rows
                .push((Table::Observations, observations::to_batch(observations)));
        }
    }
}

/// Normalises a request.
#[must_use]
pub fn normalise(request: &Request, context: &Context, limits: &Limits) -> Normalised {
    match request {
        Request::Traces(request) => spans::normalise(request, context, limits),
        Request::Logs(request) => logs::normalise(request, context, limits),
        Request::Metrics(request) => metrics::normalise(request, context, limits),
    }
}

/// A resource, read once for all of its records.
pub(crate) struct ResourceView {
    /// Its attributes as text.
    pub attributes: Vec<(String, String)>,
    /// `service.name`.
    pub service: Option<String>,
    /// Its canonical fields.
    pub facts: ResourceFacts,
}

impl ResourceView {
    pub(crate) fn new(resource: Option<&Resource>, context: &Context, limits: &Limits) -> Self {
        let attributes: &[KeyValue] = resource.map_or(&[], |resource| &resource.attributes);
        let service = value::attribute_str(attributes, "service.name").map(str::to_owned);
        let identity = resource.map_or([0; 16], |resource| {
            spanledger_model::ids::hash_parts(&[resource.encode_to_vec().as_slice()])
        });
        let fields = Fields::read(context.dialects.resource_keys(), attributes);
        Self {
            attributes: texts::bounded_attributes(attributes, limits.resource_attributes_max, limits),
            facts: ResourceFacts::new(&fields, service.as_deref(), identity),
            service,
        }
    }
}

/// A time as sent, or `None` where it is absent.
pub(crate) fn sent_time(unix_nano: u64) -> Option<i64> {
    (unix_nano != 0).then(|| i64::try_from(unix_nano).unwrap_or(i64::MAX))
}

/// True where a time may stand in a table.
pub(crate) fn is_plausible(time_ns: i64) -> bool {
    (TIME_NS_MIN..TIME_NS_MAX).contains(&time_ns)
}

#[cfg(test)]
mod tests;
