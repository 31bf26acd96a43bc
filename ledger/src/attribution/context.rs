//! The context of a thread from call to call: which segments were sent with each.
//!
//! A conversation only appends: what grew between two calls is the previous output, read again, and what
//! arrived in between (results, messages). Where a context shrank it was compacted: definitions and
//! instructions stay, the rest shrinks in proportion, so that the cost of what was summarised keeps its cause.

use std::sync::Arc;

use hashbrown::HashMap;
use spanledger_model::money::split_by_largest_remainder;

use super::atoms::weight;
use super::{Cause, Claim, Method, Owner, Segment, definitions};

/// What is known of one call of a thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turn {
    /// All input tokens, cached ones included.
    pub input: i64,
    /// All output tokens, reasoning included.
    pub output: i64,
    /// Reasoning tokens.
    pub reasoning: i64,
    /// What the first call of a thread sends, in the order of the prefix: definitions, system, messages. Of a
    /// later call all definitions that it sends, where they are not those of the call before.
    pub base: Vec<Claim>,
    /// Results and messages that arrived since the call before, in order.
    pub arrived: Vec<Claim>,
    /// The parts of its output: tool calls and text.
    pub parts: Vec<Claim>,
}

/// Calls whose segments a context keeps apart. What older calls sent first is one segment for each owner and
/// cause: that prefix is one bucket (a cache read, or fresh input) but for the rare miss in its midst, so the merge
/// costs order where order hardly matters, and a call costs the same in a conversation of any length.
const CALLS_APART: usize = 8;

/// The context of one thread.
#[derive(Debug, Clone, Default)]
pub struct Context {
    segments: Vec<Segment>,
    /// The first so many segments are of older calls, each owner and cause once.
    n_old: usize,
    /// Where an owner and cause stand among them.
    old: HashMap<Place, usize>,
    /// Tokens of all segments.
    tokens: i64,
    /// The output of the last call, as it will stand in the context of the next.
    pending: Vec<Segment>,
    n_calls: usize,
}

/// What tells two merged segments apart.
type Place = (Arc<Owner>, Cause, bool, Method);

impl Context {
    /// A context before its first call.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The segments of the next call of the thread, and the parts of its output without its reasoning. The
    /// former sum to the call's input tokens, the latter to its output less the reasoning.
    pub fn next(&mut self, turn: &Turn) -> (&[Segment], &[Segment]) {
        let input = turn.input.max(0);
        let position = self.n_calls;
        if position == 0 {
            self.segments = base(&turn.base, input);
        } else if !turn.base.is_empty() {
            self.redefine(input, turn);
        } else if input >= self.tokens {
            self.merge_old();
            self.grow(input - self.tokens, &turn.arrived);
        } else {
            self.shrink(input, &turn.arrived);
        }
        self.tokens = input;
        let visible = turn.output.saturating_sub(turn.reasoning.max(0)).max(0);
        let answer = [claim(Owner::Answer, Cause::Text, Method::Undivided)];
        let parts: &[Claim] = if turn.parts.is_empty() { &answer } else { &turn.parts };
        self.pending = divided(visible, parts, position);
        self.n_calls += 1;
        (&self.segments, &self.pending)
    }

    /// A call with other definitions than the one before: those that left take their tokens with them, those that
    /// came claim growth beside what arrived, and stand with the others.
    fn redefine(&mut self, input: i64, turn: &Turn) {
        self.n_old = 0;
        self.old.clear();
        definitions::leave(&mut self.segments, &turn.base);
        let before: i64 = self.segments.iter().map(|segment| segment.tokens).sum();
        let mut arrived = definitions::came(&self.segments, &turn.base);
        arrived.extend(turn.arrived.iter().cloned());
        if input >= before {
            self.grow(input - before, &arrived);
        } else {
            self.shrink(input, &arrived);
        }
        definitions::to_the_prefix(&mut self.segments);
    }

    /// Merges what is old enough by now with what is older.
    fn merge_old(&mut self) {
        let position = self.n_calls;
        let is_old = |segment: &Segment| segment.since + CALLS_APART <= position;
        let n_now_old = self.segments[self.n_old..]
            .iter()
            .take_while(|segment| is_old(segment))
            .count();
        let end = self.n_old + n_now_old;
        for at in self.n_old..end {
            let segment = &self.segments[at];
            let place = (
                Arc::clone(&segment.owner),
                segment.cause,
                segment.history,
                segment.method,
            );
            let (tokens, compacted) = (segment.tokens, segment.compacted);
            match self.old.get(&place) {
                Some(old) => {
                    self.segments[*old].tokens += tokens;
                    self.segments[*old].compacted |= compacted;
                }
                None => {
                    self.old.insert(place, self.n_old);
                    self.segments.swap(self.n_old, at);
                    self.n_old += 1;
                }
            }
        }
        self.segments.drain(self.n_old..end);
    }

    /// Growth: first the previous output, as far as it was visible, then what arrived.
    fn grow(&mut self, growth: i64, arrived: &[Claim]) {
        let position = self.n_calls;
        let output: i64 = self.pending.iter().map(|part| part.tokens).sum();
        let read_again = output.min(growth);
        let mut pending = std::mem::take(&mut self.pending);
        if read_again < output {
            let weights: Vec<u128> = pending.iter().map(|part| weight(part.tokens)).collect();
            for (part, tokens) in pending.iter_mut().zip(split(read_again, &weights)) {
                part.tokens = tokens;
            }
        }
        let read_again_of = pending.into_iter().map(|part| Segment {
            history: true,
            since: position,
            ..part
        });
        let new = read_again_of.chain(arrivals(growth - read_again, arrived, position));
        self.segments.extend(new.filter(|segment| segment.tokens > 0));
    }

    /// Compaction: definitions and instructions stay whole as far as they fit; everything else, the previous
    /// output and what arrived included, shrinks in proportion.
    fn shrink(&mut self, input: i64, arrived: &[Claim]) {
        let position = self.n_calls;
        self.n_old = 0;
        self.old.clear();
        let pending = std::mem::take(&mut self.pending);
        let read_again = pending.into_iter().map(|part| Segment {
            history: true,
            since: position,
            ..part
        });
        self.segments.extend(read_again);
        let known = arrived.iter().filter(|claim| claim.method < Method::Counts);
        self.segments
            .extend(known.map(|claim| segment(claim, estimate(claim), position)));
        let stays = |segment: &Segment| matches!(segment.cause, Cause::Definition | Cause::System);
        let kept: i64 = self
            .segments
            .iter()
            .filter(|segment| stays(segment))
            .map(|segment| segment.tokens)
            .sum();
        let keeps = kept <= input && self.segments.iter().any(|segment| !stays(segment));
        let weights: Vec<u128> = self
            .segments
            .iter()
            .map(|segment| {
                if keeps && stays(segment) {
                    0
                } else {
                    weight(segment.tokens)
                }
            })
            .collect();
        let shares = split(if keeps { input - kept } else { input }, &weights);
        for (segment, share) in self.segments.iter_mut().zip(shares) {
            if keeps && stays(segment) {
                continue;
            }
            segment.compacted |= segment.tokens != share;
            segment.tokens = share;
        }
        self.segments.retain(|segment| segment.tokens > 0);
    }
}

/// The first context: every claim its share; without claims it is undivided.
fn base(claims: &[Claim], input: i64) -> Vec<Segment> {
    let undivided = [claim(Owner::Base, Cause::Undivided, Method::Undivided)];
    let claims = if claims.is_empty() { &undivided } else { claims };
    let mut segments = divided(input, claims, 0);
    segments.retain(|segment| segment.tokens > 0);
    for segment in &mut segments {
        // What a model wrote stands in a first context only to be read again.
        segment.history = matches!(segment.cause, Cause::Call | Cause::Text | Cause::Reasoning);
    }
    segments
}

/// What arrived takes the growth by weight, but no claim more than it can be; the rest is nobody's known.
fn arrivals(growth: i64, arrived: &[Claim], position: usize) -> Vec<Segment> {
    if growth <= 0 {
        return Vec::new();
    }
    if arrived.is_empty() {
        let user = claim(Owner::Conversation, Cause::User, Method::Counts);
        return vec![segment(&user, growth, position)];
    }
    let capacity = arrived
        .iter()
        .try_fold(0_i64, |sum, claim| Some(sum.saturating_add(claim.tokens_max?)));
    let explained = capacity.map_or(growth, |capacity| growth.min(capacity));
    let mut shares = split(explained, &weights(arrived));
    hand_on_excess(&mut shares, arrived);
    let mut segments: Vec<Segment> = arrived
        .iter()
        .zip(shares)
        .map(|(claim, tokens)| segment(claim, tokens, position))
        .collect();
    if growth > explained {
        let unknown = claim(Owner::Unknown, Cause::Undivided, Method::Undivided);
        segments.push(segment(&unknown, growth - explained, position));
    }
    segments
}

/// Where a claim was given more than it can be, the others take the excess, in order.
fn hand_on_excess(shares: &mut [i64], claims: &[Claim]) {
    let mut excess = 0;
    for (share, claim) in shares.iter_mut().zip(claims) {
        if let Some(most) = claim.tokens_max.filter(|most| *share > *most) {
            excess += *share - most;
            *share = most;
        }
    }
    for (share, claim) in shares.iter_mut().zip(claims) {
        let room = claim.tokens_max.map_or(excess, |most| (most - *share).clamp(0, excess));
        *share += room;
        excess -= room;
    }
}

fn divided(total: i64, claims: &[Claim], position: usize) -> Vec<Segment> {
    let shares = split(total, &weights(claims));
    claims
        .iter()
        .zip(shares)
        .map(|(claim, tokens)| segment(claim, tokens, position))
        .collect()
}

fn weights(claims: &[Claim]) -> Vec<u128> {
    claims.iter().map(|claim| u128::from(claim.weight)).collect()
}

/// Largest remainder, in integers; where all weights are 0 the first takes everything.
fn split(total: i64, weights: &[u128]) -> Vec<i64> {
    let shares = split_by_largest_remainder(i128::from(total), weights);
    shares
        .into_iter()
        .map(|share| i64::try_from(share).unwrap_or(i64::MAX))
        .collect()
}

fn segment(claim: &Claim, tokens: i64, position: usize) -> Segment {
    Segment {
        owner: Arc::clone(&claim.owner),
        cause: claim.cause,
        history: false,
        compacted: false,
        tokens,
        method: claim.method,
        since: position,
    }
}

fn claim(owner: Owner, cause: Cause, method: Method) -> Claim {
    Claim {
        owner: Arc::new(owner),
        cause,
        weight: 1,
        tokens_max: None,
        method,
    }
}

/// Tokens of a claim whose size is known, before the provider counted it: its weight.
fn estimate(claim: &Claim) -> i64 {
    i64::try_from(claim.weight).unwrap_or(i64::MAX).max(1)
}
