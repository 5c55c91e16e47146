//! The trusted token issuers: a task for the keys of each, kept across reloads.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Options;
use super::assemble::{SiteAuthorities, find_tokens};
use crate::cert::Anchors;
use crate::clock::Clock;
use crate::config::{Config, IssuerConfig, KeySource, KeyUrl, SiteConfig};
use crate::control::{
    Fetched, IssuerKeys, OnKeys, Provider, RemoteKeys, RemoteParams, RemoteView, Web,
};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::refetch::Refetch;
use crate::token::{self, KeySet, Trusted};

/// The keys of one issuer, kept up to date by a task.
struct KeptKeys {
    wish: IssuerPlan,
    view: KeysView,
    stop: watch::Sender<bool>,
}

/// The settings an issuer's keys depend on: if they are equal after a reload, the task continues.
#[derive(Clone, PartialEq, Eq)]
struct IssuerPlan {
    source: KeySource,
    /// The issuers that are accepted in a discovery document; empty for files.
    accepts: Vec<String>,
}

impl IssuerPlan {
    fn of(issuer: &IssuerConfig) -> IssuerPlan {
        let accepts = match &issuer.keys {
            KeySource::Url(_) => issuer.policy.accepts.clone(),
            KeySource::Files(_) | KeySource::Site => Vec::new(),
        };
        IssuerPlan { source: issuer.keys.clone(), accepts }
    }
}

/// The readable state of one issuer's keys.
#[derive(Clone)]
pub(super) struct KeysView {
    pub(super) keys: Live<KeySet>,
    /// The URL that they are fetched from, if any, and the time of the last fetch.
    pub(super) fetched: Option<(String, Live<Option<Timestamp>>)>,
    /// The problems of the keys or of their source.
    pub(super) troubles: Live<Vec<String>>,
    refetch: Option<Refetch>,
}

/// The keys of each issuer; read by status.
pub(super) type SharedIssuers = Arc<Mutex<Vec<(token::Issuer, KeysView)>>>;

/// The trusted issuers.
#[derive(Default)]
pub(super) struct Issuers {
    kept: Vec<(String, KeptKeys)>,
    shared: SharedIssuers,
}

impl Issuers {
    /// Runs a task for the keys of each issuer of the configuration, and stops the others.
    pub(super) fn follow(
        &mut self,
        config: &Config,
        authorities: &SiteAuthorities,
        options: &Options,
        metrics: &Arc<Metrics>,
        tasks: &mut JoinSet<()>,
    ) {
        let mut before = std::mem::take(&mut self.kept);
        let mut trusted = Vec::new();
        for issuer in &config.issuers {
            let name = issuer.policy.name.to_string();
            let wish = IssuerPlan::of(issuer);
            let same = before.iter().position(|(n, k)| *n == name && k.wish == wish);
            let kept = match same {
                Some(place) => before.remove(place).1,
                None => {
                    let (task, view) =
                        start_keys(issuer, &config.site, authorities, options, metrics);
                    let (stop, stopped) = watch::channel(false);
                    tasks.spawn(task(stopped));
                    KeptKeys { wish, view, stop }
                }
            };
            trusted.push((issuer.policy.clone(), kept.view.clone()));
            self.kept.push((name, kept));
        }
        for (name, gone) in before {
            let _ = gone.stop.send(true);
            let is_gone = !self.kept.iter().any(|(n, _)| *n == name);
            if is_gone {
                metrics.tokens.forget_issuer(&name);
            }
        }
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = trusted;
    }

    pub(super) fn shared(&self) -> SharedIssuers {
        self.shared.clone()
    }

    /// The issuers with their keys, and the handles that request newer ones.
    pub(super) fn trusted(&self) -> (Vec<Trusted>, HashMap<Arc<str>, Refetch>) {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let trusted = shared.iter().map(|(issuer, view)| Trusted {
            issuer: Arc::new(issuer.clone()),
            keys: view.keys.clone(),
        });
        let refetch = shared
            .iter()
            .filter_map(|(issuer, view)| Some((issuer.name.clone(), view.refetch.clone()?)));
        (trusted.collect(), refetch.collect())
    }
}

type Task = Box<dyn FnOnce(watch::Receiver<bool>) -> Pin<Box<dyn Future<Output = ()> + Send>>>;

fn start_keys(
    issuer: &IssuerConfig,
    site: &SiteConfig,
    authorities: &SiteAuthorities,
    options: &Options,
    metrics: &Arc<Metrics>,
) -> (Task, KeysView) {
    let counted = metrics.clone();
    let on_keys: OnKeys = Arc::new(move |name, usable, refused| {
        counted.tokens.keys_loaded(name, usable, refused);
    });
    let (files, own) = match &issuer.keys {
        KeySource::Url(place) => {
            let (system, provider) = (authorities.system.clone(), options.provider.clone());
            let clock = options.clock.clone();
            let mut params = remote(issuer, place, site, system, provider, clock);
            let counted = metrics.clone();
            params.on_keys = on_keys;
            params.on_fetch = Arc::new(move |name, fetched| match fetched {
                Fetched::Kept(at) => counted.tokens.keys_kept(name, at.as_second()),
                Fetched::Now(at) => counted.tokens.keys_fetched(name, "ok", Some(at.as_second())),
                Fetched::Failed(fault) => counted.tokens.keys_fetched(name, fault.as_str(), None),
            });
            let (task, view) = RemoteKeys::start(params);
            let RemoteView { keys, fetched, troubles, refetch } = view;
            let fetched = Some((place.url.clone(), fetched));
            let view = KeysView { keys, fetched, troubles, refetch: Some(refetch) };
            return (Box::new(|stop| Box::pin(task.run(stop))), view);
        }
        KeySource::Files(files) => (files.clone(), None),
        KeySource::Site => (Vec::new(), authorities.tokens.clone()),
    };
    let (task, keys) = IssuerKeys::start(issuer.policy.name.clone(), files, own, on_keys);
    let view = KeysView { keys, fetched: None, troubles: task.troubles(), refetch: None };
    (Box::new(|stop| Box::pin(task.run(stop))), view)
}

fn remote(
    issuer: &IssuerConfig,
    place: &KeyUrl,
    site: &SiteConfig,
    system: Arc<Anchors>,
    provider: Arc<CryptoProvider>,
    clock: Clock,
) -> RemoteParams {
    RemoteParams {
        name: issuer.policy.name.clone(),
        provider: Provider {
            web: Web {
                provider,
                system,
                ca: place.ca.clone(),
                private_hosts: place.private_hosts.clone(),
            },
            url: place.url.clone(),
            discovery: place.discovery,
            accepts: issuer.policy.accepts.clone(),
            key_hosts: place.key_hosts.clone(),
        },
        state: site.state.clone(),
        refresh: place.refresh,
        refetch_interval: place.refetch_interval,
        clock,
        on_keys: Arc::new(|_, _, _| {}),
        on_fetch: Arc::new(|_, _| {}),
    }
}

/// The trusted issuers of a configuration with their current keys, for tools. Keys from a URL are
/// the cached ones of the last fetch.
pub fn read_trusted(config: &Config) -> Vec<Trusted> {
    let own = find_tokens(config).ok().map(Arc::new);
    let read = |issuer: &IssuerConfig| {
        let (files, own) = match &issuer.keys {
            KeySource::Url(place) => {
                let name = &issuer.policy.name;
                let source = RemoteKeys::source(&place.url, &issuer.policy.accepts);
                return crate::live::live(RemoteKeys::kept(&config.site.state, name, &source)).1;
            }
            KeySource::Files(files) => (files.clone(), None),
            KeySource::Site => (Vec::new(), own.clone()),
        };
        let name = issuer.policy.name.clone();
        IssuerKeys::start(name, files, own, Arc::new(|_, _, _| {})).1
    };
    config
        .issuers
        .iter()
        .map(|issuer| Trusted { keys: read(issuer), issuer: Arc::new(issuer.policy.clone()) })
        .collect()
}
