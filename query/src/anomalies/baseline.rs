//! What an hour or a day should have cost, and when one cost far more: seasonal median and MAD, in exact integers.
//!
//! Pure. A bucket is compared with the others of its season: the same hour of the same weekday, and the same hour of
//! working days or weekends, whichever is higher; without either the same hour (days likewise). Median and median absolute deviation ignore up to half
//! of outliers (Rousseeuw and Croux 1993), so an incident does not hide itself or its neighbours. The bucket judged
//! is never among those it is judged by. Deviations of the season are few, so they are not trusted to be small: the
//! scale is at least that of the whole series, and a tenth of what is expected.

use std::ops::Range;

/// A deviation of a normal distribution is 1.4826 times its MAD: in ten-thousandths.
const MAD_TO_DEVIATION: i128 = 14_826;
/// Others of a season needed to judge by it: below that a median is one of two.
pub const SEASON_MIN: usize = 3;
/// An alarm is this many scales above what is expected.
pub const SCALES: i128 = 6;
/// Other buckets with money needed to say how much a series usually deviates.
const ACTIVE_MIN: usize = 5;
/// Of a series with fewer, an alarm needs this many times the money: what is rare is no incident yet.
const RARE_FACTOR: i128 = 10;
/// The scale is at least this part of what is expected.
const RELATIVE_FLOOR: i128 = 10;

/// Width of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grain {
    /// An hour.
    Hour,
    /// A UTC day.
    Day,
}

impl Grain {
    /// Nanoseconds.
    #[must_use]
    pub fn ns(self) -> i64 {
        match self {
            Self::Hour => 3_600_000_000_000,
            Self::Day => 86_400_000_000_000,
        }
    }

    /// Name in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// Hour of the day (0 for days) and weekday (Monday is 0) of a bucket counted from 1970, a Thursday.
    fn season(self, bucket: i64) -> (i64, i64) {
        match self {
            Self::Hour => (bucket.rem_euclid(24), (bucket.div_euclid(24) + 3).rem_euclid(7)),
            Self::Day => (0, (bucket + 3).rem_euclid(7)),
        }
    }
}

/// A bucket that cost far more than expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alarm {
    /// Its index in the series.
    pub index: usize,
    /// What it cost.
    pub actual: i128,
    /// The median of its season.
    pub expected: i128,
    /// The deviation that is usual, or its floor. Never 0.
    pub scale: i128,
}

/// The buckets of `judged` that are [`SCALES`] scales and at least `impact_min` above what is expected. `values` begin
/// with the bucket `first`, counted from 1970; those that are not complete must not be among them.
#[must_use]
pub fn alarms(values: &[i128], first: i64, grain: Grain, judged: Range<usize>, impact_min: i128) -> Vec<Alarm> {
    let judged = judged.start.min(values.len())..judged.end.min(values.len());
    // Only money that could be an alarm is worth the work.
    if !values
        .get(judged.clone())
        .unwrap_or_default()
        .iter()
        .any(|value| *value >= impact_min)
    {
        return Vec::new();
    }
    let seasons = Seasons::new(values, first, grain);
    let residuals: Vec<Option<(i128, i128)>> = (0..values.len()).map(|index| seasons.expected(index)).collect();
    let active: Vec<(usize, i128)> = values
        .iter()
        .zip(&residuals)
        .enumerate()
        .filter_map(|(index, (value, expected))| {
            let (expected, _) = (*expected)?;
            (*value != 0 || expected != 0).then(|| (index, (value - expected).abs()))
        })
        .collect();
    let found = judged.filter_map(|index| {
        let actual = *values.get(index)?;
        let (expected, of_season) = (*residuals.get(index)?)?;
        let residual = actual - expected;
        if residual < impact_min {
            return None;
        }
        let others: Vec<i128> = active
            .iter()
            .filter(|(other, _)| *other != index)
            .map(|(_, residual)| *residual)
            .collect();
        if others.len() < ACTIVE_MIN && residual < impact_min.saturating_mul(RARE_FACTOR) {
            return None;
        }
        // A few others are no measure of what is usual: then it is the money alone that is large.
        let pooled = if others.len() < ACTIVE_MIN {
            0
        } else {
            deviation(others)
        };
        let scale = of_season.max(pooled).max(expected / RELATIVE_FLOOR).max(1);
        (residual > scale.saturating_mul(SCALES)).then_some(Alarm {
            index,
            actual,
            expected,
            scale,
        })
    });
    found.collect()
}

/// The values of each season.
struct Seasons<'v> {
    values: &'v [i128],
    first: i64,
    grain: Grain,
    /// Indexes by hour.
    by_hour: Vec<Vec<usize>>,
}

impl<'v> Seasons<'v> {
    fn new(values: &'v [i128], first: i64, grain: Grain) -> Self {
        let mut by_hour = vec![Vec::new(); 24];
        for index in 0..values.len() {
            let (hour, _) = grain.season(bucket(first, index));
            if let Some(indexes) = usize::try_from(hour).ok().and_then(|hour| by_hour.get_mut(hour)) {
                indexes.push(index);
            }
        }
        Self {
            values,
            first,
            grain,
            by_hour,
        }
    }

    /// Median of the bucket's season without the bucket, and the deviation in it. `None` where the season has too few.
    fn expected(&self, index: usize) -> Option<(i128, i128)> {
        let (hour, weekday) = self.grain.season(bucket(self.first, index));
        let same_hour = self.by_hour.get(usize::try_from(hour).ok()?)?;
        let others = |is_alike: &dyn Fn(i64) -> bool| -> Vec<i128> {
            let alike = same_hour
                .iter()
                .filter(|other| **other != index && is_alike(self.grain.season(bucket(self.first, **other)).1));
            alike.filter_map(|other| self.values.get(*other).copied()).collect()
        };
        let is_weekend = |weekday: i64| weekday >= 5;
        let of_weekday = judge(others(&|other| other == weekday));
        let of_sort = judge(others(&|other| is_weekend(other) == is_weekend(weekday)));
        // A weekday has few others, of which half may be silent by chance: it can raise what is usual, not lower it.
        match (of_weekday, of_sort) {
            (Some(weekday), Some(sort)) => Some((weekday.0.max(sort.0), weekday.1.max(sort.1))),
            (None, None) => judge(others(&|_| true)),
            (one, other) => one.or(other),
        }
    }
}

/// Median of a season and the deviation from it; none of a season of too few.
fn judge(season: Vec<i128>) -> Option<(i128, i128)> {
    if season.len() < SEASON_MIN {
        return None;
    }
    let median = median(season.clone());
    let deviation = deviation(season.into_iter().map(|value| (value - median).abs()).collect());
    Some((median, deviation))
}

fn bucket(first: i64, index: usize) -> i64 {
    first.saturating_add(i64::try_from(index).unwrap_or(i64::MAX))
}

/// The deviation that absolute residuals tell: 1.4826 times their median.
fn deviation(residuals: Vec<i128>) -> i128 {
    median(residuals).saturating_mul(MAD_TO_DEVIATION) / 10_000
}

/// The median; of an even number, the mean of the middle two. 0 of nothing.
#[must_use]
pub fn median(mut values: Vec<i128>) -> i128 {
    values.sort_unstable();
    let middle = values.len() / 2;
    match (
        values.get(middle),
        middle.checked_sub(1).and_then(|before| values.get(before)),
    ) {
        (Some(upper), Some(lower)) if values.len().is_multiple_of(2) => (upper + lower) / 2,
        (Some(upper), _) => *upper,
        (None, _) => 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const USD: i128 = 1_000_000_000_000_000;
    /// 2026-06-01T00:00Z, a Monday, in hours since 1970.
    const MONDAY: i64 = 494_520;

    /// Weeks of hours: office hours on working days cost `level`, with noise of up to a third, and sessions that come
    /// or do not.
    fn weeks(n_weeks: usize, level: i128, seed: u64) -> Vec<i128> {
        let mut state = seed;
        let mut next = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            i128::from((state >> 33) % below)
        };
        let hours = (0..n_weeks * 168).map(|hour| {
            let (of_day, day) = (hour % 24, hour / 24 % 7);
            let busy = if day < 5 && (8..18).contains(&of_day) { 10 } else { 1 };
            let noise = 700 + next(600);
            let came = if next(10) < 8 { 1 } else { 0 };
            level * busy * noise * came / 10_000
        });
        hours.collect()
    }

    #[test]
    fn june_the_first_is_a_monday() {
        assert_eq!(Grain::Hour.season(MONDAY), (0, 0));
        assert_eq!(Grain::Day.season(MONDAY / 24), (0, 0));
    }

    #[test]
    fn quiet_weeks_with_seasons_and_noise_raise_no_alarm() {
        let mut n_judged = 0;
        for seed in 0..60 {
            let values = weeks(5, USD * 20, seed);
            n_judged += 168;
            let found = alarms(&values, MONDAY, Grain::Hour, 4 * 168..5 * 168, USD);
            assert!(found.is_empty(), "seed {seed}: {found:?}");
        }
        assert!(n_judged > 10_000);
    }

    #[test]
    fn an_injected_incident_is_found_where_it_is_and_nowhere_else() {
        for seed in 0..40 {
            let mut values = weeks(5, USD * 20, seed);
            // At night, where the level of the day would hide nothing, and by day, where it would.
            values[4 * 168 + 27] += 30 * USD;
            values[4 * 168 + 60] += 90 * USD;
            let found = alarms(&values, MONDAY, Grain::Hour, 4 * 168..5 * 168, USD);
            let places: Vec<usize> = found.iter().map(|alarm| alarm.index - 4 * 168).collect();
            assert_eq!(places, [27, 60], "seed {seed}");
        }
    }

    #[test]
    fn little_money_is_no_alarm_however_unusual() {
        let mut values = vec![0; 5 * 168];
        values[4 * 168 + 3] = USD / 2;
        assert!(alarms(&values, MONDAY, Grain::Hour, 4 * 168..5 * 168, USD).is_empty());
        // A series that has nothing else needs ten times the money: what is rare is no incident yet.
        assert!(alarms(&values, MONDAY, Grain::Hour, 4 * 168..5 * 168, USD / 2).is_empty());
        assert_eq!(
            alarms(&values, MONDAY, Grain::Hour, 4 * 168..5 * 168, USD / 20).len(),
            1
        );
    }

    #[test]
    fn a_weekly_peak_is_no_alarm_and_a_new_one_is() {
        let mut values = vec![USD; 6 * 168];
        for week in 0..6 {
            values[week * 168 + 100] = 80 * USD;
        }
        values[5 * 168 + 101] = 80 * USD;
        let found = alarms(&values, MONDAY, Grain::Hour, 5 * 168..6 * 168, USD);
        assert_eq!(
            found.iter().map(|alarm| alarm.index).collect::<Vec<_>>(),
            [5 * 168 + 101]
        );
    }

    #[test]
    fn without_enough_history_nothing_is_judged() {
        let mut values = vec![USD; 3 * 24];
        values[60] = 1_000 * USD;
        assert!(alarms(&values, MONDAY, Grain::Hour, 0..72, USD).is_empty());
    }

    #[test]
    fn days_are_judged_by_their_weekday() {
        let mut days: Vec<i128> = (0..35)
            .map(|day| if day % 7 < 5 { 100 * USD } else { 5 * USD })
            .collect();
        days[33] = 100 * USD;
        let found = alarms(&days, MONDAY / 24, Grain::Day, 28..35, USD);
        assert_eq!(found.iter().map(|alarm| alarm.index).collect::<Vec<_>>(), [33]);
    }
}
