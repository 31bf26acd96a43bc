//! The records of a price book in memory: providers, models, dated rates, variants.
//!
//! A rate is a whole number of femto-USD for a block of units (a million tokens) and, where the block
//! divides it, for one unit. A token's price always divides, which the import sees to, so that tokens ×
//! rate is exact; only a price by the hour may leave a fraction of a femto-USD to round.

use std::sync::Arc;

use spanledger_model::FemtoUsd;
use spanledger_model::money::FEMTO_DIGITS;

use super::matching::MatchRule;
use super::units::{Unit, UnitId, UnitSet};
use super::validity::Validity;

/// The whole, of which a discount is a part.
pub(super) const PPM: u32 = 1_000_000;

/// A price of one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Femto-USD for [`Unit::per`] units: what the catalogue writes.
    block_femto: i128,
    /// Femto-USD for one unit, where that is a whole number.
    one_femto: Option<i128>,
}

/// A price that applies to the whole request once its input is larger than `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// The tier applies where all input tokens together are strictly more than this.
    pub start: i64,
    /// Its price.
    pub rate: Rate,
}

/// The price of a unit with its tiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPrice {
    /// What is priced.
    pub unit: UnitId,
    /// Price below every tier.
    pub base: Rate,
    /// Tiers by rising start.
    pub tiers: Box<[Tier]>,
}

/// Prices by unit.
#[derive(Debug, Clone, Default)]
pub struct Rates {
    prices: Box<[UnitPrice]>,
    priced: UnitSet,
}

/// A set of rates and when it holds.
#[derive(Debug, Clone)]
pub struct PriceRecord {
    /// Stable, readable identity, `genai-prices:anthropic/claude-sonnet-4-5@2025-09-29`.
    pub id: Arc<str>,
    /// Where it was read from.
    pub source: String,
    /// When it holds.
    pub validity: Validity,
    /// What it charges.
    pub rates: Rates,
}

/// Rates that replace the standard ones in a context, such as `processing=batch`.
#[derive(Debug, Clone)]
pub struct Variant {
    /// What it adds to the record's identity, `+processing=batch@2026-10-14`.
    pub suffix: String,
    /// The conditions, all of which must hold.
    pub context: Box<[(String, String)]>,
    /// The rates that differ, and when.
    pub record: PriceRecord,
}

/// The least that is billed of a unit that is used at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minimum {
    /// The same quantity under its several names; the first that is reported above zero counts.
    pub units: Box<[UnitId]>,
    /// The least quantity.
    pub at_least: i64,
}

/// A model with its prices.
#[derive(Debug, Clone)]
pub struct Model {
    /// Identity within its provider.
    pub id: String,
    /// The names it is known by.
    pub rule: MatchRule,
    /// Who stated it, where it is not the catalogue. Its prices hold when they say they do and at no other time.
    pub stated_by: Option<String>,
    /// Standard prices; the last whose validity holds is in force. Where none does, the first is, as the
    /// catalogue's authors have it, unless the model was stated by somebody else.
    pub records: Vec<PriceRecord>,
    /// Prices in a context; for each unit the first that holds is in force.
    pub variants: Vec<Variant>,
    /// Minimum billing.
    pub minimums: Vec<Minimum>,
}

/// A provider with its models.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Identity, lowercase.
    pub id: String,
    /// Which model names say that it is this provider, where no provider is named.
    pub model_rule: Option<MatchRule>,
    /// Other names of the provider.
    pub provider_rule: Option<MatchRule>,
    /// Providers whose models it resells at their price.
    pub fallbacks: Vec<String>,
    /// In order of precedence.
    pub models: Vec<Model>,
}

impl Rate {
    /// Reads a decimal price for a block of `unit`. The error says why it cannot be kept exactly.
    pub(super) fn parse(digits: &str, unit: &Unit) -> Result<Self, String> {
        let amount = FemtoUsd::parse(digits).filter(|amount| amount.0 >= 0 && has_femto_digits(digits));
        let block_femto = amount
            .ok_or_else(|| format!("price {digits:?} is not a decimal ≥ 0 with at most {FEMTO_DIGITS} decimals"))?
            .0;
        let per = i128::from(unit.per);
        let one_femto = (block_femto % per == 0).then_some(block_femto / per);
        // 3,600 has a factor that no power of ten divides; every other block is a power of ten.
        if one_femto.is_none() && per % 3 != 0 {
            return Err(format!(
                "price {digits:?} for {per} is no whole number of femto-USD for one: too many decimals"
            ));
        }
        Ok(Self { block_femto, one_femto })
    }

    /// As [`parse`](Self::parse), but a price with more decimals is rounded half to even to whole
    /// femto-USD for one unit; true with it where that was needed.
    pub(super) fn parse_rounded(digits: &str, unit: &Unit) -> Result<(Self, bool), String> {
        let exact = Self::parse(digits, unit);
        let amount = FemtoUsd::parse(digits).filter(|amount| amount.0 >= 0);
        match (exact, amount) {
            (Ok(rate), _) => Ok((rate, false)),
            (Err(error), None) => Err(error),
            (Err(_), Some(amount)) => {
                let per = i128::from(unit.per);
                let one_femto = divide_half_even(amount.0, per);
                Ok((
                    Self {
                        block_femto: one_femto * per,
                        one_femto: Some(one_femto),
                    },
                    true,
                ))
            }
        }
    }

    /// The price of one unit, where it is a whole number of femto-USD.
    #[must_use]
    #[inline]
    pub fn of_one(self) -> Option<FemtoUsd> {
        self.one_femto.map(FemtoUsd)
    }

    /// The price of a block of [`Unit::per`] units.
    #[must_use]
    pub fn of_block(self) -> FemtoUsd {
        FemtoUsd(self.block_femto)
    }

    /// The rate less a discount in millionths, rounded half to even to whole femto-USD for one unit (for
    /// the block, where one unit has no whole price): a token is then the same price in every sum.
    #[must_use]
    pub fn less(self, discount_ppm: u32) -> Self {
        let kept = i128::from(PPM.saturating_sub(discount_ppm));
        let part = |femto: i128| divide_half_even(femto.saturating_mul(kept), i128::from(PPM));
        match self.one_femto {
            Some(one) => {
                let one_femto = part(one);
                // The block is a multiple of the one, which is no larger than it was.
                let per = self.block_femto.checked_div(one).unwrap_or(0);
                Self {
                    block_femto: one_femto * per,
                    one_femto: Some(one_femto),
                }
            }
            None => Self {
                block_femto: part(self.block_femto),
                one_femto: None,
            },
        }
    }

    /// quantity × rate ÷ block. Exact, except that a price by the hour is rounded half to even at the
    /// fifteenth decimal. `None` where it leaves 128 bits.
    #[must_use]
    #[inline]
    pub fn cost(self, quantity: i64, unit: &Unit) -> Option<FemtoUsd> {
        if let Some(one) = self.one_femto {
            return one.checked_mul(i128::from(quantity)).map(FemtoUsd);
        }
        let product = self.block_femto.checked_mul(i128::from(quantity))?;
        Some(FemtoUsd(divide_half_even(product, i128::from(unit.per))))
    }
}

pub(super) fn divide_half_even(value: i128, divisor: i128) -> i128 {
    let (quotient, twice) = (value.div_euclid(divisor), 2 * value.rem_euclid(divisor));
    quotient + i128::from(twice > divisor || twice == divisor && quotient % 2 != 0)
}

/// True where no digit stands past the fifteenth decimal.
fn has_femto_digits(digits: &str) -> bool {
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let n_decimals = mantissa
        .split_once('.')
        .map_or(0, |(_, fraction)| fraction.trim_end_matches('0').len());
    let exponent = exponent.parse::<i64>().unwrap_or(i64::MIN);
    i64::try_from(n_decimals).is_ok_and(|n_decimals| n_decimals.saturating_sub(exponent) <= i64::from(FEMTO_DIGITS))
}

impl UnitPrice {
    /// The rate for a request with this much input: one tier for all of its tokens, no marginal bracket.
    #[must_use]
    #[inline]
    pub fn rate(&self, total_input_tokens: i64) -> Rate {
        let tier = self.tiers.iter().rev().find(|tier| total_input_tokens > tier.start);
        tier.map_or(self.base, |tier| tier.rate)
    }
}

impl Rates {
    /// Rates of these prices, of which the last for a unit counts.
    pub(super) fn new(prices: Vec<UnitPrice>) -> Self {
        let mut kept: Vec<UnitPrice> = Vec::with_capacity(prices.len());
        for price in prices {
            match kept.iter_mut().find(|earlier| earlier.unit == price.unit) {
                Some(earlier) => *earlier = price,
                None => kept.push(price),
            }
        }
        kept.sort_by_key(|price| price.unit);
        let priced = kept.iter().map(|price| price.unit).collect();
        Self {
            prices: kept.into(),
            priced,
        }
    }

    /// The units it prices.
    #[must_use]
    pub fn priced(&self) -> UnitSet {
        self.priced
    }

    /// The price of exactly this unit.
    #[must_use]
    #[inline]
    pub fn get(&self, unit: UnitId) -> Option<&UnitPrice> {
        self.priced
            .contains(unit)
            .then(|| self.prices.iter().find(|price| price.unit == unit))
            .flatten()
    }

    /// Its prices, by unit.
    #[must_use]
    pub fn prices(&self) -> &[UnitPrice] {
        &self.prices
    }
}

impl Model {
    /// The standard prices in force at an instant: the last that holds.
    #[must_use]
    pub fn record_at(&self, at_ns: i64) -> Option<&PriceRecord> {
        self.records
            .iter()
            .rev()
            .find(|record| record.validity.holds_at(at_ns))
            .or(self.records.first().filter(|_| self.stated_by.is_none()))
    }

    /// When `records[index]` ends: its own end, or the start of a later one that takes over for good.
    #[must_use]
    pub fn record_ends_ns(&self, index: usize) -> Option<i64> {
        let own = self.records.get(index).and_then(|record| record.validity.to_ns);
        let later = self.records.iter().skip(index + 1).map(|record| &record.validity);
        let successor = later
            .filter(|validity| {
                Validity {
                    from_ns: None,
                    ..**validity
                } == Validity::ALWAYS
            })
            .filter_map(|validity| validity.from_ns);
        own.into_iter().chain(successor).min()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_price_that_would_round_is_refused() {
        let tokens = UnitId::INPUT.unit();
        assert_eq!(Rate::parse("0.000000001", tokens).unwrap().of_one(), Some(FemtoUsd(1)));
        assert_eq!(Rate::parse("2.5e-1", tokens).unwrap().of_block().to_string(), "0.25");
        assert_eq!(
            Rate::parse("0.30000000000000000000", tokens)
                .unwrap()
                .of_block()
                .to_string(),
            "0.3"
        );
        for digits in [
            "0.0000000001",
            "1e-16",
            "-1",
            "NaN",
            "",
            "1.2.3",
            "0.1000000000000000000001",
        ] {
            assert!(Rate::parse(digits, tokens).is_err(), "{digits}");
        }
    }

    #[test]
    fn a_fraction_nobody_publishes_is_rounded_to_a_whole_femto_for_a_token() {
        let tokens = UnitId::INPUT.unit();
        for (digits, kept, rounded) in [
            ("0.18000000000000002", "0.18", true),
            ("1.0399999999999998", "1.04", true),
            ("0.04166666666666665", "0.041666667", true),
            ("0.0416666666666667", "0.041666667", true),
            ("0.0000000005", "0", true),
            ("0.0375", "0.0375", false),
        ] {
            let (rate, was_rounded) = Rate::parse_rounded(digits, tokens).unwrap();
            assert_eq!(
                (rate.of_block().to_string().as_str(), was_rounded),
                (kept, rounded),
                "{digits}"
            );
            assert!(rate.of_one().is_some());
        }
        assert!(Rate::parse_rounded("-0.1", tokens).is_err());
    }

    #[test]
    fn a_discount_leaves_a_whole_price_for_a_token() {
        let tokens = UnitId::INPUT.unit();
        for (price, ppm, left) in [
            ("3", 125_000, "2.625"),
            ("0.1", 333_333, "0.0666667"),
            ("0.000000001", 500_000, "0"),
            ("0.000000003", 500_000, "0.000000002"),
            ("15", 1_000_000, "0"),
            ("0", 100_000, "0"),
        ] {
            let rate = Rate::parse(price, tokens).unwrap().less(ppm);
            assert_eq!(rate.of_block().to_string(), left, "{price} less {ppm}");
            assert!(rate.of_one().is_some());
        }
        let hours = UnitId::of_price_key("audio_hours").unwrap().unit();
        assert_eq!(
            Rate::parse("0.111", hours)
                .unwrap()
                .less(100_000)
                .of_block()
                .to_string(),
            "0.0999"
        );
    }

    #[test]
    fn a_price_by_the_hour_is_rounded_once() {
        let hours = UnitId::of_price_key("audio_hours").unwrap().unit();
        let rate = Rate::parse("0.111", hours).unwrap();
        assert_eq!(rate.of_one(), None);
        assert_eq!(rate.cost(30_000, hours).unwrap().to_string(), "0.000925");
        assert_eq!(rate.cost(7_000, hours).unwrap().to_string(), "0.000215833333333");
        assert_eq!(rate.cost(5_000, hours).unwrap().to_string(), "0.000154166666667");
    }
}
