//! OCSP stapling: reads the OCSP response beside a certificate (RFC 6960), which the handshake
//! staples (RFC 6066 §8), and verifies its certificate, its signer and its validity.
//!
//! One of two files that use x509_ocsp. Contacts no responder: the operator's tooling fetches the
//! response.

use std::sync::Arc;

use aws_lc_rs::digest;
use der::Decode;
use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use x509_ocsp::{BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspResponse};
use x509_parser::asn1_rs::{Any, BitString, FromDer};
use x509_parser::certificate::X509Certificate;

use super::export::{SEQUENCE, tlv};
use super::facts::outline;
use super::{Anchors, Credential};
use crate::clock::second;

/// Responses have one or two KiB.
const BYTES_MAX: usize = 16 * 1024;
/// The most responder certificates of one response that are examined.
const RESPONDERS_MAX: usize = 4;

/// A response for one certificate, its signature verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Staple {
    /// The bytes to staple.
    pub der: Arc<[u8]>,
    /// When the status was known to be correct.
    pub this_update: Timestamp,
    /// When it, or the certificate of its responder, expires.
    pub next_update: Timestamp,
    /// Whether the certificate has been revoked.
    pub revoked: bool,
}

/// Why a response is not stapled, for the log.
pub type Unstapled = &'static str;

impl Staple {
    /// Reads a response for the leaf of a credential. The leaf's issuer is searched in the chain
    /// and among the anchors; the response must be signed by it, or by a responder that it gave
    /// OCSPSigning (RFC 6960 §4.2.2.2).
    ///
    /// # Errors
    /// Why the response is not for this leaf, or not validly signed.
    pub fn read(
        der: &[u8],
        credential: &Credential,
        anchors: &Anchors,
        provider: &CryptoProvider,
    ) -> Result<Staple, Unstapled> {
        let malformed = "not a well-formed OCSP response";
        if der.len() > BYTES_MAX {
            return Err("too large to be sent with every handshake");
        }
        let outer = OcspResponse::from_der(der).map_err(|_| malformed)?;
        let bytes = outer.response_bytes.ok_or("the responder returned an error")?;
        let basic = bytes.response.as_bytes();
        let response = BasicOcspResponse::from_der(basic).map_err(|_| malformed)?;
        let leaf = credential.chain().first().ok_or(malformed)?;
        let leaf = outline(leaf).map_err(|_| malformed)?;
        let issuers = issuers(credential, anchors, &leaf.issuer);
        let foreign = "for another certificate";
        let (spki, single) = issuers
            .iter()
            .find_map(|spki| {
                let meant = |id: &CertId| is_for(id, &leaf.issuer, spki, &leaf.serial);
                let mut singles = response.tbs_response_data.responses.iter();
                Some((spki, singles.find(|single| meant(&single.cert_id))?))
            })
            .ok_or(if issuers.is_empty() {
                "the certificate of the issuer is missing"
            } else {
                foreign
            })?;
        let next = single.next_update.as_ref().ok_or("it has no nextUpdate")?;
        let mut next_update = time(next);
        if !verified(basic, spki, provider) {
            let ends = responder(&response, basic, &leaf.issuer, spki, provider);
            next_update = next_update.min(ends.ok_or("not signed by the issuer or its responder")?);
        }
        Ok(Staple {
            der: der.into(),
            this_update: time(&single.this_update),
            next_update,
            revoked: match single.cert_status {
                CertStatus::Good(_) => false,
                CertStatus::Revoked(_) => true,
                CertStatus::Unknown(_) => {
                    return Err("its responder does not know the certificate");
                }
            },
        })
    }

    /// Checks whether it may be stapled at that time.
    ///
    /// # Errors
    /// Why not.
    pub fn holds(&self, now: Timestamp) -> Result<(), Unstapled> {
        match () {
            () if self.revoked => Err("it says that the certificate has been revoked"),
            () if now < self.this_update => Err("its thisUpdate is in the future"),
            () if now >= self.next_update => Err("it has expired"),
            () => Ok(()),
        }
    }
}

impl std::fmt::Debug for Staple {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Staple({} to {})", self.this_update, self.next_update)
    }
}

fn time(time: &OcspGeneralizedTime) -> Timestamp {
    second(i64::try_from(time.0.to_unix_duration().as_secs()).unwrap_or(i64::MAX))
}

/// The public keys of the possible issuers of the leaf: those of that name, in the chain or
/// trusted.
fn issuers(credential: &Credential, anchors: &Anchors, name: &[u8]) -> Vec<Vec<u8>> {
    let above = credential.chain().iter().skip(1).filter_map(|der| outline(der).ok());
    let above = above.filter(|found| found.subject == name).map(|found| found.spki);
    let trusted = anchors.iter().map(|anchor| anchor.trusted());
    let trusted = trusted.filter(|anchor| tlv(SEQUENCE, &anchor.subject) == name);
    let trusted = trusted.map(|anchor| tlv(SEQUENCE, &anchor.subject_public_key_info));
    above.chain(trusted).collect()
}

/// Whether a response is for the certificate of that issuer with that serial number (RFC 6960
/// §4.1.1).
fn is_for(id: &CertId, issuer: &[u8], spki: &[u8], serial: &[u8]) -> bool {
    let algorithm = match id.hash_algorithm.oid.to_string().as_str() {
        "1.3.14.3.2.26" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        "2.16.840.1.101.3.4.2.1" => &digest::SHA256,
        _ => return false,
    };
    let is = |bytes: &[u8], hash: &[u8]| digest::digest(algorithm, bytes).as_ref() == hash;
    let plain = |serial: &[u8]| -> Vec<u8> {
        serial.iter().copied().skip_while(|byte| *byte == 0).collect()
    };
    let Some((_, key)) = public_key(spki) else { return false };
    plain(id.serial_number.as_bytes()) == plain(serial)
        && is(issuer, id.issuer_name_hash.as_bytes())
        && is(&key, id.issuer_key_hash.as_bytes())
}

/// When the certificate of the responder that signed expires, if the issuer authorized it.
fn responder(
    response: &BasicOcspResponse,
    basic: &[u8],
    issuer: &[u8],
    spki: &[u8],
    provider: &CryptoProvider,
) -> Option<Timestamp> {
    let certificates = response.certs.iter().flatten().take(RESPONDERS_MAX);
    certificates.filter_map(|found| der::Encode::to_der(found).ok()).find_map(|der| {
        let (_, found) = X509Certificate::from_der(&der).ok()?;
        let usage = found.extended_key_usage().ok()??;
        let made_one = found.issuer().as_raw() == issuer && usage.value.ocsp_signing;
        let signed = made_one
            && verified(&der, spki, provider)
            && verified(basic, found.public_key().raw, provider);
        signed.then(|| second(found.validity().not_after.timestamp().saturating_add(1)))
    })
}

/// Whether a certificate or a response was signed with that key. Both begin with the signed part,
/// the algorithm, and the signature.
fn verified(der: &[u8], spki: &[u8], provider: &CryptoProvider) -> bool {
    let parts = || {
        let (_, whole) = Any::from_der(der).ok()?;
        let (rest, _) = Any::from_der(whole.data).ok()?;
        let signed = whole.data.get(..whole.data.len() - rest.len())?;
        let (rest, algorithm) = Any::from_der(rest).ok()?;
        let (_, signature) = BitString::from_der(rest).ok()?;
        Some((signed.to_vec(), algorithm.data.to_vec(), signature.data.to_vec()))
    };
    let (Some((signed, how, signature)), Some((kind, key))) = (parts(), public_key(spki)) else {
        return false;
    };
    provider.signature_verification_algorithms.all.iter().any(|algorithm| {
        algorithm.signature_alg_id().as_ref() == how
            && algorithm.public_key_alg_id().as_ref() == kind
            && algorithm.verify_signature(&key, &signed, &signature).is_ok()
    })
}

/// The algorithm of a public key, and its bits.
fn public_key(spki: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (_, whole) = Any::from_der(spki).ok()?;
    let (rest, kind) = Any::from_der(whole.data).ok()?;
    let (_, key) = BitString::from_der(rest).ok()?;
    Some((kind.data.to_vec(), key.data.to_vec()))
}

#[cfg(test)]
mod tests;
