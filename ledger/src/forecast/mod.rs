//! The forecast of a series of daily cost: what is still to come, with an interval.
//!
//! ```text
//! daily cost ─► level of each weekday + drift of the weeks ─► expected, day by day
//!            └► the same, made at each earlier day ─► one-day errors ─► quantiles, scaled to the horizon ─► interval
//! ```
//!
//! Seasonal-naive by weekday with drift: a day is expected to cost what the same weekday cost in the mean of the last
//! [`WEEKS_OF_LEVEL`] weeks, moved on by the slope of the weekly sums. The slope is a least-squares one, drawn
//! towards zero by [`SLOPE_PRIOR`], because three weeks tell little about a trend. Below [`SEASONAL_DAYS_MIN`] days
//! there is a linear run rate instead, named as such and without an interval.
//!
//! Guarantees: integers only, so that the same series gives the same answer; a forecast is never below zero. It knows
//! no calendar but the week: holidays and planned changes are the reader's to add.

use spanledger_model::FemtoUsd;

/// Days that are looked back at: twelve weeks hold the trend, older ones another business.
pub const HISTORY_DAYS_MAX: usize = 84;
/// Days below which weekdays cannot be told apart: three of each.
pub const SEASONAL_DAYS_MIN: usize = 21;
/// Days of a week.
const WEEK: usize = 7;
/// Days before the first one that the method is tried on.
const TRIAL_DAYS_MIN: usize = 14;
/// Weeks whose mean is the level of a weekday: follows a change within a month, and halves the noise of one day.
const WEEKS_OF_LEVEL: usize = 4;
/// Twelve times the sum of squares at which half of the slope is believed: that of five weeks.
const SLOPE_PRIOR: i128 = 120;
/// Millionths: parts of a day, and the fixed point of variances.
const MILLION: i128 = 1_000_000;
/// The share of outcomes that an interval is meant to hold, in percent.
pub const INTERVAL_PERCENT_DEFAULT: u32 = 80;

/// How a forecast was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Level by weekday, with drift.
    Seasonal,
    /// The mean so far, going on: under three weeks of data.
    RunRate,
    /// Nothing to go by.
    NoData,
}

impl Method {
    /// Its name in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seasonal => "weekday_seasonal_with_drift",
            Self::RunRate => "linear_run_rate",
            Self::NoData => "no_data",
        }
    }
}

/// What is known, and how far to look.
#[derive(Debug, Clone)]
pub struct Series<'d> {
    /// Cost of whole days, oldest first; the last one is yesterday. The first one is the first with any usage.
    pub days: &'d [FemtoUsd],
    /// Cost of today so far.
    pub today: FemtoUsd,
    /// The part of today that is still to come, in millionths.
    pub today_left_ppm: u32,
    /// Whole days after today.
    pub n_days_ahead: usize,
    /// The share of outcomes that the interval is meant to hold, in percent, 1 to 99.
    pub interval_percent: u32,
}

/// What is still to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// How it was made.
    pub method: Method,
    /// Expected by day: the rest of today, then each whole day.
    pub days: Vec<FemtoUsd>,
    /// Their sum.
    pub expected: FemtoUsd,
    /// Lower and upper end of the interval for the sum; absent where too little is known.
    pub interval: Option<(FemtoUsd, FemtoUsd)>,
    /// Whole days that it rests on.
    pub n_history_days: usize,
}

/// Forecasts what a series still brings.
#[must_use]
pub fn forecast(series: &Series<'_>) -> Forecast {
    let days = &series.days[series.days.len().saturating_sub(HISTORY_DAYS_MAX)..];
    let left = i128::from(series.today_left_ppm).min(MILLION);
    if days.len() >= SEASONAL_DAYS_MIN {
        let model = Seasonal::fit(days);
        let mut ahead = vec![FemtoUsd(model.day(0) * left / MILLION)];
        ahead.extend((1..=series.n_days_ahead).map(|day| FemtoUsd(model.day(day))));
        let expected: FemtoUsd = ahead.iter().copied().sum();
        return Forecast {
            method: Method::Seasonal,
            interval: interval(days, expected, series, left),
            days: ahead,
            expected,
            n_history_days: days.len(),
        };
    }
    let elapsed = MILLION - left;
    let (method, rate) = match i128::try_from(days.len()) {
        Ok(n) if n > 0 => {
            let sum: i128 = days.iter().map(|cost| cost.0).sum();
            (
                Method::RunRate,
                ((sum + series.today.0) * MILLION / (n * MILLION + elapsed)).max(0),
            )
        }
        _ if elapsed > 0 && series.today.0 != 0 => (Method::RunRate, (series.today.0 * MILLION / elapsed).max(0)),
        _ => (Method::NoData, 0),
    };
    let mut ahead = vec![FemtoUsd(rate * left / MILLION)];
    ahead.extend(std::iter::repeat_n(FemtoUsd(rate), series.n_days_ahead));
    Forecast {
        method,
        expected: ahead.iter().copied().sum(),
        days: ahead,
        interval: None,
        n_history_days: days.len(),
    }
}

/// The method, fitted to a history.
struct Seasonal {
    /// Expected of the next days without drift, from today on.
    level: [i128; WEEK],
    /// The drift of a day in one step, as a fraction: two steps are a week.
    slope: (i128, i128),
    weeks_of_level: i128,
}

impl Seasonal {
    /// `days` has at least [`TRIAL_DAYS_MIN`].
    fn fit(days: &[FemtoUsd]) -> Self {
        let n = days.len();
        let weeks_of_level = (n / WEEK).min(WEEKS_OF_LEVEL);
        let mut level = [0_i128; WEEK];
        for (at, level) in level.iter_mut().enumerate() {
            let sum: i128 = (1..=weeks_of_level).map(|week| days[n - WEEK * week + at].0).sum();
            *level = sum / as_int(weeks_of_level);
        }
        let weeks = n / WEEK;
        // Twice the distance of a week from the middle one keeps the sums whole.
        let slope: i128 = (0..weeks)
            .map(|week| {
                let first = n - WEEK * (weeks - week);
                let sum: i128 = days[first..first + WEEK].iter().map(|cost| cost.0).sum();
                (2 * as_int(week) + 1 - as_int(weeks)) * sum
            })
            .sum();
        Self {
            level,
            slope: (6 * slope, 2 * as_int(WEEK) * (squares_of(weeks) + SLOPE_PRIOR)),
            weeks_of_level: as_int(weeks_of_level),
        }
    }

    /// Expected cost of the day `ahead` days after today.
    fn day(&self, ahead: usize) -> i128 {
        let drift = self.slope.0 * steps(ahead, self.weeks_of_level) / self.slope.1;
        (self.level[ahead % WEEK] + drift).max(0)
    }
}

/// Twice the weeks between the middle of the level and a day.
fn steps(ahead: usize, weeks_of_level: i128) -> i128 {
    2 * as_int(ahead / WEEK) + 1 + weeks_of_level
}

/// Twelve times the sum of squares of the distances of so many weeks from their middle.
fn squares_of(weeks: usize) -> i128 {
    let weeks = as_int(weeks);
    weeks * (weeks * weeks - 1)
}

/// Variance of the error of a sum of `ahead` days, in millionths of the variance of one day's noise: the noise of the
/// days, that of the levels (each is used again every week), and that of the slope.
fn variance(ahead: usize, n_history: usize) -> i128 {
    let weeks_of_level = as_int((n_history / WEEK).min(WEEKS_OF_LEVEL));
    let n = as_int(ahead);
    let squares = squares_of(n_history / WEEK);
    let reach: i128 = (0..ahead).map(|day| steps(day, weeks_of_level)).sum();
    let of_days = n * MILLION;
    let of_levels = n * n * MILLION / (as_int(WEEK) * weeks_of_level);
    let believed = squares + SLOPE_PRIOR;
    let of_slope = 12 * reach * reach * squares * MILLION / (28 * believed * believed);
    of_days + of_levels + of_slope
}

/// The interval around the expected sum: the empirical quantiles of the one-day errors that the method made in the
/// past, each measured by its own uncertainty, times the uncertainty of the whole sum.
fn interval(
    days: &[FemtoUsd],
    expected: FemtoUsd,
    series: &Series<'_>,
    left_ppm: i128,
) -> Option<(FemtoUsd, FemtoUsd)> {
    let mut errors: Vec<i128> = (TRIAL_DAYS_MIN..days.len())
        .map(|origin| {
            let error = days[origin].0 - Seasonal::fit(&days[..origin]).day(0);
            error * 1_000 / root(variance(1, origin))
        })
        .collect();
    errors.sort_unstable();
    let n = errors.len();
    let (without, with) = (
        variance(series.n_days_ahead, days.len()),
        variance(series.n_days_ahead + 1, days.len()),
    );
    let spread = root(without + (with - without) * left_ppm / MILLION);
    // Ranks of a prediction: of n errors and the one to come, the share lies between them.
    let percent = usize::try_from(series.interval_percent.clamp(1, 99)).ok()?;
    let low = ((n + 1) * (100 - percent) / 200).max(1);
    let high = ((n + 1) * (100 + percent)).div_ceil(200).min(n);
    let at = |rank: usize| errors.get(rank.checked_sub(1)?).map(|error| error * spread / 1_000);
    Some((
        FemtoUsd((expected.0 + at(low)?.min(0)).max(0)),
        FemtoUsd(expected.0 + at(high)?.max(0)),
    ))
}

/// The square root of millionths, in thousandths.
fn root(millionths: i128) -> i128 {
    i128::try_from(millionths.unsigned_abs().isqrt())
        .unwrap_or(i128::MAX)
        .max(1)
}

fn as_int(n: usize) -> i128 {
    i128::try_from(n).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests;
