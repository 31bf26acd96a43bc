//! Claims: who asks for a share of a context or an output, weighed by the bytes that are known of it.

use std::sync::Arc;

use super::learn::Learner;
use crate::attribution::{Cause, Claim, Method, Owner};

/// Bytes a token is in prose, and in results where the thread does not tell: the usual figure for English.
pub(super) const PROSE: Ratio = Ratio { bytes: 4, tokens: 1 };
/// Bytes a token is in JSON, which definitions and arguments are: a usual figure, not measured here.
pub(super) const JSON: Ratio = Ratio {
    bytes: DEFINITION_BYTES_PER_TOKEN,
    tokens: 1,
};
/// Bytes of a definition that are taken for a token, where nothing tells: an estimate.
pub const DEFINITION_BYTES_PER_TOKEN: u64 = 3;
/// Tokens of a tool call whose arguments are not known, and of the text that stands beside one: guesses.
pub(super) const CALL_TOKENS: u64 = 60;
/// See [`CALL_TOKENS`].
pub(super) const TEXT_TOKENS: u64 = 40;
/// Tokens that a provider adds to a message around its text: 12 to 20 were measured (reference/finops.md §4.1).
pub(super) const FRAMING_TOKENS: i64 = 32;

/// Bytes a token is: tokens and the bytes they were, summed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ratio {
    pub(super) bytes: u64,
    pub(super) tokens: u64,
}

impl Ratio {
    pub(super) fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.tokens = self.tokens.saturating_add(other.tokens);
    }

    /// Two to six bytes a token. Beyond, the growth held more than the result, and a mean of all text is the
    /// better guess.
    pub(super) fn is_plausible(self) -> bool {
        self.tokens > 0 && self.bytes / 2 >= self.tokens && self.bytes / 6 <= self.tokens
    }

    pub(super) fn in_tokens(self, bytes: u64) -> u64 {
        bytes.saturating_mul(self.tokens) / self.bytes.max(1)
    }

    /// A claim by its bytes, weighed in tokens; where they are not known its weight is 0 until [`complete`] or
    /// [`complete_parts`] gives it one.
    pub(super) fn claim(self, owner: Arc<Owner>, cause: Cause, bytes: Option<i64>, framing: i64) -> Claim {
        let known = bytes.and_then(|bytes| u64::try_from(bytes).ok());
        Claim {
            owner,
            cause,
            // Framing included, so that an empty result still weighs something.
            weight: known.map_or(0, |bytes| {
                self.in_tokens(bytes).saturating_add(framing.unsigned_abs() / 2)
            }),
            tokens_max: known.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX).saturating_add(FRAMING_TOKENS)),
            method: if known.is_some() { Method::Bytes } else { Method::Counts },
        }
    }
}

/// A claim of that weight whatever the bytes say.
pub(super) fn plain(owner: &Arc<Owner>, cause: Cause, weight: u64) -> Claim {
    let method = if cause == Cause::Undivided {
        Method::Undivided
    } else {
        Method::Bytes
    };
    Claim {
        owner: Arc::clone(owner),
        cause,
        weight,
        tokens_max: None,
        method,
    }
}

pub(super) fn is_known(claim: &Claim) -> bool {
    claim.method == Method::Bytes
}

/// The weights of claims, summed.
pub(super) fn weight_of(claims: &[Claim]) -> u64 {
    claims
        .iter()
        .fold(0, |sum: u64, claim| sum.saturating_add(claim.weight))
}

/// What of a whole the claims leave over.
pub(super) fn rest(whole: i64, claims: &[Claim]) -> u64 {
    u64::try_from(whole).unwrap_or(0).saturating_sub(weight_of(claims))
}

/// Gives claims of unknown size the mean of those known beside them, results of unknown size the mean of their
/// tool's where it was seen.
pub(super) fn complete(claims: &mut [Claim], usual: u64, learner: &Learner) {
    let n_known = claims.iter().filter(|claim| is_known(claim)).count();
    if n_known == claims.len() {
        return;
    }
    let known = claims.iter().filter(|claim| is_known(claim));
    let sum = known.fold(0_u64, |sum, claim| sum.saturating_add(claim.weight));
    let mean = match u64::try_from(n_known) {
        Ok(n_known @ 1..) => (sum / n_known).max(1),
        _ => usual,
    };
    for claim in claims.iter_mut().filter(|claim| !is_known(claim)) {
        let of_tool = learner.mean_of(&claim.owner).filter(|_| claim.cause == Cause::Result);
        claim.weight = of_tool.unwrap_or(mean);
    }
}
