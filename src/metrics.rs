//! Every metric, and the only use of `prometheus`. Each module declares its metrics once, with name,
//! help and labels.
//!
//! Labels come from closed lists and from names in the configuration, never from a client.

mod backends;
mod certificates;
mod clients;
mod connections;
mod following;
mod http2;
mod log;
mod plain_http;
mod process;
mod registrar;
mod requests;
mod route;
mod site;
mod store;
mod tokens;
mod totals;

use std::collections::BTreeSet;

use prometheus::{IntGauge, Registry, TextEncoder};

pub use backends::{BackendAddressMetrics, BackendMetrics};
pub use certificates::CertificateMetrics;
pub use clients::ClientMetrics;
pub use connections::{ConnectionEnd, ConnectionMetrics};
pub use following::FollowingMetrics;
pub use http2::{Http2Error, Http2Metrics};
pub use log::{LineLost, LogLost, LogMetrics};
pub use plain_http::ClearOutcome;
pub use process::ProcessMetrics;
pub use requests::{Level, RequestMetrics};
pub use route::{AllRoutesMetrics, RouteMetrics};
pub use site::SiteMetrics;
pub use store::StoreMetrics;
pub use tokens::TokenMetrics;
pub use totals::Totals;

use registrar::Registrar;

/// All metrics of the process.
pub struct Metrics {
    /// The process as a whole.
    pub process: ProcessMetrics,
    /// Client connections.
    pub connections: ConnectionMetrics,
    /// Requests in flight.
    pub requests: RequestMetrics,
    /// Requests by route.
    pub routes: AllRoutesMetrics,
    /// HTTP/2.
    pub http2: Http2Metrics,
    /// Backends.
    pub backends: BackendMetrics,
    /// Site systems' certificates.
    pub certificates: CertificateMetrics,
    /// Trust for client certificates.
    pub clients: ClientMetrics,
    /// Tokens.
    pub tokens: TokenMetrics,
    /// The site's own services.
    pub site: SiteMetrics,
    /// The process's own store.
    pub store: StoreMetrics,
    /// The site server that this gateway follows.
    pub following: FollowingMetrics,
    /// Logs.
    pub log: LogMetrics,
    registry: Registry,
    names: BTreeSet<String>,
}

/// Keeps a gauge incremented until dropped.
pub struct Counted<'a>(&'a IntGauge);

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// If two metrics have the same name: a bug that the first test shows.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let mut r = Registrar::default();
        let process = ProcessMetrics::new(&mut r)?;
        let connections = ConnectionMetrics::new(&mut r)?;
        let requests = RequestMetrics::new(&mut r)?;
        let routes = AllRoutesMetrics::new(&mut r)?;
        let http2 = Http2Metrics::new(&mut r)?;
        let backends = BackendMetrics::new(&mut r)?;
        let certificates = CertificateMetrics::new(&mut r)?;
        let clients = ClientMetrics::new(&mut r)?;
        let tokens = TokenMetrics::new(&mut r)?;
        let site = SiteMetrics::new(&mut r)?;
        let store = StoreMetrics::new(&mut r)?;
        let following = FollowingMetrics::new(&mut r)?;
        let log = LogMetrics::new(&mut r)?;
        let (registry, names) = r.finish();
        Ok(Metrics {
            process,
            connections,
            requests,
            routes,
            http2,
            backends,
            certificates,
            clients,
            tokens,
            site,
            store,
            following,
            log,
            registry,
            names,
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

    /// The names of all metrics of sitegate's own, also of those that have no series yet.
    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }
}

impl<'a> Counted<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Counted(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
