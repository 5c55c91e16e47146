//! Disk cache of an issuer's last good keys, so that a restart does not need the issuer.
//!
//! A damaged or foreign file counts as missing. Stores only public keys.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::secret::{private_dir, read_bounded, write_private};
use crate::token::FILE_BYTES_MAX;

/// Keys as they were fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CachedKeys {
    /// The source that they were fetched for; another configuration does not use them.
    pub(super) source: String,
    /// When they were fetched.
    pub(super) fetched: Timestamp,
    /// The JWK set, byte for byte.
    pub(super) keys: String,
}

/// The cache file of one issuer.
pub(super) struct KeyCache {
    path: PathBuf,
    /// Whether the last write failed: logged once, until one succeeds.
    failed: bool,
}

impl KeyCache {
    /// The file of an issuer in a state directory. Issuer names contain no slash.
    pub(super) fn new(state: &Path, issuer: &str) -> Self {
        KeyCache { path: state.join("keys").join(format!("{issuer}.json")), failed: false }
    }

    /// The cached keys, if they were cached for this source.
    pub(super) fn read(&self, source: &str) -> Option<CachedKeys> {
        // The JWK set is JSON text inside JSON: escaping its quotes at most doubles it.
        let bytes = match read_bounded(&self.path, 2 * FILE_BYTES_MAX as u64 + 4096) {
            Ok((bytes, _)) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return self.unusable(&error.to_string()),
        };
        match serde_json::from_slice::<CachedKeys>(&bytes) {
            Ok(kept) if kept.source == source => Some(kept),
            Ok(_) => self.unusable("it was saved for another configuration"),
            Err(error) => self.unusable(&error.to_string()),
        }
    }

    /// Stores keys. A failure, such as a full disk, affects only the next start.
    pub(super) fn write(&mut self, kept: &CachedKeys) {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let written = serde_json::to_vec(kept)
            .map_err(io::Error::other)
            .and_then(|bytes| private_dir(dir).and_then(|()| write_private(&self.path, &bytes)));
        let failed = written.is_err();
        if let Err(error) = written
            && !self.failed
        {
            tracing::warn!(
                target: "sitegate::keys",
                path = %self.path.display(), %error,
                "fetched keys cannot be saved for the next start"
            );
        }
        self.failed = failed;
    }

    fn unusable(&self, why: &str) -> Option<CachedKeys> {
        tracing::warn!(
            target: "sitegate::keys",
            path = %self.path.display(), "saved keys are not used: {why}"
        );
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_cache_ignores_damaged_and_foreign_entries() {
        let state = tempfile::tempdir().unwrap();
        let mut cache = KeyCache::new(state.path(), "idp");
        assert_eq!(cache.read("a"), None);
        let keys = "{\"keys\": [\"\u{e4}\"]}".to_owned();
        let kept = CachedKeys { source: "a".into(), fetched: Timestamp::UNIX_EPOCH, keys };
        cache.write(&kept);
        assert_eq!(cache.read("a"), Some(kept.clone()));
        assert_eq!(cache.read("b"), None);
        let path = state.path().join("keys/idp.json");
        let text = std::fs::read_to_string(&path).unwrap();
        for bad in ["", "{", "{}", &text[..text.len() - 1], &text.replace("\"keys\"", "\"k\"")] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(cache.read("a"), None, "{bad}");
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_hinders_nothing() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join("keys"), "a file where the folder should be").unwrap();
        let mut cache = KeyCache::new(state.path(), "idp");
        let (source, keys) = ("a".to_owned(), String::new());
        let kept = CachedKeys { source, fetched: Timestamp::UNIX_EPOCH, keys };
        cache.write(&kept);
        cache.write(&kept);
        assert!(cache.failed);
        assert_eq!(cache.read("a"), None);
    }
}
