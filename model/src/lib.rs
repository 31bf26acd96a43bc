//! The words of the domain: identifiers, money, usage, observations, calls and ledger lines.
//!
//! Everything else depends on this crate and it depends on nothing of ours. It does no I/O and knows
//! no wire format: OTLP stays in `ingest`, Arrow and Parquet in `lake`, SQL in `query`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`ids`] | trace, span, call, observation and line identifiers, the tenant |
//! | [`money`] | [`FemtoUsd`](money::FemtoUsd): exact integer money, never a float |
//! | [`usage`] | [`Usage`](usage::Usage): token counts by kind, inclusive |
//! | [`observation`] | what one span, log record or metric point says about an operation |
//! | [`call`] | one logical operation, folded from its observations |
//! | [`ledger_line`] | one money line of a call |
//! | [`names`] | tool names that carry their server's |
//! | [`pattern`] | [`Pattern`]: names with `*` |
//! | [`clock`] | the seam through which time comes in |

#![forbid(unsafe_code)]

pub mod call;
pub mod clock;
pub mod ids;
pub mod ledger_line;
pub mod money;
pub mod names;
pub mod observation;
pub mod pattern;
pub mod usage;

pub use call::{Call, CallKind, Confidence, Status};
pub use clock::Clock;
pub use ids::{CallId, LineId, ObservationId, SpanId, TenantId, TraceId};
pub use ledger_line::{Bucket, LedgerLine, LineKind};
pub use money::FemtoUsd;
pub use observation::{Hop, Observation, Role, Source};
pub use pattern::{Pattern, Wildcards};
pub use usage::Usage;
