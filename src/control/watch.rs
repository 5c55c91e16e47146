//! Watches directories, existing or not, for changes (inotify, with polling as a fallback).
//!
//! Owns the only use of notify. Reports only that something may have changed, and names that were
//! renamed to: events are lost, doubled and late, so callers compare the contents.

mod renames;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::Instant;

pub use renames::Renames;

use crate::os::{self, FileIdentity, FileStamp, has_other_names, identity, stamp};

/// Watched directories. A file is watched through its directory: a watch on a file ends when the
/// file is replaced.
pub struct Watch {
    directories: Arc<[PathBuf]>,
    meant: Option<Meant>,
    /// For each directory, whether any name in it may lead to a watched file.
    links: Links,
    /// Each directory's state at its last scan: an unchanged one is not listed again.
    looked: Vec<Option<FileStamp>>,
    poll: Duration,
    changed: Arc<Notify>,
    renames: Renames,
    /// The hash of the directories' contents at the last comparison.
    lies: u64,
    /// The time of the next comparison, and of the next unconditional wake-up.
    next: (Instant, Instant),
    armed: Vec<Armed>,
    /// Ends its thread when dropped.
    watcher: Option<RecommendedWatcher>,
    told_polling: bool,
}

/// Whether an entry of a watched directory is relevant.
type Meant = Arc<dyn Fn(&Path) -> bool + Send + Sync>;
/// Whether each directory holds links, in the order of the directories.
type Links = Arc<[AtomicBool]>;
/// The filter, and which directories hold links.
type Only = (Meant, Links);

/// A directory when its watch was set.
type Armed = (PathBuf, FileIdentity);

/// How often sizes and times are compared: a write through another name of a file, through another
/// mount, behind a link or on a network file system causes no event.
const COMPARE: Duration = Duration::from_secs(1);
/// The polling interval if the system grants no events.
const POLL_WITHOUT_EVENTS: Duration = Duration::from_secs(5);
/// In a directory with more entries than this, every event counts: filtering would cost more than
/// checking.
const ENTRIES_MAX: usize = 256;

impl Watch {
    /// Watches directories, and wakes up every `poll` besides (network file systems give no
    /// events). A directory that does not exist is awaited, one that is replaced is followed.
    pub fn new(directories: impl IntoIterator<Item = PathBuf>, poll: Duration) -> Self {
        let directories: Arc<[PathBuf]> = directories.into_iter().map(absolute).collect();
        let mut watch = Watch {
            links: directories.iter().map(|_| AtomicBool::default()).collect(),
            looked: vec![None; directories.len()],
            directories,
            meant: None,
            poll,
            changed: Arc::default(),
            renames: Renames::default(),
            lies: 0,
            next: (Instant::now(), Instant::now() + poll),
            armed: Vec::new(),
            watcher: None,
            told_polling: false,
        };
        watch.rearm();
        watch.lies = watch.compared();
        watch
    }

    /// Reports only changes of entries for which `meant` is true, by their absolute path: a file
    /// that is written under a temporary name causes no wake-up before its rename. In a directory
    /// that holds links, or a file with several hard links, any name may lead to a relevant file,
    /// so every event counts. Writes through a name elsewhere are found by the periodic comparison.
    pub fn only(mut self, meant: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
        self.meant = Some(Arc::new(meant));
        self.watcher = None;
        self.rearm();
        self.lies = self.compared();
        self
    }

    /// The names in these directories that were renamed to.
    pub fn renames(&self) -> Renames {
        self.renames.clone()
    }

    /// Waits for a possible change. Cancel-safe: an event that came between two waits ends the next
    /// one at once.
    pub async fn changed(&mut self) {
        self.rearm();
        loop {
            let (compare, look) = self.next;
            let event = tokio::time::timeout_at(compare.min(look), self.changed.notified()).await;
            let now = Instant::now();
            let lies = self.compared();
            self.next.0 = now + COMPARE;
            let has_changed = std::mem::replace(&mut self.lies, lies) != lies;
            if event.is_ok() || has_changed || now >= look {
                break;
            }
        }
        self.rearm();
        let poll = match self.watcher {
            Some(_) => self.poll,
            None => self.poll.min(POLL_WITHOUT_EVENTS),
        };
        self.next.1 = Instant::now() + poll;
    }

    /// A hash of the directories' contents.
    fn compared(&self) -> u64 {
        let number = |of: &dyn Fn(&mut DefaultHasher)| {
            let mut hasher = DefaultHasher::new();
            of(&mut hasher);
            hasher.finish()
        };
        let of_path = |path: &Path| number(&|hasher| (path, edition(path)).hash(hasher));
        let is_worth = |path: &Path| {
            let is_link = || fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
            self.meant.as_ref().is_none_or(|meant| meant(path)) || is_link()
        };
        // Of the directory itself only its identity counts: an irrelevant file changes its time.
        let of_place = |dir: &Path| {
            number(&|hasher| {
                (dir, edition(dir).map(FileStamp::identity)).hash(hasher);
            })
        };
        let of_directory = |dir: &PathBuf| {
            let entries = fs::read_dir(dir).into_iter().flatten().take(ENTRIES_MAX);
            let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
            // A sum, since entries come in any order.
            paths
                .filter(|path| is_worth(path))
                .fold(of_place(dir), |sum, path| sum.wrapping_add(of_path(&path)))
        };
        self.directories.iter().map(of_directory).fold(0, u64::wrapping_add)
    }

    /// Whether the system delivers events; otherwise there is only polling.
    pub fn has_events(&self) -> bool {
        self.watcher.is_some()
    }

    /// Sets the watches anew if the directories were replaced. Changes in between are not lost:
    /// callers check the files after this.
    fn rearm(&mut self) {
        if let Some(meant) = &self.meant {
            let of_each = self.directories.iter().zip(self.links.iter()).zip(&mut self.looked);
            for ((dir, links), looked) in of_each {
                let now = edition(dir);
                // A change at the same moment as the scan causes its own event.
                if now.is_none() || std::mem::replace(looked, now) != now {
                    links.store(has_links(dir, meant), Ordering::Relaxed);
                }
            }
        }
        // Again after arming: a directory may have appeared while its parent was not watched yet.
        for _ in 0..3 {
            let wanted: Vec<Armed> = self.directories.iter().flat_map(|dir| places(dir)).collect();
            if self.watcher.is_some() && wanted == self.armed {
                return;
            }
            if self.watcher.is_some() {
                // The directories changed under the old watches, so the files may have changed too.
                self.changed.notify_one();
            }
            self.watcher = self.arm(&wanted);
            self.armed = wanted;
            if self.watcher.is_none() {
                return;
            }
        }
    }

    fn arm(&mut self, wanted: &[Armed]) -> Option<RecommendedWatcher> {
        let (changed, directories) = (self.changed.clone(), self.directories.clone());
        let renames = self.renames.clone();
        let only = self.meant.clone().map(|meant| (meant, self.links.clone()));
        let tell = move |event: notify::Result<Event>| {
            renames.note(&event);
            if concerns(&directories, only.as_ref(), &event) {
                changed.notify_one();
            }
        };
        let armed = notify::recommended_watcher(tell).and_then(|mut watcher| {
            for (path, _) in wanted {
                watcher.watch(path, RecursiveMode::NonRecursive)?;
            }
            Ok(watcher)
        });
        match armed {
            Ok(watcher) => {
                self.told_polling = false;
                Some(watcher)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told_polling, true) {
                    tracing::warn!(target: "sitegate::watch", %error, hint = hint(&error),
                        "inotify does not work here; polling every few seconds instead");
                }
                None
            }
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("directories", &self.directories).finish_non_exhaustive()
    }
}

/// The hint for an operator whose system delivers no events.
fn hint(error: &notify::Error) -> &'static str {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => "raise fs.inotify.max_user_watches",
        notify::ErrorKind::Io(error) if os::is_out_of_watches(error) => {
            "raise fs.inotify.max_user_instances, or LimitNOFILE"
        }
        notify::ErrorKind::PathNotFound => "the folder is not there",
        _ => "none",
    }
}

/// The metadata that changes with a directory's entries or a file's contents.
fn edition(path: &Path) -> Option<FileStamp> {
    stamp(path).map(FileStamp::of_contents)
}

/// Event paths are the watched path with a name appended, so both sides must be absolute. The
/// parent of a bare file name is empty, and means the current directory.
pub(super) fn absolute(path: PathBuf) -> PathBuf {
    let path = if path.as_os_str().is_empty() { PathBuf::from(".") } else { path };
    std::path::absolute(&path).unwrap_or(path)
}

/// The paths to watch for a directory: itself and its parent, in which it may be replaced; while it
/// does not exist, its nearest existing ancestor.
fn places(dir: &Path) -> Vec<Armed> {
    let identify = |path: &Path| {
        let meta = fs::metadata(path).ok().filter(fs::Metadata::is_dir)?;
        Some((path.to_owned(), identity(&meta)))
    };
    let mut above = dir.ancestors().skip(1).filter_map(identify);
    identify(dir).into_iter().chain(above.next()).collect()
}

/// Whether an event is relevant: every event without a path (an overflow, an error), and every
/// change on the path to a directory or within it. Reads are ignored: our own would never end.
fn concerns(directories: &[PathBuf], only: Option<&Only>, event: &notify::Result<Event>) -> bool {
    let Ok(event) = event else { return true };
    let read = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    };
    let near = |path: &PathBuf| {
        directories.iter().enumerate().any(|(n, dir)| {
            dir.starts_with(path) || (path.starts_with(dir) && is_meant(n, dir, path, only))
        })
    };
    event.need_rescan() || (!read && (event.paths.is_empty() || event.paths.iter().any(near)))
}

/// Whether a change of a directory entry may concern a relevant file.
fn is_meant(n: usize, dir: &Path, path: &Path, only: Option<&Only>) -> bool {
    let Some((meant, links)) = only.filter(|_| path.parent() == Some(dir)) else { return true };
    let Some(links) = links.get(n) else { return true };
    if fs::symlink_metadata(path).is_ok_and(|found| has_other_names(&found)) {
        links.store(true, Ordering::Relaxed);
    }
    links.load(Ordering::Relaxed) || meant(path)
}

/// Whether a directory holds a link or a second hard link of a relevant file, or so many entries
/// that searching for one costs more than checking the files.
fn has_links(dir: &Path, meant: &Meant) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    entries.enumerate().any(|(n, entry)| {
        let Ok(entry) = entry else { return false };
        let has_names =
            || meant(&entry.path()) && entry.metadata().is_ok_and(|found| has_other_names(&found));
        n >= ENTRIES_MAX || entry.file_type().is_ok_and(|kind| kind.is_symlink()) || has_names()
    })
}

#[cfg(test)]
mod tests;
