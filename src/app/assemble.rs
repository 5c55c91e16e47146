//! Builds site systems, issuers and a policy from a configuration, and applies the next
//! configuration with the least change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::ServerName;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::authority::{Allowed, allowed, open_authority};
use super::observe::Certificates;
use super::{Options, StartError};
use crate::cert::Anchors;
use crate::client::{Authorities as ClientAuthorities, ClientTrust};
use crate::config::{Config, Following, PkiFolder, SiteSystem};
use crate::control::{Folder, KeyMode, Rotation, RotationParams, Served, SiteIssued};
use crate::front::{Binding, Door};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::site::{Authority, SiteTokens};
use crate::tls::{ClientConfigs, TlsOptions};

/// The site's own CA and token key, and the TLS client configuration for backends.
pub(super) struct SiteAuthorities {
    pub(super) certificates: Option<Arc<Authority>>,
    pub(super) tokens: Option<Arc<SiteTokens>>,
    pub(super) system: Arc<Anchors>,
    to_backends: ClientConfigs,
    provider: Arc<CryptoProvider>,
    ended: watch::Sender<bool>,
}

impl SiteAuthorities {
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
        Ok(SiteAuthorities {
            certificates: open_authority(config, provider.clone()),
            tokens,
            system: Arc::new(system),
            to_backends,
            provider,
            ended: watch::Sender::new(false),
        })
    }

    /// The factory of TLS client configurations.
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

/// Opens the site's token key as configured.
///
/// # Errors
/// The key cannot be read or made.
pub fn open_tokens(
    config: &Config,
    now: Timestamp,
) -> Result<SiteTokens, crate::site::TokenKeyError> {
    let (site, kind) = (&config.site, config.token_service.signing);
    SiteTokens::open(&site.state, &site.code, kind, site.hierarchy, &site.token_issuer, now)
}

/// As [`open_tokens`] for tools: creates nothing.
pub(crate) fn find_tokens(config: &Config) -> Result<SiteTokens, crate::site::TokenKeyError> {
    let (site, kind) = (&config.site, config.token_service.signing);
    SiteTokens::find(&site.state, &site.code, kind, site.hierarchy, &site.token_issuer)
}

/// The certificate of one site system, kept up to date by a task.
struct KeptAuthority {
    wish: AuthorityPlan,
    served: Live<Served>,
    stop: watch::Sender<bool>,
}

/// The settings a certificate depends on: if they are equal after a reload, the task continues.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AuthorityPlan {
    hosts: Vec<String>,
    tls: TlsOptions,
    pki: Option<Folder>,
    issued: IssuedBy,
}

/// The source of site-issued certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
enum IssuedBy {
    Nowhere,
    Here,
    Never(&'static str),
    /// The site server, through a folder.
    Elsewhere(Folder),
}

fn issued(config: &Config, system: &SiteSystem) -> IssuedBy {
    match (allowed(&config.site, &system.roles), &config.site_server) {
        (Allowed::No, _) => IssuedBy::Nowhere,
        (Allowed::Never(why), _) => IssuedBy::Never(why),
        (Allowed::Yes, None) => IssuedBy::Here,
        (Allowed::Yes, Some(_)) => {
            let place = Following::certificate(&config.site.state, &system.name);
            let name = Following::CERTIFICATE_FILE.to_owned();
            let (certificate, key) = (name.clone(), name);
            IssuedBy::Elsewhere(Folder { certificate, key, ..Folder::new(place) })
        }
    }
}

/// The served state of each site system; read by status and readiness.
pub(super) type SharedSites = Arc<Mutex<BTreeMap<String, Live<Served>>>>;

/// The running site systems.
#[derive(Default)]
pub(super) struct Sites {
    kept: BTreeMap<String, KeptAuthority>,
    shared: SharedSites,
}

impl Sites {
    /// Runs a task for each site system of the configuration, and stops the others.
    pub(super) fn follow(
        &mut self,
        config: &Config,
        authorities: &SiteAuthorities,
        options: &Options,
        metrics: &Arc<Metrics>,
        tasks: &mut JoinSet<()>,
    ) {
        let mut next = BTreeMap::new();
        for system in &config.site_systems {
            let wish = AuthorityPlan {
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
                let same =
                    KeptAuthority { wish, served: kept.served.clone(), stop: kept.stop.clone() };
                next.insert(system.name.clone(), same);
                continue;
            }
            let mut params = RotationParams::new(system.name.clone(), names(&system.hosts));
            params.port = system.listen.port();
            params.tls = wish.tls;
            params.pki = wish.pki.clone();
            params.site_issued = match &wish.issued {
                IssuedBy::Nowhere => None,
                IssuedBy::Here => authorities.certificates.clone().map(SiteIssued::Authority),
                IssuedBy::Never(why) => Some(SiteIssued::Never(why)),
                IssuedBy::Elsewhere(folder) => Some(SiteIssued::Folder(folder.clone())),
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
            next.insert(system.name.clone(), KeptAuthority { wish, served, stop });
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

    /// The listen addresses with the site systems of each.
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
    metrics.certificates.stapled(site, None, false);
    for source in [crate::cert::Source::Pki, crate::cert::Source::SiteIssued] {
        metrics.certificates.expires(site, source.as_str(), None);
        metrics.certificates.rejected(site, source.as_str(), None);
        let was = (source.as_str(), served.selection.why.as_str());
        metrics.certificates.served(site, Some(was), None);
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

/// Hosts as server names. The configuration has validated them.
pub(super) fn names(hosts: &[String]) -> Vec<ServerName<'static>> {
    hosts.iter().filter_map(|host| ServerName::try_from(host.clone()).ok()).collect()
}

/// No client certificate is trusted by a CA.
pub(super) fn no_ca(authorities: &SiteAuthorities) -> ClientTrust {
    ClientTrust::new(ClientAuthorities::default(), None, false, &authorities.provider)
}
