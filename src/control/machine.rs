//! What a configuration needs of the machine, and key files that others can read.

use std::fs;
use std::path::{Path, PathBuf};

use crate::os::{self, Exposure, exposure};

/// How many files a configuration may need open: one for each connection and one for its backend
/// connection.
pub fn descriptors_needed(connections_max: usize) -> u64 {
    2 * connections_max as u64
}

/// The fewest open files with which a process starts: with fewer it would randomly fail to open
/// files, listeners and backend connections. `listeners` are opened by each of `threads`.
pub fn descriptors_min(threads: usize, listeners: usize) -> u64 {
    (128 + threads * (8 + listeners)) as u64
}

/// How many requests may have a backend connection at once: half of the open-file limit, which
/// leaves the other half to client connections.
pub fn requests_max() -> usize {
    os::own_descriptors().map_or(usize::MAX, |open| usize::try_from(open / 2).unwrap_or(usize::MAX))
}

/// Whether a file is readable by users other than its owner and group.
pub fn is_exposed(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| exposure(&meta) == Exposure::Everyone)
}

/// Key files below a folder that are world-readable.
pub fn exposed_keys(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    look_below(folder, 4, &mut found);
    found.sort();
    found
}

fn look_below(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        if kind.as_ref().is_ok_and(fs::FileType::is_dir) && depth > 0 {
            look_below(&path, depth - 1, found);
        } else if path.extension().is_some_and(|ext| ext == "key") && is_exposed(&path) {
            found.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_everyone_can_read_are_found_below_a_folder() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a");
        fs::create_dir(&below).unwrap();
        let key = below.join("x.key");
        fs::write(&key, "").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(exposed_keys(dir.path()), Vec::<PathBuf>::new());
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(exposed_keys(dir.path()), [key]);
    }
}
