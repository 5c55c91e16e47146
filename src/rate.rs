//! How often somebody may do something: counted by a key, forgotten with time, bounded in memory.
//!
//! Ground: knows no request and no answer.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::DefaultClock;
use governor::state::keyed::DashMapStateStore;
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
    limiter: RateLimiter<K, DashMapStateStore<K>, DefaultClock>,
    seen: AtomicU32,
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
        Rate { limiter: RateLimiter::keyed(quota), seen: AtomicU32::new(0) }
    }

    /// Take a turn.
    ///
    /// # Errors
    /// If there is none left for this key.
    pub fn take(&self, who: &K) -> Result<(), Exceeded> {
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        if seen % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.limiter.retain_recent();
            if self.limiter.len() < REMEMBERED_MAX / 2 {
                self.limiter.shrink_to_fit();
            }
        }
        if self.limiter.len() > REMEMBERED_MAX {
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
