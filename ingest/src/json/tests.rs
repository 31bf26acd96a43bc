//! OTLP/JSON: the rules one by one, isolation of records, captures against opentelemetry-proto's own reader.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::*;
use crate::error::ErrorKind;
use crate::limits::DECODED_BYTES_MAX;

fn json(signal: Signal, body: &str) -> Result<Decoded> {
    decode(signal, body.as_bytes(), &mut Budget::new(DECODED_BYTES_MAX))
}

/// Reads a body of spans: those that were read, how many were left out, and why.
fn spans(body: &str) -> (Vec<Span>, u64, Option<String>) {
    let decoded = json(Signal::Traces, body).unwrap();
    let Request::Traces(request) = decoded.request else {
        panic!("not traces")
    };
    let spans = request
        .resource_spans
        .into_iter()
        .flat_map(|g| g.scope_spans)
        .flat_map(|s| s.spans)
        .collect();
    (spans, decoded.n_rejected, decoded.reason)
}

fn in_scope(spans: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#)
}

/// The span of an object's fields, or why it was left out.
fn span(fields: &str) -> Result<Span, String> {
    let (mut read, n_rejected, reason) = spans(&in_scope(&format!(r#"{{"name":"neighbour"}},{{{fields}}}"#)));
    assert_eq!(read[0].name, "neighbour");
    assert_eq!(read.len() as u64 + n_rejected, 2);
    if n_rejected == 0 {
        Ok(read.remove(1))
    } else {
        Err(reason.unwrap())
    }
}

fn value(json: &str) -> Result<Option<Value>, String> {
    let span = span(&format!(r#""attributes":[{{"key":"k","value":{json}}}]"#))?;
    Ok(span
        .attributes
        .into_iter()
        .next()
        .unwrap()
        .value
        .and_then(|value| value.value))
}

fn text(text: &str) -> Option<Value> {
    Some(Value::StringValue(text.to_owned()))
}

#[test]
fn attribute_values_are_read_as_the_specification_and_senders_write_them() {
    let any = |value: Option<Value>| AnyValue { value };
    for (json, expected) in [
        (r#"{"stringValue":"a"}"#, text("a")),
        (r#"{"stringValue":"\ud83d\ude00 ü \u0000"}"#, text("😀 ü \0")),
        (r#"{"stringValue":""}"#, text("")),
        (r#"{"stringValue":7}"#, text("7")),
        (r#"{"boolValue":true}"#, Some(Value::BoolValue(true))),
        (r#"{"boolValue":"false"}"#, Some(Value::BoolValue(false))),
        (
            r#"{"intValue":"-9223372036854775808"}"#,
            Some(Value::IntValue(i64::MIN)),
        ),
        (r#"{"intValue":9223372036854775807}"#, Some(Value::IntValue(i64::MAX))),
        (r#"{"intValue":-3}"#, Some(Value::IntValue(-3))),
        (r#"{"intValue":1e3}"#, Some(Value::IntValue(1000))),
        (r#"{"intValue":12.0}"#, Some(Value::IntValue(12))),
        (r#"{"doubleValue":0.25}"#, Some(Value::DoubleValue(0.25))),
        // serde_json alone reads the neighbours of these.
        (
            r#"{"doubleValue":46.368762000000004}"#,
            Some(Value::DoubleValue(46.368762000000004)),
        ),
        (r#"{"doubleValue":46.368762}"#, Some(Value::DoubleValue(46.368762))),
        (r#"{"doubleValue":3}"#, Some(Value::DoubleValue(3.0))),
        (r#"{"doubleValue":"-1.5"}"#, Some(Value::DoubleValue(-1.5))),
        (r#"{"doubleValue":"Infinity"}"#, Some(Value::DoubleValue(f64::INFINITY))),
        (
            r#"{"doubleValue":"-Infinity"}"#,
            Some(Value::DoubleValue(f64::NEG_INFINITY)),
        ),
        (
            r#"{"bytesValue":"AAEC/w=="}"#,
            Some(Value::BytesValue(vec![0, 1, 2, 255])),
        ),
        (
            r#"{"bytesValue":"AAEC_w"}"#,
            Some(Value::BytesValue(vec![0, 1, 2, 255])),
        ),
        (r#"{"arrayValue":{}}"#, Some(Value::ArrayValue(ArrayValue::default()))),
        (
            r#"{"arrayValue":{"values":[{"intValue":1},{},{"stringValue":"x"},null]}}"#,
            Some(Value::ArrayValue(ArrayValue {
                values: vec![any(Some(Value::IntValue(1))), any(None), any(text("x"))],
            })),
        ),
        (
            r#"{"kvlistValue":{"values":[{"key":"a","value":{"boolValue":true}},{"key":"b"}]}}"#,
            Some(Value::KvlistValue(KeyValueList {
                values: vec![
                    KeyValue {
                        key: "a".into(),
                        value: Some(any(Some(Value::BoolValue(true)))),
                        ..KeyValue::default()
                    },
                    KeyValue {
                        key: "b".into(),
                        ..KeyValue::default()
                    },
                ],
            })),
        ),
        (r#"{}"#, None),
        (r#"null"#, None),
        (r#"{"stringValue":null}"#, None),
        (r#"{"stringValueStrindex":4}"#, None),
        (r#"{"futureValue":{"deep":[1,{"x":[]}]}}"#, None),
        (r#"{"string_value":"snake"}"#, None),
        (r#"{"intValue":1,"stringValue":"last"}"#, text("last")),
    ] {
        assert_eq!(value(json), Ok(expected), "{json}");
    }
    let Ok(Some(Value::DoubleValue(nan))) = value(r#"{"doubleValue":"NaN"}"#) else {
        panic!("NaN")
    };
    assert!(nan.is_nan());
}

#[test]
fn a_value_that_cannot_be_read_leaves_out_its_record_and_says_why() {
    for (json, reason) in [
        (
            r#"{"intValue":"abc"}"#,
            r#"intValue is "abc" instead of a 64-bit integer"#,
        ),
        (r#"{"intValue":1.5}"#, "intValue is 1.5 instead of a 64-bit integer"),
        (
            r#"{"intValue":9223372036854775808}"#,
            "intValue is 9223372036854775808 instead of a 64-bit integer",
        ),
        (
            r#"{"intValue":[1]}"#,
            "intValue is an array or object instead of a 64-bit integer",
        ),
        (
            r#"{"boolValue":"maybe"}"#,
            r#"boolValue is "maybe" instead of true or false"#,
        ),
        (
            r#"{"doubleValue":"inf"}"#,
            r#"doubleValue is "inf" instead of a number"#,
        ),
        (r#"{"bytesValue":"***"}"#, r#"bytesValue is "***" instead of base64"#),
        (
            r#"{"arrayValue":[]}"#,
            "arrayValue is an array or object instead of an object",
        ),
        (r#""bare""#, r#"value is "bare" instead of an object"#),
        (
            r#"{"stringValue":{"x":1}}"#,
            "stringValue is an array or object instead of a string",
        ),
    ] {
        assert_eq!(value(json), Err(reason.to_owned()), "{json}");
    }
}

#[test]
fn span_fields_are_read_or_leave_out_the_span() {
    let ids =
        span(r#""traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174","parentSpanId":"""#).unwrap();
    assert_eq!(hex::encode(&ids.trace_id), "5b8efff798038103d269b633813fc60c");
    assert_eq!(hex::encode(&ids.span_id), "eee19b7ec3c1b174");
    assert!(ids.parent_span_id.is_empty());
    let times =
        span(r#""startTimeUnixNano":"1544712660000000000","endTimeUnixNano":1544712661000000000,"flags":257"#).unwrap();
    assert_eq!(
        (times.start_time_unix_nano, times.end_time_unix_nano),
        (1_544_712_660_000_000_000, 1_544_712_661_000_000_000)
    );
    assert_eq!(times.flags, 257);
    for (kind, expected) in [
        ("2", 2),
        (r#""SPAN_KIND_CLIENT""#, 3),
        (r#""5""#, 5),
        (r#""WHAT""#, 0),
        ("99", 99),
        ("null", 0),
    ] {
        assert_eq!(span(&format!(r#""kind":{kind}"#)).unwrap().kind, expected, "{kind}");
    }
    assert_eq!(
        span(r#""status":{"code":"STATUS_CODE_ERROR","message":"no"}"#)
            .unwrap()
            .status
            .unwrap()
            .code,
        2
    );
    assert_eq!(span(r#""name":"a","name":"b""#).unwrap().name, "b");
    assert_eq!(
        span(r#""attributes":null,"events":null,"status":null,"unknown":{"a":[{}]}"#),
        Ok(Span::default())
    );
    // Another record's id that is damaged is absent; the span's own is its identity.
    assert_eq!(span(r#""parentSpanId":"xyz""#), Ok(Span::default()));
    for (fields, reason) in [
        (r#""traceId":"xyz""#, r#"traceId is "xyz" instead of hex digits"#),
        (
            r#""spanId":"W47/95gDgQM=""#,
            r#"spanId is "W47/95gDgQM=" instead of hex digits"#,
        ),
        (
            r#""startTimeUnixNano":"-1""#,
            r#"startTimeUnixNano is "-1" instead of a 64-bit unsigned integer"#,
        ),
        (
            r#""startTimeUnixNano":"2024-01-01T00:00:00Z""#,
            r#"startTimeUnixNano is "2024-01-01T00:00:00Z" instead of a 64-bit unsigned integer"#,
        ),
        (
            r#""attributes":{"k":"v"}"#,
            "attribute is an array or object instead of a list",
        ),
        (r#""flags":-1"#, "flags is -1 instead of a 32-bit unsigned integer"),
    ] {
        assert_eq!(span(fields), Err(reason.to_owned()), "{fields}");
    }
}

#[test]
fn envelopes_may_be_empty_null_or_missing() {
    for body in [
        "{}",
        " \n{ }\n",
        r#"{"resourceSpans":null}"#,
        r#"{"resourceSpans":[]}"#,
        r#"{"resourceSpans":[{}]}"#,
        r#"{"resourceSpans":[null,{"scopeSpans":null,"resource":null}]}"#,
        r#"{"resourceSpans":[{"resource":{},"scopeSpans":[{"scope":{},"spans":[]}]}],"other":1}"#,
        r#"{"resource_spans":[{"scope_spans":[{"spans":[{}]}]}]}"#,
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}"#,
        "\u{feff}{}",
    ] {
        let decoded = json(Signal::Traces, body).unwrap();
        assert_eq!((decoded.request.n_records(), decoded.n_rejected), (0, 0), "{body}");
    }
}

#[test]
fn a_body_that_is_not_a_request_is_invalid_and_its_field_named() {
    for (body, field, message) in [
        (
            "",
            "body",
            "the body is not well-formed JSON: EOF while parsing a value at line 1 column 0",
        ),
        (
            "{",
            "body",
            "the body is not well-formed JSON: EOF while parsing an object at line 1 column 1",
        ),
        (
            "{} x",
            "body",
            "the body is not well-formed JSON: trailing characters at line 1 column 4",
        ),
        ("null", "body", "the body is null instead of an export request"),
        (
            "[]",
            "resourceSpans",
            "the body is not an export request: resourceSpans is an array or object instead of an object",
        ),
        (
            r#"{"resourceSpans":{}}"#,
            "resourceSpans",
            "the body is not an export request: resourceSpans is an array or object instead of a list",
        ),
        (
            r#"{"resourceSpans":7}"#,
            "resourceSpans",
            "the body is not an export request: resourceSpans is 7 instead of a list",
        ),
    ] {
        let error = json(Signal::Traces, body).unwrap_err();
        assert_eq!(
            (error.kind(), error.field(), error.message()),
            (ErrorKind::Invalid, field, message),
            "{body}"
        );
    }
}

#[test]
fn a_damaged_resource_or_scope_leaves_out_its_own_records_only() {
    let (read, n_rejected, reason) = spans(
        r#"{"resourceSpans":[
            {"scopeSpans":[{"spans":[{"name":"a"},{"name":"b"}]}],"resource":{"attributes":[{"key":"k","value":{"intValue":"x"}}]}},
            {"scopeSpans":[{"scope":"what","spans":[{"name":"c"}]},{"spans":[{"name":"d"}]}]},
            17
        ]}"#,
    );
    assert_eq!(read.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["d"]);
    assert_eq!(n_rejected, 4);
    assert_eq!(reason.unwrap(), r#"intValue is "x" instead of a 64-bit integer"#);
}

#[test]
fn where_no_record_can_be_read_the_request_is_invalid() {
    let error = json(Signal::Traces, &in_scope(r#"{"traceId":"zz"}"#)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(
        error.message(),
        r#"no span can be read: traceId is "zz" instead of hex digits"#
    );
}

#[test]
fn half_an_emoji_does_not_cost_the_request() {
    let body = in_scope(r#"{"name":"cut \ud83d"},{"name":"\ude00 and \\ud83d and \ud83d\ude00 and \uD83Dx"}"#);
    let (read, n_rejected, _) = spans(&body);
    assert_eq!(n_rejected, 0);
    assert_eq!(read[0].name, "cut \u{fffd}");
    assert_eq!(read[1].name, "\u{fffd} and \\ud83d and 😀 and \u{fffd}x");
    let mut body = in_scope(r#"{"name":"bad ? byte"}"#).into_bytes();
    let at = body.iter().position(|byte| *byte == b'?').unwrap();
    body[at] = 0xff;
    let decoded = decode(Signal::Traces, &body, &mut Budget::new(DECODED_BYTES_MAX)).unwrap();
    assert_eq!(decoded.request.n_records(), 1);
}

#[test]
fn depth_is_bounded_and_an_over_deep_value_leaves_its_neighbours() {
    let nest = |depth: usize, open: &str, close: &str| {
        format!(
            r#""attributes":[{{"key":"k","value":{}{{"intValue":1}}{}}}]"#,
            open.repeat(depth),
            close.repeat(depth)
        )
    };
    let array = |depth| nest(depth, r#"{"arrayValue":{"values":["#, "]}}");
    let map = |depth| nest(depth, r#"{"kvlistValue":{"values":[{"key":"n","value":"#, "}]}}");
    let deepest = JSON_DEPTH;
    assert!(span(&array(deepest)).is_ok());
    assert!(span(&map(deepest)).is_ok());
    let reason = Err(format!("an attribute value is nested deeper than {deepest} levels"));
    for fields in [array(deepest + 1), map(deepest + 1), array(10_000), map(10_000)] {
        assert_eq!(span(&fields), reason);
    }
    // Deep content under a key that nobody knows is skipped.
    assert!(span(&format!(r#""future":{}{}"#, "[".repeat(10_000), "]".repeat(10_000))).is_ok());
    // The deepest place in OTLP: an exemplar's attributes.
    let exemplar = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"sum":{{"dataPoints":[{{"exemplars":[{{{}}}]}}]}}}}]}}]}}]}}"#,
        map(deepest).replacen("attributes", "filteredAttributes", 1)
    );
    assert_eq!(json(Signal::Metrics, &exemplar).unwrap().request.n_records(), 1);
}

const JSON_DEPTH: usize = crate::limits::JSON_VALUE_DEPTH_MAX as usize;

#[test]
fn empty_objects_are_bounded_by_what_they_decode_to() {
    let body = in_scope(&vec!["{}"; 100_000].join(","));
    let error = decode(Signal::Traces, body.as_bytes(), &mut Budget::new(8 << 20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[test]
fn log_records_keep_bodies_of_every_kind() {
    let decoded = json(
        Signal::Logs,
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[
            {"timeUnixNano":"1","observedTimeUnixNano":2,"severityNumber":9,"severityText":"INFO","eventName":"e",
             "body":{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[{"intValue":"1"}]}}}]}}},
            {"severityNumber":"SEVERITY_NUMBER_ERROR","body":{"stringValue":"x"},"traceId":"bad","spanId":""},
            {"severityNumber":{},"body":{"stringValue":"left out"}}
        ]}]}]}"#,
    )
    .unwrap();
    assert_eq!(decoded.n_rejected, 1);
    let Request::Logs(request) = decoded.request else {
        panic!("not logs")
    };
    let logs = &request.resource_logs[0].scope_logs[0].log_records;
    assert_eq!(logs.len(), 2);
    assert!(matches!(
        logs[0].body.as_ref().unwrap().value,
        Some(Value::KvlistValue(_))
    ));
    assert_eq!(
        (
            logs[0].time_unix_nano,
            logs[0].observed_time_unix_nano,
            logs[1].severity_number
        ),
        (1, 2, 17)
    );
    assert!(logs[1].trace_id.is_empty());
}

#[test]
fn a_data_point_is_left_out_alone() {
    let decoded = json(
        Signal::Metrics,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
            {"name":"m","sum":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","isMonotonic":true,"dataPoints":[
                {"asInt":"5"},{"asInt":6},{"asDouble":1.5},{"asDouble":"NaN"},{"asInt":"five"}]}},
            {"name":"h","histogram":{"aggregationTemporality":1,"dataPoints":[
                {"count":"3","sum":2.5,"bucketCounts":["1",2],"explicitBounds":[10,"20.5"],"min":null,"max":2}]}},
            {"name":"e","exponentialHistogram":{"dataPoints":[
                {"count":1,"scale":-3,"zeroCount":"1","positive":{"offset":-1,"bucketCounts":["4"]},"zeroThreshold":"0.5"}]}},
            {"name":"s","summary":{"dataPoints":[{"count":1,"quantileValues":[{"quantile":0.5,"value":"Infinity"}]}]}},
            {"name":{},"gauge":{"dataPoints":[{"asInt":1},{"asInt":2}]}}
        ]}]}]}"#,
    )
    .unwrap();
    assert_eq!(decoded.n_rejected, 3);
    assert_eq!(
        decoded.reason.unwrap(),
        r#"asInt is "five" instead of a 64-bit integer"#
    );
    let Request::Metrics(request) = decoded.request else {
        panic!("not metrics")
    };
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    assert_eq!(metrics.len(), 4);
    let Some(Data::Sum(sum)) = &metrics[0].data else {
        panic!("not a sum")
    };
    assert_eq!(
        (sum.data_points.len(), sum.aggregation_temporality, sum.is_monotonic),
        (4, 2, true)
    );
    assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsInt(5)));
    let Some(Data::Histogram(histogram)) = &metrics[1].data else {
        panic!("not a histogram")
    };
    let point = &histogram.data_points[0];
    assert_eq!(
        (point.bucket_counts.as_slice(), point.explicit_bounds.as_slice()),
        (&[1, 2][..], &[10.0, 20.5][..])
    );
    assert_eq!((point.min, point.max, point.sum), (None, Some(2.0), Some(2.5)));
    let Some(Data::ExponentialHistogram(histogram)) = &metrics[2].data else {
        panic!("not exponential")
    };
    assert_eq!(histogram.data_points[0].positive.as_ref().unwrap().offset, -1);
}

/// Captured request bodies: the project's, and with `SPANLEDGER_CAPTURES` set a folder of more.
fn captures() -> Vec<PathBuf> {
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let more = std::env::var_os("SPANLEDGER_CAPTURES").map(PathBuf::from);
    let roots = [
        Some(here.join("fixtures/captures")),
        Some(here.join("../testkit/fixtures/captures")),
        more,
    ];
    let mut files = Vec::new();
    for root in roots.into_iter().flatten() {
        let Ok(folders) = std::fs::read_dir(root) else { continue };
        for folder in folders.flatten().filter(|entry| entry.path().is_dir()) {
            files.extend(
                std::fs::read_dir(folder.path())
                    .unwrap()
                    .map(|file| file.unwrap().path()),
            );
        }
    }
    files.sort();
    files
}

fn signal_of(path: &Path) -> Option<Signal> {
    let stem = path.file_stem()?.to_str()?;
    [Signal::Traces, Signal::Logs, Signal::Metrics]
        .into_iter()
        .find(|signal| stem.ends_with(signal.name()))
}

#[test]
fn captured_json_reads_as_opentelemetry_proto_reads_it() {
    let mut n_files = 0;
    for path in captures() {
        let (Some(signal), Some("json")) = (signal_of(&path), path.extension().and_then(|end| end.to_str())) else {
            continue;
        };
        let body = std::fs::read(&path).unwrap();
        let decoded = json(signal, std::str::from_utf8(&body).unwrap()).unwrap();
        assert_eq!((decoded.n_rejected, decoded.reason), (0, None), "{path:?}");
        assert!(decoded.request.n_records() > 0, "{path:?}");
        match signal {
            Signal::Traces => same(&path, &body, Request::Traces, &decoded.request),
            Signal::Logs => same(&path, &body, Request::Logs, &decoded.request),
            Signal::Metrics => same(&path, &body, Request::Metrics, &decoded.request),
        }
        n_files += 1;
    }
    assert!(n_files >= 5, "only {n_files} captures found");
}

fn same<T: serde::de::DeserializeOwned>(path: &Path, body: &[u8], wrap: fn(T) -> Request, ours: &Request) {
    match serde_json::from_slice::<T>(body) {
        Ok(theirs) => assert_same(path, ours, &wrap(theirs)),
        Err(error) => eprintln!("opentelemetry-proto cannot read {path:?}: {error}"),
    }
}

/// Equal but for the last place of a double, where serde_json is not exact.
fn assert_same(path: &Path, ours: &Request, theirs: &Request) {
    if ours == theirs {
        return;
    }
    let (ours, theirs) = (format!("{ours:?}"), format!("{theirs:?}"));
    let words = |text: &str| {
        text.split([' ', '(', ')', '[', ']', ','])
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (ours, theirs) = (words(&ours), words(&theirs));
    assert_eq!(ours.len(), theirs.len(), "{path:?}");
    for (at, (our, their)) in ours.iter().zip(&theirs).enumerate() {
        let is_close = match (our.parse::<f64>(), their.parse::<f64>()) {
            (Ok(our), Ok(their)) => (our - their).abs() <= our.abs() * 2.0 * f64::EPSILON,
            _ => false,
        };
        assert!(
            our == their || is_close,
            "{path:?}: {our} is not {their} after {:?}",
            &ours[at.saturating_sub(9)..at]
        );
    }
}

#[test]
fn captured_protobuf_written_as_json_reads_back_the_same() {
    let mut n_files = 0;
    for path in captures() {
        let (Some(signal), Some("pb")) = (signal_of(&path), path.extension().and_then(|end| end.to_str())) else {
            continue;
        };
        let body = std::fs::read(&path).unwrap();
        let request = crate::decode(signal, crate::Encoding::Protobuf, &body).unwrap();
        let written = match &request {
            Request::Traces(request) => serde_json::to_string(request),
            Request::Logs(request) => serde_json::to_string(request),
            Request::Metrics(request) => serde_json::to_string(request),
        }
        .unwrap();
        let decoded = json(signal, &written).unwrap();
        assert_eq!(decoded.n_rejected, 0, "{path:?}");
        assert!(decoded.request == request, "{path:?}");
        n_files += 1;
    }
    assert!(
        n_files > 0
            || !Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
                .join("../testkit")
                .exists(),
        "no captures found"
    );
}
