//! How much one tenant may ask in a time, so that one that floods does not slow the others down.
//!
//! Sits behind authentication in each interface: a request of a known tenant is taken or told when to come back.
//! It is the generic cell rate algorithm: of each tenant one instant is kept, at which all that it asked is paid
//! off; a request moves that instant on by its cost, and is refused where it would lie further ahead than the
//! burst takes. It counts what the caller tells it (requests, bytes); it queues nothing. Before authentication there
//! is no tenant: who brings credentials that are refused is one of [`Strangers`], who wait for their answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use spanledger_model::{Clock, TenantId};

use crate::AccessError;

/// The shortest pause of a refusal, and what the longest is more.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_SPREAD_MS: u64 = 500;
/// Tenants that are remembered. Tenants come from credentials only; those who owe nothing are forgotten first.
const TENANTS_MAX: usize = 16_384;
const SECOND_NS: u128 = 1_000_000_000;
/// Refused credentials that are answered at once: every client of OAuth begins with one, and a mistyped key in a
/// thousand exporters that send every minute is fewer.
pub const STRANGERS: Rate = Rate {
    per_second: 50,
    burst: 200,
};

/// How long to hold a refusal back. A connection sends its next request after the answer, so one that floods costs
/// little: without it, refusing alone would take the processor from the others. Each pause is another one, or all
/// connections of a flood would ask again at the same moment.
#[must_use]
pub fn refusal_pause() -> Duration {
    static N_REFUSED: AtomicU32 = AtomicU32::new(0);
    // Multiples of the golden ratio, as parts of 2³², are spread evenly.
    let part = N_REFUSED.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9);
    PAUSE_MIN + Duration::from_millis((u64::from(part) * PAUSE_SPREAD_MS) >> 32)
}

/// A steady rate, and how much may come at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Units a second; 0 is no limit.
    pub per_second: u64,
    /// Units at once.
    pub burst: u64,
}

/// One limit, by tenant. Clones share it.
#[derive(Debug, Clone)]
pub struct Rates {
    rate: Rate,
    clock: Arc<dyn Clock>,
    paid_off_ns: Arc<Mutex<HashMap<TenantId, i64>>>,
}

impl Rates {
    /// A limit that nobody has used yet.
    #[must_use]
    pub fn new(rate: Rate, clock: Arc<dyn Clock>) -> Self {
        Self {
            rate,
            clock,
            paid_off_ns: Arc::default(),
        }
    }

    /// Takes `amount` units of a tenant. More than the burst is taken where nothing is owed, or it never could be.
    ///
    /// # Errors
    /// How long to wait before the same is taken.
    pub fn take(&self, tenant: &TenantId, amount: u64) -> Result<(), Duration> {
        if self.rate.per_second == 0 {
            return Ok(());
        }
        let now = self.clock.now_ns();
        let mut paid_off = self.paid_off_ns.lock();
        let then = self.rate.paid_off(paid_off.get(tenant).copied(), now, amount)?;
        if paid_off.len() >= TENANTS_MAX && !paid_off.contains_key(tenant) {
            paid_off.retain(|_, at| *at > now);
        }
        paid_off.insert(tenant.clone(), then);
        Ok(())
    }
}

impl Rate {
    /// When everything is paid off, `amount` more included, in nanoseconds as `now`.
    fn paid_off(self, paid_off: Option<i64>, now: i64, amount: u64) -> Result<i64, Duration> {
        let cost = self.time_of(amount);
        let burst = self.time_of(self.burst.max(1));
        // Not further ahead than a burst: a clock that was set back must not lock a tenant out.
        let start = paid_off.map_or(now, |at| at.clamp(now, now.saturating_add(burst)));
        let wait = (start - now) - (burst - cost.min(burst));
        match wait > 0 {
            true => Err(Duration::from_nanos(wait.unsigned_abs())),
            false => Ok(start.saturating_add(cost)),
        }
    }

    fn time_of(self, amount: u64) -> i64 {
        let ns = u128::from(amount) * SECOND_NS / u128::from(self.per_second);
        i64::try_from(ns).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
    }
}

/// Credentials that were refused, of all clients together: nobody knows whose they are. Clones share it.
#[derive(Debug, Clone)]
pub struct Strangers {
    clock: Arc<dyn Clock>,
    paid_off_ns: Arc<Mutex<Option<i64>>>,
}

impl Strangers {
    /// Nobody was refused yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            paid_off_ns: Arc::default(),
        }
    }

    /// What a credential came to. Where that is a refusal it is counted, and held back ([`refusal_pause`]) where there
    /// are more than [`STRANGERS`].
    ///
    /// # Errors
    /// That of `identified`.
    pub async fn hold_back<T>(&self, identified: Result<T, AccessError>) -> Result<T, AccessError> {
        if let Err(AccessError::Unauthenticated(_)) = &identified
            && !self.is_usual()
        {
            tokio::time::sleep(refusal_pause()).await;
        }
        identified
    }

    fn is_usual(&self) -> bool {
        let mut paid_off = self.paid_off_ns.lock();
        match STRANGERS.paid_off(*paid_off, self.clock.now_ns(), 1) {
            Ok(then) => {
                *paid_off = Some(then);
                true
            }
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::AtomicI64;

    use super::*;
    use crate::Principal;

    #[derive(Debug, Default)]
    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now_ns(&self) -> i64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn pauses_are_bounded_and_spread() {
        let mut pauses: Vec<Duration> = (0..1_000).map(|_| refusal_pause()).collect();
        pauses.sort();
        assert!(pauses[0] >= PAUSE_MIN && pauses[999] < PAUSE_MIN + Duration::from_millis(PAUSE_SPREAD_MS));
        let within = |ms: u64| {
            pauses
                .iter()
                .filter(|pause| **pause < Duration::from_millis(ms))
                .count()
        };
        assert!((450..550).contains(&within(500)), "{}", within(500));
    }

    #[test]
    fn a_tenant_gets_its_burst_then_its_rate_and_others_theirs() {
        let clock = Arc::new(Hand::default());
        let rate = Rate {
            per_second: 10,
            burst: 5,
        };
        let rates = Rates::new(rate, Arc::clone(&clock) as Arc<dyn Clock>);
        let (a, b) = (Principal::local_of("a"), Principal::local_of("b"));
        for _ in 0..5 {
            rates.take(a.tenant(), 1).unwrap();
        }
        let wait = rates.take(a.tenant(), 1).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        rates.take(b.tenant(), 1).unwrap();
        clock.0.fetch_add(100_000_000, Ordering::Relaxed);
        rates.take(a.tenant(), 1).unwrap();
        assert!(rates.take(a.tenant(), 1).is_err());
        // ten seconds on, the burst is there again and no more than that
        clock.0.fetch_add(10_000_000_000, Ordering::Relaxed);
        assert_eq!((0..20).filter(|_| rates.take(a.tenant(), 1).is_ok()).count(), 5);
        // set back by a day, it is locked out for no longer than a burst takes
        clock.0.fetch_sub(86_400_000_000_000, Ordering::Relaxed);
        assert!(rates.take(a.tenant(), 1).unwrap_err() <= Duration::from_millis(500));
    }

    #[test]
    fn strangers_are_answered_at_once_until_they_are_many() {
        let clock = Arc::new(Hand::default());
        let strangers = Strangers::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let n_usual = || (0..1_000).filter(|_| strangers.is_usual()).count();
        assert_eq!(n_usual(), 200);
        clock.0.fetch_add(1_000_000_000, Ordering::Relaxed);
        assert_eq!(n_usual(), 50);
    }

    #[test]
    fn what_is_larger_than_the_burst_is_taken_when_nothing_is_owed() {
        let rate = Rate {
            per_second: 10,
            burst: 5,
        };
        let rates = Rates::new(rate, Arc::new(Hand::default()));
        let tenant = Principal::local().tenant().clone();
        rates.take(&tenant, 50).unwrap();
        assert!(rates.take(&tenant, 1).is_err());
        let unlimited = Rates::new(
            Rate {
                per_second: 0,
                burst: 0,
            },
            Arc::new(Hand::default()),
        );
        assert!((0..100).all(|_| unlimited.take(&tenant, 1_000).is_ok()));
    }
}
