//! The arithmetic of a change: the cost of one period turned into that of another, one step at a time.
//!
//! Pure: cells of two periods in, parts out. A cell is a group whose calls can be counted (a team's agent on a
//! model; a tool with its own price), with cost and units by bucket. Each step replaces one thing of the old period
//! by the new, in a fixed order: number of calls, their spread over cells, units a call, the spread of units over
//! buckets, price. A part is the difference that its step makes, so the parts of a cell sum to its change to the
//! last digit, whatever rounding the steps between needed (formulas and source: docs/cost-change.md).

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::Serialize;
use spanledger_model::FemtoUsd;

/// Cost and units of one bucket of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Charge {
    /// Effective cost; what is unpriced adds nothing.
    pub cost: FemtoUsd,
    /// Tokens, or what else the bucket counts; unpriced ones too.
    pub units: i64,
}

/// A cell in one period.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cell {
    /// Calls.
    pub calls: i64,
    /// By bucket.
    pub charges: BTreeMap<String, Charge>,
}

impl Cell {
    /// Its cost.
    #[must_use]
    pub fn cost(&self) -> FemtoUsd {
        self.charges.values().map(|charge| charge.cost).sum()
    }

    fn units(&self) -> i64 {
        self.charges.values().map(|charge| charge.units.max(0)).sum()
    }
}

/// The parts of a change. They sum to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts {
    /// More or fewer calls, each at the old average cost of all.
    pub volume: FemtoUsd,
    /// Calls that moved to dearer or cheaper teams, agents and models; what is new or gone among them.
    pub mix: FemtoUsd,
    /// More or fewer units (tokens) a call, at the old average price.
    pub context_size: FemtoUsd,
    /// Tokens that moved between buckets: cache reads, cache writes, fresh input, output.
    pub token_mix: FemtoUsd,
    /// The same usage at the new price instead of the old.
    pub price: FemtoUsd,
    /// Cost without calls to count, such as that of usage counters.
    pub uncounted: FemtoUsd,
}

impl Parts {
    /// Names and values, in the order of the steps.
    #[must_use]
    pub fn named(&self) -> [(&'static str, FemtoUsd); 6] {
        [
            ("volume", self.volume),
            ("mix", self.mix),
            ("context_size", self.context_size),
            ("token_mix", self.token_mix),
            ("price", self.price),
            ("uncounted", self.uncounted),
        ]
    }

    /// The change that they are the parts of.
    #[must_use]
    pub fn sum(&self) -> FemtoUsd {
        self.named().into_iter().map(|(_, part)| part).sum()
    }
}

impl AddAssign for Parts {
    fn add_assign(&mut self, other: Self) {
        self.volume += other.volume;
        self.mix += other.mix;
        self.context_size += other.context_size;
        self.token_mix += other.token_mix;
        self.price += other.price;
        self.uncounted += other.uncounted;
    }
}

impl Serialize for Parts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.named().map(|(name, part)| (name, part.to_string())))
    }
}

/// The parts of every cell's change. `before` and `after` are the cells of one class, whose calls count the same
/// thing: model calls, or calls of priced tools.
#[must_use]
pub fn parts<K: Ord + Clone>(before: &BTreeMap<K, Cell>, after: &BTreeMap<K, Cell>) -> BTreeMap<K, Parts> {
    let none = Cell::default();
    let keys: std::collections::BTreeSet<&K> = before.keys().chain(after.keys()).collect();
    let pairs: Vec<(&K, &Cell, &Cell)> = keys
        .into_iter()
        .map(|key| (key, before.get(key).unwrap_or(&none), after.get(key).unwrap_or(&none)))
        .collect();
    let counted = || pairs.iter().filter(|(_, old, new)| is_counted(old) && is_counted(new));
    let calls_before: i64 = counted().map(|(_, old, _)| old.calls).sum();
    let calls_after: i64 = counted().map(|(_, _, new)| new.calls).sum();
    pairs
        .iter()
        .map(|(key, old, new)| ((*key).clone(), of_cell(old, new, calls_before, calls_after)))
        .collect()
}

/// False where there is cost, but no call to divide it by.
fn is_counted(cell: &Cell) -> bool {
    cell.calls > 0 || cell.cost() == FemtoUsd::ZERO
}

fn of_cell(old: &Cell, new: &Cell, calls_before: i64, calls_after: i64) -> Parts {
    let (cost_before, cost_after) = (old.cost(), new.cost());
    let mut parts = Parts::default();
    if !is_counted(old) || !is_counted(new) {
        parts.uncounted = cost_after - cost_before;
        return parts;
    }
    if calls_before <= 0 {
        // There was nothing: no old average, no mix and no price to compare with.
        parts.volume = cost_after - cost_before;
        return parts;
    }
    let at_new_volume = scaled(cost_before, calls_after, calls_before);
    let (at_new_mix, at_new_size, at_new_tokens);
    if old.calls > 0 {
        at_new_mix = scaled(cost_before, new.calls, old.calls);
        at_new_tokens = new_units_at_old_prices(old, new);
        at_new_size = match old.units() {
            0 => at_new_tokens,
            units => scaled(cost_before, new.units(), units),
        };
    } else {
        // A new cell has no old figures: all of it is mix.
        (at_new_mix, at_new_size, at_new_tokens) = (cost_after, cost_after, cost_after);
    }
    parts.volume = at_new_volume - cost_before;
    parts.mix = at_new_mix - at_new_volume;
    parts.context_size = at_new_size - at_new_mix;
    parts.token_mix = at_new_tokens - at_new_size;
    parts.price = cost_after - at_new_tokens;
    parts
}

/// The new units at the old average price of their bucket; a bucket that is new, at its new price.
fn new_units_at_old_prices(old: &Cell, new: &Cell) -> FemtoUsd {
    let charges = new
        .charges
        .iter()
        .map(|(bucket, charge)| match old.charges.get(bucket) {
            Some(before) if before.units > 0 => scaled(before.cost, charge.units, before.units),
            _ => charge.cost,
        });
    charges.sum()
}

/// What the price part of a cell is by bucket: they sum to it. Nothing where the cell is new or cannot be counted.
#[must_use]
pub fn prices(old: &Cell, new: &Cell) -> BTreeMap<String, FemtoUsd> {
    if old.calls <= 0 || !is_counted(new) {
        return BTreeMap::new();
    }
    let charges = new.charges.iter().filter_map(|(bucket, charge)| {
        let before = old.charges.get(bucket).filter(|before| before.units > 0)?;
        let part = charge.cost - scaled(before.cost, charge.units, before.units);
        Some((bucket.clone(), part))
    });
    charges.collect()
}

/// Cost of a million units: what a price list would say.
#[must_use]
pub fn per_million(charge: Charge) -> Option<FemtoUsd> {
    (charge.units > 0).then(|| scaled(charge.cost, 1_000_000, charge.units))
}

/// `amount × numerator ÷ denominator`, rounded towards zero to 10⁻¹⁵ USD; the denominator is positive.
fn scaled(amount: FemtoUsd, numerator: i64, denominator: i64) -> FemtoUsd {
    let (numerator, denominator) = (i128::from(numerator), i128::from(denominator.max(1)));
    let (whole, rest) = (amount.0 / denominator, amount.0 % denominator);
    // The rest is below 2⁶³, so its product fits; the whole part does for any cost below 10¹³ USD times 10⁹.
    FemtoUsd(
        whole
            .saturating_mul(numerator)
            .saturating_add(rest * numerator / denominator),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn usd(text: &str) -> FemtoUsd {
        FemtoUsd::parse(text).unwrap()
    }

    fn cell(calls: i64, charges: &[(&str, i64, &str)]) -> Cell {
        let charges = charges.iter().map(|(bucket, units, cost)| {
            let charge = Charge {
                cost: usd(cost),
                units: *units,
            };
            ((*bucket).to_owned(), charge)
        });
        Cell {
            calls,
            charges: charges.collect(),
        }
    }

    fn one(old: Cell, new: Cell) -> Parts {
        parts(&BTreeMap::from([("a", old)]), &BTreeMap::from([("a", new)]))["a"]
    }

    #[test]
    fn each_part_is_found_when_it_alone_changes() {
        // 10 calls, 100 input and 10 output tokens each, at 0.01 and 0.05.
        let old = || cell(10, &[("input", 1_000, "10"), ("output", 100, "5")]);
        let volume = one(old(), cell(20, &[("input", 2_000, "20"), ("output", 200, "10")]));
        assert_eq!((volume.volume, volume.sum()), (usd("15"), usd("15")));
        let size = one(old(), cell(10, &[("input", 3_000, "30"), ("output", 300, "15")]));
        assert_eq!((size.context_size, size.sum()), (usd("30"), usd("30")));
        let price = one(old(), cell(10, &[("input", 1_000, "20"), ("output", 100, "4")]));
        assert_eq!((price.price, price.sum()), (usd("9"), usd("9")));
        let cached = one(old(), cell(10, &[("input", 600, "6"), ("output", 500, "25")]));
        assert_eq!((cached.token_mix, cached.sum()), (usd("16"), usd("16")));
        let counters = one(cell(0, &[("input", 5, "1")]), cell(0, &[("input", 9, "3")]));
        assert_eq!((counters.uncounted, counters.sum()), (usd("2"), usd("2")));
    }

    #[test]
    fn calls_that_move_to_a_dearer_model_are_mix_and_not_volume() {
        let before = BTreeMap::from([
            ("cheap", cell(8, &[("input", 80, "8")])),
            ("dear", cell(2, &[("input", 20, "20")])),
        ]);
        let after = BTreeMap::from([
            ("cheap", cell(2, &[("input", 20, "2")])),
            ("dear", cell(8, &[("input", 80, "80")])),
        ]);
        let mut sum = Parts::default();
        parts(&before, &after).into_values().for_each(|cell| sum += cell);
        assert_eq!(
            sum,
            Parts {
                mix: usd("54"),
                ..Parts::default()
            }
        );
    }

    #[test]
    fn what_was_unpriced_and_has_a_price_now_is_price() {
        let became = one(cell(1, &[("input", 100, "0")]), cell(1, &[("input", 100, "2")]));
        assert_eq!((became.price, became.sum()), (usd("2"), usd("2")));
    }

    #[test]
    fn from_nothing_and_to_nothing_all_is_volume() {
        let some = || BTreeMap::from([("a", cell(3, &[("input", 7, "1.000000000000001")]))]);
        let new = parts(&BTreeMap::new(), &some())["a"];
        assert_eq!(
            (new.volume, new.sum()),
            (usd("1.000000000000001"), usd("1.000000000000001"))
        );
        let gone = parts(&some(), &BTreeMap::new())["a"];
        assert_eq!(
            (gone.volume, gone.sum()),
            (usd("-1.000000000000001"), usd("-1.000000000000001"))
        );
    }

    #[test]
    fn the_parts_sum_to_the_change_of_every_cell_to_the_last_digit() {
        let mut state = 7_u64;
        let mut next = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for round in 0..2_000 {
            let mut period = || -> BTreeMap<u64, Cell> {
                let n_cells = next(6);
                let cells = (0..n_cells).map(|_| {
                    let key = next(8);
                    let n_buckets = next(4);
                    let charges = (0..n_buckets).map(|_| {
                        let charge = Charge {
                            cost: FemtoUsd(i128::from(next(1 << 30)) * i128::from(next(1 << 30)) - 5),
                            units: i64::try_from(next(10_000_000)).unwrap() - 3,
                        };
                        (next(5).to_string(), charge)
                    });
                    let charges = charges.collect();
                    let calls = i64::try_from(next(1_000)).unwrap() * i64::from(next(4) > 0);
                    (key, Cell { calls, charges })
                });
                cells.collect()
            };
            let (before, after) = (period(), period());
            for (key, parts) in parts(&before, &after) {
                let cost = |cells: &BTreeMap<u64, Cell>| cells.get(&key).map(Cell::cost).unwrap_or_default();
                assert_eq!(
                    parts.sum(),
                    cost(&after) - cost(&before),
                    "round {round}: {before:?} {after:?}"
                );
            }
        }
    }
}
