//! What follows the configuration: certificates, keys of issuers, trust in client certificates, and
//! the values that connections and requests are judged by. A start and a reload take the same path.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::Options;
use super::assemble::{SiteAuthorities, Sites, no_ca};
use super::blocklist::Joined;
use super::clients::Clients;
use super::issuers::Issuers;
use super::upstreams;
use crate::config::{BackendAddress, Config, Limits, SiteSystem};
use crate::control::Backends;
use crate::front::Binding;
use crate::gateway::{Policy, RequestsInFlight, TokenPolicy};
use crate::live::{Live, Publisher, live};
use crate::local_service::{LocalListeners, LocalServices, local_services};
use crate::metrics::Metrics;
use crate::token::{TokenCache, Trusted};

/// The configuration as it is applied.
pub(super) struct Applied {
    pub(super) authorities: SiteAuthorities,
    pub(super) sites: Sites,
    pub(super) issuers: Issuers,
    pub(super) clients: Clients,
    pub(super) joined: Joined,
    pub(super) backends: Arc<Backends>,
    services: LocalServices,
    tokens: Arc<TokenCache>,
    limits: Publisher<Limits>,
    bindings: Publisher<Vec<Binding>>,
    policy: Publisher<Policy>,
    /// The issuers that the site's services check tokens against.
    trusted: Publisher<Vec<Trusted>>,
}

/// The published values, for those that serve. They change at each reload.
pub(super) struct AppliedValues {
    pub(super) limits: Live<Limits>,
    pub(super) bindings: Live<Vec<Binding>>,
    pub(super) policy: Live<Policy>,
    pub(super) trusted: Live<Vec<Trusted>>,
    pub(super) listeners: LocalListeners,
}

impl Applied {
    /// Applies nothing yet: no address has a binding, and no site system has a policy.
    pub(super) fn new(
        authorities: SiteAuthorities,
        in_flight: Arc<RequestsInFlight>,
        tokens: TokenCache,
        metrics: &Metrics,
    ) -> (Self, AppliedValues) {
        let backends = Arc::new(Backends::new(metrics.backends.clone()));
        let (services, listeners) = local_services();
        let tokens = Arc::new(tokens);
        let (trusted, trusted_read) = live(Vec::new());
        let joined = Joined::new(trusted_read.clone(), in_flight);
        let (limits, limits_read) = live(Limits::default());
        let (bindings, bindings_read) = live(Vec::new());
        let (policy, policy_read) = live(Policy {
            sites: HashMap::new(),
            clear: HashMap::new(),
            trusted: Vec::new(),
            refetch: HashMap::new(),
            blocklist: joined.list(),
            tokens: tokens.clone(),
            limits: Limits::default(),
        });
        let applied = Applied {
            authorities,
            sites: Sites::default(),
            issuers: Issuers::default(),
            clients: Clients::default(),
            joined,
            backends,
            services,
            tokens,
            limits,
            bindings,
            policy,
            trusted,
        };
        let values = AppliedValues {
            limits: limits_read,
            bindings: bindings_read,
            policy: policy_read,
            trusted: trusted_read,
            listeners,
        };
        (applied, values)
    }

    /// Applies a configuration. Cannot fail: what can is checked before.
    pub(super) fn follow(
        &mut self,
        config: &Config,
        options: &Options,
        metrics: &Arc<Metrics>,
        tasks: &mut JoinSet<()>,
    ) {
        self.sites.follow(config, &self.authorities, options, metrics, tasks);
        self.issuers.follow(config, &self.authorities, options, metrics, tasks);
        self.clients.follow(config, options, metrics, tasks);
        let trusted = self.issuers.trusted().0;
        // Between two policies, the blocklist has the issuers of both.
        self.joined.before(&trusted);
        let policy = self.policy_for(config, metrics);
        let counted = policy.counted();
        self.policy.publish(policy);
        self.trusted.publish(trusted);
        self.joined.again();
        self.limits.publish(config.limits);
        self.bindings.publish(self.sites.bindings(config));
        metrics.routes.retain(&counted);
        self.backends.retain(&backend_addresses(config));
    }

    /// The policy that requests are checked against.
    fn policy_for(&self, config: &Config, metrics: &Metrics) -> Policy {
        let (trusted, refetch) = self.issuers.trusted();
        let (blocklist, tokens) = (self.joined.list(), self.tokens.clone());
        let judged_by = TokenPolicy { trusted, refetch, blocklist, tokens };
        let to_backends = self.authorities.to_backends();
        let to = |system: &SiteSystem| {
            upstreams::of(system, &self.services, &self.backends, &to_backends)
        };
        let clients = |system: &SiteSystem| {
            if system.is_site_server() {
                // No CA vouches for gateways: the site server knows each by its own certificate.
                Some(live(no_ca(&self.authorities)).1)
            } else {
                self.clients.trust(&system.name)
            }
        };
        Policy::new(config, judged_by, metrics, to, clients)
    }

    /// A reader of the policy.
    pub(super) fn policy(&self) -> Live<Policy> {
        self.policy.reader()
    }
}

/// The addresses of all backends.
pub(super) fn backend_addresses(config: &Config) -> BTreeSet<BackendAddress> {
    let backends = config.site_systems.iter().flat_map(|system| system.backends());
    backends.map(|backend| backend.address.clone()).collect()
}
