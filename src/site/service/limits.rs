//! How often one address or one device may ask.
//!
//! Counts neighbours together, and remembers no more of them than fits into a few megabytes.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use governor::clock::DefaultClock;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use super::caller::Caller;
use super::refused::Refused;
use crate::grant_denial::GrantDenial;

type Keyed<K> = RateLimiter<K, DashMapStateStore<K>, DefaultClock>;

/// Whoever is asked for is remembered for the time of a quota; more of them at once are strangers
/// with many addresses.
const REMEMBERED_MAX: usize = 100_000;
/// How many requests pass between two looks at what can be forgotten.
const SWEEP_EVERY: u32 = 1_024;
/// A device renews once a month, and asks for content once for each package.
const DEVICE_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(119);

/// The limits of one token service.
pub(super) struct Limits {
    registrations: Counted<IpAddr>,
    requests: Counted<IpAddr>,
    devices: Counted<String>,
}

struct Counted<K: Hash + Eq + Clone> {
    limiter: Keyed<K>,
    seen: AtomicU32,
}

impl Limits {
    pub(super) fn new(registrations: NonZeroU32, requests: NonZeroU32) -> Self {
        Limits {
            registrations: Counted::new(registrations),
            requests: Counted::new(requests),
            devices: Counted::new(DEVICE_PER_MINUTE),
        }
    }

    pub(super) fn register(&self, caller: &Caller) -> Result<(), Refused> {
        caller.neighbourhood().map_or(Ok(()), |who| self.registrations.take(&who))
    }

    pub(super) fn request(&self, caller: &Caller) -> Result<(), Refused> {
        caller.neighbourhood().map_or(Ok(()), |who| self.requests.take(&who))
    }

    /// Counted once the device has proved who it is: nobody can use up another's turns.
    pub(super) fn device(&self, device: &str) -> Result<(), Refused> {
        self.devices.take(&device.to_owned())
    }
}

impl<K: Hash + Eq + Clone> Counted<K> {
    fn new(per_minute: NonZeroU32) -> Self {
        let limiter = RateLimiter::keyed(Quota::per_minute(per_minute));
        Counted { limiter, seen: AtomicU32::new(0) }
    }

    fn take(&self, who: &K) -> Result<(), Refused> {
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        if seen % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.limiter.retain_recent();
            if self.limiter.len() < REMEMBERED_MAX / 2 {
                self.limiter.shrink_to_fit();
            }
        }
        if self.limiter.len() > REMEMBERED_MAX {
            return Err(Refused::of(GrantDenial::RateLimited, "too many clients at once"));
        }
        self.limiter.check_key(who).map_err(|_| GrantDenial::RateLimited.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Caller {
        Caller { address: address.parse().ok(), ..Caller::default() }
    }

    #[test]
    fn one_address_is_stopped_and_the_others_are_not() {
        let three = NonZeroU32::new(3).unwrap();
        let limits = Limits::new(three, three);
        let taken = (0..10).filter(|_| limits.register(&from("2001:db8::1")).is_ok()).count();
        assert_eq!(taken, 3);
        assert!(limits.register(&from("2001:db8::2")).is_err(), "a neighbour in the same /64");
        assert!(limits.register(&from("2001:db8:1::1")).is_ok());
        assert!(limits.request(&from("2001:db8::1")).is_ok(), "registering is counted apart");
    }
}
