//! Certificates for keys that stay where they are: what a gateway on another host asks for, and by
//! what it shows who it is.
//!
//! Of a request only the key is taken; names come from whoever issues. Writes nothing.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, PublicKey, PublicKeyData,
};
use rustls_pki_types::ServerName;
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use super::Fault;
use super::issuer::{Algorithm, Pair, generate, leaf, set_validity};
use crate::unfit::Unfit;

/// Larger than any request with an RSA key of 8192 bits.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// How long a gateway is known by one certificate, in days.
const IDENTITY_DAYS: i64 = 90;

/// A certificate signing request (RFC 2986) whose signature is good, and whose key is fit.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) key: PublicKey,
}

impl Request {
    /// Read a request from PEM.
    ///
    /// # Errors
    /// [`Unfit::Malformed`] for what is none or was not signed with its own key,
    /// [`Unfit::KeyWeak`] for a key that clients would not take.
    pub fn parse(pem: &str) -> Result<Self, Fault> {
        let malformed = |why: String| Fault::new(Unfit::Malformed, format!("request: {why}"));
        if pem.len() > REQUEST_BYTES_MAX {
            return Err(malformed("too large".into()));
        }
        let read = CertificateSigningRequestParams::from_pem(pem);
        let key = read.map_err(|error| malformed(error.to_string()))?.public_key;
        let spki = key.subject_public_key_info();
        match is_fit(&spki) {
            Some(true) => Ok(Request { key }),
            Some(false) => Err(Fault::new(
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

/// Make a key and a request for a certificate of it. The request names nobody: whoever issues knows
/// the names.
///
/// # Errors
/// [`Unfit::NotIssued`] with what the cryptography says.
pub fn request(algorithm: Algorithm) -> Result<(String, Zeroizing<String>), Fault> {
    let key = generate(algorithm)?;
    let mut nobody = CertificateParams::default();
    nobody.distinguished_name = rcgen::DistinguishedName::new();
    let request = nobody.serialize_request(&key).map_err(failed)?;
    Ok((request.pem().map_err(failed)?, key.serialize_pem().into()))
}

/// Make a key and a request for a server's certificate for these hosts (RFC 2986), for an authority
/// that takes the names from it.
///
/// # Errors
/// [`Unfit::NotIssued`] with what the cryptography says, or for a host that is no name.
pub fn server_request(
    name: &str,
    hosts: &[ServerName<'static>],
    algorithm: Algorithm,
) -> Result<(String, Zeroizing<String>), Fault> {
    let key = generate(algorithm)?;
    let mut params = leaf(name, hosts)?;
    // Of who issues a request says nothing.
    params.use_authority_key_identifier_extension = false;
    let request = params.serialize_request(&key).map_err(failed)?;
    Ok((request.pem().map_err(failed)?, key.serialize_pem().into()))
}

/// Make the certificate by which a gateway shows who it is: its own, of which the site server keeps
/// the thumbprint (RFC 8705 §2.2). Ninety days.
///
/// # Errors
/// [`Unfit::NotIssued`] with what the cryptography says.
pub fn identity(name: &str, now: Timestamp) -> Result<Pair, Fault> {
    let key = generate(Algorithm::P256)?;
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

fn failed(error: rcgen::Error) -> Fault {
    Fault::new(Unfit::NotIssued, error.to_string())
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
        let made = root(("PS1", 1), &scope, Algorithm::P256, now()).unwrap();
        let root = Signer::load(&made.certificate, &made.key).unwrap();
        let role = root.role(&scope, Algorithm::P256, now()).unwrap();
        Signer::load(&role.certificate, &role.key).unwrap()
    }

    fn facts(pem: &str) -> Facts {
        outline(&certificate_der(pem.as_bytes()).unwrap()).unwrap().facts
    }

    #[test]
    fn of_a_request_the_key_alone_comes_into_the_certificate() {
        for algorithm in [Algorithm::P256, Algorithm::Rsa2048] {
            let key = generate(algorithm).unwrap();
            let mut params = CertificateParams::new(vec!["evil.example".into()]).unwrap();
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let pem = params.serialize_request(&key).unwrap().pem().unwrap();
            let asked = Request::parse(&pem).unwrap();
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
        let (pem, _) = request(Algorithm::P256).unwrap();
        Request::parse(&pem).unwrap();
        // Not what its key has signed.
        let end = pem.find("\n-----END").unwrap() - 20;
        let other = if pem.as_bytes()[end] == b'A' { "B" } else { "A" };
        let mut forged = pem.clone();
        forged.replace_range(end..=end, other);
        for bad in [
            "",
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----",
            &forged,
        ] {
            assert_eq!(Request::parse(bad).map(drop).map_err(|f| f.unfit), Err(Unfit::Malformed));
        }
        let odd = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let pem = CertificateParams::default().serialize_request(&odd).unwrap().pem().unwrap();
        assert_eq!(Request::parse(&pem).map(drop).map_err(|f| f.unfit), Err(Unfit::KeyWeak));
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
