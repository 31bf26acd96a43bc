//! One money line: a part of a call's cost, with the cause and the dimensions it is charged to.

use std::sync::Arc;

use crate::call::Dimensions;
use crate::ids::{CallId, LineId, SpanId, TenantId, TraceId};
use crate::money::FemtoUsd;

/// What a line does to the total. All measures carry sign, so a plain sum is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LineKind {
    /// Books usage.
    Charge,
    /// Takes back an earlier line that changed.
    Reversal,
}

impl LineKind {
    /// The name in the `line_kind` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Reversal => "reversal",
        }
    }

    /// Reads the name in the `line_kind` column.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Charge, Self::Reversal]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// Token kind that a line is about: the unit its rate applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bucket {
    /// Fresh text input.
    Input,
    /// Input read from a cache.
    CacheRead,
    /// Input written to a cache for 5 minutes, or for an unreported time.
    CacheWrite5m,
    /// Input written to a cache for an hour.
    CacheWrite1h,
    /// Audio input.
    AudioInput,
    /// Image input.
    ImageInput,
    /// Answer.
    Output,
    /// Reasoning output.
    Reasoning,
    /// Audio output.
    AudioOutput,
    /// Web searches; `quantity` counts them.
    WebSearch,
    /// A fee per request; `quantity` counts requests.
    Request,
}

impl Bucket {
    /// All buckets, in the order in which a call's lines are written.
    pub const ALL: [Self; 11] = [
        Self::Input,
        Self::CacheRead,
        Self::CacheWrite5m,
        Self::CacheWrite1h,
        Self::AudioInput,
        Self::ImageInput,
        Self::Output,
        Self::Reasoning,
        Self::AudioOutput,
        Self::WebSearch,
        Self::Request,
    ];

    /// Reads the name in the `bucket` column.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bucket| bucket.as_str() == name)
    }

    /// The name in the `bucket` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::CacheRead => "cache_read",
            Self::CacheWrite5m => "cache_write_5m",
            Self::CacheWrite1h => "cache_write_1h",
            Self::AudioInput => "audio_input",
            Self::ImageInput => "image_input",
            Self::Output => "output",
            Self::Reasoning => "reasoning",
            Self::AudioOutput => "audio_output",
            Self::WebSearch => "web_search",
            Self::Request => "request",
        }
    }

    /// True where `tokens` is the measure, false where it is `quantity`.
    #[must_use]
    pub fn counts_tokens(self) -> bool {
        !matches!(self, Self::WebSearch | Self::Request)
    }
}

/// One row of `ledger`. Texts are shared: a call has many lines that say the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LedgerLine {
    /// Owner of the row.
    pub tenant: TenantId,
    /// Start of the call, nanoseconds since the Unix epoch: the line's time, day and period. Of a carried line
    /// the start of the first of its calls.
    pub time_ns: i64,
    /// Identity.
    pub line_id: LineId,
    /// Charge or reversal.
    pub line_kind: LineKind,
    /// Call it is a part of; absent on a carried line, which sums what several calls sent again.
    pub call_id: Option<CallId>,
    /// Trace of the call.
    pub trace_id: Option<TraceId>,
    /// Span of the call.
    pub span_id: Option<SpanId>,
    /// Who pays.
    pub dimensions: Arc<Dimensions>,
    /// Provider.
    pub provider: Option<Arc<str>>,
    /// Model billed.
    pub model: Option<Arc<str>>,
    /// Server that caused the line.
    pub server: Option<Arc<str>>,
    /// Tool that caused the line.
    pub tool: Option<Arc<str>>,
    /// Prompt that caused the line.
    pub prompt: Option<Arc<str>>,
    /// Resource that caused the line.
    pub resource_uri: Option<Arc<str>>,
    /// `definition, system, user, result, call, text, reasoning, fee, direct, undivided`.
    pub cause: &'static str,
    /// True where an output is read again.
    pub history: bool,
    /// `first` or `carry`, for results.
    pub touch: Option<&'static str>,
    /// Token kind.
    pub bucket: Bucket,
    /// How the share was found: `content, bytes, counts, undivided`.
    pub method: &'static str,
    /// 1 on the first line of a call, 0 on its others; on a carried line the number of calls it sums.
    pub n_calls: i64,
    /// Tokens, for token buckets.
    pub tokens: Option<i64>,
    /// Units, for the other buckets.
    pub quantity: Option<i64>,
    /// Cost by the price book; absent where the model is unpriced.
    pub list_cost: Option<FemtoUsd>,
    /// Cost by the user's own contract price, where there is one.
    pub contracted_cost: Option<FemtoUsd>,
    /// Cost that is charged; absent where it is unpriced.
    pub effective_cost: Option<FemtoUsd>,
    /// Price record that rated it.
    pub price_id: Option<Arc<str>>,
    /// Version of the price book.
    pub price_version: Option<Arc<str>>,
    /// When it was written, nanoseconds since the Unix epoch.
    pub settled_ns: i64,
}
