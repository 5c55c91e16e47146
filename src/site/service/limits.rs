//! How often one address or one device may ask.
//!
//! Counts neighbours together, and what proved who it is apart from what did not: a stranger behind
//! the same address uses up nobody's turns. Remembers no more than fits into a few megabytes.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::caller::Caller;
use super::refused::Refused;
use crate::grant_denial::GrantDenial;
use crate::rate::{Exceeded, Rate};

/// A device renews once a month, and asks for content once for each package: many at once, and not
/// for ever, because each token is a row.
const DEVICE_AT_ONCE: NonZeroU32 = NonZeroU32::MIN.saturating_add(119);
const DEVICE_EVERY: Duration = Duration::from_secs(5);
/// A token that was given up is remembered until its end, by every gateway.
const REVOCATIONS_AT_ONCE: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
const REVOCATION_EVERY: Duration = Duration::from_secs(600);

/// How many times as often an address may try as it may fail: whoever proves who they are gets
/// through for as long as nobody beside them tries that often.
const TRIES: u32 = 10;

/// The limits of one token service.
pub(in crate::site) struct Limits {
    tries: Rate<IpAddr>,
    failures: Rate<IpAddr>,
    registrations: Rate<IpAddr>,
    requests: Rate<IpAddr>,
    devices: Rate<String>,
    revocations: Rate<String>,
}

impl Limits {
    pub(in crate::site) fn new(registrations: NonZeroU32, requests: NonZeroU32) -> Self {
        let tries = requests.saturating_add(registrations.get());
        Limits {
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

    /// Counted before anything is looked at: it bounds the work of judging proofs.
    pub(in crate::site) fn attempt(&self, caller: &Caller) -> Result<(), Refused> {
        take(&self.tries, caller)
    }

    /// A request that proved nothing. If its address has no such turn left, it is told so instead.
    pub(super) fn failed(&self, caller: &Caller, refused: Refused) -> Refused {
        take(&self.failures, caller).err().unwrap_or(refused)
    }

    /// Counted once somebody has vouched for the registration.
    pub(in crate::site) fn register(&self, caller: &Caller) -> Result<(), Refused> {
        take(&self.registrations, caller)
    }

    /// Counted once the request has proved whom it is from.
    pub(in crate::site) fn request(&self, caller: &Caller) -> Result<(), Refused> {
        take(&self.requests, caller)
    }

    /// Counted once the device has proved who it is: nobody can use up another's turns.
    pub(super) fn device(&self, device: &str) -> Result<(), Refused> {
        told(self.devices.take(&device.to_owned()))
    }

    /// Counted besides: what a device gives up.
    pub(super) fn revocation(&self, device: &str) -> Result<(), Refused> {
        told(self.revocations.take(&device.to_owned()))
    }
}

fn take(rate: &Rate<IpAddr>, caller: &Caller) -> Result<(), Refused> {
    caller.neighbourhood().map_or(Ok(()), |who| told(rate.take(&who)))
}

fn told(taken: Result<(), Exceeded>) -> Result<(), Refused> {
    taken.map_err(|exceeded| match exceeded {
        Exceeded::Turns => GrantDenial::RateLimited.into(),
        Exceeded::Crowd => Refused::of(GrantDenial::RateLimited, "too many clients at once"),
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
        let limits = Limits::new(three, three);
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
