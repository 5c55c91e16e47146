//! Backend metrics: latencies, and failures by fault.
//!
//! Labels are backends as the configuration names them, the addresses that their names resolve to,
//! and words from a closed list.

use std::time::Duration;

use prometheus::{Error, GaugeVec, Histogram, HistogramVec, IntCounterVec, IntGaugeVec};

use super::registrar::Registrar;
use crate::backend_health::BackendFault;

/// From a small file on the same machine to the longest wait of clients.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];

/// The metrics of all backends.
#[derive(Clone)]
pub struct BackendMetrics {
    up: IntGaugeVec,
    last_success: GaugeVec,
    failures: IntCounterVec,
    connect: HistogramVec,
    first_byte: HistogramVec,
}

/// The metrics of one backend address: handles that are resolved when it becomes known.
#[derive(Clone, Debug)]
pub struct BackendAddressMetrics {
    backend: String,
    address: String,
    failures: IntCounterVec,
    connect: Histogram,
    first_byte: Histogram,
}

impl BackendMetrics {
    pub(super) fn new(r: &mut Registrar) -> Result<Self, Error> {
        Ok(BackendMetrics {
            up: r.int_gauges(
                "backend_up",
                "Whether an address of a backend answers, by the requests that went there.",
                &["backend", "address"],
            )?,
            last_success: r.gauges(
                "backend_last_success_timestamp_seconds",
                "When an address of a backend last answered, in seconds since 1970.",
                &["backend", "address"],
            )?,
            failures: r.counters(
                "backend_failures_total",
                "Requests that failed at an address of a backend, by reason.",
                &["backend", "address", "reason"],
            )?,
            connect: r.durations(
                "backend_connect_duration_seconds",
                "Time to make a connection to a backend, TLS included.",
                &["backend"],
                SECONDS,
            )?,
            first_byte: r.durations(
                "backend_first_byte_duration_seconds",
                "Time from the last byte of a request to the head of the backend's response.",
                &["backend"],
                SECONDS,
            )?,
        })
    }

    /// The metrics of one backend address.
    pub fn of(&self, backend: &str, address: &str) -> BackendAddressMetrics {
        for fault in BackendFault::ALL {
            let _ = self.failures.with_label_values(&[backend, address, fault.code()]);
        }
        BackendAddressMetrics {
            backend: backend.to_owned(),
            address: address.to_owned(),
            failures: self.failures.clone(),
            connect: self.connect.with_label_values(&[backend]),
            first_byte: self.first_byte.with_label_values(&[backend]),
        }
    }

    /// Sets whether an address responds, and when it last did; `None` while unknown.
    pub fn seen(&self, backend: &str, address: &str, up: Option<bool>, last: Option<f64>) {
        if let Some(up) = up {
            self.up.with_label_values(&[backend, address]).set(i64::from(up));
        }
        if let Some(last) = last {
            self.last_success.with_label_values(&[backend, address]).set(last);
        }
    }

    /// How many responses have begun, and the total seconds waited for them.
    pub fn waits(&self, backend: &str) -> (u64, f64) {
        let first_byte = self.first_byte.with_label_values(&[backend]);
        (first_byte.get_sample_count(), first_byte.get_sample_sum())
    }

    /// Removes an address: the backend's name no longer resolves to it, or the backend was removed
    /// from the configuration.
    pub fn forget_address(&self, backend: &str, address: &str) {
        let labels = [backend, address];
        let _ = self.up.remove_label_values(&labels);
        let _ = self.last_success.remove_label_values(&labels);
        for fault in BackendFault::ALL {
            let _ = self.failures.remove_label_values(&[backend, address, fault.code()]);
        }
    }

    /// Removes a backend that is no longer configured.
    pub fn forget(&self, backend: &str) {
        let _ = self.connect.remove_label_values(&[backend]);
        let _ = self.first_byte.remove_label_values(&[backend]);
    }
}

impl BackendAddressMetrics {
    /// Records a new connection.
    pub fn connected(&self, took: Duration) {
        self.connect.observe(took.as_secs_f64());
    }

    /// Records a response that has begun.
    pub fn answered(&self, waited: Duration) {
        self.first_byte.observe(waited.as_secs_f64());
    }

    /// Counts a failed request.
    pub fn failed(&self, fault: BackendFault) {
        self.failures.with_label_values(&[&*self.backend, &*self.address, fault.code()]).inc();
    }
}
