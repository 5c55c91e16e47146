//! Test PKI: makes certificates for demonstrations and tests, with any fault on demand.
//!
//! Uses nothing of sitegate, so that sitegate's own unit tests can use it. Code that serves clients
//! must not use it.

mod pfx;

pub use pfx::{Protection, pfx};

use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use der::asn1::{Any, BitString, GeneralizedTime, OctetString};
use der::{Decode, Encode, Tag};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData, RevokedCertParams, RsaKeySize,
    SerialNumber, SigningKey,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspResponse, ResponderId,
    ResponseData, RevokedInfo, SingleResponse, Version,
};
use x509_parser::parse_x509_certificate;
use zeroize::Zeroizing;

/// Why something could not be forged: the error of the cryptography or of an encoding.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ForgeError(String);

/// The kind of a forged leaf's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafKey {
    /// ECDSA on P-256.
    P256,
    /// RSA with 2048 bits.
    Rsa2048,
}

/// A root and an issuing CA below it.
pub struct Pki {
    root: String,
    intermediate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// The properties of a leaf; the default is fit for 90 days from the time given.
#[derive(Clone, Debug)]
pub struct Order {
    /// Names for the subject alternative name: DNS names, wildcards, IP addresses.
    pub hosts: Vec<String>,
    /// First second of validity.
    pub from: Timestamp,
    /// Last second of validity.
    pub until: Timestamp,
    /// Its extended key usage.
    pub usage: Usage,
    /// Claim to be a CA.
    pub is_ca: bool,
    /// Carry an unknown critical extension.
    pub unknown_critical: bool,
    /// The kind of key.
    pub key: LeafKey,
}

/// The extended key usage of a forged leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// serverAuth, the correct one.
    Server,
    /// Only clientAuth.
    Client,
    /// No extended key usage at all.
    Unsaid,
}

/// A forged leaf.
pub struct Forged {
    /// The leaf alone, PEM.
    pub leaf: String,
    /// The leaf and the issuing CA, PEM: the contents of tls.crt.
    pub chain: String,
    /// The key, PKCS#8 PEM: the contents of tls.key.
    pub key: Zeroizing<String>,
}

impl Order {
    /// A fit leaf for these hosts, issued an hour before `now` for 90 days.
    pub fn fit(hosts: &[&str], now: Timestamp) -> Self {
        Order {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            from: hours(now, -1),
            until: hours(now, 90 * 24),
            usage: Usage::Server,
            is_ca: false,
            unknown_critical: false,
            key: LeafKey::P256,
        }
    }
}

impl Pki {
    /// A PKI without name constraints, valid for ten years either side of `now`.
    ///
    /// # Errors
    /// [`ForgeError`] with the cryptography's error.
    pub fn new(name: &str, now: Timestamp) -> Result<Self, ForgeError> {
        Self::make(name, None, now)
    }

    /// A PKI with an issuing CA that is constrained to one domain (RFC 5280 §4.2.1.10).
    ///
    /// # Errors
    /// As [`Pki::new`].
    pub fn constrained(name: &str, domain: &str, now: Timestamp) -> Result<Self, ForgeError> {
        Self::make(name, Some(domain), now)
    }

    fn make(name: &str, domain: Option<&str>, now: Timestamp) -> Result<Self, ForgeError> {
        let root_key = generate(LeafKey::P256)?;
        let root_params = authority(&format!("{name} Root CA"), now);
        let root = root_params.self_signed(&root_key).map_err(failed)?;
        let mut params = authority(&format!("{name} Issuing CA"), now);
        params.name_constraints = domain.map(|domain| NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_owned())],
            excluded_subtrees: Vec::new(),
        });
        let key = generate(LeafKey::P256)?;
        let intermediate =
            params.signed_by(&key, &Issuer::new(root_params, root_key)).map_err(failed)?;
        Ok(Pki {
            root: root.pem(),
            intermediate: intermediate.pem(),
            issuer: Issuer::new(params, key),
        })
    }

    /// The root as PEM: the contents of ca.crt.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The issuing CA as PEM.
    pub fn intermediate(&self) -> &str {
        &self.intermediate
    }

    /// A CRL with these leaves, PEM (RFC 5280 §5).
    ///
    /// # Errors
    /// [`ForgeError`] with the cryptography's error.
    pub fn crl(
        &self,
        revoked: &[&Forged],
        from: Timestamp,
        until: Timestamp,
    ) -> Result<String, ForgeError> {
        let mut dates = CertificateParams::default();
        set_validity(&mut dates, from, until);
        let (this_update, next_update) = (dates.not_before, dates.not_after);
        let revoked_certs = revoked
            .iter()
            .map(|forged| {
                let (serial, _) = serial_and_issuer(&forged.leaf)?;
                Ok(RevokedCertParams {
                    serial_number: SerialNumber::from_slice(&serial),
                    revocation_time: this_update,
                    reason_code: None,
                    invalidity_date: None,
                })
            })
            .collect::<Result<_, ForgeError>>()?;
        let list = CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).and_then(|list| list.pem()).map_err(failed)
    }

    /// The issuing CA's OCSP response for a leaf (RFC 6960), DER; `revoked` or good.
    ///
    /// # Errors
    /// [`ForgeError`] with the fault of the parts.
    pub fn ocsp(
        &self,
        leaf: &Forged,
        revoked: bool,
        (from, until): (Timestamp, Timestamp),
    ) -> Result<Vec<u8>, ForgeError> {
        let broken = |error: der::Error| ForgeError(error.to_string());
        let hash = |bytes: &[u8]| {
            OctetString::new(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref()).map_err(broken)
        };
        let time = |at: Timestamp| {
            let since = Duration::from_secs(at.as_second().unsigned_abs());
            GeneralizedTime::from_unix_duration(since).map(OcspGeneralizedTime).map_err(broken)
        };
        let (serial, issuer) = serial_and_issuer(&leaf.leaf)?;
        let serial = Any::new(Tag::Integer, serial).map_err(broken)?;
        let key_hash = hash(self.issuer.key().der_bytes())?;
        let single = SingleResponse {
            cert_id: CertId {
                // SHA-1, as nearly every responder uses.
                hash_algorithm: Decode::from_der(&[0x30, 7, 6, 5, 0x2B, 0x0E, 3, 2, 0x1A])
                    .map_err(broken)?,
                issuer_name_hash: hash(&issuer)?,
                issuer_key_hash: key_hash.clone(),
                serial_number: serial.decode_as().map_err(broken)?,
            },
            cert_status: if revoked {
                CertStatus::revoked(RevokedInfo {
                    revocation_time: time(from)?,
                    revocation_reason: None,
                })
            } else {
                CertStatus::good()
            },
            this_update: time(from)?,
            next_update: Some(time(until)?),
            single_extensions: None,
        };
        let data = ResponseData {
            version: Version::V1,
            responder_id: ResponderId::ByKey(key_hash),
            produced_at: time(from)?,
            responses: vec![single],
            response_extensions: None,
        };
        let signature = self.issuer.key().sign(&data.to_der().map_err(broken)?).map_err(failed)?;
        // ecdsa-with-SHA256, which every CA of this module signs with.
        let ecdsa = [0x30, 10, 6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2];
        let response = BasicOcspResponse {
            tbs_response_data: data,
            signature_algorithm: Decode::from_der(&ecdsa).map_err(broken)?,
            signature: BitString::from_bytes(&signature).map_err(broken)?,
            certs: None,
        };
        OcspResponse::successful(response).and_then(|whole| whole.to_der()).map_err(broken)
    }

    /// Issues a leaf with a new key.
    ///
    /// # Errors
    /// [`ForgeError`], for instance for a host that is not a name.
    pub fn issue(&self, order: &Order) -> Result<Forged, ForgeError> {
        let mut params = CertificateParams::new(order.hosts.clone()).map_err(failed)?;
        params.distinguished_name =
            common_name(order.hosts.first().map_or("no name", String::as_str));
        set_validity(&mut params, order.from, order.until);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match order.usage {
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Unsaid => Vec::new(),
        };
        params.use_authority_key_identifier_extension = true;
        if order.is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        if order.unknown_critical {
            // 1.3.6.1.4.1.55738 is unassigned; the content is an ASN.1 NULL.
            let mut unknown =
                CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55738, 1], vec![5, 0]);
            unknown.set_criticality(true);
            params.custom_extensions.push(unknown);
        }
        let key = generate(order.key)?;
        let leaf = params.signed_by(&key, &self.issuer).map_err(failed)?.pem();
        let chain = format!("{leaf}{}", self.intermediate);
        Ok(Forged { leaf, chain, key: key.serialize_pem().into() })
    }
}

/// A leaf directly below a root that was issued several times for one key, each time with other
/// dates; the roots as PEM.
///
/// # Errors
/// [`ForgeError`] with the cryptography's error.
pub fn below_roots(
    dates: &[(Timestamp, Timestamp)],
    order: &Order,
) -> Result<(Vec<String>, Forged), ForgeError> {
    let key = generate(LeafKey::P256)?;
    let mut params = authority("Reissued Root CA", order.from);
    let mut roots = Vec::new();
    for (from, until) in dates {
        set_validity(&mut params, *from, *until);
        roots.push(params.self_signed(&key).map_err(failed)?.pem());
    }
    let (root, intermediate) = (String::new(), String::new());
    let pki = Pki { root, intermediate, issuer: Issuer::new(params, key) };
    pki.issue(order).map(|leaf| (roots, leaf))
}

/// A client leaf below many CAs with the same name, each signed by the next: a naive path search
/// would try every order of them.
///
/// # Errors
/// [`ForgeError`] with the cryptography's error.
pub fn crowd(authorities: usize, now: Timestamp) -> Result<Forged, ForgeError> {
    let mut params = authority("Crowd", now);
    let mut issuer = Issuer::new(params.clone(), generate(LeafKey::P256)?);
    let key = generate(LeafKey::P256)?;
    let mut order = CertificateParams::new(vec!["client".to_owned()]).map_err(failed)?;
    set_validity(&mut order, hours(now, -1), hours(now, 1));
    order.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = order.signed_by(&key, &issuer).map_err(failed)?.pem();
    let mut chain = leaf.clone();
    for _ in 0..authorities {
        let above = Issuer::new(params.clone(), generate(LeafKey::P256)?);
        chain.push_str(&params.signed_by(issuer.key(), &above).map_err(failed)?.pem());
        params = authority("Crowd", now);
        issuer = above;
    }
    Ok(Forged { leaf, chain, key: key.serialize_pem().into() })
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("root", &self.root).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Forged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forged").field("leaf", &self.leaf).finish_non_exhaustive()
    }
}

fn authority(name: &str, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, hours(now, -87_660), hours(now, 87_660));
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn hours(now: Timestamp, hours: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_hours(hours)).unwrap_or(now)
}

fn generate(key: LeafKey) -> Result<KeyPair, ForgeError> {
    match key {
        LeafKey::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        LeafKey::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
    }
    .map_err(failed)
}

/// Sets the validity, clamped to the range that a certificate can express.
fn set_validity(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |time: Timestamp| {
        epoch + Duration::from_secs(time.as_second().clamp(0, 253_402_300_799).unsigned_abs())
    };
    params.not_before = at(from);
    params.not_after = at(until);
}

/// The serial number and the issuer's name of a PEM certificate, as they are encoded.
fn serial_and_issuer(pem: &str) -> Result<(Vec<u8>, Vec<u8>), ForgeError> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes());
    let der = der.map_err(|error| ForgeError(error.to_string()))?;
    let (_, found) = parse_x509_certificate(&der).map_err(|error| ForgeError(error.to_string()))?;
    Ok((found.raw_serial().to_vec(), found.issuer().as_raw().to_vec()))
}

fn failed(error: rcgen::Error) -> ForgeError {
    ForgeError(error.to_string())
}
