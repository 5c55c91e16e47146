//! The tasks that keep what client certificates are judged by, one for each site system that asks
//! for them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Options;
use crate::client::ClientTrust;
use crate::config::{ClientCertificates, Config};
use crate::control::{ClientFiles, ClientFilesState};
use crate::live::Live;
use crate::metrics::Metrics;

/// What is in force for each site system; read by status.
pub(super) type SharedClients = Arc<Mutex<BTreeMap<String, ClientFilesState>>>;

struct Kept {
    files: ClientCertificates,
    trust: Live<ClientTrust>,
    stop: watch::Sender<bool>,
}

/// The site systems that ask for certificates.
#[derive(Default)]
pub(super) struct Clients {
    kept: BTreeMap<String, Kept>,
    shared: SharedClients,
}

impl Clients {
    /// Have a task for each site system that asks for certificates, and none besides.
    pub(super) fn follow(
        &mut self,
        config: &Config,
        options: &Options,
        metrics: &Arc<Metrics>,
        tasks: &mut JoinSet<()>,
    ) {
        let mut before = std::mem::take(&mut self.kept);
        for system in &config.site_systems {
            let Some(files) = &system.clients else { continue };
            let name = system.name.clone();
            let same = before.remove(&name);
            if let Some(kept) = same.filter(|kept| kept.files == *files) {
                self.kept.insert(name, kept);
                continue;
            }
            let (shared, metrics) = (self.shared.clone(), metrics.clone());
            let told = name.clone();
            let on_change = Arc::new(move |state: &ClientFilesState| {
                let expires = state.crl_expires.map(|at| at.as_second());
                metrics.clients.trusted(
                    &told,
                    Some((state.authorities, state.problems.len())),
                    expires,
                );
                let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                shared.insert(told.clone(), state.clone());
            });
            let with = (options.clock.clone(), options.provider.clone());
            let (task, trust) =
                ClientFiles::start(name.as_str().into(), files.clone(), with, on_change);
            let (stop, stopped) = watch::channel(false);
            tasks.spawn(task.run(stopped));
            self.kept.insert(name, Kept { files: files.clone(), trust, stop });
        }
        for (name, gone) in before {
            let _ = gone.stop.send(true);
            if !self.kept.contains_key(&name) {
                metrics.clients.trusted(&name, None, None);
                self.shared.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            }
        }
    }

    /// Whom a site system trusts, if it asks.
    pub(super) fn trust(&self, site_system: &str) -> Option<Live<ClientTrust>> {
        self.kept.get(site_system).map(|kept| kept.trust.clone())
    }

    pub(super) fn shared(&self) -> SharedClients {
        self.shared.clone()
    }
}
