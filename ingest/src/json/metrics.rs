//! The fields of metrics and data points. A data point is a record: one that cannot be read is left out alone.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
    exemplar, number_data_point,
};
use serde::de::MapAccess;

use super::messages::message;
use super::read::{Message, Reader};
use crate::accept::n_data_points;

message!(ExportMetricsServiceRequest, "resourceMetrics", {
    "resourceMetrics" => |request, reader, map| request.resource_metrics = reader.records(map)?,
});

message!(ResourceMetrics, "resourceMetrics", n_records = |group| group.scope_metrics.iter().map(Message::n_records).sum(), {
    "resource" => |group, reader, map| group.resource = reader.object(map)?,
    "scopeMetrics" => |group, reader, map| group.scope_metrics = reader.records(map)?,
    "schemaUrl" => |group, reader, map| group.schema_url = reader.string("schemaUrl", map)?,
});

message!(ScopeMetrics, "scopeMetrics", n_records = |scope| scope.metrics.iter().map(Message::n_records).sum(), {
    "scope" => |scope, reader, map| scope.scope = reader.object(map)?,
    "metrics" => |scope, reader, map| scope.metrics = reader.records(map)?,
    "schemaUrl" => |scope, reader, map| scope.schema_url = reader.string("schemaUrl", map)?,
});

message!(Metric, "metric", n_records = |metric| n_data_points(metric) as u64, {
    "name" => |metric, reader, map| metric.name = reader.string("name", map)?,
    "description" => |metric, reader, map| metric.description = reader.string("description", map)?,
    "unit" => |metric, reader, map| metric.unit = reader.string("unit", map)?,
    "metadata" => |metric, reader, map| metric.metadata = reader.list(map)?,
    "gauge" => |metric, reader, map| set(metric, reader.object(map)?.map(Data::Gauge)),
    "sum" => |metric, reader, map| set(metric, reader.object(map)?.map(Data::Sum)),
    "histogram" => |metric, reader, map| set(metric, reader.object(map)?.map(Data::Histogram)),
    "exponentialHistogram" => |metric, reader, map| set(metric, reader.object(map)?.map(Data::ExponentialHistogram)),
    "summary" => |metric, reader, map| set(metric, reader.object(map)?.map(Data::Summary)),
});

fn set(metric: &mut Metric, data: Option<Data>) {
    if data.is_some() {
        metric.data = data;
    }
}

message!(Gauge, "gauge", {
    "dataPoints" => |gauge, reader, map| gauge.data_points = reader.records(map)?,
});

message!(Sum, "sum", {
    "dataPoints" => |sum, reader, map| sum.data_points = reader.records(map)?,
    "aggregationTemporality" => |sum, reader, map| sum.aggregation_temporality = temporality(reader, map)?,
    "isMonotonic" => |sum, reader, map| sum.is_monotonic = reader.bool("isMonotonic", map)?.unwrap_or_default(),
});

message!(Histogram, "histogram", {
    "dataPoints" => |histogram, reader, map| histogram.data_points = reader.records(map)?,
    "aggregationTemporality" => |histogram, reader, map| histogram.aggregation_temporality = temporality(reader, map)?,
});

message!(ExponentialHistogram, "exponentialHistogram", {
    "dataPoints" => |histogram, reader, map| histogram.data_points = reader.records(map)?,
    "aggregationTemporality" => |histogram, reader, map| histogram.aggregation_temporality = temporality(reader, map)?,
});

message!(Summary, "summary", {
    "dataPoints" => |summary, reader, map| summary.data_points = reader.records(map)?,
});

fn temporality<'de, A: MapAccess<'de>>(reader: &mut Reader<'_, '_>, map: &mut A) -> Result<i32, A::Error> {
    reader.enumeration("aggregationTemporality", map, AggregationTemporality::from_str_name)
}

message!(NumberDataPoint, "dataPoint", {
    "attributes" => |point, reader, map| point.attributes = reader.list(map)?,
    "startTimeUnixNano" => |point, reader, map| point.start_time_unix_nano = reader.u64("startTimeUnixNano", map)?,
    "timeUnixNano" => |point, reader, map| point.time_unix_nano = reader.u64("timeUnixNano", map)?,
    "exemplars" => |point, reader, map| point.exemplars = reader.list(map)?,
    "flags" => |point, reader, map| point.flags = reader.u32("flags", map)?,
    "asInt" => |point, reader, map| if let Some(value) = reader.i64("asInt", map)? {
        point.value = Some(number_data_point::Value::AsInt(value));
    },
    "asDouble" => |point, reader, map| if let Some(value) = reader.f64("asDouble", map)? {
        point.value = Some(number_data_point::Value::AsDouble(value));
    },
});

message!(HistogramDataPoint, "dataPoint", {
    "attributes" => |point, reader, map| point.attributes = reader.list(map)?,
    "startTimeUnixNano" => |point, reader, map| point.start_time_unix_nano = reader.u64("startTimeUnixNano", map)?,
    "timeUnixNano" => |point, reader, map| point.time_unix_nano = reader.u64("timeUnixNano", map)?,
    "count" => |point, reader, map| point.count = reader.u64("count", map)?,
    "sum" => |point, reader, map| point.sum = reader.f64("sum", map)?,
    "bucketCounts" => |point, reader, map| point.bucket_counts = reader.scalars("bucketCounts", map, Reader::unsigned)?,
    "explicitBounds" => |point, reader, map| {
        point.explicit_bounds = reader.scalars("explicitBounds", map, Reader::double)?;
    },
    "exemplars" => |point, reader, map| point.exemplars = reader.list(map)?,
    "flags" => |point, reader, map| point.flags = reader.u32("flags", map)?,
    "min" => |point, reader, map| point.min = reader.f64("min", map)?,
    "max" => |point, reader, map| point.max = reader.f64("max", map)?,
});

message!(ExponentialHistogramDataPoint, "dataPoint", {
    "attributes" => |point, reader, map| point.attributes = reader.list(map)?,
    "startTimeUnixNano" => |point, reader, map| point.start_time_unix_nano = reader.u64("startTimeUnixNano", map)?,
    "timeUnixNano" => |point, reader, map| point.time_unix_nano = reader.u64("timeUnixNano", map)?,
    "count" => |point, reader, map| point.count = reader.u64("count", map)?,
    "sum" => |point, reader, map| point.sum = reader.f64("sum", map)?,
    "scale" => |point, reader, map| point.scale = reader.i32("scale", map)?,
    "zeroCount" => |point, reader, map| point.zero_count = reader.u64("zeroCount", map)?,
    "zeroThreshold" => |point, reader, map| {
        point.zero_threshold = reader.f64("zeroThreshold", map)?.unwrap_or_default();
    },
    "positive" => |point, reader, map| point.positive = reader.object(map)?,
    "negative" => |point, reader, map| point.negative = reader.object(map)?,
    "exemplars" => |point, reader, map| point.exemplars = reader.list(map)?,
    "flags" => |point, reader, map| point.flags = reader.u32("flags", map)?,
    "min" => |point, reader, map| point.min = reader.f64("min", map)?,
    "max" => |point, reader, map| point.max = reader.f64("max", map)?,
});

message!(Buckets, "buckets", {
    "offset" => |buckets, reader, map| buckets.offset = reader.i32("offset", map)?,
    "bucketCounts" => |buckets, reader, map| {
        buckets.bucket_counts = reader.scalars("bucketCounts", map, Reader::unsigned)?;
    },
});

message!(SummaryDataPoint, "dataPoint", {
    "attributes" => |point, reader, map| point.attributes = reader.list(map)?,
    "startTimeUnixNano" => |point, reader, map| point.start_time_unix_nano = reader.u64("startTimeUnixNano", map)?,
    "timeUnixNano" => |point, reader, map| point.time_unix_nano = reader.u64("timeUnixNano", map)?,
    "count" => |point, reader, map| point.count = reader.u64("count", map)?,
    "sum" => |point, reader, map| point.sum = reader.f64("sum", map)?.unwrap_or_default(),
    "quantileValues" => |point, reader, map| point.quantile_values = reader.list(map)?,
    "flags" => |point, reader, map| point.flags = reader.u32("flags", map)?,
});

message!(ValueAtQuantile, "quantileValue", {
    "quantile" => |value, reader, map| value.quantile = reader.f64("quantile", map)?.unwrap_or_default(),
    "value" => |value, reader, map| value.value = reader.f64("value", map)?.unwrap_or_default(),
});

message!(Exemplar, "exemplar", {
    "filteredAttributes" => |exemplar, reader, map| exemplar.filtered_attributes = reader.list(map)?,
    "timeUnixNano" => |exemplar, reader, map| exemplar.time_unix_nano = reader.u64("timeUnixNano", map)?,
    "spanId" => |exemplar, reader, map| exemplar.span_id = reader.reference(map)?,
    "traceId" => |exemplar, reader, map| exemplar.trace_id = reader.reference(map)?,
    "asInt" => |exemplar, reader, map| if let Some(value) = reader.i64("asInt", map)? {
        exemplar.value = Some(exemplar::Value::AsInt(value));
    },
    "asDouble" => |exemplar, reader, map| if let Some(value) = reader.f64("asDouble", map)? {
        exemplar.value = Some(exemplar::Value::AsDouble(value));
    },
});
