//! The metrics of the site's own services: its token service, the blocks in its store, and its roots.
//!
//! Labels are closed lists and thumbprints of the site's own roots only: no client input.

use prometheus::{Error, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec};

use super::registrar::Registrar;
use crate::grant_denial::GrantDenial;

/// The metrics of the site's own services.
pub struct SiteMetrics {
    answers: IntCounterVec,
    rivals: IntCounterVec,
    blocks: IntGauge,
    blocks_version: IntGauge,
    recovered: IntGauge,
    roots: GaugeVec,
    /// Without labels: exported only by a process that makes bundles.
    bundles_made: IntGaugeVec,
    /// As `bundles_made`.
    bundle_bytes: IntGaugeVec,
}

impl SiteMetrics {
    pub(super) fn new(r: &mut Registrar) -> Result<Self, Error> {
        let rivals = r.counters(
            "rival_claims_total",
            "Registrations of a key for a device that has others, without proof.",
            &["outcome"],
        )?;
        // Present from the start, so that the first claim is an increase.
        for outcome in ["waits", "refused"] {
            rivals.with_label_values(&[outcome]);
        }
        Ok(SiteMetrics {
            answers: r.counters(
                "token_service_requests_total",
                "Requests to the token service, by result.",
                &["endpoint", "outcome"],
            )?,
            rivals,
            blocks: r.int_gauge(
                "store_blocks",
                "Tokens, devices, users and times that the site's store blocks.",
            )?,
            blocks_version: r.int_gauge(
                "store_blocks_version",
                "The version of the store's blocks that is in force here.",
            )?,
            recovered: r.int_gauge(
                "store_recovered_blocks",
                "Blocks that a restored copy of the store did not have; they stay in force until \
                 an operator removes them.",
            )?,
            roots: r.gauges(
                "site_root_expiration_timestamp_seconds",
                "When a root of the site expires, by its SHA-256 thumbprint, in seconds since 1970.",
                &["thumbprint"],
            )?,
            bundles_made: r.int_gauges(
                "bundle_last_made_successful",
                "Whether the site server could make a bundle for its gateways: 1 or 0.",
                &[],
            )?,
            bundle_bytes: r.int_gauges(
                "bundle_bytes",
                "The size of the bundle for gateways, in bytes. They accept 64 MiB.",
                &[],
            )?,
        })
    }

    /// Sets whether a bundle could be made for gateways, and its size in bytes.
    pub fn bundles_made(&self, could: bool, bytes: usize) {
        self.bundles_made.with_label_values::<&str>(&[]).set(i64::from(could));
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.bundle_bytes.with_label_values::<&str>(&[]).set(bytes);
    }

    /// Counts a response of a token service endpoint.
    pub fn answered(&self, endpoint: &str, outcome: Result<(), GrantDenial>) {
        let outcome = outcome.map_or_else(GrantDenial::code, |()| "granted");
        self.answers.with_label_values(&[endpoint, outcome]).inc();
    }

    /// Counts a key that claims to be that of a device with other keys, and `waits` or is
    /// `refused`.
    pub fn rival_claimed(&self, outcome: &str) {
        self.rivals.with_label_values(&[outcome]).inc();
    }

    /// Sets the number of blocks in force, their version, and how many of them are in force only
    /// because they were before a restore.
    pub fn blocks(&self, entries: usize, version: i64, recovered: usize) {
        self.blocks_version.set(version);
        self.blocks.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.recovered.set(i64::try_from(recovered).unwrap_or(i64::MAX));
    }

    /// Sets the site's roots: SHA-256 thumbprints, and when they expire in seconds since 1970.
    pub fn roots<'a>(&self, roots: impl Iterator<Item = (&'a str, i64)>) {
        self.roots.reset();
        for (thumbprint, expires) in roots {
            self.roots.with_label_values(&[thumbprint]).set(expires as f64);
        }
    }
}
