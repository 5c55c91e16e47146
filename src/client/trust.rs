//! Whom a site system trusts to vouch for clients: authorities, and what they have revoked.
//!
//! Parses whole files or nothing. Which of them are in force is for whoever reads them.

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::asn1_rs::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::anchor::Anchor;
use crate::clock::second;
use crate::pem::{self, Part};

/// Why a file is not used, for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// The authorities of one file.
#[derive(Clone, Debug, Default)]
pub struct Authorities(Vec<Anchor>);

impl Authorities {
    /// Every certificate of a file, PEM, DER or PKCS#7, as a trust anchor (RFC 5280 §6.1.1 d).
    ///
    /// # Errors
    /// If one of them cannot be read, or there is none.
    pub fn parse(file: &[u8]) -> Result<Self, Unusable> {
        let anchor = |der: &CertificateDer<'_>| {
            Anchor::new(der).map_err(|error| Unusable(format!("not a certificate: {error:?}")))
        };
        let found = pem::certificates(file).map_err(|fault| Unusable(fault.to_string()))?;
        let anchors: Vec<_> = found.iter().map(anchor).collect::<Result<_, Unusable>>()?;
        match anchors.is_empty() {
            true => Err(Unusable("there is no certificate in it".to_owned())),
            false => Ok(Authorities(anchors)),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Which of those that are trusted now end within 30 days, and when.
    pub fn ending(&self, now: Timestamp) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(move |anchor| anchor.ending(now))
    }

    /// What is wrong with those that are not trusted now, as sentences.
    pub fn faults(&self, now: Timestamp) -> impl Iterator<Item = String> {
        let told = move |anchor: &Anchor| {
            let fault = anchor.ended(now)?;
            Some(format!("the authority {} {fault}: nobody is trusted by it", anchor.subject()))
        };
        self.0.iter().filter_map(told)
    }
}

/// The lists of revoked certificates of one file or several, the newest first.
#[derive(Clone, Debug, Default)]
pub struct Crls(Vec<Crl>);

#[derive(Clone, Debug)]
struct Crl {
    list: std::sync::Arc<CertRevocationList<'static>>,
    this_update: Timestamp,
    next_update: Timestamp,
}

impl Crls {
    /// Every list of a file, PEM or DER (RFC 5280 §5).
    ///
    /// # Errors
    /// If one of them cannot be read, or there is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unusable> {
        if bytes.first() == Some(&0x30) {
            return Ok(Crls(vec![crl(bytes)?]));
        }
        let mut found = Vec::new();
        for part in pem::parts(bytes).map_err(|fault| Unusable(fault.to_string()))? {
            match part {
                Part::Crl(der) => found.push(crl(&der)?),
                Part::Broken => return Err(Unusable("not well-formed PEM".to_owned())),
                _ => {}
            }
        }
        match found.is_empty() {
            true => Err(Unusable("there is no CRL in it".to_owned())),
            false => Ok(Crls(found)),
        }
    }

    /// These and others. Where two are for the same certificates, the newer is the one that is
    /// asked.
    pub fn and(mut self, others: Crls) -> Self {
        self.0.extend(others.0);
        self.0.sort_by_key(|crl| std::cmp::Reverse(crl.this_update));
        self
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the first of them expires.
    pub fn expires(&self) -> Option<Timestamp> {
        self.0.iter().map(|crl| crl.next_update).min()
    }
}

/// webpki reads what decides; when it expires, it does not tell.
fn crl(der: &[u8]) -> Result<Crl, Unusable> {
    let list = OwnedCertRevocationList::from_der(der)
        .map_err(|error| Unusable(format!("not a CRL that can be used: {error:?}")))?;
    let (_, dates) = CertificateRevocationList::from_der(der)
        .map_err(|_| Unusable("not a well-formed CRL".to_owned()))?;
    let next = dates.next_update().ok_or_else(|| Unusable("it has no nextUpdate".to_owned()))?;
    Ok(Crl {
        list: std::sync::Arc::new(list.into()),
        this_update: second(dates.last_update().timestamp()),
        next_update: second(next.timestamp()),
    })
}

/// What a site system's clients are judged by.
#[derive(Clone)]
pub struct ClientTrust {
    pub(super) authorities: Authorities,
    /// `None` where revocation is not looked at.
    pub(super) crls: Option<Crls>,
    pub(super) expired_crls_count: bool,
    pub(super) algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
}

impl ClientTrust {
    /// Trust these authorities. With lists of revoked certificates, a client's certificate must be
    /// covered by one; whether one that has expired still counts is `expired_crls_count`.
    pub fn new(
        authorities: Authorities,
        crls: Option<Crls>,
        expired_crls_count: bool,
        provider: &CryptoProvider,
    ) -> Self {
        let algorithms = provider.signature_verification_algorithms.all;
        ClientTrust { authorities, crls, expired_crls_count, algorithms }
    }

    /// How many authorities there are.
    pub fn authorities(&self) -> usize {
        self.authorities.len()
    }

    /// The lists of revoked certificates; `None` where revocation is not looked at.
    pub fn crls(&self) -> Option<&Crls> {
        self.crls.as_ref()
    }

    /// Each authority, with its dates.
    pub(super) fn anchors(&self) -> &[Anchor] {
        &self.authorities.0
    }

    /// Those that the way up from this leaf may end at now.
    pub(super) fn trusted(&self, leaf: &[u8], now: Timestamp) -> Vec<TrustAnchor<'static>> {
        let fit = |anchor: &&Anchor| anchor.fit_for(leaf, now).is_ok();
        self.authorities.0.iter().filter(fit).map(|anchor| anchor.trusted().clone()).collect()
    }

    pub(super) fn lists(&self) -> Vec<&CertRevocationList<'static>> {
        self.crls.iter().flat_map(|crls| &crls.0).map(|crl| &*crl.list).collect()
    }

    /// The moments at which a list expires. It is good through that second.
    pub(super) fn moments(&self) -> impl Iterator<Item = Timestamp> {
        self.crls.iter().flat_map(|crls| &crls.0).map(|crl| crl.next_update)
    }
}

impl std::fmt::Debug for ClientTrust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let crls = self.crls.as_ref().map(Crls::len);
        write!(f, "ClientTrust({} authorities, {crls:?} lists)", self.authorities.len())
    }
}
