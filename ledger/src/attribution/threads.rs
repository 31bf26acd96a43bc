//! From the calls of a component to the turns of its threads.
//!
//! A thread is one conversation of one agent with one model: what it sends grows from call to call. A sub-agent
//! has a thread of its own: by its id where records tell one, and because its calls run within a tool call.
//! Between two model calls of a thread its tools ran: what they returned arrived before the second, and what
//! the first wrote called them. A short call between two of a growing context (a title, a classification) is
//! not part of it and stands alone.
//!
//! | module | what it does |
//! |---|---|
//! | [`around`] | what surrounds the model calls: frames, tools, owners |
//! | [`groups`] | which calls are one thread, and which tools ran for it |
//! | [`side`] | calls that stand in no growing context |
//! | [`sent`] | what records say was sent with a call |
//! | [`turns`] | what is known of each call: the walk along one thread |
//! | [`claims`], [`learn`] | weights: sizes in tokens, and what the thread told of them so far |
//!
//! The division of a call rests on what was known with it: a later call changes none before it. The exceptions
//! are few and bounded: a side call is told from a compaction by the next calls; definitions and instructions
//! that a later record states first are those of the first call too; and a definition takes the name under which
//! its tool is first called. Linear in calls, tool calls and sizes stated; threads of one conversation and agent,
//! which differ by model only, are compared with one another.

mod around;
mod claims;
mod groups;
mod learn;
mod sent;
mod side;
mod turns;

use std::sync::Arc;

pub use around::owner_of_definition;
pub use claims::DEFINITION_BYTES_PER_TOKEN;
pub use sent::{Sent, definitions_of, definitions_text};

use super::{Atom, Cause, Method, Owner, Turn};
use crate::fold::Folded;
use around::Around;

/// One thread: its model calls in order, as positions in the component, and what is known of each.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Positions of its calls.
    pub calls: Vec<usize>,
    /// What is known of each.
    pub turns: Vec<Turn>,
    /// The tool, or the server, that asked for these calls (sampling): all that they cost is its.
    pub asked_by: Option<Arc<Owner>>,
}

impl Thread {
    /// Gives all parts of a call to the tool or server that asked for it, where one did.
    pub fn give_to_asker(&self, atoms: &mut [Atom]) {
        let Some(asker) = &self.asked_by else { return };
        for atom in atoms {
            atom.owner = Arc::clone(asker);
            atom.cause = Cause::Sampling;
            (atom.history, atom.touch) = (false, None);
            // Nothing is estimated: whatever the call's tokens were, they are its.
            atom.method = Method::Content;
        }
    }
}

/// The threads of a component. Calls without an input count are in none: they cannot be divided.
#[must_use]
pub fn threads(folded: &Folded, sent: &Sent<'_>) -> Vec<Thread> {
    let around = Around::new(folded, sent);
    let (groups, side) = groups::groups(&around);
    let alone = side.into_iter().map(|member| turns::alone(&around, member));
    alone
        .chain(groups.iter().map(|group| turns::thread(&around, group)))
        .collect()
}

#[cfg(test)]
mod tests;
