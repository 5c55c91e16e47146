//! What a fleet's requests came to: how many, how long they took, and what went wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::sim::latency::Latency;

/// Kinds of failures that are told apart; what more there is counts as one.
const FAILURES_MAX: usize = 100;

/// What a client does.
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

/// What has happened so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    working: AtomicU64,
    took: Mutex<BTreeMap<Deed, Latency>>,
    failures: Mutex<Causes>,
    put_off: Mutex<Causes>,
}

/// What went wrong in what, and how often.
type Causes = BTreeMap<(Deed, String), u64>;

/// What has happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Clients that got as far as their work.
    pub clients: u64,
    /// For how long.
    pub seconds: f64,
    /// Requests that were answered as they should be.
    pub requests: u64,
    /// Requests that were not.
    pub failed: u64,
    /// Of the first, in a second.
    pub requests_per_second: f64,
    /// By what was done.
    pub steps: Vec<Row>,
    /// What went wrong, and how often.
    pub failures: Vec<Failure>,
    /// What the token service told clients to come again for, and they did: no failures.
    pub put_off: Vec<Failure>,
}

/// One thing that clients do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub step: &'static str,
    /// Requests that were answered as they should be.
    pub requests: u64,
    /// Requests that were not.
    pub failed: u64,
    /// What half of the former took no longer than, in milliseconds, with the handshake where there
    /// was one.
    pub p50_ms: f64,
    /// The same of nine in ten.
    pub p90_ms: f64,
    /// The same of 99 in a hundred.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// In what.
    pub step: &'static str,
    /// The status and sitegate's code, or why there was no answer.
    pub what: String,
    /// How often.
    pub count: u64,
}

impl Tally {
    /// A client has begun its work.
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

    /// A client was told to come again, and will.
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
            (latency.count() + failed > 0).then(|| Row {
                step: deed.name(),
                requests: latency.count(),
                failed,
                p50_ms: latency.percentile_ms(50.0),
                p90_ms: latency.percentile_ms(90.0),
                p99_ms: latency.percentile_ms(99.0),
                max_ms: latency.max_ms(),
            })
        });
        let steps: Vec<Row> = rows.collect();
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
