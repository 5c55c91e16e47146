//! The next configuration: all of it or nothing.
//!
//! Whatever can fail is tried before anything is changed. No connection is closed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::PoisonError;

use aws_lc_rs::digest;

use super::{App, assemble, following};
use crate::config::{self, BackendAddress, Config};
use crate::front::bind;

/// What the file is, so that events that change nothing are seen to.
pub(super) fn fingerprint(path: &Path) -> Option<Vec<u8>> {
    let (bytes, _) = crate::secret::read_bounded(path, 4 * 1024 * 1024).ok()?;
    Some(digest::digest(&digest::SHA256, &bytes).as_ref().to_vec())
}

impl App {
    /// Read the file and make it the configuration in force, or keep the old one and say why.
    pub(super) async fn reload(&mut self) {
        let now = self.options.clock.now();
        let outcome = match config::load(&self.options.path, now) {
            Ok(loaded) => {
                for warning in loaded.warnings.to_string().lines() {
                    tracing::warn!(target: "sitegate::config", "{warning}");
                }
                self.apply(loaded.config).await
            }
            Err(errors) => Err(errors.to_string()),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) => {
                state.since = now;
                state.error = None;
                self.metrics.config_reloaded(Some(now.as_second()));
                tracing::info!(target: "sitegate::config", "the configuration was reloaded");
            }
            Err(error) => {
                self.metrics.config_reloaded(None);
                for line in error.lines() {
                    tracing::error!(
                        target: "sitegate::config",
                        "the configuration was not reloaded, the old one stays: {line}"
                    );
                }
                state.error = Some(error);
            }
        }
    }

    /// The site server may call the site's own issuer by another name from now on.
    pub(super) async fn adopt(&mut self) {
        let Some(bundle) = self.followed.as_ref().and_then(|f| f.told().load().bundle.clone())
        else {
            return;
        };
        // Not in place: a file that is bad at this moment must not hide the change for ever.
        let changed = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            following::adopt(&mut state.config.clone(), &bundle)
        };
        if changed {
            self.reload().await;
        }
    }

    async fn apply(&mut self, mut config: Config) -> Result<(), String> {
        let (mut old, open) = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.config.clone(), state.addresses.clone())
        };
        // What the site server calls the site's issuer is no change of the file.
        if let Some(bundle) = self.followed.as_ref().and_then(|f| f.told().load().bundle.clone()) {
            following::adopt(&mut config, &bundle);
            following::adopt(&mut old, &bundle);
        }
        let fixed = only_at_start(&old, &config);
        if !fixed.is_empty() {
            let fixed = fixed.join(", ");
            return Err(format!("{fixed} changed, which takes effect only at a restart"));
        }
        let wanted: BTreeSet<SocketAddr> =
            config.site_systems.iter().flat_map(|s| s.listens()).collect();
        let mut fresh = Vec::new();
        for address in wanted.iter().filter(|address| !open.contains_key(address)) {
            let listener = bind(*address, self.front.shards()).map_err(|cause| {
                let own = open.values().any(|bound| bound.port() == address.port());
                let hint = match own {
                    true => "; sitegate itself listens on this port, so this takes a restart",
                    false => "",
                };
                format!("cannot listen on {address}: {cause}{hint}")
            })?;
            fresh.push((*address, listener));
        }
        self.resolvable(&old, &config).await?;

        self.sites.follow(
            &config,
            &self.authorities,
            &self.options,
            &self.metrics,
            &mut self.tasks,
        );
        self.issuers.follow(
            &config,
            &self.authorities,
            &self.options,
            &self.metrics,
            &mut self.tasks,
        );
        self.clients.follow(&config, &self.options, &self.metrics, &mut self.tasks);
        let trusted = self.issuers.trusted().0;
        self.joined.before(&trusted);
        let judges = (&self.issuers, &self.joined.list(), &self.clients);
        let to = (&*self.backends, &self.authorities);
        let policy = assemble::policy(&config, judges, to, &self.tokens, &self.metrics);
        let counted = policy.counted();
        self.policy.publish(policy);
        self.trusted.publish(trusted);
        self.joined.again();
        self.limits.publish(config.limits.connection);
        self.bindings.publish(self.sites.bindings(&config));
        self.metrics.retain_routes(&counted);
        self.backends.retain(&host_ports(&config));

        if let Some(followed) = &self.followed {
            followed.reload(&config);
        }

        let mut addresses: BTreeMap<SocketAddr, SocketAddr> =
            open.iter().filter(|(a, _)| wanted.contains(a)).map(|(a, b)| (*a, *b)).collect();
        for (configured, listener) in fresh {
            addresses.insert(configured, listener.address);
            self.front.open(configured, listener);
        }
        for (configured, bound) in open {
            if !wanted.contains(&configured) {
                self.front.close(bound).await;
            }
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.addresses = addresses;
        state.config = config;
        Ok(())
    }

    /// A backend whose name does not resolve is most likely a typing error: keep what works.
    async fn resolvable(&self, old: &Config, new: &Config) -> Result<(), String> {
        let known = host_ports(old);
        for (host, port) in host_ports(new).difference(&known) {
            if let Err(error) = tokio::net::lookup_host((host.as_str(), *port)).await {
                return Err(format!("the backend {host}:{port} does not resolve: {error}"));
            }
        }
        Ok(())
    }
}

fn host_ports(config: &Config) -> BTreeSet<(String, u16)> {
    config
        .site_systems
        .iter()
        .flat_map(|system| system.backends())
        .filter_map(|backend| match &backend.address {
            BackendAddress::Host(host, port) => Some((host.clone(), *port)),
            BackendAddress::Unix(_) => None,
        })
        .collect()
}

/// What differs of that which is fixed when the process starts.
pub(crate) fn only_at_start(old: &Config, new: &Config) -> Vec<&'static str> {
    let offered = |config: &Config| config.site_systems.iter().any(|s| s.token_service);
    let threads_differ = old.limits.threads != new.limits.threads;
    [
        ("[site]", old.site != new.site),
        ("[admin]", old.admin != new.admin),
        ("[metrics]", old.metrics != new.metrics),
        ("[log]", old.log != new.log),
        ("[token_service]", old.token_service != new.token_service),
        ("[site_server]", old.site_server != new.site_server),
        ("token_service of the first site system", offered(new) && !offered(old)),
        ("limits.threads", threads_differ),
        ("limits.token_cache", old.limits.token_cache != new.limits.token_cache),
    ]
    .into_iter()
    .filter_map(|(what, differs)| differs.then_some(what))
    .collect()
}
