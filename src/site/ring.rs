//! The rollover journal: which key of a kind is current, next and former. One small file in each
//! folder of keys; its atomic rename commits a step.
//!
//! Holds no keys. Without the file the first keys are current.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::secret;

const LEN_MAX: u64 = 64 * 1024;
/// A folder of its own because it is watched: beside keys and locks there would be too many events.
const FOLDER: &str = "rollover";
const FILE: &str = "state.json";

/// What can be rolled over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Thing {
    /// The site's root, *SMS Issuing*, and with it the role-signing authority below.
    Root,
    /// The role-signing authority alone.
    Intermediate,
    /// The key that signs the site's tokens.
    TokenKey,
    /// The key that signs the site's bundles for its gateways.
    BundleKey,
}

impl Thing {
    /// All things, in the order of the documentation.
    pub const ALL: &[Thing] =
        &[Thing::Root, Thing::Intermediate, Thing::TokenKey, Thing::BundleKey];

    /// The name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Thing::Root => "root",
            Thing::Intermediate => "intermediate",
            Thing::TokenKey => "token-key",
            Thing::BundleKey => "bundle-key",
        }
    }

    /// The stem of its first files.
    pub(super) const fn base(self) -> &'static str {
        match self {
            Thing::Root => "root",
            Thing::Intermediate => "role",
            Thing::TokenKey => "token",
            Thing::BundleKey => "bundle",
        }
    }

    /// Its folder in the state directory.
    pub(super) const fn folder(self) -> &'static str {
        match self {
            Thing::Root | Thing::Intermediate | Thing::BundleKey => "authority",
            Thing::TokenKey => "token",
        }
    }

    /// The file stem of a generation, without the extension.
    pub(super) fn stem(self, generation: u32) -> String {
        match generation {
            0 | 1 => self.base().to_owned(),
            later => format!("{}-{later}", self.base()),
        }
    }
}

/// The stage of a rollover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// One key, and no other.
    Steady,
    /// The next one exists and is distributed, but not used.
    Published,
    /// The next one is in force; the former one is still trusted, but not used.
    Switched,
}

impl Stage {
    /// The name in output and documentation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Steady => "steady",
            Stage::Published => "published",
            Stage::Switched => "switched",
        }
    }
}

/// The generations of one thing: at most one next and one old.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// The current generation.
    pub current: u32,
    /// The next generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u32>,
    /// The former generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<u32>,
    /// The time of the last step; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl Default for Ring {
    fn default() -> Self {
        Ring { current: 1, next: None, old: None, since: None }
    }
}

impl Ring {
    /// The stage of its rollover.
    pub fn stage(&self) -> Stage {
        match (self.next, self.old) {
            (Some(_), _) => Stage::Published,
            (None, Some(_)) => Stage::Switched,
            (None, None) => Stage::Steady,
        }
    }

    /// A new generation number, higher than all in use.
    pub(super) fn coming(&self) -> u32 {
        self.next.unwrap_or(self.current).max(self.current).saturating_add(1)
    }

    pub(super) fn published(&self, now: Timestamp) -> Ring {
        Ring { next: Some(self.coming()), since: Some(now), ..self.clone() }
    }

    /// Puts the next one in force; without a next one nothing changes.
    pub(super) fn switched(&self, now: Timestamp) -> Ring {
        let Some(next) = self.next else { return self.clone() };
        Ring { current: next, next: None, old: Some(self.current), since: Some(now) }
    }

    pub(super) fn retired(&self, now: Timestamp) -> Ring {
        Ring { old: None, since: Some(now), ..self.clone() }
    }
}

/// The rings of one folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal(BTreeMap<Thing, Ring>);

impl Journal {
    /// Reads the journal of a folder.
    ///
    /// # Errors
    /// The file system's error, or [`io::ErrorKind::InvalidData`]: which key is current must not be
    /// guessed.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let text = match secret::read_bounded(&file(dir), LEN_MAX) {
            Ok((text, _)) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Journal::default()),
            Err(e) => return Err(e),
        };
        serde_json::from_slice(&text).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    pub fn ring(&self, thing: Thing) -> Ring {
        self.0.get(&thing).cloned().unwrap_or_default()
    }

    /// The same journal with another ring.
    pub fn with(mut self, thing: Thing, ring: Ring) -> Self {
        self.0.insert(thing, ring);
        self
    }

    /// Commits: the new state holds from the rename on. The caller holds the folder's lock.
    ///
    /// # Errors
    /// The file system's error; the state is then unchanged.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        secret::private_dir(&watched(dir))?;
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        secret::write_public(&file(dir), &text)
    }
}

/// The path of the journal.
pub(super) fn file(dir: &Path) -> PathBuf {
    watched(dir).join(FILE)
}

/// The folder to watch for changes of the journal.
pub(super) fn watched(dir: &Path) -> PathBuf {
    dir.join(FOLDER)
}

/// Finds a key of a later generation that no journal names. If it exists and the current key does
/// not, the journal was lost, and new keys must not be created silently.
pub(super) fn stray(dir: &Path, thing: Thing) -> Option<String> {
    let later = |name: &str| {
        let name = name.strip_prefix(thing.base())?.strip_prefix('-')?.strip_suffix(".key")?;
        name.parse::<u32>().ok()
    };
    let names =
        fs::read_dir(dir).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| later(name).is_some()).min()
}

/// Removes the files of a generation that is no longer trusted, its key first. Failures are logged:
/// a leftover private key is a risk.
pub(super) fn remove(dir: &Path, thing: Thing, generation: u32) {
    let stem = thing.stem(generation);
    let lists = PathBuf::from("crl").join(&stem);
    let files = [
        PathBuf::from(&stem).with_extension("key"),
        PathBuf::from(&stem).with_extension("crt"),
        lists.with_extension("crl"),
        lists.with_extension("cer"),
    ];
    for path in files.map(|file| dir.join(file)) {
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "remove this file by hand");
        }
    }
}

/// Removes the leftovers of an interrupted retirement.
pub(super) fn sweep(dir: &Path, thing: Thing, ring: &Ring) {
    for generation in 1..ring.current {
        if ring.old != Some(generation) {
            remove(dir, thing, generation);
        }
    }
}
