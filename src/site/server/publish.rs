//! Publishes the bundle: one of the site's servers signs a new one when its content changes or it
//! gets old, and all waiting gateways receive it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cert::CredentialFault;
use crate::clock::Clock;
use crate::live::{Live, Publisher as Publishing, live};
use crate::site::authority::Authority;
use crate::site::key_ring::Keys;
use crate::site::known_blocks::blocks_of;
use crate::site::known_blocks::{RESTORE_SETTLES, missing};
use crate::site::store::{Follower, FoundIn, Lost, PublishedBundle, Store, StoreError};
use crate::site::token_key_error::TokenKeyError;
use crate::site::tokens::{SiteTokens, bundle_keys};
use crate::token::{Bundle, BundleTrust, TokenSigner};

/// The interval for checking sources outside the store: keys, roots, the time.
const LOOK: Duration = Duration::from_secs(5);
/// The retry interval while the store must be recovered first, which sends no notification.
const AGAIN: Duration = Duration::from_millis(500);
/// An unchanged bundle is renewed after a quarter of its lifetime: its lifetime divided by this.
const RENEW_AT: i64 = 4;
/// How long a server stays in the bundle after its last announcement, in seconds.
const SERVER_LIFE_S: i64 = 7 * 86_400;
/// The interval of a server's announcements, in seconds.
const SERVER_EVERY_S: i64 = 3_600;

/// The sources of a bundle besides the store.
pub struct BundleSources {
    /// The site's code.
    pub site: String,
    /// This server's addresses: `https://`, host and port.
    pub servers: Vec<String>,
    /// The origins of the site systems of this process, as clients address them.
    pub origins: Vec<String>,
    /// The signer of the site's tokens.
    pub tokens: Arc<SiteTokens>,
    /// The authority, if the site issues certificates.
    pub authority: Option<Arc<Authority>>,
    /// The state directory, with the keys that sign bundles.
    pub state: PathBuf,
    /// The lifetime of a bundle, in seconds.
    pub life_s: i64,
    /// The largest bundle, in bytes.
    pub bytes_max: usize,
}

/// The task that renews the bundle.
pub struct BundlePublisher {
    store: Store,
    follower: Follower,
    sources: BundleSources,
    clock: Clock,
    announced: Option<Timestamp>,
    published: watch::Sender<Option<Arc<PublishedBundle>>>,
    /// The inputs of the last bundle, and the time of its renewal, in seconds since 1970.
    made_of: Option<(MadeOf, i64)>,
    health: Publishing<BundleHealth>,
    /// Since when the store has not known the last bundle.
    other_since: Option<Instant>,
}

/// The inputs that decide whether a bundle's content has changed: the store's version, and the
/// inputs outside the store.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MadeOf {
    store: i64,
    /// The bundle in force, which may be that of another server.
    bundle: u64,
    bundle_keys: Vec<String>,
    token_keys: String,
    roots: String,
    certificates_from: i64,
}

/// Whether bundles are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BundleHealth {
    /// Why no bundle is made now.
    pub trouble: Option<String>,
    /// The size of the bundle in force, in bytes.
    pub bytes: usize,
}

/// Why no bundle was made.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Key(#[from] TokenKeyError),
    #[error("the site's roots cannot be read: {0}")]
    Roots(#[from] CredentialFault),
    #[error(
        "another site server publishes different bundles: compare token_issuer, hierarchy and seal \
         of all site servers"
    )]
    Disagree,
    #[error("the bundle could not be signed")]
    Signing,
    #[error(
        "the bundle with {blocks} blocks would have {bytes} bytes, and gateways accept {most}: \
         unblock what need not be blocked any more"
    )]
    TooLarge { blocks: usize, bytes: usize, most: usize },
    #[error("the store is an older copy, or another one: recovering missing blocks first")]
    Restored,
}

impl BundlePublisher {
    /// Publishes a bundle if possible, and follows the store.
    pub async fn start(
        store: Store,
        sources: BundleSources,
        clock: Clock,
    ) -> (Self, watch::Receiver<Option<Arc<PublishedBundle>>>) {
        let (published, reader) = watch::channel(None);
        // Subscribed before the first read, so that no change is missed in between.
        let follower = store.follow();
        let mut publisher = BundlePublisher {
            store,
            follower,
            sources,
            clock,
            announced: None,
            published,
            made_of: None,
            health: live(BundleHealth::default()).0,
            other_since: None,
        };
        publisher.look().await;
        (publisher, reader)
    }

    /// Renews the bundle until `stop` is set.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut next = AGAIN;
        while !*stop.borrow_and_update() {
            tokio::select! {
                biased;
                changed = stop.changed() => if changed.is_err() { return },
                () = self.follower.changed() => {}
                () = tokio::time::sleep(next) => {}
            }
            next = self.look().await;
        }
    }

    /// Publishes a bundle if its content has changed; returns the delay until the next check.
    async fn look(&mut self) -> Duration {
        match self.publish().await {
            Ok(()) => {
                self.tell(None);
                LOOK
            }
            // The store's health check reports this fault.
            Err(PublishError::Store(error)) if error.fault().is_of_the_store() => LOOK,
            Err(error) => {
                if self.tell(Some(error.to_string())) {
                    tracing::error!(target: "sitegate::site_server", %error,
                        "no bundle was made; gateways use the previous one");
                }
                if matches!(error, PublishError::Restored) { AGAIN } else { LOOK }
            }
        }
    }

    /// Whether bundles are made, and how large they are.
    pub fn health(&self) -> Live<BundleHealth> {
        self.health.reader()
    }

    /// Stores the trouble; returns whether it has changed.
    fn tell(&self, trouble: Option<String>) -> bool {
        let bytes = self.published.borrow().as_ref().map_or(0, |published| published.text.len());
        let health = BundleHealth { trouble, bytes };
        let (news, changed) =
            self.health.reader().peek(|told| (told.trouble != health.trouble, *told != health));
        if changed {
            self.health.publish(health);
        }
        news
    }

    async fn publish(&mut self) -> Result<(), PublishError> {
        let now = self.clock.now();
        self.announce(now).await?;
        self.forgets_nothing(now).await?;
        let signers = bundle_keys(&self.sources.state, now)?;
        let made_of = self.made_of(&signers).await?;
        let same = |(before, until): &(MadeOf, i64)| *before == made_of && now.as_second() < *until;
        if self.made_of.as_ref().is_some_and(same) {
            return Ok(());
        }
        let wanted = self.wanted(&signers, &made_of, now).await?;
        let (site, most) = (&self.sources.site, self.sources.bytes_max);
        let keys = crate::token::BundleKeys::of(&wanted.bundle_keys);
        let mut made = None;
        let make = |current: Option<&PublishedBundle>, version: u64| {
            let trust = BundleTrust { site, keys: &keys, version: 0 };
            let text = current.map(|current| current.text.as_str());
            let current = text.and_then(|text| Bundle::open_kept(text, &trust).ok());
            let is_fresh = |b: &Bundle| {
                let age = now.as_second() - b.issued;
                (0..(b.expires - b.issued) / RENEW_AT).contains(&age)
            };
            // A server that lags behind or is configured differently must not undo another server's
            // bundle, also one that it cannot verify.
            let peeked = text.filter(|_| current.is_none()).and_then(Bundle::peek);
            let said = current.as_ref().or(peeked.as_ref()).filter(|said| is_fresh(said));
            let signer = text.and_then(Bundle::signer);
            let known = [Some(signers.current()), signers.old()];
            // Another server has switched to this key already; this one follows within seconds.
            if signer.is_some() && signer.as_deref() == signers.next().map(TokenSigner::kid) {
                return Ok(None);
            }
            let is_ours =
                known.into_iter().flatten().any(|own| Some(own.kid()) == signer.as_deref());
            let same_site =
                |said: &Bundle| said.issuer == wanted.issuer && said.hierarchy == wanted.hierarchy;
            // With no other server, this one made it, before a change of its configuration.
            let is_alone = wanted.servers == self.sources.servers;
            if !is_alone && said.is_some_and(|said| !is_ours || !same_site(said)) {
                return Err(PublishError::Disagree);
            }
            if current.as_ref().is_some_and(|b| b.says_the_same(&wanted) && is_fresh(b)) {
                return Ok(None);
            }
            let next = Bundle { version, ..wanted.clone() };
            let text = next.sign(signers.current()).map_err(|_| PublishError::Signing)?;
            let (blocks, bytes) = (next.blocks.len(), text.len());
            if bytes > most {
                return Err(PublishError::TooLarge { blocks, bytes, most });
            }
            made = Some((next.issued, next.expires));
            Ok(Some(text))
        };
        let Some(found) = self.store.publish(make, made_of.store, now).await? else {
            return Ok(());
        };
        let made = made.or_else(|| Bundle::peek(&found.text).map(|b| (b.issued, b.expires)));
        // If the clock is set back, the renewal also becomes due.
        let until = made.map_or(0, |(issued, expires)| issued + (expires - issued) / RENEW_AT);
        let made_of = MadeOf { bundle: found.version, ..made_of };
        self.made_of = Some((made_of, until.min(now.as_second() + self.sources.life_s / RENEW_AT)));
        self.published.send_if_modified(|published| {
            let news = published.as_ref().is_none_or(|p| p.version != found.version);
            if news {
                *published = Some(Arc::new(found));
            }
            news
        });
        Ok(())
    }

    /// Checks that the store knows the last bundle, and recovers lost blocks: an older copy of the
    /// store must not make the next bundle.
    async fn forgets_nothing(&mut self, now: Timestamp) -> Result<(), PublishError> {
        let is_incomplete = self.store.is_incomplete();
        let last = self.published.borrow().clone();
        let other = match last {
            Some(last) if !self.store.remembers_bundle(last.version).await? => last,
            _ => {
                self.other_since = None;
                return if is_incomplete { Err(PublishError::Restored) } else { Ok(()) };
            }
        };
        let since = *self.other_since.get_or_insert_with(Instant::now);
        if is_incomplete || since.elapsed() < RESTORE_SETTLES {
            return Err(PublishError::Restored);
        }
        let said = Bundle::peek(&other.text);
        let (blocks, gone) = said.map(|said| (said.blocks, said.gone)).unwrap_or_default();
        let forgotten = missing(&blocks, &self.store.blocks().await?);
        let lost = Lost { blocks: &forgotten, gone: &gone };
        self.store.recover(lost, FoundIn::Bundle(other.version), now).await?;
        // The copy may have lost this server's announcement, too.
        (self.other_since, self.made_of, self.announced) = (None, None, None);
        Ok(())
    }

    /// Announces this server and the origins of its site systems.
    async fn announce(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let due =
            |at: Timestamp| !(0..SERVER_EVERY_S).contains(&(now.as_second() - at.as_second()));
        if self.announced.is_none_or(due) {
            let BundleSources { servers, origins, .. } = &self.sources;
            self.store.announce(servers, origins, now).await?;
            self.announced = Some(now);
        }
        Ok(())
    }

    async fn made_of(&self, signers: &Keys) -> Result<MadeOf, PublishError> {
        // Read first: a change during the following reads then causes another check.
        let store = self.store.block_version().await?;
        let bundle = self.store.bundle_version().await?;
        // A bundle without the site's roots would cut off every gateway.
        let (roots, from) = match &self.sources.authority {
            Some(authority) => (authority.root_pem()?, authority.switched()?),
            None => (String::new(), None),
        };
        let all = [Some(signers.current()), signers.next(), signers.old()];
        Ok(MadeOf {
            store,
            bundle,
            bundle_keys: all.into_iter().flatten().map(|key| key.kid().to_owned()).collect(),
            token_keys: self.sources.tokens.jwks(),
            roots,
            certificates_from: from.map_or(0, second_after),
        })
    }

    /// The content of a bundle now.
    async fn wanted(
        &self,
        signers: &Keys,
        made_of: &MadeOf,
        now: Timestamp,
    ) -> Result<Bundle, PublishError> {
        let since = now.as_second() - SERVER_LIFE_S;
        let (servers, mut origins) = self.store.announced(since).await?;
        for gateway in self.store.gateways().await?.iter().filter(|g| g.revoked.is_none()) {
            origins.extend(gateway.hosts.iter().map(|host| origin(host)));
        }
        origins.sort_unstable();
        origins.dedup();
        let certificates = self.store.role_certificates(now).await?;
        let blocked = certificates.into_iter().filter(|certificate| certificate.blocked.is_some());
        let mut revoked: Vec<String> = blocked.map(|c| c.thumbprint).collect();
        revoked.sort_unstable();
        let blocks = self.store.blocks().await?.entries;
        let tokens = &self.sources.tokens;
        Ok(Bundle {
            site: self.sources.site.clone(),
            hierarchy: tokens.hierarchy(),
            version: 0,
            issued: now.as_second(),
            expires: now.as_second().saturating_add(self.sources.life_s),
            issuer: tokens.issuer().to_owned(),
            servers,
            origins,
            bundle_keys: [Some(signers.current()), signers.next()]
                .into_iter()
                .flatten()
                .map(TokenSigner::jwk)
                .collect(),
            token_keys: serde_json::from_str(&made_of.token_keys).unwrap_or_default(),
            roots: made_of.roots.clone(),
            revoked,
            certificates_from: made_of.certificates_from,
            blocks: blocks.iter().flat_map(blocks_of).collect(),
            gone: self.store.revoked_gateways().await?,
        })
    }
}

/// The next full second: certificates have no fractions, and one issued in the same second may have
/// been issued before.
fn second_after(moment: Timestamp) -> i64 {
    moment.as_second().saturating_add(1)
}

fn origin(host: &str) -> String {
    match host.parse::<std::net::Ipv6Addr>() {
        Ok(ip) => format!("https://[{ip}]"),
        Err(_) => format!("https://{host}"),
    }
}

#[cfg(test)]
mod tests;
