//! The metrics of a gateway that follows a site server.
//!
//! Exported only by such a gateway: elsewhere a zero would look like a bundle of 1970.

use prometheus::{Error, IntCounterVec, IntGaugeVec};

use super::registrar::Registrar;

/// The metrics of the site server that a gateway follows, and of its bundles.
pub struct FollowingMetrics {
    version: IntGaugeVec,
    issued: IntGaugeVec,
    expires: IntGaugeVec,
    reached: IntGaugeVec,
    clock_ahead: IntGaugeVec,
    refused: IntCounterVec,
}

impl FollowingMetrics {
    pub(super) fn new(r: &mut Registrar) -> Result<Self, Error> {
        Ok(FollowingMetrics {
            version: r.int_gauges("bundle_version", "The version of the bundle in force.", &[])?,
            issued: r.int_gauges(
                "bundle_issued_timestamp_seconds",
                "When the bundle in force was made, in seconds since 1970.",
                &[],
            )?,
            expires: r.int_gauges(
                "bundle_expires_timestamp_seconds",
                "When the bundle in force is out of date, in seconds since 1970.",
                &[],
            )?,
            reached: r.int_gauges(
                "site_server_up",
                "Whether a site server answers: 1 or 0.",
                &[],
            )?,
            clock_ahead: r.int_gauges(
                "site_server_clock_ahead_seconds",
                "How many seconds the site server's clock is ahead of this machine's.",
                &[],
            )?,
            refused: r.counters(
                "bundles_refused_total",
                "Rejected bundles, by reason.",
                &["reason"],
            )?,
        })
    }

    /// Records the bundle in force. Times in seconds since 1970.
    pub fn bundle(&self, version: u64, issued: i64, expires: i64) {
        set(&self.version, i64::try_from(version).unwrap_or(i64::MAX));
        set(&self.issued, issued);
        set(&self.expires, expires);
    }

    /// Counts a refused bundle.
    pub fn bundle_refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// Sets whether a site server answers.
    pub fn site_server_reached(&self, is_reached: bool) {
        set(&self.reached, i64::from(is_reached));
    }

    /// Sets how many seconds the site server's clock is ahead of this machine's.
    pub fn site_server_clock(&self, ahead_s: i64) {
        set(&self.clock_ahead, ahead_s);
    }
}

fn set(gauge: &IntGaugeVec, value: i64) {
    gauge.with_label_values::<&str>(&[]).set(value);
}
