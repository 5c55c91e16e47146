//! The metrics of one route's requests: handles that are resolved when the configuration is loaded.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec};

use super::plain_http::ClearOutcome;
use crate::denial::Denial;

/// The metrics of one route of one site system.
#[derive(Clone, Debug)]
pub struct RouteMetrics {
    pub(super) classes: [IntCounter; 5],
    pub(super) seconds: Histogram,
    pub(super) received: IntCounter,
    pub(super) sent: IntCounter,
    pub(super) denials: IntCounterVec,
    pub(super) observed: IntCounterVec,
    pub(super) clear: IntCounterVec,
    pub(super) site: String,
    pub(super) route: String,
}

impl RouteMetrics {
    /// Records an answered request.
    pub fn answered(&self, status: u16, took: Duration, received: usize, sent: usize) {
        // 0 means that the client was gone before the response.
        let class = usize::from(status / 100).checked_sub(1);
        if let Some(class) = class.and_then(|class| self.classes.get(class)) {
            class.inc();
        }
        self.seconds.observe(took.as_secs_f64());
        if received > 0 {
            self.received.inc_by(received as u64);
        }
        if sent > 0 {
            self.sent.inc_by(sent as u64);
        }
    }

    /// Counts a denied request.
    pub fn denied(&self, denial: Denial) {
        self.denials.with_label_values(&[&*self.site, &*self.route, denial.code()]).inc();
    }

    /// Counts a request that was forwarded only because its site system was observing.
    pub fn observed(&self, denial: Denial) {
        self.observed.with_label_values(&[&*self.site, &*self.route, denial.code()]).inc();
    }

    /// Counts a plain HTTP request.
    pub fn came_in_clear(&self, outcome: ClearOutcome) {
        self.clear.with_label_values(&[&*self.site, &*self.route, outcome.as_str()]).inc();
    }

    /// How many requests of this route were denied for this reason.
    pub fn denials(&self, denial: Denial) -> u64 {
        self.denials.with_label_values(&[&*self.site, &*self.route, denial.code()]).get()
    }
}
