//! Backend status for the status API, readiness and the doctor.

use jiff::{SignedDuration, Timestamp};

use super::App;
use crate::admin::{BackendAddressStatus, BackendStatus};
use crate::backend_health::{BackendState, HealthSeen};
use crate::config::Config;
use crate::control::{BackendSeen, Backends};

impl App {
    /// Starts name resolution and outage logging for backends.
    pub(super) fn follow_backends(&mut self) {
        let (backends, clock) = (self.applied.backends.clone(), self.options.clock.clone());
        let stop = self.stop.subscribe();
        self.tasks.spawn(async move { backends.run(clock, stop).await });
    }
}

/// Every backend of a configuration, with the health that requests found.
pub(super) fn status(config: &Config, backends: &Backends, now: Timestamp) -> Vec<BackendStatus> {
    let of = |seen: BackendSeen| {
        let used = config
            .site_systems
            .iter()
            .filter(|system| system.backends().any(|backend| backend.address == seen.address));
        BackendStatus {
            name: seen.name,
            site_systems: used.map(|system| system.name.clone()).collect(),
            first_byte_ms: seen.first_byte.map(|wait| wait.as_micros() as f64 / 1e3),
            addresses: seen
                .endpoints
                .into_iter()
                .map(|(address, health)| address_status(address, health, now))
                .collect(),
        }
    };
    backends.seen().into_iter().map(of).collect()
}

fn address_status(address: String, seen: HealthSeen, now: Timestamp) -> BackendAddressStatus {
    let at = |ago: std::time::Duration| {
        let ago = SignedDuration::try_from(ago).unwrap_or_default();
        now.checked_sub(ago).unwrap_or(Timestamp::UNIX_EPOCH)
    };
    let failure = seen.last_failure.as_ref();
    BackendAddressStatus {
        address,
        state: seen.state.as_str().to_owned(),
        since: seen.state_since.map(at),
        last_success: seen.last_success.map(at),
        last_failure: failure.map(|(ago, _, _)| at(*ago)),
        reason: failure.map(|(_, fault, _)| fault.code().to_owned()),
        detail: failure.map(|(_, _, detail)| detail.clone()),
        hint: failure.map(|(_, fault, _)| fault.hint().to_owned()),
        failures_in_a_row: seen.failures_in_a_row,
    }
}

/// Warnings, a line each: addresses that are down, and names that do not resolve.
pub(super) fn warnings(backends: &Backends) -> Vec<String> {
    let mut warnings = Vec::new();
    for BackendSeen { name, endpoints, .. } in backends.seen() {
        if endpoints.is_empty() {
            warnings.push(format!("backend {name}: its name does not resolve"));
        }
        for (address, seen) in endpoints.iter().filter(|(_, s)| s.state == BackendState::Down) {
            let place = if *address == name { String::new() } else { format!(" at {address}") };
            let why = seen.last_failure.as_ref().map(|(_, fault, detail)| {
                format!(" ({}): {detail}; {}", fault.code(), fault.hint())
            });
            let why = why.unwrap_or_default();
            warnings.push(format!("backend {name}{place} does not serve requests{why}"));
        }
    }
    warnings
}
