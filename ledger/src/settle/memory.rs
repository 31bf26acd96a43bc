//! Memory: what was evicted, as a set of tokens that may say yes by mistake and never says no by mistake.
//!
//! For each tenant and day (of a record's start) a growing Bloom filter holds the tokens of the records that are
//! in the lake but not in memory, with the hour, so that a hit names the hours to look in; those that may be asked
//! for at any time also without it, so that a day is asked once. A wrong yes costs a look at the lake. The filters together stay within [`BYTES_MAX`]: beyond it the
//! largest is folded in half, which makes it wrong more often, never incomplete.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::keys::{Held, Token};

/// Bytes of all filters together: 32 bits an entry hold 16 million, two to three million model calls.
pub const BYTES_MAX: usize = 64 << 20;
/// Bits for each entry: of ten thousand tokens less than one is taken for another, of a million with its hour.
const BITS_PER_ENTRY: usize = 32;
/// Bits set for an entry, all in one block of a cache line.
const BITS_SET: u32 = 7;
/// Words of a block: 512 bits.
const BLOCK_WORDS: usize = 8;
/// Blocks of a filter's first layer (4 KiB); each further layer is four times as large.
const FIRST_BLOCKS: usize = 64;
/// Blocks of the largest layer: 16 MiB.
const BLOCKS_MAX: usize = 1 << 18;
/// Nanoseconds of an hour.
const HOUR_NS: i64 = 3_600_000_000_000;
/// Hours of a day.
const DAY_HOURS: i64 = 24;

/// The hour of an instant, since the Unix epoch.
#[must_use]
pub fn hour_of(time_ns: i64) -> i64 {
    time_ns.div_euclid(HOUR_NS)
}

/// The hours of a day, both since the Unix epoch.
#[must_use]
pub fn hours_of_day(day: i64) -> RangeInclusive<i64> {
    let first = day.saturating_mul(DAY_HOURS);
    first..=first.saturating_add(DAY_HOURS - 1)
}

/// Tokens by tenant and day.
#[derive(Debug, Default)]
pub struct Memory {
    tenants: BTreeMap<String, BTreeMap<i64, Filter>>,
    n_bytes: usize,
}

impl Memory {
    /// Remembers a token of a record that started in an hour.
    pub fn insert(&mut self, tenant: &str, hour: i64, held: Held) {
        if !self.tenants.contains_key(tenant) {
            self.tenants.insert(tenant.to_owned(), BTreeMap::new());
        }
        let Some(days) = self.tenants.get_mut(tenant) else {
            return;
        };
        let filter = days.entry(hour.div_euclid(DAY_HOURS)).or_default();
        self.n_bytes += match held {
            Held::AtAnyTime(token) => filter.insert(spread(token)) + filter.insert(with_hour(token, hour)),
            Held::InTime(token) => filter.insert(with_hour(token, hour)),
        };
        while self.n_bytes > BYTES_MAX && self.fold_largest() {}
    }

    /// The hours in which records that hold a token at any time may have started.
    #[must_use]
    pub fn hours_with(&self, tenant: &str, token: Token) -> Vec<i64> {
        let alone = spread(token);
        let days = self.tenants.get(tenant).into_iter().flatten();
        days.filter(|(_, filter)| filter.may_hold(alone))
            .flat_map(|(day, filter)| {
                let first = day.saturating_mul(DAY_HOURS);
                let of_day = first..first.saturating_add(DAY_HOURS);
                of_day.filter(move |hour| filter.may_hold(with_hour(token, *hour)))
            })
            .collect()
    }

    /// Of some hours, those in which records that hold a token in time may have started.
    #[must_use]
    pub fn hours_of(&self, tenant: &str, token: Token, hours: RangeInclusive<i64>) -> Vec<i64> {
        let Some(days) = self.tenants.get(tenant) else {
            return Vec::new();
        };
        let may_hold = |hour: &i64| {
            let filter = days.get(&hour.div_euclid(DAY_HOURS));
            filter.is_some_and(|filter| filter.may_hold(with_hour(token, *hour)))
        };
        hours.filter(may_hold).collect()
    }

    /// Bytes of the filters.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    fn fold_largest(&mut self) -> bool {
        let layers = self.tenants.values_mut().flat_map(BTreeMap::values_mut);
        let largest = layers
            .flat_map(|filter| filter.layers.iter_mut())
            .max_by_key(|layer| layer.words.len());
        let Some(largest) = largest.filter(|layer| layer.words.len() > BLOCK_WORDS) else {
            return false;
        };
        self.n_bytes -= largest.fold();
        true
    }
}

/// A token's bits, well mixed.
fn spread(token: u64) -> u64 {
    // MurmurHash3's finaliser.
    let mut mixed = token;
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

fn with_hour(token: Token, hour: i64) -> u64 {
    spread(token ^ spread(hour.cast_unsigned()))
}

#[derive(Debug, Default)]
struct Filter {
    layers: Vec<Layer>,
}

impl Filter {
    /// Adds an entry; returns by how many bytes the filter grew.
    fn insert(&mut self, entry: u64) -> usize {
        if self.may_hold(entry) {
            return 0;
        }
        let mut grown = 0;
        if self.layers.last().is_none_or(Layer::is_full) {
            let n_blocks = (FIRST_BLOCKS << (2 * self.layers.len()).min(32)).min(BLOCKS_MAX);
            let layer = Layer::new(n_blocks);
            grown = layer.words.len() * 8;
            self.layers.push(layer);
        }
        if let Some(layer) = self.layers.last_mut() {
            layer.insert(entry);
        }
        grown
    }

    fn may_hold(&self, entry: u64) -> bool {
        self.layers.iter().rev().any(|layer| layer.may_hold(entry))
    }
}

/// A blocked Bloom filter whose number of blocks is a power of two.
#[derive(Debug)]
struct Layer {
    words: Vec<u64>,
    n_entries: usize,
    n_entries_max: usize,
}

impl Layer {
    fn new(n_blocks: usize) -> Self {
        Self {
            words: vec![0; n_blocks * BLOCK_WORDS],
            n_entries: 0,
            n_entries_max: n_blocks * BLOCK_WORDS * 64 / BITS_PER_ENTRY,
        }
    }

    fn is_full(&self) -> bool {
        self.n_entries >= self.n_entries_max
    }

    /// The words and bits of an entry: the low bits of its hash choose the block, the others the bits.
    fn places(&self, entry: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let n_blocks = (self.words.len() / BLOCK_WORDS) as u64;
        let block = usize::try_from(entry & (n_blocks - 1)).unwrap_or(0) * BLOCK_WORDS;
        let bits = spread(entry ^ 0x9e37_79b9_7f4a_7c15);
        (0..BITS_SET).map(move |number| {
            let bit = (bits >> (9 * number)) & 511;
            (block + usize::try_from(bit >> 6).unwrap_or(0), 1 << (bit & 63))
        })
    }

    fn insert(&mut self, entry: u64) {
        for (word, bit) in self.places(entry) {
            self.words[word] |= bit;
        }
        self.n_entries += 1;
    }

    fn may_hold(&self, entry: u64) -> bool {
        self.places(entry).all(|(word, bit)| self.words[word] & bit != 0)
    }

    /// Lays the upper half over the lower; returns the bytes that it gives back.
    fn fold(&mut self) -> usize {
        let half = self.words.len() / 2;
        let upper = self.words.split_off(half);
        for (lower, upper) in self.words.iter_mut().zip(&upper) {
            *lower |= upper;
        }
        self.words.shrink_to_fit();
        self.n_entries_max = self.n_entries_max.min(self.n_entries);
        half * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_is_found_in_its_hour_and_hardly_anything_else_is() {
        let mut memory = Memory::default();
        let hour = |number: u64| 494_000 + i64::try_from(number % 50).unwrap_or(0);
        let token = |number: u64| spread(number ^ 77);
        for number in 0..20_000_u64 {
            memory.insert("default", hour(number), Held::AtAnyTime(token(number)));
            memory.insert("default", hour(number), Held::InTime(token(number + 100_000)));
        }
        assert!((0..20_000).all(|number| memory.hours_with("default", token(number)).contains(&hour(number))));
        assert!((0..20_000).all(|number| {
            let near = hour(number) - 3..=hour(number) + 3;
            memory
                .hours_of("default", token(number + 100_000), near)
                .contains(&hour(number))
        }));
        let n_wrong = (1_000_000..1_020_000_u64)
            .filter(|number| !memory.hours_with("default", token(*number)).is_empty())
            .count();
        assert!(n_wrong < 3, "{n_wrong} of 20,000 tokens are taken for others");
        assert!(memory.hours_with("another", token(1)).is_empty());
    }

    #[test]
    fn a_filter_folded_in_half_forgets_nothing() {
        let mut layer = Layer::new(1_024);
        (0..10_000_u64).for_each(|entry| layer.insert(spread(entry)));
        let before = layer.words.len();
        while layer.words.len() > before / 8 {
            layer.fold();
        }
        assert!((0..10_000_u64).all(|entry| layer.may_hold(spread(entry))));
    }
}
