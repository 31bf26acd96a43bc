//! Sessions of an agent that calls tools, with the truth of who caused every token of them.
//!
//! A seed decides a session: a catalogue of tools, instructions, what people said, model calls with their
//! prompt cache, parallel tool calls, results of very unequal size, compactions, sub-agents, side calls and
//! failures. A [`ModelCall`] holds what was really sent ([`Segment`]s in the order of the prefix), so its true
//! cost by owner ([`ModelCall::costs`]) needs no estimate; its `new` segments, the [`Action`]s and the
//! catalogue are what an emitter could have reported of it. Attribution sees the latter, never the former.
//!
//! The distributions are round figures near what was measured (reference/finops.md §4.1: 93 tools in 55,000
//! tokens, 12 to 20 tokens of framing a message); sessions of one user can differ much. Not simulated: tiers,
//! images and audio, reasoning that is sent again.

mod maker;

/// Who caused a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A tool, by its place in the catalogue.
    Tool(usize),
    /// Instructions of the host.
    System,
    /// What people said.
    User,
    /// The prompt an MCP server gave.
    Prompt,
    /// A resource, by its number.
    Resource(usize),
    /// What the model said.
    Answer,
    /// What the model thought.
    Reasoning,
}

/// What a token is to its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A tool's definition.
    Definition,
    /// Instructions.
    System,
    /// A message.
    User,
    /// A tool's result, a resource's content.
    Result,
    /// A tool call that the model wrote.
    Call,
    /// A text that the model wrote.
    Text,
    /// Reasoning.
    Reasoning,
}

/// A run of tokens and whose it truly is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Whose it is.
    pub owner: Owner,
    /// What it is.
    pub part: Part,
    /// Its tokens, framing included.
    pub tokens: i64,
    /// Its text in bytes, framing excluded.
    pub bytes: i64,
}

/// Prices in femto-USD a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Model's name.
    pub model: &'static str,
    /// Fresh input.
    pub input: i128,
    /// Input read from the cache.
    pub cache_read: i128,
    /// Input written to the cache; absent where the provider caches by itself, free of charge.
    pub cache_write: Option<i128>,
    /// Output, reasoning included.
    pub output: i128,
}

/// What the provider counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All input.
    pub input: i64,
    /// Read from the cache.
    pub cache_read: i64,
    /// Written to the cache.
    pub cache_write: i64,
    /// All output.
    pub output: i64,
    /// Of it reasoning.
    pub reasoning: i64,
}

/// A tool of the catalogue.
#[derive(Debug, Clone)]
pub struct Tool {
    /// Its server; the host's own tools have none.
    pub server: Option<String>,
    /// Its name.
    pub name: String,
    /// Its definition in bytes.
    pub definition_bytes: i64,
    definition_tokens: i64,
    result_median: i64,
    kind: maker::Text,
}

/// A model call with the truth of its tokens.
#[derive(Debug, Clone)]
pub struct ModelCall {
    /// Its conversation: 0 is the main one; every sub-agent and every side call has its own.
    pub thread: usize,
    /// The action it ran within: the tool call that started its sub-agent.
    pub within: Option<usize>,
    /// Start, milliseconds since the session's.
    pub start_ms: i64,
    /// Duration in milliseconds.
    pub duration_ms: i64,
    /// Its model and prices.
    pub rates: Rates,
    /// What the provider counted.
    pub counts: Counts,
    /// True where it failed after the provider had counted its input.
    pub is_failed: bool,
    /// Everything that was sent, in the order of the prefix.
    pub context: Vec<Segment>,
    /// What of it is new and was not written by the model: for the first of a thread all of it.
    pub new: Vec<Segment>,
    /// What the model wrote, its reasoning first.
    pub output: Vec<Segment>,
}

impl ModelCall {
    /// What the call costs by owner and part, exactly: a cache is a prefix, so the first tokens were read from
    /// it and the next written to it.
    pub fn costs(&self) -> impl Iterator<Item = (Owner, Part, i128)> + '_ {
        let write = self.rates.cache_write.unwrap_or(self.rates.input);
        let (mut read, mut written) = (self.counts.cache_read, self.counts.cache_write);
        let input = self.context.iter().map(move |segment| {
            let from_read = segment.tokens.min(read);
            let from_written = (segment.tokens - from_read).min(written);
            read -= from_read;
            written -= from_written;
            let fresh = segment.tokens - from_read - from_written;
            let cost = i128::from(from_read) * self.rates.cache_read
                + i128::from(from_written) * write
                + i128::from(fresh) * self.rates.input;
            (segment.owner, segment.part, cost)
        });
        let price = |segment: &Segment| {
            let cost = i128::from(segment.tokens) * self.rates.output;
            (segment.owner, segment.part, cost)
        };
        input.chain(self.output.iter().map(price))
    }
}

/// Something that ran between model calls: a tool call, or a prompt or a resource that was fetched.
#[derive(Debug, Clone)]
pub struct Action {
    /// Whose it is.
    pub owner: Owner,
    /// The action it ran within: the tool call that started the sub-agent that made it.
    pub within: Option<usize>,
    /// Start, milliseconds since the session's.
    pub start_ms: i64,
    /// Duration in milliseconds.
    pub duration_ms: i64,
    /// Arguments in bytes.
    pub request_bytes: i64,
    /// Result in bytes.
    pub response_bytes: i64,
    /// True where it failed.
    pub is_failed: bool,
}

/// A session and its truth.
#[derive(Debug, Clone)]
pub struct Session {
    /// What it was made from.
    pub seed: u64,
    /// Its tools, grouped by server; the last one starts sub-agents and is the host's.
    pub tools: Vec<Tool>,
    /// Its model calls by start within each thread.
    pub calls: Vec<ModelCall>,
    /// What ran between them.
    pub actions: Vec<Action>,
}

/// How large sessions are; every pair is the least and the most.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Tools of the catalogue.
    pub tools: (u64, u64),
    /// Servers they are of.
    pub servers: (u64, u64),
    /// Model calls of the main conversation.
    pub calls: (u64, u64),
}

impl Shape {
    /// Sessions as agents have them.
    pub const REALISTIC: Self = Self {
        tools: (5, 90),
        servers: (1, 8),
        calls: (2, 60),
    };
    /// Sessions small enough to check tens of thousands of them.
    pub const SHORT: Self = Self {
        tools: (1, 6),
        servers: (1, 3),
        calls: (1, 5),
    };
}

/// The session of a seed.
#[must_use]
pub fn session(seed: u64, shape: Shape) -> Session {
    maker::session(seed, shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_session_again() {
        let costs = |seed| -> Vec<_> {
            let session = session(seed, Shape::REALISTIC);
            session
                .calls
                .iter()
                .flat_map(|call| call.costs().collect::<Vec<_>>())
                .collect()
        };
        assert_eq!(costs(1), costs(1));
        assert_ne!(costs(1), costs(2));
    }

    #[test]
    fn counts_are_those_of_the_segments_and_costs_those_of_the_counts() {
        for seed in 0..200 {
            for call in session(seed, Shape::REALISTIC).calls {
                let counts = call.counts;
                let sum = |segments: &[Segment]| segments.iter().map(|segment| segment.tokens).sum::<i64>();
                assert_eq!(
                    (sum(&call.context), sum(&call.output)),
                    (counts.input, counts.output),
                    "seed {seed}"
                );
                let fresh = counts.input - counts.cache_read - counts.cache_write;
                assert!(fresh >= 0 && counts.reasoning <= counts.output, "seed {seed}");
                let rates = call.rates;
                let billed = i128::from(fresh) * rates.input
                    + i128::from(counts.cache_read) * rates.cache_read
                    + i128::from(counts.cache_write) * rates.cache_write.unwrap_or(0)
                    + i128::from(counts.output) * rates.output;
                assert_eq!(
                    call.costs().map(|(_, _, cost)| cost).sum::<i128>(),
                    billed,
                    "seed {seed}"
                );
            }
        }
    }

    #[test]
    fn every_kind_of_event_occurs() {
        let sessions: Vec<Session> = (0..300).map(|seed| session(seed, Shape::REALISTIC)).collect();
        let calls = || sessions.iter().flat_map(|session| &session.calls);
        let actions = || sessions.iter().flat_map(|session| &session.actions);
        assert!(calls().any(|call| call.within.is_some()), "a sub-agent");
        assert!(calls().any(|call| call.is_failed), "a failed call");
        assert!(
            calls().any(|call| call.counts.cache_read > 0 && call.counts.cache_write > 0),
            "a cache"
        );
        assert!(calls().any(|call| call.counts.reasoning > 0), "reasoning");
        assert!(actions().any(|action| action.is_failed), "a failed tool");
        assert!(actions().any(|action| action.owner == Owner::Prompt), "a prompt");
        assert!(
            actions().any(|action| matches!(action.owner, Owner::Resource(_))),
            "a resource"
        );
        let shrinks = |session: &Session| {
            let main: Vec<&ModelCall> = session.calls.iter().filter(|call| call.thread == 0).collect();
            main.windows(2).any(|pair| pair[1].counts.input < pair[0].counts.input)
        };
        assert!(sessions.iter().any(shrinks), "a compaction");
        let has_side_call = |session: &Session| {
            session
                .calls
                .iter()
                .any(|call| call.thread > 0 && call.within.is_none())
        };
        assert!(sessions.iter().any(has_side_call), "a side call");
    }
}
