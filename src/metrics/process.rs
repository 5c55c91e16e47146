//! Process metrics: version, readiness, configuration, clock and state directory.

use prometheus::process_collector::ProcessCollector;
use prometheus::{Error, Gauge, IntGauge, IntGaugeVec};

use super::registrar::Registrar;

/// The metrics of the process as a whole.
pub struct ProcessMetrics {
    ready: IntGauge,
    reload_successful: IntGauge,
    reload_seconds: Gauge,
    observing: IntGaugeVec,
    state_present: IntGauge,
    state_free: IntGauge,
    clock: Gauge,
}

impl ProcessMetrics {
    pub(super) fn new(r: &mut Registrar) -> Result<Self, Error> {
        r.collector(ProcessCollector::for_self())?;
        r.int_gauges(
            "build_info",
            "The running version, and how it was built.",
            &["version", "build"],
        )?
        .with_label_values(&[env!("CARGO_PKG_VERSION"), crate::BUILD])
        .set(1);
        Ok(ProcessMetrics {
            ready: r.int_gauge("ready", "Whether /readyz answers 200.")?,
            reload_successful: r.int_gauge(
                "config_last_reload_successful",
                "Whether the configuration file, as it was last read, is in force.",
            )?,
            reload_seconds: r.gauge(
                "config_last_reload_success_timestamp_seconds",
                "When a configuration last came into force, in seconds since 1970.",
            )?,
            observing: r.int_gauges(
                "observe_mode",
                "1 while a site system observes and does not enforce; 0 after observe_until.",
                &["site_system"],
            )?,
            state_present: r.int_gauge(
                "state_present",
                "Whether the state directory is still the one that was opened at the start.",
            )?,
            state_free: r.int_gauge(
                "state_free_bytes",
                "Free bytes on the file system of the state directory.",
            )?,
            clock: r.gauge(
                "clock_timestamp_seconds",
                "What this machine's clock says, in seconds since 1970.",
            )?,
        })
    }

    /// Sets the result of /readyz.
    pub fn ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    /// Records a reload of the configuration file: `Some` with the time if it is in force now.
    pub fn config_reloaded(&self, seconds: Option<i64>) {
        self.reload_successful.set(i64::from(seconds.is_some()));
        if let Some(seconds) = seconds {
            self.reload_seconds.set(seconds as f64);
        }
    }

    /// Sets whether a site system observes; `None` if it was never configured to.
    pub fn observing(&self, site: &str, observes: Option<bool>) {
        match observes {
            Some(observes) => {
                self.observing.with_label_values(&[site]).set(i64::from(observes));
            }
            None => {
                let _ = self.observing.remove_label_values(&[site]);
            }
        }
    }

    /// Sets whether the state directory still exists.
    pub fn state_present(&self, present: bool) {
        self.state_present.set(i64::from(present));
    }

    /// Sets the free bytes on the state directory's file system.
    pub fn state_free(&self, bytes: u64) {
        self.state_free.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Sets the time of a scrape, in seconds since 1970.
    pub fn clock(&self, seconds: f64) {
        self.clock.set(seconds);
    }
}
