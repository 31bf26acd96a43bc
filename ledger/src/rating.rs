//! Usage × rates → the cost of a call in exact pieces.
//!
//! The rule is that of `design/ledger.md` §1 and reproduces genai-prices digit for digit:
//!
//! 1. Usage is taken apart into leaves: what remains of each kind of token after the more specific kinds
//!    in it are taken out (text input = input − cache reads − cache writes − audio − images). A leaf
//!    without a price has its parent's (reasoning → output, 1-hour write → cache write → input).
//! 2. One tier is chosen for the whole request, by all of its input tokens, strictly more than its start.
//! 3. Total = Σ leaf × rate + the fee for the request. Nothing is rounded (a price by the hour excepted).
//!
//! Usage that contradicts itself is refused by name: a cost of it would be a guess. This module finds no
//! price ([`crate::prices`] does) and attributes nothing.

mod quantities;

use std::sync::Arc;

use spanledger_model::money::split_by_largest_remainder;
use spanledger_model::{Bucket, FemtoUsd, Usage};

use crate::prices::{N_UNITS, ResolvedPrice, UnitId, UnitSet};

pub use quantities::Quantities;

/// The kinds of token that the ledger tells apart whether or not they have a price of their own.
const LEDGER_UNITS: UnitSet = UnitSet::EMPTY
    .with(UnitId::INPUT)
    .with(UnitId::CACHE_READ)
    .with(UnitId::CACHE_WRITE)
    .with(UnitId::CACHE_WRITE_5M)
    .with(UnitId::CACHE_WRITE_1H)
    .with(UnitId::INPUT_AUDIO)
    .with(UnitId::INPUT_IMAGE)
    .with(UnitId::OUTPUT)
    .with(UnitId::REASONING)
    .with(UnitId::OUTPUT_AUDIO)
    .with(UnitId::WEB_SEARCHES);

/// The cost of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rated {
    /// Its parts, by bucket; those of [`rate`] name a bucket at most once. They sum to `total`.
    pub pieces: Vec<Piece>,
    /// Cost of the call.
    pub total: FemtoUsd,
    /// Price record that rated it.
    pub price_id: Arc<str>,
    /// Quantities that the record has no price for, not even a parent's, and that cost nothing in `total`.
    pub unrated: Vec<(Bucket, i64)>,
}

/// A part of a call's cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Token kind.
    pub bucket: Bucket,
    /// Tokens, where the bucket counts tokens.
    pub tokens: Option<i64>,
    /// Searches, requests; milliseconds, characters, pages of what is billed by those.
    pub quantity: Option<i64>,
    /// What they cost.
    pub cost: FemtoUsd,
    /// Price of one, where it is a whole number of femto-USD: `cost` = count × this.
    pub cost_of_one: Option<FemtoUsd>,
}

/// Why usage could not be rated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RatingError {
    /// A count below zero.
    #[error("{unit} is {value}, below zero")]
    Negative {
        /// Quantity.
        unit: &'static str,
        /// What was reported.
        value: i64,
    },
    /// Parts are more than the whole they are counted in.
    #[error("{parts} make {parts_sum}, more than {whole} ({whole_value}) that they are counted in")]
    Exceeds {
        /// The parts' names.
        parts: String,
        /// Their sum.
        parts_sum: i128,
        /// The whole's name.
        whole: &'static str,
        /// What was reported of it.
        whole_value: i64,
    },
    /// A part is reported and the whole it is counted in is not.
    #[error("{part} is reported without {whole}, in which it is counted")]
    Missing {
        /// The whole's name.
        whole: &'static str,
        /// The part's name.
        part: &'static str,
    },
    /// Two kinds that may overlap are priced and reported, and how much is both is not.
    #[error("{left} and {right} are reported without {both}, which is what is both")]
    Overlap {
        /// One kind.
        left: &'static str,
        /// The other.
        right: &'static str,
        /// What is both.
        both: &'static str,
    },
    /// The record prices none of what was used: the call is unpriced.
    #[error("{price_id} has no price for {units}")]
    NoRate {
        /// Price record.
        price_id: String,
        /// What was used.
        units: String,
    },
    /// The cost leaves 128 bits.
    #[error("the cost of {unit} × {value} is out of range")]
    OutOfRange {
        /// Quantity.
        unit: &'static str,
        /// What was reported.
        value: i64,
    },
}

/// Rates a call's usage. Counts are inclusive; those of different kinds of content (cached, audio, image)
/// are taken to be of different tokens, since no convention reports their overlap.
///
/// # Errors
/// [`RatingError`]; the call is then unpriced, never free.
pub fn rate(price: &ResolvedPrice<'_>, usage: &Usage) -> Result<Rated, RatingError> {
    let quantities = Quantities::from_usage(usage);
    let told_apart = LEDGER_UNITS.or(price.priced());
    let rated = charge(price, &quantities, told_apart)?;
    if rated.pieces.is_empty() && !rated.unrated.is_empty() {
        let units = rated
            .unrated
            .iter()
            .map(|(bucket, _)| bucket.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        return Err(RatingError::NoRate {
            price_id: rated.price_id.to_string(),
            units,
        });
    }
    Ok(rated)
}

/// Rates quantities of any unit: audio by the hour, pages, characters, searches, as genai-prices does.
/// Only priced units are told apart; a total of 0 with something `unrated` is for the caller to judge.
///
/// # Errors
/// [`RatingError`], also where two priced kinds are reported and what is both is not.
pub fn rate_quantities(price: &ResolvedPrice<'_>, quantities: &Quantities) -> Result<Rated, RatingError> {
    charge(price, quantities, price.priced())
}

/// A call's usage in pieces that cost nothing yet: what an unpriced call used, or the shape that
/// [`scale_to`] gives a reported cost where the model has no price.
///
/// # Errors
/// [`RatingError`], where usage contradicts itself.
pub fn split_usage(usage: &Usage) -> Result<Vec<Piece>, RatingError> {
    let quantities = Quantities::from_usage(usage);
    let mut leaves = [0; N_UNITS];
    quantities.write_leaves(LEDGER_UNITS, &mut leaves)?;
    let pieces = UnitId::all().filter(|unit| leaves[unit.index()] > 0);
    Ok(by_bucket(
        pieces
            .map(|unit| piece(unit, leaves[unit.index()], FemtoUsd::ZERO, None))
            .collect(),
    ))
}

/// The pieces scaled so that they sum to a reported cost: in proportion to what each costs, or to its
/// count where none costs anything, by largest remainder. Without pieces the cost is one for the request.
#[must_use]
pub fn scale_to(pieces: &[Piece], reported_total: FemtoUsd) -> Vec<Piece> {
    if pieces.is_empty() {
        return vec![piece(UnitId::REQUESTS, 1, reported_total, None)];
    }
    let by_cost = pieces.iter().any(|piece| piece.cost.0 != 0);
    let weight = |piece: &Piece| {
        let count = piece.tokens.or(piece.quantity).unwrap_or(0);
        if by_cost {
            piece.cost.0.unsigned_abs()
        } else {
            u128::from(count.unsigned_abs())
        }
    };
    let costs = split_by_largest_remainder(reported_total.0, &pieces.iter().map(weight).collect::<Vec<_>>());
    let scaled = pieces.iter().zip(costs);
    scaled
        .map(|(piece, cost)| {
            let kept = piece.cost_of_one.filter(|_| piece.cost.0 == cost);
            Piece {
                cost: FemtoUsd(cost),
                cost_of_one: kept,
                ..*piece
            }
        })
        .collect()
}

fn charge(price: &ResolvedPrice<'_>, quantities: &Quantities, told_apart: UnitSet) -> Result<Rated, RatingError> {
    let quantities = quantities.with_minimums(price.minimums());
    // A table, for its caller's stack: it is not copied out of a function.
    let mut leaves = [0; N_UNITS];
    quantities.write_leaves(told_apart.without(UnitId::REQUESTS), &mut leaves)?;
    let total_input_tokens = quantities.get(UnitId::INPUT).unwrap_or(0);
    let priced = price.priced();
    let is_free = price.is_free();

    let mut pieces = Vec::new();
    let mut unrated = Vec::new();
    let mut total = FemtoUsd::ZERO;
    let fee = (UnitId::REQUESTS, i64::from(priced.contains(UnitId::REQUESTS)));
    let leaves = told_apart
        .without(UnitId::REQUESTS)
        .and(quantities.positive())
        .iter()
        .map(|unit| (unit, leaves[unit.index()]));
    for (unit, count) in leaves.chain([fee]).filter(|(_, count)| *count > 0) {
        let priced_unit = unit
            .priced_by(priced)
            .and_then(|unit| Some((unit, price.rate(unit, total_input_tokens)?)));
        let (cost, cost_of_one) = match priced_unit {
            Some((priced_unit, rate)) => (rate.cost(count, priced_unit.unit()), rate.of_one()),
            None if is_free => (Some(FemtoUsd::ZERO), Some(FemtoUsd::ZERO)),
            None => {
                unrated.push((unit.bucket(), count));
                continue;
            }
        };
        let out_of_range = || RatingError::OutOfRange {
            unit: unit.unit().usage_key,
            value: count,
        };
        let cost = cost.ok_or_else(out_of_range)?;
        total = total.checked_add(cost).ok_or_else(out_of_range)?;
        pieces.push(piece(unit, count, cost, cost_of_one));
    }
    let covered = |unit: &UnitId| told_apart.contains(*unit) || unit.priced_by(priced).is_some() || is_free;
    for unit in quantities.positive().iter().filter(|unit| !covered(unit)) {
        unrated.push((unit.bucket(), quantities.get(unit).unwrap_or(0)));
    }
    Ok(Rated {
        pieces: by_bucket(pieces),
        total,
        price_id: price.price_id(),
        unrated,
    })
}

fn piece(unit: UnitId, count: i64, cost: FemtoUsd, cost_of_one: Option<FemtoUsd>) -> Piece {
    let counts_tokens = unit.counts_tokens();
    Piece {
        bucket: unit.bucket(),
        tokens: counts_tokens.then_some(count),
        quantity: (!counts_tokens).then_some(count),
        cost,
        cost_of_one,
    }
}

fn by_bucket(mut pieces: Vec<Piece>) -> Vec<Piece> {
    pieces.sort_by_key(|piece| piece.bucket);
    pieces
}

#[cfg(test)]
mod tests;
