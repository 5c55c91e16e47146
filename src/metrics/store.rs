//! The health of the process's own store. Exported only by a process that has one.

use prometheus::{Error, IntCounterVec, IntGaugeVec};

use super::registrar::Registrar;

/// The metrics of the process's own store.
pub struct StoreMetrics {
    up: IntGaugeVec,
    failures: IntCounterVec,
}

impl StoreMetrics {
    pub(super) fn new(r: &mut Registrar) -> Result<Self, Error> {
        Ok(StoreMetrics {
            up: r.int_gauges("store_up", "Whether the site's store can be used: 1 or 0.", &[])?,
            failures: r.counters(
                "store_failures_total",
                "Failures of the site's store, by cause.",
                &["cause"],
            )?,
        })
    }

    /// Sets whether the store can be used.
    pub fn works(&self, works: bool) {
        self.up.with_label_values::<&str>(&[]).set(i64::from(works));
    }

    /// Counts a failure of the store, by a cause from a closed list.
    pub fn failed(&self, cause: &'static str) {
        self.failures.with_label_values(&[cause]).inc();
    }
}
