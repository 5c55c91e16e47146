//! What was blocked on this machine last, kept beside the store: what tells that the store is an older
//! copy, and whom that would let in again.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::blocks::told;
use super::store::{Blocks, FoundIn, Lost, Store, StoreError};
use crate::secret::{read_bounded, write_private};
use crate::token::Block;

/// How long a store has to stay as it is before what it has forgotten is written into it: a copy may
/// still be on its way into the database.
pub(in crate::site) const RESTORE_SETTLES: Duration = Duration::from_secs(3);

/// The largest file, in bytes: more than two million blocks.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What was in force here last.
pub(super) struct Known {
    path: PathBuf,
    held: Option<Held>,
    /// Which version of another store was found here, and since when.
    other: Option<(i64, Instant)>,
    /// Whether somebody has been told that the store takes nothing.
    told: bool,
}

/// A state of the blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    version: i64,
    mark: String,
    blocks: Vec<Block>,
    /// The gateways that were revoked.
    #[serde(default)]
    gone: Vec<String>,
}

/// What a look at the store has found.
pub(super) struct Complete {
    /// The blocks of the store.
    pub found: Blocks,
    /// What it has forgotten and could not be told.
    pub forgotten: Vec<Block>,
    /// Whether there is nothing to be done any more.
    pub done: bool,
}

impl Known {
    /// What the file has; nothing before the first time. A file that cannot be read is put aside.
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
                    "it is not known what was blocked here last: if the store is an older copy, that \
                     is not noticed");
                None
            }
        };
        Known { path, held, other: None, told: false }
    }

    /// The blocks of the store, with those that it has forgotten: written into it, so that everybody
    /// who follows it has them. Where it takes nothing they are in force here alone, and it has to be
    /// tried again.
    ///
    /// # Errors
    /// What the database answers; then nobody knows who is blocked.
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
                "the store is not the one whose blocks were in force here, but an older copy or \
                 another one: what it does not block stays blocked until 'sitegate site restored \
                 --forget'");
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
                        "what the store has forgotten cannot be written into it; it is blocked here \
                         alone, and nothing is told to gateways");
                }
                Ok(Complete { found, forgotten, done: false })
            }
        }
    }

    /// What was in force here, if this store has never been in that state.
    async fn of_another_store(&self, store: &Store) -> Result<Option<Held>, StoreError> {
        let Some(held) = &self.held else { return Ok(None) };
        match store.remembers_blocks(held.version, &held.mark).await? {
            true => Ok(None),
            false => Ok(Some(held.clone())),
        }
    }

    /// The store has all that is known; remember what is in force now.
    async fn completed(&mut self, store: &Store, found: Blocks) -> Result<Complete, StoreError> {
        store.set_incomplete(false);
        (self.other, self.told) = (None, false);
        let same = |held: &Held| held.version == found.version && held.mark == found.mark;
        if !self.held.as_ref().is_some_and(same) {
            self.keep(Held {
                version: found.version,
                mark: found.mark.clone(),
                blocks: found.entries.iter().flat_map(told).collect(),
                gone: store.revoked_gateways().await?,
            });
        }
        Ok(Complete { found, forgotten: Vec::new(), done: true })
    }

    fn keep(&mut self, held: Held) {
        let written = serde_json::to_vec(&held).map_err(io::Error::other);
        let written = written.and_then(|bytes| write_private(&self.path, &bytes));
        if let Err(error) = written {
            tracing::warn!(target: "sitegate::store", %error, path = %self.path.display(),
                "what is blocked was not kept: after a restart an older copy of the store would not \
                 be noticed");
        }
        self.held = Some(held);
    }
}

/// What is in one list and is not blocked by the store.
pub(in crate::site) fn missing(blocks: &[Block], found: &Blocks) -> Vec<Block> {
    let present: BTreeSet<Block> = found.entries.iter().flat_map(told).collect();
    let is_present = |block: &Block| {
        let Block::IssuedBefore { issuer, before } = block else { return present.contains(block) };
        present.iter().any(|other| {
            matches!(other, Block::IssuedBefore { issuer: of, before: at } if of == issuer && at >= before)
        })
    };
    blocks.iter().filter(|block| !is_present(block)).cloned().collect()
}
