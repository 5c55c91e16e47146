//! Revocation of the site's own certificates, and the CRLs that publish it to clients.
//!
//! A revocation is final: the only remedy is a new certificate, which the server of a revoked one
//! has issued at once.

use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::super::files::{KeyFiles, LOCK, lock, make_private, trouble};
use super::super::ring::{self, Journal, Thing};
use super::{Authority, AuthorityState, Signers};
use crate::cert::issuer::{CrlOutline, Revocation, RevocationReason, Signer, is_signed_by, pem};
use crate::cert::{CredentialFault, Facts, certificate_der};
use crate::secret;

const LEN_MAX: u64 = 4 * 1024 * 1024;
/// A CRL is valid for a week and renewed daily, so that clients can work while the site is away.
const LIST_LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
const LIST_RENEWED: SignedDuration = SignedDuration::from_hours(24);
/// The interval between checks of the CRLs when nothing has changed.
const LOOK: SignedDuration = SignedDuration::from_mins(10);

/// A blocked certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockedCertificate {
    /// The site system that it was issued for, or *SMS Role Signing*.
    pub name: String,
    /// Its SHA-256 thumbprint, upper-case hexadecimal.
    pub sha256: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// The CRL that it is on, by the name of its authority's files.
    pub issuer: String,
    /// The reason: a value of [`RevocationReason`].
    pub reason: String,
    /// The time of the block.
    pub at: Timestamp,
    /// The certificate, as PEM.
    pub certificate: String,
}

/// Why a certificate was not blocked.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// No such certificate.
    #[error("'{0}' is neither the name nor the thumbprint of a valid certificate; see site show")]
    Unknown(String),
    /// It is already blocked.
    #[error("it was blocked on {0}")]
    Already(Timestamp),
    /// A root is on no CRL.
    #[error("a root cannot be blocked: roll it over (site rollover publish root)")]
    Root,
    /// A failure of the file system or the cryptography.
    #[error("{0}")]
    CredentialFault(#[from] CredentialFault),
}

impl Authority {
    /// Blocks the certificate of a site system, by its name or a thumbprint (SHA-1 or SHA-256), or
    /// an earlier certificate or the role authority by a thumbprint. It is on the CRL from then on,
    /// and the gateway that serves it has a new one issued.
    ///
    /// # Errors
    /// See [`BlockError`].
    pub fn block(
        &self,
        which: &str,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<BlockedCertificate, BlockError> {
        let journal = self.journal()?;
        let (name, issuer, certificate) = self.find(which, &journal)?;
        let facts = Facts::of_pem(&certificate)?;
        let entry = BlockedCertificate {
            name,
            sha256: facts.sha256,
            serial: facts.serial,
            issuer,
            reason: reason.as_str().to_owned(),
            at: now,
            certificate: first_pem(&certificate)?,
        };
        self.add_blocked(entry.clone(), now)?;
        self.write_lists(now)?;
        Ok(entry)
    }

    /// Blocks a certificate that the site has issued to a gateway on another host.
    ///
    /// # Errors
    /// See [`BlockError`].
    pub fn block_elsewhere(
        &self,
        name: &str,
        certificate: &str,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<BlockedCertificate, BlockError> {
        let facts = Facts::of_pem(certificate)?;
        let der = certificate_der(certificate.as_bytes())?;
        let entry = BlockedCertificate {
            name: name.to_owned(),
            sha256: facts.sha256,
            serial: facts.serial,
            issuer: self.issuer_of(&der, &self.journal()?),
            reason: reason.as_str().to_owned(),
            at: now,
            certificate: first_pem(certificate)?,
        };
        self.add_blocked(entry.clone(), now)?;
        self.write_lists(now)?;
        Ok(entry)
    }

    /// The file name of the role authority that has signed a certificate.
    fn issuer_of(&self, der: &[u8], journal: &Journal) -> String {
        let roles = journal.ring(Thing::Intermediate);
        let issued = |generation: &u32| {
            let role = self.signer(Thing::Intermediate, *generation);
            role.is_ok_and(|role| is_signed_by(role.certificate(), der))
        };
        let known = [Some(roles.current), roles.old];
        let by = known.into_iter().flatten().find(issued).unwrap_or(roles.current);
        Thing::Intermediate.stem(by)
    }

    /// Adds a certificate to the stored list of blocked ones.
    fn add_blocked(&self, entry: BlockedCertificate, now: Timestamp) -> Result<(), BlockError> {
        let _lock = lock(&self.dir).map_err(|e| trouble(&self.dir.join(LOCK), e))?;
        let mut all = read(&self.dir)?;
        if let Some(known) = all.iter().find(|known| known.sha256 == entry.sha256) {
            return Err(BlockError::Already(known.at));
        }
        all.retain(|blocked| matters(blocked, now));
        all.push(entry);
        Ok(write(&self.dir, &all)?)
    }

    /// Finds a certificate; returns name, authority and PEM.
    fn find(&self, which: &str, journal: &Journal) -> Result<(String, String, String), BlockError> {
        let plain: String = which.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
        let thumbprint = plain.to_ascii_uppercase();
        let matches = |facts: &Facts| facts.sha1 == thumbprint || facts.sha256 == thumbprint;
        let roles = journal.ring(Thing::Intermediate);
        let in_force = self.leaf_names()?.into_iter().filter_map(|name| {
            match self.leaf_place(&name)?.read() {
                Ok(KeyFiles::Both(pair)) => Some((name, pair.certificate, true)),
                _ => None,
            }
        });
        let earlier = self.issued().into_iter().map(|(name, chain)| (name, chain, false));
        for (name, chain, is_in_force) in in_force.chain(earlier) {
            let Ok(facts) = Facts::of_pem(&chain) else { continue };
            if matches(&facts) || (is_in_force && name == which) {
                let der = certificate_der(chain.as_bytes())?;
                return Ok((name, self.issuer_of(&der, journal), chain));
            }
        }
        let role = self.signer(Thing::Intermediate, roles.current)?;
        if matches(role.facts()) {
            let root = Thing::Root.stem(journal.ring(Thing::Root).current);
            return Ok(("SMS Role Signing".to_owned(), root, role.certificate().to_owned()));
        }
        let root = self.signer(Thing::Root, journal.ring(Thing::Root).current)?;
        if matches(root.facts()) {
            Err(BlockError::Root)
        } else {
            Err(BlockError::Unknown(which.to_owned()))
        }
    }

    /// Puts a retired role authority on its root's CRL: a stolen copy of its key is then worthless
    /// against clients that check CRLs.
    pub(super) fn block_role(
        &self,
        generation: u32,
        now: Timestamp,
    ) -> Result<(), CredentialFault> {
        let journal = self.journal()?;
        let certificate = self.signer(Thing::Intermediate, generation)?.certificate().to_owned();
        let facts = Facts::of_pem(&certificate)?;
        let mut all = read(&self.dir)?;
        if all.iter().any(|known| known.sha256 == facts.sha256) {
            return Ok(());
        }
        all.push(BlockedCertificate {
            name: "SMS Role Signing".to_owned(),
            sha256: facts.sha256,
            serial: facts.serial,
            issuer: Thing::Root.stem(journal.ring(Thing::Root).current),
            reason: RevocationReason::Superseded.as_str().to_owned(),
            at: now,
            certificate,
        });
        write(&self.dir, &all)
    }

    /// Renews the CRLs that are due. A failing disk does not stop the issue of certificates.
    pub(super) fn keep_lists(&self, state: &mut AuthorityState, signers: &Signers, now: Timestamp) {
        let seen = state.lists_seen.map(|seen| now.duration_since(seen));
        if seen.is_some_and(|ago| SignedDuration::ZERO <= ago && ago < LOOK) {
            return;
        }
        state.lists_seen = Some(now);
        if let Err(fault) = self.write_lists(now) {
            tracing::warn!(target: "sitegate::certificate", %fault, root = signers.root.facts().subject,
                "the CRLs are not up to date");
        }
    }

    /// Renews the CRLs that are due: too old, signed by another key, or not equal to the blocked
    /// certificates.
    pub(super) fn write_lists(&self, now: Timestamp) -> Result<(), CredentialFault> {
        if self.lists_due(now)?.is_empty() {
            return Ok(());
        }
        self.forget_issued(now);
        let dir = self.dir.join("crl");
        make_private(&dir)?;
        // Under the lock, read again what is due: another process may have written in between.
        let _lock = lock(&self.dir).map_err(|e| trouble(&self.dir.join(LOCK), e))?;
        for due in self.lists_due(now)? {
            let path = dir.join(format!("{}.crl", due.stem));
            // The seconds since 1970 keep the number growing even if the file with the last number
            // was lost.
            let seconds = u64::try_from(now.as_second()).unwrap_or(0);
            let number = seconds.max(due.number.saturating_add(1));
            let list = due.signer.crl(&due.revoked, number, LIST_LIFE, now)?;
            secret::write_public(&path, &list).map_err(|e| trouble(&path, e))?;
            let path = dir.join(format!("{}.cer", due.stem));
            let certificate = certificate_der(due.signer.certificate().as_bytes())?;
            secret::write_public(&path, &certificate).map_err(|e| trouble(&path, e))?;
        }
        Ok(())
    }

    fn lists_due(&self, now: Timestamp) -> Result<Vec<Due>, CredentialFault> {
        let journal = self.journal()?;
        let blocked = read(&self.dir)?;
        let mut due = Vec::new();
        for thing in [Thing::Root, Thing::Intermediate] {
            let ring = journal.ring(thing);
            for generation in [Some(ring.current), ring.next, ring.old].into_iter().flatten() {
                let signer = self.signer(thing, generation)?;
                let stem = thing.stem(generation);
                let mine = blocked.iter().filter(|b| b.issuer == stem && matters(b, now));
                let revoked: Vec<Revocation> = mine.map(revocation).collect();
                let path = self.dir.join("crl").join(format!("{stem}.crl"));
                let lies = secret::read_bounded(&path, LEN_MAX).ok();
                let lies = lies.and_then(|(der, _)| signer.own_crl(&der));
                let number = lies.as_ref().map_or(0, |list| list.number);
                if !lies.is_some_and(|list| is_current(&list, &revoked, now)) {
                    due.push(Due { stem, signer, revoked, number });
                }
            }
        }
        Ok(due)
    }
}

/// A CRL that is due.
struct Due {
    stem: String,
    signer: Signer,
    revoked: Vec<Revocation>,
    number: u64,
}

/// Whether it must stay on the CRL. Clients refuse an expired certificate without a CRL; it stays
/// one week longer to allow for clock skew and cached CRLs.
fn matters(blocked: &BlockedCertificate, now: Timestamp) -> bool {
    let expired = |facts: Facts| now.duration_since(facts.not_after) >= LIST_LIFE;
    !Facts::of_pem(&blocked.certificate).is_ok_and(expired)
}

fn is_current(list: &CrlOutline, revoked: &[Revocation], now: Timestamp) -> bool {
    let age = now.duration_since(list.this_update);
    let plain = |r: &Revocation| r.serial.trim_start_matches('0').to_ascii_uppercase();
    let mut serials: Vec<String> = revoked.iter().map(plain).collect();
    serials.sort();
    serials == list.serials && SignedDuration::ZERO <= age && age < LIST_RENEWED
}

fn revocation(blocked: &BlockedCertificate) -> Revocation {
    let known = RevocationReason::ALL.iter().find(|reason| reason.as_str() == blocked.reason);
    let reason = known.copied().unwrap_or(RevocationReason::Unspecified);
    Revocation { serial: blocked.serial.clone(), reason, at: blocked.at }
}

fn first_pem(chain: &str) -> Result<String, CredentialFault> {
    Ok(pem("CERTIFICATE", &certificate_der(chain.as_bytes())?))
}

fn file(dir: &Path) -> PathBuf {
    ring::watched(dir).join("blocked.json")
}

/// The blocked certificates; none if the file is absent.
pub(super) fn read(dir: &Path) -> Result<Vec<BlockedCertificate>, CredentialFault> {
    let path = file(dir);
    match secret::read_bounded(&path, LEN_MAX) {
        Ok((text, _)) => serde_json::from_slice(&text).map_err(|e| trouble(&path, e)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(trouble(&path, e)),
    }
}

fn write(dir: &Path, all: &[BlockedCertificate]) -> Result<(), CredentialFault> {
    let path = file(dir);
    let text = serde_json::to_vec_pretty(all).map_err(|e| trouble(&path, e))?;
    make_private(&ring::watched(dir))?;
    secret::write_public(&path, &text).map_err(|e| trouble(&path, e))
}
