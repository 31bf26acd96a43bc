//! Atoms: the rated pieces of a call divided among the segments of its context and the parts of its output.
//!
//! A cache is a prefix, so the segments are walked in order: the first tokens are the cache reads, the next
//! the one-hour writes (their breakpoints come first), then the five-minute writes, then fresh input, audio
//! and images last. A piece is divided among the tokens that fall into it by largest remainder, which is
//! exact wherever its price is a whole number of femto-USD a token. The policy `blended` divides the whole
//! input cost by tokens instead, so that a chargeback does not depend on the order of a prompt.

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
    let mut atoms = Vec::new();
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
    let mut rest = segments
        .iter()
        .map(|segment| (segment, segment.tokens))
        .collect::<std::collections::VecDeque<_>>();
    for bucket in PREFIX {
        for piece in charged.iter().filter(|piece| piece.bucket == bucket) {
            let mut wanted = piece.tokens.unwrap_or(0).max(0);
            let mut taken: Vec<(&Segment, i64)> = Vec::new();
            while wanted > 0 {
                let Some((segment, left)) = rest.front_mut() else { break };
                let share = wanted.min(*left);
                taken.push((segment, share));
                wanted -= share;
                *left -= share;
                if *left == 0 {
                    rest.pop_front();
                }
            }
            spread(&taken, wanted, piece, position, atoms);
        }
    }
}

/// Divides one piece among the segments that hold its tokens. `left` of them no segment holds: more is charged
/// than the input count says, and that is nobody's.
fn spread(taken: &[(&Segment, i64)], left: i64, piece: &Charged, position: usize, atoms: &mut Vec<Atom>) {
    let is_nobodys = left > 0 || taken.is_empty();
    let held = taken.iter().map(|(_, tokens)| *tokens);
    let weights: Vec<u128> = held.chain(is_nobodys.then_some(left)).map(weight).collect();
    let costs = split(piece.cost, &weights);
    for ((segment, tokens), cost) in taken.iter().zip(&costs) {
        atoms.push(atom(segment, piece.bucket, *tokens, *cost, position));
    }
    if is_nobodys {
        let nobodys = Charged {
            tokens: Some(left),
            cost: costs.last().copied().flatten(),
            ..*piece
        };
        atoms.push(whole(&nobodys, Owner::Unknown, Cause::Undivided, Method::Undivided));
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
    let weights: Vec<u128> = parts.iter().map(|part| weight(part.tokens)).collect();
    if parts.is_empty() {
        atoms.push(whole(piece, Owner::Answer, Cause::Text, Method::Undivided));
        return;
    }
    let tokens = split_by_largest_remainder(i128::from(piece.tokens.unwrap_or(0)), &weights);
    let token_weights: Vec<u128> = tokens
        .iter()
        .map(|tokens| u128::try_from(*tokens).unwrap_or(0))
        .collect();
    let costs = split(piece.cost, &token_weights);
    for ((part, tokens), cost) in parts.iter().zip(tokens).zip(costs) {
        atoms.push(Atom {
            owner: Arc::clone(&part.owner),
            cause: part.cause,
            history: false,
            touch: None,
            is_carried: false,
            bucket: piece.bucket,
            tokens: Some(i64::try_from(tokens).unwrap_or(i64::MAX)),
            quantity: None,
            cost,
            method: part.method,
        });
    }
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
