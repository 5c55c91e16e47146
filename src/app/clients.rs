//! The tasks that keep client trust (CAs and CRLs) up to date, one for each site system that
//! requests client certificates.

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

/// The state of the files of each site system; read by status.
pub(super) type SharedClients = Arc<Mutex<BTreeMap<String, ClientFilesState>>>;

struct KeptClients {
    files: ClientCertificates,
    trust: Live<ClientTrust>,
    stop: watch::Sender<bool>,
}

/// The site systems that request client certificates.
#[derive(Default)]
pub(super) struct Clients {
    kept: BTreeMap<String, KeptClients>,
    shared: SharedClients,
}

impl Clients {
    /// Runs a task for each site system that requests client certificates, and stops the others.
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
            let (task, trust) = ClientFiles::start(
                name.as_str().into(),
                files.clone(),
                options.clock.clone(),
                options.provider.clone(),
                on_change,
            );
            let (stop, stopped) = watch::channel(false);
            tasks.spawn(task.run(stopped));
            self.kept.insert(name, KeptClients { files: files.clone(), trust, stop });
        }
        for (name, gone) in before {
            let _ = gone.stop.send(true);
            if !self.kept.contains_key(&name) {
                metrics.clients.trusted(&name, None, None);
                self.shared.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            }
        }
    }

    /// The client trust of a site system, if it requests certificates.
    pub(super) fn trust(&self, site_system: &str) -> Option<Live<ClientTrust>> {
        self.kept.get(site_system).map(|kept| kept.trust.clone())
    }

    pub(super) fn shared(&self) -> SharedClients {
        self.shared.clone()
    }
}
