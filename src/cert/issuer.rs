//! The site's own CA: issues the root *SMS Issuing*, the role-signing CA below it, and the
//! certificates of site systems.
//!
//! One of the few files that use rcgen. Returns keys as PEM for the caller to store; writes
//! nothing.

mod crl;
mod scope;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, CustomExtension, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::ServerName;

use crate::unfit::Unfit;

pub use crl::{CrlOutline, Revocation, RevocationReason};
pub use scope::Scope;

pub use super::template::{CertAlgorithm, Pair};

use super::export::{SEQUENCE, tlv};
use super::facts::outline;
use super::request::SigningRequest;
use super::template::{after, failed, generate, leaf, set_validity, subject};
use super::{CredentialFault, Facts, certificate_der};

const DAY: i64 = 24 * 60 * 60;
const ROOT_LIFE: i64 = 3653 * DAY;
const ROLE_LIFE: i64 = 1826 * DAY;
const LEAF_LIFE: i64 = 90 * DAY;
/// How much before its issue a certificate becomes valid, in seconds: clients' clocks are behind
/// ours as often as ahead.
pub const BACKDATED: i64 = 60 * 60;

/// Makes the root: ten years, at most one CA below it. `site_code` and the date distinguish it from
/// other sites' roots and from its successors, and its generation from one of the same day.
///
/// # Errors
/// [`Unfit::NotIssued`] with the cryptography's error.
pub fn root(
    site_code: &str,
    generation: u32,
    scope: &Scope,
    algorithm: CertAlgorithm,
    now: Timestamp,
) -> Result<Pair, CredentialFault> {
    root_for(&generate(algorithm)?, site_code, generation, scope, now)
}

/// Makes the root certificate for an existing key: completes a first start that was interrupted.
///
/// # Errors
/// [`Unfit::NotIssued`] if the key is invalid or the cryptography fails.
pub fn root_of(
    key: &str,
    site_code: &str,
    scope: &Scope,
    now: Timestamp,
) -> Result<Pair, CredentialFault> {
    root_for(&KeyPair::from_pem(key).map_err(failed)?, site_code, 1, scope, now)
}

fn root_for(
    key: &KeyPair,
    site_code: &str,
    generation: u32,
    scope: &Scope,
    now: Timestamp,
) -> Result<Pair, CredentialFault> {
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

/// The certificate of the key that signs the site's tokens, as DER. No chain is built to it: it
/// identifies the key by its thumbprint, as Configuration Manager's own tokens do.
///
/// # Errors
/// [`Unfit::NotIssued`] if the key is invalid or the cryptography fails.
pub fn token_certificate(
    pkcs8: &[u8],
    site_code: &str,
    now: Timestamp,
) -> Result<Vec<u8>, CredentialFault> {
    let key = KeyPair::from_pem(&pem("PRIVATE KEY", pkcs8)).map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject("SMS Token Signing".to_owned(), Some(site_code.to_owned()));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    set_validity(&mut params, after(now, -BACKDATED), after(now, ROOT_LIFE));
    Ok(params.self_signed(&key).map_err(failed)?.der().to_vec())
}

/// Whether a certificate was signed with the key of a CA; `authority` is that CA's certificate as
/// PEM.
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

/// A CA that can sign: its certificate and its key.
pub struct Signer {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    facts: Facts,
    points: Option<Points>,
}

/// The URLs of a CA's publications; written into the certificates it signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Points {
    /// Its CRL (RFC 5280 §4.2.1.13).
    pub crl: String,
    /// Its certificate (caIssuers, RFC 5280 §4.2.2.1).
    pub certificate: String,
}

impl Signer {
    /// Reads a CA's certificate and key from PEM.
    ///
    /// # Errors
    /// [`Unfit::Malformed`], or [`Unfit::KeyMismatch`] if they do not belong together.
    pub fn load(certificate: &str, key: &str) -> Result<Self, CredentialFault> {
        let der = certificate_der(certificate.as_bytes())?;
        let read = outline(&der)?;
        let key =
            KeyPair::from_pem(key).map_err(|_| CredentialFault::new(Unfit::Malformed, "key"))?;
        if rcgen::PublicKeyData::subject_public_key_info(&key) != read.spki {
            return Err(Unfit::KeyMismatch.into());
        }
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(|e| CredentialFault::new(Unfit::Malformed, e.to_string()))?;
        let certificate = certificate.to_owned();
        Ok(Signer { issuer, certificate, facts: read.facts, points: None })
    }

    /// The same, with the URLs of its CRL and its certificate in the certificates it signs.
    pub fn publishing(self, points: Option<Points>) -> Self {
        Signer { points, ..self }
    }

    /// The facts of the CA's certificate.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The CA's certificate as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Whether this CA's key signed the other's certificate.
    pub fn signed(&self, other: &Signer) -> bool {
        let other = certificate_der(other.certificate.as_bytes());
        other.is_ok_and(|other| is_signed_by(&self.certificate, &other))
    }

    /// Makes the role-signing CA: five years, no CA below it, the same constraints.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`].
    pub fn role(
        &self,
        scope: &Scope,
        algorithm: CertAlgorithm,
        now: Timestamp,
    ) -> Result<Pair, CredentialFault> {
        self.sign(authority("SMS Role Signing", None, 0, scope), ROLE_LIFE, algorithm, now)
    }

    /// Makes the certificate of a site system, which Windows calls *SMS Role SSL Certificate*: 90
    /// days, for all its hosts. The chain includes this CA's certificate.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`].
    pub fn leaf(
        &self,
        name: &str,
        hosts: &[ServerName<'static>],
        algorithm: CertAlgorithm,
        now: Timestamp,
    ) -> Result<Pair, CredentialFault> {
        let params = leaf(name, hosts)?;
        let mut pair = self.sign(params, LEAF_LIFE, algorithm, now)?;
        pair.certificate.push_str(&self.certificate);
        Ok(pair)
    }

    /// As [`Signer::leaf`], for the key of a certificate request: returns the chain and its facts.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`].
    pub fn leaf_of(
        &self,
        request: &SigningRequest,
        name: &str,
        hosts: &[ServerName<'static>],
        now: Timestamp,
    ) -> Result<(String, Facts), CredentialFault> {
        let mut params = leaf(name, hosts)?;
        self.limit(&mut params, LEAF_LIFE, now);
        let certificate = params.signed_by(&request.key, &self.issuer).map_err(failed)?;
        let facts = outline(certificate.der())?.facts;
        Ok((format!("{}{}", certificate.pem(), self.certificate), facts))
    }

    /// Signs for a new key.
    fn sign(
        &self,
        mut params: CertificateParams,
        life: i64,
        algorithm: CertAlgorithm,
        now: Timestamp,
    ) -> Result<Pair, CredentialFault> {
        self.limit(&mut params, life, now);
        let key = generate(algorithm)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem().into() })
    }

    /// Sets the validity, never beyond the CA's own, and the URLs of the CRL and of the CA
    /// certificate.
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

fn authority(name: &str, unit: Option<String>, below: u8, scope: &Scope) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(name.to_owned(), unit);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.custom_extensions = vec![scope.constraints()];
    params.use_authority_key_identifier_extension = true;
    params
}

#[cfg(test)]
mod tests;
