//! How long requests took: a histogram of a few kilobytes, whatever it counts, whose figures are
//! within two percent of the truth.

use std::time::Duration;

/// Steps within each doubling.
const STEPS: u64 = 64;
/// As many doublings as microseconds in a day need.
const BUCKETS: usize = (STEPS * 34) as usize;

/// Times, counted.
#[derive(Clone, Debug)]
pub struct Latency {
    buckets: Vec<u64>,
    count: u64,
    max_us: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Latency { buckets: vec![0; BUCKETS], count: 0, max_us: 0 }
    }
}

impl Latency {
    /// Count one.
    pub fn record(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get_mut(index(us).min(BUCKETS - 1)) {
            *bucket += 1;
        }
        self.count += 1;
        self.max_us = self.max_us.max(us);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest, in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.max_us as f64 / 1_000.0
    }

    /// What so many percent took no longer than, in milliseconds.
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        let wanted = ((self.count as f64) * percent / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper(index as u64).min(self.max_us) as f64 / 1_000.0;
            }
        }
        self.max_ms()
    }
}

/// The bucket of a time: each up to twice the steps, then so many for each doubling.
fn index(us: u64) -> usize {
    let doublings = us.checked_div(STEPS).and_then(u64::checked_ilog2).unwrap_or(0);
    (u64::from(doublings) * STEPS + (us >> doublings)) as usize
}

/// The longest time in a bucket.
fn upper(index: u64) -> u64 {
    let doublings = (index / STEPS).saturating_sub(1);
    ((index - doublings * STEPS + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_found_again_within_two_percent() {
        for us in (0..2_000).chain((2_000..50_000_000).step_by(9_973)) {
            let found = upper(index(us) as u64);
            assert!(found >= us && found <= us + us / 50, "{us}: {found}");
        }
        assert!(index(86_400_000_000) < BUCKETS);
    }

    #[test]
    fn percentiles_are_those_of_what_was_counted() {
        let mut latency = Latency::default();
        assert_eq!((latency.count(), latency.percentile_ms(50.0)), (0, 0.0));
        for ms in 1..=1_000 {
            latency.record(Duration::from_millis(ms));
        }
        for (percent, ms) in [(50.0, 500.0), (90.0, 900.0), (99.0, 990.0), (100.0, 1_000.0)] {
            let found = latency.percentile_ms(percent);
            assert!((found - ms).abs() <= ms / 50.0, "{percent}: {found}");
        }
        assert_eq!((latency.count(), latency.max_ms()), (1_000, 1_000.0));
    }
}
