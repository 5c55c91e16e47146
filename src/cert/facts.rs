//! The fields of a certificate, in readable form for status, log and page.
//!
//! Reads DER and checks nothing; no verdict may depend on the display-only fields.

use std::net::IpAddr;

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use crate::clock::second;
use crate::unfit::Unfit;

use super::CredentialFault;

/// The kind of a certificate's public key, as relevant to TLS clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// RSA of any size.
    Rsa,
    /// ECDSA on NIST P-256 (secp256r1).
    P256,
    /// ECDSA on NIST P-384 (secp384r1).
    P384,
    /// Everything else: other curves, Ed25519, RSA bound to PSS.
    Other,
}

/// The fields of a certificate (RFC 5280 §4.1 and §4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The subject's distinguished name.
    pub subject: String,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// The serial number, upper-case hex.
    pub serial: String,
    /// DNS names of the subject alternative name.
    pub dns: Vec<String>,
    /// IP addresses of the subject alternative name.
    pub ips: Vec<IpAddr>,
    /// First second of validity.
    pub not_before: Timestamp,
    /// Last second of validity.
    pub not_after: Timestamp,
    /// SHA-1 of the DER, upper-case hex: the thumbprint as Windows shows it.
    pub sha1: String,
    /// SHA-256 of the DER, upper-case hex.
    pub sha256: String,
    /// The kind of the public key.
    pub key: KeyKind,
    /// The size of the public key in bits.
    pub key_bits: usize,
    /// The algorithm of the issuer's signature.
    pub signature: String,
    /// Whether that signature uses SHA-2 or better.
    pub signature_strong: bool,
    /// Whether it is a CA certificate (basic constraints).
    pub is_ca: bool,
    /// Extended key usages: `serverAuth` and so on, or dotted for unknown ones.
    pub usages: Vec<String>,
    /// Whether its key usage, if present, permits digital signatures (TLS 1.3 requires that).
    pub may_sign: bool,
    /// Critical extensions that clients would not understand, dotted.
    pub critical_unknown: Vec<String>,
}

impl Facts {
    /// The facts of a certificate, from its DER.
    ///
    /// # Errors
    /// [`Unfit::Malformed`].
    pub fn of(der: &[u8]) -> Result<Self, CredentialFault> {
        outline(der).map(|outline| outline.facts)
    }

    /// The facts of the first certificate in PEM.
    ///
    /// # Errors
    /// [`Unfit::Malformed`] if there is none.
    pub fn of_pem(pem: &str) -> Result<Facts, CredentialFault> {
        Ok(outline(&super::certificate_der(pem.as_bytes())?)?.facts)
    }

    /// When the certificate should be renewed: at two thirds of its lifetime.
    pub fn renewal(&self) -> Timestamp {
        let life = self.not_after.as_second().saturating_sub(self.not_before.as_second());
        second(self.not_before.as_second().saturating_add(life / 3 * 2))
    }

    /// Whether the time of renewal has come.
    pub fn renewal_due(&self, now: Timestamp) -> bool {
        now >= self.renewal()
    }

    /// Whether `now` lies within the validity, both ends included (RFC 5280 §4.1.2.5).
    pub fn valid_at(&self, now: Timestamp) -> bool {
        self.not_before.as_second() <= now.as_second()
            && now.as_second() <= self.not_after.as_second()
    }

    /// The first moment at which the certificate is no longer valid.
    pub fn invalid_from(&self) -> Timestamp {
        self.not_after.checked_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX)
    }

    /// Whether the extended key usages include serverAuth explicitly.
    pub fn server_auth(&self) -> bool {
        self.usages.iter().any(|usage| usage == "serverAuth")
    }
}

/// Facts, and the raw fields by which certificates of one file are matched.
pub(super) struct Outline {
    pub facts: Facts,
    pub subject: Vec<u8>,
    pub issuer: Vec<u8>,
    /// The DER integer, with its sign byte.
    pub serial: Vec<u8>,
    pub spki: Vec<u8>,
}

/// Reads one certificate.
pub(super) fn outline(der: &[u8]) -> Result<Outline, CredentialFault> {
    let malformed =
        |why: String| CredentialFault::new(Unfit::Malformed, format!("certificate: {why}"));
    let (rest, x509) =
        x509_parser::parse_x509_certificate(der).map_err(|e| malformed(e.to_string()))?;
    if !rest.is_empty() {
        return Err(malformed(format!("{} bytes too many", rest.len())));
    }
    Ok(Outline {
        facts: facts(der, &x509),
        subject: x509.subject().as_raw().to_vec(),
        issuer: x509.issuer().as_raw().to_vec(),
        serial: x509.raw_serial().to_vec(),
        spki: x509.public_key().raw.to_vec(),
    })
}

fn facts(der: &[u8], x509: &X509Certificate<'_>) -> Facts {
    let (key, key_bits) = key(x509.public_key());
    let (signature, signature_strong) = signature(&x509.signature_algorithm);
    let mut facts = Facts {
        subject: x509.subject().to_string(),
        issuer: x509.issuer().to_string(),
        serial: hex(x509.raw_serial()),
        dns: Vec::new(),
        ips: Vec::new(),
        not_before: second(x509.validity().not_before.timestamp()),
        not_after: second(x509.validity().not_after.timestamp()),
        sha1: hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref()),
        sha256: hex(digest::digest(&digest::SHA256, der).as_ref()),
        key,
        key_bits,
        signature,
        signature_strong,
        is_ca: false,
        usages: Vec::new(),
        may_sign: true,
        critical_unknown: Vec::new(),
    };
    for extension in x509.extensions() {
        let understood = note(&mut facts, extension.parsed_extension());
        if extension.critical && !understood {
            facts.critical_unknown.push(extension.oid.to_id_string());
        }
    }
    facts
}

/// Records an extension. Returns whether clients process it (as webpki does).
fn note(facts: &mut Facts, extension: &ParsedExtension<'_>) -> bool {
    match extension {
        ParsedExtension::SubjectAlternativeName(san) => {
            for name in &san.general_names {
                match name {
                    GeneralName::DNSName(dns) => facts.dns.push((*dns).to_owned()),
                    GeneralName::IPAddress(raw) => facts.ips.extend(ip(raw)),
                    _ => {}
                }
            }
        }
        ParsedExtension::BasicConstraints(basic) => facts.is_ca = basic.ca,
        ParsedExtension::KeyUsage(usage) => facts.may_sign = usage.digital_signature(),
        ParsedExtension::ExtendedKeyUsage(usage) => {
            let named = [
                (usage.any, "any"),
                (usage.server_auth, "serverAuth"),
                (usage.client_auth, "clientAuth"),
                (usage.code_signing, "codeSigning"),
                (usage.email_protection, "emailProtection"),
                (usage.time_stamping, "timeStamping"),
                (usage.ocsp_signing, "OCSPSigning"),
            ];
            let known = named.iter().filter(|(has, _)| *has).map(|(_, name)| (*name).to_owned());
            facts.usages.extend(known);
            facts.usages.extend(usage.other.iter().map(|oid| oid.to_id_string()));
        }
        ParsedExtension::NameConstraints(_)
        | ParsedExtension::CRLDistributionPoints(_)
        | ParsedExtension::SCT(_) => {}
        _ => return false,
    }
    true
}

pub(super) fn ip(raw: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(raw)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(raw).map(IpAddr::from))
        .ok()
}

fn key(spki: &SubjectPublicKeyInfo<'_>) -> (KeyKind, usize) {
    let algorithm = spki.algorithm.algorithm.to_id_string();
    let curve = || {
        let oid = spki.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        oid.map(|oid| oid.to_id_string()).unwrap_or_default()
    };
    match (algorithm.as_str(), spki.parsed()) {
        ("1.2.840.113549.1.1.1", Ok(PublicKey::RSA(rsa))) => (KeyKind::Rsa, rsa.key_size()),
        ("1.2.840.10045.2.1", Ok(_)) => match curve().as_str() {
            "1.2.840.10045.3.1.7" => (KeyKind::P256, 256),
            "1.3.132.0.34" => (KeyKind::P384, 384),
            _ => (KeyKind::Other, 0),
        },
        _ => (KeyKind::Other, 0),
    }
}

/// The algorithm's name, and whether it uses SHA-2 or better.
fn signature(algorithm: &AlgorithmIdentifier<'_>) -> (String, bool) {
    let oid = algorithm.algorithm.to_id_string();
    let (name, strong) = match oid.as_str() {
        "1.2.840.113549.1.1.11" => ("sha256WithRSAEncryption", true),
        "1.2.840.113549.1.1.12" => ("sha384WithRSAEncryption", true),
        "1.2.840.113549.1.1.13" => ("sha512WithRSAEncryption", true),
        "1.2.840.10045.4.3.2" => ("ecdsa-with-SHA256", true),
        "1.2.840.10045.4.3.3" => ("ecdsa-with-SHA384", true),
        "1.2.840.10045.4.3.4" => ("ecdsa-with-SHA512", true),
        "1.3.101.112" => ("Ed25519", true),
        "1.2.840.113549.1.1.10" => ("rsassaPss", pss_strong(algorithm)),
        "1.2.840.113549.1.1.5" => ("sha1WithRSAEncryption", false),
        "1.2.840.113549.1.1.4" => ("md5WithRSAEncryption", false),
        "1.2.840.10045.4.1" => ("ecdsa-with-SHA1", false),
        other => (other, false),
    };
    (name.to_owned(), strong)
}

/// Whether a signature uses SHA-2 or better.
pub(super) fn strong(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    signature(algorithm).1
}

/// RFC 4055 §3.1: without a hash named in its parameters, PSS means SHA-1.
fn pss_strong(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    // 2.16.840.1.101.3.4.2, below which lie SHA-256, SHA-384 and SHA-512 as 1, 2 and 3.
    const SHA2: [u8; 8] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
    let parameters = algorithm.parameters.as_ref().map(|any| any.data).unwrap_or_default();
    parameters
        .windows(SHA2.len() + 1)
        .any(|w| w.starts_with(&SHA2) && matches!(w.last(), Some(1..=3)))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

/// The SHA-256 of a certificate's public key (its SubjectPublicKeyInfo); `None` if the bytes are
/// not a certificate.
pub fn spki_sha256(der: &[u8]) -> Option<[u8; 32]> {
    let outline = outline(der).ok()?;
    digest::digest(&digest::SHA256, &outline.spki).as_ref().try_into().ok()
}
