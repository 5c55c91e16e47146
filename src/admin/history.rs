//! The last hour, minute by minute: samples of the counters in a ring buffer.
//!
//! The caller decides when to sample; this only stores samples and computes differences.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::metrics::Totals;

/// An hour of minutes needs one sample more than it has minutes.
const SAMPLES_MAX: usize = 61;

/// The counts between two samples, usually a minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// When the interval began.
    pub from: Timestamp,
    /// When the interval ended; for the last one, the time of the query.
    pub to: Timestamp,
    /// Requests answered.
    pub requests: u64,
    /// Requests refused.
    pub denials: u64,
    /// TLS handshakes completed.
    pub handshakes: u64,
    /// Tokens with a cached verification.
    pub token_cache_hits: u64,
    /// Tokens whose signature had to be verified.
    pub token_cache_misses: u64,
}

/// The samples. Cheap to clone; all clones share them.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<VecDeque<(Timestamp, Totals)>>>);

impl History {
    /// Records the current counters.
    pub fn sample(&self, now: Timestamp, totals: Totals) {
        let mut samples = self.samples();
        if samples.len() >= SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back((now, totals));
    }

    /// The last hour up to now, the oldest first. The last interval is still open.
    pub fn hour(&self, now: Timestamp, totals: Totals) -> Vec<Interval> {
        let samples = self.samples();
        let ends = samples.iter().skip(1).copied().chain([(now, totals)]);
        let pairs = samples.iter().copied().zip(ends);
        pairs.map(|((from, before), (to, after))| interval(from, before, to, after)).collect()
    }

    fn samples(&self) -> MutexGuard<'_, VecDeque<(Timestamp, Totals)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn interval(from: Timestamp, before: Totals, to: Timestamp, after: Totals) -> Interval {
    Interval {
        from,
        to,
        requests: after.requests.saturating_sub(before.requests),
        denials: after.denials.saturating_sub(before.denials),
        handshakes: after.handshakes.saturating_sub(before.handshakes),
        token_cache_hits: after.cache_hits.saturating_sub(before.cache_hits),
        token_cache_misses: after.cache_misses.saturating_sub(before.cache_misses),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::second;

    fn totals(requests: u64) -> Totals {
        Totals { requests, ..Totals::default() }
    }

    #[test]
    fn history_keeps_an_hour_and_the_current_minute() {
        let history = History::default();
        assert!(history.hour(second(0), totals(0)).is_empty());
        for minute in 0..500 {
            history.sample(second(minute * 60), totals(minute as u64 * 10));
        }
        let hour = history.hour(second(500 * 60 - 30), totals(4997));
        assert_eq!(hour.len(), 61);
        assert!(hour[..60].iter().all(|interval| interval.requests == 10));
        assert_eq!((hour[60].requests, hour[60].from), (7, second(499 * 60)));
    }

    #[test]
    fn a_counter_that_decreases_counts_as_zero() {
        let history = History::default();
        history.sample(second(0), totals(100));
        history.sample(second(60), totals(5));
        let counted: Vec<u64> =
            history.hour(second(61), totals(6)).iter().map(|i| i.requests).collect();
        assert_eq!(counted, [0, 1]);
    }
}
