//! Metrics: data points to rows of `metrics` and `observations`.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, ScopeMetrics, metric, number_data_point};
use prost::Message;
use spanledger_lake::tables::Table;
use spanledger_lake::tables::raw::{MetricRow, MetricsBuilder};
use spanledger_model::Observation;

use super::texts;
use super::{Context, Normalised, ResourceView, is_plausible, sent_time};
use crate::dialects::fields::Fields;
use crate::dialects::record::{Origin, PointView};
use crate::dialects::{Compiled, rules};
use crate::limits::Limits;

/// What a metrics request becomes.
pub(super) fn normalise(request: &ExportMetricsServiceRequest, context: &Context, limits: &Limits) -> Normalised {
    let mut batch = Batch {
        metrics: MetricsBuilder::default(),
        observations: Vec::new(),
        result: Normalised::default(),
    };
    for resource_metrics in &request.resource_metrics {
        let resource = ResourceView::new(resource_metrics.resource.as_ref(), context, limits);
        if batch.result.first_service.is_none() {
            batch.result.first_service.clone_from(&resource.service);
        }
        for group in &resource_metrics.scope_metrics {
            batch.append_scope(group, &resource, context, limits);
        }
    }
    batch.finish()
}

struct Batch {
    metrics: MetricsBuilder,
    observations: Vec<Observation>,
    result: Normalised,
}

/// What the points of one metric share.
struct Series<'r> {
    metric: &'r Metric,
    scope: &'r str,
    resource: &'r ResourceView,
    compiled: &'r Compiled,
    context: &'r Context,
    limits: &'r Limits,
    kind: &'static str,
    temporality: Option<&'static str>,
    is_monotonic: Option<bool>,
}

/// One point, whatever its kind.
#[derive(Default)]
struct Point<'r> {
    attributes: &'r [KeyValue],
    start_unix_nano: u64,
    time_unix_nano: u64,
    value: Option<f64>,
    value_int: Option<i64>,
    count: Option<u64>,
    sum: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    bucket_counts: &'r [u64],
    explicit_bounds: &'r [f64],
}

impl Batch {
    fn append_scope(&mut self, group: &ScopeMetrics, resource: &ResourceView, context: &Context, limits: &Limits) {
        let scope = group.scope.as_ref().map_or("", |scope| scope.name.as_str());
        let compiled = context.dialects.recognise(scope, resource.service.as_deref());
        for metric in &group.metrics {
            let series = |kind, temporality: Option<i32>, is_monotonic| Series {
                metric,
                scope,
                resource,
                compiled,
                context,
                limits,
                kind,
                temporality: temporality.and_then(temporality_name),
                is_monotonic,
            };
            match metric.data.as_ref() {
                Some(metric::Data::Sum(sum)) => {
                    let series = series("sum", Some(sum.aggregation_temporality), Some(sum.is_monotonic));
                    sum.data_points
                        .iter()
                        .for_each(|point| self.append_point(&series, &number_point(point)));
                }
                Some(metric::Data::Gauge(gauge)) => {
                    let series = series("gauge", None, None);
                    gauge
                        .data_points
                        .iter()
                        .for_each(|point| self.append_point(&series, &number_point(point)));
                }
                Some(metric::Data::Histogram(histogram)) => {
                    let series = series("histogram", Some(histogram.aggregation_temporality), None);
                    for point in &histogram.data_points {
                        let point = Point {
                            attributes: &point.attributes,
                            start_unix_nano: point.start_time_unix_nano,
                            time_unix_nano: point.time_unix_nano,
                            count: Some(point.count),
                            sum: point.sum,
                            min: point.min,
                            max: point.max,
                            bucket_counts: &point.bucket_counts,
                            explicit_bounds: &point.explicit_bounds,
                            ..Point::default()
                        };
                        self.append_point(&series, &point);
                    }
                }
                Some(metric::Data::ExponentialHistogram(histogram)) => {
                    let series = series("exponential_histogram", Some(histogram.aggregation_temporality), None);
                    for point in &histogram.data_points {
                        let point = Point {
                            attributes: &point.attributes,
                            start_unix_nano: point.start_time_unix_nano,
                            time_unix_nano: point.time_unix_nano,
                            count: Some(point.count),
                            sum: point.sum,
                            min: point.min,
                            max: point.max,
                            ..Point::default()
                        };
                        self.append_point(&series, &point);
                    }
                }
                Some(metric::Data::Summary(summary)) => {
                    let series = series("summary", None, None);
                    for point in &summary.data_points {
                        let point = Point {
                            attributes: &point.attributes,
                            start_unix_nano: point.start_time_unix_nano,
                            time_unix_nano: point.time_unix_nano,
                            count: Some(point.count),
                            sum: Some(point.sum),
                            ..Point::default()
                        };
                        self.append_point(&series, &point);
                    }
                }
                None => {}
            }
        }
    }

    fn append_point(&mut self, series: &Series<'_>, point: &Point<'_>) {
        let time_ns = sent_time(point.time_unix_nano).unwrap_or(series.context.arrived_ns);
        if !is_plausible(time_ns) {
            self.result.reject("time is before 2000 or after 2100");
            return;
        }
        let start_ns = sent_time(point.start_unix_nano).unwrap_or(0);
        let limits = series.limits;
        self.metrics.append(&MetricRow {
            tenant: series.context.tenant.as_str(),
            time_ns,
            start_ns,
            name: texts::truncated(&series.metric.name, limits.name_bytes_max),
            unit: texts::truncated(&series.metric.unit, limits.name_bytes_max),
            kind: series.kind,
            temporality: series.temporality,
            is_monotonic: series.is_monotonic,
            value: point.value,
            value_int: point.value_int,
            count: point.count.map(|count| i64::try_from(count).unwrap_or(i64::MAX)),
            sum: point.sum,
            min: point.min,
            max: point.max,
            bucket_counts: point.bucket_counts,
            explicit_bounds: point.explicit_bounds,
            service: series.resource.service.as_deref(),
            scope: texts::truncated(series.scope, limits.name_bytes_max),
            resource: &series.resource.attributes,
            attributes: &texts::bounded_attributes(point.attributes, limits.attributes_max, limits),
        });
        self.result.n_accepted += 1;
        if let Some(value) = point.value.or(point.sum) {
            self.observe(series, point, value, start_ns, time_ns);
        }
    }

    fn observe(&mut self, series: &Series<'_>, point: &Point<'_>, value: f64, start_ns: i64, time_ns: i64) {
        let view = PointView {
            origin: Origin {
                tenant: &series.context.tenant,
                resource: &series.resource.facts,
                scope: series.scope,
                dialect: series.compiled,
                arrived_ns: series.context.arrived_ns,
            },
            name: &series.metric.name,
            value,
            is_delta: series.temporality.map(|temporality| temporality == "delta"),
            start_ns,
            time_ns,
            attributes: point.attributes,
            series: &|| series_identity(series, point, start_ns),
            fields: Fields::read(&series.compiled.keys, point.attributes),
        };
        self.observations.extend(rules::read_point(&view));
    }

    fn finish(mut self) -> Normalised {
        if self.metrics.n_rows() > 0 {
            self.result.rows.push((Table::Metrics, self.metrics.finish()));
        }
        self.result.push_observations(&self.observations);
        self.result
    }
}

/// Identity of a series since its last reset: resource, scope, name, attributes in any order, and start.
fn series_identity(series: &Series<'_>, point: &Point<'_>, start_ns: i64) -> [u8; 16] {
    let mut attributes: Vec<Vec<u8>> = point.attributes.iter().map(Message::encode_to_vec).collect();
    attributes.sort_unstable();
    let start = start_ns.to_le_bytes();
    let mut parts: Vec<&[u8]> = vec![
        &series.resource.facts.identity,
        series.scope.as_bytes(),
        series.metric.name.as_bytes(),
        &start,
    ];
    parts.extend(attributes.iter().map(Vec::as_slice));
    spanledger_model::ids::hash_parts(&parts)
}

fn number_point(point: &NumberDataPoint) -> Point<'_> {
    let (value, value_int) = match point.value {
        Some(number_data_point::Value::AsDouble(value)) => (Some(value), None),
        Some(number_data_point::Value::AsInt(value)) => (Some(value as f64), Some(value)),
        None => (None, None),
    };
    Point {
        attributes: &point.attributes,
        start_unix_nano: point.start_time_unix_nano,
        time_unix_nano: point.time_unix_nano,
        value,
        value_int,
        ..Point::default()
    }
}

fn temporality_name(number: i32) -> Option<&'static str> {
    match number {
        1 => Some("delta"),
        2 => Some("cumulative"),
        _ => None,
    }
}
