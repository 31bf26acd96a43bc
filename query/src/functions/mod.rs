//! SQL functions of our own, and bounds for the built-in ones that make more data than they read.
//!
//! [`register`] is the one place that puts functions into a session, so that every session of a cluster
//! has the same ones.
//!
//! | function | what it gives |
//! |---|---|
//! | `id_hex(id)` | lower-case hex of a binary id, also inside lists and structs |
//! | `time_bucket(interval, time)` | start of the interval that a time falls in; weeks start on Monday, UTC |
//! | `cost_round(cost, digits)` | a cost rounded half away from zero, still an exact decimal |
//! | `dialect_of(scope, service)` | the dialect that claims such records, NULL where none does |
//! | `dialect_field(scope, service, key)` | the canonical field a key feeds there, NULL where nobody reads it |
//! | `usage_like(key)` | the canonical field a key looks like |
//! | `text_type(text)`, `fold_reason(rules)`, `fold_meaning(rule)`, `call_hops(records)`, `definitions_key(context_sizes)`, `definitions_of(context_sizes, server, called)` | helpers of the views |
//! | `price(provider, model, at, input_tokens, output_tokens[, cache_read_tokens[, cache_write_5m_tokens[, cache_write_1h_tokens]]])` | list cost in USD, NULL where the model is unpriced |

mod bounded;
mod call_hops;
mod cost_round;
mod definitions;
pub(crate) mod dialects;
pub(crate) mod id_hex;
mod price;
mod time_bucket;

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::ScalarUDF;
use spanledger_ledger::prices::PriceBook;

use crate::dialects::Dialects;

/// Adds `price` over a book, in the place of the one over another.
pub(crate) fn register_price(state: &mut SessionState, book: &Arc<PriceBook>) -> Result<()> {
    let price = ScalarUDF::from(price::Price::new(Arc::clone(book)));
    state.register_udf(Arc::new(price)).map(|_| ())
}

/// Adds our functions to a session and bounds the unbounded ones.
pub(crate) fn register(state: &mut SessionState, book: &Arc<PriceBook>, known: &Arc<dyn Dialects>) -> Result<()> {
    for function in [
        id_hex::id_hex(),
        Arc::new(ScalarUDF::from(time_bucket::TimeBucket::new())),
        Arc::new(ScalarUDF::from(cost_round::CostRound::new())),
        Arc::new(ScalarUDF::from(call_hops::CallHops::new())),
        Arc::new(ScalarUDF::from(definitions::Definitions::key())),
        Arc::new(ScalarUDF::from(definitions::Definitions::list())),
    ] {
        state.register_udf(function)?;
    }
    register_price(state, book)?;
    for function in dialects::text_functions(known) {
        state.register_udf(Arc::new(ScalarUDF::from(function)))?;
    }
    bounded::register(state)
}
