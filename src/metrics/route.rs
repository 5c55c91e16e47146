//! What is counted of the requests of one route: handles that were resolved when the configuration was
//! loaded.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec};

use super::clear::ClearOutcome;
use crate::denial::Denial;

/// The counters of one route of one site system.
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
    /// A request was answered.
    pub fn answered(&self, status: u16, took: Duration, received: usize, sent: usize) {
        // 0 is a client that was gone before it could be answered.
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

    /// A request was refused.
    pub fn denied(&self, denial: Denial) {
        self.denials.with_label_values(&[&*self.site, &*self.route, denial.code()]).inc();
    }

    /// A request went on that would have been refused, had its site system not been observing.
    pub fn observed(&self, denial: Denial) {
        self.observed.with_label_values(&[&*self.site, &*self.route, denial.code()]).inc();
    }

    /// A request came in clear.
    pub fn came_in_clear(&self, outcome: ClearOutcome) {
        self.clear.with_label_values(&[&*self.site, &*self.route, outcome.as_str()]).inc();
    }

    /// How often requests of this route were refused for this reason.
    pub fn denials(&self, denial: Denial) -> u64 {
        self.denials.with_label_values(&[&*self.site, &*self.route, denial.code()]).get()
    }
}
