//! The Anthropic SDK's own CLIENT span a call: the conventions' newest names, and the only emitter of the
//! 5-minute / 1-hour split of cache writes. It doubles every other instrumentation of Anthropic; settlement
//! joins them by response id.

use spanledger_model::Observation;

use super::record::SpanView;
use super::{Dialect, gen_ai};

/// The dialect.
pub const DIALECT: Dialect = Dialect {
    name: "anthropic_sdk",
    scopes: &["com.anthropic.sdk.*"],
    services: &[],
    input_is_exclusive: false,
    keys: &[],
    span: read_span,
    log: gen_ai::read_log,
    point: gen_ai::no_point,
};

fn read_span(view: &SpanView<'_>) -> Option<Observation> {
    let mut observation = gen_ai::read_span(view)?;
    if observation.model.provider.is_none() {
        observation.model.provider = Some("anthropic".to_owned());
    }
    Some(observation)
}
