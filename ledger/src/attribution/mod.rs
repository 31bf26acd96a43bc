//! The context ledger: who caused the cost of a model call.
//!
//! Within one request the bill is additive in tokens, so each part of the context pays for the tokens it
//! holds, at the rate of the bucket they fall into (cache read, cache write, fresh input), in every call that
//! sends it again. A [`Context`] walks the calls of one thread (a conversation of one agent) in order and keeps
//! the list of [`Segment`]s that was sent with each; [`atoms`] places the cache on it and divides the rated
//! pieces of the call. Pure and exact: integers in, integers out, no estimate survives that does not sum up.
//!
//! Invariant A: the segments of a call sum to its input tokens. Invariant B: the atoms of a call sum to what
//! the call was charged, to the last femto-USD. Both hold whatever the sizes said: a size is a weight.
//!
//! | module | what it does |
//! |---|---|
//! | [`context`] | grows and shrinks the context from call to call |
//! | [`definitions`] | definitions that come and leave between two calls |
//! | [`atoms`] | cache placement, output, fees: pieces divided among segments |
//! | [`threads`] | which calls are one thread, and what arrived between them |
//! | [`lines`], [`carried`] | ledger lines by cause: of a call, and of the calls of an hour |
//! | [`avoidable`] | what a call would have cost less without a part |
//!
//! It rates nothing ([`crate::rating`] did) and joins nothing ([`crate::fold`] did).
//! Source: design/ledger.md §2; the worked example there is a test here.

pub mod atoms;
pub mod avoidable;
mod carried;
pub mod context;
mod definitions;
pub mod lines;
pub mod threads;

use std::sync::Arc;

pub use atoms::{Atom, Policy, divide};
pub use context::{Context, Turn};
pub use lines::{book_lines, divide_charges};

/// Who a part of a context belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// A tool, of an MCP server or of the host itself.
    Tool {
        /// Its server; absent for a host's built-in tool.
        server: Option<String>,
        /// Its name.
        tool: String,
    },
    /// A server's smaller tools together, or the host's.
    Server {
        /// The server; absent for the host.
        server: Option<String>,
    },
    /// An MCP prompt or a managed one.
    Prompt {
        /// Its name.
        name: String,
        /// Its version, where known.
        version: Option<String>,
    },
    /// A resource that was read.
    Resource {
        /// Its server.
        server: Option<String>,
        /// Its address.
        uri: String,
    },
    /// Instructions of the host.
    System,
    /// What people and the host said.
    Conversation,
    /// What the model answered.
    Answer,
    /// What the model thought.
    Reasoning,
    /// A base whose parts are not known.
    Base,
    /// Growth that no known result explains.
    Unknown,
    /// The request itself: fees.
    Request,
}

/// What a segment is to its owner: the `cause` of a ledger line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// A tool's definition.
    Definition,
    /// System instructions.
    System,
    /// A user's or the host's message.
    User,
    /// A tool's result, a resource's content.
    Result,
    /// A tool call that the model wrote.
    Call,
    /// A text that the model wrote.
    Text,
    /// Reasoning.
    Reasoning,
    /// A model call that a server asked for: whatever its tokens were.
    Sampling,
    /// A fee per request or search.
    Fee,
    /// Parts that are not told apart.
    Undivided,
}

impl Cause {
    /// The word in the `cause` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Definition => "definition",
            Self::System => "system",
            Self::User => "user",
            Self::Result => "result",
            Self::Call => "call",
            Self::Text => "text",
            Self::Reasoning => "reasoning",
            Self::Sampling => "sampling",
            Self::Fee => "fee",
            Self::Undivided => "undivided",
        }
    }
}

/// How a share was found, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// From captured content, or from a count the provider gave.
    Content,
    /// From sizes in bytes.
    Bytes,
    /// From the number of results.
    Counts,
    /// Not divided.
    Undivided,
}

impl Method {
    /// The word in the `method` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Bytes => "bytes",
            Self::Counts => "counts",
            Self::Undivided => "undivided",
        }
    }
}

/// Something that claims a share of tokens: a definition, a message, a result, a part of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Whose it is.
    pub owner: Arc<Owner>,
    /// What it is.
    pub cause: Cause,
    /// Its weight among the claims beside it: its estimated tokens, or 1 where nothing is known.
    pub weight: u64,
    /// The most tokens it can be, where that is known: a token is at least one byte. Growth beyond what all
    /// claims can hold is nobody's ([`Owner::Unknown`]).
    pub tokens_max: Option<i64>,
    /// How the weight was found.
    pub method: Method,
}

/// A run of tokens in the context of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Whose it is.
    pub owner: Arc<Owner>,
    /// What it is.
    pub cause: Cause,
    /// True for an output that is read again.
    pub history: bool,
    /// True once a shrinking of the context changed its size.
    pub compacted: bool,
    /// Its tokens.
    pub tokens: i64,
    /// How its size was found.
    pub method: Method,
    /// Position in the thread of the call that first sent it.
    pub since: usize,
}

#[cfg(test)]
mod tests;
