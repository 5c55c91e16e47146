//! Public keys: the accepted kinds, their encodings as JWK and SubjectPublicKeyInfo, and the checks
//! of their strength.
//!
//! Never holds a private or a symmetric key: input that contains one is refused.

use aws_lc_rs::digest;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{self, ParsedPublicKey};
use serde_json::{Map, Value};
use x509_parser::oid_registry as oid;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey;

use super::algorithm::Algorithm;
use super::json::Json;
use super::text::{base64url, to_base64url};

const RSA_BITS_MIN: usize = 2048;
const RSA_BITS_MAX: usize = 8192;

/// JWK members that only a private or a symmetric key has (RFC 7518 §6).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The public part of a key, as numbers in big-endian bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Material {
    /// Modulus and exponent without leading zeros.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The uncompressed point: 4, x, y.
    P256(Vec<u8>),
    /// The uncompressed point: 4, x, y.
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Material {
    /// The public key of a JWK (RFC 7517). Reads only the key's own members.
    pub(super) fn from_jwk(jwk: &Json) -> Result<Self, &'static str> {
        if PRIVATE_MEMBERS.iter().any(|m| jwk.member(m).is_some_and(|v| *v != Json::Null)) {
            return Err("has a private or symmetric key; only public keys are accepted");
        }
        let bytes = |name: &str| {
            let text = jwk.member(name).and_then(Json::as_text);
            text.and_then(base64url).ok_or("lacks a member that its kty must have")
        };
        let kty = jwk.member("kty").and_then(Json::as_text).ok_or("has no kty")?;
        let crv = jwk.member("crv").and_then(Json::as_text);
        match (kty, crv) {
            ("RSA", _) => Ok(Material::rsa(&bytes("n")?, &bytes("e")?)),
            ("EC", Some("P-256")) => Ok(Material::P256(point(&bytes("x")?, &bytes("y")?, 32)?)),
            ("EC", Some("P-384")) => Ok(Material::P384(point(&bytes("x")?, &bytes("y")?, 48)?)),
            ("OKP", Some("Ed25519")) => Ok(Material::Ed25519(bytes("x")?)),
            ("EC" | "OKP", _) => Err("has a curve other than P-256, P-384 and Ed25519"),
            ("oct", _) => Err("is symmetric: HMAC is never accepted"),
            _ => Err("has a kty other than RSA, EC and OKP"),
        }
    }

    /// The public key of a DER SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
    pub(super) fn from_spki(der: &[u8]) -> Result<Self, &'static str> {
        match SubjectPublicKeyInfo::from_der(der) {
            Ok(([], spki)) => Material::from_parsed_spki(&spki),
            _ => Err("is not a well-formed SubjectPublicKeyInfo"),
        }
    }

    /// Like [`Material::from_spki`], for a parsed certificate.
    pub(super) fn from_parsed_spki(spki: &SubjectPublicKeyInfo<'_>) -> Result<Self, &'static str> {
        let bits = &spki.subject_public_key.data;
        let kind = &spki.algorithm.algorithm;
        if *kind == oid::OID_PKCS1_RSAENCRYPTION {
            return match spki.parsed() {
                Ok(PublicKey::RSA(rsa)) => Ok(Material::rsa(rsa.modulus, rsa.exponent)),
                _ => Err("is not a well-formed RSA key"),
            };
        }
        if *kind == oid::OID_SIG_ED25519 {
            return Ok(Material::Ed25519(bits.to_vec()));
        }
        let curve = spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
        match curve {
            Some(c) if c == oid::OID_EC_P256 => Ok(Material::P256(bits.to_vec())),
            Some(c) if c == oid::OID_NIST_EC_P384 => Ok(Material::P384(bits.to_vec())),
            _ => Err("is of a kind other than RSA, P-256, P-384 and Ed25519"),
        }
    }

    fn rsa(n: &[u8], e: &[u8]) -> Self {
        Material::Rsa { n: without_zeros(n), e: without_zeros(e) }
    }

    /// The algorithm of a key that does not name one.
    pub(super) fn default_algorithm(&self) -> Algorithm {
        match self {
            Material::Rsa { .. } => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::P384(_) => Algorithm::Es384,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// The verifier for this algorithm, if it fits the kind of key and the key is strong enough. A
    /// point that is not on its curve is refused here.
    pub(super) fn verifier(&self, algorithm: Algorithm) -> Result<ParsedPublicKey, &'static str> {
        let made = match (self, algorithm) {
            (Material::Rsa { n, e }, _) => {
                let parameters = match algorithm {
                    Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                    Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return Err("has an alg that is not for its kind of key"),
                };
                check_rsa(n, e)?;
                PublicKeyComponents { n, e }.to_parsed_public_key(parameters)
            }
            (Material::P256(p), Algorithm::Es256) if is_point(p, 32) => {
                ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, p)
            }
            (Material::P384(p), Algorithm::Es384) if is_point(p, 48) => {
                ParsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, p)
            }
            (Material::Ed25519(key), Algorithm::EdDsa) if key.len() == 32 => {
                ParsedPublicKey::new(&signature::ED25519, key)
            }
            (_, a) if a == self.default_algorithm() => return Err("is not a point of its curve"),
            _ => return Err("has an alg that is not for its kind of key"),
        };
        made.map_err(|_| "is not a valid public key")
    }

    /// The members of the JWK that RFC 7638 §3.2 requires, and no others.
    pub(super) fn to_jwk(&self) -> Map<String, Value> {
        let members: &[(&str, &[u8])] = match self {
            Material::Rsa { n, e } => &[("e", e), ("n", n)],
            Material::P256(p) => &coordinates(p, 32),
            Material::P384(p) => &coordinates(p, 48),
            Material::Ed25519(x) => &[("x", x)],
        };
        let (kty, crv) = match self {
            Material::Rsa { .. } => ("RSA", None),
            Material::P256(_) => ("EC", Some("P-256")),
            Material::P384(_) => ("EC", Some("P-384")),
            Material::Ed25519(_) => ("OKP", Some("Ed25519")),
        };
        let words = [("kty", Some(kty)), ("crv", crv)];
        let words = words.into_iter().filter_map(|(n, v)| Some((n.to_owned(), v?.into())));
        let numbers = members.iter().map(|(n, v)| ((*n).to_owned(), to_base64url(v).into()));
        words.chain(numbers).collect()
    }

    /// The JWK thumbprint with SHA-256 (RFC 7638), base64url.
    pub(super) fn thumbprint(&self) -> String {
        // serde_json's map is sorted by name and its output has no white space, as §3.3 requires.
        let text = Value::Object(self.to_jwk()).to_string();
        to_base64url(digest::digest(&digest::SHA256, text.as_bytes()))
    }
}

fn coordinates(point: &[u8], len: usize) -> [(&'static str, &[u8]); 2] {
    let xy = point.get(1..).unwrap_or_default();
    let (x, y) = xy.split_at(len.min(xy.len()));
    [("x", x), ("y", y)]
}

/// RFC 7518 §6.2.1.2: coordinates have the full length of the field. Some libraries (Authlib) omit
/// leading zeros, which one key in 128 has. The number is the same, and so is the thumbprint, which
/// is computed from the full length.
fn point(x: &[u8], y: &[u8], len: usize) -> Result<Vec<u8>, &'static str> {
    let mut point = vec![4];
    for number in [x, y] {
        let zeros = len.checked_sub(number.len()).filter(|_| !number.is_empty());
        let zeros = zeros.ok_or("has coordinates of the wrong length")?;
        point.resize(point.len() + zeros, 0);
        point.extend_from_slice(number);
    }
    Ok(point)
}

fn is_point(bytes: &[u8], len: usize) -> bool {
    bytes.len() == 1 + 2 * len && bytes.first() == Some(&4)
}

fn without_zeros(number: &[u8]) -> Vec<u8> {
    number.iter().copied().skip_while(|b| *b == 0).collect()
}

fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), &'static str> {
    let leading = n.first().map_or(0, |b| b.leading_zeros() as usize);
    let bits = n.len() * 8 - leading;
    if bits < RSA_BITS_MIN {
        return Err("is an RSA key of less than 2048 bits");
    }
    if bits > RSA_BITS_MAX {
        return Err("is an RSA key of more than 8192 bits");
    }
    let odd = |number: &[u8]| number.last().is_some_and(|b| b & 1 == 1);
    if !odd(n) || !odd(e) || e == [1] || e.len() > 4 {
        return Err("has an impossible modulus or an unusable exponent");
    }
    if is_roca(n) {
        return Err("has the ROCA fingerprint (CVE-2017-15361): its private key can be computed");
    }
    Ok(())
}

/// Whether a modulus has the fingerprint of CVE-2017-15361 (ROCA): it is a power of 65537 modulo
/// every small prime (Nemec et al., "The Return of Coppersmith's Attack", §2.3). A modulus of
/// another generator passes all of these primes once in about 2^27 keys.
fn is_roca(n: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89,
        97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.iter().all(|p| {
        let residue = n.iter().fold(0, |r, b| (r * 256 + u32::from(*b)) % p);
        let powers = std::iter::successors(Some(1), |x| Some(x * 65537 % p));
        powers.take(*p as usize).any(|power| power == residue)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The product of the small primes, shifted, plus 65537: the form of a ROCA modulus.
    fn roca_modulus() -> Vec<u8> {
        let mut product = vec![1_u8];
        for prime in (3..168_u32).filter(|n| (2..*n).all(|d| n % d != 0)) {
            let mut carry = 0;
            for digit in product.iter_mut().rev() {
                let sum = u32::from(*digit) * prime + carry;
                *digit = sum as u8;
                carry = sum >> 8;
            }
            while carry > 0 {
                product.insert(0, carry as u8);
                carry >>= 8;
            }
        }
        product.resize(256, 0);
        product[253..].copy_from_slice(&[1, 0, 1]);
        product
    }

    #[test]
    fn the_roca_fingerprint_is_found_and_an_honest_key_has_none() {
        assert!(is_roca(&roca_modulus()));
        let mut other = roca_modulus();
        other[255] = 3;
        assert!(!is_roca(&other));
    }

    #[test]
    fn a_thumbprint_is_that_of_rfc_7638() {
        let jwk = br#"{"kty":"RSA","e":"AQAB","alg":"RS256","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}"#;
        let material = Material::from_jwk(&Json::parse(jwk).unwrap()).unwrap();
        assert_eq!(material.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
}
