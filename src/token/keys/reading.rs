//! Parses key files: JWK sets, and PEM files with public keys and certificates.
//!
//! One bad key never stops the others.

use x509_parser::prelude::{FromDer, X509Certificate};

use super::{FILE_BYTES_MAX, KEYS_MAX, KeyProblem, VerifyingKey, thumbprints};
use crate::encoding::decode;
use crate::pem::{self, PemFault, PemPart};
use crate::token::algorithm::Algorithm;
use crate::token::json::Json;
use crate::token::material::Material;
use crate::token::text::printable;

/// Collects keys and problems while the files of a key set are parsed.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) file: String,
    pub(super) keys: Vec<VerifyingKey>,
    pub(super) problems: Vec<KeyProblem>,
}

impl Reader {
    pub(super) fn read(&mut self, bytes: &[u8]) {
        let before = self.keys.len() + self.problems.len();
        if bytes.len() > FILE_BYTES_MAX {
            return self.problem(None, "is larger than 256 KiB");
        }
        let text = decode(bytes);
        match text.iter().find(|b| !b.is_ascii_whitespace()) {
            Some(b'{') => self.read_jwks(&text),
            _ => self.read_pem(&text),
        }
        if self.keys.len() + self.problems.len() == before {
            self.problem(
                None,
                "has neither a JWK set nor a public key or certificate in PEM or DER",
            );
        }
    }

    fn read_jwks(&mut self, bytes: &[u8]) {
        let set = match Json::parse(bytes) {
            Ok(set) => set,
            Err(fault) => return self.problem(None, fault.as_str()),
        };
        let Some(Json::List(list)) = set.member("keys") else {
            return self.problem(None, "is JSON without a list named keys");
        };
        if list.is_empty() {
            return self.problem(None, "has a list named keys without any key in it");
        }
        for (number, jwk) in list.iter().enumerate() {
            let kid = jwk.member("kid").and_then(Json::as_text).unwrap_or("none");
            let name = format!("key {} (kid '{}')", number + 1, printable(kid));
            match key_of_jwk(jwk, &self.file) {
                Ok(key) => self.add(name, key),
                Err(message) => self.problem(Some(name), message),
            }
        }
    }

    fn read_pem(&mut self, bytes: &[u8]) {
        let parts = match pem::parts(bytes) {
            Ok(parts) => parts,
            Err(PemFault::Malformed) => return self.problem(None, "is not well-formed PEM"),
            Err(PemFault::Cut | PemFault::CutLabel) => {
                return self.problem(None, "ends before its PEM does, so no key of it is used");
            }
        };
        for (number, part) in parts.iter().enumerate() {
            let name = format!("section {}", number + 1);
            let key = match part {
                PemPart::PublicKey(der) => self.key_of_spki(der),
                PemPart::Certificate(der) => self.key_of_certificate(der),
                PemPart::Key(_) | PemPart::EncryptedKey => {
                    Err("is a private key; only public keys are accepted")
                }
                PemPart::Broken => Err("is not well-formed PEM"),
                PemPart::Crl(_) | PemPart::Other => {
                    Err("is neither a public key nor a certificate")
                }
            };
            match key {
                Ok(key) => self.add(name, key),
                Err(message) => self.problem(Some(name), message),
            }
        }
    }

    fn key_of_spki(&self, der: &[u8]) -> Result<VerifyingKey, &'static str> {
        plain_key(Material::from_spki(der)?, &self.file)
    }

    fn key_of_certificate(&self, der: &[u8]) -> Result<VerifyingKey, &'static str> {
        let Ok(([], certificate)) = X509Certificate::from_der(der) else {
            return Err("is not a well-formed certificate");
        };
        let key = plain_key(Material::from_parsed_spki(certificate.public_key())?, &self.file)?;
        let (x5t, x5t_s256) = thumbprints(der);
        Ok(VerifyingKey { x5t: Some(x5t), x5t_s256: Some(x5t_s256), ..key })
    }

    /// Adds a key, unless an earlier one could be confused with it. The earlier one stays, so that
    /// an addition to a file never breaks a working key.
    fn add(&mut self, name: String, key: VerifyingKey) {
        if self.keys.len() == KEYS_MAX {
            self.problem(Some(name), "is one too many: 64 keys are the most");
        } else if self.keys.iter().any(|earlier| key.is_replaced_by(earlier)) {
            self.problem(
                Some(name),
                "has the kid, certificate or key of an earlier one, which is used",
            );
        } else {
            self.keys.push(key);
        }
    }

    fn problem(&mut self, key: Option<String>, message: &'static str) {
        self.problems.push(KeyProblem { file: self.file.clone(), key, message });
    }
}

fn plain_key(material: Material, file: &str) -> Result<VerifyingKey, &'static str> {
    let algorithm = material.default_algorithm();
    let verifier = material.verifier(algorithm)?;
    let file = file.to_owned();
    let (kid, x5t, x5t_s256, issuer) = (None, None, None, None);
    Ok(VerifyingKey { kid, x5t, x5t_s256, algorithm, issuer, file, material, verifier })
}

/// A key of a JWK set: RFC 7517 §4, and Entra's `issuer`.
fn key_of_jwk(jwk: &Json, file: &str) -> Result<VerifyingKey, &'static str> {
    let material = Material::from_jwk(jwk)?;
    if given(jwk, "use").is_some_and(|u| u.as_text() != Some("sig")) {
        return Err("has a use other than sig");
    }
    let verify = |op: &Json| op.as_text() == Some("verify");
    match given(jwk, "key_ops") {
        None => {}
        Some(Json::List(ops)) if ops.iter().any(verify) => {}
        Some(_) => return Err("has key_ops without verify"),
    }
    let algorithm = match optional_text(jwk, "alg")? {
        None => material.default_algorithm(),
        Some(name) => Algorithm::from_name(&name).ok_or("has an alg that is not supported")?,
    };
    let verifier = material.verifier(algorithm)?;
    Ok(VerifyingKey {
        kid: optional_text(jwk, "kid")?,
        x5t: optional_text(jwk, "x5t")?,
        x5t_s256: optional_text(jwk, "x5t#S256")?,
        issuer: optional_text(jwk, "issuer")?,
        algorithm,
        file: file.to_owned(),
        material,
        verifier,
    })
}

fn optional_text(jwk: &Json, name: &str) -> Result<Option<String>, &'static str> {
    match given(jwk, name) {
        None => Ok(None),
        Some(Json::Text(text)) if !text.is_empty() => Ok(Some(text.clone())),
        Some(_) => Err("has a kid, x5t, alg or issuer that is not a string"),
    }
}

/// A member that is present and not null: serializers write null for absent members.
fn given<'a>(jwk: &'a Json, name: &str) -> Option<&'a Json> {
    jwk.member(name).filter(|member| **member != Json::Null)
}
