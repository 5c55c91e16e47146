//! Latencies of simulated clients, in a histogram of constant size.

use std::time::Duration;

use hdrhistogram::Histogram;

/// A latency histogram: microseconds up to a day, with three significant digits at most.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

/// A day, in microseconds.
const MAX_US: u64 = 86_400_000_000;

impl Default for Latency {
    fn default() -> Self {
        // Invariant: the bounds and the number of digits are valid.
        Latency(Histogram::new_with_bounds(1, MAX_US, 2).unwrap_or_else(|_| unreachable!()))
    }
}

impl Latency {
    /// Records a latency.
    pub fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(MAX_US));
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The maximum, in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1_000.0
    }

    /// A percentile, in milliseconds.
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        self.0.value_at_quantile(percent / 100.0) as f64 / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(latency.count(), 1_000);
        assert!((latency.max_ms() - 1_000.0).abs() <= 20.0, "{}", latency.max_ms());
    }
}
