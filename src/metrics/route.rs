//! The metrics of requests by site system and route.
//!
//! Labels are configured names and words from closed lists only.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Error, Histogram, HistogramVec, IntCounter, IntCounterVec};

use super::plain_http::ClearOutcome;
use super::registrar::Registrar;
use super::totals;
use crate::denial::Denial;

const CODE_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// From a cached small response to a long poll.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 120.0,
];

/// The metrics of all routes.
pub struct AllRoutesMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    outcomes: RouteOutcomes,
    /// The pairs of site system and route that have series.
    known: Mutex<BTreeSet<(String, String)>>,
}

/// Counters whose last label is known only when a request is answered.
#[derive(Clone, Debug)]
struct RouteOutcomes {
    denials: IntCounterVec,
    observed: IntCounterVec,
    clear: IntCounterVec,
}

/// The metrics of one route of one site system: handles that are resolved when the configuration is
/// loaded, so that counting a request needs no lookup.
#[derive(Clone, Debug)]
pub struct RouteMetrics {
    site: String,
    route: String,
    classes: [IntCounter; 5],
    seconds: Histogram,
    received: IntCounter,
    sent: IntCounter,
    outcomes: RouteOutcomes,
}

impl AllRoutesMetrics {
    pub(super) fn new(r: &mut Registrar) -> Result<Self, Error> {
        Ok(AllRoutesMetrics {
            requests: r.counters(
                "requests_total",
                "Requests answered, by site system, route and class of the status code.",
                &["site_system", "route", "code_class"],
            )?,
            seconds: r.durations(
                "request_duration_seconds",
                "Time from the request head to the end of the response.",
                &["site_system", "route"],
                SECONDS,
            )?,
            received: r.counters(
                "request_body_bytes_total",
                "Bytes of request bodies received.",
                &["site_system", "route"],
            )?,
            sent: r.counters(
                "response_body_bytes_total",
                "Bytes of response bodies sent.",
                &["site_system", "route"],
            )?,
            outcomes: RouteOutcomes {
                denials: r.counters(
                    "denials_total",
                    "Requests refused by sitegate, by site system, route and reason.",
                    &["site_system", "route", "reason"],
                )?,
                observed: r.counters(
                    "observed_denials_total",
                    "Requests that were forwarded only because their site system observes, by denial code.",
                    &["site_system", "route", "reason"],
                )?,
                clear: r.counters(
                    "clear_requests_total",
                    "Requests over plain HTTP, by site system, route and result.",
                    &["site_system", "route", "outcome"],
                )?,
            },
            known: Mutex::default(),
        })
    }

    /// The metrics of a route, created if they are new.
    pub fn of(&self, site: &str, route: &str) -> RouteMetrics {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((site.to_owned(), route.to_owned()));
        RouteMetrics {
            site: site.to_owned(),
            route: route.to_owned(),
            classes: CODE_CLASSES.map(|c| self.requests.with_label_values(&[site, route, c])),
            seconds: self.seconds.with_label_values(&[site, route]),
            received: self.received.with_label_values(&[site, route]),
            sent: self.sent.with_label_values(&[site, route]),
            outcomes: self.outcomes.clone(),
        }
    }

    /// Removes every route that is not among these: series of removed routes must not stay in
    /// memory or on the scrape.
    pub fn retain(&self, keep: &BTreeSet<(String, String)>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(site, route)| {
            let is_kept = keep.contains(&(site.clone(), route.clone()));
            if !is_kept {
                self.remove(site, route);
            }
            is_kept
        });
    }

    fn remove(&self, site: &str, route: &str) {
        let RouteOutcomes { denials, observed, clear } = &self.outcomes;
        for class in CODE_CLASSES {
            let _ = self.requests.remove_label_values(&[site, route, class]);
        }
        for denial in Denial::ALL {
            let _ = denials.remove_label_values(&[site, route, denial.code()]);
            let _ = observed.remove_label_values(&[site, route, denial.code()]);
        }
        for outcome in ClearOutcome::ALL {
            let _ = clear.remove_label_values(&[site, route, outcome.as_str()]);
        }
        let _ = self.seconds.remove_label_values(&[site, route]);
        let _ = self.received.remove_label_values(&[site, route]);
        let _ = self.sent.remove_label_values(&[site, route]);
    }

    pub(super) fn requests_in_all(&self) -> u64 {
        totals::sum(&self.requests)
    }

    pub(super) fn denials_in_all(&self) -> u64 {
        totals::sum(&self.outcomes.denials)
    }
}

impl RouteMetrics {
    /// Records an answered request.
    pub fn answered(&self, status: u16, took: Duration, received: usize, sent: usize) {
        // 0 means that the client was gone before the response.
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

    /// Counts a denied request.
    pub fn denied(&self, denial: Denial) {
        self.outcomes.denials.with_label_values(&[&*self.site, &*self.route, denial.code()]).inc();
    }

    /// Counts a request that was forwarded only because its site system was observing.
    pub fn observed(&self, denial: Denial) {
        self.outcomes.observed.with_label_values(&[&*self.site, &*self.route, denial.code()]).inc();
    }

    /// Counts a plain HTTP request.
    pub fn came_in_clear(&self, outcome: ClearOutcome) {
        self.outcomes.clear.with_label_values(&[&*self.site, &*self.route, outcome.as_str()]).inc();
    }

    /// How many requests of this route were denied for this reason.
    pub fn denials(&self, denial: Denial) -> u64 {
        self.outcomes.denials.with_label_values(&[&*self.site, &*self.route, denial.code()]).get()
    }
}
