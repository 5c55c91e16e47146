//! A gateway's side of its site server: it joins once, follows the bundle, and has certificates
//! issued. What it is told lies in a watched folder.
//!
//! A site server that is away stops nothing: the last bundle stays in force, and everything goes on
//! by what is on disk.

mod certificates;
mod joining;
mod kept;
mod link;
mod relay;
mod told;

use std::path::PathBuf;
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
use crate::secret::read_bounded;
use crate::tls::{SiteServerTrust, to_site_server};
use crate::token::{BUNDLE_BYTES_MAX, Bundle, BundleKeys, BundleRefusal, BundleTrust};
pub use certificates::Wanted;
use certificates::{is_due, keep_roots, renew};
pub use joining::join_token;
pub use kept::{Identity, Kept, Trust};
pub use link::{Link, LinkError};
pub use relay::relay;
pub use told::{CLOCKS_DIFFER_S_MAX, OnSiteServer, Told};

use super::watch::Watch;

/// How often the folder and the certificates are looked at besides.
const LOOK: Duration = Duration::from_secs(120);
/// Waiting after a failure: twice as long each time, between these.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often it is asked whether other certificates are needed.
const LOOK_AT_CONFIGURATION: Duration = Duration::from_millis(500);
/// How long the certificates that are due may keep the next poll waiting.
const ISSUE_MAX: Duration = Duration::from_secs(10);
/// After a refusal: somebody has to do something first.
const REFUSED_RETRY: Duration = Duration::from_secs(15);

/// What the task is made with.
pub struct SiteServerParams {
    /// The site's code.
    pub site: String,
    /// `[site_server]`.
    pub following: Following,
    /// The state directory.
    pub state: PathBuf,
    /// The site systems that need certificates of the site; replaced at a reload.
    pub wanted: Live<Vec<Wanted>>,
    /// The crypto provider.
    pub provider: Arc<CryptoProvider>,
    /// The time.
    pub clock: Clock,
    /// Who is told.
    pub observer: Arc<dyn OnSiteServer>,
}

/// The task that follows the site server.
pub struct SiteServerTask {
    params: SiteServerParams,
    kept: Kept,
    trust: Option<Trust>,
    bundle: Option<Arc<Bundle>>,
    publisher: Publisher<Told>,
    link: watch::Sender<Option<Link>>,
    /// By what the present link was made.
    made_by: Option<(String, String)>,
    seen_incoming: Option<Vec<u8>>,
    /// A bundle that is in force, and that the disk has not taken.
    unkept: Option<String>,
    told: String,
    status: Told,
}

/// What others get of it.
pub struct SiteServerView {
    /// What is in force.
    pub told: Live<Told>,
    /// The way to the site's servers.
    pub link: watch::Receiver<Option<Link>>,
}

impl SiteServerTask {
    /// Take what is on disk, so that everything can go on by that.
    pub fn start(params: SiteServerParams) -> (Self, SiteServerView) {
        let kept = Kept::new(&params.state);
        let trust = kept.trust().filter(|trust| trust.site == params.site);
        let found = trust.as_ref().and_then(|trust| kept.bundle(trust));
        let bundle = match found {
            Some(Ok(bundle)) => Some(Arc::new(bundle)),
            Some(Err(refusal)) => {
                tracing::error!(target: "sitegate::site_server", code = refusal.code(),
                    "the bundle on disk is not taken: {refusal}");
                params.observer.refused(refusal);
                None
            }
            None => None,
        };
        if let Some(bundle) = &bundle {
            params.observer.bundle(bundle);
            // A cut may have left what it says unsaid.
            let _ = kept.spell_out(bundle);
        }
        let status = Told { bundle: bundle.clone(), ..Told::default() };
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
            unkept: None,
            told: String::new(),
            status,
        };
        // So that clients of the token service are served from the first on.
        let _ = task.connect();
        (task, SiteServerView { told, link: link_read })
    }

    /// Follow until told to stop.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        if let Err(error) = self.kept.prepare() {
            self.say(&format!("{}: {error}", self.kept.dir().display()));
        }
        let mut watch = Watch::new([self.kept.dir().to_owned()], LOOK);
        let mut retry = RETRY_MIN;
        let mut not_before = Instant::now();
        while !*stop.borrow() {
            self.incoming();
            self.keep_again();
            // What is due is done between two polls: a new bundle may be what makes it so. Not for
            // long: a block must not wait for a certificate.
            let certificates = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                done = tokio::time::timeout(ISSUE_MAX, self.certificates()) => done,
            };
            if let Ok(Err(error)) = certificates {
                self.say(&error.to_string());
            }
            let unkept = self.unkept.is_some();
            let (wanted, known) = (self.params.wanted.clone(), self.params.wanted.generation());
            let outcome = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                outcome = self.step(not_before) => outcome,
                () = watch.changed() => continue,
                () = replaced(&wanted, known) => continue,
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
                    let wait = match is_away {
                        true => retry.mul_f64(0.5 + jitter(&self.params.following.name, retry)),
                        false => REFUSED_RETRY,
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
        // Without the bundle itself its number is of no use: the same one is asked for again.
        let held = self.bundle.as_ref().map_or(0, |bundle| bundle.version);
        let mut time = None;
        let polled = link.bundle(held, BUNDLE_BYTES_MAX, |said| time = Some(said)).await;
        self.prefer(&link);
        if let Some(time) = time {
            self.compare_clocks(time);
        }
        match self.known_there(polled, &mut link).await? {
            Some(text) => self.take(&text).map_err(|refusal| LinkError::Refused {
                code: refusal.code().to_owned(),
                words: refusal.to_string(),
            }),
            None => Ok(()),
        }
    }

    /// The order in which servers answered is kept for the next time.
    fn prefer(&self, link: &Link) {
        self.link.send_if_modified(|held| match held {
            Some(held) if held.servers() != link.servers() => {
                *held = link.clone();
                true
            }
            _ => false,
        });
    }

    /// The way to the site's servers; `None` before the gateway has joined.
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
        identity: Identity,
        servers: Vec<String>,
    ) -> Result<Link, LinkError> {
        let shown = (identity.chain, identity.key);
        let tls = to_site_server(trust, shown, &self.params.provider);
        Link::new(servers, tls.map_err(|error| away(&error))?)
    }

    /// Take a bundle that came, if it may come into force.
    fn take(&mut self, text: &str) -> Result<(), BundleRefusal> {
        let trust = self.trust.clone().unwrap_or_default();
        let keys = BundleKeys::of(&trust.keys);
        let judged = BundleTrust { site: &self.params.site, keys: &keys, version: trust.version };
        let opened = Bundle::open(text, &judged);
        let bundle = opened.inspect_err(|refusal| self.params.observer.refused(*refusal))?;
        if let Err(error) = self.enforce(bundle, text) {
            self.say(&format!("{}: {error}", self.kept.dir().display()));
        }
        Ok(())
    }

    /// Put it in force: at once, and on disk for the next start. A disk that takes nothing must not
    /// keep a block from being known.
    fn enforce(&mut self, bundle: Bundle, text: &str) -> std::io::Result<()> {
        let bundle = Arc::new(bundle);
        self.params.observer.bundle(&bundle);
        self.status.bundle = Some(bundle.clone());
        self.publish_status();
        tracing::info!(target: "sitegate::site_server", version = bundle.version,
            blocks = bundle.blocks.len(), "a bundle is in force");
        let kept = self.kept.keep(&bundle, text);
        self.unkept = kept.is_err().then(|| text.to_owned());
        for wanted in self.params.wanted.load().iter() {
            let _ = keep_roots(&self.params.state, wanted, &bundle);
        }
        self.trust = Some(match &kept {
            Ok(trust) => trust.clone(),
            Err(_) => Trust {
                site: bundle.site.clone(),
                version: bundle.version,
                keys: bundle.bundle_keys.clone(),
                servers: bundle.servers.clone(),
                roots: bundle.roots.clone(),
            },
        });
        self.bundle = Some(bundle);
        kept.map(drop)
    }

    /// Give the disk what it has not taken before: the keys in it come into force by that.
    fn keep_again(&mut self) {
        let (Some(text), Some(bundle)) = (&self.unkept, &self.bundle) else { return };
        if let Ok(trust) = self.kept.keep(bundle, text) {
            self.trust = Some(trust);
            self.unkept = None;
        }
    }

    /// Take a bundle that was carried here.
    fn incoming(&mut self) {
        let path = self.kept.incoming();
        let Ok((bytes, _)) = read_bounded(&path, BUNDLE_BYTES_MAX as u64) else { return };
        let hash = digest::digest(&digest::SHA256, &bytes).as_ref().to_vec();
        if self.seen_incoming.as_ref() == Some(&hash) {
            return;
        }
        self.seen_incoming = Some(hash);
        let taken = match std::str::from_utf8(&bytes) {
            Ok(text) => self.take(text),
            Err(_) => Err(BundleRefusal::Malformed),
        };
        match taken {
            Ok(()) => drop(std::fs::remove_file(&path)),
            Err(refusal) => tracing::error!(target: "sitegate::site_server",
                code = refusal.code(), path = %path.display(),
                "the bundle that was carried here is not taken: {refusal}"),
        }
    }

    /// Have the certificates issued that are due.
    async fn certificates(&mut self) -> Result<(), certificates::CertificateError> {
        let Some(bundle) = self.bundle.clone() else { return Ok(()) };
        let (state, provider) = (self.params.state.clone(), self.params.provider.clone());
        let mut failed = Ok(());
        for wanted in self.params.wanted.load().iter() {
            let now = self.params.clock.now();
            let late = late(&self.params.following.name, &wanted.site_system);
            if !is_due(&state, wanted, &bundle, (&provider, late), now) {
                continue;
            }
            let Some(mut link) = self.connect()? else { return Ok(()) };
            match renew(&state, wanted, &mut link, &provider, now).await {
                Ok(()) => tracing::info!(target: "sitegate::site_server",
                    site_system = wanted.site_system, "the site server has issued a certificate"),
                Err(error) => failed = Err(error),
            }
        }
        failed
    }

    /// Each trouble once, until it is over.
    fn say(&mut self, trouble: &str) {
        if self.told != trouble {
            tracing::warn!(target: "sitegate::site_server", "{trouble}");
            self.told = trouble.to_owned();
        }
    }
}

/// Return when the configuration has named other site systems, which may need certificates.
async fn replaced(wanted: &Live<Vec<Wanted>>, known: u64) {
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

/// A number between 0 and 1 that differs between gateways and tries.
fn jitter(name: &str, retry: Duration) -> f64 {
    let hash = digest::digest(&digest::SHA256, format!("{name}{retry:?}").as_bytes());
    f64::from(hash.as_ref().first().copied().unwrap_or_default()) / 255.0
}

/// How much later than the first moment a gateway renews, in seconds: up to three days of ninety.
fn late(gateway: &str, site_system: &str) -> i64 {
    let hash = digest::digest(&digest::SHA256, format!("{gateway} {site_system}").as_bytes());
    let mut number = [0; 2];
    number.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
    i64::from(u16::from_be_bytes(number)) * 3 * 86_400 / 65_536
}
