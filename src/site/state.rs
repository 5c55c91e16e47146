//! The state directory: checks its site code, locks it for one process, and detects its removal.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::os::{Exposure, identity, open_for};
use crate::secret::{private_dir, read_bounded, remove_unfinished, write_public};

/// Locked by the process that uses the directory; holds its process id.
const LOCK: &str = "process.lock";
/// The site code of the directory.
const SITE: &str = "site-code";
const BYTES_MAX: u64 = 64;

/// Why a process cannot use a state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Two processes would overwrite each other's state.
    #[error("{}: another sitegate{holder} has this state directory", .path.display())]
    InUse {
        /// The state directory.
        path: PathBuf,
        /// Its process id in brackets, if it can be read.
        holder: String,
    },
    /// Its root, keys and store belong to another site.
    #[error(
        "{}: this is the state directory of site {found}, and [site] code is {wanted}: correct one of \
         them, or remove {} if this site is to have it from now on",
        .path.display(), .path.join(SITE).display()
    )]
    OtherSite {
        /// The state directory.
        path: PathBuf,
        /// The site code found.
        found: String,
        /// The site code in the configuration.
        wanted: String,
    },
}

/// A state directory, locked by this process until dropped.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    lock: Option<File>,
}

impl StateDir {
    /// Takes the directory for the site with this code; creates it if there is none.
    ///
    /// # Errors
    /// If another process uses it, or it belongs to another site. An unwritable directory is taken
    /// without a lock: later writes report the fault.
    pub fn take(path: &Path, code: &str) -> Result<Self, StateError> {
        let path = path.to_owned();
        let _ = private_dir(&path);
        owner(&path, code)?;
        let lock = match open(&path) {
            Ok(file) => match file.try_lock() {
                Ok(()) => Some(file),
                Err(TryLockError::WouldBlock) => {
                    return Err(StateError::InUse { path, holder: holder(file) });
                }
                Err(_) => None,
            },
            Err(_) => None,
        };
        if let Some(mut lock) = lock.as_ref() {
            remove_unfinished(&path);
            let id = std::process::id();
            let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{id}"));
        }
        if !path.join(SITE).exists() {
            // A failing disk is reported by writes that matter more.
            let _ = write_public(&path.join(SITE), format!("{code}\n").as_bytes());
        }
        Ok(StateDir { path, lock })
    }

    /// Whether the locked directory is still at its path, and was not replaced.
    pub fn is_there(&self) -> bool {
        let Some(lock) = &self.lock else { return self.path.is_dir() };
        match (lock.metadata(), std::fs::metadata(self.path.join(LOCK))) {
            (Ok(held), Ok(found)) => identity(&held) == identity(&found),
            _ => false,
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Checks that a directory belongs to this site, or to none yet.
///
/// # Errors
/// [`StateError::OtherSite`].
pub fn owner(path: &Path, code: &str) -> Result<(), StateError> {
    let Ok((bytes, _)) = read_bounded(&path.join(SITE), BYTES_MAX) else { return Ok(()) };
    let found = String::from_utf8_lossy(&bytes).trim().to_owned();
    if found.is_empty() || found.eq_ignore_ascii_case(code) {
        Ok(())
    } else {
        Err(StateError::OtherSite { path: path.to_owned(), found, wanted: code.to_owned() })
    }
}

fn open(path: &Path) -> io::Result<File> {
    let lock = path.join(LOCK);
    let mut options = OpenOptions::new();
    open_for(options.read(true).write(true).create(true).truncate(false), Exposure::Owner);
    // On a read-only file system, an existing lock file can still be locked.
    options.open(&lock).or_else(|_| File::open(&lock))
}

fn holder(file: File) -> String {
    let mut text = String::new();
    let read = file.take(BYTES_MAX).read_to_string(&mut text);
    match read.ok().and_then(|_| text.trim().parse::<u32>().ok()) {
        Some(id) => format!(" (process {id})"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let first = StateDir::take(&state, "PS1").unwrap();
        let told = StateDir::take(&state, "PS1").unwrap_err().to_string();
        let wanted = format!("another sitegate (process {}) has this state", std::process::id());
        assert!(told.contains(&wanted), "{told}");
        drop(first);
        StateDir::take(&state, "ps1").unwrap();
    }

    #[test]
    fn a_state_directory_belongs_to_one_site() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        drop(StateDir::take(&state, "PS1").unwrap());
        let told = StateDir::take(&state, "XYZ").unwrap_err().to_string();
        assert!(told.contains("of site PS1, and [site] code is XYZ"), "{told}");
        std::fs::remove_file(state.join(SITE)).unwrap();
        drop(StateDir::take(&state, "XYZ").unwrap());
        assert!(owner(&state, "PS1").is_err());
    }

    #[test]
    fn it_is_there_until_it_is_removed_or_another_lies_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let taken = StateDir::take(&state, "PS1").unwrap();
        assert!(taken.is_there());
        std::fs::rename(&state, dir.path().join("away")).unwrap();
        assert!(!taken.is_there());
        drop(StateDir::take(&state, "PS1").unwrap());
        assert!(!taken.is_there(), "another");
        std::fs::remove_dir_all(&state).unwrap();
        std::fs::rename(dir.path().join("away"), &state).unwrap();
        assert!(taken.is_there(), "it is back");
    }
}
