//! The last good keys of an issuer on disk, so that a restart does not need the issuer.
//!
//! A file that is not what was written, or from elsewhere, is no file. Keeps public keys alone.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::secret::{private_dir, read_bounded, write_private};
use crate::token::FILE_BYTES_MAX;

/// Keys as they were fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// What they were fetched for; another configuration does not use them.
    pub(super) source: String,
    /// When.
    pub(super) fetched: Timestamp,
    /// The JWK set, byte for byte.
    pub(super) keys: String,
}

/// The file of one issuer.
pub(super) struct KeyCache {
    path: PathBuf,
    /// Whether the last writing failed: told once, until one succeeds.
    failed: bool,
}

impl KeyCache {
    /// The file of an issuer in a state directory. Names of issuers hold no slash.
    pub(super) fn new(state: &Path, issuer: &str) -> Self {
        KeyCache { path: state.join("keys").join(format!("{issuer}.json")), failed: false }
    }

    /// What is kept, if it was kept for this source.
    pub(super) fn read(&self, source: &str) -> Option<Kept> {
        // A JWK set is text of JSON in JSON: quotes become longer, at most twice as long.
        let bytes = match read_bounded(&self.path, 2 * FILE_BYTES_MAX as u64 + 4096) {
            Ok((bytes, _)) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return self.unusable(&error.to_string()),
        };
        match serde_json::from_slice::<Kept>(&bytes) {
            Ok(kept) if kept.source == source => Some(kept),
            Ok(_) => self.unusable("it was kept for another configuration"),
            Err(error) => self.unusable(&error.to_string()),
        }
    }

    /// Keep keys. A failure, such as a full disk, hinders nothing but the next start.
    pub(super) fn write(&mut self, kept: &Kept) {
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
                "fetched keys cannot be kept for the next start"
            );
        }
        self.failed = failed;
    }

    fn unusable(&self, why: &str) -> Option<Kept> {
        tracing::warn!(
            target: "sitegate::keys",
            path = %self.path.display(), "kept keys are not used: {why}"
        );
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_what_is_damaged_or_anothers_is_not() {
        let state = tempfile::tempdir().unwrap();
        let mut cache = KeyCache::new(state.path(), "idp");
        assert_eq!(cache.read("a"), None);
        let keys = "{\"keys\": [\"\u{e4}\"]}".to_owned();
        let kept = Kept { source: "a".into(), fetched: Timestamp::UNIX_EPOCH, keys };
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
        let kept = Kept { source, fetched: Timestamp::UNIX_EPOCH, keys };
        cache.write(&kept);
        cache.write(&kept);
        assert!(cache.failed);
        assert_eq!(cache.read("a"), None);
    }
}
