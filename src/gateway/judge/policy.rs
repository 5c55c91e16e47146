//! The policy that requests are judged by: a configuration with its keys, caches and counters
//! resolved, replaced as a whole.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::host::host_of;
use super::modes::{Observing, PlainHttpRules};
use super::verdict::Pass;
use crate::backend_health::{BackendHealth, Endpoint};
use crate::client::ClientTrust;
use crate::config::{AltAuth, BackendTimes, Config, Limits, MessagePolicy, SiteSystem};
use crate::denial::Denial;
use crate::front::ConnInfo;
use crate::gateway::exchange::{Address, BackendTls, Bound, ConnectTarget, Peer};
use crate::live::Live;
use crate::local_service::LocalService;
use crate::metrics::{Metrics, RouteMetrics};
use crate::rate::{Rate, neighbourhood};
use crate::refetch::Refetch;
use crate::route::{Destination, Role, RouteTable};
use crate::secret::BasicCredential;
use crate::token::{Blocklist, TokenCache, TokenSource, Trusted};

/// The route label of requests without a route.
pub const NO_ROUTE: &str = "none";

/// Everything that requests are judged by.
pub struct Policy {
    /// The site systems by name.
    pub sites: HashMap<Arc<str>, Arc<SitePolicy>>,
    /// The site systems of each configured plain-HTTP address, in configuration order.
    pub clear: HashMap<SocketAddr, Vec<Arc<SitePolicy>>>,
    /// The accepted issuers with their keys.
    pub trusted: Vec<Trusted>,
    /// The sources for newer keys by issuer name; the keys of other issuers refresh on their own.
    pub refetch: HashMap<Arc<str>, Refetch>,
    /// The blocked tokens, devices and users.
    pub blocklist: Live<Blocklist>,
    /// Verified tokens, cached and shared by successive policies.
    pub tokens: Arc<TokenCache>,
    /// What clients may take.
    pub limits: Limits,
}

/// The parts of the policy that judge tokens.
pub struct TokenPolicy {
    /// The configured issuers with their keys, in any order.
    pub trusted: Vec<Trusted>,
    /// The sources for newer keys.
    pub refetch: HashMap<Arc<str>, Refetch>,
    /// The blocked tokens, devices and users.
    pub blocklist: Live<Blocklist>,
    /// Verified tokens, cached.
    pub tokens: Arc<TokenCache>,
}

/// One site system.
pub struct SitePolicy {
    /// Its name.
    pub name: Arc<str>,
    /// Its host names and addresses.
    pub hosts: Vec<String>,
    /// Its routes.
    pub routes: RouteTable,
    /// Which tokens it accepts, and where.
    pub tokens: TokenRules,
    /// Whether Windows authentication passes through.
    pub windows_auth: bool,
    /// Whether a client's trace is continued.
    pub trusts_traces: bool,
    /// The requirements on messages.
    pub messages: MessagePolicy,
    /// The clients that may use the AltAuth namespaces; `None` for no client.
    pub alt_auth: Option<AltAuth>,
    /// How it treats plain HTTP; `None` without a plain-HTTP listener.
    pub clear: Option<PlainHttpRules>,
    /// How it observes; `None` if it enforces.
    pub observing: Option<Observing>,
    /// The trust for client certificates, if clients are asked for one.
    pub clients: Option<Live<ClientTrust>>,
    /// The destinations of requests.
    pub upstreams: Upstreams,
    /// The rate limit of each route that has one, in the order of the table.
    pub rates: Vec<Option<Rate<IpAddr>>>,
    /// Its counters.
    pub metrics: SiteCounters,
}

/// Which tokens a site system accepts, and where clients put them.
pub struct TokenRules {
    /// The names of the issuers that it accepts.
    pub issuers: BTreeSet<Arc<str>>,
    /// Every `iss` of these issuers, separated by spaces: the issuers that the site's services may
    /// accept for a request through this site system.
    pub accepted_iss: String,
    /// The origins of the site's other systems. A token for one of them is refused here.
    pub elsewhere: Vec<String>,
    /// Where clients put their tokens.
    pub sources: Vec<TokenSource>,
    /// The fields that may hold a credential, in lower case.
    pub secrets: Vec<String>,
}

/// The counters of a site system.
pub struct SiteCounters {
    /// The counters of each route, in the order of the table.
    pub routes: Vec<RouteMetrics>,
    /// The counters of requests without a route.
    pub no_route: RouteMetrics,
}

/// The destinations of a site system's requests.
pub struct Upstreams {
    /// Its backend.
    pub backend: Upstream,
    /// The backends of single roles.
    pub roles: Vec<(Role, Upstream)>,
    /// The token service, if it is offered.
    pub token_service: Option<Upstream>,
    /// The authority's publications, if there are any.
    pub publication: Option<Upstream>,
}

/// A backend, ready to connect to.
pub struct Upstream {
    /// Its addresses, as its name resolves now.
    pub addresses: Live<Vec<Endpoint>>,
    /// Or its place on this machine.
    pub local: Option<LocalEndpoint>,
    /// The trust for its certificate; `None` for plain HTTP.
    pub tls: Option<BackendTls>,
    /// The gateway's own credential at the backend; `None` if clients authenticate themselves.
    pub credential: Option<BasicCredential>,
    /// Its timeouts.
    pub times: BackendTimes,
    /// Its requests in flight, and their limit.
    pub in_flight: Arc<Bound>,
    /// The most requests in flight.
    pub requests_max: usize,
}

/// A backend that is not reached over the network.
#[derive(Clone, Debug)]
pub enum LocalEndpoint {
    /// The path of a Unix socket, and the health of the backend that listens there.
    Unix(Arc<Path>, Arc<BackendHealth>),
    /// A service of this process.
    Service(LocalService),
}

impl Policy {
    /// Builds the policy of a configuration. `judged_by` holds the issuers, keys and blocklist.
    /// `upstreams` resolves a site system's destinations. `clients` returns its trust for client
    /// certificates.
    pub fn new(
        config: &Config,
        judged_by: TokenPolicy,
        metrics: &Metrics,
        mut upstreams: impl FnMut(&SiteSystem) -> Upstreams,
        mut clients: impl FnMut(&SiteSystem) -> Option<Live<ClientTrust>>,
    ) -> Policy {
        let mut sites = HashMap::new();
        let mut clear: HashMap<_, Vec<_>> = HashMap::new();
        for system in &config.site_systems {
            let (to, all) = (upstreams(system), &config.site_systems);
            let accepted_iss = accepted_iss(system, &judged_by.trusted);
            let tokens = TokenRules::new(system, all, accepted_iss);
            let site = Arc::new(SitePolicy::new(system, tokens, to, clients(system), metrics));
            if let Some(plain) = &system.plain_http {
                clear.entry(plain.listen).or_default().push(site.clone());
            }
            sites.insert(site.name.clone(), site);
        }
        let TokenPolicy { trusted, refetch, blocklist, tokens } = judged_by;
        Policy { sites, clear, trusted, refetch, blocklist, tokens, limits: config.limits }
    }

    /// Returns the site system of a request. Over TLS, the one that the connection was opened for.
    /// Over plain HTTP, the one that `host` names, or else the default of the address.
    pub(in crate::gateway) fn site_of(
        &self,
        conn: &ConnInfo,
        host: Option<&[u8]>,
    ) -> Option<Arc<SitePolicy>> {
        if let Some(address) = &conn.clear {
            let named = host.and_then(host_of).map(|host| host.trim_end_matches('.'));
            let answers = |site: &&Arc<SitePolicy>| {
                site.hosts.iter().any(|own| named.is_some_and(|n| own.eq_ignore_ascii_case(n)))
            };
            if let Some(site) = self.clear.get(address)?.iter().find(answers) {
                return Some(site.clone());
            }
        }
        self.sites.get(&conn.site).cloned()
    }

    /// Returns the site systems and routes that have counters.
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

impl TokenRules {
    fn new(system: &SiteSystem, all: &[SiteSystem], accepted_iss: String) -> Self {
        TokenRules {
            issuers: system.issuers.iter().map(|name| name.as_str().into()).collect(),
            accepted_iss,
            elsewhere: elsewhere(system, all),
            sources: system.token_sources.clone(),
            secrets: secrets(&system.token_sources),
        }
    }
}

impl SitePolicy {
    fn new(
        system: &SiteSystem,
        tokens: TokenRules,
        upstreams: Upstreams,
        clients: Option<Live<ClientTrust>>,
        metrics: &Metrics,
    ) -> SitePolicy {
        SitePolicy {
            name: system.name.as_str().into(),
            hosts: system.hosts.clone(),
            metrics: SiteCounters {
                routes: system
                    .routes
                    .iter()
                    .map(|route| metrics.routes.of(&system.name, &route.name))
                    .collect(),
                no_route: metrics.routes.of(&system.name, NO_ROUTE),
            },
            rates: system
                .routes
                .iter()
                .map(|route| route.requests_per_minute.map(Rate::per_minute))
                .collect(),
            routes: system.routes.clone(),
            tokens,
            windows_auth: system.windows_auth,
            trusts_traces: system.trust_traceparent,
            messages: system.messages.clone(),
            alt_auth: system.alt_auth.clone(),
            clear: system.plain_http.as_ref().map(|plain| {
                let hosts = system.hosts.iter().cloned();
                PlainHttpRules::new(
                    plain.mode,
                    hosts.zip(system.origins()).collect(),
                    &system.routes,
                )
            }),
            observing: system.observe_until.map(|until| Observing::new(until, &system.routes)),
            clients,
            upstreams,
        }
    }

    /// Returns the destination of a route. A request without a route passes only in observe mode,
    /// to the backend.
    pub(in crate::gateway) fn upstream(&self, route: Option<usize>) -> Option<&Upstream> {
        let Upstreams { backend, roles, token_service, publication } = &self.upstreams;
        match route.and_then(|place| self.routes.get(place)).map(|route| route.destination) {
            Some(Destination::Backend | Destination::SiteServer) | None => Some(backend),
            Some(Destination::Role(role)) => {
                roles.iter().find(|(of, _)| *of == role).map(|(_, upstream)| upstream)
            }
            Some(Destination::TokenService) => token_service.as_ref(),
            Some(Destination::Publication) => publication.as_ref(),
        }
    }

    /// Returns the gateway's own credential for an admitted request. It is `None` for an observed
    /// request, which enforcing would refuse; for a request that passed without the token that its
    /// route requires; and if the client authenticates itself to the backend.
    pub(in crate::gateway) fn credential(
        &self,
        route: Option<usize>,
        pass: &Pass,
    ) -> Option<&BasicCredential> {
        if pass.pinned || pass.unasked || pass.observed.is_some() {
            return None;
        }
        self.upstream(route)?.credential.as_ref()
    }

    /// Counts a request against its route's rate limit.
    pub(in crate::gateway) fn takes_turn(
        &self,
        route: Option<usize>,
        client: IpAddr,
    ) -> Result<(), Denial> {
        match route.and_then(|place| self.rates.get(place)) {
            Some(Some(rate)) => {
                rate.take(&neighbourhood(client)).map_err(|_| Denial::LimitRequests)
            }
            _ => Ok(()),
        }
    }

    /// Returns the counters of a route, or those of no route.
    pub fn counters(&self, route: Option<usize>) -> &RouteMetrics {
        route.and_then(|index| self.metrics.routes.get(index)).unwrap_or(&self.metrics.no_route)
    }
}

/// An `iss` with a space or another byte that no field takes is left out, so the services do not
/// accept it.
fn accepted_iss(system: &SiteSystem, trusted: &[Trusted]) -> String {
    let accepted = trusted.iter().filter(|t| system.issuers.iter().any(|n| **n == *t.issuer.name));
    let all = accepted.flat_map(|t| &t.issuer.accepts).map(String::as_str);
    let fit = all.filter(|iss| !iss.is_empty() && iss.bytes().all(|b| b.is_ascii_graphic()));
    fit.collect::<Vec<_>>().join(" ")
}

fn elsewhere(system: &SiteSystem, all: &[SiteSystem]) -> Vec<String> {
    let own: BTreeSet<String> = system.origins().collect();
    all.iter().flat_map(SiteSystem::origins).filter(|origin| !own.contains(origin)).collect()
}

/// Authorization in any form passes only if a route says so, with or without tokens.
fn secrets(sources: &[TokenSource]) -> Vec<String> {
    let named = sources.iter().map(|source| source.header().to_ascii_lowercase());
    let mut secrets: Vec<String> = named.chain(["authorization".to_owned()]).collect();
    secrets.dedup();
    secrets
}

impl Upstream {
    /// Returns its current addresses: none while its name does not resolve.
    pub(in crate::gateway) fn peers(&self) -> Peers<'_> {
        Peers { upstream: self, addresses: self.addresses.load() }
    }
}

/// The addresses of a backend at one moment.
pub(in crate::gateway) struct Peers<'a> {
    upstream: &'a Upstream,
    addresses: Arc<Vec<Endpoint>>,
}

impl Peers<'_> {
    /// Iterates over them in the order in which they are tried.
    pub(in crate::gateway) fn iter(&self) -> impl Iterator<Item = ConnectTarget> + Clone {
        let local = self.upstream.local.iter().map(|local| match local {
            LocalEndpoint::Unix(path, health) => {
                (Address::Unix(path.clone()), Some(health.clone()))
            }
            LocalEndpoint::Service(service) => (Address::Local(service.clone()), None),
        });
        let tcp = self.addresses.iter();
        let tcp = tcp.map(|end| (Address::Tcp(end.address), Some(end.health.clone())));
        local.chain(tcp).map(|(address, health)| ConnectTarget {
            peer: Peer::new(address, self.upstream.tls.as_ref()),
            health,
        })
    }
}
