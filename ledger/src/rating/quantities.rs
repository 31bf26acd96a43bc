//! Quantities by unit, and their decomposition into leaves.

use std::borrow::Cow;

use spanledger_model::Usage;

use super::RatingError;
use crate::prices::{Minimum, N_UNITS, UnitId, UnitSet};

/// How much of each unit a request used. Absent is not zero: it is only taken for zero where nothing that
/// is counted in it was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantities {
    counts: [i64; N_UNITS],
    reported: UnitSet,
    overlaps_are_empty: bool,
}

impl Default for Quantities {
    fn default() -> Self {
        Self {
            counts: [0; N_UNITS],
            reported: UnitSet::EMPTY,
            overlaps_are_empty: false,
        }
    }
}

impl Quantities {
    /// The quantities of a call's usage. Cache writes, audio and images are of different tokens.
    #[must_use]
    #[inline]
    pub fn from_usage(usage: &Usage) -> Self {
        let mut quantities = Self {
            overlaps_are_empty: true,
            ..Self::default()
        };
        for (unit, count) in [
            (UnitId::INPUT, usage.input),
            (UnitId::CACHE_READ, usage.cache_read),
            (UnitId::CACHE_WRITE, usage.cache_write()),
            (UnitId::CACHE_WRITE_5M, usage.cache_write_5m),
            (UnitId::CACHE_WRITE_1H, usage.cache_write_1h),
            (UnitId::INPUT_AUDIO, usage.audio_input),
            (UnitId::INPUT_IMAGE, usage.image_input),
            (UnitId::OUTPUT, usage.output),
            (UnitId::REASONING, usage.reasoning),
            (UnitId::OUTPUT_AUDIO, usage.audio_output),
            (UnitId::WEB_SEARCHES, usage.web_searches),
        ] {
            if let Some(count) = count {
                quantities.set(unit, count);
            }
        }
        quantities
    }

    /// Reports a quantity: tokens, searches, characters; durations in milliseconds.
    #[inline]
    pub fn set(&mut self, unit: UnitId, count: i64) {
        self.counts[unit.index()] = count;
        self.reported = self.reported.with(unit);
    }

    /// What was reported of a unit.
    #[must_use]
    #[inline]
    pub fn get(&self, unit: UnitId) -> Option<i64> {
        self.reported.contains(unit).then(|| self.counts[unit.index()])
    }

    /// The units of which more than nothing was reported.
    #[must_use]
    #[inline]
    pub fn positive(&self) -> UnitSet {
        self.reported
            .iter()
            .filter(|unit| self.counts[unit.index()] > 0)
            .collect()
    }

    /// The same with each minimum applied: what is used at all is billed as no less. As in genai-prices,
    /// the first of the minimum's units that is above zero is the measure, and all of them are set to it.
    pub(super) fn with_minimums(&self, minimums: &[Minimum]) -> Cow<'_, Self> {
        if minimums.is_empty() {
            return Cow::Borrowed(self);
        }
        let mut billed = self.clone();
        for minimum in minimums {
            let used = minimum
                .units
                .iter()
                .find_map(|unit| self.get(*unit).filter(|count| *count > 0));
            if let Some(used) = used {
                minimum
                    .units
                    .iter()
                    .for_each(|unit| billed.set(*unit, used.max(minimum.at_least)));
            }
        }
        Cow::Owned(billed)
    }

    /// Writes what remains of each of `units` after the more specific of them in it are taken out.
    #[inline]
    pub(super) fn write_leaves(&self, units: UnitSet, leaves: &mut [i64; N_UNITS]) -> Result<(), RatingError> {
        if let Some(unit) = self.reported.iter().find(|unit| self.counts[unit.index()] < 0) {
            return Err(RatingError::Negative {
                unit: unit.unit().usage_key,
                value: self.counts[unit.index()],
            });
        }
        let positive = self.positive();
        // Of no other unit anything is left, and with no other anything can be wrong.
        let concerned = match self.overlaps_are_empty {
            true => positive
                .iter()
                .fold(positive, |concerned, unit| concerned.or(unit.ancestors())),
            false => units,
        };
        for unit in units.and(concerned).most_specific_first() {
            let whole = self.count(unit, positive)?;
            let parts = unit.descendants().and(units).and(positive);
            let parts_sum: i128 = parts.iter().map(|part| i128::from(leaves[part.index()])).sum();
            let leaf = i64::try_from(i128::from(whole) - parts_sum)
                .ok()
                .filter(|leaf| *leaf >= 0);
            leaves[unit.index()] = leaf.ok_or_else(|| self.exceeds(unit, whole, parts, parts_sum))?;
        }
        Ok(())
    }

    /// The quantity of a unit, zero where it is absent and nothing reported implies otherwise.
    fn count(&self, unit: UnitId, positive: UnitSet) -> Result<i64, RatingError> {
        if let Some(count) = self.get(unit) {
            return Ok(count);
        }
        let name = |unit: UnitId| unit.unit().usage_key;
        if let Some(part) = positive.and(unit.descendants()).iter().next() {
            return Err(RatingError::Missing {
                whole: name(unit),
                part: name(part),
            });
        }
        let parents = if self.overlaps_are_empty {
            UnitSet::EMPTY
        } else {
            positive.and(unit.ancestors())
        };
        for left in parents.iter() {
            let overlapping = |right: &UnitId| {
                let nested = left.ancestors().contains(*right) || left.descendants().contains(*right);
                *right > left && !nested && left.join(*right) == Some(unit)
            };
            if let Some(right) = parents.iter().find(overlapping) {
                return Err(RatingError::Overlap {
                    left: name(left),
                    right: name(right),
                    both: name(unit),
                });
            }
        }
        Ok(0)
    }

    fn exceeds(&self, whole: UnitId, whole_value: i64, parts: UnitSet, parts_sum: i128) -> RatingError {
        let named = parts
            .iter()
            .filter(|part| self.get(*part).is_some_and(|count| count > 0));
        let parts = named.map(|part| part.unit().usage_key).collect::<Vec<_>>().join(", ");
        RatingError::Exceeds {
            parts,
            parts_sum,
            whole: whole.unit().usage_key,
            whole_value,
        }
    }
}
