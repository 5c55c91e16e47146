//! The blocks that were in force on this machine last, kept beside the store: what tells that the
//! store is an older copy, and which blocks that would unblock.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::blocks::told;
use super::store::{Blocks, FoundIn, Store, StoreError};
use crate::secret::{read_bounded, write_private};
use crate::token::{BUNDLE_BYTES_MAX, Block};

/// How long a store has to stay as it is before what it has forgotten is written into it: a copy may
/// still be on its way into the database.
pub(in crate::site) const RESTORE_SETTLES: Duration = Duration::from_secs(3);

/// What was in force here last.
pub(super) struct Known {
    path: PathBuf,
    held: Option<Held>,
    /// Which version of another store was found here, and since when.
    other: Option<(i64, Instant)>,
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

/// A state of the blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    version: i64,
    mark: String,
    blocks: Vec<Block>,
}

impl Known {
    /// What the file has; nothing before the first time.
    pub(super) fn open(path: PathBuf) -> Self {
        let held = match read_bounded(&path, BUNDLE_BYTES_MAX as u64) {
            Ok((bytes, _)) => serde_json::from_slice(&bytes)
                .inspect_err(|error| {
                    tracing::error!(target: "sitegate::store", %error, path = %path.display(),
                        "it is not known which blocks were in force here: a copy of the store that \
                         is older would not be noticed");
                })
                .ok(),
            Err(_) => None,
        };
        Known { path, held, other: None }
    }

    /// Which blocks this store has forgotten, if it is not the one whose blocks were in force here.
    ///
    /// # Errors
    /// What the database answers.
    async fn forgotten(
        &self,
        store: &Store,
        found: &Blocks,
    ) -> Result<Option<(i64, Vec<Block>)>, StoreError> {
        let Some(held) = &self.held else { return Ok(None) };
        if store.remembers_blocks(held.version, &held.mark).await? {
            return Ok(None);
        }
        Ok(Some((held.version, missing(&held.blocks, found))))
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
        let Some((version, forgotten)) = self.forgotten(store, &found).await? else {
            self.keep(&found);
            self.other = None;
            return Ok(Complete { found, forgotten: Vec::new(), done: true });
        };
        let since = match self.other {
            Some((version, since)) if version == found.version => since,
            _ => Instant::now(),
        };
        self.other = Some((found.version, since));
        if since.elapsed() < settles {
            return Ok(Complete { found, forgotten, done: false });
        }
        tracing::error!(target: "sitegate::store", forgotten = forgotten.len(),
            "the store is not the one whose blocks were in force here, but an older copy or another \
             one: what it does not block stays blocked until 'sitegate site restored --forget'");
        match store.recover(&forgotten, FoundIn::Blocks(version), now).await {
            Ok(_) => {
                let found = store.blocks().await?;
                self.keep(&found);
                self.other = None;
                Ok(Complete { found, forgotten: Vec::new(), done: true })
            }
            Err(error) => {
                tracing::error!(target: "sitegate::store", %error,
                    "what the store has forgotten cannot be written into it; it is blocked here alone");
                Ok(Complete { found, forgotten, done: false })
            }
        }
    }

    /// Remember what is in force now.
    fn keep(&mut self, found: &Blocks) {
        let same = |held: &Held| held.version == found.version && held.mark == found.mark;
        if self.held.as_ref().is_some_and(same) {
            return;
        }
        let held = Held {
            version: found.version,
            mark: found.mark.clone(),
            blocks: found.entries.iter().flat_map(told).collect(),
        };
        let written = serde_json::to_vec(&held).map_err(std::io::Error::other);
        let written = written.and_then(|bytes| write_private(&self.path, &bytes));
        if let Err(error) = written {
            tracing::warn!(target: "sitegate::store", %error, path = %self.path.display(),
                "which blocks are in force was not kept: after a restart an older copy of the store \
                 would not be noticed");
        }
        self.held = Some(held);
    }
}

/// What is in one list and is not blocked by the store.
pub(in crate::site) fn missing(blocks: &[Block], found: &Blocks) -> Vec<Block> {
    let present: BTreeSet<Block> = found.entries.iter().flat_map(told).collect();
    let is_missing = |block: &&Block| {
        match block {
        Block::IssuedBefore { issuer, before } => !present.iter().any(|other| {
            matches!(other, Block::IssuedBefore { issuer: i, before: b } if i == issuer && b >= before)
        }),
        other => !present.contains(*other),
    }
    };
    blocks.iter().filter(is_missing).cloned().collect()
}
