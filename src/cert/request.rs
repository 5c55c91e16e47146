//! Certificate requests and gateway identities: certificates for keys that never leave their host.
//!
//! A request contributes only its key; the issuer decides the names. Writes nothing.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, PublicKey, PublicKeyData,
};
use rustls_pki_types::ServerName;
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use super::CredentialFault;
use super::template::{CertAlgorithm, Pair, failed, generate, leaf, set_validity};
use crate::unfit::Unfit;

/// Larger than any request with an RSA key of 8192 bits.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// The lifetime of a gateway's identity certificate, in days.
const IDENTITY_DAYS: i64 = 90;

/// A certificate signing request (RFC 2986) with a verified signature and a fit key.
#[derive(Clone, Debug)]
pub struct SigningRequest {
    pub(super) key: PublicKey,
}

impl SigningRequest {
    /// Reads a request from PEM.
    ///
    /// # Errors
    /// [`Unfit::Malformed`] if it is not a request or not signed with its own key,
    /// [`Unfit::KeyWeak`] for a key that clients would not accept.
    pub fn parse(pem: &str) -> Result<Self, CredentialFault> {
        let malformed =
            |why: String| CredentialFault::new(Unfit::Malformed, format!("request: {why}"));
        if pem.len() > REQUEST_BYTES_MAX {
            return Err(malformed("too large".into()));
        }
        let read = CertificateSigningRequestParams::from_pem(pem);
        let key = read.map_err(|error| malformed(error.to_string()))?.public_key;
        let spki = key.subject_public_key_info();
        match is_fit(&spki) {
            Some(true) => Ok(SigningRequest { key }),
            Some(false) => Err(CredentialFault::new(
                Unfit::KeyWeak,
                "a request's key is P-256, P-384 or RSA of 2048 to 8192 bits",
            )),
            None => Err(malformed("its key cannot be read".into())),
        }
    }
}

fn is_fit(spki: &[u8]) -> Option<bool> {
    use x509_parser::prelude::FromDer;
    let (_, spki) = SubjectPublicKeyInfo::from_der(spki).ok()?;
    Some(match spki.parsed().ok()? {
        Parsed::RSA(rsa) => (2_048..=8_192).contains(&rsa.key_size()),
        Parsed::EC(point) => matches!(point.key_size(), 256 | 384),
        _ => false,
    })
}

/// Makes a key and a certificate request for it. The request has no subject: the issuer knows the
/// names.
///
/// # Errors
/// [`Unfit::NotIssued`] with the cryptography's error.
pub fn request(algorithm: CertAlgorithm) -> Result<(String, Zeroizing<String>), CredentialFault> {
    let key = generate(algorithm)?;
    let mut nobody = CertificateParams::default();
    nobody.distinguished_name = rcgen::DistinguishedName::new();
    let request = nobody.serialize_request(&key).map_err(failed)?;
    Ok((request.pem().map_err(failed)?, key.serialize_pem().into()))
}

/// Makes a key and a request for a server certificate for these hosts (RFC 2986), for a CA that
/// takes the names from the request.
///
/// # Errors
/// [`Unfit::NotIssued`] with the cryptography's error, or for a host that is not a name.
pub fn server_request(
    name: &str,
    hosts: &[ServerName<'static>],
    algorithm: CertAlgorithm,
) -> Result<(String, Zeroizing<String>), CredentialFault> {
    let key = generate(algorithm)?;
    let mut params = leaf(name, hosts)?;
    // A request does not name its issuer.
    params.use_authority_key_identifier_extension = false;
    let request = params.serialize_request(&key).map_err(failed)?;
    Ok((request.pem().map_err(failed)?, key.serialize_pem().into()))
}

/// Makes the certificate with which a gateway authenticates: self-signed, with its thumbprint
/// stored by the site server (RFC 8705 §2.2). Ninety days.
///
/// # Errors
/// [`Unfit::NotIssued`] with the cryptography's error.
pub fn identity(name: &str, now: Timestamp) -> Result<Pair, CredentialFault> {
    let key = generate(CertAlgorithm::P256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Gateway {name}"));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let day = |days: i64| now.checked_add(SignedDuration::from_hours(24 * days)).unwrap_or(now);
    set_validity(&mut params, day(-1), day(IDENTITY_DAYS));
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem().into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cert::issuer::{Scope, Signer, root};
    use crate::cert::{Facts, certificate_der, facts::outline};

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn signer() -> Signer {
        let scope = Scope::new(&["contoso.com"]).unwrap();
        let made = root("PS1", 1, &scope, CertAlgorithm::P256, now()).unwrap();
        let root = Signer::load(&made.certificate, &made.key).unwrap();
        let role = root.role(&scope, CertAlgorithm::P256, now()).unwrap();
        Signer::load(&role.certificate, &role.key).unwrap()
    }

    fn facts(pem: &str) -> Facts {
        outline(&certificate_der(pem.as_bytes()).unwrap()).unwrap().facts
    }

    #[test]
    fn of_a_request_the_key_alone_comes_into_the_certificate() {
        for algorithm in [CertAlgorithm::P256, CertAlgorithm::Rsa2048] {
            let key = generate(algorithm).unwrap();
            let mut params = CertificateParams::new(vec!["evil.example".into()]).unwrap();
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let pem = params.serialize_request(&key).unwrap().pem().unwrap();
            let asked = SigningRequest::parse(&pem).unwrap();
            let hosts = [ServerName::try_from("mp.contoso.com").unwrap()];
            let (chain, made) = signer().leaf_of(&asked, "mp", &hosts, now()).unwrap();
            assert_eq!((made.dns, made.is_ca), (vec!["mp.contoso.com".to_owned()], false));
            assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2, "with the role authority");
            let der = certificate_der(chain.as_bytes()).unwrap();
            assert_eq!(outline(&der).unwrap().spki, key.subject_public_key_info());
        }
    }

    #[test]
    fn a_request_that_is_broken_or_weak_is_not_read() {
        let (pem, _) = request(CertAlgorithm::P256).unwrap();
        SigningRequest::parse(&pem).unwrap();
        // Not signed by its key.
        let end = pem.find("\n-----END").unwrap() - 20;
        let other = if pem.as_bytes()[end] == b'A' { "B" } else { "A" };
        let mut forged = pem.clone();
        forged.replace_range(end..=end, other);
        for bad in [
            "",
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----",
            &forged,
        ] {
            assert_eq!(
                SigningRequest::parse(bad).map(drop).map_err(|f| f.unfit),
                Err(Unfit::Malformed)
            );
        }
        let odd = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let pem = CertificateParams::default().serialize_request(&odd).unwrap().pem().unwrap();
        assert_eq!(SigningRequest::parse(&pem).map(drop).map_err(|f| f.unfit), Err(Unfit::KeyWeak));
    }

    #[test]
    fn an_identity_is_for_clients_and_ends() {
        let made = facts(&identity("gw1", now()).unwrap().certificate);
        assert_eq!(
            (made.subject.as_str(), made.usages),
            ("CN=Gateway gw1", vec!["clientAuth".to_owned()])
        );
        assert_eq!(made.not_after.as_second() - now().as_second(), 90 * 86_400);
    }
}
