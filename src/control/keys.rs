//! The keys of one token issuer over time: files are watched, read and published as a key set.
//!
//! A file that holds nothing usable does not take away the keys it held before: only a file that
//! can be read, or that is gone for good, does.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use zeroize::Zeroizing;

use super::watch::Watch;
use super::whole::{Found, WholeFile, settle};
use crate::live::{Live, Publisher, live};
use crate::secret::read_whole;
use crate::site::SiteTokens;
use crate::token::{FILE_BYTES_MAX, KeySet};

const POLL: Duration = Duration::from_secs(30);

/// Told how many keys an issuer has, and how many were refused.
pub type OnKeys = Arc<dyn Fn(&str, usize, usize) + Send + Sync>;

/// One issuer's key set as others see it, and what is told of it.
pub(super) struct Ring {
    name: Arc<str>,
    told: Publisher<Vec<String>>,
    publisher: Publisher<KeySet>,
    on_keys: OnKeys,
}

impl Ring {
    /// An empty set.
    pub(super) fn new(name: Arc<str>, on_keys: OnKeys) -> (Self, Live<KeySet>) {
        let (publisher, reader) = live(KeySet::default());
        (Ring { name, told: live(Vec::new()).0, publisher, on_keys }, reader)
    }

    /// What is wrong with the keys, or with where they come from.
    pub(super) fn troubles(&self) -> Live<Vec<String>> {
        self.told.reader()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Make the keys of these texts (name, bytes) the issuer's.
    pub(super) fn publish(&self, texts: &[(&str, &[u8])]) {
        let (set, problems) = KeySet::parse(texts);
        self.publish_set(set, problems.len());
    }

    /// The same for one text, unless it holds no key at all. Returns whether it does, and what is
    /// wrong with it.
    pub(super) fn publish_if_usable(&self, name: &str, bytes: &[u8]) -> (bool, Vec<String>) {
        let (set, problems) = KeySet::parse(&[(name, bytes)]);
        let usable = !set.is_empty();
        if usable {
            self.publish_set(set, problems.len());
        }
        (usable, problems.iter().map(ToString::to_string).collect())
    }

    /// There are no keys yet.
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

    /// Each trouble once, until it changes.
    pub(super) fn tell(&mut self, troubles: Vec<String>) {
        if self.told.reader().peek(|told| *told != troubles) {
            for trouble in &troubles {
                tracing::warn!(target: "sitegate::keys", issuer = &*self.name, "{trouble}");
            }
            self.told.publish(troubles);
        }
    }
}

/// The task that keeps one issuer's keys.
pub struct IssuerKeys {
    ring: Ring,
    files: Vec<WholeFile>,
    /// The site's own keys, as they were read last.
    own: Option<(Arc<SiteTokens>, String)>,
    good: HashMap<PathBuf, Zeroizing<Vec<u8>>>,
    /// What is wrong with each file.
    troubles: HashMap<PathBuf, Vec<String>>,
    watch: Watch,
}

impl IssuerKeys {
    /// Read once, so that requests can be judged from the first on. `own` are the site's own
    /// keys, which this task makes follow their folder.
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
        let (ring, reader) = Ring::new(name, on_keys);
        let (good, troubles) = Default::default();
        let whole = |path| WholeFile::new(path, FILE_BYTES_MAX as u64, watch.renames());
        let files = files.into_iter().map(whole).collect();
        let mut keys = IssuerKeys { ring, files, own, good, troubles, watch };
        keys.look(true);
        (keys, reader)
    }

    /// What is wrong with the files at present.
    pub fn troubles(&self) -> Live<Vec<String>> {
        self.ring.troubles()
    }

    /// How many usable keys the files hold, and what is wrong with the others and with the files.
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

    /// Keep the keys until told to stop.
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

    /// Look at the files; publish if they changed.
    fn look(&mut self, first: bool) {
        let mut changed = first;
        for file in &mut self.files {
            let path = file.path().to_owned();
            let found = match first {
                true => file.take().map_or_else(Found::Unreadable, Found::Whole),
                false => file.look(),
            };
            let troubles = match found {
                Found::Same | Found::Settling => continue,
                Found::Whole(bytes) => {
                    let shown = path.display().to_string();
                    let (set, problems) = KeySet::parse(&[(&shown, &bytes)]);
                    if !set.is_empty() || problems.is_empty() || !self.good.contains_key(&path) {
                        self.good.insert(path.clone(), bytes);
                        changed = true;
                    }
                    problems.iter().map(ToString::to_string).collect()
                }
                Found::Unreadable(error) => {
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
