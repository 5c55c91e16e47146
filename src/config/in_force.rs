//! What tools go by while the file is broken or gone: the configuration that a process took last, kept
//! in its state directory, and where its listeners are.

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
/// In how many entries of the file's folder a copy is looked for.
const ENTRIES_MAX: usize = 256;
/// What the copy's first line begins with; the path of the file follows.
const HEAD: &str = "# sitegate keeps here what is in force of ";

/// Keep the text of the file at `path` as the one in force. Nothing is kept where there is no state
/// directory.
///
/// # Errors
/// What the file system answers.
pub fn keep(path: &Path, text: &str, state: &Path) -> io::Result<()> {
    let kept = state.join(FILE);
    let text = format!("{HEAD}{}\n{text}", std::path::absolute(path)?.display());
    let before = read_bounded(&kept, 2 * FILE_BYTES_MAX);
    if !state.is_dir() || before.is_ok_and(|(bytes, _)| bytes.as_slice() == text.as_bytes()) {
        return Ok(());
    }
    write_private(&kept, text.as_bytes())
}

/// What a broken file can still be asked.
pub struct Salvaged {
    /// Where status is asked.
    pub admin: SocketAddr,
    /// Where metrics and readiness are asked.
    pub metrics: SocketAddr,
    state: PathBuf,
}

/// Read of a file, which may be broken or gone, what can be read; what cannot has its default.
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

/// The configuration that a process has taken last of the file at this path, and where it is kept.
/// Other files that it names may be broken.
pub fn load(path: &Path, now: Timestamp) -> Option<(Config, PathBuf)> {
    let named = salvage(path).state;
    // A file that is gone names none: most often it lay beside its state.
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
    fn what_can_be_read_of_a_broken_file_is_read_and_the_rest_has_its_default() {
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
