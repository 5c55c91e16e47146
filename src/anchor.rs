//! A trusted root certificate, and whether it may be trusted now.
//!
//! RFC 5280 §6.1.1 leaves the validity dates of trust anchors to the relying party, and webpki
//! checks only their names and keys; clients refuse a chain to an expired root.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use crate::clock::second;

/// How long before its end a warning is given for an authority. Its successor has to reach all
/// clients first.
const ENDING: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Whether an authority that is valid until `until` ends within 30 days, or has ended.
pub fn ends_soon(until: Timestamp, now: Timestamp) -> bool {
    now.checked_add(ENDING).is_ok_and(|soon| until <= soon)
}

/// A trusted root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    trusted: TrustAnchor<'static>,
    der: CertificateDer<'static>,
    subject: String,
    from: Timestamp,
    until: Timestamp,
    flaw: Option<AnchorFault>,
}

/// Why a root is not trusted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnchorFault {
    /// RFC 5280 §4.1.2.5: the end of its validity.
    Expired(Timestamp),
    /// RFC 5280 §4.1.2.5: the start of its validity.
    NotYetValid(Timestamp),
    /// RFC 5280 §4.2.1.3 and §4.2.1.9.
    NoAuthority,
    /// RFC 5280 §4.2: an unknown critical extension, by its OID.
    CriticalUnknown(String),
}

impl fmt::Display for AnchorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnchorFault::Expired(until) => write!(f, "was valid until {until}"),
            AnchorFault::NotYetValid(from) => write!(f, "is valid from {from}"),
            AnchorFault::NoAuthority => {
                f.write_str("may not sign certificates, by its basic constraints or key usage")
            }
            AnchorFault::CriticalUnknown(oid) => {
                write!(f, "has the critical extension {oid}, which is not known")
            }
        }
    }
}

impl std::error::Error for AnchorFault {}

impl Anchor {
    /// Parses a certificate as a root.
    ///
    /// # Errors
    /// The parser's error if the bytes are not a certificate.
    pub fn new(der: &CertificateDer<'_>) -> Result<Self, webpki::Error> {
        let trusted = webpki::anchor_from_trusted_cert(der)?.to_owned();
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| webpki::Error::BadDer)?;
        let validity = certificate.validity();
        Ok(Anchor {
            trusted,
            der: der.clone().into_owned(),
            subject: certificate.subject().to_string(),
            from: second(validity.not_before.timestamp()),
            until: second(validity.not_after.timestamp()),
            flaw: flaw(&certificate),
        })
    }

    /// The root as a webpki trust anchor.
    pub fn trusted(&self) -> &TrustAnchor<'static> {
        &self.trusted
    }

    /// The certificate itself.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Its distinguished name.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Its last second.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// Checks that a chain from this leaf may end at this root at that time. A leaf that is listed
    /// as a root itself need not be a CA: the operator then trusts this one certificate.
    ///
    /// # Errors
    /// Why it may not.
    pub fn fit_for(&self, leaf: &[u8], now: Timestamp) -> Result<(), AnchorFault> {
        match self.fit_at(now) {
            Err(AnchorFault::NoAuthority) if self.der.as_ref() == leaf => Ok(()),
            verdict => verdict,
        }
    }

    /// The fault that keeps it from being trusted now, for a check of the root alone. `NoAuthority`
    /// is not counted: the operator may trust a leaf directly.
    pub fn ended(&self, now: Timestamp) -> Option<AnchorFault> {
        self.fit_at(now).err().filter(|fault| *fault != AnchorFault::NoAuthority)
    }

    /// Its name and its end, if it is trusted now and ends within 30 days.
    pub fn ending(&self, now: Timestamp) -> Option<String> {
        let soon = self.ended(now).is_none() && ends_soon(self.until, now);
        soon.then(|| format!("{} ends {}", self.subject, self.until))
    }

    /// The times at which it begins and ceases to be trusted.
    pub fn moments(&self) -> [Timestamp; 2] {
        let ended = self.until.checked_add(SignedDuration::from_secs(1));
        [self.from, ended.unwrap_or(Timestamp::MAX)]
    }

    /// Checks that it may be trusted at that time.
    ///
    /// # Errors
    /// Why not.
    pub fn fit_at(&self, now: Timestamp) -> Result<(), AnchorFault> {
        if now.as_second() > self.until.as_second() {
            return Err(AnchorFault::Expired(self.until));
        }
        if now.as_second() < self.from.as_second() {
            return Err(AnchorFault::NotYetValid(self.from));
        }
        self.flaw.clone().map_or(Ok(()), Err)
    }
}

/// A fault that does not depend on the time. Certificates before version 3 have no extensions, so
/// nothing says whether they are a CA's: clients trust the operator's choice.
fn flaw(certificate: &X509Certificate<'_>) -> Option<AnchorFault> {
    let mut is_authority = certificate.version().0 < 2;
    let mut may_sign = true;
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(basic) => is_authority = basic.ca,
            ParsedExtension::KeyUsage(usage) => may_sign = usage.key_cert_sign(),
            ParsedExtension::ExtendedKeyUsage(_)
            | ParsedExtension::SubjectAlternativeName(_)
            | ParsedExtension::IssuerAlternativeName(_)
            | ParsedExtension::NameConstraints(_)
            | ParsedExtension::CertificatePolicies(_)
            | ParsedExtension::PolicyMappings(_)
            | ParsedExtension::PolicyConstraints(_)
            | ParsedExtension::InhibitAnyPolicy(_)
            | ParsedExtension::CRLDistributionPoints(_) => {}
            _ if extension.critical => {
                return Some(AnchorFault::CriticalUnknown(extension.oid.to_id_string()));
            }
            _ => {}
        }
    }
    (!is_authority || !may_sign).then_some(AnchorFault::NoAuthority)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyUsagePurpose};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn root(change: impl FnOnce(&mut CertificateParams)) -> Anchor {
        let mut params = CertificateParams::default();
        let at = |seconds: i64| {
            rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds as u64)
        };
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = at(NOW - 100);
        params.not_after = at(NOW + 100);
        change(&mut params);
        let key = rcgen::KeyPair::generate().unwrap();
        Anchor::new(params.self_signed(&key).unwrap().der()).unwrap()
    }

    #[test]
    fn a_root_is_trusted_within_its_dates() {
        let root = root(|_| ());
        for (now, expected) in [
            (NOW - 101, Err(AnchorFault::NotYetValid(second(NOW - 100)))),
            (NOW - 100, Ok(())),
            (NOW + 100, Ok(())),
            (NOW + 101, Err(AnchorFault::Expired(second(NOW + 100)))),
        ] {
            assert_eq!(root.fit_at(second(now)), expected);
        }
        assert_eq!(root.moments(), [second(NOW - 100), second(NOW + 101)]);
    }

    #[test]
    fn a_root_is_an_authority_and_understood() {
        let unknown = |critical: bool| {
            let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
            extension.set_criticality(critical);
            root(|params| params.custom_extensions = vec![extension])
        };
        let fit = |root: &Anchor| root.fit_at(second(NOW));
        assert_eq!(fit(&unknown(false)), Ok(()));
        let oid = "1.2.3.4".to_owned();
        assert_eq!(fit(&unknown(true)), Err(AnchorFault::CriticalUnknown(oid)));
        assert_eq!(fit(&root(|p| p.key_usages.clear())), Ok(()));
        let no_authority = Err(AnchorFault::NoAuthority);
        for spoilt in [
            root(|p| p.is_ca = IsCa::ExplicitNoCa),
            root(|p| p.is_ca = IsCa::NoCa),
            root(|p| p.key_usages = vec![KeyUsagePurpose::CrlSign]),
        ] {
            assert_eq!(fit(&spoilt), no_authority);
        }
    }
}
