//! The local record of the blocks last in force, kept beside the store. Detects a store that was
//! restored from an older copy, and the blocks that it has lost.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::store::{BlockEntry, BlockedOwned, FoundIn, Lost, Store, StoreError, StoredBlocks};
use crate::secret::{read_bounded, write_private};
use crate::token::Block;

/// How long a restored store must stay unchanged before lost blocks are written into it: the
/// restore may still be in progress.
pub(in crate::site) const RESTORE_SETTLES: Duration = Duration::from_secs(3);

/// The largest file, in bytes: more than two million blocks.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The last state in force on this machine.
pub(super) struct KnownBlocks {
    path: PathBuf,
    held: Option<HeldBlocks>,
    /// The version of another store that was found here, and the time of the first look.
    other: Option<(i64, Instant)>,
    /// Whether the failed write to the store has been logged.
    told: bool,
}

/// A state of the blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct HeldBlocks {
    version: i64,
    mark: String,
    blocks: Vec<Block>,
    /// The revoked gateways.
    #[serde(default)]
    gone: Vec<String>,
}

/// The result of a comparison with the store.
pub(super) struct Complete {
    /// The blocks of the store.
    pub found: StoredBlocks,
    /// The blocks that it has lost and that could not be written back.
    pub forgotten: Vec<Block>,
    /// Whether nothing is left to do.
    pub done: bool,
}

impl KnownBlocks {
    /// Reads the file; empty before the first time. An unreadable file is renamed.
    pub(super) fn open(path: PathBuf) -> Self {
        let read = read_bounded(&path, FILE_BYTES_MAX)
            .and_then(|(bytes, _)| serde_json::from_slice(&bytes).map_err(io::Error::other));
        let held = match read {
            Ok(held) => Some(held),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                let aside = path.with_extension("unreadable");
                let _ = std::fs::rename(&path, &aside);
                tracing::error!(target: "sitegate::store", %error, aside = %aside.display(),
                    "the record of the blocks last in force here is missing: an older copy of the \
                     store would not be noticed");
                None
            }
        };
        KnownBlocks { path, held, other: None, told: false }
    }

    /// Returns the blocks of the store and those that it has lost. Writes the lost ones back, so
    /// that all followers of the store get them. If the store is not writable, they are in force
    /// only in this process, and the caller must try again.
    ///
    /// # Errors
    /// The database's error; the blocks are then unknown.
    pub(super) async fn complete(
        &mut self,
        store: &Store,
        settles: Duration,
        now: Timestamp,
    ) -> Result<Complete, StoreError> {
        let found = store.blocks().await?;
        let Some(held) = self.of_another_store(store).await? else {
            return self.completed(store, found).await;
        };
        store.set_incomplete(true);
        let forgotten = missing(&held.blocks, &found);
        let (since, is_news) = match self.other {
            Some((version, since)) if version == found.version => (since, false),
            _ => (Instant::now(), true),
        };
        self.other = Some((found.version, since));
        if is_news {
            tracing::error!(target: "sitegate::store", forgotten = forgotten.len(),
                "the store is an older copy, or another store: blocks that it does not have stay \
                 in force here until 'sitegate site restored --forget'");
        }
        if since.elapsed() < settles {
            return Ok(Complete { found, forgotten, done: false });
        }
        let lost = Lost { blocks: &forgotten, gone: &held.gone };
        match store.recover(lost, FoundIn::Blocks(held.version), now).await {
            Ok(_) => {
                let found = store.blocks().await?;
                self.completed(store, found).await
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    tracing::error!(target: "sitegate::store", %error,
                        "the missing blocks cannot be written into the store; they are in force \
                         only here, and gateways do not receive them");
                }
                Ok(Complete { found, forgotten, done: false })
            }
        }
    }

    /// The last state in force here, if this store has never been in that state.
    async fn of_another_store(&self, store: &Store) -> Result<Option<HeldBlocks>, StoreError> {
        let Some(held) = &self.held else { return Ok(None) };
        if store.remembers_blocks(held.version, &held.mark).await? {
            Ok(None)
        } else {
            Ok(Some(held.clone()))
        }
    }

    /// The store is complete; records the state that is in force now.
    async fn completed(
        &mut self,
        store: &Store,
        found: StoredBlocks,
    ) -> Result<Complete, StoreError> {
        store.set_incomplete(false);
        (self.other, self.told) = (None, false);
        let same = |held: &HeldBlocks| held.version == found.version && held.mark == found.mark;
        if !self.held.as_ref().is_some_and(same) {
            self.keep(HeldBlocks {
                version: found.version,
                mark: found.mark.clone(),
                blocks: found.entries.iter().flat_map(blocks_of).collect(),
                gone: store.revoked_gateways().await?,
            });
        }
        Ok(Complete { found, forgotten: Vec::new(), done: true })
    }

    fn keep(&mut self, held: HeldBlocks) {
        let written = serde_json::to_vec(&held).map_err(io::Error::other);
        let written = written.and_then(|bytes| write_private(&self.path, &bytes));
        if let Err(error) = written {
            tracing::warn!(target: "sitegate::store", %error, path = %self.path.display(),
                "the record of blocks in force was not saved: after a restart an older copy of the \
                 store would not be noticed");
        }
        self.held = Some(held);
    }
}

/// The blocks of a list that are missing in the store.
pub(in crate::site) fn missing(blocks: &[Block], found: &StoredBlocks) -> Vec<Block> {
    let present: BTreeSet<Block> = found.entries.iter().flat_map(blocks_of).collect();
    let is_present = |block: &Block| {
        let Block::IssuedBefore { issuer, before } = block else { return present.contains(block) };
        present.iter().any(|other| {
            matches!(other, Block::IssuedBefore { issuer: of, before: at } if of == issuer && at >= before)
        })
    };
    blocks.iter().filter(|block| !is_present(block)).cloned().collect()
}

/// The blocks of an entry for gateways, with all ids by which they know the device.
pub(in crate::site) fn blocks_of(entry: &BlockEntry) -> Vec<Block> {
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
