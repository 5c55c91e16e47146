//! Passive health of backends: what requests found at each address of a backend.
//!
//! The connections to backends report, and log, metrics and status read. No request is sent for it.
//! While all is well, a report writes one value at most.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::denial::Denial;
use crate::metrics::BackendAddressMetrics;

/// So many requests in a row have to fail before an address is down, where one failure could be the
/// fault of the request. An address without a connection is down at once.
const FAILURES_IN_A_ROW: u32 = 3;
/// How exact the time of the last success is. A busy address would otherwise write it for each
/// request, and shards would wait for each other.
const SUCCESS_MS: u64 = 100;

/// Why an address is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendFault {
    /// No connection.
    Unreachable,
    /// No connection, or no answer, in time.
    Timeout,
    /// Its certificate does not convince.
    Certificate,
    /// It refuses sitegate's own account.
    Credentials,
    /// It answers with what has more than one reading.
    Response,
    /// It closes connections before it has answered.
    Closed,
    /// It answers 502, 503 or 504: whatever serves requests behind it does not (RFC 9110 §15.6).
    Unavailable,
}

impl BackendFault {
    /// Every fault, in the order of the documentation.
    pub const ALL: [BackendFault; 7] = [
        BackendFault::Unreachable,
        BackendFault::Timeout,
        BackendFault::Certificate,
        BackendFault::Credentials,
        BackendFault::Response,
        BackendFault::Closed,
        BackendFault::Unavailable,
    ];

    /// The label of metrics, and the code in log and status: that of the refusal that clients get,
    /// except where they get the backend's own answer.
    pub fn code(self) -> &'static str {
        match self {
            BackendFault::Unreachable => Denial::UpstreamUnreachable.code(),
            BackendFault::Timeout => Denial::UpstreamTimeout.code(),
            BackendFault::Certificate => Denial::UpstreamCertificate.code(),
            BackendFault::Credentials => Denial::UpstreamCredentials.code(),
            BackendFault::Response => Denial::UpstreamResponse.code(),
            BackendFault::Closed => Denial::UpstreamClosed.code(),
            BackendFault::Unavailable => "upstream.unavailable",
        }
    }

    /// The fault that a refusal tells of, if it tells of one.
    pub fn of(denial: Denial) -> Option<Self> {
        match denial {
            Denial::UpstreamUnreachable => Some(BackendFault::Unreachable),
            Denial::UpstreamTimeout => Some(BackendFault::Timeout),
            Denial::UpstreamCertificate => Some(BackendFault::Certificate),
            Denial::UpstreamCredentials => Some(BackendFault::Credentials),
            Denial::UpstreamResponse => Some(BackendFault::Response),
            Denial::UpstreamClosed => Some(BackendFault::Closed),
            _ => None,
        }
    }

    /// What an operator does about it.
    pub fn hint(self) -> &'static str {
        match self {
            BackendFault::Unreachable => {
                "is the service running, and does it listen on this address and port?"
            }
            BackendFault::Timeout => {
                "is the server overloaded, or does a firewall drop what is sent to it?"
            }
            BackendFault::Certificate => {
                "does its certificate have the name in `backend`, and does `backend_ca` name its issuer?"
            }
            BackendFault::Credentials => "is the account in `backend_auth` right, and not locked?",
            BackendFault::Response => "`sitegate doctor` asks it and shows what it answers",
            BackendFault::Closed => "its own log says why it ends connections",
            BackendFault::Unavailable => {
                "in IIS, the application pool has most likely stopped; its own log says why"
            }
        }
    }
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendState {
    /// No request went there yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
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

/// What requests found at one address of a backend.
#[derive(Debug)]
pub struct BackendHealth {
    /// As the access log has it.
    address: Box<str>,
    since: Instant,
    /// In milliseconds after `since`, and one more; 0 for never.
    success: AtomicU64,
    /// Whether anything failed since the last success, or nothing has succeeded yet.
    unsettled: AtomicBool,
    failures: Mutex<Failures>,
    metrics: BackendAddressMetrics,
}

#[derive(Debug, Default)]
struct Failures {
    state_since: Option<Instant>,
    is_down: bool,
    /// How many since the last success, and when the first of them was.
    in_a_row: u32,
    first: Option<Instant>,
    last: Option<(Instant, BackendFault, String)>,
}

/// The health of an address at a moment. Times are how long ago it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSeen {
    /// What is known of it.
    pub state: BackendState,
    /// Since when; of one that is down, since the first failure in a row.
    pub state_since: Option<Duration>,
    /// When it last answered.
    pub last_success: Option<Duration>,
    /// When a request last failed there, why, and what exactly.
    pub last_failure: Option<(Duration, BackendFault, String)>,
    /// How many requests have failed since the last that did not.
    pub failures_in_a_row: u32,
}

impl BackendHealth {
    /// Of an address that nothing is known of yet.
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

    /// The address, as log and status have it.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection was made.
    pub fn connected(&self, took: Duration) {
        self.metrics.connected(took);
    }

    /// An answer has begun so long after the last byte of its request was sent.
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

    /// A request got no connection there.
    pub fn unconnected(&self, fault: BackendFault, detail: &str, now: Instant) {
        self.failed_in_a_row(1, fault, detail, now);
    }

    /// A request failed on a connection there.
    pub fn failed(&self, fault: BackendFault, detail: &str, now: Instant) {
        self.failed_in_a_row(FAILURES_IN_A_ROW, fault, detail, now);
    }

    /// A request failed there; the address is down if that many in a row have.
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

    /// Its health at this moment.
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
    use crate::metrics::Metrics;

    fn health() -> BackendHealth {
        let metrics = Metrics::new().unwrap();
        BackendHealth::new("192.0.2.1:80", metrics.backends.of("iis:80", "192.0.2.1:80"))
    }

    const SECOND: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    /// What happened in each second, and what is known at its end.
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
    fn every_refusal_that_tells_of_a_fault_of_the_backend_has_one_of_its_own() {
        let faults: Vec<_> =
            Denial::ALL.iter().filter(|d| d.code().starts_with("upstream.")).collect();
        assert_eq!(faults.len(), 6);
        for denial in faults {
            assert_eq!(BackendFault::of(*denial).map(BackendFault::code), Some(denial.code()));
        }
    }
}
