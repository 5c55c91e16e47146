//! Makes certificates for demonstrations and tests: an operator's PKI in miniature, and leaves with
//! any fault one may want to show.
//!
//! Nothing that serves clients may use it.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use der::asn1::{BitString, GeneralizedTime, OctetString};
use der::{Decode, Encode};
use jiff::{SignedDuration, Timestamp};
use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey,
    PrivateKeyChain,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData, RevokedCertParams, SerialNumber,
    SigningKey,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspResponse, ResponderId,
    ResponseData, RevokedInfo, SingleResponse, Version,
};
use zeroize::Zeroizing;

use crate::unfit::Unfit;

use super::export::tlv;
use super::facts::outline;
use super::issuer::{Algorithm, generate, set_validity};
use super::{Fault, certificate_der};

/// A root and an issuing authority below it.
pub struct Pki {
    root: String,
    intermediate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What a leaf is to look like; the default is fit for 90 days from the time given.
#[derive(Clone, Debug)]
pub struct Order {
    /// Names for the subject alternative name: DNS names, wildcards, IP addresses.
    pub hosts: Vec<String>,
    /// First second of validity.
    pub from: Timestamp,
    /// Last second of validity.
    pub until: Timestamp,
    /// What it is for.
    pub usage: Usage,
    /// Claim to be an authority.
    pub is_ca: bool,
    /// Carry a critical extension that nobody knows.
    pub unknown_critical: bool,
    /// The kind of key.
    pub algorithm: Algorithm,
}

/// The extended key usage of a forged leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// serverAuth, as it should be.
    Server,
    /// clientAuth alone.
    Client,
    /// No extended key usage at all.
    Unsaid,
}

/// A forged leaf.
pub struct Forged {
    /// The leaf alone, PEM.
    pub leaf: String,
    /// The leaf and the issuing authority, PEM: what belongs into tls.crt.
    pub chain: String,
    /// The key, PKCS#8 PEM: what belongs into tls.key.
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
            algorithm: Algorithm::P256,
        }
    }
}

impl Pki {
    /// A PKI that may issue for every name, ten years either side of `now`.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`] with what the cryptography says.
    pub fn new(name: &str, now: Timestamp) -> Result<Self, Fault> {
        Self::make(name, None, now)
    }

    /// A PKI whose issuing authority may issue below one domain only (RFC 5280 §4.2.1.10).
    ///
    /// # Errors
    /// As [`Pki::new`].
    pub fn constrained(name: &str, domain: &str, now: Timestamp) -> Result<Self, Fault> {
        Self::make(name, Some(domain), now)
    }

    fn make(name: &str, domain: Option<&str>, now: Timestamp) -> Result<Self, Fault> {
        let root_key = generate(Algorithm::P256)?;
        let root_params = authority(&format!("{name} Root CA"), now);
        let root = root_params.self_signed(&root_key).map_err(failed)?;
        let mut params = authority(&format!("{name} Issuing CA"), now);
        params.name_constraints = domain.map(|domain| NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_owned())],
            excluded_subtrees: Vec::new(),
        });
        let key = generate(Algorithm::P256)?;
        let intermediate =
            params.signed_by(&key, &Issuer::new(root_params, root_key)).map_err(failed)?;
        Ok(Pki {
            root: root.pem(),
            intermediate: intermediate.pem(),
            issuer: Issuer::new(params, key),
        })
    }

    /// The root as PEM: what belongs into ca.crt.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The issuing authority as PEM.
    pub fn intermediate(&self) -> &str {
        &self.intermediate
    }

    /// A list of these leaves as revoked, PEM (RFC 5280 §5).
    ///
    /// # Errors
    /// [`Unfit::NotIssued`] with what the cryptography says.
    pub fn crl(
        &self,
        revoked: &[&Forged],
        from: Timestamp,
        until: Timestamp,
    ) -> Result<String, Fault> {
        let mut dates = CertificateParams::default();
        set_validity(&mut dates, from, until);
        let (this_update, next_update) = (dates.not_before, dates.not_after);
        let revoked_certs = revoked
            .iter()
            .map(|forged| {
                let serial = outline(&certificate_der(forged.leaf.as_bytes())?)?.serial;
                Ok(RevokedCertParams {
                    serial_number: SerialNumber::from_slice(&serial),
                    revocation_time: this_update,
                    reason_code: None,
                    invalidity_date: None,
                })
            })
            .collect::<Result<_, Fault>>()?;
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

    /// What the issuing authority answers by OCSP for a leaf (RFC 6960), DER; `revoked` or good.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`] with what is wrong with the parts.
    pub fn ocsp(
        &self,
        leaf: &Forged,
        revoked: bool,
        (from, until): (Timestamp, Timestamp),
    ) -> Result<Vec<u8>, Fault> {
        let broken = |error: der::Error| Fault::new(Unfit::NotIssued, error.to_string());
        let hash = |bytes: &[u8]| {
            OctetString::new(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref()).map_err(broken)
        };
        let time = |at: Timestamp| {
            let since = std::time::Duration::from_secs(at.as_second().unsigned_abs());
            GeneralizedTime::from_unix_duration(since).map(OcspGeneralizedTime).map_err(broken)
        };
        let found = outline(&certificate_der(leaf.leaf.as_bytes())?)?;
        let key_hash = hash(self.issuer.key().der_bytes())?;
        let single = SingleResponse {
            cert_id: CertId {
                // SHA-1, as nearly every responder has it.
                hash_algorithm: Decode::from_der(&[0x30, 7, 6, 5, 0x2B, 0x0E, 3, 2, 0x1A])
                    .map_err(broken)?,
                issuer_name_hash: hash(&found.issuer)?,
                issuer_key_hash: key_hash.clone(),
                serial_number: Decode::from_der(&tlv(0x02, &found.serial)).map_err(broken)?,
            },
            cert_status: match revoked {
                true => CertStatus::revoked(RevokedInfo {
                    revocation_time: time(from)?,
                    revocation_reason: None,
                }),
                false => CertStatus::good(),
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
        // ecdsa-with-SHA256: what every forged authority signs with.
        let ecdsa = [0x30, 10, 6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2];
        let response = BasicOcspResponse {
            tbs_response_data: data,
            signature_algorithm: Decode::from_der(&ecdsa).map_err(broken)?,
            signature: BitString::from_bytes(&signature).map_err(broken)?,
            certs: None,
        };
        OcspResponse::successful(response).and_then(|whole| whole.to_der()).map_err(broken)
    }

    /// Issue a leaf with a new key.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`], for instance for a host that is no name.
    pub fn issue(&self, order: &Order) -> Result<Forged, Fault> {
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
            // 1.3.6.1.4.1.55738 is nobody's; the content is an ASN.1 NULL.
            let mut unknown =
                CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55738, 1], vec![5, 0]);
            unknown.set_criticality(true);
            params.custom_extensions.push(unknown);
        }
        let key = generate(order.algorithm)?;
        let leaf = params.signed_by(&key, &self.issuer).map_err(failed)?.pem();
        let chain = format!("{leaf}{}", self.intermediate);
        Ok(Forged { leaf, chain, key: key.serialize_pem().into() })
    }
}

/// A leaf straight below a root that was issued several times for one key, each time with other
/// dates; the roots as PEM.
///
/// # Errors
/// [`Unfit::NotIssued`] with what the cryptography says.
pub fn below_roots(
    dates: &[(Timestamp, Timestamp)],
    order: &Order,
) -> Result<(Vec<String>, Forged), Fault> {
    let key = generate(Algorithm::P256)?;
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

/// How a PFX is to be protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// AES-256 and SHA-256, as exporters do today.
    Modern,
    /// 3DES and SHA-1, as Windows did for long.
    Legacy,
}

/// A PFX of a leaf, its key and what stands above it, as an exporter writes it. `rounds` is what
/// opening it takes.
///
/// # Errors
/// [`Unfit::NotIssued`] with what is wrong with the parts.
pub fn pfx(
    (certificates, key): (&str, &str),
    password: &str,
    protection: Protection,
    rounds: u32,
) -> Result<Vec<u8>, Fault> {
    let failed =
        |error: p12_keystore::error::Error| Fault::new(Unfit::NotIssued, error.to_string());
    let broken = |_| Fault::new(Unfit::NotIssued, "not PEM");
    let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).map_err(broken)?;
    let key = PrivateKey::from_der(key.secret_pkcs8_der()).map_err(failed)?;
    let chain = CertificateDer::pem_slice_iter(certificates.as_bytes())
        .map(|der| Certificate::from_der(&der.map_err(broken)?).map_err(failed))
        .collect::<Result<Vec<_>, Fault>>()?;
    let mut store = KeyStore::new();
    let entry = PrivateKeyChain::new("sitegate", key, chain);
    store.add_entry("sitegate", KeyStoreEntry::PrivateKeyChain(entry));
    let (encryption, mac) = match protection {
        Protection::Modern => {
            (EncryptionAlgorithm::PbeWithHmacSha256AndAes256, MacAlgorithm::HmacSha256)
        }
        Protection::Legacy => {
            (EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc, MacAlgorithm::HmacSha1)
        }
    };
    let writer = store.writer(password).encryption_algorithm(encryption).mac_algorithm(mac);
    writer.encryption_iterations(rounds).mac_iterations(rounds).write().map_err(failed)
}

/// A leaf for clients below a crowd of authorities that all have one name, each signed by the next:
/// what makes a careless search for the way up try every order of them.
///
/// # Errors
/// [`Unfit::NotIssued`] with what the cryptography says.
pub fn crowd(authorities: usize, now: Timestamp) -> Result<Forged, Fault> {
    let mut params = authority("Crowd", now);
    let mut issuer = Issuer::new(params.clone(), generate(Algorithm::P256)?);
    let key = generate(Algorithm::P256)?;
    let mut order = CertificateParams::new(vec!["client".to_owned()]).map_err(failed)?;
    set_validity(&mut order, hours(now, -1), hours(now, 1));
    order.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = order.signed_by(&key, &issuer).map_err(failed)?.pem();
    let mut chain = leaf.clone();
    for _ in 0..authorities {
        let above = Issuer::new(params.clone(), generate(Algorithm::P256)?);
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

fn failed(error: rcgen::Error) -> Fault {
    Fault::new(Unfit::NotIssued, error.to_string())
}
