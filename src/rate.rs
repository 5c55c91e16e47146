//! A rate limiter: counts by key, forgets with time, bounded in memory.
//!
//! A base module: knows neither requests nor responses.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::DefaultClock;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::{DashMapStateStore, ShrinkableKeyedStateStore};
use governor::{Quota, RateLimiter};

/// The largest number of keys that are counted at once. A key is kept for the period of the quota;
/// more keys than this come from attackers with many addresses.
const REMEMBERED_MAX: usize = 100_000;
/// The number of requests between two sweeps for expired keys.
const SWEEP_EVERY: u32 = 1_024;

/// Why a request is over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// The key has used up its quota.
    Turns,
    /// Too many keys are counted already to add this one.
    Crowd,
}

/// A rate limiter with one quota per key.
pub struct Rate<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, CountedKeys<K>, DefaultClock>,
    /// The limiter's own store, because the limiter cannot say whether it knows a key.
    counted: CountedKeys<K>,
    remembered_max: usize,
    seen: AtomicU32,
}

/// The keys that are counted now.
struct CountedKeys<K: Hash + Eq>(Arc<DashMapStateStore<K>>);

impl<K: Hash + Eq + Clone> StateStore for CountedKeys<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.measure_and_replace(key, f)
    }
}

impl<K: Hash + Eq + Clone> ShrinkableKeyedStateStore<K> for CountedKeys<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        ShrinkableKeyedStateStore::retain_recent(&*self.0, drop_below);
    }

    fn shrink_to_fit(&self) {
        ShrinkableKeyedStateStore::shrink_to_fit(&*self.0);
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Hash + Eq + Clone> Rate<K> {
    /// Allows `turns` requests per minute, with a burst of the same size.
    pub fn per_minute(turns: NonZeroU32) -> Self {
        Rate::new(Quota::per_minute(turns))
    }

    /// Allows a burst of `at_once` requests, then one per `time`.
    pub fn one_in(time: Duration, at_once: NonZeroU32) -> Self {
        let quota = Quota::with_period(time).unwrap_or(Quota::per_hour(at_once));
        Rate::new(quota.allow_burst(at_once))
    }

    fn new(quota: Quota) -> Self {
        let keys = Arc::<DashMapStateStore<K>>::default();
        let limiter = RateLimiter::new(quota, CountedKeys(keys.clone()), DefaultClock::default());
        let (counted, seen) = (CountedKeys(keys), AtomicU32::new(0));
        Rate { limiter, counted, remembered_max: REMEMBERED_MAX, seen }
    }

    /// Counts one request for this key.
    ///
    /// # Errors
    /// If the quota of this key is used up, or too many other keys are counted to add this one.
    /// Keys that are counted already are not affected: a flood of new addresses stops no known
    /// client.
    pub fn take(&self, who: &K) -> Result<(), Exceeded> {
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        if seen % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.limiter.retain_recent();
            if self.limiter.len() < self.remembered_max / 2 {
                self.limiter.shrink_to_fit();
            }
        }
        if self.limiter.len() >= self.remembered_max && !self.counted.0.contains_key(who) {
            return Err(Exceeded::Crowd);
        }
        self.limiter.check_key(who).map_err(|_| Exceeded::Turns)
    }
}

impl<K: Hash + Eq + Clone> std::fmt::Debug for Rate<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rate of {}", self.limiter.len())
    }
}

/// The key to count an address by: an IPv6 host owns a whole /64.
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !0 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_limiter_serves_only_the_known() {
        let ten = NonZeroU32::new(10).unwrap();
        let rate = Rate { remembered_max: 3, ..Rate::per_minute(ten) };
        for known in 0..3 {
            assert_eq!(rate.take(&known), Ok(()));
        }
        for stranger in 3..100 {
            assert_eq!(rate.take(&stranger), Err(Exceeded::Crowd));
        }
        assert_eq!(rate.take(&1), Ok(()));
    }
}
