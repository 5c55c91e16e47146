//! What the gateway judges requests by: a configuration with its keys, caches and counters resolved,
//! replaced as a whole.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::protocols::tls::CaType;

use crate::client::ClientTrust;
use crate::config::{BackendAddress, BackendTimes, Config, SiteSystem};
use crate::live::Live;
use crate::metrics::{Metrics, RouteMetrics};
use crate::route::RouteTable;
use crate::token::{TokenCache, TokenSource, Trusted};

/// The route name that counts requests for which no route was found.
pub const NO_ROUTE: &str = "none";

/// Everything that requests are judged by.
pub struct Policy {
    /// The site systems by name.
    pub sites: HashMap<Arc<str>, Arc<SitePolicy>>,
    /// Whose tokens are accepted.
    pub trusted: Vec<Trusted>,
    /// Tokens that were verified; shared by successive policies.
    pub tokens: Arc<TokenCache>,
    /// Bytes of a request target.
    pub uri_bytes_max: usize,
    /// Bytes of a request head.
    pub header_bytes_max: usize,
    /// Fields of a request head.
    pub headers_max: usize,
    /// How long a client may take nothing of an answer.
    pub send_stall: Duration,
}

/// One site system.
pub struct SitePolicy {
    /// Its name.
    pub name: Arc<str>,
    /// The names and addresses it answers to.
    pub hosts: Vec<String>,
    /// Its routes.
    pub routes: RouteTable,
    /// The names of the issuers that it accepts.
    pub issuers: Vec<Arc<str>>,
    /// Where clients put their tokens.
    pub token_sources: Vec<TokenSource>,
    /// Whether Windows authentication is carried.
    pub windows_auth: bool,
    /// By whom client certificates are judged, where clients are asked for one.
    pub clients: Option<Live<ClientTrust>>,
    /// Where requests go.
    pub backend: Upstream,
    /// The counters of each route, in the order of the table.
    pub metrics: Vec<RouteMetrics>,
    /// The counters of requests without a route.
    pub no_route: RouteMetrics,
}

/// A backend, ready to connect to.
pub struct Upstream {
    /// Its addresses, as its name resolves at present.
    pub addresses: Live<Vec<SocketAddr>>,
    /// Or its unix socket.
    pub unix: Option<String>,
    /// The name in its certificate; `None` for plain HTTP.
    pub tls_name: Option<String>,
    /// The roots to trust instead of the system's.
    pub ca: Option<Arc<CaType>>,
    /// How long to wait for what.
    pub times: BackendTimes,
}

impl Policy {
    /// The policy of a configuration. `trusted` are its issuers with their keys, in any order;
    /// `upstream` makes a site system's backend ready; `clients` is whose certificates it trusts.
    pub fn new(
        config: &Config,
        trusted: Vec<Trusted>,
        tokens: Arc<TokenCache>,
        metrics: &Metrics,
        mut upstream: impl FnMut(&SiteSystem) -> Upstream,
        mut clients: impl FnMut(&SiteSystem) -> Option<Live<ClientTrust>>,
    ) -> Policy {
        let sites = config
            .site_systems
            .iter()
            .map(|system| {
                let site = SitePolicy::new(system, upstream(system), clients(system), metrics);
                (site.name.clone(), Arc::new(site))
            })
            .collect();
        Policy {
            sites,
            trusted,
            tokens,
            uri_bytes_max: config.limits.uri_bytes,
            header_bytes_max: config.limits.connection.header_bytes,
            headers_max: config.limits.headers,
            send_stall: config.limits.connection.send_stall,
        }
    }

    /// The site systems and routes that are counted.
    pub fn counted(&self) -> BTreeSet<(String, String)> {
        let mut counted = BTreeSet::new();
        for site in self.sites.values() {
            counted.insert((site.name.to_string(), NO_ROUTE.to_owned()));
            for route in site.routes.iter() {
                counted.insert((site.name.to_string(), route.name.to_string()));
            }
        }
        counted
    }
}

impl SitePolicy {
    fn new(
        system: &SiteSystem,
        backend: Upstream,
        clients: Option<Live<ClientTrust>>,
        metrics: &Metrics,
    ) -> SitePolicy {
        SitePolicy {
            name: system.name.as_str().into(),
            hosts: system.hosts.clone(),
            metrics: system
                .routes
                .iter()
                .map(|route| metrics.route(&system.name, &route.name))
                .collect(),
            no_route: metrics.route(&system.name, NO_ROUTE),
            routes: system.routes.clone(),
            issuers: system.issuers.iter().map(|name| name.as_str().into()).collect(),
            token_sources: system.token_sources.clone(),
            windows_auth: system.windows_auth,
            clients,
            backend,
        }
    }

    /// The counters of a route, or of none.
    pub fn counters(&self, route: Option<usize>) -> &RouteMetrics {
        route.and_then(|index| self.metrics.get(index)).unwrap_or(&self.no_route)
    }
}

impl Upstream {
    /// The unix socket of a backend, where it has one.
    pub fn unix_path(address: &BackendAddress) -> Option<String> {
        match address {
            BackendAddress::Unix(path) => Some(path.display().to_string()),
            BackendAddress::Host(..) => None,
        }
    }
}
