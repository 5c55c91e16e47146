//! Client trust of a site system: its CAs and their CRLs.
//!
//! Parses whole files or nothing. The caller decides which of them are in force.

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::asn1_rs::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::anchor::Anchor;
use crate::clock::second;
use crate::pem::{self, PemPart};

/// Why a file is not used, for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// The CAs of one file.
#[derive(Clone, Debug, Default)]
pub struct Authorities(Vec<Anchor>);

impl Authorities {
    /// Parses every certificate of a file, PEM, DER or PKCS#7, as a trust anchor (RFC 5280 §6.1.1
    /// d).
    ///
    /// # Errors
    /// If one of them cannot be read, or there is none.
    pub fn parse(file: &[u8]) -> Result<Self, Unusable> {
        let anchor = |der: &CertificateDer<'_>| {
            Anchor::new(der).map_err(|error| Unusable(format!("not a certificate: {error:?}")))
        };
        let found = pem::certificates(file).map_err(|fault| Unusable(fault.to_string()))?;
        let anchors: Vec<_> = found.iter().map(anchor).collect::<Result<_, Unusable>>()?;
        if anchors.is_empty() {
            Err(Unusable("there is no certificate in it".to_owned()))
        } else {
            Ok(Authorities(anchors))
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

    /// The currently trusted CAs that expire within 30 days, and when.
    pub fn ending(&self, now: Timestamp) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(move |anchor| anchor.ending(now))
    }

    /// The faults of the CAs that are not trusted now, as sentences.
    pub fn faults(&self, now: Timestamp) -> impl Iterator<Item = String> {
        let told = move |anchor: &Anchor| {
            let fault = anchor.ended(now)?;
            Some(format!(
                "the authority {} {fault}: no certificate it issued is trusted",
                anchor.subject()
            ))
        };
        self.0.iter().filter_map(told)
    }
}

/// The CRLs of one or more files, the newest first.
#[derive(Clone, Debug, Default)]
pub struct Crls(Vec<Crl>);

#[derive(Clone, Debug)]
struct Crl {
    list: std::sync::Arc<CertRevocationList<'static>>,
    this_update: Timestamp,
    next_update: Timestamp,
}

impl Crls {
    /// Parses every CRL of a file, PEM or DER (RFC 5280 §5).
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
                PemPart::Crl(der) => found.push(crl(&der)?),
                PemPart::Broken => return Err(Unusable("not well-formed PEM".to_owned())),
                _ => {}
            }
        }
        if found.is_empty() {
            Err(Unusable("there is no CRL in it".to_owned()))
        } else {
            Ok(Crls(found))
        }
    }

    /// These and others. Of two CRLs for the same certificates, the newer one is checked.
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

/// webpki parses the CRL for verification but does not expose its expiry.
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

/// The trust for a site system's clients.
#[derive(Clone)]
pub struct ClientTrust {
    pub(super) authorities: Authorities,
    /// `None` if revocation is not checked.
    pub(super) crls: Option<Crls>,
    pub(super) expired_crls_count: bool,
    pub(super) algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
}

impl ClientTrust {
    /// Trusts these CAs. With CRLs, a client's certificate must be covered by one;
    /// `expired_crls_count` decides whether an expired one still counts.
    pub fn new(
        authorities: Authorities,
        crls: Option<Crls>,
        expired_crls_count: bool,
        provider: &CryptoProvider,
    ) -> Self {
        let algorithms = provider.signature_verification_algorithms.all;
        ClientTrust { authorities, crls, expired_crls_count, algorithms }
    }

    /// How many CAs there are.
    pub fn authorities(&self) -> usize {
        self.authorities.len()
    }

    /// The CRLs; `None` if revocation is not checked.
    pub fn crls(&self) -> Option<&Crls> {
        self.crls.as_ref()
    }

    /// Each CA, with its validity.
    pub(super) fn anchors(&self) -> &[Anchor] {
        &self.authorities.0
    }

    /// The trust anchors that a chain from this leaf may end at now.
    pub(super) fn trusted(&self, leaf: &[u8], now: Timestamp) -> Vec<TrustAnchor<'static>> {
        let fit = |anchor: &&Anchor| anchor.fit_for(leaf, now).is_ok();
        self.authorities.0.iter().filter(fit).map(|anchor| anchor.trusted().clone()).collect()
    }

    pub(super) fn lists(&self) -> Vec<&CertRevocationList<'static>> {
        self.crls.iter().flat_map(|crls| &crls.0).map(|crl| &*crl.list).collect()
    }

    /// The times at which a CRL expires. It is valid through that second.
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
