//! The issuers that are trusted: a task for the keys of each, from one configuration to the next.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::assemble::{Authorities, open_tokens};
use crate::config::{Config, KeySource};
use crate::control::IssuerKeys;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::token::{self, KeySet, Trusted};

/// The keys of one issuer, kept by a task.
struct KeptKeys {
    source: KeySource,
    keys: Live<KeySet>,
    stop: watch::Sender<bool>,
}

/// The keys of each issuer; read by status.
pub(super) type SharedIssuers = Arc<Mutex<Vec<(token::Issuer, Live<KeySet>)>>>;

/// The issuers that are trusted.
#[derive(Default)]
pub(super) struct Issuers {
    kept: Vec<(String, KeptKeys)>,
    shared: SharedIssuers,
}

impl Issuers {
    /// Have a task for the keys of each issuer of the configuration, and none besides.
    pub(super) fn follow(
        &mut self,
        config: &Config,
        authorities: &Authorities,
        metrics: &Arc<Metrics>,
        tasks: &mut JoinSet<()>,
    ) {
        let mut before = std::mem::take(&mut self.kept);
        let mut trusted = Vec::new();
        for issuer in &config.issuers {
            let name = issuer.policy.name.to_string();
            let same = before.iter().position(|(n, k)| *n == name && k.source == issuer.keys);
            let kept = match same {
                Some(place) => before.remove(place).1,
                None => start_keys(&issuer.policy, &issuer.keys, authorities, metrics, tasks),
            };
            trusted.push((issuer.policy.clone(), kept.keys.clone()));
            self.kept.push((name, kept));
        }
        for (name, gone) in before {
            let _ = gone.stop.send(true);
            if !self.kept.iter().any(|(n, _)| *n == name) {
                metrics.tokens.forget_issuer(&name);
            }
        }
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = trusted;
    }

    pub(super) fn shared(&self) -> SharedIssuers {
        self.shared.clone()
    }

    pub(super) fn trusted(&self) -> Vec<Trusted> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared
            .iter()
            .map(|(issuer, keys)| Trusted { issuer: Arc::new(issuer.clone()), keys: keys.clone() })
            .collect()
    }
}

fn start_keys(
    issuer: &token::Issuer,
    source: &KeySource,
    authorities: &Authorities,
    metrics: &Arc<Metrics>,
    tasks: &mut JoinSet<()>,
) -> KeptKeys {
    let (files, own) = match source {
        KeySource::Files(files) => (files.clone(), None),
        KeySource::Site => (Vec::new(), authorities.own_keys.clone()),
    };
    let metrics = metrics.clone();
    let on_keys = Arc::new(move |name: &str, usable, refused| {
        metrics.tokens.keys_loaded(name, usable, refused);
    });
    let (task, keys) = IssuerKeys::start(issuer.name.clone(), files, own, on_keys);
    let (stop, stopped) = watch::channel(false);
    tasks.spawn(task.run(stopped));
    KeptKeys { source: source.clone(), keys, stop }
}

/// The trusted issuers of a configuration with their keys as they are now, for tools.
pub fn read_trusted(config: &Config, now: Timestamp) -> Vec<Trusted> {
    let own = open_tokens(config, now).ok().map(|tokens| tokens.jwks());
    config
        .issuers
        .iter()
        .map(|issuer| {
            let (files, own) = match &issuer.keys {
                KeySource::Files(files) => (files.clone(), None),
                KeySource::Site => (Vec::new(), own.clone()),
            };
            let name = issuer.policy.name.clone();
            let (_, keys) = IssuerKeys::start(name, files, own, Arc::new(|_, _, _| {}));
            Trusted { issuer: Arc::new(issuer.policy.clone()), keys }
        })
        .collect()
}
