//! What a gateway knows from its site server, and how it finds out whether the two agree: about the
//! time, and about which bundle there is.

use std::sync::Arc;

use jiff::Timestamp;

use super::link::{Link, LinkError};
use super::{SiteServerTask, away};
use crate::site::server::SiteDenial;
use crate::token::{Bundle, BundleRefusal};

/// What a gateway knows from its site server.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The bundle in force; none before the gateway has joined.
    pub bundle: Option<Arc<Bundle>>,
    /// How many seconds the site server's clock is ahead of this machine's, as it was seen last.
    pub clock_ahead_s: Option<i64>,
    /// What stands between the gateway and its site server at present.
    pub trouble: Option<String>,
}

impl Told {
    /// By how many seconds the two clocks differ, if that is more than they may.
    pub fn clocks_differ_by(&self) -> Option<i64> {
        self.clock_ahead_s.filter(|ahead| ahead.abs() > CLOCKS_DIFFER_S_MAX)
    }

    /// What needs attention, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let clock = self.clocks_differ_by().map(|ahead_s| {
            let (seconds, side) = (ahead_s.abs(), if ahead_s < 0 { "behind" } else { "ahead of" });
            format!("the site server's clock is {seconds} seconds {side} this machine's")
        });
        clock.into_iter().chain(self.trouble.clone()).collect()
    }
}

/// How far the two clocks may differ before that is told, in seconds: what is rounded to seconds and
/// under way for a while differs by a few.
pub const CLOCKS_DIFFER_S_MAX: i64 = 60;

/// Told of what happens, for metrics, blocklist and configuration.
pub trait OnSiteServer: Send + Sync {
    /// A bundle is in force.
    fn bundle(&self, bundle: &Arc<Bundle>);
    /// A bundle was refused.
    fn refused(&self, refusal: BundleRefusal);
    /// Whether a site server answers.
    fn reached(&self, is_reached: bool);
    /// By how many seconds its clock is ahead of this machine's.
    fn clock(&self, ahead_s: i64);
}

impl SiteServerTask {
    /// A site server whose store is an older copy does not know of the bundle that is in force here.
    /// It is shown that one, so that nobody is unblocked by the copy, and asked again.
    pub(super) async fn known_there(
        &self,
        polled: Result<Option<String>, LinkError>,
        link: &mut Link,
    ) -> Result<Option<String>, LinkError> {
        match polled {
            Err(LinkError::Refused { code, .. }) if code == SiteDenial::BundleUnknown.code() => {}
            polled => return polled,
        }
        tracing::warn!(target: "sitegate::site_server",
            "the site server does not know of the bundle in force here: its store is an older copy; \
             it is shown what is blocked here");
        let text = self.unkept.clone().or_else(|| self.kept.text());
        let text = text.ok_or_else(|| away(&"the bundle in force is not on disk"))?;
        let held = self.bundle.as_ref().map_or(0, |bundle| bundle.version);
        link.show(held, &text).await.map(|()| None)
    }

    /// Say how far the site server's clock is from this machine's. What follows from a difference is
    /// judged elsewhere: tokens and certificates go by the time, bundles do not.
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
