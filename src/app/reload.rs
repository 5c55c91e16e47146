//! Configuration reload: the next configuration applies completely or not at all.
//!
//! Every step that can fail is tried before anything changes. No connection is closed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use zeroize::Zeroizing;

use super::applied::backend_addresses;
use super::examine::Examiner;
use super::{App, following};
use crate::config::{self, BackendAddress, Config};
use crate::control::{FileState, Watch, WholeFile, settle};
use crate::front::bind;

/// How often the file is checked without an event, and how soon a rejected configuration is tried
/// again: its obstacle may be gone.
const LOOK: Duration = Duration::from_secs(30);

/// The watched configuration file.
pub(super) struct WatchedConfig {
    file: WholeFile,
    watch: Watch,
    last: Zeroizing<Vec<u8>>,
    /// Whether its last contents were rejected.
    pub(super) has_failed: bool,
}

impl WatchedConfig {
    /// Follows the file; `text` is its contents as already read.
    pub(super) fn new(path: &Path, text: &[u8]) -> Self {
        let path = std::path::absolute(path).unwrap_or(path.to_owned());
        let (own, folder) = (path.clone(), path.parent().map(PathBuf::from).unwrap_or_default());
        let watch = Watch::new([folder], LOOK).only(move |entry| entry == own);
        let file = WholeFile::new(path, config::FILE_BYTES_MAX, watch.renames()).has(text);
        WatchedConfig { file, watch, last: Zeroizing::new(text.to_owned()), has_failed: false }
    }

    /// Waits until there is something to reload: a changed and complete text, or the same again
    /// after it was rejected. Cancel-safe.
    pub(super) async fn changed(&mut self) -> std::io::Result<Zeroizing<Vec<u8>>> {
        loop {
            let pause = self.file.pause();
            tokio::select! {
                () = self.watch.changed() => {}
                () = settle([pause]) => {}
            }
            match self.file.look() {
                FileState::Whole(bytes) => {
                    self.last = bytes;
                    return Ok(self.last.clone());
                }
                FileState::Unreadable(error) => return Err(error),
                FileState::Same if self.has_failed => return Ok(self.last.clone()),
                FileState::Same | FileState::Settling => {}
            }
        }
    }

    /// The current contents, complete or not.
    pub(super) fn take(&mut self) -> std::io::Result<Zeroizing<Vec<u8>>> {
        self.last = self.file.take()?;
        Ok(self.last.clone())
    }
}

impl App {
    /// Applies the file's contents, or keeps the old configuration and logs the reason. Returns
    /// whether it was applied.
    pub(super) async fn reload(&mut self, read: std::io::Result<Zeroizing<Vec<u8>>>) -> bool {
        let now = self.options.clock.now();
        let outcome = match config::load_from(&self.options.path, read, now) {
            Ok(loaded) => {
                let text = loaded.warnings.text.clone();
                let warnings = loaded.warnings.to_string();
                let outcome = self.apply(loaded.config).await;
                if outcome.is_ok() {
                    self.text = text;
                    self.keep_text();
                    for warning in warnings.lines() {
                        tracing::warn!(target: "sitegate::config", "{warning}");
                    }
                }
                outcome
            }
            Err(errors) => Err(errors.to_string()),
        };
        let taken = outcome.is_ok();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) => {
                state.since = now;
                state.error = None;
                self.metrics.process.config_reloaded(Some(now.as_second()));
                tracing::info!(target: "sitegate::config", "the configuration was reloaded");
            }
            Err(error) => {
                self.metrics.process.config_reloaded(None);
                if state.error.as_ref() != Some(&error) {
                    tell(&error);
                }
                state.error = Some(error);
            }
        }
        taken
    }

    /// Stores the text in force for tools, which may find the file broken.
    pub(super) fn keep_text(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = config::in_force::keep(&self.options.path, &self.text, &state.config.site.state);
        if let Err(error) = kept {
            tracing::warn!(target: "sitegate::config", %error,
                "the configuration in force cannot be saved in the state directory");
        }
    }

    /// Applies a new name of the site's own issuer from the site server.
    pub(super) async fn adopt(&mut self) {
        let Some(bundle) = self.followed.as_ref().and_then(|f| f.told().load().bundle.clone())
        else {
            return;
        };
        // On a copy: a file that is invalid at this moment must not hide the change forever.
        let changed = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            following::adopt(&mut state.config.clone(), &bundle.settings)
        };
        if !changed {
            return;
        }
        // Based on the text in force, not on the file's current contents.
        let base = self.options.path.parent().unwrap_or(Path::new("."));
        let name = self.options.path.display().to_string();
        let outcome = match config::parse(&self.text, &name, base, self.options.clock.now()) {
            Ok(loaded) => self.apply(loaded.config).await,
            Err(errors) => Err(errors.to_string()),
        };
        if let Err(error) = outcome {
            tell(&error);
        }
    }

    async fn apply(&mut self, mut config: Config) -> Result<(), String> {
        let (mut old, open) = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.config.clone(), state.addresses.clone())
        };
        // The issuer's name from the site server is not a change of the file.
        if let Some(bundle) = self.followed.as_ref().and_then(|f| f.told().load().bundle.clone()) {
            following::adopt(&mut config, &bundle.settings);
            following::adopt(&mut old, &bundle.settings);
        }
        let fixed = only_at_start(&old, &config);
        if !fixed.is_empty() {
            let fixed = fixed.join(", ");
            return Err(format!("{fixed} changed, which takes effect only at a restart"));
        }
        self.resolvable(&old, &config).await?;
        let (provider, clock) = (self.options.provider.clone(), self.options.clock.clone());
        let examiner = Examiner::with(provider, clock, self.applied.authorities.system.clone());
        let unserved = examiner.unserved(&old, &config);
        if !unserved.is_empty() {
            return Err(unserved.join("\n"));
        }
        let wanted: BTreeSet<SocketAddr> =
            config.site_systems.iter().flat_map(|s| s.listens()).collect();
        let mut fresh = Vec::new();
        for address in wanted.iter().filter(|address| !open.contains_key(address)) {
            let listener = bind(*address, self.front.shards()).map_err(|cause| {
                let own = open.values().any(|bound| bound.port() == address.port());
                let hint = if own {
                    "; sitegate itself listens on this port, so this takes a restart"
                } else {
                    ""
                };
                format!("cannot listen on {address}: {cause}{hint}")
            })?;
            fresh.push((*address, listener));
        }

        self.applied.follow(&config, &self.options, &self.metrics, &mut self.tasks);
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

    /// A backend name that does not resolve is most likely a typo: keep the working configuration.
    async fn resolvable(&self, old: &Config, new: &Config) -> Result<(), String> {
        let known = backend_addresses(old);
        for address in backend_addresses(new).difference(&known) {
            let BackendAddress::Host(host, port) = address else { continue };
            if let Err(error) = tokio::net::lookup_host((host.as_str(), *port)).await {
                return Err(format!("the backend {address} does not resolve: {error}"));
            }
        }
        Ok(())
    }
}

fn tell(error: &str) {
    for line in error.lines() {
        tracing::error!(
            target: "sitegate::config",
            "the configuration was not reloaded, the previous one stays in force: {line}"
        );
    }
}

/// The changed settings that take effect only at a restart.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slowly_written_configuration_is_read_once_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        std::fs::write(&path, "before").unwrap();
        let mut file = WatchedConfig::new(&path, b"before");
        let writer = async {
            for text in ["", "[site]\n", "[site]\ncode = 'PS1'\n"] {
                std::fs::write(&path, text).unwrap();
                tokio::time::sleep(Duration::from_millis(1_500)).await;
            }
        };
        let (read, ()) = tokio::join!(file.changed(), writer);
        assert_eq!(read.unwrap().as_slice(), b"[site]\ncode = 'PS1'\n");
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_taken_is_tried_again_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        std::fs::write(&path, "same").unwrap();
        let mut file = WatchedConfig::new(&path, b"same");
        let wait = Duration::from_secs(3_600);
        assert!(tokio::time::timeout(wait, file.changed()).await.is_err());
        file.has_failed = true;
        assert_eq!(file.changed().await.unwrap().as_slice(), b"same");
    }
}
