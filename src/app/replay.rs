//! Builds the request policy from a configuration and its files without starting anything, to
//! replay requests offline.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use super::blocklist::read_blocklist;
use super::issuers::read_trusted;
use super::{StartError, upstreams};
use crate::client::{Authorities, ClientTrust};
use crate::clock::Clock;
use crate::config::{Config, SiteSystem};
use crate::control::ClientFiles;
use crate::front::{Binding, Door};
use crate::gateway::{Policy, TokenPolicy};
use crate::live::{Live, live};
use crate::metrics::Metrics;
use crate::token::TokenCache;

/// The policy that a start with this configuration would apply at that clock's time. Connects to
/// nothing; keys from a URL are the cached ones.
///
/// # Errors
/// If the blocklist is unusable: the process would not start then.
pub(crate) fn policy(
    config: &Config,
    clock: &Clock,
    provider: &Arc<CryptoProvider>,
) -> Result<Policy, StartError> {
    let metrics = Metrics::new().map_err(|e| StartError::Defect(e.to_string()))?;
    let judged_by = TokenPolicy {
        trusted: read_trusted(config),
        refetch: Default::default(),
        blocklist: live(read_blocklist(config)?).1,
        tokens: Arc::new(TokenCache::new(16)),
    };
    let clients = |system: &SiteSystem| clients(system, clock, provider);
    Ok(Policy::new(config, judged_by, &metrics, upstreams::of_nowhere, clients))
}

fn clients(
    system: &SiteSystem,
    clock: &Clock,
    provider: &Arc<CryptoProvider>,
) -> Option<Live<ClientTrust>> {
    if system.is_site_server() {
        return Some(live(ClientTrust::new(Authorities::default(), None, false, provider)).1);
    }
    let files = system.clients.clone()?;
    let (clock, provider) = (clock.clone(), provider.clone());
    let name = system.name.as_str().into();
    Some(ClientFiles::start(name, files, clock, provider, Arc::new(|_| {})).1)
}

/// The listen addresses of a configuration with their site systems, without certificates.
pub(crate) fn bindings(config: &Config) -> Vec<Binding> {
    let mut bindings: Vec<Binding> = Vec::new();
    for system in &config.site_systems {
        let door = Door {
            site: system.name.as_str().into(),
            hosts: system.hosts.clone(),
            tls: Arc::new(|| None),
        };
        match bindings.iter_mut().find(|binding| binding.listen == system.listen) {
            Some(binding) => {
                if system.default {
                    binding.default = Some(binding.doors.len());
                }
                binding.doors.push(door);
            }
            None => bindings.push(Binding {
                listen: system.listen,
                doors: vec![door],
                default: system.default.then_some(0),
                balancers: system.balancers.clone(),
                clear: false,
            }),
        }
    }
    bindings
}
