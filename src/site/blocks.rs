//! The blocklist of the store, as requests are checked against it: published again after every
//! change by any process.
//!
//! If the store does not answer, the last list stays in force.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::known_blocks::{Complete, KnownBlocks, RESTORE_SETTLES, blocks_of};
use super::store::{Follower, RECOVERED_BY, Store, StoreError, StoredBlocks as Found};
use crate::clock::Clock;
use crate::live::{Live, Publisher, live};
use crate::token::{Block, Blocklist};

/// The interval of polling, besides notifications.
const LOOK: Duration = Duration::from_secs(30);

/// The delay before the next poll while recovery is incomplete.
const AGAIN: Duration = Duration::from_secs(1);

/// Called with every new list, once it is in force.
pub type OnBlocks = Arc<dyn Fn(&Blocklist, InForce) + Send + Sync>;

/// The store's blocks that are in force in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// The version of the store's blocks.
    pub version: i64,
    /// How many exist only because a restored copy had lost them.
    pub recovered: usize,
}

/// The local copy of the store's blocks, in the state directory.
const KNOWN: &str = "blocks-known.json";

/// The task that follows the store's blocks.
pub struct SiteBlocks {
    store: Store,
    follower: Follower,
    known: KnownBlocks,
    clock: Clock,
    /// The store's version; `None` if the last poll left recovery incomplete.
    seen: Option<i64>,
    publisher: Publisher<Blocklist>,
    on_list: OnBlocks,
}

impl SiteBlocks {
    /// Reads the blocks before anything is served.
    ///
    /// # Errors
    /// If the store does not answer: the blocks are then unknown.
    pub async fn start(
        store: Store,
        state: &Path,
        clock: Clock,
        on_list: OnBlocks,
    ) -> Result<(Self, Live<Blocklist>), StoreError> {
        // Subscribed before the first read, so that no change is missed in between.
        let follower = store.follow();
        let mut known = KnownBlocks::open(state.join(KNOWN));
        let Complete { found, forgotten, done } =
            known.complete(&store, Duration::ZERO, clock.now()).await?;
        let list = list(&found, &forgotten);
        on_list(&list, in_force(&found, &forgotten));
        let (publisher, reader) = live(list);
        let seen = done.then_some(found.version);
        let blocks = SiteBlocks { store, follower, known, clock, seen, publisher, on_list };
        Ok((blocks, reader))
    }

    /// Follows the store until `stop` is set.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut told = false;
        while !*stop.borrow_and_update() {
            tokio::select! {
                biased;
                changed = stop.changed() => if changed.is_err() { return },
                () = self.follower.changed() => {}
                () = tokio::time::sleep(if self.seen.is_some() { LOOK } else { AGAIN }) => {}
            }
            match self.look().await {
                Ok(()) => told = false,
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(target: "sitegate::store", %error,
                            "blocks were not read, the previous ones stay in force");
                    }
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        if Some(self.store.block_version().await?) == self.seen {
            return Ok(());
        }
        let now = self.clock.now();
        let Complete { found, forgotten, done } =
            self.known.complete(&self.store, RESTORE_SETTLES, now).await?;
        self.publisher.publish(list(&found, &forgotten));
        self.seen = done.then_some(found.version);
        // Requests that began after the publication were checked against the new list; requests in
        // flight are checked now.
        let in_force = in_force(&found, &forgotten);
        self.publisher.reader().peek(|list| (self.on_list)(list, in_force));
        Ok(())
    }
}

fn in_force(found: &Found, forgotten: &[Block]) -> InForce {
    let recovered = found.entries.iter().filter(|entry| entry.actor == RECOVERED_BY).count();
    InForce { version: found.version, recovered: recovered + forgotten.len() }
}

/// Builds the list from the store's blocks and those that it has lost.
fn list(found: &Found, forgotten: &[Block]) -> Blocklist {
    let told: Vec<Block> = found.entries.iter().flat_map(blocks_of).collect();
    let all = told.iter().chain(forgotten).map(Block::as_blocking);
    Blocklist::of(all)
}
