//! The names of the rules by which records become one call, or are left out because they repeat one.
//!
//! Every join and every demotion of the fold is done under one of these names; `calls.rules` lists them and
//! `spanledger explain` shows them record by record. docs/counting.md tells each at length. A rule is as sure
//! as what it looks at: ids are *reported*, positions and counts *inferred*, times and the grain of counters
//! *guessed*.

use spanledger_model::Confidence;

/// A rule of the fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// Same id of the answer, compatible model, overlapping time.
    ResponseId,
    /// Same id of the tool call, as the model issued it, in one session or trace.
    ToolCallId,
    /// A log record that names the span of the call.
    EventOfSpan,
    /// A span directly within the span of the call that reports nothing of its own.
    NestedSpan,
    /// Two instrumentations: same trace, model and counts, nested or side by side in different scopes.
    EqualCounts,
    /// A log record without the span's id: same session or trace, model and counts, nearest end.
    SessionEvent,
    /// A gateway's record within a client's, of the same counts.
    GatewayAndClient,
    /// A later settlement of the call's usage or cost.
    Correction,
    /// An attempt that failed before the one that succeeded.
    FailedAttempt,
    /// A frame that repeats its descendants' usage, which is left out.
    RollupParent,
    /// A frame's usage that no descendant reports, which is charged.
    LoneRollup,
    /// A delta counter that no record of a call covers.
    CounterDelta,
    /// The newest point of a cumulative counter that no record of a call covers.
    CounterCumulative,
    /// A counter that repeats what records of calls said, which is left out.
    CounterCovered,
    /// A counter that repeats another metric of the same process, which is left out.
    CounterRepeated,
    /// Spans of one MCP request, above and below one another.
    HopAncestry,
    /// A log record of a tool call: same session or trace, same tool, nearest end.
    ToolEvent,
    /// A server's call within a host's, in another trace: same tool and same arguments.
    ArgumentsHash,
    /// A server's call within a host's, in another trace: same tool.
    TimeContainment,
    /// Server and tool resolved by names that other records state in clear.
    NameDirectory,
    /// A record of no known dialect, read by how its keys end.
    NameGuess,
}

impl Rule {
    /// All rules, in the order of the documentation.
    pub const ALL: &[Self] = &[
        Self::ResponseId,
        Self::ToolCallId,
        Self::EventOfSpan,
        Self::NestedSpan,
        Self::EqualCounts,
        Self::SessionEvent,
        Self::GatewayAndClient,
        Self::Correction,
        Self::FailedAttempt,
        Self::RollupParent,
        Self::LoneRollup,
        Self::CounterDelta,
        Self::CounterCumulative,
        Self::CounterCovered,
        Self::CounterRepeated,
        Self::HopAncestry,
        Self::ToolEvent,
        Self::ArgumentsHash,
        Self::TimeContainment,
        Self::NameDirectory,
        Self::NameGuess,
    ];

    /// The name in the `rules` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ResponseId => "response_id",
            Self::ToolCallId => "tool_call_id",
            Self::EventOfSpan => "event_of_span",
            Self::NestedSpan => "nested_span",
            Self::EqualCounts => "equal_counts",
            Self::SessionEvent => "session_event",
            Self::GatewayAndClient => "gateway_and_client",
            Self::Correction => "correction",
            Self::FailedAttempt => "failed_attempt",
            Self::RollupParent => "rollup_parent",
            Self::LoneRollup => "lone_rollup",
            Self::CounterDelta => "counter_delta",
            Self::CounterCumulative => "counter_cumulative",
            Self::CounterCovered => "counter_covered",
            Self::CounterRepeated => "counter_repeated",
            Self::HopAncestry => "hop_ancestry",
            Self::ToolEvent => "tool_event",
            Self::ArgumentsHash => "arguments_hash",
            Self::TimeContainment => "time_containment",
            Self::NameDirectory => "name_directory",
            Self::NameGuess => "name_guess",
        }
    }

    /// What it says, in one sentence.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::ResponseId => "same id of the answer, compatible model, overlapping time",
            Self::ToolCallId => "same id of the tool call in one session or trace",
            Self::EventOfSpan => "a log record that names the span of the call",
            Self::NestedSpan => "a span directly within the span of the call that reports nothing of its own",
            Self::EqualCounts => "a second instrumentation: same trace, model and counts, nested or side by side",
            Self::SessionEvent => "same session or trace, model and counts, nearest end",
            Self::GatewayAndClient => "a gateway's record within a client's, of the same model and counts",
            Self::Correction => "a later settlement of the call's usage or cost; the newest holds",
            Self::FailedAttempt => "an attempt that failed before the one that succeeded",
            Self::RollupParent => "a frame that repeats its descendants' usage: left out",
            Self::LoneRollup => "a frame's usage that no descendant reports: charged",
            Self::CounterDelta => "a delta counter that no record of a call covers: charged",
            Self::CounterCumulative => {
                "the newest point of a cumulative counter that no record of a call covers: charged"
            }
            Self::CounterCovered => "a counter that repeats what records of calls said: left out",
            Self::CounterRepeated => {
                "a counter that repeats another metric of the process, or an older point: left out"
            }
            Self::HopAncestry => "spans of one MCP request, above and below one another",
            Self::ToolEvent => "a log record of the tool call: same session or trace, same tool, nearest end",
            Self::ArgumentsHash => "a server's call within a host's, in another trace: same tool and arguments",
            Self::TimeContainment => "a server's call within a host's, in another trace: same tool, by time alone",
            Self::NameDirectory => "server and tool resolved by names that other records state in clear",
            Self::NameGuess => "a record of no known dialect, read by how its keys end",
        }
    }

    /// How sure a call is that was folded by it.
    #[must_use]
    pub fn confidence(self) -> Confidence {
        match self {
            Self::ResponseId | Self::ToolCallId | Self::EventOfSpan => Confidence::Reported,
            Self::TimeContainment | Self::NameGuess | Self::CounterDelta | Self::CounterCumulative => {
                Confidence::Guessed
            }
            _ => Confidence::Inferred,
        }
    }
}
