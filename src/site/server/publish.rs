//! The bundle over time: made anew whenever what it says changes or it grows old, by one of the
//! site's servers, and told to every gateway that waits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cert::Fault;
use crate::clock::Clock;
use crate::live::{Live, Publisher as Publishing, live};
use crate::site::authority::Authority;
use crate::site::blocks::told;
use crate::site::key_ring::Keys;
use crate::site::known::{RESTORE_SETTLES, missing};
use crate::site::store::{Follower, FoundIn, Lost, Published, Store, StoreError};
use crate::site::tokens::{SiteTokens, TokenKeyError, bundle_keys};
use crate::token::{Bundle, BundleTrust, TokenSigner};

/// How often what is not in the store is looked at: keys, roots, the time.
const LOOK: Duration = Duration::from_secs(5);
/// How soon it is tried again where the store has to be completed first: nobody tells when that is done.
const AGAIN: Duration = Duration::from_millis(500);
/// After how much of its life a bundle is made anew though it says the same.
const RENEW_AT: i64 = 4;
/// How long a server is named after it was heard of last, in seconds.
const SERVER_LIFE_S: i64 = 7 * 86_400;
/// How often a server says that it is there, in seconds.
const SERVER_EVERY_S: i64 = 3_600;

/// What a bundle is made of besides the store.
pub struct BundleSources {
    /// The site's code.
    pub site: String,
    /// Where this server is: `https://` and a host, with its port.
    pub servers: Vec<String>,
    /// How clients address the site systems of this process.
    pub origins: Vec<String>,
    /// What signs the site's tokens.
    pub tokens: Arc<SiteTokens>,
    /// What issues certificates, where the site does.
    pub authority: Option<Arc<Authority>>,
    /// The state directory, with the keys that sign bundles.
    pub state: PathBuf,
    /// How long a bundle is good for, in seconds.
    pub life_s: i64,
}

/// The task that keeps the bundle.
pub struct Publisher {
    store: Store,
    follower: Follower,
    sources: BundleSources,
    clock: Clock,
    announced: Option<Timestamp>,
    published: watch::Sender<Option<Arc<Published>>>,
    /// Of what the last bundle was made, and when it has to be made anew, in seconds since 1970.
    made_of: Option<(MadeOf, i64)>,
    trouble: Publishing<Option<String>>,
    /// Since when the store has not been the one of the last bundle.
    other_since: Option<Instant>,
}

/// What decides whether a bundle would say anything else: the store's version, and what is no row of
/// the store.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MadeOf {
    store: i64,
    bundle_keys: Vec<String>,
    token_keys: String,
    roots: String,
    certificates_from: i64,
}

/// Why no bundle was made.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Key(#[from] TokenKeyError),
    #[error("the site's roots cannot be told: {0}")]
    Roots(#[from] Fault),
    #[error(
        "another site server tells gateways something else: compare token_issuer, hierarchy and seal \
         of all of them"
    )]
    Disagree,
    #[error("the bundle could not be signed")]
    Signing,
    #[error(
        "the store is an older copy, or another one: what it has forgotten is looked for first"
    )]
    Restored,
}

impl Publisher {
    /// Have a bundle, if that is possible now, and follow the store.
    pub async fn start(
        store: Store,
        sources: BundleSources,
        clock: Clock,
    ) -> (Self, watch::Receiver<Option<Arc<Published>>>) {
        let (published, reader) = watch::channel(None);
        // Before the first look, so that no change falls between the two.
        let follower = store.follow();
        let mut publisher = Publisher {
            store,
            follower,
            sources,
            clock,
            announced: None,
            published,
            made_of: None,
            trouble: live(None).0,
            other_since: None,
        };
        publisher.look().await;
        (publisher, reader)
    }

    /// Keep it until told to stop.
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

    /// Make a bundle if there is news, and say when to look again.
    async fn look(&mut self) -> Duration {
        match self.publish().await {
            Ok(()) => {
                self.tell(None);
                LOOK
            }
            // The store's own health tells.
            Err(PublishError::Store(error)) if error.fault().is_of_the_store() => LOOK,
            Err(error) => {
                if self.tell(Some(error.to_string())) {
                    tracing::error!(target: "sitegate::site_server", %error,
                        "no bundle was made; gateways go by the one before");
                }
                if matches!(error, PublishError::Restored) { AGAIN } else { LOOK }
            }
        }
    }

    /// Why no bundle is made at present.
    pub fn trouble(&self) -> Live<Option<String>> {
        self.trouble.reader()
    }

    /// Whether that is news.
    fn tell(&self, trouble: Option<String>) -> bool {
        let news = self.trouble.reader().peek(|told| *told != trouble);
        if news {
            self.trouble.publish(trouble);
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
        let site = &self.sources.site;
        let keys = crate::token::BundleKeys::of(&wanted.bundle_keys);
        let make = |current: Option<&Published>, version: u64| {
            let trust = BundleTrust { site, keys: &keys, version: 0 };
            let text = current.map(|current| current.text.as_str());
            let current = text.and_then(|text| Bundle::open_kept(text, &trust).ok());
            let is_fresh = |b: &Bundle| {
                let age = now.as_second() - b.issued;
                (0..(b.expires - b.issued) / RENEW_AT).contains(&age)
            };
            // What another server has made is not undone by one that is behind, or set up otherwise.
            let said = text.and_then(Bundle::peek).filter(|said| is_fresh(said));
            let signer = text.and_then(Bundle::signer);
            let known = [Some(signers.current()), signers.old()];
            // The key is in force at another server already, and will be here within seconds.
            if signer.is_some() && signer.as_deref() == signers.next().map(TokenSigner::kid) {
                return Ok(None);
            }
            let is_ours =
                known.into_iter().flatten().any(|own| Some(own.kid()) == signer.as_deref());
            let same_site =
                |said: &Bundle| said.issuer == wanted.issuer && said.hierarchy == wanted.hierarchy;
            // Where there is no other, it was this one, before something of it was changed.
            let is_alone = wanted.servers == self.sources.servers;
            if !is_alone && said.is_some_and(|said| !is_ours || !same_site(&said)) {
                return Err(PublishError::Disagree);
            }
            if current.is_some_and(|b| b.says_the_same(&wanted) && is_fresh(&b)) {
                return Ok(None);
            }
            let next = Bundle { version, ..wanted.clone() };
            next.sign(signers.current()).map(Some).map_err(|_| PublishError::Signing)
        };
        let Some(found) = self.store.publish(make, made_of.store, now).await? else {
            return Ok(());
        };
        // A clock that is set back makes it look again, like one that goes on.
        let until =
            Bundle::peek(&found.text).map_or(0, |b| b.issued + (b.expires - b.issued) / RENEW_AT);
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

    /// Have the store know what the last bundle said: one that is an older copy must not make the
    /// next one.
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
        // The copy may not name this server either.
        (self.other_since, self.made_of, self.announced) = (None, None, None);
        Ok(())
    }

    /// Say that this server is there, and at which addresses clients find its site systems.
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
        // Before all else: what changes while the rest is read makes another look.
        let store = self.store.block_version().await?;
        // Without its roots a bundle would cut off every gateway.
        let (roots, from) = match &self.sources.authority {
            Some(authority) => (authority.root_pem()?, authority.switched()?),
            None => (String::new(), None),
        };
        let all = [Some(signers.current()), signers.next(), signers.old()];
        Ok(MadeOf {
            store,
            bundle_keys: all.into_iter().flatten().map(|key| key.kid().to_owned()).collect(),
            token_keys: self.sources.tokens.jwks(),
            roots,
            certificates_from: from.map_or(0, second_after),
        })
    }

    /// What a bundle has to say now.
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
            blocks: blocks.iter().flat_map(told).collect(),
            gone: self.store.revoked_gateways().await?,
        })
    }
}

/// The second after that of a moment: certificates tell no parts of one, and what was issued in the
/// same second may have been issued before.
fn second_after(moment: Timestamp) -> i64 {
    moment.as_second().saturating_add(1)
}

fn origin(host: &str) -> String {
    match host.parse::<std::net::Ipv6Addr>() {
        Ok(ip) => format!("https://[{ip}]"),
        Err(_) => format!("https://{host}"),
    }
}
