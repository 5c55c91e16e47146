//! Totals since the start, summed over site systems and routes, for the page's plots.
//!
//! Reads the counters that Prometheus scrapes; counts nothing itself.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;

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
        Totals {
            requests: sum(&self.requests.collect()),
            denials: sum(&self.denials.collect()),
            handshakes: sum(&self.handshakes.collect()),
            cache_hits: self.cache_hits.get(),
            cache_misses: self.cache_misses.get(),
        }
    }
}

fn sum(families: &[MetricFamily]) -> u64 {
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
            let counters = metrics.route(site, route);
            counters.answered(200, Duration::ZERO, 0, 0);
            counters.answered(403, Duration::ZERO, 0, 0);
            counters.denied(Denial::TokenMissing);
        }
        metrics.handshake_done("TLSv1_3", "x");
        metrics.token_cache(true);
        metrics.token_cache(false);
        let wanted =
            Totals { requests: 6, denials: 3, handshakes: 1, cache_hits: 1, cache_misses: 1 };
        assert_eq!(metrics.totals(), wanted);
    }
}
