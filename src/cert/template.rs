//! Keys, and the parameters of the certificates and requests that are made for them.
//!
//! One of the few files that use rcgen.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, RsaKeySize, SanType,
};
use rustls_pki_types::ServerName;
use zeroize::Zeroizing;

use super::CredentialFault;
use crate::unfit::Unfit;

/// The kind of key that the site signs with and issues for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertAlgorithm {
    /// ECDSA on P-256: small, fast, and the only curve that older Windows versions also support.
    #[default]
    P256,
    /// RSA of 2048 bits, for clients that accept nothing else.
    Rsa2048,
}

/// A certificate and its key, as PEM.
pub struct Pair {
    /// The chain to serve, leaf first; for a root, itself.
    pub certificate: String,
    /// The key, PKCS#8; wiped when dropped.
    pub key: Zeroizing<String>,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// The parameters of a site system's certificate.
pub(super) fn leaf(
    name: &str,
    hosts: &[ServerName<'static>],
) -> Result<CertificateParams, CredentialFault> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(common_name(name, hosts), None);
    params.subject_alt_names = hosts.iter().map(alternative).collect::<Result<_, _>>()?;
    // States CA:FALSE explicitly, and makes rcgen write the subject key identifier.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A distinguished name with at most a common name and an organizational unit.
pub(super) fn subject(common_name: String, unit: Option<String>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    if let Some(unit) = unit {
        name.push(DnType::OrganizationalUnitName, unit);
    }
    name
}

/// The first host, if it fits (RFC 5280 appendix A.1, ub-common-name). Clients that apply name
/// constraints to common names too would take an address there for a DNS name, and a constrained
/// chain would fail; text with a space is not taken for a name.
fn common_name(name: &str, hosts: &[ServerName<'static>]) -> String {
    match hosts.first() {
        Some(ServerName::DnsName(host)) if host.as_ref().len() <= 64 => host.as_ref().to_owned(),
        _ => format!("Site system {name}"),
    }
}

fn alternative(host: &ServerName<'static>) -> Result<SanType, CredentialFault> {
    match host {
        ServerName::DnsName(name) => {
            let name = name.as_ref().to_owned().try_into().map_err(failed)?;
            Ok(SanType::DnsName(name))
        }
        ServerName::IpAddress(ip) => Ok(SanType::IpAddress((*ip).into())),
        _ => Err(CredentialFault::new(
            Unfit::NotIssued,
            "a host is neither a DNS name nor an IP address",
        )),
    }
}

/// Makes a key.
pub(super) fn generate(algorithm: CertAlgorithm) -> Result<KeyPair, CredentialFault> {
    match algorithm {
        CertAlgorithm::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        CertAlgorithm::Rsa2048 => {
            KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)
        }
    }
    .map_err(failed)
}

/// Sets the validity, clamped to the range that a certificate can express.
pub(super) fn set_validity(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch(from);
    params.not_after = epoch + since_epoch(until);
}

/// A time since 1970, clamped to the range that a certificate can express.
pub(super) fn since_epoch(time: Timestamp) -> Duration {
    Duration::from_secs(time.as_second().clamp(0, 253_402_300_799).unsigned_abs())
}

/// A time some seconds later.
pub(super) fn after(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now)
}

/// The fault of a certificate that could not be made.
pub(super) fn failed(error: rcgen::Error) -> CredentialFault {
    CredentialFault::new(Unfit::NotIssued, error.to_string())
}
