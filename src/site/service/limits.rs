//! The rate limits of the token service, by address and by device.
//!
//! Counts a /64 as one address, and authenticated requests apart from unauthenticated ones: an
//! attacker behind the same address cannot exhaust a client's limit. Memory is bounded to a few
//! megabytes.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::caller::Caller;
use super::refused::ServiceRefusal;
use crate::grant_denial::GrantDenial;
use crate::rate::{Exceeded, Rate};

/// A device renews once a month, and asks for content once for each package: a large burst is
/// allowed, but not a high rate, because each token is a row in the store.
const DEVICE_AT_ONCE: NonZeroU32 = NonZeroU32::MIN.saturating_add(119);
const DEVICE_EVERY: Duration = Duration::from_secs(5);
/// Every gateway keeps a revoked token in memory until it expires.
const REVOCATIONS_AT_ONCE: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
const REVOCATION_EVERY: Duration = Duration::from_secs(600);

/// The allowed attempts of an address, as a multiple of its limits for requests and registrations:
/// a client that authenticates gets through unless others behind its address try that often.
const TRIES: u32 = 10;

/// The rate limits of one token service.
pub(in crate::site) struct ServiceLimits {
    tries: Rate<IpAddr>,
    failures: Rate<IpAddr>,
    registrations: Rate<IpAddr>,
    requests: Rate<IpAddr>,
    devices: Rate<String>,
    revocations: Rate<String>,
}

impl ServiceLimits {
    pub(in crate::site) fn new(registrations: NonZeroU32, requests: NonZeroU32) -> Self {
        let tries = requests.saturating_add(registrations.get());
        ServiceLimits {
            tries: Rate::per_minute(
                tries.saturating_mul(NonZeroU32::MIN.saturating_add(TRIES - 1)),
            ),
            failures: Rate::per_minute(requests),
            registrations: Rate::per_minute(registrations),
            requests: Rate::per_minute(requests),
            devices: Rate::one_in(DEVICE_EVERY, DEVICE_AT_ONCE),
            revocations: Rate::one_in(REVOCATION_EVERY, REVOCATIONS_AT_ONCE),
        }
    }

    /// Counted before any check: bounds the work of verifying proofs.
    pub(in crate::site) fn attempt(&self, caller: &Caller) -> Result<(), ServiceRefusal> {
        take(&self.tries, caller)
    }

    /// Counts an unauthenticated request. If its address has exceeded the limit, returns that
    /// refusal instead.
    pub(super) fn failed(&self, caller: &Caller, refused: ServiceRefusal) -> ServiceRefusal {
        take(&self.failures, caller).err().unwrap_or(refused)
    }

    /// Counted after the registration's credential is accepted.
    pub(in crate::site) fn register(&self, caller: &Caller) -> Result<(), ServiceRefusal> {
        take(&self.registrations, caller)
    }

    /// Counted after the client has authenticated.
    pub(in crate::site) fn request(&self, caller: &Caller) -> Result<(), ServiceRefusal> {
        take(&self.requests, caller)
    }

    /// Counted after the device has authenticated: a client cannot exhaust another device's limit.
    pub(super) fn device(&self, device: &str) -> Result<(), ServiceRefusal> {
        told(self.devices.take(&device.to_owned()))
    }

    /// The additional limit for revocations by a device.
    pub(super) fn revocation(&self, device: &str) -> Result<(), ServiceRefusal> {
        told(self.revocations.take(&device.to_owned()))
    }
}

fn take(rate: &Rate<IpAddr>, caller: &Caller) -> Result<(), ServiceRefusal> {
    caller.neighbourhood().map_or(Ok(()), |who| told(rate.take(&who)))
}

fn told(taken: Result<(), Exceeded>) -> Result<(), ServiceRefusal> {
    taken.map_err(|exceeded| match exceeded {
        Exceeded::Turns => GrantDenial::RateLimited.into(),
        Exceeded::Crowd => ServiceRefusal::of(GrantDenial::RateLimited, "too many clients at once"),
    })
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
        let limits = ServiceLimits::new(three, three);
        let taken = (0..10).filter(|_| limits.register(&from("2001:db8::1")).is_ok()).count();
        assert_eq!(taken, 3);
        assert!(limits.register(&from("2001:db8::2")).is_err(), "a neighbour in the same /64");
        assert!(limits.register(&from("2001:db8:1::1")).is_ok());
        assert!(limits.request(&from("2001:db8::1")).is_ok(), "registering is counted apart");
        let failed = || limits.failed(&from("192.0.2.1"), GrantDenial::GrantType.into()).denial;
        let told: Vec<_> = (0..5).map(|_| failed()).collect();
        let (own, limited) = (GrantDenial::GrantType, GrantDenial::RateLimited);
        assert_eq!(told, [own, own, own, limited, limited]);
        assert!(limits.request(&from("192.0.2.1")).is_ok(), "failures are counted apart");
        let taken = (0..100).filter(|_| limits.attempt(&from("192.0.2.1")).is_ok()).count();
        assert_eq!(taken, 60);
        let taken = (0..20).filter(|_| limits.revocation("a").is_ok()).count();
        assert_eq!((taken, limits.revocation("b").is_ok()), (10, true));
        let taken = (0..200).filter(|_| limits.device("a").is_ok()).count();
        assert_eq!((taken, limits.device("b").is_ok()), (120, true));
    }
}
