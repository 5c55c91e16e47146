//! Passes the site server's bundle on to the parts that use it: blocklist, issuer names, and
//! metrics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::blocklist::Joined;
use super::site::answer;
use crate::clock::Clock;
use crate::config::{AuthorityKey, Config, Following, SiteSystem};
use crate::control::site_server::{
    BlockNews, BundleFiles, CertificateOrder, FollowedServer, OnSiteServer, SiteServerParams,
    SiteServerTask, SiteServerView, relay,
};
use crate::live::{Live, Publisher, live};
use crate::local_service::LocalListener;
use crate::metrics::Metrics;
use crate::token::{
    Block, Blocklist, BundleDelta, BundleHead, BundleRefusal, BundleSettings, IssuerKind,
};

/// How often the last bundle is checked for expiry.
const LOOK: Duration = Duration::from_secs(1);
/// The configured name of the site's own issuer.
const OWN: &str = "site";

/// A gateway that follows a site server.
pub(super) struct Followed {
    /// The blocks of the bundle.
    pub(super) blocklist: Live<Blocklist>,
    wanted: Publisher<Vec<CertificateOrder>>,
    told: Live<FollowedServer>,
    changed: watch::Receiver<u64>,
}

/// The parameters of `start`.
pub(super) struct FollowingParts {
    pub joined: Joined,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    pub provider: Arc<CryptoProvider>,
    /// Accepts the token service's clients, which are passed on to the site server.
    pub token_service: LocalListener,
    pub stop: watch::Receiver<bool>,
    /// Turns true once everything has drained: tokens are issued until then.
    pub ended: watch::Receiver<bool>,
}

/// Starts to follow the site server of a configuration with the state on disk.
pub(super) fn start(
    config: &Config,
    following: Following,
    parts: FollowingParts,
    tasks: &mut JoinSet<()>,
) -> Followed {
    let (wanted, wanted_read) = live(wanted(config));
    let (publisher, blocklist) = live(Blocklist::unheard());
    let (changes, changed) = watch::channel(0);
    let blocks = Arc::new(FollowedBlocks {
        publisher: Mutex::new(publisher),
        joined: parts.joined,
        metrics: parts.metrics.clone(),
        deny_when_stale: following.deny_when_stale,
        clock: parts.clock.clone(),
        present: Mutex::default(),
        changes,
    });
    let params = SiteServerParams {
        site: config.site.code.clone(),
        following,
        state: config.site.state.clone(),
        wanted: wanted_read,
        provider: parts.provider,
        clock: parts.clock,
        observer: blocks.clone(),
    };
    let (task, SiteServerView { told, link }) = SiteServerTask::start(params);
    tasks.spawn(task.run(parts.stop.clone()));
    tasks.spawn(keep_looking(blocks, parts.stop));
    if config.site_systems.iter().any(|system| system.token_service) {
        let router = relay(&config.token_service.path, link);
        answer(parts.token_service, router, parts.ended, tasks);
    }
    Followed { blocklist, wanted, told, changed }
}

impl Followed {
    /// Updates the site systems that need certificates, after a reload.
    pub(super) fn reload(&self, config: &Config) {
        self.wanted.publish(wanted(config));
    }

    /// The site server's state.
    pub(super) fn told(&self) -> Live<FollowedServer> {
        self.told.clone()
    }
}

/// Notifies of new bundles.
pub(super) struct Changes(Option<watch::Receiver<u64>>);

impl Changes {
    pub(super) fn of(followed: Option<&Followed>) -> Self {
        Changes(followed.map(|followed| followed.changed.clone()))
    }

    /// Returns when there is a new bundle; never if no site server is followed.
    pub(super) async fn changed(&mut self) {
        if let Some(changes) = &mut self.0
            && changes.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

/// Applies the bundle to the configuration: the names of the site's own issuer come from the site,
/// not from this gateway. Returns whether that changes anything.
pub(super) fn adopt(config: &mut Config, bundle: &BundleSettings) -> bool {
    let own = config.issuers.iter_mut().find(|issuer| &*issuer.policy.name == OWN);
    let mut changed = config.site.token_issuer != bundle.issuer
        || config.site.hierarchy != Some(bundle.hierarchy);
    config.site.token_issuer.clone_from(&bundle.issuer);
    config.site.hierarchy = Some(bundle.hierarchy);
    if let Some(own) = own {
        changed |= own.policy.accepts != [bundle.issuer.clone()];
        own.policy.accepts = vec![bundle.issuer.clone()];
        if let IssuerKind::Site { hierarchy } = &mut own.policy.kind {
            *hierarchy = Some(bundle.hierarchy);
        }
    }
    changed
}

/// The last bundle in force, for a configuration that is about to be applied.
pub(super) fn kept(config: &Config) -> Option<BundleSettings> {
    config.site_server.as_ref()?;
    let kept = BundleFiles::new(&config.site.state);
    let trust = kept.trust().filter(|trust| trust.site == config.site.code)?;
    kept.settings(&trust)
}

fn wanted(config: &Config) -> Vec<CertificateOrder> {
    let issued = |_: &&SiteSystem| config.site.issues_certificates;
    let of = |system: &SiteSystem| CertificateOrder {
        site_system: system.name.clone(),
        hosts: system.hosts.clone(),
        rsa: config.site.authority_key == AuthorityKey::Rsa2048,
    };
    config.site_systems.iter().filter(issued).map(of).collect()
}

/// The blocks of the bundle in force, and whether it has expired.
struct FollowedBlocks {
    publisher: Mutex<Publisher<Blocklist>>,
    joined: Joined,
    metrics: Arc<Metrics>,
    deny_when_stale: bool,
    clock: Clock,
    /// The bundle and its blocks, and whether it was stale.
    present: Mutex<Present>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Present {
    bundle: Option<Arc<BundleHead>>,
    blocks: Arc<Blocklist>,
    is_stale: bool,
}

impl FollowedBlocks {
    /// Puts a bundle in force. Returns the number of its blocks, and whether the settings differ
    /// from those before.
    fn replace(&self, bundle: &Arc<BundleHead>, news: BlockNews<'_>) -> (usize, bool) {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let all = |blocks: &[Block]| Blocklist::of(blocks.iter().map(Block::as_blocking));
        let is_changed = match news {
            BlockNews::All(blocks) => {
                present.blocks = Arc::new(all(blocks));
                true
            }
            BlockNews::Changes(BundleDelta { removed, added, .. }) => {
                let removed_now = removed.iter().map(Block::as_blocking);
                let added_now = added.iter().map(Block::as_blocking);
                present.blocks = Arc::new(present.blocks.changed(removed_now, added_now));
                !(removed.is_empty() && added.is_empty())
            }
        };
        let before = present.bundle.replace(bundle.clone());
        let blocks = present.blocks.len();
        self.judge(present, is_changed || before.is_none());
        (blocks, before.is_none_or(|before| before.settings != bundle.settings))
    }

    /// Looks whether the bundle has expired.
    fn look(&self) {
        let present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        self.judge(present, false);
    }

    /// Publishes the list, if it has changed.
    fn judge(&self, mut present: MutexGuard<'_, Present>, is_changed: bool) {
        let now = self.clock.now();
        let is_stale = present.bundle.as_ref().is_none_or(|bundle| bundle.is_expired(now));
        if present.bundle.is_none() || (!is_changed && is_stale == present.is_stale) {
            return;
        }
        if is_stale && !present.is_stale {
            tracing::error!(target: "sitegate::site_server", denies = self.deny_when_stale,
                "the last bundle has expired: newer blocks are missing here");
        }
        present.is_stale = is_stale;
        let list = if is_stale && self.deny_when_stale {
            Arc::new(Blocklist::unheard())
        } else {
            present.blocks.clone()
        };
        self.publisher.lock().unwrap_or_else(PoisonError::into_inner).publish_arc(list);
        drop(present);
        self.joined.again();
    }
}

impl OnSiteServer for FollowedBlocks {
    fn bundle(&self, bundle: &Arc<BundleHead>, news: BlockNews<'_>) -> usize {
        self.metrics.following.bundle(bundle.version, bundle.issued, bundle.expires);
        let (blocks, is_changed) = self.replace(bundle, news);
        // The configuration depends on the settings alone.
        if is_changed {
            self.changes.send_modify(|changes| *changes += 1);
        }
        blocks
    }

    fn refused(&self, refusal: BundleRefusal) {
        self.metrics.following.bundle_refused(refusal.code());
    }

    fn reached(&self, is_reached: bool) {
        self.metrics.following.site_server_reached(is_reached);
    }

    fn clock(&self, ahead_s: i64) {
        self.metrics.following.site_server_clock(ahead_s);
    }
}

/// Time and configuration change the effect of a bundle, so it is checked periodically.
async fn keep_looking(blocks: Arc<FollowedBlocks>, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(LOOK) => blocks.look(),
        }
    }
}
