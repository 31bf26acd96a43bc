//! Forecasts on generated series: weeks that repeat, trends, run rates, and how often the interval holds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

const USD: i128 = 1_000_000_000_000_000;

/// Numbers that repeat: splitmix64, as fractions below one.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Nearly normal, with variance 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() - 6.0
    }
}

fn ahead(days: &[FemtoUsd], n_days_ahead: usize) -> Forecast {
    forecast(&Series {
        days,
        today: FemtoUsd::ZERO,
        today_left_ppm: 1_000_000,
        n_days_ahead,
        interval_percent: INTERVAL_PERCENT_DEFAULT,
    })
}

fn usd(days: impl IntoIterator<Item = i128>) -> Vec<FemtoUsd> {
    days.into_iter().map(|day| FemtoUsd(day * USD)).collect()
}

#[test]
fn a_week_that_repeats_is_forecast_exactly() {
    let week = [50, 40, 60, 40, 30, 5, 3];
    let days = usd((0..35).map(|day| week[day % 7]));
    let forecast = ahead(&days, 9);
    assert_eq!(forecast.method, Method::Seasonal);
    assert_eq!(forecast.days, usd((35..45).map(|day| week[day % 7])));
    assert_eq!(forecast.interval, Some((forecast.expected, forecast.expected)));
}

#[test]
fn a_trend_is_followed_the_more_the_longer_it_is_known() {
    let grows = |n: i128| usd((0..n).map(|day| 100 + day));
    let error = |n: i128| {
        let expected = ahead(&grows(n), 13).expected;
        let actual: i128 = (n..n + 14).map(|day| 100 + day).sum();
        (actual * USD - expected.0).abs() * 1_000 / (actual * USD)
    };
    assert!(error(84) < error(42) && error(42) < error(28) && error(28) < error(21));
    assert!(error(84) < 10, "{} per mille", error(84));
}

#[test]
fn under_three_weeks_it_is_a_run_rate_and_says_so() {
    let forecast = forecast(&Series {
        days: &usd([10, 20, 30]),
        today: FemtoUsd(10 * USD),
        today_left_ppm: 500_000,
        n_days_ahead: 4,
        interval_percent: 80,
    });
    assert_eq!((forecast.method, forecast.interval), (Method::RunRate, None));
    // 70 USD in 3.5 days.
    assert_eq!(forecast.days, usd([10, 20, 20, 20, 20]));
    let nothing = ahead(&[], 4);
    assert_eq!((nothing.method, nothing.expected), (Method::NoData, FemtoUsd::ZERO));
}

#[test]
fn the_interval_covers_about_its_share_of_generated_months() {
    const PATTERN: [f64; 7] = [1.0, 1.1, 1.05, 1.1, 0.9, 0.3, 0.25];
    const TRIALS: usize = 200;
    let mut all = (0_usize, 0_usize);
    for (seed, trend, noise) in [(1, 0.0, 0.25), (2, 0.0, 0.5), (3, 0.003, 0.25), (4, -0.003, 0.25)] {
        for n_history in [28, 42, 84] {
            for n_ahead in [5, 15, 30] {
                let mut random = Noise(seed);
                let covered = (0..TRIALS)
                    .filter(|_| {
                        let cost = |day: usize, random: &mut Noise| {
                            let base = 100.0 * PATTERN[day % 7] * (1.0 + trend * day as f64);
                            FemtoUsd((base * (1.0 + noise * random.normal()).max(0.0) * USD as f64) as i128)
                        };
                        let days: Vec<FemtoUsd> = (0..n_history).map(|day| cost(day, &mut random)).collect();
                        let actual: FemtoUsd = (n_history..n_history + n_ahead).map(|day| cost(day, &mut random)).sum();
                        let (low, high) = ahead(&days, n_ahead - 1).interval.unwrap();
                        (low..=high).contains(&actual)
                    })
                    .count();
                // Each kind of series within reason, all together near what is said.
                assert!(
                    (TRIALS * 60 / 100..=TRIALS * 98 / 100).contains(&covered),
                    "{covered} of {TRIALS}: trend {trend}, noise {noise}, {n_history} days known, {n_ahead} ahead"
                );
                all = (all.0 + covered, all.1 + TRIALS);
            }
        }
    }
    let percent = all.0 * 100 / all.1;
    assert!((74..=88).contains(&percent), "{percent} % of all, meant are 80");
}
