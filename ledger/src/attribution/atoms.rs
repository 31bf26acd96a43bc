//! Atoms: the rated pieces of a call divided among the segments of its context and the parts of its output.
//!
//! A cache is a prefix, so the segments are walked in order: the first tokens are the cache reads, the next
//! the one-hour writes (their breakpoints come first), then the five-minute writes, then fresh input, audio
//! and images last. A piece is divided among the tokens that fall into it by largest remainder, which is
//! exact wherever its price is a whole number of femto-USD a token. The policy `blended` divides the whole
//! input cost by tokens instead, so that a chargeback does not depend on the order of a prompt.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use spanledger_model::money::split_by_largest_remainder;
use spanledger_model::{Bucket, FemtoUsd};

use super::{Cause, Method, Owner, Segment};

/// How input cost is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// By where the tokens stand in the prefix.
    #[default]
    Prefix,
    /// By tokens alone.
    Blended,
}

impl Policy {
    const ALL: [Self; 2] = [Self::Prefix, Self::Blended];

    /// Its name in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Blended => "blended",
        }
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|policy| policy.as_str() == text.trim());
        found.ok_or_else(|| format!("{text:?} is no way to divide costs; write prefix (by place in the context) or blended (by tokens alone)"))
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A part of a call's cost and who caused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Atom {
    /// Who caused it.
    pub owner: Arc<Owner>,
    /// What of theirs it is.
    pub cause: Cause,
    /// True for an output that is read again.
    pub history: bool,
    /// `first` in the call that first read a result, `carry` afterwards; absent for anything else.
    pub touch: Option<&'static str>,
    /// True where the call sends it as calls before it did, or will with every call: definitions, instructions,
    /// whatever an earlier call sent first.
    pub is_carried: bool,
    /// Token kind; of a blended input the kind that most of the input is.
    pub bucket: Bucket,
    /// Tokens; absent for fees.
    pub tokens: Option<i64>,
    /// Searches or requests, for fees.
    pub quantity: Option<i64>,
    /// What it costs; absent where the call is unpriced.
    pub cost: Option<FemtoUsd>,
    /// How the share was found.
    pub method: Method,
}

/// A part of a call's charge, as [`crate::charge`] made it: one bucket, its count and its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charged {
    /// Token kind.
    pub bucket: Bucket,
    /// Tokens, where the bucket counts tokens.
    pub tokens: Option<i64>,
    /// Searches or requests otherwise.
    pub quantity: Option<i64>,
    /// Cost; absent where it is unpriced.
    pub cost: Option<FemtoUsd>,
}

/// The input buckets in the order of the prefix.
pub(super) const PREFIX: [Bucket; 6] = [
    Bucket::CacheRead,
    Bucket::CacheWrite1h,
    Bucket::CacheWrite5m,
    Bucket::Input,
    Bucket::AudioInput,
    Bucket::ImageInput,
];

/// Divides a call's charge. `position` is the call's place in its thread. The atoms sum to the pieces, in
/// tokens and in money, bucket by bucket (blended: in money over all of the input).
#[must_use]
pub fn divide(
    segments: &[Segment],
    parts: &[Segment],
    charged: &[Charged],
    position: usize,
    policy: Policy,
) -> Vec<Atom> {
    let mut atoms = Vec::with_capacity(segments.len() + parts.len() + charged.len());
    let is_input = |piece: &&Charged| PREFIX.contains(&piece.bucket);
    match policy {
        Policy::Prefix => prefix(segments, charged, position, &mut atoms),
        Policy::Blended => blended(
            segments,
            &charged.iter().filter(is_input).copied().collect::<Vec<_>>(),
            position,
            &mut atoms,
        ),
    }
    for piece in charged.iter().filter(|piece| !PREFIX.contains(&piece.bucket)) {
        match piece.bucket {
            Bucket::Reasoning => atoms.push(whole(piece, Owner::Reasoning, Cause::Reasoning, Method::Content)),
            Bucket::Output | Bucket::AudioOutput => outputs(parts, piece, &mut atoms),
            _ => atoms.push(whole(piece, Owner::Request, Cause::Fee, Method::Content)),
        }
    }
    atoms
}

fn prefix(segments: &[Segment], charged: &[Charged], position: usize, atoms: &mut Vec<Atom>) {
    let mut rest = segments.iter();
    // The segment that the last piece ended in, and what it left of it.
    let mut open: Option<(&Segment, i64)> = None;
    for bucket in PREFIX {
        for piece in charged.iter().filter(|piece| piece.bucket == bucket) {
            let mut wanted = piece.tokens.unwrap_or(0).max(0);
            let from = atoms.len();
            while wanted > 0 {
                let Some((segment, left)) = open
                    .take()
                    .or_else(|| rest.next().map(|segment| (segment, segment.tokens)))
                else {
                    break;
                };
                let share = wanted.min(left);
                atoms.push(atom(segment, piece.bucket, share, None, position));
                wanted -= share;
                open = (left > share).then_some((segment, left - share));
            }
            // More is charged than the input count says: no segment holds it, and it is nobody's.
            if wanted > 0 || atoms.len() == from {
                let nobodys = Charged {
                    tokens: Some(wanted),
                    cost: None,
                    ..*piece
                };
                atoms.push(whole(&nobodys, Owner::Unknown, Cause::Undivided, Method::Undivided));
            }
            give(piece.cost, &mut atoms[from..]);
        }
    }
}

/// Divides a cost among atoms by their tokens.
fn give(cost: Option<FemtoUsd>, atoms: &mut [Atom]) {
    if cost.is_none() {
        return;
    }
    let weights: Vec<u128> = atoms.iter().map(|atom| weight(atom.tokens.unwrap_or(0))).collect();
    for (atom, cost) in atoms.iter_mut().zip(split(cost, &weights)) {
        atom.cost = cost;
    }
}

fn blended(segments: &[Segment], pieces: &[Charged], position: usize, atoms: &mut Vec<Atom>) {
    let Some(largest) = pieces.iter().max_by_key(|piece| piece.tokens.unwrap_or(0)) else {
        return;
    };
    let is_priced = pieces.iter().all(|piece| piece.cost.is_some());
    let total = is_priced.then(|| pieces.iter().filter_map(|piece| piece.cost).sum::<FemtoUsd>());
    let charged: i64 = pieces.iter().filter_map(|piece| piece.tokens).sum();
    let held: i64 = segments.iter().map(|segment| segment.tokens).sum();
    if !is_priced || segments.is_empty() || charged != held {
        // Without one price for all, or without segments for all, the prefix is the only exact division.
        return prefix(segments, pieces, position, atoms);
    }
    let weights: Vec<u128> = segments.iter().map(|segment| weight(segment.tokens)).collect();
    for (segment, cost) in segments.iter().zip(split(total, &weights)) {
        atoms.push(atom(segment, largest.bucket, segment.tokens, cost, position));
    }
}

fn outputs(parts: &[Segment], piece: &Charged, atoms: &mut Vec<Atom>) {
    if parts.is_empty() {
        atoms.push(whole(piece, Owner::Answer, Cause::Text, Method::Undivided));
        return;
    }
    let from = atoms.len();
    atoms.extend(parts.iter().map(|part| Atom {
        owner: Arc::clone(&part.owner),
        cause: part.cause,
        history: false,
        touch: None,
        is_carried: false,
        bucket: piece.bucket,
        tokens: Some(part.tokens),
        quantity: None,
        cost: None,
        method: part.method,
    }));
    let charged = piece.tokens.unwrap_or(0);
    let held = parts.iter().try_fold(0_i64, |sum, part| sum.checked_add(part.tokens));
    if held != Some(charged) {
        // Audio and text of one output are charged apart.
        let weights: Vec<u128> = parts.iter().map(|part| weight(part.tokens)).collect();
        let shares = split_by_largest_remainder(i128::from(charged), &weights);
        for (atom, tokens) in atoms[from..].iter_mut().zip(shares) {
            atom.tokens = Some(i64::try_from(tokens).unwrap_or(i64::MAX));
        }
    }
    give(piece.cost, &mut atoms[from..]);
}

fn atom(segment: &Segment, bucket: Bucket, tokens: i64, cost: Option<FemtoUsd>, position: usize) -> Atom {
    let is_result = segment.cause == Cause::Result;
    let is_first = segment.since == position;
    let touch = if is_first { "first" } else { "carry" };
    Atom {
        owner: Arc::clone(&segment.owner),
        cause: segment.cause,
        history: segment.history,
        touch: is_result.then_some(touch),
        is_carried: !is_first || segment.history || matches!(segment.cause, Cause::Definition | Cause::System),
        bucket,
        tokens: Some(tokens),
        quantity: None,
        cost,
        method: segment.method,
    }
}

fn whole(piece: &Charged, owner: Owner, cause: Cause, method: Method) -> Atom {
    Atom {
        owner: Arc::new(owner),
        cause,
        history: false,
        touch: None,
        is_carried: false,
        bucket: piece.bucket,
        tokens: piece.tokens,
        quantity: piece.quantity,
        cost: piece.cost,
        method,
    }
}

/// Tokens as a weight.
pub(super) fn weight(tokens: i64) -> u128 {
    u128::try_from(tokens).unwrap_or(0)
}

/// A cost in parts by weight; what is unpriced has unpriced parts.
pub(super) fn split(cost: Option<FemtoUsd>, weights: &[u128]) -> Vec<Option<FemtoUsd>> {
    match cost {
        Some(cost) => {
            let shares = split_by_largest_remainder(cost.0, weights);
            shares.into_iter().map(|share| Some(FemtoUsd(share))).collect()
        }
        None => vec![None; weights.len()],
    }
}
