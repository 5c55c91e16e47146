//! The local record of the blocks last in force, kept beside the store. Detects a store that was
//! restored from an older copy, and the blocks that it has lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::store::{BlockChanges, CurrentBlocks, FoundIn, Lost, Store, StoreError};
use crate::line_file::{append_line, whole_lines};
use crate::secret::{read_bounded, write_private};
use crate::token::Block;

/// How long a restored store must stay unchanged before lost blocks are written into it: the
/// restore may still be in progress.
pub(in crate::site) const RESTORE_SETTLES: Duration = Duration::from_secs(3);

/// The largest file, in bytes: more than two million blocks.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How many bytes of changes are appended at least before the file is written anew.
const APPENDED_MIN: u64 = 1024 * 1024;

/// The last state in force on this machine.
pub(super) struct KnownBlocks {
    path: PathBuf,
    /// The version and the mark of the state in the file.
    held: Option<(i64, String)>,
    /// The revoked gateways in the file.
    gone: Vec<String>,
    /// The length of the file's first line, and that of the file.
    lengths: (u64, u64),
    /// The version of another store that was found here, and the time of the first look.
    other: Option<(i64, Instant)>,
    /// Whether the failed write to the store has been logged.
    told: bool,
}

/// A state of the blocks: the first line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct HeldBlocks {
    version: i64,
    mark: String,
    blocks: Vec<Block>,
    /// The revoked gateways.
    #[serde(default)]
    gone: Vec<String>,
}

/// What has changed since the state of the line before: one of the further lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct HeldChange {
    version: i64,
    mark: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    removed: Vec<Block>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    added: Vec<Block>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gone: Option<Vec<String>>,
}

/// A line of the file without its blocks.
#[derive(Deserialize)]
struct HeldState {
    version: i64,
    mark: String,
    #[serde(default)]
    gone: Option<Vec<String>>,
}

/// The first line; a file of one line may have no line end.
fn first_line(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == b'\n').next().unwrap_or_default()
}

/// The result of a comparison with the store.
pub(super) struct Complete {
    /// The blocks of the store.
    pub found: CurrentBlocks,
    /// The blocks that it has lost and that could not be written back.
    pub forgotten: Vec<Block>,
    /// Whether nothing is left to do.
    pub done: bool,
}

impl HeldBlocks {
    /// The state that the lines of a file lead to.
    fn read(bytes: &[u8]) -> io::Result<Self> {
        let mut held: HeldBlocks = serde_json::from_slice(first_line(bytes))?;
        let mut blocks = BTreeMap::new();
        insert(&mut blocks, held.blocks);
        for line in whole_lines(bytes).skip(1) {
            let change: HeldChange = serde_json::from_slice(line)?;
            for block in change.removed {
                blocks.remove(&block.key());
            }
            insert(&mut blocks, change.added);
            (held.version, held.mark) = (change.version, change.mark);
            held.gone = change.gone.unwrap_or(held.gone);
        }
        Ok(HeldBlocks { blocks: blocks.into_values().collect(), ..held })
    }
}

fn insert(into: &mut BTreeMap<Block, Block>, blocks: Vec<Block>) {
    into.extend(blocks.into_iter().map(Block::normal).map(|block| (block.key(), block)));
}

impl KnownBlocks {
    /// Reads the file; empty before the first time. An unreadable file is renamed.
    pub(super) fn open(path: PathBuf) -> Self {
        let mut known = KnownBlocks {
            path,
            held: None,
            gone: Vec::new(),
            lengths: (0, 0),
            other: None,
            told: false,
        };
        match known.look() {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                let aside = known.path.with_extension("unreadable");
                let _ = std::fs::rename(&known.path, &aside);
                tracing::error!(target: "sitegate::store", %error, aside = %aside.display(),
                    "the record of the blocks last in force here is missing: an older copy of the \
                     store would not be noticed");
            }
        }
        known
    }

    /// Reads which state is in the file, without its blocks.
    fn look(&mut self) -> io::Result<()> {
        let (bytes, _) = read_bounded(&self.path, FILE_BYTES_MAX)?;
        let first = first_line(&bytes);
        let mut state: HeldState = serde_json::from_slice(first)?;
        let mut gone = state.gone.take().unwrap_or_default();
        let len = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or_default();
        let mut whole = len(first) + 1;
        for line in whole_lines(&bytes).skip(1) {
            state = serde_json::from_slice(line)?;
            gone = state.gone.take().unwrap_or(gone);
            whole += len(line) + 1;
        }
        self.held = Some((state.version, state.mark));
        self.gone = gone;
        // A file that does not end with a line is written anew.
        self.lengths = if len(&bytes) == whole { (len(first) + 1, whole) } else { (0, 0) };
        Ok(())
    }

    fn read(&self) -> io::Result<HeldBlocks> {
        let (bytes, _) = read_bounded(&self.path, FILE_BYTES_MAX)?;
        HeldBlocks::read(&bytes)
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
        let found = store.current_blocks().await?;
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
                let found = store.current_blocks().await?;
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
        let Some((version, mark)) = &self.held else { return Ok(None) };
        if store.remembers_blocks(*version, mark).await? {
            return Ok(None);
        }
        let read = self.read();
        if let Err(error) = &read {
            tracing::error!(target: "sitegate::store", %error, path = %self.path.display(),
                "the store is an older copy, and the blocks last in force here cannot be read");
        }
        Ok(read.ok())
    }

    /// The store is complete; records the state that is in force now.
    async fn completed(
        &mut self,
        store: &Store,
        found: CurrentBlocks,
    ) -> Result<Complete, StoreError> {
        store.set_incomplete(false);
        (self.other, self.told) = (None, false);
        let same = |held: &(i64, String)| *held == (found.version, found.mark.clone());
        if !self.held.as_ref().is_some_and(same) || self.lengths == (0, 0) {
            let gone = store.revoked_gateways().await?;
            self.keep(&found, gone);
        }
        Ok(Complete { found, forgotten: Vec::new(), done: true })
    }

    /// Records a whole state.
    fn keep(&mut self, found: &CurrentBlocks, gone: Vec<String>) {
        let CurrentBlocks { version, mark, blocks } = found.clone();
        let held = HeldBlocks { version, mark, blocks, gone };
        let written = serde_json::to_vec(&held).map_err(io::Error::other).and_then(|mut bytes| {
            bytes.push(b'\n');
            write_private(&self.path, &bytes).map(|()| bytes.len())
        });
        self.lengths = match &written {
            Ok(len) => {
                (u64::try_from(*len).unwrap_or_default(), u64::try_from(*len).unwrap_or_default())
            }
            Err(_) => (0, 0),
        };
        self.report(written.map(drop));
        self.held = Some((held.version, held.mark));
        self.gone = held.gone;
    }

    /// Records what has changed since the recorded state.
    ///
    /// # Errors
    /// The database's error; the state before is then recorded still.
    pub(super) async fn keep_changes(
        &mut self,
        store: &Store,
        changes: BlockChanges,
    ) -> Result<(), StoreError> {
        let gone = if changes.is_more_than_blocks {
            store.revoked_gateways().await?
        } else {
            self.gone.clone()
        };
        let (first, len) = self.lengths;
        if len == 0 || len - first > APPENDED_MIN.max(first / 2) {
            let found = store.current_blocks().await?;
            self.keep(&found, gone);
            return Ok(());
        }
        let BlockChanges { version, mark, removed, added, .. } = changes;
        let is_changed = gone != self.gone;
        let gone_now = is_changed.then(|| gone.clone());
        let line = HeldChange { version, mark, removed, added, gone: gone_now };
        let appended = serde_json::to_vec(&line).map_err(io::Error::other);
        let appended = appended.and_then(|line| append_line(&self.path, &line));
        match appended {
            Ok(len) => {
                self.lengths.1 = len;
                self.held = Some((line.version, line.mark));
                self.gone = gone;
            }
            Err(error) => {
                // The next change writes the file anew: it must not lack this one.
                self.lengths = (0, 0);
                self.report(Err(error));
            }
        }
        Ok(())
    }

    fn report(&self, written: io::Result<()>) {
        if let Err(error) = written {
            tracing::warn!(target: "sitegate::store", %error, path = %self.path.display(),
                "the record of blocks in force was not saved: after a restart an older copy of the \
                 store would not be noticed");
        }
    }
}

/// The blocks of a list that are missing in the store.
pub(in crate::site) fn missing(blocks: &[Block], found: &CurrentBlocks) -> Vec<Block> {
    let present: BTreeSet<&Block> = found.blocks.iter().collect();
    let is_present = |block: &Block| {
        let Block::IssuedBefore { issuer, before } = block else { return present.contains(block) };
        present.iter().any(|other| {
            matches!(other, Block::IssuedBefore { issuer: of, before: at } if of == issuer && at >= before)
        })
    };
    // Documents of earlier versions name devices in other spellings.
    let blocks = blocks.iter().cloned().map(Block::normal);
    blocks.filter(|block| !is_present(block)).collect()
}
