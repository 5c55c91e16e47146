//! The site's own token key: made at first start, kept in the state directory, used to sign and
//! published to verify.
//!
//! The private key never leaves its file and this process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use uuid::Uuid;

use super::files::{LOCK, lock};
use super::key_ring::{KeyRing, Keys, absent};
use super::ring::{self, Journal, Thing};
use crate::live::{Publisher, live};
use crate::secret::{read_bounded, write_public};
use crate::token::{MintError, MintRequest, SignerKind};

const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The file with the hierarchy that a site has given itself.
const HIERARCHY: &str = "hierarchy";

/// Why the site has no token key.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyError {
    /// The file system refuses.
    #[error("{path}: {cause}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What it answers.
        cause: io::Error,
    },
    /// Others may read the key.
    #[error("{path}: the token key is readable by others; chmod 600 it and make a new one")]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// The key is none.
    #[error("{path}: {cause}")]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: MintError,
    },
    /// Nobody has made it yet, or it is gone.
    #[error("{}: there is no token key: the first start makes it", .path.display())]
    NotMade {
        /// Its folder.
        path: PathBuf,
    },
    /// The certificate could not be made.
    #[error("the token key's certificate could not be made: {0}")]
    Certificate(String),
}

/// The site as an issuer of tokens. Its keys are those that the folder's file decides on, at start
/// and whenever it is told to look.
pub struct SiteTokens {
    ring: KeyRing,
    seen: Mutex<Journal>,
    keys: Publisher<Keys>,
    hierarchy: Uuid,
    issuer: String,
}

impl SiteTokens {
    /// Open the site's token key in `state`, or make one of that kind: RS256 is what Configuration
    /// Manager's own verifiers know. `issuer` is the `iss` of its tokens;
    /// without a hierarchy the site gives itself one and keeps it.
    ///
    /// # Errors
    /// What stands in the way; the gateway serves other issuers' tokens all the same.
    pub fn open(
        state: &Path,
        (site_code, kind): (&str, SignerKind),
        hierarchy: Option<Uuid>,
        issuer: &str,
        now: Timestamp,
    ) -> Result<Self, TokenKeyError> {
        let ring = token_ring(state, (site_code, kind));
        let (keys, journal) = ring.open(now)?;
        let hierarchy = match hierarchy {
            Some(configured) => configured,
            None => own_hierarchy(&ring.dir)?,
        };
        let (keys, seen) = (live(keys).0, Mutex::new(journal));
        Ok(SiteTokens { ring, seen, keys, hierarchy, issuer: issuer.to_owned() })
    }

    /// The same, for whoever is not the process that runs: what is not there is not made.
    ///
    /// # Errors
    /// [`TokenKeyError::NotMade`], and as [`SiteTokens::open`].
    pub fn find(
        state: &Path,
        (site_code, kind): (&str, SignerKind),
        hierarchy: Option<Uuid>,
        issuer: &str,
    ) -> Result<Self, TokenKeyError> {
        let ring = token_ring(state, (site_code, kind));
        let not_made = || TokenKeyError::NotMade { path: ring.dir.clone() };
        if !ring.is_made()? {
            return Err(not_made());
        }
        let (keys, journal) = ring.load()?;
        let hierarchy = match hierarchy {
            Some(configured) => configured,
            None => kept_hierarchy(&ring.dir)?.ok_or_else(not_made)?,
        };
        let (keys, seen) = (live(keys).0, Mutex::new(journal));
        Ok(SiteTokens { ring, seen, keys, hierarchy, issuer: issuer.to_owned() })
    }

    /// The public halves, as a JWKS (RFC 7517 §5).
    pub fn jwks(&self) -> String {
        self.keys.reader().peek(Keys::jwks)
    }

    /// The folder to watch, and to [`follow`](SiteTokens::follow) when something changes there.
    pub fn watched(&self) -> PathBuf {
        ring::watched(&self.ring.dir)
    }

    /// Look at the folder, and take what a step of a rollover has changed.
    ///
    /// # Errors
    /// What stands in the way; the keys are what they were.
    pub fn follow(&self) -> Result<(), TokenKeyError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ring.journal()? != *seen {
            let (keys, journal) = self.ring.load()?;
            tracing::info!(target: "sitegate::keys", kid = keys.current().kid(),
                "the site's token keys have changed");
            self.keys.publish(keys);
            *seen = journal;
        }
        Ok(())
    }

    /// The `iss` of the site's tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The hierarchy that the site's tokens name.
    pub fn hierarchy(&self) -> Uuid {
        self.hierarchy
    }

    /// Sign a token. `wanted` says what for; issuer and hierarchy are the site's own.
    ///
    /// # Errors
    /// What about the wish is not allowed.
    pub fn mint(&self, wanted: MintRequest<'_>, now: Timestamp) -> Result<String, MintError> {
        let request = MintRequest { issuer: &self.issuer, hierarchy: self.hierarchy, ..wanted };
        self.keys.reader().load().current().mint(&request, now)
    }
}

/// Where the token keys of a state directory lie.
pub(super) fn token_ring(state: &Path, (site_code, kind): (&str, SignerKind)) -> KeyRing {
    let (thing, site_code) = (Thing::TokenKey, Some(site_code.to_owned()));
    KeyRing { dir: state.join(thing.folder()), thing, kind, site_code }
}

/// The site's bundle keys in `state`, made when they are first asked for.
///
/// # Errors
/// What stands in the way.
pub fn bundle_keys(state: &Path, now: Timestamp) -> Result<Keys, TokenKeyError> {
    KeyRing::bundle(state).open(now).map(|(keys, _)| keys)
}

fn kept_hierarchy(dir: &Path) -> Result<Option<Uuid>, TokenKeyError> {
    let path = dir.join(HIERARCHY);
    let read = absent(&path, read_bounded(&path, FILE_BYTES_MAX))?;
    let text = read.map(|(bytes, _)| String::from_utf8_lossy(&bytes).trim().to_owned());
    Ok(text.and_then(|text| text.parse().ok()))
}

fn own_hierarchy(dir: &Path) -> Result<Uuid, TokenKeyError> {
    let path = dir.join(HIERARCHY);
    if let Some(found) = kept_hierarchy(dir)? {
        return Ok(found);
    }
    // Two that start at once must not each give it another.
    let locked = dir.join(LOCK);
    let _lock = lock(dir).map_err(|cause| TokenKeyError::File { path: locked, cause })?;
    if let Some(found) = kept_hierarchy(dir)? {
        return Ok(found);
    }
    let made = Uuid::new_v4();
    write_public(&path, format!("{made}\n").as_bytes())
        .map_err(|cause| TokenKeyError::File { path: path.clone(), cause })?;
    Ok(made)
}
