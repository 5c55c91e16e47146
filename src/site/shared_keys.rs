//! Shares the site's keys among all site servers: encrypted in the store, and as files in each
//! server's state directory.
//!
//! The keys leave this process only encrypted; the store alone reveals nothing. The store has
//! precedence: a server that was down takes the changes of the others.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{digest, hkdf};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::store::{Follower, Store, StoreError};
use crate::clock::Clock;
use crate::secret::{Password, private_dir, read_bounded, write_private, write_public};

/// The folders with the site's keys.
const FOLDERS: [&str; 4] = ["authority", "authority/rollover", "token", "token/rollover"];
/// The file extensions of the keys; the file without one is the hierarchy.
const ENDINGS: [&str; 4] = ["crt", "key", "json", ""];
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// The file in which this server records the version of its files.
const NOTE: &str = "keys-shared.json";
/// The folder for files that the store does not have.
const ASIDE: &str = "keys-replaced";
/// The shortest seal secret, so that it cannot be guessed.
const SEAL_CHARS_MIN: usize = 32;
/// The polling interval for the files.
const LOOK: Duration = Duration::from_secs(2);
/// The associated data besides the keys: ciphertexts for other purposes are not accepted.
const CONTEXT: &[u8] = b"sitegate: the keys of a site, 1";
/// The number of attempts if another server writes first.
const TRIES: usize = 5;

/// Why keys cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum SharedKeysError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file system failed.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// The error.
        cause: io::Error,
    },
    /// The keys were encrypted with another seal, or were modified.
    #[error(
        "the site's keys in the store were not sealed with this seal: write the one of the other \
         site servers"
    )]
    Seal,
    /// The seal is too short.
    #[error("the seal has less than 32 characters: openssl rand -base64 48 makes one")]
    Weak,
    /// The decrypted content is not understood.
    #[error("the site's keys in the store are of a later version of sitegate")]
    Content,
    /// The store was restored from an older copy.
    #[error(
        "the site's keys in the store are older (version {0}) than those here (version {1}): a \
         copy was restored. To use them anyway, remove keys-shared.json from the state directory \
         of each site server"
    )]
    Older(i64, i64),
    /// Other servers wrote first at each attempt.
    #[error("other site servers keep changing the keys; trying again")]
    Busy,
    /// The first keys could not be created.
    #[error("{0}")]
    Make(String),
}

/// The key that encrypts the site's keys (AES-256-GCM).
pub struct Seal(RandomizedNonceKey);

impl Seal {
    /// Derives the key from the secret that the operator has placed on each site server.
    ///
    /// # Errors
    /// [`SharedKeysError::Weak`].
    pub fn new(secret: &Password) -> Result<Self, SharedKeysError> {
        let text = secret.reveal().trim();
        if text.len() < SEAL_CHARS_MIN {
            return Err(SharedKeysError::Weak);
        }
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, CONTEXT);
        let mut key = Zeroizing::new([0_u8; 32]);
        salt.extract(text.as_bytes())
            .expand(&[CONTEXT], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(key.as_mut()))
            .map_err(|_| SharedKeysError::Weak)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, key.as_ref());
        key.map(Seal).map_err(|_| SharedKeysError::Weak)
    }

    /// Encrypts with the version as associated data, so that an old ciphertext cannot be passed off
    /// as a later version.
    fn seal(&self, plain: &[u8], version: i64) -> Result<String, SharedKeysError> {
        let mut sealed = plain.to_vec();
        let about = Aad::from(about(version));
        let nonce = self.0.seal_in_place_append_tag(about, &mut sealed);
        let nonce = nonce.map_err(|_| SharedKeysError::Seal)?;
        Ok(STANDARD.encode([&nonce.as_ref()[..], &sealed].concat()))
    }

    fn open(&self, text: &str, version: i64) -> Result<Zeroizing<Vec<u8>>, SharedKeysError> {
        let bytes = STANDARD.decode(text).map_err(|_| SharedKeysError::Seal)?;
        let (nonce, sealed) =
            bytes.split_first_chunk::<NONCE_LEN>().ok_or(SharedKeysError::Seal)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut plain = Zeroizing::new(sealed.to_vec());
        let opened = self.0.open_in_place(nonce, Aad::from(about(version)), &mut plain);
        let len = opened.map_err(|_| SharedKeysError::Seal)?.len();
        plain.truncate(len);
        Ok(plain)
    }
}

fn about(version: i64) -> Vec<u8> {
    [CONTEXT, &version.to_be_bytes()].concat()
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal([redacted])")
    }
}

/// The version and fingerprint of the files when they were last equal to the store's.
#[derive(Debug, Default, Serialize, Deserialize)]
struct NotedKeys {
    version: i64,
    files: Vec<u8>,
}

/// This server's record; the default if it has not shared keys yet.
fn noted(state: &Path) -> NotedKeys {
    let read = read_bounded(&state.join(NOTE), FILE_BYTES_MAX).ok();
    read.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// The files of the keys, by their path below the state directory.
type KeyFilesByName = BTreeMap<String, Zeroizing<String>>;

/// The shared keys of a state directory.
#[derive(Debug)]
pub struct SharedKeys {
    state: PathBuf,
    seal: Seal,
    /// The store's version of the files.
    version: i64,
    /// The fingerprint of the files at that version.
    files: Vec<u8>,
}

impl SharedKeys {
    /// Loads the site's keys from the store. If it has none, stores the keys of this server, which
    /// `make` creates if necessary.
    ///
    /// # Errors
    /// Why they cannot be shared; the files here are unchanged, or equal to the store's.
    pub async fn start(
        state: &Path,
        seal: Seal,
        store: &Store,
        clock: &Clock,
        mut make: impl FnMut() -> Result<(), String>,
    ) -> Result<Self, SharedKeysError> {
        let NotedKeys { version, files } = noted(state);
        let mut shared = SharedKeys { state: state.to_owned(), seal, version, files };
        for _ in 0..TRIES {
            if shared.pull(store).await? {
                // Publishes changes by commands that ran while this server was stopped.
                shared.look(store, clock).await?;
                return Ok(shared);
            }
            make().map_err(SharedKeysError::Make)?;
            if shared.push(store, clock).await? {
                return Ok(shared);
            }
        }
        Err(SharedKeysError::Busy)
    }

    /// Follows store and files until `stop` is set.
    pub async fn run(
        mut self,
        store: Store,
        mut follower: Follower,
        clock: Clock,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut told = String::new();
        while !*stop.borrow() {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = follower.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            let trouble = self.look(&store, &clock).await.err().map(|error| error.to_string());
            let trouble = trouble.unwrap_or_default();
            if trouble != told && !trouble.is_empty() {
                tracing::error!(target: "sitegate::site", "the site's keys are not shared: {trouble}");
            }
            told = trouble;
        }
    }

    /// Synchronizes store and files.
    ///
    /// # Errors
    /// Why that failed.
    pub async fn look(&mut self, store: &Store, clock: &Clock) -> Result<(), SharedKeysError> {
        let before = self.version;
        self.pull(store).await?;
        // Changes here never overwrite newer keys of another server.
        if self.version == before && fingerprint(&self.read()?) != self.files {
            self.push(store, clock).await?;
        }
        Ok(())
    }

    /// Takes the store's keys if their version is newer. `false` if the store has none.
    async fn pull(&mut self, store: &Store) -> Result<bool, SharedKeysError> {
        let Some((version, sealed)) = store.site_keys().await? else { return Ok(false) };
        if version == self.version {
            return Ok(true);
        }
        if version < self.version {
            return Err(SharedKeysError::Older(version, self.version));
        }
        let plain = self.seal.open(&sealed, version)?;
        let files: BTreeMap<String, String> =
            serde_json::from_slice(&plain).map_err(|_| SharedKeysError::Content)?;
        let files: KeyFilesByName =
            files.into_iter().map(|(k, v)| (k, Zeroizing::new(v))).collect();
        self.write(&files)?;
        tracing::info!(target: "sitegate::site", version, "the site's keys were read from the \
                                                           store");
        self.note(version, fingerprint(&files))?;
        Ok(true)
    }

    /// Writes the keys of this server to the store. `false` if another server wrote first.
    async fn push(&mut self, store: &Store, clock: &Clock) -> Result<bool, SharedKeysError> {
        let files = self.read()?;
        let plain: BTreeMap<&str, &str> =
            files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let plain = serde_json::to_vec(&plain).map_err(|_| SharedKeysError::Content)?;
        let sealed = self.seal.seal(&Zeroizing::new(plain), self.version + 1)?;
        let kept = store.keep_site_keys(self.version, &sealed, "sitegate", clock.now()).await?;
        if kept {
            tracing::info!(target: "sitegate::site", "the site's keys were written to the store");
            self.note(self.version + 1, fingerprint(&files))?;
        }
        Ok(kept)
    }

    /// Records the version of the files, also for the next start.
    fn note(&mut self, version: i64, files: Vec<u8>) -> Result<(), SharedKeysError> {
        (self.version, self.files) = (version, files.clone());
        let path = self.state.join(NOTE);
        let text = serde_json::to_vec(&NotedKeys { version, files });
        let text = text.map_err(|_| SharedKeysError::Content)?;
        write_private(&path, &text).map_err(|cause| SharedKeysError::File { path, cause })
    }

    /// Reads the files of this server.
    fn read(&self) -> Result<KeyFilesByName, SharedKeysError> {
        let mut files = KeyFilesByName::new();
        for folder in FOLDERS {
            let dir = self.state.join(folder);
            let failed = |path: &Path| {
                let path = path.to_owned();
                move |cause| SharedKeysError::File { path, cause }
            };
            let entries = match std::fs::read_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(failed(&dir))?,
            };
            for entry in entries {
                let path = entry.map_err(failed(&dir))?.path();
                let Some(name) = name(&path).filter(|_| path.is_file()) else { continue };
                let (bytes, _) = read_bounded(&path, FILE_BYTES_MAX).map_err(failed(&path))?;
                let text = std::str::from_utf8(&bytes).map_err(|_| SharedKeysError::Content)?;
                files.insert(format!("{folder}/{name}"), Zeroizing::new(text.to_owned()));
            }
        }
        Ok(files)
    }

    /// Replaces the files of this server by these. Keys and certificates are written before the
    /// journal that puts them in use.
    fn write(&self, files: &KeyFilesByName) -> Result<(), SharedKeysError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |cause| SharedKeysError::File { path, cause }
        };
        let held = self.read()?;
        for folder in FOLDERS {
            let dir = self.state.join(folder);
            private_dir(&dir).map_err(failed(&dir))?;
        }
        let is_key = |name: &str| name.ends_with(".key");
        let order = |name: &&String| (!is_key(name), name.ends_with(".json"));
        let mut names: Vec<&String> = files.keys().filter(|name| is_ours(name)).collect();
        names.sort_by_key(order);
        for name in names {
            let Some(text) = files.get(name) else { continue };
            if held.get(name) == Some(text) {
                continue;
            }
            let path = self.state.join(name);
            let written = if is_key(name) {
                write_private(&path, text.as_bytes())
            } else {
                write_public(&path, text.as_bytes())
            };
            written.map_err(failed(&path))?;
        }
        for gone in held.keys().filter(|name| !files.contains_key(*name)) {
            let path = self.state.join(gone);
            // Moved, not deleted: a key may exist nowhere else, even if the store does not have it.
            let aside = self.state.join(ASIDE);
            private_dir(&aside).map_err(failed(&aside))?;
            let to = aside.join(gone.replace('/', "~"));
            std::fs::rename(&path, &to).map_err(failed(&path))?;
        }
        Ok(())
    }
}

/// The name of a file that belongs to the keys.
fn name(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let ending = path.extension().map_or(Some(""), |ending| ending.to_str())?;
    (!name.starts_with('.') && ENDINGS.contains(&ending)).then_some(name)
}

/// Whether a name from the store may be written: only files directly in one of the folders.
fn is_ours(full: &str) -> bool {
    let Some((folder, rest)) = full.rsplit_once('/') else { return false };
    FOLDERS.contains(&folder) && name(Path::new(rest)) == Some(rest)
}

fn fingerprint(files: &KeyFilesByName) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    for (name, text) in files {
        for part in [name.as_bytes(), text.as_bytes()] {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
    }
    context.finish().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::PasswordSource;

    fn seal(text: &str) -> Result<Seal, SharedKeysError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal");
        std::fs::write(&path, text).unwrap();
        Seal::new(&Password::read(&PasswordSource::File(path)).unwrap().0)
    }

    #[test]
    fn what_is_sealed_is_opened_by_the_same_seal_alone() {
        let one = seal(&"a".repeat(40)).unwrap();
        let sealed = one.seal(b"a key", 1).unwrap();
        assert_eq!(one.open(&sealed, 1).unwrap().as_slice(), b"a key");
        assert_ne!(one.seal(b"a key", 1).unwrap(), sealed, "no two are alike");
        assert!(one.open(&sealed, 2).is_err(), "an old one is not given out for a later one");
        let two = seal(&"b".repeat(40)).unwrap();
        assert!(matches!(two.open(&sealed, 1), Err(SharedKeysError::Seal)));
        let mut bytes = STANDARD.decode(&sealed).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        assert!(matches!(one.open(&STANDARD.encode(bytes), 1), Err(SharedKeysError::Seal)));
        assert!(matches!(one.open("AAAA", 1), Err(SharedKeysError::Seal)));
        assert!(matches!(seal("short"), Err(SharedKeysError::Weak)));
    }

    #[test]
    fn nothing_is_written_outside_the_folders_of_the_keys() {
        for (name, ours) in [
            ("authority/root.key", true),
            ("token/hierarchy", true),
            ("token/rollover/state.json", true),
            ("authority/../../etc/passwd.key", false),
            ("authority/leaf/mp01.key", false),
            ("authority/.lock", false),
            ("store/site.db", false),
            ("root.key", false),
            ("/authority/root.key", false),
        ] {
            assert_eq!(is_ours(name), ours, "{name}");
        }
    }
}
