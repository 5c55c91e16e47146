//! From a configuration to site systems, issuers and a policy, and from the next configuration to
//! the least change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::ServerName;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::authority::{Allowed, allowed, open_authority};
use super::clients::Clients;
use super::issuers::Issuers;
use super::observe::Certificates;
use super::{Options, StartError, upstreams};
use crate::cert::Anchors;
use crate::client::{Authorities as ClientAuthorities, ClientTrust};
use crate::config::{Config, Following, PkiFolder, SiteSystem};
use crate::control::{Backends, Folder, KeyMode, Rotation, RotationParams, Served, SiteIssued};
use crate::front::{Binding, Door};
use crate::gateway::{Policy, TokenPolicy};
use crate::live::{Live, live};
use crate::metrics::Metrics;
use crate::site::{Authority, SiteTokens};
use crate::tls::{ClientConfigs, TlsOptions};
use crate::token::{Blocklist, TokenCache};

/// The site's own authority and token key, and whom its backends' certificates have to convince.
pub(super) struct Authorities {
    pub(super) certificates: Option<Arc<Authority>>,
    pub(super) tokens: Option<Arc<SiteTokens>>,
    pub(super) system: Arc<Anchors>,
    to_backends: ClientConfigs,
    provider: Arc<CryptoProvider>,
    ended: watch::Sender<bool>,
}

impl Authorities {
    pub(super) fn open(
        config: &Config,
        provider: Arc<CryptoProvider>,
        now: Timestamp,
    ) -> Result<Self, StartError> {
        let tokens = match open_tokens(config, now) {
            _ if config.site_server.is_some() => None,
            Ok(tokens) => Some(Arc::new(tokens)),
            Err(error) => {
                tracing::error!(%error, "the site has no token key; it issues no tokens");
                None
            }
        };
        let native = rustls_native_certs::load_native_certs();
        let system = Anchors::lenient(native.certs.iter());
        let to_backends = ClientConfigs::new(provider.clone(), system.root_store())
            .map_err(|error| StartError::Defect(error.to_string()))?;
        Ok(Authorities {
            certificates: open_authority(config, provider.clone()),
            tokens,
            system: Arc::new(system),
            to_backends,
            provider,
            ended: watch::Sender::new(false),
        })
    }

    /// Makes configurations of TLS for clients.
    pub(super) fn to_backends(&self) -> ClientConfigs {
        self.to_backends.clone()
    }

    pub(super) fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    pub(super) fn end(&self) {
        let _ = self.ended.send(true);
    }
}

/// The site's token key, as the configuration has it.
pub(crate) fn open_tokens(
    config: &Config,
    now: Timestamp,
) -> Result<SiteTokens, crate::site::TokenKeyError> {
    let (site, kind) = (&config.site, config.token_service.signing);
    SiteTokens::open(&site.state, (&site.code, kind), site.hierarchy, &site.token_issuer, now)
}

/// The same for tools, which make nothing.
pub(crate) fn find_tokens(config: &Config) -> Result<SiteTokens, crate::site::TokenKeyError> {
    let (site, kind) = (&config.site, config.token_service.signing);
    SiteTokens::find(&site.state, (&site.code, kind), site.hierarchy, &site.token_issuer)
}

/// The certificate of one site system, kept by a task.
struct Kept {
    wish: Wish,
    served: Live<Served>,
    stop: watch::Sender<bool>,
}

/// What a certificate depends on: if it is the same after a reload, the task goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wish {
    hosts: Vec<String>,
    tls: TlsOptions,
    pki: Option<Folder>,
    issued: Issued,
}

/// Where the site's own certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Issued {
    Nowhere,
    Here,
    Never(&'static str),
    /// At the site server, which has them put into a folder.
    Elsewhere(Folder),
}

fn issued(config: &Config, system: &SiteSystem) -> Issued {
    match (allowed(&config.site, &system.roles), &config.site_server) {
        (Allowed::No, _) => Issued::Nowhere,
        (Allowed::Never(why), _) => Issued::Never(why),
        (Allowed::Yes, None) => Issued::Here,
        (Allowed::Yes, Some(_)) => {
            let place = Following::certificate(&config.site.state, &system.name);
            let name = Following::CERTIFICATE_FILE.to_owned();
            let (certificate, key) = (name.clone(), name);
            Issued::Elsewhere(Folder { certificate, key, ..Folder::new(place) })
        }
    }
}

/// What is served for each site system; read by status and readiness.
pub(super) type SharedSites = Arc<Mutex<BTreeMap<String, Live<Served>>>>;

/// The site systems that run.
#[derive(Default)]
pub(super) struct Sites {
    kept: BTreeMap<String, Kept>,
    shared: SharedSites,
}

impl Sites {
    /// Have a task for each site system of the configuration, and none besides.
    pub(super) fn follow(
        &mut self,
        config: &Config,
        authorities: &Authorities,
        options: &Options,
        metrics: &Arc<Metrics>,
        tasks: &mut JoinSet<()>,
    ) {
        let mut next = BTreeMap::new();
        for system in &config.site_systems {
            let wish = Wish {
                hosts: system.hosts.clone(),
                tls: TlsOptions {
                    http2: system.http2,
                    client_certificates: system.clients.is_some() || system.is_site_server(),
                },
                pki: system.pki.as_ref().map(folder),
                issued: issued(config, system),
            };
            let before = self.kept.remove(&system.name);
            if let Some(kept) = before.as_ref().filter(|kept| kept.wish == wish) {
                let same = Kept { wish, served: kept.served.clone(), stop: kept.stop.clone() };
                next.insert(system.name.clone(), same);
                continue;
            }
            let mut params = RotationParams::new(system.name.clone(), names(&system.hosts));
            params.port = system.listen.port();
            params.tls = wish.tls;
            params.pki = wish.pki.clone();
            params.site_issued = match &wish.issued {
                Issued::Nowhere => None,
                Issued::Here => authorities.certificates.clone().map(SiteIssued::Authority),
                Issued::Never(why) => Some(SiteIssued::Never(why)),
                Issued::Elsewhere(folder) => Some(SiteIssued::Folder(folder.clone())),
            };
            params.system = authorities.system.clone();
            params.observer = Certificates::new(metrics.clone());
            params.previous = before.as_ref().map(|kept| kept.served.load());
            let (rotation, served) =
                Rotation::start(params, options.clock.clone(), options.provider.clone());
            let (stop, stopped) = watch::channel(false);
            tasks.spawn(rotation.run(stopped));
            if let Some(before) = before {
                let _ = before.stop.send(true);
            }
            next.insert(system.name.clone(), Kept { wish, served, stop });
        }
        for (name, gone) in std::mem::replace(&mut self.kept, next) {
            let _ = gone.stop.send(true);
            forget_certificates(metrics, &name, &gone.served.load());
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        *shared = self.kept.iter().map(|(n, kept)| (n.clone(), kept.served.clone())).collect();
    }

    pub(super) fn shared(&self) -> SharedSites {
        self.shared.clone()
    }

    /// Which site systems stand behind which address.
    pub(super) fn bindings(&self, config: &Config) -> Vec<Binding> {
        let mut bindings: Vec<Binding> = Vec::new();
        for system in &config.site_systems {
            let Some(kept) = self.kept.get(&system.name) else { continue };
            for listen in system.listens() {
                let served = kept.served.clone();
                let door = Door {
                    site: system.name.as_str().into(),
                    hosts: system.hosts.clone(),
                    tls: Arc::new(move || served.peek(|served| served.config.clone())),
                };
                let place = bindings.iter().position(|b| b.listen == listen);
                let binding = match place.and_then(|place| bindings.get_mut(place)) {
                    Some(binding) => binding,
                    None => {
                        bindings.push(Binding {
                            listen,
                            doors: Vec::new(),
                            default: None,
                            balancers: system.balancers.clone(),
                            clear: listen != system.listen,
                        });
                        let Some(last) = bindings.last_mut() else { continue };
                        last
                    }
                };
                if system.default {
                    binding.default = Some(binding.doors.len());
                }
                binding.doors.push(door);
            }
        }
        bindings
    }
}

fn forget_certificates(metrics: &Metrics, site: &str, served: &Served) {
    metrics.certificate_stapled(site, None, false);
    for source in [crate::cert::Source::Pki, crate::cert::Source::SiteIssued] {
        metrics.certificate_expires(site, source.as_str(), None);
        metrics.certificate_rejected(site, source.as_str(), None);
        let was = (source.as_str(), served.selection.why.as_str());
        metrics.certificate_served(site, Some(was), None);
    }
}

pub(super) fn folder(pki: &PkiFolder) -> Folder {
    Folder {
        path: pki.path.clone(),
        certificate: pki.certificate.clone(),
        key: pki.key.clone(),
        anchors: pki.ca.clone(),
        anchors_named: pki.ca_named,
        process_more: pki.process_more,
        password: pki.password.clone(),
        key_mode: if pki.key_exposed_allowed { KeyMode::Any } else { KeyMode::Private },
    }
}

/// Hosts as names to look for in a certificate. The configuration has checked them.
pub(super) fn names(hosts: &[String]) -> Vec<ServerName<'static>> {
    hosts.iter().filter_map(|host| ServerName::try_from(host.clone()).ok()).collect()
}

/// What requests are judged by.
pub(super) fn policy(
    config: &Config,
    (issuers, blocklist, clients): (&Issuers, &Live<Blocklist>, &Clients),
    (backends, authorities): (&Backends, &Authorities),
    tokens: &Arc<TokenCache>,
    metrics: &Metrics,
) -> Policy {
    let (trusted, refetch) = issuers.trusted();
    let (blocklist, tokens) = (blocklist.clone(), tokens.clone());
    let judged_by = TokenPolicy { trusted, refetch, blocklist, tokens };
    let to = |system: &SiteSystem| {
        upstreams::of(system, &config.site.state, backends, &authorities.to_backends)
    };
    let clients = |system: &SiteSystem| match system.is_site_server() {
        // Nobody vouches for gateways: the site server knows each by its own certificate.
        true => Some(live(nobody(authorities)).1),
        false => clients.trust(&system.name),
    };
    Policy::new(config, judged_by, metrics, to, clients)
}

fn nobody(authorities: &Authorities) -> ClientTrust {
    ClientTrust::new(ClientAuthorities::default(), None, false, &authorities.provider)
}
