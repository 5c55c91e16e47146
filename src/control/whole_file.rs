//! Reads a watched file once it is complete.
//!
//! A file that is written in place is first empty, then partial, and a truncated file may well
//! parse. So it counts only once it has not changed for a while; a file that was renamed into place
//! counts at once.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::digest::{Digest, SHA256, digest};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::watch::Renames;
use crate::os::{FileStamp, stamp};
use crate::secret::read_whole;

/// How long a file, or a pair of files, may take to be written. Until then the old one stays in use
/// without a log line, and the files are checked repeatedly: their last event may have come before
/// their last byte.
pub(super) const SETTLE: Duration = Duration::from_secs(2);
/// How often a certificate folder that may still be being written is checked.
pub(super) const SETTLE_LOOK: Duration = Duration::from_millis(20);

/// How often a file that may still be being written is checked.
const LOOK: Duration = Duration::from_millis(50);

/// The result of a check.
#[derive(Debug)]
pub enum FileState {
    /// The contents are unchanged.
    Same,
    /// The contents have changed or are gone, and may be incomplete: check again after
    /// [`WholeFile::pause`].
    Settling,
    /// The contents have changed, and are complete.
    Whole(Zeroizing<Vec<u8>>),
    /// The file has been unreadable for a while.
    Unreadable(io::Error),
}

/// A file, and the digest of its last accepted contents.
pub struct WholeFile {
    path: PathBuf,
    len_max: u64,
    renames: Renames,
    /// The number of renames at the last check.
    counted: u64,
    taken: Option<Digest>,
    settling: Option<Settling>,
}

/// The state of a changed file at the last check.
struct Settling {
    stamp: Option<FileStamp>,
    since: Instant,
    /// Whether the file was already reported as unreadable.
    told: bool,
}

impl WholeFile {
    /// A file that was not read yet. `renames` are those of the watch on its directory.
    pub fn new(path: PathBuf, len_max: u64, renames: Renames) -> Self {
        WholeFile { path, len_max, renames, counted: 0, taken: None, settling: None }
    }

    /// Records contents that the caller has read as accepted.
    pub fn has(mut self, bytes: &[u8]) -> Self {
        self.taken = Some(digest(&SHA256, bytes));
        self
    }

    /// Its path.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Reads the file at once, complete or not: at a start, or on request.
    ///
    /// # Errors
    /// The file system's error, as [`read_whole`].
    pub fn take(&mut self) -> io::Result<Zeroizing<Vec<u8>>> {
        self.settling = None;
        self.counted = self.renames.count();
        let read = read_whole(&self.path, self.len_max).map(|(bytes, _)| bytes);
        self.taken = read.as_ref().ok().map(|bytes| digest(&SHA256, bytes));
        read
    }

    /// Checks the file.
    pub fn look(&mut self) -> FileState {
        let counted = self.renames.count();
        let is_renamed = self.renames.has_since(self.counted, &self.path);
        self.counted = counted;
        let stamp_now = stamp(&self.path);
        let (is_still, is_over) = match &self.settling {
            Some(settling) => (settling.stamp == stamp_now, settling.since.elapsed() >= SETTLE),
            None => (false, false),
        };
        if is_still && !is_over && !is_renamed {
            return FileState::Settling;
        }
        let read = read_whole(&self.path, self.len_max).map(|(bytes, _)| bytes);
        let found = read.as_ref().ok().map(|bytes| digest(&SHA256, bytes));
        if found.as_ref().map(Digest::as_ref) == self.taken.as_ref().map(Digest::as_ref)
            && found.is_some()
        {
            self.settling = None;
            return FileState::Same;
        }
        // A rename does not make an empty file complete: it may be filled afterwards.
        let is_filled = read.as_ref().is_ok_and(|bytes| !bytes.trim_ascii().is_empty());
        if (is_still && is_over) || (is_renamed && is_filled && stamp(&self.path) == stamp_now) {
            return match read {
                Ok(bytes) => {
                    (self.taken, self.settling) = (found, None);
                    FileState::Whole(bytes)
                }
                Err(error) => {
                    // Any contents that replace it count as changed, even if they are the same.
                    self.taken = None;
                    self.settling.iter_mut().for_each(|settling| settling.told = true);
                    FileState::Unreadable(error)
                }
            };
        }
        if !is_still {
            self.settling = Some(Settling { stamp: stamp_now, since: Instant::now(), told: false });
        }
        FileState::Settling
    }

    /// The delay until the next check, if the file has yet to settle.
    pub fn pause(&self) -> Option<Duration> {
        self.settling.as_ref().filter(|settling| !settling.told).map(|_| LOOK)
    }
}

/// Waits for the shortest of these times, or forever if there is none.
pub async fn settle(pauses: impl IntoIterator<Item = Option<Duration>>) {
    match pauses.into_iter().flatten().min() {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
