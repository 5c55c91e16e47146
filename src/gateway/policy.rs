//! What the gateway judges requests by: a configuration with its keys, caches and counters resolved,
//! replaced as a whole.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::clear::Clear;
use super::connection::{Address, BackendTls, Peer, Target};
use super::decide::Pass;
use super::host::host_of;
use super::observe::Observing;
use crate::backend_health::{BackendHealth, Endpoint};
use crate::client::ClientTrust;
use crate::config::{AltAuth, BackendTimes, Config, MessageGuard, SiteSystem};
use crate::denial::Denial;
use crate::front::{ConnInfo, Pace};
use crate::live::Live;
use crate::metrics::{Metrics, RouteMetrics};
use crate::rate::{Rate, neighbourhood};
use crate::refetch::Refetch;
use crate::route::{Destination, Role, RouteTable};
use crate::secret::BasicCredential;
use crate::token::{Blocklist, TokenCache, TokenSource, Trusted};

/// The route name that counts requests for which no route was found.
pub const NO_ROUTE: &str = "none";

/// Everything that requests are judged by.
pub struct Policy {
    /// The site systems by name.
    pub sites: HashMap<Arc<str>, Arc<SitePolicy>>,
    /// Those behind each address of plain HTTP, as configured, in the order of the configuration.
    pub clear: HashMap<SocketAddr, Vec<Arc<SitePolicy>>>,
    /// Whose tokens are accepted.
    pub trusted: Vec<Trusted>,
    /// Whom to ask for newer keys, by the issuer's name; the keys of the others come by themselves.
    pub refetch: HashMap<Arc<str>, Refetch>,
    /// Whose tokens are refused all the same.
    pub blocklist: Live<Blocklist>,
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
    /// How fast a request body has to come.
    pub body_pace: Pace,
}

/// What tokens are judged by.
pub struct TokenPolicy {
    /// The issuers of a configuration with their keys, in any order.
    pub trusted: Vec<Trusted>,
    /// Whom to ask for newer keys.
    pub refetch: HashMap<Arc<str>, Refetch>,
    /// Whose tokens are refused all the same.
    pub blocklist: Live<Blocklist>,
    /// Tokens that were verified.
    pub tokens: Arc<TokenCache>,
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
    /// Every `iss` of these, with a space between them: whom the site's services may believe for a
    /// request that came by this site system.
    pub accepted_iss: String,
    /// How clients address the site's other systems: a token for one of them is for nobody here.
    pub elsewhere: Vec<String>,
    /// Where clients put their tokens.
    pub token_sources: Vec<TokenSource>,
    /// The fields that may hold a credential, in lower case.
    pub secrets: Vec<String>,
    /// Whether Windows authentication is carried.
    pub windows_auth: bool,
    /// Whether a client's trace is carried on.
    pub trusts_traces: bool,
    /// What the messages of clients with a token have to be.
    pub message_guard: MessageGuard,
    /// The endpoints that they may be for; `None` for any.
    pub message_endpoints: Option<Vec<String>>,
    /// What messages without a token may ask for besides what clients without one need.
    pub message_requests: Vec<String>,
    /// Who may use the AltAuth namespaces; `None` for nobody.
    pub alt_auth: Option<AltAuth>,
    /// What it does with plain HTTP; `None` where it does not listen for it.
    pub clear: Option<Clear>,
    /// How it observes, where it does not enforce.
    pub observing: Option<Observing>,
    /// By whom client certificates are judged, where clients are asked for one.
    pub clients: Option<Live<ClientTrust>>,
    /// Where requests go.
    pub upstreams: Upstreams,
    /// The turns of each route that counts them, in the order of the table.
    pub rates: Vec<Option<Rate<IpAddr>>>,
    /// The counters of each route, in the order of the table.
    pub metrics: Vec<RouteMetrics>,
    /// The counters of requests without a route.
    pub no_route: RouteMetrics,
}

/// Where the requests of a site system go.
pub struct Upstreams {
    /// Its backend.
    pub backend: Upstream,
    /// The backends of single roles.
    pub roles: Vec<(Role, Upstream)>,
    /// The token service, where it is offered.
    pub token_service: Option<Upstream>,
    /// What the site's authority publishes, where it does.
    pub publication: Option<Upstream>,
}

/// A backend, ready to connect to.
pub struct Upstream {
    /// Its addresses, as its name resolves at present.
    pub addresses: Live<Vec<Endpoint>>,
    /// Or its unix socket.
    pub unix: Option<UnixEndpoint>,
    /// Whom its certificate has to convince; `None` for plain HTTP.
    pub tls: Option<BackendTls>,
    /// What sitegate itself is known by there; `None` where clients are asked for themselves.
    pub credential: Option<BasicCredential>,
    /// How long to wait for what.
    pub times: BackendTimes,
}

/// A unix socket that a backend listens on.
#[derive(Clone, Debug)]
pub struct UnixEndpoint {
    /// Its path.
    pub path: Arc<Path>,
    /// Its health; `None` for a service of this process.
    pub health: Option<Arc<BackendHealth>>,
}

impl Policy {
    /// The policy of a configuration. `judged_by` says whose a token is; `upstreams` makes ready
    /// where a site system's requests go; `clients` is whose certificates it trusts.
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
            let site = SitePolicy::new(system, all, to, clients(system), metrics);
            let site = Arc::new(SitePolicy { accepted_iss, ..site });
            if let Some(plain) = &system.plain_http {
                clear.entry(plain.listen).or_default().push(site.clone());
            }
            sites.insert(site.name.clone(), site);
        }
        let TokenPolicy { trusted, refetch, blocklist, tokens } = judged_by;
        Policy {
            sites,
            clear,
            trusted,
            refetch,
            blocklist,
            tokens,
            uri_bytes_max: config.limits.uri_bytes,
            header_bytes_max: config.limits.connection.header_bytes,
            headers_max: config.limits.headers,
            send_stall: config.limits.connection.send_stall,
            body_pace: Pace {
                grace: config.limits.connection.body_grace,
                bytes_per_second: config.limits.connection.body_bytes_per_second,
            },
        }
    }

    /// The site system that a request is for: the one its connection was made to by TLS; in clear, the
    /// one that `host` names, or else the default of the address.
    pub(super) fn site_of(&self, conn: &ConnInfo, host: Option<&[u8]>) -> Option<Arc<SitePolicy>> {
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
        all: &[SiteSystem],
        upstreams: Upstreams,
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
            rates: system
                .routes
                .iter()
                .map(|route| route.requests_per_minute.map(Rate::per_minute))
                .collect(),
            routes: system.routes.clone(),
            issuers: system.issuers.iter().map(|name| name.as_str().into()).collect(),
            accepted_iss: String::new(),
            elsewhere: elsewhere(system, all),
            token_sources: system.token_sources.clone(),
            secrets: secrets(&system.token_sources),
            windows_auth: system.windows_auth,
            trusts_traces: system.trust_traceparent,
            message_guard: system.message_guard,
            message_endpoints: system.message_endpoints.clone(),
            message_requests: system.message_requests.clone(),
            alt_auth: system.alt_auth.clone(),
            clear: system.plain_http.as_ref().map(|plain| {
                let hosts = system.hosts.iter().cloned();
                Clear::new(plain.mode, hosts.zip(system.origins()).collect(), &system.routes)
            }),
            observing: system.observe_until.map(|until| Observing::new(until, &system.routes)),
            clients,
            upstreams,
        }
    }

    /// Where the requests of a route go. What has none goes on only where a site system observes,
    /// and then to the backend.
    pub(super) fn upstream(&self, route: Option<usize>) -> Option<&Upstream> {
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

    /// What sitegate asks the backend with for a request that may go on: nothing for one that is only
    /// observed, which would be refused, nor for one that was not asked for the token that its route
    /// requires, nor where the client authenticates itself to the backend.
    pub(super) fn credential(&self, route: Option<usize>, pass: &Pass) -> Option<&BasicCredential> {
        if pass.pinned || pass.unasked || pass.observed.is_some() {
            return None;
        }
        self.upstream(route)?.credential.as_ref()
    }

    /// Take a turn of a route that counts them.
    pub(super) fn takes_turn(&self, route: Option<usize>, client: IpAddr) -> Result<(), Denial> {
        match route.and_then(|place| self.rates.get(place)) {
            Some(Some(rate)) => {
                rate.take(&neighbourhood(client)).map_err(|_| Denial::LimitRequests)
            }
            _ => Ok(()),
        }
    }

    /// The counters of a route, or of none.
    pub fn counters(&self, route: Option<usize>) -> &RouteMetrics {
        route.and_then(|index| self.metrics.get(index)).unwrap_or(&self.no_route)
    }
}

/// One with a space or anything that no field takes is left out, and so is not believed there.
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

/// Authorization in any form passes only where a route says so, tokens or not.
fn secrets(sources: &[TokenSource]) -> Vec<String> {
    let named = sources.iter().map(|source| source.header().to_ascii_lowercase());
    let mut secrets: Vec<String> = named.chain(["authorization".to_owned()]).collect();
    secrets.dedup();
    secrets
}

impl Upstream {
    /// Where it is at present: nowhere while its name does not resolve.
    pub(super) fn peers(&self) -> Peers<'_> {
        Peers { upstream: self, addresses: self.addresses.load() }
    }
}

/// Where a backend is, at a moment.
pub(super) struct Peers<'a> {
    upstream: &'a Upstream,
    addresses: Arc<Vec<Endpoint>>,
}

impl Peers<'_> {
    /// One after the other, in the order in which they are tried.
    pub(super) fn iter(&self) -> impl Iterator<Item = Target> + Clone {
        let unix = self.upstream.unix.iter();
        let unix = unix.map(|socket| (Address::Unix(socket.path.clone()), socket.health.clone()));
        let tcp = self.addresses.iter();
        let tcp = tcp.map(|end| (Address::Tcp(end.address), Some(end.health.clone())));
        unix.chain(tcp).map(|(address, health)| Target {
            peer: Peer::new(address, self.upstream.tls.as_ref()),
            health,
        })
    }
}
