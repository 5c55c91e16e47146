//! Readiness: whether a load balancer should send requests to this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::metrics::Metrics;

/// The current lines.
type DetailLines = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Whether this process should receive requests: not before it has started, not while it drains,
/// and not while a site system has no certificate.
#[derive(Clone)]
pub struct Readiness {
    started: Arc<AtomicBool>,
    draining: Arc<AtomicBool>,
    /// The faults of listeners and site systems, a line each.
    amiss: DetailLines,
    /// Warnings that are no reason to send requests elsewhere, a line each.
    notes: DetailLines,
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

    /// Marks the process as started: every listener is open.
    pub fn set_started(&self) {
        self.started.store(true, Ordering::Release);
        let _ = self.reasons();
    }

    /// Marks the process as draining.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
        let _ = self.reasons();
    }

    /// Warnings while the process is ready.
    pub fn notes(&self) -> Vec<String> {
        (self.notes)()
    }

    /// Why the process is not ready; empty if it is.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.started.load(Ordering::Acquire) {
            reasons.push("starting".to_owned());
        }
        if self.draining.load(Ordering::Acquire) {
            reasons.push("draining".to_owned());
        }
        reasons.extend((self.amiss)());
        self.metrics.process.ready(reasons.is_empty());
        reasons
    }
}
