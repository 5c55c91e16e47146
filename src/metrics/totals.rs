//! Totals since the start, summed over site systems and routes, for the page's plots.
//!
//! Reads the counters that Prometheus scrapes; counts nothing itself.

use prometheus::IntCounterVec;
use prometheus::core::Collector;

use super::Metrics;

/// Totals since the start. Series that a reload has removed are not included, so a total may
/// decrease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests answered.
    pub requests: u64,
    /// Requests refused.
    pub denials: u64,
    /// TLS handshakes completed.
    pub handshakes: u64,
    /// Tokens with a cached verification.
    pub cache_hits: u64,
    /// Tokens whose signature had to be verified.
    pub cache_misses: u64,
}

impl Metrics {
    /// The current totals.
    pub fn totals(&self) -> Totals {
        let (cache_hits, cache_misses) = self.tokens.cache_hits_and_misses();
        Totals {
            requests: self.routes.requests_in_all(),
            denials: self.routes.denials_in_all(),
            handshakes: self.connections.handshakes_in_all(),
            cache_hits,
            cache_misses,
        }
    }
}

/// The sum of all series of a counter.
pub(super) fn sum(counters: &IntCounterVec) -> u64 {
    let families = counters.collect();
    let series = families.iter().flat_map(|family| family.get_metric());
    // Counters of whole numbers: exact up to 2^53.
    series.map(|metric| metric.get_counter().get_value() as u64).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::denial::Denial;

    #[test]
    fn totals_are_over_all_site_systems_and_routes() {
        let metrics = Metrics::new().unwrap();
        for (site, route) in [("mp01", "a"), ("mp01", "b"), ("dp01", "a")] {
            let counters = metrics.routes.of(site, route);
            counters.answered(200, Duration::ZERO, 0, 0);
            counters.answered(403, Duration::ZERO, 0, 0);
            counters.denied(Denial::TokenMissing);
        }
        metrics.connections.handshake_done("TLSv1_3", "x");
        metrics.tokens.cached(true);
        metrics.tokens.cached(false);
        let wanted =
            Totals { requests: 6, denials: 3, handshakes: 1, cache_hits: 1, cache_misses: 1 };
        assert_eq!(metrics.totals(), wanted);
    }
}
