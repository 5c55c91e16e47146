//! How the site issues its own: the root *SMS Issuing*, the role-signing authority below it, and
//! the certificates of site systems.
//!
//! One of the few files that know rcgen. Hands out keys as PEM for the caller to keep; writes
//! nothing.

mod crl;
mod scope;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, CustomExtension, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, RsaKeySize, SanType,
};
use rustls_pki_types::ServerName;
use zeroize::Zeroizing;

use crate::unfit::Unfit;

pub use crl::{CrlOutline, Revocation, RevocationReason};
pub use scope::Scope;

use super::export::{SEQUENCE, tlv};
use super::facts::outline;
use super::request::Request;
use super::{Facts, Fault, certificate_der};

/// The kind of key that the site issues with and for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256: small, fast, and all that the older Windows have in common with us.
    #[default]
    P256,
    /// RSA of 2048 bits, for clients that take nothing else.
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

const DAY: i64 = 24 * 60 * 60;
const ROOT_LIFE: i64 = 3653 * DAY;
const ROLE_LIFE: i64 = 1826 * DAY;
const LEAF_LIFE: i64 = 90 * DAY;
/// How much earlier than its issue a certificate begins, in seconds: clients' clocks are behind ours
/// as often as ahead.
pub const BACKDATED: i64 = 60 * 60;

/// Make the root: ten years, at most one authority below it. `site_code` and the date tell it
/// apart from other sites' and from its successors, and its generation from one of the same day.
///
/// # Errors
/// [`Unfit::NotIssued`] with what the cryptography says.
pub fn root(
    (site_code, generation): (&str, u32),
    scope: &Scope,
    algorithm: Algorithm,
    now: Timestamp,
) -> Result<Pair, Fault> {
    root_for(&generate(algorithm)?, (site_code, generation), scope, now)
}

/// Make the root certificate for a key that exists: finishes a first start that was cut short.
///
/// # Errors
/// [`Unfit::NotIssued`] where the key is none or the cryptography fails.
pub fn root_of(key: &str, site_code: &str, scope: &Scope, now: Timestamp) -> Result<Pair, Fault> {
    root_for(&KeyPair::from_pem(key).map_err(failed)?, (site_code, 1), scope, now)
}

fn root_for(
    key: &KeyPair,
    (site_code, generation): (&str, u32),
    scope: &Scope,
    now: Timestamp,
) -> Result<Pair, Fault> {
    let date = now.strftime("%Y-%m-%d");
    let unit = match generation {
        0 | 1 => format!("{site_code} {date}"),
        later => format!("{site_code} {date} {later}"),
    };
    let mut params = authority("SMS Issuing", Some(unit), 1, scope);
    set_validity(&mut params, after(now, -BACKDATED), after(now, ROOT_LIFE));
    let certificate = params.self_signed(key).map_err(failed)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem().into() })
}

/// The certificate of the key that signs the site's tokens, as DER. Nobody builds a chain to it: it
/// names the key by its thumbprint, as Configuration Manager's own tokens do.
///
/// # Errors
/// [`Unfit::NotIssued`] where the key is none or the cryptography fails.
pub fn token_certificate(pkcs8: &[u8], site_code: &str, now: Timestamp) -> Result<Vec<u8>, Fault> {
    let key = KeyPair::from_pem(&pem("PRIVATE KEY", pkcs8)).map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject("SMS Token Signing".to_owned(), Some(site_code.to_owned()));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    set_validity(&mut params, after(now, -BACKDATED), after(now, ROOT_LIFE));
    Ok(params.self_signed(&key).map_err(failed)?.der().to_vec())
}

/// Whether the key of an authority, of which the certificate is given as PEM, signed a certificate.
pub fn is_signed_by(authority: &str, certificate: &[u8]) -> bool {
    let Ok(authority) = certificate_der(authority.as_bytes()) else { return false };
    let parsed = (
        x509_parser::parse_x509_certificate(&authority),
        x509_parser::parse_x509_certificate(certificate),
    );
    let (Ok((_, own)), Ok((_, theirs))) = parsed else { return false };
    theirs.issuer() == own.subject() && theirs.verify_signature(Some(own.public_key())).is_ok()
}

/// DER in its textual form (RFC 7468).
pub fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// An authority that can sign: its certificate and its key.
pub struct Signer {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    facts: Facts,
    points: Option<Points>,
}

/// Where clients find what an authority publishes; written into what it signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Points {
    /// Its list of revoked certificates (RFC 5280 §4.2.1.13).
    pub crl: String,
    /// Its certificate (caIssuers, RFC 5280 §4.2.2.1).
    pub certificate: String,
}

impl Signer {
    /// Read an authority's certificate and key from PEM.
    ///
    /// # Errors
    /// [`Unfit::Malformed`], or [`Unfit::KeyMismatch`] where they are not of one issue.
    pub fn load(certificate: &str, key: &str) -> Result<Self, Fault> {
        let der = certificate_der(certificate.as_bytes())?;
        let read = outline(&der)?;
        let key = KeyPair::from_pem(key).map_err(|_| Fault::new(Unfit::Malformed, "key"))?;
        if rcgen::PublicKeyData::subject_public_key_info(&key) != read.spki {
            return Err(Unfit::KeyMismatch.into());
        }
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(|e| Fault::new(Unfit::Malformed, e.to_string()))?;
        let certificate = certificate.to_owned();
        Ok(Signer { issuer, certificate, facts: read.facts, points: None })
    }

    /// The same, with what it signs saying where its list and its certificate are found.
    pub fn publishing(self, points: Option<Points>) -> Self {
        Signer { points, ..self }
    }

    /// What the authority's certificate says about itself.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The authority's certificate as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Whether this authority's key signed the other's certificate.
    pub fn signed(&self, other: &Signer) -> bool {
        let other = certificate_der(other.certificate.as_bytes());
        other.is_ok_and(|other| is_signed_by(&self.certificate, &other))
    }

    /// Make the role-signing authority: five years, no authority below it, the same constraints.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`].
    pub fn role(&self, scope: &Scope, algorithm: Algorithm, now: Timestamp) -> Result<Pair, Fault> {
        self.sign(authority("SMS Role Signing", None, 0, scope), ROLE_LIFE, algorithm, now)
    }

    /// Make the certificate of a site system, which Windows calls *SMS Role SSL Certificate*: 90
    /// days, for all its hosts. The chain has this authority's certificate in it.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`].
    pub fn leaf(
        &self,
        name: &str,
        hosts: &[ServerName<'static>],
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<Pair, Fault> {
        let params = leaf(name, hosts)?;
        let mut pair = self.sign(params, LEAF_LIFE, algorithm, now)?;
        pair.certificate.push_str(&self.certificate);
        Ok(pair)
    }

    /// As [`Signer::leaf`], for a key that is somebody else's: the chain, and what it says.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`].
    pub fn leaf_of(
        &self,
        request: &Request,
        name: &str,
        hosts: &[ServerName<'static>],
        now: Timestamp,
    ) -> Result<(String, Facts), Fault> {
        let mut params = leaf(name, hosts)?;
        self.limit(&mut params, LEAF_LIFE, now);
        let certificate = params.signed_by(&request.key, &self.issuer).map_err(failed)?;
        let facts = outline(certificate.der())?.facts;
        Ok((format!("{}{}", certificate.pem(), self.certificate), facts))
    }

    /// Sign for a new key.
    fn sign(
        &self,
        mut params: CertificateParams,
        life: i64,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<Pair, Fault> {
        self.limit(&mut params, life, now);
        let key = generate(algorithm)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem().into() })
    }

    /// Nothing outlives its authority, and everything says where its list is.
    fn limit(&self, params: &mut CertificateParams, life: i64, now: Timestamp) {
        let own = self.facts.not_after.as_second().saturating_sub(now.as_second());
        set_validity(params, after(now, -BACKDATED), after(now, life.min(own)));
        if let Some(points) = &self.points {
            let point = CrlDistributionPoint { uris: vec![points.crl.clone()] };
            params.crl_distribution_points = vec![point];
            params.custom_extensions.push(ca_issuers(&points.certificate));
        }
    }
}

/// Authority information access with one location (RFC 5280 §4.2.2.1).
fn ca_issuers(url: &str) -> CustomExtension {
    const ACCESS: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 1];
    const CA_ISSUERS: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02];
    let (object_identifier, uri) = (0x06, 0x86);
    let location = [tlv(object_identifier, CA_ISSUERS), tlv(uri, url.as_bytes())].concat();
    CustomExtension::from_oid_content(ACCESS, tlv(SEQUENCE, &tlv(SEQUENCE, &location)))
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("subject", &self.facts.subject).finish_non_exhaustive()
    }
}

pub(super) fn leaf(name: &str, hosts: &[ServerName<'static>]) -> Result<CertificateParams, Fault> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(common_name(name, hosts), None);
    params.subject_alt_names = hosts.iter().map(alternative).collect::<Result<_, _>>()?;
    // Says CA:FALSE aloud, and makes rcgen write the subject key identifier.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn authority(name: &str, unit: Option<String>, below: u8, scope: &Scope) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(name.to_owned(), unit);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.custom_extensions = vec![scope.constraints()];
    params.use_authority_key_identifier_extension = true;
    params
}

fn subject(common_name: String, unit: Option<String>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    if let Some(unit) = unit {
        name.push(DnType::OrganizationalUnitName, unit);
    }
    name
}

/// The first host, if it fits (RFC 5280 appendix A.1, ub-common-name). An address there would be
/// taken for a DNS name by clients that hold common names to the name constraints too, and a
/// constrained chain would fail; words with a space are not.
fn common_name(name: &str, hosts: &[ServerName<'static>]) -> String {
    match hosts.first() {
        Some(ServerName::DnsName(host)) if host.as_ref().len() <= 64 => host.as_ref().to_owned(),
        _ => format!("Site system {name}"),
    }
}

fn alternative(host: &ServerName<'static>) -> Result<SanType, Fault> {
    match host {
        ServerName::DnsName(name) => {
            let name = name.as_ref().to_owned().try_into().map_err(failed)?;
            Ok(SanType::DnsName(name))
        }
        ServerName::IpAddress(ip) => Ok(SanType::IpAddress((*ip).into())),
        _ => Err(Fault::new(Unfit::NotIssued, "a host is neither DNS name nor IP address")),
    }
}

pub(super) fn generate(algorithm: Algorithm) -> Result<KeyPair, Fault> {
    match algorithm {
        Algorithm::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        Algorithm::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
    }
    .map_err(failed)
}

/// Set the validity, kept within what a certificate can say.
pub(super) fn set_validity(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch(from);
    params.not_after = epoch + since_epoch(until);
}

/// A time within what a certificate can say, counted from 1970.
fn since_epoch(time: Timestamp) -> Duration {
    Duration::from_secs(time.as_second().clamp(0, 253_402_300_799).unsigned_abs())
}

fn after(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now)
}

fn failed(error: rcgen::Error) -> Fault {
    Fault::new(Unfit::NotIssued, error.to_string())
}

#[cfg(test)]
mod tests;
