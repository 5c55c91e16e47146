//! Assembles status and readiness from the running parts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::assemble::SharedSites;
use super::backends;
use super::clients::SharedClients;
use super::following::Followed;
use super::issuers::SharedIssuers;
use super::probe::Unanswered;
use super::site_health::SiteHealth;
use super::{RunningState, space};
use crate::admin::{
    CertificateStatus, ClientsStatus, ConfigStatus, History, IssuerStatus, PlainHttpStatus,
    Readiness, RejectedStatus, SiteServerStatus, SiteStatus, SiteSystemStatus, Status,
};
use crate::clock::{Clock, second};
use crate::config::{Config, SiteSystem};
use crate::control::site_server::FollowedServer;
use crate::control::{Backends, ClientFilesState, Served};
use crate::front::{ByTlsVersion, OpenConnections};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::site::StateDir;

/// The sources of the status.
pub(super) struct Sources {
    pub(super) state: Arc<Mutex<RunningState>>,
    pub(super) sites: SharedSites,
    pub(super) issuers: SharedIssuers,
    pub(super) clients: SharedClients,
    pub(super) readiness: Readiness,
    pub(super) connections: Arc<dyn Fn() -> usize + Send + Sync>,
    pub(super) open_connections: OpenConnections,
    pub(super) history: History,
    pub(super) metrics: Arc<Metrics>,
    pub(super) path: String,
    pub(super) started: Timestamp,
    pub(super) told: Option<Live<FollowedServer>>,
    pub(super) backends: Arc<Backends>,
    pub(super) clock: Clock,
}

/// The current status, as a function.
pub(super) fn status(sources: Sources) -> Arc<dyn Fn() -> Status + Send + Sync> {
    Arc::new(move || {
        // Before any lock is taken: readiness locks the site systems too.
        let not_ready = sources.readiness.reasons();
        let (now, open) = (sources.clock.now(), sources.open_connections.open());
        let last_hour = sources.history.hour(now, sources.metrics.totals());
        let state = sources.state.lock().unwrap_or_else(PoisonError::into_inner);
        let issuers = sources.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        let sites = sources.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let clients = sources.clients.lock().unwrap_or_else(PoisonError::into_inner);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            site: site(&state.config),
            pid: std::process::id(),
            started: sources.started,
            ready: not_ready.is_empty(),
            not_ready,
            warnings: sources.readiness.notes(),
            connections: (sources.connections)(),
            config: ConfigStatus {
                path: sources.path.clone(),
                since: state.since,
                current: state.error.is_none(),
                error: state.error.clone(),
            },
            site_systems: state
                .config
                .site_systems
                .iter()
                .filter_map(|system| {
                    let served = sites.get(&system.name)?.load();
                    let bound_of =
                        |address| state.addresses.get(&address).copied().unwrap_or(address);
                    let bound = bound_of(system.listen);
                    let clients = clients.get(&system.name);
                    let mut told = site_system(system, &bound.to_string(), &served, clients, now);
                    told.plain_http = system.plain_http.as_ref().map(|plain| PlainHttpStatus {
                        listen: bound_of(plain.listen).to_string(),
                        mode: plain.mode.as_str().to_owned(),
                    });
                    told.connections = connections(&open, &system.name);
                    Some(told)
                })
                .collect(),
            backends: backends::status(&state.config, &sources.backends, now),
            issuers: issuers
                .iter()
                .map(|(issuer, view)| IssuerStatus {
                    name: issuer.name.to_string(),
                    accepts: issuer.accepts.clone(),
                    audiences: issuer.audiences.clone(),
                    keys: view.keys.peek(|keys| keys.len()),
                    key_ids: view.keys.peek(|keys| {
                        keys.iter().filter_map(|key| Some(key.kid()?.to_owned())).collect()
                    }),
                    keys_from: view.fetched.as_ref().map(|(url, _)| url.clone()),
                    keys_fetched: view.fetched.as_ref().and_then(|(_, at)| *at.load()),
                    problems: view.troubles.load().to_vec(),
                })
                .collect(),
            site_server: state.config.site_server.as_ref().map(|following| {
                let told = sources.told.as_ref().map(Live::load).unwrap_or_default();
                let bundle = told.bundle.as_deref();
                SiteServerStatus {
                    gateway: following.name.clone(),
                    servers: bundle.map(|b| b.settings.servers.clone()).unwrap_or_default(),
                    version: bundle.map(|b| b.version),
                    issued: bundle.map(|b| second(b.issued)),
                    expires: bundle.map(|b| second(b.expires)),
                    blocks: told.blocks,
                    clock_ahead_s: told.clock_ahead_s,
                    trouble: told.trouble.clone(),
                    warnings: told.warnings(),
                }
            }),
            last_hour,
        }
    })
}

fn site(config: &Config) -> SiteStatus {
    let site = &config.site;
    SiteStatus {
        code: site.code.clone(),
        hierarchy: site.hierarchy.map(|hierarchy| hierarchy.to_string()),
        domains: site.domains.clone(),
        token_issuer: site.token_issuer.clone(),
    }
}

fn connections(open: &ByTlsVersion, name: &str) -> BTreeMap<String, usize> {
    let own = open.iter().filter(|((site, _), _)| &**site == name);
    own.map(|((_, version), count)| ((*version).to_owned(), *count)).collect()
}

/// The faults of listeners and site systems, as a function for readiness.
pub(super) fn amiss(
    sites: SharedSites,
    unanswered: Unanswered,
) -> impl Fn() -> Vec<String> + Send + Sync {
    move || {
        let sites = sites.lock().unwrap_or_else(PoisonError::into_inner);
        let mut amiss = unanswered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, served) in sites.iter() {
            let served = served.load();
            if served.config.is_some() {
                continue;
            }
            amiss.push(format!("{name}: no certificate is fit ({})", served.selection.why));
            for rejected in &served.selection.rejected {
                amiss.push(format!("{name}: {}: {}", rejected.source.as_str(), rejected.fault));
            }
        }
        amiss
    }
}

/// Warnings while the process is ready, as a function for readiness.
pub(super) fn notes(
    followed: Option<&Followed>,
    state: Arc<StateDir>,
    site: SiteHealth,
    space: &space::SpaceWatch,
    to: Arc<Backends>,
) -> impl Fn() -> Vec<String> + Send + Sync + use<> {
    let (told, space) = (followed.map(Followed::told), space.clone());
    move || {
        let mut notes =
            told.as_ref().map(|told| told.peek(FollowedServer::warnings)).unwrap_or_default();
        notes.extend(site.notes());
        notes.extend(space.lines());
        notes.extend(backends::warnings(&to));
        if !state.is_there() {
            notes.push(format!(
                "the state directory {} is missing, or another one is mounted in its place: put it \
                 back, or the next start makes a new root and new keys",
                state.path().display()
            ));
        }
        notes
    }
}

fn site_system(
    system: &SiteSystem,
    listen: &str,
    served: &Served,
    clients: Option<&ClientFilesState>,
    now: Timestamp,
) -> SiteSystemStatus {
    let selection = &served.selection;
    SiteSystemStatus {
        name: system.name.clone(),
        roles: system.roles.iter().map(|role| role.as_str().to_owned()).collect(),
        listen: listen.to_owned(),
        plain_http: None,
        hosts: system.hosts.clone(),
        connections: BTreeMap::new(),
        backend: system.backend.url.clone(),
        role_backends: system
            .role_backends
            .iter()
            .map(|(role, backend)| (role.as_str().to_owned(), backend.url.clone()))
            .collect(),
        observes: system.observe_until.is_some_and(|until| until.holds(now)),
        observe_until: system.observe_until.map(|until| until.0),
        certificate: selection
            .chosen
            .as_ref()
            .map(|c| CertificateStatus::new(c.source().as_str(), c.facts())),
        reason: selection.why.as_str().to_owned(),
        stapled_until: served.staple.as_ref().map(|staple| staple.next_update),
        rejected: selection
            .rejected
            .iter()
            .map(|rejected| RejectedStatus {
                source: rejected.source.as_str().to_owned(),
                reason: rejected.fault.unfit.code().to_owned(),
                title: rejected.fault.unfit.title().to_owned(),
                detail: rejected.fault.detail.clone(),
                hint: rejected.fault.unfit.hint().to_owned(),
                certificate: rejected
                    .facts
                    .as_ref()
                    .map(|facts| CertificateStatus::new(rejected.source.as_str(), facts)),
            })
            .collect(),
        warnings: served
            .warnings
            .iter()
            .map(|(source, warning)| format!("{}: {warning} ({})", source.as_str(), warning.code()))
            .collect(),
        clients: clients.map(|state| ClientsStatus {
            authorities: state.authorities,
            crls: state.crls,
            crl_expires: state.crl_expires,
            problems: state.problems.iter().chain(&state.ending).cloned().collect(),
        }),
        next_change: selection.next_change,
        since: served.since,
        swaps: served.swaps,
    }
}
