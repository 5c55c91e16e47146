//! Every metric, and the only use of `prometheus`. Labels come from closed lists and from names in
//! the configuration, never from a client.
//!
//! Handles are resolved when a configuration is loaded; counting a request needs no lookup.

mod backends;
mod clients;
mod connections;
mod http2;
mod log;
mod plain_http;
mod route;
mod site;
mod tokens;
mod totals;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

pub use backends::{BackendAddressMetrics, BackendMetrics};
pub use clients::ClientMetrics;
pub use connections::ConnectionEnd;
pub use http2::{Http2Error, Http2Metrics};
pub use log::{LineLost, LogLost, LogMetrics};
pub use plain_http::ClearOutcome;
pub use route::RouteMetrics;
pub use site::SiteMetrics;
pub use tokens::TokenMetrics;
pub use totals::Totals;

use crate::denial::Denial;
use crate::unfit::Unfit;

const CODE_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// From a cached small response to a long poll.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    denials: IntCounterVec,
    observed: IntCounterVec,
    observing: IntGaugeVec,
    clear: IntCounterVec,
    seconds: HistogramVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    cache_hits: IntCounter,
    cache_misses: IntCounter,
    connections: IntGauge,
    requests_in_flight: IntGauge,
    requests_waited: IntCounter,
    buffered_bytes: IntGauge,
    connections_total: IntCounter,
    connection_ends: Vec<IntCounter>,
    handshakes: IntCounterVec,
    certificate_expires: GaugeVec,
    certificate_served: IntGaugeVec,
    certificate_rejected: IntGaugeVec,
    certificate_swaps: IntCounterVec,
    staple_expires: GaugeVec,
    staple_unusable: IntGaugeVec,
    reload_successful: IntGauge,
    reload_seconds: Gauge,
    /// Token metrics.
    pub tokens: TokenMetrics,
    /// Backend metrics.
    pub backends: BackendMetrics,
    /// Client certificate metrics.
    pub clients: ClientMetrics,
    /// Metrics of the site's own services.
    pub site: SiteMetrics,
    /// HTTP/2 metrics.
    pub http2: Http2Metrics,
    /// Log metrics.
    pub log: LogMetrics,
    ready: IntGauge,
    state_present: IntGauge,
    clock: Gauge,
    known: Mutex<BTreeSet<(String, String)>>,
}

/// Keeps a gauge incremented until dropped.
pub struct Counted<'a>(&'a IntGauge);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A gauge of whole units, kept up to date by its owner.
#[derive(Clone, Debug)]
pub struct Level(IntGauge);

impl Level {
    /// Adds to it.
    pub fn add(&self, amount: usize) {
        self.0.add(i64::try_from(amount).unwrap_or(i64::MAX));
    }

    /// Subtracts from it.
    pub fn sub(&self, amount: usize) {
        self.0.sub(i64::try_from(amount).unwrap_or(i64::MAX));
    }

    /// Its value; a negative one is 0.
    pub fn get(&self) -> usize {
        usize::try_from(self.0.get()).unwrap_or(0)
    }
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// If two metrics have the same name: a bug that the first test shows.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let r = Registry::new();
        let process = prometheus::process_collector::ProcessCollector::for_self();
        r.register(Box::new(process))?;
        let build = int_gauges(
            &r,
            "build_info",
            "The running version, and how it was built.",
            &["version", "build"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), crate::BUILD]).set(1);
        let ends = counters(
            &r,
            "connection_ends_total",
            "Connections that ended before they carried a request, by reason.",
            &["reason"],
        )?;
        let connection_ends =
            ConnectionEnd::ALL.iter().map(|e| ends.with_label_values(&[e.as_str()])).collect();
        Ok(Metrics {
            requests: counters(
                &r,
                "requests_total",
                "Requests answered, by site system, route and class of the status code.",
                &["site_system", "route", "code_class"],
            )?,
            denials: counters(
                &r,
                "denials_total",
                "Requests refused by sitegate, by site system, route and reason.",
                &["site_system", "route", "reason"],
            )?,
            observed: counters(
                &r,
                "observed_denials_total",
                "Requests that were forwarded only because their site system observes, by denial code.",
                &["site_system", "route", "reason"],
            )?,
            clear: counters(
                &r,
                "clear_requests_total",
                "Requests over plain HTTP, by site system, route and result.",
                &["site_system", "route", "outcome"],
            )?,
            observing: int_gauges(
                &r,
                "observe_mode",
                "1 while a site system observes and does not enforce; 0 after observe_until.",
                &["site_system"],
            )?,
            seconds: registered(
                &r,
                HistogramVec::new(
                    HistogramOpts::new(
                        "sitegate_request_duration_seconds",
                        "Time from the request head to the end of the response.",
                    )
                    .buckets(SECONDS.to_vec()),
                    &["site_system", "route"],
                )?,
            )?,
            received: counters(
                &r,
                "request_body_bytes_total",
                "Bytes of request bodies received.",
                &["site_system", "route"],
            )?,
            sent: counters(
                &r,
                "response_body_bytes_total",
                "Bytes of response bodies sent.",
                &["site_system", "route"],
            )?,
            cache_hits: counter(
                &r,
                "token_cache_hits_total",
                "Tokens whose verification was cached.",
            )?,
            cache_misses: counter(
                &r,
                "token_cache_misses_total",
                "Tokens whose signature had to be verified.",
            )?,
            connections: registered(
                &r,
                IntGauge::new("sitegate_connections", "Client connections that are open.")?,
            )?,
            requests_in_flight: registered(
                &r,
                IntGauge::new(
                    "sitegate_requests_in_flight",
                    "Requests that have a backend connection, or are about to get one.",
                )?,
            )?,
            requests_waited: counter(
                &r,
                "requests_waited_total",
                "Requests that waited because the limit of requests in flight was reached.",
            )?,
            buffered_bytes: registered(
                &r,
                IntGauge::new(
                    "sitegate_buffered_bytes",
                    "Bytes buffered for requests not yet forwarded and responses not yet complete.",
                )?,
            )?,
            connections_total: counter(&r, "connections_total", "Client connections accepted.")?,
            connection_ends,
            handshakes: counters(
                &r,
                "tls_handshakes_total",
                "TLS handshakes completed, by protocol version and cipher suite.",
                &["version", "cipher"],
            )?,
            certificate_expires: registered(
                &r,
                GaugeVec::new(
                    Opts::new(
                        "sitegate_certificate_expiration_timestamp_seconds",
                        "When the certificate of a source expires, in seconds since 1970.",
                    ),
                    &["site_system", "source"],
                )?,
            )?,
            certificate_served: int_gauges(
                &r,
                "certificate_info",
                "1 for the source of the certificate that is served.",
                &["site_system", "source", "reason"],
            )?,
            certificate_rejected: int_gauges(
                &r,
                "certificate_rejected",
                "1 while a source holds a certificate that may not be served, by reason.",
                &["site_system", "source", "reason"],
            )?,
            certificate_swaps: counters(
                &r,
                "certificate_swaps_total",
                "Changes of the served certificate.",
                &["site_system", "from", "to", "cause"],
            )?,
            staple_expires: registered(
                &r,
                GaugeVec::new(
                    Opts::new(
                        "sitegate_certificate_staple_expiration_timestamp_seconds",
                        "When the stapled OCSP response expires, in seconds since 1970.",
                    ),
                    &["site_system"],
                )?,
            )?,
            staple_unusable: int_gauges(
                &r,
                "certificate_unstapled",
                "1 while a certificate has an OCSP response that is not stapled.",
                &["site_system"],
            )?,
            reload_successful: registered(
                &r,
                IntGauge::new(
                    "sitegate_config_last_reload_successful",
                    "Whether the configuration file, as it was last read, is in force.",
                )?,
            )?,
            reload_seconds: registered(
                &r,
                Gauge::new(
                    "sitegate_config_last_reload_success_timestamp_seconds",
                    "When a configuration last came into force, in seconds since 1970.",
                )?,
            )?,
            backends: BackendMetrics::new(&r)?,
            tokens: TokenMetrics::new(&r)?,
            clients: ClientMetrics::new(&r)?,
            site: SiteMetrics::new(&r)?,
            http2: Http2Metrics::new(&r)?,
            log: LogMetrics::new(&r)?,
            ready: registered(
                &r,
                IntGauge::new("sitegate_ready", "Whether /readyz answers 200.")?,
            )?,
            state_present: registered(
                &r,
                IntGauge::new(
                    "sitegate_state_present",
                    "Whether the state directory is still the one that was opened at the start.",
                )?,
            )?,
            clock: registered(
                &r,
                Gauge::new(
                    "sitegate_clock_timestamp_seconds",
                    "What this machine's clock says, in seconds since 1970.",
                )?,
            )?,
            known: Mutex::default(),
            registry: r,
        })
    }

    /// The metrics in the Prometheus text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics could not be written");
        }
        text
    }

    /// The metrics of a route, created if they are new.
    pub fn route(&self, site: &str, route: &str) -> RouteMetrics {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((site.to_owned(), route.to_owned()));
        RouteMetrics {
            classes: CODE_CLASSES.map(|c| self.requests.with_label_values(&[site, route, c])),
            seconds: self.seconds.with_label_values(&[site, route]),
            received: self.received.with_label_values(&[site, route]),
            sent: self.sent.with_label_values(&[site, route]),
            denials: self.denials.clone(),
            observed: self.observed.clone(),
            clear: self.clear.clone(),
            site: site.to_owned(),
            route: route.to_owned(),
        }
    }

    /// Removes every route that is not among these: series of removed routes must not stay in
    /// memory or on the scrape.
    pub fn retain_routes(&self, keep: &BTreeSet<(String, String)>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(site, route)| {
            if keep.contains(&(site.clone(), route.clone())) {
                return true;
            }
            for class in CODE_CLASSES {
                let _ = self.requests.remove_label_values(&[site, route, class]);
            }
            for denial in Denial::ALL {
                let _ = self.denials.remove_label_values(&[site, route, denial.code()]);
                let _ = self.observed.remove_label_values(&[site, route, denial.code()]);
            }
            for outcome in ClearOutcome::ALL {
                let _ = self.clear.remove_label_values(&[site, route, outcome.as_str()]);
            }
            let _ = self.seconds.remove_label_values(&[site, route]);
            let _ = self.received.remove_label_values(&[site, route]);
            let _ = self.sent.remove_label_values(&[site, route]);
            false
        });
    }

    /// Counts a token cache hit (`true`) or miss.
    pub fn token_cache(&self, hit: bool) {
        if hit { self.cache_hits.inc() } else { self.cache_misses.inc() }
    }

    /// Counts a request that got a permit; it is in flight until the guard is dropped.
    pub fn request_in_flight(&self) -> Counted<'_> {
        self.requests_in_flight.inc();
        Counted(&self.requests_in_flight)
    }

    /// The gauge of bytes that are buffered for clients.
    pub fn buffered_bytes(&self) -> Level {
        Level(self.buffered_bytes.clone())
    }

    /// Counts a request that waits for a permit.
    pub fn request_waits(&self) {
        self.requests_waited.inc();
    }

    /// Counts an accepted connection; it is open until the guard is dropped.
    pub fn connection_opened(&self) -> Counted<'_> {
        self.connections_total.inc();
        self.connections.inc();
        Counted(&self.connections)
    }

    /// Counts a connection that ended before it carried a request.
    pub fn connection_ended(&self, end: ConnectionEnd) {
        if let Some(counter) = self.connection_ends.get(end as usize) {
            counter.inc();
        }
    }

    /// Counts a completed handshake. Both values come from rustls' closed lists.
    pub fn handshake_done(&self, version: &'static str, cipher: &'static str) {
        self.handshakes.with_label_values(&[version, cipher]).inc();
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

    /// Sets when the certificate of a source expires; `None` if it has none.
    pub fn certificate_expires(&self, site: &str, source: &'static str, seconds: Option<i64>) {
        match seconds {
            Some(at) => {
                self.certificate_expires.with_label_values(&[site, source]).set(at as f64);
            }
            None => {
                let _ = self.certificate_expires.remove_label_values(&[site, source]);
            }
        }
    }

    /// Sets which source is served, and the reason.
    pub fn certificate_served(
        &self,
        site: &str,
        before: Option<(&str, &str)>,
        now: Option<(&str, &str)>,
    ) {
        if let Some((source, reason)) = before {
            let _ = self.certificate_served.remove_label_values(&[site, source, reason]);
        }
        if let Some((source, reason)) = now {
            self.certificate_served.with_label_values(&[site, source, reason]).set(1);
        }
    }

    /// Sets why a source's certificate may not be served; `None` if it may, or if there is none.
    pub fn certificate_rejected(&self, site: &str, source: &'static str, why: Option<Unfit>) {
        for unfit in Unfit::ALL {
            let labels = [site, source, unfit.code()];
            if Some(*unfit) == why {
                self.certificate_rejected.with_label_values(&labels).set(1);
            } else {
                let _ = self.certificate_rejected.remove_label_values(&labels);
            }
        }
    }

    /// Counts a change of the served certificate.
    pub fn certificate_swapped(&self, site: &str, from: &str, to: &str, cause: &str) {
        self.certificate_swaps.with_label_values(&[site, from, to, cause]).inc();
    }

    /// Sets until when an OCSP response is stapled, if one is, and whether an unusable one is
    /// present.
    pub fn certificate_stapled(&self, site: &str, until: Option<i64>, in_vain: bool) {
        match until {
            Some(at) => self.staple_expires.with_label_values(&[site]).set(at as f64),
            None => {
                let _ = self.staple_expires.remove_label_values(&[site]);
            }
        }
        if in_vain {
            self.staple_unusable.with_label_values(&[site]).set(1);
        } else {
            let _ = self.staple_unusable.remove_label_values(&[site]);
        }
    }

    /// Records a reload of the configuration file: `Some` with the time if it is in force now.
    pub fn config_reloaded(&self, seconds: Option<i64>) {
        self.reload_successful.set(i64::from(seconds.is_some()));
        if let Some(seconds) = seconds {
            self.reload_seconds.set(seconds as f64);
        }
    }

    /// Sets whether the state directory still exists.
    pub fn set_state_present(&self, present: bool) {
        self.state_present.set(i64::from(present));
    }

    /// Sets the result of /readyz.
    pub fn set_ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    /// Sets the time of a scrape, in seconds since 1970.
    pub fn set_clock(&self, seconds: f64) {
        self.clock.set(seconds);
    }

    /// The names of all metrics of sitegate's own, for the documentation's test.
    pub fn names(&self) -> BTreeSet<String> {
        let collectors: [Vec<&prometheus::core::Desc>; 9] = [
            self.requests.desc(),
            self.denials.desc(),
            self.seconds.desc(),
            self.received.desc(),
            self.sent.desc(),
            self.handshakes.desc(),
            self.certificate_expires.desc(),
            self.certificate_served.desc(),
            self.certificate_rejected.desc(),
        ];
        let more = [
            self.observed.desc(),
            self.observing.desc(),
            self.clear.desc(),
            self.certificate_swaps.desc(),
            self.staple_expires.desc(),
            self.staple_unusable.desc(),
            self.backends.descriptions(),
            self.tokens.descriptions(),
            self.clients.descriptions(),
            self.site.descriptions(),
            self.http2.descriptions(),
            self.log.descriptions(),
        ];
        let seen = self.registry.gather();
        collectors
            .into_iter()
            .chain(more)
            .flatten()
            .map(|desc| desc.fq_name.clone())
            .chain(seen.iter().map(|family| family.name().to_owned()))
            .filter(|name| name.starts_with("sitegate_"))
            .collect()
    }
}

fn registered<C: Collector + Clone + 'static>(r: &Registry, c: C) -> Result<C, prometheus::Error> {
    r.register(Box::new(c.clone()))?;
    Ok(c)
}

fn counter(r: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    registered(r, IntCounter::new(format!("sitegate_{name}"), help)?)
}

fn counters(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    registered(r, IntCounterVec::new(Opts::new(format!("sitegate_{name}"), help), labels)?)
}

fn int_gauges(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    registered(r, IntGaugeVec::new(Opts::new(format!("sitegate_{name}"), help), labels)?)
}
