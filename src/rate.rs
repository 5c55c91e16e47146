//! How often somebody may do something: counted by a key, forgotten with time, bounded in memory.
//!
//! Ground: knows no request and no answer.

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

/// Whoever is counted is remembered for the time of a quota; more of them at once are strangers with
/// many addresses.
const REMEMBERED_MAX: usize = 100_000;
/// How many requests pass between two looks at what can be forgotten.
const SWEEP_EVERY: u32 = 1_024;

/// Why somebody has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// They have used up their turns.
    Turns,
    /// There are more of them at once than can be remembered.
    Crowd,
}

/// Turns, counted for each key.
pub struct Rate<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, Counted<K>, DefaultClock>,
    /// The same as in the limiter, which does not say whom it knows.
    counted: Counted<K>,
    remembered_max: usize,
    seen: AtomicU32,
}

/// Everybody who is counted at present.
struct Counted<K: Hash + Eq>(Arc<DashMapStateStore<K>>);

impl<K: Hash + Eq + Clone> StateStore for Counted<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.measure_and_replace(key, f)
    }
}

impl<K: Hash + Eq + Clone> ShrinkableKeyedStateStore<K> for Counted<K> {
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
    /// So many in a minute, all of them at once if need be.
    pub fn per_minute(turns: NonZeroU32) -> Self {
        Rate::new(Quota::per_minute(turns))
    }

    /// So many at once, and from then on one in each `time`.
    pub fn one_in(time: Duration, at_once: NonZeroU32) -> Self {
        let quota = Quota::with_period(time).unwrap_or(Quota::per_hour(at_once));
        Rate::new(quota.allow_burst(at_once))
    }

    fn new(quota: Quota) -> Self {
        let keys = Arc::<DashMapStateStore<K>>::default();
        let limiter = RateLimiter::new(quota, Counted(keys.clone()), DefaultClock::default());
        let (counted, seen) = (Counted(keys), AtomicU32::new(0));
        Rate { limiter, counted, remembered_max: REMEMBERED_MAX, seen }
    }

    /// Take a turn.
    ///
    /// # Errors
    /// If there is none left for this key, or too many others are counted to begin with it. Whoever
    /// is counted already goes on: a crowd of strangers stops no one who was there before.
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

/// Who is counted as one: an IPv6 host owns a whole /64.
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
    fn a_full_limiter_serves_whom_it_knows_and_nobody_new() {
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
