//! A credential: a certificate, the CA certificates above it, and its private key.
//!
//! Orders the chain. Checks nothing beyond that, and never
//! shows a key.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::pem::{self, PemFault, PemPart};
use crate::unfit::Unfit;

use super::facts::{Outline, outline};
use super::{CredentialFault, Facts};

/// The issuer of a credential, for the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The operator's public key infrastructure; preferred.
    Pki,
    /// The site's own authority.
    SiteIssued,
}

impl Source {
    /// Both, in order of preference.
    pub const ALL: [Source; 2] = [Source::Pki, Source::SiteIssued];

    /// The word in status, metrics and log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Source::Pki => "pki",
            Source::SiteIssued => "site-issued",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A chain, leaf first, and its presumed key. [`check`](super::check()) decides whether it may be
/// served.
#[derive(Clone)]
pub struct Credential {
    source: Source,
    chain: Vec<CertificateDer<'static>>,
    facts: Facts,
    issuers: Vec<Facts>,
    key: CredentialKey,
}

#[derive(Clone)]
enum CredentialKey {
    Belongs(Arc<dyn SigningKey>),
    BelongsElsewhere,
    /// The library cannot load it: too small, or of an unknown kind.
    Unusable,
}

/// A server's chain is a leaf and a few CA certificates; a whole trust store pasted below the leaf
/// would be sent in every handshake.
const CHAIN_LEN_MAX: usize = 10;

impl Credential {
    /// Reads a credential from the bytes of a certificate file and a key file; if the key is in the
    /// certificate's file, `key` is `None`.
    ///
    /// Accepts PEM, DER and PKCS#7 as [`pem::parts`] does, PKCS#8, PKCS#1 and SEC1 keys, and chains
    /// in any order.
    ///
    /// # Errors
    /// [`Unfit::Incomplete`], [`Unfit::Malformed`] or [`Unfit::KeyEncrypted`], and the file.
    pub fn parse(
        certificate: &[u8],
        key: Option<&[u8]>,
        source: Source,
        provider: &CryptoProvider,
    ) -> Result<Self, CredentialFault> {
        let first = Sections::read("certificate", certificate)?;
        let second = key.map(|key| Sections::read("key", key)).transpose()?.unwrap_or_default();
        if first.certificates.is_empty() {
            return Err(first.without("certificate", certificate));
        }
        if second.keys.is_empty() && first.keys.is_empty() {
            let encrypted = first.encrypted || second.encrypted;
            return Err(match key {
                _ if encrypted => CredentialFault::from(Unfit::KeyEncrypted),
                Some(key) => second.without("key", key),
                None => CredentialFault::new(Unfit::Incomplete, "no private key"),
            });
        }
        let keys = second.keys.into_iter().chain(first.keys);
        Self::from_der(first.certificates, keys, source, provider)
    }

    /// Assembles a credential from certificates in any order and the keys that came with them.
    ///
    /// # Errors
    /// [`Unfit::Malformed`] or [`Unfit::Incomplete`].
    pub(super) fn from_der(
        certificates: Vec<CertificateDer<'static>>,
        keys: impl IntoIterator<Item = PrivateKeyDer<'static>>,
        source: Source,
        provider: &CryptoProvider,
    ) -> Result<Self, CredentialFault> {
        let found = certificates.into_iter().map(|der| Ok((outline(&der)?, der)));
        let found = found.collect::<Result<Vec<_>, CredentialFault>>()?;
        let keys = keys.into_iter();
        let keys = keys.map(|key| provider.key_provider.load_private_key(key).ok()).collect();
        arrange(source, found, keys).ok_or_else(|| CredentialFault::from(Unfit::Incomplete))
    }

    /// Its issuer.
    pub fn source(&self) -> Source {
        self.source
    }

    /// The chain as it is sent to clients, leaf first. Never empty.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The leaf's facts.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The facts of the CA certificates above the leaf, in the order of the chain.
    pub fn issuers(&self) -> &[Facts] {
        &self.issuers
    }

    /// Chain and key as rustls needs them.
    ///
    /// # Errors
    /// [`Unfit::KeyMismatch`] or [`Unfit::KeyWeak`] if the key cannot be used for the chain.
    pub fn certified_key(&self) -> Result<CertifiedKey, CredentialFault> {
        match &self.key {
            CredentialKey::Belongs(key) => Ok(CertifiedKey::new(self.chain.clone(), key.clone())),
            CredentialKey::BelongsElsewhere => Err(Unfit::KeyMismatch.into()),
            CredentialKey::Unusable => Err(Unfit::KeyWeak.into()),
        }
    }
}

/// The same source and the same certificates. The key cannot differ where both match their leaf.
impl PartialEq for Credential {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.chain == other.chain
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("source", &self.source)
            .field("subject", &self.facts.subject)
            .field("sha256", &self.facts.sha256)
            .field("key", &"[redacted]")
            .finish_non_exhaustive()
    }
}

/// Finds the leaf, its key, and the chain above it.
///
/// The leaf is the certificate that matches a key; without a match, the one that issued no other.
fn arrange(
    source: Source,
    mut found: Vec<(Outline, CertificateDer<'static>)>,
    keys: Vec<Option<Arc<dyn SigningKey>>>,
) -> Option<Credential> {
    let belongs = |outline: &Outline, key: &Arc<dyn SigningKey>| {
        key.public_key().is_none_or(|public| public.as_ref() == outline.spki)
    };
    let pairs = || {
        found.iter().enumerate().flat_map(|(at, (o, _))| {
            keys.iter().flatten().filter(move |key| belongs(o, key)).map(move |key| (at, key))
        })
    };
    // A private CA may have used its own key for the leaf's file: prefer a certificate that is not
    // a CA.
    let pair = pairs().find(|(at, _)| found.get(*at).is_some_and(|(o, _)| !o.facts.is_ca));
    let (at, key) = match pair.or_else(|| pairs().next()) {
        Some((at, key)) => (at, CredentialKey::Belongs(key.clone())),
        None if keys.iter().all(Option::is_none) => (lowest(&found), CredentialKey::Unusable),
        None => (lowest(&found), CredentialKey::BelongsElsewhere),
    };
    if at >= found.len() {
        return None;
    }
    let (leaf, der) = found.remove(at);
    let mut credential =
        Credential { source, chain: vec![der], facts: leaf.facts, issuers: Vec::new(), key };
    climb(&mut credential, leaf.issuer, found);
    Some(credential)
}

/// The position of the certificate that issued no other of the file, preferably not a CA.
fn lowest(found: &[(Outline, CertificateDer<'static>)]) -> usize {
    let issued_another = |at: usize, outline: &Outline| {
        found.iter().enumerate().any(|(other, (o, _))| other != at && o.issuer == outline.subject)
    };
    let rank = |(at, (outline, _)): &(usize, &(Outline, CertificateDer<'static>))| {
        (outline.facts.is_ca, issued_another(*at, outline))
    };
    found.iter().enumerate().min_by_key(rank).map_or(0, |(at, _)| at)
}

/// Appends the issuers, nearest first; several with the same name are cross-signed and all kept.
/// Certificates outside the chain are left out.
fn climb(
    credential: &mut Credential,
    issuer: Vec<u8>,
    mut rest: Vec<(Outline, CertificateDer<'static>)>,
) {
    let mut wanted = VecDeque::from([issuer]);
    while let Some(name) = wanted.pop_front() {
        let (issuers, others) = rest.into_iter().partition(|(o, _)| o.subject == name);
        rest = others;
        let issuers: Vec<(Outline, CertificateDer<'static>)> = issuers;
        for (outline, der) in issuers {
            if credential.chain.len() < CHAIN_LEN_MAX && !credential.chain.contains(&der) {
                credential.chain.push(der);
                credential.issuers.push(outline.facts);
                wanted.push_back(outline.issuer);
            }
        }
    }
}

/// The relevant sections of one file.
#[derive(Default)]
struct Sections {
    certificates: Vec<CertificateDer<'static>>,
    keys: Vec<PrivateKeyDer<'static>>,
    encrypted: bool,
    public_key: bool,
}

impl Sections {
    fn read(file: &str, bytes: &[u8]) -> Result<Self, CredentialFault> {
        let mut sections = Sections::default();
        for part in pem::parts(bytes).map_err(|fault| pem_fault(file, fault))? {
            match part {
                PemPart::Certificate(der) => sections.certificates.push(der),
                PemPart::Key(key) => sections.keys.push(key),
                PemPart::EncryptedKey => sections.encrypted = true,
                PemPart::PublicKey(_) => sections.public_key = true,
                PemPart::Broken => return Err(pem_fault(file, PemFault::Malformed)),
                PemPart::Crl(_) | PemPart::Other => {}
            }
        }
        Ok(sections)
    }

    /// The fault of a file without the expected content.
    fn without(&self, file: &str, bytes: &[u8]) -> CredentialFault {
        if self.public_key {
            CredentialFault::new(Unfit::Incomplete, format!("{file}: only a public key"))
        } else if bytes.iter().all(u8::is_ascii_whitespace) {
            CredentialFault::new(Unfit::Incomplete, format!("{file}: empty"))
        } else if !self.keys.is_empty() || !self.certificates.is_empty() {
            CredentialFault::new(Unfit::Incomplete, format!("{file}: it is not a regular file"))
        } else {
            CredentialFault::new(Unfit::Malformed, format!("{file}: neither PEM, DER nor PKCS#7"))
        }
    }
}

/// Distinguishes a file that is still being written from a broken one.
pub(super) fn pem_fault(file: &str, fault: PemFault) -> CredentialFault {
    let unfit = if fault.is_cut() { Unfit::Incomplete } else { Unfit::Malformed };
    CredentialFault::new(unfit, format!("{file}: {fault}"))
}

#[cfg(test)]
mod tests;
