//! How often one address or one device may ask.
//!
//! Counts neighbours together, and remembers no more of them than fits into a few megabytes.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

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
/// A device renews once a month, and asks for content once for each package: many at once, and not
/// for ever, because each token is a row.
const DEVICE_AT_ONCE: NonZeroU32 = NonZeroU32::MIN.saturating_add(119);
const DEVICE_EVERY: Duration = Duration::from_secs(5);
/// A token that was given up is remembered until its end, by every gateway.
const REVOCATIONS_AT_ONCE: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
const REVOCATION_EVERY: Duration = Duration::from_secs(600);

/// The limits of one token service.
pub(in crate::site) struct Limits {
    registrations: Counted<IpAddr>,
    requests: Counted<IpAddr>,
    devices: Counted<String>,
    revocations: Counted<String>,
}

struct Counted<K: Hash + Eq + Clone> {
    limiter: Keyed<K>,
    seen: AtomicU32,
}

impl Limits {
    pub(in crate::site) fn new(registrations: NonZeroU32, requests: NonZeroU32) -> Self {
        Limits {
            registrations: Counted::new(Quota::per_minute(registrations)),
            requests: Counted::new(Quota::per_minute(requests)),
            devices: Counted::new(one_in(DEVICE_EVERY, DEVICE_AT_ONCE)),
            revocations: Counted::new(one_in(REVOCATION_EVERY, REVOCATIONS_AT_ONCE)),
        }
    }

    pub(in crate::site) fn register(&self, caller: &Caller) -> Result<(), Refused> {
        caller.neighbourhood().map_or(Ok(()), |who| self.registrations.take(&who))
    }

    pub(in crate::site) fn request(&self, caller: &Caller) -> Result<(), Refused> {
        caller.neighbourhood().map_or(Ok(()), |who| self.requests.take(&who))
    }

    /// Counted once the device has proved who it is: nobody can use up another's turns.
    pub(super) fn device(&self, device: &str) -> Result<(), Refused> {
        self.devices.take(&device.to_owned())
    }

    /// Counted besides: what a device gives up.
    pub(super) fn revocation(&self, device: &str) -> Result<(), Refused> {
        self.revocations.take(&device.to_owned())
    }
}

/// So many at once, and from then on one in each time.
fn one_in(time: Duration, at_once: NonZeroU32) -> Quota {
    Quota::with_period(time).unwrap_or(Quota::per_hour(at_once)).allow_burst(at_once)
}

impl<K: Hash + Eq + Clone> Counted<K> {
    fn new(quota: Quota) -> Self {
        let limiter = RateLimiter::keyed(quota);
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
        let taken = (0..20).filter(|_| limits.revocation("a").is_ok()).count();
        assert_eq!((taken, limits.revocation("b").is_ok()), (10, true));
        let taken = (0..200).filter(|_| limits.device("a").is_ok()).count();
        assert_eq!((taken, limits.device("b").is_ok()), (120, true));
    }
}
