//! Protobuf bodies: captures, damage, weight.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue};
use opentelemetry_proto::tonic::trace::v1::Span;

use super::*;
use crate::error::ErrorKind;
use crate::testing::traces;

fn check(body: &[u8]) -> Result<Decoded> {
    decode_within(
        Signal::Traces,
        Encoding::Protobuf,
        body,
        &mut Budget::new(DECODED_BYTES_MAX),
    )
}

fn names(decoded: &Decoded) -> Vec<String> {
    let Request::Traces(request) = &decoded.request else {
        panic!("not traces")
    };
    request
        .resource_spans
        .iter()
        .flat_map(|g| &g.scope_spans)
        .flat_map(|s| &s.spans)
        .map(|s| s.name.clone())
        .collect()
}

fn nested(depth: usize, wrap: impl Fn(AnyValue) -> Value) -> AnyValue {
    (0..depth).fold(
        AnyValue {
            value: Some(Value::BoolValue(true)),
        },
        |value, _| AnyValue {
            value: Some(wrap(value)),
        },
    )
}

#[test]
fn an_empty_body_is_an_empty_request() {
    assert_eq!(check(b"").unwrap().request.n_records(), 0);
}

#[test]
fn a_span_that_is_not_utf8_leaves_its_neighbours() {
    let mut body = traces(3).encode_to_vec();
    let at = body.windows(12).position(|window| window == b"tools/call 1").unwrap();
    body[at] = 0xff;
    let decoded = check(&body).unwrap();
    assert_eq!(names(&decoded), ["tools/call 0", "tools/call 2"]);
    assert_eq!(decoded.n_rejected, 1);
    assert!(decoded.reason.unwrap().contains("not UTF-8"));
}

#[test]
fn an_over_deep_value_is_named_and_leaves_its_neighbours() {
    // Wrapped by hand: what builds such a value by recursion needs more stack than a test has.
    let value = (0..10_000).fold(vec![0x10, 0x01], |value, _| {
        prefixed(0x32, &prefixed(0x0a, &prefixed(0x12, &value)))
    });
    let deep_span = prefixed(0x12, &prefixed(0x4a, &prefixed(0x12, &value)));
    let sound_span = prefixed(
        0x12,
        &Span {
            name: "sound".to_owned(),
            ..Span::default()
        }
        .encode_to_vec(),
    );
    let body = |spans: &[u8]| prefixed(0x0a, &prefixed(0x12, spans));

    let decoded = check(&body(&[&deep_span[..], &sound_span].concat())).unwrap();
    assert_eq!(names(&decoded), ["sound"]);
    assert_eq!(decoded.n_rejected, 1);

    let error = check(&body(&deep_span)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error.message().contains("recursion limit") && error.message().len() < 200,
        "{}",
        error.message()
    );
}

#[test]
fn values_nested_as_deep_as_prost_allows_are_read() {
    let mut request = traces(1);
    request.resource_spans[0].scope_spans[0].spans[0].attributes[0].value = Some(nested(40, |value| {
        Value::ArrayValue(ArrayValue { values: vec![value] })
    }));
    assert_eq!(
        check(&request.encode_to_vec()).unwrap().request,
        Request::Traces(request)
    );
}

#[test]
fn a_body_that_is_no_request_is_invalid() {
    for body in [&b"\x0a"[..], b"\xff\xff\xff\xff", b"\x0a\x05ab", b"{}", b"\x08\x01\x0a"] {
        assert_eq!(check(body).unwrap_err().kind(), ErrorKind::Invalid, "{body:?}");
    }
}

#[test]
fn a_body_of_empty_spans_is_refused_before_it_is_decoded() {
    // Two bytes a span: 1 MiB of them would be half a million structs.
    let n_spans = 512 * 1024;
    let spans = [0x12, 0x00].repeat(n_spans);
    let scope = prefixed(0x12, &spans);
    let body = prefixed(0x0a, &scope);
    let error = decode_within(Signal::Traces, Encoding::Protobuf, &body, &mut Budget::new(64 << 20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    // The same after an unknown group, which the decoder would skip.
    let body = [&[0x7b, 0x7c][..], &body].concat();
    let error = decode_within(Signal::Traces, Encoding::Protobuf, &body, &mut Budget::new(64 << 20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[test]
fn an_attribute_of_many_empty_values_is_weighed_whatever_it_looks_like() {
    let many = prefixed(0x2a, &[0x0a, 0x00].repeat(50));
    let value_first = [prefixed(0x12, &many), prefixed(0x0a, b"k")].concat();
    let value_last = [prefixed(0x0a, b"k"), prefixed(0x12, &many)].concat();
    let scalar_too = [
        prefixed(0x0a, b"k"),
        prefixed(0x12, &[&[0x10, 0x01][..], &many].concat()),
    ]
    .concat();
    let text_too = [
        prefixed(0x0a, b"k"),
        prefixed(0x12, &[&[0x0a, 0x00][..], &many].concat()),
    ]
    .concat();
    for attribute in [value_first, value_last, scalar_too, text_too] {
        let span = prefixed(0x12, &prefixed(0x4a, &attribute));
        let body = prefixed(0x0a, &prefixed(0x12, &span));
        let size = 50 * size_of::<AnyValue>();
        let fits = |max| decode_within(Signal::Traces, Encoding::Protobuf, &body, &mut Budget::new(max)).is_ok();
        assert!(!fits(size) && fits(size + 2_000), "{attribute:?}");
    }
}

#[test]
fn a_usual_body_weighs_a_few_times_its_bytes() {
    let body = traces(1_000).encode_to_vec();
    let charged = |max: usize| decode_within(Signal::Traces, Encoding::Protobuf, &body, &mut Budget::new(max)).is_ok();
    assert!(charged(body.len() * 8));
    assert!(!charged(body.len() * 2));
}

fn prefixed(tag: u8, message: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    prost::encode_length_delimiter(message.len(), &mut out).unwrap();
    out.extend_from_slice(message);
    out
}
