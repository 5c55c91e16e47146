//! The results of a fleet's requests: counts, latencies, and failures.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::latency::Latency;

/// The most distinct kinds of failures; further ones are counted as one kind.
const FAILURES_MAX: usize = 100;

/// An action of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deed {
    Register,
    Token,
    PolicyMessage,
    Policy,
    Location,
    Download,
    Notification,
}

impl Deed {
    const ALL: [Deed; 7] = [
        Deed::Register,
        Deed::Token,
        Deed::PolicyMessage,
        Deed::Policy,
        Deed::Location,
        Deed::Download,
        Deed::Notification,
    ];

    fn name(self) -> &'static str {
        match self {
            Deed::Register => "register",
            Deed::Token => "token",
            Deed::PolicyMessage => "policy-message",
            Deed::Policy => "policy",
            Deed::Location => "location",
            Deed::Download => "download",
            Deed::Notification => "notification",
        }
    }
}

/// The results so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    working: AtomicU64,
    took: Mutex<BTreeMap<Deed, Latency>>,
    failures: Mutex<Causes>,
    put_off: Mutex<Causes>,
}

/// The failures by action and cause, with their count.
type Causes = BTreeMap<(Deed, String), u64>;

/// The results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Clients that were admitted and started to work.
    pub clients: u64,
    /// The elapsed time in seconds.
    pub seconds: f64,
    /// Requests with the expected response.
    pub requests: u64,
    /// Requests without the expected response.
    pub failed: u64,
    /// The former, per second.
    pub requests_per_second: f64,
    /// The results by action.
    pub steps: Vec<TallyRow>,
    /// Failures, with their count.
    pub failures: Vec<Failure>,
    /// Retries that the token service demanded: not failures.
    pub put_off: Vec<Failure>,
}

/// The results of one action.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TallyRow {
    /// Its name.
    pub step: &'static str,
    /// Requests with the expected response.
    pub requests: u64,
    /// Requests without the expected response.
    pub failed: u64,
    /// The median latency of the former in milliseconds, including the handshake if there was one.
    pub p50_ms: f64,
    /// The 90th percentile.
    pub p90_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// The maximum.
    pub max_ms: f64,
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The action.
    pub step: &'static str,
    /// The status and sitegate's code, or why there was no response.
    pub what: String,
    /// The count.
    pub count: u64,
}

impl Tally {
    /// Counts a client that has started to work.
    pub(super) fn begun(&self) {
        self.working.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn done(&self, deed: Deed, took: Duration) {
        let mut all = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(deed).or_default().record(took);
    }

    pub(super) fn failed(&self, deed: Deed, what: String) {
        count(&self.failures, deed, what);
    }

    /// Counts a retry that the token service demanded.
    pub(super) fn put_off(&self, deed: Deed, what: String) {
        count(&self.put_off, deed, what);
    }

    pub(super) fn summary(&self, took: Duration) -> Summary {
        let all = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        let wrong = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failed_in = |deed: Deed| {
            wrong.iter().filter(|((d, _), _)| *d == deed).map(|(_, count)| *count).sum::<u64>()
        };
        let nothing = Latency::default();
        let rows = Deed::ALL.iter().filter_map(|deed| {
            let (latency, failed) = (all.get(deed).unwrap_or(&nothing), failed_in(*deed));
            (latency.count() + failed > 0).then(|| TallyRow {
                step: deed.name(),
                requests: latency.count(),
                failed,
                p50_ms: latency.percentile_ms(50.0),
                p90_ms: latency.percentile_ms(90.0),
                p99_ms: latency.percentile_ms(99.0),
                max_ms: latency.max_ms(),
            })
        });
        let steps: Vec<TallyRow> = rows.collect();
        let requests = steps.iter().map(|row| row.requests).sum();
        let put_off = self.put_off.lock().unwrap_or_else(PoisonError::into_inner);
        Summary {
            clients: self.working.load(Ordering::Relaxed),
            seconds: took.as_secs_f64(),
            requests,
            failed: steps.iter().map(|row| row.failed).sum(),
            requests_per_second: requests as f64 / took.as_secs_f64().max(0.001),
            steps,
            failures: listed(&wrong),
            put_off: listed(&put_off),
        }
    }
}

fn count(causes: &Mutex<Causes>, deed: Deed, what: String) {
    let mut all = causes.lock().unwrap_or_else(PoisonError::into_inner);
    let is_new = !all.contains_key(&(deed, what.clone()));
    let what = if is_new && all.len() >= FAILURES_MAX { "others".to_owned() } else { what };
    *all.entry((deed, what)).or_default() += 1;
}

/// The most frequent first.
fn listed(causes: &Causes) -> Vec<Failure> {
    let each = causes.iter().map(|((deed, what), count)| Failure {
        step: deed.name(),
        what: what.clone(),
        count: *count,
    });
    let mut all: Vec<Failure> = each.collect();
    all.sort_by_key(|failure| std::cmp::Reverse(failure.count));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_their_names_and_their_numbers() {
        let tally = Tally::default();
        tally.begun();
        tally.done(Deed::Policy, Duration::from_millis(3));
        for _ in 0..2 {
            tally.failed(Deed::Policy, "403 device.blocked".to_owned());
        }
        tally.failed(Deed::Token, "no answer".to_owned());
        tally.put_off(Deed::Register, "503 service.store".to_owned());
        let summary = tally.summary(Duration::from_secs(2));
        assert_eq!((summary.clients, summary.requests, summary.failed), (1, 1, 3));
        assert_eq!(summary.requests_per_second, 0.5);
        let steps: Vec<_> = summary.steps.iter().map(|row| (row.step, row.failed)).collect();
        assert_eq!(steps, [("token", 1), ("policy", 2)]);
        assert_eq!(summary.failures[0].what, "403 device.blocked");
        assert_eq!(summary.put_off[0].what, "503 service.store");
        for n in 0..500 {
            tally.failed(Deed::Policy, n.to_string());
        }
        let summary = tally.summary(Duration::from_secs(2));
        assert!(summary.failures.len() <= FAILURES_MAX + 1 && summary.failed == 503);
    }
}
