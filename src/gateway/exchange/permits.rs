//! Limits on requests in flight: in total, per backend, per client address, and for unauthenticated
//! requests. An address or a backend gets a share of the permits that are free (dynamic thresholds,
//! Choudhury and Hahne 1998). Alone it may take most of them; the fewer are free, the less each may
//! add, so that a new client finds room.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Limits;

/// The share of an address, as a multiple of the free permits: alone it gets four fifths.
const EAGERNESS: usize = 4;
/// The number of address maps. Many locks, so that threads seldom contend.
const PLACES: usize = 64;

/// A count of requests or bytes, to compare with a limit.
#[derive(Debug, Default)]
pub struct Bound(pub(super) AtomicUsize);

impl Bound {
    pub(super) fn used(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn free(&self, max: usize) -> usize {
        max.saturating_sub(self.used())
    }
}

/// The inputs of an admission.
#[derive(Clone, Copy, Debug)]
pub(in crate::gateway) struct PermitRequest<'a> {
    /// The client's address, or its network for IPv6.
    pub(in crate::gateway) address: IpAddr,
    /// Whether the request is unauthenticated.
    pub(in crate::gateway) anonymous: bool,
    /// The requests in flight to its backend.
    pub(in crate::gateway) backend: &'a Arc<Bound>,
    /// The limit of the backend, if it has one.
    pub(in crate::gateway) backend_max: usize,
    pub(in crate::gateway) limits: &'a Limits,
}

/// Permits for the requests of all shards.
#[derive(Debug)]
pub(in crate::gateway) struct Permits {
    /// The capacity of this machine.
    most: usize,
    all: Bound,
    anonymous: Bound,
    addresses: [Mutex<HashMap<IpAddr, usize>>; PLACES],
    hasher: RandomState,
}

/// The permit of a request in flight, returned on drop.
#[derive(Debug)]
pub(in crate::gateway) struct Permit {
    of: Arc<Permits>,
    address: IpAddr,
    anonymous: bool,
    backend: Arc<Bound>,
}

impl Permits {
    /// Creates this many permits.
    pub(super) fn new(most: usize) -> Arc<Self> {
        let addresses = std::array::from_fn(|_| Mutex::default());
        let (all, anonymous) = (Bound::default(), Bound::default());
        Arc::new(Permits { most, all, anonymous, addresses, hasher: RandomState::new() })
    }

    /// Describes the use of the permits, for the log of a refused request.
    pub(in crate::gateway) fn told(&self, asked: &PermitRequest<'_>) -> String {
        let of_address = self.of(&asked.address).get(&asked.address).copied().unwrap_or(0);
        format!(
            "{} of {} requests are in flight: {of_address} of this address, {} of this backend, {} \
             unauthenticated",
            self.all.used(),
            asked.limits.requests.min(self.most),
            asked.backend.used(),
            self.anonymous.used(),
        )
    }

    fn of(&self, address: &IpAddr) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        let place = self.hasher.hash_one(address) as usize % PLACES;
        // Invariant: there are that many maps.
        let place = self.addresses.get(place).unwrap_or(&self.addresses[0]);
        place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a request; `None` if there is no room now.
    pub(in crate::gateway) fn admit(self: &Arc<Self>, asked: &PermitRequest<'_>) -> Option<Permit> {
        let all_max = asked.limits.requests.min(self.most);
        let mut of = self.of(&asked.address);
        let held = of.get(&asked.address).copied().unwrap_or(0);
        let free = self.all.free(all_max);
        let has_room = |free: usize| free > 0 && held < free.saturating_mul(EAGERNESS);
        let room = has_room(free)
            && held < asked.limits.requests_per_address.unwrap_or(usize::MAX)
            // No single backend may exhaust the permits for the others either.
            && asked.backend.used() < free.saturating_mul(EAGERNESS)
            && has_room(asked.backend.free(asked.backend_max))
            && (!asked.anonymous || has_room(self.anonymous.free(all_max / 2)));
        if !room {
            return None;
        }
        of.insert(asked.address, held + 1);
        drop(of);
        let (backend, anonymous) = (asked.backend.clone(), asked.anonymous);
        self.all.0.fetch_add(1, Ordering::Relaxed);
        backend.0.fetch_add(1, Ordering::Relaxed);
        self.anonymous.0.fetch_add(usize::from(anonymous), Ordering::Relaxed);
        Some(Permit { of: self.clone(), address: asked.address, anonymous, backend })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.of.all.0.fetch_sub(1, Ordering::Relaxed);
        self.backend.0.fetch_sub(1, Ordering::Relaxed);
        self.of.anonymous.0.fetch_sub(usize::from(self.anonymous), Ordering::Relaxed);
        let mut of = self.of.of(&self.address);
        if let Some(held) = of.get_mut(&self.address) {
            *held -= 1;
            if *held == 0 {
                of.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(requests: usize) -> Limits {
        Limits { requests, ..Limits::default() }
    }

    fn asked<'a>(n: u8, limits: &'a Limits, backend: &'a Arc<Bound>) -> PermitRequest<'a> {
        PermitRequest {
            address: IpAddr::from([192, 0, 2, n]),
            anonymous: false,
            backend,
            backend_max: usize::MAX,
            limits,
        }
    }

    /// Takes as many permits as possible.
    fn fill(of: &Arc<Permits>, asked: PermitRequest<'_>) -> Vec<Permit> {
        std::iter::from_fn(|| of.admit(&asked)).collect()
    }

    #[test]
    fn one_address_takes_most_and_leaves_room_for_another() {
        let of = Permits::new(1000);
        let [one, two, three]: [Arc<Bound>; 3] = Default::default();
        let first = fill(&of, asked(1, &limits(5000), &one));
        assert_eq!(first.len(), 800, "of what the machine has room for");
        let second = fill(&of, asked(2, &limits(5000), &two));
        assert!((150..200).contains(&second.len()), "{}", second.len());
        assert!(of.admit(&asked(3, &limits(5000), &three)).is_some(), "there is still some");
        drop((first, second));
        assert_eq!((of.all.used(), one.used(), two.used()), (0, 0, 0));
        assert!(of.addresses.iter().all(|a| a.lock().unwrap().is_empty()), "none is remembered");
    }

    #[test]
    fn a_backend_that_hangs_leaves_room_for_the_others() {
        let (of, slow, quick) = (Permits::new(1000), Arc::default(), Arc::default());
        let held: Vec<_> =
            (0..100).flat_map(|n| fill(&of, asked(n, &limits(1000), &slow))).collect();
        assert!((700..=800).contains(&held.len()), "{}", held.len());
        assert!(of.admit(&asked(200, &limits(1000), &quick)).is_some());
    }

    #[test]
    fn anonymous_requests_leave_half_of_the_permits() {
        let (of, backend) = (Permits::new(1000), Arc::default());
        let limits = limits(1000);
        let anonymous = |n| PermitRequest { anonymous: true, ..asked(n, &limits, &backend) };
        let held: Vec<_> = (0..100).flat_map(|n| fill(&of, anonymous(n))).collect();
        assert!(held.len() <= 500, "{}", held.len());
        let known = fill(&of, asked(200, &limits, &backend));
        assert!(known.len() > 200, "{}", known.len());
    }

    #[test]
    fn the_limits_of_an_address_and_of_a_backend_are_never_passed() {
        let (of, backend) = (Permits::new(1000), Arc::default());
        let limits = Limits { requests_per_address: Some(64), ..limits(1000) };
        let asked = asked(1, &limits, &backend);
        assert_eq!(fill(&of, asked).len(), 64);
        assert_eq!(fill(&of, PermitRequest { backend_max: 10, ..asked }).len(), 8);
    }

    proptest! {
        #[test]
        fn a_newcomer_finds_room_until_the_bound_is_reached(
            max in 1_usize..200, turns in proptest::collection::vec((0_u8..20, any::<bool>()), 0..400),
        ) {
            let of = Permits::new(max);
            let backends: [Arc<Bound>; 20] = Default::default();
            let mut held: Vec<(u8, Permit)> = Vec::new();
            for (n, more) in turns {
                if more {
                    let newcomer = held.iter().all(|(m, _)| *m != n);
                    let free = of.all.used() < max;
                    let permit = of.admit(&asked(n, &limits(usize::MAX), &backends[usize::from(n)]));
                    prop_assert!(!(newcomer && free) || permit.is_some());
                    held.extend(permit.map(|permit| (n, permit)));
                } else {
                    drop(held.pop());
                }
                prop_assert!(of.all.used() <= max);
                prop_assert_eq!(of.all.used(), held.len());
            }
        }
    }
}
