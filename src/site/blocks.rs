//! What the store blocks, as requests are judged by it: published anew whenever it changes, by
//! whomever.
//!
//! A store that does not answer unblocks nobody: the last list stays in force.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::known::{Complete, Known, RESTORE_SETTLES};
use super::store::{
    BlockEntry, BlockedOwned, Blocks as Found, Follower, RECOVERED_BY, Store, StoreError,
};
use crate::clock::Clock;
use crate::live::{Live, Publisher, live};
use crate::token::{Block, Blocklist};

/// How often the store is looked at besides.
const LOOK: Duration = Duration::from_secs(30);

/// How soon the store is looked at again where something is left to do.
const AGAIN: Duration = Duration::from_secs(1);

/// Told of every new list, once it is in force.
pub type OnBlocks = Arc<dyn Fn(&Blocklist, InForce) + Send + Sync>;

/// What of the store's blocks is in force in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// The version of the store's blocks.
    pub version: i64,
    /// How many only stand because a restored copy has forgotten them.
    pub recovered: usize,
}

/// What a process remembers of its store's blocks, in the state directory.
const KNOWN: &str = "blocks-known.json";

/// The task that follows the store's blocks.
pub struct Blocks {
    store: Store,
    follower: Follower,
    known: Known,
    clock: Clock,
    /// The store's version; nothing where the last look has left something to do.
    seen: Option<i64>,
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
        state: &Path,
        clock: Clock,
        on_list: OnBlocks,
    ) -> Result<(Self, Live<Blocklist>), StoreError> {
        // Before the first look, so that no change falls between the two.
        let follower = store.follow();
        let mut known = Known::open(state.join(KNOWN));
        let Complete { found, forgotten, done } =
            known.complete(&store, Duration::ZERO, clock.now()).await?;
        let list = list(&found, &forgotten);
        on_list(&list, in_force(&found, &forgotten));
        let (publisher, reader) = live(list);
        let seen = done.then_some(found.version);
        let blocks = Blocks { store, follower, known, clock, seen, publisher, on_list };
        Ok((blocks, reader))
    }

    /// Follow the store until told to stop.
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
                            "blocks were not read, those before stay in force");
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
        // What began after the list was published was judged by it; what was under way is judged
        // now.
        let in_force = in_force(&found, &forgotten);
        self.publisher.reader().peek(|list| (self.on_list)(list, in_force));
        Ok(())
    }
}

fn in_force(found: &Found, forgotten: &[Block]) -> InForce {
    let recovered = found.entries.iter().filter(|entry| entry.actor == RECOVERED_BY).count();
    InForce { version: found.version, recovered: recovered + forgotten.len() }
}

/// The list of what is blocked in the store, and of what it has forgotten.
fn list(found: &Found, forgotten: &[Block]) -> Blocklist {
    let told: Vec<Block> = found.entries.iter().flat_map(told).collect();
    let all = told.iter().chain(forgotten).map(Block::as_blocking);
    Blocklist::of(all)
}

/// A block as gateways know it, with all that the device is known by to them.
pub(in crate::site) fn told(entry: &BlockEntry) -> Vec<Block> {
    let mut all = vec![match &entry.what {
        BlockedOwned::Token { issuer, id } => {
            Block::Token { issuer: issuer.clone(), id: id.clone() }
        }
        BlockedOwned::Device(id) => Block::Device(id.clone()),
        BlockedOwned::User { id, .. } => Block::User(id.clone()),
        BlockedOwned::IssuedBefore { issuer, before } => {
            Block::IssuedBefore { issuer: issuer.clone(), before: before.as_second() }
        }
    }];
    for covered in &entry.covers {
        // Keys and certificates are for a site server that has lost its record of the device.
        let known_by = covered.keys.iter().chain(&covered.certificates);
        for name in std::iter::once(&covered.device).chain(&covered.entra).chain(known_by) {
            let block = Block::Device(name.clone());
            if !all.contains(&block) {
                all.push(block);
            }
        }
    }
    all
}
