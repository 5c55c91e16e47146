//! Which of the site's keys of a kind is in force, which comes next and which went before: one
//! small file in each folder of keys, whose renaming into place is what decides.
//!
//! Knows no key. A folder without the file is as it was made: the first keys are in force.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::secret;

const LEN_MAX: u64 = 64 * 1024;
/// A folder of its own, because it is watched: beside keys and locks there would be no quiet.
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
    /// The key that signs what the site hands to its gateways.
    BundleKey,
}

impl Thing {
    /// Everything, in the order of the documentation.
    pub const ALL: &[Thing] =
        &[Thing::Root, Thing::Intermediate, Thing::TokenKey, Thing::BundleKey];

    /// The word of the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Thing::Root => "root",
            Thing::Intermediate => "intermediate",
            Thing::TokenKey => "token-key",
            Thing::BundleKey => "bundle-key",
        }
    }

    /// The name of its first files.
    pub(super) const fn base(self) -> &'static str {
        match self {
            Thing::Root => "root",
            Thing::Intermediate => "role",
            Thing::TokenKey => "token",
            Thing::BundleKey => "bundle",
        }
    }

    /// The folder of the state directory that it lies in.
    pub(super) const fn folder(self) -> &'static str {
        match self {
            Thing::Root | Thing::Intermediate | Thing::BundleKey => "authority",
            Thing::TokenKey => "token",
        }
    }

    /// The name of the files of a generation, without what follows the dot.
    pub(super) fn stem(self, generation: u32) -> String {
        match generation {
            0 | 1 => self.base().to_owned(),
            later => format!("{}-{later}", self.base()),
        }
    }
}

/// How far a rollover has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// One, and no other.
    Steady,
    /// The next one is made and handed out, and not used.
    Published,
    /// The next one is in force; the one before is still trusted, and not used.
    Switched,
}

impl Stage {
    /// The word in output and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Steady => "steady",
            Stage::Published => "published",
            Stage::Switched => "switched",
        }
    }
}

/// The generations of one thing. Of next and old there is one at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// The one in force.
    pub current: u32,
    /// The one that comes next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u32>,
    /// The one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<u32>,
    /// When the last step was taken; never, as long as there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl Default for Ring {
    fn default() -> Self {
        Ring { current: 1, next: None, old: None, since: None }
    }
}

impl Ring {
    /// How far its rollover has come.
    pub fn stage(&self) -> Stage {
        match (self.next, self.old) {
            (Some(_), _) => Stage::Published,
            (None, Some(_)) => Stage::Switched,
            (None, None) => Stage::Steady,
        }
    }

    /// The generation that comes after all there were.
    pub(super) fn coming(&self) -> u32 {
        self.next.unwrap_or(self.current).max(self.current).saturating_add(1)
    }

    pub(super) fn published(&self, now: Timestamp) -> Ring {
        Ring { next: Some(self.coming()), since: Some(now), ..self.clone() }
    }

    /// The next one in force; without one, everything stays.
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
    /// What a folder's file says.
    ///
    /// # Errors
    /// What the file system answers, or [`io::ErrorKind::InvalidData`]: nobody may guess which key
    /// is in force.
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

    /// The same with another ring.
    pub fn with(mut self, thing: Thing, ring: Ring) -> Self {
        self.0.insert(thing, ring);
        self
    }

    /// Decide: from the renaming on, this is how it is. Under the folder's lock.
    ///
    /// # Errors
    /// What the file system answers; all is as it was then.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        secret::private_dir(&watched(dir))?;
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        secret::write_public(&file(dir), &text)
    }
}

/// The file that decides.
pub(super) fn file(dir: &Path) -> PathBuf {
    watched(dir).join(FILE)
}

/// Where whoever follows a folder of keys has to look.
pub(super) fn watched(dir: &Path) -> PathBuf {
    dir.join(FOLDER)
}

/// A key of a later generation that nothing speaks of: with it there, and none in force, the file
/// that decides was lost, and a new beginning would be a quiet one.
pub(super) fn stray(dir: &Path, thing: Thing) -> Option<String> {
    let later = |name: &str| {
        let name = name.strip_prefix(thing.base())?.strip_prefix('-')?.strip_suffix(".key")?;
        name.parse::<u32>().ok()
    };
    let names =
        fs::read_dir(dir).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| later(name).is_some()).min()
}

/// Remove the files of a generation that is trusted no more, its key first. What cannot be removed
/// is told: a key that lies about is nobody's wish.
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

/// Remove what an interrupted retirement left.
pub(super) fn sweep(dir: &Path, thing: Thing, ring: &Ring) {
    for generation in 1..ring.current {
        if ring.old != Some(generation) {
            remove(dir, thing, generation);
        }
    }
}
