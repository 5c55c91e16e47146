//! Whether this process should be sent requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::metrics::Metrics;

/// Lines of the moment.
type Lines = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Whether this process should be sent requests: not before it has started, not while it drains,
/// and not while a site system has no certificate.
#[derive(Clone)]
pub struct Readiness {
    started: Arc<AtomicBool>,
    draining: Arc<AtomicBool>,
    /// What is amiss with the site systems, a line each.
    amiss: Lines,
    /// What needs attention and is no reason to send requests elsewhere, a line each.
    notes: Lines,
    metrics: Arc<Metrics>,
}

impl Readiness {
    /// Not started yet.
    pub fn new(
        metrics: Arc<Metrics>,
        amiss: impl Fn() -> Vec<String> + Send + Sync + 'static,
        notes: impl Fn() -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        Readiness {
            started: Arc::default(),
            draining: Arc::default(),
            amiss: Arc::new(amiss),
            notes: Arc::new(notes),
            metrics,
        }
    }

    /// Every listener is open.
    pub fn set_started(&self) {
        self.started.store(true, Ordering::Release);
        let _ = self.reasons();
    }

    /// No more requests, please.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
        let _ = self.reasons();
    }

    /// What needs attention though this process is ready.
    pub fn notes(&self) -> Vec<String> {
        (self.notes)()
    }

    /// Why not; nothing if ready.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.started.load(Ordering::Acquire) {
            reasons.push("starting".to_owned());
        }
        if self.draining.load(Ordering::Acquire) {
            reasons.push("draining".to_owned());
        }
        reasons.extend((self.amiss)());
        self.metrics.set_ready(reasons.is_empty());
        reasons
    }
}
