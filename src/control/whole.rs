//! One watched file over time: when it is whole, and what it then holds.
//!
//! A file that is written in place is empty for a moment, then a part of itself, and what is cut may
//! well be read. It counts once it has not changed for a while; what was renamed into its place counts
//! at once.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::digest::{Digest, SHA256, digest};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::supply::SETTLE;
use super::watch::Renames;
use crate::secret::read_whole;

/// How often a file is looked at that may still be in the middle of being written.
const LOOK: Duration = Duration::from_millis(50);

/// What a look at a file has found.
#[derive(Debug)]
pub enum Found {
    /// What it held before.
    Same,
    /// Something else, or nothing, that may be a part: look again after [`WholeFile::pause`].
    Settling,
    /// Something else, all of it.
    Whole(Zeroizing<Vec<u8>>),
    /// It cannot be read, and has not been readable for a while.
    Unreadable(io::Error),
}

/// A file, and what of it was taken last.
pub struct WholeFile {
    path: PathBuf,
    len_max: u64,
    renames: Renames,
    /// The renames that there had been when it was last looked at.
    counted: u64,
    taken: Option<Digest>,
    settling: Option<Settling>,
}

/// A file that has changed, as it was when it was last looked at.
struct Settling {
    stamp: Option<Stamp>,
    since: Instant,
    /// That it cannot be read has been said.
    told: bool,
}

/// What of a file changes when it is written: device, inode, size, and the times of the last change
/// of its contents and of anything, in seconds and nanoseconds.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl WholeFile {
    /// A file that nobody has looked at. `renames` are those of the watch on its directory.
    pub fn new(path: PathBuf, len_max: u64, renames: Renames) -> Self {
        WholeFile { path, len_max, renames, counted: 0, taken: None, settling: None }
    }

    /// Count as taken what somebody else has read of it.
    pub fn has(mut self, bytes: &[u8]) -> Self {
        self.taken = Some(digest(&SHA256, bytes));
        self
    }

    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Take what is there, whole or not: at a start, or because somebody says so.
    ///
    /// # Errors
    /// What the file system answers, as [`read_whole`].
    pub fn take(&mut self) -> io::Result<Zeroizing<Vec<u8>>> {
        self.settling = None;
        self.counted = self.renames.count();
        let read = read_whole(&self.path, self.len_max).map(|(bytes, _)| bytes);
        self.taken = read.as_ref().ok().map(|bytes| digest(&SHA256, bytes));
        read
    }

    /// Look at it.
    pub fn look(&mut self) -> Found {
        let counted = self.renames.count();
        let is_renamed = self.renames.has_since(self.counted, &self.path);
        self.counted = counted;
        let stamp = self.stamp();
        let (is_still, is_over) = match &self.settling {
            Some(settling) => (settling.stamp == stamp, settling.since.elapsed() >= SETTLE),
            None => (false, false),
        };
        if is_still && !is_over && !is_renamed {
            return Found::Settling;
        }
        let read = read_whole(&self.path, self.len_max).map(|(bytes, _)| bytes);
        let found = read.as_ref().ok().map(|bytes| digest(&SHA256, bytes));
        if found.as_ref().map(Digest::as_ref) == self.taken.as_ref().map(Digest::as_ref)
            && found.is_some()
        {
            self.settling = None;
            return Found::Same;
        }
        // A rename makes nothing of an empty file: it may be one that is filled afterwards.
        let is_filled = read.as_ref().is_ok_and(|bytes| !bytes.trim_ascii().is_empty());
        if (is_still && is_over) || (is_renamed && is_filled && self.stamp() == stamp) {
            return match read {
                Ok(bytes) => {
                    (self.taken, self.settling) = (found, None);
                    Found::Whole(bytes)
                }
                Err(error) => {
                    // Whatever comes in its place is news, be it the same.
                    self.taken = None;
                    self.settling.iter_mut().for_each(|settling| settling.told = true);
                    Found::Unreadable(error)
                }
            };
        }
        if !is_still {
            self.settling = Some(Settling { stamp, since: Instant::now(), told: false });
        }
        Found::Settling
    }

    /// How long to wait until the next look, if something has to become whole.
    pub fn pause(&self) -> Option<Duration> {
        self.settling.as_ref().filter(|settling| !settling.told).map(|_| LOOK)
    }

    fn stamp(&self) -> Option<Stamp> {
        let found = std::fs::metadata(&self.path).ok()?;
        let changed = (found.mtime(), found.mtime_nsec());
        let touched = (found.ctime(), found.ctime_nsec());
        Some((found.dev(), found.ino(), found.len(), changed, touched))
    }
}

/// Wait as long as says one of these, or for ever.
pub async fn settle(pauses: impl IntoIterator<Item = Option<Duration>>) {
    match pauses.into_iter().flatten().min() {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
