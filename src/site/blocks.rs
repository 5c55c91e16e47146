//! The blocklist of the store, as requests are checked against it: published again after every
//! change by any process. Only what has changed is read.
//!
//! If the store does not answer, the last list stays in force.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::known_blocks::{Complete, KnownBlocks, RESTORE_SETTLES};
use super::store::{CurrentBlocks, Follower, Store, StoreError};
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

/// The state of the store that is in force: its version and its mark.
type Seen = (i64, String);

/// The task that follows the store's blocks.
pub struct SiteBlocks {
    store: Store,
    follower: Follower,
    known: KnownBlocks,
    clock: Clock,
    /// The state in force; `None` if the last poll left recovery incomplete.
    seen: Option<Seen>,
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
        let known = KnownBlocks::open(state.join(KNOWN));
        let (publisher, reader) = live(Blocklist::default());
        let mut blocks =
            SiteBlocks { store, follower, known, clock, seen: None, publisher, on_list };
        blocks.read_all(Duration::ZERO).await?;
        Ok((blocks, reader))
    }

    /// Follows the store until `stop` is set.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut is_failing = false;
        while !*stop.borrow_and_update() {
            tokio::select! {
                biased;
                changed = stop.changed() => if changed.is_err() { return },
                () = self.follower.changed() => {}
                () = tokio::time::sleep(if self.seen.is_some() { LOOK } else { AGAIN }) => {}
            }
            match self.look().await {
                Ok(()) => is_failing = false,
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::error!(target: "sitegate::store", %error,
                            "blocks were not read, the previous ones stay in force");
                    }
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let Some((version, mark)) = &self.seen else {
            return self.read_all(RESTORE_SETTLES).await;
        };
        let Some(changes) = self.store.block_changes(*version, Some(mark)).await? else {
            return self.read_all(RESTORE_SETTLES).await;
        };
        if changes.version == *version {
            return Ok(());
        }
        let recovered = self.store.count_recovered().await?;
        let (removed, added) = (&changes.removed, &changes.added);
        if !(removed.is_empty() && added.is_empty()) {
            let (removed, added) = (removed.iter(), added.iter());
            let list = self.publisher.reader().load();
            let list = list.changed(removed.map(Block::as_blocking), added.map(Block::as_blocking));
            self.publisher.publish(list);
        }
        self.is_in_force(InForce { version: changes.version, recovered });
        self.seen = Some((changes.version, changes.mark.clone()));
        self.known.keep_changes(&self.store, changes).await
    }

    /// Reads all blocks, and puts them in force with those that the store has lost.
    async fn read_all(&mut self, settles: Duration) -> Result<(), StoreError> {
        let now = self.clock.now();
        let Complete { found, forgotten, done } =
            self.known.complete(&self.store, settles, now).await?;
        let recovered = self.store.count_recovered().await? + forgotten.len();
        self.publisher.publish(list(&found, &forgotten));
        let version = found.version;
        self.seen = done.then_some((found.version, found.mark));
        self.is_in_force(InForce { version, recovered });
        Ok(())
    }

    /// Requests that began after the publication were checked against the new list; requests in
    /// flight are checked now.
    fn is_in_force(&self, in_force: InForce) {
        self.publisher.reader().peek(|list| (self.on_list)(list, in_force));
    }
}

/// Builds the list from the store's blocks and those that it has lost.
fn list(found: &CurrentBlocks, forgotten: &[Block]) -> Blocklist {
    let all = found.blocks.iter().chain(forgotten).map(Block::as_blocking);
    Blocklist::of(all)
}
