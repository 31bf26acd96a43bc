//! The instruments behind `/metrics`: what came in, how far each stage is, what it costs to keep up.
//!
//! Counters and gauges of the crates below are read when somebody asks; only requests of the HTTP port are
//! recorded as they happen. Labels have few values, whatever is sent.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use spanledger_ingest::Pipeline;
use spanledger_ingest::meters::MetersReading;
use spanledger_lake::{Lake, LakeStats, Positions, Table};

/// Upper bounds of request times, in seconds: those of the HTTP conventions.
const SECONDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Instruments that are recorded as things happen.
#[derive(Debug, Clone)]
pub struct Instruments {
    requests: Histogram<f64>,
}

impl Instruments {
    /// Instruments of a provider.
    pub fn new(provider: &SdkMeterProvider) -> Self {
        let meter = provider.meter("spanledger");
        let requests = meter
            .f64_histogram("http.server.request.duration")
            .with_unit("s")
            .with_boundaries(SECONDS.to_vec())
            .with_description("Time to answer a request of the HTTP port")
            .build();
        Self { requests }
    }

    /// Records an answered request.
    pub fn request(&self, method: &str, route: &'static str, status: u16, duration: Duration) {
        self.requests.record(
            duration.as_secs_f64(),
            &[
                KeyValue::new("http.request.method", method.to_owned()),
                KeyValue::new("http.route", route),
                KeyValue::new("http.response.status_code", i64::from(status)),
            ],
        );
    }
}

/// Registers everything that is read on demand.
pub fn observe(provider: &SdkMeterProvider, lake: &Lake, pipeline: &Arc<Pipeline>) -> Instruments {
    let meter = provider.meter("spanledger");
    received(&meter, pipeline);
    deduplicated(&meter, lake, pipeline);
    left_out(&meter, pipeline);
    stages(&meter, lake);
    Instruments::new(provider)
}

fn received(meter: &Meter, pipeline: &Arc<Pipeline>) {
    let by_signal = |name: &'static str, about: &'static str, read: fn(MetersReading) -> Vec<(&'static str, u64)>| {
        let pipeline = Arc::clone(pipeline);
        meter
            .u64_observable_counter(name)
            .with_description(about)
            .with_callback(move |observer| {
                for (signal, count) in read(pipeline.meters().read()) {
                    observer.observe(count, &[KeyValue::new("signal", signal)]);
                }
            })
            .build();
    };
    by_signal(
        "spanledger.ingest.records",
        "Spans, log records and metric points stored",
        |reading| reading.accepted.into_iter().collect(),
    );
    by_signal(
        "spanledger.ingest.rejected_records",
        "Records left out of otherwise good requests",
        |reading| reading.rejected.into_iter().collect(),
    );
    by_signal("spanledger.ingest.requests", "Requests acknowledged", |reading| {
        reading.requests.into_iter().collect()
    });
    by_signal(
        "spanledger.ingest.duplicate_requests",
        "Requests that had been stored before",
        |reading| reading.duplicate_requests.into_iter().collect(),
    );
    let refused = Arc::clone(pipeline);
    meter
        .u64_observable_counter("spanledger.ingest.refused_requests")
        .with_description("Requests refused, by reason")
        .with_callback(move |observer| {
            for ((signal, kind), count) in refused.meters().read().refused {
                observer.observe(count, &[KeyValue::new("signal", signal), KeyValue::new("reason", kind)]);
            }
        })
        .build();
    let recognised = Arc::clone(pipeline);
    meter
        .u64_observable_counter("spanledger.ingest.observations")
        .with_description("Observations read, by dialect")
        .with_callback(move |observer| {
            for (dialect, count) in recognised.meters().read().recognised {
                observer.observe(count, &[KeyValue::new("dialect", dialect)]);
            }
        })
        .build();
}

/// Records that were sent again: each repeat counts once, where it is recognised. A whole request that the window
/// knows is answered (counted since the start of the process); in other requests they are stored and left out when
/// files are merged (counted in the lake, over all processes).
fn deduplicated(meter: &Meter, lake: &Lake, pipeline: &Arc<Pipeline>) {
    for (name, about, signal, table) in [
        (
            "spanledger.spans.deduplicated",
            "Spans sent again and counted once",
            "traces",
            Table::Spans,
        ),
        (
            "spanledger.logs.deduplicated",
            "Log records sent again and counted once",
            "logs",
            Table::Logs,
        ),
        (
            "spanledger.metrics.deduplicated",
            "Metric points sent again and counted once",
            "metrics",
            Table::Metrics,
        ),
    ] {
        let (lake, pipeline) = (lake.clone(), Arc::clone(pipeline));
        meter
            .u64_observable_counter(name)
            .with_description(about)
            .with_callback(move |observer| {
                let by_request = pipeline.meters().read().deduplicated.get(signal).copied();
                let tables = lake.stats().tables;
                let by_merge = tables.iter().find(|stats| stats.name == table.name());
                let counts = [
                    ("request", by_request.unwrap_or(0)),
                    ("compaction", by_merge.map_or(0, |stats| stats.n_rows_deduplicated)),
                ];
                for (by, count) in counts {
                    observer.observe(count, &[KeyValue::new("by", by)]);
                }
            })
            .build();
    }
}

/// Spans that were accepted and not stored: the noise rules are the user's, so their names are few.
fn left_out(meter: &Meter, pipeline: &Arc<Pipeline>) {
    let pipeline = Arc::clone(pipeline);
    meter
        .u64_observable_counter("spanledger.ingest.noise_spans")
        .with_description("Spans accepted and not stored, by noise rule")
        .with_callback(move |observer| {
            for (rule, count) in pipeline.meters().read().noise {
                observer.observe(count, &[KeyValue::new("rule", rule)]);
            }
        })
        .build();
}

fn stages(meter: &Meter, lake: &Lake) {
    let gauge = |name: &'static str, unit: &'static str, about: &'static str, read: fn(&LakeStats) -> u64| {
        let lake = lake.clone();
        meter
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_description(about)
            .with_callback(move |observer| observer.observe(read(&lake.stats()), &[]))
            .build();
    };
    gauge(
        "spanledger.lake.bytes_in_flight",
        "By",
        "Bytes accepted but not yet on stable storage",
        |stats| wide(stats.bytes_in_flight),
    );
    gauge(
        "spanledger.lake.wal_size",
        "By",
        "Bytes of the write-ahead log",
        |stats| stats.wal_bytes,
    );
    gauge(
        "spanledger.lake.wal_segments",
        "",
        "Segments of the write-ahead log",
        |stats| wide(stats.wal_segments),
    );
    let age = |name: &'static str, about: &'static str, read: fn(&LakeStats) -> i64| {
        let lake = lake.clone();
        meter
            .f64_observable_gauge(name)
            .with_unit("s")
            .with_description(about)
            .with_callback(move |observer| observer.observe(read(&lake.stats()).max(0) as f64 / 1e9, &[]))
            .build();
    };
    age(
        "spanledger.lake.flush_lag",
        "How far the tables are behind what was acknowledged",
        |stats| {
            let positions = &stats.positions;
            lag_ns(positions, positions.flushed, positions.flushed_ns)
        },
    );
    age(
        "spanledger.ledger.settle_lag",
        "How far calls and ledger are behind what was acknowledged",
        |stats| {
            let positions = &stats.positions;
            lag_ns(positions, positions.settled, positions.settled_ns)
        },
    );
    let by_table =
        |name: &'static str, unit: &'static str, about: &'static str, read: fn(&spanledger_lake::TableStats) -> u64| {
            let lake = lake.clone();
            meter
                .u64_observable_gauge(name)
                .with_unit(unit)
                .with_description(about)
                .with_callback(move |observer| {
                    for table in &lake.stats().tables {
                        observer.observe(read(table), &[KeyValue::new("table", table.name)]);
                    }
                })
                .build();
        };
    by_table("spanledger.lake.files", "", "Live files of a table", |table| {
        wide(table.n_files)
    });
    by_table("spanledger.lake.rows", "", "Rows in the files of a table", |table| {
        table.n_rows
    });
    by_table("spanledger.lake.size", "By", "Bytes of the files of a table", |table| {
        table.bytes
    });
    by_table(
        "spanledger.lake.hot_rows",
        "",
        "Acknowledged rows that are in no file yet",
        |table| wide(table.n_hot_rows),
    );
    let expired = lake.clone();
    meter
        .u64_observable_counter("spanledger.lake.expired_rows")
        .with_description("Rows that retention removed from a table")
        .with_callback(move |observer| {
            for table in &expired.stats().tables {
                observer.observe(table.n_rows_expired, &[KeyValue::new("table", table.name)]);
            }
        })
        .build();
}

/// Age of the newest record that a stage has, against the newest acknowledged one; 0 where it has all.
fn lag_ns(positions: &Positions, sequence: u64, arrived_ns: i64) -> i64 {
    if sequence >= positions.acknowledged || arrived_ns == 0 {
        0
    } else {
        positions.acknowledged_ns - arrived_ns
    }
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
