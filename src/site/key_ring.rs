//! Signing keys of one kind: the current, the next and the former one, as the folder's journal
//! says.
//!
//! The private keys never leave their files and this process.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use super::files::{LOCK, lock};
use super::ring::{self, Journal, Ring, Thing};
use super::rollover::{RolloverError, RolloverFacts, RolloverStep, Terms, refusals};
use super::token_key_error::TokenKeyError;
use crate::cert::issuer;
use crate::secret::{Exposure, private_dir, read_bounded, write_private, write_public};
use crate::token::{MintError, SignerKind, TokenSigner, jwks};

const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The keys of one kind.
pub struct Keys {
    current: TokenSigner,
    next: Option<TokenSigner>,
    old: Option<TokenSigner>,
}

impl Keys {
    /// The key that signs.
    pub fn current(&self) -> &TokenSigner {
        &self.current
    }

    /// The key that will sign after the next switch; it is already published.
    pub fn next(&self) -> Option<&TokenSigner> {
        self.next.as_ref()
    }

    /// The key that signed until the last switch.
    pub fn old(&self) -> Option<&TokenSigner> {
        self.old.as_ref()
    }

    /// All keys that verifiers accept, as a JWKS (RFC 7517 §5), the signing key first.
    pub fn jwks(&self) -> String {
        let all = [Some(&self.current), self.next(), self.old()];
        jwks(all.into_iter().flatten()).to_string()
    }
}

/// The place of keys of one kind, and the parameters of new ones.
#[derive(Clone, Debug)]
pub(super) struct KeyRing {
    pub dir: PathBuf,
    pub thing: Thing,
    /// For new keys; existing ones stay unchanged.
    pub kind: SignerKind,
    /// Part of the name in the key's certificate; without it there is no certificate.
    pub site_code: Option<String>,
}

impl KeyRing {
    /// The site's bundle key, which signs the bundles for its gateways. P-256, identified by its
    /// thumbprint, so without a certificate.
    pub fn bundle(state: &Path) -> Self {
        let (thing, kind, site_code) = (Thing::BundleKey, SignerKind::P256, None);
        KeyRing { dir: state.join(thing.folder()), thing, kind, site_code }
    }

    /// Loads the keys; creates the first one if there is none.
    pub fn open(&self, now: Timestamp) -> Result<(Keys, Journal), TokenKeyError> {
        private_dir(&self.dir).map_err(|cause| file(&self.dir, cause))?;
        let found = self.journal()?;
        let ring = found.ring(self.thing);
        // Two processes that start at once must not each keep half of a new pair. If the pair is
        // complete, nothing is written: the disk may be full or read-only.
        if !self.is_whole(ring.current) {
            let _lock = self.lock()?;
            let ring = self.journal()?.ring(self.thing);
            self.make(ring.current, now)?;
        }
        self.load()
    }

    /// Loads the keys.
    pub fn load(&self) -> Result<(Keys, Journal), TokenKeyError> {
        let journal = self.journal()?;
        let ring = journal.ring(self.thing);
        let read = |generation: Option<u32>| generation.map(|g| self.signer(g)).transpose();
        let (next, old) = (read(ring.next)?, read(ring.old)?);
        Ok((Keys { current: self.signer(ring.current)?, next, old }, journal))
    }

    pub fn journal(&self) -> Result<Journal, TokenKeyError> {
        Journal::read(&self.dir).map_err(|cause| file(&ring::file(&self.dir), cause))
    }

    /// The objections to a rollover step.
    pub fn refusals(
        &self,
        step: RolloverStep,
        terms: &Terms<'_>,
        now: Timestamp,
    ) -> Result<(Ring, Vec<super::StepRefused>), TokenKeyError> {
        let ring = self.journal()?.ring(self.thing);
        // The bundle key is created at its first use, even if that is for its successor.
        let made_for_it = self.thing == Thing::BundleKey && step == RolloverStep::Publish;
        let exists = made_for_it || self.is_whole(ring.current);
        let found = RolloverFacts { exists, ..RolloverFacts::default() };
        let refused = refusals(self.thing, &ring, step, terms, &found, now);
        Ok((ring, refused))
    }

    /// Takes a step. New files are written first, then the rename of the journal commits.
    pub fn step(
        &self,
        step: RolloverStep,
        terms: &Terms<'_>,
        now: Timestamp,
    ) -> Result<Ring, RolloverError> {
        if self.thing == Thing::BundleKey && step == RolloverStep::Publish {
            self.open(now)?;
        }
        private_dir(&self.dir).map_err(|cause| file(&self.dir, cause))?;
        let _lock = self.lock()?;
        let (ring, refused) = self.refusals(step, terms, now)?;
        if let Some(refused) = refused.into_iter().next() {
            return Err(refused.into());
        }
        ring::sweep(&self.dir, self.thing, &ring);
        let stepped = match step {
            RolloverStep::Publish => {
                let next = ring.published(now);
                // The leftovers of an interrupted step were never published.
                ring::remove(&self.dir, self.thing, ring.coming());
                self.make(ring.coming(), now)?;
                next
            }
            RolloverStep::Switch => ring.switched(now),
            RolloverStep::Retire => ring.retired(now),
        };
        self.journal()?
            .with(self.thing, stepped.clone())
            .write(&self.dir)
            .map_err(|cause| file(&ring::file(&self.dir), cause))?;
        if let (RolloverStep::Retire, Some(old)) = (step, ring.old) {
            ring::remove(&self.dir, self.thing, old);
        }
        Ok(stepped)
    }

    fn lock(&self) -> Result<std::fs::File, TokenKeyError> {
        lock(&self.dir).map_err(|cause| file(&self.dir.join(LOCK), cause))
    }

    fn is_whole(&self, generation: u32) -> bool {
        let (key, certificate) = self.paths(generation);
        let certified = || matches!(read_certificate(&certificate), Ok(Some(_)));
        key.exists() && (self.site_code.is_none() || certified())
    }

    /// Whether there is a current key.
    pub fn is_made(&self) -> Result<bool, TokenKeyError> {
        let (key, _) = self.paths(self.journal()?.ring(self.thing).current);
        key.try_exists().map_err(|cause| file(&key, cause))
    }

    fn paths(&self, generation: u32) -> (PathBuf, PathBuf) {
        let stem = self.thing.stem(generation);
        (self.dir.join(format!("{stem}.key")), self.dir.join(format!("{stem}.crt")))
    }

    fn signer(&self, generation: u32) -> Result<TokenSigner, TokenKeyError> {
        let (path, at) = self.paths(generation);
        let key = read_key(&path)?.ok_or_else(|| file(&path, io::ErrorKind::NotFound.into()))?;
        let certificate = match self.site_code {
            Some(_) => read_certificate(&at)?,
            None => None,
        };
        TokenSigner::from_pkcs8(&key, certificate.as_deref())
            .map_err(|cause| TokenKeyError::Key { path, cause })
    }

    /// Creates missing files of a generation.
    fn make(&self, generation: u32, now: Timestamp) -> Result<(), TokenKeyError> {
        let (path, at) = self.paths(generation);
        let key = match read_key(&path)? {
            Some(key) => key,
            None => {
                if generation == 1
                    && let Some(stray) = ring::stray(&self.dir, self.thing)
                {
                    let told = format!("is missing, and there is {stray}: restore it");
                    return Err(file(&ring::file(&self.dir), io::Error::other(told)));
                }
                new_key(&path, self.kind)?
            }
        };
        match &self.site_code {
            Some(site_code) if read_certificate(&at)?.is_none() => {
                new_certificate(&at, &key, site_code, now)
            }
            _ => Ok(()),
        }
    }
}

fn file(path: &Path, cause: io::Error) -> TokenKeyError {
    TokenKeyError::File { path: path.to_owned(), cause }
}

/// The result, or `None` if the file does not exist.
pub(super) fn absent<T>(path: &Path, read: io::Result<T>) -> Result<Option<T>, TokenKeyError> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(file(path, cause)),
    }
}

fn read_key(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, TokenKeyError> {
    let Some((pem, exposure)) = absent(path, read_bounded(path, FILE_BYTES_MAX))? else {
        return Ok(None);
    };
    if exposure != Exposure::Owner {
        return Err(TokenKeyError::Exposed { path: path.to_owned() });
    }
    match crate::pem::private_key(&pem) {
        Some(PrivateKeyDer::Pkcs8(der)) => {
            Ok(Some(Zeroizing::new(der.secret_pkcs8_der().to_vec())))
        }
        _ => Err(TokenKeyError::Key { path: path.to_owned(), cause: MintError::Key }),
    }
}

fn new_key(path: &Path, kind: SignerKind) -> Result<Zeroizing<Vec<u8>>, TokenKeyError> {
    let made = |cause| TokenKeyError::Key { path: path.to_owned(), cause };
    let der = TokenSigner::generate(kind).map_err(made)?;
    let pem = Zeroizing::new(issuer::pem("PRIVATE KEY", &der));
    write_private(path, pem.as_bytes()).map_err(|cause| file(path, cause))?;
    Ok(der)
}

/// An unreadable certificate counts as missing and is created again: verifiers rely only on its
/// key.
fn read_certificate(path: &Path) -> Result<Option<Vec<u8>>, TokenKeyError> {
    let read = absent(path, read_bounded(path, FILE_BYTES_MAX))?;
    let first = |(pem, _): (Zeroizing<Vec<u8>>, _)| {
        crate::pem::certificates(&pem).ok()?.first().map(|der| der.to_vec())
    };
    Ok(read.and_then(first))
}

/// The certificate exists only for its thumbprint, by which Configuration Manager's verifiers look
/// up a key: they trust the key by name, not by a chain.
fn new_certificate(
    path: &Path,
    key: &[u8],
    site_code: &str,
    now: Timestamp,
) -> Result<(), TokenKeyError> {
    let der = issuer::token_certificate(key, site_code, now)
        .map_err(|fault| TokenKeyError::Certificate(fault.to_string()))?;
    write_public(path, issuer::pem("CERTIFICATE", &der).as_bytes())
        .map_err(|cause| file(path, cause))
}
