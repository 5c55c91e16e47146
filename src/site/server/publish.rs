//! Publishes the bundle: one of the site's servers signs a delta when the content changes or the
//! last document gets old, and all waiting gateways receive it. A whole bundle is made if there is
//! none, if its keys change, and if many deltas follow the last one.

mod folding;
mod presence;
mod wanted;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use self::folding::folded;
use super::documents::{FoldedBundle, PublishedDocuments};
use crate::cert::CredentialFault;
use crate::clock::Clock;
use crate::live::{Live, Publisher as Publishing, live};
use crate::site::key_ring::Keys;
use crate::site::store::{BlockChanges, Follower, NewDocument, Store, StoreError, StoredDelta};
use crate::site::token_key_error::TokenKeyError;
use crate::token::{Bundle, BundleDelta, BundleSettings, TokenSigner};
pub use wanted::BundleSources;
use wanted::MadeOf;

/// The interval for checking sources outside the store: keys, roots, the time.
const LOOK: Duration = Duration::from_secs(5);
/// The retry interval while the store must be recovered first, which sends no notification.
const AGAIN: Duration = Duration::from_millis(500);
/// An unchanged bundle is renewed after a quarter of its lifetime: its lifetime divided by this.
const RENEW_AT: i64 = 4;
/// The least time between two documents.
const TOGETHER: Duration = Duration::from_millis(20);
/// How often a publication is tried while other servers publish at the same time.
const TRIES: usize = 5;

/// The documents in force; `None` before the first.
pub type PublishedReader = watch::Receiver<Option<Arc<PublishedDocuments>>>;

/// The task that renews the bundle.
pub struct BundlePublisher {
    store: Store,
    follower: Follower,
    sources: BundleSources,
    clock: Clock,
    announced: Option<Timestamp>,
    /// The documents of the store, as far as they were read.
    documents: Option<Arc<PublishedDocuments>>,
    published: watch::Sender<Option<Arc<PublishedDocuments>>>,
    /// The inputs of the last document, and the time of its renewal, in seconds since 1970.
    made_of: Option<(MadeOf, i64)>,
    /// The keys that sign, and when they were read.
    signers: Option<(Arc<Keys>, Instant)>,
    /// The settings of the last document, and what they were made of.
    settings: Option<(MadeOf, BundleSettings)>,
    /// A whole bundle that is being made.
    folding: Option<JoinHandle<FoldedBundle>>,
    health: Publishing<BundleHealth>,
    /// Since when the store has not known the last bundle.
    other_since: Option<Instant>,
}

/// Whether bundles are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BundleHealth {
    /// Why no bundle is made now.
    pub trouble: Option<String>,
    /// The size of the bundle in force with its deltas, in bytes.
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

/// What is due.
enum DueDocument {
    /// Nothing, but that the last document includes this state of the blocks, too.
    Nothing(Option<i64>),
    /// The changes of the blocks, and the settings if they have changed.
    Delta(BlockChanges, Option<Box<BundleSettings>>),
    /// A whole bundle.
    Bundle,
}

impl BundlePublisher {
    /// Publishes a bundle if possible, and follows the store.
    pub async fn start(
        store: Store,
        sources: BundleSources,
        clock: Clock,
    ) -> (Self, PublishedReader) {
        let (published, reader) = watch::channel(None);
        // Subscribed before the first read, so that no change is missed in between.
        let follower = store.follow();
        let mut publisher = BundlePublisher {
            store,
            follower,
            sources,
            clock,
            announced: None,
            documents: None,
            published,
            made_of: None,
            signers: None,
            settings: None,
            folding: None,
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
                folded = folded(&mut self.folding) => self.replace_bundle(folded).await,
                () = tokio::time::sleep(next) => {}
            }
            next = self.look().await;
            // So that many changes in a row are one document.
            tokio::time::sleep(TOGETHER).await;
        }
    }

    /// Publishes what has changed; returns the delay until the next check.
    async fn look(&mut self) -> Duration {
        match self.publish().await {
            Ok(()) => {
                self.tell(None);
                self.fold_if_due();
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
        let bytes = self.published.borrow().as_ref().map_or(0, |published| published.bytes());
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
        let signers = self.signers(now)?;
        let mut made_of = self.sources.made_of(&self.store, &signers, now).await?;
        let same = |(before, until): &(MadeOf, i64)| *before == made_of && now.as_second() < *until;
        if self.made_of.as_ref().is_some_and(same) {
            return Ok(());
        }
        let (mut in_force, mut is_published) = (made_of.bundle, false);
        for _ in 0..TRIES {
            self.catch_up(in_force).await?;
            let changes = match &self.documents {
                Some(documents) => self.store.block_changes(documents.blocks, None).await?,
                None => None,
            };
            // After the changes: what changes in between is read here, and again next time.
            let settings = match self.known_settings(&made_of, changes.as_ref()) {
                Some(settings) => settings,
                None => self.sources.settings(&self.store, &signers, &made_of, now).await?,
            };
            is_published = self.publish_next(in_force, &signers, &settings, changes, now).await?;
            if is_published {
                self.settings = Some((made_of.clone(), settings));
                break;
            }
            in_force = self.store.bundle_version().await?;
        }
        let Some(documents) = self.documents.clone().filter(|_| is_published) else {
            return Ok(());
        };
        let head = &documents.head;
        // If the clock is set back, the renewal also becomes due.
        let until = head.issued + (head.expires - head.issued) / RENEW_AT;
        let until = until.min(now.as_second() + self.sources.life_s / RENEW_AT);
        made_of.bundle = head.version;
        self.made_of = Some((made_of, until));
        self.send(documents);
        Ok(())
    }

    /// Publishes the next document after this version, if one is due. `false` if another server has
    /// published one in between.
    async fn publish_next(
        &mut self,
        after: u64,
        signers: &Keys,
        settings: &BundleSettings,
        changes: Option<BlockChanges>,
        now: Timestamp,
    ) -> Result<bool, PublishError> {
        let current = self.documents.clone();
        match self.due(current.as_deref(), signers, settings, changes, now)? {
            DueDocument::Nothing(None) => Ok(true),
            DueDocument::Nothing(Some(blocks)) => {
                self.store.bundle_includes(after, blocks).await?;
                self.documents = current.map(|current| Arc::new(current.with_blocks(blocks)));
                Ok(true)
            }
            DueDocument::Delta(changes, news) => {
                let Some(current) = current else { return Ok(true) };
                let delta = BundleDelta {
                    site: settings.site.clone(),
                    version: 0,
                    after,
                    chain: current.head.chain.clone(),
                    issued: now.as_second(),
                    expires: now.as_second().saturating_add(self.sources.life_s),
                    settings: news,
                    removed: changes.removed,
                    added: changes.added,
                };
                let make = |version| {
                    let signed = BundleDelta { version, ..delta }.sign(signers.current());
                    signed.map(NewDocument::Delta).map_err(|_| PublishError::Signing)
                };
                let blocks = changes.version;
                let made = self.store.publish(after, blocks, make, now).await?;
                let Some((version, NewDocument::Delta(text))) = made else { return Ok(false) };
                let next = current.with_delta(StoredDelta { version, text, blocks });
                self.documents = next.map(Arc::new);
                Ok(true)
            }
            DueDocument::Bundle => {
                let found = self.store.current_blocks().await?;
                let (blocks, most) = (found.blocks.len(), self.sources.bytes_max);
                let mut bundle = Bundle {
                    settings: settings.clone(),
                    version: 0,
                    issued: now.as_second(),
                    expires: now.as_second().saturating_add(self.sources.life_s),
                    blocks: found.blocks,
                    chain: Some(Uuid::new_v4().simple().to_string()),
                };
                let make = |version| {
                    bundle.version = version;
                    let text = bundle.sign(signers.current()).map_err(|_| PublishError::Signing)?;
                    let bytes = text.len();
                    if bytes > most {
                        return Err(PublishError::TooLarge { blocks, bytes, most });
                    }
                    Ok(NewDocument::Bundle(text))
                };
                let made = self.store.publish(after, found.version, make, now).await?;
                let Some((_, NewDocument::Bundle(text))) = made else { return Ok(false) };
                let next = PublishedDocuments::of_bundle(bundle, text, found.version);
                self.documents = Some(Arc::new(next));
                Ok(true)
            }
        }
    }

    /// What has to be published after these documents.
    fn due(
        &self,
        current: Option<&PublishedDocuments>,
        signers: &Keys,
        settings: &BundleSettings,
        changes: Option<BlockChanges>,
        now: Timestamp,
    ) -> Result<DueDocument, PublishError> {
        let Some(current) = current else { return Ok(DueDocument::Bundle) };
        let said = &current.head;
        let age = now.as_second() - said.issued;
        let is_fresh = (0..(said.expires - said.issued) / RENEW_AT).contains(&age);
        let signer = current.signer();
        // Another server has switched to this key already; this one follows within seconds.
        if signer.is_some() && signer == signers.next().map(TokenSigner::kid) {
            return Ok(DueDocument::Nothing(None));
        }
        let is_ours = [Some(signers.current()), signers.old()]
            .into_iter()
            .flatten()
            .any(|own| Some(own.kid()) == signer);
        let same_site = said.settings.issuer == settings.issuer
            && said.settings.hierarchy == settings.hierarchy;
        // A server that lags behind or is configured differently must not undo another server's
        // bundle. With no other server, this one made it, before a change of its configuration.
        let is_alone = settings.servers == self.sources.servers;
        if !is_alone && is_fresh && !(is_ours && same_site) {
            return Err(PublishError::Disagree);
        }
        // A bundle whose keys change is signed by the current one.
        let same_keys = said.settings.bundle_keys == settings.bundle_keys
            && signer == Some(signers.current().kid());
        if !same_keys || said.chain.is_empty() {
            return Ok(DueDocument::Bundle);
        }
        let Some(changes) = changes else { return Ok(DueDocument::Bundle) };
        let is_said = changes.removed.is_empty() && changes.added.is_empty();
        if is_said && is_fresh && said.settings == *settings {
            let is_later = changes.version > current.blocks;
            return Ok(DueDocument::Nothing(is_later.then_some(changes.version)));
        }
        let news = (said.settings != *settings).then(|| Box::new(settings.clone()));
        // Twice the length of what is encoded, at the most.
        let added = 2 * serde_json::to_vec(&(&changes.removed, &changes.added, &news))
            .map_or(0, |encoded| encoded.len());
        let is_too_large = current.bytes() + added > self.sources.bytes_max;
        Ok(if is_too_large { DueDocument::Bundle } else { DueDocument::Delta(changes, news) })
    }

    /// Reads what other servers have published.
    async fn catch_up(&mut self, in_force: u64) -> Result<(), PublishError> {
        let current = self.documents.clone();
        let known = current.as_ref().map_or(0, |current| current.head.version);
        if known == in_force {
            return Ok(());
        }
        let mut next = current.map(|current| PublishedDocuments::clone(&current));
        if next.is_some() {
            for delta in self.store.bundle_deltas(known).await? {
                next = next.and_then(|documents| documents.with_delta(delta));
            }
        }
        if next.as_ref().is_none_or(|documents| documents.head.version != in_force) {
            next = self.store.bundle().await?.and_then(PublishedDocuments::of);
        }
        self.documents = next.map(Arc::new);
        Ok(())
    }

    /// Puts documents in force; gateways that wait for a later version get them.
    fn send(&self, documents: Arc<PublishedDocuments>) {
        self.published.send_if_modified(|published| {
            let is_new = published.as_ref().is_none_or(|p| p.head != documents.head);
            *published = Some(documents);
            is_new
        });
    }
}

#[cfg(test)]
mod tests;
