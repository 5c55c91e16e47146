//! Hot reload of a token issuer's keys: files are watched, read and published as a key set.
//!
//! A file without usable keys does not remove the keys that it held earlier. Only a valid file
//! without keys, or its removal, does.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use zeroize::Zeroizing;

use super::watch::Watch;
use super::whole_file::{FileState, WholeFile, settle};
use crate::live::{Live, Publisher, live};
use crate::secret::read_whole;
use crate::site::SiteTokens;
use crate::token::{FILE_BYTES_MAX, KeySet};

const POLL: Duration = Duration::from_secs(30);

/// Called with an issuer's name, its number of keys, and the number of refused keys.
pub type OnKeys = Arc<dyn Fn(&str, usize, usize) + Send + Sync>;

/// One issuer's published key set, and the problems reported for it.
pub(super) struct WatchedKeys {
    name: Arc<str>,
    told: Publisher<Vec<String>>,
    publisher: Publisher<KeySet>,
    on_keys: OnKeys,
}

impl WatchedKeys {
    /// An empty set.
    pub(super) fn new(name: Arc<str>, on_keys: OnKeys) -> (Self, Live<KeySet>) {
        let (publisher, reader) = live(KeySet::default());
        (WatchedKeys { name, told: live(Vec::new()).0, publisher, on_keys }, reader)
    }

    /// The problems of the keys or of their source.
    pub(super) fn troubles(&self) -> Live<Vec<String>> {
        self.told.reader()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Publishes the keys of these texts (name, bytes) as the issuer's.
    pub(super) fn publish(&self, texts: &[(&str, &[u8])]) {
        let (set, problems) = KeySet::parse(texts);
        self.publish_set(set, problems.len());
    }

    /// The same for one text, unless it holds no usable key. Returns whether it holds one, and the
    /// problems found.
    pub(super) fn publish_if_usable(&self, name: &str, bytes: &[u8]) -> (bool, Vec<String>) {
        let (set, problems) = KeySet::parse(&[(name, bytes)]);
        let usable = !set.is_empty();
        if usable {
            self.publish_set(set, problems.len());
        }
        (usable, problems.iter().map(ToString::to_string).collect())
    }

    /// Reports that there are no keys yet.
    pub(super) fn publish_none(&self) {
        (self.on_keys)(&self.name, 0, 0);
    }

    fn publish_set(&self, set: KeySet, refused: usize) {
        (self.on_keys)(&self.name, set.len(), refused);
        tracing::info!(
            target: "sitegate::keys",
            issuer = &*self.name, usable = set.len(), refused,
            "the issuer's keys were read"
        );
        self.publisher.publish(set);
    }

    /// Logs each problem once, until it changes.
    pub(super) fn tell(&mut self, troubles: Vec<String>) {
        if self.told.reader().peek(|told| *told != troubles) {
            for trouble in &troubles {
                tracing::warn!(target: "sitegate::keys", issuer = &*self.name, "{trouble}");
            }
            self.told.publish(troubles);
        }
    }
}

/// The task that keeps one issuer's keys up to date.
pub struct IssuerKeys {
    ring: WatchedKeys,
    files: Vec<WholeFile>,
    /// The site's own keys, as last read.
    own: Option<(Arc<SiteTokens>, String)>,
    good: HashMap<PathBuf, Zeroizing<Vec<u8>>>,
    /// The problems of each file.
    troubles: HashMap<PathBuf, Vec<String>>,
    watch: Watch,
}

impl IssuerKeys {
    /// Reads once, so that the first request can already be checked. `own` are the site's own keys;
    /// this task reloads them when their folder changes.
    pub fn start(
        name: Arc<str>,
        files: Vec<PathBuf>,
        own: Option<Arc<SiteTokens>>,
        on_keys: OnKeys,
    ) -> (Self, Live<KeySet>) {
        let folders = files.iter().filter_map(|file| file.parent().map(PathBuf::from));
        let watch = Watch::new(folders.chain(own.iter().map(|own| own.watched())), POLL);
        let own = own.map(|own| {
            let read = own.jwks();
            (own, read)
        });
        let (ring, reader) = WatchedKeys::new(name, on_keys);
        let (good, troubles) = Default::default();
        let whole = |path| WholeFile::new(path, FILE_BYTES_MAX as u64, watch.renames());
        let files = files.into_iter().map(whole).collect();
        let mut keys = IssuerKeys { ring, files, own, good, troubles, watch };
        keys.look(true);
        (keys, reader)
    }

    /// The current problems of the files.
    pub fn troubles(&self) -> Live<Vec<String>> {
        self.ring.troubles()
    }

    /// How many usable keys the files hold, and the problems of the other keys and of the files.
    pub fn examine(files: &[PathBuf]) -> (usize, Vec<String>) {
        let (mut usable, mut troubles) = (0, Vec::new());
        for file in files {
            let shown = file.display().to_string();
            match read_whole(file, FILE_BYTES_MAX as u64) {
                Ok((bytes, _)) => {
                    let (set, problems) = KeySet::parse(&[(&shown, &bytes)]);
                    usable += set.len();
                    troubles.extend(problems.iter().map(ToString::to_string));
                }
                Err(error) => troubles.push(format!("{shown}: {error}")),
            }
        }
        (usable, troubles)
    }

    /// Follows the files until stopped.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow_and_update() {
            let pauses: Vec<_> = self.files.iter().map(WholeFile::pause).collect();
            tokio::select! {
                biased;
                changed = stop.changed() => if changed.is_err() { return },
                () = self.watch.changed() => {}
                () = settle(pauses) => {}
            }
            self.look(false);
        }
    }

    /// Checks the files; publishes if they changed.
    fn look(&mut self, first: bool) {
        let mut changed = first;
        for file in &mut self.files {
            let path = file.path().to_owned();
            let found = if first {
                file.take().map_or_else(FileState::Unreadable, FileState::Whole)
            } else {
                file.look()
            };
            let troubles = match found {
                FileState::Same | FileState::Settling => continue,
                FileState::Whole(bytes) => {
                    let shown = path.display().to_string();
                    let (set, problems) = KeySet::parse(&[(&shown, &bytes)]);
                    if !set.is_empty() || problems.is_empty() || !self.good.contains_key(&path) {
                        self.good.insert(path.clone(), bytes);
                        changed = true;
                    }
                    problems.iter().map(ToString::to_string).collect()
                }
                FileState::Unreadable(error) => {
                    let is_gone = error.kind() == io::ErrorKind::NotFound;
                    changed |= is_gone && self.good.remove(&path).is_some();
                    vec![format!("{}: {error}", path.display())]
                }
            };
            self.troubles.insert(path, troubles);
        }
        let of_file = |file: &WholeFile| self.troubles.get(file.path()).cloned();
        let mut troubles: Vec<String> = self.files.iter().filter_map(of_file).flatten().collect();
        if let Some((own, read)) = &mut self.own {
            if let Err(error) = own.follow() {
                troubles.push(error.to_string());
            }
            let now = own.jwks();
            changed |= now != *read;
            *read = now;
        }
        self.ring.tell(troubles);
        if changed {
            self.publish();
        }
    }

    fn publish(&mut self) {
        let mut texts: Vec<(String, &[u8])> = Vec::new();
        if let Some((_, own)) = &self.own {
            texts.push(("the site's own".to_owned(), own.as_bytes()));
        }
        for file in self.files.iter().map(WholeFile::path) {
            if let Some(bytes) = self.good.get(file) {
                texts.push((file.display().to_string(), bytes));
            }
        }
        let all: Vec<(&str, &[u8])> = texts.iter().map(|(name, b)| (name.as_str(), *b)).collect();
        self.ring.publish(&all);
    }
}
