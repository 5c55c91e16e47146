//! The metrics of the site's own services: its token service, and the blocks in its store.
//!
//! Labels are closed lists only: no client input.

use prometheus::core::{Collector, Desc};
use prometheus::{GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::{int_gauges, registered};
use crate::grant_denial::GrantDenial;

/// The metrics of the site's own services.
pub struct SiteMetrics {
    answers: IntCounterVec,
    rivals: IntCounterVec,
    blocks: IntGauge,
    blocks_version: IntGauge,
    recovered: IntGauge,
    roots: GaugeVec,
    /// Without labels: there is no series before it is first set.
    bundles_made: IntGaugeVec,
    state_free: IntGauge,
    store: OwnStore,
    following: FollowingMetrics,
}

/// The health of the process's own store; exported only if it has one.
struct OwnStore {
    registry: Registry,
    up: IntGauge,
    failures: IntCounterVec,
    is_shown: std::sync::Once,
}

/// The state of the site server; exported only if the gateway follows one.
struct FollowingMetrics {
    registry: Registry,
    version: IntGauge,
    issued: IntGauge,
    expires: IntGauge,
    reached: IntGauge,
    clock_ahead: IntGauge,
    refused: IntCounterVec,
    is_shown: std::sync::Once,
}

impl SiteMetrics {
    pub(super) fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let answers = IntCounterVec::new(
            Opts::new(
                "sitegate_token_service_requests_total",
                "Requests to the token service, by result.",
            ),
            &["endpoint", "outcome"],
        )?;
        let rivals = IntCounterVec::new(
            Opts::new(
                "sitegate_rival_claims_total",
                "Registrations of a key for a device that has others, without proof.",
            ),
            &["outcome"],
        )?;
        // Present from the start, so that the first claim is an increase.
        for outcome in ["waits", "refused"] {
            rivals.with_label_values(&[outcome]);
        }
        let blocks = IntGauge::new(
            "sitegate_store_blocks",
            "Tokens, devices, users and times that the site's store blocks.",
        )?;
        let blocks_version = IntGauge::new(
            "sitegate_store_blocks_version",
            "The version of the store's blocks that is in force here.",
        )?;
        let recovered = IntGauge::new(
            "sitegate_store_recovered_blocks",
            "Blocks that a restored copy of the store did not have; they stay in force until an \
             operator removes them.",
        )?;
        let roots = GaugeVec::new(
            Opts::new(
                "sitegate_site_root_expiration_timestamp_seconds",
                "When a root of the site expires, by its SHA-256 thumbprint, in seconds since 1970.",
            ),
            &["thumbprint"],
        )?;
        let gauge = |name: &str, help: &str| IntGauge::new(name, help);
        let store = OwnStore {
            registry: r.clone(),
            up: gauge("sitegate_store_up", "Whether the site's store can be used: 1 or 0.")?,
            failures: IntCounterVec::new(
                Opts::new(
                    "sitegate_store_failures_total",
                    "Failures of the site's store, by cause.",
                ),
                &["cause"],
            )?,
            is_shown: std::sync::Once::new(),
        };
        let following = FollowingMetrics {
            registry: r.clone(),
            version: gauge("sitegate_bundle_version", "The version of the bundle in force.")?,
            issued: gauge(
                "sitegate_bundle_issued_timestamp_seconds",
                "When the bundle in force was made, in seconds since 1970.",
            )?,
            expires: gauge(
                "sitegate_bundle_expires_timestamp_seconds",
                "When the bundle in force is out of date, in seconds since 1970.",
            )?,
            reached: gauge("sitegate_site_server_up", "Whether a site server answers: 1 or 0.")?,
            clock_ahead: gauge(
                "sitegate_site_server_clock_ahead_seconds",
                "How many seconds the site server's clock is ahead of this machine's.",
            )?,
            refused: IntCounterVec::new(
                Opts::new("sitegate_bundles_refused_total", "Rejected bundles, by reason."),
                &["reason"],
            )?,
            is_shown: std::sync::Once::new(),
        };
        Ok(SiteMetrics {
            answers: registered(r, answers)?,
            rivals: registered(r, rivals)?,
            blocks: registered(r, blocks)?,
            blocks_version: registered(r, blocks_version)?,
            recovered: registered(r, recovered)?,
            roots: registered(r, roots)?,
            bundles_made: int_gauges(
                r,
                "bundle_last_made_successful",
                "Whether the site server could make a bundle for its gateways: 1 or 0.",
                &[],
            )?,
            state_free: registered(
                r,
                gauge(
                    "sitegate_state_free_bytes",
                    "Free bytes on the file system of the state directory.",
                )?,
            )?,
            store,
            following,
        })
    }

    /// Sets the free bytes on the state directory's file system.
    pub fn state_free(&self, bytes: u64) {
        self.state_free.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Sets whether a bundle could be made for gateways.
    pub fn bundles_made(&self, could: bool) {
        self.bundles_made.with_label_values::<&str>(&[]).set(i64::from(could));
    }

    /// Sets whether the process's own store can be used.
    pub fn store_works(&self, works: bool) {
        self.store().up.set(i64::from(works));
    }

    /// Counts a failure of the store, by a cause from a closed list.
    pub fn store_failed(&self, cause: &'static str) {
        self.store().failures.with_label_values(&[cause]).inc();
    }

    /// Exported at the first use: a gateway without a store must not export series that suggest
    /// one.
    fn store(&self) -> &OwnStore {
        let store = &self.store;
        store.is_shown.call_once(|| {
            let _ = store.registry.register(Box::new(store.up.clone()));
            let _ = store.registry.register(Box::new(store.failures.clone()));
        });
        store
    }

    /// Records the bundle in force. Times in seconds since 1970.
    pub fn bundle(&self, version: u64, issued: i64, expires: i64) {
        let following = self.following();
        following.version.set(i64::try_from(version).unwrap_or(i64::MAX));
        following.issued.set(issued);
        following.expires.set(expires);
    }

    /// Counts a refused bundle.
    pub fn bundle_refused(&self, reason: &str) {
        self.following().refused.with_label_values(&[reason]).inc();
    }

    /// Sets whether a site server answers.
    pub fn site_server_reached(&self, is_reached: bool) {
        self.following().reached.set(i64::from(is_reached));
    }

    /// Sets how many seconds the site server's clock is ahead of this machine's.
    pub fn site_server_clock(&self, ahead_s: i64) {
        self.following().clock_ahead.set(ahead_s);
    }

    /// Exported at the first use: for a gateway that follows no site server, a zero would look like
    /// a bundle of 1970.
    fn following(&self) -> &FollowingMetrics {
        let following = &self.following;
        following.is_shown.call_once(|| {
            let FollowingMetrics { version, issued, expires, reached, clock_ahead, .. } = following;
            for gauge in [version, issued, expires, reached, clock_ahead] {
                let _ = following.registry.register(Box::new(gauge.clone()));
            }
            let _ = following.registry.register(Box::new(following.refused.clone()));
        });
        following
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

    /// The metrics that exist once the token service was used.
    pub(super) fn descriptions(&self) -> Vec<&Desc> {
        let FollowingMetrics { version, issued, expires, reached, clock_ahead, refused, .. } =
            &self.following;
        let gauges = [version, issued, expires, reached, clock_ahead, &self.store.up];
        let gauges = gauges.into_iter().flat_map(|gauge| gauge.desc());
        self.answers
            .desc()
            .into_iter()
            .chain(self.roots.desc())
            .chain(self.bundles_made.desc())
            .chain(gauges)
            .chain(refused.desc())
            .chain(self.store.failures.desc())
            .collect()
    }
}
