//! The gateway's side of the site server: joins once, polls for bundles, and requests certificates.
//! What it receives is written to a watched folder.
//!
//! An unreachable site server stops nothing: the last bundle stays in force, and the gateway works
//! from disk.

mod bundle_files;
mod certificates;
mod joining;
mod link;
mod relay;
mod status;
mod taking;
mod unkept;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cert::Anchors;
use crate::clock::Clock;
use crate::config::Following;
use crate::live::{Live, Publisher, live};
use crate::site::server::SiteDenial;
use crate::tls::{SiteServerTrust, to_site_server};
use crate::token::{BUNDLE_BYTES_MAX, BundleHead, OpenedBundle};
pub use bundle_files::{BundleFiles, OwnIdentity, StoredTrust};
pub use certificates::CertificateOrder;
use certificates::{is_due, renew};
pub use joining::join_token;
pub use link::{HeldBundle, Link, LinkError};
pub use relay::relay;
pub use status::{BlockNews, CLOCKS_DIFFER_S_MAX, FollowedServer, OnSiteServer};
use unkept::Unkept;

use super::watch::Watch;

/// How often the folder and the certificates are checked without an event.
const LOOK: Duration = Duration::from_secs(120);
/// The delay after a failure doubles each time, between these bounds.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often to check whether other certificates are needed.
const LOOK_AT_CONFIGURATION: Duration = Duration::from_millis(500);
/// How often certificates are looked at for their age alone.
const LOOK_AT_CERTIFICATES: Duration = Duration::from_secs(60);
/// How long due certificates may delay the next poll.
const ISSUE_MAX: Duration = Duration::from_secs(10);
/// The delay after a refusal: an operator must act first.
const REFUSED_RETRY: Duration = Duration::from_secs(15);

/// The parameters of the task.
pub struct SiteServerParams {
    /// The site's code.
    pub site: String,
    /// `[site_server]`.
    pub following: Following,
    /// The state directory.
    pub state: PathBuf,
    /// The site systems that need site-issued certificates; replaced at a reload.
    pub wanted: Live<Vec<CertificateOrder>>,
    /// The crypto provider.
    pub provider: Arc<CryptoProvider>,
    /// The clock.
    pub clock: Clock,
    /// Receives the reports.
    pub observer: Arc<dyn OnSiteServer>,
}

/// The task that follows the site server.
pub struct SiteServerTask {
    params: SiteServerParams,
    kept: BundleFiles,
    trust: Option<StoredTrust>,
    bundle: Option<Arc<BundleHead>>,
    publisher: Publisher<FollowedServer>,
    link: watch::Sender<Option<Link>>,
    /// The identity and servers that the current client was made with.
    made_by: Option<(String, String)>,
    seen_incoming: Option<Vec<u8>>,
    /// What is in force but could not be written to disk.
    unkept: Unkept,
    /// Whether a whole bundle is needed, because a delta did not fit or very many are on disk.
    needs_whole: bool,
    /// When certificates were looked at last; `None` if the answer may have changed since.
    certificates_at: Option<Instant>,
    /// The version that the site server was shown last, because it did not know it.
    shown: Option<u64>,
    told: String,
    status: FollowedServer,
}

/// The readable state of the task.
pub struct SiteServerView {
    /// The state in force.
    pub told: Live<FollowedServer>,
    /// The client for the site's servers.
    pub link: watch::Receiver<Option<Link>>,
}

impl SiteServerTask {
    /// Loads the state from disk, so that the gateway can work from it.
    pub fn start(params: SiteServerParams) -> (Self, SiteServerView) {
        let kept = BundleFiles::new(&params.state);
        let trust = kept.trust().filter(|trust| trust.site == params.site);
        let found = trust.as_ref().and_then(|trust| kept.bundle(trust));
        let mut blocks = 0;
        let bundle = match found {
            Some(Ok(OpenedBundle { head, blocks: found })) => {
                let head = Arc::new(head);
                blocks = params.observer.bundle(&head, BlockNews::All(&found));
                Some(head)
            }
            Some(Err(refusal)) => {
                tracing::error!(target: "sitegate::site_server", code = refusal.code(),
                    "the bundle on disk is rejected: {refusal}");
                params.observer.refused(refusal);
                None
            }
            None => None,
        };
        if let Some(bundle) = &bundle {
            // A crash may have left the bundle's contents unwritten.
            let _ = kept.spell_out(&bundle.settings);
        }
        let status = FollowedServer { bundle: bundle.clone(), blocks, ..FollowedServer::default() };
        let (publisher, told) = live(status.clone());
        let (link, link_read) = watch::channel(None);
        let mut task = SiteServerTask {
            params,
            kept,
            trust,
            bundle,
            publisher,
            link,
            made_by: None,
            seen_incoming: None,
            unkept: Unkept::default(),
            needs_whole: false,
            certificates_at: None,
            shown: None,
            told: String::new(),
            status,
        };
        // So that the token service works from the first request on.
        let _ = task.connect();
        (task, SiteServerView { told, link: link_read })
    }

    /// Follows the site server until stopped.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        if let Err(error) = self.kept.prepare() {
            self.say(&format!("{}: {error}", self.kept.dir().display()));
        }
        let incoming = self.kept.incoming();
        let mut watch = Watch::new([self.kept.dir().to_owned()], LOOK);
        let mut retry = RETRY_MIN;
        let mut not_before = Instant::now();
        while !*stop.borrow() {
            self.incoming();
            self.keep_again();
            // Due certificates are requested between two polls, since a new bundle may make them
            // due. The time is limited: a block must not wait for a certificate.
            let certificates = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                done = tokio::time::timeout(ISSUE_MAX, self.certificates()) => done,
            };
            if let Ok(Err(error)) = certificates {
                self.say(&error.to_string());
            }
            let unkept = !self.unkept.is_empty();
            let (wanted, known) = (self.params.wanted.clone(), self.params.wanted.generation());
            let outcome = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                outcome = self.step(not_before) => outcome,
                () = appears(&mut watch, &incoming) => continue,
                () = replaced(&wanted, known) => {
                    self.certificates_at = None;
                    continue
                }
                () = tokio::time::sleep(RETRY_MAX), if unkept => continue,
            };
            let wait = match outcome {
                Ok(()) => {
                    self.told.clear();
                    if self.status.trouble.take().is_some() {
                        self.publish_status();
                    }
                    self.params.observer.reached(true);
                    retry = RETRY_MIN;
                    Duration::ZERO
                }
                Err(error) => {
                    let is_away = matches!(error, LinkError::Away(_));
                    self.params.observer.reached(!is_away);
                    self.say(&error.to_string());
                    self.status.trouble = Some(error.to_string());
                    self.publish_status();
                    let is_rate = matches!(&error, LinkError::Refused { code, .. }
                        if code == SiteDenial::Rate.code());
                    let wait = if is_away || is_rate {
                        retry.mul_f64(0.5 + jitter(&self.params.following.name, retry))
                    } else {
                        REFUSED_RETRY
                    };
                    retry = (retry * 2).min(RETRY_MAX);
                    wait
                }
            };
            not_before = Instant::now() + wait;
        }
    }

    /// One step: join, or wait for the next bundle.
    async fn step(&mut self, not_before: Instant) -> Result<(), LinkError> {
        tokio::time::sleep_until(not_before).await;
        // Blocks come first: an identity that cannot be renewed is good for a month more.
        if let Err(error) = self.renew_identity().await {
            self.say(&error.to_string());
        }
        let link = match self.connect()? {
            Some(link) => link,
            None => return self.join().await,
        };
        let mut link = link;
        // Without the bundle itself its version is useless: the same bundle is requested again.
        let bundle = self.bundle.clone();
        let held = HeldBundle {
            version: bundle.as_ref().map_or(0, |bundle| bundle.version),
            chain: bundle.as_ref().map_or("", |bundle| &bundle.chain),
            // Of a bundle that was lost, a later version may have been in force than that of the last
            // whole one.
            asks_whole: self.needs_whole || bundle.is_none(),
        };
        let mut time = None;
        let polled = link.bundle(&held, BUNDLE_BYTES_MAX, |said| time = Some(said)).await;
        self.prefer(&link);
        if let Some(time) = time {
            self.compare_clocks(time);
        }
        match self.known_there(polled, &held, &mut link).await? {
            Some(text) => self.take_or_heal(&text),
            None => Ok(()),
        }
    }

    /// Keeps the order in which servers answered for the next request.
    fn prefer(&self, link: &Link) {
        self.link.send_if_modified(|held| match held {
            Some(held) if held.servers() != link.servers() => {
                *held = link.clone();
                true
            }
            _ => false,
        });
    }

    /// The client for the site's servers; `None` before the gateway has joined.
    fn connect(&mut self) -> Result<Option<Link>, LinkError> {
        let Some(trust) = &self.trust else { return Ok(None) };
        let identity = self.kept.identity("identity").map_err(|error| away(&error))?;
        let Some(identity) = identity else { return Ok(None) };
        let made_by = (identity.thumbprint(), format!("{:?}{}", trust.servers, trust.roots));
        let held = self.link.borrow().clone();
        if let (Some(held), true) = (held, self.made_by.as_ref() == Some(&made_by)) {
            return Ok(Some(held));
        }
        let roots = roots(&trust.roots);
        let servers = trust.servers.clone();
        let link = self.link_by(SiteServerTrust::Roots(roots), identity, servers)?;
        self.link.send_replace(Some(link.clone()));
        self.made_by = Some(made_by);
        Ok(Some(link))
    }

    fn link_by(
        &self,
        trust: SiteServerTrust,
        identity: OwnIdentity,
        servers: Vec<String>,
    ) -> Result<Link, LinkError> {
        let OwnIdentity { chain, key, .. } = identity;
        let tls = to_site_server(trust, chain, key, &self.params.provider);
        Link::new(servers, tls.map_err(|error| away(&error))?)
    }

    /// Requests the certificates that are due. Looks at them only if something has changed: blocks
    /// come more often.
    async fn certificates(&mut self) -> Result<(), certificates::CertificateError> {
        let Some(bundle) = self.bundle.clone() else { return Ok(()) };
        if self.certificates_at.is_some_and(|at| at.elapsed() < LOOK_AT_CERTIFICATES) {
            return Ok(());
        }
        let (state, provider) = (self.params.state.clone(), self.params.provider.clone());
        let mut failed = Ok(());
        for wanted in self.params.wanted.load().iter() {
            let now = self.params.clock.now();
            let late = late(&self.params.following.name, &wanted.site_system);
            if !is_due(&state, wanted, &bundle.settings, &provider, late, now) {
                continue;
            }
            let Some(mut link) = self.connect()? else { return Ok(()) };
            match renew(&state, wanted, &mut link, &provider, now).await {
                Ok(()) => tracing::info!(target: "sitegate::site_server",
                    site_system = wanted.site_system, "the site server has issued a certificate"),
                Err(error) => failed = Err(error),
            }
        }
        self.certificates_at = failed.is_ok().then(Instant::now);
        failed
    }

    /// Logs each problem once, until it is over.
    fn say(&mut self, trouble: &str) {
        if self.told != trouble {
            tracing::warn!(target: "sitegate::site_server", "{trouble}");
            self.told = trouble.to_owned();
        }
    }
}

/// Returns when there is a file after a change of its folder. Documents that this task writes there
/// must not end its poll.
async fn appears(watch: &mut Watch, path: &Path) {
    loop {
        watch.changed().await;
        if path.exists() {
            return;
        }
    }
}

/// Returns when a reload has named other site systems, which may need certificates.
async fn replaced(wanted: &Live<Vec<CertificateOrder>>, known: u64) {
    while wanted.generation() == known {
        tokio::time::sleep(LOOK_AT_CONFIGURATION).await;
    }
}

fn away(error: &dyn std::fmt::Display) -> LinkError {
    LinkError::Away(error.to_string())
}

fn roots(pem: &str) -> RootCertStore {
    Anchors::from_pem(pem.as_bytes()).map_or_else(|_| RootCertStore::empty(), |a| a.root_store())
}

/// A number between 0 and 1 that differs between gateways and attempts.
fn jitter(name: &str, retry: Duration) -> f64 {
    let hash = digest::digest(&digest::SHA256, format!("{name}{retry:?}").as_bytes());
    f64::from(hash.as_ref().first().copied().unwrap_or_default()) / 255.0
}

/// How much later than the earliest moment a gateway renews, in seconds: up to three days of
/// ninety.
fn late(gateway: &str, site_system: &str) -> i64 {
    let hash = digest::digest(&digest::SHA256, format!("{gateway} {site_system}").as_bytes());
    let mut number = [0; 2];
    number.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
    i64::from(u16::from_be_bytes(number)) * 3 * 86_400 / 65_536
}
