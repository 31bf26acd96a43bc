//! Bounds on what is in flight: requests and the bytes of their bodies.
//!
//! A request takes a slot, then reserves bytes as it reads, inflates and decodes. Nothing waits: where no room
//! is left the sender is told so (Busy) and comes back, so that a full server neither grows nor deadlocks.
//! A declared Content-Length reserves nothing, because it costs nothing to claim.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::limits::Limits;

/// Semaphore permits count KiB, so that any budget fits.
const UNIT_BYTES: usize = 1024;
/// Reservations grow by this much, to keep the semaphore out of small requests' way.
const STEP_BYTES: usize = 64 * UNIT_BYTES;

/// What may be in flight. Cheap to clone; clones share the bounds.
#[derive(Debug, Clone)]
pub struct Admission {
    bytes: Arc<Semaphore>,
    bytes_max: usize,
    requests: Arc<Semaphore>,
    requests_max: usize,
}

impl Admission {
    /// Bounds as the limits say.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let units = limits
            .bodies_in_flight_bytes_max
            .div_ceil(UNIT_BYTES)
            .min(Semaphore::MAX_PERMITS);
        let requests_max = limits.requests_in_flight_max.min(Semaphore::MAX_PERMITS);
        Self {
            bytes: Arc::new(Semaphore::new(units)),
            bytes_max: units * UNIT_BYTES,
            requests: Arc::new(Semaphore::new(requests_max)),
            requests_max,
        }
    }

    /// Takes a request's slot, given back when it is dropped.
    pub(crate) fn enter(&self) -> Result<Ticket> {
        let slot = Arc::clone(&self.requests).try_acquire_owned().map_err(|_| {
            Error::busy(format!(
                "{} requests are in flight already; send this one again later",
                self.requests_max
            ))
        })?;
        Ok(Ticket {
            _slot: slot,
            reservation: self.reserve(0)?,
        })
    }

    /// Reserves bytes, given back when the reservation is dropped.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<Reservation> {
        let permit = take(&self.bytes, 0)?;
        let mut reservation = Reservation {
            pool: Arc::clone(&self.bytes),
            permit,
            used: 0,
            held: 0,
        };
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    /// Refuses a declared length that finds no room now, before any of it is read.
    pub(crate) fn has_room(&self, bytes: usize) -> Result<()> {
        if bytes.div_ceil(UNIT_BYTES) <= self.bytes.available_permits() {
            Ok(())
        } else {
            Err(full())
        }
    }

    /// Bytes of bodies in flight.
    #[must_use]
    pub fn bytes_in_flight(&self) -> usize {
        self.bytes_max
            .saturating_sub(self.bytes.available_permits() * UNIT_BYTES)
    }

    /// Requests in flight.
    #[must_use]
    pub fn requests_in_flight(&self) -> usize {
        self.requests_max.saturating_sub(self.requests.available_permits())
    }
}

/// A request's place: its slot and its bytes.
#[derive(Debug)]
pub(crate) struct Ticket {
    _slot: OwnedSemaphorePermit,
    pub(crate) reservation: Reservation,
}

/// Bytes held by one request.
#[derive(Debug)]
pub(crate) struct Reservation {
    pool: Arc<Semaphore>,
    permit: OwnedSemaphorePermit,
    used: usize,
    held: usize,
}

impl Reservation {
    /// Adds bytes.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<()> {
        self.used = self.used.saturating_add(bytes);
        if self.used > self.held {
            let more = (self.used - self.held).div_ceil(STEP_BYTES).saturating_mul(STEP_BYTES);
            self.permit.merge(take(&self.pool, more / UNIT_BYTES)?);
            self.held += more;
        }
        Ok(())
    }
}

fn take(pool: &Arc<Semaphore>, units: usize) -> Result<OwnedSemaphorePermit> {
    let units = u32::try_from(units).map_err(|_| full())?;
    Arc::clone(pool).try_acquire_many_owned(units).map_err(|_| full())
}

fn full() -> Error {
    Error::busy("the memory for requests in flight is taken; send this one again later")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::error::ErrorKind;

    fn admission(bytes: usize, requests: usize) -> Admission {
        Admission::new(&Limits {
            bodies_in_flight_bytes_max: bytes,
            requests_in_flight_max: requests,
            ..Limits::default()
        })
    }

    #[test]
    fn a_full_budget_is_busy_until_a_reservation_is_dropped() {
        let admission = admission(256 * 1024, 8);
        let held = admission.reserve(200 * 1024).unwrap();
        assert_eq!(admission.bytes_in_flight(), 256 * 1024);
        assert_eq!(admission.reserve(1).unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(admission.has_room(1).unwrap_err().kind(), ErrorKind::Busy);
        drop(held);
        assert_eq!(admission.bytes_in_flight(), 0);
        assert!(admission.reserve(1).is_ok());
    }

    #[test]
    fn requests_beyond_the_bound_are_busy() {
        let admission = admission(1024 * 1024, 1);
        let first = admission.enter().unwrap();
        assert_eq!(admission.enter().unwrap_err().kind(), ErrorKind::Busy);
        drop(first);
        assert!(admission.enter().is_ok());
    }
}
