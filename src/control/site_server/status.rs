//! The published state of the site server, and the checks that gateway and site server agree on the
//! time and on the bundle.

use std::sync::Arc;

use jiff::Timestamp;

use super::link::{HeldBundle, Link, LinkError};
use super::{SiteServerTask, away};
use crate::site::server::SiteDenial;
use crate::token::{Block, BundleDelta, BundleHead, BundleRefusal};

/// The site server's state as the gateway knows it.
#[derive(Clone, Debug, Default)]
pub struct FollowedServer {
    /// The bundle in force; none before the gateway has joined.
    pub bundle: Option<Arc<BundleHead>>,
    /// The number of its blocks.
    pub blocks: usize,
    /// How many seconds the site server's clock is ahead of this machine's, at the last response.
    pub clock_ahead_s: Option<i64>,
    /// The current problem between the gateway and its site server.
    pub trouble: Option<String>,
}

impl FollowedServer {
    /// By how many seconds the two clocks differ, if that is more than allowed.
    pub fn clocks_differ_by(&self) -> Option<i64> {
        self.clock_ahead_s.filter(|ahead| ahead.abs() > CLOCKS_DIFFER_S_MAX)
    }

    /// The problems that need attention, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let clock = self.clocks_differ_by().map(|ahead_s| {
            let (seconds, side) = (ahead_s.abs(), if ahead_s < 0 { "behind" } else { "ahead of" });
            format!("the site server's clock is {seconds} seconds {side} this machine's")
        });
        clock.into_iter().chain(self.trouble.clone()).collect()
    }
}

/// How far the two clocks may differ before a warning, in seconds: rounding and transit time make a
/// few.
pub const CLOCKS_DIFFER_S_MAX: i64 = 60;

/// The blocks of a new bundle.
#[derive(Clone, Copy, Debug)]
pub enum BlockNews<'a> {
    /// All of them.
    All(&'a [Block]),
    /// What has changed since the bundle before.
    Changes(&'a BundleDelta),
}

/// Receives events, for metrics, blocklist and configuration.
pub trait OnSiteServer: Send + Sync {
    /// A bundle is in force. Returns the number of its blocks.
    fn bundle(&self, bundle: &Arc<BundleHead>, news: BlockNews<'_>) -> usize;
    /// A bundle was refused.
    fn refused(&self, refusal: BundleRefusal);
    /// Whether a site server answers.
    fn reached(&self, is_reached: bool);
    /// By how many seconds its clock is ahead of this machine's.
    fn clock(&self, ahead_s: i64);
}

impl SiteServerTask {
    /// A site server with an older copy of its store does not know the bundle that is in force
    /// here. The gateway sends it that bundle, so that the copy unblocks no device, and polls
    /// again.
    pub(super) async fn known_there(
        &mut self,
        polled: Result<Option<String>, LinkError>,
        held: &HeldBundle<'_>,
        link: &mut Link,
    ) -> Result<Option<String>, LinkError> {
        match polled {
            Err(LinkError::Refused { code, .. })
                if code == SiteDenial::BundleUnknown.code() && self.shown != Some(held.version) => {
            }
            polled => {
                self.shown = None;
                return polled;
            }
        }
        tracing::warn!(target: "sitegate::site_server",
            "the site server does not know the bundle in force here: its store is an older copy; \
             sending it the blocks of this gateway");
        let text = self.unkept.text(&self.kept);
        let text = text.ok_or_else(|| away(&"the bundle in force is not on disk"))?;
        link.show(held, &text).await?;
        // If it does not help, the next attempt waits.
        self.shown = Some(held.version);
        Ok(None)
    }

    /// Logs how far the site server's clock is from this machine's. The consequences are decided
    /// elsewhere: tokens and certificates depend on the time, bundles do not.
    pub(super) fn compare_clocks(&mut self, theirs: Timestamp) {
        let ours = self.params.clock.now();
        let ahead_s = theirs.as_second() - ours.as_second();
        self.params.observer.clock(ahead_s);
        let before = self.status.clocks_differ_by().is_some();
        self.status.clock_ahead_s = Some(ahead_s);
        match self.status.clocks_differ_by() {
            Some(ahead_s) if !before => tracing::warn!(target: "sitegate::site_server",
                ahead_s, %theirs, %ours, "the site server's clock and this machine's differ"),
            None if before => tracing::info!(target: "sitegate::site_server",
                "the site server's clock and this machine's agree again"),
            _ => {}
        }
        self.publish_status();
    }

    pub(super) fn publish_status(&mut self) {
        self.publisher.publish(self.status.clone());
    }
}
