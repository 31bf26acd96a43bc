//! The demo's own random numbers: the same on every machine and in every release.
//!
//! SplitMix64 (Steele, Lea, Flood 2014), keyed by a text, so that one session's numbers do not depend on
//! how many were drawn for another.

use spanledger_model::ids::hash_parts;

/// Release of the generator: a change of the traffic changes the numbers on purpose.
const SEED: &[u8] = b"spanledger demo 1";

/// A deterministic stream of numbers.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The stream of a key.
    pub fn keyed(parts: &[&str]) -> Self {
        let mut bytes: Vec<&[u8]> = vec![SEED];
        bytes.extend(parts.iter().map(|part| part.as_bytes()));
        let hash = hash_parts(&bytes);
        let mut state = [0; 8];
        state.copy_from_slice(&hash[..8]);
        Self(u64::from_le_bytes(state))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number of `low..=high`.
    pub fn between(&mut self, (low, high): (i64, i64)) -> i64 {
        let width = high.saturating_sub(low).max(0).unsigned_abs().saturating_add(1);
        low + i64::try_from(self.bits() % width).unwrap_or(0)
    }

    /// True in `permille` of a thousand cases.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.bits() % 1000 < permille
    }

    /// One of `items`, which is not empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let count = u64::try_from(items.len()).unwrap_or(1).max(1);
        &items[usize::try_from(self.bits() % count).unwrap_or(0)]
    }

    /// Hexadecimal digits for an id of a provider.
    pub fn hex(&mut self, digits: usize) -> String {
        let mut text = String::new();
        while text.len() < digits {
            text.push_str(&format!("{:016x}", self.bits()));
        }
        text.truncate(digits);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_of_a_key_is_pinned() {
        let mut rng = Rng::keyed(&["a", "b"]);
        let mut again = Rng::keyed(&["a", "b"]);
        assert_eq!(rng.bits(), again.bits());
        assert_ne!(Rng::keyed(&["ab"]).bits(), Rng::keyed(&["a", "b"]).bits());
    }

    #[test]
    fn bounds_are_inclusive_and_kept() {
        let mut rng = Rng::keyed(&["bounds"]);
        let drawn: Vec<i64> = (0..1000).map(|_| rng.between((3, 6))).collect();
        assert!(drawn.iter().all(|value| (3..=6).contains(value)));
        assert!(drawn.contains(&3) && drawn.contains(&6));
    }
}
