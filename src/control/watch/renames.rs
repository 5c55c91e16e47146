//! Files that were renamed into place and not written since: they are complete without waiting.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{ModifyKind, RenameMode};
use notify::{Event, EventKind};

/// Beyond this many names all are forgotten: those files then have to settle.
const NAMES_MAX: usize = 4096;
/// Longer chains of symbolic links are not followed (as in POSIX, where eight are enough).
const LINKS_MAX: usize = 8;

/// The names in watched directories that were renamed to.
#[derive(Clone, Default)]
pub struct Renames(Arc<Mutex<Noted>>);

#[derive(Default)]
struct Noted {
    /// How many renames there have been.
    count: u64,
    /// The number of the rename, by name.
    names: HashMap<PathBuf, u64>,
}

impl Renames {
    /// How many renames there have been so far.
    pub fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    /// Whether the target of a path was renamed into place after the first `count` renames and not
    /// written since under that name: the file, a directory above it, or a link on the path to it.
    pub fn has_since(&self, count: u64, path: &Path) -> bool {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = |name: &Path| noted.names.get(name).is_some_and(|number| *number > count);
        let mut path = super::absolute(path.to_owned());
        for _ in 0..LINKS_MAX {
            if path.ancestors().any(is_new) {
                return true;
            }
            let Ok(target) = fs::read_link(&path) else { return false };
            path = path.parent().unwrap_or(Path::new("/")).join(target);
        }
        false
    }

    /// Records an event.
    pub(in crate::control) fn note(&self, event: &notify::Result<Event>) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(event) = event else { return noted.names.clear() };
        if event.need_rescan() || noted.names.len() > NAMES_MAX {
            noted.names.clear();
        }
        let renamed = match event.kind {
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => event.paths.first(),
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => event.paths.get(1),
            EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => return,
            _ => None,
        };
        for path in &event.paths {
            noted.names.remove(path);
        }
        if let Some(path) = renamed {
            noted.count += 1;
            let count = noted.count;
            noted.names.insert(path.clone(), count);
        }
    }
}
