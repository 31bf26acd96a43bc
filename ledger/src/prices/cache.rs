//! Remembers which model a name was found to be, so that a repeated name costs one hash.
//!
//! Finding a model compares its name with hundreds of rules. The memory is a table of slots addressed by
//! hash: a later name takes over the slot of an earlier one, so it can neither grow nor need clearing.

use parking_lot::RwLock;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Slots; about 60 KB. A deployment meets tens of models, rarely hundreds.
const N_SLOTS: usize = 1024;

/// A longer name is looked up each time rather than kept.
const NAME_BYTES_MAX: usize = 256;

/// Answers by (provider, model), `None` being an answer too.
pub(super) struct MatchCache<T> {
    slots: Box<[RwLock<Option<Slot<T>>>]>,
}

struct Slot<T> {
    provider: Option<Box<str>>,
    model: Box<str>,
    answer: Option<T>,
}

impl<T: Copy> MatchCache<T> {
    pub(super) fn new() -> Self {
        Self {
            slots: (0..N_SLOTS).map(|_| RwLock::new(None)).collect(),
        }
    }

    /// The answer for these names, asked of `find` where it is not known.
    pub(super) fn get_or_find(
        &self,
        provider: Option<&str>,
        model: &str,
        find: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        let n_bytes = model.len() + provider.map_or(0, str::len);
        let seed = provider.map_or(0, |provider| xxh3_64(provider.as_bytes()));
        let place = xxh3_64_with_seed(model.as_bytes(), seed) as usize % N_SLOTS;
        let Some(slot) = self.slots.get(place).filter(|_| n_bytes <= NAME_BYTES_MAX) else {
            return find();
        };
        if let Some(known) = slot.read().as_ref()
            && *known.model == *model
            && known.provider.as_deref() == provider
        {
            return known.answer;
        }
        let answer = find();
        *slot.write() = Some(Slot {
            provider: provider.map(Box::from),
            model: model.into(),
            answer,
        });
        answer
    }
}

impl<T> std::fmt::Debug for MatchCache<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MatchCache")
            .field("n_slots", &self.slots.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn an_answer_is_found_once_and_never_mixed_up() {
        let cache = MatchCache::new();
        assert_eq!(cache.get_or_find(None, "a", || Some(1)), Some(1));
        assert_eq!(cache.get_or_find(None, "a", || panic!("known")), Some(1));
        assert_eq!(cache.get_or_find(Some(""), "a", || None), None);
        assert_eq!(
            cache.get_or_find(Some(""), "a", || panic!("known, although nothing was found")),
            None
        );
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        assert_eq!(cache.get_or_find(None, &long, || Some(2)), Some(2));
        assert_eq!(cache.get_or_find(None, &long, || Some(3)), Some(3));
        for n in 0..10 * N_SLOTS {
            assert_eq!(cache.get_or_find(Some("p"), &n.to_string(), || Some(n)), Some(n));
            assert_eq!(cache.get_or_find(Some("p"), &n.to_string(), || Some(n)), Some(n));
        }
    }
}
