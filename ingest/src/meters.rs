//! Counters of what was received: the source of `/metrics`, of the first-span line and of `doctor`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::accept::{Accepted, Signal};
use crate::error::ErrorKind;

/// Counters since the start of the process.
#[derive(Debug, Default)]
pub struct Meters {
    spans: SignalMeters,
    logs: SignalMeters,
    metrics: SignalMeters,
    labelled: Mutex<Labelled>,
}

#[derive(Debug, Default)]
struct SignalMeters {
    accepted: AtomicU64,
    rejected: AtomicU64,
    duplicate_requests: AtomicU64,
    deduplicated: AtomicU64,
    requests: AtomicU64,
}

#[derive(Debug, Default)]
struct Labelled {
    refused: BTreeMap<(&'static str, &'static str), u64>,
    recognised: BTreeMap<String, u64>,
    noise: BTreeMap<Arc<str>, u64>,
    first_service: Option<String>,
}

/// A reading of the counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetersReading {
    /// Records stored, by signal.
    pub accepted: BTreeMap<&'static str, u64>,
    /// Records left out, by signal.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Requests acknowledged, by signal.
    pub requests: BTreeMap<&'static str, u64>,
    /// Requests that had been stored before, by signal.
    pub duplicate_requests: BTreeMap<&'static str, u64>,
    /// Records in them that would have been stored, by signal.
    pub deduplicated: BTreeMap<&'static str, u64>,
    /// Requests refused, by signal and error kind.
    pub refused: BTreeMap<(&'static str, &'static str), u64>,
    /// Observations read, by dialect.
    pub recognised: BTreeMap<String, u64>,
    /// Spans accepted and not stored, by noise rule; a repeat of a request that held nothing else is counted again.
    pub noise: BTreeMap<String, u64>,
    /// `service.name` of the first sender.
    pub first_service: Option<String>,
}

impl Meters {
    fn of(&self, signal: Signal) -> &SignalMeters {
        match signal {
            Signal::Traces => &self.spans,
            Signal::Logs => &self.logs,
            Signal::Metrics => &self.metrics,
        }
    }

    pub(crate) fn note_accepted(
        &self,
        signal: Signal,
        accepted: &Accepted,
        recognised: &BTreeMap<String, u64>,
        noise: &BTreeMap<Arc<str>, u64>,
        service: Option<&str>,
    ) {
        let meters = self.of(signal);
        meters.requests.fetch_add(1, Ordering::Relaxed);
        let n_stored = accepted.n_accepted.saturating_sub(noise.values().sum());
        if accepted.duplicate {
            meters.duplicate_requests.fetch_add(1, Ordering::Relaxed);
            meters.deduplicated.fetch_add(n_stored, Ordering::Relaxed);
            return;
        }
        meters.accepted.fetch_add(n_stored, Ordering::Relaxed);
        let mut labelled = self.labelled.lock();
        for (dialect, count) in recognised {
            match labelled.recognised.get_mut(dialect) {
                Some(total) => *total += count,
                None => drop(labelled.recognised.insert(dialect.clone(), *count)),
            }
        }
        for (rule, count) in noise {
            match labelled.noise.get_mut(rule) {
                Some(total) => *total += count,
                None => drop(labelled.noise.insert(Arc::clone(rule), *count)),
            }
        }
        if labelled.first_service.is_none() {
            labelled.first_service = Some(service.unwrap_or("unknown service").to_owned());
        }
    }

    pub(crate) fn note_rejected(&self, signal: Signal, n_records: u64) {
        self.of(signal).rejected.fetch_add(n_records, Ordering::Relaxed);
    }

    pub(crate) fn note_refused(&self, signal: Signal, kind: ErrorKind) {
        *self
            .labelled
            .lock()
            .refused
            .entry((signal.name(), kind.name()))
            .or_default() += 1;
    }

    /// The counters now.
    #[must_use]
    pub fn read(&self) -> MetersReading {
        let labelled = self.labelled.lock();
        let by_signal = |counter: fn(&SignalMeters) -> &AtomicU64| {
            [Signal::Traces, Signal::Logs, Signal::Metrics]
                .into_iter()
                .map(|signal| (signal.name(), counter(self.of(signal)).load(Ordering::Relaxed)))
                .collect()
        };
        MetersReading {
            accepted: by_signal(|meters| &meters.accepted),
            rejected: by_signal(|meters| &meters.rejected),
            requests: by_signal(|meters| &meters.requests),
            duplicate_requests: by_signal(|meters| &meters.duplicate_requests),
            deduplicated: by_signal(|meters| &meters.deduplicated),
            refused: labelled.refused.clone(),
            recognised: labelled.recognised.clone(),
            noise: labelled
                .noise
                .iter()
                .map(|(rule, count)| (rule.to_string(), *count))
                .collect(),
            first_service: labelled.first_service.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_request_counts_the_records_that_it_would_have_stored() {
        let meters = Meters::default();
        let (recognised, noise) = (BTreeMap::new(), BTreeMap::from([(Arc::from("chatter"), 2)]));
        let accepted = |duplicate| Accepted {
            n_accepted: 10,
            duplicate,
            ..Accepted::default()
        };
        for duplicate in [false, true, true] {
            meters.note_accepted(Signal::Traces, &accepted(duplicate), &recognised, &noise, None);
        }
        let reading = meters.read();
        assert_eq!(reading.accepted["traces"], 8);
        assert_eq!(
            (reading.duplicate_requests["traces"], reading.deduplicated["traces"]),
            (2, 16)
        );
        assert_eq!(reading.deduplicated["logs"], 0);
    }
}
