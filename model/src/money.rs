//! Money as an exact integer of femto-USD (10⁻¹⁵ USD), stored as `DECIMAL(38,15)`.
//!
//! List prices have six decimals per million tokens and a batch discount halves them, so a token's
//! price needs up to 13 decimals; 15 leave room. A float never holds money: text and floats are
//! read digit by digit.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub};

/// Decimal places of [`FemtoUsd`], and the scale of the `DECIMAL(38,15)` column that stores it.
pub const FEMTO_DIGITS: u32 = 15;

/// An exact amount of money, in 10⁻¹⁵ USD.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct FemtoUsd(pub i128);

impl FemtoUsd {
    /// Nothing. Not the same as an unknown amount, which is `None` wherever it can occur.
    pub const ZERO: Self = Self(0);
    /// One US dollar.
    pub const ONE_USD: Self = Self(1_000_000_000_000_000);

    /// Reads a decimal number such as `0.0513255`, `-12`, `9.5e-3`. Digits past the fifteenth decimal
    /// are rounded half to even. `None` for anything else, NaN and infinities included.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut value: i128 = 0;
        for byte in whole.bytes().chain(fraction.bytes()) {
            if !byte.is_ascii_digit() {
                return None;
            }
            value = value.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
        }
        let scale = exponent - i32::try_from(fraction.len()).ok()? + FEMTO_DIGITS as i32;
        let value = if scale >= 0 {
            value.checked_mul(10i128.checked_pow(u32::try_from(scale).ok()?)?)?
        } else {
            match 10i128.checked_pow(scale.unsigned_abs()) {
                Some(divisor) => divide_half_even(value, divisor),
                None => 0,
            }
        };
        Some(Self(if negative { -value } else { value }))
    }

    /// Reads a double as the shortest decimal that denotes it, which is what its sender wrote:
    /// `0.1` is exactly a tenth. `None` for NaN and infinities.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<Self> {
        value.is_finite().then(|| Self::parse(&format!("{value:e}"))).flatten()
    }

    /// The amount as a float, for charts and metrics only.
    #[must_use]
    pub fn to_f64_lossy(self) -> f64 {
        self.0 as f64 / Self::ONE_USD.0 as f64
    }

    /// The sum, or `None` where it leaves 128 bits.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

fn divide_half_even(value: i128, divisor: i128) -> i128 {
    let (quotient, remainder) = (value / divisor, value % divisor);
    match (remainder * 2).cmp(&divisor) {
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal if quotient % 2 != 0 => quotient + 1,
        _ => quotient,
    }
}

/// Splits `total` over `weights` in proportion, exactly: the parts are integers and sum to `total`.
/// What integer division leaves over goes one unit each to the largest remainders, the earlier part
/// first among equals (the largest-remainder or Hamilton method). With no weight at all, everything
/// goes to the first part.
#[must_use]
pub fn split_by_largest_remainder(total: i128, weights: &[u128]) -> Vec<i128> {
    let Some(n_weights) = (!weights.is_empty()).then_some(weights.len()) else {
        return Vec::new();
    };
    let sum: u128 = weights.iter().sum();
    if sum == 0 {
        let mut parts = vec![0; n_weights];
        parts[0] = total;
        return parts;
    }
    let magnitude = total.unsigned_abs();
    let mut parts: Vec<u128> = Vec::with_capacity(n_weights);
    let mut remainders: Vec<(u128, usize)> = Vec::with_capacity(n_weights);
    for (index, weight) in weights.iter().enumerate() {
        let (quotient, remainder) = multiply_divide(magnitude, *weight, sum);
        parts.push(quotient);
        remainders.push((remainder, index));
    }
    let left_over = magnitude - parts.iter().sum::<u128>();
    remainders.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    for (_, index) in remainders.iter().take(usize::try_from(left_over).unwrap_or(0)) {
        parts[*index] += 1;
    }
    let sign = if total < 0 { -1 } else { 1 };
    parts
        .into_iter()
        .map(|part| sign * i128::try_from(part).unwrap_or(i128::MAX))
        .collect()
}

/// `a × b ÷ divisor` as quotient and remainder, without overflow, for `b ≤ divisor`.
fn multiply_divide(a: u128, b: u128, divisor: u128) -> (u128, u128) {
    if let Some(product) = a.checked_mul(b) {
        return (product / divisor, product % divisor);
    }
    // Long multiplication in base two: at every step quotient and remainder stay in range.
    let (mut quotient, mut remainder) = (0u128, 0u128);
    for bit in (0..128).rev() {
        quotient <<= 1;
        let doubled = remainder << 1;
        let carry = remainder >> 127 == 1 || doubled >= divisor;
        remainder = if carry { doubled.wrapping_sub(divisor) } else { doubled };
        quotient += u128::from(carry);
        if (a >> bit) & 1 == 1 {
            let added = remainder.wrapping_add(b);
            let carry = added < remainder || added >= divisor;
            remainder = if carry { added.wrapping_sub(divisor) } else { added };
            quotient += u128::from(carry);
        }
    }
    (quotient, remainder)
}

impl fmt::Display for FemtoUsd {
    /// The exact decimal, without trailing zeroes: `0.0513255`, `-12`, `0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let unit = Self::ONE_USD.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        write!(f, "{}", magnitude / unit)?;
        let fraction = format!("{:015}", magnitude % unit);
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() {
            Ok(())
        } else {
            write!(f, ".{fraction}")
        }
    }
}

impl fmt::Debug for FemtoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} USD")
    }
}

impl Add for FemtoUsd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for FemtoUsd {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sub for FemtoUsd {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Neg for FemtoUsd {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Sum for FemtoUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimals_are_read_and_written_exactly() {
        for (text, femto) in [
            ("0.0513255", 51_325_500_000_000),
            ("1", 1_000_000_000_000_000),
            ("-0.5", -500_000_000_000_000),
            ("9.5e-3", 9_500_000_000_000),
            ("0.0000000000000005", 0),
            ("0.0000000000000015", 2),
        ] {
            assert_eq!(FemtoUsd::parse(text), Some(FemtoUsd(femto)), "{text}");
        }
        for text in ["", ".", "1.2.3", "NaN", "inf", "1,5", "0x1"] {
            assert_eq!(FemtoUsd::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_double_is_the_decimal_its_sender_wrote() {
        assert_eq!(
            FemtoUsd::from_f64(0.1).map(|cost| cost.to_string()).as_deref(),
            Some("0.1")
        );
        // 0.0080925 summed in doubles by its sender; fifteen decimals bring the sender's amount back.
        assert_eq!(
            FemtoUsd::from_f64(0.008_092_499_999_999_999),
            FemtoUsd::parse("0.0080925")
        );
        assert_eq!(FemtoUsd::from_f64(f64::NAN), None);
    }

    proptest! {
        #[test]
        fn the_parts_of_a_split_sum_to_the_whole(total in -10i128.pow(30)..10i128.pow(30), weights in prop::collection::vec(0u128..1u128 << 100, 1..40)) {
            let parts = split_by_largest_remainder(total, &weights);
            prop_assert_eq!(parts.iter().sum::<i128>(), total);
        }

        #[test]
        fn text_survives_a_round_trip(femto in any::<i64>()) {
            let amount = FemtoUsd(i128::from(femto));
            prop_assert_eq!(FemtoUsd::parse(&amount.to_string()), Some(amount));
        }
    }
}
