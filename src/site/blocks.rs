//! What the store blocks, as requests are judged by it: published anew whenever it changes, by
//! whomever.
//!
//! A store that does not answer unblocks nobody: the last list stays in force.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::store::{BlockEntry, BlockedOwned, Follower, Store, StoreError};
use crate::live::{Live, Publisher, live};
use crate::token::{Blocking, Blocklist, IssuerNames, Trusted};

/// How often the names of issuers are compared with those of the configuration in force.
const LOOK: Duration = Duration::from_secs(30);

/// Told of every new list, once it is in force.
pub type OnBlocks = Arc<dyn Fn(&Blocklist) + Send + Sync>;

/// The task that follows the store's blocks.
pub struct Blocks {
    store: Store,
    follower: Follower,
    /// The store's version, and how often the issuers had been replaced.
    seen: (i64, u64),
    trusted: Live<Vec<Trusted>>,
    publisher: Publisher<Blocklist>,
    on_list: OnBlocks,
}

impl Blocks {
    /// Read what is blocked now, before anything is served.
    ///
    /// # Errors
    /// If the store does not answer: then nobody knows who is blocked.
    pub async fn start(
        store: Store,
        trusted: Live<Vec<Trusted>>,
        on_list: OnBlocks,
    ) -> Result<(Self, Live<Blocklist>), StoreError> {
        // Before the first look, so that no change falls between the two.
        let follower = store.follow();
        let generation = trusted.generation();
        let found = store.blocks().await?;
        let list = list(&found.entries, &trusted.load());
        on_list(&list);
        let (publisher, reader) = live(list);
        let seen = (found.version, generation);
        Ok((Blocks { store, follower, seen, trusted, publisher, on_list }, reader))
    }

    /// Follow the store until told to stop.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut told = false;
        while !*stop.borrow_and_update() {
            tokio::select! {
                biased;
                changed = stop.changed() => if changed.is_err() { return },
                () = self.follower.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            match self.look().await {
                Ok(()) => told = false,
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(target: "sitegate::store", %error,
                            "blocks were not read, those before stay in force");
                    }
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        // Before the issuers: if they are replaced in between, they only seem older than they are.
        let generation = self.trusted.generation();
        if (self.store.block_version().await?, generation) == self.seen {
            return Ok(());
        }
        let found = self.store.blocks().await?;
        self.publisher.publish(list(&found.entries, &self.trusted.load()));
        self.seen = (found.version, generation);
        // What began after the list was published was judged by it; what was under way is judged
        // now.
        self.publisher.reader().peek(|list| (self.on_list)(list));
        Ok(())
    }
}

fn list(entries: &[BlockEntry], trusted: &[Trusted]) -> Blocklist {
    let entries = entries.iter().flat_map(|entry| {
        let itself = match &entry.what {
            BlockedOwned::Token { issuer, id } => Blocking::Token { iss: issuer, id },
            BlockedOwned::IssuedBefore { issuer, before } => {
                Blocking::IssuedBefore { iss: issuer, before: *before }
            }
            BlockedOwned::Device(id) => Blocking::Device(id),
            BlockedOwned::User { id, .. } => Blocking::User(id),
        };
        let covered = entry.covers.iter().flat_map(|covered| {
            std::iter::once(&covered.device).chain(&covered.entra).map(|id| Blocking::Device(id))
        });
        std::iter::once(itself).chain(covered)
    });
    Blocklist::of(entries, &IssuerNames::of(trusted))
}
