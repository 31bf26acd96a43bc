//! What a thread tells of sizes while it is walked: how many bytes a token is, and how large results are.
//!
//! Where a single result is all that arrived between two calls, the growth between them is its tokens. A walk
//! hands over each such pair when it reaches the later call, so what a call's division rests on was told by the
//! calls before it and by its own counts: a call that is appended changes no division before it.

use std::sync::Arc;

use hashbrown::HashMap;

use super::claims::{FRAMING_TOKENS, PROSE, Ratio};
use crate::attribution::Owner;

/// Tokens from which on a tool's own results are trusted to tell how many bytes of them a token is: below, the
/// framing and the steps of a tokenizer weigh as much as the text.
const OWN_TOKENS_MIN: u64 = 64;

/// Results of one tool that arrived alone.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    n: u64,
    tokens: u64,
    /// Of those whose size is known.
    sized: Ratio,
}

/// What was learnt up to a call.
#[derive(Debug, Default)]
pub(super) struct Learner {
    sized: Ratio,
    /// By the address of the owner, which the component keeps.
    owners: HashMap<*const Owner, Seen>,
    /// Sum of the owners' mean results.
    sum_of_means: u64,
}

impl Learner {
    /// Takes in that between two calls a result of so many bytes (where known) was all that arrived, and that the
    /// context grew by so many tokens beyond the output before.
    pub(super) fn see(&mut self, owner: &Arc<Owner>, bytes: Option<i64>, grown: i64) {
        let Ok(grown @ 1..) = u64::try_from(grown.saturating_sub(FRAMING_TOKENS / 2)) else {
            return;
        };
        let seen = self.owners.entry(Arc::as_ptr(owner)).or_default();
        let before = seen.mean();
        seen.n += 1;
        seen.tokens = seen.tokens.saturating_add(grown);
        self.sum_of_means = self.sum_of_means.saturating_sub(before).saturating_add(seen.mean());
        if let Some(Ok(bytes)) = bytes.map(u64::try_from) {
            let pair = Ratio { bytes, tokens: grown };
            seen.sized.add(pair);
            self.sized.add(pair);
        }
    }

    /// Bytes a token is in the results of an owner: by its own results, else by the thread's, else as in prose.
    pub(super) fn ratio(&self, owner: &Arc<Owner>) -> Ratio {
        let own = self.owners.get(&Arc::as_ptr(owner)).map(|seen| seen.sized);
        let own = own.filter(|own| own.tokens >= OWN_TOKENS_MIN && own.is_plausible());
        let of_thread = Some(self.sized).filter(|sized| sized.is_plausible());
        own.or(of_thread).unwrap_or(PROSE)
    }

    /// The mean result of an owner, tokens, where one was seen.
    pub(super) fn mean_of(&self, owner: &Arc<Owner>) -> Option<u64> {
        let seen = self.owners.get(&Arc::as_ptr(owner))?;
        (seen.n > 0).then(|| seen.mean().max(1))
    }

    /// The mean of all owners' mean results, tokens; 1 where none was seen.
    pub(super) fn mean(&self) -> u64 {
        let n_owners = u64::try_from(self.owners.len()).unwrap_or(u64::MAX);
        self.sum_of_means.checked_div(n_owners).map_or(1, |mean| mean.max(1))
    }
}

impl Seen {
    fn mean(&self) -> u64 {
        self.tokens.checked_div(self.n).unwrap_or(0)
    }
}
