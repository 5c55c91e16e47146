//! Passive health checks of backends: the results of requests at each address of a backend.
//!
//! The connections to backends report; log, metrics and status read. No probe request is sent.
//! While an address is healthy, a report writes one value at most.

mod fault;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::BackendAddressMetrics;

pub use fault::BackendFault;

/// An address is down after this many consecutive failures, since one failure may be the fault of
/// the request. An address that refuses connections is down at once.
const FAILURES_IN_A_ROW: u32 = 3;
/// The resolution of the time of the last success. Otherwise a busy address would write it for each
/// request, and shards would contend.
const SUCCESS_MS: u64 = 100;

/// The state of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendState {
    /// No request was sent there yet.
    Unknown,
    /// It responds.
    Up,
    /// It does not respond.
    Down,
}

impl BackendState {
    /// The word in log and status.
    pub fn as_str(self) -> &'static str {
        match self {
            BackendState::Unknown => "unknown",
            BackendState::Up => "up",
            BackendState::Down => "down",
        }
    }
}

/// One address of a backend, with its health.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The address.
    pub address: SocketAddr,
    /// Its health.
    pub health: Arc<BackendHealth>,
}

/// The results of requests at one address of a backend.
#[derive(Debug)]
pub struct BackendHealth {
    /// The address in the notation of the access log.
    address: Box<str>,
    since: Instant,
    /// The time of the last success in milliseconds after `since`, plus one; 0 for never.
    success: AtomicU64,
    /// Whether a request has failed since the last success, or none has succeeded yet.
    unsettled: AtomicBool,
    failures: Mutex<Failures>,
    metrics: BackendAddressMetrics,
}

#[derive(Debug, Default)]
struct Failures {
    state_since: Option<Instant>,
    is_down: bool,
    /// The number of failures since the last success, and the time of the first.
    in_a_row: u32,
    first: Option<Instant>,
    last: Option<(Instant, BackendFault, String)>,
}

/// A snapshot of an address's health. Times are ages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSeen {
    /// Its state.
    pub state: BackendState,
    /// How long it has been in that state; for one that is down, since the first of the consecutive
    /// failures.
    pub state_since: Option<Duration>,
    /// When it last responded.
    pub last_success: Option<Duration>,
    /// When a request last failed there, the fault, and the details.
    pub last_failure: Option<(Duration, BackendFault, String)>,
    /// How many requests have failed since the last success.
    pub failures_in_a_row: u32,
}

impl BackendHealth {
    /// The health of an address without any requests yet.
    pub fn new(address: &str, metrics: BackendAddressMetrics) -> Self {
        BackendHealth {
            address: address.into(),
            since: Instant::now(),
            success: AtomicU64::new(0),
            unsettled: AtomicBool::new(true),
            failures: Mutex::default(),
            metrics,
        }
    }

    /// The address, as in log and status.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a new connection.
    pub fn connected(&self, took: Duration) {
        self.metrics.connected(took);
    }

    /// Records that a response has begun, this long after the last byte of its request was sent.
    pub fn answered(&self, status: u16, waited: Duration, now: Instant) {
        self.metrics.answered(waited);
        if matches!(status, 502..=504) {
            return self.failed(BackendFault::Unavailable, &format!("it answers {status}"), now);
        }
        let at = u64::try_from((now - self.since).as_millis()).unwrap_or(u64::MAX);
        let before = self.success.load(Ordering::Relaxed);
        if before == 0 || at.saturating_sub(before) >= SUCCESS_MS {
            self.success.store(at.saturating_add(1), Ordering::Relaxed);
        }
        if self.unsettled.load(Ordering::Relaxed) {
            let mut failures = self.failures();
            self.unsettled.store(false, Ordering::Relaxed);
            if failures.is_down || failures.state_since.is_none() {
                failures.state_since = Some(now);
            }
            (failures.is_down, failures.in_a_row) = (false, 0);
        }
    }

    /// Records that a request got no connection.
    pub fn unconnected(&self, fault: BackendFault, detail: &str, now: Instant) {
        self.failed_in_a_row(1, fault, detail, now);
    }

    /// Records that a request failed on a connection.
    pub fn failed(&self, fault: BackendFault, detail: &str, now: Instant) {
        self.failed_in_a_row(FAILURES_IN_A_ROW, fault, detail, now);
    }

    /// Records a failure; the address is down after that many consecutive ones.
    fn failed_in_a_row(&self, many: u32, fault: BackendFault, detail: &str, now: Instant) {
        self.metrics.failed(fault);
        let mut failures = self.failures();
        if failures.in_a_row == 0 {
            failures.first = Some(now);
        }
        failures.in_a_row = failures.in_a_row.saturating_add(1);
        failures.last = Some((now, fault, detail.to_owned()));
        self.unsettled.store(true, Ordering::Relaxed);
        if failures.in_a_row >= many && !failures.is_down {
            failures.is_down = true;
            failures.state_since = failures.first;
        }
    }

    /// Its current health.
    pub fn seen(&self, now: Instant) -> HealthSeen {
        let ago = |then: Instant| now.saturating_duration_since(then);
        let failures = self.failures();
        let success = self.success.load(Ordering::Relaxed).checked_sub(1);
        HealthSeen {
            state: match (failures.is_down, failures.state_since) {
                (true, _) => BackendState::Down,
                (false, Some(_)) => BackendState::Up,
                (false, None) => BackendState::Unknown,
            },
            state_since: failures.state_since.map(ago),
            last_success: success.map(|ms| ago(self.since + Duration::from_millis(ms))),
            last_failure: failures
                .last
                .as_ref()
                .map(|(at, fault, detail)| (ago(*at), *fault, detail.clone())),
            failures_in_a_row: failures.in_a_row,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::denial::Denial;
    use crate::metrics::Metrics;

    fn health() -> BackendHealth {
        let metrics = Metrics::new().unwrap();
        BackendHealth::new("192.0.2.1:80", metrics.backends.of("iis:80", "192.0.2.1:80"))
    }

    const SECOND: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    /// The result of each request, one per second, and the expected state.
    enum Did {
        Answers(u16),
        Fails(BackendFault),
        NoConnection(BackendFault),
    }
    use BackendFault::*;
    use BackendState::*;
    use Did::*;

    #[rstest]
    #[case::nothing_yet(vec![], Unknown)]
    #[case::an_answer(vec![Answers(200)], Up)]
    #[case::any_answer(vec![Answers(404)], Up)]
    #[case::an_error_of_one_page(vec![Answers(500), Answers(500), Answers(500)], Up)]
    #[case::no_connection_at_once(vec![NoConnection(Unreachable)], Down)]
    #[case::no_connection_in_time(vec![Answers(200), NoConnection(Timeout)], Down)]
    #[case::a_wrong_certificate(vec![Answers(200), NoConnection(Certificate)], Down)]
    #[case::one_failure_alone(vec![Answers(200), Fails(Closed), Fails(Timeout)], Up)]
    #[case::three_in_a_row(vec![Answers(200), Fails(Closed), Fails(Timeout), Fails(Closed)], Down)]
    #[case::three_not_in_a_row(
        vec![Fails(Closed), Fails(Closed), Answers(200), Fails(Closed), Fails(Closed)],
        Up
    )]
    #[case::one_failure_at_first(vec![Fails(Response)], Unknown)]
    #[case::no_service_behind_it(vec![Answers(503), Answers(502), Answers(504)], Down)]
    #[case::back_at_the_next_answer(vec![NoConnection(Unreachable), Answers(200)], Up)]
    #[case::back_though_it_answers_an_error(vec![NoConnection(Unreachable), Answers(500)], Up)]
    #[case::not_back_by_a_503(vec![NoConnection(Unreachable), Answers(503)], Down)]
    fn the_state_follows_from_what_requests_found(
        #[case] did: Vec<Did>,
        #[case] state: BackendState,
    ) {
        let (health, mut now) = (health(), Instant::now());
        for did in did {
            now += SECOND;
            match did {
                Answers(status) => health.answered(status, MS, now),
                Fails(fault) => health.failed(fault, "", now),
                NoConnection(fault) => health.unconnected(fault, "", now),
            }
        }
        assert_eq!(health.seen(now).state, state);
    }

    #[test]
    fn an_outage_has_begun_with_the_first_failure_in_a_row() {
        let (health, began) = (health(), Instant::now());
        health.answered(200, MS, began);
        for second in 1..=5 {
            health.failed(Timeout, "nothing came", began + SECOND * second);
        }
        let seen = health.seen(began + SECOND * 7);
        assert_eq!(seen.state_since, Some(SECOND * 6));
    }

    #[test]
    fn what_was_last_is_known() {
        let (health, began) = (health(), Instant::now());
        health.answered(200, MS, began + SECOND);
        health.unconnected(Unreachable, "refused", began + SECOND * 2);
        let seen = health.seen(began + SECOND * 4);
        assert_eq!(seen.last_success.map(|ago| ago.as_secs_f64().round()), Some(3.0));
        assert_eq!(seen.last_failure, Some((SECOND * 2, Unreachable, "refused".to_owned())));
        assert_eq!(seen.failures_in_a_row, 1);
    }

    #[test]
    fn a_busy_address_does_not_write_the_time_of_each_answer() {
        let (health, began) = (health(), Instant::now());
        health.answered(200, MS, began + SECOND);
        let written = health.success.load(Ordering::Relaxed);
        health.answered(200, MS, began + SECOND + MS * 99);
        assert_eq!(health.success.load(Ordering::Relaxed), written);
        health.answered(200, MS, began + SECOND + MS * 101);
        assert_ne!(health.success.load(Ordering::Relaxed), written);
    }

    #[test]
    fn codes_are_unique() {
        let codes: std::collections::BTreeSet<_> = BackendFault::ALL.map(BackendFault::code).into();
        assert_eq!(codes.len(), BackendFault::ALL.len());
    }

    #[test]
    fn every_upstream_denial_has_a_backend_fault_of_its_own() {
        let faults: Vec<_> =
            Denial::ALL.iter().filter(|d| d.code().starts_with("upstream.")).collect();
        assert_eq!(faults.len(), 6);
        for denial in faults {
            assert_eq!(BackendFault::of(*denial).map(BackendFault::code), Some(denial.code()));
        }
    }
}
