//! The configuration in force for tools, while the file is broken or missing: a copy of the last
//! one that a process applied, in its state directory, and the addresses of its listeners.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use toml::de::DeTable;

use super::code::ConfigCode;
use super::resolve::{self, ADMIN, METRICS, STATE};
use super::{Config, FILE_BYTES_MAX};
use crate::secret::{read_bounded, write_private};

/// The name of the copy in the state directory.
const FILE: &str = "configuration-in-force.toml";
/// The most entries of the file's folder that are searched for a copy.
const ENTRIES_MAX: usize = 256;
/// The beginning of the copy's first line; the path of the file follows.
const HEAD: &str = "# sitegate keeps here what is in force of ";

/// Stores the text of the file at `path` as the one in force. Stores nothing without a state
/// directory.
///
/// # Errors
/// The file system's error.
pub fn keep(path: &Path, text: &str, state: &Path) -> io::Result<()> {
    let kept = state.join(FILE);
    let text = format!("{HEAD}{}\n{text}", std::path::absolute(path)?.display());
    let before = read_bounded(&kept, 2 * FILE_BYTES_MAX);
    if !state.is_dir() || before.is_ok_and(|(bytes, _)| bytes.as_slice() == text.as_bytes()) {
        return Ok(());
    }
    write_private(&kept, text.as_bytes())
}

/// The settings that can be read from a broken file.
pub struct Salvaged {
    /// The address of the status API.
    pub admin: SocketAddr,
    /// The address of metrics and readiness.
    pub metrics: SocketAddr,
    state: PathBuf,
}

/// Reads as much as possible from a file, which may be broken or missing; the rest has its default.
pub fn salvage(path: &Path) -> Salvaged {
    let bytes = read_bounded(path, FILE_BYTES_MAX).map(|(bytes, _)| bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let (document, _) = DeTable::parse_recoverable(&text);
    let document = document.into_inner();
    let word = |section: &str, key: &str| {
        let table = document.get(section)?.get_ref().as_table()?;
        Some(table.get(key)?.get_ref().as_str()?.to_owned())
    };
    let listen = |section: &str, default: &str| {
        let typed = word(section, "listen").and_then(|typed| typed.parse().ok());
        typed.or_else(|| default.parse().ok()).unwrap_or(([127, 0, 0, 1], 0).into())
    };
    Salvaged {
        admin: listen("admin", ADMIN),
        metrics: listen("metrics", METRICS),
        state: base(path).join(word("site", "state").as_deref().unwrap_or(STATE)),
    }
}

/// The last configuration that a process has applied from the file at this path, and the path of
/// the copy. Other files that it names may be broken.
pub fn load(path: &Path, now: Timestamp) -> Option<(Config, PathBuf)> {
    let named = salvage(path).state;
    // A missing file names no state directory: usually it was beside it.
    let whole = std::path::absolute(path).ok()?;
    let beside = std::fs::read_dir(base(&whole)).into_iter().flatten().take(ENTRIES_MAX).flatten();
    let folders = std::iter::once(named).chain(beside.map(|entry| entry.path()));
    folders.map(|folder| folder.join(FILE)).find_map(|kept| load_kept(path, kept, now))
}

fn load_kept(path: &Path, kept: PathBuf, now: Timestamp) -> Option<(Config, PathBuf)> {
    let (bytes, _) = read_bounded(&kept, 2 * FILE_BYTES_MAX).ok()?;
    let (head, text) = std::str::from_utf8(&bytes).ok()?.split_once('\n')?;
    let of = Path::new(head.strip_prefix(HEAD)?);
    if of != std::path::absolute(path).ok()? {
        return None;
    }
    let (config, faults) = resolve::resolve(text, base(path), now);
    let is_usable = faults.iter().all(|fault| fault.warning || fault.code == ConfigCode::File);
    config.filter(|_| is_usable).map(|config| (config, kept))
}

fn base(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_yields_its_readable_keys_and_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        let own = "[site]\nstate = \"own\"\n[admin]\nlisten = \"192.0.2.1:1\"\n";
        for (text, admin, state) in [
            (None, ADMIN, Path::new(STATE).to_owned()),
            (Some(String::new()), ADMIN, Path::new(STATE).to_owned()),
            (Some("[admin]\nlisten = 7\n[site]\nstate = []".into()), ADMIN, STATE.into()),
            (
                Some(format!("{own}[[site_system]]\nname = \"m")),
                "192.0.2.1:1",
                dir.path().join("own"),
            ),
        ] {
            match &text {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => assert!(!path.exists()),
            }
            let found = salvage(&path);
            assert_eq!(found.admin.to_string(), admin, "{text:?}");
            assert_eq!(found.metrics.to_string(), METRICS, "{text:?}");
            assert_eq!(found.state, state, "{text:?}");
        }
    }
}
