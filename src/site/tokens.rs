//! The site's token key: created at the first start, stored in the state directory, used to sign,
//! and published for verification.
//!
//! The private key never leaves its file and this process.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use uuid::Uuid;

use super::files::{LOCK, lock};
use super::key_ring::{KeyRing, Keys, absent};
use super::ring::{self, Journal, Thing};
use super::token_key_error::TokenKeyError;
use crate::live::{Publisher, live};
use crate::secret::{read_bounded, write_public};
use crate::token::{MintError, MintRequest, SignerKind};

const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The file with the hierarchy that the site has generated for itself.
const HIERARCHY: &str = "hierarchy";

/// The site as a token issuer. Its keys are those in the folder's journal, at startup and at each
/// call of [`SiteTokens::follow`].
pub struct SiteTokens {
    ring: KeyRing,
    seen: Mutex<Journal>,
    keys: Publisher<Keys>,
    hierarchy: Uuid,
    issuer: String,
}

impl SiteTokens {
    /// Opens the site's token key in `state`, or creates one of that kind: Configuration Manager's
    /// own verifiers know RS256. `issuer` is the `iss` of its tokens; without a hierarchy the site
    /// generates one and stores it.
    ///
    /// # Errors
    /// The obstacle; the gateway still serves other issuers' tokens.
    pub fn open(
        state: &Path,
        site_code: &str,
        kind: SignerKind,
        hierarchy: Option<Uuid>,
        issuer: &str,
        now: Timestamp,
    ) -> Result<Self, TokenKeyError> {
        let ring = token_ring(state, site_code, kind);
        let (keys, journal) = ring.open(now)?;
        let hierarchy = match hierarchy {
            Some(configured) => configured,
            None => own_hierarchy(&ring.dir)?,
        };
        let (keys, seen) = (live(keys).0, Mutex::new(journal));
        Ok(SiteTokens { ring, seen, keys, hierarchy, issuer: issuer.to_owned() })
    }

    /// Like [`SiteTokens::open`], for commands: creates nothing.
    ///
    /// # Errors
    /// [`TokenKeyError::NotMade`], and as [`SiteTokens::open`].
    pub fn find(
        state: &Path,
        site_code: &str,
        kind: SignerKind,
        hierarchy: Option<Uuid>,
        issuer: &str,
    ) -> Result<Self, TokenKeyError> {
        let ring = token_ring(state, site_code, kind);
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

    /// The public keys, as a JWKS (RFC 7517 §5).
    pub fn jwks(&self) -> String {
        self.keys.reader().peek(Keys::jwks)
    }

    /// The folder to watch; call [`follow`](SiteTokens::follow) when it changes.
    pub fn watched(&self) -> PathBuf {
        ring::watched(&self.ring.dir)
    }

    /// Reads the journal, and loads the keys that a rollover step has changed.
    ///
    /// # Errors
    /// The obstacle; the keys are then unchanged.
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

    /// The hierarchy in the site's tokens.
    pub fn hierarchy(&self) -> Uuid {
        self.hierarchy
    }

    /// Signs a token. The issuer and hierarchy of `wanted` are replaced by the site's own.
    ///
    /// # Errors
    /// The fault of the request.
    pub fn mint(&self, wanted: MintRequest<'_>, now: Timestamp) -> Result<String, MintError> {
        let request = MintRequest { issuer: &self.issuer, hierarchy: self.hierarchy, ..wanted };
        self.keys.reader().load().current().mint(&request, now)
    }
}

/// The token key ring of a state directory.
pub(super) fn token_ring(state: &Path, site_code: &str, kind: SignerKind) -> KeyRing {
    let (thing, site_code) = (Thing::TokenKey, Some(site_code.to_owned()));
    KeyRing { dir: state.join(thing.folder()), thing, kind, site_code }
}

/// The site's bundle keys in `state`, created at the first call.
///
/// # Errors
/// The obstacle.
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
    // Two processes that start at once must not generate different ones.
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
